package witness

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/openleash/openleash-go/audit"
)

func kept(t *testing.T, path string, tip audit.Tip) (sizes []uint64) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, piece := range audit.SplitKept(text) {
		c, err := tip.Open(piece.Signed)
		if err != nil {
			t.Fatalf("line %d: %v", piece.Line, err)
		}
		sizes = append(sizes, c.Size)
	}
	return sizes
}

// Whatever a write that was cut short has left, the file goes on with whole checkpoints.
func TestFileKeepsEachWhole(t *testing.T) {
	l, path := newLog(t), filepath.Join(t.TempDir(), "kept")
	f := NewFile(path)
	first, second := l.grow(3, "a"), l.grow(4, "b")
	for _, tip := range []audit.Tip{first, first, second, second} {
		if err := f.send(t.Context(), tip, 0); err != nil {
			t.Fatal(err)
		}
	}
	if got := kept(t, path, first); len(got) != 2 || got[0] != 3 || got[1] != 7 {
		t.Fatalf("kept are %v", got)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	third := l.grow(1, "c")
	for cut := range len(whole) + 1 {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if err := f.send(t.Context(), third, 0); err != nil {
			t.Fatalf("cut to %d bytes: %v", cut, err)
		}
		if got := kept(t, path, first); got[len(got)-1] != 8 || len(got) < 1+cut/(len(whole)/2+2) {
			t.Fatalf("cut to %d bytes: kept are %v", cut, got)
		}
	}
}

// What the file knows is held against the log, and what is not of this log stays as it is.
func TestFileThatKnowsOtherwise(t *testing.T) {
	l := newLog(t)
	dir := t.TempDir()
	long, fork := filepath.Join(dir, "long"), filepath.Join(dir, "fork")
	other := logWith(t, t.TempDir(), l.key)
	mustSend(t, long, other.grow(9, "x"))
	mustSend(t, fork, l.grow(3, "a"))
	rewritten := logWith(t, t.TempDir(), l.key)
	rewritten.grow(3, "b")
	tip := rewritten.grow(2, "b")
	for path, want := range map[string]string{
		long: "it knows 9 entries of the log, which has 5: was an older log put back?",
		fork: "it knows the first 3 entries of the log otherwise than they are now",
		written(t, dir, "prose", "Dear diary,\n"):                                      "its end is no checkpoint of " + l.key.Origin(),
		written(t, dir, "space", "\n\n"):                                               "its end is no checkpoint of ",
		written(t, dir, "edited", strings.Replace(read(t, fork), "\n3\n", "\n4\n", 1)): "its end is no checkpoint of ",
		filepath.Join(dir, "none", "kept"):                                             "no such file",
	} {
		before, _ := os.ReadFile(path)
		err := NewFile(path).send(t.Context(), tip, 0)
		if err == nil || !strings.Contains(err.Error(), want) && runtime.GOOS != "windows" {
			t.Errorf("%s: want %q, got %v", filepath.Base(path), want, err)
		}
		if after, _ := os.ReadFile(path); string(before) != string(after) {
			t.Errorf("%s was changed", path)
		}
	}
}

// A disk that does not answer holds up nobody, and is asked once.
func TestFileThatHangs(t *testing.T) {
	f := NewFile(filepath.Join(t.TempDir(), "kept"))
	f.busy <- struct{}{}
	if err := f.send(t.Context(), newLog(t).grow(1, "x"), 0); err == nil || !strings.Contains(err.Error(), "has not answered") {
		t.Error(err)
	}
	if runtime.GOOS == "windows" {
		return
	}
	pipe := NewFile("/dev/full")
	if _, err := os.Stat(pipe.Path); err == nil {
		if err := pipe.send(t.Context(), newLog(t).grow(1, "x"), 0); err == nil {
			t.Error("a full disk took it")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := NewFile(filepath.Join(t.TempDir(), "kept")).send(ctx, newLog(t).grow(1, "x"), 0); err != nil && !strings.Contains(err.Error(), "does not answer") {
		t.Error(err)
	}
}

func mustSend(t *testing.T, path string, tip audit.Tip) {
	t.Helper()
	if err := NewFile(path).send(t.Context(), tip, 0); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func written(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
