package authz_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/descope/virtualwebauthn"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/internal/passkeytest"
	"github.com/openleash/openleash-go/owners"
	"github.com/openleash/openleash-go/passkey"
	"github.com/openleash/openleash-go/policy"
	"github.com/openleash/openleash-go/proof"
)

// codes are the second factor of an owner: each is good once.
type codes map[string]bool

var errWrong = errors.New("wrong code")

func (c codes) Verify(_ context.Context, _, code string) (string, error) {
	if !c[code] {
		return "", errWrong
	}
	delete(c, code)
	return "totp", nil
}

func (c codes) Enrolled(context.Context, string) (bool, error) { return c != nil, nil }

// confirming is a room whose owner has these codes.
func confirming(t *testing.T, list ...string) *room {
	t.Helper()
	c := codes{}
	for _, code := range list {
		c[code] = true
	}
	return newRoom(t, rules, func(cfg *authz.Config) { cfg.Factors = c })
}

// approve is the owner's yes to what waits.
func (r *room) approve(ans authz.Answer, c authz.Confirmation) error {
	_, err := r.Approve(context.Background(), "portal:ann", ans.Approval.ID, ans.ActionHash, c)
	return err
}

func wantError(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: want %v, got %v", what, want, got)
	}
}

// A step-up is met by a factor that comes with the yes, and by nothing else.
func TestStepUp(t *testing.T) {
	r := confirming(t, "111111")
	const call = `{"a":1,"assurance_level":"HIGH"}` // which is the agent's to say
	asked := r.call(t, "wire", call)
	if asked.Outcome != policy.RequireStepUp || asked.Code != authz.ApprovalRequired || asked.Approval.Needs != (approvals.Needs{StepUp: true}) {
		t.Fatalf("%+v", asked)
	}
	_, err := r.AnswerShown(t.Context(), "portal:ann", asked.Approval.ID, asked.ActionHash, true, "")
	wantError(t, "a session alone", err, approvals.ErrFactorNeeded)
	wantError(t, "no code", r.approve(asked, authz.Confirmation{}), approvals.ErrFactorNeeded)
	wantError(t, "a wrong code", r.approve(asked, authz.Confirmation{Code: "000000"}), errWrong)
	_, err = r.Give(t.Context(), "portal:ann", asked.Approval.ID, asked.ActionHash, approvals.Terms{Uses: 5})
	wantError(t, "a standing grant", err, approvals.ErrNoStanding)
	wantCode(t, r.call(t, "wire", call), authz.ApprovalRequired)

	if err := r.approve(asked, authz.Confirmation{Code: "111111"}); err != nil {
		t.Fatal(err)
	}
	ran := r.call(t, "wire", call)
	wantCode(t, ran, authz.Allowed)
	claims, err := proof.Verify(ran.Proof, proof.Expect{Keys: []proof.PublicKey{r.key.Public()}, Now: r.now, Audience: "mcp:s", AgentID: "bot", ActionHash: ran.ActionHash})
	if err != nil || claims.Approval == nil || claims.Approval.Factor != "totp" {
		t.Errorf("the proof says %+v, %v", claims.Approval, err)
	}
	for _, e := range r.entries(t) {
		if e.Event == "approval.approved" && e.Factor != "totp" {
			t.Errorf("logged without its factor: %+v", e)
		}
	}
	next := r.call(t, "wire", `{"a":2}`)
	wantError(t, "a used code", r.approve(next, authz.Confirmation{Code: "111111"}), errWrong)
}

func TestNobodyIsEnrolled(t *testing.T) {
	for name, c := range map[string]authz.Factors{"no factors": nil, "none of this owner": codes(nil)} {
		r := newRoom(t, rules, func(cfg *authz.Config) { cfg.Factors = c })
		asked := r.call(t, "wire", `{}`)
		wantError(t, name, r.approve(asked, authz.Confirmation{Code: "111111"}), identity.ErrNoFactor)
		if can, err := r.CanStepUp(t.Context(), asked.Approval.OwnerID); can || err != nil {
			t.Errorf("%s: can step up: %t, %v", name, can, err)
		}
		if err := r.approve(r.call(t, "write", `{}`), authz.Confirmation{}); err != nil {
			t.Errorf("%s: what takes no factor: %v", name, err)
		}
	}
}

// A code is not spent on a yes that does not count anyway.
func TestCodeIsKeptForWhatCounts(t *testing.T) {
	r := confirming(t, "111111")
	r.ruleChange(t, "version: 1\ndefault: deny\nrules: [{id: a, effect: allow, action: '*', obligations: [{type: DEPOSIT}, {type: STEP_UP_AUTH}]}]\n")
	asked := r.call(t, "wire", `{}`)
	if asked.Approval.Needs != (approvals.Needs{StepUp: true, Deposit: true}) {
		t.Fatalf("%+v", asked.Approval.Needs)
	}
	wantError(t, "no reference", r.approve(asked, authz.Confirmation{Code: "111111"}), approvals.ErrReferenceNeeded)
	wantError(t, "no code", r.approve(asked, authz.Confirmation{DepositReference: "D-1"}), approvals.ErrFactorNeeded)
	if err := r.approve(asked, authz.Confirmation{Code: "111111", DepositReference: "D-1"}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, r.call(t, "wire", `{}`), authz.Allowed)
}

func TestDeposit(t *testing.T) {
	r := confirming(t)
	asked := r.call(t, "rent", `{}`)
	if asked.Outcome != policy.RequireDeposit || asked.Approval.Needs != (approvals.Needs{Deposit: true}) {
		t.Fatalf("%+v", asked)
	}
	for what, reference := range map[string]string{
		"none": "", "blank": " \t", "too long": strings.Repeat("é", approvals.MaxReference+1), "two lines": "a\nb", "no text": "a\xff",
	} {
		wantError(t, what, r.approve(asked, authz.Confirmation{DepositReference: reference}), approvals.ErrReferenceNeeded)
	}
	longest := strings.Repeat("é", approvals.MaxReference)
	if err := r.approve(asked, authz.Confirmation{DepositReference: longest}); err != nil {
		t.Fatal(err)
	}
	ran := r.call(t, "rent", `{}`)
	wantCode(t, ran, authz.Allowed)
	if ran.Approval.DepositReference != longest || ran.Approval.Factor.Method != "" {
		t.Errorf("kept: %q, %q", ran.Approval.DepositReference, ran.Approval.Factor.Method)
	}
	all := r.entries(t)
	if e := all[len(all)-2]; e.Event != "approval.approved" || e.DepositReference != longest {
		t.Errorf("logged %+v", e)
	}
}

func TestDenialTakesNothing(t *testing.T) {
	r := confirming(t)
	for _, tool := range []string{"wire", "rent"} {
		asked := r.call(t, tool, `{}`)
		if _, err := r.AnswerShown(t.Context(), "portal:ann", asked.Approval.ID, asked.ActionHash, false, "no"); err != nil {
			t.Errorf("%s: %v", tool, err)
		}
		wantCode(t, r.call(t, tool, `{}`), authz.ApprovalDenied)
	}
}

// What was given holds for what the policy asks for when it is asked again.
func TestPolicyHasChangedSinceTheAnswer(t *testing.T) {
	rule := func(obligations string) string {
		return "version: 1\ndefault: deny\nrules: [{id: a, effect: allow, action: '*', obligations: [" + obligations + "]}]\n"
	}
	const approval, stepUp, deposit = "{type: HUMAN_APPROVAL}", "{type: STEP_UP_AUTH}", "{type: DEPOSIT}"
	for _, tt := range []struct {
		then, now string
		passes    bool
	}{
		{approval, stepUp, false},
		{approval, approval + "," + stepUp, false},
		{approval, deposit, false},
		{stepUp, approval, true},
		{stepUp, stepUp + "," + approval, true},
		{stepUp, deposit + "," + stepUp, false},
		{stepUp, deposit, false},
		{deposit, stepUp, false},
		{deposit, approval, true},
		{deposit + "," + stepUp, deposit, true},
		{deposit + "," + stepUp, stepUp, true},
	} {
		t.Run(tt.then+" then "+tt.now, func(t *testing.T) {
			r := confirming(t, "1", "2")
			r.ruleChange(t, rule(tt.then))
			asked := r.call(t, "write", `{}`)
			given := authz.Confirmation{}
			if asked.Approval.Needs.StepUp {
				given.Code = "1"
			}
			if asked.Approval.Needs.Deposit {
				given.DepositReference = "D-1"
			}
			if err := r.approve(asked, given); err != nil {
				t.Fatal(err)
			}
			r.ruleChange(t, rule(tt.now))
			again := r.call(t, "write", `{}`)
			if tt.passes {
				wantCode(t, again, authz.Allowed)
				return
			}
			wantCode(t, again, authz.ApprovalRequired)
			if again.Approval.ID == asked.Approval.ID {
				t.Error("it is the request that was approved for less")
			}
			if err := r.approve(again, authz.Confirmation{Code: "2", DepositReference: "D-2"}); err != nil {
				t.Fatal(err)
			}
			wantCode(t, r.call(t, "write", `{}`), authz.Allowed)
		})
	}
}

// A request that waits is asked anew when the policy asks for something else by now: its
// owner is shown what the yes takes.
func TestPolicyHasChangedWhileItWaits(t *testing.T) {
	r := confirming(t, "1")
	asked := r.call(t, "write", `{}`)
	r.ruleChange(t, "version: 1\ndefault: deny\nrules: [{id: a, effect: allow, action: '*', obligations: [{type: STEP_UP_AUTH}]}]\n")
	again := r.call(t, "write", `{}`)
	if again.Approval.ID == asked.Approval.ID || !again.Approval.Needs.StepUp {
		t.Errorf("%+v", again.Approval)
	}
	wantError(t, "the former", r.approve(asked, authz.Confirmation{}), approvals.ErrExpired)
	same := r.call(t, "write", `{}`)
	if same.Approval.ID != again.Approval.ID {
		t.Errorf("asked a third time: %+v", same.Approval)
	}
}

// A passkey stands for a code when it has signed for that request and that action, as one
// of the owner's own.
func TestStepUpByPasskey(t *testing.T) {
	r := newRoom(t, rules)
	parties, err := passkey.NewParties("http://openleash.localhost:8787")
	if err != nil {
		t.Fatal(err)
	}
	phone := newDevice(t, parties[0])
	r.Service, err = authz.New(authz.Config{Store: r.store, Owner: r.Owner(), Policies: r.keeper, Key: r.key, Now: func() time.Time { return r.now },
		Factors: codes{}, Passkeys: passkey.Checker{Parties: parties, Store: r.store}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Service.Close() })
	mine, theirs := phone.register(r.Owner()), newDevice(t, parties[0])
	mine.Name, mine.CreatedAt = "phone", r.now
	if err := r.store.Change(t.Context(), owners.Change{Passkey: &mine}); err != nil {
		t.Fatal(err)
	}
	asked, other := r.call(t, "wire", `{"a":1}`), r.call(t, "wire", `{"a":2}`)
	signed := func(d *device, request string, hash action.Hash) *approvals.Assertion {
		return d.signs(approvals.ApprovalChallenge(request, hash))
	}
	id, hash := asked.Approval.ID, asked.ActionHash
	changed := signed(phone, id, hash)
	changed.Signature = append([]byte{}, changed.Signature...)
	changed.Signature[10] ^= 1
	for what, a := range map[string]*approvals.Assertion{
		"for another request":         signed(phone, other.Approval.ID, hash),
		"for another action":          signed(phone, id, other.ActionHash),
		"by nobody's passkey":         signed(theirs, id, hash),
		"by another key under the id": {CredentialID: mine.ID, AuthenticatorData: changed.AuthenticatorData, ClientData: changed.ClientData, Signature: signed(theirs, id, hash).Signature},
		"with a changed signature":    changed,
		"of nothing":                  {},
	} {
		wantError(t, what, r.approve(asked, authz.Confirmation{Passkey: a}), identity.ErrPasskey)
	}
	good := signed(phone, id, hash)
	if err := r.approve(asked, authz.Confirmation{Passkey: good}); err != nil {
		t.Fatal(err)
	}
	wantError(t, "replayed", r.approve(asked, authz.Confirmation{Passkey: good}), approvals.ErrAnswered)
	wantError(t, "replayed elsewhere", r.approve(other, authz.Confirmation{Passkey: good}), identity.ErrPasskey)
	ran := r.call(t, "wire", `{"a":1}`)
	wantCode(t, ran, authz.Allowed)
	if ran.Approval.Factor.Method != "passkey" || ran.Approval.Factor.Passkey == nil {
		t.Errorf("kept: %+v", ran.Approval.Factor)
	}
	for _, e := range r.entries(t) {
		if e.Event == "approval.approved" && (e.Factor != "passkey" || e.Passkey == nil || !bytes.Equal(e.Passkey.Signature, good.Signature) || !bytes.Equal(e.Passkey.ClientData, good.ClientData)) {
			t.Errorf("logged: %+v", e)
		}
	}
}

// A device is an authenticator with one passkey, and the browser before it.
type device struct {
	t     *testing.T
	party *passkey.Party
	rp    virtualwebauthn.RelyingParty
	auth  virtualwebauthn.Authenticator
	cred  virtualwebauthn.Credential
}

func newDevice(t *testing.T, p *passkey.Party) *device {
	rp := virtualwebauthn.RelyingParty{Name: "OpenLeash", ID: p.ID(), Origin: "http://openleash.localhost:8787"}
	return &device{t, p, rp, virtualwebauthn.NewAuthenticator(), passkeytest.EC2()}
}

func (d *device) register(owner identity.Owner) identity.Passkey {
	d.t.Helper()
	options, err := d.party.Creation([32]byte{1}, owner, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	parsed, err := virtualwebauthn.ParseAttestationOptions(string(options))
	if err != nil {
		d.t.Fatal(err)
	}
	k, err := d.party.Created([32]byte{1}, owner, []byte(virtualwebauthn.CreateAttestationResponse(d.rp, d.auth, d.cred, *parsed)))
	if err != nil {
		d.t.Fatal(err)
	}
	return k
}

func (d *device) signs(challenge [32]byte) *approvals.Assertion {
	d.t.Helper()
	options, err := d.party.Request(challenge, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	parsed, err := virtualwebauthn.ParseAssertionOptions(string(options))
	if err != nil {
		d.t.Fatal(err)
	}
	a, err := passkey.ReadAssertion([]byte(virtualwebauthn.CreateAssertionResponse(d.rp, d.auth, d.cred, *parsed)))
	if err != nil {
		d.t.Fatal(err)
	}
	return &a
}

// Each further call in other words is asked for with what it takes.
func TestFoldedStepUpStaysOne(t *testing.T) {
	r := confirming(t, "1")
	words := func(n int) string { return fmt.Sprintf(`{"to":"bob@b.example","text":%q}`, mails[n]) }
	first, second := r.call(t, "wire", words(0)), r.call(t, "wire", words(1))
	if second.Approval.ID != first.Approval.ID || second.Approval.Version != 2 || !second.Approval.Needs.StepUp {
		t.Fatalf("%+v", second.Approval)
	}
	wantError(t, "what was shown first", r.approve(first, authz.Confirmation{Code: "1"}), approvals.ErrReplaced)
	wantError(t, "no code", r.approve(second, authz.Confirmation{}), approvals.ErrFactorNeeded)
	if err := r.approve(second, authz.Confirmation{Code: "1"}); err != nil {
		t.Error(err)
	}
}

// A limit that wants a step-up lets through what was approved with one, as far beyond as
// was shown, and not what was approved while it wanted less.
func TestLimitIsMetByStepUp(t *testing.T) {
	over := func(word string) string { return withLimits(fmt.Sprintf(daily, ", over: "+word)) }
	r := confirming(t, "1", "2", "3")
	r.ruleChange(t, over("require_step_up"))
	wantCode(t, r.buys(t, 100), authz.Allowed)
	asked := r.buys(t, 5)
	wantError(t, "no code", r.approve(asked, authz.Confirmation{}), approvals.ErrFactorNeeded)
	if err := r.approve(asked, authz.Confirmation{Code: "1"}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, r.buys(t, 5), authz.Allowed)

	r.ruleChange(t, over("require_approval"))
	for _, call := range []string{"buy", "ask"} {
		asked = r.call(t, call, `{"n":7}`)
		if err := r.approve(asked, authz.Confirmation{}); err != nil {
			t.Fatal(err)
		}
		r.ruleChange(t, over("require_step_up"))
		again := r.call(t, call, `{"n":7}`)
		if again.Outcome != policy.RequireStepUp || again.Approval.ID == asked.Approval.ID {
			t.Errorf("%s: approved while the limit wanted less: %s %s", call, again.Outcome, again.Code)
		}
		r.ruleChange(t, over("require_approval"))
	}
}

// What takes a step-up is denied by a limit that denies, and counts in it.
func TestStepUpAndLimitThatDenies(t *testing.T) {
	r := confirming(t, "1")
	r.ruleChange(t, "version: 1\ndefault: deny\nrules: [{id: a, effect: allow, action: '*', obligations: [{type: STEP_UP_AUTH}]}]\nlimits: ["+fmt.Sprintf(daily, "")+"]\n")
	wantCode(t, r.buys(t, 101), authz.LimitExceeded)
	if err := r.approve(r.buys(t, 60), authz.Confirmation{Code: "1"}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, r.buys(t, 60), authz.Allowed)
	wantCode(t, r.buys(t, 41), authz.LimitExceeded)
	wantCode(t, r.buys(t, 40), authz.ApprovalRequired)
}
