package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
)

// roundFor is from when to when rounds are open here: from 3 minutes after start.
const roundFor = 10 * time.Minute

// round opens one of request "old", by the decision, with a token of that hash.
func round(decision string, token byte) *authz.RoundOpening {
	r := redeem("old", start)
	return &authz.RoundOpening{RequestID: r.RequestID, DecisionID: decision, ActionHash: r.ActionHash, AgentID: r.AgentID,
		Round: approvals.Round{Hash: [32]byte{token}, Until: start.Add(3*time.Minute + roundFor)}}
}

func opening(o *authz.RoundOpening) authz.Batch { return authz.Batch{OpenRound: o} }

// further spends it.
func further(decision string, token byte, after time.Duration) *authz.Continuation {
	r := redeem("old", start.Add(after))
	r.DecisionID = decision
	return &authz.Continuation{Redemption: *r, Round: [32]byte{token}}
}

func continuing(c *authz.Continuation) authz.Batch { return authz.Batch{Continue: c} }

func testOpenRoundCondition(t *testing.T, open Open) {
	change := func(f func(*authz.RoundOpening)) *authz.RoundOpening {
		o := round(spender, 9)
		f(o)
		return o
	}
	for _, test := range []struct {
		name, life string
		opening    *authz.RoundOpening
		want       error
	}{
		{"redeemed", "redeemed", round(spender, 9), nil},
		{"another decision", "redeemed", round("decision of old", 9), approvals.ErrSpent},
		{"one is open", "in a round", round(spender, 9), approvals.ErrSpent},
		{"after it", "after a round", round("second", 9), nil},
		{"after it, by who was before", "after a round", round(spender, 9), approvals.ErrSpent},
		{"pending", "pending", round("", 9), approvals.ErrNotFound},
		{"approved", "approved", round("", 9), approvals.ErrNotFound},
		{"denied", "denied", round("", 9), approvals.ErrNotFound},
		{"unknown", "redeemed", change(func(o *authz.RoundOpening) { o.RequestID = "other" }), approvals.ErrNotFound},
		{"another agent", "redeemed", change(func(o *authz.RoundOpening) { o.AgentID = "Bot" }), approvals.ErrNotFound},
		{"another action", "redeemed", change(func(o *authz.RoundOpening) { o.ActionHash = action.Hash{1}.String() }), approvals.ErrNotFound},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := live(t, open, test.life)
			before := approval(t, s, "old")
			wantErr(t, "opening", s.Commit(t.Context(), opening(test.opening)), test.want)
			if test.want == nil {
				before.Round = test.opening.Round
				wantRound(t, s, 9, "old")
			} else {
				wantRound(t, s, 9, "")
			}
			wantSame(t, "request", before, approval(t, s, "old"))
		})
	}
	s := live(t, open, "redeemed")
	for name, o := range map[string]*authz.RoundOpening{
		"no hash":  change(func(o *authz.RoundOpening) { o.ActionHash = "" }),
		"no token": change(func(o *authz.RoundOpening) { o.Round.Hash = [32]byte{} }),
		"no end":   change(func(o *authz.RoundOpening) { o.Round.Until = time.Time{} }),
	} {
		if err := s.Commit(t.Context(), opening(o)); err == nil {
			t.Errorf("%s: a round was opened", name)
		}
	}
	wantRound(t, s, 0, "")
}

func approval(t *testing.T, s Store, id string) approvals.Request {
	t.Helper()
	r, err := s.Approval(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// wantRound looks a round up; want is its request, empty for none.
func wantRound(t *testing.T, s Store, token byte, want string) {
	t.Helper()
	r, err := s.RoundApproval(t.Context(), [32]byte{token})
	if want == "" {
		wantErr(t, fmt.Sprintf("round %d", token), err, approvals.ErrNotFound)
	} else if err != nil || r.ID != want || r.Round.Hash != [32]byte{token} {
		t.Errorf("round %d: want that of %s, got %q, %v", token, want, r.ID, err)
	}
}

func testContinueCondition(t *testing.T, open Open) {
	const in, end = 4 * time.Minute, 3*time.Minute + roundFor
	change := func(f func(*authz.Continuation)) *authz.Continuation {
		c := further("next", 1, in)
		f(c)
		return c
	}
	for _, test := range []struct {
		name, life string
		further    *authz.Continuation
		want       error
	}{
		{"open", "in a round", further("next", 1, in), nil},
		{"last moment", "in a round", further("next", 1, end-time.Millisecond), nil},
		{"over", "in a round", further("next", 1, end), approvals.ErrExpired},
		{"another token", "in a round", further("next", 2, in), approvals.ErrSpent},
		{"spent", "after a round", further("next", 1, in), approvals.ErrSpent},
		{"none was opened", "redeemed", further("next", 1, in), approvals.ErrSpent},
		{"none, and no token", "redeemed", further("next", 0, in), approvals.ErrSpent},
		{"approved", "approved", further("next", 1, in), approvals.ErrNotFound},
		{"approved, and no token", "approved", further("next", 0, in), approvals.ErrNotFound},
		{"pending", "pending", further("next", 1, in), approvals.ErrNotFound},
		{"denied", "denied", further("next", 1, in), approvals.ErrNotFound},
		{"unknown", "in a round", change(func(c *authz.Continuation) { c.RequestID = "other" }), approvals.ErrNotFound},
		{"another agent", "in a round", change(func(c *authz.Continuation) { c.AgentID = "Bot" }), approvals.ErrNotFound},
		{"another action", "in a round", change(func(c *authz.Continuation) { c.ActionHash = action.Hash{1}.String() }), approvals.ErrNotFound},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := live(t, open, test.life)
			before := approval(t, s, "old")
			wantErr(t, "continuing", s.Commit(t.Context(), continuing(test.further)), test.want)
			if test.want == nil {
				before.Round, before.Rounds, before.ContinuedBy = approvals.Round{}, before.Rounds+1, "next"
				wantRound(t, s, 1, "")
			}
			wantSame(t, "request", before, approval(t, s, "old"))
		})
	}
	s := live(t, open, "in a round")
	if err := s.Commit(t.Context(), continuing(change(func(c *authz.Continuation) { c.ActionHash = "" }))); err == nil {
		t.Error("a round was spent for no hash at all")
	}
	wantRound(t, s, 1, "old")
}

// A call of many messages leaves one request, in which the last is known, also
// when its process ends between them. Neither grant nor an earlier round is good
// for anything.
func testRounds(t *testing.T, open Open) {
	place := t.TempDir()
	s := open(t, place)
	commit(t, s, ask(request("old", "bot", 1)))
	commit(t, s, lives["redeemed"]...)
	last := spender
	for i := byte(1); i < 5; i++ {
		commit(t, s, opening(round(last, i)))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, place)
		last = fmt.Sprint("decision ", i)
		commit(t, s, continuing(further(last, i, 4*time.Minute)))
		for j := range i {
			wantErr(t, "an earlier round", s.Commit(t.Context(), continuing(further("x", j, 4*time.Minute))), approvals.ErrSpent)
			wantRound(t, s, j, "")
		}
		wantErr(t, "the grant", s.Commit(t.Context(), spend(redeem("old", start.Add(4*time.Minute)))), approvals.ErrSpent)
	}
	r := approval(t, s, "old")
	if r.RedeemedBy != spender || r.Rounds != 4 || r.ContinuedBy != last || r.Status != approvals.Redeemed {
		t.Errorf("%+v", r)
	}
	wantOpen(t, s, "bot", action.Hash{1}, time.Minute, "")
	commit(t, s, ask(request("new", "bot", 1))) // it stands in nobody's way
}

// What fails with a round leaves it open, and nothing in the log.
func testRoundIsWhole(t *testing.T, open Open) {
	s := live(t, open, "in a round")
	commit(t, s, ask(request("waiting", "bot", 2)))
	batch, clash := note("must not be there"), request("clash", "bot", 2)
	batch.Continue, batch.Open = further("next", 1, 4*time.Minute), &clash
	wantErr(t, "committing", s.Commit(t.Context(), batch), authz.ErrOpen)
	wantRound(t, s, 1, "old")
	wantEntries(t, s)

	batch.Open = nil
	batch.Entries[0].Detail = "continued"
	commit(t, s, batch)
	wantRound(t, s, 1, "")
	wantEntries(t, s, "continued")
}

func testContinueRace(t *testing.T, open Open) {
	place := t.TempDir()
	a, b := open(t, place), open(t, place)
	commit(t, a, ask(request("old", "bot", 1)))
	commit(t, a, lives["in a round"]...)
	winner := oneWinner(t, race(a, b, func(i int, s Store) error {
		batch := note(fmt.Sprint(i))
		batch.Continue = further(fmt.Sprint("decision ", i), 1, 4*time.Minute)
		return s.Commit(t.Context(), batch)
	}), approvals.ErrSpent)
	if r := approval(t, b, "old"); r.ContinuedBy != fmt.Sprint("decision ", winner) || r.Rounds != 1 {
		t.Errorf("decision %d won, but the round was spent by %s, and %d have run", winner, r.ContinuedBy, r.Rounds)
	}
	wantEntries(t, b, fmt.Sprint(winner))
}

func testOpenRoundRace(t *testing.T, open Open) {
	place := t.TempDir()
	a, b := open(t, place), open(t, place)
	commit(t, a, ask(request("old", "bot", 1)))
	commit(t, a, lives["redeemed"]...)
	winner := oneWinner(t, race(a, b, func(i int, s Store) error {
		return s.Commit(t.Context(), opening(round(spender, byte(i+1))))
	}), approvals.ErrSpent)
	wantRound(t, b, byte(winner+1), "old")
}
