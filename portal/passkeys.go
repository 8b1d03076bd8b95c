package portal

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/internal/visible"
	"github.com/openleash/openleash-go/owners"
	"github.com/openleash/openleash-go/passkey"
)

// ceremony is what passkey.js needs to have a browser make or use a passkey. Without
// script nothing of it is seen.
type ceremony struct {
	Do      string // "create" or "get"
	RP      string // the host at which it works
	Options string // JSON
	Ticket  string // empty: the challenge is for one approval
}

// ceremony is for the host at which a page was asked for.
func (p *portal) ceremony(r *http.Request, do string, o owners.Offer) *ceremony {
	return &ceremony{Do: do, RP: p.Owners.Parties.At(r.Host).ID(), Options: string(o.Options), Ticket: o.Ticket}
}

// signInCeremony is nil where there can be no passkeys.
func (p *portal) signInCeremony(r *http.Request) (*ceremony, error) {
	o, err := p.Owners.OfferSignIn(from(r))
	if errors.Is(err, owners.ErrNoPasskeys) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return p.ceremony(r, "get", o), nil
}

// approvalCeremony is nil when the owner has no passkey for this host.
func (p *portal) approvalCeremony(r *http.Request, req approvals.Request) (*ceremony, error) {
	party := p.Owners.Parties.At(r.Host)
	if party == nil {
		return nil, nil
	}
	have, err := p.Owners.Passkeys(r.Context(), req.OwnerID)
	have = slices.DeleteFunc(have, func(k identity.Passkey) bool { return k.RPID != party.ID() })
	if err != nil || len(have) == 0 {
		return nil, err
	}
	options, err := party.Request(approvals.ApprovalChallenge(req.ID, req.ActionHash), have)
	return p.ceremony(r, "get", owners.Offer{Options: options}), err
}

// passkeysPage lists the owner's passkeys and registers another.
type passkeysPage struct {
	page
	Passkeys []passkeyItem
	Able     bool      // there is a second factor, which comes first
	Add      *ceremony // nil: there are as many as may be, or none here
	Name     string    // as it was typed, when it was not added
	MaxName  int
	Notice   string
}

type passkeyItem struct {
	identity.Passkey
	ID     string
	Pinned string // the line for an auditor
}

func (p *portal) passkeys(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	return p.showPasskeys(w, r, s, http.StatusOK, "")
}

func (p *portal) showPasskeys(w http.ResponseWriter, r *http.Request, s identity.Session, status int, notice string) error {
	base, err := p.page(r, s, "Passkeys", "profile")
	if err != nil {
		return err
	}
	data := passkeysPage{page: base, Name: r.PostForm.Get("name"), MaxName: owners.MaxPasskeyName, Notice: notice}
	list, err := p.Owners.Passkeys(r.Context(), s.OwnerID)
	if err != nil {
		return err
	}
	for _, k := range list {
		pinned, err := passkey.Pin(k)
		if err != nil {
			return err
		}
		data.Passkeys = append(data.Passkeys, passkeyItem{k, base64.RawURLEncoding.EncodeToString(k.ID), pinned.String()})
	}
	if data.Able, err = p.Owners.Factors.Enrolled(r.Context(), s.OwnerID); err != nil {
		return err
	}
	if data.Able && len(list) < identity.MaxPasskeys {
		o, err := p.Owners.OfferPasskey(r.Context(), from(r), s)
		switch {
		case err == nil:
			data.Add = p.ceremony(r, "create", o)
		case !errors.Is(err, owners.ErrNoPasskeys):
			return err
		}
	}
	return p.render(w, status, "passkeys.html", data)
}

func (p *portal) addPasskey(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	if err := parseForm(r); err != nil {
		return err
	}
	form := r.PostForm
	err := p.Owners.AddPasskey(r.Context(), from(r), s, form.Get("name"), form.Get("code"), form.Get("ticket"), []byte(form.Get("passkey")))
	return p.passkeyDone(w, r, s, err)
}

func (p *portal) removePasskey(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	if err := parseForm(r); err != nil {
		return err
	}
	id, err := base64.RawURLEncoding.DecodeString(r.PostForm.Get("id"))
	if err == nil {
		err = p.Owners.RemovePasskey(r.Context(), from(r), s, r.PostForm.Get("code"), id)
	} else {
		err = identity.ErrNotFound
	}
	return p.passkeyDone(w, r, s, err)
}

// passkeyDone shows the list again, with why nothing was done.
func (p *portal) passkeyDone(w http.ResponseWriter, r *http.Request, s identity.Session, err error) error {
	if refusal, told := p.Owners.Refusal(err); told {
		p.refused(r, refusal)
		return p.showPasskeys(w, r, s, refusal.Status, "Nothing was done. "+refusal.Told)
	}
	switch {
	case errors.Is(err, owners.ErrPasskeyName), errors.Is(err, identity.ErrPasskeyTaken), errors.Is(err, identity.ErrTooManyPasskey), errors.Is(err, identity.ErrNoFactor):
		return p.showPasskeys(w, r, s, http.StatusBadRequest, "Nothing was done: "+visible.Line(err.Error())+".")
	case errors.Is(err, identity.ErrNotFound), errors.Is(err, owners.ErrNoPasskeys):
		return p.showPasskeys(w, r, s, http.StatusNotFound, "Nothing was done: there is no such passkey.")
	case err != nil:
		return err
	}
	http.Redirect(w, r, "/passkeys", http.StatusSeeOther)
	return nil
}

// assertion is what a form brings of a passkey; nil: nothing.
func assertion(r *http.Request) (*approvals.Assertion, error) {
	text := r.PostForm.Get("passkey")
	if text == "" {
		return nil, nil
	}
	a, err := passkey.ReadAssertion([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("reading what the passkey has signed: %w", err)
	}
	return &a, nil
}
