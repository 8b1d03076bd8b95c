package storetest

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
)

// given is a standing grant on request id, with the answer that gives it.
func given(t *testing.T, s Store, id string, terms approvals.Terms) authz.Batch {
	t.Helper()
	r, err := s.Approval(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	g, err := r.Standing("grant of "+id, terms, "portal:alice", start)
	if err != nil {
		t.Fatal(err)
	}
	answer := approve(id, start)
	answer.ActionHash = r.ActionHash
	return authz.Batch{Answer: answer, Grant: &g}
}

// withGrant is a store with one grant: on request "old" of agent bot and intent 1.
func withGrant(t *testing.T, open Open, terms approvals.Terms) Store {
	t.Helper()
	s := open(t, t.TempDir())
	commit(t, s, ask(request("old", "bot", 1)))
	commit(t, s, given(t, s, "old", terms))
	return s
}

const standing = "grant of old"

// use is one use of the grant, by a call of its own.
func use(t *testing.T, s Store, id string, intent byte, now time.Time, change ...func(*approvals.Request)) authz.Batch {
	t.Helper()
	g, err := s.Grant(t.Context(), standing)
	if err != nil {
		t.Fatal(err)
	}
	r := request(id, "bot", intent)
	r.CreatedAt = now
	for _, f := range change {
		f(&r)
	}
	r.ActionHash = r.Action.Hash()
	return authz.Batch{UseGrant: &authz.GrantUse{GrantID: g.ID, Request: g.Use(r), Now: now}}
}

func wantUsed(t *testing.T, s Store, want int) {
	t.Helper()
	g, err := s.Grant(t.Context(), standing)
	if err != nil {
		t.Fatal(err)
	}
	if g.Used != want {
		t.Errorf("the grant: want %d uses, got %d", want, g.Used)
	}
}

func testGrant(t *testing.T, open Open) {
	s := withGrant(t, open, approvals.Terms{Uses: 3, For: time.Hour, Bounds: []approvals.Bound{
		{Path: "$.payload.arguments.amount", Op: approvals.AtMost, Values: []action.Value{action.IntValue(9007199254740993)}},
		{Path: "$.payload.arguments.text", Op: approvals.Any},
	}})
	g, err := s.Grant(t.Context(), standing)
	if err != nil {
		t.Fatal(err)
	}
	old, err := s.Approval(t.Context(), "old")
	if err != nil {
		t.Fatal(err)
	}
	want, err := request("old", "bot", 1).Standing(standing, approvals.Terms{Uses: 3, For: time.Hour, Bounds: g.Bounds}, "portal:alice", start)
	if err != nil {
		t.Fatal(err)
	}
	want.Request = old
	wantSame(t, "grant", want, g)
	if len(g.Bounds) != 3 || old.Status != approvals.Approved {
		t.Errorf("bounds %v of a request that is %s", g.Bounds, old.Status)
	}
	byRequest, err := s.RequestGrant(t.Context(), "old")
	wantErr(t, "the grant of a request", err, nil)
	wantSame(t, "the grant of a request", g, byRequest)
	_, err = s.RequestGrant(t.Context(), "other")
	wantErr(t, "the grant of no request", err, approvals.ErrNotFound)
	_, err = s.Grant(t.Context(), "other")
	wantErr(t, "no grant", err, approvals.ErrNotFound)

	commit(t, s, use(t, s, "r2", 2, start.Add(time.Minute)))
	wantUsed(t, s, 2)
	wantStatus(t, s, "old", approvals.Approved)
	r, err := s.Approval(t.Context(), "r2")
	if err != nil {
		t.Fatal(err)
	}
	asked := request("r2", "bot", 2)
	asked.CreatedAt = start.Add(time.Minute)
	asked.LastAsked = asked.CreatedAt
	wantSame(t, "the request of a use", g.Use(asked), r)

	next := request("r3", "bot", 3)
	next.CreatedAt = start.Add(time.Hour)
	last, err := s.LastApproved(t.Context(), next)
	wantErr(t, "what a person has approved last", err, nil)
	tally, err := s.Tally(t.Context(), r, start)
	if err != nil || last.ID != "old" || tally != (approvals.Tally{Kind: 1}) {
		t.Errorf("a use counts as a person's answer: %s was approved last, %+v, %v", last.ID, tally, err)
	}
}

func testGiveCondition(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	commit(t, s, ask(request("old", "bot", 1)))
	give := given(t, s, "old", approvals.Terms{})
	alone := give
	alone.Answer = nil
	if s.Commit(t.Context(), alone) == nil {
		t.Error("a grant was given without an answer")
	}
	denied := give
	denied.Answer = deny("old", start)
	if s.Commit(t.Context(), denied) == nil {
		t.Error("a grant was given with a denial")
	}
	other := *give.Grant
	other.Request.ActionHash = action.Hash{9}
	changed := give
	changed.Grant = &other
	wantErr(t, "giving one that was made of another action", s.Commit(t.Context(), changed), approvals.ErrAnswered)
	wantStatus(t, s, "old", approvals.Pending)

	late := give
	late.Answer = approve("old", start.Add(time.Hour))
	wantErr(t, "giving one too late", s.Commit(t.Context(), late), approvals.ErrExpired)
	commit(t, s, give)
	wantErr(t, "giving it again", s.Commit(t.Context(), give), approvals.ErrAnswered)
	list, err := s.Grants(t.Context(), ownerID, 0)
	if err != nil || len(list) != 1 {
		t.Errorf("want one grant, got %d, %v", len(list), err)
	}
}

func testUseCondition(t *testing.T, open Open) {
	last := start.Add(time.Hour - time.Millisecond)
	for _, test := range []struct {
		name   string
		before func(t *testing.T, s Store)
		use    func(t *testing.T, s Store) authz.Batch
		want   error
	}{
		{"last moment", nil, func(t *testing.T, s Store) authz.Batch { return use(t, s, "new", 2, last) }, nil},
		{"over", nil, func(t *testing.T, s Store) authz.Batch { return use(t, s, "new", 2, start.Add(time.Hour)) }, approvals.ErrExpired},
		{"unknown", nil, func(t *testing.T, s Store) authz.Batch {
			b := use(t, s, "new", 2, last)
			b.UseGrant.GrantID = "other"
			return b
		}, approvals.ErrNotFound},
		{"another agent", nil, func(t *testing.T, s Store) authz.Batch {
			return use(t, s, "new", 2, last, func(r *approvals.Request) { r.AgentID = "Bot" })
		}, approvals.ErrNotFound},
		{"another action", nil, func(t *testing.T, s Store) authz.Batch {
			return use(t, s, "new", 2, last, func(r *approvals.Request) { r.Action.Payload = action.ObjectValue() })
		}, approvals.ErrNotFound},
		{"withdrawn", func(t *testing.T, s Store) {
			commit(t, s, authz.Batch{Withdraw: &approvals.Withdrawal{GrantID: standing, By: "cli:alice", At: start}})
		}, func(t *testing.T, s Store) authz.Batch { return use(t, s, "new", 2, last) }, approvals.ErrWithdrawn},
		{"used up", func(t *testing.T, s Store) { commit(t, s, use(t, s, "second", 3, last)) },
			func(t *testing.T, s Store) authz.Batch { return use(t, s, "new", 2, last) }, approvals.ErrSpent},
		{"its own approval waits", nil, func(t *testing.T, s Store) authz.Batch { return use(t, s, "new", 1, start.Add(time.Minute)) }, authz.ErrOpen},
		{"a request waits", func(t *testing.T, s Store) { commit(t, s, ask(request("waiting", "bot", 2))) },
			func(t *testing.T, s Store) authz.Batch { return use(t, s, "new", 2, start.Add(time.Minute)) }, authz.ErrOpen},
		{"denied meanwhile", func(t *testing.T, s Store) {
			commit(t, s, ask(request("waiting", "bot", 2)), answer(deny("waiting", start.Add(time.Minute))))
		}, func(t *testing.T, s Store) authz.Batch { return use(t, s, "new", 2, start.Add(time.Minute)) }, authz.ErrOpen},
		{"denied before", func(t *testing.T, s Store) {
			commit(t, s, ask(request("waiting", "bot", 2)), answer(deny("waiting", start.Add(time.Minute))))
		}, func(t *testing.T, s Store) authz.Batch { return use(t, s, "new", 2, start.Add(2*time.Minute)) }, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := withGrant(t, open, approvals.Terms{Uses: 2, For: time.Hour})
			if test.before != nil {
				test.before(t, s)
			}
			g, err := s.Grant(t.Context(), standing)
			if err != nil {
				t.Fatal(err)
			}
			b := test.use(t, s)
			b.Entries = note("used").Entries
			wantErr(t, "using it", s.Commit(t.Context(), b), test.want)
			_, err = s.Approval(t.Context(), "new")
			if test.want != nil {
				wantErr(t, "the request of no use", err, approvals.ErrNotFound)
				wantUsed(t, s, g.Used)
				wantEntries(t, s)
				return
			}
			wantErr(t, "the request of the use", err, nil)
			wantUsed(t, s, g.Used+1)
			wantEntries(t, s, "used")
		})
	}
}

// What a use runs by is in the same commit as what it is charged: if that has no room,
// no use is taken.
func testUseIsWhole(t *testing.T, open Open) {
	s := withGrant(t, open, approvals.Terms{})
	b := use(t, s, "new", 2, start.Add(time.Minute))
	b.Reserve = &authz.Reservation{DecisionID: "d", AgentID: "bot", ActionID: "a", ActionHash: action.Hash{1}.String(), Now: start.UnixMilli(),
		Charges: []authz.Charge{{Limit: "p/daily", Key: "[]", Amount: 11, Max: 10, From: 0}}}
	if err := s.Commit(t.Context(), b); !errors.As(err, new(*authz.LimitError)) {
		t.Errorf("want a LimitError, got %v", err)
	}
	wantUsed(t, s, 1)
	_, err := s.Approval(t.Context(), "new")
	wantErr(t, "its request", err, approvals.ErrNotFound)
}

func testWithdraw(t *testing.T, open Open) {
	at := start.Add(2 * time.Minute)
	byApproval := authz.Batch{Withdraw: &approvals.Withdrawal{RequestID: "old", By: "cli:alice", Reason: "not now", At: at}}
	for life, test := range map[string]struct {
		want error
		then approvals.Status
	}{
		"approved": {nil, approvals.Denied}, "pending": {approvals.ErrAnswered, approvals.Pending},
		"denied": {approvals.ErrAnswered, approvals.Denied}, "redeemed": {approvals.ErrSpent, approvals.Redeemed},
	} {
		t.Run("approval "+life, func(t *testing.T) {
			s := live(t, open, life)
			wantErr(t, "withdrawing", s.Commit(t.Context(), byApproval), test.want)
			wantStatus(t, s, "old", test.then)
			if test.want != nil {
				return
			}
			r, err := s.Approval(t.Context(), "old")
			if err != nil || r.DenyReason != "the approval was withdrawn: not now" || r.AnsweredBy != "cli:alice" || !r.AnsweredAt.Equal(at) {
				t.Errorf("%+v, %v", r, err)
			}
			wantErr(t, "redeeming", s.Commit(t.Context(), spend(redeem("old", at))), approvals.ErrAnswered)
			wantErr(t, "withdrawing again", s.Commit(t.Context(), byApproval), approvals.ErrAnswered)
		})
	}
	byGrant := authz.Batch{Withdraw: &approvals.Withdrawal{GrantID: standing, By: "cli:alice", At: at}}
	t.Run("grant", func(t *testing.T) {
		s := withGrant(t, open, approvals.Terms{Uses: 5})
		commit(t, s, byGrant)
		g, err := s.Grant(t.Context(), standing)
		if err != nil || !g.WithdrawnAt.Equal(at) || g.WithdrawnBy != "cli:alice" {
			t.Errorf("%+v, %v", g, err)
		}
		wantStatus(t, s, "old", approvals.Denied) // its first use, which nobody has spent
		wantErr(t, "withdrawing again", s.Commit(t.Context(), byGrant), approvals.ErrWithdrawn)
	})
	t.Run("grant, its request run", func(t *testing.T) {
		s := withGrant(t, open, approvals.Terms{Uses: 2})
		commit(t, s, spend(redeem("old", at)), byGrant)
		wantStatus(t, s, "old", approvals.Redeemed)
	})
	t.Run("grant used up", func(t *testing.T) {
		s := withGrant(t, open, approvals.Terms{Uses: 2})
		commit(t, s, spend(redeem("old", at)), use(t, s, "new", 2, at))
		wantErr(t, "withdrawing", s.Commit(t.Context(), byGrant), approvals.ErrSpent)
	})
}

func testGrants(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	for i, id := range []string{"r1", "r2", "r3", "r4", "r5", "r6"} {
		r := request(id, "bot", byte(i))
		if id == "r5" {
			r.AgentID, r.Action.AgentID = "other", "other"
			r.ActionHash = r.Action.Hash()
		}
		commit(t, s, ask(r))
		commit(t, s, given(t, s, id, approvals.Terms{For: time.Duration(6-i%3) * time.Hour, Uses: 2}))
	}
	commit(t, s, authz.Batch{Withdraw: &approvals.Withdrawal{GrantID: "grant of r4", By: "cli:alice", At: start}})
	ids := func(list []approvals.Grant, err error) (ids []string) {
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range list {
			ids = append(ids, g.Request.ID)
		}
		return ids
	}
	wantSame(t, "all", []string{"r6", "r5", "r4", "r3", "r2", "r1"}, ids(s.Grants(t.Context(), ownerID, 0)))
	wantSame(t, "the newest", []string{"r6", "r5"}, ids(s.Grants(t.Context(), ownerID, 2)))
	wantSame(t, "another owner's", []string(nil), ids(s.Grants(t.Context(), "x", 0)))
	live := func(agent, actionType string, at time.Time) []string {
		return ids(s.LiveGrants(t.Context(), agent, actionType, at))
	}
	wantSame(t, "live", []string{"r3", "r6", "r2", "r1"}, live("bot", "mcp.shop.buy", start))
	wantSame(t, "live later", []string{"r2", "r1"}, live("bot", "mcp.shop.buy", start.Add(4*time.Hour)))
	wantSame(t, "live of other", []string{"r5"}, live("other", "mcp.shop.buy", start))
	wantSame(t, "live for another", []string(nil), live("bot", "mcp.shop.sell", start))
}

// Of uses that race as many count as there are left.
func testUseRace(t *testing.T, open Open) {
	const uses = 10
	place := t.TempDir()
	a, b := open(t, place), open(t, place)
	commit(t, a, ask(request("old", "bot", 1)))
	commit(t, a, given(t, a, "old", approvals.Terms{Uses: uses}))
	var won atomic.Int32
	for i, err := range race(a, b, func(i int, s Store) error {
		return s.Commit(t.Context(), use(t, s, fmt.Sprint("r", i), byte(2+i), start))
	}) {
		if err == nil {
			won.Add(1)
			continue
		}
		wantErr(t, fmt.Sprintf("loser %d", i), err, approvals.ErrSpent)
	}
	if won.Load() != uses-1 { // the first is that of its request
		t.Errorf("%d uses counted, want %d", won.Load(), uses-1)
	}
	wantUsed(t, b, uses)
	list, err := b.Approvals(t.Context(), ownerID, approvals.Redeemed, 0)
	if err != nil || len(list) != uses-1 {
		t.Errorf("%d requests were let through, want %d (%v)", len(list), uses-1, err)
	}
}
