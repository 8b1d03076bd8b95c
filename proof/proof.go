// Package proof issues and verifies proofs: signed tokens that say that one
// action of one agent was allowed. Anyone who has the public key can verify one,
// without calling anybody; Verify needs nothing of OpenLeash but this package
// and action.
//
// # The token
//
// A proof is a PASETO v4.public token (Ed25519) of at most 8 KiB:
//
//	v4.public.PAYLOAD.FOOTER
//
// PAYLOAD is base64url, without padding, of the claims and the 64 bytes of the
// signature; FOOTER is base64url of exactly
//
//	{"kid":"KID"}
//
// KID is the PASERK identifier of the public key: "k4.pid." and base64url of the
// 33-byte BLAKE2b sum of
//
//	k4.pid.k4.public.KEY
//
// where KEY is base64url of the 32 bytes of the key. So a kid cannot name
// another key than the one it was made from. There is no implicit assertion.
//
// # The claims
//
// The claims are one JSON object; names are unique, also when case is folded,
// and unknown ones are ignored. Claims lists them. Times are UTC with
// milliseconds, exactly YYYY-MM-DDTHH:MM:SS.mmmZ. Hashes are "sha256:" and 64
// lower-case hex digits. In every proof:
//
//	iss          "openleash"
//	purpose      "proof": no session, approval token or key document verifies
//	decision     "ALLOW"
//	kid          as in the footer
//	sub          the agent, the same as agent_id
//	iat, exp     exp comes after iat, by at most an hour
//	jti, decision_id, action_id, action_type, action_hash
//	             not empty
//
// A verifier that must see each proof once keeps the jti until exp.
//
// # Texts
//
// SignText signs what is not a token. The signature is Ed25519 over
//
//	openleash-PURPOSE-v1 LF TEXT
//
// (LF is one byte, 0x0A), so it never is the signature of a token, nor of a text
// for another purpose. A purpose is of a-z and "-".
//
// # The key document
//
// Export writes the public keys of an installation for a .well-known place:
//
//	{"issuer":"openleash","issued_at":TIME,"keys":[KEY,…],"kid":KID,"signature":SIG}
//
// and each KEY is
//
//	{"kid":…,"kty":"OKP","alg":"EdDSA","public_key_b64":…,"created_at":TIME,"revoked_at":TIME or null}
//
// where public_key_b64 is the key as base64 of its DER SPKI form. SIG is base64
// of SignText("keys", TEXT); TEXT is the RFC 8785 canonical form of the document
// without its members "kid" and "signature". KID names the key that signed, one
// of the document's own that is not revoked: whoever pins that kid trusts the
// document, and needs nothing else. A document is as fresh as issued_at: a key
// that was revoked later verifies until a newer document is fetched.
package proof

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/internal/jsontext"
)

const (
	issuer  = "openleash"
	purpose = "proof"
	allow   = "ALLOW"

	maxToken = 8 << 10
	maxLife  = time.Hour

	timeFormat = "2006-01-02T15:04:05.000Z"
)

// Why a proof, or what should be one, is refused. All but ErrMalformed,
// ErrUnknownKey, ErrRevoked and ErrSignature are said of tokens whose signature
// is good (with one exception, see Verify).
var (
	ErrMalformed  = errors.New("malformed")
	ErrUnknownKey = errors.New("signed by an unknown key")
	ErrRevoked    = errors.New("the signing key was revoked")
	ErrSignature  = errors.New("the signature is not valid")
	ErrPurpose    = errors.New("the token is not a proof")
	ErrExpired    = errors.New("the proof has expired")
	ErrNotYet     = errors.New("the proof is not valid yet")
	ErrAudience   = errors.New("the proof is meant for another audience")
	ErrActionHash = errors.New("the proof is for another action")
	ErrCallHash   = errors.New("the proof is for another call")
	ErrAgent      = errors.New("the proof is another agent's")
)

// Approval tells who answered, in the claims of a proof.
type Approval struct {
	ID string `json:"id"`
	By string `json:"by"`
	At string `json:"at"`
	// Factor is the method of the second factor that came with it: totp, passkey. Empty:
	// none did.
	Factor string `json:"factor,omitempty"`
}

// Claims are a proof's claims (wire.md, "Claims"). The order of the members in a
// token means nothing.
type Claims struct {
	Issuer        string    `json:"iss"` // "openleash"
	Subject       string    `json:"sub"` // the agent's name
	Audience      string    `json:"aud,omitempty"`
	IssuedAt      time.Time `json:"iat"`
	NotBefore     time.Time `json:"nbf,omitzero"` // zero: from IssuedAt on
	Expires       time.Time `json:"exp"`
	ID            string    `json:"jti"`
	KeyID         string    `json:"kid"`
	Purpose       string    `json:"purpose"` // "proof"
	Decision      string    `json:"decision"`
	DecisionID    string    `json:"decision_id"`
	ActionID      string    `json:"action_id"`
	ActionType    string    `json:"action_type"`
	ActionHash    string    `json:"action_hash"`
	PolicyID      string    `json:"policy_id"`
	MatchedRuleID *string   `json:"matched_rule_id"`
	AgentID       string    `json:"agent_id"`
	OwnerType     string    `json:"owner_type"`
	OwnerID       string    `json:"owner_id"`
	TrustProfile  string    `json:"trust_profile,omitempty"`
	Server        string    `json:"server,omitempty"`
	Tool          string    `json:"tool,omitempty"`
	CallHash      string    `json:"call_hash,omitempty"`
	Approval      *Approval `json:"approval,omitempty"`
	// The latest checkpoint of the log: three lines, as c2sp.org/tlog-checkpoint has
	// them. Whoever keeps it knows later whether the log was changed.
	Log string `json:"log,omitempty"`
}

// MarshalJSON writes the claims as they stand in a token, times included. A text
// that is not UTF-8 is an error.
func (c Claims) MarshalJSON() ([]byte, error) {
	members := []struct {
		head, value string
		always      bool
	}{
		{`{"iss":`, c.Issuer, true}, {`,"sub":`, c.Subject, true}, {`,"aud":`, c.Audience, false},
		{`,"iat":`, formatTime(c.IssuedAt), true}, {`,"nbf":`, formatTime(c.NotBefore), false}, {`,"exp":`, formatTime(c.Expires), true},
		{`,"jti":`, c.ID, true}, {`,"kid":`, c.KeyID, true}, {`,"purpose":`, c.Purpose, true}, {`,"decision":`, c.Decision, true},
		{`,"decision_id":`, c.DecisionID, true}, {`,"action_id":`, c.ActionID, true}, {`,"action_type":`, c.ActionType, true},
		{`,"action_hash":`, c.ActionHash, true}, {`,"policy_id":`, c.PolicyID, true}, {`,"agent_id":`, c.AgentID, true},
		{`,"owner_type":`, c.OwnerType, true}, {`,"owner_id":`, c.OwnerID, true}, {`,"trust_profile":`, c.TrustProfile, false},
		{`,"server":`, c.Server, false}, {`,"tool":`, c.Tool, false}, {`,"call_hash":`, c.CallHash, false}, {`,"log":`, c.Log, false},
	}
	b := make([]byte, 0, 1024)
	for _, m := range members {
		if !utf8.ValidString(m.value) {
			return nil, fmt.Errorf("claim %s is not UTF-8", m.head[1:])
		}
		if m.always || m.value != "" {
			b = jsontext.AppendString(append(b, m.head...), m.value)
		}
	}
	return c.appendRest(b)
}

// appendRest appends the claims that are no plain texts, and the end.
func (c Claims) appendRest(b []byte) ([]byte, error) {
	b = append(b, `,"matched_rule_id":`...)
	switch rule := c.MatchedRuleID; {
	case rule == nil:
		b = append(b, "null"...)
	case !utf8.ValidString(*rule):
		return nil, errors.New("claim matched_rule_id is not UTF-8")
	default:
		b = jsontext.AppendString(b, *rule)
	}
	if c.Approval != nil {
		approval, err := json.Marshal(c.Approval)
		if err != nil || bytes.Contains(approval, []byte(`\ufffd`)) {
			return nil, errors.Join(errors.New("claim approval is not UTF-8"), err)
		}
		b = append(append(b, `,"approval":`...), approval...)
	}
	return append(b, '}'), nil
}

// UnmarshalJSON reads claims as Verify does: strictly.
func (c *Claims) UnmarshalJSON(data []byte) error {
	read, err := parseClaims(data)
	if err == nil {
		*c = read
	}
	return err
}

// formatTime writes a time; the zero time is empty.
func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(timeFormat)
}

// parseTime reads what formatTime writes, and nothing else.
func parseTime(s string) (time.Time, error) {
	t, err := time.Parse(timeFormat, s)
	if err != nil || t.Format(timeFormat) != s {
		return time.Time{}, fmt.Errorf("want a time as 2006-01-02T15:04:05.000Z, got %.40q", s)
	}
	return t, nil
}

// parseClaims reads the claims of a token. Missing ones are zero; check says
// which may be.
func parseClaims(payload []byte) (Claims, error) {
	v, err := action.Parse(payload, action.Limits{Bytes: maxToken})
	if err != nil {
		return Claims{}, fmt.Errorf("claims: %w", err)
	}
	if v.Kind() != action.Object {
		return Claims{}, errors.New("claims: want a JSON object")
	}
	r := reader{v: v}
	c := Claims{
		Issuer: r.text("iss"), Subject: r.text("sub"), Audience: r.text("aud"),
		IssuedAt: r.time("iat"), NotBefore: r.time("nbf"), Expires: r.time("exp"),
		ID: r.text("jti"), KeyID: r.text("kid"), Purpose: r.text("purpose"),
		Decision: r.text("decision"), DecisionID: r.text("decision_id"),
		ActionID: r.text("action_id"), ActionType: r.text("action_type"), ActionHash: r.text("action_hash"),
		PolicyID: r.text("policy_id"), AgentID: r.text("agent_id"), OwnerType: r.text("owner_type"), OwnerID: r.text("owner_id"),
		TrustProfile: r.text("trust_profile"), Server: r.text("server"), Tool: r.text("tool"), CallHash: r.text("call_hash"), Log: r.text("log"),
	}
	if r.get("matched_rule_id").Kind() != action.Null { // null: a default decided
		id := r.text("matched_rule_id")
		c.MatchedRuleID = &id
	}
	c.Approval = r.approval()
	return c, r.err
}

// A reader takes members from an object and keeps the first thing wrong.
type reader struct {
	v   action.Value
	at  string // the path of v, with its dot
	err error
}

func (r *reader) fail(name, format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%q: %s", r.at+name, fmt.Sprintf(format, args...))
	}
}

// get returns a member. One in another case is refused: a reader that folds
// case would take it.
func (r *reader) get(name string) action.Value {
	if twin, ok := r.v.GetFold(name); ok {
		r.fail(twin, "want it written %q", name)
	}
	return r.v.Get(name)
}

func (r *reader) text(name string) string {
	v := r.get(name)
	if k := v.Kind(); k != action.String && k != action.Missing {
		r.fail(name, "want a string")
	}
	return v.Text()
}

func (r *reader) time(name string) time.Time {
	if r.get(name).Kind() == action.Missing {
		return time.Time{}
	}
	t, err := parseTime(r.text(name))
	if err != nil {
		r.fail(name, "%v", err)
	}
	return t
}

func (r *reader) approval() *Approval {
	v := r.get("approval")
	switch v.Kind() {
	case action.Missing:
		return nil
	case action.Object:
		in := reader{v: v, at: "approval.", err: r.err}
		a := Approval{ID: in.text("id"), By: in.text("by"), At: in.text("at"), Factor: in.text("factor")}
		r.err = in.err
		return &a
	}
	r.fail("approval", "want an object")
	return nil
}

// check says what every proof must have, whoever asks. Sign and Verify hold to
// the same.
func (c Claims) check() error {
	for _, must := range []struct{ name, value, want string }{
		{"iss", c.Issuer, issuer}, {"purpose", c.Purpose, purpose}, {"decision", c.Decision, allow},
	} {
		if must.value != must.want {
			return fmt.Errorf("%w: %s is %.80q, want %q", ErrPurpose, must.name, must.value, must.want)
		}
	}
	for _, must := range []struct{ name, value string }{
		{"sub", c.Subject}, {"jti", c.ID}, {"kid", c.KeyID}, {"decision_id", c.DecisionID},
		{"action_id", c.ActionID}, {"action_type", c.ActionType}, {"action_hash", c.ActionHash},
	} {
		if must.value == "" {
			return fmt.Errorf("%w: %s is missing", ErrMalformed, must.name)
		}
	}
	if c.AgentID != c.Subject {
		return fmt.Errorf("%w: agent_id is %.80q and sub is %.80q, want the same", ErrMalformed, c.AgentID, c.Subject)
	}
	return errors.Join(checkHash("action_hash", c.ActionHash), checkHash("call_hash", c.CallHash), c.checkLife())
}

// checkHash wants the form of the package comment, or nothing.
func checkHash(name, s string) error {
	if h, err := action.ParseHash(s); s != "" && (err != nil || h.String() != s) {
		return fmt.Errorf("%w: %s: want sha256: and 64 lower-case hex digits, got %.80q", ErrMalformed, name, s)
	}
	return nil
}

func (c Claims) checkLife() error {
	life := c.Expires.Sub(c.IssuedAt)
	if c.IssuedAt.IsZero() || c.Expires.IsZero() || life <= 0 || life > maxLife {
		return fmt.Errorf("%w: valid from %q to %q, want a life of at most %v", ErrMalformed,
			formatTime(c.IssuedAt), formatTime(c.Expires), maxLife)
	}
	return nil
}
