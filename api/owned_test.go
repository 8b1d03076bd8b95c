package api

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/proof"
	"github.com/openleash/openleash-go/store/sqlite"
)

// twoOwners are an admin and a user who is none, each signed in, each with an agent and a
// request that waits.
type twoOwners struct {
	*office
	ann, bob person
}

type person struct {
	id, token, agent, agentID, request, hash, session string
}

func newTwoOwners(t *testing.T) *twoOwners {
	o := &twoOwners{office: newOffice(t)}
	o.ann.token, o.ann.id = o.signIn(), o.Owners.Owner.ID
	o.bob.id = o.get("user_principal_id", "POST", "/v1/admin/users", "", o.ann.token, `{"display_name":"bob"}`)
	link := o.want(200, "", "POST", "/v1/admin/users/{id}/setup-invite", o.bob.id, o.ann.token, "")
	o.want(200, "", "POST", "/v1/owner/setup", "", "", jsonOf(map[string]any{"invite_id": link["invite_id"], "invite_token": link["invite_token"], "passphrase": phrase}))
	o.bob.token = o.get("token", "POST", "/v1/owner/login", "", "", jsonOf(map[string]any{"login": "bob", "passphrase": phrase}))
	for name, p := range map[string]*person{"anns": &o.ann, "bobs": &o.bob} {
		o.furnish(name, p)
	}
	return o
}

// signIn makes the installation's owner sign in.
func (o *office) signIn() string {
	o.t.Helper()
	o.want(200, "", "POST", "/v1/initial-setup", "", "", jsonOf(map[string]any{"display_name": "alice", "passphrase": phrase, "link_token": o.link()}))
	return o.get("token", "POST", "/v1/owner/login", "", "", jsonOf(map[string]any{"login": "alice", "passphrase": phrase}))
}

// furnish gives an owner an agent, invited by themselves, that asks for something.
func (o *twoOwners) furnish(name string, p *person) {
	o.t.Helper()
	i := o.want(200, "", "POST", "/v1/owner/agent-invites", "", p.token, "")
	_, key, _ := ed25519.GenerateKey(nil)
	bot := &signer{o.t, o.h, name, p.id, key}
	a := want(o.t, ask(o.h, "POST", "/v1/agents/register-with-invite", jsonOf(map[string]any{
		"invite_id": i["invite_id"], "invite_token": i["invite_token"], "agent_id": name, "agent_pubkey_b64": bot.spki(),
	})), 200)
	if a["owner_id"] != p.id {
		o.t.Fatalf("%s acts for %v, want %s", name, a["owner_id"], p.id)
	}
	p.agent, p.agentID = name, a["agent_principal_id"].(string)
	large := bot.purchase(9000)
	d := want(o.t, bot.do("POST", "/v1/authorize", jsonOf(large)), 200)
	r := want(o.t, bot.do("POST", "/v1/agent/approval-requests", jsonOf(map[string]any{"decision_id": d["decision_id"], "action": large, "context": map[string]any{"a": "b"}})), 200)
	p.request, p.hash = r["approval_request_id"].(string), r["action_hash"].(string)
	for _, s := range o.want(200, "", "GET", "/v1/owner/sessions", "", p.token, "")["sessions"].([]any) {
		p.session = s.(map[string]any)["session_id"].(string)
	}
}

// object is what of a person an {id} of a route names, and what is sent about it. A
// route that is not known here fails the test that asks.
func (p person) object(t *testing.T, rt route) (id, body string) {
	switch path := rt.path; {
	case strings.HasPrefix(path, "/v1/owner/agents/"):
		return p.agentID, `{"status":"REVOKED"}`
	case strings.HasSuffix(path, "/approve"):
		return p.request, jsonOf(map[string]any{"action_hash": p.hash})
	case strings.HasPrefix(path, "/v1/owner/approval-requests/"):
		return p.request, ""
	case strings.HasPrefix(path, "/v1/owner/sessions/"):
		return p.session, ""
	case strings.HasPrefix(path, "/v1/admin/users/"):
		return p.id, `{"status":"DISABLED"}`
	}
	t.Errorf("%s %s: say what of another owner it would name", rt.method, rt.path)
	return "", ""
}

// Every route, whoever asks: what is another owner's is not there, by its id or in a list;
// what is for admins is not for others.
func TestForeignObjects(t *testing.T) {
	o := newTwoOwners(t)
	for _, rt := range (&server{}).routes() {
		if rt.access != owner && rt.access != admin {
			continue
		}
		t.Run(rt.method+" "+rt.path, func(t *testing.T) {
			for _, pair := range [][2]person{{o.bob, o.ann}, {o.ann, o.bob}} {
				o.trespass(t, rt, pair[0], pair[1])
			}
		})
	}
}

func (o *twoOwners) trespass(t *testing.T, rt route, who, whose person) {
	named := strings.Contains(rt.path, "{id}")
	switch {
	case rt.access == admin && who == o.bob:
		id, body := "", `{}`
		if named {
			id, body = whose.object(t, rt)
		}
		if w := o.ask(rt.method, rt.path, id, who.token, body); w.Code != 403 {
			t.Errorf("no admin, and got %d %s", w.Code, w.Body)
		}
	case rt.access == admin:
	case named:
		id, body := whose.object(t, rt)
		if w := o.ask(rt.method, rt.path, id, who.token, body); w.Code != 404 || strings.Contains(w.Body.String(), whose.agent) {
			t.Errorf("another's %s: %d %s", id, w.Code, w.Body)
		}
	case rt.method == "GET":
		w := o.ask(rt.method, rt.path, "", who.token, "")
		if w.Code != 200 || o.shows(w, whose) {
			t.Errorf("a list shows what is another's: %d %s", w.Code, w.Body)
		}
	}
}

// shows reports whether an answer has anything of a person.
func (o *twoOwners) shows(w *httptest.ResponseRecorder, p person) bool {
	for _, of := range []string{p.agent, p.agentID, p.request, p.session, `"` + p.id + `"`} {
		if strings.Contains(w.Body.String(), of) {
			return true
		}
	}
	return false
}

// After all that was tried by others, everything is as it was.
func TestForeignObjectsAreUntouched(t *testing.T) {
	o := newTwoOwners(t)
	for _, rt := range (&server{}).routes() {
		if rt.access == owner && strings.Contains(rt.path, "{id}") {
			id, body := o.ann.object(t, rt)
			o.ask(rt.method, rt.path, id, o.bob.token, body)
		}
	}
	got := o.want(200, "", "GET", "/v1/owner/approval-requests/{id}", o.ann.request, o.ann.token, "")
	if got["status"] != "PENDING" {
		t.Errorf("%v", got)
	}
	if a, err := o.Service.Agents().AgentByName(t.Context(), "anns"); err != nil || a.Status != identity.Active {
		t.Errorf("%+v, %v", a, err)
	}
	o.want(200, "", "GET", "/v1/owner/profile", "", o.ann.token, "")
}

// An owner answers over /v1: exactly what was shown, once.
func TestOwnerAnswers(t *testing.T) {
	o := newTwoOwners(t)
	const at = "/v1/owner/approval-requests/{id}"
	o.want(400, "VALIDATION_ERROR", "POST", at+"/approve", o.bob.request, o.bob.token, `{}`)
	o.want(409, "REQUEST_CHANGED", "POST", at+"/approve", o.bob.request, o.bob.token, jsonOf(map[string]any{"action_hash": o.ann.hash}))
	got := o.want(200, "", "POST", at+"/approve", o.bob.request, o.bob.token, jsonOf(map[string]any{"action_hash": o.bob.hash}))
	if got["status"] != "APPROVED" || got["resolved_by"] != "api:bob" || got["agent_id"] != "bobs" {
		t.Errorf("%v", got)
	}
	o.want(409, "ALREADY_ANSWERED", "POST", at+"/deny", o.bob.request, o.bob.token, "")
	o.want(200, "", "POST", at+"/deny", o.ann.request, o.ann.token, `{"reason":"no"}`)
	if list := o.want(200, "", "GET", "/v1/owner/approval-requests?status=PENDING", "", o.bob.token, ""); len(list["approval_requests"].([]any)) != 0 {
		t.Errorf("%v", list)
	}
	o.want(400, "VALIDATION_ERROR", "GET", "/v1/owner/approval-requests?status=maybe", "", o.bob.token, "")
}

// An owner lets in, re-keys and revokes over /v1.
func TestOwnersAgents(t *testing.T) {
	o := newTwoOwners(t)
	_, key, _ := ed25519.GenerateKey(nil)
	next := &signer{o.t, o.h, "anns", o.ann.id, key}
	const at = "/v1/owner/agents/{id}"
	o.want(400, "INVALID_KEY", "PUT", at, o.ann.agentID, o.ann.token, `{"agent_pubkey_b64":"x"}`)
	o.want(200, "", "PUT", at, o.ann.agentID, o.ann.token, jsonOf(map[string]any{"agent_pubkey_b64": next.spki()}))
	want(t, next.do("GET", "/v1/agent/self", ""), 200)
	if got := o.want(200, "", "PUT", at, o.ann.agentID, o.ann.token, `{"status":"REVOKED"}`); got["status"] != "REVOKED" {
		t.Errorf("%v", got)
	}
	refused(t, next.do("GET", "/v1/agent/self", ""), 401, "AGENT_INACTIVE")
	o.want(409, "AGENT_REVOKED", "PUT", at, o.ann.agentID, o.ann.token, `{"status":"ACTIVE"}`)
	o.want(400, "VALIDATION_ERROR", "PUT", at, o.ann.agentID, o.ann.token, `{"status":"PENDING"}`)
	o.want(400, "VALIDATION_ERROR", "POST", "/v1/owner/agent-invites", "", o.ann.token, `{"agent_id":"a b"}`)
	for _, secret := range []string{"hush-hook", "hush-token"} {
		for _, e := range o.said {
			if strings.Contains(e.answer.Body.String(), secret) {
				t.Errorf("%s %s tells %s", e.method, e.route, secret)
			}
		}
	}
}

// sequence brings all entries into the log, as a process does within 100 ms.
func (o *office) sequence() {
	o.t.Helper()
	store := o.Owners.Store.(*sqlite.Store)
	key, err := audit.LoadOrCreateKey(o.t.TempDir())
	if err != nil {
		o.t.Fatal(err)
	}
	log := audit.NewSequencer(store, filepath.Join(o.t.TempDir(), "audit.log.jsonl"), key, audit.Keeping{})
	ctx, stop := context.WithCancel(o.t.Context())
	done := make(chan error)
	go func() { done <- log.Run(ctx) }()
	for range 500 {
		_, left, err := store.Unsequenced(ctx, 1)
		if err != nil {
			o.t.Fatal(err)
		}
		if len(left) == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	if err := <-done; err != nil {
		o.t.Fatal(err)
	}
}

// The log over /v1 is the owner's own, page after page.
func TestOwnersLog(t *testing.T) {
	o := newTwoOwners(t)
	for _, e := range []audit.Entry{{OwnerID: o.ann.id}, {OwnerID: o.bob.id}, {}} {
		e.Event, e.ActorType, e.ActorID, e.Detail = "start", "system", "openleash", "of "+e.OwnerID
		if err := o.Service.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	o.sequence()
	seen := ""
	for at, pages := "", 0; ; pages++ {
		got := o.want(200, "", "GET", "/v1/owner/audit?limit=2&event=start"+at, "", o.bob.token, "")
		text, _ := json.Marshal(got["items"])
		seen += string(text)
		next, more := got["next_cursor"].(string)
		if !more || pages > 5 {
			break
		}
		at = "&cursor=" + next
	}
	if strings.Contains(seen, o.ann.id) || !strings.Contains(seen, o.bob.id) || !strings.Contains(seen, `"detail":"of "`) {
		t.Errorf("bob sees %s", seen)
	}
	for _, bad := range []string{"limit=0", "limit=1001", "limit=x", "cursor=-1", "since=yesterday"} {
		o.want(400, "VALIDATION_ERROR", "GET", "/v1/owner/audit?"+bad, "", o.bob.token, "")
	}
}

// ownedStory has an answer of each route by which owners see and do what is theirs.
func ownedStory(t *testing.T) []exchange {
	o := newTwoOwners(t)
	o.sequence()
	for _, path := range []string{"/v1/owner/agents", "/v1/owner/approval-requests", "/v1/owner/policies", "/v1/owner/audit"} {
		o.want(200, "", "GET", path, "", o.ann.token, "")
	}
	o.want(200, "", "GET", "/v1/owner/approval-requests/{id}", o.ann.request, o.ann.token, "")
	o.want(200, "", "POST", "/v1/owner/approval-requests/{id}/approve", o.ann.request, o.ann.token, jsonOf(map[string]any{"action_hash": o.ann.hash}))
	o.want(200, "", "POST", "/v1/owner/approval-requests/{id}/deny", o.bob.request, o.bob.token, "")
	o.want(200, "", "PUT", "/v1/owner/agents/{id}", o.ann.agentID, o.ann.token, `{"status":"REVOKED"}`)
	return o.said
}

// A step-up is not met by a session, a field of the agent's, or an approval without a code.
func TestStepUpOverTheAPI(t *testing.T) {
	o := newTwoOwners(t)
	_, private, _ := ed25519.GenerateKey(nil)
	bot := &signer{o.t, o.h, "filer", o.ann.id, private}
	i := o.want(200, "", "POST", "/v1/owner/agent-invites", "", o.ann.token, "")
	want(t, ask(o.h, "POST", "/v1/agents/register-with-invite", jsonOf(map[string]any{
		"invite_id": i["invite_id"], "invite_token": i["invite_token"], "agent_id": "filer", "agent_pubkey_b64": bot.spki(),
	})), 200)
	tax := bot.purchase(1)
	tax["action_type"], tax["payload"] = "submit", map[string]any{"assurance_level": "HIGH", "totp_code": "123456"}
	d := want(t, bot.do("POST", "/v1/authorize", jsonOf(tax)), 200)
	if d["result"] != "REQUIRE_STEP_UP" {
		t.Fatalf("%v", d)
	}
	r := want(t, bot.do("POST", "/v1/agent/approval-requests", jsonOf(map[string]any{"decision_id": d["decision_id"], "action": tax})), 200)
	id, yes := r["approval_request_id"].(string), map[string]any{"action_hash": r["action_hash"]}
	const at = "/v1/owner/approval-requests/{id}/approve"
	o.want(403, "TOTP_SETUP_REQUIRED", "POST", at, id, o.ann.token, jsonOf(yes))
	secret := o.get("secret", "POST", "/v1/owner/totp/setup", "", o.ann.token, "")
	o.want(200, "", "POST", "/v1/owner/totp/confirm", "", o.ann.token, jsonOf(map[string]any{"code": o.code(secret)}))
	o.want(403, "TOTP_REQUIRED", "POST", at, id, o.ann.token, jsonOf(yes))
	yes["totp_code"] = "000000"
	o.want(401, "INVALID_TOTP_CODE", "POST", at, id, o.ann.token, jsonOf(yes))
	yes["totp_code"] = o.code(secret)
	if got := o.want(200, "", "POST", at, id, o.ann.token, jsonOf(yes)); got["status"] != "APPROVED" {
		t.Errorf("%v", got)
	}
	token := want(t, bot.do("GET", "/v1/agent/approval-requests/"+id, ""), 200)["approval_token"]
	tax["approval_token"] = token
	if d := want(t, bot.do("POST", "/v1/authorize", jsonOf(tax)), 200); d["result"] != "ALLOW" {
		t.Errorf("%v", d)
	}
}

// An approval is for one owner's agent: another owner's, whoever has the token, has nothing of it.
func TestApprovalOfAnotherOwner(t *testing.T) {
	o := newTwoOwners(t)
	o.want(200, "", "POST", "/v1/owner/approval-requests/{id}/approve", o.ann.request, o.ann.token, jsonOf(map[string]any{"action_hash": o.ann.hash}))
	r, err := o.Service.Approvals().Approval(t.Context(), o.ann.request)
	if err != nil {
		t.Fatal(err)
	}
	token, err := o.Key.SignApproval(proof.ApprovalToken{
		RequestID: r.ID, OwnerType: "user", OwnerID: o.ann.id, AgentID: r.AgentID, ActionType: r.Action.ActionType, ActionHash: o.ann.hash, IssuedAt: o.now, Expires: o.now.Add(time.Minute),
	})
	if err != nil {
		t.Fatal(err)
	}
	i := o.want(200, "", "POST", "/v1/owner/agent-invites", "", o.bob.token, "")
	_, key, _ := ed25519.GenerateKey(nil)
	thief := &signer{o.t, o.h, "thief", o.bob.id, key}
	want(t, ask(o.h, "POST", "/v1/agents/register-with-invite", jsonOf(map[string]any{
		"invite_id": i["invite_id"], "invite_token": i["invite_token"], "agent_id": "thief", "agent_pubkey_b64": thief.spki(),
	})), 200)
	own := thief.purchase(9000)
	own["approval_token"] = token
	refused(t, thief.do("POST", "/v1/authorize", jsonOf(own)), 400, "AGENT_MISMATCH")
	var stolen map[string]any
	if err := json.Unmarshal(r.Action.Canonical(), &stolen); err != nil {
		t.Fatal(err)
	}
	stolen["approval_token"] = token
	refused(t, thief.do("POST", "/v1/authorize", jsonOf(stolen)), 400, "AGENT_MISMATCH")
	stolen["principal"] = map[string]any{"agent_id": "thief"}
	refused(t, thief.do("POST", "/v1/authorize", jsonOf(stolen)), 400, "SUBJECT_MISMATCH")
}
