package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/policy"
	"github.com/openleash/openleash-go/proof"
)

// What an owner sees and does over /v1 is theirs: each handler looks at whose the object
// is, and another's is not there (404), as if it had never been.

// by is who has sent a request to a route for owners, for the log.
func by(r *http.Request) string { return "api:" + sessionOf(r).Name }

type ownedAgent struct {
	selfAnswer
	PublicKey *string `json:"public_key_b64"`
	HasToken  bool    `json:"has_token"`
	RevokedAt *string `json:"revoked_at"`
}

func newOwnedAgent(a identity.Agent) ownedAgent {
	o := ownedAgent{selfAnswer: describeAgent(a), HasToken: a.TokenHash != [32]byte{}, RevokedAt: timeOrNull(a.RevokedAt)}
	if a.Key != nil {
		text := proof.PublicKey{Key: a.Key}.SPKI()
		o.PublicKey = &text
	}
	return o
}

func (s *server) ownersAgents(r *http.Request) (any, error) {
	all, err := s.Service.Agents().Agents(r.Context(), sessionOf(r).OwnerID)
	list := []ownedAgent{}
	for _, a := range all {
		list = append(list, newOwnedAgent(a))
	}
	return map[string]any{"agents": list}, err
}

// ownersAgent is the agent that a path names, if it is this owner's.
func (s *server) ownersAgent(r *http.Request) (identity.Agent, error) {
	a, err := s.Service.Agents().Agent(r.Context(), r.PathValue("id"))
	if errors.Is(err, identity.ErrNotFound) || err == nil && a.OwnerID != sessionOf(r).OwnerID {
		return a, notThere("agent")
	}
	return a, err
}

func notThere(what string) *fault {
	return &fault{status: http.StatusNotFound, Code: "NOT_FOUND", Message: "You have no such " + what + "."}
}

// setAgent confirms an agent that waits, revokes one, or gives one another key.
func (s *server) setAgent(r *http.Request) (any, error) {
	body, err := readObject(r, "status", "agent_pubkey_b64")
	if err != nil {
		return nil, err
	}
	change, err := agentChangeIn(body)
	if err != nil {
		return nil, err
	}
	a, err := s.ownersAgent(r)
	if err != nil {
		return nil, err
	}
	if err := s.changeAgent(r, a, change); err != nil {
		return nil, agentChanged(err)
	}
	if a, err = s.ownersAgent(r); err != nil {
		return nil, err
	}
	return newOwnedAgent(a), nil
}

func agentChangeIn(body action.Value) (c identity.AgentChange, err error) {
	if body.Get("agent_pubkey_b64").Kind() != action.Missing {
		if c.Key, err = keyIn(body); err != nil {
			return c, err
		}
	}
	if body.Get("status").Kind() == action.Missing {
		return c, nil
	}
	status, err := oneOf(body, "status", []string{string(identity.Active), string(identity.Revoked)})
	c.Status = identity.AgentStatus(status)
	return c, err
}

func (s *server) changeAgent(r *http.Request, a identity.Agent, c identity.AgentChange) error {
	if c.Key != nil {
		if err := s.Service.RekeyAgent(r.Context(), by(r), a, c.Key); err != nil {
			return err
		}
	}
	switch c.Status {
	case identity.Revoked:
		return s.Service.RevokeAgent(r.Context(), by(r), a)
	case identity.Active:
		return s.Service.ConfirmAgent(r.Context(), by(r), a)
	}
	return nil
}

func agentChanged(err error) error {
	if errors.Is(err, identity.ErrRevoked) {
		return &fault{status: http.StatusConflict, Code: "AGENT_REVOKED", Message: "The agent is revoked: that cannot be undone."}
	}
	return err
}

type agentInvite struct {
	ID      string `json:"invite_id"`
	Token   string `json:"invite_token"` // shown this once
	Expires string `json:"expires_at"`
}

func (s *server) inviteAgent(r *http.Request) (any, error) {
	body, err := readOptional(r, "agent_id")
	if err != nil {
		return nil, err
	}
	name, err := optionalString(body, "agent_id")
	if err == nil && name != "" && !identity.ValidName(name) {
		err = badField("agent_id", wantAgentName)
	}
	if err != nil {
		return nil, err
	}
	owner, err := s.Service.Agents().OwnerByID(r.Context(), sessionOf(r).OwnerID)
	if err != nil {
		return nil, err
	}
	i, token, err := s.Service.Invite(r.Context(), by(r), owner, name)
	return agentInvite{i.ID, token, timestamp(i.Until)}, err
}

// ownedRequest is an approval request as its owner sees it: all of what would run.
type ownedRequest struct {
	ID            string          `json:"approval_request_id"`
	Status        string          `json:"status"`
	AgentID       string          `json:"agent_id"`
	DecisionID    string          `json:"decision_id"`
	ActionType    string          `json:"action_type"`
	ActionHash    string          `json:"action_hash"`
	Action        json.RawMessage `json:"action"`
	Server        string          `json:"server,omitempty"`
	Tool          string          `json:"tool,omitempty"`
	PolicyID      *string         `json:"policy_id"`
	MatchedRuleID *string         `json:"matched_rule_id"`
	Reason        string          `json:"reason"`
	Justification *string         `json:"justification"`
	Context       json.RawMessage `json:"context"`
	CreatedAt     string          `json:"created_at"`
	ExpiresAt     string          `json:"expires_at"`
	ResolvedAt    *string         `json:"resolved_at"`
	ResolvedBy    *string         `json:"resolved_by"`
	DenialReason  *string         `json:"denial_reason"`
	Needs         []string        `json:"needs"` // what a yes takes: step_up, deposit
}

func (s *server) owned(r approvals.Request) ownedRequest {
	o := ownedRequest{
		ID: r.ID, Status: string(r.At(s.Now())), AgentID: r.AgentID, DecisionID: r.DecisionID, ActionType: r.Action.ActionType, ActionHash: r.ActionHash.String(),
		Action: r.Action.Canonical(), Server: r.Server, Tool: r.Tool, PolicyID: textOrNull(r.PolicyID), MatchedRuleID: textOrNull(r.RuleID), Reason: r.Reason,
		Justification: textOrNull(r.Justification), Context: json.RawMessage("null"), CreatedAt: timestamp(r.CreatedAt), ExpiresAt: timestamp(r.ExpiresAt),
		ResolvedAt: timeOrNull(r.AnsweredAt), ResolvedBy: textOrNull(r.AnsweredBy), DenialReason: textOrNull(r.DenyReason),
		Needs: strings.Fields(r.Needs.String()),
	}
	if r.Context.Kind() != action.Missing {
		o.Context = r.Context.Canonical()
	}
	return o
}

// maxListed bounds lists.
const maxListed = 100

var requestStatuses = []string{"", string(approvals.Pending), string(approvals.Approved), string(approvals.Denied), string(approvals.Expired), string(approvals.Redeemed)}

// ownersRequests lists the newest of an owner's requests.
func (s *server) ownersRequests(r *http.Request) (any, error) {
	status := r.URL.Query().Get("status")
	if !slices.Contains(requestStatuses, status) {
		return nil, badField("status", "want one of %v, got %.40q", requestStatuses[1:], status)
	}
	all, err := s.Service.Approvals().Approvals(r.Context(), sessionOf(r).OwnerID, approvals.Status(status), maxListed)
	list := []ownedRequest{}
	for _, one := range all {
		list = append(list, s.owned(one))
	}
	return map[string]any{"approval_requests": list}, err
}

// ownersRequest is the request that a path names, if it is this owner's.
func (s *server) ownersRequest(r *http.Request) (approvals.Request, error) {
	one, err := s.Service.Approvals().Approval(r.Context(), r.PathValue("id"))
	if errors.Is(err, approvals.ErrNotFound) || err == nil && one.OwnerID != sessionOf(r).OwnerID {
		return one, notThere("approval request")
	}
	return one, err
}

func (s *server) showRequest(r *http.Request) (any, error) {
	one, err := s.ownersRequest(r)
	if err != nil {
		return nil, err
	}
	return s.owned(one), nil
}

// approve says yes to exactly the action whose hash the owner names, the one that they
// were shown, with what it takes: a code of the second factor, the reference of a deposit.
func (s *server) approve(r *http.Request) (any, error) {
	body, err := readObject(r, "action_hash", "totp_code", "deposit_reference")
	if err != nil {
		return nil, err
	}
	shown, err := optionalHash(body, "action_hash")
	if err == nil && shown.IsZero() {
		err = badField("action_hash", "want the action_hash of what you were shown: that and nothing else is approved")
	}
	if err != nil {
		return nil, err
	}
	given, err := optionalStrings(body, "totp_code", "deposit_reference")
	if err != nil {
		return nil, err
	}
	return s.answer(r, func(ctx context.Context, one approvals.Request) (approvals.Request, error) {
		return s.Service.Approve(ctx, by(r), one.ID, shown, authz.Confirmation{Code: given[0], DepositReference: given[1]})
	})
}

func (s *server) deny(r *http.Request) (any, error) {
	body, err := readOptional(r, "reason")
	if err != nil {
		return nil, err
	}
	reason, err := optionalString(body, "reason")
	if err != nil {
		return nil, err
	}
	return s.answer(r, func(ctx context.Context, one approvals.Request) (approvals.Request, error) {
		return s.Service.Answer(ctx, by(r), one.ID, false, reason)
	})
}

func (s *server) answer(r *http.Request, do func(context.Context, approvals.Request) (approvals.Request, error)) (any, error) {
	one, err := s.ownersRequest(r)
	if err != nil {
		return nil, err
	}
	if one, err = do(r.Context(), one); err != nil {
		return nil, notAnswered(err)
	}
	return s.owned(one), nil
}

// notAnswered tells why an answer does not count.
func notAnswered(err error) error {
	for _, known := range []struct {
		err    error
		status int
		code   string
	}{
		{approvals.ErrAnswered, http.StatusConflict, "ALREADY_ANSWERED"}, {approvals.ErrExpired, http.StatusConflict, "REQUEST_EXPIRED"},
		{approvals.ErrReplaced, http.StatusConflict, "REQUEST_CHANGED"}, {approvals.ErrFactorNeeded, http.StatusForbidden, "TOTP_REQUIRED"},
		{identity.ErrNoFactor, http.StatusForbidden, "TOTP_SETUP_REQUIRED"}, {approvals.ErrReferenceNeeded, http.StatusBadRequest, "DEPOSIT_REFERENCE_REQUIRED"},
	} {
		if errors.Is(err, known.err) {
			return &fault{status: known.status, Code: known.code, Message: known.err.Error() + "."}
		}
	}
	return err
}

type ownedPolicy struct {
	ID     string  `json:"policy_id"`
	Path   string  `json:"path"` // below the folder of the policies
	Binds  string  `json:"binds"`
	Agent  *string `json:"agent_id"` // the agent that it is for, or
	Group  *string `json:"group"`    // the group; both null: every agent
	Rank   int     `json:"rank"`
	Source string  `json:"policy_yaml"`
}

// policiesInForce lists the policies to whose they are: the installation's owner.
func (s *server) policiesInForce(r *http.Request) (any, error) {
	list := []ownedPolicy{}
	if sessionOf(r).OwnerID == s.Service.Owner().ID && s.Policies != nil && s.Policies.Current() != nil {
		book := s.Policies.Current()
		for _, src := range book.Sources() {
			list = append(list, newOwnedPolicy(src, book.Policy(src.Name)))
		}
	}
	return map[string]any{"policies": list}, nil
}

func newOwnedPolicy(src policy.Source, p *policy.Policy) ownedPolicy {
	o := ownedPolicy{ID: p.ID, Path: src.Name, Binds: p.Scope.String(), Rank: p.Rank, Source: src.Text}
	switch p.Scope.Layer {
	case policy.AgentLayer:
		o.Agent = &p.Scope.Name
	case policy.GroupLayer:
		o.Group = &p.Scope.Name
	}
	return o
}

// ownersLog lists entries of the log, the newest first: the owner's own, and those that
// are nobody's.
func (s *server) ownersLog(r *http.Request) (any, error) {
	q, err := logQuery(r)
	if err != nil {
		return nil, err
	}
	found, err := s.Search(r.Context(), q)
	if err != nil {
		return nil, err
	}
	items := []json.RawMessage{}
	for _, l := range found.Lines {
		items = append(items, l.Line)
	}
	var next *string
	if found.Next != 0 {
		text := strconv.FormatUint(found.Next, 10)
		next = &text
	}
	return map[string]any{"items": items, "next_cursor": next}, nil
}

// logQuery reads what is looked for. Whose entries may be seen is no part of that.
func logQuery(r *http.Request) (q audit.Query, err error) {
	v := r.URL.Query()
	q = audit.Query{Scope: audit.OwnedBy(sessionOf(r).OwnerID), Agent: v.Get("agent_id"), Event: v.Get("event"), DecisionID: v.Get("decision_id"), Limit: 50}
	if text := v.Get("limit"); text != "" {
		if q.Limit, err = strconv.Atoi(text); err != nil || q.Limit < 1 || q.Limit > 1000 {
			return q, badField("limit", "want a number from 1 to 1000, got %.40q", text)
		}
	}
	if text := v.Get("cursor"); text != "" {
		if q.From, err = strconv.ParseUint(text, 10, 63); err != nil {
			return q, badField("cursor", "want the next_cursor of an answer, got %.40q", text)
		}
	}
	if text := v.Get("since"); text != "" {
		if q.Since, err = time.Parse(time.RFC3339Nano, text); err != nil {
			return q, badField("since", "want a time, as 2026-05-05T13:42:11Z, got %.40q", text)
		}
	}
	return q, nil
}
