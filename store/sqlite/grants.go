package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
)

// grantRow is a grant with the bytes that are stored for its values.
type grantRow struct {
	approvals.Grant
	request approvalRow
	bounds  []byte // nil: none
}

// selectGrants names the columns in readGrantRow's order.
const selectGrants = "SELECT " + approvalColumns + `,
	g_id, g_bounds, g_uses, g_used, g_created, g_until, g_by, g_withdrawn, g_withdrawn_by
	FROM (SELECT n AS g_n, id AS g_id, request_id AS g_request, owner_id AS g_owner, agent_id AS g_agent, action_type AS g_type, bounds AS g_bounds,
		uses AS g_uses, used AS g_used, created_at AS g_created, until AS g_until, given_by AS g_by, withdrawn_at AS g_withdrawn, withdrawn_by AS g_withdrawn_by FROM grants)
	JOIN approvals ON id = g_request`

func readGrantRow(scan scan) (g grantRow, err error) {
	var created, until int64
	var withdrawn sql.NullInt64
	g.request, err = readRow(func(dest ...any) error {
		return scan(append(dest, &g.ID, &g.bounds, &g.Uses, &g.Used, &created, &until, &g.GivenBy, &withdrawn, &g.WithdrawnBy)...)
	})
	g.CreatedAt, g.Until, g.WithdrawnAt = instant(created), instant(until), optional(withdrawn)
	return g, err
}

// readGrant reads a grant whole. What it covers is what was hashed.
func readGrant(scan scan) (approvals.Grant, error) {
	g, err := readGrantRow(scan)
	if err == nil {
		err = g.parse()
	}
	if err != nil {
		return approvals.Grant{}, fmt.Errorf("reading grant %s: %w", g.ID, err)
	}
	return g.Grant, nil
}

func (g *grantRow) parse() (err error) {
	if err := g.request.parse(); err != nil {
		return err
	}
	g.Request = g.request.Request
	if g.bounds != nil {
		g.Bounds, err = approvals.DecodeBounds(g.bounds)
	}
	return err
}

// Grant returns one grant.
func (s *Store) Grant(ctx context.Context, id string) (approvals.Grant, error) {
	return one(ctx, s, approvals.ErrNotFound, readGrant, selectGrants+" WHERE g_id = ?", id)
}

// RequestGrant returns the grant that was given on a request.
func (s *Store) RequestGrant(ctx context.Context, requestID string) (approvals.Grant, error) {
	return one(ctx, s, approvals.ErrNotFound, readGrant, selectGrants+" WHERE g_request = ?", requestID)
}

// LiveGrants lists those that an agent may use for a type of action.
func (s *Store) LiveGrants(ctx context.Context, agent, actionType string, now time.Time) ([]approvals.Grant, error) {
	return list(ctx, s, readGrant, selectGrants+` WHERE g_agent = ? AND g_type = ? AND g_until > ? AND g_withdrawn IS NULL
		AND (g_uses = 0 OR g_used < g_uses) ORDER BY g_until, g_n`, agent, actionType, now.UnixMilli())
}

// Grants lists an owner's grants, newest first; without limit when it is 0.
func (s *Store) Grants(ctx context.Context, owner string, limit int) ([]approvals.Grant, error) {
	if limit <= 0 {
		limit = -1
	}
	return list(ctx, s, readGrant, selectGrants+" WHERE g_owner = ? ORDER BY g_created DESC, g_n DESC LIMIT ?", owner, limit)
}

// grant reads a grant inside the transaction.
func (t *tx) grant(id string) (approvals.Grant, error) {
	return inTx(t, approvals.ErrNotFound, readGrant, selectGrants+" WHERE g_id = ?", id)
}

// prepareStanding lists what b does to standing grants, and withdraws.
func prepareStanding(b authz.Batch) (steps []func(*tx) error, err error) {
	if u := b.UseGrant; u != nil {
		row, err := newApprovalRow(u.Request)
		if err != nil {
			return nil, fmt.Errorf("using grant %s: %w", u.GrantID, err)
		}
		steps = append(steps, func(t *tx) error { return t.useGrant(*u, row) })
	}
	if b.Grant != nil {
		if b.Answer == nil || !b.Answer.Approve || b.Answer.RequestID != b.Grant.Request.ID {
			return nil, fmt.Errorf("giving grant %s: it comes with an approval of its request", b.Grant.ID)
		}
		bounds, err := boundsColumn(b.Grant.Bounds)
		if err != nil {
			return nil, fmt.Errorf("giving grant %s: %w", b.Grant.ID, err)
		}
		steps = append(steps, func(t *tx) error { return t.giveGrant(*b.Grant, bounds) })
	}
	if b.Withdraw != nil {
		steps = append(steps, func(t *tx) error { return t.withdraw(*b.Withdraw) })
	}
	return steps, nil
}

// boundsColumn is how bounds are stored, and sees that they can be read back.
func boundsColumn(list []approvals.Bound) (any, error) {
	if len(list) == 0 {
		return nil, nil
	}
	data, err := approvals.EncodeBounds(list)
	if err == nil {
		_, err = approvals.DecodeBounds(data)
	}
	return data, err
}

// useGrant takes one use of a grant and leaves the request of that use. The UPDATE
// repeats what must never go wrong.
func (t *tx) useGrant(u authz.GrantUse, row approvalRow) error {
	g, err := t.grant(u.GrantID)
	if err != nil {
		return err
	}
	if err := g.Usable(u.Now, row.Request); err != nil {
		return err
	}
	if err := t.nothingElse(row, u.Now); err != nil {
		return err
	}
	n, err := t.exec(`UPDATE grants SET used = used + 1
		WHERE id = ? AND withdrawn_at IS NULL AND until > ? AND (uses = 0 OR used < uses)`, u.GrantID, u.Now.UnixMilli())
	if err == nil && n != 1 {
		err = approvals.ErrSpent
	}
	if err != nil {
		return err
	}
	return t.insertApproval(row)
}

// nothingElse sees that no request of that agent and intent comes before a grant: one
// that is open, or was denied since the decision looked.
func (t *tx) nothingElse(row approvalRow, now time.Time) error {
	_, err := inTx(t, approvals.ErrNotFound, readState, selectOpen, openArgs(row.AgentID, row.IntentHash, now, now.Add(-time.Millisecond))...)
	switch {
	case errors.Is(err, approvals.ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	return authz.ErrOpen
}

// giveGrant stores a grant; the answer that it comes with is looked at beside it.
func (t *tx) giveGrant(g approvals.Grant, bounds any) error {
	request, err := t.approval(g.Request.ID)
	if err != nil {
		return err
	}
	if err := g.Givable(request); err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO grants (id, request_id, owner_id, agent_id, action_type, bounds, uses, used, created_at, until, given_by)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (request_id) DO NOTHING`, // then the answer is none either
		g.ID, g.Request.ID, g.Request.OwnerID, g.Request.AgentID, g.Request.Action.ActionType, bounds, g.Uses, g.Used,
		g.CreatedAt.UnixMilli(), g.Until.UnixMilli(), g.GivenBy)
	return err
}

// withdraw takes back what was given and is unspent.
func (t *tx) withdraw(w approvals.Withdrawal) error {
	if w.GrantID == "" {
		return t.withdrawApproval(w.RequestID, w)
	}
	g, err := t.grant(w.GrantID)
	if err != nil {
		return err
	}
	if err := g.Withdrawable(w.At, g.Request); err != nil {
		return err
	}
	n, err := t.exec("UPDATE grants SET withdrawn_at = ?, withdrawn_by = ? WHERE id = ? AND withdrawn_at IS NULL", w.At.UnixMilli(), w.By, w.GrantID)
	if err == nil && n != 1 {
		err = approvals.ErrWithdrawn
	}
	if err != nil || g.Request.Withdrawable(w.At) != nil {
		return err
	}
	return t.withdrawApproval(g.Request.ID, w)
}

func (t *tx) withdrawApproval(id string, w approvals.Withdrawal) error {
	request, err := t.approval(id)
	if err != nil {
		return err
	}
	if err := request.Withdrawable(w.At); err != nil {
		return err
	}
	request = request.Withdrawn(w)
	n, err := t.exec(`UPDATE approvals SET status = 'DENIED', answered_at = ?, answered_by = ?, deny_reason = ?, grant_until = NULL
		WHERE id = ? AND status = 'APPROVED' AND consumed_at IS NULL`, w.At.UnixMilli(), request.AnsweredBy, request.DenyReason, id)
	if err == nil && n != 1 {
		err = approvals.ErrSpent
	}
	if err != nil {
		return err
	}
	return t.giveBack(id)
}
