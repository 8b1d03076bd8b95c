package owners

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/passkey"
)

// A passkey stands beside the second factor, not in its place: to register or to remove
// one takes a code, so that a session alone adds none. It signs its owner in by itself,
// since its authenticator verifies who uses it.
//
// What a browser is to sign is a challenge of a ticket. The page has the ticket and brings
// it back, so that nothing is kept of who only looks at a page:
//
//	UNTIL.NONCE.SIGNATURE    unpadded base64url of an Ed25519 signature
//
// signed by this installation's key, purpose "passkey", over these lines:
//
//	UNTIL.NONCE
//	what it is for
//	whose session it was given to; empty: nobody's
//
// The challenge is the ticket's SHA-256. It is good until UNTIL (Unix milliseconds), and
// once: the commit that it is for spends it.

// What tickets are for.
const (
	toRegister = "register"
	toSignIn   = "sign-in"

	ticketFor     = 5 * time.Minute
	ticketPurpose = "passkey"
)

// ErrTicket: it was used, is too old, or was never given for this.
var ErrTicket = errors.New("this took too long, or was done already: begin again")

// ErrNoPasskeys: at this address there can be none.
var ErrNoPasskeys = errors.New("passkeys do not work at this address")

// party is for whom passkeys are made where somebody has come to us.
func (s *Service) party(from From) (*passkey.Party, error) {
	if p := s.Parties.At(from.Host); p != nil {
		return p, nil
	}
	return nil, ErrNoPasskeys
}

// An Offer is what a page gives to a browser's script, and gets back with the answer.
type Offer struct {
	Ticket  string
	Options []byte // JSON, for navigator.credentials
}

func (s *Service) newTicket(what, ownerID string) (ticket string, challenge [32]byte) {
	head := strconv.FormatInt(s.Now().Add(ticketFor).UnixMilli(), 10) + "." + rand.Text()
	sig := s.Key.SignText(ticketPurpose, ticketText(head, what, ownerID))
	ticket = head + "." + base64.RawURLEncoding.EncodeToString(sig)
	return ticket, sha256.Sum256([]byte(ticket))
}

func ticketText(head, what, ownerID string) []byte {
	return []byte(head + "\n" + what + "\n" + ownerID)
}

// readTicket returns what spends a ticket, if it is good.
func (s *Service) readTicket(ticket, what, ownerID string) (*Ticket, error) {
	fields := strings.Split(ticket, ".")
	if len(fields) != 3 {
		return nil, ErrTicket
	}
	sig, err := base64.RawURLEncoding.Strict().DecodeString(fields[2])
	if err != nil || !s.signed(ticketText(fields[0]+"."+fields[1], what, ownerID), sig) {
		return nil, ErrTicket
	}
	until, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil || s.Now().UnixMilli() >= until {
		return nil, ErrTicket
	}
	return &Ticket{Challenge: sha256.Sum256([]byte(ticket)), Until: time.UnixMilli(until), Now: s.Now()}, nil
}

// signed reports whether a key of this installation has signed a ticket.
func (s *Service) signed(text, sig []byte) bool {
	for _, key := range s.Keys() {
		if key.VerifyText(ticketPurpose, text, sig) {
			return true
		}
	}
	return false
}

// Passkeys lists an owner's.
func (s *Service) Passkeys(ctx context.Context, ownerID string) ([]identity.Passkey, error) {
	return s.Store.Passkeys(ctx, ownerID)
}

// OfferPasskey is for a page on which the owner of a session registers a passkey.
func (s *Service) OfferPasskey(ctx context.Context, from From, session identity.Session) (o Offer, err error) {
	party, err := s.party(from)
	if err != nil {
		return o, err
	}
	have, err := s.Store.Passkeys(ctx, session.OwnerID)
	if err != nil {
		return o, err
	}
	ticket, challenge := s.newTicket(toRegister, session.OwnerID)
	o.Ticket = ticket
	o.Options, err = party.Creation(challenge, ownerOf(session), have)
	return o, err
}

func ownerOf(session identity.Session) identity.Owner {
	return identity.Owner{ID: session.OwnerID, Type: session.OwnerType, Name: session.Name}
}

// AddPasskey registers the passkey that a browser has made for an offer. It takes a code of
// the second factor; identity.ErrNoFactor: there is none yet, which comes first.
func (s *Service) AddPasskey(ctx context.Context, from From, session identity.Session, name, code, ticket string, response []byte) error {
	party, err := s.party(from)
	if err != nil {
		return err
	}
	if err := checkPasskeyName(name); err != nil {
		return err
	}
	spend, err := s.readTicket(ticket, toRegister, session.OwnerID)
	if err != nil {
		return err
	}
	k, err := party.Created(spend.Challenge, ownerOf(session), response)
	if err != nil {
		return err
	}
	method, err := s.Factors.Verify(ctx, session.OwnerID, code)
	if err != nil {
		return err
	}
	k.Name, k.CreatedAt = name, s.Now()
	return asTicketError(s.change(ctx, Change{
		Ticket: spend, Passkey: &k,
		Entries: s.entry("owner.factor", from.actor(session.Name), session.OwnerID, fmt.Sprintf("passkey %q added%s", name, proven(method).words())),
	}))
}

// MaxPasskeyName is how many characters the name of one has at most.
const MaxPasskeyName = 64

// ErrPasskeyName is what a passkey cannot be called.
var ErrPasskeyName = errors.New("a passkey needs a name")

func checkPasskeyName(name string) error {
	unseen := func(r rune) bool { return !unicode.IsPrint(r) }
	if n := utf8.RuneCountInString(name); n == 0 || n > MaxPasskeyName || !utf8.ValidString(name) || strings.ContainsFunc(name, unseen) || strings.TrimSpace(name) != name {
		return fmt.Errorf("%w: want 1 to %d characters that can be seen, got %d", ErrPasskeyName, MaxPasskeyName, n)
	}
	return nil
}

func asTicketError(err error) error {
	if errors.Is(err, identity.ErrSpent) {
		return ErrTicket
	}
	return err
}

// RemovePasskey takes a passkey away from its owner, who shows a code.
// identity.ErrNotFound: the owner has none such.
func (s *Service) RemovePasskey(ctx context.Context, from From, session identity.Session, code string, id []byte) error {
	k, err := s.Store.Passkey(ctx, id)
	if err == nil && k.OwnerID != session.OwnerID {
		err = identity.ErrNotFound
	}
	if err != nil {
		return err
	}
	method, err := s.Factors.Verify(ctx, session.OwnerID, code)
	if err != nil {
		return err
	}
	return s.change(ctx, Change{
		Forget:  &PasskeyDrop{OwnerID: session.OwnerID, ID: id},
		Entries: s.entry("owner.factor", from.actor(session.Name), session.OwnerID, fmt.Sprintf("passkey %q removed%s", k.Name, proven(method).words())),
	})
}

// OfferSignIn is for a page on which somebody signs in with a passkey.
func (s *Service) OfferSignIn(from From) (o Offer, err error) {
	party, err := s.party(from)
	if err != nil {
		return o, err
	}
	ticket, challenge := s.newTicket(toSignIn, "")
	o.Ticket = ticket
	o.Options, err = party.Request(challenge, nil)
	return o, err
}

// SignInWithPasskey starts a session for whose passkey has signed an offer.
func (s *Service) SignInWithPasskey(ctx context.Context, from From, ticket string, response []byte) (SignedIn, error) {
	spend, err := s.readTicket(ticket, toSignIn, "")
	if err != nil {
		return SignedIn{}, err
	}
	a, err := passkey.ReadAssertion(response)
	if err != nil {
		return SignedIn{}, err
	}
	k, err := s.Store.Passkey(ctx, a.CredentialID)
	party := s.Parties.Of(k.RPID)
	if errors.Is(err, identity.ErrNotFound) || err == nil && party == nil {
		err = identity.ErrPasskey
	}
	if err == nil {
		err = party.Verify(k, spend.Challenge, a)
	}
	if err != nil {
		return SignedIn{}, err
	}
	u, err := s.Store.User(ctx, k.OwnerID)
	if err == nil && u.Status != identity.UserActive {
		err = identity.ErrPasskey
	}
	if err != nil {
		return SignedIn{}, err
	}
	// Its user was verified: it shows what one has, and what one knows or is.
	use := PasskeyUse{OwnerID: k.OwnerID, ID: k.ID, Counter: a.Counter(), Now: s.Now()}
	in, err := s.start(ctx, from, u, Change{Proved: true, Ticket: spend, Use: &use}, "by passkey")
	return in, asTicketError(err)
}
