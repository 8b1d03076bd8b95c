package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/openleash/openleash-go/authz"
)

// exchange is one HTTP request of the host and what it is answered.
type exchange struct {
	h      *passthrough
	w      http.ResponseWriter
	r      *http.Request
	m      Message
	in     hostSession
	begins hostSession // by the answer; in, when it begins none
	who    authz.Caller
	modern bool
	tells  bool // the stream tells of changes (tellWhenHidden)

	mu     sync.Mutex // held while the answer is written: progress comes from beside
	began  bool       // the answer has begun, as a stream of events
	closed bool
}

// forward sends a request up and brings its answer back.
func (x *exchange) forward(c *hostCall, body []byte) {
	res, sent, err := x.h.up.do(x.r.Context(), http.MethodPost, upHeaders(x.r.Header, x.in), body, nil)
	if err != nil {
		f := x.orShutDown(x.h.up.unreachable(err, sent), sent)
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
	x.begins = x.in
	switch {
	case id != "" && id != x.in.id && res.StatusCode < 300:
		x.begins.id = id
		x.h.give(x.begins)
		x.h.note(x.begins, func(p *passed) { p.opens = declaresURL(x.m) })
	case x.m.Method == "notifications/initialized" && res.StatusCode < 300:
		x.h.note(x.in, func(p *passed) { p.initialized = true })
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
		f := x.orShutDown(x.h.up.broken(err), true)
		x.settle(c, nil, f)
		x.fail(f)
		return
	}
	m := readAny(raw)
	answered := c != nil && m.IsResponse() && m.ID != "" && m.ID == c.id
	var of *hostCall
	if answered {
		of = c
		x.settle(c, raw, failure{})
	} else {
		x.settle(c, nil, failure{status: "unknown", detail: "the upstream answered " + res.Status + " without a response to the call"})
	}
	clean := x.screen(m, of, nil)
	switch {
	case clean == nil:
		x.fail(failure{status: "unknown", detail: "the answer of " + x.h.up.Name + " was not fit to be passed on"})
	case x.streaming() && !answered: // its status can no longer be told
		x.fail(x.answered(res, raw))
	default:
		x.message(res, clean)
	}
}

// answered is the failure of an answer without a response.
func (x *exchange) answered(res *http.Response, body []byte) failure {
	return failure{status: "unknown", detail: "the upstream server " + x.h.up.Name + " answered " + res.Status + excerpt(body)}
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
	x.settle(c, nil, failure{status: "unknown", detail: "the upstream answered " + res.Status})
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
	if c == nil {
		x.tellWhenHidden("")
	}
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
		out, m := e.raw, Message{}
		if len(e.data) > 0 {
			m = readAny(e.data)
			of := x.settleEvent(m, c)
			answered = of != nil || answered
			clean := x.screen(m, of, x.later)
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
		if m.Method == mcp.MethodNotificationSubscriptionsAcknowledged && subscriptionTo(x.m) != "" {
			x.tellWhenHidden(subscriptionTo(x.m)) // not before: session.subscribed
		}
	}
}

// settleEvent records a response when it is one that something waits for, and
// returns what that is.
func (x *exchange) settleEvent(m Message, c *hostCall) *hostCall {
	if !m.IsResponse() || m.ID == "" {
		return nil
	}
	if c == nil {
		c = x.h.parked(x.in, m.ID)
	}
	if c == nil || c.id != m.ID {
		return nil
	}
	x.settle(c, m.Raw, failure{})
	return c
}

// streamEnded settles what the stream left open. "Disconnection SHOULD NOT be
// interpreted as the client cancelling its request" (2025-11-25): a stream whose
// events have ids may be resumed with GET, and the host does that itself.
func (x *exchange) streamEnded(c *hostCall, err error, answered, resumable bool) {
	if c == nil || answered {
		return
	}
	if resumable && !isShuttingDown(x.r.Context()) {
		x.h.park(x.in, c)
		return
	}
	f := x.orShutDown(x.h.up.broken(err), true)
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
	if x.isOver() || !accepts(x.r.Header, typeSSE) {
		return
	}
	x.begin(nil)
	x.write(appendData(nil, raw))
}

// quiet shows the host of a held call that somebody is there: sockets without a
// byte for minutes are closed by what lies between.
func (x *exchange) quiet() {
	if x.isOver() || !accepts(x.r.Header, typeSSE) {
		return
	}
	x.begin(nil)
	x.write(comment)
}

func (x *exchange) isOver() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.closed
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
		x.message(nil, errorReply(x.m.ID, codeInternal, x.orShutDown(failure{status: "cancelled", detail: "the call was cancelled before it was forwarded"}, false).detail))
	default:
		x.w.WriteHeader(http.StatusAccepted)
	}
}

// orShutDown is why there is no answer, when OpenLeash itself has not ended it.
func (x *exchange) orShutDown(f failure, sent bool) failure {
	if isShuttingDown(x.r.Context()) {
		return shutDown(x.h.up.Name, sent)
	}
	return f
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
