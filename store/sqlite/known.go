package sqlite

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/openleash/openleash-go/identity"
)

// known remembers agents by their tokens and names: they are asked for at each request.
// What it remembers holds until any process changes an agent: each change makes
// a file one byte longer, and its length is looked at first.
type known struct {
	file string // agents.changes, in the store's folder

	mu    sync.Mutex
	at    int64                     // the length at which byKey was read
	byKey map[string]identity.Agent // guarded by mu
}

// maxKnown bounds what is remembered.
const maxKnown = 20_000

func newKnown(dir string) *known {
	return &known{file: filepath.Join(dir, "agents.changes"), byKey: map[string]identity.Agent{}}
}

// changes is how often agents were changed, -1 when that cannot be told.
func (t *known) changes() int64 {
	info, err := os.Stat(t.file)
	switch {
	case err == nil:
		return info.Size()
	case os.IsNotExist(err):
		return 0
	}
	return -1
}

// find returns the agent of a key, from read unless it is remembered.
func (t *known) find(key string, read func() (identity.Agent, error)) (identity.Agent, error) {
	now := t.changes() // before read: what is read later is at least as new
	t.mu.Lock()
	if now != t.at || now < 0 || len(t.byKey) >= maxKnown {
		clear(t.byKey)
		t.at = now
	}
	agent, ok := t.byKey[key]
	t.mu.Unlock()
	if ok {
		return agent, nil
	}
	agent, err := read()
	if err != nil {
		return agent, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if now >= 0 && now == t.at {
		t.byKey[key] = agent
	}
	return agent, nil
}

// changed tells every process to forget.
func (t *known) changed() error {
	f, err := os.OpenFile(t.file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.Write([]byte{'\n'})
		if closing := f.Close(); err == nil {
			err = closing
		}
	}
	if err != nil {
		return fmt.Errorf("telling running processes that an agent has changed: %w; they may know it as it was until they are restarted", err)
	}
	return nil
}
