package proxy

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/mark3labs/mcp-go/mcp"
)

// ownRequests are what the proxy itself asks of the upstream in a session, under
// ids that no host can have thought of. What the upstream says about them is for
// nobody else.
type ownRequests struct {
	prefix string // of their ids, as JSON text

	mu   sync.Mutex
	last int
	open map[string]chan []byte // by id
}

func newOwnRequests() ownRequests {
	return ownRequests{prefix: `"openleash-` + rand.Text() + "-"}
}

// begin makes an id, and the place where its answer comes: nil when there will
// be none.
func (o *ownRequests) begin() (id string, answer chan []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last++
	id, answer = fmt.Sprintf(`%s%d"`, o.prefix, o.last), make(chan []byte, 1)
	if o.open == nil {
		o.open = map[string]chan []byte{}
	}
	o.open[id] = answer
	return id, answer
}

// answer ends a request, and reports whether the id is one of ours. An answer
// that comes too late is nobody's.
func (o *ownRequests) answer(id string, raw []byte) bool {
	if !strings.HasPrefix(id, o.prefix) {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if answer := o.open[id]; answer != nil {
		answer <- raw
		delete(o.open, id)
	}
	return true
}

// end ends them all: the upstream has gone.
func (o *ownRequests) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, answer := range o.open {
		answer <- nil
	}
	clear(o.open)
}

// concerns takes what the upstream says about a request of ours.
func (o *ownRequests) concerns(m Message) bool {
	switch {
	case m.IsResponse():
		return o.answer(m.ID, m.Raw)
	case m.Method == "notifications/cancelled":
		return o.answer(idAt(m.Raw, "params", "requestId"), nil)
	}
	return false
}

// askTools is the lister of a session.
func (s *session) askTools(ctx context.Context, call Message, cursor string) ([]byte, error) {
	s.mu.Lock()
	ready := s.greeted && s.hasTools
	s.mu.Unlock()
	if !ready && !isModern(metaVersion(call)) {
		return nil, errTooEarly
	}
	if u, ok := s.upstream.(interface{ Ready(context.Context) error }); ok {
		if err := u.Ready(ctx); err != nil {
			return nil, err
		}
	}
	m, err := listRequest("0", call, cursor)
	if err != nil {
		return nil, err
	}
	return s.send(ctx, m)
}

// send asks the upstream something of ours, under an id of ours, and returns its
// answer.
func (s *session) send(ctx context.Context, m Message) ([]byte, error) {
	id, answer := s.own.begin()
	if err := s.upstream.Send(ctx, withID(m, id)); err != nil {
		s.own.answer(id, nil)
		return nil, err
	}
	select {
	case raw := <-answer:
		if raw == nil {
			return nil, errors.New("it did not answer " + m.Method)
		}
		return raw, nil
	case <-ctx.Done():
		s.own.answer(id, nil)
		go s.takeBack(id)
		return nil, errors.New("it did not answer " + m.Method + " in time")
	}
}

// takeBack cancels a request of ours: "the sender SHOULD issue a cancellation
// notification" when a request has timed out (2025-11-25, Lifecycle).
func (s *session) takeBack(id string) {
	ctx, cancel := context.WithTimeout(context.Background(), acceptWithin)
	defer cancel()
	raw := fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%s,"reason":"openleash: not waited for any longer"}}`, id)
	s.upstream.Send(ctx, Message{Raw: raw, Method: "notifications/cancelled"})
}

// subscribed notes that the server has begun to tell of changes, and that it has
// ended. It "MUST NOT send any notification on the subscription before
// acknowledging it" (2026-07-28, Subscriptions).
func (s *session) subscribed(m Message) {
	var id string
	switch m.Method {
	case mcp.MethodNotificationSubscriptionsAcknowledged:
		id = idAt(m.Raw, "params", "_meta", mcp.MetaKeySubscriptionID)
	case "notifications/cancelled":
		id = idAt(m.Raw, "params", "requestId")
	default:
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.requests[id]; r != nil {
		r.acknowledged = m.Method == mcp.MethodNotificationSubscriptionsAcknowledged
	}
}

// tellToolsChanged tells the host that its list of tools is no longer what it
// would get.
func (s *session) tellToolsChanged(ctx context.Context) {
	for _, subscription := range s.subscriptions() {
		s.reply(ctx, toolsChangedFor(subscription))
	}
}

// subscriptions are those under which the host wants to hear of changes; the
// empty one stands for a session with a handshake.
func (s *session) subscriptions() (ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.listed {
		return nil
	}
	if s.greeted {
		ids = append(ids, "")
	}
	for _, r := range s.requests {
		if r.subscription != "" && r.acknowledged {
			ids = append(ids, r.subscription)
		}
	}
	return ids
}
