package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/openleash/openleash-go/authz"
)

// approvedTask is a task of the extension whose call the owner has approved.
func approvedTask(t *testing.T, p realProxy, door func(*testing.T, realProxy, string) (*taskHost, *taskServer)) (h *taskHost, s *taskServer, id string) {
	t.Helper()
	p.Hold = 20 * time.Millisecond
	h, s = taskHostAt(t, p, "bot", true, door)
	id = h.task(`{"n":1}`)
	p.approve(t, p.pending(t).ID)
	return h, s, id
}

func TestTaskThatTakesLong(t *testing.T) {
	t.Parallel()
	for name, door := range taskDoors(true) {
		t.Run(name, func(t *testing.T) {
			h, s, id := approvedTask(t, newRealProxy(t, askAll), door)
			s.gate = make(chan struct{})
			start := time.Now()
			if got := h.status(id); got != "working" || time.Since(start) > 5*time.Second {
				t.Errorf("while it runs: %s, after %s", got, time.Since(start))
			}
			if got := h.status(id); got != "working" || s.count() != 1 {
				t.Errorf("while it runs: %s, %d calls", got, s.count())
			}
			close(s.gate)
			if raw := h.become(id, "completed"); !strings.Contains(string(raw), "done plainly") || s.count() != 1 {
				t.Errorf("%d calls, and %s", s.count(), raw)
			}
		})
	}
}

// What the server has to say is not for the progress token of a request that was
// answered long ago.
func TestTaskHasNoProgressToken(t *testing.T) {
	h, s, id := approvedTask(t, newRealProxy(t, askAll), atStdio)
	h.become(id, "completed")
	for _, raw := range s.seen {
		if strings.Contains(raw, `"tools/call"`) && strings.Contains(raw, "progressToken") {
			t.Errorf("the server has got %s", raw)
		}
	}
}

// Cancelled while it runs, the server is told, and the log says that nobody knows.
func TestTaskCancelledWhileItRuns(t *testing.T) {
	t.Parallel()
	p := newRealProxy(t, askAll)
	h, s, id := approvedTask(t, p, atStdio)
	s.gate = make(chan struct{})
	defer close(s.gate)
	h.about("tasks/get", id)
	h.about("tasks/cancel", id)
	raw := h.about("tasks/get", id)
	if text, _ := stringAt(raw, "result", "statusMessage"); rawAt(raw, "result", "status") != `"cancelled"` || !strings.Contains(text, "not known") {
		t.Errorf("the task: %s", raw)
	}
	eventually(t, "the server is not told", func() bool { return s.saw("notifications/cancelled") == 1 })
	eventually(t, "the log has no outcome", func() bool {
		e := p.entries(t, "outcome")
		return len(e) == 1 && e[0].Outcome == "cancelled"
	})
}

// One that was cancelled while the server made a task of its own of it is cancelled
// there too.
func TestTaskCancelledWhileItIsMade(t *testing.T) {
	t.Parallel()
	p := newRealProxy(t, askAll)
	h, s := taskHostAt(t, p, "bot", false, atStdio)
	id := h.task("{}")
	p.approve(t, p.pending(t).ID)
	s.gate = make(chan struct{})
	h.about("tasks/get", id)
	h.about("tasks/cancel", id)
	close(s.gate)
	eventually(t, "the server's task goes on", func() bool { return s.saw(`"method":"tasks/cancel","params":{"taskId":"`+theirTask+`"}`) == 1 })
	if got := h.status(id); got != "cancelled" {
		t.Errorf("the task is %s", got)
	}
}

func TestTaskThatFails(t *testing.T) {
	h, s, id := approvedTask(t, newRealProxy(t, askAll), atStdio)
	s.result = func(int, Message) string { return `{"code":-32000,"message":"out of stock","data":{"n":1.10}}` }
	raw := h.become(id, "failed")
	if rawAt(raw, "result", "error") != `{"code":-32000,"message":"out of stock","data":{"n":1.10}}` || rawAt(raw, "result", "statusMessage") != `"out of stock"` {
		t.Errorf("a JSON-RPC error: %s", raw)
	}
	h, s, id = approvedTask(t, newRealProxy(t, askAll), atStdio)
	s.result = func(int, Message) string { return `{"content":[],"isError":true}` }
	if raw := h.become(id, "completed"); rawAt(raw, "result", "result") != `{"content":[],"isError":true}` {
		t.Errorf("a tool's error: %s", raw)
	}
}

// A server of 2026-07-28 can make a task of its own of the call.
func TestTaskOfTheServerBehindOurs(t *testing.T) {
	for name, door := range taskDoors(true) {
		t.Run(name, func(t *testing.T) {
			h, s, id := approvedTask(t, newRealProxy(t, askAll), door)
			s.result = func(int, Message) string {
				return `{"resultType":"task","taskId":"` + theirTask + `","status":"working","createdAt":"x","lastUpdatedAt":"x","ttlMs":null}`
			}
			s.open = true
			raw := h.about("tasks/get", id)
			if got, _ := stringAt(raw, "result", "taskId"); got != id || rawAt(raw, "result", "createdAt") != `"2026-01-01T00:00:00Z"` {
				t.Errorf("tasks/get: %s", raw)
			}
			h.about("tasks/cancel", id)
			if s.saw(id) != 0 || s.saw(theirTask) != 2 || s.count() != 1 {
				t.Errorf("the server has got %s", s.seen)
			}
		})
	}
}

// What the server asks its host in the course of its own task names that task: each
// side reads the id that it knows.
func TestTaskIsNamedInWhatBelongsToIt(t *testing.T) {
	p := newRealProxy(t, strings.Replace(askAll, "rules: []", "rules: [{id: ask, effect: allow, action: 'mcp.shop.elicitation'}]", 1))
	k := &talk{realProxy: p, t: t}
	host, hostSide := newPipes()
	upSide, up := newPipes()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Serve(ctx, p.caller(t, "bot"), hostSide, upSide) }()
	t.Cleanup(func() { stop(); <-ended })
	s := &taskServer{}
	play := func() { // the server answers one message
		m := must(up.Recv(t.Context()))(t)
		if raw := s.response(m); raw != "" {
			up.write(raw)
		}
	}
	host.write(initialize)
	play()
	k.next(host)
	host.write(initialized)
	play()
	host.write(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"buy","arguments":{},"task":{}}}`)
	play() // our tools/list
	id, _ := stringAt([]byte(k.next(host)), "result", "task", "taskId")
	p.approve(t, p.pending(t).ID)
	host.write(`{"jsonrpc":"2.0","id":2,"method":"tasks/get","params":{"taskId":"` + id + `"}}`)
	play() // the call
	play() // tasks/get
	k.next(host)

	related := `"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"%s"}}`
	for _, x := range []struct {
		from, to *pipeConn
		message  string
		name     [2]string
	}{
		{up, host, `{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{"taskId":"%s","status":"working"}}`, [2]string{theirTask, id}},
		{up, host, `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1,` + related + `}}`, [2]string{theirTask, id}},
		{up, host, `{"jsonrpc":"2.0","id":5,"method":"elicitation/create","params":{"message":"` + theirTask + `?",` + related + `}}`, [2]string{theirTask, id}},
		{host, up, `{"jsonrpc":"2.0","id":5,"result":{"action":"accept",` + related + `}}`, [2]string{id, theirTask}},
	} {
		x.from.write(fmt.Sprintf(x.message, x.name[0]))
		if diff := cmp.Diff(fmt.Sprintf(x.message, x.name[1]), k.next(x.to)); diff != "" {
			t.Error(diff)
		}
	}
}

// A server that wants to know more before it goes on asks through the task.
func TestTaskAsksItsHost(t *testing.T) {
	t.Parallel()
	for name, door := range taskDoors(true) {
		t.Run(name, func(t *testing.T) {
			p := newRealProxy(t, strings.Replace(askAll, "rules: []", "rules: [{id: ask, effect: allow, action: 'mcp.shop.elicitation'}]", 1))
			h, s, id := approvedTask(t, p, door)
			want := `{"resultType":"input_required","inputRequests":{"a":{"method":"elicitation/create","params":{"message":"a?"}},"b":{"method":"roots/list"}},"requestState":"s%d"}`
			s.result = func(n int, m Message) string {
				state, _ := stringAt(m.Raw, "params", requestState)
				answers := rawAt(m.Raw, "params", inputResponses)
				switch {
				case n == 1 && state == "" && answers == "":
					return fmt.Sprintf(want, 1)
				case n == 2 && state == "s1" && answers == `{"a":{"action":"accept"},"b":{"roots":[1.10]}}`:
					return `{"resultType":"input_required","requestState":"again"}` // no question
				case n == 3 && state == "again" && answers == "":
					return fmt.Sprintf(want, 3)
				case n == 4 && state == "s3" && answers == `{"a":{"action":"decline"},"b":{"roots":[]}}`:
					return `{"content":[],"resultType":"complete"}`
				}
				return fmt.Sprintf(`{"code":-1,"message":"message %d has state %q and answers %s"}`, n, state, strings.ReplaceAll(answers, `"`, "'"))
			}
			raw := h.become(id, "input_required")
			if got := rawAt(raw, "result", "inputRequests"); got != `{"1.a":{"method":"elicitation/create","params":{"message":"a?"}},"1.b":{"method":"roots/list"}}` {
				t.Errorf("it asks %s", got)
			}
			answer := func(responses string) {
				if raw := h.ask("tasks/update", `"taskId":"`+id+`","inputResponses":`+responses); rawAt(raw, "result") != `{"resultType":"complete"}` {
					t.Errorf("tasks/update: %s", raw)
				}
			}
			answer(`{"1.a":{"action":"accept"},"a":{},"0.b":{}}`)
			if got := h.status(id); got != "input_required" || s.count() != 1 {
				t.Errorf("with one answer of two: %s, %d calls", got, s.count())
			}
			answer(`{"1.a":{"action":"decline"},"1.b":{"roots":[1.10]}}`)
			raw = h.become(id, "input_required")
			if got := rawAt(raw, "result", "inputRequests"); !strings.Contains(got, `"3.a"`) || strings.Contains(got, `"1.a"`) {
				t.Errorf("the second time it asks %s", got)
			}
			answer(`{"3.a":{"action":"decline"},"3.b":{"roots":[]}}`)
			if raw := h.become(id, "completed"); rawAt(raw, "result", "result") != `{"content":[],"resultType":"complete"}` {
				t.Errorf("the result: %s", raw)
			}
			answer(`{"3.a":{}}`) // of no use any more
			if s.count() != 4 {
				t.Errorf("%d calls", s.count())
			}
		})
	}
}

// A server that wants nothing but to be asked again is asked for so long.
func TestTaskThatIsNeverDone(t *testing.T) {
	t.Parallel()
	p := newRealProxy(t, askAll)
	h, s, id := approvedTask(t, p, atStdio)
	s.result = func(int, Message) string { return `{"resultType":"input_required","requestState":"again"}` }
	h.about("tasks/get", id)
	eventually(t, "it is not asked again", func() bool { return s.count() > 1 })
	h.about("tasks/cancel", id)
	n := s.count()
	time.Sleep(2 * runPause)
	if s.count() > n+1 {
		t.Errorf("it goes on after it was cancelled: %d, then %d calls", n, s.count())
	}
}

// What the server wants to know is decided on as anywhere else.
func TestTaskWhoseQuestionIsRefused(t *testing.T) {
	p := newRealProxy(t, strings.Replace(askAll, "rules: []", "rules: [{id: ask, effect: deny, action: 'mcp.shop.elicitation'}]", 1))
	h, s, id := approvedTask(t, p, atStdio)
	s.result = func(int, Message) string {
		return `{"resultType":"input_required","inputRequests":{"a":{"method":"elicitation/create","params":{"message":"your password?"}}}}`
	}
	if raw := h.become(id, "failed"); strings.Contains(string(raw), "password") || !strings.Contains(string(raw), "was refused") {
		t.Errorf("the host gets %s", raw)
	}
}

// A real server and a real client, with nothing of ours in either.
func TestTaskBetweenRealPeers(t *testing.T) {
	p := newRealProxy(t, askAll)
	var ran atomic.Int32
	s := server.NewMCPServer("batches", "1", server.WithTaskCapabilities(true, true, true), server.WithToolCapabilities(true))
	s.AddTool(mcp.NewTool("run", mcp.WithTaskSupport(mcp.TaskSupportOptional)), func(_ context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		ran.Add(1)
		return mcp.NewToolResultText("ran"), nil
	})
	s.AddTaskTool(mcp.NewTool("batch", mcp.WithTaskSupport(mcp.TaskSupportRequired)), func(context.Context, mcp.CallToolRequest) (*mcp.CreateTaskResult, error) {
		ran.Add(1)
		return &mcp.CreateTaskResult{}, nil
	})
	up := httptest.NewServer(server.NewStreamableHTTPServer(s))
	t.Cleanup(up.Close)
	dial := func(ctx context.Context, _ authz.Caller) (Conn, error) {
		return DialHTTP(ctx, HTTPUpstream{Name: "batches", URL: up.URL})
	}
	sessions := p.HTTPHost(dial)
	t.Cleanup(func() { sessions.Close() })
	for name, door := range map[string]http.Handler{"passthrough": p.HTTPPassthrough(HTTPUpstream{URL: up.URL}), "sessions": sessions} {
		t.Run(name, func(t *testing.T) {
			ran.Store(0)
			tr := must(transport.NewStreamableHTTP(serveAs(t, p.caller(t, name), door).URL))(t)
			c := client.NewClient(tr)
			t.Cleanup(func() { c.Close() })
			if err := c.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			hello := must(c.Initialize(t.Context(), mcp.InitializeRequest{Params: mcp.InitializeParams{ProtocolVersion: "2025-11-25", ClientInfo: mcp.Implementation{Name: "c", Version: "1"}}}))(t)
			if hello.Capabilities.Tasks == nil {
				t.Fatal("the server's tasks are not declared")
			}
			answer := must(tr.SendRequest(t.Context(), transport.JSONRPCRequest{JSONRPC: "2.0", ID: mcp.NewRequestId(int64(77)), Method: "tools/call",
				Params: json.RawMessage(`{"name":"batch","arguments":{},"task":{"ttl":600000}}`)}))(t)
			var created mcp.CreateTaskResult
			if err := json.Unmarshal(answer.Result, &created); err != nil || !isTaskID(created.Task.TaskId) || created.Task.Status != mcp.TaskStatusWorking {
				t.Fatalf("%v %s", err, answer.Result)
			}
			id := created.Task.TaskId
			if got := must(c.GetTask(t.Context(), mcp.GetTaskRequest{Params: mcp.GetTaskParams{TaskId: id}}))(t); got.Status != mcp.TaskStatusWorking || got.TaskId != id {
				t.Errorf("before it is approved: %+v", got)
			}
			if list := must(c.ListTasks(t.Context(), mcp.ListTasksRequest{}))(t); len(list.Tasks) != 1 || list.Tasks[0].TaskId != id {
				t.Errorf("the list: %+v", list)
			}
			p.approve(t, p.pending(t).ID)
			for {
				got := must(c.GetTask(t.Context(), mcp.GetTaskRequest{Params: mcp.GetTaskParams{TaskId: id}}))(t)
				if got.TaskId != id {
					t.Fatalf("another task: %+v", got)
				}
				if got.Status.IsTerminal() {
					break
				}
				time.Sleep(20 * time.Millisecond)
			}
			result := must(c.TaskResult(t.Context(), mcp.TaskResultRequest{Params: mcp.TaskResultParams{TaskId: id}}))(t)
			if result.IsError || ran.Load() != 1 {
				t.Errorf("it has run %d times: %+v", ran.Load(), result)
			}
			if list := must(c.ListTasks(t.Context(), mcp.ListTasksRequest{}))(t); len(list.Tasks) != 1 || list.Tasks[0].TaskId != id {
				t.Errorf("the list: %+v", list)
			}
		})
	}
}

// When OpenLeash ends, the log says of a call that runs that nobody knows.
func TestTaskThatRunsWhenOpenLeashEnds(t *testing.T) {
	t.Parallel()
	for name, door := range taskDoors(true) {
		t.Run(name, func(t *testing.T) {
			p := newRealProxy(t, askAll)
			h, s, id := approvedTask(t, p, door)
			s.gate = make(chan struct{})
			defer close(s.gate)
			h.about("tasks/get", id)
			p.EndTasks()
			p.outcomes(t, 1)
			if e := p.entries(t, "outcome"); len(e) != 1 || e[0].Outcome != "unknown" {
				t.Errorf("the log: %+v", e)
			}
			later := h.task(`{"n":2}`)
			p.approve(t, p.pending(t).ID)
			if raw := h.about("tasks/get", later); !strings.Contains(string(raw), "shutting down") || s.count() != 1 {
				t.Errorf("what is approved then: %s, %d calls", raw, s.count())
			}
		})
	}
}
