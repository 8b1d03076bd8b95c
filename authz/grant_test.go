package authz_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/policy"
	"github.com/openleash/openleash-go/proof"
)

// gives lets a call ask, and gives a standing grant on it.
func (r *room) gives(t *testing.T, tool, arguments string, terms approvals.Terms) (authz.Answer, approvals.Grant) {
	t.Helper()
	asked := r.call(t, tool, arguments)
	wantCode(t, asked, authz.ApprovalRequired)
	g, err := r.Give(t.Context(), "test:ann", asked.Approval.ID, asked.ActionHash, terms)
	if err != nil {
		t.Fatal(err)
	}
	return asked, g
}

func atMost(t *testing.T, n int64) approvals.Terms {
	t.Helper()
	return approvals.Terms{Bounds: []approvals.Bound{{Path: "$.payload.arguments.n", Op: approvals.AtMost, Values: []action.Value{action.IntValue(n)}}}}
}

// ruleChange puts another policy in force.
func (r *room) ruleChange(t *testing.T, text string) {
	t.Helper()
	before := r.keeper.Current().Hash
	r.write(t, "p.yaml", text)
	for deadline := time.Now().Add(10 * time.Second); r.keeper.Current().Hash == before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the policy was not read again")
		}
	}
}

func (r *room) used(t *testing.T, g approvals.Grant) int {
	t.Helper()
	g, err := r.store.Grant(t.Context(), g.ID)
	if err != nil {
		t.Fatal(err)
	}
	return g.Used
}

// A use is an approved call in all: proof, log, request. So many run, and the next asks.
func TestStandingGrantCounts(t *testing.T) {
	r := newRoom(t, rules)
	asked, g := r.gives(t, "write", `{"a":1}`, approvals.Terms{Uses: 3, For: time.Hour})
	first := r.call(t, "write", `{"a":1}`)
	if first.Code != authz.Allowed || first.Approval.ID != asked.Approval.ID || first.Approval.GrantID != "" {
		t.Fatalf("the call that waited: %+v", first)
	}
	second := r.call(t, "write", `{"a":1}`)
	if second.Code != authz.Allowed || second.Approval.ID == asked.Approval.ID || second.Approval.GrantID != g.ID || second.ActionHash == first.ActionHash ||
		second.Reason != "approved by test:ann, by the standing grant "+g.ID {
		t.Fatalf("the second: %+v", second)
	}
	claims, err := proof.Verify(second.Proof, proof.Expect{Keys: []proof.PublicKey{r.key.Public()}, Now: r.now, AnyAudience: true})
	if err != nil || claims.Approval == nil || claims.Approval.ID != second.Approval.ID || claims.Approval.By != "test:ann" {
		t.Errorf("claims %+v, %v", claims.Approval, err)
	}
	stored, err := r.store.Approval(t.Context(), second.Approval.ID)
	if err != nil || stored.Status != approvals.Redeemed || stored.RedeemedBy != second.DecisionID || stored.GrantID != g.ID || stored.RuleID != "ask" || stored.Reason == "" {
		t.Errorf("its request: %+v, %v", stored, err)
	}
	all := r.entries(t)
	e := all[len(all)-1]
	if e.Event != "decision" || *e.Decision != "ALLOW" || e.GrantID != g.ID || e.ApprovalID != second.Approval.ID || e.Approver != "test:ann" || e.MatchedRuleID != "ask" {
		t.Errorf("its entry: %+v", e)
	}
	wantCode(t, r.call(t, "write", `{"a":2}`), authz.ApprovalRequired)
	wantCode(t, r.call(t, "write", `{"a":1,"b":2}`), authz.ApprovalRequired)
	wantCode(t, r.call(t, "write", `{"a":1}`), authz.Allowed)
	fourth := r.call(t, "write", `{"a":1}`)
	wantCode(t, fourth, authz.ApprovalRequired)
	if r.used(t, g) != 3 {
		t.Errorf("used %d times, want 3", r.used(t, g))
	}
}

func TestStandingGrantHasAnEnd(t *testing.T) {
	r := newRoom(t, rules)
	_, g := r.gives(t, "write", `{}`, approvals.Terms{For: 8 * time.Hour})
	for range 20 {
		wantCode(t, r.call(t, "write", `{}`), authz.Allowed)
	}
	if g.Uses != 0 || r.used(t, g) != 20 {
		t.Errorf("%d of %d", r.used(t, g), g.Uses)
	}
	r.now = r.now.Add(8*time.Hour - time.Millisecond)
	wantCode(t, r.call(t, "write", `{}`), authz.Allowed)
	r.now = r.now.Add(time.Millisecond)
	wantCode(t, r.call(t, "write", `{}`), authz.ApprovalRequired)
}

func TestStandingGrantWithinBounds(t *testing.T) {
	r := newRoom(t, rules)
	r.gives(t, "write", `{"n":50,"to":"ann"}`, atMost(t, 100))
	for arguments, want := range map[string]authz.Code{
		`{"n":100,"to":"ann"}`:                     authz.Allowed,
		`{"to":"ann","n":0}`:                       authz.Allowed,
		`{"n":100.00000000000000001,"to":"ann"}`:   authz.ApprovalRequired,
		`{"n":-1,"to":"ann"}`:                      authz.ApprovalRequired,
		`{"n":"60","to":"ann"}`:                    authz.ApprovalRequired,
		`{"n":60,"to":"eve"}`:                      authz.ApprovalRequired,
		`{"n":60,"to":"ann","bcc":"eve"}`:          authz.ApprovalRequired,
		`{"n":60}`:                                 authz.ApprovalRequired,
		`{"n":60,"to":["ann"]}`:                    authz.ApprovalRequired,
		`{"n":60,"to":"ann","arguments":{"n":60}}`: authz.ApprovalRequired,
	} {
		if ans := r.call(t, "write", arguments); ans.Code != want {
			t.Errorf("%s: want %s, got %s", arguments, want, ans.Code)
		}
	}
}

// What a grant does not meet.
func TestNothingPassesADenyByAGrant(t *testing.T) {
	ask := "  - {id: ask, effect: allow, action: mcp.s.write, obligations: [{type: HUMAN_APPROVAL}]}\n"
	for name, tt := range map[string]struct {
		policy string
		code   authz.Code
	}{
		"deny":       {"version: 1\ndefault: deny\nrules: []\n", authz.PolicyDenied},
		"final deny": {"version: 1\ndefault: allow\nrules:\n" + ask + "  - {id: stop, effect: deny, final: true, action: '*'}\n", authz.PolicyDenied},
		"step-up":    {"version: 1\ndefault: deny\nrules: [{id: ask, effect: allow, action: '*', obligations: [{type: STEP_UP_AUTH}]}]\n", authz.ApprovalRequired},
		"both":       {"version: 1\ndefault: deny\nrules: [{id: ask, effect: allow, action: '*', obligations: [{type: HUMAN_APPROVAL}, {type: STEP_UP_AUTH}]}]\n", authz.ApprovalRequired},
		"deposit":    {"version: 1\ndefault: deny\nrules: [{id: ask, effect: allow, action: '*', obligations: [{type: HUMAN_APPROVAL}, {type: DEPOSIT}]}]\n", authz.ApprovalRequired},
		"full limit": {"version: 1\ndefault: deny\nrules:\n" + ask + "limits: [{id: none, count: true, max: 0, window: 1h}]\n", authz.LimitExceeded},
		"allowed":    {"version: 1\ndefault: allow\nrules: []\n", authz.Allowed},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRoom(t, rules)
			_, g := r.gives(t, "write", `{}`, approvals.Terms{Uses: 5})
			wantCode(t, r.call(t, "write", `{}`), authz.Allowed)
			r.ruleChange(t, tt.policy)
			wantCode(t, r.call(t, "write", `{}`), tt.code)
			if r.used(t, g) != 1 {
				t.Errorf("a use was spent")
			}
		})
	}
}

// What is over a limit is asked for, whatever was given; within it the limit counts.
func TestStandingGrantAndLimits(t *testing.T) {
	r := newRoom(t, withLimits("{id: daily, sum: $.payload.arguments.n, max: 100, window: 24h, over: require_approval}"))
	_, g := r.gives(t, "ask", `{"n":50}`, atMost(t, 1000))
	wantCode(t, r.call(t, "ask", `{"n":50}`), authz.Allowed)
	wantCode(t, r.call(t, "ask", `{"n":40}`), authz.Allowed)
	wantCode(t, r.call(t, "ask", `{"n":5}`), authz.Allowed)
	over := r.call(t, "ask", `{"n":11}`)
	wantCode(t, over, authz.ApprovalRequired)
	if len(over.Approval.Overshoots) != 1 || r.used(t, g) != 3 {
		t.Errorf("over %v, %d uses", over.Approval.Overshoots, r.used(t, g))
	}
	wantCode(t, r.call(t, "ask", `{"n":1.5}`), authz.ApprovalRequired) // nobody can count it

	// An approval of what is over a limit is no grant for the next that is.
	if _, err := r.Give(t.Context(), "test:ann", over.Approval.ID, over.ActionHash, approvals.Terms{Uses: 5}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, r.call(t, "ask", `{"n":11}`), authz.Allowed)
	wantCode(t, r.call(t, "ask", `{"n":11}`), authz.ApprovalRequired)
}

// A grant is for what was shown: tool, definition, mapping, agent.
func TestStandingGrantIsForWhatWasShown(t *testing.T) {
	r := newRoom(t, strings.Replace(rules, "rules:", "rules:\n  - {id: ask2, effect: allow, action: pay, obligations: [{type: HUMAN_APPROVAL}]}", 1))
	args := action.ObjectValue(action.Member{Key: "n", Value: action.IntValue(5)})
	info := func(hash string) action.Value {
		return action.ObjectValue(action.Member{Key: "definition_hash", Value: action.StringValue(hash)})
	}
	req := action.Request{ActionType: "pay", RelyingParty: action.RelyingParty{Domain: "a.example"},
		Payload: action.ObjectValue(action.Member{Key: "amount_minor", Value: action.IntValue(500)}, action.Member{Key: "arguments", Value: args})}
	call := authz.Call{Server: "s", Tool: "pay", Arguments: args, Info: info("sha256:1")}
	asked, err := r.Authorize(t.Context(), r.who, req, &call)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Give(t.Context(), "test:ann", asked.Approval.ID, asked.ActionHash, approvals.Terms{}); err != nil {
		t.Fatal(err)
	}
	try := func(change func(*action.Request, *authz.Call, *authz.Caller)) authz.Answer {
		q, c, who := req, call, r.who
		change(&q, &c, &who)
		ans, err := r.Authorize(t.Context(), who, q, &c)
		if err != nil {
			t.Fatal(err)
		}
		return ans
	}
	same := func(*action.Request, *authz.Call, *authz.Caller) {}
	wantCode(t, try(same), authz.Allowed) // the one that waited
	wantCode(t, try(same), authz.Allowed)
	other, err := r.store.EnsureAgent(t.Context(), "other", r.Owner())
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*action.Request, *authz.Call, *authz.Caller){
		"definition": func(_ *action.Request, c *authz.Call, _ *authz.Caller) { c.Info = info("sha256:2") },
		"mapped": func(q *action.Request, _ *authz.Call, _ *authz.Caller) {
			q.Payload = action.ObjectValue(action.Member{Key: "amount_minor", Value: action.IntValue(501)}, action.Member{Key: "arguments", Value: args})
		},
		"party": func(q *action.Request, _ *authz.Call, _ *authz.Caller) { q.RelyingParty.Domain = "b.example" },
		"type":  func(q *action.Request, _ *authz.Call, _ *authz.Caller) { q.ActionType = "mcp.s.write" },
		"agent": func(_ *action.Request, _ *authz.Call, who *authz.Caller) { who.Agent = other },
		"tool":  func(_ *action.Request, c *authz.Call, _ *authz.Caller) { c.Tool = "pay2" },
	} {
		r.now = r.now.Add(25 * time.Hour / 100) // the requests of the others wait
		if ans := try(change); ans.Code != authz.ApprovalRequired {
			t.Errorf("another %s: got %s", name, ans.Code)
		}
	}
}

// A no to the same call comes before a grant, as long as it sticks.
func TestDenialComesBeforeAGrant(t *testing.T) {
	r := newRoom(t, rules)
	no := r.call(t, "write", `{"n":60}`)
	if _, err := r.Answer(t.Context(), "test:ann", no.Approval.ID, false, "not sixty"); err != nil {
		t.Fatal(err)
	}
	_, g := r.gives(t, "write", `{"n":50}`, atMost(t, 100))
	wantCode(t, r.call(t, "write", `{"n":60}`), authz.ApprovalDenied)
	r.now = r.now.Add(16 * time.Minute)
	wantCode(t, r.call(t, "write", `{"n":60}`), authz.Allowed)
	if r.used(t, g) != 2 {
		t.Errorf("%d uses", r.used(t, g))
	}
}

// A round of a call that ran by a grant runs by the same use.
func TestRoundOfAStandingGrant(t *testing.T) {
	r := newRoom(t, rules)
	_, g := r.gives(t, "write", `{}`, approvals.Terms{Uses: 3})
	wantCode(t, r.call(t, "write", `{}`), authz.Allowed)
	ran := r.call(t, "write", `{}`)
	token, err := r.OpenRound(t.Context(), r.who, ran)
	if err != nil || token == "" {
		t.Fatal(token, err)
	}
	args := action.ObjectValue()
	req := action.Request{ActionType: "mcp.s.write", Payload: action.ObjectValue(action.Member{Key: "arguments", Value: args})}
	next, err := r.Authorize(t.Context(), r.who, req, &authz.Call{Server: "s", Tool: "write", Arguments: args, Info: action.ObjectValue(), Round: token})
	if err != nil || next.Code != authz.Allowed || next.ActionHash != ran.ActionHash || r.used(t, g) != 2 {
		t.Errorf("%+v, %v, %d uses", next, err, r.used(t, g))
	}
}

func TestWithdrawGrant(t *testing.T) {
	r := newRoom(t, rules)
	_, g := r.gives(t, "write", `{}`, approvals.Terms{Uses: 9})
	wantCode(t, r.call(t, "write", `{}`), authz.Allowed)
	wantCode(t, r.call(t, "write", `{}`), authz.Allowed)
	g, err := r.WithdrawGrant(t.Context(), "test:bob", g.ID, "enough")
	if err != nil || g.WithdrawnBy != "test:bob" || g.Live(r.now) != approvals.ErrWithdrawn {
		t.Fatalf("%+v, %v", g, err)
	}
	wantCode(t, r.call(t, "write", `{}`), authz.ApprovalRequired)
	if _, err := r.WithdrawGrant(t.Context(), "test:bob", g.ID, ""); !errors.Is(err, approvals.ErrWithdrawn) {
		t.Errorf("again: %v", err)
	}
	if _, err := r.WithdrawGrant(t.Context(), "test:bob", "none", ""); !errors.Is(err, approvals.ErrNotFound) {
		t.Errorf("no grant: %v", err)
	}
	var got []string
	for _, e := range r.entries(t) {
		if e.GrantID != "" {
			got = append(got, fmt.Sprint(e.Event, " ", e.ActorID, " ", e.Reason, " ", e.Detail))
		}
	}
	detail := "agent bot, 9 times, until 2026-11-23T12:00:00Z: exactly this call"
	want := []string{"approval.approved test:ann  ", "grant.given test:ann  " + detail,
		"decision bot approved by test:ann, by the standing grant " + g.ID + " ", "grant.withdrawn test:bob enough " + detail}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the log (-want +got):\n%s", diff)
	}
}

func TestWithdrawApproval(t *testing.T) {
	for name, standing := range map[string]bool{"once": false, "with a grant": true} {
		t.Run(name, func(t *testing.T) {
			r := newRoom(t, rules)
			asked := r.call(t, "write", `{}`)
			var err error
			if standing {
				_, err = r.Give(t.Context(), "test:ann", asked.Approval.ID, asked.ActionHash, approvals.Terms{})
			} else {
				_, err = r.Answer(t.Context(), "test:ann", asked.Approval.ID, true, "")
			}
			if err != nil {
				t.Fatal(err)
			}
			req, err := r.WithdrawApproval(t.Context(), "test:bob", asked.Approval.ID, "changed my mind")
			if err != nil || req.Status != approvals.Denied || req.AnsweredBy != "test:bob" {
				t.Fatalf("%+v, %v", req, err)
			}
			ans := r.call(t, "write", `{}`)
			if ans.Code != authz.ApprovalDenied || ans.Reason != "the owner denied this call: the approval was withdrawn: changed my mind" {
				t.Errorf("%s %q", ans.Code, ans.Reason)
			}
			all := r.entries(t)
			if e := all[len(all)-2]; !strings.HasSuffix(e.Event, ".withdrawn") || e.Reason != "changed my mind" || e.ActorID != "test:bob" || e.ApprovalID != req.ID {
				t.Errorf("%+v", e)
			}
			r.now = r.now.Add(16 * time.Minute)
			wantCode(t, r.call(t, "write", `{}`), authz.ApprovalRequired)
			if _, err := r.WithdrawApproval(t.Context(), "test:bob", req.ID, ""); !errors.Is(err, approvals.ErrAnswered) {
				t.Errorf("again: %v", err)
			}
		})
	}
}

// Many at once: as many run as there are uses, and the others ask.
func TestStandingGrantIsSpentExactly(t *testing.T) {
	const uses, calls = 7, 24
	r := newRoom(t, rules)
	_, g := r.gives(t, "write", `{"n":0}`, approvals.Terms{Uses: uses, Bounds: atMost(t, calls).Bounds})
	wantCode(t, r.call(t, "write", `{"n":0}`), authz.Allowed)
	var mu sync.Mutex
	var wg sync.WaitGroup
	codes := map[authz.Code]int{}
	for n := range calls {
		wg.Go(func() {
			ans, err := r.try(t.Context(), "write", fmt.Sprintf(`{"n":%d}`, n+1))
			mu.Lock()
			defer mu.Unlock()
			if codes[ans.Code]++; err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if diff := cmp.Diff(map[authz.Code]int{authz.Allowed: uses - 1, authz.ApprovalRequired: calls - uses + 1}, codes); diff != "" {
		t.Error(diff)
	}
	if r.used(t, g) != uses {
		t.Errorf("%d uses, want %d", r.used(t, g), uses)
	}
}

// A grant that the store cannot give is a refusal, not a call that runs unasked.
func TestUnreadableGrantsRefuse(t *testing.T) {
	var s *noGrants
	r := newRoom(t, rules, func(c *authz.Config) { s = &noGrants{Store: c.Store}; c.Store = s })
	ans := r.call(t, "write", `{}`)
	if ans.Outcome != policy.Deny || ans.Code != authz.StoreUnavailable || !strings.Contains(ans.Reason, "grants") {
		t.Errorf("%+v", ans)
	}
}

// What the log masks of a call it masks of the bounds on it.
func TestNoSecretInTheLogOfAGrant(t *testing.T) {
	r := newRoom(t, rules)
	r.gives(t, "write", `{"password":"hunter2","to":"ann"}`, approvals.Terms{Bounds: []approvals.Bound{
		{Path: "$.payload.arguments.password", Op: approvals.OneOf, Values: []action.Value{action.StringValue("hunter2"), action.StringValue("hunter3")}}}})
	for _, e := range r.entries(t) {
		if strings.Contains(e.Detail, "hunter") || e.Event == "grant.given" && !strings.Contains(e.Detail, `password one_of ["[masked]"]`) {
			t.Errorf("%s: %s", e.Event, e.Detail)
		}
	}
}

// noGrants is a store whose grants cannot be read.
type noGrants struct{ authz.Store }

func (*noGrants) LiveGrants(context.Context, string, string, time.Time) ([]approvals.Grant, error) {
	return nil, errors.New("broken")
}
