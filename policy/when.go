package policy

import (
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
	money := false
	if path, ok := p.path(f["path"], what+": path"); ok {
		t.paths = []action.Path{path}
		money = samePlace(path, amountPath)
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
	t.text = strings.TrimRight(strings.Join([]string{t.path(), op, written(f["value"])}, " "), " ")
	if money && op != "exists" && t.judge != nil {
		t.judge, t.wants, t.equals = asMoney(t.judge), wantsMoney, nil
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
		t.judge, t.absent = judgeExists, no
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
	default:
		p.order(t, op, value, what)
	}
}

// among makes t ask whether a value is one of list, or none of it.
func (t *test) among(list []literal, negated bool) {
	t.judge, t.wants = judgeIn(list), wantsKinds(list)
	if negated {
		t.judge = negate(t.judge)
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
	t.wants = "a number"
	t.judge = judgeOrder(l.number, map[string]func(int) bool{
		"lt":  func(c int) bool { return c < 0 },
		"lte": func(c int) bool { return c <= 0 },
		"gt":  func(c int) bool { return c > 0 },
		"gte": func(c int) bool { return c >= 0 },
	}[op])
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
// it would always be missing.
func (p *parser) path(n *yaml.Node, what string) (path action.Path, ok bool) {
	text, ok := p.String(n, what)
	if !ok {
		return path, false
	}
	path, err := action.ParsePath(text)
	if fault := new(action.PathError); errors.As(err, &fault) {
		p.Errorf(within(n, fault.Offset), "%s: %v", what, err)
		return path, false
	}
	if first := firstKey(path); first == "payload" || first == "tool" {
		return path, true
	}
	for _, place := range places {
		if samePlace(path, place) {
			return path, true
		}
	}
	hint := strictyaml.DidYouMean(text, suggestions(text))
	if hint == "" {
		hint = ", want $.payload.…, $.tool.…, or one of " + strings.Join(places, ", ")
	}
	p.Errorf(n, "%s: no request has %s%s", what, short(text), hint)
	return path, false
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

// path is the path of a match, "" when it has a fault.
func (t *test) path() string {
	if len(t.paths) == 0 {
		return ""
	}
	return t.paths[0].String()
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
