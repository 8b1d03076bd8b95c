package proof

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"aidanwoods.dev/go-paseto"
	"golang.org/x/crypto/blake2b"
)

// A Key signs proofs.
type Key struct {
	ID        string // PASERK k4.pid
	CreatedAt time.Time
	private   ed25519.PrivateKey
}

// NewKey makes a key from the system's random source.
func NewKey(now time.Time) (*Key, error) {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, fmt.Errorf("making a signing key: %w", err)
	}
	return newKey(private, now)
}

func newKey(private ed25519.PrivateKey, created time.Time) (*Key, error) {
	if _, err := paseto.NewV4AsymmetricSecretKeyFromEd25519(private); err != nil {
		return nil, fmt.Errorf("not an Ed25519 key: %w", err)
	}
	id, err := pid(publicOf(private))
	if err != nil {
		return nil, err
	}
	return &Key{ID: id, CreatedAt: milliseconds(created), private: private}, nil
}

// Format keeps the secret out of logs, whatever the verb.
func (k Key) Format(f fmt.State, _ rune) { io.WriteString(f, "proof.Key("+k.ID+")") }

// Public returns the half that may be known.
func (k *Key) Public() PublicKey {
	return PublicKey{ID: k.ID, Key: publicOf(k.private), CreatedAt: k.CreatedAt}
}

func publicOf(private ed25519.PrivateKey) ed25519.PublicKey {
	return private.Public().(ed25519.PublicKey)
}

// Sign issues a token for c; KeyID, Issuer and Purpose are set by Sign. What
// Verify would refuse is not signed.
func (k *Key) Sign(c Claims) (token string, err error) {
	c = k.Complete(c)
	if err := c.check(); err != nil {
		return "", fmt.Errorf("signing a proof: %w", err)
	}
	claims, err := c.MarshalJSON()
	if err != nil {
		return "", fmt.Errorf("signing a proof: %w", err)
	}
	if c.IssuedAt.Year() < 0 || c.Expires.Year() > 9999 {
		return "", errors.New("signing a proof: a time has not four digits for the year")
	}
	if token = signToken(k.private, claims, footerOf(k.ID), nil); len(token) > maxToken {
		return "", fmt.Errorf("signing a proof: %d bytes, at most %d are verified", len(token), maxToken)
	}
	return token, nil
}

// Complete returns claims as Sign writes them. Signed again they have the same token:
// Ed25519 takes nothing at random (RFC 8032).
func (k *Key) Complete(c Claims) Claims {
	c.KeyID, c.Issuer, c.Purpose = k.ID, issuer, purpose
	c.IssuedAt, c.NotBefore, c.Expires = milliseconds(c.IssuedAt), milliseconds(c.NotBefore), milliseconds(c.Expires)
	return c
}

// signToken makes a v4.public token (PASETO, Version4, 4.4: Sign). It is the one
// piece of PASETO that is ours: the library reads and writes the claims twice
// more on the way, three times the cost of the signature. The official vectors
// hold it, and the library verifies what it makes.
func signToken(private ed25519.PrivateKey, message, footer, implicit []byte) string {
	const header = "v4.public."
	signed := append(message[:len(message):len(message)], ed25519.Sign(private, preAuthEncoding([]byte(header), message, footer, implicit))...)
	encoding := base64.RawURLEncoding
	token := make([]byte, 0, len(header)+encoding.EncodedLen(len(signed))+1+encoding.EncodedLen(len(footer)))
	token = encoding.AppendEncode(append(token, header...), signed)
	if len(footer) > 0 {
		token = encoding.AppendEncode(append(token, '.'), footer)
	}
	return string(token)
}

// preAuthEncoding is PASETO's PAE: how many pieces, and each with its length,
// so that no two lists of pieces are one text.
func preAuthEncoding(pieces ...[]byte) []byte {
	size := 8
	for _, piece := range pieces {
		size += 8 + len(piece)
	}
	out := binary.LittleEndian.AppendUint64(make([]byte, 0, size), uint64(len(pieces)))
	for _, piece := range pieces {
		out = binary.LittleEndian.AppendUint64(out, uint64(len(piece)))
		out = append(out, piece...)
	}
	return out
}

// milliseconds is what of a time is written.
func milliseconds(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

// SignText signs a text outside PASETO, under a domain of its own
// ("openleash-" + purpose + "-v1\n" before it), so that it can never be taken
// for a token: the installation's answer to a challenge, the key document.
func (k *Key) SignText(purpose string, text []byte) []byte {
	return ed25519.Sign(k.private, domain(purpose, text))
}

func domain(purpose string, text []byte) []byte {
	return append([]byte("openleash-"+purpose+"-v1\n"), text...)
}

// PublicKey verifies.
type PublicKey struct {
	ID        string
	Key       ed25519.PublicKey
	CreatedAt time.Time
	RevokedAt time.Time // zero: not revoked
}

// VerifyText is the other side of SignText. It does not ask whether the key was
// revoked.
func (p PublicKey) VerifyText(purpose string, text, sig []byte) bool {
	return p.check() == nil && ed25519.Verify(p.Key, domain(purpose, text), sig)
}

// check says whether p is a key that can be trusted at all, and the one that
// its ID names.
func (p PublicKey) check() error {
	id, err := pid(p.Key)
	switch {
	case err != nil:
		return err
	case weak(p.Key):
		return fmt.Errorf("public key %x is of small order: anyone can sign for it", []byte(p.Key))
	case id != p.ID:
		return fmt.Errorf("the key called %.60q is %s", p.ID, id)
	}
	return nil
}

// spki is what stands before the 32 bytes of every Ed25519 key in DER.
var spki = []byte{0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00}

// SPKI returns the key as base64 DER, the form of the wire.
func (p PublicKey) SPKI() string {
	return base64.StdEncoding.EncodeToString(append(bytes.Clone(spki), p.Key...))
}

// ParseSPKI reads that form; small-order keys are refused.
func ParseSPKI(b64 string) (PublicKey, error) {
	der, err := base64.StdEncoding.DecodeString(b64)
	raw, ok := bytes.CutPrefix(der, spki)
	if err != nil || !ok || len(raw) != ed25519.PublicKeySize || base64.StdEncoding.EncodeToString(der) != b64 {
		return PublicKey{}, fmt.Errorf("public key: want an Ed25519 key as base64 of its DER (MCowBQYDK2VwAyEA…, 60 characters), got %.70q", b64)
	}
	p := PublicKey{Key: raw}
	if p.ID, err = pid(raw); err == nil {
		err = p.check()
	}
	if err != nil {
		return PublicKey{}, err
	}
	return p, nil
}

// pid computes the PASERK identifier of a v4 public key.
func pid(public []byte) (string, error) {
	if len(public) != ed25519.PublicKeySize {
		return "", fmt.Errorf("public key: want %d bytes, got %d", ed25519.PublicKeySize, len(public))
	}
	const header = "k4.pid."
	sum, err := blake2b.New(33, nil)
	if err != nil {
		return "", err
	}
	sum.Write([]byte(header + "k4.public." + base64.RawURLEncoding.EncodeToString(public)))
	return header + base64.RawURLEncoding.EncodeToString(sum.Sum(nil)), nil
}

// smallOrder are the y coordinates of the points whose order divides eight, in
// every encoding, without the sign of x. For such a key a signature can be made
// that fits any message.
var smallOrder = [...]string{
	"0000000000000000000000000000000000000000000000000000000000000000", // 0, order 4
	"0100000000000000000000000000000000000000000000000000000000000000", // 1, the neutral point
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", // order 8
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", // order 8
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // p-1, order 2
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // p, another 0
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // p+1, another 1
}

// weak reports whether a public key is of small order.
func weak(public ed25519.PublicKey) bool {
	y := bytes.Clone(public)
	y[len(y)-1] &= 0x7f
	digits := hex.EncodeToString(y)
	for _, small := range smallOrder {
		if digits == small {
			return true
		}
	}
	return false
}
