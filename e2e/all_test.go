//go:build e2e

package e2e

import (
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const allPolicy = `version: 1
default: allow
rules:
  - id: ask-before-writing
    effect: allow
    action: mcp.files.write_file
    obligations: [{type: HUMAN_APPROVAL}]
  - {id: no-echo, effect: deny, action: mcp.every.echo}
`

// TestAll: two servers at one address, through every door that has it. The host
// sees the tools of both as they are, but for the names.
func TestAll(t *testing.T) {
	ways := []way{{hosts[0], doors[1]}, {hosts[1], doors[2]}, {hosts[1], doors[3]}}
	eachWay(t, ways, func(t *testing.T, w way) {
		folder := filepath.Join(t.TempDir(), "folder")
		writeFile(t, filepath.Join(folder, "hello.txt"), "hello from a file")
		up := startHTTPUpstream(t, "streamableHttp", "/mcp")
		h := newHome(t, filepath.Join(t.TempDir(), "openleash"), allPolicy, map[string]any{
			"files": stdioServer(filesystem(folder)),
			"every": map[string]any{"url": up.URL, "headers": map[string]any{"X-E2e": "from the configuration"}},
		})
		s := w.session(t, h, "")
		want := append(renamed("every__", withoutOpenleash(t, w.host).tools),
			renamed("files__", newSession(t, w.host, target{command: filesystem(folder)}).tools(t))...)
		if diff := cmp.Diff(want, s.tools(t)); diff != "" {
			t.Errorf("the tools of both (-) and those of all servers (+):\n%s", diff)
		}
		got := s.call(t, "files__read_text_file", map[string]any{"path": filepath.Join(folder, "hello.txt")})
		if got.failed || !strings.Contains(got.out, "hello from a file") {
			t.Errorf("want the text of the file, got\n%s", got.out)
		}
		if got := s.call(t, "every__echo", map[string]any{"message": "x"}); !got.failed || !strings.Contains(got.out, "no-echo") {
			t.Errorf("want a refusal by the rule no-echo, got\n%s", got.out)
		}
		if got := s.call(t, "every__get-sum", map[string]any{"a": 2, "b": 3}); got.failed || !strings.Contains(got.out, "The sum of 2 and 3 is 5.") {
			t.Errorf("want the sum, got\n%s", got.out)
		}
		file := filepath.Join(folder, "new.txt")
		done := s.begin(t, "files__write_file", map[string]any{"path": file, "content": "approved"})
		held := h.held(t, "write_file", done)
		wantNoFile(t, file)
		h.run(t, "approvals", "approve", held.ID)
		if got := <-done; got.failed {
			t.Errorf("want the file written after the approval, got\n%s", got.out)
		}
		wantFile(t, file, "approved")
		h.log(t)
	})
}

// renamed are tools as they stand behind a prefix.
func renamed(prefix string, tools []map[string]any) (all []map[string]any) {
	for _, tool := range tools {
		copied := maps.Clone(tool)
		copied["name"] = prefix + tool["name"].(string)
		all = append(all, copied)
	}
	return all
}
