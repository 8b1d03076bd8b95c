package authz_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/policy"
)

// withLimits is a policy that allows s.buy, and what has limits.
func withLimits(limits string) string {
	return "version: 1\ndefault: deny\nrules: [{id: buy, effect: allow, action: mcp.s.buy}, {id: ask, effect: allow, action: mcp.s.ask, obligations: [{type: HUMAN_APPROVAL}]}, {id: read, effect: allow, action: mcp.s.read}]\nlimits: [" + limits + "]\n"
}

const daily = "{id: daily, sum: $.payload.arguments.n, max: 100, window: 24h%s}"

// buys tries one purchase.
func (r *room) buys(t *testing.T, n int) authz.Answer {
	t.Helper()
	return r.call(t, "buy", fmt.Sprintf(`{"n":%d}`, n))
}

func wantCode(t *testing.T, ans authz.Answer, want authz.Code) {
	t.Helper()
	if ans.Code != want {
		t.Errorf("got %s (%s), want %s", ans.Code, ans.Reason, want)
	}
}

// finish says what came of a call and waits until that is on disk.
func (r *room) finish(t *testing.T, ans authz.Answer, o authz.Outcome) {
	t.Helper()
	before := len(r.entries(t))
	r.Finish(r.who, nil, ans, o)
	deadline := time.Now().Add(5 * time.Second)
	for len(r.entries(t)) == before {
		if time.Now().After(deadline) {
			t.Fatal("no outcome came")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// A trailing window holds to the millisecond, and a refusal says how full it is and
// when there is room.
func TestLimitDenies(t *testing.T) {
	r := newRoom(t, withLimits(fmt.Sprintf(daily, "")))
	wantCode(t, r.buys(t, 60), authz.Allowed)
	r.now = r.now.Add(time.Hour)
	r.finish(t, r.buys(t, 40), authz.Outcome{Status: "ok"})
	full := r.buys(t, 1)
	wantCode(t, full, authz.LimitExceeded)
	if want := "Over limit p/daily: at most 100 in 24h; 40 used, 60 held, 0 left, and this is 1. It has room from 2026-11-23T12:00:00Z on."; full.Reason != want || full.Outcome != policy.Deny || full.Proof != "" {
		t.Errorf("got %v %q, want %q", full.Outcome, full.Reason, want)
	}
	if ans := r.buys(t, 101); !strings.Contains(ans.Reason, "never has room for this much") {
		t.Errorf("got %q", ans.Reason)
	}
	wantCode(t, r.buys(t, 0), authz.Allowed)
	r.now = r.now.Add(23*time.Hour - time.Millisecond)
	wantCode(t, r.buys(t, 1), authz.LimitExceeded)
	r.now = r.now.Add(time.Millisecond)
	wantCode(t, r.buys(t, 61), authz.LimitExceeded)
	wantCode(t, r.buys(t, 60), authz.Allowed)
	wantCode(t, r.buys(t, 1), authz.LimitExceeded)
}

// What is in the log of a limit: what was charged, and what had no room.
func TestLimitsInTheLog(t *testing.T) {
	r := newRoom(t, withLimits(fmt.Sprintf(daily, ", on_error: release")+", {id: calls, count: true, max: 9, window: 1h, per: [agent]}"))
	r.finish(t, r.buys(t, 60), authz.Outcome{Status: "tool_error"})
	r.buys(t, 100)
	r.buys(t, 7)
	r.call(t, "read", "{}")
	var got [][]audit.Limit
	for _, e := range r.entries(t) {
		got = append(got, e.Limits)
	}
	calls := audit.Limit{ID: "p/calls", Key: `["bot"]`, Amount: 1, Max: 9}
	buy := func(n int64) audit.Limit { return audit.Limit{ID: "p/daily", Key: "[]", Amount: n, Max: 100} }
	back, full := buy(60), buy(7)
	back.Released = true
	full.Over, full.Held = true, 100
	want := [][]audit.Limit{{buy(60), calls}, {back}, {buy(100), calls}, {full}, {{ID: "p/daily", Max: 100, Over: true, Doubt: "$.payload.arguments.n is missing"}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestLimitExplainsNothing(t *testing.T) {
	r := newRoom(t, withLimits(fmt.Sprintf(daily, ", explain: minimal")))
	r.buys(t, 60)
	for _, arguments := range []string{`{"n":41}`, `{"n":101}`} {
		if ans := r.call(t, "buy", arguments); ans.Reason != "Limit p/daily does not allow it." || ans.Code != authz.LimitExceeded {
			t.Errorf("%s: %s %q", arguments, ans.Code, ans.Reason)
		}
	}
}

// What cannot be counted is over the limit.
func TestLimitInDoubt(t *testing.T) {
	r := newRoom(t, withLimits(fmt.Sprintf(daily, "")))
	for _, arguments := range []string{`{}`, `{"n":"5"}`, `{"n":-5}`, `{"n":1.5}`, `{"N":5}`} {
		ans := r.call(t, "buy", arguments)
		wantCode(t, ans, authz.LimitExceeded)
		if !strings.HasPrefix(ans.Reason, "Limit p/daily cannot count it: $.payload.arguments.n") {
			t.Errorf("%s: %s", arguments, ans.Reason)
		}
	}
	wantCode(t, r.buys(t, 100), authz.Allowed)
}

// All limits or none: what has no room in one takes nothing from another.
func TestLimitsTogether(t *testing.T) {
	r := newRoom(t, withLimits(fmt.Sprintf(daily, "")+", {id: calls, count: true, max: 3, window: 1h}"))
	for range 3 {
		wantCode(t, r.buys(t, 101), authz.LimitExceeded)
	}
	for range 3 {
		wantCode(t, r.buys(t, 30), authz.Allowed)
	}
	ans := r.buys(t, 11)
	if !strings.Contains(ans.Reason, "p/daily") || !strings.Contains(ans.Reason, "p/calls") {
		t.Errorf("both are full: %s", ans.Reason)
	}
	r.now = r.now.Add(time.Hour)
	wantCode(t, r.buys(t, 10), authz.Allowed)
}

// A call is given back when nothing of it has left, and after an error only where
// the limit says so; the agent's word and a doubt give nothing back.
func TestWhatIsGivenBack(t *testing.T) {
	for _, tt := range []struct {
		limit   string
		outcome authz.Outcome
		back    bool
	}{
		{"", authz.Outcome{Status: "cancelled", Unsent: true}, true},
		{"", authz.Outcome{Status: "transport_error", Unsent: true}, true},
		{"", authz.Outcome{Status: "ok"}, false},
		{"", authz.Outcome{Status: "tool_error"}, false},
		{"", authz.Outcome{Status: "protocol_error"}, false},
		{"", authz.Outcome{Status: "transport_error"}, false},
		{"", authz.Outcome{Status: "cancelled"}, false},
		{"", authz.Outcome{Status: "unknown"}, false},
		{", on_error: release", authz.Outcome{Status: "ok"}, false},
		{", on_error: release", authz.Outcome{Status: "tool_error"}, true},
		{", on_error: release", authz.Outcome{Status: "protocol_error"}, true},
		{", on_error: release", authz.Outcome{Status: "transport_error"}, true},
		{", on_error: release", authz.Outcome{Status: "cancelled"}, false},
		{", on_error: release", authz.Outcome{Status: "unknown"}, false},
		{", on_error: release", authz.Outcome{Status: "cancelled", Unsent: true}, true},
	} {
		r := newRoom(t, withLimits(fmt.Sprintf(daily, tt.limit)))
		ans := r.buys(t, 100)
		r.finish(t, ans, tt.outcome)
		want := authz.LimitExceeded
		if tt.back {
			want = authz.Allowed
		}
		again := r.buys(t, 100)
		wantCode(t, again, want)
		if !tt.back && !strings.Contains(again.Reason, "100 used, 0 held") {
			t.Errorf("%+v: %s", tt, again.Reason)
		}
		r.finish(t, ans, authz.Outcome{Status: "cancelled", Unsent: true}) // a second word counts for nothing
		wantCode(t, r.buys(t, 1), authz.LimitExceeded)
	}
}

// Each agent may have its own, and a limit of the owner's policy binds what an
// agent's own policy allows.
func TestLimitsOfAgents(t *testing.T) {
	r := newRoom(t, withLimits("{id: each, count: true, max: 1, window: 1h, per: [agent]}, {id: all, count: true, max: 2, window: 1h}"))
	other, err := r.store.EnsureAgent(t.Context(), "other", r.Owner())
	if err != nil {
		t.Fatal(err)
	}
	bot := r.who
	wantCode(t, r.buys(t, 1), authz.Allowed)
	wantCode(t, r.buys(t, 1), authz.LimitExceeded)
	r.who.Agent = other
	wantCode(t, r.buys(t, 1), authz.Allowed)
	r.now, r.who = r.now.Add(time.Hour), bot
	if err := os.MkdirAll(filepath.Join(r.policies, "agents", "bot"), 0o700); err != nil {
		t.Fatal(err)
	}
	r.write(t, "agents/bot/own.yaml", "version: 1\ndefault: allow\nrules: []\n")
	r.reload(t)
	wantCode(t, r.call(t, "other", "{}"), authz.Allowed)
	wantCode(t, r.call(t, "other", "{}"), authz.LimitExceeded)
}

// reload waits until the folder as it is now is in force.
func (r *room) reload(t *testing.T) {
	t.Helper()
	book, err := policy.Load(r.policies, nil)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); r.keeper.Current().Hash != book.Hash; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the policies did not come into force")
		}
	}
}

// A changed limit keeps its history, whatever its window was.
func TestChangedLimitKeepsHistory(t *testing.T) {
	r := newRoom(t, withLimits("{id: a, count: true, max: 1, window: 1h}"))
	r.buys(t, 1)
	r.now = r.now.Add(20 * time.Hour)
	r.buys(t, 1)
	r.write(t, "p.yaml", withLimits("{id: a, count: true, max: 3, window: month, timezone: UTC}"))
	r.reload(t)
	wantCode(t, r.buys(t, 1), authz.Allowed)
	if ans := r.buys(t, 1); ans.Code != authz.LimitExceeded || !strings.Contains(ans.Reason, "3 held") || !strings.Contains(ans.Reason, "room from 2026-12-01T00:00:00Z") {
		t.Errorf("%s %s", ans.Code, ans.Reason)
	}
}

// Over a limit that asks: the request shows by how much, the approval is good for
// that much, and what was approved counts.
func TestLimitAsks(t *testing.T) {
	r := newRoom(t, withLimits(fmt.Sprintf(daily, ", over: require_approval, explain: minimal")))
	r.buys(t, 60)
	asked := r.buys(t, 50)
	wantCode(t, asked, authz.ApprovalRequired)
	if asked.Reason != "Limit p/daily does not allow it." || !slices.ContainsFunc(asked.Obligations, func(o policy.Obligation) bool { return o.Type == policy.HumanApproval }) {
		t.Errorf("%+v", asked)
	}
	want := []approvals.Overshoot{{Limit: "p/daily", Key: "[]", Window: "24h", Max: 100, Held: 60, Amount: 50}}
	if got, err := r.Approvals().Approval(t.Context(), asked.Approval.ID); err != nil || !cmp.Equal(want, got.Overshoots) || !strings.Contains(got.Reason, "60 held, 40 left, and this is 50") {
		t.Fatalf("got %+v, %v", got, err)
	}
	if again := r.buys(t, 50); again.Approval == nil || again.Approval.ID != asked.Approval.ID {
		t.Errorf("the same call again is %+v", again)
	}
	r.answer(t, asked.Approval.ID, true)
	ran := r.buys(t, 50)
	wantCode(t, ran, authz.Allowed)
	if ran.Proof == "" || ran.Approval == nil || ran.ActionHash != asked.ActionHash {
		t.Errorf("%+v", ran)
	}
	next := r.buys(t, 1)
	wantCode(t, next, authz.ApprovalRequired)
	if o := next.Approval.Overshoots; len(o) != 1 || o[0].Held != 110 || o[0].Beyond() != 11 {
		t.Errorf("what was approved counts: %+v", o)
	}
}

func (r *room) answer(t *testing.T, id string, yes bool) {
	t.Helper()
	if _, err := r.Answer(t.Context(), "test:ann", id, yes, ""); err != nil {
		t.Fatal(err)
	}
}

// Between asking and running the limit may fill up: then more is asked for, and
// what was approved is no longer good. When it empties, less is needed.
func TestLimitAsksForMore(t *testing.T) {
	r := newRoom(t, withLimits(fmt.Sprintf(daily, ", over: require_approval")))
	r.buys(t, 60)
	first := r.buys(t, 50)
	r.answer(t, first.Approval.ID, true)
	wantCode(t, r.buys(t, 1), authz.Allowed) // one more is used than was shown
	second := r.buys(t, 50)
	wantCode(t, second, authz.ApprovalRequired)
	if second.Approval.ID == first.Approval.ID || second.Approval.Overshoots[0].Beyond() != 11 {
		t.Errorf("%+v", second.Approval)
	}
	if old, _ := r.Approvals().Approval(t.Context(), first.Approval.ID); old.Status != approvals.Expired {
		t.Errorf("the first is %s", old.Status)
	}
	r.answer(t, second.Approval.ID, true)
	wantCode(t, r.buys(t, 50), authz.Allowed)
	denied := r.buys(t, 7)
	r.answer(t, denied.Approval.ID, false)
	wantCode(t, r.buys(t, 7), authz.ApprovalDenied)
	r.now = r.now.Add(24 * time.Hour)
	wantCode(t, r.buys(t, 7), authz.Allowed)
}

// A limit that denies is not asked about, nor met by an approval.
func TestLimitDeniesWhatAsks(t *testing.T) {
	r := newRoom(t, withLimits("{id: calls, count: true, max: 1, window: 1h}"))
	asked := r.call(t, "ask", "{}")
	wantCode(t, asked, authz.ApprovalRequired)
	r.answer(t, asked.Approval.ID, true)
	wantCode(t, r.buys(t, 1), authz.Allowed) // what waits reserves nothing
	wantCode(t, r.call(t, "ask", "{}"), authz.LimitExceeded)
	wantCode(t, r.call(t, "ask", `{"other":1}`), authz.LimitExceeded)
	if list := must(r.store.Approvals(t.Context(), r.Owner().ID, "", 0))(t); len(list) != 1 || list[0].Status != approvals.Approved {
		t.Errorf("%+v", list)
	}
	r.now = r.now.Add(time.Hour - time.Second) // the grant is good until then
	wantCode(t, r.call(t, "ask", "{}"), authz.LimitExceeded)
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// A rule that asks and a limit that asks are one approval; one in doubt too.
func TestLimitAsksBesideItsRule(t *testing.T) {
	r := newRoom(t, withLimits(fmt.Sprintf(daily, ", over: require_approval")))
	for _, tt := range [][2]string{
		{`{"n":100}`, `Rule "ask" wants a person's approval.`},
		{`{"n":101}`, `Rule "ask" wants a person's approval. Over limit p/daily: at most 100 in 24h; 0 used, 0 held, 100 left, and this is 101. It never has room for this much.`},
		{`{}`, `Rule "ask" wants a person's approval. Limit p/daily cannot count it: $.payload.arguments.n is missing.`},
	} {
		arguments, want := tt[0], tt[1]
		asked := r.call(t, "ask", arguments)
		wantCode(t, asked, authz.ApprovalRequired)
		if asked.Reason != want {
			t.Errorf("%s: got %q, want %q", arguments, asked.Reason, want)
		}
		if arguments != `{"n":100}` {
			r.answer(t, asked.Approval.ID, true)
			wantCode(t, r.call(t, "ask", arguments), authz.Allowed)
		}
	}
	if ans := r.buys(t, 1); !strings.Contains(ans.Reason, "101 held") {
		t.Errorf("what cannot be counted took something, or what was approved did not: %s", ans.Reason)
	}
}

func TestLimitWantsStepUp(t *testing.T) {
	r := newRoom(t, withLimits(fmt.Sprintf(daily, ", over: require_step_up")))
	wantCode(t, r.buys(t, 100), authz.Allowed)
	if ans := r.buys(t, 1); ans.Code != authz.ApprovalRequired || ans.Outcome != policy.RequireStepUp || !strings.Contains(ans.Reason, "Over limit p/daily") {
		t.Errorf("%+v", ans)
	}
	if ans := r.call(t, "ask", `{"n":1}`); ans.Outcome != policy.RequireStepUp || !ans.Approval.Needs.StepUp {
		t.Errorf("an approval alone would meet it: %+v", ans)
	}
}

// What is set aside for a call leaves room for that call, also where it is only a
// limit that makes it wait: while it waits, and when it has been approved.
func TestSetAsideIsTheCallsOwn(t *testing.T) {
	r := newRoom(t, withLimits("{id: each, sum: $.payload.arguments.n, max: 10, window: 1h, over: require_approval}, {id: calls, count: true, max: 1, window: 1h, reserve_on_hold: true}"))
	asked := r.buys(t, 20)
	wantCode(t, asked, authz.ApprovalRequired)
	again := r.buys(t, 20)
	wantCode(t, again, authz.ApprovalRequired)
	if again.Approval == nil || again.Approval.ID != asked.Approval.ID {
		t.Errorf("another request: %+v", again)
	}
	wantCode(t, r.buys(t, 5), authz.LimitExceeded)
	r.answer(t, asked.Approval.ID, true)
	wantCode(t, r.buys(t, 5), authz.LimitExceeded)
	wantCode(t, r.buys(t, 20), authz.Allowed)
	wantCode(t, r.buys(t, 20), authz.LimitExceeded)
}

// With reserve_on_hold what waits is set aside, until it is answered or its time is
// over, and its approval is never too late for the limit.
func TestReserveOnHold(t *testing.T) {
	const limit = "{id: calls, count: true, max: 1, window: 30m, reserve_on_hold: true}"
	start := func(t *testing.T) (*room, authz.Answer) {
		r := newRoom(t, withLimits(limit))
		asked := r.call(t, "ask", "{}")
		wantCode(t, asked, authz.ApprovalRequired)
		r.now = r.now.Add(time.Hour) // longer than the window
		full := r.buys(t, 1)
		wantCode(t, full, authz.LimitExceeded)
		if !strings.Contains(full.Reason, "0 used, 1 held") || !strings.Contains(full.Reason, "room from 2026-11-23T12:00:00Z") {
			t.Error(full.Reason)
		}
		return r, asked
	}
	t.Run("approved", func(t *testing.T) {
		r, asked := start(t)
		r.answer(t, asked.Approval.ID, true)
		r.now = r.now.Add(time.Hour - time.Millisecond)
		wantCode(t, r.buys(t, 1), authz.LimitExceeded)
		wantCode(t, r.call(t, "ask", "{}"), authz.Allowed)
		wantCode(t, r.buys(t, 1), authz.LimitExceeded)
		r.now = r.now.Add(30 * time.Minute)
		wantCode(t, r.buys(t, 1), authz.Allowed)
	})
	t.Run("approved, not used", func(t *testing.T) {
		r, asked := start(t)
		r.answer(t, asked.Approval.ID, true)
		r.now = r.now.Add(time.Hour)
		wantCode(t, r.buys(t, 1), authz.Allowed)
	})
	t.Run("denied", func(t *testing.T) {
		r, asked := start(t)
		r.answer(t, asked.Approval.ID, false)
		wantCode(t, r.buys(t, 1), authz.Allowed)
	})
	t.Run("not answered", func(t *testing.T) {
		r, _ := start(t)
		r.now = r.now.Add(23*time.Hour - time.Millisecond)
		wantCode(t, r.buys(t, 1), authz.LimitExceeded)
		r.now = r.now.Add(time.Millisecond)
		wantCode(t, r.buys(t, 1), authz.Allowed)
	})
}

// The messages of one approved call are charged once.
func TestRoundsAreChargedOnce(t *testing.T) {
	r := newRoom(t, withLimits(fmt.Sprintf(daily, ", over: require_approval")+", {id: calls, count: true, max: 1, window: 1h}"))
	asked := r.buys(t, 101)
	r.answer(t, asked.Approval.ID, true)
	ans := r.buys(t, 101)
	wantCode(t, ans, authz.Allowed)
	for range 3 {
		r.finish(t, ans, authz.Outcome{Status: "ok"})
		token := must(r.OpenRound(t.Context(), r.who, ans))(t)
		r.now = r.now.Add(time.Minute)
		ans = r.further(t, token, "buy", `{"n":101}`)
		wantCode(t, ans, authz.Allowed)
		if len(ans.Charges) > 0 || ans.ActionHash != asked.ActionHash {
			t.Errorf("%+v", ans)
		}
	}
	r.finish(t, ans, authz.Outcome{Status: "cancelled", Unsent: true}) // the first message was sent
	if full := r.buys(t, 1); !strings.Contains(full.Reason, "101 used, 0 held") || full.Code != authz.LimitExceeded {
		t.Errorf("%s %s", full.Code, full.Reason)
	}
}

// An action that is asked about twice, by its id, is charged once; and what two
// decisions stand on is not given back by one.
func TestActionIsChargedOnce(t *testing.T) {
	r := newRoom(t, "version: 1\ndefault: allow\nrules: []\nlimits: [{id: calls, count: true, max: 2, window: 1h}]\n")
	decide := func(id, item string) authz.Answer {
		req := action.Request{ActionID: id, RequestedAt: "2026-11-22T12:00:00Z", ActionType: "buy", Payload: action.ObjectValue(action.Member{Key: "item", Value: action.StringValue(item)})}
		return must(r.Authorize(t.Context(), r.who, req, nil))(t)
	}
	first := decide("a", "tea")
	for range 3 {
		wantCode(t, decide("a", "tea"), authz.Allowed)
	}
	r.finish(t, first, authz.Outcome{Status: "cancelled", Unsent: true})
	wantCode(t, decide("a", "coffee"), authz.Allowed) // the same id for something else
	wantCode(t, decide("b", "tea"), authz.LimitExceeded)
	wantCode(t, decide("a", "tea"), authz.Allowed)
	r.now = r.now.Add(time.Hour) // in another window it is another charge
	wantCode(t, decide("a", "tea"), authz.Allowed)
	wantCode(t, decide("b", "tea"), authz.Allowed)
	wantCode(t, decide("c", "tea"), authz.LimitExceeded)
}

// full is a store in which limits fill up faster than anybody can decide.
type full struct {
	authz.Store
	used int64
}

func (s *full) Commit(ctx context.Context, b authz.Batch) error {
	if b.Reserve == nil {
		return s.Store.Commit(ctx, b)
	}
	s.used++
	c := b.Reserve.Charges[0]
	return &authz.LimitError{Full: []policy.LimitState{{Limit: c.Limit, Key: c.Key, Used: c.Max + s.used}}}
}

func TestLimitsThatKeepFilling(t *testing.T) {
	r := newRoom(t, withLimits(fmt.Sprintf(daily, ", over: require_approval")), func(c *authz.Config) { c.Store = &full{Store: c.Store} })
	if ans := r.buys(t, 1); ans.Code != authz.StoreUnavailable || ans.Outcome != policy.Deny || !strings.Contains(ans.Reason, "kept filling up") {
		t.Errorf("%+v", ans)
	}
	var err error = &authz.LimitError{Full: []policy.LimitState{{Limit: "p/daily", Used: 7}}}
	if !errors.As(err, new(*authz.LimitError)) || !strings.Contains(err.Error(), "p/daily, 7 used") {
		t.Error(err)
	}
}
