package sqlite

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// ErrClosed is the answer of a closed store.
var ErrClosed = errors.New("the store is closed")

// errReplaced: what is committed now would be lost, and another process that
// opens the new file would grant again what was spent here.
var errReplaced = errors.New("the database file was removed or replaced while in use: put it back, then restart every OpenLeash process")

// explain adds to SQLite's errors which file it is and what to do about it.
// What is not SQLite's, a condition that does not hold for instance, passes.
func (s *Store) explain(err error) error {
	var e *sqlite.Error
	if err == nil || !errors.As(err, &e) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if hint := hint(e.Code()&0xff, filepath.Dir(s.path)); hint != "" {
		return fmt.Errorf("%s: %w; %s", s.path, err, hint)
	}
	return fmt.Errorf("%s: %w", s.path, err)
}

func hint(code int, dir string) string {
	switch code {
	case sqlite3.SQLITE_FULL:
		return "free space on the disk of " + dir + ": nothing is allowed until then"
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH:
		return "let this user write to the file and to the folder " + dir
	case sqlite3.SQLITE_CANTOPEN:
		return "see that this user may make and open files in the folder " + dir
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return "another program has it locked: close what has the file open (a database browser, a backup)"
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return "the file is damaged: stop OpenLeash, move it and its -wal and -shm files away, put a backup in its place"
	case sqlite3.SQLITE_IOERR:
		return "the disk of " + dir + " fails or is over quota; see the system's log"
	}
	return ""
}

// ownFault reports whether err, from one job of a group, is about that job
// alone: a condition, or a value that the schema refuses. Everything else that
// SQLite says is about the file, and ends the group.
func ownFault(err error) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return true
	}
	code := e.Code() & 0xff
	return code == sqlite3.SQLITE_CONSTRAINT || code == sqlite3.SQLITE_TOOBIG
}
