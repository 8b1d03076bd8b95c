package approvals

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// A Grant is a standing one: the owner's yes to more than the one call that it was
// given on. It is good for that agent, server and tool, for the same action type and
// counterparty, while the tool is defined as it was, and for exactly the payload of
// that call, or for what is within bounds of it. Each use is a request of its own
// that is redeemed from the beginning, so that a call by a grant has all that an
// approved call has.
//
// It is never good for more than the policy asks an approval for: a deny, a step-up, a
// deposit or an exceeded limit it does not meet.
type Grant struct {
	ID          string
	Request     Request // that it was given on: what it covers, but for the bounds
	Bounds      []Bound // none: exactly this
	Uses        int     // at most; 0: as many as there is time for
	Used        int     // the call that it was given on counts
	CreatedAt   time.Time
	Until       time.Time
	GivenBy     string // "portal:alice", "cli:root"
	WithdrawnAt time.Time
	WithdrawnBy string
}

// What a grant may be at most, and how long it is good when nothing is said.
const (
	MaxGrantFor     = 30 * 24 * time.Hour
	MaxGrantUses    = 10_000
	DefaultGrantFor = 24 * time.Hour
)

// Terms are what an owner says of a standing grant.
type Terms struct {
	Uses   int           // in all; 0: as many as there is time for
	For    time.Duration // 0: DefaultGrantFor
	Bounds []Bound
}

// Standing is the grant that an owner gives on r. The call that waits is its first use.
func (r Request) Standing(id string, t Terms, by string, at time.Time) (Grant, error) {
	if t.For == 0 {
		t.For = DefaultGrantFor
	}
	switch {
	case r.Needs != Needs{}:
		return Grant{}, ErrNoStanding
	case t.Uses != 0 && (t.Uses < 2 || t.Uses > MaxGrantUses):
		return Grant{}, fmt.Errorf("a standing grant is good 2 to %d times, got %d: an approval without one is good once", MaxGrantUses, t.Uses)
	case t.For < time.Minute || t.For > MaxGrantFor:
		return Grant{}, fmt.Errorf("a standing grant is good for a minute to %d days, got %s", MaxGrantFor/(24*time.Hour), t.For)
	}
	bounds, err := Bounded(r.Action.Payload, t.Bounds)
	if err != nil {
		return Grant{}, err
	}
	return Grant{ID: id, Request: r, Bounds: bounds, Uses: t.Uses, Used: 1, CreatedAt: at, Until: at.Add(t.For), GivenBy: by}, nil
}

// ErrNoStanding is why no standing grant is given on a request: it would let through
// what the owner is to confirm each time.
var ErrNoStanding = errorString("what takes a second factor or a deposit is approved once at a time")

// ErrWithdrawn is what a grant is that its owner has withdrawn.
var ErrWithdrawn = errorString("the grant was withdrawn")

// Live returns nil when the grant can be used once more, and else why not:
// ErrWithdrawn, ErrExpired, ErrSpent.
func (g Grant) Live(now time.Time) error {
	switch {
	case !g.WithdrawnAt.IsZero():
		return ErrWithdrawn
	case !now.Before(g.Until):
		return ErrExpired
	case g.Uses > 0 && g.Used >= g.Uses:
		return ErrSpent
	}
	return nil
}

// Status is what has become of the grant, as of now: ACTIVE, USED, EXPIRED, WITHDRAWN.
func (g Grant) Status(now time.Time) string {
	switch g.Live(now) {
	case nil:
		return "ACTIVE"
	case ErrSpent:
		return "USED"
	case ErrExpired:
		return "EXPIRED"
	}
	return "WITHDRAWN"
}

// Covers reports whether the grant is for what r asks for.
func (g Grant) Covers(r Request) bool {
	was := g.Request
	return r.AgentID == was.AgentID && r.OwnerID == was.OwnerID && r.Server == was.Server && r.Tool == was.Tool &&
		r.Action.ActionType == was.Action.ActionType && r.Action.RelyingParty == was.Action.RelyingParty &&
		r.ToolInfo.Get(definitionHash).Equal(was.ToolInfo.Get(definitionHash)) && len(r.Overshoots) == 0 && r.Needs == Needs{} &&
		within(g.Bounds, payloadPath, was.Action.Payload, r.Action.Payload)
}

const definitionHash = "definition_hash"

// Usable returns nil when r may run by the grant now, and else why not: ErrNotFound
// when it is not for that, or as Live.
func (g Grant) Usable(now time.Time, r Request) error {
	if !g.Covers(r) {
		return ErrNotFound
	}
	return g.Live(now)
}

// Use is r as it is by a use of the grant: asked, approved when the grant was given,
// and redeemed by its own decision.
func (g Grant) Use(r Request) Request {
	r.Status, r.RedeemedBy, r.GrantID = Redeemed, r.DecisionID, g.ID
	r.AnsweredAt, r.AnsweredBy, r.GrantUntil = g.CreatedAt, g.GivenBy, g.Until
	r.ExpiresAt = r.CreatedAt // nobody could ever answer it
	return r
}

// Left says how often it can still be used; none: there is no bound but time.
func (g Grant) Left() (n int, counted bool) { return max(0, g.Uses-g.Used), g.Uses > 0 }

// What is what it covers, in words.
func (g Grant) What() string {
	if len(g.Bounds) == 0 {
		return "exactly this call"
	}
	var texts []string
	for _, b := range g.Bounds {
		texts = append(texts, b.String())
	}
	return "within bounds of this call: " + strings.Join(texts, "; ") + "; all else as it was"
}

// Terms is how long it is good, in words.
func (g Grant) Terms() string {
	until := "until " + g.Until.UTC().Format(time.RFC3339)
	if g.Uses > 0 {
		return fmt.Sprintf("%d times, %s", g.Uses, until)
	}
	return until
}

// A Withdrawal takes back what an owner has given and nobody has used yet.
type Withdrawal struct {
	RequestID string // an unspent approval; empty: none
	GrantID   string // a standing grant, with an unspent approval of its request; empty: none
	By        string
	Reason    string
	At        time.Time
}

// Withdrawable returns nil when r is an approval that can still be withdrawn, and else
// why not: ErrSpent, ErrExpired, or an error that is ErrAnswered.
func (r Request) Withdrawable(now time.Time) error {
	return r.Redeemable(now, r.ActionHash, r.AgentID)
}

// Withdrawn is r as its owner has withdrawn it: denied, and the agent is told why.
func (r Request) Withdrawn(w Withdrawal) Request {
	r.Status, r.AnsweredAt, r.AnsweredBy, r.GrantUntil = Denied, w.At, w.By, time.Time{}
	r.DenyReason = "the approval was withdrawn"
	if w.Reason != "" {
		r.DenyReason += ": " + w.Reason
	}
	return r
}

// Withdrawable returns nil when the grant can be withdrawn, and else why not, as Live.
// given is the request that it was given on: an approval of that which nobody has spent
// is a use that is left.
func (g Grant) Withdrawable(now time.Time, given Request) error {
	err := g.Live(now)
	if g.WithdrawnAt.IsZero() && given.Withdrawable(now) == nil {
		return nil
	}
	return err
}

// GrantReader is how standing grants are looked at; the store implements it.
type GrantReader interface {
	Grant(ctx context.Context, id string) (Grant, error) // ErrNotFound
	// RequestGrant returns the grant that was given on a request. ErrNotFound.
	RequestGrant(ctx context.Context, requestID string) (Grant, error)
	// LiveGrants lists those of an agent for a type of action that may be used at that
	// time, the one that ends first before the others.
	LiveGrants(ctx context.Context, agent, actionType string, now time.Time) ([]Grant, error)
	// Grants lists an owner's, newest first.
	Grants(ctx context.Context, owner string, limit int) ([]Grant, error)
}

// Givable returns nil when the grant may be given with an answer to stored, which is
// its request as it is now; else ErrAnswered: it was made of another action.
func (g Grant) Givable(stored Request) error {
	if g.Request.ActionHash != stored.ActionHash || g.Request.ID != stored.ID {
		return ErrAnswered
	}
	return nil
}
