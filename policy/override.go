package policy

import "fmt"

// An Override is a deny before which an allow of another policy comes, for somebody
// whom both bind.
type Override struct {
	Allow  string // the rule that comes first; empty: the default
	Policy string // whose deny it is; empty: that of all that no policy says anything of
	Deny   string // the rule that is not asked any more; empty: the default
}

// String says it in words, of the policy that comes first.
func (o Override) String() string {
	switch {
	case o.Allow != "":
		return fmt.Sprintf("its rule %q comes before rule %q of policy %q and allows what that denies", o.Allow, o.Deny, o.Policy)
	case o.Policy == "":
		return "its default lets through what no rule is about, which is denied now"
	}
	return fmt.Sprintf("its default comes before the default of policy %q and lets through what that denies", o.Policy)
}

// Overrides names every deny before which the policy of a source comes with an allow, of
// rules and of defaults, in farther layers and in its own: once each, with the first rule
// that does. As in the warnings, an allow that wants an approval is an allow, and what may
// concern one action is taken to concern one. Nothing comes before a final deny.
func (b *Book) Overrides(name string) (list []Override) {
	p := b.policies[name]
	if p == nil || p.shadow {
		return nil
	}
	named := make(map[[2]string]bool)
	for _, order := range b.orders(p) {
		for _, o := range overridden(p, order) {
			if deny := [2]string{o.Policy, o.Deny}; !named[deny] {
				named[deny] = true
				list = append(list, o)
			}
		}
	}
	return list
}

// orders are those in which the enforced policies are asked that bind somebody whom p binds.
func (b *Book) orders(p *Policy) (lists [][]*Policy) {
	add := func(near []Binding) {
		var order []*Policy
		for _, bind := range append(near, b.owner()...) {
			if !bind.Policy.shadow {
				order = append(order, bind.Policy)
			}
		}
		lists = append(lists, order)
	}
	in := b.groups.byAgent()
	switch p.Scope.Layer {
	case AgentLayer:
		add(b.near(p.Scope.Name, in[p.Scope.Name]))
	case GroupLayer:
		add(b.near("", []string{p.Scope.Name}))
		for _, agent := range b.groups[p.Scope.Name] {
			add(b.near(agent, in[agent]))
		}
	default:
		add(nil)
	}
	return lists
}

// overridden are the denies that are asked after p.
func overridden(p *Policy, order []*Policy) (list []Override) {
	after, settled := false, false // settled: a default before p's decides
	var later []*Policy
	for _, q := range order {
		switch {
		case q == p:
			after = true
		case after:
			later = append(later, q)
		default:
			settled = settled || !q.passthrough
		}
	}
	for d := range allRules(later) {
		if d.allow || d.final {
			continue
		}
		for _, a := range p.rules {
			if a.allow && (a.pattern.covers(d.pattern) || d.pattern.covers(a.pattern)) {
				list = append(list, Override{Allow: a.id, Policy: d.policy.ID, Deny: d.id})
				break
			}
		}
	}
	if p.passthrough || p.fallback == Deny || settled {
		return list
	}
	for _, q := range later {
		if !q.passthrough {
			if q.fallback == Deny {
				list = append(list, Override{Policy: q.ID})
			}
			return list
		}
	}
	return append(list, Override{})
}

// Hides reports whether the policy keeps anything out of the log. One in the shadow does too.
func (p *Policy) Hides() bool { return len(p.log) > 0 }
