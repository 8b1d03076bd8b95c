package policy

import "github.com/openleash/openleash-go/action"

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

// A compiler makes what a Set decides with.
type compiler struct {
	set   *Set
	slots map[string]int // path → its index in set.places
	known map[string]int // what a test says → its index in set.tests
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
	b := &bound{rule: r, policy: p, money: -1, decision: decisionOf(p, r)}
	if r.when != nil {
		c.spread(b, r.when)
	}
	for _, t := range r.constraints {
		b.tests = append(b.tests, c.test(t))
	}
	if r.amount != nil {
		b.money = c.test(r.amount)
	}
	return b
}

// spread makes b ask what e does: an all is nothing but what it consists of.
func (c *compiler) spread(b *bound, e *expr) {
	switch e.op {
	case opTest:
		b.tests = append(b.tests, c.test(e.test))
	case opAll:
		for _, sub := range e.subs {
			c.spread(b, sub)
		}
	default:
		b.others = append(b.others, c.expr(e))
	}
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
		i := c.test(e.test)
		return func(a *asking) truth { return a.answer(i) }
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

// test prepares a test; one that says the same as another is that other.
func (c *compiler) test(t *test) int {
	if i, ok := c.known[t.text]; ok {
		return i
	}
	p := prepared{test: t}
	for _, path := range t.paths {
		p.slots = append(p.slots, c.slot(path))
	}
	if t.within != nil {
		p.ranged, p.money, p.slot = true, t.within.money, p.slots[0]
		p.low, p.high = t.within.wholes()
	}
	i := len(c.set.tests)
	c.known[t.text] = i
	c.set.tests = append(c.set.tests, p)
	return i
}
