package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
)

// A host of 2025-11-25 asks for a task, and its server makes one of its own once the
// owner has approved: both are one to the host.
func TestTaskAskedFor(t *testing.T) {
	t.Parallel()
	for name, door := range taskDoors(false) {
		t.Run(name, func(t *testing.T) {
			p := newRealProxy(t, askAll)
			p.Portal = "http://portal"
			h, s := taskHostAt(t, p, "bot", false, door)
			raw := h.ask("tools/call", `"name":"buy","arguments":{"n":1.10},"task":{"ttl":60000},"_meta":{"progressToken":"x"}`)
			held := p.pending(t)
			for path, want := range map[string]string{
				"status": `"working"`, "ttl": "60000", "pollInterval": "1000",
				"statusMessage": `"waiting for the owner's approval: http://portal/approvals/` + held.ID + `"`,
			} {
				if got := rawAt(raw, "result", "task", path); got != want {
					t.Errorf("%s: got %s, want %s", path, got, want)
				}
			}
			if said, _ := stringAt(raw, "result", "_meta", immediateResponse); !strings.Contains(said, "Waiting for approval") {
				t.Errorf("the model is told %q", said)
			}
			id, _ := stringAt(raw, "result", "task", "taskId")
			if got := h.status(id); got != "working" {
				t.Errorf("before it is approved: %s", got)
			}
			list := rawAt(h.ask("tasks/list", ""), "result", "tasks")
			if !strings.Contains(list, id) || strings.Count(list, "taskId") != 1 {
				t.Errorf("the list: %s", list)
			}
			p.approve(t, held.ID)
			time.Sleep(200 * time.Millisecond)
			if n := s.count(); n != 0 {
				t.Fatalf("it has run %d times before its host has asked", n)
			}

			got := h.about("tasks/get", id)
			if status, _ := stringAt(got, "result", "status"); status != "completed" || rawAt(got, "result", "createdAt") != `"2026-01-01T00:00:00Z"` {
				t.Errorf("the server's own task: %s", got)
			}
			for range 2 {
				want := fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"done as a task"}],"_meta":{"x":1,"io.modelcontextprotocol/related-task":{"taskId":"%s"}}}}`, h.last+1, id)
				if diff := cmp.Diff(want, string(h.about("tasks/result", id))); diff != "" {
					t.Error(diff)
				}
			}
			if list := rawAt(h.ask("tasks/list", ""), "result", "tasks"); strings.Count(list, id) != 1 || strings.Contains(list, theirTask) {
				t.Errorf("the list: %s", list)
			}
			if status, _ := stringAt(h.about("tasks/cancel", id), "result", "status"); status != "cancelled" {
				t.Errorf("the server's own task, cancelled: %s", status)
			}
			if s.count() != 1 || s.saw(id) != 0 {
				t.Errorf("the server has got %d calls, and our id %d times", s.count(), s.saw(id))
			}
			if s.saw(`"task":{"ttl":60000}`) != 1 || s.saw(`"arguments":{"n":1.10}`) != 1 || s.saw(ProofKey) != 1 {
				t.Errorf("the call is not the one that was approved: %s", s.seen)
			}
		})
	}
}

// A host that waits for the result has the call run as soon as it is approved.
func TestTaskResultWaits(t *testing.T) {
	t.Parallel()
	for name, door := range taskDoors(false) {
		t.Run(name, func(t *testing.T) {
			p := newRealProxy(t, askAll)
			h, s := taskHostAt(t, p, "bot", false, door)
			id := h.task("{}")
			held := p.pending(t)
			answer := make(chan []byte, 1)
			go func() { answer <- h.about("tasks/result", id) }()
			select {
			case raw := <-answer:
				t.Fatalf("it does not wait: %s", raw)
			case <-time.After(300 * time.Millisecond):
			}
			p.approve(t, held.ID)
			if raw := <-answer; !strings.Contains(string(raw), "done as a task") || !strings.Contains(string(raw), id) || s.count() != 1 {
				t.Errorf("%d calls, and %s", s.count(), raw)
			}
		})
	}
}

// In 2026-07-28 a host that has declared the extension gets a task after the wait,
// whatever its server has, and the result inside the task.
func TestTaskOfTheExtension(t *testing.T) {
	t.Parallel()
	for name, door := range taskDoors(true) {
		t.Run(name, func(t *testing.T) {
			p := newRealProxy(t, askAll)
			p.Hold = 50 * time.Millisecond
			h, s := taskHostAt(t, p, "bot", true, door)
			raw := h.ask("tools/call", `"name":"buy","arguments":{"n":1.10},"task":{"ttl":1}`)
			if rawAt(raw, "result", "resultType") != `"task"` || rawAt(raw, "result", "status") != `"working"` || rawAt(raw, "result", "task") != "" {
				t.Fatalf("the call: %s", raw)
			}
			if day, _ := milliseconds(jsonNumber(t, rawAt(raw, "result", "ttlMs"))); day < 23*time.Hour {
				t.Errorf("its time is %s: a host of this revision has no say in it", day)
			}
			id, _ := stringAt(raw, "result", "taskId")
			held := p.pending(t)
			if got := h.status(id); got != "working" || s.count() != 0 {
				t.Errorf("%s after %d calls", got, s.count())
			}
			p.approve(t, held.ID)
			time.Sleep(200 * time.Millisecond)
			if n := s.count(); n != 0 {
				t.Fatalf("it has run %d times before its host has asked", n)
			}
			for range 2 {
				raw = h.about("tasks/get", id)
				if rawAt(raw, "result", "status") != `"completed"` || rawAt(raw, "result", "resultType") != `"complete"` ||
					rawAt(raw, "result", "result") != `{"content":[{"type":"text","text":"done plainly"}]}` {
					t.Errorf("the result: %s", raw)
				}
			}
			if s.count() != 1 || s.saw(`"arguments":{"n":1.10}`) != 1 || s.saw(ProofKey) != 1 {
				t.Errorf("the server has got %s", s.seen)
			}
			if code := rawAt(h.about("tasks/result", id), "error", "code"); code != "-32601" {
				t.Errorf("tasks/result: %s", code)
			}
			if raw := h.about("tasks/cancel", id); rawAt(raw, "result") != `{"resultType":"complete"}` {
				t.Errorf("tasks/cancel: %s", raw)
			}
		})
	}
}

// What has not declared the extension gets no task, and cannot ask about one.
func TestNoTaskWithoutTheExtension(t *testing.T) {
	t.Parallel()
	for name, door := range taskDoors(true) {
		t.Run(name, func(t *testing.T) {
			p := newRealProxy(t, askAll)
			p.Hold = 50 * time.Millisecond
			h, _ := taskHostAt(t, p, "bot", true, door)
			if raw := h.ask("server/discover", ""); rawAt(raw, "result", "capabilities") != `{"extensions":{"io.modelcontextprotocol/tasks":{}},"tools":{}}` {
				t.Errorf("a host that knows tasks is not told of them: %s", raw)
			}
			id := h.task("{}")
			for _, caps := range []string{`{}`, `{"extensions":{}}`, `{"extensions":{"io.modelcontextprotocol/tasks":null}}`, `{"tasks":{"requests":{}}}`} {
				h.caps = caps
				if raw := h.ask("server/discover", ""); rawAt(raw, "result", "capabilities") != `{"tools":{}}` {
					t.Errorf("%s: discover: %s", caps, raw)
				}
				if raw := h.ask("tools/call", `"name":"buy","arguments":{"c":`+fmt.Sprint(h.last)+`}`); rawAt(raw, "result", "resultType") == `"task"` {
					t.Errorf("%s: the call: %s", caps, raw)
				}
				if raw := h.about("tasks/get", id); rawAt(raw, "error", "code") != "-32021" || !strings.Contains(rawAt(raw, "error", "data"), tasksExtension) {
					t.Errorf("%s: tasks/get: %s", caps, raw)
				}
			}
		})
	}
}

// A server of 2025-11-25 that has declared no tasks gets what it always got.
func TestNoTaskWithoutTheServer(t *testing.T) {
	k := newTalk(t, askAll, func(p *Proxy) { p.Hold = 50 * time.Millisecond })
	k.host.write(initialize)
	k.next(k.upstream)
	k.upstream.write(hello)
	k.next(k.host)
	k.host.write(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"buy","arguments":{},"task":{}}}`)
	if got := k.next(k.host); !strings.Contains(got, "Waiting for approval") || strings.Contains(got, taskPrefix) {
		t.Error(got)
	}
}

// What is not held passes as it came, and so does all that is about a server's own
// tasks.
func TestTasksOfTheServerPassUntouched(t *testing.T) {
	k := newTalk(t, strings.Replace(allowAll, "rules: []", "rules: [{id: a, effect: allow, action: '*', proof: {required: false}}]", 1))
	k.host.write(initialize)
	k.next(k.upstream)
	own := strings.Replace(hello, `"capabilities":{}`, `"capabilities":{"tasks":{"list":{},"cancel":{},"requests":{"tools":{"call":{}}}}}`, 1)
	k.upstream.write(own)
	if got := k.next(k.host); got != own {
		t.Errorf("initialize: %s", got)
	}
	for id, x := range []struct{ method, params, answer string }{
		{"tools/call", `{"name":"buy","arguments":{},"task":{"ttl":1.0}}`, `"result":{"task":{"taskId":"x\u0031","status":"working"}}`},
		{"tasks/get", `{"taskId":"x1"}`, `"result":{"taskId":"x1","status":"completed","ttl":1e3}`},
		{"tasks/result", `{"taskId":"x1"}`, `"result":{"content":[],"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"x1"}}}`},
		{"tasks/list", `{ }`, `"result":{"tasks":[ {"taskId":"x1"} ]}`},
		{"tasks/cancel", `{"taskId":"x1"}`, `"error":{"code":-32602,"message":"over"}`},
		{"tasks/get", `{"taskId":"openleash-task-OFANOTHER"}`, `"result":{"taskId":"openleash-task-OFANOTHER"}`}, // behind the server
	} {
		request := fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q,"params":%s}`, id+1, x.method, x.params)
		k.host.write(request)
		if got := k.next(k.upstream); got != request {
			t.Errorf("got %s, want %s", got, request)
		}
		answer := fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,%s}`, id+1, x.answer)
		k.upstream.write(answer)
		if got := k.next(k.host); got != answer {
			t.Errorf("got %s, want %s", got, answer)
		}
	}
	status := `{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{"taskId":"x1","status":"working"}}`
	k.upstream.write(status)
	if got := k.next(k.host); got != status {
		t.Errorf("got %s", got)
	}
}

func TestTaskDenied(t *testing.T) {
	for _, modern := range []bool{false, true} {
		t.Run(fmt.Sprint(modern), func(t *testing.T) {
			p := newRealProxy(t, askAll)
			p.Hold = 50 * time.Millisecond
			h, s := taskHostAt(t, p, "bot", modern, atStdio)
			id := h.task("{}")
			must(p.Service.Answer(t.Context(), "test:alice", p.pending(t).ID, false, "too dear"))(t)
			raw := h.become(id, map[bool]string{true: "completed", false: "failed"}[modern])
			if !modern {
				raw = h.about("tasks/result", id)
			}
			for _, want := range []string{"too dear", `"isError":true`, "APPROVAL_DENIED"} {
				if !strings.Contains(string(raw), want) {
					t.Errorf("no %s in %s", want, raw)
				}
			}
			if !modern && !strings.Contains(string(raw), `"`+relatedTask+`":{"taskId":"`+id+`"}`) {
				t.Errorf("the result does not name its task: %s", raw)
			}
			if s.count() != 0 {
				t.Error("it has run")
			}
		})
	}
}

// A task that was cancelled never runs; its request stays, for the same call again.
func TestTaskCancelled(t *testing.T) {
	t.Parallel()
	for _, modern := range []bool{false, true} {
		t.Run(fmt.Sprint(modern), func(t *testing.T) {
			p := newRealProxy(t, askAll)
			p.Hold = 50 * time.Millisecond
			h, s := taskHostAt(t, p, "bot", modern, atStdio)
			id := h.task("{}")
			held := p.pending(t)
			waiting := make(chan []byte, 1)
			if !modern {
				go func() {
					w := *h
					w.last = 900
					waiting <- w.about("tasks/result", id)
				}()
				time.Sleep(100 * time.Millisecond)
			}
			raw := h.about("tasks/cancel", id)
			if !modern {
				if rawAt(raw, "result", "status") != `"cancelled"` {
					t.Errorf("tasks/cancel: %s", raw)
				}
				if raw := <-waiting; rawAt(raw, "error") == "" {
					t.Errorf("who waited for its result got %s", raw)
				}
				if raw := h.about("tasks/cancel", id); rawAt(raw, "error", "code") != "-32602" {
					t.Errorf("tasks/cancel again: %s", raw)
				}
			}
			p.approve(t, held.ID)
			for range 3 {
				if got := h.status(id); got != "cancelled" {
					t.Errorf("it is %s", got)
				}
			}
			time.Sleep(200 * time.Millisecond)
			if s.count() != 0 {
				t.Fatal("it has run")
			}
			if r := must(p.store.Approval(t.Context(), held.ID))(t); r.Status != approvals.Approved {
				t.Errorf("its request is %s", r.Status)
			}
			if raw := h.ask("tools/call", `"name":"buy","arguments":{}`); !strings.Contains(string(raw), "done plainly") || s.count() != 1 {
				t.Errorf("the same call again: %s", raw)
			}
		})
	}
}

// The grant is spent by one message: when that was another, the task says so.
func TestTaskWhoseGrantIsSpent(t *testing.T) {
	p := newRealProxy(t, askAll)
	h, s := taskHostAt(t, p, "bot", false, atStdio)
	id := h.task("{}")
	p.approve(t, p.pending(t).ID)
	if raw := h.ask("tools/call", `"name":"buy","arguments":{}`); !strings.Contains(string(raw), "done plainly") {
		t.Fatalf("the same call, not as a task: %s", raw)
	}
	h.become(id, "failed")
	if raw := h.about("tasks/result", id); !strings.Contains(string(raw), string(authz.AlreadyRun)) || s.count() != 1 {
		t.Errorf("%d calls, and %s", s.count(), raw)
	}
}

// Two who ask at once have it run once.
func TestTaskRunsOnce(t *testing.T) {
	p := newRealProxy(t, askAll)
	h, s := taskHostAt(t, p, "bot", false, atStdio)
	id := h.task("{}")
	p.approve(t, p.pending(t).ID)
	answers := make(chan []byte)
	const n = 20
	for i := range n {
		w := *h
		w.last = 1000 * (i + 1)
		go func() { answers <- w.about([]string{"tasks/get", "tasks/result"}[i%2], id) }()
	}
	for range n {
		if raw := <-answers; rawAt(raw, "result") == "" {
			t.Error(string(raw))
		}
	}
	if s.count() != 1 {
		t.Errorf("it has run %d times", s.count())
	}
}

// Who asks about a task that is not there, or not theirs, learns nothing.
func TestTaskOfAnother(t *testing.T) {
	for name, door := range taskDoors(false) {
		t.Run(name, func(t *testing.T) {
			p := newRealProxy(t, askAll)
			h, s := taskHostAt(t, p, "bot", false, door)
			id := h.task("{}")
			other, theirs := taskHostAt(t, p, "other", false, door)
			p.approve(t, p.pending(t).ID)
			for _, method := range []string{"tasks/get", "tasks/result", "tasks/cancel"} {
				for _, asked := range []string{id, taskPrefix + "NONE"} {
					if raw := other.about(method, asked); rawAt(raw, "error", "code") != "-32602" {
						t.Errorf("%s of %s: %s", method, asked, raw)
					}
				}
			}
			if list := rawAt(other.ask("tasks/list", ""), "result", "tasks"); strings.Contains(list, id) {
				t.Errorf("the other's list: %s", list)
			}
			if s.count()+theirs.count() != 0 {
				t.Error("it has run")
			}
			if raw := h.about("tasks/result", id); rawAt(raw, "result") == "" || s.count() != 1 {
				t.Errorf("its own agent gets %s", raw)
			}
		})
	}
}

func TestTaskThatEnds(t *testing.T) {
	t.Parallel()
	t.Run("its time", func(t *testing.T) {
		p := newRealProxy(t, askAll)
		h, s := taskHostAt(t, p, "bot", false, atStdio)
		raw := h.ask("tools/call", `"name":"buy","arguments":{},"task":{"ttl":400}`)
		id, _ := stringAt(raw, "result", "task", "taskId")
		raw = h.about("tasks/result", id) // waits until then
		if text, _ := stringAt(raw, "error", "message"); rawAt(raw, "error", "code") != "-32602" || !strings.Contains(text, "Call the tool again") {
			t.Errorf("tasks/result: %s", raw)
		}
		p.approve(t, p.pending(t).ID)
		if raw := h.about("tasks/get", id); rawAt(raw, "error", "code") != "-32602" || s.count() != 0 {
			t.Errorf("after %d calls: %s", s.count(), raw)
		}
		p.held.mu.Lock()
		defer p.held.mu.Unlock()
		if len(p.held.byID) != 0 {
			t.Error("it is still known")
		}
	})
	t.Run("its request", func(t *testing.T) {
		p := realProxyAt(t, t.TempDir(), askAll, func(c *authz.Config) { c.RequestTTL = 300 * time.Millisecond })
		h, s := taskHostAt(t, p, "bot", false, atStdio)
		id := h.task("{}")
		raw := h.about("tasks/result", id)
		if !strings.Contains(string(raw), `"isError":true`) || !strings.Contains(string(raw), "nobody has answered in time") {
			t.Errorf("tasks/result: %s", raw)
		}
		if h.status(id) != "failed" || s.count() != 0 {
			t.Error("it has not failed")
		}
	})
	t.Run("the process", func(t *testing.T) {
		dir := t.TempDir()
		first := realProxyAt(t, dir, askAll)
		h, _ := taskHostAt(t, first, "bot", false, atStdio)
		id := h.task("{}")
		first.approve(t, first.pending(t).ID)
		h, s := taskHostAt(t, realProxyAt(t, dir, askAll), "bot", false, atStdio)
		raw := h.about("tasks/get", id)
		if text, _ := stringAt(raw, "error", "message"); rawAt(raw, "error", "code") != "-32602" || !strings.Contains(text, "restarted") {
			t.Errorf("after a restart: %s", raw)
		}
		if raw := h.ask("tools/call", `"name":"buy","arguments":{}`); !strings.Contains(string(raw), "done plainly") || s.count() != 1 {
			t.Errorf("the same call again: %s", raw)
		}
	})
}

func TestTasksAreBounded(t *testing.T) {
	p := realProxyAt(t, t.TempDir(), askAll, func(c *authz.Config) { c.OpenPerAgent = 2 * maxHeld })
	p.Hold = 10 * time.Millisecond
	h, _ := taskHostAt(t, p, "bot", false, atStdio)
	first := h.task(`{"n":-1}`)
	for i := range maxHeld - 1 {
		h.task(fmt.Sprintf(`{"n":%d}`, i))
	}
	more := `"name":"buy","arguments":{"n":100},"task":{}`
	if raw := h.ask("tools/call", more); !strings.Contains(string(raw), "Waiting for approval") || strings.Contains(string(raw), taskPrefix) {
		t.Errorf("one more: %s", raw)
	}
	h.about("tasks/cancel", first)
	h.task(`{"n":101}`)
	if raw := h.about("tasks/get", first); rawAt(raw, "error") == "" {
		t.Errorf("the one that made room: %s", raw)
	}
	other, _ := taskHostAt(t, p, "other", false, atStdio)
	other.task("{}")

	p.held.mu.Lock()
	var mine []*heldTask
	for _, task := range p.held.byID {
		mine = append(mine, task)
	}
	p.held.mu.Unlock()
	big := []byte(`{"jsonrpc":"2.0","id":1,"result":{"x":"` + strings.Repeat("x", maxOutcomes/4) + `"}}`)
	kept := 0
	for _, task := range mine[:10] {
		p.held.settle(task, big)
	}
	p.held.mu.Lock()
	defer p.held.mu.Unlock()
	for _, task := range p.held.byID {
		kept += len(task.outcome)
	}
	if kept == 0 || kept > 2*maxOutcomes {
		t.Errorf("%d bytes of results are kept", kept)
	}
}

func jsonNumber(t *testing.T, text string) action.Value {
	t.Helper()
	return must(action.Parse([]byte(text), action.Limits{}))(t)
}
