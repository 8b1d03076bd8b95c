package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/openleash/openleash-go/authz"
)

// maxWaiting bounds how many messages of one host may be on their way between
// being read and being forwarded, held ones included: beyond it the host is
// not read from until some have left.
const maxWaiting = 1024

// session moves messages between one host and one upstream.
type session struct {
	p        *Proxy
	who      authz.Caller
	host     Conn
	upstream Conn

	last chan struct{} // closed when the message read last has left; owned by readHost
	room chan struct{} // one for each message on its way

	ctx   context.Context // ends with the session
	waits chan struct{}   // one for each thing that is done later

	asked asked // by the server
	own   ownRequests

	mu       sync.Mutex
	requests map[string]*request // by id: the host's, not answered yet
	greeted  bool                // the handshake is complete
	opens    bool                // the host said in it that it can open pages
	hasTools bool                // the server said so in it
	hasTasks bool                // for tools/call, as the server said in it
	listed   bool                // the host has asked for the tools
	hostGone bool                // nobody waits any more: what is held is withdrawn
	closed   bool                // the upstream has gone: no request is taken any more
}

// turn is a message's place among those of its host: it leaves after the one
// before it, and the one behind it after it has left.
type turn struct {
	before <-chan struct{}
	left   chan struct{}
	once   sync.Once
}

// pass lets the next one go: after this one has left, or, when it is held and
// steps aside, as soon as those before it have.
func (t *turn) pass(ctx context.Context) {
	t.once.Do(func() {
		select {
		case <-t.before:
			close(t.left)
		default:
			go func() {
				t.wait(ctx)
				close(t.left)
			}()
		}
	})
}

func (t *turn) wait(ctx context.Context) {
	select {
	case <-t.before:
	case <-ctx.Done():
	}
}

// request is one request of the host.
type request struct {
	method    string
	cancel    context.CancelFunc // nil for what is not governed
	held      bool               // it waits for its owner
	cancelled bool
	forwarded bool
	sent      chan struct{} // of what was forwarded: closed when it has been sent, or cannot be
	done      func([]byte, failure)
	wrap      wrapper

	subscription string // its id as it was written, when it asks to be told of changes of the tools
	acknowledged bool   // the server has begun to
}

// Serve runs one session between a host and its upstream until either side
// ends; it closes both. The error is that of the side which failed.
func (p *Proxy) Serve(ctx context.Context, who authz.Caller, host, upstream Conn) error {
	return p.newSession(who, host, upstream).serve(ctx)
}

func (p *Proxy) newSession(who authz.Caller, host, upstream Conn) *session {
	s := &session{
		p: p, who: who, host: host, upstream: upstream, own: newOwnRequests(),
		last: make(chan struct{}), room: make(chan struct{}, maxWaiting), requests: map[string]*request{},
		ctx: context.Background(), waits: make(chan struct{}, maxLater),
	}
	close(s.last)
	return s
}

func (s *session) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.ctx = ctx
	defer s.host.Close()
	defer s.own.end()
	defer s.upstream.Close()

	s.p.whenHidden(ctx, s.who, s.p.changesFor(s.who), func(int) { s.tellToolsChanged(ctx) })
	hostEnd, upstreamEnd := make(chan error, 1), make(chan error, 1)
	go s.readHost(ctx, hostEnd)
	go func() { upstreamEnd <- s.readUpstream(ctx) }()
	select {
	case err := <-hostEnd:
		s.withdraw()
		s.settle(ctx)
		return clean(err)
	case err := <-upstreamEnd:
		return s.upstreamGone(ctx, err)
	case <-ctx.Done():
		s.withdraw()
		s.leaveUnknown(ctx)
		return nil
	}
}

func clean(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// readHost takes the host's messages in order, until the host has ended. Who
// has read a call decides on it, since it is running, and another goroutine reads
// on: that one may take its time to wake up.
func (s *session) readHost(ctx context.Context, ended chan<- error) {
	for {
		decide, err := s.next(ctx)
		if err != nil {
			ended <- err
			return
		}
		if decide != nil {
			go s.readHost(ctx, ended)
			decide()
			return
		}
	}
}

// next reads a message. What is governed is left to decide; all else is done.
func (s *session) next(ctx context.Context) (decide func(), err error) {
	m, err := s.host.Recv(ctx)
	var bad *BadMessage
	if errors.As(err, &bad) {
		return nil, s.refuse(ctx, bad)
	}
	if err != nil || s.cancelsOurs(ctx, m) {
		return nil, err
	}
	select {
	case s.room <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return s.take(ctx, m), nil
}

// refuse answers a bad message of the host. One that was to answer a request of
// the upstream is not the host's to hear of, which may have a request of that
// id itself: the upstream waits for it.
func (s *session) refuse(ctx context.Context, bad *BadMessage) error {
	if bad.Response && bad.ID != "" {
		return s.upstream.Send(ctx, Message{Raw: bad.Reply(), ID: bad.ID})
	}
	return s.toHost(ctx, bad.Reply())
}

// take gives a message its turn and has it ruled on, governed calls beside each
// other: their commits gather, their order stays.
func (s *session) take(ctx context.Context, m Message) (decide func()) {
	r, err := s.open(m)
	if err != nil {
		s.reply(ctx, errorReply(m.ID, codeInvalidRequest, err.Error()))
		<-s.room
		return nil
	}
	if m.IsResponse() {
		s.asked.answered(m)
	}
	t := &turn{before: s.last, left: make(chan struct{})}
	s.last = t.left
	if r == nil || !slices.Contains(fromHost, m.Method) && !concernsTasks(m) {
		s.relay(ctx, t, m, r)
		return nil
	}
	callCtx, cancel := context.WithCancel(ctx)
	s.mu.Lock()
	r.cancel = cancel
	s.mu.Unlock()
	return func() { s.decide(callCtx, ctx, t, m, r) }
}

// relay passes on what is not governed: at once, unless a call before it is
// being decided, or it asks an upstream that is being started again. The host
// must be read on meanwhile: it may cancel that call.
func (s *session) relay(ctx context.Context, t *turn, m Message, r *request) {
	ru := s.p.rule(ctx, s.who, m, line{})
	asksDown := r != nil && ru.forward != nil && s.isDown()
	select {
	case <-t.before:
		if !asksDown {
			s.leave(ctx, t, m, r, ru)
			return
		}
	default:
	}
	go func() {
		t.wait(ctx)
		if asksDown {
			if refusal := s.awaitUpstream(ctx, m); refusal != nil {
				ru = ruling{reply: refusal}
			}
		}
		s.leave(ctx, t, m, r, ru)
	}()
}

// isDown and awaitUpstream concern an upstream that is started again when it
// ends (kept). While it is, requests wait for it, a short time, and are then
// refused.
func (s *session) isDown() bool {
	u, ok := s.upstream.(interface{ Down() bool })
	return ok && u.Down()
}

func (s *session) awaitUpstream(ctx context.Context, m Message) (refusal []byte) {
	if u, ok := s.upstream.(interface{ Ready(context.Context) error }); ok {
		if err := u.Ready(ctx); err != nil {
			return errorReply(m.ID, codeInternal, fmt.Sprintf("the server %s is not there: %v", s.p.Name, err))
		}
	}
	return nil
}

// decide has a call ruled on and lets it leave in its turn, or, when it was
// held, at once. callCtx ends with the call's cancellation, ctx with the session:
// what was ruled is carried out under ctx.
func (s *session) decide(callCtx, ctx context.Context, t *turn, m Message, r *request) {
	defer r.cancel()
	stepAside := func() {
		s.holding(r)
		t.pass(ctx)
	}
	ru := s.ruleOn(callCtx, m, stepAside)
	if !s.isHeld(r) {
		t.wait(ctx)
	}
	s.leave(ctx, t, m, r, ru)
}

// ruleOn has a call ruled on when there is somebody to forward it to: an approval
// that can be used once is not spent on an upstream that is down. That one may
// end again while the call is held.
func (s *session) ruleOn(ctx context.Context, m Message, stepAside func()) ruling {
	refusal := s.awaitUpstream(ctx, m)
	if ctx.Err() != nil {
		return ruling{} // the host has cancelled it
	}
	if refusal != nil {
		return ruling{reply: refusal}
	}
	ru := s.p.rule(ctx, s.who, m, s.line(ctx, stepAside))
	if ru.forward != nil {
		s.awaitUpstream(ctx, m) // in vain: handing it over says so
	}
	return ru
}

// line leads back to the host of a call.
func (s *session) line(ctx context.Context, stepAside func()) line {
	s.mu.Lock()
	defer s.mu.Unlock()
	return line{
		ask: s.askTools, departed: stepAside, notify: func(raw []byte) { s.reply(ctx, raw) }, opens: s.opens,
		later: s.later, send: s.send, lasting: s.ctx, tasks: s.hasTasks,
	}
}

// maxLater bounds how many pages are waited for at once.
const maxLater = 64

// later runs what takes longer than a ruling, until the session ends.
func (s *session) later(wait func(ctx context.Context) []byte) bool {
	select {
	case s.waits <- struct{}{}:
	default:
		return false
	}
	go func() {
		defer func() { <-s.waits }()
		if raw := wait(s.ctx); raw != nil {
			s.reply(s.ctx, raw)
		}
	}()
	return true
}

// leave carries a ruling out, and lets the next one go.
func (s *session) leave(ctx context.Context, t *turn, m Message, r *request, ru ruling) {
	s.act(ctx, m, r, ru)
	t.pass(ctx)
	<-s.room
}

// open notes a request of the host, so that its answer finds it.
func (s *session) open(m Message) (*request, error) {
	if !m.IsRequest() {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("the server %s has ended", s.p.Name)
	}
	if _, taken := s.requests[m.ID]; taken {
		return nil, fmt.Errorf("id %s is that of a request which has not been answered yet; use another", m.ID)
	}
	r := &request{method: m.Method, subscription: subscriptionTo(m)}
	s.listed = s.listed || m.Method == "tools/list"
	if m.Method == "initialize" {
		s.greeted, s.opens = false, declaresURL(m)
	}
	s.requests[m.ID] = r
	return r, nil
}

// act forwards or answers. The request's cancellation is looked at under the
// lock: a cancelled call is never forwarded, a forwarded one is the upstream's
// to cancel.
func (s *session) act(ctx context.Context, m Message, r *request, ru ruling) {
	if ru.forward == nil && ru.reply == nil && isShuttingDown(ctx) {
		return // Serve answers it
	}
	if ru.forward == nil {
		if s.forget(m.ID, r) && ru.reply != nil {
			s.reply(ctx, ru.reply)
		}
		return
	}
	if r != nil && !s.depart(r, ru) {
		if !isShuttingDown(ctx) {
			s.forget(m.ID, r)
		}
		if ru.done != nil {
			ru.done(nil, failure{status: "cancelled", detail: "the host cancelled the call before it was forwarded", unsent: true})
		}
		return
	}
	out := m
	out.Raw = ru.forward
	err := s.upstream.Send(ctx, out)
	if r != nil {
		close(r.sent)
	}
	if err != nil {
		s.p.Log.Warn().Err(err).Str("server", s.p.Name).Msg("could not hand a message to the server")
		s.fail(ctx, m.ID, failure{status: "transport_error", detail: err.Error()})
		return
	}
	if m.Method == "notifications/initialized" {
		s.mu.Lock()
		s.greeted = true
		s.mu.Unlock()
	}
}

// depart marks a request as forwarded, unless it was cancelled before.
func (s *session) depart(r *request, ru ruling) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.cancelled || s.closed {
		return false
	}
	r.forwarded, r.sent, r.done, r.wrap = true, make(chan struct{}), ru.done, ru.wrap
	return true
}

// forget ends a request that is answered here. It is false for one that has been
// answered: all are when OpenLeash ends.
func (s *session) forget(id string, r *request) bool {
	if r == nil {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.requests[id] != r {
		return false
	}
	delete(s.requests, id)
	return true
}

// cancelsOurs handles a cancellation, and reports whether it ends here: the
// upstream has never heard of a call that was not forwarded. One that was is
// the upstream's to cancel, and is not waited for: "Receivers of a cancellation
// notification SHOULD … Not send a response for the cancelled request" (MCP,
// Cancellation). Nor does it overtake its call on the way there.
func (s *session) cancelsOurs(ctx context.Context, m Message) bool {
	if m.Method != "notifications/cancelled" || !m.IsNotification() {
		return false
	}
	ours, sent := s.cancelled(idAt(m.Raw, "params", "requestId"))
	if sent != nil {
		select {
		case <-sent:
		case <-ctx.Done():
		}
	}
	return ours
}

// cancelled cancels a request of the host, or, when that was forwarded, tells what is
// closed when it is sent.
func (s *session) cancelled(id string) (ours bool, sent <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.requests[id]
	switch {
	case r == nil:
		return false, nil
	case r.forwarded:
		delete(s.requests, id)
		if r.done != nil {
			r.done(nil, failure{status: "cancelled", detail: "the host cancelled the call after it was forwarded; what the server did is not known"})
		}
		return false, r.sent
	case r.cancel == nil:
		return false, nil
	}
	r.cancelled = true
	r.cancel()
	return true, nil
}

func (s *session) isHeld(r *request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return r.held
}

// holding notes that a call waits for its owner.
func (s *session) holding(r *request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.held = true
	if s.hostGone {
		r.cancelled = true
		r.cancel()
	}
}

// reply sends a message of ours to the host.
func (s *session) reply(ctx context.Context, raw []byte) {
	if err := s.toHost(ctx, raw); err != nil && ctx.Err() == nil {
		s.p.Log.Warn().Err(err).Msg("could not answer the host")
	}
}

func (s *session) toHost(ctx context.Context, raw []byte) error {
	m, err := ReadMessage(raw, anyMessage(raw))
	if err != nil {
		return fmt.Errorf("our own message is malformed: %w", err)
	}
	return s.host.Send(ctx, m)
}
