package portal

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"time"

	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/internal/visible"
)

// page is what every page has; the struct of each page embeds it.
type page struct {
	Title     string
	Nav       string // which link of the navigation is this page
	Owner     string // empty: nobody is signed in
	Pending   int
	Health    []healthNote
	Now       time.Time
	Admin     bool   // who sees it is one
	Ours      bool   // it is the installation's owner, for whom its agents act
	Announced string // what an admin did to the account, to be told on every page
	Bare      bool   // there is no passphrase yet
}

// healthNote is one thing that the header says about the installation.
type healthNote struct {
	Level string // "bad" or "note"
	Text  string
	Href  string // where to read more; empty: nowhere
}

// A pageError is an error that the visitor is told, with what to do next.
type pageError struct {
	status int
	Title  string
	Text   string
	Hint   string // a command, or empty
	Retry  string // a path to go on to, or empty
	SignIn string // where to sign in, or empty
}

func (e *pageError) Error() string { return e.Title }

// loadPages parses each page together with the layout and the pieces.
func (p *portal) loadPages() (map[string]*template.Template, error) {
	names, err := fs.Glob(files, "templates/[a-z]*.html")
	if err != nil {
		return nil, err
	}
	pages := map[string]*template.Template{}
	for _, name := range names {
		if path.Base(name) == "layout.html" {
			continue
		}
		t := template.New("layout.html").Option("missingkey=error").Funcs(p.funcs())
		if t, err = t.ParseFS(files, "templates/layout.html", "templates/_*.html", name); err != nil {
			return nil, fmt.Errorf("portal: %w", err)
		}
		pages[path.Base(name)] = t
	}
	return pages, nil
}

func (p *portal) funcs() template.FuncMap {
	return template.FuncMap{
		"asset":   p.static.url,
		"inline":  inlineHTML,
		"lines":   blockHTML,
		"gist":    gist,
		"visible": visible.Line,
		"since":   since,
		"until":   until,
		"local":   func(t time.Time) string { return t.Local().Format("2 Jan 2006, 15:04:05") },
		"stamp":   func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"who":     answerer,
		"status":  statusWord,
		"browser": browser,
	}
}

// page fills in what every page has.
func (p *portal) page(r *http.Request, s identity.Session, title, nav string) (page, error) {
	now := p.Now()
	waiting, err := p.Store.Waiting(r.Context(), s.OwnerID, now)
	if err != nil {
		return page{}, err
	}
	pins, err := p.pinNote(r, s)
	if err != nil {
		return page{}, err
	}
	u, err := p.Owners.User(r.Context(), s.OwnerID)
	if err != nil {
		return page{}, err
	}
	return page{
		Title: title, Nav: nav, Owner: u.Name, Pending: len(waiting), Health: append(pins, p.health()...), Now: now,
		Admin: u.Admin(), Ours: p.isOurs(s), Announced: u.Notice, Bare: !u.HasPassphrase,
	}, nil
}

// health says what the owner should know wherever they are.
func (p *portal) health() []healthNote {
	var notes []healthNote
	switch {
	case p.Policies == nil || p.Policies.Current() == nil:
		notes = append(notes, healthNote{"bad", "No policy in force: everything is refused", "/policies"})
	case p.Policies.Err() != nil:
		notes = append(notes, healthNote{"bad", "Policy files broken: the last good set is in force", "/policies"})
	}
	if p.LogErr() != nil {
		notes = append(notes, healthNote{"bad", "Log cannot be written: nothing is allowed", "/audit"})
	}
	return append(notes, healthNote{"note", "isolation: " + p.Isolation, ""})
}

// render writes a page whole, or an error page, never half of one.
func (p *portal) render(w http.ResponseWriter, status int, name string, data any) error {
	var buf bytes.Buffer
	if err := p.pages[name].Execute(&buf, data); err != nil {
		return fmt.Errorf("rendering %s: %w", name, err)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	w.Write(buf.Bytes()) // the browser may be gone: nobody is left to tell
	return nil
}

// open serves a page that needs no session.
func (p *portal) open(h func(w http.ResponseWriter, r *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			p.fail(w, r, identity.Session{}, err)
		}
	})
}

type errorPage struct {
	page
	*pageError
	Title string
}

// fail shows an error. What is not meant for the visitor goes to our log.
func (p *portal) fail(w http.ResponseWriter, r *http.Request, s identity.Session, err error) {
	told := tell(err)
	if told.status >= http.StatusInternalServerError {
		p.Log.Error().Err(err).Str("method", r.Method).Str("route", r.Pattern).Msg("portal: page failed")
	}
	data := errorPage{page: page{Title: told.Title, Owner: s.Name, Now: p.Now(), Admin: s.Admin(), Ours: p.isOurs(s)}, pageError: told, Title: told.Title}
	if err := p.render(w, told.status, "error.html", data); err != nil {
		p.Log.Error().Err(err).Msg("portal: error page failed")
		http.Error(w, told.Title, told.status)
	}
}

// tell turns any error into one that can be shown.
func tell(err error) *pageError {
	var told *pageError
	switch {
	case errors.As(err, &told):
		return told
	case errors.Is(err, approvals.ErrNotFound):
		return &pageError{status: http.StatusNotFound, Title: "No such request", Text: "There is no approval request at this address.", Retry: "/"}
	case errors.Is(err, authz.ErrNoPin):
		return &pageError{status: http.StatusNotFound, Title: "No such definition", Text: "No server has listed it.", Retry: "/tools"}
	case errors.Is(err, authz.ErrNoLimit):
		return &pageError{status: http.StatusNotFound, Title: "No such limit", Text: "No policy in force has this limit, and nothing is kept of one.", Retry: "/limits"}
	case errors.Is(err, authz.ErrNotCharged), errors.Is(err, authz.ErrOtherLimit):
		return &pageError{status: http.StatusConflict, Title: "There is nothing to give back", Text: "This decision was not charged to this limit, or it was given back meanwhile. Nothing was done.", Retry: "/limits"}
	default:
		return &pageError{status: http.StatusInternalServerError, Title: "That did not work", Retry: "/",
			Text: "OpenLeash could not do this, and its log says why. Look again before you repeat it."}
	}
}

func (p *portal) noPage(_ http.ResponseWriter, r *http.Request) error {
	return &pageError{status: http.StatusNotFound, Title: "No such page", Text: "There is nothing at this address.", Retry: "/"}
}

// assets are the static files under addresses that change with their content.
type assets struct {
	content map[string][]byte
	sums    map[string]string
}

func loadAssets() (*assets, error) {
	a := &assets{content: map[string][]byte{}, sums: map[string]string{}}
	entries, err := files.ReadDir("static")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		data, err := files.ReadFile("static/" + e.Name())
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(data)
		a.content[e.Name()], a.sums[e.Name()] = data, hex.EncodeToString(sum[:8])
	}
	return a, nil
}

// url is the address of a file; a page that names one that is not there fails.
func (a *assets) url(name string) (string, error) {
	sum, ok := a.sums[name]
	if !ok {
		return "", fmt.Errorf("no static file %q", name)
	}
	return "/static/" + sum + "/" + name, nil
}

func (a *assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	if sum, ok := a.sums[name]; !ok || sum != r.PathValue("sum") {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", mime.TypeByExtension(path.Ext(name)))
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(a.content[name]))
}
