package policy_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/internal/strictyaml"
	"github.com/openleash/openleash-go/policy"
)

// TestDocs: every policy in docs/policy.md is one, and every suite.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile("../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(text), "```yaml\n")[1:]
	if len(blocks) < 3 {
		t.Fatalf("%d policies in the docs", len(blocks))
	}
	for i, block := range blocks {
		src, _, _ := strings.Cut(block, "```")
		if strings.HasPrefix(src, "# policies/") {
			if _, err := policy.ParseSuite("doc", []byte(src)); err != nil {
				t.Errorf("%v\n%s", err, src)
			}
			continue
		}
		if _, err := policy.Parse("doc", fmt.Sprintf("block %d", i+1), []byte(src)); err != nil {
			t.Errorf("%v\n%s", err, src)
		}
	}
}

// TestParseErrorType: callers get at the places.
func TestParseErrorType(t *testing.T) {
	for _, src := range []string{"", "a: [", "version: 2\ndefault: x\nrules: []\n", strings.Repeat(" ", 2<<20)} {
		_, err := policy.Parse("p", "p.yaml", []byte(src))
		var list strictyaml.ErrorList
		if !errors.As(err, &list) || len(list) == 0 || list[0].File != "p.yaml" || list[0].Line < 1 {
			t.Errorf("%.20q: %T %v", src, err, err)
		}
	}
}

// TestAliases: anchors may be used; what they stand for is read in each place.
func TestAliases(t *testing.T) {
	p, err := policy.Parse("p", "p.yaml", []byte(`version: 1
default: deny
rules:
- {id: a, effect: allow, action: a, constraints: &eur {currency: &codes [EUR]}, when: &known {match: {path: $.payload.shop, op: in, value: &shops [x, y]}}}
- {id: b, effect: allow, action: b, constraints: *eur, when: {all: [*known, {not: *known}]}}
- {id: c, effect: allow, action: c, when: {match: {path: $.payload.shop, op: in, value: *shops}}, constraints: {currency: *codes, amount_max: 5}}
`))
	if err != nil {
		t.Fatal(err)
	}
	set := policy.Compile([]policy.Binding{{Policy: p}})
	req := purchase(t, `{"shop":"y","currency":"EUR","amount_minor":5}`)
	for actionType, want := range map[string]string{"a": "a", "b": "", "c": "c"} {
		req.ActionType = actionType
		if d := set.Decide(&req, policy.Env{}); d.RuleID != want {
			t.Errorf("%s: rule %q, want %q", actionType, d.RuleID, want)
		}
	}
}

// TestFailsClosed: the zero Outcome, a Set of nothing, and a failure inside deny.
func TestFailsClosed(t *testing.T) {
	var zero policy.Decision
	if zero.Outcome != policy.Deny || zero.Outcome.String() != "DENY" || policy.Outcome(99).String() != "DENY" {
		t.Errorf("the zero outcome is %v", zero.Outcome)
	}
	if d := policy.Compile(nil).Decide(&action.Request{}, policy.Env{}); d.Outcome != policy.Deny || d.Reason == "" {
		t.Errorf("no bindings: %+v", d)
	}
	p, err := policy.Parse("p", "p.yaml", []byte(allowAll))
	if err != nil {
		t.Fatal(err)
	}
	set := policy.Compile([]policy.Binding{{Policy: p}})
	if d := set.Decide(nil, policy.Env{}); d.Outcome != policy.Deny || len(d.Errors) != 1 {
		t.Errorf("a failure inside: %+v", d)
	}
	if d, _ := set.Trace(nil, policy.Env{}); d.Outcome != policy.Deny || len(d.Errors) != 1 {
		t.Errorf("a failure inside Trace: %+v", d)
	}
	if d := set.Decide(&action.Request{}, policy.Env{}); d.Outcome != policy.Allow {
		t.Errorf("after a failure: %+v", d)
	}
}

// TestObligationsAreNotShared: a caller that appends to what it got changes
// nothing for the next.
func TestObligationsAreNotShared(t *testing.T) {
	p, err := policy.Parse("p", "p.yaml", []byte(`version: 1
default: deny
rules:
- {id: a, effect: allow, action: "*", obligations: [{type: HUMAN_APPROVAL}, {type: STEP_UP_AUTH}, {type: COUNTERPARTY_ATTESTATION}]}
`))
	if err != nil {
		t.Fatal(err)
	}
	set := policy.Compile([]policy.Binding{{Policy: p}})
	d := set.Decide(&action.Request{ActionType: "x"}, policy.Env{})
	_ = append(d.Obligations, policy.Obligation{Type: "X"})
	d = set.Decide(&action.Request{ActionType: "x"}, policy.Env{})
	if len(d.Obligations) != 3 || !d.Asks(policy.StepUpAuth) || d.Asks(policy.Deposit) || d.Outcome != policy.RequireApproval {
		t.Errorf("%+v", d)
	}
}

// TestNothingIsKept: what one request left behind is not seen by the next.
func TestNothingIsKept(t *testing.T) {
	p, err := policy.Parse("p", "p.yaml", []byte(`version: 1
default: deny
rules:
- {id: small, effect: allow, action: purchase, constraints: {amount_max: 10}}
- {id: tool, effect: allow, action: other, when: {match: {path: $.tool.reads, op: eq, value: true}}}
- {id: bot, effect: allow, action: other, when: {match: {path: $.principal.agent_id, op: eq, value: shopper}}}
`))
	if err != nil {
		t.Fatal(err)
	}
	set := policy.Compile([]policy.Binding{{Policy: p}})
	near := purchase(t, `{"amount_minor":11}`)
	reads := action.Request{ActionType: "other", AgentID: "shopper"}
	env := policy.Env{Tool: action.ObjectValue(action.Member{Key: "reads", Value: action.BoolValue(true)})}
	if d := set.Decide(&near, policy.Env{}); !strings.Contains(d.Reason, `"small"`) {
		t.Errorf("near miss: %q", d.Reason)
	}
	if d := set.Decide(&reads, env); d.RuleID != "tool" {
		t.Errorf("with a tool: %+v", d)
	}
	if d := set.Decide(&reads, policy.Env{}); d.RuleID != "bot" {
		t.Errorf("without: %+v", d)
	}
	reads.AgentID = "other"
	if d := set.Decide(&reads, policy.Env{}); d.Reason != `No rule matches; policy "p" denies the rest.` {
		t.Errorf("another agent: %+v", d)
	}
}
