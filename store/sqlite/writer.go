package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"os"

	"modernc.org/sqlite"

	"github.com/openleash/openleash-go/internal/filelock"
)

// writer makes the transactions of a process: the only part of it that writes
// to the database.
type writer struct {
	*committer
	journal   *journal
	committed func() // called after each transaction

	tx    *tx           // nil: reopen first; this and what follows is owned by who commits
	files []os.FileInfo // what tx writes to
	lost  error         // the files are not ours any more, for good
	// pragmas are set on each connection; tests make failures with them.
	pragmas []string
}

// tx is the connection that writes, with its statements.
type tx struct {
	db    *sql.DB
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
	upto  int64          // the last id of the table entries; of a transaction that has absorbed
	added map[string]int // rows, since it was opened, to tables that forget now and then
}

func newWriter(path string, lock *filelock.Queue) *writer {
	w := &writer{}
	w.committer = newCommitter(path, lock, w.commit)
	return w
}

// commit runs the group in one transaction. An error means that nothing of the
// group may be relied upon: before COMMIT nothing of it is in the file; when
// COMMIT itself fails the state is unknown until SQLite has read the file
// again. So the connection is given up, and the next group opens a new one.
func (w *writer) commit(group []*job) error {
	err := w.ready()
	if err == nil {
		err = w.transact(group)
	}
	if err != nil {
		w.drop()
		return err
	}
	w.committed()
	return nil
}

func (w *writer) transact(group []*job) error {
	if _, err := w.tx.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if err := w.tx.absorb(w.journal, group); err != nil {
		return err
	}
	if len(group) == 1 {
		return w.tx.alone(group[0])
	}
	for _, j := range group {
		if err := w.tx.apply(j); err != nil {
			return err
		}
	}
	return w.tx.do("COMMIT")
}

// alone ends the transaction of one job, which needs no savepoint.
func (t *tx) alone(j *job) error {
	end := "COMMIT"
	if j.err = t.change(j); j.err != nil {
		if !ownFault(j.err) {
			return j.err
		}
		end = "ROLLBACK"
	}
	return t.do(end)
}

// apply runs one job; what it did is undone when it fails. The error is one
// that ends the group; the job's own goes to j.err.
func (t *tx) apply(j *job) error {
	if err := t.do("SAVEPOINT job"); err != nil {
		return err
	}
	if j.err = t.change(j); j.err != nil {
		if !ownFault(j.err) {
			return j.err
		}
		if err := t.do("ROLLBACK TO job"); err != nil {
			return err
		}
	}
	return t.do("RELEASE job")
}

// change does what a job is made of.
func (t *tx) change(j *job) error {
	if j.run != nil {
		if err := j.run(t); err != nil {
			return err
		}
	}
	return t.append(j.entries)
}

// do runs a statement that begins or ends something.
func (t *tx) do(statement string) error {
	_, err := t.exec(statement)
	return err
}

// exec runs a statement, prepared once a connection. It knows no context: an
// interrupted statement would leave the group in doubt.
func (t *tx) exec(query string, args ...any) (changed int64, err error) {
	stmt, err := t.prepare(query)
	if err != nil {
		return 0, err
	}
	result, err := stmt.Exec(args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

func (t *tx) query(query string, args ...any) (*sql.Rows, error) {
	stmt, err := t.prepare(query)
	if err != nil {
		return nil, err
	}
	return stmt.Query(args...)
}

func (t *tx) prepare(query string) (*sql.Stmt, error) {
	if stmt := t.stmts[query]; stmt != nil {
		return stmt, nil
	}
	stmt, err := t.conn.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, err
	}
	t.stmts[query] = stmt
	return stmt, nil
}

// ready sees to a connection that writes to the files that others would open.
func (w *writer) ready() error {
	if w.lost == nil && !w.inPlace() {
		w.lost = fmt.Errorf("%s: %w", w.path, errReplaced)
	}
	if w.lost != nil || w.tx != nil {
		return w.lost
	}
	return w.open(context.Background())
}

// inPlace reports whether the files are still the ones that were opened. While
// there is no connection SQLite may have removed the -wal file itself.
func (w *writer) inPlace() bool {
	now, err := stat(w.path, w.path+"-wal")
	if w.tx == nil {
		info, err := os.Stat(w.path)
		return err == nil && os.SameFile(info, w.files[0])
	}
	return err == nil && os.SameFile(now[0], w.files[0]) && os.SameFile(now[1], w.files[1])
}

// open makes the connection. The caller holds the write lock.
func (w *writer) open(ctx context.Context) error {
	t, err := openTx(ctx, w.path, w.pragmas)
	if err != nil {
		return err
	}
	files, err := stat(w.path, w.path+"-wal")
	if err != nil {
		t.close()
		return err
	}
	w.tx, w.files = t, files
	return nil
}

func openTx(ctx context.Context, path string, pragmas []string) (*tx, error) {
	db, err := openDB(path, append([]string{"synchronous(FULL)", "temp_store(MEMORY)", "fullfsync(1)", "checkpoint_fullfsync(1)", "foreign_keys(1)"}, pragmas...))
	if err != nil {
		return nil, err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		db.Close()
		return nil, err
	}
	t := &tx{db: db, conn: conn, stmts: map[string]*sql.Stmt{}, added: map[string]int{}}
	if err := t.begin(ctx, path); err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

// begin makes the file what it must be: a write-ahead log that stays (SQLite
// would remove it at close, and a file that is there is cheaper to sync than one
// that grows), the newest schema.
func (t *tx) begin(ctx context.Context, path string) error {
	if err := t.conn.Raw(persistLog); err != nil {
		return err
	}
	var mode string
	if err := t.conn.QueryRowContext(ctx, "PRAGMA journal_mode = WAL").Scan(&mode); err != nil {
		return err
	}
	if mode != "wal" {
		return fmt.Errorf("%s: SQLite cannot keep a write-ahead log there (journal mode %s, want wal); use a folder on a local disk", path, mode)
	}
	return migrate(ctx, t.conn, path)
}

func persistLog(conn any) error {
	_, err := conn.(sqlite.FileControl).FileControlPersistWAL("main", 1)
	return err
}

// close closes the statements too: database/sql forgets those of a sql.Conn, and
// SQLite keeps a connection open, with its locks, as long as it has any.
func (t *tx) close() {
	for _, stmt := range t.stmts {
		stmt.Close()
	}
	t.conn.Close()
	t.db.Close()
}

// drop gives the connection up; SQLite rolls back what was not committed. Not
// so when the files are lost: closing the last connection removes "the" -wal
// file by its name, which is another database's now.
func (w *writer) drop() {
	if w.tx != nil && w.lost == nil {
		w.tx.close()
		w.tx = nil
	}
}

// stat looks at files.
func stat(paths ...string) (files []os.FileInfo, err error) {
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		files = append(files, info)
	}
	return files, nil
}
