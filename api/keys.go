package api

import (
	"net/http"
	"time"

	"github.com/openleash/openleash-go/proof"
)

type publicKey struct {
	KID          string  `json:"kid"`
	KeyType      string  `json:"kty"`
	Algorithm    string  `json:"alg"`
	PublicKeyB64 string  `json:"public_key_b64"`
	CreatedAt    string  `json:"created_at"`
	RevokedAt    *string `json:"revoked_at"`
}

// publicKeys lists all keys, revoked ones too, so that it can be told which
// they were.
func (s *server) publicKeys(*http.Request) (any, error) {
	known, err := s.knownKeys()
	if err != nil {
		return nil, err
	}
	keys := []publicKey{}
	for _, k := range known {
		keys = append(keys, publicKey{
			KID: k.ID, KeyType: "OKP", Algorithm: "EdDSA", PublicKeyB64: k.SPKI(),
			CreatedAt: timestamp(k.CreatedAt), RevokedAt: timeOrNull(k.RevokedAt),
		})
	}
	return map[string]any{"keys": keys}, nil
}

func timeOrNull(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	text := timestamp(t)
	return &text
}

// keyDocument is what `openleash keys export` writes, of this moment: who verifies
// proofs offline fetches it, and knows of every key that was revoked until then. Whoever
// stands between may keep it for a minute, so that it is a minute old at most.
func (s *server) keyDocument(*http.Request) (any, error) {
	keys, err := s.knownKeys()
	if err != nil {
		return nil, err
	}
	doc, err := proof.Export(s.Key, keys, s.Now())
	if err != nil {
		return nil, err
	}
	return page{mediaType: "application/json", cache: "public, max-age=60", body: doc}, nil
}

// knownKeys are all keys. While it is not known which of them were revoked, nothing is
// said of any.
func (s *server) knownKeys() ([]proof.PublicKey, error) {
	keys := s.Keys()
	if len(keys) == 0 {
		return nil, &fault{status: http.StatusServiceUnavailable, Code: "KEYS_UNAVAILABLE",
			Message: "It cannot be read at present which keys there are and which were revoked. Ask again later."}
	}
	return keys, nil
}
