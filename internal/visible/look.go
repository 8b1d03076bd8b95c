package visible

import (
	"unicode/utf8"

	"github.com/openleash/openleash-go/action"
)

// Counts are how many characters of a text people are warned of.
type Counts struct {
	Hidden int // they have no shape
	Alike  int // they are there to be taken for others
}

// Add adds those of a text.
func (c *Counts) Add(s string) {
	for part := range Segments(s, "") {
		switch part.Kind {
		case Hidden:
			c.Hidden += utf8.RuneCountInString(part.Text)
		case Alike:
			c.Alike += utf8.RuneCountInString(part.Text)
		}
	}
}

// A Look is what a person is told of a value before they read it.
type Look struct {
	Counts
	Twins [][2]string // names of one object that are taken for each other
}

// Odd is how many characters people are warned of.
func (l Look) Odd() int { return l.Hidden + l.Alike }

// maxTwins bounds how many pairs are told.
const maxTwins = 20

// LookAt looks at all texts and names of values.
func LookAt(values ...action.Value) (l Look) {
	for _, v := range values {
		l.add(v)
	}
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
