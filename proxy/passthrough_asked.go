package proxy

import (
	"context"
	"net/http"
	"time"
)

// askedIn are what the upstream has asked for in a session. Without a session
// there is one for each agent's hosts together.
func (h *passthrough) askedIn(in hostSession) *asked {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := h.asked[in]
	if a == nil {
		a = &asked{many: in.id == ""}
		h.asked[in] = a
	}
	return a
}

// readAny reads a message of the upstream. What is none is passed on like a
// response to nothing.
func readAny(raw []byte) Message {
	m, err := ReadMessage(raw, anyMessage(raw))
	if err != nil {
		return Message{Raw: raw}
	}
	return m
}

// screen has a message of the upstream ruled on and returns what the host gets
// now; nil: nothing. A message that is held does not keep those behind it, if
// there can be any: later, when not nil, takes it once it has been decided on.
// of is the call that it answers, nil for none.
func (x *exchange) screen(m Message, of *hostCall, later func([]byte) error) []byte {
	if x.m.Method == "initialize" && m.IsResponse() {
		x.learnHello(m)
	}
	var wrap wrapper
	if of != nil {
		wrap = of.wrap
	}
	switch {
	case needsRuling(m):
		return beside(x.r.Context(), func(stepAside func()) []byte { return x.decideOn(m, wrap, later, stepAside) })
	case m.Method == "notifications/cancelled" && x.h.askedIn(x.in).withdraws(m):
		return nil
	}
	return x.h.p.ruleUp(x.r.Context(), x.who, m, wrap, nil).forward
}

// learnHello notes what a server has, as it says in the handshake.
func (x *exchange) learnHello(m Message) {
	if _, ok := find(m.Raw, "result", "capabilities"); !ok {
		return
	}
	_, tools := find(m.Raw, "result", "capabilities", "tools")
	x.h.note(x.begins, func(p *passed) { p.noTools, p.tasks = !tools, runsTasks(m) })
}

// decideOn returns what the host gets now, or gives it to later.
func (x *exchange) decideOn(m Message, wrap wrapper, later func([]byte) error, stepAside func()) (now []byte) {
	aside := false
	ru := x.h.askedIn(x.in).ask(x.r.Context(), x.h.p, x.who, m, wrap, func() {
		if aside = later != nil; aside {
			stepAside()
		}
	})
	if ru.forward != nil && !aside {
		return ru.forward
	}
	if ru.forward != nil && later(ru.forward) == nil {
		return nil
	}
	if ru.reply == nil && m.IsRequest() {
		ru.reply = errorReply(m.ID, codeInternal, "the host closed the stream before the request could be passed on")
	}
	if ru.reply != nil {
		x.tellUpstream(ru.reply)
	}
	return nil
}

// later sends the host a message that was held.
func (x *exchange) later(raw []byte) error { return x.write(appendData(nil, raw)) }

// tellWithin is how long the upstream may take to accept an answer of ours.
const tellWithin = 30 * time.Second

// tellUpstream answers a request of the upstream in the host's stead.
func (x *exchange) tellUpstream(reply []byte) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.r.Context()), tellWithin)
	defer cancel()
	res, _, err := x.h.up.do(ctx, http.MethodPost, x.ownHeaders(), reply, nil)
	if err != nil {
		x.h.p.Log.Warn().Err(err).Str("server", x.h.up.Name).Msg("could not answer the server")
		return
	}
	res.Body.Close()
}
