// Package visible shows what agents and servers say so that it cannot pass for
// anything else: in the portal, at a terminal, in notices.
//
// It promises:
//
//   - A character that has no shape of its own (control characters and with them ANSI
//     sequences, bidirectional overrides, zero-width and other format characters, blanks
//     that are not the space, fillers, marks piled on marks), and one that is there to be
//     taken for another (look-alikes, alike.go), is shown by its number.
//   - Nothing else changes: what a person reads is what is there, whatever its language.
//   - What is shown can be read back: it is never the same for two texts. In a page a
//     number stands in a box; at a terminal a backslash that was really written is
//     doubled where it could be taken for the beginning of a number.
//   - What such characters are to be blamed for is told apart. Some are part of honest
//     writing, as line ends, the joiners of Persian and of emoji: they are shown by
//     number too, but nobody is warned of them.
package visible

import (
	"iter"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
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
	hex := strconv.FormatInt(int64(r), 16)
	if r > 0xffff {
		return `\u{` + hex + `}`
	}
	return `\u` + "000"[:4-len(hex)] + hex
}

// Numbers writes each character of a text by its number.
func Numbers(s string) string {
	var b strings.Builder
	for _, r := range s {
		b.WriteString(Number(r))
	}
	return b.String()
}

// Kind is how the characters of a segment are shown.
type Kind int

const (
	Plain  Kind = iota // as they are
	Usual              // by number, though honest texts have them
	Hidden             // by number: they have no shape
	Alike              // by number: they are there to be taken for others
)

// A Segment is a run of a text that is shown in one way.
type Segment struct {
	Text string
	Kind Kind
}

// Segments takes a text apart; together they are the text, with U+FFFD for what is no
// UTF-8. Characters of allow are Plain.
func Segments(s, allow string) iter.Seq[Segment] {
	s = strings.ToValidUTF8(s, "\ufffd")
	return func(yield func(Segment) bool) {
		c := cursor{text: s}
		from, kind := 0, Plain
		for c.at < len(s) {
			at := c.at
			r, k := c.next()
			if strings.ContainsRune(allow, r) {
				k = Plain
			}
			if k != kind {
				if at > from && !yield(Segment{s[from:at], kind}) {
					return
				}
				from, kind = at, k
			}
		}
		if from < len(s) {
			yield(Segment{s[from:], kind})
		}
	}
}

// A cursor goes through a text and tells of each character what it is where it stands.
type cursor struct {
	text  string
	at    int
	word  span // the one that was looked at last
	run   span // of letters that stand beside each other in it
	last  rune // before at; 0: at is the beginning
	marks int  // how many of those before at are marks on one letter
}

func (c *cursor) next() (r rune, k Kind) {
	if b := c.text[c.at]; b >= ' ' && b < 0x7f {
		c.at++
		c.last, c.marks = rune(b), 0
		return c.last, Plain
	}
	r, size := utf8.DecodeRuneInString(c.text[c.at:])
	if r >= 0x80 {
		c.word.reach(c.text, c.at, unicode.IsSpace)
		c.run.reach(c.text, c.at, notLetters)
	}
	c.at += size
	switch {
	case unicode.In(r, unicode.Mn, unicode.Me):
		c.marks++
		k = c.mark(r)
	case Odd(r):
		c.marks, k = 0, c.odd(r)
	default:
		c.marks = 0
		if c.word.alike(r, c.run.word) {
			k = Alike
		}
	}
	c.last = r
	return r, k
}

// A span is a word up to its end.
type span struct {
	end int
	word
}

// reach goes on to the span that at is in, if it has ended before.
func (s *span) reach(text string, at int, between func(rune) bool) {
	if at < s.end {
		return
	}
	start := s.end
	if i := strings.LastIndexFunc(text[start:at], between); i >= 0 {
		start += i
	}
	_, size := utf8.DecodeRuneInString(text[at:])
	s.end = len(text)
	if n := strings.IndexFunc(text[at+size:], between); n >= 0 {
		s.end = at + size + n
	}
	s.word = wordOf(text[start:s.end])
}

func notLetters(r rune) bool { return !inLetters(r) }

// maxMarks is how many marks one letter bears in any writing (UTS #39, 5.4).
const maxMarks = 4

// mark judges a mark that stands above, below or around what is before it.
func (c *cursor) mark(r rune) Kind {
	switch {
	case Odd(r):
		return c.odd(r)
	case c.marks > maxMarks, c.last == 0, c.last == ' ', Odd(c.last) && !joiner(c.last) && c.last != 0xfe0f:
		return Hidden // it would cover what is not its own
	}
	return Plain
}

func joiner(r rune) bool { return r == 0x200c || r == 0x200d }

// odd tells whether honest texts have a character without shape where this one stands.
func (c *cursor) odd(r rune) Kind {
	next, _ := utf8.DecodeRuneInString(c.text[c.at:])
	switch {
	case r == '\n', r == '\t', r == '\r' && next == '\n':
	case r == '\u00a0', r == '\u202f', r == '\u3000': // no-break and ideographic spaces
	case r == 0xfe0f && (picture(c.last) || next == 0x20e3): // ❤️ 1️⃣
	case r == 0x200d && (picture(c.last) || c.last == 0xfe0f) && picture(next): // 👩‍🚀
	case joiner(r) && unicode.In(c.last, joining...) && unicode.In(next, joining...): // می‌خواهم
	default:
		return Hidden
	}
	return Usual
}

// picture reports whether a character can be part of an emoji.
func picture(r rune) bool {
	return unicode.Is(unicode.So, r) || r >= 0x203c && r < 0x3300 && unicode.In(r, unicode.Sm, unicode.Po, unicode.Pd) || r >= 0x1f3fb && r <= 0x1f3ff
}

// joining are the scripts whose writing needs joiners.
var joining = []*unicode.RangeTable{
	unicode.Arabic, unicode.Syriac, unicode.Mongolian, unicode.Devanagari, unicode.Bengali, unicode.Gurmukhi, unicode.Gujarati,
	unicode.Oriya, unicode.Tamil, unicode.Telugu, unicode.Kannada, unicode.Malayalam, unicode.Sinhala, unicode.Khmer, unicode.Myanmar,
}

// Line shows a text on one line, where there can be no markup: at a terminal, in
// titles and notices.
func Line(s string) string { return written(s, "") }

// Lines shows a text with its line ends.
func Lines(s string) string { return written(s, "\n") }

func written(s, allow string) string {
	var b strings.Builder
	for part := range Segments(s, allow) {
		if part.Kind == Plain {
			b.WriteString(beforeNumber.ReplaceAllString(part.Text, `$1$1$2`))
		} else {
			b.WriteString(Numbers(part.Text))
		}
	}
	return b.String()
}

// beforeNumber are backslashes that could be taken for the beginning of a number.
var beforeNumber = regexp.MustCompile(`(\\+)([unrt]|\z)`)
