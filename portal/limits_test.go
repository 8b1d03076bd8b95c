package portal

import (
	"fmt"
	"html"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/internal/logline"
)

const limitPolicy = `version: 1
default: deny
rules:
  - id: buy
    effect: allow
    action: purchase
    limits:
      - {id: each, sum: $.payload.amount_minor, currency: SEK, max: 500000, per: [agent, $.payload.folder], window: 24h}
limits:
  - {id: calls, action: purchase, count: true, max: 3, window: month, timezone: UTC}
`

// limited is a world whose policy has limits.
func limited(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	before := w.keeper.Current().Hash
	write(t, filepath.Join(w.policies, "buying.yaml"), limitPolicy)
	for deadline := time.Now().Add(10 * time.Second); w.keeper.Current().Hash == before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the policy did not come into force")
		}
	}
	return w
}

// charge charges an action to a limit, by this decision.
func (w *world) charge(limit, key, decision, actionID string, amount int64) {
	w.t.Helper()
	r := authz.Reservation{
		DecisionID: decision, AgentID: "shop-bot", ActionID: actionID, ActionHash: action.Hash{1}.String(), Now: w.now().UnixMilli(),
		Charges: []authz.Charge{{Limit: limit, Key: key, Amount: amount, Max: 1 << 40}},
	}
	if err := w.store.Commit(w.t.Context(), authz.Batch{Reserve: &r}); err != nil {
		w.t.Fatal(err)
	}
}

// link is where a page leads from a text, which must be there once.
func (a answer) link(t *testing.T, prefix string) string {
	t.Helper()
	list := regexp.MustCompile(`href="(`+regexp.QuoteMeta(prefix)+`[^"]*)"`).FindAllStringSubmatch(a.Body, -1)
	if len(list) != 1 {
		t.Fatalf("%d links to %s on the page, want 1:\n%s", len(list), prefix, a.Body)
	}
	return html.UnescapeString(list[0][1])
}

func TestLimitsPage(t *testing.T) {
	w := limited(t)
	v := w.signedIn()
	got := v.get("/limits")
	wantText(t, "at first", got, "<code>buying/each</code>", "At most SEK\u00a05\u2009000.00 in 24h, for each agent and $.payload.folder.", "At most 3 a month.", "Nothing counts now.", `aria-current="page">Limits`)

	w.charge("buying/each", `["shop-bot","<b>\u202e"]`, "d1", "a1", 420000)
	w.charge("buying/each", `["other","inbox"]`, "d2", "a2", 600000) // approved beyond the limit
	w.charge("buying/former", `["shop-bot"]`, "d3", "a3", 7)
	settled := authz.Batch{Settle: []authz.Settlement{{DecisionID: "d1", AgentID: "shop-bot", ActionID: "a1"}}}
	if err := w.store.Commit(t.Context(), settled); err != nil {
		t.Fatal(err)
	}
	got = v.get("/limits")
	wantText(t, "the page", got,
		`agent shop-bot with $.payload.folder &#34;&lt;b&gt;\u202e&#34;`, "SEK\u00a04\u2009200.00 used, SEK\u00a00.00 held, <strong>SEK\u00a0800.00 left</strong>", `class="used" width="84"`,
		"agent other with $.payload.folder inbox", "SEK\u00a00.00 used, SEK\u00a06\u2009000.00 held, <strong>SEK\u00a00.00 left</strong>", `class="held" x="0" width="100"`,
		"in 23 h 59 min", "<code>buying/former</code>", "It stands in no policy in force", "7 held")
	if strings.Contains(got.Body, "<b>\\") || strings.Contains(got.Body, "\u202e") || strings.Contains(got.Body, " style=") {
		t.Error("an agent's text came through, or a style that the browser would not take")
	}
	wantText(t, "a limit in no policy", v.get(got.link(t, "/limits/charges?key=%5B%22shop-bot%22%5D&amp;limit=buying%2Fformer")), "7 held", "Give back")
	wantStatus(t, "a limit that is not there", v.get("/limits/charges?limit=buying/nothing"), 404)
	wantStatus(t, "keys of one", v.get("/limits?limit=buying/nothing"), 404)
}

func TestLimitsPageByPages(t *testing.T) {
	w := limited(t)
	for i := range maxKeys + 1 {
		w.charge("buying/each", fmt.Sprintf(`["bot%03d","inbox"]`, i), fmt.Sprint("d", i), fmt.Sprint("a", i), 1)
	}
	for i := range maxCharges + 1 {
		w.charge("buying/calls", `[]`, fmt.Sprintf("e%03d", i), fmt.Sprint("b", i), 1)
	}
	v := w.signedIn()
	first := v.get("/limits")
	wantText(t, "the first page", first, "agent bot000 ", "agent bot099 ")
	second := v.get(first.link(t, "/limits?"))
	wantText(t, "the second", second, "agent bot100 ")
	for what, got := range map[string]bool{"bot100 on the first": strings.Contains(first.Body, "bot100"), "bot099 on the second": strings.Contains(second.Body, "bot099"), "another limit on the second": strings.Contains(second.Body, "buying/calls")} {
		if got {
			t.Error(what)
		}
	}
	charges := v.get("/limits/charges?limit=buying/calls")
	wantText(t, "the newest charges", charges, "e050", "e001")
	older := v.get(charges.link(t, "/limits/charges?key"))
	wantText(t, "the oldest", older, "e000")
	if strings.Contains(charges.Body, "e000") || strings.Contains(older.Body, "e001") {
		t.Error("a charge is on two pages, or on the wrong one")
	}
}

var releaseForm = regexp.MustCompile(`name="(decision|limit|key)" value="([^"]*)"`)

// releaseForm reads the first form that a page has for a release.
func (a answer) releaseForm(t *testing.T, reason string) url.Values {
	t.Helper()
	form := url.Values{"reason": {reason}}
	for _, m := range releaseForm.FindAllStringSubmatch(a.Body, 3) {
		form.Set(m[1], html.UnescapeString(m[2]))
	}
	if len(form) != 4 {
		t.Fatalf("status %d: no form on the page:\n%s", a.Status, a.Body)
	}
	return form
}

// wantCharges are the decisions whose charges a key has.
func (w *world) wantCharges(limit, key string, decisions ...string) {
	w.t.Helper()
	list, err := w.store.LimitCharges(w.t.Context(), limit, key, authz.ChargePlace{}, 100)
	if err != nil {
		w.t.Fatal(err)
	}
	var got []string
	for _, c := range list {
		got = append(got, strings.Join(c.Decisions, "+"))
	}
	if strings.Join(got, " ") != strings.Join(decisions, " ") {
		w.t.Errorf("charges of %s%s: %v, want %v", limit, key, got, decisions)
	}
}

func TestReleaseOnThePage(t *testing.T) {
	const key = `["shop-bot","in & out"]`
	w := limited(t)
	w.charge("buying/each", key, "old", "a1", 5000)
	w.pass(time.Minute)
	w.charge("buying/each", key, "new", "a2", 42050)
	v := w.signedIn()
	page := v.get(v.get("/limits").link(t, "/limits/charges"))
	wantText(t, "the charges", page, "for agent shop-bot with $.payload.folder &#34;in &amp; out&#34;", "SEK\u00a0420.50", "held: what came of it", "<code>new</code>", "<code>old</code>", "by shop-bot")
	got := v.post("/limits/release", page.releaseForm(t, "  it never came\n"))
	wantStatus(t, "releasing", got, 303)
	w.wantCharges("buying/each", key, "old")
	after := v.get(got.Header.Get("Location"))
	wantStatus(t, "afterwards", after, 200)
	wantText(t, "afterwards", after, "Decision new was released from it by alice, in the portal.", "<strong>SEK\u00a04\u2009950.00 left</strong>")
	w.wantLogged("limit.released", "portal:alice", "it never came", []audit.Limit{{ID: "buying/each", Key: key, Amount: 42050, Max: 500000, Released: true}})

	got = v.post("/limits/release", page.releaseForm(t, "once more"))
	wantStatus(t, "again", got, 409)
	wantText(t, "again", got, "Nothing was done. Decision new was released from it by alice, in the portal.")
	w.wantCharges("buying/each", key, "old")
	wantText(t, "the log", v.get("/audit"), "limit.released", "buying/each", "it never came")
}

// wantLogged waits for an event in the log.
func (w *world) wantLogged(event, by, reason string, limits []audit.Limit) {
	w.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		lines, err := w.store.Lines(w.t.Context(), 1, 1000)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, l := range lines {
			e, err := logline.Read(l)
			if err != nil {
				w.t.Fatal(err)
			}
			if e.Event == event && e.ActorID == by && e.Reason == reason && fmt.Sprint(e.Limits) == fmt.Sprint(limits) {
				return
			}
		}
	}
	w.t.Errorf("no %s by %s in the log", event, by)
}

// A charge on which two decisions stand is given back with the second.
func TestReleaseOfTwoOnThePage(t *testing.T) {
	w := limited(t)
	w.charge("buying/calls", "[]", "d1", "the action", 1)
	w.charge("buying/calls", "[]", "d2", "the action", 1)
	v := w.signedIn()
	page := v.get("/limits/charges?limit=buying/calls")
	wantText(t, "the charge", page, "2 decisions on the same action stand on it", "<code>d1</code>", "<code>d2</code>")
	for i, left := range [][]string{{"d2"}, nil} {
		wantStatus(t, "releasing", v.post("/limits/release", page.releaseForm(t, "it never came")), 303)
		w.wantCharges("buying/calls", "[]", left...)
		if page = v.get("/limits/charges?limit=buying/calls"); i == 0 {
			wantText(t, "the rest", page, "<code>d2</code>")
		}
	}
}

func TestReleaseRefused(t *testing.T) {
	w := limited(t)
	w.charge("buying/calls", "[]", "d1", "a1", 1)
	v := w.signedIn()
	form := v.get("/limits/charges?limit=buying/calls").releaseForm(t, "it never came")
	change := func(name, value string) url.Values {
		changed := url.Values{}
		for k := range form {
			changed.Set(k, form.Get(k))
		}
		changed.Set(name, value)
		return changed
	}
	for name, tt := range map[string]struct {
		form   url.Values
		status int
		text   string
	}{
		"no reason":        {change("reason", " "), 400, "A reason is needed"},
		"a long reason":    {change("reason", strings.Repeat("a", maxReason+1)), 400, "too long"},
		"no decision":      {change("decision", ""), 409, "nothing to give back"},
		"another decision": {change("decision", "d2"), 409, "nothing to give back"},
		"another limit":    {change("limit", "buying/each"), 409, "nothing to give back"},
		"no limit":         {change("limit", ""), 404, "No such limit"}, // which would be all
	} {
		got := v.post("/limits/release", tt.form)
		wantStatus(t, name, got, tt.status)
		wantText(t, name, got, tt.text)
		w.wantCharges("buying/calls", "[]", "d1")
	}
	wantStatus(t, "without a session", w.visitor().post("/limits/release", form), 401)
	w.wantCharges("buying/calls", "[]", "d1")
	if text := v.get("/limits/charges?limit=buying/calls&released=d1").Body; strings.Contains(text, "was released") {
		t.Error("the address alone made the page say that something was released")
	}
}
