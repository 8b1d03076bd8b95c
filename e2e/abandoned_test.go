//go:build e2e

package e2e

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestAbandoned: a host gives up on a held call. mcporter sends no cancellation
// then, on any transport: it closes its side and ends. The owner approves
// too late: nothing runs by itself. The same call again finds the approval.
func TestAbandoned(t *testing.T) {
	eachWay(t, []way{{hosts[0], doors[0]}, {hosts[0], doors[1]}, {hosts[0], doors[2]}}, func(t *testing.T, w way) {
		dir := t.TempDir()
		folder, wire := filepath.Join(dir, "folder"), filepath.Join(dir, "wire")
		file := filepath.Join(folder, "late.txt")
		writeFile(t, filepath.Join(folder, "keep.txt"), "")
		home := newHome(t, filepath.Join(dir, "openleash"), filesPolicy,
			map[string]any{"files": stdioServer(recorded(t, wire, filesystem(folder)))})
		s := w.session(t, home, "files")

		impatient := append(w.host.call(s.config, "write_file", encode(t, writing(file, "late"))), "--timeout", "8000")
		done := make(chan answer, 1)
		cmd := s.command(t, impatient)
		go func() { done <- finish(cmd) }()
		request := home.held(t, "write_file", done)
		if got := <-done; !got.failed || !strings.Contains(got.out, "timed out") {
			t.Fatalf("want a host that gives up, got\n%s", got.out)
		}
		home.run(t, "approvals", "approve", request.ID)
		time.Sleep(3 * time.Second) // time enough for a call that must not come
		wantNoFile(t, file)
		if sent := calls(t, wire, "write_file"); len(sent) != 0 {
			t.Error("the call of a host that had given up reached the upstream")
		}

		if got := s.call(t, "write_file", writing(file, "late")); got.failed {
			t.Errorf("the same call after the approval: want it done, got\n%s", got.out)
		}
		wantFile(t, file, "late")
		if sent := calls(t, wire, "write_file"); len(sent) != 1 {
			t.Errorf("the upstream was called %d times, want once", len(sent))
		}
		home.log(t)
	})
}
