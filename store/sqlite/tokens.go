package sqlite

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/openleash/openleash-go/identity"
)

// tokens remembers whose a token is: it is asked for each request over HTTP.
// What it remembers holds until any process changes an agent: each change makes
// a file one byte longer, and its length is looked at first.
type tokens struct {
	file string // agents.changes, in the store's folder

	mu    sync.Mutex
	at    int64                       // the length at which known was read
	known map[[32]byte]identity.Agent // guarded by mu
}

// maxKnown bounds what is remembered.
const maxKnown = 1000

func newTokens(dir string) *tokens {
	return &tokens{file: filepath.Join(dir, "agents.changes"), known: map[[32]byte]identity.Agent{}}
}

// changes is how often agents were changed, -1 when that cannot be told.
func (t *tokens) changes() int64 {
	info, err := os.Stat(t.file)
	switch {
	case err == nil:
		return info.Size()
	case os.IsNotExist(err):
		return 0
	}
	return -1
}

// find returns the agent of a token, from read unless it is remembered.
func (t *tokens) find(hash [32]byte, read func() (identity.Agent, error)) (identity.Agent, error) {
	now := t.changes() // before read: what is read later is at least as new
	t.mu.Lock()
	if now != t.at || now < 0 || len(t.known) >= maxKnown {
		clear(t.known)
		t.at = now
	}
	agent, ok := t.known[hash]
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
		t.known[hash] = agent
	}
	return agent, nil
}

// changed tells every process to forget.
func (t *tokens) changed() error {
	f, err := os.OpenFile(t.file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.Write([]byte{'\n'})
		if closing := f.Close(); err == nil {
			err = closing
		}
	}
	if err != nil {
		return fmt.Errorf("telling running processes that a token has changed: %w; they may know the former one until they are restarted", err)
	}
	return nil
}

// AgentByToken finds the active agent that has this token.
func (s *Store) AgentByToken(ctx context.Context, hash [32]byte) (identity.Agent, error) {
	return s.tokens.find(hash, func() (identity.Agent, error) {
		return one(ctx, s, identity.ErrNotFound, readAgent, selectAgents+" WHERE a.token_hash = ? AND a.status = 'ACTIVE'", hash[:])
	})
}
