package sqlite

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/policy"
)

// keepCharges is how long charges are kept: longer than any window, whatever is
// written into the policies meanwhile, and than clocks are set back.
const keepCharges = 33 * 24 * 60 * 60 * 1000

// tidyAtMost bounds what one reservation clears away; it adds fewer.
const tidyAtMost = 16

// prepareLimits lists what b does to limits.
func prepareLimits(b authz.Batch) (steps []func(*tx) error, err error) {
	if r := b.Reserve; r != nil {
		hash, err := action.ParseHash(r.ActionHash)
		if err != nil {
			return nil, fmt.Errorf("reserving for decision %s: %w", r.DecisionID, err)
		}
		steps = append(steps, func(t *tx) error { return t.reserve(*r, hash) })
	}
	for _, s := range b.Settle {
		steps = append(steps, func(t *tx) error { return t.settle(s) })
	}
	if r := b.Release; r != nil {
		steps = append(steps, func(t *tx) error { return t.release(*r) })
	}
	return steps, nil
}

// reserve charges all of it or nothing: what does not fit is an error, and that
// undoes the job.
func (t *tx) reserve(r authz.Reservation, hash action.Hash) error {
	var full []policy.LimitState
	for _, c := range r.Charges {
		state, fits, err := t.charge(r, hash, c)
		if err != nil {
			return err
		}
		if !fits {
			full = append(full, state)
		}
	}
	if full != nil {
		return &authz.LimitError{Full: full}
	}
	return t.tidy(r.Now)
}

// charge makes one charge, if it fits.
func (t *tx) charge(r authz.Reservation, hash action.Hash, c authz.Charge) (state policy.LimitState, fits bool, err error) {
	if r.RequestID == "" {
		if again, err := t.chargedAlready(r, hash, c); again || err != nil {
			return state, true, err
		}
	}
	if state, fits, err = room(t, moment{r.Now, r.Own}, c); !fits || err != nil {
		return state, false, err
	}
	switch {
	case r.RequestID == "":
		_, err = t.exec(`INSERT INTO charges (limit_id, key, at, amount, held, agent_id, action_id, action_hash, decision_id)
			VALUES (?, ?, ?, ?, 1, ?, ?, ?, ?)`, c.Limit, c.Key, r.Now, c.Amount, r.AgentID, r.ActionID, hash[:], r.DecisionID)
	case c.Aside:
		_, err = t.exec("INSERT INTO asides (request_id, limit_id, key, amount, until) VALUES (?, ?, ?, ?, ?)",
			r.RequestID, c.Limit, c.Key, c.Amount, r.Until)
	}
	return state, true, err
}

// chargedAlready finds the charge of the same action in the window. Two decisions
// stand on it then, and neither's outcome may give it back.
func (t *tx) chargedAlready(r authz.Reservation, hash action.Hash, c authz.Charge) (bool, error) {
	const itsCharge = ` WHERE agent_id = ? AND action_id = ? AND action_hash = ? AND limit_id = ? AND key = ? AND amount = ? AND at >= ? AND at < ?`
	args := []any{r.AgentID, r.ActionID, hash[:], c.Limit, c.Key, c.Amount, c.From, end(c)}
	n, err := t.exec("UPDATE charges INDEXED BY charges_action SET held = 0"+itsCharge, args...)
	if n == 0 || err != nil {
		return false, err
	}
	_, err = t.exec("INSERT OR IGNORE INTO stands (n, decision_id) SELECT n, ? FROM charges INDEXED BY charges_action"+itsCharge+" AND decision_id <> ?",
		append(append([]any{r.DecisionID}, args...), r.DecisionID)...)
	return true, err
}

// end is where the window of a charge ends.
func end(c authz.Charge) int64 {
	if c.To == 0 {
		return math.MaxInt64
	}
	return c.To
}

// A moment is when a limit is looked at, and for which waiting request, if it is for
// one: what is set aside for that does not count.
type moment struct {
	now int64
	own string
}

// room tells how full the limit of a charge is, and whether it fits: if not, when.
func room(q querier, at moment, c authz.Charge) (state policy.LimitState, fits bool, err error) {
	if state, err = limitState(q, at, c); err != nil {
		return state, false, err
	}
	if left := c.Max - state.Used - state.Held; c.Amount >= 0 && c.Amount <= left {
		return state, true, nil
	}
	state.Retry, err = retry(q, at, c, state)
	return state, false, err
}

// limitState adds up what counts for a charge.
func limitState(q querier, at moment, c authz.Charge) (s policy.LimitState, err error) {
	s.Limit, s.Key = c.Limit, c.Key
	var all sums
	for _, p := range partsOf(c.From, c.To) {
		part, err := addUp(q, c, p)
		if err != nil {
			return s, err
		}
		all.add(part)
	}
	aside, err := inTx(q, errNone, readSums, `SELECT coalesce(sum(amount >> 32), 0), coalesce(sum(amount & 4294967295), 0), 0, 0
		FROM asides WHERE limit_id = ? AND key = ? AND until > ? AND request_id <> ?`, c.Limit, c.Key, at.now, at.own)
	s.Held = whole(all.highHeld, all.lowHeld)
	s.Used = whole(all.high, all.low) - s.Held
	s.Held = min(s.Held+whole(aside.high, aside.low), maxSum)
	return s, err
}

// sums are of the upper and the lower 32 bits of amounts.
type sums struct{ high, low, highHeld, lowHeld int64 }

func (s *sums) add(t sums) {
	s.high, s.low = s.high+t.high, s.low+t.low
	s.highHeld, s.lowHeld = s.highHeld+t.highHeld, s.lowHeld+t.lowHeld
}

func readSums(scan scan) (s sums, err error) {
	err = scan(&s.high, &s.low, &s.highHeld, &s.lowHeld)
	return s, err
}

// maxSum is what a sum counts as at most: two of them still fit into an int64.
const maxSum = math.MaxInt64 / 4

func whole(high, low int64) int64 {
	if high >= maxSum>>32 {
		return maxSum
	}
	return min(high<<32+low, maxSum)
}

// A part of a window is added up from single charges (bits 0), or from sums.
type part struct {
	bits     int
	from, to int64 // in units of 2^bits milliseconds
}

// The sums there are, as the triggers of schema.go make them.
var sumBits = []int{10, 16, 22, 28}

// partsOf takes a window apart: the coarsest sums in its middle, finer ones and single
// charges at its edges. to is 0 when it has no end.
func partsOf(from, to int64) (parts []part) {
	open := to == 0
	if open {
		to = math.MaxInt64
	}
	bits := 0
	for _, coarser := range sumBits {
		middle := (from + 1<<coarser - 1) >> coarser << coarser
		end := to >> coarser << coarser
		if middle >= end {
			break
		}
		parts = append(parts, part{bits, from >> bits, middle >> bits})
		if !open {
			parts = append(parts, part{bits, end >> bits, to >> bits})
			to = end
		}
		from, bits = middle, coarser
	}
	parts = append(parts, part{bits, from >> bits, to >> bits})
	return slices.DeleteFunc(parts, func(p part) bool { return p.from >= p.to })
}

func addUp(q querier, c authz.Charge, p part) (sums, error) {
	if p.bits == 0 {
		return inTx(q, errNone, readSums, `SELECT coalesce(sum(amount >> 32), 0), coalesce(sum(amount & 4294967295), 0),
			coalesce(sum((amount >> 32) * held), 0), coalesce(sum((amount & 4294967295) * held), 0)
			FROM charges WHERE limit_id = ? AND key = ? AND at >= ? AND at < ?`, c.Limit, c.Key, p.from, p.to)
	}
	return inTx(q, errNone, readSums, `SELECT coalesce(sum(high), 0), coalesce(sum(low), 0), coalesce(sum(high_held), 0), coalesce(sum(low_held), 0)
		FROM charge_sums WHERE limit_id = ? AND key = ? AND bits = ? AND start >= ? AND start < ?`, c.Limit, c.Key, p.bits, p.from, p.to)
}

// leaving is an amount that stops to count at a time.
type leaving struct{ at, amount int64 }

func readLeaving(scan scan) (l leaving, err error) {
	err = scan(&l.at, &l.amount)
	return l, err
}

// retryLooks is at how many charges retry looks.
const retryLooks = 500

// retry finds when a charge fits that does not fit now: when as much as it lacks has
// left the window, or the next one begins. Where more charges than it looks at have
// to leave, it is when all have.
func retry(q querier, at moment, c authz.Charge, s policy.LimitState) (int64, error) {
	if c.Amount > c.Max {
		return 0, nil
	}
	rest := s.Used + s.Held
	list, err := leavingFrom(q, "SELECT until, amount FROM asides WHERE limit_id = ? AND key = ? AND until > ? AND request_id <> ? ORDER BY until", c.Limit, c.Key, at.now, at.own)
	if err != nil {
		return 0, err
	}
	end := c.To
	if c.Trailing > 0 {
		end = at.now + c.Trailing
		charges, err := leavingFrom(q, "SELECT at + ?, amount FROM charges WHERE limit_id = ? AND key = ? AND at >= ? ORDER BY at LIMIT ?",
			c.Trailing, c.Limit, c.Key, c.From, retryLooks)
		if err != nil {
			return 0, err
		}
		list = append(list, charges...)
	}
	for _, l := range list {
		rest -= l.amount
	}
	list = append(list, leaving{end, rest})
	return whenGone(list, s.Used+s.Held+c.Amount-c.Max), nil
}

func leavingFrom(q querier, query string, args ...any) ([]leaving, error) {
	rows, err := q.query(query, args...)
	if err != nil {
		return nil, err
	}
	return collect(rows, readLeaving)
}

// whenGone is when as much as is needed has left.
func whenGone(list []leaving, need int64) int64 {
	slices.SortStableFunc(list, func(a, b leaving) int { return cmp.Compare(a.at, b.at) })
	for _, l := range list {
		if need -= l.amount; need <= 0 {
			return l.at
		}
	}
	return 0
}

// settle ends what a decision holds. What another decision stands on too is not held.
func (t *tx) settle(s authz.Settlement) error {
	for _, limit := range s.Release {
		if _, err := t.exec("DELETE FROM charges INDEXED BY charges_action WHERE agent_id = ? AND action_id = ? AND decision_id = ? AND limit_id = ? AND held = 1",
			s.AgentID, s.ActionID, s.DecisionID, limit); err != nil {
			return err
		}
	}
	_, err := t.exec("UPDATE charges INDEXED BY charges_action SET held = 0 WHERE agent_id = ? AND action_id = ? AND decision_id = ? AND held = 1",
		s.AgentID, s.ActionID, s.DecisionID)
	return err
}

// tidy clears away what no window needs: the oldest charges, and what was set aside
// for requests whose time has passed.
func (t *tx) tidy(now int64) error {
	_, err := t.exec("DELETE FROM charges WHERE n IN (SELECT n FROM charges ORDER BY n LIMIT ?) AND at < ?", tidyAtMost, now-keepCharges)
	if err == nil {
		_, err = t.exec("DELETE FROM asides WHERE until <= ?", now-keepCharges)
	}
	return err
}

// giveBack ends what is set aside for a request.
func (t *tx) giveBack(requestID string) error {
	_, err := t.exec("DELETE FROM asides WHERE request_id = ?", requestID)
	return err
}

// answerAside keeps what is set aside for a request as long as its grant is good,
// or gives it back when there is none.
func (t *tx) answerAside(r approvals.Request) error {
	if r.Status != approvals.Approved {
		return t.giveBack(r.ID)
	}
	_, err := t.exec("UPDATE asides SET until = ? WHERE request_id = ?", r.GrantUntil.UnixMilli(), r.ID)
	return err
}
