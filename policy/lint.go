package policy

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/internal/strictyaml"
)

// What is valid and probably not meant. A warning keeps nothing from coming into
// force.

// warn notes a warning at n.
func (p *parser) warn(n *yaml.Node, format string, args ...any) {
	p.warnings = append(p.warnings, p.At(n, format, args...))
}

// lintRule looks at one rule by itself. f are its keys.
func (p *parser) lintRule(r *rule, f map[string]*yaml.Node, what string) {
	p.lintNarrow(r)
	c := fieldsOf(f["constraints"])
	if r.allow && c["amount_max"] != nil && !r.reads(currencyPath) {
		p.warn(c["amount_max"], "%s: amount_max without currency: 8500 is 85.00 of any currency, whatever it is worth; add currency", what)
	}
	if r.allow && c["blocked_domains"] != nil && c["merchant_domain"] == nil && c["allowed_domains"] == nil && r.when == nil {
		p.warn(c["blocked_domains"], "%s: this allows every domain but those listed, also ones that are made tomorrow; list those that are allowed (allowed_domains)", what)
	}
}

// lintNarrow gives the warnings of tests that are narrower than they seem, where
// that lets an action through: in what a deny rule asks to be true, and in what an
// allow rule asks not to be.
func (p *parser) lintNarrow(r *rule) {
	if r.when != nil {
		p.narrow(r.when, !r.allow)
	}
	for _, t := range r.constraints {
		p.narrow(&expr{test: t}, !r.allow)
	}
}

func (p *parser) narrow(e *expr, through bool) {
	if e.op == opTest && e.test.negated != through {
		p.warnings = append(p.warnings, e.test.narrow...)
	}
	for _, sub := range e.subs {
		p.narrow(sub, through != (e.op == opNot))
	}
}

// smell tells that a comparison of texts is made with what can be written in more
// ways than one.
func (p *parser) smell(path, op string, value *yaml.Node, what string) *strictyaml.Error {
	if !slices.Contains([]string{"eq", "neq", "in", "nin", "regex"}, op) {
		return nil
	}
	items := []*yaml.Node{value}
	if value.Kind == yaml.SequenceNode {
		items = p.List(value, what)
	}
	for _, item := range items {
		if item.Kind != yaml.ScalarNode || item.ShortTag() != "!!str" {
			continue
		}
		if matcher, other := otherWays(lastName(path), op, item.Value); matcher != "" {
			w := p.At(item, "%s: %s compares letter by letter, and this can be written otherwise (%s): use op: %s", what, op, other, matcher)
			return &w
		}
	}
	return nil
}

// lastName is the name that a path ends with, in lower case: of $.payload.to[*] it
// is "to".
func lastName(path string) string {
	path = strings.TrimRight(strings.ToLower(path), `[]*0123456789"`)
	return path[strings.LastIndexAny(path, `.["`)+1:]
}

var (
	namesDomain = regexp.MustCompile(`domain|host`)
	namesEmail  = regexp.MustCompile(`mail|recipient`)
	namesURL    = regexp.MustCompile(`ur[il]$|^ur[il]|link|href`)
	namesFile   = regexp.MustCompile(`paths?$|^files?$|_files?$|filename|folder|directory|^dir$`)
	likeDomain  = regexp.MustCompile(`^([a-zA-Z0-9_-]+\.)+[a-zA-Z]{2,}\.?$`)
	likeEmail   = regexp.MustCompile(`^[^@\s]+@[^@\s]+\.[^@\s]+$`)
)

// otherWays names the matcher for what a text seems to be, by itself or by the name
// under which it stands, and ways to write the same.
func otherWays(name, op, text string) (matcher, other string) {
	pattern := op == "regex"
	switch {
	case strings.Contains(text, "://") || pattern && namesURL.MatchString(name):
		return "url", "another case, a port, %41, .."
	case likeEmail.MatchString(text) || pattern && (strings.Contains(text, "@") || namesEmail.MatchString(name)):
		return "email", "another case, +tag, a name before it"
	case strings.HasPrefix(strings.TrimPrefix(text, "^"), "/") && strings.Count(text, "/") > 1 || namesFile.MatchString(name) && (pattern || strings.HasPrefix(text, "/")):
		return "file", "//, .., another case"
	case namesDomain.MatchString(name) && (pattern || likeDomain.MatchString(text)):
		return "domain", "another case, a dot at the end"
	}
	return "", ""
}

// fieldsOf are the values of a mapping by their keys, as they stand.
func fieldsOf(n *yaml.Node) map[string]*yaml.Node {
	f := map[string]*yaml.Node{}
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n == nil || n.Kind != yaml.MappingNode {
		return f
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		f[n.Content[i].Value] = n.Content[i+1]
	}
	return f
}

// reads tells whether a rule looks at a path.
func (r *rule) reads(path string) bool {
	for t := range testsOf(r) {
		for _, at := range t.paths {
			if at.String() == path || t.place == path {
				return true
			}
		}
	}
	return false
}

func (r *rule) asksTool() bool {
	for t := range testsOf(r) {
		if firstKey(t.paths[0]) == "tool" {
			return true
		}
	}
	return false
}

// maxWarnings is how many a policy is given: whoever has so many is helped by the
// first ones.
const maxWarnings = 100

// A linter looks at the rules of a policy together.
type linter struct {
	*Policy
	facts []facts          // by rule
	first map[string][]int // rules by the first of their conditions; "": those without
}

// facts are what is asked of a rule again and again.
type facts struct {
	conditions []string // what must all hold, as canonical texts, sorted; the amount is apart
	paths      []string // what it looks at
	asksTool   bool
}

// lint looks at the rules of a policy together.
func (pol *Policy) lint() (list []strictyaml.Error) {
	l := linter{Policy: pol, first: map[string][]int{}}
	for i, r := range pol.rules {
		f := factsOf(r)
		l.facts = append(l.facts, f)
		key := ""
		if len(f.conditions) > 0 {
			key = f.conditions[0]
		}
		l.first[key] = append(l.first[key], i)
	}
	for i, r := range pol.rules {
		if len(list) == maxWarnings {
			break
		}
		if by := l.covering(i); by != nil {
			list = append(list, r.remark("rule %q can never decide: rule %q on line %d takes all that it matches", r.id, by.id, by.place.Line))
		} else if w, ok := l.dodged(i); ok {
			list = append(list, w)
		}
	}
	return list
}

func factsOf(r *rule) facts {
	f := facts{conditions: r.conditions(), asksTool: r.asksTool()}
	slices.Sort(f.conditions)
	for t := range testsOf(r) {
		for _, path := range t.paths {
			f.paths = append(f.paths, path.String())
		}
	}
	return f
}

// remark is a warning at the rule's place.
func (r *rule) remark(format string, args ...any) strictyaml.Error {
	w := r.place
	w.Message = fmt.Sprintf(format, args...)
	return w
}

// covering finds a rule that is asked before rule i and always decides where that
// would: one without conditions, or whose first condition rule i has too.
func (l *linter) covering(i int) *rule {
	r := l.rules[i]
	for _, key := range append([]string{""}, l.facts[i].conditions...) {
		for _, j := range l.first[key] {
			by := l.rules[j]
			if before := j < i && by.final == r.final || by.final && !r.final; before && l.covers(j, i) {
				return by
			}
		}
	}
	return nil
}

// covers reports that rule j matches whatever rule i matches. It looks at
// conditions as they are written: what it does not see it takes for no.
func (l *linter) covers(j, i int) bool {
	by, r := l.rules[j], l.rules[i]
	if !by.pattern.covers(r.pattern) {
		return false
	}
	if len(l.facts[j].conditions) == 0 && by.amount == nil {
		return true
	}
	if !r.allow { // it also matches what cannot be judged
		return false
	}
	for _, c := range l.facts[j].conditions {
		if _, has := slices.BinarySearch(l.facts[i].conditions, c); !has {
			return false
		}
	}
	return by.amount == nil || r.amount != nil && by.span.holds(r.span)
}

func (p pattern) covers(q pattern) bool {
	if p.below && p.name == "" {
		return true
	}
	return (p.below || !q.below) && (q.name == p.name || p.below && strings.HasPrefix(q.name, p.name+"."))
}

// conditions are what must all hold, as canonical texts; the amount is apart.
func (r *rule) conditions() (list []string) {
	if r.when != nil {
		list = r.when.parts()
	}
	for _, t := range r.constraints {
		list = append(list, t.text)
	}
	return list
}

// parts are what must all hold for a condition to hold.
func (e *expr) parts() (list []string) {
	if e.op != opAll {
		return []string{e.String()}
	}
	for _, sub := range e.subs {
		list = append(list, sub.parts()...)
	}
	return list
}

// String is the condition's canonical text: the order inside all and any does not
// count.
func (e *expr) String() string {
	if e.op == opTest {
		return e.test.text
	}
	var subs []string
	for _, sub := range e.subs {
		subs = append(subs, sub.String())
	}
	slices.Sort(subs)
	return [...]string{"", "all", "any", "not"}[e.op] + "(" + strings.Join(subs, ", ") + ")"
}

// span is the range of an amount constraint; nil ends are open.
type span struct{ low, high *int64 }

// String writes the range: "10 to 5000", "up to 5000", "from 10".
func (s span) String() string {
	switch {
	case s.low == nil:
		return fmt.Sprintf("up to %d", *s.high)
	case s.high == nil:
		return fmt.Sprintf("from %d", *s.low)
	}
	return fmt.Sprintf("%d to %d", *s.low, *s.high)
}

func (s span) holds(t span) bool {
	low := s.low == nil || t.low != nil && *s.low <= *t.low
	return low && (s.high == nil || t.high != nil && *t.high <= *s.high)
}

// bare is a request with nothing but what every request has.
var bare = document(&action.Request{
	ActionID: "x", ActionType: "x", RequestedAt: "x", AgentID: "x", SubjectID: "x", Payload: action.ObjectValue(),
}, Env{Tool: action.ObjectValue(
	action.Member{Key: "server", Value: action.StringValue("x")}, action.Member{Key: "name", Value: action.StringValue("x")},
	action.Member{Key: "reads", Value: action.BoolValue(false)}, action.Member{Key: "destroys", Value: action.BoolValue(false)},
)})

// dodged warns of a deny that is got round by leaving a field out: it does not
// match then, and what is asked next allows.
func (l *linter) dodged(i int) (w strictyaml.Error, warn bool) {
	r := l.rules[i]
	if r.allow {
		return w, false
	}
	if rest, money := weigh(r, bare); rest.and(money) != missing {
		return w, false
	}
	paths := r.missing()
	by := l.allowsWithout(i, paths)
	if by == "" {
		return w, false
	}
	return r.remark("rule %q does not match when %s is missing, and then %s allows: to deny that too, add to the condition any: [{match: …}, {not: {match: {path: %s, op: exists}}}]",
		r.id, paths[0], by, inFlow(paths[0])), true
}

// inFlow writes a path so that it can stand between braces.
func inFlow(path string) string {
	if strings.ContainsAny(path, "[]{},") {
		return "'" + strings.ReplaceAll(path, "'", "''") + "'"
	}
	return path
}

// missing are the paths without which a rule cannot be judged.
func (r *rule) missing() (paths []string) {
	for t := range testsOf(r) {
		if consult(t, bare) == missing {
			paths = append(paths, t.where())
		}
	}
	return paths
}

// allowsWithout names what allows the actions of deny rule i that lack its
// fields, or "". An agent can choose what is in an action, but not whose tool it
// calls: rules about $.tool do not count.
func (l *linter) allowsWithout(i int, paths []string) string {
	deny := l.rules[i]
	for j, r := range l.rules {
		asked := j > i || deny.final && !r.final
		if !asked || !r.pattern.covers(deny.pattern) && !deny.pattern.covers(r.pattern) {
			continue
		}
		f := l.facts[j]
		if f.asksTool || slices.ContainsFunc(paths, func(path string) bool { return slices.Contains(f.paths, path) }) {
			continue
		}
		if r.allow && r.outcome == Allow {
			return fmt.Sprintf("rule %q", r.id)
		}
		if r.pattern.covers(deny.pattern) && len(f.conditions) == 0 && r.amount == nil {
			return "" // it takes them all, and does not allow
		}
	}
	if l.fallback == Allow {
		return "the default"
	}
	return ""
}

// lintGroups warns of policies for groups that are not there.
func (b *Book) lintGroups() (list []strictyaml.Error) {
	if b.groups == nil {
		return nil
	}
	for _, scope := range b.scopes() {
		if _, known := b.groups[scope.Name]; known || scope.Layer != GroupLayer {
			continue
		}
		for _, p := range b.bound[scope] {
			w := p.header
			if w.Line == 0 {
				w = fault(p.File, "")
			}
			w.Message = fmt.Sprintf("the configuration names no group %q%s, so this policy binds nobody: add it under groups", scope.Name,
				strictyaml.DidYouMean(scope.Name, slices.Collect(maps.Keys(b.groups))))
			list = append(list, w)
		}
	}
	return list
}

// lintLayers warns of allows of nearer policies that override denies of farther
// ones, for all who are bound by both.
func (b *Book) lintLayers() (list []strictyaml.Error) {
	in := b.groups.byAgent()
	for _, scope := range b.scopes() {
		near := b.bound[scope]
		switch scope.Layer {
		case AgentLayer:
			for _, group := range in[scope.Name] {
				list = append(list, lintOver(near, b.bound[Scope{GroupLayer, group}], "an agent's own policies are asked first")...)
			}
			list = append(list, lintOver(near, b.bound[owners], "an agent's own policies are asked first")...)
		case GroupLayer:
			list = append(list, lintOver(near, b.bound[owners], "a group's policies are asked before the owner's")...)
		}
	}
	return append(list, b.lintShared(in)...)
}

// lintShared warns of what policies of two groups make of each other for agents
// that are in both.
func (b *Book) lintShared(in map[string][]string) (list []strictyaml.Error) {
	done, met := make(map[[2]*Policy]bool), make(map[string]bool)
	for _, agent := range slices.Sorted(maps.Keys(in)) {
		groups := strings.Join(in[agent], "\x00")
		if met[groups] {
			continue
		}
		met[groups] = true
		shared := b.near("", in[agent])
		for i, first := range shared {
			for _, then := range shared[i+1:] {
				pair := [2]*Policy{first.Policy, then.Policy}
				if done[pair] || pair[0].Scope == pair[1].Scope {
					continue
				}
				done[pair] = true
				list = append(list, lintOver(pair[:1], pair[1:], fmt.Sprintf("agent %q is in both groups, of whose policies the one of the lower rank is asked first, then by the groups' names", agent))...)
			}
		}
	}
	return list
}

// lintOver looks at policies that are asked before others.
func lintOver(near, far []*Policy, why string) (list []strictyaml.Error) {
	for a := range allRules(near) {
		if !a.allow {
			continue
		}
		for d := range allRules(far) {
			if len(list) == maxWarnings {
				return list
			}
			if !d.allow && !d.final && (a.pattern.covers(d.pattern) || d.pattern.covers(a.pattern)) {
				list = append(list, a.remark("rule %q comes before rule %q of policy %q and allows what that denies: %s. If the deny must hold, make it final",
					a.id, d.id, d.policy.ID, why))
			}
		}
	}
	return list
}

func allRules(policies []*Policy) func(yield func(*bound) bool) {
	return func(yield func(*bound) bool) {
		for _, p := range policies {
			for _, r := range p.rules {
				if !yield(&bound{rule: r, policy: p}) {
					return
				}
			}
		}
	}
}
