package sqlite

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/openleash/openleash-go/audit"
)

// small opens a store whose journal has few blocks, so that it comes round.
func small(t *testing.T, dir string, blocks uint64) *Store {
	t.Helper()
	s := open(t, dir)
	s.journal.blocks = blocks
	if err := s.journal.rescan(); err != nil {
		t.Fatal(err)
	}
	return s
}

func do(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// waiting lists the details of the entries without a place, in order.
func waiting(t *testing.T, s *Store) (details []string) {
	t.Helper()
	_, bodies, err := s.Unsequenced(t.Context(), 1e6)
	do(t, err)
	for _, body := range bodies {
		var e audit.Entry
		do(t, json.Unmarshal(body, &e))
		details = append(details, e.Detail)
	}
	return details
}

// sequence gives the first entries their places and returns their details.
func sequence(t *testing.T, s *Store, limit int) (details []string) {
	t.Helper()
	ids, bodies, err := s.Unsequenced(t.Context(), limit)
	do(t, err)
	seq, _, err := s.Head(t.Context())
	do(t, err)
	var lines []audit.Sequenced
	for i, body := range bodies {
		var e audit.Entry
		do(t, json.Unmarshal(body, &e))
		details = append(details, e.Detail)
		lines = append(lines, audit.Sequenced{Seq: seq + 1 + uint64(i), Line: body})
	}
	do(t, s.SetSequenced(t.Context(), ids, lines))
	return details
}

func wantDetails(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("%s: want %d entries %.300v, got %d %.300v", what, len(want), want, len(got), got)
	}
}

// One order for all that is committed, wherever it waits: two processes, a
// journal that comes round many times and is full now and then, transactions in
// between, places given in parts.
func TestJournalOrder(t *testing.T) {
	dir := t.TempDir()
	stores := []*Store{small(t, dir, 8), small(t, dir, 8)}
	random := rand.New(rand.NewPCG(3, 5))
	var want, got []string
	for i := range 800 {
		s := stores[random.IntN(2)]
		if i/100%4 == 3 {
			s = stores[0] // the other one is overtaken by more than a round
		}
		detail := fmt.Sprint(i)
		switch random.IntN(12) {
		case 0:
			do(t, s.Commit(t.Context(), asking(detail, detail)))
		case 1:
			detail += strings.Repeat("x", random.IntN(3*blockSize))
			do(t, s.Commit(t.Context(), note(detail)))
		case 2, 3:
			got = append(got, sequence(t, s, 1+random.IntN(20))...)
			continue
		default:
			do(t, s.Commit(t.Context(), note(detail)))
		}
		want = append(want, detail)
	}
	for part := sequence(t, stores[1], 100); len(part) > 0; part = sequence(t, stores[0], 100) {
		got = append(got, part...)
	}
	wantDetails(t, "all", got, want)
	if rounds := stores[0].journal.next / 8; rounds < 10 {
		t.Errorf("the journal came round %d times, too few to say anything", rounds)
	}
}

// A journal that nobody empties sends commits to the database, and goes on.
func TestJournalFull(t *testing.T) {
	s := small(t, t.TempDir(), 4)
	var want []string
	for i := range 30 {
		want = append(want, fmt.Sprint(i))
		do(t, s.Commit(t.Context(), note(want[i])))
	}
	huge := strings.Repeat("y", 5*blockSize) // larger than the journal
	do(t, s.Commit(t.Context(), note(huge)))
	wantDetails(t, "waiting", waiting(t, s), append(want, huge))
	var inTable int
	do(t, foreign(t, s).QueryRowContext(t.Context(), "SELECT count(*) FROM entries").Scan(&inTable))
	if inTable < 20 {
		t.Errorf("%d entries went to the database, want most of 31", inTable)
	}
}

// A sync that fails refuses, and leaves no entry of what was refused: neither
// here nor for another process, and what comes after it is safe.
func TestJournalSyncFails(t *testing.T) {
	dir := t.TempDir()
	s, other := open(t, dir), open(t, dir)
	do(t, s.Commit(t.Context(), note("before")))
	sync := s.journal.sync
	fault := errors.New("injected")
	s.journal.sync = func(*os.File) error { return fault }
	for range 3 {
		if err := s.Commit(t.Context(), note(strings.Repeat("refused", blockSize))); !errors.Is(err, fault) {
			t.Fatalf("want the fault, got %v", err)
		}
	}
	do(t, other.Commit(t.Context(), note("other")))
	s.journal.sync = sync
	do(t, s.Commit(t.Context(), note("after")))
	wantDetails(t, "waiting", waiting(t, other), []string{"before", "other", "after"})
}

// When not even the refused record can be taken out, the journal is left alone
// until all of it is in the database: what the system takes for written may not
// be, and then nothing after it would be found.
func TestJournalInDoubt(t *testing.T) {
	s := open(t, t.TempDir())
	do(t, s.Commit(t.Context(), note("before")))
	write, sync := s.journal.write, s.journal.sync
	fault := errors.New("injected")
	writes := 0
	s.journal.write = func(f *os.File, b []byte, at int64) (int, error) {
		if writes++; writes > 1 {
			return 0, fault
		}
		return write(f, b, at)
	}
	s.journal.sync = func(*os.File) error { return fault }
	if err := s.Commit(t.Context(), note("refused, and there")); !errors.Is(err, fault) {
		t.Fatalf("want the fault, got %v", err)
	}
	s.journal.write, s.journal.sync = write, sync
	do(t, s.Commit(t.Context(), note("after")))
	var inTable int
	do(t, foreign(t, s).QueryRowContext(t.Context(), "SELECT count(*) FROM entries").Scan(&inTable))
	if inTable != 3 {
		t.Errorf("%d entries are in the database, want all three", inTable)
	}
	do(t, s.Commit(t.Context(), note("later")))
	wantDetails(t, "waiting", waiting(t, s), []string{"before", "refused, and there", "after", "later"})
}

// A process that dies while it writes leaves a torn record, or a whole one that
// was never synced. Who comes after it goes on from there.
func TestJournalWriterDies(t *testing.T) {
	for name, part := range map[string]int{"nothing": 0, "in the first block": 100, "the first of three blocks": blockSize, "all but its end": 2*blockSize + 40, "all": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			dies, lives := open(t, dir), open(t, dir)
			do(t, dies.Commit(t.Context(), note("before")))
			payload := appendEntry(nil, fmt.Appendf(nil, `{"detail":%q}`, "unsaid"+strings.Repeat("z", 2*blockSize)))
			record := appendRecord(nil, dies.journal.next, payload)
			_, err := dies.journal.file.WriteAt(record[:min(part, len(record))], dies.journal.offset(dies.journal.next))
			do(t, err)
			do(t, lives.Commit(t.Context(), note("after")))
			got := waiting(t, lives)
			if part >= len(record) {
				if len(got) != 3 || !strings.HasPrefix(got[1], "unsaid") {
					t.Fatalf("want the whole record too, got %.200v", got)
				}
				got = slices.Delete(got, 1, 2)
			}
			wantDetails(t, "waiting", got, []string{"before", "after"})
		})
	}
}

// disk is what the journal's file would be after a loss of power: what was
// synced, and of the rest any part.
type disk struct {
	synced []byte // the blocks as they were at the last sync
	j      *journal
	lazy   bool // syncs are reported and not done: the test must notice
}

func (d *disk) under(j *journal) {
	d.j = j
	d.flush()
	j.sync = func(*os.File) error { d.flush(); return nil }
	if d.lazy {
		j.sync = func(*os.File) error { return nil }
	}
}

func (d *disk) flush() { d.synced = d.blocks() }

func (d *disk) blocks() []byte {
	b := make([]byte, d.j.blocks*blockSize)
	if _, err := d.j.file.ReadAt(b, 0); err != nil {
		panic(err)
	}
	return b
}

// lose makes a new home of what is left. Each sector of 512 bytes that was not
// synced is there or not, as chance has it.
func (d *disk) lose(t *testing.T, s *Store, random *rand.Rand) string {
	t.Helper()
	now, left := d.blocks(), slices.Clone(d.synced)
	for at := 0; at < len(now); at += 512 {
		if random.IntN(2) == 0 {
			copy(left[at:at+512], now[at:at+512])
		}
	}
	dir := t.TempDir()
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(s.path + suffix)
		do(t, err)
		do(t, os.WriteFile(filepath.Join(dir, "openleash.db"+suffix), b, 0o600))
	}
	do(t, os.WriteFile(filepath.Join(dir, "openleash.journal"), left, 0o600))
	return dir
}

// powerLoss commits and sequences at random, loses the power in the middle of a
// commit, and returns what was acknowledged and what is there then.
func powerLoss(t *testing.T, seed uint64, lazy bool) (acknowledged, there []string) {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 7))
	s := small(t, t.TempDir(), 16)
	d := &disk{lazy: lazy}
	d.under(s.journal)
	for i := range 1 + random.IntN(60) {
		detail := fmt.Sprint(i)
		switch random.IntN(10) {
		case 0:
			sequence(t, s, 1+random.IntN(8))
			continue
		case 1:
			do(t, s.Commit(t.Context(), asking(detail, detail)))
		case 2:
			detail += strings.Repeat("x", random.IntN(3*blockSize))
			do(t, s.Commit(t.Context(), note(detail)))
		default:
			do(t, s.Commit(t.Context(), note(detail)))
		}
		acknowledged = append(acknowledged, detail)
	}
	dark := errors.New("no power")
	s.journal.sync = func(*os.File) error { return dark }
	write := s.journal.write
	s.journal.write = func(f *os.File, b []byte, at int64) (int, error) {
		s.journal.write = func(*os.File, []byte, int64) (int, error) { return 0, dark }
		return write(f, b, at)
	}
	s.Commit(t.Context(), note("unsaid"+strings.Repeat("u", random.IntN(2*blockSize))))

	after := small(t, d.lose(t, s, random), 16)
	do(t, after.Commit(t.Context(), note("after")))
	lines, err := after.Lines(t.Context(), 1, 1e6)
	do(t, err)
	for _, line := range lines {
		var e audit.Entry
		do(t, json.Unmarshal(line.Line, &e))
		there = append(there, e.Detail)
	}
	return acknowledged, slices.DeleteFunc(append(there, waiting(t, after)...), func(d string) bool { return strings.HasPrefix(d, "unsaid") })
}

// What was acknowledged outlives the power, once and in its order.
func TestJournalPowerLoss(t *testing.T) {
	for seed := range uint64(50) {
		acknowledged, there := powerLoss(t, seed, false)
		wantDetails(t, fmt.Sprintf("seed %d", seed), there, append(acknowledged, "after"))
	}
}

// The test above would notice a sync that is not done.
func TestJournalPowerLossIsSeen(t *testing.T) {
	for seed := range uint64(50) {
		acknowledged, there := powerLoss(t, seed, true)
		if !slices.Equal(there, append(acknowledged, "after")) {
			return
		}
	}
	t.Error("nothing was lost without a single sync: the test sees nothing")
}

// Files that do not belong together are refused, at the start and later.
func TestJournalOfAnotherMoment(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	do(t, s.Commit(t.Context(), note("before")))
	ahead := voidBlock(s.journal.next + 5*journalBlocks)
	_, err := s.journal.file.WriteAt(ahead, s.journal.offset(s.journal.next))
	do(t, err)
	wantMessage(t, s.Commit(t.Context(), note("refused")), "openleash.journal", "not of one moment", "backup")
	do(t, s.Close())
	_, err = Open(t.Context(), dir)
	if err != nil { // what was before it is still there: the end is found after it
		wantMessage(t, err, "openleash.journal", "not of one moment", "backup")
	}
	do(t, os.WriteFile(filepath.Join(dir, "openleash.journal"), append(make([]byte, blockSize), voidBlock(1+journalBlocks)...), 0o600))
	_, err = Open(t.Context(), dir)
	wantMessage(t, err, "openleash.journal", "not of one moment", "backup")
}

// A record that was changed on the disk is reported, and nothing goes past it.
func TestJournalDamaged(t *testing.T) {
	s := open(t, t.TempDir())
	for _, detail := range []string{"one", "two", "three"} {
		do(t, s.Commit(t.Context(), note(detail)))
	}
	_, err := s.journal.file.WriteAt([]byte("!"), s.journal.offset(2)+100)
	do(t, err)
	_, _, err = s.Unsequenced(t.Context(), 10)
	wantMessage(t, err, "openleash.journal", "block 2", "damaged")
	wantMessage(t, s.Commit(t.Context(), asking("r1", "refused")), "openleash.journal", "block 2", "damaged")
}

// Transactions alone use up the ids that lie before the journal's next record;
// then they are refused until it has one.
func TestIDsRunOut(t *testing.T) {
	s := open(t, t.TempDir())
	do(t, s.Commit(t.Context(), note("one")))
	do(t, s.Commit(t.Context(), asking("r1", "two")))
	sequence(t, s, 10)
	run(t, foreign(t, s), fmt.Sprintf("UPDATE journal SET upto = %d", 2<<indexBits-1))
	wantMessage(t, s.Commit(t.Context(), asking("r2", "refused")), "no id is left")
	do(t, s.Commit(t.Context(), note("three")))
	do(t, s.Commit(t.Context(), asking("r2", "four")))
	wantDetails(t, "waiting", waiting(t, s), []string{"three", "four"})
}
