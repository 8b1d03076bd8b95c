package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/internal/logline"
)

// lineOf is the line of an entry.
func lineOf(t testing.TB, seq uint64, e audit.Entry) audit.Sequenced {
	t.Helper()
	body, err := audit.Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	return audit.Sequenced{Seq: seq, Line: append(fmt.Appendf(nil, `{"seq":%d,"prev":"sha256:%064x",`, seq, seq), body[1:]...)}
}

// What is exported as CSV is what the line has: read back, and free of formulas.
func TestCSVIsExact(t *testing.T) {
	texts := []string{
		"plain", "", "=1+1", "+1", "-1", "@SUM(A1)", "'quoted", "''twice", "a,b", `say "x"`, "two\nlines", " =1", "\t=1", "\ufeff=1", "＝1", "\u200b-1", " lead", "ä", "null", "{}",
	}
	for _, text := range texts {
		e := audit.Entry{TS: "2026-11-26T22:52:13.288Z", Event: "decision", ActorType: "agent", ActorID: text, PolicyID: &text, Reason: text, SignatureValid: new(true), DurationMS: new(int64(-5)), Payload: json.RawMessage(`{"a":[1.10,"=x"]}`)}
		l := lineOf(t, 7, e)
		var out bytes.Buffer
		write, flush := csvWriter(&out, false)
		if err := write(l); err != nil {
			t.Fatal(err)
		}
		if err := flush(); err != nil {
			t.Fatal(err)
		}
		rows, err := csv.NewReader(&out).ReadAll()
		if err != nil || len(rows) != 2 {
			t.Fatalf("%q: %d rows: %v", text, len(rows), err)
		}
		got := map[string]string{}
		for i, name := range rows[0] {
			got[name] = rows[1][i]
		}
		for _, name := range []string{"actor_id", "policy_id", "reason"} {
			if back := strings.TrimPrefix(got[name], "'"); back != text {
				t.Errorf("%s: want %q, got %q", name, text, got[name])
			}
			first := strings.TrimLeftFunc(got[name], func(r rune) bool { return unicode.IsSpace(r) || r == '\ufeff' || r == '\u200b' })
			if first != "" && strings.ContainsRune("=+-@＝", []rune(first)[0]) {
				t.Errorf("%s: %q is a formula", name, got[name])
			}
		}
		if got["seq"] != "7" || got["signature_valid"] != "true" || got["duration_ms"] != "-5" || got["payload"] != `{"a":[1.10,"=x"]}` || got["decision"] != "" {
			t.Errorf("got %v", got)
		}
	}
}

// Every field has its column.
func TestCSVColumns(t *testing.T) {
	columns := csvColumns()
	if n := reflect.TypeFor[audit.Entry]().NumField(); len(columns) != n+2 || columns[2] != "ts" {
		t.Errorf("%d columns for %d fields: %v", len(columns), n, columns)
	}
	write, _ := csvWriter(&bytes.Buffer{}, false)
	if err := write(audit.Sequenced{Seq: 1, Line: []byte(`{"seq":1,"novel":2}`)}); err == nil || !strings.Contains(err.Error(), `"novel"`) {
		t.Errorf("a field without a column: %v", err)
	}
}

// Nothing that an entry says does anything to a terminal, with colours and without.
func FuzzShortLine(f *testing.F) {
	f.Add("bot", "too \x1b[31mexpensive\x1b[0m", "shop", "buy\u202e", "ALLOW")
	f.Add("\r\n", "\u009b2J", "\x07", "a\tb", "DENY\x1b")
	f.Fuzz(func(t *testing.T, actor, reason, server, tool, decision string) {
		l := lineOf(t, 1, audit.Entry{TS: reason, Event: tool, ActorID: actor, Reason: reason, Server: server, Tool: tool, Decision: &decision, PolicyID: &server, MatchedRuleID: reason})
		for _, colour := range []bool{false, true} {
			var out bytes.Buffer
			p := &linePrinter{out: &out, colour: colour}
			if err := p.print(l); err != nil {
				t.Skip(err)
			}
			text := strings.TrimSuffix(out.String(), "\n")
			for _, code := range colours {
				text = strings.ReplaceAll(text, code, "")
			}
			text = strings.ReplaceAll(text, "\x1b[0m", "")
			for _, r := range text {
				if r != ' ' && !unicode.IsPrint(r) {
					t.Errorf("%q has %q", text, r)
				}
			}
			if strings.Contains(text, "\n") || len([]rune(text)) > 4000 {
				t.Errorf("it is no short line: %q", text)
			}
		}
	})
}

func TestShortLineColours(t *testing.T) {
	l, err := logline.Read(lineOf(t, 1, audit.Entry{TS: "2026-11-26T22:52:13.288Z", Event: "decision", ActorID: "bot", Decision: new("DENY")}))
	if err != nil {
		t.Fatal(err)
	}
	if got := (&linePrinter{colour: true}).short(l); !strings.Contains(got, "\x1b[31mDENY") {
		t.Errorf("without its colour: %q", got)
	}
	if got := (&linePrinter{}).short(l); strings.Contains(got, "\x1b") {
		t.Errorf("with a colour: %q", got)
	}
	t.Setenv("NO_COLOR", "1")
	if newLinePrinter(&bytes.Buffer{}, false).colour {
		t.Error("colours where they are not wanted")
	}
}

func TestPointInTime(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.FixedZone("", 3600))
	for _, test := range []struct {
		text string
		days int
		want string
	}{
		{"2h", 0, "2026-11-26T10:00:00+01:00"}, {"7d", 0, "2026-11-19T12:00:00+01:00"}, {"2026-11-20", 0, "2026-11-20T00:00:00+01:00"},
		{"2026-11-20", 1, "2026-11-21T00:00:00+01:00"}, {"2026-11-20T09:00:00Z", 1, "2026-11-20T09:00:00Z"},
	} {
		got, err := pointInTime(test.text, now, test.days)
		if err != nil || got.Format(time.RFC3339) != test.want {
			t.Errorf("%s: want %s, got %s, %v", test.text, test.want, got.Format(time.RFC3339), err)
		}
	}
	for _, text := range []string{"-2h", "0h", "yesterday", "2026-13-01", "2026-11-26 09:00"} {
		if got, err := pointInTime(text, now, 0); err == nil {
			t.Errorf("%s: got %s", text, got)
		}
	}
}

// Approvals are counted by request, and their time runs from the first call that asked.
func TestLogStats(t *testing.T) {
	s := newLogStats(true)
	add := func(second int, e audit.Entry) {
		e.TS = time.Date(2026, 11, 26, 23, 59, second, 0, time.UTC).Format("2006-01-02T15:04:05.000Z")
		s.add(lineOf(t, 1, e).Line)
	}
	held := audit.Entry{Event: "decision", ActorType: "agent", ActorID: "bot", Decision: new("REQUIRE_APPROVAL"), PolicyID: new("shop"), MatchedRuleID: "ask", ApprovalID: "r1"}
	add(0, held)
	add(10, held)
	add(30, audit.Entry{Event: "approval.approved", ActorType: "owner", ApprovalID: "r1"})
	run := held
	run.Decision = new("ALLOW")
	add(31, run)
	add(32, audit.Entry{Event: "outcome", Outcome: "ok"})
	held.ApprovalID = "r2"
	add(40, held)
	add(100, audit.Entry{Event: "approval.denied", ApprovalID: "r2"})
	add(101, audit.Entry{Event: "approval.withdrawn", ApprovalID: "r1"})
	add(102, audit.Entry{Event: "decision", ActorID: "bot", Decision: new("DENY")})
	s.end()
	want := approvalStats{Asked: 2, Approved: 1, Denied: 1, Withdrawn: 1, MedianMS: new(int64(60_000)), LongestMS: new(int64(60_000))}
	if !reflect.DeepEqual(s.Approvals, want) {
		t.Errorf("approvals: %+v", s.Approvals)
	}
	if !reflect.DeepEqual(s.Decisions, tally{"REQUIRE_APPROVAL": 3, "ALLOW": 1, "DENY": 1}) || !reflect.DeepEqual(s.Outcomes, tally{"ok": 1}) {
		t.Errorf("decisions %v, outcomes %v", s.Decisions, s.Outcomes)
	}
	if !reflect.DeepEqual(s.Rules, map[string]tally{"shop/ask": {"REQUIRE_APPROVAL": 3, "ALLOW": 1}, "-": {"DENY": 1}}) {
		t.Errorf("rules %v", s.Rules)
	}
	if len(s.Days) != 2 || s.Days[1].Day != "2026-11-27" || s.Days[1].Decisions["DENY"] != 1 {
		t.Errorf("days %+v", s.Days)
	}
	var out strings.Builder
	s.print(&out)
	for _, text := range []string{"APPROVALS  2 asked for, 1 approved, 1 denied, 1 withdrawn", "half of them within 1m0s", "2026-11-27"} {
		if !strings.Contains(out.String(), text) {
			t.Errorf("%q is missing:\n%s", text, out.String())
		}
	}
}
