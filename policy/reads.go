package policy

import "github.com/openleash/openleash-go/action"

// Reads lists what a decision depends on: the paths in the conditions of the rules
// that are about the action and are asked before it is made, and of what it is charged
// to. It is Decide as Trace is it: simple, and slow.
func (s *Set) Reads(req *action.Request, env Env) (paths []action.Path) {
	d := s.Decide(req, env)
	for _, finals := range []bool{true, false} {
		for _, r := range s.rules {
			if r.final != finals || !r.pattern.matches(req.ActionType) {
				continue
			}
			for t := range testsOf(r.rule) {
				paths = append(paths, t.paths...)
			}
			if r.policy.ID == d.PolicyID && r.id == d.RuleID {
				return append(paths, readBy(d.Charges)...)
			}
		}
	}
	return append(paths, readBy(d.Charges)...)
}

func readBy(charges []Charge) (paths []action.Path) {
	for _, c := range charges {
		paths = append(append(paths, c.Limit.ReadsForAmount()...), c.Limit.ReadsForKey()...)
	}
	return paths
}

// ReadsForAmount are the paths at which stands how much an action takes.
func (l *Limit) ReadsForAmount() []action.Path {
	if l.Counts {
		return nil
	}
	return []action.Path{l.sum, currencyAt}
}

// ReadsForKey are the paths at which stands for whom the limit counts.
func (l *Limit) ReadsForKey() (paths []action.Path) {
	for _, part := range l.per {
		paths = append(paths, part.paths...)
	}
	return paths
}

var amountAt = mustPath(amountPath)

// Told are the paths of which the values may stand in the Reason.
func (d Decision) Told() []action.Path {
	if d.Plain == "" {
		return nil
	}
	return append(readBy(d.Charges), amountAt)
}

// MayCharge lists the limits that some action of a type is charged to.
func (s *Set) MayCharge(actionType string) (list []*Limit) {
	for _, l := range s.limits {
		if l.pattern.matches(actionType) {
			list = append(list, l)
		}
	}
	for _, r := range s.rules {
		if r.pattern.matches(actionType) {
			list = append(list, r.limits...)
		}
	}
	return list
}
