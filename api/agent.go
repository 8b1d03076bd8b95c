package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/policy"
	"github.com/openleash/openleash-go/proof"
)

type selfAnswer struct {
	ID         string          `json:"agent_principal_id"`
	Name       string          `json:"agent_id"`
	OwnerType  string          `json:"owner_type"`
	OwnerID    string          `json:"owner_id"`
	Status     string          `json:"status"`
	Attributes json.RawMessage `json:"attributes"`
	CreatedAt  string          `json:"created_at"`
	WebhookURL *string         `json:"webhook_url"`
}

// self tells an agent who it is, and for whom it acts.
func (s *server) self(_ *http.Request, q *signedRequest) (any, error) {
	return describeAgent(q.who.Agent), nil
}

func describeAgent(a identity.Agent) selfAnswer {
	answer := selfAnswer{
		ID: a.ID, Name: a.Name, OwnerType: a.OwnerType, OwnerID: a.OwnerID, Status: string(a.Status),
		Attributes: json.RawMessage("{}"), CreatedAt: timestamp(a.CreatedAt), WebhookURL: textOrNull(a.Webhook.URL),
	}
	if a.Attributes != nil {
		answer.Attributes = a.Attributes
	}
	return answer
}

// Bounds of what an agent says for its request.
const (
	maxJustification = 2000 // characters
	maxContext       = 16 << 10
)

type requestAnswer struct {
	ID            string  `json:"approval_request_id"`
	Status        string  `json:"status"` // PENDING, APPROVED, DENIED, EXPIRED, REDEEMED
	ActionType    string  `json:"action_type"`
	ActionHash    string  `json:"action_hash"`
	Justification *string `json:"justification"`
	CreatedAt     string  `json:"created_at"`
	ExpiresAt     string  `json:"expires_at"`
	ResolvedAt    *string `json:"resolved_at"`
	DenialReason  *string `json:"denial_reason"`
	Token         string  `json:"approval_token,omitempty"`
	TokenExpires  string  `json:"approval_token_expires_at,omitempty"`
}

// askOwner brings an action before its owner: one on which a decision of the agent's own
// has asked for that. Asking again for the same action finds the same request.
func (s *server) askOwner(r *http.Request, q *signedRequest) (any, error) {
	if err := onlyKnown(q.body, []string{"decision_id", "action", "justification", "context"}); err != nil {
		return nil, err
	}
	asking, err := askingIn(q.body)
	if err != nil {
		return nil, err
	}
	v := q.body.Get("action")
	if v.Kind() != action.Object {
		return nil, badField("action", "want the action that was authorized, an object")
	}
	req, err := s.ownAction(q, v)
	if err != nil {
		return nil, err
	}
	ans, err := s.Service.AuthorizeSigned(r.Context(), q.who, req, authz.Signed{Nonce: q.take(), Asking: asking})
	if err := s.undecided(ans, err); err != nil {
		return nil, err
	}
	if ans.Approval == nil {
		return nil, &fault{status: http.StatusConflict, Code: string(authz.DecisionChanged), Message: "The action is decided otherwise by now (" + ans.Outcome.String() + "): " + ans.Reason}
	}
	return s.requestOf(q, *ans.Approval)
}

func askingIn(body action.Value) (*authz.Asking, error) {
	id, err := optionalString(body, "decision_id")
	if err == nil && id == "" {
		err = badField("decision_id", "want the decision_id of the answer that asked for an approval")
	}
	if err != nil {
		return nil, err
	}
	why, err := optionalString(body, "justification")
	if err == nil && utf8.RuneCountInString(why) > maxJustification {
		err = badField("justification", "want at most %d characters", maxJustification)
	}
	if err != nil {
		return nil, err
	}
	asking := &authz.Asking{DecisionID: id, Justification: why}
	switch v := body.Get("context"); {
	case v.Kind() == action.Missing, v.Kind() == action.Null:
	case v.Kind() != action.Object || len(v.Raw()) > maxContext:
		return nil, badField("context", "want an object of at most %d bytes", maxContext)
	default:
		asking.Context = v
	}
	return asking, nil
}

// approvalRequest shows an agent one of its requests, and while that is approved and not
// used yet, the token that redeems it.
func (s *server) approvalRequest(r *http.Request, q *signedRequest) (any, error) {
	found, err := s.Service.Approvals().Approval(r.Context(), r.PathValue("id"))
	if errors.Is(err, approvals.ErrNotFound) || err == nil && !owns(q, found) {
		return nil, &fault{status: http.StatusNotFound, Code: "NOT_FOUND", Message: "This agent has no such approval request."}
	}
	if err != nil {
		return nil, err
	}
	return s.requestOf(q, found)
}

// owns: an agent that has taken the name of a revoked one has not its requests.
func owns(q *signedRequest, r approvals.Request) bool {
	a := q.who.Agent
	return r.AgentID == a.Name && r.OwnerID == a.OwnerID && !r.CreatedAt.Before(a.CreatedAt)
}

func (s *server) requestOf(q *signedRequest, r approvals.Request) (any, error) {
	now := s.Now()
	answer := requestAnswer{
		ID: r.ID, Status: string(r.At(now)), ActionType: r.Action.ActionType, ActionHash: r.ActionHash.String(), Justification: textOrNull(r.Justification),
		CreatedAt: timestamp(r.CreatedAt), ExpiresAt: timestamp(r.ExpiresAt), ResolvedAt: timeOrNull(r.AnsweredAt), DenialReason: textOrNull(r.DenyReason),
	}
	if r.At(now) != approvals.Approved || r.Server != "" { // a tool call is redeemed by the call
		return answer, nil
	}
	token, err := s.Key.SignApproval(proof.ApprovalToken{
		RequestID: r.ID, OwnerType: q.who.Agent.OwnerType, OwnerID: r.OwnerID, AgentID: r.AgentID,
		ActionType: r.Action.ActionType, ActionHash: r.ActionHash.String(), IssuedAt: r.AnsweredAt, Expires: r.GrantUntil,
	})
	answer.Token, answer.TokenExpires = token, timestamp(r.GrantUntil)
	return answer, err
}

// reported are the words by which an agent says what came of an action.
var reported = []string{"ok", "error", "cancelled"}

// reportOutcome writes down what an agent says came of an action that was allowed.
func (s *server) reportOutcome(r *http.Request, q *signedRequest) (any, error) {
	if err := onlyKnown(q.body, []string{"decision_id", "status", "detail"}); err != nil {
		return nil, err
	}
	id, err := optionalString(q.body, "decision_id")
	if err != nil {
		return nil, err
	}
	status, err := oneOf(q.body, "status", reported)
	if err != nil {
		return nil, err
	}
	detail, err := optionalString(q.body, "detail")
	if err == nil && utf8.RuneCountInString(detail) > maxJustification {
		err = badField("detail", "want at most %d characters", maxJustification)
	}
	if err != nil {
		return nil, err
	}
	switch err := s.Service.Report(r.Context(), q.who, id, authz.Outcome{Status: status, Detail: detail}, q.nonce); {
	case errors.Is(err, authz.ErrNotAsked):
		return nil, &fault{status: http.StatusNotFound, Code: string(authz.UnknownDecision), Message: "No decision of this agent that allowed something in the last day has this id."}
	case errors.Is(err, authz.ErrReported):
		return nil, &fault{status: http.StatusConflict, Code: "ALREADY_REPORTED", Message: "What came of this decision was told already; it is in the log."}
	case err != nil:
		return nil, err
	}
	q.take()
	return map[string]string{"decision_id": id, "status": status}, nil
}

func obligationsOf(list []policy.Obligation) []obligation {
	out := []obligation{}
	for _, o := range list {
		details := json.RawMessage("{}")
		if o.Params.Kind() != action.Missing {
			details = o.Params.Canonical()
		}
		out = append(out, obligation{ID: uuid.NewString(), Type: o.Type, Status: "PENDING", Details: details})
	}
	return out
}
