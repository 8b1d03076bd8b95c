package storetest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/identity"
)

// newcomer is an agent that wants to be registered.
func newcomer(o identity.Owner, id, name string) identity.Agent {
	return identity.Agent{
		ID: id, Name: name, OwnerID: o.ID, OwnerType: o.Type, Status: identity.Active, Key: bytes.Repeat([]byte{7}, 32),
		Attributes: json.RawMessage(`{"team":"buying"}`), Webhook: identity.Webhook{URL: "https://a.example/", Secret: "s", AuthToken: "t"}, CreatedAt: start,
	}
}

func invite(t *testing.T, s Store, o identity.Owner, id, name string) identity.Enrolment {
	t.Helper()
	i := identity.Invite{ID: id, OwnerID: o.ID, Hash: identity.HashToken(id), Agent: name, Now: start, Until: start.Add(time.Hour)}
	if err := s.Commit(t.Context(), authz.Batch{Invite: &i}); err != nil {
		t.Fatal(err)
	}
	return identity.Enrolment{InviteID: id, Token: i.Hash, Now: start}
}

func testEnrol(t *testing.T, open Open) {
	place := t.TempDir()
	s := open(t, place)
	o := owner(t, s)
	enrol := func(e identity.Enrolment) error { return s.Commit(t.Context(), authz.Batch{Enrol: &e}) }
	e := invite(t, s, o, "i1", "buyer")
	e.Agent = newcomer(o, "a1", "buyer")
	for _, tt := range []struct {
		name   string
		change func(*identity.Enrolment)
		want   error
	}{
		{"no such invite", func(e *identity.Enrolment) { e.InviteID = "i0" }, identity.ErrNotFound},
		{"another token", func(e *identity.Enrolment) { e.Token[0]++ }, identity.ErrInviteToken},
		{"another name", func(e *identity.Enrolment) { e.Agent.Name = "boss" }, identity.ErrInviteName},
		{"at its end", func(e *identity.Enrolment) { e.Now = start.Add(time.Hour) }, identity.ErrExpired},
		{"another owner", func(e *identity.Enrolment) { e.Agent.OwnerID = "somebody else" }, identity.ErrNotFound},
	} {
		other := e
		tt.change(&other)
		wantErr(t, tt.name, enrol(other), tt.want)
	}
	last := e
	last.Now = start.Add(time.Hour - time.Millisecond)
	if err := enrol(last); err != nil {
		t.Fatalf("a millisecond before its end: %v", err)
	}
	wantErr(t, "a second time", enrol(e), identity.ErrInviteUsed)
	s.Close()
	s = open(t, place)
	got, err := s.AgentByName(t.Context(), "buyer")
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, "the agent, after a restart", e.Agent, got)
	e = invite(t, s, o, "i2", "")
	e.Agent = newcomer(o, "a2", "buyer")
	wantErr(t, "a name that is taken", enrol(e), identity.ErrNameTaken)
	e.Agent.Name = "seller" // the invite was not spent by that
	if err := enrol(e); err != nil {
		t.Error(err)
	}
}

func testChallenges(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	o := owner(t, s)
	c := identity.Challenge{ID: "c1", Bytes: [32]byte{1}, Agent: "buyer", Key: bytes.Repeat([]byte{7}, 32), OwnerID: o.ID, Now: start, Until: start.Add(time.Minute)}
	if err := s.Commit(t.Context(), authz.Batch{Challenge: &c}); err != nil {
		t.Fatal(err)
	}
	got, err := s.Challenge(t.Context(), "c1")
	if err != nil {
		t.Fatal(err)
	}
	c.Now = time.Time{}
	wantSame(t, "challenge", c, got)
	e := identity.Enrolment{Agent: newcomer(o, "a1", "buyer"), Challenge: "c1", Now: start}
	e.Agent.Status = identity.Pending
	for name, change := range map[string]func(*identity.Enrolment){
		"another":      func(e *identity.Enrolment) { e.Challenge = "c2" },
		"another name": func(e *identity.Enrolment) { e.Agent.Name = "boss" },
		"another key":  func(e *identity.Enrolment) { e.Agent.Key = bytes.Repeat([]byte{8}, 32) },
		"at its end":   func(e *identity.Enrolment) { e.Now = start.Add(time.Minute) },
	} {
		other := e
		change(&other)
		wantErr(t, name, s.Commit(t.Context(), authz.Batch{Enrol: &other}), identity.ErrNotFound)
	}
	if err := s.Commit(t.Context(), authz.Batch{Enrol: &e}); err != nil {
		t.Fatal(err)
	}
	e.Agent.ID, e.Agent.Name = "a2", "buyer2"
	wantErr(t, "a second time", s.Commit(t.Context(), authz.Batch{Enrol: &e}), identity.ErrNotFound)
}

// Anybody can have agents wait, and challenges kept: so many and no more.
func testPendingIsBounded(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	o := owner(t, s)
	made := 0
	for i := range 200 {
		a := newcomer(o, fmt.Sprint("id", i), fmt.Sprint("walkin", i))
		a.Status = identity.Pending
		err := s.Commit(t.Context(), authz.Batch{Enrol: &identity.Enrolment{Agent: a, Now: start}})
		if err == nil {
			made++
		} else {
			wantErr(t, "one too many", err, identity.ErrManyWait)
		}
	}
	if made != 100 {
		t.Errorf("%d agents wait", made)
	}
	e := invite(t, s, o, "i1", "")
	e.Agent = newcomer(o, "a1", "invited")
	if err := s.Commit(t.Context(), authz.Batch{Enrol: &e}); err != nil {
		t.Errorf("an invited one beside them: %v", err)
	}
}

// Of agents that use one invite, or want one name, at once, one gets it.
func testEnrolRace(t *testing.T, open Open) {
	place := t.TempDir()
	a, b := open(t, place), open(t, place)
	o := owner(t, a)
	for name, setUp := range map[string]func(i int) identity.Enrolment{
		"one invite": func() func(i int) identity.Enrolment {
			e := invite(t, a, o, "i", "")
			return func(i int) identity.Enrolment {
				e := e
				e.Agent = newcomer(o, fmt.Sprint("a", i), fmt.Sprint("name", i))
				return e
			}
		}(),
		"one name": func(i int) identity.Enrolment {
			return identity.Enrolment{Agent: newcomer(o, fmt.Sprint("b", i), "name"), Now: start}
		},
	} {
		won := 0
		for _, err := range race(a, b, func(i int, s Store) error {
			e := setUp(i)
			return s.Commit(t.Context(), authz.Batch{Enrol: &e})
		}) {
			if err == nil {
				won++
			} else if !errors.Is(err, identity.ErrInviteUsed) && !errors.Is(err, identity.ErrNameTaken) {
				t.Error(err)
			}
		}
		if won != 1 {
			t.Errorf("%s: %d agents were made", name, won)
		}
	}
}

func testAgentChange(t *testing.T, open Open) {
	place := t.TempDir()
	s, other := open(t, place), open(t, place)
	o := owner(t, s)
	a := newcomer(o, "a1", "buyer")
	a.Status = identity.Pending
	if err := s.Commit(t.Context(), authz.Batch{Enrol: &identity.Enrolment{Agent: a, Now: start}}); err != nil {
		t.Fatal(err)
	}
	change := func(c identity.AgentChange) error {
		c.AgentID, c.Now, c.By = "a1", start, "cli:ann"
		if c.OwnerID == "" {
			c.OwnerID = o.ID
		}
		return s.Commit(t.Context(), authz.Batch{Agent: &c})
	}
	if _, err := other.AgentByName(t.Context(), "buyer"); err != nil { // it remembers it now
		t.Fatal(err)
	}
	wantErr(t, "another owner's word", change(identity.AgentChange{OwnerID: "somebody else", Status: identity.Active}), identity.ErrNotFound)
	key := bytes.Repeat([]byte{9}, 32)
	for _, c := range []identity.AgentChange{{Status: identity.Active}, {Key: key}, {Token: [32]byte{1}}} {
		if err := change(c); err != nil {
			t.Fatal(err)
		}
	}
	a.Status, a.Key, a.TokenHash = identity.Active, key, [32]byte{1}
	got, err := other.AgentByName(t.Context(), "buyer")
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, "the agent, in another process", a, got)
	if err := change(identity.AgentChange{Status: identity.Revoked}); err != nil {
		t.Fatal(err)
	}
	_, err = other.AgentByToken(t.Context(), [32]byte{1})
	wantErr(t, "its token", err, identity.ErrNotFound)
	if got, err = other.AgentByName(t.Context(), "buyer"); err != nil || got.Status != identity.Revoked || !got.RevokedAt.Equal(start) {
		t.Errorf("%+v, %v", got, err)
	}
	wantErr(t, "a change of a revoked agent", change(identity.AgentChange{Status: identity.Active}), identity.ErrRevoked)
	again := newcomer(o, "a2", "buyer")
	if err := s.Commit(t.Context(), authz.Batch{Enrol: &identity.Enrolment{Agent: again, Now: start}}); err != nil {
		t.Fatal(err)
	}
	if got, err = other.AgentByName(t.Context(), "buyer"); err != nil || got.ID != "a2" {
		t.Errorf("the one that has the name now: %+v, %v", got, err)
	}
}

// A revocation ends all that the name was given, and nothing of another's.
func testRevocationVoids(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	o := owner(t, s)
	bot := agent(t, s, "bot")
	agent(t, s, "other")
	for i, r := range []approvals.Request{request("waits", "bot", 1), request("approved", "bot", 2), request("spent", "bot", 3), request("others", "other", 4)} {
		if err := s.Commit(t.Context(), authz.Batch{Open: &r}); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			continue
		}
		answer := approvals.Answer{RequestID: r.ID, ActionHash: r.ActionHash, Approve: true, By: "ann", At: start, GrantFor: time.Hour}
		if err := s.Commit(t.Context(), authz.Batch{Answer: &answer}); err != nil {
			t.Fatal(err)
		}
		if r.ID == "spent" {
			redeem := authz.Redemption{RequestID: r.ID, DecisionID: "d", ActionHash: r.ActionHash.String(), AgentID: "bot", Now: start.UnixMilli()}
			if err := s.Commit(t.Context(), authz.Batch{Redeem: &redeem}); err != nil {
				t.Fatal(err)
			}
		}
	}
	asked := authz.Asked{AgentID: "bot", ActionID: "x", DecisionID: "d1", Outcome: "ALLOW", Now: start.UnixMilli(), Until: start.Add(time.Hour).UnixMilli()}
	if err := s.Commit(t.Context(), authz.Batch{Asked: &asked}); err != nil {
		t.Fatal(err)
	}
	c := identity.AgentChange{AgentID: bot.ID, OwnerID: o.ID, Status: identity.Revoked, By: "cli:ann", Now: start}
	if err := s.Commit(t.Context(), authz.Batch{Agent: &c}); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]approvals.Status{"waits": approvals.Expired, "approved": approvals.Denied, "spent": approvals.Redeemed, "others": approvals.Approved} {
		if r, err := s.Approval(t.Context(), id); err != nil || r.Status != want {
			t.Errorf("%s: want %s, got %s, %v", id, want, r.Status, err)
		}
	}
	_, err := s.Asked(t.Context(), "bot", "x")
	wantErr(t, "what it has asked for", err, authz.ErrNotAsked)
}

func testNonces(t *testing.T, open Open) {
	place := t.TempDir()
	s := open(t, place)
	spend := func(s Store, hash byte, now, until time.Time) error {
		return s.Commit(t.Context(), authz.Batch{Nonce: &authz.Nonce{Hash: [16]byte{hash}, Now: now.UnixMilli(), Until: until.UnixMilli()}})
	}
	if err := spend(s, 1, start, start.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "again", spend(s, 1, start, start.Add(time.Minute)), authz.ErrReplayed)
	s.Close()
	s, other := open(t, place), open(t, place)
	wantErr(t, "after a restart", spend(s, 1, start.Add(time.Minute-time.Millisecond), start.Add(time.Minute)), authz.ErrReplayed)
	won := 0
	for _, err := range race(s, other, func(_ int, s Store) error { return spend(s, 2, start, start.Add(time.Minute)) }) {
		if err == nil {
			won++
		} else if !errors.Is(err, authz.ErrReplayed) {
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("a nonce was spent %d times", won)
	}
	// A batch whose nonce is spent does nothing else.
	r := request("r1", "bot", 1)
	wantErr(t, "a batch", s.Commit(t.Context(), authz.Batch{Nonce: &authz.Nonce{Hash: [16]byte{2}}, Open: &r}), authz.ErrReplayed)
	_, err := s.Approval(t.Context(), "r1")
	wantErr(t, "its request", err, approvals.ErrNotFound)
}

func testAsked(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	a := authz.Asked{
		AgentID: "bot", ActionID: "x", ActionHash: action.Hash{1}, DecisionID: "d1", ActionType: "purchase", PolicyID: "shop",
		Outcome: "ALLOW", Claims: []byte(`{}`), Now: start.UnixMilli(), Until: start.Add(time.Hour).UnixMilli(),
	}
	keep := func(a authz.Asked) error { return s.Commit(t.Context(), authz.Batch{Asked: &a}) }
	_, err := s.Asked(t.Context(), "bot", "x")
	wantErr(t, "nothing yet", err, authz.ErrNotAsked)
	if err := keep(a); err != nil {
		t.Fatal(err)
	}
	for _, find := range []func() (authz.Asked, error){
		func() (authz.Asked, error) { return s.Asked(t.Context(), "bot", "x") },
		func() (authz.Asked, error) { return s.AskedBy(t.Context(), "d1") },
	} {
		got, err := find()
		if err != nil {
			t.Fatal(err)
		}
		got.Now = a.Now
		wantSame(t, "asked", a, got)
	}
	next := a
	next.DecisionID = "d2"
	wantErr(t, "as if it were new", keep(next), authz.ErrAsked)
	next.Was = "d0"
	wantErr(t, "as if it were another", keep(next), authz.ErrAsked)
	next.Was = "d1"
	if err := keep(next); err != nil {
		t.Fatal(err)
	}
	_, err = s.AskedBy(t.Context(), "d1")
	wantErr(t, "what was kept before", err, authz.ErrNotAsked)
	other := a
	other.AgentID, other.DecisionID = "other", "d3"
	if err := keep(other); err != nil {
		t.Errorf("another agent's action of that id: %v", err)
	}
	report := func(id string) error { return s.Commit(t.Context(), authz.Batch{Reported: id}) }
	if err := report("d2"); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "told twice", report("d2"), authz.ErrReported)
	// A refusal gives way to the next decision on the very same action.
	refused := a
	refused.AgentID, refused.DecisionID, refused.Outcome, refused.Claims = "refused", "r1", "DENY", nil
	again, otherwise := refused, refused
	again.DecisionID, again.Outcome = "r2", "REQUIRE_APPROVAL"
	otherwise.DecisionID, otherwise.ActionHash = "r3", action.Hash{2}
	if err := errors.Join(keep(refused), keep(again)); err != nil {
		t.Error(err)
	}
	wantErr(t, "another action of that id", keep(otherwise), authz.ErrAsked)
	if got, err := s.Asked(t.Context(), "refused", "x"); err != nil || got.DecisionID != "r2" || got.Outcome != "REQUIRE_APPROVAL" {
		t.Errorf("%+v, %v", got, err)
	}
	// What is over goes as others come.
	late := start.Add(2 * time.Hour)
	for i := range 100 {
		next := authz.Asked{AgentID: "late", ActionID: fmt.Sprint(i), DecisionID: fmt.Sprint("l", i), Outcome: "DENY", Now: late.UnixMilli(), Until: late.Add(time.Hour).UnixMilli()}
		if err := keep(next); err != nil {
			t.Fatal(err)
		}
	}
	_, err = s.Asked(t.Context(), "bot", "x")
	wantErr(t, "after its time", err, authz.ErrNotAsked)
}
