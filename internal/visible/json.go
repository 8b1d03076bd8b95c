package visible

import (
	"fmt"
	"strings"
	"unicode/utf16"

	"github.com/openleash/openleash-go/action"
)

// JSONText shows a JSON text at a terminal. It stays the same JSON: there a number is
// nothing but another way to write a character.
func JSONText(text string) string {
	var b strings.Builder
	for part := range Segments(text, "\n") {
		b.WriteString(inJSON(part))
	}
	return b.String()
}

// inJSON writes a segment as JSON does, a character without shape by its UTF-16.
func inJSON(part Segment) string {
	if part.Kind == Plain {
		return part.Text
	}
	var b strings.Builder
	for _, r := range part.Text {
		if high, low := utf16.EncodeRune(r); r > 0xffff {
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		} else {
			b.WriteString(Number(r))
		}
	}
	return b.String()
}

// JSON writes a value as indented JSON on which nothing is hidden: numbers as they
// were written, and in strings what is odd by its number. It can be read back.
func JSON(v action.Value) string {
	var b strings.Builder
	writeJSON(&b, v, "\n")
	return b.String()
}

var quoter = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

func quote(s string) string {
	var b strings.Builder
	for part := range Segments(s, "") {
		if part.Kind == Plain {
			part.Text = quoter.Replace(part.Text)
		}
		b.WriteString(inJSON(part))
	}
	return `"` + b.String() + `"`
}

func writeJSON(b *strings.Builder, v action.Value, line string) {
	switch v.Kind() {
	case action.Object:
		sep := "{" + line + "  "
		for name, item := range v.Members() {
			b.WriteString(sep + quote(name) + ": ")
			writeJSON(b, item, line+"  ")
			sep = "," + line + "  "
		}
		b.WriteString(closing(v, line, "{}"))
	case action.Array:
		sep := "[" + line + "  "
		for _, item := range v.Items() {
			b.WriteString(sep)
			writeJSON(b, item, line+"  ")
			sep = "," + line + "  "
		}
		b.WriteString(closing(v, line, "[]"))
	case action.String:
		b.WriteString(quote(v.Text()))
	case action.Number:
		b.WriteString(v.Text())
	default: // true, false, null
		b.Write(v.Canonical())
	}
}

func closing(v action.Value, line, brackets string) string {
	if v.Len() == 0 {
		return brackets
	}
	return line + brackets[1:]
}
