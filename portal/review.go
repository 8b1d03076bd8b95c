package portal

import (
	"strings"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/internal/diff"
	"github.com/openleash/openleash-go/internal/visible"
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
}

// changeRow is one place that is different.
type changeRow struct {
	Path string
	Old  markup // empty: it was not there
	New  markup // empty: it is not there any more
	Text markup // of two texts that have something alike: the words that went and came
}

func newSinceLast(last *approvals.Request, now approvals.Request) *sinceLast {
	if last == nil {
		return nil
	}
	return &sinceLast{ID: last.ID, When: last.AnsweredAt, Changes: changeRows(last.Action.Payload, now.Action.Payload)}
}

func changeRows(old, new action.Value) (rows []changeRow) {
	for _, c := range diff.Values(old, new) {
		row := changeRow{Path: strings.TrimPrefix(c.Path, "."), Text: wordsHTML(c.Words)}
		if row.Text == "" && c.Old.Kind() != action.Missing {
			row.Old = jsonHTML(c.Old)
		}
		if row.Text == "" && c.New.Kind() != action.Missing {
			row.New = jsonHTML(c.New)
		}
		rows = append(rows, row)
	}
	return rows
}

// wordsHTML marks what went and what came; empty when the texts have nothing alike.
func wordsHTML(words []diff.Piece) markup {
	var b strings.Builder
	alike := false
	for _, w := range words {
		text := string(blockHTML(w.Text))
		switch w.Op {
		case diff.Delete:
			text = "<del>" + text + "</del>"
		case diff.Insert:
			text = "<ins>" + text + "</ins>"
		default:
			alike = alike || strings.TrimSpace(visible.Line(w.Text)) != ""
		}
		b.WriteString(text)
	}
	if !alike {
		return ""
	}
	return markup(b.String())
}
