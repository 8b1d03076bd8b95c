package portal

import (
	"errors"
	"html/template"
	"net/http"
	"strings"

	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/owners"
)

type profilePage struct {
	page
	User     identity.User
	Codes    int // backup codes that are left
	Sessions []sessionRow
	Done     string // what was done
	At       string // the part of the page that Fault is about
	Fault    string
}

type sessionRow struct {
	identity.Session
	Current bool
}

// done says what was done, after the redirect that followed it.
var done = map[string]string{
	"profile":    "Your name and e-mail address are saved.",
	"passphrase": "Your passphrase is set. All other sessions have ended.",
	"factor":     "Your second factor is set up. From now on it is needed to sign in, by link too. All other sessions have ended.",
	"dropped":    "Your second factor is gone.",
	"session":    "The session has ended.",
	"sessions":   "All other sessions have ended.",
	"user":       "The user is saved.",
}

func (p *portal) profile(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	return p.showProfile(w, r, s, http.StatusOK, profilePage{Done: done[r.URL.Query().Get("done")]})
}

func (p *portal) showProfile(w http.ResponseWriter, r *http.Request, s identity.Session, status int, data profilePage) (err error) {
	if data.page, err = p.page(r, s, "Your account", "profile"); err != nil {
		return err
	}
	if data.User, err = p.Owners.User(r.Context(), s.OwnerID); err != nil {
		return err
	}
	if data.Codes, err = p.Owners.BackupCodesLeft(r.Context(), s.OwnerID); err != nil {
		return err
	}
	all, err := p.Owners.Sessions(r.Context(), s.OwnerID)
	if err != nil {
		return err
	}
	for _, one := range all {
		data.Sessions = append(data.Sessions, sessionRow{one, one.ID == s.ID})
	}
	return p.render(w, status, "profile.html", data)
}

// words says what was wrong to who is signed in; empty: it is not to be told. A refusal
// is recorded.
func (p *portal) words(r *http.Request, err error) (status int, text string) {
	if field := new(identity.FieldError); errors.As(err, &field) {
		return http.StatusBadRequest, "This " + field.Field + " does not do: " + field.Problem + "."
	}
	if errors.Is(err, owners.ErrCredentials) {
		p.refused(r, owners.Refusal{Code: "INVALID_CREDENTIALS", Why: "a wrong present passphrase"})
		return http.StatusForbidden, "This is not your present passphrase."
	}
	if refusal, told := p.Owners.Refusal(err); told {
		p.refused(r, refusal)
		return max(refusal.Status, http.StatusForbidden), refusal.Told
	}
	for _, known := range []error{identity.ErrTaken, identity.ErrLastAdmin, identity.ErrNoFactor, owners.ErrInstallation, owners.ErrOvertaken, owners.ErrFactorNotSetUp} {
		if errors.Is(err, known) {
			return http.StatusConflict, "Nothing was done: " + known.Error() + "."
		}
	}
	return 0, ""
}

// after ends a change to the account: the page again, with what was done or why not.
func (p *portal) after(w http.ResponseWriter, r *http.Request, s identity.Session, part, what string, err error) error {
	if err == nil {
		http.Redirect(w, r, "/profile?done="+what+"#"+part, http.StatusSeeOther)
		return nil
	}
	status, text := p.words(r, err)
	if text == "" {
		return err
	}
	return p.showProfile(w, r, s, status, profilePage{At: part, Fault: text})
}

func (p *portal) setProfile(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	if err := parseForm(r); err != nil {
		return err
	}
	_, err := p.Owners.SetProfile(r.Context(), "portal:"+s.Name, s.OwnerID, r.PostForm.Get("name"), r.PostForm.Get("email"))
	return p.after(w, r, s, "name", "profile", err)
}

var errNotTwice = &identity.FieldError{Field: "passphrase", Problem: "the two are not the same"}

func (p *portal) setPassphrase(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	if err := parseForm(r); err != nil {
		return err
	}
	var err error = errNotTwice
	if next := r.PostForm.Get("passphrase"); next == r.PostForm.Get("again") {
		err = p.Owners.SetPassphrase(r.Context(), from(r), s, r.PostForm.Get("present"), next)
	}
	return p.after(w, r, s, "passphrase", "passphrase", err)
}

// factorPage is a second factor that is being set up. What is secret is on it once.
type factorPage struct {
	page
	Made  *owners.FactorSetup // nil: it was shown before
	QR    template.HTML
	Fault string
}

func (p *portal) setUpFactor(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	if err := parseForm(r); err != nil {
		return err
	}
	made, err := p.Owners.SetUpFactor(r.Context(), from(r), s, r.PostForm.Get("code"))
	if err != nil {
		return p.after(w, r, s, "factor", "", err)
	}
	return p.showFactor(w, r, s, http.StatusOK, factorPage{Made: &made, QR: template.HTML(made.QR.SVG())}) // of modules that we draw
}

func (p *portal) showFactor(w http.ResponseWriter, r *http.Request, s identity.Session, status int, data factorPage) (err error) {
	if data.page, err = p.page(r, s, "Set up a second factor", "profile"); err != nil {
		return err
	}
	return p.render(w, status, "factor.html", data)
}

func (p *portal) confirmFactor(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	if err := parseForm(r); err != nil {
		return err
	}
	err := p.Owners.ConfirmFactor(r.Context(), from(r), s, r.PostForm.Get("code"))
	if errors.Is(err, identity.ErrFactorWrong) || errors.Is(err, identity.ErrTooMany) {
		status, text := p.words(r, err)
		return p.showFactor(w, r, s, status, factorPage{Fault: text})
	}
	return p.after(w, r, s, "factor", "factor", err)
}

func (p *portal) dropFactor(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	if err := parseForm(r); err != nil {
		return err
	}
	return p.after(w, r, s, "factor", "dropped", p.Owners.DropFactor(r.Context(), from(r), s, r.PostForm.Get("code")))
}

// revokeSession ends one session, or all but this one.
func (p *portal) revokeSession(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	if err := parseForm(r); err != nil {
		return err
	}
	id := r.PostForm.Get("id")
	if id == "" {
		return p.after(w, r, s, "sessions", "sessions", p.Owners.RevokeAll(r.Context(), "portal:"+s.Name, s.OwnerID, s.ID))
	}
	err := p.Owners.Revoke(r.Context(), "portal:"+s.Name, s.OwnerID, id)
	if errors.Is(err, identity.ErrNotFound) {
		err = nil // it is over, which was wanted
	}
	return p.after(w, r, s, "sessions", "session", err)
}

func (p *portal) dismissNotice(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	if err := parseForm(r); err != nil {
		return err
	}
	shown := strings.ReplaceAll(r.PostForm.Get("shown"), "\r\n", "\n") // as browsers send the ends of lines
	err := p.Owners.DismissNotice(r.Context(), from(r), s, shown)
	if err != nil && !errors.Is(err, owners.ErrOvertaken) { // then there is more to see
		return err
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
	return nil
}

// setUpForm is the page of a set-up link.
type setUpForm struct {
	page
	Token     string
	Name      string
	NeedsCode bool
	Fault     string
}

// setUpPage shows the form of a set-up link that is good; only the POST uses it.
func (p *portal) setUpPage(w http.ResponseWriter, r *http.Request) error {
	return p.showSetUp(w, r, http.StatusOK, r.PathValue("token"), "")
}

func (p *portal) showSetUp(w http.ResponseWriter, r *http.Request, status int, token, fault string) error {
	look, err := p.Owners.LookAt(r.Context(), token, identity.LinkSetup)
	if errors.Is(err, owners.ErrLink) {
		return p.badSetUpLink(r, err)
	}
	if err != nil {
		return err
	}
	return p.render(w, status, "set-up.html", setUpForm{page{Title: "Set your passphrase", Now: p.Now()}, token, look.Name, look.NeedsCode, fault})
}

func (p *portal) badSetUpLink(r *http.Request, err error) error {
	refusal, _ := p.Owners.Refusal(err)
	p.refused(r, refusal)
	return &pageError{status: http.StatusForbidden, Title: "This link no longer works", SignIn: "/sign-in",
		Text: "A set-up link works once and for a day. Ask an admin for a new one, who runs:", Hint: "openleash admin link"}
}

func (p *portal) setUp(w http.ResponseWriter, r *http.Request) error {
	if err := parseForm(r); err != nil {
		return err
	}
	form := r.PostForm
	token, next := form.Get("token"), form.Get("passphrase")
	var in owners.SignedIn
	var err error = errNotTwice
	if next == form.Get("again") {
		in, err = p.Owners.SetUp(r.Context(), from(r), token, next, form.Get("code"))
	}
	switch {
	case err == nil:
		p.enter(w, r, in, "/")
		return nil
	case errors.Is(err, owners.ErrLink):
		return p.badSetUpLink(r, err)
	}
	status, text := p.words(r, err)
	if text == "" {
		return err
	}
	return p.showSetUp(w, r, status, token, text)
}

// browsers and systems are looked for in what a browser says of itself, in this order:
// each claims to be those after it too.
var (
	browsers = [][2]string{{"Edg/", "Edge"}, {"OPR/", "Opera"}, {"Firefox/", "Firefox"}, {"Chrome/", "Chrome"}, {"Safari/", "Safari"}, {"curl/", "curl"}}
	systems  = [][2]string{{"Windows", "Windows"}, {"Android", "Android"}, {"iPhone", "iPhone"}, {"iPad", "iPad"}, {"CrOS", "ChromeOS"}, {"Mac OS X", "macOS"}, {"Linux", "Linux"}}
)

// browser names a browser in a few words, or repeats what it says.
func browser(agent string) string {
	name, system := firstIn(agent, browsers), firstIn(agent, systems)
	switch {
	case agent == "":
		return "A program"
	case name == "":
		return agent
	case system == "":
		return name
	}
	return name + " on " + system
}

func firstIn(agent string, known [][2]string) string {
	for _, k := range known {
		if strings.Contains(agent, k[0]) {
			return k[1]
		}
	}
	return ""
}
