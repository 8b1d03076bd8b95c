package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/openleash/openleash-go/identity"
)

const selectOwner = "SELECT id, type, name FROM owners ORDER BY n LIMIT 1"

func readOwner(scan scan) (o identity.Owner, err error) {
	err = scan(&o.ID, &o.Type, &o.Name)
	return o, err
}

// EnsureOwner returns the installation's owner.
func (s *Store) EnsureOwner(ctx context.Context, name string) (identity.Owner, error) {
	owner, err := one(ctx, s, errNone, readOwner, selectOwner)
	if !errors.Is(err, errNone) {
		return owner, err
	}
	err = s.write(ctx, func(t *tx) error {
		owner, err = inTx(t, errNone, readOwner, selectOwner)
		if !errors.Is(err, errNone) {
			return err
		}
		owner = identity.Owner{ID: uuid.NewString(), Type: identity.TypeUser, Name: name}
		return t.addUser(identity.User{Owner: owner, Roles: []string{identity.RoleAdmin}, Status: identity.UserActive, CreatedAt: time.Now()})
	})
	if err != nil {
		return identity.Owner{}, err
	}
	return owner, nil
}

const selectAgents = `SELECT a.id, a.name, a.owner_id, o.type, a.status, a.token_hash, a.created_at
	FROM agents a JOIN owners o ON o.id = a.owner_id`

func readAgent(scan scan) (a identity.Agent, err error) {
	var hash []byte
	var created int64
	err = scan(&a.ID, &a.Name, &a.OwnerID, &a.OwnerType, &a.Status, &hash, &created)
	copy(a.TokenHash[:], hash)
	a.CreatedAt = instant(created)
	return a, err
}

// EnsureAgent returns the agent of that name. One that is revoked stays so, and
// one of another owner is not taken over: both are errors.
func (s *Store) EnsureAgent(ctx context.Context, name string, owner identity.Owner) (identity.Agent, error) {
	if !identity.ValidName(name) {
		return identity.Agent{}, fmt.Errorf("agent name %q: want 1 to 64 of a-z A-Z 0-9 . _ -, beginning with a letter or digit", name)
	}
	agent, err := one(ctx, s, errNone, readAgent, selectAgents+" WHERE a.name = ?", name)
	if errors.Is(err, errNone) {
		agent, err = s.makeAgent(ctx, name, owner)
	}
	switch {
	case err != nil:
		return identity.Agent{}, err
	case agent.OwnerID != owner.ID:
		return identity.Agent{}, fmt.Errorf("agent %q belongs to another owner: choose another name", name)
	case agent.Status != "ACTIVE":
		return identity.Agent{}, fmt.Errorf("agent %q is revoked: %w; choose another name", name, identity.ErrNotFound)
	}
	return agent, nil
}

func (s *Store) makeAgent(ctx context.Context, name string, owner identity.Owner) (agent identity.Agent, err error) {
	err = s.write(ctx, func(t *tx) error {
		_, err := t.exec(`INSERT INTO agents (id, name, owner_id, status, created_at) VALUES (?, ?, ?, 'ACTIVE', ?)
			ON CONFLICT (name) DO NOTHING`, uuid.NewString(), name, owner.ID, time.Now().UnixMilli())
		if err != nil {
			return err
		}
		agent, err = inTx(t, errNone, readAgent, selectAgents+" WHERE a.name = ?", name)
		return err
	})
	return agent, err
}

// Agents lists all agents by name, revoked ones too.
func (s *Store) Agents(ctx context.Context) ([]identity.Agent, error) {
	return list(ctx, s, readAgent, selectAgents+" ORDER BY a.name")
}

// SetAgentToken replaces an agent's token; the zero hash takes it away.
func (s *Store) SetAgentToken(ctx context.Context, name string, hash [32]byte) error {
	var stored any
	if hash != [32]byte{} {
		stored = hash[:]
	}
	err := s.write(ctx, func(t *tx) error {
		n, err := t.exec("UPDATE agents SET token_hash = ? WHERE name = ?", stored, name)
		if err == nil && n == 0 {
			err = fmt.Errorf("agent %q: %w", name, identity.ErrNotFound)
		}
		return err
	})
	if err != nil {
		return err
	}
	return s.tokens.changed()
}
