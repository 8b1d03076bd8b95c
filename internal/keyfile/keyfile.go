// Package keyfile keeps secrets in files: whole, mode 0600, never replaced, and not
// read when somebody else could read them too.
package keyfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/openleash/openleash-go/internal/durable"
)

const maxSize = 64 << 10

// Create puts text at file, unless there is one by now. After a crash there is either
// no file or a whole one: the name appears only when the bytes are on disk, and a link
// never replaces.
func Create(file string, text []byte) error {
	dir := filepath.Dir(file)
	draft, err := writeDraft(dir, text)
	if err != nil {
		return err
	}
	defer os.Remove(draft)
	if err := os.Link(draft, file); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w; the folder must be on a file system that has hard links", err)
	}
	return durable.Dir(dir)
}

// writeDraft puts text on disk under a name of no meaning, mode 0600.
func writeDraft(dir string, text []byte) (name string, err error) {
	f, err := os.CreateTemp(dir, ".draft-*")
	if err != nil {
		return "", err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(f.Name())
	}
	return f.Name(), err
}

// Read returns what is in a file, up to 64 KiB, and when that was written, if nobody
// else can read it.
func Read(file string) (text []byte, written time.Time, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, written, err
	}
	defer f.Close()
	info, err := f.Stat() // of the open file: its name may come to mean another
	if err != nil {
		return nil, written, err
	}
	if err := private(file, info.Mode()); err != nil {
		return nil, written, err
	}
	text, err = io.ReadAll(io.LimitReader(f, maxSize))
	return text, info.ModTime(), err
}

// private says whether only the file's owner can read it.
func private(file string, mode fs.FileMode) error {
	switch {
	case !mode.IsRegular():
		return fmt.Errorf("it is not a file but %s", mode.Type())
	case runtime.GOOS != "windows" && mode.Perm()&0o077 != 0:
		return fmt.Errorf("other users can read it (mode %04o, want 0600); if nobody did, run: chmod 600 '%s'",
			mode.Perm(), strings.ReplaceAll(file, "'", `'\''`))
	}
	return nil
}
