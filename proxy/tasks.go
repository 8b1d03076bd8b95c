package proxy

import (
	"context"
	"sync"
	"time"
)

// tasks are what a Conn does beside its callers. After its end none begins: who
// sends may find out late that the Conn is closed, and "calls with a positive delta
// that occur when the counter is zero must happen before a Wait" (sync.WaitGroup).
type tasks struct {
	mu    sync.Mutex
	ended bool
	work  sync.WaitGroup
}

// start runs do beside, and is false after the end.
func (t *tasks) start(do func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return false
	}
	t.work.Go(do)
	return true
}

// end waits for all, and lets none begin.
func (t *tasks) end() {
	t.mu.Lock()
	t.ended = true
	t.mu.Unlock()
	t.work.Wait()
}

// send has a message posted beside, until the Conn ends, and returns when it is on
// its way; what is no request is waited for until it was accepted. So messages
// depart in the order of calls, and many requests can be in flight. It is false
// after the end.
func (t *tasks) send(ctx, conn context.Context, m Message, post func(departed func())) bool {
	departed, accepted := make(chan struct{}), make(chan struct{})
	started := t.start(func() {
		defer close(accepted)
		leave := sync.OnceFunc(func() { close(departed) })
		defer leave()
		post(leave)
	})
	if !started {
		return false
	}
	wait, limit := departed, (<-chan time.Time)(nil)
	if !m.IsRequest() {
		wait, limit = accepted, time.After(acceptWithin)
	}
	select {
	case <-wait:
	case <-limit:
	case <-conn.Done():
	case <-ctx.Done(): // the message is on its way, and so is its answer
	}
	return true
}
