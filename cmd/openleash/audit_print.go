package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/internal/logline"
	"github.com/openleash/openleash-go/internal/visible"
)

// A linePrinter prints entries of the log: each on one short line, or as they stand.
type linePrinter struct {
	out    io.Writer
	json   bool
	colour bool
}

func newLinePrinter(out io.Writer, asJSON bool) *linePrinter {
	return &linePrinter{out: out, json: asJSON, colour: isTerminal(out) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// colours of what a line says, and of what stands behind.
var colours = map[string]string{"good": "\x1b[32m", "bad": "\x1b[31m", "wait": "\x1b[33m", "faint": "\x1b[2m"}

// paint colours a text that is visible already.
func (p *linePrinter) paint(colour, text string) string {
	if code := colours[colour]; p.colour && code != "" && text != "" {
		return code + text + "\x1b[0m"
	}
	return text
}

func (p *linePrinter) print(sq audit.Sequenced) error {
	text := visible.JSONText(string(sq.Line))
	if !p.json {
		l, err := logline.Read(sq)
		if err != nil {
			return err
		}
		text = p.short(l)
	}
	_, err := fmt.Fprintln(p.out, text)
	return err
}

// maxWhy is how much of a reason stands on a short line.
const maxWhy = 120

// short is a line of a few words:
//
//	42  2026-11-26 22:52:13  bot  decision  DENY  shop · buy  too expensive  (shopping/large)
func (p *linePrinter) short(l logline.Line) string {
	when := clip(l.TS, 30)
	if !l.Time.IsZero() {
		when = l.Time.Local().Format(time.DateTime)
	}
	columns := []string{
		fmt.Sprintf("%5d", l.Seq), p.paint("faint", when), pad(clip(l.ActorID, 40), 10), pad(clip(l.Event, 40), 17),
		p.paint(l.Level, pad(clip(l.Says(), 40), 16)), pad(clip(l.Subject, 80), 20),
	}
	for _, more := range []string{clip(l.Why(), maxWhy), p.paint("faint", decider(l))} {
		if more != "" {
			columns = append(columns, more)
		}
	}
	return strings.TrimRight(strings.Join(columns, "  "), " ")
}

// decider is the policy that decided, and its rule.
func decider(l logline.Line) string {
	switch {
	case l.Decision == nil || l.Policy() == "":
		return ""
	case l.MatchedRuleID == "":
		return "(" + clip(l.Policy(), 40) + ")"
	}
	return "(" + clip(l.Policy(), 40) + "/" + clip(l.MatchedRuleID, 40) + ")"
}

// clip makes a text visible, and short.
func clip(text string, most int) string {
	runes := []rune(strings.ToValidUTF8(text, "\ufffd"))
	if len(runes) <= most {
		return visible.Line(string(runes))
	}
	return visible.Line(string(runes[:most-1])) + "…"
}

func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(text)))
}
