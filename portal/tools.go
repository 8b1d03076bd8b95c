package portal

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/internal/diff"
	"github.com/openleash/openleash-go/internal/visible"
)

// toolsPage lists what is pinned, what waits first.
type toolsPage struct {
	page
	Waiting []pinCard
	Servers []pinServer
	Notice  string // what became of an answer
}

type pinServer struct {
	Name  string
	Cards []pinCard
}

// maxShownPins bounds how many definitions of one server are listed.
const maxShownPins = 500

// pinCard is one definition.
type pinCard struct {
	authz.Versions
	Server string
	State  string
	By     string
	Since  time.Time
	Href   string
}

func newPinCard(server string, v authz.Versions) pinCard {
	c := pinCard{Versions: v, Server: server, State: v.State(), Href: pinAddress(server, v.Kind, v.Name)}
	p := v.Pending
	if p == nil {
		p = v.Latest()
	}
	if c.Since, c.By = p.AnsweredAt, p.AnsweredBy; p.State == authz.PinWaiting {
		c.Since = p.SeenAt
	}
	return c
}

func pinAddress(server, kind, name string) string {
	return "/tools/show?" + url.Values{"server": {server}, "kind": {kind}, "name": {name}}.Encode()
}

func (p *portal) tools(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	base, err := p.page(r, s, "Tools", "tools")
	if err != nil {
		return err
	}
	views, err := authz.LookAtPins(r.Context(), p.Store, s.OwnerID)
	if err != nil {
		return err
	}
	data := toolsPage{page: base}
	for _, view := range views {
		server := pinServer{Name: view.Server}
		for _, v := range view.All {
			card := newPinCard(view.Server, v)
			if v.Waits() && len(data.Waiting) < maxShownPins {
				data.Waiting = append(data.Waiting, card)
			} else if len(server.Cards) < maxShownPins {
				server.Cards = append(server.Cards, card)
			}
		}
		if len(server.Cards) > 0 {
			data.Servers = append(data.Servers, server)
		}
	}
	return p.render(w, http.StatusOK, "tools.html", data)
}

// pinPage shows one definition, and what has changed in it.
type pinPage struct {
	page
	pinCard
	Title   string // page's
	Notice  string
	Asked   *authz.Pin  // the version that waits, or was refused; nil: none
	Changes []changeRow // from the version that was accepted last to the one that was not
	Unkept  bool        // a text is too long to be kept: nothing can be shown of it
	Whole   []field     // the definition
	Look    visible.Look
}

func (p *portal) tool(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	q := r.URL.Query()
	return p.showTool(w, r, s, q.Get("server"), q.Get("kind"), q.Get("name"), http.StatusOK, "")
}

func (p *portal) showTool(w http.ResponseWriter, r *http.Request, s identity.Session, server, kind, name string, status int, notice string) error {
	book, err := p.Store.PinBook(r.Context(), s.OwnerID, server)
	if err != nil {
		return err
	}
	v, kept := book.Find(kind, name)
	if !kept {
		return authz.ErrNoPin
	}
	base, err := p.page(r, s, visible.Line(v.Name)+" on "+visible.Line(server), "tools")
	if err != nil {
		return err
	}
	data := pinPage{page: base, pinCard: newPinCard(server, v), Title: base.Title, Notice: notice}
	if err := p.readPin(r, s, &data); err != nil {
		return err
	}
	return p.render(w, status, "tool.html", data)
}

// readPin reads the texts.
func (p *portal) readPin(r *http.Request, s identity.Session, data *pinPage) error {
	data.Asked = data.Versions.Pending
	latest, show := data.Latest(), data.Asked
	if show == nil {
		show = latest
	}
	text, err := p.Store.PinText(r.Context(), s.OwnerID, *show)
	if err != nil {
		return err
	}
	now := authz.PinDefinition(text)
	data.Whole, data.Look, data.Unkept = fields(now), visible.LookAt(now), now.Kind() == action.Missing
	if data.Asked == nil || latest == nil {
		return nil
	}
	if text, err = p.Store.PinText(r.Context(), s.OwnerID, *latest); err != nil {
		return err
	}
	before := authz.PinDefinition(text)
	if data.Unkept = data.Unkept || before.Kind() == action.Missing; !data.Unkept {
		data.Changes = changeRows(diff.Values(before, now))
	}
	return nil
}

// answerTool takes the owner's word on exactly the definition that the page showed.
func (p *portal) answerTool(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	if err := parseForm(r); err != nil {
		return err
	}
	f := r.PostForm
	a := authz.PinAnswer{Server: f.Get("server"), Kind: f.Get("kind"), Name: f.Get("name"), Accept: f.Get("answer") == "accept"}
	var err error
	if a.Hash, err = action.ParseHash(f.Get("hash")); err != nil || !a.Accept && f.Get("answer") != "refuse" {
		return &pageError{status: http.StatusBadRequest, Title: "The form is not whole", Text: "It does not say which definition was shown, or what you say of it. Nothing was done.", Retry: "/tools"}
	}
	_, err = p.Service.AnswerPin(r.Context(), "portal:"+s.Name, a)
	switch {
	case errors.Is(err, authz.ErrOtherPin):
		return p.showTool(w, r, s, a.Server, a.Kind, a.Name, http.StatusConflict, "Nothing was done: the server says something else by now. This is what waits.")
	case errors.Is(err, authz.ErrNothingWait):
		return p.showTool(w, r, s, a.Server, a.Kind, a.Name, http.StatusConflict, "Nothing was done: it was answered already.")
	case err != nil:
		return err
	}
	http.Redirect(w, r, pinAddress(a.Server, a.Kind, a.Name), http.StatusSeeOther)
	return nil
}

// pinNote says in the header that definitions wait.
func (p *portal) pinNote(r *http.Request, s identity.Session) ([]healthNote, error) {
	n, err := p.Store.PinsWaiting(r.Context(), s.OwnerID)
	switch {
	case err != nil || n == 0:
		return nil, err
	case n == 1:
		return []healthNote{{"bad", "A changed tool waits for you", "/tools"}}, nil
	}
	return []healthNote{{"bad", fmt.Sprintf("%d changed tools wait for you", n), "/tools"}}, nil
}

// pinMark is what is told beside a tool's own words.
type pinMark struct {
	Href     string
	Pending  bool // it is not the one that was accepted
	Versions int  // that were accepted
	First    time.Time
	Changed  time.Time // when the version shown was accepted
	By       string
}

// pinMark looks up how the definition that a request shows came to be; nil: nothing
// is kept of it.
func (p *portal) pinMark(r *http.Request, s identity.Session, req approvals.Request) (*pinMark, error) {
	if req.Server == "" {
		return nil, nil
	}
	book, err := p.Store.PinBook(r.Context(), s.OwnerID, req.Server)
	if err != nil {
		return nil, err
	}
	v, kept := book.Find(authz.PinTool, req.Tool)
	if !kept {
		return nil, nil
	}
	m := &pinMark{Href: pinAddress(req.Server, v.Kind, v.Name), Versions: len(v.Accepted), Pending: v.Pending != nil}
	if len(v.Accepted) == 0 {
		return m, nil
	}
	shown := v.Latest()
	if hash, err := action.ParseHash(req.ToolInfo.Get("definition_hash").Text()); err == nil {
		if one := v.Find(hash); one != nil && one.State == authz.PinAccepted {
			shown = one
		}
	}
	m.First, m.Changed, m.By = v.Accepted[0].AnsweredAt, shown.AnsweredAt, shown.AnsweredBy
	return m, nil
}
