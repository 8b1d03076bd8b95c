"""Every function of the public Python SDK, against a running OpenLeash (python_test.go).

The environment: URL, INVITE (a link), and OPENLEASH, the program, whose home is OPENLEASH_HOME.
What is not as it should be is an AssertionError, with what came.
"""

import asyncio
import base64
import importlib.metadata
import inspect
import os
import re
import subprocess
import uuid
from datetime import datetime, timezone

import httpx
import openleash
from cryptography.hazmat.primitives.serialization import load_der_private_key

URL = os.environ["URL"]


def cli(*args):
    """The owner's word; what the command prints."""
    return subprocess.run([os.environ["OPENLEASH"], *args], check=True, stdout=subprocess.PIPE, text=True).stdout


def action(agent, owner, action_type, **payload):
    return {
        "action_id": str(uuid.uuid4()),
        "action_type": action_type,
        "requested_at": datetime.now(timezone.utc).isoformat(),
        "principal": {"agent_id": agent},
        "subject": {"principal_id": owner},
        "relying_party": {"domain": "butik.example"},
        "payload": payload,
    }


async def refused(code, coroutine):
    """The SDK tells of a refusal by an exception with the body in it."""
    try:
        answer = await coroutine
    except RuntimeError as e:
        assert f'"{code}"' in str(e), f"want {code}, got {e}"
        return
    raise AssertionError(f"want {code}, got {answer}")


async def public_keys():
    async with httpx.AsyncClient() as client:
        return (await client.get(f"{URL}/v1/public-keys")).json()["keys"]


async def by_invite():
    """redeem_agent_invite, get_agent_self: who it is, and how to sign as it."""
    new = await openleash.redeem_agent_invite(
        invite_url=os.environ["INVITE"], agent_id="invited", webhook_url="", webhook_secret="", webhook_auth_token=""
    )
    for field in ("agent_principal_id", "owner_type", "owner_id", "openleash_url", "auth", "endpoints", "sdks"):
        assert new[field], f"redeem_agent_invite: no {field} in {new}"
    assert new["status"] == "ACTIVE" and new["openleash_url"] == URL, new
    who = {"openleash_url": URL, "agent_id": "invited", "private_key_b64": new["private_key_b64"]}
    me = await openleash.get_agent_self(**who)
    for field in ("agent_principal_id", "agent_id", "owner_type", "owner_id", "status", "created_at"):
        assert me[field] == new[field], f"get_agent_self: {field} is {me[field]}, want {new[field]}"
    assert me["attributes"] == {} and me["webhook_url"] is None, me
    return who, me["owner_id"], me["agent_principal_id"]


async def allowed(who, owner):
    """authorize: ALLOW, with a proof that verifies online and offline."""
    buy = action(who["agent_id"], owner, "purchase", amount_minor=4000, currency="SEK")
    answer = await openleash.authorize(**who, action=buy)
    assert answer["result"] == answer["decision"] == "ALLOW", answer
    assert answer["matched_rule_id"] == "small" and answer["proof_token"] and answer["proof_expires_at"], answer
    token, hash = answer["proof_token"], answer["action_hash"]

    online = await openleash.verify_proof_online(openleash_url=URL, token=token, expected_action_hash=hash, expected_agent_id=who["agent_id"])
    assert online["valid"] and online["claims"]["action_id"] == buy["action_id"], online
    other = await openleash.verify_proof_online(openleash_url=URL, token=token, expected_action_hash="0" * 63 + "1")
    assert not other["valid"] and other["reason"] == "action_hash mismatch", other

    keys = await public_keys()
    offline = openleash.verify_proof_offline(token=token, public_keys=keys)
    assert offline["valid"] and offline["claims"] == online["claims"], (offline, online)
    changed = token[:40] + ("A" if token[40] != "A" else "B") + token[41:]
    assert not openleash.verify_proof_offline(token=changed, public_keys=keys)["valid"]
    strange = [{"kid": "x", "public_key_b64": openleash.generate_ed25519_keypair()["public_key_b64"]}]
    assert not openleash.verify_proof_offline(token=token, public_keys=strange)["valid"]

    again = await openleash.authorize(**who, action=buy)
    assert again["proof_token"] == token, "the same action again has another proof"


async def denied(who, owner):
    answer = await openleash.authorize(**who, action=action(who["agent_id"], owner, "transfer", amount_minor=1))
    assert answer["result"] == "DENY" and answer["proof_token"] is None and answer["obligations"] == [], answer


async def asked(who, owner):
    """create_approval_request, after a decision that asked for one."""
    buy = action(who["agent_id"], owner, "purchase", amount_minor=900000, currency="SEK", note="Grüße, 東京")
    answer = await openleash.authorize(**who, action=buy)
    assert answer["result"] == "REQUIRE_APPROVAL" and answer["obligations"][0]["type"] == "HUMAN_APPROVAL", answer
    request = await openleash.create_approval_request(
        **who, decision_id=answer["decision_id"], action=buy, justification="The laptop is broken.", context={"ticket": 7}
    )
    assert request["status"] == "PENDING" and request["expires_at"], request
    id = request["approval_request_id"]
    now = await openleash.get_approval_request(**who, approval_request_id=id)
    assert now["status"] == "PENDING" and now["justification"] == "The laptop is broken." and "approval_token" not in now, now
    return buy, id


async def approved(who, owner):
    """poll_approval_request, and authorize with the token: once."""
    buy, id = await asked(who, owner)
    try:
        await openleash.poll_approval_request(**who, approval_request_id=id, interval_seconds=0.05, timeout_seconds=0.1)
        raise AssertionError("a request that waits was resolved")
    except TimeoutError:
        pass
    cli("approvals", "approve", id)
    answer = await openleash.poll_approval_request(**who, approval_request_id=id, interval_seconds=0.05, timeout_seconds=30)
    assert answer["status"] == "APPROVED" and answer["approval_token_expires_at"], answer
    token = answer["approval_token"]
    keys = await public_keys()
    assert not openleash.verify_proof_offline(token=token, public_keys=keys)["valid"], "an approval token passes for a proof"
    assert not (await openleash.verify_proof_online(openleash_url=URL, token=token))["valid"]

    with_token = {**buy, "approval_token": token}
    redeemed = await openleash.authorize(**who, action=with_token)
    assert redeemed["result"] == "ALLOW" and redeemed["proof_token"], redeemed
    offline = openleash.verify_proof_offline(token=redeemed["proof_token"], public_keys=keys)
    assert offline["valid"] and offline["claims"]["approval"]["id"] == id, offline
    await refused("APPROVAL_TOKEN_CONSUMED", openleash.authorize(**who, action=with_token))


async def turned_down(who, owner):
    _, id = await asked(who, owner)
    cli("approvals", "deny", id, "--reason", "not this month")
    answer = await openleash.poll_approval_request(**who, approval_request_id=id, interval_seconds=0.05, timeout_seconds=30)
    assert answer["status"] == "DENIED" and answer["denial_reason"] == "not this month" and "approval_token" not in answer, answer


RENT = "version: 1\ndefault: passthrough\nrules:\n  - {id: rent, effect: allow, action: rent}\n"


def answer_draft(word, id, *more):
    """By the very command that `show` tells, with the hashes of what it has shown."""
    command = re.search(rf"openleash (policy drafts {word} {id} --hash \S+( --set \S+)?)", cli("policy", "drafts", "show", id))
    cli(*command.group(1).split(), *more)


async def drafts(who, owner, principal):
    """create_policy_draft, get_policy_draft, list_policy_drafts."""
    own = await openleash.create_policy_draft(**who, policy_yaml=RENT, justification="The rent is due.")
    every = await openleash.create_policy_draft(**who, policy_yaml=RENT, applies_to_agent_principal_id=None)
    for draft in (own, every):
        assert draft["status"] == "PENDING" and draft["created_at"], draft
    shown = await openleash.get_policy_draft(**who, policy_draft_id=own["policy_draft_id"])
    assert shown["policy_yaml"] == RENT and shown["justification"] == "The rent is due.", shown
    assert shown["applies_to_agent_principal_id"] == principal and shown["resulting_policy_id"] is None, shown
    shown = await openleash.get_policy_draft(**who, policy_draft_id=every["policy_draft_id"])
    assert shown["applies_to_agent_principal_id"] is None, shown
    listed = await openleash.list_policy_drafts(**who)
    assert len(listed["policy_drafts"]) == 2, listed

    answer_draft("deny", every["policy_draft_id"], "--reason", "for you alone")
    answer_draft("approve", own["policy_draft_id"])
    denied = await openleash.list_policy_drafts(**who, status="DENIED")  # the query is in what it signs
    assert [d["denial_reason"] for d in denied["policy_drafts"]] == ["for you alone"], denied
    shown = await openleash.get_policy_draft(**who, policy_draft_id=own["policy_draft_id"])
    assert shown["status"] == "APPROVED" and shown["resulting_policy_id"] and shown["resolved_at"], shown
    for _ in range(300):  # until the server has read it
        rent = action(who["agent_id"], owner, "rent")
        answer = await openleash.authorize(**who, action={**rent, "dry_run": True})
        if answer["result"] == "ALLOW":
            break
        await asyncio.sleep(0.1)
    answer = await openleash.authorize(**who, action=rent)
    assert answer["result"] == "ALLOW" and answer["policy_id"] == shown["resulting_policy_id"], (answer, shown)


async def by_challenge(owner):
    """registration_challenge, register_agent: PENDING until the owner confirms."""
    pair = openleash.generate_ed25519_keypair()
    named = {"openleash_url": URL, "agent_id": "registered", "agent_pubkey_b64": pair["public_key_b64"]}
    takes = inspect.signature(openleash.register_agent).parameters
    of = {"owner_type": "user", "owner_id": owner} if "owner_id" in takes else {"owner_principal_id": owner}
    challenge = await openleash.registration_challenge(**named, **of)
    assert challenge["expires_at"], challenge
    key = load_der_private_key(base64.b64decode(pair["private_key_b64"]), password=None)
    signature = base64.b64encode(key.sign(base64.b64decode(challenge["challenge_b64"]))).decode()
    new = await openleash.register_agent(
        **named, **of, challenge_id=challenge["challenge_id"], signature_b64=signature,
        webhook_url="https://agent.example/hook", webhook_secret="s3cret-of-the-hook", webhook_auth_token="bearer-of-the-hook",
    )
    assert new["status"] == "PENDING" and new["owner_id"] == owner, new

    who = {"openleash_url": URL, "agent_id": "registered", "private_key_b64": pair["private_key_b64"]}
    await refused("AGENT_INACTIVE", openleash.get_agent_self(**who))
    cli("agents", "confirm", "registered")
    me = await openleash.get_agent_self(**who)
    assert me["status"] == "ACTIVE" and me["webhook_url"] == "https://agent.example/hook", me
    await denied(who, owner)


async def by_hand(who):
    """sign_request, for a request of one's own."""
    path = "/v1/agent/self"
    now = datetime.now(timezone.utc).isoformat()
    signed = openleash.sign_request(
        method="GET", path=path, timestamp=now, nonce=str(uuid.uuid4()), body_bytes=b"", private_key_b64=who["private_key_b64"]
    )
    async with httpx.AsyncClient() as client:
        answers = [await client.get(URL + path, headers={"X-Agent-Id": who["agent_id"], **signed}) for _ in range(2)]
    assert answers[0].status_code == 200, answers[0].text
    assert answers[1].status_code == 401 and "NONCE_REPLAY" in answers[1].text, answers[1].text


async def main():
    print(importlib.metadata.version("openleash-sdk"))
    who, owner, principal = await by_invite()
    await allowed(who, owner)
    await denied(who, owner)
    await approved(who, owner)
    await turned_down(who, owner)
    await drafts(who, owner, principal)
    await by_challenge(owner)
    await by_hand(who)


asyncio.run(main())
