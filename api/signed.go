package api

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/internal/door"
	"github.com/openleash/openleash-go/internal/ratelimit"
)

// An agent signs each of its requests with its Ed25519 key. Five headers, each exactly
// once: X-Agent-Id, X-Timestamp, X-Nonce, X-Body-Sha256, X-Signature. The signature, in
// base64, is over
//
//	METHOD LF PATH LF TIMESTAMP LF NONCE LF BODY-SHA256
//
// the headers' values as they are sent, and PATH as on the request line, with its query or
// without. The checks come in this order, and nothing is kept of a request before the last
// of them: the headers, the time (at most two minutes off), the body's hash, the agent,
// its signature, and then its nonce, which is spent in the commit of what the request does.

// skew is how far an agent's clock may be off.
const skew = 120 * time.Second

// maxHeader bounds each of the headers.
const maxHeader = 256

// signedRequest is a request whose signature is good.
type signedRequest struct {
	who   authz.Caller
	nonce authz.Nonce
	body  action.Value // an object; Missing: it has none
	spent bool         // the nonce is
}

// take is the nonce, for who spends it in a commit.
func (q *signedRequest) take() authz.Nonce {
	q.spent = true
	return q.nonce
}

// signed serves a route to agents. A nonce that nothing has spent is spent then, before
// the answer.
func (s *server) signed(h func(*http.Request, *signedRequest) (any, error)) handler {
	return func(r *http.Request) (any, error) {
		q, err := s.authenticate(r)
		if err != nil {
			return nil, s.notLetIn(r, err)
		}
		answer, err := h(r, q)
		if !q.spent {
			if e := s.Service.Spend(r.Context(), q.nonce); e != nil {
				err = e
			}
		}
		if errors.Is(err, authz.ErrReplayed) {
			return nil, s.notLetIn(r, unauthorized("NONCE_REPLAY", "This nonce was used already: each request has a fresh one."))
		}
		return answer, err
	}
}

func unauthorized(code, format string, args ...any) *fault {
	return &fault{status: http.StatusUnauthorized, Code: code, Message: fmt.Sprintf(format, args...)}
}

// notLetIn records that a request was refused for its signature.
func (s *server) notLetIn(r *http.Request, err error) error {
	var f *fault
	if errors.As(err, &f) && f.status == http.StatusUnauthorized {
		if err := s.tooOften(s.unsigned, ratelimit.Source(door.From(r))); err != nil {
			return err
		}
		if e := s.Refused(authz.Access{Door: "api", Code: f.Code, Why: "a request that is not signed as it should be", From: door.From(r)}); e != nil {
			s.Log.Error().Err(e).Msg("api: a refused request could not be recorded")
		}
	}
	return err
}

// signature is what the headers say.
type signature struct {
	agent, timestamp, nonce, bodySum, signature string
}

func readSignature(h http.Header) (sig signature, err error) {
	var missing []string
	for _, f := range []struct {
		name string
		to   *string
	}{
		{"X-Agent-Id", &sig.agent}, {"X-Timestamp", &sig.timestamp}, {"X-Nonce", &sig.nonce},
		{"X-Body-Sha256", &sig.bodySum}, {"X-Signature", &sig.signature},
	} {
		values := h[http.CanonicalHeaderKey(f.name)]
		if len(values) != 1 || values[0] == "" || len(values[0]) > maxHeader {
			missing = append(missing, f.name)
			continue
		}
		*f.to = values[0]
	}
	if len(missing) > 0 {
		return sig, unauthorized("MISSING_HEADERS", "A signed request has each of five headers exactly once, of at most %d bytes; look at %s. GET /agents.md tells how to sign.", maxHeader, strings.Join(missing, ", "))
	}
	return sig, nil
}

func (s *server) authenticate(r *http.Request) (*signedRequest, error) {
	sig, err := readSignature(r.Header)
	if err != nil {
		return nil, err
	}
	at, err := time.Parse(time.RFC3339Nano, sig.timestamp)
	if now := s.Now(); err != nil || now.Sub(at).Abs() > skew {
		return nil, unauthorized("TIMESTAMP_SKEW", "X-Timestamp: want the present time, as %s, within %s; got %.40q.", timestamp(now), skew, sig.timestamp)
	}
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	sum := sha256.Sum256(body)
	switch {
	case len(body) == 0 && !reads:
		return nil, badRequest("MISSING_BODY", "Send a JSON object as the body.")
	case len(body) > 0 && sig.bodySum != hex.EncodeToString(sum[:]):
		return nil, unauthorized("BODY_HASH_MISMATCH", "X-Body-Sha256 is not the SHA-256 of the body that came, in lower-case hex.")
	}
	agent, err := s.signer(r, sig)
	if err != nil {
		return nil, err
	}
	if err := s.tooOften(s.perAgent, agent.ID); err != nil {
		return nil, err
	}
	q := &signedRequest{who: authz.Caller{Agent: agent, SignatureValid: new(true)}, nonce: nonceOf(agent, sig.nonce, at, s.Now())}
	if len(body) > 0 {
		q.body, err = parseObject(body, action.Limits{Bytes: maxBody, CaseTwins: true})
	}
	return q, err
}

// signer finds the agent whose key has signed.
func (s *server) signer(r *http.Request, sig signature) (identity.Agent, error) {
	agent, err := s.Service.Agents().AgentByName(r.Context(), sig.agent)
	switch {
	case errors.Is(err, identity.ErrNotFound):
		return agent, unauthorized("AGENT_NOT_FOUND", "No agent is registered under this X-Agent-Id.")
	case err != nil:
		return agent, err
	case agent.Status == identity.Pending:
		return agent, unauthorized("AGENT_INACTIVE", "The agent waits for its owner to confirm it.")
	case agent.Status != identity.Active:
		return agent, unauthorized("AGENT_INACTIVE", "The agent is revoked.")
	case agent.Key == nil:
		return agent, unauthorized("AGENT_NOT_FOUND", "The agent of this X-Agent-Id has no key: it was not registered to sign requests.")
	}
	signed, err := base64.StdEncoding.Strict().DecodeString(sig.signature)
	if err != nil || !signs(agent.Key, signed, r, sig) {
		return agent, unauthorized("INVALID_SIGNATURE", "X-Signature is not the agent's signature of this request. GET /agents.md tells what is signed.")
	}
	return agent, nil
}

// signs verifies a signature: of the path alone, or with its query, as some SDKs have it.
func signs(key ed25519.PublicKey, signed []byte, r *http.Request, sig signature) bool {
	whole := r.RequestURI
	path, _, hasQuery := strings.Cut(whole, "?")
	verify := func(path string) bool {
		text := r.Method + "\n" + path + "\n" + sig.timestamp + "\n" + sig.nonce + "\n" + sig.bodySum
		return len(signed) == ed25519.SignatureSize && ed25519.Verify(key, []byte(text), signed)
	}
	return verify(path) || hasQuery && verify(whole)
}

// nonceOf is kept as long as the request could be accepted.
func nonceOf(agent identity.Agent, nonce string, at, now time.Time) authz.Nonce {
	sum := sha256.Sum256([]byte(agent.ID + "\n" + nonce))
	n := authz.Nonce{Now: now.UnixMilli(), Until: max(at.Add(skew).UnixMilli(), now.UnixMilli()) + 1}
	copy(n.Hash[:], sum[:])
	return n
}
