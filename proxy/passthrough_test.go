package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// oddRequest has what a typed relay loses: unknown members, big integers,
// escapes, order, white space.
const oddRequest = "{ \"zz\":1.10, \"jsonrpc\":\"2.0\",\n\"id\":9007199254740993,\"method\":\"no/such\",\"params\":{\"n\":9007199254740993,\"s\":\"<\\u00e9é\",\"e\":1e400} }"

const oddAnswer = "{\"extra\":[1.0],\"jsonrpc\":\"2.0\",\"id\":9007199254740993,\n\"result\":{\"big\":9007199254740993,\"s\":\"<&\\u2028\",\"_meta\":{\"x/y\":{}}}}"

func passthroughTo(t *testing.T, up *rawUpstream) string {
	t.Helper()
	return serveAs(t, someone("a"), plainProxy().HTTPPassthrough(HTTPUpstream{URL: up.URL})).URL
}

func TestPassthroughKeepsBytes(t *testing.T) {
	up := newRawUpstream(t, answerJSON(oddAnswer))
	got := post(t, passthroughTo(t, up), oddRequest)
	if got.Status != 200 || got.Body != oddAnswer {
		t.Errorf("the host got %d %q", got.Status, got.Body)
	}
	if sent := up.requests()[0].body; sent != oddRequest {
		t.Errorf("the upstream got %q", sent)
	}
}

func TestPassthroughKeepsEvents(t *testing.T) {
	stream := "\xef\xbb\xbf: hello\r\nid: 1\r\nretry: 20\r\ndata:\r\n\r\nevent: message\nid: 2\ndata: {\"jsonrpc\":\"2.0\",\ndata:  \"method\":\"notifications/x\"}\n\ndata: " +
		strings.ReplaceAll(oddAnswer, "\n", "\ndata: ") + "\r\r"
	up := newRawUpstream(t, func(w http.ResponseWriter, r *http.Request, _ string) { sse(w, stream) })
	got := post(t, passthroughTo(t, up), oddRequest)
	if got.Body != stream {
		t.Errorf("got  %q\nwant %q", got.Body, stream)
	}
	if kind := got.Header.Get("Content-Type"); kind != "text/event-stream" {
		t.Errorf("Content-Type %q", kind)
	}
}

func TestPassthroughStreamsAtOnce(t *testing.T) {
	release := make(chan struct{})
	up := newRawUpstream(t, func(w http.ResponseWriter, r *http.Request, _ string) {
		for i := range 3 {
			sse(w, fmt.Sprintf("data: {\"jsonrpc\":\"2.0\",\"method\":\"n%d\"}\n\n", i))
			<-release
		}
		sse(w, "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n")
	})
	next, _ := openStream(t, "POST", passthroughTo(t, up), `{"jsonrpc":"2.0","id":1,"method":"x"}`)
	for i := range 3 {
		if got, want := next(), fmt.Sprintf(`{"jsonrpc":"2.0","method":"n%d"}`, i); got != want {
			t.Fatalf("event %d: got %s", i, got)
		}
		release <- struct{}{} // the upstream goes on only when the host has read
	}
	if got := next(); got != `{"jsonrpc":"2.0","id":1,"result":{}}` {
		t.Errorf("response: %s", got)
	}
}

func TestPassthroughRemovesOurPrefix(t *testing.T) {
	up := newRawUpstream(t, func(w http.ResponseWriter, r *http.Request, _ string) {
		sse(w, "id: 9\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"_meta\":{\"ai.openleash/proof\":\"x\",\"k\":1}}}\n\n")
	})
	got := post(t, passthroughTo(t, up), `{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"ai.openleash/proof":"forged"}}}`)
	if want := "id: 9\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"_meta\":{\"k\":1}}}\n\n"; got.Body != want {
		t.Errorf("down: got %q, want %q", got.Body, want)
	}
	if sent := up.requests()[0].body; strings.Contains(sent, "openleash") {
		t.Errorf("up: %s", sent)
	}
}

func TestPassthroughHeaders(t *testing.T) {
	up := newRawUpstream(t, func(w http.ResponseWriter, r *http.Request, _ string) {
		h := w.Header()
		for _, name := range []string{"Set-Cookie", "Access-Control-Allow-Origin", "WWW-Authenticate", "Location", "Mcp-Session-Id", "Mcp-Other", "Retry-After"} {
			h.Set(name, "v")
		}
		h.Set("Content-Type", "application/json; charset=utf-8")
		io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{}}`)
	})
	h := plainProxy().HTTPPassthrough(HTTPUpstream{URL: up.URL, Headers: map[string]string{"Authorization": "Bearer upstream", "Mcp-Fixed": "ours"}})
	got := post(t, serveAs(t, someone("a"), h).URL+"/mcp/shop?q=1", `{"jsonrpc":"2.0","id":1,"method":"x"}`,
		"Authorization", "Bearer host", "Cookie", "c=1", "Origin", "http://evil", "X-Other", "y", "Content-Type", "application/json;charset=UTF-8",
		"Mcp-Fixed", "theirs", "Mcp-Param-Region", "eu", "Last-Event-Id", "7", "Forwarded", "for=x", "Mcp-Method", "x")
	sent := up.requests()[0].header
	wantUp := map[string]string{"Authorization": "Bearer upstream", "Mcp-Fixed": "ours", "Mcp-Param-Region": "eu", "Last-Event-Id": "7", "Mcp-Method": "x",
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "Accept-Encoding": "identity",
		"Cookie": "", "Origin": "", "X-Other": "", "Forwarded": "", "X-Forwarded-For": "", "Referer": ""}
	for name, want := range wantUp {
		if got := strings.Join(sent.Values(name), "|"); got != want {
			t.Errorf("up: %s: got %q, want %q", name, got, want)
		}
	}
	wantDown := map[string]string{"Mcp-Session-Id": "v", "Mcp-Other": "v", "Retry-After": "v", "Content-Type": "application/json; charset=utf-8",
		"Set-Cookie": "", "Access-Control-Allow-Origin": "", "Www-Authenticate": "", "Location": "", "X-Content-Type-Options": "nosniff"}
	for name, want := range wantDown {
		if got := got.Header.Get(name); got != want {
			t.Errorf("down: %s: got %q, want %q", name, got, want)
		}
	}
}

// A name and password in the URL become the header that they stand for, unless
// the configuration names another.
func TestPassthroughURLUser(t *testing.T) {
	up := newRawUpstream(t, answerJSON(`{"jsonrpc":"2.0","id":1,"result":{}}`))
	url := strings.Replace(up.URL, "http://", "http://ann:s%40cret@", 1)
	for _, configured := range []map[string]string{nil, {"Authorization": "Bearer upstream"}} {
		h := plainProxy().HTTPPassthrough(HTTPUpstream{URL: url, Headers: configured})
		post(t, serveAs(t, someone("a"), h).URL, `{"jsonrpc":"2.0","id":1,"method":"x"}`, "Authorization", "Bearer host")
	}
	want := []string{"Basic YW5uOnNAY3JldA==", "Bearer upstream"}
	for i, r := range up.requests() {
		if got := r.header.Get("Authorization"); got != want[i] {
			t.Errorf("request %d: want %q, got %q", i, want[i], got)
		}
	}
}

func TestPassthroughRefusesBeforeForwarding(t *testing.T) {
	t.Parallel()
	call := `{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"buy","arguments":{}}}`
	modern := `{"jsonrpc":"2.0","id":5,"method":"ping","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`
	for _, tt := range []struct {
		name    string
		body    string
		headers []string
		status  int
		want    string
	}{
		{"another tool in Mcp-Name", call, []string{"Mcp-Name", "look"}, 400, `"id":5,"error":{"code":-32020`},
		{"another tool in Base64", call, []string{"Mcp-Name", "=?base64?bG9vaw==?="}, 400, `"code":-32020`},
		{"broken Base64", call, []string{"Mcp-Name", "=?base64?***?="}, 400, `"code":-32020`},
		{"another method", call, []string{"Mcp-Method", "tools/list"}, 400, `"code":-32020`},
		{"another version", modern, []string{"MCP-Protocol-Version", "2025-11-25"}, 400, `"code":-32020`},
		{"a response as a call", `{"jsonrpc":"2.0","id":5,"result":{}}`, []string{"Mcp-Method", "tools/call"}, 400, `"code":-32020`},
		{"two names", `{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"a","name":"b"}}`, []string{"Mcp-Name", "b"}, 400, `"code":-32020`},
		{"not JSON", `{"jsonrpc":"2.0","id":`, nil, 400, `"code":-32700`},
		{"batch", `[` + call + `]`, nil, 400, `"code":-32700`},
		{"trailing data", call + call, nil, 400, `"code":-32700`},
		{"case twin", `{"jsonrpc":"2.0","id":5,"method":"ping","Method":"tools/call"}`, nil, 400, `"code":-32`},
		{"text", call, []string{"Content-Type", "text/plain"}, 415, `Content-Type`},
		{"no type", call, []string{"Content-Type", ""}, 415, `Content-Type`},
		{"another charset", call, []string{"Content-Type", "application/json; charset=utf-16"}, 415, `Content-Type`},
		{"packed", call, []string{"Content-Encoding", "gzip"}, 415, `Content-Encoding`},
		{"too long", padded(1 << 20), nil, 413, `longer than 1048576 bytes`},
		{"another's session", call, []string{"Mcp-Session-Id", "guessed"}, 404, `"id":5`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			up := newRawUpstream(t, answerJSON(`{}`))
			got := post(t, passthroughTo(t, up), tt.body, tt.headers...)
			if got.Status != tt.status || !strings.Contains(got.Body, tt.want) {
				t.Errorf("got %d %s, want %d with %s", got.Status, got.Body, tt.status, tt.want)
			}
			if n := len(up.requests()); n != 0 {
				t.Errorf("%d requests were forwarded", n)
			}
		})
	}
}

func TestPassthroughWantsACaller(t *testing.T) {
	for name, h := range map[string]http.Handler{
		"passthrough": plainProxy().HTTPPassthrough(HTTPUpstream{URL: "http://127.0.0.1:1"}),
		"sessions":    plainProxy().HTTPHost(nil),
	} {
		for _, method := range []string{"GET", "POST", "DELETE"} {
			req, _ := http.NewRequest(method, "/mcp/shop", nil)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, req)
			if w.Code != 401 || w.Header().Get("WWW-Authenticate") == "" {
				t.Errorf("%s %s: got %d", name, method, w.Code)
			}
		}
	}
}

func TestPassthroughStatuses(t *testing.T) {
	request := `{"jsonrpc":"2.0","id":1,"method":"x"}`
	for _, tt := range []struct {
		name       string
		body       string
		answer     func(http.ResponseWriter, *http.Request, string)
		status     int
		want, kind string
	}{
		{"accepted", `{"jsonrpc":"2.0","method":"notifications/initialized"}`,
			func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(202) }, 202, "", ""},
		{"unknown method of 2026-07-28", request, func(w http.ResponseWriter, _ *http.Request, _ string) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(404)
			io.WriteString(w, `{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"m","data":1.0}}`)
		}, 404, `{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"m","data":1.0}}`, "application/json"},
		{"a web page is text here", request, func(w http.ResponseWriter, _ *http.Request, _ string) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(503)
			io.WriteString(w, "<script>")
		}, 503, "<script>", "text/plain; charset=utf-8"},
		{"credentials", request, func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(401) },
			200, `"message":"the upstream server shop did not accept our credentials`, "application/json"},
		{"redirect", request, func(w http.ResponseWriter, r *http.Request, _ string) {
			http.Redirect(w, r, "http://elsewhere.example/mcp?token=secret", http.StatusTemporaryRedirect)
		}, 200, `redirects to http://elsewhere.example/mcp;`, "application/json"},
		{"packed", request, func(w http.ResponseWriter, r *http.Request, _ string) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Header().Set("Content-Type", "application/json")
		}, 200, `Content-Encoding gzip`, "application/json"},
		{"credentials, for a notification", `{"jsonrpc":"2.0","method":"notifications/x"}`,
			func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(401) }, 502, "did not accept", "application/json"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := post(t, passthroughTo(t, newRawUpstream(t, tt.answer)), tt.body)
			if got.Status != tt.status || !strings.Contains(got.Body, tt.want) || got.Header.Get("Content-Type") != tt.kind {
				t.Errorf("got %d %q %s", got.Status, got.Header.Get("Content-Type"), got.Body)
			}
		})
	}
}

func TestPassthroughUpstreamDown(t *testing.T) {
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	l.Close()
	h := plainProxy().HTTPPassthrough(HTTPUpstream{URL: "http://" + l.Addr().String() + "/mcp?key=secret"})
	url := serveAs(t, someone("a"), h).URL
	got := post(t, url, `{"jsonrpc":"2.0","id":"q","method":"x"}`)
	if got.Status != 200 || !strings.HasPrefix(got.Body, `{"jsonrpc":"2.0","id":"q","error":{"code":-32603,"message":"the upstream server shop cannot be reached`) || strings.Contains(got.Body, "secret") {
		t.Errorf("request: got %d %s", got.Status, got.Body)
	}
	if got := do(t, "GET", url, ""); got.Status != 502 {
		t.Errorf("GET: got %d %s", got.Status, got.Body)
	}
}

func TestPassthroughUpstreamDiesMidStream(t *testing.T) {
	die := func(events string) func(http.ResponseWriter, *http.Request, string) {
		return func(w http.ResponseWriter, r *http.Request, _ string) {
			sse(w, events)
			panic(http.ErrAbortHandler)
		}
	}
	note := "data: {\"jsonrpc\":\"2.0\",\"method\":\"n\"}\n\n"
	got := post(t, passthroughTo(t, newRawUpstream(t, die(note+"data: {\"half"))), `{"jsonrpc":"2.0","id":1,"method":"x"}`)
	if !strings.HasPrefix(got.Body, note+`data: {"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"the upstream server shop broke off`) {
		t.Errorf("got %q", got.Body)
	}
	// A stream whose events have ids is the host's to resume.
	resumable := "id: 1\n" + note
	if got := post(t, passthroughTo(t, newRawUpstream(t, die(resumable))), `{"jsonrpc":"2.0","id":1,"method":"x"}`); got.Body != resumable {
		t.Errorf("resumable: got %q", got.Body)
	}
}

// sessionUpstream gives each initialize a session of its own.
func sessionUpstream(t *testing.T) *rawUpstream {
	n := 0
	return newRawUpstream(t, func(w http.ResponseWriter, r *http.Request, body string) {
		if strings.Contains(body, `"initialize"`) {
			n++
			w.Header().Set("Mcp-Session-Id", fmt.Sprint("session-", n))
		}
		if r.Method == "DELETE" {
			w.WriteHeader(204)
			return
		}
		answerJSON(`{"jsonrpc":"2.0","id":1,"result":{}}`)(w, r, body)
	})
}

func TestPassthroughSessionsBelongToTheirAgent(t *testing.T) {
	up := sessionUpstream(t)
	h := plainProxy().HTTPPassthrough(HTTPUpstream{URL: up.URL})
	alice, bob := serveAs(t, someone("alice"), h).URL, serveAs(t, someone("bob"), h).URL
	id := post(t, alice, `{"jsonrpc":"2.0","id":1,"method":"initialize"}`).Header.Get("Mcp-Session-Id")
	ping := `{"jsonrpc":"2.0","id":1,"method":"ping"}`
	for _, tt := range []struct {
		url, method string
		status      int
	}{{alice, "POST", 200}, {bob, "POST", 404}, {bob, "GET", 404}, {bob, "DELETE", 404}, {alice, "GET", 200}, {alice, "DELETE", 204}, {alice, "POST", 404}} {
		body := ""
		if tt.method == "POST" {
			body = ping
		}
		if got := do(t, tt.method, tt.url, body, "Mcp-Session-Id", id); got.Status != tt.status {
			t.Errorf("%s of %s: got %d, want %d", tt.method, tt.url, got.Status, tt.status)
		}
	}
	// In the stateless era the header means nothing, and goes nowhere.
	before := len(up.requests())
	if got := post(t, bob, ping, "Mcp-Session-Id", id, "MCP-Protocol-Version", "2026-07-28"); got.Status != 200 {
		t.Errorf("stateless: got %d", got.Status)
	}
	if h := up.requests()[before].header; h.Get("Mcp-Session-Id") != "" {
		t.Errorf("the session went up: %v", h)
	}
}

func TestPassthroughDeadSession(t *testing.T) {
	up := newRawUpstream(t, func(w http.ResponseWriter, r *http.Request, body string) {
		if strings.Contains(body, "initialize") {
			w.Header().Set("Mcp-Session-Id", "s")
			answerJSON(`{"jsonrpc":"2.0","id":1,"result":{}}`)(w, r, body)
			return
		}
		http.Error(w, "Session not found", 404)
	})
	url := passthroughTo(t, up)
	post(t, url, `{"jsonrpc":"2.0","id":1,"method":"initialize"}`)
	got := post(t, url, `{"jsonrpc":"2.0","id":2,"method":"ping"}`, "Mcp-Session-Id", "s")
	if got.Status != 404 || got.Body != "Session not found\n" {
		t.Errorf("got %d %q", got.Status, got.Body)
	}
}

func TestPassthroughServerAsksDuringACall(t *testing.T) {
	answered := make(chan string, 1)
	up := newRawUpstream(t, func(w http.ResponseWriter, r *http.Request, body string) {
		if strings.Contains(body, `"result"`) {
			answered <- body
			w.WriteHeader(202)
			return
		}
		sse(w, "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"sampling/createMessage\"}\n\n")
		<-answered
		sse(w, "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n")
	})
	p := newRealProxy(t, allowAll)
	url := p.as(t, "a", p.HTTPPassthrough(HTTPUpstream{URL: up.URL})).URL
	next, _ := openStream(t, "POST", url, `{"jsonrpc":"2.0","id":1,"method":"x"}`)
	if got := next(); !strings.Contains(got, "sampling") {
		t.Fatalf("got %s", got)
	}
	if got := post(t, url, `{"jsonrpc":"2.0","id":1,"result":{"n":9007199254740993}}`); got.Status != 202 {
		t.Errorf("response: %d %s", got.Status, got.Body)
	}
	if got := next(); got != `{"jsonrpc":"2.0","id":1,"result":{}}` {
		t.Errorf("got %s", got)
	}
	if up.count(`{"jsonrpc":"2.0","id":1,"result":{"n":9007199254740993}}`) != 1 {
		t.Error("the host's answer did not arrive as it was")
	}
}

func TestPassthroughSlowReader(t *testing.T) {
	up := newRawUpstream(t, func(w http.ResponseWriter, r *http.Request, body string) {
		if !strings.Contains(body, "flood") {
			answerJSON(`{"jsonrpc":"2.0","id":1,"result":{}}`)(w, r, body)
			return
		}
		event := "data: {\"jsonrpc\":\"2.0\",\"method\":\"n\",\"params\":\"" + strings.Repeat("x", 1<<16) + "\"}\n\n"
		for range 1000 {
			sse(w, event)
		}
	})
	url := passthroughTo(t, up)
	res, err := send(t.Context(), "POST", url, `{"jsonrpc":"2.0","id":1,"method":"flood"}`)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close() // and never reads
	start := time.Now()
	if got := post(t, url, `{"jsonrpc":"2.0","id":1,"method":"ping"}`); got.Status != 200 || time.Since(start) > 5*time.Second {
		t.Errorf("the neighbour waited %s for %d", time.Since(start), got.Status)
	}
}

// The calls below are governed: policy, store and service are the real ones.

const buyCall = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"buy","arguments":{"n":9007199254740993,"s":"\u00e9"},"x":1.10}}`

// outcome waits for the log to hold what came of a call.
func (p realProxy) outcome(t *testing.T, want string) {
	t.Helper()
	p.Service.Close() // waits for what is still to be written
	_, entries, err := p.store.Unsequenced(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.Contains(string(e), want) {
			return
		}
	}
	t.Errorf("no entry says %s:\n%s", want, entries)
}

func TestPassthroughForwardsWhatWasDecided(t *testing.T) {
	p := newRealProxy(t, allowAll)
	up := newRawUpstream(t, answerJSON(`{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`))
	got := post(t, p.as(t, "a", p.HTTPPassthrough(HTTPUpstream{URL: up.URL})).URL, buyCall)
	if got.Body != `{"jsonrpc":"2.0","id":1,"result":{"content":[]}}` {
		t.Errorf("got %s", got.Body)
	}
	sent := up.requests()[0]
	at, _ := find([]byte(sent.body), "params", "_meta")
	if at.to == 0 {
		t.Fatalf("no proof in %s", sent.body)
	}
	without := strings.Replace(sent.body, `"_meta":`+sent.body[at.from:at.to]+`,`, "", 1)
	if without != buyCall {
		t.Errorf("but for the proof the upstream got %s", without)
	}
	if sent.header.Get("Content-Length") != fmt.Sprint(len(sent.body)) {
		t.Errorf("Content-Length %s for %d bytes", sent.header.Get("Content-Length"), len(sent.body))
	}
	p.outcome(t, `"outcome":"ok"`)
}

func TestPassthroughRefusal(t *testing.T) {
	p := newRealProxy(t, "version: 1\ndefault: deny\nrules: []\n")
	up := newRawUpstream(t, answerJSON(`{}`))
	got := post(t, p.as(t, "a", p.HTTPPassthrough(HTTPUpstream{URL: up.URL})).URL, buyCall)
	if got.Status != 200 || got.Header.Get("Content-Type") != "application/json" || rawAt([]byte(got.Body), "result", "isError") != "true" {
		t.Errorf("got %d %s", got.Status, got.Body)
	}
	if len(up.requests()) != 0 {
		t.Error("it was forwarded")
	}
}

func TestPassthroughOutcomes(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer func(http.ResponseWriter, *http.Request, string)
		want   string
	}{
		{"stream", func(w http.ResponseWriter, _ *http.Request, _ string) {
			sse(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"n\"}\n\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"isError\":true}}\n\n")
		}, `"outcome":"tool_error"`},
		{"error", answerJSON(`{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":""}}`), `"outcome":"protocol_error"`},
		{"another's answer", answerJSON(`{"jsonrpc":"2.0","id":2,"result":{}}`), `"outcome":"unknown"`},
		{"web page", func(w http.ResponseWriter, _ *http.Request, _ string) { http.Error(w, "oops", 500) }, `"outcome":"unknown"`},
		{"hang up", func(http.ResponseWriter, *http.Request, string) { panic(http.ErrAbortHandler) }, `"outcome":"unknown"`},
		{"credentials", func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(401) }, `"outcome":"transport_error"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newRealProxy(t, allowAll)
			up := newRawUpstream(t, tt.answer)
			post(t, p.as(t, "a", p.HTTPPassthrough(HTTPUpstream{URL: up.URL})).URL, buyCall)
			if n := len(up.requests()); n != 1 {
				t.Errorf("forwarded %d times", n)
			}
			p.outcome(t, tt.want)
		})
	}
}

func TestPassthroughResumedStreamBringsTheOutcome(t *testing.T) {
	p := newRealProxy(t, allowAll)
	up := newRawUpstream(t, func(w http.ResponseWriter, r *http.Request, body string) {
		switch {
		case r.Method == "GET":
			sse(w, "id: 2\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n")
		case strings.Contains(body, "initialize"):
			w.Header().Set("Mcp-Session-Id", "s")
			answerJSON(`{"jsonrpc":"2.0","id":0,"result":{}}`)(w, r, body)
		default:
			sse(w, "id: 1\nretry: 10\ndata:\n\n")
		}
	})
	url := p.as(t, "a", p.HTTPPassthrough(HTTPUpstream{URL: up.URL})).URL
	post(t, url, `{"jsonrpc":"2.0","id":0,"method":"initialize"}`)
	if got := post(t, url, buyCall, "Mcp-Session-Id", "s"); got.Body != "id: 1\nretry: 10\ndata:\n\n" {
		t.Errorf("first leg: %q", got.Body)
	}
	if got := do(t, "GET", url, "", "Mcp-Session-Id", "s", "Last-Event-Id", "1"); !strings.Contains(got.Body, `"result":{}`) {
		t.Errorf("second leg: %q", got.Body)
	}
	p.outcome(t, `"outcome":"ok"`)
}

func TestPassthroughHeldCall(t *testing.T) {
	p := newRealProxy(t, askAll)
	up := newRawUpstream(t, answerJSON(`{"jsonrpc":"2.0","id":1,"result":{}}`))
	url := p.as(t, "a", p.HTTPPassthrough(HTTPUpstream{URL: up.URL})).URL
	call := strings.Replace(buyCall, `"name"`, `"_meta":{"progressToken":"p"},"name"`, 1)
	next, _ := openStream(t, "POST", url, call)
	if got := next(); !strings.Contains(got, `"progressToken":"p"`) {
		t.Errorf("first event: %s", got)
	}
	// Others are not kept waiting.
	if got := post(t, url, `{"jsonrpc":"2.0","id":2,"method":"ping"}`); got.Status != 200 {
		t.Errorf("ping: %d", got.Status)
	}
	p.approve(t, p.pending(t).ID)
	if got := next(); got != `{"jsonrpc":"2.0","id":1,"result":{}}` {
		t.Errorf("response: %s", got)
	}
	if n := up.count("tools/call"); n != 1 {
		t.Errorf("forwarded %d times", n)
	}
}

func TestPassthroughFailureAfterProgress(t *testing.T) {
	for name, answer := range map[string]func(http.ResponseWriter, *http.Request, string){
		"text":  func(w http.ResponseWriter, _ *http.Request, _ string) { http.Error(w, "gone", 404) },
		"no id": answerJSON(`{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"gone"}}`),
	} {
		t.Run(name, func(t *testing.T) {
			p := newRealProxy(t, askAll)
			url := p.as(t, "a", p.HTTPPassthrough(HTTPUpstream{URL: newRawUpstream(t, answer).URL})).URL
			next, _ := openStream(t, "POST", url, strings.Replace(buyCall, `"name"`, `"_meta":{"progressToken":"p"},"name"`, 1))
			next()
			p.approve(t, p.pending(t).ID)
			if got := next(); !strings.HasPrefix(got, `{"jsonrpc":"2.0","id":1,"error"`) || !strings.Contains(got, "gone") {
				t.Errorf("got %s", got)
			}
		})
	}
}

func TestPassthroughWithdrawnCallNeverRuns(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		withdraw func(t *testing.T, url string, hangUp func())
	}{
		{"the host hangs up", func(t *testing.T, url string, hangUp func()) { hangUp() }},
		{"the host cancels", func(t *testing.T, url string, _ func()) {
			if got := post(t, url, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`); got.Status != 202 {
				t.Errorf("got %d", got.Status)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newRealProxy(t, askAll)
			up := newRawUpstream(t, answerJSON(`{"jsonrpc":"2.0","id":1,"result":{}}`))
			url := p.as(t, "a", p.HTTPPassthrough(HTTPUpstream{URL: up.URL})).URL
			ctx, hangUp := context.WithCancel(t.Context())
			over := make(chan struct{})
			go func() {
				defer close(over)
				if res, err := send(ctx, "POST", url, buyCall); err == nil {
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
			}()
			id := p.pending(t).ID
			tt.withdraw(t, url, hangUp)
			<-over
			time.Sleep(100 * time.Millisecond) // for the hang-up to be seen
			p.approve(t, id)
			time.Sleep(300 * time.Millisecond) // longer than a hold looks again
			if reqs := up.requests(); len(reqs) != 0 {
				t.Errorf("forwarded: %+v", reqs)
			}
			hangUp()
			// The same call again finds the approval.
			if got := post(t, url, buyCall); !strings.Contains(got.Body, `"result":{}`) {
				t.Errorf("again: %s", got.Body)
			}
		})
	}
}

func TestPassthroughCancelOfAForwardedCallGoesUp(t *testing.T) {
	p := newRealProxy(t, allowAll)
	cancelled := make(chan struct{})
	up := newRawUpstream(t, func(w http.ResponseWriter, r *http.Request, body string) {
		if strings.Contains(body, "cancelled") {
			close(cancelled)
			w.WriteHeader(202)
			return
		}
		<-cancelled
		answerJSON(`{"jsonrpc":"2.0","id":1,"result":{}}`)(w, r, body)
	})
	url := p.as(t, "a", p.HTTPPassthrough(HTTPUpstream{URL: up.URL})).URL
	var wait sync.WaitGroup
	wait.Go(func() { post(t, url, buyCall) })
	up.wait(t, "tools/call")
	post(t, url, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`)
	wait.Wait()
	if up.count("notifications/cancelled") != 1 {
		t.Error("the upstream was not told")
	}
}

func TestPassthroughOneAgentCannotCancelForAnother(t *testing.T) {
	p := newRealProxy(t, askAll)
	up := newRawUpstream(t, answerJSON(`{"jsonrpc":"2.0","id":1,"result":{}}`))
	h := p.HTTPPassthrough(HTTPUpstream{URL: up.URL})
	alice, bob := p.as(t, "alice", h).URL, p.as(t, "bob", h).URL
	got := make(chan httpReply, 1)
	go func() { got <- post(t, alice, buyCall) }()
	id := p.pending(t).ID
	post(t, bob, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`)
	p.approve(t, id)
	if diff := cmp.Diff(`{"jsonrpc":"2.0","id":1,"result":{}}`, (<-got).Body); diff != "" {
		t.Error(diff)
	}
}
