package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/internal/watchdog"
)

// Command says how a server is started.
type Command struct {
	Name   string // the server's, for messages
	Args   []string
	Dir    string            // empty: ours
	Env    []string          // the whole environment: nothing is inherited (ChildEnv makes it)
	As     *watchdog.User    // whom it runs as; nil: as we do
	Say    func(line string) // is told its words for people (standard error); nil: they are lost
	Limits action.Limits
	Within *Children // counts it; nil: nobody does
}

// Children bounds how many servers' processes run at once.
type Children struct {
	Max     int
	running atomic.Int64
}

func (c *Children) take() error {
	if c != nil && c.running.Add(1) > int64(c.Max) {
		c.running.Add(-1)
		return fmt.Errorf("OpenLeash runs %d servers' processes already, as many as limits.children in the configuration allows; end a session, give servers an idle: time, or raise it", c.Max)
	}
	return nil
}

func (c *Children) give() {
	if c != nil {
		c.running.Add(-1)
	}
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

// Child is the Conn to a server that runs as our child process.
type Child struct {
	*lines
	stdin  io.Closer
	tree   *watchdog.Tree
	said   *tail
	exited chan struct{}
	fate   error // how it ended; set before exited is closed

	closing sync.Once
}

// closeGrace is how long a server has to end by itself after its input was
// closed, and again after it was asked to (MCP, stdio, Shutdown): together less
// than the 4 s after which hosts kill us.
const closeGrace = time.Second

// fateWithin is how long it may take until the end of a server is known whose input
// does not take anything any more: on a busy machine the pipe breaks long before.
const fateWithin = 5 * time.Second

// StartChild launches a server. The process, and all that it starts, ends with
// Close, and with us, whatever ends us (package watchdog says how far).
func StartChild(c Command) (*Child, error) {
	if len(c.Args) == 0 {
		return nil, fmt.Errorf("server %s: no command given", c.Name)
	}
	if err := c.Within.take(); err != nil {
		return nil, fmt.Errorf("server %s: %w", c.Name, err)
	}
	ch, err := launchChild(c)
	if err != nil {
		c.Within.give()
		return nil, startError(c, err)
	}
	return ch, nil
}

func launchChild(c Command) (*Child, error) {
	ours, theirs, err := pipes()
	if err != nil {
		return nil, err
	}
	defer closeAll(theirs)
	cmd := exec.Command(c.Args[0], c.Args[1:]...)
	cmd.Dir, cmd.Env = c.Dir, c.Env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs[0], theirs[1], theirs[2]
	ch := &Child{stdin: ours[0], said: &tail{}, exited: make(chan struct{})}
	ch.lines = newLines(ours[1], ours[0], c.Limits, nil)
	if ch.tree, err = watchdog.Start(cmd, c.Name, c.As); err != nil {
		closeAll(ours)
		return nil, err
	}
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		passOn(io.TeeReader(ours[2], ch.said), c.Say)
	}()
	go ch.await(c, ours, heard)
	return ch, nil
}

// pipes are the child's standard input, output and error: our ends, and its own.
func pipes() (ours, theirs [3]*os.File, err error) {
	for i := range ours {
		r, w, err := os.Pipe()
		if err != nil {
			closeAll(ours)
			closeAll(theirs)
			return ours, theirs, err
		}
		ours[i], theirs[i] = r, w
	}
	ours[0], theirs[0] = theirs[0], ours[0] // it reads its input
	return ours, theirs, nil
}

func closeAll(files [3]*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// await collects the child's end, and what it said.
func (ch *Child) await(c Command, ours [3]*os.File, heard <-chan struct{}) {
	how := ch.tree.Wait()
	ch.stdin.Close()
	select {
	case <-heard:
	case <-time.After(time.Second): // somebody who got away keeps it open
	}
	ours[2].Close()
	<-heard
	ch.fate = ch.describe(how)
	c.Within.give()
	close(ch.exited)
	time.AfterFunc(time.Second, func() { ours[1].Close() }) // by then it is read out
}

func startError(c Command, err error) error {
	hint := ""
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		hint = "; is it installed, and on the PATH of the program that started OpenLeash? A full path always works"
	}
	if _, missing := os.Stat(c.Dir); c.Dir != "" && missing != nil {
		hint = "; its folder (cwd) cannot be used: " + missing.Error()
	}
	return fmt.Errorf("server %s: starting %q: %w%s", c.Name, c.Args[0], err, hint)
}

// describe says how the process ended, with its last words.
func (ch *Child) describe(how string) error {
	state := "it ended: " + how
	if how == exitedWell {
		state = "it ended (" + how + ")"
	}
	if words := ch.said.String(); words != "" {
		state += "; its last words: " + words
	}
	return errors.New(state)
}

const exitedWell = "exit status 0"

// Fate is how the process ended; call it after Close.
func (ch *Child) Fate() error {
	if !ch.ended() {
		return errors.New("it cannot be ended, perhaps because it runs with other rights than OpenLeash")
	}
	return ch.fate
}

func (ch *Child) ended() bool {
	select {
	case <-ch.exited:
		return true
	default:
		return false
	}
}

// Send fails once the process has ended.
func (ch *Child) Send(ctx context.Context, m Message) error {
	if err := ch.lines.Send(ctx, m); err != nil {
		if ch.waited(fateWithin) { // it is ending, most likely
			return ch.fate
		}
		return fmt.Errorf("writing to its standard input: %w", err)
	}
	return nil
}

// Close ends the process: "the client SHOULD … first, closing the input stream
// to the child process, waiting for the server to exit, or sending SIGTERM if
// the server does not exit within a reasonable time, sending SIGKILL if the
// server does not exit within a reasonable time after SIGTERM" (MCP, stdio).
func (ch *Child) Close() error {
	ch.closing.Do(func() {
		ch.stdin.Close()
		if ch.waited(closeGrace) {
			return
		}
		ch.tree.Terminate()
		if ch.waited(closeGrace) {
			return
		}
		ch.tree.Kill()
		ch.waited(closeGrace)
	})
	return nil
}

func (ch *Child) waited(d time.Duration) bool {
	select {
	case <-ch.exited:
		return true
	case <-time.After(d):
		return false
	}
}

// maxSaid bounds one line of a server's words: the rest of it is dropped.
const maxSaid = 4 << 10

// passOn tells line by line what is read, to the end.
func passOn(r io.Reader, say func(line string)) {
	if say == nil {
		say = func(string) {}
	}
	in := bufio.NewReaderSize(r, maxSaid)
	for cut := false; ; {
		part, err := in.ReadSlice('\n')
		full := errors.Is(err, bufio.ErrBufferFull)
		line := strings.TrimRight(string(part), "\r\n")
		if full {
			line += " …"
		}
		if !cut && strings.TrimSpace(line) != "" {
			say(line)
		}
		if cut = full; err != nil && !full {
			return
		}
	}
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

// String is what was said in one line, without what a terminal would obey.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lines []string
	for line := range strings.Lines(string(bytes.ToValidUTF8(t.buf, []byte("?")))) {
		if line = strings.TrimSpace(strings.Map(shown, line)); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, " | ")
}

func shown(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return ' '
}
