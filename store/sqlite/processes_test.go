package sqlite

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/authz"
)

// The test binary is also the other processes of its tests.
const childEnv = "OPENLEASH_SQLITE_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "":
		os.Exit(m.Run())
	case "compete":
		child(compete)
	case "ack":
		child(ack)
	case "grant":
		child(spendGrant)
	case "answer and die":
		child(answerAndDie)
	case "model":
		child(modelChild)
	}
}

// child opens the store named by the only argument and runs fn on it, beside a
// sequencer, as every process of ours does.
func child(fn func(*Store) error) {
	var key *audit.Key
	s, err := Open(context.Background(), os.Args[1])
	if err == nil {
		key, err = audit.LoadOrCreateKey(os.Args[1])
	}
	if err == nil {
		ctx, stop := context.WithCancel(context.Background())
		sequenced := make(chan error, 1)
		go func() {
			sequenced <- audit.NewSequencer(s, filepath.Join(os.Args[1], "log"), key, audit.Keeping{}).Run(ctx)
		}()
		err = fn(s)
		stop()
		err = errors.Join(err, <-sequenced)
	}
	if err == nil {
		err = s.Close()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func start(t *testing.T, mode, dir string) (*exec.Cmd, io.Reader) {
	t.Helper()
	cmd := command(t, mode, dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, out
}

// command is another process of the test.
func command(t *testing.T, mode, dir string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, dir)
	cmd.Env = append(os.Environ(), childEnv+"="+mode)
	cmd.Stderr = os.Stderr
	return cmd
}

func note(detail string) authz.Batch {
	return authz.Batch{Entries: []audit.Entry{{Event: "test", Detail: detail}}}
}

// details counts the entries in the store by their detail.
func details(t *testing.T, s *Store) map[string]int {
	t.Helper()
	count := map[string]int{}
	for _, detail := range orderedDetails(t, s) {
		count[detail]++
	}
	return count
}

// orderedDetails are those of the entries that have their place, and of those that
// wait for it, in the order of their commits.
func orderedDetails(t *testing.T, s *Store) (all []string) {
	t.Helper()
	_, waiting, err := s.Unsequenced(t.Context(), 1e6)
	if err != nil {
		t.Fatal(err)
	}
	var bodies [][]byte
	for { // a store brings only so many bytes at once
		lines, err := s.Lines(t.Context(), uint64(len(bodies))+1, 1e6)
		if err != nil {
			t.Fatal(err)
		}
		if len(lines) == 0 {
			break
		}
		for _, line := range lines {
			bodies = append(bodies, line.Line)
		}
	}
	for _, body := range append(bodies, waiting...) {
		var e audit.Entry
		if err := json.Unmarshal(body, &e); err != nil {
			t.Fatal(err)
		}
		all = append(all, e.Detail)
	}
	return all
}

// waits is what one competing process has seen.
type waits struct {
	Commits   int64
	Mean, Max time.Duration
}

const (
	competeFor = 1500 * time.Millisecond
	callers    = 4
)

// compete commits as fast as it can, from several goroutines, and writes down
// how long that took.
func compete(s *Store) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var got waits
	var sum time.Duration
	var fault error
	end := time.Now().Add(competeFor)
	for range callers {
		wg.Go(func() {
			for time.Now().Before(end) {
				began := time.Now()
				err := s.Commit(context.Background(), note(fmt.Sprint(os.Getpid())))
				took := time.Since(began)
				mu.Lock()
				got.Commits++
				got.Max = max(got.Max, took)
				sum += took
				if err != nil {
					fault = err
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if fault != nil {
		return fault
	}
	got.Mean = sum / time.Duration(got.Commits)
	return json.NewEncoder(os.Stdout).Encode(got)
}

// Three processes make a new store and commit at once: no errors, nobody is
// starved, nothing is lost. How long a commit takes is the machine's affair;
// that one process waits hundreds of times longer than usual, or gets next to
// nothing done, is what SQLite's own lock does to them.
func TestProcesses(t *testing.T) {
	const processes = 3
	dir := t.TempDir()
	var cmds []*exec.Cmd
	var outs []io.Reader
	for range processes {
		cmd, out := start(t, "compete", dir)
		cmds, outs = append(cmds, cmd), append(outs, out)
	}
	var all []waits
	for i, cmd := range cmds {
		var got waits
		decodeErr := json.NewDecoder(outs[i]).Decode(&got)
		if err := cmd.Wait(); err != nil || decodeErr != nil {
			t.Fatalf("process %d: %v, %v", i, err, decodeErr)
		}
		t.Logf("process %d: %d commits, mean %s, longest %s", i, got.Commits, got.Mean, got.Max)
		all = append(all, got)
	}
	count := details(t, open(t, dir))
	most := max(all[0].Commits, all[1].Commits, all[2].Commits)
	for i, got := range all {
		if n := count[fmt.Sprint(cmds[i].Process.Pid)]; int64(n) != got.Commits {
			t.Errorf("process %d: %d commits, %d entries", i, got.Commits, n)
		}
		if got.Commits < most/4 {
			t.Errorf("process %d was starved: %d commits beside %d", i, got.Commits, most)
		}
		if got.Max > 150*got.Mean {
			t.Errorf("process %d: a commit waited %s, the mean is %s", i, got.Max, got.Mean)
		}
	}
}

// ack commits until it is killed, and writes a line for each commit that has
// returned.
func ack(s *Store) error {
	var n atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for {
				id := fmt.Sprintf("%d-%d", os.Getpid(), n.Add(1))
				if err := s.Commit(context.Background(), note(id)); err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				fmt.Println(id) // one write: whole or not at all
			}
		})
	}
	wg.Wait()
	return nil
}

// A process that is killed in the middle of its commits takes none of those
// with it that it was told of.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	acked := 0
	want := map[string]bool{}
	for kill := range 10 {
		cmd, out := start(t, "ack", dir)
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			want[lines.Text()] = true
			acked++
			if n == 20+17*kill {
				cmd.Process.Kill()
			}
		}
		if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() == 1 {
			t.Fatalf("kill %d: want a killed process, got %v", kill, cmd.ProcessState)
		}
	}
	got := details(t, open(t, dir))
	for id := range want {
		if got[id] != 1 {
			t.Errorf("commit %s was acknowledged, and is there %d times", id, got[id])
		}
	}
	t.Logf("%d commits acknowledged, %d there", acked, len(got))
}
