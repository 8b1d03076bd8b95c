package audit

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

// rootOf is the slow way, and RFC 6962's own words: the tree of n leaves is that of the
// first 2^k < n of them beside that of the rest.
func rootOf(lines []Sequenced) [32]byte {
	switch n := len(lines); n {
	case 0:
		root, _ := tlog.TreeHash(0, nil)
		return root
	case 1:
		return tlog.RecordHash(lines[0].Line)
	default:
		k := 1
		for 2*k < n {
			k *= 2
		}
		return tlog.NodeHash(rootOf(lines[:k]), rootOf(lines[k:]))
	}
}

// marked fails the test unless the last checkpoint is of all of the store's lines, and
// the tree leads from each of them to it.
func marked(t *testing.T, m *memory, path string) {
	t.Helper()
	c := checkpointOf(t, path)
	if want := (Checkpoint{testKey.Origin(), uint64(len(m.lines)), rootOf(m.lines)}); c != want {
		t.Fatalf("the checkpoint is %+v, want %+v", c, want)
	}
	for _, l := range m.lines {
		text, err := Prove(path, l, testKey.Public())
		if err != nil {
			t.Fatal(err)
		}
		if r, err := OpenReceipt(text, testKey.Public()); err != nil || r.Seq != l.Seq || string(r.Line) != string(l.Line) || r.Checkpoint != c {
			t.Fatalf("the receipt of line %d: %+v, %v", l.Seq, r, err)
		}
	}
}

func checkpointOf(t *testing.T, path string) Checkpoint {
	t.Helper()
	signed, err := os.ReadFile(CheckpointFile(path))
	if err != nil {
		t.Fatal(err)
	}
	c, err := OpenCheckpoint(signed, testKey.Public())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The tree follows from the lines: whatever became of it, it is made again.
func TestTreeIsMadeAgain(t *testing.T) {
	for what, spoil := range map[string]func(tree, checkpoint string) error{
		"gone":                      func(tree, _ string) error { return os.Remove(tree) },
		"cut":                       func(tree, _ string) error { return os.Truncate(tree, 40) },
		"full of zeros":             func(tree, _ string) error { return os.WriteFile(tree, make([]byte, 5000), 0o600) },
		"without a checkpoint":      func(_, checkpoint string) error { return os.Remove(checkpoint) },
		"with a checkpoint of none": func(_, checkpoint string) error { return os.WriteFile(checkpoint, nil, 0o600) },
		"with zeros for a checkpoint": func(_, checkpoint string) error {
			return os.WriteFile(checkpoint, make([]byte, 100), 0o600)
		},
	} {
		t.Run(what, func(t *testing.T) {
			m, path := newLog(t, 37)
			if err := once(t, m, path); err != nil {
				t.Fatal(err)
			}
			if err := spoil(TreeFile(path), CheckpointFile(path)); err != nil {
				t.Fatal(err)
			}
			m.commit(entry(t, 38))
			if err := once(t, m, path); err != nil {
				t.Fatal(err)
			}
			whole(t, m, path, 38)
		})
	}
}

// A log that had no tree yet gets one in several passes, if it is long.
func TestTreeOfALongLog(t *testing.T) {
	m, path := newLog(t, 0)
	m.lines = chain(t, markAtMost+1000)
	s := NewSequencer(m, path, testKey, Keeping{})
	err := s.sit(t.Context(), func(ctx context.Context) error {
		err := s.pass(ctx)
		if _, missing := os.Stat(CheckpointFile(path)); missing == nil {
			t.Error("one pass did it: this test shows nothing")
		}
		return errors.Join(err, s.pass(ctx))
	})
	if err != nil {
		t.Fatal(err)
	}
	if c := checkpointOf(t, path); c.Size != uint64(len(m.lines)) || c.Root != rootOf(m.lines) {
		t.Errorf("%+v", c)
	}
}

// What a checkpoint says cannot be unsaid: nothing is allowed over a log that
// contradicts it.
func TestLogAgainstItsCheckpoint(t *testing.T) {
	for what, c := range map[string]struct {
		change func(t *testing.T, m *memory, path string)
		want   string
	}{
		"store and file written anew": {func(t *testing.T, m *memory, path string) {
			m.lines = chain(t, 6)
			os.Remove(path)
		}, "its first 5 lines are not those of its checkpoint"},
		"an older store and file": {func(t *testing.T, m *memory, path string) {
			m.lines = m.lines[:3]
			os.Remove(path)
		}, "knows 5 lines, and the store has 3"},
		"another log's checkpoint": {func(t *testing.T, m *memory, path string) {
			signed, err := newTestKey("openleash/other").Sign(5, rootOf(m.lines))
			if err == nil {
				err = os.WriteFile(CheckpointFile(path), signed, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}, "it is not signed with the key openleash/test+"},
		"a checkpoint that was edited": {func(t *testing.T, m *memory, path string) {
			signed, err := os.ReadFile(CheckpointFile(path))
			if err == nil {
				err = os.WriteFile(CheckpointFile(path), []byte(strings.Replace(string(signed), "\n5\n", "\n4\n", 1)), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}, "it is not a signed checkpoint of openleash/test: invalid signature"},
	} {
		t.Run(what, func(t *testing.T) {
			m, path := newLog(t, 0)
			for i := range 5 {
				m.commit(entry(t, 100+i))
			}
			if err := once(t, m, path); err != nil {
				t.Fatal(err)
			}
			c.change(t, m, path)
			before, err := os.ReadFile(CheckpointFile(path))
			if err != nil {
				t.Fatal(err)
			}
			s := NewSequencer(m, path, testKey, Keeping{})
			passes(t, s, m, 2)
			if err := s.Err(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Err() = %v, want %q", err, c.want)
			}
			if after, err := os.ReadFile(CheckpointFile(path)); err != nil || string(after) != string(before) {
				t.Errorf("it was signed anew: %s, %v", after, err)
			}
		})
	}
}

func TestFilesBesideTheLog(t *testing.T) {
	m, path := newLog(t, 2)
	if err := once(t, m, path); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{TreeFile(path), CheckpointFile(path)} {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if runtime.GOOS != "windows" && info.Mode() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", filepath.Base(file), info.Mode())
		}
	}
}
