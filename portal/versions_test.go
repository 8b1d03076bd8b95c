package portal

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
)

// worded makes the next version of a request, or a request of its kind when r has none.
func (w *world) worded(r approvals.Request, text string) approvals.Request {
	w.t.Helper()
	was, err := w.store.Approval(w.t.Context(), r.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	next := was
	args := parse(w.t, fmt.Sprintf(`{"to":"bob@b.example","text":%q}`, text))
	next.Action.Payload = action.ObjectValue(action.Member{Key: "arguments", Value: args})
	next.Action.RequestedAt = w.now().UTC().Format("2006-01-02T15:04:05.000Z")
	next.ActionHash, next.IntentHash = next.Action.Hash(), action.IntentHash(r.AgentID, r.Server, r.Tool, args)
	next = was.Replaced(next)
	if err := w.store.Commit(w.t.Context(), authz.Batch{Fold: &authz.Fold{Request: next, Was: was.ActionHash, Now: w.now()}}); err != nil {
		w.t.Fatal(err)
	}
	return next
}

func (a answer) says(t *testing.T, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(strings.Join(strings.Fields(a.Body), " "), part) {
			t.Errorf("the page does not say %q:\n%s", part, a.Body)
		}
	}
}

func (a answer) saysNot(t *testing.T, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if strings.Contains(strings.Join(strings.Fields(a.Body), " "), part) {
			t.Errorf("the page says %q", part)
		}
	}
}

// The page shows the newest version and what became of the words; an answer from the
// page of another version does not count.
func TestVersionsOnThePage(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	r := w.hold(`{"to":"bob@b.example","text":"please send the numbers of the <b>quarterly</b> report"}`)
	first := v.get("/approvals/" + r.ID)
	first.saysNot(t, "in other words", "Asked 1", "waits for your answer at this moment")
	state := v.get("/inbox/count").Body

	w.pass(3 * time.Minute)
	w.worded(r, "please send the figures of the <b>quarterly</b> report")
	second := v.get("/approvals/" + r.ID)
	second.says(t, "Version 2: the same in other words", "You answer version 2", "Asked 2 times", "From version 1 to 2", "<del>numbers</del>", "<ins>figures</ins>", "&lt;b&gt;quarterly&lt;/b&gt;")
	second.saysNot(t, "<b>quarterly", "earlier version")
	v.get("/").says(t, "<strong>asked 2 times</strong>, last", "(version 2)")
	if v.get("/inbox/count").Body == state {
		t.Error("live.js does not hear of the new version")
	}
	for _, verb := range []string{"approve", "deny"} {
		late := v.post("/approvals/"+r.ID+"/"+verb, first.form(t))
		if late.Status != http.StatusConflict {
			t.Errorf("%s from the page of version 1 = %d", verb, late.Status)
		}
		late.says(t, "Nothing was answered", "version 2", "figures")
	}
	w.wantPending(r.ID)

	for i := range 7 {
		w.worded(r, fmt.Sprintf("please send the figures of the report again%s", strings.Repeat(" soon", i)))
	}
	v.get("/approvals/"+r.ID).says(t, "Version 9", "From version 8 to 9", "From version 4 to 5", "3 earlier versions are not shown")
	last := v.get("/approvals/" + r.ID)
	if done := v.post("/approvals/"+r.ID+"/approve", last.form(t)); done.Status != http.StatusSeeOther {
		t.Errorf("approving what is shown = %d", done.Status)
	}
	if got := w.wantAnswered(r.ID, approvals.Approved); got.Version != 9 {
		t.Errorf("approved is version %d", got.Version)
	}
}

// A version that comes between the look at the form and the commit takes the answer
// with it: the commit looks too.
func TestVersionDuringAnAnswer(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	r := w.hold(`{"to":"bob@b.example","text":"please send the numbers of the report"}`)
	form := v.get("/approvals/" + r.ID).form(t)
	w.between = func() { w.worded(r, "please send the figures of the report") }
	late := v.post("/approvals/"+r.ID+"/approve", form)
	if late.Status != http.StatusConflict {
		t.Errorf("it is %d", late.Status)
	}
	late.says(t, "Nothing was answered", "figures")
	w.wantPending(r.ID)
}

func TestWhoWaitsIsShown(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	r := w.hold(`{}`)
	if err := w.store.Commit(t.Context(), authz.Batch{Hold: &authz.Hold{RequestID: r.ID, DecisionID: "d", Now: w.now(), Until: w.now().Add(time.Minute)}}); err != nil {
		t.Fatal(err)
	}
	v.get("/approvals/"+r.ID).says(t, "A call waits for your answer at this moment")
	w.pass(time.Minute)
	v.get("/approvals/"+r.ID).saysNot(t, "at this moment")
}

func TestNearADenialOnThePage(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	denied := w.hold(`{"to":"bob@b.example","text":"send the numbers, you fool"}`)
	v.post("/approvals/"+denied.ID+"/deny", url.Values{"action_hash": {denied.ActionHash.String()}, "reason": {"too <rude>"}})
	w.nearTo = denied.ID
	again := w.hold(`{"to":"bob@b.example","text":"send the numbers, please"}`)
	page := v.get("/approvals/" + again.ID)
	page.says(t, "Something like this was denied", "By alice, in the portal", "too &lt;rude&gt;", "<ins>please</ins>", `href="/approvals/`+denied.ID+`"`)
	v.get("/approvals/"+denied.ID).saysNot(t, "Something like this was denied")
}

// After the third approval a rule is suggested, where one is made.
func TestRuleIsSuggested(t *testing.T) {
	for name, tt := range map[string]struct {
		arguments, says string
	}{
		"the same call":   {`{"n":1}`, "This very call was approved 3 times in 30 days"},
		"calls of a kind": {`{"n":%d}`, "Calls of this kind were approved 3 times in 30 days"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			v := w.signedIn()
			var r approvals.Request
			for i := range 3 {
				arguments := tt.arguments
				if strings.Contains(arguments, "%d") {
					arguments = fmt.Sprintf(arguments, i)
				}
				r = w.hold(arguments)
				v.get("/approvals/"+r.ID).saysNot(t, "in 30 days")
				v.post("/approvals/"+r.ID+"/approve", url.Values{"action_hash": {r.ActionHash.String()}})
				got := w.wantAnswered(r.ID, approvals.Approved)
				if err := w.store.Commit(t.Context(), authz.Batch{Redeem: &authz.Redemption{RequestID: r.ID, DecisionID: "d", ActionHash: r.ActionHash.String(), AgentID: r.AgentID, Now: w.now().UnixMilli()}}); err != nil || got.Asked != 1 {
					t.Fatal(err)
				}
			}
			v.get("/approvals/"+r.ID).says(t, tt.says, `<a href="/approvals/`+r.ID+`/rule">Make a rule of it</a>`)
			w.pass(31 * 24 * time.Hour)
			v.get("/approvals/"+w.visitLater(v).ID).saysNot(t, "in 30 days")
		})
	}
}

// visitLater signs in anew, after the session has ended, and makes a request.
func (w *world) visitLater(v *visitor) approvals.Request {
	w.t.Helper()
	v.post("/sign-in", url.Values{"token": {w.link(time.Minute)}})
	return w.hold(`{"n":1}`)
}

// The inbox tells one call from another, by the arguments that tell most; what hides in
// them is shown.
func TestInboxTellsCallsApart(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	w.hold(`{"headers":{"x":1},"to":"ann@a.example","subject":"<b>Lunch\u202e</b>","text":"Shall we meet at noon, or a little later than that?"}`)
	w.hold(`{"a":1,"b":2,"c":3,"d":4,"e":5}`)
	w.hold(`{}`)
	inbox := v.get("/")
	inbox.says(t, `<span class="aside">to</span> <span class="text" dir="auto">ann@a.example</span>`,
		`&lt;b&gt;Lunch<span class="odd"`, "Shall we meet at noon, or a little later…", `<span class="text" dir="auto">{&#34;x&#34;:1}</span>`,
		`<span class="text" dir="auto">4</span> <span class="aside">and 1 more</span>`)
	inbox.saysNot(t, "\u202e", "than that", `dir="auto">5<`)
	if strings.Index(inbox.Body, "ann@a.example") > strings.Index(inbox.Body, ">headers<") {
		t.Error("what has something inside comes first")
	}
}

// A page says how long a denial would stand, and of one that stands until when.
func TestDenialSticksOnThePage(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	r := w.hold(`{}`)
	page := v.get("/approvals/" + r.ID)
	page.says(t, "The same call is then refused for 15 min.")
	v.post("/approvals/"+r.ID+"/deny", page.form(t))
	v.get("/approvals/"+r.ID).says(t, "The same call is refused without asking you until")
	w.pass(15 * time.Minute)
	v.get("/approvals/"+r.ID).saysNot(t, "without asking you until")
}
