package action

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/openleash/openleash-go/internal/jsontext"
)

// Limits bound what Parse accepts. A zero field means the default.
type Limits struct {
	Bytes  int // default 8 MiB, and never more than 4 GiB
	Depth  int // of arrays and objects in each other; default 64
	Values int // all values together; default 1,000,000. Scan does not count them.

	// CaseTwins accepts keys of one object that differ only in case, as the
	// payload of a request to /v1/authorize may have them. Path.Lookup still
	// calls a key that has a twin unknown.
	CaseTwins bool
}

const (
	defaultBytes  = 8 << 20
	defaultDepth  = 64
	defaultValues = 1_000_000

	maxBytes = math.MaxUint32 - 1 // offsets are kept in 32 bits
)

func (l Limits) orDefault() Limits {
	if l.Bytes == 0 {
		l.Bytes = defaultBytes
	}
	if l.Depth == 0 {
		l.Depth = defaultDepth
	}
	if l.Values == 0 {
		l.Values = defaultValues
	}
	l.Bytes = int(min(int64(l.Bytes), maxBytes))
	return l
}

// A ParseError says what is wrong with a JSON text, and where.
type ParseError struct {
	Offset int    // in bytes from the start of the text
	Path   string // of the value that was being read: $.params.arguments.x
	Reason string // what came, what was wanted
}

func (e *ParseError) Error() string {
	return fmt.Sprintf("JSON, byte %d, at %s: %s", e.Offset, e.Path, e.Reason)
}

// within tells that e arose below step, and gives it back.
func (e *ParseError) within(step string) *ParseError {
	e.Path = step + e.Path
	return e
}

// Parse reads exactly one JSON value; the package comment says what it refuses.
// The error is a *ParseError. The value refers to data, which must not be
// modified as long as the value is in use.
func Parse(data []byte, lim Limits) (Value, error) {
	p := parser{data: data, lim: lim.orDefault()}
	fault := p.check()
	if fault == nil {
		p.doc, p.src = string(data), &source{data}
		var v Value
		if v, fault = p.document(); fault == nil {
			return v, nil
		}
	}
	return Value{}, fault.within("$")
}

// A parser reads one text from left to right. Parse and Scan share it.
type parser struct {
	data   []byte
	doc    string  // data again: keys, strings and numbers are substrings of it
	src    *source // data again, for the values
	pos    int
	depth  int // how many containers are open
	values int
	lim    Limits
	stack  []Member // members of all open containers, innermost last
	buf    []byte   // for strings with escapes
}

// check looks at the text as a whole.
func (p *parser) check() *ParseError {
	if len(p.data) > p.lim.Bytes {
		return p.faultAt(p.lim.Bytes, "the text has %d bytes, want at most %d", len(p.data), p.lim.Bytes)
	}
	if len(p.data) >= 3 && string(p.data[:3]) == "\ufeff" {
		return p.faultAt(0, "the text begins with a byte-order mark, want plain UTF-8 without one")
	}
	return nil
}

func (p *parser) document() (Value, *ParseError) {
	p.space()
	v, fault := p.value()
	if fault != nil {
		return Value{}, fault
	}
	return v, p.end()
}

// end checks that nothing follows the value.
func (p *parser) end() *ParseError {
	p.space()
	if p.pos < len(p.data) {
		return p.wanted("the end of the text after the value")
	}
	return nil
}

func (p *parser) space() {
	for p.pos < len(p.data) {
		switch p.data[p.pos] {
		case ' ', '\n', '\r', '\t':
			p.pos++
		default:
			return
		}
	}
}

// next returns the byte at pos, 0 at the end of the text.
func (p *parser) next() byte {
	if p.pos < len(p.data) {
		return p.data[p.pos]
	}
	return 0
}

func (p *parser) faultAt(offset int, format string, args ...any) *ParseError {
	return &ParseError{Offset: offset, Reason: fmt.Sprintf(format, args...)}
}

// wanted makes the error for what stands at pos.
func (p *parser) wanted(what string) *ParseError {
	return p.faultAt(p.pos, "want %s, got %s", what, describe(p.data, p.pos))
}

// describe names the character at offset for a message.
func describe(data []byte, offset int) string {
	if offset >= len(data) {
		return "the end of the text"
	}
	r, size := utf8.DecodeRune(data[offset:])
	if r == utf8.RuneError && size <= 1 {
		return fmt.Sprintf("the byte 0x%02x", data[offset])
	}
	return strconv.QuoteRune(r)
}

func (p *parser) value() (Value, *ParseError) {
	start := p.pos
	if p.values++; p.values > p.lim.Values {
		return Value{}, p.faultAt(start, "want at most %d values in one text", p.lim.Values)
	}
	var v Value
	var fault *ParseError
	switch c := p.next(); {
	case c == '"':
		v.kind = String
		v.text, fault = p.str()
	case c == '{':
		v, fault = p.object()
	case c == '[':
		v, fault = p.array()
	case c == '-' || isDigit(c):
		v.kind = Number
		v.text, fault = p.number()
	case c == 't':
		v, fault = BoolValue(true), p.literal("true")
	case c == 'f':
		v, fault = BoolValue(false), p.literal("false")
	case c == 'n':
		v, fault = NullValue(), p.literal("null")
	default:
		fault = p.wanted("a value")
	}
	if fault != nil {
		return Value{}, fault
	}
	v.src, v.start, v.end = p.src, uint32(start), uint32(p.pos)
	return v, nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func (p *parser) literal(word string) *ParseError {
	if rest := p.data[p.pos:]; len(rest) < len(word) || string(rest[:len(word)]) != word {
		return p.faultAt(p.pos, "want a value, got a word that is not true, false or null")
	}
	p.pos += len(word)
	return nil
}

// open steps into a container.
func (p *parser) open() *ParseError {
	if p.depth++; p.depth > p.lim.Depth {
		return p.faultAt(p.pos, "nested too deep, want at most %d levels", p.lim.Depth)
	}
	p.pos++
	p.space()
	return nil
}

// shut steps out of a container and takes what was in it off the stack.
func (p *parser) shut(base int, index map[string]int32) *kids {
	p.pos++
	p.depth--
	if len(p.stack) == base {
		return nil
	}
	list := make([]Member, len(p.stack)-base)
	copy(list, p.stack[base:])
	p.stack = p.stack[:base]
	return &kids{list, index}
}

// push doubles the stack when it is full: append would copy a large one oftener.
func (p *parser) push(m Member) {
	if len(p.stack) == cap(p.stack) {
		p.stack = slices.Grow(p.stack, max(16, len(p.stack)))
	}
	p.stack = append(p.stack, m)
}

// object reads the object at pos.
func (p *parser) object() (Value, *ParseError) {
	base, keys := len(p.stack), keySet{twins: p.lim.CaseTwins}
	if fault := p.open(); fault != nil {
		return Value{}, fault
	}
	for p.next() != '}' || len(p.stack) > base {
		if fault := p.member(base, &keys); fault != nil {
			return Value{}, fault
		}
		if p.next() == '}' {
			break
		}
		if fault := p.comma("'}'"); fault != nil {
			return Value{}, fault
		}
	}
	return Value{kind: Object, kids: p.shut(base, keys.found())}, nil
}

// member reads one key and its value onto the stack.
func (p *parser) member(base int, keys *keySet) *ParseError {
	key, fault := p.key()
	if fault != nil {
		return fault
	}
	if i := keys.add(p.stack[base:], key.text); i >= 0 {
		return p.clash(key, p.stack[base+i].Key)
	}
	if fault := p.colon(); fault != nil {
		return fault.within(shortStep(key.text))
	}
	v, fault := p.value()
	if fault != nil {
		return fault.within(shortStep(key.text))
	}
	p.push(Member{key.text, v})
	p.space()
	return nil
}

// A keyAt is a key and where it begins.
type keyAt struct {
	text   string
	offset int
}

func (p *parser) key() (keyAt, *ParseError) {
	if p.next() != '"' {
		return keyAt{}, p.wanted("a key in double quotes")
	}
	offset := p.pos
	text, fault := p.str()
	return keyAt{text, offset}, fault
}

func (p *parser) clash(key keyAt, earlier string) *ParseError {
	fault := p.faultAt(key.offset, "this key occurs twice in one object")
	if key.text != earlier {
		fault = p.faultAt(key.offset, "this key differs from %s only in case, and some readers take one for the other", shortQuote(earlier))
	}
	return fault.within(shortStep(key.text))
}

func (p *parser) colon() *ParseError {
	p.space()
	if p.next() != ':' {
		return p.wanted("':' after the key")
	}
	p.pos++
	p.space()
	return nil
}

// comma reads the comma between two members or items.
func (p *parser) comma(orElse string) *ParseError {
	if p.next() != ',' {
		return p.wanted("',' or " + orElse)
	}
	p.pos++
	p.space()
	return nil
}

// array reads the array at pos.
func (p *parser) array() (Value, *ParseError) {
	base := len(p.stack)
	if fault := p.open(); fault != nil {
		return Value{}, fault
	}
	for i := 0; p.next() != ']' || i > 0; i++ {
		v, fault := p.value()
		if fault != nil {
			return Value{}, fault.within("[" + strconv.Itoa(i) + "]")
		}
		p.push(Member{Value: v})
		p.space()
		if p.next() == ']' {
			break
		}
		if fault := p.comma("']'"); fault != nil {
			return Value{}, fault
		}
	}
	return Value{kind: Array, kids: p.shut(base, nil)}, nil
}

// number reads the number at pos and checks that a double has its magnitude.
func (p *parser) number() (string, *ParseError) {
	start := p.pos
	if fault := p.numberSyntax(); fault != nil {
		return "", fault
	}
	text := p.doc[start:p.pos]
	if !inRange(text) {
		return "", p.faultAt(start, "%s is outside the range of a double, send it as a string", shorten(text))
	}
	return text, nil
}

func (p *parser) numberSyntax() *ParseError {
	start := p.pos
	if p.next() == '-' {
		p.pos++
	}
	first := p.pos
	if fault := p.digits("a digit"); fault != nil {
		return fault
	}
	if p.data[first] == '0' && p.pos > first+1 {
		return p.faultAt(start, "a number must not begin with 0")
	}
	if p.next() == '.' {
		p.pos++
		if fault := p.digits("a digit after the decimal point"); fault != nil {
			return fault
		}
	}
	if c := p.next(); c == 'e' || c == 'E' {
		p.pos++
		if c := p.next(); c == '+' || c == '-' {
			p.pos++
		}
		return p.digits("a digit of the exponent")
	}
	return nil
}

func (p *parser) digits(what string) *ParseError {
	if !isDigit(p.next()) {
		return p.wanted(what)
	}
	for isDigit(p.next()) {
		p.pos++
	}
	return nil
}

// str reads the string at pos, which is at its opening quote.
func (p *parser) str() (string, *ParseError) {
	open := p.pos
	p.pos++
	if fault := p.run(); fault != nil {
		return "", fault
	}
	switch p.next() {
	case '"':
		p.pos++
		return p.doc[open+1 : p.pos-1], nil
	case '\\':
		return p.escaped(open)
	}
	return "", p.stringFault(open)
}

// escaped goes on with a string whose first escape stands at pos.
func (p *parser) escaped(open int) (string, *ParseError) {
	buf := append(p.buf[:0], p.data[open+1:p.pos]...)
	for p.next() == '\\' {
		r, fault := p.escape(true)
		if fault != nil {
			return "", fault
		}
		buf = utf8.AppendRune(buf, r)
		start := p.pos
		if fault := p.run(); fault != nil {
			return "", fault
		}
		buf = append(buf, p.data[start:p.pos]...)
	}
	p.buf = buf
	if p.next() != '"' {
		return "", p.stringFault(open)
	}
	p.pos++
	return string(buf), nil
}

// run steps over characters of a string that stand for themselves.
func (p *parser) run() *ParseError {
	text := p.data[p.pos : p.pos+jsontext.Plain(p.data[p.pos:])]
	if !utf8.Valid(text) {
		i := strayByte(text)
		return p.faultAt(p.pos+i, "the byte 0x%02x is not UTF-8 here", text[i])
	}
	p.pos += len(text)
	return nil
}

// strayByte returns where text, which is not UTF-8, first goes wrong.
func strayByte(text []byte) int {
	i := 0
	for i < len(text) {
		r, size := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && size <= 1 {
			break
		}
		i += size
	}
	return i
}

// stringFault explains why the string that began at open cannot go on at pos.
func (p *parser) stringFault(open int) *ParseError {
	if p.pos >= len(p.data) {
		return p.faultAt(p.pos, "the text ends inside the string that began at byte %d", open)
	}
	return p.faultAt(p.pos, `control character 0x%02x in a string, write \u%04x`, p.data[p.pos], p.data[p.pos])
}

var shortEscapes = [256]rune{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// escape reads the escape at pos. Half of a surrogate pair is a fault when
// strict is set, and U+FFFD otherwise.
func (p *parser) escape(strict bool) (rune, *ParseError) {
	start := p.pos
	p.pos++
	c := p.next()
	if r := shortEscapes[c]; r != 0 {
		p.pos++
		return r, nil
	}
	if c != 'u' {
		return 0, p.faultAt(start, `want one of \" \\ \/ \b \f \n \r \t \uXXXX, got \ and %s`, describe(p.data, p.pos))
	}
	p.pos++
	r, fault := p.hex4()
	if fault != nil || !utf16.IsSurrogate(r) {
		return r, fault
	}
	if p.next() == '\\' && p.pos+1 < len(p.data) && p.data[p.pos+1] == 'u' {
		mark := p.pos
		p.pos += 2
		low, fault := p.hex4()
		if fault != nil {
			return 0, fault
		}
		if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
			return pair, nil
		}
		p.pos = mark
	}
	if strict {
		return 0, p.faultAt(start, `\u%04x is a lone surrogate, half of a character: want both halves`, r)
	}
	return utf8.RuneError, nil
}

func (p *parser) hex4() (rune, *ParseError) {
	var r rune
	for range 4 {
		d, ok := unhex(p.next())
		if !ok {
			return 0, p.wanted(`four hexadecimal digits after \u`)
		}
		r = r<<4 | d
		p.pos++
	}
	return r, nil
}

func unhex(c byte) (rune, bool) {
	switch {
	case isDigit(c):
		return rune(c - '0'), true
	case 'a' <= c && c <= 'f':
		return rune(c-'a') + 10, true
	case 'A' <= c && c <= 'F':
		return rune(c-'A') + 10, true
	}
	return 0, false
}
