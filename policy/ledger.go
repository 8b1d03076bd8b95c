package policy

import (
	"cmp"
	"slices"
	"time"
)

// A Ledger counts what limits are charged, in memory and as the store does: for
// tests, the playground and replays, where nothing is spent. The zero Ledger is
// empty. It is for one goroutine.
type Ledger struct {
	accounts map[account]*tally
}

// An account is what one limit counts together.
type account struct{ limit, key string }

// A tally is an account's charges by time, and what is set aside.
type tally struct {
	charges []entered
	last    map[claim]int64 // when an action was last charged an amount
	asides  []aside
}

type claim struct {
	by     string
	amount int64
}

type entered struct {
	at int64 // Unix milliseconds
	claim
	upTo int64 // the sum of all charges up to this one
}

type aside struct {
	amount, until int64
	by            string
}

// Within says what the limits make of a decision at a time. by names the action:
// what it was charged in the window already is not charged again.
func (l *Ledger) Within(d Decision, by string, now time.Time) Limited {
	var full []LimitState
	for _, c := range d.Charges {
		if c.Doubt != "" || l.tally(c).has(c, by, now) {
			continue
		}
		if s := l.State(c, now); c.Amount > c.Limit.Max-s.Used-s.Held {
			full = append(full, s)
		}
	}
	return d.Within(full)
}

// State is how full the limit of a charge is at a time, and when the charge fits.
func (l *Ledger) State(c Charge, now time.Time) LimitState {
	t := l.tally(c)
	s := LimitState{Limit: c.Limit.ID, Key: c.Key, Used: t.used(c.Limit, now), Held: t.setAside(now)}
	if lack := s.Used + s.Held + c.Amount - c.Limit.Max; lack > 0 && c.Amount <= c.Limit.Max {
		s.Retry = t.whenGone(c.Limit, now, lack)
	}
	return s
}

// Charge counts all that a decision is charged to, whether it has room or not: the
// action runs.
func (l *Ledger) Charge(d Decision, by string, now time.Time) {
	for _, c := range d.Charges {
		if t := l.tally(c); c.Doubt == "" && !t.has(c, by, now) {
			t.enter(entered{at: now.UnixMilli(), claim: claim{by, c.Amount}})
		}
	}
}

// SetAside keeps room for an action that waits for its owner, where a limit says so.
func (l *Ledger) SetAside(d Decision, by string, until time.Time) {
	for _, c := range d.Charges {
		if t := l.tally(c); c.Doubt == "" && c.Limit.ReserveOnHold {
			t.asides = append(t.asides, aside{c.Amount, until.UnixMilli(), by})
		}
	}
}

// Release gives back what is set aside for an action, and what it was charged to the
// limits of which is true.
func (l *Ledger) Release(d Decision, by string, of func(*Limit) bool) {
	for _, c := range d.Charges {
		t := l.tally(c)
		t.asides = slices.DeleteFunc(t.asides, func(a aside) bool { return a.by == by })
		if of(c.Limit) {
			t.remove(claim{by, c.Amount})
		}
	}
}

// AllLimits is for Release: nothing of the action has happened.
func AllLimits(*Limit) bool { return true }

// Refunding is for Release: the server has answered an error.
func Refunding(l *Limit) bool { return l.Refunds }

func (l *Ledger) tally(c Charge) *tally {
	a := account{c.Limit.ID, c.Key}
	if l.accounts[a] == nil {
		if l.accounts == nil {
			l.accounts = make(map[account]*tally)
		}
		l.accounts[a] = &tally{last: make(map[claim]int64)}
	}
	return l.accounts[a]
}

// window are the charges that count at a time.
func (t *tally) window(l *Limit, now time.Time) (from, to int) {
	first, end := l.Span(now)
	from, to = t.place(first.UnixMilli()), len(t.charges)
	if !end.IsZero() {
		to = t.place(end.UnixMilli())
	}
	return from, to
}

// place is where charges begin that were made at a time or later.
func (t *tally) place(at int64) int {
	i, _ := slices.BinarySearchFunc(t.charges, at, func(e entered, at int64) int { return cmp.Compare(e.at, at) })
	return i
}

func (t *tally) used(l *Limit, now time.Time) int64 {
	from, to := t.window(l, now)
	return t.sum(to) - t.sum(from)
}

// sum is that of the first n charges.
func (t *tally) sum(n int) int64 {
	if n == 0 {
		return 0
	}
	return t.charges[n-1].upTo
}

func (t *tally) setAside(now time.Time) (sum int64) {
	for _, a := range t.asides {
		if a.until > now.UnixMilli() {
			sum += a.amount
		}
	}
	return sum
}

// has reports whether the action was charged in the window already.
func (t *tally) has(c Charge, by string, now time.Time) bool {
	at, ever := t.last[claim{by, c.Amount}]
	from, to := c.Limit.Span(now)
	return ever && at >= from.UnixMilli() && (to.IsZero() || at < to.UnixMilli())
}

func (t *tally) enter(e entered) {
	i := t.place(e.at + 1)
	t.charges = slices.Insert(t.charges, i, e)
	t.last[e.claim] = e.at
	t.addUp(i)
}

func (t *tally) remove(c claim) {
	at, ever := t.last[c]
	if !ever {
		return
	}
	delete(t.last, c)
	for i := t.place(at); i < len(t.charges); i++ {
		if t.charges[i].claim == c {
			t.charges = slices.Delete(t.charges, i, i+1)
			t.addUp(i)
			return
		}
	}
}

// addUp makes the sums right from a charge on.
func (t *tally) addUp(from int) {
	for i := from; i < len(t.charges); i++ {
		t.charges[i].upTo = t.sum(i) + t.charges[i].amount
	}
}

// whenGone is when as much as is lacking counts no more.
func (t *tally) whenGone(l *Limit, now time.Time, lack int64) int64 {
	type leaving struct{ at, amount int64 }
	var list []leaving
	for _, a := range t.asides {
		if a.until > now.UnixMilli() {
			list = append(list, leaving{a.until, a.amount})
		}
	}
	from, to := t.window(l, now)
	_, end := l.Span(now)
	for _, e := range t.charges[from:to] {
		if !end.IsZero() {
			e.at = end.UnixMilli()
		}
		list = append(list, leaving{e.at + l.Trailing().Milliseconds(), e.amount})
	}
	slices.SortStableFunc(list, func(a, b leaving) int { return cmp.Compare(a.at, b.at) })
	for _, x := range list {
		if lack -= x.amount; lack <= 0 {
			return x.at
		}
	}
	return 0
}
