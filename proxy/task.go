package proxy

import (
	"context"
	"crypto/rand"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/authz"
)

// A held call can be a task: its host gets an id, does something else, and asks what
// has become of it.
//
//   - 2025-11-25: the host asks for one ("requestors send a request with the task
//     field included in the request params"), of a server that has declared tasks for
//     tools/call. It gets one at once: "This result SHOULD be returned as soon as
//     possible".
//   - 2026-07-28, with the extension io.modelcontextprotocol/tasks: "The server is the
//     sole decider; clients do not signal task preference on the request itself." A
//     host that has declared the extension gets one after the wait, whatever its
//     server has.
//
// The id is ours, and so are the answers about it, until the call has run; when the
// server has made a task of its own of it, the host goes on with our id, and each
// side reads its own (task_names.go).
//
// What waits for its owner is "working", not "input_required": there, the host would
// look for requests to answer, and there are none.
//
// Nothing runs unasked: an approved call is forwarded when its host asks what has
// become of the task, or waits for its result (task_rule.go). A host that has
// gone, or has cancelled it, asks no more. A task is known to this process alone and
// ends with it; the request of its call, and what its owner says to that, stay for
// the same call again.

const (
	taskPrefix = "openleash-task-"

	// maxHeld is how many tasks of ours an agent may have, those included that have
	// ended and are still known; maxOutcomes how many bytes of results.
	maxHeld     = 64
	maxOutcomes = 64 << 20
	// keepOutcome is how long a task outlives the request that it waits for, so that
	// its host can fetch what an approval at the last moment has led to.
	keepOutcome = 10 * time.Minute
	// maxMapped bounds how long the id of a server's own task is known.
	maxMapped = 24 * time.Hour
	// pollEvery is how often a host is told to ask.
	pollEvery = time.Second
	// settleWithin is how long the question that lets a call run waits for what comes
	// of it: most come at once.
	settleWithin = time.Second
)

// Statuses of a task, of both revisions.
const (
	taskWorking   = string(mcp.TaskStatusWorking)
	taskInput     = string(mcp.TaskStatusInputRequired)
	taskCompleted = string(mcp.TaskStatusCompleted)
	taskFailed    = string(mcp.TaskStatusFailed)
	taskCancelled = string(mcp.TaskStatusCancelled)
)

// heldTask is a held call that has become a task.
type heldTask struct {
	id      string
	agent   string // the id of the agent whose it is
	modern  bool   // it is one of the extension
	created time.Time

	gone context.Context // ends when the task is cancelled, or its time is up
	end  context.CancelFunc

	taskState // guarded by heldTasks.mu
}

// taskState is what changes in a heldTask. At most one of running, theirs and
// outcome is set; none: it waits for its owner.
type taskState struct {
	call    call         // as it is to be forwarded
	held    authz.Answer // by which it waits
	status  string
	message string
	updated time.Time
	expires time.Time
	changed chan struct{} // closed at the next change

	running bool
	sent    bool               // the call has been forwarded
	stop    context.CancelFunc // ends the run
	rounds  int                // how often the server wanted to know something
	theirs  string             // the id of the server's own task
	outcome []byte             // the response to the call, as the host may see it
	input   *taskInputs        // what the server wants to know before it goes on
}

// settled reports whether there is nothing to wait for.
func (s taskState) settled() bool {
	return s.theirs != "" || s.outcome != nil || s.status != taskWorking
}

// isOver reports whether it "is in a terminal state": then it changes no more.
func (s taskState) isOver() bool {
	return s.status == taskCompleted || s.status == taskFailed || s.status == taskCancelled
}

// heldTasks are the tasks of one Proxy.
type heldTasks struct {
	named atomic.Int64 // how many have a server's own task behind them

	mu    sync.Mutex
	byID  map[string]*heldTask
	ended bool // none runs any more

	runs sync.WaitGroup
}

// asksTask reports whether a call of 2025-11-25 is to be a task. "Receivers that do not
// declare the task capability for a request type MUST process requests of that type
// normally, ignoring any task-augmentation metadata if present."
func (c call) asksTask(l line) bool {
	return l.tasks && l.send != nil && !c.open && !c.modern() && c.params.Get("task").Kind() == action.Object
}

// isTask reports whether a call is a task from the start. One whose definition waits
// has no request yet that a task could wait for.
func (c call) isTask(ans authz.Answer, l line) bool {
	return ans.Code == authz.ApprovalRequired && c.asksTask(l)
}

// takesTask reports whether a host of 2026-07-28 can do with a task. "A server MUST NOT
// return CreateTaskResult to a client that did not include the extension capability
// on its request".
func (c call) takesTask(l line) bool {
	return l.send != nil && !c.open && c.modern() && hasTasks(c.meta)
}

// runsTasks reports whether the answer to initialize says that tools/call can be a task.
func runsTasks(m Message) bool {
	_, ok := find(m.Raw, "result", "capabilities", "tasks", "requests", "tools", "call")
	return ok
}

// hasTasks reports whether a request's _meta declares the extension.
func hasTasks(meta action.Value) bool {
	return meta.Get(mcp.MetaKeyClientCapabilities).Get("extensions").Get(tasksExtension).Kind() == action.Object
}

// asTask answers a held call with a task; nil when its host knows none, or has as many
// as it may have.
func (p *Proxy) asTask(who authz.Caller, c call, ans authz.Answer, l line) []byte {
	if ans.Approval == nil || !c.asksTask(l) && !c.takesTask(l) {
		return nil
	}
	now := time.Now()
	t := &heldTask{id: taskPrefix + rand.Text(), agent: who.Agent.ID, modern: c.modern(), created: now}
	info := p.refusalInfo(c, ans)
	info.Next = "Wait: what comes of this call comes through the task " + t.id + "."
	t.taskState = taskState{call: c, held: ans, status: taskWorking, message: waitsAt(info.URL), updated: now, expires: taskEnd(c, ans, now), changed: make(chan struct{})}
	t.gone, t.end = context.WithDeadline(context.Background(), t.expires)
	if !p.held.add(t) {
		t.end()
		p.Log.Warn().Str("server", p.Name).Str("agent", who.Agent.Name).Int("tasks", maxHeld).Msg("the agent has as many tasks as it may have; a held call has not become one")
		return nil
	}
	return t.creation(info)
}

func waitsAt(url string) string {
	if url == "" {
		return "waiting for the owner's approval"
	}
	return "waiting for the owner's approval: " + url
}

// taskEnd is when a task ends: with its request, or when the host says so, whichever
// is first. "Receivers MAY override the requested ttl duration."
func taskEnd(c call, ans authz.Answer, now time.Time) time.Time {
	end := ans.Approval.ExpiresAt.Add(keepOutcome)
	if c.modern() {
		return end
	}
	if asked, ok := milliseconds(c.params.Get("task").Get("ttl")); ok && now.Add(asked).Before(end) {
		return now.Add(asked)
	}
	return end
}

// milliseconds reads a duration; false for what is none, or too long to matter.
func milliseconds(v action.Value) (time.Duration, bool) {
	n, err := strconv.ParseFloat(string(v.Raw()), 64)
	if v.Kind() != action.Number || err != nil || n < 0 || n > float64(maxMapped/time.Millisecond)*1000 {
		return 0, false
	}
	return time.Duration(n) * time.Millisecond, true
}

// add takes a task in, unless its agent has too many. One that has ended makes room.
func (h *heldTasks) add(t *heldTask) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sweep(time.Now())
	if mine := h.of(t.agent); len(mine) >= maxHeld && !h.dropOldest(mine, t) {
		return false
	}
	if h.byID == nil {
		h.byID = map[string]*heldTask{}
	}
	h.byID[t.id] = t
	return true
}

// of are an agent's tasks; h.mu is held.
func (h *heldTasks) of(agent string) (list []*heldTask) {
	for _, t := range h.byID {
		if t.agent == agent {
			list = append(list, t)
		}
	}
	return list
}

// sweep forgets what has had its time; h.mu is held.
func (h *heldTasks) sweep(now time.Time) {
	for _, t := range h.byID {
		if !now.Before(t.expires) {
			h.drop(t)
		}
	}
}

// drop forgets a task; h.mu is held.
func (h *heldTasks) drop(t *heldTask) {
	delete(h.byID, t.id)
	t.end()
	if t.theirs != "" {
		h.named.Add(-1)
	}
}

// dropOldest forgets the one of list that has ended first, and is not keep; h.mu is
// held.
func (h *heldTasks) dropOldest(list []*heldTask, keep *heldTask) bool {
	var oldest *heldTask
	for _, t := range list {
		if t != keep && t.isOver() && (oldest == nil || t.updated.Before(oldest.updated)) {
			oldest = t
		}
	}
	if oldest != nil {
		h.drop(oldest)
	}
	return oldest != nil
}

// find is an agent's task of one revision. Another agent's does not exist for it: "receivers
// […] MUST […] bind tasks to said context".
func (h *heldTasks) find(agent, id string, modern bool) *heldTask {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sweep(time.Now())
	t := h.byID[id]
	if t == nil || t.agent != agent || t.modern != modern {
		return nil
	}
	return t
}

// state is how a task stands.
func (h *heldTasks) state(t *heldTask) taskState {
	h.mu.Lock()
	defer h.mu.Unlock()
	return t.taskState
}

// change changes a task that is not over; false: it is.
func (h *heldTasks) change(t *heldTask, to func(*taskState)) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t.isOver() {
		return false
	}
	to(&t.taskState)
	t.updated = time.Now()
	close(t.changed)
	t.changed = make(chan struct{})
	return true
}

// run runs the call of a task beside, for one of all that ask.
func (h *heldTasks) run(t *heldTask, lasting context.Context, do func(ctx context.Context)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended || t.running || t.settled() {
		return
	}
	ctx, stop := context.WithCancel(lasting)
	t.running, t.stop = true, stop
	h.runs.Go(func() {
		defer stop()
		do(ctx)
	})
}

func (h *heldTasks) isEnded() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ended
}

// EndTasks ends the calls that run as tasks, and returns when what is known of each is
// on its way to the log. It is called once no host asks any more.
func (p *Proxy) EndTasks() {
	p.held.mu.Lock()
	p.held.ended = true
	for _, t := range p.held.byID {
		if t.running {
			t.stop()
		}
	}
	p.held.mu.Unlock()
	p.held.runs.Wait()
}

// unanswered is why a call that was forwarded has no answer.
func (p *Proxy) unanswered(ctx context.Context, t *heldTask, err error) failure {
	p.held.mu.Lock()
	defer p.held.mu.Unlock()
	switch {
	case t.status == taskCancelled:
		return failure{status: "cancelled", detail: "the host cancelled the task after its call was forwarded; what the server did is not known"}
	case p.held.ended:
		return shutDown(p.Name, true)
	case ctx.Err() != nil:
		return failure{status: "unknown", detail: "the session ended before the server answered"}
	}
	return failure{status: "transport_error", detail: err.Error()}
}

// settle ends a task with the response to its call. "The failed status MUST NOT be used
// to represent non-JSON-RPC errors, such as a tool result that completed with
// isError: true" (2026-07-28); before, "failed […] includes cases where the tool call
// result has isError set to true" (2025-11-25).
func (h *heldTasks) settle(t *heldTask, response []byte) {
	status, message := taskCompleted, ""
	if text, ok := stringAt(response, "error", "message"); ok || rawAt(response, "error") != "" {
		status, message = taskFailed, text
	} else if rawAt(response, "result", "isError") == "true" {
		message, _ = stringAt(response, "result", "_meta", RefusalKey, "message")
		if !t.modern {
			status = taskFailed
		}
	}
	h.change(t, func(s *taskState) {
		s.running, s.input = false, nil
		s.status, s.message, s.outcome = status, message, response
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.outcomes(t.agent) > maxOutcomes && h.dropOldest(h.of(t.agent), t) {
	}
}

// outcomes are how many bytes of results are kept for an agent; h.mu is held.
func (h *heldTasks) outcomes(agent string) (n int) {
	for _, t := range h.of(agent) {
		n += len(t.outcome)
	}
	return n
}

// cancel ends a task for its host: "Once a task is cancelled, it MUST remain in
// cancelled status even if execution continues to completion or fails." It is false
// for one that is over.
func (h *heldTasks) cancel(t *heldTask) bool {
	ok := h.change(t, func(s *taskState) {
		s.status, s.message = taskCancelled, "cancelled; nothing was done"
		if s.sent {
			s.message = "cancelled while it ran; what the server did is not known"
		}
		s.running, s.input = false, nil
		if s.stop != nil && t.modern { // before, the server answers at once, with what is then to be cancelled (nameTask)
			s.stop()
		}
	})
	if ok {
		t.end()
	}
	return ok
}

// isTaskID tells ids that look like ours.
func isTaskID(id string) bool { return strings.HasPrefix(id, taskPrefix) }
