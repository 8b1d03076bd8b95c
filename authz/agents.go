package authz

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"time"

	"github.com/google/uuid"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/identity"
)

// What is done to agents: each in one commit with its entry, so that no agent is there
// that the log does not know.

// Invite makes an invite for an owner: name is the agent's that it is for, or empty. The
// token is given to the agent, and is nowhere else.
func (s *Service) Invite(ctx context.Context, by string, owner identity.Owner, name string) (i identity.Invite, token string, err error) {
	now := s.now()
	token, hash := identity.NewToken("oli_")
	i = identity.Invite{ID: uuid.NewString(), OwnerID: owner.ID, Hash: hash, Agent: name, Now: now, Until: now.Add(identity.InviteFor)}
	e := audit.Entry{
		TS: timestamp(now), Event: "agent.invited", ActorType: "owner", ActorID: by, OwnerID: owner.ID, AgentID: name,
		Detail: "invite " + i.ID + ", until " + timestamp(i.Until),
	}
	return i, token, s.commit(ctx, Batch{Invite: &i, Entries: []audit.Entry{e}})
}

// RegisterInvited makes the agent of an invite, active at once. The errors are those of
// identity.Enrolment.
func (s *Service) RegisterInvited(ctx context.Context, a identity.Agent, inviteID, token string) (identity.Agent, error) {
	owner, err := s.cfg.Store.InviteOwner(ctx, inviteID)
	if err != nil {
		return a, err
	}
	a.OwnerID, a.OwnerType, a.Status = owner.ID, owner.Type, identity.Active
	return s.enrol(ctx, a, "invite "+inviteID, identity.Enrolment{InviteID: inviteID, Token: identity.HashToken(token)})
}

// Challenge makes what an agent signs to register itself for an owner. ErrNotFound: there
// is no such owner.
func (s *Service) Challenge(ctx context.Context, name string, key ed25519.PublicKey, ownerID string) (c identity.Challenge, err error) {
	if _, err := s.cfg.Store.OwnerByID(ctx, ownerID); err != nil {
		return c, err
	}
	now := s.now()
	c = identity.Challenge{ID: uuid.NewString(), Agent: name, Key: key, OwnerID: ownerID, Now: now, Until: now.Add(identity.ChallengeFor)}
	rand.Read(c.Bytes[:])
	return c, s.commit(ctx, Batch{Challenge: &c})
}

// Register makes the agent of a challenge that was answered: it is pending until its owner
// has confirmed it. The caller has verified the answer, by the challenge's key.
func (s *Service) Register(ctx context.Context, a identity.Agent, c identity.Challenge) (identity.Agent, error) {
	owner, err := s.cfg.Store.OwnerByID(ctx, c.OwnerID)
	if err != nil {
		return a, err
	}
	a.Name, a.Key, a.OwnerID, a.OwnerType, a.Status = c.Agent, c.Key, owner.ID, owner.Type, identity.Pending
	return s.enrol(ctx, a, "challenge "+c.ID, identity.Enrolment{Challenge: c.ID})
}

func (s *Service) enrol(ctx context.Context, a identity.Agent, by string, e identity.Enrolment) (identity.Agent, error) {
	now := s.now()
	a.ID, a.CreatedAt = uuid.NewString(), now
	e.Agent, e.Now = a, now
	entry := audit.Entry{
		TS: timestamp(now), Event: "agent.registered", ActorType: "agent", ActorID: a.Name, OwnerID: a.OwnerID,
		Detail: string(a.Status) + ", by " + by + ", key " + keySum(a.Key),
	}
	return a, s.commit(ctx, Batch{Enrol: &e, Entries: []audit.Entry{entry}})
}

// ConfirmAgent makes a pending agent active.
func (s *Service) ConfirmAgent(ctx context.Context, by string, a identity.Agent) error {
	return s.changeAgent(ctx, by, a, "agent.confirmed", "key "+keySum(a.Key), identity.AgentChange{Status: identity.Active})
}

// RevokeAgent ends an agent, everywhere and at once: its token and its key, what it was
// given and is unspent, and what it has open.
func (s *Service) RevokeAgent(ctx context.Context, by string, a identity.Agent) error {
	return s.changeAgent(ctx, by, a, "agent.revoked", "", identity.AgentChange{Status: identity.Revoked})
}

// RekeyAgent gives an agent another key: the former one signs nothing any more.
func (s *Service) RekeyAgent(ctx context.Context, by string, a identity.Agent, key ed25519.PublicKey) error {
	return s.changeAgent(ctx, by, a, "agent.rekeyed", "key "+keySum(key), identity.AgentChange{Key: key})
}

// NewAgentToken gives an agent another bearer token. It is shown this once.
func (s *Service) NewAgentToken(ctx context.Context, by string, a identity.Agent) (token string, err error) {
	token, hash := identity.NewToken("ola_")
	return token, s.changeAgent(ctx, by, a, "agent.token", "new token", identity.AgentChange{Token: hash})
}

func (s *Service) changeAgent(ctx context.Context, by string, a identity.Agent, event, detail string, c identity.AgentChange) error {
	now := s.now()
	c.AgentID, c.OwnerID, c.By, c.Now = a.ID, a.OwnerID, by, now
	e := audit.Entry{TS: timestamp(now), Event: event, ActorType: "owner", ActorID: by, OwnerID: a.OwnerID, AgentID: a.Name, Detail: detail}
	return s.commit(ctx, Batch{Agent: &c, Entries: []audit.Entry{e}})
}

// keySum names a key in the log: "SHA256:" and unpadded base64 of the sum of its 32 bytes.
func keySum(key ed25519.PublicKey) string {
	sum := sha256.Sum256(key)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

// now is as it is kept.
func (s *Service) now() time.Time { return s.cfg.Now().UTC().Truncate(time.Millisecond) }

// Agents is how agents are looked at.
func (s *Service) Agents() identity.AgentReader { return s.cfg.Store }
