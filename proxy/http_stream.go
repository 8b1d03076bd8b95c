package proxy

import (
	"context"
	"sync"
)

// stream is what waits to be written to one HTTP response.
type stream struct {
	method string
	token  string // canonical progress token of the request
	sse    bool   // the host takes events

	mu    sync.Mutex
	queue []item
	size  int
	ended bool          // the last item was pushed, or nobody reads any more
	wake  chan struct{} // cap 1: there is something to read
	room  chan struct{} // closed and replaced when something was taken
}

type item struct {
	raw  []byte
	last bool
}

func newStream(sse bool) *stream {
	return &stream{sse: sse, wake: make(chan struct{}, 1), room: make(chan struct{})}
}

func (st *stream) complete() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.ended
}

// push queues an item. When the host reads too slowly it waits, or, where
// others must not wait for that host, gives the stream up.
func (st *stream) push(ctx context.Context, it item, wait bool) {
	for {
		st.mu.Lock()
		if st.ended {
			st.mu.Unlock()
			return
		}
		if st.size+len(it.raw) <= maxQueue || len(st.queue) == 0 {
			st.queue = append(st.queue, it)
			st.size += len(it.raw)
			st.ended = it.last
			st.mu.Unlock()
			st.signal()
			return
		}
		room := st.room
		if !wait {
			st.ended = true
		}
		st.mu.Unlock()
		if !wait {
			st.signal()
			return
		}
		select {
		case <-room:
		case <-ctx.Done():
			return
		}
	}
}

func (st *stream) signal() {
	select {
	case st.wake <- struct{}{}:
	default:
	}
}

// pop takes the next item. over is true when there will be none.
func (st *stream) pop() (it item, ok, over bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(st.queue) == 0 {
		return item{}, false, st.ended
	}
	it = st.queue[0]
	st.queue = st.queue[1:]
	st.size -= len(it.raw)
	close(st.room)
	st.room = make(chan struct{})
	return it, true, false
}

// finish says that nothing more will come; what is queued is still written.
func (st *stream) finish() {
	st.mu.Lock()
	st.ended = true
	st.mu.Unlock()
	st.signal()
}

// abandon says that nobody reads any more.
func (st *stream) abandon() {
	st.mu.Lock()
	st.ended, st.queue, st.size = true, nil, 0
	close(st.room)
	st.room = make(chan struct{})
	st.mu.Unlock()
	st.signal()
}
