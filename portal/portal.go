// Package portal is the owner's pages: what waits for an answer, everything
// that will run if the answer is yes, how full limits are, what servers say of their tools, the log, the policies in
// force, and a playground in which they can be tried; the owner's account, and for
// admins those of others.
//
// It promises:
//
//   - Nothing is shown without a session, and a session comes only from a
//     passphrase or from a one-time link, redeemed by POST (a link that a mail scanner
//     or a preview has fetched is still good), with the second factor of who has one.
//   - What was shown is what is approved: the form carries the hash of the action
//     that the page showed, and an answer to any other action is refused.
//   - What agents and servers say is shown whole and inert: markup is text, and
//     characters that hide, reorder or imitate are shown by their number.
//   - Every page works without script, in light and dark, by keyboard.
//
// The pages are as safe as the door in front of them: put door.Guard there.
package portal

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"time"

	"github.com/rs/zerolog"

	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/internal/door"
	"github.com/openleash/openleash-go/owners"
	"github.com/openleash/openleash-go/policy"
)

//go:embed all:templates static
var files embed.FS

// Store is what the pages read.
type Store interface {
	approvals.Reader
	approvals.GrantReader
	authz.LimitReader
	authz.PinReader
	Search(ctx context.Context, q audit.Query) (audit.Page, error)
}

// Config is what the portal is made of.
type Config struct {
	Service  *authz.Service  // records answers
	Owners   *owners.Service // who is signed in
	Store    Store
	Policies *policy.Keeper // nil: the pages say that no policy is in force
	LogErr   func() error   // why the log cannot be written; nil: it can
	// Isolation says what separates the agents from us: "none", "user" or
	// "machine". Empty: "none".
	Isolation string
	// Base is the address of the portal, as links have it:
	// "http://openleash.localhost:8787". Cookies are Secure when it is https.
	Base string
	Now  func() time.Time // nil: time.Now
	Log  zerolog.Logger
}

type portal struct {
	Config
	cookie string // the cookie's name
	secure bool
	pages  map[string]*template.Template
	static *assets
}

// New returns the handler of all pages.
func New(c Config) (http.Handler, error) {
	if c.Service == nil || c.Owners == nil || c.Store == nil {
		return nil, errors.New("portal: two services and a store are needed")
	}
	base, err := url.Parse(c.Base)
	if err != nil || base.Host == "" || (base.Scheme != "http" && base.Scheme != "https") {
		return nil, fmt.Errorf("portal: base address %q: want http://HOST:PORT", c.Base)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.LogErr == nil {
		c.LogErr = func() error { return nil }
	}
	if c.Isolation == "" {
		c.Isolation = "none"
	}
	p := &portal{Config: c, cookie: owners.Cookie(base.Port()), secure: base.Scheme == "https"}
	if p.static, err = loadAssets(); err != nil {
		return nil, err
	}
	if p.pages, err = p.loadPages(); err != nil {
		return nil, err
	}
	return p.routes(), nil
}

// maxForm is what a form may carry: a token or a hash, a reason, and bounds.
const maxForm = 16 << 10

// routes is every URL of the portal. A request passes door.Pages, then
// door.Body, then signedIn where there is one, then the page.
func (p *portal) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /static/{sum}/{name}", p.static)

	mux.Handle("GET /sign-in", p.open(p.signInPage))
	mux.Handle("GET /sign-in/{token}", p.open(p.linkPage))
	mux.Handle("POST /sign-in", p.open(p.signIn))
	mux.Handle("GET /passkeys", p.signedIn(p.passkeys))
	mux.Handle("POST /passkeys", p.signedIn(p.addPasskey))
	mux.Handle("POST /passkeys/remove", p.signedIn(p.removePasskey))
	mux.Handle("POST /sign-out", p.open(p.signOut))
	mux.Handle("GET /set-up/{token}", p.open(p.setUpPage))
	mux.Handle("POST /set-up", p.open(p.setUp))

	mux.Handle("GET /{$}", p.signedIn(p.inbox))
	mux.Handle("GET /inbox/count", p.signedIn(p.inboxCount))
	mux.Handle("GET /approvals/{id}", p.signedIn(p.approval))
	mux.Handle("GET /approvals/{id}/action.json", p.signedIn(p.actionFile))
	mux.Handle("POST /approvals/{id}/approve", p.signedIn(p.approve))
	mux.Handle("POST /approvals/{id}/deny", p.signedIn(p.deny))
	mux.Handle("POST /approvals/{id}/grant", p.signedIn(p.give))
	mux.Handle("POST /approvals/{id}/withdraw", p.signedIn(p.withdrawApproval))
	mux.Handle("GET /approvals/{id}/rule", p.signedIn(p.rule))
	mux.Handle("POST /approvals/{id}/rule", p.signedIn(p.makeRule))
	mux.Handle("GET /grants", p.signedIn(p.grants))
	mux.Handle("POST /grants/{id}/withdraw", p.signedIn(p.withdrawGrant))
	mux.Handle("GET /limits", p.signedIn(p.ours(p.limits)))
	mux.Handle("GET /limits/charges", p.signedIn(p.ours(p.limitCharges)))
	mux.Handle("POST /limits/release", p.signedIn(p.ours(p.releaseCharge)))
	mux.Handle("GET /tools", p.signedIn(p.ours(p.tools)))
	mux.Handle("GET /tools/show", p.signedIn(p.ours(p.tool)))
	mux.Handle("POST /tools/answer", p.signedIn(p.ours(p.answerTool)))
	mux.Handle("GET /audit", p.signedIn(p.audit))
	mux.Handle("GET /audit/{seq}", p.signedIn(p.auditLine))
	mux.Handle("GET /agents", p.signedIn(p.agents))
	mux.Handle("POST /agents/invite", p.signedIn(p.inviteAgent))
	mux.Handle("POST /agents/{id}/confirm", p.signedIn(p.confirmAgent))
	mux.Handle("POST /agents/{id}/revoke", p.signedIn(p.revokeAgent))
	mux.Handle("GET /policies", p.signedIn(p.ours(p.policies)))
	mux.Handle("GET /playground", p.signedIn(p.ours(p.playground)))

	mux.Handle("GET /profile", p.signedIn(p.profile))
	mux.Handle("POST /profile", p.signedIn(p.setProfile))
	mux.Handle("POST /profile/passphrase", p.signedIn(p.setPassphrase))
	mux.Handle("POST /profile/factor", p.signedIn(p.setUpFactor))
	mux.Handle("POST /profile/factor/confirm", p.signedIn(p.confirmFactor))
	mux.Handle("POST /profile/factor/drop", p.signedIn(p.dropFactor))
	mux.Handle("POST /profile/sessions/revoke", p.signedIn(p.revokeSession))
	mux.Handle("POST /profile/notice", p.signedIn(p.dismissNotice))
	mux.Handle("GET /users", p.signedIn(p.admins(p.users)))
	mux.Handle("POST /users", p.signedIn(p.admins(p.addUser)))
	mux.Handle("POST /users/{id}", p.signedIn(p.admins(p.setUser)))
	mux.Handle("POST /users/{id}/link", p.signedIn(p.admins(p.linkUser)))
	mux.Handle("POST /users/{id}/reset", p.signedIn(p.admins(p.resetUser)))

	mux.Handle("/", p.open(p.noPage))
	form := door.Carries{MediaType: "application/x-www-form-urlencoded", Bytes: maxForm, Refuse: door.Text}
	return door.Pages(door.Body(form, mux))
}
