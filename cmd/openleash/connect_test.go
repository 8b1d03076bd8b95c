//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const connectPolicy = `version: 1
default: allow
rules:
  - {id: ask, effect: allow, action: mcp.fake.hold, obligations: [{type: HUMAN_APPROVAL}]}
`

// farInstallation is one that serves the fake server to an agent elsewhere.
func farInstallation(t *testing.T) (in *installation, tokenFile string) {
	t.Helper()
	in = newInstallation(t, connectPolicy)
	config := fmt.Sprintf("listen: 127.0.0.1:%d\nmcpServers:\n  fake: {command: fakemcp, args: [-record, %s]}\n", in.port, in.calls)
	if err := os.WriteFile(filepath.Join(in.home, "config.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	tokenFile = filepath.Join(in.dir, "token")
	if err := os.WriteFile(tokenFile, []byte(in.run(t, "agents", "token", "claude")), 0o600); err != nil {
		t.Fatal(err)
	}
	return in, tokenFile
}

// serve runs `openleash start` until it is ended.
func (in *installation) serve(t *testing.T) *process {
	t.Helper()
	p := in.process(t, in.env, "openleash", "start")
	if _, ok := p.take(func(line string) bool { return strings.Contains(line, "Sign in") }); !ok {
		t.Fatalf("openleash start: %s", p.all())
	}
	return p
}

func (in *installation) process(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	p, err := startProcess(in.dir, env, args)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.exited
	})
	return p
}

// connect is the agent's side, after the handshake.
func (in *installation) connect(t *testing.T, tokenFile string) *process {
	t.Helper()
	p := in.process(t, os.Environ(), "openleash", "connect", "--token-file", tokenFile, fmt.Sprintf("http://127.0.0.1:%d/mcp/fake", in.port))
	p.say(t, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`)
	if got := p.answer(t, 0); !strings.Contains(got, `"serverInfo":{"name":"fake"`) {
		t.Fatalf("initialize: %s", got)
	}
	p.say(t, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	return p
}

func (p *process) say(t *testing.T, line string) {
	t.Helper()
	if _, err := fmt.Fprintln(p.stdin, line); err != nil {
		t.Fatalf("%v; %s", err, p.all())
	}
}

func (p *process) call(t *testing.T, id int, tool, arguments string) {
	t.Helper()
	p.say(t, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":%q,"arguments":%s}}`, id, tool, arguments))
}

// answer waits for the answer to a request.
func (p *process) answer(t *testing.T, id int) string {
	t.Helper()
	line, ok := p.take(func(line string) bool {
		return strings.HasPrefix(line, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,`, id)) && !strings.Contains(line[:min(len(line), 80)], `"method"`)
	})
	if !ok {
		t.Fatalf("no answer to %d; %s", id, p.all())
	}
	return line
}

// pending waits for the one request that is held, and returns its id.
func (in *installation) pending(t *testing.T) string {
	t.Helper()
	var list []struct{ ID, Agent string }
	ok := eventually(func() bool {
		list = nil
		return json.Unmarshal([]byte(in.run(t, "approvals", "list", "--json")), &list) == nil && len(list) == 1
	})
	if !ok {
		t.Fatalf("held are %v, want one", list)
	}
	return list[0].ID
}

func (in *installation) noted(t *testing.T, part string) int {
	t.Helper()
	src, err := os.ReadFile(in.calls)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(src), part)
}

func kill(t *testing.T, p *process) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-p.exited
}

// The other side is killed in the middle of a call, and of one that is held: the
// host is told that it may have been done, nothing is repeated, and what comes
// next works.
func TestConnectKilled(t *testing.T) {
	t.Parallel()
	in, token := farInstallation(t)
	far := in.serve(t)
	h := in.connect(t, token)

	h.call(t, 1, "hang", `{"n":"while-it-hangs"}`)
	if !eventually(func() bool { _, err := os.Stat(in.calls); return err == nil && in.noted(t, "while-it-hangs") == 1 }) {
		t.Fatal("the call did not arrive")
	}
	kill(t, far)
	if got := h.answer(t, 1); !strings.Contains(got, "went away before it answered") || !strings.Contains(got, "not known: look before you repeat it") {
		t.Errorf("a call under way: %s", got)
	}
	h.call(t, 2, "echo", `{"n":"waits-for-it"}`)
	far = in.serve(t)
	if got := h.answer(t, 2); !strings.Contains(got, "waits-for-it") {
		t.Errorf("the next call: %s", got)
	}

	h.call(t, 3, "hold", `{"n":"while-it-is-held"}`)
	id := in.pending(t)
	kill(t, far)
	if got := h.answer(t, 3); !strings.Contains(got, "not known: look before you repeat it") {
		t.Errorf("a held call: %s", got)
	}
	in.serve(t)
	in.run(t, "approvals", "approve", id)
	h.call(t, 4, "echo", `{"n":"after-the-approval"}`)
	h.answer(t, 4)
	if n := in.noted(t, "while-it-is-held"); n != 0 {
		t.Errorf("the held call ran %d times after its host was told that it had failed", n)
	}
	h.call(t, 5, "hold", `{"n":"while-it-is-held"}`) // the same call again finds the approval
	if got := h.answer(t, 5); !strings.Contains(got, "while-it-is-held") || strings.Contains(got, "isError") {
		t.Errorf("the same call again: %s", got)
	}
	for call, times := range map[string]int{"while-it-hangs": 1, "waits-for-it": 1, "while-it-is-held": 1, "after-the-approval": 1} {
		if n := in.noted(t, call); n != times {
			t.Errorf("%s ran %d times, want %d", call, n, times)
		}
	}
	in.whole(t, 0)
}

// The other side is asked to end while it holds a call.
func TestConnectEndsInOrder(t *testing.T) {
	t.Parallel()
	in, token := farInstallation(t)
	far := in.serve(t)
	h := in.connect(t, token)
	h.call(t, 1, "hold", `{"n":"held"}`)
	id := in.pending(t)
	if err := far.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	<-far.exited
	if got := h.answer(t, 1); !strings.Contains(got, `"error"`) || !strings.Contains(got, "OpenLeash is shutting down. Nothing was done") {
		t.Errorf("the held call: %s", got)
	}
	in.serve(t)
	in.run(t, "approvals", "approve", id)
	h.call(t, 2, "echo", `{}`)
	h.answer(t, 2)
	if n := in.noted(t, `"held"`); n != 0 {
		t.Errorf("the held call ran %d times", n)
	}
}

// A held call that its host has cancelled, or whose host has gone, never runs on a
// late approval, however close on its heels the cancellation comes.
func TestConnectCancelled(t *testing.T) {
	t.Parallel()
	in, token := farInstallation(t)
	in.serve(t)
	h := in.connect(t, token)
	approve := func(what string) {
		t.Helper()
		in.run(t, "approvals", "approve", in.pending(t))
		h.call(t, 90, "echo", `{"n":"after `+what+`"}`)
		h.answer(t, 90)
		if n := in.noted(t, `"`+what+`"`); n != 0 {
			t.Errorf("%s: ran %d times", what, n)
		}
	}
	h.call(t, 1, "hold", `{"n":"cancelled while held"}`)
	in.pending(t)
	h.say(t, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`)
	h.call(t, 2, "echo", `{}`) // behind it: the cancellation was accepted
	h.answer(t, 2)
	approve("cancelled while held")

	other := in.connect(t, token)
	other.call(t, 1, "hold", `{"n":"its host was killed"}`)
	in.pending(t)
	kill(t, other)
	approve("its host was killed")

	other = in.connect(t, token)
	other.call(t, 1, "hold", `{"n":"its host ended"}`)
	in.pending(t)
	if err := other.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	<-other.exited
	approve("its host ended")

	// Cancelled at once: many times, since the two race on connections of their own.
	for i := range 40 {
		h.say(t, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"hold","arguments":{"n":"at once"}}}`+"\n"+
			`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%d}}`, 100+i, 100+i))
	}
	h.call(t, 3, "echo", `{}`)
	h.answer(t, 3)
	h.call(t, 4, "hold", `{"n":"at once"}`) // so that there is one to approve
	id := in.pending(t)
	in.run(t, "approvals", "approve", id)
	h.answer(t, 4)
	h.call(t, 5, "echo", `{}`)
	h.answer(t, 5)
	if n := in.noted(t, `"at once"`); n != 1 {
		t.Errorf("calls that were cancelled at once ran %d times, want the 1 that was not", n)
	}
	in.whole(t, 0)
}

// Large messages and many calls at once pass.
func TestConnectLoad(t *testing.T) {
	t.Parallel()
	in, token := farInstallation(t)
	in.serve(t)
	h := in.connect(t, token)
	const result, argument = 12 << 20, 4 << 20
	h.call(t, 1, "big", fmt.Sprintf(`{"bytes":%d}`, result))
	if got := h.answer(t, 1); strings.Count(got, "x") < result || strings.Contains(got, `"error"`) {
		t.Errorf("a result of %d bytes: got %d: %.300s", result, len(got), got)
	}
	h.call(t, 2, "echo", `{"pad":"`+strings.Repeat("y", argument)+`"}`)
	if got := h.answer(t, 2); strings.Count(got, "y") < argument || strings.Contains(got, `"error"`) {
		t.Errorf("an argument of %d bytes: got %d: %.300s", argument, len(got), got)
	}
	for i := range 50 {
		h.call(t, 100+i, "echo", fmt.Sprintf(`{"n":"call-%d-"}`, i))
	}
	for i := range 50 {
		if got := h.answer(t, 100+i); !strings.Contains(got, fmt.Sprintf("call-%d-", i)) {
			t.Errorf("call %d: %s", i, got)
		}
	}
	if err := h.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	<-h.exited
	if code := h.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d: %s", code, h.words())
	}
}
