package proxy

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/authz"
)

// ReceiptKey is where the receipt of a call stands in the _meta of its result.
const ReceiptKey = Prefix + "receipt"

// receiptWithin is how long a result waits for its receipt; then it goes without.
const receiptWithin = 5 * time.Second

// A receipts makes the receipt of one call: finish records the outcome and begins it, wrap
// puts it into the result. It belongs to whoever brings the response, who calls one
// after the other.
type receipts struct {
	p    *Proxy
	sign func(ctx context.Context, result action.Hash) (string, error)
}

// withReceipt returns what records the outcome of an allowed call, and what makes of its
// response what the host gets.
func (p *Proxy) withReceipt(who authz.Caller, call *authz.Call, ans authz.Answer) (done func([]byte, failure), wrap wrapper) {
	state := p.stateWrapper(who, ans)
	if !p.Receipts {
		return p.finisher(who, call, ans), state
	}
	r, start := &receipts{p: p}, time.Now()
	done = func(response []byte, f failure) {
		o := outcome(response, f, start)
		if response == nil || o.Status != "ok" && o.Status != "tool_error" {
			p.Service.Finish(who, call, ans, o) // there is no result to put it into
			return
		}
		r.sign = p.Service.FinishWithReceipt(who, call, ans, o)
	}
	return done, func(ctx context.Context, response []byte) []byte { return r.put(ctx, state(ctx, response)) }
}

// put puts the receipt into a result, once the outcome is recorded.
func (r *receipts) put(ctx context.Context, response []byte) []byte {
	at, ok := find(response, "result")
	if r.sign == nil || !ok {
		return response
	}
	ctx, cancel := context.WithTimeout(ctx, receiptWithin)
	defer cancel()
	token, err := r.sign(ctx, action.Hash(sha256.Sum256(response[at.from:at.to])))
	if err != nil {
		r.p.Log.Error().Err(err).Str("server", r.p.Name).Msg("a result goes back without its receipt")
		return response
	}
	return insertReceipt(response, token)
}

// insertReceipt puts it first into result._meta, which it makes if there is none, and
// changes no other byte. proof.VerifyResult takes it out again. A result whose members
// two readers could see differently gets none.
func insertReceipt(response []byte, token string) []byte {
	member, object := `"`+ReceiptKey+`":"`+token+`"`, []string{"result", "_meta"}
	if _, has := find(response, object...); !has {
		member, object = `"_meta":{`+member+`}`, object[:1]
	}
	at, ok := find(response, object...)
	if !ok || response[at.from] != '{' {
		return response
	}
	fields, err := action.Scan(response[at.from:at.to], anyMessage(response))
	if err != nil {
		return response
	}
	if len(fields) > 0 {
		member += ","
	}
	return applyEdits(response, edit{span{at.from + 1, at.from + 1}, member})
}
