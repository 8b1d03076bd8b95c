package approvals

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/openleash/openleash-go/action"
)

// A model that calls a tool again words its texts anew. Two calls are near if
// nothing else differs: they have values at the same places, and these are equal but
// for prose, which has the same identifiers in the same order and shares most of its
// words.

const (
	// MaxCompared is the largest action, in canonical bytes, that is compared: what is
	// larger is near to nothing.
	MaxCompared = 64 << 10

	// fewWords is up to how many words a text is a name or a title of one: it is
	// equal or not near.
	fewWords = 2
	// enoughWords is how many words all prose of a call has together at least: two
	// short questions, for the weather here and there, are two calls.
	enoughWords = 8
	// alikeFrom is from which likeness on (0 to 1) one prose is another in other
	// words; TestNear's tables show where that is.
	alikeFrom = 0.4
)

// Near reports whether b is a in other words, and how alike they are, from 0 to 1.
func Near(a, b action.Value) (likeness float64, near bool) {
	c := comparison{likeness: 1}
	if !c.near(a, b) || min(c.words[0], c.words[1]) < enoughWords {
		return 0, false
	}
	return c.likeness, true
}

// comparison is what is known of two values so far.
type comparison struct {
	words    [2]int  // of the prose of each
	likeness float64 // of the texts that are least alike
}

func (c *comparison) near(a, b action.Value) bool {
	if a.Kind() != b.Kind() {
		return false
	}
	switch a.Kind() {
	case action.Object:
		return c.nearObjects(a, b)
	case action.Array:
		for i, v := range a.Items() {
			if i >= b.Len() || !c.near(v, b.Index(i)) {
				return false
			}
		}
		return a.Len() == b.Len()
	case action.String:
		return c.nearTexts(a.Text(), b.Text())
	default:
		return a.Equal(b)
	}
}

func (c *comparison) nearObjects(a, b action.Value) bool {
	if a.Len() != b.Len() {
		return false
	}
	others := make(map[string]action.Value, b.Len())
	for key, v := range b.Members() {
		others[key] = v
	}
	for key, v := range a.Members() {
		if !c.near(v, others[key]) { // the zero Value is Missing, and near to nothing that is there
			return false
		}
	}
	return true
}

func (c *comparison) nearTexts(a, b string) bool {
	p, q := readProse(a), readProse(b)
	if a != b {
		if min(p.words, q.words) <= fewWords || !p.sameIdentifiers(q) {
			return false
		}
		likeness := p.likeness(q)
		if likeness < alikeFrom {
			return false
		}
		c.likeness = min(c.likeness, likeness)
	}
	c.words[0] += p.words
	c.words[1] += q.words
	return true
}

// prose is a text taken apart: the words that may be others, and all that may not.
type prose struct {
	words       int
	stems       map[string]bool
	identifiers []string // in their order
}

// stem is how many characters of a word count, so that "reminder" and "reminders"
// are one.
const stem = 6

// longWord is from how many characters on what looks like a word is taken for an
// identifier.
const longWord = 30

func readProse(text string) prose {
	p := prose{stems: map[string]bool{}}
	var token strings.Builder
	var before rune // the letter before, where words are not spaced
	flush := func() {
		if token.Len() > 0 {
			p.take(token.String())
			token.Reset()
		}
	}
	for _, r := range text {
		if unspaced(r) {
			flush()
			if before != 0 {
				p.add(string([]rune{before, r}))
			}
			before = r
			continue
		}
		before = 0
		if separates(r) {
			flush()
			continue
		}
		token.WriteRune(r)
	}
	flush()
	return p
}

// separators stand between words, and in no identifier that a tool would be given.
const separators = `,;!?"()…—–«»“”„‘‹›¿¡。，、！？；：「」『』（）`

func separates(r rune) bool {
	letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' // most are
	return !letter && (unicode.IsSpace(r) || strings.ContainsRune(separators, r))
}

// unspaced reports whether r is of a script that sets no spaces between words: two
// neighbours count as a word there.
func unspaced(r rune) bool {
	return r >= 0x0E00 && unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar)
}

// take reads what stands between two spaces.
func (p *prose) take(token string) {
	token = strings.TrimRight(token, ".:*_'’")
	token = strings.TrimLeft(token, "*'’")
	switch {
	case isWord(token):
		p.add(strings.ToLower(token))
	case strings.IndexFunc(token, meaningful) >= 0:
		p.identifiers = append(p.identifiers, token)
	}
}

// meaningful reports whether r says something: a bullet, a dash or a smiley alone
// does not. What cannot be seen does.
func meaningful(r rune) bool {
	return !unicode.IsPunct(r) && !unicode.IsSymbol(r) || strings.ContainsRune(`/\~$<>=&|@`, r)
}

// isWord reports whether a token is a word of a language, as far as can be seen:
// letters, with an apostrophe or a hyphen between them, and no capital after a small
// one.
func isWord(token string) bool {
	var before rune
	for i, r := range token {
		switch {
		case unicode.IsUpper(r) && unicode.IsLower(before):
			return false
		case unicode.IsLetter(r), unicode.IsMark(r) && i > 0:
		case strings.ContainsRune("'’-", r) && unicode.IsLetter(before):
		default:
			return false
		}
		before = r
	}
	return unicode.IsLetter(before) && utf8.RuneCountInString(token) <= longWord || unicode.IsMark(before)
}

func (p *prose) add(word string) {
	p.words++
	n := 0
	for i := range word {
		if n++; n > stem {
			word = word[:i]
			break
		}
	}
	p.stems[word] = true
}

func (p prose) sameIdentifiers(q prose) bool {
	if len(p.identifiers) != len(q.identifiers) {
		return false
	}
	for i := range p.identifiers {
		if p.identifiers[i] != q.identifiers[i] {
			return false
		}
	}
	return true
}

// likeness is how much two texts share of their words, where a long word counts for
// more: short ones stand in every text.
func (p prose) likeness(q prose) float64 {
	shared, all := 0, 0
	for s := range p.stems {
		n := utf8.RuneCountInString(s)
		if all += n; q.stems[s] {
			shared += 2 * n
		}
	}
	for s := range q.stems {
		all += utf8.RuneCountInString(s)
	}
	if all == 0 {
		return 0
	}
	return float64(shared) / float64(all)
}
