package proxy

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/openleash/openleash-go/authz"
)

// The transport of 2024-11-05, HTTP with SSE, which hosts still use: "An SSE
// endpoint, for clients to establish a connection and receive messages from the
// server. A regular HTTP POST endpoint for clients to send messages to the
// server." The stream is the session: with it everything ends.

// SSEMessages is where messages are POSTed, below the path of the stream.
const SSEMessages = "/message"

// sseHost is the host's side of such a session.
type sseHost struct {
	inbox
	agent string
	out   *stream
	gone  chan struct{} // closed by Close
	once  sync.Once
	first *Message // what the session began with, until Recv takes it
}

func (s *sseHost) Recv(ctx context.Context) (Message, error) {
	if m := s.first; m != nil {
		s.first = nil
		return *m, nil
	}
	return s.inbox.Recv(ctx)
}

// Send queues a message for the stream. While the host does not read, it waits:
// only the host's own upstream waits with it.
func (s *sseHost) Send(ctx context.Context, m Message) error {
	s.out.push(ctx, item{raw: m.Raw}, true)
	return nil
}

func (s *sseHost) Close() error {
	s.stop()
	s.once.Do(func() { close(s.gone) })
	return nil
}

// ServeSSE serves the streams of hosts of the older transport. Their messages,
// at the same path and SSEMessages, are ServeSSEMessage's.
func (h *HTTPSessions) ServeSSE(w http.ResponseWriter, r *http.Request) {
	who, known := callerOf(r.Context())
	switch {
	case !known:
		unauthorized(w)
	case r.Method != http.MethodGet:
		// "Attempt to POST an InitializeRequest to the server URL […] If it fails
		// with […] 405 Method Not Allowed: Issue a GET request" (2025-11-25,
		// Backwards Compatibility).
		methodNotAllowed(w, "GET")
	case len(r.Header.Values("Accept")) > 0 && !accepts(r.Header, typeSSE):
		(&httpError{http.StatusNotAcceptable, "", codeInvalidRequest, "Accept: want text/event-stream"}).write(w)
	default:
		h.openSSE(w, r, who)
	}
}

// openSSE is a session, from its first event to its end.
func (h *HTTPSessions) openSSE(w http.ResponseWriter, r *http.Request, who authz.Caller) {
	if err := h.reserve(who.Agent.ID, ""); err != nil {
		writeError(w, err)
		return
	}
	id := rand.Text()
	s := &sseHost{inbox: h.newInbox(), agent: who.Agent.ID, out: newStream(true), gone: make(chan struct{})}
	h.mu.Lock()
	h.streams[id] = s
	h.mu.Unlock()
	h.work.Go(func() {
		h.serveSSE(who, s)
		s.Close()
		h.mu.Lock()
		delete(h.streams, id)
		h.mu.Unlock()
		h.release(who.Agent.ID)
	})
	defer s.stop()
	// "When a client connects, the server MUST send an endpoint event containing a
	// URI for the client to use for sending messages."
	beginEvents(w)
	if writeNow(w, fmt.Appendf(nil, "event: endpoint\ndata: %s%s?sessionId=%s\n\n", r.URL.EscapedPath(), SSEMessages, id)) == nil {
		s.write(r.Context(), w)
	}
}

// serveSSE runs a session. Nothing is started before its host has said something:
// hosts open a stream again by themselves when one has ended, for ever.
func (h *HTTPSessions) serveSSE(who authz.Caller, s *sseHost) {
	m, err := s.Recv(s.ctx)
	if err != nil {
		return
	}
	s.first = &m
	serve, _ := h.relay(who, s, h.dialed(who))
	h.serve(s.ctx, who, serve)
}

// write sends what comes, until the session ends or the host has gone.
func (s *sseHost) write(ctx context.Context, w http.ResponseWriter) {
	quiet := time.NewTicker(keepAlive)
	defer quiet.Stop()
	for {
		it, ok, over := s.out.pop()
		switch {
		case ok && writeNow(w, appendData([]byte("event: message\n"), it.raw)) != nil, over:
			return
		case ok:
			continue
		}
		select {
		case <-s.out.wake:
		case <-quiet.C:
			if writeNow(w, comment) != nil {
				return
			}
		case <-ctx.Done():
			if !isShuttingDown(ctx) {
				return
			}
			s.farewell()
		case <-s.ctx.Done():
			s.farewell()
		}
	}
}

// farewell ends the stream, at the end of OpenLeash after what the session says
// then.
func (s *sseHost) farewell() {
	if s.ctx.Err() == nil || isShuttingDown(s.ctx) {
		select {
		case <-s.gone:
		case <-time.After(farewellWithin):
		}
	}
	s.out.finish()
}

// ServeSSEMessage takes the messages of a host. Their answers come on its stream.
func (h *HTTPSessions) ServeSSEMessage(w http.ResponseWriter, r *http.Request) {
	who, known := callerOf(r.Context())
	if !known {
		unauthorized(w)
		return
	}
	if r.Method != http.MethodPost {
		methodNotAllowed(w, "POST")
		return
	}
	s, err := h.streamOf(r, who)
	if err != nil {
		writeError(w, err)
		return
	}
	m, err := readPost(w, r, h.limits)
	if err != nil {
		writeError(w, err)
		return
	}
	if err := s.take(r.Context(), m); err != nil {
		(&httpError{http.StatusNotFound, m.ID, codeInvalidRequest, err.Error()}).write(w)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

// streamOf finds a session of this agent: another's does not exist for it.
func (h *HTTPSessions) streamOf(r *http.Request, who authz.Caller) (*sseHost, error) {
	h.mu.Lock()
	s := h.streams[r.URL.Query().Get("sessionId")]
	h.mu.Unlock()
	if s == nil || s.agent != who.Agent.ID || s.ctx.Err() != nil {
		return nil, &httpError{http.StatusNotFound, "", codeInvalidRequest, "this session does not exist or has ended: open a new stream"}
	}
	return s, nil
}

// dialed is an upstream for a session whose stream is open already.
func (h *HTTPSessions) dialed(who authz.Caller) Conn {
	up, err := h.dial(h.ctx, who)
	if err != nil {
		h.log.Error().Err(err).Str("server", h.name).Msg("could not start the server")
		return unstarted{fmt.Errorf("it could not be started: %w", err)}
	}
	return up
}

// unstarted is an upstream that cannot be had: its host hears why in answer to
// what it asks.
type unstarted struct{ why error }

func (u unstarted) Recv(ctx context.Context) (Message, error) {
	<-ctx.Done()
	return Message{}, io.EOF
}

func (u unstarted) Send(context.Context, Message) error { return u.why }

func (u unstarted) Close() error { return nil }
