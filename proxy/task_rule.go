package proxy

import (
	"bytes"
	"context"
	"strings"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
)

// concernsTasks reports whether a message of the host may be about a task of ours, so
// that a ruling on it can take its time.
func concernsTasks(m Message) bool {
	switch m.Method {
	case "tasks/get", "tasks/result", "tasks/cancel", "tasks/update":
		id, _ := stringAt(m.Raw, "params", "taskId")
		return m.IsRequest() && isTaskID(id)
	case "tasks/list":
		return m.IsRequest()
	}
	return false
}

// ruleTask rules on what a host asks about its tasks; false for what is not ours to
// answer.
func (p *Proxy) ruleTask(ctx context.Context, who authz.Caller, m Message, l line) (ruling, bool) {
	if !concernsTasks(m) {
		return ruling{}, false
	}
	clean, err := cutPrefix(m.Raw)
	if err != nil {
		return ruling{}, false // the same again, with a reason
	}
	if m.Method == "tasks/list" {
		return ruling{forward: clean, wrap: p.withHeld(who, m)}, true
	}
	id, _ := stringAt(m.Raw, "params", "taskId")
	modern := isModern(metaVersion(m))
	t := p.held.find(who.Agent.ID, id, modern)
	switch {
	case t == nil:
		return ruling{forward: clean, wrap: unknownTask}, true
	case modern && !declaresTasks(m):
		return ruling{reply: missingExtension(m.ID)}, true
	}
	return p.ruleHeld(ctx, who, m, clean, t, l), true
}

func declaresTasks(m Message) bool {
	at, ok := find(m.Raw, "params", "_meta")
	if !ok {
		return false
	}
	meta, err := action.Parse(m.Raw[at.from:at.to], anyMessage(m.Raw))
	return err == nil && hasTasks(meta)
}

// unknownTask: an id that looks like ours may be that of another OpenLeash, behind the
// server, which then answers. Else it is of a task that is no more.
func unknownTask(_ context.Context, response []byte) []byte {
	at, ok := find(response, "error")
	if !ok {
		return response
	}
	return applyEdits(response, edit{at, string(unknownTaskError)})
}

// unknownTaskError: "Invalid or nonexistent taskId: -32602 (Invalid params)".
var unknownTaskError = []byte(`{"code":-32602,"message":"Task not found: its time is up, or OpenLeash was restarted, or it was not this agent's. ` +
	`Call the tool again with the same arguments: if its owner has approved it meanwhile, it runs"}`)

// ruleHeld rules on a request about a task of ours. What was approved runs now that
// its host asks.
func (p *Proxy) ruleHeld(ctx context.Context, who authz.Caller, m Message, clean []byte, t *heldTask, l line) ruling {
	var err error
	switch m.Method {
	case "tasks/get":
		soon, cancel := context.WithTimeout(ctx, settleWithin)
		err = p.advance(soon, who, t, l, false)
		cancel()
	case "tasks/result":
		if t.modern { // "tasks/result is removed"
			return ruling{reply: errorReply(m.ID, codeMethodNotFound, "tasks/result is not of this protocol version: tasks/get has the result inside")}
		}
		err = p.advance(ctx, who, t, l, true)
	}
	s := p.held.state(t)
	switch {
	case ctx.Err() != nil:
		return ruling{}
	case err != nil:
		return ruling{reply: errorReply(m.ID, codeInternal, err.Error())}
	case s.theirs != "" && s.status != taskCancelled:
		return ruling{forward: p.held.toServer(who.Agent.ID, clean)}
	case m.Method == "tasks/cancel":
		return ruling{reply: p.cancelTask(m, t)}
	case m.Method == "tasks/update":
		return p.updateTask(who, m, t, l)
	case m.Method == "tasks/get":
		return ruling{reply: t.got(m.ID, s)}
	case !s.settled(): // its time is up while it waited
		return ruling{reply: unknownTask(ctx, errorReply(m.ID, codeInvalidParams, ""))}
	}
	return ruling{reply: t.result(m.ID, s)}
}

// advance brings a task on: it runs what was approved, and ends what will not be. With
// wait it returns when there is a result, or no more; else as soon as the task waits
// for its owner. It returns early when ctx ends.
func (p *Proxy) advance(ctx context.Context, who authz.Caller, t *heldTask, l line, wait bool) error {
	for ctx.Err() == nil && t.gone.Err() == nil {
		s := p.held.state(t)
		switch {
		case s.settled():
			return nil
		case s.running:
			l.stepAside()
			select {
			case <-s.changed:
			case <-t.gone.Done():
			case <-ctx.Done():
			}
			continue
		}
		if p.held.isEnded() {
			return ErrShuttingDown
		}
		r, err := p.Service.Approvals().Approval(ctx, s.held.Approval.ID)
		switch {
		case err != nil && ctx.Err() == nil:
			return err
		case err != nil:
			return nil
		case r.At(time.Now()) != approvals.Pending:
			p.resume(who, t, s, r, l)
		case !wait:
			return nil
		default:
			l.stepAside()
			p.awaitOwner(ctx, t, r.ID, l)
		}
	}
	return nil
}

// awaitOwner waits until the request of a task is answered, or the task ends.
func (p *Proxy) awaitOwner(ctx context.Context, t *heldTask, request string, l line) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(t.gone, cancel)()
	defer l.keepTelling("", p.tellEvery)()
	approvals.Wait(ctx, p.Service.Approvals(), request) // who called looks again
}

// resume goes on with a task whose request waits no longer.
func (p *Proxy) resume(who authz.Caller, t *heldTask, s taskState, r approvals.Request, l line) {
	if r.At(time.Now()) != approvals.Approved {
		p.held.settle(t, p.inVain(s.call, s.held, r))
		return
	}
	p.held.run(t, l.lasting, func(ctx context.Context) { p.runTask(ctx, who, t, s.call, l) })
}

// inVain is what comes of a call that will not run by its request.
func (p *Proxy) inVain(c call, held authz.Answer, r approvals.Request) []byte {
	switch r.At(time.Now()) {
	case approvals.Denied:
		held.Code, held.Reason = authz.ApprovalDenied, r.Denial()
	case approvals.Redeemed:
		held.Code, held.Reason = authz.AlreadyRun, "this call was approved and has run already, for another message; what came of it went to that one"
	default:
		held.Reason = "nobody has answered in time, or what this call means has changed meanwhile"
		info := p.refusalInfo(c, held)
		info.Message = "Not run: no approval came for " + c.tool + " of server " + p.Name + "."
		info.Next = "Nothing was done. Tell the user; call this tool again with exactly these arguments if it is still wanted."
		return p.refuse(c, info)
	}
	return p.refusal(c, held)
}

// cancelTask ends a task that the server knows nothing of. "Receivers MUST reject
// cancellation requests for tasks already in a terminal status […] with error code
// -32602" (2025-11-25); "the server MUST acknowledge the request with an empty result"
// (2026-07-28).
func (p *Proxy) cancelTask(m Message, t *heldTask) []byte {
	ok := p.held.cancel(t)
	s := p.held.state(t)
	switch {
	case t.modern:
		return []byte(`{"jsonrpc":"2.0","id":` + m.ID + `,"result":{"resultType":"complete"}}`)
	case !ok:
		return errorReply(m.ID, codeInvalidParams, "Cannot cancel task: it is "+s.status+" already")
	}
	return t.got(m.ID, s)
}

// withHeld adds an agent's tasks that the server knows nothing of to the first page of
// its list: "If a task is retrievable via tasks/get for a requestor, it MUST be
// retrievable via tasks/list for that requestor."
func (p *Proxy) withHeld(who authz.Caller, m Message) wrapper {
	if _, later := find(m.Raw, "params", "cursor"); later {
		return nil
	}
	return func(_ context.Context, response []byte) []byte {
		at, ok := find(response, "result", "tasks")
		if !ok || response[at.from] != '[' {
			return response
		}
		ours := p.held.listed(who.Agent.ID)
		if len(ours) == 0 {
			return response
		}
		if len(bytes.TrimSpace(response[at.from+1:at.to-1])) > 0 {
			ours = append(ours, "")
		}
		return applyEdits(response, edit{span{at.from + 1, at.from + 1}, strings.Join(ours, ",")})
	}
}

// listed are an agent's tasks of 2025-11-25 without a server's own behind them.
func (h *heldTasks) listed(agent string) (list []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sweep(time.Now())
	for _, t := range h.of(agent) {
		if !t.modern && t.theirs == "" {
			list = append(list, "{"+t.fields(t.taskState)+"}")
		}
	}
	return list
}
