package storetest

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/draft"
	"github.com/openleash/openleash-go/identity"
)

// proposal is a policy that an agent proposes for itself.
func proposal(a identity.Agent, id string) draft.Proposal {
	text := "version: 1\ndefault: passthrough\nrules: [] # " + id + " \u202e\n"
	return draft.Proposal{
		ID: id, OwnerID: a.OwnerID, AgentID: a.ID, Agent: a.Name, TargetID: a.ID, Target: a.Name,
		Name: "../../" + id, Description: "", Justification: "since <b>I</b> say so", Policy: text, Hash: sha256.Sum256([]byte(text)),
		Status: draft.Pending, CreatedAt: start,
	}
}

func propose(p draft.Proposal) authz.Batch { return authz.Batch{Propose: &p} }

func answerDraft(p draft.Proposal, approve bool) *draft.Answer {
	a := &draft.Answer{ID: p.ID, OwnerID: p.OwnerID, Hash: p.Hash, By: "portal:alice", At: start.Add(time.Minute)}
	if a.Approve = approve; approve {
		a.PolicyID = "agents/bot/mail"
	} else {
		a.Reason = "too much"
	}
	return a
}

func answered(t *testing.T, s Store, id string) draft.Proposal {
	t.Helper()
	p, err := s.PolicyDraft(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func ids(list []draft.Proposal, err error) string {
	text := fmt.Sprint(err)
	for _, p := range list {
		if text += " " + p.ID; p.Policy != "" {
			text += " with its text"
		}
	}
	return text
}

func testDrafts(t *testing.T, open Open) {
	place := t.TempDir()
	s := open(t, place)
	bot, other := agent(t, s, "bot"), agent(t, s, "other")
	one, two, three := proposal(bot, "one"), proposal(other, "two"), proposal(bot, "three")
	two.TargetID, two.Target = "", ""
	commit(t, s, propose(one), propose(two), propose(three), authz.Batch{AnswerDraft: answerDraft(three, false)}, authz.Batch{AnswerDraft: answerDraft(one, true)})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, place)
	one.Status, one.ResolvedAt, one.ResolvedBy, one.PolicyID = draft.Approved, start.Add(time.Minute), "portal:alice", "agents/bot/mail"
	three.Status, three.ResolvedAt, three.ResolvedBy, three.DenyReason = draft.Denied, start.Add(time.Minute), "portal:alice", "too much"
	for _, p := range []draft.Proposal{one, two, three} {
		wantSame(t, "draft", p, answered(t, s, p.ID))
	}
	_, err := s.PolicyDraft(t.Context(), "none")
	wantErr(t, "no draft", err, draft.ErrNotFound)

	ctx, owner := t.Context(), bot.OwnerID
	for what, got := range map[string][2]string{
		"all":         {ids(s.PolicyDrafts(ctx, owner, "", 9)), "<nil> three two one"},
		"the newest":  {ids(s.PolicyDrafts(ctx, owner, "", 2)), "<nil> three two"},
		"pending":     {ids(s.PolicyDrafts(ctx, owner, draft.Pending, 9)), "<nil> two"},
		"of an agent": {ids(s.PolicyDraftsBy(ctx, bot.ID, "", 9)), "<nil> three one"},
		"approved":    {ids(s.PolicyDraftsBy(ctx, bot.ID, draft.Approved, 9)), "<nil> one"},
		"a stranger":  {ids(s.PolicyDrafts(ctx, "another owner", "", 9)), "<nil>"},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: %s, want %s", what, got[0], got[1])
		}
	}
	if n, err := s.PolicyDraftsWaiting(ctx, owner); n != 1 || err != nil {
		t.Errorf("waiting: %d, %v", n, err)
	}
	if n, err := s.PolicyDraftsWaiting(ctx, "another owner"); n != 0 || err != nil {
		t.Errorf("waiting for a stranger: %d, %v", n, err)
	}
}

// What an agent may not propose leaves nothing behind, its entry and nonce included.
func testProposeCondition(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	bot, gone := agent(t, s, "bot"), agent(t, s, "gone")
	revoke(t, s, gone)
	for what, tt := range map[string]struct {
		change func(*draft.Proposal)
		want   error
	}{
		"a revoked agent":     {func(p *draft.Proposal) { p.AgentID = gone.ID }, identity.ErrRevoked},
		"no agent":            {func(p *draft.Proposal) { p.AgentID = "nobody" }, identity.ErrNotFound},
		"another's agent":     {func(p *draft.Proposal) { p.OwnerID = "another owner" }, identity.ErrNotFound},
		"for a revoked agent": {func(p *draft.Proposal) { p.TargetID = gone.ID }, draft.ErrNoTarget},
		"for nobody":          {func(p *draft.Proposal) { p.TargetID = "nobody" }, draft.ErrNoTarget},
	} {
		p := proposal(bot, what)
		tt.change(&p)
		wantErr(t, what, s.Commit(t.Context(), propose(p)), tt.want)
	}
	for i := range draft.MaxPending {
		commit(t, s, propose(proposal(bot, fmt.Sprint(i))))
	}
	nonce := &authz.Nonce{Hash: [16]byte{1}, Now: start.UnixMilli(), Until: start.UnixMilli() + 1000}
	more := propose(proposal(bot, "more"))
	more.Nonce, more.Entries = nonce, note("proposed").Entries
	wantErr(t, "one more", s.Commit(t.Context(), more), draft.ErrTooMany)
	wantEntries(t, s)
	commit(t, s, authz.Batch{AnswerDraft: answerDraft(proposal(bot, "0"), false)}, more)
	wantErr(t, "again", s.Commit(t.Context(), authz.Batch{Nonce: nonce}), authz.ErrReplayed)
	commit(t, s, propose(proposal(agent(t, s, "other"), "others have room")))
}

func testAnswerDraftCondition(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	p := proposal(agent(t, s, "bot"), "one")
	commit(t, s, propose(p))
	for what, tt := range map[string]struct {
		change func(*draft.Answer)
		want   error
	}{
		"no draft":      {func(a *draft.Answer) { a.ID = "none" }, draft.ErrNotFound},
		"another owner": {func(a *draft.Answer) { a.OwnerID = "another owner" }, draft.ErrNotFound},
		"another text":  {func(a *draft.Answer) { a.Hash[0]++ }, draft.ErrOtherText},
	} {
		for _, approve := range []bool{true, false} {
			a := answerDraft(p, approve)
			tt.change(a)
			b := authz.Batch{AnswerDraft: a, Entries: note("answered").Entries}
			wantErr(t, what, s.Commit(t.Context(), b), tt.want)
		}
	}
	wantEntries(t, s)
	wantSame(t, "what was not answered", p, answered(t, s, "one"))
	commit(t, s, authz.Batch{AnswerDraft: answerDraft(p, true)})
	for _, approve := range []bool{true, false} {
		wantErr(t, "again", s.Commit(t.Context(), authz.Batch{AnswerDraft: answerDraft(p, approve)}), draft.ErrAnswered)
	}
}

// Of yes and no at once, from two processes, one counts, and it alone is in the log.
func testAnswerDraftRace(t *testing.T, open Open) {
	place := t.TempDir()
	a, b := open(t, place), open(t, place)
	p := proposal(agent(t, a, "bot"), "one")
	commit(t, a, propose(p))
	errs := race(a, b, func(i int, s Store) error {
		return s.Commit(t.Context(), authz.Batch{AnswerDraft: answerDraft(p, i%4 < 2), Entries: note(fmt.Sprint(i)).Entries})
	})
	winner := oneWinner(t, errs, draft.ErrAnswered)
	want := draft.Denied
	if winner%4 < 2 {
		want = draft.Approved
	}
	if got := answered(t, b, "one"); got.Status != want {
		t.Errorf("%d has won, and it is %s", winner, got.Status)
	}
	wantEntries(t, a, fmt.Sprint(winner))
}

// With an agent goes what it has proposed, and what was proposed for it; its name is free
// for another, which has none of it.
func testDraftsOfTheRevoked(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	bot, other := agent(t, s, "bot"), agent(t, s, "other")
	own, forIt, apart := proposal(bot, "own"), proposal(other, "for it"), proposal(other, "apart")
	forIt.TargetID = bot.ID
	commit(t, s, propose(own), propose(forIt), propose(apart))
	revoke(t, s, bot)
	for id, want := range map[string]draft.Status{"own": draft.Denied, "for it": draft.Denied, "apart": draft.Pending} {
		if p := answered(t, s, id); p.Status != want || want == draft.Denied && p.DenyReason == "" {
			t.Errorf("%s: %+v", id, p)
		}
	}
	again := identity.Agent{ID: "22222222-2222-4333-8444-555555555555", Name: "bot", OwnerID: bot.OwnerID, Status: identity.Active, CreatedAt: start}
	commit(t, s, authz.Batch{Enrol: &identity.Enrolment{Agent: again, Now: start}})
	if got := ids(s.PolicyDraftsBy(t.Context(), again.ID, "", 9)); got != "<nil>" {
		t.Errorf("the next of that name has %s", got)
	}
}

func revoke(t *testing.T, s Store, a identity.Agent) {
	t.Helper()
	commit(t, s, authz.Batch{Agent: &identity.AgentChange{AgentID: a.ID, OwnerID: a.OwnerID, Status: identity.Revoked, By: "cli:alice", Now: start}})
}
