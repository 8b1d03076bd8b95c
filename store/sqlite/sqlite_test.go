package sqlite

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/internal/filelock"
)

// open opens a store in dir for the length of the test.
func open(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func request(id string) approvals.Request {
	act := action.Request{
		ActionID: "8e3bdb7c-3a53-4b8e-9d0b-0123456789ab", ActionType: "mcp.shop.buy", RequestedAt: "2026-05-05T13:42:11.000Z",
		AgentID: "local", SubjectID: "11111111-2222-4333-8444-555555555555",
		Payload: action.ObjectValue(action.Member{Key: "arguments", Value: action.ObjectValue()}),
	}
	now := time.Now()
	return approvals.Request{
		ID: id, OwnerID: act.SubjectID, AgentID: "local", DecisionID: "d-" + id,
		Action: act, ActionHash: act.Hash(), IntentHash: action.Hash{1},
		CreatedAt: now, ExpiresAt: now.Add(time.Hour),
	}
}

// pragma sets a pragma on the writer's connection, and on those that follow it.
func pragma(t *testing.T, s *Store, values ...string) {
	t.Helper()
	if err := s.write(t.Context(), func(tx *tx) error {
		s.writer.pragmas = values
		for _, v := range values {
			if _, err := tx.exec("PRAGMA " + v); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// foreign is another program's connection to the file.
func foreign(t *testing.T, s *Store) *sql.Conn {
	t.Helper()
	db, err := sql.Open("sqlite", s.path)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); db.Close() })
	return conn
}

func run(t *testing.T, conn *sql.Conn, statement string) {
	t.Helper()
	if _, err := conn.ExecContext(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

func wantMessage(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("want an error that has %q, got: %v", part, err)
		}
	}
}

func TestModes(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // has none
	}
	dir := filepath.Join(t.TempDir(), "deep", "data")
	s := open(t, dir)
	if err := s.Commit(t.Context(), note("one")); err != nil {
		t.Fatal(err)
	}
	release, _, err := s.LockSequencer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	want := map[string]os.FileMode{
		".": 0o700, "openleash.db": 0o600, "openleash.db-wal": 0o600, "openleash.db-shm": 0o600,
		"openleash.journal": 0o600, "openleash.journal.lock": 0o600, "openleash.journal.lock.gate": 0o600,
		"write.lock": 0o600, "write.lock.gate": 0o600, "sequencer.lock": 0o600,
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(want)-1 {
		t.Errorf("want %d files, got %v", len(want)-1, files)
	}
	for name, mode := range want {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
		} else if info.Mode().Perm() != mode {
			t.Errorf("%s: want mode %04o, got %04o", name, mode, info.Mode().Perm())
		}
	}
}

func TestOddPaths(t *testing.T) {
	for _, name := range []string{"a b", "50%25", "q?x=1", "hash#tag", "ünï", "file:x"} {
		if runtime.GOOS == "windows" && strings.ContainsAny(name, "?:") {
			continue
		}
		dir := filepath.Join(t.TempDir(), name)
		open(t, dir)
		if _, err := os.Stat(filepath.Join(dir, "openleash.db-wal")); err != nil {
			t.Errorf("%q: the database is elsewhere: %v", name, err)
		}
	}
}

func TestFirstOpensAtOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			s, err := Open(t.Context(), dir)
			if err != nil {
				t.Errorf("opening %d: %v", i, err)
				return
			}
			defer s.Close()
			if err := s.Commit(t.Context(), note(fmt.Sprint(i))); err != nil {
				t.Errorf("committing %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if got := details(t, open(t, dir)); len(got) != 8 {
		t.Errorf("want 8 entries, got %v", got)
	}
}

func TestOpenErrors(t *testing.T) {
	for _, test := range []struct {
		name    string
		prepare func(t *testing.T, dir string)
		want    []string
	}{
		{"not a database", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "openleash.db"), strings.Repeat("not a database ", 1000))
		}, []string{"openleash.db", "the file is damaged", "backup"}},
		{"a folder in its place", func(t *testing.T, dir string) {
			if err := os.Mkdir(filepath.Join(dir, "openleash.db"), 0o700); err != nil {
				t.Fatal(err)
			}
		}, []string{"openleash.db", "directory"}},
		{"a newer schema", func(t *testing.T, dir string) {
			s := open(t, dir)
			run(t, foreign(t, s), "PRAGMA user_version = 999")
		}, []string{"openleash.db", "version 999", "update this one"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			test.prepare(t, dir)
			s, err := Open(t.Context(), dir)
			if err == nil {
				s.Close()
			}
			wantMessage(t, err, append(test.want, "opening store: ")...)
		})
	}
	t.Run("a file in the folder's place", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "data")
		write(t, dir, "")
		_, err := Open(t.Context(), dir)
		wantMessage(t, err, "opening store: ", dir)
	})
}

// A file of an earlier program has its approvals afterwards, and they can have
// rounds; limits can be charged.
func TestOlderSchema(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	r := request("r1")
	r.IntentHash = action.Hash{9}
	spent := authz.Redemption{RequestID: r.ID, DecisionID: "d", ActionHash: r.ActionHash.String(), AgentID: r.AgentID, Now: time.Now().UnixMilli()}
	for _, b := range []authz.Batch{
		{Open: &r},
		{Answer: &approvals.Answer{RequestID: r.ID, ActionHash: r.ActionHash, Approve: true, By: "x", At: time.Now(), GrantFor: time.Hour}},
		{Redeem: &spent},
	} {
		if err := s.Commit(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	conn := foreign(t, s)
	undo(t, conn, 2)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	got, err := s.Approval(t.Context(), r.ID)
	if err != nil || got.Status != approvals.Redeemed || got.RedeemedBy != "d" || got.Round != (approvals.Round{}) || got.Rounds != 0 {
		t.Fatalf("%+v, %v", got, err)
	}
	round := approvals.Round{Hash: [32]byte{1}, Until: time.Now().Add(time.Hour)}
	if err := s.Commit(t.Context(), authz.Batch{OpenRound: &authz.RoundOpening{RequestID: r.ID, DecisionID: "d", ActionHash: spent.ActionHash, AgentID: r.AgentID, Round: round}}); err != nil {
		t.Fatal(err)
	}
	charge := authz.Charge{Limit: "p/a", Key: "[]", Amount: 1, Max: 1}
	if err := s.Commit(t.Context(), authz.Batch{Reserve: &authz.Reservation{ActionHash: spent.ActionHash, Charges: []authz.Charge{charge}}}); err != nil {
		t.Fatal(err)
	}
	spent.DecisionID = "d2"
	if err := s.Commit(t.Context(), authz.Batch{Continue: &authz.Continuation{Redemption: spent, Round: round.Hash}}); err != nil {
		t.Fatal(err)
	}
}

// What an earlier program has charged can be looked at and released.
func TestOlderCharges(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	charge := authz.Charge{Limit: "p/a", Key: "[]", Amount: 1, Max: 1}
	reserve := authz.Batch{Reserve: &authz.Reservation{DecisionID: "d", ActionHash: modelHash, Charges: []authz.Charge{charge}}}
	if err := s.Commit(t.Context(), reserve); err != nil {
		t.Fatal(err)
	}
	conn := foreign(t, s)
	undo(t, conn, 4)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	list, err := s.DecisionCharges(t.Context(), "d")
	if err != nil || len(list) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	for _, b := range []authz.Batch{{Release: &authz.Release{DecisionID: "d", Charges: []authz.ReleasedCharge{{Charged: list[0]}}}}, reserve} {
		if err := s.Commit(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// asking is a batch that changes more than the log: a transaction's.
func asking(id, detail string) authz.Batch {
	r := request(id)
	sum := sha256.Sum256([]byte(id))
	r.IntentHash = sum
	b := note(detail)
	b.Open = &r
	return b
}

// A full disk refuses, says so, loses nothing, and is forgotten when there is
// space again.
func TestFull(t *testing.T) {
	s := open(t, t.TempDir())
	if err := s.Commit(t.Context(), asking("r1", "before")); err != nil {
		t.Fatal(err)
	}
	pragma(t, s, "max_page_count = 1") // SQLite takes that as: no larger than it is
	large := strings.Repeat("x", 16<<10)
	for range 3 {
		err := s.Commit(t.Context(), asking("r2", large))
		wantMessage(t, err, s.path, "full", "free space on the disk of "+filepath.Dir(s.path))
	}
	pragma(t, s, "max_page_count = 1000000")
	for id, detail := range map[string]string{"r3": "after", "r2": large} {
		if err := s.Commit(t.Context(), asking(id, detail)); err != nil {
			t.Fatal(err)
		}
	}
	got := details(t, s)
	if got["before"] != 1 || got["after"] != 1 || got[large] != 1 || len(got) != 3 {
		t.Errorf("want before, after and one large entry, got %d kinds, %d large", len(got), got[large])
	}
}

// Who commits in one group with a batch that fills the disk is refused too; who
// was told that all is well finds it so.
func TestFullGroup(t *testing.T) {
	s := open(t, t.TempDir())
	pragma(t, s, "max_page_count = 1")
	errs := make([]error, 64)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			errs[i] = s.Commit(t.Context(), asking(fmt.Sprint(i), fmt.Sprint(i)+strings.Repeat("x", i*100)))
		})
	}
	wg.Wait()
	got, refused := details(t, s), 0
	for i, err := range errs {
		_, there := got[fmt.Sprint(i)+strings.Repeat("x", i*100)]
		if there != (err == nil) {
			t.Errorf("commit %d: %v, and it is there: %t", i, err, there)
		}
		if err != nil {
			refused++
		}
	}
	if refused == 0 {
		t.Error("nothing was refused: the disk was not full")
	}
}

// What another program does to the database stops what needs it, and no more.
func TestForeignLock(t *testing.T) {
	s := open(t, t.TempDir())
	pragma(t, s, "busy_timeout = 20")
	other := foreign(t, s)
	run(t, other, "BEGIN IMMEDIATE")
	err := s.Commit(t.Context(), asking("r1", "refused"))
	wantMessage(t, err, s.path, "another program has it locked")
	if err := s.Commit(t.Context(), note("done")); err != nil {
		t.Fatal(err)
	}
	run(t, other, "ROLLBACK")
	if err := s.Commit(t.Context(), asking("r1", "done too")); err != nil {
		t.Fatal(err)
	}
	if got := details(t, s); len(got) != 2 || got["done"] != 1 || got["done too"] != 1 {
		t.Errorf("want two entries, got %v", got)
	}
}

// Once its files are not those that other processes would open, a store
// refuses, whatever comes to stand in their place.
func TestReplaced(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // open files cannot be replaced there
	}
	for _, test := range []struct {
		file  string
		batch authz.Batch
	}{
		{"openleash.db", note("lost")},
		{"openleash.db", asking("r2", "lost")},
		{"openleash.db-wal", asking("r2", "lost")},
		{"openleash.journal", note("lost")},
		{"openleash.journal", asking("r2", "lost")},
	} {
		dir := t.TempDir()
		s := open(t, dir)
		if err := s.Commit(t.Context(), asking("r1", "before")); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dir, test.file)); err != nil {
			t.Fatal(err)
		}
		refused := func() {
			t.Helper()
			wantMessage(t, s.Commit(t.Context(), test.batch), s.path, "removed or replaced", "restart")
		}
		refused()
		if test.file == "openleash.db" {
			second := open(t, dir)
			if err := second.Commit(t.Context(), note("elsewhere")); err != nil {
				t.Fatal(err)
			}
		} else {
			write(t, filepath.Join(dir, test.file), "")
		}
		refused()
	}
}

// The stored action is what the hash names, or nobody sees it.
func TestAlteredAction(t *testing.T) {
	s := open(t, t.TempDir())
	r := request("r1")
	if err := s.Commit(t.Context(), authz.Batch{Open: &r}); err != nil {
		t.Fatal(err)
	}
	run(t, foreign(t, s), `UPDATE approvals SET action = CAST(replace(CAST(action AS TEXT), 'mcp.shop.buy', 'mcp.shop.see') AS BLOB)`)
	for name, read := range map[string]func() error{
		"Approval": func() error { _, err := s.Approval(t.Context(), "r1"); return err },
		"OpenApproval": func() error {
			_, err := s.OpenApproval(t.Context(), r.AgentID, r.IntentHash, r.CreatedAt, r.CreatedAt)
			return err
		},
		"Approvals": func() error { _, err := s.Approvals(t.Context(), r.OwnerID, "", 10); return err },
	} {
		if err := read(); !errors.Is(err, errAltered) {
			t.Errorf("%s: want %q, got %v", name, errAltered, err)
		}
	}
}

// hold takes a lock, as another process does.
func hold(t *testing.T, s *Store, name string) (release func()) {
	t.Helper()
	q, err := filelock.OpenQueue(filepath.Join(filepath.Dir(s.path), name))
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Lock(); err != nil {
		t.Fatal(err)
	}
	return func() { q.Unlock(); q.Close() }
}

// While it waits for its turn, a commit can be withdrawn, and then never
// happens; the others do.
func TestWithdrawn(t *testing.T) {
	s := open(t, t.TempDir())
	release := hold(t, s, "openleash.journal.lock")
	ctx, cancel := context.WithCancel(t.Context())
	leaves, stays := make(chan error), make(chan error)
	go func() { leaves <- s.Commit(ctx, note("withdrawn")) }()
	go func() { stays <- s.Commit(t.Context(), note("done")) }()
	time.Sleep(20 * time.Millisecond)
	cancel()
	if err := <-leaves; !errors.Is(err, context.Canceled) {
		t.Errorf("want %v, got %v", context.Canceled, err)
	}
	release()
	if err := <-stays; err != nil {
		t.Error(err)
	}
	if got := details(t, s); len(got) != 1 || got["done"] != 1 {
		t.Errorf("want one entry, got %v", got)
	}
}

// Once it runs, a commit is waited for, whatever its context says.
func TestTakenIsCertain(t *testing.T) {
	s := open(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	err := s.write(ctx, func(tx *tx) error {
		cancel()
		time.Sleep(20 * time.Millisecond)
		_, err := tx.exec("INSERT INTO entries (body) VALUES (?)", []byte(`{"detail":"done"}`))
		return err
	})
	if err != nil {
		t.Errorf("want the outcome, got %v", err)
	}
	if got := details(t, s); got["done"] != 1 {
		t.Errorf("want one entry, got %v", got)
	}
}

// A job that fails takes nothing with it but what it did itself, and neither
// does one that the schema refuses.
func TestGroup(t *testing.T) {
	s := open(t, t.TempDir())
	release := hold(t, s, "write.lock")
	fault := errors.New("a condition")
	entry := func(detail string) [][]byte { return [][]byte{fmt.Appendf(nil, `{"detail":%q}`, detail)} }
	jobs := map[string]*job{
		"a": {entries: entry("a")},
		"b": {run: func(tx *tx) error { tx.append(entry("b")); return fault }},
		"c": {run: func(tx *tx) error {
			_, err := tx.exec("INSERT INTO entries (body) VALUES (NULL)")
			return err
		}, entries: entry("c")},
		"d": {entries: entry("d")},
	}
	errs := map[string]chan error{}
	for name, job := range jobs {
		done := make(chan error, 1)
		errs[name] = done
		go func() { done <- s.writer.do(t.Context(), job) }()
	}
	for len(s.writer.jobs) < len(jobs)-1 { // one is in the writer's hands
		time.Sleep(time.Millisecond)
	}
	release()
	for name := range jobs {
		err := <-errs[name]
		switch name {
		case "a", "d":
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		case "b":
			if !errors.Is(err, fault) {
				t.Errorf("b: want %v, got %v", fault, err)
			}
		case "c":
			wantMessage(t, err, "NOT NULL")
		}
	}
	if got := details(t, s); len(got) != 2 || got["a"] != 1 || got["d"] != 1 {
		t.Errorf("want a and d, got %v", got)
	}
}

// What Close leaves is one whole file: the last connection brings the log home.
func TestCloseLeavesNothingOpen(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if err := s.Commit(t.Context(), note("one")); err != nil {
		t.Fatal(err)
	}
	if got := details(t, s); got["one"] != 1 {
		t.Errorf("want the entry, got %v", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(s.path + "-wal"); err != nil {
		t.Fatal(err)
	}
	if got := details(t, open(t, dir)); got["one"] != 1 {
		t.Errorf("without the log: want the entry, got %v", got)
	}
}

// Close does what was queued.
func TestCloseFinishes(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	release := hold(t, s, "openleash.journal.lock")
	done := make(chan error)
	for _, detail := range []string{"one", "two"} {
		go func() { done <- s.Commit(t.Context(), note(detail)) }()
	}
	for len(s.journal.jobs) < 1 { // the other is in the journal's hands
		time.Sleep(time.Millisecond)
	}
	closed := make(chan error)
	go func() { closed <- s.Close() }()
	time.Sleep(20 * time.Millisecond)
	release()
	if err := errors.Join(<-done, <-done, <-closed); err != nil {
		t.Fatal(err)
	}
	if got := details(t, open(t, dir)); got["one"] != 1 || got["two"] != 1 {
		t.Errorf("want both entries, got %v", got)
	}
}
