package portal

import (
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/authz"
)

// happened writes entries into the log and waits for their lines.
func (w *world) happened(entries ...audit.Entry) (first uint64) {
	w.t.Helper()
	head, _, err := w.store.Head(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for batch := range slices.Chunk(entries, 200) {
		if err := w.store.Commit(w.t.Context(), authz.Batch{Entries: batch}); err != nil {
			w.t.Fatal(err)
		}
	}
	w.waitForLines(head + uint64(len(entries)))
	return head + 1
}

func (w *world) entry(event, detail string) audit.Entry {
	return audit.Entry{TS: "2026-01-02T12:04:05.000Z", Event: event, ActorType: "agent", ActorID: "bot", OwnerID: w.owner.ID, Detail: detail}
}

var rowNumber = regexp.MustCompile(`<td class="num"><a href="/audit/(\d+)"`)

// rows are the numbers of the lines that a page shows.
func rows(body string) (numbers []string) {
	for _, m := range rowNumber.FindAllStringSubmatch(body, -1) {
		numbers = append(numbers, m[1])
	}
	return numbers
}

var older = regexp.MustCompile(`<a href="(/audit\?[^"]*before=[^"]*)">(?:Older|Look further back)`)

// The log is paged through by a cursor: what is written meanwhile moves nothing.
func TestAuditPages(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	w.waitForLines(1)
	var all []audit.Entry
	for i := range 2*maxLines + 30 {
		e := w.entry("test", fmt.Sprint("number ", i))
		if i%2 == 0 {
			e.ActorID = "other"
		}
		all = append(all, e)
	}
	w.happened(all...)
	seen, address := map[string]bool{}, "/audit?agent=bot"
	for pages := 1; address != ""; pages++ {
		got := v.get(address)
		wantStatus(t, address, got, 200)
		for _, n := range rows(got.Body) {
			if seen[n] {
				t.Errorf("line %s is shown twice", n)
			}
			seen[n] = true
		}
		if strings.Contains(got.Body, "<td>other</td>") {
			t.Error("another agent's line is shown")
		}
		next := older.FindStringSubmatch(got.Body)
		if address = ""; next != nil {
			address = strings.ReplaceAll(next[1], "&amp;", "&")
		}
		if pages == 2 != (address == "") {
			t.Fatalf("page %d: the next is %q", pages, address)
		}
		w.happened(w.entry("test", "meanwhile"))
	}
	if len(seen) != maxLines+15 {
		t.Errorf("%d lines are shown, want %d", len(seen), maxLines+15)
	}
}

func TestAuditFilters(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	w.waitForLines(1)
	denied := w.entry("decision", "")
	denied.Decision, denied.Reason, denied.DecisionID = new("DENY"), `Nothing "over" five`, "d1"
	late := w.entry("outcome", "late")
	late.TS, late.DecisionID = "2026-01-05T12:00:00.000Z", "d1"
	first := w.happened(denied, late, w.entry("policy.reloaded", "x"))
	number := func(i uint64) string { return fmt.Sprint(first + i) }
	for query, want := range map[string][]string{
		"decision=DENY":                 {number(0)},
		"event=policy":                  {number(2)},
		"event=policy.reloaded":         {number(2)},
		"decision_id=d1":                {number(1), number(0)},
		"text=%22OVER%22":               {number(0)},
		"from=2026-01-05&to=2026-01-05": {number(1)},
		"to=2026-01-04":                 {number(2), number(0)},
		"agent=nobody":                  nil,
		"agent=+bot+&event=":            {number(2), number(1), number(0)},
	} {
		got := v.get("/audit?" + query)
		if numbers := rows(got.Body); got.Status != 200 || !slices.Equal(numbers, want) {
			t.Errorf("%s: want lines %v, got %v (%d)", query, want, numbers, got.Status)
		}
	}
	wantText(t, "the form", v.get("/audit?agent=bot&event=new.one&text=%3Cb%3E&from=2026-01-05"), `value="bot"`, `<option selected>new.one</option>`, `value="&lt;b&gt;"`, `value="2026-01-05"`)
	for _, query := range []string{"before=x", "before=-1", "from=yesterday", "to=2026-13-01", "text=" + strings.Repeat("a", maxFilter+1)} {
		wantStatus(t, query, v.get("/audit?"+query), 400)
	}
}

// Another owner's entries are on no page, whatever is asked for.
func TestAuditShowsNoOtherOwners(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	w.waitForLines(1)
	theirs := w.entry("decision", "secret of the other")
	theirs.OwnerID, theirs.DecisionID = "99999999-2222-4333-8444-555555555555", "d2"
	nobodys := w.entry("start", "nobody's")
	nobodys.OwnerID = ""
	first := w.happened(theirs, nobodys, w.entry("decision", "mine"))
	for _, query := range []string{"", "?agent=bot", "?text=secret", "?decision_id=d2", "?event=decision", fmt.Sprintf("?before=%d", first)} {
		if got := v.get("/audit" + query); strings.Contains(got.Body, "secret of the other") || got.Status != 200 {
			t.Errorf("%s shows it (%d)", query, got.Status)
		}
	}
	for i, want := range []int{404, 200, 200} {
		wantStatus(t, fmt.Sprint("line ", i), v.get(fmt.Sprint("/audit/", first+uint64(i))), want)
	}
}

// A line can be looked at whole, with what is large cut off and said so.
func TestAuditLine(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	w.waitForLines(1)
	e := w.entry("decision", "<b>a\u202eb")
	e.Decision, e.DecisionID, e.ApprovalID = new("ALLOW"), "d1", "r1"
	e.Payload = []byte(`{"arguments":{"to":"<ann>","text":"` + strings.Repeat("x", maxMember) + `"}}`)
	seq := w.happened(e)
	got := v.get(fmt.Sprint("/audit/", seq))
	wantStatus(t, "the line", got, 200)
	wantText(t, "the line", got, "decision_id", "d1", `href="/audit?decision_id=d1"`, `href="/approvals/r1"`, `&lt;b&gt;a<span class="odd"`, "more bytes", "&#34;to&#34;: &#34;&lt;ann&gt;&#34;")
	if len(got.Body) > 4*maxMember {
		t.Errorf("the page has %d bytes", len(got.Body))
	}
	for _, path := range []string{"/audit/0", "/audit/x", "/audit/-1", "/audit/999999", "/audit/99999999999999999999"} {
		wantStatus(t, path, v.get(path), 404)
	}
}

// The choice of events has every kind that the log's page in the docs has.
func TestAuditFamilies(t *testing.T) {
	text, err := os.ReadFile("../docs/audit.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?m)^### `([a-z_]+)").FindAllStringSubmatch(string(text), -1)
	if len(found) < 10 {
		t.Fatalf("%d events in docs/audit.md", len(found))
	}
	for _, m := range found {
		if !slices.Contains(families, m[1]) {
			t.Errorf("docs/audit.md has events of the kind %q: add it to families in audit.go", m[1])
		}
	}
}

func TestAuditAddresses(t *testing.T) {
	f := logFilter{Agent: "a&b", Text: `"x"`, Before: 9}
	u, err := url.Parse(f.at(7))
	if err != nil {
		t.Fatal(err)
	}
	if q := u.Query(); q.Get("agent") != "a&b" || q.Get("text") != `"x"` || q.Get("before") != "7" || len(q) != 3 {
		t.Errorf("got %s", u)
	}
}
