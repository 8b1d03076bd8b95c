package owners

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"github.com/openleash/openleash-go/identity"
)

// Credentials are what somebody shows to come in.
type Credentials struct {
	Login      string // name, e-mail address or id
	Passphrase string
	Code       string // of the second factor; empty: none was given
}

// SignIn starts a session for who shows the passphrase, and the second factor when
// there is one. The answer to a wrong passphrase, to a user who is not there, and to one
// who is disabled is ErrCredentials, after the same work.
func (s *Service) SignIn(ctx context.Context, from From, c Credentials) (SignedIn, error) {
	u, err := s.Store.FindUser(ctx, c.Login)
	if err != nil && !errors.Is(err, identity.ErrNotFound) {
		return SignedIn{}, err
	}
	account, address := accountLimit(u.ID, c.Login), addressLimit(from.Address)
	if err := s.Store.Try(ctx, s.Now(), account, address); err != nil {
		return SignedIn{}, err
	}
	hash, err := s.checkPassphrase(ctx, u, c.Passphrase)
	if err != nil {
		if errors.Is(err, identity.ErrTooMany) { // it was not looked at
			err = errors.Join(err, s.Store.Untry(ctx, account.Key, address.Key))
		}
		return SignedIn{}, err
	}
	if err := s.Store.Forgive(ctx, account.Key); err != nil {
		return SignedIn{}, err
	}
	how, err := s.prove(ctx, u.ID, c.Code)
	if err == nil || errors.Is(err, identity.ErrFactorRequired) {
		err = errors.Join(err, s.Store.Untry(ctx, address.Key))
	}
	if err != nil {
		return SignedIn{}, err
	}
	// If the passphrase is another one by now, or the user is disabled, it was too late.
	still := Secret{OwnerID: u.ID, Hash: hash, Former: &hash}
	in, err := s.start(ctx, from, u, Change{Proved: how != "", Secret: &still}, "by passphrase"+how.words())
	if errors.Is(err, identity.ErrNotFound) {
		err = ErrCredentials
	}
	return in, err
}

// checkPassphrase does the same work whoever it is. It returns the hash that was right.
func (s *Service) checkPassphrase(ctx context.Context, u identity.User, passphrase string) (hash string, err error) {
	if u.HasPassphrase && u.Status == identity.UserActive {
		if hash, err = s.Store.PassphraseHash(ctx, u.ID); err != nil {
			return "", err
		}
	}
	good, err := s.passphrases.Check(ctx, hash, passphrase)
	switch {
	case err != nil || good:
		return hash, err
	case u.Status == identity.UserActive && !u.HasPassphrase:
		return "", ErrSetupRequired
	}
	return "", ErrCredentials
}

// accountLimit bounds tries at one account; what is not there has its own, so that it
// cannot be told apart.
func accountLimit(id, login string) identity.Limit {
	if id == "" {
		sum := sha256.Sum256([]byte(strings.ToLower(login)))
		id = hex.EncodeToString(sum[:])
	}
	return identity.Limit{Key: "passphrase:" + id, Free: 10, Wait: time.Minute, MaxWait: time.Hour}
}

// addressLimit bounds tries from one address, at whatever account.
func addressLimit(address string) identity.Limit {
	return identity.Limit{Key: "address:" + address, Free: 50, Wait: time.Minute, MaxWait: 15 * time.Minute}
}

// proven is by which second factor somebody is known; empty: there is none.
type proven string

func (p proven) words() string {
	switch p {
	case identity.MethodTOTP:
		return " and code"
	case identity.MethodBackup:
		return " and backup code"
	}
	return ""
}

// prove checks the second factor of who has one.
func (s *Service) prove(ctx context.Context, ownerID, code string) (proven, error) {
	method, err := s.Factors.Verify(ctx, ownerID, code)
	if errors.Is(err, identity.ErrNoFactor) {
		return "", nil
	}
	return proven(method), err
}

// start commits a sign-in.
func (s *Service) start(ctx context.Context, from From, u identity.User, c Change, how string) (SignedIn, error) {
	session, token, err := s.newSession(u, from)
	if err != nil {
		return SignedIn{}, err
	}
	c.Start = &session
	c.Entries = append(c.Entries, s.entry("session.started", from.actor(u.Name), u.ID, how+", from "+from.Address)...)
	if err := s.change(ctx, c); err != nil {
		return SignedIn{}, err
	}
	return SignedIn{session, token}, nil
}

// MakeLink makes a one-time link by which its owner signs in, and returns its secret.
func (s *Service) MakeLink(ctx context.Context, actor string, ownerID string) (token string, err error) {
	token, hash := identity.NewToken("oll_")
	return token, s.change(ctx, Change{
		Link:    &Link{Hash: hash, Kind: identity.LinkSignIn, OwnerID: ownerID, Until: s.Now().Add(LinkFor)},
		Entries: s.entry("portal.link", actor, ownerID, ""),
	})
}

// A Look is what a link asks of who follows it.
type Look struct {
	Name       string // whose it is
	NeedsCode  bool
	Passphrase bool // there is one already
}

// LookAt tells about a link that is good, without using it; ErrLink: it is not.
func (s *Service) LookAt(ctx context.Context, token string, kind identity.LinkKind) (Look, error) {
	_, u, err := s.followed(ctx, token, kind)
	return Look{u.Name, u.HasFactor, u.HasPassphrase}, err
}

// followed finds a link that is good, and whose it is.
func (s *Service) followed(ctx context.Context, token string, kind identity.LinkKind) (Link, identity.User, error) {
	link, err := s.Store.Link(ctx, identity.HashToken(token))
	if errors.Is(err, identity.ErrNotFound) {
		return Link{}, identity.User{}, ErrLink
	}
	if err != nil {
		return Link{}, identity.User{}, err
	}
	if link.Kind != kind || link.Spent || !s.Now().Before(link.Until) {
		return Link{}, identity.User{}, ErrLink
	}
	u, err := s.Store.User(ctx, link.OwnerID)
	if err == nil && u.Status != identity.UserActive {
		err = ErrLink
	}
	return link, u, err
}

// Redeem turns a sign-in link into a session. A link of who has a second factor needs a
// code too, and is still good when that was wrong.
func (s *Service) Redeem(ctx context.Context, from From, token, code string) (SignedIn, error) {
	link, u, err := s.followed(ctx, token, identity.LinkSignIn)
	if err != nil {
		return SignedIn{}, err
	}
	how, err := s.prove(ctx, u.ID, code)
	if err != nil {
		return SignedIn{}, err
	}
	in, err := s.start(ctx, from, u, Change{Proved: how != "", Spend: s.spend(link)}, "by link"+how.words())
	return in, asLinkError(err)
}

func (s *Service) spend(l Link) *Spend {
	return &Spend{Hash: l.Hash, Kind: l.Kind, Now: s.Now()}
}

// asLinkError is for those who come second.
func asLinkError(err error) error {
	if errors.Is(err, identity.ErrNotFound) || errors.Is(err, identity.ErrSpent) {
		return ErrLink
	}
	return err
}
