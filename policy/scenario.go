package policy

import (
	"fmt"
	"io/fs"
	"strconv"
	"time"

	"github.com/openleash/openleash-go/action"
)

// A Scenario is a story that policies are told with: what agents do, step after
// step, and what is decided. Its steps share one Ledger, so limits fill up. Nothing
// is spent, and nothing is recorded.
type Scenario struct {
	ID    string // the file's name without its ending
	Title string
	Shows string   // what it shows, a sentence or two
	Told  []string // the policies that it is told with
	Book  *Book    // of these
	Steps []Step   // in the order of time
}

// A Step is what an agent does, and what is told to come of it.
type Step struct {
	Does    string // in words
	Line    int
	Agent   string
	Request action.Request
	Env     Env
	Want    string // the word of an Outcome

	rule   string // which rule decides, or noRule; empty: not looked at
	shadow string // the word of an Outcome; empty: not looked at
	then   string // one of thens, or empty
}

// A StepResult is what comes of a step.
type StepResult struct {
	*Step
	Decision Limited
	Shadow   *Decision     // with the policies in the shadow enforced; nil: there are none
	Rules    []Explanation // what each rule made of it
	Came     Came
	Levels   []Level  // of the limits that it is charged to, after it
	Faults   []string // what differs from what is told; empty: nothing
}

// Came is what became of an action that was decided on.
type Came string

const (
	Refused  Came = "refused"
	Ran      Came = "ran"
	Failed   Came = "failed"   // it ran, and the server answered an error
	Waits    Came = "waits"    // for its owner
	Approved Came = "approved" // by its owner, and ran
	Denied   Came = "denied"   // by its owner
)

// Sentence says what the decision leaves open; empty: nothing.
func (c Came) Sentence() string {
	switch c {
	case Waits:
		return "It waits for its owner."
	case Approved:
		return "Its owner approves it, and it runs."
	case Denied:
		return "Its owner denies it."
	case Failed:
		return "It runs, and the server answers an error."
	}
	return ""
}

// A Level is how full a limit is.
type Level struct {
	Charge
	State LimitState
}

// Scenarios reads those that ship: scenarios/*.yaml, told with policies/*.yaml.
func Scenarios(shipped fs.FS) ([]*Scenario, error) {
	files, err := fs.Glob(shipped, "scenarios/*.yaml")
	if err != nil {
		return nil, err
	}
	var list []*Scenario
	for _, file := range files {
		src, err := fs.ReadFile(shipped, file)
		if err != nil {
			return nil, err
		}
		s, err := ParseScenario(file, src, shipped)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

// Run tells the story with the policies of a book: the scenario's own, or others.
func (s *Scenario) Run(book *Book) []StepResult {
	var l Ledger
	var results []StepResult
	for i := range s.Steps {
		results = append(results, s.Steps[i].run(book.For(s.Steps[i].Agent), &l, strconv.Itoa(i)))
	}
	return results
}

// run takes one step; by names its action in the ledger.
func (s *Step) run(set *Set, l *Ledger, by string) StepResult {
	d, rules := set.Explain(&s.Request, s.Env)
	r := StepResult{Step: s, Decision: l.Within(d, by, s.Env.Now), Rules: rules}
	if shadow, ok := set.Shadow(&s.Request, s.Env); ok {
		r.Shadow = &shadow
	}
	r.Came = s.settle(r.Decision, l, by)
	for _, c := range d.Charges {
		r.Levels = append(r.Levels, Level{c, l.State(c, s.Env.Now)})
	}
	r.Faults = r.faults()
	return r
}

// waitsFor is how long a request waits for its owner.
const waitsFor = 24 * time.Hour

// settle lets come what comes: the owner's answer, and how the call ends.
func (s *Step) settle(d Limited, l *Ledger, by string) Came {
	held := d.Outcome != Deny && d.Outcome != Allow
	switch {
	case d.Outcome == Deny:
		return Refused
	case held && s.then == "denied":
		return Denied
	case held && s.then != "approved":
		l.SetAside(d.Decision, by, s.Env.Now.Add(waitsFor))
		return Waits
	}
	l.Charge(d.Decision, by, s.Env.Now)
	switch {
	case held:
		return Approved
	case s.then == "error":
		l.Release(d.Decision, by, Refunding)
		return Failed
	}
	return Ran
}

// Moved are the levels that the step may have changed.
func (r *StepResult) Moved() (list []Level) {
	for _, l := range r.Levels {
		aside := r.Came == Waits && l.Limit.ReserveOnHold
		if l.Doubt == "" && (aside || r.Came == Ran || r.Came == Failed || r.Came == Approved) {
			list = append(list, l)
		}
	}
	return list
}

func (r *StepResult) faults() (list []string) {
	differs := func(what, want, got string) {
		if want != "" && want != got {
			list = append(list, fmt.Sprintf("%s: want %s, got %s", what, want, got))
		}
	}
	rule, shadow := r.Decision.RuleID, "none"
	if rule == "" {
		rule = noRule
	}
	if r.Shadow != nil {
		shadow = r.Shadow.Outcome.String()
	}
	differs("decision", r.Want, r.Decision.Outcome.String())
	differs("rule", r.rule, rule)
	differs("in the shadow", r.shadow, shadow)
	return list
}
