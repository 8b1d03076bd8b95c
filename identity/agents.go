package identity

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"time"
)

// AgentStatus is what an agent may do.
type AgentStatus string

const (
	Pending AgentStatus = "PENDING" // it has registered itself; its owner has not said anything
	Active  AgentStatus = "ACTIVE"
	Revoked AgentStatus = "REVOKED" // for good: its name is free again, and what it was given is void
)

// Agent acts for an owner. Its Name is its agent_id on the wire.
type Agent struct {
	ID        string // agent_principal_id, UUID
	Name      string
	OwnerID   string
	OwnerType string
	Status    AgentStatus
	TokenHash [32]byte          // sha256 of its bearer token; zero: it has none
	Key       ed25519.PublicKey // signs its requests; nil: it has none
	// Attributes is a JSON object that its owner or itself has given; nil: none.
	Attributes json.RawMessage
	Webhook    Webhook
	CreatedAt  time.Time
	RevokedAt  time.Time // zero: it is not revoked
}

// Webhook is where an agent wants to be told of answers. The zero Webhook: nowhere.
type Webhook struct {
	URL       string
	Secret    string // signs what is sent
	AuthToken string // is sent with it
}

// InviteFor is how long an invite is good.
const InviteFor = 24 * time.Hour

// An Invite lets one agent register for an owner, and be active at once.
type Invite struct {
	ID      string // UUID
	OwnerID string
	Hash    [32]byte // of its token
	Agent   string   // the name that it is for; empty: any
	Until   time.Time
	Now     time.Time
}

// ChallengeFor is how long a challenge can be answered.
const ChallengeFor = 5 * time.Minute

// A Challenge is what an agent signs to register itself. It binds the name, the key
// and the owner: who signs it can register nothing else.
type Challenge struct {
	ID      string // UUID
	Bytes   [32]byte
	Agent   string
	Key     ed25519.PublicKey
	OwnerID string // UUID
	Until   time.Time
	Now     time.Time
}

// An Enrolment makes an agent: by an invite, by a challenge that was answered, or,
// when there is neither, by its owner's own word. Condition: the name is free (ErrNameTaken), the
// invite good (ErrNotFound, ErrInviteUsed, ErrExpired, ErrInviteToken, ErrInviteName),
// the challenge there and in time.
type Enrolment struct {
	Agent     Agent
	InviteID  string
	Token     [32]byte // the hash of the invite's
	Challenge string   // its id
	Now       time.Time
}

// An AgentChange is an owner's word on one of its agents. Zero parts stay as they are.
// Condition: it is that owner's (ErrNotFound), and not revoked (ErrRevoked).
type AgentChange struct {
	AgentID string // UUID
	OwnerID string
	Status  AgentStatus
	Key     ed25519.PublicKey
	Token   [32]byte // hash of the new token
	By      string   // for what a revocation withdraws
	Now     time.Time
}

// Why an agent was not made, or not changed.
var (
	ErrNameTaken   = errorString("an agent of that name exists")
	ErrInviteUsed  = errorString("the invite was used already")
	ErrInviteToken = errorString("the invite's token is another")
	ErrInviteName  = errorString("the invite is for an agent of another name")
	ErrExpired     = errorString("its time is over")
	ErrRevoked     = errorString("the agent is revoked")
	ErrManyWait    = errorString("too many wait: try again later")
)

// AgentReader finds agents; the store implements it.
type AgentReader interface {
	// Agents lists an owner's agents by name, revoked ones too; "" means all owners'.
	Agents(ctx context.Context, ownerID string) ([]Agent, error)
	Agent(ctx context.Context, id string) (Agent, error)
	// AgentByName returns the one of that name that is not revoked, or the last that was.
	AgentByName(ctx context.Context, name string) (Agent, error)
	AgentByToken(ctx context.Context, hash [32]byte) (Agent, error) // ACTIVE ones only
	Challenge(ctx context.Context, id string) (Challenge, error)
	// InviteOwner returns the owner for whom an invite is, used or not.
	InviteOwner(ctx context.Context, id string) (Owner, error)
	// LastReset returns the last reset of an owner's access. ErrNotFound: there was none.
	LastReset(ctx context.Context, ownerID string) (Reset, error)
	OwnerByID(ctx context.Context, id string) (Owner, error)
}
