package audit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// mend is catchUp after a loss of power too: of what was written and not synced, each
// block is on the disk or is zeros, in whatever order. If that is all that is wrong with
// the end of the file, it is cut off and written again from the store.
func (s *Sequencer) mend(ctx context.Context, f *os.File) (last uint64, err error) {
	last, err = s.catchUp(ctx, f)
	var found *fault
	if !errors.As(err, &found) || found.file != s.file {
		return last, err
	}
	good, ok, e := s.lostPower(ctx, f)
	if e != nil || !ok {
		return 0, errors.Join(err, e)
	}
	if err := f.Truncate(good); err != nil {
		return 0, fmt.Errorf("cutting off what a loss of power left in the audit log: %w", err)
	}
	s.synced = false
	return s.catchUp(ctx, f)
}

// lostPower finds where the file stops being the store's lines, and reports whether what
// follows is what the store has there, but for zeros.
func (s *Sequencer) lostPower(ctx context.Context, f *os.File) (good int64, ok bool, err error) {
	have, err := s.before(ctx)
	if err != nil {
		return 0, false, err
	}
	file := bufio.NewReaderSize(io.NewSectionReader(f, 0, 1<<62), 256<<10)
	for intact := true; ; {
		lines, err := s.store.Lines(ctx, have+1, chunk)
		if err != nil {
			return 0, false, storeErr("reading the lines", err)
		}
		for _, l := range lines {
			want := append(bytes.Clone(l.Line), '\n')
			got := make([]byte, len(want))
			n, err := io.ReadFull(file, got)
			if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
				return 0, false, err
			}
			intact = intact && bytes.Equal(got[:n], want)
			switch {
			case intact:
				good += int64(n)
			case !butForZeros(got[:n], want):
				return good, false, nil
			case n < len(want):
				return good, true, nil
			}
			have = l.Seq
		}
		if len(lines) == 0 {
			_, err := file.Peek(1)
			return good, err == io.EOF, nil
		}
	}
}

// butForZeros reports whether got begins want, but for bytes that are 0.
func butForZeros(got, want []byte) bool {
	for i, b := range got {
		if b != 0 && b != want[i] {
			return false
		}
	}
	return true
}
