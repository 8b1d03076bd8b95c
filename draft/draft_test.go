package draft

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/policy"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func book(t testing.TB, text string, groups policy.Groups) *policy.Book {
	t.Helper()
	b, err := policy.NewBook("", []policy.Source{{Name: "p.yaml", Text: text}}, groups)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const asking = "version: 1\ndefault: require_approval\nrules: []\n"

func request(t testing.TB, payload string) approvals.Request {
	t.Helper()
	v, err := action.Parse([]byte(payload), action.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	info, err := action.Parse([]byte(`{"server":"shop","name":"buy","reads":false,"definition_hash":"sha256:1"}`), action.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return approvals.Request{ID: "d24187b9-ad60-4f91-9713-8589543b8079", AgentID: "bot", Server: "shop", Tool: "buy", ToolInfo: info, Action: action.Request{
		ActionID: "8e3bdb7c-3a53-4b8e-9d0b-0123456789ab", ActionType: "purchase", RequestedAt: "2026-11-22T12:00:00.000Z", AgentID: "bot", SubjectID: "ann",
		RelyingParty: action.RelyingParty{Domain: "shop.example"}, Payload: v}}
}

func bounds(t testing.TB, texts ...string) (list []approvals.Bound) {
	t.Helper()
	for _, text := range texts {
		b, err := approvals.ParseBound(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, b)
	}
	return list
}

const tea = `{"amount_minor":50,"currency":"EUR","arguments":{"n":50,"to":"ann","list":[{"k":1}],"deep":{"flag":true,"note":null,"text":"hi"}}}`

// The draft says what a standing grant with the same bounds covers: of one call after
// another, both let it through or neither.
func TestDraftIsAsNarrowAsAGrant(t *testing.T) {
	base := book(t, asking, nil)
	for _, given := range [][]string{
		nil, {"$.payload.arguments.n at_most 100"}, {`$.payload.arguments.to one_of ["ann", "b\"ob"]`},
		{"$.payload.arguments.deep.text any 5", "$.payload.arguments.deep.flag any"}, {"$.payload.arguments.n at_least 5", "$.payload.arguments.n at_most 100"},
	} {
		r := request(t, tea)
		d, err := New(base, r, bounds(t, given...), noon, 0)
		if err != nil {
			t.Fatalf("%v: %v\n%s\n%s", given, err, d.Policy, d.Suite)
		}
		with, err := policy.NewBook("", append(base.Sources(), policy.Source{Name: d.Name + ".yaml", Text: d.Policy}), nil)
		if err != nil {
			t.Fatal(err)
		}
		g, err := r.Standing("g", approvals.Terms{Bounds: bounds(t, given...)}, "cli:ann", noon)
		if err != nil {
			t.Fatal(err)
		}
		for _, change := range [][2]string{
			{"", ""}, {"50", "60"}, {"50", "100"}, {"50", "101"}, {"50", "4"}, {"50", "0"}, {`:50,`, `:"50",`}, {`"amount_minor":50`, `"amount_minor":60`}, {`"EUR"`, `"USD"`},
			{`"ann"`, `"b\"ob"`}, {`"ann"`, `"eve"`}, {`"ann"`, `["ann"]`}, {`{"k":1}`, `{"k":1},{"k":1}`}, {`{"k":1}`, `{"k":1,"j":1}`}, {`{"k":1}`, ``},
			{`"note":null,`, ``}, {`"note":null`, `"note":1`}, {`"hi"`, `"hello"`}, {`"hi"`, `"hello!"`}, {`"hi"`, `"a\nb"`}, {`"hi"`, `5`}, {"true", "false"}, {"true", "1"},
			{`"flag"`, `"x":1,"flag"`}, {`"to"`, `"bcc":"eve","to"`}, {`"currency"`, `"more":1,"currency"`}, {`"to"`, `"To"`},
		} {
			if change[0] == "" {
				change[0] = "\x00"
			}
			other := request(t, strings.ReplaceAll(tea, change[0], change[1]))
			allowed := with.For("bot").Decide(&other.Action, policy.Env{Tool: other.ToolInfo, Now: noon}).Outcome == policy.Allow
			if covered := g.Covers(other); allowed != covered {
				t.Errorf("%v, with %s for %s: the rule allows it: %t, a grant covers it: %t\n%s", given, change[1], change[0], allowed, covered, d.Policy)
			}
		}
		for name, f := range map[string]func(*approvals.Request, *policy.Env){
			"agent": func(r *approvals.Request, _ *policy.Env) { r.AgentID = "other" }, "type": func(r *approvals.Request, _ *policy.Env) { r.Action.ActionType = "purchase.x" },
			"party":      func(r *approvals.Request, _ *policy.Env) { r.Action.RelyingParty.Domain = "evil.example" },
			"trust":      func(r *approvals.Request, _ *policy.Env) { r.Action.RelyingParty.TrustProfile = "LOW" },
			"tool":       func(_ *approvals.Request, e *policy.Env) { e.Tool = with2(e.Tool, "name", "sell") },
			"server":     func(_ *approvals.Request, e *policy.Env) { e.Tool = with2(e.Tool, "server", "shop2") },
			"definition": func(_ *approvals.Request, e *policy.Env) { e.Tool = with2(e.Tool, "definition_hash", "sha256:2") },
			"time":       func(_ *approvals.Request, e *policy.Env) { e.Now = noon.Add(DefaultFor) },
		} {
			other, env := request(t, tea), policy.Env{Tool: r.ToolInfo, Now: noon}
			if f(&other, &env); with.For(other.AgentID).Decide(&other.Action, env).Outcome == policy.Allow {
				t.Errorf("another %s is allowed", name)
			}
		}
	}
}

func with2(v action.Value, key, text string) action.Value {
	var ms []action.Member
	for name, item := range v.Members() {
		ms = append(ms, action.Member{Key: name, Value: item})
	}
	return action.ObjectValue(append(ms, action.Member{Key: key, Value: action.StringValue(text)})...)
}

// What cannot be said, or would change nothing, is an error and no draft.
func TestNoDraft(t *testing.T) {
	deny := "version: 1\ndefault: require_approval\nrules: [{id: stop, effect: deny, final: true, action: purchase, when: {match: {path: $.payload.arguments.n, op: gt, value: %s}}}]\n"
	for name, tt := range map[string]struct {
		policy string
		change func(*approvals.Request)
		bounds []string
		length time.Duration
		want   string
	}{
		"denied":          {policy: strings.Replace(deny, "%s", "10", 1), want: "say DENY (p/stop)"},
		"allowed":         {policy: "version: 1\ndefault: allow\nrules: []\n", want: "say ALLOW"},
		"step-up":         {policy: "version: 1\ndefault: deny\nrules: [{id: a, effect: allow, action: '*', obligations: [{type: HUMAN_APPROVAL}, {type: STEP_UP_AUTH}]}]\n", want: "say REQUIRE_STEP_UP"},
		"a nearer policy": {policy: "version: 1\napplies_to: {agent: bot}\nrank: 5\ndefault: passthrough\nrules: [{id: a, effect: allow, action: '*', obligations: [{type: HUMAN_APPROVAL}]}]\n", want: "with this rule in force, the call that was asked for is allowed: want ALLOW, got REQUIRE_APPROVAL"},
		"a star":          {change: func(r *approvals.Request) { r.Action.ActionType = "mcp.s.*" }, want: "has a * in it"},
		"in a list":       {bounds: []string{"$.payload.arguments.list[0].k any"}, want: "$.payload.arguments.list is a list"},
		"a long text":     {bounds: []string{"$.payload.arguments.to any 10001"}, want: "10000 characters at most"},
		"no such place":   {bounds: []string{"$.payload.arguments.x any"}, want: "no text, number"},
		"too long":        {length: MaxFor + 1, want: "3650 days"},
		"a bad agent":     {change: func(r *approvals.Request) { r.AgentID = "a b\"" }, want: "no rule can be made of it"},
	} {
		text := tt.policy
		if text == "" {
			text = asking
		}
		r := request(t, tea)
		if tt.change != nil {
			tt.change(&r)
		}
		if d, err := New(book(t, text, nil), r, bounds(t, tt.bounds...), noon, tt.length); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: want %q, got %v\n%s", name, tt.want, err, d.Policy)
		}
	}
	if _, err := New(nil, request(t, tea), nil, noon, 0); err == nil {
		t.Error("a draft was made without policies")
	}
}

// The suite holds for the folder as it will be, the agent's groups included.
func TestDraftInGroups(t *testing.T) {
	groups := policy.Groups{"buyers": {"bot"}}
	b, err := policy.NewBook("", []policy.Source{
		{Name: "p.yaml", Text: "version: 1\ndefault: deny\nrules: []\n"},
		{Name: "groups/buyers/g.yaml", Text: asking},
	}, groups)
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(b, request(t, tea), nil, noon, 0)
	if err != nil || !strings.Contains(d.Suite, `groups: ["buyers"]`) {
		t.Errorf("%v\n%s", err, d.Suite)
	}
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	d, err := New(book(t, asking, nil), request(t, tea), bounds(t, "$.payload.arguments.n at_most 100"), noon, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "p.yaml"), []byte(asking), 0o600); err != nil {
		t.Fatal(err)
	}
	files, err := d.Write(dir)
	if err != nil || len(files) != 2 || filepath.ToSlash(strings.TrimPrefix(files[0], dir)) != "/rules/buy-d24187b9.yaml" {
		t.Fatal(files, err)
	}
	loaded, err := policy.Load(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := request(t, tea)
	if got := loaded.For("bot").Decide(&r.Action, policy.Env{Tool: r.ToolInfo, Now: noon}); got.RuleID != RuleID || got.Outcome != policy.Allow {
		t.Errorf("%+v", got)
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, info.Mode(), err)
		}
	}
	d.Policy = "replaced"
	if _, err := d.Write(dir); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("again: %v", err)
	}
	if text, err := os.ReadFile(files[0]); err != nil || strings.Contains(string(text), "replaced") {
		t.Errorf("%s, %v", text, err)
	}
	left, err := os.ReadDir(filepath.Join(dir, "rules"))
	if err != nil || len(left) != 2 {
		t.Errorf("%v, %v", left, err)
	}
}

// Whatever a call has in it, its draft parses, its suite passes, and the rule is for that
// call; or there is none.
func FuzzDraft(f *testing.F) {
	f.Add(tea, "buy", "mcp.shop.buy", "shop.example", "$.payload.arguments.n at_most 100")
	f.Add(`{"arguments":{"\u2028 \ud83d\ude00":"a\n- b: *x","<<":{"*":"&y !!str","":null},"~":"~","n":1e300,"m":-0.00001}}`, "a\nrules: []", "a: b #", `"'{}[]`, `$.payload.arguments["~"] one_of ["~", "\u0000\u0085\ufeff"]`)
	f.Add(`{"to":"yes","0x1F":"0500","deep":[[[{"":[]}]],{}],"t":true}`, "*", "x", "", "$.payload.t any")
	f.Add(`{"arguments":{"text":"$HOME %s \u202e"}}`, "../../etc", "y", "", "$.payload.arguments.text any 2500")
	f.Add(`{"amount_minor":5,"arguments":{"amount":5,"a":9007199254740993}}`, "", "pay", "", "$.payload.arguments.amount any")
	base := book(f, asking, nil)
	f.Fuzz(func(t *testing.T, payload, tool, actionType, domain, boundText string) {
		v, err := action.Parse([]byte(payload), action.Limits{})
		if err != nil || v.Kind() != action.Object {
			return
		}
		r := request(t, tea)
		r.Tool, r.ToolInfo = tool, with2(r.ToolInfo, "name", tool)
		r.Action.ActionType, r.Action.RelyingParty.Domain, r.Action.Payload = actionType, domain, v
		var given []approvals.Bound
		if b, err := approvals.ParseBound(boundText); err == nil {
			if _, err := approvals.Bounded(v, []approvals.Bound{b}); err == nil {
				given = append(given, b)
			}
		}
		d, err := New(base, r, given, noon, time.Hour)
		if err != nil {
			if d.Results != nil || !strings.Contains(err.Error(), "no rule can be made of it") {
				t.Errorf("%v\n%s\n%s", err, d.Policy, d.Suite)
			}
			return
		}
		p, err := policy.Parse("rules/x", "rules/x.yaml", []byte(d.Policy))
		if err != nil {
			t.Fatal(err)
		}
		got := policy.Compile([]policy.Binding{{Policy: p, Layer: policy.AgentLayer}}).Decide(&r.Action, policy.Env{Tool: r.ToolInfo, Now: noon})
		if got.Outcome != policy.Allow || len(d.Results) < 2 {
			t.Errorf("%+v of %d tests\n%s", got, len(d.Results), d.Policy)
		}
		if strings.Contains(d.Name, "..") || strings.Count(d.Name, "/") != 1 {
			t.Errorf("name %q", d.Name)
		}
	})
}
