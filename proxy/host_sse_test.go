package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/mcp"

	"github.com/openleash/openleash-go/authz"
)

// sseDoor serves h at /sse/shop for one agent, as the program does.
func sseDoor(t *testing.T, who authz.Caller, h *HTTPSessions) string {
	t.Helper()
	return serveAs(t, who, sseMux(h)).URL + "/sse/shop"
}

func sseMux(h *HTTPSessions) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/sse/shop", h.ServeSSE)
	mux.HandleFunc("/sse/shop"+SSEMessages, h.ServeSSEMessage)
	return mux
}

// sseClient is a host of the older transport, by the byte.
type sseClient struct {
	t        *testing.T
	res      *http.Response
	in       *sseReader
	messages string // where its messages go
	hangUp   func()
}

var endpointEvent = regexp.MustCompile(`^event: endpoint\ndata: (/sse/shop/message\?sessionId=[A-Z2-7]{26})\n\n$`)

func openSSE(t *testing.T, url string, headers ...string) *sseClient {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	res, err := send(ctx, "GET", url, "", headers...)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); res.Body.Close() })
	c := &sseClient{t: t, res: res, in: newSSEReader(res.Body, 1<<25), hangUp: cancel}
	m := endpointEvent.FindStringSubmatch(c.event())
	if res.StatusCode != 200 || m == nil {
		t.Fatalf("%s, and its first event is not endpoint", res.Status)
	}
	at := must(res.Request.URL.Parse(m[1]))(t)
	c.messages = at.String()
	return c
}

// event is the next event as it came.
func (c *sseClient) event() string {
	e, err := c.in.next()
	if err != nil {
		return "error: " + err.Error()
	}
	return string(e.raw)
}

// next is the message of the next event, whose bytes are checked.
func (c *sseClient) next() string {
	c.t.Helper()
	e, err := c.in.next()
	if err != nil {
		return "error: " + err.Error()
	}
	if want := string(appendData([]byte("event: message\n"), e.data)); string(e.raw) != want {
		c.t.Errorf("the event is %q, want %q", e.raw, want)
	}
	return string(e.data)
}

func (c *sseClient) post(body string) {
	c.t.Helper()
	if got := post(c.t, c.messages, body); got.Status != 202 || got.Body != "" {
		c.t.Errorf("POST of %.200s: %d %q, want 202 and nothing", body, got.Status, got.Body)
	}
}

// shake is the handshake.
func (c *sseClient) shake() *sseClient {
	c.t.Helper()
	c.post(initialize)
	if got := c.next(); got != hello {
		c.t.Fatalf("initialize: %s", got)
	}
	c.post(initialized)
	return c
}

func TestSSEHostSession(t *testing.T) {
	h, d := sessionsOf(t, plainProxy(), func(c *pipeConn, m Message) {
		if m.Method == "no/such" {
			c.write(oddAnswer)
			return
		}
		echo(c, m)
	})
	url := sseDoor(t, someone("a"), h)
	c := openSSE(t, url)
	want := map[string]string{"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff"}
	for name, value := range want {
		if got := c.res.Header.Get(name); got != value {
			t.Errorf("%s: %q, want %q", name, got, value)
		}
	}
	c.shake()
	c.post(oddRequest)
	if got := c.next(); got != oddAnswer {
		t.Errorf("got %s", got)
	}
	if d.received(oddRequest) != 1 || d.received(initialized) != 1 {
		t.Errorf("the server got %q", d.seen)
	}
	d.child(0).write(`{"jsonrpc":"2.0","method":"notifications/unheard_of","params":{"n":1e400}}`)
	if got := c.event(); got != "event: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/unheard_of\",\"params\":{\"n\":1e400}}\n\n" {
		t.Errorf("got %q", got)
	}
	c.hangUp()
	eventually(t, "the child lives on", d.child(0).closed)
	eventually(t, "the session lives on", func() bool { return post(t, c.messages, oddRequest).Status == 404 })
}

func TestSSEHostRefuses(t *testing.T) {
	t.Parallel()
	h, d := sessionsOf(t, plainProxy(), echo)
	url, other := sseDoor(t, someone("a"), h), sseDoor(t, someone("b"), h)
	c := openSSE(t, url)
	session := c.messages[strings.Index(c.messages, "?"):]
	nobody := httptest.NewServer(sseMux(h))
	t.Cleanup(nobody.Close)
	ping := `{"jsonrpc":"2.0","id":1,"method":"ping"}`
	call := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"buy"}}`
	for _, tt := range []struct {
		name, method, url, body string
		headers                 []string
		status                  int
	}{
		{"no caller", "GET", nobody.URL + "/sse/shop", "", nil, 401},
		{"a message of no caller", "POST", nobody.URL + "/sse/shop/message" + session, ping, nil, 401},
		{"another agent's session", "POST", other + "/message" + session, ping, nil, 404},
		{"unknown session", "POST", url + "/message?sessionId=x", ping, nil, 404},
		{"no session", "POST", url + "/message", ping, nil, 404},
		{"POST to the stream", "POST", url, initialize, nil, 405},
		{"HEAD of the stream", "HEAD", url, "", nil, 405},
		{"GET of the messages", "GET", c.messages, "", nil, 405},
		{"a stream as JSON", "GET", url, "", []string{"Accept", "application/json"}, 406},
		{"text", "POST", c.messages, ping, []string{"Content-Type", "text/plain"}, 415},
		{"no JSON", "POST", c.messages, "{", nil, 400},
		{"a batch", "POST", c.messages, "[" + ping + "]", nil, 400},
		{"two methods", "POST", c.messages, `{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call"}`, nil, 400},
		{"another method in the header", "POST", c.messages, call, []string{"Mcp-Method", "ping"}, 400},
		{"too long", "POST", c.messages, padded(1 << 20), nil, 413},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := do(t, tt.method, tt.url, tt.body, tt.headers...)
			if got.Status != tt.status || got.Body == "" && tt.method != "HEAD" {
				t.Errorf("got %d %s, want %d", got.Status, got.Body, tt.status)
			}
			if tt.status == 405 && got.Header.Get("Allow") == "" {
				t.Error("it does not say what is allowed")
			}
		})
	}
	c.shake()
	if d.count() != 1 || d.received("ping") != 0 || d.received("buy") != 0 {
		t.Errorf("%d children got %v", d.count(), d.seen)
	}
}

// A server's own request may have the id of a request of the host's: only its
// method tells what it is.
func TestSSEHostServersOwnRequests(t *testing.T) {
	h, d := sessionsOf(t, newRealProxy(t, allowAll).Proxy, func(c *pipeConn, m Message) {
		switch {
		case m.Method == "work":
			c.write(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"t","progress":1.10}}`)
			c.write(`{"jsonrpc":"2.0","id":7,"method":"sampling/createMessage","params":{}}`)
		case m.IsResponse():
			c.write(`{"jsonrpc":"2.0","id":7,"result":{"heard":` + rawAt(m.Raw, "result", "n") + `}}`)
		default:
			echo(c, m)
		}
	})
	c := openSSE(t, sseDoor(t, someone("a"), h)).shake()
	c.post(`{"jsonrpc":"2.0","id":7,"method":"work","params":{"_meta":{"progressToken":"t"}}}`)
	got := []string{c.next(), c.next()}
	c.post(`{"jsonrpc":"2.0","id":7,"result":{"n":9007199254740993}}`)
	got = append(got, c.next())
	want := []string{
		`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"t","progress":1.10}}`,
		`{"jsonrpc":"2.0","id":7,"method":"sampling/createMessage","params":{}}`,
		`{"jsonrpc":"2.0","id":7,"result":{"heard":9007199254740993}}`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if d.received(`{"jsonrpc":"2.0","id":7,"result":{"n":9007199254740993}}`) != 1 {
		t.Errorf("the server got %q", d.seen)
	}
}

func TestSSEHostKeepsOrder(t *testing.T) {
	const n = 10_000
	h, _ := sessionsOf(t, plainProxy(), func(c *pipeConn, m Message) {
		if m.Method == "many" {
			for i := range n {
				c.write(fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"t","progress":%d}}`, i))
			}
		}
		echo(c, m)
	})
	c := openSSE(t, sseDoor(t, someone("a"), h)).shake()
	c.post(`{"jsonrpc":"2.0","id":1,"method":"many"}`)
	for i := range n {
		if got := c.next(); rawAt([]byte(got), "params", "progress") != fmt.Sprint(i) {
			t.Fatalf("notification %d: %s", i, got)
		}
	}
	if got := c.next(); got != `{"jsonrpc":"2.0","id":1,"result":{}}` {
		t.Errorf("then %s", got)
	}
}

func TestSSEHostLargeResult(t *testing.T) {
	large := `{"jsonrpc":"2.0","id":1,"result":{"pad":"` + strings.Repeat("x", 12<<20) + `"}}`
	h, _ := sessionsOf(t, plainProxy(), func(c *pipeConn, m Message) {
		if m.Method == "large" {
			c.write(large)
			return
		}
		echo(c, m)
	})
	c := openSSE(t, sseDoor(t, someone("a"), h)).shake()
	c.post(`{"jsonrpc":"2.0","id":1,"method":"large"}`)
	if got := c.next(); got != large {
		t.Errorf("%d bytes came, want %d: %.100s", len(got), len(large), got)
	}
}

func TestSSEHostTwoHostsWithTheSameIDs(t *testing.T) {
	h, d := sessionsOf(t, plainProxy(), func(c *pipeConn, m Message) {
		if m.Method == "who" {
			c.write(`{"jsonrpc":"2.0","id":` + m.ID + `,"result":{"you":` + rawAt(m.Raw, "params", "me") + `}}`)
			return
		}
		echo(c, m)
	})
	url := sseDoor(t, someone("a"), h)
	var wait sync.WaitGroup
	for host := range 2 {
		c := openSSE(t, url).shake()
		wait.Go(func() {
			for id := range 50 {
				c.post(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"who","params":{"me":%d}}`, id, host))
				if got, want := c.next(), fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"result":{"you":%d}}`, id, host); got != want {
					t.Errorf("got %s, want %s", got, want)
				}
			}
		})
	}
	wait.Wait()
	if d.count() != 2 {
		t.Errorf("%d children", d.count())
	}
}

func TestSSEHostGovernedCall(t *testing.T) {
	p := newRealProxy(t, "version: 1\ndefault: allow\nrules:\n  - {id: never, effect: deny, action: mcp.shop.forbidden}\n")
	h, d := sessionsOf(t, p.Proxy, echo)
	who := authz.Caller{Agent: must(p.store.EnsureAgent(t.Context(), "bot", p.owner))(t)}
	c := openSSE(t, sseDoor(t, who, h)).shake()
	c.post(buyCall)
	if got := c.next(); got != `{"jsonrpc":"2.0","id":1,"result":{}}` {
		t.Errorf("got %s", got)
	}
	if d.received(ProofKey) != 1 || d.received(`"arguments":{"n":9007199254740993,"s":"\u00e9"},"x":1.10}}`) != 1 {
		t.Errorf("the server got %q", d.seen)
	}
	c.post(toolCall("2", "forbidden", `{}`))
	if got := c.next(); !strings.Contains(got, "POLICY_DENIED") || d.received("forbidden") != 0 {
		t.Errorf("a refused call: %s", got)
	}
	p.outcome(t, `"outcome":"ok"`)
}

func TestSSEHostCancellation(t *testing.T) {
	p := newRealProxy(t, "version: 1\ndefault: allow\nrules:\n  - {id: ask, effect: allow, action: mcp.shop.buy, obligations: [{type: HUMAN_APPROVAL}]}\n")
	h, d := sessionsOf(t, p.Proxy, func(c *pipeConn, m Message) {
		if m.Method != "tools/call" {
			echo(c, m)
		}
	})
	who := authz.Caller{Agent: must(p.store.EnsureAgent(t.Context(), "bot", p.owner))(t)}
	c := openSSE(t, sseDoor(t, who, h)).shake()
	cancellation := func(id int) string {
		return fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%d,"reason":"enough"}}`, id)
	}
	c.post(toolCall("1", "slow", `{}`))
	eventually(t, "the call is not forwarded", func() bool { return d.received(`"slow"`) == 1 })
	c.post(cancellation(1))
	c.post(buyCall[:len(`{"jsonrpc":"2.0","id":`)] + "2" + buyCall[len(`{"jsonrpc":"2.0","id":1`):])
	held := p.pending(t)
	c.post(cancellation(2))
	c.post(`{"jsonrpc":"2.0","id":3,"method":"ping"}`) // behind it: the cancellation is done
	if got := c.next(); got != `{"jsonrpc":"2.0","id":3,"result":{}}` {
		t.Errorf("got %s", got)
	}
	p.approve(t, held.ID)
	time.Sleep(300 * time.Millisecond) // longer than a hold looks again
	if d.received("notifications/cancelled") != 1 || d.received(cancellation(1)) != 1 || d.received(`"buy"`) != 0 {
		t.Errorf("the server got %q", d.seen)
	}
}

func TestSSEHostWithdrawnCallNeverRuns(t *testing.T) {
	p := newRealProxy(t, askAll)
	h, d := sessionsOf(t, p.Proxy, echo)
	who := authz.Caller{Agent: must(p.store.EnsureAgent(t.Context(), "bot", p.owner))(t)}
	url := sseDoor(t, who, h)
	c := openSSE(t, url).shake()
	c.post(buyCall)
	request := p.pending(t).ID
	c.hangUp()
	eventually(t, "the child lives on", d.child(0).closed)
	p.approve(t, request)
	time.Sleep(300 * time.Millisecond) // longer than a hold looks again
	if n := d.received("tools/call"); n != 0 {
		t.Errorf("forwarded %d times", n)
	}
	again := openSSE(t, url).shake()
	again.post(buyCall)
	if got := again.next(); got != `{"jsonrpc":"2.0","id":1,"result":{}}` || d.received("tools/call") != 1 {
		t.Errorf("the same call again: %s; the server got %q", got, d.seen)
	}
}

func TestSSEHostServerDies(t *testing.T) {
	h, _ := sessionsOf(t, plainProxy(), func(c *pipeConn, m Message) {
		if m.Method == "die" {
			c.Close()
			return
		}
		echo(c, m)
	})
	url := sseDoor(t, someone("a"), h)
	for range 100 { // the answer and the end come together
		c := openSSE(t, url).shake()
		c.post(`{"jsonrpc":"2.0","id":"x","method":"die"}`)
		if got := c.next(); !strings.HasPrefix(got, `{"jsonrpc":"2.0","id":"x","error":{"code":-32603,`) || !strings.Contains(got, "shop") {
			t.Fatalf("got %s", got)
		}
		if got := c.next(); got != "error: EOF" {
			t.Fatalf("then %s, want the end of the stream", got)
		}
		if got := post(t, c.messages, initialize); got.Status != 404 || !strings.Contains(got.Body, "open a new stream") {
			t.Fatalf("a message after it: %d %s", got.Status, got.Body)
		}
	}
}

func TestSSEHostCannotStart(t *testing.T) {
	h := plainProxy().HTTPHost(func(context.Context, authz.Caller) (Conn, error) { return nil, errors.New("npx: not found") })
	defer h.Close()
	c := openSSE(t, sseDoor(t, someone("a"), h))
	for range 2 {
		c.post(initialize)
		if got := c.next(); !strings.Contains(got, `"id":0,"error"`) || !strings.Contains(got, "shop did not answer: it could not be started: npx: not found") {
			t.Errorf("got %s", got)
		}
	}
}

func TestSSEHostStartsNothingForASilentHost(t *testing.T) {
	h, d := sessionsOf(t, plainProxy(), echo)
	url := sseDoor(t, someone("a"), h)
	silent := openSSE(t, url)
	openSSE(t, url).shake()
	if d.count() != 1 {
		t.Errorf("%d servers run for one host that speaks", d.count())
	}
	silent.hangUp()
	eventually(t, "a silent session stays", func() bool { return h.open() == 1 })
}

func TestSSEHostCapsSessions(t *testing.T) {
	h, d := sessionsOf(t, plainProxy(), echo)
	alice, bob := sseDoor(t, someone("alice"), h), sseDoor(t, someone("bob"), h)
	newer := serveAs(t, someone("alice"), h).URL
	last := openSSE(t, alice)
	for range maxSessions - 2 {
		openSSE(t, alice)
	}
	begin(t, newer)
	if got := do(t, "GET", alice, ""); got.Status != 503 || !strings.Contains(got.Body, "open sessions") {
		t.Errorf("one stream too many: %d %s", got.Status, got.Body)
	}
	if got := post(t, newer, initialize); got.Status != 503 {
		t.Errorf("one session too many over the newer transport: %d %s", got.Status, got.Body)
	}
	openSSE(t, bob)
	last.hangUp()
	eventually(t, "a closed stream leaves no room", func() bool {
		res, err := send(t.Context(), "GET", alice, "")
		if err != nil {
			return false
		}
		t.Cleanup(func() { res.Body.Close() })
		return res.StatusCode == 200
	})
	h.Close()
	for i := range d.count() {
		if !d.child(i).closed() {
			t.Errorf("child %d survives Close", i)
		}
	}
	if got := do(t, "GET", alice, ""); got.Status != 503 {
		t.Errorf("a stream after Close: %d", got.Status)
	}
}

// While one host does not read, its neighbours are served, and what waits for
// it is bounded.
func TestSSEHostSlowReader(t *testing.T) {
	pad := strings.Repeat("x", 1<<16)
	var written sync.WaitGroup
	h, d := sessionsOf(t, plainProxy(), func(c *pipeConn, m Message) {
		if m.Method == "flood" {
			written.Go(func() {
				for range 1000 { // 64 MB: no queue holds them
					c.write(`{"jsonrpc":"2.0","method":"n","params":{"pad":"` + pad + `"}}`)
				}
			})
		}
		echo(c, m)
	})
	url := sseDoor(t, someone("a"), h)
	slow, neighbour := openSSE(t, url).shake(), openSSE(t, url).shake()
	slow.post(`{"jsonrpc":"2.0","id":1,"method":"flood"}`)
	eventually(t, "the queue does not fill", func() bool { return h.queued() > maxQueue-1<<17 })
	for range 100 {
		neighbour.post(`{"jsonrpc":"2.0","id":1,"method":"ping"}`)
		if got := neighbour.next(); got != `{"jsonrpc":"2.0","id":1,"result":{}}` {
			t.Errorf("the neighbour got %s", got)
		}
	}
	if n := h.queued(); n > maxQueue {
		t.Errorf("%d bytes wait for the slow host, want %d at the most", n, maxQueue)
	}
	slow.hangUp()
	eventually(t, "its child lives on", func() bool { return d.child(0).closed() || d.child(1).closed() })
	written.Wait()
}

func (h *HTTPSessions) open() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.streams)
}

// queued is what waits for all hosts.
func (h *HTTPSessions) queued() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.streams {
		s.out.mu.Lock()
		n += s.out.size
		s.out.mu.Unlock()
	}
	return n
}

// pipeListener is a network without buffers, for tests in which time passes.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case l.conns <- theirs:
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// inTime runs a test of time with h on a network of its own.
func inTime(t *testing.T, h http.Handler, test func(t *testing.T, web *http.Transport)) {
	t.Helper()
	l := newPipeListener()
	server := &http.Server{Handler: h}
	go server.Serve(l)
	web := &http.Transport{DialContext: l.dial}
	test(t, web)
	web.CloseIdleConnections()
	server.Close()
}

func TestSSEHostKeepsAQuietStreamAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := plainProxy().HTTPHost((&children{serve: echo}).dial)
		who := someone("a")
		inTime(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.ServeSSE(w, r.WithContext(WithCaller(r.Context(), who)))
		}), func(t *testing.T, web *http.Transport) {
			req := must(http.NewRequestWithContext(t.Context(), "GET", "http://x/sse/shop", nil))(t)
			res := must(web.RoundTrip(req))(t)
			defer res.Body.Close()
			in := newSSEReader(res.Body, 1<<20)
			in.next() // endpoint
			begin := time.Now()
			for i := range 4 * 60 { // far longer than a session without a stream may idle
				e, err := in.next()
				if got, want := time.Since(begin), time.Duration(i+1)*keepAlive; err != nil || string(e.raw) != ": \n" && string(e.raw) != "\n" || got > want {
					t.Fatalf("after %v: %q, %v", got, e.raw, err)
				}
			}
			if time.Since(begin) < time.Hour/2 {
				t.Errorf("240 lines within %v", time.Since(begin))
			}
		})
		h.Close()
	})
}

func TestSSEHostThatStopsReadingLosesItsStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := plainProxy().HTTPHost((&children{serve: echo}).dial)
		who := someone("a")
		inTime(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.ServeSSE(w, r.WithContext(WithCaller(r.Context(), who)))
		}), func(t *testing.T, web *http.Transport) {
			req := must(http.NewRequestWithContext(t.Context(), "GET", "http://x/sse/shop", nil))(t)
			res := must(web.RoundTrip(req))(t)
			defer res.Body.Close()
			newSSEReader(res.Body, 1<<20).next() // and reads no more
			synctest.Wait()
			time.Sleep(keepAlive + stalledWrite - time.Second)
			synctest.Wait()
			if h.open() != 1 {
				t.Error("the session ended early")
			}
			time.Sleep(2*keepAlive + 2*time.Second) // a comment or two fit into the buffers
			synctest.Wait()
			if h.open() != 0 {
				t.Error("a host that reads nothing keeps its session")
			}
		})
		h.Close()
	})
}

func TestSSEHostBetweenTheirClientAndServers(t *testing.T) {
	for name, dial := range map[string]func(context.Context, authz.Caller) (Conn, error){
		"newer": func(ctx context.Context, _ authz.Caller) (Conn, error) {
			return DialHTTP(ctx, HTTPUpstream{Name: "shop", URL: theirHTTPServer(t)})
		},
		"older": func(ctx context.Context, _ authz.Caller) (Conn, error) {
			return DialSSE(ctx, HTTPUpstream{Name: "shop", URL: theirSSEServer(t)})
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newRealProxy(t, allowAll)
			h := p.HTTPHost(dial)
			defer h.Close()
			who := authz.Caller{Agent: must(p.store.EnsureAgent(t.Context(), "bot", p.owner))(t)}
			c := must(client.NewSSEMCPClient(sseDoor(t, who, h)))(t)
			if err := c.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			info := must(c.Initialize(t.Context(), mcp.InitializeRequest{Params: mcp.InitializeParams{ProtocolVersion: "2024-11-05", ClientInfo: mcp.Implementation{Name: "t", Version: "1"}}}))(t)
			if info.ServerInfo.Name != "their" {
				t.Errorf("the host sees the server %q", info.ServerInfo.Name)
			}
			got := must(c.CallTool(t.Context(), mcp.CallToolRequest{Params: mcp.CallToolParams{Name: "echo", Arguments: map[string]any{"text": "hi"}}}))(t)
			if text, _ := mcp.AsTextContent(got.Content[0]); text == nil || text.Text != "hi" {
				t.Errorf("got %+v", got)
			}
			p.outcome(t, `"outcome":"ok"`)
		})
	}
}

func TestSSEHostLeavesNothingBehind(t *testing.T) {
	h, _ := sessionsOf(t, plainProxy(), echo)
	url := sseDoor(t, someone("a"), h)
	round := func(n int) int {
		for range n {
			c := openSSE(t, url).shake()
			c.hangUp()
			io.Copy(io.Discard, c.res.Body)
		}
		eventually(t, "sessions are left", func() bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			return len(h.streams)+len(h.count) == 0
		})
		return runtime.NumGoroutine()
	}
	before := round(20)
	eventually(t, "goroutines are left", func() bool { return runtime.NumGoroutine() <= before+5 })
	round(100)
	eventually(t, "goroutines grow with the sessions", func() bool { return runtime.NumGoroutine() <= before+5 })
}

// An answer is one JSON text in the data of one event, also when its server
// wrote it over several lines.
func TestSSEHostLinesOfAMessage(t *testing.T) {
	h, _ := sessionsOf(t, plainProxy(), func(c *pipeConn, m Message) {
		if m.Method == "lines" {
			c.write("{\"jsonrpc\":\"2.0\",\r\n \"id\":1,\n\"result\":{\"s\":\"a\\nb\"}}")
			return
		}
		echo(c, m)
	})
	c := openSSE(t, sseDoor(t, someone("a"), h)).shake()
	c.post(`{"jsonrpc":"2.0","id":1,"method":"lines"}`)
	var got struct{ Result struct{ S string } }
	if raw := c.next(); json.Unmarshal([]byte(raw), &got) != nil || got.Result.S != "a\nb" {
		t.Errorf("got %q", raw)
	}
}
