package authz_test

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/policy"
)

const ledgerPolicy = `version: 1
default: deny
rules:
  - {id: buy, effect: allow, action: mcp.s.buy}
  - {id: ask, effect: allow, action: mcp.s.ask, obligations: [{type: HUMAN_APPROVAL}]}
limits:
  - {id: hourly, sum: $.payload.arguments.n, max: 150, window: 1h}
  - {id: each, sum: $.payload.arguments.n, max: 60, per: [$.payload.arguments.to], window: 30m, over: require_approval, on_error: release}
  - {id: calls, count: true, max: 60, window: day, timezone: Europe/Berlin, reserve_on_hold: true}
`

// A Ledger says what the store does, through a random history of calls, outcomes,
// approvals and denials: what is tested and replayed is what would run.
func TestLedgerAgrees(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	h := &ledgerHistory{room: newRoom(t, ledgerPolicy), random: rand.New(rand.NewPCG(seed, 1))}
	for range 200 {
		h.now = h.now.Add(time.Duration(h.random.IntN(1_200_000)) * time.Millisecond)
		h.step(t)
	}
	t.Logf("%v", h.seen)
	for _, code := range []authz.Code{authz.Allowed, authz.LimitExceeded, authz.ApprovalRequired} {
		if h.seen[code] < 10 {
			t.Errorf("too few were %s: the history tests little", code)
		}
	}
}

type ledgerHistory struct {
	*room
	random *rand.Rand
	ledger policy.Ledger
	n      int
	seen   map[authz.Code]int
}

// step asks once, and answers and settles what comes of it.
func (h *ledgerHistory) step(t *testing.T) {
	h.n++
	tool := []string{"buy", "buy", "ask"}[h.random.IntN(3)]
	arguments := fmt.Sprintf(`{"n":%d,"to":"%c","nonce":%d}`, h.random.IntN(40), 'a'+rune(h.random.IntN(2)), h.n)
	by := strconv.Itoa(h.n)
	d := h.decision(t, tool, arguments)
	ans := h.call(t, tool, arguments)
	h.compare(t, arguments, ans, h.ledger.Within(d, by, h.now))
	switch ans.Outcome {
	case policy.Allow:
		h.ledger.Charge(d, by, h.now)
		h.settle(t, ans, d, by)
	case policy.RequireApproval:
		h.ledger.SetAside(d, by, h.now.Add(24*time.Hour))
		h.answer(t, ans, d, tool, arguments, by)
	}
}

// answer says yes, and calls again, or no.
func (h *ledgerHistory) answer(t *testing.T, ans authz.Answer, d policy.Decision, tool, arguments, by string) {
	yes := h.random.IntN(3) > 0
	if _, err := h.Answer(t.Context(), "cli:ann", ans.Approval.ID, yes, ""); err != nil {
		t.Fatal(err)
	}
	h.ledger.Release(d, by, policy.AllLimits)
	if !yes {
		return
	}
	ans = h.call(t, tool, arguments)
	wantCode(t, ans, authz.Allowed)
	h.ledger.Charge(d, by, h.now)
	h.settle(t, ans, d, by)
}

func (h *ledgerHistory) settle(t *testing.T, ans authz.Answer, d policy.Decision, by string) {
	switch h.random.IntN(6) {
	case 0:
		h.finish(t, ans, authz.Outcome{Status: "tool_error"})
		h.ledger.Release(d, by, policy.Refunding)
	case 1:
		h.finish(t, ans, authz.Outcome{Status: "transport_error", Unsent: true})
		h.ledger.Release(d, by, policy.AllLimits)
	}
}

func (h *ledgerHistory) decision(t *testing.T, tool, arguments string) policy.Decision {
	t.Helper()
	args, err := action.Parse([]byte(arguments), action.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	req := action.Request{AgentID: "bot", ActionType: "mcp.s." + tool, Payload: action.ObjectValue(action.Member{Key: "arguments", Value: args})}
	return h.keeper.Current().For("bot").Decide(&req, policy.Env{Now: h.now})
}

// counted is how a reason tells used and held: the ledger does not tell them apart.
var counted = regexp.MustCompile(`(\d+) used, (\d+) held`)

func together(reason string) string {
	return counted.ReplaceAllStringFunc(reason, func(s string) string {
		m := counted.FindStringSubmatch(s)
		used, _ := strconv.Atoi(m[1])
		held, _ := strconv.Atoi(m[2])
		return fmt.Sprintf("%d counted", used+held)
	})
}

func (h *ledgerHistory) compare(t *testing.T, arguments string, ans authz.Answer, want policy.Limited) {
	t.Helper()
	if h.seen == nil {
		h.seen = make(map[authz.Code]int)
	}
	h.seen[ans.Code]++
	if ans.Outcome != want.Outcome || together(ans.Reason) != together(want.Reason) {
		t.Fatalf("call %d, %s at %s: the store says %v: %s\nthe ledger %v: %s", h.n, arguments, h.now, ans.Outcome, ans.Reason, want.Outcome, want.Reason)
	}
}
