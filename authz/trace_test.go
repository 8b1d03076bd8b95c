package authz_test

import (
	"testing"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/authz"
)

// The trace that a call names is in its decision and in what came of it, also when that
// is unknown.
func TestTraceIsInDecisionAndOutcome(t *testing.T) {
	r := newRoom(t, rules)
	call := &authz.Call{Server: "s", Tool: "read", Info: action.ObjectValue(), TraceID: "4bf92f3577b34da6a3ce929d0e0e4736"}
	ans, err := r.Authorize(t.Context(), r.who, action.Request{ActionType: "mcp.s.read", Payload: action.ObjectValue()}, call)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Lost(t.Context(), r.last(t)); err != nil {
		t.Fatal(err)
	}
	r.Finish(r.who, call, ans, authz.Outcome{Status: "ok"})
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	all := r.entries(t)
	if len(all) != 3 {
		t.Fatalf("%d entries", len(all))
	}
	for _, e := range all {
		if e.TraceID != call.TraceID {
			t.Errorf("%s %s: trace %q", e.Event, e.Outcome, e.TraceID)
		}
	}
}
