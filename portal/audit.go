package portal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/internal/logline"
)

const (
	// maxLines is how much of the log one page shows.
	maxLines = 100
	// maxFilter is how long a filter may be.
	maxFilter = 200
	// maxMember is how much is shown of one member of a line.
	maxMember = 64 << 10
)

// families are the kinds of events, as the choice has them.
var families = []string{
	"decision", "outcome", "approval", "grant", "limit", "definition", "policy", "agent", "portal", "session", "access", "upstream", "owner", "key", "log", "witness", "start", "stop",
}

// decisions are what can be decided, and what the choice calls it.
var decisions = [][2]string{
	{"ALLOW", "allowed"}, {"DENY", "refused"}, {"REQUIRE_APPROVAL", "held for an approval"}, {"REQUIRE_STEP_UP", "held for a step-up"}, {"REQUIRE_DEPOSIT", "held for a deposit"},
}

// A logFilter is what the log's page is asked for, as it was written.
type logFilter struct {
	Agent, Kind, Decision, DecisionID, Text, From, To string
	Before                                            uint64 // the line to begin with; 0: the newest
}

type auditPage struct {
	page
	logFilter
	Lines    []logline.Line
	Families []string
	Choices  [][2]string
	Older    string // the address of what is older; empty: nothing is
	Seen     uint64 // so far the search has come, if it has not come to its end
	Fault    string // why the log cannot be written
}

// Filtered: not all of the log is asked for.
func (f logFilter) Filtered() bool {
	f.Before = 0
	return f != logFilter{}
}

func (p *portal) audit(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	filter, query, err := readFilter(r.URL.Query(), s)
	if err != nil {
		return err
	}
	base, err := p.page(r, s, "Log", "audit")
	if err != nil {
		return err
	}
	data := auditPage{page: base, logFilter: filter, Families: families, Choices: decisions}
	if err := p.LogErr(); err != nil {
		data.Fault = err.Error()
	}
	if err := p.find(r, query, &data); err != nil {
		return err
	}
	return p.render(w, http.StatusOK, "audit.html", data)
}

// find looks for one line more than is shown, which the page after this begins with.
func (p *portal) find(r *http.Request, q audit.Query, data *auditPage) error {
	found, err := p.Store.Search(r.Context(), q)
	if err != nil {
		return err
	}
	next := found.Next
	if len(found.Lines) > maxLines {
		next = found.Lines[maxLines].Seq
		found.Lines = found.Lines[:maxLines]
	} else if next != 0 {
		data.Seen = next + 1
	}
	if next != 0 {
		data.Older = data.logFilter.at(next)
	}
	for _, sq := range found.Lines {
		l, err := logline.Read(sq)
		if err != nil {
			return err
		}
		data.Lines = append(data.Lines, l)
	}
	return nil
}

// at is the address of the same filter, from a line on.
func (f logFilter) at(line uint64) string {
	v := url.Values{"before": {strconv.FormatUint(line, 10)}}
	for name, text := range f.texts() {
		if *text != "" {
			v.Set(name, *text)
		}
	}
	return "/audit?" + v.Encode()
}

// texts are the parts of a filter, by their names in an address.
func (f *logFilter) texts() map[string]*string {
	return map[string]*string{
		"agent": &f.Agent, "event": &f.Kind, "decision": &f.Decision, "decision_id": &f.DecisionID, "text": &f.Text, "from": &f.From, "to": &f.To,
	}
}

// readFilter reads what the page is asked for. Whose entries may be seen is no part of
// that: it is the owner who is signed in.
func readFilter(v url.Values, s identity.Session) (f logFilter, q audit.Query, err error) {
	for name, text := range f.texts() {
		if *text = strings.TrimSpace(v.Get(name)); len(*text) > maxFilter {
			return f, q, badFilter(fmt.Sprintf("%s has %d characters. At most %d are looked for.", name, len(*text), maxFilter))
		}
	}
	if before := v.Get("before"); before != "" {
		if f.Before, err = strconv.ParseUint(before, 10, 63); err != nil {
			return f, q, badFilter("before: want the number of a line.")
		}
	}
	q = audit.Query{
		Scope: audit.OwnedBy(s.OwnerID), Agent: f.Agent, Event: f.Kind, Decision: f.Decision, DecisionID: f.DecisionID, Text: f.Text,
		From: f.Before, Limit: maxLines + 1,
	}
	if q.Since, err = day(f.From, 0); err == nil {
		q.Until, err = day(f.To, 1)
	}
	return f, q, err
}

// day is the beginning of a day, or of one that comes after it.
func day(text string, after int) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.ParseInLocation(time.DateOnly, text, time.Local)
	if err != nil {
		return t, badFilter("A day is written like 2026-11-26.")
	}
	return t.AddDate(0, 0, after), nil
}

func badFilter(text string) error {
	return &pageError{status: http.StatusBadRequest, Title: "That cannot be looked for", Text: text, Retry: "/audit"}
}

// A shownMember is a member of a line, as much of it as is shown.
type shownMember struct {
	logline.Member
	Left int // bytes that are not shown
}

type auditLinePage struct {
	page
	logline.Line
	Members []shownMember
	Older   string
}

// auditLine shows one line whole.
func (p *portal) auditLine(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	seq, err := strconv.ParseUint(r.PathValue("seq"), 10, 63)
	if err != nil || seq == 0 {
		return errNoLine
	}
	found, err := p.Store.Search(r.Context(), audit.Query{Scope: audit.OwnedBy(s.OwnerID), From: seq, Limit: 1})
	if err != nil {
		return err
	}
	if len(found.Lines) == 0 || found.Lines[0].Seq != seq {
		return errNoLine
	}
	data := auditLinePage{Older: logFilter{}.at(seq)}
	if data.page, err = p.page(r, s, fmt.Sprintf("Log, line %d", seq), "audit"); err != nil {
		return err
	}
	if data.Line, err = logline.Read(found.Lines[0]); err != nil {
		return err
	}
	if data.Members, err = shown(found.Lines[0].Line); err != nil {
		return err
	}
	return p.render(w, http.StatusOK, "line.html", data)
}

var errNoLine = &pageError{status: http.StatusNotFound, Title: "No such line", Text: "The log has no line of this number that you may see.", Retry: "/audit"}

func shown(text []byte) (all []shownMember, err error) {
	members, err := logline.Members(text)
	for _, m := range members {
		if m.Text == "null" && m.JSON {
			continue
		}
		if m.JSON {
			m.Text = indent(m.Text)
		}
		whole := len(m.Text)
		m.Text = strings.ToValidUTF8(m.Text[:min(whole, maxMember)], "")
		all = append(all, shownMember{m, whole - len(m.Text)})
	}
	return all, err
}

func indent(text string) string {
	var b bytes.Buffer
	if json.Indent(&b, []byte(text), "", "  ") != nil {
		return text
	}
	return b.String()
}
