package proxy

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/openleash/openleash-go/authz"
)

// HTTPPassthrough serves hosts over HTTP in front of an upstream over HTTP.
// Statuses, sessions, streams and event ids are the upstream's own; a request's
// body is read whole and ruled on, and what was ruled is what is sent.
//
// Of the host's headers only those of the protocol go up; its credentials,
// cookies, Host and Origin never do. Of the upstream's headers only those come
// down that an MCP host reads: this endpoint shares its origin with our pages.
func (p *Proxy) HTTPPassthrough(up HTTPUpstream) http.Handler {
	if up.Name == "" {
		up.Name = p.Name
	}
	up, err := up.prepare()
	return &passthrough{p: p, up: up, broken: err, calls: map[hostSession][]*hostCall{}, given: map[hostSession]time.Time{}, asked: map[hostSession]*asked{}, passed: map[hostSession]passed{}}
}

type passthrough struct {
	p      *Proxy
	up     HTTPUpstream
	broken error // the upstream's configuration

	mu     sync.Mutex
	calls  map[hostSession][]*hostCall
	given  map[hostSession]time.Time // sessions by whom the upstream gave them to, and their last use
	asked  map[hostSession]*asked    // by the upstream, in sessions that it gave
	passed map[hostSession]passed
}

// passed is what of interest has passed in a session.
type passed struct {
	initialized bool // the handshake is complete
	noTools     bool // the server has none, as it said in it
	opens       bool // the host can open pages, as it said in it
	listed      bool // the host has asked for the tools
	told        int  // changesFor, when it did or was told of a change
}

// note changes what is known of a session.
func (h *passthrough) note(in hostSession, change func(*passed)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.passed[in]
	change(&now)
	h.passed[in] = now
}

// known is what is known of a session.
func (h *passthrough) known(in hostSession) passed {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.passed[in]
}

// hostSession is a session of one agent; another's is another, whatever its id.
type hostSession struct{ agent, id string }

// hostCall is a request of the host on its way.
type hostCall struct {
	id      string
	cancel  context.CancelFunc
	stopped bool // by the host: it must not be forwarded
	left    bool // it was forwarded
	done    func([]byte, failure)
	wrap    wrapper
	expire  *time.Timer // once it waits for its stream to be resumed
}

const (
	// resumeWithin is how long a call whose stream has ended may be answered on
	// a resumed one.
	resumeWithin = 10 * time.Minute
	// maxGiven is how many sessions are remembered, those used last.
	maxGiven = 10_000
)

func (h *passthrough) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	who, known := callerOf(r.Context())
	if !known {
		unauthorized(w)
		return
	}
	if h.broken != nil {
		(&httpError{http.StatusBadGateway, "", codeInternal, h.broken.Error()}).write(w)
		return
	}
	switch r.Method {
	case http.MethodPost:
		h.post(w, r, who)
	case http.MethodGet, http.MethodDelete:
		h.other(w, r, who)
	default:
		methodNotAllowed(w, "GET, POST, DELETE")
	}
}

// post passes one message of the host on, if the ruling is so.
func (h *passthrough) post(w http.ResponseWriter, r *http.Request, who authz.Caller) {
	m, err := readPost(w, r, h.p.Limits)
	if err != nil {
		writeError(w, err)
		return
	}
	in, err := h.session(r.Header, who, m.ID)
	if err != nil {
		writeError(w, err)
		return
	}
	if m.Method == "notifications/cancelled" && m.IsNotification() && h.stop(in, idAt(m.Raw, "params", "requestId")) {
		w.WriteHeader(http.StatusAccepted) // the upstream has never heard of that call
		return
	}
	if m.IsResponse() {
		h.askedIn(in).answered(m)
	}
	x := &exchange{h: h, w: w, r: r, m: m, in: in, who: who, modern: isModern(r.Header.Get(mcp.HeaderProtocolVersion))}
	defer x.end()
	if err := h.p.checkParams(r.Context(), who, r.Header, m, x.askTools); err != nil {
		writeError(w, err)
		return
	}
	if h.p.HideDenied && m.Method == "tools/list" {
		now := h.p.changesFor(who)
		h.note(in, func(p *passed) { p.listed, p.told = true, now })
	}
	ctx, c := h.enter(r.Context(), in, m)
	defer c.cancel()
	ruled := h.p.rule(ctx, who, m, line{ask: x.askTools, notify: x.progress, quiet: x.quiet, opens: h.known(in).opens})
	c.done, c.wrap = ruled.done, ruled.wrap
	if ruled.forward == nil {
		h.leave(in, c)
		x.answerHere(ruled.reply)
		return
	}
	if !h.depart(ctx, c) {
		h.finish(in, c, nil, failure{status: "cancelled", detail: "the host cancelled the call before it was forwarded", unsent: true})
		x.answerHere(nil)
		return
	}
	defer h.abandon(in, c)
	x.forward(c, ruled.forward)
}

// enter notes a request, so that its cancellation finds it.
func (h *passthrough) enter(ctx context.Context, in hostSession, m Message) (context.Context, *hostCall) {
	ctx, cancel := context.WithCancel(ctx)
	c := &hostCall{id: m.ID, cancel: cancel}
	if m.IsRequest() {
		h.mu.Lock()
		h.calls[in] = append(h.calls[in], c)
		h.mu.Unlock()
	}
	return ctx, c
}

// leave forgets a request.
func (h *passthrough) leave(in hostSession, c *hostCall) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.remove(in, c)
}

// remove forgets a request, once; h.mu is held.
func (h *passthrough) remove(in hostSession, c *hostCall) bool {
	i := slices.Index(h.calls[in], c)
	if i < 0 {
		return false
	}
	if h.calls[in] = slices.Delete(h.calls[in], i, i+1); len(h.calls[in]) == 0 {
		delete(h.calls, in)
	}
	return true
}

// finish forgets a call and records, once, what came of it.
func (h *passthrough) finish(in hostSession, c *hostCall, response []byte, f failure) {
	h.mu.Lock()
	first := h.remove(in, c)
	if c.expire != nil {
		c.expire.Stop()
	}
	h.mu.Unlock()
	if first && c.done != nil {
		c.done(response, f)
	}
}

// abandon records a call that nobody has settled when its exchange ends.
func (h *passthrough) abandon(in hostSession, c *hostCall) {
	h.mu.Lock()
	waits := c.expire != nil
	h.mu.Unlock()
	if !waits {
		h.finish(in, c, nil, failure{status: "unknown", detail: "the exchange ended before the call was answered"})
	}
}

// depart marks a call as forwarded, unless its host stopped it or went away.
func (h *passthrough) depart(ctx context.Context, c *hostCall) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.left = !c.stopped && ctx.Err() == nil
	return c.left
}

// stop cancels the calls of that id which have not been forwarded, and reports
// whether there was one. Hosts without a session share their ids' space: then
// the one cancellation stops all, since none may run that its host cancelled.
func (h *passthrough) stop(in hostSession, id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	found := false
	for _, c := range h.calls[in] {
		if id != "" && c.id == id && !c.left {
			c.stopped, found = true, true
			c.cancel()
		}
	}
	return found
}

// stopAll ends what belongs to a session that is no more.
func (h *passthrough) stopAll(in hostSession) {
	var waiting []*hostCall
	h.mu.Lock()
	if a := h.asked[in]; a != nil {
		delete(h.asked, in)
		defer a.end(failure{status: "unknown", detail: "the session ended before the host answered"})
	}
	delete(h.given, in)
	delete(h.passed, in)
	for _, c := range h.calls[in] {
		if !c.left {
			c.stopped = true
			c.cancel()
		} else if c.expire != nil {
			waiting = append(waiting, c)
		}
	}
	h.mu.Unlock()
	for _, c := range waiting {
		h.finish(in, c, nil, failure{status: "unknown", detail: "the session ended before the call was answered"})
	}
}

// park keeps a call whose stream has ended without its answer, for a resumed
// stream to bring it.
func (h *passthrough) park(in hostSession, c *hostCall) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.expire = time.AfterFunc(resumeWithin, func() {
		h.finish(in, c, nil, failure{status: "unknown", detail: "the stream ended before the call was answered, and was not resumed"})
	})
}

// parked finds the call that a response on a resumed stream answers.
func (h *passthrough) parked(in hostSession, id string) *hostCall {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.calls[in] {
		if c.expire != nil && c.id == id {
			return c
		}
	}
	return nil
}

// session is the session that a request belongs to. One that the upstream did
// not give to this agent does not exist for it: "it MUST respond to requests
// containing that session ID with HTTP 404 Not Found" (2025-11-25, Session
// Management); the host then begins anew. In the stateless era the id means
// nothing: "An Mcp-Session-Id header on a request: ignore it".
func (h *passthrough) session(header http.Header, who authz.Caller, requestID string) (hostSession, error) {
	in := hostSession{agent: who.Agent.ID, id: header.Get(mcp.HeaderSessionID)}
	if isModern(header.Get(mcp.HeaderProtocolVersion)) {
		in.id = ""
	}
	if in.id == "" {
		return in, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.given[in]; !ok {
		return in, &httpError{http.StatusNotFound, requestID, codeInvalidRequest,
			"this session does not exist for this agent (it ended, or OpenLeash was restarted): begin a new one with initialize"}
	}
	h.given[in] = time.Now()
	return in, nil
}

// give notes that the upstream gave a session to an agent.
func (h *passthrough) give(in hostSession) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.given[in] = time.Now()
	for len(h.given) > maxGiven {
		oldest := in
		for s, used := range h.given {
			if used.Before(h.given[oldest]) {
				oldest = s
			}
		}
		delete(h.given, oldest)
		delete(h.asked, oldest)
		delete(h.passed, oldest)
	}
}

// upHeaders are the headers of the host that the upstream gets.
func upHeaders(host http.Header, in hostSession) http.Header {
	dropped := strings.ToLower(strings.Join(host.Values("Connection"), ","))
	up := http.Header{"User-Agent": {"openleash"}}
	for name, values := range host {
		if goesUp(name) && !strings.Contains(dropped, strings.ToLower(name)) {
			up[name] = slices.Clone(values)
		}
	}
	if in.id == "" {
		up.Del(mcp.HeaderSessionID)
	}
	return up
}

func goesUp(name string) bool {
	switch name {
	case "Accept", "Accept-Language", "Last-Event-Id", "User-Agent", "Traceparent", "Tracestate":
		return true
	}
	return strings.HasPrefix(name, "Mcp-")
}

// goesDown tells which headers of the upstream the host gets.
func goesDown(name string) bool {
	switch name {
	case "Content-Type", "Cache-Control", "Retry-After", "Allow", "X-Accel-Buffering", "X-Request-Id", "Traceresponse":
		return true
	}
	return strings.HasPrefix(name, "Mcp-")
}

// other passes GET (a stream from the upstream) and DELETE (the end of a
// session).
func (h *passthrough) other(w http.ResponseWriter, r *http.Request, who authz.Caller) {
	in, err := h.session(r.Header, who, "")
	if err != nil {
		writeError(w, err)
		return
	}
	x := &exchange{h: h, w: w, r: r, in: in, who: who}
	defer x.end()
	res, sent, err := h.up.do(r.Context(), r.Method, upHeaders(r.Header, in), nil, nil)
	if err != nil {
		x.fail(h.up.unreachable(err, sent))
		return
	}
	defer res.Body.Close()
	if r.Method == http.MethodDelete && res.StatusCode < 300 || res.StatusCode == http.StatusNotFound && in.id != "" {
		h.stopAll(in)
	}
	if f, ok := h.up.turnedAway(res); ok {
		x.fail(f)
		return
	}
	x.relay(res, nil)
}
