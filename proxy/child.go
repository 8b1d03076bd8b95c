package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/openleash/openleash-go/action"
)

// Command says how a server is started.
type Command struct {
	Name   string // the server's, for messages
	Args   []string
	Dir    string    // empty: ours
	Env    []string  // the whole environment: nothing is inherited (ChildEnv makes it)
	Stderr io.Writer // where its words for people go
	Limits action.Limits
}

// inherited are the variables that a server gets beside its own: what programs
// need to run at all, and no secrets.
var inherited = []string{
	"HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER",
	"APPDATA", "HOMEDRIVE", "HOMEPATH", "LOCALAPPDATA", "PATHEXT", "PROCESSOR_ARCHITECTURE", "PROGRAMDATA", "PROGRAMFILES",
	"SYSTEMDRIVE", "SYSTEMROOT", "TEMP", "TMP", "USERNAME", "USERPROFILE", "WINDIR",
}

// ChildEnv is a server's environment: the basics, and exactly what its entry
// in the configuration names.
func ChildEnv(configured map[string]string) []string {
	env := []string{}
	for _, name := range inherited {
		if v, ok := os.LookupEnv(name); ok {
			if _, own := configured[name]; !own {
				env = append(env, name+"="+v)
			}
		}
	}
	for name, v := range configured {
		env = append(env, name+"="+v)
	}
	slices.Sort(env)
	return env
}

// child is the Conn to a server that runs as our child process.
type child struct {
	*lines
	cmd    *exec.Cmd
	stdin  io.Closer
	tree   processTree
	said   *tail
	name   string
	exited chan struct{}
	fate   error // how it ended; set before exited is closed

	closing sync.Once
}

// closeGrace is how long a server has to end by itself after its input was
// closed, and again after it was asked to (MCP, stdio, Shutdown): together less
// than the 4 s after which hosts kill us.
const closeGrace = time.Second

// StartChild launches a server. The process, and all that it starts, ends with
// Close, and (on Linux and Windows) with us, whatever ends us.
func StartChild(c Command) (Conn, error) {
	if len(c.Args) == 0 {
		return nil, fmt.Errorf("server %s: no command given", c.Name)
	}
	cmd := exec.Command(c.Args[0], c.Args[1:]...)
	cmd.Dir, cmd.Env = c.Dir, c.Env
	said := &tail{}
	cmd.Stderr = io.MultiWriter(said, orDiscard(c.Stderr))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("server %s: %w", c.Name, err)
	}
	stdout, ours, err := os.Pipe() // ours, so that Wait does not close it before it is read out
	if err != nil {
		return nil, fmt.Errorf("server %s: %w", c.Name, err)
	}
	cmd.Stdout = ours
	cmd.WaitDelay = time.Second // a grandchild that keeps stderr open does not keep us
	ch := &child{cmd: cmd, stdin: stdin, said: said, name: c.Name, exited: make(chan struct{})}
	ch.lines = newLines(stdout, stdin, c.Limits, nil)
	if err := ch.start(ours, stdout); err != nil {
		stdout.Close()
		return nil, startError(c, err)
	}
	return ch, nil
}

// start runs the child on a thread of its own: on Linux a child is tied to the
// life of the thread that started it, not to the process.
func (ch *child) start(ours, stdout *os.File) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		ch.tree.prepare(ch.cmd)
		err := ch.cmd.Start()
		ours.Close()
		if err == nil {
			if err = ch.tree.adopt(ch.cmd); err != nil {
				ch.cmd.Process.Kill()
				ch.cmd.Wait()
			}
		}
		started <- err
		if err != nil {
			return
		}
		err = ch.cmd.Wait()
		ch.tree.kill() // what it has started and left behind
		ch.fate = ch.describe(err)
		close(ch.exited)
		time.AfterFunc(time.Second, func() { stdout.Close() }) // by then it is read out
	}()
	return <-started
}

func startError(c Command, err error) error {
	hint := ""
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		hint = "; is it installed, and on the PATH of the program that started OpenLeash? A full path always works"
	}
	return fmt.Errorf("server %s: starting %q: %w%s", c.Name, c.Args[0], err, hint)
}

// describe says how the process ended, with its last words.
func (ch *child) describe(err error) error {
	state := "it ended (exit status 0)"
	if err != nil {
		state = "it ended: " + err.Error()
	}
	if words := ch.said.String(); words != "" {
		state += "; its last words: " + words
	}
	return errors.New(state)
}

// Fate is how the process ended; call it after Close.
func (ch *child) Fate() error {
	<-ch.exited
	return ch.fate
}

// Send fails once the process has ended.
func (ch *child) Send(ctx context.Context, m Message) error {
	if err := ch.lines.Send(ctx, m); err != nil {
		select {
		case <-ch.exited:
			return ch.fate
		case <-time.After(100 * time.Millisecond):
			return fmt.Errorf("writing to its standard input: %w", err)
		}
	}
	return nil
}

// Close ends the process: "the client SHOULD … first, closing the input stream
// to the child process, waiting for the server to exit, or sending SIGTERM if
// the server does not exit within a reasonable time, sending SIGKILL if the
// server does not exit within a reasonable time after SIGTERM" (MCP, stdio).
func (ch *child) Close() error {
	ch.closing.Do(func() {
		ch.stdin.Close()
		if ch.waited(closeGrace) {
			return
		}
		ch.tree.terminate()
		if !ch.waited(closeGrace) {
			ch.tree.kill()
		}
	})
	<-ch.exited
	return nil
}

func (ch *child) waited(d time.Duration) bool {
	select {
	case <-ch.exited:
		return true
	case <-time.After(d):
		return false
	}
}

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}

// tail keeps the last words of a process, for errors.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailBytes = 500

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if len(t.buf) > tailBytes {
		t.buf = append([]byte(nil), t.buf[len(t.buf)-tailBytes:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(bytes.ToValidUTF8(t.buf, []byte("?"))))
}
