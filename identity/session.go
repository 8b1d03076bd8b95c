package identity

import (
	"slices"
	"time"
)

// Session is an owner signed in. Whoever shows its token is the owner, as long as the
// store has it: what the token itself says counts for nothing else.
type Session struct {
	ID        string // jti of its token
	OwnerID   string
	OwnerType string
	Name      string
	Roles     []string // as they are now
	BeganAt   time.Time
	SeenAt    time.Time
	Expires   time.Time
	Address   string // where the owner has signed in from
	Agent     string // the browser, in its own words
}

// Admin reports whether its owner is an admin.
func (s Session) Admin() bool { return slices.Contains(s.Roles, RoleAdmin) }

// LinkKind is what a one-time link is for.
type LinkKind string

const (
	LinkSignIn LinkKind = "sign-in"
	LinkSetup  LinkKind = "setup" // a new passphrase
)

// ErrSpent: a link has done its work.
var ErrSpent = errorString("the link was used")
