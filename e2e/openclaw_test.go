//go:build e2e

package e2e

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestOpenclaw: in one turn of an openclaw agent the model writes a file through
// a held call, and hears the server's answer once the owner has approved. The
// server is wrapped on the command line, as a person would do in openclaw's
// configuration: openleash stdio --agent NAME --name NAME -- COMMAND ARGS…
func TestOpenclaw(t *testing.T) {
	t.Parallel()
	busy(t)
	dir := t.TempDir()
	folder, wire := filepath.Join(dir, "folder"), filepath.Join(dir, "wire")
	file := filepath.Join(folder, "a.txt")
	writeFile(t, filepath.Join(folder, "keep.txt"), "")
	home := newHome(t, filepath.Join(dir, "openleash"), filesPolicy, map[string]any{})
	wrapped := append([]string{"--agent", "claw", "--name", "files", "--"}, recorded(t, wire, filesystem(folder))...)
	model := newModel(t, "s__write_file", encode(t, writing(file, "from a turn")))

	cmd := openclawTurn(t, model, home.stdio(wrapped...))
	done := make(chan answer, 1)
	go func() { done <- finish(cmd) }()
	request := home.held(t, "write_file", done)
	wantNoFile(t, file)
	home.run(t, "approvals", "approve", request.ID)

	checkTurn(t, <-done, model, "Successfully wrote")
	wantFile(t, file, "from a turn")
	if sent := calls(t, wire, "write_file"); len(sent) != 1 {
		t.Errorf("the upstream was called %d times, want once", len(sent))
	}
	if !slices.Contains(model.offered, "s__read_text_file") {
		t.Errorf("the model was not offered the server's tools:\n%s", model.saw())
	}
	checkClawLog(t, home, "claw")
}

// TestOpenclawRefused: over HTTP, the model hears why a call was refused and the
// turn goes on.
func TestOpenclawRefused(t *testing.T) {
	t.Parallel()
	busy(t)
	dir := t.TempDir()
	folder, wire := filepath.Join(dir, "folder"), filepath.Join(dir, "wire")
	file := filepath.Join(folder, "secret", "a.txt")
	writeFile(t, filepath.Join(folder, "secret", "keep.txt"), "")
	home := newHome(t, filepath.Join(dir, "openleash"), filesPolicy,
		map[string]any{"files": stdioServer(recorded(t, wire, filesystem(folder)))})
	model := newModel(t, "s__write_file", encode(t, writing(file, "x")))

	checkTurn(t, finish(openclawTurn(t, model, home.http(t, "files"))), model, "no-secrets")
	wantNoFile(t, file)
	if sent := calls(t, wire, "write_file"); len(sent) != 0 {
		t.Error("a refused call reached the upstream")
	}
}

// TestOpenclawDefaultTransport: a url and nothing more, which openclaw takes for
// SSE. The model's call is held, approved, and done once.
func TestOpenclawDefaultTransport(t *testing.T) {
	t.Parallel()
	busy(t)
	dir := t.TempDir()
	folder, wire := filepath.Join(dir, "folder"), filepath.Join(dir, "wire")
	file := filepath.Join(folder, "a.txt")
	writeFile(t, filepath.Join(folder, "keep.txt"), "")
	home := newHome(t, filepath.Join(dir, "openleash"), filesPolicy,
		map[string]any{"files": stdioServer(recorded(t, wire, filesystem(folder)))})
	model := newModel(t, "s__write_file", encode(t, writing(file, "over SSE")))

	cmd := openclawTurn(t, model, home.sse(t, "files"))
	done := make(chan answer, 1)
	go func() { done <- finish(cmd) }()
	request := home.held(t, "write_file", done)
	wantNoFile(t, file)
	home.run(t, "approvals", "approve", request.ID)

	checkTurn(t, <-done, model, "Successfully wrote")
	wantFile(t, file, "over SSE")
	if sent := calls(t, wire, "write_file"); len(sent) != 1 {
		t.Errorf("the upstream was called %d times, want once", len(sent))
	} else {
		proofOf(t, home, "files", sent[0])
	}
	checkClawLog(t, home, "e2e")
}

// openclawTurn is one turn of an agent that has one MCP server, s, and a model
// that stands still.
func openclawTurn(t *testing.T, m *model, to target) *exec.Cmd {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "openclaw.json")
	standIn := map[string]any{"id": "stand-in", "name": "Stand-in", "input": []string{"text"},
		"contextWindow": 128000, "maxTokens": 4096}
	provider := map[string]any{"baseUrl": m.URL, "apiKey": "none", "api": "openai-completions",
		"models": []any{standIn}}
	entry := serverEntry(to, "url")
	if to.url != "" && !to.isSSE() {
		entry["transport"] = "streamable-http" // the default is SSE
	}
	writeJSON(t, config, map[string]any{
		"agents": map[string]any{"defaults": map[string]any{"model": map[string]any{"primary": "local/stand-in"}}},
		"models": map[string]any{"mode": "replace", "providers": map[string]any{"local": provider}},
		"tools":  map[string]any{"toolSearch": false},
		"mcp":    map[string]any{"servers": map[string]any{"s": entry}},
	})
	args := []string{openclawJS, "agent", "exec", "Use the tool.", "--config", config, "--cwd", dir, "--json",
		"--timeout", "200"}
	return nodeCommand(t, dir, args, "OPENCLAW_STATE_DIR="+filepath.Join(dir, "state"))
}

// checkTurn: the turn ended well, and the model heard what it should.
func checkTurn(t *testing.T, got answer, m *model, want string) {
	t.Helper()
	var turn struct {
		OK    bool
		Final string
	}
	if err := json.Unmarshal([]byte(got.out), &turn); err != nil || got.failed || !turn.OK {
		t.Errorf("the turn failed (%v):\n%s\n%s", err, got.out, m.saw())
	}
	if !strings.Contains(turn.Final, want) {
		t.Errorf("the turn ended with %q, want the tool's answer %q in it", turn.Final, want)
	}
}

func checkClawLog(t *testing.T, h *home, agent string) {
	t.Helper()
	var got []string
	for _, e := range h.log(t) {
		if e.Tool == "write_file" && e.ActorID == agent {
			got = append(got, strings.TrimSpace(e.Event+" "+e.Decision+e.Outcome))
		}
	}
	for _, want := range []string{"decision REQUIRE_APPROVAL", "decision ALLOW", "outcome ok"} {
		if !slices.Contains(got, want) {
			t.Errorf("the log has no %q by the agent %s, got %q", want, agent, got)
		}
	}
}
