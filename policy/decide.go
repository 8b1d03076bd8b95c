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
	limits   []*Limit // of all policies, nearest first
	fallback Decision
	scratch  sync.Pool // of *asking
	shadow   *Set      // the same with the policies in the shadow; nil without any
}

// A bound rule is a rule in its place among all.
type bound struct {
	*rule
	policy   *Policy
	decision Decision  // what it gives when it matches
	rest     condition // of the when and of all constraints but the amount; nil: none
	money    condition // of the amount; nil: none
}

// Compile builds a Set. Bindings of one layer keep their order.
func Compile(bindings []Binding) *Set {
	enforced := slices.DeleteFunc(slices.Clone(bindings), func(b Binding) bool { return b.Policy.shadow })
	s := compile(enforced)
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
	c := compiler{set: s, slots: s.slots}
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
			if v.take(r, a.ask(r)) {
				return v.decision
			}
		}
	}
	return v.byDefault(a.env, a.near)
}

// ask puts the conditions of a rule whose pattern matches.
func (a *asking) ask(r *bound) truth {
	t := yes
	if r.rest != nil {
		if t = r.rest(a); t == no {
			return no
		}
	}
	if r.money == nil {
		return t
	}
	m := r.money(a)
	if m == no && t == yes && r.allow && a.near == nil {
		a.near = r
	}
	return t.and(m)
}

// A condition is a compiled expression.
type condition func(*asking) truth

// A place is a path, prepared: most lead into the payload or the tool, and can
// be followed without building the whole request.
type place struct {
	path  action.Path // as written
	root  root
	below action.Path // from the root on, when root is not whole
}

type root uint8

const (
	whole   root = iota // of the whole request: path
	payload             // the payload: below, or itself when below is empty
	tool                // the same for the tool
	party               // $.relying_party.domain
	kind                // $.action_type
	clock               // clockPath
)

type compiler struct {
	set   *Set
	slots map[string]int // path → its index in set.places
}

func (c *compiler) slot(path action.Path) int {
	text := path.String()
	if i, ok := c.slots[text]; ok {
		return i
	}
	i := len(c.set.places)
	c.slots[text] = i
	c.set.places = append(c.set.places, newPlace(path))
	return i
}

func newPlace(path action.Path) place {
	switch text := path.String(); {
	case text == partyPath:
		return place{path: path, root: party}
	case text == "$.action_type":
		return place{path: path, root: kind}
	case text == clockPath:
		return place{path: path, root: clock}
	case firstKey(path) == "payload":
		return below(path, payload, "$.payload")
	case firstKey(path) == "tool":
		return below(path, tool, "$.tool")
	}
	return place{path: path}
}

func below(path action.Path, from root, prefix string) place {
	rest := path.String()[len(prefix):]
	if rest == "" {
		return place{path: path, root: from}
	}
	sub, err := action.ParsePath("$" + rest)
	if err != nil {
		return place{path: path} // $.payload["my-key"]: no path of its own
	}
	return place{path: path, root: from, below: sub}
}

func (c *compiler) bind(p *Policy, r *rule) *bound {
	b := &bound{rule: r, policy: p, decision: decisionOf(p, r)}
	var parts []condition
	if r.when != nil {
		parts = append(parts, c.expr(r.when))
	}
	for _, t := range r.constraints {
		parts = append(parts, c.test(t))
	}
	if len(parts) > 0 {
		b.rest = allOf(parts)
	}
	if r.amount != nil {
		b.money = c.test(r.amount)
	}
	return b
}

// limit prepares the paths that a limit reads.
func (c *compiler) limit(l *Limit) {
	if !l.Counts {
		c.slot(l.sum)
		c.slot(currencyAt)
	}
	for _, part := range l.per {
		for _, path := range part.paths {
			c.slot(path)
		}
	}
}

func (c *compiler) expr(e *expr) condition {
	switch e.op {
	case opTest:
		return c.test(e.test)
	case opNot:
		sub := c.expr(e.subs[0])
		return func(a *asking) truth { return sub(a).not() }
	}
	subs := make([]condition, len(e.subs))
	for i, sub := range e.subs {
		subs[i] = c.expr(sub)
	}
	if e.op == opAny {
		return anyOf(subs)
	}
	return allOf(subs)
}

// allOf stops at the first false: nothing that follows can change it.
func allOf(subs []condition) condition {
	if len(subs) == 1 {
		return subs[0]
	}
	return func(a *asking) truth {
		t := yes
		for _, sub := range subs {
			if t = t.and(sub(a)); t == no {
				break
			}
		}
		return t
	}
}

func anyOf(subs []condition) condition {
	if len(subs) == 1 {
		return subs[0]
	}
	return func(a *asking) truth {
		t := no
		for _, sub := range subs {
			if t = t.or(sub(a)); t == yes {
				break
			}
		}
		return t
	}
}

func (c *compiler) test(t *test) condition {
	slots := make([]int, len(t.paths))
	for i, path := range t.paths {
		slots[i] = c.slot(path)
	}
	judge, absent := t.judge, t.absent
	return func(a *asking) truth {
		for _, slot := range slots {
			switch f := a.find(slot); {
			case !f.ok:
				return unknown
			case f.value.Kind() != action.Missing:
				return judge(f.value)
			}
		}
		return absent
	}
}
