package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/openleash/openleash-go/internal/durable"
)

const (
	poll      = 75 * time.Millisecond  // other processes commit too, and cannot wake us
	gather    = 70 * time.Millisecond  // after a Wake: one sync for what comes together
	seatPoll  = 250 * time.Millisecond // how soon another process takes over
	lookAfter = 2 * time.Second        // how often an idle log is looked at
	grace     = time.Second            // a store may be busy for that long
	passLimit = 10 * time.Second       // a pass that takes longer goes on with the next
	chunk     = 500                    // entries at a time
	atOnce    = 8                      // chunks in a pass: their lines are at hand for file and tree
	attempts  = 20                     // at giving places, before it counts as a failure
)

// A Sequencer gives committed entries their places and appends them to the file.
//
// It keeps one order, and every crash leaves a state that the next pass knows:
//
//  1. The store has entries without a place. Nothing has happened yet.
//  2. SetSequenced: the store knows the lines, the file does not.
//  3. The lines are appended to the file, perhaps in part, perhaps not synced.
//  4. The file is synced.
//  5. The tree has the lines, perhaps in part.
//  6. A checkpoint of all of them is signed.
//
// A pass begins by comparing the file's last whole line with the store's line
// of that number, so whatever 3 left behind is completed. A line in the file
// that the store does not have is never explained by a crash: it is reported,
// and nothing is written over it.
type Sequencer struct {
	store   Store
	file    string
	key     *Key
	keeping Keeping
	wake    chan struct{}
	jobs    chan job
	err     atomic.Pointer[error]
	latest  atomic.Pointer[Checkpoint]

	// What follows belongs to the goroutine in Run.

	behind  bool        // the last pass has left entries to the next, which is due at once
	failing time.Time   // when what Err would report began; zero: all is well
	looked  time.Time   // when the file was last found complete and synced
	synced  bool        // everything that we know of in the file is on disk
	left    os.FileInfo // the file as we left it, complete and synced; nil: look
	last    uint64      // the number of its last line then
	tree    *tree       // of its lines; nil: look
	known   Checkpoint  // the last that was signed
	signed  bool        // it is of all of the tree
	began   time.Time   // when the file's first entry was made; zero: look
	tended  time.Time   // when the segments were last looked at
	failed  time.Time   // when something with them last failed

	// The file's system calls, for the tests that let them fail.
	write   func(*os.File, []byte) (int, error)
	fsync   func(*os.File) error
	writeAt func(*os.File, []byte, int64) (int, error) // the tree
	replace func(file string, text []byte) error       // the checkpoint
	rename  func(from, to string) error                // a segment
	remove  func(file string) error
}

// storeError is a failure of the store. It is not the file's: the store's own
// commits fail as well when it lasts.
type storeError struct {
	step string
	err  error
}

func (e *storeError) Error() string {
	return "sequencing the audit log: " + e.step + ": " + e.err.Error()
}
func (e *storeError) Unwrap() error { return e.err }

func storeErr(step string, err error) error {
	if err == nil {
		return nil
	}
	return &storeError{step, err}
}

// NewSequencer prepares one for file, whose checkpoints key signs, and looks whether
// the file can be written; Run does the work.
func NewSequencer(store Store, file string, key *Key, keeping Keeping) *Sequencer {
	s := &Sequencer{
		store: store, file: file, key: key, keeping: keeping, wake: make(chan struct{}, 1), jobs: make(chan job),
		write: (*os.File).Write, fsync: (*os.File).Sync, writeAt: (*os.File).WriteAt, replace: replace,
		rename: durable.Replace, remove: os.Remove,
	}
	s.note(s.writable())
	return s
}

// Wake says that something was committed.
func (s *Sequencer) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Err is why the log cannot be kept at present, or nil. While it is not nil
// nothing may be allowed (authz asks before each decision). It becomes nil by
// itself when the cause is gone.
func (s *Sequencer) Err() error {
	if err := s.err.Load(); err != nil {
		return *err
	}
	return nil
}

// note keeps what Err reports. A failure of the store is kept to ourselves for
// a moment: it may be busy, and nothing is allowed without its commit anyway.
func (s *Sequencer) note(err error) {
	if err == nil {
		s.failing = time.Time{}
		s.err.Store(nil)
		return
	}
	if s.failing.IsZero() {
		s.failing = time.Now()
	}
	var ours *storeError
	if errors.As(err, &ours) && time.Since(s.failing) < grace {
		return
	}
	s.err.Store(&err)
}

// Run sequences until ctx ends, then once more: at most 100 ms behind. Any
// process may run one; one at a time does the work. It returns the failure of
// the last pass: what was committed is then in the store and not in the file,
// and whoever runs next completes it.
func (s *Sequencer) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := s.sit(ctx, s.work)
		if ctx.Err() == nil {
			s.note(err)
			sleep(ctx, seatPoll)
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), passLimit)
	defer cancel()
	return s.sit(last, s.finish)
}

// finish does passes until nothing is left.
func (s *Sequencer) finish(ctx context.Context) error {
	for {
		if err := s.pass(ctx); err != nil || !s.behind {
			return err
		}
	}
}

// sit takes the one seat for as long as do runs. While another process has it,
// all there is to do is to look whether we could write.
func (s *Sequencer) sit(ctx context.Context, do func(context.Context) error) error {
	release, ok, err := s.store.LockSequencer(ctx)
	if err != nil {
		return storeErr("taking the sequencer's seat", err)
	}
	if !ok {
		s.learn()
		if s.Err() == nil && time.Since(s.looked) < lookAfter {
			return nil
		}
		s.looked = time.Now()
		return s.writable()
	}
	defer release()
	defer s.leaveTree() // another process may go on with it
	return do(ctx)
}

// writable opens the file as an append would.
func (s *Sequencer) writable() error {
	f, err := openAppend(s.file)
	if err != nil {
		return fmt.Errorf("opening the audit log for writing: %w; nothing is allowed until it can be written", err)
	}
	return f.Close()
}

// work does one pass after another until ctx ends.
func (s *Sequencer) work(ctx context.Context) error {
	s.looked, s.synced, s.left = time.Time{}, false, nil
	for ctx.Err() == nil {
		// A pass that has begun is finished, also at shutdown.
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), passLimit)
		s.note(s.pass(limited))
		cancel()
		if !s.behind {
			s.pause(ctx)
		}
	}
	return nil
}

// pause waits for the next pass, or does a job.
func (s *Sequencer) pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(poll):
	case j := <-s.jobs:
		j.done <- j.do(context.WithoutCancel(ctx))
	case <-s.wake:
		sleep(ctx, gather)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// pass gives places to what was committed, brings the file up to the store and signs
// what it is then.
func (s *Sequencer) pass(ctx context.Context) error {
	fresh, more, err := s.sequence(ctx)
	if err == nil && (len(fresh) > 0 || time.Since(s.looked) > lookAfter) {
		err = s.complete(ctx, fresh)
	}
	if err == nil {
		err = s.mark(ctx, fresh)
	}
	if s.behind = more && err == nil; err != nil {
		s.looked, s.left = time.Time{}, nil // what failed may have been done
		return err
	}
	s.tend(ctx)
	return nil
}

// sequence gives committed entries their places, in the store only, and returns the
// lines that it made; there are more when they came faster than that. If we crash after
// it, the store knows the lines and the next pass writes them.
func (s *Sequencer) sequence(ctx context.Context) (fresh []Sequenced, more bool, err error) {
	for len(fresh) < atOnce*chunk && size(fresh) < 4*MaxBatch {
		lines, err := s.advance(ctx)
		if fresh = append(fresh, lines...); err != nil || len(lines) < chunk && size(lines) < MaxBatch {
			return fresh, false, err
		}
	}
	return fresh, true, nil
}

// advance gives the first entries their places. A commit that was under way when we
// looked may come to stand before what we saw: then we look again. The log does not
// fail by that, and on a busy machine it happens several times in a row.
func (s *Sequencer) advance(ctx context.Context) (lines []Sequenced, err error) {
	for range attempts {
		if lines, err = s.tryAdvance(ctx); !errors.Is(err, ErrMoved) {
			break
		}
	}
	return lines, err
}

func (s *Sequencer) tryAdvance(ctx context.Context) ([]Sequenced, error) {
	ids, entries, err := s.store.Unsequenced(ctx, chunk)
	if err != nil || len(ids) == 0 {
		return nil, storeErr("reading the committed entries", err)
	}
	seq, hash, err := s.store.Head(ctx)
	if err != nil {
		return nil, storeErr("reading the head", err)
	}
	lines := make([]Sequenced, len(ids))
	for i, entry := range entries {
		if lines[i], err = place(seq+1, hash, entry); err != nil {
			return nil, err
		}
		seq, hash = lines[i].Seq, lines[i].Hash
	}
	if err := s.store.SetSequenced(ctx, ids, lines); err != nil {
		return nil, storeErr("giving places to the entries", err)
	}
	return lines, nil
}

func size(lines []Sequenced) (n int) {
	for _, l := range lines {
		n += len(l.Line)
	}
	return n
}

// complete appends to the file what the store has and the file has not: fresh,
// when the file is as we left it and nothing else is missing.
func (s *Sequencer) complete(ctx context.Context, fresh []Sequenced) error {
	f, err := openAppend(s.file)
	if err != nil {
		return fmt.Errorf("opening the audit log: %w; nothing is allowed until it can be written", err)
	}
	defer f.Close()
	var last uint64
	if len(fresh) > 0 && fresh[0].Seq == s.last+1 && s.untouched(f) {
		last, err = s.append(f, s.last, fresh, nil)
	} else {
		last, err = s.mend(ctx, f)
		s.looked, s.began = time.Now(), time.Time{} // it may be another file
	}
	if err == nil {
		err = s.sync(f)
	}
	if err == nil {
		s.last = last
		s.left, err = f.Stat()
	}
	return err
}

// untouched reports whether the file is the one that we left, as we left it. We
// look at its end now and then all the same.
func (s *Sequencer) untouched(f *os.File) bool {
	if s.left == nil || time.Since(s.looked) > lookAfter {
		return false
	}
	now, err := f.Stat()
	return err == nil && os.SameFile(s.left, now) && s.left.Size() == now.Size() && s.left.ModTime().Equal(now.ModTime())
}

// catchUp finds where the file stands and appends what is missing, from the
// store. It returns the last line's number.
func (s *Sequencer) catchUp(ctx context.Context, f *os.File) (have uint64, err error) {
	have, torn, err := s.standing(ctx, f)
	if err != nil {
		return 0, err
	}
	for {
		lines, err := s.store.Lines(ctx, have+1, chunk)
		if err != nil {
			return 0, storeErr("reading the lines", err)
		}
		if len(lines) == 0 {
			break
		}
		if have, err = s.append(f, have, lines, torn); err != nil {
			return 0, err
		}
		torn = nil
	}
	if len(torn) > 0 {
		return 0, s.fault("after line %d, the store's last, it goes on with %.60q", have, torn)
	}
	return have, nil
}

// append writes the lines that follow line have, of which the file has torn
// already.
func (s *Sequencer) append(f *os.File, have uint64, lines []Sequenced, torn []byte) (last uint64, err error) {
	text, err := join(have, lines)
	if err != nil {
		return 0, err
	}
	missing, ok := bytes.CutPrefix(text, torn)
	if !ok {
		return 0, s.fault("after line %d it goes on with %.60q, which does not begin the store's line %d", have, torn, have+1)
	}
	s.synced = false
	if _, err := s.write(f, missing); err != nil {
		return 0, fmt.Errorf("appending to the audit log: %w; make room or repair the disk, it then goes on by itself", err)
	}
	return lines[len(lines)-1].Seq, nil
}

// sync makes the appended lines durable. After a crash before it the file may
// lack them or end in a part of them.
func (s *Sequencer) sync(f *os.File) error {
	if s.synced {
		return nil
	}
	if err := s.fsync(f); err != nil {
		return fmt.Errorf("syncing the audit log %s: %w; make room or repair the disk, it then goes on by itself", s.file, err)
	}
	s.synced = true
	return nil
}

// join makes the text of the lines that follow line have.
func join(have uint64, lines []Sequenced) ([]byte, error) {
	size := 0
	for _, l := range lines {
		size += len(l.Line) + 1
	}
	text := make([]byte, 0, size)
	for _, l := range lines {
		if have++; l.Seq != have {
			return nil, fmt.Errorf("sequencing the audit log: the store has no line %d, but line %d", have, l.Seq)
		}
		text = append(append(text, l.Line...), '\n')
	}
	return text, nil
}

// standing finds how far the file goes: the number of its last whole line, which
// must be the store's line of that number, and what a torn write left after it.
func (s *Sequencer) standing(ctx context.Context, f *os.File) (have uint64, torn []byte, err error) {
	last, torn, err := tail(f, 1)
	if err != nil {
		return 0, nil, fmt.Errorf("reading the end of the audit log %s: %w", s.file, err)
	}
	if len(last) == 0 {
		have, err = s.before(ctx)
	} else {
		have, err = s.asStored(ctx, s.file, last[0])
	}
	return have, torn, err
}

// before is the number of the last line that stands before the file: in the last segment,
// or removed.
func (s *Sequencer) before(ctx context.Context) (uint64, error) {
	stump, err := readStump(s.file, s.key)
	if err != nil {
		return 0, err
	}
	segments, err := Segments(s.file)
	if err != nil || len(segments) == 0 || segments[len(segments)-1].Last <= stump.Checkpoint.Size {
		return stump.Checkpoint.Size, err
	}
	segment := segments[len(segments)-1].File
	last, err := Tail(segment, 1)
	if err == nil && len(last) == 0 {
		err = fmt.Errorf("the audit log's segment %s is empty: move it away, and its lines are written again from the store", segment)
	}
	if err != nil {
		return 0, err
	}
	return s.asStored(ctx, segment, last[0])
}

// asStored reads the number of the last line of a file, which has to be the store's.
func (s *Sequencer) asStored(ctx context.Context, file string, line []byte) (have uint64, err error) {
	have, _, err = parseLine(line)
	if err != nil {
		return 0, faultIn(file, "its last whole line, %.60q, is not a line of the log: %v", line, err)
	}
	known, err := s.store.Lines(ctx, have, 1)
	switch {
	case err != nil:
		return 0, storeErr("reading the last line", err)
	case len(known) == 0 || known[0].Seq != have:
		return 0, faultIn(file, "it has line %d, which the store has not", have)
	case !bytes.Equal(known[0].Line, line):
		return 0, faultIn(file, "its line %d is not the store's: the sums are %s and %s", have,
			sum(sha256.Sum256(line)), sum(known[0].Hash))
	}
	return have, nil
}

func (s *Sequencer) fault(format string, args ...any) error { return faultIn(s.file, format, args...) }

// faultIn is what no crash explains. Nothing is written over it; the store has
// every line, so a file that is moved away is written again.
func faultIn(file, format string, args ...any) error {
	return &fault{file, fmt.Sprintf(format, args...)}
}

type fault struct{ file, what string }

func (f *fault) Error() string {
	return fmt.Sprintf("the audit log %s was changed from outside: %s; "+
		"nothing is allowed until somebody has looked: keep the file, move it away, and the log is written again from the store", f.file, f.what)
}
