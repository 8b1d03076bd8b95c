package passkey_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/descope/virtualwebauthn"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/internal/passkeytest"
	"github.com/openleash/openleash-go/passkey"
)

const origin = "http://openleash.localhost:8787"

var ann = identity.Owner{ID: "ac2dec16-0000-4000-8000-000000000001", Name: "ann"}

// A device is an authenticator with one passkey, and the browser before it.
type device struct {
	t    *testing.T
	rp   virtualwebauthn.RelyingParty
	auth virtualwebauthn.Authenticator
	cred virtualwebauthn.Credential
}

func newDevice(t *testing.T, kind virtualwebauthn.KeyType) *device {
	cred := virtualwebauthn.NewCredential(kind)
	if kind == virtualwebauthn.KeyTypeEC2 {
		cred = passkeytest.EC2()
	}
	return &device{t, virtualwebauthn.RelyingParty{Name: "OpenLeash", ID: "openleash.localhost", Origin: origin}, virtualwebauthn.NewAuthenticator(), cred}
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// creates answers options of Creation.
func (d *device) creates(options []byte) []byte {
	parsed := must(virtualwebauthn.ParseAttestationOptions(`{"publicKey":` + string(options) + `}`))(d.t)
	return []byte(virtualwebauthn.CreateAttestationResponse(d.rp, d.auth, d.cred, *parsed))
}

// signs answers options of Request.
func (d *device) signs(options []byte) []byte {
	parsed := must(virtualwebauthn.ParseAssertionOptions(`{"publicKey":` + string(options) + `}`))(d.t)
	return []byte(virtualwebauthn.CreateAssertionResponse(d.rp, d.auth, d.cred, *parsed))
}

func party(t *testing.T) *passkey.Party {
	t.Helper()
	return must(passkey.NewParties(origin))(t)[0]
}

func (d *device) register(p *passkey.Party, owner identity.Owner) identity.Passkey {
	d.t.Helper()
	challenge := [32]byte{1}
	return must(p.Created(challenge, owner, d.creates(must(p.Creation(challenge, owner, nil))(d.t))))(d.t)
}

func (d *device) asserts(p *passkey.Party, challenge [32]byte) approvals.Assertion {
	d.t.Helper()
	return must(passkey.ReadAssertion(d.signs(must(p.Request(challenge, nil))(d.t))))(d.t)
}

func TestVerify(t *testing.T) {
	for name, kind := range map[string]virtualwebauthn.KeyType{"EC": virtualwebauthn.KeyTypeEC2, "RSA": virtualwebauthn.KeyTypeRSA} {
		t.Run(name, func(t *testing.T) {
			p, d := party(t), newDevice(t, kind)
			k := d.register(p, ann)
			if k.OwnerID != ann.ID || len(k.PublicKey) == 0 {
				t.Fatalf("%+v", k)
			}
			d.cred.Counter = 5
			good := d.asserts(p, [32]byte{2})
			if err := p.Verify(k, [32]byte{2}, good); err != nil {
				t.Fatal(err)
			}
			for what, change := range map[string]func(k *identity.Passkey, challenge *[32]byte, a *approvals.Assertion){
				"another challenge": func(_ *identity.Passkey, c *[32]byte, _ *approvals.Assertion) { c[0] = 3 },
				"another passkey":   func(k *identity.Passkey, _ *[32]byte, _ *approvals.Assertion) { k.ID = []byte("other") },
				"another key": func(k *identity.Passkey, _ *[32]byte, _ *approvals.Assertion) {
					k.PublicKey = newDevice(t, kind).register(p, ann).PublicKey
				},
				"the counter as it was": func(k *identity.Passkey, _ *[32]byte, _ *approvals.Assertion) { k.SignCount = 5 },
				"a changed signature":   func(_ *identity.Passkey, _ *[32]byte, a *approvals.Assertion) { a.Signature = []byte("x") },
				"no signature":          func(_ *identity.Passkey, _ *[32]byte, a *approvals.Assertion) { a.Signature = nil },
				"no client data":        func(_ *identity.Passkey, _ *[32]byte, a *approvals.Assertion) { a.ClientData = nil },
				"no authenticator":      func(_ *identity.Passkey, _ *[32]byte, a *approvals.Assertion) { a.AuthenticatorData = nil },
			} {
				k, challenge, a := k, [32]byte{2}, good
				change(&k, &challenge, &a)
				if err := p.Verify(k, challenge, a); !errors.Is(err, identity.ErrPasskey) && !errors.Is(err, identity.ErrPasskeyCloned) {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
}

// What a browser would not do, or another page has it do.
func TestVerifyRefuses(t *testing.T) {
	for what, change := range map[string]func(d *device){
		"another page":        func(d *device) { d.rp.Origin = "http://evil.example" },
		"another port":        func(d *device) { d.rp.Origin = "http://openleash.localhost:1" },
		"another party":       func(d *device) { d.rp.ID = "localhost" },
		"a user not verified": func(d *device) { d.auth.Options.UserNotVerified = true },
		"a user not there":    func(d *device) { d.auth.Options.UserNotPresent = true },
	} {
		p, d := party(t), newDevice(t, virtualwebauthn.KeyTypeEC2)
		k := d.register(p, ann)
		change(d)
		if err := p.Verify(k, [32]byte{2}, d.asserts(p, [32]byte{2})); !errors.Is(err, identity.ErrPasskey) {
			t.Errorf("%s signs: %v", what, err)
		}
		d = newDevice(t, virtualwebauthn.KeyTypeEC2)
		change(d)
		if _, err := p.Created([32]byte{1}, ann, d.creates(must(p.Creation([32]byte{1}, ann, nil))(t))); !errors.Is(err, identity.ErrPasskey) {
			t.Errorf("%s registers: %v", what, err)
		}
	}
}

// What an auditor has pinned verifies the approval that it was made for, and nothing else.
func TestPinned(t *testing.T) {
	for name, kind := range map[string]virtualwebauthn.KeyType{"EC": virtualwebauthn.KeyTypeEC2, "RSA": virtualwebauthn.KeyTypeRSA} {
		t.Run(name, func(t *testing.T) {
			p, d := party(t), newDevice(t, kind)
			pinned := must(passkey.Pin(d.register(p, ann)))(t)
			pinned = must(passkey.ParsePinned(pinned.String() + "\n"))(t)
			hash, other := action.Hash{1}, action.Hash{2}
			a := d.asserts(p, approvals.ApprovalChallenge("r1", hash))
			if err := pinned.Verify("r1", hash, a); err != nil {
				t.Fatal(err)
			}
			wantNo := func(what string, err error) {
				t.Helper()
				if err == nil {
					t.Errorf("%s: yes", what)
				}
			}
			wantNo("another request", pinned.Verify("r2", hash, a))
			wantNo("another action", pinned.Verify("r1", other, a))
			another := newDevice(t, kind)
			notTheirs := must(passkey.Pin(another.register(p, ann)))(t)
			wantNo("another passkey", notTheirs.Verify("r1", hash, a))
			notTheirs.CredentialID = pinned.CredentialID
			wantNo("another key under its id", notTheirs.Verify("r1", hash, a))
			elsewhere := pinned
			elsewhere.RPID = "example.com"
			wantNo("another party", elsewhere.Verify("r1", hash, a))
			b := a
			b.AuthenticatorData = append([]byte{}, a.AuthenticatorData...)
			b.AuthenticatorData[32] &^= 1 << 2
			wantNo("a user not verified", pinned.Verify("r1", hash, b))
			b.AuthenticatorData[32] |= 1<<2 | 1<<6
			wantNo("changed flags", pinned.Verify("r1", hash, b))
			b = a
			b.ClientData = []byte(strings.Replace(string(a.ClientData), "openleash.localhost", "evil.example", 1))
			wantNo("another page", pinned.Verify("r1", hash, b))
			wantSays := func(says string, change func(*device)) {
				t.Helper()
				other := *d
				change(&other)
				err := pinned.Verify("r1", hash, other.asserts(p, approvals.ApprovalChallenge("r1", hash)))
				if err == nil || !strings.Contains(err.Error(), says) {
					t.Errorf("want %q, got %v", says, err)
				}
			}
			wantSays("did not verify its user", func(d *device) { d.auth.Options.UserNotVerified = true })
			wantSays("did not verify its user", func(d *device) { d.auth.Options.UserNotPresent = true })
			wantSays("not signed on a page of openleash.localhost", func(d *device) { d.rp.Origin = "http://notopenleash.localhost:8787" })
			wantSays("not used for openleash.localhost", func(d *device) { d.rp.ID = "localhost" })
			b.ClientData = []byte(strings.Replace(string(a.ClientData), "webauthn.get", "webauthn.create", 1))
			wantNo("a registration", pinned.Verify("r1", hash, b))
		})
	}
}

func TestParsePinned(t *testing.T) {
	p := party(t)
	good := must(passkey.Pin(newDevice(t, virtualwebauthn.KeyTypeEC2).register(p, ann)))(t).String()
	words := strings.Fields(good)
	for _, line := range []string{"", words[0], good + " x", words[0] + " a= " + words[2], words[0] + " " + words[1] + " AAAA", words[0] + " " + words[1] + " !", strings.Repeat("a", 10_000)} {
		if p, err := passkey.ParsePinned(line); err == nil {
			t.Errorf("%.60q is read as %v", line, p)
		}
	}
}

// A checker takes an owner's own passkeys alone.
func TestChecker(t *testing.T) {
	p, d := party(t), newDevice(t, virtualwebauthn.KeyTypeEC2)
	k := d.register(p, ann)
	c := passkey.Checker{Parties: passkey.Parties{p}, Store: one{k}}
	a := d.asserts(p, [32]byte{2})
	if err := c.Verify(t.Context(), ann.ID, [32]byte{2}, a); err != nil {
		t.Error(err)
	}
	if err := c.Verify(t.Context(), "somebody else", [32]byte{2}, a); !errors.Is(err, identity.ErrPasskey) {
		t.Errorf("another owner's passkey: %v", err)
	}
	a.CredentialID = []byte("unknown")
	if err := c.Verify(t.Context(), ann.ID, [32]byte{2}, a); !errors.Is(err, identity.ErrPasskey) {
		t.Errorf("an unknown passkey: %v", err)
	}
}

func TestParties(t *testing.T) {
	list := must(passkey.NewParties(origin, "https://leash.example.com", "http://openleash.localhost:9000"))(t)
	for host, want := range map[string]string{
		"openleash.localhost:8787": "openleash.localhost", "OpenLeash.localhost:9000": "openleash.localhost", "leash.example.com": "leash.example.com",
		"127.0.0.1:8787": "", "localhost:8787": "", "example.com": "", "": "", "a b": "",
	} {
		p := list.At(host)
		if got := p != nil; got != (want != "") || got && p.ID() != want {
			t.Errorf("at %q: %v, want %q", host, p, want)
		}
	}
	for _, bad := range []string{"", "leash.example.com", "ftp://leash.example.com", "https://leash.example.com/", "https://leash.example.com/x", "https://a@leash.example.com", "https://127.0.0.1", "https://"} {
		if _, err := passkey.NewParties(bad); err == nil {
			t.Errorf("%q is taken for an origin", bad)
		}
	}
	// A passkey of one host does nothing at another.
	d := newDevice(t, virtualwebauthn.KeyTypeEC2)
	k := d.register(list[0], ann)
	a := d.asserts(list[0], [32]byte{2})
	if err := list[1].Verify(k, [32]byte{2}, a); !errors.Is(err, identity.ErrPasskey) {
		t.Errorf("at another host: %v", err)
	}
	c := passkey.Checker{Parties: list[1:], Store: one{k}}
	if err := c.Verify(t.Context(), ann.ID, [32]byte{2}, a); !errors.Is(err, identity.ErrPasskey) {
		t.Errorf("when its host is none of ours any more: %v", err)
	}
}

type one struct{ k identity.Passkey }

func (o one) Passkey(_ context.Context, id []byte) (identity.Passkey, error) {
	if string(id) != string(o.k.ID) {
		return identity.Passkey{}, identity.ErrNotFound
	}
	return o.k, nil
}

func (o one) Passkeys(context.Context, string) ([]identity.Passkey, error) {
	return []identity.Passkey{o.k}, nil
}

// A request names the party, the challenge and the passkeys that may be used, and wants
// the user verified.
func ExampleParty_Request() {
	parties, _ := passkey.NewParties("http://openleash.localhost:8787")
	p := parties[0]
	challenge := approvals.ApprovalChallenge("80a1d03f", action.Hash{})
	options, _ := p.Request(challenge, []identity.Passkey{{ID: []byte{1, 2, 3}}})
	var said struct{ Challenge, RPID, UserVerification string }
	json.Unmarshal(options, &said)
	fmt.Println(said.RPID, said.UserVerification, said.Challenge == base64.RawURLEncoding.EncodeToString(challenge[:]))
	// Output: openleash.localhost required true
}
