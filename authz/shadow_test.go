package authz_test

import (
	"testing"
	"time"

	"github.com/openleash/openleash-go/policy"
)

// What a policy in the shadow would have decided stands in the log beside what was
// decided, and changes nothing of it.
func TestShadowIsLogged(t *testing.T) {
	r := newRoom(t, rules)
	r.call(t, "read", `{}`)
	r.write(t, "q.yaml", "version: 1\nmode: shadow\ndefault: passthrough\nrules:\n- {id: small, effect: deny, action: mcp.s.read, final: true, when: {match: {path: $.payload.arguments.n, op: gt, value: 5}}}\n")
	for range 500 { // it is read by itself
		if len(r.keeper.Current().Policies()) == 2 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if ans := r.call(t, "read", `{"n":6}`); ans.Outcome != policy.Allow || ans.Proof == "" {
		t.Errorf("a policy in the shadow decided: %+v", ans)
	}
	r.call(t, "read", `{"n":5}`)
	r.call(t, "write", `{}`)
	var got [][4]string
	for _, e := range r.entries(t) {
		if e.Event == "decision" {
			got = append(got, [4]string{*e.Decision, e.ShadowDecision, e.ShadowPolicyID, e.ShadowRuleID})
		}
	}
	want := [][4]string{
		{"ALLOW", "", "", ""},
		{"ALLOW", "DENY", "q", "small"},
		{"ALLOW", "ALLOW", "p", "ok"},
		{"REQUIRE_APPROVAL", "REQUIRE_APPROVAL", "p", "ask"},
	}
	if len(got) != len(want) {
		t.Fatalf("%d decisions: %v", len(got), got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("decision %d: %v, want %v", i, got[i], want[i])
		}
	}
}
