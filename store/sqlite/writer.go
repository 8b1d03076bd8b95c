package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"modernc.org/sqlite"

	"github.com/openleash/openleash-go/internal/filelock"
)

const (
	maxGroup = 256 // jobs in one transaction; bounds what one waits for
	// closeWait bounds Close when another process keeps the write lock.
	closeWait = 5 * time.Second
)

// A job is one change of the store: all of it or nothing.
type job struct {
	run   func(*tx) error // called by the writer inside a savepoint
	state atomic.Int32    // queued, then taken or withdrawn
	done  chan error      // buffered; written once, when the outcome is certain
	err   error           // run's answer; owned by the writer
}

const (
	queued int32 = iota
	taken
	withdrawn
)

// take claims the job for the writer; false: its caller has left.
func (j *job) take() bool { return j.state.CompareAndSwap(queued, taken) }

// withdraw is take for the caller; false: the writer has it, await done.
func (j *job) withdraw() bool { return j.state.CompareAndSwap(queued, withdrawn) }

// writer is the only part of a process that writes to the file. It commits
// whatever has gathered as one transaction: one fsync for many jobs.
type writer struct {
	path string
	lock *filelock.Queue // one process at a time; owned by run
	jobs chan *job

	once     sync.Once     // closes closing
	closing  chan struct{} // closed by close: no more jobs
	finished chan struct{} // closed by run: nothing will be answered any more

	mu    sync.Mutex    // held by who commits: run, or a caller who found nobody there
	ended bool          // run has given up the connection, for good
	tx    *tx           // nil: reopen first
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
}

func newWriter(path string, lock *filelock.Queue) *writer {
	return &writer{
		path:     path,
		lock:     lock,
		jobs:     make(chan *job, maxGroup),
		closing:  make(chan struct{}),
		finished: make(chan struct{}),
	}
}

// do has run called inside the next transaction and returns when its outcome
// is certain: nil means durable. When ctx ends earlier, a job that was not yet
// taken is withdrawn; one that was is waited for.
func (w *writer) do(ctx context.Context, run func(*tx) error) error {
	if err := w.refuses(ctx); err != nil {
		return err
	}
	j := &job{run: run, done: make(chan error, 1)}
	if w.atOnce(j) {
		return <-j.done
	}
	select {
	case w.jobs <- j:
	case <-w.closing:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-j.done:
		return err
	case <-ctx.Done():
		if j.withdraw() {
			return ctx.Err()
		}
	case <-w.finished:
		if j.withdraw() {
			return ErrClosed
		}
	}
	return <-j.done
}

// atOnce commits in the caller's goroutine when nobody else commits, here or in
// another process: a call that is alone need not wait for two wake-ups.
func (w *writer) atOnce(j *job) bool {
	if !w.mu.TryLock() {
		return false
	}
	defer w.mu.Unlock()
	if w.ended {
		return false
	}
	if ok, err := w.lock.TryLock(); err != nil || !ok {
		return false
	}
	w.locked(j, nil)
	return true
}

// refuses looks before do's first select, which would choose at random.
func (w *writer) refuses(ctx context.Context) error {
	select {
	case <-w.closing:
		return ErrClosed
	default:
		return ctx.Err()
	}
}

// run is the writer's goroutine.
func (w *writer) run() {
	defer close(w.finished)
	for {
		select {
		case j := <-w.jobs:
			w.group(j)
		case <-w.closing:
			w.drain()
			return
		}
	}
}

// drain commits what was queued before closing.
func (w *writer) drain() {
	for {
		select {
		case j := <-w.jobs:
			w.group(j)
		default:
			w.mu.Lock()
			defer w.mu.Unlock()
			w.drop()
			w.lock.Close()
			w.ended = true
			return
		}
	}
}

// group commits first and what else has gathered by the time it is our turn.
// Nobody is answered before the transaction has ended: what one job saw, or was
// refused for, may be the work of another one of its group.
func (w *writer) group(first *job) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.locked(first, w.lock.Lock())
}

// locked is group once the lock is ours, or cannot be had.
func (w *writer) locked(first *job, err error) {
	group := w.gather(first)
	if err == nil {
		if len(group) > 0 {
			err = w.commit(group)
		}
		w.lock.Unlock()
	}
	for _, j := range group {
		if err != nil {
			j.err = err
		}
		j.done <- j.err
	}
}

// gather takes what is there; it does not wait for more.
func (w *writer) gather(first *job) (group []*job) {
	for j := first; ; {
		if j.take() {
			group = append(group, j)
		}
		if len(group) == maxGroup {
			return group
		}
		select {
		case j = <-w.jobs:
		default:
			return group
		}
	}
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
	}
	return err
}

func (w *writer) transact(group []*job) error {
	if _, err := w.tx.exec("BEGIN IMMEDIATE"); err != nil {
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
	_, err := w.tx.exec("COMMIT")
	return err
}

// alone ends the transaction of one job, which needs no savepoint.
func (t *tx) alone(j *job) error {
	end := "COMMIT"
	if j.err = j.run(t); j.err != nil {
		if !ownFault(j.err) {
			return j.err
		}
		end = "ROLLBACK"
	}
	_, err := t.exec(end)
	return err
}

// apply runs one job; what it did is undone when it fails. The error is one
// that ends the group; the job's own goes to j.err.
func (t *tx) apply(j *job) error {
	if _, err := t.exec("SAVEPOINT job"); err != nil {
		return err
	}
	if j.err = j.run(t); j.err != nil {
		if !ownFault(j.err) {
			return j.err
		}
		if _, err := t.exec("ROLLBACK TO job"); err != nil {
			return err
		}
	}
	_, err := t.exec("RELEASE job")
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
	now, err := stat(w.path)
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
	files, err := stat(w.path)
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
	t := &tx{db: db, conn: conn, stmts: map[string]*sql.Stmt{}}
	if err := t.begin(ctx, path); err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

// begin makes the file what it must be: a write-ahead log that stays, the newest
// schema. (SQLite would remove the log at close. Writing into a file that is
// there costs a third of making it grow, at each fsync of the first thousand.)
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
	if err := migrate(ctx, t.conn, path); err != nil {
		return err
	}
	lengthenLog(path + "-wal")
	return nil
}

// logBytes is what the write-ahead log grows to before it is written from the
// start again: 1000 pages, and those of the transaction that goes over it.
const logBytes = 9 << 19 // 4.5 MiB

// lengthenLog gives the log its length at once: into zeros, which SQLite takes
// for its end, an fsync costs a third. The caller holds the write lock, so nobody
// writes there now. It is for speed alone: where there is no room, the log
// grows as it is used, and says so if it cannot.
func lengthenLog(path string) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil || size >= logBytes {
		return
	}
	if _, err := f.Write(make([]byte, logBytes-size)); err != nil {
		f.Truncate(size)
		return
	}
	f.Sync()
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

// stat looks at the file and its log.
func stat(path string) (files []os.FileInfo, err error) {
	for _, name := range []string{path, path + "-wal"} {
		info, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		files = append(files, info)
	}
	return files, nil
}

// close lets the writer finish what is queued.
func (w *writer) close() error {
	w.once.Do(func() { close(w.closing) })
	select {
	case <-w.finished:
		return nil
	case <-time.After(closeWait):
		return fmt.Errorf("closing %s: another process keeps the write lock", w.path)
	}
}
