package authz

import (
	"context"
	"crypto/sha256"

	"github.com/google/uuid"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/draft"
)

// Propose keeps a policy that an agent proposes, whose text was checked: it waits for the
// owner's answer. The errors are those of Batch.Propose.
func (s *Service) Propose(ctx context.Context, who Caller, p draft.Proposal, n Nonce) (draft.Proposal, error) {
	p.ID, p.OwnerID, p.AgentID, p.CreatedAt = uuid.NewString(), who.Agent.OwnerID, who.Agent.ID, s.now()
	p.Hash, p.Status = action.Hash(sha256.Sum256([]byte(p.Policy))), draft.Pending
	e := draftEntry("draft.proposed", p)
	e.TS, e.ActorType, e.ActorID, e.SignatureValid = timestamp(p.CreatedAt), "agent", who.Agent.Name, who.SignatureValid
	return p, s.commit(ctx, Batch{Nonce: &n, Propose: &p, Entries: []audit.Entry{e}})
}

// ApproveDraft records that the owner has approved a proposal with the text of that hash,
// and the policy that it becomes; the caller puts that in force afterwards. by names the
// person and the door, owner is the person's id. The errors are those of draft.Answer.
func (s *Service) ApproveDraft(ctx context.Context, by, owner string, p draft.Proposal, shown action.Hash) error {
	a := draft.Answer{OwnerID: owner, Hash: shown, Approve: true, By: by, PolicyID: p.Place()}
	return s.answerDraft(ctx, p, a, "draft.approved")
}

// DenyDraft records that the owner does not want it.
func (s *Service) DenyDraft(ctx context.Context, by, owner string, p draft.Proposal, shown action.Hash, reason string) error {
	return s.answerDraft(ctx, p, draft.Answer{OwnerID: owner, Hash: shown, By: by, Reason: reason}, "draft.denied")
}

func (s *Service) answerDraft(ctx context.Context, p draft.Proposal, a draft.Answer, event string) error {
	a.ID, a.At = p.ID, s.now()
	e := draftEntry(event, p)
	e.TS, e.ActorType, e.ActorID, e.AgentID, e.Reason, e.PolicyID = timestamp(a.At), "owner", a.By, p.Agent, a.Reason, filled(a.PolicyID)
	return s.commit(ctx, Batch{AnswerDraft: &a, Entries: []audit.Entry{e}})
}

// draftEntry names a proposal. What the agent says of it is not in the log; the hash
// holds its text.
func draftEntry(event string, p draft.Proposal) audit.Entry {
	return audit.Entry{Event: event, OwnerID: p.OwnerID, Detail: "draft " + p.ID + " for " + p.For() + ", policy " + p.Hash.String()}
}

// Drafts is how policies that agents propose are looked at.
func (s *Service) Drafts() draft.Reader { return s.cfg.Store }
