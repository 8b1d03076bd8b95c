package approvals

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/openleash/openleash-go/action"
)

// Op is how a bound holds a value.
type Op string

const (
	AtMost  Op = "at_most"  // a number
	AtLeast Op = "at_least" // a number
	OneOf   Op = "one_of"   // texts, numbers, true, false, null
	Any     Op = "any"      // whatever is of the same kind; of a text, so many characters
)

// A Bound is what a standing grant asks of one value in place of being what it was.
// It is written as
//
//	$.payload.arguments.amount at_most 100
//	$.payload.arguments.to one_of ["ann@example.com", "bob@example.com"]
//	$.payload.arguments.text any 2000
//	$.payload.arguments.draft any
//
// with a path as policies have it, and values as JSON has them.
type Bound struct {
	Path   string // in its one form
	Op     Op
	Values []action.Value // at_most and at_least have one; any has a text's most characters, or none
}

// ParseBound reads a bound as it is written.
func ParseBound(text string) (Bound, error) {
	path, rest, err := cutPath(text)
	if err != nil {
		return Bound{}, fmt.Errorf("bound %s: %w", quoted(text), err)
	}
	op, value, _ := strings.Cut(rest, " ")
	b := Bound{Path: path, Op: Op(op)}
	if value = strings.TrimSpace(value); value != "" {
		v, err := action.Parse([]byte(value), action.Limits{})
		if err != nil {
			return Bound{}, fmt.Errorf("bound on %s: %s: %w; a text stands in double quotes", path, op, err)
		}
		b.Values = []action.Value{v}
		if b.Op == OneOf && v.Kind() == action.Array {
			b.Values = nil
			for _, item := range v.Items() {
				b.Values = append(b.Values, item)
			}
		}
	}
	return b, b.check()
}

// cutPath takes the path off the front of a bound. A key in quotes may have spaces.
func cutPath(text string) (path, rest string, err error) {
	text = strings.TrimSpace(text)
	for at := 0; ; {
		i := strings.IndexByte(text[at:], ' ')
		end := len(text)
		if i >= 0 {
			end = at + i
		}
		parts, fault := action.ParseEvery(text[:end])
		switch {
		case fault == nil && len(parts) > 1:
			return "", "", fmt.Errorf("[*] cannot stand here: name one item, like [0]")
		case fault == nil:
			return parts[0].String(), strings.TrimSpace(text[end:]), nil
		case err == nil:
			err = fault
		}
		if i < 0 {
			return "", "", fmt.Errorf("want PATH at_most|at_least|one_of|any VALUE: %w", err)
		}
		at = end + 1
	}
}

// check sees that a bound says something.
func (b Bound) check() error {
	if !below(payloadPath, b.Path) {
		return b.errorf("want a path below %s, like %s.arguments.amount", payloadPath, payloadPath)
	}
	switch b.Op {
	case AtMost, AtLeast:
		if len(b.Values) != 1 || b.Values[0].Kind() != action.Number {
			return b.errorf("%s wants one number", b.Op)
		}
	case OneOf:
		if len(b.Values) == 0 || slices.ContainsFunc(b.Values, func(v action.Value) bool { return v.Kind() >= action.Array || v.Kind() == action.Missing }) {
			return b.errorf(`one_of wants a list of texts, numbers, true, false or null: ["a", "b"]`)
		}
	case Any:
		if len(b.Values) > 1 || len(b.Values) == 1 && b.Most() < 1 {
			return b.errorf("any wants nothing, or of a text how many characters it may have, from 1 up")
		}
	default:
		return b.errorf("want at_most, at_least, one_of or any, got %s", quoted(string(b.Op)))
	}
	return nil
}

// Most is how many characters a text may have; 0: the bound does not say.
func (b Bound) Most() int {
	if len(b.Values) == 0 {
		return 0
	}
	n, err := strconv.Atoi(b.Values[0].Text())
	if err != nil || b.Values[0].Kind() != action.Number {
		return 0
	}
	return n
}

// String writes the bound so that ParseBound reads it.
func (b Bound) String() string {
	text := b.Path + " " + string(b.Op)
	switch {
	case b.Op == OneOf:
		text += " " + string(action.ArrayValue(b.Values...).Canonical())
	case len(b.Values) > 0:
		text += " " + string(b.Values[0].Canonical())
	}
	return text
}

func (b Bound) errorf(format string, args ...any) error {
	return fmt.Errorf("bound on %s: %s", b.Path, fmt.Sprintf(format, args...))
}

// Holds reports whether a value is within the bound; was is the one that the owner
// saw.
func (b Bound) Holds(was, v action.Value) bool {
	switch b.Op {
	case AtMost:
		order, ok := v.Compare(b.Values[0])
		return ok && order <= 0
	case AtLeast:
		order, ok := v.Compare(b.Values[0])
		return ok && order >= 0
	case OneOf:
		return slices.ContainsFunc(b.Values, v.Equal)
	case Any:
		return v.Kind() == was.Kind() && (v.Kind() != action.String || utf8.RuneCountInString(v.Text()) <= b.Most())
	}
	return false
}

const (
	payloadPath = "$.payload"
	maxBounds   = 64
)

var errTooMany = fmt.Errorf("a grant has at most %d bounds, with those that mapped fields get", maxBounds)

// below reports whether path leads to a place inside that of root.
func below(root, path string) bool {
	rest, ok := strings.CutPrefix(path, root)
	return ok && rest != "" && (rest[0] == '.' || rest[0] == '[')
}

// A Place is one value that a bound can hold: a text, a number, true or false.
type Place struct {
	Path  string
	Value action.Value
}

// Places are those of a payload, in the order in which they are written.
func Places(payload action.Value) []Place { return places(payloadPath, payload, nil) }

func places(path string, v action.Value, list []Place) []Place {
	switch v.Kind() {
	case action.Object, action.Array:
		for i := range v.Len() {
			list = places(path+v.Step(i), v.At(i).Value, list)
		}
	case action.Bool, action.Number, action.String:
		list = append(list, Place{path, v})
	}
	return list
}

// Bounded completes what an owner has bounded in a call, or says what is wrong with
// it. Each bound has to hold of the call itself. Beside what was given:
//
//   - a mapped field that has the very value of a bounded argument follows it (the
//     mapping has read it there), unless it has a bound of its own;
//   - at_most alone is at_least 0 as well, if the number is not below 0;
//   - any of a text is as many characters as the text has twice, or 100.
func Bounded(payload action.Value, given []Bound) ([]Bound, error) {
	if len(given) > maxBounds {
		return nil, errTooMany
	}
	all := Places(payload)
	var list []Bound
	for _, b := range given {
		i := slices.IndexFunc(all, func(p Place) bool { return p.Path == b.Path })
		if err := b.check(); err != nil {
			return nil, err
		}
		if i < 0 {
			return nil, b.errorf("the call has no text, number, true or false there; it has them at %s", someOf(all))
		}
		b, err := b.fitted(all[i].Value)
		if err != nil {
			return nil, err
		}
		list = append(list, b)
	}
	list = withFollowers(all, list)
	list = once(withFloors(all, list))
	if len(list) > maxBounds {
		return nil, errTooMany
	}
	return list, nil
}

// fitted is the bound on a value that is there.
func (b Bound) fitted(v action.Value) (Bound, error) {
	if b.Op == Any {
		switch {
		case v.Kind() != action.String && len(b.Values) > 0:
			return b, b.errorf("any has a number of characters for a text only, and %s stands there", v.Kind())
		case v.Kind() == action.String && len(b.Values) == 0:
			b.Values = []action.Value{action.IntValue(int64(max(100, 2*utf8.RuneCountInString(v.Text()))))}
		}
	}
	if !b.Holds(v, v) {
		return b, b.errorf("the call itself has %s there, which is not %s", shown(v), strings.TrimPrefix(b.String(), b.Path+" "))
	}
	return b, nil
}

// withFollowers adds the bounds of mapped fields that have the value of an argument.
func withFollowers(all []Place, list []Bound) []Bound {
	const arguments = payloadPath + ".arguments"
	for _, p := range all {
		if below(arguments, p.Path) || len(on(list, p.Path)) > 0 {
			continue
		}
		for _, b := range list {
			i := slices.IndexFunc(all, func(p Place) bool { return p.Path == b.Path })
			if below(arguments, b.Path) && all[i].Value.Equal(p.Value) {
				b.Path = p.Path
				list = append(list, b)
			}
		}
	}
	return list
}

func withFloors(all []Place, list []Bound) []Bound {
	for _, b := range slices.Clone(list) {
		zero := Bound{b.Path, AtLeast, []action.Value{action.IntValue(0)}}
		lower := slices.ContainsFunc(on(list, b.Path), func(o Bound) bool { return o.Op == AtLeast })
		i := slices.IndexFunc(all, func(p Place) bool { return p.Path == b.Path })
		if b.Op == AtMost && !lower && zero.Holds(all[i].Value, all[i].Value) {
			list = append(list, zero)
		}
	}
	return list
}

// once are the bounds without those that were there before.
func once(list []Bound) (kept []Bound) {
	for _, b := range list {
		if !slices.ContainsFunc(kept, func(k Bound) bool { return k.String() == b.String() }) {
			kept = append(kept, b)
		}
	}
	return kept
}

// on are the bounds on one place.
func on(list []Bound, path string) (there []Bound) {
	for _, b := range list {
		if b.Path == path {
			there = append(there, b)
		}
	}
	return there
}

// within reports whether now is as was, but for what is bounded: at every depth the
// same keys, the same number of items, the same values.
func within(list []Bound, path string, was, now action.Value) bool {
	if there := on(list, path); len(there) > 0 {
		return !slices.ContainsFunc(there, func(b Bound) bool { return !b.Holds(was, now) })
	}
	if was.Kind() != now.Kind() || was.Len() != now.Len() {
		return false
	}
	if was.Kind() != action.Object && was.Kind() != action.Array {
		return was.Equal(now)
	}
	for i := range was.Len() {
		m, next := was.At(i), now.Index(i)
		if was.Kind() == action.Object {
			next = now.Get(m.Key)
		}
		if !within(list, path+was.Step(i), m.Value, next) {
			return false
		}
	}
	return true
}

func someOf(all []Place) string {
	const most = 8
	var paths []string
	for _, p := range all[:min(len(all), most)] {
		paths = append(paths, p.Path)
	}
	switch {
	case len(all) == 0:
		return "no place at all"
	case len(all) > most:
		return strings.Join(paths, ", ") + " …"
	}
	return strings.Join(paths, ", ")
}

// shown is a value for a message, at no length.
func shown(v action.Value) string {
	const most = 60
	text := string(v.Canonical())
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

func quoted(text string) string {
	if len(text) > 200 {
		text = strings.ToValidUTF8(text[:200], "") + "…"
	}
	return strconv.Quote(text)
}

// EncodeBounds and DecodeBounds are how a store keeps bounds: a JSON list of texts.
func EncodeBounds(list []Bound) ([]byte, error) {
	texts := make([]string, len(list))
	for i, b := range list {
		texts[i] = b.String()
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	err := enc.Encode(texts)
	return bytes.TrimSpace(buf.Bytes()), err
}

// DecodeBounds reads what EncodeBounds wrote.
func DecodeBounds(data []byte) (list []Bound, err error) {
	var texts []string
	if err := json.Unmarshal(data, &texts); err != nil {
		return nil, err
	}
	for _, text := range texts {
		b, err := ParseBound(text)
		if err != nil {
			return nil, err
		}
		list = append(list, b)
	}
	return list, nil
}
