package sqlite

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
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
	return steps, nil
}

// reserve charges all of it or nothing: what does not fit is an error, and that
// undoes the job.
func (t *tx) reserve(r authz.Reservation, hash action.Hash) error {
	var full []authz.LimitState
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
func (t *tx) charge(r authz.Reservation, hash action.Hash, c authz.Charge) (state authz.LimitState, fits bool, err error) {
	if r.RequestID == "" {
		if again, err := t.chargedAlready(r, hash, c); again || err != nil {
			return state, true, err
		}
	}
	if state, err = t.limitState(r, c); err != nil {
		return state, false, err
	}
	if left := c.Max - state.Used - state.Held; c.Amount < 0 || c.Amount > left {
		state.Retry, err = t.retry(r, c)
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
// stand on it then, and neither may give it back.
func (t *tx) chargedAlready(r authz.Reservation, hash action.Hash, c authz.Charge) (bool, error) {
	n, err := t.exec(`UPDATE charges SET held = 0 WHERE agent_id = ? AND action_id = ? AND action_hash = ?
		AND limit_id = ? AND key = ? AND amount = ? AND at >= ? AND at < ?`,
		r.AgentID, r.ActionID, hash[:], c.Limit, c.Key, c.Amount, c.From, end(c))
	return n > 0, err
}

// end is where the window of a charge ends.
func end(c authz.Charge) int64 {
	if c.To == 0 {
		return math.MaxInt64
	}
	return c.To
}

// limitState adds up what counts for a charge. The sums are of halves, so that none
// can overflow; what is more than an int64 counts as the most.
func (t *tx) limitState(r authz.Reservation, c authz.Charge) (s authz.LimitState, err error) {
	s.Limit, s.Key = c.Limit, c.Key
	sums, err := inTx(t, errNone, readSums, `SELECT coalesce(sum((amount >> 32) * (1 - held)), 0), coalesce(sum((amount & 4294967295) * (1 - held)), 0),
		coalesce(sum((amount >> 32) * held), 0), coalesce(sum((amount & 4294967295) * held), 0)
		FROM charges WHERE limit_id = ? AND key = ? AND at >= ? AND at < ?`, c.Limit, c.Key, c.From, end(c))
	if err != nil {
		return s, err
	}
	asides, err := inTx(t, errNone, readSums, `SELECT coalesce(sum(amount >> 32), 0), coalesce(sum(amount & 4294967295), 0), 0, 0
		FROM asides WHERE limit_id = ? AND key = ? AND until > ?`, c.Limit, c.Key, r.Now)
	s.Used, s.Held = sums[0], min(sums[1], maxSum-asides[0])+asides[0]
	return s, err
}

// maxSum is what a sum counts as at most: two of them still fit into an int64.
const maxSum = math.MaxInt64 / 4

func readSums(scan scan) (sums [2]int64, err error) {
	var high, low [2]int64
	if err := scan(&high[0], &low[0], &high[1], &low[1]); err != nil {
		return sums, err
	}
	for i := range sums {
		sums[i] = maxSum
		if high[i] < maxSum>>33 {
			sums[i] = min(high[i]<<32+low[i], maxSum)
		}
	}
	return sums, nil
}

type charged struct{ at, amount int64 }

func readCharged(scan scan) (c charged, err error) {
	err = scan(&c.at, &c.amount)
	return c, err
}

// retry finds when a charge fits that does not fit now: when as much as it lacks has
// left the window, or the next window begins.
func (t *tx) retry(r authz.Reservation, c authz.Charge) (at int64, err error) {
	if c.Amount > c.Max {
		return 0, nil
	}
	rows, err := t.query(`SELECT until, amount FROM asides WHERE limit_id = ? AND key = ? AND until > ? ORDER BY until`, c.Limit, c.Key, r.Now)
	if err != nil {
		return 0, err
	}
	leaving, err := collect(rows, readCharged)
	if err != nil {
		return 0, err
	}
	rows, err = t.query(`SELECT at, amount FROM charges WHERE limit_id = ? AND key = ? AND at >= ? AND at < ?`, c.Limit, c.Key, c.From, end(c))
	if err != nil {
		return 0, err
	}
	charges, err := collect(rows, readCharged)
	for _, old := range charges {
		gone := c.To
		if c.Trailing > 0 {
			gone = old.at + c.Trailing
		}
		leaving = append(leaving, charged{gone, old.amount})
	}
	return whenFits(leaving, c.Max-c.Amount), err
}

// settle ends what a decision holds. What another decision stands on too is not held.
func (t *tx) settle(s authz.Settlement) error {
	for _, limit := range s.Release {
		if _, err := t.exec("DELETE FROM charges WHERE agent_id = ? AND action_id = ? AND decision_id = ? AND limit_id = ? AND held = 1",
			s.AgentID, s.ActionID, s.DecisionID, limit); err != nil {
			return err
		}
	}
	_, err := t.exec("UPDATE charges SET held = 0 WHERE agent_id = ? AND action_id = ? AND decision_id = ? AND held = 1",
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

// whenFits is when no more than room is left of what leaves; 0: it never is.
func whenFits(leaving []charged, room int64) int64 {
	slices.SortFunc(leaving, func(a, b charged) int { return cmp.Compare(a.at, b.at) })
	rest, from := int64(0), len(leaving)
	for from > 0 && leaving[from-1].amount <= room-rest {
		from--
		rest += leaving[from].amount
	}
	if from == 0 {
		return 0 // it would fit now
	}
	return leaving[from-1].at
}
