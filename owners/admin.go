package owners

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/openleash/openleash-go/identity"
)

// Errors of set-up links that are also known by their id, for who holds the token.
var (
	ErrInviteNotFound = errors.New("there is no such set-up link")
	ErrInviteToken    = errors.New("the token is not the one of this set-up link")
	ErrInviteUsed     = errors.New("the set-up link was used")
	ErrInviteExpired  = errors.New("the set-up link has expired")
)

// Users lists all accounts.
func (s *Service) Users(ctx context.Context) ([]identity.User, error) { return s.Store.Users(ctx) }

// AddUser makes an account that nobody can come into yet: that takes a set-up link.
func (s *Service) AddUser(ctx context.Context, actor, name, email string, roles []string) (identity.User, error) {
	roles = append([]string{}, roles...)
	p := Patch{Name: &name, Email: &email, Roles: &roles}
	if err := p.check(); err != nil {
		return identity.User{}, err
	}
	u := identity.User{
		Owner: identity.Owner{ID: uuid.NewString(), Type: identity.TypeUser, Name: name},
		Email: *p.Email, Roles: roles, Status: identity.UserActive, CreatedAt: s.Now().UTC().Truncate(time.Millisecond),
	}
	detail := u.Type + " " + u.Name
	if len(roles) > 0 {
		detail += ", roles " + strings.Join(roles, " ")
	}
	return u, s.change(ctx, Change{Add: &u, Entries: s.entry("owner.created", actor, u.ID, detail)})
}

// A Patch is what changes in an account; nil: it stays.
type Patch struct {
	Name, Email, Status *string
	Roles               *[]string
}

// check says what is wrong with what changes, and puts an address into normal form.
func (p *Patch) check() error {
	var errs [4]error
	if p.Name != nil {
		errs[0] = identity.CheckUserName(*p.Name)
	}
	if p.Email != nil {
		var email string
		email, errs[1] = identity.NormalEmail(*p.Email)
		p.Email = &email
	}
	if p.Status != nil {
		errs[2] = identity.CheckStatus(*p.Status)
	}
	if p.Roles != nil {
		errs[3] = identity.CheckRoles(*p.Roles)
	}
	return errors.Join(errs[:]...)
}

// SetUser changes an account. Who is disabled is signed out everywhere at once.
func (s *Service) SetUser(ctx context.Context, actor, id string, p Patch) (identity.User, error) {
	if err := p.check(); err != nil {
		return identity.User{}, err
	}
	u, err := s.Store.User(ctx, id)
	if err != nil {
		return identity.User{}, err
	}
	what := p.apply(&u)
	if len(what) == 0 {
		return u, nil
	}
	c := Change{Set: &Setting{u.ID, p}, Entries: s.entry("owner.changed", actor, u.ID, strings.Join(what, ", "))}
	if u.Status == identity.UserDisabled {
		if u.ID == s.Owner.ID {
			return identity.User{}, ErrInstallation
		}
		c.End, c.Void = &Ending{OwnerID: u.ID}, u.ID
	}
	if err := s.change(ctx, c); err != nil {
		return identity.User{}, err
	}
	return s.Store.User(ctx, id)
}

// apply changes the account, and says what has changed. An address is not repeated: the
// log is read by others.
func (p Patch) apply(u *identity.User) (what []string) {
	if p.Name != nil && *p.Name != u.Name {
		what = append(what, fmt.Sprintf("name from %s to %s", u.Name, *p.Name))
		u.Name = *p.Name
	}
	if p.Email != nil && *p.Email != u.Email {
		what = append(what, "e-mail address")
		u.Email = *p.Email
	}
	if p.Status != nil && *p.Status != u.Status {
		what = append(what, "status "+*p.Status)
		u.Status = *p.Status
	}
	if p.Roles != nil && !slices.Equal(*p.Roles, u.Roles) {
		what = append(what, fmt.Sprintf("roles %q", *p.Roles))
		u.Roles = append([]string{}, *p.Roles...)
	}
	return what
}

// An Invite is a set-up link: whoever holds its token can set the account's passphrase,
// with a code when there is a second factor.
type Invite struct {
	ID, Token string
	Expires   time.Time
}

// Invite makes a set-up link for an account. Former links of it are void. When there is
// a passphrase already its owner is told.
func (s *Service) Invite(ctx context.Context, actor, id string) (Invite, error) {
	u, err := s.Store.User(ctx, id)
	if err != nil {
		return Invite{}, err
	}
	invite, link := s.newInvite(u.ID)
	c := Change{Void: u.ID, Link: &link, Entries: s.entry("owner.link", actor, u.ID, "set-up link for "+u.Name)}
	if u.HasPassphrase {
		c.Notice = s.notice(u.ID, actor, "made a link by which your passphrase can be set anew")
	}
	return invite, s.change(ctx, c)
}

func (s *Service) newInvite(ownerID string) (Invite, Link) {
	token, hash := identity.NewToken("oll_")
	invite := Invite{ID: uuid.NewString(), Token: token, Expires: s.Now().Add(SetupFor)}
	return invite, Link{Hash: hash, ID: invite.ID, Kind: identity.LinkSetup, OwnerID: ownerID, Until: invite.Expires}
}

// notice tells an owner what somebody else did to the account.
func (s *Service) notice(ownerID, actor, what string) *Notice {
	return &Notice{OwnerID: ownerID, Text: fmt.Sprintf("%s: %s %s.", s.Now().UTC().Format("2 Jan 2006, 15:04 UTC"), actor, what)}
}

// Reset gives an account back to who has lost the way in: passphrase, second factors,
// sessions and links are gone, and a set-up link leads in. Its owner is told, and the log
// says of approvals that come after it that they do.
func (s *Service) Reset(ctx context.Context, actor, id string) (Invite, error) {
	u, err := s.Store.User(ctx, id)
	if err != nil {
		return Invite{}, err
	}
	invite, link := s.newInvite(u.ID)
	return invite, s.change(ctx, Change{
		Secret: &Secret{OwnerID: u.ID}, Drop: u.ID, End: &Ending{OwnerID: u.ID}, Void: u.ID, Link: &link,
		Reset:   &identity.Reset{OwnerID: u.ID, By: actor, At: s.Now()},
		Notice:  s.notice(u.ID, actor, "reset your access: passphrase, second factors and sessions are gone"),
		Forgive: []string{accountLimit(u.ID, "").Key, identity.CodeLimit(u.ID).Key},
		Entries: s.entry("owner.reset", actor, u.ID, "passphrase, second factors, sessions and links of "+u.Name+" are gone; a set-up link was made"),
	})
}

// SetUp uses a set-up link: the passphrase is set, all sessions end, and one begins.
func (s *Service) SetUp(ctx context.Context, from From, token, passphrase, code string) (SignedIn, error) {
	link, u, err := s.followed(ctx, token, identity.LinkSetup)
	if err != nil {
		return SignedIn{}, err
	}
	c, how, err := s.setUp(ctx, from, link, u, passphrase, code)
	if err != nil {
		return SignedIn{}, err
	}
	in, err := s.start(ctx, from, u, c, "by set-up link"+how.words())
	return in, asLinkError(err)
}

// setUp prepares what a link does to a passphrase.
func (s *Service) setUp(ctx context.Context, from From, link Link, u identity.User, passphrase, code string) (Change, proven, error) {
	if err := identity.CheckPassphrase(passphrase); err != nil {
		return Change{}, "", err
	}
	how, err := s.prove(ctx, u.ID, code)
	if err != nil {
		return Change{}, "", err
	}
	hash, err := s.passphrases.Hash(ctx, passphrase)
	return Change{
		Proved: how != "", Spend: s.spend(link), Secret: &Secret{OwnerID: u.ID, Hash: hash}, End: &Ending{OwnerID: u.ID},
		Forgive: []string{accountLimit(u.ID, "").Key},
		Entries: s.entry("owner.passphrase", from.actor(u.Name), u.ID, "set by a "+string(link.Kind)+" link"+how.words()+"; all former sessions end"),
	}, how, err
}

// SetUpByID is SetUp for who shows the link's id and token, and is told what is wrong
// with it. It starts no session.
func (s *Service) SetUpByID(ctx context.Context, from From, id, token, passphrase, code string) (identity.User, error) {
	link, err := s.Store.LinkByID(ctx, id)
	if errors.Is(err, identity.ErrNotFound) {
		return identity.User{}, ErrInviteNotFound
	}
	if err != nil {
		return identity.User{}, err
	}
	shown := identity.HashToken(token)
	switch {
	case subtle.ConstantTimeCompare(shown[:], link.Hash[:]) != 1:
		return identity.User{}, ErrInviteToken
	case link.Spent:
		return identity.User{}, ErrInviteUsed
	case !s.Now().Before(link.Until):
		return identity.User{}, ErrInviteExpired
	}
	_, u, err := s.followed(ctx, token, identity.LinkSetup)
	if err != nil {
		return identity.User{}, err
	}
	c, _, err := s.setUp(ctx, from, link, u, passphrase, code)
	if err != nil {
		return identity.User{}, err
	}
	return u, asLinkError(s.change(ctx, c))
}

// InitialSetup gives the installation's owner a name and a first passphrase. Who does it
// holds a sign-in link, which only who runs this machine can make. It starts no session.
func (s *Service) InitialSetup(ctx context.Context, from From, token, name, passphrase string) (identity.User, error) {
	first, err := s.Store.User(ctx, s.Owner.ID)
	if err != nil {
		return identity.User{}, err
	}
	if first.HasPassphrase {
		return identity.User{}, ErrSetUp
	}
	link, u, err := s.followed(ctx, token, identity.LinkSignIn)
	if err == nil && u.ID != first.ID {
		err = ErrLink
	}
	if err != nil {
		return identity.User{}, err
	}
	c, _, err := s.setUp(ctx, from, link, u, passphrase, "")
	if err != nil {
		return identity.User{}, err
	}
	c.Secret.Former = new(string) // none: of two set-ups at once, one is the first
	rename := Patch{Name: &name}
	if err := rename.check(); err != nil {
		return identity.User{}, err
	}
	if what := rename.apply(&u); len(what) > 0 {
		c.Set, c.Entries = &Setting{u.ID, rename}, append(c.Entries, s.entry("owner.changed", from.actor(first.Name), u.ID, what[0])...)
	}
	return u, asLinkError(s.change(ctx, c))
}
