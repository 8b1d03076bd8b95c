package portal

import (
	"errors"
	"net/http"

	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/internal/visible"
	"github.com/openleash/openleash-go/owners"
)

// confirmPart is what the page of a request asks for beside a yes.
type confirmPart struct {
	approvals.Needs
	Able         bool      // the owner has what a step-up takes
	Passkey      *ceremony // in a code's place; nil: the owner has none
	Reference    string    // as it was typed, when the answer did not count
	MaxReference int
}

func (p *portal) confirmPart(r *http.Request, req approvals.Request) (c confirmPart, err error) {
	c = confirmPart{Needs: req.Needs, Reference: r.PostForm.Get("deposit_reference"), MaxReference: approvals.MaxReference}
	if c.StepUp && req.At(p.Now()) == approvals.Pending {
		if c.Able, err = p.Service.CanStepUp(r.Context(), req.OwnerID); err == nil {
			c.Passkey, err = p.approvalCeremony(r, req)
		}
	}
	return c, err
}

// confirmation is what a form gives with a yes.
func confirmation(r *http.Request) (authz.Confirmation, error) {
	signed, err := assertion(r)
	return authz.Confirmation{Code: r.PostForm.Get("code"), Passkey: signed, DepositReference: r.PostForm.Get("deposit_reference")}, err
}

// lack says how to refuse a yes that came without what it takes; false: that is not why
// it failed.
func (p *portal) lack(err error) (owners.Refusal, bool) {
	switch {
	case errors.Is(err, approvals.ErrReferenceNeeded):
		return owners.Refusal{Status: http.StatusBadRequest, Told: visible.Line(err.Error()) + "."}, true
	case errors.Is(err, identity.ErrNoFactor):
		return owners.Refusal{Status: http.StatusForbidden, Code: "NO_SECOND_FACTOR", Why: "an approval that takes a second factor, and there is none",
			Told: "This approval takes a second factor, and you have none yet. Set one up first."}, true
	case errors.Is(err, approvals.ErrFactorNeeded):
		err = identity.ErrFactorRequired
	}
	return p.Owners.Refusal(err)
}

// notConfirmed shows the request again. Whoever tries codes is in the log.
func (p *portal) notConfirmed(w http.ResponseWriter, r *http.Request, s identity.Session, req approvals.Request, lack owners.Refusal) error {
	if lack.Code != "" {
		p.refused(r, lack)
	}
	return p.showApproval(w, r, s, req, lack.Status, "Nothing was answered. "+lack.Told)
}
