package draft

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/policy"
)

// A Proposal is a policy that an agent proposes to its owner, a "policy draft" on the
// wire. It binds nobody: its owner's approval makes a file of it in the policies folder.
// What was proposed never changes.
type Proposal struct {
	ID       string // UUID
	OwnerID  string
	AgentID  string // the UUID of who proposes it
	Agent    string // its name
	TargetID string // the UUID of the agent that it would bind; empty: all of the owner's
	Target   string // its name

	// What the agent says. It is not believed.
	Name          string
	Description   string
	Justification string
	Policy        string      // the text; empty in lists
	Hash          action.Hash // SHA-256 of the text

	Status     Status
	CreatedAt  time.Time
	ResolvedAt time.Time
	ResolvedBy string // "cli:root", "portal:alice"
	DenyReason string
	PolicyID   string // what came of it
}

// Status is what became of a Proposal.
type Status string

const (
	Pending  Status = "PENDING"
	Approved Status = "APPROVED"
	Denied   Status = "DENIED"
)

// Bounds of proposals.
const (
	MaxPending = 20       // of one agent, that wait
	MaxPolicy  = 64 << 10 // bytes
	MaxName    = 100      // characters
	MaxText    = 2000     // of description and justification, each
)

// An Answer is an owner's word on a Proposal. Condition: it is that owner's (ErrNotFound),
// waits still (ErrAnswered), and has the text of that hash (ErrOtherText).
type Answer struct {
	ID       string
	OwnerID  string
	Hash     action.Hash // of the text that was shown
	Approve  bool
	PolicyID string // of an approval: what comes of it
	By       string
	Reason   string // of a denial
	At       time.Time
}

// Why a proposal was not taken, or not answered.
var (
	ErrNotFound  = errors.New("no such policy draft")
	ErrAnswered  = errors.New("the policy draft was answered already")
	ErrOtherText = errors.New("this is not the text of the policy draft: look at it again")
	ErrNoTarget  = errors.New("no agent of this owner has this id")
	ErrTooMany   = errors.New("too many policy drafts wait for an answer")
)

// Answerable is the condition of an Answer.
func (p Proposal) Answerable(a Answer) error {
	switch {
	case p.OwnerID != a.OwnerID:
		return ErrNotFound
	case p.Status != Pending:
		return ErrAnswered
	case p.Hash != a.Hash:
		return ErrOtherText
	}
	return nil
}

// Reader looks at proposals; the store implements it. Lists are the newest first, of one
// status or ("") all, and without the texts.
type Reader interface {
	PolicyDraft(ctx context.Context, id string) (Proposal, error) // ErrNotFound
	PolicyDrafts(ctx context.Context, ownerID string, status Status, limit int) ([]Proposal, error)
	// PolicyDraftsBy are those of one agent, by its UUID.
	PolicyDraftsBy(ctx context.Context, agentID string, status Status, limit int) ([]Proposal, error)
	// PolicyDraftsWaiting is how many wait for an owner.
	PolicyDraftsWaiting(ctx context.Context, ownerID string) (int, error)
}

// scope is whom it would bind.
func (p Proposal) scope() policy.Scope {
	if p.TargetID == "" {
		return policy.Scope{Layer: policy.OwnerLayer}
	}
	return policy.Scope{Layer: policy.AgentLayer, Name: p.Target}
}

// For names whom it would bind.
func (p Proposal) For() string { return p.scope().String() }

// Place is the name of the policy that it would become: "agents/bot/mail" for the agent
// bot, "mail" for all. Of what the agent calls it the letters of a-z and digits are left,
// and dashes between them.
func (p Proposal) Place() string {
	words := strings.FieldsFunc(strings.ToLower(p.Name), func(r rune) bool { return !('a' <= r && r <= 'z' || '0' <= r && r <= '9') })
	name := strings.Join(words, "-")
	name = strings.Trim(name[:min(len(name), 40)], "-")
	if name == "" || device.MatchString(name) {
		name = "draft-" + p.ID[:min(len(p.ID), 8)]
	}
	if p.TargetID == "" {
		return name
	}
	return "agents/" + p.Target + "/" + name
}

// device are names that Windows keeps for itself.
var device = regexp.MustCompile(`^(con|prn|aux|nul|(com|lpt)[0-9])$`)

// Check says what is wrong with the text, file being what mistakes name it.
func (p Proposal) Check(file string) error {
	parsed, err := policy.Parse("draft", file, []byte(p.Policy))
	if err != nil {
		return err
	}
	if parsed.Scope != (policy.Scope{}) && parsed.Scope != p.scope() {
		return errors.New(file + ": applies_to says " + parsed.Scope.String() + ", and the draft is for " + p.For() + ": leave it out")
	}
	return nil
}
