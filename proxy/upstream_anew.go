package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/mark3labs/mcp-go/mcp"
)

// "When a client receives HTTP 404 in response to a request containing an
// MCP-Session-Id, it MUST start a new session by sending a new InitializeRequest
// without a session ID attached" (2025-11-25). The host's own words are said again
// (memory.go), and it sees nothing of that but that lists may have changed. What
// comes meanwhile waits.

// renewal is a session that is being begun anew.
type renewal struct {
	done chan struct{}
	why  unanswered // why it was not, once done is closed
	ok   bool
}

// wait waits for its end.
func (r *renewal) wait(ctx context.Context) (why unanswered, ok bool) {
	select {
	case <-r.done:
		return r.why, r.ok
	case <-ctx.Done():
		return unanswered{}, false
	}
}

// hasForgotten tells whether an answer says that the upstream does not know the
// session, and there is something to begin it anew with.
func (c *httpConn) hasForgotten(res *http.Response) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return res.StatusCode == http.StatusNotFound && res.Request.Header.Get(mcp.HeaderSessionID) != "" && c.memory.hello != nil
}

// mustWait returns the session that must be begun anew before a message is sent,
// empty for none. Of responses and cancellations nobody is left who wants them.
func (c *httpConn) mustWait(m Message) (lost string) {
	if m.Method == "initialize" || isModern(metaVersion(m)) {
		return ""
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.renewal != nil || c.lost == c.session {
		return c.lost
	}
	return ""
}

// inNewSession waits until a message can be sent in another session than the lost
// one. It is false when that cannot be, or the message is pointless there.
func (c *httpConn) inNewSession(ctx context.Context, m Message, lost string) (why unanswered, ok bool) {
	switch {
	case m.IsResponse():
		return why, false
	case m.Method == "notifications/cancelled":
		c.hangUp(m) // its request may wait here too
		return why, false
	}
	if r := c.renew(lost); r != nil {
		return r.wait(ctx)
	}
	return why, true
}

// renew has a session begun anew that the upstream has forgotten; nil when it has
// been.
func (c *httpConn) renew(session string) *renewal {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.renewal == nil && c.session != session {
		return nil
	}
	if c.renewal == nil {
		r := &renewal{done: make(chan struct{})}
		c.lost, c.renewal = session, r
		c.work.start(func() { c.beginAnew(r) })
	}
	return c.renewal
}

// beginAnew begins a session anew and lets those go that wait for it.
func (c *httpConn) beginAnew(r *renewal) {
	defer close(r.done)
	err := c.greetAgain()
	var other *otherVersion
	if errors.As(err, &other) {
		c.hand(c.ctx, received{err: other}) // and with the Conn all ends that waits
		<-c.ctx.Done()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.renewal = nil
	if r.ok = err == nil; r.ok {
		c.lost = ""
	} else {
		r.why = c.notRenewed(err)
	}
}

// greetAgain says again what the upstream has forgotten.
func (c *httpConn) greetAgain() error {
	c.mu.Lock()
	lost, tell := c.lost, c.memory.lose("the server was started anew")
	hello, ready, protocol := c.memory.hello, c.memory.ready, c.memory.protocol
	c.mu.Unlock()
	c.up.Log.Warn().Msg(c.up.Name + " has forgotten the session; it is begun anew")
	c.tell(tell)
	if hello == nil {
		return errors.New("the host's own handshake is under way")
	}
	ctx, cancel := context.WithTimeout(c.ctx, greetWithin)
	defer cancel()
	session, err := c.shakeHands(ctx, *hello, protocol)
	if err == nil && ready != nil {
		err = c.say(ctx, session, *ready)
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	if c.session != lost {
		c.mu.Unlock()
		return nil // the host has made a handshake of its own
	}
	c.session = session
	c.begun++
	all, changed := c.memory.again(), c.memory.changed()
	c.mu.Unlock()
	if ready == nil {
		return nil
	}
	c.listen()
	for _, m := range all[1:] { // after ready
		c.work.send(c.ctx, c.ctx, m, func(departed func()) {
			ctx, cancel := context.WithCancel(c.ctx)
			defer cancel()
			c.exchange(ctx, cancel, m, departed, true)
		})
	}
	c.tell(changed)
	return nil
}

// tell gives the host messages of ours.
func (c *httpConn) tell(all []Message) {
	for _, m := range all {
		c.hand(c.ctx, received{m: m})
	}
}

// shakeHands sends the host's initialize. Its answer must agree on the version that
// the host speaks.
func (c *httpConn) shakeHands(ctx context.Context, hello Message, protocol string) (session string, err error) {
	res, sent, err := c.up.do(ctx, http.MethodPost, c.headers(hello), hello.Raw, nil)
	if err != nil {
		why := unreached(c.up, err, sent)
		return "", &why
	}
	defer res.Body.Close()
	if f, ok := c.up.turnedAway(res); ok {
		why := refusedBy(res, f)
		return "", &why
	}
	answer, err := c.answerTo(ctx, hello, res)
	if err != nil {
		return "", err
	}
	return res.Header.Get(mcp.HeaderSessionID), sameAgreement(answer, protocol)
}

// answerTo reads the answer to a request that the host knows nothing of. What else comes on its stream is
// the host's.
func (c *httpConn) answerTo(ctx context.Context, m Message, res *http.Response) (Message, error) {
	if res.StatusCode < 300 && mediaType(res.Header) == typeSSE {
		for in := newSSEReader(res.Body, maxUpstream); ; {
			e, err := in.next()
			if err != nil {
				why := cutShort(c.up, err)
				return Message{}, &why
			}
			got, err := ReadMessage(e.data, anyMessage(e.data))
			switch {
			case err == nil && got.IsResponse() && got.ID == m.ID:
				return got, nil
			case err == nil && got.IsNotification():
				c.deliver(ctx, Message{}, e.data)
			}
		}
	}
	raw, err := readAnswer(res)
	if err != nil {
		why := cutShort(c.up, err)
		return Message{}, &why
	}
	got, err := ReadMessage(raw, anyMessage(raw))
	if err != nil || !got.IsResponse() || got.ID != m.ID {
		why := noResponseIn(c.up, res, raw)
		return Message{}, &why
	}
	return got, nil
}

// say sends a notification in a session that is not in use yet.
func (c *httpConn) say(ctx context.Context, session string, m Message) error {
	h := c.headers(m)
	h.Del(mcp.HeaderSessionID)
	if session != "" {
		h.Set(mcp.HeaderSessionID, session)
	}
	res, sent, err := c.up.do(ctx, http.MethodPost, h, m.Raw, nil)
	if err != nil {
		why := unreached(c.up, err, sent)
		return &why
	}
	defer res.Body.Close()
	if res.StatusCode >= 300 {
		raw, _ := readAnswer(res)
		why := noResponseIn(c.up, res, raw)
		return &why
	}
	return nil
}

// notRenewed is why a message was not sent whose session could not be begun anew.
func (c *httpConn) notRenewed(err error) unanswered {
	why := unanswered{cause: noResponse, undone: true, short: err.Error()}
	var u *unanswered
	if errors.As(err, &u) {
		why.cause, why.short = u.cause, u.short
	}
	if why.cause == brokenOff {
		why.cause = notReached // what broke off is ours
	}
	why.detail = fmt.Sprintf("the upstream server %s has forgotten this session (404), and no new one could be begun: %s. Nothing was done: try again, or connect anew (restart this server in the host)", c.up.Name, why.short)
	return why
}
