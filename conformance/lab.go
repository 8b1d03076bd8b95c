package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// lab is where a run happens: its folder, the programs it drives, and what it
// has started and must end.
type lab struct {
	ctx       context.Context
	dir       string
	keep      bool
	node      string
	suite     string // the suite's script
	openleash string
	server    string // go-sdk's everything-server
	client    string // go-sdk's everything-client

	ends []func() // end what was started; called last first
}

func newLab(ctx context.Context, keep string) (*lab, error) {
	l := &lab{ctx: ctx, dir: keep, keep: keep != ""}
	var err error
	if !l.keep {
		l.dir, err = os.MkdirTemp("", "openleash-conformance-")
	} else if err = os.MkdirAll(keep, 0o700); err == nil {
		l.dir, err = filepath.Abs(keep)
	}
	if err == nil {
		err = l.findPrograms()
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

const (
	sdk     = "github.com/modelcontextprotocol/go-sdk/conformance/"
	modules = "../e2e/node_modules"
)

// findPrograms finds what npm installed and builds the rest.
func (l *lab) findPrograms() error {
	var err error
	if l.suite, err = filepath.Abs(filepath.Join(modules, "@modelcontextprotocol/conformance/dist/index.js")); err != nil {
		return err
	}
	if _, err := os.Stat(l.suite); err != nil {
		return fmt.Errorf("%w\nwant the suite of e2e/package-lock.json; run: cd e2e && npm ci", err)
	}
	if l.node, err = findNode(); err != nil {
		return err
	}
	for _, p := range []struct {
		to      *string
		dir     string
		program string
	}{
		{&l.openleash, "..", "./cmd/openleash"},
		{&l.server, ".", sdk + "everything-server"},
		{&l.client, ".", sdk + "everything-client"},
	} {
		*p.to = filepath.Join(l.dir, filepath.Base(p.program))
		cmd := exec.CommandContext(l.ctx, "go", "build", "-o", *p.to, p.program)
		cmd.Dir = p.dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("building %s: %w\n%s", p.program, err, out)
		}
	}
	return nil
}

// findNode: the suite needs Node 22; on Linux a newer one comes with the modules.
func findNode() (string, error) {
	if runtime.GOOS != "linux" {
		return exec.LookPath("node")
	}
	arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	return filepath.Abs(filepath.Join(modules, "node-linux-"+arch, "bin", "node"))
}

// close ends everything that was started, the last first.
func (l *lab) close() {
	for _, end := range slices.Backward(l.ends) {
		end()
	}
	l.ends = nil
	if !l.keep && l.dir != "" {
		os.RemoveAll(l.dir)
	}
}

// start starts a program that listens on addr; close ends it.
func (l *lab) start(cmd *exec.Cmd, addr string) error {
	said := &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", cmd, err)
	}
	gone := make(chan struct{})
	go func() {
		cmd.Wait()
		close(gone)
	}()
	l.ends = append(l.ends, func() { end(cmd, gone) })
	for until := time.Now().Add(30 * time.Second); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		select {
		case <-gone:
			return fmt.Errorf("%s ended:\n%s", cmd, said)
		default:
		}
		if c, err := net.Dial("tcp", addr); err == nil {
			return c.Close()
		}
	}
	return fmt.Errorf("%s does not listen on %s", cmd, addr)
}

// end asks a program to end, and insists after a while.
func end(cmd *exec.Cmd, gone <-chan struct{}) {
	if cmd.Process.Signal(os.Interrupt) != nil {
		cmd.Process.Kill()
	}
	select {
	case <-gone:
	case <-time.After(15 * time.Second):
		cmd.Process.Kill()
		<-gone
	}
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// everything starts the reference server over HTTP and gives its URL.
func (l *lab) everything(flags ...string) (string, error) {
	addr, err := freeAddr()
	if err != nil {
		return "", err
	}
	return "http://" + addr + "/", l.start(exec.Command(l.server, append([]string{"-http", addr}, flags...)...), addr)
}

// entry is a server in the form of mcpServers.
type entry map[string]any

// leash is an `openleash start` that allows everything and logs it.
type leash struct {
	dir   string
	addr  string
	token string
}

const allowAll = "version: 1\ndefault: allow\nrules: []\n"

// leash starts OpenLeash in front of a server called "up".
func (l *lab) leash(up entry) (*leash, error) {
	s, err := l.home(entry{"up": up})
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(l.openleash, "agents", "token", "suite")
	cmd.Env = s.env()
	token, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("making a token: %w", exitReason(err))
	}
	s.token = strings.TrimSpace(string(token))
	cmd = exec.Command(l.openleash, "start")
	cmd.Env = s.env()
	return s, l.start(cmd, s.addr)
}

func (l *lab) home(servers entry) (*leash, error) {
	dir, err := os.MkdirTemp(l.dir, "home-")
	if err != nil {
		return nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	s := &leash{dir: dir, addr: addr}
	// The suite has the server add a tool and take it away again: nobody is there to accept it.
	config, err := json.Marshal(entry{"listen": addr, "tools": entry{"changed": "allow"}, "mcpServers": servers}) // JSON is YAML
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "config.yaml"), config, 0o600)
	}
	if err == nil {
		err = os.Mkdir(filepath.Join(dir, "policies"), 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "policies", "all.yaml"), []byte(allowAll), 0o600)
	}
	return s, err
}

func (s *leash) env() []string { return append(os.Environ(), "OPENLEASH_HOME="+s.dir) }

func exitReason(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("%w\n%s", err, exit.Stderr)
	}
	return err
}
