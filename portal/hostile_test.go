package portal

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/internal/hostiletest"
	"github.com/openleash/openleash-go/internal/visible"
)

const hostileFolder = "../testdata/hostile"

// holdCase makes the request of a case.
func (w *world) holdCase(c hostiletest.Case) approvals.Request {
	w.t.Helper()
	r := c.Request(w.t, uuid.NewString(), w.owner.ID, w.now())
	if err := w.store.Commit(w.t.Context(), authz.Batch{Open: &r}); err != nil {
		w.t.Fatal(err)
	}
	return r
}

// All of testdata/hostile is shown on the page of its request: inert, whole, and with
// the warnings that it deserves.
func TestHostilePage(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	for _, c := range hostiletest.Cases(t, hostileFolder) {
		t.Run(c.Name, func(t *testing.T) {
			r := w.holdCase(c)
			began := time.Now()
			got := v.get("/approvals/" + r.ID)
			if got.Status != http.StatusOK {
				t.Fatalf("status %d", got.Status)
			}
			t.Logf("%d bytes in %v", len(got.Body), time.Since(began))
			if took := time.Since(began); took > 30*time.Second { // a second or so, on a machine that has nothing else to do
				t.Errorf("it took %v", took)
			}
			page := readPage(t, got.Body)
			wantInert(t, page)
			wantNote(t, page, c.Want)
			wantArguments(t, page, r.Action.Payload.Get("arguments"))
			wantExact(t, v, page, r)
			for _, said := range []string{c.Tool, c.Server, c.Reason, c.Description} {
				if !strings.Contains(page.text, shownText(said, "\n\t")) && !strings.Contains(page.text, shownText(said, "")) {
					t.Errorf("%q is not to be seen", said)
				}
			}
		})
	}
}

// The same calls in the lists: the inbox, the log, and the limits that they were
// charged to.
func TestHostileLists(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	for _, c := range hostiletest.Cases(t, hostileFolder) {
		r := w.holdCase(c)
		e := audit.Entry{Event: "mcp.call", ActorType: "agent", ActorID: c.Tool, OwnerID: w.owner.ID, Server: c.Server, Tool: c.Tool, Reason: c.Reason, ApprovalID: r.ID}
		if err := w.service.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"/", "/audit", "/limits", "/policies"} {
		got := v.get(path)
		if got.Status != http.StatusOK {
			t.Fatalf("%s: status %d", path, got.Status)
		}
		page := readPage(t, got.Body)
		wantInert(t, page)
		if path != "/" && path != "/audit" {
			continue
		}
		for _, c := range hostiletest.Cases(t, hostileFolder) {
			for _, said := range []string{c.Tool, c.Server, c.Reason} {
				if !strings.Contains(page.text, shownText(said, "")) {
					t.Errorf("%s: %q of %s is not to be seen", path, said, c.Name)
				}
			}
		}
	}
}

// A line of the log shows the same calls whole, inert.
func TestHostileLines(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	w.waitForLines(1)
	for _, c := range hostiletest.Cases(t, hostileFolder) {
		r := w.holdCase(c)
		e := w.entry("decision", c.Reason)
		e.ActorID, e.Server, e.Tool, e.Payload, e.DecisionID, e.ApprovalID = c.Tool, c.Server, c.Tool, r.Action.Payload.Canonical(), c.Tool, r.ID
		e.ActionType = &c.Server
		got := v.get(fmt.Sprint("/audit/", w.happened(e)))
		if got.Status != http.StatusOK {
			t.Fatalf("%s: status %d", c.Name, got.Status)
		}
		page := readPage(t, got.Body)
		wantInert(t, page)
		for _, said := range []string{c.Tool, c.Server, c.Reason} {
			if !strings.Contains(page.text, shownText(said, "")) {
				t.Errorf("%q of %s is not to be seen", said, c.Name)
			}
		}
	}
}

// What is different from an approved call is shown of hostile calls too, and the page
// bears what is long.
func TestHostileChanges(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	var before []byte // the arguments of the case before
	for _, c := range hostiletest.Cases(t, hostileFolder) {
		c.Tool, c.Server = "same", "shop"
		r := w.holdCase(c)
		got := v.get("/approvals/" + r.ID)
		page := readPage(t, got.Body)
		wantInert(t, page)
		if before != nil && !strings.Contains(page.text, "Different from the last that was approved") {
			t.Errorf("%s: nothing is said of what is different", c.Name)
		}
		if len(got.Body) > 60<<20 {
			t.Errorf("%s: the page has %d bytes", c.Name, len(got.Body))
		}
		before = c.Arguments
		if _, err := w.service.Answer(t.Context(), "portal:alice", r.ID, true, ""); err != nil {
			t.Fatal(err)
		}
		w.pass(time.Second)
	}
}

// A readDoc is a page as a browser reads it.
type readDoc struct {
	root  *html.Node
	text  string // all that is shown
	nodes []*html.Node
}

func readPage(t *testing.T, body string) readDoc {
	t.Helper()
	root, err := html.Parse(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	doc := readDoc{root: root, text: hostileTextOf(root)}
	for n := range root.Descendants() {
		doc.nodes = append(doc.nodes, n)
	}
	return doc
}

// first is the first element of that name and class.
func (d readDoc) first(name, class string) *html.Node {
	for _, n := range d.nodes {
		if n.Data == name && n.Type == html.ElementNode && slices.Contains(strings.Fields(attr(n, "class")), class) {
			return n
		}
	}
	return nil
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func hostileTextOf(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
	}
	return b.String()
}

// ours are the elements and attributes that our templates have. None of them runs or
// loads anything, but for the files of our own that wantInert looks at.
var (
	ours = strings.Fields("html head meta title link script body a header nav span form button ul li main article p h1 h2 h3 section dl dt dd div details summary fieldset legend select option textarea del ins br table tr td th " +
		"strong code pre time input label svg rect del ins br img table thead tbody tr th td select option")
	ourAttributes = strings.Fields("checked selected rows cols spellcheck min max step inputmode list lang charset name content rel href type src defer class id aria-label aria-labelledby aria-describedby aria-current aria-hidden role " +
		"method action value datetime title dir tabindex for maxlength placeholder autocomplete hidden open download width height data-state data-pending alt scope viewbox preserveaspectratio x fill media sizes")
)

// wantInert checks that nothing on a page came from what others wrote but text, and
// that none of that hides, moves or reorders.
func wantInert(t *testing.T, d readDoc) {
	t.Helper()
	for _, n := range d.nodes {
		switch n.Type {
		case html.ElementNode:
			wantOurs(t, n)
		case html.CommentNode:
			t.Errorf("a comment: %.60q", n.Data)
		case html.TextNode:
			if attr(n.Parent, "class") == "amount" {
				continue // our own thin spaces
			}
			for _, r := range n.Data {
				if visible.Odd(r) && r != '\n' && r != '\t' {
					t.Fatalf("%U is in %.60q", r, n.Data)
				}
			}
		}
	}
}

func wantOurs(t *testing.T, n *html.Node) {
	t.Helper()
	if !slices.Contains(ours, n.Data) {
		t.Errorf("the element <%s>", n.Data)
	}
	for _, a := range n.Attr {
		local := strings.HasPrefix(a.Val, "/") && !strings.HasPrefix(a.Val, "//") || strings.HasPrefix(a.Val, "#")
		switch {
		case !slices.Contains(ourAttributes, strings.ToLower(a.Key)):
			t.Errorf("the attribute %s of <%s>", a.Key, n.Data)
		case (a.Key == "href" || a.Key == "src" || a.Key == "action") && !local:
			t.Errorf("<%s> leads to %q", n.Data, a.Val)
		case strings.ContainsFunc(a.Val, visible.Odd):
			t.Errorf("%s of <%s> is %q", a.Key, n.Data, a.Val)
		}
	}
	if n.DataAtom == atom.Script && (n.FirstChild != nil || !strings.HasPrefix(attr(n, "src"), "/static/")) {
		t.Errorf("a script: %.60q", hostileTextOf(n))
	}
}

// wantNote checks the warning.
func wantNote(t *testing.T, d readDoc, want hostiletest.Want) {
	t.Helper()
	note := ""
	if n := d.first("p", "warning"); n != nil {
		note = hostileTextOf(n)
	}
	if (note != "") != want.Warned() {
		t.Errorf("the warning %q; want %+v", note, want)
	}
	var parts []string
	if want.Hidden > 0 {
		parts = append(parts, fmt.Sprintf("%d character", want.Hidden), "would be invisible")
	}
	if want.Alike > 0 {
		parts = append(parts, fmt.Sprintf("%d character", want.Alike), "like another")
	}
	for _, pair := range want.Twins {
		parts = append(parts, fmt.Sprintf("The names %s and %s look alike", shownText(pair[0], ""), shownText(pair[1], "")))
	}
	for _, part := range parts {
		if !strings.Contains(note, part) {
			t.Errorf("the warning %q; want %q in it", note, part)
		}
	}
}

// shownText is what is read of a text.
func shownText(s, allow string) string {
	var b strings.Builder
	for part := range visible.Segments(s, allow) {
		if part.Kind == visible.Plain {
			b.WriteString(part.Text)
		} else {
			b.WriteString(visible.Numbers(part.Text))
		}
	}
	return b.String()
}

// wantArguments checks that each argument stands under its name, all of it.
func wantArguments(t *testing.T, d readDoc, arguments action.Value) {
	t.Helper()
	i := 0
	for name, v := range arguments.Members() {
		row := d.field(i)
		if row == nil {
			t.Fatalf("argument %q has no row", name)
		}
		if i++; i > maxFields {
			return // the rest stands in the last row, and in the action
		}
		if got := hostileTextOf(row[0]); got != shownText(name, "") {
			t.Errorf("argument %q is named %q", name, got)
		}
		shown := hostileTextOf(row[1])
		if details := row[1].FirstChild; details.Data == "details" {
			shown = strings.TrimPrefix(shown, hostileTextOf(details.FirstChild)) // the beginning, in the summary
		}
		if want := shownValue(v); shown != want {
			t.Errorf("argument %q is shown as %.300q, want %.300q", name, shown, want)
		}
	}
}

// field are the name and the value of the i-th row of the arguments.
func (d readDoc) field(i int) []*html.Node {
	list := d.first("dl", "fields")
	for row := range list.ChildNodes() {
		if row.Type != html.ElementNode {
			continue
		}
		if i--; i >= 0 {
			continue
		}
		var cells []*html.Node
		for cell := range row.ChildNodes() {
			if cell.Type == html.ElementNode {
				cells = append(cells, cell)
			}
		}
		return cells
	}
	return nil
}

// shownValue is what is read of an argument.
func shownValue(v action.Value) string {
	switch s := v.Text(); {
	case v.Kind() != action.String:
		return strip(jsonHTML(v)) // which FuzzShow reads back
	case s == "":
		return "empty text"
	case len(s) > bareText:
		return strip(bare) + visible.Lines(s) // which visible's FuzzLine reads back
	default:
		inner := strings.Trim(s, " \n\t")
		start := strings.Index(s, inner)
		edge := func(s string) string { return strings.ReplaceAll(shownText(s, ""), " ", "·") }
		if inner == "" {
			return edge(s)
		}
		return edge(s[:start]) + shownText(inner, "\n\t") + edge(s[start+len(inner):])
	}
}

// wantExact checks that the JSON of the page is the action, and that the file is it to
// the byte.
func wantExact(t *testing.T, v *visitor, d readDoc, r approvals.Request) {
	t.Helper()
	file := v.get("/approvals/" + r.ID + "/action.json")
	if got := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(file.Body))); got != r.ActionHash.String() || !strings.Contains(d.text, got) {
		t.Errorf("the file has %s, the page and the request %s", got, r.ActionHash)
	}
	if got := file.Header.Get("Content-Disposition"); !strings.HasPrefix(got, "attachment") {
		t.Errorf("the file is shown: %q", got)
	}
	exact := d.first("pre", "exact")
	if exact == nil {
		if len(file.Body) <= bareText {
			t.Error("there is no JSON")
		}
		return
	}
	text := longEscape.ReplaceAllStringFunc(hostileTextOf(exact), surrogates)
	back, err := action.Parse([]byte(text), action.Limits{CaseTwins: true})
	if err != nil || string(back.Canonical()) != file.Body {
		t.Errorf("the JSON of the page is another action: %v\n%s", err, text)
	}
}
