package proof

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestExport(t *testing.T) {
	old, k := newTestKey(t), newTestKey(t)
	revoked := old.Public()
	revoked.RevokedAt = noon.Add(time.Hour)
	keys := []PublicKey{revoked, k.Public()}
	doc, err := Export(k, keys, noon)
	if err != nil {
		t.Fatal(err)
	}
	for _, pinned := range [][]string{nil, {k.ID}, {"k4.pid.other", k.ID}} {
		got, err := ParseExport(doc, pinned...)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(keys, got); diff != "" {
			t.Errorf("keys (-want +got)\n%s", diff)
		}
	}
	// What revocation is for: the old key's proofs do not verify with the document.
	got, err := ParseExport(doc, k.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(sign(t, old, someClaims()), during(got...)); !errors.Is(err, ErrRevoked) {
		t.Errorf("Verify: %v, want ErrRevoked", err)
	}
	// White space and the order of members are free.
	var members map[string]any
	if err := json.Unmarshal(doc, &members); err != nil {
		t.Fatal(err)
	}
	again, err := json.MarshalIndent(members, "\t", "   ")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseExport(again, k.ID); err != nil {
		t.Error(err)
	}
}

func TestExportRefuses(t *testing.T) {
	k, other := newTestKey(t), newTestKey(t)
	revoked := k.Public()
	revoked.RevokedAt = noon
	undated := other.Public()
	undated.CreatedAt = time.Time{}
	for name, keys := range map[string][]PublicKey{
		"no keys": nil, "not its own": {other.Public()}, "its own revoked": {revoked},
		"twice": {k.Public(), k.Public()}, "undated": {k.Public(), undated}, "no key": {k.Public(), {}},
	} {
		if doc, err := Export(k, keys, noon); err == nil {
			t.Errorf("%s: %s", name, doc)
		}
	}
	if doc, err := Export(k, []PublicKey{k.Public()}, time.Time{}); err == nil {
		t.Errorf("without a time: %s", doc)
	}
}

func TestParseExportRefuses(t *testing.T) {
	k, other := newTestKey(t), newTestKey(t)
	doc, err := Export(k, []PublicKey{k.Public(), other.Public()}, noon)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := Export(other, []PublicKey{k.Public(), other.Public()}, noon)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseExport(stranger, k.ID); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("signed by a key that is not pinned: %v, want ErrUnknownKey", err)
	}
	zero := PublicKey{Key: make([]byte, 32)}
	if zero.ID, err = pid(zero.Key); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, old, new string
		want           error
	}{
		{"another time", `"issued_at": "2026`, `"issued_at": "2027`, ErrSignature},
		{"revoked by somebody else", `"revoked_at": null`, `"revoked_at": "2026-05-05T12:00:00.000Z"`, ErrRevoked},
		{"another date of a key", `"created_at": "2026`, `"created_at": "2025`, ErrSignature},
		{"a member added", `{`, `{"more": 1,`, ErrSignature},
		{"another signature", `"signature": "`, `"signature": "AAAA`, ErrSignature},
		{"no base64", `"signature": "`, `"signature": "!`, ErrMalformed},
		{"another issuer", `"openleash"`, `"closedleash"`, ErrMalformed},
		{"another kind of key", `"OKP"`, `"EC"`, ErrMalformed},
		{"another algorithm", `"EdDSA"`, `"none"`, ErrMalformed},
		{"a kid that lies", k.ID, other.ID, ErrMalformed},
		{"signed by the other key", `"kid": "` + k.ID + `",` + "\n  \"signature\"", `"kid": "` + other.ID + `",` + "\n  \"signature\"", ErrUnknownKey},
		{"signed by nobody", `"kid": "` + k.ID + `",` + "\n  \"signature\"", `"kid": "x",` + "\n  \"signature\"", ErrUnknownKey},
		{"a small-order key", k.Public().SPKI(), zero.SPKI(), ErrMalformed},
		{"a duplicate", `"issuer"`, `"issuer": "x", "issuer"`, ErrMalformed},
		{"another case", `"issuer"`, `"Issuer"`, ErrMalformed},
		{"no keys", `"keys": [`, `"keys": {}, "x": [`, ErrMalformed},
		{"a key that is none", `"keys": [`, `"keys": [1,`, ErrMalformed},
		{"revoked by a word", `"revoked_at": null`, `"revoked_at": ""`, ErrMalformed},
		{"no revoked_at", `"revoked_at": null`, `"x": null`, ErrMalformed},
		{"no time", `"issued_at"`, `"x"`, ErrMalformed},
		{"not JSON", `{`, `{{`, ErrMalformed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			changed := strings.Replace(string(doc), test.old, test.new, 1)
			if changed == string(doc) {
				t.Fatalf("%q does not occur in %s", test.old, doc)
			}
			if keys, err := ParseExport([]byte(changed), k.ID); !errors.Is(err, test.want) || keys != nil {
				t.Errorf("%v, %v, want %v", keys, err, test.want)
			}
		})
	}
}

// What is read as signed was signed: the keys cannot be changed.
func FuzzParseExport(f *testing.F) {
	k := seeded(f)
	doc, err := Export(k, []PublicKey{k.Public()}, noon)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(doc)
	f.Add([]byte(`{"issuer":"openleash","issued_at":"2026-05-05T12:00:00.000Z","keys":[],"kid":"","signature":""}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := ParseExport(data, k.ID)
		if err == nil && !slices.EqualFunc(keys, []PublicKey{k.Public()}, func(a, b PublicKey) bool { return cmp.Equal(a, b) }) {
			t.Errorf("%s\nread as %v", data, keys)
		}
	})
}

// The signed bytes are the documented ones.
func TestExportSignature(t *testing.T) {
	k := seeded(t)
	doc, err := Export(k, []PublicKey{k.Public()}, noon)
	if err != nil {
		t.Fatal(err)
	}
	var d struct{ Signature string }
	if err := json.Unmarshal(doc, &d); err != nil {
		t.Fatal(err)
	}
	sig, err := base64.StdEncoding.DecodeString(d.Signature)
	if err != nil {
		t.Fatal(err)
	}
	text := `{"issued_at":"2026-05-05T12:00:00.000Z","issuer":"openleash","keys":[{"alg":"EdDSA","created_at":"2026-05-05T12:00:00.000Z",` +
		`"kid":"` + k.ID + `","kty":"OKP","public_key_b64":"` + k.Public().SPKI() + `","revoked_at":null}]}`
	if !k.Public().VerifyText("keys", []byte(text), sig) {
		t.Errorf("%s\nis not a signature over\n%s", doc, text)
	}
}
