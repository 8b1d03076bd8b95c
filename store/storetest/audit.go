package storetest

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/authz"
)

// unsequenced returns what waits for its place.
func unsequenced(t *testing.T, s Store, limit int) (ids []int64, details []string) {
	t.Helper()
	ids, bodies, err := s.Unsequenced(t.Context(), limit)
	if err != nil {
		t.Fatal(err)
	}
	if len(ids) != len(bodies) {
		t.Fatalf("%d ids for %d entries", len(ids), len(bodies))
	}
	for i, body := range bodies {
		var e audit.Entry
		if err := json.Unmarshal(body, &e); err != nil {
			t.Fatal(err)
		}
		if i > 0 && ids[i] <= ids[i-1] {
			t.Errorf("id %d comes after %d", ids[i], ids[i-1])
		}
		details = append(details, e.Detail)
	}
	return ids, details
}

func wantEntries(t *testing.T, s Store, want ...string) {
	t.Helper()
	_, got := unsequenced(t, s, 1000)
	wantSame(t, "entries", want, got)
}

// lines makes n lines from place seq on.
func lines(seq uint64, n int) (out []audit.Sequenced) {
	for i := range n {
		text := fmt.Appendf(nil, `{"seq":%d,"prev":"…"}`, seq+uint64(i))
		out = append(out, audit.Sequenced{Seq: seq + uint64(i), Line: text, Hash: sha256.Sum256(text)})
	}
	return out
}

func wantHead(t *testing.T, s Store, want audit.Sequenced) {
	t.Helper()
	seq, hash, err := s.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if seq != want.Seq || hash != want.Hash {
		t.Errorf("head: want %d %x, got %d %x", want.Seq, want.Hash, seq, hash)
	}
}

func testSequencing(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	wantHead(t, s, audit.Sequenced{})
	wantEntries(t, s)
	two := note("two")
	two.Entries = append(two.Entries, note("three").Entries...)
	commit(t, s, note("one"), two, note("four"))
	wantEntries(t, s, "one", "two", "three", "four")

	ids, _ := unsequenced(t, s, 3)
	all := lines(1, 4)
	if err := s.SetSequenced(t.Context(), ids, all[:3]); err != nil {
		t.Fatal(err)
	}
	wantHead(t, s, all[2])
	wantEntries(t, s, "four")

	ids, _ = unsequenced(t, s, 3)
	if err := s.SetSequenced(t.Context(), ids, all[3:]); err != nil {
		t.Fatal(err)
	}
	wantEntries(t, s)
	for _, test := range []struct {
		from  uint64
		limit int
		want  []audit.Sequenced
	}{{0, 10, all}, {1, 10, all}, {1, 2, all[:2]}, {3, 10, all[2:]}, {5, 10, nil}} {
		got, err := s.Lines(t.Context(), test.from, test.limit)
		if err != nil {
			t.Fatal(err)
		}
		wantSame(t, fmt.Sprintf("%d lines from %d", test.limit, test.from), test.want, got)
	}
	commit(t, s, note("five"))
	wantEntries(t, s, "five")
	wantHead(t, s, all[3])
}

// What is brought at once is bounded in bytes: calls may be large.
func testSequencingLarge(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	large := audit.Entry{Event: "decision", Payload: []byte(`"` + strings.Repeat("a", 6<<20) + `"`)}
	for range 5 {
		commit(t, s, authz.Batch{Entries: []audit.Entry{large}})
	}
	commit(t, s, note("small"))
	given := 0
	for _, want := range []int{3, 3} { // the third passes 16 MiB
		ids, entries, err := s.Unsequenced(t.Context(), 100)
		if err != nil || len(ids) != want {
			t.Fatalf("%d entries at once, want %d: %v", len(ids), want, err)
		}
		var places []audit.Sequenced
		for i, e := range entries {
			places = append(places, audit.Sequenced{Seq: uint64(given + i + 1), Line: e})
		}
		if err := s.SetSequenced(t.Context(), ids, places); err != nil {
			t.Fatal(err)
		}
		given += len(ids)
	}
	wantEntries(t, s)
	for from, want := range map[uint64]int{1: 3, 4: 3, 6: 1} {
		got, err := s.Lines(t.Context(), from, 100)
		if err != nil || len(got) != want || got[0].Seq != from {
			t.Errorf("%d lines from %d, want %d: %v", len(got), from, want, err)
		}
	}
}

// SetSequenced does all of it or nothing, and only what comes next.
func testSequencingMoved(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	commit(t, s, note("one"), note("two"), note("three"), note("four"))
	ids, _ := unsequenced(t, s, 10)
	all := lines(1, 4)
	if err := s.SetSequenced(t.Context(), ids[:1], all[:1]); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name  string
		ids   []int64
		lines []audit.Sequenced
	}{
		{"the same again", ids[:1], all[:1]},
		{"a stale head", ids[1:2], all[:1]},
		{"a gap in the places", ids[1:2], all[2:3]},
		{"a gap later", ids[1:3], []audit.Sequenced{all[1], all[3]}},
		{"an entry left out", ids[2:3], all[1:2]},
		{"an entry left out later", []int64{ids[1], ids[3]}, all[1:3]},
		{"out of order", []int64{ids[2], ids[1]}, all[1:3]},
		{"an unknown entry", []int64{ids[1], ids[2], ids[3], ids[3] + 1}, lines(2, 4)},
		{"fewer lines", ids[1:3], all[1:2]},
	} {
		if err := s.SetSequenced(t.Context(), test.ids, test.lines); err == nil {
			t.Errorf("%s: want an error, got none", test.name)
		}
		wantHead(t, s, all[0])
		wantEntries(t, s, "two", "three", "four")
	}
	if err := s.SetSequenced(t.Context(), ids[1:], all[1:]); err != nil {
		t.Fatal(err)
	}
}

// Whoever looks how much waits meanwhile, as commands do that wait for it, takes
// nothing from who gives the places.
func testSequencingWhileOthersLook(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	for range 20 {
		commit(t, s, note("one"))
	}
	ids, _ := unsequenced(t, s, 1000)
	for range 3 {
		unsequenced(t, s, 1)
	}
	if err := s.SetSequenced(t.Context(), ids, lines(1, len(ids))); err != nil {
		t.Error(err)
	}
	wantEntries(t, s)
}

// What is dropped is the first lines, never the last; what is put back comes right before
// the first.
func testDropping(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	if all, err := s.Drop(t.Context(), 5); err != nil || !all {
		t.Errorf("dropping of nothing: %v, %v", all, err)
	}
	const n = 2500
	all := lines(1, n)
	batch := note("one")
	for range n - 1 {
		batch.Entries = append(batch.Entries, note("more").Entries...)
	}
	commit(t, s, batch)
	ids, _ := unsequenced(t, s, n)
	if err := s.SetSequenced(t.Context(), ids, all); err != nil {
		t.Fatal(err)
	}
	wantLines := func(first, count int) {
		t.Helper()
		got, err := s.Lines(t.Context(), 1, 10*n)
		if err != nil || len(got) != count || int(got[0].Seq) != first || got[count-1].Seq != n {
			t.Fatalf("want lines %d to %d, got %d, %v", first, n, len(got), err)
		}
		wantHead(t, s, all[n-1])
	}
	for _, step := range []struct{ upto, first int }{{0, 1}, {3, 4}, {2, 4}, {2200, 2201}, {n + 10, n}, {n, n}} {
		times, all, err := 0, false, error(nil)
		for ; !all && err == nil; times++ {
			all, err = s.Drop(t.Context(), uint64(step.upto))
		}
		if err != nil || (times > 1) != (step.upto == 2200) {
			t.Fatalf("dropping lines up to %d took %d times, %v", step.upto, times, err)
		}
		wantLines(step.first, n-step.first+1)
	}
	for _, wrong := range [][]audit.Sequenced{all[:3], all[n-4 : n-2], all[n-1:], {all[n-4], all[n-2]}} {
		if err := s.Restore(t.Context(), wrong); err == nil {
			t.Errorf("lines %d to %d were put back before line %d", wrong[0].Seq, wrong[len(wrong)-1].Seq, n)
		}
		wantLines(n, 1)
	}
	if err := s.Restore(t.Context(), all[9:n-1]); err != nil {
		t.Fatal(err)
	}
	wantLines(10, n-9)
}

func testSequencerSeat(t *testing.T, open Open) {
	place := t.TempDir()
	a, b := open(t, place), open(t, place)
	take := func(s Store, want bool) func() {
		t.Helper()
		release, ok, err := s.LockSequencer(t.Context())
		if err != nil || ok != want {
			t.Fatalf("taking the seat: want %t, got %t, %v", want, ok, err)
		}
		return release
	}
	release := take(a, true)
	take(b, false)
	take(a, false)
	release()
	take(b, true)()
	take(a, true)()
}

// Entries of one batch stay together and in order, whoever else commits.
func testCommitOrder(t *testing.T, open Open) {
	place := t.TempDir()
	a, b := open(t, place), open(t, place)
	const each = 20
	for i, err := range race(a, b, func(i int, s Store) error {
		for n := range each {
			batch := authz.Batch{}
			for part := range 3 {
				batch.Entries = append(batch.Entries, note(fmt.Sprintf("%d %d %d", i, n, part)).Entries...)
			}
			if err := s.Commit(t.Context(), batch); err != nil {
				return err
			}
		}
		return nil
	}) {
		if err != nil {
			t.Errorf("committer %d: %v", i, err)
		}
	}
	next := map[int]int{}
	_, got := unsequenced(t, a, 1e6)
	for at, detail := range got {
		var i, n, part int
		if _, err := fmt.Sscan(detail, &i, &n, &part); err != nil {
			t.Fatal(err)
		}
		if part != at%3 || n != next[i] {
			t.Fatalf("entry %d is %q; want part %d, and number %d of committer %d", at, detail, at%3, next[i], i)
		}
		if part == 2 {
			next[i]++
		}
	}
	for i, n := range next {
		if n != each {
			t.Errorf("committer %d: %d batches of %d are there", i, n, each)
		}
	}
}
