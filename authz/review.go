package authz

import (
	"context"
	"errors"

	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/policy"
)

// A Review is what an owner should know of a request beside what it says itself, as
// things are now.
type Review struct {
	Limits []LimitRoom        // that the action would be charged to
	Last   *approvals.Request // the last call of its kind that was approved; nil: none
	Earlier
}

// LimitRoom is one limit with what the action takes from it.
type LimitRoom struct {
	policy.Charge
	Room
}

// Left is what the limit has left before the action.
func (l LimitRoom) Left() int64 { return max(0, l.Charge.Limit.Max-l.Used-l.Held) }

// Review looks at a request for its owner. It changes nothing.
func (s *Service) Review(ctx context.Context, r approvals.Request) (v Review, err error) {
	last, err := s.cfg.Store.LastApproved(ctx, r)
	switch {
	case err == nil:
		v.Last = &last
	case !errors.Is(err, approvals.ErrNotFound):
		return v, err
	}
	if v.Earlier, err = s.earlier(ctx, r); err != nil {
		return v, err
	}
	if s.cfg.Policies == nil || s.cfg.Policies.Current() == nil {
		return v, nil
	}
	now := s.cfg.Now().UTC()
	d := s.cfg.Policies.Current().For(r.AgentID).Decide(&r.Action, policy.Env{Now: now, Tool: r.ToolInfo})
	rooms, err := RoomFor(ctx, s.cfg.Store, now, d.Charges)
	if err != nil {
		return v, err
	}
	for i, c := range d.Charges {
		v.Limits = append(v.Limits, LimitRoom{c, rooms[i]})
	}
	return v, nil
}
