package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/owners"
)

// Commit commits a batch, durably, or returns why nothing of it was done. What
// is for the log alone goes to the journal, if that can take it.
func (s *Store) Commit(ctx context.Context, b authz.Batch) error {
	entries, err := encode(b.Entries)
	if err != nil {
		return fmt.Errorf("committing: %w", err)
	}
	steps, err := prepare(b)
	if err != nil {
		return fmt.Errorf("committing: %w", err)
	}
	if len(steps) == 0 {
		err := s.journal.do(ctx, &job{entries: entries})
		if !errors.Is(err, errAside) {
			return s.explain(err)
		}
	}
	err = s.explain(s.writer.do(ctx, &job{run: all(steps), entries: entries}))
	if err == nil && (b.Enrol != nil || b.Agent != nil) {
		err = s.known.changed()
	}
	return err
}

func encode(entries []audit.Entry) ([][]byte, error) {
	bodies := make([][]byte, len(entries))
	for i, e := range entries {
		body, err := audit.Encode(e)
		if err != nil {
			return nil, err
		}
		bodies[i] = body
	}
	return bodies, nil
}

// all takes steps one after another, conditions first.
func all(steps []func(*tx) error) func(*tx) error {
	return func(t *tx) error {
		for _, step := range steps {
			if err := step(t); err != nil {
				return err
			}
		}
		return nil
	}
}

// prepare lists what b does beside its entries.
func prepare(b authz.Batch) ([]func(*tx) error, error) {
	steps := append(prepareAsked(b), prepareAgents(b)...)
	requests, err := prepareApprovals(b)
	if err != nil {
		return nil, err
	}
	steps = append(steps, requests...)
	limits, err := prepareLimits(b)
	if b.Pins != nil {
		limits = append(limits, func(t *tx) error { return t.pin(*b.Pins) })
	}
	return append(steps, limits...), err
}

// prepareApprovals lists what b does to approvals, in the order in which it does it.
func prepareApprovals(b authz.Batch) (steps []func(*tx) error, err error) {
	if steps, err = prepareGrants(b); err != nil {
		return nil, err
	}
	standing, err := prepareStanding(b)
	if err != nil {
		return nil, err
	}
	steps = append(steps, standing...)
	if b.Answer != nil {
		steps = append(steps, func(t *tx) error { return t.answer(*b.Answer) })
	}
	if b.Supersede != "" {
		steps = append(steps, func(t *tx) error { return t.supersede(b.Supersede) })
	}
	if b.Open != nil {
		row, err := newApprovalRow(*b.Open)
		if err != nil {
			return nil, fmt.Errorf("opening request %s: %w", b.Open.ID, err)
		}
		steps = append(steps, func(t *tx) error { return t.openRequest(row, b.Quota) })
	}
	waiting, err := prepareWaiting(b)
	return append(steps, waiting...), err
}

// prepareGrants lists what b does to grants that were given.
func prepareGrants(b authz.Batch) (steps []func(*tx) error, err error) {
	add := func(what, id, hashText string, step func(*tx, action.Hash) error) {
		hash, e := action.ParseHash(hashText)
		if e != nil {
			err = errors.Join(err, fmt.Errorf("%s %s: %w", what, id, e))
		}
		steps = append(steps, func(t *tx) error { return step(t, hash) })
	}
	if r := b.Redeem; r != nil {
		add("redeeming", r.RequestID, r.ActionHash, func(t *tx, hash action.Hash) error { return t.redeem(*r, hash) })
	}
	if c := b.Continue; c != nil {
		add("continuing", c.RequestID, c.ActionHash, func(t *tx, hash action.Hash) error { return t.continueGrant(*c, hash) })
	}
	if o := b.OpenRound; o != nil {
		if o.Round.Hash == [32]byte{} || o.Round.Until.IsZero() {
			return nil, fmt.Errorf("opening a round of %s: it has no token or no end", o.RequestID)
		}
		add("opening a round of", o.RequestID, o.ActionHash, func(t *tx, hash action.Hash) error { return t.openRound(*o, hash) })
	}
	return steps, err
}

// append queues entries for the log, after those that the transaction has
// absorbed.
func (t *tx) append(bodies [][]byte) error {
	for _, body := range bodies {
		if blockOf(t.upto+1) != blockOf(t.upto) {
			return errors.New("no id is left before those of the journal's next record: commit anything that is for the log alone")
		}
		if err := t.enqueue(t.upto+1, body); err != nil {
			return err
		}
	}
	return t.moveTo(t.upto, len(bodies))
}

// moveTo notes how far entries have left the journal, if any have.
func (t *tx) moveTo(id int64, entries int) error {
	if entries == 0 {
		return nil
	}
	_, err := t.exec("UPDATE journal SET upto = ?", id)
	return err
}

func (t *tx) enqueue(id int64, body []byte) error {
	t.upto = id
	_, err := t.exec("INSERT INTO entries (id, body) VALUES (?, ?)", id, body)
	return err
}

const selectUpto = "SELECT upto FROM journal"

func readID(scan scan) (id int64, err error) {
	err = scan(&id)
	return id, err
}

// absorb brings what waits in the journal into the transaction, if that has
// entries of its own: they come after it.
func (t *tx) absorb(j *journal, group []*job) (err error) {
	if !slices.ContainsFunc(group, func(j *job) bool { return len(j.entries) > 0 }) {
		return nil
	}
	if t.upto, err = inTx(t, errNone, readID, selectUpto); err != nil {
		return err
	}
	waiting, err := j.waiting(context.Background(), t.upto, math.MaxInt)
	if err != nil {
		return err
	}
	for _, e := range waiting {
		if err := t.enqueue(e.id, e.body); err != nil {
			return err
		}
	}
	return t.moveTo(t.upto, len(waiting))
}

// redeem spends a grant. The UPDATE repeats what must never go wrong.
func (t *tx) redeem(r authz.Redemption, hash action.Hash) error {
	request, err := t.approval(r.RequestID)
	if err != nil {
		return err
	}
	if err := request.Redeemable(time.UnixMilli(r.Now), hash, r.AgentID); err != nil {
		return err
	}
	n, err := t.exec(`UPDATE approvals SET status = 'REDEEMED', consumed_at = ?, redeemed_by = ?
		WHERE id = ? AND status = 'APPROVED' AND consumed_at IS NULL`, r.Now, r.DecisionID, r.RequestID)
	if err == nil && n != 1 {
		err = approvals.ErrSpent
	}
	if err != nil {
		return err
	}
	return t.giveBack(r.RequestID) // what it is charged is reserved beside it
}

// continueGrant spends a round. The UPDATE repeats what must never go wrong.
func (t *tx) continueGrant(c authz.Continuation, hash action.Hash) error {
	request, err := t.approval(c.RequestID)
	if err != nil {
		return err
	}
	if err := request.Continuable(time.UnixMilli(c.Now), c.Round, hash, c.AgentID); err != nil {
		return err
	}
	n, err := t.exec(`UPDATE approvals SET round_hash = NULL, round_until = NULL, rounds = rounds + 1, continued_by = ?
		WHERE id = ? AND round_hash = ?`, c.DecisionID, c.RequestID, c.Round[:])
	if err == nil && n != 1 {
		err = approvals.ErrSpent
	}
	return err
}

// openRound lets the next message of a call run by the grant of the first.
func (t *tx) openRound(o authz.RoundOpening, hash action.Hash) error {
	request, err := t.approval(o.RequestID)
	if err != nil {
		return err
	}
	if err := request.RoundOpenable(o.DecisionID, hash, o.AgentID); err != nil {
		return err
	}
	n, err := t.exec("UPDATE approvals SET round_hash = ?, round_until = ? WHERE id = ? AND round_hash IS NULL",
		o.Round.Hash[:], o.Round.Until.UnixMilli(), o.RequestID)
	if err == nil && n != 1 {
		err = approvals.ErrSpent
	}
	return err
}

// answer writes an owner's word down.
func (t *tx) answer(a approvals.Answer) error {
	request, err := t.approval(a.RequestID)
	if err != nil {
		return err
	}
	if err := request.Answerable(a); err != nil {
		return err
	}
	request = request.Answered(a)
	passkey, err := passkeyBytes(request.Factor.Passkey)
	if err != nil {
		return err
	}
	n, err := t.exec(`UPDATE approvals SET status = ?, answered_at = ?, answered_by = ?, deny_reason = ?, grant_until = ?,
		factor = ?, passkey = ?, deposit_reference = ?
		WHERE id = ? AND status IN ('PENDING', 'EXPIRED') AND answered_at IS NULL`,
		string(request.Status), millis(request.AnsweredAt), request.AnsweredBy, request.DenyReason, millis(request.GrantUntil),
		request.Factor.Method, passkey, request.DepositReference, a.RequestID)
	if err == nil && n != 1 {
		err = approvals.ErrAnswered
	}
	if err != nil {
		return err
	}
	if p := request.Factor.Passkey; p != nil && a.Approve {
		if err := t.usePasskey(owners.PasskeyUse{OwnerID: request.OwnerID, ID: p.CredentialID, Counter: p.Counter(), Now: a.At}); err != nil {
			return err
		}
	}
	if err := t.endHolds(a.RequestID); err != nil {
		return err
	}
	return t.answerAside(request)
}

func passkeyBytes(a *approvals.Assertion) ([]byte, error) {
	if a == nil {
		return nil, nil
	}
	return json.Marshal(a)
}

// supersede ends a request before its time.
func (t *tx) supersede(id string) error {
	request, err := t.approval(id)
	if err != nil {
		return err
	}
	if err := request.Supersedable(); err != nil {
		return err
	}
	return t.expire(id)
}

func (t *tx) expire(id string) error {
	if _, err := t.exec("UPDATE approvals SET status = 'EXPIRED' WHERE id = ? AND status IN ('PENDING', 'APPROVED')", id); err != nil {
		return err
	}
	if err := t.endHolds(id); err != nil {
		return err
	}
	return t.giveBack(id)
}

// openRequest makes a pending request.
func (t *tx) openRequest(row approvalRow, quota *authz.Quota) error {
	if err := t.makeRoom(row, row.CreatedAt); err != nil {
		return err
	}
	if quota != nil {
		if err := t.within(*quota, row); err != nil {
			return err
		}
	}
	row.Status, row.GrantID = approvals.Pending, ""
	return t.insertApproval(row)
}

// makeRoom sees that no request of the intent is open. Those whose time has passed
// are written down as expired.
func (t *tx) makeRoom(row approvalRow, now time.Time) error {
	rows, err := t.query(selectApprovals+" WHERE agent_id = ? AND intent_hash = ? AND status IN ('PENDING', 'APPROVED')",
		row.AgentID, row.IntentHash[:])
	if err != nil {
		return err
	}
	others, err := collect(rows, readState)
	if err != nil {
		return err
	}
	for _, other := range others {
		if other.Open(now) {
			return authz.ErrOpen
		}
		if err := t.expire(other.ID); err != nil {
			return err
		}
	}
	return nil
}
