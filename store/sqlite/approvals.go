package sqlite

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
)

var errAltered = errors.New("the stored action is not the one that its hash names: the database was altered; deny the request")

// approvalRow is a request with the bytes that are stored for its values.
type approvalRow struct {
	approvals.Request
	action   []byte
	toolInfo []byte // nil outside MCP
	over     []byte // JSON; nil: it was over no limit
	context  []byte // nil: none
	needs    string
	passkey  []byte // JSON; nil: it was not approved by one
}

// newApprovalRow prepares a request, and sees that it can be read back: one that
// cannot would keep its owner from all others.
func newApprovalRow(r approvals.Request) (approvalRow, error) {
	row := approvalRow{Request: r, action: r.Action.Canonical()}
	if sum := action.Hash(sha256.Sum256(row.action)); sum != r.ActionHash {
		return row, fmt.Errorf("its action has the hash %s, but it names %s", sum, r.ActionHash)
	}
	if r.ToolInfo.Kind() != action.Missing {
		row.toolInfo = r.ToolInfo.Canonical()
	}
	if len(r.Overshoots) > 0 {
		var err error
		if row.over, err = json.Marshal(r.Overshoots); err != nil {
			return row, err
		}
	}
	if r.Context.Kind() != action.Missing {
		row.context = r.Context.Canonical()
	}
	readBack := row
	return row, readBack.parse()
}

// insertApproval stores a new request: one that waits, or one that a grant has let
// through, which has run with it.
func (t *tx) insertApproval(r approvalRow) error {
	var consumed time.Time
	if r.Status == approvals.Redeemed {
		consumed = r.CreatedAt
	}
	_, err := t.exec(`INSERT INTO approvals (id, owner_id, agent_id, decision_id, action, action_hash, intent_hash,
		server, tool, tool_info, policy_id, rule_id, reason, overshoots, created_at, expires_at,
		action_type, last_asked, near_to, bytes,
		status, answered_at, answered_by, grant_until, consumed_at, redeemed_by, grant_id, justification, context, needs)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		r.ID, r.OwnerID, r.AgentID, r.DecisionID, r.action, r.ActionHash[:], r.IntentHash[:],
		r.Server, r.Tool, r.toolInfo, r.PolicyID, r.RuleID, r.Reason, r.over, r.CreatedAt.UnixMilli(), r.ExpiresAt.UnixMilli(),
		r.Action.ActionType, r.CreatedAt.UnixMilli(), r.NearTo, r.bytes(),
		r.Status, millis(r.AnsweredAt), r.AnsweredBy, millis(r.GrantUntil), millis(consumed), r.RedeemedBy, r.GrantID, r.Justification, r.context, r.Needs.String())
	return err
}

// approvalColumns are in readRow's order.
const approvalColumns = `id, owner_id, agent_id, decision_id, action, action_hash, intent_hash,
	server, tool, tool_info, policy_id, rule_id, reason, status, created_at, expires_at,
	answered_at, answered_by, deny_reason, grant_until, redeemed_by,
	round_hash, round_until, rounds, continued_by, overshoots, grant_id, version, asked, last_asked, near_to, justification, context, needs, factor, passkey, deposit_reference,
	(SELECT max(until) FROM holds WHERE request_id = approvals.id)`

const selectApprovals = "SELECT " + approvalColumns + " FROM approvals"

// readRow reads a row and leaves action and tool_info as they are.
func readRow(scan scan) (approvalRow, error) {
	var r approvalRow
	var actionHash, intentHash, round []byte
	var created, expires, lastAsked int64
	var answered, grant, roundUntil, held sql.NullInt64
	err := scan(&r.ID, &r.OwnerID, &r.AgentID, &r.DecisionID, &r.action, &actionHash, &intentHash,
		&r.Server, &r.Tool, &r.toolInfo, &r.PolicyID, &r.RuleID, &r.Reason, &r.Status, &created, &expires,
		&answered, &r.AnsweredBy, &r.DenyReason, &grant, &r.RedeemedBy,
		&round, &roundUntil, &r.Rounds, &r.ContinuedBy, &r.over, &r.GrantID, &r.Version, &r.Asked, &lastAsked, &r.NearTo, &r.Justification, &r.context, &r.needs, &r.Factor.Method, &r.passkey, &r.DepositReference, &held)
	if err == nil { // also the rules go by it
		r.Needs, err = approvals.ParseNeeds(r.needs)
	}
	copy(r.ActionHash[:], actionHash)
	copy(r.IntentHash[:], intentHash)
	copy(r.Round.Hash[:], round)
	r.CreatedAt, r.ExpiresAt = instant(created), instant(expires)
	r.AnsweredAt, r.GrantUntil = optional(answered), optional(grant)
	r.Round.Until, r.HeldUntil, r.LastAsked = optional(roundUntil), optional(held), instant(lastAsked)
	return r, err
}

// readState reads what the rules need, which is not what is shown.
func readState(scan scan) (approvals.Request, error) {
	row, err := readRow(scan)
	return row.Request, err
}

// readApproval reads a request whole. What it shows is what was hashed.
func readApproval(scan scan) (approvals.Request, error) {
	row, err := readRow(scan)
	if err == nil {
		err = row.parse()
	}
	if err != nil {
		return approvals.Request{}, fmt.Errorf("reading approval request %s: %w", row.ID, err)
	}
	return row.Request, nil
}

func (r *approvalRow) parse() error {
	if sha256.Sum256(r.action) != r.ActionHash {
		return errAltered
	}
	var err error
	if r.Action, err = action.ReadRequest(r.action); err != nil {
		return fmt.Errorf("its action: %w", err)
	}
	if r.over != nil {
		if err := json.Unmarshal(r.over, &r.Overshoots); err != nil {
			return fmt.Errorf("its limits: %w", err)
		}
	}
	if r.context != nil {
		if r.Context, err = action.Parse(r.context, action.Limits{CaseTwins: true}); err != nil {
			return fmt.Errorf("its context: %w", err)
		}
	}
	if r.passkey != nil {
		if err := json.Unmarshal(r.passkey, &r.Factor.Passkey); err != nil {
			return fmt.Errorf("its passkey's assertion: %w", err)
		}
	}
	if r.toolInfo == nil {
		return nil
	}
	// What an upstream said of its tool is not ours to find fault with.
	if r.ToolInfo, err = action.Parse(r.toolInfo, action.Limits{Bytes: math.MaxInt, Depth: 1 << 10, CaseTwins: true}); err != nil {
		return fmt.Errorf("its tool: %w", err)
	}
	return nil
}

// approval reads the state of a request inside the transaction.
func (t *tx) approval(id string) (approvals.Request, error) {
	return inTx(t, approvals.ErrNotFound, readState, selectApprovals+" WHERE id = ?", id)
}

// Approval returns one request.
func (s *Store) Approval(ctx context.Context, id string) (approvals.Request, error) {
	return one(ctx, s, approvals.ErrNotFound, readApproval, selectApprovals+" WHERE id = ?", id)
}

// OpenApproval returns the request that matters for an intent.
func (s *Store) OpenApproval(ctx context.Context, agent string, intent action.Hash, now, deniedAfter time.Time) (approvals.Request, error) {
	return one(ctx, s, approvals.ErrNotFound, readApproval, selectOpen, openArgs(agent, intent, now, deniedAfter)...)
}

func openArgs(agent string, intent action.Hash, now, deniedAfter time.Time) []any {
	return []any{agent, intent[:], now.UnixMilli(), agent, intent[:], deniedAfter.UnixMilli()}
}

// selectOpen takes an index for each half: an intent has one open request at most, and
// any number of ended ones.
const selectOpen = selectApprovals + ` WHERE n IN (
	SELECT n FROM approvals WHERE agent_id = ? AND intent_hash = ? AND status IN ('PENDING', 'APPROVED')
		AND coalesce(grant_until, expires_at) > ?
	UNION ALL
	SELECT n FROM (SELECT n FROM approvals WHERE agent_id = ? AND intent_hash = ? AND status = 'DENIED' AND answered_at > ?
		ORDER BY answered_at DESC LIMIT 1)
	) ORDER BY coalesce(answered_at, created_at) DESC, n DESC LIMIT 1`

// RoundApproval returns the request of which a round is open.
func (s *Store) RoundApproval(ctx context.Context, round [32]byte) (approvals.Request, error) {
	return one(ctx, s, approvals.ErrNotFound, readApproval, selectApprovals+" WHERE round_hash = ?", round[:])
}

// LastApproved returns the newest request of a kind that a person has approved.
func (s *Store) LastApproved(ctx context.Context, r approvals.Request) (approvals.Request, error) {
	return one(ctx, s, approvals.ErrNotFound, readApproval, selectLastApproved,
		r.AgentID, r.Server, r.Tool, r.CreatedAt.UnixMilli(), r.ID, r.Action.ActionType)
}

const selectLastApproved = selectApprovals + ` WHERE agent_id = ? AND server = ? AND tool = ?
	AND grant_until IS NOT NULL AND grant_id = '' AND created_at <= ? AND id <> ? AND action_type = ? ORDER BY created_at DESC, n DESC LIMIT 1`

// Approvals lists an owner's requests, newest first; without limit when it is 0.
func (s *Store) Approvals(ctx context.Context, owner string, status approvals.Status, limit int) ([]approvals.Request, error) {
	if limit <= 0 {
		limit = -1
	}
	if status == "" {
		return list(ctx, s, readApproval, selectApprovals+" WHERE owner_id = ? ORDER BY created_at DESC, n DESC LIMIT ?", owner, limit)
	}
	return list(ctx, s, readApproval, selectApprovals+" WHERE owner_id = ? AND status = ? ORDER BY created_at DESC, n DESC LIMIT ?",
		owner, string(status), limit)
}

const selectWaiting = "SELECT id, version FROM approvals WHERE owner_id = ? AND status = 'PENDING' AND expires_at > ? ORDER BY expires_at, id"

// Waiting lists what is pending at now, from an index alone.
func (s *Store) Waiting(ctx context.Context, owner string, now time.Time) ([]approvals.Waiting, error) {
	return list(ctx, s, func(scan scan) (w approvals.Waiting, err error) {
		err = scan(&w.ID, &w.Version)
		return w, err
	}, selectWaiting, owner, now.UnixMilli())
}

// millis is how a time is stored; the zero time as NULL.
func millis(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMilli()
}

func instant(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

func optional(ms sql.NullInt64) time.Time {
	if !ms.Valid {
		return time.Time{}
	}
	return instant(ms.Int64)
}
