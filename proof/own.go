package proof

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/openleash/openleash-go/action"
)

// Tokens for ourselves: who signs them is who verifies them, later or in another
// process. Each purpose has an implicit assertion of its own (PASETO, Version4), so that
// the signature of one is never that of another, or of a proof.

const (
	sessionPurpose  = "user_session"
	approvalPurpose = "approval"
)

// What else may be wrong with such a token.
var (
	ErrOwnPurpose = errors.New("the token is not one of this kind")
	ErrOver       = errors.New("its time is over")
)

// A Session is an owner signed in (wire.md §3). Whether it was revoked since, only the
// store knows.
type Session struct {
	ID       string // jti: what the store knows the session by
	UserID   string // sub: the user's UUID
	Roles    []string
	IssuedAt time.Time
	Expires  time.Time
}

// An ApprovalToken lets an agent redeem one approval (wire.md §3). Whether that was
// redeemed since, only the store knows.
type ApprovalToken struct {
	RequestID  string
	OwnerType  string
	OwnerID    string
	AgentID    string
	ActionType string
	ActionHash string
	IssuedAt   time.Time
	Expires    time.Time
}

// ownClaims are the claims of all such tokens, in the order in which they are written.
type ownClaims struct {
	Issuer     string    `json:"iss"`
	KeyID      string    `json:"kid"`
	Subject    string    `json:"sub,omitempty"`
	IssuedAt   string    `json:"iat"`
	Expires    string    `json:"exp"`
	ID         string    `json:"jti,omitempty"`
	RequestID  string    `json:"approval_request_id,omitempty"`
	OwnerType  string    `json:"owner_type,omitempty"`
	OwnerID    string    `json:"owner_id,omitempty"`
	AgentID    string    `json:"agent_id,omitempty"`
	ActionType string    `json:"action_type,omitempty"`
	ActionHash string    `json:"action_hash,omitempty"`
	Purpose    string    `json:"purpose"`
	Roles      *[]string `json:"system_roles,omitempty"`
}

// SignSession issues a session's token.
func (k *Key) SignSession(s Session) (string, error) {
	roles := append([]string{}, s.Roles...)
	return k.signOwn(ownClaims{Purpose: sessionPurpose, ID: s.ID, Subject: s.UserID, Roles: &roles}, s.IssuedAt, s.Expires)
}

// SignApproval issues an approval token.
func (k *Key) SignApproval(a ApprovalToken) (string, error) {
	return k.signOwn(ownClaims{
		Purpose: approvalPurpose, RequestID: a.RequestID, OwnerType: a.OwnerType, OwnerID: a.OwnerID,
		AgentID: a.AgentID, ActionType: a.ActionType, ActionHash: a.ActionHash,
	}, a.IssuedAt, a.Expires)
}

func (k *Key) signOwn(c ownClaims, from, until time.Time) (string, error) {
	c.Issuer, c.KeyID, c.IssuedAt, c.Expires = issuer, k.ID, formatTime(from), formatTime(until)
	if !from.Before(until) || from.IsZero() {
		return "", fmt.Errorf("signing a token for %s: want a life, got from %s until %s", c.Purpose, c.IssuedAt, c.Expires)
	}
	claims, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("signing a token for %s: %w", c.Purpose, err)
	}
	token := signToken(k.private, claims, footerOf(k.ID), ownAssertion(c.Purpose))
	if len(token) > maxToken {
		return "", fmt.Errorf("signing a token for %s: %d bytes, at most %d are verified", c.Purpose, len(token), maxToken)
	}
	return token, nil
}

func ownAssertion(purpose string) []byte { return []byte("openleash-" + purpose + "-v1") }

// VerifySession returns what a session's token says, when one of the keys has signed it
// that is not revoked, and it is not over.
func VerifySession(token string, keys []PublicKey, now time.Time) (Session, error) {
	in, from, until, err := verifyOwn(token, sessionPurpose, keys, now)
	if err != nil {
		return Session{}, fmt.Errorf("verifying the session: %w", err)
	}
	s := Session{ID: in.text("jti"), UserID: in.text("sub"), IssuedAt: from, Expires: until, Roles: in.texts("system_roles")}
	if in.err != nil || s.ID == "" || s.UserID == "" {
		return Session{}, fmt.Errorf("verifying the session: %w: jti or sub is missing, or %w", ErrMalformed, in.err)
	}
	return s, nil
}

// VerifyApproval returns what an approval token says, as VerifySession does.
func VerifyApproval(token string, keys []PublicKey, now time.Time) (ApprovalToken, error) {
	in, from, until, err := verifyOwn(token, approvalPurpose, keys, now)
	if err != nil {
		return ApprovalToken{}, fmt.Errorf("verifying the approval token: %w", err)
	}
	a := ApprovalToken{
		RequestID: in.text("approval_request_id"), OwnerType: in.text("owner_type"), OwnerID: in.text("owner_id"),
		AgentID: in.text("agent_id"), ActionType: in.text("action_type"), ActionHash: in.text("action_hash"), IssuedAt: from, Expires: until,
	}
	if in.err != nil {
		return ApprovalToken{}, fmt.Errorf("verifying the approval token: %w: %w", ErrMalformed, in.err)
	}
	return a, nil
}

// verifyOwn verifies all that such tokens have in common.
func verifyOwn(token, purpose string, keys []PublicKey, now time.Time) (in *reader, from, until time.Time, err error) {
	fail := func(err error) (*reader, time.Time, time.Time, error) { return nil, time.Time{}, time.Time{}, err }
	payload, footer, err := split(token)
	if err != nil {
		return fail(err)
	}
	kid, ok := kidOf(footer)
	if !ok {
		return fail(fmt.Errorf("%w: the footer is %.80q, want exactly %s", ErrMalformed, footer, footerOf("k4.pid.…")))
	}
	key, err := find(keys, kid)
	if err != nil {
		return fail(err)
	}
	if err := key.verify(token, ownAssertion(purpose)); err != nil {
		return fail(err) // also when it is a good token for another purpose
	}
	v, err := action.Parse(payload, action.Limits{Bytes: maxToken})
	if err != nil || v.Kind() != action.Object {
		return fail(fmt.Errorf("%w: its claims are no JSON object: %w", ErrMalformed, err))
	}
	in = &reader{v: v}
	from, until = in.time("iat"), in.time("exp")
	switch {
	case in.text("iss") != issuer || in.text("purpose") != purpose || in.text("kid") != key.ID:
		return fail(fmt.Errorf("%w: want purpose %q, got %.80q", ErrOwnPurpose, purpose, in.text("purpose")))
	case in.err != nil:
		return fail(fmt.Errorf("%w: %w", ErrMalformed, in.err))
	case from.IsZero() || !now.Before(until):
		return fail(fmt.Errorf("%w: at %s", ErrOver, formatTime(until)))
	}
	return in, from, until, nil
}

// texts reads a list of strings.
func (r *reader) texts(name string) (list []string) {
	v := r.get(name)
	if v.Kind() != action.Array {
		r.fail(name, "want a list of strings")
		return nil
	}
	for _, item := range v.Items() {
		if item.Kind() != action.String {
			r.fail(name, "want a list of strings")
		}
		list = append(list, item.Text())
	}
	return list
}
