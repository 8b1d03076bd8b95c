package proof

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"aidanwoods.dev/go-paseto"
)

// seeded returns the same key each time, for the fuzzers.
func seeded(t testing.TB) *Key {
	t.Helper()
	k, err := newKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32)), noon)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// rawToken signs claims as the PASETO specification says, whatever they are.
func rawToken(k *Key, footer []byte, claims string) string {
	var pae []byte
	parts := []string{"v4.public.", claims, string(footer), ""}
	pae = binary.LittleEndian.AppendUint64(pae, uint64(len(parts)))
	for _, p := range parts {
		pae = append(binary.LittleEndian.AppendUint64(pae, uint64(len(p))), p...)
	}
	sig := ed25519.Sign(k.private, pae)
	token := "v4.public." + base64.RawURLEncoding.EncodeToString(append([]byte(claims), sig...))
	if len(footer) > 0 {
		token += "." + base64.RawURLEncoding.EncodeToString(footer)
	}
	return token
}

// Trap: beside an error go-paseto returns a random key. No way leads to it here.
func TestBadKeyIsNoKey(t *testing.T) {
	if random, err := paseto.NewV4AsymmetricPublicKeyFromBytes([]byte("short")); err == nil || len(random.ExportBytes()) == 0 {
		t.Logf("go-paseto has closed the trap: %v, %v", random, err)
	}
	good := ed25519.NewKeyFromSeed(make([]byte, 32))
	torn := slices.Clone(good)
	torn[40] ^= 1 // the public half is not the seed's
	for name, private := range map[string]ed25519.PrivateKey{"nil": nil, "short": good[:63], "long": append(slices.Clone(good), 0), "halves of two keys": torn} {
		if k, err := newKey(private, noon); err == nil || k != nil {
			t.Errorf("%s: %v, %v, want no key and an error", name, k, err)
		}
	}
	spki := seeded(t).Public().SPKI()
	rsa := "MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAMf7iN8l"
	for name, s := range map[string]string{
		"empty": "", "short": spki[:56], "long": spki + "AAAA", "no padding": strings.TrimRight(spki, "="), "line end": spki + "\n",
		"line end inside": spki[:8] + "\n" + spki[8:], "another kind": rsa, "another curve": strings.Replace(spki, "K2Vw", "K2Vu", 1), "not base64": strings.Repeat("?", 60),
		"raw": base64.StdEncoding.EncodeToString(seeded(t).Public().Key),
	} {
		if p, err := ParseSPKI(s); err == nil || p.Key != nil || p.ID != "" {
			t.Errorf("%s: %v, %v, want no key and an error", name, p, err)
		}
	}
	if err := (PublicKey{Key: []byte("short")}).verify("v4.public.x", nil); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("verify with a short key: %v, want ErrUnknownKey", err)
	}
}

// Trap: an all-zero public key, and all others of small order, for which a
// signature can be made that fits many messages.
func TestSmallOrderKeys(t *testing.T) {
	refused := 0
	for _, digits := range smallOrder {
		for _, sign := range []byte{0, 0x80} {
			raw, err := hex.DecodeString(digits)
			if err != nil {
				t.Fatal(err)
			}
			raw[31] |= sign
			if !smallOrderPoint(raw) {
				t.Errorf("%x is in the list, but its order does not divide 8", raw)
			}
			id, err := pid(raw)
			if err != nil {
				t.Fatal(err)
			}
			p := PublicKey{ID: id, Key: raw}
			if got, err := ParseSPKI(p.SPKI()); err == nil || got.Key != nil || !strings.Contains(err.Error(), "small order") {
				t.Errorf("ParseSPKI(%x) = %v, %v", raw, got, err)
			}
			// R is the neutral point and S is 0: it fits where [h]A is neutral too.
			sig := append([]byte{1}, make([]byte, 63)...)
			token := forged(p, sig)
			if _, err := Verify(token, during(p)); !errors.Is(err, ErrUnknownKey) {
				t.Errorf("Verify with %x: %v, want ErrUnknownKey", raw, err)
			}
			if p.VerifyText("keys", []byte("text"), sig) {
				t.Errorf("VerifyText with %x succeeds", raw)
			}
			refused++
		}
	}
	if refused != 14 {
		t.Errorf("tried %d keys, want 14", refused)
	}
	// The list is whole: every y whose point has small order is in it.
	for _, y := range allSmallOrder() {
		if !weak(y) {
			t.Errorf("%x has small order and is not in the list", y)
		}
	}
	if weak(seeded(t).Public().Key) {
		t.Error("a good key is called weak")
	}
}

// forged is a token with a signature that nobody made.
func forged(p PublicKey, sig []byte) string {
	return "v4.public." + base64.RawURLEncoding.EncodeToString(append([]byte(`{"purpose":"proof"}`), sig...)) +
		"." + base64.RawURLEncoding.EncodeToString(footerOf(p.ID))
}

// The curve by its definition, for the test of the list: slow and plain.

var (
	fieldP = new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))
	curveD = mod(new(big.Int).Mul(big.NewInt(-121665), new(big.Int).ModInverse(big.NewInt(121666), fieldP)))
)

func mod(x *big.Int) *big.Int { return x.Mod(x, fieldP) }

type point struct{ x, y *big.Int }

func (a point) add(b point) point {
	mul := func(xs ...*big.Int) *big.Int {
		r := big.NewInt(1)
		for _, x := range xs {
			mod(r.Mul(r, x))
		}
		return r
	}
	k := mul(curveD, a.x, b.x, a.y, b.y)
	div := func(n, d *big.Int) *big.Int { return mod(n.Mul(n, new(big.Int).ModInverse(mod(d), fieldP))) }
	one := big.NewInt(1)
	return point{
		div(mod(new(big.Int).Add(mul(a.x, b.y), mul(a.y, b.x))), new(big.Int).Add(one, k)),
		div(mod(new(big.Int).Add(mul(a.y, b.y), mul(a.x, b.x))), new(big.Int).Sub(one, k)),
	}
}

// decode returns a point with the y coordinate of an encoding; the sign of x
// does not change its order.
func decode(raw []byte) (point, bool) {
	b := slices.Clone(raw)
	b[31] &= 0x7f
	slices.Reverse(b)
	y := mod(new(big.Int).SetBytes(b))
	yy := mod(new(big.Int).Mul(y, y))
	n := mod(new(big.Int).Sub(yy, big.NewInt(1)))
	d := mod(new(big.Int).Add(mod(new(big.Int).Mul(curveD, yy)), big.NewInt(1)))
	x := new(big.Int).ModSqrt(mod(n.Mul(n, new(big.Int).ModInverse(d, fieldP))), fieldP)
	return point{x, y}, x != nil
}

func smallOrderPoint(raw []byte) bool {
	p, ok := decode(raw)
	if !ok {
		return false
	}
	for range 3 {
		p = p.add(p)
	}
	return p.x.Sign() == 0 && p.y.Cmp(big.NewInt(1)) == 0
}

// allSmallOrder returns every 32-byte encoding, with the sign bit clear, of a
// point whose order divides 8. Such a point is a multiple of one of order 8,
// and that is [L]P for most points P, L being the order of the prime subgroup.
func allSmallOrder() [][]byte {
	l, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	ys := map[string]*big.Int{}
	for i := byte(2); len(ys) < 5; i++ {
		p, ok := decode(append([]byte{i}, make([]byte, 31)...))
		if !ok {
			continue
		}
		q := point{big.NewInt(0), big.NewInt(1)}
		for bit := l.BitLen() - 1; bit >= 0; bit-- {
			if q = q.add(q); l.Bit(bit) == 1 {
				q = q.add(p)
			}
		}
		for m, n := q, 0; n < 8; m, n = m.add(q), n+1 {
			ys[m.y.String()] = m.y
		}
	}
	var all [][]byte
	limit := new(big.Int).Lsh(big.NewInt(1), 255)
	for _, y := range ys {
		for ; y.Cmp(limit) < 0; y = new(big.Int).Add(y, fieldP) {
			b := y.FillBytes(make([]byte, 32))
			slices.Reverse(b)
			all = append(all, b)
		}
	}
	return all
}

func TestSignText(t *testing.T) {
	k := newTestKey(t)
	text := []byte("challenge 42")
	sig := k.SignText("challenge", text)
	if !k.Public().VerifyText("challenge", text, sig) {
		t.Error("a good signature is refused")
	}
	if !ed25519.Verify(k.Public().Key, []byte("openleash-challenge-v1\nchallenge 42"), sig) {
		t.Error("the signed bytes are not the documented ones")
	}
	if k.Public().VerifyText("keys", text, sig) || k.Public().VerifyText("challenge", []byte("other"), sig) ||
		newTestKey(t).Public().VerifyText("challenge", text, sig) || k.Public().VerifyText("challenge", text, sig[:63]) {
		t.Error("a signature of another purpose, text, key or length is accepted")
	}
	// Nor is the signature of a token one of a text.
	claims, _, err := split(sign(t, k, someClaims()))
	if err != nil {
		t.Fatal(err)
	}
	if k.Public().VerifyText("proof", claims, sig) {
		t.Error("claims verify as a text")
	}
}

func TestKeyDoesNotPrintItself(t *testing.T) {
	k := newTestKey(t)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, s := range []string{fmt.Sprintf(verb, k), fmt.Sprintf(verb, *k), fmt.Sprintf(verb, struct{ K *Key }{k})} {
			for _, secret := range []string{hex.EncodeToString(k.private[:8]), fmt.Sprint(k.private[:8])[1:20]} {
				if strings.Contains(s, secret) {
					t.Errorf("%s prints the secret: %s", verb, s)
				}
			}
		}
	}
}

func FuzzParseSPKI(f *testing.F) {
	f.Add(seeded(f).Public().SPKI())
	f.Add(PublicKey{Key: make([]byte, 32)}.SPKI())
	f.Add("MCowBQYDK2VwAyEA")
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := ParseSPKI(s); err == nil && (p.SPKI() != s || p.check() != nil) {
			t.Errorf("ParseSPKI(%q) = %v", s, p)
		}
	})
}
