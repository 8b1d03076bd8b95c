package authz

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// written notes entries of refused attempts, as "code count from".
type written struct {
	mu   sync.Mutex
	list []string
	err  error
}

func (w *written) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = err
}

func (w *written) write(a Access, count int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	w.list = append(w.list, fmt.Sprintf("%s %s %d %s", a.Door, a.Code, count, a.From))
	return nil
}

func (w *written) want(t *testing.T, list ...string) {
	t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if diff := cmp.Diff(list, w.list); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	w.list = nil
}

func kinds(r *refusals) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.tallies)
}

func TestAFloodOfRefusalsIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w written
		r := newRefusals(w.write)
		const flood = 100_000
		for range flood {
			r.refused(Access{Door: "mcp", Code: "INVALID_TOKEN", From: "a"})
		}
		r.refused(Access{Door: "mcp", Code: "INVALID_TOKEN", From: "b"})
		r.refused(Access{Door: "mcp", Code: "MISSING_TOKEN", From: "c"})
		w.want(t, "mcp INVALID_TOKEN 1 a", "mcp MISSING_TOKEN 1 c") // at once
		if n := kinds(r); n != 2 {
			t.Errorf("%d tallies for two kinds", n)
		}
		time.Sleep(refusalsEach)
		w.want(t, fmt.Sprintf("mcp INVALID_TOKEN %d b", flood))
		r.refused(Access{Door: "mcp", Code: "INVALID_TOKEN", From: "d"})
		w.want(t) // within a minute of an entry
		time.Sleep(refusalsEach)
		w.want(t, "mcp INVALID_TOKEN 1 d")
		time.Sleep(refusalsEach)
		synctest.Wait()
		if n := kinds(r); n != 0 {
			t.Errorf("%d tallies after a quiet minute", n)
		}
		r.refused(Access{Door: "mcp", Code: "INVALID_TOKEN", From: "e"})
		w.want(t, "mcp INVALID_TOKEN 1 e") // a first again
		r.refused(Access{Door: "mcp", Code: "INVALID_TOKEN", From: "f"})
		if err := r.close(); err != nil {
			t.Error(err)
		}
		w.want(t, "mcp INVALID_TOKEN 1 f")
	})
}

// What cannot be written is told, and is in the count of the next entry.
func TestRefusalsOutliveTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := errors.New("disk full")
		var w written
		w.fail(gone)
		r := newRefusals(w.write)
		if err := r.refused(Access{Door: "portal", Code: "INVALID_LINK", From: "a"}); !errors.Is(err, gone) {
			t.Errorf("got %v, want %v", err, gone)
		}
		r.refused(Access{Door: "portal", Code: "INVALID_LINK", From: "b"})
		time.Sleep(2 * refusalsEach)
		synctest.Wait()
		w.fail(nil)
		time.Sleep(refusalsEach)
		w.want(t, "portal INVALID_LINK 2 b")
		r.refused(Access{Door: "portal", Code: "INVALID_LINK", From: "c"})
		w.fail(gone)
		if err := r.close(); !errors.Is(err, gone) {
			t.Errorf("close: got %v, want %v", err, gone)
		}
	})
}
