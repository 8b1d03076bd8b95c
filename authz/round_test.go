package authz_test

import (
	"context"
	"errors"
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

// further authorizes a call that brings a round's token.
func (r *room) further(t *testing.T, token, tool, arguments string) authz.Answer {
	t.Helper()
	ans, err := r.tryFurther(t.Context(), token, tool, arguments)
	if err != nil {
		t.Fatalf("Authorize(%s %s), a round: %v", tool, arguments, err)
	}
	return ans
}

func (r *room) tryFurther(ctx context.Context, token, tool, arguments string) (authz.Answer, error) {
	args, err := action.Parse([]byte(arguments), action.Limits{})
	if err != nil {
		return authz.Answer{}, err
	}
	req := action.Request{ActionType: "mcp.s." + tool, Payload: action.ObjectValue(action.Member{Key: "arguments", Value: args})}
	return r.Authorize(ctx, r.who, req, &authz.Call{Server: "s", Tool: tool, Arguments: args, Info: action.ObjectValue(), Round: token})
}

// granted is a call that was approved and has run.
func (r *room) granted(t *testing.T, tool, arguments string) authz.Answer {
	t.Helper()
	asked := r.call(t, tool, arguments)
	if _, err := r.Answer(t.Context(), "test:ann", asked.Approval.ID, true, ""); err != nil {
		t.Fatal(err)
	}
	ans := r.call(t, tool, arguments)
	if ans.Code != authz.Allowed {
		t.Fatalf("the approved call: %+v", ans)
	}
	return ans
}

func (r *room) open(t *testing.T, ans authz.Answer) string {
	t.Helper()
	token, err := r.OpenRound(t.Context(), r.who, ans)
	if err != nil || token == "" {
		t.Fatalf("no round was opened: %q, %v", token, err)
	}
	return token
}

// swap changes the policy and waits until it is in force.
func (r *room) swap(t *testing.T, text string) {
	t.Helper()
	before := r.keeper.Current().Hash
	r.write(t, "p.yaml", text)
	for deadline := time.Now().Add(10 * time.Second); r.keeper.Current().Hash == before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the policy was not read again")
		}
	}
}

func (r *room) pending(t *testing.T) int {
	t.Helper()
	list, err := r.store.Approvals(t.Context(), r.Owner().ID, approvals.Pending, 0)
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestRoundsShareTheGrant(t *testing.T) {
	r := newRoom(t, rules)
	first := r.granted(t, "write", `{"a":1}`)
	ans, spent := first, []string{""}
	for n, reason := range []string{"this is round 2 of that call", "this is round 3 of that call"} {
		token := r.open(t, ans)
		r.now = r.now.Add(50 * time.Minute) // the grant's own hour passes meanwhile
		next := r.further(t, token, "write", `{"a":1}`)
		if next.Code != authz.Allowed || next.DecisionID == ans.DecisionID || next.ActionHash != first.ActionHash || next.ActionID != first.ActionID {
			t.Fatalf("round %d: %+v", n+2, next)
		}
		claims, err := proof.Verify(next.Proof, proof.Expect{Keys: []proof.PublicKey{r.key.Public()}, Now: r.now, AnyAudience: true, ActionHash: first.ActionHash})
		if err != nil || claims.Approval == nil || claims.Approval.ID != first.Approval.ID || claims.Approval.By != "test:ann" || claims.DecisionID != next.DecisionID {
			t.Fatalf("claims %+v, %v", claims, err)
		}
		all := r.entries(t)
		if e := all[len(all)-1]; e.ApprovalID != first.Approval.ID || e.Approver != "test:ann" || e.DecisionID != next.DecisionID || !strings.Contains(e.Reason, reason) {
			t.Errorf("round %d, logged: %+v", n+2, e)
		}
		ans, spent = next, append(spent, token)
	}
	if n := r.pending(t); n != 0 {
		t.Fatalf("%d requests wait", n)
	}
	for i, token := range spent { // the last answer was final: nothing is left
		if more := r.further(t, token, "write", `{"a":1}`); more.Code != authz.ApprovalRequired || more.Approval.ID == first.Approval.ID {
			t.Errorf("token %d, afterwards: %+v", i, more)
		}
	}
}

// What brings a token that is not good is a call of its own, and leaves a good
// one where it is.
func TestRoundIsForTheSameCall(t *testing.T) {
	r := newRoom(t, rules)
	first := r.granted(t, "write", `{"a":1}`)
	token := r.open(t, first)
	asks := func(what string, ans authz.Answer) {
		t.Helper()
		if ans.Code != authz.ApprovalRequired || ans.Approval.ID == first.Approval.ID || ans.Proof != "" {
			t.Errorf("%s: %+v", what, ans)
		}
	}
	asks("other arguments", r.further(t, token, "write", `{"a":2}`))
	asks("an unknown token", r.further(t, token[1:], "write", `{"a":1}`))
	asks("the token in other letters", r.further(t, strings.ToLower(token), "write", `{"a":1}`))
	bot := r.who
	other, err := r.store.EnsureAgent(t.Context(), "other", r.Owner())
	if err != nil {
		t.Fatal(err)
	}
	r.who = authz.Caller{Agent: other}
	asks("another agent", r.further(t, token, "write", `{"a":1}`))
	if _, err := r.OpenRound(t.Context(), r.who, first); !errors.Is(err, approvals.ErrNotFound) {
		t.Errorf("another agent opened a round: %v", err)
	}
	r.who = bot
	// The same call as it is mapped now means another action.
	args, err := action.Parse([]byte(`{"a":1}`), action.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	req := action.Request{ActionType: "mcp.s.write", Payload: action.ObjectValue(action.Member{Key: "arguments", Value: args}, action.Member{Key: "extra", Value: action.IntValue(1)})}
	mapped, err := r.Authorize(t.Context(), r.who, req, &authz.Call{Server: "s", Tool: "write", Arguments: args, Round: token})
	if err != nil {
		t.Fatal(err)
	}
	asks("another mapping", mapped)
	if ans := r.further(t, token, "write", `{"a":1}`); ans.Code != authz.Allowed || ans.Approval.ID != first.Approval.ID {
		t.Errorf("the round itself: %+v", ans)
	}
}

func TestRoundHasATimeLimit(t *testing.T) {
	r := newRoom(t, rules)
	token := r.open(t, r.granted(t, "write", `{}`))
	r.now = r.now.Add(time.Hour)
	if ans := r.further(t, token, "write", `{}`); ans.Code != authz.ApprovalRequired {
		t.Errorf("an hour later: %+v", ans)
	}
}

// A round is for the definition by which the call was approved: by another one the
// owner is asked again, also when they have accepted that.
func TestDefinitionChangedBetweenRounds(t *testing.T) {
	r := newRoom(t, rules)
	req := action.Request{ActionType: "mcp.s.write", Payload: action.ObjectValue()}
	decide := func(hash, token string) authz.Answer {
		info := action.ObjectValue(action.Member{Key: "definition_hash", Value: action.StringValue(hash)})
		ans, err := r.Authorize(t.Context(), r.who, req, &authz.Call{Server: "s", Tool: "write", Info: info, Round: token})
		if err != nil {
			t.Fatal(err)
		}
		return ans
	}
	for hash, want := range map[string]authz.Code{"sha256:1": authz.Allowed, "sha256:2": authz.ApprovalRequired} {
		asked := decide("sha256:1", "")
		if _, err := r.Answer(t.Context(), "test:ann", asked.Approval.ID, true, ""); err != nil {
			t.Fatal(err)
		}
		ran := decide("sha256:1", "")
		wantCode(t, ran, authz.Allowed)
		wantCode(t, decide(hash, r.open(t, ran)), want)
	}
}

// The policy is asked as it is at the moment.
func TestPolicyChangedBetweenRounds(t *testing.T) {
	about := func(rule string) string {
		return "version: 1\ndefault: deny\nrules:\n  - {id: now, action: mcp.s.write, " + rule + "}\n"
	}
	for name, tt := range map[string]struct {
		rule string
		code authz.Code
	}{
		"denied":         {"effect: deny", authz.PolicyDenied},
		"step-up":        {"effect: allow, obligations: [{type: HUMAN_APPROVAL}, {type: STEP_UP_AUTH}]", authz.ApprovalRequired},
		"deposit":        {"effect: allow, obligations: [{type: HUMAN_APPROVAL}, {type: DEPOSIT}]", authz.ApprovalRequired},
		"other approval": {"effect: allow, description: new, obligations: [{type: HUMAN_APPROVAL}]", authz.Allowed},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRoom(t, rules)
			token := r.open(t, r.granted(t, "write", `{}`))
			r.swap(t, about(tt.rule))
			ans := r.further(t, token, "write", `{}`)
			if ans.Code != tt.code || ans.RuleID != "now" || (ans.Proof != "") != (tt.code == authz.Allowed) {
				t.Errorf("%+v", ans)
			}
		})
	}
}

// A message that the policy has come to allow by itself has run all the same:
// its round is over, and nobody's approval is named.
func TestAllowedWithoutApprovalSpendsTheRound(t *testing.T) {
	r := newRoom(t, rules)
	token := r.open(t, r.granted(t, "write", `{}`))
	r.swap(t, "version: 1\ndefault: deny\nrules:\n  - {id: free, action: mcp.s.write, effect: allow}\n")
	ans := r.further(t, token, "write", `{}`)
	if ans.Code != authz.Allowed || ans.Approval != nil || ans.RuleID != "free" {
		t.Fatalf("%+v", ans)
	}
	if next, err := r.OpenRound(t.Context(), r.who, ans); next != "" || err != nil {
		t.Errorf("a call that needed no approval opened a round: %q, %v", next, err)
	}
	r.swap(t, rules)
	if ans := r.further(t, token, "write", `{}`); ans.Code != authz.ApprovalRequired {
		t.Errorf("the same token again: %+v", ans)
	}
}

func TestDenialSinceWins(t *testing.T) {
	r := newRoom(t, rules)
	token := r.open(t, r.granted(t, "write", `{}`))
	again := r.call(t, "write", `{}`) // a call of its own, meanwhile
	if ans := r.further(t, token, "write", `{}`); ans.Code != authz.Allowed {
		t.Fatalf("while another call waits: %+v", ans)
	} else {
		token = r.open(t, ans)
	}
	if _, err := r.Answer(t.Context(), "test:ann", again.Approval.ID, false, "enough"); err != nil {
		t.Fatal(err)
	}
	if ans := r.further(t, token, "write", `{}`); ans.Code != authz.ApprovalDenied || ans.Outcome != policy.Deny || !strings.Contains(ans.Reason, "enough") {
		t.Errorf("%+v", ans)
	}
}

func TestOnlyTheLatestOpensARound(t *testing.T) {
	r := newRoom(t, rules)
	first := r.granted(t, "write", `{}`)
	for name, ans := range map[string]authz.Answer{
		"allowed without":    r.call(t, "read", `{}`),
		"denied":             r.call(t, "drop", `{}`),
		"waits for approval": r.call(t, "write", `{"n":2}`),
	} {
		if token, err := r.OpenRound(t.Context(), r.who, ans); token != "" || err != nil {
			t.Errorf("%s: %q, %v", name, token, err)
		}
	}
	token := r.open(t, first)
	if _, err := r.OpenRound(t.Context(), r.who, first); !errors.Is(err, approvals.ErrSpent) {
		t.Errorf("twice: %v", err)
	}
	second := r.further(t, token, "write", `{}`)
	if _, err := r.OpenRound(t.Context(), r.who, first); !errors.Is(err, approvals.ErrSpent) {
		t.Errorf("the first, while the second runs: %v", err)
	}
	r.open(t, second)
}

func TestRoundIsSpentByOneOfManyAtOnce(t *testing.T) {
	r := newRoom(t, rules)
	first := r.granted(t, "write", `{}`)
	token := r.open(t, first)
	var mu sync.Mutex
	var wg sync.WaitGroup
	codes := map[authz.Code]int{}
	for range 20 {
		wg.Go(func() {
			ans, err := r.tryFurther(t.Context(), token, "write", `{}`)
			mu.Lock()
			defer mu.Unlock()
			if codes[ans.Code]++; err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if diff := cmp.Diff(map[authz.Code]int{authz.Allowed: 1, authz.ApprovalRequired: 19}, codes); diff != "" {
		t.Error(diff)
	}
	if n := r.pending(t); n != 1 {
		t.Errorf("the 19 opened %d requests, want 1", n)
	}
}

// No round without its commit, and none is taken back by a doubt.
func TestRoundIsOnDiskOrThereIsNone(t *testing.T) {
	disk := errors.New("disk full")
	for _, tt := range []struct {
		name          string
		before, after error
	}{{"failed", disk, nil}, {"failed but persisted", nil, disk}} {
		t.Run(tt.name, func(t *testing.T) {
			broken := false
			r := newRoom(t, rules, func(c *authz.Config) {
				c.Store = &faulty{c.Store, func(authz.Batch) (error, error) {
					if broken {
						return tt.before, tt.after
					}
					return nil, nil
				}}
			})
			first := r.granted(t, "write", `{}`)
			broken = true
			if token, err := r.OpenRound(t.Context(), r.who, first); token != "" || !errors.Is(err, disk) {
				t.Fatalf("opening: %q, %v", token, err)
			}
			broken = false
			first = r.granted(t, "write", `{"n":2}`)
			token := r.open(t, first)
			broken = true
			if ans, err := r.tryFurther(t.Context(), token, "write", `{"n":2}`); ans.Code != authz.StoreUnavailable || ans.Proof != "" || !errors.Is(err, disk) {
				t.Fatalf("spending: %+v, %v", ans, err)
			}
			broken = false
			ans := r.further(t, token, "write", `{"n":2}`)
			if want := map[bool]authz.Code{true: authz.Allowed, false: authz.ApprovalRequired}[tt.before != nil]; ans.Code != want {
				t.Errorf("afterwards: %+v", ans)
			}
		})
	}
}

// blind cannot look rounds up.
type blind struct{ authz.Store }

func (blind) RoundApproval(context.Context, [32]byte) (approvals.Request, error) {
	return approvals.Request{}, errors.New("cannot read")
}

func TestUnreadableRoundRefuses(t *testing.T) {
	r := newRoom(t, rules, func(c *authz.Config) { c.Store = blind{c.Store} })
	ans := r.further(t, "X", "read", `{}`)
	if ans.Code != authz.StoreUnavailable || ans.Proof != "" || !strings.Contains(ans.Reason, "cannot read") {
		t.Errorf("%+v", ans)
	}
}
