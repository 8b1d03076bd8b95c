package portal

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/identity"
)

// maxLines is how much of the log one page shows.
const maxLines = 200

// line is one entry as the table shows it.
type line struct {
	Seq uint64
	audit.Entry
	Time    time.Time
	Level   string // "good", "bad", "wait" or "": the colour of the decision
	Subject string // what it is about: the tool, or the type of the action
}

type auditPage struct {
	page
	Lines []line
	Total uint64
	Fault string // why the log cannot be written
}

func (p *portal) audit(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	base, err := p.page(r, s, "Log", "audit")
	if err != nil {
		return err
	}
	data := auditPage{page: base}
	if data.Lines, data.Total, err = p.lastLines(r); err != nil {
		return err
	}
	if err := p.LogErr(); err != nil {
		data.Fault = err.Error()
	}
	return p.render(w, http.StatusOK, "audit.html", data)
}

// lastLines reads the end of the log, newest first.
func (p *portal) lastLines(r *http.Request) ([]line, uint64, error) {
	head, _, err := p.Store.Head(r.Context())
	if err != nil {
		return nil, 0, err
	}
	from := uint64(1)
	if head > maxLines {
		from = head - maxLines + 1
	}
	lines := make([]line, 0, maxLines)
	for from <= head {
		some, err := p.Store.Lines(r.Context(), from, maxLines)
		if err != nil || len(some) == 0 {
			return nil, 0, err
		}
		for _, sq := range some {
			l, err := readLine(sq)
			if err != nil {
				return nil, 0, err
			}
			lines = append(lines, l)
		}
		from = some[len(some)-1].Seq + 1
	}
	slices.Reverse(lines)
	return lines, head, nil
}

func readLine(sq audit.Sequenced) (line, error) {
	l := line{Seq: sq.Seq}
	if err := json.Unmarshal(sq.Line, &l.Entry); err != nil {
		return l, fmt.Errorf("reading line %d of the log: %w", sq.Seq, err)
	}
	l.Payload, l.ToolInfo = nil, nil           // not shown, and large
	l.Time, _ = time.Parse(time.RFC3339, l.TS) // the zero time is shown as the text that it is
	l.Level, l.Subject = level(l.Entry), subject(l.Entry)
	return l, nil
}

// subject is what an entry is about.
func subject(e audit.Entry) string {
	switch {
	case e.Event == "limit.released" && len(e.Limits) > 0:
		return e.Limits[0].ID
	case e.Tool != "":
		return e.Server + " · " + e.Tool
	case e.ActionType != nil:
		return *e.ActionType
	default:
		return e.Detail
	}
}

func level(e audit.Entry) string {
	switch {
	case e.Decision != nil && *e.Decision == "ALLOW", e.Event == "approval.approved", e.Event == "grant.given", e.Outcome == "ok":
		return "good"
	case e.Decision != nil && *e.Decision == "DENY", e.Event == "approval.denied", strings.HasSuffix(e.Event, "_refused"), strings.HasSuffix(e.Event, ".withdrawn"), e.Outcome != "":
		return "bad"
	case e.Decision != nil:
		return "wait"
	default:
		return ""
	}
}

// Says is the decision, the outcome, or nothing.
func (l line) Says() string {
	switch {
	case l.Decision != nil:
		return strings.ReplaceAll(*l.Decision, "_", " ")
	case l.Outcome != "":
		return strings.ReplaceAll(l.Outcome, "_", " ")
	default:
		return ""
	}
}

// Policy is the policy that decided, or nothing.
func (l line) Policy() string {
	if l.PolicyID == nil {
		return ""
	}
	return *l.PolicyID
}
