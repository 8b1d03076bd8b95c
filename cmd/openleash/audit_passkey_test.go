package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/descope/virtualwebauthn"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/internal/passkeytest"
	"github.com/openleash/openleash-go/passkey"
)

// An auditor with a pinned passkey and a log gets a yes for what its owner has approved,
// and a no for each thing that was changed.
func TestAuditVerifyPasskey(t *testing.T) {
	hash := action.Hash{7}
	pinned, signed := signedApproval(t, "r1", hash)
	entry := func(change func(*audit.Entry)) string {
		e := audit.Entry{
			TS: "2026-11-27T07:00:00.000Z", Event: "approval.approved", ActorType: "owner", ActorID: "portal:ann", AgentID: "bot", ActionHash: hash.String(), ApprovalID: "r1",
			Approver: "portal:ann", Factor: "passkey",
			Passkey: &audit.Passkey{CredentialID: signed.CredentialID, AuthenticatorData: signed.AuthenticatorData, ClientData: signed.ClientData, Signature: signed.Signature},
		}
		if change != nil {
			change(&e)
		}
		line, err := audit.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		return string(line)
	}
	otherPin, _ := signedApproval(t, "r1", hash)
	good := entry(nil)
	for name, tt := range map[string]struct {
		log, pin string
		want     string // empty: yes
	}{
		"yes":             {`{"event":"decision"}` + "\n" + good + "\n", pinned, ""},
		"another action":  {entry(func(e *audit.Entry) { e.ActionHash = action.Hash{8}.String() }), pinned, "not the approval of this request and this action"},
		"another request": {entry(func(e *audit.Entry) { e.ApprovalID = "r2" }), pinned, "not the approval of this request and this action"},
		"no hash":         {entry(func(e *audit.Entry) { e.ActionHash = "" }), pinned, "no "},
		"a signature of another": {entry(func(e *audit.Entry) {
			p := *e.Passkey
			p.Signature = append([]byte{}, p.Signature...)
			p.Signature[9] ^= 1
			e.Passkey = &p
		}), pinned, "signature is not the pinned passkey's"},
		"one of two":          {good + "\n" + entry(func(e *audit.Entry) { e.ApprovalID = "r2" }), pinned, "no "},
		"another passkey":     {good, otherPin, "no line approval.approved names it"},
		"no passkey":          {entry(func(e *audit.Entry) { e.Passkey = nil }), pinned, "no line approval.approved names it"},
		"a denial":            {strings.Replace(good, "approval.approved", "approval.denied", 1), pinned, "no line approval.approved names it"},
		"two action hashes":   {strings.Replace(good, `"approval_id"`, `"action_hash":"x","approval_id"`, 1), pinned, "want a line of the log"},
		"an empty log":        {"", pinned, "no line approval.approved names it"},
		"no pinned passkey":   {good, "x", "want one line"},
		"a receipt, no key":   {audit.ReceiptHead + "x", pinned, "give the log's public key by --key"},
		"only half of a line": {good[:len(good)/2], pinned, "want a line of the log"},
	} {
		t.Run(name, func(t *testing.T) {
			pin := filepath.Join(t.TempDir(), "pinned")
			if err := os.WriteFile(pin, []byte(tt.pin+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			cmd := auditVerifyPasskey()
			cmd.SetArgs([]string{"--passkey", pin, "-"})
			cmd.SetIn(strings.NewReader(tt.log))
			cmd.SetOut(&out)
			cmd.SetErr(&out)
			err := cmd.ExecuteContext(t.Context())
			if tt.want == "" {
				if err != nil || !strings.HasPrefix(out.String(), "yes -:2: request r1, action "+hash.String()+", agent bot") {
					t.Errorf("%v\n%s", err, out.String())
				}
			} else if err == nil || !strings.Contains(out.String(), tt.want) {
				t.Errorf("want %q, got %v\n%s", tt.want, err, out.String())
			}
		})
	}
}

// signedApproval is a pinned passkey, and what it has signed to approve.
func signedApproval(t *testing.T, request string, hash action.Hash) (string, approvals.Assertion) {
	t.Helper()
	const origin = "http://openleash.localhost:8787"
	parties, err := passkey.NewParties(origin)
	if err != nil {
		t.Fatal(err)
	}
	party := parties[0]
	rp := virtualwebauthn.RelyingParty{Name: "OpenLeash", ID: party.ID(), Origin: origin}
	auth, cred := virtualwebauthn.NewAuthenticator(), passkeytest.EC2()
	owner := identity.Owner{ID: "o1", Name: "ann"}
	options, err := party.Creation([32]byte{1}, owner, nil)
	if err != nil {
		t.Fatal(err)
	}
	creation, err := virtualwebauthn.ParseAttestationOptions(string(options))
	if err != nil {
		t.Fatal(err)
	}
	k, err := party.Created([32]byte{1}, owner, []byte(virtualwebauthn.CreateAttestationResponse(rp, auth, cred, *creation)))
	if err != nil {
		t.Fatal(err)
	}
	pinned, err := passkey.Pin(k)
	if err != nil {
		t.Fatal(err)
	}
	if options, err = party.Request(approvals.ApprovalChallenge(request, hash), nil); err != nil {
		t.Fatal(err)
	}
	ask, err := virtualwebauthn.ParseAssertionOptions(string(options))
	if err != nil {
		t.Fatal(err)
	}
	a, err := passkey.ReadAssertion([]byte(virtualwebauthn.CreateAssertionResponse(rp, auth, cred, *ask)))
	if err != nil {
		t.Fatal(err)
	}
	return pinned.String(), a
}
