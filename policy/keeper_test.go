package policy_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openleash/openleash-go/policy"
)

// snapshots is a store in memory: the real one is tested with its own suite.
type snapshots struct {
	mu      sync.Mutex
	sources []policy.Source
	hash    string
	fail    error
}

func (s *snapshots) SavePolicies(_ context.Context, hash string, sources []policy.Source) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail == nil {
		s.hash, s.sources = hash, sources
	}
	return s.fail
}

func (s *snapshots) LastPolicies(context.Context) ([]policy.Source, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sources, nil
}

func (s *snapshots) saved() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hash
}

// keep opens a keeper whose events go to a channel.
func keep(t *testing.T, dir string, last policy.Snapshots) (*policy.Keeper, chan policy.Event) {
	t.Helper()
	return keepGroups(t, dir, nil, last)
}

func keepGroups(t *testing.T, dir string, groups policy.Groups, last policy.Snapshots) (*policy.Keeper, chan policy.Event) {
	t.Helper()
	events := make(chan policy.Event, 100)
	k, err := policy.Open(t.Context(), dir, groups, last, func(e policy.Event) { events <- e })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k, events
}

func next(t *testing.T, events chan policy.Event) policy.Event {
	t.Helper()
	select {
	case e := <-events:
		return e
	case <-time.After(10 * time.Second):
		t.Fatal("no event")
		return policy.Event{}
	}
}

func quiet(t *testing.T, events chan policy.Event) {
	t.Helper()
	select {
	case e := <-events:
		t.Errorf("unexpected event %+v", e)
	default:
	}
}

func outcome(k *policy.Keeper) policy.Outcome { return decide(k.Current(), "bot").Outcome }

// TestKeeperFollows takes a folder through what people and editors do to it.
func TestKeeperFollows(t *testing.T) {
	dir := folder(t, map[string]string{"main.yaml": denyAll})
	main := filepath.Join(dir, "main.yaml")
	begun := time.Now()
	k, events := keep(t, dir, &snapshots{})
	if e := next(t, events); e.Err != nil || !slices.Equal(e.Changed, []string{"main"}) || e.Hash != k.Current().Hash {
		t.Fatalf("first event: %+v", e)
	}
	step := func(what string, want policy.Outcome, removed, changed []string, do func()) {
		t.Helper()
		do()
		e := next(t, events)
		if e.Err != nil || k.Err() != nil || outcome(k) != want {
			t.Fatalf("%s: event %+v, err %v, outcome %v", what, e, k.Err(), outcome(k))
		}
		if diff := cmp.Diff([][]string{removed, changed}, [][]string{e.Removed, e.Changed}); diff != "" {
			t.Fatalf("%s: removed, changed: %s", what, diff)
		}
	}
	broken := func(what, message string, want policy.Outcome, do func()) {
		t.Helper()
		before := k.Current().Hash
		do()
		e := next(t, events)
		if e.Err == nil || !strings.Contains(e.Err.Error(), message) || e.Hash != before {
			t.Fatalf("%s: event %+v, want a fault with %q", what, e, message)
		}
		if k.Err() == nil || outcome(k) != want {
			t.Fatalf("%s: err %v, outcome %v, want the last good set", what, k.Err(), outcome(k))
		}
	}
	step("written in place", policy.Allow, nil, []string{"main"}, func() { write(t, main, allowAll) })
	step("saved by renaming", policy.Deny, nil, []string{"main"}, func() {
		write(t, main+".swp~", denyAll)
		rename(t, main+".swp~", main)
	})
	broken("broken", "main.yaml:2:10", policy.Deny, func() { write(t, main, "version: 1\ndefault: alow\nrules: []\n") })
	broken("broken otherwise", "main.yaml:1:10", policy.Deny, func() { write(t, main, "version: 2\ndefault: deny\nrules: []\n") })
	step("as it was", policy.Deny, nil, nil, func() { write(t, main, denyAll) })
	step("a new folder for an agent", policy.Allow, nil, []string{"agents/bot/own"}, func() {
		write(t, filepath.Join(dir, "agents", "bot", "own.yaml"), allowAll)
	})
	step("a change in it", policy.Deny, nil, []string{"agents/bot/own"}, func() {
		write(t, filepath.Join(dir, "agents", "bot", "own.yaml"), denyAll)
	})
	deep := filepath.Join(dir, "agents", "bot", "a", "b", "c", "own.yaml")
	step("folders in it", policy.Allow, nil, []string{"agents/bot/a/b/c/own"}, func() { write(t, deep, headed("applies_to: {agent: bot}")) })
	step("a change there", policy.Deny, nil, []string{"agents/bot/a/b/c/own"}, func() { write(t, deep, "applies_to: {agent: bot}\n"+denyAll) })
	step("removed", policy.Deny, []string{"agents/bot/a/b/c/own", "agents/bot/own"}, nil, func() {
		if err := os.RemoveAll(filepath.Join(dir, "agents")); err != nil {
			t.Fatal(err)
		}
	})
	other := folder(t, map[string]string{"other.yaml": allowAll})
	broken("moved away", "make the folder", policy.Deny, func() { rename(t, dir, dir+".old") })
	step("replaced", policy.Allow, []string{"main"}, []string{"other"}, func() { rename(t, other, dir) })
	step("followed after that", policy.Deny, nil, []string{"other"}, func() { write(t, filepath.Join(dir, "other.yaml"), denyAll) })
	step("emptied", policy.Deny, []string{"other"}, nil, func() {
		if err := os.Remove(filepath.Join(dir, "other.yaml")); err != nil {
			t.Fatal(err)
		}
	})
	quiet(t, events)
	if took := time.Since(begun); took > 14*time.Second {
		t.Errorf("14 changes took %v: they were found by looking every 2 s, not by events", took)
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// TestKeeperLinkedFile: no event tells of a change behind a link.
func TestKeeperLinkedFile(t *testing.T) {
	dir, elsewhere := folder(t, nil), filepath.Join(t.TempDir(), "main.yaml")
	write(t, elsewhere, denyAll)
	if err := os.Symlink(elsewhere, filepath.Join(dir, "main.yaml")); err != nil {
		return // a system without links for everybody
	}
	k, events := keep(t, dir, nil)
	next(t, events)
	write(t, elsewhere, allowAll)
	if e := next(t, events); outcome(k) != policy.Allow || e.Err != nil {
		t.Errorf("%+v", e)
	}
}

// TestKeeperRestart: the last good set survives a restart with a broken folder.
func TestKeeperRestart(t *testing.T) {
	dir := folder(t, map[string]string{"main.yaml": allowAll, "second.yaml": denyAll})
	last := &snapshots{}
	k, events := keep(t, dir, last)
	next(t, events)
	hash := k.Current().Hash
	if last.saved() != hash {
		t.Fatalf("saved %q, in force %q", last.saved(), hash)
	}

	write(t, filepath.Join(dir, "main.yaml"), "nonsense")
	next(t, events)
	again, events := keep(t, dir, last)
	if e := next(t, events); e.Err == nil || e.Hash != hash || again.Current().Hash != hash || again.Err() == nil || outcome(again) != policy.Allow {
		t.Errorf("broken: %+v, err %v", e, again.Err())
	}

	// A file that went while nothing ran is told of at the next start.
	if err := os.Remove(filepath.Join(dir, "main.yaml")); err != nil {
		t.Fatal(err)
	}
	third, events := keep(t, dir, last)
	if e := next(t, events); e.Err != nil || !slices.Equal(e.Removed, []string{"main"}) || outcome(third) != policy.Deny {
		t.Errorf("removed: %+v", e)
	}

	// Nothing changed: nothing to tell.
	_, events = keep(t, dir, last)
	quiet(t, events)
}

// TestKeeperNothing: a broken folder and no last good set refuse everything.
func TestKeeperNothing(t *testing.T) {
	dir := folder(t, map[string]string{"main.yaml": "nonsense"})
	k, events := keep(t, dir, &snapshots{})
	if e := next(t, events); e.Err == nil || e.Hash != "" || k.Current() != nil || k.Err() == nil {
		t.Errorf("%+v, %v", e, k.Err())
	}
	write(t, filepath.Join(dir, "main.yaml"), allowAll)
	if e := next(t, events); e.Err != nil || outcome(k) != policy.Allow || k.Err() != nil {
		t.Errorf("mended: %+v, %v", e, k.Err())
	}
}

// TestKeeperBadSnapshot: a last good set that this version refuses is as good
// as none, and is not silently left out of the message.
func TestKeeperBadSnapshot(t *testing.T) {
	dir := folder(t, map[string]string{"main.yaml": "nonsense"})
	k, _ := keep(t, dir, &snapshots{sources: []policy.Source{{Name: "a.yaml", Text: "version: 9"}}})
	if k.Current() != nil || k.Err() == nil || !strings.Contains(k.Err().Error(), "the last good policies") || !strings.Contains(k.Err().Error(), "main.yaml") {
		t.Errorf("%v", k.Err())
	}
}

// TestKeeperUnsaved: a store that refuses holds nothing up, and is told of.
func TestKeeperUnsaved(t *testing.T) {
	dir := folder(t, map[string]string{"main.yaml": allowAll})
	last := &snapshots{fail: errors.New("disk full")}
	k, events := keep(t, dir, last)
	if e := next(t, events); e.Err == nil || !strings.Contains(e.Err.Error(), "disk full") || e.Hash == "" || outcome(k) != policy.Allow || k.Err() != nil {
		t.Errorf("%+v", e)
	}
	last.mu.Lock()
	last.fail = nil
	last.mu.Unlock()
	write(t, filepath.Join(dir, "main.yaml"), denyAll)
	if e := next(t, events); e.Err != nil || last.saved() != e.Hash {
		t.Errorf("%+v, saved %q", e, last.saved())
	}
}

// TestKeeperManyReaders: Current is asked from everywhere while books change.
func TestKeeperManyReaders(t *testing.T) {
	dir := folder(t, map[string]string{"main.yaml": allowAll})
	k, events := keep(t, dir, nil)
	next(t, events)
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for ctx.Err() == nil {
				if o := outcome(k); o != policy.Allow && o != policy.Deny {
					t.Errorf("outcome %v", o)
				}
				k.Err()
			}
		})
	}
	for i := range 4 {
		write(t, filepath.Join(dir, "main.yaml"), []string{denyAll, allowAll}[i%2])
		next(t, events)
	}
	stop()
	all.Wait()
}

// TestKeeperTellsOfRenamedLimits: what was used under the old id is not counted any
// more, and only who sees both policies can know.
func TestKeeperTellsOfRenamedLimits(t *testing.T) {
	limited := func(id string) string {
		return denyAll + "limits: [{id: " + id + ", count: true, max: 1, window: 1h}]\n"
	}
	dir := folder(t, map[string]string{"main.yaml": limited("a")})
	_, events := keep(t, dir, &snapshots{})
	if e := next(t, events); len(e.Warnings) > 0 {
		t.Errorf("at first: %v", e.Warnings)
	}
	write(t, filepath.Join(dir, "main.yaml"), limited("b"))
	if e := next(t, events); len(e.Warnings) != 1 || !strings.Contains(e.Warnings[0].Error(), `main.yaml:4:15: limit "b" was "a" before`) {
		t.Errorf("renamed: %v", e.Warnings)
	}
}

// TestKeeperGroups: members are bound by their groups' policies, also by the last
// good ones after a restart; a group that is not there is told of.
func TestKeeperGroups(t *testing.T) {
	dir := folder(t, map[string]string{"main.yaml": denyAll, "groups/buyers/own.yaml": allowAll})
	store, groups := &snapshots{}, policy.Groups{"buyers": {"bot"}}
	k, events := keepGroups(t, dir, groups, store)
	if e := next(t, events); e.Err != nil || len(e.Warnings) > 0 {
		t.Fatalf("%+v", e)
	}
	bound := func(k *policy.Keeper, want policy.Outcome) {
		t.Helper()
		if got, other := outcome(k), decide(k.Current(), "other").Outcome; got != want || other != policy.Deny {
			t.Fatalf("bot: %v, other: %v; want %v, DENY", got, other, want)
		}
	}
	bound(k, policy.Allow)
	write(t, filepath.Join(dir, "groups", "buyers", "own.yaml"), "version: 1\n")
	if e := next(t, events); e.Err == nil {
		t.Fatalf("%+v", e)
	}
	bound(k, policy.Allow)
	again, events := keepGroups(t, dir, groups, store)
	if e := next(t, events); e.Err == nil {
		t.Fatalf("%+v", e)
	}
	bound(again, policy.Allow)

	write(t, filepath.Join(dir, "groups", "buyers", "own.yaml"), allowAll)
	without, events := keepGroups(t, dir, policy.Groups{"buyer": {"bot"}}, store)
	if e := next(t, events); e.Err != nil || len(e.Warnings) != 1 || !strings.Contains(e.Warnings[0].Message, `no group "buyers" (did you mean "buyer"?)`) {
		t.Fatalf("%+v", e)
	}
	bound(without, policy.Deny)
}
