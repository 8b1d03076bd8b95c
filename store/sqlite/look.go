package sqlite

import (
	"context"
	"encoding/json"
	"math"
	"slices"

	"github.com/openleash/openleash-go/authz"
)

// Room tells how full limits are, and whether charges would fit.
func (s *Store) Room(ctx context.Context, now int64, charges []authz.Charge) (rooms []authz.Room, err error) {
	err = s.atOnce(ctx, func(q querier) error {
		for _, c := range charges {
			state, fits, err := room(q, moment{now: now}, c)
			if err != nil {
				return err
			}
			rooms = append(rooms, authz.Room{LimitState: state, Fits: fits})
		}
		return nil
	})
	return rooms, err
}

// Limits and their keys are found by going from each to the next in an index, not by
// looking at the charges of any.
const (
	selectIDs = `WITH RECURSIVE ids (id) AS (
		SELECT ''
		UNION ALL
		SELECT (SELECT limit_id FROM charges WHERE limit_id > ids.id ORDER BY limit_id LIMIT 1) FROM ids WHERE id IS NOT NULL)
		SELECT id FROM ids WHERE id > ''
		UNION SELECT limit_id FROM asides ORDER BY 1`

	// The keys of a limit of which a charge is in the window.
	selectChargedKeys = `WITH RECURSIVE keys (key) AS (
		SELECT ?2
		UNION ALL
		SELECT (SELECT key FROM charges WHERE limit_id = ?1 AND key > keys.key ORDER BY key LIMIT 1) FROM keys WHERE key IS NOT NULL)
		SELECT key FROM keys WHERE key > ?2 AND EXISTS (SELECT 1 FROM charges c WHERE c.limit_id = ?1 AND c.key = keys.key AND c.at >= ?3 AND c.at < ?4)
		LIMIT ?5`

	// Those for which something is set aside.
	selectAsideKeys = "SELECT DISTINCT key FROM asides WHERE limit_id = ? AND key > ? AND until > ? ORDER BY key LIMIT ?"
)

// LimitIDs lists the limits of which anything is kept.
func (s *Store) LimitIDs(ctx context.Context) ([]string, error) {
	return list(ctx, s, readText, selectIDs)
}

// LimitKeys tells how full a limit is for each of its keys.
func (s *Store) LimitKeys(ctx context.Context, now int64, c authz.Charge, after string, n int) (states []authz.KeyState, err error) {
	err = s.atOnce(ctx, func(q querier) error {
		keys, err := keysOf(q, now, c, after, n)
		if err != nil {
			return err
		}
		for _, key := range keys {
			c.Key = key
			state, err := keyState(q, now, c)
			if err != nil {
				return err
			}
			states = append(states, state)
		}
		return nil
	})
	return states, err
}

func keysOf(q querier, now int64, c authz.Charge, after string, n int) ([]string, error) {
	if c.Key != "" {
		return []string{c.Key}, nil
	}
	charged, err := texts(q, selectChargedKeys, c.Limit, after, c.From, end(c), n)
	if err != nil {
		return nil, err
	}
	aside, err := texts(q, selectAsideKeys, c.Limit, after, now, n)
	if err != nil {
		return nil, err
	}
	keys := append(charged, aside...)
	slices.Sort(keys)
	keys = slices.Compact(keys)
	return keys[:min(n, len(keys))], nil
}

func texts(q querier, query string, args ...any) ([]string, error) {
	rows, err := q.query(query, args...)
	if err != nil {
		return nil, err
	}
	return collect(rows, readText)
}

func keyState(q querier, now int64, c authz.Charge) (k authz.KeyState, err error) {
	state, err := limitState(q, moment{now: now}, c)
	if err != nil {
		return k, err
	}
	k = authz.KeyState{Key: c.Key, Used: state.Used, Held: state.Held}
	k.Next, err = next(q, now, c)
	return k, err
}

// next is when the next of what counts stops to.
func next(q querier, now int64, c authz.Charge) (int64, error) {
	list, err := leavingFrom(q, "SELECT until, amount FROM asides WHERE limit_id = ? AND key = ? AND until > ? ORDER BY until LIMIT 1", c.Limit, c.Key, now)
	if err != nil {
		return 0, err
	}
	first, err := leavingFrom(q, "SELECT at, amount FROM charges WHERE limit_id = ? AND key = ? AND at >= ? AND at < ? AND amount > 0 ORDER BY at LIMIT 1",
		c.Limit, c.Key, c.From, end(c))
	if err != nil {
		return 0, err
	}
	for _, l := range first {
		switch {
		case c.Trailing > 0:
			list = append(list, leaving{l.at + c.Trailing, l.amount})
		case c.To > 0:
			list = append(list, leaving{c.To, l.amount})
		}
	}
	return whenGone(list, 0), nil
}

// selectCharges names the columns in readCharged's order.
const selectCharges = `SELECT n, limit_id, key, at, amount, held, agent_id, action_id, decision_id,
	(SELECT json_group_array(decision_id) FROM stands WHERE stands.n = charges.n) FROM charges`

func readCharged(scan scan) (c authz.Charged, err error) {
	var first, others string
	if err = scan(&c.N, &c.Limit, &c.Key, &c.At, &c.Amount, &c.Held, &c.AgentID, &c.ActionID, &first, &others); err != nil {
		return c, err
	}
	if err = json.Unmarshal([]byte(others), &c.Decisions); err != nil {
		return c, err
	}
	c.Decisions = slices.Insert(c.Decisions, 0, first)
	return c, nil
}

// selectPage is a page of the charges of one key, newest first.
const selectPage = selectCharges + ` WHERE limit_id = ? AND key = ? AND (at, n) < (?, ?) ORDER BY at DESC, n DESC LIMIT ?`

// LimitCharges lists what was charged to a limit for a key.
func (s *Store) LimitCharges(ctx context.Context, limit, key string, before authz.ChargePlace, n int) ([]authz.Charged, error) {
	if before == (authz.ChargePlace{}) {
		before.At = math.MaxInt64
	}
	return list(ctx, s, readCharged, selectPage, limit, key, before.At, before.N, n)
}

const (
	selectOfDecision = selectCharges + ` WHERE decision_id = ?1 OR n IN (SELECT n FROM stands WHERE decision_id = ?1) ORDER BY n`
	selectReleases   = `SELECT limit_id, key, at, amount, held, agent_id, action_id, released_at, released_by FROM releases WHERE decision_id = ? ORDER BY n`
)

// DecisionCharges lists the charges on which a decision stands, then those from which
// it was released.
func (s *Store) DecisionCharges(ctx context.Context, decisionID string) (charges []authz.Charged, err error) {
	err = s.atOnce(ctx, func(q querier) error {
		rows, err := q.query(selectOfDecision, decisionID)
		if err != nil {
			return err
		}
		if charges, err = collect(rows, readCharged); err != nil {
			return err
		}
		if rows, err = q.query(selectReleases, decisionID); err != nil {
			return err
		}
		released, err := collect(rows, readReleased)
		charges = append(charges, released...)
		return err
	})
	return charges, err
}

func readReleased(scan scan) (c authz.Charged, err error) {
	err = scan(&c.Limit, &c.Key, &c.At, &c.Amount, &c.Held, &c.AgentID, &c.ActionID, &c.ReleasedAt, &c.ReleasedBy)
	return c, err
}

func readText(scan scan) (text string, err error) {
	err = scan(&text)
	return text, err
}
