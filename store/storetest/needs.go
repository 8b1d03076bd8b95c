package storetest

import (
	"encoding/base64"
	"fmt"
	"testing"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
)

// asserted is a passkey's assertion for a request: whether its signature is good, no
// store asks.
func asserted(id string, hash action.Hash) *approvals.Assertion {
	challenge := approvals.ApprovalChallenge(id, hash)
	return &approvals.Assertion{
		CredentialID: []byte{0, 1, 255}, AuthenticatorData: []byte("authenticator"), Signature: []byte{},
		ClientData: fmt.Appendf(nil, `{"type":"webauthn.get","challenge":%q}`, base64.RawURLEncoding.EncodeToString(challenge[:])),
	}
}

// What a yes takes is asked for in the transaction, and what was given is kept.
func testNeeds(t *testing.T, open Open) {
	hash := request("r", "bot", 1).ActionHash
	code := approvals.Factor{Method: "totp"}
	passkey := approvals.Factor{Method: "passkey", Passkey: asserted("r", hash)}
	for _, test := range []struct {
		needs     approvals.Needs
		factor    approvals.Factor
		reference string
		want      error
	}{
		{approvals.Needs{}, approvals.Factor{}, "", nil},
		{approvals.Needs{}, code, "", nil},
		{approvals.Needs{StepUp: true}, code, "", nil},
		{approvals.Needs{StepUp: true}, passkey, "", nil},
		{approvals.Needs{StepUp: true}, approvals.Factor{}, "D-1", approvals.ErrFactorNeeded},
		{approvals.Needs{StepUp: true}, approvals.Factor{Method: "passkey", Passkey: asserted("other", hash)}, "", approvals.ErrOtherAssertion},
		{approvals.Needs{StepUp: true}, approvals.Factor{Method: "passkey", Passkey: asserted("r", action.Hash{1})}, "", approvals.ErrOtherAssertion},
		{approvals.Needs{Deposit: true}, approvals.Factor{}, "D-1", nil},
		{approvals.Needs{Deposit: true}, code, "", approvals.ErrReferenceNeeded},
		{approvals.Needs{StepUp: true, Deposit: true}, code, "D-1", nil},
		{approvals.Needs{StepUp: true, Deposit: true}, approvals.Factor{}, "D-1", approvals.ErrFactorNeeded},
		{approvals.Needs{StepUp: true, Deposit: true}, code, "", approvals.ErrReferenceNeeded},
	} {
		t.Run(fmt.Sprintf("%q/%s/%s", test.needs, test.factor.Method, test.reference), func(t *testing.T) {
			s := open(t, t.TempDir())
			want := request("r", "bot", 1)
			want.Needs = test.needs
			commit(t, s, ask(want))
			a := approve("r", start)
			a.Factor, a.DepositReference = test.factor, test.reference
			wantErr(t, "approving", s.Commit(t.Context(), answer(a)), test.want)
			if test.want == nil {
				want = want.Answered(*a)
			}
			got, err := s.Approval(t.Context(), "r")
			if err != nil {
				t.Fatal(err)
			}
			wantSame(t, "request", want, got)
			if test.want != nil {
				commit(t, s, answer(deny("r", start)))
			}
		})
	}
}

// The next version of a request takes what that asks for.
func testNeedsOfVersion(t *testing.T, open Open) {
	s := live(t, open, "pending")
	next := worded("old", "bot", 2, "second")
	next.Needs = approvals.Needs{StepUp: true}
	commit(t, s, fold(t, s, next, start))
	wantErr(t, "approving", s.Commit(t.Context(), answer(approveShown(next, start))), approvals.ErrFactorNeeded)
}
