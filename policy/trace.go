package policy

import (
	"iter"
	"strings"

	"github.com/openleash/openleash-go/action"
)

// Trace decides by the slow, naive way and tells about every rule. It is also
// the oracle of the fuzz test of Decide: it shares with it what a single value
// means and what a matching rule gives, but neither compiled conditions nor
// index nor prepared paths nor answers that were given already.
func (s *Set) Trace(req *action.Request, env Env) (d Decision, traces []RuleTrace) {
	defer func() {
		if r := recover(); r != nil {
			d = failed(r)
		}
	}()
	doc := document(req, env)
	traces = make([]RuleTrace, 0, len(s.rules))
	for _, r := range s.rules {
		traces = append(traces, traceRule(r, req.ActionType, doc))
	}
	return s.naive(req, env, doc), traces
}

// naive asks every rule in order, final denies first.
func (s *Set) naive(req *action.Request, env Env, doc action.Value) Decision {
	v := verdict{set: s, kind: req.ActionType, request: func() action.Value { return doc }}
	v.look = func(path action.Path) (action.Value, bool) { return path.Lookup(doc) }
	var near *bound
	for _, finals := range []bool{true, false} {
		for _, r := range s.rules {
			if r.final != finals || !r.pattern.matches(req.ActionType) {
				continue
			}
			rest, money := weigh(r.rule, doc)
			if v.take(r, rest.and(money)) {
				return v.decision
			}
			if near == nil && r.allow && rest == yes && money == no {
				near = r
			}
		}
	}
	return v.byDefault(env, near)
}

// weigh evaluates a rule without short cuts: the amount, and all the rest.
func weigh(r *rule, doc action.Value) (rest, money truth) {
	rest, money = yes, yes
	if r.when != nil {
		rest = evaluate(r.when, doc)
	}
	for _, t := range r.constraints {
		rest = rest.and(consult(t, doc))
	}
	if r.amount != nil {
		money = consult(r.amount, doc)
	}
	return rest, money
}

func evaluate(e *expr, doc action.Value) truth {
	switch e.op {
	case opTest:
		return consult(e.test, doc)
	case opNot:
		return evaluate(e.subs[0], doc).not()
	case opAny:
		t := no
		for _, sub := range e.subs {
			t = t.or(evaluate(sub, doc))
		}
		return t
	}
	t := yes
	for _, sub := range e.subs {
		t = t.and(evaluate(sub, doc))
	}
	return t
}

// consult puts one test to the request.
func consult(t *test, doc action.Value) truth {
	for _, path := range t.paths {
		v, ok := path.Lookup(doc)
		if !ok {
			return unknown
		}
		if v.Kind() != action.Missing {
			return t.judge(v)
		}
	}
	return t.absent
}

func traceRule(r *bound, actionType string, doc action.Value) RuleTrace {
	tr := RuleTrace{PolicyID: r.policy.ID, RuleID: r.id, PatternMatch: r.pattern.matches(actionType)}
	if !tr.PatternMatch {
		return tr
	}
	if r.when != nil {
		matches := evaluate(r.when, doc).matches(r.allow)
		tr.WhenMatch = &matches
	}
	if len(r.constraints) > 0 || r.amount != nil {
		matches := weighConstraints(r.rule, doc).matches(r.allow)
		tr.ConstraintsMatch = &matches
	}
	rest, money := weigh(r.rule, doc)
	tr.FinalMatch = rest.and(money).matches(r.allow)
	tr.Note = noteOn(r.rule, doc)
	return tr
}

func weighConstraints(r *rule, doc action.Value) truth {
	constraints := *r
	constraints.when = nil
	rest, money := weigh(&constraints, doc)
	return rest.and(money)
}

// noteOn tells what is unknown or missing.
func noteOn(r *rule, doc action.Value) string {
	var notes []string
	if odd := unreadable(r, doc); len(odd) > 0 {
		notes = append(notes, "unknown: "+strings.Join(odd, "; "))
	}
	for t := range testsOf(r) {
		if consult(t, doc) == missing {
			notes = append(notes, "missing: "+t.where())
		}
	}
	return strings.Join(notes, "; ")
}

// testsOf yields every test of a rule.
func testsOf(r *rule) iter.Seq[*test] {
	return func(yield func(*test) bool) {
		if r.when != nil && !walk(r.when, yield) {
			return
		}
		for _, t := range r.constraints {
			if !yield(t) {
				return
			}
		}
		if r.amount != nil {
			yield(r.amount)
		}
	}
}

func walk(e *expr, yield func(*test) bool) bool {
	if e.op == opTest {
		return yield(e.test)
	}
	for _, sub := range e.subs {
		if !walk(sub, yield) {
			return false
		}
	}
	return true
}
