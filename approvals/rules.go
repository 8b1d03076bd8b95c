package approvals

import (
	"fmt"
	"time"

	"github.com/openleash/openleash-go/action"
)

// At returns the status as of now: a pending request past ExpiresAt and a
// grant past GrantUntil are Expired.
func (r Request) At(now time.Time) Status {
	switch {
	case r.Status == Pending && !now.Before(r.ExpiresAt):
		return Expired
	case r.Status == Approved && !now.Before(r.GrantUntil):
		return Expired
	}
	return r.Status
}

// Open reports whether r stands in the way of another request of the same
// agent and intent: it can still be answered with yes, or redeemed.
func (r Request) Open(now time.Time) bool {
	status := r.At(now)
	return status == Pending || status == Approved
}

// Denial says that the owner said no, and why.
func (r Request) Denial() string {
	if r.DenyReason == "" {
		return "the owner denied this call"
	}
	return "the owner denied this call: " + r.DenyReason
}

// Answerable returns nil when a counts, and else why it does not: ErrAnswered,
// ErrExpired, ErrReplaced, or what a yes lacks (Confirmable). Only a denial may come late: it takes nothing from anybody,
// and says no to the next attempt too.
func (r Request) Answerable(a Answer) error {
	unanswered := r.Status == Pending || r.Status == Expired && r.AnsweredAt.IsZero()
	switch {
	case !unanswered:
		return ErrAnswered
	case a.Approve && r.At(a.At) == Expired:
		return ErrExpired
	case r.ActionHash != a.ActionHash:
		return ErrReplaced
	case a.Approve:
		return r.Confirmable(a)
	}
	return nil
}

// Answered returns r as a changes it. It does not ask whether a counts.
func (r Request) Answered(a Answer) Request {
	r.AnsweredAt, r.AnsweredBy = a.At, a.By
	if a.Approve {
		r.Status, r.GrantUntil = Approved, a.At.Add(a.GrantFor)
		r.Factor, r.DepositReference = a.Factor, a.DepositReference
		return r
	}
	r.Status, r.DenyReason = Denied, a.Reason
	return r
}

// Within reports whether an approval of the overshoot that was shown is good for o
// as well: the same limit, for the same, and no further beyond it.
func (o Overshoot) Within(shown Overshoot) bool {
	return o.Limit == shown.Limit && o.Key == shown.Key && o.Doubt == shown.Doubt && o.Beyond() <= shown.Beyond()
}

// Redeemable returns nil when agent may now spend r's grant for the action of
// that hash, and else why not: ErrNotFound when there is no grant for that agent
// and action, ErrSpent, ErrExpired, or an error that is ErrAnswered and names
// the status when r is not approved.
func (r Request) Redeemable(now time.Time, hash action.Hash, agent string) error {
	if r.AgentID != agent || r.ActionHash != hash {
		return ErrNotFound
	}
	switch status := r.At(now); status {
	case Approved:
		return nil
	case Redeemed:
		return ErrSpent
	case Expired:
		return ErrExpired
	default:
		return notApproved{status}
	}
}

// RoundOpenable returns nil when the message of that decision, by agent and for
// the action of that hash, may open a round: it is the latest that has run by r's
// grant, and has not opened one. Else why not: ErrNotFound, ErrSpent.
func (r Request) RoundOpenable(decision string, hash action.Hash, agent string) error {
	latest := r.RedeemedBy
	if r.Rounds > 0 {
		latest = r.ContinuedBy
	}
	switch {
	case r.AgentID != agent || r.ActionHash != hash || r.Status != Redeemed:
		return ErrNotFound
	case latest != decision || r.Round != Round{}:
		return ErrSpent
	}
	return nil
}

// Continuable returns nil when agent may now spend that round for the action of
// that hash, and else why not: ErrNotFound when there is no grant for that agent
// and action, ErrSpent when the round is not the one that is open, ErrExpired.
func (r Request) Continuable(now time.Time, round [32]byte, hash action.Hash, agent string) error {
	switch {
	case r.AgentID != agent || r.ActionHash != hash || r.Status != Redeemed:
		return ErrNotFound
	case r.Round == Round{} || r.Round.Hash != round:
		return ErrSpent
	case !now.Before(r.Round.Until):
		return ErrExpired
	}
	return nil
}

// Supersedable returns nil when r can still come to something, so that it has to
// be written down as expired when its call has come to mean another action, and
// else what became of it: ErrSpent, ErrExpired, ErrAnswered.
func (r Request) Supersedable() error {
	switch r.Status {
	case Pending, Approved:
		return nil
	case Redeemed:
		return ErrSpent
	case Expired:
		return ErrExpired
	default:
		return ErrAnswered
	}
}

// notApproved is why a pending or denied request cannot be redeemed.
type notApproved struct{ status Status }

func (e notApproved) Error() string {
	return fmt.Sprintf("the request is %s, not %s", e.status, Approved)
}

// Is makes it ErrAnswered for callers: decide again.
func (e notApproved) Is(target error) bool { return target == ErrAnswered }
