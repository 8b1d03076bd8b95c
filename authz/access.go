package authz

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/openleash/openleash-go/audit"
)

// Access is an attempt to come in that was refused. Door and Code are of a few words
// that the program knows; nothing in it is what somebody sent.
type Access struct {
	Door string // "mcp", "portal"
	Code string // "INVALID_TOKEN"
	Why  string // in words
	From string // the address that it came from
}

// Refused records that somebody was not let in, before they are told. The first of its
// door and code has an entry at once. Those of the minute after it are counted and have
// one together, and so on: a flood fills neither the log nor the memory, and its size is
// known. A process that is killed loses the counts of its last minute.
func (s *Service) Refused(a Access) error { return s.refusals.refused(a) }

func (s *Service) writeRefused(a Access, count int) error {
	return s.Record(context.Background(), audit.Entry{
		Event: "access.refused", ActorType: "system", ActorID: "openleash", Code: a.Code,
		Detail: a.Door + ": " + a.Why + ", from " + a.From, Count: count,
	})
}

// refusalsEach is how often there is an entry of one door and code.
const refusalsEach = time.Minute

// refusals counts what was refused.
type refusals struct {
	write func(Access, int) error

	mu      sync.Mutex
	tallies map[tallyOf]*tally // of the last minute
	closed  bool
	writing sync.WaitGroup // entries that are due
}

type tallyOf struct{ door, code string }

// A tally is guarded by refusals.mu.
type tally struct {
	last  Access
	count int // not written yet
	next  *time.Timer
}

func newRefusals(write func(Access, int) error) *refusals {
	return &refusals{write: write, tallies: map[tallyOf]*tally{}}
}

func (r *refusals) refused(a Access) error {
	one, first := r.take(a)
	if !first {
		return nil
	}
	err := r.write(a, 1)
	if err != nil && one != nil {
		r.add(one, 1) // with the next
	}
	return err
}

// take counts an attempt, unless it is the first.
func (r *refusals) take(a Access) (one *tally, first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	of := tallyOf{a.Door, a.Code}
	if one = r.tallies[of]; one != nil {
		one.last = a
		one.count++
		return one, false
	}
	if r.closed {
		return nil, true
	}
	one = &tally{last: a}
	one.next = time.AfterFunc(refusalsEach, func() { r.due(of, one) })
	r.tallies[of] = one
	return one, true
}

func (r *refusals) add(to *tally, count int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	to.count += count
}

// due writes what was counted in a minute; after a quiet one the next is a first again.
func (r *refusals) due(of tallyOf, one *tally) {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return
	}
	if one.count == 0 {
		delete(r.tallies, of)
		r.mu.Unlock()
		return
	}
	last, count := one.last, one.count
	one.count = 0
	one.next.Reset(refusalsEach)
	r.writing.Add(1)
	r.mu.Unlock()
	defer r.writing.Done()
	if r.write(last, count) != nil {
		r.add(one, count)
	}
}

// close writes what was counted since.
func (r *refusals) close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.writing.Wait()
	r.mu.Lock()
	rest := r.tallies
	r.tallies = map[tallyOf]*tally{}
	r.mu.Unlock()
	var errs []error
	for _, one := range rest {
		one.next.Stop()
		if one.count > 0 {
			errs = append(errs, r.write(one.last, one.count))
		}
	}
	return errors.Join(errs...)
}
