// Package audit is the log: what happened, in order, in a form that shows when
// it was changed. It promises the bytes below and nothing about what they mean:
// a log outlives the names of its events.
//
// # The file
//
// The log is a text file of lines, each ended by one newline (0x0A). A line is
// one JSON object without white space between its tokens. Its first two members
// are the entry's place; the entry's own members follow, in the order of Entry:
//
//	{"seq":N,"prev":"sha256:HEX",…}
//
// N is the entry's number in decimal: 1 for the first line, and one more for
// each line after it. HEX is 64 lower-case digits: the SHA-256 sum of the bytes
// of the line before, without its newline; 64 zeros in the first line. Nothing
// may stand between or before these members, and neither name comes a second
// time.
//
// Strings are written with as few escapes as JSON allows, except that U+2028
// and U+2029 are escaped; <, > and & are not. No reader needs to know that: the
// chain is over the bytes as they stand, and nobody has to write a line again
// to check it.
//
// So the entry
//
//	{"ts":"2026-05-05T13:42:11.000Z","event":"started","actor_type":"system",…}
//
// at the start of a log is the line
//
//	{"seq":1,"prev":"sha256:0000…0000","ts":"2026-05-05T13:42:11.000Z","event":"started",…}
//
// and the line after it begins with {"seq":2,"prev":"sha256: and the sum of
// those bytes. The package example shows two lines whole.
//
// # What the chain shows
//
// Whoever changes, removes, inserts or moves a line without writing all lines
// after it again breaks the chain at that place, and Verify names it. Whoever
// can write all lines after it again, or cuts the end off, is found only by
// comparing with somebody who knew an earlier head (a sequence number and the
// hash of its line): the store, a proof, a notification. Each line, without its
// newline, is one leaf of a Merkle tree (RFC 6962) and its place is N-1. The tree and
// a signed Checkpoint of it stand beside the file and change nothing in it; a Receipt
// shows that a line is in the tree of a checkpoint.
//
// # The store and the file
//
// Entries are committed to the store together with what they record, and that
// is when they are durable. A Sequencer gives them their places afterwards,
// first in the store, then in the file. So the file never knows a line that the
// store does not, and it can be completed from the store at any time.
package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// An Entry is one line of the log. Fields that do not apply are null where
// product.md promises them and absent elsewhere.
type Entry struct {
	TS             string  `json:"ts"`         // RFC 3339, milliseconds, UTC
	Event          string  `json:"event"`      // "decision", "outcome", "approval.answered", "policy.reloaded", …
	ActorType      string  `json:"actor_type"` // agent, owner, system
	ActorID        string  `json:"actor_id"`
	ActionType     *string `json:"action_type"`
	ActionID       *string `json:"action_id"`
	Decision       *string `json:"decision"`
	PolicyID       *string `json:"policy_id"`
	ProofKID       *string `json:"proof_kid"`
	SignatureValid *bool   `json:"signature_valid"`

	DecisionID    string `json:"decision_id,omitempty"`
	MatchedRuleID string `json:"matched_rule_id,omitempty"`
	Reason        string `json:"reason,omitempty"`
	Code          string `json:"code,omitempty"`
	OwnerID       string `json:"owner_id,omitempty"`
	AgentID       string `json:"agent_id,omitempty"` // whom it is about, where the actor is somebody else
	Server        string `json:"server,omitempty"`
	Tool          string `json:"tool,omitempty"`
	ActionHash    string `json:"action_hash,omitempty"`
	IntentHash    string `json:"intent_hash,omitempty"`
	CallHash      string `json:"call_hash,omitempty"`
	PolicyHash    string `json:"policy_hash,omitempty"` // of the book in force
	// What would have been decided with the policies in the shadow; empty without any.
	ShadowDecision string `json:"shadow_decision,omitempty"`
	ShadowPolicyID string `json:"shadow_policy_id,omitempty"`
	ShadowRuleID   string `json:"shadow_rule_id,omitempty"`
	ApprovalID     string `json:"approval_id,omitempty"`
	GrantID        string `json:"grant_id,omitempty"` // of a standing grant
	Approver       string `json:"approver,omitempty"`
	// Of an approval: the method of the second factor that came with it, the reference of
	// the deposit, and what a passkey has signed for it.
	Factor           string   `json:"factor,omitempty"`
	DepositReference string   `json:"deposit_reference,omitempty"`
	Passkey          *Passkey `json:"passkey,omitempty"`
	Outcome          string   `json:"outcome,omitempty"` // ok, tool_error, protocol_error, transport_error, cancelled, unknown
	DurationMS       *int64   `json:"duration_ms,omitempty"`
	ResultHash       string   `json:"result_hash,omitempty"`
	Detail           string   `json:"detail,omitempty"`
	Process          string   `json:"process,omitempty"`  // that decided, or began or ended
	TraceID          string   `json:"trace_id,omitempty"` // of the W3C trace that a call has named

	// What was decided on, whole, so that it can be decided again: JSON. Masked are
	// the paths at which something was left out ("$.payload.arguments.password").
	RequestedAt  string          `json:"requested_at,omitempty"`
	RelyingParty json.RawMessage `json:"relying_party,omitempty"`
	Payload      json.RawMessage `json:"payload,omitempty"`
	ToolInfo     json.RawMessage `json:"tool_info,omitempty"` // $.tool of a tool call
	Masked       []string        `json:"masked,omitempty"`
	Open         bool            `json:"open,omitempty"`   // allowed when no rule is about it: resources/read, say
	Round        int             `json:"round,omitempty"`  // a further message of an approved call: the second has 1
	Unsent       bool            `json:"unsent,omitempty"` // of an outcome: nothing of the call has left the process

	Count  int     `json:"count,omitempty"`  // how often: of what is counted and written once
	Limits []Limit `json:"limits,omitempty"` // that a decision has touched, or an outcome has given back
}

// A Passkey is what one has signed (WebAuthn): each member is base64, standard and padded,
// of the bytes.
type Passkey struct {
	CredentialID      []byte `json:"credential_id"`
	AuthenticatorData []byte `json:"authenticator_data"`
	ClientData        []byte `json:"client_data"`
	Signature         []byte `json:"signature"`
}

// A Limit is one that an action counts for.
type Limit struct {
	ID       string `json:"id"`
	Key      string `json:"key,omitempty"` // for whom it counts
	Amount   int64  `json:"amount"`
	Max      int64  `json:"max"`
	Over     bool   `json:"over,omitempty"` // it had no room; Used and Held are what it counted then
	Used     int64  `json:"used,omitempty"`
	Held     int64  `json:"held,omitempty"`
	Doubt    string `json:"doubt,omitempty"` // why it cannot be counted
	Released bool   `json:"released,omitempty"`
}

// maxEntry bounds an entry well below what a line may hold: an entry that was
// committed and fits no line would stop the log for good.
const maxEntry = 12 << 20

// MaxPayload is how many bytes of payload an entry has room for, beside all else.
const MaxPayload = 11 << 20

// Encode writes an entry as the log has it: the object that a line is made of.
// The store commits these bytes; an entry of more than 12 MiB is refused.
func Encode(e Entry) ([]byte, error) {
	b := e.append(make([]byte, 0, 1536+len(e.Payload)))
	if len(b) > maxEntry {
		return nil, fmt.Errorf("writing the %s entry: it has %d bytes, at most %d can be recorded", e.Event, len(b), maxEntry)
	}
	return b, nil
}

// Sequenced is an entry with its place: what one line of the file is.
type Sequenced struct {
	Seq  uint64
	Line []byte // the whole line without its newline, "seq" and "prev" first
	Hash [32]byte
}

// MaxBatch bounds what a Store brings at once, in bytes: an entry may have 12 MiB.
const MaxBatch = 16 << 20

// ErrMoved is the failure of Store.SetSequenced's condition: read again.
var ErrMoved = errors.New("the log has moved on: read the head again")

// Store is what the sequencer needs of the store. Committed entries have an id
// (their order of commit) and get their place afterwards, by one process at a time.
type Store interface {
	// Head returns the last place given, and its line's hash (zero at the start).
	Head(ctx context.Context) (seq uint64, hash [32]byte, err error)
	// Unsequenced returns the first committed entries without a place, in order: up
	// to limit, and those that were committed together with the last of them; and
	// only so many that they have little more than MaxBatch bytes.
	Unsequenced(ctx context.Context, limit int) (ids []int64, entries [][]byte, err error)
	// SetSequenced gives the places, atomically. It fails with ErrMoved when Head moved
	// meanwhile, or these are not the first entries any more.
	SetSequenced(ctx context.Context, ids []int64, lines []Sequenced) error
	// Lines returns lines by place, from (inclusive), up to limit and to little more
	// than MaxBatch bytes, but at least one if there is one.
	Lines(ctx context.Context, from uint64, limit int) ([]Sequenced, error)
	// Drop forgets lines up to a place, from the first on, but never the last of all: so
	// many as take a moment. It reports whether that was all of them.
	Drop(ctx context.Context, upto uint64) (all bool, err error)
	// Restore puts back lines that come directly before the first: from the last of
	// them to the first, so that what a crash leaves has no gap.
	Restore(ctx context.Context, lines []Sequenced) error
	// LockSequencer takes the one seat, without waiting; ok is false when another process has it.
	LockSequencer(ctx context.Context) (release func(), ok bool, err error)
}
