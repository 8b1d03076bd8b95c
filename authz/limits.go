package authz

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/policy"
)

// Limits are counted in the commit that allows: it charges all that a decision is
// charged to, or fails with what has no room (LimitError). Then the decision is
// made once more, with that known. So nothing is read beforehand that another
// process could change meanwhile.

// An excess is one limit that has no room for an action.
type excess struct {
	policy.Charge
	state LimitState // zero of a charge that cannot be counted
}

// limited is a policy's decision, and what its limits make of it.
type limited struct {
	policy.Decision
	over  []excess
	code  Code   // of a refusal that the limits give
	shown string // the reason as the owner is shown it, with numbers
}

// limit raises a decision by the limits that have no room: those known to be full,
// and those that cannot count the action.
func limit(d policy.Decision, full []LimitState) limited {
	l := limited{Decision: d, shown: d.Reason}
	for _, c := range d.Charges {
		if state, isFull := stateOf(c, full); isFull || c.Doubt != "" {
			l.over = append(l.over, excess{c, state})
		}
	}
	if len(l.over) == 0 || needed(d) != policy.Allow && needed(d) != policy.RequireApproval {
		return l // what cannot be met needs no limit to be refused
	}
	told, shown := l.reasons()
	switch l.worst() {
	case policy.Deny:
		l.Outcome, l.code = policy.Deny, LimitExceeded
		l.Reason, l.shown = told, shown
	case policy.RequireStepUp:
		l.Outcome = policy.RequireStepUp
		l.oblige(policy.StepUpAuth, told, shown)
	default:
		l.Outcome = policy.RequireApproval
		l.oblige(policy.HumanApproval, told, shown)
	}
	return l
}

// ofRound is the decision on a further message of a call that was approved. The
// first was charged, and this one runs by the approval, not by what is left.
func ofRound(d policy.Decision) policy.Decision {
	if len(d.Charges) > 0 && d.Outcome == policy.Allow {
		d.Outcome = policy.RequireApproval
	}
	d.Charges = nil
	return d
}

func stateOf(c policy.Charge, full []LimitState) (LimitState, bool) {
	i := slices.IndexFunc(full, func(s LimitState) bool { return s.Limit == c.Limit.ID && s.Key == c.Key })
	if i < 0 || c.Doubt != "" {
		return LimitState{}, false
	}
	return full[i], true
}

// worst is what the strictest of them asks for.
func (l *limited) worst() policy.Outcome {
	worst := policy.RequireApproval
	for _, e := range l.over {
		switch {
		case e.Limit.Over == policy.Deny:
			return policy.Deny
		case e.Limit.Over == policy.RequireStepUp:
			worst = policy.RequireStepUp
		}
	}
	return worst
}

// oblige adds a duty, and says why. What the rule asks for by itself is said first.
func (l *limited) oblige(duty, told, shown string) {
	if l.Asks(duty) {
		told, shown = l.Reason+" "+told, l.Reason+" "+shown
	} else {
		l.Obligations = append(slices.Clip(l.Obligations), policy.Obligation{Type: duty})
	}
	l.Reason, l.shown = told, shown
}

// reasons say which limits have no room: to who asked, and to the owner.
func (l *limited) reasons() (told, shown string) {
	var toAgent, toOwner []string
	for _, e := range l.over {
		whole := e.String()
		toOwner = append(toOwner, whole)
		if e.Limit.Minimal {
			whole = fmt.Sprintf("Limit %s does not allow it.", e.Limit.ID)
		}
		toAgent = append(toAgent, whole)
	}
	return strings.Join(toAgent, " "), strings.Join(toOwner, " ")
}

// String tells used, held, left and when there is room.
func (e excess) String() string {
	l := e.Limit
	if e.Doubt != "" {
		return fmt.Sprintf("Limit %s cannot count it: %s.", l.ID, e.Doubt)
	}
	unit := ""
	if l.Currency != "" {
		unit = ", in minor units of " + l.Currency
	}
	window := "in " + l.Window()
	if l.Trailing() == 0 {
		window = "a " + l.Window()
	}
	return fmt.Sprintf("Over limit %s: at most %d %s%s%s; %d used, %d held, %d left, and this is %d. %s",
		l.ID, l.Max, window, e.whose(), unit, e.state.Used, e.state.Held, max(0, l.Max-e.state.Used-e.state.Held), e.Amount, e.again())
}

// whose names what the limit counts apart.
func (e excess) whose() string {
	if e.Key == "[]" {
		return ""
	}
	return " for " + e.Key
}

func (e excess) again() string {
	if e.state.Retry == 0 {
		return "It never has room for this much."
	}
	return "It has room from " + time.UnixMilli(e.state.Retry).UTC().Format("2006-01-02T15:04:05Z") + " on."
}

// overshoots are what the owner is shown, and approves.
func (l *limited) overshoots() (list []approvals.Overshoot) {
	for _, e := range l.over {
		o := approvals.Overshoot{Limit: e.Limit.ID, Key: e.Key, Window: e.Limit.Window(), Currency: e.Limit.Currency, Doubt: e.Doubt}
		if e.Doubt == "" {
			o.Max, o.Used, o.Held, o.Amount = e.Limit.Max, e.state.Used, e.state.Held, e.Amount
		}
		list = append(list, o)
	}
	return list
}

// coveredBy reports whether what was approved is as much as is needed.
func (l *limited) coveredBy(approved []approvals.Overshoot) bool {
	for _, need := range l.overshoots() {
		if !slices.ContainsFunc(approved, need.Within) {
			return false
		}
	}
	return true
}

// reservation charges what the decision is charged to. approved is what may be had
// beyond the limits.
func (a attempt) reservation(l limited, approved []approvals.Overshoot) *Reservation {
	r := &Reservation{DecisionID: a.decisionID, AgentID: a.who.Agent.Name, ActionID: a.req.ActionID, ActionHash: a.req.Hash().String(), Now: a.now.UnixMilli()}
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

func (a attempt) charge(c policy.Charge, approved []approvals.Overshoot) Charge {
	from, to := c.Limit.Span(a.now)
	charge := Charge{
		Limit: c.Limit.ID, Key: c.Key, Amount: c.Amount, Max: c.Limit.Max,
		From: from.UnixMilli(), Trailing: c.Limit.Trailing().Milliseconds(), Aside: c.Limit.ReserveOnHold,
	}
	if !to.IsZero() {
		charge.To = to.UnixMilli()
	}
	for _, o := range approved {
		if c.Limit.Over == policy.RequireApproval && o.Limit == charge.Limit && o.Key == charge.Key && o.Doubt == "" {
			charge.Max += max(0, o.Beyond())
		}
	}
	return charge
}

// merge adds to what is known of full limits what is known now.
func merge(known, now []LimitState) []LimitState {
	for _, s := range now {
		known = slices.DeleteFunc(known, func(old LimitState) bool { return old.Limit == s.Limit && old.Key == s.Key })
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

// limitEntries are the limits that a decision has touched, for the log.
func (l *limited) limitEntries(charged bool) (list []audit.Limit) {
	for _, e := range l.over {
		list = append(list, audit.Limit{ID: e.Limit.ID, Key: e.Key, Amount: e.Amount, Max: e.Limit.Max, Used: e.state.Used, Held: e.state.Held, Doubt: e.Doubt, Over: true})
	}
	for _, c := range l.Charges {
		isOver := slices.ContainsFunc(l.over, func(e excess) bool { return e.Limit == c.Limit })
		if charged && !isOver {
			list = append(list, audit.Limit{ID: c.Limit.ID, Key: c.Key, Amount: c.Amount, Max: c.Limit.Max})
		}
	}
	return list
}
