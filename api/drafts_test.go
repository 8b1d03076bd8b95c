package api

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/openleash/openleash-go/draft"
	"github.com/openleash/openleash-go/identity"
)

const draftsAt = "/v1/agent/policy-drafts"

// propose makes a draft and returns its id.
func (s *signer) propose(fields map[string]any) string {
	s.t.Helper()
	if fields["policy_yaml"] == nil {
		fields["policy_yaml"] = somePolicy
	}
	made := want(s.t, s.do("POST", draftsAt, jsonOf(fields)), 200)
	if made["status"] != "PENDING" || made["created_at"] != timestamp(now) || len(made) != 3 {
		s.t.Errorf("%v", made)
	}
	return made["policy_draft_id"].(string)
}

func TestPolicyDrafts(t *testing.T) {
	c := config(t)
	h := newAPI(t, c)
	bot, mole := newSigner(t, c, h, "bot"), newSigner(t, c, h, "mole")
	self := want(t, bot.do("GET", "/v1/agent/self", ""), 200)["agent_principal_id"]
	moles := want(t, mole.do("GET", "/v1/agent/self", ""), 200)["agent_principal_id"]
	own := bot.propose(map[string]any{"justification": "I buy every day"}) // as the public SDKs send it
	all := bot.propose(map[string]any{"applies_to_agent_principal_id": nil, "name": "for all", "description": "d"})
	others := bot.propose(map[string]any{"applies_to_agent_principal_id": moles})
	for id, target := range map[string]any{own: self, all: nil, others: moles} {
		got := want(t, bot.do("GET", draftsAt+"/"+id, ""), 200)
		if got["applies_to_agent_principal_id"] != target || got["policy_yaml"] != somePolicy || got["resolved_at"] != nil || got["resulting_policy_id"] != nil {
			t.Errorf("%v", got)
		}
		refused(t, mole.do("GET", draftsAt+"/"+id, ""), 404, "NOT_FOUND")
	}
	refused(t, bot.do("GET", draftsAt+"/"+uuid.NewString(), ""), 404, "NOT_FOUND")

	answerDraft(t, c, own, true)
	answerDraft(t, c, all, false)
	listed := func(s *signer, query string) (ids []string) {
		t.Helper()
		for _, d := range want(t, s.do("GET", draftsAt+query, ""), 200)["policy_drafts"].([]any) {
			d := d.(map[string]any)
			if d["policy_yaml"] != nil {
				t.Errorf("a list has the texts: %v", d)
			}
			ids = append(ids, d["policy_draft_id"].(string))
		}
		return ids
	}
	for query, wants := range map[string][]string{"": {others, all, own}, "?status=PENDING": {others}, "?status=APPROVED": {own}, "?status=DENIED": {all}} {
		if got := listed(bot, query); fmt.Sprint(got) != fmt.Sprint(wants) {
			t.Errorf("%s: %v, want %v", query, got, wants)
		}
		if got := listed(mole, query); len(got) > 0 {
			t.Errorf("the mole sees %v", got)
		}
	}
	refused(t, bot.do("GET", draftsAt+"?status=pending", ""), 400, "INVALID_REQUEST")
	// The public SDKs sign the path with its query.
	with := draftsAt + "?status=DENIED"
	denied := want(t, serve(h, bot.signedAs("GET", with, with, "", uuid.NewString(), now)), 200)["policy_drafts"].([]any)[0].(map[string]any)
	if denied["denial_reason"] != "too wide" || denied["resolved_at"] == nil || denied["name"] != "for all" {
		t.Errorf("%v", denied)
	}
	if got := want(t, bot.do("GET", draftsAt+"/"+own, ""), 200); got["resulting_policy_id"] != "agents/bot/draft-"+own[:8] {
		t.Errorf("%v", got)
	}
}

// answerDraft is the owner's word.
func answerDraft(t *testing.T, c Config, id string, yes bool) {
	t.Helper()
	p, err := c.Service.Drafts().PolicyDraft(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	owner := c.Service.Owner().ID
	if yes {
		err = c.Service.ApproveDraft(t.Context(), "portal:ann", owner, p, p.Hash)
	} else {
		err = c.Service.DenyDraft(t.Context(), "portal:ann", owner, p, p.Hash, "too wide")
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestPolicyDraftRefusals(t *testing.T) {
	c := config(t)
	h := newAPI(t, c)
	bot, gone := newSigner(t, c, h, "bot"), newSigner(t, c, h, "gone")
	revoked := agentNamed(t, c, gone.name)
	if err := c.Service.RevokeAgent(t.Context(), "cli:ann", revoked); err != nil {
		t.Fatal(err)
	}
	large := somePolicy + "#" + strings.Repeat("x", draft.MaxPolicy-len(somePolicy)-1)
	for name, tt := range map[string]struct {
		fields map[string]any
		code   string
		says   string
	}{
		"no policy":         {map[string]any{"justification": "x"}, "INVALID_REQUEST", "policy_yaml"},
		"a policy as JSON":  {map[string]any{"policy_yaml": map[string]any{"version": 1}}, "INVALID_REQUEST", "policy_yaml"},
		"too large":         {map[string]any{"policy_yaml": large + "y"}, "INVALID_REQUEST", "65536 bytes"},
		"an unknown field":  {map[string]any{"policy_yaml": somePolicy, "applies_to": "x"}, "INVALID_REQUEST", "applies_to"},
		"a long name":       {map[string]any{"policy_yaml": somePolicy, "name": strings.Repeat("ä", draft.MaxName+1)}, "INVALID_REQUEST", "100 characters"},
		"a long reason":     {map[string]any{"policy_yaml": somePolicy, "justification": strings.Repeat("ä", draft.MaxText+1)}, "INVALID_REQUEST", "2000 characters"},
		"a name as number":  {map[string]any{"policy_yaml": somePolicy, "name": 1}, "INVALID_REQUEST", "name"},
		"target as number":  {map[string]any{"policy_yaml": somePolicy, "applies_to_agent_principal_id": 1}, "INVALID_REQUEST", "applies_to_agent_principal_id"},
		"no such agent":     {map[string]any{"policy_yaml": somePolicy, "applies_to_agent_principal_id": uuid.NewString()}, "INVALID_AGENT", "no such agent"},
		"a name, no id":     {map[string]any{"policy_yaml": somePolicy, "applies_to_agent_principal_id": "bot"}, "INVALID_AGENT", "no such agent"},
		"another's agent":   {map[string]any{"policy_yaml": somePolicy, "applies_to_agent_principal_id": agentOfBob(t, c)}, "INVALID_AGENT", "no such agent"},
		"a revoked agent":   {map[string]any{"policy_yaml": somePolicy, "applies_to_agent_principal_id": revoked.ID}, "INVALID_AGENT", "no such agent"},
		"no YAML":           {map[string]any{"policy_yaml": "a: ["}, "INVALID_POLICY", "policy_yaml:1:"},
		"mistakes":          {map[string]any{"policy_yaml": "version: 1\ndefault: dony\nrules: []\n"}, "INVALID_POLICY", "policy_yaml:2:10: default: want"},
		"for somebody else": {map[string]any{"policy_yaml": "applies_to: {agent: mole}\n" + somePolicy}, "INVALID_POLICY", "the draft is for agent bot"},
		"for a group":       {map[string]any{"policy_yaml": "applies_to: {group: g}\n" + somePolicy, "applies_to_agent_principal_id": nil}, "INVALID_POLICY", "the draft is for every agent"},
	} {
		w := bot.do("POST", draftsAt, jsonOf(tt.fields))
		refused(t, w, 400, tt.code)
		if !strings.Contains(w.Body.String(), tt.says) {
			t.Errorf("%s: %s", name, w.Body)
		}
	}
	bot.propose(map[string]any{"policy_yaml": large})
	bot.propose(map[string]any{"policy_yaml": "applies_to: {agent: bot}\n" + somePolicy})
	for range draft.MaxPending - 2 {
		bot.propose(map[string]any{})
	}
	refused(t, bot.do("POST", draftsAt, jsonOf(map[string]any{"policy_yaml": somePolicy})), 429, "TOO_MANY_DRAFTS")
	w := ask(h, "POST", draftsAt, jsonOf(map[string]any{"policy_yaml": somePolicy}))
	refused(t, w, 401, "MISSING_HEADERS")
}

// agentOfBob registers an agent of another owner, and returns its id.
func agentOfBob(t *testing.T, c Config) string {
	t.Helper()
	bob, err := c.Owners.AddUser(t.Context(), "cli:ann", "bob", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	i, token, err := c.Service.Invite(t.Context(), "cli:ann", bob.Owner, "")
	if err != nil {
		t.Fatal(err)
	}
	a, err := c.Service.RegisterInvited(t.Context(), identity.Agent{Name: "bobs"}, i.ID, token)
	if err != nil || a.OwnerID != bob.ID {
		t.Fatalf("%+v, %v", a, err)
	}
	return a.ID
}

// A draft is sent once: its nonce is spent with it, and with what was refused as well.
func TestPolicyDraftReplay(t *testing.T) {
	c := config(t)
	h := newAPI(t, c)
	bot := newSigner(t, c, h, "bot")
	for _, body := range []string{jsonOf(map[string]any{"policy_yaml": somePolicy}), jsonOf(map[string]any{"policy_yaml": ""})} {
		nonce := uuid.NewString()
		serve(h, bot.signedAs("POST", draftsAt, draftsAt, body, nonce, now))
		refused(t, serve(h, bot.signedAs("POST", draftsAt, draftsAt, body, nonce, now)), 401, "NONCE_REPLAY")
	}
	if list := want(t, bot.do("GET", draftsAt, ""), 200)["policy_drafts"].([]any); len(list) != 1 {
		t.Errorf("%d drafts", len(list))
	}
}

// An agent that has the name of a revoked one has none of its drafts.
func TestPolicyDraftsOfTheNameBefore(t *testing.T) {
	c := config(t)
	h := newAPI(t, c)
	bot := newSigner(t, c, h, "bot")
	id := bot.propose(map[string]any{})
	if err := c.Service.RevokeAgent(t.Context(), "cli:ann", agentNamed(t, c, "bot")); err != nil {
		t.Fatal(err)
	}
	next := newSigner(t, c, h, "bot")
	refused(t, next.do("GET", draftsAt+"/"+id, ""), 404, "NOT_FOUND")
	if list := want(t, next.do("GET", draftsAt, ""), 200)["policy_drafts"].([]any); len(list) != 0 {
		t.Errorf("%v", list)
	}
	// What waited is not approved any more: it would bind the next of that name.
	p, err := c.Service.Drafts().PolicyDraft(t.Context(), id)
	if err != nil || p.Status != draft.Denied {
		t.Fatalf("%+v, %v", p, err)
	}
	if err := c.Service.ApproveDraft(t.Context(), "portal:ann", c.Service.Owner().ID, p, p.Hash); err != draft.ErrAnswered {
		t.Errorf("approved: %v", err)
	}
	if err := c.Service.DenyDraft(t.Context(), "portal:eve", "another owner", p, p.Hash, ""); err != draft.ErrNotFound {
		t.Errorf("answered by another owner: %v", err)
	}
}

func agentNamed(t *testing.T, c Config, name string) identity.Agent {
	t.Helper()
	a, err := c.Service.Agents().AgentByName(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return a
}
