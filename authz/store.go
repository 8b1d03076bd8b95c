package authz

import (
	"context"
	"errors"
	"fmt"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/draft"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/policy"
)

// A Batch is everything that one decision changes. It is committed whole,
// durably, or not at all; its conditions are checked inside the transaction.
type Batch struct {
	// Entries are appended to the log, in this order.
	Entries []audit.Entry
	// Supersede marks a request EXPIRED, before Open's condition is checked: the
	// same call means another action than the one that was shown for it.
	// Empty: none. Condition: it is pending, or approved and unspent.
	Supersede string
	// Open makes a pending request. Condition: no other request of that agent
	// and intent is open (pending and not past its time, or an unspent grant).
	Open *approvals.Request
	// Quota bounds Open. Condition: there is room (QuotaError). nil: no bound.
	Quota *Quota
	// Fold makes a pending request the next version of itself. Condition: it is
	// pending, shows that action, and no call waits for it; Open's for the new intent.
	Fold *Fold
	// Join counts a call with what waits. Condition: it is pending and shows that action.
	Join *Join
	// Hold says that a call waits for the request that is opened, folded or joined.
	Hold *Hold
	// Leave says that it waits no more. No condition.
	Leave *Hold
	// Redeem spends a grant. Condition: approved, in time, unspent, that hash.
	Redeem *Redemption
	// Continue spends the open round of a grant in the grant's place. Condition:
	// that round is open, in time, and the grant was for that hash and agent.
	Continue *Continuation
	// UseGrant runs by a standing grant, and leaves the request of that use. Condition:
	// the grant covers it, in time, with a use left, not withdrawn; and no other request
	// of that agent and intent is open, or was denied meanwhile.
	UseGrant *GrantUse
	// OpenRound opens a round of a grant. Condition: the decision is the latest
	// that ran by it, and has not opened one.
	OpenRound *RoundOpening
	// Reserve charges limits, or sets aside what may be charged later. Condition:
	// all of it fits (LimitError).
	Reserve *Reservation
	// Settle says what came of reservations.
	Settle []Settlement
	// Release is an owner's word that gives charges back. Condition: its decision stands
	// on each, and beside it another exactly on those that are Kept (ErrChargesChanged).
	Release *Release
	// Answer is an owner's word. Condition: pending and in time (a denial may
	// come late: an expired request can still be denied), and it shows that action.
	Answer *approvals.Answer
	// Pins changes what is kept of a server's definitions. Condition: nobody else has
	// meanwhile (ErrPinsChanged).
	Pins *Pinning
	// Grant is a standing one that the Answer gives. Condition: it was made of the
	// action that waits.
	Grant *approvals.Grant
	// Withdraw takes back what was given. Condition: something of it is unspent.
	Withdraw *approvals.Withdrawal
	// Nonce is spent by the signed request that this batch is of. Condition: it is
	// not spent yet (ErrReplayed). It is looked at before all others.
	Nonce *Nonce
	// Asked keeps what was decided for a signed request. Condition: what is kept of
	// that agent and action id is as it was seen, or is a decision on the very same
	// action that was no ALLOW (ErrAsked).
	Asked *Asked
	// Reported notes that an agent has told what came of a decision. Condition: it
	// has not yet (ErrReported).
	Reported string
	// Invite, Challenge, Enrol and Agent change who the agents are; their conditions
	// stand with their types.
	Invite    *identity.Invite
	Challenge *identity.Challenge
	Enrol     *identity.Enrolment
	Agent     *identity.AgentChange
	// Propose keeps a policy that an agent proposes. Condition: the agent is active
	// (identity.ErrRevoked), the one that it is for has the same owner and is not revoked
	// (draft.ErrNoTarget), and not too many of the agent's wait (draft.ErrTooMany).
	Propose *draft.Proposal
	// AnswerDraft is an owner's word on one; its condition stands with its type.
	AnswerDraft *draft.Answer
}

// A Nonce is what makes a signed request one of its kind.
type Nonce struct {
	Hash  [16]byte // of the agent's id and the nonce
	Now   int64    // Unix milliseconds
	Until int64    // from then on the request is refused for its time
}

// Asked is what was decided on the action of a signed request.
type Asked struct {
	AgentID    string // the agent's name
	ActionID   string
	ActionHash action.Hash
	DecisionID string
	ActionType string
	PolicyID   string
	Outcome    string
	// Claims are those of the proof of an ALLOW that is given again, as JSON; {} when it
	// had none. nil: it is not given again.
	Claims   []byte
	GrantID  string // the standing grant by which it was allowed; empty: none
	Reported bool   // the agent has told what came of it
	Now      int64
	Until    int64  // it is kept until then
	Was      string // the decision that was kept before; empty: none
}

// Errors of signed requests.
var (
	ErrReplayed = errors.New("the nonce was used already")
	ErrAsked    = errors.New("the same action was asked for meanwhile")
	ErrReported = errors.New("what came of the decision was told already")
	ErrNotAsked = errors.New("nothing is known of it")
)

// AskedReader finds what signed requests have asked for.
type AskedReader interface {
	// Asked returns what is kept of an agent's action. ErrNotAsked.
	Asked(ctx context.Context, agent, actionID string) (Asked, error)
	// AskedBy is Asked by the decision.
	AskedBy(ctx context.Context, decisionID string) (Asked, error)
}

// Redemption spends the grant of one request.
type Redemption struct {
	RequestID  string
	DecisionID string
	ActionHash string
	AgentID    string
	Now        int64 // Unix milliseconds
}

// Continuation spends a round of the grant of one request.
type Continuation struct {
	Redemption
	Round [32]byte // the hash of its token
}

// RoundOpening opens a round of the grant of one request.
type RoundOpening struct {
	RequestID  string
	DecisionID string // whose call wants input
	ActionHash string
	AgentID    string
	Round      approvals.Round
}

// A Reservation is what one decision takes from limits.
type Reservation struct {
	DecisionID string
	AgentID    string
	ActionID   string
	ActionHash string
	Now        int64 // Unix milliseconds, as all times here
	Charges    []Charge
	Own        string // the request for this very call: what is set aside for it does not count

	// RequestID is the request that waits for its owner, when nothing runs yet: then
	// the condition is looked at, and what has Aside is set aside until the request
	// is answered with no, superseded or redeemed, and at most until Until. An
	// approval keeps it until the grant ends.
	RequestID string
	Until     int64
}

// A Charge takes an amount from one limit. It fits if the amount, what was charged
// in the window to the same limit and key, and what is set aside there, are
// together at most Max. What this very action (agent, id and hash) was charged in
// the window already is not charged again, and is not given back any more.
type Charge struct {
	Limit  string // its id
	Key    string
	Amount int64 // 0 to 2^53-1
	Max    int64
	From   int64 // the window: from included
	To     int64 // to not; 0: it has no end
	// Trailing is the length of a window that ends now; 0: From and To are the
	// calendar's.
	Trailing int64
	Aside    bool
}

// A Settlement ends the reservation of a decision: what it holds counts from now on
// as used, but for what Release names, which is given back. Once it is settled
// nothing of it is given back any more.
type Settlement struct {
	DecisionID string
	AgentID    string
	ActionID   string
	Release    []string // ids of limits
}

// LimitError is the failure of Batch.Reserve's condition: the limits that have no
// room for it.
type LimitError struct{ Full []policy.LimitState }

func (e *LimitError) Error() string {
	return fmt.Sprintf("no room in limit %s, %d used and %d held (and %d more)", e.Full[0].Limit, e.Full[0].Used, e.Full[0].Held, len(e.Full)-1)
}

// ErrOpen is the failure of Batch.Open's condition: decide again.
var ErrOpen = errors.New("an open request for this intent exists")

// Store is what the service needs of the store. Commit fails with ErrOpen, a
// LimitError, a QuotaError, ErrChargesChanged, ErrPinsChanged, approvals.ErrSpent, ErrExpired,
// ErrAnswered, ErrWithdrawn, ErrNotFound, ErrReplaced, ErrHeld, ErrReplayed, ErrAsked, ErrReported, or
// one of identity's or draft's errors when a condition does not hold; any
// other error means that nothing may be allowed.
type Store interface {
	approvals.Reader
	approvals.GrantReader
	LimitReader
	PinReader
	AskedReader
	identity.AgentReader
	draft.Reader
	Commit(ctx context.Context, b Batch) error
}
