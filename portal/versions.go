package portal

import (
	"net/http"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/identity"
)

// versionsPiece is what came before a request as it is shown: how often it was asked
// for, in which words, and what was answered to the like.
type versionsPiece struct {
	ID        string
	Pending   bool
	Version   int
	Asked     int
	LastAsked time.Time
	Held      bool // a call waits for the answer at this moment
	Former    []formerVersion
	More      int // former versions that are not shown
	Denied    *approvals.Request
	FromIt    *sinceLast // what is different from the denied one
	Tally     approvals.Tally
	Now       time.Time
}

// formerVersion is one step from a version to the next that is known.
type formerVersion struct {
	From, To int
	When     time.Time // it was asked for
	Since    *sinceLast
}

// maxFormer is how many steps are shown.
const maxFormer = 5

func newVersionsPiece(r approvals.Request, review authz.Review, now time.Time) versionsPiece {
	v := versionsPiece{
		ID: r.ID, Pending: r.At(now) == approvals.Pending, Version: r.Version, Asked: r.Asked, LastAsked: r.LastAsked,
		Held: now.Before(r.HeldUntil), Denied: review.Denied, FromIt: newSinceLast(review.Denied, r), Tally: review.Tally, Now: now,
	}
	next := approvals.Version{Version: r.Version, Action: r.Action}
	for i := len(review.Versions) - 1; i >= 0 && len(v.Former) < maxFormer; i-- {
		was := review.Versions[i]
		v.Former = append(v.Former, formerVersion{From: was.Version, To: next.Version, When: askedAt(next.Action),
			Since: newSinceLast(&approvals.Request{Action: was.Action}, approvals.Request{Action: next.Action})})
		next = was
	}
	v.More = next.Version - 1
	return v
}

// askedAt is when an action of ours was asked for.
func askedAt(a action.Request) time.Time {
	t, _ := time.Parse(time.RFC3339, a.RequestedAt) // we have written it; it only names a version
	return t
}

const anotherAction = "Nothing was answered: the form was for another action than this one. Please look again."

// replaced shows what has taken the place of that which was to be answered.
func (p *portal) replaced(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	req, err := p.ownRequest(r, s)
	if err != nil {
		return err
	}
	return p.showApproval(w, r, s, req, http.StatusConflict, anotherAction)
}
