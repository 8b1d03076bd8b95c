package api

import (
	"errors"
	"net/http"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/proof"
)

type verifyAnswer struct {
	Valid  bool          `json:"valid"`
	Reason string        `json:"reason,omitempty"` // why not
	Claims *proof.Claims `json:"claims,omitempty"` // of a proof that is ours and in time, also when it is not the expected one
}

// verifyProof says whether a token is a proof of ours, valid now, for what the
// caller expects. A field that is absent, null or empty is not expected. An
// invalid proof is an answer, with status 200; a question that cannot be
// understood is 400, and so is never taken for a yes.
func (s *server) verifyProof(r *http.Request) (any, error) {
	body, err := readObject(r, "token", "expected_action_hash", "expected_agent_id", "expected_audience", "expected_call_hash")
	if err != nil {
		return nil, err
	}
	token, err := optionalString(body, "token")
	if err != nil {
		return nil, err
	}
	want, err := s.expectations(body)
	if err != nil {
		return nil, err
	}
	if token == "" {
		return verifyAnswer{Reason: "Missing token"}, nil
	}
	claims, err := proof.Verify(token, want)
	if err != nil {
		return invalid(token, want, err), nil
	}
	return verifyAnswer{Valid: true, Claims: &claims}, nil
}

// invalid says why not. When the proof is genuine but not the expected one, the
// claims tell what it is for. Reasons are worded as SDKs know them.
func invalid(token string, want proof.Expect, err error) verifyAnswer {
	reason := err.Error()
	switch {
	case errors.Is(err, proof.ErrActionHash):
		reason = "action_hash mismatch"
	case errors.Is(err, proof.ErrAgent):
		reason = "agent_id mismatch"
	case errors.Is(err, proof.ErrExpired):
		return verifyAnswer{Reason: "Token expired"}
	case !errors.Is(err, proof.ErrAudience) && !errors.Is(err, proof.ErrCallHash):
		return verifyAnswer{Reason: reason}
	}
	genuine, err := proof.Verify(token, proof.Expect{Keys: want.Keys, Now: want.Now, AnyAudience: true})
	if err != nil {
		return verifyAnswer{Reason: reason}
	}
	return verifyAnswer{Reason: reason, Claims: &genuine}
}

func (s *server) expectations(body action.Value) (want proof.Expect, err error) {
	want.Now = s.Now()
	if want.Keys, err = s.knownKeys(); err != nil {
		return want, err
	}
	if want.ActionHash, err = optionalHash(body, "expected_action_hash"); err != nil {
		return want, err
	}
	if want.CallHash, err = optionalHash(body, "expected_call_hash"); err != nil {
		return want, err
	}
	if want.AgentID, err = optionalString(body, "expected_agent_id"); err != nil {
		return want, err
	}
	want.Audience, err = optionalString(body, "expected_audience")
	want.AnyAudience = want.Audience == ""
	return want, err
}

func optionalHash(body action.Value, name string) (action.Hash, error) {
	text, err := optionalString(body, name)
	if text == "" || err != nil {
		return action.Hash{}, err
	}
	hash, err := action.ParseHash(text)
	if err != nil {
		return action.Hash{}, badField(name, "%v", err)
	}
	if hash.IsZero() { // would mean "not expected"
		return action.Hash{}, badField(name, "no action has this hash")
	}
	return hash, nil
}
