package proxy

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/openleash/openleash-go/authz"
)

// What a server asks of its host (sampling, elicitation) is decided on before it
// reaches the host, and so are the requests inside a result that wants input.

// maxAsked bounds how many governed requests of one server may be open.
const maxAsked = 256

// asked are a server's governed requests in one session, by id, not answered yet.
type asked struct {
	many bool // several hosts share the ids: a newer request takes an older one's place

	mu    sync.Mutex
	open  map[string]*question
	ended bool
}

// question is one of them.
type question struct {
	cancel    context.CancelFunc
	withdrawn bool
	forwarded bool
	done      func([]byte, failure)
}

// needsRuling tells what ask is for from what only passes.
func needsRuling(m Message) bool {
	if m.IsResponse() {
		return wantsInput(m.Raw)
	}
	governed, refusal := isGoverned(m, fromServer)
	return governed || refusal != nil
}

// ask has a message of the server that needs a ruling decided on. The ruling can
// be carried out as it is: a request that was withdrawn meanwhile is not forwarded.
func (a *asked) ask(ctx context.Context, p *Proxy, who authz.Caller, m Message, wrap wrapper, stepAside func()) ruling {
	if !m.IsRequest() {
		return p.ruleUp(ctx, who, m, wrap, stepAside)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	q := &question{cancel: cancel}
	if err := a.add(m.ID, q); err != nil {
		return ruling{reply: errorReply(m.ID, codeInvalidRequest, err.Error())}
	}
	ru := p.ruleUp(ctx, who, m, nil, stepAside)
	if ru.forward == nil {
		a.drop(m.ID, q)
		return ru
	}
	if !a.forward(q, ru.done) {
		a.drop(m.ID, q)
		ru.done(nil, failure{"cancelled", "the request was withdrawn before it reached the host"})
		return ruling{}
	}
	return ru
}

func (a *asked) add(id string, q *question) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	old := a.open[id]
	switch {
	case a.ended:
		return errors.New("the host has gone away")
	case old != nil && a.many:
		if old.forwarded {
			defer old.done(nil, failure{"unknown", "another request with the same id came before the host answered"})
		}
	case old != nil:
		return fmt.Errorf("id %s is that of a request which has not been answered yet; use another", id)
	case len(a.open) >= maxAsked:
		return fmt.Errorf("%d requests wait for the host or its owner; no more are taken until some are answered", maxAsked)
	}
	if a.open == nil {
		a.open = map[string]*question{}
	}
	a.open[id] = q
	return nil
}

func (a *asked) drop(id string, q *question) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open[id] == q {
		delete(a.open, id)
	}
}

// forward marks a request as forwarded, unless it was withdrawn before.
func (a *asked) forward(q *question, done func([]byte, failure)) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	q.forwarded, q.done = !q.withdrawn, done
	return q.forwarded
}

// answered ends a request with the host's answer.
func (a *asked) answered(m Message) {
	a.finish(m.ID, m.Raw, failure{})
}

func (a *asked) finish(id string, answer []byte, f failure) {
	a.mu.Lock()
	q := a.open[id]
	if q != nil && q.forwarded {
		delete(a.open, id)
	}
	a.mu.Unlock()
	if q != nil && q.forwarded {
		q.done(answer, f)
	}
}

// withdraws handles a cancellation by the server, and reports whether it ends
// here: the host has never heard of a request that was not forwarded.
func (a *asked) withdraws(m Message) bool {
	if m.Method != "notifications/cancelled" {
		return false
	}
	id := idAt(m.Raw, "params", "requestId")
	a.mu.Lock()
	if q := a.open[id]; q != nil && !q.forwarded {
		q.withdrawn = true
		q.cancel()
		a.mu.Unlock()
		return true
	}
	a.mu.Unlock()
	a.finish(id, nil, failure{"cancelled", "the server withdrew the request after it had reached the host"})
	return false
}

// end ends them all: nobody will answer any more.
func (a *asked) end(f failure) {
	a.mu.Lock()
	open := a.open
	a.open, a.ended = nil, true
	for _, q := range open {
		q.withdrawn = true
		q.cancel()
	}
	a.mu.Unlock()
	for _, q := range open {
		if q.forwarded {
			q.done(nil, f)
		}
	}
}

// beside runs do and returns what it gives, or the zero value as soon as it has
// stepped aside.
func beside[T any](ctx context.Context, do func(stepAside func()) T) (result T) {
	ended, aside := make(chan T, 1), make(chan struct{})
	stepAside := sync.OnceFunc(func() { close(aside) })
	go func() { ended <- do(stepAside) }()
	select {
	case result = <-ended:
	case <-aside:
	case <-ctx.Done():
	}
	return result
}
