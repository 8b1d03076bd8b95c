// Package diff says what is different between two values, so that a person sees it:
// member by member, and word by word where both are texts.
package diff

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/openleash/openleash-go/action"
)

// A Change is one place at which two values differ.
type Change struct {
	Path  string       // as in a policy, from the values on: ".to", `.items[2]["a b"]`; empty: all of it
	Old   action.Value // Missing: it was not there
	New   action.Value // Missing: it is not there any more
	Words []Piece      // when both are texts: how the one becomes the other
}

// A Piece is a run of words that stayed, went or came.
type Piece struct {
	Op   Op
	Text string
}

// Op is what became of a Piece.
type Op int

const (
	Keep Op = iota
	Delete
	Insert
)

// maxChanges bounds how many places are told: more are not read.
const maxChanges = 1000

// Values lists where two values differ, in the order of the new one; what is gone
// comes last. Numbers that are the same, 1 and 1.0, do not differ.
func Values(old, new action.Value) []Change {
	c := comparison{cells: maxCells}
	c.compare("", old, new)
	return c.changes
}

// comparison is one under way.
type comparison struct {
	changes []Change
	cells   int // what its texts may still be compared with (maxCells)
}

func (c *comparison) compare(path string, old, new action.Value) {
	switch {
	case len(c.changes) >= maxChanges || same(old, new):
	case old.Kind() == action.Object && new.Kind() == action.Object:
		for key, v := range new.Members() {
			c.compare(path+member(key), old.Get(key), v)
		}
		for key, v := range old.Members() {
			if new.Get(key).Kind() == action.Missing {
				c.compare(path+member(key), v, action.Value{})
			}
		}
	case old.Kind() == action.Array && new.Kind() == action.Array:
		for i := range max(old.Len(), new.Len()) {
			c.compare(path+"["+strconv.Itoa(i)+"]", at(old, i), at(new, i))
		}
	default:
		change := Change{Path: path, Old: old, New: new}
		if old.Kind() == action.String && new.Kind() == action.String {
			change.Words = words(old.Text(), new.Text(), &c.cells)
		}
		c.changes = append(c.changes, change)
	}
}

func same(old, new action.Value) bool {
	return old.Kind() == new.Kind() && (old.Kind() == action.Missing || string(old.Canonical()) == string(new.Canonical()))
}

func at(v action.Value, i int) action.Value {
	if i >= v.Len() {
		return action.Value{}
	}
	return v.Index(i)
}

// member is one step of a path.
func member(key string) string {
	for i, r := range key {
		if r != '_' && !unicode.IsLetter(r) && (i == 0 || !unicode.IsDigit(r)) {
			return "[" + strconv.Quote(key) + "]"
		}
	}
	if key == "" {
		return `[""]`
	}
	return "." + key
}

// maxText is the longest text that is compared by its words.
const maxText = 256 << 10

// maxCells bounds what two texts, or all texts of two values together, are compared
// with: the product of how many words they have between what they begin and end with
// alike.
const maxCells = 4_000_000

// Words tells how one text becomes another, word by word. The pieces that were not
// inserted are the old text, those that were not deleted the new one. Very long texts
// are told as one that went and one that came, between what they have alike at their
// ends.
func Words(old, new string) []Piece {
	cells := maxCells
	return words(old, new, &cells)
}

func words(old, new string, cells *int) (pieces []Piece) {
	split := inWords
	if max(len(old), len(new)) > maxText {
		split = inLines
	}
	a, b := split(old), split(new)
	from := 0
	for from < min(len(a), len(b)) && a[from] == b[from] {
		from++
	}
	alike := 0
	for alike < min(len(a), len(b))-from && a[len(a)-1-alike] == b[len(b)-1-alike] {
		alike++
	}
	pieces = add(pieces, Keep, a[:from]...)
	pieces = middle(pieces, a[from:len(a)-alike], b[from:len(b)-alike], cells)
	return add(pieces, Keep, a[len(a)-alike:]...)
}

// middle adds how a becomes b, by their longest common subsequence, and takes what that
// costs from cells.
func middle(pieces []Piece, a, b []string, cells *int) []Piece {
	if *cells -= len(a) * len(b); *cells < 0 {
		return add(add(pieces, Delete, a...), Insert, b...)
	}
	width := len(b) + 1
	longest := make([]uint32, (len(a)+1)*width) // of a[i:] and b[j:]
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				longest[i*width+j] = longest[(i+1)*width+j+1] + 1
			} else {
				longest[i*width+j] = max(longest[(i+1)*width+j], longest[i*width+j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(a) && j < len(b) {
		switch {
		case a[i] == b[j]:
			pieces = add(pieces, Keep, a[i])
			i, j = i+1, j+1
		case longest[(i+1)*width+j] >= longest[i*width+j+1]:
			pieces = add(pieces, Delete, a[i])
			i++
		default:
			pieces = add(pieces, Insert, b[j])
			j++
		}
	}
	return add(add(pieces, Delete, a[i:]...), Insert, b[j:]...)
}

func add(pieces []Piece, op Op, words ...string) []Piece {
	text := strings.Join(words, "")
	switch n := len(pieces); {
	case text == "":
	case n > 0 && pieces[n-1].Op == op:
		pieces[n-1].Text += text
	default:
		pieces = append(pieces, Piece{op, text})
	}
	return pieces
}

// inLines takes a text apart after its line ends.
func inLines(s string) []string { return strings.SplitAfter(s, "\n") }

// inWords takes a text apart into words, and what stands between them.
func inWords(s string) (words []string) {
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		n := size
		if isWord(r) {
			if n = strings.IndexFunc(s, func(r rune) bool { return !isWord(r) }); n < 0 {
				n = len(s)
			}
		}
		words = append(words, s[:n])
		s = s[n:]
	}
	return words
}

func isWord(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r) || r == '_'
}
