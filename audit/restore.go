package audit

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/openleash/openleash-go/internal/durable"
)

// ErrElsewhere: another process has the seat, and what only its holder may do cannot be
// done here.
var ErrElsewhere = errors.New("another OpenLeash process keeps the log; stop it first")

// seatPatience is how long a job waits for the seat.
const seatPatience = 3 * time.Second

// A job is done between two passes, by who has the seat.
type job struct {
	do   func(context.Context) error
	done chan error
}

// inSeat has something done in the seat that Run takes.
func (s *Sequencer) inSeat(ctx context.Context, do func(context.Context) error) error {
	j := job{do, make(chan error, 1)}
	select {
	case s.jobs <- j:
		return <-j.done
	case <-time.After(seatPatience):
		return ErrElsewhere
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Import puts segments back that were removed, from wherever they were archived: all up
// to the stump from some line on, whole and unchanged. When they do not begin with the
// first line, earlier is the stump that they follow. It returns what it has found, and
// when that is without faults it has asked record and put them back.
//
// The store has its lines again, and the segments are kept as if they were new. What a
// crash leaves of it is removed again, since the stump is replaced last.
func (s *Sequencer) Import(ctx context.Context, files []string, earlier *Stump, record func(Report) error) (r Report, err error) {
	err = s.inSeat(ctx, func(ctx context.Context) error {
		r, err = s.restore(ctx, files, earlier, record)
		return err
	})
	return r, err
}

func (s *Sequencer) restore(ctx context.Context, files []string, earlier *Stump, record func(Report) error) (Report, error) {
	stump, err := readStump(s.file, s.key)
	if err != nil {
		return Report{}, err
	}
	if stump.Checkpoint.Size == 0 {
		return Report{}, errors.New("nothing of this log was removed: there is nothing to put back")
	}
	if files, _, err = inOrder(files); err != nil {
		return Report{}, err
	}
	r, err := s.fitting(files, stump, earlier)
	if err != nil || len(r.Faults) > 0 {
		return r, err
	}
	if err := record(r); err != nil {
		return r, err
	}
	for _, file := range slices.Backward(files) {
		if err := s.bringBack(ctx, file); err != nil {
			return r, fmt.Errorf("putting back %s: %w", file, err)
		}
	}
	if err := s.endStump(earlier); err != nil {
		return r, err
	}
	s.leaveTree() // it may not lead to what was put back: it is made again
	return r, s.remove(TreeFile(s.file))
}

// fitting verifies that files are the removed lines, up to the last of them.
func (s *Sequencer) fitting(files []string, stump Stump, earlier *Stump) (Report, error) {
	var begin []Stump
	before := uint64(0)
	if earlier != nil {
		begin, before = []Stump{*earlier}, earlier.Checkpoint.Size
	}
	r, err := VerifyFiles(files, begin, stump.Checkpoint.Size, "", stump.Checkpoint)
	if err != nil || len(r.Faults) > 0 {
		return r, err
	}
	if have := before + r.Entries; have != stump.Checkpoint.Size {
		return r, fmt.Errorf("these are entries up to %d, and those up to %d were removed: want exactly these", have, stump.Checkpoint.Size)
	}
	return r, nil
}

// bringBack copies a segment to its place and its lines into the store.
func (s *Sequencer) bringBack(ctx context.Context, file string) error {
	lines, err := linesOf(file)
	if err != nil || len(lines) == 0 {
		return err
	}
	segment := segmentOf(s.file, lines[0].Seq, lines[len(lines)-1].Seq)
	if _, err := os.Lstat(segment.File); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is there already", segment.File)
	}
	text, err := join(lines[0].Seq-1, lines)
	if err == nil {
		err = s.keepText(segment.File, text)
	}
	if err == nil {
		err = s.store.Restore(ctx, lines)
	}
	return err
}

// linesOf reads a segment whole.
func linesOf(file string) (all []Sequenced, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := lineReader{r: bufio.NewReaderSize(f, 256<<10)}
	for {
		line, ending, err := lines.next()
		if err == io.EOF && ending != torn {
			return all, nil
		}
		if err != nil || ending != newline {
			return nil, errors.Join(err, errors.New("a line is not complete"))
		}
		seq, _, err := parseLine(line)
		if err != nil {
			return nil, err
		}
		all = append(all, Sequenced{seq, slices.Clone(line), sha256.Sum256(line)})
	}
}

// endStump lets the log begin where the segments do.
func (s *Sequencer) endStump(earlier *Stump) error {
	file := StumpFile(s.file)
	if earlier != nil {
		signed, err := s.key.Sign(earlier.Checkpoint.Size, earlier.Checkpoint.Root)
		if err != nil {
			return err
		}
		return s.keepText(file, earlier.tree.text(signed))
	}
	if err := s.remove(file); err != nil {
		return err
	}
	return durable.Dir(filepath.Dir(file))
}
