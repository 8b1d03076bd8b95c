package proxy

import (
	"testing"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/policy"
)

// TestUnclearIsNeverAllowed holds mapping and policy together: what the mapping
// could not derive is met by no rule that allows, in whichever words, and by
// every rule that denies.
func TestUnclearIsNeverAllowed(t *testing.T) {
	m := NewMapping(readRules(t, purchase), nil)
	allow := map[string]string{
		"allowed domains": `constraints: {allowed_domains: [good.example]}`,
		"blocked domains": `constraints: {blocked_domains: [evil.example]}`,
		"nin":             `when: {match: {path: $.payload.domain, op: nin, value: [evil.example]}}`,
		"neq":             `when: {match: {path: $.payload.domain, op: neq, value: evil.example}}`,
		"regex":           `when: {match: {path: $.payload.domain, op: regex, value: example}}`,
		"not regex":       `when: {not: {match: {path: $.payload.domain, op: regex, value: evil}}}`,
		"amount":          `constraints: {amount_max: 1000}`,
		"no large amount": `when: {not: {match: {path: $.payload.amount_minor, op: gt, value: 1000}}}`,
	}
	calls := map[string][]string{
		"send": {
			`{"to":"Bob <x@evil.example>"}`, `{"to":"x@evil.example,y@good.example"}`, `{"to":"good.example"}`,
			`{"to":"\"x@evil.example\"@good.example"}`, `{"to":["y@good.example","x@evil.example (Bob)"]}`, `{"to":"x@evil.example."}`,
		},
		"tip": {`{"euro":"9,99"}`, `{"euro":"9.990"}`, `{"euro":9.9999}`, `{"euro":"€9"}`, `{"euro":null}`, `{"euro":[9]}`},
	}
	amounts := map[string]bool{"amount": true, "no large amount": true}
	for name, words := range allow {
		p, err := policy.Parse("p", "p.yaml", []byte("version: 1\ndefault: deny\nrules: [{id: r, effect: allow, action: '*', "+words+"}]"))
		if err != nil {
			t.Fatal(err)
		}
		set := policy.Compile([]policy.Binding{{Policy: p}})
		tool := "send"
		if amounts[name] {
			tool = "tip"
		}
		for _, arguments := range calls[tool] {
			mapped, err := m.Map("any", tool, parseArguments(t, arguments))
			if err != nil {
				t.Fatal(err)
			}
			req := &action.Request{ActionType: mapped.ActionType, Payload: mapped.Payload, RelyingParty: mapped.RelyingParty}
			if d := set.Decide(req, policy.Env{}); d.Outcome != policy.Deny {
				t.Errorf("%s: %s %s: got %v", name, tool, arguments, d.Outcome)
			}
		}
	}
}
