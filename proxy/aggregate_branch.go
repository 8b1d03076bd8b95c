package proxy

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/openleash/openleash-go/action"
)

// branch is a host's session with one server of an Aggregate: to that server's
// Proxy, which governs it, the gathering is the host.
type branch struct {
	Member
	g     *gathering
	near  *pipeConn // our end
	own   ownRequests
	stuck atomic.Bool
	ended chan struct{} // closed when the session has, with why set
	why   error

	// Of g.mu.
	joined bool // it has answered initialize, and has not ended
	gone   error
	hello  introduction
}

// introduction is what a server has said of itself.
type introduction struct {
	version      string
	capabilities action.Value
	instructions string
}

// join begins the session with a server. params are the host's own.
func (b *branch) join(params []byte) {
	up, err := b.Dial(b.g.ctx, b.g.who)
	if err != nil {
		b.left(fmt.Errorf("it could not be started: %w", err))
		return
	}
	near, far := newPipe(handRoom, 0)
	b.g.mu.Lock()
	b.near = near
	b.g.mu.Unlock()
	b.g.beside(func() { b.listen(near) })
	b.g.beside(func() { b.serve(far, up) })
	answer, err := b.ask(b.g.ctx, "initialize", params)
	if err == nil {
		err = b.greeted(answer)
	}
	if errors.Is(err, errEnded) {
		err = b.fate()
	}
	if err != nil {
		near.Close()
		b.left(err)
	}
}

// fate is why the session has ended.
func (b *branch) fate() error {
	select {
	case <-b.ended:
		return b.why
	case <-b.g.ctx.Done(): // nobody is told any more
		return errEnded
	}
}

// errEnded is of a request that the end of the session has overtaken; fate says
// more.
var errEnded = errors.New("it has ended")

func (b *branch) serve(far *pipeConn, up Conn) {
	defer close(b.ended)
	b.why = errEnded
	if err := b.Serve(b.g.ctx, b.g.who, far, withdrawals{up}); err != nil {
		b.Log.Warn().Err(err).Str("server", b.Name).Str("agent", b.g.who.Agent.Name).Msg("session ended")
	}
	if f, ok := up.(interface{ Fate() error }); ok && f.Fate() != nil {
		b.why = f.Fate()
	}
}

// greeted takes in a server's answer to initialize.
func (b *branch) greeted(answer []byte) error {
	root, err := action.Parse(answer, anyMessage(answer))
	if err != nil {
		return fmt.Errorf("its answer to initialize cannot be read: %w", err)
	}
	if text := root.Get("error").Get("message").Text(); text != "" {
		return errors.New("it refused initialize: " + text)
	}
	result := root.Get("result")
	h := introduction{result.Get("protocolVersion").Text(), result.Get("capabilities"), result.Get("instructions").Text()}
	if h.version == "" || h.version > b.g.version { // they are dates
		return fmt.Errorf("it speaks protocol version %q, and this host %s", h.version, b.g.version)
	}
	b.g.welcome(b, h)
	return nil
}

// welcome lets a server join. It hears what the host has said meanwhile, and the
// host of it when it comes late.
func (g *gathering) welcome(b *branch, h introduction) {
	g.mu.Lock()
	b.hello, b.joined = h, true
	ready, late := g.ready, g.answered
	g.mu.Unlock()
	if ready != nil {
		b.hand(*ready)
	}
	if late {
		g.announce(h)
	}
}

// left notes that a server is not there, or not any more. What it was asked its
// Proxy has answered.
func (b *branch) left(why error) {
	b.g.mu.Lock()
	was, first := b.joined, b.gone == nil
	if first {
		b.joined, b.gone = false, why
	}
	b.g.mu.Unlock()
	if !first || b.g.ctx.Err() != nil {
		return
	}
	b.Log.Warn().Err(why).Str("server", b.Name).Str("agent", b.g.who.Agent.Name).Msg("the server is not among those at one address")
	if was {
		b.g.announce(b.hello)
	}
}

// listen takes what the server's Proxy lets through.
func (b *branch) listen(near *pipeConn) {
	for {
		m, err := near.Recv(b.g.ctx)
		if err != nil {
			break
		}
		switch {
		case b.own.concerns(m):
		case m.IsResponse():
			b.g.respond(b, m)
		case m.IsRequest():
			b.g.question(b, m)
		default:
			b.g.news(b, m)
		}
	}
	b.own.end()
	b.g.orphan(b)
	b.left(b.fate())
}

// hand gives a message to the server's Proxy. It is false when that takes none:
// the other servers do not wait for this one.
func (b *branch) hand(m Message) bool {
	if b.near.offer(m) {
		b.stuck.Store(false)
		return true
	}
	if b.stuck.Load() {
		return false
	}
	ctx, cancel := context.WithTimeout(b.g.ctx, handWithin)
	defer cancel()
	if b.near.Send(ctx, m) == nil {
		return true
	}
	b.stuck.Store(true)
	return false
}

// ask asks the server something of ours, with params as JSON text, and returns its
// response.
func (b *branch) ask(ctx context.Context, method string, params []byte) ([]byte, error) {
	id, answer := b.own.begin()
	defer b.own.answer(id, nil)
	if !b.hand(Message{Raw: fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"method":%q,"params":%s}`, id, method, params), ID: id, Method: method}) {
		return nil, errors.New("it takes no messages")
	}
	select {
	case raw := <-answer:
		if raw == nil {
			return nil, errEnded
		}
		return raw, nil
	case <-ctx.Done():
		b.hand(Message{Raw: fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%s}}`, id), Method: "notifications/cancelled"})
		return nil, fmt.Errorf("%s was not answered in time", method)
	}
}

// can tells whether the server has declared a capability.
func (b *branch) can(capability string) bool {
	return capability == "" || b.hello.capabilities.Get(capability).Kind() == action.Object
}
