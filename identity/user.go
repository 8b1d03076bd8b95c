package identity

import (
	"errors"
	"fmt"
	"net/mail"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// Types of owners.
const (
	TypeUser         = "user"
	TypeOrganization = "organization"
)

// RoleAdmin is the role of those who see to other users.
const RoleAdmin = "admin"

// States of a user: one who is disabled cannot sign in, and is signed in nowhere.
const (
	UserActive   = "ACTIVE"
	UserDisabled = "DISABLED"
)

// User is an owner who signs in: a person.
type User struct {
	Owner
	Email     string // lower case; empty: none
	Roles     []string
	Status    string
	CreatedAt time.Time // zero: before this was noted
	// What stands between somebody else and the account.
	HasPassphrase bool
	HasFactor     bool // a second factor is set up
	// Notice is what an admin did to the account: it is shown until its owner has
	// dismissed it.
	Notice string
}

// Admin reports whether the user is one.
func (u User) Admin() bool { return slices.Contains(u.Roles, RoleAdmin) }

// Errors of users.
var (
	ErrTaken     = errors.New("the name or e-mail address is another user's")
	ErrLastAdmin = errors.New("there must be one active admin, and this is the last")
)

// A FieldError is what is wrong with one field of an account.
type FieldError struct{ Field, Problem string }

func (e *FieldError) Error() string { return e.Field + ": " + e.Problem }

func badField(field, format string, args ...any) error {
	return &FieldError{field, fmt.Sprintf(format, args...)}
}

const (
	maxUserName = 64
	maxEmail    = 254
)

// CheckUserName says what is wrong with a user's name. It is what one signs in with, so
// it must not look like an e-mail address or an id.
func CheckUserName(name string) error {
	unseen := func(r rune) bool { return !unicode.IsPrint(r) }
	switch {
	case name == "" || utf8.RuneCountInString(name) > maxUserName:
		return badField("name", "want 1 to %d characters, got %d", maxUserName, utf8.RuneCountInString(name))
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unseen):
		return badField("name", "want characters that can be seen")
	case strings.TrimSpace(name) != name || strings.Contains(name, "  "):
		return badField("name", "want no spaces at its ends, and one at a time within")
	case strings.Contains(name, "@"):
		return badField("name", "want no @, which is for e-mail addresses")
	case uuid.Validate(name) == nil:
		return badField("name", "want no UUID, which is for ids")
	}
	return nil
}

// NormalEmail checks an e-mail address and puts it into lower case, which is how it is
// kept and found; empty stays empty.
func NormalEmail(address string) (string, error) {
	if address == "" {
		return "", nil
	}
	a, err := mail.ParseAddress(address)
	ascii := !strings.ContainsFunc(address, func(r rune) bool { return r > unicode.MaxASCII || r <= ' ' })
	if err != nil || a.Address != address || a.Name != "" || len(address) > maxEmail || !ascii {
		return "", badField("email", "want an address like ann@example.com, of at most %d ASCII characters", maxEmail)
	}
	return strings.ToLower(address), nil
}

// CheckRoles says what is wrong with a user's roles.
func CheckRoles(roles []string) error {
	if len(roles) > 1 || len(roles) == 1 && roles[0] != RoleAdmin {
		return badField("roles", "want none or [%q], got %q", RoleAdmin, roles)
	}
	return nil
}

// CheckStatus says what is wrong with a user's status.
func CheckStatus(status string) error {
	if status != UserActive && status != UserDisabled {
		return badField("status", "want %s or %s, got %q", UserActive, UserDisabled, status)
	}
	return nil
}

// Reset is what an admin does to the access of a user who has lost it: whoever gets the
// set-up link then can answer in the user's name.
type Reset struct {
	OwnerID string
	By      string // person and door
	At      time.Time
}
