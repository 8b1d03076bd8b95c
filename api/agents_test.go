package api

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/proof"
)

// signer is an agent that is registered by an invite.
type signer struct {
	t     *testing.T
	h     http.Handler
	name  string
	owner string
	key   ed25519.PrivateKey
}

func newSigner(t *testing.T, c Config, h http.Handler, name string) *signer {
	t.Helper()
	_, key, _ := ed25519.GenerateKey(nil)
	s := &signer{t, h, name, c.Service.Owner().ID, key}
	w := s.redeem(c)
	if w.Code != 200 {
		t.Fatalf("registering %s: %d %s", name, w.Code, w.Body)
	}
	return s
}

func (s *signer) spki() string {
	return proof.PublicKey{Key: s.key.Public().(ed25519.PublicKey)}.SPKI()
}

// redeem registers with a fresh invite.
func (s *signer) redeem(c Config) *httptest.ResponseRecorder {
	i, token, err := c.Service.Invite(s.t.Context(), "cli:ann", c.Service.Owner(), "")
	if err != nil {
		s.t.Fatal(err)
	}
	return ask(s.h, "POST", "/v1/agents/register-with-invite", jsonOf(map[string]any{
		"invite_id": i.ID, "invite_token": token, "agent_id": s.name, "agent_pubkey_b64": s.spki(),
		"webhook_url": "https://agent.example/hook", "webhook_secret": "hush-hook", "webhook_auth_token": "hush-token",
	}))
}

func jsonOf(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// request is a signed request.
func (s *signer) request(method, target, body string) *http.Request {
	path, _, _ := strings.Cut(target, "?")
	return s.signedAs(method, target, path, body, uuid.NewString(), now)
}

func (s *signer) signedAs(method, target, path, body, nonce string, at time.Time) *http.Request {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	hashed := body
	if method == "GET" {
		hashed = "{}" // as the public SDKs do
	}
	sum := sha256.Sum256([]byte(hashed))
	sumHex := hex.EncodeToString(sum[:])
	text := strings.Join([]string{method, path, timestamp(at), nonce, sumHex}, "\n")
	for name, value := range map[string]string{
		"Content-Type": "application/json", "X-Agent-Id": s.name, "X-Timestamp": timestamp(at), "X-Nonce": nonce,
		"X-Body-Sha256": sumHex, "X-Signature": base64.StdEncoding.EncodeToString(ed25519.Sign(s.key, []byte(text))),
	} {
		r.Header.Set(name, value)
	}
	return r
}

func (s *signer) do(method, target, body string) *httptest.ResponseRecorder {
	return serve(s.h, s.request(method, target, body))
}

func serve(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// purchase is an action of the signer's, as the members of a body.
func (s *signer) purchase(amount int) map[string]any {
	return map[string]any{
		"action_id": uuid.NewString(), "action_type": "purchase", "requested_at": timestamp(now),
		"principal": map[string]any{"agent_id": s.name}, "subject": map[string]any{"principal_id": s.owner},
		"relying_party": map[string]any{"domain": "shop.example"}, "payload": map[string]any{"amount_minor": amount, "currency": "SEK"},
	}
}

// want reads an answer of that status.
func want(t *testing.T, w *httptest.ResponseRecorder, status int) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	if w.Code != status {
		t.Fatalf("want %d, got %d %s", status, w.Code, w.Body)
	}
	return v
}

// refused sees that an answer is a refusal with that code.
func refused(t *testing.T, w *httptest.ResponseRecorder, status int, code string) {
	t.Helper()
	if got := want(t, w, status)["error"].(map[string]any)["code"]; got != code {
		t.Errorf("want %s, got %s: %s", code, got, w.Body)
	}
}

func TestAuthorize(t *testing.T) {
	c := config(t)
	h := newAPI(t, c)
	bot := newSigner(t, c, h, "bot")
	small := bot.purchase(400)
	a := want(t, bot.do("POST", "/v1/authorize", jsonOf(small)), 200)
	if a["result"] != "ALLOW" || a["decision"] != "ALLOW" || a["matched_rule_id"] != "small" {
		t.Fatalf("%v", a)
	}
	parsed, err := action.ParseRequest([]byte(jsonOf(small)))
	if err != nil {
		t.Fatal(err)
	}
	claims, err := proof.Verify(a["proof_token"].(string), proof.Expect{Keys: []proof.PublicKey{c.Key.Public()}, Now: now, Audience: "shop.example", ActionHash: parsed.Hash(), AgentID: "bot"})
	if err != nil || claims.DecisionID != a["decision_id"] || claims.OwnerID != bot.owner {
		t.Errorf("%+v, %v", claims, err)
	}
	// The same action again: the same answer, the same proof.
	again := want(t, bot.do("POST", "/v1/authorize", jsonOf(small)), 200)
	if again["proof_token"] != a["proof_token"] || again["decision_id"] != a["decision_id"] || again["repeated"] != true {
		t.Errorf("want the same answer, got %v", again)
	}
	// The same id, another action.
	other := bot.purchase(300)
	other["action_id"] = small["action_id"]
	refused(t, bot.do("POST", "/v1/authorize", jsonOf(other)), 409, "ACTION_ID_REUSED")

	denied := bot.purchase(1)
	denied["action_type"] = "fly"
	if d := want(t, bot.do("POST", "/v1/authorize", jsonOf(denied)), 200); d["result"] != "DENY" || d["proof_token"] != nil {
		t.Errorf("%v", d)
	}
	dry := bot.purchase(400)
	dry["dry_run"], dry["trace"] = true, true
	d := want(t, bot.do("POST", "/v1/authorize", jsonOf(dry)), 200)
	if d["result"] != "ALLOW" || d["proof_token"] != nil || d["decision_id"] != nil || len(d["debug"].(map[string]any)["trace"].([]any)) != 3 {
		t.Errorf("%v", d)
	}
}

func TestAskOwner(t *testing.T) {
	c := config(t)
	h := newAPI(t, c)
	bot, mole := newSigner(t, c, h, "bot"), newSigner(t, c, h, "mole")
	large := bot.purchase(9000)
	a := want(t, bot.do("POST", "/v1/authorize", jsonOf(large)), 200)
	if a["result"] != "REQUIRE_APPROVAL" {
		t.Fatalf("%v", a)
	}
	asking := func(decision any, act map[string]any) string {
		return jsonOf(map[string]any{"decision_id": decision, "action": act, "justification": "the printer is broken", "context": map[string]any{"ticket": 7}})
	}
	refused(t, bot.do("POST", "/v1/agent/approval-requests", asking("made up", large)), 404, "UNKNOWN_DECISION")
	refused(t, mole.do("POST", "/v1/agent/approval-requests", asking(a["decision_id"], large)), 400, "AGENT_MISMATCH")
	request := want(t, bot.do("POST", "/v1/agent/approval-requests", asking(a["decision_id"], large)), 200)
	if again := want(t, bot.do("POST", "/v1/agent/approval-requests", asking(a["decision_id"], large)), 200); again["approval_request_id"] != request["approval_request_id"] {
		t.Errorf("asked again for the same, got another request: %v", again)
	}
	id := request["approval_request_id"].(string)
	at := "/v1/agent/approval-requests/" + id
	if w := bot.do("GET", at, ""); want(t, w, 200)["status"] != "PENDING" || strings.Contains(w.Body.String(), "approval_token") {
		t.Errorf("%s", w.Body)
	}
	refused(t, mole.do("GET", at, ""), 404, "NOT_FOUND")
	if _, err := c.Service.Answer(t.Context(), "portal:ann", id, true, ""); err != nil {
		t.Fatal(err)
	}
	approved := want(t, bot.do("GET", at, ""), 200)
	if without := want(t, bot.do("POST", "/v1/authorize", jsonOf(large)), 200); without["result"] != "REQUIRE_APPROVAL" {
		t.Errorf("without its token an approval was redeemed: %v", without)
	}
	large["approval_token"] = approved["approval_token"]
	allowed := want(t, bot.do("POST", "/v1/authorize", jsonOf(large)), 200)
	if allowed["result"] != "ALLOW" || allowed["approval_request_id"] != id {
		t.Fatalf("%v", allowed)
	}
	claims, err := proof.Verify(allowed["proof_token"].(string), proof.Expect{Keys: []proof.PublicKey{c.Key.Public()}, Now: now, AnyAudience: true})
	if err != nil || claims.Approval == nil || claims.Approval.By != "portal:ann" {
		t.Errorf("%+v, %v", claims, err)
	}
	refused(t, bot.do("POST", "/v1/authorize", jsonOf(large)), 400, "APPROVAL_TOKEN_CONSUMED")
	delete(large, "approval_token")
	if d := want(t, bot.do("POST", "/v1/authorize", jsonOf(large)), 200); d["result"] != "REQUIRE_APPROVAL" {
		t.Errorf("a redemption was given again: %v", d)
	}
}

// What was denied is denied for a while, whatever id it comes with.
func TestDeniedStaysDenied(t *testing.T) {
	c := config(t)
	h := newAPI(t, c)
	bot := newSigner(t, c, h, "bot")
	large := bot.purchase(9000)
	a := want(t, bot.do("POST", "/v1/authorize", jsonOf(large)), 200)
	request := want(t, bot.do("POST", "/v1/agent/approval-requests", jsonOf(map[string]any{"decision_id": a["decision_id"], "action": large})), 200)
	if _, err := c.Service.Answer(t.Context(), "portal:ann", request["approval_request_id"].(string), false, "too dear"); err != nil {
		t.Fatal(err)
	}
	for _, act := range []map[string]any{large, bot.purchase(9000)} {
		d := want(t, bot.do("POST", "/v1/authorize", jsonOf(act)), 200)
		if d["result"] != "DENY" || d["code"] != "APPROVAL_DENIED" || !strings.Contains(d["reason"].(string), "too dear") {
			t.Errorf("%v", d)
		}
	}
	if d := want(t, bot.do("POST", "/v1/authorize", jsonOf(bot.purchase(9001))), 200); d["result"] != "REQUIRE_APPROVAL" {
		t.Errorf("another purchase: %v", d)
	}
}

// A pending agent can do nothing; a revoked one neither, and its name is free.
func TestRegister(t *testing.T) {
	c := config(t)
	h := newAPI(t, c)
	_, key, _ := ed25519.GenerateKey(nil)
	bot := &signer{t, h, "bot", c.Service.Owner().ID, key}
	challenge := func(name string) map[string]any {
		return want(t, ask(h, "POST", "/v1/agents/registration-challenge", jsonOf(map[string]any{"agent_id": name, "agent_pubkey_b64": bot.spki(), "owner_type": nil, "owner_id": nil})), 200)
	}
	ch := challenge("bot")
	random, err := base64.StdEncoding.DecodeString(ch["challenge_b64"].(string))
	if err != nil {
		t.Fatal(err)
	}
	answer := func(name string, signed []byte) *httptest.ResponseRecorder {
		return ask(h, "POST", "/v1/agents/register", jsonOf(map[string]any{
			"challenge_id": ch["challenge_id"], "agent_id": name, "agent_pubkey_b64": bot.spki(), "signature_b64": base64.StdEncoding.EncodeToString(signed),
			"owner_type": "user", "owner_id": bot.owner,
		}))
	}
	refused(t, answer("bot", ed25519.Sign(key, []byte("something else"))), 401, "INVALID_SIGNATURE")
	refused(t, answer("boss", ed25519.Sign(key, random)), 400, "CHALLENGE_MISMATCH")
	if a := want(t, answer("bot", ed25519.Sign(key, random)), 200); a["status"] != "PENDING" {
		t.Errorf("%v", a)
	}
	refused(t, answer("bot", ed25519.Sign(key, random)), 400, "CHALLENGE_NOT_FOUND")
	refused(t, bot.do("GET", "/v1/agent/self", ""), 401, "AGENT_INACTIVE")
	refused(t, bot.redeem(c), 409, "AGENT_ID_TAKEN")

	pending, err := c.Service.Agents().AgentByName(t.Context(), "bot")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Service.ConfirmAgent(t.Context(), "cli:ann", pending); err != nil {
		t.Fatal(err)
	}
	if self := want(t, bot.do("GET", "/v1/agent/self", ""), 200); self["status"] != "ACTIVE" || self["owner_id"] != bot.owner {
		t.Errorf("%v", self)
	}
	if err := c.Service.RevokeAgent(t.Context(), "cli:ann", pending); err != nil {
		t.Fatal(err)
	}
	refused(t, bot.do("GET", "/v1/agent/self", ""), 401, "AGENT_INACTIVE")
	if w := bot.redeem(c); w.Code != 200 {
		t.Errorf("the name of a revoked agent: %d %s", w.Code, w.Body)
	}
}

// Revocation voids what the name was given: who has it next has nothing of it.
func TestRevocationVoids(t *testing.T) {
	c := config(t)
	h := newAPI(t, c)
	bot := newSigner(t, c, h, "bot")
	large := bot.purchase(9000)
	a := want(t, bot.do("POST", "/v1/authorize", jsonOf(large)), 200)
	request := want(t, bot.do("POST", "/v1/agent/approval-requests", jsonOf(map[string]any{"decision_id": a["decision_id"], "action": large})), 200)
	id := request["approval_request_id"].(string)
	if _, err := c.Service.Answer(t.Context(), "portal:ann", id, true, ""); err != nil {
		t.Fatal(err)
	}
	token := want(t, bot.do("GET", "/v1/agent/approval-requests/"+id, ""), 200)["approval_token"]
	agent, err := c.Service.Agents().AgentByName(t.Context(), "bot")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Service.RevokeAgent(t.Context(), "cli:ann", agent); err != nil {
		t.Fatal(err)
	}
	if w := bot.redeem(c); w.Code != 200 { // the same name and key
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	large["approval_token"] = token
	refused(t, bot.do("POST", "/v1/authorize", jsonOf(large)), 400, "INVALID_APPROVAL_STATUS")
	if r, err := c.Service.Approvals().Approval(t.Context(), id); err != nil || r.Status != approvals.Denied {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestSignature(t *testing.T) {
	c := config(t)
	h := newAPI(t, c)
	bot := newSigner(t, c, h, "bot")
	body := jsonOf(bot.purchase(400))
	sign := func(change func(*http.Request)) *httptest.ResponseRecorder {
		r := bot.request("POST", "/v1/authorize", body)
		change(r)
		return serve(h, r)
	}
	for _, tt := range []struct {
		name   string
		change func(*http.Request)
		code   string
	}{
		{"no agent", func(r *http.Request) { r.Header.Del("X-Agent-Id") }, "MISSING_HEADERS"},
		{"two nonces", func(r *http.Request) { r.Header.Add("X-Nonce", "b") }, "MISSING_HEADERS"},
		{"an empty nonce", func(r *http.Request) { r.Header.Set("X-Nonce", "") }, "MISSING_HEADERS"},
		{"a long nonce", func(r *http.Request) { r.Header.Set("X-Nonce", strings.Repeat("n", 257)) }, "MISSING_HEADERS"},
		{"no date", func(r *http.Request) { r.Header.Set("X-Timestamp", "NaN") }, "TIMESTAMP_SKEW"},
		{"an empty date", func(r *http.Request) { r.Header.Set("X-Timestamp", "tomorrow") }, "TIMESTAMP_SKEW"},
		{"an upper-case sum", func(r *http.Request) { r.Header.Set("X-Body-Sha256", strings.ToUpper(r.Header.Get("X-Body-Sha256"))) }, "BODY_HASH_MISMATCH"},
		{"nobody", func(r *http.Request) { r.Header.Set("X-Agent-Id", "nobody") }, "AGENT_NOT_FOUND"},
		{"another method", func(r *http.Request) { r.Header.Set("X-Nonce", "another") }, "INVALID_SIGNATURE"},
		{"not base64", func(r *http.Request) { r.Header.Set("X-Signature", "%") }, "INVALID_SIGNATURE"},
	} {
		t.Run(tt.name, func(t *testing.T) { refused(t, sign(tt.change), 401, tt.code) })
	}
	for _, at := range []time.Time{now.Add(-skew - time.Second), now.Add(skew + time.Second)} {
		refused(t, serve(h, bot.signedAs("POST", "/v1/authorize", "/v1/authorize", body, "n", at)), 401, "TIMESTAMP_SKEW")
	}
	// Nothing was kept of all these: the nonce is fresh.
	want(t, serve(h, bot.signedAs("POST", "/v1/authorize", "/v1/authorize", body, "n", now)), 200)
	refused(t, serve(h, bot.signedAs("POST", "/v1/authorize", "/v1/authorize", body, "n", now)), 401, "NONCE_REPLAY")
	refused(t, serve(h, bot.signedAs("GET", "/v1/agent/self", "/v1/agent/self", "", "n", now)), 401, "NONCE_REPLAY")
	// The path with its query, and without.
	for _, path := range []string{"/v1/agent/self", "/v1/agent/self?a=b"} {
		want(t, serve(h, bot.signedAs("GET", "/v1/agent/self?a=b", path, "", uuid.NewString(), now)), 200)
	}
	refused(t, serve(h, bot.signedAs("GET", "/v1/agent/self?a=b", "/v1/agent/self?a=c", "", uuid.NewString(), now)), 401, "INVALID_SIGNATURE")
	// A request that is refused for what it says has spent its nonce too.
	bad := bot.purchase(1)
	bad["principal"] = map[string]any{"agent_id": "boss"}
	refused(t, serve(h, bot.signedAs("POST", "/v1/authorize", "/v1/authorize", jsonOf(bad), "m", now)), 400, "AGENT_MISMATCH")
	refused(t, serve(h, bot.signedAs("POST", "/v1/authorize", "/v1/authorize", body, "m", now)), 401, "NONCE_REPLAY")
	bad = bot.purchase(1)
	bad["subject"] = map[string]any{"principal_id": uuid.NewString()}
	refused(t, bot.do("POST", "/v1/authorize", jsonOf(bad)), 400, "SUBJECT_MISMATCH")
	refused(t, bot.do("POST", "/v1/authorize", `{"action_id":"x"}`), 400, "INVALID_ACTION_REQUEST")
	refused(t, bot.do("POST", "/v1/authorize", ""), 400, "MISSING_BODY")
	refused(t, bot.do("POST", "/v1/authorize", `{"action_id":1,"action_id":2}`), 400, "INVALID_JSON")
}

// Who asks in another's name is recorded.
func TestMismatchesAreRecorded(t *testing.T) {
	c := config(t)
	var codes []string
	c.Refused = func(a authz.Access) error { codes = append(codes, a.Code); return nil }
	h := newAPI(t, c)
	bot := newSigner(t, c, h, "bot")
	for code, change := range map[string]func(map[string]any){
		"AGENT_MISMATCH":         func(a map[string]any) { a["principal"] = map[string]any{"agent_id": "boss"} },
		"SUBJECT_MISMATCH":       func(a map[string]any) { a["subject"] = map[string]any{"principal_id": uuid.NewString()} },
		"INVALID_APPROVAL_TOKEN": func(a map[string]any) { a["approval_token"] = "v4.public.x" },
	} {
		a := bot.purchase(1)
		change(a)
		if w := bot.do("POST", "/v1/authorize", jsonOf(a)); w.Code < 400 || !slices.Contains(codes, code) {
			t.Errorf("%s: %d %s, recorded %v", code, w.Code, w.Body, codes)
		}
	}
}

func TestOutcomes(t *testing.T) {
	c := config(t)
	h := newAPI(t, c)
	bot, mole := newSigner(t, c, h, "bot"), newSigner(t, c, h, "mole")
	a := want(t, bot.do("POST", "/v1/authorize", jsonOf(bot.purchase(400))), 200)
	report := func(s *signer, decision any, status string) *httptest.ResponseRecorder {
		return s.do("POST", "/v1/agent/outcomes", jsonOf(map[string]any{"decision_id": decision, "status": status}))
	}
	refused(t, report(mole, a["decision_id"], "ok"), 404, "UNKNOWN_DECISION")
	refused(t, report(bot, "made up", "ok"), 404, "UNKNOWN_DECISION")
	refused(t, report(bot, a["decision_id"], "fine"), 400, "VALIDATION_ERROR")
	want(t, report(bot, a["decision_id"], "error"), 200)
	refused(t, report(bot, a["decision_id"], "ok"), 409, "ALREADY_REPORTED")
	large := want(t, bot.do("POST", "/v1/authorize", jsonOf(bot.purchase(9000))), 200)
	refused(t, report(bot, large["decision_id"], "ok"), 404, "UNKNOWN_DECISION")
}

func TestInvites(t *testing.T) {
	c := config(t)
	h := newAPI(t, c)
	_, key, _ := ed25519.GenerateKey(nil)
	bot := &signer{t, h, "bot", c.Service.Owner().ID, key}
	redeem := func(id, token, name string) *httptest.ResponseRecorder {
		return ask(h, "POST", "/v1/agents/register-with-invite?invite_id="+id+"&invite_token="+token, jsonOf(map[string]any{"agent_id": name, "agent_pubkey_b64": bot.spki()}))
	}
	i, token, err := c.Service.Invite(t.Context(), "cli:ann", c.Service.Owner(), "bot")
	if err != nil {
		t.Fatal(err)
	}
	refused(t, redeem(uuid.NewString(), token, "bot"), 404, "INVITE_NOT_FOUND")
	refused(t, redeem(i.ID, "guess", "bot"), 401, "INVALID_INVITE_TOKEN")
	refused(t, redeem(i.ID, token, "boss"), 400, "INVALID_REQUEST")
	want(t, redeem(i.ID, token, "bot"), 200)
	refused(t, redeem(i.ID, token, "bot"), 400, "INVITE_USED")
	// A key for which anybody can sign.
	weak := base64.StdEncoding.EncodeToString(append([]byte{0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00}, make([]byte, 32)...))
	refused(t, ask(h, "POST", "/v1/agents/registration-challenge", jsonOf(map[string]any{"agent_id": "x", "agent_pubkey_b64": weak})), 400, "INVALID_KEY")
	if got := fmt.Sprint(identity.InviteFor); got != "24h0m0s" {
		t.Errorf("an invite is good for %s", got)
	}
}

// The public SDKs before 0.3 send the owner by another name.
func TestOwnerByItsOlderName(t *testing.T) {
	c := config(t)
	h := newAPI(t, c)
	bot := &signer{t, h, "bot", c.Service.Owner().ID, ed25519.NewKeyFromSeed(make([]byte, 32))}
	challenge := func(owner, older any) *httptest.ResponseRecorder {
		return ask(h, "POST", "/v1/agents/registration-challenge", jsonOf(map[string]any{
			"agent_id": "bot", "agent_pubkey_b64": bot.spki(), "owner_id": owner, "owner_principal_id": older,
		}))
	}
	want(t, challenge(nil, bot.owner), 200)
	refused(t, challenge(nil, uuid.NewString()), 400, "INVALID_REQUEST")
	refused(t, challenge(bot.owner, bot.owner), 400, "INVALID_REQUEST") // one of them is enough
}

// A standing grant is good for signed requests too: the same purchase, each with an id of
// its own, so often as the owner has said.
func TestStandingGrant(t *testing.T) {
	c := config(t)
	h := newAPI(t, c)
	bot := newSigner(t, c, h, "bot")
	large := bot.purchase(9000)
	a := want(t, bot.do("POST", "/v1/authorize", jsonOf(large)), 200)
	request := want(t, bot.do("POST", "/v1/agent/approval-requests", jsonOf(map[string]any{"decision_id": a["decision_id"], "action": large})), 200)
	hash, err := action.ParseHash(request["action_hash"].(string))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Service.Give(t.Context(), "portal:ann", request["approval_request_id"].(string), hash, approvals.Terms{Uses: 3, For: time.Hour}); err != nil {
		t.Fatal(err)
	}
	second := bot.purchase(9000)
	for range 2 { // the same again takes no use of it
		if a := want(t, bot.do("POST", "/v1/authorize", jsonOf(second)), 200); a["result"] != "ALLOW" {
			t.Fatalf("%v", a)
		}
	}
	if a := want(t, bot.do("POST", "/v1/authorize", jsonOf(bot.purchase(9001))), 200); a["result"] != "REQUIRE_APPROVAL" {
		t.Errorf("another purchase: %v", a)
	}
	if a := want(t, bot.do("POST", "/v1/authorize", jsonOf(bot.purchase(9000))), 200); a["result"] != "ALLOW" {
		t.Errorf("the third: %v", a)
	}
	if a := want(t, bot.do("POST", "/v1/authorize", jsonOf(bot.purchase(9000))), 200); a["result"] != "REQUIRE_APPROVAL" {
		t.Errorf("the fourth: %v", a)
	}
}
