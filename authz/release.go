package authz

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/policy"
)

// An owner may release a decision from what it was charged: it is known, to a person
// and not to us, that nothing came of the call. An agent cannot: there is no way here
// but the command line and the portal.
//
// A charge is one action's, and each decision on that action stands on it (the first
// was charged, later ones in the window were not). It is given back when the last
// decision that stands on it is released: of a purchase that failed and was tried
// again, one has gone through. So each charge is given back once, and none that counts
// for a call about which the owner has said nothing.

// A Release is an owner's word on one decision.
type Release struct {
	DecisionID string
	By         string
	At         int64 // Unix milliseconds
	Charges    []ReleasedCharge
}

// A ReleasedCharge is a charge that a decision is released from.
type ReleasedCharge struct {
	Charged
	// Kept: it stays charged, since other decisions stand on it.
	Kept bool
}

// Errors of releasing.
var (
	ErrNotCharged = errors.New("nothing that is kept was charged by this decision: there is no such decision, it touched no limit, its call was given back already when it failed, or it was longer ago than any window")
	ErrOtherLimit = errors.New("it was not charged to limit")
	ErrReleased   = errors.New("it was released already")
	// ErrChargesChanged is the failure of Batch.Release's condition: look again.
	ErrChargesChanged = errors.New("the charges have changed meanwhile")
	errNoReason       = errors.New("a release needs a reason: the log keeps it")
)

// Release gives back what a decision was charged, held or used: to the limits that are
// named, or to all. by names the person and the door, as in Answer. The log gets one
// entry in the same commit. A later charge of the same action is made anew.
func (s *Service) Release(ctx context.Context, by, decisionID string, limits []string, reason string) ([]ReleasedCharge, error) {
	if reason = strings.TrimSpace(reason); reason == "" {
		return nil, errNoReason
	}
	err := ErrChargesChanged
	for tries := 0; tries < attempts && errors.Is(err, ErrChargesChanged); tries++ {
		var r Release
		if r, err = s.releaseOf(ctx, decisionID, limits); err != nil {
			return nil, err
		}
		now := s.cfg.Now().UTC()
		r.By, r.At = by, now.UnixMilli()
		if err = s.commit(ctx, Batch{Release: &r, Entries: []audit.Entry{s.releaseEntry(r, reason, now)}}); err == nil {
			return r.Charges, nil
		}
	}
	return nil, err
}

// releaseOf finds what there is to release.
func (s *Service) releaseOf(ctx context.Context, decisionID string, limits []string) (r Release, err error) {
	charges, err := s.cfg.Store.DecisionCharges(ctx, decisionID)
	if err != nil {
		return r, err
	}
	if len(charges) == 0 {
		return r, ErrNotCharged
	}
	if err := named(charges, limits); err != nil {
		return r, err
	}
	r.DecisionID = decisionID
	var before Charged
	for _, c := range charges {
		switch {
		case len(limits) > 0 && !slices.Contains(limits, c.Limit):
		case c.ReleasedAt > 0:
			before = c
		default:
			r.Charges = append(r.Charges, ReleasedCharge{c, len(c.Decisions) > 1})
		}
	}
	if len(r.Charges) == 0 {
		return r, fmt.Errorf("%w, by %s at %s: nothing is left to release", ErrReleased, before.ReleasedBy, timestamp(time.UnixMilli(before.ReleasedAt)))
	}
	return r, nil
}

// named sees that a decision was charged to each limit that is named.
func named(charges []Charged, limits []string) error {
	var known []string
	for _, c := range charges {
		known = append(known, c.Limit)
	}
	for _, l := range limits {
		if !slices.Contains(known, l) {
			return fmt.Errorf("%w %q, but to %s", ErrOtherLimit, l, strings.Join(known, ", "))
		}
	}
	return nil
}

func (s *Service) releaseEntry(r Release, reason string, now time.Time) audit.Entry {
	e := audit.Entry{
		TS: timestamp(now), Event: "limit.released", ActorType: "owner", ActorID: r.By, ActionID: filled(r.Charges[0].ActionID),
		DecisionID: r.DecisionID, OwnerID: s.cfg.Owner.ID, AgentID: r.Charges[0].AgentID, Reason: reason,
	}
	var kept []string
	for _, c := range r.Charges {
		if c.Kept {
			kept = append(kept, fmt.Sprintf("%s stays charged: other decisions on the same action stand on it", c.Limit))
			continue
		}
		e.Limits = append(e.Limits, s.releasedEntry(c.Charged))
	}
	e.Detail = strings.Join(kept, "; ")
	return e
}

// releasedEntry is what the log says of a charge that is given back. What action it was
// nobody knows any more, so it is masked as any action of the agent's would be.
func (s *Service) releasedEntry(c Charged) audit.Limit {
	book := s.inForce()
	how := howToRecord(book, c.AgentID, "")
	e := audit.Limit{ID: c.Limit, Key: maskText(c.Key), Amount: c.Amount, Released: true}
	l := limitOf(book, c.Limit)
	if l == nil {
		return s.cfg.MaskKey.veil(e, !how.None(), !how.None())
	}
	e.Max = l.Max
	return s.cfg.MaskKey.veil(e, how.Touches(l.ReadsForKey()...) || isSecretPlace(l.ReadsForKey()), how.Touches(l.ReadsForAmount()...))
}

// limitOf is a limit of a book; nil: it is in none.
func limitOf(book *policy.Book, id string) *policy.Limit {
	if book == nil {
		return nil
	}
	for _, l := range book.Limits() {
		if l.ID == id {
			return l
		}
	}
	return nil
}
