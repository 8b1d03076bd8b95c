package api

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/internal/door"
	"github.com/openleash/openleash-go/owners"
)

type sessionKey struct{}

// sessionOf is who has sent a request to a route for owners or admins.
func sessionOf(r *http.Request) identity.Session {
	return r.Context().Value(sessionKey{}).(identity.Session)
}

// admit lets a request through to a route, and notes who has sent it.
func (s *server) admit(r *http.Request, to access) (*http.Request, error) {
	switch to {
	case anybody, agents: // agents are asked by signed
		return r, nil
	case owner, admin:
	default:
		return r, errors.New("api: a route is for nobody that is known: " + string(to))
	}
	token := s.sessionToken(r)
	if token == "" {
		return r, &fault{status: http.StatusUnauthorized, Code: "MISSING_TOKEN", Message: "Sign in at POST /v1/owner/login, and send Authorization: Bearer v4.public.…"}
	}
	session, err := s.Owners.Session(r.Context(), token)
	if err != nil {
		return r, err
	}
	if to == admin && !session.Admin() {
		return r, &fault{status: http.StatusForbidden, Code: "ADMIN_REQUIRED", Message: "Only an admin may do this."}
	}
	return r.WithContext(context.WithValue(r.Context(), sessionKey{}, session)), nil
}

// sessionToken is the token that a request shows: an Authorization header, whatever it
// is, comes before the portal's cookie.
func (s *server) sessionToken(r *http.Request) string {
	switch shown := r.Header.Values("Authorization"); len(shown) {
	case 0:
	case 1:
		scheme, token, _ := strings.Cut(shown[0], " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return ""
		}
		return strings.TrimSpace(token)
	default:
		return ""
	}
	if c, err := r.Cookie(s.Cookie); err == nil && s.Cookie != "" {
		return c.Value
	}
	return ""
}

// from is where a request comes from.
func from(r *http.Request) owners.From {
	return owners.From{Door: "api", Address: door.From(r), Agent: r.UserAgent()}
}

// whys are the refusals that are this package's own and are recorded.
var whys = map[string]string{
	"MISSING_TOKEN":  "no session was shown",
	"ADMIN_REQUIRED": "a user who is no admin",

	"INVALID_CREDENTIALS": "a wrong present passphrase", // of who is signed in
	"INVALID_TOTP_CODE":   "a wrong code of the second factor",

	"AGENT_MISMATCH":         "an action, or an approval, in another agent's name",
	"SUBJECT_MISMATCH":       "an action, or an approval, for another owner",
	"INVALID_APPROVAL_TOKEN": "an approval token that is none of ours, or over",
}

// faultOf says how an error is told; nil: it is not. Who was not let in is recorded.
func (s *server) faultOf(r *http.Request, err error) *fault {
	f, why := s.told(err)
	if why != "" {
		if err := s.Refused(authz.Access{Door: "api", Code: f.Code, Why: why, From: door.From(r)}); err != nil {
			s.Log.Error().Err(err).Msg("api: a refused request could not be recorded")
		}
	}
	return f
}

func (s *server) told(err error) (f *fault, why string) {
	if errors.As(err, &f) {
		return f, whys[f.Code]
	}
	if field := new(identity.FieldError); errors.As(err, &field) {
		return badField(wireName(field.Field), "%s", field.Problem), ""
	}
	if r, known := s.Owners.Refusal(err); known {
		return &fault{status: r.Status, Code: r.Code, Message: r.Told, retry: r.Retry}, r.Why
	}
	for _, known := range conflicts {
		if errors.Is(err, known.err) {
			return &fault{status: known.status, Code: known.code, Message: known.err.Error() + "."}, ""
		}
	}
	return nil, ""
}

// wireName is what a field of an account is called here.
func wireName(field string) string {
	switch field {
	case "name":
		return "display_name"
	case "roles":
		return "system_roles"
	}
	return field
}

var conflicts = []struct {
	err    error
	status int
	code   string
}{
	{identity.ErrTaken, http.StatusConflict, "USER_TAKEN"},
	{identity.ErrLastAdmin, http.StatusConflict, "LAST_ADMIN"},
	{owners.ErrInstallation, http.StatusConflict, "INSTALLATION_OWNER"},
	{owners.ErrOvertaken, http.StatusConflict, "CONFLICT"},
	{owners.ErrFactorNotSetUp, http.StatusBadRequest, "TOTP_NOT_SETUP"},
	{identity.ErrNoFactor, http.StatusBadRequest, "TOTP_NOT_ENABLED"},
	{identity.ErrNotFound, http.StatusNotFound, "NOT_FOUND"},
}
