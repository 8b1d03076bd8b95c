// Package owners is how owners come in, and what they do to their accounts: the one
// place behind portal, API and command line.
//
// # What is promised
//
// An owner comes in by name or e-mail address with a passphrase, or by a one-time link;
// with a second factor too, once there is one. What is asked for, and what is refused,
// is the same for a user who is not there and for a wrong passphrase, and takes the same
// time. Tries are limited for each account and each address (identity.Limit), codes work
// once (identity.Factors).
//
// Who is in has a session: a token that we have signed (proof.SignSession), and a row in
// the store without which it is good for nothing. So a session that has ended, by
// signing out, by being revoked, because its user was disabled or his access was reset,
// is over at that moment in every process. What a session may do is looked up at each
// request: the token's own list of roles is for others to read.
//
// A passkey signs its owner in, too, without a passphrase: its authenticator verifies who
// uses it. It is registered and removed with a code of the second factor (passkeys.go).
//
// A second factor changes only when a code of the new one has come, and the present one
// was shown. Its secret and the backup codes are returned when they are made and never
// again.
//
// What an act changes and its entries in the log are one commit (Change): nothing is
// done that is not recorded. Nothing that is secret is in an entry or in an error.
package owners

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/passkey"
	"github.com/openleash/openleash-go/proof"
)

const (
	// SessionFor is how long a session lasts.
	SessionFor = 12 * time.Hour
	// StayFor is how long sessions can follow each other (Refresh) from one sign-in on.
	StayFor = 7 * 24 * time.Hour
	// LinkFor and SetupFor are how long links are good.
	LinkFor  = 10 * time.Minute
	SetupFor = 24 * time.Hour
	// seenEach is how exactly it is noted when a session was used.
	seenEach = time.Minute
)

// What is told to who is not let in, beside the errors of package identity.
var (
	ErrCredentials   = errors.New("there is no such user with this passphrase")
	ErrSetupRequired = errors.New("this user has no passphrase yet: sign in by a link, or set one by a set-up link")
	ErrSession       = errors.New("the session has ended, or never was")
	ErrLink          = errors.New("the link was used, has expired, or never was")
	ErrSetUp         = errors.New("the installation is set up already")
	ErrStayed        = errors.New("it is too long since the sign-in: sign in again")
	ErrInstallation  = errors.New("the agents of this installation act for this user: he cannot be disabled")
)

// Config is what the service is made of.
type Config struct {
	Store Store
	Owner identity.Owner           // the installation's
	Key   *proof.Key               // signs sessions
	Keys  func() []proof.PublicKey // verify them; none: nobody is signed in
	Wake  func()                   // called when the log has more; may be nil
	Now   func() time.Time         // nil: time.Now
	// Parties are for whom passkeys are made, at each host of our pages; none: there are none.
	Parties passkey.Parties
}

// Service does what owners ask for.
type Service struct {
	Config
	Factors     *identity.Factors
	passphrases *identity.Passphrases
}

// New makes the service of a process.
func New(c Config) (*Service, error) {
	if c.Store == nil || c.Key == nil || c.Keys == nil || c.Owner.ID == "" {
		return nil, errors.New("owners: a store, an owner, a key and the public keys are needed")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Wake == nil {
		c.Wake = func() {}
	}
	return &Service{c, identity.NewFactors(c.Store, c.Now), identity.NewPassphrases()}, nil
}

// From is where somebody comes from.
type From struct {
	Door    string // "portal", "api", "cli"
	Address string
	Agent   string // the browser, in its own words
	Host    string // the name under which it has come to us, with its port
}

// actor is who does something, as the log has it: "portal:ann".
func (f From) actor(name string) string { return f.Door + ":" + name }

// entry is a line of the log about an owner's account.
func (s *Service) entry(event, actor, ownerID, detail string) []audit.Entry {
	return []audit.Entry{{
		TS: s.Now().UTC().Format("2006-01-02T15:04:05.000Z"), Event: event,
		ActorType: "owner", ActorID: actor, OwnerID: ownerID, Detail: detail,
	}}
}

// change commits, and tells who writes the log.
func (s *Service) change(ctx context.Context, c Change) error {
	err := s.Store.Change(ctx, c)
	if err == nil {
		s.Wake()
	}
	return err
}

// newSession prepares a session and its token.
func (s *Service) newSession(u identity.User, from From) (identity.Session, string, error) {
	now := s.Now()
	session := identity.Session{
		ID: uuid.NewString(), OwnerID: u.ID, OwnerType: u.Type, Name: u.Name, Roles: u.Roles,
		BeganAt: now, SeenAt: now, Expires: now.Add(SessionFor), Address: from.Address, Agent: shortAgent(from.Agent),
	}
	token, err := s.sign(session)
	return session, token, err
}

func (s *Service) sign(session identity.Session) (string, error) {
	token, err := s.Key.SignSession(proof.Session{
		ID: session.ID, UserID: session.OwnerID, Roles: session.Roles, IssuedAt: s.Now(), Expires: session.Expires,
	})
	if err != nil {
		return "", fmt.Errorf("starting a session: %w", err)
	}
	return token, nil
}

// maxAgent is how much of what a browser says of itself is kept.
const maxAgent = 120

// shortAgent is what a browser says of itself, without what cannot be seen.
func shortAgent(agent string) string {
	agent = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, agent)
	return agent[:min(len(agent), maxAgent)]
}

// SignedIn is a session with the token that is shown for it.
type SignedIn struct {
	Session identity.Session
	Token   string
}
