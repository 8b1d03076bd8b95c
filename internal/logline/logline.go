// Package logline says in a few words what a line of the log is about: for a row of a
// page, or one line at a terminal. It knows today's events and shows those that it does
// not know by their fields. What it returns is what agents and servers wrote: whoever
// shows it makes it visible first.
package logline

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/openleash/openleash-go/audit"
)

// A Line is an entry with what a person looks at first.
type Line struct {
	Seq uint64
	audit.Entry
	Time    time.Time // zero: it is not readable
	Level   string    // "good", "bad", "wait" or ""
	Subject string    // what it is about: the tool, or the type of the action
}

// Read reads a line, without what was decided on, which can be large.
func Read(sq audit.Sequenced) (Line, error) {
	l := Line{Seq: sq.Seq}
	if err := json.Unmarshal(sq.Line, &l.Entry); err != nil {
		return l, fmt.Errorf("reading line %d of the log: %w", sq.Seq, err)
	}
	l.Payload, l.ToolInfo = nil, nil
	l.Time, _ = time.Parse(time.RFC3339, l.TS)
	l.Level, l.Subject = level(l.Entry), subject(l.Entry)
	return l, nil
}

func subject(e audit.Entry) string {
	switch {
	case e.Event == "limit.released" && len(e.Limits) > 0:
		return e.Limits[0].ID
	case e.Tool != "":
		return e.Server + " · " + e.Tool
	case e.ActionType != nil:
		return *e.ActionType
	case e.AgentID != "":
		return e.AgentID
	default:
		return e.Detail
	}
}

func level(e audit.Entry) string {
	switch {
	case e.Decision != nil && *e.Decision == "ALLOW", e.Event == "approval.approved", e.Event == "grant.given", e.Outcome == "ok":
		return "good"
	case e.Decision != nil && *e.Decision == "DENY", e.Event == "approval.denied", bad(e.Event), e.Outcome != "":
		return "bad"
	case e.Decision != nil:
		return "wait"
	default:
		return ""
	}
}

func bad(event string) bool {
	for _, end := range []string{"_refused", ".refused", ".withdrawn", ".rejected"} {
		if strings.HasSuffix(event, end) {
			return true
		}
	}
	return false
}

// Says is the decision, the outcome and how long it took, or nothing.
func (l Line) Says() string {
	switch {
	case l.Decision != nil:
		return strings.ReplaceAll(*l.Decision, "_", " ")
	case l.Outcome != "" && l.DurationMS != nil:
		return strings.ReplaceAll(l.Outcome, "_", " ") + ", " + strconv.FormatInt(*l.DurationMS, 10) + " ms"
	default:
		return strings.ReplaceAll(l.Outcome, "_", " ")
	}
}

// Policy is the policy that decided, or nothing.
func (l Line) Policy() string {
	if l.PolicyID == nil {
		return ""
	}
	return *l.PolicyID
}

// Why is the reason, or what else there is to say.
func (l Line) Why() string {
	if l.Reason == "" && l.Detail != l.Subject {
		return l.Detail
	}
	return l.Reason
}

// A Member is one member of a line, by its name: a string's text, or JSON.
type Member struct {
	Name string
	Text string
	JSON bool
}

// Members are all of a line, in its order.
func Members(line []byte) (all []Member, err error) {
	d := json.NewDecoder(strings.NewReader(string(line)))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, fmt.Errorf("reading a line of the log: want a JSON object, got %.60q", line)
	}
	for d.More() {
		name, err := d.Token()
		var value json.RawMessage
		if err == nil {
			err = d.Decode(&value)
		}
		if err != nil {
			return nil, fmt.Errorf("reading a line of the log: %w", err)
		}
		m := Member{Name: fmt.Sprint(name), Text: string(value), JSON: true}
		if json.Unmarshal(value, &m.Text) == nil && string(value) != "null" {
			m.JSON = false
		}
		all = append(all, m)
	}
	if _, err := d.Token(); err != nil {
		return nil, fmt.Errorf("reading a line of the log: %w", err)
	}
	return all, nil
}
