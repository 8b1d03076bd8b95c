package policy

import (
	"cmp"
	"fmt"
	"slices"
	"sync"

	"github.com/openleash/openleash-go/action"
)

// A Set is all that is bound to one agent, compiled: immutable, safe for
// simultaneous use.
type Set struct {
	bindings []Binding // nearest layer first
	rules    []*bound  // of all bindings, in the order in which they are asked
	finals   index     // the final denies among them, asked before all others
	others   index
	places   []place // every path that a rule or a limit reads, once
	slots    map[string]int
	tests    []prepared // every test of a rule, once, however many rules ask it
	limits   []*Limit   // of all policies, nearest first
	fallback Decision
	scratch  sync.Pool  // of *asking
	log      []recorded // of all policies, also of those in the shadow
	shadow   *Set       // the same with the policies in the shadow; nil without any
}

// A bound rule is a rule in its place among all.
type bound struct {
	*rule
	policy   *Policy
	tests    []int       // of Set.tests: all must hold
	others   []condition // and so must these, which are more than one test
	money    int         // the test of the amount, which is apart; -1: none
	decision *Decision   // what it gives when it matches
}

// A condition is a compiled expression.
type condition func(*asking) truth

// A prepared test has its paths looked up once for all tests, and gives its answer
// once for all rules.
type prepared struct {
	*test
	slots []int // of its paths
	// Of a test that is an interval, what settles nearly all numbers at a glance.
	ranged    bool
	money     bool  // only amounts
	slot      int   // slots[0]
	low, high int64 // interval.wholes
}

// Compile builds a Set. Bindings of one layer keep their order.
func Compile(bindings []Binding) *Set {
	enforced := slices.DeleteFunc(slices.Clone(bindings), func(b Binding) bool { return b.Policy.shadow })
	s := compile(enforced)
	s.log = recordings(bindings)
	if len(enforced) < len(bindings) {
		s.shadow = compile(bindings)
	}
	return s
}

// Shadow is what Decide would say if the policies in the shadow were enforced;
// false where there are none.
func (s *Set) Shadow(req *action.Request, env Env) (d Decision, ok bool) {
	if s.shadow == nil {
		return Decision{}, false
	}
	return s.shadow.Decide(req, env), true
}

func compile(bindings []Binding) *Set {
	s := &Set{bindings: slices.Clone(bindings)}
	slices.SortStableFunc(s.bindings, func(a, b Binding) int { return cmp.Compare(a.Layer, b.Layer) })
	s.slots = make(map[string]int)
	c := compiler{set: s, slots: s.slots, known: make(map[string]int)}
	for _, b := range s.bindings {
		for _, r := range b.Policy.rules {
			s.rules = append(s.rules, c.bind(b.Policy, r))
		}
		s.limits = append(s.limits, b.Policy.limits...)
		for _, l := range b.Policy.allLimits() {
			c.limit(l)
		}
	}
	s.finals = c.index(func(r *rule) bool { return r.final })
	s.others = c.index(func(r *rule) bool { return !r.final })
	s.fallback = s.defaultDecision()
	s.scratch.New = func() any { return newAsking(s) }
	return s
}

// defaultDecision is the first default that is not passthrough.
func (s *Set) defaultDecision() Decision {
	if len(s.bindings) == 0 {
		return Decision{Reason: "No policy is bound to this agent, so everything is denied."}
	}
	for _, b := range s.bindings {
		if !b.Policy.passthrough {
			return defaultOf(b.Policy)
		}
	}
	last := s.bindings[len(s.bindings)-1].Policy
	return Decision{PolicyID: last.ID, Reason: fmt.Sprintf("No rule matches, and policy %q passes on to a policy that is not there, so it is denied.", last.ID)}
}

func defaultOf(p *Policy) Decision {
	d := Decision{Outcome: p.fallback, PolicyID: p.ID}
	switch d.Outcome {
	case Allow:
		d.Reason = fmt.Sprintf("No rule matches; policy %q allows the rest.", p.ID)
	case RequireApproval:
		d.Obligations = []Obligation{{Type: HumanApproval}}
		d.Reason = fmt.Sprintf("No rule matches; policy %q wants a person's approval for the rest.", p.ID)
	default:
		d.Reason = fmt.Sprintf("No rule matches; policy %q denies the rest.", p.ID)
	}
	return d
}

// otherwise is what holds when no rule decides. Where no policy is bound nothing
// is open.
func (s *Set) otherwise(env Env) (d Decision, open bool) {
	if !env.Open || s.fallback.PolicyID == "" {
		return s.fallback, false
	}
	return Decision{Outcome: Allow, PolicyID: s.fallback.PolicyID, NoProof: true,
		Reason: "No rule is about it; what is no tool call is allowed unless a rule says otherwise."}, true
}

// Decide is pure: no I/O, no clock, no globals. A Set without bindings denies.
func (s *Set) Decide(req *action.Request, env Env) (d Decision) {
	a := s.scratch.Get().(*asking)
	a.begin(req, env)
	defer func() {
		if r := recover(); r != nil {
			d = failed(r) // a is dropped: nobody knows its state
			return
		}
		a.end()
		s.scratch.Put(a)
	}()
	return a.decide()
}

// failed is the answer when a rule fails in a way that nobody foresaw.
func failed(r any) Decision {
	return Decision{
		Reason: "The policy could not be evaluated, so it is denied.",
		Errors: []string{fmt.Sprintf("evaluating the policy: %v", r)},
	}
}

func (a *asking) decide() Decision {
	v := verdict{set: a.set, kind: a.req.ActionType, request: a.document, look: a.look}
	for _, x := range []*index{&a.set.finals, &a.set.others} {
		a.collect(x)
		for r := a.next(); r != nil; r = a.next() {
			if t := a.ask(r); t != no && v.take(r, t) {
				return v.decision
			}
		}
	}
	return v.byDefault(a.env, a.near)
}

// ask puts the conditions of a rule whose pattern matches.
func (a *asking) ask(r *bound) truth {
	t := yes
	for _, i := range r.tests {
		if t = t.and(a.answer(i)); t == no {
			return no
		}
	}
	for _, other := range r.others {
		if t = t.and(other(a)); t == no {
			return no
		}
	}
	if r.money < 0 {
		return t
	}
	m := a.answer(r.money)
	if m == no && t == yes && a.near == nil && r.allow {
		a.near = r
	}
	return t.and(m)
}

// answer is what a test says of the request. Of a number it is seen sooner than
// remembered.
func (a *asking) answer(i int) truth {
	p := &a.set.tests[i]
	if f := &a.found[p.slot]; p.ranged && f.isNumber && (f.isAmount || !p.money) {
		switch whole := f.number.whole; {
		case whole < p.low || whole > p.high:
			return no
		case whole > p.low && whole < p.high:
			return yes
		}
	}
	t := &a.answers[i]
	if !t.known {
		t.truth, t.known = a.put(p), true
		a.answered = append(a.answered, i)
	}
	return t.truth
}

// put puts a test to the request.
func (a *asking) put(p *prepared) truth {
	for _, slot := range p.slots {
		switch f := a.find(slot); {
		case !f.ok:
			return unknown
		case f.value.Kind() == action.Missing:
		case p.within != nil && f.isNumber:
			return p.within.judge(&f.number)
		default:
			return p.judge(f.value)
		}
	}
	return p.absent
}
