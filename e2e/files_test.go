//go:build e2e

package e2e

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The policy of these tests: files are read freely and written under free/;
// writes to secret/ are refused, all others are held.
const filesPolicy = `version: 1
default: deny
rules:
  - {id: reading, effect: allow, action: mcp.files.read_text_file}
  - {id: listing, effect: allow, action: mcp.files.list_directory}
  - id: no-secrets
    effect: deny
    action: mcp.files.write_file
    when: {match: {path: $.payload.arguments.path, op: regex, value: /secret/}}
  - id: free
    effect: allow
    action: mcp.files.write_file
    when: {match: {path: $.payload.arguments.path, op: regex, value: /free/}}
  - id: ask-before-writing
    effect: allow
    action: mcp.files.write_file
    obligations: [{type: HUMAN_APPROVAL}]
  - id: ask-before-editing
    effect: allow
    action: mcp.files.edit_file
    obligations: [{type: HUMAN_APPROVAL}]
`

// A files is a host, a filesystem server, and openleash between them.
type files struct {
	*home
	*session
	folder string // the folder that the server may use
	wire   string // what passed between openleash and the server
}

func TestFiles(t *testing.T) {
	eachWay(t, allWays, func(t *testing.T, w way) {
		dir := t.TempDir()
		f := &files{folder: filepath.Join(dir, "folder"), wire: filepath.Join(dir, "wire")}
		writeFile(t, f.path("hello.txt"), "hello from a file")
		writeFile(t, f.path("secret/keep.txt"), "")
		command := recorded(t, f.wire, filesystem(f.folder))
		f.home = newHome(t, filepath.Join(dir, "openleash"), filesPolicy,
			map[string]any{"files": stdioServer(command)})
		f.session = w.session(t, f.home, "files")

		t.Run("list", f.list)
		t.Run("read", f.read)
		t.Run("refused by the policy", f.refusedByPolicy)
		t.Run("refused by the upstream", f.refusedByUpstream)
		t.Run("held and approved", f.heldAndApproved)
		t.Run("runs once", f.runsOnce)
		t.Run("held and denied", f.heldAndDenied)
		t.Run("log", f.checkLog)
	})
}

func (f *files) path(name string) string { return filepath.Join(f.folder, name) }

// list: the host sees the tools exactly as it sees them without openleash.
func (f *files) list(t *testing.T) {
	direct := newSession(t, f.host, target{command: filesystem(f.folder)})
	want := direct.tools(t)
	if len(want) < 10 {
		t.Fatalf("the server has %d tools by itself, want 10 or more", len(want))
	}
	if diff := cmp.Diff(want, f.tools(t)); diff != "" {
		t.Errorf("tools through openleash (+) differ from those without (-):\n%s", diff)
	}
}

func (f *files) read(t *testing.T) {
	got := f.call(t, "read_text_file", map[string]any{"path": f.path("hello.txt")})
	if got.failed || !strings.Contains(got.out, "hello from a file") {
		t.Errorf("want the text of the file, got\n%s", got.out)
	}
	sent := calls(t, f.wire, "read_text_file")
	if len(sent) != 1 {
		t.Fatalf("the upstream was called %d times, want once", len(sent))
	}
	if by := proofOf(t, f.home, "files", sent[0]).Approval; by != nil {
		t.Errorf("the proof says that a person approved the call: %+v", by)
	}
}

func (f *files) refusedByPolicy(t *testing.T) {
	file := f.path("secret/a.txt")
	before := len(calls(t, f.wire, "write_file"))
	f.wantRefusal(t, f.call(t, "write_file", writing(file, "x")), "no-secrets")
	wantNoFile(t, file)
	if after := len(calls(t, f.wire, "write_file")); after != before {
		t.Error("a refused call reached the upstream")
	}
}

// refusedByUpstream: the policy lets it pass, the server has its own opinion,
// and the host hears it.
func (f *files) refusedByUpstream(t *testing.T) {
	file := filepath.Join(filepath.Dir(f.folder), "free", "a.txt")
	got := f.call(t, "write_file", writing(file, "x"))
	if !got.failed || !strings.Contains(got.out, "outside allowed directories") {
		t.Errorf("want the server's own refusal, got\n%s", got.out)
	}
	wantNoFile(t, file)
}

func (f *files) heldAndApproved(t *testing.T) {
	file := f.path("approved.txt")
	before := len(calls(t, f.wire, "write_file"))
	done := f.begin(t, "write_file", writing(file, "approved"))
	request := f.held(t, "write_file", done)
	if diff := cmp.Diff(writing(file, "approved"), request.Payload.Arguments); diff != "" {
		t.Errorf("the owner is shown (+) other arguments than were sent (-):\n%s", diff)
	}
	wantNoFile(t, file)
	f.home.run(t, "approvals", "approve", request.ID)
	if got := <-done; got.failed || !strings.Contains(got.out, "Successfully wrote") {
		t.Errorf("want the server's answer after the approval, got\n%s", got.out)
	}
	wantFile(t, file, "approved")
	sent := calls(t, f.wire, "write_file")
	if len(sent) != before+1 {
		t.Fatalf("the upstream was called %d times, want once", len(sent)-before)
	}
	if by := proofOf(t, f.home, "files", sent[before]).Approval; by == nil || by.ID != request.ID {
		t.Errorf("the proof says that the call was approved by %+v, want the request %s", by, request.ID)
	}
}

// runsOnce: an approval is spent. The same call again is a new question.
func (f *files) runsOnce(t *testing.T) {
	file := f.path("edited.txt")
	writeFile(t, file, "a")
	args := map[string]any{"path": file, "edits": []any{map[string]any{"oldText": "a", "newText": "aa"}}}
	done := f.begin(t, "edit_file", args)
	first := f.held(t, "edit_file", done)
	f.home.run(t, "approvals", "approve", first.ID)
	if got := <-done; got.failed {
		t.Errorf("want the edit done, got\n%s", got.out)
	}
	wantFile(t, file, "aa")

	done = f.begin(t, "edit_file", args)
	second := f.held(t, "edit_file", done)
	if second.ID == first.ID {
		t.Errorf("the request %s is asked a second time", first.ID)
	}
	f.home.run(t, "approvals", "deny", second.ID, "--reason", "once is enough")
	f.wantRefusal(t, <-done, "once is enough")
	wantFile(t, file, "aa")
}

func (f *files) heldAndDenied(t *testing.T) {
	file := f.path("denied.txt")
	before := len(calls(t, f.wire, "write_file"))
	done := f.begin(t, "write_file", writing(file, "denied"))
	f.home.run(t, "approvals", "deny", f.held(t, "write_file", done).ID, "--reason", "not on a Sunday")
	f.wantRefusal(t, <-done, "not on a Sunday")
	wantNoFile(t, file)
	if after := len(calls(t, f.wire, "write_file")); after != before {
		t.Error("a denied call reached the upstream")
	}
}

// checkLog: the log verifies, and holds what the tests before it did.
func (f *files) checkLog(t *testing.T) {
	got := map[string]int{}
	for _, e := range f.log(t) {
		got[e.what()]++
	}
	for what, times := range map[string]int{
		"decision read_text_file ALLOW":        1,
		"outcome read_text_file ok":            1,
		"decision write_file DENY":             2,
		"decision write_file ALLOW":            2,
		"decision write_file REQUIRE_APPROVAL": 2,
	} {
		if got[what] != times {
			t.Errorf("the log has %d entries %q, want %d; all: %v", got[what], what, times, got)
		}
	}
}

// wantRefusal: the model hears that the call was refused, and why.
func (f *files) wantRefusal(t *testing.T, got answer, why string) {
	t.Helper()
	if !got.failed || !strings.Contains(got.out, why) {
		t.Errorf("want a refusal that says %q, got (failed: %t)\n%s", why, got.failed, got.out)
	}
}

func writing(file, text string) map[string]any {
	return map[string]any{"path": file, "content": text}
}

func wantFile(t *testing.T, file, want string) {
	t.Helper()
	got, err := os.ReadFile(file)
	if err != nil {
		t.Error(err)
	} else if string(got) != want {
		t.Errorf("%s holds %q, want %q", filepath.Base(file), got, want)
	}
}

func wantNoFile(t *testing.T, file string) {
	t.Helper()
	if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is there (%v), want no such file", file, err)
	}
}
