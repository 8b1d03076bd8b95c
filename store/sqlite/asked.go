package sqlite

import (
	"context"
	"errors"

	"github.com/openleash/openleash-go/authz"
)

// prepareAsked lists what b does for the signed request that it is of.
func prepareAsked(b authz.Batch) (steps []func(*tx) error) {
	if n := b.Nonce; n != nil {
		steps = append(steps, func(t *tx) error { return t.spendNonce(*n) })
	}
	if a := b.Asked; a != nil {
		steps = append(steps, func(t *tx) error { return t.keepAsked(*a) })
	}
	if id := b.Reported; id != "" {
		steps = append(steps, func(t *tx) error { return t.report(id) })
	}
	return steps
}

// When forgetEvery rows were added to a table, as many as forgetAtOnce of its oldest go, if
// their time has passed: more than were added, so that what a flood has left goes with
// time. Looking at each would take as long as adding does.
const (
	forgetEvery  = 16
	forgetAtOnce = 4 * forgetEvery
)

// forget removes what is over from a table of signed requests.
func (t *tx) forget(table string, now int64) error {
	t.added[table]++
	if t.added[table]%forgetEvery != 1 { // the first of a process looks too
		return nil
	}
	_, err := t.exec("DELETE FROM "+table+" WHERE n IN (SELECT n FROM "+table+" ORDER BY n LIMIT ?) AND until <= ?", forgetAtOnce, now)
	return err
}

func (t *tx) spendNonce(n authz.Nonce) error {
	if err := t.forget("nonces", n.Now); err != nil {
		return err
	}
	added, err := t.exec("INSERT INTO nonces (hash, until) VALUES (?, ?) ON CONFLICT (hash) DO NOTHING", n.Hash[:], n.Until)
	if err == nil && added == 0 {
		err = authz.ErrReplayed
	}
	return err
}

const selectAsked = `SELECT agent_id, action_id, action_hash, decision_id, action_type, policy_id, outcome, claims, grant_id, reported, until FROM asked`

func readAsked(scan scan) (a authz.Asked, err error) {
	var hash []byte
	err = scan(&a.AgentID, &a.ActionID, &hash, &a.DecisionID, &a.ActionType, &a.PolicyID, &a.Outcome, &a.Claims, &a.GrantID, &a.Reported, &a.Until)
	copy(a.ActionHash[:], hash)
	return a, err
}

// keepAsked puts what was decided in the place of what was kept of the action: of what
// the attempt has seen (Was), and of any other decision on the very same action that was
// no ALLOW. Nothing comes of those, and many at once need not wait for each other.
func (t *tx) keepAsked(a authz.Asked) error {
	if err := t.forget("asked", a.Now); err != nil {
		return err
	}
	kept, err := t.insertAsked(a)
	if err != nil || kept {
		return err
	}
	n, err := t.exec(`DELETE FROM asked WHERE agent_id = ? AND action_id = ? AND (decision_id = ? OR outcome <> 'ALLOW' AND action_hash = ?)`,
		a.AgentID, a.ActionID, a.Was, a.ActionHash[:])
	if err == nil && n == 0 {
		err = authz.ErrAsked
	}
	if err != nil {
		return err
	}
	_, err = t.insertAsked(a)
	return err
}

// insertAsked keeps what was decided, if nothing is kept of the action.
func (t *tx) insertAsked(a authz.Asked) (bool, error) {
	n, err := t.exec(`INSERT INTO asked (agent_id, action_id, action_hash, decision_id, action_type, policy_id, outcome, claims, grant_id, until)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (agent_id, action_id) DO NOTHING`,
		a.AgentID, a.ActionID, a.ActionHash[:], a.DecisionID, a.ActionType, a.PolicyID, a.Outcome, a.Claims, a.GrantID, a.Until)
	return n == 1, err
}

func (t *tx) report(decisionID string) error {
	n, err := t.exec("UPDATE asked SET reported = 1 WHERE decision_id = ? AND reported = 0", decisionID)
	if err == nil && n == 0 {
		err = authz.ErrReported
	}
	return err
}

// Asked returns what is kept of an agent's action.
func (s *Store) Asked(ctx context.Context, agent, actionID string) (authz.Asked, error) {
	a, err := one(ctx, s, errNone, readAsked, selectAsked+" WHERE agent_id = ? AND action_id = ?", agent, actionID)
	return a, notAsked(err)
}

// AskedBy returns what is kept of the action of a decision.
func (s *Store) AskedBy(ctx context.Context, decisionID string) (authz.Asked, error) {
	a, err := one(ctx, s, errNone, readAsked, selectAsked+" WHERE decision_id = ?", decisionID)
	return a, notAsked(err)
}

func notAsked(err error) error {
	if errors.Is(err, errNone) {
		return authz.ErrNotAsked
	}
	return err
}
