package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
)

// waitingWire is a wire whose calls are held for as long as hold. It knows its tool,
// and does not ask for it.
func waitingWire(t *testing.T, kind pair, hold time.Duration) *wire {
	t.Helper()
	return newWire(t, kind, askAll, func(p *Proxy) {
		p.Hold, p.Portal = hold, "http://openleash.localhost:8787"
		p.learnTools([]byte(`{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"buy","inputSchema":{}},{"name":"sell","inputSchema":{}}]}}`))
	})
}

// probedOnce answers the question for the server's era, which a shared upstream is
// asked at its start.
func (w *wire) probedOnce() {
	w.t.Helper()
	if w.pair != (pair{"http", "stdio"}) {
		return
	}
	if got := w.up.next(); got != probe {
		w.t.Fatalf("the probe: %s", got)
	}
	w.up.write(`{"jsonrpc":"2.0","id":` + probeID + `,"result":{}}`)
}

// response is the next response, whatever else comes before.
func (e *end) response() []byte {
	e.t.Helper()
	for {
		if got := []byte(e.next()); rawAt(got, "method") == "" {
			return got
		}
	}
}

// modern is a call of the stateless era; more is put behind its params.
func modern(id int, more string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{%s,%s%s}}`, id, buyTea, strings.ReplaceAll(metas, "¶", fmt.Sprint(id)), more)
}

// asUp is what the upstream must get of a call, without our proof: a shared one sees
// ids of ours.
func (w *wire) asUp(said, got string) string {
	if w.pair != (pair{"http", "stdio"}) {
		return said
	}
	m := message(w.t, said)
	id := rawAt([]byte(got), "id")
	return strings.Replace(strings.Replace(said, `"id":`+m.ID, `"id":`+id, 1), `"progressToken":`+m.ID, `"progressToken":`+id, 1)
}

// leg checks a result that has the host come back, and returns what it adds to its
// params then.
func leg(t *testing.T, answer []byte) string {
	t.Helper()
	return legOf(t, answer, authz.ApprovalRequired)
}

func legOf(t *testing.T, answer []byte, why authz.Code) string {
	t.Helper()
	state := rawAt(answer, "result", "requestState")
	if rawAt(answer, "result", "resultType") != `"input_required"` || rawAt(answer, "result", "inputRequests") != "{}" || !strings.HasPrefix(state, `"openleash.wait.`) ||
		rawAt(answer, "result", "_meta", RefusalKey, "code") != `"`+string(why)+`"` {
		t.Fatalf("want a result that wants input, and none in particular, got %s", answer)
	}
	return `, "requestState" : ` + state
}

func code(answer []byte) string {
	return strings.Trim(rawAt(answer, "result", "structuredContent", "code"), `"`)
}

// One call, three messages, one approval, one run, and the server's own bytes.
func TestWireLegs(t *testing.T) {
	t.Parallel()
	for _, kind := range pairs {
		t.Run(kind.String(), func(t *testing.T) {
			w := waitingWire(t, kind, 50*time.Millisecond)
			w.host.write(modern(1, ""))
			w.probedOnce()
			first := leg(t, w.host.response())
			w.host.write(modern(2, first+`,"inputResponses":{}`))
			second := leg(t, w.host.response())
			if first == second {
				t.Error("both legs have the same state")
			}
			w.Hold = patience
			w.host.write(modern(3, second))
			w.decisions(t, 3)
			w.up.silent(50 * time.Millisecond) // it waits
			w.approve(t, w.pending(t).ID)
			got := w.up.next()
			if want := w.asUp(modern(3, ""), got); unproved(got) != want {
				t.Errorf("the server got\n%s, want\n%s", got, want)
			}
			w.up.write(resultOf(message(t, got), `{"content":[],"resultType":"complete"}`))
			if answer := w.host.response(); rawAt(answer, "result", "resultType") != `"complete"` {
				t.Errorf("the host got %s", answer)
			}
			for i, spent := range []string{first, second} { // again: it neither runs nor asks
				w.host.write(modern(4+i, spent))
				if answer := w.host.response(); code(answer) != "ALREADY_RUN" {
					t.Errorf("a state that was used: %s", answer)
				}
			}
			w.up.silent(50 * time.Millisecond)
			w.requests(t, 1)
		})
	}
}

// Clients fail when they are sent away too often in a row: then it is the model's turn.
func TestWireLegsEnd(t *testing.T) {
	for _, kind := range pairs {
		t.Run(kind.String(), func(t *testing.T) {
			w := waitingWire(t, kind, time.Millisecond)
			w.host.write(modern(1, ""))
			w.probedOnce()
			state := ""
			for i := range authz.MaxLegs {
				state = leg(t, w.host.response())
				w.host.write(modern(2+i, state))
			}
			if answer := w.host.response(); code(answer) != "APPROVAL_REQUIRED" || rawAt(answer, "result", "resultType") != `"complete"` || rawAt(answer, "result", "structuredContent", "attempts") != "1" {
				t.Errorf("at the end: %s", answer)
			}
			w.host.write(modern(9, "")) // the model calls again
			leg(t, w.host.response())
			w.up.silent(20 * time.Millisecond)
			w.requests(t, 1)
		})
	}
}

func TestWireLegOfADeniedCall(t *testing.T) {
	t.Parallel()
	for _, kind := range pairs {
		t.Run(kind.String(), func(t *testing.T) {
			w := waitingWire(t, kind, 50*time.Millisecond)
			w.host.write(modern(1, ""))
			w.probedOnce()
			more := leg(t, w.host.response())
			w.Hold = patience
			w.host.write(modern(2, more))
			w.decisions(t, 2)
			must(w.Service.Answer(t.Context(), "test:alice", w.pending(t).ID, false, "not on a Sunday"))(t)
			if answer := w.host.response(); code(answer) != "APPROVAL_DENIED" || !strings.Contains(string(answer), "not on a Sunday") {
				t.Errorf("got %s", answer)
			}
			w.up.silent(100 * time.Millisecond)
		})
	}
}

// Over stdio a notification cancels a leg, over HTTP the end of its stream: an
// approval that comes later runs nothing, and is kept for the same call.
func TestWireCancelledLegNeverRuns(t *testing.T) {
	t.Parallel()
	for _, kind := range pairs {
		t.Run(kind.String(), func(t *testing.T) {
			w := waitingWire(t, kind, 50*time.Millisecond)
			w.host.write(modern(1, ""))
			w.probedOnce()
			more := leg(t, w.host.response())
			w.Hold = 10 * time.Second
			if kind.host == "stdio" {
				w.host.write(modern(2, more))
				w.decisions(t, 2)
				w.host.write(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}`)
			} else {
				raw := modern(2, more)
				ctx, hangUp := context.WithCancel(t.Context())
				gone := make(chan struct{})
				go func() {
					defer close(gone)
					if res, err := send(ctx, "POST", w.toHost.url, raw, w.toHost.headers(message(t, raw))...); err == nil {
						io.Copy(io.Discard, res.Body)
						res.Body.Close()
					}
				}()
				w.decisions(t, 2)
				hangUp()
				<-gone
			}
			w.idle(t)
			held := w.pending(t)
			w.approve(t, held.ID)
			w.up.silent(400 * time.Millisecond)
			if r := must(w.store.Approval(t.Context(), held.ID))(t); r.Status != approvals.Approved {
				t.Errorf("the grant is %s, want it kept", r.Status)
			}
			w.host.write(modern(3, more))
			if got := w.up.next(); unproved(got) != w.asUp(modern(3, ""), got) {
				t.Errorf("the same call again: %s", got)
			}
		})
	}
}

// idle waits until nothing of the host is on its way any more.
func (w *wire) idle(t *testing.T) {
	t.Helper()
	switch h := w.door.(type) {
	case *passthrough:
		eventually(t, "a call is on its way", func() bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			return len(h.calls) == 0
		})
	case *HTTPSessions:
		eventually(t, "a request is not answered", func() bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			for _, u := range h.shared {
				u.conn.mu.Lock()
				defer u.conn.mu.Unlock()
				if len(u.conn.posts) > 0 {
					return false
				}
			}
			return true
		})
	}
	time.Sleep(100 * time.Millisecond)
}

// decisions waits until so many decisions were made.
func (p realProxy) decisions(t *testing.T, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("there are not %d decisions", n), func() bool { return len(p.entries(t, "decision")) >= n })
}

// What the host has told the server already, or the server the host, is there again
// when the call is forwarded.
func TestWireLegsOfARound(t *testing.T) {
	t.Parallel()
	for _, kind := range pairs {
		for name, own := range map[string]string{
			"the server's own":       `"st\u00e9\/\ud83d\ude00"`,
			"an empty one":           `""`,
			"one of a spent round":   `"openleash.round.QLDKUGY3UKVYSKRMAMYLRONLJG:st\u00e9"`,
			"a round without state":  `"openleash.round.QLDKUGY3UKVYSKRMAMYLRONLJG"`,
			"a leg of somebody else": `"openleash.round.:openleash.wait.1.2.a.b:x"`,
		} {
			t.Run(kind.String()+", "+name, func(t *testing.T) {
				w := waitingWire(t, kind, 100*time.Millisecond)
				w.host.write(modern(1, `, "requestState" : `+own))
				w.probedOnce()
				first := leg(t, w.host.response())
				if !strings.HasSuffix(first, ":"+own[1:]) {
					t.Errorf("it does not bring back %s: %s", own, first)
				}
				w.host.write(modern(2, first))
				second := leg(t, w.host.response())
				w.approve(t, w.pending(t).ID)
				w.host.write(modern(3, second))
				got := w.up.next()
				want := strings.TrimPrefix(own, `"openleash.round.QLDKUGY3UKVYSKRMAMYLRONLJG`)
				switch {
				case want == `"`:
					want = ""
				case want != own:
					want = `, "requestState" : "` + want[1:]
				default:
					want = `, "requestState" : ` + strings.Replace(own, "openleash.round.:", "", 1)
				}
				if want = w.asUp(modern(3, want), got); unproved(got) != want {
					t.Errorf("the server got\n%s, want\n%s", got, want)
				}
			})
		}
	}
}

// Answers to the server come in one message: a host that came back would not bring
// them again.
func TestAnswersToTheServerAreNotSentAwayInLegs(t *testing.T) {
	w := waitingWire(t, pairs[0], 50*time.Millisecond)
	raw := modern(1, `,"inputResponses":{"a":{"roots":[]}},"requestState":"s"`)
	w.host.write(raw)
	if answer := w.host.response(); code(answer) != "APPROVAL_REQUIRED" {
		t.Errorf("got %s", answer)
	}
	w.approve(t, w.pending(t).ID)
	w.pass(w.host, w.up, raw, raw)
}

// A state that is not good is none: the call asks, and the server never sees it.
func TestLegThatIsNotGood(t *testing.T) {
	for name, break_ := range map[string]func(state string) string{
		"tampered": func(s string) string {
			at, other := len(s)-10, "A" // in the signature
			if s[at:at+1] == other {
				other = "B"
			}
			return s[:at] + other + s[at+1:]
		},
		"counted down": func(s string) string {
			return strings.Replace(s, "openleash.wait.1.", "openleash.wait.0.", 1)
		},
		"cut":     func(s string) string { return s[:len(s)-20] + `"` },
		"made up": func(string) string { return `, "requestState" : "openleash.wait.1.99999999999999.x.y"` },
	} {
		t.Run(name, func(t *testing.T) {
			w := waitingWire(t, pairs[0], 20*time.Millisecond)
			w.host.write(modern(1, ""))
			w.host.write(modern(2, break_(leg(t, w.host.response()))))
			if again := leg(t, w.host.response()); !strings.Contains(again, "openleash.wait.1.") {
				t.Errorf("it counts on: %s", again)
			}
			w.up.silent(20 * time.Millisecond)
			w.approve(t, w.pending(t).ID)
			w.host.write(modern(3, break_(`, "requestState" : "openleash.wait.1.99999999999999.abcdefghijklmnopqrstuvwxyz.abcdefghijklmnopqrstuvwxyz"`)))
			if got := unproved(w.up.next()); got != modern(3, "") {
				t.Errorf("the server got %s", got)
			}
		})
	}
}

// With another's arguments, or another agent's, a state is worth nothing.
func TestLegOfAnotherCall(t *testing.T) {
	w := waitingWire(t, pair{"http", "http"}, 20*time.Millisecond)
	w.host.write(modern(1, ""))
	state := leg(t, w.host.response())
	w.approve(t, w.pending(t).ID)
	other := newHTTPHost(t, w.as(t, "other", w.door).URL)
	other.write(modern(2, state))
	leg(t, other.response())
	w.host.write(strings.Replace(modern(3, state), `"item":"tea"`, `"item":"gold"`, 1))
	leg(t, w.host.response())
	w.host.write(strings.Replace(modern(4, state), `"name":"buy"`, `"name":"sell"`, 1))
	leg(t, w.host.response())
	w.up.silent(50 * time.Millisecond)
	w.requests(t, 4)
}

// With a client that others wrote, which is told to come back and does: it neither
// fails nor notices.
func TestLegsOfTheirClient(t *testing.T) {
	t.Parallel()
	doors := map[string]func(t *testing.T, p realProxy, up string) transport.Interface{
		"pass-through": func(t *testing.T, p realProxy, up string) transport.Interface {
			return must(transport.NewStreamableHTTP(p.as(t, "bot", p.HTTPPassthrough(HTTPUpstream{URL: up})).URL))(t)
		},
		"sessions": func(t *testing.T, p realProxy, up string) transport.Interface {
			h := p.HTTPHost(func(ctx context.Context, _ authz.Caller) (Conn, error) {
				return DialHTTP(ctx, HTTPUpstream{Name: "shop", URL: up})
			})
			t.Cleanup(func() { h.Close() })
			return must(transport.NewStreamableHTTP(p.as(t, "bot", h).URL))(t)
		},
		"stdio": func(t *testing.T, p realProxy, up string) transport.Interface {
			near, far := wirePipes(t)
			who := authz.Caller{Agent: must(p.store.EnsureAgent(t.Context(), "bot", p.owner))(t)}
			conn := must(DialHTTP(t.Context(), HTTPUpstream{Name: "shop", URL: up}))(t)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				p.Serve(t.Context(), who, StdioHost(near.r, near.w, p.Limits), conn)
			}()
			t.Cleanup(func() { far.w.Close(); <-ended })
			return transport.NewIO(far.r, far.w, io.NopCloser(strings.NewReader("")))
		},
	}
	for door, open := range doors {
		t.Run(door, func(t *testing.T) {
			s := server.NewMCPServer("their", "1", server.WithToolCapabilities(false))
			var states []string
			s.AddTool(mcp.NewTool("deploy"), func(_ context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				states = append(states, r.Params.RequestState)
				return mcp.NewToolResultText("deployed"), nil
			})
			up := httptest.NewServer(server.NewStreamableHTTPServer(s, server.WithStateLess(true)))
			t.Cleanup(up.Close)
			p := newRealProxy(t, askAll)
			p.Hold = 20 * time.Millisecond
			c := client.NewClient(open(t, p, up.URL))
			if err := c.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			info := must(c.Initialize(t.Context(), mcp.InitializeRequest{Params: mcp.InitializeParams{ClientInfo: mcp.Implementation{Name: "t", Version: "1"}}}))(t)
			if info.ProtocolVersion != "2026-07-28" {
				t.Fatalf("they speak %s", info.ProtocolVersion)
			}
			call := mcp.CallToolRequest{Params: mcp.CallToolParams{Name: "deploy", Arguments: map[string]any{"to": "x"}}}
			waits := must(c.CallTool(t.Context(), call))(t) // in vain
			if !waits.IsError || len(p.entries(t, "decision")) != authz.MaxLegs+1 {
				t.Fatalf("after %d decisions: %+v", len(p.entries(t, "decision")), waits)
			}
			p.Hold = 1500 * time.Millisecond
			go func() { // in the second leg of the next
				for len(p.entries(t, "decision")) < authz.MaxLegs+3 && t.Context().Err() == nil {
					time.Sleep(5 * time.Millisecond)
				}
				list, err := p.store.Approvals(t.Context(), p.owner.ID, approvals.Pending, 1)
				if err == nil && len(list) == 1 {
					p.Service.Answer(t.Context(), "test:alice", list[0].ID, true, "")
				}
			}()
			got := must(c.CallTool(t.Context(), call))(t)
			if text, _ := mcp.AsTextContent(got.Content[0]); got.IsError || text == nil || text.Text != "deployed" {
				t.Errorf("got %+v", got)
			}
			if fmt.Sprintf("%q", states) != `[""]` {
				t.Errorf("the server ran with the states %q", states)
			}
			p.requests(t, 1)
		})
	}
}

// handshake is begin with what the host can do.
func (w *wire) handshake(capabilities string) *wire {
	w.t.Helper()
	raw := strings.Replace(initialize, `"capabilities":{}`, `"capabilities":`+capabilities, 1)
	w.pass(w.host, w.up, raw, raw)
	w.pass(w.up, w.host, hello, hello)
	w.pass(w.host, w.up, initialized, initialized)
	if w.toHost != nil {
		w.toHost.listen()
	}
	if w.toUp != nil {
		<-w.toUp.listening
	}
	return w
}

const opensPages = `{"elicitation":{"url":{}}}`

// A host that can open pages gets ours, hears when it was answered, and calls again.
func TestWirePage(t *testing.T) {
	t.Parallel()
	for _, kind := range pairs {
		for _, approve := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, %v", kind, approve), func(t *testing.T) {
				w := waitingWire(t, kind, 50*time.Millisecond).handshake(opensPages)
				if kind == (pair{"http", "http"}) {
					w.listened(t)
				}
				said := toolCall("1", "buy", `{"n":1.10}`)
				w.host.write(said)
				answer := w.host.response()
				held := w.pending(t)
				page := rawAt(answer, "error", "data", "elicitations")
				want := `[{"mode":"url","elicitationId":"` + held.ID + `","url":"http://openleash.localhost:8787/approvals/` + held.ID + `","message":`
				if rawAt(answer, "error", "code") != "-32042" || !strings.HasPrefix(page, want) || rawAt(answer, "error", "data", RefusalKey, "code") != `"APPROVAL_REQUIRED"` {
					t.Fatalf("got %s", answer)
				}
				w.host.write(toolCall("2", "buy", `{"n":1.10}`)) // too early: it is not sent to the page twice
				if answer := w.host.response(); code(answer) != "APPROVAL_REQUIRED" || rawAt(answer, "result", "structuredContent", "attempts") != "2" {
					t.Errorf("again: %s", answer)
				}
				must(w.Service.Answer(t.Context(), "test:alice", held.ID, approve, ""))(t)
				if got, want := w.host.next(), `{"jsonrpc":"2.0","method":"notifications/elicitation/complete","params":{"elicitationId":"`+held.ID+`"}}`; got != want {
					t.Fatalf("got %s, want %s", got, want)
				}
				said = toolCall("3", "buy", `{"n":1.10}`)
				if !approve {
					w.host.write(said)
					if answer := w.host.response(); code(answer) != "APPROVAL_DENIED" {
						t.Errorf("got %s", answer)
					}
					w.up.silent(50 * time.Millisecond)
					return
				}
				w.pass(w.host, w.up, said, said)
				theirs := `{"jsonrpc":"2.0","id":3,"error":{"code":-32042,"message":"go","data":{"elicitations":[{"mode":"url","elicitationId":"e\u0031","url":"https://x.example/","message":"m"}]}}}`
				w.pass(w.up, w.host, theirs, theirs) // a page of the server's own is its own
				w.host.write(toolCall("4", "buy", `{"n":1.10}`))
				w.host.response()
				w.up.silent(50 * time.Millisecond)
			})
		}
	}
}

// listened waits until the host's stream has reached us.
func (w *wire) listened(t *testing.T) {
	t.Helper()
	h := w.door.(*passthrough)
	eventually(t, "the host's stream is not noted", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.listeners) == 1
	})
}

// No page for who does not open any, cannot be told when it was answered, or has a
// better way; and nobody is ever asked in a form.
func TestWireNoPage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, capabilities string }{
		{"nothing declared", `{}`},
		{"forms by default", `{"elicitation":{}}`},
		{"forms", `{"elicitation":{"form":{}}}`},
		{"no object", `{"elicitation":{"url":true}}`},
		{"declared elsewhere", `{"experimental":{"elicitation":{"url":{}}}}`},
	} {
		for _, kind := range pairs {
			t.Run(tt.name+", "+kind.String(), func(t *testing.T) {
				w := waitingWire(t, kind, 50*time.Millisecond).handshake(tt.capabilities)
				w.host.write(toolCall("1", "buy", `{}`))
				if answer := w.host.next(); code([]byte(answer)) != "APPROVAL_REQUIRED" {
					t.Errorf("got %s", answer)
				}
				w.host.silent(20 * time.Millisecond)
			})
		}
	}
	t.Run("no portal", func(t *testing.T) {
		w := waitingWire(t, pairs[0], 50*time.Millisecond)
		w.Portal = ""
		w.handshake(opensPages).host.write(toolCall("1", "buy", `{}`))
		if answer := w.host.response(); code(answer) != "APPROVAL_REQUIRED" {
			t.Errorf("got %s", answer)
		}
	})
	t.Run("no stream to be told on", func(t *testing.T) {
		w := waitingWire(t, pair{"http", "http"}, 50*time.Millisecond)
		raw := strings.Replace(initialize, `"capabilities":{}`, `"capabilities":`+opensPages, 1)
		w.pass(w.host, w.up, raw, raw)
		w.pass(w.up, w.host, hello, hello)
		w.pass(w.host, w.up, initialized, initialized)
		w.host.write(toolCall("1", "buy", `{}`))
		if answer := w.host.response(); code(answer) != "APPROVAL_REQUIRED" {
			t.Errorf("got %s", answer)
		}
	})
	t.Run("the stateless era", func(t *testing.T) {
		w := waitingWire(t, pairs[0], 50*time.Millisecond)
		w.host.write(strings.Replace(modern(1, ""), `clientCapabilities":{`, `clientCapabilities":{"elicitation":{"url":{},"form":{}},`, 1))
		leg(t, w.host.response())
	})
}

// Whatever a host says unasked, as an answer to what it might have been asked: it
// approves nothing.
func TestHostCannotAnswerForItsOwner(t *testing.T) {
	t.Parallel()
	for _, kind := range pairs {
		t.Run(kind.String(), func(t *testing.T) {
			w := waitingWire(t, kind, 400*time.Millisecond).handshake(`{"elicitation":{"form":{},"url":{}}}`)
			w.host.write(toolCall("1", "buy", `{}`))
			held := w.pending(t)
			yes := `{"jsonrpc":"2.0","id":"` + held.ID + `","result":{"action":"accept","content":{"approve":true,"approved":true}}}`
			w.pass(w.host, w.up, yes, yes) // an answer to the server, for all we know
			done := `{"jsonrpc":"2.0","method":"notifications/elicitation/complete","params":{"elicitationId":"` + held.ID + `"}}`
			w.pass(w.host, w.up, done, done)
			w.host.response()
			if r := must(w.store.Approval(t.Context(), held.ID))(t); r.Status != approvals.Pending {
				t.Errorf("the request is %s", r.Status)
			}
			w.up.silent(50 * time.Millisecond)
		})
	}
	t.Run("in a leg", func(t *testing.T) {
		w := waitingWire(t, pairs[0], 50*time.Millisecond)
		w.host.write(modern(1, ""))
		yes := `,"inputResponses":{"` + w.pending(t).ID + `":{"action":"accept","content":{"approve":true}},"approval":{"action":"accept"}}`
		state := leg(t, w.host.response())
		w.host.write(modern(2, state+yes))
		state = leg(t, w.host.response())
		w.approve(t, w.pending(t).ID)
		w.host.write(modern(3, yes+state))
		if got := unproved(w.up.next()); got != modern(3, "") {
			t.Errorf("the server got what it has not asked for: %s", got)
		}
	})
}

// listens has a client open the stream for what is said unasked.
func listens() transport.StreamableHTTPCOption {
	//lint:ignore SA1019 the newest revision has no such stream; hosts of those before it are told by it
	return transport.WithContinuousListening()
}

// With a client that others wrote, over the transport before Streamable HTTP too.
func TestPageForTheirClient(t *testing.T) {
	t.Parallel()
	s := server.NewMCPServer("their", "1", server.WithToolCapabilities(false))
	runs := 0
	s.AddTool(mcp.NewTool("deploy"), func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		runs++
		return mcp.NewToolResultText("deployed"), nil
	})
	up := httptest.NewServer(server.NewStreamableHTTPServer(s))
	t.Cleanup(up.Close)
	for name, open := range map[string]func(t *testing.T, p realProxy, h *HTTPSessions) transport.Interface{
		"streamable": func(t *testing.T, p realProxy, h *HTTPSessions) transport.Interface {
			return must(transport.NewStreamableHTTP(p.as(t, "bot", h).URL, listens()))(t)
		},
		"pass-through": func(t *testing.T, p realProxy, _ *HTTPSessions) transport.Interface {
			return must(transport.NewStreamableHTTP(p.as(t, "bot", p.HTTPPassthrough(HTTPUpstream{URL: up.URL})).URL, listens()))(t)
		},
		"sse": func(t *testing.T, p realProxy, h *HTTPSessions) transport.Interface {
			who := authz.Caller{Agent: must(p.store.EnsureAgent(t.Context(), "bot", p.owner))(t)}
			return must(transport.NewSSE(sseDoor(t, who, h)))(t)
		},
	} {
		t.Run(name, func(t *testing.T) {
			runs = 0
			p := newRealProxy(t, askAll)
			p.Hold, p.Portal = 50*time.Millisecond, "http://openleash.localhost:8787"
			h := p.HTTPHost(func(ctx context.Context, _ authz.Caller) (Conn, error) {
				return DialHTTP(ctx, HTTPUpstream{Name: "shop", URL: up.URL})
			})
			t.Cleanup(func() { h.Close() })
			c := client.NewClient(open(t, p, h))
			complete := make(chan string, 1)
			c.OnNotification(func(n mcp.JSONRPCNotification) {
				if id, ok := n.Params.AdditionalFields["elicitationId"].(string); ok && n.Method == "notifications/elicitation/complete" {
					complete <- id
				}
			})
			if err := c.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			must(c.Initialize(t.Context(), mcp.InitializeRequest{Params: mcp.InitializeParams{ProtocolVersion: "2025-11-25", ClientInfo: mcp.Implementation{Name: "t", Version: "1"},
				Capabilities: mcp.ClientCapabilities{Elicitation: &mcp.ElicitationCapability{URL: &struct{}{}}}}}))(t)
			if name == "pass-through" {
				time.Sleep(300 * time.Millisecond) // its stream is being opened
			}
			call := mcp.CallToolRequest{Params: mcp.CallToolParams{Name: "deploy", Arguments: map[string]any{"to": "x"}}}
			_, err := c.CallTool(t.Context(), call)
			var required mcp.URLElicitationRequiredError
			if !errors.As(err, &required) || len(required.Elicitations) != 1 || required.Elicitations[0].URL != p.Portal+"/approvals/"+p.pending(t).ID {
				t.Fatalf("got %v, %+v", err, required)
			}
			p.approve(t, p.pending(t).ID)
			select {
			case id := <-complete:
				if id != required.Elicitations[0].ElicitationID {
					t.Errorf("it hears of %q", id)
				}
			case <-time.After(patience):
				t.Fatal("it is not told that the page was answered")
			}
			got := must(c.CallTool(t.Context(), call))(t)
			if text, _ := mcp.AsTextContent(got.Content[0]); got.IsError || text == nil || text.Text != "deployed" || runs != 1 {
				t.Errorf("ran %d times, got %+v", runs, got)
			}
		})
	}
}

// Where several servers are behind one address, the page is that of the one server's
// call, and what it says comes by the same way.
func TestAggregatePage(t *testing.T) {
	t.Parallel()
	p := newRealProxy(t, askAll)
	p.Hold, p.Portal = 50*time.Millisecond, "http://openleash.localhost:8787"
	who := authz.Caller{Agent: must(p.store.EnsureAgent(t.Context(), "bot", p.owner))(t)}
	c := gathered(t, &talk{realProxy: p, t: t}, who, map[string]played{"shop": {}, "mail": {}})
	c.host.write(strings.Replace(initialize, `"capabilities":{}`, `"capabilities":`+opensPages, 1))
	c.next(c.host)
	c.host.write(initialized)
	c.host.write(toolCall("1", "shop__buy", `{"n":1}`))
	answer := []byte(c.next(c.host))
	held := p.pending(t)
	if rawAt(answer, "error", "code") != "-32042" || !strings.Contains(string(answer), p.Portal+"/approvals/"+held.ID) {
		t.Fatalf("got %s", answer)
	}
	p.approve(t, held.ID)
	if got := c.next(c.host); !strings.Contains(got, "notifications/elicitation/complete") || !strings.Contains(got, held.ID) {
		t.Errorf("got %s", got)
	}
	c.host.write(toolCall("2", "shop__buy", `{"n":1}`))
	if got := c.next(c.host); got != `{"jsonrpc":"2.0","id":2,"result":{"did":"tools/call","by":"shop"}}` {
		t.Errorf("got %s", got)
	}
}

// The model is told to go on at once, and after a while to leave it to its user.
func TestModelIsToldToAskItsUser(t *testing.T) {
	k := newTalk(t, askAll, func(p *Proxy) { p.Hold, p.Portal = time.Millisecond, "http://openleash.localhost:8787" })
	at := func(n int, arguments string) []byte {
		k.host.write(toolCall(fmt.Sprint(n), "buy", arguments))
		return []byte(k.next(k.host))
	}
	for n := 1; n <= enough+2; n++ {
		answer := at(n, `{"n":1.10}`)
		text, _ := stringAt(answer, "result", "structuredContent", "next")
		patient := strings.Contains(text, `say "continue"`) && strings.Contains(text, "Stop calling") && strings.Contains(text, "http://openleash.localhost:8787/approvals/"+k.pending(t).ID)
		if now := strings.Contains(text, "again now"); now != (n < enough) || patient != (n >= enough) {
			t.Errorf("time %d: %s", n, text)
		}
		if rawAt(answer, "result", "structuredContent", "attempts") != fmt.Sprint(n) || rawAt(answer, "result", "structuredContent", "arguments") != `{"n":1.10}` || rawAt(answer, "result", "isError") != "true" {
			t.Errorf("time %d: %s", n, answer)
		}
	}
	if answer := at(50, `{"n":2}`); rawAt(answer, "result", "structuredContent", "attempts") != "1" {
		t.Errorf("another call: %s", answer)
	}
	for _, r := range k.requests(t, 2) {
		k.approve(t, r.ID)
	}
	k.host.write(toolCall("60", "buy", `{"n":1.10}`))
	if got := k.next(k.upstream); !strings.Contains(got, `"id":60`) {
		t.Errorf("after the approval: %s", got)
	}
}

func TestAwayIsBounded(t *testing.T) {
	var a away
	for i := range 3 * maxAway {
		a.again(fmt.Sprint(i))
	}
	if len(a.count) > maxAway || a.again("x") != 1 || a.again("x") != 2 {
		t.Errorf("%d are counted", len(a.count))
	}
}

// A held call over HTTP shows that somebody is there, also without a progress token,
// where the host takes events. What it is answered then is the last of them.
func TestHeldCallShowsLife(t *testing.T) {
	t.Parallel()
	legacy := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{` + buyTea + `}}`
	stateless := strings.Replace(modern(1, ""), `,"progressToken":1`, "", 1)
	read := strings.NewReplacer(`"method":"tools/call"`, `"method":"resources/read"`, buyTea, `"uri":"x:y"`)
	for _, tt := range []struct {
		name string
		kind pair
		raw  string
	}{
		{"pass-through", pair{"http", "http"}, legacy},
		{"pass-through, stateless", pair{"http", "http"}, stateless},
		{"pass-through, a resource", pair{"http", "http"}, read.Replace(stateless)},
		{"sessions", pair{"http", "stdio"}, legacy},
		{"shared", pair{"http", "stdio"}, stateless},
		{"sessions, a resource", pair{"http", "stdio"}, read.Replace(legacy)},
	} {
		for _, events := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, events %v", tt.name, events), func(t *testing.T) {
				w := newWire(t, tt.kind, "version: 1\ndefault: deny\nrules:\n  - {id: ask, effect: allow, action: 'mcp.*', obligations: [{type: HUMAN_APPROVAL}]}\n", func(p *Proxy) {
					p.tellEvery = 30 * time.Millisecond
					p.learnTools([]byte(`{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"buy","inputSchema":{}}]}}`))
				})
				if s, ok := w.door.(*HTTPSessions); ok {
					s.keepAlive = 30 * time.Millisecond
				}
				withHandshake := tt.raw == legacy || tt.raw == read.Replace(legacy)
				if withHandshake {
					w.begin()
				}
				accept := typeJSON
				if events {
					accept += ", " + typeSSE
				}
				answered := make(chan *http.Response, 1)
				go func() {
					m := message(t, tt.raw)
					if res, err := send(t.Context(), "POST", w.toHost.url, tt.raw, append(w.toHost.headers(m), "Accept", accept)...); err == nil {
						answered <- res
					}
				}()
				if !withHandshake {
					w.probedOnce()
				}
				held := w.pending(t)
				var res *http.Response
				if events {
					res = <-answered
					in := bufio.NewReader(res.Body)
					for range 3 {
						for _, want := range []string{": \n", "\n"} {
							if line, err := in.ReadString('\n'); err != nil || line != want {
								t.Fatalf("got %q, %v", line, err)
							}
						}
					}
				} else {
					time.Sleep(150 * time.Millisecond)
				}
				w.approve(t, held.ID)
				got := w.up.next()
				w.up.write(`{"jsonrpc":"2.0","id":` + rawAt([]byte(got), "id") + `,"error":{"code":-32601,"message":"no"}}`)
				if !events {
					res = <-answered
				}
				defer res.Body.Close()
				body := string(must(io.ReadAll(res.Body))(t))
				want := `{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}`
				status := http.StatusOK
				switch {
				case events:
					want = "data: " + want + "\n\n"
				case tt.name == "shared":
					status = http.StatusNotFound // "it MUST respond with 404 Not Found"
				}
				if !strings.HasSuffix(body, want) || res.StatusCode != status || strings.HasPrefix(res.Header.Get("Content-Type"), typeSSE) != events || !events && body != want {
					t.Errorf("got %s, %q, %q", res.Status, res.Header.Get("Content-Type"), body)
				}
			})
		}
	}
}

// An answer before the first sign of life keeps its status: nothing has begun.
func TestHeldCallKeepsItsStatus(t *testing.T) {
	w := waitingWire(t, pair{"http", "stdio"}, 10*time.Second)
	raw := modern(1, "")
	raw = strings.Replace(raw, `,"progressToken":1`, "", 1)
	answered := make(chan httpReply, 1)
	go func() { answered <- post(t, w.toHost.url, raw, w.toHost.headers(message(t, raw))...) }()
	w.probedOnce()
	w.approve(t, w.pending(t).ID)
	got := w.up.next()
	w.up.write(`{"jsonrpc":"2.0","id":` + rawAt([]byte(got), "id") + `,"error":{"code":-32601,"message":"no"}}`)
	if res := <-answered; res.Status != http.StatusNotFound {
		t.Errorf("got %d, %s", res.Status, res.Body)
	}
}
