package policy

import (
	"slices"

	"github.com/openleash/openleash-go/action"
)

// An asking is one request while it is decided on: what was looked up already,
// and room to work in. It is used again for later requests, never by two at once.
type asking struct {
	set      *Set
	req      *action.Request
	env      Env
	object   action.Value        // the request as rules see it; made when something needs it
	document func() action.Value // makes it
	look     look                // what a limit finds at a path
	found    []found             // by slot
	touched  []int               // slots of found that are set
	answers  []answer            // by test
	answered []int               // tests of answers that are set
	lists    [][]int             // of candidates
	near     *bound              // the first allow rule that only the amount keeps from matching
}

// found is what a path leads to.
type found struct {
	value    action.Value
	ok       bool
	known    bool // looked up already
	isNumber bool // value is number
	isAmount bool // number is an amount
	number   number
}

// answer is what a test said.
type answer struct {
	truth truth
	known bool // it was asked already
}

func newAsking(s *Set) *asking {
	a := &asking{set: s, found: make([]found, len(s.places)), answers: make([]answer, len(s.tests))}
	a.document = a.root
	a.look = func(path action.Path) (action.Value, bool) {
		f := a.find(s.slots[path.String()])
		return f.value, f.ok
	}
	return a
}

func (a *asking) begin(req *action.Request, env Env) { a.req, a.env = req, env }

// end forgets everything of the request.
func (a *asking) end() {
	for _, slot := range a.touched {
		a.found[slot] = found{}
	}
	for _, i := range a.answered {
		a.answers[i] = answer{}
	}
	clear(a.lists)
	a.req, a.env, a.object, a.near = nil, Env{}, action.Value{}, nil
	a.touched, a.answered, a.lists = a.touched[:0], a.answered[:0], a.lists[:0]
}

// find resolves a path once.
func (a *asking) find(slot int) *found {
	f := &a.found[slot]
	if !f.known {
		f.value, f.ok = a.lookup(&a.set.places[slot])
		f.known = true
		f.number, f.isNumber = numberOf(f.value)
		f.isAmount = f.isNumber && f.number.isAmount()
		a.touched = append(a.touched, slot)
	}
	return f
}

func (a *asking) lookup(p *place) (action.Value, bool) {
	switch p.root {
	case payload:
		return follow(p, orEmpty(a.req.Payload))
	case tool:
		return follow(p, a.env.Tool)
	case kind:
		return action.StringValue(a.req.ActionType), true
	case clock:
		return clockValue(a.env.Now), true
	case party:
		if a.req.RelyingParty.Domain == "" {
			return action.Value{}, true
		}
		return action.StringValue(a.req.RelyingParty.Domain), true
	}
	return p.path.Lookup(a.root())
}

func follow(p *place, from action.Value) (action.Value, bool) {
	if p.below.String() == "" {
		return from, true
	}
	return p.below.Lookup(from)
}

func orEmpty(payload action.Value) action.Value {
	if payload.Kind() == action.Missing {
		return action.ObjectValue()
	}
	return payload
}

func (a *asking) root() action.Value {
	if a.object.Kind() == action.Missing {
		a.object = document(a.req, a.env)
	}
	return a.object
}

// document is what paths are followed in: the request as it is hashed, and the
// tool beside it.
func document(req *action.Request, env Env) action.Value {
	ms := []action.Member{{Key: "tool", Value: env.Tool}, {Key: "now", Value: clockValue(env.Now)}}
	for key, v := range req.Value().Members() {
		ms = append(ms, action.Member{Key: key, Value: v})
	}
	return action.ObjectValue(ms...)
}

// collect starts over with the rules that an index leaves for the request's
// action and values.
func (a *asking) collect(x *index) {
	a.lists = a.lists[:0]
	x.collect(a)
}

// next takes the first rule, in the order of the rules, off the lists; nil at
// the end.
func (a *asking) next() *bound {
	first := -1
	for i, list := range a.lists {
		if len(list) > 0 && (first < 0 || list[0] < a.lists[first][0]) {
			first = i
		}
	}
	if first < 0 {
		return nil
	}
	r := a.set.rules[a.lists[first][0]]
	a.lists[first] = a.lists[first][1:]
	return r
}

// index finds the rules whose pattern matches an action type.
type index struct {
	exact   map[string]*group
	below   map[string]*group // by the name before ".*"
	all     *group            // "*"
	longest int               // of the names in below: longer prefixes are not looked up
}

// group is the rules of one pattern, and, where some of them hold only for
// certain texts at one path, the way to those.
type group struct {
	rules []int
	slot  int              // of the path, or -1
	by    map[string][]int // rules that hold only for this text
	rest  []int            // rules that do not depend on it in this way
}

// collect gathers the lists of rules that may match.
func (x *index) collect(a *asking) {
	name := a.req.ActionType
	x.exact[name].collect(a)
	x.all.collect(a)
	if len(name) <= x.longest {
		x.below[name].collect(a)
	}
	for i := 0; i < len(name) && i <= x.longest; i++ {
		if name[i] == '.' {
			x.below[name[:i]].collect(a)
		}
	}
}

// collect takes the short way only when the value is a text: on any other the
// equality is unknown or missing, which is not false.
func (g *group) collect(a *asking) {
	if g == nil {
		return
	}
	if g.slot >= 0 {
		if f := a.find(g.slot); f.ok && f.value.Kind() == action.String {
			a.lists = append(a.lists, g.by[f.value.Text()], g.rest)
			return
		}
	}
	a.lists = append(a.lists, g.rules)
}

// index builds the index of the rules that want accepts.
func (c *compiler) index(want func(*rule) bool) index {
	x := index{exact: make(map[string]*group), below: make(map[string]*group)}
	for i, r := range c.set.rules {
		if want(r.rule) {
			g := x.group(r.pattern)
			g.rules = append(g.rules, i)
		}
	}
	for _, g := range x.groups() {
		c.split(g)
	}
	return x
}

func (x *index) group(p pattern) *group {
	if p.name == "" && p.below {
		if x.all == nil {
			x.all = &group{}
		}
		return x.all
	}
	groups := x.exact
	if p.below {
		groups, x.longest = x.below, max(x.longest, len(p.name))
	}
	if groups[p.name] == nil {
		groups[p.name] = &group{}
	}
	return groups[p.name]
}

func (x *index) groups() []*group {
	var list []*group
	for _, groups := range []map[string]*group{x.exact, x.below} {
		for _, g := range groups {
			list = append(list, g)
		}
	}
	if x.all != nil {
		list = append(list, x.all)
	}
	return list
}

// split indexes a group by the path on which most of its rules depend.
func (c *compiler) split(g *group) {
	g.slot = -1
	uses := make(map[string]int)
	best := ""
	for _, i := range g.rules {
		for path := range needs(c.set.rules[i].when) {
			uses[path]++
			if n := uses[path]; n > uses[best] || n == uses[best] && path < best {
				best = path
			}
		}
	}
	if uses[best] < 2 {
		return
	}
	g.slot, g.by = c.slots[best], make(map[string][]int)
	for _, i := range g.rules {
		texts, ok := needs(c.set.rules[i].when)[best]
		if !ok {
			g.rest = append(g.rest, i)
		}
		for _, text := range texts {
			g.by[text] = append(g.by[text], i)
		}
	}
}

// needs gives, by path, the texts without which a condition is false.
func needs(e *expr) map[string][]string {
	switch {
	case e == nil:
		return nil
	case e.op == opTest && e.test.equals != nil:
		return map[string][]string{e.test.paths[0].String(): unique(e.test.equals)}
	case e.op != opAll:
		return nil
	}
	all := make(map[string][]string)
	for _, sub := range e.subs {
		for path, texts := range needs(sub) {
			if _, again := all[path]; !again {
				all[path] = texts
			}
		}
	}
	return all
}

func unique(texts []string) []string { return slices.Compact(slices.Sorted(slices.Values(texts))) }
