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
		if !c.Limit.Counts {
			paths = append(paths, c.Limit.sum, currencyAt)
		}
		for _, part := range c.Limit.per {
			paths = append(paths, part.paths...)
		}
	}
	return paths
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
