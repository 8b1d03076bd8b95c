package proof

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

// readVectors reads a file that the three SDKs share.
func readVectors(t testing.TB, name string, into any) {
	t.Helper()
	b, err := os.ReadFile("../testdata/vectors/" + name)
	if err == nil {
		err = json.Unmarshal(b, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// The vectors of the PASERK specification.
func TestKeyIDVectors(t *testing.T) {
	var file struct {
		Tests []struct {
			Name       string
			ExpectFail bool `json:"expect-fail"`
			Key        string
			PASERK     *string
		}
	}
	readVectors(t, "paserk-k4-pid.json", &file)
	good, bad := 0, 0
	for _, v := range file.Tests {
		key, err := hex.DecodeString(v.Key)
		if err != nil {
			t.Fatal(err)
		}
		id, err := pid(key)
		if v.ExpectFail {
			bad++
			if err == nil {
				t.Errorf("%s: %s, want an error", v.Name, id)
			}
			continue
		}
		good++
		if err != nil || id != *v.PASERK {
			t.Errorf("%s: %s, %v, want %s", v.Name, id, err, *v.PASERK)
		}
	}
	if good != 3 || bad != 2 {
		t.Errorf("ran %d good and %d bad vectors, want 3 and 2", good, bad)
	}
}

type pasetoVector struct {
	Name       string
	ExpectFail bool   `json:"expect-fail"`
	PublicKey  string `json:"public-key"`
	SecretKey  string `json:"secret-key"`
	SecretPEM  string `json:"secret-key-pem"`
	PublicPEM  string `json:"public-key-pem"`
	Token      string
	Payload    *string
	Footer     string
	Implicit   string `json:"implicit-assertion"`
}

// keys reads the vector's keys in all the forms in which it gives them.
func (v pasetoVector) keys(t *testing.T) (*Key, PublicKey) {
	t.Helper()
	key, err := parseKeyFile([]byte(v.SecretPEM), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(v.PublicPEM))
	public, err := ParseSPKI(base64.StdEncoding.EncodeToString(block.Bytes))
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(key.private); got != v.SecretKey {
		t.Errorf("secret key %s, want %s", got, v.SecretKey)
	}
	if got := hex.EncodeToString(public.Key); got != v.PublicKey || public.ID != key.ID {
		t.Errorf("public key %s (%s), want %s (%s)", got, public.ID, v.PublicKey, key.ID)
	}
	return key, public
}

// The vectors of the PASETO specification: v4.public does as it says, and no
// other token passes.
func TestPASETOVectors(t *testing.T) {
	var file struct{ Tests []pasetoVector }
	readVectors(t, "paseto-v4.json", &file)
	ran := map[string]int{}
	var anyKey PublicKey
	for _, v := range file.Tests {
		if v.PublicKey != "" {
			_, anyKey = v.keys(t)
		}
	}
	for _, v := range file.Tests {
		class := v.Name[:len("4-S")]
		ran[class]++
		t.Run(v.Name, func(t *testing.T) {
			if _, err := Verify(v.Token, Expect{Keys: []PublicKey{anyKey}, Now: time.Now(), AnyAudience: true}); err == nil {
				t.Error("verifies as a proof")
			} else if strings.Contains(v.Token, ".local.") && !errors.Is(err, ErrMalformed) {
				t.Errorf("a token that is not v4.public: %v, want ErrMalformed", err)
			}
			switch class {
			case "4-S":
				testSigned(t, v)
			case "4-F":
				if err := anyKey.verify(v.Token, []byte(v.Implicit)); !errors.Is(err, ErrSignature) {
					t.Errorf("verify: %v, want ErrSignature", err)
				}
			}
		})
	}
	if ran["4-S"] != 3 || ran["4-F"] != 5 || ran["4-E"] != 9 || len(ran) != 3 {
		t.Errorf("ran %v, want 3 of 4-S, 5 of 4-F, 9 of 4-E", ran)
	}
}

func testSigned(t *testing.T, v pasetoVector) {
	key, public := v.keys(t)
	if err := public.verify(v.Token, []byte(v.Implicit)); err != nil {
		t.Errorf("verify: %v", err)
	}
	if err := public.verify(v.Token, []byte(v.Implicit+"x")); !errors.Is(err, ErrSignature) {
		t.Errorf("verify with another implicit assertion: %v, want ErrSignature", err)
	}
	claims, footer, err := split(v.Token)
	if err != nil || string(claims) != *v.Payload || string(footer) != v.Footer {
		t.Errorf("split = %s, %s, %v, want %s, %s", claims, footer, err, *v.Payload, v.Footer)
	}
	if got := signToken(key.private, []byte(*v.Payload), []byte(v.Footer), []byte(v.Implicit)); got != v.Token {
		t.Errorf("signed %s, want %s", got, v.Token)
	}
}

// The vector of the public version: we read its keys, its signatures verify,
// and its proof is refused because it has no purpose (nor a footer): under its
// rules a session token with the same claims would be as good.
func TestPublicVersionVector(t *testing.T) {
	var v struct {
		Public    string `json:"public_key_b64"`
		Private   string `json:"private_key_b64"`
		Input     string `json:"signing_input"`
		Signature string `json:"signature_b64"`
		Token     string `json:"paseto_token"`
	}
	readVectors(t, "openleash-0.27.json", &v)
	der, err := base64.StdEncoding.DecodeString(v.Private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := parsePKCS8(der, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	public, err := ParseSPKI(v.Public)
	if err != nil {
		t.Fatal(err)
	}
	if key.Public().SPKI() != v.Public || public.ID != key.ID || public.SPKI() != v.Public {
		t.Errorf("the private key gives %s, want %s", key.Public().SPKI(), v.Public)
	}
	sig, err := base64.StdEncoding.DecodeString(v.Signature)
	if err != nil || !ed25519.Verify(public.Key, []byte(v.Input), sig) {
		t.Errorf("the request's signature does not verify (%v)", err)
	}
	if err := public.verify(v.Token, nil); err != nil {
		t.Errorf("the token's signature: %v", err)
	}
	during := time.Date(2024, 1, 15, 10, 31, 0, 0, time.UTC)
	_, err = Verify(v.Token, Expect{Keys: []PublicKey{public}, Now: during, AnyAudience: true})
	if !errors.Is(err, ErrPurpose) {
		t.Errorf("Verify: %v, want ErrPurpose", err)
	}
}
