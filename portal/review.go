package portal

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/internal/diff"
)

// roomRow is one limit that a request would be charged to.
type roomRow struct {
	ID    string
	Bound string
	For   string // whom it counts apart; empty: all together
	Taken string // used and held
	Left  string
	This  string
	Fits  bool
	Doubt string // why it cannot be counted; then there are no numbers
}

func roomRows(list []authz.LimitRoom) (rows []roomRow) {
	for _, l := range list {
		limit := l.Charge.Limit
		row := roomRow{ID: limit.ID, Bound: limit.Bound(), For: limit.Whose(l.Key), Fits: l.Fits, Doubt: l.Doubt}
		if l.Doubt == "" {
			row.Taken, row.Left, row.This = limit.Text(l.Used+l.Held), limit.Text(l.Left()), limit.Text(l.Amount)
		}
		rows = append(rows, row)
	}
	return rows
}

// sinceLast is what is different from the last approved call of the kind.
type sinceLast struct {
	ID      string
	When    time.Time
	Changes []changeRow // none: it is the same
	More    int         // how many further places are different
}

// changeRow is one place that is different.
type changeRow struct {
	Path string
	Old  markup // empty: it was not there
	New  markup // empty: it is not there any more
	Text markup // of two texts that have something alike: the words that went and came
}

// maxRows is how many places are shown.
const maxRows = 100

func newSinceLast(last *approvals.Request, now approvals.Request) *sinceLast {
	if last == nil {
		return nil
	}
	changes := diff.Values(last.Action.Payload, now.Action.Payload)
	shown := changes[:min(len(changes), maxRows)]
	return &sinceLast{ID: last.ID, When: last.AnsweredAt, Changes: changeRows(shown), More: len(changes) - len(shown)}
}

func changeRows(changes []diff.Change) (rows []changeRow) {
	for _, c := range changes {
		row := changeRow{Path: strings.TrimPrefix(c.Path, "."), Text: wordsHTML(c.Words)}
		if row.Text == "" {
			row.Old, row.New = beginningHTML(c.Old), beginningHTML(c.New)
		}
		rows = append(rows, row)
	}
	return rows
}

// beginningHTML shows a value, a long one by how it begins: it stands whole elsewhere.
func beginningHTML(v action.Value) markup {
	if v.Kind() == action.Missing {
		return ""
	}
	size := len(v.Canonical())
	if size <= foldedText {
		return jsonHTML(v)
	}
	return inlineHTML(firstRunes(string(v.Canonical()), headText)) + markup(fmt.Sprintf(` <span class="aside">… %d bytes in all</span>`, size))
}

const (
	// maxPieces is how many pieces of a text are shown; in more nobody finds anything.
	maxPieces = 500
	// maxPiece is how much of one, in characters.
	maxPiece = 1200
)

// wordsHTML marks what went and what came; empty when the texts have nothing alike.
func wordsHTML(words []diff.Piece) markup {
	var b strings.Builder
	alike := false
	for _, w := range words {
		switch w.Op {
		case diff.Delete:
			b.WriteString("<del>" + string(pieceHTML(w.Text)) + "</del>")
		case diff.Insert:
			b.WriteString("<ins>" + string(pieceHTML(w.Text)) + "</ins>")
		default:
			alike = alike || strings.TrimSpace(w.Text) != ""
			b.WriteString(string(keptHTML(w.Text)))
		}
	}
	if !alike || len(words) > maxPieces {
		return ""
	}
	return markup(b.String())
}

// pieceHTML shows a piece of a text, a long one by how it begins.
func pieceHTML(s string) markup {
	head := firstRunes(s, maxPiece)
	if head == s {
		return blockHTML(s)
	}
	return blockHTML(head) + left(s[len(head):])
}

// keptHTML shows what stayed, a long piece by its ends: what is next to a change tells
// where it is.
func keptHTML(s string) markup {
	if utf8.RuneCountInString(s) <= maxPiece {
		return blockHTML(s)
	}
	head := firstRunes(s, maxPiece/4)
	end := len(s)
	for range maxPiece / 4 {
		_, size := utf8.DecodeLastRuneInString(s[:end])
		end -= size
	}
	return blockHTML(head) + left(s[len(head):end]) + blockHTML(s[end:])
}

// left says how much is not shown.
func left(s string) markup {
	return markup(fmt.Sprintf(` <span class="aside">… %d characters …</span> `, utf8.RuneCountInString(s)))
}
