package proxy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/rs/zerolog"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/authz"
)

// taskServer is a server with one tool. In 2025-11-25 it makes a task of a call that
// wants to be one; in 2026-07-28 it does what the test says.
type taskServer struct {
	mu     sync.Mutex
	seen   []string
	calls  int
	open   bool          // one of its own tasks was made
	says   string        // the description of its tool
	gate   chan struct{} // when not nil, a call is answered once it is closed
	result func(n int, m Message) string
}

const theirTask = "theirs-7"

func (s *taskServer) answer(m Message) string {
	s.mu.Lock()
	s.seen = append(s.seen, string(m.Raw))
	var n int
	if m.Method == "tools/call" {
		s.calls++
		n = s.calls
	}
	gate, result, made := s.gate, s.result, s.open
	s.mu.Unlock()
	if !m.IsRequest() {
		return ""
	}
	id, _ := stringAt(m.Raw, "params", "taskId")
	status := `"taskId":"` + theirTask + `","status":"%s","createdAt":"2026-01-01T00:00:00Z","lastUpdatedAt":"2026-01-01T00:00:00Z","ttl":60000`
	switch {
	case m.Method == "initialize":
		return `{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"tasks":{"list":{},"cancel":{},"requests":{"tools":{"call":{}}}}},"serverInfo":{"name":"s","version":"1"}}`
	case m.Method == "server/discover":
		return `{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}`
	case m.Method == "tools/list":
		return `{"tools":[{"name":"buy","description":"` + s.says + `","inputSchema":{"type":"object"}}]}`
	case m.Method == "tools/call" && result != nil:
		return result(n, m)
	case m.Method == "tools/call":
		if gate != nil {
			<-gate
		}
		if rawAt(m.Raw, "params", "task") == "" || isModern(metaVersion(m)) {
			return `{"content":[{"type":"text","text":"done plainly"}]}`
		}
		s.mu.Lock()
		s.open = true
		s.mu.Unlock()
		return `{"task":{` + fmt.Sprintf(status, "working") + `}}`
	case m.Method == "tasks/list" && made:
		return `{"tasks":[{` + fmt.Sprintf(status, "completed") + `}]}`
	case m.Method == "tasks/list":
		return `{"tasks":[ ]}`
	case id != theirTask || !made:
		return ""
	case m.Method == "tasks/get":
		return `{` + fmt.Sprintf(status, "completed") + `}`
	case m.Method == "tasks/result":
		return `{"content":[{"type":"text","text":"done as a task"}],"_meta":{"x":1,"io.modelcontextprotocol/related-task":{"taskId":"` + theirTask + `"}}}`
	case m.Method == "tasks/cancel":
		return `{` + fmt.Sprintf(status, "cancelled") + `}`
	}
	return ""
}

// response is the answer as a message; empty: none is due.
func (s *taskServer) response(m Message) string {
	result := s.answer(m)
	switch {
	case !m.IsRequest():
		return ""
	case result == "":
		return string(errorReply(m.ID, codeInvalidParams, "theirs: no such task"))
	case strings.HasPrefix(result, `{"code"`):
		return `{"jsonrpc":"2.0","id":` + m.ID + `,"error":` + result + `}`
	}
	return `{"jsonrpc":"2.0","id":` + m.ID + `,"result":` + result + `}`
}

func (s *taskServer) serve(c *pipeConn, m Message) {
	go func() { // a call may take long
		if raw := s.response(m); raw != "" {
			c.write(raw)
		}
	}()
}

func (s *taskServer) serveHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != "POST" {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	body, _ := io.ReadAll(r.Body)
	m, err := ReadMessage(body, anyMessage(body))
	if err == nil {
		err = checkMirrors(r.Header, m) // as servers of 2026-07-28 must
	}
	if err != nil {
		writeError(w, err)
		return
	}
	raw := s.response(m)
	if raw == "" {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	w.Header().Set("Content-Type", typeJSON)
	if m.Method == "initialize" {
		w.Header().Set(mcp.HeaderSessionID, "theirs")
	}
	io.WriteString(w, raw)
}

func (s *taskServer) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

func (s *taskServer) saw(part string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, raw := range s.seen {
		if strings.Contains(raw, part) {
			n++
		}
	}
	return n
}

// taskHost is a host at some door: it asks, and gets the answer.
type taskHost struct {
	t      *testing.T
	modern bool
	caps   string // declared in each request of 2026-07-28
	post   func(m string, headers ...string) string
	last   int
}

const withTasks = `{"extensions":{"io.modelcontextprotocol/tasks":{}}}`

// message is a request of the host.
func (h *taskHost) message(method, params string) (m string, headers []string) {
	h.last++
	if !h.modern {
		return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q,"params":{%s}}`, h.last, method, params), nil
	}
	if params != "" {
		params += ","
	}
	headers = stateless(method)
	m = fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q,"params":{%s"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":%s,"progressToken":%d}}}`,
		h.last, method, params, h.caps, h.last)
	if name, ok := stringAt([]byte(m), "params", nameMember(method)); ok {
		headers = append(headers, mcp.HeaderName, name)
	}
	return m, headers
}

// ask returns the whole response.
func (h *taskHost) ask(method, params string) []byte {
	h.t.Helper()
	m, headers := h.message(method, params)
	raw := []byte(h.post(m, headers...))
	if got := rawAt(raw, "id"); got != fmt.Sprint(h.last) {
		h.t.Errorf("%s was answered by %s", m, raw)
	}
	return raw
}

// task asks for a call that becomes a task, and returns its id.
func (h *taskHost) task(arguments string) string {
	h.t.Helper()
	params := `"name":"buy","arguments":` + arguments
	member := []string{"result", "taskId"}
	if !h.modern {
		params += `,"task":{"ttl":600000}`
		member = []string{"result", "task", "taskId"}
	}
	raw := h.ask("tools/call", params)
	id, _ := stringAt(raw, member...)
	if !isTaskID(id) {
		h.t.Fatalf("the call has not become a task: %s", raw)
	}
	return id
}

func (h *taskHost) about(method, id string) []byte {
	h.t.Helper()
	return h.ask(method, `"taskId":"`+id+`"`)
}

func (h *taskHost) status(id string) string {
	h.t.Helper()
	status, _ := stringAt(h.about("tasks/get", id), "result", "status")
	return status
}

// become polls until the task has a status.
func (h *taskHost) become(id, status string) []byte {
	h.t.Helper()
	for range 100 {
		raw := h.about("tasks/get", id)
		if got, _ := stringAt(raw, "result", "status"); got == status {
			return raw
		}
		time.Sleep(50 * time.Millisecond)
	}
	h.t.Fatalf("the task is not %s: %s", status, h.about("tasks/get", id))
	return nil
}

// doors are the ways in, each with a host of one agent in front of its own server.
func taskDoors(modern bool) map[string]func(t *testing.T, p realProxy, agent string) (*taskHost, *taskServer) {
	if modern {
		return map[string]func(*testing.T, realProxy, string) (*taskHost, *taskServer){
			"stdio": atStdio, "shared": atSessions, "passthrough": atPassthrough,
		}
	}
	return map[string]func(*testing.T, realProxy, string) (*taskHost, *taskServer){
		"stdio": atStdio, "sessions": atSessions, "sse": atSSE, "passthrough": atPassthrough, "all": atAll,
	}
}

func (p realProxy) caller(t *testing.T, agent string) authz.Caller {
	return authz.Caller{Agent: must(p.store.EnsureAgent(t.Context(), agent, p.owner))(t)}
}

func atStdio(t *testing.T, p realProxy, agent string) (*taskHost, *taskServer) {
	host, hostSide := newPipes()
	s := &taskServer{}
	d := &children{serve: s.serve}
	up := must(d.dial(t.Context(), authz.Caller{}))(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Serve(ctx, p.caller(t, agent), hostSide, up) }()
	t.Cleanup(func() { stop(); <-ended })
	return overPipe(t, host), s
}

// overPipe is a host that reads whatever comes and picks its answers.
func overPipe(t *testing.T, host *pipeConn) *taskHost {
	var mu sync.Mutex
	waiting := map[string]chan string{}
	go func() {
		for {
			m, err := host.Recv(context.Background())
			if err != nil {
				return
			}
			mu.Lock()
			if c := waiting[m.ID]; c != nil && m.IsResponse() {
				c <- string(m.Raw)
			}
			mu.Unlock()
		}
	}()
	return &taskHost{t: t, post: func(m string, _ ...string) string {
		answer := make(chan string, 1)
		mu.Lock()
		waiting[idAt([]byte(m), "id")] = answer
		mu.Unlock()
		host.write(m)
		if idAt([]byte(m), "id") == "" {
			return ""
		}
		select {
		case raw := <-answer:
			return raw
		case <-time.After(20 * time.Second):
			return "no answer came"
		}
	}}
}

func atSessions(t *testing.T, p realProxy, agent string) (*taskHost, *taskServer) {
	s := &taskServer{}
	h, _ := sessionsOf(t, p.Proxy, s.serve)
	return overHTTP(t, serveAs(t, p.caller(t, agent), h).URL), s
}

func atPassthrough(t *testing.T, p realProxy, agent string) (*taskHost, *taskServer) {
	s := &taskServer{}
	up := newRawUpstream(t, func(w http.ResponseWriter, r *http.Request, body string) {
		r.Body = io.NopCloser(strings.NewReader(body))
		s.serveHTTP(w, r)
	})
	return overHTTP(t, serveAs(t, p.caller(t, agent), p.HTTPPassthrough(HTTPUpstream{URL: up.URL})).URL), s
}

func overHTTP(t *testing.T, url string) *taskHost {
	var session []string
	return &taskHost{t: t, post: func(m string, headers ...string) string {
		got := post(t, url, m, append(headers, session...)...)
		if id := got.Header.Get(mcp.HeaderSessionID); id != "" {
			session = []string{mcp.HeaderSessionID, id}
		}
		if strings.HasPrefix(got.Header.Get("Content-Type"), typeSSE) { // the answer comes last
			events := newSSEReader(strings.NewReader(got.Body), 1<<24)
			last := ""
			for {
				e, err := events.next()
				if err != nil {
					return last
				}
				if e.data != nil {
					last = string(e.data)
				}
			}
		}
		return got.Body
	}}
}

func atSSE(t *testing.T, p realProxy, agent string) (*taskHost, *taskServer) {
	s := &taskServer{}
	h, _ := sessionsOf(t, p.Proxy, s.serve)
	c := openSSE(t, sseDoor(t, p.caller(t, agent), h))
	return &taskHost{t: t, post: func(m string, _ ...string) string {
		c.post(m)
		if idAt([]byte(m), "id") == "" {
			return ""
		}
		return c.next()
	}}, s
}

func atAll(t *testing.T, p realProxy, agent string) (*taskHost, *taskServer) {
	s := &taskServer{}
	d := &children{serve: s.serve}
	all := &Aggregate{Version: "0.1", Limits: action.Limits{Bytes: 1 << 20}, Log: zerolog.Nop(), Members: []Member{{p.Proxy, d.dial}}}
	host, hostSide := newPipes()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	who := p.caller(t, agent)
	go func() { ended <- relay(ctx, hostSide, all.gather(who)) }()
	t.Cleanup(func() { stop(); <-ended })
	h := overPipe(t, host)
	inner := h.post
	h.post = func(m string, headers ...string) string {
		return inner(strings.Replace(m, `"name":"buy"`, `"name":"shop__buy"`, 1), headers...)
	}
	return h, s
}

// taskHostAt is a host at a door after its handshake, if its era has one.
func taskHostAt(t *testing.T, p realProxy, agent string, modern bool, door func(*testing.T, realProxy, string) (*taskHost, *taskServer)) (*taskHost, *taskServer) {
	t.Helper()
	h, s := door(t, p, agent)
	h.modern, h.caps = modern, withTasks
	if modern {
		h.ask("server/discover", "")
		return h, s
	}
	h.ask("initialize", `"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}`)
	h.post(initialized)
	return h, s
}
