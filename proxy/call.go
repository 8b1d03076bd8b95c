package proxy

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/policy"
)

// call is the path of one tool call, or of another request that is governed,
// from the host's bytes to the bytes that the upstream gets, or to a refusal.
func (p *Proxy) call(ctx context.Context, who authz.Caller, m Message, l line) ruling {
	c, err := readCall(m, p.Limits) // one strict parse: all that follows comes from it
	if err != nil {
		return ruling{reply: errorReply(m.ID, codeInvalidParams, err.Error())}
	}
	if !c.open {
		c.relist = func(ctx context.Context) { p.know(ctx, who, m, c.tool, l.ask) }
		c.relist(ctx) // what the server says of it
	}
	return p.decide(ctx, who, c, l)
}

// decide takes a call that was read to its ruling.
func (p *Proxy) decide(ctx context.Context, who authz.Caller, c call, l line) ruling {
	req, call, err := p.translate(c) // tool + arguments → action
	if err != nil {
		return p.refuseUntranslated(ctx, who, c, call, err)
	}
	call.Hold = p.holdOf(who)
	ans := p.authorize(ctx, who, req, call) // policy, grant, proof, log: one commit
	for until := time.Now().Add(p.holdOf(who)); ans.Code.Waits() && !c.isTask(ans, l); {
		l.stepAside()
		if !p.hold(ctx, call, ans, until, c.progressToken, l) {
			p.leave(ctx, ans)
			break // nobody has answered; the request stays open
		}
		p.renew(ctx, c, call)
		ans = p.authorize(ctx, who, req, call) // again, with what the owner said
	}
	done, wrap := p.withReceipt(who, call, ans)
	switch {
	case ctx.Err() != nil:
		if ans.Outcome == policy.Allow {
			done(nil, failure{status: "cancelled", detail: "the host cancelled the call before it was forwarded", unsent: true})
		}
		return ruling{} // the host has gone; nothing is forwarded, nobody is answered
	case ans.Outcome == policy.Allow:
		return ruling{forward: c.withProof(ans.Proof), done: done, wrap: wrap}
	case ans.Code.Waits():
		return ruling{reply: p.sendAway(who, c, call, ans, l)} // it may come back
	default:
		return ruling{reply: p.refusal(c, ans)}
	}
}

// translate makes the action of a call: the mapping's fields, and the context
// that policies may look at and no hash holds.
func (p *Proxy) translate(c call) (action.Request, *authz.Call, error) {
	if c.open {
		req, call := p.translateOpen(c)
		return req, call, nil
	}
	mapped, err := p.Mapping.Map(p.Name, c.tool, c.arguments)
	call := &authz.Call{Server: p.Name, Tool: c.tool, Arguments: c.arguments, Round: c.round, Leg: c.leg, Info: p.toolInfo(c.tool, mapped), Places: p.Places, Pins: p.pins, TraceID: c.traceOf()}
	req := action.Request{ActionType: mapped.ActionType, Payload: mapped.Payload, RelyingParty: mapped.RelyingParty}
	return req, call, err
}

func (p *Proxy) authorize(ctx context.Context, who authz.Caller, req action.Request, call *authz.Call) authz.Answer {
	ans, err := p.Service.Authorize(ctx, who, req, call)
	if err != nil && ctx.Err() == nil {
		p.Log.Error().Err(err).Str("server", p.Name).Str("tool", call.Tool).Str("code", string(ans.Code)).Msg("refused: the decision failed")
	}
	return ans
}

func (p *Proxy) refuseUntranslated(ctx context.Context, who authz.Caller, c call, call *authz.Call, reason error) ruling {
	ans, err := p.Service.Refuse(ctx, who, call, reason.Error())
	if err != nil {
		p.Log.Error().Err(err).Str("server", p.Name).Msg("a refusal could not be recorded")
	}
	return ruling{reply: p.refusal(c, ans)}
}

// finisher returns what records the outcome of an allowed call.
func (p *Proxy) finisher(who authz.Caller, call *authz.Call, ans authz.Answer) func([]byte, failure) {
	start := time.Now()
	return func(response []byte, f failure) {
		p.Service.Finish(who, call, ans, outcome(response, f, start))
	}
}

// outcome is what came of a call that was forwarded at start.
func outcome(response []byte, f failure, start time.Time) authz.Outcome {
	o := authz.Outcome{Status: f.status, Detail: f.detail, Unsent: f.unsent, Duration: time.Since(start)}
	if response != nil {
		o.Status, o.ResultHash = outcomeOf(response)
	}
	return o
}

// outcomeOf reads from a response how the call went, and the hash of its
// result as it came.
func outcomeOf(response []byte) (string, action.Hash) {
	fields, err := action.Scan(response, anyMessage(response))
	if err != nil {
		return "unknown", action.Hash{}
	}
	for _, f := range fields {
		switch f.Key {
		case "error":
			return "protocol_error", action.Hash(sha256.Sum256(f.Raw))
		case "result":
			if isTrue(f.Raw, "isError") {
				return "tool_error", action.Hash(sha256.Sum256(f.Raw))
			}
			return "ok", action.Hash(sha256.Sum256(f.Raw))
		}
	}
	return "unknown", action.Hash{}
}

func isTrue(object []byte, key string) bool {
	fields, err := action.Scan(object, anyMessage(object))
	if err != nil {
		return false
	}
	for _, f := range fields {
		if f.Key == key {
			return string(f.Raw) == "true"
		}
	}
	return false
}
