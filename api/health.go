package api

import (
	"encoding/base64"
	"net/http"
)

type healthAnswer struct {
	Status   string         `json:"status"` // "ok", or "degraded": something below has an error
	Time     string         `json:"time"`
	Version  string         `json:"version"`
	Policies policiesHealth `json:"policies"`
	Log      logHealth      `json:"log"`
}

type policiesHealth struct {
	Hash  *string `json:"hash"`            // of the book in force; null: nothing is in force and everything is refused
	Error string  `json:"error,omitempty"` // why the folder's present content is not in force
}

type logHealth struct {
	Error string `json:"error,omitempty"` // why the log cannot be written: nothing is allowed meanwhile
}

// health is 200 also when degraded: the process is there and says what ails it.
func (s *server) health(*http.Request) (any, error) {
	h := healthAnswer{Status: "ok", Time: timestamp(s.Now()), Version: s.Version, Policies: s.policiesHealth()}
	if err := s.LogErr(); err != nil {
		h.Log.Error = err.Error()
	}
	if h.Policies.Hash == nil || h.Policies.Error != "" || h.Log.Error != "" {
		h.Status = "degraded"
	}
	return h, nil
}

func (s *server) policiesHealth() policiesHealth {
	var p policiesHealth
	if s.Policies == nil {
		p.Error = "this process keeps no policies"
		return p
	}
	if err := s.Policies.Err(); err != nil {
		p.Error = err.Error()
	}
	if book := s.Policies.Current(); book != nil {
		p.Hash = &book.Hash
	}
	return p
}

type installationAnswer struct {
	Installation string `json:"installation"` // the key's id
	Signature    string `json:"signature"`    // base64
}

// Bounds of a challenge, in bytes.
const minChallenge, maxChallenge = 16, 64

// installation lets another process of ours find out whether it is us who hold
// the port: it knows our key, sends a fresh challenge, and checks the signature
// with PublicKey.VerifyText("installation", challenge, signature). Whoever else
// asks learns the key's id, which is public.
func (s *server) installation(r *http.Request) (any, error) {
	challenge, err := base64.RawURLEncoding.Strict().DecodeString(r.URL.Query().Get("challenge"))
	if err != nil || len(challenge) < minChallenge || len(challenge) > maxChallenge {
		return nil, badField("challenge", "want %d to %d bytes in unpadded base64url, as in ?challenge=…", minChallenge, maxChallenge)
	}
	signature := s.Key.SignText("installation", challenge)
	return installationAnswer{Installation: s.Key.ID, Signature: base64.StdEncoding.EncodeToString(signature)}, nil
}
