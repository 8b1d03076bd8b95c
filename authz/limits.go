package authz

import (
	"slices"

	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/policy"
)

// Limits are counted in the commit that allows: it charges all that a decision is
// charged to, or fails with what has no room (LimitError). Then the decision is
// made once more, with that known. So nothing is read beforehand that another
// process could change meanwhile.

// ofRound is the decision on a further message of a call that was approved. The
// first was charged, and this one runs by the approval, not by what is left.
func ofRound(d policy.Decision) policy.Decision {
	if len(d.Charges) > 0 && d.Outcome == policy.Allow {
		d.Outcome = policy.RequireApproval
	}
	d.Charges = nil
	return d
}

// overshoots are what the owner is shown, and approves.
func overshoots(l policy.Limited) (list []approvals.Overshoot) {
	for _, e := range l.Over {
		o := approvals.Overshoot{Limit: e.Limit.ID, Key: e.Key, Window: e.Limit.Window(), For: e.Limit.Whose(e.Key), Currency: e.Limit.Currency, Doubt: e.Doubt}
		if e.Doubt == "" {
			o.Max, o.Used, o.Held, o.Amount = e.Limit.Max, e.State.Used, e.State.Held, e.Amount
		}
		list = append(list, o)
	}
	return list
}

// coveredBy reports whether what was approved is as much as is needed.
func coveredBy(l policy.Limited, approved []approvals.Overshoot) bool {
	for _, need := range overshoots(l) {
		if !slices.ContainsFunc(approved, need.Within) {
			return false
		}
	}
	return true
}

// reservation charges what the decision is charged to. approved is the request that says
// what may be had beyond the limits; zero: nothing.
func (a attempt) reservation(l policy.Limited, approved approvals.Request) *Reservation {
	r := &Reservation{DecisionID: a.decisionID, AgentID: a.who.Agent.Name, ActionID: a.req.ActionID, ActionHash: a.req.Hash().String(), Now: a.now.UnixMilli(), Own: a.own}
	for _, c := range l.Charges {
		if c.Doubt == "" {
			r.Charges = append(r.Charges, a.charge(c, approved))
		}
	}
	if len(r.Charges) == 0 {
		return nil
	}
	return r
}

// charge takes what was approved beyond a limit only if that was asked for as the limit
// asks for it now.
func (a attempt) charge(c policy.Charge, approved approvals.Request) Charge {
	charge := chargeOf(c, a.now)
	meets := c.Limit.Over == policy.RequireApproval || c.Limit.Over == policy.RequireStepUp && approved.Needs.StepUp
	for _, o := range approved.Overshoots {
		if meets && o.Limit == charge.Limit && o.Key == charge.Key && o.Doubt == "" {
			charge.Max += max(0, o.Beyond())
		}
	}
	return charge
}

// merge adds to what is known of full limits what is known now.
func merge(known, now []policy.LimitState) []policy.LimitState {
	for _, s := range now {
		known = slices.DeleteFunc(known, func(old policy.LimitState) bool { return old.Limit == s.Limit && old.Key == s.Key })
		known = append(known, s)
	}
	return known
}

// settlement is what came of what an answer has reserved; nil: it has reserved
// nothing.
func settlement(who Caller, ans Answer, o Outcome) *Settlement {
	if len(ans.Charges) == 0 {
		return nil
	}
	s := &Settlement{DecisionID: ans.DecisionID, AgentID: who.Agent.Name, ActionID: ans.ActionID}
	for _, c := range ans.Charges {
		if o.Unsent || c.Limit.Refunds && o.failed() {
			s.Release = append(s.Release, c.Limit.ID)
		}
	}
	return s
}

// failed reports whether the server, or what stands for it, has said that the call
// went wrong. That the host cancelled it, or that nobody knows, is no such word.
func (o Outcome) failed() bool {
	return o.Status == "tool_error" || o.Status == "protocol_error" || o.Status == "transport_error"
}

// limits are those that a decision has touched, for the log.
func (m marks) limits(l policy.Limited, charged bool) (list []audit.Limit) {
	for _, e := range l.Over {
		list = append(list, m.limit(e.Limit, audit.Limit{ID: e.Limit.ID, Key: e.Key, Amount: e.Amount, Max: e.Limit.Max, Used: e.State.Used, Held: e.State.Held, Doubt: e.Doubt, Over: true}))
	}
	for _, c := range l.Charges {
		isOver := slices.ContainsFunc(l.Over, func(e policy.Excess) bool { return e.Limit == c.Limit })
		if charged && !isOver {
			list = append(list, m.limit(c.Limit, audit.Limit{ID: c.Limit.ID, Key: c.Key, Amount: c.Amount, Max: c.Limit.Max}))
		}
	}
	return list
}
