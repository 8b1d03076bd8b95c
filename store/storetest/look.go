package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/policy"
)

// keyed is hourly for a key.
func keyed(decision, key string, amount int64, after time.Duration) authz.Reservation {
	r := hourly(decision, amount, after)
	r.Charges[0].Key = key
	return r
}

func testLimitKeys(t *testing.T, open Open) {
	const minute, hour = time.Minute, time.Hour
	s := open(t, t.TempDir())
	ms := func(after time.Duration) int64 { return start.Add(after).UnixMilli() }
	aside := keyed("asking", `["d"]`, 7, minute)
	aside.RequestID, aside.Until, aside.Charges[0].Aside = "r", ms(3*hour), true
	other := hourly("other", 1, 0)
	other.Charges[0].Limit = "p/other"
	commit(t, s,
		reserving(keyed("1", `["b"]`, 10, 0)), settling("1"),
		reserving(keyed("2", `["b"]`, 5, 30*minute)),
		reserving(keyed("3", `["a"]`, 3, 10*minute)),
		reserving(keyed("4", `["c"]`, 9, -2*hour)), // long gone
		reserving(keyed("5", `["e"]`, 0, minute)),  // it takes nothing
		reserving(aside), reserving(other))
	look := func(what string, after time.Duration, from string, n int, want ...authz.KeyState) {
		t.Helper()
		got, err := s.LimitKeys(t.Context(), ms(after), keyed("nobody", "", 0, after).Charges[0], from, n)
		if err != nil {
			t.Fatal(err)
		}
		wantSame(t, what, want, got)
	}
	a := authz.KeyState{Key: `["a"]`, Held: 3, Next: ms(hour + 10*minute)}
	b := authz.KeyState{Key: `["b"]`, Used: 10, Held: 5, Next: ms(hour)}
	d := authz.KeyState{Key: `["d"]`, Held: 7, Next: ms(3 * hour)}
	e := authz.KeyState{Key: `["e"]`}
	look("all", 40*minute, "", 10, a, b, d, e)
	look("the first two", 40*minute, "", 2, a, b)
	look("those after", 40*minute, `["b"]`, 2, d, e)
	look("none after", 40*minute, `["e"]`, 2)
	b.Used, b.Next = 0, ms(hour+30*minute)
	look("when one has left", hour+minute, "", 2, a, b)
	look("an aside alone", 2*hour, "", 10, d)
	look("not even that", 3*hour, "", 10)

	calendar := keyed("nobody", "", 0, 0).Charges[0]
	calendar.From, calendar.To, calendar.Trailing = ms(0), ms(30*minute), 0
	got, err := s.LimitKeys(t.Context(), ms(0), calendar, "", 2)
	if err != nil {
		t.Fatal(err)
	}
	a.Next = ms(30 * minute)
	wantSame(t, "of the calendar", []authz.KeyState{a, {Key: `["b"]`, Used: 10, Next: ms(30 * minute)}}, got)

	calendar.Key = `["b"]`
	got, err = s.LimitKeys(t.Context(), ms(0), calendar, "", 2)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, "one of the calendar", []authz.KeyState{{Key: `["b"]`, Used: 10, Next: ms(30 * minute)}}, got)

	// Without a window it is all that is kept.
	got, err = s.LimitKeys(t.Context(), ms(40*minute), authz.Charge{Limit: "p/hourly"}, `["b"]`, 1)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, "all that is kept", []authz.KeyState{{Key: `["c"]`, Held: 9}}, got)
}

func testLimitIDs(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	wantIDs := func(want ...string) {
		t.Helper()
		got, err := s.LimitIDs(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		wantSame(t, "limits", want, got)
	}
	wantIDs()
	for _, name := range []string{"p/b", "p/c", "p/a"} {
		r := hourly(name, 1, 0)
		r.Charges[0].Limit = name
		commit(t, s, reserving(r), reserving(hourly("more "+name, 1, 0)))
	}
	aside := hourly("asking", 1, 0)
	aside.RequestID, aside.Until, aside.Charges[0].Aside, aside.Charges[0].Limit = "r", start.UnixMilli(), true, "p/z"
	commit(t, s, reserving(aside))
	wantIDs("p/a", "p/b", "p/c", "p/hourly", "p/z")
}

// chargesOf are all charges of a key, read by pages.
func chargesOf(t *testing.T, s Store, limit, key string, page int) (all []authz.Charged) {
	t.Helper()
	var before authz.ChargePlace
	for {
		list, err := s.LimitCharges(t.Context(), limit, key, before, page)
		if err != nil {
			t.Fatal(err)
		}
		if all = append(all, list...); len(list) < page {
			return all
		}
		before = list[len(list)-1].ChargePlace
	}
}

func testLimitCharges(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	again := hourly("again", 20, time.Second)
	again.ActionID = "action of 2"
	commit(t, s,
		reserving(hourly("1", 10, time.Minute)), settling("1"),
		reserving(hourly("2", 20, 0)), reserving(again),
		reserving(hourly("3", 30, time.Minute)), // at the time of the first
		reserving(hourly("4", 5, time.Second)),
		reserving(keyed("5", `["b"]`, 1, 0)))
	row := func(amount int64, after time.Duration, held bool, decisions ...string) authz.Charged {
		return authz.Charged{ChargePlace: authz.ChargePlace{At: start.Add(after).UnixMilli()}, Limit: "p/hourly", Key: "[]", Amount: amount, Held: held,
			AgentID: "bot", ActionID: "action of " + decisions[0], Decisions: decisions}
	}
	want := []authz.Charged{row(30, time.Minute, true, "3"), row(10, time.Minute, false, "1"), row(5, time.Second, true, "4"), row(20, 0, false, "2", "again")}
	for page := 1; page < 6; page++ {
		got := chargesOf(t, s, "p/hourly", "[]", page)
		for i := range got {
			got[i].N = 0
		}
		wantSame(t, fmt.Sprint("pages of ", page), want, got)
	}
}

// Room is what Reserve would say, and charges nothing.
func testRoom(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	commit(t, s, reserving(hourly("a", 50, 0)), settling("a"), reserving(hourly("b", 20, 10*time.Minute)))
	for _, amount := range []int64{0, 30, 31, 80, 81, 100, 101, -1} {
		r := hourly("new", amount, 20*time.Minute)
		free := keyed("new", `["x"]`, amount, 20*time.Minute).Charges[0]
		got, err := s.Room(t.Context(), r.Now, []authz.Charge{r.Charges[0], free})
		if err != nil || len(got) != 2 {
			t.Fatalf("%v, %v", got, err)
		}
		got[1].Retry = 0 // of what never fits
		wantSame(t, "another key", authz.Room{LimitState: policy.LimitState{Limit: "p/hourly", Key: `["x"]`}, Fits: amount >= 0 && amount <= 100}, got[1])
		if got[0].Fits != (amount >= 0 && amount <= 30) || got[0].Used != 50 || got[0].Held != 20 {
			t.Errorf("%d: %+v", amount, got[0])
		}
		if !got[0].Fits {
			wantFull(t, fmt.Sprint(amount), s.Commit(t.Context(), reserving(hourly("new", amount, 20*time.Minute))), got[0].LimitState)
		} else if got[0].Retry != 0 {
			t.Errorf("%d fits: %+v", amount, got[0])
		}
	}
	wantRoom(t, s, "afterwards", 20*time.Minute, 50, 20)
}

// releasing takes a decision off all its charges, as they are now.
func releasing(t *testing.T, s Store, decision string) authz.Batch {
	t.Helper()
	list, err := s.DecisionCharges(t.Context(), decision)
	if err != nil {
		t.Fatal(err)
	}
	r := authz.Release{DecisionID: decision, By: "cli:alice", At: start.Add(time.Minute).UnixMilli()}
	for _, c := range list {
		if c.ReleasedAt == 0 {
			r.Charges = append(r.Charges, authz.ReleasedCharge{Charged: c, Kept: len(c.Decisions) > 1})
		}
	}
	b := note("released " + decision)
	b.Release = &r
	return b
}

// What an owner releases is given back, held or used, and is remembered.
func testRelease(t *testing.T, open Open) {
	for _, tt := range []struct {
		name string
		then []authz.Batch
		held bool
	}{
		{"held", nil, true},
		{"used", []authz.Batch{settling("old")}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			place := t.TempDir()
			s := open(t, place)
			r := hourly("old", 60, 0)
			other := r.Charges[0]
			other.Limit = "p/other"
			r.Charges = append(r.Charges, other)
			commit(t, s, reserving(hourly("stays", 1, 0)), reserving(r))
			commit(t, s, tt.then...)
			list, err := s.DecisionCharges(t.Context(), "old")
			if err != nil || len(list) != 2 || list[0].Limit != "p/hourly" || list[1].Limit != "p/other" || list[0].Held != tt.held {
				t.Fatalf("%+v, %v", list, err)
			}
			b := releasing(t, s, "old")
			b.Release.Charges = b.Release.Charges[:1]
			commit(t, s, b)
			wantEntries(t, s, "released old")
			wantRoom(t, s, "then", 0, 0, 1)
			commit(t, s, settling("old", "p/hourly")) // its outcome comes late
			wantRoom(t, s, "after the outcome", 0, 0, 1)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, place)
			list, err = s.DecisionCharges(t.Context(), "old")
			if err != nil || len(list) != 2 || list[0].Limit != "p/other" || list[0].ReleasedAt != 0 {
				t.Fatalf("%+v, %v", list, err)
			}
			wantSame(t, "what was released", authz.Charged{ChargePlace: authz.ChargePlace{At: start.UnixMilli()}, Limit: "p/hourly", Key: "[]", Amount: 60, Held: tt.held,
				AgentID: "bot", ActionID: "action of old", ReleasedAt: start.Add(time.Minute).UnixMilli(), ReleasedBy: "cli:alice"}, list[1])
			commit(t, s, releasing(t, s, "old"))
			if got := chargesOf(t, s, "p/other", "[]", 9); len(got) != 0 {
				t.Errorf("%+v", got)
			}
			again := hourly("new", 60, time.Second)
			again.ActionID = "action of old" // the same action is charged anew
			commit(t, s, reserving(again))
			wantRoom(t, s, "charged anew", time.Second, 0, 61)
		})
	}
}

// A charge on which several decisions stand is given back with the last of them, in
// whatever order, and once.
func testReleaseOfTwo(t *testing.T, open Open) {
	for _, order := range [][]string{{"a", "b", "c"}, {"c", "b", "a"}, {"b", "a", "c"}, {"b", "c", "a"}} {
		s := open(t, t.TempDir())
		for _, id := range []string{"a", "b", "c"} {
			r := hourly(id, 30, 0)
			r.ActionID = "the action"
			commit(t, s, reserving(r), reserving(r)) // the same decision once more is no other
		}
		for i, id := range order {
			b := releasing(t, s, id)
			if len(b.Release.Charges) != 1 || b.Release.Charges[0].Kept != (i < 2) {
				t.Fatalf("%v, %s: %+v", order, id, b.Release.Charges)
			}
			commit(t, s, b)
			wantErr(t, "once more", s.Commit(t.Context(), b), authz.ErrChargesChanged)
			left := int64(30)
			if i == 2 {
				left = 0
			}
			wantRoom(t, s, fmt.Sprint(order, " after ", id), 0, left, 0)
			if list, err := s.DecisionCharges(t.Context(), id); err != nil || len(list) != 1 || list[0].ReleasedBy != "cli:alice" {
				t.Errorf("%+v, %v", list, err)
			}
		}
	}
}

// A release is of what was looked at, or it is nothing.
func testReleaseCondition(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	shared := hourly("second", 30, 0)
	shared.ActionID = "action of first"
	commit(t, s, reserving(hourly("first", 30, 0)), reserving(hourly("other", 5, 0)))
	alone := releasing(t, s, "first")
	commit(t, s, reserving(shared))
	wantErr(t, "another stands on it by now", s.Commit(t.Context(), alone), authz.ErrChargesChanged)
	both := releasing(t, s, "first")
	commit(t, s, releasing(t, s, "second"))
	wantErr(t, "it stands alone by now", s.Commit(t.Context(), both), authz.ErrChargesChanged)
	wrong := releasing(t, s, "first")
	wrong.Release.DecisionID = "other"
	wantErr(t, "another decision's", s.Commit(t.Context(), wrong), authz.ErrChargesChanged)
	wrong = releasing(t, s, "first")
	wrong.Release.Charges[0].Limit = "p/other"
	wantErr(t, "another limit", s.Commit(t.Context(), wrong), authz.ErrChargesChanged)
	wrong = releasing(t, s, "first")
	wrong.Release.Charges = append(releasing(t, s, "first").Release.Charges, authz.ReleasedCharge{Charged: authz.Charged{ChargePlace: authz.ChargePlace{N: 1 << 40}}})
	wantErr(t, "one that is not there", s.Commit(t.Context(), wrong), authz.ErrChargesChanged)
	wantRoom(t, s, "all as it was", 0, 30, 5)
	wantEntries(t, s, "released second")
	if list, err := s.DecisionCharges(t.Context(), "nobody"); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

func testReleaseRace(t *testing.T, open Open) {
	place := t.TempDir()
	a, b := open(t, place), open(t, place)
	commit(t, a, reserving(hourly("old", 60, 0)), reserving(hourly("stays", 1, 0)))
	batch := releasing(t, a, "old")
	oneWinner(t, race(a, b, func(_ int, s Store) error { return s.Commit(t.Context(), batch) }), authz.ErrChargesChanged)
	wantRoom(t, b, "afterwards", 0, 0, 1)
	var full *authz.LimitError
	if err := a.Commit(t.Context(), reserving(hourly("new", 100, 0))); !errors.As(err, &full) {
		t.Errorf("it was given back twice: %v", err)
	}
}
