package authz

import (
	"context"
	"errors"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/policy"
)

// A step-up is met by the owner's second factor, given with the yes and verified here, at
// that moment; a deposit by its reference, which the owner confirms. What was given is
// kept with the request, and a decision that is made again goes by that: a policy that has
// come to ask for more is not met by it.

// Factors are the second factors of owners.
type Factors interface {
	// Verify checks a code, which is good once, and returns what kind of code it was.
	Verify(ctx context.Context, ownerID, code string) (method string, err error)
	// Enrolled reports whether the owner has a second factor.
	Enrolled(ctx context.Context, ownerID string) (bool, error)
}

// Passkeys are the passkeys of owners.
type Passkeys interface {
	// Verify returns nil when a passkey of that owner has signed the challenge. That its
	// counter goes on is a condition of the commit too.
	Verify(ctx context.Context, ownerID string, challenge [32]byte, a approvals.Assertion) error
}

// A Confirmation is what an owner gives with a yes.
type Confirmation struct {
	Code             string               // of a second factor; empty: none is given
	Passkey          *approvals.Assertion // over the request's challenge, in a code's place; nil: none is given
	DepositReference string               // empty: none is given
}

// needsOf is what an approval takes, beside the owner's word, by a decision.
func needsOf(d policy.Limited) approvals.Needs {
	return approvals.Needs{
		StepUp:  d.Outcome == policy.RequireStepUp || d.Asks(policy.StepUpAuth),
		Deposit: d.Outcome == policy.RequireDeposit || d.Asks(policy.Deposit),
	}
}

// Approve is the owner's yes to the action of that hash, with what it takes. by names the
// person and the door, as in Answer. It fails as AnswerShown does, with
// identity.ErrNoFactor, with an error of Factors, or of approvals.Request.Confirmable.
func (s *Service) Approve(ctx context.Context, by, requestID string, shown action.Hash, c Confirmation) (approvals.Request, error) {
	r, err := s.shown(ctx, requestID, shown)
	if err != nil {
		return r, err
	}
	now := s.cfg.Now().UTC()
	a := approvals.Answer{RequestID: r.ID, ActionHash: r.ActionHash, Approve: true, By: by, At: now, GrantFor: s.cfg.GrantTTL, DepositReference: c.DepositReference}
	if a.Factor, err = s.factor(ctx, r, a, c); err != nil {
		return r, err
	}
	e, err := s.answerEntry(ctx, r, by, true, "", now)
	if err != nil {
		return r, err
	}
	return s.commitAnswer(ctx, r, Batch{Answer: &a, Entries: []audit.Entry{confirmed(e, a)}})
}

// factor verifies the second factor that came with an answer, if that counts otherwise: a
// code is spent by being verified.
func (s *Service) factor(ctx context.Context, r approvals.Request, a approvals.Answer, c Confirmation) (f approvals.Factor, err error) {
	otherwise := a
	otherwise.Factor.Method = "any"
	if err := r.Answerable(otherwise); err != nil {
		return f, err
	}
	if r.Needs.StepUp {
		if err := s.enrolled(ctx, r.OwnerID); err != nil {
			return f, err
		}
	}
	switch {
	case c.Passkey != nil && s.cfg.Passkeys != nil:
		f = approvals.Factor{Method: identity.MethodPasskey, Passkey: c.Passkey}
		return f, s.cfg.Passkeys.Verify(ctx, r.OwnerID, approvals.ApprovalChallenge(r.ID, r.ActionHash), *c.Passkey)
	case c.Code != "" && s.cfg.Factors != nil:
		f.Method, err = s.cfg.Factors.Verify(ctx, r.OwnerID, c.Code)
	}
	return f, err // Answerable says whether one is needed
}

func (s *Service) enrolled(ctx context.Context, ownerID string) error {
	if s.cfg.Factors == nil {
		return identity.ErrNoFactor
	}
	enrolled, err := s.cfg.Factors.Enrolled(ctx, ownerID)
	if err == nil && !enrolled {
		err = identity.ErrNoFactor
	}
	return err
}

// CanStepUp reports whether an owner has a second factor.
func (s *Service) CanStepUp(ctx context.Context, ownerID string) (bool, error) {
	err := s.enrolled(ctx, ownerID)
	if errors.Is(err, identity.ErrNoFactor) {
		return false, nil
	}
	return err == nil, err
}
