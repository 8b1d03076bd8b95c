package owners

import (
	"context"
	"time"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/passkey"
)

// A Change is what one act does to owners: all of it, with its entries in the log, or
// nothing. Its parts are done in the order in which they stand here, and each has a
// condition that is checked then.
type Change struct {
	// Proved: the owner's second factor was shown, or a passkey. Without it neither a link nor a
	// session is good of who has one: ErrFactorRequired.
	Proved  bool
	Spend   *Spend         // ErrNotFound, ErrSpent
	Ticket  *Ticket        // ErrSpent
	Add     *identity.User // ErrTaken
	Set     *Setting       // ErrNotFound, ErrTaken, ErrLastAdmin
	Secret  *Secret        // ErrNotFound
	Propose *Proposal
	Confirm *Confirmation     // ErrNotFound
	Drop    string            // the owner whose second factors go, passkeys and those being set up too
	Passkey *identity.Passkey // is registered; ErrPasskeyTaken, ErrTooManyPasskey
	Use     *PasskeyUse       // ErrPasskey
	Forget  *PasskeyDrop      // ErrNotFound
	Reset   *identity.Reset   // ErrNotFound
	Notice  *Notice           // ErrNotFound
	Forgive []string          // what was tried in vain
	End     *Ending           // of one session: ErrNotFound
	Void    string            // the owner whose links go
	Link    *Link
	Start   *identity.Session // of an active user: ErrNotFound
	Entries []audit.Entry
}

// Spend uses a link.
type Spend struct {
	Hash [32]byte
	Kind identity.LinkKind
	Now  time.Time
}

// Setting changes an account: what its patch has, and nothing else, so that who changes
// a name does not bring back a role that was taken meanwhile.
type Setting struct {
	OwnerID string
	Patch
}

// Ticket is that of a passkey's challenge, which is spent.
type Ticket struct {
	Challenge [32]byte
	Until     time.Time // when it is not good any more anyway
	Now       time.Time
}

// PasskeyUse notes that an owner's passkey has signed, if its counter has gone on.
type PasskeyUse struct {
	OwnerID string
	ID      []byte
	Counter uint32
	Now     time.Time
}

// PasskeyDrop takes one away from its owner.
type PasskeyDrop struct {
	OwnerID string
	ID      []byte
}

// Secret is a new hash of a passphrase. Former is the one that it replaces, so that of
// two changes at once one fails; nil: whatever it is. With the same for both nothing
// changes, and it is a condition.
type Secret struct {
	OwnerID string
	Hash    string // empty: none any more
	Former  *string
}

// Proposal is a second factor that is being set up.
type Proposal struct {
	OwnerID  string
	Secret   []byte
	Codes    [][32]byte // hashes of the backup codes
	Replaces bool       // the present factor was shown
	Until    time.Time
}

// Confirmation makes a proposal the second factor, with a code of it used. While there
// is a factor, only a proposal that replaces it will do.
type Confirmation struct {
	OwnerID string
	Secret  []byte // which proposal
	Step    int64
	Now     time.Time
}

// Notice is added to what an owner is shown until it is dismissed; empty: what was Shown
// is dismissed (ErrNotFound: that is not all any more).
type Notice struct{ OwnerID, Text, Shown string }

// Ending ends sessions of an owner: one, or all but one.
type Ending struct {
	OwnerID string
	ID      string // empty: all
	But     string // of all; empty: really all
}

// Link is a one-time link.
type Link struct {
	Hash    [32]byte
	ID      string // of a set-up link: what it is known by beside its token
	Kind    identity.LinkKind
	OwnerID string
	Until   time.Time
	Spent   bool
}

// Store is what the package needs of a store.
type Store interface {
	identity.FactorStore
	passkey.Store
	Change(ctx context.Context, c Change) error

	User(ctx context.Context, id string) (identity.User, error)
	// FindUser finds by id, e-mail address or name, in any case.
	FindUser(ctx context.Context, login string) (identity.User, error)
	Users(ctx context.Context) ([]identity.User, error)
	// PassphraseHash is a user's PHC string; empty: there is none.
	PassphraseHash(ctx context.Context, ownerID string) (string, error)
	// Proposal is what is being set up; ErrNotFound: nothing, or its time is over.
	Proposal(ctx context.Context, ownerID string, now time.Time) (Proposal, error)
	BackupCodesLeft(ctx context.Context, ownerID string) (int, error)

	// Link finds a link by its hash, and LinkByID by its id, spent and expired ones too.
	Link(ctx context.Context, hash [32]byte) (Link, error)
	LinkByID(ctx context.Context, id string) (Link, error)

	// Session finds a session that has not run out, of a user who is active.
	Session(ctx context.Context, id string, now time.Time) (identity.Session, error)
	// Sessions lists those that are good, those used last first, 200 at most.
	Sessions(ctx context.Context, ownerID string, now time.Time) ([]identity.Session, error)
	// SeenSession notes that a session was used.
	SeenSession(ctx context.Context, id string, now time.Time) error
}
