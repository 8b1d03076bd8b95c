package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
)

// inquirer is a server over HTTP that asks twice before it does what it was
// called for. It goes on only from exactly the requestState that it gave.
type inquirer struct {
	*rawUpstream
	mu     sync.Mutex
	events bool     // it answers with a stream of events
	states []string // JSON texts, or "" for none; one for each time it asks
	runs   int      // how often it did it
}

var oddStates = []string{`"st\u00e9\ud83d\ude00\/\" <&>\u2028é"`, `""`}

func newInquirer(t *testing.T, events bool, states ...string) *inquirer {
	q := &inquirer{events: events, states: states}
	q.rawUpstream = newRawUpstream(t, func(w http.ResponseWriter, r *http.Request, body string) {
		id := rawAt([]byte(body), "id")
		answer := `{"jsonrpc":"2.0","id":` + id + `,"result":` + q.answer(body) + `}`
		if q.events {
			sse(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}\n\n", "id: 7\ndata: "+answer+"\n\n")
			return
		}
		w.Header().Set("Content-Type", typeJSON)
		io.WriteString(w, answer)
	})
	return q
}

func (q *inquirer) answer(body string) string {
	q.mu.Lock()
	defer q.mu.Unlock()
	ask := 0 // how often it has asked
	if rawAt([]byte(body), "params", "inputResponses") != "" {
		ask = 1
		for ask <= len(q.states) && rawAt([]byte(body), "params", "requestState") != q.states[ask-1] {
			ask++
		}
		if ask > len(q.states) {
			return `{"content":[],"isError":true,"resultType":"complete","structuredContent":{"unknown state":true}}`
		}
	}
	if ask == len(q.states) {
		q.runs++
		return `{"content":[{"type":"text","text":"done"}],"resultType":"complete"}`
	}
	return wantsMore(q.states[ask])
}

// wantsMore is a result that wants input.
func wantsMore(state string) string {
	if state != "" {
		state = `"requestState":` + state + `,`
	}
	return `{ ` + state + `"inputRequests":{"a":{"method":"roots/list","params":{"n":1.10}}},"resultType":"input_required","x":{"y":1.10}}`
}

// inRounds is a proxy with an inquirer behind it, and what agent bot says.
type inRounds struct {
	realProxy
	t   *testing.T
	up  *inquirer
	url string
	id  int
}

func newInRounds(t *testing.T, p realProxy, up *inquirer) *inRounds {
	p.Hold = 50 * time.Millisecond
	return &inRounds{realProxy: p, t: t, up: up, url: p.as(t, "bot", p.HTTPPassthrough(HTTPUpstream{URL: up.URL})).URL}
}

const buyTea = `"name":"buy","arguments":{"item":"tea","n":1.10}`

// say sends a request of an agent and returns the response.
func (r *inRounds) say(method, params string) []byte {
	r.t.Helper()
	r.id++
	res := post(r.t, r.url, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"%s","params":{%s}}`, r.id, method, params))
	if res.Header.Get("Content-Type") != typeSSE {
		return []byte(res.Body)
	}
	events, err := readEvents(strings.NewReader(res.Body), 1<<20)
	if err != io.EOF || len(events) == 0 {
		r.t.Fatalf("%v, %q", err, res.Body)
	}
	return []byte(events[len(events)-1].Data)
}

// call is a call of buy; further is the next message of one that was answered so.
func (r *inRounds) call() []byte { r.t.Helper(); return r.say("tools/call", buyTea) }

func (r *inRounds) further(answer []byte) []byte {
	r.t.Helper()
	return r.say("tools/call", buyTea+again(answer))
}

// again are the params that a host adds, from what it was answered.
func again(answer []byte) string {
	state := rawAt(answer, "result", "requestState")
	if state != "" {
		state = `,"requestState":` + state
	}
	return `,"inputResponses":{"a":{"roots":[]}}` + state
}

// granted is the answer to a call that was approved.
func (r *inRounds) granted() []byte {
	r.t.Helper()
	r.asks("the first call", r.call())
	r.approve(r.t, r.pending(r.t).ID)
	answer := r.call()
	if rawAt(answer, "result", "resultType") != `"input_required"` {
		r.t.Fatalf("the approved call: %s", answer)
	}
	return answer
}

// asks wants that an approval was asked for and the server was not.
func (r *inRounds) asks(what string, answer []byte) {
	r.t.Helper()
	if rawAt(answer, "result", "structuredContent", "code") != `"APPROVAL_REQUIRED"` && rawAt(answer, "error", "data", "code") != `"APPROVAL_REQUIRED"` {
		r.t.Errorf("%s: want that it needs an approval, got %s", what, answer)
	}
}

func (r *inRounds) runs(want int) {
	r.t.Helper()
	r.up.mu.Lock()
	defer r.up.mu.Unlock()
	if r.up.runs != want {
		r.t.Errorf("the server has done it %d times, want %d", r.up.runs, want)
	}
}

func (p realProxy) requests(t *testing.T, want int) []approvals.Request {
	t.Helper()
	list := must(p.store.Approvals(t.Context(), p.owner.ID, "", 0))(t)
	if len(list) != want {
		t.Fatalf("there are %d requests, want %d: %+v", len(list), want, list)
	}
	return list
}

// One approval, one call, three messages.
func TestRoundsOfAnApprovedCall(t *testing.T) {
	t.Parallel()
	for name, events := range map[string]bool{"JSON": false, "events": true} {
		for _, states := range [][]string{oddStates, {"", `"b"`}, {`"a"`, ""}, {`"openleash.round.AAAA:x"`, `"\u006fpenleash.round.:"`}} {
			t.Run(fmt.Sprint(name, states), func(t *testing.T) {
				r := newInRounds(t, newRealProxy(t, askAll), newInquirer(t, events, states...))
				answer := r.granted()
				for n, state := range states {
					wrapped := rawAt(answer, "result", "requestState")
					token, own, ours := unwrapRound(jsonString(wrapped))
					if !ours || len(token) != 26 || own != state {
						t.Fatalf("round %d: the requestState is %s", n+2, answer)
					}
					was, is := state, wrapped // and nothing beside it
					if state == "" {
						is = `"requestState":` + wrapped + `,`
					}
					if got := strings.Replace(string(answer), is, was, 1); got != fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"result":%s}`, r.id, wantsMore(state)) {
						t.Errorf("the answer became %s", answer)
					}
					answer = r.further(answer)
				}
				if got := rawAt(answer, "result", "content"); got != `[{"type":"text","text":"done"}]` {
					t.Fatalf("the last answer: %s", answer)
				}
				r.runs(1)
				request := r.requests(t, 1)[0]
				var named int
				for _, e := range r.entries(t, "decision") {
					if *e.Decision == "ALLOW" && *e.ActionType == "mcp.shop.buy" {
						if named++; e.ApprovalID != request.ID || e.Approver != "test:alice" || e.ActionHash != request.ActionHash.String() || e.ProofKID == nil {
							t.Errorf("logged: %+v", e)
						}
					}
				}
				if named != 3 || request.Rounds != 2 {
					t.Errorf("%d messages ran by the approval, and it knows of %d more after the first", named, request.Rounds)
				}
			})
		}
	}
}

func TestRoundIsNotReplayed(t *testing.T) {
	t.Parallel()
	for _, events := range []bool{false, true} {
		r := newInRounds(t, newRealProxy(t, askAll), newInquirer(t, events, oddStates...))
		first := r.granted()
		second := r.further(first)
		r.asks("the first state, while the second is open", r.further(first))
		r.runs(0)
		r.further(second)
		r.runs(1)
		for n, answer := range [][]byte{first, second} {
			r.asks(fmt.Sprintf("state %d, afterwards", n+1), r.further(answer))
		}
		r.runs(1)
		// The same message again by its own approval: the server gets its own state.
		list := r.requests(t, 2)
		r.approve(t, list[0].ID)
		r.further(second)
		r.runs(2)
	}
}

func TestRoundIsNobodyElses(t *testing.T) {
	r := newInRounds(t, newRealProxy(t, askAll), newInquirer(t, false, `"a"`))
	answer := r.granted()
	bot := r.url
	r.url = r.as(t, "other", r.HTTPPassthrough(HTTPUpstream{URL: r.up.URL})).URL
	r.asks("another agent", r.further(answer))
	r.url = bot
	r.asks("other arguments", r.say("tools/call", `"name":"buy","arguments":{"item":"coffee","n":1.10}`+again(answer)))
	r.asks("another tool", r.say("tools/call", `"name":"sell","arguments":{"item":"tea","n":1.10}`+again(answer)))
	r.runs(0)
	r.further(answer)
	r.runs(1)
	r.requests(t, 4)
}

func TestPolicyIsAskedInEachRound(t *testing.T) {
	dir := t.TempDir()
	r := newInRounds(t, realProxyAt(t, dir, askAll), newInquirer(t, false, `"a"`))
	answer := r.granted()
	seen := len(r.up.requests())
	deny := "version: 1\ndefault: require_approval\nrules:\n  - {id: stop, effect: deny, action: mcp.shop.buy}\n"
	if err := os.WriteFile(filepath.Join(dir, "policies", "main.yaml"), []byte(deny), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the policy is read again", func() bool {
		return rawAt(r.say("tools/call", `"name":"buy","arguments":{}`), "result", "structuredContent", "code") == `"POLICY_DENIED"`
	})
	if got := r.further(answer); rawAt(got, "result", "structuredContent", "code") != `"POLICY_DENIED"` {
		t.Errorf("got %s", got)
	}
	if n := len(r.up.requests()); n != seen {
		t.Errorf("the server was asked %d times more", n-seen)
	}
}

func TestRoundExpires(t *testing.T) {
	var later atomic.Int64
	p := realProxyAt(t, t.TempDir(), askAll, func(c *authz.Config) {
		c.Now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	})
	r := newInRounds(t, p, newInquirer(t, false, `"a"`, `"b"`))
	answer := r.granted()
	later.Store(int64(59 * time.Minute))
	answer = r.further(answer)
	if rawAt(answer, "result", "resultType") != `"input_required"` {
		t.Fatalf("after 59 minutes: %s", answer)
	}
	later.Store(int64((59 + 60) * time.Minute))
	r.asks("an hour after the second", r.further(answer))
	r.runs(0)
}

// The process may end between the messages.
func TestRoundOutlivesTheProcess(t *testing.T) {
	dir, up := t.TempDir(), newInquirer(t, false, oddStates...)
	before := newInRounds(t, realProxyAt(t, dir, askAll), up)
	answer := before.granted()
	before.Service.Close()
	before.store.Close()
	after := newInRounds(t, realProxyAt(t, dir, askAll), up)
	after.further(after.further(answer))
	after.runs(1)
	after.requests(t, 1)
}

// A server that writes what we write grants nothing, and gets back what it wrote,
// whoever approved what.
func TestSpoofedState(t *testing.T) {
	t.Parallel()
	spoofs := []string{`"openleash.round.AAAAAAAAAAAAAAAAAAAAAAAAAA:own"`, `"openleash.round.AAAAAAAAAAAAAAAAAAAAAAAAAA"`, `"\u006fpenleash.round.A:\u00e9"`, `"openleash.round.:"`}
	for _, spoof := range spoofs {
		r := newInRounds(t, newRealProxy(t, allowAll), newInquirer(t, false, spoof))
		answer := r.further(r.call())
		if r.runs(1); rawAt(answer, "result", "content") == "" {
			t.Errorf("%s: %s", spoof, answer)
		}
		r = newInRounds(t, newRealProxy(t, askAll), newInquirer(t, false, spoof))
		answer = r.granted()
		r.asks(spoof, r.say("tools/call", buyTea+`,"inputResponses":{},"requestState":`+spoof)) // a host that takes ours off
		r.further(answer)
		r.runs(1)
	}
	// One that looks like ours and is not is left as it is.
	for _, other := range []string{`"openleash.round."`, `"openleash.round.a:x"`, `"openleash.round.A.B:x"`, `"OPENLEASH.round.A:x"`, `"` + roundPrefix + strings.Repeat("A", maxToken+1) + `:x"`} {
		r := newInRounds(t, newRealProxy(t, allowAll), newInquirer(t, false, other))
		answer := r.call()
		if rawAt(answer, "result", "requestState") != other {
			t.Errorf("%s became %s", other, answer)
		}
		r.further(answer)
		r.runs(1)
	}
}

// A host may write a string in other ways, and its members in another order.
func TestHostWritesTheStateAnew(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ state, params, want string }{
		{`"a\u00e9"`, `"requestState":"\u006f§","inputResponses":{},¶`, `"requestState":"aé","inputResponses":{},¶`},
		{`"a\u00e9"`, `¶,"inputResponses":{},"\u0072equestState" : "o§"`, `¶,"inputResponses":{},"\u0072equestState" : "a\u00e9"`},
		{``, `"requestState" : "o§" , ¶,"inputResponses":{}`, ` ¶,"inputResponses":{}`},
		{``, `¶ , "\u0072equestState":"o§","inputResponses":{}`, `¶ ,"inputResponses":{}`},
		{``, `"inputResponses":{},¶ , "requestState":"o§" `, `"inputResponses":{},¶  `},
	} {
		r := newInRounds(t, newRealProxy(t, askAll), newInquirer(t, false, c.state))
		text, _ := stringAt(r.granted(), "result", "requestState")
		text = strings.ReplaceAll(strings.TrimPrefix(text, "o"), "é", `\u00e9`)
		r.say("tools/call", fill(c.params, text, buyTea))
		seen := r.up.requests()
		if got := unproved(seen[len(seen)-1].body); got != fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{%s}}`, r.id, fill(c.want, "", buyTea)) {
			t.Errorf("%s: the server got %s", c.params, got)
		}
		r.requests(t, 1)
	}
}

func TestStateThatCanBeReadInTwoWaysIsRefused(t *testing.T) {
	r := newInRounds(t, newRealProxy(t, askAll), newInquirer(t, false, `"a"`))
	state := rawAt(r.granted(), "result", "requestState")
	seen := len(r.up.requests())
	for _, method := range []string{"tools/call", "prompts/get", "resources/read"} {
		for _, more := range []string{
			`"requestState":` + state + `,"requestState":"x"`,
			`"requestState":` + state + `,"RequestState":"x"`,
			`"RequestState":` + state,
			`"request\u0053tate":` + state + `,"requestState":` + state,
			`"inputResponses":{},"inputResponses":{}`,
			`"InputResponses":{},"requestState":` + state,
			`"requestState":"\ud800"`,
		} {
			if got := r.say(method, buyTea+","+more); rawAt(got, "error", "code") != "-32602" {
				t.Errorf("%s, %s: %s", method, more, got)
			}
		}
	}
	if n := len(r.up.requests()); n != seen {
		t.Errorf("the server was asked %d times more", n-seen)
	}
}

// What is no tool call and needs an approval is one call in its rounds as well.
func TestRoundsOfOpenRequests(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ method, actionType, params string }{
		{"resources/read", "mcp.shop.resource.read", `"uri":"file:///a"`},
		{"prompts/get", "mcp.shop.prompt.get", `"name":"greet","arguments":{"who":"b"}`},
	} {
		r := newInRounds(t, newRealProxy(t, ruleAbout("allow", c.actionType, held)), newInquirer(t, false, oddStates...))
		r.asks(c.method, r.say(c.method, c.params))
		r.approve(t, r.pending(t).ID)
		answer := r.say(c.method, c.params)
		for range oddStates {
			first := answer
			answer = r.say(c.method, c.params+again(answer))
			r.asks(c.method+", a replay", r.say(c.method, c.params+again(first)))
		}
		r.runs(1)
		r.asks(c.method+", another", r.say(c.method, `"uri":"file:///b","name":"other"`+again(answer)))
	}
}

// A request inside that is refused: the host never hears of the round.
func TestRefusedInputOpensNoRound(t *testing.T) {
	policy := "version: 1\ndefault: require_approval\nrules:\n  - {id: e, effect: deny, action: mcp.shop.elicitation}\n"
	up := newRawUpstream(t, func(w http.ResponseWriter, r *http.Request, body string) {
		answerJSON(strings.Replace(wants, `"id":5`, `"id":`+rawAt([]byte(body), "id"), 1))(w, r, body)
	})
	r := newInRounds(t, newRealProxy(t, policy), &inquirer{rawUpstream: up})
	r.call()
	r.approve(t, r.pending(t).ID)
	if got := r.call(); rawAt(got, "error", "code") != "-32010" || strings.Contains(string(got), roundPrefix) {
		t.Errorf("got %s", got)
	}
	if got := r.requests(t, 1)[0]; got.Status != approvals.Redeemed || got.Round != (approvals.Round{}) {
		t.Errorf("%+v", got)
	}
}

// What a server says that is no InputRequiredResult, or not clearly one.
func TestNoRoundForOtherResults(t *testing.T) {
	t.Parallel()
	for _, result := range []string{
		`{"content":[],"requestState":"a","resultType":"complete"}`,
		`{"content":[],"requestState":"a","inputRequests":{}}`,
		`{"requestState":7,"inputRequests":{},"resultType":"input_required"}`,
		`{"requestState":"a","RequestState":"b","resultType":"input_required"}`,
		`{"RequestState":"b","resultType":"input_required"}`,
		`{"requestState":"a","requestState":"b","resultType":"input_required"}`,
		`["input_required"]`,
	} {
		up := newRawUpstream(t, func(w http.ResponseWriter, r *http.Request, body string) {
			answerJSON(`{"jsonrpc":"2.0","id":`+rawAt([]byte(body), "id")+`,"result":`+result+`}`)(w, r, body)
		})
		r := newInRounds(t, newRealProxy(t, askAll), &inquirer{rawUpstream: up})
		r.call()
		r.approve(t, r.pending(t).ID)
		if got := r.call(); rawAt(got, "result") != result {
			t.Errorf("%s became %s", result, got)
		}
		if got := r.requests(t, 1)[0]; got.Round != (approvals.Round{}) {
			t.Errorf("%s opened a round", result)
		}
	}
}

// A server that answers one call twice has one round.
func TestSecondAnswerOpensNoRound(t *testing.T) {
	up := newRawUpstream(t, func(w http.ResponseWriter, r *http.Request, body string) {
		answer := `data: {"jsonrpc":"2.0","id":` + rawAt([]byte(body), "id") + `,"result":{"resultType":"input_required","requestState":"a"}}` + "\n\n"
		sse(w, answer, answer)
	})
	r := newInRounds(t, newRealProxy(t, askAll), &inquirer{rawUpstream: up})
	r.call()
	r.approve(t, r.pending(t).ID)
	next, _ := openStream(t, "POST", r.url, `{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{`+buyTea+`}}`)
	first, second := next(), next()
	if !strings.Contains(first, roundPrefix) || rawAt([]byte(second), "result", "requestState") != `"a"` {
		t.Errorf("got %s and %s", first, second)
	}
}

// An answer that comes on a resumed stream is one like any other.
func TestRoundOnAResumedStream(t *testing.T) {
	p := newRealProxy(t, askAll)
	p.Hold = 50 * time.Millisecond
	up := newRawUpstream(t, func(w http.ResponseWriter, r *http.Request, body string) {
		switch {
		case r.Method == "GET":
			sse(w, "id: 2\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"resultType\":\"input_required\",\"requestState\":\"a\"}}\n\n")
		case strings.Contains(body, "initialize"):
			w.Header().Set("Mcp-Session-Id", "s")
			answerJSON(`{"jsonrpc":"2.0","id":0,"result":{}}`)(w, r, body)
		default:
			sse(w, "id: 1\ndata:\n\n")
		}
	})
	url := p.as(t, "a", p.HTTPPassthrough(HTTPUpstream{URL: up.URL})).URL
	post(t, url, `{"jsonrpc":"2.0","id":0,"method":"initialize"}`)
	post(t, url, buyCall, "Mcp-Session-Id", "s")
	p.approve(t, p.pending(t).ID)
	post(t, url, buyCall, "Mcp-Session-Id", "s")
	got := do(t, "GET", url, "", "Mcp-Session-Id", "s", "Last-Event-Id", "1")
	if list := p.requests(t, 1); list[0].Round == (approvals.Round{}) || !strings.Contains(got.Body, `"requestState":"`+roundPrefix) || !strings.Contains(got.Body, `:a"}}`) {
		t.Errorf("got %q and %+v", got.Body, list[0].Round)
	}
}

// What answers a server's question is no argument, so our prefix goes from there.
func TestOurPrefixInInputResponses(t *testing.T) {
	k := newTalk(t, allowAll)
	for _, method := range fromHost {
		raw := `{"jsonrpc":"2.0","id":1,"method":"` + method + `","params":{"name":"a","inputResponses":{"a":{"_meta":{"ai.openleash/x":1,"k":1}}}}}`
		k.host.write(raw)
		if got := unproved(k.next(k.upstream)); got != strings.Replace(raw, `"ai.openleash/x":1,`, "", 1) {
			t.Errorf("the server got %s", got)
		}
		k.upstream.write(`{"jsonrpc":"2.0","id":1,"result":{}}`)
		k.next(k.host)
	}
}

// noRounds is a store that cannot open any.
type noRounds struct{ authz.Store }

func (s noRounds) Commit(ctx context.Context, b authz.Batch) error {
	if b.OpenRound != nil {
		return errors.New("disk full")
	}
	return s.Store.Commit(ctx, b)
}

// Then the answer passes as it is, and the next message needs an approval.
func TestRoundThatCannotBeOpened(t *testing.T) {
	p := realProxyAt(t, t.TempDir(), askAll, func(c *authz.Config) { c.Store = noRounds{c.Store} })
	r := newInRounds(t, p, newInquirer(t, false, `"a"`))
	answer := r.granted()
	if rawAt(answer, "result", "requestState") != `"a"` {
		t.Errorf("got %s", answer)
	}
	r.asks("the next message", r.further(answer))
	r.runs(0)
}

// The same in each pair of transports, with the bytes of both sides in sight.
func TestWireRounds(t *testing.T) {
	t.Parallel()
	for _, kind := range pairs {
		t.Run(kind.String(), func(t *testing.T) {
			w := newWire(t, kind, askAll, func(p *Proxy) {
				p.Hold = 50 * time.Millisecond
				p.learnTools([]byte(`{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"buy","inputSchema":{}}]}}`)) // it is not to ask itself
			})
			meta := strings.ReplaceAll(metas, "¶", `"t"`)
			id := 0
			say := func(more string) string {
				id++
				raw := fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{%s,%s%s}}`, id, buyTea, meta, more)
				w.host.write(raw)
				return raw
			}
			refused := func() {
				t.Helper()
				for {
					got := []byte(w.host.next())
					if rawAt(got, "method") == "" {
						if !strings.Contains(string(got), "APPROVAL_REQUIRED") {
							t.Fatalf("got %s", got)
						}
						return
					}
				}
			}
			upID := func(got string) string { return rawAt([]byte(got), "id") }
			say("")
			if kind == (pair{"http", "stdio"}) {
				if got := w.up.next(); got != probe {
					t.Fatalf("the probe: %s", got)
				}
				w.up.write(`{"jsonrpc":"2.0","id":` + probeID + `,"result":{}}`)
			}
			refused()
			w.approve(t, w.pending(t).ID)
			said := say("")
			got := unproved(w.up.next())
			for _, state := range []string{`"requestState":"\ud83d\ude00\/é\u00e9",`, ``, `"requestState":"",`} {
				answer := fmt.Sprintf(`{"jsonrpc":"2.0","id":%%s,"result":{%s"inputRequests":{},"resultType":"input_required"}}`, state)
				w.up.write(fmt.Sprintf(answer, upID(got)))
				answered := []byte(w.host.next())
				ours := rawAt(answered, "result", "requestState")
				token, own, ok := unwrapRound(jsonString(ours))
				if !ok || token == "" {
					t.Fatalf("after %s: %s", said, answered)
				}
				if own != "" {
					own = `"requestState":` + own + `,`
				}
				if own != state || string(answered) != strings.Replace(fmt.Sprintf(answer, fmt.Sprint(id)), `"result":{`+state, `"result":{"requestState":`+ours+`,`, 1) {
					t.Errorf("the answer became %s", answered)
				}
				said = say(`,"inputResponses":{}, "requestState" : ` + ours)
				got = unproved(w.up.next())
				want := strings.Replace(said, `, "requestState" : `+ours, "", 1)
				if state != "" {
					want = strings.Replace(said, ours, strings.TrimSuffix(strings.TrimPrefix(state, `"requestState":`), ","), 1)
				}
				if kind == (pair{"http", "stdio"}) {
					want = strings.Replace(strings.Replace(want, fmt.Sprintf(`"id":%d`, id), `"id":`+upID(got), 1), `"progressToken":"t"`, `"progressToken":`+rawAt([]byte(got), "params", "_meta", "progressToken"), 1)
				}
				if got != want {
					t.Errorf("the server got\n%s, want\n%s", got, want)
				}
			}
			w.up.write(`{"jsonrpc":"2.0","id":` + upID(got) + `,"result":{"content":[],"resultType":"complete"}}`)
			w.host.next()
			w.host.write(strings.Replace(said, fmt.Sprintf(`"id":%d`, id), `"id":99`, 1))
			refused()
			w.up.silent(50 * time.Millisecond)
			if list := w.requests(t, 2); list[1].Rounds != 3 {
				t.Errorf("%+v", list)
			}
		})
	}
}

// With a client and a server that others wrote.
func TestRoundsBetweenTheirClientAndServer(t *testing.T) {
	s := server.NewMCPServer("their", "1", server.WithToolCapabilities(false), server.WithElicitation())
	var states []string
	s.AddTool(mcp.NewTool("deploy"), func(_ context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		states = append(states, r.Params.RequestState)
		if len(states) == 3 {
			return mcp.NewToolResultText("deployed"), nil
		}
		return server.NewInputRequestBuilder(fmt.Sprintf("<state %d> \u00e9", len(states))).
			Elicit("sure", mcp.ElicitationParams{Mode: mcp.ElicitationModeForm, Message: "Sure?", RequestedSchema: map[string]any{"type": "object"}}).ToolResult(), nil
	})
	up := httptest.NewServer(server.NewStreamableHTTPServer(s, server.WithStateLess(true)))
	t.Cleanup(up.Close)
	p := newRealProxy(t, askAll)
	url := p.as(t, "bot", p.HTTPPassthrough(HTTPUpstream{URL: up.URL})).URL
	tr := must(transport.NewStreamableHTTP(url))(t)
	c := client.NewClient(tr, client.WithElicitationHandler(yes{}))
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	info := must(c.Initialize(t.Context(), mcp.InitializeRequest{Params: mcp.InitializeParams{ClientInfo: mcp.Implementation{Name: "t", Version: "1"}}}))(t)
	if info.ProtocolVersion != "2026-07-28" {
		t.Fatalf("they speak %s", info.ProtocolVersion)
	}
	go func() {
		for {
			if list, err := p.store.Approvals(t.Context(), p.owner.ID, approvals.Pending, 1); err != nil || len(list) > 0 {
				if err == nil {
					p.Service.Answer(t.Context(), "test:alice", list[0].ID, true, "")
				}
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	got := must(c.CallTool(t.Context(), mcp.CallToolRequest{Params: mcp.CallToolParams{Name: "deploy", Arguments: map[string]any{"to": "x"}}}))(t)
	if text, _ := mcp.AsTextContent(got.Content[0]); text == nil || text.Text != "deployed" {
		t.Errorf("got %+v", got)
	}
	if fmt.Sprintf("%q", states) != `["" "<state 1> é" "<state 2> é"]` {
		t.Errorf("the server got %q", states)
	}
	p.requests(t, 1)
}

type yes struct{}

func (yes) Elicit(context.Context, mcp.ElicitationRequest) (*mcp.ElicitationResult, error) {
	return &mcp.ElicitationResult{ElicitationResponse: mcp.ElicitationResponse{Action: mcp.ElicitationResponseActionAccept, Content: map[string]any{}}}, nil
}

// FuzzRequestState holds the law of a requestState: with our part or without, a
// server gets back what it wrote, and what is not wrapped is not ours.
func FuzzRequestState(f *testing.F) {
	for _, s := range []string{`"a"`, `""`, `"st\u00e9\ud83d\ude00\/"`, `"openleash.round.A:x"`, `"openleash.round.:"`, `"\u006fpenleash.round.B"`, `"openleash.wait.1.2.a.b:x"`, `"openleash.wait.:x"`, `"openleash.round."`, `":"`} {
		f.Add([]byte(s), "AB7")
		f.Add([]byte(s), "")
	}
	f.Fuzz(func(t *testing.T, own []byte, token string) {
		v, err := action.Parse(own, anyMessage(own))
		if err != nil || v.Kind() != action.String || strings.Trim(token, roundLetters) != "" || len(token) > maxToken {
			return
		}
		written := string(v.Raw())
		response := []byte(`{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","requestState":` + written + `}}`)
		state, ok := inputRequired(response)
		if !ok {
			t.Fatalf("%s wants no input", response)
		}
		down := rawAt(state.wrap(response, token), "result", "requestState")
		request := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","requestState":` + down + `}}`
		c, err := readCall(message(t, request), anyMessage([]byte(request)))
		if err != nil {
			t.Fatalf("%s: %v", request, err)
		}
		if up := rawAt(c.withProof(""), "params", "requestState"); up != written || c.round != token {
			t.Fatalf("%s went down as %s and up as %s, with the token %q, want %q", written, down, up, c.round, token)
		}
	})
}

// FuzzRound holds the law of a call that a host says again: beside its
// requestState, and what is under our prefix, nothing of it changes, and no reader
// finds a second one.
func FuzzRound(f *testing.F) {
	for _, params := range []string{
		`"name":"a","requestState":"openleash.round.AB:x"`,
		`"requestState":"openleash.round.AB" , "name":"a"`,
		`"name":"a", "request\u0053tate" : "\u006fpenleash.round.AB"`,
		`"name":"a","_meta":{"ai.openleash/x":1},"requestState":"openleash.round.AB","arguments":{"requestState":"openleash.round.AB:x"}`,
		`"name":"a","inputResponses":{"requestState":"openleash.round.AB:x"}`,
		`"name":"a","requestState":7`,
		`"name":"a","requestState":"openleash.wait.1.2.a.b:x","inputResponses":{}`,
		`"inputResponses" : {}, "requestState" : "openleash.wait.1.2.a.b"`,
		`"requestState":"openleash.wait.1.2.a.b:openleash.round.AB:x","inputResponses":null,"name":"a"`,
		`"inputResponses":{},"name":"a","requestState":"openleash.wait.1.2.a.b:openleash.round.AB"`,
	} {
		for _, method := range fromHost {
			f.Add([]byte(`{"jsonrpc":"2.0","id":1,"method":"` + method + `","params":{` + params + `}}`))
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := ReadMessage(raw, anyMessage(raw))
		if governed, _ := isGoverned(m, fromHost); err != nil || !governed {
			return
		}
		c, err := readCall(m, anyMessage(raw))
		if err != nil {
			return
		}
		for _, proof := range []string{"", "p"} {
			checkRound(t, raw, c, proof)
		}
	})
}

func checkRound(t *testing.T, raw []byte, c call, proof string) {
	got := c.withProof(proof)
	before := must(action.Parse(raw, anyMessage(raw)))(t).Get("params")
	root, err := action.Parse(got, anyMessage(got))
	if err != nil {
		t.Fatalf("%q became %q: %v", raw, got, err)
	}
	after := root.Get("params")
	was, is := before.Get(requestState), after.Get(requestState)
	want, leg, round := string(was.Raw()), "", ""
	if token, inner, ours := unwrapLeg(was); ours {
		leg, want = token, inner
	}
	if token, inner, ours := unwrapRound(jsonString(want)); ours {
		round, want = token, inner
	}
	if string(is.Raw()) != want || c.round != round || c.leg != leg {
		t.Fatalf("%q became %q with the round %q, the leg %q", raw, got, c.round, c.leg)
	}
	if leg != "" && after.Get(inputResponses).Kind() != action.Missing {
		t.Fatalf("%q became %q: what answered us goes to the server", raw, got)
	}
	for key, v := range before.Members() {
		if key != requestState && key != "_meta" && (key != inputResponses || leg == "") && !mayHoldOurs(v.Raw()) && string(after.Get(key).Raw()) != string(v.Raw()) {
			t.Fatalf("%q became %q: %s changed", raw, got, key)
		}
	}
	if after.Get("_meta").Get(ProofKey).Text() != proof {
		t.Fatalf("%q became %q, without the proof", raw, got)
	}
}
