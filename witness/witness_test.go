package witness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/store/sqlite"
)

// A growing log, with its sequencer at work.
type growing struct {
	t     *testing.T
	store *sqlite.Store
	key   *audit.Key
	file  string
	seq   *audit.Sequencer
}

func newLog(t *testing.T) *growing {
	t.Helper()
	dir := t.TempDir()
	key, err := audit.LoadOrCreateKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	return logWith(t, dir, key)
}

// logWith is another log of the same name.
func logWith(t *testing.T, dir string, key *audit.Key) *growing {
	t.Helper()
	store, err := sqlite.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	l := &growing{t, store, key, filepath.Join(dir, "audit.log.jsonl"), nil}
	l.seq = audit.NewSequencer(store, l.file, key, audit.Keeping{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.seq.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return l
}

// grow adds entries and waits for the checkpoint of all.
func (l *growing) grow(n int, detail string) audit.Tip {
	l.t.Helper()
	var b authz.Batch
	for range n {
		b.Entries = append(b.Entries, audit.Entry{TS: "2026-11-27T00:00:00.000Z", Event: "test", ActorType: "system", ActorID: "test", Detail: detail})
	}
	head, _, err := l.store.Head(l.t.Context())
	if err == nil {
		err = l.store.Commit(l.t.Context(), b)
	}
	if err != nil {
		l.t.Fatal(err)
	}
	l.seq.Wake()
	for range 1000 {
		if tip, err := audit.ReadTip(l.file, l.key.Public()); err == nil && tip.Size >= head+uint64(n) {
			return tip
		}
		time.Sleep(10 * time.Millisecond)
	}
	l.t.Fatal("no checkpoint within ten seconds")
	return audit.Tip{}
}

// A fake is a witness that does as it is told.
type fake struct {
	mu    sync.Mutex
	name  string
	fail  error
	sizes []uint64
}

func (f *fake) Name() string   { return f.name }
func (f *fake) target() string { return f.name }
func (f *fake) send(ctx context.Context, tip audit.Tip, _ uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail == nil {
		f.sizes = append(f.sizes, tip.Size)
	}
	return f.fail
}

func (f *fake) set(err error) { f.mu.Lock(); f.fail = err; f.mu.Unlock() }
func (f *fake) got() []uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]uint64{}, f.sizes...)
}

// news are the events that were recorded.
type news struct {
	mu   sync.Mutex
	list []string
}

func (n *news) add(format string, args ...any) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, fmt.Sprintf(format, args...))
	return nil
}

func (n *news) all() string { n.mu.Lock(); defer n.mu.Unlock(); return strings.Join(n.list, "; ") }

func keeperOf(l *growing, dir string, n *news, duties ...Duty) *Keeper {
	return &Keeper{
		Log: l.file, Key: l.key.Public(), Dir: dir, Duties: duties, Logger: zerolog.Nop(),
		Failed: func(_ context.Context, name, reason string) error { return n.add("%s failed: %s", name, reason) },
		Well:   func(_ context.Context, name string) error { return n.add("%s well", name) },
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for range 1000 {
		if is() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("not within ten seconds: %s", what)
}

// Two processes serve one witness as one: each checkpoint goes out once, and when it
// fails that is news once, and its end too.
func TestWitnessIsServedOnce(t *testing.T) {
	l, n, f, dir := newLog(t), &news{}, &fake{name: "w"}, filepath.Join(t.TempDir(), "notes")
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	for range 3 {
		k := keeperOf(l, dir, n, Duty{f, 20 * time.Millisecond})
		done.Go(func() { k.Serve(ctx) })
	}
	for i := range 3 {
		tip := l.grow(2, "x")
		eventually(t, "it has the checkpoint", func() bool { got := f.got(); return len(got) == i+1 && got[i] == tip.Size })
	}
	f.set(errors.New("no room"))
	l.grow(1, "x")
	eventually(t, "that it fails is known", func() bool { return n.all() == "w failed: no room" })
	time.Sleep(150 * time.Millisecond) // some attempts more
	f.set(nil)
	eventually(t, "that it is well is known", func() bool { return n.all() == "w failed: no room; w well" })
	cancel()
	done.Wait()
	if got := fmt.Sprint(f.got()); got != "[2 4 6 7]" {
		t.Errorf("sent were the sizes %s", got)
	}
	// What the note says is known to the next process as well.
	if sent, err := f.got(), keeperOf(l, dir, n).round(t.Context(), Duty{f, time.Nanosecond}); err != nil || len(f.got()) != len(sent) {
		t.Errorf("the next process sent it again: %v, %v", f.got(), err)
	}
}

// One that hangs holds up neither the others nor the end.
func TestOneThatHangs(t *testing.T) {
	l, n, f := newLog(t), &news{}, &fake{name: "w"}
	ctx, cancel := context.WithCancel(t.Context())
	k := keeperOf(l, t.TempDir(), n, Duty{hangs{}, time.Millisecond}, Duty{f, time.Millisecond})
	done := make(chan bool)
	go func() { k.Serve(ctx); close(done) }()
	tip := l.grow(1, "x")
	eventually(t, "the other has the checkpoint", func() bool { return len(f.got()) > 0 && f.got()[0] == tip.Size })
	cancel()
	<-done
	if n.all() != "" {
		t.Errorf("to be ended is no failure: %s", n.all())
	}
}

type hangs struct{}

func (hangs) Name() string   { return "hangs" }
func (hangs) target() string { return "hangs" }
func (hangs) send(ctx context.Context, _ audit.Tip, _ uint64) error {
	<-ctx.Done()
	return ctx.Err()
}

// A note that is damaged costs one sending, no more.
func TestDamagedNote(t *testing.T) {
	l, n, f := newLog(t), &news{}, &fake{name: "w"}
	l.grow(1, "x")
	k, d := keeperOf(l, t.TempDir(), n), Duty{f, time.Hour}
	for i, note := range []string{"", "{", "null", `{"failures":-9}`, strings.Repeat("x", 9<<10)} {
		if err := os.WriteFile(k.file(d, ".json"), []byte(note), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := k.round(t.Context(), d); err != nil || len(f.got()) != i+1 {
			t.Errorf("note %q: sent %v, %v", note, f.got(), err)
		}
	}
	if r, err := k.Now(t.Context(), d); err != nil || r.Err != nil || len(f.got()) != 6 {
		t.Errorf("asked for, it is sent again: %+v, %v, %v", r, err, f.got())
	}
}

// An attempt at one that fails comes ever later, but comes.
func TestOneThatFailsIsTriedMoreSeldom(t *testing.T) {
	d := Duty{&fake{}, time.Minute}
	for failures, want := range map[int]time.Duration{1: 5 * time.Second, 2: 10 * time.Second, 5: 80 * time.Second, 8: 10 * time.Minute, 1 << 40: 10 * time.Minute} {
		if got := (note{Failures: failures}).rest(d); got != want {
			t.Errorf("after %d failures %s, want %s", failures, got, want)
		}
	}
	if !(note{Failures: 3, Tried: time.Now().Add(time.Hour)}).due(d, 1) {
		t.Error("a clock that was put back keeps it from being tried")
	}
}
