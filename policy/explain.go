package policy

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/internal/strictyaml"
)

// An Explanation is what one rule made of a request, in the order in which rules
// are asked.
type Explanation struct {
	PolicyID, RuleID string
	Effect           string // allow or deny
	// Verdict is "decides"; "matches", after another has decided; "no"; or
	// "other", when it is about other actions.
	Verdict string
	Why     string // the first condition that kept it from matching, what was wanted and what was there
}

// Explain decides, and says of every rule why it did not.
func (s *Set) Explain(req *action.Request, env Env) (Decision, []Explanation) {
	d := s.Decide(req, env)
	doc := document(req, env)
	var list []Explanation
	for _, finals := range []bool{true, false} {
		for _, r := range s.rules {
			if r.final == finals {
				list = append(list, r.explain(req.ActionType, d, doc))
			}
		}
	}
	return d, list
}

func (r *bound) explain(actionType string, d Decision, doc action.Value) Explanation {
	e := Explanation{PolicyID: r.policy.ID, RuleID: r.id, Effect: "deny"}
	if r.allow {
		e.Effect = "allow"
	}
	rest, money := weigh(r.rule, doc)
	switch {
	case !r.pattern.matches(actionType):
		e.Verdict, e.Why = "other", "it is about "+r.pattern.String()
	case d.PolicyID == r.policy.ID && d.RuleID == r.id:
		e.Verdict = "decides"
	case rest.and(money).matches(r.allow):
		e.Verdict, e.Why = "matches", "another rule has decided before it"
	default:
		e.Verdict, e.Why = "no", r.failing(doc)
	}
	return e
}

func (p pattern) String() string {
	switch {
	case p.below && p.name == "":
		return "*"
	case p.below:
		return p.name + ".*"
	}
	return p.name
}

// failing is the first condition that keeps a rule from matching.
func (r *rule) failing(doc action.Value) string {
	var parts []*expr
	if r.when != nil {
		parts = append(parts, r.when)
	}
	for _, t := range r.constraints {
		parts = append(parts, &expr{test: t})
	}
	if r.amount != nil {
		parts = append(parts, &expr{test: r.amount})
	}
	for _, part := range parts {
		if t := evaluate(part, doc); !t.matches(r.allow) {
			return part.failing(doc)
		}
	}
	// Each part by itself would do for a deny that cannot be judged, all together
	// do not: one is missing.
	return "what it is about is missing"
}

func (e *expr) failing(doc action.Value) string {
	switch e.op {
	case opTest:
		return e.test.failing(doc)
	case opAll:
		for _, sub := range e.subs {
			if evaluate(sub, doc) != yes {
				return sub.failing(doc)
			}
		}
	case opAny:
		var each []string
		for _, sub := range e.subs {
			each = append(each, sub.failing(doc))
		}
		if len(each) > 0 {
			return strings.Join(each, "; or ")
		}
	case opNot:
		if sub := e.subs[0]; sub.op == opTest {
			return "want not " + sub.test.text + "; " + sub.test.there(doc)
		}
	}
	return fmt.Sprintf("%s is %s", e, evaluate(e, doc))
}

// failing says what was wanted and what was there.
func (t *test) failing(doc action.Value) string { return "want " + t.text + "; " + t.there(doc) }

// there says what a test has found.
func (t *test) there(doc action.Value) string {
	for _, path := range t.paths {
		v, ok := path.Lookup(doc)
		switch {
		case !ok:
			return path.String() + " cannot be followed"
		case v.Kind() == action.Missing:
		case t.isClock():
			return "it is " + clockText(v)
		case consult(t, doc) == unknown:
			return fmt.Sprintf("it is %s: %s, not %s", short(string(v.Canonical())), kindName(v), t.wants)
		default:
			return "it is " + short(string(v.Canonical()))
		}
	}
	if t.isClock() {
		return "what time it is is not known"
	}
	return "it is not there"
}

// clockText writes the time that the clock shows.
func clockText(v action.Value) string {
	ms, err := strconv.ParseInt(v.Text(), 10, 64)
	if err != nil {
		return v.Text()
	}
	return time.UnixMilli(ms).UTC().Format("Mon 2006-01-02T15:04:05Z")
}

// ParseAction reads an action from a file of YAML or JSON, in the form that
// suites use: {action_type, payload, relying_party, tool, open}. The error is a
// strictyaml.ErrorList.
func ParseAction(file string, src []byte) (action.Request, Env, error) {
	doc, err := strictyaml.Parse(file, src)
	if err != nil {
		return action.Request{}, Env{}, err
	}
	p := &suiteParser{parser{Doc: doc}, nil}
	a := p.action(doc.Root, "action")
	return a.req, a.env, doc.Err()
}
