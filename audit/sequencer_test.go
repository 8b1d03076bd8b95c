package audit

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/openleash/openleash-go/internal/durable"
)

// memory is a Store without a disk. fail, when set, is asked at each step: a
// step can fail, or fail although it was done.
type memory struct {
	mu      sync.Mutex
	pending [][]byte
	first   int64 // the id of pending[0]
	lines   []Sequenced
	seated  bool
	slow    time.Duration // that Drop takes for a line
	fail    func(step string) (before, after error)
}

var errInjected = errors.New("injected")

func (m *memory) step(name string, do func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var before, after error
	if m.fail != nil {
		before, after = m.fail(name)
	}
	if before != nil {
		return before
	}
	if err := do(); err != nil {
		return err
	}
	return after
}

func (m *memory) commit(entries ...[]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pending = append(m.pending, entries...)
}

func (m *memory) head() (seq uint64, hash [32]byte) {
	if n := len(m.lines); n > 0 {
		return m.lines[n-1].Seq, m.lines[n-1].Hash
	}
	return 0, hash
}

func (m *memory) Head(context.Context) (seq uint64, hash [32]byte, err error) {
	err = m.step("Head", func() error { seq, hash = m.head(); return nil })
	return seq, hash, err
}

func (m *memory) Unsequenced(_ context.Context, limit int) (ids []int64, entries [][]byte, err error) {
	err = m.step("Unsequenced", func() error {
		entries = slices.Clone(m.pending[:min(limit, len(m.pending))])
		for i := range entries {
			ids = append(ids, m.first+int64(i))
		}
		return nil
	})
	return ids, entries, err
}

func (m *memory) SetSequenced(_ context.Context, ids []int64, lines []Sequenced) error {
	return m.step("SetSequenced", func() error {
		seq, _ := m.head()
		if len(ids) == 0 || ids[0] != m.first || lines[0].Seq != seq+1 {
			return ErrMoved
		}
		m.lines = append(m.lines, lines...)
		m.pending = m.pending[len(ids):]
		m.first += int64(len(ids))
		return nil
	})
}

func (m *memory) Lines(_ context.Context, from uint64, limit int) (lines []Sequenced, err error) {
	err = m.step("Lines", func() error {
		at, _ := slices.BinarySearchFunc(m.lines, from, func(l Sequenced, seq uint64) int { return cmp.Compare(l.Seq, seq) })
		lines = slices.Clone(m.lines[at:min(at+limit, len(m.lines))])
		return nil
	})
	return lines, err
}

// Drop takes a moment for each line.
func (m *memory) Drop(_ context.Context, upto uint64) (all bool, err error) {
	err = m.step("Drop", func() error {
		if len(m.lines) > 1 && m.lines[0].Seq <= upto {
			m.lines = m.lines[1:]
			time.Sleep(m.slow)
		}
		all = len(m.lines) == 1 || m.lines[0].Seq > upto
		return nil
	})
	return all, err
}

func (m *memory) Restore(_ context.Context, lines []Sequenced) error {
	return m.step("Restore", func() error {
		m.lines = append(slices.Clone(lines), m.lines...)
		return nil
	})
}

func (m *memory) LockSequencer(context.Context) (release func(), ok bool, err error) {
	err = m.step("LockSequencer", func() error {
		ok = !m.seated
		m.seated = true
		return nil
	})
	if err != nil && ok { // failed, although it was done: the store gives the seat back
		m.mu.Lock()
		m.seated = false
		m.mu.Unlock()
		ok = false
	}
	return func() { m.mu.Lock(); m.seated = false; m.mu.Unlock() }, ok, err
}

// run starts a sequencer and returns what stops it, as a shutdown does.
func run(t *testing.T, s *Sequencer) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return sync.OnceValue(func() error { cancel(); return <-done })
}

// once runs a sequencer for as long as a start and a shutdown take.
func once(t *testing.T, store Store, path string) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return NewSequencer(store, path, testKey, Keeping{}).Run(ctx)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not after 20 s: %s", what)
}

// complete reports whether the file is exactly the store's lines.
func complete(m *memory, path string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	got, err := os.ReadFile(path)
	return err == nil && len(m.pending) == 0 && string(got) == strings.TrimPrefix(file(text(m.lines)), "\n")
}

// whole fails the test unless the file is the store's n lines and verifies.
func whole(t *testing.T, m *memory, path string, n int) {
	t.Helper()
	if !complete(m, path) {
		got, err := os.ReadFile(path)
		t.Fatalf("the file is not what the store has (%v, %d entries wait):\ngot\n%s\nwant\n%s", err, len(m.pending), got, file(text(m.lines)))
	}
	seq, hash := m.head()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Verify(bytes.NewReader(got), seq, sum(hash))
	if err != nil || r.Faults != nil || r.Entries != uint64(n) {
		t.Fatalf("Verify: %+v, %v, want %d entries", r, err, n)
	}
	marked(t, m, path)
}

func newLog(t *testing.T, n int) (*memory, string) {
	m := &memory{first: 1}
	for i := range n {
		m.commit(entry(t, i+1))
	}
	return m, filepath.Join(t.TempDir(), "audit.log.jsonl")
}

func TestSequencerKeepsUp(t *testing.T) {
	m, path := newLog(t, 3)
	s := NewSequencer(m, path, testKey, Keeping{})
	stop := run(t, s)
	eventually(t, "three lines", func() bool { return complete(m, path) })

	m.commit(entry(t, 4))
	s.Wake()
	began := time.Now()
	eventually(t, "the fourth line after a Wake", func() bool { return complete(m, path) })
	m.commit(entry(t, 5)) // as another process does: nobody wakes us
	eventually(t, "the fifth line", func() bool { return complete(m, path) })
	t.Logf("two lines in %v", time.Since(began))

	m.commit(entry(t, 6))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	whole(t, m, path, 6) // the last one at shutdown
	if err := s.Err(); err != nil {
		t.Errorf("Err() = %v", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" && info.Mode() != 0o600 {
		t.Errorf("the file has mode %v, want 0600", info.Mode())
	}
}

func TestSequencerManyEntries(t *testing.T) {
	const n = 3*chunk + 7
	m, path := newLog(t, n)
	if err := once(t, m, path); err != nil {
		t.Fatal(err)
	}
	whole(t, m, path, n)
	os.Remove(path)
	if err := once(t, m, path); err != nil { // the file is lost: the store writes it again
		t.Fatal(err)
	}
	whole(t, m, path, n)
}

// However fast entries come, the file has them soon: a pass takes so many, and the next
// the rest.
func TestSequencerTakesSoManyAtOnce(t *testing.T) {
	m, path := newLog(t, chunk)
	s := NewSequencer(m, path, testKey, Keeping{})
	e, given := entry(t, 1), 0
	m.fail = func(step string) (error, error) {
		if step == "SetSequenced" && given < 3*atOnce {
			given++
			for range chunk {
				m.pending = append(m.pending, e)
			}
		}
		return nil, nil
	}
	err := s.sit(t.Context(), func(ctx context.Context) error {
		err := s.pass(ctx)
		if c := checkpointOf(t, path); c.Size != atOnce*chunk || !s.behind {
			t.Errorf("after a pass %d lines are in the file, want %d, and that there are more", c.Size, atOnce*chunk)
		}
		return errors.Join(err, s.finish(ctx))
	})
	if err != nil || s.behind {
		t.Fatal(err)
	}
	whole(t, m, path, (1+3*atOnce)*chunk)
}

// Each step fails, or fails although it was done, or is done in part; the
// process goes on or crashes. The file is then what the store has.
func TestSequencerRecovers(t *testing.T) {
	type fault struct {
		step string
		mode string // failed, persisted, torn
	}
	var faults []fault
	for _, step := range []string{"LockSequencer", "Unsequenced", "Head", "SetSequenced", "Lines", "write", "fsync", "tree", "checkpoint"} {
		faults = append(faults, fault{step, "failed"}, fault{step, "persisted"})
	}
	faults = append(faults, fault{"write", "torn"}, fault{"tree", "torn"}, fault{"checkpoint", "torn"})
	for _, f := range faults {
		for _, crash := range []bool{false, true} {
			for nth := 1; nth <= 3; nth++ { // which call of the step it hits
				t.Run(fmt.Sprintf("%s %s, crash %v, call %d", f.step, f.mode, crash, nth), func(t *testing.T) {
					m, path := newLog(t, 2)
					if err := once(t, m, path); err != nil {
						t.Fatal(err)
					}
					s := NewSequencer(m, path, testKey, Keeping{})
					in := &injector{step: f.step, mode: f.mode, nth: nth}
					in.into(m, s)
					m.commit(entry(t, 3), entry(t, 4))
					passes(t, s, m, 2)
					m.commit(entry(t, 5))
					if crash {
						in.nth = 0
						s = NewSequencer(m, path, testKey, Keeping{})
					}
					passes(t, s, m, 4)
					if !in.hit && nth == 1 {
						t.Error("the step was never called")
					}
					whole(t, m, path, 5)
					if err := s.Err(); err != nil {
						t.Errorf("Err() = %v after recovery", err)
					}
				})
			}
		}
	}
}

// passes does what Run does, n times, as fast as it can.
func passes(t *testing.T, s *Sequencer, m *memory, n int) {
	t.Helper()
	for range n {
		s.note(s.sit(t.Context(), s.pass))
	}
}

// An injector lets the nth call of one step fail.
type injector struct {
	step, mode string
	nth        int
	hit        bool
}

func (in *injector) now(step string) bool {
	if step != in.step || in.nth == 0 {
		return false
	}
	in.nth--
	in.hit = in.hit || in.nth == 0
	return in.nth == 0
}

func (in *injector) into(m *memory, s *Sequencer) {
	m.fail = func(step string) (before, after error) {
		switch {
		case !in.now(step):
			return nil, nil
		case in.mode == "persisted":
			return nil, errInjected
		}
		return errInjected, nil
	}
	part := func(b []byte) []byte {
		return b[:map[string]int{"failed": 0, "torn": len(b) / 3, "persisted": len(b)}[in.mode]]
	}
	s.write = func(f *os.File, b []byte) (int, error) {
		if !in.now("write") {
			return f.Write(b)
		}
		n, err := f.Write(part(b))
		return n, errors.Join(err, errInjected)
	}
	s.writeAt = func(f *os.File, b []byte, at int64) (int, error) {
		if !in.now("tree") {
			return f.WriteAt(b, at)
		}
		n, err := f.WriteAt(part(b), at)
		return n, errors.Join(err, errInjected)
	}
	s.replace = func(file string, text []byte) error {
		switch {
		case !in.now("checkpoint"):
			return replace(file, text)
		case in.mode == "persisted":
			return errors.Join(replace(file, text), errInjected)
		case in.mode == "torn": // it is renamed only when it is whole
			return errors.Join(os.WriteFile(file+".new", part(text), 0o600), errInjected)
		}
		return errInjected
	}
	s.rename = func(from, to string) error {
		switch {
		case !in.now("rename"):
			return durable.Replace(from, to)
		case in.mode == "persisted":
			return errors.Join(durable.Replace(from, to), errInjected)
		}
		return errInjected
	}
	s.remove = func(file string) error {
		switch {
		case !in.now("remove"):
			return os.Remove(file)
		case in.mode == "persisted":
			return errors.Join(os.Remove(file), errInjected)
		}
		return errInjected
	}
	s.fsync = func(f *os.File) error {
		if !in.now("fsync") {
			return f.Sync()
		}
		if in.mode == "persisted" {
			f.Sync()
		}
		return errInjected
	}
}

// A failed write or sync must stop decisions at once; a busy store only when it lasts.
func TestSequencerReportsFailure(t *testing.T) {
	for _, step := range []string{"write", "fsync", "tree", "checkpoint"} {
		m, path := newLog(t, 1)
		s := NewSequencer(m, path, testKey, Keeping{})
		(&injector{step: step, mode: "failed", nth: 1}).into(m, s)
		passes(t, s, m, 1)
		if err := s.Err(); !errors.Is(err, errInjected) {
			t.Errorf("%s: Err() = %v, want the injected error", step, err)
		}
		passes(t, s, m, 1)
		if err := s.Err(); err != nil {
			t.Errorf("%s: Err() = %v after it went well again", step, err)
		}
	}
	m, path := newLog(t, 1)
	s := NewSequencer(m, path, testKey, Keeping{})
	m.fail = func(string) (error, error) { return errInjected, nil }
	passes(t, s, m, 1)
	if err := s.Err(); err != nil {
		t.Errorf("a busy store: Err() = %v", err)
	}
	s.failing = s.failing.Add(-grace)
	passes(t, s, m, 1)
	if err := s.Err(); !errors.Is(err, errInjected) {
		t.Errorf("a store that stays away: Err() = %v, want the injected error", err)
	}
}

// Commits that were under way when it looked do not make the log fail.
func TestSequencerLooksAgain(t *testing.T) {
	m, path := newLog(t, 1)
	s := NewSequencer(m, path, testKey, Keeping{})
	moved := attempts - 1
	m.fail = func(step string) (before, after error) {
		if step == "SetSequenced" && moved > 0 {
			moved--
			return ErrMoved, nil
		}
		return nil, nil
	}
	if err := s.pass(t.Context()); err != nil || !complete(m, path) {
		t.Errorf("after it moved %d times: %v", attempts-1, err)
	}
	m.commit([]byte(`{"event":"test"}`))
	moved = attempts
	if err := s.pass(t.Context()); !errors.Is(err, ErrMoved) {
		t.Errorf("after it moved %d times: %v, want that it fails", attempts, err)
	}
}

// A crash may cut the file at any byte.
func TestSequencerCompletesTornFile(t *testing.T) {
	m, path := newLog(t, 3)
	if err := once(t, m, path); err != nil {
		t.Fatal(err)
	}
	full, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range full {
		if err := os.WriteFile(path, full[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		s := NewSequencer(m, path, testKey, Keeping{})
		if passes(t, s, m, 1); s.Err() != nil {
			t.Fatalf("cut at %d: %v", cut, s.Err())
		}
		whole(t, m, path, 3)
	}
}

// powered is the log's file on a disk: what was synced, and blocks that were not.
type powered struct {
	*memory
	path   string
	synced []byte
	off    bool // from now on nothing reaches the disk
}

const sector = 64 // bytes; small, so that a line has several

func (p *powered) into(s *Sequencer) {
	s.fsync = func(f *os.File) error {
		if p.off {
			return errInjected
		}
		if f.Name() == p.path {
			p.synced = read(p.path)
		}
		return nil
	}
}

// lose leaves of what was not synced any blocks, and zeros for those before the last.
func (p *powered) lose(t *testing.T, r *rand.Rand) {
	now := read(p.path)
	left := slices.Clone(p.synced)
	for at := len(left); at < len(now); {
		end := min(len(now), (at/sector+1)*sector)
		switch r.IntN(3) {
		case 0:
			at = len(now) // the rest was not even made
		case 1:
			left = append(left, make([]byte, end-at)...)
			at = end
		default:
			left = append(left, now[at:end]...)
			at = end
		}
	}
	if err := os.WriteFile(p.path, left, 0o600); err != nil {
		t.Fatal(err)
	}
	p.synced = left
}

// powerLoss sequences at random and loses the power now and then. It reports what could
// not be gone on with.
func powerLoss(t *testing.T, seed uint64) error {
	r := rand.New(rand.NewPCG(seed, 1))
	m, path := newLog(t, 0)
	p := &powered{memory: m, path: path}
	for n, round := 0, 0; round < 12; round++ {
		s := NewSequencer(m, path, testKey, Keeping{})
		p.into(s)
		for range 1 + r.IntN(3) {
			for range 1 + r.IntN(3) {
				n++
				m.commit(entry(t, n))
			}
			p.off = r.IntN(3) == 0
			passes(t, s, m, 1)
			if p.off {
				break
			}
			if err := s.Err(); err != nil {
				return err
			}
		}
		p.off = false
		p.lose(t, r)
	}
	s := NewSequencer(m, path, testKey, Keeping{})
	passes(t, s, m, 2)
	if err := s.Err(); err != nil {
		return err
	}
	whole(t, m, path, len(m.lines))
	return nil
}

// Whatever the disk makes of what was not synced, the log is as it was, without anybody
// having to look.
func TestSequencerPowerLoss(t *testing.T) {
	for seed := range uint64(40) {
		if err := powerLoss(t, seed); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// What no crash explains is reported and left as it is.
func TestSequencerReportsTampering(t *testing.T) {
	m, path := newLog(t, 3)
	if err := once(t, m, path); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	ahead, err := place(4, m.lines[2].Hash, entry(t, 99))
	if err != nil {
		t.Fatal(err)
	}
	cut := bytes.LastIndexByte(good[:len(good)-1], '\n') + 1
	tests := []struct{ name, file, want string }{
		{"ahead", string(good) + string(ahead.Line) + "\n", "it has line 4, which the store has not"},
		{"torn ahead", string(good) + string(ahead.Line[:9]), "after line 3, the store's last"},
		{"last line edited", strings.Replace(string(good), "number 3", "number 4", 1), "its line 3 is not the store's"},
		{"not a line", string(good) + "hello\n", `"hello", is not a line of the log`},
		{"torn otherwise", string(good[:cut]) + `{"seq":3,"prev":"x`, "which does not begin the store's line 3"},
		{"zeros beyond it", string(good) + "\x00\x00\x00", "after line 3, the store's last"},
		{"zeros and more", string(good[:cut]) + "\x00\x00x", "which does not begin the store's line 3"},
		{"another file", "x", "which does not begin the store's line 1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if err := os.WriteFile(path, []byte(test.file), 0o600); err != nil {
				t.Fatal(err)
			}
			s := NewSequencer(m, path, testKey, Keeping{})
			stop := run(t, s)
			defer stop()
			eventually(t, "a fault", func() bool { return s.Err() != nil })
			for _, want := range []string{test.want, path, "move it away"} {
				if !strings.Contains(s.Err().Error(), want) {
					t.Errorf("Err() = %v\nwant it to say %q", s.Err(), want)
				}
			}
			time.Sleep(2 * poll)
			if got, _ := os.ReadFile(path); string(got) != test.file {
				t.Errorf("the file was written over: %q", got)
			}
			if err := os.Rename(path, path+".kept"); err != nil { // what the message says to do
				t.Fatal(err)
			}
			eventually(t, "the log written again", func() bool { return s.Err() == nil && complete(m, path) })
		})
	}
}

func TestSequencerUnwritable(t *testing.T) {
	m, path := newLog(t, 1)
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	s := NewSequencer(m, path, testKey, Keeping{})
	if err := s.Err(); err == nil || !strings.Contains(err.Error(), path) {
		t.Fatalf("before Run: Err() = %v, want one that names %s", err, path)
	}
	stop := run(t, s)
	defer stop()
	time.Sleep(2 * poll)
	if s.Err() == nil {
		t.Fatal("Err() = nil while a folder is in the file's place")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "recovery", func() bool { return s.Err() == nil && complete(m, path) })
}

func TestSequencerDiskFull(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Log("only Linux has /dev/full; TestSequencerRecovers lets the write fail elsewhere")
		return
	}
	m, path := newLog(t, 1)
	if err := os.Symlink("/dev/full", path); err != nil {
		t.Fatal(err)
	}
	s := NewSequencer(m, path, testKey, Keeping{})
	stop := run(t, s)
	defer stop()
	eventually(t, "a full disk", func() bool { return errors.Is(s.Err(), syscall.ENOSPC) })
	if !strings.Contains(s.Err().Error(), "make room") {
		t.Errorf("Err() = %v", s.Err())
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "recovery", func() bool { return s.Err() == nil && complete(m, path) })
}

// A log that is deleted under a running sequencer comes back.
func TestSequencerLogDeleted(t *testing.T) {
	m, path := newLog(t, 2)
	s := NewSequencer(m, path, testKey, Keeping{})
	stop := run(t, s)
	defer stop()
	eventually(t, "two lines", func() bool { return complete(m, path) })
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	m.commit(entry(t, 3))
	eventually(t, "three lines", func() bool { return complete(m, path) })
	if err := stop(); err != nil { // with a checkpoint of them
		t.Fatal(err)
	}
	whole(t, m, path, 3)
}

// A file that is as it was left is not read again, nor is the store; one that was
// touched, however little, is.
func TestSequencerGoesOn(t *testing.T) {
	m, path := newLog(t, 2)
	s := NewSequencer(m, path, testKey, Keeping{})
	pass := func() { s.note(s.pass(t.Context())) } // always in the same seat
	defer s.leaveTree()
	pass()
	lines := 0
	m.fail = func(step string) (error, error) {
		if step == "Lines" {
			lines++
		}
		return nil, nil
	}
	for n := range 5 {
		m.commit(entry(t, 3+2*n), entry(t, 4+2*n))
		pass()
	}
	if lines > 0 {
		t.Errorf("the store was asked %d times for lines that were at hand", lines)
	}
	whole(t, m, path, 12)
	for name, change := range map[string]func([]byte) []byte{
		"edited":  func(b []byte) []byte { b[len(b)-10] ^= 1; return b },
		"longer":  func(b []byte) []byte { return append(b, 'x') },
		"shorter": func(b []byte) []byte { return b[:len(b)-5] },
	} {
		s := NewSequencer(m, path, testKey, Keeping{})
		passes(t, s, m, 1)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, change(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Now(), time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		m.commit(entry(t, 99))
		passes(t, s, m, 1)
		if name == "shorter" { // as after a crash: completed
			whole(t, m, path, len(m.lines))
		} else if s.Err() == nil {
			t.Errorf("%s: nothing was said", name)
		}
		if err := os.Remove(path); err != nil { // the store writes it again
			t.Fatal(err)
		}
		if err := once(t, m, path); err != nil {
			t.Fatal(err)
		}
		whole(t, m, path, len(m.lines))
	}
}

func TestSequencersAtOnce(t *testing.T) {
	m, path := newLog(t, 0)
	var stops []func() error
	for range 3 {
		stops = append(stops, run(t, NewSequencer(m, path, testKey, Keeping{})))
	}
	for i := range 60 {
		m.commit(entry(t, i+1))
		time.Sleep(2 * time.Millisecond)
	}
	for i, stop := range stops { // one after the other: the rest takes over
		m.commit(entry(t, 61+i))
		if err := stop(); err != nil {
			t.Error(err)
		}
	}
	whole(t, m, path, 63)
}

// Without the seat there is no work, but a broken log must show.
func TestSequencerWithoutSeat(t *testing.T) {
	m, path := newLog(t, 1)
	m.seated = true
	s := NewSequencer(m, path, testKey, Keeping{})
	passes(t, s, m, 1)
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(path); len(got) > 0 || len(m.lines) > 0 {
		t.Errorf("wrote %q without the seat", got)
	}
	os.Remove(path)
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	s.looked = s.looked.Add(-lookAfter)
	if passes(t, s, m, 1); s.Err() == nil {
		t.Error("Err() = nil though the file cannot be written")
	}
	os.Remove(path)
	if passes(t, s, m, 1); s.Err() != nil {
		t.Errorf("Err() = %v though the file can be written again", s.Err())
	}
}

func TestTail(t *testing.T) {
	long := strings.Repeat("x", 10000)
	tests := []struct {
		name, file string
		n          int
		want       []string
	}{
		{"empty", "", 3, nil},
		{"none", "a\nb\n", 0, nil},
		{"negative", "a\nb\n", -1, nil},
		{"one", "a\nb\n", 1, []string{"b"}},
		{"all", "a\nb\n", 2, []string{"a", "b"}},
		{"more than there are", "a\nb\n", 9, []string{"a", "b"}},
		{"torn", "a\nb\nc", 1, []string{"b"}},
		{"only torn", "c", 1, nil},
		{"empty lines", "\n\na\n", 9, []string{"", "", "a"}},
		{"long lines", long + "1\n" + long + "2\n" + long + "3\n", 2, []string{long + "2", long + "3"}},
		{"long torn", long + "1\n" + long, 1, []string{long + "1"}},
	}
	for _, test := range tests {
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, []byte(test.file), 0o600); err != nil {
			t.Fatal(err)
		}
		lines, err := Tail(path, test.n)
		var got []string
		for _, l := range lines {
			got = append(got, string(l))
		}
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%s: Tail = %.60q, %v, want %.60q", test.name, got, err, test.want)
		}
	}
	if _, err := Tail(filepath.Join(t.TempDir(), "none"), 1); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestTailBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, make([]byte, 3*maxLine), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Tail(path, 1); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("got %v", err)
	}
}

func BenchmarkSequencer(b *testing.B) {
	m := &memory{first: 1}
	path := filepath.Join(b.TempDir(), "log")
	s := NewSequencer(m, path, testKey, Keeping{})
	e := entry(b, 1)
	for b.Loop() {
		m.commit(e)
		if err := s.pass(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
