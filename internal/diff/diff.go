// Package diff says what is different between two values, so that a person sees it:
// member by member, and word by word where both are texts.
package diff

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/openleash/openleash-go/action"
)

// A Change is one place at which two values differ.
type Change struct {
	Path  string       // as in a policy, from the values on: `.to`, `.items[2]["a b"]`; empty: all of it
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
	Skip // of Fold: lines that stay, and are not told
)

// maxChanges bounds how many places are told: more are not read.
const maxChanges = 1000

// Values lists where two values differ, in the order of the new one; what is gone
// comes last. Numbers that are the same, 1 and 1.0, do not differ.
func Values(old, new action.Value) []Change {
	c := comparer{cells: maxCells}
	c.compare("", old, new)
	return c.changes
}

type comparer struct {
	changes []Change
	cells   int // how much may still be spent on words, of all texts together
}

func (c *comparer) compare(path string, old, new action.Value) {
	switch {
	case len(c.changes) >= maxChanges:
	case old.Kind() == action.Object && new.Kind() == action.Object:
		c.members(path, old, new)
	case old.Kind() == action.Array && new.Kind() == action.Array:
		for i := range new.Len() {
			c.compare(path+new.Step(i), old.Index(i), new.Index(i))
		}
		for i := new.Len(); i < old.Len(); i++ {
			c.compare(path+old.Step(i), old.Index(i), action.Value{})
		}
	case same(old, new):
	default:
		change := Change{Path: path, Old: old, New: new}
		if old.Kind() == action.String && new.Kind() == action.String {
			change.Words = words(old.Text(), new.Text(), &c.cells)
		}
		c.changes = append(c.changes, change)
	}
}

func (c *comparer) members(path string, old, new action.Value) {
	was := make(map[string]action.Value, old.Len())
	for key, v := range old.Members() {
		was[key] = v
	}
	for i := range new.Len() {
		m := new.At(i)
		if v := was[m.Key]; !same(v, m.Value) {
			c.compare(path+new.Step(i), v, m.Value)
		}
		delete(was, m.Key)
	}
	for i := range old.Len() {
		if m := old.At(i); was[m.Key].Kind() != action.Missing {
			c.compare(path+old.Step(i), m.Value, action.Value{})
		}
	}
}

// same compares what has nothing inside; of all else it says no.
func same(old, new action.Value) bool {
	switch {
	case old.Kind() != new.Kind():
		return false
	case old.Kind() == action.Array, old.Kind() == action.Object:
		return old.Len() == 0 && new.Len() == 0
	case old.Kind() == action.Number:
		return old.Equal(new)
	}
	return old.Text() == new.Text() && old.IsTrue() == new.IsTrue()
}

// maxText is the longest text that is compared by its words.
const maxText = 256 << 10

// maxCells bounds what all texts of two values are compared with: the sum of the
// products of how many words they have between what they begin and end with alike.
const maxCells = 4_000_000

// Words tells how one text becomes another, word by word. The pieces that were not
// inserted are the old text, those that were not deleted the new one. Very long texts
// are told as one that went and one that came, between what they have alike at their
// ends.
func Words(old, new string) []Piece {
	cells := maxCells
	return words(old, new, &cells)
}

func words(old, new string, cells *int) []Piece {
	split := wordsOf
	if max(len(old), len(new)) > maxText {
		split = lines
	}
	return joined(compared(old, new, split, cells))
}

// compared tells how the parts of one text become those of another.
func compared(old, new string, split func(string) []string, cells *int) []Piece {
	w := writer{old: old, new: new}
	a, b := split(old), split(new)
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		w.add(Keep, a[0])
		a, b = a[1:], b[1:]
	}
	alike := 0
	for alike < min(len(a), len(b)) && a[len(a)-1-alike] == b[len(b)-1-alike] {
		alike++
	}
	end := a[len(a)-alike:]
	a, b = a[:len(a)-alike], b[:len(b)-alike]
	if len(a)*len(b) <= *cells {
		*cells -= len(a) * len(b)
		w.middle(a, b)
	} else {
		w.add(Delete, a...)
		w.add(Insert, b...)
	}
	w.add(Keep, end...)
	return w.pieces
}

// joined makes one change of those that have nothing but a space between them: a phrase
// that became another is read as one phrase and the other, not by turns.
func joined(pieces []Piece) (list []Piece) {
	var went, came strings.Builder
	flush := func() {
		for _, p := range []Piece{{Delete, went.String()}, {Insert, came.String()}} {
			if p.Text != "" {
				list = append(list, p)
			}
		}
		went.Reset()
		came.Reset()
	}
	for i, p := range pieces {
		between := i > 0 && i < len(pieces)-1 && isSpace(p.Text) // no two neighbours are kept
		if p.Op == Keep && !between {
			flush()
			list = append(list, p)
			continue
		}
		if p.Op != Insert {
			went.WriteString(p.Text)
		}
		if p.Op != Delete {
			came.WriteString(p.Text)
		}
	}
	flush()
	return list
}

// isSpace reports whether a text is of spaces that end no line.
func isSpace(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return !unicode.IsSpace(r) || r == '\n' || r == '\r' }) < 0
}

// A writer goes through both texts and cuts them into pieces.
type writer struct {
	old, new string // what is still to come
	piece    string // the text that the last piece begins
	pieces   []Piece
}

func (w *writer) add(op Op, words ...string) {
	n := 0
	for _, word := range words {
		n += len(word)
	}
	if n == 0 {
		return
	}
	if last := len(w.pieces) - 1; last >= 0 && w.pieces[last].Op == op {
		w.pieces[last].Text = w.piece[:len(w.pieces[last].Text)+n]
	} else {
		w.piece = w.old
		if op == Insert {
			w.piece = w.new
		}
		w.pieces = append(w.pieces, Piece{op, w.piece[:n]})
	}
	if op != Insert {
		w.old = w.old[n:]
	}
	if op != Delete {
		w.new = w.new[n:]
	}
}

// middle adds how a becomes b, by their longest common subsequence.
func (w *writer) middle(a, b []string) {
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
			w.add(Keep, a[i])
			i, j = i+1, j+1
		case longest[(i+1)*width+j] >= longest[i*width+j+1]:
			w.add(Delete, a[i])
			i++
		default:
			w.add(Insert, b[j])
			j++
		}
	}
	w.add(Delete, a[i:]...)
	w.add(Insert, b[j:]...)
}

// lines takes a text apart after its line ends.
func lines(s string) []string { return strings.SplitAfter(s, "\n") }

// wordsOf takes a text apart into words, and what stands between them.
func wordsOf(s string) (words []string) {
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
