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
)

const askForAll = "version: 1\ndefault: require_approval\nrules: []\n"

// mails are one mail in other words, and those after it are others.
var mails = []string{
	"Hi Bob, just a quick reminder that the quarterly report is due on Friday. Please send me your numbers by Thursday evening. Thanks, Ann",
	"Hello Bob, a short reminder: the quarterly report is due this Friday. Could you send me your figures by Thursday evening? Thank you, Ann",
	"Bob, the quarterly report is due Friday. Please send your numbers by Thursday evening. Ann",
	"Hi Bob, the kitchen on the third floor is closed for cleaning until Monday. Please use the one downstairs instead. Thanks, Ann",
}

// mail authorizes a mail to Bob in which its caller waits for so long.
func (r *room) mail(t *testing.T, text string, wait time.Duration) authz.Answer {
	t.Helper()
	ans, err := r.tryMail(t.Context(), "bob@b.example", text, wait)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return ans
}

func (r *room) tryMail(ctx context.Context, to, text string, wait time.Duration) (authz.Answer, error) {
	args := action.ObjectValue(action.Member{Key: "to", Value: action.StringValue(to)}, action.Member{Key: "text", Value: action.StringValue(text)})
	args, err := action.Parse(args.Canonical(), action.Limits{})
	if err != nil {
		return authz.Answer{}, err
	}
	req := action.Request{ActionType: "mcp.s.send", Payload: action.ObjectValue(action.Member{Key: "arguments", Value: args})}
	return r.Authorize(ctx, r.who, req, &authz.Call{Server: "s", Tool: "send", Arguments: args, Info: action.ObjectValue(), Hold: wait})
}

func (r *room) request(t *testing.T, id string) approvals.Request {
	t.Helper()
	got, err := r.store.Approval(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func (r *room) waiting(t *testing.T, want int) {
	t.Helper()
	list, err := r.store.Approvals(t.Context(), r.Owner().ID, approvals.Pending, 0)
	if err != nil || len(list) != want {
		t.Errorf("%d requests wait, want %d, %v", len(list), want, err)
	}
}

func TestOtherWordsAreTheNextVersion(t *testing.T) {
	r := newRoom(t, askForAll)
	first := r.mail(t, mails[0], 0)
	r.now = r.now.Add(time.Minute)
	second := r.mail(t, mails[1], 0)
	if second.Code != authz.ApprovalRequired || second.Approval.ID != first.Approval.ID || second.Replaces != 1 || second.ActionHash == first.ActionHash {
		t.Fatalf("in other words: %+v", second)
	}
	if back := r.mail(t, mails[0], 0); back.Approval.ID != first.Approval.ID || back.Replaces != 2 || back.ActionHash == first.ActionHash {
		t.Fatalf("in the first words again: %+v", back)
	}
	third := r.mail(t, mails[2], 0)
	again := r.mail(t, mails[2], 0)
	if again.Replaces != 0 || again.ActionHash != third.ActionHash {
		t.Errorf("in the same words it joins: %+v", again)
	}
	shown := r.request(t, first.Approval.ID)
	if shown.Version != 4 || shown.Asked != 5 || !shown.LastAsked.Equal(r.now) || shown.ActionHash != third.ActionHash || !shown.ExpiresAt.Equal(first.Approval.ExpiresAt) || shown.DecisionID != third.DecisionID {
		t.Errorf("what is shown: %+v", shown)
	}
	if v, err := r.store.Versions(t.Context(), shown.ID); err != nil || len(v) != 3 || v[0].ActionHash != first.ActionHash || v[1].DecisionID != second.DecisionID {
		t.Errorf("what was shown: %+v, %v", v, err)
	}
	if other := r.mail(t, mails[3], 0); other.Approval.ID == first.Approval.ID {
		t.Error("another mail was folded in")
	}
	if other, err := r.tryMail(t.Context(), "eve@b.example", mails[2], 0); err != nil || other.Approval.ID == first.Approval.ID {
		t.Errorf("the same mail to somebody else was folded in, %v", err)
	}
	all := r.entries(t)
	if e := all[1]; e.ApprovalID != shown.ID || e.Detail != "version 2 of the request" || e.ActionHash != second.ActionHash.String() || e.DecisionID != second.DecisionID {
		t.Errorf("logged: %+v", e)
	}

	// The approval is for what was shown, once.
	if _, err := r.AnswerShown(t.Context(), "test:ann", shown.ID, second.ActionHash, true, ""); !errors.Is(err, approvals.ErrReplaced) {
		t.Fatalf("a version that is not shown any more was answered: %v", err)
	}
	if _, err := r.Give(t.Context(), "test:ann", shown.ID, second.ActionHash, approvals.Terms{Uses: 9}); !errors.Is(err, approvals.ErrReplaced) {
		t.Fatalf("a standing grant was given on a version that is not shown any more: %v", err)
	}
	if _, err := r.AnswerShown(t.Context(), "test:ann", shown.ID, third.ActionHash, true, ""); err != nil {
		t.Fatal(err)
	}
	asked := r.mail(t, mails[0], 0)
	if asked.Code != authz.ApprovalRequired || asked.Approval.ID == shown.ID || asked.Granted == nil || asked.Granted.ID != shown.ID {
		t.Fatalf("other words than the approved ones: %+v", asked)
	}
	if ran := r.mail(t, mails[2], 0); ran.Outcome != policy.Allow || ran.Approval.ID != shown.ID || ran.ActionHash != third.ActionHash {
		t.Fatalf("the approved words: %+v", ran)
	}
	if more := r.mail(t, mails[2], 0); more.Code != authz.ApprovalRequired || more.Approval.ID != asked.Approval.ID || more.Granted != nil {
		t.Errorf("after its one use: %+v", more)
	}
}

// What somebody waits for is not replaced; who has left, or is dead, does not wait.
func TestOtherWordsBesideAHold(t *testing.T) {
	r := newRoom(t, askForAll)
	first := r.mail(t, mails[0], 50*time.Second)
	joined := r.mail(t, mails[0], 50*time.Second)
	second := r.mail(t, mails[1], 50*time.Second)
	if joined.Approval.ID != first.Approval.ID || second.Approval.ID == first.Approval.ID {
		t.Fatalf("%s, %s, %s", first.Approval.ID, joined.Approval.ID, second.Approval.ID)
	}
	leave := func(ans authz.Answer) {
		t.Helper()
		gone, cancel := context.WithCancel(t.Context())
		cancel() // as its caller is
		if err := r.Leave(gone, ans); err != nil {
			t.Fatal(err)
		}
	}
	leave(first)
	if third := r.mail(t, mails[2], 0); third.Replaces != 0 || third.Approval.ID == first.Approval.ID {
		t.Fatalf("one of two waits still: %+v", third)
	} else if _, err := r.Answer(t.Context(), "test:ann", third.Approval.ID, false, ""); err != nil {
		t.Fatal(err)
	}
	leave(joined)
	if third := r.mail(t, mails[2]+" Bye.", 0); third.Replaces != 1 || third.Approval.ID != first.Approval.ID {
		t.Fatalf("nobody waits any more: %+v", third)
	}
	r.now = r.now.Add(51 * time.Second)
	if third := r.mail(t, mails[1]+" Bye.", 0); third.Approval.ID != first.Approval.ID { // the only one
		t.Fatalf("the second is held: %+v", third)
	}
	if _, err := r.Answer(t.Context(), "test:ann", first.Approval.ID, false, ""); err != nil {
		t.Fatal(err)
	}
	r.now = r.now.Add(time.Second) // its process is dead
	if third := r.mail(t, mails[0]+" Bye.", 0); third.Replaces != 1 || third.Approval.ID != second.Approval.ID {
		t.Errorf("its hold has ended: %+v", third)
	}
}

// Many calls at once in other words, each of whose callers waits: each is asked for,
// and one at most takes the place of what nobody waits for.
func TestOtherWordsAtOnce(t *testing.T) {
	r := newRoom(t, askForAll)
	first := r.mail(t, mails[0], 0)
	var mu sync.Mutex
	var wg sync.WaitGroup
	shown, folded := map[string]action.Hash{}, 0
	for i := range 20 {
		wg.Go(func() {
			ans, err := r.tryMail(t.Context(), "bob@b.example", mails[1]+strings.Repeat(" Bye", i), time.Minute)
			mu.Lock()
			defer mu.Unlock()
			if err != nil || ans.Code != authz.ApprovalRequired {
				t.Errorf("%+v, %v", ans, err)
				return
			}
			if shown[ans.Approval.ID] = ans.ActionHash; ans.Approval.ID == first.Approval.ID {
				folded++
			}
		})
	}
	wg.Wait()
	if folded != 1 || len(shown) != 20 {
		t.Errorf("%d were folded in, %d are asked for", folded, len(shown))
	}
	for id, hash := range shown {
		if got := r.request(t, id); got.ActionHash != hash {
			t.Errorf("request %s shows %s, but %s waits for it", id, got.ActionHash, hash)
		}
	}
}

// What was asked for and answered is no place for other words, nor is what means
// something else to the policy.
func TestOtherWordsElsewhere(t *testing.T) {
	r := newRoom(t, askForAll)
	first := r.mail(t, mails[0], 0)
	if _, err := r.Answer(t.Context(), "test:ann", first.Approval.ID, false, "too rude"); err != nil {
		t.Fatal(err)
	}
	r.now = r.now.Add(14 * time.Minute)
	second := r.mail(t, mails[1], 0)
	if second.Code != authz.ApprovalRequired || second.Approval.ID == first.Approval.ID || second.Approval.NearTo != first.Approval.ID {
		t.Fatalf("near a denial: %+v", second)
	}
	if got := r.request(t, second.Approval.ID); got.NearTo != first.Approval.ID {
		t.Errorf("it is not kept: %+v", got)
	}
	if same := r.mail(t, mails[0], 0); same.Code != authz.ApprovalDenied {
		t.Errorf("the denied words themselves: %+v", same)
	}
	r.now = r.now.Add(time.Minute)
	if third := r.mail(t, mails[2], 0); third.Approval.ID != second.Approval.ID || third.Approval.NearTo != "" {
		t.Errorf("when the denial is past: %+v", third)
	}
	r.now = r.now.Add(24 * time.Hour)
	if third := r.mail(t, mails[0], 0); third.Replaces != 0 || third.Approval.ID == second.Approval.ID {
		t.Errorf("when the request has expired: %+v", third)
	}
	moved := func(agent authz.Caller, server, tool, actionType, domain string) {
		t.Helper()
		args, err := action.Parse([]byte(fmt.Sprintf(`{"text":%q,"to":"bob@b.example"}`, mails[1])), action.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		req := action.Request{ActionType: actionType, RelyingParty: action.RelyingParty{Domain: domain}, Payload: action.ObjectValue(action.Member{Key: "arguments", Value: args})}
		ans, err := r.Authorize(t.Context(), agent, req, &authz.Call{Server: server, Tool: tool, Arguments: args, Info: action.ObjectValue()})
		if err != nil || ans.Replaces != 0 || ans.Code != authz.ApprovalRequired {
			t.Errorf("%s %s %s %s %s: %+v, %v", agent.Agent.Name, server, tool, actionType, domain, ans, err)
		}
	}
	cat, err := r.store.EnsureAgent(t.Context(), "cat", r.Owner())
	if err != nil {
		t.Fatal(err)
	}
	moved(authz.Caller{Agent: cat}, "s", "send", "mcp.s.send", "")
	moved(r.who, "z", "send", "mcp.s.send", "")
	moved(r.who, "s", "post", "mcp.s.send", "")
	moved(r.who, "s", "send2", "mail", "")
	moved(r.who, "s", "send", "mcp.s.send", "b.example")
}

// What a version sets aside is set aside once.
func TestOtherWordsSetAsideAnew(t *testing.T) {
	r := newRoom(t, `version: 1
default: require_approval
rules: []
limits:
  - {id: two, action: mcp.s.send, count: true, max: 2, window: 24h, reserve_on_hold: true}
`)
	for i := range 5 {
		if ans := r.mail(t, mails[i%3], 0); ans.Code != authz.ApprovalRequired || ans.Approval.Version != i+1 || len(ans.Approval.Overshoots) != 0 {
			t.Fatalf("version %d: %+v", i+1, ans)
		}
	}
	if ans := r.mail(t, mails[3], 0); ans.Code != authz.ApprovalRequired {
		t.Fatalf("the second of two: %+v", ans)
	}
	if ans := r.mail(t, "Dear Bob, would you like to come to lunch with all of us on Wednesday at noon?", 0); ans.Code != authz.LimitExceeded {
		t.Errorf("the third of two: %+v", ans)
	}
}

func TestOpenRequestsOfAnAgentAreBounded(t *testing.T) {
	const most = 5
	r := newRoom(t, rules, func(c *authz.Config) { c.OpenPerAgent = most })
	var mu sync.Mutex
	var wg sync.WaitGroup
	codes, open := map[authz.Code]int{}, []string{}
	for i := range 20 {
		wg.Go(func() {
			ans, err := r.try(t.Context(), "write", fmt.Sprintf(`{"a":%d}`, i))
			mu.Lock()
			defer mu.Unlock()
			if codes[ans.Code]++; err != nil {
				t.Error(err)
			}
			if ans.Code == authz.ApprovalRequired {
				open = append(open, ans.Approval.ID)
			}
		})
	}
	wg.Wait()
	if diff := cmp.Diff(map[authz.Code]int{authz.ApprovalRequired: most, authz.TooManyOpen: 20 - most}, codes); diff != "" {
		t.Fatal(diff)
	}
	r.waiting(t, most)
	full := r.call(t, "write", `{"b":1}`)
	if full.Outcome != policy.Deny || full.Approval != nil || !strings.Contains(full.Reason, "5 requests of this agent wait for their owner already, and at most 5 may") {
		t.Errorf("%+v", full)
	}
	all := r.entries(t)
	if e := all[len(all)-1]; e.Code != "TOO_MANY_OPEN" || *e.Decision != "DENY" || e.DecisionID != full.DecisionID || e.Reason != full.Reason {
		t.Errorf("logged: %+v", e)
	}
	if r.call(t, "read", `{}`).Code != authz.Allowed {
		t.Error("what needs no approval is refused too")
	}
	if _, err := r.Answer(t.Context(), "test:ann", open[0], false, ""); err != nil {
		t.Fatal(err)
	}
	if ans := r.call(t, "write", `{"b":1}`); ans.Code != authz.ApprovalRequired {
		t.Errorf("an answer makes no room: %+v", ans)
	}
	if again := r.call(t, "write", `{"b":1}`); again.Code != authz.ApprovalRequired {
		t.Errorf("what is open already needs room: %+v", again)
	}
	r.now = r.now.Add(24 * time.Hour)
	if ans := r.call(t, "write", `{"c":1}`); ans.Code != authz.ApprovalRequired {
		t.Errorf("time makes no room: %+v", ans)
	}
}

// The bytes of what an agent keeps open are bounded as well.
func TestBytesOfAnAgentAreBounded(t *testing.T) {
	r := newRoom(t, rules)
	large := strings.Repeat("a", 7<<20)
	var full authz.Answer
	for i := range 10 {
		var err error
		if full, err = r.try(t.Context(), "write", fmt.Sprintf(`{"n":%d,"a":"%s"}`, i, large)); err != nil {
			t.Fatalf("request %d was not decided on", i)
		}
		if i == 8 && full.Code != authz.ApprovalRequired {
			t.Errorf("63 MiB: %s %s", full.Code, full.Reason)
		}
	}
	if full.Code != authz.TooManyOpen || !strings.Contains(full.Reason, "9 requests of this agent wait for their owner already, and at most 64 MiB of them may") {
		t.Errorf("70 MiB: %s %s", full.Code, full.Reason)
	}
}

// forgetful is a store that cannot read what a call is compared with.
type forgetful struct{ authz.Store }

func (forgetful) Kin(context.Context, approvals.Kind, approvals.Status, int) ([]approvals.Request, error) {
	return nil, errors.New("disk full")
}

func TestKinThatCannotBeReadIsARefusal(t *testing.T) {
	r := newRoom(t, rules, func(c *authz.Config) { c.Store = forgetful{c.Store} })
	if ans := r.call(t, "write", `{}`); ans.Code != authz.StoreUnavailable || !strings.Contains(ans.Reason, "disk full") {
		t.Errorf("%+v", ans)
	}
	r.waiting(t, 0)
}

// A call that was on its way when the owner said no asks after all. When its time is
// over the denial is there still.
func TestADenialIsNotHiddenByALateRequest(t *testing.T) {
	r := newRoom(t, rules)
	asked := r.call(t, "write", `{"n":1}`)
	began := r.now
	r.now = r.now.Add(time.Second)
	r.answer(t, asked.Approval.ID, false)
	late := r.request(t, asked.Approval.ID)
	late.ID, late.DecisionID, late.Status, late.DenyReason = "late", "late", approvals.Pending, ""
	late.CreatedAt, late.ExpiresAt, late.AnsweredAt, late.AnsweredBy = began.Add(time.Millisecond), began.Add(time.Minute), time.Time{}, ""
	if err := r.store.Commit(t.Context(), authz.Batch{Open: &late}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r.now = r.now.Add(time.Minute)
		if ans := r.call(t, "write", `{"n":1}`); ans.Code != authz.ApprovalDenied {
			t.Errorf("%v after the denial: %s: %s", r.now.Sub(began), ans.Code, ans.Reason)
		}
	}
}
