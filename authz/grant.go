package authz

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/policy"
)

// A standing grant stands in for the owner where the policy asks for an approval, and
// nowhere else: a deny, a step-up, a deposit and a limit that has no room are not met by
// it, what the policy allows by itself takes no use of it, and a denial of the same call
// that still sticks comes before it.

// A GrantUse is one use of a standing grant.
type GrantUse struct {
	GrantID string
	Request approvals.Request // as it is by that use (approvals.Grant.Use)
	Now     time.Time
}

// standing finds a grant by which an attempt may run that needs an approval.
func (s *Service) standing(ctx context.Context, a attempt, d policy.Limited) (*approvals.Grant, error) {
	if d.Needed() != policy.RequireApproval || len(d.Over) > 0 {
		return nil, nil
	}
	list, err := s.cfg.Store.LiveGrants(ctx, a.who.Agent.Name, a.req.ActionType, a.now)
	if err != nil {
		return nil, err
	}
	r := s.newRequest(&a, &Answer{ActionHash: a.req.Hash()})
	for _, g := range list {
		if g.Usable(a.now, r) == nil {
			return &g, nil
		}
	}
	return nil, nil
}

// useGrant lets r run by g. The commit looks again.
func useGrant(g approvals.Grant, r approvals.Request, ans *Answer, b *Batch) {
	used := g.Use(r)
	b.UseGrant = &GrantUse{g.ID, used, r.CreatedAt}
	ans.Approval, ans.Outcome, ans.Code = &used, policy.Allow, Allowed
	ans.Reason = fmt.Sprintf("approved by %s, by the standing grant %s", g.GivenBy, g.ID)
}

// Give approves a request and gives a standing grant with it, whose first use the
// request is, as AnswerShown does. by names the person and the door, as in Answer.
func (s *Service) Give(ctx context.Context, by, requestID string, shown action.Hash, terms approvals.Terms) (approvals.Grant, error) {
	now := s.cfg.Now().UTC().Truncate(time.Millisecond)
	r, err := s.shown(ctx, requestID, shown)
	if err != nil {
		return approvals.Grant{}, err
	}
	g, err := r.Standing(uuid.NewString(), terms, by, now)
	if err != nil {
		return approvals.Grant{}, err
	}
	given, err := s.answerEntry(ctx, r, by, true, "", now)
	if err != nil {
		return approvals.Grant{}, err
	}
	given.GrantID = g.ID
	err = s.commit(ctx, Batch{
		Answer: &approvals.Answer{RequestID: r.ID, ActionHash: r.ActionHash, Approve: true, By: by, At: now, GrantFor: min(s.cfg.GrantTTL, g.Until.Sub(now))},
		Grant:  &g, Entries: []audit.Entry{given, s.grantEntry("grant.given", g, by, now)},
	})
	if err != nil {
		return approvals.Grant{}, err
	}
	return s.cfg.Store.Grant(ctx, g.ID)
}

// WithdrawGrant takes a standing grant back, and the approval that was given with it if
// nobody has used that.
func (s *Service) WithdrawGrant(ctx context.Context, by, grantID, reason string) (approvals.Grant, error) {
	g, err := s.cfg.Store.Grant(ctx, grantID)
	if err != nil {
		return g, err
	}
	now := s.cfg.Now().UTC()
	e := s.grantEntry("grant.withdrawn", g, by, now)
	e.Reason = reason
	w := approvals.Withdrawal{GrantID: g.ID, By: by, Reason: reason, At: now}
	if err := s.commit(ctx, Batch{Withdraw: &w, Entries: []audit.Entry{e}}); err != nil {
		return g, err
	}
	return s.cfg.Store.Grant(ctx, grantID)
}

// WithdrawApproval takes an approval back that nobody has used yet, and the standing
// grant that was given with it. The agent is told as of a denial.
func (s *Service) WithdrawApproval(ctx context.Context, by, requestID, reason string) (approvals.Request, error) {
	r, err := s.cfg.Store.Approval(ctx, requestID)
	if err != nil {
		return r, err
	}
	now := s.cfg.Now().UTC()
	if err := r.Withdrawable(now); err != nil {
		return r, err
	}
	switch g, err := s.cfg.Store.RequestGrant(ctx, requestID); {
	case err == nil && g.WithdrawnAt.IsZero():
		if _, err := s.WithdrawGrant(ctx, by, g.ID, reason); err != nil {
			return r, err
		}
		return s.cfg.Store.Approval(ctx, requestID)
	case err != nil && !errors.Is(err, approvals.ErrNotFound):
		return r, err
	}
	e := answerEntry(r, by, false, reason, now)
	e.Event = "approval.withdrawn"
	w := approvals.Withdrawal{RequestID: r.ID, By: by, Reason: reason, At: now}
	if err := s.commit(ctx, Batch{Withdraw: &w, Entries: []audit.Entry{e}}); err != nil {
		return r, err
	}
	return s.cfg.Store.Approval(ctx, requestID)
}

// grantEntry is the log's line of what an owner does with a standing grant.
func (s *Service) grantEntry(event string, g approvals.Grant, by string, now time.Time) audit.Entry {
	r := g.Request
	return audit.Entry{
		TS: timestamp(now), Event: event, ActorType: "owner", ActorID: by, ActionType: filled(r.Action.ActionType),
		PolicyID: filled(r.PolicyID), DecisionID: r.DecisionID, MatchedRuleID: r.RuleID, OwnerID: r.OwnerID, AgentID: r.AgentID,
		Server: r.Server, Tool: r.Tool, ActionHash: r.ActionHash.String(), IntentHash: r.IntentHash.String(), ApprovalID: r.ID,
		Approver: g.GivenBy, GrantID: g.ID, Detail: fmt.Sprintf("agent %s, %s: %s", r.AgentID, g.Terms(), maskText(s.withoutSecrets(g).What())),
	}
}

// withoutSecrets is g without the bounds' values where the log would mask the call's.
func (s *Service) withoutSecrets(g approvals.Grant) approvals.Grant {
	how := howToRecord(s.inForce(), g.Request.AgentID, g.Request.Action.ActionType)
	r, _ := recorded(g.Request.Action, nil, how, s.cfg.MaskKey)
	g.Bounds = slices.Clone(g.Bounds)
	for i, b := range g.Bounds {
		path, err := action.ParsePath(b.Path)
		if err != nil || r.hides(path) {
			g.Bounds[i].Values = []action.Value{action.StringValue(Mask)}
		}
	}
	return g
}
