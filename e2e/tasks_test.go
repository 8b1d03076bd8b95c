//go:build e2e

package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestHeldAsATask: Inspector knows tasks in both protocol eras. A held call becomes
// one, Inspector asks what has become of it for as long as its owner takes, and prints
// what came of it; the server has run it once.
func TestHeldAsATask(t *testing.T) {
	t.Parallel()
	const hold = 2 * time.Second
	for _, era := range []struct {
		name   string
		server []string
		policy string
		tool   string
		args   map[string]any
		made   string // in the answer to the call
		result string
		doors  []door
	}{
		// The host asks for it, and the server makes a task of its own of it.
		{"legacy", everything(), researchPolicy, "simulate-research-query", map[string]any{"topic": "leashes"},
			`"result":{"task":{"taskId":"openleash-task-`, "Research Report: leashes", doors},
		// We make one after the wait, and the server knows of none.
		{"modern", []string{openleash, "sample-server"}, mailPolicy, "send_mail", mail("as a task"),
			`"result":{"resultType":"task","taskId":"openleash-task-`, "ann@example.com", []door{doors[0], doors[1], doors[3]}},
	} {
		for _, d := range era.doors {
			t.Run(era.name+"/"+d.name, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				wire, hostWire := filepath.Join(dir, "wire"), filepath.Join(dir, "host")
				h := newHomeThatHolds(t, filepath.Join(dir, "openleash"), era.policy, hold.String(),
					map[string]any{"mail": stdioServer(recorded(t, wire, era.server))})
				to := d.open(t, h, "mail")
				if to.command != nil {
					to.command = recorded(t, hostWire, to.command)
				}
				s := newSession(t, hosts[1], to)
				done := make(chan answer, 1)
				cmd := s.command(t, append(s.host.call(s.config, era.tool, encode(t, era.args)), "--protocol-era", era.name))
				go func() { done <- finish(cmd) }()
				request := h.held(t, era.tool, done)
				time.Sleep(5 * hold) // legs and answers that say to call again have ended by then
				if n := len(calls(t, wire, era.tool)); n != 0 {
					t.Errorf("%d calls have reached the server before the owner's answer", n)
				}
				if to.command != nil {
					wantPolled(t, hostWire, era.made)
				}
				h.run(t, "approvals", "approve", request.ID)
				got := <-done
				if got.failed || strings.Contains(got.out, `"isError": true`) || !strings.Contains(got.out, era.result) {
					t.Errorf("after %v: %s", got.took, got.out)
				}
				if n := len(calls(t, wire, era.tool)); n != 1 {
					t.Errorf("%d calls have reached the server, want 1", n)
				}
				h.log(t)
			})
		}
	}
}

const researchPolicy = `version: 1
default: allow
rules:
  - id: ask-before-research
    effect: allow
    action: mcp.mail.simulate-research-query
    obligations: [{type: HUMAN_APPROVAL}]
`

// wantPolled checks in what passed between the host and openleash that the call was
// sent once, has become a task, and was asked about more than once since.
func wantPolled(t *testing.T, wire, made string) {
	t.Helper()
	data, err := os.ReadFile(wire)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(data, []byte(`"method":"tools/call"`)); n != 1 {
		t.Errorf("the host has called %d times, want 1", n)
	}
	if !bytes.Contains(data, []byte(made)) {
		t.Errorf("the call has not become a task; want %s in\n%.3000s", made, data)
	}
	if n := bytes.Count(data, []byte(`"method":"tasks/get"`)); n < 2 {
		t.Errorf("the host has asked %d times what has become of the task, want some", n)
	}
}
