package portal

import (
	"fmt"
	"html/template"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/openleash/openleash-go/action"
)

// What agents and servers say is shown so that it cannot pass for anything
// else. Markup is escaped as everywhere. Beyond that, a character that has no
// shape of its own (control characters, bidirectional overrides, zero-width and
// other format characters, blanks that are not the space, fillers) is shown as
// its number, \u202e, in a box. A backslash that was really written has no box.

// markup is HTML that was made here, from escaped parts.
type markup = template.HTML

// blank are the printable characters that show nothing.
var blank = &unicode.RangeTable{
	R16: []unicode.Range16{{Lo: 0x2800, Hi: 0x2800, Stride: 1}}, // braille blank
}

// odd reports whether a character has no shape that a person could see.
func odd(r rune) bool {
	return r != ' ' && (!unicode.IsPrint(r) ||
		unicode.In(r, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point, blank))
}

// number writes a character as JSON would escape it.
func number(r rune) string {
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

func box(r rune) string {
	class := "odd"
	if r == '\n' || r == '\t' {
		class = "odd usual" // texts have them: no cause for alarm
	}
	return fmt.Sprintf(`<span class="%s" title="the character U+%04X, shown by its number">%s</span>`, class, r, number(r))
}

// visible shows a text where there can be no markup: titles, notices.
func visible(s string) string {
	return mapOdd(s, "", func(s string) string { return s }, number)
}

// inlineHTML shows a text on one line.
func inlineHTML(s string) markup {
	return markup(mapOdd(s, "", template.HTMLEscapeString, box))
}

// blockHTML shows a text as it was written, with its lines.
func blockHTML(s string) markup {
	return markup(mapOdd(s, "\n\t", template.HTMLEscapeString, box))
}

// mapOdd splits s at its odd characters: plain gets what lies between, hidden each
// of them. Those in allow count as plain.
func mapOdd(s, allow string, plain func(string) string, hidden func(rune) string) string {
	s = strings.ToValidUTF8(s, "\ufffd")
	var b strings.Builder
	for len(s) > 0 {
		i := strings.IndexFunc(s, func(r rune) bool { return odd(r) && !strings.ContainsRune(allow, r) })
		if i < 0 {
			i = len(s)
		}
		b.WriteString(plain(s[:i]))
		if s = s[i:]; s != "" {
			r, size := utf8.DecodeRuneInString(s)
			b.WriteString(hidden(r))
			s = s[size:]
		}
	}
	return b.String()
}

// field is one named value.
type field struct {
	Name string
	Kind string // "text", "number", "yes/no", "null", "list", "object"
	Size string // of a long text: "1,204 characters"
	HTML markup
}

// fields lists an object's members in their order, but for those skipped. What is not an object is
// one field without a name; what is missing is none.
func fields(v action.Value, skip ...string) []field {
	switch v.Kind() {
	case action.Missing:
		return nil
	case action.Object:
	default:
		return []field{newField("", v)}
	}
	var fs []field
	for name, value := range v.Members() {
		if !slices.Contains(skip, name) {
			fs = append(fs, newField(name, value))
		}
	}
	return fs
}

// longText is from when on the number of characters is told.
const longText = 200

func newField(name string, v action.Value) field {
	f := field{Name: name, Kind: kindWord(v.Kind())}
	if v.Kind() != action.String {
		f.HTML = jsonHTML(v)
		return f
	}
	f.HTML = textHTML(v.Text())
	if n := utf8.RuneCountInString(v.Text()); n > longText {
		f.Size = fmt.Sprintf("%d characters", n)
	}
	return f
}

// textHTML shows a string's text; blanks at its ends, which no one would see, are boxed.
func textHTML(s string) markup {
	if s == "" {
		return `<span class="none">empty text</span>`
	}
	inner := strings.Trim(s, " \n\t")
	start := strings.Index(s, inner)
	if inner == "" {
		return markup(edge(s))
	}
	return markup(edge(s[:start])) + blockHTML(inner) + markup(edge(s[start+len(inner):]))
}

// edge boxes blanks at the end of a text.
func edge(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r == ' ' {
			b.WriteString(`<span class="odd" title="a space">·</span>`)
			continue
		}
		b.WriteString(box(r))
	}
	return b.String()
}

func kindWord(k action.Kind) string {
	switch k {
	case action.String:
		return "text"
	case action.Number:
		return "number"
	case action.Bool:
		return "yes/no"
	case action.Array:
		return "list"
	case action.Object:
		return "object"
	default:
		return "null"
	}
}

// jsonHTML pretty-prints a value: order kept, numbers as they were written,
// every string whole.
func jsonHTML(v action.Value) markup {
	var b strings.Builder
	writeJSON(&b, v, "")
	return markup(b.String())
}

func writeJSON(b *strings.Builder, v action.Value, indent string) {
	switch v.Kind() {
	case action.Object:
		writeObject(b, v, indent)
	case action.Array:
		writeArray(b, v, indent)
	case action.String:
		b.WriteString(`<span class="str">` + quoteHTML(v.Text()) + `</span>`)
	case action.Number:
		b.WriteString(`<span class="num">` + template.HTMLEscapeString(v.Text()) + `</span>`)
	case action.Bool:
		fmt.Fprintf(b, `<span class="num">%t</span>`, v.IsTrue())
	default:
		b.WriteString(`<span class="num">null</span>`)
	}
}

func writeObject(b *strings.Builder, v action.Value, indent string) {
	if v.Len() == 0 {
		b.WriteString("{}")
		return
	}
	sep := "{\n"
	for name, value := range v.Members() {
		b.WriteString(sep + indent + `  <span class="key">` + quoteHTML(name) + `</span>: `)
		writeJSON(b, value, indent+"  ")
		sep = ",\n"
	}
	b.WriteString("\n" + indent + "}")
}

func writeArray(b *strings.Builder, v action.Value, indent string) {
	if v.Len() == 0 {
		b.WriteString("[]")
		return
	}
	sep := "[\n"
	for _, value := range v.Items() {
		b.WriteString(sep + indent + "  ")
		writeJSON(b, value, indent+"  ")
		sep = ",\n"
	}
	b.WriteString("\n" + indent + "]")
}

var quoter = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// quoteHTML writes a string with its quotes, on one line.
func quoteHTML(s string) string {
	return `"` + mapOdd(s, "", func(s string) string { return template.HTMLEscapeString(quoter.Replace(s)) }, box) + `"`
}

// countOdd counts the characters of v's strings and names that are shown by
// their number; line ends and tabs, which texts have, are not counted.
func countOdd(v action.Value) int {
	n := 0
	count := func(s string) {
		for _, r := range s {
			if odd(r) && r != '\n' && r != '\t' {
				n++
			}
		}
	}
	count(v.Text())
	for _, item := range v.Items() {
		n += countOdd(item)
	}
	for name, value := range v.Members() {
		count(name)
		n += countOdd(value)
	}
	return n
}
