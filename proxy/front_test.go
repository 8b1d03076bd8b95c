package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// farSide is another OpenLeash as far as a Front can tell: sessions, streams, and
// an address that it can leave and come back to. It notes what it was sent.
type farSide struct {
	t    *testing.T
	addr string
	// answer answers a request of a session; it may write a stream.
	answer func(w http.ResponseWriter, r *http.Request, m Message)
	hello  string // the result of initialize
	token  atomic.Value
	slow   chan struct{} // when not nil, initialize is answered after it was closed

	mu       sync.Mutex
	server   *http.Server
	seen     []string
	sessions map[string]chan string // what is said on the session's GET
	n        int
}

const richHello = `{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true},"prompts":{"listChanged":true},"resources":{}},"serverInfo":{"name":"far","version":"1"}}`

func newFarSide(t *testing.T) *farSide {
	f := &farSide{t: t, addr: "127.0.0.1:0", hello: richHello, answer: echoBack}
	f.token.Store("ola_token")
	f.start()
	t.Cleanup(f.stop)
	return f
}

// echoBack gives a request's method and id back.
func echoBack(w http.ResponseWriter, _ *http.Request, m Message) {
	w.Header().Set("Content-Type", typeJSON)
	fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"did":%q}}`, m.ID, m.Method)
}

func (f *farSide) start() {
	f.t.Helper()
	var l net.Listener
	for try := 0; ; try++ {
		var err error
		if l, err = net.Listen("tcp", f.addr); err == nil {
			break
		}
		if try > 100 {
			f.t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond) // the port is still being given back
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.addr = l.Addr().String()
	f.sessions = map[string]chan string{}
	f.server = &http.Server{Handler: f}
	go f.server.Serve(l)
}

// stop cuts every connection and refuses new ones.
func (f *farSide) stop() {
	f.mu.Lock()
	server := f.server
	f.mu.Unlock()
	server.Close()
}

// forget ends every session; the server stays.
func (f *farSide) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.sessions {
		close(c)
	}
	f.sessions = map[string]chan string{}
}

func (f *farSide) url() string { return "http://" + f.addr + "/mcp/x" }

func (f *farSide) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	id := r.Header.Get("Mcp-Session-Id")
	f.mu.Lock()
	said := f.sessions[id]
	known := id == "" || said != nil
	bare := r.Method == "POST" && id == "" && r.Header.Get("Mcp-Method") == "" && !strings.Contains(string(body), `"initialize"`)
	if known && !bare && r.Method == "POST" {
		f.seen = append(f.seen, string(body))
	}
	f.mu.Unlock()
	switch {
	case r.Header.Get("Authorization") != "Bearer "+f.token.Load().(string):
		w.Header().Set("WWW-Authenticate", "Bearer")
		http.Error(w, `{"error":{"code":"INVALID_TOKEN","message":"no"}}`, http.StatusUnauthorized)
	case !known:
		w.Header().Set("Content-Type", typeJSON)
		w.WriteHeader(404)
		io.WriteString(w, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no such session"}}`)
	case bare:
		w.WriteHeader(http.StatusBadRequest)
	case r.Method == "GET":
		f.listen(w, r, said)
	case r.Method == "POST":
		f.post(w, r, body)
	default:
		w.WriteHeader(405)
	}
}

func (f *farSide) post(w http.ResponseWriter, r *http.Request, body []byte) {
	m, err := ReadMessage(body, anyMessage(body))
	switch {
	case err != nil:
		f.t.Errorf("the other side got %q: %v", body, err)
	case m.Method == "initialize":
		if f.slow != nil {
			<-f.slow
		}
		f.mu.Lock()
		f.n++
		id := fmt.Sprint("s-", f.n)
		f.sessions[id] = make(chan string, 16)
		hello := f.hello
		f.mu.Unlock()
		w.Header().Set("Mcp-Session-Id", id)
		w.Header().Set("Content-Type", typeJSON)
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, hello)
	case m.IsRequest():
		f.answer(w, r, m)
	default:
		w.WriteHeader(202)
	}
}

func (f *farSide) listen(w http.ResponseWriter, r *http.Request, said chan string) {
	sse(w, ": \n\n")
	for {
		select {
		case m, ok := <-said:
			if !ok {
				return
			}
			sse(w, "data: "+m+"\n\n")
		case <-r.Context().Done():
			return
		}
	}
}

// say sends a message on the stream of the newest session.
func (f *farSide) say(m string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sessions[fmt.Sprint("s-", f.n)] <- m
}

// got waits until a message arrived that contains part, so many times.
func (f *farSide) got(part string, times int) {
	f.t.Helper()
	for range 1000 {
		if f.count(part) >= times {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	f.t.Fatalf("the other side did not get %q %d times; it got %q", part, times, f.all())
}

func (f *farSide) all() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.seen...)
}

func (f *farSide) count(part string) int {
	n := 0
	for _, s := range f.all() {
		if strings.Contains(s, part) {
			n++
		}
	}
	return n
}

// front starts a Front to url; what it returns is the host.
func front(t *testing.T, url string, adjust ...func(*Front)) *pipeConn {
	t.Helper()
	f := must(NewFront(url, "ola_token", zerolog.Nop()))(t)
	for _, a := range adjust {
		a(f)
	}
	host, ours := newPipes()
	ended := make(chan error, 1)
	go func() { ended <- f.Serve(t.Context(), ours) }()
	t.Cleanup(func() {
		host.Close()
		if err := <-ended; err != nil && !t.Failed() {
			t.Logf("the front ended: %v", err)
		}
	})
	return host
}

// greet makes the host's handshake.
func greet(t *testing.T, host *pipeConn) {
	t.Helper()
	host.write(initialize)
	if got, want := recvRaw(t, host), `{"jsonrpc":"2.0","id":0,"result":`+richHello+`}`; got != want {
		t.Fatalf("initialize: got %s, want %s", got, want)
	}
	host.write(initialized)
}

func asking(id int, method string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q}`, id, method)
}

func askModern(id int, method string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q,"params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`, id, method)
}

func did(id int, method string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"result":{"did":%q}}`, id, method)
}

// want reads messages of the other side and compares them.
func want(t *testing.T, host *pipeConn, messages ...string) {
	t.Helper()
	for _, m := range messages {
		if got := recvRaw(t, host); got != m {
			t.Fatalf("the host got %s, want %s", got, m)
		}
	}
}

// wantError reads an error with these words for a request.
func wantError(t *testing.T, host *pipeConn, id int, words ...string) {
	t.Helper()
	got := recvRaw(t, host)
	if !strings.Contains(got, fmt.Sprintf(`"id":%d,"error"`, id)) {
		t.Fatalf("the host got %s, want an error for %d", got, id)
	}
	for _, w := range words {
		if !strings.Contains(got, w) {
			t.Errorf("the host got %s, want %q in it", got, w)
		}
	}
}

// quietly says that the host gets nothing before the answer to one more request.
func quietly(t *testing.T, host *pipeConn, id int) {
	t.Helper()
	host.write(asking(id, "ping"))
	want(t, host, did(id, "ping"))
}

// What comes from either side passes as it came: odd bytes, our own keys, and
// the progress before the result.
func TestFrontPassesBytes(t *testing.T) {
	refusal := `{"jsonrpc":"2.0","id":7,"result":{"content":[],"isError":true,"_meta":{"ai.openleash/refusal":{"code":"POLICY_DENIED"}},"x":1.10}}`
	progress := `{"jsonrpc":"2.0", "method":"notifications/progress","params":{"progressToken":"p","progress":%d}}`
	far := newFarSide(t)
	far.answer = func(w http.ResponseWriter, r *http.Request, m Message) {
		if m.Method != "tools/call" {
			echoBack(w, r, m)
			return
		}
		for i := range 50 {
			sse(w, "data: "+fmt.Sprintf(progress, i)+"\n\n")
		}
		sse(w, "data: "+refusal+"\n\n")
	}
	host := front(t, far.url())
	greet(t, host)
	call := `{"id":7, "jsonrpc":"2.0","params":{"name":"é<","arguments":{"n":9007199254740993,"n2":1.10},"_meta":{"progressToken":"p","ai.openleash/x":1}},"method":"tools/call"}`
	host.write(call)
	for i := range 50 {
		want(t, host, fmt.Sprintf(progress, i))
	}
	want(t, host, refusal)
	if far.count(call) != 1 {
		t.Errorf("the call did not arrive as it was: %q", far.all())
	}
	far.say(`{"jsonrpc":"2.0","id":1,"method":"roots/list","params":{"a":"<"}}`)
	want(t, host, `{"jsonrpc":"2.0","id":1,"method":"roots/list","params":{"a":"<"}}`)
	host.write(`{"jsonrpc":"2.0","id":1,"result":{"roots":[ ]}}`)
	far.got(`{"jsonrpc":"2.0","id":1,"result":{"roots":[ ]}}`, 1)
	// But no answer to what was not asked, or was cancelled.
	far.say(`{"jsonrpc":"2.0","id":99,"result":{}}`)
	far.say(`{"jsonrpc":"2.0","method":"notifications/message","params":{}}`)
	want(t, host, `{"jsonrpc":"2.0","method":"notifications/message","params":{}}`)
}

// A host may write everything at once.
func TestFrontTakesAllAtOnce(t *testing.T) {
	far := newFarSide(t)
	host := front(t, far.url())
	host.write(initialize)
	host.write(initialized)
	for i := range 50 {
		host.write(asking(i+1, "ping"))
	}
	seen := map[string]bool{}
	for range 51 {
		seen[recvRaw(t, host)] = true
	}
	for i := range 50 {
		if !seen[did(i+1, "ping")] {
			t.Errorf("no answer to %d", i+1)
		}
	}
	far.got("notifications/initialized", 1)
}

// A forgotten session is begun anew with the host's own initialize. The host
// sees none of it but that lists may have changed; what a session remembers is
// said again; the order stays.
func TestFrontBeginsAnew(t *testing.T) {
	far := newFarSide(t)
	host := front(t, far.url())
	greet(t, host)
	setLevel := `{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"debug"}}`
	host.write(setLevel)
	want(t, host, did(1, "logging/setLevel"))
	for i, uri := range []string{"a:1", "b:2"} {
		host.write(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"resources/subscribe","params":{"uri":%q}}`, 2+i, uri))
		want(t, host, did(2+i, "resources/subscribe"))
	}
	host.write(`{"jsonrpc":"2.0","id":4,"method":"resources/unsubscribe","params":{"uri":"a:1"}}`)
	want(t, host, did(4, "resources/unsubscribe"))

	for round := range 3 {
		before := len(far.all())
		if round == 1 {
			far.forget()
		} else {
			far.stop()
			far.start()
		}
		host.write(asking(10+round, "first/list")) // may be repeated when its connection was dead already
		host.write(asking(20+round, "second/list"))
		got := map[string]bool{}
		for range 4 {
			got[recvRaw(t, host)] = true
		}
		for _, m := range []string{`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`, `{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}`,
			did(10+round, "first/list"), did(20+round, "second/list")} {
			if !got[m] {
				t.Errorf("the host did not get %s, but %v", m, got)
			}
		}
		quietly(t, host, 30+round)
		far.got(`"uri":"b:2"`, 2+round) // what is said again may arrive after what the host says
		far.got(`"level":"debug"`, 2+round)
		after := far.all()[before:]
		if len(after) != 7 {
			t.Fatalf("the other side got %d messages: %q", len(after), after)
		}
		if !strings.Contains(after[0], `"method":"initialize","params":{"protocolVersion":"2025-11-25"`) || after[1] != initialized {
			t.Errorf("the session began with %q", after[:2])
		}
		rest := strings.Join(after[2:], "\n") // on connections beside each other
		for _, part := range []string{`"method":"logging/setLevel","params":{"level":"debug"}`, `"uri":"b:2"`, `"first/list"`, `"second/list"`, `"ping"`} {
			if strings.Count(rest, part) != 1 {
				t.Errorf("%s was sent %d times: %s", part, strings.Count(rest, part), rest)
			}
		}
	}
}

// The host hears of a new start also when it asks nothing.
func TestFrontComesBackByItself(t *testing.T) {
	t.Parallel()
	far := newFarSide(t)
	host := front(t, far.url())
	greet(t, host)
	far.got("notifications/initialized", 1)
	quietly(t, host, 1)
	far.stop()
	far.start()
	want(t, host, `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`)
	far.got("notifications/initialized", 2)
}

// One that was cancelled while it waited is never sent.
func TestFrontCancelledWhileItWaits(t *testing.T) {
	far := newFarSide(t)
	far.slow = make(chan struct{})
	host := front(t, far.url())
	host.write(initialize)
	host.write(asking(2, "pay"))
	host.write(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}`)
	host.write(asking(0, "ping"))
	wantError(t, host, 0, "has not been answered yet") // so all before it was taken
	close(far.slow)
	want(t, host, `{"jsonrpc":"2.0","id":0,"result":`+richHello+`}`)
	quietly(t, host, 3)
	if far.count("pay") != 0 || far.count("cancelled") != 0 {
		t.Errorf("the other side got %q", far.all())
	}
}

// While the other side is away requests wait, then they are answered.
func TestFrontAway(t *testing.T) {
	t.Parallel()
	far := newFarSide(t)
	host := front(t, far.url(), func(f *Front) { f.wait = 200 * time.Millisecond })
	greet(t, host)
	quietly(t, host, 1)
	far.stop()
	host.write(asking(2, "early/list"))
	wantError(t, host, 2, far.url()+" cannot be reached", "connection refused", "Nothing was sent", "openleash start")
	host.write(asking(4, "late"))
	wantError(t, host, 4, "cannot be reached")
	far.start()
	want(t, host, `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`, `{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}`)
	quietly(t, host, 5)
	for _, method := range []string{"early", "late"} {
		if far.count(method) != 0 {
			t.Errorf("%s was sent after all", method)
		}
	}
}

// At the start initialize waits for the other side.
func TestFrontStartsFirst(t *testing.T) {
	far := newFarSide(t)
	far.stop()
	host := front(t, far.url())
	host.write(initialize)
	time.Sleep(300 * time.Millisecond) // for some attempts in vain; nothing leans on it
	far.start()
	if got := recvRaw(t, host); !strings.Contains(got, richHello) {
		t.Fatalf("initialize: %s", got)
	}
}

// What the other side was doing when it went is not repeated: the host is told
// that it may have been done.
// An answer that can be read in two ways is none, and the request is answered all
// the same.
func TestFrontBadAnswer(t *testing.T) {
	far := newFarSide(t)
	far.answer = func(w http.ResponseWriter, r *http.Request, m Message) {
		if m.Method != "bad" {
			echoBack(w, r, m)
			return
		}
		sse(w, `data: {"jsonrpc":"2.0","id":`+m.ID+`,"result":{},"Result":{}}`+"\n\n")
	}
	host := front(t, far.url())
	greet(t, host)
	host.write(asking(1, "bad"))
	wantError(t, host, 1, "no JSON-RPC message", "look before you repeat it")
	quietly(t, host, 2)
}

func TestFrontBrokenOff(t *testing.T) {
	t.Parallel()
	far := newFarSide(t)
	arrived := make(chan struct{}, 8)
	far.answer = func(w http.ResponseWriter, r *http.Request, m Message) {
		switch m.Method {
		case "streamed":
			sse(w, ": \n\n")
			fallthrough
		case "plain":
			arrived <- struct{}{}
			<-r.Context().Done()
		case "empty": // as some do that are being ended
			arrived <- struct{}{}
		default:
			echoBack(w, r, m)
		}
	}
	host := front(t, far.url())
	greet(t, host)
	for i, method := range []string{"plain", "streamed", "empty"} {
		host.write(asking(10+i, method))
		<-arrived
		if method != "empty" {
			far.stop()
		}
		wantError(t, host, 10+i, "went away before it answered", "not known", "look before you repeat it")
		if method != "empty" {
			far.start()
			want(t, host, `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`, `{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}`)
		}
		if n := far.count(`"` + method + `"`); n != 1 {
			t.Errorf("%s was sent %d times", method, n)
		}
	}
}

// A question of the old session needs no answer any more, and its answer is not
// taken for one to a question of the new session, which counts alike.
func TestFrontOldQuestions(t *testing.T) {
	t.Parallel()
	far := newFarSide(t)
	host := front(t, far.url())
	greet(t, host)
	far.got("initialized", 1)
	far.say(`{"jsonrpc":"2.0","id":1,"method":"elicitation/create","params":{"message":"delete?"}}`)
	want(t, host, `{"jsonrpc":"2.0","id":1,"method":"elicitation/create","params":{"message":"delete?"}}`)
	far.forget()
	cancelled := recvRaw(t, host)
	if !strings.Contains(cancelled, `"method":"notifications/cancelled","params":{"requestId":1,`) {
		t.Fatalf("the host got %s, want the cancellation", cancelled)
	}
	want(t, host, `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`, `{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}`)
	far.got("initialized", 2)
	far.say(`{"jsonrpc":"2.0","id":1,"method":"elicitation/create","params":{"message":"pay?"}}`)
	asked := message(t, recvRaw(t, host))
	if asked.ID == "1" || !strings.Contains(string(asked.Raw), `"pay?"`) {
		t.Fatalf("the host got %s, want the question under a new id", asked.Raw)
	}
	host.write(`{"jsonrpc":"2.0","id":1,"result":{"action":"accept"}}`) // to the first
	host.write(`{"jsonrpc":"2.0","id":` + asked.ID + `,"result":{"action":"decline"}}`)
	far.got("decline", 1)
	far.got(`{"jsonrpc":"2.0","id":1,"result":{"action":"decline"}}`, 1)
	if far.count("accept") != 0 {
		t.Error("the old answer reached the new session")
	}
	// What the other side takes back it names as the host knows it.
	far.say(`{"jsonrpc":"2.0","id":2,"method":"roots/list"}`)
	asked = message(t, recvRaw(t, host))
	far.say(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}`)
	want(t, host, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":`+asked.ID+`}}`)
}

// A 404 that a new session does not mend is the answer.
func TestFrontStubborn404(t *testing.T) {
	far := newFarSide(t)
	far.answer = func(w http.ResponseWriter, r *http.Request, m Message) {
		if m.Method != "odd" {
			echoBack(w, r, m)
			return
		}
		w.Header().Set("Content-Type", typeJSON)
		w.WriteHeader(404)
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no such method"}}`, m.ID)
	}
	host := front(t, far.url())
	greet(t, host)
	host.write(asking(1, "odd"))
	want(t, host, `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`, `{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}`,
		`{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no such method"}}`)
	quietly(t, host, 2)
	if n := far.count(`"odd"`); n != 2 {
		t.Errorf("it was sent %d times, want 2", n)
	}
}

// What the other side says of itself cannot be changed under the host.
func TestFrontOtherVersion(t *testing.T) {
	far := newFarSide(t)
	host := front(t, far.url())
	greet(t, host)
	far.stop()
	far.hello = strings.Replace(richHello, "2025-11-25", "2025-06-18", 1)
	far.start()
	host.write(asking(1, "ping"))
	wantError(t, host, 1, `speaks protocol version \"2025-06-18\"`, `\"2025-11-25\" was agreed`, "start this server in the host again")
	if got := recvRaw(t, host); !strings.Contains(got, "EOF") {
		t.Errorf("the host got %s, want the end", got)
	}
}

// Who calls must be known: at the start, and when the token is revoked later.
func TestFrontToken(t *testing.T) {
	far := newFarSide(t)
	f := must(NewFront(far.url(), "ola_old", zerolog.Nop()))(t)
	defer f.far.Close()
	if err := f.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "does not accept the token (401 Unauthorized). Nothing was done. There, `openleash agents token NAME`") {
		t.Errorf("Check: %v", err)
	}
	if err := must(NewFront(far.url(), "ola_token", zerolog.Nop()))(t).Check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}
	host := front(t, far.url())
	greet(t, host)
	quietly(t, host, 1)
	far.token.Store("ola_newer")
	host.write(asking(2, "ping"))
	wantError(t, host, 2, "does not accept the token (401 Unauthorized)", "Nothing was done")
}

// 2026-07-28 has no sessions: a request waits for the other side, and closing its
// stream is its cancellation.
func TestFrontStateless(t *testing.T) {
	far := newFarSide(t)
	arrived, left := make(chan struct{}), make(chan struct{})
	far.answer = func(w http.ResponseWriter, r *http.Request, m Message) {
		if r.Header.Get("Mcp-Method") != m.Method || r.Header.Get("Mcp-Protocol-Version") != "2026-07-28" {
			t.Errorf("headers of %s: %v", m.Method, r.Header)
		}
		if m.Method != "long" {
			echoBack(w, r, m)
			return
		}
		close(arrived)
		<-r.Context().Done()
		close(left)
	}
	host := front(t, far.url())
	host.write(askModern(1, "server/discover"))
	want(t, host, did(1, "server/discover"))
	far.stop()
	host.write(askModern(2, "tools/list"))
	time.Sleep(150 * time.Millisecond) // for an attempt in vain; nothing leans on it
	far.start()
	want(t, host, did(2, "tools/list"))
	host.write(askModern(3, "long"))
	<-arrived
	host.write(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":3}}`)
	select {
	case <-left:
	case <-time.After(10 * time.Second):
		t.Fatal("the stream of a cancelled request stayed open")
	}
	host.write(askModern(4, "ping"))
	want(t, host, did(4, "ping"))
}

// An initialize of the stateless era is no beginning of a session: the other side
// is to say that there is none.
func TestDialHTTPModernInitialize(t *testing.T) {
	up := newRawUpstream(t, answerJSON(`{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}`))
	c := dialHTTP(t, up.URL)
	sendRaw(t, c, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`)
	recvRaw(t, c)
	if h := up.requests()[0].header; h.Get("Mcp-Method") != "initialize" || h.Get("Mcp-Protocol-Version") != "2026-07-28" {
		t.Errorf("headers: %v", h)
	}
}

// In the eras before, too, after the cancellation has arrived.
func TestFrontCancels(t *testing.T) {
	far := newFarSide(t)
	arrived, left := make(chan struct{}), make(chan struct{})
	far.answer = func(w http.ResponseWriter, r *http.Request, m Message) {
		if m.Method != "long" {
			echoBack(w, r, m)
			return
		}
		close(arrived)
		<-r.Context().Done()
		close(left)
	}
	host := front(t, far.url())
	greet(t, host)
	host.write(asking(1, "long"))
	<-arrived
	host.write(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`)
	far.got("notifications/cancelled", 1)
	select {
	case <-left:
	case <-time.After(10 * time.Second):
		t.Fatal("the stream of a cancelled request stayed open")
	}
	quietly(t, host, 1) // the id is free again
}

// An id that waits for its answer is not used twice.
func TestFrontSameID(t *testing.T) {
	far := newFarSide(t)
	release := make(chan struct{})
	far.answer = func(w http.ResponseWriter, r *http.Request, m Message) {
		<-release
		echoBack(w, r, m)
	}
	host := front(t, far.url())
	greet(t, host)
	host.write(asking(1, "a"))
	host.write(asking(1, "b"))
	wantError(t, host, 1, "has not been answered yet")
	close(release)
	want(t, host, did(1, "a"))
	if far.count(`"b"`) != 0 {
		t.Error("the second one was sent")
	}
}

// An answer that is no JSON-RPC is told in words, and what is not OpenLeash's to
// say stays out.
func TestFrontOddAnswers(t *testing.T) {
	far := newFarSide(t)
	far.answer = func(w http.ResponseWriter, r *http.Request, m Message) {
		switch m.Method {
		case "unknown":
			w.Header().Set("Content-Type", typeJSON)
			w.WriteHeader(400)
			io.WriteString(w, `{"error":{"code":"UNKNOWN_SERVER","message":"no server \"x\""}}`)
		case "moved":
			http.Redirect(w, r, "http://elsewhere.example/steal", http.StatusTemporaryRedirect)
		case "broken":
			http.Error(w, "gateway", http.StatusBadGateway)
		}
	}
	host := front(t, far.url())
	greet(t, host)
	host.write(asking(1, "unknown"))
	wantError(t, host, 1, `answered 400 Bad Request: no server \"x\". Nothing was done`)
	host.write(asking(2, "moved"))
	wantError(t, host, 2, "redirects to http://elsewhere.example/steal, which is not followed. Nothing was done")
	host.write(asking(3, "broken"))
	wantError(t, host, 3, "502 Bad Gateway", "not known")
}

// The token never leaves this machine in the clear.
func TestFrontAddresses(t *testing.T) {
	for address, ok := range map[string]bool{
		"http://127.0.0.1:8787/mcp/x":              true,
		"http://localhost:8787/mcp/x":              true,
		"http://[::1]:8787/mcp/x":                  true,
		"https://leash.example/mcp/x":              true,
		"http://leash.example/mcp/x":               false,
		"http://192.168.1.2:8787/mcp/x":            false,
		"http://0.0.0.0:8787/mcp/x":                false,
		"http://openleash.localhost:8787/mcp/x":    false, // a proxy of the environment would get it
		"http://127.0.0.1.evil.example/mcp/x":      false,
		"http://2130706433/mcp/x":                  false,
		"http://127.0.0.1:8787@evil.example/mcp/x": false,
		"https://ola_secret@leash.example/mcp/x":   false,
		"127.0.0.1:8787/mcp/x":                     false,
		"ftp://127.0.0.1/mcp/x":                    false,
		"":                                         false,
	} {
		_, err := NewFront(address, "ola_token", zerolog.Nop())
		if (err == nil) != ok {
			t.Errorf("%q: %v", address, err)
		}
		if err != nil && strings.Contains(err.Error(), "ola_") {
			t.Errorf("%q: the error repeats a secret: %v", address, err)
		}
	}
}

// When the host closes its end, what is under way is still answered; then the
// session is ended.
func TestFrontSettles(t *testing.T) {
	far := newFarSide(t)
	release := make(chan struct{})
	far.answer = func(w http.ResponseWriter, r *http.Request, m Message) {
		<-release
		echoBack(w, r, m)
	}
	f := must(NewFront(far.url(), "ola_token", zerolog.Nop()))(t)
	in, toFront := io.Pipe()
	fromFront, out := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- f.Serve(context.Background(), StdioHost(in, out, FrontLimits)) }()
	host := StdioHost(fromFront, toFront, FrontLimits)
	sendRaw(t, host, initialize)
	recvRaw(t, host)
	sendRaw(t, host, asking(1, "last"))
	far.got(`"last"`, 1)
	toFront.Close()
	close(release)
	if got := recvRaw(t, host); got != did(1, "last") {
		t.Errorf("got %s", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
