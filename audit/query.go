package audit

import (
	"bytes"
	"errors"
	"strings"
	"time"

	"github.com/openleash/openleash-go/internal/jsontext"
)

// A Scope says whose entries somebody may see. The zero Scope sees nothing: a search
// with it fails.
type Scope struct {
	owner string
	whole bool
}

// OwnedBy is what an owner may see: their own entries, and those that are nobody's, as
// a start of the program.
func OwnedBy(ownerID string) Scope { return Scope{owner: ownerID} }

// Whole is the whole log, for who has the installation itself.
func Whole() Scope { return Scope{whole: true} }

// ErrNoScope is the failure of a search that does not say for whom it is.
var ErrNoScope = errors.New("searching the log: it is not said whose entries may be seen")

// Owner returns the owner to whose entries a search is bound; empty: it is not.
func (s Scope) Owner() (ownerID string, err error) {
	if s.owner == "" && !s.whole {
		return "", ErrNoScope
	}
	return s.owner, nil
}

// A Query says which lines are looked for: those to which all apply that is not empty.
type Query struct {
	Scope      Scope
	Agent      string // made by it, or about its calls
	Event      string // "approval.denied", or "approval" for all of them
	Decision   string
	DecisionID string
	Server     string
	Tool       string
	Since      time.Time // inclusive
	Until      time.Time // exclusive
	Text       string    // stands somewhere in the line, in any case

	OldestFirst bool
	From        uint64 // begin with this line: the Next of the page before; 0: at the end of the log, or at its beginning
	Limit       int
}

// A Page is a part of what a Query finds. Lines that are written meanwhile move nothing
// from one page to another.
type Page struct {
	Lines []Sequenced
	// Next is the line to go on with, 0 at the end. A page may have fewer lines than the
	// limit, even none, and a Next: so much was looked at that the caller is asked first.
	Next uint64
}

// Matches reports whether a line is one of those that are looked for.
func (q *Query) Matches(line []byte) bool {
	a, _ := ReadAbout(line)
	owner, err := q.Scope.Owner()
	if err != nil || owner != "" && len(a.OwnerID) > 0 && string(a.OwnerID) != owner {
		return false
	}
	return is(a.Agent(), q.Agent) && q.eventIs(string(a.Event)) && is(a.Decision, q.Decision) && is(a.DecisionID, q.DecisionID) &&
		is(a.Server, q.Server) && is(a.Tool, q.Tool) && q.inTime(string(a.TS)) && q.contains(line)
}

func is(got []byte, want string) bool { return want == "" || string(got) == want }

func (q *Query) eventIs(event string) bool {
	family, _, _ := strings.Cut(event, ".")
	return q.Event == "" || q.Event == event || q.Event == family
}

func (q *Query) inTime(ts string) bool {
	if q.Since.IsZero() && q.Until.IsZero() {
		return true
	}
	at, err := time.Parse(time.RFC3339, ts)
	return err == nil && !at.Before(q.Since) && (q.Until.IsZero() || at.Before(q.Until))
}

// contains looks for the text as it is, and as it is written within a string.
func (q *Query) contains(line []byte) bool {
	if q.Text == "" {
		return true
	}
	text := strings.ToLower(q.Text)
	quoted := jsontext.AppendString(nil, text)
	quoted = quoted[1 : len(quoted)-1]
	return containsFold(line, text) || string(quoted) != text && containsFold(line, string(quoted))
}

// containsFold looks for a text of lower case, in any case. Most texts are ASCII, and a
// log has gigabytes: those are compared byte by byte.
func containsFold(line []byte, text string) bool {
	if strings.ContainsFunc(text, func(r rune) bool { return r > 0x7f }) {
		return bytes.Contains(bytes.ToLower(line), []byte(text))
	}
	for i := 0; i+len(text) <= len(line); i++ {
		if lower[line[i]] == text[0] && foldsTo(line[i:i+len(text)], text) {
			return true
		}
	}
	return false
}

func foldsTo(b []byte, text string) bool {
	for i := range b {
		if lower[b[i]] != text[i] {
			return false
		}
	}
	return true
}

// lower has each byte's lower case, of ASCII.
var lower = func() (table [256]byte) {
	for i := range table {
		table[i] = byte(i)
		if 'A' <= i && i <= 'Z' {
			table[i] = byte(i + 'a' - 'A')
		}
	}
	return table
}()
