package sqlite

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/internal/filelock"
)

// errMoved is SetSequenced's condition: somebody else has the seat.
var errMoved = errors.New("the log has moved on: another process sequences it; take the lock and read the head again")

const selectLines = "SELECT seq, hash, line FROM lines"

func readLine(scan scan) (audit.Sequenced, error) {
	var line audit.Sequenced
	var seq int64
	var hash []byte
	err := scan(&seq, &hash, &line.Line)
	line.Seq = uint64(seq)
	copy(line.Hash[:], hash)
	return line, err
}

// Head returns the last place given.
func (s *Store) Head(ctx context.Context) (seq uint64, hash [32]byte, err error) {
	head, err := one(ctx, s, errNone, readLine, selectLines+" ORDER BY seq DESC LIMIT 1")
	if errors.Is(err, errNone) {
		return 0, hash, nil
	}
	return head.Seq, head.Hash, err
}

// errNone is for queries that may find nothing.
var errNone = errors.New("nothing there")

type entry struct {
	id   int64
	body []byte
}

func readEntry(scan scan) (e entry, err error) {
	err = scan(&e.id, &e.body)
	return e, err
}

// Unsequenced returns the first entries that wait for their place.
func (s *Store) Unsequenced(ctx context.Context, limit int) (ids []int64, entries [][]byte, err error) {
	waiting, err := list(ctx, s, readEntry, "SELECT id, body FROM entries ORDER BY id LIMIT ?", limit)
	for _, e := range waiting {
		ids, entries = append(ids, e.id), append(entries, e.body)
	}
	return ids, entries, err
}

// SetSequenced moves the first entries of the queue to their places. They must
// be exactly the first ones, in order, and the places the next ones.
func (s *Store) SetSequenced(ctx context.Context, ids []int64, lines []audit.Sequenced) error {
	if len(ids) != len(lines) {
		return fmt.Errorf("sequencing: %d entries for %d lines", len(ids), len(lines))
	}
	if len(ids) == 0 {
		return nil
	}
	err := s.write(ctx, func(t *tx) error { return t.place(ids, lines) })
	if err != nil {
		return fmt.Errorf("sequencing: %w", err)
	}
	return nil
}

// place moves entries, if they are the first that wait and the lines the next
// places. Ids rise in the order of commits, so as many entries as were read,
// from the first id to the last, are the ones that were read.
func (t *tx) place(ids []int64, lines []audit.Sequenced) error {
	n, err := t.exec(`DELETE FROM entries WHERE id BETWEEN ?1 AND ?2 AND ?1 = (SELECT min(id) FROM entries)
		AND ?3 = (SELECT coalesce(max(seq), 0) + 1 FROM lines)`, ids[0], ids[len(ids)-1], int64(lines[0].Seq))
	if err != nil {
		return err
	}
	if n != int64(len(ids)) {
		return errMoved
	}
	for i, line := range lines {
		if line.Seq != lines[0].Seq+uint64(i) {
			return errMoved
		}
		if _, err := t.exec("INSERT INTO lines (seq, hash, line) VALUES (?, ?, ?)", int64(line.Seq), line.Hash[:], line.Line); err != nil {
			return err
		}
	}
	return nil
}

// Lines returns lines by place.
func (s *Store) Lines(ctx context.Context, from uint64, limit int) ([]audit.Sequenced, error) {
	return list(ctx, s, readLine, selectLines+" WHERE seq >= ? ORDER BY seq LIMIT ?", int64(from), limit)
}

// LockSequencer takes the sequencer's seat if it is free.
func (s *Store) LockSequencer(ctx context.Context) (release func(), ok bool, err error) {
	unlock, ok, err := filelock.TryLock(filepath.Join(filepath.Dir(s.path), "sequencer.lock"))
	if err != nil || !ok {
		return nil, false, err
	}
	return func() { unlock() }, true, nil
}
