package authz

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/audit"
)

// Outcome is what came of a forwarded call.
type Outcome struct {
	Status     string // ok, tool_error, protocol_error, transport_error, cancelled, unknown
	Duration   time.Duration
	ResultHash action.Hash // zero: no result
	Detail     string
}

// Finish records what came of an allowed call. The result need not wait for
// it: a decision without an outcome in the log says that it is not known.
func (s *Service) Finish(who Caller, call *Call, ans Answer, o Outcome) {
	ms := o.Duration.Milliseconds()
	e := audit.Entry{
		TS: timestamp(s.cfg.Now()), Event: "outcome", ActorType: "agent", ActorID: who.Agent.Name,
		ActionType: filled(ans.ActionType), ActionID: filled(ans.ActionID), PolicyID: filled(ans.PolicyID),
		SignatureValid: who.SignatureValid, DecisionID: ans.DecisionID, OwnerID: s.cfg.Owner.ID,
		ActionHash: ans.ActionHash.String(), Outcome: o.Status, DurationMS: &ms, Detail: o.Detail,
	}
	if call != nil {
		e.Server, e.Tool = call.Server, call.Tool
	}
	if !o.ResultHash.IsZero() {
		e.ResultHash = o.ResultHash.String()
	}
	s.finisher.add(e)
}

// finisher writes outcomes behind the calls, in their order.
type finisher struct {
	commit func(context.Context, Batch) error

	mu      sync.Mutex // held while an entry enters the queue: never taken by run
	closed  bool
	closing chan struct{}
	queue   chan audit.Entry
	done    chan struct{}
	err     error // the last failure; owned by run until done
}

// gather is how long an outcome waits for others: a commit of its own, right
// after its call, would stand in the way of the next call's decision.
const gather = 20 * time.Millisecond

// finishQueue is how many outcomes may wait for the disk before Finish blocks.
const finishQueue = 4096

func startFinisher(commit func(context.Context, Batch) error) *finisher {
	f := &finisher{commit: commit, closing: make(chan struct{}), queue: make(chan audit.Entry, finishQueue), done: make(chan struct{})}
	go f.run()
	return f
}

func (f *finisher) add(e audit.Entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.queue <- e
	}
}

// run commits what has gathered, together: one sync for many outcomes.
func (f *finisher) run() {
	defer close(f.done)
	for e := range f.queue {
		f.linger()
		b := Batch{Entries: []audit.Entry{e}}
		for len(b.Entries) < 256 && len(f.queue) > 0 {
			b.Entries = append(b.Entries, <-f.queue)
		}
		if err := f.commit(context.Background(), b); err != nil {
			f.err = err
		}
	}
}

// linger lets outcomes gather, until close.
func (f *finisher) linger() {
	select {
	case <-time.After(gather):
	case <-f.closing:
	}
}

func (f *finisher) close() error {
	f.mu.Lock()
	if !f.closed {
		f.closed = true
		close(f.closing)
		close(f.queue)
	}
	f.mu.Unlock()
	<-f.done
	if f.err != nil {
		return errors.Join(errors.New("some outcomes could not be recorded; their calls show no outcome in the log"), f.err)
	}
	return nil
}
