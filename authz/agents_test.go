package authz_test

import (
	"bytes"
	"testing"

	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/identity"
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
