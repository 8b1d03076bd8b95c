//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gopkg.in/yaml.v3"
)

// A home is one installation of OpenLeash, in a folder of its own.
type home struct {
	dir  string // OPENLEASH_HOME
	port int
	env  []string
}

// newHome makes an installation in dir with one policy and these upstreams, as
// a person would: init, then config and policy edited.
func newHome(t *testing.T, dir, policy string, servers map[string]any) *home {
	t.Helper()
	return newHomeThatHolds(t, dir, policy, "50s", servers)
}

// newHomeThatHolds makes one that holds calls for that long.
func newHomeThatHolds(t *testing.T, dir, policy, hold string, servers map[string]any) *home {
	t.Helper()
	h := &home{dir: dir, port: freePort(t)}
	h.env = []string{"OPENLEASH_HOME=" + dir, "PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
	h.run(t, "init", "--profile", "balanced")
	config, err := yaml.Marshal(map[string]any{
		"listen":     fmt.Sprintf("127.0.0.1:%d", h.port),
		"hold":       hold,
		"mcpServers": servers,
	})
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "config.yaml"), string(config))
	writeFile(t, filepath.Join(dir, "policies", "balanced.yaml"), policy)
	t.Cleanup(func() { nothingLeft(t, dir) })
	return h
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// run runs the CLI and gives what it prints on stdout.
func (h *home) run(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command(openleash, args...)
	cmd.Env = h.env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("openleash %s: %v\n%s%s", strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String()
}

// stdio is the host's entry for a server that it launches through openleash.
func (h *home) stdio(args ...string) target {
	return target{
		command: append([]string{openleash, "stdio"}, args...),
		env:     map[string]string{"OPENLEASH_HOME": h.dir, secretName: secretValue},
	}
}

// http is the host's entry for a server behind `openleash start`, which it
// starts; without a name, for all servers.
func (h *home) http(t *testing.T, server string) target {
	t.Helper()
	token := strings.TrimSpace(h.run(t, "agents", "token", "e2e"))
	h.start(t)
	return target{
		url:     strings.TrimSuffix(fmt.Sprintf("http://127.0.0.1:%d/mcp/%s", h.port, server), "/"),
		headers: map[string]string{"Authorization": "Bearer " + token},
	}
}

// sse is the same server over the older transport.
func (h *home) sse(t *testing.T, server string) target {
	t.Helper()
	to := h.http(t, server)
	to.url = strings.Replace(to.url, "/mcp", "/sse", 1)
	return to
}

// connect is the host's entry for a front of the same: it has the token and no
// home.
func (h *home) connect(t *testing.T, server string) target {
	t.Helper()
	far := h.http(t, server)
	return target{
		command: []string{openleash, "connect", far.url},
		env:     map[string]string{"OPENLEASH_TOKEN": strings.TrimPrefix(far.headers["Authorization"], "Bearer "), "OPENLEASH_HOME": "/nonexistent"},
	}
}

// start runs `openleash start` until the test ends, and checks that it ends well.
func (h *home) start(t *testing.T) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(openleash, "start")
	cmd.Env = append(h.env, secretName+"="+secretValue)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	ended := background(t, cmd)
	t.Cleanup(func() {
		if err := ended(); err != nil {
			t.Errorf("openleash start, asked to end: %v\n%s%s", err, stdout.String(), stderr.String())
		}
	})
	waitFor(t, "openleash start to answer", func() bool {
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/v1/health", h.port))
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// background starts a program and gives the function that asks it to end and
// tells how it did.
func background(t *testing.T, cmd *exec.Cmd) (end func() error) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	return func() error {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-done:
			return err
		case <-time.After(15 * time.Second):
			cmd.Process.Kill()
			<-done
			return errors.New("it did not end within 15 s of SIGTERM")
		}
	}
}

// patience is how long anything may take on a busy machine.
const patience = 150 * time.Second

// waitFor waits for something to become true.
func waitFor(t *testing.T, what string, ready func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if ready() {
			return
		}
	}
	t.Fatalf("waited %v for %s", patience, what)
}

// A waiting is what `openleash approvals list --json` says of a request.
type waiting struct {
	ID      string
	Status  string
	Tool    string
	Payload struct{ Arguments map[string]any }
}

// held waits until a call of a tool, whose answer comes through done, waits for
// the owner.
func (h *home) held(t *testing.T, tool string, done <-chan answer) waiting {
	t.Helper()
	var found []waiting
	waitFor(t, "a held call of "+tool, func() bool {
		select {
		case got := <-done:
			t.Fatalf("the call of %s was answered before it was held:\n%s", tool, got.out)
		default:
		}
		found = nil
		if err := json.Unmarshal([]byte(h.run(t, "approvals", "list", "--json")), &found); err != nil {
			t.Fatal(err)
		}
		found = slices.DeleteFunc(found, func(w waiting) bool { return w.Status != "PENDING" || w.Tool != tool })
		return len(found) > 0
	})
	if len(found) != 1 {
		t.Fatalf("%d calls of %s wait, want 1: %+v", len(found), tool, found)
	}
	return found[0]
}

// An entry is what the tests look at in a line of the log.
type entry struct {
	Event      string
	ActorID    string `json:"actor_id"`
	ActionType string `json:"action_type"`
	Decision   string
	Code       string
	Server     string
	Tool       string
	Outcome    string
	ProofKID   string `json:"proof_kid"`
	ApprovalID string `json:"approval_id"`
}

// what says in words what an entry records: its event, tool, and decision or
// outcome.
func (e entry) what() string {
	return strings.TrimRight(e.Event+" "+e.Tool+" "+e.Decision+e.Outcome, " ")
}

// log verifies the log and gives its entries.
func (h *home) log(t *testing.T) []entry {
	t.Helper()
	h.run(t, "audit", "verify")
	data, err := os.ReadFile(filepath.Join(h.dir, "data", "audit.log.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var entries []entry
	for line := range bytes.Lines(data) {
		var e entry
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("the log has a line that is no JSON: %v\n%s", err, line)
		}
		entries = append(entries, e)
	}
	return entries
}

// nothingLeft checks that no process still runs that has dir in its command.
func nothingLeft(t *testing.T, dir string) {
	t.Helper()
	var left []string
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if left = processes(filepath.Dir(dir)); len(left) == 0 {
			return
		}
	}
	t.Errorf("processes were left behind:\n%s", strings.Join(left, "\n"))
}

// processes lists the commands that name dir, or were told of it in their
// environment.
func processes(dir string) []string {
	var found []string
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		command, _ := os.ReadFile(file)
		environment, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "environ"))
		if bytes.Contains(command, []byte(dir)) || bytes.Contains(environment, []byte(dir)) {
			found = append(found, string(bytes.ReplaceAll(command, []byte{0}, []byte{' '})))
		}
	}
	return found
}

// A secret in the environment of openleash that no upstream may see.
const (
	secretName  = "E2E_SECRET"
	secretValue = "not-for-upstreams"
)
