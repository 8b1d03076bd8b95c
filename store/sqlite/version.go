package sqlite

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
)

// What is looked at before a call is held, and by its owner. Each takes an index.
const (
	selectKin = selectApprovals + ` WHERE agent_id = ? AND server = ? AND tool = ? AND action_type = ? AND status = ?
		AND length(action) <= ? ORDER BY created_at DESC, n DESC LIMIT ?`
	selectTally = `SELECT (SELECT count(*) FROM (` + selectPersons + ` AND intent_hash = ? LIMIT 100)), (SELECT count(*) FROM (` + selectPersons + ` LIMIT 100))`
	// selectPersons are the requests of a kind that a person has approved.
	selectPersons  = "SELECT 1 FROM approvals WHERE agent_id = ? AND server = ? AND tool = ? AND action_type = ? AND created_at >= ? AND grant_until IS NOT NULL AND grant_id = ''"
	selectQuota    = "SELECT count(*), coalesce(sum(bytes), 0) FROM approvals WHERE agent_id = ? AND status = 'PENDING' AND expires_at > ?"
	selectVersions = "SELECT version, decision_id, action, action_hash FROM approval_versions WHERE request_id = ? ORDER BY version"
)

// bytes is what the row takes, as its agent's quota counts it.
func (r approvalRow) bytes() int {
	return len(r.action) + len(r.toolInfo) + len(r.over) + len(r.Justification) + len(r.context)
}

// prepareWaiting lists what b does to requests that wait, and to who waits for them.
func prepareWaiting(b authz.Batch) (steps []func(*tx) error, err error) {
	if f := b.Fold; f != nil {
		row, err := newApprovalRow(f.Request)
		if err != nil {
			return nil, fmt.Errorf("folding into request %s: %w", f.Request.ID, err)
		}
		steps = append(steps, func(t *tx) error { return t.fold(row, *f) })
	}
	if j := b.Join; j != nil {
		steps = append(steps, func(t *tx) error { return t.join(*j) })
	}
	if h := b.Hold; h != nil {
		steps = append(steps, func(t *tx) error { return t.hold(*h) })
	}
	if h := b.Leave; h != nil {
		steps = append(steps, func(t *tx) error { return t.leave(*h) })
	}
	return steps, nil
}

// fold makes a pending request its next version.
func (t *tx) fold(row approvalRow, f authz.Fold) error {
	was, err := t.approval(row.ID)
	if err != nil {
		return err
	}
	if err := was.Foldable(f.Now, f.Was, row.AgentID); err != nil {
		return err
	}
	if err := t.makeRoom(row, f.Now); err != nil {
		return err
	}
	if err := t.keepVersion(row.ID); err != nil {
		return err
	}
	n, err := t.exec(`UPDATE approvals SET decision_id = ?, action = ?, action_hash = ?, intent_hash = ?, tool_info = ?,
		policy_id = ?, rule_id = ?, reason = ?, overshoots = ?, needs = ?, action_type = ?, near_to = ?, bytes = ?,
		version = version + 1, asked = asked + 1, last_asked = ?
		WHERE id = ? AND status = 'PENDING' AND action_hash = ?`,
		row.DecisionID, row.action, row.ActionHash[:], row.IntentHash[:], row.toolInfo,
		row.PolicyID, row.RuleID, row.Reason, row.over, row.Needs.String(), row.Action.ActionType, row.NearTo, row.bytes(),
		f.Now.UnixMilli(), row.ID, f.Was[:])
	if err == nil && n != 1 {
		err = approvals.ErrReplaced
	}
	if err != nil {
		return err
	}
	return t.giveBack(row.ID) // what the new version sets aside is reserved beside it
}

// keepVersion keeps what a request shows now, and lets go of what is too much: the
// oldest after the first.
func (t *tx) keepVersion(id string) error {
	if _, err := t.exec(`INSERT INTO approval_versions (request_id, version, decision_id, action, action_hash)
		SELECT id, version, decision_id, action, action_hash FROM approvals WHERE id = ?`, id); err != nil {
		return err
	}
	rows, err := t.query("SELECT n, length(action) FROM approval_versions WHERE request_id = ? ORDER BY version DESC", id)
	if err != nil {
		return err
	}
	kept, err := collect(rows, readKept)
	if err != nil {
		return err
	}
	bytes := 0
	for i, v := range kept {
		first := i == len(kept)-1
		if bytes += v.bytes; i == 0 || first || i < approvals.KeepVersions && bytes <= approvals.KeepVersionBytes {
			continue
		}
		if _, err := t.exec("DELETE FROM approval_versions WHERE n = ?", v.n); err != nil {
			return err
		}
	}
	return nil
}

type keptVersion struct {
	n     int64
	bytes int
}

func readKept(scan scan) (v keptVersion, err error) {
	err = scan(&v.n, &v.bytes)
	return v, err
}

// join counts a call with what waits.
func (t *tx) join(j authz.Join) error {
	request, err := t.approval(j.RequestID)
	if err != nil {
		return err
	}
	if err := request.Joinable(j.Now, j.ActionHash, j.AgentID); err != nil {
		return err
	}
	_, err = t.exec("UPDATE approvals SET asked = asked + 1, last_asked = max(last_asked, ?) WHERE id = ?", j.Now.UnixMilli(), j.RequestID)
	return err
}

// hold notes who waits, and forgets those whose time has passed.
func (t *tx) hold(h authz.Hold) error {
	if _, err := t.exec("DELETE FROM holds WHERE until <= ?", h.Now.UnixMilli()); err != nil {
		return err
	}
	_, err := t.exec("INSERT OR REPLACE INTO holds (request_id, decision_id, until) VALUES (?, ?, ?)", h.RequestID, h.DecisionID, h.Until.UnixMilli())
	return err
}

func (t *tx) leave(h authz.Hold) error {
	_, err := t.exec("DELETE FROM holds WHERE request_id = ? AND decision_id = ?", h.RequestID, h.DecisionID)
	return err
}

// endHolds: nobody waits for what is not pending.
func (t *tx) endHolds(id string) error {
	_, err := t.exec("DELETE FROM holds WHERE request_id = ?", id)
	return err
}

// within sees that a request fits beside what its agent has open.
func (t *tx) within(q authz.Quota, row approvalRow) error {
	have, err := inTx(t, errNone, readQuota, selectQuota, row.AgentID, row.CreatedAt.UnixMilli())
	if err != nil {
		return err
	}
	if have.Requests+1 > q.Requests || have.Bytes+int64(row.bytes()) > q.Bytes {
		return &have
	}
	return nil
}

func readQuota(scan scan) (e authz.QuotaError, err error) {
	err = scan(&e.Requests, &e.Bytes)
	return e, err
}

// Kin lists requests of a kind, newest first.
func (s *Store) Kin(ctx context.Context, k approvals.Kind, status approvals.Status, limit int) ([]approvals.Request, error) {
	return list(ctx, s, readApproval, selectKin,
		k.AgentID, k.Server, k.Tool, k.ActionType, string(status), approvals.MaxCompared, limit)
}

// Versions lists the former versions of a request, oldest first.
func (s *Store) Versions(ctx context.Context, id string) ([]approvals.Version, error) {
	return list(ctx, s, readVersion, selectVersions, id)
}

// readVersion reads a former version. What it shows is what was hashed.
func readVersion(scan scan) (v approvals.Version, err error) {
	var canonical, hash []byte
	if err := scan(&v.Version, &v.DecisionID, &canonical, &hash); err != nil {
		return v, err
	}
	copy(v.ActionHash[:], hash)
	if sha256.Sum256(canonical) != v.ActionHash {
		return v, errAltered
	}
	v.Action, err = action.ReadRequest(canonical)
	return v, err
}

// Tally counts what a person has approved: not what a standing grant let through.
func (s *Store) Tally(ctx context.Context, r approvals.Request, since time.Time) (approvals.Tally, error) {
	k := r.Kind()
	return one(ctx, s, errNone, readTally, selectTally,
		k.AgentID, k.Server, k.Tool, k.ActionType, since.UnixMilli(), r.IntentHash[:], k.AgentID, k.Server, k.Tool, k.ActionType, since.UnixMilli())
}

func readTally(scan scan) (t approvals.Tally, err error) {
	err = scan(&t.Call, &t.Kind)
	return t, err
}
