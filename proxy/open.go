package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/authz"
)

// What is no tool call can still give away or do something: a resource that is
// read, a prompt, and what a server asks of the host. Those requests are open:
// allowed and logged, unless a rule is about them.

// fromHost are the governed requests of a host, fromServer those of a server.
var (
	fromHost   = []string{"tools/call", "resources/read", "prompts/get"}
	fromServer = []string{"sampling/createMessage", "elicitation/create"}
)

// isGoverned tells whether a message asks for something that the policy must
// decide, and refuses what only looks as if it did not.
func isGoverned(m Message, methods []string) (governed bool, refusal []byte) {
	for _, method := range methods {
		if m.Method == method {
			if m.ID == "" || m.ID == "null" {
				return false, errorReply("", codeInvalidRequest, method+" came without an id: what cannot be answered is not forwarded")
			}
			return true, nil
		}
		if len(m.Method) < 2*len(method) && strings.EqualFold(strings.TrimSpace(m.Method), method) {
			return false, errorReply(m.ID, codeInvalidRequest, fmt.Sprintf("method %q: write it %s", m.Method, method))
		}
	}
	return false, nil
}

// apart are the params of a request that are none of its arguments. Those of a
// host's are of the protocol: what it says again, with more, is one call.
func apart(method string) []string {
	if slices.Contains(fromHost, method) {
		return []string{"_meta", inputResponses, requestState}
	}
	return []string{"_meta"}
}

// readOpen parses a governed request that is no tool call. All its params but
// those apart are its arguments.
func readOpen(m Message, root action.Value) (call, error) {
	c := call{Message: m, tool: m.Method, open: true, params: root.Get("params")}
	if c.params.Kind() != action.Object && c.params.Kind() != action.Missing {
		return c, errors.New("params: want an object")
	}
	if c.meta = c.params.Get("_meta"); c.meta.Kind() != action.Object && c.meta.Kind() != action.Missing {
		return c, errors.New("params._meta: want an object")
	}
	var members []action.Member
	for key, v := range c.params.Members() {
		if !slices.Contains(apart(m.Method), key) {
			members = append(members, action.Member{Key: key, Value: v})
		}
	}
	for _, known := range apart(m.Method) {
		if odd, ok := c.params.GetFold(known); ok {
			return c, fmt.Errorf("params.%s: differs from %q only by case; write %q", odd, known, known)
		}
	}
	c.arguments = action.ObjectValue(members...)
	c.readProgressToken()
	cuts, err := prefixCuts(m.Raw)
	for _, e := range cuts {
		if !within(c.params)(e) || slices.ContainsFunc(apart(m.Method), func(name string) bool { return within(c.params.Get(name))(e) }) {
			c.cuts = append(c.cuts, e)
		}
	}
	if slices.Contains(fromHost, m.Method) {
		c.readState()
	}
	return c, err
}

// fromHost reports whether the host asks for it.
func (c call) fromHost() bool { return slices.Contains(fromHost, c.Method) }

// translateOpen makes the action: no mapping is about it.
func (p *Proxy) translateOpen(c call) (action.Request, *authz.Call) {
	req := action.Request{
		ActionType: authz.OpenType(p.Name, c.tool),
		Payload:    action.ObjectValue(action.Member{Key: "arguments", Value: c.arguments}),
	}
	return req, &authz.Call{
		Server: p.Name, Tool: c.tool, Arguments: c.arguments, Round: c.round, Leg: c.leg, Places: p.Places, Open: true, ToHost: !c.fromHost(),
		About: about(c), Info: authz.OpenInfo(p.Name, c.tool), Pins: p.pins, TraceID: c.traceOf(),
	}
}

// maxAbout bounds what a server's names add to a line of the log.
const maxAbout = 1000

func about(c call) string {
	name := c.arguments.Get(nameMember(c.tool)).Text()
	if len(name) > maxAbout {
		name = strings.ToValidUTF8(name[:maxAbout], "") + "…"
	}
	return name
}

// ruleUp is rule for a message of the server: what it asks of the host is
// decided on, and so are the requests inside a result that wants input. forward
// goes to the host, reply to the server. It blocks while something is held;
// departed as in rule. done takes the host's answer to a governed request. wrap is
// of the ruling on the request that m answers, nil when there is none.
func (p *Proxy) ruleUp(ctx context.Context, who authz.Caller, m Message, wrap wrapper, departed func()) ruling {
	governed, refusal := isGoverned(m, fromServer)
	switch {
	case refusal != nil:
		return ruling{reply: refusal}
	case governed:
		ru := p.asked(ctx, who, m, departed)
		if ru.forward != nil {
			ru.forward = p.toHost(who, m.Raw)
		}
		return ru
	case m.IsResponse() && wantsInput(m.Raw):
		if refused := p.inputs(ctx, who, m, departed); refused != nil {
			return ruling{forward: refused}
		}
	}
	forward := p.toHost(who, m.Raw)
	if wrap != nil && forward != nil {
		forward = wrap(ctx, forward)
	}
	return ruling{forward: forward}
}

// asked decides on a request of the server.
func (p *Proxy) asked(ctx context.Context, who authz.Caller, m Message, departed func()) ruling {
	root, err := action.Parse(m.Raw, anyMessage(m.Raw))
	var c call
	if err == nil {
		c, err = readOpen(m, root)
	}
	if err != nil {
		return ruling{reply: errorReply(m.ID, codeInvalidParams, "the request cannot be decided on: "+err.Error())}
	}
	return p.decide(ctx, who, c, line{departed: departed})
}

// wantsInput is a quick look for a result with requests inside: "the server
// returns an InputRequiredResult" (2026-07-28, Multi Round-Trip Requests).
func wantsInput(raw []byte) bool {
	if !bytes.Contains(raw, []byte(`"inputRequests"`)) && !bytes.Contains(raw, []byte(`\u`)) {
		return false // nearly all
	}
	_, ok := find(raw, "result", "inputRequests")
	return ok
}

// inputs decides on the requests inside a result. When one is refused the host
// gets, in the result's place, an error that says so: the server waits for all of
// them or none.
func (p *Proxy) inputs(ctx context.Context, who authz.Caller, m Message, departed func()) (refused []byte) {
	root, err := action.Parse(m.Raw, anyMessage(m.Raw))
	if err != nil {
		return errorReply(m.ID, codeInternal, fmt.Sprintf("the server %s asks for input in a way that cannot be decided on: %v", p.Name, err))
	}
	for _, in := range root.Get("result").Get("inputRequests").Members() {
		inner := Message{Raw: m.Raw, ID: m.ID, Method: in.Get("method").Text()}
		governed, refusal := isGoverned(inner, fromServer)
		if refusal != nil {
			return refusal
		}
		if !governed {
			continue
		}
		c, err := readOpen(inner, in)
		if err != nil {
			return errorReply(m.ID, codeInternal, fmt.Sprintf("the server %s asks for input with %s: %v", p.Name, inner.Method, err))
		}
		ru := p.decide(ctx, who, c, line{departed: departed})
		if ru.forward == nil {
			return p.inputRefused(c, ru)
		}
		ru.done(nil, failure{status: "unknown", detail: "what the host answers comes with its next call"})
	}
	return nil
}

func (p *Proxy) inputRefused(c call, ru ruling) []byte {
	reason := "the host went away"
	if text, ok := stringAt(ru.reply, "error", "message"); ok {
		reason = text
	} else if text, ok := stringAt(ru.reply, "result", "_meta", RefusalKey, "reason"); ok {
		reason = text
	}
	return errorReply(c.ID, codeRefused, fmt.Sprintf("the server %s asked for %s before it goes on, and that was refused: %s", p.Name, c.tool, reason))
}
