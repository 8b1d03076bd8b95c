package audit

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// A Segment is a part of a log that has been closed: a file of its own, whose name says
// which lines it has, audit.log.000000000001-000000004711.jsonl. Its checkpoint, of
// all lines up to its last, stands beside it. The log's own file goes on after the last
// segment. All of them one after the other are the log: a line's "prev" is the sum of the
// line before it, also where that one is in the segment before.
type Segment struct {
	First, Last uint64
	File        string
}

func segmentOf(log string, first, last uint64) Segment {
	return Segment{first, last, beside(log, fmt.Sprintf(".%012d-%012d%s", first, last, filepath.Ext(log)))}
}

var segmentName = regexp.MustCompile(`\.(\d{12,19})-(\d{12,19})\.`)

// Segments are the closed segments of a log, in their order.
func Segments(log string) ([]Segment, error) {
	files, err := os.ReadDir(filepath.Dir(log))
	if err != nil {
		return nil, fmt.Errorf("looking for segments of the audit log: %w", err)
	}
	var list []Segment
	for _, f := range files {
		m := segmentName.FindStringSubmatch(f.Name())
		if m == nil {
			continue
		}
		first, _ := strconv.ParseUint(m[1], 10, 63)
		last, _ := strconv.ParseUint(m[2], 10, 63)
		s := segmentOf(log, first, last)
		if filepath.Base(s.File) == f.Name() && 0 < first && first <= last {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b Segment) int { return cmp.Compare(a.First, b.First) })
	return list, nil
}

// Files are all files that a log has of its lines, in their order: its segments, then
// its own.
func Files(log string) ([]string, error) {
	segments, err := Segments(log)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, s := range segments {
		files = append(files, s.File)
	}
	if _, err := os.Stat(log); !errors.Is(err, fs.ErrNotExist) {
		files = append(files, log)
	}
	return files, nil
}

// firstOf finds the number of a file's first line; one that cannot be read is passed
// over. ok is false when there is none near the beginning.
func firstOf(file string) (seq uint64, line []byte, ok bool, err error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, nil, false, err
	}
	defer f.Close()
	lines := lineReader{r: bufio.NewReaderSize(f, 64<<10)}
	for n := range uint64(16) {
		line, ending, err := lines.next()
		if err != nil {
			if err == io.EOF {
				err = nil
			}
			return 0, nil, false, err
		}
		if ending != newline {
			continue
		}
		if seq, _, err := parseLine(line); err == nil && seq > n {
			return seq - n, bytes.Clone(line), true, nil
		}
	}
	return 0, nil, false, nil
}

// timeOf is when the entry of a line was made.
func timeOf(line []byte) (time.Time, error) {
	var e struct{ TS string }
	if err := json.Unmarshal(line, &e); err != nil {
		return time.Time{}, err
	}
	return time.Parse(time.RFC3339, e.TS)
}

// End is the last whole line that a log has in its files, or nil.
func End(log string) ([]byte, error) {
	files, err := Files(log)
	if err != nil {
		return nil, err
	}
	for _, file := range slices.Backward(files) {
		last, err := Tail(file, 1)
		if err != nil || len(last) > 0 {
			return slices.Concat(last...), err
		}
	}
	return nil, nil
}

// VerifyFiles is Verify for a log that stands in several files, whatever their order:
// its segments and its own. Lines that were removed are made up for by the stump that
// ends where the files begin, if there is one.
func VerifyFiles(files []string, stumps []Stump, wantSeq uint64, wantHash string, checkpoints ...Checkpoint) (Report, error) {
	files, first, err := inOrder(files)
	if err != nil {
		return Report{}, fmt.Errorf("verifying the audit log: %w", err)
	}
	for _, s := range stumps {
		checkpoints = append(checkpoints, s.Checkpoint)
	}
	c, err := newChecker(wantSeq, wantHash, checkpoints)
	if err != nil {
		return Report{}, err
	}
	for _, s := range stumps {
		if first > 1 && s.Checkpoint.Size == first-1 || first == noLine {
			c.startAfter(s)
		}
	}
	for _, file := range files {
		if err := c.readFile(file); err != nil {
			return c.end(), fmt.Errorf("verifying the audit log: %s: %w", file, err)
		}
	}
	return c.end(), nil
}

func (c *checker) readFile(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	return c.read(file, f)
}

// startAfter begins after lines that were removed. What the first line says of the one
// before it cannot be compared, and is in the tree.
func (c *checker) startAfter(s Stump) {
	c.seq, c.suspect, c.report.Removed = s.tree.size, true, s.tree.size
	c.tree = rangeTree{s.tree.size, slices.Clone(s.tree.parts)}
	c.fits = s.tree.size
	for len(c.marks) > 0 && c.marks[0].Size < s.tree.size {
		c.marks = c.marks[1:] // of lines that are not here
	}
}

// noLine stands for the number of a first line where there is none.
const noLine = 1<<64 - 1

// inOrder sorts files by their first lines; those without one come last.
func inOrder(files []string) (sorted []string, first uint64, err error) {
	first = noLine
	numbers := map[string]uint64{}
	for _, file := range files {
		seq, _, ok, err := firstOf(file)
		if err != nil {
			return nil, 0, err
		}
		if numbers[file] = seq; !ok {
			numbers[file] = noLine
		}
	}
	sorted = slices.Clone(files)
	slices.SortStableFunc(sorted, func(a, b string) int { return cmp.Compare(numbers[a], numbers[b]) })
	for i, file := range sorted {
		n := numbers[file]
		if first = min(first, n); i > 0 && n == numbers[sorted[i-1]] && n != noLine {
			return nil, 0, fmt.Errorf("%s and %s both begin with entry %d: want one log, and each of its segments once", sorted[i-1], file, n)
		}
	}
	return sorted, first, nil
}
