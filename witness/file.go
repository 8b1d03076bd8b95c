package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/openleash/openleash-go/audit"
)

// File is a file elsewhere, on another disk or a share, to which checkpoints are
// appended, one after the other. No checkpoint in it is changed or removed, so it may be
// one that can only grow. Before each, what it knows is held against the log.
type File struct {
	Path string
	busy chan struct{} // a share that has gone may hold a write up for ever
}

// NewFile is that of a path.
func NewFile(path string) *File { return &File{path, make(chan struct{}, 1)} }

// Name is the path.
func (f *File) Name() string { return f.Path }

func (f *File) target() string { return "file " + f.Path }

// send appends the checkpoint, beside us: no disk may keep the program from its end.
func (f *File) send(ctx context.Context, tip audit.Tip, _ uint64) error {
	select {
	case f.busy <- struct{}{}:
	default:
		return errors.New("the disk has not answered since the last attempt")
	}
	done := make(chan error, 1)
	go func() {
		err := f.append(tip)
		<-f.busy
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return errors.New("the disk does not answer")
	}
}

// append adds the checkpoint, synced, unless it is the last already.
func (f *File) append(tip audit.Tip) (err error) {
	file, err := os.OpenFile(f.Path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	last, gap, err := lastOf(file, tip)
	switch {
	case err != nil:
		return err
	case last == tip.Checkpoint:
		return nil
	case last.Origin != "":
		if err := tip.Extends(last); err != nil {
			return err
		}
	}
	return write(file, append(append([]byte(gap), tip.Signed...), '\n'))
}

// write adds the text, or nothing of it.
func write(file *os.File, text []byte) error {
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if _, err := file.Write(text); err != nil {
		return errors.Join(err, file.Truncate(size))
	}
	return file.Sync()
}

// tailSize has room for the last checkpoint of ours, and what is left of one more.
const tailSize = 4 << 10

// lastOf is the last checkpoint in the file, and the empty line that is missing behind
// it; the checkpoint is empty when there is none. What a full or lost disk has left of one
// more is taken away: by its name it is ours, and it is of use to nobody.
func lastOf(file *os.File, tip audit.Tip) (c audit.Checkpoint, gap string, err error) {
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil || size == 0 {
		return c, "", err
	}
	tail := make([]byte, min(size, tailSize))
	from := size - int64(len(tail))
	if _, err := file.ReadAt(tail, from); err != nil {
		return c, "", err
	}
	list := audit.SplitKept(tail)
	if n := len(list) - 1; n >= 0 && torn(list[n], tail, tip) {
		if err := file.Truncate(from + int64(list[n].At)); err != nil {
			return c, "", fmt.Errorf("its end is of a write that was cut short, and cannot be taken away: %w", err)
		}
		tail, list = tail[:list[n].At], list[:n]
	}
	if len(tail) == 0 {
		return c, "", nil
	}
	if len(list) > 0 {
		c, err = tip.Open(list[len(list)-1].Signed)
	}
	if len(list) == 0 || err != nil {
		return c, "", fmt.Errorf("its end is no checkpoint of %s: want a file that is new, or to which this log alone is written", tip.Origin)
	}
	if !bytes.HasSuffix(tail, []byte("\n\n")) {
		gap = "\n"
	}
	return c, gap, nil
}

// torn reports whether a piece at the end is the beginning of a checkpoint of this log,
// and no more.
func torn(last audit.Kept, tail []byte, tip audit.Tip) bool {
	head := []byte(tip.Origin + "\n")
	if !bytes.HasPrefix(last.Signed, head) && !bytes.HasPrefix(head, last.Signed) {
		return false
	}
	if bytes.Contains(last.Signed, []byte("\n\n")) && bytes.HasSuffix(tail, []byte("\n\n")) {
		return false // whole, and wrong
	}
	_, err := tip.Open(last.Signed)
	return err != nil
}
