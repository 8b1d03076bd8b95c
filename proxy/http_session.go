package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/openleash/openleash-go/authz"
)

// hostConn is the host's side of a session over HTTP: what is POSTed comes out
// of Recv, and Send finds the stream that a message belongs to.
type hostConn struct {
	inbox
	id       string // the session's; empty for stateless requests
	agent    string
	shared   *idMap // for stateless requests
	up       Conn
	askTools lister // nil in front of several servers

	mu       sync.Mutex
	version  string             // negotiated by initialize
	posts    map[string]*stream // requests not answered yet, by the id that the upstream sees
	order    []*stream          // the same, oldest first
	listener *stream            // the host's GET
	backlog  []Message          // for the next GET
	backSize int
	active   int // HTTP requests under way
	idle     *time.Timer
}

// inbox is what a host over HTTP has POSTed, until Recv takes it; it ends with
// the session.
type inbox struct {
	server string
	in     chan Message
	ctx    context.Context
	stop   context.CancelFunc
}

func (h *HTTPSessions) newInbox() inbox {
	b := inbox{server: h.name, in: make(chan Message)}
	b.ctx, b.stop = context.WithCancel(h.ctx)
	return b
}

// Recv returns what the host has POSTed.
func (b *inbox) Recv(ctx context.Context) (Message, error) {
	select {
	case m := <-b.in:
		return m, nil
	case <-b.ctx.Done():
		return Message{}, io.EOF
	case <-ctx.Done():
		return Message{}, ctx.Err()
	}
}

// take hands a message of the host to Recv.
func (b *inbox) take(ctx context.Context, m Message) error {
	select {
	case b.in <- m:
		return nil
	case <-ctx.Done():
		return b.notTaken(ctx)
	case <-b.ctx.Done():
		return b.notTaken(b.ctx)
	}
}

// notTaken is why, once one of the two has ended.
func (b *inbox) notTaken(ctx context.Context) error {
	switch {
	case isShuttingDown(ctx):
		return errors.New(shutDown(b.server, false).detail)
	case ctx == b.ctx:
		return errors.New("the session with " + b.server + " has ended")
	}
	return ctx.Err()
}

const (
	maxQueue   = 8 << 20 // bytes that wait for one stream of a host
	maxBacklog = 1 << 20 // bytes that wait for a host's first GET
)

func newHostConn(h *HTTPSessions, who authz.Caller, id string, shared *idMap) *hostConn {
	s := &hostConn{inbox: h.newInbox(), id: id, agent: who.Agent.ID, shared: shared, posts: map[string]*stream{}}
	s.idle = time.AfterFunc(sessionIdle, s.endIfIdle)
	return s
}

func (s *hostConn) negotiated() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.version
}

// enter and leave frame each HTTP request of the session.
func (s *hostConn) enter() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active++
}

func (s *hostConn) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active--; s.active == 0 {
		s.idle.Reset(sessionIdle)
	}
}

func (s *hostConn) endIfIdle() {
	s.mu.Lock()
	idle := s.active == 0
	s.mu.Unlock()
	if idle {
		s.stop()
	}
}

// Close ends the session; requests that wait are told so.
func (s *hostConn) Close() error {
	s.stop()
	s.idle.Stop()
	return nil
}

// post serves one message: m as the host wrote it, up as the upstream sees it.
func (s *hostConn) post(w http.ResponseWriter, r *http.Request, m, up Message) {
	s.enter()
	defer s.leave()
	if !m.IsRequest() {
		if err := s.take(r.Context(), up); err != nil {
			(&httpError{http.StatusNotFound, "", codeInvalidRequest, err.Error()}).write(w)
			return
		}
		s.cancelled(up)
		w.WriteHeader(http.StatusAccepted) // "with no body"
		return
	}
	st := newStream(accepts(r.Header, typeSSE))
	st.method, st.token = m.Method, idAt(up.Raw, "params", "_meta", "progressToken")
	if !s.open(up.ID, st) {
		(&httpError{http.StatusBadRequest, m.ID, codeInvalidRequest, "id " + m.ID + " is that of a request which has not been answered yet: use another"}).write(w)
		return
	}
	defer s.close(up.ID, st)
	a := &sessionAnswer{s: s, w: w, m: m, json: accepts(r.Header, typeJSON), events: accepts(r.Header, typeSSE)}
	if err := s.take(r.Context(), up); err != nil {
		a.last(errorReply(m.ID, codeInternal, err.Error()))
		return
	}
	if !a.write(r.Context(), st) {
		s.withdraw(up.ID)
	}
}

// cancelled ends the answer to a request that the host has cancelled: those who
// got the cancellation do not answer it any more, and its stream would stay
// open.
func (s *hostConn) cancelled(m Message) {
	if m.Method != "notifications/cancelled" {
		return
	}
	id := idAt(m.Raw, "params", "requestId")
	s.mu.Lock()
	st := s.posts[id]
	s.mu.Unlock()
	if st != nil {
		st.push(s.ctx, item{raw: errorReply(id, codeInternal, "the host has cancelled this request"), last: true}, false)
	}
}

// open notes a request; false when its id is taken.
func (s *hostConn) open(id string, st *stream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.posts[id] != nil {
		return false
	}
	s.posts[id] = st
	s.order = append(s.order, st)
	return true
}

func (s *hostConn) close(id string, st *stream) {
	s.mu.Lock()
	if s.posts[id] == st {
		delete(s.posts, id)
	}
	s.order = slices.DeleteFunc(s.order, func(o *stream) bool { return o == st })
	s.mu.Unlock()
	st.abandon()
	if s.shared != nil {
		s.shared.forget(id)
	}
}

// listen serves a GET. A newer one takes the place of an older, whose host may
// be gone without a word.
func (s *hostConn) listen(w http.ResponseWriter, r *http.Request) {
	s.enter()
	defer s.leave()
	st := newStream(true)
	s.mu.Lock()
	old := s.listener
	s.listener = st
	for _, m := range s.backlog {
		st.queue = append(st.queue, item{raw: m.Raw})
		st.size += len(m.Raw)
	}
	s.backlog, s.backSize = nil, 0
	s.mu.Unlock()
	if old != nil {
		old.abandon()
	}
	defer func() {
		s.mu.Lock()
		if s.listener == st {
			s.listener = nil
		}
		s.mu.Unlock()
		st.abandon()
	}()
	a := &sessionAnswer{s: s, w: w}
	a.begin()
	a.write(r.Context(), st)
}

// hostGone is the reason in the cancellations that we write.
const hostGone = "openleash: the host closed the stream of this request"

// withdraw cancels a request whose host went away, so that a held call never
// runs. In the stateless era that is the cancellation also of what was
// forwarded; before it was not (withdrawals).
func (s *hostConn) withdraw(id string) {
	raw := fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%s,"reason":%q}}`, id, hostGone)
	s.take(context.Background(), Message{Raw: raw, Method: "notifications/cancelled"})
}

// withdrawals is an upstream that does not hear of our cancellations where
// "Disconnection SHOULD NOT be interpreted as the client cancelling its
// request" (2025-11-25): they were meant for held calls.
type withdrawals struct{ Conn }

func (u withdrawals) Send(ctx context.Context, m Message) error {
	if m.Method == "notifications/cancelled" {
		if reason, _ := stringAt(m.Raw, "params", "reason"); reason == hostGone {
			return nil
		}
	}
	return u.Conn.Send(ctx, m)
}

// Fate, Down and Ready are the upstream's, for Serve.
func (u withdrawals) Fate() error {
	if f, ok := u.Conn.(interface{ Fate() error }); ok {
		return f.Fate()
	}
	return nil
}

func (u withdrawals) Down() bool {
	d, ok := u.Conn.(interface{ Down() bool })
	return ok && d.Down()
}

func (u withdrawals) Ready(ctx context.Context) error {
	if r, ok := u.Conn.(interface{ Ready(context.Context) error }); ok {
		return r.Ready(ctx)
	}
	return nil
}

// Send hands a message of the upstream to the stream that it belongs to.
func (s *hostConn) Send(ctx context.Context, m Message) error {
	raw, request := m.Raw, ""
	if s.shared != nil {
		raw, request = s.shared.down(m)
	}
	out := m
	out.Raw = raw
	if m.IsResponse() {
		s.respond(ctx, m, raw)
		return nil
	}
	if s.shared != nil && m.IsRequest() {
		// "The server MUST NOT send independent JSON-RPC requests on this stream."
		return s.refuse(ctx, m, codeMethodNotFound, "this host takes no requests (2026-07-28)")
	}
	s.mu.Lock()
	st := s.route(m, request)
	if st == nil {
		overflow := s.keep(out)
		s.mu.Unlock()
		for _, lost := range overflow {
			if lost.IsRequest() {
				s.refuse(ctx, lost, codeInternal, "the host has no stream open on which it could be asked")
			}
		}
		return nil
	}
	s.mu.Unlock()
	if st.sse {
		st.push(ctx, item{raw: raw}, s.shared == nil)
	}
	return nil
}

// respond gives a response to the POST that asked. One that nobody waits for
// is dropped: "The server MUST NOT send a JSON-RPC response on the [GET] stream
// unless resuming".
func (s *hostConn) respond(ctx context.Context, m Message, raw []byte) {
	s.mu.Lock()
	st := s.posts[m.ID]
	if st != nil {
		delete(s.posts, m.ID)
	}
	if v, ok := stringAt(raw, "result", "protocolVersion"); ok && st != nil && st.method == "initialize" {
		s.version = v
	}
	s.mu.Unlock()
	if st != nil {
		st.push(ctx, item{raw: raw, last: true}, s.shared == nil)
	}
}

// refuse answers a request of the upstream that cannot reach its host.
func (s *hostConn) refuse(ctx context.Context, m Message, code int, reason string) error {
	return s.up.Send(ctx, Message{Raw: errorReply(m.ID, code, reason), ID: m.ID})
}

// route finds the stream for what is no response: the request that it names;
// else, when just one request is open, that one, since servers mostly speak of
// what they are doing; else the host's GET; else the latest request. s.mu is
// held.
func (s *hostConn) route(m Message, request string) *stream {
	if st := s.posts[request]; st != nil {
		return st
	}
	if m.Method == "notifications/progress" {
		token := idAt(m.Raw, "params", "progressToken")
		for _, st := range s.order {
			if token != "" && st.token == token && st.sse {
				return st
			}
		}
	}
	var open []*stream
	for _, st := range s.order {
		if st.sse && st.method != "subscriptions/listen" && !st.complete() {
			open = append(open, st)
		}
	}
	switch {
	case s.listener != nil && (len(open) != 1 || isNews(m.Method)):
		return s.listener
	case len(open) > 0:
		return open[len(open)-1]
	}
	return s.listener
}

// isNews tells notifications that belong to no request.
func isNews(method string) bool {
	return strings.HasSuffix(method, "/list_changed") || method == "notifications/resources/updated"
}

// keep stores a message for the next GET and returns those that no longer
// fit, the oldest. s.mu is held.
func (s *hostConn) keep(m Message) (lost []Message) {
	if s.shared != nil {
		return nil // there will be no GET
	}
	s.backlog = append(s.backlog, m)
	s.backSize += len(m.Raw)
	for s.backSize > maxBacklog {
		s.backSize -= len(s.backlog[0].Raw)
		lost = append(lost, s.backlog[0])
		s.backlog = s.backlog[1:]
	}
	return lost
}
