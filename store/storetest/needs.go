package storetest

import (
	"encoding/base64"
	"fmt"
	"testing"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/owners"
)

// asserted is a passkey's assertion for a request: whether its signature is good, no
// store asks.
func asserted(id string, hash action.Hash) *approvals.Assertion {
	challenge := approvals.ApprovalChallenge(id, hash)
	return &approvals.Assertion{
		CredentialID: keyID, AuthenticatorData: authenticated(7), Signature: []byte{},
		ClientData: fmt.Appendf(nil, `{"type":"webauthn.get","challenge":%q}`, base64.RawURLEncoding.EncodeToString(challenge[:])),
	}
}

var keyID = []byte{0, 1, 255}

// authenticated is authenticator data with that counter.
func authenticated(counter byte) []byte {
	data := make([]byte, 37)
	data[36] = counter
	return data
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
			want.Needs, want.OwnerID = test.needs, withPasskey(t, s)
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

// withPasskey registers passkey keyID, which has signed five times, and returns whose it is.
func withPasskey(t *testing.T, s Store) (ownerID string) {
	t.Helper()
	owner, err := s.EnsureOwner(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	k := identity.Passkey{ID: keyID, OwnerID: owner.ID, RPID: "openleash.localhost", Name: "phone", PublicKey: []byte{1}, SignCount: 5, Flags: 0x1d, Transports: []string{"internal", "hybrid"}, CreatedAt: start}
	wantErr(t, "registering", s.Change(t.Context(), owners.Change{Passkey: &k}), nil)
	return owner.ID
}

// A passkey approves once for each step of its counter, while it is registered, and what
// its owner is asked.
func testApproveByPasskey(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	owner := withPasskey(t, s)
	approveBy := func(id, ownerID string, counter byte) error {
		r := request(id, "bot", id[1])
		r.Needs, r.OwnerID = approvals.Needs{StepUp: true}, ownerID
		commit(t, s, ask(r))
		a := approve(id, start)
		a.Factor = approvals.Factor{Method: "passkey", Passkey: asserted(id, r.ActionHash)}
		a.Factor.Passkey.AuthenticatorData = authenticated(counter)
		return s.Commit(t.Context(), answer(a))
	}
	wantErr(t, "the counter as it was", approveBy("r1", owner, 5), identity.ErrPasskey)
	wantErr(t, "no counter any more", approveBy("r2", owner, 0), identity.ErrPasskey)
	wantStatus(t, s, "r1", approvals.Pending)
	wantErr(t, "the next", approveBy("r3", owner, 6), nil)
	wantStatus(t, s, "r3", approvals.Approved)
	k, err := s.Passkey(t.Context(), keyID)
	if err != nil || k.SignCount != 6 || !k.UsedAt.Equal(start) {
		t.Errorf("%+v, %v", k, err)
	}
	wantErr(t, "the same counter again", approveBy("r4", owner, 6), identity.ErrPasskey)
	wantErr(t, "of another owner's request", approveBy("r5", ownerID, 7), identity.ErrPasskey)
	wantErr(t, "removing", s.Change(t.Context(), owners.Change{Forget: &owners.PasskeyDrop{OwnerID: owner, ID: keyID}}), nil)
	wantErr(t, "removed", approveBy("r6", owner, 8), identity.ErrPasskey)
	wantStatus(t, s, "r6", approvals.Pending)
}

func testPasskeys(t *testing.T, open Open) {
	place := t.TempDir()
	s := open(t, place)
	owner := withPasskey(t, s)
	want, err := s.Passkey(t.Context(), keyID)
	wantErr(t, "looking", err, nil)
	if want.Name != "phone" || want.RPID != "openleash.localhost" || want.SignCount != 5 || want.Flags != 0x1d || len(want.Transports) != 2 || !want.CreatedAt.Equal(start) || !want.UsedAt.IsZero() {
		t.Errorf("%+v", want)
	}
	_, err = s.Passkey(t.Context(), []byte{0, 1})
	wantErr(t, "an unknown one", err, identity.ErrNotFound)
	again := want
	wantErr(t, "the same once more", s.Change(t.Context(), owners.Change{Passkey: &again}), identity.ErrPasskeyTaken)
	for i := 1; i < identity.MaxPasskeys; i++ {
		again.ID = []byte{1, byte(i)}
		wantErr(t, "another", s.Change(t.Context(), owners.Change{Passkey: &again}), nil)
	}
	again.ID = []byte{2}
	wantErr(t, "one too many", s.Change(t.Context(), owners.Change{Passkey: &again}), identity.ErrTooManyPasskey)
	wantErr(t, "removing another owner's", s.Change(t.Context(), owners.Change{Forget: &owners.PasskeyDrop{OwnerID: "x", ID: keyID}}), identity.ErrNotFound)

	ticket := owners.Ticket{Challenge: [32]byte{1}, Until: start.Add(time.Minute), Now: start}
	wantErr(t, "a ticket", s.Change(t.Context(), owners.Change{Ticket: &ticket}), nil)
	wantErr(t, "the same in another process", open(t, place).Change(t.Context(), owners.Change{Ticket: &ticket}), identity.ErrSpent)
	use := owners.PasskeyUse{OwnerID: owner, ID: keyID, Counter: 6, Now: start}
	wantErr(t, "a sign-in with a spent ticket", s.Change(t.Context(), owners.Change{Ticket: &ticket, Use: &use}), identity.ErrSpent)
	if k, err := s.Passkey(t.Context(), keyID); err != nil || k.SignCount != 5 {
		t.Errorf("half of a change was done: %+v, %v", k, err)
	}
	wantErr(t, "dropping the factors", s.Change(t.Context(), owners.Change{Drop: owner}), nil)
	left, err := s.Passkeys(t.Context(), owner)
	if err != nil || len(left) != 0 {
		t.Errorf("%d passkeys are left, %v", len(left), err)
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
