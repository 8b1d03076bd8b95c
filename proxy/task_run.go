package proxy

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/policy"
)

const (
	// maxRuns is how often in a row the call of a task is sent again for a server that
	// wants no input, but to be asked again; runPause lies between.
	maxRuns  = 20
	runPause = 500 * time.Millisecond
	// tellOff is how long a server may take to hear that a task is cancelled.
	tellOff = 10 * time.Second
)

// runTask has the call of a task decided on, with what its owner said, and forwards it.
// ctx ends when its host cancels it, or with the session.
func (p *Proxy) runTask(ctx context.Context, who authz.Caller, t *heldTask, c call, l line) {
	for range maxRuns {
		next, again := p.runOnce(ctx, who, t, c, l)
		if !again {
			return
		}
		c = next
		select {
		case <-time.After(runPause):
		case <-ctx.Done():
		}
	}
	p.held.settle(t, errorReply(c.ID, codeInternal, fmt.Sprintf("the server %s wanted to be asked again %d times in a row", p.Name, maxRuns)))
}

// runOnce sends one message of the call. again is true when the server wants it sent
// once more, as next.
func (p *Proxy) runOnce(ctx context.Context, who authz.Caller, t *heldTask, c call, l line) (next call, again bool) {
	req, made, err := p.translate(c)
	if err != nil {
		p.held.settle(t, p.refuseUntranslated(ctx, who, c, made, err).reply)
		return c, false
	}
	ans := p.authorize(ctx, who, req, made)
	switch {
	case ans.Outcome == policy.Allow:
	case ans.Code == authz.ApprovalRequired, ctx.Err() != nil: // the grant was spent by another, or nobody was asked
		p.held.change(t, func(s *taskState) {
			s.running, s.call = false, c
			if ans.Approval != nil {
				s.held = ans
			}
		})
		return c, false
	default:
		p.held.settle(t, p.refusal(c, ans))
		return c, false
	}
	done := p.finisher(who, made, ans)
	if ctx.Err() != nil || !p.held.change(t, func(s *taskState) { s.sent = true }) {
		done(nil, failure{status: "cancelled", detail: "the host cancelled the task before its call was forwarded", unsent: true})
		return c, false
	}
	response, err := l.send(ctx, c.ofTask(ans.Proof))
	if err != nil {
		f := p.unanswered(ctx, t, err)
		done(nil, f)
		p.held.settle(t, errorReply(c.ID, codeInternal, fmt.Sprintf("the server %s did not answer: %s", p.Name, f.detail)))
		return c, false
	}
	done(response, failure{})
	ru := p.ruleUp(ctx, who, readAny(response), p.stateWrapper(who, ans), nil)
	if ru.forward == nil {
		ru.forward = errorReply(c.ID, codeInternal, "the answer of "+p.Name+" was not fit to be passed on")
	}
	return p.outcome(t, c, ru.forward, l)
}

// ofTask is the message to the server. In 2026-07-28 "notifications/progress […] are
// not supported on tasks": the request that a token of the host was for has had its
// answer.
func (c call) ofTask(proof string) Message {
	m := Message{Raw: c.withProof(proof), ID: c.ID, Method: c.Method}
	if at, ok := find(m.Raw, "params", "_meta", "progressToken"); ok && c.modern() {
		m.Raw = applyEdits(m.Raw, edit{memberAt(m.Raw, at, 0), ""})
	}
	return m
}

// withID is a message with another id.
func withID(m Message, id string) Message {
	if at, ok := find(m.Raw, "id"); ok {
		m.Raw = applyEdits(m.Raw, edit{at, id})
	}
	m.ID = id
	return m
}

// outcome takes in the server's answer to the call: a task of its own, questions, or
// the result.
func (p *Proxy) outcome(t *heldTask, c call, response []byte, l line) (next call, again bool) {
	if theirs, ttl := ownTask(response, t.modern); theirs != "" {
		p.nameTask(t, c, theirs, ttl, l)
		return c, false
	}
	if state, ok := inputRequired(response); ok && t.modern {
		return p.askHost(t, c, response, state)
	}
	p.held.settle(t, response)
	return c, false
}

// nameTask notes the server's own task. One that its host has cancelled meanwhile is
// cancelled there too.
func (p *Proxy) nameTask(t *heldTask, c call, theirs string, ttl action.Value, l line) {
	keep, ok := milliseconds(ttl)
	if !ok {
		keep = maxMapped
	}
	named := p.held.change(t, func(s *taskState) {
		s.running, s.theirs, s.message = false, theirs, ""
		if end := time.Now().Add(keep); end.After(s.expires) {
			s.expires = end
		}
		p.held.named.Add(1)
	})
	if named {
		return
	}
	meta := ""
	if t.modern {
		meta = `,"_meta":{` + hostMeta(c.Message) + `}`
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.lasting), tellOff)
	defer cancel()
	raw := fmt.Appendf(nil, `{"jsonrpc":"2.0","id":0,"method":"tasks/cancel","params":{"taskId":%s%s}}`, quote(theirs), meta)
	if _, err := l.send(ctx, Message{Raw: raw, ID: "0", Method: "tasks/cancel"}); err != nil {
		p.Log.Warn().Err(err).Str("server", p.Name).Msg("the server could not be told that a task is cancelled")
	}
}

// taskInputs are what a server wants to know before it goes on with the call of a task
// (2026-07-28, Multi Round-Trip Requests): the host is asked by the task.
type taskInputs struct {
	round    int
	requests string            // what the host sees, a JSON object
	answers  map[string]string // by the server's key; empty: not answered yet
	state    string            // the requestState to send back, JSON text; empty: none
}

// askHost turns the questions in a result into those of the task. "Each request key
// in inputRequests MUST be unique over the lifetime of a single task", so that the
// number of the round is in it. A result without any wants to be asked again.
func (p *Proxy) askHost(t *heldTask, c call, response []byte, state stateIn) (next call, again bool) {
	in := &taskInputs{answers: map[string]string{}, state: string(state.value.Raw())}
	root, err := action.Parse(response, anyMessage(response))
	if err != nil {
		p.held.settle(t, errorReply(c.ID, codeInternal, "what the server "+p.Name+" wants to know cannot be read: "+err.Error()))
		return c, false
	}
	p.held.change(t, func(s *taskState) {
		s.rounds++
		in.round = s.rounds
	})
	var members []string
	for key, request := range root.Get("result").Get("inputRequests").Members() {
		in.answers[key] = ""
		members = append(members, string(quote(in.key(key)))+":"+string(request.Raw()))
	}
	if len(members) == 0 {
		if next, err = p.again(c, in); err == nil {
			return next, true
		}
		p.held.settle(t, errorReply(c.ID, codeInternal, err.Error()))
		return c, false
	}
	in.requests = "{" + strings.Join(members, ",") + "}"
	p.held.change(t, func(s *taskState) {
		s.running, s.status, s.message, s.input, s.call = false, taskInput, "", in, c
	})
	return c, false
}

func (in *taskInputs) key(own string) string { return fmt.Sprintf("%d.%s", in.round, own) }

// again is the call with what the host has answered.
func (p *Proxy) again(c call, in *taskInputs) (call, error) {
	var answers []string
	for _, key := range slices.Sorted(maps.Keys(in.answers)) {
		answers = append(answers, string(quote(key))+":"+in.answers[key])
	}
	responses := ""
	if len(answers) > 0 {
		responses = "{" + strings.Join(answers, ",") + "}"
	}
	raw := setParam(c.Raw, inputResponses, responses)
	raw = setParam(raw, requestState, in.state)
	next, err := readCall(Message{Raw: raw, ID: c.ID, Method: c.Method, traceID: c.traceID}, p.Limits)
	if err != nil {
		return c, fmt.Errorf("the call cannot go on with these answers: %w", err)
	}
	return next, nil
}

// setParam gives a request's params a member, or takes it away.
func setParam(raw []byte, name, value string) []byte {
	if value == "" {
		if old, ok := find(raw, "params", name); ok {
			return applyEdits(raw, edit{memberAt(raw, old, 0), ""})
		}
		return raw
	}
	e, _ := insertMember(raw, `"`+name+`":`+value, name, "params") // a call has params
	return applyEdits(raw, e)
}

// updateTask takes in what a host answers to a server's questions, and has the call go on
// when all are answered. "A server SHOULD ignore any inputResponses […] mapped to a key
// that is not currently outstanding".
func (p *Proxy) updateTask(who authz.Caller, m Message, t *heldTask, l line) ruling {
	ack := ruling{reply: []byte(`{"jsonrpc":"2.0","id":` + m.ID + `,"result":{"resultType":"complete"}}`)}
	root, err := action.Parse(m.Raw, p.Limits)
	if err != nil {
		return ruling{reply: errorReply(m.ID, codeInvalidParams, "the answers cannot be read: "+err.Error())}
	}
	responses := root.Get("params").Get(inputResponses)
	var next call
	complete := false
	p.held.change(t, func(s *taskState) {
		if s.status != taskInput || !s.input.take(responses) {
			return
		}
		complete = true
		next, err = p.again(s.call, s.input)
		s.status, s.input = taskWorking, nil
	})
	switch {
	case err != nil:
		p.held.settle(t, errorReply(m.ID, codeInternal, err.Error()))
	case complete:
		p.held.run(t, l.lasting, func(ctx context.Context) { p.runTask(ctx, who, t, next, l) })
	}
	return ack
}

// take takes answers in, and reports whether none is missing.
func (in *taskInputs) take(responses action.Value) (complete bool) {
	complete = true
	for key, had := range in.answers {
		if v := responses.Get(in.key(key)); had == "" && v.Kind() != action.Missing {
			in.answers[key] = string(v.Raw())
		}
		complete = complete && in.answers[key] != ""
	}
	return complete
}
