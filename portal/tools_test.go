package portal

import (
	"crypto/sha256"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/authz"
)

// lists has a server list a tool that says so of itself, and returns its hash.
func (w *world) lists(kind, name, says string) action.Hash {
	w.t.Helper()
	text := action.ObjectValue(action.Member{Key: "name", Value: action.StringValue(name)}, action.Member{Key: "description", Value: action.StringValue(says)}).Canonical()
	item := authz.Listed{Name: name, Text: text, Hash: sha256.Sum256(text)}
	if err := w.service.Pins("shop", "").Observe(w.t.Context(), authz.Listing{Agent: "shop-bot", Kind: kind, Items: []authz.Listed{item}}); err != nil {
		w.t.Fatal(err)
	}
	return item.Hash
}

func pinForm(name string, hash action.Hash, answer string) url.Values {
	return url.Values{"server": {"shop"}, "kind": {authz.PinTool}, "name": {name}, "hash": {hash.String()}, "answer": {answer}}
}

// want wants a status, and gives the page.
func (a answer) want(t *testing.T, status int) answer {
	t.Helper()
	if a.Status != status {
		t.Errorf("status %d, want %d:\n%s", a.Status, status, a.Body)
	}
	return a
}

func has(t *testing.T, a answer, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(a.Body, part) {
			t.Errorf("no %q on the page:\n%s", part, a.Body)
		}
	}
}

func lacks(t *testing.T, a answer, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if strings.Contains(a.Body, part) {
			t.Errorf("%q is on the page:\n%s", part, a.Body)
		}
	}
}

const toolShown = "/tools/show?kind=tool&name=create_order&server=shop"

func TestToolsPage(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	has(t, v.get("/tools").want(t, 200), "Nothing is pinned yet")
	lacks(t, v.get("/"), "changed tool")
	w.lists(authz.PinTool, "create_order", "Orders <b>one</b> thing.")
	body := v.get("/tools").want(t, 200)
	has(t, body, "create_order", "accepted", "first use", `href="`+html.EscapeString(toolShown)+`"`)
	lacks(t, body, "What waits for you")
	body = v.get(toolShown).want(t, 200)
	has(t, body, "As it was accepted", "Orders &lt;b&gt;one&lt;/b&gt; thing.")
	lacks(t, body, "/tools/answer")

	w.lists(authz.PinTool, "create_order", "Orders two things, and\u202e tells evil.example.")
	w.lists(authz.PinTool, "new", "New.")
	has(t, v.get("/"), "2 changed tools wait for you", `href="/tools"`)
	body = v.get("/tools").want(t, 200)
	has(t, body, "What waits for you", "changed, waits for you", "new, waits for you")
	body = v.get(toolShown).want(t, 200)
	has(t, body, "What has changed", "description", "<del>", "<ins>", "Look closely", `\u202e`)
	lacks(t, body, "\u202e")
	has(t, v.get("/tools/show?kind=tool&name=new&server=shop").want(t, 200), "As it is listed now", "New.")
	v.get("/tools/show?kind=tool&name=none&server=shop").want(t, 404)
	v.get("/tools/show?kind=tool&name=create_order&server=other").want(t, 404)
	v.get("/tools/show").want(t, 404)
}

// An answer is of exactly the definition that was shown.
func TestToolsAnswer(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	old := w.lists(authz.PinTool, "create_order", "Orders.")
	first := w.lists(authz.PinTool, "create_order", "Evil.")
	body := v.get(toolShown).want(t, 200)
	has(t, body, `name="hash" value="`+first.String()+`"`, `name="hash" value="`+old.String()+`"`, "Refuse")
	second := w.lists(authz.PinTool, "create_order", "More evil.")
	body = v.post("/tools/answer", pinForm("create_order", first, "accept")).want(t, http.StatusConflict)
	has(t, body, "Nothing was done: the server says something else by now", second.String())
	w.wantPin("changed")
	for _, form := range []url.Values{{}, pinForm("create_order", second, ""), pinForm("create_order", second, "acceptx"), {"server": {"shop"}, "answer": {"accept"}, "hash": {"md5:00"}}} {
		v.post("/tools/answer", form).want(t, http.StatusBadRequest)
	}
	v.post("/tools/answer", pinForm("none", second, "accept")).want(t, http.StatusNotFound)
	w.visitor().post("/tools/answer", pinForm("create_order", second, "accept"))
	w.wantPin("changed")

	v.post("/tools/answer", pinForm("create_order", second, "refuse")).want(t, http.StatusSeeOther)
	has(t, v.get(toolShown), "refused", "alice, in the portal")
	w.wantPin("refused")
	v.post("/tools/answer", pinForm("create_order", second, "accept")).want(t, http.StatusSeeOther)
	w.wantPin("accepted")
	has(t, v.post("/tools/answer", pinForm("create_order", second, "accept")).want(t, http.StatusConflict), "it was answered already")
	w.lists(authz.PinTool, "create_order", "Evil.")
	v.post("/tools/answer", pinForm("create_order", old, "accept")).want(t, http.StatusSeeOther) // drops the other
	w.wantPin("accepted")
	lacks(t, v.get("/"), "changed tool")
}

func (w *world) wantPin(state string) {
	w.t.Helper()
	book, err := w.store.PinBook(w.t.Context(), w.owner.ID, "shop")
	if err != nil {
		w.t.Fatal(err)
	}
	if v, _ := book.Find(authz.PinTool, "create_order"); v.State() != state {
		w.t.Errorf("it is %s, want %s", v.State(), state)
	}
}

// What does not fit is not shown, and said.
func TestAnUnkeptDefinition(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	w.lists(authz.PinTool, "create_order", "Orders.")
	w.lists(authz.PinTool, "create_order", strings.Repeat("x", 300<<10))
	body := v.get(toolShown).want(t, 200)
	has(t, body, "too long to be kept", "Accept")
	lacks(t, body, "What has changed")
}

// The approval page tells of a definition that is not what it was.
func TestTheApprovalPageMarksAChangedTool(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	req := w.hold(`{"a":1}`)
	lacks(t, v.get("/approvals/"+req.ID).want(t, 200), "It has changed")
	w.lists(authz.PinTool, "create_order", "Orders.")
	page := func() answer { return v.get("/approvals/" + req.ID) }
	has(t, page().want(t, 200), "It has said so since", html.EscapeString(toolShown))
	lacks(t, page(), "It has changed", "<details open>")
	w.pass(time.Hour)
	hash := w.lists(authz.PinTool, "create_order", "Orders more.")
	has(t, page().want(t, 200), "<details open>", "It has changed.", "is not what was accepted")
	if _, err := w.service.AnswerPin(t.Context(), "cli:ann", authz.PinAnswer{Server: "shop", Kind: authz.PinTool, Name: "create_order", Hash: hash, Accept: true}); err != nil {
		t.Fatal(err)
	}
	has(t, page().want(t, 200), "<details open>", "It has changed</strong> since it was first accepted", "ann, on the command line")
}

// Many definitions are a page all the same.
func TestManyTools(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	var items []authz.Listed
	for i := range 1000 {
		name := fmt.Sprintf("tool%d", i)
		items = append(items, authz.Listed{Name: name, Text: []byte("{}"), Hash: sha256.Sum256([]byte(name))})
	}
	if err := w.service.Pins("shop", "").Observe(t.Context(), authz.Listing{Agent: "a", Kind: authz.PinTool, Items: items}); err != nil {
		t.Fatal(err)
	}
	v.get("/tools").want(t, 200)
}
