package api

import (
	"errors"
	"net/http"

	"github.com/google/uuid"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/owners"
)

type statusAnswer struct {
	Status string `json:"status"`
}

type setUpAnswer struct {
	Status          string `json:"status"`
	UserPrincipalID string `json:"user_principal_id"`
	DisplayName     string `json:"display_name"`
}

// initialSetup gives the installation's owner a passphrase. It takes a one-time link of
// this machine: nobody becomes an admin for having found the port.
func (s *server) initialSetup(r *http.Request) (any, error) {
	in, err := readStrings(r, "display_name", "passphrase", "link_token")
	if err != nil {
		return nil, err
	}
	if in[2] == "" {
		return nil, badField("link_token", "want the token of a sign-in link: what stands after /sign-in/ in what `openleash open --no-browser` prints")
	}
	u, err := s.Owners.InitialSetup(r.Context(), from(r), in[2], in[0], in[1])
	return setUpAnswer{"setup_complete", u.ID, u.Name}, err
}

func (s *server) ownerSetup(r *http.Request) (any, error) {
	in, err := readStrings(r, "invite_id", "invite_token", "passphrase", "totp_code")
	if err != nil {
		return nil, err
	}
	u, err := s.Owners.SetUpByID(r.Context(), from(r), in[0], in[1], in[2], in[3])
	return setUpAnswer{"setup_complete", u.ID, u.Name}, err
}

// readStrings reads a body whose fields are strings; those that are left out are empty.
func readStrings(r *http.Request, names ...string) ([]string, error) {
	body, err := readObject(r, names...)
	if err != nil {
		return nil, err
	}
	return optionalStrings(body, names...)
}

type sessionAnswer struct {
	Token           string   `json:"token"`
	ExpiresAt       string   `json:"expires_at"`
	UserPrincipalID string   `json:"user_principal_id"`
	SystemRoles     []string `json:"system_roles"`
	OrgMemberships  []string `json:"org_memberships"` // none: there are no organizations yet
}

func signedIn(in owners.SignedIn) sessionAnswer {
	return sessionAnswer{in.Token, timestamp(in.Session.Expires), in.Session.OwnerID, append([]string{}, in.Session.Roles...), []string{}}
}

func (s *server) login(r *http.Request) (any, error) {
	in, err := readStrings(r, "login", "user_principal_id", "passphrase", "totp_code")
	if err != nil {
		return nil, err
	}
	c, err := credentials(in[0], in[1])
	if err != nil {
		return nil, err
	}
	c.Passphrase, c.Code = in[2], in[3]
	session, err := s.Owners.SignIn(r.Context(), from(r), c)
	return signedIn(session), err
}

// credentials takes one of two ways to say who it is.
func credentials(login, id string) (owners.Credentials, error) {
	switch {
	case (login == "") == (id == ""):
		return owners.Credentials{}, badField("login", "want a name or an e-mail address here, or an id in user_principal_id, and not both")
	case id != "" && uuid.Validate(id) != nil:
		return owners.Credentials{}, badField("user_principal_id", "want a UUID")
	}
	return owners.Credentials{Login: login + id}, nil
}

func (s *server) logout(r *http.Request) (any, error) {
	err := s.Owners.SignOut(r.Context(), from(r), sessionOf(r))
	if errors.Is(err, identity.ErrNotFound) {
		err = owners.ErrSession
	}
	return statusAnswer{"logged_out"}, err
}

func (s *server) refresh(r *http.Request) (any, error) {
	in, err := s.Owners.Refresh(r.Context(), from(r), sessionOf(r))
	return signedIn(in), err
}

type listedSession struct {
	SessionID  string `json:"session_id"`
	CreatedAt  string `json:"created_at"`
	LastSeenAt string `json:"last_seen_at"`
	ExpiresAt  string `json:"expires_at"`
	Address    string `json:"address"`
	UserAgent  string `json:"user_agent"`
	Current    bool   `json:"current"`
}

func (s *server) sessions(r *http.Request) (any, error) {
	self := sessionOf(r)
	all, err := s.Owners.Sessions(r.Context(), self.OwnerID)
	list := []listedSession{}
	for _, one := range all {
		list = append(list, listedSession{
			one.ID, timestamp(one.BeganAt), timestamp(one.SeenAt), timestamp(one.Expires), one.Address, one.Agent, one.ID == self.ID,
		})
	}
	return map[string]any{"sessions": list}, err
}

func (s *server) revokeSession(r *http.Request) (any, error) {
	self, id := sessionOf(r), r.PathValue("id")
	err := s.Owners.Revoke(r.Context(), "api:"+self.Name, self.OwnerID, id)
	return map[string]string{"session_id": id, "status": "revoked"}, err
}

type account struct {
	UserPrincipalID string   `json:"user_principal_id"`
	OwnerType       string   `json:"owner_type"`
	DisplayName     string   `json:"display_name"`
	Email           *string  `json:"email"`
	SystemRoles     []string `json:"system_roles"`
	Status          string   `json:"status"`
	PassphraseSet   bool     `json:"passphrase_set"`
	TOTPEnabled     bool     `json:"totp_enabled"`
	CreatedAt       *string  `json:"created_at"`
}

func accountOf(u identity.User) account {
	a := account{
		UserPrincipalID: u.ID, OwnerType: u.Type, DisplayName: u.Name, SystemRoles: append([]string{}, u.Roles...), Status: u.Status,
		PassphraseSet: u.HasPassphrase, TOTPEnabled: u.HasFactor, CreatedAt: timeOrNull(u.CreatedAt),
	}
	if u.Email != "" {
		a.Email = &u.Email
	}
	return a
}

type profileAnswer struct {
	account
	BackupCodesLeft int     `json:"backup_codes_left"`
	Notice          *string `json:"notice"` // what an admin did to the account
}

func (s *server) profile(r *http.Request) (any, error) {
	u, err := s.Owners.User(r.Context(), sessionOf(r).OwnerID)
	if err != nil {
		return nil, err
	}
	return s.profileOf(r, u)
}

func (s *server) profileOf(r *http.Request, u identity.User) (any, error) {
	left, err := s.Owners.BackupCodesLeft(r.Context(), u.ID)
	p := profileAnswer{account: accountOf(u), BackupCodesLeft: left}
	if u.Notice != "" {
		p.Notice = &u.Notice
	}
	return p, err
}

func (s *server) setProfile(r *http.Request) (any, error) {
	body, err := readObject(r, "display_name", "email")
	if err != nil {
		return nil, err
	}
	p, err := patchIn(body)
	if err != nil {
		return nil, err
	}
	u, err := s.Owners.SetUser(r.Context(), "api:"+sessionOf(r).Name, sessionOf(r).OwnerID, p)
	if err != nil {
		return nil, err
	}
	return s.profileOf(r, u)
}

// patchIn reads what changes in an account.
func patchIn(body action.Value) (p owners.Patch, err error) {
	for name, into := range map[string]**string{"display_name": &p.Name, "email": &p.Email, "status": &p.Status} {
		if *into, err = givenString(body, name); err != nil {
			return p, err
		}
	}
	p.Roles, err = givenStrings(body, "system_roles")
	return p, err
}

func (s *server) setPassphrase(r *http.Request) (any, error) {
	in, err := readStrings(r, "current_passphrase", "passphrase")
	if err != nil {
		return nil, err
	}
	err = s.Owners.SetPassphrase(r.Context(), from(r), sessionOf(r), in[0], in[1])
	return statusAnswer{"passphrase_set"}, inSession(err)
}

// inSession is for refusals to who is signed in: 401 would say that he is not.
func inSession(err error) error {
	switch {
	case errors.Is(err, owners.ErrCredentials):
		return &fault{status: http.StatusForbidden, Code: "INVALID_CREDENTIALS", Message: "This is not the present passphrase."}
	case errors.Is(err, identity.ErrFactorWrong):
		return &fault{status: http.StatusBadRequest, Code: "INVALID_TOTP_CODE", Message: "This code is wrong, or was used already. Wait for the next one."}
	}
	return err
}

type totpSetup struct {
	Secret      string   `json:"secret"`
	URI         string   `json:"uri"`
	QRSVG       string   `json:"qr_svg"`
	BackupCodes []string `json:"backup_codes"`
}

func (s *server) setUpTOTP(r *http.Request) (any, error) {
	body, err := readOptional(r, "code")
	if err != nil {
		return nil, err
	}
	code, err := optionalString(body, "code")
	if err != nil {
		return nil, err
	}
	made, err := s.Owners.SetUpFactor(r.Context(), from(r), sessionOf(r), code)
	if err != nil {
		return nil, inSession(err)
	}
	return totpSetup{made.Secret, made.URI, made.QR.SVG(), made.BackupCodes}, nil
}

func (s *server) confirmTOTP(r *http.Request) (any, error) {
	in, err := readStrings(r, "code")
	if err != nil {
		return nil, err
	}
	return statusAnswer{"totp_enabled"}, inSession(s.Owners.ConfirmFactor(r.Context(), from(r), sessionOf(r), in[0]))
}

func (s *server) disableTOTP(r *http.Request) (any, error) {
	in, err := readStrings(r, "code")
	if err != nil {
		return nil, err
	}
	return statusAnswer{"totp_disabled"}, inSession(s.Owners.DropFactor(r.Context(), from(r), sessionOf(r), in[0]))
}
