package portal

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/internal/door"
	"github.com/openleash/openleash-go/owners"
)

// SignInURL is the one-time link for a token (owners.Service.MakeLink). next is the page
// to go on to, or empty.
func SignInURL(base, token, next string) string {
	link := base + "/sign-in/" + url.PathEscape(token)
	if next != "" {
		link += "?next=" + url.QueryEscape(next)
	}
	return link
}

// SetUpURL is the address of a set-up link (owners.Service.Invite).
func SetUpURL(base, token string) string { return base + "/set-up/" + url.PathEscape(token) }

// signInPage is the form of a passphrase, or of a link when there is a token.
type signInPage struct {
	page
	Token     string
	NeedsCode bool
	Login     string
	Next      string
	Passkey   *ceremony
	Fault     string // why it was not good; empty: nothing was tried
}

func (p *portal) signInPage(w http.ResponseWriter, r *http.Request) error {
	data := signInPage{page: page{Title: "Sign in", Now: p.Now()}, Next: nextPath(r.URL.Query().Get("next"))}
	return p.showSignIn(w, r, http.StatusOK, data)
}

// showSignIn offers a passkey too, where no link is followed.
func (p *portal) showSignIn(w http.ResponseWriter, r *http.Request, status int, data signInPage) (err error) {
	if data.Token == "" {
		if data.Passkey, err = p.signInCeremony(r); err != nil {
			return err
		}
	}
	return p.render(w, status, "sign-in.html", data)
}

// linkPage shows one button: only the POST redeems the link, so that whatever
// fetches links to look at them does not use it up.
func (p *portal) linkPage(w http.ResponseWriter, r *http.Request) error {
	data := signInPage{page: page{Title: "Sign in", Now: p.Now()}, Token: r.PathValue("token"), Next: nextPath(r.URL.Query().Get("next"))}
	look, err := p.Owners.LookAt(r.Context(), data.Token, identity.LinkSignIn)
	if err != nil && !errors.Is(err, owners.ErrLink) { // the POST says that it is not good
		return err
	}
	data.NeedsCode = look.NeedsCode
	return p.showSignIn(w, r, http.StatusOK, data)
}

// nextPath is where to go after sign-in: a page of ours, or the inbox.
func nextPath(s string) string {
	if door.LocalPath(s) {
		return s
	}
	return "/"
}

// signIn takes all three forms.
func (p *portal) signIn(w http.ResponseWriter, r *http.Request) error {
	if err := parseForm(r); err != nil {
		return err
	}
	form := r.PostForm
	token, code := form.Get("token"), form.Get("code")
	var in owners.SignedIn
	var err error
	switch {
	case form.Has("token"):
		in, err = p.Owners.Redeem(r.Context(), from(r), token, code)
	case form.Has("passkey"):
		in, err = p.Owners.SignInWithPasskey(r.Context(), from(r), form.Get("ticket"), []byte(form.Get("passkey")))
	default:
		in, err = p.Owners.SignIn(r.Context(), from(r), owners.Credentials{Login: form.Get("login"), Passphrase: form.Get("passphrase"), Code: code})
	}
	if err != nil {
		data := signInPage{page: page{Title: "Sign in", Now: p.Now()}, Token: token, Login: form.Get("login"), Next: nextPath(form.Get("next")), NeedsCode: token != ""}
		return p.notIn(w, r, data, err)
	}
	p.enter(w, r, in, nextPath(form.Get("next")))
	return nil
}

// enter gives the browser its session.
func (p *portal) enter(w http.ResponseWriter, r *http.Request, in owners.SignedIn, next string) {
	http.SetCookie(w, p.newCookie(r, in.Token, in.Session.Expires))
	http.Redirect(w, r, next, http.StatusSeeOther)
}

// from is where a request comes from.
func from(r *http.Request) owners.From {
	return owners.From{Door: "portal", Address: door.From(r), Agent: r.UserAgent(), Host: r.Host}
}

// notIn refuses a sign-in, and records that it was tried. The form comes again, without
// what was secret in it; but for a link that is not good.
func (p *portal) notIn(w http.ResponseWriter, r *http.Request, data signInPage, err error) error {
	refusal, told := p.Owners.Refusal(err)
	if !told {
		return err
	}
	p.refused(r, refusal)
	if errors.Is(err, owners.ErrLink) {
		return &pageError{status: http.StatusForbidden, Title: "This link no longer works",
			Text: "A sign-in link works once and only for a short time. Make a new one in a terminal:", Hint: "openleash open"}
	}
	data.Fault = refusal.Told
	return p.showSignIn(w, r, refusal.Status, data)
}

// refused records that somebody was not let in.
func (p *portal) refused(r *http.Request, why owners.Refusal) {
	if err := p.Service.Refused(authz.Access{Door: "portal", Code: why.Code, Why: why.Why, From: door.From(r)}); err != nil {
		p.Log.Error().Err(err).Msg("portal: a refused sign-in could not be recorded")
	}
}

// newCookie is Secure where the browser has come by TLS, which may end before us.
func (p *portal) newCookie(r *http.Request, value string, expires time.Time) *http.Cookie {
	secure := p.secure || strings.HasPrefix(r.Header.Get("Origin"), "https://")
	return &http.Cookie{
		Name: p.cookie, Value: value, Path: "/", Expires: expires,
		HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: secure,
	}
}

func (p *portal) signOut(w http.ResponseWriter, r *http.Request) error {
	if err := p.endSession(r); err != nil {
		return err
	}
	gone := p.newCookie(r, "", time.Unix(1, 0))
	gone.MaxAge = -1
	http.SetCookie(w, gone)
	http.Redirect(w, r, "/", http.StatusSeeOther)
	return nil
}

// endSession ends the session that the cookie names, if there is one.
func (p *portal) endSession(r *http.Request) error {
	c, err := r.Cookie(p.cookie)
	if err != nil {
		return nil
	}
	s, err := p.Owners.Session(r.Context(), c.Value)
	if err == nil {
		err = p.Owners.SignOut(r.Context(), from(r), s)
	}
	if errors.Is(err, owners.ErrSession) || errors.Is(err, identity.ErrNotFound) {
		return nil // it is over
	}
	return err
}

// signedIn serves a page to the owner whose session the cookie names.
func (p *portal) signedIn(h screen) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := p.session(r)
		if err == nil {
			err = h(w, r, s)
		}
		if err != nil {
			p.fail(w, r, s, err)
		}
	})
}

// A screen is a page for who is signed in.
type screen = func(w http.ResponseWriter, r *http.Request, s identity.Session) error

// isOurs reports whether the installation's agents act for who is signed in.
func (p *portal) isOurs(s identity.Session) bool { return s.OwnerID == p.Service.Owner().ID }

// ours serves a page about the installation's agents to the owner for whom they act.
func (p *portal) ours(h screen) screen {
	return func(w http.ResponseWriter, r *http.Request, s identity.Session) error {
		if !p.isOurs(s) {
			return &pageError{status: http.StatusForbidden, Title: "This is not yours", Text: "The agents of this installation act for another owner.", Retry: "/"}
		}
		return h(w, r, s)
	}
}

// admins serves a page to admins.
func (p *portal) admins(h screen) screen {
	return func(w http.ResponseWriter, r *http.Request, s identity.Session) error {
		if !s.Admin() {
			p.refused(r, owners.Refusal{Code: "ADMIN_REQUIRED", Why: "a user who is no admin"})
			return &pageError{status: http.StatusForbidden, Title: "Only for admins", Text: "This page is for those who see to other users.", Retry: "/"}
		}
		return h(w, r, s)
	}
}

func (p *portal) session(r *http.Request) (identity.Session, error) {
	c, err := r.Cookie(p.cookie)
	if err != nil || c.Value == "" {
		return identity.Session{}, signInFirst(r)
	}
	s, err := p.Owners.Session(r.Context(), c.Value)
	if refusal, told := p.Owners.Refusal(err); told {
		p.refused(r, refusal)
		return identity.Session{}, signInFirst(r)
	}
	return s, err
}

// signInFirst asks for a sign-in. A link on another site's page brings no cookie
// (SameSite=Strict); one more click, from our own page, does.
func signInFirst(r *http.Request) error {
	e := &pageError{status: http.StatusUnauthorized, Title: "Please sign in", SignIn: "/sign-in",
		Text: "Or by a link, which this makes in a terminal where OpenLeash runs:", Hint: "openleash open"}
	if r.Method == http.MethodGet && r.URL.Path != "/inbox/count" {
		next := nextPath(r.URL.RequestURI())
		e.SignIn += "?next=" + url.QueryEscape(next)
		if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" || site == "same-site" {
			e.Retry = next
		}
	}
	return e
}

// parseForm reads a form's fields.
func parseForm(r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return &pageError{status: http.StatusRequestEntityTooLarge, Title: "That was too long", Text: "Go back and send less."}
		}
		return &pageError{status: http.StatusBadRequest, Title: "That form cannot be read", Text: "Go back and try again."}
	}
	return nil
}
