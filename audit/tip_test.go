package audit

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

// The tree leads from every earlier size to the last, and not from another past.
func TestTipLeadsFromEverySize(t *testing.T) {
	m, path := newLog(t, 21)
	if err := once(t, m, path); err != nil {
		t.Fatal(err)
	}
	tip, err := ReadTip(path, testKey.Public())
	if err != nil || tip.Size != 21 {
		t.Fatalf("%+v, %v", tip.Checkpoint, err)
	}
	for size := range 22 {
		proof, old, err := tip.Since(uint64(size))
		if err != nil || old != rootOf(m.lines[:size]) || (size == 0 || size == 21) != (len(proof) == 0) {
			t.Fatalf("since %d: %v, %v", size, proof, err)
		}
		if size > 0 && size < 21 {
			if err := tlog.CheckTree(proof, 21, tip.Root, int64(size), old); err != nil {
				t.Errorf("since %d: %v", size, err)
			}
		}
		if err := tip.Extends(at(m.lines, size)); err != nil {
			t.Error(err)
		}
	}
	if err := tip.Extends(at(anew(t, m.lines, 4), 5)); err == nil || !strings.Contains(err.Error(), "otherwise than they are now") {
		t.Error(err)
	}
	if _, _, err := tip.Since(22); err == nil || !strings.Contains(err.Error(), "was an older log put back?") {
		t.Error(err)
	}
}

// A tree that is damaged proves nothing, and says so.
func TestTipOfADamagedTree(t *testing.T) {
	m, path := newLog(t, 21)
	if err := once(t, m, path); err != nil {
		t.Fatal(err)
	}
	tip, err := ReadTip(path, testKey.Public())
	if err != nil {
		t.Fatal(err)
	}
	for what, spoil := range map[string]func() error{
		"zeros": func() error { return os.WriteFile(TreeFile(path), make([]byte, 5000), 0o600) },
		"cut":   func() error { return os.Truncate(TreeFile(path), 40) },
		"gone":  func() error { return os.Remove(TreeFile(path)) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		for _, size := range []uint64{7, 21} {
			if _, _, err := tip.Since(size); err == nil {
				t.Errorf("%s: it leads from %d", what, size)
			}
		}
	}
}
