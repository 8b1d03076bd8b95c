package passkey

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"strings"

	"github.com/go-webauthn/webauthn/protocol/webauthncose"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/identity"
)

// A Pinned is what an auditor keeps of a passkey: enough to verify for all time what it
// has signed, and nothing that is secret. As text it is one line of three words: the
// relying party's id, the credential id in base64url without padding, and the public key,
// the base64 (standard, padded) of its DER SubjectPublicKeyInfo.
//
//	openleash.localhost 4gZbGxYv… MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE…
type Pinned struct {
	RPID         string
	CredentialID []byte
	PublicKey    []byte // DER
}

// String is the line.
func (p Pinned) String() string {
	return p.RPID + " " + base64.RawURLEncoding.EncodeToString(p.CredentialID) + " " + base64.StdEncoding.EncodeToString(p.PublicKey)
}

// maxPinned is more than the line of any key has.
const maxPinned = 8 << 10

// ParsePinned reads a line.
func ParsePinned(line string) (p Pinned, err error) {
	words := strings.Fields(line)
	if len(line) > maxPinned || len(words) != 3 {
		return p, errors.New("want one line: RP_ID CREDENTIAL_ID PUBLIC_KEY, as openleash passkeys prints it")
	}
	p.RPID = words[0]
	if p.CredentialID, err = base64.RawURLEncoding.Strict().DecodeString(words[1]); err != nil {
		return p, fmt.Errorf("credential id: want base64url without padding, got %.40q", words[1])
	}
	if p.PublicKey, err = base64.StdEncoding.Strict().DecodeString(words[2]); err != nil {
		return p, fmt.Errorf("public key: want the base64 of a DER SubjectPublicKeyInfo, got %.40q", words[2])
	}
	_, err = x509.ParsePKIXPublicKey(p.PublicKey)
	if err != nil {
		return p, fmt.Errorf("public key: want a DER SubjectPublicKeyInfo: %w", err)
	}
	return p, nil
}

// Pin is what an auditor keeps of a passkey.
func Pin(k identity.Passkey) (Pinned, error) {
	der, err := PublicKeyOf(k)
	return Pinned{k.RPID, k.ID, der}, err
}

// PublicKeyOf is a passkey's public key as a DER SubjectPublicKeyInfo. It fails for an
// algorithm that Verify does not know.
func PublicKeyOf(k identity.Passkey) ([]byte, error) {
	parsed, err := webauthncose.ParsePublicKey(k.PublicKey)
	if err != nil {
		return nil, refused(err)
	}
	var key crypto.PublicKey
	switch parsed := parsed.(type) {
	case webauthncose.EC2PublicKeyData:
		if parsed.Algorithm == int64(webauthncose.AlgES256) {
			key, err = parsed.ToECDSA()
		}
	case webauthncose.OKPPublicKeyData:
		key = ed25519.PublicKey(parsed.XCoord)
	case webauthncose.RSAPublicKeyData:
		if parsed.Algorithm == int64(webauthncose.AlgRS256) {
			var e int
			e, err = webauthncose.ParseRSAPublicKeyDataExponent(&parsed)
			key = &rsa.PublicKey{N: new(big.Int).SetBytes(parsed.Modulus), E: e}
		}
	}
	if err != nil {
		return nil, refused(err)
	}
	if key == nil {
		return nil, fmt.Errorf("%w (its algorithm is none of ES256, EdDSA, RS256)", identity.ErrPasskey)
	}
	return x509.MarshalPKIXPublicKey(key)
}

// The flags of authenticator data: 32 bytes of the SHA-256 of the relying party's id, one
// of flags, four of the counter, and what else there is.
const (
	userPresent  = 1 << 0
	userVerified = 1 << 2
	flagsAt      = 32
	shortest     = 37
)

// Verify returns nil when the assertion proves that the owner of the pinned passkey has
// approved this request for the action of that hash, and else why it does not. It needs
// nothing but what it is given: no store, no network.
//
// The signature is over the authenticator data followed by the SHA-256 of the client data:
// ECDSA on P-256 with SHA-256 (ASN.1), Ed25519, or RSA PKCS #1 v1.5 with SHA-256.
func (p Pinned) Verify(requestID string, hash action.Hash, a approvals.Assertion) error {
	rp := sha256.Sum256([]byte(p.RPID))
	switch data := a.AuthenticatorData; {
	case !bytes.Equal(a.CredentialID, p.CredentialID):
		return errors.New("it was signed by another passkey than the pinned one")
	case !a.Answers(approvals.ApprovalChallenge(requestID, hash)):
		return errors.New("what was signed is not the approval of this request and this action")
	case len(data) < shortest || !bytes.Equal(data[:flagsAt], rp[:]):
		return fmt.Errorf("the passkey was not used for %s", p.RPID)
	case data[flagsAt]&userPresent == 0 || data[flagsAt]&userVerified == 0:
		return errors.New("the passkey did not verify its user")
	case !p.ownPage(a.ClientData):
		return fmt.Errorf("it was not signed on a page of %s", p.RPID)
	}
	client := sha256.Sum256(a.ClientData)
	return verifySignature(p.PublicKey, append(bytes.Clone(a.AuthenticatorData), client[:]...), a.Signature)
}

// ownPage reports whether client data names an origin at the relying party or below it.
func (p Pinned) ownPage(clientData []byte) bool {
	var said struct {
		Origin string `json:"origin"`
	}
	if json.Unmarshal(clientData, &said) != nil {
		return false
	}
	u, err := url.Parse(said.Origin)
	return err == nil && (u.Hostname() == p.RPID || strings.HasSuffix(u.Hostname(), "."+p.RPID))
}

func verifySignature(der, signed, signature []byte) error {
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return fmt.Errorf("the pinned public key: %w", err)
	}
	sum := sha256.Sum256(signed)
	good := false
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		good = ecdsa.VerifyASN1(key, sum[:], signature)
	case ed25519.PublicKey:
		good = ed25519.Verify(key, signed, signature)
	case *rsa.PublicKey:
		good = rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], signature) == nil
	default:
		return fmt.Errorf("the pinned public key is a %T: want ECDSA, Ed25519 or RSA", key)
	}
	if !good {
		return errors.New("the signature is not the pinned passkey's, or something that was signed has been changed")
	}
	return nil
}
