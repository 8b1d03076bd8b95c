//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"github.com/rogpeppe/go-internal/testscript"
)

// Every script has an installation of its own ($OPENLEASH_HOME, from the files
// below home/) and a port of its own ($PORT). Beside testscript's commands there
// are:
//
//	host NAME COMMAND ARGS…   starts a process that we are the host of: we hold its
//	                          standard input and output
//	send NAME JSON            gives it one line
//	sendfile NAME FILE        gives it a file as one line
//	call NAME ID TOOL [ARGS]  gives it a tools/call
//	recv NAME REGEXP          waits for a line on its standard output, which becomes stdout
//	answer NAME ID            the same, for the answer to a request
//	says NAME REGEXP          waits until its standard error matches
//	silent NAME REGEXP        its standard error has not matched so far
//	close NAME                closes its standard input
//	signal NAME TERM|INT|KILL sends a signal
//	ended NAME CODE           waits for its end; what it wrote becomes stdout and stderr
//	protocol NAME             all that it has written to standard output is JSON-RPC
//	gone FILE                 waits until the process whose id is in the file has ended
//	until REGEXP COMMAND …    runs a command until its output matches
//	capture VAR REGEXP        sets VAR to the group in the last stdout
//	http METHOD URL [Name:value …] [=BODY|@FILE|+SIZE]
//	                          status, headers and body become stdout; cookies are kept
//	mode MODE FILE…           checks permissions
//	tmpfs FOLDER SIZE         mounts a small disk (root, Linux)
//	replace FILE OLD NEW      edits a file
//	forwarded CALLS LOG       every call that the fake has noted has an ALLOW in the log
//	unsaid URL WHERE…         no secret that the authserver there has given out stands in
//	                          these files, folders, or what these processes have written
//	specified LOG             what docs/audit.md says of the events, and nothing else, is in the log
//	enrol CODE…               gives the owner a second factor, with these backup codes
//	device add CODE           has a passkey made on the page for it, by a software authenticator
//	device sign-in            signs in with it
//	device approve ID         approves a request with it
//	totp VAR SECRET [STEPS]   what an authenticator app shows, STEPS half minutes later
//	cut FILE N                takes N bytes off a file's end
func TestScripts(t *testing.T) {
	// Under nohup, as some CI runs are, SIGHUP is ignored by all that we start.
	// One that we catch is not.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP)
	t.Cleanup(func() { signal.Stop(caught) })

	testscript.Run(t, testscript.Params{
		Dir: "testdata", Setup: setupScript, RequireExplicitExec: true, RequireUniqueNames: true,
		Condition: func(cond string) (bool, error) {
			if cond == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"code": cmdCode,
			"host": cmdHost, "send": cmdSend, "sendfile": cmdSendFile, "call": cmdCall, "recv": cmdRecv, "answer": cmdAnswer, "says": cmdSays, "silent": cmdSilent,
			"close": cmdClose, "signal": cmdSignal, "ended": cmdEnded, "protocol": cmdProtocol, "gone": cmdGone, "until": cmdUntil,
			"capture": cmdCapture, "http": cmdHTTP, "mode": cmdMode, "tmpfs": cmdTmpfs, "replace": cmdReplace, "cut": cmdCut, "enrol": cmdEnrol, "device": cmdDevice, "forwarded": cmdForwarded, "unsaid": cmdUnsaid, "specified": cmdSpecified, "agent": cmdAgent, "totp": cmdTOTP,
		},
	})
}

// patience bounds every wait: long, since the machine may be busy. Nothing
// waits for it to pass.
const patience = 60 * time.Second

// lastPort is below the ports that systems give to clients.
var lastPort atomic.Int32

func init() { lastPort.Store(int32(20000 + os.Getpid()%5000)) }

// freePort finds a port that nobody has. Another test process may take it as
// well; the numbers begin where its own do not.
func freePort() int {
	for {
		port := int(lastPort.Add(1))
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			return port
		}
	}
}

// world is what one script keeps.
type world struct {
	procs map[string]*process
	web   *http.Client

	device *device
}

type worldKey struct{}

func worldOf(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) }

func setupScript(env *testscript.Env) error {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	w := &world{procs: map[string]*process{}, web: &http.Client{Jar: jar, Transport: localNames(), CheckRedirect: noRedirect, Timeout: patience}}
	env.Values[worldKey{}] = w
	env.Defer(func() { w.end(filepath.Join(env.WorkDir, "pids")) })
	port := freePort()
	home := filepath.Join(env.WorkDir, "home")
	for _, dir := range []string{home, filepath.Join(home, "policies"), filepath.Join(env.WorkDir, "pids")} {
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.Chmod(dir, 0o700)); err != nil {
			return err
		}
	}
	if err := listenOn(filepath.Join(home, "config.yaml"), port); err != nil {
		return err
	}
	env.Setenv("OPENLEASH_HOME", home)
	env.Setenv("HOME", env.WorkDir)
	env.Setenv("PORT", strconv.Itoa(port))
	env.Setenv("PIDS", filepath.Join(env.WorkDir, "pids"))
	if os.Getenv("GORACE") == "" {
		env.Setenv("GORACE", "atexit_sleep_ms=0")
	}
	return nil
}

// listenOn appends the port to a configuration, unless it names one.
func listenOn(file string, port int) error {
	src, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if !bytes.Contains(src, []byte("listen:")) {
		src = fmt.Appendf(src, "listen: 127.0.0.1:%d\n", port)
	}
	return os.WriteFile(file, src, 0o600)
}

// end ends what a script has left running.
func (w *world) end(pids string) {
	for _, p := range w.procs {
		p.cmd.Process.Kill()
		<-p.exited
	}
	files, err := filepath.Glob(filepath.Join(pids, "*"))
	if err != nil {
		panic(err)
	}
	for _, file := range files {
		if pid, err := readPID(file); err == nil && alive(pid) {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// process is one that a script is the host of.
type process struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	exited chan struct{}

	mu     sync.Mutex
	out    []string // whole lines
	taken  map[int]bool
	stderr bytes.Buffer
}

// tee appends what is written under the process's lock.
type tee struct{ p *process }

func (t tee) Write(b []byte) (int, error) {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	return t.p.stderr.Write(b)
}

// lineWriter cuts standard output into lines.
type lineWriter struct {
	p    *process
	rest []byte
}

func (l *lineWriter) Write(b []byte) (int, error) {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	l.rest = append(l.rest, b...)
	for {
		line, rest, found := bytes.Cut(l.rest, []byte("\n"))
		if !found {
			return len(b), nil
		}
		l.p.out = append(l.p.out, string(line))
		l.rest = bytes.Clone(rest)
	}
}

func startProcess(dir string, env []string, args []string) (*process, error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env = dir, env
	return startPrepared(cmd)
}

func startPrepared(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, exited: make(chan struct{}), taken: map[int]bool{}}
	p.cmd.Stdout, p.cmd.Stderr = &lineWriter{p: p}, tee{p}
	p.cmd.WaitDelay = 5 * time.Second // a grandchild must not keep us; `gone` tells whether one is left
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

func (p *process) ended() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// take waits for a line that fits and has not been taken yet.
func (p *process) take(fits func(string) bool) (string, bool) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		last := p.ended()
		if line, ok := p.look(fits); ok || last {
			return line, ok
		}
	}
	return "", false
}

func (p *process) look(fits func(string) bool) (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, line := range p.out {
		if !p.taken[i] && fits(line) {
			p.taken[i] = true
			return line, true
		}
	}
	return "", false
}

func (p *process) words() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.out, "\n") + "\n"
}

func (p *process) all() string {
	return fmt.Sprintf("ended %v\n[its stdout]\n%s[its stderr]\n%s", p.ended(), p.output(), p.words())
}

// usage ends a script whose command is misused.
func usage(ts *testscript.TestScript, neg, ok bool, how string) {
	if neg || !ok {
		ts.Fatalf("usage: %s", how)
	}
}

func find(ts *testscript.TestScript, name string) *process {
	p := worldOf(ts).procs[name]
	if p == nil {
		ts.Fatalf("no process %q", name)
	}
	return p
}

func cmdHost(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) >= 2, "host NAME COMMAND ARGS…")
	if p := worldOf(ts).procs[args[0]]; p != nil && !p.ended() {
		ts.Fatalf("%s runs already", args[0])
	}
	p, err := startProcess(ts.MkAbs("."), environment(ts), args[1:])
	ts.Check(err)
	worldOf(ts).procs[args[0]] = p
}

// environment is the script's: testscript keeps its own list to itself, and
// this is all that we set there.
func environment(ts *testscript.TestScript) []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "WORK", "OPENLEASH_HOME", "PIDS", "GORACE", "GOCOVERDIR", "SECRET", "OPENLEASH_TEST", "TEST_DAY", "TOKEN", "OPENLEASH_TOKEN"} {
		if v := ts.Getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	return env
}

func cmdSend(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2, "send NAME LINE")
	_, err := io.WriteString(find(ts, args[0]).stdin, args[1]+"\n")
	ts.Check(err)
}

func cmdSendFile(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2, "sendfile NAME FILE")
	_, err := io.WriteString(find(ts, args[0]).stdin, ts.ReadFile(args[1])+"\n")
	ts.Check(err)
}

func cmdCall(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 3 || len(args) == 4, "call NAME ID TOOL [ARGUMENTS]")
	arguments := "{}"
	if len(args) == 4 {
		arguments = args[3]
	}
	_, err := fmt.Fprintf(find(ts, args[0]).stdin, `{"jsonrpc":"2.0","id":%s,"method":"tools/call","params":{"name":"%s","arguments":%s}}`+"\n", args[1], args[2], arguments)
	ts.Check(err)
}

func cmdRecv(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2, "recv NAME REGEXP")
	re := regexp.MustCompile(args[1])
	receive(ts, args[0], args[1], re.MatchString)
}

func cmdAnswer(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2, "answer NAME ID")
	receive(ts, args[0], "an answer to "+args[1], func(line string) bool {
		var m struct {
			ID     json.RawMessage
			Method *string
		}
		return json.Unmarshal([]byte(line), &m) == nil && m.Method == nil && string(m.ID) == args[1]
	})
}

func receive(ts *testscript.TestScript, name, what string, fits func(string) bool) {
	p := find(ts, name)
	line, ok := p.take(fits)
	if !ok {
		ts.Fatalf("%s did not write %s; %s", name, what, p.all())
	}
	fmt.Fprintln(ts.Stdout(), line)
}

func cmdSays(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2, "says NAME REGEXP")
	p, re := find(ts, args[0]), regexp.MustCompile("(?m)"+args[1])
	if !eventually(func() bool { return re.MatchString(p.words()) }) {
		ts.Fatalf("%s did not say %s; %s", args[0], args[1], p.all())
	}
}

func cmdSilent(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2, "silent NAME REGEXP")
	p := find(ts, args[0])
	if regexp.MustCompile("(?m)" + args[1]).MatchString(p.words()) {
		ts.Fatalf("%s said %s; %s", args[0], args[1], p.all())
	}
}

func eventually(holds func() bool) bool {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if holds() {
			return true
		}
	}
	return false
}

func cmdClose(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 1, "close NAME")
	ts.Check(find(ts, args[0]).stdin.Close())
}

func cmdSignal(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "KILL": syscall.SIGKILL, "HUP": syscall.SIGHUP}
	usage(ts, neg, len(args) == 2 && signals[args[1]] != 0, "signal NAME TERM|INT|KILL|HUP")
	ts.Check(find(ts, args[0]).cmd.Process.Signal(signals[args[1]]))
}

func cmdEnded(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2, "ended NAME CODE")
	p := find(ts, args[0])
	select {
	case <-p.exited:
	case <-time.After(patience):
		ts.Fatalf("%s has not ended; %s", args[0], p.all())
	}
	fmt.Fprint(ts.Stdout(), p.output())
	fmt.Fprint(ts.Stderr(), p.words())
	if code := strconv.Itoa(p.cmd.ProcessState.ExitCode()); code != args[1] {
		ts.Fatalf("%s ended with %s, want exit code %s", args[0], p.cmd.ProcessState, args[1])
	}
}

func cmdProtocol(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 1, "protocol NAME")
	for line := range strings.Lines(find(ts, args[0]).output()) {
		var m struct{ JSONRPC string }
		if strings.TrimSpace(line) == "" {
			continue
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil || m.JSONRPC != "2.0" {
			ts.Fatalf("this is no JSON-RPC message: %s", line)
		}
	}
}

func readPID(file string) (int, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(b))
}

// alive reports whether a process runs; one that waits for its parent to ask
// how it ended does not.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || !strings.Contains(string(stat), ") Z ")
}

func cmdGone(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 1, "gone FILE")
	pid, err := readPID(ts.MkAbs(args[0]))
	ts.Check(err)
	if !eventually(func() bool { return !alive(pid) }) {
		ts.Fatalf("process %d of %s was left behind", pid, args[0])
	}
}

func cmdUntil(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) >= 2, "until REGEXP COMMAND ARGS…")
	re := regexp.MustCompile("(?m)" + args[0])
	var out []byte
	ok := eventually(func() bool {
		cmd := exec.Command(args[1], args[2:]...)
		cmd.Dir, cmd.Env = ts.MkAbs("."), environment(ts)
		var err error
		out, err = cmd.Output()
		return err == nil && re.Match(out)
	})
	if !ok {
		ts.Fatalf("%s never matched %s: %s", args[1:], args[0], out)
	}
	ts.Stdout().Write(out)
}

// cmdCode wants an exit code: code 2 openleash policy check FILE
func cmdCode(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) > 1, "code N command args…")
	want := args[0]
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = strconv.Itoa(exit.ExitCode())
	}
	if got != want {
		ts.Fatalf("exit code %s, want %s: %v", got, want, err)
	}
}

func cmdCapture(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2 || len(args) == 3 && args[2] == "ttyout", "capture VAR REGEXP [ttyout]")
	m := regexp.MustCompile("(?m)" + args[1]).FindStringSubmatch(ts.ReadFile(append(args, "stdout")[2]))
	if len(m) < 2 {
		ts.Fatalf("no match for %s", args[1])
	}
	ts.Setenv(args[0], m[1])
}

// cmdTOTP computes what an authenticator app shows, or will show so many steps later.
func cmdTOTP(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2 || len(args) == 3, "totp VAR SECRET [STEPS]")
	at := time.Now()
	if len(args) == 3 {
		steps, err := strconv.Atoi(args[2])
		ts.Check(err)
		at = at.Add(time.Duration(steps) * 30 * time.Second)
	}
	code, err := totp.GenerateCode(args[1], at)
	ts.Check(err)
	ts.Setenv(args[0], code)
}

func cmdHTTP(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) >= 2, "http METHOD URL [Name:value …] [=BODY|@FILE|+SIZE]")
	address := args[1]
	if strings.HasPrefix(address, "/") {
		address = "http://127.0.0.1:" + ts.Getenv("PORT") + address
	}
	body := ""
	headers := http.Header{}
	for _, arg := range args[2:] {
		switch arg[0] {
		case '=':
			body = arg[1:]
		case '@':
			body = ts.ReadFile(arg[1:])
		case '+':
			size, err := strconv.Atoi(arg[1:])
			ts.Check(err)
			body = strings.Repeat(" ", size)
		default:
			name, value, ok := strings.Cut(arg, ":")
			usage(ts, neg, ok, "Name:value")
			headers.Add(name, value)
		}
	}
	req, err := http.NewRequest(args[0], address, strings.NewReader(body))
	ts.Check(err)
	req.Header = headers
	if host := headers.Get("Host"); host != "" {
		req.Host = host
	}
	resp, err := worldOf(ts).web.Do(req)
	for until := time.Now().Add(10 * time.Second); errors.Is(err, syscall.ECONNREFUSED) && time.Now().Before(until); { // the side door opens beside the first calls
		time.Sleep(20 * time.Millisecond)
		req.Body, _ = req.GetBody()
		resp, err = worldOf(ts).web.Do(req)
	}
	ts.Check(err)
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	ts.Check(err)
	fmt.Fprintln(ts.Stdout(), resp.StatusCode)
	ts.Check(resp.Header.Write(ts.Stdout()))
	fmt.Fprintf(ts.Stdout(), "\n%s\n", got)
}

func cmdMode(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) >= 2, "mode MODE FILE…")
	for _, file := range args[1:] {
		info, err := os.Stat(ts.MkAbs(file))
		ts.Check(err)
		if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[0] {
			ts.Fatalf("%s has mode %s, want %s", file, got, args[0])
		}
	}
}

func cmdTmpfs(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2, "tmpfs FOLDER SIZE")
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o700))
	ts.Check(exec.Command("mount", "-t", "tmpfs", "-o", "mode=0700,size="+args[1], "tmpfs", dir).Run())
	ts.Defer(func() {
		worldOf(ts).end(ts.Getenv("PIDS")) // nothing may hold it
		if err := exec.Command("umount", dir).Run(); err != nil {
			ts.Logf("umount %s: %v", dir, err)
		}
	})
}

func cmdReplace(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 3, "replace FILE OLD NEW")
	src := ts.ReadFile(args[0])
	if !strings.Contains(src, args[1]) {
		ts.Fatalf("%s does not contain %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Replace(src, args[1], args[2], 1)), 0o600))
}

func cmdCut(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2, "cut FILE BYTES")
	src := ts.ReadFile(args[0])
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(src[:len(src)-n]), 0o600))
}

func cmdForwarded(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2, "forwarded CALLS LOG")
	ts.Check(forwardedAreLogged(ts.MkAbs(args[0]), ts.MkAbs(args[1]), 0))
}

func cmdUnsaid(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) >= 2, "unsaid URL FILE|FOLDER|PROCESS…")
	resp, err := worldOf(ts).web.Get(args[0] + "/test/secrets")
	ts.Check(err)
	defer resp.Body.Close()
	list, err := io.ReadAll(resp.Body)
	ts.Check(err)
	secrets := strings.Fields(string(list))
	if len(secrets) == 0 {
		ts.Fatalf("%s has given out no secret", args[0])
	}
	check := func(where, text string) {
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				ts.Fatalf("%s has the secret %s:\n%s", where, secret, text)
			}
		}
	}
	for _, where := range args[1:] {
		if p := worldOf(ts).procs[where]; p != nil {
			check(where, p.all())
			continue
		}
		ts.Check(filepath.WalkDir(ts.MkAbs(where), func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := os.ReadFile(path)
			check(path, string(text))
			return err
		}))
	}
}
