package api

import (
	"net/http"
)

func (s *server) users(r *http.Request) (any, error) {
	all, err := s.Owners.Users(r.Context())
	list := []account{}
	for _, u := range all {
		list = append(list, accountOf(u))
	}
	return map[string]any{"users": list}, err
}

func (s *server) addUser(r *http.Request) (any, error) {
	body, err := readObject(r, "display_name", "email", "system_roles")
	if err != nil {
		return nil, err
	}
	in, err := optionalStrings(body, "display_name", "email")
	if err != nil {
		return nil, err
	}
	roles, err := givenStrings(body, "system_roles")
	if err != nil {
		return nil, err
	}
	if roles == nil {
		roles = &[]string{}
	}
	u, err := s.Owners.AddUser(r.Context(), "api:"+sessionOf(r).Name, in[0], in[1], *roles)
	return accountOf(u), err
}

func (s *server) setUser(r *http.Request) (any, error) {
	body, err := readObject(r, "status", "system_roles")
	if err != nil {
		return nil, err
	}
	p, err := patchIn(body)
	if err != nil {
		return nil, err
	}
	u, err := s.Owners.SetUser(r.Context(), "api:"+sessionOf(r).Name, r.PathValue("id"), p)
	return accountOf(u), err
}

type inviteAnswer struct {
	InviteID    string `json:"invite_id"`
	InviteToken string `json:"invite_token"` // shown this once
	ExpiresAt   string `json:"expires_at"`
}

func (s *server) inviteUser(r *http.Request) (any, error) {
	invite, err := s.Owners.Invite(r.Context(), "api:"+sessionOf(r).Name, r.PathValue("id"))
	return inviteAnswer{invite.ID, invite.Token, timestamp(invite.Expires)}, err
}
