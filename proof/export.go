package proof

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/openleash/openleash-go/action"
)

// maxExport bounds a key document: thousands of keys.
const maxExport = 1 << 20

const keysPurpose = "keys"

// exported is a key document (package comment).
type exported struct {
	Issuer    string        `json:"issuer"`
	IssuedAt  string        `json:"issued_at"`
	Keys      []exportedKey `json:"keys"`
	KID       string        `json:"kid,omitempty"`
	Signature string        `json:"signature,omitempty"`
}

type exportedKey struct {
	KID       string  `json:"kid"`
	Type      string  `json:"kty"`
	Algorithm string  `json:"alg"`
	Public    string  `json:"public_key_b64"`
	CreatedAt string  `json:"created_at"`
	RevokedAt *string `json:"revoked_at"`
}

const (
	keyType      = "OKP"
	keyAlgorithm = "EdDSA"
)

// Export writes the key document of an installation, signed by k, which must be
// among keys. Revoked keys belong into it: it is how others learn of it.
func Export(k *Key, keys []PublicKey, now time.Time) ([]byte, error) {
	doc := exported{Issuer: issuer, IssuedAt: formatTime(now), Keys: []exportedKey{}}
	for _, p := range keys {
		doc.Keys = append(doc.Keys, export(p))
	}
	unsigned, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("writing the key document: %w", err)
	}
	text, err := exportText(unsigned)
	if err != nil {
		return nil, fmt.Errorf("writing the key document: %w", err)
	}
	doc.KID, doc.Signature = k.ID, base64.StdEncoding.EncodeToString(k.SignText(keysPurpose, text))
	signed, err := json.MarshalIndent(doc, "", "  ")
	if err == nil { // what cannot be read back must not be published
		_, err = ParseExport(signed, k.ID)
	}
	if err != nil {
		return nil, fmt.Errorf("writing the key document: %w", err)
	}
	return append(signed, '\n'), nil
}

func export(p PublicKey) exportedKey {
	e := exportedKey{KID: p.ID, Type: keyType, Algorithm: keyAlgorithm, Public: p.SPKI(), CreatedAt: formatTime(p.CreatedAt)}
	if !p.RevokedAt.IsZero() {
		at := formatTime(p.RevokedAt)
		e.RevokedAt = &at
	}
	return e
}

// exportText returns what is signed of a document.
func exportText(doc []byte) ([]byte, error) {
	v, err := parseObject(doc)
	if err != nil {
		return nil, err
	}
	return unsigned(v).Canonical(), nil
}

func parseObject(doc []byte) (action.Value, error) {
	v, err := action.Parse(doc, action.Limits{Bytes: maxExport})
	if err == nil && v.Kind() != action.Object {
		err = errors.New("want a JSON object")
	}
	return v, err
}

// unsigned is a document without its kid and signature.
func unsigned(v action.Value) action.Value {
	var members []action.Member
	for name, value := range v.Members() {
		if name != "kid" && name != "signature" {
			members = append(members, action.Member{Key: name, Value: value})
		}
	}
	return action.ObjectValue(members...)
}

// ParseExport reads a key document and returns its keys, revoked ones included,
// for Expect.Keys. The document must be signed by a key of its own; where kids
// are pinned, by one of them. Without a pin the signature only says that the
// document is whole, and trust must come from where it was fetched.
func ParseExport(doc []byte, pinned ...string) ([]PublicKey, error) {
	keys, err := parseExport(doc, pinned)
	if err != nil {
		return nil, fmt.Errorf("reading the key document: %w", err)
	}
	return keys, nil
}

func parseExport(doc []byte, pinned []string) ([]PublicKey, error) {
	v, err := parseObject(doc)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	r := reader{v: v}
	kid, from, issued := r.text("kid"), r.text("issuer"), r.time("issued_at")
	sig, err := base64.StdEncoding.Strict().DecodeString(r.text("signature"))
	switch {
	case r.err != nil:
		return nil, fmt.Errorf("%w: %w", ErrMalformed, r.err)
	case from != issuer || issued.IsZero() || err != nil || r.get("keys").Kind() != action.Array:
		return nil, fmt.Errorf("%w: want issuer %q, issued_at, keys and a signature in base64", ErrMalformed, issuer)
	}
	keys, err := parseKeys(v.Get("keys"))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	signer, err := find(keys, kid)
	switch {
	case err != nil:
		return nil, err
	case len(pinned) > 0 && !slices.Contains(pinned, kid):
		return nil, fmt.Errorf("%w: %s is not pinned", ErrUnknownKey, kid)
	case !signer.VerifyText(keysPurpose, unsigned(v).Canonical(), sig):
		return nil, ErrSignature
	}
	return keys, nil
}

func parseKeys(list action.Value) ([]PublicKey, error) {
	var keys []PublicKey
	seen := map[string]bool{}
	for i, v := range list.Items() {
		p, err := parseKey(v)
		if err != nil {
			return nil, fmt.Errorf("keys[%d]: %w", i, err)
		}
		if seen[p.ID] {
			return nil, fmt.Errorf("keys[%d]: %s comes a second time", i, p.ID)
		}
		seen[p.ID] = true
		keys = append(keys, p)
	}
	return keys, nil
}

func parseKey(v action.Value) (PublicKey, error) {
	if v.Kind() != action.Object {
		return PublicKey{}, errors.New("want an object")
	}
	r := reader{v: v}
	p, err := ParseSPKI(r.text("public_key_b64"))
	p.CreatedAt = r.time("created_at")
	if r.get("revoked_at").Kind() != action.Null {
		p.RevokedAt = r.time("revoked_at")
		if p.RevokedAt.IsZero() {
			r.fail("revoked_at", "want a time or null")
		}
	}
	kid, kind, algorithm := r.text("kid"), r.text("kty"), r.text("alg")
	switch {
	case err != nil:
		return PublicKey{}, err
	case r.err != nil:
		return PublicKey{}, r.err
	case kid != p.ID || kind != keyType || algorithm != keyAlgorithm || p.CreatedAt.IsZero():
		return PublicKey{}, fmt.Errorf("want kid %s, kty %q, alg %q and created_at, got %.60q, %.10q and %.10q", p.ID, keyType, keyAlgorithm, kid, kind, algorithm)
	}
	return p, nil
}
