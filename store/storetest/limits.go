package storetest

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/policy"
)

// hourly takes an amount from limit "p/hourly" of 100 an hour, after a time from
// start. Each decision is of an action of its own.
func hourly(decision string, amount int64, after time.Duration) authz.Reservation {
	now := start.Add(after).UnixMilli()
	hour := time.Hour.Milliseconds()
	return authz.Reservation{
		DecisionID: decision, AgentID: "bot", ActionID: "action of " + decision, ActionHash: action.Hash{1}.String(), Now: now,
		Charges: []authz.Charge{{Limit: "p/hourly", Key: "[]", Amount: amount, Max: 100, From: now - hour + 1, Trailing: hour}},
	}
}

func reserving(r authz.Reservation) authz.Batch { return authz.Batch{Reserve: &r} }

func settling(decision string, release ...string) authz.Batch {
	return authz.Batch{Settle: []authz.Settlement{{DecisionID: decision, AgentID: "bot", ActionID: "action of " + decision, Release: release}}}
}

// wantRoom looks at how full a limit is: what it has left at a time.
func wantRoom(t *testing.T, s Store, what string, after time.Duration, used, held int64) {
	t.Helper()
	r := hourly("nobody", math.MaxInt64, after)
	err := s.Commit(t.Context(), reserving(r))
	wantFull(t, what, err, policy.LimitState{Limit: "p/hourly", Key: "[]", Used: used, Held: held})
}

func wantFull(t *testing.T, what string, err error, want ...policy.LimitState) {
	t.Helper()
	var full *authz.LimitError
	if !errors.As(err, &full) {
		t.Errorf("%s: want full limits, got %v", what, err)
		return
	}
	wantSame(t, what, want, full.Full)
}

func testReserveCondition(t *testing.T, open Open) {
	const hour, ms = time.Hour, time.Millisecond
	day := func(amount int64, after time.Duration) authz.Reservation {
		r := hourly("new", amount, after)
		r.Charges[0].From, r.Charges[0].To, r.Charges[0].Trailing = start.UnixMilli(), start.Add(2*hour).UnixMilli(), 0
		return r
	}
	change := func(r authz.Reservation, f func(*authz.Charge)) authz.Reservation {
		f(&r.Charges[0])
		return r
	}
	for _, test := range []struct {
		name string
		r    authz.Reservation
		full bool
	}{
		{"all that is left", hourly("new", 40, ms), false},
		{"one more", hourly("new", 41, ms), true},
		{"nothing", hourly("new", 0, ms), false},
		{"less than nothing", hourly("new", -1, ms), true},
		{"at the same time", hourly("new", 41, 0), true},
		{"earlier", hourly("new", 41, -ms), true},
		{"in the last moment of the window", hourly("new", 41, hour-ms), true},
		{"after it", hourly("new", 100, hour), false},
		{"after it, one more", hourly("new", 101, hour), true},
		{"with more beyond it", change(hourly("new", 41, ms), func(c *authz.Charge) { c.Max++ }), false},
		{"with less", change(hourly("new", 40, ms), func(c *authz.Charge) { c.Max-- }), true},
		{"another limit", change(hourly("new", 100, ms), func(c *authz.Charge) { c.Limit = "p/Hourly" }), false},
		{"another key", change(hourly("new", 100, ms), func(c *authz.Charge) { c.Key = `["bot"]` }), false},
		{"the whole day", day(40, hour), false},
		{"the whole day, one more", day(41, hour), true},
		{"the day begins with the charge", change(day(41, hour), func(c *authz.Charge) { c.From++ }), false},
		{"the day ends with the charge", change(day(41, -hour), func(c *authz.Charge) { c.From, c.To = 0, start.UnixMilli() }), false},
		{"the day ends after it", change(day(41, -hour), func(c *authz.Charge) { c.From, c.To = 0, start.UnixMilli()+1 }), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := open(t, t.TempDir())
			commit(t, s, reserving(hourly("old", 60, 0)))
			err := s.Commit(t.Context(), reserving(test.r))
			if !test.full {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.As(err, new(*authz.LimitError)) {
				t.Errorf("want a full limit, got %v", err)
			}
			wantRoom(t, s, "afterwards", 0, 0, 60)
		})
	}
	s := open(t, t.TempDir())
	r := hourly("new", 1, 0)
	r.ActionHash = ""
	if err := s.Commit(t.Context(), reserving(r)); err == nil || errors.As(err, new(*authz.LimitError)) {
		t.Errorf("a charge of no action: %v", err)
	}
}

// A refusal says how full the limits are, and when there is room.
func testLimitState(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	const minute = time.Minute
	commit(t, s, reserving(hourly("a", 50, 0)), settling("a"),
		reserving(hourly("b", 20, 10*minute)), settling("b"),
		reserving(hourly("c", 25, 20*minute)))
	at := func(after time.Duration) int64 { return start.Add(after).UnixMilli() }
	state := func(retry int64) policy.LimitState {
		return policy.LimitState{Limit: "p/hourly", Key: "[]", Used: 70, Held: 25, Retry: retry}
	}
	for amount, retry := range map[int64]int64{6: at(60 * minute), 55: at(60 * minute), 56: at(70 * minute), 75: at(70 * minute), 76: at(80 * minute), 100: at(80 * minute), 101: 0} {
		wantFull(t, fmt.Sprint(amount), s.Commit(t.Context(), reserving(hourly("new", amount, 30*minute))), state(retry))
	}
	// Earlier first, in whatever order they were made; of the calendar all at once.
	commit(t, s, reserving(hourly("d", 5, -10*minute)))
	full := state(at(50 * minute))
	full.Held = 30
	wantFull(t, "the earliest", s.Commit(t.Context(), reserving(hourly("new", 5, 30*minute))), full)
	calendar := hourly("new", 5, 30*minute)
	calendar.Charges[0].To, calendar.Charges[0].Trailing = at(90*minute), 0
	full.Retry = at(90 * minute)
	wantFull(t, "of the calendar", s.Commit(t.Context(), reserving(calendar)), full)
	// And what is set aside, when that ends.
	aside := hourly("new", 1, 30*minute)
	aside.RequestID, aside.Until = "r", at(45*minute)
	aside.Charges[0].Aside, aside.Charges[0].Max = true, 101
	commit(t, s, reserving(aside))
	full.Held, full.Retry = 31, at(50*minute)
	wantFull(t, "with an aside", s.Commit(t.Context(), reserving(hourly("new", 5, 30*minute))), full)
	full.Retry = at(45 * minute)
	one := hourly("new", 1, 30*minute)
	one.Charges[0].Max = 101
	wantFull(t, "as long as the aside", s.Commit(t.Context(), reserving(one)), full)
}

// All charges of a batch, or none, and nothing else of it either.
func testReserveIsWhole(t *testing.T, open Open) {
	s := live(t, open, "approved")
	r := hourly("new", 10, 2*time.Minute)
	other := r.Charges[0]
	other.Limit, other.Max = "p/other", 9
	third := other
	third.Limit, third.Max = "p/third", 8
	r.Charges = append(r.Charges, other, third)
	batch := note("must not be there")
	batch.Reserve, batch.Redeem = &r, redeem("old", start.Add(2*time.Minute))
	wantFull(t, "two are full", s.Commit(t.Context(), batch), policy.LimitState{Limit: "p/other", Key: "[]"}, policy.LimitState{Limit: "p/third", Key: "[]"})
	wantEntries(t, s)
	wantRoom(t, s, "afterwards", 2*time.Minute, 0, 0)
	if got := approval(t, s, "old"); got.Status != approvals.Approved {
		t.Errorf("the grant is %s", got.Status)
	}
	r.Charges, batch.Entries[0].Detail = r.Charges[:1], "charged"
	commit(t, s, batch)
	wantEntries(t, s, "charged")
	batch.Entries[0].Detail = "must not be there"
	r.ActionID = "another"
	wantErr(t, "again", s.Commit(t.Context(), batch), approvals.ErrSpent)
	wantRoom(t, s, "in the end", 2*time.Minute, 0, 10)
	wantEntries(t, s, "charged")
}

// The same action is charged once in a window, and what two decisions stand on
// neither gives back.
func testChargedOnce(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	again := func(decision string, after time.Duration) authz.Reservation {
		r := hourly(decision, 30, after)
		r.ActionID = "the action"
		return r
	}
	release := func(decision string) authz.Batch {
		b := settling(decision, "p/hourly")
		b.Settle[0].ActionID = "the action"
		return b
	}
	commit(t, s, reserving(again("first", 0)), release("first"))
	wantRoom(t, s, "given back", 0, 0, 0)
	commit(t, s, reserving(again("first", 0)), reserving(again("second", time.Minute)))
	wantRoom(t, s, "charged once", time.Minute, 30, 0)
	commit(t, s, release("first"), release("second"))
	wantRoom(t, s, "not given back", time.Minute, 30, 0)
	commit(t, s, reserving(again("third", time.Hour-time.Millisecond)))
	wantRoom(t, s, "in the window", time.Hour-time.Millisecond, 30, 0)
	commit(t, s, reserving(again("fourth", time.Hour)))
	wantRoom(t, s, "after it", time.Hour, 0, 30)

	for name, f := range map[string]func(*authz.Reservation){
		"another agent": func(r *authz.Reservation) { r.AgentID = "Bot" },
		"another hash":  func(r *authz.Reservation) { r.ActionHash = action.Hash{2}.String() },
		"another id":    func(r *authz.Reservation) { r.ActionID = "The action" },
		"more":          func(r *authz.Reservation) { r.Charges[0].Amount++ },
		"another limit": func(r *authz.Reservation) { r.Charges[0].Limit = "p/other" },
	} {
		s := open(t, t.TempDir())
		commit(t, s, reserving(again("first", 0)))
		r := again("second", 0)
		r.Charges[0].Max = 59
		f(&r)
		err := s.Commit(t.Context(), reserving(r))
		if full := errors.As(err, new(*authz.LimitError)); full != (name != "another limit") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Only who holds a charge gives it back, and only once.
func testSettle(t *testing.T, open Open) {
	change := func(f func(*authz.Settlement)) authz.Batch {
		b := settling("old", "p/hourly")
		f(&b.Settle[0])
		return b
	}
	for _, test := range []struct {
		name       string
		batch      authz.Batch
		used, held int64
	}{
		{"given back", settling("old", "p/hourly"), 0, 0},
		{"used", settling("old"), 60, 0},
		{"another limit given back", settling("old", "p/other"), 60, 0},
		{"another decision", change(func(s *authz.Settlement) { s.DecisionID = "new" }), 0, 60},
		{"another agent", change(func(s *authz.Settlement) { s.AgentID = "Bot" }), 0, 60},
		{"another action", change(func(s *authz.Settlement) { s.ActionID = "x" }), 0, 60},
	} {
		t.Run(test.name, func(t *testing.T) {
			place := t.TempDir()
			s := open(t, place)
			commit(t, s, reserving(hourly("old", 60, 0)))
			batch := test.batch
			batch.Entries = note("settled").Entries
			commit(t, s, batch)
			wantRoom(t, s, "then", 0, test.used, test.held)
			wantEntries(t, s, "settled")
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, place)
			if test.held == 0 {
				commit(t, s, settling("old", "p/hourly"))
			}
			wantRoom(t, s, "in the end", 0, test.used, test.held)
		})
	}
}

// What is set aside for a request counts as long as that, or its grant, is good, and
// whatever the window is.
func testAside(t *testing.T, open Open) {
	const minute, ms = time.Minute, time.Millisecond
	r := hourly("asking", 60, 0)
	r.RequestID, r.Until = "old", start.Add(time.Hour).UnixMilli()
	r.Charges[0].Aside = true
	for _, test := range []struct {
		name  string
		then  []authz.Batch
		after time.Duration
		held  int64
	}{
		{"pending", nil, time.Hour - ms, 60},
		{"its time is over", nil, time.Hour, 0},
		{"approved", lives["approved"], 11*minute - ms, 60},
		{"the grant is over", lives["approved"], 11 * minute, 0},
		{"denied", lives["denied"], minute, 0},
		{"redeemed", lives["redeemed"], 2 * minute, 0},
		{"superseded", []authz.Batch{{Supersede: "old"}}, 0, 0},
		{"superseded when approved", append(slices.Clone(lives["approved"]), authz.Batch{Supersede: "old"}), minute, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := open(t, t.TempDir())
			b := ask(request("old", "bot", 1))
			b.Reserve = &r
			commit(t, s, b)
			commit(t, s, test.then...)
			wantRoom(t, s, "then", test.after, 0, test.held)
		})
	}
	t.Run("long after", func(t *testing.T) { // a window does not end it
		s := open(t, t.TempDir())
		long := r
		long.Until = start.Add(24 * time.Hour).UnixMilli()
		commit(t, s, reserving(long))
		wantRoom(t, s, "then", 5*time.Hour, 0, 60)
	})
	t.Run("not set aside", func(t *testing.T) {
		s := open(t, t.TempDir())
		look := r
		look.Charges = slices.Clone(r.Charges)
		look.Charges[0].Aside = false
		commit(t, s, reserving(look))
		wantRoom(t, s, "then", 0, 0, 0)
		look.Charges[0].Amount = 101
		if err := s.Commit(t.Context(), reserving(look)); !errors.As(err, new(*authz.LimitError)) {
			t.Errorf("what is asked for is over the limit: %v", err)
		}
	})
	t.Run("its own", func(t *testing.T) { // it is not in the way of the call that it is for
		s := open(t, t.TempDir())
		b := ask(request("old", "bot", 1))
		b.Reserve = &r
		commit(t, s, b)
		own := hourly("own", 100, minute)
		own.Own = "other"
		wantFull(t, "another's", s.Commit(t.Context(), reserving(own)), policy.LimitState{Limit: "p/hourly", Key: "[]", Held: 60, Retry: r.Until})
		own.Own = "old"
		own.Charges[0].Amount = 101
		wantFull(t, "its own", s.Commit(t.Context(), reserving(own)), policy.LimitState{Limit: "p/hourly", Key: "[]"})
		own.Charges[0].Amount = 100
		commit(t, s, reserving(own))
	})
	t.Run("redeemed and charged", func(t *testing.T) { // in one batch the one makes room for the other
		s := open(t, t.TempDir())
		commit(t, s, reserving(r), ask(request("old", "bot", 1)))
		commit(t, s, lives["approved"]...)
		b := spend(redeem("old", start.Add(2*minute)))
		spent := hourly("spent", 100, 2*minute)
		b.Reserve = &spent
		commit(t, s, b)
		wantRoom(t, s, "then", 2*minute, 0, 100)
	})
}

// Sums of the largest amounts are still too much, not too little.
func testLimitOverflow(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	const most = 1<<53 - 1
	for i := range 3 {
		r := hourly(fmt.Sprint(i), most, 0)
		r.Charges[0].Max = math.MaxInt64 / 2
		commit(t, s, reserving(r))
	}
	wantRoom(t, s, "three of them", 0, 0, 3*most)
	r := hourly("more", most+1, 0)
	r.Charges[0].Max = math.MaxInt64 / 2
	if err := s.Commit(t.Context(), reserving(r)); err == nil {
		t.Error("an amount that no reader of JSON holds exactly was charged")
	}
	wantRoom(t, s, "as before", 0, 0, 3*most)

	// More than an int64 holds: a limit that people have approved much beyond.
	r = hourly("many", 0, 0)
	r.Charges = nil
	for i := range int64(1100) {
		c := hourly("many", most-i, 0).Charges[0]
		c.Max = math.MaxInt64
		r.Charges = append(r.Charges, c)
	}
	commit(t, s, reserving(r))
	var full *authz.LimitError
	if err := s.Commit(t.Context(), reserving(hourly("nobody", 0, 0))); !errors.As(err, &full) || full.Full[0].Held < 1<<59 {
		t.Errorf("got %v", err)
	}
}

// What no window can need is cleared away, and nothing else.
func testChargesAreTidied(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	const day = 24 * time.Hour
	ever := func(after time.Duration) authz.Reservation {
		r := hourly(fmt.Sprint(after), 1, after)
		r.Charges[0].From, r.Charges[0].Trailing = 0, 0
		return r
	}
	look := func(what string, held int64) {
		t.Helper()
		r := ever(0)
		r.ActionID, r.Charges[0].Amount = "nobody's", 101
		wantFull(t, what, s.Commit(t.Context(), reserving(r)), policy.LimitState{Limit: "p/hourly", Key: "[]", Held: held})
	}
	for i := range time.Duration(20) {
		commit(t, s, reserving(ever(i)))
	}
	commit(t, s, reserving(ever(32*day)))
	look("after a month", 21)
	for i := range time.Duration(4) {
		commit(t, s, reserving(ever(34*day+i)))
	}
	look("later", 5)
}

func testReserveRace(t *testing.T, open Open) {
	place := t.TempDir()
	a, b := open(t, place), open(t, place)
	var won int
	for i, err := range race(a, b, func(i int, s Store) error {
		batch := note(fmt.Sprint(i))
		r := hourly(fmt.Sprint(i), 9, time.Duration(i)*time.Millisecond)
		batch.Reserve = &r
		return s.Commit(t.Context(), batch)
	}) {
		switch {
		case err == nil:
			won++
		case !errors.As(err, new(*authz.LimitError)):
			t.Errorf("%d: %v", i, err)
		}
	}
	if won != 11 {
		t.Errorf("%d of 9 each have room in 100, want 11", won)
	}
	wantRoom(t, b, "afterwards", time.Second, 0, 99)
	if _, entries := unsequenced(t, a, 1000); len(entries) != won {
		t.Errorf("%d entries of %d", len(entries), won)
	}
}
