package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
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
	return &passthrough{p: p, up: up, broken: err, calls: map[hostSession][]*hostCall{}, given: map[hostSession]time.Time{}, asked: map[hostSession]*asked{}}
}

type passthrough struct {
	p      *Proxy
	up     HTTPUpstream
	broken error // the upstream's configuration

	mu    sync.Mutex
	calls map[hostSession][]*hostCall
	given map[hostSession]time.Time // sessions by whom the upstream gave them to, and their last use
	asked map[hostSession]*asked    // by the upstream, in sessions that it gave
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
	m, err := h.p.readStreamable(w, r)
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
	ctx, c := h.enter(r.Context(), in, m)
	defer c.cancel()
	ruled := h.p.rule(ctx, who, m, func() {}, x.progress)
	c.done = ruled.done
	if ruled.forward == nil {
		h.leave(in, c)
		x.answerHere(ruled.reply)
		return
	}
	if !h.depart(ctx, c) {
		h.finish(in, c, nil, failure{"cancelled", "the host cancelled the call before it was forwarded"})
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
		h.finish(in, c, nil, failure{"unknown", "the exchange ended before the call was answered"})
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
		defer a.end(failure{"unknown", "the session ended before the host answered"})
	}
	delete(h.given, in)
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
		h.finish(in, c, nil, failure{"unknown", "the session ended before the call was answered"})
	}
}

// park keeps a call whose stream has ended without its answer, for a resumed
// stream to bring it.
func (h *passthrough) park(in hostSession, c *hostCall) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.expire = time.AfterFunc(resumeWithin, func() {
		h.finish(in, c, nil, failure{"unknown", "the stream ended before the call was answered, and was not resumed"})
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

// exchange is one HTTP request of the host and what it is answered.
type exchange struct {
	h      *passthrough
	w      http.ResponseWriter
	r      *http.Request
	m      Message
	in     hostSession
	who    authz.Caller
	modern bool

	mu     sync.Mutex // held while the answer is written: progress comes from beside
	began  bool       // the answer has begun, as a stream of events
	closed bool
}

// forward sends a request up and brings its answer back.
func (x *exchange) forward(c *hostCall, body []byte) {
	res, sent, err := x.h.up.do(x.r.Context(), http.MethodPost, upHeaders(x.r.Header, x.in), body, nil)
	if err != nil {
		f := x.h.up.unreachable(err, sent)
		x.h.finish(x.in, c, nil, f)
		x.fail(f)
		return
	}
	defer res.Body.Close()
	x.learnSession(res)
	if f, ok := x.h.up.turnedAway(res); ok {
		x.h.finish(x.in, c, nil, f)
		x.fail(f)
		return
	}
	x.relay(res, c)
}

// learnSession notes sessions that begin and end.
func (x *exchange) learnSession(res *http.Response) {
	id := res.Header.Get(mcp.HeaderSessionID)
	switch {
	case id != "" && id != x.in.id && res.StatusCode < 300:
		x.h.give(hostSession{agent: x.in.agent, id: id})
	case res.StatusCode == http.StatusNotFound && x.in.id != "":
		x.h.stopAll(x.in)
	}
}

// relay passes the upstream's answer on. c is the request it answers, nil for a
// stream that the host opened with GET.
func (x *exchange) relay(res *http.Response, c *hostCall) {
	switch mediaType(res.Header) {
	case typeSSE:
		x.stream(res, c)
	case typeJSON:
		x.whole(res, c)
	default:
		x.plain(res, c)
	}
}

// whole passes on a JSON body.
func (x *exchange) whole(res *http.Response, c *hostCall) {
	raw, err := readAnswer(res)
	if err != nil {
		f := x.h.up.broken(err)
		x.settle(c, nil, f)
		x.fail(f)
		return
	}
	m := readAny(raw)
	answered := c != nil && m.IsResponse() && m.ID != "" && m.ID == c.id
	if answered {
		x.settle(c, raw, failure{})
	} else {
		x.settle(c, nil, failure{"unknown", "the upstream answered " + res.Status + " without a response to the call"})
	}
	clean := x.screen(m, nil)
	switch {
	case clean == nil:
		x.fail(failure{"unknown", "the answer of " + x.h.up.Name + " was not fit to be passed on"})
	case x.streaming() && !answered: // its status can no longer be told
		x.fail(x.answered(res, raw))
	default:
		x.message(res, clean)
	}
}

// answered is the failure of an answer without a response.
func (x *exchange) answered(res *http.Response, body []byte) failure {
	return failure{"unknown", "the upstream server " + x.h.up.Name + " answered " + res.Status + excerpt(body)}
}

// streaming reports whether the answer has begun as a stream of events.
func (x *exchange) streaming() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.began
}

// plain passes on what is neither JSON nor a stream: 202 without a body, or an
// error that some web server wrote. It is text here, whatever it was there.
func (x *exchange) plain(res *http.Response, c *hostCall) {
	x.settle(c, nil, failure{"unknown", "the upstream answered " + res.Status})
	body, _ := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if x.streaming() {
		x.fail(x.answered(res, body))
		return
	}
	x.copyHeaders(res)
	if x.m.Method == "initialize" && mayBeOlder(res.StatusCode) {
		body = append(body, perhapsOlder...)
	}
	if len(body) > 0 {
		x.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	} else {
		x.w.Header().Del("Content-Type")
	}
	x.w.WriteHeader(res.StatusCode)
	x.w.Write(body)
}

// perhapsOlder is the hint for an upstream that does not know this transport.
const perhapsOlder = "\nOpenLeash: if this server speaks the older HTTP+SSE transport, say so by type: sse in its entry in the configuration.\n"

// stream passes on a stream event by event. The bytes of an event stay unless
// its message had to be cleaned.
func (x *exchange) stream(res *http.Response, c *hostCall) {
	x.begin(res)
	events := newSSEReader(res.Body, maxUpstream)
	answered, resumable := false, false
	for {
		e, err := events.next()
		if err != nil {
			x.streamEnded(c, err, answered, resumable)
			return
		}
		if e.name == "endpoint" {
			continue // of the transport before this one: the host would send its messages past us
		}
		resumable = resumable || e.hasID && e.id != "" && !x.modern
		out := e.raw
		if len(e.data) > 0 {
			m := readAny(e.data)
			answered = x.settleEvent(m, c) || answered
			clean := x.screen(m, x.later)
			switch {
			case clean == nil && e.hasID:
				out = e.withData(nil)
			case clean == nil:
				continue
			case string(clean) != string(e.data):
				out = e.withData(clean)
			}
		}
		if x.write(out) != nil {
			x.streamEnded(c, context.Canceled, answered, resumable)
			return
		}
	}
}

// settleEvent records a response when it is one that something waits for.
func (x *exchange) settleEvent(m Message, c *hostCall) bool {
	if !m.IsResponse() || m.ID == "" {
		return false
	}
	if c == nil {
		c = x.h.parked(x.in, m.ID)
	}
	if c == nil || c.id != m.ID {
		return false
	}
	x.settle(c, m.Raw, failure{})
	return true
}

// streamEnded settles what the stream left open. "Disconnection SHOULD NOT be
// interpreted as the client cancelling its request" (2025-11-25): a stream whose
// events have ids may be resumed with GET, and the host does that itself.
func (x *exchange) streamEnded(c *hostCall, err error, answered, resumable bool) {
	if c == nil || answered {
		return
	}
	if resumable {
		x.h.park(x.in, c)
		return
	}
	f := x.h.up.broken(err)
	x.settle(c, nil, f)
	if x.m.IsRequest() {
		x.fail(f)
	}
}

func (x *exchange) settle(c *hostCall, response []byte, f failure) {
	if c != nil {
		x.h.finish(x.in, c, response, f)
	}
}

// progress sends a notification to the host while its call is held. With it
// the answer becomes a stream.
func (x *exchange) progress(raw []byte) {
	x.mu.Lock()
	if x.closed || !accepts(x.r.Header, typeSSE) {
		x.mu.Unlock()
		return
	}
	x.mu.Unlock()
	x.begin(nil)
	x.write(appendData(nil, raw))
}

// begin makes the answer a stream of events.
func (x *exchange) begin(res *http.Response) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.began || x.closed {
		return
	}
	x.began = true
	status := http.StatusOK
	if res != nil {
		x.copyHeaders(res)
		status = res.StatusCode
	} else {
		x.w.Header().Set("Content-Type", typeSSE)
		x.w.Header().Set("Cache-Control", "no-cache")
		x.w.Header().Set("X-Accel-Buffering", "no")
	}
	x.w.WriteHeader(status)
	http.NewResponseController(x.w).Flush()
}

// write sends bytes of the stream at once. A host that reads nothing for long
// loses the stream, not its neighbours.
func (x *exchange) write(raw []byte) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return errors.New("the answer is complete")
	}
	rc := bePatient(x.w)
	if _, err := x.w.Write(raw); err != nil {
		return err
	}
	return rc.Flush()
}

// message answers with one message: as the body, or as the stream's last event.
func (x *exchange) message(res *http.Response, raw []byte) {
	if x.streaming() {
		x.write(appendData(nil, raw))
		return
	}
	if res == nil {
		writeJSON(x.w, http.StatusOK, raw)
		return
	}
	x.copyHeaders(res)
	x.w.Header().Set("Content-Length", strconv.Itoa(len(raw)))
	bePatient(x.w)
	x.w.WriteHeader(res.StatusCode)
	x.w.Write(raw)
}

// answerHere answers without the upstream. "If the server cannot accept [a
// notification], it MUST return an HTTP error status code".
func (x *exchange) answerHere(reply []byte) {
	switch {
	case reply != nil && x.m.IsRequest():
		x.message(nil, reply)
	case reply != nil:
		writeJSON(x.w, http.StatusBadRequest, reply)
	case x.m.IsRequest():
		x.message(nil, errorReply(x.m.ID, codeInternal, "the call was cancelled before it was forwarded"))
	default:
		x.w.WriteHeader(http.StatusAccepted)
	}
}

// fail tells the host that the upstream failed: for a request so that the model
// reads it, as a JSON-RPC error; else by the status.
func (x *exchange) fail(f failure) {
	if x.m.IsRequest() {
		x.message(nil, errorReply(x.m.ID, codeInternal, f.detail))
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.began {
		(&httpError{http.StatusBadGateway, "", codeInternal, f.detail}).write(x.w)
	}
}

func (x *exchange) copyHeaders(res *http.Response) {
	for name, values := range res.Header {
		if goesDown(name) {
			x.w.Header()[name] = slices.Clone(values)
		}
	}
	x.w.Header().Set("X-Content-Type-Options", "nosniff")
}

func (x *exchange) end() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.closed = true
}
