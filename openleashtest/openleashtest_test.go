package openleashtest_test

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/openleashtest"
	"github.com/openleash/openleash-go/proof"
)

// The example that people copy is the one that runs.
func TestPackageCommentIsTheExample(t *testing.T) {
	test, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	src, err := os.ReadFile("openleashtest.go")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(test), "// TestBuying is the example of the package comment.\n")
	comment := ""
	for line := range strings.Lines(string(src)) {
		if code, ok := strings.CutPrefix(line, "//\t"); ok {
			comment += code
		} else if line == "//\n" && comment != "" && !strings.HasSuffix(comment, "\n}\n") {
			comment += "\n"
		}
	}
	if comment != example {
		t.Errorf("the package comment has\n%s\nwant the test that runs:\n%s", comment, example)
	}
}

func TestDefaultsAreTheShippedPolicy(t *testing.T) {
	srv := openleashtest.NewServer(t, nil)
	a := srv.Agent(t, "bot")
	if d := a.Authorize(t, a.Action("purchase", nil)); d.Decision != "REQUIRE_APPROVAL" || d.PolicyID != "balanced" {
		t.Errorf("= %+v, want it to wait for the owner by the policy balanced", d)
	}
}

// Both doors of a server are there, and the portal's is closed to who is not signed in.
func TestPortalIsServed(t *testing.T) {
	srv := openleashtest.NewServer(t, nil)
	for path, want := range map[string]string{"/v1/health": `"status":"ok"`, "/": "sign"} {
		r, err := http.NewRequest("GET", srv.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := srv.Send(t, r); !bytes.Contains(got.Body, []byte(want)) {
			t.Errorf("GET %s = %d %s, want %q in it", path, got.Status, got.Body, want)
		}
	}
}

func TestSignIn(t *testing.T) {
	srv := openleashtest.NewServer(t, nil)
	first, second := srv.SignIn(t), srv.SignIn(t)
	for token, want := range map[string]int{first: 401, second: 200, "": 401} {
		r, err := http.NewRequest("GET", srv.URL+"/v1/owner/profile", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		if got := srv.Send(t, r); got.Status != want {
			t.Errorf("%s, want %d", got, want)
		}
	}
}

func TestSetPolicyIsInForceAtOnce(t *testing.T) {
	srv := openleashtest.NewServer(t, &openleashtest.Options{Policy: shopPolicy})
	a := srv.Agent(t, "bot")
	for range 3 {
		for _, effect := range []string{"allow", "deny"} {
			srv.SetPolicy(t, "version: 1\ndefault: "+effect+"\nrules: []\n")
			srv.SetPolicy(t, "version: 1\ndefault: "+effect+"\nrules: []\n") // the same again waits for nothing
			if d := a.Authorize(t, a.Action("purchase", nil)); d.Decision != strings.ToUpper(effect) {
				t.Errorf("= %s by %s, want %s", d.Decision, d.Reason, effect)
			}
		}
	}
}

func TestProofsVerifyOffline(t *testing.T) {
	at := time.Date(2026, 5, 5, 13, 42, 11, 0, time.UTC)
	srv := openleashtest.NewServer(t, &openleashtest.Options{Policy: shopPolicy, Now: func() time.Time { return at }})
	a := srv.Agent(t, "bot")
	d := a.Authorize(t, a.Action("purchase", map[string]any{"amount_minor": 1, "currency": "SEK"}))
	claims, err := proof.Verify(d.ProofToken, proof.Expect{Keys: srv.Keys(), Now: at, AnyAudience: true, AgentID: "bot"})
	if err != nil || claims.DecisionID != d.DecisionID || !claims.IssuedAt.Equal(at) {
		t.Errorf("= %+v, %v; want a proof of decision %s, issued by the clock of the test", claims, err, d.DecisionID)
	}
}

// The log has everything while the server runs, and verifies when it is closed; the next
// server on the home goes on with it.
func TestLogIsWhole(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "home")
	size := 0
	for range 2 {
		srv := openleashtest.NewServer(t, &openleashtest.Options{Policy: shopPolicy, Home: dir})
		a := srv.Agent(t, "bot"+time.Now().Format("150405.000000"))
		d := a.Authorize(t, a.Action("mail", nil))
		entries := srv.Entries(t)
		if last := entries[len(entries)-1]; last.DecisionID != d.DecisionID || last.ActorID != a.Name || len(entries) <= size {
			t.Errorf("the last of %d entries is %+v, want decision %s", len(entries), last, d.DecisionID)
		}
		size = len(entries)
		if err := srv.Close(); err != nil {
			t.Fatal(err)
		}
		file, err := os.ReadFile(srv.LogPath)
		if err != nil {
			t.Fatal(err)
		}
		report, err := audit.Verify(bytes.NewReader(file), uint64(size), "")
		if err != nil || len(report.Faults) > 0 {
			t.Errorf("the log: %v, %v", report.Faults, err)
		}
	}
}
