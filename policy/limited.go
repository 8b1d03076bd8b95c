package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A LimitState is how full a limit is, for one key.
type LimitState struct {
	Limit string
	Key   string
	Used  int64 // by what has run, or may have
	Held  int64 // by what runs, and what is set aside
	// Retry is when the charge fits, if nothing more is charged meanwhile, in Unix
	// milliseconds; 0: it never does.
	Retry int64
}

// An Excess is one limit that has no room for an action.
type Excess struct {
	Charge
	State LimitState // zero of a charge that cannot be counted
}

// Limited is a decision, and what its limits make of it.
type Limited struct {
	Decision
	Over    []Excess
	ByLimit bool   // the limits are why it is denied
	Shown   string // the reason as the owner is shown it, with numbers
}

// Needed is the most that a decision asks for: a person's approval does not
// meet a step-up or a deposit that the same rule wants as well.
func (d Decision) Needed() Outcome {
	switch {
	case d.Outcome == RequireApproval && d.Asks(StepUpAuth):
		return RequireStepUp
	case d.Outcome == RequireApproval && d.Asks(Deposit):
		return RequireDeposit
	}
	return d.Outcome
}

// Within raises a decision by the limits that have no room: those known to be full,
// and those that cannot count the action.
func (d Decision) Within(full []LimitState) Limited {
	l := Limited{Decision: d, Shown: d.Reason}
	for _, c := range d.Charges {
		if state, isFull := stateOf(c, full); isFull || c.Doubt != "" {
			l.Over = append(l.Over, Excess{c, state})
		}
	}
	if len(l.Over) == 0 || d.Outcome == Deny {
		return l
	}
	r := l.reasons()
	switch l.worst() {
	case Deny:
		l.Outcome, l.ByLimit = Deny, true
		l.Reason, l.Shown, l.Plain = r.told, r.shown, r.plain
	case RequireStepUp:
		l.Outcome = RequireStepUp
		l.oblige(StepUpAuth, r)
	default:
		if l.Outcome == Allow {
			l.Outcome = RequireApproval
		}
		l.oblige(HumanApproval, r)
	}
	return l
}

func stateOf(c Charge, full []LimitState) (LimitState, bool) {
	i := slices.IndexFunc(full, func(s LimitState) bool { return s.Limit == c.Limit.ID && s.Key == c.Key })
	if i < 0 || c.Doubt != "" {
		return LimitState{}, false
	}
	return full[i], true
}

// worst is what the strictest of them asks for.
func (l *Limited) worst() Outcome {
	worst := RequireApproval
	for _, e := range l.Over {
		switch {
		case e.Limit.Over == Deny:
			return Deny
		case e.Limit.Over == RequireStepUp:
			worst = RequireStepUp
		}
	}
	return worst
}

// oblige adds a duty, and says why. What the rule asks for by itself is said first.
func (l *Limited) oblige(duty string, r reasons) {
	if l.Asks(duty) {
		before := cmp.Or(l.Plain, l.Reason) + " "
		r = reasons{l.Reason + " " + r.told, l.Reason + " " + r.shown, before + r.plain}
	} else {
		l.Obligations = append(slices.Clip(l.Obligations), Obligation{Type: duty})
	}
	l.Reason, l.Shown, l.Plain = r.told, r.shown, r.plain
}

// reasons say which limits have no room: to who asked, to the owner, and without what
// stands in the request.
type reasons struct{ told, shown, plain string }

func (l *Limited) reasons() reasons {
	var toAgent, toOwner, plain []string
	for _, e := range l.Over {
		whole, bare := e.String(), fmt.Sprintf("Limit %s does not allow it.", e.Limit.ID)
		toOwner, plain = append(toOwner, whole), append(plain, bare)
		if e.Limit.Minimal {
			whole = bare
		}
		toAgent = append(toAgent, whole)
	}
	return reasons{strings.Join(toAgent, " "), strings.Join(toOwner, " "), strings.Join(plain, " ")}
}

// String tells used, held, left and when there is room: money as people write it,
// since the agent may know its amounts as 12.50 or as 1250.
func (e Excess) String() string {
	l := e.Limit
	if e.Doubt != "" {
		return fmt.Sprintf("Limit %s cannot count it: %s.", l.ID, e.Doubt)
	}
	whose := ""
	if e.Key != "[]" {
		whose = " for " + l.Whose(e.Key)
	}
	return fmt.Sprintf("Over limit %s%s: %s; %s used, %s held, %s left, and this is %s. %s", l.ID, whose, l.Bound(),
		l.Text(e.State.Used), l.Text(e.State.Held), l.Text(max(0, l.Max-e.State.Used-e.State.Held)), l.Text(e.Amount), e.again())
}

func (e Excess) again() string {
	if e.State.Retry == 0 {
		return "It never has room for this much."
	}
	return "It has room from " + time.UnixMilli(e.State.Retry).UTC().Format("2006-01-02T15:04:05Z") + " on."
}
