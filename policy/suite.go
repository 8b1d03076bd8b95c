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

	want        string // the word of an Outcome
	rule        string // empty: not looked at
	byDefault   bool   // no rule may decide
	obligations []string
	anyDuties   bool // obligations are not looked at
}

// A SuiteResult is what came of one test.
type SuiteResult struct {
	*SuiteTest
	Decision Decision
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
		d := book.Member(t.Agent, t.Groups).Decide(&t.Request, t.Env)
		results = append(results, SuiteResult{t, d, t.faults(d)})
	}
	return results
}

func (t *SuiteTest) faults(d Decision) (list []string) {
	if got := d.Outcome.String(); got != t.want {
		list = append(list, fmt.Sprintf("want %s, got %s: %s", t.want, got, d.Reason))
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
