package authz

import (
	"context"
	"errors"

	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/audit"
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
	// Redeem spends a grant. Condition: approved, in time, unspent, that hash.
	Redeem *Redemption
	// Continue spends the open round of a grant in the grant's place. Condition:
	// that round is open, in time, and the grant was for that hash and agent.
	Continue *Continuation
	// OpenRound opens a round of a grant. Condition: the decision is the latest
	// that ran by it, and has not opened one.
	OpenRound *RoundOpening
	// Answer is an owner's word. Condition: pending and in time (a denial may
	// come late: an expired request can still be denied).
	Answer *approvals.Answer
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

// ErrOpen is the failure of Batch.Open's condition: decide again.
var ErrOpen = errors.New("an open request for this intent exists")

// Store is what the service needs of the store. Commit fails with ErrOpen,
// approvals.ErrSpent, ErrExpired, ErrAnswered, ErrNotFound when a condition
// does not hold; any other error means that nothing may be allowed.
type Store interface {
	approvals.Reader
	Commit(ctx context.Context, b Batch) error
}
