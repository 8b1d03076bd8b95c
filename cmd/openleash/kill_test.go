//go:build unix

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/openleash/openleash-go/proof"
)

// installation is one home for tests that are no scripts.
type installation struct {
	dir, home, calls string
	port             int
	env              []string
}

func newInstallation(t *testing.T, policy string) *installation {
	t.Helper()
	dir := t.TempDir()
	in := &installation{dir: dir, home: filepath.Join(dir, "home"), calls: filepath.Join(dir, "calls"), port: freePort()}
	files := map[string]string{
		"config.yaml":        fmt.Sprintf("listen: 127.0.0.1:%d\n", in.port),
		"policies/test.yaml": policy,
	}
	if err := os.MkdirAll(filepath.Join(in.home, "policies"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(in.home, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	in.env = append(os.Environ(), "OPENLEASH_HOME="+in.home, "HOME="+dir)
	if os.Getenv("GORACE") == "" {
		in.env = append(in.env, "GORACE=atexit_sleep_ms=0")
	}
	return in
}

// stdio starts a host's side of a session with the fake server.
func (in *installation) stdio(t *testing.T, agent string) *process {
	t.Helper()
	p, err := startProcess(in.dir, in.env, []string{"openleash", "stdio", "--agent", agent, "--name", "fake", "--", "fakemcp", "-record", in.calls})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.exited
	})
	return p
}

// run runs a command of ours that must succeed.
func (in *installation) run(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "openleash", args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGQUIT) } // it says where it hangs
	cmd.Dir, cmd.Env = in.dir, in.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("openleash %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// whole checks what must hold at any time: the log verifies, and has the
// decision of each call that the server has received, which was killed so often.
func (in *installation) whole(t *testing.T, killed int) {
	t.Helper()
	if out := in.run(t, "audit", "verify"); !strings.Contains("\n"+out, "\nok: ") {
		t.Fatalf("audit verify: %s", out)
	}
	if err := forwardedAreLogged(in.calls, filepath.Join(in.home, "data", "audit.log.jsonl"), killed); err != nil {
		t.Fatal(err)
	}
}

func (p *process) answers() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.out)
}

// load sends calls, at most window of them unanswered, until it is told to stop
// or the process takes no more. It returns how many it has sent.
func (p *process) load(window int, stop func() bool) int {
	sent := 0
	for !stop() && !p.ended() {
		if sent-p.answers() >= window {
			time.Sleep(time.Millisecond)
			continue
		}
		sent++
		if _, err := fmt.Fprintf(p.stdin, `{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"echo","arguments":{"n":%d}}}`+"\n", sent, sent); err != nil {
			break
		}
	}
	return sent
}

const allowAll = "version: 1\ndefault: allow\nrules: []\n"

// kills ends one of several processes in the middle of its work, again and again, on one
// home. The others go on.
func kills(t *testing.T, times, processes int) {
	in := newInstallation(t, allowAll)
	for i := range times {
		var hosts []*process
		for n := range processes {
			hosts = append(hosts, in.stdio(t, fmt.Sprintf("host%d", n)))
		}
		var enough atomic.Bool
		sent := make([]int, processes)
		var loads sync.WaitGroup
		for n, p := range hosts {
			loads.Go(func() { sent[n] = p.load(16, enough.Load) })
		}
		victim, after := hosts[0], rand.IntN(40) // answers; then at any moment
		if !eventually(func() bool { return victim.answers() > after || victim.ended() }) || victim.ended() {
			t.Fatalf("it does not answer: %s", victim.all())
		}
		time.Sleep(time.Duration(rand.IntN(10_000)) * time.Microsecond)
		if err := victim.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-victim.exited
		enough.Store(true)
		loads.Wait()
		for n, p := range hosts[1:] {
			if !eventually(func() bool { return p.answers() == sent[n+1] }) || strings.Contains(p.output(), `rror"`) {
				t.Fatalf("%d calls sent to one that lives, %d answered: %.3000s", sent[n+1], p.answers(), p.all())
			}
			if err := p.stdin.Close(); err != nil {
				t.Error(err)
			}
			<-p.exited
		}
		in.whole(t, i+1)
	}
}

// What `keys export` writes is what those who verify offline read.
func TestKeysExport(t *testing.T) {
	in := newInstallation(t, allowAll)
	keys, err := proof.ParseExport([]byte(in.run(t, "keys", "export")))
	if err != nil || len(keys) != 1 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	if list := in.run(t, "keys", "list"); !strings.Contains(list, keys[0].ID) || !strings.Contains(list, keys[0].SPKI()) {
		t.Errorf("keys list does not have %s: %s", keys[0].ID, list)
	}
}

// However often we are killed, no call has been forwarded that is not in the log,
// and the log is whole.
func TestKills(t *testing.T) {
	t.Parallel()
	kills(t, 10, 1)
}

func TestKillsAmongThree(t *testing.T) {
	t.Parallel()
	kills(t, 4, 3)
}

// Two processes on one home share everything: what one holds another sees, the
// log is one, and each answers all its calls.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	together(t, 2, func() func() bool {
		n := 0
		return func() bool { n++; return n > 3000 } // looks, not calls
	})
}

// The process that sequences the log is stopped in the middle of its work, whatever it
// holds then; the other goes on, or refuses. Nothing is lost, and when the first goes on
// the log is complete again.
func TestStoppedSequencer(t *testing.T) {
	t.Parallel()
	stops(t, 4)
}

func stops(t *testing.T, times int) {
	in := newInstallation(t, allowAll)
	hosts := []*process{in.stdio(t, "first"), nil}
	if !eventually(func() bool { return fileSize(filepath.Join(in.home, "data", "audit.log.checkpoint")) > 0 }) {
		t.Fatal(hosts[0].all()) // the first has the seat
	}
	hosts[1] = in.stdio(t, "second")
	var enough atomic.Bool
	sent := make([]int, 2)
	var loads sync.WaitGroup
	for i, p := range hosts {
		loads.Go(func() { sent[i] = p.load(8, enough.Load) })
	}
	for range times {
		time.Sleep(time.Duration(rand.IntN(300_000)) * time.Microsecond)
		signalTo(t, hosts[0], syscall.SIGSTOP)
		time.Sleep(time.Duration(200+rand.IntN(1500)) * time.Millisecond)
		signalTo(t, hosts[0], syscall.SIGCONT)
	}
	enough.Store(true)
	loads.Wait()
	for i, p := range hosts {
		if !eventually(func() bool { return p.answers() == sent[i] }) {
			t.Fatalf("%d calls sent, %d answered: %s", sent[i], p.answers(), p.words())
		}
		for line := range strings.Lines(p.output()) {
			if strings.Contains(line, `rror"`) && !strings.Contains(line, "_UNAVAILABLE") {
				t.Errorf("a call failed: %.500s", line)
			}
		}
		if err := p.stdin.Close(); err != nil {
			t.Error(err)
		}
		<-p.exited
	}
	in.whole(t, 0)
	t.Logf("%d calls, %d refused", sent[0]+sent[1], strings.Count(hosts[0].output()+hosts[1].output(), "_UNAVAILABLE"))
}

func signalTo(t *testing.T, p *process, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// together loads several processes on one home.
func together(t *testing.T, processes int, newStop func() func() bool) {
	in := newInstallation(t, allowAll)
	type done struct {
		p    *process
		sent int
	}
	ended := make(chan done)
	for i := range processes {
		p := in.stdio(t, fmt.Sprintf("host%d", i))
		stop := newStop()
		go func() { ended <- done{p, p.load(8, stop)} }()
	}
	total := 0
	for range processes {
		d := <-ended
		if d.sent == 0 || !eventually(func() bool { return d.p.answers() == d.sent }) {
			t.Errorf("%d calls sent, %d answered: %s", d.sent, d.p.answers(), d.p.words())
		}
		if out := d.p.output(); strings.Contains(out, `"isError"`) || strings.Contains(out, `"error"`) {
			t.Errorf("a call failed: %.2000s", out[strings.Index(out, `rror"`)-40:])
		}
		total += d.sent
		if err := d.p.stdin.Close(); err != nil {
			t.Error(err)
		}
		<-d.p.exited
		if code := d.p.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("exit code %d: %s", code, d.p.words())
		}
	}
	in.whole(t, 0)
	log := in.run(t, "audit", "tail", "--json", "-n", fmt.Sprint(3*total))
	if decisions, outcomes := strings.Count(log, `"event":"decision"`), strings.Count(log, `"outcome":"ok"`); decisions != total || outcomes != total {
		t.Errorf("%d calls, but %d decisions and %d outcomes in the log", total, decisions, outcomes)
	}
}
