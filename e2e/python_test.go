//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

const pythonPolicy = `version: 1
default: deny
rules:
  - id: small
    effect: allow
    action: purchase
    constraints: {amount_max: 5000, currency: [SEK]}
  - id: large
    effect: allow
    action: purchase
    obligations: [{type: HUMAN_APPROVAL}]
`

// TestPythonSDK: the public Python SDK, as it is in the package index, works against our
// server. sdk.py says what it does with each function.
func TestPythonSDK(t *testing.T) {
	for version, folder := range map[string]string{"0.3.0": "", "0.2.0": "openleash-0.2.0"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			h := newHome(t, filepath.Join(t.TempDir(), "openleash"), pythonPolicy, map[string]any{})
			h.start(t)
			invite := strings.TrimSpace(h.run(t, "agents", "invite"))
			out := h.python(t, folder, "sdk.py", "INVITE="+invite)
			if strings.TrimSpace(out) != version {
				t.Errorf("the SDK calls itself %q, want %s", out, version)
			}
			wantDecisions(t, h.log(t), "invited", "ALLOW", "ALLOW", "DENY", "REQUIRE_APPROVAL", "REQUIRE_APPROVAL", "ALLOW", "DENY", "REQUIRE_APPROVAL", "REQUIRE_APPROVAL", "ALLOW")
			wantNoneOf(t, h, "s3cret-of-the-hook", "bearer-of-the-hook", invite[strings.LastIndex(invite, "=")+1:])
		})
	}
}

// python runs a script of this folder to its end, with one version of the SDK.
func (h *home) python(t *testing.T, folder, script string, env ...string) string {
	t.Helper()
	venv, err := filepath.Abs("venv")
	if err != nil {
		t.Fatal(err)
	}
	python := filepath.Join(venv, "bin", "python")
	if runtime.GOOS == "windows" {
		python = filepath.Join(venv, "Scripts", "python.exe")
	}
	if _, err := os.Stat(filepath.Join(venv, "installed")); err != nil {
		t.Fatalf("%v\nwant the Python SDK of requirements.txt; run: make e2e/venv/installed", err)
	}
	cmd := exec.Command(python, script)
	cmd.Env = slices.Concat(h.env, env, []string{"OPENLEASH=" + openleash, fmt.Sprintf("URL=http://127.0.0.1:%d", h.port)})
	if folder != "" {
		cmd.Env = append(cmd.Env, "PYTHONPATH="+filepath.Join(venv, folder))
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", script, err, out, stderr.String())
	}
	return string(out)
}

// wantDecisions compares the decisions on an agent that are in the log.
func wantDecisions(t *testing.T, entries []entry, agent string, want ...string) {
	t.Helper()
	var got []string
	for _, e := range entries {
		if e.ActorID == agent && strings.HasPrefix(e.Event, "decision") {
			got = append(got, e.Decision)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("decisions on %s in the log: %q, want %q", agent, got, want)
	}
}

// wantNoneOf looks for secrets in the log.
func wantNoneOf(t *testing.T, h *home, secrets ...string) {
	t.Helper()
	log, err := os.ReadFile(filepath.Join(h.dir, "data", "audit.log.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range secrets {
		if strings.Contains(string(log), secret) {
			t.Errorf("the log has the secret %s", secret)
		}
	}
}
