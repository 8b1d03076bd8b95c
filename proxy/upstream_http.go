package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
)

// DialHTTP returns a Conn that speaks Streamable HTTP to an upstream, for a
// host that does not. Nothing is sent before the first Send.
//
// Each message is a POST of its own. Send returns when the request is on its
// way, so that messages depart in the order of calls and many requests can be
// in flight; a notification or response is waited for until it was accepted. A
// request is always answered: when the upstream cannot be reached, refuses, or
// breaks off, by a JSON-RPC error that names it and the reason. A session that the
// upstream has forgotten is begun anew behind the host's back (upstream_anew.go).
func DialHTTP(ctx context.Context, up HTTPUpstream) (Conn, error) {
	c, err := newHTTPConn(ctx, up)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func newHTTPConn(ctx context.Context, up HTTPUpstream) (*httpConn, error) {
	up, err := up.prepare()
	if err != nil {
		return nil, err
	}
	c := &httpConn{up: up, in: make(chan received), open: map[string]context.CancelFunc{}, memory: newMemory(up.Log, up.Name)}
	c.ctx, c.stop = context.WithCancel(context.WithoutCancel(ctx))
	return c, nil
}

type httpConn struct {
	up   HTTPUpstream
	in   chan received // without room: an upstream that talks faster than the host reads waits
	ctx  context.Context
	stop context.CancelFunc
	work tasks
	once sync.Once

	mirrored mirroredTools

	// missed, when not nil, is told of each message that the upstream has not
	// answered, and reports whether it has seen to it. Without it a request is
	// answered by an error. It is set before the first Send.
	missed func(m Message, why unanswered) (seen bool)

	mu        sync.Mutex
	session   string                        // the upstream's, since its answer to initialize
	version   string                        // negotiated by initialize; empty in the stateless era
	begun     int                           // sessions so far
	listening int                           // the session whose GET stream was opened
	open      map[string]context.CancelFunc // requests in flight, by id
	older     *sseConn                      // when the upstream speaks the older transport only
	memory    memory                        // what the upstream knows in its session
	lost      string                        // a session that it has forgotten
	renewal   *renewal                      // of a session, under way
}

type received struct {
	m   Message
	err error
}

const (
	// acceptWithin is how long a notification waits to be accepted before the
	// next message departs anyway.
	acceptWithin = 30 * time.Second
	// lingerFor is how long a stream is read after its response: "the server
	// SHOULD terminate the SSE stream" then.
	lingerFor = 5 * time.Second
	// maxResumes is how often in a row a stream is resumed in vain.
	maxResumes   = 5
	resumeAfter  = time.Second // without a retry field
	maxRetry     = time.Minute // with one
	farewellTime = 3 * time.Second
)

func (c *httpConn) Recv(ctx context.Context) (Message, error) {
	select {
	case r := <-c.in:
		return r.m, r.err
	default:
	}
	select {
	case r := <-c.in:
		return r.m, r.err
	case <-c.ctx.Done():
		return Message{}, io.EOF
	case <-ctx.Done():
		return Message{}, ctx.Err()
	}
}

func (c *httpConn) Send(ctx context.Context, m Message) error {
	if c.ctx.Err() != nil {
		return fmt.Errorf("the connection to the upstream server %s is closed", c.up.Name)
	}
	if older := c.fellBack(); older != nil {
		return older.Send(ctx, m)
	}
	if m.Method == "notifications/cancelled" && m.IsNotification() && c.cancelStream(m) {
		return nil
	}
	if !c.work.send(ctx, c.ctx, m, func(departed func()) { c.post(m, departed) }) {
		return fmt.Errorf("the connection to the upstream server %s is closed", c.up.Name)
	}
	return nil
}

// cancelStream cancels a request of the stateless era. "Closing the SSE
// response stream is the cancellation signal […] No notifications/cancelled
// message is required or expected" (2026-07-28, Cancellation).
func (c *httpConn) cancelStream(m Message) bool {
	c.mu.Lock()
	modern := c.version == ""
	c.mu.Unlock()
	if modern {
		c.hangUp(m)
	}
	return modern
}

// hangUp closes the stream of a request that its host has cancelled, in the eras
// with a handshake after the upstream has accepted the cancellation. There "the
// sender of the cancellation notification SHOULD ignore any response to the
// request that arrives afterward", and most upstreams never end the stream.
// It also makes sure: a cancellation that has overtaken its request found nothing
// to cancel, but an OpenLeash withdraws a held call whose stream is closed.
func (c *httpConn) hangUp(m Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cancel := c.open[idAt(m.Raw, "params", "requestId")]; cancel != nil {
		cancel()
	}
}

// post sends one message and receives what it is answered with. A request that
// comes upon a forgotten session is sent in a new one: nothing was done.
func (c *httpConn) post(m Message, departed func()) {
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	if m.IsRequest() {
		c.mu.Lock()
		c.open[m.ID] = cancel
		c.mu.Unlock()
		defer c.forget(m.ID)
	}
	lost := c.mustWait(m)
	for again := false; ; again = true {
		if lost != "" {
			if why, ok := c.inNewSession(ctx, m, lost); !ok {
				if c.missed == nil {
					departed()
				}
				c.fail(ctx, m, why)
				return
			}
		}
		if lost = c.exchange(ctx, cancel, m, departed, again); lost == "" {
			return
		}
	}
}

// exchange is one attempt of that. It returns the session that the upstream has
// forgotten, when the message is to be sent again: not when it has been already.
func (c *httpConn) exchange(ctx context.Context, cancel context.CancelFunc, m Message, departed func(), again bool) (lost string) {
	c.mu.Lock()
	c.memory.said(m)
	out, concerns := c.memory.restore(m)
	c.mu.Unlock()
	if !concerns {
		return ""
	}
	h := c.headers(m)
	session := h.Get(mcp.HeaderSessionID)
	res, sent, err := c.up.do(ctx, http.MethodPost, h, out.Raw, departed)
	if err == nil || c.missed == nil {
		departed() // else when missed has seen to it, before the next message departs
	}
	if err != nil {
		c.fail(ctx, m, unreached(c.up, err, sent))
		return ""
	}
	defer res.Body.Close()
	if m.IsResponse() {
		c.mu.Lock()
		c.memory.answered(m.ID)
		c.mu.Unlock()
	}
	if f, ok := c.up.turnedAway(res); ok {
		c.fail(ctx, m, refusedBy(res, f))
		return ""
	}
	if !again && c.hasForgotten(res) {
		if m.IsRequest() {
			return session
		}
		c.renew(session) // the message itself concerned the one that is lost
		return ""
	}
	c.took(m, res)
	if m.IsRequest() {
		c.answer(ctx, cancel, m, res)
	}
	return ""
}

// took does what follows from a message that the upstream has accepted.
func (c *httpConn) took(m Message, res *http.Response) {
	switch {
	case m.Method == "initialize" && res.StatusCode < 300:
		c.mu.Lock()
		c.session = res.Header.Get(mcp.HeaderSessionID)
		c.begun++
		c.mu.Unlock()
	case m.Method == "notifications/cancelled":
		c.hangUp(m)
	case m.Method == "notifications/initialized" && res.StatusCode < 300:
		c.listen()
	}
}

func (c *httpConn) forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, id)
	delete(c.memory.telling, id)
}

// headers are those of a POST. "The client MUST include an Accept header,
// listing both application/json and text/event-stream".
func (c *httpConn) headers(m Message) http.Header {
	h := http.Header{"Accept": {typeJSON + ", " + typeSSE}, "User-Agent": {"openleash"}}
	if v := metaVersion(m); isModern(v) {
		h.Set(mcp.HeaderProtocolVersion, v)
		mirrorHeaders(h, m)
		c.mirrored.set(h, m)
		return h
	}
	if m.Method == "initialize" {
		return h // a new session: "without a session ID attached"
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sessionHeaders(h)
	return h
}

// sessionHeaders: "clients using the Streamable HTTP transport MUST include it
// in the MCP-Session-Id header on all of their subsequent HTTP requests", and
// "MUST include the MCP-Protocol-Version […] header on all subsequent
// requests". c.mu is held.
func (c *httpConn) sessionHeaders(h http.Header) {
	if c.session != "" {
		h.Set(mcp.HeaderSessionID, c.session)
	}
	if c.version != "" {
		h.Set(mcp.HeaderProtocolVersion, c.version)
	}
}

// answer receives the answer to a request.
func (c *httpConn) answer(ctx context.Context, cancel context.CancelFunc, m Message, res *http.Response) {
	if res.StatusCode < 300 && mediaType(res.Header) == typeSSE {
		c.stream(ctx, cancel, m, res.Body)
		return
	}
	raw, err := readAnswer(res)
	if err != nil {
		c.fail(ctx, m, cutShort(c.up, err))
		return
	}
	if got, err := ReadMessage(raw, anyMessage(raw)); err == nil && got.IsResponse() && got.ID == m.ID {
		c.deliver(ctx, m, raw)
		return
	}
	c.answerStatus(ctx, m, res, raw)
}

// answerStatus turns an HTTP answer without a response to m into one.
func (c *httpConn) answerStatus(ctx context.Context, m Message, res *http.Response, raw []byte) {
	if m.Method == "initialize" && c.missed == nil && mayBeOlder(res.StatusCode) && c.fallBack(ctx, m) {
		return
	}
	at, isError := find(raw, "error")
	if _, err := strconv.Atoi(rawAt(raw, "error", "code")); err != nil {
		isError = false // what a web server writes, our own door too, is no JSON-RPC error
	}
	if _, hasResult := find(raw, "result"); isError && !hasResult {
		// "The HTTP response body MAY comprise a JSON-RPC error response that has no id."
		c.deliver(ctx, m, fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"error":%s}`, m.ID, raw[at.from:at.to]))
		return
	}
	c.fail(ctx, m, noResponseIn(c.up, res, raw))
}

// mayBeOlder: "If it fails with the following HTTP status codes […]: Issue a GET
// request to the server URL, expecting that this will open an SSE stream and
// return an endpoint event as the first event" (2025-11-25, Backwards
// Compatibility).
func mayBeOlder(status int) bool {
	return status == http.StatusBadRequest || status == http.StatusNotFound || status == http.StatusMethodNotAllowed
}

// fallBack tries the older transport: "When the endpoint event arrives, the
// client can assume this is a server running the old HTTP+SSE transport, and
// should use that transport for all subsequent communication."
func (c *httpConn) fallBack(ctx context.Context, m Message) bool {
	older := &sseConn{up: c.up, in: c.in, ctx: c.ctx, stop: c.stop, work: &c.work}
	if _, err := older.open(ctx); err != nil {
		return false
	}
	c.mu.Lock()
	c.older = older // before m departs: its answer brings the host's next message
	c.mu.Unlock()
	return older.Send(ctx, m) == nil
}

func (c *httpConn) fellBack() *sseConn {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.older
}

// fail answers a request in the upstream's stead, unless its host cancelled it:
// then nobody waits for an answer.
func (c *httpConn) fail(ctx context.Context, m Message, why unanswered) {
	switch {
	case ctx.Err() != nil:
	case c.missed != nil && c.missed(m, why):
	case m.IsRequest():
		answer := Message{Raw: errorReply(m.ID, codeInternal, why.detail), ID: m.ID, unsent: why.cause == notReached}
		c.hand(ctx, received{m: answer})
	}
}

// deliver hands a message to Recv. request is what it came in answer to.
func (c *httpConn) deliver(ctx context.Context, request Message, raw []byte) (answered bool) {
	m, err := ReadMessage(raw, anyMessage(raw))
	var bad *BadMessage
	switch {
	case errors.As(err, &bad):
		answered = bad.Response && bad.ID == request.ID && request.IsRequest() // by an error
	case m.IsResponse() && m.ID == request.ID && request.IsRequest():
		answered = true
		c.learn(request, m)
	}
	if err == nil {
		c.mu.Lock()
		var forHost bool
		m, forHost = c.memory.heard(m)
		c.mu.Unlock()
		if !forHost {
			return answered
		}
	}
	c.hand(ctx, received{m, err})
	return answered
}

// hand gives something to Recv.
func (c *httpConn) hand(ctx context.Context, r received) {
	select {
	case c.in <- r:
	case <-ctx.Done():
	}
}

// learn notes what later requests need to know.
func (c *httpConn) learn(request, response Message) {
	switch request.Method {
	case "initialize":
		version, _ := stringAt(response.Raw, "result", "protocolVersion")
		c.mu.Lock()
		c.version = version
		c.mu.Unlock()
	case "tools/list":
		c.mirrored.learn(response.Raw)
	}
}

// cursor is a place in a stream.
type cursor struct {
	id    string
	retry time.Duration
}

// stream receives an answer that is a stream of events. One that breaks off is
// resumed if it can be: "it SHOULD issue an HTTP GET to the MCP endpoint, and
// include the Last-Event-ID header" (2025-11-25).
func (c *httpConn) stream(ctx context.Context, cancel context.CancelFunc, m Message, body io.Reader) {
	at := cursor{retry: resumeAfter}
	answered, err := c.events(ctx, cancel, m, body, &at)
	resumable := !isModern(metaVersion(m))
	for tries := 0; !answered && resumable && at.id != "" && tries < maxResumes; tries++ {
		before := at.id
		if answered, err = c.resume(ctx, cancel, m, &at); at.id != before {
			tries = 0
		}
		if ctx.Err() != nil {
			return
		}
	}
	switch {
	case answered:
	case m.Method == "subscriptions/listen" && ctx.Err() == nil:
		// "The server tears it down […] close the SSE stream (HTTP) or send
		// notifications/cancelled referencing the subscriptions/listen request ID (stdio)."
		c.deliver(ctx, Message{}, fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%s,"reason":"the upstream closed the stream"}}`, m.ID))
	default:
		c.fail(ctx, m, cutShort(c.up, err))
	}
}

// resume waits as the upstream asked and continues a stream.
func (c *httpConn) resume(ctx context.Context, cancel context.CancelFunc, m Message, at *cursor) (answered bool, err error) {
	// "The client MUST respect the retry field, waiting the given number of
	// milliseconds before attempting to reconnect."
	if !sleep(ctx, at.retry) {
		return false, ctx.Err()
	}
	res, err := c.get(ctx, at.id)
	if err != nil {
		return false, err
	}
	defer res.Body.Close()
	if c.hasForgotten(res) {
		at.id = "" // nothing is left to resume
		c.renew(res.Request.Header.Get(mcp.HeaderSessionID))
	}
	if res.StatusCode != http.StatusOK || mediaType(res.Header) != typeSSE {
		return false, fmt.Errorf("it answered %s when the stream was to be resumed", res.Status)
	}
	return c.events(ctx, cancel, m, res.Body, at)
}

func (c *httpConn) get(ctx context.Context, lastEvent string) (*http.Response, error) {
	h := http.Header{"Accept": {typeSSE}, "User-Agent": {"openleash"}}
	if lastEvent != "" {
		h.Set(mcp.HeaderLastEventID, lastEvent)
	}
	c.mu.Lock()
	c.sessionHeaders(h)
	c.mu.Unlock()
	res, _, err := c.up.do(ctx, http.MethodGet, h, nil, nil)
	return res, err
}

// events receives the messages of one connection of a stream.
func (c *httpConn) events(ctx context.Context, cancel context.CancelFunc, m Message, body io.Reader, at *cursor) (answered bool, err error) {
	in := newSSEReader(body, maxUpstream)
	for {
		e, err := in.next()
		if err != nil {
			return answered, err
		}
		if e.hasID {
			at.id = e.id
		}
		if e.retry > 0 {
			at.retry = min(e.retry, maxRetry)
		}
		if len(e.data) == 0 {
			continue
		}
		if c.deliver(ctx, m, e.data) {
			answered = true
			defer time.AfterFunc(lingerFor, cancel).Stop()
		}
	}
}

// listen opens the stream on which the upstream speaks unasked, and keeps it
// open. "[The server MUST] return HTTP 405 Method Not Allowed, indicating that
// [it] does not offer an SSE stream at this endpoint": then there is none.
func (c *httpConn) listen() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.listening == c.begun {
		return
	}
	c.listening = c.begun
	session := c.begun
	c.work.start(func() { c.keepListening(session) })
}

// keepListening reads that stream for as long as its session is the one in use.
// Who wants to know when the upstream has come back never gives up.
func (c *httpConn) keepListening(session int) {
	at, first := cursor{retry: resumeAfter}, true
	for failures := 0; failures < maxResumes || c.missed != nil; failures++ {
		c.mu.Lock()
		current := c.begun == session
		c.mu.Unlock()
		if !current {
			return
		}
		streamed, offered := c.listenOnce(&at, first)
		if !offered {
			return
		}
		if streamed {
			failures = 0
		}
		first = false
		if !sleep(c.ctx, at.retry<<min(failures, maxResumes-1)) {
			return
		}
	}
}

// listenOnce reads one connection of that stream. It reports whether there was
// one, and whether there may be another. A server that knows no GET at all answers
// the first with 404 too: that says nothing of the session, but from an OpenLeash.
func (c *httpConn) listenOnce(at *cursor, first bool) (streamed, offered bool) {
	res, err := c.get(c.ctx, at.id)
	if err != nil {
		return false, true
	}
	defer res.Body.Close()
	if (!first || c.missed != nil) && c.hasForgotten(res) {
		if r := c.renew(res.Request.Header.Get(mcp.HeaderSessionID)); r != nil {
			r.wait(c.ctx)
		}
		return false, true // while this session is the one in use
	}
	if res.StatusCode != http.StatusOK || mediaType(res.Header) != typeSSE {
		return false, res.StatusCode >= 500
	}
	c.events(c.ctx, func() {}, Message{}, res.Body, at)
	return true, true
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// Close ends the session with the upstream. "Clients that no longer need a
// particular session SHOULD send an HTTP DELETE to the MCP endpoint".
func (c *httpConn) Close() error {
	c.once.Do(func() {
		c.mu.Lock()
		h := http.Header{"User-Agent": {"openleash"}}
		c.sessionHeaders(h)
		session := c.session
		c.mu.Unlock()
		c.stop()
		if session != "" {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), farewellTime)
			defer cancel()
			if res, _, err := c.up.do(ctx, http.MethodDelete, h, nil, nil); err == nil {
				res.Body.Close()
			}
		}
		c.work.end()
		c.up.transport.CloseIdleConnections()
	})
	return nil
}
