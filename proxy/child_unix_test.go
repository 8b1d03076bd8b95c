//go:build unix

package proxy

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openleash/openleash-go/action"
)

// shell starts a server that is a shell script.
func shell(t *testing.T, script string, env ...string) Conn {
	t.Helper()
	c, err := StartChild(Command{Name: "fake", Args: []string{"/bin/sh", "-c", script}, Env: append(env, "PATH="+os.Getenv("PATH")), Limits: action.Limits{Bytes: 1 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func fate(t *testing.T, c Conn) string {
	t.Helper()
	c.Close()
	return c.(interface{ Fate() error }).Fate().Error()
}

// gone waits until a process has ended.
func gone(t *testing.T, pidFile string) {
	t.Helper()
	var pid int
	for range 500 {
		if b, err := os.ReadFile(pidFile); err == nil && strings.HasSuffix(string(b), "\n") {
			pid, _ = strconv.Atoi(strings.TrimSpace(string(b)))
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if pid == 0 {
		t.Fatalf("no process wrote %s", pidFile)
	}
	for range 500 {
		if !alive(pid) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	syscall.Kill(pid, syscall.SIGKILL)
	t.Errorf("process %d was left behind", pid)
}

// alive reports whether a process runs; a zombie does not.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || !strings.Contains(string(stat), ") Z ")
}

func TestChildRelaysLines(t *testing.T) {
	c := shell(t, `while read -r line; do printf '%s\n' "$line"; done`)
	for _, raw := range []string{`{"jsonrpc":"2.0","id":1,"method":"ping","params":{"n":1.10}}`, `{"jsonrpc":"2.0","id":2,"result":{}}`} {
		if err := c.Send(t.Context(), Message{Raw: []byte(raw)}); err != nil {
			t.Fatal(err)
		}
		m, err := c.Recv(t.Context())
		if err != nil || string(m.Raw) != raw {
			t.Fatalf("got %s, %v", m.Raw, err)
		}
	}
	if got := fate(t, c); !strings.Contains(got, "exit status 0") {
		t.Errorf("after its input was closed: %s", got)
	}
}

// A message that came over HTTP may have newlines between its tokens.
func TestNewlinesInsideAMessageBecomeSpaces(t *testing.T) {
	c := shell(t, `while read -r line; do printf '%s\n' "$line"; done`)
	if err := c.Send(t.Context(), Message{Raw: []byte("{\n\"jsonrpc\":\"2.0\",\r\n\"method\":\"x\"}")}); err != nil {
		t.Fatal(err)
	}
	m, err := c.Recv(t.Context())
	if want := `{ "jsonrpc":"2.0",  "method":"x"}`; err != nil || string(m.Raw) != want {
		t.Errorf("got %q, %v; want %q", m.Raw, err, want)
	}
}

func TestChildGetsExactlyItsEnvironment(t *testing.T) {
	t.Setenv("SECRET_OF_ANOTHER", "x")
	file := filepath.Join(t.TempDir(), "env")
	want := ChildEnv(map[string]string{"MINE": "1", "HOME": "/elsewhere", "OUT": file})
	c, err := StartChild(Command{Name: "fake", Args: []string{"/bin/sh", "-c", `exec env > "$OUT"`}, Env: want})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// The shell adds these itself.
	got := slices.DeleteFunc(strings.Split(strings.TrimSpace(string(b)), "\n"), func(kv string) bool {
		return strings.HasPrefix(kv, "PWD=") || strings.HasPrefix(kv, "SHLVL=") || strings.HasPrefix(kv, "_=")
	})
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the child's environment is %q, want %q", got, want)
	}
	if !slices.Contains(want, "MINE=1") || !slices.Contains(want, "HOME=/elsewhere") || slices.Contains(want, "SECRET_OF_ANOTHER=x") {
		t.Errorf("ChildEnv = %q", want)
	}
}

func TestChildThatCannotStart(t *testing.T) {
	_, err := StartChild(Command{Name: "files", Args: []string{"no-such-program-here"}})
	if err == nil || !strings.Contains(err.Error(), `server files: starting "no-such-program-here"`) || !strings.Contains(err.Error(), "PATH") {
		t.Errorf("got %v", err)
	}
}

func TestChildThatDiesSaysWhy(t *testing.T) {
	c := shell(t, `echo 'no such database' >&2; exit 3`)
	if _, err := c.Recv(t.Context()); err != io.EOF {
		t.Errorf("Recv: %v, want EOF", err)
	}
	if got := fate(t, c); !strings.Contains(got, "exit status 3") || !strings.Contains(got, "no such database") {
		t.Errorf("got %s", got)
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	for name, script := range map[string]string{
		"a grandchild":         `sleep 300 & echo $! > "$PIDS/p"; while read -r l; do :; done`,
		"deaf to its input":    `echo $$ > "$PIDS/p"; exec sleep 300`,
		"deaf to signals":      `trap '' TERM INT HUP; echo $$ > "$PIDS/p"; while :; do sleep 1; done`,
		"an orphan of a crash": `sleep 300 & echo $! > "$PIDS/p"; exit 1`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			c := shell(t, script, "PIDS="+dir)
			for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
				if b, err := os.ReadFile(filepath.Join(dir, "p")); err == nil && len(b) > 1 {
					break
				}
			}
			c.Close()
			gone(t, filepath.Join(dir, "p"))
		})
	}
}

// What was started ahead goes to the first who asks, if it lives still.
func TestStartedAhead(t *testing.T) {
	var commands int
	s := &Starter{Command: func() (Command, error) {
		commands++
		return Command{Name: "fake", Args: []string{"/bin/sh", "-c", "while read -r l; do :; done"}}, nil
	}}
	start := func() *Child {
		c := must(s.Start())(t).(*Child)
		t.Cleanup(func() { c.Close() })
		return c
	}
	for _, do := range []func(){
		func() { start() },
		func() { start().Close(); start() },
		func() { s.take().Close(); start() },
		func() { s.ahead.Close(); start() },
		func() { s.Close(); start() },
	} {
		if err := s.Ahead(); err != nil {
			t.Fatal(err)
		}
		ahead := s.ahead
		do()
		if s.ahead != nil {
			t.Error("it is still kept for somebody")
		}
		s.Close()
		ahead.Close()
	}
	if commands != 5+0+1+1+1+1 {
		t.Errorf("%d were started", commands)
	}
	s.Command = func() (Command, error) { return Command{}, io.ErrUnexpectedEOF }
	if c, err := s.Start(); c != nil || err != io.ErrUnexpectedEOF {
		t.Errorf("got %v, %v", c, err)
	}
}

// There are no more processes at once than may be, and one that has ended, or
// could not start, counts no longer.
func TestChildrenAreCounted(t *testing.T) {
	within := &Children{Max: 2}
	start := func(program string) (*Child, error) {
		return StartChild(Command{Name: "fake", Args: []string{program, "-c", "read -r l"}, Within: within})
	}
	for range 5 {
		if _, err := start("/no/such"); err == nil || strings.Contains(err.Error(), "limits.children") {
			t.Fatalf("got %v", err)
		}
	}
	a, b := must(start("/bin/sh"))(t), must(start("/bin/sh"))(t)
	if _, err := start("/bin/sh"); err == nil || !strings.Contains(err.Error(), "runs 2 servers' processes already, as many as limits.children") {
		t.Errorf("the third: %v", err)
	}
	a.Close()
	must(start("/bin/sh"))(t).Close()
	b.Close()
	if n := within.running.Load(); n != 0 {
		t.Errorf("%d are counted still", n)
	}
}

// Lines are whole and bounded, whatever the pieces they come in.
func TestWordsOfAServer(t *testing.T) {
	var got []string
	long := strings.Repeat("x", 3*maxSaid)
	passOn(iotest.OneByteReader(strings.NewReader("one\r\n\n \t\ntwo\n"+long+"\nthree\n"+long[:maxSaid-1]+"\nfour")), func(line string) { got = append(got, line) })
	want := []string{"one", "two", long[:maxSaid] + " …", "three", long[:maxSaid-1], "four"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// If its watchdog is killed, the server ends all the same, and that is said.
func TestKilledWatchdog(t *testing.T) {
	dir := t.TempDir()
	c := shell(t, `echo $PPID > "$PIDS/watchdog"; echo $$ > "$PIDS/server.new"; mv "$PIDS/server.new" "$PIDS/server"; trap '' TERM; while read -r l; do :; done`, "PIDS="+dir)
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(dir, "server")); err == nil {
			break
		}
	}
	b := must(os.ReadFile(filepath.Join(dir, "watchdog")))(t)
	pid := must(strconv.Atoi(strings.TrimSpace(string(b))))(t)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Recv(t.Context()); err != io.EOF {
		t.Errorf("Recv: %v, want EOF", err)
	}
	gone(t, filepath.Join(dir, "server"))
	if got := fate(t, c); !strings.Contains(got, "its watchdog was killed") {
		t.Errorf("got %s", got)
	}
}

// What is sent to a server that has ended fails with how it ended, and not with a broken
// pipe, however busy the machine is.
func TestSendToADeadChildSaysHowItEnded(t *testing.T) {
	c := shell(t, `echo bye >&2; exit 9`)
	var err error
	for deadline := time.Now().Add(30 * time.Second); err == nil && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		err = c.Send(context.Background(), Message{Raw: []byte(`{"jsonrpc":"2.0","method":"x"}`)})
	}
	if err == nil || !strings.Contains(err.Error(), "exit status 9") || !strings.Contains(err.Error(), "bye") {
		t.Errorf("got %v", err)
	}
}

func TestLinesOverTheLimitAreRefusedAndTheSessionGoesOn(t *testing.T) {
	in := padded(2000) + "\n\n" + `{"jsonrpc":"2.0","id":2,"method":"x"}`
	c := StdioHost(strings.NewReader(in), io.Discard, action.Limits{Bytes: 1000})
	_, err := c.Recv(t.Context())
	if bad, ok := err.(*BadMessage); !ok || !strings.Contains(bad.Reason, "more than 1000 bytes") {
		t.Fatalf("the long line: %v", err)
	}
	if m, err := c.Recv(t.Context()); err != nil || m.ID != "2" {
		t.Fatalf("the next, without a newline: %+v, %v", m, err)
	}
	if _, err := c.Recv(t.Context()); err != io.EOF {
		t.Fatalf("the end: %v", err)
	}
}
