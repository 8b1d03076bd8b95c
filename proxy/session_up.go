package proxy

import (
	"context"
	"errors"
	"fmt"
)

// The upstream's half of a session: what it says, and what it was asked.

// readUpstream passes the upstream's messages to the host.
func (s *session) readUpstream(ctx context.Context) error {
	for {
		m, err := s.upstream.Recv(ctx)
		var bad *BadMessage
		if errors.As(err, &bad) {
			if err := s.refuseUpstream(ctx, bad); err != nil {
				return err
			}
			continue
		}
		var lost *lostRequests
		if errors.As(err, &lost) {
			for _, id := range lost.ids {
				s.fail(ctx, id, failure{status: "transport_error", detail: lost.reason})
				s.own.answer(id, nil)
			}
			continue
		}
		if err != nil {
			return err
		}
		if s.own.concerns(m) {
			continue
		}
		var wrap wrapper
		if m.IsResponse() {
			var ok bool
			if wrap, ok = s.answered(m); !ok {
				s.p.Log.Warn().Str("server", s.p.Name).Str("id", m.ID).Msg("the server answered a request that it has not got; the answer is not passed on")
				continue
			}
		}
		if err := s.passDown(ctx, m, wrap); err != nil {
			return err
		}
	}
}

// passDown brings a message of the upstream to the host. What is decided on first
// does not keep those behind it once it is held.
func (s *session) passDown(ctx context.Context, m Message, wrap wrapper) error {
	switch {
	case needsRuling(m):
		return beside(ctx, func(stepAside func()) error {
			return s.down(ctx, m, s.asked.ask(ctx, s.p, s.who, m, wrap, stepAside))
		})
	case s.asked.withdraws(m):
		return nil
	}
	err := s.down(ctx, m, s.p.ruleUp(ctx, s.who, m, wrap, nil))
	s.subscribed(m)
	return err
}

// down carries out a ruling on a message of the upstream.
func (s *session) down(ctx context.Context, m Message, ru ruling) error {
	switch {
	case ru.reply != nil:
		if err := s.upstream.Send(ctx, Message{Raw: ru.reply, ID: m.ID}); err != nil {
			s.p.Log.Warn().Err(err).Str("server", s.p.Name).Msg("could not answer the server")
		}
		return nil
	case ru.forward == nil:
		return nil
	}
	out := m
	out.Raw = ru.forward
	return s.host.Send(ctx, out)
}

// refuseUpstream deals with a bad message of the upstream. A request of its own
// is answered; where it was to answer one of the host's, that one is, here.
func (s *session) refuseUpstream(ctx context.Context, bad *BadMessage) error {
	s.p.Log.Warn().Str("server", s.p.Name).Msg("the server wrote what is no JSON-RPC message; it is not passed on: " + bad.Reason)
	switch {
	case bad.ID == "":
	case bad.Response && s.own.answer(bad.ID, nil):
	case bad.Response && s.hasLeft(bad.ID):
		s.fail(ctx, bad.ID, failure{status: "unknown", detail: "what it wrote is no JSON-RPC message (" + bad.Reason + "). Whether it did what was asked is not known: look before you repeat it"})
	case !bad.Response:
		return s.upstream.Send(ctx, Message{Raw: bad.Reply(), ID: bad.ID})
	}
	return nil
}

func (s *session) hasLeft(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.requests[id]
	return r != nil && r.forwarded
}

// answered ends a forwarded request with the upstream's response. It is false
// for an answer to a request that is still here.
func (s *session) answered(m Message) (wrap wrapper, ok bool) {
	s.mu.Lock()
	r := s.requests[m.ID]
	if r != nil && !r.forwarded {
		s.mu.Unlock()
		return nil, false
	}
	delete(s.requests, m.ID)
	if r != nil && r.method == "initialize" {
		_, s.hasTools = find(m.Raw, "result", "capabilities", "tools")
		s.hasTasks = runsTasks(m)
	}
	s.mu.Unlock()
	if r == nil {
		return nil, true
	}
	if r.done != nil {
		r.done(m.Raw, failure{unsent: m.unsent})
	}
	return r.wrap, true
}

// fail answers a request that the upstream will not answer any more.
func (s *session) fail(ctx context.Context, id string, f failure) {
	s.mu.Lock()
	r := s.requests[id]
	delete(s.requests, id)
	s.mu.Unlock()
	if r == nil {
		return
	}
	if r.done != nil {
		r.done(nil, f)
	}
	s.reply(ctx, errorReply(id, codeInternal, fmt.Sprintf("the server %s did not answer: %s", s.p.Name, f.detail)))
}
