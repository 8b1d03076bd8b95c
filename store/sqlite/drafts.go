package sqlite

import (
	"context"
	"database/sql"

	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/draft"
	"github.com/openleash/openleash-go/identity"
)

// prepareDrafts lists what b does to policies that agents propose.
func prepareDrafts(b authz.Batch) (steps []func(*tx) error) {
	if p := b.Propose; p != nil {
		steps = append(steps, func(t *tx) error { return t.propose(*p) })
	}
	if a := b.AnswerDraft; a != nil {
		steps = append(steps, func(t *tx) error { return t.answerDraft(*a) })
	}
	return steps
}

// Columns of a proposal; a list has no texts.
const (
	draftColumns = `SELECT d.id, d.owner_id, d.agent_id, a.name, coalesce(d.target_id, ''), coalesce(f.name, ''), d.name, d.description, d.justification,
		d.hash, d.status, d.created_at, d.resolved_at, d.resolved_by, d.deny_reason, d.policy_id, `
	draftTables  = ` FROM policy_drafts d JOIN agents a ON a.id = d.agent_id LEFT JOIN agents f ON f.id = d.target_id`
	selectDraft  = draftColumns + "d.policy" + draftTables + " WHERE d.id = ?"
	selectDrafts = draftColumns + "''" + draftTables
	newestDrafts = " AND (?2 = '' OR d.status = ?2) ORDER BY d.n DESC LIMIT ?3"
)

func readDraft(scan scan) (p draft.Proposal, err error) {
	var hash []byte
	var created int64
	var resolved sql.NullInt64
	err = scan(&p.ID, &p.OwnerID, &p.AgentID, &p.Agent, &p.TargetID, &p.Target, &p.Name, &p.Description, &p.Justification,
		&hash, &p.Status, &created, &resolved, &p.ResolvedBy, &p.DenyReason, &p.PolicyID, &p.Policy)
	copy(p.Hash[:], hash)
	p.CreatedAt, p.ResolvedAt = instant(created), optional(resolved)
	return p, err
}

// PolicyDraft returns one policy draft.
func (s *Store) PolicyDraft(ctx context.Context, id string) (draft.Proposal, error) {
	return one(ctx, s, draft.ErrNotFound, readDraft, selectDraft, id)
}

// PolicyDrafts lists those of an owner's agents.
func (s *Store) PolicyDrafts(ctx context.Context, ownerID string, status draft.Status, limit int) ([]draft.Proposal, error) {
	return list(ctx, s, readDraft, selectDrafts+" WHERE d.owner_id = ?1"+newestDrafts, ownerID, status, limit)
}

// PolicyDraftsBy lists those of one agent.
func (s *Store) PolicyDraftsBy(ctx context.Context, agentID string, status draft.Status, limit int) ([]draft.Proposal, error) {
	return list(ctx, s, readDraft, selectDrafts+" WHERE d.agent_id = ?1"+newestDrafts, agentID, status, limit)
}

// PolicyDraftsWaiting counts those that wait for an owner.
func (s *Store) PolicyDraftsWaiting(ctx context.Context, ownerID string) (int, error) {
	n, err := one(ctx, s, errNone, readID, "SELECT count(*) FROM policy_drafts WHERE owner_id = ? AND status = 'PENDING'", ownerID)
	return int(n), err
}

func (t *tx) propose(p draft.Proposal) error {
	if err := t.mayPropose(p); err != nil {
		return err
	}
	waiting, err := inTx(t, errNone, readID, "SELECT count(*) FROM policy_drafts WHERE owner_id = ? AND agent_id = ? AND status = 'PENDING'", p.OwnerID, p.AgentID)
	if err == nil && waiting >= draft.MaxPending {
		err = draft.ErrTooMany
	}
	if err != nil {
		return err
	}
	var target any
	if p.TargetID != "" {
		target = p.TargetID
	}
	_, err = t.exec(`INSERT INTO policy_drafts (id, owner_id, agent_id, target_id, name, description, justification, policy, hash, status, created_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'PENDING', ?)`,
		p.ID, p.OwnerID, p.AgentID, target, p.Name, p.Description, p.Justification, p.Policy, p.Hash[:], p.CreatedAt.UnixMilli())
	return err
}

// mayPropose looks at who proposes, and for whom.
func (t *tx) mayPropose(p draft.Proposal) error {
	by, err := inTx(t, identity.ErrNotFound, readAgent, selectAgents+" WHERE a.id = ? AND a.owner_id = ?", p.AgentID, p.OwnerID)
	switch {
	case err != nil:
		return err
	case by.Status != identity.Active:
		return identity.ErrRevoked
	case p.TargetID == "":
		return nil
	}
	target, err := inTx(t, draft.ErrNoTarget, readAgent, selectAgents+" WHERE a.id = ? AND a.owner_id = ?", p.TargetID, p.OwnerID)
	if err == nil && target.Status == identity.Revoked {
		err = draft.ErrNoTarget
	}
	return err
}

// answerDraft writes an owner's word down. The UPDATE repeats what must never go wrong.
func (t *tx) answerDraft(a draft.Answer) error {
	p, err := inTx(t, draft.ErrNotFound, readDraft, selectDraft, a.ID)
	if err == nil {
		err = p.Answerable(a)
	}
	if err != nil {
		return err
	}
	status := draft.Denied
	if a.Approve {
		status = draft.Approved
	}
	n, err := t.exec(`UPDATE policy_drafts SET status = ?, resolved_at = ?, resolved_by = ?, deny_reason = ?, policy_id = ?
		WHERE id = ? AND status = 'PENDING' AND hash = ?`, status, a.At.UnixMilli(), a.By, a.Reason, a.PolicyID, a.ID, a.Hash[:])
	if err == nil && n != 1 {
		err = draft.ErrAnswered
	}
	return err
}

// voidDrafts ends what waits of a revoked agent, and what waits for it: its name may be
// another's soon.
func (t *tx) voidDrafts(c identity.AgentChange) error {
	_, err := t.exec(`UPDATE policy_drafts SET status = 'DENIED', resolved_at = ?1, resolved_by = ?2, deny_reason = 'the agent was revoked'
		WHERE owner_id = ?3 AND status = 'PENDING' AND (agent_id = ?4 OR target_id = ?4)`, c.Now.UnixMilli(), c.By, c.OwnerID, c.AgentID)
	return err
}
