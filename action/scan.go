package action

import "github.com/openleash/openleash-go/internal/jsontext"

// A Field is one member of an object that was not looked into.
type Field struct {
	Key   string
	Raw   []byte // the value's bytes, part of the text given to Scan
	Start int    // where they begin in it
}

// Scan returns the members of a JSON object without reading their values, for
// messages that are only passed on. It checks the syntax of the whole text and
// refuses keys at its top that are equal or differ only in case. Inside the
// values it lets pass what Parse refuses and a relay has no business with:
// duplicate keys, numbers out of range, lone surrogates, bytes that are not
// UTF-8. The error is a *ParseError.
func Scan(data []byte, lim Limits) ([]Field, error) {
	p := parser{data: data, lim: lim.orDefault(), stack: make([]Member, 0, 8)}
	fault := p.check()
	if fault == nil {
		var fields []Field
		if fields, fault = p.fields(); fault == nil {
			return fields, nil
		}
	}
	return nil, fault.within("$")
}

func (p *parser) fields() ([]Field, *ParseError) {
	p.space()
	switch p.next() {
	case '{':
	case '[':
		return nil, p.faultAt(p.pos, "want an object, got an array (JSON-RPC batches are not supported): send the messages one by one")
	default:
		return nil, p.wanted("an object")
	}
	if fault := p.open(); fault != nil {
		return nil, fault
	}
	fields := make([]Field, 0, 8)
	keys := keySet{twins: p.lim.CaseTwins}
	for p.next() != '}' || len(fields) > 0 {
		f, fault := p.field(&keys)
		if fault != nil {
			return nil, fault
		}
		fields = append(fields, f)
		if p.next() == '}' {
			break
		}
		if fault := p.comma("'}'"); fault != nil {
			return nil, fault
		}
	}
	p.pos++
	return fields, p.end()
}

func (p *parser) field(keys *keySet) (Field, *ParseError) {
	key, fault := p.scanKey()
	if fault != nil {
		return Field{}, fault
	}
	if i := keys.add(p.stack, key.text); i >= 0 {
		return Field{}, p.clash(key, p.stack[i].Key)
	}
	p.stack = append(p.stack, Member{Key: key.text}) // for the next key to be compared with
	if fault := p.colon(); fault != nil {
		return Field{}, fault.within(shortStep(key.text))
	}
	start := p.pos
	if fault := p.skip(); fault != nil {
		return Field{}, fault.within(shortStep(key.text))
	}
	f := Field{key.text, p.data[start:p.pos:p.pos], start}
	p.space()
	return f, nil
}

// scanKey is key without a copy of the whole text at hand.
func (p *parser) scanKey() (keyAt, *ParseError) {
	start := p.pos
	if p.next() != '"' {
		return p.key()
	}
	if fault := p.skipString(); fault != nil {
		return keyAt{}, fault
	}
	text := p.data[start:p.pos]
	r := parser{data: text, doc: string(text)}
	key, fault := r.key()
	if fault != nil {
		fault.Offset += start
	}
	key.offset = start
	return key, fault
}

// skip steps over the value at pos.
func (p *parser) skip() *ParseError {
	switch c := p.next(); {
	case c == '"':
		return p.skipString()
	case c == '{':
		return p.skipObject()
	case c == '[':
		return p.skipArray()
	case c == '-' || isDigit(c):
		return p.numberSyntax()
	case c == 't':
		return p.literal("true")
	case c == 'f':
		return p.literal("false")
	case c == 'n':
		return p.literal("null")
	}
	return p.wanted("a value")
}

func (p *parser) skipObject() *ParseError {
	if fault := p.open(); fault != nil {
		return fault
	}
	for first := true; !first || p.next() != '}'; first = false {
		if p.next() != '"' {
			return p.wanted("a key in double quotes")
		}
		if fault := p.skipString(); fault != nil {
			return fault
		}
		if fault := p.colon(); fault != nil {
			return fault
		}
		if fault := p.skip(); fault != nil {
			return fault
		}
		p.space()
		if p.next() == '}' {
			break
		}
		if fault := p.comma("'}'"); fault != nil {
			return fault
		}
	}
	p.pos++
	p.depth--
	return nil
}

func (p *parser) skipArray() *ParseError {
	if fault := p.open(); fault != nil {
		return fault
	}
	for first := true; !first || p.next() != ']'; first = false {
		if fault := p.skip(); fault != nil {
			return fault
		}
		p.space()
		if p.next() == ']' {
			break
		}
		if fault := p.comma("']'"); fault != nil {
			return fault
		}
	}
	p.pos++
	p.depth--
	return nil
}

func (p *parser) skipString() *ParseError {
	open := p.pos
	p.pos++
	for {
		p.pos += jsontext.Plain(p.data[p.pos:])
		switch p.next() {
		case '"':
			p.pos++
			return nil
		case '\\':
			if _, fault := p.escape(false); fault != nil {
				return fault
			}
		default:
			return p.stringFault(open)
		}
	}
}
