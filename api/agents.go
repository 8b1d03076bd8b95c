package api

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/proof"
)

// Bounds of what an agent says of itself.
const (
	maxAttributes = 4 << 10
	maxURL        = 2048
	maxSecret     = 512
)

type challengeAnswer struct {
	ID      string `json:"challenge_id"`
	Bytes   string `json:"challenge_b64"`
	Expires string `json:"expires_at"`
}

// registrationChallenge begins the registration of an agent that has no invite.
func (s *server) registrationChallenge(r *http.Request) (any, error) {
	body, err := readObject(r, "agent_id", "agent_pubkey_b64", "owner_type", "owner_id", olderOwnerID, "agent_attributes_json")
	if err != nil {
		return nil, err
	}
	name, key, err := nameAndKey(body)
	if err != nil {
		return nil, err
	}
	owner, err := s.ownerIn(r, body)
	if err != nil {
		return nil, err
	}
	c, err := s.Service.Challenge(r.Context(), name, key, owner)
	if err != nil {
		return nil, notRegistered(err)
	}
	return challengeAnswer{c.ID, base64.StdEncoding.EncodeToString(c.Bytes[:]), timestamp(c.Until)}, nil
}

const wantAgentName = "want 1 to 64 of a-z A-Z 0-9 . _ -, beginning with a letter or digit"

// nameAndKey reads who wants to be registered.
func nameAndKey(body action.Value) (name string, key ed25519.PublicKey, err error) {
	if name, err = optionalString(body, "agent_id"); err != nil {
		return "", nil, err
	}
	if !identity.ValidName(name) {
		return "", nil, badRegistration("agent_id", wantAgentName)
	}
	key, err = keyIn(body)
	return name, key, err
}

// keyIn reads an agent's public key.
func keyIn(body action.Value) (ed25519.PublicKey, error) {
	text, err := optionalString(body, "agent_pubkey_b64")
	if err != nil {
		return nil, err
	}
	if text == "" {
		return nil, badRegistration("agent_pubkey_b64", "want the agent's public key")
	}
	parsed, err := proof.ParseSPKI(text)
	if err != nil {
		f := badField("agent_pubkey_b64", "%v", err)
		f.Code = "INVALID_KEY"
		return nil, f
	}
	return parsed.Key, nil
}

// badRegistration is a fault of a registration.
func badRegistration(field, format string, args ...any) *fault {
	f := badField(field, format, args...)
	f.Code = "INVALID_REQUEST"
	return f
}

// olderOwnerID is owner_id as the public SDKs had it before 0.3.
const olderOwnerID = "owner_principal_id"

func ownerIDIn(body action.Value) (string, error) {
	id, err := optionalString(body, "owner_id")
	if err != nil {
		return "", err
	}
	older, err := optionalString(body, olderOwnerID)
	if err == nil && id != "" && older != "" {
		err = badRegistration(olderOwnerID, "owner_id says it already")
	}
	return id + older, err // one of them
}

// ownerIn is the owner for whom an agent wants to act: the installation's, if it does not say.
func (s *server) ownerIn(r *http.Request, body action.Value) (string, error) {
	id, err := ownerIDIn(body)
	if err != nil {
		return "", err
	}
	kind, err := optionalString(body, "owner_type")
	if err != nil {
		return "", err
	}
	if id == "" {
		id = s.Service.Owner().ID
	}
	owner, err := s.Service.Agents().OwnerByID(r.Context(), id)
	switch {
	case errors.Is(err, identity.ErrNotFound) || err == nil && kind != "" && kind != owner.Type:
		return "", badRegistration("owner_id", "there is no such owner")
	case err != nil:
		return "", err
	}
	return owner.ID, nil
}

type agentAnswer struct {
	ID        string `json:"agent_principal_id"`
	Name      string `json:"agent_id"`
	OwnerType string `json:"owner_type"`
	OwnerID   string `json:"owner_id"`
	Status    string `json:"status"`
	CreatedAt string `json:"created_at"`
}

func registered(a identity.Agent) agentAnswer {
	return agentAnswer{a.ID, a.Name, a.OwnerType, a.OwnerID, string(a.Status), timestamp(a.CreatedAt)}
}

// register makes the agent that has signed its challenge. It waits for its owner then.
func (s *server) register(r *http.Request) (any, error) {
	body, err := readObject(r, "challenge_id", "agent_id", "agent_pubkey_b64", "signature_b64", "owner_type", "owner_id", olderOwnerID,
		"agent_attributes_json", "webhook_url", "webhook_secret", "webhook_auth_token")
	if err != nil {
		return nil, err
	}
	a, err := agentIn(body)
	if err != nil {
		return nil, err
	}
	owner, err := s.ownerIn(r, body)
	if err != nil {
		return nil, err
	}
	c, err := s.answered(r, body)
	if err != nil {
		return nil, err
	}
	if c.Agent != a.Name || !c.Key.Equal(a.Key) || c.OwnerID != owner {
		return nil, badRequest("CHALLENGE_MISMATCH", "The challenge was made for another agent_id, key or owner: ask for one of your own.")
	}
	if a, err = s.Service.Register(r.Context(), a, c); err != nil {
		return nil, notRegistered(err)
	}
	return registered(a), nil
}

// answered finds a challenge and verifies the answer: the key's signature of its bytes.
func (s *server) answered(r *http.Request, body action.Value) (identity.Challenge, error) {
	id, err := optionalString(body, "challenge_id")
	if err != nil {
		return identity.Challenge{}, err
	}
	c, err := s.Service.Agents().Challenge(r.Context(), id)
	switch {
	case errors.Is(err, identity.ErrNotFound):
		return c, badRequest("CHALLENGE_NOT_FOUND", "There is no such challenge, or it was used: ask for a new one.")
	case err != nil:
		return c, err
	case !s.Now().Before(c.Until):
		return c, badRequest("CHALLENGE_EXPIRED", "The challenge was good until %s: ask for a new one.", timestamp(c.Until))
	}
	text, err := optionalString(body, "signature_b64")
	if err != nil {
		return c, err
	}
	signed, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(signed) != ed25519.SignatureSize || !ed25519.Verify(c.Key, c.Bytes[:], signed) {
		return c, unauthorized("INVALID_SIGNATURE", "signature_b64 is not the key's signature of the challenge's 32 bytes.")
	}
	return c, nil
}

// agentIn reads all that an agent says of itself.
func agentIn(body action.Value) (a identity.Agent, err error) {
	if a.Name, a.Key, err = nameAndKey(body); err != nil {
		return a, err
	}
	switch v := body.Get("agent_attributes_json"); {
	case v.Kind() == action.Missing, v.Kind() == action.Null:
	case v.Kind() != action.Object || len(v.Raw()) > maxAttributes:
		return a, badRegistration("agent_attributes_json", "want an object of at most %d bytes", maxAttributes)
	default:
		a.Attributes = json.RawMessage(v.Canonical())
	}
	a.Webhook, err = webhookIn(body)
	return a, err
}

func webhookIn(body action.Value) (w identity.Webhook, err error) {
	for _, f := range []struct {
		name string
		to   *string
		max  int
	}{{"webhook_url", &w.URL, maxURL}, {"webhook_secret", &w.Secret, maxSecret}, {"webhook_auth_token", &w.AuthToken, maxSecret}} {
		if *f.to, err = optionalString(body, f.name); err != nil {
			return w, err
		}
		if len(*f.to) > f.max {
			return w, badRegistration(f.name, "want at most %d bytes", f.max)
		}
	}
	if w.URL == "" {
		return identity.Webhook{}, nil
	}
	u, err := url.Parse(w.URL)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.User != nil {
		f := badField("webhook_url", "want an address such as https://agent.example/hook")
		f.Code = "INVALID_WEBHOOK_URL"
		return w, f
	}
	return w, nil
}

// notRegistered tells why an agent was not made.
func notRegistered(err error) error {
	switch {
	case errors.Is(err, identity.ErrNameTaken):
		return &fault{status: http.StatusConflict, Code: "AGENT_ID_TAKEN", Message: "An agent of this agent_id exists: choose another. Its owner can give it another key, nobody else."}
	case errors.Is(err, identity.ErrManyWait):
		return &fault{status: http.StatusTooManyRequests, Code: "TOO_MANY_PENDING", Message: "Too many registrations wait: ask the owner for an invite, or try again later."}
	case errors.Is(err, identity.ErrNotFound):
		return badRequest("CHALLENGE_NOT_FOUND", "There is no such challenge, or it was used: ask for a new one.")
	}
	return err
}

type invitedAnswer struct {
	agentAnswer
	WebhookURL *string           `json:"webhook_url"`
	URL        string            `json:"openleash_url"`
	Auth       invitedAuth       `json:"auth"`
	Endpoints  map[string]string `json:"endpoints"`
	SDKs       map[string]string `json:"sdks"`
}

type invitedAuth struct {
	Method       string            `json:"method"`
	KeyFormat    string            `json:"key_format"`
	Headers      map[string]string `json:"headers"`
	SigningInput string            `json:"signing_input"`
}

var howToSign = invitedAuth{
	Method: "ed25519_signed_request", KeyFormat: "public: base64 of DER SPKI; private: base64 of DER PKCS8",
	Headers: map[string]string{
		"X-Agent-Id": "your agent_id", "X-Timestamp": "the present time, RFC 3339, within 120 seconds", "X-Nonce": "fresh for each request",
		"X-Body-Sha256": "SHA-256 of the body, lower-case hex", "X-Signature": "base64 of the Ed25519 signature of the signing input",
	},
	SigningInput: `METHOD\nPATH\nTIMESTAMP\nNONCE\nBODY_SHA256`,
}

var agentEndpoints = map[string]string{
	"authorize": "/v1/authorize", "self": "/v1/agent/self", "approval_requests": "/v1/agent/approval-requests", "outcomes": "/v1/agent/outcomes",
	"verify_proof": "/v1/verify-proof", "public_keys": "/v1/public-keys", "openapi": "/v1/openapi.yaml",
}

var sdks = map[string]string{"python": "openleash-sdk"}

// registerInvited makes the agent of an invite, active at once.
func (s *server) registerInvited(r *http.Request) (any, error) {
	body, err := readObject(r, "invite_id", "invite_token", "agent_id", "agent_pubkey_b64", "agent_attributes_json",
		"webhook_url", "webhook_secret", "webhook_auth_token")
	if err != nil {
		return nil, err
	}
	id, token, err := inviteIn(r, body)
	if err != nil {
		return nil, err
	}
	a, err := agentIn(body)
	if err != nil {
		return nil, err
	}
	if a, err = s.Service.RegisterInvited(r.Context(), a, id, token); err != nil {
		return nil, s.notInvited(r, err)
	}
	return invitedAnswer{
		agentAnswer: registered(a), WebhookURL: textOrNull(a.Webhook.URL), URL: "http://" + r.Host, Auth: howToSign, Endpoints: agentEndpoints, SDKs: sdks,
	}, nil
}

// inviteIn reads an invite from the body, or from the address, as the link has it.
func inviteIn(r *http.Request, body action.Value) (id, token string, err error) {
	if id, err = optionalString(body, "invite_id"); err != nil {
		return "", "", err
	}
	if token, err = optionalString(body, "invite_token"); err != nil {
		return "", "", err
	}
	if id == "" && token == "" {
		id, token = r.URL.Query().Get("invite_id"), r.URL.Query().Get("invite_token")
	}
	if id == "" || token == "" {
		return "", "", badRegistration("invite_id", "want invite_id and invite_token, as the invite's link has them")
	}
	return id, token, nil
}

func (s *server) notInvited(r *http.Request, err error) error {
	switch {
	case errors.Is(err, identity.ErrNotFound):
		return &fault{status: http.StatusNotFound, Code: "INVITE_NOT_FOUND", Message: "There is no such invite, or its time was over long ago: ask the owner for a new one."}
	case errors.Is(err, identity.ErrInviteToken):
		return s.notLetIn(r, unauthorized("INVALID_INVITE_TOKEN", "This is not the token of the invite."))
	case errors.Is(err, identity.ErrInviteUsed):
		return badRequest("INVITE_USED", "The invite was used already: ask the owner for a new one.")
	case errors.Is(err, identity.ErrExpired):
		return badRequest("INVITE_EXPIRED", "The invite's time is over: ask the owner for a new one.")
	case errors.Is(err, identity.ErrInviteName):
		return badRegistration("agent_id", "the invite is for an agent of another name")
	}
	return notRegistered(err)
}

type instructions struct {
	Message      string            `json:"message"`
	HowItWorks   []string          `json:"how_it_works"`
	Registration map[string]string `json:"registration"`
	Auth         invitedAuth       `json:"authentication"`
	Endpoints    map[string]string `json:"endpoints"`
	SDKs         map[string]string `json:"sdks"`
}

// howToRegister tells an agent that was handed an invite's link what to do with it. It does
// not look at the invite.
func (s *server) howToRegister(*http.Request) (any, error) {
	return instructions{
		Message: "You are invited to register as an agent of OpenLeash, which decides what you may do.",
		HowItWorks: []string{
			"Make an Ed25519 key pair; keep the private key to yourself.",
			"POST to this very address, with your agent_id and public key.",
			"Sign each request with the key, and POST what you intend to do to /v1/authorize before you do it.",
			"ALLOW: do it, and show the proof to whom it concerns. DENY: do not, and do not try again in other words. REQUIRE_…: ask your owner (POST /v1/agent/approval-requests), wait, and authorize the same action again with the token.",
		},
		Registration: map[string]string{
			"method": "POST", "content_type": "application/json",
			"agent_id": "a name of your own: letters, digits, dots, dashes, underscores", "agent_pubkey_b64": "base64 of the DER (SPKI) form of your Ed25519 public key",
			"webhook_url": "optional", "webhook_secret": "optional", "webhook_auth_token": "optional",
		},
		Auth: howToSign, Endpoints: agentEndpoints, SDKs: sdks,
	}, nil
}
