package portal

import (
	"bytes"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/identity"
)

// walkin registers an agent that waits for its owner.
func (w *world) walkin(name string) identity.Agent {
	w.t.Helper()
	c, err := w.service.Challenge(w.t.Context(), name, bytes.Repeat([]byte{9}, 32), w.owner.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	a, err := w.service.Register(w.t.Context(), identity.Agent{}, c)
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

// An owner lets an agent in that waits, refuses one, and revokes one.
func TestAgents(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	wantText(t, "without any", v.get("/agents"), "Nobody acts for you yet", "Invite an agent")
	in, out := w.walkin("buyer"), w.walkin("spy")
	got := v.get("/agents")
	wantText(t, "the page", got, "Waiting to be let in", "buyer", "spy", "SHA256:", "/agents/"+in.ID+"/confirm", "/agents/"+out.ID+"/revoke")
	wantStatus(t, "letting one in", v.post("/agents/"+in.ID+"/confirm", url.Values{}), 303)
	wantStatus(t, "refusing one", v.post("/agents/"+out.ID+"/revoke", url.Values{}), 303)
	for name, want := range map[string]identity.AgentStatus{"buyer": identity.Active, "spy": identity.Revoked} {
		if a, err := w.store.AgentByName(t.Context(), name); err != nil || a.Status != want {
			t.Errorf("%s: want %s, got %s, %v", name, want, a.Status, err)
		}
	}
	wantStatus(t, "revoking it", v.post("/agents/"+in.ID+"/revoke", url.Values{}), 303)
	wantStatus(t, "letting in what is revoked", v.post("/agents/"+in.ID+"/confirm", url.Values{}), 409)
	wantStatus(t, "an agent that is not there", v.post("/agents/none/confirm", url.Values{}), 404)
	wantStatus(t, "signed out", w.visitor().post("/agents/"+in.ID+"/confirm", url.Values{}), 401)
}

var inviteLink = regexp.MustCompile(`invite_id=([0-9a-f-]{36})&amp;invite_token=(oli_[\w-]{43})`)

func TestInviteAgent(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	got := v.post("/agents/invite", url.Values{"name": {"buyer"}})
	m := inviteLink.FindStringSubmatch(got.Body)
	if got.Status != 200 || m == nil {
		t.Fatalf("%d %s", got.Status, got.Body)
	}
	a := identity.Agent{Name: "buyer", Key: bytes.Repeat([]byte{9}, 32)}
	if _, err := w.service.RegisterInvited(t.Context(), a, m[1], m[2]); err != nil {
		t.Error(err)
	}
	if again := v.get("/agents"); strings.Contains(again.Body, "oli_") {
		t.Error("the invite is shown a second time")
	}
	wantStatus(t, "a name that is none", v.post("/agents/invite", url.Values{"name": {"<b>"}}), 400)
}

// What the agent says for its request is shown, inert, and apart from what will run.
func TestWhatTheAgentSays(t *testing.T) {
	w := newWorld(t)
	req := action.Request{
		ActionID: uuid.NewString(), ActionType: "purchase", RequestedAt: "now", AgentID: "bot", SubjectID: w.owner.ID, Payload: parse(t, `{"amount_minor":1}`),
	}
	r := approvals.Request{
		ID: uuid.NewString(), OwnerID: w.owner.ID, AgentID: "bot", DecisionID: uuid.NewString(), Action: req, ActionHash: req.Hash(), IntentHash: req.Hash(),
		CreatedAt: w.now(), ExpiresAt: w.now().Add(time.Hour), Justification: "<b>urgent</b> \u202e now", Context: parse(t, `{"ticket":"7"}`),
	}
	if err := w.store.Commit(t.Context(), authz.Batch{Open: &r}); err != nil {
		t.Fatal(err)
	}
	got := w.signedIn().get("/approvals/" + r.ID)
	wantStatus(t, "the page", got, 200)
	wantText(t, "the page", got, "asks for", "What the agent says for it", "&lt;b&gt;urgent&lt;/b&gt;", `<span class="odd"`, "ticket", "Nothing is decided by this")
}
