package authz_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/policy"
	"github.com/openleash/openleash-go/proof"
	"github.com/openleash/openleash-go/store/sqlite"
)

// room is a service on a real store, with a policy folder and a clock.
type room struct {
	*authz.Service
	store    *sqlite.Store
	policies string
	key      *proof.Key
	keeper   *policy.Keeper
	who      authz.Caller
	now      time.Time
}

func newRoom(t testing.TB, policyText string, adjust ...func(*authz.Config)) *room {
	t.Helper()
	dir := t.TempDir()
	r := &room{policies: filepath.Join(dir, "policies"), now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	r.write(t, "p.yaml", policyText)
	var err error
	if r.store, err = sqlite.Open(t.Context(), filepath.Join(dir, "data")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.store.Close() })
	owner, err := r.store.EnsureOwner(t.Context(), "ann")
	if err != nil {
		t.Fatal(err)
	}
	agent, err := r.store.EnsureAgent(t.Context(), "bot", owner)
	if err != nil {
		t.Fatal(err)
	}
	r.who = authz.Caller{Agent: agent}
	if r.key, err = proof.NewKey(r.now); err != nil {
		t.Fatal(err)
	}
	if r.keeper, err = policy.Open(t.Context(), r.policies, nil, r.store, func(policy.Event) {}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.keeper.Close() })
	c := authz.Config{Store: r.store, Owner: owner, Policies: r.keeper, Key: r.key, Now: func() time.Time { return r.now }}
	for _, f := range adjust {
		f(&c)
	}
	if r.Service, err = authz.New(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Service.Close() })
	return r
}

func (r *room) write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.MkdirAll(r.policies, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.policies, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// call authorizes a tool call with these arguments.
func (r *room) call(t *testing.T, tool, arguments string) authz.Answer {
	t.Helper()
	ans, err := r.try(t.Context(), tool, arguments)
	if err != nil {
		t.Fatalf("Authorize(%s %s): %v", tool, arguments, err)
	}
	return ans
}

func (r *room) try(ctx context.Context, tool, arguments string) (authz.Answer, error) {
	args, err := action.Parse([]byte(arguments), action.Limits{})
	if err != nil {
		return authz.Answer{}, err
	}
	req := action.Request{ActionType: "mcp.s." + tool, Payload: action.ObjectValue(action.Member{Key: "arguments", Value: args})}
	return r.Authorize(ctx, r.who, req, &authz.Call{Server: "s", Tool: tool, Arguments: args, Info: action.ObjectValue()})
}

// entries are the log's entries, committed so far, in order.
func (r *room) entries(t *testing.T) []audit.Entry {
	t.Helper()
	_, raw, err := r.store.Unsequenced(t.Context(), 10_000)
	if err != nil {
		t.Fatal(err)
	}
	var all []audit.Entry
	for _, b := range raw {
		var e audit.Entry
		if err := json.Unmarshal(b, &e); err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

const rules = `version: 1
default: deny
rules:
  - {id: ok, effect: allow, action: mcp.s.read}
  - {id: ask, effect: allow, action: mcp.s.write, obligations: [{type: HUMAN_APPROVAL}]}
  - {id: step, effect: allow, action: mcp.s.wire, obligations: [{type: STEP_UP_AUTH}]}
  - {id: both, effect: allow, action: mcp.s.sell, obligations: [{type: HUMAN_APPROVAL}, {type: STEP_UP_AUTH}]}
  - {id: all, effect: allow, action: mcp.s.lend, obligations: [{type: DEPOSIT}, {type: HUMAN_APPROVAL}]}
  - {id: deposit, effect: allow, action: mcp.s.rent, obligations: [{type: DEPOSIT}]}
  - {id: quiet, effect: allow, action: mcp.s.ping, proof: {required: false}}
  - {id: never, effect: deny, action: mcp.s.drop, description: nobody drops}
`

func TestEachOutcomeIsAnsweredAndOnDisk(t *testing.T) {
	r := newRoom(t, rules)
	for _, tt := range []struct {
		tool    string
		outcome policy.Outcome
		code    authz.Code
		rule    string
		proof   bool
	}{
		{"read", policy.Allow, authz.Allowed, "ok", true},
		{"ping", policy.Allow, authz.Allowed, "quiet", false},
		{"write", policy.RequireApproval, authz.ApprovalRequired, "ask", false},
		{"wire", policy.RequireStepUp, authz.ApprovalRequired, "step", false},
		{"sell", policy.RequireStepUp, authz.ApprovalRequired, "both", false}, // not waved through by an approval
		{"lend", policy.RequireDeposit, authz.ApprovalRequired, "all", false},
		{"rent", policy.RequireDeposit, authz.ApprovalRequired, "deposit", false},
		{"drop", policy.Deny, authz.PolicyDenied, "never", false},
		{"other", policy.Deny, authz.PolicyDenied, "", false},
	} {
		ans := r.call(t, tt.tool, `{"a":1}`)
		if ans.Outcome != tt.outcome || ans.Code != tt.code || ans.RuleID != tt.rule || ans.PolicyID != "p" || (ans.Proof != "") != tt.proof {
			t.Errorf("%s: got %s %s rule %q policy %q proof %t", tt.tool, ans.Outcome, ans.Code, ans.RuleID, ans.PolicyID, ans.Proof != "")
		}
		all := r.entries(t)
		e := all[len(all)-1]
		if e.Event != "decision" || e.DecisionID != ans.DecisionID || *e.Decision != tt.outcome.String() || e.Code != string(tt.code) ||
			(e.ProofKID != nil) != tt.proof || e.ActionHash != ans.ActionHash.String() || e.Server != "s" || e.Tool != tt.tool || e.CallHash == "" {
			t.Errorf("%s: logged %+v", tt.tool, e)
		}
	}
}

func TestProofSaysWhatWasDecided(t *testing.T) {
	r := newRoom(t, rules)
	ans := r.call(t, "read", `{"n":9007199254740993}`)
	args, err := action.Parse([]byte(`{"n":9007199254740993}`), action.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	claims, err := proof.Verify(ans.Proof, proof.Expect{
		Keys: []proof.PublicKey{r.key.Public()}, Now: r.now, Audience: "mcp:s", AgentID: "bot",
		ActionHash: ans.ActionHash, CallHash: action.CallHash("read", args),
	})
	if err != nil {
		t.Fatal(err)
	}
	if claims.DecisionID != ans.DecisionID || claims.PolicyID != "p" || *claims.MatchedRuleID != "ok" || claims.Server != "s" ||
		claims.Tool != "read" || claims.Approval != nil || !claims.Expires.Equal(ans.ProofExpiry) || claims.Expires.Sub(claims.IssuedAt) != 300*time.Second {
		t.Errorf("claims: %+v", claims)
	}
}

func TestApprovalIsForOneCallAndSpentOnce(t *testing.T) {
	r := newRoom(t, rules)
	asked := r.call(t, "write", `{"a":1}`)
	again := r.call(t, "write", `{"a":1}`)
	if again.Approval.ID != asked.Approval.ID || again.ActionHash != asked.ActionHash || again.DecisionID == asked.DecisionID {
		t.Fatalf("the same call again did not find its request: %+v then %+v", asked, again)
	}
	if other := r.call(t, "write", `{"a":2}`); other.Approval.ID == asked.Approval.ID {
		t.Fatal("other arguments found the request")
	}
	if _, err := r.Answer(t.Context(), "test:ann", asked.Approval.ID, true, ""); err != nil {
		t.Fatal(err)
	}
	if other := r.call(t, "write", `{"a":2}`); other.Code != authz.ApprovalRequired {
		t.Fatalf("other arguments ran on the grant: %+v", other)
	}
	granted := r.call(t, "write", `{"a":1}`)
	if granted.Outcome != policy.Allow || granted.ActionHash != asked.ActionHash {
		t.Fatalf("the approved call: %+v", granted)
	}
	claims, err := proof.Verify(granted.Proof, proof.Expect{Keys: []proof.PublicKey{r.key.Public()}, Now: r.now, AnyAudience: true})
	if err != nil || claims.Approval == nil || claims.Approval.ID != asked.Approval.ID || claims.Approval.By != "test:ann" {
		t.Fatalf("claims %+v, %v", claims.Approval, err)
	}
	if more := r.call(t, "write", `{"a":1}`); more.Code != authz.ApprovalRequired || more.Approval.ID == asked.Approval.ID {
		t.Fatalf("after its one use the grant gave: %+v", more)
	}
}

func TestGrantIsSpentByOneOfManyAtOnce(t *testing.T) {
	r := newRoom(t, rules)
	asked := r.call(t, "write", `{}`)
	if _, err := r.Answer(t.Context(), "test:ann", asked.Approval.ID, true, ""); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	codes := map[authz.Code]int{}
	for range 20 {
		wg.Go(func() {
			ans, err := r.try(t.Context(), "write", `{}`)
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
	if list, err := r.store.Approvals(t.Context(), r.Owner().ID, approvals.Pending, 10); err != nil || len(list) != 1 {
		t.Errorf("the 19 opened %d requests, want 1 (%v)", len(list), err)
	}
}

func TestDenialSticksForAWhile(t *testing.T) {
	r := newRoom(t, rules)
	asked := r.call(t, "write", `{}`)
	if _, err := r.Answer(t.Context(), "test:ann", asked.Approval.ID, false, "not today"); err != nil {
		t.Fatal(err)
	}
	if ans := r.call(t, "write", `{}`); ans.Outcome != policy.Deny || ans.Code != authz.ApprovalDenied || !strings.Contains(ans.Reason, "not today") {
		t.Fatalf("right after the denial: %+v", ans)
	}
	r.now = r.now.Add(16 * time.Minute)
	if ans := r.call(t, "write", `{}`); ans.Code != authz.ApprovalRequired || ans.Approval.ID == asked.Approval.ID {
		t.Fatalf("16 minutes later: %+v", ans)
	}
}

func TestApprovalsHaveATimeLimit(t *testing.T) {
	r := newRoom(t, rules)
	asked := r.call(t, "write", `{}`)
	if _, err := r.Answer(t.Context(), "test:ann", asked.Approval.ID, true, ""); err != nil {
		t.Fatal(err)
	}
	r.now = r.now.Add(61 * time.Minute)
	if ans := r.call(t, "write", `{}`); ans.Code != authz.ApprovalRequired || ans.Approval.ID == asked.Approval.ID {
		t.Fatalf("a grant of an hour ago: %+v", ans)
	}
	r.now = r.now.Add(25 * time.Hour)
	list, err := r.store.Approvals(t.Context(), r.Owner().ID, approvals.Pending, 1)
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	if _, err := r.Answer(t.Context(), "test:ann", list[0].ID, true, ""); !errors.Is(err, approvals.ErrExpired) {
		t.Fatalf("approving a request of yesterday: %v", err)
	}
}

func TestDenyAddedMeanwhileWins(t *testing.T) {
	r := newRoom(t, rules)
	asked := r.call(t, "write", `{}`)
	if _, err := r.Answer(t.Context(), "test:ann", asked.Approval.ID, true, ""); err != nil {
		t.Fatal(err)
	}
	before := r.keeper.Current().Hash
	r.write(t, "p.yaml", "version: 1\ndefault: deny\nrules:\n  - {id: stop, effect: deny, action: '*'}\n")
	for deadline := time.Now().Add(10 * time.Second); r.keeper.Current().Hash == before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the policy was not read again")
		}
	}
	if ans := r.call(t, "write", `{}`); ans.Code != authz.PolicyDenied || ans.RuleID != "stop" {
		t.Fatalf("%+v", ans)
	}
}

func TestChangedMappingAsksAnew(t *testing.T) {
	r := newRoom(t, rules)
	asked := r.call(t, "write", `{"a":1}`)
	if _, err := r.Answer(t.Context(), "test:ann", asked.Approval.ID, true, ""); err != nil {
		t.Fatal(err)
	}
	args, err := action.Parse([]byte(`{"a":1}`), action.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	req := action.Request{ActionType: "mcp.s.write", Payload: action.ObjectValue(action.Member{Key: "arguments", Value: args}, action.Member{Key: "extra", Value: action.IntValue(1)})}
	ans, err := r.Authorize(t.Context(), r.who, req, &authz.Call{Server: "s", Tool: "write", Arguments: args})
	if err != nil || ans.Code != authz.ApprovalRequired || ans.Approval.ID == asked.Approval.ID {
		t.Fatalf("another action with the same arguments: %+v, %v", ans, err)
	}
}

func TestAgentsShareNothing(t *testing.T) {
	r := newRoom(t, rules)
	asked := r.call(t, "write", `{}`)
	if _, err := r.Answer(t.Context(), "test:ann", asked.Approval.ID, true, ""); err != nil {
		t.Fatal(err)
	}
	other, err := r.store.EnsureAgent(t.Context(), "other", r.Owner())
	if err != nil {
		t.Fatal(err)
	}
	bot := r.who
	r.who = authz.Caller{Agent: other}
	if ans := r.call(t, "write", `{}`); ans.Code != authz.ApprovalRequired {
		t.Fatalf("another agent's grant: %+v", ans)
	}
	r.who = bot
	if ans := r.call(t, "write", `{}`); ans.Code != authz.Allowed {
		t.Fatalf("its own grant: %+v", ans)
	}
}

// faulty fails commits: before or after the store has done them.
type faulty struct {
	authz.Store
	fail func(authz.Batch) (before, after error)
}

func (f *faulty) Commit(ctx context.Context, b authz.Batch) error {
	before, after := f.fail(b)
	if before != nil {
		return before
	}
	return errors.Join(f.Store.Commit(ctx, b), after)
}

// The law: never Allow without an entry whose commit has returned nil.
func TestNothingIsAllowedThatIsNotOnDisk(t *testing.T) {
	disk := errors.New("disk full")
	for _, tt := range []struct {
		name          string
		before, after error
	}{{"failed", disk, nil}, {"failed but persisted", nil, disk}} {
		for _, tool := range []string{"read", "ping", "write", "granted"} {
			t.Run(tt.name+"/"+tool, func(t *testing.T) {
				broken := false
				r := newRoom(t, rules, func(c *authz.Config) {
					c.Store = &faulty{c.Store, func(authz.Batch) (error, error) {
						if broken {
							return tt.before, tt.after
						}
						return nil, nil
					}}
				})
				if tool == "granted" {
					tool = "write"
					asked := r.call(t, tool, `{}`)
					if _, err := r.Answer(t.Context(), "test:ann", asked.Approval.ID, true, ""); err != nil {
						t.Fatal(err)
					}
				}
				broken = true
				ans, err := r.try(t.Context(), tool, `{}`)
				if ans.Outcome != policy.Deny || ans.Code != authz.StoreUnavailable || ans.Proof != "" || !errors.Is(err, disk) || !strings.Contains(ans.Reason, "disk full") {
					t.Fatalf("got %+v, %v", ans, err)
				}
				broken = false
				if ans := r.call(t, "read", `{}`); ans.Outcome != policy.Allow {
					t.Fatalf("after the disk had come back: %+v", ans)
				}
			})
		}
	}
}

func TestBrokenPolicyOfANewInstallationRefusesAll(t *testing.T) {
	r := newRoom(t, "version: 1\ndefault: alow\nrules: []\n")
	ans := r.call(t, "read", `{}`)
	if ans.Code != authz.PolicyInvalid || !strings.Contains(ans.Reason, "p.yaml:2") {
		t.Fatalf("%+v", ans)
	}
	if all := r.entries(t); len(all) == 0 || all[len(all)-1].Code != string(authz.PolicyInvalid) {
		t.Errorf("the refusal is not in the log: %+v", all)
	}
}

func TestUnwritableLogRefusesAll(t *testing.T) {
	dir := t.TempDir() // a folder stands where the file should be
	var sequencer *audit.Sequencer
	r := newRoom(t, rules, func(c *authz.Config) {
		key, err := audit.LoadOrCreateKey(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		sequencer = audit.NewSequencer(c.Store.(audit.Store), dir, key, audit.Keeping{})
		c.Log = sequencer
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go sequencer.Run(ctx)
	for deadline := time.Now().Add(10 * time.Second); sequencer.Err() == nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the sequencer does not see that it cannot write")
		}
	}
	if ans := r.call(t, "read", `{}`); ans.Code != authz.LogUnavailable || !strings.Contains(ans.Reason, dir) {
		t.Fatalf("%+v", ans)
	}
}

func TestOutcomesAreRecordedInOrder(t *testing.T) {
	r := newRoom(t, rules)
	var want []string
	for range 50 {
		ans := r.call(t, "read", `{}`)
		r.Finish(r.who, nil, ans, authz.Outcome{Status: "ok", Duration: 3 * time.Millisecond})
		want = append(want, ans.DecisionID)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range r.entries(t) {
		if e.Event == "outcome" {
			got = append(got, e.DecisionID)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestNewWantsWhatRecords(t *testing.T) {
	if _, err := authz.New(authz.Config{Owner: identity.Owner{ID: "x"}}); err == nil {
		t.Error("a service without a store")
	}
}
