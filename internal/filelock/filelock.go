// Package filelock locks files between processes, and between independent
// holders in one process. A lock is exclusive, is gone when its holder's
// process dies, however it dies, and keeps others out only if they ask too.
// Lock files are made 0600, hold nothing, and are never removed: a removed lock
// file would let two holders lock two files of one name.
//
// [Lock], [LockContext] and [TryLock] are for things that are done seldom, and
// promise no order. [Queue] is for things that several processes do all the
// time, and starves none of them.
package filelock

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"
)

// retry is how often LockContext asks again.
const retry = 10 * time.Millisecond

// Lock waits until it holds path, making the file if need be.
func Lock(path string) (unlock func() error, err error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	if err := lock(f); err != nil {
		f.Close()
		return nil, failed(path, err)
	}
	return f.Close, nil
}

// TryLock is Lock without waiting; ok is false when another holds path.
func TryLock(path string) (unlock func() error, ok bool, err error) {
	f, err := open(path)
	if err != nil {
		return nil, false, err
	}
	ok, err = tryLock(f)
	if err != nil {
		f.Close()
		return nil, false, failed(path, err)
	}
	if !ok {
		f.Close()
		return nil, false, nil
	}
	return f.Close, true, nil
}

// LockContext is Lock that gives up when ctx ends. It asks again and again, so
// a waiter may be overtaken.
func LockContext(ctx context.Context, path string) (unlock func() error, err error) {
	for {
		unlock, ok, err := TryLock(path)
		if ok || err != nil {
			return unlock, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for %s, which another process holds: %w", path, ctx.Err())
		case <-time.After(retry):
		}
	}
}

// A Queue is a lock that is taken and given back many times a second by several
// processes. Who gives it back cannot take it again before one who waits: the
// kernel only wakes those who wait for a file, and a busy process would have
// taken it again before they run. So there are two files. A waiter holds the
// gate until it has the lock, and who comes back finds the gate shut.
type Queue struct {
	mu   sync.Mutex // held from Lock to Unlock: file locks do not tell goroutines apart
	path string
	gate *os.File // path + ".gate"
	lock *os.File // path
}

// OpenQueue prepares a queue at path, without taking the lock.
func OpenQueue(path string) (*Queue, error) {
	l, err := open(path)
	if err != nil {
		return nil, err
	}
	g, err := open(path + ".gate")
	if err != nil {
		l.Close()
		return nil, err
	}
	return &Queue{path: path, gate: g, lock: l}, nil
}

// Lock waits for its turn.
func (q *Queue) Lock() error {
	q.mu.Lock()
	if err := q.pass(); err != nil {
		q.mu.Unlock()
		return failed(q.path, err)
	}
	return nil
}

// TryLock takes the lock when nobody has it and nobody waits for it.
func (q *Queue) TryLock() (ok bool, err error) {
	if !q.mu.TryLock() {
		return false, nil
	}
	if ok, err = tryLock(q.gate); ok {
		ok, err = tryLock(q.lock)
		if e := unlock(q.gate); ok && e != nil {
			unlock(q.lock)
			ok, err = false, e
		}
	}
	if !ok {
		q.mu.Unlock()
	}
	if err != nil {
		err = failed(q.path, err)
	}
	return ok, err
}

// LockContext is Lock that gives up when ctx ends.
func (q *Queue) LockContext(ctx context.Context) error {
	turn := make(chan error, 1)
	go func() { turn <- q.Lock() }()
	select {
	case err := <-turn:
		return err
	case <-ctx.Done():
		go q.decline(turn)
		return fmt.Errorf("waiting for %s, which another process holds: %w", q.path, ctx.Err())
	}
}

// decline gives back a turn that comes too late.
func (q *Queue) decline(turn <-chan error) {
	if <-turn == nil {
		q.Unlock()
	}
}

// pass goes through the gate and takes the lock.
func (q *Queue) pass() error {
	if err := lock(q.gate); err != nil {
		return err
	}
	err := lock(q.lock)
	if e := unlock(q.gate); err == nil && e != nil {
		unlock(q.lock)
		err = e
	}
	return err
}

// Unlock gives the lock back.
func (q *Queue) Unlock() error {
	defer q.mu.Unlock()
	if err := unlock(q.lock); err != nil {
		return failed(q.path, err)
	}
	return nil
}

// Close gives up the files; the lock must not be held.
func (q *Queue) Close() error {
	err := q.gate.Close()
	if e := q.lock.Close(); e != nil {
		err = e
	}
	return err
}

func open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening lock file: %w", err)
	}
	return f, nil
}

func failed(path string, err error) error {
	return fmt.Errorf("locking %s: %w; the folder must be on a file system that knows locks (a local one)", path, err)
}
