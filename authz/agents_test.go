package authz_test

import (
	"bytes"
	"testing"

	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/owners"
	"github.com/openleash/openleash-go/policy"
)

// A session that is older than its agent's revocation does nothing any more, also when
// another has taken the name.
func TestRevokedInTheMiddle(t *testing.T) {
	r := newRoom(t, allowSmall)
	if ans := r.call(t, "buy", `{"n":1}`); ans.Outcome != policy.Allow {
		t.Fatalf("%+v", ans)
	}
	if err := r.RevokeAgent(t.Context(), "cli:ann", r.who.Agent); err != nil {
		t.Fatal(err)
	}
	refused := func(when string) {
		t.Helper()
		if ans := r.call(t, "buy", `{"n":1}`); ans.Outcome != policy.Deny || ans.Code != authz.AgentRevoked {
			t.Errorf("%s: %s %s", when, ans.Outcome, ans.Code)
		}
	}
	refused("revoked")
	i, token, err := r.Invite(t.Context(), "cli:ann", r.Owner(), "bot")
	if err != nil {
		t.Fatal(err)
	}
	next, err := r.RegisterInvited(t.Context(), identity.Agent{Name: "bot", Key: bytes.Repeat([]byte{7}, 32)}, i.ID, token)
	if err != nil {
		t.Fatal(err)
	}
	refused("another has the name")
	r.who.Agent = next
	if ans := r.call(t, "buy", `{"n":1}`); ans.Outcome != policy.Allow {
		t.Errorf("who has the name now: %s %s", ans.Outcome, ans.Code)
	}
	entries := r.entries(t)
	for _, event := range []string{"agent.revoked", "agent.invited", "agent.registered"} {
		found := false
		for _, e := range entries {
			found = found || e.Event == event
		}
		if !found {
			t.Errorf("no entry of %s", event)
		}
	}
}

// An approval after its owner's access was reset says so in the log; a denial need not.
func TestApprovalAfterAReset(t *testing.T) {
	r := newRoom(t, askForAll)
	held := func(n string) authz.Answer { return r.call(t, "buy", `{"n":`+n+`}`) }
	before, after, denied, given := held("1"), held("2000"), held("400000"), held("90000000")
	if _, err := r.Answer(t.Context(), "portal:ann", before.Approval.ID, true, ""); err != nil {
		t.Fatal(err)
	}
	reset := identity.Reset{OwnerID: r.Owner().ID, By: "cli:root", At: r.now}
	if err := r.store.Change(t.Context(), owners.Change{Reset: &reset}); err != nil {
		t.Fatal(err)
	}
	for id, yes := range map[string]bool{after.Approval.ID: true, denied.Approval.ID: false} {
		if _, err := r.Answer(t.Context(), "portal:ann", id, yes, ""); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Give(t.Context(), "portal:ann", given.Approval.ID, given.ActionHash, approvals.Terms{Uses: 2}); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		before.Approval.ID: "", denied.Approval.ID: "",
		after.Approval.ID: "after cli:root has reset the owner's access, 2026-11-22T12:00:00.000Z",
		given.Approval.ID: "after cli:root has reset the owner's access, 2026-11-22T12:00:00.000Z",
	}
	for _, e := range r.entries(t) {
		if (e.Event == "approval.approved" || e.Event == "approval.denied") && e.Detail != want[e.ApprovalID] {
			t.Errorf("%s of %s: %q, want %q", e.Event, e.ApprovalID, e.Detail, want[e.ApprovalID])
		}
	}
}
