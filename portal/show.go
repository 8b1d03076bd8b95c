package portal

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"html/template"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/internal/visible"
)

// What agents and servers say is shown so that it cannot pass for anything else:
// markup is escaped as everywhere, and what package visible shows by its number,
// \u202e, stands in a box. A backslash that was really written has no box.

// markup is HTML that was made here, from escaped parts.
type markup = template.HTML

func box(r rune) string {
	class, why := "odd", "shown by its number"
	switch {
	case r == '\n' || r == '\t':
		class = "odd usual" // texts have them: no cause for alarm
	case !visible.Odd(r):
		class, why = "odd alike", "which looks like another"
	}
	return fmt.Sprintf(`<span class="%s" title="the character U+%04X, %s">%s</span>`, class, r, why, visible.Number(r))
}

// inlineHTML shows a text on one line.
func inlineHTML(s string) markup {
	return markup(visible.Map(s, "", template.HTMLEscapeString, box))
}

// blockHTML shows a text as it was written, with its lines.
func blockHTML(s string) markup {
	return markup(visible.Map(s, "\n\t", template.HTMLEscapeString, box))
}

// field is one named value.
type field struct {
	Name string
	Kind string // "text", "number", "yes/no", "null", "list", "object"
	Size string // of a long text: "1,204 characters"
	HTML markup
	Head markup // how a value begins that is folded, since it is very long; empty: it is not
	Sum  string // SHA-256 of such a value as it is hashed in the action, in hex
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

const (
	// longText is from when on the number of characters is told,
	longText = 200
	// and foldedText, in bytes, from when on a value is folded: complete, but out of
	// the way of what else there is to see.
	foldedText = 3000
	// headText is how much of it is seen then, in characters.
	headText = 160
)

func newField(name string, v action.Value) field {
	f := field{Name: name, Kind: kindWord(v.Kind())}
	if v.Kind() == action.String {
		f.HTML = textHTML(v.Text())
		if n := utf8.RuneCountInString(v.Text()); n > longText {
			f.Size = fmt.Sprintf("%d characters", n)
		}
	} else {
		f.HTML = jsonHTML(v)
	}
	if canonical := v.Canonical(); len(canonical) > foldedText {
		f.fold(v, canonical)
	}
	return f
}

func (f *field) fold(v action.Value, canonical []byte) {
	text := cmp.Or(v.Text(), string(canonical))
	f.Head, f.Sum = inlineHTML(firstRunes(text, headText)), fmt.Sprintf("%x", sha256.Sum256(canonical))
	if f.Size == "" {
		f.Size = fmt.Sprintf("%d bytes", len(canonical))
	}
}

// firstRunes is how a text begins.
func firstRunes(s string, n int) string {
	for i := range s {
		if n--; n < 0 {
			return s[:i]
		}
	}
	return s
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
	return `"` + visible.Map(s, "", func(s string) string { return template.HTMLEscapeString(quoter.Replace(s)) }, box) + `"`
}
