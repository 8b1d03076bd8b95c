// Package identity knows who calls and who owns.
//
// Owners and agents are known by name and UUID. What proves them is a secret:
// an agent's bearer token, an owner's one-time link. A secret is a prefix that
// says what it is, "olt_" say, and 32 bytes of the system's random source in
// base64url without padding.
//
// A secret is never stored, only its SHA-256, and it is found by looking up
// that hash: nothing compares secrets byte by byte, so nothing can be learned
// from how long a comparison takes, and who reads the store cannot sign in.
// (A plain hash is enough: 256 random bits cannot be guessed.)
//
// What people remember or type can be guessed. A passphrase is stored as its
// argon2id hash ([Passphrases]), and codes of a second factor work once
// ([Factors]). Both are tried only within limits that the store keeps ([Limit]),
// and compared in constant time. The secret of an authenticator app is the one
// that the store must have: whoever reads the store can compute its codes, and
// still needs the passphrase or a link.
//
// A link is good once, until its time; a session until its time or its end; a
// token until it is replaced or its agent revoked. Asking for one that is not
// good gives [ErrNotFound], whatever the reason.
package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"regexp"
	"time"
)

// Owner is a person or an organization for whom agents act.
type Owner struct {
	ID   string // UUID
	Type string // TypeUser, TypeOrganization
	Name string
}

// Agent acts for an owner. Its Name is its agent_id on the wire.
type Agent struct {
	ID        string // agent_principal_id, UUID
	Name      string
	OwnerID   string
	OwnerType string
	Status    string   // ACTIVE, REVOKED
	TokenHash [32]byte // sha256 of its bearer token; zero: it has none
	CreatedAt time.Time
}

// NewToken makes a secret: prefix + 32 random bytes in base64url, and the hash
// that is stored instead of it.
func NewToken(prefix string) (token string, hash [32]byte) {
	var secret [32]byte
	rand.Read(secret[:]) // never fails: it ends the program instead
	token = prefix + base64.RawURLEncoding.EncodeToString(secret[:])
	return token, HashToken(token)
}

// HashToken is the hash under which a token is looked up: SHA-256 over all of
// it, the prefix too.
func HashToken(token string) [32]byte {
	return sha256.Sum256([]byte(token))
}

// NamePattern is what ValidName asks for, as a regular expression.
const NamePattern = `^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$`

var validName = regexp.MustCompile(NamePattern)

// ValidName reports whether a name may be an agent's, a group's or a server's: 1
// to 64 of a-z A-Z 0-9 . _ -, beginning with a letter or digit.
func ValidName(s string) bool {
	return validName.MatchString(s)
}

// ErrNotFound is the answer for what is not there, or is revoked or expired.
var ErrNotFound = errorString("not found")

type errorString string

func (e errorString) Error() string { return string(e) }

// Store keeps identities; store/sqlite implements it. What owners do to their own
// accounts is in owners.Store.
type Store interface {
	// EnsureOwner returns the installation's owner, making it at first use: a user who
	// is an admin.
	EnsureOwner(ctx context.Context, name string) (Owner, error)
	// EnsureAgent returns the agent of that name, making it at first use.
	EnsureAgent(ctx context.Context, name string, owner Owner) (Agent, error)
	Agents(ctx context.Context) ([]Agent, error)
	SetAgentToken(ctx context.Context, name string, hash [32]byte) error
	AgentByToken(ctx context.Context, hash [32]byte) (Agent, error)
}
