//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const allowAll = "version: 1\ndefault: allow\nrules: []\n"

// TestProtected: the server may use the folder around OPENLEASH_HOME and the
// policy allows everything; no spelling of a path gets in all the same.
//
// The last ones are this server's own ways of reading a path: a relative one
// starts from the folder that it was given, "~" is the HOME of its environment,
// and a name that does not exist is looked for in other Unicode forms.
func TestProtected(t *testing.T) {
	eachWay(t, twoWays, func(t *testing.T, w way) {
		parent := t.TempDir()
		dir := filepath.Join(parent, "Büro", "openleash")
		wire := filepath.Join(t.TempDir(), "wire")
		server := stdioServer(recorded(t, wire, filesystem(parent)))
		server["env"] = map[string]any{"HOME": parent}
		home := newHome(t, dir, allowAll, map[string]any{"files": server})
		config := filepath.Join(dir, "config.yaml")
		before := readFile(t, config)
		if err := os.Symlink(dir, filepath.Join(parent, "link")); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(parent, "free.txt"), "free for all")
		s := w.session(t, home, "files")

		got := s.call(t, "read_text_file", map[string]any{"path": filepath.Join(parent, "free.txt")})
		if got.failed || !strings.Contains(got.out, "free for all") {
			t.Fatalf("a file beside OPENLEASH_HOME: want its text, got\n%s", got.out)
		}
		for _, test := range protectedCalls(parent, dir) {
			t.Run(test.name, func(t *testing.T) {
				reached := len(calls(t, wire, test.tool))
				got := s.call(t, test.tool, test.args)
				if !got.failed || !strings.Contains(got.out, "OpenLeash") {
					t.Errorf("want a refusal of OpenLeash, got (failed: %t)\n%s", got.failed, got.out)
				}
				if len(calls(t, wire, test.tool)) != reached {
					t.Error("the call reached the upstream")
				}
			})
		}
		if after := readFile(t, config); after != before {
			t.Errorf("config.yaml was changed to\n%s", after)
		}
		checkProtectedLog(t, home, len(protectedCalls(parent, dir)))
	})
}

type protectedCall struct {
	name, tool string
	args       map[string]any
}

func protectedCalls(parent, dir string) []protectedCall {
	config := filepath.Join(dir, "config.yaml")
	reading := func(path string) map[string]any { return map[string]any{"path": path} }
	return []protectedCall{
		{"plain", "read_text_file", reading(config)},
		{"dot dot", "read_text_file", reading(parent + "/x/../Büro/openleash/config.yaml")},
		{"slashes", "read_text_file", reading(parent + "//Büro/.//openleash///config.yaml")},
		{"link", "read_text_file", reading(parent + "/link/config.yaml")},
		{"another tool", "list_directory", reading(dir)},
		{"in a list", "read_multiple_files", map[string]any{"paths": []string{parent + "/free.txt", config}}},
		{"write", "write_file", writing(filepath.Join(dir, "policies", "mine.yaml"), allowAll)},
		{"overwrite", "write_file", writing(parent+"/link/config.yaml", "listen: 127.0.0.1:1")},
		{"move away", "move_file", map[string]any{"source": dir, "destination": parent + "/moved"}},
		{"relative", "read_text_file", reading("Büro/openleash/config.yaml")},
		{"relative from below", "read_text_file", reading("x/../Büro/openleash/config.yaml")},
		{"relative link", "read_text_file", reading("link/config.yaml")},
		{"tilde", "read_text_file", reading("~/Büro/openleash/config.yaml")},
		{"decomposed", "read_text_file", reading(parent + "/Bu\u0308ro/openleash/config.yaml")},
		{"move what it is in", "move_file", map[string]any{"source": filepath.Dir(dir), "destination": parent + "/moved"}},
	}
}

func checkProtectedLog(t *testing.T, h *home, want int) {
	t.Helper()
	refused := 0
	for _, e := range h.log(t) {
		if e.Decision == "DENY" && e.Code == "PROTECTED" {
			refused++
		}
	}
	if refused != want {
		t.Errorf("the log has %d refusals with the code PROTECTED, want %d", refused, want)
	}
}

func readFile(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
