package proxy

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/authz"
)

// A pair is how host and upstream speak to us.
type pair struct{ host, up string }

var pairs = []pair{{"stdio", "stdio"}, {"stdio", "http"}, {"http", "stdio"}, {"http", "http"}}

func (p pair) String() string { return p.host + "-" + p.up }

// A wire is a host and an upstream that the test plays in bytes, over pipes of
// the system and over TCP, with a whole proxy between them.
type wire struct {
	realProxy
	pair
	t        *testing.T
	host, up *end
	toHost   *httpHost     // over HTTP
	toUp     *httpUpstream // over HTTP
	door     http.Handler  // over HTTP
	ended    chan error    // over stdio: what Serve returned
}

// An end is what the test plays. What it does not take out of got is not read
// from the wire.
type end struct {
	t     *testing.T
	got   chan string
	last  string
	write func(raw string)
}

// patience is for a message that must come.
const patience = 20 * time.Second

// next is the next message that came.
func (e *end) next() string {
	e.t.Helper()
	select {
	case raw := <-e.got:
		e.last = raw
		return raw
	case <-time.After(patience):
		e.t.Fatalf("no message came; the one before was %.300s", e.last)
		return ""
	}
}

func (e *end) silent(d time.Duration) {
	e.t.Helper()
	select {
	case raw := <-e.got:
		e.t.Errorf("a message came that must not: %.300s", raw)
	case <-time.After(d):
	}
}

// give hands a message to the test, when it takes it.
func (e *end) give(raw string) {
	select {
	case e.got <- raw:
	case <-e.t.Context().Done():
	}
}

func newEnd(t *testing.T) *end { return &end{t: t, got: make(chan string)} }

// stdioEnd reads and writes lines.
func stdioEnd(t *testing.T, in io.Reader, out io.Writer) *end {
	e := newEnd(t)
	var mu sync.Mutex
	e.write = func(raw string) {
		mu.Lock()
		defer mu.Unlock()
		io.WriteString(out, raw+"\n")
	}
	go func() {
		r := bufio.NewReader(in)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			e.give(strings.TrimSuffix(line, "\n"))
		}
	}()
	return e
}

// wirePipes are two pipes of the system, as a parent has them with its child.
func wirePipes(t *testing.T) (near, far struct{ r, w *os.File }) {
	t.Helper()
	var err error
	if near.r, far.w, err = os.Pipe(); err == nil {
		far.r, near.w, err = os.Pipe()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, f := range []*os.File{near.r, near.w, far.r, far.w} {
			f.Close()
		}
	})
	return near, far
}

func newWire(t *testing.T, kind pair, policyYAML string, adjust ...func(*Proxy)) *wire {
	t.Helper()
	w := &wire{realProxy: newRealProxy(t, policyYAML), pair: kind, t: t}
	for _, f := range adjust {
		f(w.Proxy)
	}
	dial := w.upstream()
	if kind.host == "stdio" {
		near, far := wirePipes(t)
		w.host = stdioEnd(t, far.r, far.w)
		ctx, stop := context.WithCancel(t.Context())
		w.ended = make(chan error, 1)
		up := must(dial(ctx, authz.Caller{}))(t)
		who := authz.Caller{Agent: must(w.store.EnsureAgent(t.Context(), "bot", w.owner))(t)}
		go func() { w.ended <- w.Serve(ctx, who, StdioHost(near.r, near.w, w.Limits), up) }()
		t.Cleanup(func() { stop(); far.w.Close(); near.r.Close(); <-w.ended })
		return w
	}
	if kind.up == "http" {
		w.door = w.HTTPPassthrough(HTTPUpstream{URL: w.toUp.server.URL})
	} else {
		sessions := w.HTTPHost(dial)
		t.Cleanup(func() { sessions.Close() })
		w.door = sessions
	}
	w.toHost = newHTTPHost(t, w.as(t, "bot", w.door).URL)
	w.host = w.toHost.end
	return w
}

// upstream makes the far upstream, and what opens it.
func (w *wire) upstream() func(context.Context, authz.Caller) (Conn, error) {
	if w.pair.up == "http" {
		w.toUp = newHTTPUpstream(w.t)
		w.up = w.toUp.end
		return func(ctx context.Context, _ authz.Caller) (Conn, error) {
			return DialHTTP(ctx, HTTPUpstream{Name: "shop", URL: w.toUp.server.URL})
		}
	}
	near, far := wirePipes(w.t)
	w.up = stdioEnd(w.t, far.r, far.w)
	return func(context.Context, authz.Caller) (Conn, error) {
		return newLines(near.r, near.w, action.Limits{Bytes: w.Limits.Bytes}, func() error { near.r.Close(); return near.w.Close() }), nil
	}
}

// begin is the handshake; over HTTP both sides open the stream for what is
// said unasked.
func (w *wire) begin() *wire {
	w.t.Helper()
	return w.beginAs(hello)
}

// beginAs is begin with another answer to initialize.
func (w *wire) beginAs(hello string) *wire {
	w.t.Helper()
	w.pass(w.host, w.up, initialize, initialize)
	w.pass(w.up, w.host, hello, hello)
	w.pass(w.host, w.up, initialized, initialized)
	if w.toHost != nil {
		w.toHost.listen()
	}
	if w.toUp != nil {
		select {
		case <-w.toUp.listening:
		case <-time.After(patience):
			w.t.Fatal("the upstream's stream is not opened")
		}
	}
	return w
}

// pass writes a message at one end and wants it at the other, but for our
// proof.
func (w *wire) pass(from, to *end, raw, want string) {
	w.t.Helper()
	from.write(raw)
	if got := unproved(to.next()); got != want {
		w.t.Errorf("wrote %s\ngot   %s\nwant  %s", raw, got, want)
	}
}

// unproved takes our key out of a forwarded call: what is left must be what the
// host wrote.
func unproved(raw string) string {
	from := strings.Index(raw, `"`+ProofKey+`":"`)
	if from < 0 {
		return raw
	}
	to := from + len(ProofKey) + 4
	to += strings.IndexByte(raw[to:], '"') + 1
	if strings.HasSuffix(raw[:from], `"_meta":{`) && strings.HasPrefix(raw[to:], `},`) {
		return raw[:from-len(`"_meta":{`)] + raw[to+2:]
	}
	return raw[:from] + strings.TrimPrefix(raw[to:], ",")
}

// httpHost is the far end of a host over HTTP.
type httpHost struct {
	*end
	url     string
	mu      sync.Mutex
	session string
}

func newHTTPHost(t *testing.T, url string) *httpHost {
	h := &httpHost{end: newEnd(t), url: url}
	h.end.write = h.post
	return h
}

// headers are those that an SDK sends.
func (h *httpHost) headers(m Message) []string {
	if v := metaVersion(m); isModern(v) {
		list := []string{"MCP-Protocol-Version", v, "Mcp-Method", m.Method}
		if member := nameMember(m.Method); member != "" {
			name, _ := stringAt(m.Raw, "params", member)
			list = append(list, "Mcp-Name", name)
		}
		return list
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.session == "" {
		return nil
	}
	return []string{"Mcp-Session-Id", h.session, "MCP-Protocol-Version", "2025-11-25"}
}

// post sends one message; what a request is answered comes later.
func (h *httpHost) post(raw string) {
	m, _ := ReadMessage([]byte(raw), anyMessage([]byte(raw)))
	answered := make(chan struct{})
	go h.exchange(raw, h.headers(m), answered)
	if !m.IsRequest() {
		<-answered
	}
}

func (h *httpHost) exchange(raw string, headers []string, answered chan<- struct{}) {
	res, err := send(h.t.Context(), "POST", h.url, raw, headers...)
	close(answered)
	if err != nil {
		if h.t.Context().Err() == nil {
			h.t.Errorf("POST %.100s: %v", raw, err)
		}
		return
	}
	defer res.Body.Close()
	if id := res.Header.Get("Mcp-Session-Id"); id != "" {
		h.mu.Lock()
		h.session = id
		h.mu.Unlock()
	}
	h.read(res)
}

func (h *httpHost) read(res *http.Response) {
	if res.Header.Get("Content-Type") == typeSSE {
		for in := newSSEReader(res.Body, 1<<26); ; {
			e, err := in.next()
			if err != nil {
				return
			}
			if len(e.data) > 0 {
				h.give(string(e.data))
			}
		}
	}
	body, _ := io.ReadAll(res.Body)
	if len(body) > 0 {
		h.give(string(body))
	}
}

func (h *httpHost) listen() {
	res, err := send(h.t.Context(), "GET", h.url, "", h.headers(Message{})...)
	if err != nil || res.StatusCode != 200 {
		h.t.Errorf("GET: %v, %v", res, err)
		return
	}
	go func() {
		defer res.Body.Close()
		h.read(res)
	}()
}

// httpUpstream is the far end of an upstream over HTTP.
type httpUpstream struct {
	*end
	server    *httptest.Server
	listening chan struct{}

	mu      sync.Mutex
	open    []*upExchange
	streams []*upExchange // GET
	headers []http.Header // of the POSTs, in their order
	methods []string      // of the other requests
}

// upExchange is a request that the upstream has not answered.
type upExchange struct {
	id  string
	out chan string
	end chan struct{}
}

func newHTTPUpstream(t *testing.T) *httpUpstream {
	u := &httpUpstream{end: newEnd(t), listening: make(chan struct{}, 10)}
	u.end.write = u.say
	u.server = httptest.NewServer(u)
	t.Cleanup(func() { u.server.CloseClientConnections(); u.server.Close() })
	return u
}

func (u *httpUpstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &upExchange{out: make(chan string), end: make(chan struct{})}
	defer close(x.end)
	if r.Method != "POST" {
		u.mu.Lock()
		u.methods = append(u.methods, r.Method)
		u.mu.Unlock()
	}
	switch r.Method {
	case "GET":
		u.add(&u.streams, x)
		defer u.drop(&u.streams, x)
		sse(w, ": open\n\n")
		u.listening <- struct{}{}
		u.serve(w, r, x)
	case "DELETE":
		w.WriteHeader(http.StatusNoContent)
	default:
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		m, _ := ReadMessage(body, anyMessage(body))
		u.mu.Lock()
		u.headers = append(u.headers, r.Header.Clone())
		u.mu.Unlock()
		if m.Method == "initialize" {
			w.Header().Set("Mcp-Session-Id", "up-session")
		}
		if !m.IsRequest() {
			w.Header().Set("Content-Length", "0") // it is complete before the test takes the message
			w.WriteHeader(http.StatusAccepted)
			w.(http.Flusher).Flush()
			u.give(string(body))
			return
		}
		x.id = m.ID
		u.add(&u.open, x)
		defer u.drop(&u.open, x)
		u.give(string(body))
		u.serve(w, r, x)
	}
}

func (u *httpUpstream) add(list *[]*upExchange, x *upExchange) {
	u.mu.Lock()
	defer u.mu.Unlock()
	*list = append(*list, x)
}

func (u *httpUpstream) drop(list *[]*upExchange, x *upExchange) {
	u.mu.Lock()
	defer u.mu.Unlock()
	*list = slices.DeleteFunc(*list, func(o *upExchange) bool { return o == x })
}

// serve writes what is said in answer: a body when that is the response alone.
func (u *httpUpstream) serve(w http.ResponseWriter, r *http.Request, x *upExchange) {
	streams := r.Method == "GET"
	for {
		select {
		case raw := <-x.out:
			m, _ := ReadMessage([]byte(raw), anyMessage([]byte(raw)))
			last := m.IsResponse() && m.ID == x.id
			if last && !streams {
				w.Header().Set("Content-Type", typeJSON)
				io.WriteString(w, raw)
				return
			}
			streams = true
			sse(w, string(appendData(nil, []byte(raw))))
			if last {
				return
			}
		case <-r.Context().Done():
			return
		case <-u.t.Context().Done():
			return
		}
	}
}

// say writes where the message belongs: to its request, else to the latest one
// that is open, else to the stream for what is unasked.
func (u *httpUpstream) say(raw string) {
	m, err := ReadMessage([]byte(raw), anyMessage([]byte(raw)))
	u.mu.Lock()
	var x *upExchange
	list := slices.Concat(u.streams, u.open)
	for _, o := range list {
		if err == nil && m.IsResponse() && o.id != m.ID {
			continue
		}
		x = o
	}
	u.mu.Unlock()
	if x == nil {
		if u.t.Context().Err() != nil {
			return
		}
		u.t.Errorf("nobody listens to %s", raw)
		return
	}
	select {
	case x.out <- raw:
	case <-x.end:
		if !m.IsResponse() {
			u.say(raw) // that one was just being answered
		}
	case <-u.t.Context().Done():
	}
}
