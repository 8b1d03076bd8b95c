package audit

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
)

// Report is what Verify found.
type Report struct {
	Entries uint64  // lines that are entries, wherever they stand
	Removed uint64  // entries before them, for which a stump stands
	Head    string  // "sha256:" and the sum of the last entry's line; empty: there is none
	Faults  []Fault // in the order of the file; nil: the log is whole
}

// Fault is one thing wrong with a file.
type Fault struct {
	File   string // as VerifyFiles was given it; empty of Verify
	Line   int    // in the file, from 1
	Reason string

	at int // in all files
}

func (f Fault) String() string { return fmt.Sprintf("line %d: %s", f.Line, f.Reason) }

// maxFaults bounds a report: a file that is something else altogether has a
// fault in each line.
const maxFaults = 1000

// Verify reads a log file and checks its chain: edits, removals, insertions,
// reordering. A cut tail shows only against something that knew the head:
// pass wantSeq and wantHash (from the store, a checkpoint, a proof), or 0 and "".
// The file may go on beyond wantSeq. wantHash is "sha256:HEX" or bare HEX.
//
// A log that was written anew from some line on shows only against checkpoints: each
// has to be of the file's first lines. Two of different logs cannot both be.
//
// One change is one fault, where it was made, as far as the chain can tell: the
// lines after it are judged by what they say of each other. The error is not
// nil when the file could not be read to its end, or wantHash is not a hash.
func Verify(r io.Reader, wantSeq uint64, wantHash string, checkpoints ...Checkpoint) (Report, error) {
	c, err := newChecker(wantSeq, wantHash, checkpoints)
	if err != nil {
		return Report{}, err
	}
	if err := c.read("", r); err != nil {
		return c.end(), fmt.Errorf("verifying the audit log: %w", err)
	}
	return c.end(), nil
}

func newChecker(wantSeq uint64, wantHash string, checkpoints []Checkpoint) (*checker, error) {
	c := &checker{wantSeq: wantSeq, marks: slices.SortedFunc(slices.Values(checkpoints), bySize)}
	if wantHash != "" {
		hash, ok := parseSum(sumHead + strings.TrimPrefix(strings.ToLower(wantHash), sumHead))
		if !ok {
			return nil, fmt.Errorf("verifying the audit log: want a hash as sha256:HEX, got %.80q", wantHash)
		}
		c.wantHash = &hash
	}
	return c, nil
}

// read takes the lines of the next file.
func (c *checker) read(name string, r io.Reader) error {
	c.parts = append(c.parts, part{name, c.lines})
	c.compare()
	lines := lineReader{r: bufio.NewReaderSize(r, 256<<10)}
	for {
		line, ending, err := lines.next()
		if err != nil && err != io.EOF {
			return fmt.Errorf("reading line %d: %w", c.lines-c.parts[len(c.parts)-1].before+1, err)
		}
		if err == io.EOF && ending != torn {
			return nil
		}
		c.lines++
		switch {
		case err == io.EOF:
			c.unreadable(c.lines, "the line is not complete: a write was cut short, or the end was cut off")
			return nil
		case ending == tooLong:
			c.unreadable(c.lines, fmt.Sprintf("the line is longer than %d bytes", maxLine))
		default:
			c.take(line)
		}
	}
}

func (c *checker) take(line []byte) {
	c.check(c.lines, line)
	c.settle()
	if c.seq == c.tree.size+1 {
		c.tree.add(line)
		c.compare()
	}
}

// A part is one of the files; the lines of all are counted through.
type part struct {
	name   string
	before int // lines of the files before it
}

// place finds a line in its file.
func (c *checker) place(n int) (name string, line int) {
	for _, p := range slices.Backward(c.parts) {
		if n > p.before || p.before == 0 {
			return p.name, n - p.before
		}
	}
	return "", n
}

// words name a line, with its file if there are several.
func (c *checker) words(n int) string {
	name, line := c.place(n)
	if len(c.parts) < 2 {
		return fmt.Sprintf("line %d", line)
	}
	return fmt.Sprintf("line %d of %s", line, filepath.Base(name))
}

func bySize(a, b Checkpoint) int { return cmp.Compare(a.Size, b.Size) }

// A comparison is one that is still to come, of a tree with checkpoints: whether the line
// where it is due was changed, only the next line says.
type comparison struct {
	line int
	size uint64
	root [32]byte
	with []Checkpoint
}

// compare has the lines up to the last one held against the checkpoints that are of so
// many.
func (c *checker) compare() {
	m := comparison{line: c.lines, size: c.tree.size}
	for len(c.marks) > 0 && c.marks[0].Size == c.tree.size {
		m.with, c.marks = append(m.with, c.marks[0]), c.marks[1:]
	}
	if len(m.with) > 0 {
		m.root = c.tree.root()
		c.due = append(c.due, m)
	}
}

// settle makes the comparisons that are due. When something is wrong with the lines
// already, that is what has to be known.
func (c *checker) settle() {
	for _, m := range c.due {
		if len(c.report.Faults) == 0 && c.broken.links == 0 {
			c.hold(m)
		}
	}
	c.due = c.due[:0]
}

func (c *checker) hold(m comparison) {
	fits := func(with Checkpoint) bool { return with.Root == m.root }
	switch {
	case !slices.ContainsFunc(m.with, fits):
		c.fault(m.line, "the first %d lines are not those of the checkpoint: after line %d they were changed and chained anew, or the checkpoint is of another log", m.size, c.fits)
	case !slices.ContainsFunc(m.with, func(with Checkpoint) bool { return !fits(with) }):
		c.fits = m.size
	default:
		c.fault(m.line, "two checkpoints of the first %d lines disagree: there are two logs of this name, and one was shown to some, the other to others", m.size)
	}
}

// A checker is the state between two lines.
type checker struct {
	report   Report
	parts    []part
	lines    int  // read so far, of all parts
	cut      bool // there were more faults than maxFaults
	wantSeq  uint64
	wantHash *[32]byte
	marks    []Checkpoint // that are still to come, by size
	due      []comparison
	fits     uint64    // the size of the last that fitted
	tree     rangeTree // of the lines, up to the first that is not in its place

	// The last entry in the chain: its number, its line's sum, where it stands.
	seq  uint64
	hash [32]byte
	line int
	// suspect: a fault names that line already, so that the next line does not
	// fit it is no news.
	suspect bool
	// unread counts the lines since then that are no entries. Each may have
	// been the next one.
	unread uint64

	broken broken
	gap    *gap
	twin   *twin
}

// broken is a run of links that do not fit, each to the line after it. One
// broken link is a change of the line before it; two in a row are a change of
// the line between them.
type broken struct {
	links       int
	first       int // the line before the first link
	second      int // the line after it
	named, real [32]byte
}

// A gap is the last range of numbers that was passed over. Lines that turn up
// later belong to the same fault: they were moved.
type gap struct {
	lo, hi uint64   // what is missing
	before [32]byte // sum of the line before lo
	after  [32]byte // the sum of hi, as the line after it has it
	line   int      // where the fault is
	fault  int      // its index in the report
}

// A twin is a second line with the number of the last entry: what follows says
// which of the two is the real one.
type twin struct {
	hash  [32]byte
	line  int
	fault int
}

// fault reports one and returns its index, or -1 when the report is full.
func (c *checker) fault(line int, format string, args ...any) int {
	if len(c.report.Faults) == maxFaults {
		c.cut = true
		return -1
	}
	c.report.Faults = append(c.report.Faults, Fault{at: line, Reason: fmt.Sprintf(format, args...)})
	return len(c.report.Faults) - 1
}

// restate replaces the reason of a fault when a later line explains it better.
func (c *checker) restate(i, line int, format string, args ...any) {
	if i >= 0 {
		c.report.Faults[i] = Fault{at: line, Reason: fmt.Sprintf(format, args...)}
	}
}

// unreadable is a line that is no entry.
func (c *checker) unreadable(line int, reason string) {
	c.flush()
	c.fault(line, "%s", reason)
	c.unread++
}

// check takes the next line.
func (c *checker) check(n int, line []byte) {
	seq, prev, err := parseLine(line)
	if err != nil {
		c.unreadable(n, err.Error())
		return
	}
	c.report.Entries++
	hash := sha256.Sum256(line)
	next := c.seq + 1
	switch {
	case seq == next:
		c.advance(n, seq, hash, c.link(n, prev))
	case seq > next && seq <= next+c.unread:
		// The unreadable lines were the entries between.
		c.advance(n, seq, hash, false)
	case prev == c.hash && c.unread == 0:
		c.flush()
		c.fault(n, "the number was changed: it says entry %d, and by the chain it is entry %d", seq, next)
		c.advance(n, next, hash, true)
	case c.gap != nil && c.gap.lo <= seq && seq <= c.gap.hi:
		c.fill(n, seq, prev, hash)
	case seq < next:
		c.again(n, seq, hash)
	default:
		c.skip(n, seq, prev)
		c.advance(n, seq, hash, false)
	}
}

// link compares what line n says of the line before it with that line, and
// reports whether line n has a fault by that alone.
func (c *checker) link(n int, prev [32]byte) (faulty bool) {
	switch {
	case c.twin != nil && prev == c.twin.hash && prev != c.hash:
		c.restate(c.twin.fault, c.line, "a second line says that it is entry %d: the chain goes on from %s", c.seq, c.words(c.twin.line))
		if c.broken.links == 1 { // it led to the false line
			c.broken = broken{}
		}
		c.flush()
	case prev == c.hash || c.suspect:
		c.flush()
	case c.line == 0:
		c.fault(n, `the log begins here, but "prev" is not 64 zeros`)
		return true
	case c.broken.links == 0:
		c.broken = broken{1, c.line, n, prev, c.hash}
	default:
		c.broken.links++
	}
	return false
}

// advance makes line n the last entry.
func (c *checker) advance(n int, seq uint64, hash [32]byte, suspect bool) {
	c.seq, c.hash, c.line, c.suspect, c.unread, c.twin = seq, hash, n, suspect, 0, nil
	if c.wantHash != nil && seq == c.wantSeq {
		c.known(n)
	}
}

// known compares the entry whose hash the caller brought.
func (c *checker) known(n int) {
	if c.hash == *c.wantHash || c.suspect {
		return
	}
	c.suspect = true
	if c.broken.links > 0 {
		c.broken.links++ // the link to the caller's knowledge
		c.flush()
		return
	}
	c.fault(n, "entry %d was changed: its sum is %s, expected %s", c.seq, sum(c.hash), sum(*c.wantHash))
}

// flush reports the run of links that do not fit, when it has ended.
func (c *checker) flush() {
	b := c.broken
	c.broken = broken{}
	switch {
	case b.links == 0:
	case b.links == 1:
		c.fault(b.first, "the line was changed: its sum is %s, and %s says it was %s", sum(b.real), c.words(b.second), sum(b.named))
	case b.links == 2:
		c.fault(b.second, "the line was changed: it fits neither the line before it nor the line after it")
	default:
		c.fault(b.second, "the lines from here to %s were changed: none fits its neighbours", c.words(b.second+b.links-2))
	}
}

// skip reports the entries between the last one and line n.
func (c *checker) skip(n int, seq uint64, prev [32]byte) {
	c.flush()
	g := gap{lo: c.seq + 1, hi: seq - 1, before: c.hash, after: prev, line: n}
	hint := ""
	if c.line == 0 && c.report.Removed == 0 {
		hint = "; where they were removed by retention, give the stump as well"
	}
	if g.lo == g.hi {
		g.fault = c.fault(n, "entry %d is missing before this line%s", g.lo, hint)
	} else {
		g.fault = c.fault(n, "entries %d to %d are missing before this line%s", g.lo, g.hi, hint)
	}
	c.gap = &g
}

// fill takes a line whose number was passed over before: it was moved, which
// the fault of the gap then says.
func (c *checker) fill(n int, seq uint64, prev, hash [32]byte) {
	g := c.gap
	c.restate(g.fault, g.line, "the entries from here on are not in their order: entry %d comes later, in %s", seq, c.words(n))
	if seq == g.lo && prev != g.before || seq == g.hi && hash != g.after {
		c.flush()
		c.fault(n, "entry %d stands in the wrong place, and was changed", seq)
	}
	g.lo, g.before = seq+1, hash
}

// again reports a line whose number was there before.
func (c *checker) again(n int, seq uint64, hash [32]byte) {
	if g := c.gap; g != nil && g.lo > g.hi && g.line == c.line && hash == c.hash {
		// All that seemed to be missing has come, and now the same line again.
		c.restate(g.fault, g.line, "a copy of entry %d stands here; its place is %s", seq, c.words(n))
		c.gap = nil
		return
	}
	i := c.fault(n, "a second line says that it is entry %d", seq)
	if seq == c.seq && c.twin == nil {
		c.twin = &twin{hash, n, i}
	}
}

// end closes the report.
func (c *checker) end() Report {
	c.settle()
	c.flush()
	want := c.wantSeq
	for _, m := range c.marks {
		want = max(want, m.Size)
	}
	if have := c.seq + c.unread; have < want {
		c.fault(c.lines+1, "the end was cut off: entries %d to %d are missing", have+1, want)
	}
	slices.SortStableFunc(c.report.Faults, func(a, b Fault) int { return a.at - b.at })
	for i, f := range c.report.Faults {
		c.report.Faults[i].File, c.report.Faults[i].Line = c.place(f.at)
	}
	if c.cut {
		last := &c.report.Faults[maxFaults-1]
		last.Reason += "; more faults follow, which are not listed"
	}
	if c.line > 0 {
		c.report.Head = sumHead + hex.EncodeToString(c.hash[:])
	}
	return c.report
}

// How a line ended.
type ending int

const (
	newline ending = iota
	torn           // by the end of the file
	tooLong        // by a newline, but beyond maxLine
)

// A lineReader reads lines of bounded length.
type lineReader struct {
	r    *bufio.Reader
	long []byte // a line that is longer than r's buffer
}

// next returns a line without its newline, valid until the next call. The error
// is io.EOF when the file has ended, with torn when something stood there.
func (l *lineReader) next() ([]byte, ending, error) {
	piece, err := l.r.ReadSlice('\n')
	if err == nil {
		return piece[:len(piece)-1], newline, nil
	}
	l.long = l.long[:0]
	size := 0
	for err == bufio.ErrBufferFull {
		if size += len(piece); size <= maxLine {
			l.long = append(l.long, piece...)
		}
		piece, err = l.r.ReadSlice('\n')
	}
	size += len(piece)
	switch {
	case err == io.EOF && size > 0:
		return nil, torn, io.EOF
	case err != nil:
		return nil, newline, err
	case size > maxLine+1:
		return nil, tooLong, nil
	}
	l.long = append(l.long, piece...)
	return bytes.TrimSuffix(l.long, []byte("\n")), newline, nil
}
