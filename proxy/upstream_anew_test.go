package proxy

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// dialFar is a DialHTTP to far, after the host's handshake.
func dialFar(t *testing.T, far *farSide) *httpConn {
	t.Helper()
	c := must(DialHTTP(t.Context(), HTTPUpstream{Name: "far", URL: far.url(), Headers: map[string]string{"Authorization": "Bearer ola_token"}}))(t)
	t.Cleanup(func() { c.Close() })
	sendRaw(t, c, initialize)
	if got := recvRaw(t, c); !strings.Contains(got, richHello) {
		t.Fatalf("initialize: %s", got)
	}
	sendRaw(t, c, initialized)
	return c.(*httpConn)
}

// wantRaw reads messages and compares them.
func wantRaw(t *testing.T, c Conn, messages ...string) {
	t.Helper()
	for _, m := range messages {
		if got := recvRaw(t, c); got != m {
			t.Fatalf("the host got %s\nwant %s", got, m)
		}
	}
}

const promptsChanged = `{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}`

// A session that the upstream has forgotten is begun anew with the host's own
// words. The host sees that its question was taken back, that lists may have
// changed, and the answer to what it asked.
func TestDialHTTPBeginsAnew(t *testing.T) {
	far := newFarSide(t)
	c := dialFar(t, far)
	for id, m := range []string{`"logging/setLevel","params":{"level":"debug"}`, `"resources/subscribe","params":{"uri":"a:1"}`, `"resources/subscribe","params":{"uri":"b:2"}`, `"resources/unsubscribe","params":{"uri":"a:1"}`} {
		sendRaw(t, c, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%s}`, id, m))
		recvRaw(t, c)
	}
	question := `{"jsonrpc":"2.0","id":1,"method":"elicitation/create","params":{"message":"delete?"}}`
	far.say(question)
	wantRaw(t, c, question)
	before := len(far.all())
	far.forget() // the GET too, which takes a second to find it out: the request does before
	buy := `{"jsonrpc":"2.0", "id":7,"method":"tools/call","params":{"n":1.10}}`
	sendRaw(t, c, buy)
	wantRaw(t, c, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"reason":"the server was started anew"}}`,
		toolsChanged, promptsChanged, did(7, "tools/call"))
	far.got(`"uri":"b:2"`, 2)
	far.got(`"level":"debug"`, 2)
	ours := func(n int) string { return fmt.Sprintf(`"%s%d"`, c.memory.ids, n) }
	got, want := far.all()[before:], []string{
		initialize, initialized,
		`{"jsonrpc":"2.0","id":` + ours(1) + `,"method":"logging/setLevel","params":{"level":"debug"}}`,
		`{"jsonrpc":"2.0","id":` + ours(2) + `,"method":"resources/subscribe","params":{"uri":"b:2"}}`,
		buy,
	}
	slices.Sort(got[2:]) // each on a connection of its own
	slices.Sort(want[2:])
	if !slices.Equal(got, want) {
		t.Errorf("the server got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	far.say(strings.Replace(question, "delete", "pay", 1))
	wantRaw(t, c, strings.Replace(strings.Replace(question, "delete", "pay", 1), `"id":1`, `"id":`+ours(3), 1))
	sendRaw(t, c, `{"jsonrpc":"2.0","id":1,"result":{"action":"accept"}}`)
	sendRaw(t, c, `{"jsonrpc":"2.0","id":`+ours(3)+`,"result":{"action":"decline"}}`)
	far.got(`{"jsonrpc":"2.0","id":1,"result":{"action":"decline"}}`, 1)
	if far.count("accept") != 0 {
		t.Error("the late answer to the old question reached the new session")
	}
}

// A GET stream that ends and is answered 404 tells it too, when the host asks
// nothing.
func TestDialHTTPListensAnew(t *testing.T) {
	t.Parallel()
	far := newFarSide(t)
	c := dialFar(t, far)
	far.say(toolsChanged) // so the stream is open
	wantRaw(t, c, toolsChanged)
	far.forget()
	wantRaw(t, c, toolsChanged, promptsChanged)
	far.say(`{"jsonrpc":"2.0","method":"new"}`)
	wantRaw(t, c, `{"jsonrpc":"2.0","method":"new"}`)
}

// A server without a GET answers that with 404 in every session.
func TestDialHTTPNoStreamIsNoForgottenSession(t *testing.T) {
	up := newRawUpstream(t, handshake(func(w http.ResponseWriter, r *http.Request, _ string) {
		if r.Method != "POST" {
			w.WriteHeader(404)
			return
		}
		answerJSON(`{"jsonrpc":"2.0","id":5,"result":{}}`)(w, r, "")
	}))
	c := dialHTTP(t, up.URL)
	sendRaw(t, c, initialize)
	recvRaw(t, c)
	sendRaw(t, c, initialized)
	for len(up.requests()) < 3 {
		time.Sleep(5 * time.Millisecond)
	}
	time.Sleep(100 * time.Millisecond) // for a renewal that must not be; nothing leans on it
	sendRaw(t, c, `{"jsonrpc":"2.0","id":5,"method":"x"}`)
	wantRaw(t, c, `{"jsonrpc":"2.0","id":5,"result":{}}`)
	if n := up.count(`"initialize"`); n != 1 {
		t.Errorf("%d sessions were begun, want 1", n)
	}
}

// A 404 that a new session does not mend is the answer.
func TestDialHTTPStubborn404(t *testing.T) {
	up := newRawUpstream(t, handshake(func(w http.ResponseWriter, r *http.Request, _ string) { w.WriteHeader(404) }))
	c := dialHTTP(t, up.URL)
	sendRaw(t, c, initialize)
	recvRaw(t, c)
	sendRaw(t, c, `{"jsonrpc":"2.0","id":5,"method":"x"}`)
	if got := recvRaw(t, c); !strings.HasPrefix(got, `{"jsonrpc":"2.0","id":5,"error":`) || !strings.Contains(got, "answered 404 Not Found") {
		t.Errorf("got %s", got)
	}
	if up.count(`"initialize"`) != 2 || up.count(`"x"`) != 2 {
		t.Errorf("initialize was sent %d times and the request %d times, want 2 and 2", up.count(`"initialize"`), up.count(`"x"`))
	}
}

// What comes while a session is begun anew waits for it, but for what nobody wants
// there; one that was cancelled meanwhile is never sent.
func TestDialHTTPWaitsForTheNewSession(t *testing.T) {
	far := newFarSide(t)
	far.slow = make(chan struct{}, 1)
	far.slow <- struct{}{} // for the first initialize
	c := dialFar(t, far)
	far.say(`{"jsonrpc":"2.0","id":1,"method":"roots/list"}`)
	recvRaw(t, c)
	far.forget()
	for id := 10; id < 14; id++ {
		m := message(t, asking(id, fmt.Sprint("m", id)))
		go c.Send(t.Context(), m)
	}
	wantRaw(t, c, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"reason":"the server was started anew"}}`)
	waiting := func() (n int) {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.open)
	}
	for waiting() < 4 {
		time.Sleep(time.Millisecond)
	}
	sendRaw(t, c, `{"jsonrpc":"2.0","id":1,"result":{"roots":[]}}`)
	sendRaw(t, c, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":12}}`)
	for waiting() > 3 {
		time.Sleep(time.Millisecond)
	}
	close(far.slow)
	wantRaw(t, c, toolsChanged, promptsChanged)
	got := []string{recvRaw(t, c), recvRaw(t, c), recvRaw(t, c)}
	slices.Sort(got)
	if want := []string{did(10, "m10"), did(11, "m11"), did(13, "m13")}; !slices.Equal(got, want) {
		t.Errorf("the host got %q, want %q", got, want)
	}
	if far.count(`"initialize"`) != 2 || far.count("m12") != 0 || far.count("roots") != 0 || far.count("cancelled") != 0 {
		t.Errorf("the server got %q", far.all())
	}
}

// When no new session can be begun the host is told why, and the next request
// tries again. One with another protocol version ends the Conn.
func TestDialHTTPCannotBeginAnew(t *testing.T) {
	var mu sync.Mutex
	begun, broken := 0, ""
	forgets := func(answer string) {
		mu.Lock()
		defer mu.Unlock()
		begun, broken = begun+10, answer
	}
	up := newRawUpstream(t, func(w http.ResponseWriter, r *http.Request, body string) {
		mu.Lock()
		defer mu.Unlock()
		session := fmt.Sprint("s-", begun)
		switch {
		case strings.Contains(body, `"initialize"`) && begun > 0 && broken != "":
			w.Header().Set("Content-Type", typeJSON)
			fmt.Fprintf(w, broken, message(t, body).ID)
		case strings.Contains(body, `"initialize"`):
			begun++
			w.Header().Set("Mcp-Session-Id", fmt.Sprint("s-", begun))
			sse(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\"}\n\n",
				fmt.Sprintf("data: {\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"protocolVersion\":\"2025-11-25\",\"capabilities\":{}}}\n\n", message(t, body).ID))
		case r.Method == "GET":
			w.WriteHeader(405)
		case r.Header.Get("Mcp-Session-Id") != session:
			w.WriteHeader(404)
		case strings.Contains(body, `"x"`):
			answerJSON(`{"jsonrpc":"2.0","id":`+message(t, body).ID+`,"result":{"did":"x"}}`)(w, r, body)
		}
	})
	c := dialHTTP(t, up.URL)
	sendRaw(t, c, initialize)
	recvRaw(t, c)
	recvRaw(t, c)
	sendRaw(t, c, initialized)

	forgets(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32603,"message":"licence expired"}}`)
	sendRaw(t, c, asking(1, "x"))
	if got := recvRaw(t, c); !strings.HasPrefix(got, `{"jsonrpc":"2.0","id":1,"error":`) || !strings.Contains(got, "has forgotten this session (404), and no new one could be begun: it refuses initialize now") ||
		!strings.Contains(got, "licence expired") || !strings.Contains(got, "Nothing was done") {
		t.Errorf("got %s", got)
	}
	forgets("")
	second := message(t, asking(2, "x"))
	go c.Send(t.Context(), second) // it waits for the new session, and that for the host to read
	wantRaw(t, c, `{"jsonrpc":"2.0","method":"notifications/message"}`, did(2, "x"))

	forgets(`{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-06-18","capabilities":{}}}`)
	third := message(t, asking(3, "x"))
	go c.Send(t.Context(), third)
	if got := recvRaw(t, c); !strings.HasPrefix(got, `error: it now speaks protocol version "2025-06-18", and "2025-11-25" was agreed`) {
		t.Errorf("got %s", got)
	}
}

// A stream that breaks off and cannot be resumed, because its session is forgotten,
// leaves open what was done: that request is not sent again.
func TestDialHTTPForgottenWhileItAnswers(t *testing.T) {
	up := newRawUpstream(t, handshake(func(w http.ResponseWriter, r *http.Request, body string) {
		switch {
		case r.Header.Get("Last-Event-Id") != "":
			w.WriteHeader(404)
		case r.Method == "POST":
			sse(w, "id: a\nretry: 10\ndata:\n\n")
		default:
			w.WriteHeader(405)
		}
	}))
	c := dialHTTP(t, up.URL)
	sendRaw(t, c, initialize)
	recvRaw(t, c)
	sendRaw(t, c, asking(5, "pay"))
	if got := recvRaw(t, c); !strings.HasPrefix(got, `{"jsonrpc":"2.0","id":5,"error":`) || !strings.Contains(got, "Whether it did what was asked is not known") {
		t.Errorf("got %s", got)
	}
	for up.count(`"initialize"`) < 2 {
		time.Sleep(5 * time.Millisecond)
	}
	if n := up.count(`"pay"`); n != 1 {
		t.Errorf("it was sent %d times", n)
	}
	gets := 0
	for _, r := range up.requests() {
		if r.header.Get("Last-Event-Id") != "" {
			gets++
		}
	}
	if gets != 1 {
		t.Errorf("%d attempts to resume it, want 1", gets)
	}
}
