package proxy

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/openleash/openleash-go/action"
)

const (
	tasksExtension    = "io.modelcontextprotocol/tasks"
	relatedTask       = mcp.RelatedTaskMetaKey
	immediateResponse = mcp.ModelImmediateResponseMetaKey

	codeMissingCapability = -32021 // MCP 2026-07-28, MissingRequiredClientCapability
)

// creation is the answer to the call itself. In 2025-11-25 a host may go on with
// "an optional io.modelcontextprotocol/model-immediate-response key […] intended to be
// passed as an immediate tool result to the model".
func (t *heldTask) creation(info refusalInfo) []byte {
	if t.modern {
		return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"result":{"resultType":"task",%s,"_meta":{"%s":%s}}}`,
			t.call.ID, t.fields(t.taskState), RefusalKey, marshal(info))
	}
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"result":{"task":{%s},"_meta":{"%s":%s,"%s":%s}}}`,
		t.call.ID, t.fields(t.taskState), immediateResponse, quote(text(info)), RefusalKey, marshal(info))
}

// fields are the members of a Task. "Receivers MUST include the actual ttl duration".
func (t *heldTask) fields(s taskState) string {
	ttl, poll := "ttl", "pollInterval"
	if t.modern {
		ttl, poll = "ttlMs", "pollIntervalMs"
	}
	message := ""
	if s.message != "" {
		message = `"statusMessage":` + string(quote(s.message)) + ","
	}
	return fmt.Sprintf(`"taskId":%s,"status":%q,%s"createdAt":%q,"lastUpdatedAt":%q,"%s":%d,"%s":%d`,
		quote(t.id), s.status, message, instant(t.created), instant(s.updated),
		ttl, s.expires.Sub(t.created).Milliseconds(), poll, pollEvery.Milliseconds())
}

func instant(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// got answers tasks/get. In 2026-07-28 it has what came of the call inside: "The
// response carries the appropriate response variant for the task's current status".
func (t *heldTask) got(id string, s taskState) []byte {
	if !t.modern {
		return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"result":{%s}}`, id, t.fields(s))
	}
	more := ""
	switch s.status {
	case taskCompleted:
		more = `,"result":` + rawAt(s.outcome, "result")
	case taskFailed:
		more = `,"error":` + rawAt(s.outcome, "error")
	case taskInput:
		more = `,"inputRequests":` + s.input.requests
	}
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete",%s%s}}`, id, t.fields(s), more)
}

// result answers tasks/result: "exactly what the underlying request would have
// returned, whether that is a successful result or a JSON-RPC error". It "MUST
// include this metadata [related-task] in its response".
func (t *heldTask) result(id string, s taskState) []byte {
	if s.status == taskCancelled {
		return errorReply(id, codeRefused, "the task was "+s.message)
	}
	edits := []edit{}
	if at, ok := find(s.outcome, "id"); ok {
		edits = append(edits, edit{at, id})
	}
	related := fmt.Sprintf(`"%s":{"taskId":%s}`, relatedTask, quote(t.id))
	if e, ok := insertMember(s.outcome, related, relatedTask, "result", "_meta"); ok {
		edits = append(edits, e)
	} else if e, ok := insertMember(s.outcome, `"_meta":{`+related+`}`, "_meta", "result"); ok {
		edits = append(edits, e)
	}
	return applyEdits(s.outcome, edits...)
}

// insertMember puts a member first into the object at path, in the place of one of
// that name; false when there is no such object.
func insertMember(raw []byte, member, name string, path ...string) (edit, bool) {
	at, ok := find(raw, path...)
	if !ok || raw[at.from] != '{' {
		return edit{}, false
	}
	if old, ok := find(raw, append(path, name)...); ok {
		_, value, _ := strings.Cut(member, ":")
		return edit{old, value}, true
	}
	if fields, err := action.Scan(raw[at.from:at.to], anyMessage(raw)); err == nil && len(fields) > 0 {
		member += ","
	}
	return edit{span{at.from + 1, at.from + 1}, member}, true
}

// announcing is what makes a server's answer to server/discover say that there are
// tasks; nil for any other request, and for a host that does not know them.
func announcing(m Message) wrapper {
	if m.Method != "server/discover" || !declaresTasks(m) {
		return nil
	}
	return func(_ context.Context, response []byte) []byte { return announceTasks(response) }
}

// announceTasks adds the extension to what a server says of itself, for a host that
// knows it: hosts look there whether a call may become a task.
func announceTasks(response []byte) []byte {
	const member = `"` + tasksExtension + `":{}`
	if _, ok := find(response, "result", "capabilities", "extensions", tasksExtension); ok {
		return response
	}
	if e, ok := insertMember(response, member, tasksExtension, "result", "capabilities", "extensions"); ok {
		return applyEdits(response, e)
	}
	if e, ok := insertMember(response, `"extensions":{`+member+`}`, "extensions", "result", "capabilities"); ok {
		return applyEdits(response, e)
	}
	return response
}

// missingExtension: "Servers MUST return this error for non-declaring clients issuing
// tasks/get, tasks/update, and tasks/cancel requests."
func missingExtension(id string) []byte {
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"error":{"code":%d,"message":"Missing required client capability","data":{"requiredCapabilities":{"extensions":{"%s":{}}}}}}`,
		id, codeMissingCapability, tasksExtension)
}
