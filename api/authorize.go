package api

import (
	"errors"
	"net/http"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/policy"
	"github.com/openleash/openleash-go/proof"
)

type authorizeAnswer struct {
	DecisionID    *string          `json:"decision_id"` // null of a dry run: there is none
	ActionID      string           `json:"action_id"`
	ActionHash    string           `json:"action_hash"`
	Decision      string           `json:"decision"`
	Result        string           `json:"result"` // the same, under the name that SDKs read
	Code          string           `json:"code"`
	PolicyID      *string          `json:"policy_id"`
	MatchedRuleID *string          `json:"matched_rule_id"`
	Reason        string           `json:"reason"`
	ProofToken    *string          `json:"proof_token"`
	ProofExpires  *string          `json:"proof_expires_at"`
	Obligations   []obligation     `json:"obligations"`
	Approval      *string          `json:"approval_request_id,omitempty"` // that waits, was approved, or denied
	Repeated      bool             `json:"repeated,omitempty"`            // given before, for the same action
	DryRun        bool             `json:"dry_run,omitempty"`
	Debug         *playgroundDebug `json:"debug,omitempty"`
}

// authorize is the door beside the proxy's: it decides nothing itself.
func (s *server) authorize(r *http.Request, q *signedRequest) (any, error) {
	req, err := s.ownAction(q, q.body)
	if err != nil {
		return nil, err
	}
	dry, err := optionalBool(q.body, "dry_run")
	if err != nil {
		return nil, err
	}
	trace, err := optionalBool(q.body, "trace")
	if err != nil {
		return nil, err
	}
	if dry {
		return s.dryRun(r, q, req, trace)
	}
	token, err := s.approvalToken(q.body)
	if err != nil {
		return nil, err
	}
	ans, err := s.Service.AuthorizeSigned(r.Context(), q.who, req, authz.Signed{Nonce: q.take(), Token: token})
	if err := s.undecided(ans, err); err != nil {
		return nil, err
	}
	answer := decided(ans)
	if trace {
		_, traced, err := s.Service.Consider(r.Context(), q.who, req)
		if err != nil {
			return nil, err
		}
		answer.Debug = &playgroundDebug{append([]policy.RuleTrace{}, traced...)}
	}
	return answer, nil
}

// ownAction reads an action that must be the agent's own, for its own owner: nobody gets
// a proof in another's name.
func (s *server) ownAction(q *signedRequest, v action.Value) (action.Request, error) {
	req, err := action.RequestFromValue(v)
	var faulty *action.RequestError
	switch {
	case errors.As(err, &faulty):
		f := badRequest("INVALID_ACTION_REQUEST", "%v", err)
		f.FieldErrors = faulty.Fields
		return req, f
	case err != nil:
		return req, badRequest("INVALID_ACTION_REQUEST", "%v", err)
	case req.AgentID != q.who.Agent.Name:
		return req, badRequest("AGENT_MISMATCH", "principal.agent_id is %.80q, but %q has signed the request: an agent asks for itself alone.", req.AgentID, q.who.Agent.Name)
	case req.SubjectID != q.who.Agent.OwnerID:
		return req, badRequest("SUBJECT_MISMATCH", "subject.principal_id is not the owner of %q. GET /v1/agent/self tells who is (owner_id).", q.who.Agent.Name)
	}
	return req, nil
}

// approvalToken verifies the token of an approval; nil: there is none.
func (s *server) approvalToken(body action.Value) (*proof.ApprovalToken, error) {
	text, err := optionalString(body, "approval_token")
	if text == "" || err != nil {
		return nil, err
	}
	token, err := proof.VerifyApproval(text, s.Keys(), s.Now())
	if err != nil {
		return nil, unauthorized("INVALID_APPROVAL_TOKEN", "%v. GET /v1/agent/approval-requests/{id} gives the token of an approval.", err)
	}
	return &token, nil
}

// statuses are those of refusals that are no decision: who asked, or how, is at fault, or
// nothing can be decided at present.
var statuses = map[authz.Code]int{
	authz.AgentRevoked:      http.StatusUnauthorized,
	authz.ArgumentsRefused:  http.StatusBadRequest,
	authz.NoRequest:         http.StatusBadRequest,
	authz.RequestNot:        http.StatusBadRequest,
	authz.TokenConsumed:     http.StatusBadRequest,
	authz.TokenOtherAction:  http.StatusBadRequest,
	authz.TokenOtherAgent:   http.StatusBadRequest,
	authz.TokenOtherSubject: http.StatusBadRequest,
	authz.UnknownDecision:   http.StatusNotFound,
	authz.DecisionChanged:   http.StatusConflict,
	authz.ActionReused:      http.StatusConflict,
	authz.TooManyOpen:       http.StatusTooManyRequests,
	authz.PolicyInvalid:     http.StatusServiceUnavailable,
	authz.LogUnavailable:    http.StatusServiceUnavailable,
	authz.StoreUnavailable:  http.StatusServiceUnavailable,
}

// undecided is the fault that the caller is told of an answer that is none; nil: it is one.
func (s *server) undecided(ans authz.Answer, err error) error {
	if errors.Is(err, authz.ErrReplayed) {
		return err
	}
	if err != nil {
		s.Log.Error().Err(err).Str("decision", ans.DecisionID).Msg("api: deciding")
	}
	if status, refused := statuses[ans.Code]; refused {
		return &fault{status: status, Code: string(ans.Code), Message: ans.Reason}
	}
	return nil
}

func decided(ans authz.Answer) authorizeAnswer {
	a := authorizeAnswer{
		DecisionID: &ans.DecisionID, ActionID: ans.ActionID, ActionHash: ans.ActionHash.String(), Decision: ans.Outcome.String(), Result: ans.Outcome.String(),
		Code: string(ans.Code), PolicyID: textOrNull(ans.PolicyID), MatchedRuleID: textOrNull(ans.RuleID), Reason: ans.Reason,
		ProofToken: textOrNull(ans.Proof), ProofExpires: timeOrNull(ans.ProofExpiry), Obligations: obligationsOf(ans.Obligations), Repeated: ans.Repeated,
	}
	if ans.Approval != nil {
		a.Approval = &ans.Approval.ID
	}
	return a
}

// dryRun says what would be decided, and leaves no trace but the nonce.
func (s *server) dryRun(r *http.Request, q *signedRequest, req action.Request, trace bool) (any, error) {
	d, traced, err := s.Service.Consider(r.Context(), q.who, req)
	if err != nil {
		return nil, err
	}
	outcome := d.Needed()
	answer := authorizeAnswer{
		ActionID: req.ActionID, ActionHash: req.Hash().String(), Decision: outcome.String(), Result: outcome.String(), Code: "DRY_RUN",
		PolicyID: textOrNull(d.PolicyID), MatchedRuleID: textOrNull(d.RuleID), Reason: d.Reason, Obligations: obligationsOf(d.Obligations), DryRun: true,
	}
	if trace {
		answer.Debug = &playgroundDebug{append([]policy.RuleTrace{}, traced...)}
	}
	return answer, nil
}
