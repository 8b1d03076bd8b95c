package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/openleash/openleash-go/internal/durable"
)

// TreeFile and CheckpointFile stand beside a log.
func TreeFile(log string) string       { return beside(log, ".tree") }
func CheckpointFile(log string) string { return beside(log, ".checkpoint") }

// beside is the log's name with another ending: audit.log.tree for audit.log.jsonl.
func beside(log, ending string) string {
	return log[:len(log)-len(filepath.Ext(log))] + ending
}

// markAtMost is how many lines a pass brings into the tree: a log that never had one is
// no reason to refuse anything for as long as that takes.
const markAtMost = 50_000

// mark brings the tree up to the file and signs a checkpoint of it. Whoever has one can
// tell later whether its lines are still the same.
func (s *Sequencer) mark(ctx context.Context, fresh []Sequenced) error {
	if s.tree == nil {
		if err := s.openTree(ctx); err != nil {
			return err
		}
	}
	if s.tree.size == s.last && s.signed {
		return nil
	}
	s.signed = false
	if err := s.grow(ctx, fresh); err != nil {
		return err
	}
	if s.tree.size < s.last {
		return nil // the next pass goes on
	}
	return s.checkpoint()
}

// openTree finds the tree as the last checkpoint left it. One that is gone or damaged
// is made again from the lines, and has to come to the same root.
func (s *Sequencer) openTree(ctx context.Context) error {
	known, err := s.lastCheckpoint()
	if err != nil {
		return err
	}
	seq, _, err := s.store.Head(ctx)
	switch {
	case err != nil:
		return storeErr("reading the head", err)
	case known.Size > seq:
		return fmt.Errorf("the audit log's checkpoint %s knows %d lines, and the store has %d: was an older store put back? "+
			"Nothing is allowed until somebody has looked: bring back the store, or move the checkpoint away, and a new one is signed that contradicts it",
			CheckpointFile(s.file), known.Size, seq)
	}
	s.known = known
	s.latest.Store(&known)
	if s.tree, err = openTree(TreeFile(s.file), known.Size); err != nil {
		return err
	}
	stump, err := readStump(s.file, s.key)
	if err != nil {
		return err
	}
	ok, err := s.asLeft(ctx)
	if err == nil && (!ok || s.tree.size < stump.tree.size) {
		err = s.tree.restart(stump, s.writeAt)
	}
	if err == nil && s.tree.size == known.Size && known.Size > 0 {
		err = s.isKnown()
	}
	return err
}

// isKnown sees that the tree, which is as long as the last checkpoint, is that one's.
func (s *Sequencer) isKnown() error {
	root, err := s.tree.root()
	if err != nil || root != s.known.Root {
		return errors.Join(err, s.fault("its first %d lines are not those of its checkpoint", s.known.Size))
	}
	return nil
}

// asLeft reports whether the tree's root is the checkpoint's, and its last leaf the
// store's line of that number. Each line has the sum of the one before it, so the last
// is another one when any of them is.
func (s *Sequencer) asLeft(ctx context.Context) (bool, error) {
	size := s.tree.size
	if size == 0 {
		return true, nil
	}
	lines, err := s.store.Lines(ctx, size, 1)
	if err != nil || len(lines) == 0 {
		return false, storeErr("reading the last line of the checkpoint", err)
	}
	root, err := s.tree.root()
	if err != nil || root != s.known.Root {
		return false, nil
	}
	leaf, err := s.tree.ReadHashes([]int64{tlog.StoredHashIndex(0, int64(size-1))})
	return err == nil && leaf[0] == tlog.RecordHash(lines[0].Line), nil
}

// leaveTree lets go of it; it is opened again where it is needed.
func (s *Sequencer) leaveTree() {
	if s.tree != nil {
		s.tree.f.Close()
		s.tree = nil
	}
}

// lastCheckpoint reads what was signed last; it is empty when there is none.
func (s *Sequencer) lastCheckpoint() (Checkpoint, error) {
	file := CheckpointFile(s.file)
	signed, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return Checkpoint{}, nil
	}
	if err != nil {
		return Checkpoint{}, fmt.Errorf("reading the audit log's checkpoint: %w", err)
	}
	if len(bytes.Trim(signed, "\x00")) == 0 {
		return Checkpoint{}, nil // what is left of one when power is lost
	}
	c, err := OpenCheckpoint(signed, s.key.Public())
	if err != nil {
		return c, fmt.Errorf("the audit log's checkpoint %s: %w. Nothing is allowed until somebody has looked: move it away, and a new one is signed", file, err)
	}
	return c, nil
}

// grow adds lines to the tree: fresh, or the store's.
func (s *Sequencer) grow(ctx context.Context, fresh []Sequenced) error {
	for most := s.tree.size + markAtMost; s.tree.size < min(s.last, most); {
		lines := fresh
		if len(lines) == 0 || lines[0].Seq != s.tree.size+1 {
			var err error
			if lines, err = s.store.Lines(ctx, s.tree.size+1, chunk); err != nil {
				return storeErr("reading the lines", err)
			}
		}
		fresh = nil
		if err := s.addLines(lines); err != nil {
			s.leaveTree()
			return err
		}
	}
	return nil
}

func (s *Sequencer) addLines(lines []Sequenced) error {
	if len(lines) == 0 || lines[0].Seq != s.tree.size+1 {
		return fmt.Errorf("extending the audit log's tree: the store has no line %d; if it was removed, bring back %s from a backup", s.tree.size+1, StumpFile(s.file))
	}
	for _, l := range lines {
		if l.Seq > s.last {
			break // not in the file yet
		}
		if err := s.tree.add(l.Line); err != nil {
			return err
		}
		if s.tree.size == s.known.Size {
			if err := s.isKnown(); err != nil {
				return err
			}
		}
	}
	return s.tree.flush(s.writeAt)
}

// checkpoint signs what the tree is now.
func (s *Sequencer) checkpoint() error {
	root, err := s.tree.root()
	if err != nil {
		return err
	}
	signed, err := s.key.Sign(s.tree.size, root)
	if err == nil {
		err = s.replace(CheckpointFile(s.file), signed)
	}
	if err != nil {
		return fmt.Errorf("writing the audit log's checkpoint: %w; make room or repair the disk, it then goes on by itself", err)
	}
	s.known, s.signed = Checkpoint{s.key.Origin(), s.tree.size, root}, true
	latest := s.known
	s.latest.Store(&latest)
	return nil
}

// Latest is the last checkpoint, as far as it is known here: at most 100 ms old, and
// 400 ms where another process signs. It is empty when there is none yet.
func (s *Sequencer) Latest() Checkpoint {
	if c := s.latest.Load(); c != nil {
		return *c
	}
	return Checkpoint{}
}

// learn reads what another process has signed. Whether it may have is for the one that
// has the seat to say.
func (s *Sequencer) learn() {
	if c, err := s.lastCheckpoint(); err == nil && c.Size > s.Latest().Size {
		s.latest.Store(&c)
	}
}

// replace puts text at file at once, for readers; it is not synced.
func replace(file string, text []byte) error {
	draft := file + ".new"
	if err := os.WriteFile(draft, text, 0o600); err != nil {
		return err
	}
	return durable.Replace(draft, file)
}
