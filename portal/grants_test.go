package portal

import (
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/policy"
)

const order = `{"item":"tea","total":129900,"note":"<b>\u202e</b>"}`

func with(form url.Values, pairs ...string) url.Values {
	for i := 0; i < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	return form
}

// fieldOf is the number of the field for a place, as the page has it.
func fieldOf(t *testing.T, page answer, path string) string {
	t.Helper()
	m := regexp.MustCompile(`for="op\.(\d+)"><code>` + regexp.QuoteMeta(path) + `</code>`).FindStringSubmatch(page.Body)
	if m == nil {
		t.Fatalf("no field for %s on the page\n%s", path, page.Body)
	}
	return m[1]
}

func (w *world) grantOf(req approvals.Request) approvals.Grant {
	w.t.Helper()
	g, err := w.store.RequestGrant(w.t.Context(), req.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	return g
}

func TestGiveGrant(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	req := w.hold(order)
	page := v.get("/approvals/" + req.ID)
	wantText(t, "the page", page, "Approve more than this once", `action="/approvals/`+req.ID+`/grant"`, "Make it a rule")
	total := fieldOf(t, page, "$.payload.arguments.total")
	form := with(page.form(t), "covers", "bounds", "times", "5", "length", "8h", "op."+total, "at_most", "value."+total, "200000")
	got := v.post("/approvals/"+req.ID+"/grant", form)
	wantStatus(t, "giving it", got, 303)
	g := w.grantOf(req)
	var bounds []string
	for _, b := range g.Bounds {
		bounds = append(bounds, b.String())
	}
	// amount_minor is what the mapping has read from it.
	want := "$.payload.arguments.total at_most 200000; $.payload.amount_minor at_most 200000; $.payload.arguments.total at_least 0; $.payload.amount_minor at_least 0"
	if strings.Join(bounds, "; ") != want || g.Uses != 5 || g.Until.Sub(g.CreatedAt) != 8*time.Hour || g.GivenBy != "portal:alice" {
		t.Errorf("%d uses until %s by %s, bounds %s", g.Uses, g.Until, g.GivenBy, bounds)
	}
	wantText(t, "the page then", v.get("/approvals/"+req.ID), "A standing grant was given with it", "Withdraw the approval")
	grants := v.get("/grants")
	wantText(t, "the grants", grants, `aria-current="page">Grants`, "4 of 5 left", "total at_most 200000", "shop-bot", "alice, in the portal", `action="/grants/`+g.ID+`/withdraw"`)

	got = v.post("/grants/"+g.ID+"/withdraw", url.Values{})
	wantStatus(t, "withdrawing it", got, 303)
	if g = w.grantOf(req); g.WithdrawnBy != "portal:alice" {
		t.Errorf("%+v", g)
	}
	wantText(t, "the grants then", v.get("/grants"), "No standing grant is good now", "<dd>withdrawn</dd>")
	got = v.post("/grants/"+g.ID+"/withdraw", url.Values{})
	wantStatus(t, "withdrawing it again", got, 409)
	wantText(t, "withdrawing it again", got, "Nothing was done: the grant was withdrawn.")
	wantText(t, "the request", v.get("/approvals/"+req.ID), "denied", "the approval was withdrawn")
	wantStatus(t, "no grant", v.post("/grants/none/withdraw", url.Values{}), 404)
}

func TestGiveGrantExactly(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	req := w.hold(order)
	page := v.get("/approvals/" + req.ID)
	// What was written into the fields does not count when exactly is chosen.
	form := with(page.form(t), "covers", "exactly", "times", "", "length", "1h", "op.0", "any", "value.0", "1")
	wantStatus(t, "giving it", v.post("/approvals/"+req.ID+"/grant", form), 303)
	if g := w.grantOf(req); len(g.Bounds) != 0 || g.Uses != 0 {
		t.Errorf("%+v", g)
	}
	wantText(t, "the grants", v.get("/grants"), "exactly <a", "as often as there is time for, 1 so far")
	got := v.post("/approvals/"+req.ID+"/grant", form)
	wantStatus(t, "giving it again", got, 409)
	wantText(t, "giving it again", got, "already approved by alice")
}

// A form that says nothing clear gives nothing.
func TestGiveGrantRefused(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	req := w.hold(order)
	page := v.get("/approvals/" + req.ID)
	total, item := fieldOf(t, page, "$.payload.arguments.total"), fieldOf(t, page, "$.payload.arguments.item")
	for name, tt := range map[string]struct {
		form   []string
		status int
		want   string
	}{
		"nothing chosen":  {[]string{"length", "1h"}, 400, "say what the grant covers"},
		"no length":       {[]string{"covers", "exactly"}, 400, "say how long it is good"},
		"too long":        {[]string{"covers", "exactly", "length", "9999h"}, 400, "a minute to 30 days"},
		"once":            {[]string{"covers", "exactly", "length", "1h", "times", "1"}, 400, "want a number from 2 to 10000"},
		"not a count":     {[]string{"covers", "exactly", "length", "1h", "times", "many"}, 400, "want a number from 2"},
		"no bound":        {[]string{"covers", "bounds", "length", "1h"}, 400, "nothing was bounded"},
		"not a number":    {[]string{"covers", "bounds", "length", "1h", "op." + total, "at_most", "value." + total, "lots"}, 400, "want a number"},
		"below it":        {[]string{"covers", "bounds", "length", "1h", "op." + total, "at_most", "value." + total, "5"}, 400, "the call itself has 129900 there"},
		"without it":      {[]string{"covers", "bounds", "length", "1h", "op." + item, "one_of", "value." + item, "coffee\r\nmilk"}, 400, "which is not one_of"},
		"no such bound":   {[]string{"covers", "bounds", "length", "1h", "op." + item, "whatever", "value." + item, "x"}, 400, "want at_most, at_least, one_of or any"},
		"another action":  {[]string{"covers", "exactly", "length", "1h", "action_hash", "sha256:" + strings.Repeat("0", 64)}, 409, "the form was for another action"},
		"without a hash":  {[]string{"covers", "exactly", "length", "1h", "action_hash", ""}, 409, "the form was for another action"},
		"two at one time": {[]string{"covers", "bounds", "length", "1h", "op." + total, "at_most", "value." + total, "200000\n300000"}, 400, "at_most wants one number"},
	} {
		got := v.post("/approvals/"+req.ID+"/grant", with(page.form(t), tt.form...))
		if got.Status != tt.status || !strings.Contains(got.Body, tt.want) {
			t.Errorf("%s: %d, want %d and %q\n%s", name, got.Status, tt.status, tt.want, got.Body)
		}
	}
	if _, err := w.store.RequestGrant(t.Context(), req.ID); err != approvals.ErrNotFound {
		t.Errorf("a grant was given: %v", err)
	}
	if r, _ := w.store.Approval(t.Context(), req.ID); r.Status != approvals.Pending {
		t.Errorf("it was answered: %s", r.Status)
	}
}

// Nobody but the owner who is signed in gives, withdraws or makes rules.
func TestGrantsAreTheOwners(t *testing.T) {
	w := newWorld(t)
	req := w.hold(order)
	stranger := w.visitor()
	for _, path := range []string{"/grants", "/approvals/" + req.ID + "/rule"} {
		if got := stranger.get(path); strings.Contains(got.Body, "shop-bot") || got.Status == 200 {
			t.Errorf("GET %s without a session: %d", path, got.Status)
		}
	}
	form := url.Values{"action_hash": {req.ActionHash.String()}, "covers": {"exactly"}, "length": {"1h"}, "do": {"put"}}
	for _, path := range []string{"/approvals/" + req.ID + "/grant", "/approvals/" + req.ID + "/rule", "/approvals/" + req.ID + "/withdraw", "/grants/x/withdraw"} {
		if got := stranger.post(path, form); got.Status < 400 && got.Status != 303 {
			t.Errorf("POST %s without a session: %d", path, got.Status)
		}
		r := w.request("POST", path, form.Encode())
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", "https://evil.example")
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		if got := w.signedIn().do(r); got.Status != 403 {
			t.Errorf("POST %s from another site: %d", path, got.Status)
		}
	}
	if _, err := w.store.RequestGrant(t.Context(), req.ID); err != approvals.ErrNotFound {
		t.Errorf("a grant was given: %v", err)
	}
	if files, err := os.ReadDir(w.policies); err != nil || len(files) != 1 {
		t.Errorf("%v, %v", files, err)
	}
}

func TestWithdrawApproval(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	req := w.hold(order)
	form := v.get("/approvals/" + req.ID).form(t)
	wantStatus(t, "approving", v.post("/approvals/"+req.ID+"/approve", form), 303)
	wantText(t, "the page", v.get("/approvals/"+req.ID), "Withdraw the approval")
	wantStatus(t, "withdrawing", v.post("/approvals/"+req.ID+"/withdraw", form), 303)
	page := v.get("/approvals/" + req.ID)
	wantText(t, "the page then", page, "the approval was withdrawn")
	if strings.Contains(page.Body, "Withdraw the approval") {
		t.Error("it can be withdrawn again")
	}
	wantStatus(t, "withdrawing again", v.post("/approvals/"+req.ID+"/withdraw", form), 409)
}

// A rule is shown with its test, put in force, and changes what is decided.
func TestMakeRule(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	req := w.hold(order)
	page := v.get("/approvals/" + req.ID + "/rule")
	wantStatus(t, "the page", page, 200)
	wantText(t, "the page", page, "passes: the call that was asked for is allowed: ALLOW", "passes: an argument more: REQUIRE_APPROVAL", "applies_to: {agent: &#34;shop-bot&#34;}", `name="do" value="put"`)
	if strings.Contains(page.Body, "\u202e") || strings.Contains(page.Body, "<b>") {
		t.Error("what the agent wrote is markup, or hides")
	}
	total := fieldOf(t, page, "$.payload.arguments.total")
	form := with(page.form(t), "length", "168h", "op."+total, "at_most", "value."+total, "200000", "do", "show")
	shown := v.post("/approvals/"+req.ID+"/rule", form)
	wantStatus(t, "with a bound", shown, 200)
	wantText(t, "with a bound", shown, "op: lte, value: 200000", `<option value="at_most" selected>`, `<option value="168h" selected>`)
	if files, _ := os.ReadDir(w.policies); len(files) != 1 {
		t.Error("looking at it wrote it")
	}
	got := v.post("/approvals/"+req.ID+"/rule", with(form, "do", "put"))
	wantStatus(t, "putting it in force", got, 303)
	then := v.get("/approvals/" + req.ID + "/rule")
	wantText(t, "the page then", then, "is in force: <code>rules/create-order-", "do not ask for an approval of this call now, but say ALLOW")
	if strings.Contains(then.Body, `value="put"`) {
		t.Error("it can be put in force again")
	}
	decide := func(total int64) policy.Outcome {
		a := req.Action
		a.Payload = parse(t, strings.ReplaceAll(string(a.Payload.Canonical()), "129900", string(action.IntValue(total).Canonical())))
		return w.keeper.Current().For("shop-bot").Decide(&a, policy.Env{Tool: req.ToolInfo, Now: w.now()}).Outcome
	}
	if decide(129900) != policy.Allow || decide(200000) != policy.Allow || decide(200001) != policy.RequireApproval {
		t.Error(decide(129900), decide(200000), decide(200001))
	}
	files, err := filepath.Glob(filepath.Join(w.policies, "rules", "*"))
	if err != nil || len(files) != 2 {
		t.Errorf("%v, %v", files, err)
	}
}

// Where something stricter stands in the way, nothing is written, and the page says so.
func TestMakeRuleRefused(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	req := w.hold(order)
	form := with(v.get("/approvals/"+req.ID+"/rule").form(t), "length", "168h", "do", "put")
	reload := func(name, text string) {
		t.Helper()
		before := w.keeper.Current().Hash
		write(t, filepath.Join(w.policies, name), text)
		for end := time.Now().Add(10 * time.Second); w.keeper.Current().Hash == before && w.keeper.Err() == nil; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("not reloaded")
			}
		}
	}
	none := func(what, want string) {
		t.Helper()
		got := v.post("/approvals/"+req.ID+"/rule", form)
		wantStatus(t, what, got, 409)
		wantText(t, what, got, want)
		if files, _ := filepath.Glob(filepath.Join(w.policies, "rules", "*")); len(files) != 0 {
			t.Errorf("%s: wrote %v", what, files)
		}
	}
	reload("agents/shop-bot/own.yaml", "version: 1\ndefault: passthrough\nrules: [{id: ask, effect: allow, action: purchase, obligations: [{type: HUMAN_APPROVAL}]}]\n")
	none("a nearer rule", "want ALLOW, got REQUIRE_APPROVAL")
	reload("agents/shop-bot/own.yaml", "version: 1\ndefault: passthrough\nrules: [{id: stop, effect: deny, final: true, action: purchase}]\n")
	none("a final deny", "but say DENY (agents/shop-bot/own/stop)")
	reload("agents/shop-bot/own.yaml", "version: 1\ndefault: passthrough\nrules: []\n")
	form.Set("action_hash", "sha256:"+strings.Repeat("0", 64))
	none("another action", "the form was for another action")
	form.Set("action_hash", req.ActionHash.String())
	reload("broken.yaml", "version: 2\n")
	none("a broken folder", "the policy files are broken")
}

// The page of a use names the grant.
func TestUsedByGrant(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	first := w.hold(order)
	if _, err := w.service.Give(t.Context(), "cli:bob", first.ID, first.ActionHash, approvals.Terms{}); err != nil {
		t.Fatal(err)
	}
	g := w.grantOf(first)
	second := first
	second.ID, second.DecisionID, second.IntentHash, second.CreatedAt = "second", "d2", action.Hash{9}, w.now()
	if err := w.store.Commit(t.Context(), authz.Batch{UseGrant: &authz.GrantUse{GrantID: g.ID, Request: g.Use(second), Now: w.now()}}); err != nil {
		t.Fatal(err)
	}
	wantText(t, "the page of a use", v.get("/approvals/second"), "It ran by the standing grant", `href="/grants#`+g.ID+`"`, "bob, on the command line")
}
