package policy_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/openleash/openleash-go/policy"
)

var someTemplates = fstest.MapFS{
	"policies/shop.yaml":      {Data: []byte("version: 1\ndefault: deny\nrules:\n- {id: buy, effect: allow, action: purchase}\n")},
	"policies/shop_test.yaml": {Data: []byte("tests: []\n")},
}

// Every mistake in a scenario is told with its place, all at once, also those in
// its own policy.
func TestScenarioErrors(t *testing.T) {
	_, err := policy.ParseScenario("scenarios/bad.yaml", []byte(`title: [no]
policy: {version: 1, default: dney, rules: []}
policies: [shpo, shop_test]
actions:
  tea: {action_type: purchase}
steps:
  - {does: A, action: te, at: "2026-11-23T09:00:00Z", want: ALLOW, then: approved}
  - {does: B, action: tea, at: "2026-11-23T08:00:00Z", want: DENY, then: error}
  - {does: C, action: tea, at: noon, want: REQUIRE_APPROVAL, thn: denied}
  - {does: D, want: ALOW}
`), someTemplates)
	want := `scenarios/bad.yaml:1:1: scenario: shows is missing
scenarios/bad.yaml:1:8: title: want text, got a list
scenarios/bad.yaml:2:31: default: want allow, deny, passthrough, require_approval, got "dney" (did you mean "deny"?)
scenarios/bad.yaml:3:12: policies: no shipped policy is named "shpo" (did you mean "shop"?)
scenarios/bad.yaml:3:18: policies: no shipped policy is named "shop_test"
scenarios/bad.yaml:7:23: step: no action "te" (did you mean "tea"?)
scenarios/bad.yaml:7:74: step: then: approved is for a step that waits, and this one wants ALLOW
scenarios/bad.yaml:8:32: step: at: is before the step that stands above it; tell steps in the order of time
scenarios/bad.yaml:8:74: step: then: error is for a step that runs, and this one wants DENY
scenarios/bad.yaml:9:32: step: at: want a time with its zone, like 2026-11-23T09:00:00+01:00, got "noon"
scenarios/bad.yaml:9:62: step: unknown key "thn" (did you mean "then"?)
scenarios/bad.yaml:10:5: step: action is missing
scenarios/bad.yaml:10:5: step: at is missing
scenarios/bad.yaml:10:21: step: want: want ALLOW, DENY, REQUIRE_APPROVAL, REQUIRE_STEP_UP, REQUIRE_DEPOSIT, got "ALOW" (did you mean "ALLOW"?)`
	if err == nil {
		t.Fatal("accepted")
	}
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Errorf("messages differ (-want +got):\n%s", diff)
	}
	for text, want := range map[string]string{
		"title: A\nshows: B\nsteps: []\npolicies: [shop]\n":                                                            "s.yaml:3:8: steps: want one at least",
		"title: A\nshows: B\nsteps: [{does: C, action: {action_type: x}, at: \"2026-11-23T09:00:00Z\", want: DENY}]\n": "s.yaml:1:1: scenario: want policies",
		"- 1\n": "s.yaml:1:1: scenario: want a mapping",
	} {
		if _, err := policy.ParseScenario("s.yaml", []byte(text), someTemplates); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
	broken := fstest.MapFS{"policies/shop.yaml": {Data: []byte("version: 2\n")}}
	_, err = policy.ParseScenario("s.yaml", []byte("title: A\nshows: B\npolicies: [shop]\nsteps: [{does: C, action: {action_type: x}, at: \"2026-11-23T09:00:00Z\", want: DENY}]\n"), broken)
	if err == nil || !strings.Contains(err.Error(), "version: want 1") {
		t.Errorf("a broken template: %v", err)
	}
}

const budget = `title: A
shows: B
policy:
  version: 1
  default: deny
  rules:
    - {id: buy, effect: allow, action: buy}
    - {id: ask, effect: allow, action: ask, obligations: [{type: HUMAN_APPROVAL}]}
    - {id: over, effect: allow, action: over, limits: [{id: few, count: true, max: 0, window: 1h, over: require_approval}]}
  limits:
    - {id: day, action: buy, sum: $.payload.n, max: 10, window: 24h, on_error: release}
    - {id: asked, action: ask, count: true, max: 1, window: 24h, reserve_on_hold: true}
policies: [shop]
actions:
  four: {action_type: buy, payload: {n: 4}}
  ask: {action_type: ask}
  over: {action_type: over}
steps:
`

// What a step is charged depends on how it ends; an owner's answer is given only
// where the decision is to wait.
func TestScenarioRun(t *testing.T) {
	for _, tt := range []struct {
		name, steps string
		want        []policy.Came
	}{
		{"charges add up", "four four four", []policy.Came{policy.Ran, policy.Ran, policy.Refused}},
		{"an error gives back", "four,error four four", []policy.Came{policy.Failed, policy.Ran, policy.Ran}},
		{"what waits is set aside", "ask ask", []policy.Came{policy.Waits, policy.Refused}},
		{"what is denied is not", "ask,denied ask", []policy.Came{policy.Denied, policy.Waits}},
		{"what is approved is charged", "ask,approved ask", []policy.Came{policy.Approved, policy.Refused}},
		{"beyond a limit, too", "over,approved over,denied", []policy.Came{policy.Approved, policy.Denied}},
	} {
		text := budget
		for _, step := range strings.Fields(tt.steps) {
			action, then, _ := strings.Cut(step, ",")
			text += "  - {does: C, at: \"2026-11-23T09:00:00Z\", action: " + action + ", want: " + map[string]string{"": "DENY", "error": "ALLOW", "denied": "REQUIRE_APPROVAL", "approved": "REQUIRE_APPROVAL"}[then]
			if then != "" {
				text += ", then: " + then
			}
			text += "}\n"
		}
		s, err := policy.ParseScenario("scenarios/a.yaml", []byte(text), someTemplates)
		if err != nil {
			t.Fatal(err)
		}
		var got []policy.Came
		for _, r := range s.Run(s.Book) {
			got = append(got, r.Came)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
		if diff := cmp.Diff([]string{"a", "shop"}, s.Told); diff != "" {
			t.Errorf("told with (-want +got):\n%s", diff)
		}
	}
}

// A run begins with empty limits, whichever ran before, and with whatever book.
func TestScenarioRunsAnew(t *testing.T) {
	s, err := policy.ParseScenario("scenarios/a.yaml", []byte(budget+
		"  - {does: C, at: \"2026-11-23T09:00:00Z\", action: {action_type: buy, payload: {n: 8}}, want: ALLOW, rule: buy}\n"), someTemplates)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r := s.Run(s.Book)[0]
		if len(r.Faults) > 0 || r.Levels[0].State.Used != 8 {
			t.Errorf("faults %v, levels %+v", r.Faults, r.Levels)
		}
	}
	other, err := policy.Alone("o.yaml", []byte("version: 1\ndefault: require_approval\nrules: []\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"decision: want ALLOW, got REQUIRE_APPROVAL", "rule: want buy, got default"}
	if diff := cmp.Diff(want, s.Run(other)[0].Faults); diff != "" {
		t.Errorf("other policies (-want +got):\n%s", diff)
	}
}

// The shadow is told beside the decision, and what is told of it is looked at.
func TestScenarioShadow(t *testing.T) {
	text := `title: A
shows: B
policy: {version: 1, mode: shadow, default: passthrough, rules: [{id: never, effect: deny, action: purchase}]}
policies: [shop]
steps:
  - {does: C, at: "2026-11-23T09:00:00Z", action: {action_type: purchase}, want: ALLOW, rule: buy, shadow: ALLOW}
`
	s, err := policy.ParseScenario("scenarios/a.yaml", []byte(text), someTemplates)
	if err != nil {
		t.Fatal(err)
	}
	r := s.Run(s.Book)[0]
	if diff := cmp.Diff([]string{"in the shadow: want ALLOW, got DENY"}, r.Faults); diff != "" || r.Shadow.RuleID != "never" {
		t.Errorf("by %q (-want +got):\n%s", r.Shadow.RuleID, diff)
	}
	if s, err = policy.ParseScenario("scenarios/a.yaml", []byte(strings.Replace(text, "mode: shadow, ", "", 1)), someTemplates); err != nil {
		t.Fatal(err)
	}
	r = s.Run(s.Book)[0]
	if r.Shadow != nil || !strings.Contains(strings.Join(r.Faults, "\n"), "in the shadow: want ALLOW, got none") {
		t.Errorf("without a shadow: %v", r.Faults)
	}
}
