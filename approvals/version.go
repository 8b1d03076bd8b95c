package approvals

import (
	"time"

	"github.com/openleash/openleash-go/action"
)

// A call that differs from a waiting request in its wording alone (Near) becomes the
// next version of that: the request keeps its id and its time and shows the new
// action, and what it showed before is kept as a Version. Only a request that no call
// waits for changes so: of two calls that are held at once, neither may swallow the
// other.

// A Version is what a request showed before.
type Version struct {
	Version    int
	DecisionID string
	Action     action.Request // its RequestedAt is when it was asked for
	ActionHash action.Hash
}

const (
	// KeepVersions is how many versions of a request are kept, beside the first.
	KeepVersions = 20
	// KeepVersionBytes is how many bytes of actions they have together at the most,
	// all but the newest of them.
	KeepVersionBytes = 512 << 10
)

// A Kind is what calls of one tool by one agent have in common; outside MCP, server
// and tool are empty.
type Kind struct {
	AgentID    string
	Server     string
	Tool       string
	ActionType string
}

// Kind is the kind of r.
func (r Request) Kind() Kind { return Kind{r.AgentID, r.Server, r.Tool, r.Action.ActionType} }

// Foldable returns nil when agent may now replace the action of that hash in r by
// another wording of it, and else why not: ErrNotFound when r is another agent's,
// ErrReplaced, ErrHeld, ErrExpired, ErrAnswered.
func (r Request) Foldable(now time.Time, was action.Hash, agent string) error {
	if err := r.Joinable(now, was, agent); err != nil {
		return err
	}
	if now.Before(r.HeldUntil) {
		return ErrHeld
	}
	return nil
}

// Joinable returns nil when agent may now wait for r's answer together with those
// who wait already, and else why not, as Foldable does.
func (r Request) Joinable(now time.Time, hash action.Hash, agent string) error {
	status := r.At(now)
	switch {
	case r.AgentID != agent:
		return ErrNotFound
	case status == Expired:
		return ErrExpired
	case status != Pending:
		return ErrAnswered
	case r.ActionHash != hash:
		return ErrReplaced
	}
	return nil
}

// Replaced returns r as it is when next has become its next version.
func (r Request) Replaced(next Request) Request {
	next.ID, next.CreatedAt, next.ExpiresAt = r.ID, r.CreatedAt, r.ExpiresAt
	next.Version, next.Asked = r.Version+1, r.Asked+1
	return next
}

// A Tally is how often the same was approved.
type Tally struct {
	Call int // this very call: agent, server, tool and arguments
	Kind int // calls of its kind
}

// enough is from how many approvals on a rule would spare the next.
const enough = 3

// SuggestFor is how far back approvals count for a suggestion.
const SuggestFor = 30 * 24 * time.Hour

// OfCall reports whether a rule for this very call is worth suggesting.
func (t Tally) OfCall() bool { return t.Call >= enough }

// OfKind reports whether a rule for calls of this kind is.
func (t Tally) OfKind() bool { return t.Kind >= enough }
