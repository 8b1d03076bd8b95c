// Package visible shows what agents and servers say so that it cannot pass for
// anything else: in the portal, at a terminal, in notices.
//
// A character that has no shape of its own (control characters and with them ANSI
// sequences, bidirectional overrides, zero-width and other format characters, blanks
// that are not the space, fillers), and one that is there to be taken for another
// (look-alikes, alike.go), is shown by its number. Nothing else changes: what a
// person reads is what is there, whatever its language.
package visible

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/openleash/openleash-go/action"
)

// blank are printable characters that show nothing.
var blank = &unicode.RangeTable{
	R16: []unicode.Range16{{Lo: 0x2800, Hi: 0x2800, Stride: 1}}, // braille blank
}

// Odd reports whether a character has no shape that a person could see.
func Odd(r rune) bool {
	return r != ' ' && (!unicode.IsPrint(r) ||
		unicode.In(r, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point, blank))
}

// Number writes a character as JSON would escape it.
func Number(r rune) string {
	switch r {
	case '\n':
		return `\n`
	case '\r':
		return `\r`
	case '\t':
		return `\t`
	}
	if r > 0xffff {
		return fmt.Sprintf(`\u{%x}`, r)
	}
	return fmt.Sprintf(`\u%04x`, r)
}

// Map splits a text at the characters that are to be shown by their number: plain
// gets what lies between, hidden each of them. Those in allow count as plain.
func Map(s, allow string, plain func(string) string, hidden func(rune) string) string {
	s = strings.ToValidUTF8(s, "\ufffd")
	alike := alikes(s)
	var b strings.Builder
	from := 0
	for i, r := range s {
		if !(Odd(r) && !strings.ContainsRune(allow, r)) && !alike[i] {
			continue
		}
		b.WriteString(plain(s[from:i]))
		b.WriteString(hidden(r))
		from = i + utf8.RuneLen(r)
	}
	b.WriteString(plain(s[from:]))
	return b.String()
}

func same(s string) string { return s }

// Line shows a text on one line, where there can be no markup: at a terminal, in
// titles and notices.
func Line(s string) string { return Map(s, "", same, Number) }

// Lines shows a text with its line ends.
func Lines(s string) string { return Map(s, "\n", same, Number) }

// Counts are how many characters of a text are shown by their number.
type Counts struct {
	Hidden int // they have no shape; line ends and tabs, which texts have, are not counted
	Alike  int // they are there to be taken for others
}

// Add adds those of a text.
func (c *Counts) Add(s string) {
	alike := alikes(s)
	for i, r := range s {
		switch {
		case alike[i]:
			c.Alike++
		case Odd(r) && r != '\n' && r != '\t':
			c.Hidden++
		}
	}
}

// A Look is what a person is told of a value before they read it.
type Look struct {
	Counts
	Twins [][2]string // names of one object that are taken for each other
}

// Odd is how many characters are shown by their number.
func (l Look) Odd() int { return l.Hidden + l.Alike }

// maxTwins bounds how many pairs are told.
const maxTwins = 20

// LookAt looks at all texts and names of a value.
func LookAt(v action.Value) (l Look) {
	l.add(v)
	return l
}

func (l *Look) add(v action.Value) {
	l.Counts.Add(v.Text())
	for _, item := range v.Items() {
		l.add(item)
	}
	var names []string
	for name, item := range v.Members() {
		names = append(names, name)
		l.Counts.Add(name)
		l.add(item)
	}
	if pairs := Twins(names); len(pairs) > 0 {
		l.Twins = append(l.Twins, pairs[:min(len(pairs), maxTwins-len(l.Twins))]...)
	}
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
	return `"` + Map(s, "", quoter.Replace, escape) + `"`
}

// escape writes a character as JSON does, by its UTF-16.
func escape(r rune) string {
	if r <= 0xffff {
		return Number(r)
	}
	high, low := utf16.EncodeRune(r)
	return fmt.Sprintf(`\u%04x\u%04x`, high, low)
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
