package policy_test

import (
	"testing"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/policy"
)

func TestShadow(t *testing.T) {
	const shadow = "version: 1\nmode: shadow\ndefault: allow\nrules:\n- {id: no-y, effect: deny, action: y}\n"
	const enforced = "version: 1\ndefault: deny\nrules:\n- {id: y, effect: allow, action: y}\n"
	book := func(sources ...policy.Source) *policy.Set {
		b, err := policy.NewBook("p", sources, nil)
		if err != nil {
			t.Fatal(err)
		}
		return b.For("bot")
	}
	req := &action.Request{ActionType: "y"}

	// Before it in the order, and without a part in the decision.
	both := book(policy.Source{Name: "a.yaml", Text: shadow}, policy.Source{Name: "b.yaml", Text: enforced})
	if d := both.Decide(req, policy.Env{}); d.Outcome != policy.Allow || d.PolicyID != "b" {
		t.Errorf("decided: %+v", d)
	}
	if d, ok := both.Shadow(req, policy.Env{}); !ok || d.Outcome != policy.Deny || d.RuleID != "no-y" {
		t.Errorf("in the shadow: %+v, %v", d, ok)
	}
	if d := both.Decide(&action.Request{ActionType: "x"}, policy.Env{}); d.Outcome != policy.Deny || d.PolicyID != "b" {
		t.Errorf("a default in the shadow decides: %+v", d)
	}

	// Alone it is no allow, also of what is open.
	alone := book(policy.Source{Name: "a.yaml", Text: shadow})
	for _, env := range []policy.Env{{}, {Open: true}} {
		if d := alone.Decide(&action.Request{ActionType: "x"}, env); d.Outcome != policy.Deny {
			t.Errorf("alone: %+v", d)
		}
	}
	if _, ok := book(policy.Source{Name: "b.yaml", Text: enforced}).Shadow(req, policy.Env{}); ok {
		t.Error("there is a shadow without a policy in it")
	}
	if d, _ := both.Trace(req, policy.Env{}); d.PolicyID != "b" {
		t.Errorf("traced: %+v", d)
	}

	// To try it, it is enforced.
	one, err := policy.Alone("a.yaml", []byte(shadow))
	if err != nil {
		t.Fatal(err)
	}
	if d := one.For("bot").Decide(req, policy.Env{}); d.RuleID != "no-y" {
		t.Errorf("by itself: %+v", d)
	}
}
