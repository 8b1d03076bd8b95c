package sqlite

import (
	"slices"

	"github.com/openleash/openleash-go/authz"
)

// release takes a decision off its charges, by its owner's word. Those on which no
// other stands are given back.
func (t *tx) release(r authz.Release) error {
	for _, c := range r.Charges {
		if err := t.releaseCharge(r, c); err != nil {
			return err
		}
	}
	_, err := t.exec("DELETE FROM releases WHERE at < ?", r.At-keepCharges)
	return err
}

func (t *tx) releaseCharge(r authz.Release, c authz.ReleasedCharge) error {
	now, err := inTx(t, authz.ErrChargesChanged, readCharged, selectCharges+" WHERE n = ?", c.N)
	if err != nil {
		return err
	}
	others := slices.DeleteFunc(slices.Clone(now.Decisions), func(id string) bool { return id == r.DecisionID })
	if len(others) == len(now.Decisions) || now.Limit != c.Limit || c.Kept != (len(others) > 0) {
		return authz.ErrChargesChanged
	}
	if _, err := t.exec(`INSERT INTO releases (decision_id, limit_id, key, at, amount, held, agent_id, action_id, released_at, released_by)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		r.DecisionID, now.Limit, now.Key, now.At, now.Amount, now.Held, now.AgentID, now.ActionID, r.At, r.By); err != nil {
		return err
	}
	if len(others) == 0 {
		_, err = t.exec("DELETE FROM charges WHERE n = ?", c.N)
		return err
	}
	return t.standsOn(c.N, others)
}

// standsOn makes these the decisions that stand on a charge.
func (t *tx) standsOn(n int64, decisions []string) error {
	if _, err := t.exec("UPDATE charges SET decision_id = ? WHERE n = ?", decisions[0], n); err != nil {
		return err
	}
	if _, err := t.exec("DELETE FROM stands WHERE n = ?", n); err != nil {
		return err
	}
	for _, id := range decisions[1:] {
		if _, err := t.exec("INSERT INTO stands (n, decision_id) VALUES (?, ?)", n, id); err != nil {
			return err
		}
	}
	return nil
}
