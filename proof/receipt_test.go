package proof

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openleash/openleash-go/action"
)

func someReceipt() Receipt {
	return Receipt{
		At: noon, AgentID: "buyer", OwnerID: "owner-1", DecisionID: "decision-1", ActionID: "action-1", ActionType: "purchase",
		ActionHash: hashA.String(), CallHash: hashB.String(), ResultHash: hashA.String(), Outcome: "ok", Server: "shop", Tool: "buy <now>",
		Log: "openleash/0011223344556677\n3\nLXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE=\n",
	}
}

func signReceipt(t testing.TB, k *Key, r Receipt) string {
	t.Helper()
	token, err := k.SignReceipt(r)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestReceipt(t *testing.T) {
	k := newTestKey(t)
	want := someReceipt()
	want.KeyID = k.ID
	token := signReceipt(t, k, want)
	got, err := VerifyReceipt(token, []PublicKey{k.Public()})
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	want.Log, want.CallHash, want.Server, want.Tool, want.OwnerID, want.ActionType = "", "", "", "", "", ""
	if got, err = VerifyReceipt(signReceipt(t, k, want), []PublicKey{k.Public()}); got != want || err != nil {
		t.Errorf("%+v, %v", got, err)
	}
}

// A receipt is never a proof, nor a proof a receipt, whatever its claims say: not even
// the signature is good for the other.
func TestReceiptsAreNoProofs(t *testing.T) {
	k := newTestKey(t)
	keys, anyone := []PublicKey{k.Public()}, during(k.Public())
	receipt := signReceipt(t, k, someReceipt())
	if _, err := Verify(receipt, anyone); !errors.Is(err, ErrSignature) {
		t.Errorf("a receipt as a proof: %v", err)
	}
	if _, err := VerifyReceipt(sign(t, k, someClaims()), keys); !errors.Is(err, ErrNotReceipt) {
		t.Errorf("a proof as a receipt: %v", err)
	}
	claims, _ := someReceipt().claims()
	forged := signRaw(k, strings.Replace(string(claims), `"purpose"`, `"kid":"`+k.ID+`","purpose"`, 1), string(footerOf(k.ID)))
	if _, err := VerifyReceipt(forged, keys); !errors.Is(err, ErrNotReceipt) {
		t.Errorf("the claims of a receipt, signed as a proof: %v", err)
	}
	if _, err := Verify(forged, anyone); !errors.Is(err, ErrPurpose) {
		t.Errorf("the same as a proof: %v", err)
	}
	proofClaims := someClaims()
	proofClaims.Issuer, proofClaims.Purpose, proofClaims.KeyID = issuer, purpose, k.ID
	text, _ := proofClaims.MarshalJSON()
	crossed := signToken(k.private, text, footerOf(k.ID), []byte(receiptAssertion))
	if _, err := VerifyReceipt(crossed, keys); !errors.Is(err, ErrNotReceipt) {
		t.Errorf("the claims of a proof, signed as a receipt: %v", err)
	}
}

func TestReceiptRefusals(t *testing.T) {
	k, other := newTestKey(t), newTestKey(t)
	token := signReceipt(t, k, someReceipt())
	revoked := k.Public()
	revoked.RevokedAt = noon
	signed := func(change func(string) string) string {
		r := someReceipt()
		r.KeyID = k.ID
		claims, _ := r.claims()
		return signToken(k.private, []byte(change(string(claims))), footerOf(k.ID), []byte(receiptAssertion))
	}
	replaced := func(old, new string) string {
		return signed(func(s string) string {
			if !strings.Contains(s, old) {
				t.Fatalf("no %s in %s", old, s)
			}
			return strings.Replace(s, old, new, 1)
		})
	}
	for name, c := range map[string]struct {
		token string
		keys  []PublicKey
		want  error
	}{
		"unknown key":     {token, []PublicKey{other.Public()}, ErrUnknownKey},
		"revoked":         {token, []PublicKey{revoked}, ErrRevoked},
		"no footer":       {token[:strings.LastIndex(token, ".")], []PublicKey{k.Public()}, ErrMalformed},
		"changed":         {token[:40] + "A" + token[41:], []PublicKey{k.Public()}, ErrSignature},
		"nothing":         {"", []PublicKey{k.Public()}, ErrMalformed},
		"too long":        {strings.Repeat("x", maxToken+1), []PublicKey{k.Public()}, ErrMalformed},
		"another purpose": {replaced(`"purpose":"receipt"`, `"purpose":"proof"`), []PublicKey{k.Public()}, ErrNotReceipt},
		"another issuer":  {replaced(`"iss":"openleash"`, `"iss":"x"`), []PublicKey{k.Public()}, ErrNotReceipt},
		"another agent":   {replaced(`"sub":"buyer"`, `"sub":"seller"`), []PublicKey{k.Public()}, ErrMalformed},
		"another kid":     {replaced(k.ID, other.ID), []PublicKey{k.Public()}, ErrMalformed},
		"no outcome":      {replaced(`"outcome":"ok",`, ""), []PublicKey{k.Public()}, ErrMalformed},
		"a claim twice":   {replaced(`"outcome":"ok",`, `"outcome":"ok","Outcome":"tool_error",`), []PublicKey{k.Public()}, ErrMalformed},
		"no hash":         {replaced(`"result_hash":"sha256:01`, `"result_hash":"sha256:0`), []PublicKey{k.Public()}, ErrMalformed},
	} {
		if _, err := VerifyReceipt(c.token, c.keys); !errors.Is(err, c.want) {
			t.Errorf("%s: want %v, got %v", name, c.want, err)
		}
	}
	for name, spoil := range map[string]func(*Receipt){
		"no result":  func(r *Receipt) { r.ResultHash = "" },
		"no time":    func(r *Receipt) { r.At = time.Time{} },
		"odd hash":   func(r *Receipt) { r.ActionHash = "sha256:00" },
		"no UTF-8":   func(r *Receipt) { r.Tool = "\xff" },
		"too much":   func(r *Receipt) { r.Tool = strings.Repeat("x", maxToken) },
		"no outcome": func(r *Receipt) { r.Outcome = "" },
	} {
		r := someReceipt()
		spoil(&r)
		if _, err := k.SignReceipt(r); err == nil {
			t.Errorf("%s: it was signed", name)
		}
	}
}

// A receipt in a result is of these very bytes.
func TestVerifyResult(t *testing.T) {
	k := newTestKey(t)
	keys := []PublicKey{k.Public()}
	of := func(result string) string {
		r := someReceipt()
		r.ResultHash = action.Hash(sha256.Sum256([]byte(result))).String()
		return signReceipt(t, k, r)
	}
	for name, c := range map[string]struct{ before, with string }{
		"no _meta":         {`{"content":[], "n":1.10}`, `{"_meta":{"ai.openleash/receipt":"R"},"content":[], "n":1.10}`},
		"nothing at all":   {`{}`, `{"_meta":{"ai.openleash/receipt":"R"}}`},
		"white space":      {`{ "a" : 1 }`, `{"_meta":{"ai.openleash/receipt":"R"}, "a" : 1 }`},
		"a _meta":          {`{"content":[],"_meta":{"x/y": 1}}`, `{"content":[],"_meta":{"ai.openleash/receipt":"R","x/y": 1}}`},
		"a first _meta":    {`{"_meta":{"x/y":1},"a":1}`, `{"_meta":{"ai.openleash/receipt":"R","x/y":1},"a":1}`},
		"an empty _meta":   {`{"a":1,"_meta":{}}`, `{"a":1,"_meta":{"ai.openleash/receipt":"R"}}`},
		"it first":         {`{"_meta":{},"a":1}`, `{"_meta":{"ai.openleash/receipt":"R"},"a":1}`},
		"an imitation":     {`{"a":{"x":1},"_meta":{"x":1}}`, `{"a":{"x":1},"_meta":{"ai.openleash/receipt":"R","x":1}}`},
		"duplicates below": {`{"a":{"x":1,"x":2}}`, `{"_meta":{"ai.openleash/receipt":"R"},"a":{"x":1,"x":2}}`},
	} {
		token := of(c.before)
		with := strings.Replace(c.with, `"R"`, `"`+token+`"`, 1)
		if got, err := VerifyResult([]byte(with), keys); err != nil || got.DecisionID != "decision-1" {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := VerifyResult([]byte(` {"id":1,"jsonrpc":"2.0","result":`+with+"}\n"), keys); err != nil {
			t.Errorf("%s, in its response: %v", name, err)
		}
		for i := 0; i < len(with); i += 7 {
			changed := []byte(with)
			changed[i] ^= 1
			if _, err := VerifyResult(changed, keys); err == nil {
				t.Errorf("%s: a change at byte %d of %s goes unseen", name, i, with)
			}
		}
	}
	for text, want := range map[string]error{
		`{"content":[]}`: ErrNotReceipt, `{"_meta":{}}`: ErrNotReceipt, `{"_meta":{"ai.openleash/receipt":1}}`: ErrNotReceipt, ``: ErrNotReceipt,
		`[1]`: ErrMalformed, `{"_meta":[]}`: ErrNotReceipt, `{"_meta":{},"_META":{}}`: ErrMalformed,
		`{"_meta":{"x":1,"ai.openleash/receipt":"` + of(`{"_meta":{"x":1}}`) + `"}}`: ErrResult,
	} {
		if _, err := VerifyResult([]byte(text), keys); !errors.Is(err, want) {
			t.Errorf("%s: want %v, got %v", text, want, err)
		}
	}
}

// Whatever is brought as a result, what is taken out of it was in it.
func FuzzTakeReceipt(f *testing.F) {
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"result":{"_meta":{"ai.openleash/receipt":"v4.public.x","a":1},"b":[]}}`))
	f.Add([]byte(`{"_meta":{"ai.openleash/receipt":"v4.public.x"},"b":[]}`))
	f.Add([]byte(`{"b":{},"_meta":{"ai.openleash/receipt":""}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		token, bare, err := takeReceipt(text)
		if err != nil {
			return
		}
		own := `"` + ReceiptKey + `":"` + token + `"`
		for _, without := range bare {
			i := 0
			for i < len(without) && i < len(text) && bytes.Contains(text, without[:i+1]) {
				i++
			}
			if !bytes.Contains(text, []byte(own)) || !bytes.Contains(text, without[i:]) {
				t.Fatalf("%q without %s is %q", text, own, without)
			}
		}
	})
}

func BenchmarkSignReceipt(b *testing.B) {
	k, r := newTestKey(b), someReceipt()
	for b.Loop() {
		if _, err := k.SignReceipt(r); err != nil {
			b.Fatal(err)
		}
	}
}
