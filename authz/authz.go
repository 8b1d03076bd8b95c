// Package authz is where every decision is made: the one room behind two
// doors (proxy and api), the context handler between the policy (PDP), the
// people who approve, and the log.
//
// It promises:
//
//   - Nothing is allowed that is not on disk. The entry of a decision, the grant
//     it spends and the request it opens are one commit (Store.Commit); the
//     answer is given after it. A commit that fails is a refusal.
//   - A decision is the policy's alone. What a person approved passes when the
//     policy, asked again at that moment, still asks for an approval; a deny
//     that was added meanwhile wins.
//   - A grant is good for one action, by its hash, and for one decision. Where the
//     call's server wants input and the host sends the call again (a round), the
//     decision on that is a new one, and takes the round in the grant's place.
//   - What the policy wants a second factor or a deposit for is held like what it wants an
//     approval for, and passes by an answer that came with them (confirm.go): not by a field
//     of the request, a session, a standing grant, or an answer that came without them.
//   - A standing grant is good for what the policy asks an approval for at that moment,
//     and for nothing that is over a limit (grant.go). Its use is counted in the commit
//     that allows.
//   - What limits allow is counted in the commit that allows (limits.go), and given
//     back only when nothing of the call has left the process, or a limit says
//     that errors do, or the owner does (release.go): once, on the record, and by no
//     door that an agent has. Whoever only looks (look.go) charges nothing.
//   - What was decided on is in the log, whole, but for what looks like a secret, and
//     what the policies want masked (record.go, marks.go); what does not fit there is
//     refused. Nothing is decided by what is masked.
//   - A held call in other words is the next version of the request that waits, if no
//     call waits for that (fold.go); what one agent keeps open is bounded.
//   - Arguments that reach into OpenLeash itself are refused before any policy
//     is asked (Protection).
//   - A call by a definition that is not the one its owner accepted is refused, or
//     waits, before any policy is asked (pin.go). No rule can let it through.
//   - An error, a doubt or a missing part is a refusal with a Code and a Reason.
package authz

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/policy"
	"github.com/openleash/openleash-go/proof"
)

// Caller is who asks, as the door it came through has established it.
type Caller struct {
	Agent identity.Agent
	// SignatureValid is for the log: true for a valid token or signature, nil
	// where the channel carries neither (stdio).
	SignatureValid *bool
}

// Call is the tool call behind a request: what will run if it is allowed. What
// is no tool call (resources/read, say) has its method in place of the tool's
// name, and its params as arguments.
type Call struct {
	Server    string
	Tool      string
	Arguments action.Value // Missing counts as {}
	Open      bool         // allowed when no rule is about it (policy.Env)
	ToHost    bool         // the server asks it of the host: no proof is made, nobody would verify it
	About     string       // for the log, of what is no tool call: a resource's URI, a prompt's name
	Info      action.Value // $.tool for the policy and the approval page
	// Round is the token of the round that the call claims to be (OpenRound); empty:
	// it is a call of its own.
	Round string
	// Leg is the text by which the call says that it has come back (NextLeg); empty:
	// it came for the first time.
	Leg string
	// Hold is how long its caller waits for the owner if it needs an approval; Leave
	// says when that ends. Zero: nobody waits.
	Hold time.Duration
	// Places are folders from which the server may resolve relative paths: those
	// it was started with. Only Protection looks at them.
	Places []string
	// TraceID is of the trace that the call says it is a part of (W3C Trace Context), for
	// the log; empty: it names none.
	TraceID string
	// Pins are those of the server. nil: nothing is pinned.
	Pins *Pins
}

// Answer is what the caller gets.
type Answer struct {
	DecisionID  string
	Outcome     policy.Outcome
	Code        Code
	Reason      string // one sentence for people and models
	PolicyID    string
	RuleID      string
	Obligations []policy.Obligation
	ActionID    string
	ActionType  string
	ActionHash  action.Hash
	Proof       string             // on ALLOW, unless the rule wants none
	ProofExpiry time.Time          // zero without a proof
	Approval    *approvals.Request // what waits, was granted, or was denied
	Charges     []policy.Charge    // what it has reserved: Finish says what came of it
	Replaces    int                // the version of the request that this call has replaced; 0: none
	Granted     *approvals.Request // approved and not used yet: this call in other words; nil: none
	Repeated    bool               // it was given before, for the same action

	legs  int   // how often the call has come back
	marks marks // what the log does not keep of it
}

// Code is the stable name of a kind of answer.
type Code string

const (
	Allowed          Code = "ALLOWED"
	PolicyDenied     Code = "POLICY_DENIED"
	ApprovalRequired Code = "APPROVAL_REQUIRED" // also where the outcome is REQUIRE_STEP_UP or REQUIRE_DEPOSIT
	ApprovalDenied   Code = "APPROVAL_DENIED"
	AlreadyRun       Code = "ALREADY_RUN"       // the call came back, but has run for an earlier message
	TooManyOpen      Code = "TOO_MANY_OPEN"     // as many requests of the agent wait as may
	LimitExceeded    Code = "LIMIT_EXCEEDED"    // a limit of the policy has no room for it
	ToolHeld         Code = "TOOL_HELD"         // its definition is new or has changed, and waits for the owner
	ToolChanged      Code = "TOOL_CHANGED"      // the same, and is not waited for
	ToolRefused      Code = "TOOL_REFUSED"      // the owner has refused its definition
	AgentRevoked     Code = "AGENT_INACTIVE"    // the agent was revoked, or waits for its owner
	ActionReused     Code = "ACTION_ID_REUSED"  // the action's id was another action's
	Protected        Code = "PROTECTED"         // the arguments reach into OpenLeash itself
	ArgumentsRefused Code = "ARGUMENTS_REFUSED" // no action could be made of the arguments
	PolicyInvalid    Code = "POLICY_INVALID"    // no valid policy is in force
	LogUnavailable   Code = "LOG_UNAVAILABLE"   // audit.log.jsonl cannot be written
	StoreUnavailable Code = "STORE_UNAVAILABLE" // the decision could not be put on disk
)

// Waits reports whether the owner's word is waited for.
func (c Code) Waits() bool { return c == ApprovalRequired || c == ToolHeld }

// Config is what a Service is made of.
type Config struct {
	Store    Store
	Owner    identity.Owner
	Policies *policy.Keeper   // nil: nothing is decided in this process, Authorize refuses, and the log gets no arguments
	Key      *proof.Key       // nil: as for Policies
	Log      *audit.Sequencer // nil: nobody sequences in this process (CLI)
	Protect  *Protection
	MaskKey  *MaskKey         // nil: what policies mask in the log cannot be confirmed
	Now      func() time.Time // nil: time.Now

	RequestTTL time.Duration // how long a request waits for its owner; zero: 24 h
	GrantTTL   time.Duration // how long an approval can be redeemed; zero: 1 h
	DenyTTL    time.Duration // how long a denial sticks; zero: 15 min

	Process string // a name of this process that no other has, for the log; empty: none

	OpenPerAgent int // how many requests of one agent may wait; zero: 50

	Factors  Factors  // nil: nobody has a second factor, and what wants one is not approved
	Passkeys Passkeys // nil: none is taken for one
}

// Service decides.
type Service struct {
	cfg      Config
	finisher *finisher
	refusals *refusals
}

// New returns a service; it fails when a part without which nothing can be
// recorded is missing. Close it.
func New(c Config) (*Service, error) {
	if c.Store == nil || c.Owner.ID == "" {
		return nil, errors.New("authz: a store and an owner are needed")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	c.RequestTTL = orDefault(c.RequestTTL, 24*time.Hour)
	c.GrantTTL = orDefault(c.GrantTTL, time.Hour)
	c.DenyTTL = orDefault(c.DenyTTL, 15*time.Minute)
	if c.OpenPerAgent == 0 {
		c.OpenPerAgent = DefaultOpenPerAgent
	}
	s := &Service{cfg: c}
	s.finisher = startFinisher(s.commit)
	s.refusals = newRefusals(s.writeRefused)
	return s, nil
}

// DefaultOpenPerAgent is how many requests of one agent may wait by default.
const DefaultOpenPerAgent = 50

func orDefault(d, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return d
}

// DenialSticks is how long the same call is refused after a denial, without asking.
func (s *Service) DenialSticks() time.Duration { return s.cfg.DenyTTL }

// Close waits for what Finish and Refused have still to write.
func (s *Service) Close() error { return errors.Join(s.refusals.close(), s.finisher.close()) }

// attempts bounds how often a decision starts anew because another process
// changed, between its look and its commit, what it was based on.
const attempts = 5

// Authorize decides on one request and makes the decision durable. call is nil
// outside MCP. For a call, ActionID and RequestedAt are left empty: Authorize
// makes them, or adopts those of the request that waits for the same intent.
//
// The answer is complete also when err is not nil: then it is a refusal whose
// Code and Reason may be shown; err is for the program's own log.
func (s *Service) Authorize(ctx context.Context, who Caller, req action.Request, call *Call) (Answer, error) {
	call, pin, err := call.pinned(ctx)
	a := s.newAttempt(who, req, call)
	if err != nil {
		return s.refuse(ctx, a, StoreUnavailable, "the pinned definitions cannot be read"+because(err))
	}
	if code, reason := s.unable(); code != "" {
		return s.refuse(ctx, a, code, reason)
	}
	if code, reason := s.notActive(ctx, who); code != "" {
		return s.refuse(ctx, a, code, reason)
	}
	if a.record == nil {
		return s.refuse(ctx, a, ArgumentsRefused, tooMuch)
	}
	if call != nil {
		if reason := s.cfg.Protect.Check(call); reason != "" {
			return s.refuse(ctx, a, Protected, reason)
		}
	}
	if pin.code != "" {
		if code, reason := s.leg(ctx, &a); code != "" {
			return s.refuse(ctx, a, code, reason)
		}
		return s.refuse(ctx, a, pin.code, pin.reason)
	}
	for range attempts {
		if refusal, reason := s.leg(ctx, &a); refusal != "" {
			return s.refuse(ctx, a, refusal, reason)
		}
		var ans Answer
		if ans, err = s.decide(ctx, a); !overtaken(err) {
			return ans, err
		}
		a.decisionID = uuid.NewString()
	}
	return s.refuse(ctx, a, StoreUnavailable, "other processes kept changing what this decision depends on; call again"+because(err))
}

var tooMuch = fmt.Sprintf("there is more in the arguments than the log can keep of one call, %d bytes; send less at a time", audit.MaxPayload)

// DeniesOutright reports whether every call of a tool is denied whatever its
// arguments. tool is $.tool. It decides nothing: calls are refused by Authorize.
func (s *Service) DeniesOutright(who Caller, actionType string, tool action.Value) bool {
	if s.cfg.Policies == nil {
		return false
	}
	book := s.cfg.Policies.Current()
	return book != nil && book.For(who.Agent.Name).DeniesOutright(actionType, policy.Env{Tool: tool})
}

// Refuse records the refusal of a call that cannot become an action: its
// arguments leave a doubt about what would be decided on.
func (s *Service) Refuse(ctx context.Context, who Caller, call *Call, reason string) (Answer, error) {
	a := s.newAttempt(who, action.Request{Payload: action.ObjectValue()}, call)
	return s.refuse(ctx, a, ArgumentsRefused, reason)
}

// unable says why nothing can be decided at present.
func (s *Service) unable() (Code, string) {
	if s.cfg.Policies == nil || s.cfg.Key == nil {
		return PolicyInvalid, "this process has no policies and no key; it cannot decide"
	}
	if s.cfg.Policies.Current() == nil {
		return PolicyInvalid, "no valid policy is in force" + because(s.cfg.Policies.Err()) + "; mend the file, it is read again by itself"
	}
	if s.cfg.Log != nil {
		if err := s.cfg.Log.Err(); err != nil {
			return LogUnavailable, "the audit log cannot be written" + because(err)
		}
	}
	return "", ""
}

// overtaken reports whether a commit failed only because what the decision
// looked at has changed.
func overtaken(err error) bool {
	return errors.Is(err, ErrOpen) || errors.Is(err, ErrAsked) || errors.Is(err, approvals.ErrSpent) ||
		errors.Is(err, approvals.ErrExpired) || errors.Is(err, approvals.ErrAnswered) || errors.Is(err, approvals.ErrWithdrawn) || overtakenByKin(err)
}

// notActive says why an agent may do nothing, when that is so: a session of its host may
// be older than its revocation.
func (s *Service) notActive(ctx context.Context, who Caller) (Code, string) {
	now, err := s.cfg.Store.AgentByName(ctx, who.Agent.Name)
	switch {
	case err != nil && !errors.Is(err, identity.ErrNotFound):
		return StoreUnavailable, "the agents cannot be read" + because(err)
	case err != nil || now.ID != who.Agent.ID || now.Status != identity.Active:
		return AgentRevoked, "the agent " + who.Agent.Name + " is not active: its owner has revoked it, or has not confirmed it"
	}
	return "", ""
}

func because(err error) string {
	if err == nil {
		return ""
	}
	return ": " + err.Error()
}

// Answer records an owner's word on a request as it is now: approve, or deny with a
// reason. by names the person and the door ("portal:alice", "cli:root").
func (s *Service) Answer(ctx context.Context, by, requestID string, approve bool, reason string) (approvals.Request, error) {
	r, err := s.cfg.Store.Approval(ctx, requestID)
	if err != nil {
		return r, err
	}
	return s.answer(ctx, by, r, approve, reason)
}

// answer records an owner's word on a request as it was read.
func (s *Service) answer(ctx context.Context, by string, r approvals.Request, approve bool, reason string) (approvals.Request, error) {
	now := s.cfg.Now().UTC()
	e, err := s.answerEntry(ctx, r, by, approve, reason, now)
	if err != nil {
		return r, err
	}
	b := Batch{
		Answer:  &approvals.Answer{RequestID: r.ID, ActionHash: r.ActionHash, Approve: approve, By: by, Reason: reason, At: now, GrantFor: s.cfg.GrantTTL},
		Entries: []audit.Entry{e},
	}
	return s.commitAnswer(ctx, r, b)
}

func (s *Service) commitAnswer(ctx context.Context, r approvals.Request, b Batch) (approvals.Request, error) {
	if err := s.commit(ctx, b); err != nil {
		return r, err
	}
	return s.cfg.Store.Approval(ctx, r.ID)
}

// Record appends an entry that belongs to no decision: starts, reloads, tokens,
// sign-ins.
func (s *Service) Record(ctx context.Context, e audit.Entry) error {
	if e.TS == "" {
		e.TS = timestamp(s.cfg.Now())
	}
	return s.commit(ctx, Batch{Entries: []audit.Entry{e}})
}

func (s *Service) commit(ctx context.Context, b Batch) error {
	err := s.cfg.Store.Commit(ctx, b)
	if err == nil && s.cfg.Log != nil {
		s.cfg.Log.Wake()
	}
	return err
}

// Checkpoint is the log's latest one, its three lines: whoever keeps them is a witness.
// It is empty when there is none yet.
func (s *Service) Checkpoint() string {
	if s.cfg.Log == nil {
		return ""
	}
	return s.cfg.Log.Latest().Text()
}

// Approvals is how held calls are waited for and looked at.
func (s *Service) Approvals() approvals.Reader { return s.cfg.Store }

// Owner is the owner for whom this service decides.
func (s *Service) Owner() identity.Owner { return s.cfg.Owner }

// PublicKey is the key that this service's proofs verify with.
func (s *Service) PublicKey() proof.PublicKey { return s.cfg.Key.Public() }
