package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
	"github.com/rs/zerolog"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/authz"
)

// children dials upstreams in this process; serve answers each message.
type children struct {
	mu    sync.Mutex
	all   []*pipeConn
	seen  []string
	serve func(c *pipeConn, m Message)
}

func (d *children) dial(context.Context, authz.Caller) (Conn, error) {
	ours, theirs := newPipes()
	d.mu.Lock()
	d.all = append(d.all, theirs)
	d.mu.Unlock()
	go func() {
		for {
			m, err := theirs.Recv(context.Background())
			if err != nil {
				return
			}
			d.mu.Lock()
			d.seen = append(d.seen, string(m.Raw))
			d.mu.Unlock()
			d.serve(theirs, m)
		}
	}()
	return ours, nil
}

func (d *children) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.all)
}

func (d *children) child(i int) *pipeConn {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.all[i]
}

func (d *children) received(part string) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.seen {
		if strings.Contains(s, part) {
			n++
		}
	}
	return n
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 500 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal(what)
}

// echo answers requests with an empty result, initialize as it must.
func echo(c *pipeConn, m Message) {
	switch {
	case m.Method == "initialize":
		c.write(strings.Replace(hello, `"id":0`, `"id":`+m.ID, 1))
	case m.IsRequest():
		c.write(`{"jsonrpc":"2.0","id":` + m.ID + `,"result":{}}`)
	}
}

func sessionsOf(t *testing.T, p *Proxy, serve func(*pipeConn, Message)) (*HTTPSessions, *children) {
	t.Helper()
	d := &children{serve: serve}
	h := p.HTTPHost(d.dial)
	t.Cleanup(func() { h.Close() })
	return h, d
}

func begin(t *testing.T, url string) string {
	t.Helper()
	got := post(t, url, initialize)
	id := got.Header.Get("Mcp-Session-Id")
	if id == "" || got.Status != 200 || got.Body != hello {
		t.Fatalf("initialize: %d %v %s", got.Status, got.Header, got.Body)
	}
	return id
}

func TestHTTPHostSession(t *testing.T) {
	h, d := sessionsOf(t, plainProxy(), func(c *pipeConn, m Message) {
		if m.Method == "no/such" {
			c.write(oddAnswer)
			return
		}
		echo(c, m)
	})
	url := serveAs(t, someone("a"), h).URL
	id := begin(t, url)
	if got := post(t, url, initialized, "Mcp-Session-Id", id); got.Status != 202 || got.Body != "" {
		t.Errorf("notification: %d %s", got.Status, got.Body)
	}
	got := post(t, url, oddRequest, "Mcp-Session-Id", id, "MCP-Protocol-Version", "2025-11-25")
	if got.Body != oddAnswer || got.Header.Get("Content-Type") != "application/json" {
		t.Errorf("got %s %s", got.Header.Get("Content-Type"), got.Body)
	}
	if d.received(oddRequest) != 1 {
		t.Error("the request did not arrive as it was")
	}
	if got := do(t, "DELETE", url, "", "Mcp-Session-Id", id); got.Status != 204 {
		t.Errorf("DELETE: %d", got.Status)
	}
	eventually(t, "the child lives on", d.child(0).closed)
	if got := post(t, url, oddRequest, "Mcp-Session-Id", id); got.Status != 404 {
		t.Errorf("after DELETE: %d", got.Status)
	}
}

func TestHTTPHostRefuses(t *testing.T) {
	t.Parallel()
	h, d := sessionsOf(t, plainProxy(), echo)
	url, other := serveAs(t, someone("a"), h).URL, serveAs(t, someone("b"), h).URL
	id := begin(t, url)
	ping := `{"jsonrpc":"2.0","id":1,"method":"ping"}`
	modern := `{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`
	for _, tt := range []struct {
		name, method, url, body string
		headers                 []string
		status                  int
	}{
		{"no session", "POST", url, ping, nil, 400},
		{"unknown session", "POST", url, ping, []string{"Mcp-Session-Id", "x"}, 404},
		{"another agent's session", "POST", other, ping, []string{"Mcp-Session-Id", id}, 404},
		{"another agent's stream", "GET", other, "", []string{"Mcp-Session-Id", id}, 404},
		{"another agent's end", "DELETE", other, "", []string{"Mcp-Session-Id", id}, 404},
		{"unknown version", "POST", url, ping, []string{"Mcp-Session-Id", id, "MCP-Protocol-Version", "1900-01-01"}, 400},
		{"text", "POST", url, ping, []string{"Mcp-Session-Id", id, "Content-Type", "text/plain"}, 415},
		{"accepts images", "POST", url, ping, []string{"Mcp-Session-Id", id, "Accept", "image/png"}, 406},
		{"stream as JSON", "GET", url, "", []string{"Mcp-Session-Id", id, "Accept", "application/json"}, 406},
		{"no JSON", "POST", url, "{", []string{"Mcp-Session-Id", id}, 400},
		{"too long", "POST", url, padded(1 << 20), []string{"Mcp-Session-Id", id}, 413},
		{"GET without a session", "GET", url, "", nil, 405},
		{"PUT", "PUT", url, ping, nil, 405},
		{"stateless without its header", "POST", url, modern, nil, 400},
		{"stateless without Mcp-Method", "POST", url, modern, []string{"MCP-Protocol-Version", "2026-07-28"}, 400},
		{"stateless without _meta", "POST", url, ping, []string{"MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "ping"}, 400},
		{"stateless GET", "GET", url, "", []string{"Mcp-Session-Id", id, "MCP-Protocol-Version", "2026-07-28"}, 405},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := do(t, tt.method, tt.url, tt.body, tt.headers...); got.Status != tt.status || got.Body == "" {
				t.Errorf("got %d %s, want %d", got.Status, got.Body, tt.status)
			}
		})
	}
	if d.count() != 1 || d.received("ping") != 0 {
		t.Errorf("%d children got %v", d.count(), d.seen)
	}
}

func TestHTTPHostStreamsWhatComesBeforeTheResponse(t *testing.T) {
	answered := make(chan string, 1)
	p := newRealProxy(t, allowAll)
	h, d := sessionsOf(t, p.Proxy, func(c *pipeConn, m Message) {
		switch {
		case m.Method == "work":
			c.write(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"t","progress":1.10}}`)
			c.write(`{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage"}`)
		case m.IsResponse():
			answered <- string(m.Raw)
			c.write(`{"jsonrpc":"2.0","id":7,"result":{}}`)
		default:
			echo(c, m)
		}
	})
	url := p.as(t, "a", h).URL
	id := begin(t, url)
	next, _ := openStream(t, "POST", url, `{"jsonrpc":"2.0","id":7,"method":"work","params":{"_meta":{"progressToken":"t"}}}`, "Mcp-Session-Id", id)
	got := []string{next(), next()}
	reply := `{"jsonrpc":"2.0","id":1,"result":{"n":9007199254740993}}`
	if r := post(t, url, reply, "Mcp-Session-Id", id); r.Status != 202 {
		t.Errorf("response: %d %s", r.Status, r.Body)
	}
	got = append(got, next(), next())
	want := []string{
		`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"t","progress":1.10}}`,
		`{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage"}`,
		`{"jsonrpc":"2.0","id":7,"result":{}}`,
		"error: EOF",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := <-answered; got != reply || d.received(reply) != 1 {
		t.Errorf("the child got %s", got)
	}
}

func TestHTTPHostGETStream(t *testing.T) {
	h, d := sessionsOf(t, plainProxy(), echo)
	url := serveAs(t, someone("a"), h).URL
	id := begin(t, url)
	early, news := `{"jsonrpc":"2.0","method":"notifications/early"}`, `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`
	d.child(0).write(early) // before there is a stream
	time.Sleep(50 * time.Millisecond)
	next, _ := openStream(t, "GET", url, "", "Mcp-Session-Id", id)
	if got := next(); got != early {
		t.Errorf("kept: %s", got)
	}
	d.child(0).write(news)
	if got := next(); got != news {
		t.Errorf("news: %s", got)
	}
	again, _ := openStream(t, "GET", url, "", "Mcp-Session-Id", id)
	if got := next(); got != "error: EOF" {
		t.Errorf("the older stream: %s", got)
	}
	d.child(0).write(news)
	if got := again(); got != news {
		t.Errorf("the newer stream: %s", got)
	}
}

func TestHTTPHostBacklogIsBounded(t *testing.T) {
	h, d := sessionsOf(t, plainProxy(), echo)
	url := serveAs(t, someone("a"), h).URL
	id := begin(t, url)
	d.child(0).write(`{"jsonrpc":"2.0","id":"ask","method":"roots/list"}`)
	pad := strings.Repeat("x", 1<<16)
	for i := range 20 {
		d.child(0).write(fmt.Sprintf(`{"jsonrpc":"2.0","method":"n","params":{"i":%d,"pad":"%s"}}`, i, pad))
	}
	eventually(t, "the request that nobody can see is not refused", func() bool {
		return d.received(`"id":"ask","error"`) == 1
	})
	next, _ := openStream(t, "GET", url, "", "Mcp-Session-Id", id)
	if got := rawAt([]byte(next()), "params", "i"); got == "0" || got == "" {
		t.Errorf("the oldest kept is number %q", got)
	}
}

func TestHTTPHostTwoSessionsWithTheSameIDs(t *testing.T) {
	h, d := sessionsOf(t, plainProxy(), func(c *pipeConn, m Message) {
		if m.Method == "who" {
			c.write(`{"jsonrpc":"2.0","id":1,"result":{"you":` + rawAt(m.Raw, "params", "me") + `}}`)
			return
		}
		echo(c, m)
	})
	url := serveAs(t, someone("a"), h).URL
	one, two := begin(t, url), begin(t, url)
	if one == two || d.count() != 2 {
		t.Fatalf("sessions %s, %s with %d children", one, two, d.count())
	}
	var wait sync.WaitGroup
	for i, id := range []string{one, two} {
		wait.Go(func() {
			got := post(t, url, fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"who","params":{"me":%d}}`, i), "Mcp-Session-Id", id)
			if want := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"result":{"you":%d}}`, i); got.Body != want {
				t.Errorf("got %s, want %s", got.Body, want)
			}
		})
	}
	wait.Wait()
}

func TestHTTPHostIDInUse(t *testing.T) {
	release := make(chan struct{})
	h, d := sessionsOf(t, plainProxy(), func(c *pipeConn, m Message) {
		if m.Method == "slow" {
			go func() { <-release; echo(c, m) }()
			return
		}
		echo(c, m)
	})
	url := serveAs(t, someone("a"), h).URL
	id := begin(t, url)
	first := make(chan httpReply, 1)
	go func() { first <- post(t, url, `{"jsonrpc":"2.0","id":3,"method":"slow"}`, "Mcp-Session-Id", id) }()
	eventually(t, "the first never arrives", func() bool { return d.received("slow") == 1 })
	if got := post(t, url, `{"jsonrpc":"2.0","id":3,"method":"ping"}`, "Mcp-Session-Id", id); got.Status != 400 {
		t.Errorf("its id again: %d %s", got.Status, got.Body)
	}
	close(release)
	if got := <-first; got.Body != `{"jsonrpc":"2.0","id":3,"result":{}}` {
		t.Errorf("the first: %s", got.Body)
	}
	if got := post(t, url, `{"jsonrpc":"2.0","id":3,"method":"ping"}`, "Mcp-Session-Id", id); got.Status != 200 {
		t.Errorf("after its answer: %d", got.Status)
	}
}

func TestHTTPHostChildDies(t *testing.T) {
	h, d := sessionsOf(t, plainProxy(), func(c *pipeConn, m Message) {
		if m.Method == "die" {
			c.Close()
			return
		}
		echo(c, m)
	})
	url := serveAs(t, someone("a"), h).URL
	id := begin(t, url)
	got := post(t, url, `{"jsonrpc":"2.0","id":"x","method":"die"}`, "Mcp-Session-Id", id)
	if got.Status != 200 || !strings.HasPrefix(got.Body, `{"jsonrpc":"2.0","id":"x","error":{"code":-32603,`) || !strings.Contains(got.Body, "shop") {
		t.Errorf("got %d %s", got.Status, got.Body)
	}
	eventually(t, "the session lives on", func() bool {
		return post(t, url, `{"jsonrpc":"2.0","id":1,"method":"ping"}`, "Mcp-Session-Id", id).Status == 404
	})
	if begin(t, url); d.count() != 2 {
		t.Errorf("%d children", d.count())
	}
}

func TestHTTPHostCannotStart(t *testing.T) {
	h := plainProxy().HTTPHost(func(context.Context, authz.Caller) (Conn, error) { return nil, errors.New("npx: not found") })
	defer h.Close()
	got := post(t, serveAs(t, someone("a"), h).URL, initialize)
	if got.Status != 200 || !strings.Contains(got.Body, `"id":0,"error"`) || !strings.Contains(got.Body, "npx: not found") || got.Header.Get("Mcp-Session-Id") != "" {
		t.Errorf("got %d %s", got.Status, got.Body)
	}
}

func TestHTTPHostCapsSessions(t *testing.T) {
	h, d := sessionsOf(t, plainProxy(), echo)
	alice, bob := serveAs(t, someone("alice"), h).URL, serveAs(t, someone("bob"), h).URL
	var last string
	for range maxSessions {
		last = begin(t, alice)
	}
	if got := post(t, alice, initialize); got.Status != 503 || !strings.Contains(got.Body, "open sessions") {
		t.Errorf("one too many: %d %s", got.Status, got.Body)
	}
	begin(t, bob)
	do(t, "DELETE", alice, "", "Mcp-Session-Id", last)
	eventually(t, "no room after DELETE", func() bool { return post(t, alice, initialize).Status == 200 })
	h.Close()
	for i := range d.count() {
		if !d.child(i).closed() {
			t.Errorf("child %d survives Close", i)
		}
	}
}

func TestHTTPHostWithdrawnCallNeverRuns(t *testing.T) {
	t.Parallel()
	p := newRealProxy(t, askAll)
	h, d := sessionsOf(t, p.Proxy, echo)
	url := p.as(t, "a", h).URL
	id := begin(t, url)
	ctx, hangUp := context.WithCancel(t.Context())
	go func() {
		if res, err := send(ctx, "POST", url, buyCall, "Mcp-Session-Id", id); err == nil {
			res.Body.Close()
		}
	}()
	request := p.pending(t).ID
	hangUp()
	time.Sleep(200 * time.Millisecond) // for the hang-up to be seen
	p.approve(t, request)
	time.Sleep(300 * time.Millisecond) // longer than a hold looks again
	if n := d.received("tools/call"); n != 0 {
		t.Errorf("forwarded %d times", n)
	}
	if got := post(t, url, buyCall, "Mcp-Session-Id", id); got.Body != `{"jsonrpc":"2.0","id":1,"result":{}}` {
		t.Errorf("again: %s", got.Body)
	}
	if d.received("tools/call") != 1 || d.received("cancelled") != 0 {
		t.Errorf("the child got %v", d.seen)
	}
}

func TestHTTPHostHangUpIsNoCancellation(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		era     string
		request string
		headers []string
		want    int
	}{
		{"sessions", `{"jsonrpc":"2.0","id":1,"method":"slow"}`, nil, 0},
		{"stateless", statelessRequest("1", "slow"), stateless("slow"), 1},
	} {
		t.Run(tt.era, func(t *testing.T) {
			h, d := sessionsOf(t, plainProxy(), func(c *pipeConn, m Message) {
				if m.Method != "slow" {
					echo(c, m)
				}
			})
			url := serveAs(t, someone("a"), h).URL
			if tt.headers == nil {
				tt.headers = []string{"Mcp-Session-Id", begin(t, url)}
			}
			ctx, hangUp := context.WithCancel(t.Context())
			go func() {
				if res, err := send(ctx, "POST", url, tt.request, tt.headers...); err == nil {
					res.Body.Close()
				}
			}()
			eventually(t, "never forwarded", func() bool { return d.received("slow") == 1 })
			hangUp()
			time.Sleep(300 * time.Millisecond)
			if n := d.received("notifications/cancelled"); n != tt.want {
				t.Errorf("the child was told %d times, want %d", n, tt.want)
			}
		})
	}
}

func statelessRequest(id, method string) string {
	return `{"jsonrpc":"2.0","id":` + id + `,"method":"` + method + `","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"progressToken":` + id + `}}}`
}

func stateless(method string) []string {
	return []string{"MCP-Protocol-Version", "2026-07-28", "Mcp-Method", method}
}

func TestHTTPHostStatelessHostsDoNotMeet(t *testing.T) {
	const n = 8
	var mu sync.Mutex
	var waiting []Message
	h, d := sessionsOf(t, plainProxy(), func(c *pipeConn, m Message) {
		if m.Method != "work" {
			echo(c, m)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if waiting = append(waiting, m); len(waiting) < n {
			return
		}
		for _, m := range waiting { // all are in flight
			c.write(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":` + rawAt(m.Raw, "params", "_meta", "progressToken") + `,"progress":1,"message":"for ` + m.ID + `"}}`)
			c.write(`{"jsonrpc":"2.0","id":` + m.ID + `,"result":{"for":` + m.ID + `}}`)
		}
	})
	url := serveAs(t, someone("a"), h).URL
	var wait sync.WaitGroup
	seen := sync.Map{}
	for range n {
		wait.Go(func() {
			next, _ := openStream(t, "POST", url, statelessRequest(`"same"`, "work"), stateless("work")...)
			progress, response := []byte(next()), []byte(next())
			ours := rawAt(response, "result", "for")
			if rawAt(response, "id") != `"same"` || rawAt(progress, "params", "progressToken") != `"same"` || rawAt(progress, "params", "message") != `"for `+ours+`"` {
				t.Errorf("got %s and %s", progress, response)
			}
			if _, twice := seen.LoadOrStore(ours, true); twice {
				t.Errorf("%s went to two hosts", ours)
			}
		})
	}
	wait.Wait()
	if d.count() != 1 {
		t.Errorf("%d children", d.count())
	}
}

func TestHTTPHostStatelessStatuses(t *testing.T) {
	h, _ := sessionsOf(t, plainProxy(), func(c *pipeConn, m Message) {
		if code, ok := strings.CutPrefix(m.Method, "fail"); ok {
			c.write(`{"jsonrpc":"2.0","id":` + m.ID + `,"error":{"code":` + code + `,"message":"m"}}`)
			return
		}
		echo(c, m)
	})
	url := serveAs(t, someone("a"), h).URL
	for method, want := range map[string]int{"fail-32601": 404, "fail-32020": 400, "fail-32021": 400, "fail-32022": 400, "fail-32602": 200, "fail7": 200, "ping": 200} {
		got := post(t, url, statelessRequest("1", method), stateless(method)...)
		if got.Status != want || got.Header.Get("Mcp-Session-Id") != "" {
			t.Errorf("%s: got %d, want %d", method, got.Status, want)
		}
	}
	// "Rejections of requests missing required _meta fields use HTTP 400".
	bare := strings.Replace(statelessRequest("1", "fail-32602"), `"io.modelcontextprotocol/clientCapabilities":{},`, "", 1)
	if got := post(t, url, bare, stateless("fail-32602")...); got.Status != 400 {
		t.Errorf("without clientCapabilities: got %d, want 400", got.Status)
	}
}

// Headers that repeat arguments are checked here when the server is no HTTP
// server: it never sees them.
func TestHTTPHostChecksMirroredArguments(t *testing.T) {
	real := newRealProxy(t, allowAll)
	h, _ := sessionsOf(t, real.Proxy, func(c *pipeConn, m Message) {
		if m.Method == "tools/list" {
			c.write(`{"jsonrpc":"2.0","id":` + m.ID + `,"result":{"tools":[{"name":"buy","inputSchema":{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"}}}}]}}`)
			return
		}
		echo(c, m)
	})
	url := real.as(t, "a", h).URL
	post(t, url, statelessRequest("1", "tools/list"), stateless("tools/list")...)
	call := strings.Replace(statelessRequest("2", "tools/call"), `"params":{`, `"params":{"name":"buy","arguments":{"region":"eu"},`, 1)
	header := append(stateless("tools/call"), "Mcp-Name", "buy")
	for _, c := range []struct {
		name   string
		header []string
		status int
	}{
		{"the same", []string{"Mcp-Param-Region", "eu"}, 200},
		{"another", []string{"Mcp-Param-Region", "us"}, 400},
		{"missing", nil, 400},
		{"two of them", []string{"Mcp-Param-Region", "eu", "Mcp-Param-Region", "us"}, 400},
		{"broken", []string{"Mcp-Param-Region", "=?base64?!?="}, 400},
	} {
		got := post(t, url, call, append(slices.Clone(header), c.header...)...)
		if got.Status != c.status || c.status == 400 && rawAt([]byte(got.Body), "error", "code") != "-32020" {
			t.Errorf("%s: got %d %s, want %d", c.name, got.Status, got.Body, c.status)
		}
	}
}

func TestHTTPHostStatelessBeforeALegacyServer(t *testing.T) {
	h, d := sessionsOf(t, plainProxy(), func(c *pipeConn, m Message) {
		if m.Method == "server/discover" {
			c.write(`{"jsonrpc":"2.0","id":` + m.ID + `,"error":{"code":-32601,"message":"Method not found"}}`)
			return
		}
		echo(c, m)
	})
	url := serveAs(t, someone("a"), h).URL
	for range 2 {
		got := post(t, url, statelessRequest("1", "ping"), stateless("ping")...)
		if got.Status != 400 || !strings.Contains(got.Body, "-32600") || !strings.Contains(got.Body, "initialize") {
			t.Errorf("got %d %s", got.Status, got.Body)
		}
	}
	if d.count() != 1 || !d.child(0).closed() || d.received("ping") != 0 {
		t.Errorf("%d children; received %v", d.count(), d.seen)
	}
	begin(t, url)
}

func TestHTTPHostSubscriptions(t *testing.T) {
	h, d := sessionsOf(t, plainProxy(), func(c *pipeConn, m Message) {
		if m.Method == "subscriptions/listen" {
			c.write(`{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":` + m.ID + `}}}`)
			return
		}
		echo(c, m)
	})
	url := serveAs(t, someone("a"), h).URL
	for _, id := range []string{`"one"`, `2`} {
		next, _ := openStream(t, "POST", url, statelessRequest(id, "subscriptions/listen"), stateless("subscriptions/listen")...)
		if got := rawAt([]byte(next()), "params", "_meta", "io.modelcontextprotocol/subscriptionId"); got != id {
			t.Errorf("acknowledged as %s, want %s", got, id)
		}
	}
	if d.count() != 1 {
		t.Errorf("%d children", d.count())
	}
}

func TestHTTPHostSlowReader(t *testing.T) {
	pad := strings.Repeat("x", 1<<16)
	h, _ := sessionsOf(t, plainProxy(), func(c *pipeConn, m Message) {
		if m.Method == "flood" {
			go func() {
				for range 1000 { // 64 MB: no queue holds them
					c.write(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":` + rawAt(m.Raw, "params", "_meta", "progressToken") + `,"pad":"` + pad + `"}}`)
				}
				echo(c, m)
			}()
			return
		}
		echo(c, m)
	})
	for _, who := range []string{"session", "stateless"} {
		t.Run(who, func(t *testing.T) {
			url := serveAs(t, someone(who), h).URL
			flood, ping := stateless("flood"), stateless("ping")
			request, again := statelessRequest("1", "flood"), statelessRequest("1", "ping")
			if who == "session" {
				request = `{"jsonrpc":"2.0","id":1,"method":"flood","params":{"_meta":{"progressToken":1}}}`
				again = `{"jsonrpc":"2.0","id":1,"method":"ping"}`
				flood, ping = []string{"Mcp-Session-Id", begin(t, url)}, []string{"Mcp-Session-Id", begin(t, url)}
			}
			res, err := send(t.Context(), "POST", url, request, flood...)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close() // and never reads
			for range 3 {
				if got := post(t, url, again, ping...); got.Status != http.StatusOK {
					t.Errorf("the neighbour got %d %s", got.Status, got.Body)
				}
			}
		})
	}
}

func TestHTTPHostManySmallNotifications(t *testing.T) {
	const n = 10_000
	h, _ := sessionsOf(t, plainProxy(), func(c *pipeConn, m Message) {
		if m.Method == "many" {
			for i := range n {
				c.write(fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"t","progress":%d}}`, i))
			}
		}
		echo(c, m)
	})
	url := serveAs(t, someone("a"), h).URL
	next, _ := openStream(t, "POST", url, `{"jsonrpc":"2.0","id":1,"method":"many","params":{"_meta":{"progressToken":"t"}}}`, "Mcp-Session-Id", begin(t, url))
	for i := range n {
		if got := next(); rawAt([]byte(got), "params", "progress") != fmt.Sprint(i) {
			t.Fatalf("notification %d: %s", i, got)
		}
	}
	if got := next(); got != `{"jsonrpc":"2.0","id":1,"result":{}}` {
		t.Errorf("then %s", got)
	}
}

func TestHTTPHostBetweenTheirClientAndServer(t *testing.T) {
	p := newRealProxy(t, allowAll)
	h := p.HTTPHost(func(ctx context.Context, _ authz.Caller) (Conn, error) {
		ctx, cancel := context.WithCancel(ctx)
		in, toServer := io.Pipe()
		fromServer, out := io.Pipe()
		go server.NewStdioServer(theirServer()).Listen(ctx, in, out)
		return newLines(fromServer, toServer, action.Limits{}, func() error { cancel(); fromServer.Close(); return toServer.Close() }), nil
	})
	defer h.Close()
	c := must(client.NewStreamableHttpClient(p.as(t, "a", h).URL))(t)
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	info := must(c.Initialize(t.Context(), mcp.InitializeRequest{Params: mcp.InitializeParams{ProtocolVersion: "2025-11-25", ClientInfo: mcp.Implementation{Name: "t", Version: "1"}}}))(t)
	if info.ServerInfo.Name != "their" {
		t.Errorf("the host sees the server %q", info.ServerInfo.Name)
	}
	got := must(c.CallTool(t.Context(), mcp.CallToolRequest{Params: mcp.CallToolParams{Name: "echo", Arguments: map[string]any{"text": "hi"}}}))(t)
	if text, _ := mcp.AsTextContent(got.Content[0]); text == nil || text.Text != "hi" {
		t.Errorf("got %+v", got)
	}
	p.outcome(t, `"outcome":"ok"`)
}

func TestHTTPHostLeavesNothingBehind(t *testing.T) {
	h, _ := sessionsOf(t, plainProxy(), echo)
	leavesNothingBehind(t, h)
}

func TestAggregateLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	a, b := plainProxy(), plainProxy()
	b.Name = "other"
	all := &Aggregate{Log: zerolog.Nop(), Members: []Member{
		{a, (&children{serve: played{}.serve("shop")}).dial},
		{b, (&children{serve: played{}.serve("other")}).dial},
	}}
	h := must(all.HTTPHost())(t)
	t.Cleanup(func() { h.Close() })
	leavesNothingBehind(t, h)
}

func leavesNothingBehind(t *testing.T, h *HTTPSessions) {
	t.Helper()
	url := serveAs(t, someone("a"), h).URL
	round := func(n int) int {
		for range n {
			id := post(t, url, initialize).Header.Get("Mcp-Session-Id")
			post(t, url, `{"jsonrpc":"2.0","id":1,"method":"ping"}`, "Mcp-Session-Id", id)
			do(t, "DELETE", url, "", "Mcp-Session-Id", id)
		}
		eventually(t, "sessions are left", func() bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			return len(h.sessions)+len(h.count) == 0
		})
		return runtime.NumGoroutine()
	}
	before := round(20)
	eventually(t, "goroutines are left", func() bool { return runtime.NumGoroutine() <= before+5 })
	round(1000)
	eventually(t, "goroutines grow with the sessions", func() bool { return runtime.NumGoroutine() <= before+5 })
}
