package api

import (
	"errors"
	"net/http"
	"unicode/utf8"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/draft"
	"github.com/openleash/openleash-go/identity"
)

// maxDrafts is how many drafts are listed, the newest.
const maxDrafts = 200

type draftMade struct {
	ID        string `json:"policy_draft_id"`
	Status    string `json:"status"` // PENDING, APPROVED, DENIED
	CreatedAt string `json:"created_at"`
}

type draftAnswer struct {
	draftMade
	Name          *string `json:"name"`
	Description   *string `json:"description"`
	Justification *string `json:"justification"`
	ResolvedAt    *string `json:"resolved_at"`
	DenialReason  *string `json:"denial_reason"`
	PolicyID      *string `json:"resulting_policy_id"`
}

type wholeDraft struct {
	draftAnswer
	Policy string  `json:"policy_yaml"`
	Target *string `json:"applies_to_agent_principal_id"` // null: all agents of the owner
}

func draftOf(p draft.Proposal) draftAnswer {
	return draftAnswer{
		draftMade: draftMade{p.ID, string(p.Status), timestamp(p.CreatedAt)},
		Name:      textOrNull(p.Name), Description: textOrNull(p.Description), Justification: textOrNull(p.Justification),
		ResolvedAt: timeOrNull(p.ResolvedAt), DenialReason: textOrNull(p.DenyReason), PolicyID: textOrNull(p.PolicyID),
	}
}

// propose brings a policy before the agent's owner. It binds nobody until that has
// approved it.
func (s *server) propose(r *http.Request, q *signedRequest) (any, error) {
	p, err := s.draftIn(r, q)
	if err != nil {
		return nil, err
	}
	p, err = s.Service.Propose(r.Context(), q.who, p, q.nonce)
	switch {
	case errors.Is(err, draft.ErrTooMany):
		return nil, &fault{status: http.StatusTooManyRequests, Code: "TOO_MANY_DRAFTS", Message: "Too many drafts of this agent wait for its owner already: wait for an answer to one of them."}
	case errors.Is(err, draft.ErrNoTarget):
		return nil, noTarget()
	case errors.Is(err, identity.ErrRevoked):
		return nil, unauthorized("AGENT_INACTIVE", "The agent is revoked.")
	case err != nil:
		return nil, err
	}
	q.take()
	return draftOf(p).draftMade, nil
}

func noTarget() *fault {
	f := badField("applies_to_agent_principal_id", "this agent's owner has no such agent")
	f.Code = "INVALID_AGENT"
	return f
}

// draftIn reads a draft. What is no policy is refused with each mistake and its place.
func (s *server) draftIn(r *http.Request, q *signedRequest) (p draft.Proposal, err error) {
	if err := onlyKnown(q.body, []string{"policy_yaml", "applies_to_agent_principal_id", "name", "description", "justification"}); err != nil {
		return p, invalidRequest(err)
	}
	for _, f := range []struct {
		name string
		to   *string
		max  int
	}{{"name", &p.Name, draft.MaxName}, {"description", &p.Description, draft.MaxText}, {"justification", &p.Justification, draft.MaxText}} {
		if *f.to, err = optionalString(q.body, f.name); err == nil && utf8.RuneCountInString(*f.to) > f.max {
			err = badField(f.name, "want at most %d characters", f.max)
		}
		if err != nil {
			return p, invalidRequest(err)
		}
	}
	text := q.body.Get("policy_yaml")
	if text.Kind() != action.String || text.Text() == "" || len(text.Text()) > draft.MaxPolicy {
		return p, invalidRequest(badField("policy_yaml", "want the policy as a string of at most %d bytes", draft.MaxPolicy))
	}
	p.Policy = text.Text()
	if p.TargetID, p.Target, err = s.target(r, q); err != nil {
		return p, err
	}
	if err := p.Check("policy_yaml"); err != nil {
		return p, badRequest("INVALID_POLICY", "%v", err)
	}
	return p, nil
}

// invalidRequest gives a fault the code of the contract.
func invalidRequest(err error) error {
	var f *fault
	if errors.As(err, &f) {
		f.Code = "INVALID_REQUEST"
	}
	return err
}

// target is the agent that a draft would bind: the one that proposes it, if it does not
// say; none, if it says null: all of its owner's.
func (s *server) target(r *http.Request, q *signedRequest) (id, name string, err error) {
	switch v := q.body.Get("applies_to_agent_principal_id"); v.Kind() {
	case action.Missing:
		return q.who.Agent.ID, q.who.Agent.Name, nil
	case action.Null:
		return "", "", nil
	case action.String:
		a, err := s.Service.Agents().Agent(r.Context(), v.Text())
		if errors.Is(err, identity.ErrNotFound) || err == nil && (a.OwnerID != q.who.Agent.OwnerID || a.Status == identity.Revoked) {
			err = noTarget()
		}
		return a.ID, a.Name, err
	}
	return "", "", invalidRequest(badField("applies_to_agent_principal_id", "want the id of an agent as a string, or null for all agents"))
}

// drafts lists an agent's own. They are its own by its id: an agent that has the name of
// a revoked one has none of its.
func (s *server) drafts(r *http.Request, q *signedRequest) (any, error) {
	status := draft.Status(r.URL.Query().Get("status"))
	switch status {
	case "", draft.Pending, draft.Approved, draft.Denied:
	default:
		return nil, invalidRequest(badField("status", "want PENDING, APPROVED or DENIED, got %.40q", status))
	}
	list, err := s.Service.Drafts().PolicyDraftsBy(r.Context(), q.who.Agent.ID, status, maxDrafts)
	if err != nil {
		return nil, err
	}
	shown := []draftAnswer{}
	for _, p := range list {
		shown = append(shown, draftOf(p))
	}
	return map[string][]draftAnswer{"policy_drafts": shown}, nil
}

// draft shows an agent one of its own.
func (s *server) draft(r *http.Request, q *signedRequest) (any, error) {
	p, err := s.Service.Drafts().PolicyDraft(r.Context(), r.PathValue("id"))
	if errors.Is(err, draft.ErrNotFound) || err == nil && p.AgentID != q.who.Agent.ID {
		return nil, &fault{status: http.StatusNotFound, Code: "NOT_FOUND", Message: "This agent has no such policy draft."}
	}
	if err != nil {
		return nil, err
	}
	return wholeDraft{draftOf(p), p.Policy, textOrNull(p.TargetID)}, nil
}
