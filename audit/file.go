package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/openleash/openleash-go/internal/durable"
)

// openAppend opens the log for reading and appending, making it if need be.
func openAppend(file string) (*os.File, error) {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() == 0 {
		// It may be new: without this its name could be gone after a power cut.
		err = durable.Dir(filepath.Dir(file))
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Tail returns the last n whole lines of a log, without their newlines.
func Tail(file string, n int) ([][]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("reading the audit log: %w", err)
	}
	defer f.Close()
	lines, _, err := tail(f, n)
	if err != nil {
		return nil, fmt.Errorf("reading the audit log %s: %w", file, err)
	}
	return lines, nil
}

// tail reads a file from its end: its last n whole lines, and what stands after
// the last newline.
func tail(f *os.File, n int) (lines [][]byte, torn []byte, err error) {
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if info.IsDir() {
		return nil, nil, errors.New("it is a folder")
	}
	at := info.Size()
	piece := []byte{} // what stands before the last newline seen, back to at
	cut := func(b []byte) {
		if torn == nil {
			torn = b
		} else {
			lines = append(lines, b)
		}
	}
	for at > 0 && len(lines) < max(n, 0) {
		size := min(at, max(4096, int64(len(piece)))) // doubling: linear in the line's length
		if len(piece) > maxLine {
			return nil, nil, fmt.Errorf("a line before byte %d is longer than %d bytes", at, maxLine)
		}
		at -= size
		chunk := make([]byte, size, int(size)+len(piece))
		if _, err := f.ReadAt(chunk, at); err != nil && err != io.EOF {
			return nil, nil, err
		}
		piece = append(chunk, piece...)
		for len(lines) < n {
			i := bytes.LastIndexByte(piece, '\n')
			if i < 0 {
				break
			}
			cut(piece[i+1:])
			piece = piece[:i]
		}
	}
	if at == 0 && len(lines) < max(n, 0) {
		cut(piece)
	}
	slices.Reverse(lines)
	return lines, torn, nil
}
