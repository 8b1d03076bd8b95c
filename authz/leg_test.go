package authz_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/proof"
)

// legCall is a call of server s that has come back with a text, or with none.
func legCall(t testing.TB, tool, arguments, leg string) (action.Request, *authz.Call) {
	t.Helper()
	args, err := action.Parse([]byte(arguments), action.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	req := action.Request{ActionType: "mcp.s." + tool, Payload: action.ObjectValue(action.Member{Key: "arguments", Value: args})}
	return req, &authz.Call{Server: "s", Tool: tool, Arguments: args, Info: action.ObjectValue(), Leg: leg}
}

// back authorizes a call that comes back, and returns the next text for it.
func (r *room) back(t *testing.T, tool, arguments, leg string) (authz.Answer, string) {
	t.Helper()
	req, call := legCall(t, tool, arguments, leg)
	ans, err := r.Authorize(t.Context(), r.who, req, call)
	if err != nil {
		t.Fatalf("Authorize(%s %s), a leg: %v", tool, arguments, err)
	}
	return ans, r.NextLeg(r.who, call, ans)
}

func TestLegsAreCountedAndSpentByTheRun(t *testing.T) {
	r := newRoom(t, rules)
	first, text := r.back(t, "write", `{"a":1}`, "")
	texts := []string{text}
	for n := 1; n <= authz.MaxLegs; n++ {
		if !strings.HasPrefix(text, fmt.Sprint(n, ".")) {
			t.Fatalf("leg %d: %q", n, text)
		}
		ans, next := r.back(t, "write", ` {"a": 1.0}`, text) // the same to whoever reads it
		if ans.Code != authz.ApprovalRequired || ans.Approval.ID != first.Approval.ID || ans.DecisionID == first.DecisionID {
			t.Fatalf("leg %d: %+v", n, ans)
		}
		if text = next; text != "" {
			texts = append(texts, text)
		}
	}
	if text != "" || len(texts) != authz.MaxLegs {
		t.Fatalf("after %d legs it is to come back again: %q", authz.MaxLegs, texts)
	}
	if _, err := r.Answer(t.Context(), "test:ann", first.Approval.ID, true, ""); err != nil {
		t.Fatal(err)
	}
	if ans, next := r.back(t, "write", `{"a":1}`, texts[0]); ans.Code != authz.Allowed || next != "" {
		t.Fatalf("approved: %+v, %q", ans, next)
	}
	for _, text := range texts {
		ans, next := r.back(t, "write", `{"a":1}`, text)
		if ans.Code != authz.AlreadyRun || ans.Approval != nil || next != "" {
			t.Errorf("after the run: %+v, %q", ans, next)
		}
	}
	if n := r.pending(t); n != 0 {
		t.Errorf("%d requests wait: the owner is asked again", n)
	}
	all := r.entries(t)
	if e := all[len(all)-1]; e.Event != "decision" || !strings.Contains(e.Reason, "has run already") || e.Decision == nil || *e.Decision != "DENY" {
		t.Errorf("logged: %+v", e)
	}
	if ans := r.call(t, "write", `{"a":1}`); ans.Code != authz.ApprovalRequired { // a call of its own
		t.Errorf("without it: %+v", ans)
	}
}

// What is not good counts as none: the call asks, and does not run by it.
func TestLegThatIsNotGood(t *testing.T) {
	other := func(name string) func(r *room, t *testing.T) authz.Caller {
		return func(r *room, t *testing.T) authz.Caller {
			agent, err := r.store.EnsureAgent(t.Context(), name, r.Owner())
			if err != nil {
				t.Fatal(err)
			}
			return authz.Caller{Agent: agent}
		}
	}
	same := func(r *room, _ *testing.T) authz.Caller { return r.who }
	for _, tt := range []struct {
		name            string
		who             func(r *room, t *testing.T) authz.Caller
		tool, arguments string
		later           time.Duration
		change          func(text string) string
	}{
		{"another agent's", other("cat"), "write", `{"a":1}`, 0, nil},
		{"of other arguments", same, "write", `{"a":2}`, 0, nil},
		{"of another tool", same, "write2", `{"a":1}`, 0, nil},
		{"too old", same, "write", `{"a":1}`, 10 * time.Minute, nil},
		{"another number", same, "write", `{"a":1}`, 0, func(s string) string { return "2" + s[1:] }},
		{"more time", same, "write", `{"a":1}`, 10 * time.Minute, func(s string) string {
			f := strings.Split(s, ".")
			f[1] = "9" + f[1]
			return strings.Join(f, ".")
		}},
		{"another request", same, "write", `{"a":1}`, 0, func(s string) string {
			f := strings.Split(s, ".")
			f[2] = "00000000-0000-4000-8000-000000000000"
			return strings.Join(f, ".")
		}},
		{"no signature", same, "write", `{"a":1}`, 0, func(s string) string { return s[:strings.LastIndexByte(s, '.')+1] }},
		{"another signature", same, "write", `{"a":1}`, 0, func(s string) string { return s[:len(s)-5] + "AAAAA" }},
		{"one field more", same, "write", `{"a":1}`, 0, func(s string) string { return s + ".x" }},
		{"nothing", same, "write", `{"a":1}`, 0, func(string) string { return "..." }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRoom(t, "version: 1\ndefault: require_approval\nrules: []\n")
			first, text := r.back(t, "write", `{"a":1}`, "")
			if _, err := r.Answer(t.Context(), "test:ann", first.Approval.ID, true, ""); err != nil {
				t.Fatal(err)
			}
			if ans, _ := r.back(t, "write", `{"a":1}`, text); ans.Code != authz.Allowed {
				t.Fatalf("with the good one: %+v", ans)
			}
			r.now = r.now.Add(tt.later)
			if tt.change != nil {
				text = tt.change(text)
			}
			who := tt.who(r, t)
			req, call := legCall(t, tt.tool, tt.arguments, text)
			ans, err := r.Authorize(t.Context(), who, req, call)
			if err != nil || ans.Code != authz.ApprovalRequired || ans.Approval.ID == first.Approval.ID || ans.Approval.AgentID != who.Agent.Name {
				t.Fatalf("got %+v, %v", ans, err)
			}
			if next := r.NextLeg(who, call, ans); !strings.HasPrefix(next, "1.") {
				t.Errorf("it is counted: %q", next)
			}
		})
	}
}

// What is no tool call has its method in the text: a tool of that name is another.
func TestLegIsBoundToItsMethod(t *testing.T) {
	r := newRoom(t, "version: 1\ndefault: require_approval\nrules: []\n")
	req, call := legCall(t, "resources/read", `{"uri":"x"}`, "")
	ans, err := r.Authorize(t.Context(), r.who, req, call)
	if err != nil {
		t.Fatal(err)
	}
	call.Leg = r.NextLeg(r.who, call, ans)
	if ans, err = r.Authorize(t.Context(), r.who, req, call); err != nil || !strings.HasPrefix(r.NextLeg(r.who, call, ans), "2.") {
		t.Fatalf("%+v, %v", ans, err)
	}
	call.Open = true
	if ans, err = r.Authorize(t.Context(), r.who, req, call); err != nil || strings.HasPrefix(r.NextLeg(r.who, call, ans), "2.") {
		t.Errorf("the text of a tool's call is good for the method of that name: %+v, %v", ans, err)
	}
}

// Another process of the installation, or the same after a restart, knows the text by
// the key, and what has run by the store. With another key it counts as none.
func TestLegAcrossProcesses(t *testing.T) {
	r := newRoom(t, rules)
	first, text := r.back(t, "write", `{"a":1}`, "")
	again := *r
	open := func(key *proof.Key) *room {
		var err error
		if again.Service, err = authz.New(authz.Config{Store: r.store, Owner: r.Owner(), Policies: r.keeper, Key: key, Now: func() time.Time { return r.now }}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { again.Service.Close() })
		return &again
	}
	if _, next := open(r.key).back(t, "write", `{"a":1}`, text); !strings.HasPrefix(next, "2.") {
		t.Errorf("another process does not know it: %q", next)
	}
	if _, err := r.Answer(t.Context(), "test:ann", first.Approval.ID, true, ""); err != nil {
		t.Fatal(err)
	}
	if ans := r.call(t, "write", `{"a":1}`); ans.Code != authz.Allowed {
		t.Fatalf("%+v", ans)
	}
	if ans, _ := open(r.key).back(t, "write", `{"a":1}`, text); ans.Code != authz.AlreadyRun {
		t.Errorf("another process runs it again, or asks: %+v", ans)
	}
	other, err := proof.NewKey(r.now)
	if err != nil {
		t.Fatal(err)
	}
	if ans, next := open(other).back(t, "write", `{"a":1}`, text); ans.Code != authz.ApprovalRequired || !strings.HasPrefix(next, "1.") {
		t.Errorf("with another key: %+v, %q", ans, next)
	}
}

// Of many that bring the same text at once, one runs.
func TestLegIsSpentByOneOfManyAtOnce(t *testing.T) {
	r := newRoom(t, rules)
	first, text := r.back(t, "write", `{"a":1}`, "")
	if _, err := r.Answer(t.Context(), "test:ann", first.Approval.ID, true, ""); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	codes := map[authz.Code]int{}
	var work sync.WaitGroup
	for range 20 {
		req, call := legCall(t, "write", `{"a":1}`, text)
		work.Go(func() {
			ans, err := r.Authorize(context.WithoutCancel(t.Context()), r.who, req, call)
			mu.Lock()
			defer mu.Unlock()
			if codes[ans.Code]++; err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	if codes[authz.Allowed] != 1 || codes[authz.AlreadyRun] != 19 || r.pending(t) != 0 {
		t.Errorf("%v, %d wait", codes, r.pending(t))
	}
}

// unreadable is a store whose approvals cannot be read by their id.
type unreadable struct{ authz.Store }

func (unreadable) Approval(context.Context, string) (approvals.Request, error) {
	return approvals.Request{}, fmt.Errorf("%s: disk full", filepath.Join("data", "openleash.db"))
}

func TestLegOfAnUnreadableStoreIsRefused(t *testing.T) {
	r := newRoom(t, rules)
	_, text := r.back(t, "write", `{"a":1}`, "")
	broken := newRoom(t, rules, func(c *authz.Config) { c.Key, c.Store = r.key, unreadable{c.Store} })
	ans, _ := broken.back(t, "write", `{"a":1}`, text)
	if ans.Code != authz.StoreUnavailable || broken.pending(t) != 0 {
		t.Errorf("got %+v", ans)
	}
}
