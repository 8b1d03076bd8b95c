// Package passkey is how owners' passkeys (Web Authentication, Level 2) are registered,
// and how what they sign is verified.
//
// A passkey is made for one name, the relying party's id, which is the host of the page on
// which it was made, and is good at our origins there alone. What is promised:
//
//   - The user has to be verified by the authenticator (a PIN, a fingerprint, a face) at
//     each use: who finds the device cannot use it.
//   - An assertion counts for one challenge, of one owner's passkey that is registered now,
//     and if the passkey's counter has gone on. That counter, and what the challenge is
//     for, is written by who has asked for it, in the commit that it is for.
//   - A challenge that somebody waits for (Ticket) is random, good for a few minutes, for
//     one purpose and one account, and once. To approve an action the challenge says which
//     (approvals.ApprovalChallenge), so that whoever has the public key can verify years
//     later that this person has approved this action (Verify of a Pinned).
//
// Attestations are not asked for: which make of authenticator it is, is its owner's matter.
package passkey

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/protocol/webauthncose"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/identity"
)

// algorithms are those of which an auditor can verify signatures (Pinned).
var algorithms = []webauthncose.COSEAlgorithmIdentifier{webauthncose.AlgES256, webauthncose.AlgEdDSA, webauthncose.AlgRS256}

// A Party is for whom passkeys are made at one host: the relying party.
type Party struct {
	id      string
	origins []string
	web     *webauthn.WebAuthn
}

// ID is the relying party's id.
func (p *Party) ID() string { return p.id }

// Parties are those of all hosts at which our pages are.
type Parties []*Party

// NewParties makes them of origins: "http://openleash.localhost:8787".
func NewParties(origins ...string) (list Parties, err error) {
	for _, origin := range origins {
		u, err := url.Parse(origin)
		if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" || u.Scheme+"://"+u.Host != origin {
			return nil, fmt.Errorf("passkeys: origin: want http://HOST:PORT or https://HOST, got %q", origin)
		}
		party := list.Of(u.Hostname())
		if party == nil {
			party = &Party{id: u.Hostname()}
			list = append(list, party)
		}
		party.origins = append(party.origins, origin)
	}
	for _, p := range list {
		if p.web, err = webauthn.New(&webauthn.Config{RPID: p.id, RPDisplayName: "OpenLeash", RPOrigins: p.origins}); err != nil {
			return nil, fmt.Errorf("passkeys at %s: %w", p.id, err)
		}
	}
	return list, nil
}

// Of is the party of that id; nil: there is none.
func (list Parties) Of(id string) *Party {
	for _, p := range list {
		if p.id == id {
			return p
		}
	}
	return nil
}

// At is the party of pages that were asked for under that host ("HOST:PORT"); nil: none.
func (list Parties) At(host string) *Party {
	u, err := url.Parse("http://" + host)
	if err != nil {
		return nil
	}
	return list.Of(strings.ToLower(u.Hostname()))
}

// timeout is how long a browser waits for the person.
const timeout = 2 * time.Minute

// Creation is what navigator.credentials.create is called with, as JSON: bytes are
// base64url texts. have are the passkeys that the owner has already.
func (p *Party) Creation(challenge [32]byte, owner identity.Owner, have []identity.Passkey) ([]byte, error) {
	options := protocol.PublicKeyCredentialCreationOptions{
		RelyingParty:          protocol.RelyingPartyEntity{CredentialEntity: protocol.CredentialEntity{Name: "OpenLeash"}, ID: p.id},
		User:                  protocol.UserEntity{CredentialEntity: protocol.CredentialEntity{Name: owner.Name}, DisplayName: owner.Name, ID: protocol.URLEncodedBase64(owner.ID)},
		Challenge:             challenge[:],
		Timeout:               int(timeout.Milliseconds()),
		Attestation:           protocol.PreferNoAttestation,
		CredentialExcludeList: descriptors(have),
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey: protocol.ResidentKeyRequirementRequired, RequireResidentKey: protocol.ResidentKeyRequired(), UserVerification: protocol.VerificationRequired,
		},
		Parameters: parameters(),
	}
	return json.Marshal(options)
}

func parameters() (list []protocol.CredentialParameter) {
	for _, a := range algorithms {
		list = append(list, protocol.CredentialParameter{Type: protocol.PublicKeyCredentialType, Algorithm: a})
	}
	return list
}

func descriptors(list []identity.Passkey) (d []protocol.CredentialDescriptor) {
	for _, k := range list {
		c := credential(k)
		d = append(d, c.Descriptor())
	}
	return d
}

// Request is what navigator.credentials.get is called with, as Creation. Without allowed
// the browser offers all that it has for us.
func (p *Party) Request(challenge [32]byte, allowed []identity.Passkey) ([]byte, error) {
	return json.Marshal(protocol.PublicKeyCredentialRequestOptions{
		Challenge: challenge[:], RelyingPartyID: p.id, Timeout: int(timeout.Milliseconds()),
		AllowedCredentials: descriptors(allowed), UserVerification: protocol.VerificationRequired,
	})
}

// Created reads what a browser answers to Creation: the new passkey, without its name.
func (p *Party) Created(challenge [32]byte, owner identity.Owner, response []byte) (identity.Passkey, error) {
	parsed, err := protocol.ParseCredentialCreationResponseBytes(response)
	if err != nil {
		return identity.Passkey{}, refused(err)
	}
	session := p.session(challenge, owner.ID)
	session.CredParams = parameters()
	made, err := p.web.CreateCredential(user{owner: owner}, session, parsed)
	if err != nil {
		return identity.Passkey{}, refused(err)
	}
	k := identity.Passkey{ID: made.ID, OwnerID: owner.ID, RPID: p.id, PublicKey: made.PublicKey, SignCount: made.Authenticator.SignCount, Flags: byte(made.Flags.ProtocolValue())}
	for _, t := range made.Transport {
		if len(k.Transports) < 8 && len(t) <= 32 {
			k.Transports = append(k.Transports, string(t))
		}
	}
	_, err = PublicKeyOf(k) // which an auditor can use
	return k, err
}

func (p *Party) session(challenge [32]byte, ownerID string) webauthn.SessionData {
	return webauthn.SessionData{
		Challenge: base64.RawURLEncoding.EncodeToString(challenge[:]), RelyingPartyID: p.id, UserID: []byte(ownerID),
		UserVerification: protocol.VerificationRequired,
	}
}

// ReadAssertion reads what a browser answers to Request.
func ReadAssertion(response []byte) (a approvals.Assertion, err error) {
	parsed, err := protocol.ParseCredentialRequestResponseBytes(response)
	if err != nil {
		return a, refused(err)
	}
	r := parsed.Raw.AssertionResponse
	return approvals.Assertion{CredentialID: parsed.RawID, AuthenticatorData: r.AuthenticatorData, ClientData: r.ClientDataJSON, Signature: r.Signature}, nil
}

// Verify returns nil when k has signed the challenge at one of our pages, its user being
// verified, and its counter has gone on.
func (p *Party) Verify(k identity.Passkey, challenge [32]byte, a approvals.Assertion) error {
	if !bytes.Equal(k.ID, a.CredentialID) || k.RPID != p.id {
		return identity.ErrPasskey
	}
	parsed, err := parse(a)
	if err != nil {
		return refused(err)
	}
	verified, err := p.web.ValidateLogin(user{identity.Owner{ID: k.OwnerID}, []webauthn.Credential{credential(k)}}, p.session(challenge, k.OwnerID), parsed)
	switch {
	case err != nil:
		return refused(err)
	case verified.Authenticator.CloneWarning:
		return identity.ErrPasskeyCloned
	}
	return nil
}

// parse makes of an assertion what the library verifies.
func parse(a approvals.Assertion) (*protocol.ParsedCredentialAssertionData, error) {
	r := protocol.CredentialAssertionResponse{}
	r.ID, r.Type, r.RawID = base64.RawURLEncoding.EncodeToString(a.CredentialID), string(protocol.PublicKeyCredentialType), a.CredentialID
	r.AssertionResponse.ClientDataJSON = a.ClientData
	r.AssertionResponse.AuthenticatorData, r.AssertionResponse.Signature = a.AuthenticatorData, a.Signature
	return r.Parse()
}

// refused is why a passkey does not count, for us: nobody else is told what the library says.
func refused(err error) error {
	detail := err.Error()
	if e := new(protocol.Error); errors.As(err, &e) {
		detail = e.Details
	}
	return fmt.Errorf("%w (%.200s)", identity.ErrPasskey, detail)
}

func credential(k identity.Passkey) webauthn.Credential {
	c := webauthn.Credential{ID: k.ID, PublicKey: k.PublicKey, Flags: webauthn.NewCredentialFlags(protocol.AuthenticatorFlags(k.Flags))}
	c.Authenticator.SignCount = k.SignCount
	for _, t := range k.Transports {
		c.Transport = append(c.Transport, protocol.AuthenticatorTransport(t))
	}
	return c
}

// user is an owner as the library sees one.
type user struct {
	owner identity.Owner
	keys  []webauthn.Credential
}

func (u user) WebAuthnID() []byte                         { return []byte(u.owner.ID) }
func (u user) WebAuthnName() string                       { return u.owner.Name }
func (u user) WebAuthnDisplayName() string                { return u.owner.Name }
func (u user) WebAuthnCredentials() []webauthn.Credential { return u.keys }

// Store is where passkeys are looked up.
type Store interface {
	// Passkey finds one by its credential id; ErrNotFound.
	Passkey(ctx context.Context, id []byte) (identity.Passkey, error)
	// Passkeys lists an owner's, oldest first.
	Passkeys(ctx context.Context, ownerID string) ([]identity.Passkey, error)
}

// A Checker verifies assertions of passkeys that a store has.
type Checker struct {
	Parties Parties
	Store   Store
}

// Verify returns nil when a passkey of that owner has signed the challenge.
func (c Checker) Verify(ctx context.Context, ownerID string, challenge [32]byte, a approvals.Assertion) error {
	k, err := c.Store.Passkey(ctx, a.CredentialID)
	if errors.Is(err, identity.ErrNotFound) || err == nil && k.OwnerID != ownerID {
		return identity.ErrPasskey
	}
	if err != nil {
		return err
	}
	party := c.Parties.Of(k.RPID)
	if party == nil { // our pages are not there any more
		return identity.ErrPasskey
	}
	return party.Verify(k, challenge, a)
}
