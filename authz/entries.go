package authz

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/policy"
)

// timestamp writes a time as the log and the wire do: UTC, milliseconds.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// entry is the log's line of a decision.
func (a attempt) entry(ans Answer, bookHash string, proof minting) audit.Entry {
	decision := ans.Outcome.String()
	e := audit.Entry{
		TS: timestamp(a.now), Event: "decision", ActorType: "agent", ActorID: a.who.Agent.Name,
		ActionType: filled(a.req.ActionType), ActionID: filled(a.req.ActionID), Decision: &decision,
		PolicyID: filled(ans.PolicyID), ProofKID: filled(proof.kid), SignatureValid: a.who.SignatureValid,
		DecisionID: ans.DecisionID, MatchedRuleID: ans.RuleID, Reason: ans.Reason, Code: string(ans.Code),
		OwnerID: a.req.SubjectID, ActionHash: ans.ActionHash.String(), PolicyHash: bookHash, Process: a.process,
	}
	if a.call != nil {
		e.Server, e.Tool, e.IntentHash = a.call.Server, a.call.Tool, a.intent.String()
		e.CallHash, e.Detail, e.TraceID = a.callHash.String(), a.marks.about(a.call), a.call.TraceID
	}
	if ans.Replaces > 0 && e.Detail == "" {
		e.Detail = fmt.Sprintf("version %d of the request", ans.Replaces+1)
	}
	if a.record != nil {
		a.record.fill(&e)
		e.RequestedAt, e.Round = a.req.RequestedAt, a.roundOf
	}
	if a.shadowed {
		e.ShadowDecision, e.ShadowPolicyID, e.ShadowRuleID = a.shadow.Needed().String(), a.shadow.PolicyID, a.shadow.RuleID
	}
	if ap := ans.Approval; ap != nil {
		e.ApprovalID, e.GrantID = ap.ID, ap.GrantID
		if ans.Outcome == policy.Allow {
			e.Approver = ap.AnsweredBy
		}
	}
	return e
}

func answerEntry(r approvals.Request, by string, approve bool, reason string, now time.Time) audit.Entry {
	event := "approval.denied"
	if approve {
		event = "approval.approved"
	}
	return audit.Entry{
		TS: timestamp(now), Event: event, ActorType: "owner", ActorID: by,
		ActionType: filled(r.Action.ActionType), ActionID: filled(r.Action.ActionID), PolicyID: filled(r.PolicyID),
		DecisionID: r.DecisionID, MatchedRuleID: r.RuleID, Reason: reason, OwnerID: r.OwnerID, AgentID: r.AgentID,
		Server: r.Server, Tool: r.Tool, ActionHash: r.ActionHash.String(), IntentHash: r.IntentHash.String(),
		ApprovalID: r.ID, Approver: by,
	}
}

// answerEntry is the log's line of an answer. A yes after the owner's access was reset says
// so: it may be somebody else's.
func (s *Service) answerEntry(ctx context.Context, r approvals.Request, by string, approve bool, reason string, now time.Time) (audit.Entry, error) {
	e := answerEntry(r, by, approve, reason, now)
	if !approve {
		return e, nil
	}
	reset, err := s.cfg.Store.LastReset(ctx, r.OwnerID)
	switch {
	case errors.Is(err, identity.ErrNotFound):
		return e, nil
	case err != nil:
		return e, err
	}
	e.Detail = "after " + reset.By + " has reset the owner's access, " + timestamp(reset.At)
	return e, nil
}

// confirmed adds to an approval's entry what was given with it.
func confirmed(e audit.Entry, a approvals.Answer) audit.Entry {
	e.Factor, e.DepositReference = a.Factor.Method, a.DepositReference
	if p := a.Factor.Passkey; p != nil {
		e.Passkey = &audit.Passkey{CredentialID: p.CredentialID, AuthenticatorData: p.AuthenticatorData, ClientData: p.ClientData, Signature: p.Signature}
	}
	return e
}

// filled is a promised field's value: null where it does not apply.
func filled(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
