// Package approvals is the state of actions that wait for a person.
//
//	                ┌─ approve ─▶ APPROVED ── redeem ─▶ REDEEMED
//	open ─▶ PENDING ┤                 ├────── time ───▶ EXPIRED
//	                │                 └── withdraw ───▶ DENIED
//	                ├─ deny ────▶ DENIED ◀─── deny ────┐
//	                └─ time ────▶ EXPIRED ─────────────┘ (if never answered)
//
// What is promised, in whichever process and however many at once:
//
//   - An agent has at most one open request for one intent: asking again finds it.
//   - A request is answered once. Of answers that race exactly one counts, and
//     the others are told ([ErrAnswered]).
//   - An approval is a grant. It is good for the one action whose hash it bears,
//     for the agent that asked, until GrantUntil, and once: redeeming spends it,
//     also when what follows fails.
//   - One call may be several messages (MCP 2026-07-28, Multi Round-Trip Requests:
//     its server wants input, and its host sends it again). They share the grant:
//     the message that runs by it, and nothing else, may open a round when its
//     answer wants input; the round is for the same action and agent, until
//     Round.Until, and once. So at most one round of a grant is open, and what was
//     an earlier one is nothing any more.
//   - A request that no call waits for may be replaced by the same in other words
//     (version.go). An answer counts only for the version that was shown (ErrReplaced).
//   - A request whose call has come to mean another action (its mapping changed)
//     is superseded: it expires there and then, approved or not.
//   - What a request needs beside the owner's word, a second factor or the reference of a
//     deposit, comes with the yes to it, or the yes does not count ([Needs]). A passkey
//     signs for that request and that action, and what it signed is kept.
//   - A standing grant ([Grant]) is the owner's yes to more than one call: so often, for
//     so long, exactly that call or within bounds of it. Each use of it is a request
//     that is redeemed from the beginning; of uses that race no more count than there
//     are left.
//   - What was given and is unspent can be withdrawn. From then on nothing runs by it.
//   - Time is a limit, not an event: a request is pending before ExpiresAt, and
//     at that instant no longer, whether or not anybody wrote that down.
//
// The rules are the methods of [Request] in rules.go. A store asks them inside
// the transaction that makes the change; nothing else knows them. Times are
// kept in whole milliseconds.
package approvals

import (
	"context"
	"time"

	"github.com/openleash/openleash-go/action"
)

// Status of a request. Expired is a Pending or Approved whose time has passed:
// it is computed from the clock (Request.At), and written when next touched.
type Status string

const (
	Pending  Status = "PENDING"
	Approved Status = "APPROVED"
	Denied   Status = "DENIED"
	Expired  Status = "EXPIRED"
	Redeemed Status = "REDEEMED"
)

// A Request is one action that waits, or waited, for its owner. Exactly what
// it shows is what runs: Action is the action that was decided on, and a grant
// is good for that hash alone.
type Request struct {
	ID         string
	OwnerID    string
	AgentID    string // the agent's name
	DecisionID string // the decision that asked for it
	Action     action.Request
	ActionHash action.Hash
	IntentHash action.Hash
	Server     string // empty outside MCP
	Tool       string
	ToolInfo   action.Value // $.tool as it was: description, annotations; Missing outside MCP
	PolicyID   string
	RuleID     string
	Reason     string
	Status     Status
	CreatedAt  time.Time
	ExpiresAt  time.Time // pending until then
	AnsweredAt time.Time
	AnsweredBy string // "portal:alice", "cli:root"
	DenyReason string
	GrantUntil time.Time // an approved request can be redeemed until then
	RedeemedBy string    // the decision that spent it
	GrantID    string    // the standing grant by which it ran; empty: none
	// Overshoots are the limits that have no room for the action, as the owner is
	// shown them: an approval is good for as much beyond each, and no more.
	Overshoots []Overshoot

	Needs            Needs  // what a yes takes
	Factor           Factor // that was given with the yes; zero: none
	DepositReference string // that was given with it; empty: none

	Version   int       // 1, and one more for each wording that replaced another (version.go)
	Asked     int       // how often it was asked for, in all wordings
	LastAsked time.Time //
	HeldUntil time.Time // a call waits for it until then; zero: none
	NearTo    string    // a request that was denied a short time before it, in other words; empty: none

	// What the agent says for it, beside the action: nothing is decided by that.
	Justification string
	Context       action.Value // an object; Missing: none

	Round       Round  // open for the next message of the call
	Rounds      int    // how many messages have run after the first
	ContinuedBy string // the decision of the latest of them
}

// Says is what the agent says for it, as one object; Missing: nothing.
func (r Request) Says() action.Value {
	var says []action.Member
	if r.Justification != "" {
		says = append(says, action.Member{Key: "justification", Value: action.StringValue(r.Justification)})
	}
	if r.Context.Kind() != action.Missing {
		says = append(says, action.Member{Key: "context", Value: r.Context})
	}
	if says == nil {
		return action.Value{}
	}
	return action.ObjectValue(says...)
}

// Foreign is all in it that the agent, the server or the policy's author has written.
func (r Request) Foreign() []action.Value {
	names := action.ArrayValue(action.StringValue(r.Server), action.StringValue(r.Tool), action.StringValue(r.Reason))
	return []action.Value{r.Action.Value(), names, r.ToolInfo.Get("description"), r.ToolInfo.Get("annotations"), r.Says()}
}

// An Overshoot is one limit that an action is over.
type Overshoot struct {
	Limit    string `json:"limit"`         // its id: "shop/daily"
	Key      string `json:"key"`           // for whom it counts
	For      string `json:"for,omitempty"` // the same in words: "agent bot at shop.example"
	Window   string `json:"window"`
	Currency string `json:"currency,omitempty"` // of a sum of money: the numbers are minor units
	Max      int64  `json:"max"`
	Used     int64  `json:"used"`
	Held     int64  `json:"held"`
	Amount   int64  `json:"amount"`
	// Doubt is why the action cannot be counted; the numbers are 0 then.
	Doubt string `json:"doubt,omitempty"`
}

// Beyond is by how much the limit is exceeded if the action runs.
func (o Overshoot) Beyond() int64 { return o.Used + o.Held + o.Amount - o.Max }

// A Round lets the next message of a call run by the grant of the first. Its
// host has a token for it, and nobody else: here is only the token's hash.
type Round struct {
	Hash  [32]byte  // SHA-256; zero: none is open
	Until time.Time // it can be spent until then
}

// An Answer is an owner's word on one request.
type Answer struct {
	RequestID string
	// ActionHash is the action that the owner was shown: the answer counts only if it
	// is the request's still.
	ActionHash action.Hash
	Approve    bool
	By         string
	Reason     string // of a denial
	At         time.Time
	GrantFor   time.Duration // how long an approval can be redeemed

	Factor           Factor // of an approval; who asks has verified it
	DepositReference string // of an approval
}

// Errors of answering and redeeming; they survive the store and the wire.
var (
	ErrNotFound = errorString("no such approval request")
	ErrAnswered = errorString("the request was answered already")
	ErrExpired  = errorString("the request has expired")
	ErrSpent    = errorString("the grant was used already") // or its round
	ErrReplaced = errorString("the request has changed: the agent has asked for the same in other words")
	ErrHeld     = errorString("a call waits for the request")

	ErrFactorNeeded    = errorString("this approval takes your second factor, given with the answer")
	ErrReferenceNeeded = errorString("this approval takes the reference of the deposit")
	ErrOtherAssertion  = errorString("the passkey has signed something else than this approval")
)

type errorString string

func (e errorString) Error() string { return string(e) }

// Waiting is a request that waits for an answer, and which version it shows.
type Waiting struct {
	ID      string
	Version int
}

// Reader is how approvals are looked at, and waited for; the store implements it.
type Reader interface {
	Watcher
	Approval(ctx context.Context, id string) (Request, error) // ErrNotFound
	// OpenApproval returns the request of that agent and intent that matters at now:
	// pending, approved and not redeemed, or denied after deniedAfter. Of several it is
	// the one with the last word: the owner's, or that it was asked for. ErrNotFound.
	OpenApproval(ctx context.Context, agent string, intent action.Hash, now, deniedAfter time.Time) (Request, error)
	// RoundApproval returns the request of which that round is open. ErrNotFound.
	RoundApproval(ctx context.Context, round [32]byte) (Request, error)
	// LastApproved returns the newest request before r that a person has approved, of
	// the same agent, server, tool and action type. ErrNotFound.
	LastApproved(ctx context.Context, r Request) (Request, error)
	// Approvals lists newest first; status "" means all. Status is as stored.
	Approvals(ctx context.Context, owner string, status Status, limit int) ([]Request, error)
	// Waiting lists an owner's requests that are pending at now, all of them, those
	// first that expire first. It is cheap: pages ask it every few seconds.
	Waiting(ctx context.Context, owner string, now time.Time) ([]Waiting, error)
	// Kin lists requests of a kind, newest first, without those whose actions are
	// larger than MaxCompared. Status is as stored.
	Kin(ctx context.Context, kind Kind, status Status, limit int) ([]Request, error)
	// Versions lists the former versions of a request that are kept, oldest first.
	Versions(ctx context.Context, id string) ([]Version, error)
	// Tally counts what a person has approved of that which r asks for, r included,
	// and was asked for since then; up to a hundred.
	Tally(ctx context.Context, r Request, since time.Time) (Tally, error)
}
