// Package home is the layout of OPENLEASH_HOME, the folder of one installation:
//
//	config.yaml            what runs, and where (Config)
//	policies/              policy files, for people and version control (Policies)
//	keys/                  private signing keys, one file a key (Keys)
//	logins/                tokens of servers that want a login, one file a server (Logins)
//	data/                  the store (Data)
//	data/audit.log.jsonl   the log (AuditLog)
//	start.lock             held during first start (Lock)
//
// All folders are for their user alone (0700). One that others can enter is
// refused, not repaired: who could read it may have read the keys. Windows has
// no such modes; there a user's profile folder is private by inheritance.
package home

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/openleash/openleash-go/internal/filelock"
)

// Home is one installation's folder.
type Home struct {
	Dir string // absolute
}

// Locate finds the folder: env (the value of $OPENLEASH_HOME), or ~/.openleash
// when that is empty. "~/" is understood, as hosts pass it on unexpanded.
func Locate(env string) (string, error) {
	if env == "" {
		return inUserHome(".openleash")
	}
	if rest, ok := strings.CutPrefix(filepath.ToSlash(env), "~/"); ok {
		return inUserHome(rest)
	}
	dir, err := filepath.Abs(env)
	if err != nil {
		return "", fmt.Errorf("locating OPENLEASH_HOME %q: %w", env, err)
	}
	return dir, nil
}

func inUserHome(rest string) (string, error) {
	user, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("locating OPENLEASH_HOME: %w; set OPENLEASH_HOME to an absolute path", err)
	}
	return filepath.Abs(filepath.Join(user, rest))
}

// Config is the program's configuration.
func (h Home) Config() string { return filepath.Join(h.Dir, "config.yaml") }

// Policies is the folder of the policy files.
func (h Home) Policies() string { return filepath.Join(h.Dir, "policies") }

// Keys is the folder of the private keys.
func (h Home) Keys() string { return filepath.Join(h.Dir, "keys") }

// Logins is the folder of the tokens that servers over HTTP were signed in to for.
func (h Home) Logins() string { return filepath.Join(h.Dir, "logins") }

// Data is the store's folder.
func (h Home) Data() string { return filepath.Join(h.Dir, "data") }

// Running is where the processes that govern leave word of themselves.
func (h Home) Running() string { return filepath.Join(h.Data(), "running") }

// Witnesses is where is noted what the log's witnesses were sent.
func (h Home) Witnesses() string { return filepath.Join(h.Data(), "witnesses") }

// AuditLog is the log file.
func (h Home) AuditLog() string { return filepath.Join(h.Data(), "audit.log.jsonl") }

// Lock is the file that is locked during first start.
func (h Home) Lock() string { return filepath.Join(h.Dir, "start.lock") }

// Create makes what folders are missing and checks those that are there.
func (h Home) Create() error {
	var errs []error
	for _, dir := range []string{h.Dir, h.Policies(), h.Keys(), h.Logins(), h.Data()} {
		errs = append(errs, private(dir))
	}
	return errors.Join(errs...)
}

// private makes dir, or checks that nobody else can enter it.
func private(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making OPENLEASH_HOME: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("making OPENLEASH_HOME: %w", err)
	}
	if runtime.GOOS == "windows" || info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	return fmt.Errorf("%s can be read or entered by other users (mode %04o, want 0700); run: chmod 700 %s",
		dir, info.Mode().Perm(), quote(dir))
}

// quote makes a path that a shell reads as one word.
func quote(path string) string {
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}

// FirstStart makes the folders and runs fn while no other process does: two
// first starts at once become one after the other. fn makes what is missing.
func (h Home) FirstStart(ctx context.Context, fn func() error) error {
	if err := h.Create(); err != nil {
		return err
	}
	unlock, err := filelock.LockContext(ctx, h.Lock())
	if err != nil {
		return fmt.Errorf("starting: %w", err)
	}
	defer unlock()
	return fn()
}
