package proxy

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/rs/zerolog"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/authz"
)

// HTTPSessions serves hosts over HTTP in front of any upstream: one, a child
// process say, for each session; or in front of several (Aggregate). ServeHTTP is
// Streamable HTTP, ServeSSE the transport before it.
//
// In the eras with a handshake, initialize makes a session, which belongs to
// the agent that made it. Requests of the stateless era share one upstream per
// agent: their ids, progress tokens and subscription ids are replaced by our
// own on the way up and restored on the way down, so that hosts that count
// alike do not meet.
type HTTPSessions struct {
	name   string // the server's
	limits action.Limits
	log    zerolog.Logger
	p      *Proxy // nil in front of several servers
	dial   func(ctx context.Context, who authz.Caller) (Conn, error)

	keepAlive time.Duration // between comments on a quiet answer

	ctx  context.Context // ends with Close
	stop context.CancelCauseFunc
	work sync.WaitGroup

	mu       sync.Mutex
	sessions map[string]*hostConn       // by session id
	streams  map[string]*sseHost        // the same, over the older transport
	count    map[string]int             // sessions by agent
	shared   map[string]*sharedUpstream // by agent: the stateless era
}

const (
	maxSessions = 32               // of one agent
	sessionIdle = 30 * time.Minute // without a request or an open stream
	keepAlive   = 25 * time.Second // between comments on a quiet stream
	// probeWithin is how long a new upstream may take to tell its era: npx may
	// have to fetch it first.
	probeWithin = 60 * time.Second
	// legacyFor is how long it is remembered that an upstream does not speak the
	// stateless protocol.
	legacyFor = 10 * time.Minute
)

// HTTPHost serves hosts over HTTP in front of upstreams that dial opens.
func (p *Proxy) HTTPHost(dial func(ctx context.Context, who authz.Caller) (Conn, error)) *HTTPSessions {
	return newHTTPSessions(&HTTPSessions{name: p.Name, limits: p.Limits, log: p.Log, p: p, dial: dial})
}

// relay makes a session between a host and an upstream, and tells how the
// upstream is asked for its tools.
func (h *HTTPSessions) relay(who authz.Caller, host, up Conn) (serve func(context.Context) error, ask lister) {
	if h.p == nil {
		return func(ctx context.Context) error { return relay(ctx, host, up) }, nil
	}
	if s, ok := host.(*hostConn); ok && s.shared == nil {
		up = withdrawals{up}
	}
	s := h.p.newSession(who, host, up)
	return s.serve, s.askTools
}

func newHTTPSessions(h *HTTPSessions) *HTTPSessions {
	h.sessions, h.streams = map[string]*hostConn{}, map[string]*sseHost{}
	h.count, h.shared, h.keepAlive = map[string]int{}, map[string]*sharedUpstream{}, keepAlive
	h.ctx, h.stop = context.WithCancelCause(context.Background())
	return h
}

// Close ends every session, with an answer to all that waits, and waits until its
// upstream is closed.
func (h *HTTPSessions) Close() error {
	h.stop(ErrShuttingDown)
	h.work.Wait()
	return nil
}

func (h *HTTPSessions) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	who, known := callerOf(r.Context())
	if !known {
		unauthorized(w)
		return
	}
	switch r.Method {
	case http.MethodPost:
		h.post(w, r, who)
	case http.MethodGet:
		h.get(w, r, who)
	case http.MethodDelete:
		h.delete(w, r, who)
	default:
		methodNotAllowed(w, "GET, POST, DELETE")
	}
}

func (h *HTTPSessions) post(w http.ResponseWriter, r *http.Request, who authz.Caller) {
	m, err := readPost(w, r, h.limits)
	if err == nil && !accepts(r.Header, typeJSON) && !accepts(r.Header, typeSSE) {
		// "The client MUST include an Accept header, listing both application/json
		// and text/event-stream"; one of them is enough to answer.
		err = &httpError{http.StatusNotAcceptable, m.ID, codeInvalidRequest, "Accept: want application/json, text/event-stream"}
	}
	if err != nil {
		writeError(w, err)
		return
	}
	if isModern(r.Header.Get(mcp.HeaderProtocolVersion)) || isModern(metaVersion(m)) {
		h.postShared(w, r, who, m)
		return
	}
	s, err := h.sessionFor(r, who, m)
	if err != nil {
		writeError(w, err)
		return
	}
	if _, refusal := isGoverned(m, fromHost); refusal != nil && !m.IsRequest() {
		// "If the server cannot accept [a notification], it MUST return an HTTP
		// error status code".
		writeJSON(w, http.StatusBadRequest, refusal)
		return
	}
	s.post(w, r, m, m)
}

// sessionFor finds the session of a message, or makes it for an initialize.
func (h *HTTPSessions) sessionFor(r *http.Request, who authz.Caller, m Message) (*hostConn, error) {
	if r.Header.Get(mcp.HeaderSessionID) != "" {
		return h.lookup(r, who, m.ID)
	}
	if m.Method != "initialize" || !m.IsRequest() {
		// "Servers that require a session ID SHOULD respond to requests without an
		// MCP-Session-Id header (other than initialization) with HTTP 400 Bad Request."
		return nil, &httpError{http.StatusBadRequest, m.ID, codeInvalidRequest, "Mcp-Session-Id is missing: begin a session with initialize"}
	}
	return h.begin(who, m)
}

// lookup finds a session of this agent: another's does not exist for it.
func (h *HTTPSessions) lookup(r *http.Request, who authz.Caller, id string) (*hostConn, error) {
	h.mu.Lock()
	s := h.sessions[r.Header.Get(mcp.HeaderSessionID)]
	h.mu.Unlock()
	if s == nil || s.agent != who.Agent.ID || s.ctx.Err() != nil {
		// "It MUST respond to requests containing that session ID with HTTP 404 Not Found."
		return nil, &httpError{http.StatusNotFound, id, codeInvalidRequest, "this session does not exist or has ended: begin a new one with initialize"}
	}
	// "If the server receives a request with an invalid or unsupported
	// MCP-Protocol-Version, it MUST respond with 400 Bad Request."
	if v := r.Header.Get(mcp.HeaderProtocolVersion); v != "" && v != s.negotiated() && !mcp.IsValidProtocolVersion(v) {
		return nil, &httpError{http.StatusBadRequest, id, codeInvalidRequest, fmt.Sprintf("MCP-Protocol-Version %q is not supported, this session speaks %s", v, s.negotiated())}
	}
	return s, nil
}

// begin opens an upstream and a session in front of it.
func (h *HTTPSessions) begin(who authz.Caller, m Message) (*hostConn, error) {
	if err := h.reserve(who.Agent.ID, m.ID); err != nil {
		return nil, err
	}
	up, err := h.dial(h.ctx, who)
	if err != nil {
		h.release(who.Agent.ID)
		return nil, h.unstarted(m, err)
	}
	s := newHostConn(h, who, rand.Text(), nil)
	h.mu.Lock()
	h.sessions[s.id] = s
	h.mu.Unlock()
	h.run(s, who, up, func() {
		h.mu.Lock()
		delete(h.sessions, s.id)
		h.mu.Unlock()
		h.release(who.Agent.ID)
	})
	return s, nil
}

// unstarted is the answer when an upstream cannot be had: 200, so that the
// host shows the reason.
func (h *HTTPSessions) unstarted(m Message, err error) error {
	h.log.Error().Err(err).Str("server", h.name).Msg("could not start the server")
	return &httpError{http.StatusOK, m.ID, codeInternal, fmt.Sprintf("the server %s could not be started: %v", h.name, err)}
}

func (h *HTTPSessions) reserve(agent, id string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ctx.Err() != nil {
		return &httpError{http.StatusServiceUnavailable, id, codeInternal, ErrShuttingDown.Error()}
	}
	if h.count[agent] >= maxSessions {
		return &httpError{http.StatusServiceUnavailable, id, codeInternal,
			fmt.Sprintf("this agent has %d open sessions with %s, as many as it may have: end one, or wait until an idle one ends after %s", maxSessions, h.name, sessionIdle)}
	}
	h.count[agent]++
	return nil
}

func (h *HTTPSessions) release(agent string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.count[agent]--; h.count[agent] <= 0 {
		delete(h.count, agent)
	}
}

// run serves a session until it ends.
func (h *HTTPSessions) run(s *hostConn, who authz.Caller, up Conn, ended func()) {
	s.up = up
	serve, ask := h.relay(who, s, up)
	s.askTools = ask
	h.work.Go(func() {
		h.serve(s.ctx, who, serve)
		s.Close()
		ended()
	})
}

func (h *HTTPSessions) serve(ctx context.Context, who authz.Caller, session func(context.Context) error) {
	if err := session(ctx); err != nil {
		h.log.Warn().Err(err).Str("server", h.name).Str("agent", who.Agent.Name).Msg("session ended")
	}
}

// get opens the stream on which the upstream speaks unasked.
func (h *HTTPSessions) get(w http.ResponseWriter, r *http.Request, who authz.Caller) {
	if r.Header.Get(mcp.HeaderSessionID) == "" || isModern(r.Header.Get(mcp.HeaderProtocolVersion)) {
		// 2026-07-28: "HTTP GET or DELETE to the MCP endpoint: respond with 405
		// Method Not Allowed"; and without a session there is nothing to hear.
		methodNotAllowed(w, "POST")
		return
	}
	s, err := h.lookup(r, who, "")
	if err == nil && !accepts(r.Header, typeSSE) {
		err = &httpError{http.StatusNotAcceptable, "", codeInvalidRequest, "Accept: want text/event-stream"}
	}
	if err != nil {
		writeError(w, err)
		return
	}
	s.listen(w, r)
}

func (h *HTTPSessions) delete(w http.ResponseWriter, r *http.Request, who authz.Caller) {
	if r.Header.Get(mcp.HeaderSessionID) == "" || isModern(r.Header.Get(mcp.HeaderProtocolVersion)) {
		methodNotAllowed(w, "POST")
		return
	}
	s, err := h.lookup(r, who, "")
	if err != nil {
		writeError(w, err)
		return
	}
	s.stop()
	w.WriteHeader(http.StatusNoContent)
}
