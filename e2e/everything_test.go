//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const everythingPolicy = `version: 1
default: allow
rules:
  - id: ask-before-adding
    effect: allow
    action: mcp.every.get-sum
    obligations: [{type: HUMAN_APPROVAL}]
  - id: no-gzip
    effect: deny
    action: mcp.every.gzip-file-as-resource
`

// TestEverything: what is not governed passes as it is, whichever transport is
// on either side of openleash.
func TestEverything(t *testing.T) {
	eachWay(t, allWays, func(t *testing.T, w way) {
		t.Run("stdio upstream", func(t *testing.T) {
			testEverything(t, w, stdioServer(everything()))
		})
		t.Run("http upstream", func(t *testing.T) {
			up := startHTTPUpstream(t, "streamableHttp", "/mcp")
			home := testEverything(t, w, map[string]any{
				"url": up.URL, "headers": map[string]any{"X-E2e": "from the configuration"},
			})
			up.check(t, home)
		})
		t.Run("sse upstream", func(t *testing.T) {
			up := startHTTPUpstream(t, "sse", "/sse")
			home := testEverything(t, w, map[string]any{
				"type": "sse", "url": up.URL, "headers": map[string]any{"X-E2e": "from the configuration"},
			})
			up.check(t, home)
		})
	})
}

func testEverything(t *testing.T, w way, server map[string]any) *home {
	t.Helper()
	home := newHome(t, filepath.Join(t.TempDir(), "openleash"), everythingPolicy, map[string]any{"every": server})
	through := w.session(t, home, "every")
	want := withoutOpenleash(t, w.host)

	if diff := cmp.Diff(want.tools, through.tools(t)); diff != "" {
		t.Errorf("tools through openleash (+) differ from those without (-):\n%s", diff)
	}
	for tool, args := range plainCalls {
		if got := through.call(t, tool, args); got.out != want.answers[tool] {
			t.Errorf("%s through openleash: the answer is\n%.500s\nwithout it\n%.500s", tool, got.out, want.answers[tool])
		}
	}
	testEnvironment(t, through)
	testHeldSum(t, home, through)

	got := through.call(t, "gzip-file-as-resource", map[string]any{"name": "a", "data": "data:,a"})
	if !got.failed || !strings.Contains(got.out, "no-gzip") {
		t.Errorf("want a refusal by the rule no-gzip, got\n%s", got.out)
	}
	checkEverythingLog(t, home)
	return home
}

// plainCalls are answered in the same way each time.
var plainCalls = map[string]map[string]any{
	"get-annotated-message":          {"messageType": "error", "includeImage": true},
	"get-resource-links":             {"count": 2},
	"trigger-long-running-operation": {"duration": 1, "steps": 4},
	"echo":                           {"message": "<&> \u2028 \U0001F600"},
}

// A baseline is what a host shows of server-everything without openleash.
type baseline struct {
	tools   []map[string]any
	answers map[string]string
}

var (
	baselinesMu sync.Mutex
	baselines   = map[string]*baseline{} // by host
)

func withoutOpenleash(t *testing.T, h host) *baseline {
	t.Helper()
	baselinesMu.Lock()
	defer baselinesMu.Unlock()
	if b := baselines[h.name]; b != nil {
		return b
	}
	s := newSession(t, h, target{command: everything()})
	b := &baseline{tools: s.tools(t), answers: map[string]string{}}
	for tool, args := range plainCalls {
		got := s.call(t, tool, args)
		if got.failed {
			t.Fatalf("%s fails without openleash:\n%s", tool, got.out)
		}
		b.answers[tool] = got.out
	}
	baselines[h.name] = b
	return b
}

// testEnvironment: the server gets its own environment, not openleash's.
func testEnvironment(t *testing.T, s *session) {
	t.Helper()
	got := s.call(t, "get-env", map[string]any{})
	if got.failed || !strings.Contains(got.out, "PATH") {
		t.Errorf("want the server's environment, got\n%s", got.out)
	}
	for _, name := range []string{secretName, secretValue, "OPENLEASH_HOME"} {
		if strings.Contains(got.out, name) {
			t.Errorf("the server's environment has %s", name)
		}
	}
}

func testHeldSum(t *testing.T, h *home, s *session) {
	t.Helper()
	done := s.begin(t, "get-sum", map[string]any{"a": 2, "b": 3})
	h.run(t, "approvals", "approve", h.held(t, "get-sum", done).ID)
	if got := <-done; got.failed || !strings.Contains(got.out, "The sum of 2 and 3 is 5.") {
		t.Errorf("want the sum after the approval, got\n%s", got.out)
	}
}

func checkEverythingLog(t *testing.T, h *home) {
	t.Helper()
	got := map[string]int{}
	for _, e := range h.log(t) {
		got[e.what()]++
	}
	for _, want := range []string{
		"decision echo ALLOW", "outcome echo ok",
		"decision get-sum REQUIRE_APPROVAL", "decision get-sum ALLOW", "outcome get-sum ok",
		"decision gzip-file-as-resource DENY",
	} {
		if got[want] != 1 {
			t.Errorf("the log has %d entries %q, want 1; all: %v", got[want], want, got)
		}
	}
}

// check: the upstream got the headers of the configuration and not the host's
// token, each allowed call once with a proof, and the refused one never.
func (up *httpUpstream) check(t *testing.T, h *home) {
	t.Helper()
	up.mu.Lock()
	defer up.mu.Unlock()
	sums := 0
	for i, header := range up.headers {
		if got := header.Get("Authorization"); got != "" {
			t.Fatalf("the host's token reached the upstream: Authorization: %s", got)
		}
		if got := header.Get("X-E2e"); got != "from the configuration" {
			t.Errorf("request %d: header X-E2e is %q, want that of the configuration", i, got)
		}
		var m message
		if len(up.bodies[i]) > 0 {
			if err := json.Unmarshal(up.bodies[i], &m); err != nil {
				t.Errorf("the upstream was sent what is no JSON: %v\n%s", err, up.bodies[i])
			}
		}
		if m.Params.Name == "get-sum" {
			sums++
			proofOf(t, h, "every", m)
		}
		if bytes.Contains(up.bodies[i], []byte("gzip")) {
			t.Error("a refused call reached the upstream")
		}
	}
	if sums != 1 {
		t.Errorf("get-sum reached the upstream %d times, want once", sums)
	}
}
