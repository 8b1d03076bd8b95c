package sqlite

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/authz"
)

// grow appends n lines to a log, of which one in thousand is of the agent "rare".
func grow(t testing.TB, s *Store, n int) {
	t.Helper()
	head, hash, err := s.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for made := 0; made < n; {
		var entries []audit.Entry
		for range min(500, n-made) {
			made++
			entries = append(entries, happening(int(head)+made))
		}
		if err := s.Commit(t.Context(), authz.Batch{Entries: entries}); err != nil {
			t.Fatal(err)
		}
		give(t, s, &hash)
	}
}

// give gives places to what waits.
func give(t testing.TB, s *Store, hash *[32]byte) {
	t.Helper()
	ids, bodies, err := s.Unsequenced(t.Context(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	seq, _, err := s.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var lines []audit.Sequenced
	for _, body := range bodies {
		seq++
		line := append(fmt.Appendf(nil, `{"seq":%d,"prev":"sha256:%x",`, seq, *hash), body[1:]...)
		*hash = sha256.Sum256(line)
		lines = append(lines, audit.Sequenced{Seq: seq, Line: line, Hash: *hash})
	}
	if err := s.SetSequenced(t.Context(), ids, lines); err != nil {
		t.Fatal(err)
	}
}

func happening(i int) audit.Entry {
	e := audit.Entry{
		TS: time.UnixMilli(int64(i) * 1000).UTC().Format("2006-01-02T15:04:05.000Z"), Event: "decision", ActorType: "agent", ActorID: fmt.Sprint("bot", i%4),
		Decision: new([]string{"ALLOW", "DENY"}[i%20/19]), DecisionID: fmt.Sprint("d", i), OwnerID: "o1", Server: "shop", Tool: fmt.Sprint("tool", i%50),
		Reason: "small purchases are allowed",
	}
	if i%1000 == 500 {
		e.ActorID = "rare"
	}
	return e
}

// numbersOf finds all lines, page by page.
func numbersOf(t testing.TB, s *Store, q audit.Query) (all []uint64) {
	t.Helper()
	for q.Scope, q.Limit = audit.OwnedBy("o1"), 100; ; {
		page, err := s.Search(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range page.Lines {
			all = append(all, l.Seq)
		}
		if q.From = page.Next; q.From == 0 {
			return all
		}
	}
}

// rowsOf is the index, as text.
func indexOf(t *testing.T, s *Store) string {
	t.Helper()
	all, err := list(t.Context(), s, readText, `SELECT term || ' ' || block || ' ' || hex(lines) FROM log_index
		UNION ALL SELECT block || ' ' || since || ' ' || until FROM log_blocks
		UNION ALL SELECT bucket || ' ' || block || ' ' || hex(ids) FROM log_ids UNION ALL SELECT upto FROM log_indexed ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, "\n")
}

// The log of a program before this one has no index. All of it is found at once, and
// in the end the index is what it would have been.
func TestIndexOfAnOlderLog(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	grow(t, s, 9000)
	questions := []audit.Query{{Agent: "rare"}, {Tool: "tool7"}, {DecisionID: "d4097"}, {Decision: "DENY", Agent: "bot3"}, {Until: time.Unix(300, 0)}}
	var want [][]uint64
	for _, q := range questions {
		want = append(want, numbersOf(t, s, q))
	}
	index := indexOf(t, s)

	s.indexer.stop()
	for _, statement := range []string{"DELETE FROM log_index", "DELETE FROM log_blocks", "DELETE FROM log_ids", "UPDATE log_indexed SET upto = 0"} {
		run(t, foreign(t, s), statement)
	}
	ask := func(when string) {
		t.Helper()
		for i, q := range questions {
			for _, q.OldestFirst = range []bool{false, true} {
				got := numbersOf(t, s, q)
				if q.OldestFirst {
					slices.Reverse(got)
				}
				if !slices.Equal(got, want[i]) || len(got) == 0 {
					t.Errorf("%s, %+v: want %d lines, got %d", when, q, len(want[i]), len(got))
				}
			}
		}
	}
	ask("before anything is indexed")
	for range 2 {
		if more, err := s.indexSome(t.Context()); err != nil || !more {
			t.Fatal(more, err)
		}
	}
	ask("with half of it indexed")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir) // a start, which does the rest
	for range 1000 {
		if indexOf(t, s) == index {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if indexOf(t, s) != index {
		t.Error("the index did not become what it was")
	}
	ask("in the end")
}

// A line that is written while older ones are not indexed yet is not left out.
func TestIndexWhileItCatchesUp(t *testing.T) {
	s := open(t, t.TempDir())
	s.indexer.stop()
	grow(t, s, 600)
	for _, statement := range []string{"DELETE FROM log_index", "DELETE FROM log_blocks", "DELETE FROM log_ids", "UPDATE log_indexed SET upto = 0"} {
		run(t, foreign(t, s), statement)
	}
	grow(t, s, 600)
	if got := numbersOf(t, s, audit.Query{Agent: "rare"}); !slices.Equal(got, []uint64{500}) {
		t.Errorf("want line 500, got %v", got)
	}
	s.indexer = startIndexer(s.indexRest)
	for range 1000 {
		if upto, err := one(t.Context(), s, errNone, readID, selectIndexed); err != nil || upto == 1200 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	grow(t, s, 600)
	if upto, err := one(t.Context(), s, errNone, readID, selectIndexed); err != nil || upto != 1800 {
		t.Errorf("want 1800 lines indexed, got %d: %v", upto, err)
	}
	if got := numbersOf(t, s, audit.Query{Agent: "rare"}); !slices.Equal(got, []uint64{1500, 500}) {
		t.Errorf("want lines 1500 and 500, got %v", got)
	}
}

// The first lines may be let go: what is left is found, and the index follows.
func TestIndexAfterTheFirstLinesAreGone(t *testing.T) {
	s := open(t, t.TempDir())
	grow(t, s, 9000)
	run(t, foreign(t, s), "DELETE FROM lines WHERE seq <= 5000")
	check := func() {
		t.Helper()
		if got := numbersOf(t, s, audit.Query{Agent: "rare"}); !slices.Equal(got[len(got)-4:], []uint64{8500, 7500, 6500, 5500}) {
			t.Errorf("got %v", got)
		}
		if got := numbersOf(t, s, audit.Query{Agent: "rare", OldestFirst: true}); !slices.Equal(got[:4], []uint64{5500, 6500, 7500, 8500}) {
			t.Errorf("oldest first: got %v", got)
		}
		if got := numbersOf(t, s, audit.Query{OldestFirst: true}); got[0] != 5001 {
			t.Errorf("want 5001 first, got %d", got[0])
		}
	}
	check()
	grow(t, s, 4000) // a new block begins
	check()
	oldest, err := one(t.Context(), s, errNone, readID, "SELECT min(block) FROM (SELECT block FROM log_index UNION ALL SELECT block FROM log_blocks UNION ALL SELECT block FROM log_ids)")
	if err != nil || oldest != 5001/blockLines {
		t.Errorf("want the index to begin with block %d, it begins with %d: %v", 5001/blockLines, oldest, err)
	}
	run(t, foreign(t, s), "DELETE FROM lines WHERE seq <= 12999")
	if got := numbersOf(t, s, audit.Query{}); !slices.Equal(got, []uint64{13000}) {
		t.Errorf("want line 13000, got %v", got)
	}
}

// A page costs what it shows, however long the log is: no more lines are looked at, no
// query scans a table or sorts.
func TestSearchIsFlat(t *testing.T) {
	s := open(t, t.TempDir())
	grow(t, s, 20_000)
	for _, oldest := range []bool{false, true} {
		for _, q := range []audit.Query{{}, {Agent: "rare"}, {Event: "decision", Tool: "tool7"}, {Agent: "bot3", Decision: "DENY"}, {DecisionID: "d77"}, {Agent: "nobody"}} {
			q.Scope, q.OldestFirst, q.Limit = audit.OwnedBy("o1"), oldest, 20
			x := &search{store: s, q: q, room: math.MaxInt}
			if err := x.run(t.Context()); err != nil {
				t.Fatal(err)
			}
			shown := 0
			for _, l := range x.page.Lines {
				shown += len(l.Line) + lineCost
			}
			if looked := math.MaxInt - x.room; looked != shown {
				t.Errorf("%+v: %d bytes are shown, and %d were looked at", q, shown, looked)
			}
		}
	}
}

func TestSearchPlans(t *testing.T) {
	s := open(t, t.TempDir())
	var queries []string
	for _, oldest := range []bool{false, true} {
		x := &search{store: s, q: audit.Query{OldestFirst: oldest}}
		queries = append(queries, x.order(selectBetween), x.bound(selectTerm), x.bound(selectBlocks), x.bound(selectTimes), x.bound(selectSums))
	}
	queries = append(append(queries, selectFirst, selectLast, selectIndexed, "DELETE FROM lines WHERE seq <= ?"), forgetting...)
	for _, query := range queries {
		plan, err := list(t.Context(), s, func(scan scan) (detail string, err error) {
			var id, parent, unused int
			err = scan(&id, &parent, &unused, &detail)
			return detail, err
		}, "EXPLAIN QUERY PLAN "+query, make([]any, strings.Count(query, "?"))...)
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range plan {
			if strings.HasPrefix(step, "SCAN") && !slices.Contains([]string{"SCAN log_indexed", "SCAN buckets", "SCAN CONSTANT ROW"}, step) || strings.Contains(step, "TEMP B-TREE") {
				t.Errorf("%s: %s", query, step)
			}
		}
	}
}

func TestSomeLines(t *testing.T) {
	for _, test := range [][2]int{{0, 0}, {0, 63}, {0, 64}, {63, 64}, {5, 4095}, {4095, 4095}, {0, 4095}, {100, 200}} {
		if got := someLines(test[0], test[1]).numbers(); !slices.Equal(got, seq(test[0], test[1]+1)) {
			t.Errorf("%v: got %v", test, got)
		}
	}
}

// Two processes index the same log: each line is there once.
func TestIndexByTwo(t *testing.T) {
	dir := t.TempDir()
	a, b := open(t, dir), open(t, dir)
	grow(t, a, 5000)
	index := indexOf(t, a)
	a.indexer.stop()
	b.indexer.stop()
	for _, statement := range []string{"DELETE FROM log_index", "DELETE FROM log_blocks", "DELETE FROM log_ids", "UPDATE log_indexed SET upto = 0"} {
		run(t, foreign(t, a), statement)
	}
	done := make(chan error)
	for _, s := range []*Store{a, b} {
		go func() {
			for {
				if more, err := s.indexSome(context.Background()); err != nil || !more {
					done <- err
					return
				}
			}
		}()
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if indexOf(t, b) != index {
		t.Error("the index is not what it was")
	}
}

func TestLineSet(t *testing.T) {
	for _, numbers := range [][]int{nil, {0}, {4095}, {0, 63, 64, 4095}, seq(0, 255), seq(1, 257), seq(0, 4096)} {
		l := new(lineSet)
		for _, n := range numbers {
			l.add(n)
		}
		b := l.encode()
		if got := decodeLines(b).numbers(); !slices.Equal(got, numbers) || len(b) > blockLines/8 {
			t.Errorf("want %v, got %v of %d bytes", numbers, got, len(b))
		}
	}
}

func seq(from, to int) (all []int) {
	for i := from; i < to; i++ {
		all = append(all, i)
	}
	return all
}

// BenchmarkSearch is what the first page costs, by the size of the log: a folder of
// logs is made at $OPENLEASH_BENCH_LOGS, which takes some minutes and gigabytes.
func BenchmarkSearch(b *testing.B) {
	dir := os.Getenv("OPENLEASH_BENCH_LOGS")
	if dir == "" {
		b.Skip("OPENLEASH_BENCH_LOGS names no folder")
	}
	for _, size := range []int{10, 100, 1000} {
		s := open(b, filepath.Join(dir, fmt.Sprint(size)))
		if head, _, err := s.Head(b.Context()); err != nil || head == 0 {
			grow(b, s, size<<20/500)
		}
		for name, q := range map[string]audit.Query{
			"all": {}, "agent": {Agent: "bot1"}, "rare": {Agent: "rare"}, "two": {Agent: "bot3", Decision: "DENY", Tool: "tool39"},
			"disjoint": {Agent: "bot1", Tool: "tool2"}, "id": {DecisionID: "d77"}, "time": {Until: time.Unix(5000, 0)}, "absent": {Agent: "nobody"},
		} {
			b.Run(fmt.Sprintf("%dMB/%s", size, name), func(b *testing.B) {
				q.Scope, q.Limit = audit.OwnedBy("o1"), 51
				for b.Loop() {
					if _, err := s.Search(b.Context(), q); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
