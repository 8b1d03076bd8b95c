package authz_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/store/sqlite"
)

const masking = `version: 1
default: deny
rules:
  - {id: read, effect: allow, action: mcp.s.read}
  - {id: ask, effect: allow, action: mcp.s.ask, obligations: [{type: HUMAN_APPROVAL}]}
  - {id: small, effect: allow, action: mcp.s.pay, constraints: {amount_max: 100}}
  - {id: buy, effect: allow, action: mcp.s.buy}
limits: [{id: each, action: mcp.s.buy, sum: $.payload.arguments.n, max: 900000000, per: [agent, $.payload.arguments.to], window: 24h, on_error: release}]
`

func withKey(t *testing.T) (dir string, adjust func(*authz.Config)) {
	t.Helper()
	dir = t.TempDir()
	key, err := authz.LoadOrCreateMaskKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir, func(c *authz.Config) { c.MaskKey = key }
}

// What stands for a value is the HMAC of its canonical JSON, by the key in the file.
func TestMaskText(t *testing.T) {
	dir, adjust := withKey(t)
	r := newRoom(t, masking+"log: [{action: mcp.s.read, mask: [$.payload.arguments.to, $.payload.arguments.cc, $.payload.arguments.n]}]\n", adjust)
	r.call(t, "read", `{"to":"ann@example.com","cc":"ann@example.com","n":{"b":1.0,"a":[]},"text":"hello"}`)
	file, err := os.ReadFile(filepath.Join(dir, "mask.key"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(file)), "\n")
	secret, err := hex.DecodeString(lines[len(lines)-1])
	if err != nil || len(secret) != 32 {
		t.Fatalf("the key's file: %v, %d bytes", err, len(secret))
	}
	text := func(canonical string) string {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(canonical))
		return "[masked hmac-sha256:" + hex.EncodeToString(mac.Sum(nil)) + "]"
	}
	ann := text(`"ann@example.com"`)
	want := fmt.Sprintf(`{"arguments":{"cc":%q,"n":%q,"text":"hello","to":%q}}`, ann, text(`{"a":[],"b":1}`), ann)
	if e := r.last(t); string(e.Payload) != want || strings.Join(e.Masked, " ") != "$.payload.arguments.to $.payload.arguments.cc $.payload.arguments.n" {
		t.Errorf("%s\n%v\nwant %s", e.Payload, e.Masked, want)
	}
	info, err := os.Stat(filepath.Join(dir, "mask.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mask.key: %v, %v", info.Mode(), err)
	}
}

// With arguments: hash nothing of them is kept, and the hashes are those of the action.
func TestHashOnly(t *testing.T) {
	r := newRoom(t, masking+"log: [{action: mcp.s.*, arguments: hash}, {action: '*', mask: [$.payload.arguments.to]}]\n")
	ans := r.call(t, "read", `{"to":"ann@example.com"}`)
	wantCode(t, ans, authz.Allowed)
	e := r.last(t)
	if e.Payload != nil || e.RelyingParty != nil || strings.Join(e.Masked, " ") != "$.payload $.relying_party" || e.ActionHash != ans.ActionHash.String() || e.RequestedAt == "" || e.ToolInfo == nil {
		t.Errorf("%+v", e)
	}
	open := r.opens(t, "resources/read", `{"uri":"file:///secret/plans"}`)
	if e = r.last(t); open.Code != authz.PolicyDenied && open.Code != authz.Allowed || e.Detail != "[masked]" {
		t.Errorf("%s, detail %q", open.Code, e.Detail)
	}
}

// opens authorizes what is no tool call.
func (r *room) opens(t *testing.T, method, arguments string) authz.Answer {
	t.Helper()
	args := parse(t, arguments)
	req := action.Request{ActionType: authz.OpenType("s", method), Payload: action.ObjectValue(action.Member{Key: "arguments", Value: args})}
	ans, err := r.Authorize(t.Context(), r.who, req, &authz.Call{Server: "s", Tool: method, Arguments: args, Open: true, About: args.Get("uri").Text(), Info: authz.OpenInfo("s", method)})
	if err != nil {
		t.Fatal(err)
	}
	return ans
}

// Whatever is masked stands nowhere in the log, whichever way the calls go: reasons,
// limits, bounds of grants, details of outcomes, releases and refusals do not repeat it.
func TestNothingMaskedIsInTheLog(t *testing.T) {
	for name, log := range map[string]string{
		"hash":      "log: [{action: '*', arguments: hash}]\n",
		"masks":     "log: [{action: '*', mask: [$.payload.arguments.to, $.payload.arguments.n, $.payload.amount_minor, $.payload.arguments.uri, $.payload.arguments.path]}]\n",
		"arguments": "log: [{action: '*', mask: [$.payload.arguments, $.payload.amount_minor]}]\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, adjust := withKey(t)
			r := newRoom(t, masking+log, adjust, func(c *authz.Config) { c.Protect = authz.NewProtection([]string{"/zebra/home"}, nil) })
			passes(t, r)
			entries := r.entries(t)
			whole, err := json.Marshal(entries)
			if err != nil {
				t.Fatal(err)
			}
			for _, secret := range []string{"zebra", "731337731", "931337731", "7313377.31", "9313377.31"} {
				for _, e := range entries {
					if line, _ := json.Marshal(e); strings.Contains(string(line), secret) {
						t.Errorf("%s is in the log: %s", secret, line)
					}
				}
			}
			for _, event := range []string{"decision", "outcome", "grant.given", "grant.withdrawn", "approval.approved", "limit.released"} {
				if !strings.Contains(string(whole), `"event":"`+event+`"`) {
					t.Errorf("no %s", event)
				}
			}
		})
	}
}

// The same without masks: the secrets are where the test above looks for them.
func TestWhatIsNotMaskedIsInTheLog(t *testing.T) {
	r := newRoom(t, masking, func(c *authz.Config) { c.Protect = authz.NewProtection([]string{"/zebra/home"}, nil) })
	passes(t, r)
	var seen []string
	for _, e := range r.entries(t) {
		for what, text := range map[string]string{"reason": e.Reason, "detail": e.Detail, "payload": string(e.Payload)} {
			if strings.Contains(text, "zebra") || strings.Contains(text, "931337731") {
				seen = append(seen, e.Event+" "+e.Code+" "+what)
			}
		}
		for _, l := range e.Limits {
			if strings.Contains(l.Key, "zebra") {
				seen = append(seen, e.Event+" "+e.Code+" limits")
			}
		}
	}
	for _, want := range []string{
		"decision POLICY_DENIED reason", "decision LIMIT_EXCEEDED reason", "decision LIMIT_EXCEEDED limits", "decision ALLOWED limits", "decision ALLOWED payload",
		"decision ARGUMENTS_REFUSED reason", "decision PROTECTED reason", "outcome  detail", "outcome  limits", "grant.given  detail", "grant.withdrawn  detail",
		"limit.released  limits", "decision ALLOWED detail",
	} {
		if !slices.Contains(seen, want) {
			t.Errorf("%s has nothing of the arguments: the test above does not show that it is masked there", want)
		}
	}
}

// passes lets calls with "zebra" and numbers of their own in them go every way there is.
func passes(t *testing.T, r *room) {
	t.Helper()
	wantCode(t, r.call(t, "read", `{"to":"zebra"}`), authz.Allowed)
	wantCode(t, r.call(t, "buy", `{"to":"zebra","n":931337731}`), authz.LimitExceeded)
	failed := r.call(t, "buy", `{"to":"zebra","n":731337731}`)
	wantCode(t, failed, authz.Allowed)
	r.finish(t, failed, authz.Outcome{Status: "tool_error", Detail: "the server said: no zebra for 731337731"})
	bought := r.call(t, "buy", `{"to":"zebra","n":731337731}`)
	r.finish(t, bought, authz.Outcome{Status: "ok"})
	if _, err := r.Release(t.Context(), "test:ann", bought.DecisionID, nil, "it never came"); err != nil {
		t.Fatal(err)
	}
	near, err := r.Authorize(t.Context(), r.who, action.Request{ActionType: "mcp.s.pay", Payload: parse(t, `{"amount_minor":931337731}`)}, &authz.Call{Server: "s", Tool: "pay", Info: action.ObjectValue()})
	if err != nil || !strings.Contains(near.Reason, "931337731") {
		t.Fatalf("the agent is told: %s, %v", near.Reason, err)
	}
	terms := approvals.Terms{Bounds: []approvals.Bound{
		{Path: "$.payload.arguments.to", Op: approvals.OneOf, Values: []action.Value{action.StringValue("zebra"), action.StringValue("zebra2")}},
		{Path: "$.payload.arguments.n", Op: approvals.AtMost, Values: []action.Value{action.IntValue(931337731)}},
	}}
	_, g := r.gives(t, "ask", `{"to":"zebra","n":731337731}`, terms)
	wantCode(t, r.call(t, "ask", `{"to":"zebra2","n":931337731}`), authz.Allowed)
	wantCode(t, r.call(t, "ask", `{"to":"zebra","n":731337731}`), authz.Allowed)
	if _, err := r.WithdrawGrant(t.Context(), "test:ann", g.ID, "seen enough"); err != nil {
		t.Fatal(err)
	}
	if ans, err := r.Refuse(t.Context(), r.who, &authz.Call{Server: "s", Tool: "read", Info: action.ObjectValue()}, `want a number, got "zebra"`); err != nil || !strings.Contains(ans.Reason, "zebra") {
		t.Fatalf("%s, %v", ans.Reason, err)
	}
	wantCode(t, r.call(t, "read", `{"path":"/zebra/home/x"}`), authz.Protected)
	r.opens(t, "resources/read", `{"uri":"file:///zebra"}`)
}

// Masking decides nothing: each answer is the same with and without it.
func TestMaskingDecidesNothing(t *testing.T) {
	answers := func(log string) (list []string) {
		r := newRoom(t, masking+log)
		for _, c := range [][2]string{{"read", `{"to":"a"}`}, {"ask", `{"n":1}`}, {"buy", `{"to":"a","n":800000000}`}, {"buy", `{"to":"a","n":100000001}`}, {"buy", `{"to":"b","n":100000001}`}, {"drop", `{}`}} {
			ans := r.call(t, c[0], c[1])
			list = append(list, fmt.Sprint(ans.Outcome, ans.Code, ans.PolicyID, ans.RuleID, ans.Reason))
		}
		return list
	}
	whole := answers("")
	for _, log := range []string{"log: [{action: '*', arguments: hash}]\n", "log: [{action: '*', mask: [$.payload]}]\n"} {
		if got := answers(log); !slices.Equal(got, whole) {
			t.Errorf("%s:\n%v\nwant %v", log, got, whole)
		}
	}
}

// While no policies are in force nobody knows what they want masked.
func TestNoPolicyKeepsNothing(t *testing.T) {
	r := newRoom(t, "version: 2\n")
	ans, _ := r.try(t.Context(), "read", `{"to":"zebra"}`)
	wantCode(t, ans, authz.PolicyInvalid)
	if e := r.last(t); e.Payload != nil || !slices.Equal(e.Masked, []string{"$.payload", "$.relying_party"}) {
		t.Errorf("%s %v", e.Payload, e.Masked)
	}
}

// A store in which something happens while a call that has come back is looked for.
type eventfulStore struct {
	*sqlite.Store
	happens func()
}

func (s *eventfulStore) Approval(ctx context.Context, id string) (approvals.Request, error) {
	if s.happens != nil {
		s.happens()
	}
	return s.Store.Approval(ctx, id)
}

// The policies that decide say what is masked, also when they come into force while
// the call is on its way.
func TestMasksOfTheDecidingPolicies(t *testing.T) {
	var store eventfulStore
	r := newRoom(t, masking, func(c *authz.Config) {
		store.Store = c.Store.(*sqlite.Store)
		c.Store = &store
	})
	_, leg := r.back(t, "ask", `{"to":"zebra"}`, "")
	before := r.last(t)
	store.happens = func() {
		store.happens = nil
		r.ruleChange(t, masking+"log: [{action: mcp.s.ask, mask: [$.payload.arguments.to]}]\n")
	}
	r.back(t, "ask", `{"to":"zebra"}`, leg)
	after := r.last(t)
	if before.Masked != nil || len(after.Masked) != 1 || before.PolicyHash == after.PolicyHash || strings.Contains(string(after.Payload), "zebra") {
		t.Errorf("before %v, after %v, %s", before.Masked, after.Masked, after.Payload)
	}
}

// Where the limit stands in no policy any more, its key is masked if anything is.
func TestReleaseOfAnUnknownLimitIsMasked(t *testing.T) {
	const log = "log: [{action: mcp.other, mask: [$.payload.arguments.body]}]\n"
	r := newRoom(t, masking+log)
	known, unknown := r.call(t, "buy", `{"to":"zebra","n":3}`), r.call(t, "buy", `{"to":"zebra","n":4}`)
	released := func(id string) audit.Limit {
		if _, err := r.Release(t.Context(), "test:ann", id, nil, "it never came"); err != nil {
			t.Fatal(err)
		}
		all := r.entries(t)
		return all[len(all)-1].Limits[0]
	}
	if l := released(known.DecisionID); l.Key != `["bot","zebra"]` || l.Amount != 3 {
		t.Errorf("the masks are about something else: %+v", l)
	}
	r.ruleChange(t, "version: 1\ndefault: deny\nrules: []\n"+log)
	if l := released(unknown.DecisionID); l.Key != "[masked]" || l.Amount != 0 || !l.Released {
		t.Errorf("%+v", l)
	}
}

// The key is made once, and a broken one is not quoted.
func TestMaskKeyFile(t *testing.T) {
	dir := t.TempDir()
	one, err := authz.LoadOrCreateMaskKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	two, err := authz.LoadOrCreateMaskKey(dir)
	if v := action.StringValue("x"); err != nil || one.Text(v) != two.Text(v) || one.Text(v) == one.Text(action.StringValue("y")) {
		t.Errorf("%v: %s, %s", err, one.Text(v), two.Text(v))
	}
	file := filepath.Join(dir, "mask.key")
	for _, bad := range []string{"", "# nothing\n", "zebra\n", strings.Repeat("ab", 31), strings.Repeat("ab", 33), strings.Repeat("ab\n", 32)} {
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := authz.LoadOrCreateMaskKey(dir); err == nil || !strings.Contains(err.Error(), "mask.key: want ") || strings.Contains(err.Error(), "zebra") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if err := os.WriteFile(file, []byte(strings.Repeat("ab", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := authz.LoadOrCreateMaskKey(dir); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := authz.LoadOrCreateMaskKey(dir); err == nil || !strings.Contains(err.Error(), "other users can read it") {
		t.Errorf("a key that others can read: %v", err)
	}
}

// A limit that cannot count an action quotes it.
func TestDoubtOfALimitIsMasked(t *testing.T) {
	const limit = "limits: [{id: money, action: mcp.s.read, sum: $.payload.amount_minor, currency: EUR, max: 5, window: 24h}]\n"
	for log, want := range map[string]string{
		"": `$.payload.currency is "zebra", not EUR`,
		"log: [{action: '*', mask: [$.payload.currency]}]\n": "[masked]",
	} {
		r := newRoom(t, strings.Split(masking, "limits:")[0]+limit+log)
		ans, err := r.Authorize(t.Context(), r.who, action.Request{ActionType: "mcp.s.read", Payload: parse(t, `{"amount_minor":3,"currency":"zebra"}`)}, &authz.Call{Server: "s", Tool: "read", Info: action.ObjectValue()})
		if err != nil {
			t.Fatal(err)
		}
		wantCode(t, ans, authz.LimitExceeded)
		if e := r.last(t); e.Limits[0].Doubt != want || strings.Contains(e.Reason, "zebra") != (log == "") {
			t.Errorf("%s: %+v, %s", log, e.Limits, e.Reason)
		}
	}
}

// A limit that counts by what looks like a secret does not tell it, without any policy
// that says so.
func TestSecretKeyOfALimit(t *testing.T) {
	r := newRoom(t, strings.ReplaceAll(masking, "$.payload.arguments.to", "$.payload.arguments.token"))
	ans := r.call(t, "buy", `{"token":"zebra","n":3}`)
	r.finish(t, ans, authz.Outcome{Status: "ok"})
	if _, err := r.Release(t.Context(), "test:ann", ans.DecisionID, nil, "it never came"); err != nil {
		t.Fatal(err)
	}
	for _, e := range r.entries(t) {
		if line, _ := json.Marshal(e); strings.Contains(string(line), "zebra") {
			t.Errorf("%s", line)
		}
	}
}
