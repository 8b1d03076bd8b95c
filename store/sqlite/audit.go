package sqlite

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/internal/filelock"
)

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

// Unsequenced returns the first entries that wait for their place: those that
// a transaction has brought into the database, then those of the journal.
func (s *Store) Unsequenced(ctx context.Context, limit int) (ids []int64, entries [][]byte, err error) {
	// One query, so that both answers are of one moment; the first row is the journal's.
	room := audit.MaxBatch
	rows, err := listWhile(ctx, s, func(row waitingRow) bool { room -= len(row.body); return room > 0 }, readWaiting,
		"SELECT upto, 0 AS id, NULL AS body FROM journal UNION ALL SELECT 0, id, body FROM entries ORDER BY id LIMIT ?", limit+1)
	if err != nil || len(rows) == 0 {
		return nil, nil, err
	}
	waiting := make([]entry, 0, len(rows))
	for _, row := range rows[1:] {
		waiting = append(waiting, row.entry)
	}
	inTable := len(waiting)
	if inTable < limit && room > 0 {
		more, err := s.journal.waiting(ctx, rows[0].upto, limit-inTable)
		if err != nil {
			return nil, nil, err
		}
		waiting = append(waiting, more...)
	}
	for _, e := range waiting {
		ids, entries = append(ids, e.id), append(entries, e.body)
	}
	s.see(&seen{rows[0].upto, slices.Clone(ids[inTable:])})
	return ids, entries, nil
}

// see keeps what was seen of the journal, unless what is kept reaches as far: who
// only looks whether something waits must not take it from who gives places.
func (s *Store) see(now *seen) {
	for {
		before := s.seen.Load()
		if before.reaches(now) || s.seen.CompareAndSwap(before, now) {
			return
		}
	}
}

func (s *seen) reaches(other *seen) bool {
	return s != nil && s.after <= other.after && (len(other.ids) == 0 || len(s.ids) > 0 && s.ids[len(s.ids)-1] >= other.ids[len(other.ids)-1])
}

// seen is what the journal had after an entry, when it was last read. The
// journal only grows, so that is still true of what has not moved since.
type seen struct {
	after int64
	ids   []int64
}

// first returns n ids after one, if so many were seen and they end with a record.
func (s *seen) first(after int64, n int) []int64 {
	if s == nil || after < s.after {
		return nil
	}
	ids := s.ids
	for len(ids) > 0 && ids[0] <= after {
		ids = ids[1:]
	}
	if len(ids) < n || n < len(ids) && blockOf(ids[n-1]) == blockOf(ids[n]) {
		return nil
	}
	return ids[:n]
}

type waitingRow struct {
	upto int64
	entry
}

func readWaiting(scan scan) (row waitingRow, err error) {
	err = scan(&row.upto, &row.id, &row.body)
	return row, err
}

// SetSequenced moves the first entries that wait to their places. They must be
// exactly the first ones, in order, and the places the next ones.
func (s *Store) SetSequenced(ctx context.Context, ids []int64, lines []audit.Sequenced) error {
	if len(ids) != len(lines) {
		return fmt.Errorf("sequencing: %d entries for %d lines", len(ids), len(lines))
	}
	if len(ids) == 0 {
		return nil
	}
	added, behind := index(lines), false
	err := s.write(ctx, func(t *tx) error {
		if err := t.sequence(s.seen.Load(), ids, lines); err != nil {
			return err
		}
		ok, err := t.addIndex(added)
		behind = !ok
		return err
	})
	if err != nil {
		return fmt.Errorf("sequencing: %w", err)
	}
	if behind {
		s.indexer.ask()
	}
	return nil
}

// sequence moves entries, if they are the first that wait and the lines the next
// places.
func (t *tx) sequence(journal *seen, ids []int64, lines []audit.Sequenced) error {
	first, err := t.first(journal, len(ids))
	if err != nil {
		return err
	}
	head, err := inTx(t, errNone, readID, selectLast)
	if err != nil {
		return err
	}
	if !slices.Equal(first, ids) || uint64(head)+1 != lines[0].Seq {
		return audit.ErrMoved
	}
	last := ids[len(ids)-1]
	if _, err := t.exec("DELETE FROM entries WHERE id <= ?", last); err != nil {
		return err
	}
	if _, err := t.exec("UPDATE journal SET upto = ?1 WHERE upto < ?1", last); err != nil {
		return err
	}
	return t.addLines(lines)
}

// first returns the ids of the first n entries that wait, or fewer.
func (t *tx) first(journal *seen, n int) ([]int64, error) {
	rows, err := t.query("SELECT id FROM entries ORDER BY id LIMIT ?", n)
	if err != nil {
		return nil, err
	}
	ids, err := collect(rows, readID)
	if err != nil || len(ids) == n {
		return ids, err
	}
	upto, err := inTx(t, errNone, readID, selectUpto)
	return append(ids, journal.first(upto, n-len(ids))...), err
}

// addLines stores lines, which must follow each other.
func (t *tx) addLines(lines []audit.Sequenced) error {
	for i, line := range lines {
		if line.Seq != lines[0].Seq+uint64(i) {
			return audit.ErrMoved
		}
		if _, err := t.exec("INSERT INTO lines (seq, hash, line) VALUES (?, ?, ?)", int64(line.Seq), line.Hash[:], line.Line); err != nil {
			return err
		}
	}
	return nil
}

// Lines returns lines by place.
func (s *Store) Lines(ctx context.Context, from uint64, limit int) ([]audit.Sequenced, error) {
	room := audit.MaxBatch
	return listWhile(ctx, s, func(l audit.Sequenced) bool { room -= len(l.Line); return room > 0 },
		readLine, selectLines+" WHERE seq >= ? ORDER BY seq LIMIT ?", int64(from), limit)
}

// atATime bounds how many lines are dropped or put back in one transaction: decisions
// wait for it.
const atATime = 1000

// Drop forgets lines, from the first on.
func (s *Store) Drop(ctx context.Context, upto uint64) (all bool, err error) {
	err = s.write(ctx, func(t *tx) (err error) {
		all, err = t.drop(int64(upto))
		return err
	})
	if err != nil {
		return false, fmt.Errorf("dropping the first lines of the log: %w", err)
	}
	return all, nil
}

func (t *tx) drop(upto int64) (all bool, err error) {
	first, err := inTx(t, errNone, readID, selectFirst)
	if err != nil {
		return false, err
	}
	head, err := inTx(t, errNone, readID, selectLast)
	if err != nil {
		return false, err
	}
	upto = min(upto, head-1) // the last gives the next its place
	last := min(upto, first+atATime-1)
	_, err = t.exec("DELETE FROM lines WHERE seq <= ?", last)
	return last >= upto, err
}

// Restore puts back lines that come before the first. The index of the log begins with
// them again, and is made anew.
func (s *Store) Restore(ctx context.Context, lines []audit.Sequenced) error {
	for len(lines) > 0 {
		some := lines[max(0, len(lines)-atATime):]
		lines = lines[:len(lines)-len(some)]
		if err := s.write(ctx, func(t *tx) error { return t.restore(some) }); err != nil {
			return fmt.Errorf("putting lines of the log back: %w", err)
		}
	}
	s.indexer.ask()
	return nil
}

func (t *tx) restore(lines []audit.Sequenced) error {
	first, err := inTx(t, errNone, readID, selectFirst)
	if err != nil {
		return err
	}
	if last := lines[len(lines)-1].Seq; int64(last)+1 != first {
		return fmt.Errorf("the first line is %d: want lines up to %d, got them up to %d", first, first-1, last)
	}
	for _, anew := range []string{"DELETE FROM log_index", "DELETE FROM log_blocks", "DELETE FROM log_ids", "UPDATE log_indexed SET upto = 0"} {
		if _, err := t.exec(anew); err != nil {
			return err
		}
	}
	return t.addLines(lines)
}

// LockSequencer takes the sequencer's seat if it is free.
func (s *Store) LockSequencer(ctx context.Context) (release func(), ok bool, err error) {
	unlock, ok, err := filelock.TryLock(filepath.Join(filepath.Dir(s.path), "sequencer.lock"))
	if err != nil || !ok {
		return nil, false, err
	}
	return func() { unlock() }, true, nil
}
