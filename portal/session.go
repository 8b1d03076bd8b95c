package portal

import (
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/internal/door"
)

// sessionFor is how long a sign-in lasts.
const sessionFor = 12 * time.Hour

// SignInURL is the one-time link for a token (identity.NewToken, PutLink). next
// is the page to go on to, or empty.
func SignInURL(base, token, next string) string {
	link := base + "/sign-in/" + url.PathEscape(token)
	if next != "" {
		link += "?next=" + url.QueryEscape(next)
	}
	return link
}

type signInPage struct {
	page
	Token string
	Next  string
}

// signInPage shows one button: only the POST redeems the link, so that whatever
// fetches links to look at them does not use it up.
func (p *portal) signInPage(w http.ResponseWriter, r *http.Request) error {
	data := signInPage{page: page{Title: "Sign in", Now: p.Now()}, Token: r.PathValue("token"), Next: nextPath(r.URL.Query().Get("next"))}
	return p.render(w, http.StatusOK, "sign-in.html", data)
}

// nextPath is where to go after sign-in: a page of ours, or the inbox.
func nextPath(s string) string {
	if door.LocalPath(s) {
		return s
	}
	return "/"
}

func (p *portal) signIn(w http.ResponseWriter, r *http.Request) error {
	if err := parseForm(r); err != nil {
		return err
	}
	now := p.Now()
	session, hash := identity.NewToken("ols_")
	s, err := p.Store.RedeemLink(r.Context(), identity.HashToken(r.PostForm.Get("token")), hash, now, now.Add(sessionFor))
	if errors.Is(err, identity.ErrNotFound) {
		return p.badLink(r)
	}
	if err != nil {
		return err
	}
	if err := p.Service.Record(r.Context(), audit.Entry{Event: "portal.signed_in", ActorType: "owner", ActorID: "portal:" + s.Name, OwnerID: s.OwnerID}); err != nil {
		return errors.Join(err, p.Store.EndSession(r.Context(), hash)) // what is not recorded is not done
	}
	http.SetCookie(w, p.newCookie(session, s.Expires))
	http.Redirect(w, r, nextPath(r.PostForm.Get("next")), http.StatusSeeOther)
	return nil
}

// badLink refuses a link, and records that it was tried.
func (p *portal) badLink(r *http.Request) error {
	p.refused(r, "INVALID_LINK", "a sign-in link that was used, has expired, or never was")
	return &pageError{status: http.StatusForbidden, Title: "This link no longer works",
		Text: "A sign-in link works once and only for a short time. Make a new one in a terminal:", Hint: "openleash open"}
}

// refused records that somebody was not let in.
func (p *portal) refused(r *http.Request, code, why string) {
	if err := p.Service.Refused(authz.Access{Door: "portal", Code: code, Why: why, From: door.From(r)}); err != nil {
		p.Log.Error().Err(err).Msg("portal: a refused sign-in could not be recorded")
	}
}

func (p *portal) newCookie(value string, expires time.Time) *http.Cookie {
	return &http.Cookie{
		Name: p.cookie, Value: value, Path: "/", Expires: expires,
		HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: p.secure,
	}
}

func (p *portal) signOut(w http.ResponseWriter, r *http.Request) error {
	if err := p.endSession(r); err != nil {
		return err
	}
	gone := p.newCookie("", time.Unix(1, 0))
	gone.MaxAge = -1
	http.SetCookie(w, gone)
	http.Redirect(w, r, "/", http.StatusSeeOther)
	return nil
}

// endSession ends the session that the cookie names, if there is one, also when that
// cannot be recorded.
func (p *portal) endSession(r *http.Request) error {
	c, err := r.Cookie(p.cookie)
	if err != nil {
		return nil
	}
	hash := identity.HashToken(c.Value)
	s, err := p.Store.Session(r.Context(), hash, p.Now())
	if errors.Is(err, identity.ErrNotFound) {
		return nil
	}
	if err == nil {
		err = p.Service.Record(r.Context(), audit.Entry{Event: "portal.signed_out", ActorType: "owner", ActorID: "portal:" + s.Name, OwnerID: s.OwnerID})
	}
	return errors.Join(err, p.Store.EndSession(r.Context(), hash))
}

// signedIn serves a page to the owner whose session the cookie names.
func (p *portal) signedIn(h func(w http.ResponseWriter, r *http.Request, s identity.Session) error) http.Handler {
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

func (p *portal) session(r *http.Request) (identity.Session, error) {
	c, err := r.Cookie(p.cookie)
	if err != nil || c.Value == "" {
		return identity.Session{}, signInFirst(r)
	}
	s, err := p.Store.Session(r.Context(), identity.HashToken(c.Value), p.Now())
	if errors.Is(err, identity.ErrNotFound) {
		p.refused(r, "INVALID_SESSION", "a session that has ended, or never was")
		return identity.Session{}, signInFirst(r)
	}
	return s, err
}

// signInFirst asks for a sign-in. A link on another site's page brings no cookie
// (SameSite=Strict); one more click, from our own page, does.
func signInFirst(r *http.Request) error {
	e := &pageError{status: http.StatusUnauthorized, Title: "Please sign in",
		Text: "These pages are for the owner. In a terminal on this machine, run:", Hint: "openleash open"}
	if site := r.Header.Get("Sec-Fetch-Site"); r.Method == http.MethodGet && (site == "cross-site" || site == "same-site") {
		e.Retry = nextPath(r.URL.RequestURI())
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
