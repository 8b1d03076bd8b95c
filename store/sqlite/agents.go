package sqlite

import (
	"context"
	"crypto/subtle"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/identity"
)

const selectAgents = `SELECT a.id, a.name, a.owner_id, o.type, a.status, a.token_hash, a.key, a.attributes,
	a.webhook_url, a.webhook_secret, a.webhook_auth, a.created_at, a.revoked_at FROM agents a JOIN owners o ON o.id = a.owner_id`

func readAgent(scan scan) (a identity.Agent, err error) {
	var hash, key []byte
	var attributes sql.NullString
	var created int64
	var revoked sql.NullInt64
	err = scan(&a.ID, &a.Name, &a.OwnerID, &a.OwnerType, &a.Status, &hash, &key, &attributes,
		&a.Webhook.URL, &a.Webhook.Secret, &a.Webhook.AuthToken, &created, &revoked)
	copy(a.TokenHash[:], hash)
	a.Key = key
	if attributes.Valid {
		a.Attributes = json.RawMessage(attributes.String)
	}
	a.CreatedAt, a.RevokedAt = instant(created), optional(revoked)
	return a, err
}

// selectNamed finds the agent of a name: the one that is not revoked, if there is one.
const selectNamed = selectAgents + " WHERE a.name = ? ORDER BY a.status = 'REVOKED', a.n DESC LIMIT 1"

// EnsureAgent returns the agent of that name. One that waits for its owner or is revoked
// stays so, and one of another owner is not taken over: all are errors.
func (s *Store) EnsureAgent(ctx context.Context, name string, owner identity.Owner) (identity.Agent, error) {
	if !identity.ValidName(name) {
		return identity.Agent{}, fmt.Errorf("agent name %q: want 1 to 64 of a-z A-Z 0-9 . _ -, beginning with a letter or digit", name)
	}
	agent, err := one(ctx, s, errNone, readAgent, selectNamed, name)
	if errors.Is(err, errNone) {
		agent, err = s.makeAgent(ctx, name, owner)
	}
	switch {
	case err != nil:
		return identity.Agent{}, err
	case agent.OwnerID != owner.ID:
		return identity.Agent{}, fmt.Errorf("agent %q belongs to another owner: choose another name", name)
	case agent.Status == identity.Pending:
		return identity.Agent{}, fmt.Errorf("agent %q waits for its owner's word: openleash agents confirm %s", name, name)
	case agent.Status != identity.Active:
		return identity.Agent{}, fmt.Errorf("agent %q is revoked: %w; choose another name", name, identity.ErrNotFound)
	}
	return agent, nil
}

func (s *Store) makeAgent(ctx context.Context, name string, owner identity.Owner) (agent identity.Agent, err error) {
	err = s.write(ctx, func(t *tx) error {
		_, err := t.exec(`INSERT INTO agents (id, name, owner_id, status, created_at) VALUES (?, ?, ?, 'ACTIVE', ?)
			ON CONFLICT (name) WHERE status <> 'REVOKED' DO NOTHING`, uuid.NewString(), name, owner.ID, time.Now().UnixMilli())
		if err != nil {
			return err
		}
		agent, err = inTx(t, errNone, readAgent, selectNamed, name)
		return err
	})
	return agent, err
}

// Agents lists an owner's agents, or all.
func (s *Store) Agents(ctx context.Context, ownerID string) ([]identity.Agent, error) {
	if ownerID == "" {
		return list(ctx, s, readAgent, selectAgents+" ORDER BY a.name, a.n")
	}
	return list(ctx, s, readAgent, selectAgents+" WHERE a.owner_id = ? ORDER BY a.name, a.n", ownerID)
}

// Agent returns one agent.
func (s *Store) Agent(ctx context.Context, id string) (identity.Agent, error) {
	return one(ctx, s, identity.ErrNotFound, readAgent, selectAgents+" WHERE a.id = ?", id)
}

// AgentByName finds the agent of that name: the one that is not revoked, or the last.
func (s *Store) AgentByName(ctx context.Context, name string) (identity.Agent, error) {
	return s.known.find("name "+name, func() (identity.Agent, error) {
		return one(ctx, s, identity.ErrNotFound, readAgent, selectNamed, name)
	})
}

// AgentByToken finds the active agent that has this token.
func (s *Store) AgentByToken(ctx context.Context, hash [32]byte) (identity.Agent, error) {
	return s.known.find("token "+string(hash[:]), func() (identity.Agent, error) {
		return one(ctx, s, identity.ErrNotFound, readAgent, selectAgents+" WHERE a.token_hash = ? AND a.status = 'ACTIVE'", hash[:])
	})
}

// OwnerByID returns an owner.
func (s *Store) OwnerByID(ctx context.Context, id string) (identity.Owner, error) {
	return one(ctx, s, identity.ErrNotFound, readOwner, "SELECT id, type, name FROM owners WHERE id = ?", id)
}

// Challenge returns a challenge, whether or not it is in time still.
func (s *Store) Challenge(ctx context.Context, id string) (identity.Challenge, error) {
	return one(ctx, s, identity.ErrNotFound, readChallenge, selectChallenge, id)
}

const selectChallenge = "SELECT id, bytes, agent, key, owner_id, until FROM challenges WHERE id = ?"

func readChallenge(scan scan) (c identity.Challenge, err error) {
	var random, key []byte
	var until int64
	err = scan(&c.ID, &random, &c.Agent, &key, &c.OwnerID, &until)
	copy(c.Bytes[:], random)
	c.Key, c.Until = key, instant(until)
	return c, err
}

// prepareAgents lists what b does to agents.
func prepareAgents(b authz.Batch) (steps []func(*tx) error) {
	if i := b.Invite; i != nil {
		steps = append(steps, func(t *tx) error { return t.invite(*i) })
	}
	if c := b.Challenge; c != nil {
		steps = append(steps, func(t *tx) error { return t.challenge(*c) })
	}
	if e := b.Enrol; e != nil {
		steps = append(steps, func(t *tx) error { return t.enrol(*e) })
	}
	if c := b.Agent; c != nil {
		steps = append(steps, func(t *tx) error { return t.changeAgent(*c) })
	}
	return steps
}

func (t *tx) invite(i identity.Invite) error {
	if _, err := t.exec("DELETE FROM invites WHERE until <= ?", i.Now.UnixMilli()); err != nil {
		return err
	}
	_, err := t.exec("INSERT INTO invites (id, owner_id, hash, agent, until) VALUES (?, ?, ?, ?, ?)",
		i.ID, i.OwnerID, i.Hash[:], i.Agent, i.Until.UnixMilli())
	return err
}

// maxChallenges bounds what anybody can have us keep.
const maxChallenges = 1000

func (t *tx) challenge(c identity.Challenge) error {
	if _, err := t.exec("DELETE FROM challenges WHERE until <= ?", c.Now.UnixMilli()); err != nil {
		return err
	}
	kept, err := inTx(t, errNone, readID, "SELECT count(*) FROM challenges")
	if err != nil {
		return err
	}
	if kept >= maxChallenges {
		return identity.ErrManyWait
	}
	_, err = t.exec("INSERT INTO challenges (id, bytes, agent, key, owner_id, until) VALUES (?, ?, ?, ?, ?, ?)",
		c.ID, c.Bytes[:], c.Agent, []byte(c.Key), c.OwnerID, c.Until.UnixMilli())
	return err
}

// enrol makes an agent by what entitles it, which is spent.
func (t *tx) enrol(e identity.Enrolment) error {
	if e.InviteID != "" {
		if err := t.spendInvite(e); err != nil {
			return err
		}
	}
	if e.Challenge != "" {
		if err := t.spendChallenge(e); err != nil {
			return err
		}
	}
	if e.Agent.Status == identity.Pending {
		waiting, err := inTx(t, errNone, readID, "SELECT count(*) FROM agents WHERE status = 'PENDING'")
		if err == nil && waiting >= maxPending {
			err = identity.ErrManyWait
		}
		if err != nil {
			return err
		}
	}
	return t.insertAgent(e.Agent)
}

// maxPending is how many agents may wait for their owners: anybody can have one wait.
const maxPending = 100

func (t *tx) insertAgent(a identity.Agent) error {
	var attributes any
	if a.Attributes != nil {
		attributes = string(a.Attributes)
	}
	n, err := t.exec(`INSERT INTO agents (id, name, owner_id, status, key, attributes, webhook_url, webhook_secret, webhook_auth, created_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) WHERE status <> 'REVOKED' DO NOTHING`,
		a.ID, a.Name, a.OwnerID, a.Status, keyColumn(a.Key), attributes, a.Webhook.URL, a.Webhook.Secret, a.Webhook.AuthToken, a.CreatedAt.UnixMilli())
	if err == nil && n == 0 {
		err = identity.ErrNameTaken
	}
	return err
}

func keyColumn(key []byte) any {
	if key == nil {
		return nil
	}
	return key
}

type inviteRow struct {
	owner, agent, usedBy string
	hash                 []byte
	until                int64
}

func readInvite(scan scan) (i inviteRow, err error) {
	err = scan(&i.owner, &i.hash, &i.agent, &i.until, &i.usedBy)
	return i, err
}

func (t *tx) spendInvite(e identity.Enrolment) error {
	i, err := inTx(t, identity.ErrNotFound, readInvite, "SELECT owner_id, hash, agent, until, used_by FROM invites WHERE id = ?", e.InviteID)
	switch {
	case err != nil:
		return err
	case subtle.ConstantTimeCompare(i.hash, e.Token[:]) != 1:
		return identity.ErrInviteToken
	case i.usedBy != "":
		return identity.ErrInviteUsed
	case e.Now.UnixMilli() >= i.until:
		return identity.ErrExpired
	case i.agent != "" && i.agent != e.Agent.Name:
		return identity.ErrInviteName
	case i.owner != e.Agent.OwnerID:
		return identity.ErrNotFound
	}
	n, err := t.exec("UPDATE invites SET used_by = ? WHERE id = ? AND used_by = ''", e.Agent.ID, e.InviteID)
	if err == nil && n != 1 {
		err = identity.ErrInviteUsed
	}
	return err
}

func (t *tx) spendChallenge(e identity.Enrolment) error {
	n, err := t.exec("DELETE FROM challenges WHERE id = ? AND until > ? AND agent = ? AND key = ? AND owner_id = ?",
		e.Challenge, e.Now.UnixMilli(), e.Agent.Name, []byte(e.Agent.Key), e.Agent.OwnerID)
	if err == nil && n != 1 {
		err = identity.ErrNotFound
	}
	return err
}

// InviteOwner returns the owner for whom an invite is.
func (s *Store) InviteOwner(ctx context.Context, id string) (identity.Owner, error) {
	return one(ctx, s, identity.ErrNotFound, readOwner, "SELECT o.id, o.type, o.name FROM invites i JOIN owners o ON o.id = i.owner_id WHERE i.id = ?", id)
}

// changeAgent does what an owner says of an agent.
func (t *tx) changeAgent(c identity.AgentChange) error {
	a, err := inTx(t, identity.ErrNotFound, readAgent, selectAgents+" WHERE a.id = ? AND a.owner_id = ?", c.AgentID, c.OwnerID)
	switch {
	case err != nil:
		return err
	case a.Status == identity.Revoked:
		return identity.ErrRevoked
	}
	if c.Status != "" {
		var revoked time.Time
		if c.Status == identity.Revoked {
			revoked = c.Now
			if err := t.voidAll(a.Name, c); err != nil {
				return err
			}
		}
		if _, err := t.exec("UPDATE agents SET status = ?, revoked_at = ? WHERE id = ?", c.Status, millis(revoked), a.ID); err != nil {
			return err
		}
	}
	if c.Key != nil {
		if _, err := t.exec("UPDATE agents SET key = ? WHERE id = ?", []byte(c.Key), a.ID); err != nil {
			return err
		}
	}
	if c.Token == [32]byte{} {
		return nil
	}
	_, err = t.exec("UPDATE agents SET token_hash = ? WHERE id = ?", c.Token[:], a.ID)
	return err
}

// voidAll takes back all that a name was given and is unspent, so that nobody who has it
// later can use it.
func (t *tx) voidAll(name string, c identity.AgentChange) error {
	if _, err := t.exec("UPDATE agents SET token_hash = NULL WHERE id = ?", c.AgentID); err != nil {
		return err
	}
	if _, err := t.exec("UPDATE grants SET withdrawn_at = ?, withdrawn_by = ? WHERE agent_id = ? AND withdrawn_at IS NULL AND until > ?",
		c.Now.UnixMilli(), c.By, name, c.Now.UnixMilli()); err != nil {
		return err
	}
	rows, err := t.query(selectApprovals+" WHERE agent_id = ? AND status IN ('PENDING', 'APPROVED')", name)
	if err != nil {
		return err
	}
	open, err := collect(rows, readState)
	if err != nil {
		return err
	}
	for _, r := range open {
		if err := t.void(r, c); err != nil {
			return err
		}
	}
	for _, forget := range []string{
		"UPDATE approvals SET round_hash = NULL, round_until = NULL WHERE agent_id = ? AND round_hash IS NOT NULL",
		"DELETE FROM asked WHERE agent_id = ?",
	} {
		if _, err := t.exec(forget, name); err != nil {
			return err
		}
	}
	return t.voidDrafts(c)
}

func (t *tx) void(r approvals.Request, c identity.AgentChange) error {
	if r.Status == approvals.Approved {
		_, err := t.exec("UPDATE approvals SET status = 'DENIED', answered_at = ?, answered_by = ?, deny_reason = 'the agent was revoked', grant_until = NULL WHERE id = ?",
			c.Now.UnixMilli(), c.By, r.ID)
		if err != nil {
			return err
		}
		return t.giveBack(r.ID)
	}
	return t.expire(r.ID)
}
