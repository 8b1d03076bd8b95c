package policy

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/internal/strictyaml"
)

// A Suite is tests of policies, kept beside them: actions, and what is wanted of
// each. A file of one has the name NAME_test.yaml and is no policy.
type Suite struct {
	File  string
	Tests []SuiteTest
}

// SuiteTest is one test: a request, and what must be said to it.
type SuiteTest struct {
	Name    string
	Line    int
	Agent   string
	Groups  []string // which the agent is in, whatever the configuration says
	Request action.Request
	Env     Env

	history     []suiteEvent // what the limits know of, in the order in which it is written
	want        string       // the word of an Outcome
	rule        string       // empty: not looked at
	byDefault   bool         // no rule may decide
	obligations []string
	anyDuties   bool     // obligations are not looked at
	over        []string // the limits that have no room, by their ids or names
	anyOver     bool     // they are not looked at
}

// A suiteEvent is something that was asked for before a test, and what came of it.
type suiteEvent struct {
	line    int
	agent   string
	groups  []string
	request action.Request
	env     Env
	times   int64
	outcome string // ok, error, unsent or waiting
}

// maxTimes bounds how often an event is repeated.
const maxTimes = 10_000

// A SuiteResult is what came of one test.
type SuiteResult struct {
	*SuiteTest
	Decision Limited
	Faults   []string // what differs from what is wanted; empty: passed
}

const suiteEnding = "_test"

// IsSuite tells a suite's file from a policy's.
func IsSuite(name string) bool {
	return isPolicyName(name) && strings.HasSuffix(policyID(path.Base(name)), suiteEnding)
}

type suiteForm struct {
	Actions map[string]any `json:"actions" jsonschema:"actions by name, for several tests"`
	Tests   []any          `json:"tests" jsonschema:"each an action and what is wanted"`
}

type suiteActionForm struct {
	Type         string         `json:"action_type"`
	Payload      map[string]any `json:"payload"`
	RelyingParty map[string]any `json:"relying_party"`
	Tool         map[string]any `json:"tool"`
	Open         bool           `json:"open"`
}

type suiteTestForm struct {
	Name        string    `json:"name"`
	Action      any       `json:"action"`
	Agent       string    `json:"agent"`
	Groups      []string  `json:"groups"`
	At          time.Time `json:"at"`
	Want        string    `json:"want"`
	Rule        string    `json:"rule"`
	Obligations []string  `json:"obligations"`
	History     []any     `json:"history"`
	Over        []string  `json:"over"`
}

type suiteEventForm struct {
	Action  any       `json:"action"`
	Agent   string    `json:"agent"`
	Groups  []string  `json:"groups"`
	At      time.Time `json:"at"`
	Times   int       `json:"times"`
	Outcome string    `json:"outcome"`
}

// suiteClock is the time of a test that names none.
var suiteClock = time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC) // a Monday

// noRule is how a test says that the default decides.
const noRule = "default"

// ParseSuite reads a suite. The error is a strictyaml.ErrorList.
func ParseSuite(file string, src []byte) (*Suite, error) {
	doc, err := strictyaml.Parse(file, src)
	if err != nil {
		return nil, err
	}
	p := &suiteParser{parser{Doc: doc}, map[string]suiteAction{}}
	f := p.Fields(doc.Root, "suite", keysIn[suiteForm]()...)
	for _, e := range p.Entries(f["actions"], "actions") {
		p.named[e.Key] = p.action(e.Value, "action "+e.Key)
	}
	s := &Suite{File: file}
	seen := map[string]int{}
	for _, n := range p.List(f["tests"], "tests") {
		t := p.test(n)
		if line, again := seen[t.Name]; again {
			p.Errorf(n, "test %q: a test on line %d has this name already", t.Name, line)
		}
		seen[t.Name] = n.Line
		s.Tests = append(s.Tests, t)
	}
	if f != nil && len(s.Tests) == 0 {
		p.Errorf(doc.Root, "suite: want tests")
	}
	return s, doc.Err()
}

// Run puts every test to a book.
func (s *Suite) Run(book *Book) []SuiteResult {
	var results []SuiteResult
	for i := range s.Tests {
		t := &s.Tests[i]
		d, faults := t.decide(book)
		results = append(results, SuiteResult{t, d, append(faults, t.faults(d)...)})
	}
	return results
}

// decide lets the history happen, and then decides. A history that could not have
// happened is a fault of the test.
func (t *SuiteTest) decide(book *Book) (d Limited, faults []string) {
	var ledger Ledger
	for i, e := range t.history {
		set := book.Member(e.agent, e.groups)
		for n := range e.times {
			if fault := e.happen(&ledger, set, fmt.Sprintf("%d.%d", i, n)); fault != "" {
				faults = append(faults, fmt.Sprintf("history, line %d: %s", e.line, fault))
				break
			}
		}
	}
	return ledger.Within(book.Member(t.Agent, t.Groups).Decide(&t.Request, t.Env), "the test", t.Env.Now), faults
}

// happen charges what has run, as if it had been approved where it had to be.
func (e *suiteEvent) happen(ledger *Ledger, set *Set, by string) (fault string) {
	d := set.Decide(&e.request, e.env)
	l := ledger.Within(d, by, e.env.Now)
	switch {
	case l.Outcome == Deny:
		return "it would have been denied: " + l.Reason
	case e.outcome == "waiting" && l.Outcome == Allow:
		return "it would not have waited: " + l.Reason
	case e.outcome == "waiting":
		ledger.SetAside(d, by, e.env.Now.Add(maxWindow))
		return ""
	}
	ledger.Charge(d, by, e.env.Now)
	switch e.outcome {
	case "error":
		ledger.Release(d, by, Refunding)
	case "unsent":
		ledger.Release(d, by, AllLimits)
	}
	return ""
}

func (t *SuiteTest) faults(d Limited) (list []string) {
	if got := d.Outcome.String(); got != t.want {
		list = append(list, fmt.Sprintf("want %s, got %s: %s", t.want, got, d.Reason))
	}
	if !t.anyOver && !isOver(d.Over, t.over) {
		list = append(list, fmt.Sprintf("want the limits %v to have no room, got %v", t.over, idsOf(d.Over)))
	}
	switch {
	case t.byDefault && d.RuleID != "":
		list = append(list, fmt.Sprintf("want the default to decide, rule %q did", d.RuleID))
	case t.rule != "" && d.RuleID == "":
		list = append(list, fmt.Sprintf("want rule %q to decide, the default did", t.rule))
	case t.rule != "" && d.RuleID != t.rule:
		list = append(list, fmt.Sprintf("want rule %q to decide, rule %q did", t.rule, d.RuleID))
	}
	var duties []string
	for _, o := range d.Obligations {
		duties = append(duties, o.Type)
	}
	slices.Sort(duties)
	if !t.anyDuties && !slices.Equal(duties, t.obligations) {
		list = append(list, fmt.Sprintf("want obligations %v, got %v", t.obligations, duties))
	}
	return list
}

// isOver reports whether the limits are those that are wanted, by their ids or by
// their names in the policy.
func isOver(over []Excess, want []string) bool {
	return len(over) == len(want) && !slices.ContainsFunc(over, func(e Excess) bool {
		return !slices.Contains(want, e.Limit.ID) && !slices.Contains(want, e.Limit.name)
	})
}

func idsOf(over []Excess) (ids []string) {
	for _, e := range over {
		ids = append(ids, e.Limit.ID)
	}
	return ids
}
