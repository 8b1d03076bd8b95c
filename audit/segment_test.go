package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// A keeper keeps a log in segments of a few lines, as fast as it can.
type keeper struct {
	t       *testing.T
	m       *memory
	path    string
	s       *Sequencer
	n       int      // entries so far
	removed []string // what was recorded of removals
	warned  []error
	all     []Sequenced // also what was removed
	keep    time.Duration
}

const shortSegment = 700

func newKeeper(t *testing.T) *keeper {
	k := &keeper{t: t}
	k.m, k.path = newLog(t, 0)
	k.start()
	return k
}

// start is a process that begins.
func (k *keeper) start() {
	k.s = NewSequencer(k.m, k.path, testKey, Keeping{MaxBytes: shortSegment, Keep: k.keep, Removing: k.record, Warn: func(err error) { k.warned = append(k.warned, err) }})
}

func (k *keeper) record(_ context.Context, first, last uint64) error {
	return k.m.step("Removing", func() error { k.removed = append(k.removed, fmt.Sprintf("%d-%d", first, last)); return nil })
}

// entryAt is an entry of a time.
func (k *keeper) entryAt(at time.Time) []byte {
	k.n++
	b, err := Encode(Entry{TS: at.UTC().Format(time.RFC3339Nano), Event: "test", ActorType: "system", ActorID: "test", Detail: fmt.Sprintf("number %d", k.n)})
	if err != nil {
		k.t.Fatal(err)
	}
	return b
}

// add commits some entries of a time, two for each pass.
func (k *keeper) add(n int, at time.Time) {
	k.t.Helper()
	for i := range n {
		k.m.commit(k.entryAt(at))
		if i%2 == 1 || i == n-1 {
			k.pass()
		}
	}
}

func (k *keeper) pass() {
	k.t.Helper()
	before, _ := k.m.head()
	k.s.tended, k.s.failed = time.Time{}, time.Time{}
	passes(k.t, k.s, k.m, 1)
	for _, l := range k.m.lines {
		if l.Seq > before {
			k.all = append(k.all, l)
		}
	}
}

func (k *keeper) segments() []Segment {
	k.t.Helper()
	list, err := Segments(k.path)
	if err != nil {
		k.t.Fatal(err)
	}
	return list
}

func (k *keeper) files() []string {
	k.t.Helper()
	files, err := Files(k.path)
	if err != nil {
		k.t.Fatal(err)
	}
	return files
}

// whole fails the test unless the files have exactly the store's lines, and verify against
// a checkpoint of them; each line has a receipt.
func (k *keeper) whole() Report {
	k.t.Helper()
	var text []byte
	for _, f := range k.files() {
		text = append(text, read(f)...)
	}
	var want []byte
	for _, l := range k.m.lines {
		want = append(append(want, l.Line...), '\n')
	}
	if !bytes.Equal(text, want) {
		k.t.Fatalf("the files %v have\n%.2000s\nwant\n%.2000s", k.files(), text, want)
	}
	r := k.verify()
	if len(r.Faults) > 0 || r.Entries != uint64(len(k.m.lines)) || r.Removed != k.m.lines[0].Seq-1 {
		k.t.Fatalf("%+v, of %d lines from %d on", r, len(k.m.lines), k.m.lines[0].Seq)
	}
	c := checkpointOf(k.t, k.path)
	if c.Size != uint64(k.n) || c.Root != rootOf(k.all) {
		k.t.Fatalf("the checkpoint is of %d lines, want that of %d", c.Size, k.n)
	}
	for _, l := range k.m.lines {
		receipt, err := Prove(k.path, l, testKey.Public())
		if err == nil {
			_, err = OpenReceipt(receipt, testKey.Public())
		}
		if err != nil {
			k.t.Fatal(err)
		}
	}
	return r
}

// verify does what an auditor does with all the files.
func (k *keeper) verify() Report {
	k.t.Helper()
	var stumps []Stump
	if text := read(StumpFile(k.path)); text != nil {
		s, err := OpenStump(text, testKey.Public())
		if err != nil {
			k.t.Fatal(err)
		}
		stumps = append(stumps, s)
	}
	known := []Checkpoint{checkpointOf(k.t, k.path)}
	for _, s := range k.segments() {
		if c, err := OpenCheckpoint(read(CheckpointFile(s.File)), testKey.Public()); err == nil {
			known = append(known, c)
		}
	}
	files := k.files()
	slices.Reverse(files) // in whatever order they are given
	r, err := VerifyFiles(files, stumps, 0, "", known...)
	if err != nil {
		k.t.Fatal(err)
	}
	return r
}

func TestSegments(t *testing.T) {
	k := newKeeper(t)
	k.add(20, time.Now())
	if n := len(k.segments()); n < 5 {
		t.Fatalf("%d segments of 20 lines", n)
	}
	k.whole()
	next := uint64(1)
	for _, s := range k.segments() {
		c, err := OpenCheckpoint(read(CheckpointFile(s.File)), testKey.Public())
		if err != nil || c.Size != s.Last || c.Root != rootOf(k.all[:s.Last]) || s.First != next {
			t.Errorf("segment %+v: checkpoint %+v, %v", s, c, err)
		}
		next = s.Last + 1
	}
	last := k.all[len(k.all)-1]
	if end, err := End(k.path); err != nil || !bytes.Equal(end, last.Line) {
		t.Errorf("End: %s, %v", end, err)
	}
	if k.warned != nil || k.removed != nil {
		t.Errorf("warned of %v, removed %v", k.warned, k.removed)
	}
}

// The file is closed by its first entry's age, also when it is short.
func TestSegmentsByAge(t *testing.T) {
	k := newKeeper(t)
	k.s.keeping = Keeping{MaxAge: time.Hour, Warn: k.s.keeping.Warn}
	k.add(2, time.Now())
	if list := k.segments(); list != nil {
		t.Fatalf("closed before its time: %v", list)
	}
	k = newKeeper(t)
	k.s.keeping = Keeping{MaxAge: time.Hour, Warn: k.s.keeping.Warn}
	k.add(1, time.Now().Add(-2*time.Hour))
	if list := k.segments(); len(list) != 1 {
		t.Fatalf("segments: %v, want one", list)
	}
	k.add(1, time.Now())
	if list := k.segments(); len(list) != 1 {
		t.Fatalf("segments: %v, want one: the next has just begun", list)
	}
	k.whole()
}

var longAgo = time.Now().Add(-1000 * time.Hour)

// aged keeps a log whose first segments are old, for a while only.
func aged(t *testing.T) *keeper {
	k := newKeeper(t)
	k.add(8, longAgo)
	k.add(4, time.Now())
	for _, s := range k.segments() {
		if err := os.Chtimes(s.File, longAgo, longAgo); err != nil {
			t.Fatal(err)
		}
	}
	k.keep = 500 * time.Hour
	k.start()
	return k
}

func TestRetention(t *testing.T) {
	k := aged(t)
	before := k.segments()
	k.pass()
	stump, err := OpenStump(read(StumpFile(k.path)), testKey.Public())
	if err != nil || len(k.removed) == 0 {
		t.Fatalf("removed %v; %v; %v", k.removed, err, k.warned)
	}
	gone := before[len(k.removed)-1]
	if stump.Checkpoint.Size != gone.Last || stump.Checkpoint.Root != rootOf(k.all[:gone.Last]) || k.m.lines[0].Seq != gone.Last+1 {
		t.Errorf("the stump is of %+v, the store begins with %d, want both after %d", stump.Checkpoint, k.m.lines[0].Seq, gone.Last)
	}
	if _, err := os.Stat(gone.File); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there", gone.File)
	}
	if _, err := os.Stat(CheckpointFile(gone.File)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the checkpoint of %s is still there", gone.File)
	}
	for _, l := range k.m.lines {
		if at, _ := timeOf(l.Line); at.Before(longAgo.Add(time.Hour)) && l.Seq > before[len(k.removed)].Last {
			t.Errorf("line %d should be gone", l.Seq)
		}
	}
	k.whole()
	k.add(9, time.Now())
	k.whole()
}

// The stump is on the disk before the store forgets what it stands for, and before the
// segment goes; what it says is nowhere else.
func TestStumpComesFirst(t *testing.T) {
	k := aged(t)
	var order []string
	step := func(what, file string) {
		order = append(order, what+" "+strings.TrimPrefix(filepath.Ext(strings.TrimSuffix(file, ".new")), "."))
	}
	k.s.fsync = func(f *os.File) error { step("sync", f.Name()); return f.Sync() }
	k.s.rename = func(from, to string) error { step("rename", to); return os.Rename(from, to) }
	k.s.remove = func(file string) error { step("remove", file); return os.Remove(file) }
	k.m.fail = func(name string) (error, error) {
		if name == "Removing" || name == "Drop" {
			order = append(order, name)
		}
		return nil, nil
	}
	k.s.tended = time.Time{}
	passes(t, k.s, k.m, 1)
	want := []string{"Removing", "sync stump", "rename stump", "Drop", "remove checkpoint", "remove jsonl"}
	if got := slices.Compact(order[slices.Index(order, "Removing"):]); !slices.Equal(got[:len(want)], want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Where the store takes its time to forget, the log goes on meanwhile.
func TestRetentionTakesNoTime(t *testing.T) {
	k := aged(t)
	k.m.slow = poll
	passes := 0
	for ; passes < 20 && len(k.segments()) > 1 && k.m.lines[0].Seq < 8; passes++ {
		before := len(k.m.lines)
		k.add(1, time.Now())
		if len(k.m.lines) < before-1 { // the end of one segment, and the first of the next
			t.Fatalf("%d lines were forgotten between two passes", before+1-len(k.m.lines))
		}
	}
	if passes < 4 || len(k.removed) == 0 {
		t.Errorf("%d passes, removed %v: this test shows nothing", passes, k.removed)
	}
	k.m.slow = 0
	eventually(t, "the old segments gone", func() bool { k.pass(); return k.segments()[0].First == 9 && k.m.lines[0].Seq == 9 })
	k.whole()
}

// What is young, or has lain here for a short time only, stays.
func TestRetentionKeeps(t *testing.T) {
	k := aged(t)
	for _, s := range k.segments() {
		if err := os.Chtimes(s.File, time.Now(), time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if k.pass(); k.removed != nil {
		t.Errorf("removed %v, which was put there just now", k.removed)
	}
	k = aged(t)
	k.m.fail = func(step string) (before, after error) {
		if step == "Removing" {
			return errInjected, nil
		}
		return nil, nil
	}
	if k.pass(); read(StumpFile(k.path)) != nil || k.m.lines[0].Seq != 1 || len(k.warned) == 0 || k.s.Err() != nil {
		t.Errorf("removed although it could not be recorded; warned of %v, Err %v", k.warned, k.s.Err())
	}
	k.whole()
	k = newKeeper(t)
	k.add(4, longAgo) // the last of them, which the store needs
	for _, f := range k.files() {
		os.Chtimes(f, longAgo, longAgo)
	}
	k.keep = time.Hour
	k.start()
	k.pass()
	k.pass()
	k.whole()
}

// Each step of closing and removing fails, or fails although it was done; the process goes
// on or crashes. Nothing of the log is lost, and it ends as if nothing had been.
func TestSegmentsRecover(t *testing.T) {
	for _, step := range []string{"checkpoint", "rename", "Removing", "fsync", "write", "Drop", "remove", "Lines"} {
		for _, mode := range []string{"failed", "persisted"} {
			for _, crash := range []bool{false, true} {
				for nth := 1; nth <= 4; nth++ {
					t.Run(fmt.Sprintf("%s %s, crash %v, call %d", step, mode, crash, nth), func(t *testing.T) {
						t.Parallel()
						k := aged(t)
						in := &injector{step: step, mode: mode, nth: nth}
						in.into(k.m, k.s)
						for range 4 {
							k.add(1, time.Now())
							if in.hit && crash {
								in.nth = 0
								k.start()
							}
						}
						in.nth = 0
						k.start()
						k.pass()
						k.pass()
						if !in.hit && nth == 1 {
							t.Error("the step was never called")
						}
						if err := k.s.Err(); err != nil {
							t.Fatal(err)
						}
						if k.whole().Removed == 0 {
							t.Error("nothing was removed in the end")
						}
					})
				}
			}
		}
	}
}

// A stump replaces the lines also where the tree is gone, or the file itself.
func TestTreeIsMadeAgainFromTheStump(t *testing.T) {
	for what, spoil := range map[string]func(k *keeper) error{
		"no tree":         func(k *keeper) error { return os.Remove(TreeFile(k.path)) },
		"a tree of zeros": func(k *keeper) error { return os.WriteFile(TreeFile(k.path), make([]byte, 5000), 0o600) },
		"no checkpoint":   func(k *keeper) error { return os.Remove(CheckpointFile(k.path)) },
		"neither": func(k *keeper) error {
			return errors.Join(os.Remove(TreeFile(k.path)), os.Remove(CheckpointFile(k.path)))
		},
		"no file":           func(k *keeper) error { return os.Remove(k.path) },
		"the last segment":  func(k *keeper) error { s := k.segments(); return os.Remove(s[len(s)-1].File) },
		"no stump but tree": func(k *keeper) error { return nil },
	} {
		t.Run(what, func(t *testing.T) {
			k := aged(t)
			k.pass()
			k.add(1, time.Now())
			if err := spoil(k); err != nil {
				t.Fatal(err)
			}
			k.start()
			k.pass()
			if what == "the last segment" { // it is the middle of the log: its lines are written again only after the file is moved away
				if r := k.verify(); len(r.Faults) != 1 || !strings.Contains(r.Faults[0].Reason, "missing before this line") {
					t.Errorf("%v", r.Faults)
				}
				if err := os.Rename(k.path, k.path+".kept"); err != nil {
					t.Fatal(err)
				}
				k.start()
			}
			k.add(2, time.Now())
			if err := k.s.Err(); err != nil {
				t.Fatal(err)
			}
			k.whole()
		})
	}
}

// Without stump and tree nobody can tell what the removed lines were: nothing is allowed.
func TestLostStump(t *testing.T) {
	k := aged(t)
	k.pass()
	stump := read(StumpFile(k.path))
	if err := errors.Join(os.Remove(StumpFile(k.path)), os.Remove(TreeFile(k.path))); err != nil {
		t.Fatal(err)
	}
	k.start()
	k.pass()
	if err := k.s.Err(); err == nil || !strings.Contains(err.Error(), "bring back "+StumpFile(k.path)) {
		t.Fatalf("Err() = %v", err)
	}
	if err := os.WriteFile(StumpFile(k.path), stump, 0o600); err != nil {
		t.Fatal(err)
	}
	k.pass()
	if err := k.s.Err(); err != nil {
		t.Fatal(err)
	}
	k.whole()
	if err := os.WriteFile(StumpFile(k.path), bytes.Replace(stump, []byte("\n"), []byte("\nx"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	k.start()
	k.s.looked = time.Time{}
	k.pass()
	if err := k.s.Err(); err == nil || !strings.Contains(err.Error(), "the audit log's stump") {
		t.Errorf("an altered stump: Err() = %v", err)
	}
}

// What is done to a segment is found in it.
func TestVerifySegments(t *testing.T) {
	k := newKeeper(t)
	k.add(20, time.Now())
	files := k.files()
	edit := func(i int, change func(string) string) func() {
		return func() {
			text := string(read(files[i]))
			if err := os.WriteFile(files[i], []byte(change(text)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	third := k.segments()[2]
	number := func(n uint64) string { return fmt.Sprintf("number %d", n) }
	for what, c := range map[string]struct {
		change func()
		want   string
	}{
		"an edit":           {edit(2, func(s string) string { return strings.Replace(s, number(third.First), number(third.First)+"0", 1) }), filepath.Base(files[2]) + ":1: the line was changed"},
		"its last line":     {edit(2, func(s string) string { return strings.Replace(s, number(third.Last), number(third.Last)+"0", 1) }), "and line 1 of " + filepath.Base(files[3]) + " says it was"},
		"a segment missing": {func() { os.Remove(files[2]) }, fmt.Sprintf("%s:1: entries %d to %d are missing before this line", filepath.Base(files[3]), third.First, third.Last)},
		"the first missing": {func() { os.Remove(files[0]) }, "are missing before this line; where they were removed by retention, give the stump as well"},
		"the end of one":    {edit(2, func(s string) string { return s[:strings.LastIndex(s[:len(s)-1], "\n")+1] }), fmt.Sprintf("entry %d is missing before this line", third.Last)},
		"torn":              {edit(2, func(s string) string { return s[:len(s)-10] }), "the line is not complete"},
		"the last missing":  {func() { os.Remove(files[len(files)-1]); os.Remove(files[len(files)-2]) }, "the end was cut off"},
	} {
		var kept [][]byte
		for _, f := range files {
			kept = append(kept, read(f))
		}
		c.change()
		r := k.verify()
		if len(r.Faults) == 0 || !strings.Contains(fmt.Sprintf("%s:%d: %s", filepath.Base(r.Faults[0].File), r.Faults[0].Line, r.Faults[0].Reason), c.want) {
			t.Errorf("%s: %+v, want %q", what, r.Faults, c.want)
		}
		for i, f := range files {
			if err := os.WriteFile(f, kept[i], 0o600); err != nil {
				t.Fatal(err)
			}
		}
		k.whole()
	}
	if _, err := VerifyFiles([]string{files[0], files[0]}, nil, 0, ""); err == nil || !strings.Contains(err.Error(), "both begin with entry 1") {
		t.Errorf("a segment twice: %v", err)
	}
}

// A checkpoint of before the removal cannot be compared, one of after it can; a forged log
// does not follow from the stump.
func TestVerifyWithAStump(t *testing.T) {
	k := aged(t)
	k.pass()
	k.whole()
	stump, err := OpenStump(read(StumpFile(k.path)), testKey.Public())
	if err != nil {
		t.Fatal(err)
	}
	files, size := k.files(), int(stump.Checkpoint.Size)
	for what, c := range map[string]struct {
		known []Checkpoint
		want  string
	}{
		"of before":      {[]Checkpoint{{testKey.Origin(), 1, [32]byte{1}}}, ""},
		"of its size":    {[]Checkpoint{at(k.all, size)}, ""},
		"another":        {[]Checkpoint{{testKey.Origin(), uint64(size), [32]byte{1}}}, "disagree"},
		"of after":       {[]Checkpoint{at(k.all, size+3), at(k.all, len(k.all))}, ""},
		"of another log": {[]Checkpoint{at(anew(t, k.all, size-2), size+3)}, "are not those of the checkpoint"},
	} {
		r, err := VerifyFiles(files, []Stump{stump}, 0, "", c.known...)
		got := fmt.Sprint(r.Faults)
		if err != nil || (c.want == "") != (r.Faults == nil) || !strings.Contains(got, c.want) {
			t.Errorf("%s: %s, %v, want %q", what, got, err, c.want)
		}
	}
	rechained := anew(t, k.all, size+1)
	file := filepath.Join(t.TempDir(), "rechained")
	if err := os.WriteFile(file, []byte(strings.Join(text(rechained[size:]), "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r, err := VerifyFiles([]string{file}, []Stump{stump}, 0, "", checkpointOf(t, k.path)); err != nil || r.Faults == nil {
		t.Errorf("a rest that was chained anew: %+v, %v", r, err)
	}
}

func TestImport(t *testing.T) {
	k := aged(t)
	archive := t.TempDir()
	var archived []string
	for _, s := range k.segments() {
		to := filepath.Join(archive, "old-"+filepath.Base(s.File))
		if err := os.WriteFile(to, read(s.File), 0o600); err != nil {
			t.Fatal(err)
		}
		archived = append(archived, to)
	}
	k.pass()
	archived = archived[:len(k.removed)]
	stop := run(t, k.s)
	var recorded []Report
	bring := func(files ...string) (Report, error) {
		return k.s.Import(t.Context(), files, nil, func(r Report) error { recorded = append(recorded, r); return nil })
	}
	if _, err := bring(archived[1:]...); err == nil {
		if r, _ := bring(archived[1:]...); r.Faults == nil {
			t.Error("segments that do not begin with the first line were taken")
		}
	}
	if r, err := bring(archived[:len(archived)-1]...); err == nil && r.Faults == nil {
		t.Error("segments that do not reach the stump were taken")
	}
	edited := filepath.Join(archive, "edited")
	if err := os.WriteFile(edited, bytes.Replace(read(archived[0]), []byte("number"), []byte("numbed"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if r, err := bring(append([]string{edited}, archived[1:]...)...); err != nil || len(r.Faults) != 1 {
		t.Errorf("an edited segment: %+v, %v", r, err)
	}
	if recorded != nil || k.m.lines[0].Seq == 1 {
		t.Fatalf("something was put back: %v", recorded)
	}
	if r, err := bring(archived...); err != nil || r.Faults != nil || len(recorded) != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, err := bring(archived...); err == nil || !strings.Contains(err.Error(), "nothing to put back") {
		t.Errorf("again: %v", err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if r := k.whole(); r.Removed != 0 {
		t.Errorf("%+v", r)
	}
	k.removed = nil
	if k.add(3, time.Now()); k.removed != nil {
		t.Errorf("removed at once: %v", k.removed)
	}
	k.whole()
}

// Segments after an earlier stump; each step of it fails or crashes.
func TestImportAfterAStump(t *testing.T) {
	for _, step := range []string{"", "write", "fsync", "rename", "Restore", "remove"} {
		for nth := 1; nth <= 3; nth++ {
			k := aged(t)
			segments := k.segments()
			k.m.fail = func(step string) (error, error) {
				if step == "Removing" && len(k.removed) == 1 {
					return errInjected, nil
				}
				return nil, nil
			}
			k.pass()
			k.m.fail = nil
			earlier, err := OpenStump(read(StumpFile(k.path)), testKey.Public())
			if err != nil {
				t.Fatal(err)
			}
			archive := t.TempDir()
			var rest []string
			for _, s := range segments[1:] {
				rest = append(rest, filepath.Join(archive, filepath.Base(s.File)))
				if err := os.WriteFile(rest[len(rest)-1], read(s.File), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			k.pass()
			if n := len(k.removed); n < 2 || k.m.lines[0].Seq != segments[n-1].Last+1 {
				t.Fatalf("%v removed", k.removed)
			}
			rest = rest[:len(k.removed)-1]
			(&injector{step: step, mode: "failed", nth: nth}).into(k.m, k.s)
			err = k.s.sit(t.Context(), func(ctx context.Context) error {
				_, err := k.s.restore(ctx, rest, &earlier, func(Report) error { return nil })
				return err
			})
			if step == "" && err != nil {
				t.Fatal(err)
			}
			k.start()
			k.add(2, time.Now())
			if err := k.s.Err(); err != nil {
				t.Fatalf("%s: %v", step, err)
			}
			if r := k.whole(); step == "" && r.Removed != segments[0].Last {
				t.Errorf("%+v", r)
			}
		}
	}
}

func TestStumpTexts(t *testing.T) {
	lines := chain(t, 13)
	var tree rangeTree
	for _, l := range lines {
		tree.add(l.Line)
	}
	signed, err := testKey.Sign(13, tree.root())
	if err != nil {
		t.Fatal(err)
	}
	good := string(tree.text(signed))
	if s, err := OpenStump([]byte(good), testKey.Public()); err != nil || s.Checkpoint.Root != rootOf(lines) {
		t.Fatalf("%+v, %v", s, err)
	}
	foreign, err := LoadOrCreateKey(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct{ text, key, want string }{
		"another key":      {good, foreign.Public(), "its checkpoint: it is not signed with the key"},
		"a hash less":      {strings.Replace(good, tree.parts[1].String()+"\n", "", 1), testKey.Public(), "its hashes are not those"},
		"hashes exchanged": {strings.NewReplacer(tree.parts[0].String(), tree.parts[1].String(), tree.parts[1].String(), tree.parts[0].String()).Replace(good), testKey.Public(), "its hashes are not those"},
		"white space":      {strings.Replace(good, tree.parts[1].String(), " "+tree.parts[1].String(), 1), testKey.Public(), "want a hash of 32 bytes"},
		"a receipt":        {ReceiptHead + "\n", testKey.Public(), "want a stump"},
		"nothing":          {"", testKey.Public(), "want a stump"},
		"too long":         {strings.Repeat("x", maxStump+1), testKey.Public(), "at most"},
	} {
		if _, err := OpenStump([]byte(c.text), c.key); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
	}
}

func FuzzOpenStump(f *testing.F) {
	lines := chain(f, 5)
	var tree rangeTree
	for _, l := range lines {
		tree.add(l.Line)
	}
	signed, err := testKey.Sign(5, tree.root())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(tree.text(signed))
	f.Add([]byte(StumpHead + "\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := OpenStump(text, testKey.Public())
		if err == nil && (s.tree.root() != s.Checkpoint.Root || s.Checkpoint.Size != 5) {
			t.Errorf("took %q", text)
		}
	})
}

// Other files in the folder are no segments.
func TestSegmentNames(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "audit.log.jsonl")
	good := segmentOf(log, 7, 12)
	for _, name := range []string{
		filepath.Base(good.File), "audit.log.jsonl", "audit.log.000000000007-000000000012.checkpoint", "audit.log.7-12.jsonl",
		"audit.log.000000000012-000000000007.jsonl", "audit.log.000000000000-000000000007.jsonl", "other.000000000007-000000000012.jsonl",
		"audit.log.000000000007-000000000012.jsonl.new", "audit.log.99999999999999999999-99999999999999999999.jsonl",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := Segments(log); err != nil || !slices.Equal(list, []Segment{good}) {
		t.Errorf("%v, %v", list, err)
	}
}

func TestIndexes(t *testing.T) {
	for size := range uint64(40) {
		var want rangeTree
		var stored []tlog.Hash
		for i, l := range chain(t, int(size)) {
			want.add(l.Line)
			h, err := tlog.StoredHashes(int64(i), l.Line, tlog.HashReaderFunc(func(at []int64) (out []tlog.Hash, err error) {
				for _, a := range at {
					out = append(out, stored[a])
				}
				return out, nil
			}))
			if err != nil {
				t.Fatal(err)
			}
			stored = append(stored, h...)
		}
		var got []tlog.Hash
		for _, at := range indexes(size) {
			got = append(got, stored[at])
		}
		if !slices.Equal(got, want.parts) {
			t.Errorf("size %d", size)
		}
	}
}

func TestTimeOf(t *testing.T) {
	if _, err := timeOf([]byte(`{"seq":1,"ts":"yesterday"}`)); err == nil {
		t.Error("took yesterday")
	}
	e := json.RawMessage(`{"seq":1,"prev":"","ts":"2026-11-27T01:02:03.004Z"}`)
	if at, err := timeOf(e); err != nil || !at.Equal(time.Date(2026, 11, 27, 1, 2, 3, 4e6, time.UTC)) {
		t.Errorf("%v, %v", at, err)
	}
}
