package proxy

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/proof"
)

// results are what servers answer, each with what a host gets: R stands for the receipt.
var results = map[string]string{
	`{"content":[{"n":9007199254740993,"p":1.10}]}`: `{"_meta":{"ai.openleash/receipt":"R"},"content":[{"n":9007199254740993,"p":1.10}]}`,
	`{ "content":[], "_meta":{"x/y":"\u00e9"}}`:     `{ "content":[], "_meta":{"ai.openleash/receipt":"R","x/y":"\u00e9"}}`,
	`{"_meta":{}}`:     `{"_meta":{"ai.openleash/receipt":"R"}}`,
	`{}`:               `{"_meta":{"ai.openleash/receipt":"R"}}`,
	`{"isError":true}`: `{"_meta":{"ai.openleash/receipt":"R"},"isError":true}`,
	// What a server puts there itself is no receipt.
	`{"a":1,"_meta":{"ai.openleash/receipt":"forged"}}`: `{"a":1,"_meta":{"ai.openleash/receipt":"R"}}`,
	// Nobody could say which of two members is meant, and what is no object has no room.
	`{"a":1,"A":2}`:           `{"a":1,"A":2}`,
	`{"_meta":{"a":1,"A":2}}`: `{"_meta":{"a":1,"A":2}}`,
	`{"_meta":null}`:          `{"_meta":null}`,
	`"done"`:                  `"done"`,
}

// receipted holds a response against what it should be, and verifies its receipt.
func (p realProxy) receipted(t *testing.T, result, want, response string) {
	t.Helper()
	got := rawAt([]byte(response), "result")
	token, _ := stringAt([]byte(response), "result", "_meta", ReceiptKey)
	if got != strings.ReplaceAll(want, `"R"`, `"`+token+`"`) {
		t.Errorf("%s became %s", result, got)
	}
	if !strings.Contains(want, `"R"`) {
		return
	}
	r, err := proof.VerifyResult([]byte(response), p.keys(t))
	if err != nil {
		t.Errorf("%s: %v", response, err)
		return
	}
	outcome := "ok"
	if strings.Contains(result, `"isError":true`) {
		outcome = "tool_error"
	}
	if r.Outcome != outcome || r.Server != "shop" || r.CallHash == "" || r.DecisionID == "" {
		t.Errorf("%s: %+v", result, r)
	}
	for _, e := range p.entries(t, "outcome") {
		if e.DecisionID == r.DecisionID {
			if e.Outcome != r.Outcome || e.ResultHash != r.ResultHash && !strings.Contains(result, "forged") || e.ActionHash != r.ActionHash {
				t.Errorf("the log says %+v, the receipt %+v", e, r)
			}
			return
		}
	}
	t.Errorf("the outcome is not in the log when its receipt is there: %+v", r)
}

func TestReceiptsOfASession(t *testing.T) {
	k := newTalk(t, allowAll, func(p *Proxy) { p.Receipts = true })
	for result, want := range results {
		k.host.write(toolCall("1", "buy", `{}`))
		k.next(k.upstream)
		k.upstream.write(`{"jsonrpc":"2.0","id":1,"result":` + result + `}`)
		k.receipted(t, result, want, k.next(k.host))
	}
	k.host.write(toolCall("1", "buy", `{}`))
	k.next(k.upstream)
	k.upstream.write(`{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"no"}}`)
	if got := k.next(k.host); got != `{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"no"}}` {
		t.Errorf("an error became %s", got)
	}
	k.host.write(`{"jsonrpc":"2.0","id":1,"method":"ping"}`)
	k.next(k.upstream)
	k.upstream.write(`{"jsonrpc":"2.0","id":1,"result":{}}`)
	if got := k.next(k.host); got != `{"jsonrpc":"2.0","id":1,"result":{}}` {
		t.Errorf("what was not decided on became %s", got)
	}
}

func TestNoReceiptsByDefault(t *testing.T) {
	k := newTalk(t, allowAll)
	k.host.write(toolCall("1", "buy", `{}`))
	k.next(k.upstream)
	k.upstream.write(`{"jsonrpc":"2.0","id":1,"result":{}}`)
	if got := k.next(k.host); got != `{"jsonrpc":"2.0","id":1,"result":{}}` {
		t.Errorf("it became %s", got)
	}
}

// Over HTTP: our own sessions, and what is passed through, whole or as a stream.
func TestReceiptsOverHTTP(t *testing.T) {
	for result, want := range results {
		p := newRealProxy(t, allowAll)
		p.Receipts = true
		response := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"result":%s}`, result)

		up := newRawUpstream(t, answerJSON(response))
		got := post(t, p.as(t, "a", p.HTTPPassthrough(HTTPUpstream{URL: up.URL})).URL, buyCall)
		p.receipted(t, result, want, got.Body)
		if length := got.Header.Get("Content-Length"); length != fmt.Sprint(len(got.Body)) {
			t.Errorf("%d bytes, Content-Length %s", len(got.Body), length)
		}

		up = newRawUpstream(t, func(w http.ResponseWriter, _ *http.Request, body string) {
			if strings.Contains(body, "tools/call") {
				sse(w, "id: 1\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"n\"}\n\n", "id: 2\ndata: "+response+"\n\n")
				return
			}
			io.WriteString(w, "{}")
		})
		next, _ := openStream(t, "POST", p.as(t, "a", p.HTTPPassthrough(HTTPUpstream{URL: up.URL})).URL, buyCall)
		next()
		p.receipted(t, result, want, next())

		h, _ := sessionsOf(t, p.Proxy, func(c *pipeConn, m Message) {
			switch m.Method {
			case "initialize":
				c.write(hello)
			case "tools/call":
				c.write(response)
			default:
				c.write(`{"jsonrpc":"2.0","id":` + m.ID + `,"result":{}}`)
			}
		})
		url := p.as(t, "a", h).URL
		p.receipted(t, result, want, post(t, url, buyCall, "Mcp-Session-Id", begin(t, url)).Body)
	}
}

// Of all servers at one address, and of what a rule of several messages adds.
func TestReceiptsOfAll(t *testing.T) {
	p := newRealProxy(t, allowAll)
	p.Receipts = true
	who := authz.Caller{Agent: must(p.store.EnsureAgent(t.Context(), "bot", p.owner))(t)}
	c := gathered(t, &talk{realProxy: p, t: t}, who, map[string]played{"shop": {answers: map[string]string{
		"tools/call": `{"content":[]}`, "tools/list": `{"tools":[{"name":"buy","inputSchema":{}}]}`,
	}}})
	c.host.write(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`)
	c.next(c.host)
	c.host.write(toolCall("1", "shop__buy", `{}`))
	p.receipted(t, `{"content":[]}`, `{"_meta":{"ai.openleash/receipt":"R"},"content":[]}`, c.next(c.host))
}

// Hosts of the newer protocol get the receipt of the result as they see it, which is not
// how it came when their next message may run without asking again.
func TestReceiptOfAMessageThatWantsInput(t *testing.T) {
	k := newTalk(t, askAll, func(p *Proxy) { p.Receipts = true })
	k.host.write(toolCall("1", "buy", `{}`))
	k.approve(t, k.pending(t).ID)
	k.next(k.upstream)
	k.upstream.write(`{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","requestState":"s"}}`)
	response := k.next(k.host)
	if state, _ := stringAt([]byte(response), "result", "requestState"); !strings.HasPrefix(state, roundPrefix) {
		t.Errorf("its state is %q", state)
	}
	if _, err := proof.VerifyResult([]byte(response), k.keys(t)); err != nil {
		t.Error(err)
	}
	if _, err := proof.VerifyResult([]byte(strings.Replace(response, "input_required", "input_Required", 1)), k.keys(t)); !errors.Is(err, proof.ErrResult) {
		t.Error(err)
	}
}

// What comes of a held call through a task has no receipt: the host gets it in an answer
// of ours.
func TestNoReceiptOfATask(t *testing.T) {
	p := newRealProxy(t, askAll)
	p.Receipts = true
	h, _, id := approvedTask(t, p, atStdio)
	if raw := h.become(id, "completed"); !strings.Contains(string(raw), "done plainly") || strings.Contains(string(raw), ReceiptKey) {
		t.Errorf("%s", raw)
	}
}
