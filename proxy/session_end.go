package proxy

import (
	"context"
	"fmt"
	"time"
)

// How a session ends: with its host, with its upstream, or with OpenLeash.

// withdraw cancels every held call, and those that would be held from now on:
// their host is gone. What is only being decided goes on.
func (s *session) withdraw() {
	s.asked.end(failure{status: "unknown", detail: "the host went away before it answered"})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hostGone = true
	for _, r := range s.requests {
		if r.held && !r.forwarded {
			r.cancelled = true
			r.cancel()
		}
	}
}

// settleFor is how long, after the host has closed its side, the upstream may
// still answer what it was asked.
const settleFor = 5 * time.Second

func (s *session) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settleFor)
	defer cancel()
	s.drain(ctx)
	s.leaveUnknown(ctx)
}

// drain waits until all that the host has asked is answered.
func (s *session) drain(ctx context.Context) {
	for ctx.Err() == nil {
		s.mu.Lock()
		n := len(s.requests)
		s.mu.Unlock()
		if n == 0 && len(s.room) == 0 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// leaveUnknown records the calls whose outcome nobody saw. When OpenLeash itself
// ends, the host is still there: it gets an answer to all that waits.
func (s *session) leaveUnknown(ctx context.Context) {
	tell := isShuttingDown(ctx)
	s.mu.Lock()
	s.closed = true
	open := s.requests
	s.requests = map[string]*request{}
	s.mu.Unlock()
	for id, r := range open {
		why := failure{status: "unknown", detail: "the host went away before the server answered"}
		if tell {
			why = shutDown(s.p.Name, r.forwarded)
			s.reply(ctx, errorReply(id, codeInternal, why.detail))
		}
		if r.forwarded && r.done != nil {
			r.done(nil, why)
		}
	}
	if tell {
		s.host.Close() // it waits for that, and the upstream's end may take a while
	}
}

// upstreamGone answers everything that waits, once the upstream has ended.
func (s *session) upstreamGone(ctx context.Context, err error) error {
	err = closed(s.upstream, err)
	s.asked.end(failure{status: "cancelled", detail: "the server ended before the host answered"})
	s.own.end()
	s.mu.Lock()
	s.closed = true
	var ids []string
	for id, r := range s.requests {
		ids = append(ids, id)
		if r.cancel != nil && !r.forwarded {
			r.cancelled = true
			r.cancel()
		}
	}
	s.mu.Unlock()
	for _, id := range ids {
		s.fail(ctx, id, failure{status: "transport_error", detail: err.Error()})
	}
	ctx, cancel := context.WithTimeout(ctx, settleFor)
	defer cancel()
	s.drain(ctx) // some calls answer for themselves
	return fmt.Errorf("server %s: %w", s.p.Name, err)
}

// closed closes an upstream that has ended with err, and tells how: that collects
// a child's exit status and last words, which say more.
func closed(upstream Conn, err error) error {
	upstream.Close()
	return fateOf(upstream, err)
}
