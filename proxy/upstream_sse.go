package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	// endpointWithin is how long an upstream may take to say where messages go.
	endpointWithin = 30 * time.Second
	// maxEndpoint bounds what it says.
	maxEndpoint = 8 << 10
)

// DialSSE returns a Conn that speaks the transport of 2024-11-05, HTTP with
// SSE, to an upstream. The stream is opened by the first Send; one that fails
// to open it may be tried again. The Conn ends with the stream: what another
// stream would bring belongs to another session.
func DialSSE(ctx context.Context, up HTTPUpstream) (Conn, error) {
	up, err := up.prepare()
	if err != nil {
		return nil, err
	}
	c := &sseConn{up: up, in: make(chan received), work: &tasks{}}
	c.ctx, c.stop = context.WithCancel(context.WithoutCancel(ctx))
	return c, nil
}

type sseConn struct {
	up   HTTPUpstream
	in   chan received // an upstream that talks faster than the host reads waits
	ctx  context.Context
	stop context.CancelFunc
	work *tasks

	mu       sync.Mutex    // held while the stream is opened
	messages *HTTPUpstream // where messages go; nil before
}

func (c *sseConn) Recv(ctx context.Context) (Message, error) {
	select {
	case r := <-c.in:
		return r.m, r.err
	case <-c.ctx.Done():
		return Message{}, io.EOF
	case <-ctx.Done():
		return Message{}, ctx.Err()
	}
}

func (c *sseConn) Send(ctx context.Context, m Message) error {
	to, err := c.open(ctx)
	if err != nil {
		return err
	}
	if !c.work.send(ctx, c.ctx, m, func(departed func()) { c.post(to, m, departed) }) {
		return fmt.Errorf("the connection to the upstream server %s is closed", c.up.Name)
	}
	return nil
}

// open opens the stream, once, and tells where messages go.
func (c *sseConn) open(ctx context.Context) (*HTTPUpstream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return nil, fmt.Errorf("the connection to the upstream server %s is closed", c.up.Name)
	}
	if c.messages != nil {
		return c.messages, nil
	}
	streamCtx, cut := context.WithCancel(c.ctx) // ends the response with all that it holds
	inTime, wanted := time.AfterFunc(endpointWithin, cut), context.AfterFunc(ctx, cut)
	events, to, err := c.begin(streamCtx)
	switch {
	case !inTime.Stop():
		err = fmt.Errorf("the upstream server %s has not said within %v where messages go (no endpoint event)%s", c.up.Name, endpointWithin, perhapsNewer)
	case !wanted():
		err = ctx.Err()
	}
	if err != nil {
		cut()
		return nil, err
	}
	reads := c.work.start(func() {
		defer cut()
		c.receive(events)
	})
	if !reads {
		cut()
		return nil, fmt.Errorf("the connection to the upstream server %s is closed", c.up.Name)
	}
	c.messages = to
	return to, nil
}

// perhapsNewer is the hint for an upstream that speaks another transport.
const perhapsNewer = ". If it speaks Streamable HTTP, take type: sse out of its entry in the configuration"

// begin asks for the stream and reads its first event.
func (c *sseConn) begin(ctx context.Context) (*sseReader, *HTTPUpstream, error) {
	res, sent, err := c.up.do(ctx, http.MethodGet, http.Header{"Accept": {typeSSE}, "Cache-Control": {"no-cache"}, "User-Agent": {"openleash"}}, nil, nil)
	if err != nil {
		return nil, nil, errors.New(c.up.unreachable(err, sent).detail)
	}
	if f, ok := c.up.turnedAway(res); ok {
		return nil, nil, errors.New(f.detail)
	}
	if res.StatusCode != http.StatusOK || mediaType(res.Header) != typeSSE {
		body, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10))
		return nil, nil, fmt.Errorf("the upstream server %s opens no stream: it answered GET with %s%s%s", c.up.Name, res.Status, excerpt(body), perhapsNewer)
	}
	events := newSSEReader(res.Body, maxUpstream)
	to, err := c.endpoint(events)
	return events, to, err
}

// endpoint reads where messages go: "When a client connects, the server MUST
// send an endpoint event containing a URI for the client to use for sending
// messages."
func (c *sseConn) endpoint(events *sseReader) (*HTTPUpstream, error) {
	for {
		e, err := events.next()
		if err != nil {
			return nil, errors.New(c.up.broken(err).detail)
		}
		switch {
		case e.data == nil: // a comment
		case e.name != "endpoint":
			return nil, fmt.Errorf("the first event of the upstream server %s is %q, want endpoint, which says where messages go", c.up.Name, e.name)
		default:
			return c.up.at(e.data)
		}
	}
}

// at is the same upstream at an address that it has named itself. Our
// credentials and the calls go there, so it must be of the same origin.
func (u HTTPUpstream) at(address []byte) (*HTTPUpstream, error) {
	base, err := url.Parse(u.URL)
	if err != nil {
		return nil, err
	}
	if len(address) > maxEndpoint {
		return nil, fmt.Errorf("the upstream server %s names an endpoint of %d bytes, want %d at the most", u.Name, len(address), maxEndpoint)
	}
	to, err := base.Parse(string(address))
	if err != nil {
		return nil, fmt.Errorf("the upstream server %s names an endpoint that is no URL: %w", u.Name, err)
	}
	if originOf(to) != originOf(base) {
		return nil, fmt.Errorf("the upstream server %s wants its messages sent to %s, another origin than that of its url (%s). That is refused: calls and credentials would go there", u.Name, originOf(to), originOf(base))
	}
	to.User = base.User
	u.URL = to.String()
	return &u, nil
}

// originOf is scheme, host and port of a URL.
func originOf(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}

// receive hands on what the stream brings. Its end is the end of the Conn:
// whatever waits for an answer will not get it.
func (c *sseConn) receive(events *sseReader) {
	for {
		e, err := events.next()
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				err = errors.New("the server closed it")
			}
			c.deliver(received{err: fmt.Errorf("its stream has ended (%w). Whether it did what was asked is not known: look before you repeat it", err)})
			return
		}
		// "Server messages are sent as SSE message events", which is also what an
		// event without a name is.
		if len(e.data) > 0 && (e.name == "" || e.name == "message") {
			m, err := ReadMessage(e.data, anyMessage(e.data))
			c.deliver(received{m, err})
		}
	}
}

func (c *sseConn) deliver(r received) {
	select {
	case c.in <- r:
	case <-c.ctx.Done():
	}
}

// post sends one message: "All subsequent client messages MUST be sent as HTTP
// POST requests to this endpoint." What it is answered with comes on the stream.
func (c *sseConn) post(to *HTTPUpstream, m Message, departed func()) {
	res, sent, err := to.do(c.ctx, http.MethodPost, http.Header{"User-Agent": {"openleash"}}, m.Raw, departed)
	departed()
	if err != nil {
		c.fail(m, to.unreachable(err, sent))
		return
	}
	defer res.Body.Close()
	if f, ok := to.turnedAway(res); ok {
		c.fail(m, f)
		return
	}
	body, _ := io.ReadAll(io.LimitReader(res.Body, 1<<20)) // also so that the connection can be used again
	if res.StatusCode >= 300 {
		c.fail(m, failure{status: "unknown", detail: fmt.Sprintf("the upstream server %s did not take the message: it answered %s%s", c.up.Name, res.Status, excerpt(body))})
	}
}

// fail answers a request in the upstream's stead.
func (c *sseConn) fail(m Message, f failure) {
	if m.IsRequest() {
		raw := errorReply(m.ID, codeInternal, f.detail)
		c.deliver(received{m: Message{Raw: raw, ID: m.ID, unsent: f.unsent}})
	}
}

// Close ends the session: the stream is it.
func (c *sseConn) Close() error {
	c.stop()
	c.work.end()
	c.up.transport.CloseIdleConnections()
	return nil
}
