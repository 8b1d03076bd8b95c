package filelock

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// The test binary is also the process that holds a lock and dies.
func TestMain(m *testing.M) {
	if path := os.Getenv("OPENLEASH_FILELOCK_HOLD"); path != "" {
		if _, err := Lock(path); err != nil {
			os.Exit(1)
		}
		os.Stdout.WriteString("held\n")
		time.Sleep(time.Minute)
	}
	os.Exit(m.Run())
}

func TestTryLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	try := func(want bool) func() error {
		t.Helper()
		unlock, ok, err := TryLock(path)
		if err != nil || ok != want {
			t.Fatalf("want %t, got %t, %v", want, ok, err)
		}
		return unlock
	}
	unlock := try(true)
	try(false)
	unlock()
	unlock = try(true)
	unlock()
	unlock, err := Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	try(false)
	unlock()
	try(true)()
}

func TestLockWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 1)
	go func() {
		unlock, err := Lock(path)
		if err == nil {
			unlock()
		}
		got <- err
	}()
	select {
	case <-got:
		t.Fatal("two hold one lock")
	case <-time.After(30 * time.Millisecond):
	}
	unlock()
	if err := <-got; err != nil {
		t.Error(err)
	}
}

func TestContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	queue, err := OpenQueue(path)
	if err != nil {
		t.Fatal(err)
	}
	defer queue.Close()
	for name, lock := range map[string]func(context.Context) (func() error, error){
		"file":  func(ctx context.Context) (func() error, error) { return LockContext(ctx, path) },
		"queue": func(ctx context.Context) (func() error, error) { return queue.Unlock, queue.LockContext(ctx) },
	} {
		held, err := Lock(path)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		_, err = lock(ctx)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: want a deadline that names %s, got %v", name, path, err)
		}
		held()
		unlock, err := lock(t.Context()) // the turn that was declined is passed on
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		unlock()
	}
}

// A lock is gone when its holder's process is killed.
func TestHolderDies(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "OPENLEASH_FILELOCK_HOLD="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := TryLock(path); ok || err != nil {
		t.Errorf("while it lives: want it held, got %t, %v", ok, err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	unlock, ok, err := TryLock(path)
	if !ok || err != nil {
		t.Fatalf("after its death: want it free, got %t, %v", ok, err)
	}
	unlock()
}

// One that gives the lock back and wants it again at once does not overtake
// one that waits.
func TestQueueIsFair(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	const holders, turns = 3, 100
	var mu sync.Mutex
	var order []int
	var wg sync.WaitGroup
	for holder := range holders {
		wg.Go(func() {
			q, err := OpenQueue(path)
			if err != nil {
				t.Error(err)
				return
			}
			defer q.Close()
			for range turns {
				if err := q.Lock(); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				order = append(order, holder)
				mu.Unlock()
				time.Sleep(100 * time.Microsecond) // the others come to wait meanwhile
				q.Unlock()
			}
		})
	}
	wg.Wait()
	if len(order) != holders*turns {
		t.Fatalf("want %d turns, got %d", holders*turns, len(order))
	}
	again := 0
	for i := 1; i < len(order)-turns; i++ { // towards the end some are done
		if order[i] == order[i-1] {
			again++
		}
	}
	t.Logf("twice running: %d of %d", again, len(order))
	if again > turns/4 {
		t.Errorf("a holder took the lock twice running %d times out of %d", again, len(order))
	}
}

func TestErrors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "no", "folder", "lock")
	_, err := Lock(path)
	_, _, tryErr := TryLock(path)
	_, queueErr := OpenQueue(path)
	for _, err := range []error{err, tryErr, queueErr} {
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("want an error that names %s, got %v", path, err)
		}
	}
}

func TestQueueTryLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "q")
	open := func() *Queue {
		q, err := OpenQueue(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { q.Close() })
		return q
	}
	here, there := open(), open() // two files are two processes to the system
	try := func(q *Queue, want bool) {
		t.Helper()
		if got, err := q.TryLock(); got != want || err != nil {
			t.Fatalf("TryLock = %v, %v; want %v", got, err, want)
		}
	}
	for range 3 {
		try(here, true)
		try(here, false)
		try(there, false)
		if err := here.Unlock(); err != nil {
			t.Fatal(err)
		}
		try(there, true)
		try(here, false)
		if err := there.Unlock(); err != nil {
			t.Fatal(err)
		}
	}
}
