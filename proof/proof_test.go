package proof

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openleash/openleash-go/action"
)

var noon = time.Date(2026, 5, 5, 12, 0, 0, 0, time.UTC)

func newTestKey(t testing.TB) *Key {
	t.Helper()
	k, err := NewKey(noon)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var (
	hashA = action.Hash{1, 2, 3}
	hashB = action.Hash{0xab, 5, 6}
)

// someClaims are claims with everything in them.
func someClaims() Claims {
	rule := "small <purchases> & more"
	return Claims{
		Subject: "buyer", Audience: "shop.example", IssuedAt: noon, NotBefore: noon.Add(time.Second), Expires: noon.Add(5 * time.Minute),
		ID: "jti-1", Decision: "ALLOW", DecisionID: "decision-1", ActionID: "action-1", ActionType: "purchase",
		ActionHash: hashA.String(), PolicyID: "shopping", MatchedRuleID: &rule, AgentID: "buyer", OwnerType: "user", OwnerID: "owner-1",
		TrustProfile: "LOW", Server: "shop", Tool: "buy", CallHash: hashB.String(), Log: "openleash/0011223344556677\n3\nLXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE=\n",
		Approval: &Approval{ID: "approval-1", By: "anna", At: "2026-05-05T11:59:00.000Z"},
	}
}

// during is an Expect that someClaims meet.
func during(keys ...PublicKey) Expect {
	return Expect{Keys: keys, Now: noon.Add(time.Minute), Audience: "shop.example"}
}

func sign(t testing.TB, k *Key, c Claims) string {
	t.Helper()
	token, err := k.Sign(c)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// signRaw signs any claims with any footer, as a key's owner could outside Sign.
func signRaw(k *Key, claims, footer string) string { return rawToken(k, []byte(footer), claims) }

func TestSignVerify(t *testing.T) {
	k := newTestKey(t)
	full := someClaims()
	least := Claims{
		Subject: "a", IssuedAt: noon.Add(1234 * time.Microsecond), Expires: noon.Add(time.Hour), ID: "j", Decision: "ALLOW",
		DecisionID: "d", ActionID: "i", ActionType: "t", ActionHash: hashA.String(), AgentID: "a",
	}
	empty := least
	empty.MatchedRuleID, empty.Approval = new(string), new(Approval)
	for name, c := range map[string]Claims{"full": full, "least": least, "empty": empty} {
		t.Run(name, func(t *testing.T) {
			token := sign(t, k, c)
			got, err := Verify(token, Expect{Keys: []PublicKey{newTestKey(t).Public(), k.Public()}, Now: noon.Add(time.Minute), AnyAudience: true})
			if err != nil {
				t.Fatal(err)
			}
			c.Issuer, c.Purpose, c.KeyID = "openleash", "proof", k.ID
			c.IssuedAt, c.Expires = c.IssuedAt.Truncate(time.Millisecond), c.Expires.Truncate(time.Millisecond)
			if diff := cmp.Diff(c, got); diff != "" {
				t.Errorf("claims (-signed +verified)\n%s", diff)
			}
		})
	}
}

// Each expectation alone refuses, with its own error, and nothing of the claims
// comes back.
func TestVerifyExpectations(t *testing.T) {
	k, stranger := newTestKey(t), newTestKey(t)
	token := sign(t, k, someClaims())
	revoked := k.Public()
	revoked.RevokedAt = noon.Add(-time.Hour)
	later := k.Public()
	later.RevokedAt = noon.Add(time.Hour)
	renamed := k.Public()
	renamed.Key = stranger.Public().Key
	short := k.Public()
	short.Key = short.Key[:31]
	tests := []struct {
		name   string
		change func(*Expect)
		want   error // nil: verifies
	}{
		{"as expected", func(e *Expect) {}, nil},
		{"any audience", func(e *Expect) { e.Audience, e.AnyAudience = "", true }, nil},
		{"everything named", func(e *Expect) { e.ActionHash, e.CallHash, e.AgentID = hashA, hashB, "buyer" }, nil},
		{"other audience", func(e *Expect) { e.Audience = "other.example" }, ErrAudience},
		{"audience in another case", func(e *Expect) { e.Audience = "Shop.example" }, ErrAudience},
		{"other action", func(e *Expect) { e.ActionHash = hashB }, ErrActionHash},
		{"other call", func(e *Expect) { e.CallHash = hashA }, ErrCallHash},
		{"other agent", func(e *Expect) { e.AgentID = "seller" }, ErrAgent},
		{"unknown key", func(e *Expect) { e.Keys = []PublicKey{stranger.Public()} }, ErrUnknownKey},
		{"no key", func(e *Expect) { e.Keys = nil }, ErrUnknownKey},
		{"a key under another's name", func(e *Expect) { e.Keys = []PublicKey{renamed} }, ErrUnknownKey},
		{"a key of 31 bytes", func(e *Expect) { e.Keys = []PublicKey{short} }, ErrUnknownKey},
		{"revoked key", func(e *Expect) { e.Keys = []PublicKey{revoked} }, ErrRevoked},
		{"key to be revoked", func(e *Expect) { e.Keys = []PublicKey{later} }, ErrRevoked},
		{"revoked in one of two lists", func(e *Expect) { e.Keys = []PublicKey{k.Public(), revoked} }, ErrRevoked},

		{"nbf reached", func(e *Expect) { e.Now = noon.Add(time.Second) }, nil},
		{"before nbf", func(e *Expect) { e.Now = noon.Add(time.Second - 1) }, ErrNotYet},
		{"before nbf, leeway", func(e *Expect) { e.Now, e.Leeway = noon.Add(-2*time.Second), 3*time.Second }, nil},
		{"last moment", func(e *Expect) { e.Now = noon.Add(5*time.Minute - 1) }, nil},
		{"exp", func(e *Expect) { e.Now = noon.Add(5 * time.Minute) }, ErrExpired},
		{"exp, leeway", func(e *Expect) { e.Now, e.Leeway = noon.Add(5*time.Minute), time.Second }, nil},
		{"long after", func(e *Expect) { e.Now, e.Leeway = noon.AddDate(1, 0, 0), time.Minute }, ErrExpired},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			want := during(k.Public())
			test.change(&want)
			c, err := Verify(token, want)
			if !errors.Is(err, test.want) {
				t.Errorf("Verify: %v, want %v", err, test.want)
			}
			if err != nil && !reflect.DeepEqual(c, Claims{}) {
				t.Errorf("claims beside the error: %+v", c)
			}
		})
	}
}

// What the caller forgot must not come to mean that anything goes.
func TestVerifyIncompleteExpect(t *testing.T) {
	k := newTestKey(t)
	token := sign(t, k, someClaims())
	for _, test := range []struct {
		change func(*Expect)
		want   string
	}{
		{func(e *Expect) { e.Now = time.Time{} }, "Expect.Now is not set"},
		{func(e *Expect) { e.Audience = "" }, "neither Expect.Audience nor Expect.AnyAudience"},
		{func(e *Expect) { e.AnyAudience = true }, "both"},
		{func(e *Expect) { e.Leeway = -1 }, "Leeway is negative"},
	} {
		want := during(k.Public())
		test.change(&want)
		if _, err := Verify(token, want); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Verify: %v, want %q", err, test.want)
		}
	}
}

// Trap: NewParser looks at exp only, a ForValidNow parser keeps its first "now".
// Here iat, nbf and exp are held against the clock of each call.
func TestVerifyClock(t *testing.T) {
	k := newTestKey(t)
	c := someClaims()
	c.NotBefore = time.Time{}
	token := sign(t, k, c)
	for _, test := range []struct {
		at   time.Duration
		want error
	}{{0, nil}, {-time.Millisecond, ErrNotYet}, {time.Minute, nil}, {5 * time.Minute, ErrExpired}, {time.Minute, nil}, {-time.Hour, ErrNotYet}} {
		want := during(k.Public())
		want.Now = noon.Add(test.at)
		if _, err := Verify(token, want); !errors.Is(err, test.want) {
			t.Errorf("iat%+v: %v, want %v", test.at, err, test.want)
		}
	}
}

// "Expired" is said of good proofs only.
func TestVerifyExpiredAfterSignature(t *testing.T) {
	k := newTestKey(t)
	token := sign(t, k, someClaims())
	want := during(k.Public())
	want.Now = noon.AddDate(1, 0, 0)
	if _, err := Verify(token, want); !errors.Is(err, ErrExpired) {
		t.Errorf("Verify: %v, want ErrExpired", err)
	}
	forged := newTestKey(t)
	forged.ID = k.ID // claims and footer name k, the signature is another's
	if _, err := Verify(sign(t, forged, someClaims()), want); !errors.Is(err, ErrSignature) || errors.Is(err, ErrExpired) {
		t.Errorf("forged: %v, want ErrSignature alone", err)
	}
}

// Claims that the key's owner signed, and that are no proof all the same.
func TestVerifyClaims(t *testing.T) {
	k := newTestKey(t)
	good, err := json.Marshal(func() Claims {
		c := someClaims()
		c.Issuer, c.Purpose, c.KeyID = issuer, purpose, k.ID
		return c
	}())
	if err != nil {
		t.Fatal(err)
	}
	footer := string(footerOf(k.ID))
	if _, err := Verify(signRaw(k, string(good), footer), during(k.Public())); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, old, new string
		want           error
	}{
		{"an unknown claim", `{`, `{"future":{"a":[1]},`, nil},
		{"session", `"purpose":"proof"`, `"purpose":"user_session"`, ErrPurpose},
		{"approval token", `"purpose":"proof"`, `"purpose":"approval"`, ErrPurpose},
		{"no purpose", `"purpose":"proof",`, ``, ErrPurpose},
		{"other issuer", `"iss":"openleash"`, `"iss":"closedleash"`, ErrPurpose},
		{"a denial", `"decision":"ALLOW"`, `"decision":"DENY"`, ErrPurpose},
		{"duplicate", `"purpose":"proof"`, `"purpose":"user_session","purpose":"proof"`, ErrMalformed},
		{"duplicate in another case", `"purpose":"proof"`, `"Purpose":"user_session","purpose":"proof"`, ErrMalformed},
		{"duplicate by escape", `"purpose":"proof"`, `"p\u0075rpose":"user_session","purpose":"proof"`, ErrMalformed},
		{"nested duplicate", `"approval":{`, `"approval":{"id":"x",`, ErrMalformed},
		{"only in another case", `"nbf"`, `"Nbf"`, ErrMalformed},
		{"aud is a list", `"aud":"shop.example"`, `"aud":["shop.example"]`, ErrMalformed},
		{"sub is null", `"sub":"buyer"`, `"sub":null`, ErrMalformed},
		{"no sub", `"sub":"buyer",`, ``, ErrMalformed},
		{"no jti", `"jti":"jti-1",`, ``, ErrMalformed},
		{"no iat", `"iat":`, `"was":`, ErrMalformed},
		{"no exp", `"exp":`, `"was":`, ErrMalformed},
		{"exp is a number", `"exp":"2026-05-05T12:05:00.000Z"`, `"exp":1777982700`, ErrMalformed},
		{"exp without milliseconds", `12:05:00.000Z`, `12:05:00Z`, ErrMalformed},
		{"exp in a zone", `12:05:00.000Z`, `12:05:00.000+00:00`, ErrMalformed},
		{"exp with a comma", `12:05:00.000Z`, `12:05:00,000Z`, ErrMalformed},
		{"exp on a day that is none", `2026-05-05T12:05`, `2026-02-30T12:05`, ErrMalformed},
		{"exp is iat", `"exp":"2026-05-05T12:05`, `"exp":"2026-05-05T12:00`, ErrMalformed},
		{"valid for more than an hour", `"exp":"2026-05-05T12:05`, `"exp":"2026-05-05T13:01`, ErrMalformed},
		{"another kid", `"kid":"k4`, `"kid":"k4.k4`, ErrMalformed},
		{"another agent_id", `"agent_id":"buyer"`, `"agent_id":"seller"`, ErrMalformed},
		{"bare action hash", `"action_hash":"sha256:`, `"action_hash":"`, ErrMalformed},
		{"call hash in capitals", hashB.String(), strings.Replace(hashB.String(), "ab", "AB", 1), ErrMalformed},
		{"call hash too short", hashB.String(), hashB.String()[:70], ErrMalformed},
		{"white space after", `00.000Z"}`, `00.000Z"} `, nil},
		{"two values", `00.000Z"}`, `00.000Z"}{}`, ErrMalformed},
		{"lone surrogate", `"buy"`, `"\ud800"`, ErrMalformed},
		{"not UTF-8", `"buy"`, "\"\xff\"", ErrMalformed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			claims := strings.Replace(string(good), test.old, test.new, 1)
			if !strings.Contains(string(good), test.old) {
				t.Fatalf("%q does not occur in %s", test.old, good)
			}
			if _, err := Verify(signRaw(k, claims, footer), during(k.Public())); !errors.Is(err, test.want) {
				t.Errorf("Verify: %v, want %v", err, test.want)
			}
		})
	}
	t.Run("footers", func(t *testing.T) {
		other := newTestKey(t)
		for _, test := range []struct {
			footer string
			want   error
		}{
			{"", ErrMalformed},
			{`{"kid":"` + k.ID + `" }`, ErrMalformed},
			{`{"kid":"x","kid":"` + k.ID + `"}`, ErrUnknownKey},
			{`{"kid":"` + k.ID + `","x":1}`, ErrMalformed},
			{k.ID, ErrMalformed},
			{string(footerOf(other.ID)), ErrSignature},
		} {
			want := during(k.Public(), other.Public())
			if _, err := Verify(signRaw(k, string(good), test.footer), want); !errors.Is(err, test.want) {
				t.Errorf("footer %s: %v, want %v", test.footer, err, test.want)
			}
		}
		session := strings.Replace(string(good), `"proof"`, `"user_session"`, 1)
		if _, err := Verify(signRaw(k, session, ""), during(k.Public())); !errors.Is(err, ErrPurpose) {
			t.Errorf("a session without a footer: %v, want ErrPurpose", err)
		}
	})
}

// Trap: a token has one form. go-paseto takes a trailing dot, and Go's base64
// takes line ends.
func TestVerifyForm(t *testing.T) {
	k := newTestKey(t)
	token := sign(t, k, someClaims())
	dot := strings.LastIndex(token, ".")
	for name, bad := range map[string]string{
		"empty": "", "header": "v4.public.", "header and dot": "v4.public..", "trailing dot": token + ".",
		"no footer": token[:dot], "no footer, dot": token[:dot+1], "five parts": token + ".e30", "space": token + " ",
		"line end": token + "\n", "line end inside": token[:40] + "\r\n" + token[40:], "padding": token + "=",
		"leading space": " " + token, "version": strings.Replace(token, "v4", "v3", 1), "capitals": strings.Replace(token, "public", "Public", 1),
		"local": strings.Replace(token, "public", "local", 1), "short": "v4.public.AAAA." + token[dot+1:],
		"long": "v4.public." + strings.Repeat("A", maxToken) + token[dot:],
	} {
		if _, err := Verify(bad, during(k.Public())); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, want ErrMalformed", name, err)
		}
	}
	// Without a footer the library really accepts the dot, and we do not.
	bare := signRaw(k, `{"purpose":"proof"}`, "") + "."
	if err := k.Public().verify(bare, nil); err != nil {
		t.Logf("go-paseto has closed the trap: %v", err)
	}
	if _, err := Verify(bare, during(k.Public())); !errors.Is(err, ErrMalformed) {
		t.Errorf("a trailing dot: %v, want ErrMalformed", err)
	}
}

// What Verify would refuse is not signed.
func TestSignRefuses(t *testing.T) {
	k := newTestKey(t)
	for name, change := range map[string]func(*Claims){
		"no subject": func(c *Claims) { c.Subject, c.AgentID = "", "" }, "agent is not the subject": func(c *Claims) { c.AgentID = "x" },
		"no jti": func(c *Claims) { c.ID = "" }, "no times": func(c *Claims) { c.IssuedAt, c.Expires = time.Time{}, time.Time{} },
		"no life": func(c *Claims) { c.Expires = c.IssuedAt }, "too long a life": func(c *Claims) { c.Expires = c.IssuedAt.Add(maxLife + time.Millisecond) },
		"a denial": func(c *Claims) { c.Decision = "DENY" }, "no decision": func(c *Claims) { c.Decision = "" },
		"no action": func(c *Claims) { c.ActionHash = "" }, "a bare hash": func(c *Claims) { c.ActionHash = c.ActionHash[len("sha256:"):] },
		"not a call hash": func(c *Claims) { c.CallHash = "x" }, "not UTF-8": func(c *Claims) { c.Tool = "\xff" },
		"too long": func(c *Claims) { c.ActionType = strings.Repeat("x", maxToken) }, "year 10000": func(c *Claims) {
			c.IssuedAt = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
			c.Expires = c.IssuedAt.Add(time.Minute)
		},
	} {
		c := someClaims()
		change(&c)
		if token, err := k.Sign(c); err == nil || token != "" {
			t.Errorf("%s: signed %q, %v", name, token, err)
		}
	}
}

func TestClaimsJSON(t *testing.T) {
	c := someClaims()
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if want := `"iat":"2026-05-05T12:00:00.000Z","nbf":"2026-05-05T12:00:01.000Z","exp":"2026-05-05T12:05:00.000Z"`; !strings.Contains(string(b), want) {
		t.Errorf("%s\nwant it to contain %s", b, want)
	}
	var back Claims
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c, back); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if err := json.Unmarshal([]byte(`{"sub":"a","Sub":"b"}`), &back); err == nil {
		t.Error("duplicates are read, want an error")
	}
	least, err := json.Marshal(Claims{})
	if err != nil || !strings.Contains(string(least), `"matched_rule_id":null`) || strings.Contains(string(least), "nbf") {
		t.Errorf("%s, %v: want matched_rule_id null and no nbf", least, err)
	}
}

// Every field is written as its tag says: one that MarshalJSON forgets shows here.
func TestClaimsHoldToTheTags(t *testing.T) {
	for _, full := range []bool{true, false} {
		var c Claims
		want := map[string]any{}
		v := reflect.ValueOf(&c).Elem()
		for i := range v.NumField() {
			name, option, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			text := "<" + name + ">\u2028\""
			switch field := v.Field(i); field.Interface().(type) {
			case string:
				if want[name] = ""; full {
					field.SetString(text)
					want[name] = text
				}
			case *string:
				if want[name] = nil; full {
					field.Set(reflect.ValueOf(&text))
					want[name] = text
				}
			case time.Time:
				at := time.Date(2026, 5, 5, 12, i, 0, 0, time.UTC)
				if want[name] = ""; full {
					field.Set(reflect.ValueOf(at))
					want[name] = formatTime(at)
				}
			case *Approval:
				if want[name] = nil; full {
					field.Set(reflect.ValueOf(&Approval{ID: "a", By: "<b>", At: "c", Factor: "totp"}))
					want[name] = map[string]any{"id": "a", "by": "<b>", "at": "c", "factor": "totp"}
				}
			default:
				t.Fatalf("field %s: a type that this test does not fill", name)
			}
			if !full && strings.HasPrefix(option, "omit") {
				delete(want, name)
			}
		}
		b, err := c.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
}

// A verified token has no other form: any change of its text is refused.
func FuzzVerify(f *testing.F) {
	k := seeded(f)
	token := sign(f, k, someClaims())
	f.Add(token)
	f.Add(token + ".")
	f.Add(token[:len(token)-1])
	f.Add("v4.public.e30.e30")
	f.Add(signRaw(k, `{"purpose":"proof"}`, ""))
	f.Fuzz(func(t *testing.T, s string) {
		c, err := Verify(s, during(k.Public()))
		if (err == nil) != (s == token) {
			t.Errorf("Verify(%q) = %+v, %v", s, c, err)
		}
	})
}

// What parses as claims is written and read again as the same.
func FuzzClaims(f *testing.F) {
	b, err := json.Marshal(someClaims())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"iat":"0001-01-01T00:00:00.000Z","matched_rule_id":"","approval":{}}`))
	f.Add([]byte(`{"SUB":"x"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseClaims(data)
		if err != nil {
			return
		}
		b, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		var back Claims
		if err := json.Unmarshal(b, &back); err == nil && !reflect.DeepEqual(c, back) {
			t.Errorf("%s\nread as %+v\nwritten as %s", data, c, b)
		} else if err != nil && len(b) <= maxToken && !c.IssuedAt.IsZero() && !c.Expires.IsZero() {
			t.Errorf("%s\nwritten as %s\n%v", data, b, err)
		}
	})
}

func BenchmarkSign(b *testing.B) {
	k, c := newTestKey(b), someClaims()
	for b.Loop() {
		if _, err := k.Sign(c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	k := newTestKey(b)
	token, want := sign(b, k, someClaims()), during(k.Public())
	for b.Loop() {
		if _, err := Verify(token, want); err != nil {
			b.Fatal(err)
		}
	}
}
