package policy

import (
	"github.com/openleash/openleash-go/internal/strictyaml"
)

// Coverage tells what of a book no test has met: rules that have not decided,
// conditions that were not both true and not true.
type Coverage struct {
	Met, All int
	Missed   []strictyaml.Error // at the rules' places, in file order
}

// Percent is how much was met, rounded down; of nothing it is 100.
func (c Coverage) Percent() int {
	if c.All == 0 {
		return 100
	}
	return 100 * c.Met / c.All
}

// Cover runs suites and looks at what they meet.
func Cover(book *Book, suites []*Suite) Coverage {
	seen := coverage{decided: map[*rule]bool{}, truths: map[*test][2]bool{}}
	for _, s := range suites {
		for i := range s.Tests {
			seen.look(book.Member(s.Tests[i].Agent, s.Tests[i].Groups), &s.Tests[i])
		}
	}
	var c Coverage
	for _, p := range book.Policies() {
		for _, r := range p.rules {
			seen.count(&c, r)
		}
	}
	return c
}

type coverage struct {
	decided map[*rule]bool
	truths  map[*test][2]bool // was it not true, was it true
}

// look notes what one test meets.
func (c *coverage) look(set *Set, t *SuiteTest) {
	d := set.Decide(&t.Request, t.Env)
	doc := document(&t.Request, t.Env)
	for _, r := range set.rules {
		if d.RuleID == r.id && d.PolicyID == r.policy.ID {
			c.decided[r.rule] = true
		}
		if !r.pattern.matches(t.Request.ActionType) {
			continue
		}
		for test := range testsOf(r.rule) {
			met := c.truths[test]
			if consult(test, doc) == yes {
				met[1] = true
			} else {
				met[0] = true
			}
			c.truths[test] = met
		}
	}
}

func (c *coverage) count(sum *Coverage, r *rule) {
	add := func(met bool, format string, args ...any) {
		sum.All++
		if met {
			sum.Met++
			return
		}
		sum.Missed = append(sum.Missed, r.remark(format, args...))
	}
	add(c.decided[r], "rule %q never decides", r.id)
	for test := range testsOf(r) {
		met := c.truths[test]
		add(met[1], "rule %q: %s is never true", r.id, test.text)
		add(met[0], "rule %q: %s is never anything but true", r.id, test.text)
	}
}
