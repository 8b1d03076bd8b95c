package proof

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"aidanwoods.dev/go-paseto"

	"github.com/openleash/openleash-go/action"
)

// Expect is what a verifier demands. Zero fields are not checked, but Keys,
// Now and Audience-or-AnyAudience must be given.
type Expect struct {
	Keys        []PublicKey   // the keys that are trusted, revoked ones included
	Now         time.Time     // the verifier's clock
	Leeway      time.Duration // how far the issuer's clock may be off
	Audience    string
	AnyAudience bool
	ActionHash  action.Hash
	CallHash    action.Hash
	AgentID     string
}

// Verify returns the claims of a token that is valid in every respect, or an
// error that says in which it is not (ErrExpired, ErrSignature, …; errors.Is).
//
// What the claims say is judged after the signature only, so ErrExpired is said
// of a proof that was good once. The exception is a token without a footer: it
// names no key, so it cannot be one of ours, and ErrPurpose or ErrMalformed is
// what it says of itself.
func Verify(token string, want Expect) (Claims, error) {
	c, err := verify(token, want)
	if err != nil {
		return Claims{}, fmt.Errorf("verifying the proof: %w", err)
	}
	return c, nil
}

func verify(token string, want Expect) (Claims, error) {
	if err := want.check(); err != nil {
		return Claims{}, err
	}
	payload, footer, err := split(token)
	if err != nil {
		return Claims{}, err
	}
	if footer == nil {
		return Claims{}, noFooter(payload)
	}
	kid, ok := kidOf(footer)
	if !ok {
		return Claims{}, fmt.Errorf("%w: the footer is %.80q, want exactly %s", ErrMalformed, footer, footerOf("k4.pid.…"))
	}
	key, err := find(want.Keys, kid)
	if err != nil {
		return Claims{}, err
	}
	if err := key.verify(token, nil); err != nil {
		return Claims{}, err
	}
	c, err := parseClaims(payload)
	if err != nil {
		return Claims{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if c.KeyID != key.ID {
		return Claims{}, fmt.Errorf("%w: the claims name the key %.60q, the footer and the signature are of %s", ErrMalformed, c.KeyID, key.ID)
	}
	if err := c.check(); err != nil {
		return Claims{}, err
	}
	return c, want.accept(c)
}

// check says when the caller forgot something. Zero values must not come to
// mean "anything goes".
func (want Expect) check() error {
	switch {
	case want.Now.IsZero():
		return errors.New("Expect.Now is not set")
	case want.Audience == "" && !want.AnyAudience:
		return errors.New("neither Expect.Audience nor Expect.AnyAudience is set")
	case want.Audience != "" && want.AnyAudience:
		return errors.New("both Expect.Audience and Expect.AnyAudience are set")
	case want.Leeway < 0:
		return errors.New("Expect.Leeway is negative")
	case len(want.Keys) == 0:
		return fmt.Errorf("%w: Expect.Keys is empty", ErrUnknownKey)
	}
	return nil
}

// split takes a token apart: the claims and the footer, nil when there is none.
// go-paseto accepts an empty footer after a trailing dot, and so two tokens with
// one meaning; here every token has one form.
func split(token string) (claims, footer []byte, err error) {
	if len(token) > maxToken {
		return nil, nil, fmt.Errorf("%w: %d bytes, at most %d are accepted", ErrMalformed, len(token), maxToken)
	}
	body, ok := strings.CutPrefix(token, paseto.V4Public.Header())
	if !ok {
		return nil, nil, fmt.Errorf("%w: want a token that begins with %s, got %.12q", ErrMalformed, paseto.V4Public.Header(), token)
	}
	body, tail, hasFooter := strings.Cut(body, ".")
	signed, err := decode64(body)
	if err != nil || len(signed) < signatureSize {
		return nil, nil, fmt.Errorf("%w: the payload is not base64url of claims and a signature", ErrMalformed)
	}
	if hasFooter {
		if footer, err = decode64(tail); err != nil || len(footer) == 0 {
			return nil, nil, fmt.Errorf("%w: the footer after the last dot is empty or not base64url", ErrMalformed)
		}
	}
	return signed[:len(signed)-signatureSize], footer, nil
}

const signatureSize = 64

// decode64 reads base64url that could have been written in no other way: Go's
// decoder skips line ends.
func decode64(s string) ([]byte, error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || base64.RawURLEncoding.EncodeToString(b) != s {
		return nil, errors.New("not base64url")
	}
	return b, nil
}

func noFooter(payload []byte) error {
	c, err := parseClaims(payload)
	if err == nil && c.Purpose != purpose {
		return fmt.Errorf("%w: purpose is %.80q, want %q, and no footer names its key", ErrPurpose, c.Purpose, purpose)
	}
	return fmt.Errorf("%w: no footer names its key", ErrMalformed)
}

const footerHead, footerTail = `{"kid":"`, `"}`

func footerOf(kid string) []byte { return []byte(footerHead + kid + footerTail) }

// kidOf reads a footer. It has one form only, so there is nothing to parse.
func kidOf(footer []byte) (kid string, ok bool) {
	kid, head := strings.CutPrefix(string(footer), footerHead)
	kid, end := strings.CutSuffix(kid, footerTail)
	return kid, head && end
}

// find returns the key of that id, if it may be used.
func find(keys []PublicKey, kid string) (PublicKey, error) {
	i := slices.IndexFunc(keys, func(k PublicKey) bool { return k.ID == kid })
	if i < 0 {
		return PublicKey{}, fmt.Errorf("%w: %.60q is none of the %d that are trusted", ErrUnknownKey, kid, len(keys))
	}
	key := keys[i]
	if err := key.check(); err != nil {
		return PublicKey{}, fmt.Errorf("%w: %w", ErrUnknownKey, err)
	}
	// A key may be listed twice, by two files say: one that revokes it is enough.
	for _, k := range keys {
		if k.ID == key.ID && !k.RevokedAt.IsZero() {
			return PublicKey{}, fmt.Errorf("%w: %s, at %s", ErrRevoked, k.ID, formatTime(k.RevokedAt))
		}
	}
	return key, nil
}

// verify checks the signature of a token and nothing else: go-paseto's rules
// look at exp only, and its claims have lost their duplicates.
func (p PublicKey) verify(token string, implicit []byte) error {
	key, err := paseto.NewV4AsymmetricPublicKeyFromEd25519(p.Key)
	if err != nil { // the key beside the error is a random one
		return fmt.Errorf("%w: %w", ErrUnknownKey, err)
	}
	_, err = paseto.NewParserWithoutExpiryCheck().ParseV4Public(key, token, implicit)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, paseto.TokenError{}):
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return fmt.Errorf("%w: the claims are signed, but are no JSON object: %w", ErrMalformed, err)
}

// accept compares well-formed claims with what is demanded.
func (want Expect) accept(c Claims) error {
	from := c.IssuedAt
	if c.NotBefore.After(from) {
		from = c.NotBefore
	}
	switch now := formatTime(want.Now); {
	case !want.Now.Before(c.Expires.Add(want.Leeway)):
		return fmt.Errorf("%w: at %s; it is %s", ErrExpired, formatTime(c.Expires), now)
	case want.Now.Before(from.Add(-want.Leeway)):
		return fmt.Errorf("%w: it begins at %s; it is %s", ErrNotYet, formatTime(from), now)
	case !want.AnyAudience && c.Audience != want.Audience:
		return fmt.Errorf("%w: %.80q, not %.80q", ErrAudience, c.Audience, want.Audience)
	case !want.ActionHash.IsZero() && c.ActionHash != want.ActionHash.String():
		return fmt.Errorf("%w: its action_hash is %s, want %s", ErrActionHash, c.ActionHash, want.ActionHash)
	case !want.CallHash.IsZero() && c.CallHash != want.CallHash.String():
		return fmt.Errorf("%w: its call_hash is %q, want %s", ErrCallHash, c.CallHash, want.CallHash)
	case want.AgentID != "" && c.AgentID != want.AgentID:
		return fmt.Errorf("%w: %.80q, not %.80q", ErrAgent, c.AgentID, want.AgentID)
	}
	return nil
}
