package sqlite

import (
	"context"
	"database/sql"
	"sync"
)

// readers is how many connections read at once.
const readers = 4

// reader reads what was committed. It cannot write.
type reader struct {
	db *sql.DB

	mu    sync.Mutex
	stmts map[string]*sql.Stmt // guarded by mu
}

func openReader(path string) (*reader, error) {
	db, err := openDB(path, []string{"query_only(1)", "cache_size(-512)"})
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(readers)
	db.SetMaxIdleConns(readers)
	return &reader{db: db, stmts: map[string]*sql.Stmt{}}, nil
}

func (r *reader) prepare(ctx context.Context, query string) (*sql.Stmt, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if stmt := r.stmts[query]; stmt != nil {
		return stmt, nil
	}
	stmt, err := r.db.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	r.stmts[query] = stmt
	return stmt, nil
}

func (r *reader) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	stmt, err := r.prepare(ctx, query)
	if err != nil {
		return nil, err
	}
	return stmt.QueryContext(ctx, args...)
}

func (r *reader) close() error {
	return r.db.Close()
}

// scan reads one row: (*sql.Rows).Scan.
type scan func(dest ...any) error

// list reads all rows of a query.
func list[T any](ctx context.Context, s *Store, read func(scan) (T, error), query string, args ...any) ([]T, error) {
	rows, err := s.reader.query(ctx, query, args...)
	if err != nil {
		return nil, s.explain(err)
	}
	out, err := collect(rows, read)
	return out, s.explain(err)
}

// listWhile reads rows up to the first after which more says no.
func listWhile[T any](ctx context.Context, s *Store, more func(T) bool, read func(scan) (T, error), query string, args ...any) (out []T, err error) {
	rows, err := s.reader.query(ctx, query, args...)
	if err != nil {
		return nil, s.explain(err)
	}
	defer rows.Close()
	for rows.Next() {
		v, err := read(rows.Scan)
		if err != nil {
			return nil, s.explain(err)
		}
		if out = append(out, v); !more(v) {
			return out, nil
		}
	}
	return out, s.explain(rows.Err())
}

// one reads the first row of a query, or answers with none.
func one[T any](ctx context.Context, s *Store, none error, read func(scan) (T, error), query string, args ...any) (T, error) {
	rows, err := s.reader.query(ctx, query, args...)
	if err != nil {
		return *new(T), s.explain(err)
	}
	out, err := first(rows, none, read)
	return out, s.explain(err)
}

// A querier reads in a transaction: the writer's, which sees what it did so far, or
// one of a reader, which sees what was committed when it began.
type querier interface {
	query(query string, args ...any) (*sql.Rows, error)
}

// A snapshot is the transaction of a reader. Its statements are its own: to prepare one
// for all readers takes a second connection, and those who have one each would wait for
// another.
type snapshot struct {
	ctx   context.Context
	tx    *sql.Tx
	stmts map[string]*sql.Stmt
}

func (s *snapshot) query(query string, args ...any) (*sql.Rows, error) {
	stmt := s.stmts[query]
	if stmt == nil {
		var err error
		if stmt, err = s.tx.PrepareContext(s.ctx, query); err != nil {
			return nil, err
		}
		s.stmts[query] = stmt
	}
	return stmt.QueryContext(s.ctx, args...)
}

// atOnce reads several things as of one moment, without the writer's lock.
func (s *Store) atOnce(ctx context.Context, read func(querier) error) error {
	tx, err := s.reader.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return s.explain(err)
	}
	defer tx.Rollback() // it has changed nothing
	return s.explain(read(&snapshot{ctx, tx, map[string]*sql.Stmt{}}))
}

// inTx reads the first row of a query, or answers with none.
func inTx[T any](q querier, none error, read func(scan) (T, error), query string, args ...any) (T, error) {
	rows, err := q.query(query, args...)
	if err != nil {
		return *new(T), err
	}
	return first(rows, none, read)
}

func collect[T any](rows *sql.Rows, read func(scan) (T, error)) (out []T, err error) {
	defer rows.Close()
	for rows.Next() {
		v, err := read(rows.Scan)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

func first[T any](rows *sql.Rows, none error, read func(scan) (T, error)) (T, error) {
	defer rows.Close()
	if rows.Next() {
		return read(rows.Scan)
	}
	if err := rows.Err(); err != nil {
		return *new(T), err
	}
	return *new(T), none
}
