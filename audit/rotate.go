package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/openleash/openleash-go/internal/durable"
)

// Keeping says when the log's file is closed as a segment, and how long segments are
// kept. What is zero never happens.
type Keeping struct {
	MaxBytes int64         // a file that is so long is closed
	MaxAge   time.Duration // a file whose first entry is so old is closed
	Keep     time.Duration // a segment whose last entry is older, and which lies here for longer, is removed

	// Removing records that the lines first to last are removed; without it nothing is.
	Removing func(ctx context.Context, first, last uint64) error
	// Warn is told what went wrong with a segment. It is tried again, and stops nothing
	// meanwhile: the log is whole.
	Warn func(error)
}

// tendEvery is how often it is looked whether segments are to be removed, and how soon
// something is tried again.
const tendEvery = time.Minute

// tend closes the file when its time has come, and removes what is not to be kept any
// longer. It follows a checkpoint: every line of the file is synced and in the tree.
func (s *Sequencer) tend(ctx context.Context) {
	if !s.signed || s.tree.size != s.last || s.left == nil {
		return
	}
	due := s.due()
	if !due && time.Since(s.tended) < tendEvery || time.Since(s.failed) < tendEvery {
		return
	}
	var err error
	if due {
		err = s.rotate()
	}
	if err == nil {
		s.tended = time.Now()
		err = s.retain(ctx)
	}
	if err != nil {
		s.failed = time.Now()
		s.keeping.Warn(err)
	}
}

// due reports whether the file is to be closed. It is the file as we left it.
func (s *Sequencer) due() bool {
	k := s.keeping
	if s.left.Size() == 0 {
		return false
	}
	if k.MaxBytes > 0 && s.left.Size() >= k.MaxBytes {
		return true
	}
	if k.MaxAge == 0 {
		return false
	}
	if s.began.IsZero() {
		s.began = time.Now() // unless the first line says more
		if _, line, ok, err := firstOf(s.file); err == nil && ok {
			if t, err := timeOf(line); err == nil {
				s.began = t
			}
		}
	}
	return time.Since(s.began) >= k.MaxAge
}

// rotate closes the file. Two steps follow those of a pass:
//
//  7. A checkpoint of the file's last line stands where that of the segment will.
//  8. The file has the segment's name; the next pass begins a new one.
func (s *Sequencer) rotate() error {
	first, _, ok, err := firstOf(s.file)
	if err == nil && !ok {
		err = errors.New("its first line is not a line of the log")
	}
	if err != nil {
		return fmt.Errorf("closing the audit log's file %s as a segment: %w", s.file, err)
	}
	segment := segmentOf(s.file, first, s.last)
	if _, err = os.Lstat(segment.File); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("closing the audit log's file as a segment: %s is there already: move it away", segment.File)
	}
	signed, err := s.key.Sign(s.known.Size, s.known.Root)
	if err == nil {
		err = s.replace(CheckpointFile(segment.File), signed)
	}
	if err == nil {
		err = s.rename(s.file, segment.File)
	}
	if err == nil {
		err = durable.Dir(filepath.Dir(s.file))
	}
	s.left, s.began = nil, time.Time{}
	if err != nil {
		return fmt.Errorf("closing the audit log's file as a segment: %w", err)
	}
	return nil
}

// retain removes the segments whose time is over, from the first on. In this order, so
// that a crash leaves what the next call goes on with:
//
//  1. An entry says that the lines are removed.
//  2. The stump has what later lines need of them.
//  3. The store forgets them.
//  4. The segment is gone.
func (s *Sequencer) retain(ctx context.Context) error {
	segments, err := Segments(s.file)
	if err != nil {
		return err
	}
	stump, err := readStump(s.file, s.key)
	if err != nil {
		return err
	}
	for _, segment := range segments {
		gone := segment.Last <= stump.Checkpoint.Size
		if !gone && (segment.Last >= s.last || !s.over(segment)) {
			break // the store needs its last line; what follows is younger
		}
		if !gone {
			err = s.leaveStump(ctx, segment)
		}
		all := false
		if err == nil {
			all, err = s.drop(ctx, segment)
		}
		if err != nil {
			return fmt.Errorf("removing the audit log's segment %s: %w", segment.File, err)
		}
		if !all {
			s.tended = time.Time{} // the next pass goes on
			break
		}
	}
	return nil
}

// over reports whether a segment's time is over. One that was put back from an archive
// begins again.
func (s *Sequencer) over(segment Segment) bool {
	info, err := os.Stat(segment.File)
	if s.keeping.Keep == 0 || err != nil || time.Since(info.ModTime()) < s.keeping.Keep {
		return false
	}
	last, err := Tail(segment.File, 1)
	if err != nil || len(last) == 0 {
		return false
	}
	t, err := timeOf(last[0])
	return err == nil && time.Since(t) >= s.keeping.Keep
}

// leaveStump records that the lines up to the segment's last are removed, and keeps
// what later ones need of them.
func (s *Sequencer) leaveStump(ctx context.Context, segment Segment) error {
	tree, err := s.tree.first(segment.Last)
	if err != nil {
		return err
	}
	signed, err := s.key.Sign(tree.size, tree.root())
	if err != nil {
		return err
	}
	if c, err := OpenCheckpoint(read(CheckpointFile(segment.File)), s.key.Public()); err == nil && c.Size == tree.size && c.Root != tree.root() {
		return errors.New("its checkpoint is not of the lines that the tree has")
	}
	if err := s.keeping.Removing(ctx, segment.First, segment.Last); err != nil {
		return err
	}
	return s.keepText(StumpFile(s.file), tree.text(signed))
}

// keepText puts text at file, durably: what it says is nowhere else.
func (s *Sequencer) keepText(file string, text []byte) error {
	f, err := os.OpenFile(file+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = s.write(f, text)
	if err == nil {
		err = s.fsync(f)
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = s.rename(file+".new", file)
	}
	if err == nil {
		err = durable.Dir(filepath.Dir(file))
	}
	return err
}

func read(file string) []byte {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	return text
}

// drop has the store forget the segment, or as much of it as there is time for between
// two passes, and removes its file at the end.
func (s *Sequencer) drop(ctx context.Context, segment Segment) (all bool, err error) {
	for began := time.Now(); !all; {
		if time.Since(began) > poll/2 {
			return false, nil
		}
		if all, err = s.store.Drop(ctx, segment.Last); err != nil {
			return false, err
		}
	}
	if err := s.remove(CheckpointFile(segment.File)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return true, s.remove(segment.File)
}
