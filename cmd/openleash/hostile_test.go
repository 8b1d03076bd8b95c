package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/internal/hostiletest"
	"github.com/openleash/openleash-go/internal/visible"
	"github.com/openleash/openleash-go/policy"
)

// All of testdata/hostile is shown by `approvals show` and `approvals list`: inert,
// whole, and with the warnings that it deserves.
func TestHostileTerminal(t *testing.T) {
	var last *approvals.Request
	for _, c := range hostiletest.Cases(t, "../../testdata/hostile") {
		t.Run(c.Name, func(t *testing.T) {
			r := c.Request(t, "the-id", "owner", time.Now())
			full := shownFull(r, last, true)
			wantInert(t, full)
			wantLook(t, full, c.Want)
			rest := full
			for name, v := range r.Action.Payload.Get("arguments").Members() {
				for _, text := range []string{quoted(name), valueWritten(v)} {
					text = strings.ReplaceAll(text, "\n", "\n  | ")
					i := strings.Index(rest, text)
					if i < 0 {
						t.Fatalf("%.200q of argument %.100q is not whole, or not in its place", text, name)
					}
					rest = rest[i+len(text):]
				}
			}
			for _, said := range []string{c.Tool, c.Server, c.Reason} {
				if !strings.Contains(full, visible.Line(said)) {
					t.Errorf("%q is not to be seen", said)
				}
			}
			folded := shownFull(r, last, false)
			wantInert(t, folded)
			wantLook(t, folded, c.Want)
			if n := strings.Count(folded, "\n"); n > 1000 || len(folded) > 100_000 {
				t.Errorf("%d lines, %d bytes without --full", n, len(folded))
			}
			wantInert(t, listedOne(r))
			last = &r
		})
	}
}

// shownFull is what `approvals show` prints.
func shownFull(r approvals.Request, last *approvals.Request, full bool) string {
	var b bytes.Buffer
	(&approvalPrinter{w: &b, full: full, more: "openleash approvals show " + r.ID + " --full", r: r, now: r.CreatedAt}).print(authz.Review{Last: last})
	return b.String()
}

func listedOne(r approvals.Request) string {
	var b bytes.Buffer
	printApprovals(&b, []approvalView{viewOf(r, r.CreatedAt)})
	return b.String()
}

// valueWritten is how an argument stands behind the bars.
func valueWritten(v action.Value) string {
	if s := v.Text(); v.Kind() == action.String && (strings.Contains(s, "\n") || len(s) > shortText) {
		return "  " + strings.ReplaceAll(visible.Lines(s), "\n", "\n  ")
	}
	return visible.JSON(v)
}

// ourLine is how each line of ours begins; all others stand behind a bar.
var ourLine = regexp.MustCompile(`^(  \| |PENDING  the-id$|PENDING +the-id$|$|  (who|what|with|why asked|asked|action hash) +\S|What (would run|the policy went by|the server says of this tool \(not checked, not believed\))$|` +
	`LOOK CLOSELY$|  \d+ characters? (would be invisible|to be taken)|  the names ".*" and ".*" look alike$|  nothing: it has no arguments$|` +
	`No call of this kind was approved before$|Different from what was approved on [-0-9: ]+ \(the-id\)$|  … at least \d+ further places: openleash approvals show the-id --full$|  … (\d+ more names, )?\d+ bytes in all, sha256 [0-9a-f]{64}: openleash approvals show the-id --full$|openleash approvals (approve the-id|deny the-id --reason TEXT|show the-id tells more, and how to answer it\.)$)`)

// wantInert checks that an output neither moves a cursor nor hides or reorders, and
// that no line of others passes for one of ours.
func wantInert(t *testing.T, out string) {
	t.Helper()
	if !utf8.ValidString(out) {
		t.Error("it is not UTF-8")
	}
	for line := range strings.SplitSeq(out, "\n") {
		if i := strings.IndexFunc(line, visible.Odd); i >= 0 {
			t.Fatalf("%q in %.200q", line[i:min(len(line), i+4)], line)
		}
		if !ourLine.MatchString(line) {
			t.Errorf("the line %.200q", line)
		}
	}
}

func wantLook(t *testing.T, out string, want hostiletest.Want) {
	t.Helper()
	if strings.Contains(out, "\nLOOK CLOSELY\n") != want.Warned() {
		t.Errorf("warned? want %+v", want)
	}
	var lines []string
	if want.Hidden > 0 {
		lines = append(lines, "  "+count(want.Hidden, "character")+" would be invisible")
	}
	if want.Alike > 0 {
		lines = append(lines, "  "+count(want.Alike, "character")+" to be taken for another")
	}
	for _, pair := range want.Twins {
		lines = append(lines, fmt.Sprintf("  the names %s and %s look alike\n", quoted(pair[0]), quoted(pair[1])))
	}
	for _, line := range lines {
		if !strings.Contains(out, "\n"+line) {
			t.Errorf("want the line %q", line)
		}
	}
}

// As JSON the calls are inert too, and the same calls.
func TestHostileJSON(t *testing.T) {
	for _, c := range hostiletest.Cases(t, "../../testdata/hostile") {
		r := c.Request(t, "the-id", "owner", time.Now())
		var b bytes.Buffer
		if err := printJSON(&b, shownApproval(r, authz.Review{}, time.Now())); err != nil {
			t.Fatal(err)
		}
		if i := strings.IndexFunc(strings.ReplaceAll(b.String(), "\n", ""), visible.Odd); i >= 0 {
			t.Errorf("%s: %q", c.Name, b.String()[i:min(b.Len(), i+40)])
		}
		var back struct {
			Tool    string
			Payload json.RawMessage
			Hash    string `json:"action_hash"`
		}
		if err := json.Unmarshal(b.Bytes(), &back); err != nil {
			t.Fatal(c.Name, err)
		}
		payload, err := action.Parse(back.Payload, action.Limits{Bytes: 64 << 20, CaseTwins: true})
		if err != nil || !payload.Equal(r.Action.Payload) || back.Tool != r.Tool || back.Hash != r.ActionHash.String() {
			t.Errorf("%s: it is another call: %v", c.Name, err)
		}
	}
}

// What an action brings into `policy explain` is inert.
func TestHostileExplained(t *testing.T) {
	for _, c := range hostiletest.Cases(t, "../../testdata/hostile") {
		var b bytes.Buffer
		d := policy.Limited{Decision: policy.Decision{PolicyID: "p", Reason: c.Reason}}
		limit := &policy.Limit{ID: "p/daily"}
		charge := policy.Charge{Limit: limit, Key: `["` + c.Name + `"]`, Doubt: c.Reason}
		printExplained(&b, c.Tool, d, []policy.Explanation{{PolicyID: "p", RuleID: "r", Why: c.Description}}, nil)
		printRoom(&b, charge, authz.Room{})
		if strings.ContainsFunc(strings.ReplaceAll(b.String(), "\n", ""), visible.Odd) || strings.Contains(b.String(), "\nFORGED") {
			t.Errorf("%s: %q", c.Name, b.String())
		}
	}
}
