package policy

import (
	"strings"

	"github.com/openleash/openleash-go/action"
)

// DeniesOutright reports whether every action of a type, by this tool, is denied,
// whatever else it says: nobody need be offered what is never allowed. When in
// doubt it is false.
func (s *Set) DeniesOutright(actionType string, env Env) bool {
	doc := document(&action.Request{ActionType: actionType}, env)
	for _, finals := range []bool{true, false} {
		for _, r := range s.rules {
			if r.final != finals || !r.pattern.matches(actionType) {
				continue
			}
			t, settled := settled(r.rule, doc)
			switch {
			case !settled && r.allow:
				return false
			case settled && t.matches(r.allow):
				return !r.allow
			case settled && t == unknown: // it may still ask for something: no allow, but no plain deny
				return false
			}
		}
	}
	d, _ := s.otherwise(env)
	return d.Outcome == Deny
}

// settled evaluates a rule that looks at nothing but the tool.
func settled(r *rule, doc action.Value) (t truth, settled bool) {
	for test := range testsOf(r) {
		for _, path := range test.paths {
			if path.String() != "$.tool" && !strings.HasPrefix(path.String(), "$.tool.") {
				return unknown, false
			}
		}
	}
	rest, money := weigh(r, doc)
	return rest.and(money), true
}
