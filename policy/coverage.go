package policy

import (
	"fmt"
	"slices"

	"github.com/openleash/openleash-go/internal/strictyaml"
)

// Coverage tells what of a book no test has met: rules that have not decided,
// conditions that were not both true and not true, limits that did not both have
// room and have none.
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
	seen := coverage{decided: map[*rule]bool{}, truths: map[*test][2]bool{}, limits: map[*Limit][2]bool{}}
	for _, s := range suites {
		for i := range s.Tests {
			seen.look(book, &s.Tests[i])
		}
	}
	var c Coverage
	for _, p := range book.Policies() {
		for _, r := range p.rules {
			seen.count(&c, r)
		}
		for _, l := range p.allLimits() {
			seen.countLimit(&c, l)
		}
	}
	return c
}

type coverage struct {
	decided map[*rule]bool
	truths  map[*test][2]bool  // was it not true, was it true
	limits  map[*Limit][2]bool // had it no room, had it room
}

// look notes what one test meets.
func (c *coverage) look(book *Book, t *SuiteTest) {
	d, _ := t.decide(book)
	for _, charge := range d.Charges {
		if charge.Doubt != "" {
			continue
		}
		met := c.limits[charge.Limit]
		if slices.ContainsFunc(d.Over, func(e Excess) bool { return e.Limit == charge.Limit }) {
			met[0] = true
		} else {
			met[1] = true
		}
		c.limits[charge.Limit] = met
	}
	set := book.Member(t.Agent, t.Groups)
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
	sum.add(c.decided[r], r.remark("rule %q never decides", r.id))
	for test := range testsOf(r) {
		met := c.truths[test]
		sum.add(met[1], r.remark("rule %q: %s is never true", r.id, test.text))
		sum.add(met[0], r.remark("rule %q: %s is never anything but true", r.id, test.text))
	}
}

func (c *coverage) countLimit(sum *Coverage, l *Limit) {
	met := c.limits[l]
	sum.add(met[1], l.remark("limit %q never has room", l.name))
	sum.add(met[0], l.remark("limit %q always has room", l.name))
}

func (c *Coverage) add(met bool, missed strictyaml.Error) {
	c.All++
	if met {
		c.Met++
		return
	}
	c.Missed = append(c.Missed, missed)
}

func (l *Limit) remark(format string, args ...any) strictyaml.Error {
	e := l.place
	e.Message = fmt.Sprintf(format, args...)
	return e
}
