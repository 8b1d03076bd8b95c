package authz

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/policy"
)

// Outcome is what came of a forwarded call.
type Outcome struct {
	Status     string // ok, tool_error, protocol_error, transport_error, cancelled, unknown
	Duration   time.Duration
	ResultHash action.Hash // zero: no result
	Detail     string
	Unsent     bool // not a byte of the call has left the process: what it was charged is given back
}

// Finish records what came of an allowed call. The result need not wait for
// it: what a killed process has not written, the next one records as unknown (Lost).
func (s *Service) Finish(who Caller, call *Call, ans Answer, o Outcome) {
	s.finisher.add(s.finished(who, call, ans, o))
}

// finished is what Finish writes.
func (s *Service) finished(who Caller, call *Call, ans Answer, o Outcome) finished {
	ms := o.Duration.Milliseconds()
	e := audit.Entry{
		TS: timestamp(s.cfg.Now()), Event: "outcome", ActorType: "agent", ActorID: who.Agent.Name,
		ActionType: filled(ans.ActionType), ActionID: filled(ans.ActionID), PolicyID: filled(ans.PolicyID),
		SignatureValid: who.SignatureValid, DecisionID: ans.DecisionID, OwnerID: who.Agent.OwnerID,
		ActionHash: ans.ActionHash.String(), Outcome: o.Status, DurationMS: &ms, Detail: ans.marks.came(o), Unsent: o.Unsent,
		Process: s.cfg.Process,
	}
	if call != nil {
		e.Server, e.Tool, e.TraceID = call.Server, call.Tool, call.TraceID
	}
	if !o.ResultHash.IsZero() {
		e.ResultHash = o.ResultHash.String()
	}
	done := finished{entry: e, settled: settlement(who, ans, o)}
	if done.settled != nil {
		done.entry.Limits = ans.marks.released(ans.Charges, done.settled.Release)
	}
	return done
}

// Lost records that nobody knows what came of an allowed call, whose decision is given:
// the process that decided has ended without having written it. What the call was
// charged stays charged.
func (s *Service) Lost(ctx context.Context, d audit.Entry) error {
	return s.Record(ctx, audit.Entry{
		Event: "outcome", ActorType: "system", ActorID: "openleash",
		ActionType: d.ActionType, ActionID: d.ActionID, PolicyID: d.PolicyID, SignatureValid: d.SignatureValid, DecisionID: d.DecisionID,
		OwnerID: d.OwnerID, AgentID: d.ActorID, Server: d.Server, Tool: d.Tool, ActionHash: d.ActionHash, Outcome: "unknown", Process: d.Process, TraceID: d.TraceID,
		Detail: "the process that had this call was ended before it wrote what came of it: look before you repeat it",
	})
}

// A finished call is what the log says of it and, when it was charged to limits,
// what comes of that.
type finished struct {
	entry   audit.Entry
	settled *Settlement
	told    chan<- error // has room for one, and hears whether it is on disk; nil: nobody waits
}

// released lists what is given back, for the log.
func (m marks) released(charges []policy.Charge, limits []string) (list []audit.Limit) {
	for _, c := range charges {
		if slices.Contains(limits, c.Limit.ID) {
			list = append(list, m.limit(c.Limit, audit.Limit{ID: c.Limit.ID, Key: c.Key, Amount: c.Amount, Max: c.Limit.Max, Released: true}))
		}
	}
	return list
}

// finisher writes outcomes behind the calls, in their order.
type finisher struct {
	commit  func(context.Context, Batch) error
	hurry   chan struct{} // somebody waits
	closing chan struct{}
	done    chan struct{}
	err     error // the last failure; owned by run until done

	mu      sync.Mutex
	changed sync.Cond // of mu: pending or closed
	pending []finished
	closed  bool
}

const (
	// gather is how long an outcome waits for others: a commit of its own, right
	// after its call, would stand in the way of the next call's decision.
	gather = 20 * time.Millisecond
	// finishQueue is how many outcomes may wait for the disk before Finish blocks.
	finishQueue = 4096
	// finishBatch is how many are committed together.
	finishBatch = 256
)

func startFinisher(commit func(context.Context, Batch) error) *finisher {
	f := &finisher{commit: commit, hurry: make(chan struct{}, 1), closing: make(chan struct{}), done: make(chan struct{})}
	f.changed.L = &f.mu
	go f.run()
	return f
}

func (f *finisher) add(e finished) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.pending) >= finishQueue && !f.closed {
		f.changed.Wait()
	}
	if f.closed {
		e.tell(errors.New("OpenLeash ends"))
		return
	}
	f.pending = append(f.pending, e)
	f.changed.Broadcast()
	if e.told != nil {
		select {
		case f.hurry <- struct{}{}:
		default:
		}
	}
}

func (e finished) tell(err error) {
	if e.told != nil {
		e.told <- err
	}
}

// run commits what has gathered, together: one sync for many outcomes.
func (f *finisher) run() {
	defer close(f.done)
	for f.await() {
		f.linger()
		done := f.take()
		err := f.commit(context.Background(), batchOf(done))
		if err != nil {
			f.err = err
		}
		for _, d := range done {
			d.tell(err)
		}
	}
}

func batchOf(done []finished) (b Batch) {
	for _, d := range done {
		b.Entries = append(b.Entries, d.entry)
		if d.settled != nil {
			b.Settle = append(b.Settle, *d.settled)
		}
	}
	return b
}

// await waits for outcomes; false: there are none, and none will come.
func (f *finisher) await() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.pending) == 0 && !f.closed {
		f.changed.Wait()
	}
	return len(f.pending) > 0
}

func (f *finisher) take() []finished {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := min(len(f.pending), finishBatch)
	done := f.pending[:n:n]
	f.pending = f.pending[n:]
	f.changed.Broadcast()
	return done
}

// linger lets outcomes gather, until somebody waits for one, or close.
func (f *finisher) linger() {
	select {
	case <-time.After(gather):
	case <-f.hurry:
	case <-f.closing:
	}
}

func (f *finisher) close() error {
	f.mu.Lock()
	if !f.closed {
		f.closed = true
		close(f.closing)
		f.changed.Broadcast()
	}
	f.mu.Unlock()
	<-f.done
	if f.err != nil {
		return errors.Join(errors.New("some outcomes could not be recorded; their calls show no outcome in the log"), f.err)
	}
	return nil
}
