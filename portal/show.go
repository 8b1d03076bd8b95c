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
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/internal/visible"
)

// What agents and servers say is shown so that it cannot pass for anything else:
// markup is escaped as everywhere, and what package visible shows by its number,
// \u202e, stands in a box. A backslash that was really written has no box.

// markup is HTML that was made here, from escaped parts.
type markup = template.HTML

// box shows characters by their numbers.
func box(part visible.Segment) string {
	class, why := "odd", "shown by its number"
	switch part.Kind {
	case visible.Usual:
		class = "odd usual" // texts have them: no cause for alarm
	case visible.Alike:
		class = "odd alike"
	}
	title := fmt.Sprintf("%d characters, shown by their numbers", utf8.RuneCountInString(part.Text))
	if r, size := utf8.DecodeRuneInString(part.Text); size == len(part.Text) {
		if part.Kind == visible.Alike {
			why = fmt.Sprintf("which looks like %c", visible.Imitates(r))
		}
		title = fmt.Sprintf("the character U+%04X, %s", r, why)
	}
	return `<span class="` + class + `" title="` + template.HTMLEscapeString(title) + `">` + visible.Numbers(part.Text) + `</span>`
}

// asHTML writes a text; plain writes what is shown as it is.
func asHTML(s, allow string, plain func(string) string) string {
	var b strings.Builder
	for part := range visible.Segments(s, allow) {
		if part.Kind == visible.Plain {
			b.WriteString(plain(part.Text))
		} else {
			b.WriteString(box(part))
		}
	}
	return b.String()
}

// inlineHTML shows a text on one line.
func inlineHTML(s string) markup { return markup(asHTML(s, "", template.HTMLEscapeString)) }

// blockHTML shows a text as it was written, with its lines.
func blockHTML(s string) markup { return markup(asHTML(s, "\n\t", template.HTMLEscapeString)) }

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
	var rest []action.Member
	for name, value := range v.Members() {
		switch {
		case slices.Contains(skip, name):
		case len(fs) < maxFields:
			fs = append(fs, newField(name, value))
		default:
			rest = append(rest, action.Member{Key: name, Value: value})
		}
	}
	if len(rest) > 0 {
		more := newField("all others", action.ObjectValue(rest...))
		more.Size = fmt.Sprintf("%d members", len(rest))
		fs = append(fs, more)
	}
	return fs
}

// maxFields is how many members stand by themselves: so many rows a browser bears.
const maxFields = 200

const (
	// longText is from when on the number of characters is told,
	longText = 200
	// and foldedText, in bytes, from when on a value is folded: complete, but out of
	// the way of what else there is to see.
	foldedText = 3000
	// headText is how much of it is seen then, in characters.
	headText = 160
	// bareText, in bytes, is from when on a value is written without boxes and colours,
	// as at a terminal: millions of elements are more than a browser bears.
	bareText = 32 << 10
)

// bare says how a text is to be read that is written so.
const bare = `<span class="aside bare">Very long, so numbers of characters stand without boxes; a backslash that was really written before one is doubled.</span>`

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

const (
	// gistFields is how many arguments a list tells of a call,
	gistFields = 4
	// and gistText how much of each, in characters.
	gistText = 40
)

// gist is what a list tells of a call, so that one mail is known from another: how some
// of its arguments begin. All of it stands on its page.
func gist(r approvals.Request) markup {
	payload := r.Action.Payload
	if r.Tool != "" {
		payload = payload.Get("arguments")
	}
	if payload.Kind() != action.Object {
		return ""
	}
	var b strings.Builder
	chosen := telling(payload)
	for _, m := range chosen {
		fmt.Fprintf(&b, `<span class="aside">%s</span> <span class="text" dir="auto">%s</span> `, beginning(m.Key), beginning(textOf(m.Value)))
	}
	if more := payload.Len() - len(chosen); more > 0 {
		fmt.Fprintf(&b, `<span class="aside">and %d more</span>`, more)
	}
	return markup(b.String())
}

// telling are the first members of a payload, those that have nothing inside before the
// others.
func telling(payload action.Value) (list []action.Member) {
	var others []action.Member
	for key, v := range payload.Members() {
		m := action.Member{Key: key, Value: v}
		switch nested := v.Kind() == action.Object || v.Kind() == action.Array; {
		case len(list) == gistFields:
			return list
		case !nested:
			list = append(list, m)
		case len(others) < gistFields:
			others = append(others, m)
		}
	}
	return append(list, others[:min(len(others), gistFields-len(list))]...)
}

// beginning is how a text begins, on one line.
func beginning(s string) markup {
	if head := firstRunes(s, gistText); len(head) < len(s) {
		return inlineHTML(head) + "…"
	}
	return inlineHTML(s)
}

// textHTML shows a string's text; blanks at its ends, which no one would see, are boxed.
func textHTML(s string) markup {
	switch {
	case s == "":
		return `<span class="none">empty text</span>`
	case len(s) > bareText:
		return bare + markup(template.HTMLEscapeString(visible.Lines(s)))
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
	for part := range visible.Segments(s, "") {
		if part.Kind != visible.Plain {
			b.WriteString(box(part))
			continue
		}
		b.WriteString(strings.Repeat(`<span class="odd" title="a space">·</span>`, len(part.Text)))
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
	if len(v.Canonical()) > bareText {
		return markup(template.HTMLEscapeString(visible.JSON(v)))
	}
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
	return `"` + asHTML(s, "", func(s string) string { return template.HTMLEscapeString(quoter.Replace(s)) }) + `"`
}
