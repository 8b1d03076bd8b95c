package authz

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
)

// A call that is held is looked for among what the owner knows of its kind: what
// waits there in other words is brought up to date by it instead of a second request
// (Fold), what was denied or approved a short time ago in other words is pointed to.
// The very same call joins its request, and is counted.
//
// Whoever waits says so (Call.Hold), so that a call at the same time, in other words,
// is a request of its own; it says when it does not any more (Leave). A process that
// dies says nothing: then the hold ends with its time.

// Fold makes a pending request show another wording of what it asks for.
type Fold struct {
	Request approvals.Request // as it is then
	Was     action.Hash       // the action that it shows yet
	Now     time.Time
}

// Join counts a call that asks once more for what waits already.
type Join struct {
	RequestID  string
	AgentID    string
	ActionHash action.Hash
	Now        time.Time
}

// Hold is one call that waits for a request.
type Hold struct {
	RequestID  string
	DecisionID string
	Now        time.Time
	Until      time.Time
}

// Quota bounds what one agent keeps open, what a batch opens included.
type Quota struct {
	Requests int
	Bytes    int64 // of actions, and of what is said of their tools
}

// openBytes is Quota.Bytes.
const openBytes = 64 << 20

// QuotaError is the failure of Batch.Quota: what the agent has open already.
type QuotaError struct {
	Requests int
	Bytes    int64
}

func (e *QuotaError) Error() string {
	return fmt.Sprintf("the agent has %d requests open, of %d bytes", e.Requests, e.Bytes)
}

// quotaReason tells a model what to do when there is no room.
func (s *Service) quotaReason(e *QuotaError) string {
	room := fmt.Sprintf("at most %d", s.cfg.OpenPerAgent)
	if e.Requests < s.cfg.OpenPerAgent {
		room = fmt.Sprintf("at most %d MiB of them", openBytes>>20)
	}
	return fmt.Sprintf("%d requests of this agent wait for their owner already, and %s may; there is room when one of them is answered or expires", e.Requests, room)
}

// kin is what the owner knows of a call's kind, when the call is new.
type kin struct {
	waiting  *approvals.Request // that it is the next version of
	denied   string             // the request that was denied in other words; empty: none
	approved *approvals.Request // in other words, and not used yet
}

// kinAtMost is how many requests of each status a call is compared with.
const kinAtMost = 8

// lookAround finds the kin of a call.
func (s *Service) lookAround(ctx context.Context, a *attempt) error {
	if a.call == nil || len(a.call.Arguments.Raw()) > approvals.MaxCompared {
		return nil
	}
	var err error
	if a.kin.waiting, err = s.nearest(ctx, *a, approvals.Pending, func(r approvals.Request) bool {
		return r.Foldable(a.now, r.ActionHash, a.who.Agent.Name) == nil
	}); err != nil {
		return err
	}
	if a.kin.approved, err = s.nearest(ctx, *a, approvals.Approved, func(r approvals.Request) bool {
		return r.At(a.now) == approvals.Approved
	}); err != nil {
		return err
	}
	denied, err := s.nearest(ctx, *a, approvals.Denied, func(r approvals.Request) bool {
		return a.now.Before(r.AnsweredAt.Add(s.cfg.DenyTTL))
	})
	if denied != nil {
		a.kin.denied = denied.ID
	}
	return err
}

// nearest returns the request of that status that is the attempt's call in the most
// similar words; nil: there is none.
func (s *Service) nearest(ctx context.Context, a attempt, status approvals.Status, matters func(approvals.Request) bool) (best *approvals.Request, err error) {
	kind := approvals.Kind{AgentID: a.who.Agent.Name, Server: a.call.Server, Tool: a.call.Tool, ActionType: a.req.ActionType}
	list, err := s.cfg.Store.Kin(ctx, kind, status, kinAtMost)
	if err != nil {
		return nil, err
	}
	most := 0.0
	for _, r := range list {
		if r.Action.RelyingParty != a.req.RelyingParty || !matters(r) {
			continue
		}
		if likeness, near := approvals.Near(r.Action.Payload, a.req.Payload); near && likeness > most {
			best, most = &r, likeness
		}
	}
	return best, nil
}

// put opens a request, or makes it the next version of the one that waits.
func (a *attempt) put(r approvals.Request, ans *Answer, b *Batch, q Quota) {
	r.NearTo = a.kin.denied
	if was := a.kin.waiting; was != nil {
		r = was.Replaced(r)
		b.Fold = &Fold{Request: r, Was: was.ActionHash, Now: a.now}
		a.own, ans.Replaces = r.ID, was.Version
	} else {
		b.Open, b.Quota = &r, &q
	}
	ans.Approval, ans.Code, ans.Granted = &r, ApprovalRequired, a.kin.approved
}

// join counts the attempt's call with what waits.
func (a attempt) join(r approvals.Request) *Join {
	return &Join{RequestID: r.ID, AgentID: a.who.Agent.Name, ActionHash: r.ActionHash, Now: a.now}
}

// holdGrace is how much longer a hold is believed in than it is said to last: its end
// takes a commit.
const holdGrace = 2 * time.Second

// hold says that the attempt's call waits; nil: it does not.
func (a attempt) hold(ans Answer) *Hold {
	if ans.Code != ApprovalRequired || a.call == nil || a.call.Hold <= 0 {
		return nil
	}
	return &Hold{RequestID: ans.Approval.ID, DecisionID: a.decisionID, Now: a.now, Until: a.now.Add(a.call.Hold + holdGrace)}
}

// asked is the request that a batch brings before the owner anew, if it does.
func (b Batch) asked() *approvals.Request {
	if b.Fold != nil {
		return &b.Fold.Request
	}
	return b.Open
}

// leaveWithin bounds what Leave waits for: who leaves has nobody to wait for it.
const leaveWithin = 5 * time.Second

// Leave says that the call of an answer waits for its request no more. It is done also
// when ctx has ended: most who leave do so because theirs has.
func (s *Service) Leave(ctx context.Context, ans Answer) error {
	if ans.Approval == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveWithin)
	defer cancel()
	return s.commit(ctx, Batch{Leave: &Hold{RequestID: ans.Approval.ID, DecisionID: ans.DecisionID}})
}

// AnswerShown is Answer for who has shown the owner the action of that hash: it fails
// with approvals.ErrReplaced when the request shows another by now.
func (s *Service) AnswerShown(ctx context.Context, by, requestID string, shown action.Hash, approve bool, reason string) (approvals.Request, error) {
	r, err := s.shown(ctx, requestID, shown)
	if err != nil {
		return r, err
	}
	return s.answer(ctx, by, r, approve, reason)
}

// shown is a request that was shown with the action of that hash.
func (s *Service) shown(ctx context.Context, requestID string, hash action.Hash) (approvals.Request, error) {
	r, err := s.cfg.Store.Approval(ctx, requestID)
	if err == nil && r.ActionHash != hash && r.Status == approvals.Pending {
		err = approvals.ErrReplaced
	}
	return r, err
}

// overtakenByKin reports whether a commit failed because another call of the kind was
// faster.
func overtakenByKin(err error) bool {
	return errors.Is(err, approvals.ErrReplaced) || errors.Is(err, approvals.ErrHeld)
}

// Earlier is what came before a request as it is now.
type Earlier struct {
	Versions []approvals.Version // former ones that are kept, oldest first
	Denied   *approvals.Request  // that it is near to; nil: none
	Tally    approvals.Tally     // of the last 30 days
}

// earlier looks at what came before a request.
func (s *Service) earlier(ctx context.Context, r approvals.Request) (e Earlier, err error) {
	if r.Version > 1 {
		if e.Versions, err = s.cfg.Store.Versions(ctx, r.ID); err != nil {
			return e, err
		}
	}
	if r.NearTo != "" {
		denied, err := s.cfg.Store.Approval(ctx, r.NearTo)
		if err != nil {
			return e, err
		}
		e.Denied = &denied
	}
	if r.Needs != (approvals.Needs{}) {
		return e, nil // no rule spares what the owner is to confirm each time
	}
	e.Tally, err = s.cfg.Store.Tally(ctx, r, s.cfg.Now().Add(-approvals.SuggestFor))
	return e, err
}
