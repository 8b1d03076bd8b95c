package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/openleash/openleash-go/authz"
)

// sseUpstream is a server of the older transport, by the byte. It answers what
// is POSTed with answer, on the stream.
type sseUpstream struct {
	*rawUpstream
	open   atomic.Int32 // streams
	events chan string  // raw events for the stream; closed: it ends
}

func newSSEUpstream(t *testing.T, endpoint string, answer func(u *sseUpstream, m Message)) *sseUpstream {
	t.Helper()
	u := &sseUpstream{events: make(chan string, 64)}
	u.rawUpstream = newRawUpstream(t, func(w http.ResponseWriter, r *http.Request, body string) {
		switch {
		case r.Method == "GET" && r.URL.Path == "/sse":
			u.stream(w, r, strings.ReplaceAll(endpoint, "HOST", r.Host))
		case r.Method == "POST" && r.URL.RequestURI() == "/messages/?session_id=s%201&x=1":
			w.WriteHeader(202)
			io.WriteString(w, "Accepted")
			m, err := ReadMessage([]byte(body), anyMessage([]byte(body)))
			if err != nil {
				t.Errorf("the upstream got %s", body)
			}
			answer(u, m)
		default:
			http.NotFound(w, r)
		}
	})
	return u
}

func (u *sseUpstream) stream(w http.ResponseWriter, r *http.Request, endpoint string) {
	u.open.Add(1)
	defer u.open.Add(-1)
	sse(w, endpoint)
	for {
		select {
		case e, more := <-u.events:
			if !more {
				return
			}
			sse(w, e)
		case <-r.Context().Done():
			return
		}
	}
}

func (u *sseUpstream) say(raw string) { u.events <- "event: message\ndata: " + raw + "\n\n" }

const relative = ": welcome\n\nevent: endpoint\ndata: /messages/?session_id=s%201&x=1\n\n"

func dialSSE(t *testing.T, url string) Conn {
	t.Helper()
	c := must(DialSSE(t.Context(), HTTPUpstream{Name: "shop", URL: url, Headers: map[string]string{"Authorization": "Bearer secret"}}))(t)
	t.Cleanup(func() { c.Close() })
	return c
}

func sayHello(u *sseUpstream, m Message) {
	if m.Method == "initialize" {
		u.say(hello)
	}
}

func TestDialSSESession(t *testing.T) {
	up := newSSEUpstream(t, relative, func(u *sseUpstream, m Message) {
		switch m.Method {
		case "no/such":
			u.events <- "event: ping\ndata: not a message\n\n"
			u.events <- "id: 4\n" + string(appendData(nil, []byte(oddAnswer))) // an event without a name is a message
		default:
			sayHello(u, m)
		}
	})
	c := dialSSE(t, up.URL+"/sse")
	if n := len(up.requests()); n != 0 {
		t.Errorf("%d requests before the first message", n)
	}
	sendRaw(t, c, initialize)
	if got := recvRaw(t, c); got != hello {
		t.Fatalf("initialize: %s", got)
	}
	sendRaw(t, c, initialized)
	sendRaw(t, c, oddRequest)
	if got := recvRaw(t, c); got != oddAnswer {
		t.Errorf("got %s", got)
	}
	c.Close()
	eventually(t, "the stream outlives Close", func() bool { return up.open.Load() == 0 })
	if m, err := c.Recv(t.Context()); err != io.EOF {
		t.Errorf("after Close: %s, %v", m.Raw, err)
	}
	if err := c.Send(t.Context(), message(t, initialized)); err == nil || !strings.Contains(err.Error(), "shop") {
		t.Errorf("Send after Close: %v", err)
	}
	var got []string
	for _, s := range up.requests() {
		got = append(got, s.method+" "+s.header.Get("Accept")+" "+s.header.Get("Content-Type")+" "+s.header.Get("Authorization")+" "+s.body)
	}
	want := []string{
		"GET text/event-stream  Bearer secret ",
		"POST  application/json Bearer secret " + initialize,
		"POST  application/json Bearer secret " + initialized,
		"POST  application/json Bearer secret " + oddRequest,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Everything goes to the origin of the url, whatever the server says.
func TestDialSSEEndpoint(t *testing.T) {
	const uri = "messages/?session_id=s%201&x=1"
	for _, tt := range []struct{ name, event, want string }{
		{"path", "event: endpoint\ndata: /" + uri + "\n\n", ""},
		{"relative", "event: endpoint\ndata: " + uri + "\n\n", ""},
		{"absolute", "event: endpoint\ndata: http://HOST/" + uri + "\n\n", ""},
		{"crlf", "event:endpoint\r\ndata:/" + uri + "\r\n\r\n", ""},
		{"another host", "event: endpoint\ndata: http://evil.example/" + uri + "\n\n", "another origin"},
		{"another host without a scheme", "event: endpoint\ndata: //evil.example/" + uri + "\n\n", "another origin"},
		{"back slashes", "event: endpoint\ndata: \\\\evil.example/" + uri + "\n\n", "404"},
		{"another port", "event: endpoint\ndata: http://127.0.0.1:1/" + uri + "\n\n", "another origin"},
		{"another scheme", "event: endpoint\ndata: https://HOST/" + uri + "\n\n", "another origin"},
		{"a file", "event: endpoint\ndata: file:///etc/passwd\n\n", "another origin"},
		{"a user before another host", "event: endpoint\ndata: http://HOST@evil.example/\n\n", "another origin"},
		{"a user of theirs", "event: endpoint\ndata: http://them:pw@HOST/" + uri + "\n\n", ""},
		{"no URL", "event: endpoint\ndata: http://[/\n\n", "no URL"},
		{"two lines", "event: endpoint\ndata: /a\ndata: /b\n\n", "no URL"},
		{"too long", "event: endpoint\ndata: /" + strings.Repeat("x", 9000) + "\n\n", "9001 bytes"},
		{"a message first", "data: {}\n\n", `is "", want endpoint`},
		{"another event", "event: hello\ndata: /" + uri + "\n\n", `is "hello", want endpoint`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			up := newSSEUpstream(t, tt.event, sayHello)
			c := must(DialSSE(t.Context(), HTTPUpstream{Name: "shop", URL: up.URL + "/sse", Headers: map[string]string{"X-Key": "secret"}}))(t)
			defer c.Close()
			err := c.Send(t.Context(), message(t, initialize))
			if tt.want != "" && tt.want != "404" {
				if err == nil || !strings.Contains(err.Error(), "shop") || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want %s", err, tt.want)
				}
				if n := len(up.requests()); n != 1 {
					t.Errorf("%d requests, want the GET alone", n)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := recvRaw(t, c); got != hello && (tt.want == "" || !strings.Contains(got, tt.want)) {
				t.Errorf("got %s", got)
			}
			for _, r := range up.requests() {
				if a := r.header.Get("Authorization"); a != "" {
					t.Errorf("the server chose our credentials: %s", a)
				}
			}
		})
	}
}

func TestDialSSECannotOpen(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer func(http.ResponseWriter, *http.Request, string)
		want   string
	}{
		{"404", func(w http.ResponseWriter, r *http.Request, _ string) { http.NotFound(w, r) }, "answered GET with 404 Not Found: 404 page not found"},
		{"405", func(w http.ResponseWriter, r *http.Request, _ string) { w.WriteHeader(405) }, "take type: sse out"},
		{"no stream", answerJSON(`{}`), "opens no stream"},
		{"401", func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(401) }, "check the headers:"},
		{"redirect", func(w http.ResponseWriter, r *http.Request, _ string) {
			http.Redirect(w, r, "http://evil.example/sse?k", http.StatusTemporaryRedirect)
		}, "redirects to http://evil.example/sse; redirects are not followed"},
		{"hang-up", func(http.ResponseWriter, *http.Request, string) { panic(http.ErrAbortHandler) }, "broke off"},
		{"half an event", func(w http.ResponseWriter, _ *http.Request, _ string) { sse(w, "event: endpoint\ndata: /m") }, "broke off"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			up := newRawUpstream(t, tt.answer)
			c := dialSSE(t, up.URL)
			for range 2 { // it may be tried again
				err := c.Send(t.Context(), message(t, initialize))
				if err == nil || !strings.Contains(err.Error(), "shop") || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") {
					t.Errorf("got %v, want %s", err, tt.want)
				}
			}
			if n := len(up.requests()); n != 2 {
				t.Errorf("%d requests", n)
			}
		})
	}
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	l.Close()
	if err := dialSSE(t, "http://"+l.Addr().String()+"/sse").Send(t.Context(), message(t, initialize)); err == nil || !strings.Contains(err.Error(), "shop cannot be reached") {
		t.Errorf("nobody there: %v", err)
	}
	for _, url := range []string{"", "ftp://x", "/sse"} {
		if _, err := DialSSE(t.Context(), HTTPUpstream{URL: url}); err == nil {
			t.Errorf("%q was accepted", url)
		}
	}
}

func TestDialSSEMessageIsNotTaken(t *testing.T) {
	elsewhere := newRawUpstream(t, answerJSON(`{}`))
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		want   string
	}{
		{"404", http.NotFound, "did not take the message: it answered 404 Not Found: 404 page not found"},
		{"500", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "on fire", 500) }, "500 Internal Server Error: on fire"},
		{"401", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }, "check the headers:"},
		{"redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusPermanentRedirect)
		}, "redirects are not followed"},
		{"hang-up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "broke off"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			up := newRawUpstream(t, func(w http.ResponseWriter, r *http.Request, _ string) {
				if r.Method == "GET" {
					sse(w, "event: endpoint\ndata: /m\n\n")
					<-r.Context().Done()
					return
				}
				tt.answer(w, r)
			})
			c := dialSSE(t, up.URL)
			sendRaw(t, c, initialized) // fails without a word
			sendRaw(t, c, `{"jsonrpc":"2.0","id":"7","method":"x"}`)
			got := recvRaw(t, c)
			if !strings.HasPrefix(got, `{"jsonrpc":"2.0","id":"7","error":{"code":-32603`) || !strings.Contains(got, "shop") || !strings.Contains(got, tt.want) {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
	if n := len(elsewhere.requests()); n != 0 {
		t.Errorf("%d requests followed a redirect", n)
	}
}

// sseTalk is a session of a host that the test plays with an upstream.
func sseTalk(t *testing.T, up *sseUpstream) (host *pipeConn, ended chan error) {
	t.Helper()
	host, side := newPipes()
	ended = make(chan error, 1)
	c := dialSSE(t, up.URL+"/sse")
	go func() { ended <- plainProxy().Serve(context.Background(), someone("a"), side, c) }()
	t.Cleanup(func() { host.Close() })
	return host, ended
}

func TestDialSSEStreamBreaks(t *testing.T) {
	up := newSSEUpstream(t, relative, func(u *sseUpstream, m Message) {
		if m.Method == "break" {
			close(u.events)
			return
		}
		sayHello(u, m)
	})
	host, ended := sseTalk(t, up)
	host.write(initialize)
	if got := recvRaw(t, host); got != hello {
		t.Fatalf("initialize: %s", got)
	}
	host.write(`{"jsonrpc":"2.0","id":1,"method":"wait"}`)
	host.write(`{"jsonrpc":"2.0","id":2,"method":"break"}`)
	got := recvRaw(t, host) + recvRaw(t, host)
	for _, want := range []string{`"id":1,"error"`, `"id":2,"error"`, "shop did not answer: its stream has ended (the server closed it). Whether it did what was asked is not known"} {
		if !strings.Contains(got, want) {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "server shop: its stream has ended") {
		t.Errorf("Serve: %v", err)
	}
}

func TestDialSSEServersOwnRequestWithOurID(t *testing.T) {
	up := newSSEUpstream(t, relative, func(u *sseUpstream, m Message) {
		switch {
		case m.Method == "work":
			u.say(`{"jsonrpc":"2.0","id":1,"method":"roots/list"}`)
		case m.IsResponse():
			u.say(`{"jsonrpc":"2.0","id":1,"result":{"big":9007199254740993}}`)
		default:
			sayHello(u, m)
		}
	})
	host, _ := sseTalk(t, up)
	host.write(`{"jsonrpc":"2.0","id":1,"method":"work"}`)
	if got := recvRaw(t, host); got != `{"jsonrpc":"2.0","id":1,"method":"roots/list"}` {
		t.Errorf("the server's request: %s", got)
	}
	reply := `{"jsonrpc":"2.0","id":1,"result":{"roots":[]}}`
	host.write(reply)
	if got := recvRaw(t, host); got != `{"jsonrpc":"2.0","id":1,"result":{"big":9007199254740993}}` {
		t.Errorf("the answer: %s", got)
	}
	if up.count(reply) != 1 {
		t.Error("the server did not get the host's answer")
	}
}

func TestDialSSELargeMessages(t *testing.T) {
	t.Parallel()
	large := `{"jsonrpc":"2.0","id":1,"result":{"pad":"` + strings.Repeat("x", 12<<20) + `"}}`
	up := newSSEUpstream(t, relative, func(u *sseUpstream, m Message) {
		if m.Method == "large" {
			u.say(large)
			return
		}
		u.say(`{"pad":"` + strings.Repeat("x", maxUpstream) + `"}`)
	})
	c := dialSSE(t, up.URL+"/sse")
	sendRaw(t, c, `{"jsonrpc":"2.0","id":1,"method":"large"}`)
	if got := recvRaw(t, c); got != large {
		t.Errorf("%d bytes came, want %d: %.100s", len(got), len(large), got)
	}
	sendRaw(t, c, `{"jsonrpc":"2.0","id":2,"method":"tooLarge"}`)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // it is long, and the machine may be busy
	defer cancel()
	if m, err := c.Recv(ctx); err == nil || !strings.Contains(err.Error(), "longer than the limit") {
		t.Errorf("a message beyond the limit: %v %.200s", err, m.Raw)
	}
}

func TestDialSSEBadMessageConcernsItselfAlone(t *testing.T) {
	up := newSSEUpstream(t, relative, func(u *sseUpstream, m Message) {
		u.say(`[1]`)
		u.say(`{"jsonrpc":"2.0","id":1,"result":{}}`)
	})
	host, _ := sseTalk(t, up)
	host.write(`{"jsonrpc":"2.0","id":1,"method":"x"}`)
	if got := recvRaw(t, host); got != `{"jsonrpc":"2.0","id":1,"result":{}}` {
		t.Errorf("got %s", got)
	}
}

func TestDialSSEWaitsForTheEndpointJustSoLong(t *testing.T) {
	silent := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sse(w, ": soon\n\n")
		<-r.Context().Done()
	})
	for _, tt := range []struct {
		name    string
		patient time.Duration
		after   time.Duration
		want    string
	}{
		{"until the limit", time.Hour, endpointWithin, "shop has not said within 30s where messages go"},
		{"until the host has gone", time.Second, time.Second, "context deadline exceeded"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				inTime(t, silent, func(t *testing.T, web *http.Transport) {
					c := must(DialSSE(t.Context(), HTTPUpstream{Name: "shop", URL: "http://x/sse", transport: web}))(t)
					defer c.Close()
					begin := time.Now()
					ctx, cancel := context.WithTimeout(t.Context(), tt.patient)
					defer cancel()
					err := c.Send(ctx, message(t, initialize))
					if err == nil || !strings.Contains(err.Error(), tt.want) || time.Since(begin) != tt.after {
						t.Errorf("after %v: %v", time.Since(begin), err)
					}
				})
			})
		})
	}
}

func theirSSEServer(t *testing.T) string {
	t.Helper()
	s := server.NewSSEServer(theirServer())
	ts := httptest.NewServer(s)
	t.Cleanup(func() { ts.CloseClientConnections(); ts.Close() })
	return ts.URL + "/sse"
}

// "Clients wanting to support older servers should […] attempt to POST an
// InitializeRequest to the server URL", and open a stream when that fails.
func TestDialHTTPFallsBackToSSE(t *testing.T) {
	up := newSSEUpstream(t, relative, func(u *sseUpstream, m Message) {
		if m.Method == "no/such" {
			u.events <- string(appendData(nil, []byte(oddAnswer)))
			return
		}
		sayHello(u, m)
	})
	c := dialHTTP(t, up.URL+"/sse")
	sendRaw(t, c, initialize)
	if got := recvRaw(t, c); got != hello {
		t.Fatalf("initialize: %s", got)
	}
	sendRaw(t, c, initialized)
	sendRaw(t, c, oddRequest)
	if got := recvRaw(t, c); got != oddAnswer {
		t.Errorf("got %s", got)
	}
	var got []string
	for _, r := range up.requests() {
		got = append(got, fmt.Sprintf("%s %.40s", r.method, r.body))
	}
	want := []string{fmt.Sprintf("POST %.40s", initialize), "GET ", fmt.Sprintf("POST %.40s", initialize), fmt.Sprintf("POST %.40s", initialized), fmt.Sprintf("POST %.40s", oddRequest)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	c.Close()
	eventually(t, "the stream outlives Close", func() bool { return up.open.Load() == 0 })
}

func TestDialHTTPFallsBackOnlyThen(t *testing.T) {
	for _, tt := range []struct {
		name   string
		method string
		status int
		body   string
		gets   int
	}{
		{"404", "initialize", 404, "no", 1},
		{"400", "initialize", 400, "no", 1},
		{"405", "initialize", 405, "no", 1},
		{"an error without id", "initialize", 400, `{"jsonrpc":"2.0","id":null,"error":{"code":-32602,"message":"no"}}`, 1},
		{"500", "initialize", 500, "no", 0},
		{"another method", "tools/list", 404, "no", 0},
		{"the server's own error", "initialize", 400, `{"jsonrpc":"2.0","id":0,"error":{"code":-32602,"message":"no"}}`, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			up := newRawUpstream(t, func(w http.ResponseWriter, r *http.Request, _ string) {
				w.WriteHeader(tt.status)
				io.WriteString(w, tt.body)
			})
			c := dialHTTP(t, up.URL)
			sendRaw(t, c, `{"jsonrpc":"2.0","id":0,"method":"`+tt.method+`"}`)
			if got := recvRaw(t, c); !strings.HasPrefix(got, `{"jsonrpc":"2.0","id":0,"error"`) || !strings.Contains(got, "no") {
				t.Errorf("got %s", got)
			}
			gets := 0
			for _, r := range up.requests() {
				if r.method == "GET" {
					gets++
				}
			}
			if gets != tt.gets {
				t.Errorf("%d GETs, want %d", gets, tt.gets)
			}
		})
	}
}

// A host that falls back by itself must not be led past us by an upstream of
// the older transport behind a passthrough.
func TestPassthroughLeadsNobodyPastUs(t *testing.T) {
	up := newRawUpstream(t, func(w http.ResponseWriter, r *http.Request, _ string) {
		if r.Method == "POST" {
			http.Error(w, "no", http.StatusMethodNotAllowed)
			return
		}
		sse(w, "event: endpoint\ndata: http://127.0.0.1:1/message\n\n", "event: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"n\"}\n\n")
	})
	url := passthroughTo(t, up)
	if got := post(t, url, initialize); got.Status != 405 || !strings.Contains(got.Body, "type: sse") {
		t.Errorf("initialize: %d %s", got.Status, got.Body)
	}
	next, _ := openStream(t, "GET", url, "")
	if got := next(); got != `{"jsonrpc":"2.0","method":"n"}` {
		t.Errorf("the stream brings %s", got)
	}
}

// Behind /mcp/, an upstream of the older transport is one among others.
func TestHTTPHostBeforeAnSSEUpstream(t *testing.T) {
	url := theirSSEServer(t)
	p := newRealProxy(t, allowAll)
	h := p.HTTPHost(func(ctx context.Context, _ authz.Caller) (Conn, error) {
		return DialSSE(ctx, HTTPUpstream{Name: "shop", URL: url})
	})
	defer h.Close()
	at := p.as(t, "a", h).URL
	got := post(t, at, initialize)
	session := got.Header.Get("Mcp-Session-Id")
	if !strings.Contains(got.Body, `"name":"their"`) || session == "" {
		t.Fatalf("initialize: %d %s", got.Status, got.Body)
	}
	post(t, at, initialized, "Mcp-Session-Id", session)
	got = post(t, at, `{"jsonrpc":"2.0","id":"e","method":"tools/call","params":{"name":"echo","arguments":{"text":"hi"}}}`, "Mcp-Session-Id", session)
	if !strings.Contains(got.Body, `"text":"hi"`) {
		t.Errorf("got %s", got.Body)
	}
	list := `{"jsonrpc":"2.0","id":"l","method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"}}}}`
	if got := post(t, at, list, stateless("tools/list")...); !strings.Contains(got.Body, `"id":"l"`) || !strings.Contains(got.Body, `"name":"echo"`) {
		t.Errorf("the stateless era: %d %s", got.Status, got.Body)
	}
	p.outcome(t, `"outcome":"ok"`)
}
