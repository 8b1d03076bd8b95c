package proxy

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/policy"
)

// call is the path of one tool call, or of another request that is governed,
// from the host's bytes to the bytes that the upstream gets, or to a refusal.
func (p *Proxy) call(ctx context.Context, who authz.Caller, m Message, ask lister, departed func(), progress func([]byte)) ruling {
	c, err := readCall(m, p.Limits) // one strict parse: all that follows comes from it
	if err != nil {
		return ruling{reply: errorReply(m.ID, codeInvalidParams, err.Error())}
	}
	if !c.open {
		p.know(ctx, who, m, c.tool, ask) // what the server says of it
	}
	return p.decide(ctx, who, c, departed, progress)
}

// decide takes a call that was read to its ruling.
func (p *Proxy) decide(ctx context.Context, who authz.Caller, c call, departed func(), progress func([]byte)) ruling {
	req, call, err := p.translate(c) // tool + arguments → action
	if err != nil {
		return p.refuseUntranslated(ctx, who, c, call, err)
	}
	call.Hold = p.Hold
	ans := p.authorize(ctx, who, req, call) // policy, grant, proof, log: one commit
	for until := time.Now().Add(p.Hold); ans.Code == authz.ApprovalRequired; {
		departed()
		if !p.hold(ctx, ans.Approval.ID, until, c.progressToken, progress) {
			p.leave(ctx, ans)
			break // nobody has answered; the request stays open
		}
		ans = p.authorize(ctx, who, req, call) // again, with what the owner said
	}
	done := p.finisher(who, call, ans)
	switch {
	case ctx.Err() != nil:
		if ans.Outcome == policy.Allow {
			done(nil, failure{status: "cancelled", detail: "the host cancelled the call before it was forwarded", unsent: true})
		}
		return ruling{} // the host has gone; nothing is forwarded, nobody is answered
	case ans.Outcome == policy.Allow:
		return ruling{forward: c.withProof(ans.Proof), done: done, wrap: p.stateWrapper(who, ans)}
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
	call := &authz.Call{Server: p.Name, Tool: c.tool, Arguments: c.arguments, Round: c.round, Info: p.toolInfo(c.tool, mapped), Places: p.Places}
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

// progressEvery is how often a held call tells its host that it still waits.
const progressEvery = 10 * time.Second

// hold waits until the request is answered, and reports whether it was before
// until and before the host went away.
func (p *Proxy) hold(ctx context.Context, id string, until time.Time, token string, progress func([]byte)) bool {
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	if token != "" && progress != nil {
		stop := keepTelling(token, progress)
		defer stop()
	}
	_, err := approvals.Wait(ctx, p.Service.Approvals(), id)
	return err == nil
}

// keepTelling sends progress until stop is called. The values are tiny, so
// that those of the upstream, which follow, still rise: "The progress value
// MUST increase with each notification" (MCP, Progress).
func keepTelling(token string, progress func([]byte)) (stop func()) {
	ended, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		ticker := time.NewTicker(progressEvery)
		defer ticker.Stop()
		for n := 1; ; n++ {
			progress(fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":%d.0e-9,"message":"waiting for the owner's approval"}}`, token, n))
			select {
			case <-ticker.C:
			case <-ended:
				return
			}
		}
	}()
	return func() { close(ended); <-gone }
}

// finisher returns what records the outcome of an allowed call.
func (p *Proxy) finisher(who authz.Caller, call *authz.Call, ans authz.Answer) func([]byte, failure) {
	start := time.Now()
	return func(response []byte, f failure) {
		o := authz.Outcome{Status: f.status, Detail: f.detail, Unsent: f.unsent, Duration: time.Since(start)}
		if response != nil {
			o.Status, o.ResultHash = outcomeOf(response)
		}
		p.Service.Finish(who, call, ans, o)
	}
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
