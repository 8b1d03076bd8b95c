package identity

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"
)

// Passphrases are kept as PHC strings of argon2id,
//
//	$argon2id$v=19$m=65536,t=2,p=1$<salt>$<hash>
//
// with 16 bytes of salt and 32 of hash in base64 without padding. 64 MiB and two
// passes take about 100 ms of one core of a small server, measured; twice what OWASP
// asks for at least. A passphrase is taken in Unicode's form NFC, since keyboards
// differ in how they write the same letter.
const (
	argonMemory = 64 << 10 // KiB
	argonPasses = 2
	argonLanes  = 1
	saltBytes   = 16
	hashBytes   = 32
)

// What a passphrase may be: characters at least, bytes at most.
const (
	MinPassphrase = 8
	maxPassphrase = 1024
)

// CheckPassphrase says what is wrong with a new passphrase.
func CheckPassphrase(passphrase string) error {
	switch n := utf8.RuneCountInString(passphrase); {
	case !utf8.ValidString(passphrase):
		return badField("passphrase", "it is not text (invalid UTF-8)")
	case n < MinPassphrase:
		return badField("passphrase", "want at least %d characters, got %d", MinPassphrase, n)
	case len(passphrase) > maxPassphrase:
		return badField("passphrase", "want at most %d bytes, got %d", maxPassphrase, len(passphrase))
	}
	return nil
}

// Passphrases hashes passphrases, a few at once: each takes 64 MiB, and a flood of
// sign-ins must not take all memory. Some more wait for their turn, and the rest is
// sent away at once.
type Passphrases struct {
	turns chan struct{} // held by who hashes
	line  chan struct{} // held by who hashes or waits
	decoy string        // checked when there is no hash, so that it takes the same time
}

const (
	hashesAtOnce  = 2
	hashesInLine  = 16
	comeBackLater = 2 * time.Second
)

// NewPassphrases makes the one of a process.
func NewPassphrases() *Passphrases {
	return &Passphrases{
		turns: make(chan struct{}, hashesAtOnce), line: make(chan struct{}, hashesInLine),
		decoy: phc(make([]byte, saltBytes), make([]byte, hashBytes)),
	}
}

// Hash makes the PHC string of a passphrase.
func (p *Passphrases) Hash(ctx context.Context, passphrase string) (string, error) {
	if err := CheckPassphrase(passphrase); err != nil {
		return "", err
	}
	end, err := p.turn(ctx)
	if err != nil {
		return "", err
	}
	defer end()
	salt := make([]byte, saltBytes)
	rand.Read(salt) // never fails: it ends the program instead
	return phc(salt, derive(passphrase, salt, argonMemory, argonPasses, argonLanes)), nil
}

// Check reports whether a passphrase is the one of a PHC string. With an empty string,
// when there is no such user or no passphrase, it does the same work, and is false.
func (p *Passphrases) Check(ctx context.Context, stored, passphrase string) (bool, error) {
	known := stored != ""
	if !known {
		stored = p.decoy
	}
	memory, passes, lanes, salt, want, err := parsePHC(stored)
	if err != nil {
		return false, err
	}
	if len(passphrase) > maxPassphrase {
		known, passphrase = false, "" // nobody's, and not worth reading
	}
	end, err := p.turn(ctx)
	if err != nil {
		return false, err
	}
	defer end()
	same := subtle.ConstantTimeCompare(want, derive(passphrase, salt, memory, passes, lanes)) == 1
	return same && known, nil
}

// turn waits until a hash may be computed.
func (p *Passphrases) turn(ctx context.Context) (end func(), err error) {
	select {
	case p.line <- struct{}{}:
	default:
		return nil, &TooManyError{Until: time.Now().Add(comeBackLater)}
	}
	select {
	case p.turns <- struct{}{}:
		return func() { <-p.turns; <-p.line }, nil
	case <-ctx.Done():
		<-p.line
		return nil, ctx.Err()
	}
}

func derive(passphrase string, salt []byte, memory, passes uint32, lanes uint8) []byte {
	return argon2.IDKey(norm.NFC.Bytes([]byte(passphrase)), salt, passes, memory, lanes, hashBytes)
}

func phc(salt, hash []byte) string {
	text := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonPasses, argonLanes, text(salt), text(hash))
}

// parsePHC reads a PHC string. Its costs are bounded too: the store is not to make us
// take all memory.
func parsePHC(s string) (memory, passes uint32, lanes uint8, salt, hash []byte, err error) {
	bad := func(what string) (uint32, uint32, uint8, []byte, []byte, error) {
		return 0, 0, 0, nil, nil, fmt.Errorf("reading a passphrase's hash from the store: %s is none that this program makes; set a new passphrase", what)
	}
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return bad("its kind")
	}
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &memory, &passes, &lanes); n != 3 || err != nil {
		return bad("its costs")
	}
	if memory > 1<<20 || passes < 1 || passes > 16 || lanes < 1 || lanes > 16 {
		return bad("one of its costs")
	}
	salt, err1 := base64.RawStdEncoding.Strict().DecodeString(parts[4])
	hash, err2 := base64.RawStdEncoding.Strict().DecodeString(parts[5])
	if err1 != nil || err2 != nil || len(salt) < 8 || len(hash) != hashBytes {
		return bad("its salt or hash")
	}
	return memory, passes, lanes, salt, hash, nil
}
