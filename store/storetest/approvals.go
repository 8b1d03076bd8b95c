package storetest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
)

func testRequest(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	want := request("r1", "bot", 1)
	outside := request("r2", "bot", 2)
	outside.Server, outside.Tool, outside.ToolInfo = "", "", action.Value{}
	outside.Overshoots = []approvals.Overshoot{
		{Limit: "p/daily", Key: `["bot","a.example"]`, Window: "24h", Currency: "EUR", Max: 100, Used: 9007199254740991, Held: 5, Amount: 7},
		{Limit: "p/hourly", Window: "1h", Doubt: "$.payload.amount_minor is missing"},
	}
	commit(t, s, ask(want), ask(outside))

	for _, want := range []approvals.Request{want, outside} {
		got, err := s.Approval(t.Context(), want.ID)
		if err != nil {
			t.Fatal(err)
		}
		wantSame(t, "request "+want.ID, want, got)
		if got.Action.Hash() != want.ActionHash {
			t.Errorf("request %s: its action hashes to %s, want %s", want.ID, got.Action.Hash(), want.ActionHash)
		}
		if text := got.Action.Payload.Get("arguments").Get("amount").Text(); text != "9007199254740993" {
			t.Errorf("request %s: amount came back as %s", want.ID, text)
		}
	}
	_, err := s.Approval(t.Context(), "r3")
	wantErr(t, "unknown request", err, approvals.ErrNotFound)
}

// The last approved of a kind is the newest before, of the same agent, server, tool and
// action type, whatever became of its grant.
func testLastApproved(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	at := func(id, agent string, intent byte, after time.Duration) approvals.Request {
		r := request(id, agent, intent)
		r.CreatedAt = start.Add(after)
		return r
	}
	otherType := at("other type", "bot", 4, 3*time.Minute)
	otherType.Action.ActionType = "mail.send"
	otherType.ActionHash = otherType.Action.Hash()
	otherTool := at("other tool", "bot", 5, 3*time.Minute)
	otherTool.Tool = "sell"
	list := []approvals.Request{at("first", "bot", 1, 0), at("second", "bot", 2, time.Minute), at("denied", "bot", 3, 2*time.Minute), otherType, otherTool,
		at("of another", "Bot", 1, 3*time.Minute), at("this", "bot", 6, 5*time.Minute), at("later", "bot", 7, 6*time.Minute)}
	for _, r := range list {
		commit(t, s, ask(r))
		switch {
		case r.ID == "denied":
			commit(t, s, answer(deny(r.ID, r.CreatedAt)))
		case r.ID != "this":
			commit(t, s, answer(approveShown(r, r.CreatedAt)))
		}
	}
	commit(t, s, spend(redeem("first", start)))
	for of, want := range map[int]string{6: "second", 7: "second", 1: "first", 3: "", 0: ""} {
		got, err := s.LastApproved(t.Context(), list[of])
		if want == "" {
			wantErr(t, "before "+list[of].ID, err, approvals.ErrNotFound)
		} else if err != nil || got.ID != want {
			t.Errorf("before %q there was %q, %v; want %q", list[of].ID, got.ID, err, want)
		}
	}
}

// Each life is what has become of request "old" of agent bot and intent 1.
var lives = map[string][]authz.Batch{
	"pending":  {},
	"approved": {answer(approve("old", start.Add(time.Minute)))}, // until 11 minutes after start
	"denied":   {answer(deny("old", start.Add(time.Minute)))},
	"redeemed": used,

	"in a round":    slices.Concat(used, []authz.Batch{opening(round(spender, 1))}), // until 13 minutes after start
	"after a round": slices.Concat(used, []authz.Batch{opening(round(spender, 1)), continuing(further("second", 1, 4*time.Minute))}),
}

var used = []authz.Batch{answer(approve("old", start.Add(time.Minute))), spend(redeem("old", start.Add(2*time.Minute)))}

// live makes request "old" and lets it live.
func live(t *testing.T, open Open, life string) Store {
	t.Helper()
	batches, ok := lives[life]
	if !ok {
		t.Fatalf("no such life: %s", life)
	}
	s := open(t, t.TempDir())
	commit(t, s, ask(request("old", "bot", 1)))
	commit(t, s, batches...)
	return s
}

func testOpenCondition(t *testing.T, open Open) {
	const ms = time.Millisecond
	for _, test := range []struct {
		life   string
		agent  string
		intent byte
		after  time.Duration // from start
		want   error
		old    approvals.Status // afterwards
	}{
		{"pending", "bot", 1, 0, authz.ErrOpen, approvals.Pending},
		{"pending", "bot", 1, time.Hour - ms, authz.ErrOpen, approvals.Pending},
		{"pending", "bot", 1, time.Hour, nil, approvals.Expired},
		{"pending", "bot", 2, 0, nil, approvals.Pending},
		{"pending", "Bot", 1, 0, nil, approvals.Pending},
		{"approved", "bot", 1, 11*time.Minute - ms, authz.ErrOpen, approvals.Approved},
		{"approved", "bot", 1, 11 * time.Minute, nil, approvals.Expired},
		{"approved", "bot", 2, 2 * time.Minute, nil, approvals.Approved},
		{"denied", "bot", 1, 2 * time.Minute, nil, approvals.Denied},
		{"redeemed", "bot", 1, 3 * time.Minute, nil, approvals.Redeemed},
	} {
		t.Run(fmt.Sprintf("%s/%s/%d/%s", test.life, test.agent, test.intent, test.after), func(t *testing.T) {
			s := live(t, open, test.life)
			r := request("new", test.agent, test.intent)
			r.CreatedAt, r.ExpiresAt = start.Add(test.after), start.Add(test.after+time.Hour)
			wantErr(t, "opening", s.Commit(t.Context(), ask(r)), test.want)
			wantStatus(t, s, "old", test.old)
			_, err := s.Approval(t.Context(), "new")
			if test.want != nil {
				wantErr(t, "the new request", err, approvals.ErrNotFound)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func wantStatus(t *testing.T, s Store, id string, want approvals.Status) {
	t.Helper()
	r, err := s.Approval(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if r.Status != want {
		t.Errorf("request %s: want %s, got %s", id, want, r.Status)
	}
}

func testOpenRefusesOtherHash(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	r := request("r1", "bot", 1)
	r.ActionHash = action.Hash{1}
	if err := s.Commit(t.Context(), ask(r)); err == nil {
		t.Error("a request was opened whose hash is not that of its action")
	}
	r = request("r1", "bot", 1)
	r.Status, r.GrantUntil = approvals.Approved, start.Add(time.Hour)
	commit(t, s, ask(r))
	wantStatus(t, s, "r1", approvals.Pending) // nobody opens a request that is approved
}

func testAnswerCondition(t *testing.T, open Open) {
	last, late := start.Add(time.Hour-time.Millisecond), start.Add(time.Hour)
	for _, test := range []struct {
		name   string
		life   string
		answer *approvals.Answer
		want   error
		status approvals.Status
	}{
		{"approve", "pending", approve("old", last), nil, approvals.Approved},
		{"deny", "pending", deny("old", last), nil, approvals.Denied},
		{"approve late", "pending", approve("old", late), approvals.ErrExpired, approvals.Pending},
		{"deny late", "pending", deny("old", late), nil, approvals.Denied},
		{"approve approved", "approved", approve("old", last), approvals.ErrAnswered, approvals.Approved},
		{"deny approved", "approved", deny("old", last), approvals.ErrAnswered, approvals.Approved},
		{"approve denied", "denied", approve("old", last), approvals.ErrAnswered, approvals.Denied},
		{"deny denied", "denied", deny("old", last), approvals.ErrAnswered, approvals.Denied},
		{"deny redeemed", "redeemed", deny("old", last), approvals.ErrAnswered, approvals.Redeemed},
		{"approve unknown", "pending", approve("other", last), approvals.ErrNotFound, approvals.Pending},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := live(t, open, test.life)
			before, err := s.Approval(t.Context(), "old")
			if err != nil {
				t.Fatal(err)
			}
			wantErr(t, "answering", s.Commit(t.Context(), answer(test.answer)), test.want)
			wantStatus(t, s, "old", test.status)
			after, err := s.Approval(t.Context(), "old")
			if err != nil {
				t.Fatal(err)
			}
			if test.want == nil {
				before = before.Answered(*test.answer)
			}
			wantSame(t, "request", before, after)
		})
	}
	t.Run("written expired", func(t *testing.T) { testAnswerExpired(t, open) })
}

// A request that was written down as expired can be denied if nobody answered
// it, and never approved.
func testAnswerExpired(t *testing.T, open Open) {
	for life, denied := range map[string]error{"pending": nil, "approved": approvals.ErrAnswered} {
		s := live(t, open, life)
		newer := request("new", "bot", 1)
		newer.CreatedAt, newer.ExpiresAt = start.Add(2*time.Hour), start.Add(3*time.Hour)
		commit(t, s, ask(newer))
		wantStatus(t, s, "old", approvals.Expired)
		if err := s.Commit(t.Context(), answer(approve("old", start.Add(2*time.Minute)))); err == nil {
			t.Errorf("%s, then expired: it was approved", life)
		}
		wantErr(t, life+", then expired: denying", s.Commit(t.Context(), answer(deny("old", start.Add(2*time.Hour)))), denied)
	}
}

func testRedeemCondition(t *testing.T, open Open) {
	in, last, over := start.Add(2*time.Minute), start.Add(11*time.Minute-time.Millisecond), start.Add(11*time.Minute)
	change := func(f func(*authz.Redemption)) *authz.Redemption {
		r := redeem("old", in)
		f(r)
		return r
	}
	for _, test := range []struct {
		name   string
		life   string
		redeem *authz.Redemption
		want   error
	}{
		{"approved", "approved", redeem("old", in), nil},
		{"last moment", "approved", redeem("old", last), nil},
		{"over", "approved", redeem("old", over), approvals.ErrExpired},
		{"spent", "redeemed", redeem("old", in), approvals.ErrSpent},
		{"spent and over", "redeemed", redeem("old", over), approvals.ErrSpent},
		{"pending", "pending", redeem("old", in), approvals.ErrAnswered},
		{"pending and over", "pending", redeem("old", start.Add(time.Hour)), approvals.ErrExpired},
		{"denied", "denied", redeem("old", in), approvals.ErrAnswered},
		{"unknown", "approved", redeem("other", in), approvals.ErrNotFound},
		{"another agent", "approved", change(func(r *authz.Redemption) { r.AgentID = "Bot" }), approvals.ErrNotFound},
		{"another action", "approved", change(func(r *authz.Redemption) { r.ActionHash = action.Hash{1}.String() }), approvals.ErrNotFound},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := live(t, open, test.life)
			before, err := s.Approval(t.Context(), "old")
			if err != nil {
				t.Fatal(err)
			}
			wantErr(t, "redeeming", s.Commit(t.Context(), spend(test.redeem)), test.want)
			after, err := s.Approval(t.Context(), "old")
			if err != nil {
				t.Fatal(err)
			}
			if test.want == nil {
				before.Status, before.RedeemedBy = approvals.Redeemed, test.redeem.DecisionID
			}
			wantSame(t, "request", before, after)
		})
	}
	t.Run("no hash", func(t *testing.T) {
		s := live(t, open, "approved")
		if err := s.Commit(t.Context(), spend(change(func(r *authz.Redemption) { r.ActionHash = "" }))); err == nil {
			t.Error("a grant was redeemed for no hash at all")
		}
		wantStatus(t, s, "old", approvals.Approved)
	})
}

func testSupersede(t *testing.T, open Open) {
	for _, test := range []struct {
		life string
		want error
		old  approvals.Status
	}{
		{"pending", nil, approvals.Expired},
		{"approved", nil, approvals.Expired},
		{"denied", approvals.ErrAnswered, approvals.Denied},
		{"redeemed", approvals.ErrSpent, approvals.Redeemed},
	} {
		t.Run(test.life, func(t *testing.T) {
			s := live(t, open, test.life)
			batch := ask(request("new", "bot", 1)) // at the same time: old is not over
			batch.Supersede = "old"
			wantErr(t, "superseding", s.Commit(t.Context(), batch), test.want)
			wantStatus(t, s, "old", test.old)
			if test.want == nil {
				wantStatus(t, s, "new", approvals.Pending)
				wantErr(t, "redeeming what was superseded", s.Commit(t.Context(), spend(redeem("old", start.Add(2*time.Minute)))), approvals.ErrExpired)
				batch.Open = nil
				wantErr(t, "superseding again", s.Commit(t.Context(), batch), approvals.ErrExpired)
			}
			batch.Supersede = "other"
			wantErr(t, "superseding an unknown one", s.Commit(t.Context(), batch), approvals.ErrNotFound)
		})
	}
}

// A batch whose condition fails leaves nothing behind, whatever else is in it.
func testBatchIsWhole(t *testing.T, open Open) {
	s := live(t, open, "approved")
	commit(t, s, ask(request("waiting", "bot", 2)))
	batch := note("must not be there")
	clash := request("clash", "bot", 2)
	batch.Redeem, batch.Open = redeem("old", start.Add(2*time.Minute)), &clash
	wantErr(t, "committing", s.Commit(t.Context(), batch), authz.ErrOpen)
	wantStatus(t, s, "old", approvals.Approved)
	wantEntries(t, s)

	batch.Open = nil
	batch.Entries[0].Detail = "spent"
	commit(t, s, batch)
	wantStatus(t, s, "old", approvals.Redeemed)
	wantEntries(t, s, "spent")
}

func testOpenApproval(t *testing.T, open Open) {
	intent := action.Hash{1}
	for _, test := range []struct{ life, want string }{
		{"pending", "old"}, {"approved", "old"}, {"denied", "old"}, {"redeemed", ""},
	} {
		t.Run(test.life, func(t *testing.T) {
			s := live(t, open, test.life)
			wantOpen(t, s, "bot", intent, 2*time.Minute, test.want)
			wantOpen(t, s, "Bot", intent, 2*time.Minute, "")
			wantOpen(t, s, "bot", action.Hash{2}, 2*time.Minute, "")
			wantOpen(t, s, "bot", intent, 2*time.Hour, "") // its time is over
		})
	}
	t.Run("asked for after the denial", func(t *testing.T) {
		s := live(t, open, "denied")
		newer := request("new", "bot", 1)
		newer.CreatedAt = start.Add(2 * time.Minute)
		commit(t, s, ask(newer))
		wantOpen(t, s, "bot", intent, 3*time.Minute, "new")
	})
	// A call that was on its way when the owner said no asks after all. It does not take
	// the denial back, neither while it waits nor when its time is over.
	t.Run("asked for before the denial, and stored after it", func(t *testing.T) {
		s := live(t, open, "denied")
		late := request("late", "bot", 1)
		late.CreatedAt, late.ExpiresAt = start.Add(time.Second), start.Add(5*time.Minute)
		commit(t, s, ask(late))
		wantOpen(t, s, "bot", intent, 2*time.Minute, "old")
		wantOpen(t, s, "bot", intent, 6*time.Minute, "old")
		commit(t, s, answer(approve("late", start.Add(3*time.Minute))))
		wantOpen(t, s, "bot", intent, 4*time.Minute, "late") // that was the last word
	})
	t.Run("expired, and asked for after a denial that lasts", func(t *testing.T) {
		s := live(t, open, "denied")
		short := request("short", "bot", 1)
		short.CreatedAt, short.ExpiresAt = start.Add(2*time.Minute), start.Add(3*time.Minute)
		commit(t, s, ask(short))
		wantOpen(t, s, "bot", intent, 4*time.Minute, "old")
	})
}

// denyTTL is how long a denial matters, in wantOpen.
const denyTTL = 15 * time.Minute

// wantOpen wants that request as the one that matters, so long after the start.
func wantOpen(t *testing.T, s Store, agent string, intent action.Hash, after time.Duration, want string) {
	t.Helper()
	now := start.Add(after)
	r, err := s.OpenApproval(t.Context(), agent, intent, now, now.Add(-denyTTL))
	if want == "" {
		wantErr(t, "open request of "+agent, err, approvals.ErrNotFound)
	} else if err != nil || r.ID != want {
		t.Errorf("open request of %s after %v: want %s, got %q, %v", agent, after, want, r.ID, err)
	}
}

func testApprovals(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	for i, id := range []string{"r1", "r2", "r3", "r4"} {
		r := request(id, "bot", byte(i))
		r.CreatedAt = start.Add(time.Duration(i/2) * time.Minute) // r1 and r2, r3 and r4 at the same instant
		commit(t, s, ask(r))
	}
	other := request("r5", "bot", 9)
	other.OwnerID = "99999999-2222-4333-8444-555555555555"
	commit(t, s, ask(other), answer(deny("r2", start)), answer(approve("r3", start)))
	for _, test := range []struct {
		owner  string
		status approvals.Status
		limit  int
		want   []string
	}{
		{ownerID, "", 10, []string{"r4", "r3", "r2", "r1"}},
		{ownerID, "", 3, []string{"r4", "r3", "r2"}},
		{ownerID, "", 0, []string{"r4", "r3", "r2", "r1"}},
		{ownerID, approvals.Pending, 10, []string{"r4", "r1"}},
		{ownerID, approvals.Pending, 1, []string{"r4"}},
		{ownerID, approvals.Approved, 10, []string{"r3"}},
		{ownerID, approvals.Redeemed, 10, nil},
		{other.OwnerID, "", 10, []string{"r5"}},
		{"", "", 10, nil},
	} {
		list, err := s.Approvals(t.Context(), test.owner, test.status, test.limit)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range list {
			got = append(got, r.ID)
		}
		wantSame(t, fmt.Sprintf("owner %q, status %q, limit %d", test.owner, test.status, test.limit), test.want, got)
	}
}

func testOpenRace(t *testing.T, open Open) {
	place := t.TempDir()
	a, b := open(t, place), open(t, place)
	winner := oneWinner(t, race(a, b, func(i int, s Store) error {
		batch := note(fmt.Sprint(i))
		r := request(fmt.Sprint("r", i), "bot", 1)
		batch.Open = &r
		return s.Commit(t.Context(), batch)
	}), authz.ErrOpen)
	wantOpen(t, a, "bot", action.Hash{1}, time.Minute, fmt.Sprint("r", winner))
	wantEntries(t, b, fmt.Sprint(winner))
}

func testAnswerRace(t *testing.T, open Open) {
	place := t.TempDir()
	a, b := open(t, place), open(t, place)
	commit(t, a, ask(request("r1", "bot", 1)))
	winner := oneWinner(t, race(a, b, func(i int, s Store) error {
		give := approve("r1", start)
		if i%3 == 0 {
			give = deny("r1", start)
		}
		give.By = fmt.Sprint("owner ", i)
		return s.Commit(t.Context(), answer(give))
	}), approvals.ErrAnswered)
	r, err := b.Approval(t.Context(), "r1")
	if err != nil {
		t.Fatal(err)
	}
	want := approvals.Approved
	if winner%3 == 0 {
		want = approvals.Denied
	}
	if r.Status != want || r.AnsweredBy != fmt.Sprint("owner ", winner) {
		t.Errorf("owner %d won with %s, but the request is %s by %s", winner, want, r.Status, r.AnsweredBy)
	}
}

func testRedeemRace(t *testing.T, open Open) {
	place := t.TempDir()
	a, b := open(t, place), open(t, place)
	commit(t, a, ask(request("r1", "bot", 1)), answer(approve("r1", start)))
	winner := oneWinner(t, race(a, b, func(i int, s Store) error {
		r := redeem("r1", start)
		r.DecisionID = fmt.Sprint("decision ", i)
		return s.Commit(t.Context(), spend(r))
	}), approvals.ErrSpent)
	r, err := b.Approval(t.Context(), "r1")
	if err != nil {
		t.Fatal(err)
	}
	if r.RedeemedBy != fmt.Sprint("decision ", winner) {
		t.Errorf("decision %d won, but the grant was spent by %s", winner, r.RedeemedBy)
	}
}

// An answer that is given in one process wakes who waits in another.
func testWaitAcrossProcesses(t *testing.T, open Open) {
	place := t.TempDir()
	a, b := open(t, place), open(t, place)
	r := request("r1", "bot", 1)
	r.CreatedAt = time.Now()
	r.ExpiresAt = r.CreatedAt.Add(time.Hour)
	commit(t, a, ask(r))
	woken := make(chan approvals.Request)
	go func() {
		got, err := approvals.Wait(t.Context(), b, "r1")
		if err != nil {
			t.Error(err)
		}
		woken <- got
	}()
	select {
	case got := <-woken:
		t.Fatalf("woken before the answer, with %s", got.Status)
	case <-time.After(200 * time.Millisecond):
	}
	commit(t, a, answer(deny("r1", time.Now())))
	if got := <-woken; got.Status != approvals.Denied || got.DenyReason != "too expensive" {
		t.Errorf("want DENIED with its reason, got %s %q", got.Status, got.DenyReason)
	}
}

// Who has left gets nothing done, and is told so.
func testCommitCancelled(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 {
		wantErr(t, "committing", s.Commit(ctx, note("must not be there")), context.Canceled)
	}
	commit(t, s, note("last"))
	wantEntries(t, s, "last")
}
