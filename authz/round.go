package authz

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"

	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/policy"
)

// A call that was approved may be several messages: its server answers that it
// wants input, and the host sends the same call again (MCP 2026-07-28, Multi
// Round-Trip Requests). What the host brings back is the token of a round, and
// each message is decided on anew.

// OpenRound lets the next message of the call of an answer run by the same
// approval, once, and returns the token that it must bring; it is on disk by
// then. The token is empty when the call needed no approval: the next needs no
// token to be decided on as this one was.
func (s *Service) OpenRound(ctx context.Context, who Caller, ans Answer) (token string, err error) {
	if ans.Outcome != policy.Allow || ans.Approval == nil {
		return "", nil
	}
	token = rand.Text()
	err = s.commit(ctx, Batch{OpenRound: &RoundOpening{
		RequestID: ans.Approval.ID, DecisionID: ans.DecisionID, ActionHash: ans.ActionHash.String(), AgentID: who.Agent.Name,
		Round: approvals.Round{Hash: roundHash(token), Until: s.cfg.Now().Add(s.cfg.GrantTTL)},
	}})
	if err != nil {
		return "", err
	}
	return token, nil
}

func roundHash(token string) [32]byte { return sha256.Sum256([]byte(token)) }

// round finds the request of the round that a call claims to be, and makes the
// attempt ask for the action that was approved. A claim that is not good counts as
// none, and so does one by another definition of the tool than the owner was shown.
// The commit looks again.
func (s *Service) round(ctx context.Context, a *attempt) (*approvals.Request, error) {
	if a.call == nil || a.call.Round == "" {
		return nil, nil
	}
	hash := roundHash(a.call.Round)
	r, err := s.cfg.Store.RoundApproval(ctx, hash)
	if errors.Is(err, approvals.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	same := *a
	same.adopt(r)
	if r.Continuable(a.now, hash, same.req.Hash(), a.who.Agent.Name) != nil || same.otherDefinition(r) {
		return nil, nil
	}
	*a = same
	return &r, nil
}

// redemption spends a request's grant for the attempt.
func (a attempt) redemption(r approvals.Request) Redemption {
	return Redemption{
		RequestID: r.ID, DecisionID: a.decisionID, ActionHash: a.req.Hash().String(),
		AgentID: a.who.Agent.Name, Now: a.now.UnixMilli(),
	}
}

// continuation spends its open round.
func (a attempt) continuation(r approvals.Request) *Continuation {
	return &Continuation{a.redemption(r), r.Round.Hash}
}
