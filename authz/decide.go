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
	"github.com/openleash/openleash-go/policy"
	"github.com/openleash/openleash-go/proof"
)

// attempt is one request on its way to an answer.
type attempt struct {
	who        Caller
	req        action.Request
	call       *Call
	intent     action.Hash
	callHash   action.Hash
	decisionID string
	process    string
	now        time.Time
	legs       int              // how often it has come back (leg.go)
	record     *record          // nil: there is too much of it for the log
	marks      marks            // what the log does not keep
	book       *policy.Book     // by which both were made
	roundOf    int              // which further message of an approved call it is; 0: none
	grant      *approvals.Grant // a standing one by which it may run
	own        string           // the open request for this call, when it was looked for and there is one
	looked     bool             // own was looked for
	kin        kin              // of a call that is not known yet

	signed *Signed // nil: it came over MCP
	was    string  // the decision that is kept of the signed request's action; empty: none

	shadow   policy.Decision // what would be decided with the policies in the shadow
	shadowed bool            // there are such policies
}

func (s *Service) newAttempt(who Caller, req action.Request, call *Call) attempt {
	a := attempt{who: who, req: req, call: call, decisionID: uuid.NewString(), process: s.cfg.Process, now: s.cfg.Now().UTC()}
	a.req.AgentID, a.req.SubjectID = who.Agent.Name, who.Agent.OwnerID
	if call != nil {
		a.intent = action.IntentHash(who.Agent.Name, call.Server, call.Tool, call.Arguments)
		a.callHash = action.CallHash(call.Tool, call.Arguments)
		a.req.ActionID, a.req.RequestedAt = uuid.NewString(), timestamp(a.now)
	}
	a.keepBy(s.inForce(), s.cfg.MaskKey)
	return a
}

// keepBy makes the record of what is asked for, as the policies of a book want it.
func (a *attempt) keepBy(book *policy.Book, key *MaskKey) {
	a.book, a.record = book, nil
	how := howToRecord(book, a.who.Agent.Name, a.req.ActionType)
	r, fits := recorded(a.req, a.call, how, key)
	if a.req.ActionType == "" { // no action could be made of the arguments, so they are not there
		r.veiled = !how.None()
	}
	if a.marks = r.marks; fits {
		a.record = &r
	}
}

// howToRecord is what the log keeps of an agent's action. While no policies are in
// force nobody knows what they would want masked.
func howToRecord(book *policy.Book, agent, actionType string) policy.Recording {
	switch {
	case book == nil:
		return policy.Recording{Hash: true}
	case actionType == "":
		return book.For(agent).AnyRecording()
	}
	return book.For(agent).Recording(actionType)
}

// inForce is the book in force; nil: there is none.
func (s *Service) inForce() *policy.Book {
	if s.cfg.Policies == nil {
		return nil
	}
	return s.cfg.Policies.Current()
}

// adopt makes the attempt ask for the very action that waits already.
func (a *attempt) adopt(open approvals.Request) {
	a.req.ActionID, a.req.RequestedAt = open.Action.ActionID, open.Action.RequestedAt
}

// decide asks the policy and brings its decision on disk. An error for which
// overtaken is true means: start anew.
func (s *Service) decide(ctx context.Context, a attempt) (Answer, error) {
	book := s.cfg.Policies.Current()
	if book != a.book {
		if a.keepBy(book, s.cfg.MaskKey); a.record == nil {
			return s.refuse(ctx, a, ArgumentsRefused, tooMuch)
		}
	}
	round, err := s.round(ctx, &a)
	if err != nil {
		return s.refuse(ctx, a, StoreUnavailable, "the approvals cannot be read"+because(err))
	}
	var full []policy.LimitState
	for range attempts {
		ans, err := s.decideWith(ctx, book, a, round, full)
		var limits *LimitError
		if !errors.As(err, &limits) {
			return ans, err
		}
		known, err := s.knowsOwn(ctx, &a)
		if err != nil {
			return s.refuse(ctx, a, StoreUnavailable, "the approvals cannot be read"+because(err))
		}
		if known {
			full = merge(full, limits.Full)
		}
	}
	return s.refuse(ctx, a, StoreUnavailable, "the limits kept filling up while this was decided on; call again")
}

// knowsOwn reports whether what is full was so without what is set aside for this
// very call. If not, it has found the call's request now, and the limits are to be
// looked at again.
func (s *Service) knowsOwn(ctx context.Context, a *attempt) (bool, error) {
	if a.looked {
		return true, nil
	}
	a.looked = true
	open, err := s.openRequest(ctx, *a)
	if err != nil || open == nil || open.At(a.now) == approvals.Denied {
		return true, err
	}
	a.own = open.ID
	return false, nil
}

// decideWith decides, some limits being known to be full. Its error is a LimitError
// when there are more.
func (s *Service) decideWith(ctx context.Context, book *policy.Book, a attempt, round *approvals.Request, full []policy.LimitState) (Answer, error) {
	ask := func() policy.Limited {
		d := s.ask(book, &a)
		if round != nil {
			d = ofRound(d)
		}
		return d.Within(full)
	}
	d := ask()
	if a.signed != nil && a.signed.Asking != nil && d.Needed() == policy.Allow {
		return s.refuse(ctx, a, DecisionChanged, "the policies allow it by now, without an approval: authorize it again")
	}
	if round != nil && !needsOf(d).MetBy(round.Given()) {
		round = nil // the policy asks for more than was given: it is a call of its own
		d = ask()
	}
	if !d.Outcome.Waits() {
		return s.conclude(ctx, book, a, d, round)
	}
	open, err := s.openRequest(ctx, a)
	if err != nil {
		return s.refuse(ctx, a, StoreUnavailable, "the approvals cannot be read"+because(err))
	}
	switch {
	case round != nil && (open == nil || open.At(a.now) != approvals.Denied):
		open = round // the owner has not said no to such a call since
	case open != nil:
		a.adopt(*open)
		if d = ask(); !d.Outcome.Waits() {
			return s.conclude(ctx, book, a, d, nil)
		}
	default:
		if err := s.lookAround(ctx, &a); err != nil {
			return s.refuse(ctx, a, StoreUnavailable, "the approvals cannot be read"+because(err))
		}
	}
	if open == nil {
		// Another message of the same call may have run since Authorize looked.
		if code, reason := s.leg(ctx, &a); code != "" {
			return s.refuse(ctx, a, code, reason)
		}
		if open, err = s.deniedAlike(ctx, a); err != nil {
			return s.refuse(ctx, a, StoreUnavailable, "the approvals cannot be read"+because(err))
		}
	}
	if open == nil {
		if a.grant, err = s.standing(ctx, a, d); err != nil {
			return s.refuse(ctx, a, StoreUnavailable, "the grants cannot be read"+because(err))
		}
	}
	return s.conclude(ctx, book, a, d, open)
}

func (s *Service) ask(book *policy.Book, a *attempt) policy.Decision {
	env := policy.Env{Now: a.now}
	if a.call != nil {
		env.Tool, env.Open = a.call.Info, a.call.Open
	}
	set := book.For(a.who.Agent.Name)
	a.shadow, a.shadowed = set.Shadow(&a.req, env)
	return set.Decide(&a.req, env)
}

// openRequest finds what is known of the same intent and still matters.
func (s *Service) openRequest(ctx context.Context, a attempt) (*approvals.Request, error) {
	r, err := s.cfg.Store.OpenApproval(ctx, a.who.Agent.Name, a.intent, a.now, a.now.Add(-s.cfg.DenyTTL))
	if errors.Is(err, approvals.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &r, nil
}

// conclude turns a decision into an answer, in one commit. open is the request
// for the same intent when the decision asks for an approval, or the one of whose
// grant a round is open for this call.
func (s *Service) conclude(ctx context.Context, book *policy.Book, a attempt, d policy.Limited, open *approvals.Request) (Answer, error) {
	ans := Answer{
		DecisionID: a.decisionID, Outcome: d.Needed(), Reason: d.Reason, PolicyID: d.PolicyID, RuleID: d.RuleID,
		Obligations: d.Obligations, ActionID: a.req.ActionID, ActionType: a.req.ActionType, ActionHash: a.req.Hash(),
		legs: a.legs, marks: a.marks,
	}
	var b Batch
	switch ans.Outcome {
	case policy.Allow:
		ans.Code = Allowed
		if open != nil {
			b.Continue = a.continuation(*open) // it runs: nothing may run by that round again
			a.roundOf = open.Rounds + 1
		}
	case policy.RequireApproval, policy.RequireStepUp, policy.RequireDeposit:
		s.approval(&a, &ans, &b, d, open)
	default:
		ans.Outcome, ans.Code = policy.Deny, PolicyDenied
		if d.ByLimit {
			ans.Code = LimitExceeded
		}
	}
	b.Hold = a.hold(ans)
	s.reserve(a, &ans, &b, d)
	minted := s.mint(a, ans, d.Decision)
	b.Nonce, b.Asked = a.nonce(), a.asked(ans, b, minted)
	entry := a.entry(ans, book.Hash, minted)
	entry.Reason = a.marks.told(ans.Reason, d.Decision)
	entry.Limits = a.marks.limits(d, b.Reserve != nil)
	b.Entries = []audit.Entry{entry}
	err := s.commit(ctx, b)
	var full *QuotaError
	p := <-minted.done // also when the commit failed: nothing is left running
	switch {
	case overtaken(err), errors.As(err, new(*LimitError)):
		return Answer{}, err
	case errors.As(err, &full):
		return s.refuse(ctx, a, TooManyOpen, s.quotaReason(full))
	case err != nil:
		return a.unrecorded(err), err
	case p.err != nil:
		s.giveBack(ctx, a.who, ans)
		return s.refuse(ctx, a, StoreUnavailable, "the proof cannot be signed"+because(p.err))
	}
	ans.Proof, ans.ProofExpiry = p.token, p.expires
	return ans, nil
}

// reserve charges what runs, and looks at the limits of what is to be asked for: a
// person need not be asked for what a limit denies.
func (s *Service) reserve(a attempt, ans *Answer, b *Batch, d policy.Limited) {
	switch {
	case ans.Outcome == policy.Allow && b.Continue == nil:
		var approved approvals.Request
		if b.Redeem != nil {
			approved = *ans.Approval
		}
		if b.Reserve = a.reservation(d, approved); b.Reserve != nil {
			ans.Charges = d.Charges
		}
	case b.asked() != nil:
		if b.Reserve = a.reservation(d, *b.asked()); b.Reserve != nil {
			b.Reserve.RequestID, b.Reserve.Until = b.asked().ID, b.asked().ExpiresAt.UnixMilli()
		}
	}
}

// giveBack releases all that an answer has reserved: nobody has got it.
func (s *Service) giveBack(ctx context.Context, who Caller, ans Answer) {
	if settled := settlement(who, ans, Outcome{Unsent: true}); settled != nil {
		s.commit(ctx, Batch{Settle: []Settlement{*settled}}) //nolint:errcheck // it stays reserved then
	}
}

// approval says what the approvals make of a decision that needs one.
func (s *Service) approval(a *attempt, ans *Answer, b *Batch, d policy.Limited, open *approvals.Request) {
	if open != nil && s.outdated(*open, a, ans, d) {
		b.Supersede = open.ID
		open = nil
	}
	if open == nil {
		r := s.newRequest(a, ans)
		r.Reason, r.Overshoots, r.Needs = d.Shown, overshoots(d), needsOf(d)
		if a.grant != nil {
			useGrant(*a.grant, r, ans, b)
			return
		}
		if a.onlyAsks() {
			ans.Code = ApprovalRequired
			return
		}
		a.put(r, ans, b, Quota{s.cfg.OpenPerAgent, openBytes})
		return
	}
	ans.Approval = open
	switch open.At(a.now) {
	case approvals.Approved:
		if !a.mayRedeem(*open) {
			ans.Code, ans.Reason = ApprovalRequired, "the owner has approved it: send the approval token with it"
			return
		}
		redemption := a.redemption(*open)
		b.Redeem = &redemption
		ans.Outcome, ans.Code = policy.Allow, Allowed
		ans.Reason = "approved by " + open.AnsweredBy
	case approvals.Redeemed: // only of a round
		b.Continue = a.continuation(*open)
		a.roundOf = open.Rounds + 1
		ans.Outcome, ans.Code = policy.Allow, Allowed
		ans.Reason = fmt.Sprintf("approved by %s; this is round %d of that call", open.AnsweredBy, open.Rounds+2)
	case approvals.Denied:
		ans.Outcome, ans.Code = policy.Deny, ApprovalDenied
		ans.Reason = open.Denial()
	default:
		ans.Code = ApprovalRequired
		if !a.onlyAsks() {
			b.Join = a.join(*open)
		}
	}
}

// outdated reports whether what was shown to the owner is not what would run: the
// same call means another action than it did (the mapping was changed), its tool says
// something else of itself, the policy asks for something else than it did, or what was
// approved is further over a limit by now.
func (s *Service) outdated(open approvals.Request, a *attempt, ans *Answer, d policy.Limited) bool {
	switch open.At(a.now) {
	case approvals.Denied:
		return false
	case approvals.Approved:
		return open.ActionHash != ans.ActionHash || a.otherDefinition(open) || !coveredBy(d, open.Overshoots) || !needsOf(d).MetBy(open.Given())
	case approvals.Pending:
		return open.ActionHash != ans.ActionHash || a.otherDefinition(open) || needsOf(d) != open.Needs
	}
	return open.ActionHash != ans.ActionHash
}

func (s *Service) newRequest(a *attempt, ans *Answer) approvals.Request {
	r := approvals.Request{
		ID: uuid.NewString(), OwnerID: a.who.Agent.OwnerID, AgentID: a.who.Agent.Name, DecisionID: a.decisionID,
		Action: a.req, ActionHash: ans.ActionHash, IntentHash: a.intent,
		PolicyID: ans.PolicyID, RuleID: ans.RuleID, Reason: ans.Reason,
		Status: approvals.Pending, CreatedAt: a.now, ExpiresAt: a.now.Add(s.cfg.RequestTTL),
		Version: 1, Asked: 1, LastAsked: a.now,
	}
	if a.call != nil {
		r.Server, r.Tool, r.ToolInfo = a.call.Server, a.call.Tool, a.call.Info
	}
	if a.signed != nil && a.signed.Asking != nil {
		r.Justification, r.Context = a.signed.Asking.Justification, a.signed.Asking.Context
	}
	return r
}

// defaultProofTTL is a proof's life where the rule names none (wire.md).
const defaultProofTTL = 300 * time.Second

// minting is a proof in the making. It is signed while the disk syncs the
// decision, and leaves only with a decision that is on disk.
type minting struct {
	kid    string // empty: no proof is wanted
	claims proof.Claims
	done   chan minted
}

type minted struct {
	token   string
	expires time.Time
	err     error
}

func (s *Service) mint(a attempt, ans Answer, d policy.Decision) minting {
	m := minting{done: make(chan minted, 1)}
	if ans.Outcome != policy.Allow || d.NoProof || a.call != nil && a.call.ToHost {
		m.done <- minted{}
		return m
	}
	m.kid, m.claims = s.cfg.Key.ID, s.cfg.Key.Complete(s.claims(a, ans, d))
	go func() {
		token, err := s.cfg.Key.Sign(m.claims)
		m.done <- minted{token, m.claims.Expires, err}
	}()
	return m
}

// claims are what the proof of an allowed action says.
func (s *Service) claims(a attempt, ans Answer, d policy.Decision) proof.Claims {
	issued := s.cfg.Now().UTC().Truncate(time.Millisecond)
	c := proof.Claims{
		Subject: a.who.Agent.Name, Audience: a.req.RelyingParty.Domain,
		IssuedAt: issued, Expires: issued.Add(orDefault(d.ProofTTL, defaultProofTTL)), ID: uuid.NewString(),
		Decision: policy.Allow.String(), DecisionID: a.decisionID,
		ActionID: a.req.ActionID, ActionType: a.req.ActionType, ActionHash: ans.ActionHash.String(),
		PolicyID: d.PolicyID, AgentID: a.who.Agent.Name, OwnerType: a.who.Agent.OwnerType, OwnerID: a.who.Agent.OwnerID,
		TrustProfile: a.req.RelyingParty.TrustProfile,
	}
	if d.RuleID != "" {
		c.MatchedRuleID = &d.RuleID
	}
	if a.call != nil {
		c.Server, c.Tool = a.call.Server, a.call.Tool
		c.CallHash = a.callHash.String()
		if c.Audience == "" {
			c.Audience = "mcp:" + a.call.Server
		}
	}
	c.Log = s.Checkpoint()
	if ap := ans.Approval; ap != nil {
		c.Approval = &proof.Approval{ID: ap.ID, By: ap.AnsweredBy, At: timestamp(ap.AnsweredAt), Factor: ap.Factor.Method}
	}
	return c
}

// refuse records a refusal that no policy gave. When even that cannot be
// recorded it is a refusal all the same.
func (s *Service) refuse(ctx context.Context, a attempt, code Code, reason string) (Answer, error) {
	ans := Answer{
		DecisionID: a.decisionID, Outcome: policy.Deny, Code: code, Reason: reason,
		ActionID: a.req.ActionID, ActionType: a.req.ActionType, ActionHash: a.req.Hash(),
		legs: a.legs,
	}
	bookHash := ""
	if book := s.inForce(); book != nil {
		bookHash = book.Hash
	}
	entry := a.entry(ans, bookHash, minting{})
	entry.Reason = a.marks.refusal(code, reason)
	if err := s.commit(ctx, Batch{Nonce: a.nonce(), Entries: []audit.Entry{entry}}); err != nil {
		return ans, fmt.Errorf("recording the refusal %s: %w", code, err)
	}
	return ans, nil
}

// unrecorded is the answer when the decision could not be put on disk.
func (a attempt) unrecorded(err error) Answer {
	return Answer{
		DecisionID: a.decisionID, Outcome: policy.Deny, Code: StoreUnavailable,
		Reason:   "the decision could not be put on disk, so nothing was done" + because(err),
		ActionID: a.req.ActionID, ActionType: a.req.ActionType, ActionHash: a.req.Hash(),
	}
}
