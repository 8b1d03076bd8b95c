package portal

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/internal/door"
	"github.com/openleash/openleash-go/owners"
	"github.com/openleash/openleash-go/policy"
)

func wantStatus(t *testing.T, what string, got answer, want int) {
	t.Helper()
	if got.Status != want {
		t.Fatalf("%s: status %d, want %d\n%s", what, got.Status, want, got.Body)
	}
}

func wantText(t *testing.T, what string, got answer, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(got.Body, text) {
			t.Errorf("%s: %q is not on the page\n%s", what, text, got.Body)
		}
	}
}

func TestSignIn(t *testing.T) {
	w := newWorld(t)
	token := w.link(time.Minute)
	v := w.visitor()

	for range 2 { // looking at a link does not use it up
		got := v.get("/sign-in/" + token + "?next=/approvals/17")
		wantStatus(t, "the link", got, 200)
		wantText(t, "the link", got, token, `action="/sign-in"`, `value="/approvals/17"`)
		if len(got.Header.Values("Set-Cookie")) > 0 {
			t.Error("looking at the link gave a cookie")
		}
	}
	got := v.post("/sign-in", url.Values{"token": {token}, "next": {"/approvals/17"}})
	wantStatus(t, "redeeming", got, 303)
	if to := got.Header.Get("Location"); to != "/approvals/17" {
		t.Errorf("redirected to %q, want /approvals/17", to)
	}
	wantStatus(t, "the inbox", v.get("/"), 200)

	got = w.visitor().post("/sign-in", url.Values{"token": {token}})
	wantStatus(t, "redeeming again", got, 403)
	wantText(t, "redeeming again", got, "openleash open")
	if strings.Contains(got.Body, token) || len(got.Header.Values("Set-Cookie")) > 0 {
		t.Error("a refused link gave its token back, or a cookie")
	}
}

func TestSignInCookie(t *testing.T) {
	w := newWorld(t)
	got := w.visitor().post("/sign-in", url.Values{"token": {w.link(time.Minute)}})
	wantStatus(t, "redeeming", got, 303)
	c, err := http.ParseSetCookie(got.Header.Get("Set-Cookie"))
	if err != nil {
		t.Fatal(err)
	}
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" || c.Secure {
		t.Errorf("cookie = %s; want HttpOnly, SameSite=Strict, Path=/, no Domain, Secure only under TLS", c)
	}
	if left := time.Until(c.Expires); left < 11*time.Hour || left > 12*time.Hour+time.Second {
		t.Errorf("the cookie lasts %v, want 12 h", left)
	}
}

func TestCookieIsSecureUnderTLS(t *testing.T) {
	w := newWorld(t)
	pages, err := New(Config{Service: w.service, Owners: w.owners, Store: w.store, Policies: w.keeper, Base: "https://leash.example"})
	if err != nil {
		t.Fatal(err)
	}
	r := w.request("POST", "/sign-in", url.Values{"token": {w.link(time.Minute)}}.Encode())
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	rec := newRecorder(pages, r)
	if c := rec.Header().Get("Set-Cookie"); !strings.Contains(c, "; Secure") {
		t.Errorf("cookie under TLS = %q, want Secure", c)
	}
}

func TestSignInRefused(t *testing.T) {
	w := newWorld(t)
	expired := w.link(time.Minute)
	w.pass(2 * time.Minute)
	for name, token := range map[string]string{"expired": expired, "unknown": "oll_nobody", "none": "", "hostile": "<script>alert(1)</script>"} {
		got := w.visitor().post("/sign-in", url.Values{"token": {token}})
		wantStatus(t, name, got, 403)
		if strings.Contains(got.Body, "<script>") {
			t.Errorf("%s: the token came back as markup", name)
		}
	}
	got := w.visitor().get("/sign-in/%3Cscript%3Ealert(1)%3C%2Fscript%3E")
	if strings.Contains(got.Body, "<script>") {
		t.Errorf("the link's page repeats its token as markup:\n%s", got.Body)
	}
}

func TestSignInGoesOnlyToOurPages(t *testing.T) {
	w := newWorld(t)
	for _, next := range []string{"https://evil.example/", "//evil.example/", `/\evil.example`, "javascript:alert(1)"} {
		got := w.visitor().post("/sign-in", url.Values{"token": {w.link(time.Minute)}, "next": {next}})
		wantStatus(t, next, got, 303)
		if to := got.Header.Get("Location"); to != "/" {
			t.Errorf("next=%q led to %q, want /", next, to)
		}
	}
}

func TestSignInURL(t *testing.T) {
	const want = "http://openleash.localhost:8787/sign-in/oll_a?next=%2Fapprovals%2F1"
	if got := SignInURL("http://openleash.localhost:8787", "oll_a", "/approvals/1"); got != want {
		t.Errorf("SignInURL = %q, want %q", got, want)
	}
}

func TestSignOutEndsTheSession(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	at, err := url.Parse(w.base)
	if err != nil {
		t.Fatal(err)
	}
	before := v.client.Jar.Cookies(at)
	got := v.post("/sign-out", nil)
	wantStatus(t, "signing out", got, 303)
	if left := v.client.Jar.Cookies(at); len(left) > 0 {
		t.Errorf("cookies after sign-out: %v", left)
	}
	v.client.Jar.SetCookies(at, before) // somebody kept a copy
	wantStatus(t, "with the old cookie", v.get("/"), 401)
}

func TestSessionExpires(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	w.pass(owners.SessionFor + time.Second)
	wantStatus(t, "after twelve hours", v.get("/"), 401)
}

func TestWithoutSession(t *testing.T) {
	w := newWorld(t)
	r := w.hold(`{"sku":"secret-sku"}`)
	forms := []struct{ method, path string }{
		{"GET", "/"}, {"GET", "/inbox/count"}, {"GET", "/audit"}, {"GET", "/policies"}, {"GET", "/playground"}, {"GET", "/limits"}, {"GET", "/limits/charges"}, {"GET", "/approvals/" + r.ID},
		{"POST", "/approvals/" + r.ID + "/approve"}, {"POST", "/approvals/" + r.ID + "/deny"}, {"POST", "/limits/release"},
	}
	for _, f := range forms {
		var got answer
		if f.method == "GET" {
			got = w.visitor().get(f.path)
		} else {
			got = w.visitor().post(f.path, url.Values{"action_hash": {r.ActionHash.String()}})
		}
		wantStatus(t, f.method+" "+f.path, got, 401)
		wantText(t, f.method+" "+f.path, got, "openleash open")
		if strings.Contains(got.Body, "secret-sku") || strings.Contains(got.Body, "shop-bot") {
			t.Errorf("%s %s shows the request to a stranger", f.method, f.path)
		}
	}
	w.wantPending(r.ID)
}

// The session's cookie does not come along when a link on another site is
// followed; the page offers the click that brings it.
func TestFollowedLinkOffersToGoOn(t *testing.T) {
	w := newWorld(t)
	r := w.request("GET", "/approvals/17?a=b", "")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	r.Header.Set("Sec-Fetch-Dest", "document")
	got := w.visitor().do(r)
	wantStatus(t, "a followed link", got, 401)
	wantText(t, "a followed link", got, `href="/approvals/17?a=b"`)
}

func (w *world) wantPending(id string) {
	w.t.Helper()
	w.wantAnswered(id, approvals.Pending)
}

func (w *world) wantAnswered(id string, want approvals.Status) approvals.Request {
	w.t.Helper()
	r, err := w.store.Approval(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	if r.Status != want {
		w.t.Fatalf("status of the request = %s, want %s", r.Status, want)
	}
	return r
}

// Nothing that a page of another site, another port or another name can make the
// owner's browser send answers a request.
func TestForgedAnswers(t *testing.T) {
	w := newWorld(t)
	req := w.hold(`{"sku":"A-1"}`)
	v := w.signedIn()
	w.charge("p/calls", "[]", "d1", "a1", 1)
	forms := map[string]url.Values{
		"/approvals/" + req.ID + "/approve": {"action_hash": {req.ActionHash.String()}},
		"/limits/release":                   {"decision": {"d1"}, "limit": {"p/calls"}, "key": {"[]"}, "reason": {"it never came"}},
	}
	tests := []struct {
		name   string
		change func(*http.Request)
		want   int
	}{
		{"foreign Host", func(r *http.Request) { r.Host = "evil.example" }, 421},
		{"foreign Origin", func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }, 403},
		{"Origin of another port", func(r *http.Request) { r.Header.Set("Origin", "http://127.0.0.1:1") }, 403},
		{"null Origin", func(r *http.Request) { r.Header.Set("Origin", "null") }, 403},
		{"cross-site without Origin", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, 403},
		{"same-site without Origin", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") }, 403},
		{"text/plain", func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }, 415},
		{"multipart", func(r *http.Request) { r.Header.Set("Content-Type", "multipart/form-data; boundary=a") }, 415},
		{"JSON", func(r *http.Request) { r.Header.Set("Content-Type", "application/json") }, 415},
		{"by GET", func(r *http.Request) { r.Method = "GET" }, 404},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for path, form := range forms {
				r := w.request("POST", path, form.Encode())
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				tt.change(r)
				wantStatus(t, tt.name, v.do(r), tt.want)
			}
			w.wantPending(req.ID)
			w.wantCharges("p/calls", "[]", "d1")
		})
	}
}

func TestTooLargeForm(t *testing.T) {
	w := newWorld(t)
	req := w.hold(`{"sku":"A-1"}`)
	form := url.Values{"action_hash": {req.ActionHash.String()}, "reason": {strings.Repeat("a", maxForm)}}
	got := w.signedIn().post("/approvals/"+req.ID+"/deny", form)
	wantStatus(t, "a form that is too large", got, 413)
	w.wantPending(req.ID)
}

func TestApprove(t *testing.T) {
	w := newWorld(t)
	req := w.hold(`{"sku":"A-1"}`)
	v := w.signedIn()
	page := v.get("/approvals/" + req.ID)
	wantStatus(t, "the page", page, 200)

	got := v.post("/approvals/"+req.ID+"/approve", page.form(t))
	wantStatus(t, "approving", got, 303)
	if to := got.Header.Get("Location"); to != "/approvals/"+req.ID {
		t.Errorf("redirected to %q", to)
	}
	if r := w.wantAnswered(req.ID, approvals.Approved); r.AnsweredBy != "portal:alice" {
		t.Errorf("answered by %q, want portal:alice", r.AnsweredBy)
	}
	after := v.get("/approvals/" + req.ID)
	wantText(t, "after approving", after, "approved", "alice, in the portal")
	if strings.Contains(after.Body, "<button class=\"yes\">") {
		t.Error("an answered request still has a form")
	}
}

func TestApprovalPageCountsRounds(t *testing.T) {
	w := newWorld(t)
	r := w.hold(`{"a":1}`)
	spend := authz.Redemption{RequestID: r.ID, DecisionID: "first", ActionHash: r.ActionHash.String(), AgentID: r.AgentID, Now: w.now().UnixMilli()}
	further := spend
	further.DecisionID = "second"
	round := approvals.Round{Hash: [32]byte{1}, Until: w.now().Add(time.Hour)}
	for _, b := range []authz.Batch{
		{Answer: &approvals.Answer{RequestID: r.ID, ActionHash: r.ActionHash, Approve: true, By: "portal:alice", At: w.now(), GrantFor: time.Hour}},
		{Redeem: &spend},
		{OpenRound: &authz.RoundOpening{RequestID: r.ID, DecisionID: "first", ActionHash: spend.ActionHash, AgentID: r.AgentID, Round: round}},
		{Continue: &authz.Continuation{Redemption: further, Round: round.Hash}},
	} {
		if body := w.signedIn().get("/approvals/" + r.ID).Body; strings.Contains(body, "Further messages") {
			t.Errorf("before it has any: %s", body)
		}
		if err := w.store.Commit(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	if body := w.signedIn().get("/approvals/" + r.ID).Body; !strings.Contains(body, "Further messages of the call</dt><dd>1, the latest by decision <code>second</code>") {
		t.Errorf("got %s", body)
	}
}

// The page shows which limits the call is over, and by how much.
func TestApprovalPageShowsLimits(t *testing.T) {
	w := newWorld(t)
	if body := w.signedIn().get("/approvals/" + w.hold(`{"a":1}`).ID).Body; strings.Contains(body, "Over a limit") {
		t.Errorf("it is over none: %s", body)
	}
	for _, tt := range []struct {
		over []approvals.Overshoot
		want []string
	}{
		{[]approvals.Overshoot{{Limit: "shop/daily", Key: `["shop-bot","<b>.example"]`, Window: "24h", Currency: "SEK", Max: 10000, Used: 5000, Held: 2550, Amount: 129900}},
			[]string{"Over a limit", "<code>shop/daily</code> for shop-bot, &#34;&lt;b&gt;.example&#34;", "SEK\u00a0100.00 in 24h", "SEK\u00a075.50", "SEK\u00a01\u2009299.00", "<strong>SEK\u00a01\u2009274.50</strong>", "no more"}},
		{[]approvals.Overshoot{{Limit: "shop/calls", Key: "[]", Window: "day", Max: 1, Used: 1, Amount: 1}, {Limit: "shop/odd", Doubt: "$.payload.n is missing", Window: "1h"},
			{Limit: "shop/each", Key: `["a","<b>"]`, For: `agent a at "<b>"`, Window: "month", Max: 2, Used: 2, Amount: 1}},
			[]string{"Over 3 limits", "<code>shop/each</code> for agent a at &#34;&lt;b&gt;&#34;", "2 a month", "<code>shop/calls</code></dd>", "1 a day", "<strong>1</strong>", "Cannot be counted</dt><dd>$.payload.n is missing"}},
	} {
		r := w.hold(fmt.Sprintf(`{"n":%q}`, tt.over[0].Limit), tt.over...)
		wantText(t, "the page", w.signedIn().get("/approvals/"+r.ID), tt.want...)
	}
}

func TestDeny(t *testing.T) {
	w := newWorld(t)
	req := w.hold(`{"sku":"A-1"}`)
	v := w.signedIn()
	form := v.get("/approvals/" + req.ID).form(t)
	form.Set("reason", "  Too <b>dear</b>. ")
	wantStatus(t, "denying", v.post("/approvals/"+req.ID+"/deny", form), 303)
	if r := w.wantAnswered(req.ID, approvals.Denied); r.DenyReason != "Too <b>dear</b>." {
		t.Errorf("reason = %q", r.DenyReason)
	}
	wantText(t, "after denying", v.get("/approvals/"+req.ID), "Too &lt;b&gt;dear&lt;/b&gt;.", "denied")
}

func TestDenyReasonTooLong(t *testing.T) {
	w := newWorld(t)
	req := w.hold(`{"sku":"A-1"}`)
	v := w.signedIn()
	form := v.get("/approvals/" + req.ID).form(t)
	form.Set("reason", strings.Repeat("é", maxReason+1))
	wantStatus(t, "a long reason", v.post("/approvals/"+req.ID+"/deny", form), 400)
	w.wantPending(req.ID)
	form.Set("reason", strings.Repeat("é", maxReason))
	wantStatus(t, "the longest reason", v.post("/approvals/"+req.ID+"/deny", form), 303)
}

// Of two answers at once exactly one counts, and the other is told whose did.
func TestAnswersRace(t *testing.T) {
	w := newWorld(t)
	yes, no := w.signedIn(), w.signedIn()
	for range 5 {
		req := w.hold(`{"sku":"` + time.Now().String() + `"}`)
		form := yes.get("/approvals/" + req.ID).form(t)
		var answers [2]answer
		var wg sync.WaitGroup
		wg.Go(func() { answers[0] = yes.post("/approvals/"+req.ID+"/approve", form) })
		wg.Go(func() { answers[1] = no.post("/approvals/"+req.ID+"/deny", form) })
		wg.Wait()
		won, lost, word := answers[0], answers[1], "already approved by alice, in the portal"
		status := approvals.Approved
		if won.Status == http.StatusConflict {
			won, lost, word, status = lost, won, "already denied by alice, in the portal", approvals.Denied
		}
		wantStatus(t, "the first", won, 303)
		wantStatus(t, "the second", lost, 409)
		wantText(t, "the second", lost, word)
		w.wantAnswered(req.ID, status)
	}
}

func TestAnswerToAnotherAction(t *testing.T) {
	w := newWorld(t)
	shown, other := w.hold(`{"sku":"cheap"}`), w.hold(`{"sku":"dear"}`)
	v := w.signedIn()
	for name, form := range map[string]url.Values{
		"another action's hash": v.get("/approvals/" + shown.ID).form(t),
		"no hash":               nil,
		"not a hash":            {"action_hash": {"yes"}},
	} {
		for _, word := range []string{"approve", "deny"} {
			got := v.post("/approvals/"+other.ID+"/"+word, form)
			wantStatus(t, word+" with "+name, got, 409)
			wantText(t, word+" with "+name, got, "Nothing was answered", "dear")
			w.wantPending(other.ID)
		}
	}
}

func TestApproveTooLate(t *testing.T) {
	w := newWorld(t)
	req := w.hold(`{"sku":"A-1"}`)
	v := w.signedIn()
	form := v.get("/approvals/" + req.ID).form(t)
	w.pass(25 * time.Hour)
	v = w.signedIn() // the session has ended too
	got := v.post("/approvals/"+req.ID+"/approve", form)
	wantStatus(t, "approving too late", got, 409)
	wantText(t, "approving too late", got, "expired")
	if page := v.get("/"); strings.Contains(page.Body, "Waiting for you") {
		t.Error("the inbox still asks for what has expired")
	}
}

func TestUnknownRequest(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	for _, id := range []string{"00000000-0000-4000-8000-000000000000", "x", "..%2f..%2fetc", "%3Cscript%3E"} {
		wantStatus(t, id, v.get("/approvals/"+id), 404)
		wantStatus(t, id, v.post("/approvals/"+id+"/approve", url.Values{"action_hash": {strings.Repeat("a", 64)}}), 404)
	}
	wantStatus(t, "unknown page", v.get("/nowhere"), 404)
}

func TestRequestOfAnotherOwner(t *testing.T) {
	w := newWorld(t)
	r := w.hold(`{"sku":"A-1"}`)
	r.ID, r.OwnerID, r.IntentHash = "11111111-1111-4111-8111-111111111111", "somebody-else", action.Hash{1}
	if err := w.store.Commit(t.Context(), authz.Batch{Open: &r}); err != nil {
		t.Fatal(err)
	}
	v := w.signedIn()
	wantStatus(t, "another owner's request", v.get("/approvals/"+r.ID), 404)
	wantStatus(t, "approving it", v.post("/approvals/"+r.ID+"/approve", url.Values{"action_hash": {r.ActionHash.String()}}), 404)
	w.wantPending(r.ID)
}

// Everything that will run is on the page, whole.
func TestApprovalPageShowsAll(t *testing.T) {
	w := newWorld(t)
	long := strings.Repeat("word ", 5000) + "the end"
	req := w.hold(`{"sku":"A-1","count":3,"big":9007199254740993,"gift":true,"note":null,"items":[{"id":"x1"},2],"letter":"` + long + `"}`)
	got := w.signedIn().get("/approvals/" + req.ID)
	wantStatus(t, "the page", got, 200)
	wantText(t, "the page", got,
		"shop-bot", "create_order", "on <span class=\"name\">shop</span>", "purchase", "SEK&nbsp;1\u2009299.00", "129900", "butik.example",
		"Orders over 500 kr need your word.", "large-orders", "shopping", req.ActionHash.String(), req.IntentHash.String(), req.DecisionID,
		"A-1", "9007199254740993", "x1", long, "25007 characters", "deletes, spends or sends", "readOnlyHint", "not believed",
		"expires <time", "in 23 h 59 min")
}

// What an agent or a server says cannot become markup, nor hide.
func TestHostileText(t *testing.T) {
	w := newWorld(t)
	req := w.hold(`{"<script>alert(1)</script>":"</dd><form action='/approvals/x/approve'><img src=x onerror=alert(1)>",
		"to":"alice@example.com\u202egro.live@\u2066","zero\u200bwidth":"a\u200bb","nested":{"k\u202e":["<i>\u0000</i>"]},
		"soft":"pay\u00adpal","ends":" x "}`)
	got := w.signedIn().get("/approvals/" + req.ID)
	wantStatus(t, "the page", got, 200)
	for _, text := range []string{"<script>alert", "<img src=x", "<form action='", "<i>", "<b>Always", "\u202e", "\u2066", "\u200b", "\u00ad", "\x00"} {
		if strings.Contains(got.Body, text) {
			t.Errorf("%q came through as it was", text)
		}
	}
	wantText(t, "the page", got, "&lt;script&gt;alert(1)", "&lt;img src=x onerror=alert(1)&gt;", `>\u202e</span>gro.live@`, `>\u2066</span>`,
		`>\u200b</span>`, `>\u0000</span>`, `>\u00ad</span>`, "Look closely.", `title="a space">·`)
}

func TestInbox(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	wantText(t, "empty", v.get("/"), "Nothing waits for you")
	first, second := w.hold(`{"n":1}`), w.hold(`{"n":2}`)
	got := v.get("/")
	wantText(t, "two waiting", got, first.ID, second.ID, "Waiting for you", "<title>(2) Inbox")
	wantStatus(t, "approving", v.post("/approvals/"+first.ID+"/approve", url.Values{"action_hash": {first.ActionHash.String()}}), 303)
	got = v.get("/")
	if waits, recent := strings.Index(got.Body, second.ID), strings.Index(got.Body, first.ID); waits < 0 || recent < waits {
		t.Errorf("what waits (at %d) is not before what is answered (at %d)", waits, recent)
	}
}

func TestInboxCount(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	empty := v.get("/inbox/count")
	wantText(t, "empty", empty, `"pending":0`)
	w.hold(`{"n":1}`)
	one := v.get("/inbox/count")
	wantText(t, "one", one, `"pending":1`)
	if empty.Body == one.Body || one.Header.Get("Content-Type") != "application/json" {
		t.Errorf("count = %q, %s", one.Body, one.Header.Get("Content-Type"))
	}
}

// More than the page shows are counted, told of, and named by the same state as the
// page is, so that it is not loaded again for nothing.
func TestInboxOfMany(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	for i := range maxWaiting + 2 {
		w.hold(fmt.Sprintf(`{"n":%d}`, i))
	}
	got, count := v.get("/"), v.get("/inbox/count")
	wantText(t, "the page", got, "<title>(102) Inbox", "102 requests wait; the newest 100 are shown.")
	if n := strings.Count(got.Body, `class="card request"`); n != maxWaiting {
		t.Errorf("%d requests are shown, want %d", n, maxWaiting)
	}
	_, state, _ := strings.Cut(got.Body, `data-state="`)
	state, _, _ = strings.Cut(state, `"`)
	wantText(t, "the count", count, `"pending":102`, `"state":"`+state+`"`)
	w.pass(25 * time.Hour)
	w.hold(`{"n":"new"}`)
	wantText(t, "when their time is over", w.signedIn().get("/inbox/count"), `"pending":1,`)
}

func TestAuditPage(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	req := w.hold(`{"n":1}`)
	wantStatus(t, "denying", v.post("/approvals/"+req.ID+"/deny", url.Values{"action_hash": {req.ActionHash.String()}, "reason": {"<b>no\u202e</b>"}}), 303)
	w.visitor().post("/sign-in", url.Values{"token": {"oll_wrong"}})
	w.waitForLines(3)
	got := v.get("/audit")
	wantStatus(t, "the log", got, 200)
	wantText(t, "the log", got, "session.started", "approval.denied", "access.refused", "create_order", `&lt;b&gt;no<span class="odd"`)
}

// A log of more than one page shows its end.
func TestAuditPageShowsTheEnd(t *testing.T) {
	w := newWorld(t)
	var b authz.Batch
	for range maxLines + 5 {
		b.Entries = append(b.Entries, audit.Entry{TS: "2026-01-02T03:04:05.000Z", Event: "test", ActorType: "system", ActorID: "test"})
	}
	if err := w.store.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	w.waitForLines(maxLines + 5)
	got := w.signedIn().get("/audit")
	if n := strings.Count(got.Body, `<td class="num">`); n != maxLines {
		t.Errorf("%d lines are shown, want %d", n, maxLines)
	}
	if strings.Contains(got.Body, `<td class="num">5</td>`) {
		t.Error("line 5 is shown; the page should end before it")
	}
}

// waitForLines waits until the sequencer has placed n lines.
func (w *world) waitForLines(n uint64) {
	w.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		head, _, err := w.store.Head(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		if head >= n {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("the log has %d lines, want %d", head, n)
		}
	}
}

func TestPoliciesPage(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	wantText(t, "in force", v.get("/policies"), "shopping.yaml", "every agent", "large-orders", w.keeper.Current().Hash)

	write(t, filepath.Join(w.policies, "shopping.yaml"), "version: 1\nrules: <b>oops</b>\n")
	for deadline := time.Now().Add(10 * time.Second); w.keeper.Err() == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the broken file was not noticed")
		}
	}
	got := v.get("/policies")
	wantText(t, "broken", got, "last good set", "shopping.yaml:", "large-orders")
	if strings.Contains(got.Body, "<b>oops") {
		t.Error("the policy's text came through as markup")
	}
	wantText(t, "every page's header", v.get("/"), "Policy files broken")
}

// Whom each policy binds, its rank, and what groups there are not.
func TestPoliciesPageSaysForWhom(t *testing.T) {
	w := newWorld(t)
	const text = "default: passthrough\nrules: []\n"
	write(t, filepath.Join(w.policies, "agents/bot/own.yaml"), "version: 1\nrank: 7\n"+text)
	write(t, filepath.Join(w.policies, "groups/buyers/own.yaml"), "version: 1\nrank: 100\n"+text)
	write(t, filepath.Join(w.policies, "tree/empty.yaml"), "version: 1\napplies_to: {group: empty}\n"+text)
	write(t, filepath.Join(w.policies, "tree/gone.yaml"), "version: 1\napplies_to: {group: gone}\n"+text)
	keeper, err := policy.Open(t.Context(), w.policies, policy.Groups{"buyers": {"ann", "bob"}, "empty": {}}, nil, func(policy.Event) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keeper.Close() })
	w.keeper = keeper
	w.serve(w.sequence())
	got := w.signedIn().get("/policies")
	for _, want := range []string{
		`<code>shopping.yaml</code> <span class="aside">for every agent</span>`,
		`<code>agents/bot/own.yaml</code> <span class="aside">for agent bot, rank 7</span>`,
		`<code>groups/buyers/own.yaml</code> <span class="aside">for group buyers: ann, bob</span>`,
		`<code>tree/empty.yaml</code> <span class="aside">for group empty, in which is nobody</span>`,
		`the configuration names no group &#34;gone&#34;`,
	} {
		if !strings.Contains(got.Body, want) {
			t.Errorf("%s is not in\n%s", want, got.Body)
		}
	}
}

func TestPoliciesPageWithoutPolicies(t *testing.T) {
	w := newWorld(t)
	pages, err := New(Config{Service: w.service, Owners: w.owners, Store: w.store, Base: w.base})
	if err != nil {
		t.Fatal(err)
	}
	v := w.signedIn()
	r := w.request("GET", "/policies", "")
	at, _ := url.Parse(w.base)
	for _, c := range v.client.Jar.Cookies(at) {
		r.AddCookie(c)
	}
	rec := newRecorder(pages, r)
	if rec.Code != 200 || !strings.Contains(rec.Body.String(), "everything is refused") {
		t.Errorf("status %d\n%s", rec.Code, rec.Body)
	}
}

// A story is told with the policies that it was written for, or with those in force.
func TestPlaygroundPage(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	got := v.get("/playground")
	wantText(t, "the list", got, `<option value="purchase-caps">Small purchases add up</option>`, "with the policies in force")
	if strings.Contains(got.Body, "<li class=\"card\">") {
		t.Error("a story is told that nobody has chosen")
	}

	got = v.get("/playground?scenario=purchase-caps")
	wantText(t, "a story", got, `<option value="purchase-caps" selected>`, "Told with the policies <code>purchases</code>.",
		`<span class="says good">ALLOW</span>`, "purchases/small", `<span class="says wait">REQUIRE_APPROVAL</span>`, "Its owner denies it.",
		"purchases/each-shop: 150.00 EUR of 200.00 EUR taken, 24h, for agent kitchen at shop.example",
		`<strong>decides</strong> allow <code>purchases/small</code>`, `<strong>no</strong> deny <code>purchases/never-here</code>`)
	if strings.Contains(got.Body, "The story tells") {
		t.Error("it is not as told")
	}
	wantText(t, "another", v.get("/playground?scenario=shadow"), "In the shadow: REQUIRE_APPROVAL", "shadow/nothing-over-20")

	got = v.get("/playground?scenario=purchase-small&policies=own")
	wantText(t, "one's own policies", got, "told with those in force", `name="policies" value="own" checked`,
		"Orders over 500 kr need your word.", "shopping/large-orders", "The story tells ALLOW.")

	write(t, filepath.Join(w.policies, "shopping.yaml"), strings.Replace(somePolicy, "Orders over 500 kr", `<b>oops</b>`, 1))
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if got = v.get("/playground?scenario=purchase-small&policies=own"); strings.Contains(got.Body, "&lt;b&gt;oops") {
			break
		}
		if time.Now().After(deadline) || strings.Contains(got.Body, "<b>oops") {
			t.Fatalf("the policy's text does not come through as text:\n%s", got.Body)
		}
	}

	wantStatus(t, "an unknown story", v.get("/playground?scenario=nope"), 404)
	wantText(t, "what waits after all this", v.get("/inbox/count"), `"pending":0`)
}

func TestHeaders(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/", "/sign-in/x", "/nowhere"} {
		got := w.visitor().get(path)
		if csp := got.Header.Get("Content-Security-Policy"); csp != door.PagePolicy {
			t.Errorf("%s: Content-Security-Policy = %q", path, csp)
		}
		if cache := got.Header.Get("Cache-Control"); cache != "no-store" {
			t.Errorf("%s: Cache-Control = %q", path, cache)
		}
		// The policy forbids what is inline; nothing may depend on it.
		for _, inline := range []string{" style=", "<style", " onclick=", "<script>"} {
			if strings.Contains(got.Body, inline) {
				t.Errorf("%s: inline %q on the page", path, inline)
			}
		}
	}
}

func TestStatic(t *testing.T) {
	w := newWorld(t)
	entries, err := os.ReadDir("static")
	if err != nil || len(entries) == 0 {
		t.Fatalf("static files: %v, %v", entries, err)
	}
	a, err := loadAssets()
	if err != nil {
		t.Fatal(err)
	}
	types := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
	for _, e := range entries {
		at, err := a.url(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		got := w.visitor().get(at)
		wantStatus(t, at, got, 200)
		if ct := got.Header.Get("Content-Type"); ct != types[filepath.Ext(e.Name())] {
			t.Errorf("%s: Content-Type = %q", e.Name(), ct)
		}
		if cache := got.Header.Get("Cache-Control"); !strings.Contains(cache, "immutable") {
			t.Errorf("%s: Cache-Control = %q", e.Name(), cache)
		}
	}
	wantStatus(t, "an old checksum", w.visitor().get("/static/0000000000000000/portal.css"), 404)
	wantStatus(t, "no such file", w.visitor().get("/static/0000000000000000/nothing"), 404)
}

func TestNewRefuses(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]Config{
		"no service": {Store: w.store, Base: w.base},
		"no store":   {Service: w.service, Base: w.base},
		"no base":    {Service: w.service, Store: w.store},
		"base":       {Service: w.service, Store: w.store, Base: "openleash.localhost:8787"},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: New succeeded", name)
		}
	}
}
