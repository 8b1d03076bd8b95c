package sqlite

import (
	"context"
	"sync"
	"time"
)

// lookEvery is how often a process in which somebody waits looks for what other
// processes have changed: a person does not notice it.
const lookEvery = 50 * time.Millisecond

// watch wakes those in this process who wait for a change of the store.
//
// A change leaves a row in the table signals, in its own transaction (triggers in
// schema.go): so no change is without its signal, whoever makes it and however
// that process ends. What this process commits is looked at there and then, what
// others commit at the next look. Of the ways to look, as measured on a busy machine:
//
//	stat of a file that grows       3 to 9 us   can be lost: a crash after the commit
//	PRAGMA data_version           13 to 43 us   changes with every commit of anything
//	the rows that are new         21 to 88 us   says what has changed
//
// Twenty times a second none of them is much. So the rows: nothing is lost, and of a
// thousand who wait only those look into the store whom it concerns; a thousand cost
// what one does (BenchmarkWatch, and bench -held). While nobody waits, nothing runs.
type watch struct {
	read  func(after int64) ([]signal, error) // in their order
	hurry chan struct{}                       // buffered: look now

	mu      sync.Mutex
	waiting map[string]map[chan struct{}]struct{} // by topic; guarded by mu
	idle    chan struct{}                         // closed when the last one has left; guarded by mu
}

// A signal says that something of its topic has changed: a request's id, or
// empty, then it concerns everybody. They are numbered without gaps.
type signal struct {
	n     int64
	topic string
}

func newWatch(read func(after int64) ([]signal, error)) *watch {
	return &watch{read: read, hurry: make(chan struct{}, 1), waiting: map[string]map[chan struct{}]struct{}{}}
}

// Watch tells of changes of a topic from now on: [approvals.Watcher].
func (s *Store) Watch(topic string) (changed <-chan struct{}, stop func()) {
	return s.watch.join(topic)
}

func (w *watch) join(topic string) (<-chan struct{}, func()) {
	ch := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) == 0 {
		w.idle = make(chan struct{})
		go w.run(w.idle)
	}
	if w.waiting[topic] == nil {
		w.waiting[topic] = map[chan struct{}]struct{}{}
	}
	w.waiting[topic][ch] = struct{}{}
	return ch, sync.OnceFunc(func() { w.leave(topic, ch) })
}

func (w *watch) leave(topic string, ch chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.waiting[topic], ch)
	if len(w.waiting[topic]) == 0 {
		delete(w.waiting, topic)
	}
	if len(w.waiting) == 0 {
		close(w.idle)
	}
}

// soon has run look at once. It is called after each transaction of this process.
func (w *watch) soon() {
	select {
	case w.hurry <- struct{}{}:
	default: // it is about to
	}
}

// run looks until nobody waits.
func (w *watch) run(idle <-chan struct{}) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for last := int64(-1); ; {
		last = w.look(last)
		select {
		case <-idle:
			return
		case <-w.hurry:
		case <-tick.C:
		}
	}
}

// look wakes those whom the signals after last concern, and returns the last one.
// All are woken when some are missed, as before the first look, or when they
// cannot be read: who is woken sees for himself.
func (w *watch) look(last int64) int64 {
	signals, err := w.read(last)
	if err != nil {
		w.wake("")
		return last
	}
	for _, s := range signals {
		if s.n != last+1 {
			s.topic = ""
		}
		w.wake(s.topic)
		last = s.n
	}
	return last
}

func (w *watch) wake(topic string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if topic != "" {
		wakeAll(w.waiting[topic])
		return
	}
	for _, those := range w.waiting {
		wakeAll(those)
	}
}

func wakeAll(those map[chan struct{}]struct{}) {
	for ch := range those {
		select {
		case ch <- struct{}{}:
		default: // it is woken already
		}
	}
}

// signals reads what watch looks at.
func (s *Store) signals(after int64) ([]signal, error) {
	return list(context.Background(), s, func(scan scan) (g signal, err error) {
		err = scan(&g.n, &g.topic)
		return g, err
	}, "SELECT n, topic FROM signals WHERE n > ? ORDER BY n", after)
}
