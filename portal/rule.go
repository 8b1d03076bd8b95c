package portal

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/draft"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/policy"
)

// rulePage makes a rule of a request: what would be written, and what its test says.
type rulePage struct {
	page
	Request  approvals.Request
	Form     *boundsForm
	Lengths  []choice
	Draft    *draft.Draft
	Fault    string // why there is no draft
	InForce  string // the file of a rule that was made of it before and is in force
	Warnings []string
}

func (p *portal) rule(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	req, err := p.ownRequest(r, s)
	if err != nil {
		return err
	}
	d, err := draft.New(p.book(), req, nil, p.Now(), 0)
	return p.showRule(w, r, s, req, d, err)
}

// makeRule shows the draft that the form describes, or puts it in force.
func (p *portal) makeRule(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	req, ok, err := p.shownRequest(w, r, s)
	if err != nil || !ok {
		return err
	}
	d, err := p.draftOf(r, req)
	if err == nil && r.PostForm.Get("do") == "put" {
		if err = p.putInForce(r.Context(), d); err == nil {
			http.Redirect(w, r, "/approvals/"+req.ID+"/rule", http.StatusSeeOther)
			return nil
		}
	}
	return p.showRule(w, r, s, req, d, err)
}

func (p *portal) draftOf(r *http.Request, req approvals.Request) (draft.Draft, error) {
	bounds, err := boundsOf(r, req.Action.Payload)
	if err != nil {
		return draft.Draft{}, err
	}
	length, err := time.ParseDuration(r.PostForm.Get("length"))
	if err != nil || length <= 0 {
		return draft.Draft{}, errors.New("say how long the rule holds")
	}
	return draft.New(p.book(), req, bounds, p.Now(), length)
}

// takesEffect is how long a policy that was written may take to come into force.
const takesEffect = 5 * time.Second

// putInForce writes a draft that was tried on what is in force, and waits until it is
// in force itself.
func (p *portal) putInForce(ctx context.Context, d draft.Draft) error {
	if err := p.Policies.Err(); err != nil {
		return errors.New("nothing was written: the policy files are broken, so that no change comes into force; mend them first")
	}
	if _, err := d.Write(p.Policies.Dir()); err != nil {
		return err
	}
	if !p.awaited(ctx, d.Name) {
		return errors.New("the files were written, and are not in force yet; the page of the policies says why")
	}
	return nil
}

// awaited waits until a policy that was written is in force, and reports whether it is.
func (p *portal) awaited(ctx context.Context, name string) bool {
	for end := time.Now().Add(takesEffect); p.inForce(name) == nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) || ctx.Err() != nil {
			return false
		}
	}
	return true
}

func (p *portal) inForce(name string) *policy.Policy {
	if p.book() == nil {
		return nil
	}
	return p.book().Policy(name + ".yaml")
}

func (p *portal) showRule(w http.ResponseWriter, r *http.Request, s identity.Session, req approvals.Request, d draft.Draft, fault error) error {
	base, err := p.page(r, s, "A rule of "+what(req), "inbox")
	if err != nil {
		return err
	}
	data := rulePage{page: base, Request: req, Form: newBoundsForm(req.Action.Payload, r), Lengths: chosen(ruleLengths, r.PostForm.Get("length"))}
	status := http.StatusOK
	if name := draft.Name(req); p.inForce(name) != nil {
		data.InForce = name + ".yaml"
	}
	switch {
	case fault != nil:
		data.Fault = fault.Error()
		if r.Method == http.MethodPost {
			status = http.StatusConflict
		}
	default:
		data.Draft = &d
	}
	for _, warning := range d.Warnings {
		data.Warnings = append(data.Warnings, warning.Message)
	}
	return p.render(w, status, "rule.html", data)
}
