// Package openleash_test holds what is true of the whole repository.
package openleash_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/openleash/openleash-go"

// mayImport is the picture of design.md: who may import whom of ours, beside
// internal/ and configs. A package that is not named here may not exist.
var mayImport = map[string][]string{
	"action":          {},
	"audit":           {},
	"identity":        {},
	"owners":          {"identity", "proof", "audit", "passkey"},
	"policy":          {"action", "identity"},
	"proof":           {"action"},
	"approvals":       {"action"},
	"passkey":         {"action", "approvals", "identity"},
	"replay":          {"action", "policy"},
	"draft":           {"action", "policy", "approvals"},
	"authz":           {"action", "policy", "proof", "audit", "approvals", "identity"},
	"proxy":           {"authz", "identity", "approvals", "policy", "action"},
	"api":             {"authz", "policy", "identity", "owners", "approvals", "audit", "proof", "action"},
	"portal":          {"draft", "authz", "policy", "identity", "owners", "passkey", "approvals", "audit", "proof", "action"},
	"store/sqlite":    {"authz", "policy", "identity", "owners", "approvals", "audit", "proof", "action"},
	"store/storetest": {"authz", "policy", "identity", "owners", "approvals", "audit", "proof", "action"},
	"witness":         {"audit"},
	"openleashtest":   {"audit", "authz", "proof"},
	"cmd/openleash":   {"*"},
	"configs":         {},

	// internal/ is below everything, but for those that show values, the sample server,
	// which is a stranger that verifies proofs, and the wiring, which is above.
	"internal/currency":    {},
	"internal/diff":        {"action"},
	"internal/door":        {},
	"internal/durable":     {},
	"internal/filelock":    {},
	"internal/home":        {},
	"internal/hostiletest": {"action", "approvals"},
	"internal/jsontext":    {},
	"internal/keyfile":     {},
	"internal/logline":     {"audit"},
	"internal/oauth":       {},
	"internal/oauthtest":   {},
	"internal/ratelimit":   {},
	"internal/strictyaml":  {},
	"internal/visible":     {"action"},
	"internal/passkeytest": {},
	"internal/watchdog":    {},
	"internal/witnesstest": {},
	"internal/sample":      {"proof", "action"},
	"internal/wiring":      {"store/sqlite", "api", "portal", "authz", "policy", "identity", "owners", "passkey", "audit", "proof"},
}

// above are those of internal/ that only these may import.
var above = map[string][]string{
	"internal/sample": {"cmd/openleash"},
	"internal/wiring": {"cmd/openleash", "openleashtest"},
}

func TestImports(t *testing.T) {
	for _, p := range listPackages(t) {
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		if name == "" {
			continue // this test
		}
		allowed, known := mayImport[name]
		if !known {
			t.Errorf("%s stands in no picture: add it to mayImport, and to docs/design/packages.md, if it is needed", name)
			continue
		}
		for _, path := range p.Imports {
			imported, ours := strings.CutPrefix(path, module+"/")
			if !ours || imported == "configs" || strings.HasPrefix(imported, "internal/") && above[imported] == nil {
				continue
			}
			if !slices.Contains(allowed, imported) && !slices.Contains(allowed, "*") && !slices.Contains(above[imported], name) {
				t.Errorf("%s imports %s; it may import %v", name, imported, allowed)
			}
		}
	}
}

type goPackage struct {
	ImportPath string
	Imports    []string
	Doc        string
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,Doc", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []goPackage
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 10 {
		t.Fatalf("go list names %d packages only", len(all))
	}
	return all
}

// TestPackageComments: each package says what it promises.
func TestPackageComments(t *testing.T) {
	for _, p := range listPackages(t) {
		if len(p.Doc) < 40 && p.ImportPath != module {
			t.Errorf("%s: its package comment says too little: %q", p.ImportPath, p.Doc)
		}
	}
}
