package draft

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/internal/visible"
)

// quote writes a text so that YAML reads it back, on one line of plain characters.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r >= ' ' && r < 0x7f, r > 0xa0 && r <= 0xffff && unicode.IsPrint(r) && !visible.Odd(r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08X`, r)
		default:
			fmt.Fprintf(&b, `\u%04X`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// written is a value as YAML, on one line.
func written(v action.Value) string {
	var b strings.Builder
	write(&b, v)
	return b.String()
}

func write(b *strings.Builder, v action.Value) {
	switch v.Kind() {
	case action.String:
		b.WriteString(quote(v.Text()))
	case action.Array:
		b.WriteByte('[')
		for i, item := range v.Items() {
			separate(b, i)
			write(b, item)
		}
		b.WriteByte(']')
	case action.Object:
		b.WriteByte('{')
		for i := range v.Len() {
			separate(b, i)
			b.WriteString(keyed(quote(v.At(i).Key)))
			write(b, v.At(i).Value)
		}
		b.WriteByte('}')
	default:
		b.Write(v.Canonical())
	}
}

// keyed writes a key. A long one needs a mark: without, YAML reads 1024 characters.
func keyed(key string) string {
	if len(key) > 500 {
		return "? " + key + " : "
	}
	return key + ": "
}

func separate(b *strings.Builder, i int) {
	if i > 0 {
		b.WriteString(", ")
	}
}
