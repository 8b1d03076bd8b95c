//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Where the hosts are in node_modules.
const (
	inspectorJS = "@modelcontextprotocol/inspector/clients/launcher/build/index.js"
	mcporterJS  = "mcporter/dist/cli.js"
	openclawJS  = "openclaw/openclaw.mjs"
)

// A target is one server as a host has it in its configuration: a command or a
// URL.
type target struct {
	command []string
	env     map[string]string
	url     string
	headers map[string]string
}

// isSSE reports whether it is a URL of the older transport.
func (to target) isSSE() bool { return strings.Contains(to.url, "/sse") }

// A host is an MCP client with a command line. Both hosts answer one question
// and end.
type host struct {
	name string
	// config is the host's entry for a target.
	config func(target) map[string]any
	// list and call are the arguments that ask server "s" for its tools, and
	// call one of them.
	list func(config string) []string
	call func(config, tool, args string) []string
}

var hosts = []host{
	{
		name: "mcporter",
		config: func(to target) map[string]any {
			return serverEntry(to, "baseUrl")
		},
		list: func(config string) []string {
			return []string{mcporterJS, "--config", config, "list", "s", "--json"}
		},
		call: func(config, tool, args string) []string {
			return []string{mcporterJS, "--config", config, "call", "s." + tool, "--args", args, "--output", "json"}
		},
	},
	{
		name: "inspector",
		config: func(to target) map[string]any {
			entry := serverEntry(to, "url")
			if to.url != "" {
				entry["type"] = "streamable-http"
			}
			if to.isSSE() {
				entry["type"] = "sse"
			}
			return entry
		},
		list: func(config string) []string {
			return []string{inspectorJS, "--cli", "--config", config, "--server", "s", "--format", "json",
				"--method", "tools/list"}
		},
		call: func(config, tool, args string) []string {
			return []string{inspectorJS, "--cli", "--config", config, "--server", "s", "--format", "json",
				"--method", "tools/call", "--tool-name", tool, "--tool-args-json", args}
		},
	},
}

func serverEntry(to target, urlKey string) map[string]any {
	if to.url != "" {
		return map[string]any{urlKey: to.url, "headers": to.headers}
	}
	entry := map[string]any{"command": to.command[0], "args": to.command[1:]}
	if to.env != nil {
		entry["env"] = to.env
	}
	return entry
}

// An answer is what a host printed, and whether it said that the call failed.
type answer struct {
	out    string
	failed bool
	took   time.Duration
}

// A session is a host with one server configured.
type session struct {
	host   host
	config string
	home   string // the host's own home directory
}

func newSession(t *testing.T, h host, to target) *session {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "host.json")
	writeJSON(t, config, map[string]any{"mcpServers": map[string]any{"s": h.config(to)}})
	return &session{host: h, config: config, home: dir}
}

// tools asks for the list of tools and gives it as the host prints it.
func (s *session) tools(t *testing.T) []map[string]any {
	t.Helper()
	got := s.run(t, s.host.list(s.config))
	if got.failed {
		t.Fatalf("%s could not list the tools:\n%s", s.host.name, got.out)
	}
	var list struct {
		Tools  []map[string]any
		Result struct{ Tools []map[string]any }
	}
	if err := json.Unmarshal([]byte(got.out), &list); err != nil {
		t.Fatalf("%s printed what is no JSON: %v\n%s", s.host.name, err, got.out)
	}
	if list.Tools == nil {
		return list.Result.Tools
	}
	return list.Tools
}

// call calls a tool and waits for the answer.
func (s *session) call(t *testing.T, tool string, args map[string]any) answer {
	t.Helper()
	return s.run(t, s.host.call(s.config, tool, encode(t, args)))
}

// begin calls a tool and gives the answer later, for calls that are held.
func (s *session) begin(t *testing.T, tool string, args map[string]any) <-chan answer {
	t.Helper()
	cmd := s.command(t, s.host.call(s.config, tool, encode(t, args)))
	done := make(chan answer, 1)
	go func() { done <- finish(cmd) }()
	return done
}

func (s *session) run(t *testing.T, args []string) answer {
	t.Helper()
	return finish(s.command(t, args))
}

func (s *session) command(t *testing.T, args []string) *exec.Cmd {
	t.Helper()
	return nodeCommand(t, s.home, args)
}

// nodeCommand runs a program of node_modules with nothing of the caller's
// environment but PATH, so that no configuration of the machine takes part.
func nodeCommand(t *testing.T, home string, args []string, env ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	t.Cleanup(cancel)
	args = append([]string{filepath.Join(modules, args[0])}, args[1:]...)
	cmd := exec.CommandContext(ctx, node, args...)
	cmd.Dir = home
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "MCP_INSPECTOR_SECRET_STORE=memory"}, env...)
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

func finish(cmd *exec.Cmd) answer {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	begin := time.Now()
	err := cmd.Run()
	got := answer{out: stdout.String(), failed: err != nil, took: time.Since(begin)}
	if exit := new(exec.ExitError); err != nil && (!errors.As(err, &exit) || stdout.Len() == 0) {
		got.out += stderr.String() + "\n" + err.Error()
	}
	return got
}

func encode(t *testing.T, v any) string {
	t.Helper()
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func writeJSON(t *testing.T, file string, v any) {
	t.Helper()
	writeFile(t, file, encode(t, v))
}

func writeFile(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
