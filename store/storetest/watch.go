package storetest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// open24h is a request that a real clock does not end.
func open24h(id string, intent byte) *approvals.Request {
	r := request(id, "bot", intent)
	r.CreatedAt = time.Now()
	r.ExpiresAt = r.CreatedAt.Add(24 * time.Hour)
	return &r
}

func wantSignal(t *testing.T, what string, changed <-chan struct{}) {
	t.Helper()
	select {
	case <-changed:
	case <-time.After(patience):
		t.Fatalf("%s: nobody was woken", what)
	}
}

func wantSilence(t *testing.T, what string, changed <-chan struct{}) {
	t.Helper()
	select {
	case <-changed:
		t.Errorf("%s: woken for nothing", what)
	case <-time.After(200 * time.Millisecond):
	}
}

// keepWatching has somebody wait in s until the test ends. Who joins later is not
// woken for nothing, as the first one may be.
func keepWatching(t *testing.T, s Store, id string) {
	t.Helper()
	changed, stop := s.Watch(id)
	t.Cleanup(stop)
	commit(t, s, authz.Batch{Open: open24h(id, id[0])})
	commit(t, s, answer(deny(id, time.Now())))
	wantSignal(t, "at the beginning", changed)
}

// Every end of a request is told, in the process that makes it and in another one,
// and to nobody who waits for something else.
func testWatch(t *testing.T, open Open) {
	place := t.TempDir()
	a, b := open(t, place), open(t, place)
	keepWatching(t, a, "x")
	keepWatching(t, b, "y")
	for i, test := range []struct {
		name  string
		batch func(id string) authz.Batch
	}{
		{"approve", func(id string) authz.Batch { return answer(approve(id, time.Now())) }},
		{"deny", func(id string) authz.Batch { return answer(deny(id, time.Now())) }},
		{"supersede", func(id string) authz.Batch { return authz.Batch{Supersede: id} }},
		{"opened anew as another action", func(id string) authz.Batch {
			r := open24h(id+" anew", byte(10))
			return authz.Batch{Supersede: id, Open: r}
		}},
	} {
		id, other := fmt.Sprint("r", i), fmt.Sprint("other", i)
		commit(t, a, authz.Batch{Open: open24h(id, byte(10+i))})
		commit(t, a, authz.Batch{Open: open24h(other, byte(100+i))})
		if i == 3 {
			commit(t, a, authz.Batch{Supersede: "r0"}) // its intent is that of the new one
		}
		here, stopHere := a.Watch(id)
		there, stopThere := b.Watch(id)
		quiet, stopQuiet := b.Watch(other)
		commit(t, a, test.batch(id))
		wantSignal(t, test.name+", here", here)
		wantSignal(t, test.name+", there", there)
		wantSilence(t, test.name+", another request", quiet)
		stopHere()
		stopThere()
		stopQuiet()
		stopQuiet() // may be called twice
	}
}

// A change of what is kept of a server's definitions is told to those who wait for it.
func testWatchPins(t *testing.T, open Open) {
	place := t.TempDir()
	a, b := open(t, place), open(t, place)
	keepWatching(t, b, "y")
	there, stop := b.Watch(authz.PinTopic(ownerID, "shop"))
	defer stop()
	quiet, stopQuiet := b.Watch(authz.PinTopic(ownerID, "bank"))
	defer stopQuiet()
	for generation, state := range []authz.PinState{authz.PinWaiting, authz.PinAccepted} {
		commit(t, a, pinning(int64(generation), authz.Pinning{Put: []authz.Pin{pin("buy", 1, state, "{}")}}))
		wantSignal(t, "a definition is "+string(state), there)
	}
	wantSilence(t, "another server", quiet)
}

// A commit of which nothing is done wakes nobody.
func testWatchFailed(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	keepWatching(t, s, "x")
	commit(t, s, authz.Batch{Open: open24h("r1", 1)})
	changed, stop := s.Watch("r1")
	defer stop()
	commit(t, s, answer(approve("r1", time.Now())))
	wantSignal(t, "approve", changed)
	wantErr(t, "answering twice", s.Commit(t.Context(), answer(deny("r1", time.Now()))), approvals.ErrAnswered)
	wantSilence(t, "an answer that did not count", changed)
}

// Whoever looks after Watch has returned and then waits misses nothing, whenever
// the answer comes, from another process, while others come and go.
func testWatchRace(t *testing.T, open Open) {
	place := t.TempDir()
	a, b := open(t, place), open(t, place)
	const requests = 60
	var group sync.WaitGroup
	for i := range requests {
		id := fmt.Sprint("r", i)
		r := open24h(id, 1)
		r.IntentHash = action.Hash{byte(i), 1}
		commit(t, a, authz.Batch{Open: r})
		group.Go(func() {
			began := time.Now()
			got, err := approvals.Wait(t.Context(), b, id)
			if took := time.Since(began); err != nil || got.Status != approvals.Approved || took > patience {
				t.Errorf("%s: %s after %s, %v", id, got.Status, took, err)
			}
		})
		group.Go(func() {
			if err := a.Commit(t.Context(), answer(approve(id, time.Now()))); err != nil {
				t.Errorf("answering %s: %v", id, err)
			}
		})
		if i%5 == 4 {
			group.Wait() // the next one begins when nobody waits
		}
	}
	group.Wait()
}

// What waits is what is pending, before its time, of that owner.
func testWaiting(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	for i, id := range []string{"late", "early", "answered", "foreign"} {
		r := request(id, "bot", byte(i))
		switch id {
		case "early":
			r.ExpiresAt = r.CreatedAt.Add(time.Minute)
		case "foreign":
			r.OwnerID = "99999999-2222-4333-8444-555555555555"
		}
		commit(t, s, ask(r))
	}
	commit(t, s, answer(deny("answered", start)))
	for _, test := range []struct {
		at   time.Duration
		want []string
	}{
		{0, []string{"early", "late"}},
		{time.Minute - time.Millisecond, []string{"early", "late"}},
		{time.Minute, []string{"late"}},
		{time.Hour, nil},
	} {
		got, err := s.Waiting(t.Context(), ownerID, start.Add(test.at))
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, w := range got {
			ids = append(ids, w.ID)
			if w.Version != 1 {
				t.Errorf("%s is at version %d", w.ID, w.Version)
			}
		}
		if diff := cmp.Diff(test.want, ids); diff != "" {
			t.Errorf("after %s (-want +got):\n%s", test.at, diff)
		}
	}
}
