package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/authz"
)

// Commit commits a batch, durably, or returns why nothing of it was done.
func (s *Store) Commit(ctx context.Context, b authz.Batch) error {
	apply, err := prepare(b)
	if err != nil {
		return fmt.Errorf("committing: %w", err)
	}
	return s.write(ctx, apply)
}

// prepare does what can be done before the transaction, in the caller's
// goroutine. What it returns does the rest, conditions first.
func prepare(b authz.Batch) (func(*tx) error, error) {
	bodies := make([][]byte, len(b.Entries))
	for i, e := range b.Entries {
		body, err := audit.Encode(e)
		if err != nil {
			return nil, err
		}
		bodies[i] = body
	}
	steps, err := prepareApprovals(b)
	if err != nil {
		return nil, err
	}
	return func(t *tx) error {
		for _, step := range steps {
			if err := step(t); err != nil {
				return err
			}
		}
		return t.append(bodies)
	}, nil
}

// prepareApprovals lists what b does to approvals, in the order in which it does it.
func prepareApprovals(b authz.Batch) (steps []func(*tx) error, err error) {
	if b.Redeem != nil {
		hash, err := action.ParseHash(b.Redeem.ActionHash)
		if err != nil {
			return nil, fmt.Errorf("redeeming %s: %w", b.Redeem.RequestID, err)
		}
		steps = append(steps, func(t *tx) error { return t.redeem(*b.Redeem, hash) })
	}
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
		steps = append(steps, func(t *tx) error { return t.openRequest(row) })
	}
	return steps, nil
}

// append queues entries for the log.
func (t *tx) append(bodies [][]byte) error {
	for _, body := range bodies {
		if _, err := t.exec("INSERT INTO entries (body) VALUES (?)", body); err != nil {
			return err
		}
	}
	return nil
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
	n, err := t.exec(`UPDATE approvals SET status = ?, answered_at = ?, answered_by = ?, deny_reason = ?, grant_until = ?
		WHERE id = ? AND status IN ('PENDING', 'EXPIRED') AND answered_at IS NULL`,
		string(request.Status), millis(request.AnsweredAt), request.AnsweredBy, request.DenyReason, millis(request.GrantUntil), a.RequestID)
	if err == nil && n != 1 {
		err = approvals.ErrAnswered
	}
	return err
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
	_, err := t.exec("UPDATE approvals SET status = 'EXPIRED' WHERE id = ? AND status IN ('PENDING', 'APPROVED')", id)
	return err
}

// openRequest makes a pending request. Those of its intent whose time has
// passed are written down as expired, to make room.
func (t *tx) openRequest(row approvalRow) error {
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
		if other.Open(row.CreatedAt) {
			return authz.ErrOpen
		}
		if err := t.expire(other.ID); err != nil {
			return err
		}
	}
	return t.insertApproval(row)
}
