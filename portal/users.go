package portal

import (
	"context"
	"errors"
	"net/http"

	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/owners"
)

type usersPage struct {
	page
	Users []userRow
	Done  string
	Fault string
	Link  *madeLink // nil: none was made
}

type userRow struct {
	identity.User
	Self         bool
	Installation bool
}

// madeLink is a set-up link, which is shown this once.
type madeLink struct {
	owners.Invite
	Name, URL string
}

func (p *portal) users(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	return p.showUsers(w, r, s, http.StatusOK, usersPage{Done: done[r.URL.Query().Get("done")]})
}

func (p *portal) showUsers(w http.ResponseWriter, r *http.Request, s identity.Session, status int, data usersPage) (err error) {
	if data.page, err = p.page(r, s, "Users", "users"); err != nil {
		return err
	}
	all, err := p.Owners.Users(r.Context())
	if err != nil {
		return err
	}
	for _, u := range all {
		data.Users = append(data.Users, userRow{u, u.ID == s.OwnerID, u.ID == p.Service.Owner().ID})
	}
	return p.render(w, status, "users.html", data)
}

// afterUser ends a change to a user.
func (p *portal) afterUser(w http.ResponseWriter, r *http.Request, s identity.Session, link *madeLink, err error) error {
	switch {
	case errors.Is(err, identity.ErrNotFound):
		return &pageError{status: http.StatusNotFound, Title: "No such user", Text: "There is no user with this id.", Retry: "/users"}
	case err != nil:
		status, text := p.words(r, err)
		if text == "" {
			return err
		}
		return p.showUsers(w, r, s, status, usersPage{Fault: text})
	case link != nil:
		return p.showUsers(w, r, s, http.StatusOK, usersPage{Link: link})
	}
	http.Redirect(w, r, "/users?done=user", http.StatusSeeOther)
	return nil
}

func (p *portal) addUser(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	if err := parseForm(r); err != nil {
		return err
	}
	var roles []string
	if r.PostForm.Get("admin") != "" {
		roles = []string{identity.RoleAdmin}
	}
	u, err := p.Owners.AddUser(r.Context(), "portal:"+s.Name, r.PostForm.Get("name"), r.PostForm.Get("email"), roles)
	if err != nil {
		return p.afterUser(w, r, s, nil, err)
	}
	return p.giveLink(w, r, s, u.ID, p.Owners.Invite)
}

// setUser changes what the button says: status or roles.
func (p *portal) setUser(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	if err := parseForm(r); err != nil {
		return err
	}
	var change owners.Patch
	switch set := r.PostForm.Get("set"); set {
	case identity.UserActive, identity.UserDisabled:
		change.Status = &set
	case "admin":
		change.Roles = &[]string{identity.RoleAdmin}
	case "no admin":
		change.Roles = &[]string{}
	default:
		return &pageError{status: http.StatusBadRequest, Title: "That form cannot be read", Text: "Go back and try again."}
	}
	_, err := p.Owners.SetUser(r.Context(), "portal:"+s.Name, r.PathValue("id"), change)
	return p.afterUser(w, r, s, nil, err)
}

func (p *portal) linkUser(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	return p.giveLink(w, r, s, r.PathValue("id"), p.Owners.Invite)
}

func (p *portal) resetUser(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	if r.PathValue("id") == s.OwnerID {
		return &pageError{status: http.StatusConflict, Title: "That is you", Text: "You would sign yourself out. Change your passphrase and second factor on your own page.", Retry: "/profile"}
	}
	return p.giveLink(w, r, s, r.PathValue("id"), p.Owners.Reset)
}

type linkMaker = func(ctx context.Context, actor, id string) (owners.Invite, error)

// giveLink makes a set-up link for a user and shows it, once.
func (p *portal) giveLink(w http.ResponseWriter, r *http.Request, s identity.Session, id string, with linkMaker) error {
	u, err := p.Owners.User(r.Context(), id)
	if err != nil {
		return p.afterUser(w, r, s, nil, err)
	}
	invite, err := with(r.Context(), "portal:"+s.Name, id)
	return p.afterUser(w, r, s, &madeLink{invite, u.Name, SetUpURL(p.Base, invite.Token)}, err)
}
