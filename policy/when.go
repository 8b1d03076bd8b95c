package policy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/internal/strictyaml"
)

// expr reads a condition. That documents end, and how deep they go, strictyaml
// has made sure of.
func (p *parser) expr(n *yaml.Node, what string) *expr {
	e := &expr{op: opAll}
	f := p.Fields(n, what, keysIn[conditionForm]()...)
	if f == nil {
		return e
	}
	switch {
	case len(f) == 0 && len(n.Content) > 0:
		return e // its keys are unknown, and noted
	case len(f) != 1:
		p.Errorf(n, "%s: want exactly one of all, any, not and match, got %s", what, keysOf(f))
		return e
	case f["not"] != nil:
		return &expr{op: opNot, subs: []*expr{p.expr(f["not"], what)}}
	case f["match"] != nil:
		return &expr{test: p.match(f["match"], what)}
	case f["any"] != nil:
		return &expr{op: opAny, subs: p.exprs(f["any"], what+": any")}
	}
	return &expr{op: opAll, subs: p.exprs(f["all"], what+": all")}
}

func keysOf(f map[string]*yaml.Node) string {
	if len(f) == 0 {
		return "none"
	}
	return strings.Join(slices.Sorted(maps.Keys(f)), " and ")
}

func (p *parser) exprs(n *yaml.Node, what string) []*expr {
	var subs []*expr
	for _, item := range p.List(n, what) {
		subs = append(subs, p.expr(item, what))
	}
	return subs
}

// match reads {path, op, value}.
func (p *parser) match(n *yaml.Node, what string) *test {
	t := &test{absent: missing}
	f := p.Fields(n, what+": match", keysIn[matchForm]()...)
	if f == nil {
		return t
	}
	p.require(n, f, what+": match", "path", "op")
	path, items := p.path(f["path"], what+": path")
	if path != nil {
		t.paths = []action.Path{*path}
	}
	op, ok := p.OneOf(f["op"], what+": op", operators...)
	if !ok {
		return t
	}
	if (f["value"] == nil) != (op == "exists") {
		p.valueFault(n, f["value"], op, what)
		return t
	}
	p.operator(t, op, f["value"], what+": "+op)
	if path == nil || t.judge == nil {
		return t // a fault, and noted
	}
	if len(items) == 0 && samePlace(*path, amountPath) && op != "exists" {
		t.asMoney()
	}
	t.place = path.String()
	for _, item := range items {
		t.place += "[*]" + strings.TrimPrefix(item.String(), "$")
	}
	if warning := p.smell(t.place, op, f["value"], what); warning != nil {
		t.narrow = append(t.narrow, *warning)
	}
	t.text = strings.TrimRight(strings.Join([]string{t.place, op, cmp.Or(t.text, written(f["value"]))}, " "), " ")
	for _, item := range slices.Backward(items) {
		t.ofEach(item)
	}
	return t
}

func (p *parser) valueFault(n, value *yaml.Node, op, what string) {
	if value != nil {
		p.Errorf(value, "%s: exists takes no value; to ask for a value use eq", what)
		return
	}
	p.Errorf(n, "%s: %s needs a value", what, op)
}

// operator fills in what the test makes of a value that is there.
func (p *parser) operator(t *test, op string, value *yaml.Node, what string) {
	switch op {
	case "exists":
		t.judge, t.absent, t.wants = judgeExists, no, "there, or not"
	case "eq", "neq":
		if l, ok := p.literal(value, what); ok {
			t.among([]literal{l}, op == "neq")
		}
	case "in", "nin":
		if list := p.literals(value, what); list != nil {
			t.among(list, op == "nin")
		}
	case "regex":
		if re := p.regexp(value, what); re != nil {
			t.judge, t.wants = judgeRegexp(re), "a text"
		}
	case "is":
		p.exactly(t, value, what)
	case "keys":
		p.onlyKeys(t, value, what)
	case "domain", "email", "url", "file":
		p.named(t, op, value, what)
	default:
		p.order(t, op, value, what)
	}
}

// among makes t ask whether a value is one of list, or none of it.
func (t *test) among(list []literal, negated bool) {
	t.judge, t.wants = judgeIn(list), wantsKinds(list)
	if negated {
		t.judge, t.negated = negate(t.judge), true
		return
	}
	for _, l := range list {
		if l.value.Kind() == action.String {
			t.equals = append(t.equals, l.value.Text())
		}
	}
}

func wantsKinds(list []literal) string {
	var names []string
	for _, l := range list {
		if name := kindName(l.value); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return strings.Join(names, " or ")
}

func kindName(v action.Value) string {
	switch v.Kind() {
	case action.Null:
		return "null"
	case action.Bool:
		return "true or false"
	case action.Number:
		return "a number"
	case action.String:
		return "a text"
	case action.Array:
		return "a list"
	case action.Object:
		return "an object"
	}
	return "missing"
}

func (p *parser) literals(n *yaml.Node, what string) []literal {
	if n.Kind != yaml.SequenceNode {
		p.Errorf(n, "%s: want a list of values ([a, b]), got %s; for one value use eq or neq", what, describe(n))
		return nil
	}
	if len(n.Content) == 0 {
		p.Errorf(n, "%s: the list is empty", what)
	}
	var list []literal
	for _, item := range p.List(n, what) {
		if l, ok := p.literal(item, what); ok {
			list = append(list, l)
		}
	}
	return list
}

func (p *parser) order(t *test, op string, value *yaml.Node, what string) {
	if value.Kind != yaml.ScalarNode || value.ShortTag() == "!!str" {
		p.Errorf(value, "%s: want a number, got %s", what, describe(value))
		return
	}
	l, ok := p.literal(value, what)
	if !ok {
		return
	}
	if l.value.Kind() != action.Number {
		p.Errorf(value, "%s: want a number, got %s", what, describe(value))
		return
	}
	e := end{at: l.number, there: true, open: op == "lt" || op == "gt"}
	t.within = &interval{low: e}
	if op == "lt" || op == "lte" {
		t.within = &interval{high: e}
	}
	t.judge, t.wants = t.within.judgeValue, "a number"
}

// regexp compiles a pattern of RE2.
func (p *parser) regexp(n *yaml.Node, what string) *regexp.Regexp {
	text, ok := p.String(n, what)
	if !ok {
		return nil
	}
	re, err := regexp.Compile(text)
	if err == nil {
		return re
	}
	hint, at := "", 0
	if fault := new(syntax.Error); errors.As(err, &fault) {
		at = max(strings.Index(text, fault.Expr), 0)
		err = fmt.Errorf("%s: %q", fault.Code, fault.Expr)
		hint = regexpHint(fault.Expr)
	}
	p.Errorf(within(n, at), "%s: %v at character %d%s", what, err, at+1, hint)
	return nil
}

func regexpHint(expr string) string {
	if strings.HasPrefix(expr, "(?=") || strings.HasPrefix(expr, "(?!") || strings.HasPrefix(expr, "(?<") {
		return "; patterns are RE2, which has no look-arounds: use a second condition with not"
	}
	if len(expr) == 2 && expr[0] == '\\' && '1' <= expr[1] && expr[1] <= '9' {
		return "; patterns are RE2, which has no back-references"
	}
	return ""
}

// within points to a byte inside a text that stands on one line.
func within(n *yaml.Node, offset int) *yaml.Node {
	at := *n
	switch {
	case at.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		return &at
	case at.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0:
		offset++
	}
	at.Column += offset
	return &at
}

// places are the paths that a request has beside $.payload and $.tool, whose
// content is free.
var places = []string{
	"$.action_id", "$.action_type", "$.requested_at",
	"$.principal", "$.principal.agent_id",
	"$.subject", "$.subject.principal_id",
	"$.relying_party", "$.relying_party.rp_id", "$.relying_party.domain", "$.relying_party.trust_profile",
}

// path reads a path and refuses one that no request can have: a condition on
// it would always be missing. items are what follows each [*] in it.
func (p *parser) path(n *yaml.Node, what string) (path *action.Path, items []action.Path) {
	text, ok := p.String(n, what)
	if !ok {
		return nil, nil
	}
	parts, err := action.ParseEvery(text)
	if fault := new(action.PathError); errors.As(err, &fault) {
		p.Errorf(within(n, fault.Offset), "%s: %v", what, err)
		return nil, nil
	}
	path, items = &parts[0], parts[1:]
	if first := firstKey(*path); first == "payload" || first == "tool" {
		return path, items
	}
	if len(items) == 0 && slices.ContainsFunc(places, func(place string) bool { return samePlace(*path, place) }) {
		return path, nil
	}
	hint := strictyaml.DidYouMean(text, suggestions(text))
	if hint == "" {
		hint = ", want $.payload.…, $.tool.…, or one of " + strings.Join(places, ", ")
	}
	p.Errorf(n, "%s: no request has %s%s", what, short(text), hint)
	return nil, nil
}

// suggestions are what a wrong path may have meant: a known place, or the same
// path below $.payload or $.tool.
func suggestions(text string) []string {
	list := slices.Clone(places)
	_, rest, _ := strings.Cut(strings.TrimPrefix(text, "$."), ".")
	for _, root := range []string{"$.payload", "$.tool"} {
		list = append(list, root, root+"."+rest)
	}
	return list
}

// firstKey is the name that follows "$.": every path has one.
func firstKey(path action.Path) string {
	name := strings.TrimPrefix(path.String(), "$.")
	if i := strings.IndexAny(name, ".["); i >= 0 {
		name = name[:i]
	}
	return name
}

// samePlace reports whether path leads to exactly the place that known names,
// however it is written.
func samePlace(path action.Path, known string) bool {
	keys := strings.Split(strings.TrimPrefix(known, "$."), ".")
	probe := action.StringValue(known)
	for _, key := range slices.Backward(keys) {
		probe = action.ObjectValue(action.Member{Key: key, Value: probe})
	}
	v, ok := path.Lookup(probe)
	return ok && v.Kind() == action.String
}

// written is a literal, or a list of them, for people, and so that two which mean
// the same are written the same: a text in quotes, however it was quoted.
func written(n *yaml.Node) string {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n == nil {
		return ""
	}
	if n.Kind != yaml.SequenceNode {
		if n.ShortTag() == "!!str" {
			return strconv.Quote(n.Value)
		}
		return n.Value
	}
	var items []string
	for _, item := range n.Content {
		items = append(items, written(item))
	}
	slices.Sort(items)
	return "[" + strings.Join(items, ", ") + "]"
}
