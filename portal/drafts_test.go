package portal

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/draft"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/internal/hostiletest"
	"github.com/openleash/openleash-go/internal/visible"
	"github.com/openleash/openleash-go/policy"
)

const buyAlone = `version: 1
default: passthrough
rules:
  - {id: buy, effect: allow, action: purchase}
`

// propose makes a draft of shop-bot's for itself.
func (w *world) propose(change func(*draft.Proposal)) draft.Proposal {
	w.t.Helper()
	return w.proposeAs("shop-bot", change)
}

func (w *world) proposeAs(name string, change func(*draft.Proposal)) draft.Proposal {
	w.t.Helper()
	bot, err := w.store.EnsureAgent(w.t.Context(), name, w.owner)
	if err != nil {
		w.t.Fatal(err)
	}
	p := draft.Proposal{TargetID: bot.ID, Target: bot.Name, Name: "Shopping", Justification: "I buy every day", Policy: buyAlone}
	change(&p)
	nonce := authz.Nonce{Hash: [16]byte(uuid.New()), Now: w.now().UnixMilli(), Until: w.now().UnixMilli() + 1000}
	if p, err = w.service.Propose(w.t.Context(), authz.Caller{Agent: bot}, p, nonce); err != nil {
		w.t.Fatal(err)
	}
	return p
}

func asItIs(*draft.Proposal) {}

var draftFields = regexp.MustCompile(`name="(policy_hash|set)" value="([^"]+)"`)

// draftForm reads what the page's forms carry.
func (a answer) draftForm(t *testing.T) url.Values {
	t.Helper()
	form := url.Values{}
	for _, m := range draftFields.FindAllStringSubmatch(a.Body, -1) {
		form.Set(m[1], m[2])
	}
	if form.Get("policy_hash") == "" {
		t.Fatalf("status %d: no form on the page:\n%s", a.Status, a.Body)
	}
	return form
}

func (w *world) wantDraft(id string, want draft.Status) draft.Proposal {
	w.t.Helper()
	p, err := w.store.PolicyDraft(w.t.Context(), id)
	if err != nil || p.Status != want {
		w.t.Errorf("draft %s: want %s, got %+v, %v", id, want, p, err)
	}
	return p
}

// bought is what is decided on a purchase of shop-bot's.
func (w *world) bought(t *testing.T) policy.Outcome {
	t.Helper()
	req := action.Request{ActionID: uuid.NewString(), ActionType: "purchase", AgentID: "shop-bot", SubjectID: w.owner.ID, Payload: action.ObjectValue()}
	return w.keeper.Current().For("shop-bot").Decide(&req, policy.Env{Now: w.now()}).Outcome
}

// decided records a decision on a purchase.
func (w *world) decided(agent string) {
	req := action.Request{ActionID: uuid.NewString(), ActionType: "purchase", RequestedAt: "2026-01-02T12:04:05.000Z", AgentID: agent, SubjectID: w.owner.ID, Payload: action.ObjectValue()}
	word, policyID := "REQUIRE_APPROVAL", "shopping"
	e := w.entry("decision", "")
	e.ActorID, e.ActionType, e.ActionID, e.Decision, e.PolicyID, e.MatchedRuleID = agent, &req.ActionType, &req.ActionID, &word, &policyID, "large-orders"
	e.DecisionID, e.ActionHash, e.RequestedAt, e.Payload = uuid.NewString(), req.Hash().String(), req.RequestedAt, req.Payload.Canonical()
	w.happened(e)
}

// A draft is shown with what it changes, approved, and decides from then on.
func TestApproveDraft(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	if home := v.get("/"); strings.Contains(home.Body, `href="/drafts"`) {
		t.Error("the navigation has drafts where there are none")
	}
	w.decided("shop-bot")
	w.decided("other")
	d := w.propose(asItIs)
	wantText(t, "the navigation", v.get("/"), `<a href="/drafts">Drafts<span class="badge">1<`)
	wantText(t, "the list", v.get("/drafts"), `href="/drafts/`+d.ID+`"`, "agent shop-bot", "“Shopping”", "I buy every day")
	page := v.get("/drafts/" + d.ID)
	wantStatus(t, "the page", page, 200)
	wantText(t, "the page", page, "I buy every day", "agents/shop-bot/shopping.yaml", "+   - {id: buy, effect: allow, action: purchase}",
		"Of 2 recorded decisions", `<td class="num">1</td><td class="says">REQUIRE_APPROVAL</td><td class="says good">ALLOW</td><td>agents/shop-bot/shopping/buy`, "1 the same as without it")
	if got := w.bought(t); got != policy.RequireApproval {
		t.Errorf("a draft decides: %v", got)
	}
	got := v.post("/drafts/"+d.ID+"/approve", page.draftForm(t))
	wantStatus(t, "approving", got, 303)
	if got := w.bought(t); got != policy.Allow {
		t.Errorf("approved, and decided as %v", got)
	}
	if p := w.wantDraft(d.ID, draft.Approved); p.PolicyID != "agents/shop-bot/shopping" || p.ResolvedBy != "portal:alice" {
		t.Errorf("%+v", p)
	}
	info, err := os.Stat(filepath.Join(w.policies, "agents", "shop-bot", "shopping.yaml"))
	if err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	wantText(t, "the page then", v.get("/drafts/"+d.ID), "It is in force as <code>agents/shop-bot/shopping.yaml</code>", "status APPROVED")
	wantText(t, "the list then", v.get("/drafts"), "Nothing waits for you", "agents/shop-bot/shopping")
	again := v.post("/drafts/"+d.ID+"/deny", page.draftForm(t))
	wantStatus(t, "denying it then", again, 409)
	wantText(t, "denying it then", again, "Your answer did not count: the policy draft was answered already.")
	w.wantDraft(d.ID, draft.Approved)
	if left, _ := filepath.Glob(filepath.Join(w.policies, "agents", "shop-bot", ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestDenyDraft(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	d := w.propose(asItIs)
	form := v.get("/drafts/" + d.ID).draftForm(t)
	wantStatus(t, "a long reason", v.post("/drafts/"+d.ID+"/deny", with(form, "reason", strings.Repeat("x", maxReason+1))), 400)
	wantStatus(t, "denying", v.post("/drafts/"+d.ID+"/deny", with(form, "reason", "too <b>wide</b>")), 303)
	if p := w.wantDraft(d.ID, draft.Denied); p.DenyReason != "too <b>wide</b>" || p.PolicyID != "" {
		t.Errorf("%+v", p)
	}
	wantText(t, "the page then", v.get("/drafts/"+d.ID), "The agent was told: too &lt;b&gt;wide&lt;/b&gt;", "id: buy")
	wantStatus(t, "approving it then", v.post("/drafts/"+d.ID+"/approve", form), 409)
	if got := w.bought(t); got != policy.RequireApproval {
		t.Errorf("denied, and decided as %v", got)
	}
}

// What is answered is what was shown: this text, beside these policies.
func TestDraftIsAsShown(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	d, other := w.propose(asItIs), w.propose(func(p *draft.Proposal) { p.Policy += "# more\n" })
	form := func() url.Values { return v.get("/drafts/" + d.ID).draftForm(t) }
	for _, word := range []string{"approve", "deny"} {
		got := v.post("/drafts/"+d.ID+"/"+word, with(form(), "policy_hash", other.Hash.String()))
		wantStatus(t, word+" of another text", got, 409)
		wantText(t, word+" of another text", got, "this is not the text of the policy draft: look at it again")
		wantStatus(t, word+" of no text", v.post("/drafts/"+d.ID+"/"+word, url.Values{}), 400)
	}
	before := form()
	write(t, filepath.Join(w.policies, "new.yaml"), "version: 1\ndefault: passthrough\nrules: []\n")
	w.awaitPolicy("new.yaml")
	got := v.post("/drafts/"+d.ID+"/approve", before)
	wantStatus(t, "beside other policies", got, 409)
	wantText(t, "beside other policies", got, "the policies in force have changed since it was shown")
	w.wantDraft(d.ID, draft.Pending)
	// Answered by somebody else between the look and the commit.
	w.between = func() {
		if err := w.service.DenyDraft(t.Context(), "cli:bob", w.owner.ID, d, d.Hash, ""); err != nil {
			t.Error(err)
		}
	}
	wantStatus(t, "too late", v.post("/drafts/"+d.ID+"/approve", form()), 409)
	w.wantDraft(d.ID, draft.Denied)
	if files, _ := filepath.Glob(filepath.Join(w.policies, "agents", "shop-bot", "*")); len(files) > 0 {
		t.Errorf("written: %v", files)
	}
}

func (w *world) awaitPolicy(file string) {
	w.t.Helper()
	for end := time.Now().Add(10 * time.Second); w.keeper.Current().Policy(file) == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatal("not reloaded")
		}
	}
}

// Yes and no at once: one of them counts, and the folder is as that says.
func TestDraftRace(t *testing.T) {
	for range 5 {
		w := newWorld(t)
		v := w.signedIn()
		d := w.propose(asItIs)
		form := v.get("/drafts/" + d.ID).draftForm(t)
		var wg sync.WaitGroup
		codes := make([]int, 6)
		for i := range codes {
			wg.Go(func() { codes[i] = v.post("/drafts/"+d.ID+"/"+[]string{"approve", "deny"}[i%2], form).Status })
		}
		wg.Wait()
		won := map[int]int{}
		for _, code := range codes {
			won[code]++
		}
		if won[303] != 1 || won[409] != 5 {
			t.Errorf("%v", codes)
		}
		p, err := w.store.PolicyDraft(t.Context(), d.ID)
		if err != nil {
			t.Fatal(err)
		}
		_, err = os.Stat(filepath.Join(w.policies, "agents", "shop-bot", "shopping.yaml"))
		if (err == nil) != (p.Status == draft.Approved) || p.Status == draft.Pending {
			t.Errorf("%s, and the file: %v", p.Status, err)
		}
	}
}

// What cannot come into force is not approved, and waits still.
func TestDraftThatDoesNotFit(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	write(t, filepath.Join(w.policies, "agents", "shop-bot", "shopping.yml"), "version: 1\ndefault: passthrough\nrules: [] # ann's\n")
	w.awaitPolicy("agents/shop-bot/shopping.yml")
	clash := w.propose(asItIs)
	broken := w.propose(func(p *draft.Proposal) { p.Name, p.Policy = "b", "version: 1\ndefault: dony\nrules: []\n" })
	elsewhere := w.propose(func(p *draft.Proposal) { p.Name, p.Policy = "c", "applies_to: {agent: other}\n"+buyAlone })
	for d, says := range map[string]string{
		clash.ID: "agents/shop-bot/shopping.yml is in force already: a draft replaces nothing", broken.ID: "agents/shop-bot/b.yaml:2:10: default: want",
		elsewhere.ID: "applies_to says agent other, and the draft is for agent shop-bot",
	} {
		page := v.get("/drafts/" + d)
		wantText(t, "the page", page, "It cannot come into force as it is", says)
		if strings.Contains(page.Body, "/approve") {
			t.Errorf("%s can be approved", says)
		}
		form := with(page.draftForm(t), "set", w.keeper.Current().Hash)
		got := v.post("/drafts/"+d+"/approve", form)
		wantStatus(t, says, got, 409)
		wantText(t, says, got, "Nothing was done: ")
		w.wantDraft(d, draft.Pending)
	}
	wantText(t, "the one it clashes with", v.get("/drafts/"+clash.ID), "compared with <code>agents/shop-bot/shopping.yml</code>", "- rules: [] # ann&#39;s", "+   - {id: buy")
	if files, _ := filepath.Glob(filepath.Join(w.policies, "agents", "*", "*")); len(files) != 1 {
		t.Errorf("%v", files)
	}
	write(t, filepath.Join(w.policies, "broken.yaml"), "version: 2\n")
	good := w.propose(func(p *draft.Proposal) { p.Name = "good" })
	for end := time.Now().Add(10 * time.Second); w.keeper.Err() == nil && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	got := v.post("/drafts/"+good.ID+"/approve", v.get("/drafts/"+good.ID).draftForm(t))
	wantStatus(t, "beside broken files", got, 409)
	wantText(t, "beside broken files", got, "the policy files are broken")
}

// Every deny that it would come before is named on the page.
func TestDraftOverrides(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	write(t, filepath.Join(w.policies, "zz.yaml"), "version: 1\ndefault: deny\nrules:\n  - {id: never, effect: deny, final: true, action: purchase.gold}\n  - {id: no-guns, effect: deny, action: purchase.guns}\n")
	w.awaitPolicy("zz.yaml")
	d := w.propose(func(p *draft.Proposal) {
		p.Target, p.TargetID, p.Name = "", "", "wide"
		p.Policy = "version: 1\nrank: 1\ndefault: allow\nrules:\n  - {id: all, effect: allow, action: purchase.*}\n"
	})
	page := v.get("/drafts/" + d.ID)
	wantText(t, "the page", page, "A policy for <span class=\"name\">every agent</span>", "It comes before what denies now",
		`its rule &#34;all&#34; comes before rule &#34;no-guns&#34; of policy &#34;zz&#34; and allows what that denies`)
	if strings.Contains(page.Body, "never") {
		t.Error("nothing comes before a final deny")
	}
}

// Nobody but the owner who is signed in sees or answers drafts.
func TestDraftsAreTheOwners(t *testing.T) {
	w := newWorld(t)
	d := w.propose(asItIs)
	stranger := w.visitor()
	for _, path := range []string{"/drafts", "/drafts/" + d.ID} {
		wantStatus(t, path, stranger.get(path), http.StatusUnauthorized)
	}
	form := url.Values{"policy_hash": {d.Hash.String()}, "set": {w.keeper.Current().Hash}}
	for _, word := range []string{"approve", "deny"} {
		wantStatus(t, word, stranger.post("/drafts/"+d.ID+"/"+word, form), http.StatusUnauthorized)
	}
	v := w.signedIn()
	wantStatus(t, "no such draft", v.get("/drafts/"+uuid.NewString()), http.StatusNotFound)
	wantStatus(t, "no such draft", v.post("/drafts/"+uuid.NewString()+"/deny", form), http.StatusNotFound)
	cross := w.request("POST", "/drafts/"+d.ID+"/approve", form.Encode())
	cross.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	cross.Header.Set("Origin", "http://evil.example")
	cross.Header.Set("Sec-Fetch-Site", "cross-site")
	if got := v.do(cross); got.Status < 400 {
		t.Errorf("from another site: %d", got.Status)
	}
	w.wantDraft(d.ID, draft.Pending)
}

// An owner for whom the installation's policies are not sees and denies what their own
// agents propose, and nothing else.
func TestDraftsOfAnotherOwner(t *testing.T) {
	w := newWorld(t)
	alices, alice := w.propose(asItIs), w.signedIn()
	u, err := w.owners.AddUser(t.Context(), "cli:alice", "bob", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	w.owner = identity.Owner{ID: u.ID, Type: u.Type, Name: u.Name}
	bob := w.signedIn()
	bobs := w.proposeAs("bobs-bot", func(p *draft.Proposal) { p.Policy += "# bob's\n" })
	wantStatus(t, "alice's, to bob", bob.get("/drafts/"+alices.ID), 404)
	wantStatus(t, "bob's, to alice", alice.get("/drafts/"+bobs.ID), 404)
	if list := bob.get("/drafts"); strings.Contains(list.Body, alices.ID) || !strings.Contains(list.Body, bobs.ID) {
		t.Error("bob's list is not bob's")
	}
	form := func(p draft.Proposal) url.Values {
		return url.Values{"policy_hash": {p.Hash.String()}, "set": {w.keeper.Current().Hash}}
	}
	for _, word := range []string{"approve", "deny"} {
		if got := bob.post("/drafts/"+alices.ID+"/"+word, form(alices)); got.Status != 404 && got.Status != 403 {
			t.Errorf("bob can %s alice's: %d", word, got.Status)
		}
		wantStatus(t, "alice, "+word, alice.post("/drafts/"+bobs.ID+"/"+word, form(bobs)), 404)
	}
	page := bob.get("/drafts/" + bobs.ID)
	wantText(t, "the page", page, "you can deny this, and not approve it", "# bob&#39;s")
	if strings.Contains(page.Body, "/approve") || strings.Contains(page.Body, "What it would have changed") {
		t.Error("bob is shown what is not bob's")
	}
	wantStatus(t, "approving", bob.post("/drafts/"+bobs.ID+"/approve", form(bobs)), 403)
	w.wantDraft(bobs.ID, draft.Pending)
	wantStatus(t, "denying", bob.post("/drafts/"+bobs.ID+"/deny", form(bobs)), 303)
	w.wantDraft(bobs.ID, draft.Denied)
	w.wantDraft(alices.ID, draft.Pending)
}

// All of testdata/hostile as what an agent says and proposes: inert, whole, and marked;
// wherever its name leads, the file is the agent's.
func TestHostileDrafts(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	cases := hostiletest.Cases(t, hostileFolder)
	for _, c := range cases {
		d := w.propose(func(p *draft.Proposal) {
			p.Name, p.Description, p.Justification = "../../"+c.Tool, c.Description, "agents/other/x "+c.Reason
			p.Policy = buyAlone + "# " + c.Reason + "\n# " + c.Description + c.Tool + "\n"
		})
		if place := d.Place(); !regexp.MustCompile(`^agents/shop-bot/[a-z0-9][a-z0-9-]*$`).MatchString(place) {
			t.Errorf("%q would be %s", d.Name, place)
		}
		got := v.get("/drafts/" + d.ID)
		wantStatus(t, c.Name, got, 200)
		page := readPage(t, got.Body)
		wantInert(t, page)
		for _, said := range []string{d.Name, d.Justification} {
			if !strings.Contains(page.text, shownText(said, "\n\t")) {
				t.Errorf("%s: %q is not to be seen", c.Name, said)
			}
		}
		look := visible.LookAt(saysOf(d), action.StringValue(d.Policy))
		if warned := strings.Contains(page.text, "Look closely."); warned != (look.Odd() > 0) {
			t.Errorf("%s: a warning: %t, of %d characters", c.Name, warned, look.Odd())
		}
		list := readPage(t, v.get("/drafts").Body)
		wantInert(t, list)
		wantStatus(t, c.Name, v.post("/drafts/"+d.ID+"/deny", got.draftForm(t)), 303)
		wantInert(t, readPage(t, v.get("/drafts/"+d.ID).Body))
	}
	if len(cases) < 5 {
		t.Fatalf("%d cases", len(cases))
	}
	entries, err := os.ReadDir(w.policies)
	if err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
	// Long, and every second character hidden.
	d := w.propose(func(p *draft.Proposal) {
		p.Policy = buyAlone + "#" + strings.Repeat("a\u202e", (draft.MaxPolicy-len(buyAlone)-1)/4)
	})
	got := v.get("/drafts/" + d.ID)
	wantInert(t, readPage(t, got.Body))
	if len(got.Body) > 1<<20 {
		t.Errorf("the page has %d bytes", len(got.Body))
	}
}

// The log has every answer, and nothing that an agent says.
func TestDraftsInTheLog(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	yes, no := w.propose(asItIs), w.propose(func(p *draft.Proposal) { p.Name = "second" })
	wantStatus(t, "approving", v.post("/drafts/"+yes.ID+"/approve", v.get("/drafts/"+yes.ID).draftForm(t)), 303)
	wantStatus(t, "denying", v.post("/drafts/"+no.ID+"/deny", with(v.get("/drafts/"+no.ID).draftForm(t), "reason", "no need")), 303)
	w.waitForLines(5)
	text, err := os.ReadFile(w.log)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"event":"draft.proposed","actor_type":"agent","actor_id":"shop-bot"`,
		`"event":"draft.approved","actor_type":"owner","actor_id":"portal:alice"`, `"policy_id":"agents/shop-bot/shopping"`,
		`"event":"draft.denied","actor_type":"owner","actor_id":"portal:alice"`, `"reason":"no need"`,
		`"detail":"draft ` + yes.ID + ` for agent shop-bot, policy ` + yes.Hash.String() + `"`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s is not in the log:\n%s", want, text)
		}
	}
	if strings.Contains(string(text), "every day") {
		t.Error("the log has what the agent says")
	}
}
