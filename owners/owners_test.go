package owners_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/owners"
	"github.com/openleash/openleash-go/proof"
	"github.com/openleash/openleash-go/store/sqlite"
)

// An office is an installation whose processes share a store.
type office struct {
	t     *testing.T
	dir   string
	key   *proof.Key
	owner identity.Owner
	now   time.Time
}

var here = owners.From{Door: "portal", Address: "127.0.0.1", Agent: "Firefox\x1b[31m/140 " + strings.Repeat("x", 300)}

const phrase = "correct horse battery"

func newOffice(t *testing.T) *office {
	t.Helper()
	o := &office{t: t, dir: filepath.Join(t.TempDir(), "data"), now: time.Now().Truncate(time.Millisecond).UTC()}
	var err error
	if o.key, err = proof.NewKey(o.now); err != nil {
		t.Fatal(err)
	}
	s := o.store()
	if o.owner, err = s.EnsureOwner(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	return o
}

func (o *office) store() *sqlite.Store {
	o.t.Helper()
	s, err := sqlite.Open(o.t.Context(), o.dir)
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() { s.Close() })
	return s
}

// process is one more on the same store.
func (o *office) process() *owners.Service {
	o.t.Helper()
	s, err := owners.New(owners.Config{
		Store: o.store(), Owner: o.owner, Key: o.key, Now: func() time.Time { return o.now },
		Keys: func() []proof.PublicKey { return []proof.PublicKey{o.key.Public()} },
	})
	if err != nil {
		o.t.Fatal(err)
	}
	return s
}

// byLink is a session of the installation's owner.
func (o *office) byLink(s *owners.Service) owners.SignedIn {
	o.t.Helper()
	token, err := s.MakeLink(o.t.Context(), "cli:alice", o.owner.ID)
	if err != nil {
		o.t.Fatal(err)
	}
	in, err := s.Redeem(o.t.Context(), here, token, "")
	if err != nil {
		o.t.Fatal(err)
	}
	return in
}

// withPassphrase is a process in which the owner has a passphrase.
func (o *office) withPassphrase() *owners.Service {
	o.t.Helper()
	s := o.process()
	if err := s.SetPassphrase(o.t.Context(), here, o.byLink(s).Session, "", phrase); err != nil {
		o.t.Fatal(err)
	}
	return s
}

func (o *office) signIn(s *owners.Service, login, passphrase, code string) (owners.SignedIn, error) {
	return s.SignIn(o.t.Context(), here, owners.Credentials{Login: login, Passphrase: passphrase, Code: code})
}

// enrol sets up a second factor, and returns its secret and backup codes.
func (o *office) enrol(s *owners.Service, session identity.Session) owners.FactorSetup {
	o.t.Helper()
	made, err := s.SetUpFactor(o.t.Context(), here, session, "")
	if err != nil {
		o.t.Fatal(err)
	}
	if err := s.ConfirmFactor(o.t.Context(), here, session, o.code(made)); err != nil {
		o.t.Fatal(err)
	}
	return made
}

// code is what the authenticator app shows; time passes, since a code works once.
func (o *office) code(made owners.FactorSetup) string {
	o.t.Helper()
	o.now = o.now.Add(30 * time.Second)
	code, err := totp.GenerateCode(made.Secret, o.now)
	if err != nil {
		o.t.Fatal(err)
	}
	return code
}

func (o *office) want(what string, got, want error) {
	o.t.Helper()
	if !errors.Is(got, want) {
		o.t.Errorf("%s: want %v, got %v", what, want, got)
	}
}

// guessed is what so many guesses leave behind, without their work.
func (o *office) guessed(s *owners.Service, key string, n int) {
	o.t.Helper()
	for range n {
		if err := s.Store.Try(o.t.Context(), o.now, identity.Limit{Key: key, Free: n + 1, MaxWait: time.Hour}); err != nil {
			o.t.Fatal(err)
		}
	}
}

// good reports whether a token opens a session.
func (o *office) good(s *owners.Service, token string) bool {
	o.t.Helper()
	_, err := s.Session(o.t.Context(), token)
	if err != nil && !errors.Is(err, owners.ErrSession) {
		o.t.Fatal(err)
	}
	return err == nil
}

func TestSignIn(t *testing.T) {
	o := newOffice(t)
	s := o.process()
	_, err := o.signIn(s, "alice", phrase, "")
	o.want("without a passphrase", err, owners.ErrSetupRequired)
	s = o.withPassphrase()
	if _, err := s.SetProfile(t.Context(), "portal:alice", o.owner.ID, "Alice", "Alice@Example.com"); err != nil {
		t.Fatal(err)
	}
	for _, login := range []string{"alice", "ALICE", "alice@example.com", "Alice@Example.COM", o.owner.ID, strings.ToUpper(o.owner.ID)} {
		in, err := o.signIn(s, login, phrase, "ignored")
		if err != nil {
			t.Fatalf("%s: %v", login, err)
		}
		got, err := o.process().Session(t.Context(), in.Token)
		if err != nil || got.OwnerID != o.owner.ID || got.OwnerType != "user" || got.Name != "Alice" || !got.Admin() || got.Address != "127.0.0.1" {
			t.Errorf("%s: session %+v, %v", login, got, err)
		}
		if len(got.Agent) != 120 || strings.Contains(got.Agent, "\x1b") {
			t.Errorf("the browser's words are kept as %q", got.Agent)
		}
	}
	for what, c := range map[string][2]string{"wrong passphrase": {"alice", "correct horse batterY"}, "no passphrase": {"alice", ""}, "nobody": {"bob", phrase}, "empty": {"", ""}} {
		_, err := o.signIn(s, c[0], c[1], "")
		o.want(what, err, owners.ErrCredentials)
	}
}

// The answer to an unknown user takes as long as that to a wrong passphrase.
func TestUnknownUserTakesAsLong(t *testing.T) {
	o := newOffice(t)
	s := o.withPassphrase()
	known, unknown := time.Hour, time.Hour
	for range 6 { // in turn: whatever else the machine does hits both
		for login, least := range map[string]*time.Duration{"alice": &known, "somebody": &unknown} {
			began := time.Now()
			_, err := o.signIn(s, login, "a wrong passphrase", "")
			o.want(login, err, owners.ErrCredentials)
			*least = min(*least, time.Since(began))
		}
	}
	t.Logf("known %v, unknown %v", known, unknown)
	if unknown < known/3 || known < unknown/3 { // the machine may be busy
		t.Errorf("a wrong passphrase takes %v, an unknown user %v", known, unknown)
	}
}

// Guesses are limited by account and by address, in every process and after a restart,
// and who comes by a link is not in their way.
func TestGuessing(t *testing.T) {
	o := newOffice(t)
	s := o.withPassphrase()
	o.guessed(s, "passphrase:"+o.owner.ID, 8)
	for i := range 2 {
		_, err := o.signIn([]*owners.Service{s, o.process()}[i%2], "alice", fmt.Sprintf("guess %d", i), "")
		o.want("a guess", err, owners.ErrCredentials)
	}
	elsewhere := owners.From{Door: "api", Address: "192.0.2.7"}
	for _, process := range []*owners.Service{s, o.process()} {
		_, err := o.signIn(process, "alice", phrase, "")
		o.want("the right one after too many", err, identity.ErrTooMany)
		_, err = process.SignIn(t.Context(), elsewhere, owners.Credentials{Login: o.owner.ID, Passphrase: phrase})
		o.want("from elsewhere, by id", err, identity.ErrTooMany)
	}
	o.byLink(s)
	o.now = o.now.Add(time.Minute)
	if _, err := o.signIn(s, "alice", phrase, ""); err != nil {
		t.Fatal(err)
	}
	// From one address at many accounts.
	o.guessed(s, "address:"+here.Address, 47)
	for i, want := range []error{owners.ErrCredentials, identity.ErrTooMany} {
		_, err := o.signIn(s, fmt.Sprintf("user%d", i), "x", "")
		o.want("at many accounts", err, want)
	}
	if _, err := s.SignIn(t.Context(), elsewhere, owners.Credentials{Login: "alice", Passphrase: phrase}); err != nil {
		t.Errorf("from elsewhere: %v", err)
	}
}

func TestSessionsEnd(t *testing.T) {
	o := newOffice(t)
	s := o.withPassphrase()
	other := o.process()
	a, b, c := o.byLink(s), o.byLink(s), o.byLink(s)
	if err := s.SignOut(t.Context(), here, a.Session); err != nil {
		t.Fatal(err)
	}
	if o.good(s, a.Token) || o.good(other, a.Token) || !o.good(other, b.Token) {
		t.Error("signing out ends the session, in every process, and no other")
	}
	o.want("signing out twice", s.SignOut(t.Context(), here, a.Session), identity.ErrNotFound)
	if err := other.Revoke(t.Context(), "cli:alice", o.owner.ID, b.Session.ID); err != nil || o.good(s, b.Token) {
		t.Errorf("a revoked session is good: %v", err)
	}
	o.want("revoking another's", s.Revoke(t.Context(), "portal:bob", "somebody", c.Session.ID), identity.ErrNotFound)
	o.now = c.Session.Expires.Add(-time.Millisecond)
	if !o.good(s, c.Token) {
		t.Error("a session ends before its time")
	}
	o.now = c.Session.Expires
	if o.good(s, c.Token) {
		t.Error("a session is good after its time")
	}
}

// A token is worth nothing but for the row in the store: not another key's, not one for
// another purpose, not one that names somebody else's session.
func TestForgedSessions(t *testing.T) {
	o := newOffice(t)
	s := o.process()
	in := o.byLink(s)
	if !o.good(s, in.Token) {
		t.Fatal("the session itself")
	}
	foreign, err := proof.NewKey(o.now)
	if err != nil {
		t.Fatal(err)
	}
	say := proof.Session{ID: in.Session.ID, UserID: o.owner.ID, Roles: []string{"admin"}, IssuedAt: o.now, Expires: o.now.Add(time.Hour)}
	other, unknown := say, say
	other.UserID, unknown.ID = "somebody", "never was"
	for what, forge := range map[string]func() (string, error){
		"a foreign key":     func() (string, error) { return foreign.SignSession(say) },
		"another's session": func() (string, error) { return o.key.SignSession(other) },
		"no session":        func() (string, error) { return o.key.SignSession(unknown) },
		"an approval": func() (string, error) {
			return o.key.SignApproval(proof.ApprovalToken{RequestID: in.Session.ID, OwnerID: o.owner.ID, IssuedAt: o.now, Expires: o.now.Add(time.Hour)})
		},
		"the id":  func() (string, error) { return in.Session.ID, nil },
		"nothing": func() (string, error) { return "", nil },
	} {
		token, err := forge()
		if err != nil {
			t.Fatal(err)
		}
		if o.good(s, token) {
			t.Errorf("%s is taken for a session", what)
		}
	}
	// Roles are looked up, whatever the token says.
	bob, err := s.AddUser(t.Context(), "cli:alice", "bob", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	invite, err := s.Invite(t.Context(), "cli:alice", bob.ID)
	if err != nil {
		t.Fatal(err)
	}
	mine, err := s.SetUp(t.Context(), here, invite.Token, phrase, "")
	if err != nil {
		t.Fatal(err)
	}
	boast := proof.Session{ID: mine.Session.ID, UserID: bob.ID, Roles: []string{"admin"}, IssuedAt: o.now, Expires: o.now.Add(time.Hour)}
	token, err := o.key.SignSession(boast)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Session(t.Context(), token); err != nil || got.Admin() {
		t.Errorf("a token made an admin: %+v, %v", got, err)
	}
}

func TestRefresh(t *testing.T) {
	o := newOffice(t)
	s := o.process()
	in := o.byLink(s)
	first := in
	for n := 0; o.now.Before(first.Session.BeganAt.Add(owners.StayFor)); n++ {
		next, err := s.Refresh(t.Context(), here, in.Session)
		if err != nil {
			t.Fatal(err)
		}
		if o.good(s, in.Token) || !o.good(s, next.Token) {
			t.Fatal("the new session takes the place of the former one")
		}
		o.want("refreshing what is over", func() error { _, err := s.Refresh(t.Context(), here, in.Session); return err }(), owners.ErrSession)
		if next.Session.Expires.After(first.Session.BeganAt.Add(owners.StayFor)) {
			t.Fatalf("a session until %s that began at %s", next.Session.Expires, first.Session.BeganAt)
		}
		in = next
		o.now = o.now.Add(11 * time.Hour)
	}
	if o.good(s, in.Token) {
		t.Error("sessions follow each other for ever")
	}
	_, err := s.Refresh(t.Context(), here, in.Session)
	o.want("after seven days", err, owners.ErrStayed)
}

func TestDisabled(t *testing.T) {
	o := newOffice(t)
	s := o.withPassphrase()
	bob, err := s.AddUser(t.Context(), "cli:alice", "bob", "", []string{identity.RoleAdmin})
	if err != nil {
		t.Fatal(err)
	}
	invite, err := s.Invite(t.Context(), "cli:alice", bob.ID)
	if err != nil {
		t.Fatal(err)
	}
	in, err := s.SetUp(t.Context(), here, invite.Token, phrase, "")
	if err != nil {
		t.Fatal(err)
	}
	link, err := s.MakeLink(t.Context(), "cli:alice", bob.ID)
	if err != nil {
		t.Fatal(err)
	}
	status := identity.UserDisabled
	if _, err := o.process().SetUser(t.Context(), "cli:alice", bob.ID, owners.Patch{Status: &status}); err != nil {
		t.Fatal(err)
	}
	if o.good(s, in.Token) {
		t.Error("who is disabled is signed in")
	}
	_, err = o.signIn(s, "bob", phrase, "")
	o.want("by passphrase", err, owners.ErrCredentials)
	_, err = s.Redeem(t.Context(), here, link, "")
	o.want("by link", err, owners.ErrLink)
	status = identity.UserActive
	if _, err := s.SetUser(t.Context(), "cli:alice", bob.ID, owners.Patch{Status: &status}); err != nil {
		t.Fatal(err)
	}
	if o.good(s, in.Token) {
		t.Error("a session of before has come back")
	}
	if _, err = o.signIn(s, "bob", phrase, ""); err != nil {
		t.Error(err)
	}
	status = identity.UserDisabled
	_, err = s.SetUser(t.Context(), "cli:bob", o.owner.ID, owners.Patch{Status: &status})
	o.want("the installation's owner", err, owners.ErrInstallation)
}

func TestLinks(t *testing.T) {
	o := newOffice(t)
	s := o.process()
	token, err := s.MakeLink(t.Context(), "cli:alice", o.owner.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.SetUp(t.Context(), here, token, phrase, ""); !errors.Is(err, owners.ErrLink) {
		t.Errorf("a sign-in link sets a passphrase: %v", err)
	}
	var good sync.Map
	var all sync.WaitGroup
	for i, process := range []*owners.Service{s, o.process(), s, o.process()} {
		all.Go(func() {
			if _, err := process.Redeem(t.Context(), here, token, ""); err == nil {
				good.Store(i, true)
			} else if !errors.Is(err, owners.ErrLink) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	n := 0
	good.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Errorf("one link was redeemed %d times", n)
	}
	late, err := s.MakeLink(t.Context(), "cli:alice", o.owner.ID)
	if err != nil {
		t.Fatal(err)
	}
	o.now = o.now.Add(owners.LinkFor)
	_, err = s.Redeem(t.Context(), here, late, "")
	o.want("late", err, owners.ErrLink)
}

// With a second factor neither passphrase nor link is enough, and a wrong code does not
// use up the link; but codes cannot be guessed by it.
func TestSecondFactor(t *testing.T) {
	o := newOffice(t)
	s := o.withPassphrase()
	before := o.byLink(s)
	self := o.byLink(s)
	made := o.enrol(s, self.Session)
	if o.good(s, before.Token) || !o.good(s, self.Token) {
		t.Error("sessions without the factor end when it is set up, but for the one that did it")
	}
	_, err := o.signIn(s, "alice", phrase, "")
	o.want("passphrase alone", err, identity.ErrFactorRequired)
	_, err = o.signIn(s, "alice", "wrong one", o.code(made))
	o.want("code alone", err, owners.ErrCredentials)
	code := o.code(made)
	if _, err = o.signIn(s, "alice", phrase, code); err != nil {
		t.Fatal(err)
	}
	_, err = o.signIn(o.process(), "alice", phrase, code)
	o.want("the same code", err, identity.ErrFactorWrong)
	if _, err = o.signIn(s, "alice", phrase, made.BackupCodes[0]); err != nil {
		t.Fatal(err)
	}
	_, err = o.signIn(s, "alice", phrase, made.BackupCodes[0])
	o.want("the same backup code", err, identity.ErrFactorWrong)

	link, err := s.MakeLink(t.Context(), "cli:alice", o.owner.ID)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Redeem(t.Context(), here, link, "")
	o.want("link alone", err, identity.ErrFactorRequired)
	_, err = s.Redeem(t.Context(), here, link, "000000")
	o.want("link and wrong code", err, identity.ErrFactorWrong)
	for range 3 {
		if _, err := s.Redeem(t.Context(), here, link, "000000"); err == nil {
			t.Fatal("a guess was right")
		}
	}
	_, err = o.process().Redeem(t.Context(), here, link, o.code(made))
	o.want("after guessing", err, identity.ErrTooMany)
	o.now = o.now.Add(15 * time.Minute)
	if link, err = s.MakeLink(t.Context(), "cli:alice", o.owner.ID); err != nil {
		t.Fatal(err)
	}
	if _, err = s.Redeem(t.Context(), here, link, o.code(made)); err != nil {
		t.Error(err)
	}
}

// A second factor is replaced and taken away only by who shows it.
func TestFactorChanges(t *testing.T) {
	o := newOffice(t)
	s := o.process()
	self := o.byLink(s).Session
	o.want("nothing to take away", s.DropFactor(t.Context(), here, self, "000000"), identity.ErrNoFactor)
	o.want("nothing to confirm", s.ConfirmFactor(t.Context(), here, self, "000000"), owners.ErrFactorNotSetUp)
	first, err := s.SetUpFactor(t.Context(), here, self, "")
	if err != nil {
		t.Fatal(err)
	}
	o.want("a wrong code", s.ConfirmFactor(t.Context(), here, self, "000000"), identity.ErrFactorWrong)
	o.want("a backup code", s.ConfirmFactor(t.Context(), here, self, first.BackupCodes[0]), identity.ErrFactorWrong)
	if on, err := s.Factors.Enrolled(t.Context(), o.owner.ID); err != nil || on {
		t.Errorf("it counts before it is confirmed: %t, %v", on, err)
	}
	code := o.code(first)
	if err := s.ConfirmFactor(t.Context(), here, self, code); err != nil {
		t.Fatal(err)
	}
	o.want("the code of the set-up, again", func() error { _, err := s.Factors.Verify(t.Context(), o.owner.ID, code); return err }(), identity.ErrFactorWrong)

	_, err = s.SetUpFactor(t.Context(), here, self, "")
	o.want("replacing without", err, identity.ErrFactorRequired)
	_, err = s.SetUpFactor(t.Context(), here, self, "000000")
	o.want("replacing by a wrong code", err, identity.ErrFactorWrong)
	o.want("dropping without", s.DropFactor(t.Context(), here, self, ""), identity.ErrFactorRequired)
	o.want("dropping by a wrong code", s.DropFactor(t.Context(), here, self, "000000"), identity.ErrFactorWrong)
	second, err := s.SetUpFactor(t.Context(), here, self, first.BackupCodes[1])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Factors.Verify(t.Context(), o.owner.ID, o.code(first)); err != nil {
		t.Errorf("the former one counts until the new one is confirmed: %v", err)
	}
	if err := s.ConfirmFactor(t.Context(), here, self, o.code(second)); err != nil {
		t.Fatal(err)
	}
	_, err = s.Factors.Verify(t.Context(), o.owner.ID, first.BackupCodes[2])
	o.want("a former backup code", err, identity.ErrFactorWrong)
	o.now = o.now.Add(time.Hour)
	_, err = s.Factors.Verify(t.Context(), o.owner.ID, o.code(first))
	o.want("a code of the former one", err, identity.ErrFactorWrong)
	if err := s.DropFactor(t.Context(), here, self, o.code(second)); err != nil {
		t.Fatal(err)
	}
	if on, err := s.Factors.Enrolled(t.Context(), o.owner.ID); err != nil || on {
		t.Errorf("it was taken away: %t, %v", on, err)
	}
	late, err := s.SetUpFactor(t.Context(), here, self, "")
	if err != nil {
		t.Fatal(err)
	}
	o.now = o.now.Add(15 * time.Minute)
	o.want("confirming late", s.ConfirmFactor(t.Context(), here, self, o.code(late)), owners.ErrFactorNotSetUp)
}

func TestPassphraseChanges(t *testing.T) {
	o := newOffice(t)
	s := o.withPassphrase()
	self, other := o.byLink(s), o.byLink(s)
	o.want("without the present one", s.SetPassphrase(t.Context(), here, self.Session, "", "another passphrase"), owners.ErrCredentials)
	for _, next := range []string{"", "short", strings.Repeat("x", 2000)} {
		var field *identity.FieldError
		if err := s.SetPassphrase(t.Context(), here, self.Session, phrase, next); !errors.As(err, &field) || field.Field != "passphrase" {
			t.Errorf("%.10q: want an error of the field passphrase, got %v", next, err)
		}
	}
	if err := s.SetPassphrase(t.Context(), here, self.Session, phrase, "another passphrase"); err != nil {
		t.Fatal(err)
	}
	if !o.good(s, self.Token) || o.good(s, other.Token) {
		t.Error("other sessions end, and this one does not")
	}
	_, err := o.signIn(s, "alice", phrase, "")
	o.want("the former one", err, owners.ErrCredentials)
	if _, err := o.signIn(s, "alice", "another passphrase", ""); err != nil {
		t.Error(err)
	}
	o.guessed(s, "passphrase:"+o.owner.ID, 9)
	o.want("a guess", s.SetPassphrase(t.Context(), here, self.Session, "guess", "yet another one"), owners.ErrCredentials)
	o.want("guessing by a session", s.SetPassphrase(t.Context(), here, self.Session, "another passphrase", "yet another one"), identity.ErrTooMany)
}

// An admin gives an account back; its owner is told, and nothing of before is good.
func TestReset(t *testing.T) {
	o := newOffice(t)
	s := o.withPassphrase()
	self := o.byLink(s)
	made := o.enrol(s, self.Session)
	void, err := s.MakeLink(t.Context(), "cli:alice", o.owner.ID)
	if err != nil {
		t.Fatal(err)
	}
	invite, err := s.Reset(t.Context(), "portal:mallory", o.owner.ID)
	if err != nil {
		t.Fatal(err)
	}
	u, err := s.User(t.Context(), o.owner.ID)
	if err != nil || u.HasPassphrase || u.HasFactor || !strings.Contains(u.Notice, "portal:mallory reset your access") {
		t.Errorf("after the reset: %+v, %v", u, err)
	}
	if reset, err := o.store().LastReset(t.Context(), o.owner.ID); err != nil || reset.By != "portal:mallory" || !reset.At.Equal(o.now) {
		t.Errorf("the reset: %+v, %v", reset, err)
	}
	if o.good(s, self.Token) {
		t.Error("a session of before is good")
	}
	_, err = s.Redeem(t.Context(), here, void, "")
	o.want("a link of before", err, owners.ErrLink)
	_, err = o.signIn(s, "alice", phrase, made.BackupCodes[0])
	o.want("the passphrase of before", err, owners.ErrSetupRequired)
	in, err := s.SetUp(t.Context(), here, invite.Token, "a new passphrase", "")
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.SetUp(t.Context(), here, invite.Token, "a new passphrase", "")
	o.want("the set-up link again", err, owners.ErrLink)
	o.want("dismissing another notice", s.DismissNotice(t.Context(), here, in.Session, "something"), owners.ErrOvertaken)
	if err := s.DismissNotice(t.Context(), here, in.Session, u.Notice); err != nil {
		t.Fatal(err)
	}
	if u, err = s.User(t.Context(), o.owner.ID); err != nil || u.Notice != "" {
		t.Errorf("dismissed: %+v, %v", u, err)
	}
}

// late is a store in which something happens between a check and its commit.
type late struct {
	owners.Store
	between func()
}

func (l *late) Change(ctx context.Context, c owners.Change) error {
	if f := l.between; f != nil && c.Start != nil {
		l.between = nil
		f()
	}
	return l.Store.Change(ctx, c)
}

// A sign-in that was under way when the access was reset, the passphrase changed, the
// second factor set up, or the user disabled, comes too late.
func TestSignInIsOvertaken(t *testing.T) {
	for name, overtake := range map[string]struct {
		do   func(o *office, s *owners.Service, self identity.Session) error
		want error
	}{
		"reset": {func(o *office, s *owners.Service, _ identity.Session) error {
			_, err := s.Reset(o.t.Context(), "cli:bob", o.owner.ID)
			return err
		}, owners.ErrCredentials},
		"changed": {func(o *office, s *owners.Service, self identity.Session) error {
			return s.SetPassphrase(o.t.Context(), here, self, phrase, "another passphrase")
		}, owners.ErrCredentials},
		"factor": {func(o *office, s *owners.Service, self identity.Session) error {
			o.enrol(s, self)
			return nil
		}, identity.ErrFactorRequired},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t)
			s := o.withPassphrase()
			self := o.byLink(s).Session
			other := o.process()
			s.Store = &late{s.Store, func() {
				if err := overtake.do(o, other, self); err != nil {
					t.Error(err)
				}
			}}
			_, err := o.signIn(s, "alice", phrase, "")
			o.want("the sign-in", err, overtake.want)
			if list, err := s.Sessions(t.Context(), o.owner.ID); err != nil || len(list) > 1 {
				t.Errorf("%d sessions are left, %v", len(list), err)
			}
		})
	}
}

// A set-up link needs the second factor too, tells an owner who has a passphrase, and
// voids the one before.
func TestInvite(t *testing.T) {
	o := newOffice(t)
	s := o.withPassphrase()
	made := o.enrol(s, o.byLink(s).Session)
	former, err := s.Invite(t.Context(), "cli:alice", o.owner.ID)
	if err != nil {
		t.Fatal(err)
	}
	invite, err := s.Invite(t.Context(), "cli:alice", o.owner.ID)
	if err != nil {
		t.Fatal(err)
	}
	u, err := s.User(t.Context(), o.owner.ID)
	if err != nil || strings.Count(u.Notice, "made a link") != 2 {
		t.Errorf("notice: %+v, %v", u, err)
	}
	_, err = s.SetUp(t.Context(), here, former.Token, "a new passphrase", o.code(made))
	o.want("the former one", err, owners.ErrLink)
	_, err = s.SetUp(t.Context(), here, invite.Token, "a new passphrase", "")
	o.want("without the code", err, identity.ErrFactorRequired)
	for what, c := range map[string]struct {
		id, token string
		want      error
	}{
		"unknown": {"never was", invite.Token, owners.ErrInviteNotFound}, "wrong token": {invite.ID, former.Token, owners.ErrInviteToken},
	} {
		_, err := s.SetUpByID(t.Context(), here, c.id, c.token, "a new passphrase", "")
		o.want(what, err, c.want)
	}
	if _, err := s.SetUpByID(t.Context(), here, invite.ID, invite.Token, "a new passphrase", o.code(made)); err != nil {
		t.Fatal(err)
	}
	_, err = s.SetUpByID(t.Context(), here, invite.ID, invite.Token, "a new passphrase", "")
	o.want("used", err, owners.ErrInviteUsed)
	if invite, err = s.Invite(t.Context(), "cli:alice", o.owner.ID); err != nil {
		t.Fatal(err)
	}
	o.now = o.now.Add(owners.SetupFor)
	_, err = s.SetUpByID(t.Context(), here, invite.ID, invite.Token, "a new passphrase", "")
	o.want("late", err, owners.ErrInviteExpired)
}

func TestInitialSetup(t *testing.T) {
	o := newOffice(t)
	s := o.process()
	_, err := s.InitialSetup(t.Context(), here, "oll_guess", "Ann", phrase)
	o.want("without a link", err, owners.ErrLink)
	link, err := s.MakeLink(t.Context(), "cli:alice", o.owner.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.InitialSetup(t.Context(), here, link, "a@b", phrase); err == nil {
		t.Error("a name that is none")
	}
	u, err := s.InitialSetup(t.Context(), here, link, "Ann", phrase)
	if err != nil || u.Name != "Ann" || u.ID != o.owner.ID {
		t.Fatalf("%+v, %v", u, err)
	}
	_, err = s.InitialSetup(t.Context(), here, link, "Ann", phrase)
	o.want("twice", err, owners.ErrSetUp)
	if _, err := o.signIn(s, "ann", phrase, ""); err != nil {
		t.Error(err)
	}
}

// No secret is in the log, and of one that must be stored only the secret of the
// authenticator app is in the store.
func TestSecretsAreNotKept(t *testing.T) {
	o := newOffice(t)
	s := o.withPassphrase()
	link, err := s.MakeLink(t.Context(), "cli:alice", o.owner.ID)
	if err != nil {
		t.Fatal(err)
	}
	in, err := s.Redeem(t.Context(), here, link, "")
	if err != nil {
		t.Fatal(err)
	}
	made := o.enrol(s, in.Session)
	code := o.code(made)
	if _, err := o.signIn(s, "alice", phrase, code); err != nil {
		t.Fatal(err)
	}
	if _, err := o.signIn(s, "alice", phrase, made.BackupCodes[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := s.SetProfile(t.Context(), "portal:alice", o.owner.ID, "alice", "hidden@example.com"); err != nil {
		t.Fatal(err)
	}
	invite, err := s.Reset(t.Context(), "cli:alice", o.owner.ID)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := s.Store.PassphraseHash(t.Context(), o.owner.ID)
	if err != nil {
		t.Fatal(err)
	}
	_, entries, err := o.store().Unsequenced(t.Context(), 1000)
	if err != nil || len(entries) < 8 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	secrets := []string{phrase, link, in.Token, made.Secret, code, invite.Token, "argon2", "hidden@example.com"}
	secrets = append(secrets, made.BackupCodes...)
	if hash != "" {
		secrets = append(secrets, hash)
	}
	for _, e := range entries {
		for _, secret := range secrets {
			if strings.Contains(string(e), secret) {
				t.Errorf("the log has %q: %s", secret, e)
			}
		}
	}
}
