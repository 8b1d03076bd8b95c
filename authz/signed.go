package authz

import (
	"context"
	"encoding/json"
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

// Agents that do not speak MCP sign their requests (POST /v1/authorize). They are decided
// on as calls are, with these differences:
//
//   - The action has an id of the agent's own. What was decided on it is kept for a day:
//     the same action again gets the same ALLOW and the same proof, and is charged to
//     nothing a second time; the same id with another action is refused. An ALLOW that
//     spent an approval is not given again.
//   - An approval is asked for by a second request (Asking), which names the decision, and
//     is redeemed by a token. What was denied a short time ago is denied, whatever id it has.
//   - The nonce of the request is spent by the commit that its answer is of.

// Signed is what a request brings beside its action, when its agent has signed it.
type Signed struct {
	Nonce Nonce
	// Token is of the approval that it would redeem, as the door has verified it; nil: of none.
	Token *proof.ApprovalToken
	// Asking asks the owner. nil: it asks what the policies say.
	Asking *Asking
}

// Asking is how an agent asks its owner for an approval.
type Asking struct {
	DecisionID    string // that wanted it
	Justification string
	Context       action.Value // an object; Missing: none
}

// askedFor is how long it is kept what was decided on a signed request.
const askedFor = 24 * time.Hour

// Codes of signed requests alone.
const (
	UnknownDecision   Code = "UNKNOWN_DECISION"           // no decision of the agent that asked for an approval has this id
	DecisionChanged   Code = "DECISION_CHANGED"           // the policies want no approval any more
	NoRequest         Code = "APPROVAL_REQUEST_NOT_FOUND" // the token is of none
	RequestNot        Code = "INVALID_APPROVAL_STATUS"    // it is not approved, or not any more
	TokenConsumed     Code = "APPROVAL_TOKEN_CONSUMED"
	TokenOtherAction  Code = "ACTION_HASH_MISMATCH"
	TokenOtherAgent   Code = "AGENT_MISMATCH"
	TokenOtherSubject Code = "SUBJECT_MISMATCH"
)

// AuthorizeSigned decides on a request that its agent has signed, as Authorize does on
// calls. ErrReplayed: the nonce was used already; the answer is a refusal then.
func (s *Service) AuthorizeSigned(ctx context.Context, who Caller, req action.Request, signed Signed) (Answer, error) {
	a := s.newAttempt(who, req, nil)
	a.signed, a.intent, a.process = &signed, a.req.Hash(), ""
	if code, reason := s.refusal(ctx, &a); code != "" {
		return s.refuse(ctx, a, code, reason)
	}
	var err error
	for range attempts {
		var ans Answer
		if ans, err = s.decide(ctx, a); !overtaken(err) {
			return ans, err
		}
		a = a.anew()
		switch ans, done, err := s.known(ctx, &a); {
		case done:
			return ans, err
		case err != nil:
			return s.refuse(ctx, a, StoreUnavailable, "what was asked for before cannot be read"+because(err))
		}
	}
	return s.refuse(ctx, a, StoreUnavailable, "other processes kept changing what this decision depends on; ask again"+because(err))
}

// refusal says why a signed request is refused before any policy is asked.
func (s *Service) refusal(ctx context.Context, a *attempt) (Code, string) {
	if code, reason := s.unable(); code != "" {
		return code, reason
	}
	if code, reason := s.notActive(ctx, a.who); code != "" {
		return code, reason
	}
	if a.record == nil {
		return ArgumentsRefused, tooMuch
	}
	if a.signed.Token != nil {
		return s.tokenFits(ctx, *a, *a.signed.Token)
	}
	if a.signed.Asking != nil {
		return s.askingFits(ctx, *a)
	}
	return "", ""
}

// tokenFits says why a token does not redeem an approval of the attempt's action. The
// commit looks again.
func (s *Service) tokenFits(ctx context.Context, a attempt, token proof.ApprovalToken) (Code, string) {
	r, err := s.cfg.Store.Approval(ctx, token.RequestID)
	switch {
	case errors.Is(err, approvals.ErrNotFound):
		return NoRequest, "the approval token is of a request that is not there"
	case err != nil:
		return StoreUnavailable, "the approvals cannot be read" + because(err)
	case r.AgentID != a.who.Agent.Name || token.AgentID != r.AgentID:
		return TokenOtherAgent, "the approval was given to another agent"
	case r.OwnerID != a.who.Agent.OwnerID || token.OwnerID != r.OwnerID:
		return TokenOtherSubject, "the approval was given by another owner"
	case r.Status == approvals.Redeemed:
		return TokenConsumed, "the approval was used already, by decision " + r.RedeemedBy
	case r.At(a.now) != approvals.Approved:
		return RequestNot, fmt.Sprintf("the request is %s, not %s", r.At(a.now), approvals.Approved)
	case r.ActionHash != a.req.Hash() || token.ActionHash != r.ActionHash.String():
		return TokenOtherAction, "the approval is for the action " + r.ActionHash.String() + ": send that one, with its action_id and requested_at"
	}
	return "", ""
}

// askingFits says why an agent may not ask its owner: the decision that it names has to
// be there, its own, about this action, and has to have asked for a person.
func (s *Service) askingFits(ctx context.Context, a attempt) (Code, string) {
	kept, err := s.cfg.Store.Asked(ctx, a.who.Agent.Name, a.req.ActionID)
	switch {
	case err != nil && !errors.Is(err, ErrNotAsked):
		return StoreUnavailable, "what was asked for before cannot be read" + because(err)
	case err != nil || kept.DecisionID != a.signed.Asking.DecisionID || kept.Until <= a.now.UnixMilli():
		return UnknownDecision, "no decision of this agent on this action has this id: authorize the action, and name the decision_id of the latest answer"
	case kept.ActionHash != a.req.Hash():
		return TokenOtherAction, "the decision was about another action, " + kept.ActionHash.String()
	case kept.Outcome == policy.Allow.String() || kept.Outcome == policy.Deny.String():
		return UnknownDecision, "the decision was " + kept.Outcome + ", it asked for no approval"
	}
	return "", ""
}

// anew is the attempt as it begins once more.
func (a attempt) anew() attempt {
	a.decisionID = uuid.NewString()
	a.own, a.looked, a.grant = "", false, nil
	return a
}

// known looks at what is kept of the attempt's action: done, when that is an answer.
func (s *Service) known(ctx context.Context, a *attempt) (ans Answer, done bool, err error) {
	kept, err := s.cfg.Store.Asked(ctx, a.who.Agent.Name, a.req.ActionID)
	switch {
	case errors.Is(err, ErrNotAsked):
		a.was = ""
		return ans, false, nil
	case err != nil:
		return ans, false, err
	}
	a.was = kept.DecisionID
	if kept.Until <= a.now.UnixMilli() {
		return ans, false, nil
	}
	if kept.ActionHash != a.req.Hash() {
		ans, err = s.refuse(ctx, *a, ActionReused, "action_id "+a.req.ActionID+" was the id of another action, "+kept.ActionHash.String()+": each action has an id of its own")
		return ans, true, err
	}
	if kept.Claims == nil || a.signed.Token != nil {
		return ans, false, nil
	}
	return s.again(ctx, *a, kept)
}

// again gives the answer that was given already, with the proof that was, if the policies
// still say so and the proof is good still.
func (s *Service) again(ctx context.Context, a attempt, kept Asked) (ans Answer, done bool, err error) {
	book := s.cfg.Policies.Current()
	d := s.ask(book, &a)
	stands, err := s.stands(ctx, d, kept)
	if err != nil || !stands || kept.PolicyID != d.PolicyID {
		return ans, false, err
	}
	ans = Answer{
		DecisionID: kept.DecisionID, Outcome: policy.Allow, Code: Allowed, Reason: d.Reason, PolicyID: d.PolicyID, RuleID: d.RuleID,
		Obligations: d.Obligations, ActionID: a.req.ActionID, ActionType: a.req.ActionType, ActionHash: kept.ActionHash, marks: a.marks, Repeated: true,
	}
	if d.Outcome != policy.Allow {
		ans.Reason = "approved before, by the standing grant " + kept.GrantID
	}
	kid := ""
	if string(kept.Claims) != noClaims {
		if ans.Proof, ans.ProofExpiry, kid = s.signAgain(kept.Claims, a.now); ans.Proof == "" {
			return Answer{}, false, nil
		}
	}
	a.decisionID = kept.DecisionID
	entry := a.entry(ans, book.Hash, minting{kid: kid})
	entry.Event, entry.GrantID, entry.Reason = "decision.repeated", kept.GrantID, a.marks.told(ans.Reason, d)
	if err := s.commit(ctx, Batch{Nonce: a.nonce(), Entries: []audit.Entry{entry}}); err != nil {
		return a.unrecorded(err), true, err
	}
	return ans, true, nil
}

// stands reports whether what allowed an action before does so still: the policies alone,
// or a standing grant.
func (s *Service) stands(ctx context.Context, d policy.Decision, kept Asked) (bool, error) {
	if kept.GrantID == "" || d.Outcome == policy.Allow {
		return d.Outcome == policy.Allow, nil
	}
	g, err := s.cfg.Store.Grant(ctx, kept.GrantID)
	return err == nil && g.WithdrawnAt.IsZero() && d.Needed() == policy.RequireApproval, err
}

// signAgain makes the proof of claims once more: the same claims have the same signature
// (RFC 8032). Empty: it is over, or another key's.
func (s *Service) signAgain(stored []byte, now time.Time) (token string, expires time.Time, kid string) {
	var c proof.Claims
	if json.Unmarshal(stored, &c) != nil || c.KeyID != s.cfg.Key.ID || !now.Before(c.Expires) {
		return "", time.Time{}, ""
	}
	token, err := s.cfg.Key.Sign(c)
	if err != nil {
		return "", time.Time{}, ""
	}
	return token, c.Expires, c.KeyID
}

// noClaims stand for an ALLOW without a proof.
const noClaims = "{}"

// nonce is what the attempt's commit spends; nil: nothing.
func (a attempt) nonce() *Nonce {
	if a.signed == nil || a.signed.Nonce.Until == 0 {
		return nil
	}
	return &a.signed.Nonce
}

// onlyAsks: the attempt wants to know what the policies say, and brings nothing before
// its owner.
func (a attempt) onlyAsks() bool { return a.signed != nil && a.signed.Asking == nil }

// mayRedeem: a call redeems what waits for it; a signed request, what it has the token of.
func (a attempt) mayRedeem(r approvals.Request) bool {
	return a.signed == nil || a.signed.Token != nil && a.signed.Token.RequestID == r.ID
}

// asked is what is kept of the attempt; nil: nothing.
func (a attempt) asked(ans Answer, b Batch, m minting) *Asked {
	if a.signed == nil || a.signed.Asking != nil {
		return nil
	}
	kept := &Asked{
		AgentID: a.who.Agent.Name, ActionID: a.req.ActionID, ActionHash: ans.ActionHash, DecisionID: a.decisionID,
		ActionType: a.req.ActionType, PolicyID: ans.PolicyID, Outcome: ans.Outcome.String(), Now: a.now.UnixMilli(), Until: a.now.Add(askedFor).UnixMilli(), Was: a.was,
	}
	if ans.Outcome != policy.Allow || b.Redeem != nil {
		return kept
	}
	kept.Claims = []byte(noClaims)
	if b.UseGrant != nil {
		kept.GrantID = b.UseGrant.GrantID
	}
	if m.kid != "" {
		kept.Claims, _ = m.claims.MarshalJSON() // fails when signing does, and then nothing is allowed
	}
	return kept
}

// deniedAlike finds what its owner has denied a short time ago, in a signed request for
// the same with another id.
func (s *Service) deniedAlike(ctx context.Context, a attempt) (*approvals.Request, error) {
	if a.signed == nil {
		return nil, nil
	}
	list, err := s.cfg.Store.Kin(ctx, approvals.Kind{AgentID: a.who.Agent.Name, ActionType: a.req.ActionType}, approvals.Denied, kinAtMost)
	if err != nil {
		return nil, err
	}
	for _, r := range list {
		if a.now.Before(r.AnsweredAt.Add(s.cfg.DenyTTL)) && r.Action.RelyingParty == a.req.RelyingParty && r.Action.Payload.Equal(a.req.Payload) {
			return &r, nil
		}
	}
	return nil, nil
}

// Report records what an agent says came of an allowed action of its own. Its charges
// count from now on as used: an agent gives nothing back, its owner does (Release).
// ErrNotAsked, ErrReported, ErrReplayed.
func (s *Service) Report(ctx context.Context, who Caller, decisionID string, o Outcome, nonce Nonce) error {
	kept, err := s.cfg.Store.AskedBy(ctx, decisionID)
	switch {
	case err != nil:
		return err
	case kept.AgentID != who.Agent.Name || kept.Outcome != policy.Allow.String():
		return ErrNotAsked
	}
	e := audit.Entry{
		TS: timestamp(s.cfg.Now()), Event: "outcome", ActorType: "agent", ActorID: who.Agent.Name, ActionType: filled(kept.ActionType), ActionID: &kept.ActionID,
		PolicyID: filled(kept.PolicyID), SignatureValid: who.SignatureValid, DecisionID: decisionID, OwnerID: who.Agent.OwnerID,
		ActionHash: kept.ActionHash.String(), Outcome: o.Status, Detail: maskText(o.Detail),
	}
	return s.commit(ctx, Batch{
		Nonce: &nonce, Reported: decisionID, Entries: []audit.Entry{e},
		Settle: []Settlement{{DecisionID: decisionID, AgentID: who.Agent.Name, ActionID: kept.ActionID}},
	})
}

// Spend spends the nonce of a signed request that changes nothing else. ErrReplayed.
func (s *Service) Spend(ctx context.Context, n Nonce) error { return s.commit(ctx, Batch{Nonce: &n}) }

// Consider says what would be decided on a request at present, and why. It leaves no
// trace anywhere, and charges nothing.
func (s *Service) Consider(ctx context.Context, who Caller, req action.Request) (policy.Limited, []policy.RuleTrace, error) {
	if code, reason := s.unable(); code != "" {
		return policy.Limited{}, nil, fmt.Errorf("%s: %s", code, reason)
	}
	set, env := s.cfg.Policies.Current().For(who.Agent.Name), policy.Env{Now: s.cfg.Now().UTC()}
	d, trace := set.Trace(&req, env)
	rooms, err := RoomFor(ctx, s.cfg.Store, env.Now, d.Charges)
	if err != nil {
		return policy.Limited{}, nil, err
	}
	var full []policy.LimitState
	for i, room := range rooms {
		if !room.Fits && d.Charges[i].Doubt == "" {
			full = append(full, room.LimitState)
		}
	}
	return d.Within(full), trace, nil
}
