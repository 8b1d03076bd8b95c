package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

const (
	initialize  = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`
	initialized = `{"jsonrpc":"2.0","method":"notifications/initialized"}`
	hello       = `{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"s","version":"1"}}}`
)

func dialHTTP(t *testing.T, url string) Conn {
	t.Helper()
	c := must(DialHTTP(t.Context(), HTTPUpstream{Name: "shop", URL: url}))(t)
	t.Cleanup(func() { c.Close() })
	return c
}

func sendRaw(t *testing.T, c Conn, raw string) {
	t.Helper()
	if err := c.Send(t.Context(), message(t, raw)); err != nil {
		t.Fatal(err)
	}
}

func recvRaw(t *testing.T, c Conn) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	m, err := c.Recv(ctx)
	if err != nil {
		return "error: " + err.Error()
	}
	return string(m.Raw)
}

// handshake answers initialize, with a session, before the rest.
func handshake(rest func(http.ResponseWriter, *http.Request, string)) func(http.ResponseWriter, *http.Request, string) {
	return func(w http.ResponseWriter, r *http.Request, body string) {
		switch {
		case strings.Contains(body, `"initialize"`):
			w.Header().Set("Mcp-Session-Id", "s-1")
			answerJSON(hello)(w, r, body)
		case strings.Contains(body, "initialized"):
			w.WriteHeader(202)
		default:
			rest(w, r, body)
		}
	}
}

func TestDialHTTPSession(t *testing.T) {
	up := newRawUpstream(t, handshake(func(w http.ResponseWriter, r *http.Request, body string) {
		switch r.Method {
		case "GET":
			http.Error(w, "none", http.StatusMethodNotAllowed)
		case "DELETE":
			w.WriteHeader(204)
		default:
			answerJSON(oddAnswer)(w, r, body)
		}
	}))
	c := dialHTTP(t, up.URL)
	sendRaw(t, c, initialize)
	if got := recvRaw(t, c); got != hello {
		t.Fatalf("initialize: %s", got)
	}
	sendRaw(t, c, initialized)
	sendRaw(t, c, oddRequest)
	if got := recvRaw(t, c); got != oddAnswer {
		t.Errorf("got %s", got)
	}
	for len(up.requests()) < 4 { // the GET is beside
		time.Sleep(5 * time.Millisecond)
	}
	c.Close()
	if m, err := c.Recv(t.Context()); err != io.EOF {
		t.Errorf("after Close: %s, %v", m.Raw, err)
	}
	var got []string
	for _, s := range up.requests() {
		got = append(got, fmt.Sprintf("%s session=%s version=%s", s.method, s.header.Get("Mcp-Session-Id"), s.header.Get("Mcp-Protocol-Version")))
		if s.body != "" && s.header.Get("Accept") != "application/json, text/event-stream" {
			t.Errorf("Accept: %s", s.header.Get("Accept"))
		}
	}
	if got[2] > got[3] { // GET and the request race
		got[2], got[3] = got[3], got[2]
	}
	want := []string{
		"POST session= version=",
		"POST session=s-1 version=2025-11-25",
		"GET session=s-1 version=2025-11-25",
		"POST session=s-1 version=2025-11-25",
		"DELETE session=s-1 version=2025-11-25",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if up.count(oddRequest) != 1 {
		t.Error("the request did not arrive as it was")
	}
}

func TestDialHTTPStatelessEra(t *testing.T) {
	list := `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`
	call := `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"kaufe ☃","arguments":{"region":"eu"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`
	up := newRawUpstream(t, func(w http.ResponseWriter, r *http.Request, body string) {
		if strings.Contains(body, "tools/list") {
			answerJSON(`{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"kaufe ☃","inputSchema":{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"}}}}]}}`)(w, r, body)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(404)
		io.WriteString(w, `{"jsonrpc":"2.0","id":2,"error":{"code":-32601,"message":"no","data":1.0}}`)
	})
	c := dialHTTP(t, up.URL)
	sendRaw(t, c, list)
	recvRaw(t, c)
	sendRaw(t, c, call)
	if got := recvRaw(t, c); got != `{"jsonrpc":"2.0","id":2,"error":{"code":-32601,"message":"no","data":1.0}}` {
		t.Errorf("got %s", got)
	}
	h := up.requests()[1].header
	for name, want := range map[string]string{"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "=?base64?a2F1ZmUg4piD?=", "Mcp-Param-Region": "eu", "Mcp-Session-Id": ""} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestDialHTTPCancelClosesTheStream(t *testing.T) {
	closed := make(chan struct{})
	up := newRawUpstream(t, func(w http.ResponseWriter, r *http.Request, body string) {
		sse(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"n\"}\n\n")
		<-r.Context().Done()
		close(closed)
	})
	c := dialHTTP(t, up.URL)
	sendRaw(t, c, `{"jsonrpc":"2.0","id":7,"method":"subscriptions/listen","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`)
	recvRaw(t, c)
	sendRaw(t, c, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}`)
	<-closed
	if n := up.count("cancelled"); n != 0 {
		t.Error("the notification was sent as well")
	}
}

func TestDialHTTPNeverLosesARequest(t *testing.T) {
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	l.Close()
	nobody := "http://" + l.Addr().String()
	for _, tt := range []struct {
		name   string
		answer func(http.ResponseWriter, *http.Request, string)
		want   string
	}{
		{"nobody", nil, "cannot be reached"},
		{"401", func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(401) }, "check the headers:"},
		{"503", func(w http.ResponseWriter, _ *http.Request, _ string) {
			http.Error(w, "over capacity", http.StatusServiceUnavailable)
		}, "503 Service Unavailable without a JSON-RPC response: over capacity"},
		{"202", func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(202) }, "202 Accepted without"},
		{"hang-up", func(http.ResponseWriter, *http.Request, string) { panic(http.ErrAbortHandler) }, "broke off"},
		{"half a stream", func(w http.ResponseWriter, _ *http.Request, _ string) {
			sse(w, "data: {\"jsonrpc\":\"2.0\",\"id\":5,\"resul")
		}, "broke off"},
		{"half a body", func(w http.ResponseWriter, _ *http.Request, _ string) {
			w.Header().Set("Content-Length", "100")
			answerJSON(`{"jsonrpc"`)(w, nil, "")
		}, "broke off"},
		{"no JSON", answerJSON(`<html>`), "without a JSON-RPC response"},
		{"another's", answerJSON(`{"jsonrpc":"2.0","id":6,"result":{}}`), "without a JSON-RPC response"},
		{"an error without id", func(w http.ResponseWriter, _ *http.Request, _ string) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(400)
			io.WriteString(w, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"bad","data":1.10}}`)
		}, `"error":{"code":-32600,"message":"bad","data":1.10}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			url := nobody
			if tt.answer != nil {
				url = newRawUpstream(t, tt.answer).URL
			}
			c := dialHTTP(t, url)
			sendRaw(t, c, `{"jsonrpc":"2.0","id":5,"method":"x"}`)
			got := recvRaw(t, c)
			if !strings.HasPrefix(got, `{"jsonrpc":"2.0","id":5,"error":`) || !strings.Contains(got, tt.want) {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestDialHTTPResumes(t *testing.T) {
	var gets atomic.Int32
	up := newRawUpstream(t, handshake(func(w http.ResponseWriter, r *http.Request, _ string) {
		if r.Method == "GET" && r.Header.Get("Last-Event-Id") == "" {
			w.WriteHeader(405)
			return
		}
		switch r.Header.Get("Last-Event-Id") {
		case "":
			sse(w, "id: a\nretry: 10\ndata:\n\n", "id: b\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"one\"}\n\n")
		case "b":
			gets.Add(1)
			sse(w, "id: c\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"two\"}\n\n")
		case "c":
			gets.Add(1)
			sse(w, "id: d\ndata: {\"jsonrpc\":\"2.0\",\"id\":5,\"result\":{}}\n\n")
		}
	}))
	c := dialHTTP(t, up.URL)
	sendRaw(t, c, initialize)
	recvRaw(t, c)
	sendRaw(t, c, `{"jsonrpc":"2.0","id":5,"method":"x"}`)
	got := []string{recvRaw(t, c), recvRaw(t, c), recvRaw(t, c)}
	want := []string{`{"jsonrpc":"2.0","method":"one"}`, `{"jsonrpc":"2.0","method":"two"}`, `{"jsonrpc":"2.0","id":5,"result":{}}`}
	if diff := cmp.Diff(want, got); diff != "" || gets.Load() != 2 {
		t.Errorf("after %d GETs (-want +got):\n%s", gets.Load(), diff)
	}
}

func TestDialHTTPListens(t *testing.T) {
	var gets atomic.Int32
	up := newRawUpstream(t, handshake(func(w http.ResponseWriter, r *http.Request, _ string) {
		if r.Method == "DELETE" {
			return
		}
		n := gets.Add(1)
		if n == 2 && r.Header.Get("Last-Event-Id") != "e1" {
			t.Errorf("Last-Event-Id %q", r.Header.Get("Last-Event-Id"))
		}
		if n <= 2 {
			sse(w, fmt.Sprintf("id: e%d\nretry: 10\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"n%d\"}\n\n", n, n))
			return
		}
		<-r.Context().Done()
	}))
	c := dialHTTP(t, up.URL)
	sendRaw(t, c, initialize)
	recvRaw(t, c)
	sendRaw(t, c, initialized)
	got := []string{recvRaw(t, c), recvRaw(t, c)}
	if diff := cmp.Diff([]string{`{"jsonrpc":"2.0","method":"n1"}`, `{"jsonrpc":"2.0","method":"n2"}`}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDialHTTPManyInFlightDepartInOrder(t *testing.T) {
	const n = 20
	all := make(chan struct{})
	var seen atomic.Int32
	up := newRawUpstream(t, func(w http.ResponseWriter, r *http.Request, body string) {
		if seen.Add(1) == n {
			close(all)
		}
		<-all // none is answered before all have come
		answerJSON(`{"jsonrpc":"2.0","id":`+rawAt([]byte(body), "id")+`,"result":{}}`)(w, r, body)
	})
	c := dialHTTP(t, up.URL)
	for i := range n {
		sendRaw(t, c, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"x"}`, i))
	}
	got := map[string]bool{}
	for range n {
		got[recvRaw(t, c)] = true
	}
	if len(got) != n {
		t.Errorf("%d answers, want %d", len(got), n)
	}
}

func TestDialHTTPBadMessageConcernsItselfAlone(t *testing.T) {
	up := newRawUpstream(t, func(w http.ResponseWriter, r *http.Request, _ string) {
		sse(w, "data: [1]\n\n", "data: {\"jsonrpc\":\"2.0\",\"id\":5,\"result\":{}}\n\n")
	})
	c := dialHTTP(t, up.URL)
	sendRaw(t, c, `{"jsonrpc":"2.0","id":5,"method":"x"}`)
	_, err := c.Recv(t.Context())
	var bad *BadMessage
	if !errors.As(err, &bad) {
		t.Errorf("got %v, want a *BadMessage", err)
	}
	if got := recvRaw(t, c); got != `{"jsonrpc":"2.0","id":5,"result":{}}` {
		t.Errorf("got %s", got)
	}
}

func TestDialHTTPWantsAURL(t *testing.T) {
	for _, url := range []string{"", "ftp://x", "/mcp", "http://", "http://a b"} {
		if _, err := DialHTTP(t.Context(), HTTPUpstream{URL: url}); err == nil {
			t.Errorf("%q was accepted", url)
		}
	}
}

// theirServer is a server that we did not write.
func theirServer() *server.MCPServer {
	s := server.NewMCPServer("their", "1", server.WithToolCapabilities(true))
	s.AddTool(mcp.NewTool("echo", mcp.WithString("text")), func(_ context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return mcp.NewToolResultText(r.GetString("text", "")), nil
	})
	return s
}

func theirHTTPServer(t *testing.T) string {
	t.Helper()
	ts := httptest.NewServer(server.NewStreamableHTTPServer(theirServer()))
	t.Cleanup(ts.Close)
	return ts.URL
}

func TestDialHTTPToTheirServer(t *testing.T) {
	c := dialHTTP(t, theirHTTPServer(t))
	sendRaw(t, c, initialize)
	if got := recvRaw(t, c); !strings.Contains(got, `"name":"their"`) {
		t.Fatalf("initialize: %s", got)
	}
	sendRaw(t, c, initialized)
	sendRaw(t, c, `{"jsonrpc":"2.0","id":"e","method":"tools/call","params":{"name":"echo","arguments":{"text":"hi"}}}`)
	if got := recvRaw(t, c); !strings.Contains(got, `"text":"hi"`) {
		t.Errorf("got %s", got)
	}
}

func TestPassthroughToTheirServer(t *testing.T) {
	p := newRealProxy(t, allowAll)
	url := p.as(t, "a", p.HTTPPassthrough(HTTPUpstream{URL: theirHTTPServer(t)})).URL
	session := post(t, url, initialize).Header.Get("Mcp-Session-Id")
	if session == "" {
		t.Fatal("no session")
	}
	if got := post(t, url, initialized, "Mcp-Session-Id", session); got.Status != 202 {
		t.Errorf("initialized: %d", got.Status)
	}
	got := post(t, url, `{"jsonrpc":"2.0","id":"e","method":"tools/call","params":{"name":"echo","arguments":{"text":"hi"}}}`, "Mcp-Session-Id", session)
	if !strings.Contains(got.Body, `"text":"hi"`) {
		t.Errorf("got %s", got.Body)
	}
	p.outcome(t, `"outcome":"ok"`)
}
