package replay_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/policy"
	"github.com/openleash/openleash-go/proof"
	"github.com/openleash/openleash-go/replay"
	"github.com/openleash/openleash-go/store/sqlite"
)

const shop = `version: 1
default: deny
rules:
  - {id: buy, effect: allow, action: mcp.s.buy}
  - {id: ask, effect: allow, action: mcp.s.ask, obligations: [{type: HUMAN_APPROVAL}]}
limits:
  - {id: hourly, action: mcp.s.*, sum: $.payload.arguments.n, max: 150, window: 1h}
  - {id: each, action: mcp.s.*, sum: $.payload.arguments.n, max: 60, per: [$.payload.arguments.to], window: 30m, over: require_approval, on_error: release}
  - {id: calls, action: mcp.s.*, count: true, max: 60, window: day, timezone: Europe/Berlin, reserve_on_hold: true}
`

// A recorder makes a log as the program does, at the times that a test says.
type recorder struct {
	*authz.Service
	store *sqlite.Store
	who   authz.Caller
	now   time.Time

	finished int
}

func record(t *testing.T, policyText string) *recorder {
	t.Helper()
	dir := t.TempDir()
	r := &recorder{now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(filepath.Join(dir, "policies"), 0o700))
	must(os.WriteFile(filepath.Join(dir, "policies", "p.yaml"), []byte(policyText), 0o600))
	var err error
	r.store, err = sqlite.Open(t.Context(), filepath.Join(dir, "data"))
	must(err)
	t.Cleanup(func() { r.store.Close() })
	owner, err := r.store.EnsureOwner(t.Context(), "ann")
	must(err)
	r.who.Agent, err = r.store.EnsureAgent(t.Context(), "bot", owner)
	must(err)
	key, err := proof.NewKey(r.now)
	must(err)
	keeper, err := policy.Open(t.Context(), filepath.Join(dir, "policies"), nil, r.store, func(policy.Event) {})
	must(err)
	t.Cleanup(func() { keeper.Close() })
	r.Service, err = authz.New(authz.Config{Store: r.store, Owner: owner, Policies: keeper, Key: key, Factors: anyCode{}, Now: func() time.Time { return r.now }})
	must(err)
	return r
}

func (r *recorder) call(t *testing.T, tool, arguments string) authz.Answer {
	t.Helper()
	args, err := action.Parse([]byte(arguments), action.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	kind := "mcp.s." + tool
	if tool == "other" {
		kind = "other" // of which the limits do not speak
	}
	req := action.Request{ActionType: kind, Payload: action.ObjectValue(action.Member{Key: "arguments", Value: args})}
	ans, err := r.Authorize(t.Context(), r.who, req, &authz.Call{Server: "s", Tool: tool, Arguments: args, Info: action.ObjectValue()})
	if err != nil {
		t.Fatal(err)
	}
	return ans
}

// wait waits until an outcome is in the log, before what comes after it.
func (r *recorder) wait(t *testing.T) {
	t.Helper()
	outcomes := func() int {
		_, entries, err := r.store.Unsequenced(t.Context(), 100_000)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Count(bytes.Join(entries, nil), []byte(`"event":"outcome"`))
	}
	r.finished++
	for began := time.Now(); outcomes() < r.finished; time.Sleep(time.Millisecond) {
		if time.Since(began) > 10*time.Second {
			t.Fatal("no outcome came")
		}
	}
}

// log ends the recording.
func (r *recorder) log(t *testing.T) []byte {
	t.Helper()
	if err := r.Close(); err != nil { // the outcomes are in the store then
		t.Fatal(err)
	}
	_, entries, err := r.store.Unsequenced(context.Background(), 100_000)
	if err != nil {
		t.Fatal(err)
	}
	return append(bytes.Join(entries, []byte("\n")), '\n')
}

func run(t *testing.T, log []byte, policyText string) replay.Report {
	t.Helper()
	book, err := policy.NewBook("", []policy.Source{{Name: "p.yaml", Text: policyText}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	report, err := replay.Run(bytes.NewReader(log), book, replay.Options{Examples: 3})
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// brief is what a report counts: "3 DENY->ALLOW p/buy".
func brief(r replay.Report) (list []string) {
	for _, g := range append(r.Differ, r.Undecidable...) {
		list = append(list, fmt.Sprintf("%d %s->%s %s", g.Count, g.Was, g.Now, g.By))
	}
	return append(list, fmt.Sprintf("%d same", r.Same))
}

// With the same policies everything is decided as it was: limits, approvals, what was
// given back, in a random history.
func TestReplayOfTheSame(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	r := record(t, shop)
	outcomes := []authz.Outcome{{Status: "ok"}, {Status: "tool_error"}, {Status: "transport_error", Unsent: true}, {Status: "cancelled"}}
	finish := func(ans authz.Answer) {
		if n := random.IntN(6); ans.Outcome == policy.Allow && n < len(outcomes) {
			r.Finish(r.who, nil, ans, outcomes[n])
			r.wait(t)
		}
	}
	for n := range 300 {
		r.now = r.now.Add(time.Duration(random.IntN(1_200_000)) * time.Millisecond)
		tool := []string{"buy", "buy", "buy", "ask", "none"}[random.IntN(5)]
		arguments := fmt.Sprintf(`{"n":%d,"to":"%c","nonce":%d}`, random.IntN(40), 'a'+rune(random.IntN(2)), n)
		ans := r.call(t, tool, arguments)
		finish(ans)
		if ans.Outcome != policy.RequireApproval || random.IntN(4) == 0 {
			continue
		}
		if random.IntN(3) == 0 {
			r.call(t, tool, arguments) // once more while it waits
		}
		yes := random.IntN(3) > 0
		if _, err := r.Answer(t.Context(), "cli:ann", ans.Approval.ID, yes, ""); err != nil {
			t.Fatal(err)
		}
		r.now = r.now.Add(time.Duration(random.IntN(600_000)) * time.Millisecond)
		finish(r.call(t, tool, arguments))
	}
	log := r.log(t)
	report := run(t, log, shop)
	if len(report.Differ)+len(report.Undecidable) > 0 || report.Same != report.Decisions || report.Decisions < 300 {
		t.Errorf("%v\n%+v", brief(report), report.Differ)
	}
}

// What a change would do, by what decides then.
func TestReplayOfAChange(t *testing.T) {
	r := record(t, shop)
	minute := 0
	buy := func(n int, to string) authz.Answer {
		if n != 51 { // else it is the call before, again
			minute++
		}
		r.now = r.now.Add(time.Minute)
		return r.call(t, "buy", fmt.Sprintf(`{"n":%d,"to":%q,"minute":%d}`, n, to, minute))
	}
	for range 5 {
		buy(20, "a") // three run, two wait
	}
	asked := buy(51, "a")
	buy(20, "a") // waits too
	if _, err := r.Answer(t.Context(), "cli:ann", asked.Approval.ID, true, ""); err != nil {
		t.Fatal(err)
	}
	minute--
	buy(51, "a")
	buy(50, "b") // over the hourly limit
	r.call(t, "other", "{}")
	log := r.log(t)
	for _, test := range []struct {
		name   string
		change []string // pairs for strings.NewReplacer
		want   []string
	}{
		{"nothing", nil, []string{"10 same"}},
		{"less for each", []string{"max: 60,", "max: 40,"}, []string{"1 ALLOW->REQUIRE_APPROVAL p/buy", "9 same"}},
		{"more for each", []string{"max: 60,", "max: 80,"}, []string{"1 REQUIRE_APPROVAL->ALLOW p/buy", "9 same"}},
		{"so much more that it was further over when it ran", []string{"max: 60, per", "max: 130, per", "max: 150", "max: 300"},
			[]string{"3 REQUIRE_APPROVAL->ALLOW p/buy", "1 REQUIRE_APPROVAL->REQUIRE_APPROVAL (again) p/buy", "1 DENY->ALLOW p/buy", "5 same"}},
		{"no limits", []string{"limits:", "limits: []\n#"}, nil},
		{"the rest is allowed", []string{"default: deny", "default: allow"}, []string{"1 DENY->ALLOW the default of p", "9 same"}},
		{"a rule denies", []string{"effect: allow, action: mcp.s.buy", "effect: deny, action: mcp.s.buy"},
			[]string{"5 REQUIRE_APPROVAL->DENY p/buy", "3 ALLOW->DENY p/buy", "2 same"}},
	} {
		text := strings.NewReplacer(test.change...).Replace(shop)
		if test.name == "no limits" {
			text = shop[:strings.Index(shop, "limits:")]
			test.want = []string{"5 REQUIRE_APPROVAL->ALLOW p/buy", "1 DENY->ALLOW p/buy", "4 same"}
		}
		if diff := cmp.Diff(test.want, brief(run(t, log, text))); diff != "" {
			t.Errorf("%s: -want +got:\n%s", test.name, diff)
		}
	}
}

// What ran by a standing grant is the same where the policies still ask, and would have
// been asked for where it had been over a limit. What was withdrawn is set aside no more.
func TestReplayOfGrants(t *testing.T) {
	const rules = "version: 1\ndefault: deny\nrules: [{id: ask, effect: allow, action: mcp.s.ask, obligations: [{type: HUMAN_APPROVAL}]}]\n" +
		"limits: [{id: sum, sum: $.payload.arguments.n, max: 100, window: 1h, over: require_approval, reserve_on_hold: true}]\n"
	r := record(t, rules)
	give := func(n int, uses int) approvals.Grant {
		asked := r.call(t, "ask", fmt.Sprintf(`{"n":%d}`, n))
		g, err := r.Give(t.Context(), "cli:ann", asked.Approval.ID, asked.ActionHash, approvals.Terms{Uses: uses})
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	withdraw := func(g approvals.Grant) {
		if _, err := r.WithdrawGrant(t.Context(), "cli:ann", g.ID, ""); err != nil {
			t.Fatal(err)
		}
	}
	withdraw(give(90, 2)) // its call never came
	g := give(30, 5)
	for range 3 {
		if ans := r.call(t, "ask", `{"n":30}`); ans.Outcome != policy.Allow {
			t.Fatal(ans.Reason)
		}
	}
	asked := r.call(t, "ask", `{"n":30}`) // over the limit
	if asked.Outcome != policy.RequireApproval {
		t.Fatal(asked.Reason)
	}
	withdraw(g) // the request of the same call waits on
	log := r.log(t)
	if got := brief(run(t, log, rules)); !slices.Equal(got, []string{"6 same"}) {
		t.Errorf("the same: %v", got)
	}
	want := []string{"1 REQUIRE_APPROVAL->REQUIRE_APPROVAL (again) p/ask", "5 same"}
	if got := brief(run(t, log, strings.Replace(rules, "max: 100", "max: 80", 1))); !slices.Equal(got, want) {
		t.Errorf("over a smaller limit: %v, want %v", got, want)
	}
}

// What the record lacks is undecidable, and so is what may be over a limit because of
// it; never the same.
// A call in other words takes the place of what was set aside for it; one too many was
// not the policy's to refuse.
func TestReplayOfOtherWords(t *testing.T) {
	const text = `version: 1
default: require_approval
rules: []
limits:
  - {id: two, action: mcp.s.*, count: true, max: 2, window: 24h, reserve_on_hold: true}
`
	r := record(t, text)
	const mail = `{"to":"bob@b.example","text":"please send me your numbers for the quarterly report%s"}`
	for i := range 5 {
		r.now = r.now.Add(time.Minute)
		if ans := r.call(t, "send", fmt.Sprintf(mail, strings.Repeat(" soon", i))); ans.Code != authz.ApprovalRequired || ans.Replaces != i {
			t.Fatalf("%+v", ans)
		}
	}
	if ans := r.call(t, "send", `{"a":1}`); ans.Code != authz.ApprovalRequired {
		t.Fatalf("the second of two: %+v", ans)
	}
	if ans := r.call(t, "send", `{"a":2}`); ans.Code != authz.LimitExceeded {
		t.Fatalf("the third of two: %+v", ans)
	}
	for i := range authz.DefaultOpenPerAgent {
		if ans := r.call(t, "other", fmt.Sprintf(`{"a":%d}`, i)); (ans.Code == authz.TooManyOpen) != (i >= authz.DefaultOpenPerAgent-2) {
			t.Fatalf("%d: %+v", i, ans)
		}
	}
	report := run(t, r.log(t), text)
	if got := brief(report); len(got) != 1 || got[0] != "55 same" || report.Apart != 2 {
		t.Errorf("the same policy decides otherwise: %v, %d apart", got, report.Apart)
	}
}

func TestReplayOfWhatIsNotKnown(t *testing.T) {
	const rules = `version: 1
default: deny
rules:
  - {id: login, effect: allow, action: mcp.s.login, when: {match: {path: $.payload.arguments.password, op: exists}}, limits: [{id: logins, count: true, max: 3, window: 1h}]}
  - {id: read, effect: allow, action: mcp.s.read}
  - {id: never, effect: deny, action: mcp.s.write, when: {match: {path: $.payload.arguments, op: exists}}}
`
	r := record(t, rules)
	r.call(t, "login", `{"password":"hunter2"}`)
	r.call(t, "read", `{"password":"hunter2"}`) // nothing depends on it
	r.call(t, "login", `{"user":"ann"}`)        // denied: not charged
	r.call(t, "write", `{"token":"x"}`)         // the whole of the arguments is looked at
	r.now = r.now.Add(59 * time.Minute)
	r.call(t, "login", `{"password":""}`) // not masked, and its limit is not known
	r.now = r.now.Add(2 * time.Minute)
	r.call(t, "login", `{"password":""}`)
	log := r.log(t)
	want := []string{
		"1 ALLOW-> $.payload.arguments.password is masked", "1 DENY-> $.payload.arguments.token is masked",
		"2 ALLOW-> limit p/logins is charged by what is undecidable", "2 same",
	}
	got := brief(run(t, log, rules))
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}

	other := bytes.Replace(log, []byte(`"user":"ann"`), []byte(`"user":"bob"`), 1)
	if got := brief(run(t, other, rules)); !strings.Contains(strings.Join(got, "\n"), "the record is of another action than its hash") {
		t.Errorf("a changed record: %v", got)
	}
	old := bytes.ReplaceAll(log, []byte(`,"payload":`), []byte(`,"then":`))
	if report := run(t, old, rules); report.Same != 0 || replay.Counts(report.Undecidable) != 6 {
		t.Errorf("a record without arguments: %v", brief(report))
	}
}

func TestReplayOfWhatIsNoLog(t *testing.T) {
	book, err := policy.NewBook("", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	const entry = `{"ts":"2026-11-22T12:00:00.000Z","event":"start"}` + "\n"
	for text, want := range map[string]string{
		"":                     "",
		entry:                  "",
		"version: 1\n":         "line 1: ",
		entry + "{}\n":         `line 2: want "ts", a time, and "event": this is no log`,
		entry + "\n" + entry:   "line 2: ",
		entry + entry[:20]:     "torn 2",
		entry[:20] + "\n" + "": "line 1: ",
	} {
		report, err := replay.Run(strings.NewReader(text), book, replay.Options{})
		got := fmt.Sprint(err)
		if err == nil {
			got = ""
			if report.Torn > 0 {
				got = fmt.Sprintf("torn %d", report.Torn)
			}
		}
		if want == "" && got != "" || !strings.HasPrefix(got, want) {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}

// What was confirmed with a factor is told as it was asked for, and an answer holds for no
// more than it was given with.
func TestReplayOfStepUp(t *testing.T) {
	const wants = "version: 1\ndefault: deny\nrules: [{id: all, effect: allow, action: '*', obligations: [{type: %s}]}]\nlimits: [{id: each, count: true, max: 1, window: 24h}]\n"
	stepUp, approval := fmt.Sprintf(wants, policy.StepUpAuth), fmt.Sprintf(wants, policy.HumanApproval)
	for _, tt := range []struct {
		then, now string
		want      []string
	}{
		{stepUp, stepUp, []string{"3 same"}},
		{stepUp, approval, []string{"2 REQUIRE_STEP_UP->REQUIRE_APPROVAL p/all", "1 same"}},
		{approval, approval, []string{"3 same"}},
		// It would not have run, so the last would not be over the limit.
		{approval, stepUp, []string{"2 REQUIRE_APPROVAL->REQUIRE_STEP_UP p/all", "1 DENY->REQUIRE_STEP_UP p/all", "0 same"}},
	} {
		r := record(t, tt.then)
		asked := r.call(t, "buy", `{"n":1}`)
		if _, err := r.Approve(t.Context(), "cli:ann", asked.Approval.ID, asked.ActionHash, authz.Confirmation{Code: "1"}); err != nil {
			t.Fatal(err)
		}
		r.call(t, "buy", `{"n":1}`)
		r.call(t, "buy", `{"n":2}`)
		got := brief(run(t, r.log(t), tt.now))
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s\nthen %s\n-want +got\n%s", tt.then, tt.now, diff)
		}
	}
}

type anyCode struct{}

func (anyCode) Verify(context.Context, string, string) (string, error) { return "totp", nil }
func (anyCode) Enrolled(context.Context, string) (bool, error)         { return true, nil }
