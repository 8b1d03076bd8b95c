package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/openleash/openleash-go/action"
)

// describe names what stands in a document, for messages.
func describe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.ShortTag() == "!!null":
		return "nothing"
	case n.ShortTag() == "!!str":
		return "the text " + strconv.Quote(short(n.Value))
	}
	return short(n.Value)
}

// short keeps what people read readable.
func short(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// literal reads one value to compare with.
func (p *parser) literal(n *yaml.Node, what string) (l literal, ok bool) {
	if n.Kind != yaml.ScalarNode {
		p.Errorf(n, "%s: want a text, a number, true, false or null, got %s", what, describe(n))
		return l, false
	}
	text, ok := p.json(n, what)
	if !ok {
		return l, false
	}
	l.value, ok = p.parsed(n, text, what)
	l.number, _ = parseNumber(l.value.Text())
	return l, ok
}

// json writes a scalar as JSON. It takes YAML's words in their plain meaning
// only: what a reader could take for something else is a fault.
func (p *parser) json(n *yaml.Node, what string) (text []byte, ok bool) {
	switch n.ShortTag() {
	case "!!null":
		if n.Value == "" {
			p.Errorf(n, `%s: nothing stands here; write null, or "" for an empty text`, what)
			return nil, false
		}
		return []byte("null"), true
	case "!!bool":
		return []byte(strings.ToLower(n.Value)), true
	case "!!int", "!!float":
		if _, ok := parseNumber(n.Value); !ok {
			p.Errorf(n, "%s: %s can be read in more than one way; write a plain decimal number, or quote it for a text", what, short(n.Value))
			return nil, false
		}
		return []byte(n.Value), true
	}
	word, ok := p.String(n, what)
	return quoteJSON(word), ok
}

func quoteJSON(s string) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		panic(err) // a string can always be written
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

func (p *parser) parsed(n *yaml.Node, text []byte, what string) (action.Value, bool) {
	v, err := action.Parse(text, action.Limits{})
	if err != nil {
		p.Errorf(n, "%s: %v", what, err)
	}
	return v, err == nil
}

// data reads any value as JSON would hold it: the params of obligations.
func (p *parser) data(n *yaml.Node, what string) action.Value {
	switch n.Kind {
	case yaml.MappingNode:
		return action.ObjectValue(p.members(n, what)...)
	case yaml.SequenceNode:
		var items []action.Value
		for _, item := range p.List(n, what) {
			items = append(items, p.data(item, what))
		}
		return action.ArrayValue(items...)
	}
	l, _ := p.literal(n, what)
	return l.value
}

func (p *parser) members(n *yaml.Node, what string) (ms []action.Member) {
	for _, e := range p.Entries(n, what) {
		ms = append(ms, action.Member{Key: e.Key, Value: p.data(e.Value, what+": "+e.Key)})
	}
	return ms
}

// minorUnits reads an amount. People write 85.00; the message says what to
// write instead.
func (p *parser) minorUnits(n *yaml.Node, what string) *int64 {
	if n == nil {
		return nil
	}
	amount, isNumber := parseNumber(n.Value)
	switch {
	case n.Kind != yaml.ScalarNode || !isNumber:
		p.Errorf(n, "%s: want whole minor units (8500 for 85.00), got %s", what, describe(n))
	case amount.sign() < 0:
		p.Errorf(n, "%s: want whole minor units from 0 up, got %s", what, describe(n))
	case strings.Contains(n.Value, "."):
		p.Errorf(n, "%s: want whole minor units, got %s%s", what, describe(n), inCents(amount))
	case n.ShortTag() == "!!str":
		p.Errorf(n, "%s: want whole minor units, got %s: write it without quotes", what, describe(n))
	default:
		return p.whole(n, what)
	}
	return nil
}

func (p *parser) whole(n *yaml.Node, what string) *int64 {
	i, err := strconv.ParseInt(n.Value, 10, 64)
	if err != nil {
		p.Errorf(n, "%s: want whole minor units up to %d, in digits only, got %s", what, math.MaxInt64, describe(n))
		return nil
	}
	return &i
}

// inCents tells what 85.00 is in a currency with cents; nothing when it is not
// a whole number of them.
func inCents(amount number) string {
	amount.exp += 2
	if !amount.isWhole() || amount.exp > 18 {
		return ""
	}
	digits := amount.digits
	if digits == "" {
		return ": write 0"
	}
	for len(digits) < amount.exp {
		digits += "0"
	}
	return fmt.Sprintf(": for a currency with cents write %s", digits)
}
