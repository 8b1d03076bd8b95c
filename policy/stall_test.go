package policy

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestReloadDoesNotStall: decisions go on while thousands of rules are read, and none
// waits for that, nor compiles them. Of several reloads the one with the quickest
// decisions counts: whatever else the machine does only adds to what they take.
func TestReloadDoesNotStall(t *testing.T) {
	s := shapes[1]
	dir := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file+"~", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+"~", file); err != nil {
			t.Fatal(err)
		}
	}
	for i, text := range s.texts() {
		put(fmt.Sprintf("p%d.yaml", i), text)
	}
	const own = "version: 1\ndefault: passthrough\nrules: []\n"
	put("agents/bot/own.yaml", own)
	reloads := make(chan Event, 10)
	k, err := Open(t.Context(), dir, nil, nil, func(e Event) { reloads <- e })
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	<-reloads

	var longest, decided atomic.Int64
	var deciding sync.WaitGroup
	stop := make(chan struct{})
	deciding.Go(func() {
		req, want := s.request(t, mostRules), fmt.Sprint("r", mostRules-1)
		before := k.Current()
		for tick := time.NewTicker(100 * time.Microsecond); ; {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			book := k.Current()
			for agent, asked := range map[string]string{"bot": "bot", "other": ""} {
				if _, ok := book.asked.Load(asked); !ok && book != before {
					t.Errorf("what %q decides with was not compiled before it came into force", agent)
				}
				begun := time.Now()
				d := book.For(agent).Decide(req, Env{})
				longest.Store(max(longest.Load(), int64(time.Since(begun))))
				if d.RuleID != want {
					t.Errorf("%s: %+v", agent, d)
				}
			}
			before = book
			decided.Add(1)
		}
	})
	more := func() {
		for until := decided.Load() + 5; decided.Load() < until; {
			time.Sleep(time.Millisecond)
		}
	}
	more()
	best := time.Duration(math.MaxInt64)
	for i := range 3 {
		longest.Store(0)
		put("agents/bot/own.yaml", own+strings.Repeat("#", i+1))
		if e := <-reloads; e.Err != nil {
			t.Fatal(e.Err)
		}
		more()
		best = min(best, time.Duration(longest.Load()))
	}
	close(stop)
	deciding.Wait()

	begun := time.Now()
	if _, err := Load(dir, nil); err != nil {
		t.Fatal(err)
	}
	if loading := time.Since(begun); best > loading/4 {
		t.Errorf("in each reload a decision took %v or longer; a load takes %v", best, loading)
	}
}
