package proxy

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/mark3labs/mcp-go/mcp"
)

// askTools is the lister of a pass-through: a POST beside the host's own, in its
// session. What else comes in answer has no stream to go to, and is dropped.
func (x *exchange) askTools(ctx context.Context, call Message, cursor string) ([]byte, error) {
	version := metaVersion(call)
	if !isModern(version) && !x.ready() {
		return nil, errTooEarly
	}
	m, err := listRequest("0", call, cursor)
	if err != nil {
		return nil, err
	}
	return x.send(ctx, m)
}

// send asks the upstream something of ours, under an id of ours, in the host's
// session.
func (x *exchange) send(ctx context.Context, m Message) ([]byte, error) {
	m = withID(m, `"openleash-`+rand.Text()+`"`)
	h := x.ownHeaders()
	if version := metaVersion(m); isModern(version) {
		h.Set(mcp.HeaderProtocolVersion, version)
		mirrorHeaders(h, m)
		x.h.p.mirrored.set(h, m)
	}
	res, _, err := x.h.up.do(ctx, http.MethodPost, h, m.Raw, nil)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	return x.answerTo(m, res)
}

// answerTo reads the response to a request of ours.
func (x *exchange) answerTo(m Message, res *http.Response) ([]byte, error) {
	if f, ok := x.h.up.turnedAway(res); ok {
		return nil, errors.New(f.detail)
	}
	if mediaType(res.Header) == typeSSE {
		return awaitEvent(res.Body, m)
	}
	raw, err := readWhole(io.LimitReader(res.Body, maxUpstream+1), res.ContentLength)
	if err != nil {
		return nil, err
	}
	if got := readAny(raw); !got.IsResponse() || got.ID != m.ID {
		return nil, fmt.Errorf("it answered %s with %s%s", m.Method, res.Status, excerpt(raw))
	}
	return raw, nil
}

// ready tells, in the eras with a handshake, whether the upstream can be asked for
// its tools. Where it gives no sessions, the host's header tells that it has had
// its handshake.
func (x *exchange) ready() bool {
	x.h.mu.Lock()
	defer x.h.mu.Unlock()
	now := x.h.passed[x.in]
	complete := now.initialized
	if x.in.id == "" {
		complete = x.r.Header.Get(mcp.HeaderProtocolVersion) != ""
	}
	return complete && !now.noTools
}

// ownHeaders are those of a message of ours in the host's session: none that
// repeats the host's message.
func (x *exchange) ownHeaders() http.Header {
	h := upHeaders(x.r.Header, x.in)
	for name := range h {
		if strings.HasPrefix(name, "Mcp-Param-") {
			h.Del(name)
		}
	}
	h.Del("Last-Event-Id")
	h.Del(mcp.HeaderName)
	h.Del(mcp.HeaderMethod)
	h.Set("Accept", typeJSON+", "+typeSSE)
	return h
}

// awaitEvent reads a stream up to the response to a request.
func awaitEvent(body io.Reader, of Message) ([]byte, error) {
	events := newSSEReader(body, maxUpstream)
	for {
		e, err := events.next()
		if err != nil {
			return nil, fmt.Errorf("its answer to %s broke off: %w", of.Method, err)
		}
		if m := readAny(e.data); m.IsResponse() && m.ID == of.ID {
			return e.data, nil
		}
	}
}

// tellWhenHidden tells the host on this stream, while it lasts, when its list of
// tools is no longer what it would get. A host whose stream was broken off hears
// of what has changed meanwhile.
func (x *exchange) tellWhenHidden(subscription string) {
	if x.tells || !x.h.p.HideDenied {
		return
	}
	x.tells = true
	told := x.h.p.changesFor(x.who)
	x.h.note(x.in, func(p *passed) {
		if p.listed {
			told = p.told
		}
	})
	x.h.p.whenHidden(x.r.Context(), x.who, told, func(now int) {
		listed := false
		x.h.note(x.in, func(p *passed) { listed, p.told = p.listed, now })
		if listed {
			x.write(appendData(nil, toolsChangedFor(subscription)))
		}
	})
}
