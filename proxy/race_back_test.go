package proxy

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// How hosts come back to a call that was held for longer than its machine waits: by
// calling again, with a signed leg, or by asking about a task.

// raceHost is what a host can do.
type raceHost string

var raceHosts = []raceHost{"plain", "legs", "tasks"}

// meta is what it says of itself in each message.
func (h raceHost) meta() string {
	if h == "plain" {
		return ""
	}
	extensions := ""
	if h == "tasks" {
		extensions = `"` + tasksExtension + `":{}`
	}
	return `,"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"host","version":"1"},"io.modelcontextprotocol/clientCapabilities":{"extensions":{` + extensions + `}}`
}

// raceBack is of a call that can be come back to.
type raceBack struct {
	leg     string    // the requestState by which it comes back, as JSON
	request string    // for which it was held then
	signed  int64     // by the clock of all
	brings  *raceCall // whose leg it brings
	brought bool      // its leg was brought

	task  string // its id
	asked int    // when its host has asked about that
	over  bool   // its host knows what came of it
}

// goOn is what a call says more of itself when it goes on with another.
func (c *raceCall) goOn(from *raceCall) string {
	switch {
	case from == nil:
		return ""
	case from.leg != "":
		c.brings, c.state, from.brought = from, from.leg, true
		return `,"requestState":` + from.leg
	}
	c.first, c.state = from, from.wants
	return `,"inputResponses":{"a":{"roots":[]}},"requestState":` + from.wants
}

// sentAway reports whether a call is answered with a way to come back: nothing was
// done.
func (w *raceWorld) sentAway(c *raceCall, m Message) bool {
	if code, _ := stringAt(m.Raw, "result", "_meta", RefusalKey, "code"); code != "APPROVAL_REQUIRED" && code != "TOOL_HELD" {
		return false
	}
	switch rawAt(m.Raw, "result", "resultType") {
	case `"input_required"`:
		c.answer, c.refused, c.leg, c.signed = "a leg", true, rawAt(m.Raw, "result", "requestState"), w.offset.Load()
	case `"task"`:
		c.answer, c.withdrawn = "a task", 0 // a cancellation came too late for the call
		c.task, _ = stringAt(m.Raw, "result", "taskId")
	default:
		return false
	}
	c.request, _ = stringAt(m.Raw, "result", "_meta", RefusalKey, "approval_id")
	return true
}

// nextLeg comes back, for the second time perhaps, and to another machine.
func (w *raceWorld) nextLeg(r *rand.Rand) {
	w.mu.Lock()
	defer w.mu.Unlock()
	again := r.IntN(2) == 0
	if c := w.some(r, func(c *raceCall) bool { return c.leg != "" && (again || !c.brought) }); c != nil {
		w.begin(r, draw(r, w.machines), c.session.agent, c.host, c.variant, c)
	}
}

func (c *raceCall) hasTask() bool { return c.task != "" && !c.over && !c.session.life.ending }

func (w *raceWorld) askTask(r *rand.Rand) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c := w.some(r, (*raceCall).hasTask); c != nil {
		w.about(w.session(r, c.session.agent, c.session.machine), c, "tasks/get")
	}
}

// cancelTask cancels one, most often when it is approved and its host has asked for it.
func (w *raceWorld) cancelTask(r *rand.Rand) {
	w.mu.Lock()
	c := w.some(r, (*raceCall).hasTask)
	w.mu.Unlock()
	if c == nil {
		return
	}
	if request, err := w.store.Approval(w.t.Context(), c.request); err == nil && r.IntN(3) > 0 {
		w.say(request, true)
	}
	pause := time.Duration(r.IntN(3)*r.IntN(3000)) * time.Microsecond
	for _, method := range []string{"tasks/get", "tasks/cancel", "tasks/get"} {
		w.mu.Lock()
		if c.hasTask() {
			w.about(w.session(r, c.session.agent, c.session.machine), c, method)
		}
		w.mu.Unlock()
		time.Sleep(pause)
	}
}

// about has a host of the agent, this one or another, ask about a call's task.
func (w *raceWorld) about(s *raceTalk, c *raceCall, method string) {
	s.next++
	id := fmt.Sprint(s.next)
	s.asked[id] = c
	c.asked = w.saw("session %d: %s of %s", s.n, method, c)
	s.send("host", fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":%q,"params":{"taskId":%q,"_meta":{"call":0%s}}}`, id, method, c.task, c.host.meta()))
}

// aboutTask is the answer. A host that is told that nothing was done may rely on it.
func (w *raceWorld) aboutTask(c *raceCall, m Message) {
	status, _ := stringAt(m.Raw, "result", "status")
	message, _ := stringAt(m.Raw, "result", "statusMessage")
	code, _ := stringAt(m.Raw, "result", "result", "structuredContent", "code")
	at := w.saw("%s is %s %s %s", c, status, message, code)
	c.over = c.over || status == taskCompleted
	nothing := status == taskCancelled && strings.Contains(message, "nothing was done")
	switch {
	case (nothing || code != "") && c.executed > 0:
		w.broken("%s was executed, and its task says: %s", c, m.Raw)
	case nothing && c.withdrawn == 0:
		c.withdrawn = at
	case code != "":
		c.refused = true
	case status == taskCompleted && c.executed == 0:
		w.broken("%s was not executed, and its task says: %s", c, m.Raw)
	}
}
