//go:build unix

package oauth

import (
	"io/fs"
	"path/filepath"
	"testing"
)

func TestFilesArePrivate(t *testing.T) {
	_, s, f := start(t)
	signIn(t, f, s)
	err := filepath.WalkDir(string(f), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
