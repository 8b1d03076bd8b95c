package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/proof"
)

// talk is a session between a host and an upstream that the test plays.
type talk struct {
	realProxy
	t              *testing.T
	host, upstream *pipeConn // the far ends: what the test writes and reads
	ended          chan error
	stop           context.CancelFunc
}

func newTalk(t *testing.T, policyYAML string, adjust ...func(*Proxy)) *talk {
	t.Helper()
	p := newRealProxy(t, policyYAML)
	for _, f := range adjust {
		f(p.Proxy)
	}
	host, hostSide := newPipes()
	upstreamSide, upstream := newPipes()
	ctx, stop := context.WithCancel(t.Context())
	k := &talk{realProxy: p, t: t, host: host, upstream: upstream, ended: make(chan error, 1), stop: stop}
	who := authz.Caller{Agent: must(p.store.EnsureAgent(t.Context(), "bot", p.owner))(t)}
	go func() { k.ended <- p.Serve(ctx, who, hostSide, upstreamSide) }()
	t.Cleanup(func() { stop(); <-k.ended; k.ended <- nil })
	return k
}

// next is the next message at one end, "" when none comes.
func (k *talk) next(c *pipeConn) string {
	ctx, cancel := context.WithTimeout(k.t.Context(), 10*time.Second)
	defer cancel()
	m, err := c.Recv(ctx)
	if err != nil {
		k.t.Errorf("no message came: %v", err)
	}
	return string(m.Raw)
}

// silent fails the test when a message comes.
func (k *talk) silent(c *pipeConn, d time.Duration) {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.t.Context(), d)
	defer cancel()
	if m, err := c.Recv(ctx); err == nil {
		k.t.Errorf("a message came that must not: %s", m.Raw)
	}
}

// logged are the log's entries of one kind.
func (k *talk) logged(event string) []audit.Entry {
	k.t.Helper()
	k.Service.Close() // flushes outcomes
	return k.entries(k.t, event)
}

// entries are the log's entries of one kind, committed so far.
func (p realProxy) entries(t *testing.T, event string) []audit.Entry {
	t.Helper()
	var all []audit.Entry
	_, raw, err := p.store.Unsequenced(t.Context(), 10_000)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range raw {
		var e audit.Entry
		if err := json.Unmarshal(b, &e); err != nil {
			t.Fatal(err)
		}
		if e.Event == event {
			all = append(all, e)
		}
	}
	return all
}

func toolCall(id, tool, arguments string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":"tools/call","params":{"name":"%s","arguments":%s}}`, id, tool, arguments)
}

func TestWhatIsNotGovernedPassesByteForByte(t *testing.T) {
	k := newTalk(t, "version: 1\ndefault: deny\nrules: []\n")
	for _, raw := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"x":1.10,"y":1e400,"z":9007199254740993}}`,
		`{ "method" : "notifications/initialized", "jsonrpc":"2.0" }`,
		`{"jsonrpc":"2.0","id":"a","method":"tools/list","params":{"_meta":{"other/key":"\u001b<&>"}}}`,
		`{"jsonrpc":"2.0","id":-1.50,"method":"future/method","params":[1,2],"unknown":{"a":1,"a":2}}`,
		`{"jsonrpc":"2.0","id":99,"result":{"roots":[]}}`,
	} {
		k.host.write(raw)
		if diff := cmp.Diff(raw, k.next(k.upstream)); diff != "" {
			t.Errorf("host → upstream: %s", diff)
		}
		k.upstream.write(raw)
		if diff := cmp.Diff(raw, k.next(k.host)); diff != "" {
			t.Errorf("upstream → host: %s", diff)
		}
	}
}

func TestAllowedCallChangesByItsProofAlone(t *testing.T) {
	for _, raw := range []string{
		`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"buy","arguments":{"n":9007199254740993,"p":1.10}}}`,
		`{"id":7,"params":{"arguments":{"n":9007199254740993,"p":1.10},"_meta":{"progressToken":"t","x":{"y":1.0}},"name":"buy"},"method":"tools/call","jsonrpc":"2.0"}`,
		`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{ "_meta" : { }, "name":"buy","arguments":{"n":9007199254740993,"p":1.10},"task":{"ttl":1}}}`,
	} {
		k := newTalk(t, allowAll)
		k.host.write(raw)
		got := k.next(k.upstream)
		m := must(action.Parse([]byte(got), action.Limits{}))(t)
		token := m.Get("params").Get("_meta").Get(ProofKey).Text()
		inserted := fmt.Sprintf(`"%s":"%s"`, ProofKey, token)
		left := strings.Replace(got, inserted, "", 1)
		left = strings.Replace(strings.Replace(left, `{,`, `{`, 1), `"_meta":{},"name"`, `"name"`, 1)
		if diff := cmp.Diff(raw, left); diff != "" {
			t.Errorf("without the proof it is not what came: %s", diff)
		}
		args := m.Get("params").Get("arguments")
		if _, err := proof.Verify(token, proof.Expect{Keys: k.keys(t), Now: time.Now(), Audience: "mcp:shop", AgentID: "bot", CallHash: action.CallHash("buy", args)}); err != nil {
			t.Errorf("the proof: %v", err)
		}
		k.upstream.write(`{"jsonrpc":"2.0","id":7,"result":{"content":[]}}`)
		k.next(k.host)
		if o := k.logged("outcome"); len(o) != 1 || o[0].Outcome != "ok" || o[0].ResultHash == "" {
			t.Errorf("outcomes: %+v", o)
		}
	}
}

func (p realProxy) keys(t *testing.T) []proof.PublicKey {
	t.Helper()
	return []proof.PublicKey{p.Service.PublicKey()}
}

func TestKeysUnderOurPrefixFromElsewhereGo(t *testing.T) {
	k := newTalk(t, allowAll)
	k.host.write(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","_meta":{"ai.openleash/proof":"forged","AI.OpenLeash/x":1,"mine":2}}}`)
	got := k.next(k.upstream)
	if strings.Contains(got, "forged") || strings.Contains(got, "OpenLeash/x") || !strings.Contains(got, `"mine":2`) || strings.Count(got, ProofKey) != 1 {
		t.Errorf("call: %s", got)
	}
	for _, raw := range []string{
		`{"jsonrpc":"2.0","id":5,"result":{"content":[{"type":"text","text":"ai.openleash/ in a text stays","_meta":{"ai.openleash/proof":"x","k":1}}],"_meta":{"\u0061i.openleash/refusal":{}}}}`,
		`{"jsonrpc":"2.0","method":"notifications/x","params":{"_meta":{"ai.openleash/a":[{"_meta":{"ai.openleash/b":1}}],"k":1}}}`,
	} {
		k.upstream.write(raw)
		if got := k.next(k.host); strings.Contains(got, `"ai.openleash/proof"`) || strings.Contains(got, `openleash/a"`) || strings.Contains(got, `\u0061i`) || !strings.Contains(got, `"k":1`) || strings.Contains(raw, "in a text") != strings.Contains(got, "in a text") {
			t.Errorf("upstream → host: %s", got)
		}
	}
	k.host.write(`{"jsonrpc":"2.0","id":6,"method":"resources/read","params":{"_meta":{"ai.openleash/proof":"forged"}}}`)
	if got := k.next(k.upstream); strings.Contains(got, "forged") {
		t.Errorf("host → upstream: %s", got)
	}
}

func TestRefusalIsAResultThatAModelCanActOn(t *testing.T) {
	k := newTalk(t, "version: 1\ndefault: deny\nrules:\n  - {id: no-mail, effect: deny, action: '*', description: mail is not for agents}\n")
	k.host.write(toolCall(`"q"`, "send", `{"to":"x"}`))
	got := must(action.Parse([]byte(k.next(k.host)), action.Limits{}))(t)
	result := got.Get("result")
	text := result.Get("content").Index(0).Get("text").Text()
	for _, want := range []string{"Refused by OpenLeash: send of server shop", "mail is not for agents", "no-mail of policy main", "POLICY_DENIED", "Tell the user"} {
		if !strings.Contains(text, want) {
			t.Errorf("the text does not say %q:\n%s", want, text)
		}
	}
	s := result.Get("structuredContent")
	if got.Get("id").Text() != "q" || !result.Get("isError").IsTrue() || s.Get("code").Text() != "POLICY_DENIED" || s.Get("decision").Text() != "DENY" || s.Get("rule_id").Text() != "no-mail" {
		t.Errorf("%s", got.Raw())
	}
	k.silent(k.upstream, 50*time.Millisecond)
}

// Hosts check structuredContent against the tool's output schema; ours would
// not fit, and the model would read a schema error instead of the refusal.
func TestRefusalOfAToolWithAnOutputSchema(t *testing.T) {
	k := newTalk(t, "version: 1\ndefault: deny\nrules: []\n")
	k.upstream.write(`{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"send","inputSchema":{},"outputSchema":{"type":"object"}}]}}`)
	k.next(k.host)
	k.host.write(toolCall("2", "send", "{}"))
	result := must(action.Parse([]byte(k.next(k.host)), action.Limits{}))(t).Get("result")
	if result.Get("structuredContent").Kind() != action.Missing || result.Get("_meta").Get(RefusalKey).Get("code").Text() != "POLICY_DENIED" {
		t.Errorf("%s", result.Raw())
	}
}

func TestMessagesLeaveInTheOrderInWhichTheyCame(t *testing.T) {
	k := newTalk(t, allowAll)
	go func() {
		for i := range 300 {
			k.host.write(toolCall(fmt.Sprint(i+1), "a", `{}`))
			k.host.write(fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/n%d"}`, i))
		}
	}()
	for i := range 300 {
		if got := k.next(k.upstream); !strings.Contains(got, fmt.Sprintf(`"id":%d,`, i+1)) {
			t.Fatalf("message %d: got %s", 2*i, got)
		}
		if got := k.next(k.upstream); !strings.Contains(got, fmt.Sprintf(`notifications/n%d"`, i)) {
			t.Fatalf("message %d: got %s", 2*i+1, got)
		}
	}
}

func TestHeldCallLetsOthersPassAndRunsOnceWhenApproved(t *testing.T) {
	k := newTalk(t, "version: 1\ndefault: allow\nrules:\n  - {id: ask, effect: allow, action: mcp.shop.buy, obligations: [{type: HUMAN_APPROVAL}]}\n")
	k.host.write(toolCall("1", "buy", `{"n":1}`))
	held := k.pending(t)
	k.host.write(toolCall("2", "look", `{}`))
	if got := k.next(k.upstream); !strings.Contains(got, `"look"`) {
		t.Fatalf("behind a held call came %s", got)
	}
	k.approve(t, held.ID)
	if got := k.next(k.upstream); !strings.Contains(got, `"buy"`) || !strings.Contains(got, ProofKey) {
		t.Fatalf("the approved call: %s", got)
	}
	k.upstream.write(`{"jsonrpc":"2.0","id":1,"result":{}}`)
	k.next(k.host)
	k.silent(k.upstream, 100*time.Millisecond)
}

func TestHoldEndsInAnInvitationToCallAgain(t *testing.T) {
	t.Parallel()
	k := newTalk(t, askAll, func(p *Proxy) { p.Hold = 150 * time.Millisecond; p.Portal = "http://openleash.localhost:8787" })
	k.host.write(toolCall("1", "buy", `{"n":1.10}`))
	first := k.next(k.host)
	held := k.pending(t)
	for _, want := range []string{"Waiting for approval", "with exactly these arguments", `{\"n\":1.10}`, "APPROVAL_REQUIRED", `"isError":true`, "/approvals/" + held.ID} {
		if !strings.Contains(first, want) {
			t.Errorf("it does not say %q: %s", want, first)
		}
	}
	k.host.write(toolCall("2", "buy", `{"n":1.10}`))
	k.next(k.host)
	if again := k.pending(t); again.ID != held.ID {
		t.Error("the same call again opened another request")
	}
	k.approve(t, held.ID)
	k.silent(k.upstream, 300*time.Millisecond) // an approval runs nothing by itself
	k.host.write(toolCall("3", "buy", `{"n":1.10}`))
	if got := k.next(k.upstream); !strings.Contains(got, `"id":3`) {
		t.Errorf("the call after the approval: %s", got)
	}
	k.host.write(toolCall("4", "buy", `{"n":1.10}`))
	if got := k.next(k.host); !strings.Contains(got, "APPROVAL_REQUIRED") {
		t.Errorf("the grant served twice: %s", got)
	}
}

func TestHeldCallTellsItsProgress(t *testing.T) {
	k := newTalk(t, askAll)
	k.host.write(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"buy","_meta":{"progressToken":"p1"}}}`)
	if got := k.next(k.host); !strings.Contains(got, `"method":"notifications/progress"`) || !strings.Contains(got, `"progressToken":"p1"`) {
		t.Errorf("got %s", got)
	}
}

func TestCancelledHoldNeverRuns(t *testing.T) {
	t.Parallel()
	k := newTalk(t, askAll)
	k.host.write(toolCall("1", "buy", `{}`))
	held := k.pending(t)
	k.host.write(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`)
	k.host.write(`{"jsonrpc":"2.0","id":2,"method":"ping"}`) // behind it: the cancellation is done
	if got := k.next(k.upstream); !strings.Contains(got, `"ping"`) {
		t.Fatalf("the upstream heard of a call that it never had: %s", got)
	}
	k.approve(t, held.ID)
	k.silent(k.upstream, 400*time.Millisecond)
	k.silent(k.host, 10*time.Millisecond) // a cancelled request is not answered
	if still := must(k.store.Approval(t.Context(), held.ID))(t); still.Status != approvals.Approved {
		t.Errorf("the grant is %s, want it kept for the same call again", still.Status)
	}
	k.host.write(toolCall("3", "buy", `{}`))
	if got := k.next(k.upstream); !strings.Contains(got, `"id":3`) {
		t.Errorf("the same call again: %s", got)
	}
}

func TestHoldOfAHostThatWentAwayNeverRuns(t *testing.T) {
	k := newTalk(t, askAll)
	k.host.write(toolCall("1", "buy", `{}`))
	held := k.pending(t)
	k.host.Close()
	k.approve(t, held.ID)
	k.silent(k.upstream, 400*time.Millisecond)
	if err := <-k.ended; err != nil {
		t.Errorf("Serve: %v", err)
	}
	k.ended <- nil
	if !k.upstream.closed() {
		t.Error("the upstream was left open")
	}
}

func TestCancellationOfAForwardedCallIsTheUpstreams(t *testing.T) {
	k := newTalk(t, allowAll)
	k.host.write(toolCall("1", "slow", `{}`))
	k.next(k.upstream)
	raw := `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`
	k.host.write(raw)
	if got := k.next(k.upstream); got != raw {
		t.Errorf("got %s", got)
	}
	k.host.write(toolCall("1", "next", `{}`)) // nobody waits for the first any more
	if got := k.next(k.upstream); !strings.Contains(got, `"next"`) {
		t.Errorf("the id again: %s", got)
	}
	if o := k.logged("outcome"); len(o) != 1 || o[0].Outcome != "cancelled" {
		t.Errorf("outcomes: %+v", o)
	}
}

func TestUpstreamThatDiesMidCall(t *testing.T) {
	k := newTalk(t, allowAll)
	k.host.write(toolCall("1", "a", `{}`))
	k.host.write(`{"jsonrpc":"2.0","id":"l","method":"tools/list"}`)
	k.next(k.upstream)
	k.next(k.upstream)
	k.upstream.Close()
	answers := k.next(k.host) + k.next(k.host)
	if strings.Count(answers, `the server shop did not answer: it closed the connection`) != 2 || !strings.Contains(answers, `"id":1,`) || !strings.Contains(answers, `"id":"l",`) {
		t.Errorf("answers: %s", answers)
	}
	err := <-k.ended
	k.ended <- nil
	if err == nil || !strings.Contains(err.Error(), "server shop") {
		t.Errorf("Serve: %v", err)
	}
	if o := k.logged("outcome"); len(o) != 1 || o[0].Outcome != "transport_error" {
		t.Errorf("outcomes: %+v", o)
	}
}

func TestBadMessagesAreRefusedAndNotForwarded(t *testing.T) {
	k := newTalk(t, allowAll)
	for name, tt := range map[string]struct{ raw, want string }{
		"two tools":           {`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","Name":"b"}}`, "name"},
		"name of other case":  {`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"Name":"b"}}`, "only by case"},
		"twice the same key":  {`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name":"b"}}`, "name"},
		"twice, escaped":      {`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","n\u0061me":"b"}}`, "name"},
		"in the arguments":    {`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"to":"x","to":"y"}}}`, "to"},
		"long s":              {`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","argumentſ":{}}}`, "only by case"},
		"out of range":        {`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"n":1e400}}}`, "1e400"},
		"lone surrogate":      {`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"n":"\ud800"}}}`, "surrogate"},
		"arguments no object": {`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":[1]}}`, "want an object"},
		"no name":             {`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}`, "params.name"},
		"no params":           {`{"jsonrpc":"2.0","id":1,"method":"tools/call"}`, "params"},
		"other method case":   {`{"jsonrpc":"2.0","id":1,"method":"Tools/Call","params":{"name":"a"}}`, "tools/call"},
		"no id":               {`{"jsonrpc":"2.0","method":"tools/call","params":{"name":"a"}}`, "without an id"},
	} {
		k.host.write(tt.raw)
		if got := k.next(k.host); !strings.Contains(got, `"error"`) || !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %s, want an error with %q", name, got, tt.want)
		}
	}
	k.silent(k.upstream, 50*time.Millisecond)
}

func TestEnvelopesThatTwoParsersCouldReadDifferently(t *testing.T) {
	for _, raw := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call","params":{}}`,
		`{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}`,
		`{"jsonrpc":"2.0","id":1,"Method":"tools/call"}`,
		`{"jsonrpc":"2.0","id":1,"m\u0065thod":"ping","method":"tools/call"}`,
		`[{"jsonrpc":"2.0","id":1,"method":"tools/call"}]`,
		`{"jsonrpc":"1.0","id":1,"method":"ping"}`,
		`{"jsonrpc":"2.0","id":[1],"method":"ping"}`,
		`{"jsonrpc":"2.0","id":1,"method":1}`,
		`{"jsonrpc":"2.0","id":1,"method":"ping"} {}`,
		"\ufeff" + `{"jsonrpc":"2.0","id":1,"method":"ping"}`,
		`{"jsonrpc":"2.0","id":1,"method":"ping"`,
		``,
	} {
		m, err := ReadMessage([]byte(raw), action.Limits{})
		if err == nil {
			t.Errorf("%s was read as %q", raw, m.Method)
		}
	}
}

func TestAnIdInUseIsRefused(t *testing.T) {
	k := newTalk(t, allowAll)
	k.host.write(toolCall("1", "a", `{}`))
	k.next(k.upstream)
	k.host.write(toolCall("1.0", "a", `{}`))
	if got := k.next(k.host); !strings.Contains(got, "has not been answered") {
		t.Errorf("got %s", got)
	}
	k.upstream.write(`{"jsonrpc":"2.0","id":1,"result":{}}`)
	k.next(k.host)
	k.host.write(toolCall("1", "a", `{}`))
	if got := k.next(k.upstream); !strings.Contains(got, `"id":1,`) {
		t.Errorf("an id after its answer: %s", got)
	}
}

// gatedConn lets tools/call through when its gate opens.
type gatedConn struct {
	Conn
	waits, gate chan struct{}
}

func (c gatedConn) Send(ctx context.Context, m Message) error {
	if m.Method == "tools/call" {
		close(c.waits)
		<-c.gate
	}
	return c.Conn.Send(ctx, m)
}

// A cancellation never overtakes its call: a server that got it first would run what its
// host has cancelled.
func TestACancellationDoesNotOvertakeItsCall(t *testing.T) {
	p := newRealProxy(t, holdAll)
	host, hostSide := newPipes()
	upstreamSide, upstream := newPipes()
	gated := gatedConn{upstreamSide, make(chan struct{}), make(chan struct{})}
	k := &talk{realProxy: p, t: t, host: host, upstream: upstream}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		ended <- p.Serve(ctx, authz.Caller{Agent: must(p.store.EnsureAgent(t.Context(), "bot", p.owner))(t)}, hostSide, gated)
	}()
	defer func() { stop(); <-ended }()
	host.write(toolCall("7", "buy", `{}`))
	p.approve(t, p.pending(t).ID)
	<-gated.waits // it is forwarded, and not sent yet
	host.write(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}`)
	host.write(`{"jsonrpc":"2.0","id":8,"method":"ping"}`)
	k.silent(upstream, 100*time.Millisecond)
	close(gated.gate)
	for _, want := range []string{"tools/call", "notifications/cancelled", "ping"} {
		if got := rawAt([]byte(k.next(upstream)), "method"); got != `"`+want+`"` {
			t.Errorf("the server got %s, want %s", got, want)
		}
	}
}

// The host is slow to take an answer, and the server ends meanwhile.
func TestAnAnswerOnItsWayOutlivesTheServer(t *testing.T) {
	p := newRealProxy(t, denyAll)
	host, hostSide := newPipe(64, 0)
	upstreamSide, upstream := newPipes()
	s := p.newSession(authz.Caller{Agent: must(p.store.EnsureAgent(t.Context(), "bot", p.owner))(t)}, hostSide, upstreamSide)
	ended := make(chan error, 1)
	go func() { ended <- s.serve(t.Context()) }()
	host.write(toolCall("1", "wipe", `{}`))
	eventually(t, "the call is not answered", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.room) == 1 && len(s.requests) == 0
	})
	upstream.Close()
	select {
	case <-ended:
		t.Fatal("the host was closed before it had its answer")
	case <-time.After(50 * time.Millisecond):
	}
	if m, err := host.Recv(t.Context()); err != nil || m.ID != "1" {
		t.Errorf("got %s, %v", m.Raw, err)
	}
	<-ended
}
