package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
)

// signalled is what a watch reads in these tests.
type signalled struct {
	mu    sync.Mutex
	all   []signal
	err   error
	reads int
}

func (s *signalled) read(after int64) (news []signal, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	for _, g := range s.all {
		if g.n > after {
			news = append(news, g)
		}
	}
	return news, s.err
}

func (s *signalled) put(news []signal, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all, s.err = append(s.all, news...), err
}

func (s *signalled) looks() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads
}

func woken(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// A watch costs something only while somebody waits, and wakes whom it concerns.
// That no goroutine is left, the bubble sees.
func TestWatch(t *testing.T) {
	for _, test := range []struct {
		name         string
		news         []signal
		err          error
		first, other bool // who is woken
	}{
		{"nothing new", nil, nil, false, false},
		{"of one", []signal{{2, "r1"}}, nil, true, false},
		{"of nobody here", []signal{{2, "r9"}}, nil, false, false},
		{"of several", []signal{{2, "r9"}, {3, "r2"}, {4, "r1"}}, nil, true, true},
		{"of everybody", []signal{{2, ""}}, nil, true, true},
		{"some were missed", []signal{{3, "r9"}}, nil, true, true},
		{"cannot be read", nil, errors.New("broken"), true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &signalled{all: []signal{{1, "r0"}}}
				w := newWatch(s.read)
				time.Sleep(time.Hour)
				if n := s.looks(); n != 0 {
					t.Fatalf("nobody waited, and there were %d looks", n)
				}
				first, leaveFirst := w.join("r1")
				other, leaveOther := w.join("r2")
				synctest.Wait()
				woken(first) // the first look may wake
				woken(other)
				s.put(test.news, test.err)
				time.Sleep(lookEvery)
				synctest.Wait()
				if one, two := woken(first), woken(other); one != test.first || two != test.other {
					t.Errorf("woken: want %t, %t; got %t, %t", test.first, test.other, one, two)
				}
				leaveFirst()
				leaveOther()
				synctest.Wait()
				looks := s.looks()
				time.Sleep(time.Hour)
				if s.looks() != looks {
					t.Error("looks when all have left")
				}
			})
		})
	}
}

// What this process commits is looked at in no time; also the commit that came
// before anybody waited does no harm.
func TestWatchAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &signalled{}
		w := newWatch(s.read)
		w.soon()
		changed, leave := w.join("r1")
		defer leave()
		synctest.Wait()
		began := time.Now()
		s.put([]signal{{1, "r1"}}, nil)
		w.soon()
		w.soon()
		<-changed
		if took := time.Since(began); took != 0 {
			t.Errorf("woken after %s", took)
		}
	})
}

// A transaction hurries the watch of its process.
func TestCommitHurriesWatch(t *testing.T) {
	s := open(t, t.TempDir())
	woken(s.watch.hurry)
	r := request("r1")
	if err := s.Commit(t.Context(), authz.Batch{Open: &r}); err != nil || !woken(s.watch.hurry) {
		t.Errorf("want a hurried watch, got none (%v)", err)
	}
}

// More signals than are kept, all at once, lose nobody.
func TestManySignals(t *testing.T) {
	dir := t.TempDir()
	s, other := open(t, dir), open(t, dir)
	r := request("r1")
	if err := s.Commit(t.Context(), authz.Batch{Open: &r}); err != nil {
		t.Fatal(err)
	}
	changed, stop := s.Watch("r1")
	defer stop()
	time.Sleep(4 * lookEvery)
	woken(changed)
	if err := other.write(t.Context(), func(t *tx) error {
		_, err := t.exec("UPDATE approvals SET status = 'DENIED' WHERE id = 'r1'")
		for i := 0; err == nil && i < 1000; i++ {
			_, err = t.exec("INSERT INTO signals (topic) VALUES (?)", fmt.Sprint("x", i))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
	case <-time.After(20 * time.Second):
		t.Fatal("nobody was woken")
	}
	all, err := s.signals(0)
	if err != nil || len(all) != 256 || all[255].n != 1001 {
		t.Errorf("want the latest 256 of 1001 signals, got %d, %v", len(all), err)
	}
}

// answerAndDie answers r1 and ends there and then, with nothing closed.
func answerAndDie(s *Store) error {
	a := approvals.Answer{RequestID: "r1", ActionHash: request("r1").ActionHash, By: "cli:root", Reason: "no", At: time.Now()}
	if err := s.Commit(context.Background(), authz.Batch{Answer: &a}); err != nil {
		return err
	}
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		return err
	}
	self.Kill()
	select {}
}

// An answer wakes those in other processes also when the process that has
// committed it does nothing any more. And a thousand of them cost next to nothing.
func TestWatchBetweenProcesses(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	r := request("r1")
	if err := s.Commit(t.Context(), authz.Batch{Open: &r}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var right atomic.Int64
	done := make(chan struct{})
	const waiters = 1000
	for range waiters {
		go func() {
			if got, err := approvals.Wait(ctx, s, "r1"); err == nil && got.Status == approvals.Denied {
				right.Add(1)
			}
			done <- struct{}{}
		}()
	}
	cmd, _ := start(t, "answer and die", dir)
	if err := cmd.Wait(); err == nil {
		t.Fatal("the process that answers was not killed")
	}
	for range waiters {
		<-done
	}
	if right.Load() != waiters {
		t.Errorf("%d of %d were woken", right.Load(), waiters)
	}
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	if len(s.watch.waiting) != 0 {
		t.Errorf("%d topics are still watched", len(s.watch.waiting))
	}
}

// BenchmarkWatch is one look of a process in which somebody waits.
func BenchmarkWatch(b *testing.B) {
	s := open(b, b.TempDir())
	r := request("r1")
	deny := approvals.Answer{RequestID: "r1", ActionHash: r.ActionHash, At: time.Now()}
	for _, batch := range []authz.Batch{{Open: &r}, {Answer: &deny}} {
		if err := s.Commit(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for last := s.watch.look(-1); b.Loop(); {
		last = s.watch.look(last)
	}
}

// What waits is counted without a look at the requests, which can be megabytes each.
func TestWaitingReadsAnIndexAlone(t *testing.T) {
	s := open(t, t.TempDir())
	plan, err := list(t.Context(), s, func(scan scan) (detail string, err error) {
		var id, parent, unused int
		err = scan(&id, &parent, &unused, &detail)
		return detail, err
	}, "EXPLAIN QUERY PLAN "+selectWaiting, "owner", 0)
	if err != nil || len(plan) != 1 || !strings.Contains(plan[0], "USING COVERING INDEX approvals_waiting") {
		t.Errorf("%q, %v", plan, err)
	}
}
