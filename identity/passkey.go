package identity

import "time"

// Passkey is a key that an owner's device or security key keeps, for these pages alone
// (WebAuthn): the public half, and what is known of the private one.
type Passkey struct {
	ID         []byte // credential id
	OwnerID    string
	RPID       string // at which host it works
	Name       string // that its owner has given it
	PublicKey  []byte // COSE_Key
	SignCount  uint32 // the last that it has shown; zero: it does not count
	Flags      byte   // of the authenticator data of its registration
	Transports []string
	CreatedAt  time.Time
	UsedAt     time.Time // zero: never
}

// MethodPasskey is the second factor that a passkey is.
const MethodPasskey = "passkey"

// MaxPasskeys is how many an owner may have.
const MaxPasskeys = 20

// What may be wrong with a passkey.
var (
	ErrPasskey        = errorString("the passkey does not fit: it is not one of this owner's, or has signed something else")
	ErrPasskeyCloned  = errorString("the passkey's counter has not gone on: there may be a copy of it")
	ErrPasskeyTaken   = errorString("this passkey is registered already")
	ErrTooManyPasskey = errorString("there are as many passkeys as there may be: remove one first")
)
