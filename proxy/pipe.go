package proxy

import (
	"context"
	"io"
	"sync"
)

// pipeConn is one end of a pipe in memory: what it sends the other end receives.
// What was sent before the pipe was closed is still received.
type pipeConn struct {
	in, out chan Message
	gone    chan struct{}
	once    *sync.Once
}

// newPipe makes a pipe that holds so many messages which were not received yet:
// those from a to b, and those from b to a.
func newPipe(there, back int) (a, b *pipeConn) {
	to, from := make(chan Message, there), make(chan Message, back)
	gone, once := make(chan struct{}), &sync.Once{}
	return &pipeConn{from, to, gone, once}, &pipeConn{to, from, gone, once}
}

func (c *pipeConn) Recv(ctx context.Context) (Message, error) {
	select {
	case m := <-c.in:
		return m, nil
	default:
	}
	select {
	case m := <-c.in:
		return m, nil
	case <-c.gone:
		return Message{}, io.EOF
	case <-ctx.Done():
		return Message{}, ctx.Err()
	}
}

func (c *pipeConn) Send(ctx context.Context, m Message) error {
	select {
	case c.out <- m:
		return nil
	case <-c.gone:
		return io.ErrClosedPipe
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *pipeConn) Close() error {
	c.once.Do(func() { close(c.gone) })
	return nil
}

// offer is Send where there is room, or false.
func (c *pipeConn) offer(m Message) bool {
	select {
	case <-c.gone:
		return false
	default:
	}
	select {
	case c.out <- m:
		return true
	default:
		return false
	}
}
