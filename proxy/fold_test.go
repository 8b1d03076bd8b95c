package proxy

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/identity"
)

// A paraphraser is a model that never says the same twice: it writes the mail that
// it is to send anew each time it calls.
type paraphraser struct {
	rand  *rand.Rand
	calls int
}

func newParaphraser(seed uint64) *paraphraser {
	return &paraphraser{rand: rand.New(rand.NewPCG(seed, 1))}
}

func (p *paraphraser) one(of ...string) string { return of[p.rand.IntN(len(of))] }

func (p *paraphraser) mail() string {
	p.calls++
	return p.one("Hi Bob, ", "Hello Bob,\n\n", "Dear Bob,\n\n") +
		p.one("a quick reminder: the quarterly report is due on Friday. ", "just a reminder that the quarterly report is due this Friday. ", "this is a friendly reminder that our quarterly report is due by Friday. ") +
		p.one("Please send me your numbers for invoice INV-2231 by Thursday evening", "Could you please send your numbers for invoice INV-2231 to me by Thursday evening", "I need your numbers for invoice INV-2231 on Thursday evening, please") +
		strings.Repeat("!", p.calls) + " " + // never the same twice
		p.one("Thanks, Ann", "Thank you! Ann", "Kind regards, Ann")
}

// arguments are those of a call of its tool.
func (p *paraphraser) arguments() string {
	return fmt.Sprintf(`{"to":"bob@b.example","subject":%q,"text":%q,"cc":[],"urgent":false}`,
		p.one("Quarterly report: your numbers", "Your numbers for the quarterly report"), p.mail())
}

// The owner has one request, whatever the model calls it; approves what is shown; and
// exactly that runs, once.
func TestAModelThatNeverSaysTheSameTwice(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			k := newTalk(t, askAll, func(p *Proxy) { p.Hold = 50 * time.Millisecond; p.Portal = "http://openleash.localhost:8787" })
			model, said := newParaphraser(seed), []string{}
			const times = 8
			for n := 1; n <= times; n++ {
				said = append(said, model.arguments())
				k.host.write(toolCall(fmt.Sprint(n), "send", said[n-1]))
				answer := k.next(k.host)
				replaces := fmt.Sprintf("this replaces version %d of the request", n-1)
				if !strings.Contains(answer, "APPROVAL_REQUIRED") || strings.Contains(answer, replaces) != (n > 1) {
					t.Fatalf("call %d: %s", n, answer)
				}
				if n > 1 && rawAt([]byte(answer), "result", "structuredContent", "replaces_version") != fmt.Sprint(n-1) {
					t.Errorf("call %d: %s", n, answer)
				}
			}
			shown := k.requests(t, 1)[0]
			if shown.Version != times || shown.Asked != times || !sameArguments(shown.Action, said[times-1]) {
				t.Fatalf("the owner is shown version %d: %s", shown.Version, shown.Action.Payload.Canonical())
			}
			versions := must(k.store.Versions(t.Context(), shown.ID))(t)
			for i, v := range versions {
				if !sameArguments(v.Action, said[i]) || v.Version != i+1 {
					t.Errorf("version %d is kept as %s", v.Version, v.Action.Payload.Canonical())
				}
			}
			must(k.Service.AnswerShown(t.Context(), "test:alice", shown.ID, shown.ActionHash, true, ""))(t)
			k.silent(k.upstream, 100*time.Millisecond)

			// It words the mail anew once more: that is not what was approved. It is told what was.
			k.host.write(toolCall("20", "send", model.arguments()))
			answer := k.next(k.host)
			granted := rawAt([]byte(answer), "result", "structuredContent", "approved_arguments")
			if !strings.Contains(answer, "APPROVAL_REQUIRED") || !strings.Contains(answer, "A call with exactly these arguments runs at once") || !sameArguments(shown.Action, granted) {
				t.Fatalf("other words than the approved ones: %s", answer)
			}
			k.host.write(toolCall("21", "send", granted))
			if ran := k.next(k.upstream); rawAt([]byte(ran), "params", "arguments") != granted {
				t.Fatalf("what was approved: %s", ran)
			}
			k.upstream.write(`{"jsonrpc":"2.0","id":21,"result":{"content":[]}}`)
			k.next(k.host)
			k.host.write(toolCall("22", "send", granted))
			if answer := k.next(k.host); !strings.Contains(answer, "APPROVAL_REQUIRED") || strings.Contains(answer, "approved_arguments") {
				t.Errorf("a second time: %s", answer)
			}
			k.silent(k.upstream, 100*time.Millisecond)
		})
	}
}

// sameArguments reports whether an action's arguments are those of a text.
func sameArguments(a action.Request, text string) bool {
	v, err := action.Parse([]byte(text), action.Limits{})
	return err == nil && a.Payload.Get("arguments").Equal(v)
}

// Two mails at once are two requests, and each runs as its own was approved; the same
// when the host has left one of them behind.
func TestTwoInOtherWordsAtOnce(t *testing.T) {
	k := newTalk(t, askAll)
	model := newParaphraser(7)
	first, second, third := model.arguments(), model.arguments(), model.arguments()
	k.host.write(toolCall("1", "send", first))
	one := k.pending(t)
	k.host.write(toolCall("2", "send", second))
	var two approvals.Request
	for range 500 {
		if list := must(k.store.Approvals(t.Context(), k.owner.ID, "", 0))(t); len(list) == 2 {
			two = list[0]
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if two.ID == one.ID || !sameArguments(two.Action, second) || !sameArguments(one.Action, first) {
		t.Fatalf("%s and %s", one.Action.Payload.Canonical(), two.Action.Payload.Canonical())
	}
	k.approve(t, one.ID)
	if got := k.next(k.upstream); !strings.Contains(got, `"id":1`) || rawAt([]byte(got), "params", "arguments") != first {
		t.Fatalf("the first: %s", got)
	}
	k.host.write(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}`)
	for range 500 {
		if r := must(k.store.Approval(t.Context(), two.ID))(t); r.HeldUntil.IsZero() {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	k.host.write(toolCall("3", "send", third))
	for range 500 {
		if r := must(k.store.Approval(t.Context(), two.ID))(t); r.Version == 2 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	k.approve(t, two.ID)
	if got := k.next(k.upstream); !strings.Contains(got, `"id":3`) || rawAt([]byte(got), "params", "arguments") != third {
		t.Fatalf("the third, in the place of the second: %s", got)
	}
	k.silent(k.upstream, 100*time.Millisecond)
}

// What a dead process has held is held until its time is over, and no longer.
func TestHoldOfADeadProcessEnds(t *testing.T) {
	t.Parallel()
	p := newRealProxy(t, askAll)
	who := authz.Caller{Agent: must(p.store.EnsureAgent(t.Context(), "bot", p.owner))(t)}
	model := newParaphraser(8)
	died := authorizeSend(t, p, who, model.arguments(), time.Millisecond) // and nobody says that it left
	if at := must(p.store.Approval(t.Context(), died.Approval.ID))(t); !at.HeldUntil.After(time.Now()) {
		t.Fatalf("it is held until %s", at.HeldUntil)
	}
	if other := authorizeSend(t, p, who, model.arguments(), 0); other.Approval.ID == died.Approval.ID {
		t.Fatal("it was replaced while it is held")
	} else {
		must(p.Service.Answer(t.Context(), "test:alice", other.Approval.ID, false, ""))(t)
	}
	time.Sleep(2100 * time.Millisecond)
	if other := authorizeSend(t, p, who, model.arguments(), 0); other.Approval.ID != died.Approval.ID || other.Replaces != 1 {
		t.Errorf("its time is over: %+v", other)
	}
}

func authorizeSend(t *testing.T, p realProxy, who authz.Caller, arguments string, hold time.Duration) authz.Answer {
	t.Helper()
	args := must(action.Parse([]byte(arguments), action.Limits{}))(t)
	req := action.Request{ActionType: "mcp.shop.send", Payload: action.ObjectValue(action.Member{Key: "arguments", Value: args})}
	return must(p.Service.Authorize(t.Context(), who, req, &authz.Call{Server: "shop", Tool: "send", Arguments: args, Info: action.ObjectValue(), Hold: hold}))(t)
}

// A call that does not have to wait for anybody is not held, and says nothing of it.
func TestWhatIsNotHeldHasNoHold(t *testing.T) {
	k := newTalk(t, "version: 1\ndefault: require_approval\nrules:\n  - {id: ok, effect: allow, action: mcp.shop.look}\n", func(p *Proxy) { p.Hold = 50 * time.Millisecond })
	k.host.write(toolCall("1", "look", `{}`))
	k.next(k.upstream)
	k.upstream.write(`{"jsonrpc":"2.0","id":1,"result":{}}`)
	k.next(k.host)
	k.requests(t, 0)
	k.host.write(toolCall("2", "buy", `{}`))
	k.next(k.host)
	if r := k.requests(t, 1)[0]; !r.HeldUntil.IsZero() { // before its host is told
		t.Errorf("it is still held until %s", r.HeldUntil)
	}
}

func TestTooManyOpenIsToldToTheModel(t *testing.T) {
	p := realProxyAt(t, t.TempDir(), askAll, func(c *authz.Config) { c.OpenPerAgent = 2 })
	p.Hold = 20 * time.Millisecond
	host, hostSide := newPipes()
	upstreamSide, upstream := newPipes()
	k := &talk{realProxy: p, t: t, host: host, upstream: upstream, ended: make(chan error, 1)}
	agent := must(p.store.EnsureAgent(t.Context(), "bot", p.owner))(t)
	go func(who identity.Agent) {
		k.ended <- p.Serve(t.Context(), authz.Caller{Agent: who}, hostSide, upstreamSide)
	}(agent)
	defer func() { host.Close(); <-k.ended }()
	for n := 1; n <= 3; n++ {
		k.host.write(toolCall(fmt.Sprint(n), "buy", fmt.Sprintf(`{"n":%d}`, n)))
		answer := k.next(k.host)
		full := strings.Contains(answer, `"code":"TOO_MANY_OPEN"`) && strings.Contains(answer, "call this again when they have answered some") && strings.Contains(answer, `"decision":"DENY"`)
		if full != (n == 3) {
			t.Errorf("call %d: %s", n, answer)
		}
	}
	k.requests(t, 2)
	must(p.Service.Answer(t.Context(), "test:alice", k.pending(t).ID, false, ""))(t)
	k.host.write(toolCall("4", "buy", `{"n":3}`))
	if answer := k.next(k.host); !strings.Contains(answer, "APPROVAL_REQUIRED") {
		t.Errorf("after an answer: %s", answer)
	}
}
