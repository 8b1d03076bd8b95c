package openleashtest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/openleash/openleash-go/proof"
)

// Agent is an agent with a key of its own, which signs its requests.
type Agent struct {
	Name    string // its agent_id
	ID      string // its agent_principal_id
	OwnerID string
	Key     ed25519.PrivateKey

	server *Server
}

// Agent registers an agent with a fresh key, by an invite: it is active at once.
func (s *Server) Agent(t testing.TB, name string) *Agent {
	t.Helper()
	a := s.NewAgent(name)
	answer := a.Register(t, s.Invite(t))
	var made struct {
		ID string `json:"agent_principal_id"`
	}
	if answer.Status != http.StatusOK {
		t.Fatalf("openleashtest: registering agent %s: %d %s", name, answer.Status, answer.Body)
	}
	answer.Read(t, &made)
	a.ID = made.ID
	return a
}

// NewAgent makes an agent with a fresh key that is not registered.
func (s *Server) NewAgent(name string) *Agent {
	_, key, _ := ed25519.GenerateKey(rand.Reader) // never fails: it ends the program instead
	return &Agent{Name: name, OwnerID: s.OwnerID, Key: key, server: s}
}

// PublicKey is the agent's public key as the wire has it: base64 of its DER form.
func (a *Agent) PublicKey() string {
	return proof.PublicKey{Key: a.Key.Public().(ed25519.PublicKey)}.SPKI()
}

// Register registers the agent by an invite's link.
func (a *Agent) Register(t testing.TB, invite string) Response {
	t.Helper()
	return a.server.Post(t, strings.TrimPrefix(invite, a.server.URL), map[string]any{"agent_id": a.Name, "agent_pubkey_b64": a.PublicKey()})
}

// On is the same agent, at another server of the same home.
func (a *Agent) On(s *Server) *Agent {
	other := *a
	other.server = s
	return &other
}

// Request is a request that the agent has signed, now. It can be sent once.
func (a *Agent) Request(method, path string, body []byte) (*http.Request, error) {
	r, err := http.NewRequest(method, a.server.URL+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if len(body) > 0 {
		r.Header.Set("Content-Type", "application/json")
	}
	sum := sha256.Sum256(body)
	h := r.Header
	h.Set("X-Agent-Id", a.Name)
	h.Set("X-Timestamp", a.server.now().UTC().Format(time.RFC3339Nano))
	h.Set("X-Nonce", rand.Text())
	h.Set("X-Body-Sha256", hex.EncodeToString(sum[:]))
	a.Sign(r)
	return r, nil
}

// Sign signs a request as its headers are: one that was changed is to be signed again.
func (a *Agent) Sign(r *http.Request) {
	h := r.Header
	signed := strings.Join([]string{r.Method, r.URL.EscapedPath(), h.Get("X-Timestamp"), h.Get("X-Nonce"), h.Get("X-Body-Sha256")}, "\n")
	h.Set("X-Signature", base64.StdEncoding.EncodeToString(ed25519.Sign(a.Key, []byte(signed))))
}

// Response is what came.
type Response struct {
	Status int
	Body   []byte
}

func (r Response) String() string { return fmt.Sprintf("%d %s", r.Status, r.Body) }

// Read reads the body, which is JSON.
func (r Response) Read(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal(r.Body, v); err != nil {
		t.Fatalf("openleashtest: reading an answer of status %d: %v\n%s", r.Status, err, r.Body)
	}
}

// Code is the code of an error; empty: it is none.
func (r Response) Code() string {
	var e struct {
		Error struct{ Code string }
	}
	json.Unmarshal(r.Body, &e) // what is no error has no code
	return e.Error.Code
}

// Do sends a signed request. A body is written as JSON; []byte is sent as it is, and with
// nil there is none.
func (a *Agent) Do(t testing.TB, method, path string, body any) Response {
	t.Helper()
	r, err := a.Request(method, path, written(t, body))
	if err != nil {
		t.Fatalf("openleashtest: %s %s: %v", method, path, err)
	}
	return a.server.Send(t, r)
}

func written(t testing.TB, body any) []byte {
	t.Helper()
	switch body := body.(type) {
	case nil:
		return nil
	case []byte:
		return body
	}
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatalf("openleashtest: writing a body: %v", err)
	}
	return text
}

// Post sends a request that nobody has signed.
func (s *Server) Post(t testing.TB, path string, body any) Response {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, s.URL+path, bytes.NewReader(written(t, body)))
	if err != nil {
		t.Fatalf("openleashtest: POST %s: %v", path, err)
	}
	r.Header.Set("Content-Type", "application/json")
	return s.Send(t, r)
}

// Send sends a request.
func (s *Server) Send(t testing.TB, r *http.Request) Response {
	t.Helper()
	answer, err := s.Try(r)
	if err != nil {
		t.Fatalf("openleashtest: %s %s: %v", r.Method, r.URL.Path, err)
	}
	return answer
}

// Try is Send for goroutines of a test, which must not end it.
func (s *Server) Try(r *http.Request) (Response, error) {
	resp, err := s.client.Do(r)
	if err != nil {
		return Response{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return Response{resp.StatusCode, body}, err
}

// Action is an action of the agent's, for its owner, as POST /v1/authorize takes it. A nil
// payload is an empty one.
func (a *Agent) Action(actionType string, payload map[string]any) map[string]any {
	if payload == nil {
		payload = map[string]any{}
	}
	return map[string]any{
		"action_id": uuid.NewString(), "action_type": actionType, "requested_at": a.server.now().UTC().Format(time.RFC3339),
		"principal": map[string]any{"agent_id": a.Name}, "subject": map[string]any{"principal_id": a.OwnerID}, "payload": payload,
	}
}

// Decision is the answer to POST /v1/authorize. What is null there is empty here.
type Decision struct {
	DecisionID    string `json:"decision_id"`
	ActionHash    string `json:"action_hash"`
	Decision      string `json:"decision"` // ALLOW, DENY, REQUIRE_APPROVAL, …
	Code          string `json:"code"`
	PolicyID      string `json:"policy_id"`
	MatchedRuleID string `json:"matched_rule_id"`
	Reason        string `json:"reason"`
	ProofToken    string `json:"proof_token"`
	ProofExpires  string `json:"proof_expires_at"`
	ApprovalID    string `json:"approval_request_id"`
	Repeated      bool   `json:"repeated"`
}

// Authorize asks whether the agent may do something. Any decision is an answer; that
// nothing was decided fails the test.
func (a *Agent) Authorize(t testing.TB, action map[string]any) (d Decision) {
	t.Helper()
	answer := a.Do(t, http.MethodPost, "/v1/authorize", action)
	if answer.Status != http.StatusOK {
		t.Fatalf("openleashtest: authorizing %v: %d %s", action["action_type"], answer.Status, answer.Body)
	}
	answer.Read(t, &d)
	return d
}

// AskOwner brings an action, on which a decision has asked for that, before the owner.
func (a *Agent) AskOwner(t testing.TB, d Decision, action map[string]any) (requestID string) {
	t.Helper()
	bare := maps.Clone(action)
	delete(bare, "approval_token")
	answer := a.Do(t, http.MethodPost, "/v1/agent/approval-requests", map[string]any{"decision_id": d.DecisionID, "action": bare})
	if answer.Status != http.StatusOK {
		t.Fatalf("openleashtest: asking the owner about decision %s (%s): %d %s", d.DecisionID, d.Decision, answer.Status, answer.Body)
	}
	return requestIn(t, answer).ID
}

// ApprovalToken is the token of a request that was approved.
func (a *Agent) ApprovalToken(t testing.TB, requestID string) string {
	t.Helper()
	answer := a.Do(t, http.MethodGet, "/v1/agent/approval-requests/"+requestID, nil)
	request := requestIn(t, answer)
	if request.Token == "" {
		t.Fatalf("openleashtest: want a token of request %s, which is %s: %d %s", requestID, request.Status, answer.Status, answer.Body)
	}
	return request.Token
}

type request struct {
	ID     string `json:"approval_request_id"`
	Status string `json:"status"`
	Token  string `json:"approval_token"`
}

func requestIn(t testing.TB, answer Response) (r request) {
	t.Helper()
	answer.Read(t, &r)
	return r
}

// String names the agent, and never its key.
func (a *Agent) String() string { return fmt.Sprintf("agent %s", a.Name) }
