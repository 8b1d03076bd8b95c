package action

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/openleash/openleash-go/internal/jsontext"
)

// A Path is a compiled path into a value, parsed whole or refused:
//
//	$.payload.items[0].name
//	$.payload["my-key"]['another key']
//
// It begins with $. and a name. A name after a dot has letters, digits and _ of
// ASCII and does not begin with a digit; a key of any other form stands in
// brackets and quotes. Double quotes take the escapes of JSON, single quotes
// take none. An index counts from 0.
type Path struct {
	text  string
	steps []step
}

type step struct {
	key     string
	index   int // used when isIndex is set
	isIndex bool
	isEvery bool // [*], which stands in no Path
}

// PathError says where in a path, in bytes from its start, what is wrong.
type PathError struct {
	Path   string
	Offset int
	Reason string
}

func (e *PathError) Error() string {
	return fmt.Sprintf("path %s, character %d: %s", shortQuote(e.Path), e.Offset+1, e.Reason)
}

// ParsePath compiles a path. The error is a *PathError with the offset of the
// offending character.
func ParsePath(text string) (Path, error) {
	p := pathParser{text: text}
	steps, fault := p.path()
	if fault != nil {
		return Path{}, fault
	}
	return Path{text, steps}, nil
}

// ParseEvery compiles a path in which [*] may stand for every item of a list. It
// is given as the paths between: $.a[*].b is $.a, which leads to the list, and
// $.b, to follow from each item. A path without [*] is one; what ends with it
// ends with the path of no step, which leads to the item itself.
func ParseEvery(text string) ([]Path, error) {
	p := pathParser{text: text, every: true}
	steps, fault := p.path()
	if fault != nil {
		return nil, fault
	}
	parts := []Path{{text: "$"}}
	for _, s := range steps {
		last := &parts[len(parts)-1]
		if s.isEvery {
			parts = append(parts, Path{text: "$"})
			continue
		}
		last.steps = append(last.steps, s)
		last.text += s.String()
	}
	return parts, nil
}

type pathParser struct {
	text  string
	pos   int
	every bool // [*] may stand in it
}

func (p *pathParser) faultAt(offset int, format string, args ...any) *PathError {
	return &PathError{p.text, offset, fmt.Sprintf(format, args...)}
}

func (p *pathParser) next() byte {
	if p.pos < len(p.text) {
		return p.text[p.pos]
	}
	return 0
}

func (p *pathParser) got() string {
	if p.pos >= len(p.text) {
		return "the end"
	}
	return describe([]byte(p.text), p.pos)
}

func (p *pathParser) path() ([]step, *PathError) {
	if !strings.HasPrefix(p.text, "$.") {
		return nil, p.faultAt(0, "want a path that begins with $. and a name, like $.payload.amount")
	}
	p.pos = 1
	var steps []step
	for p.pos < len(p.text) {
		s, fault := p.step()
		if fault != nil {
			return nil, fault
		}
		steps = append(steps, s)
	}
	return steps, nil
}

func (p *pathParser) step() (step, *PathError) {
	switch p.next() {
	case '.':
		p.pos++
		return p.name()
	case '[':
		p.pos++
		return p.bracket()
	}
	return step{}, p.faultAt(p.pos, `want . or [ or the end, got %s; a key with other characters is written ["my-key"]`, p.got())
}

func (p *pathParser) name() (step, *PathError) {
	n := nameLen(p.text[p.pos:])
	if n == 0 {
		return step{}, p.faultAt(p.pos, `want a name after the dot, got %s; a key with other characters is written ["my-key"]`, p.got())
	}
	p.pos += n
	return step{key: p.text[p.pos-n : p.pos]}, nil
}

// nameLen returns how many bytes at the start of s are a name.
func nameLen(s string) int {
	n := 0
	for n < len(s) && (s[n] == '_' || 'a' <= s[n]|0x20 && s[n]|0x20 <= 'z' || n > 0 && isDigit(s[n])) {
		n++
	}
	return n
}

func (p *pathParser) bracket() (s step, fault *PathError) {
	switch c := p.next(); {
	case isDigit(c):
		s, fault = p.index()
	case c == '"':
		s.key, fault = p.doubleQuoted()
	case c == '\'':
		s.key, fault = p.singleQuoted()
	case c == '*' && p.every:
		p.pos++
		s.isEvery = true
	case c == '*':
		return s, p.faultAt(p.pos, "[*] (every item) cannot stand here, where one value is wanted: name one item, like [0]")
	default:
		return s, p.faultAt(p.pos, `want an index like [0] or a key like ["my-key"], got %s`, p.got())
	}
	if fault != nil {
		return s, fault
	}
	if p.next() != ']' {
		return s, p.faultAt(p.pos, "want ], got %s", p.got())
	}
	p.pos++
	return s, nil
}

func (p *pathParser) index() (step, *PathError) {
	start := p.pos
	for isDigit(p.next()) {
		p.pos++
	}
	digits := p.text[start:p.pos]
	if digits[0] == '0' && len(digits) > 1 {
		return step{}, p.faultAt(start, "an index must not begin with 0")
	}
	if len(digits) > 9 {
		return step{}, p.faultAt(start, "want an index of at most nine digits")
	}
	i, _ := strconv.Atoi(digits) // cannot fail: one to nine digits
	return step{index: i, isIndex: true}, nil
}

// doubleQuoted reads a key exactly as JSON has it.
func (p *pathParser) doubleQuoted() (string, *PathError) {
	r := parser{data: []byte(p.text), doc: p.text, pos: p.pos}
	key, fault := r.str()
	if fault != nil {
		return "", p.faultAt(fault.Offset, "%s", fault.Reason)
	}
	p.pos = r.pos
	return key, nil
}

func (p *pathParser) singleQuoted() (string, *PathError) {
	p.pos++
	start := p.pos
	for p.next() != '\'' {
		r, size := utf8.DecodeRuneInString(p.text[p.pos:])
		switch {
		case size == 0:
			return "", p.faultAt(p.pos, "want the closing ' of the key")
		case r == utf8.RuneError && size == 1:
			return "", p.faultAt(p.pos, "want UTF-8, got %s", p.got())
		case r < ' ' || r == '\\':
			return "", p.faultAt(p.pos, `%s is not allowed between single quotes, use double quotes and an escape`, p.got())
		}
		p.pos += size
	}
	p.pos++
	return p.text[start : p.pos-1], nil
}

func (p Path) String() string { return p.text }

// Lookup walks v. A plain absence is (Missing, true). ok is false when
// something stands in the way, so that nobody can say what is there: a key of
// something that is not an object (null neither), an index of something that is
// not an array, or a key that is there in another case, alone or besides.
func (p Path) Lookup(v Value) (found Value, ok bool) {
	for i := range p.steps {
		if v.kind == Missing {
			return Value{}, true
		}
		if v, ok = p.steps[i].lookup(v); !ok {
			return Value{}, false
		}
	}
	return v, true
}

// Touches reports whether one of the two paths leads to, or past, the other's place.
func (p Path) Touches(q Path) bool {
	n := min(len(p.steps), len(q.steps))
	return slices.Equal(p.steps[:n], q.steps[:n])
}

func (s *step) lookup(v Value) (Value, bool) {
	if s.isIndex {
		return v.Index(s.index), v.kind == Array
	}
	found, _, twin := v.find(s.key)
	return found, v.kind == Object && !twin
}

// String writes a step in its one form.
func (s step) String() string {
	if s.isIndex {
		return "[" + strconv.Itoa(s.index) + "]"
	}
	return keyStep(s.key)
}

// keyStep writes a key as a step of a path.
func keyStep(key string) string {
	if key != "" && nameLen(key) == len(key) {
		return "." + key
	}
	return "[" + string(jsontext.AppendString(nil, key)) + "]"
}

// Step writes how a path goes from v to its i-th member or item: ".name", "[2]".
func (v Value) Step(i int) string {
	if v.kind == Array {
		return "[" + strconv.Itoa(i) + "]"
	}
	return keyStep(v.kids.list[i].Key)
}

// Messages quote what was sent, but not at any length.

func shortStep(key string) string   { return keyStep(shorten(key)) }
func shortQuote(text string) string { return strconv.Quote(shorten(text)) }

func shorten(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > most-utf8.UTFMax && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}
