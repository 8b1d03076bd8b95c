// Package sqlite is the embedded store: one file, openleash.db, in a folder of
// its own, shared by all OpenLeash processes of an installation.
//
// # What is promised
//
// A commit is whole or not at all, and when it has returned nil it is on disk:
// it survives the death of the process and of the machine. Its conditions are
// checked inside the transaction that makes the change, so they hold between
// goroutines and between processes. When it returns an error other than a
// condition's, nothing may be allowed.
//
// # How
//
// What a commit adds to the log, and to nothing else, is appended to the journal
// (journal.go): one write and one sync, whatever the database is doing. Every
// other change is a transaction of the database, in a process's one writer
// (writer.go). Both wait for their turn between the processes (a file lock that
// is fair, which SQLite's own is not) and commit whatever has gathered by then
// together (committer.go); only then they answer. In a transaction each change
// has a savepoint: one whose condition fails is undone alone; an error of the
// file fails the group. Reads use connections of their own, which never write
// and see what was committed.
//
// The entries of the log have one order, that of their commits. They move from
// the journal to the database when they get their places, or before a
// transaction that has entries of its own. With their places they are indexed
// (index.go), so that Search finds them again however many there are.
//
// # Files
//
//	openleash.db, -wal, -shm   the database (write-ahead log, synchronous=FULL)
//	openleash.journal          entries that the database does not have yet
//	write.lock, .gate          the turn to write to the database
//	openleash.journal.lock, …  the turn to append to the journal
//	sequencer.lock             the seat of the log's sequencer
//	agents.changes             a byte for each change of an agent's token
//
// The folder is made 0700, the files 0600. The schema is in schema.go; a newer
// program brings an older file up to date when it opens it, an older program
// refuses a newer file.
package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"modernc.org/sqlite"

	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/internal/filelock"
	"github.com/openleash/openleash-go/owners"
	"github.com/openleash/openleash-go/policy"
)

var (
	_ authz.Store           = (*Store)(nil)
	_ approvals.Reader      = (*Store)(nil)
	_ approvals.GrantReader = (*Store)(nil)
	_ audit.Store           = (*Store)(nil)
	_ identity.Store        = (*Store)(nil)
	_ owners.Store          = (*Store)(nil)
	_ policy.Snapshots      = (*Store)(nil)
)

// Store is one process's access to the file.
type Store struct {
	path    string
	writer  *writer
	reader  *reader
	journal *journal
	seen    atomic.Pointer[seen] // of the journal, by Unsequenced
	tokens  *tokens
	watch   *watch
	indexer *indexer
}

// Open opens the store in dir, making folder, file and schema at first use.
// Any number of processes may do so at once.
func Open(ctx context.Context, dir string) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("opening store: %w", err)
	}
	s := &Store{path: filepath.Join(dir, "openleash.db"), tokens: newTokens(dir)}
	if err := s.open(ctx, dir); err != nil {
		return nil, fmt.Errorf("opening store: %w", s.explain(err))
	}
	return s, nil
}

func (s *Store) open(ctx context.Context, dir string) error {
	if err := create(dir, s.path); err != nil {
		return err
	}
	lock, err := filelock.OpenQueue(filepath.Join(dir, "write.lock"))
	if err != nil {
		return err
	}
	if err := lock.LockContext(ctx); err != nil {
		return err
	}
	s.writer = newWriter(s.path, lock)
	err = s.writer.open(ctx)
	lock.Unlock()
	if err != nil {
		lock.Close()
		return err
	}
	if err := s.openRest(dir); err != nil {
		s.writer.drop()
		lock.Close()
		return err
	}
	s.writer.journal = s.journal
	s.watch = newWatch(s.signals)
	s.writer.committed = s.watch.soon
	go s.writer.run()
	go s.journal.run()
	s.indexer = startIndexer(s.indexRest)
	return nil
}

func (s *Store) openRest(dir string) (err error) {
	if s.reader, err = openReader(s.path); err != nil {
		return err
	}
	s.journal, err = openJournal(filepath.Join(dir, "openleash.journal"), s.path, s.moved)
	if err != nil {
		s.reader.close()
	}
	return err
}

// moved is how far entries have left the journal.
func (s *Store) moved() (int64, error) {
	return one(context.Background(), s, errNone, readID, selectUpto)
}

// create makes the folder and the file before SQLite would, for their modes.
func create(dir, path string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// Close finishes what is queued and closes the files. The connection that
// writes is the last: it brings the write-ahead log home.
func (s *Store) Close() error {
	s.indexer.stop()
	err := s.writer.close()
	ended := err == nil
	for _, closing := range []func() error{s.journal.shut, s.reader.close} {
		if e := closing(); e != nil && err == nil {
			err = e
		}
	}
	if ended {
		s.writer.drop()
	}
	return err
}

// write makes one change in the writer's next transaction.
func (s *Store) write(ctx context.Context, run func(*tx) error) error {
	return s.explain(s.writer.do(ctx, &job{run: run}))
}

// openDB prepares a pool of connections with these pragmas.
func openDB(path string, pragmas []string) (*sql.DB, error) {
	name := filepath.ToSlash(path)
	if !strings.HasPrefix(name, "/") {
		name = "/" + name // C:/… on Windows
	}
	dsn := url.URL{
		Scheme:   "file",
		Path:     name,
		RawQuery: url.Values{"_busy_timeout": {"5000"}, "_pragma": pragmas}.Encode(),
	}
	connector, err := sqlite.NewConnector(dsn.String())
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}
