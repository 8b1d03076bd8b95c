package audit

import (
	"bufio"
	"errors"
	"io"
	"os"
)

// OpenLatest opens the last lines of a log, whole ones, of so many bytes at the most.
func OpenLatest(log string, most int64) (io.ReadCloser, error) {
	names, err := Files(log)
	if err != nil {
		return nil, err
	}
	l := &latest{}
	var parts []io.Reader
	for i := len(names) - 1; i >= 0 && most > 0; i-- {
		part, size, err := l.open(names[i], most)
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		parts, most = append([]io.Reader{part}, parts...), most-size
	}
	l.Reader = io.MultiReader(parts...)
	return l, nil
}

// latest reads files one after another.
type latest struct {
	io.Reader
	files []*os.File
}

// open reads a file, or from a line on so that no more is left than most.
func (l *latest) open(name string, most int64) (part io.Reader, size int64, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	l.files = append(l.files, f)
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	if size = info.Size(); size <= most {
		return f, size, nil
	}
	if _, err := f.Seek(size-most-1, io.SeekStart); err != nil { // at the end of a line, perhaps
		return nil, 0, err
	}
	rest := bufio.NewReader(f)
	for {
		if _, err := rest.ReadSlice('\n'); err != bufio.ErrBufferFull {
			return rest, size, nil // at its end nothing follows
		}
	}
}

func (l *latest) Close() error {
	var errs []error
	for _, f := range l.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
