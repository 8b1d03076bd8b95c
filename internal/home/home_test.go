package home

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openleash/openleash-go/internal/filelock"
)

func TestLocate(t *testing.T) {
	user, work := t.TempDir(), t.TempDir()
	t.Setenv("HOME", user)
	t.Setenv("USERPROFILE", user)
	t.Chdir(work)
	here, err := os.Getwd() // work, without symbolic links
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := filepath.Join(work, "elsewhere")
	for env, want := range map[string]string{
		"":                                     filepath.Join(user, ".openleash"),
		"~/leash":                              filepath.Join(user, "leash"),
		"leash":                                filepath.Join(here, "leash"),
		elsewhere:                              elsewhere,
		elsewhere + string(filepath.Separator): elsewhere,
	} {
		if got, err := Locate(env); got != want || err != nil {
			t.Errorf("%q: want %s, got %s, %v", env, want, got, err)
		}
	}
}

func TestCreate(t *testing.T) {
	h := Home{filepath.Join(t.TempDir(), "deep", "leash")}
	for range 2 {
		if err := h.Create(); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{h.Dir, h.Policies(), h.Keys(), h.Data()} {
		info, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(dir, h.Dir) || !info.IsDir() {
			t.Errorf("%s is not a folder of the home", dir)
		}
		if runtime.GOOS != "windows" && info.Mode().Perm() != 0o700 {
			t.Errorf("%s: want mode 0700, got %04o", dir, info.Mode().Perm())
		}
	}
}

func TestCreateRefusesOpenFolders(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // has no modes
	}
	h := Home{filepath.Join(t.TempDir(), "it's mine")}
	if err := h.Create(); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{h.Dir, h.Policies(), h.Keys(), h.Data()} {
		for _, mode := range []os.FileMode{0o750, 0o701, 0o704} {
			if err := os.Chmod(dir, mode); err != nil {
				t.Fatal(err)
			}
			err := h.Create()
			if err == nil || !strings.Contains(err.Error(), "chmod 700 "+quote(dir)) {
				t.Errorf("%s with mode %04o: want an error with the command, got %v", dir, mode, err)
			}
		}
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if want := `'it'\''s mine'`; quote("it's mine") != want {
		t.Errorf("want %s, got %s", want, quote("it's mine"))
	}
}

func TestCreateErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := Home{filepath.Join(file, "leash")}.Create()
	if err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("want an error that names %s, got %v", file, err)
	}
}

// First starts at once run one after the other.
func TestFirstStart(t *testing.T) {
	h := Home{filepath.Join(t.TempDir(), "leash")}
	var inside, runs atomic.Int32
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			err := h.FirstStart(t.Context(), func() error {
				if inside.Add(1) != 1 {
					t.Error("two at once")
				}
				time.Sleep(5 * time.Millisecond)
				inside.Add(-1)
				runs.Add(1)
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if runs.Load() != 5 {
		t.Errorf("want 5 runs, got %d", runs.Load())
	}
	fault := errors.New("no keys")
	for range 2 { // the lock is free again after a failure
		if err := h.FirstStart(t.Context(), func() error { return fault }); !errors.Is(err, fault) {
			t.Errorf("want %v, got %v", fault, err)
		}
	}
}

func TestFirstStartGivesUp(t *testing.T) {
	h := Home{t.TempDir() + "/leash"}
	if err := h.Create(); err != nil {
		t.Fatal(err)
	}
	unlock, err := filelock.Lock(h.Lock())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	err = h.FirstStart(ctx, func() error { t.Error("ran without the lock"); return nil })
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), h.Lock()) {
		t.Errorf("want an error that names %s, got %v", h.Lock(), err)
	}
}
