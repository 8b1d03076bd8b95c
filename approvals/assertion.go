package approvals

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
)

func sum(text string) [32]byte { return sha256.Sum256([]byte(text)) }

// Answers reports whether the assertion says that it was made for a challenge. Whether
// its signature is good is for who has the passkey's public key.
func (a Assertion) Answers(challenge [32]byte) bool {
	var said struct {
		Type      string `json:"type"`
		Challenge string `json:"challenge"`
	}
	if json.Unmarshal(a.ClientData, &said) != nil || said.Type != "webauthn.get" {
		return false
	}
	got, err := base64.RawURLEncoding.Strict().DecodeString(said.Challenge)
	return err == nil && bytes.Equal(got, challenge[:])
}

// counterAt is where authenticator data has the passkey's counter.
const counterAt = 33

// Counter is how often the passkey says that it was used; zero: it does not count.
func (a Assertion) Counter() uint32 {
	if len(a.AuthenticatorData) < counterAt+4 {
		return 0
	}
	return binary.BigEndian.Uint32(a.AuthenticatorData[counterAt:])
}
