package proxy

import (
	"bytes"

	"github.com/openleash/openleash-go/action"
)

// A server's own task that has one of ours before it has two ids: its host knows it
// by ours, the server by its own. "Servers […] MUST include the
// io.modelcontextprotocol/related-task key in their _meta field, with the value set to
// an object with a taskId matching the associated task ID", so it is in more than the
// answers to tasks/get.

// toHost gives the tasks that a message of the server names the ids that the host
// knows.
func (h *heldTasks) toHost(agent string, raw []byte) []byte {
	return h.rename(agent, raw, func(t *heldTask) (from, to string) { return t.theirs, t.id })
}

// toServer is the way back.
func (h *heldTasks) toServer(agent string, raw []byte) []byte {
	return h.rename(agent, raw, func(t *heldTask) (from, to string) { return t.id, t.theirs })
}

func (h *heldTasks) rename(agent string, raw []byte, name func(*heldTask) (from, to string)) []byte {
	if h.named.Load() == 0 || !bytes.Contains(raw, []byte("askId")) && !hidesLetters(raw) {
		return raw // nearly all
	}
	root, err := action.Parse(raw, anyMessage(raw))
	if err != nil {
		return raw
	}
	names := map[string]string{}
	h.mu.Lock()
	for _, t := range h.of(agent) {
		if t.theirs != "" {
			from, to := name(t)
			names[from] = to
		}
	}
	h.mu.Unlock()
	var edits []edit
	for _, id := range taskIDs(root) {
		if to := names[id.Text()]; to != "" && id.Kind() == action.String {
			edits = append(edits, edit{span{id.Start(), id.Start() + len(id.Raw())}, string(quote(to))})
		}
	}
	if edits == nil {
		return raw
	}
	return applyEdits(raw, edits...)
}

// taskIDs are where a message can name a task.
func taskIDs(root action.Value) (ids []action.Value) {
	for _, part := range []action.Value{root.Get("params"), root.Get("result")} {
		ids = append(ids, part.Get("taskId"), part.Get("_meta").Get(relatedTask).Get("taskId"))
	}
	ids = append(ids, root.Get("result").Get("task").Get("taskId"))
	for _, task := range root.Get("result").Get("tasks").Items() {
		ids = append(ids, task.Get("taskId"))
	}
	return ids
}

// ownTask is the id of the task that a server has made of a call, and how long it
// keeps it; empty when it has made none.
func ownTask(response []byte, modern bool) (id string, ttl action.Value) {
	root, err := action.Parse(response, anyMessage(response))
	if err != nil {
		return "", ttl
	}
	result := root.Get("result")
	if !modern {
		return result.Get("task").Get("taskId").Text(), result.Get("task").Get("ttl")
	}
	if result.Get("resultType").Text() != "task" {
		return "", ttl
	}
	return result.Get("taskId").Text(), result.Get("ttlMs")
}
