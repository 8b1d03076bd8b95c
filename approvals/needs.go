package approvals

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/openleash/openleash-go/action"
)

// Needs is what an owner's yes takes beside their word. A no takes nothing.
type Needs struct {
	StepUp  bool // a second factor, given with the answer
	Deposit bool // the reference of a deposit
}

// String gives the words that the store keeps: "", "step_up", "deposit", "step_up deposit".
func (n Needs) String() string {
	var words []string
	if n.StepUp {
		words = append(words, "step_up")
	}
	if n.Deposit {
		words = append(words, "deposit")
	}
	return strings.Join(words, " ")
}

// ParseNeeds reads what String has written.
func ParseNeeds(s string) (Needs, error) {
	for _, n := range []Needs{{}, {StepUp: true}, {Deposit: true}, {StepUp: true, Deposit: true}} {
		if n.String() == s {
			return n, nil
		}
	}
	return Needs{}, fmt.Errorf("what an approval takes: want step_up, deposit, both or nothing, got %q", s)
}

// MetBy reports whether what was given is all that is needed.
func (n Needs) MetBy(given Needs) bool {
	return (!n.StepUp || given.StepUp) && (!n.Deposit || given.Deposit)
}

// A Factor is a second factor that was verified when it was given with an answer.
type Factor struct {
	Method  string     // "totp", "passkey"; empty: none was given
	Passkey *Assertion // by a passkey, so that whoever has its public key can verify it again
}

// An Assertion is what a passkey has signed, as WebAuthn has it (Web Authentication
// Level 2, AuthenticatorAssertionResponse): to the byte.
type Assertion struct {
	CredentialID      []byte `json:"credential_id"`
	AuthenticatorData []byte `json:"authenticator_data"`
	ClientData        []byte `json:"client_data"`
	Signature         []byte `json:"signature"`
}

// MaxReference is how many characters the reference of a deposit has at most.
const MaxReference = 200

// CheckReference returns nil for a text that can be the reference of a deposit, and else
// an error that is ErrReferenceNeeded.
func CheckReference(s string) error {
	switch n := utf8.RuneCountInString(s); {
	case strings.TrimSpace(s) == "":
		return ErrReferenceNeeded
	case n > MaxReference:
		return fmt.Errorf("%w: want 1 to %d characters, got %d", ErrReferenceNeeded, MaxReference, n)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return fmt.Errorf("%w: want a text on one line", ErrReferenceNeeded)
	}
	return nil
}

// Given is what was given with the approval.
func (r Request) Given() Needs {
	return Needs{StepUp: r.Factor.Method != "", Deposit: r.DepositReference != ""}
}

// Confirmable returns nil when an approval with that factor and reference has all that r
// needs, and else ErrFactorNeeded or an error that is ErrReferenceNeeded. A passkey's
// assertion counts only if it was made for r and for the action that was shown.
func (r Request) Confirmable(a Answer) error {
	if r.Needs.StepUp && a.Factor.Method == "" {
		return ErrFactorNeeded
	}
	if p := a.Factor.Passkey; p != nil && !p.Answers(ApprovalChallenge(r.ID, r.ActionHash)) {
		return ErrOtherAssertion
	}
	if r.Needs.Deposit || a.DepositReference != "" {
		return CheckReference(a.DepositReference)
	}
	return nil
}

// ApprovalChallenge is what a passkey signs to approve a request: the SHA-256 of these
// lines, so that its signature is good for this request and this action alone.
//
//	openleash-approval-v1
//	approve
//	the request's id
//	the action's hash, "sha256:…"
//
// The lines are separated by one newline (0x0A); none follows the last.
func ApprovalChallenge(requestID string, hash action.Hash) [32]byte {
	return sum("openleash-approval-v1\napprove\n" + requestID + "\n" + hash.String())
}
