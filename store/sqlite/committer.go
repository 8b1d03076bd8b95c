package sqlite

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/openleash/openleash-go/internal/filelock"
)

const (
	maxGroup = 256 // jobs in one group; bounds what one waits for
	// closeWait bounds close when another process keeps the turn.
	closeWait = 5 * time.Second
)

// A job is one change of the store: all of it or nothing.
type job struct {
	run     func(*tx) error // conditions and what they allow; nil: none
	entries [][]byte        // for the log, in this order
	state   atomic.Int32    // queued, then taken or withdrawn
	done    chan error      // buffered; written once, when the outcome is certain
	err     error           // the job's own fault; owned by who commits
	end     uint64          // of the journal, after the job; owned by who commits until done
}

const (
	queued int32 = iota
	taken
	withdrawn
)

// take claims the job for who commits; false: its caller has left.
func (j *job) take() bool { return j.state.CompareAndSwap(queued, taken) }

// withdraw is take for the caller; false: somebody has it, await done.
func (j *job) withdraw() bool { return j.state.CompareAndSwap(queued, withdrawn) }

// A committer brings jobs to the disk, one process at a time: whatever has
// gathered when its turn comes is one group, and one sync for all of it.
type committer struct {
	path string
	lock *filelock.Queue // whose turn it is
	// commit brings a group to the disk. It is called with mu and lock held. Its
	// error means that nothing of the group may be relied upon; what concerns one
	// job alone goes to the job's err.
	commit func(group []*job) error
	jobs   chan *job

	once     sync.Once     // closes closing
	closing  chan struct{} // closed by close: no more jobs
	finished chan struct{} // closed by run: nothing will be answered any more

	mu    sync.Mutex // held by who commits: run, or a caller who found nobody there
	ended bool       // run has given up the lock, for good
}

func newCommitter(path string, lock *filelock.Queue, commit func([]*job) error) *committer {
	return &committer{
		path: path, lock: lock, commit: commit, jobs: make(chan *job, maxGroup),
		closing: make(chan struct{}), finished: make(chan struct{}),
	}
}

// do commits a job and returns when its outcome is certain: nil means durable.
// When ctx ends earlier, a job that was not yet taken is withdrawn; one that was
// is waited for.
func (c *committer) do(ctx context.Context, j *job) error {
	if err := c.refuses(ctx); err != nil {
		return err
	}
	j.done = make(chan error, 1)
	if c.atOnce(j) {
		return <-j.done
	}
	select {
	case c.jobs <- j:
	case <-c.closing:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-j.done:
		return err
	case <-ctx.Done():
		if j.withdraw() {
			return ctx.Err()
		}
	case <-c.finished:
		if j.withdraw() {
			return ErrClosed
		}
	}
	return <-j.done
}

// atOnce commits in the caller's goroutine when nobody else commits, here or in
// another process: a call that is alone need not wait for two wake-ups.
func (c *committer) atOnce(j *job) bool {
	if !c.mu.TryLock() {
		return false
	}
	defer c.mu.Unlock()
	if c.ended {
		return false
	}
	if ok, err := c.lock.TryLock(); err != nil || !ok {
		return false
	}
	c.locked(j, nil)
	return true
}

// refuses looks before do's first select, which would choose at random.
func (c *committer) refuses(ctx context.Context) error {
	select {
	case <-c.closing:
		return ErrClosed
	default:
		return ctx.Err()
	}
}

// run commits what callers could not commit at once.
func (c *committer) run() {
	defer close(c.finished)
	for {
		select {
		case j := <-c.jobs:
			c.group(j)
		case <-c.closing:
			c.drain()
			return
		}
	}
}

// drain commits what was queued before closing.
func (c *committer) drain() {
	for {
		select {
		case j := <-c.jobs:
			c.group(j)
		default:
			c.mu.Lock()
			defer c.mu.Unlock()
			c.lock.Close()
			c.ended = true
			return
		}
	}
}

// group commits first and what else has gathered by the time it is our turn.
func (c *committer) group(first *job) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.locked(first, c.lock.Lock())
}

// locked is group once the lock is ours, or cannot be had. Nobody is answered
// before the whole group is certain: what one job saw, or was refused for, may
// be the work of another one.
func (c *committer) locked(first *job, err error) {
	group := c.gather(first)
	if err == nil {
		if len(group) > 0 {
			err = c.commit(group)
		}
		c.lock.Unlock()
	}
	for _, j := range group {
		if err != nil {
			j.err = err
		}
		j.done <- j.err
	}
}

// gather takes what is there; it does not wait for more.
func (c *committer) gather(first *job) (group []*job) {
	for j := first; ; {
		if j.take() {
			group = append(group, j)
		}
		if len(group) == maxGroup {
			return group
		}
		select {
		case j = <-c.jobs:
		default:
			return group
		}
	}
}

// close lets what is queued be finished.
func (c *committer) close() error {
	c.once.Do(func() { close(c.closing) })
	select {
	case <-c.finished:
		return nil
	case <-time.After(closeWait):
		return fmt.Errorf("closing %s: another process keeps the write lock", c.path)
	}
}
