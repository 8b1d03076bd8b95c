package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// lab is where a run happens: its folder, the programs it drives, and what it
// started and must end.
type lab struct {
	dir       string // ours alone, removed at the end
	self      string // this program, which is also the echo server
	openleash string
	other     string // another openleash, to compare with; usually empty
	mcpproxy  string // empty: could not be built, and the run says why
	echoURL   string // the echo server over HTTP

	mu      sync.Mutex
	started []func() // ends what was started; called last first
	closed  bool     // what is started now is ended at once
}

// close ends everything that was started.
func (l *lab) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, end := range slices.Backward(l.started) {
		end()
	}
	l.started, l.closed = nil, true
}

// keep notes how to end what was started.
func (l *lab) keep(end func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		end()
		return
	}
	l.started = append(l.started, end)
}

// contestant is one way to reach the echo server.
type contestant struct {
	name string
	*session
	process *process // the proxy; nil when there is none
	home    *home    // of OpenLeash
}

// home is an OPENLEASH_HOME of the run.
type home struct {
	program string // the openleash that works on it
	dir     string
	listen  string
}

// policyText allows a call by its argument, as in real life one number of it
// decides.
const policyText = `version: 1
default: deny
rules:
  - id: small
    effect: allow
    action: "mcp.*"
    when:
      match: {path: $.payload.arguments.n, op: lt, value: 1000000}
    proof: {required: %t}
`

// newHome makes a home with a policy and servers, in the form of mcpServers:.
func (l *lab) newHome(name string, proof bool, servers map[string]any) (*home, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	h := &home{program: l.openleash, dir: filepath.Join(l.dir, name), listen: fmt.Sprintf("127.0.0.1:%d", port)}
	if err := os.MkdirAll(filepath.Join(h.dir, "policies"), 0o700); err != nil {
		return nil, err
	}
	// JSON is YAML.
	settings := map[string]any{"listen": h.listen}
	if servers != nil {
		settings["mcpServers"] = servers
	}
	config, err := json.Marshal(settings)
	if err != nil {
		return nil, err
	}
	for file, text := range map[string]string{"config.yaml": string(config), "policies/bench.yaml": fmt.Sprintf(policyText, proof)} {
		if err := os.WriteFile(filepath.Join(h.dir, file), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// openLeash is a command of OpenLeash in a home. What it says goes to a file
// beside the home.
func (l *lab) openLeash(h *home, args ...string) *exec.Cmd {
	cmd := exec.Command(h.program, args...)
	cmd.Env = append(os.Environ(), "OPENLEASH_HOME="+h.dir)
	if f, err := os.OpenFile(h.dir+".stderr", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err == nil {
		cmd.Stderr = f
	}
	return cmd
}

func (l *lab) echoCommand() []string { return []string{l.self, "echo"} }

func (l *lab) startEcho() error {
	port, err := freePort()
	if err != nil {
		return err
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	l.echoURL = "http://" + addr + "/mcp"
	_, err = l.serve(exec.Command(l.self, "echo", addr), addr)
	return err
}

// serve starts a server and waits until it listens.
func (l *lab) serve(cmd *exec.Cmd, addr string) (*process, error) {
	p, err := start(cmd)
	if err != nil {
		return nil, err
	}
	l.keep(p.end)
	return p, p.serving(addr)
}

// --- over stdio

func (l *lab) stdioDirect() (*contestant, error) {
	return l.stdio("direct", exec.Command(l.self, "echo"), false, nil)
}

func (l *lab) stdioOpenLeash(name, program string, proof bool) (*contestant, error) {
	h, err := l.newHome("stdio-"+slug(name), proof, nil)
	if err != nil {
		return nil, err
	}
	h.program = program
	cmd := l.openLeash(h, append([]string{"stdio", "--name", "echo", "--"}, l.echoCommand()...)...)
	return l.stdio(name, cmd, proof, h)
}

func (l *lab) stdio(name string, cmd *exec.Cmd, proof bool, h *home) (*contestant, error) {
	t, err := openStdio(cmd)
	if err != nil {
		return nil, err
	}
	l.keep(t.close)
	c := &contestant{name: name, session: &session{target: t, tool: "echo", proof: proof}, home: h}
	if h != nil {
		c.process = t.process
	}
	return c, nil
}

// --- over HTTP

func (l *lab) httpDirect() (*contestant, error) {
	t, err := openHTTP(l.echoURL, "")
	if err != nil {
		return nil, err
	}
	l.keep(t.close)
	return &contestant{name: "direct", session: &session{target: t, tool: "echo"}}, nil
}

func (l *lab) httpOpenLeash(name, program string, proof bool, server map[string]any) (*contestant, error) {
	h, err := l.newHome("http-"+slug(name), proof, map[string]any{"echo": server})
	if err != nil {
		return nil, err
	}
	h.program = program
	p, err := l.startOpenLeash(h)
	if err != nil {
		return nil, err
	}
	s, err := l.connect(h, "echo", proof)
	if err != nil {
		return nil, err
	}
	return &contestant{name: name, session: s, process: p, home: h}, nil
}

func (l *lab) startOpenLeash(h *home) (*process, error) {
	return l.serve(l.openLeash(h, "start"), h.listen)
}

// connect opens a session with a server behind `openleash start`, as the agent
// named after it.
func (l *lab) connect(h *home, server string, proof bool) (*session, error) {
	return l.connectAs(h, "agent-"+server, server, proof)
}

func (l *lab) connectAs(h *home, agent, server string, proof bool) (*session, error) {
	token, err := l.openLeash(h, "agents", "token", agent).Output()
	if err != nil {
		return nil, fmt.Errorf("making a token in %s: %w", h.dir, err)
	}
	t, err := openHTTP("http://"+h.listen+"/mcp/"+server, strings.TrimSpace(string(token)))
	if err != nil {
		return nil, err
	}
	l.keep(t.close)
	return &session{target: t, tool: "echo", proof: proof}, nil
}

// mcpproxyConfig is the peer with what is nearest to our run: a token for the
// caller, a rule by the tool's name (it has none on arguments), its recording of
// sessions on. It signs nothing and its recording is not synced while a session
// runs. Its log of each call goes to /dev/null, as ours does.
const mcpproxyConfig = `listen: %s
inbound: {mode: static, token: bench}
backends: {echo: %s}
policy: {allowed_tools: [echo]}
wal_dir: %s
`

func (l *lab) httpMCPProxy(name, backend string) (*contestant, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	dir, addr := filepath.Join(l.dir, slug(name)), fmt.Sprintf("127.0.0.1:%d", port)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "config.yaml")
	text := fmt.Sprintf(mcpproxyConfig, addr, backend, filepath.Join(dir, "sessions"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(l.mcpproxy, "-config", file)
	cmd.Env = append(os.Environ(), "MCPPROXY_STATE_DIR="+dir)
	p, err := l.serve(cmd, addr)
	if err != nil {
		return nil, err
	}
	t, err := openHTTP("http://"+addr+"/mcp", "bench")
	if err != nil {
		return nil, err
	}
	l.keep(t.close)
	return &contestant{name: name, session: &session{target: t, tool: "echo"}, process: p}, nil
}

func (l *lab) httpServer() map[string]any { return map[string]any{"url": l.echoURL} }

func (l *lab) childServer() map[string]any {
	return map[string]any{"command": l.self, "args": []string{"echo"}}
}

func slug(name string) string {
	return strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(name)), "-")
}

func listenEcho(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	return echoHTTP(l, nil)
}
