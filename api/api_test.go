package api

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/owners"
	"github.com/openleash/openleash-go/policy"
	"github.com/openleash/openleash-go/proof"
	"github.com/openleash/openleash-go/store/sqlite"
)

var now = time.Date(2026, 5, 5, 13, 42, 11, 0, time.UTC)

const somePolicy = `version: 1
default: deny
rules:
  - id: small
    effect: allow
    action: purchase
    constraints: {amount_max: 5000, currency: [SEK]}
  - id: large
    effect: allow
    action: purchase
    obligations: [{type: HUMAN_APPROVAL}]
  - id: official
    effect: allow
    action: submit
    obligations: [{type: STEP_UP_AUTH}]
`

// config is a Config with a real key and a real policy folder.
func config(t testing.TB) Config { return configAt(t, func() time.Time { return now }) }

// configAt is config with a clock.
func configAt(t testing.TB, clock func() time.Time) Config {
	t.Helper()
	key, err := proof.NewKey(now)
	if err != nil {
		t.Fatal(err)
	}
	store, err := sqlite.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "shop.yaml"), []byte(somePolicy), 0o600); err != nil {
		t.Fatal(err)
	}
	keeper, err := policy.Open(t.Context(), dir, nil, store, func(policy.Event) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keeper.Close() })
	owner, err := store.EnsureOwner(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	service, err := authz.New(authz.Config{Store: store, Owner: owner, Policies: keeper, Key: key, Now: clock, Factors: identity.NewFactors(store, clock)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { service.Close() })
	people, err := owners.New(owners.Config{Store: store, Owner: owner, Key: key, Keys: func() []proof.PublicKey { return []proof.PublicKey{key.Public()} }, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	return Config{Key: key, Policies: keeper, Service: service, Owners: people, Search: store.Search, Cookie: "openleash_8787", Version: "v1.2.3", Now: clock}
}

func newAPI(t *testing.T, c Config) http.Handler {
	t.Helper()
	h, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// asked counts requests: each comes from an address of its own, so that none is refused
// for those before it.
var asked atomic.Uint32

func ask(h http.Handler, method, target, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	n := asked.Add(1)
	r.RemoteAddr = fmt.Sprintf("10.%d.%d.%d:1234", n>>16&255, n>>8&255, n&255)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// read reads an answer's JSON.
func read[T any](t *testing.T, w *httptest.ResponseRecorder) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("status %d: reading %s: %v", w.Code, w.Body, err)
	}
	return v
}

func toJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

type envelope struct {
	Error struct {
		Code        string            `json:"code"`
		Message     string            `json:"message"`
		FieldErrors map[string]string `json:"field_errors"`
	} `json:"error"`
}

func TestRefusals(t *testing.T) {
	h := newAPI(t, config(t))
	large := `{"token":"` + strings.Repeat("a", maxBody) + `"}`
	tests := []struct {
		name, method, target, body string
		status                     int
		code, field                string
	}{
		{"unknown route", "GET", "/v1/nothing", "", 404, "NOT_FOUND", ""},
		{"deeper", "GET", "/v1/health/x", "", 404, "NOT_FOUND", ""},
		{"wrong method", "POST", "/v1/health", `{}`, 405, "METHOD_NOT_ALLOWED", ""},
		{"wrong method on POST", "GET", "/v1/verify-proof", "", 405, "METHOD_NOT_ALLOWED", ""},
		{"no body", "POST", "/v1/verify-proof", "", 400, "MISSING_BODY", ""},
		{"malformed", "POST", "/v1/verify-proof", `{"token":`, 400, "INVALID_JSON", ""},
		{"trailing data", "POST", "/v1/verify-proof", `{} {}`, 400, "INVALID_JSON", ""},
		{"duplicate key", "POST", "/v1/verify-proof", `{"token":"a","token":"b"}`, 400, "INVALID_JSON", ""},
		{"duplicate key deep inside", "POST", "/v1/playground/run", `{"policy_yaml":"","action":{"payload":{"a":1,"a":2}}}`, 400, "INVALID_JSON", ""},
		{"not UTF-8", "POST", "/v1/verify-proof", "{\"token\":\"\xff\"}", 400, "INVALID_JSON", ""},
		{"not an object", "POST", "/v1/verify-proof", `["token"]`, 400, "INVALID_JSON", ""},
		{"other case", "POST", "/v1/verify-proof", `{"Token":"a"}`, 400, "VALIDATION_ERROR", "Token"},
		{"misspelt expectation", "POST", "/v1/verify-proof", `{"token":"a","expected_audiance":"b"}`, 400, "VALIDATION_ERROR", "expected_audiance"},
		{"token is no string", "POST", "/v1/verify-proof", `{"token":1}`, 400, "VALIDATION_ERROR", "token"},
		{"hash is none", "POST", "/v1/verify-proof", `{"token":"a","expected_action_hash":"abc"}`, 400, "VALIDATION_ERROR", "expected_action_hash"},
		{"hash of zeros", "POST", "/v1/verify-proof", `{"token":"a","expected_call_hash":"` + strings.Repeat("0", 64) + `"}`, 400, "VALIDATION_ERROR", "expected_call_hash"},
		{"too large", "POST", "/v1/verify-proof", large, 413, "BODY_TOO_LARGE", ""},
		{"no challenge", "GET", "/v1/installation", "", 400, "VALIDATION_ERROR", "challenge"},
		{"short challenge", "GET", "/v1/installation?challenge=AAAA", "", 400, "VALIDATION_ERROR", "challenge"},
		{"long challenge", "GET", "/v1/installation?challenge=" + strings.Repeat("A", 88), "", 400, "VALIDATION_ERROR", "challenge"},
		{"padded challenge", "GET", "/v1/installation?challenge=AAAAAAAAAAAAAAAAAAAAAA==", "", 400, "VALIDATION_ERROR", "challenge"},
		{"no policy", "POST", "/v1/playground/run", `{"action":{}}`, 400, "VALIDATION_ERROR", "policy_yaml"},
		{"bad policy", "POST", "/v1/playground/run", `{"policy_yaml":"version: 2","action":{}}`, 400, "INVALID_POLICY", ""},
		{"no action", "POST", "/v1/playground/run", `{"policy_yaml":` + quoted(somePolicy) + `}`, 400, "VALIDATION_ERROR", "action"},
		{"bad action", "POST", "/v1/playground/run", `{"policy_yaml":` + quoted(somePolicy) + `,"action":{}}`, 400, "INVALID_ACTION_REQUEST", ""},
		{"bad tool", "POST", "/v1/playground/run", `{"policy_yaml":` + quoted(somePolicy) + `,"action":{},"tool":1}`, 400, "VALIDATION_ERROR", "tool"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := ask(h, tt.method, tt.target, tt.body)
			got := read[envelope](t, w)
			if w.Code != tt.status || got.Error.Code != tt.code || got.Error.Message == "" {
				t.Errorf("= %d %s, want %d %s", w.Code, w.Body, tt.status, tt.code)
			}
			if _, named := got.Error.FieldErrors[tt.field]; named != (tt.field != "") {
				t.Errorf("field_errors = %v, want %q", got.Error.FieldErrors, tt.field)
			}
			if ct := w.Header().Get("Content-Type"); ct != "application/json" {
				t.Errorf("Content-Type = %q", ct)
			}
			if (w.Header().Get("Allow") != "") != (tt.status == 405) {
				t.Errorf("Allow = %q with status %d", w.Header().Get("Allow"), w.Code)
			}
		})
	}
}

func quoted(s string) string {
	b, _ := json.Marshal(s) // a string always marshals
	return string(b)
}

func TestWrongContentType(t *testing.T) {
	h := newAPI(t, config(t))
	r := httptest.NewRequest("POST", "/v1/verify-proof", strings.NewReader(`{}`))
	r.Header.Set("Content-Type", "text/plain")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if got := read[envelope](t, w); w.Code != 415 || got.Error.Code != "UNSUPPORTED_MEDIA_TYPE" {
		t.Errorf("= %d %s", w.Code, w.Body)
	}
}

func TestAllow(t *testing.T) {
	h := newAPI(t, config(t))
	for path, want := range map[string]string{"/v1/health": "GET, HEAD", "/v1/verify-proof": "POST"} {
		if got := ask(h, "DELETE", path, "").Header().Get("Allow"); got != want {
			t.Errorf("Allow of %s = %q, want %q", path, got, want)
		}
	}
}

func TestHealth(t *testing.T) {
	good := config(t)
	broken := good
	broken.LogErr = func() error { return errors.New("no space left on device") }
	none := good
	none.Policies = nil
	for _, tt := range []struct {
		name   string
		config Config
		status string
		want   string // in the answer
	}{
		{"all well", good, "ok", `"hash":"` + good.Policies.Current().Hash + `"`},
		{"log broken", broken, "degraded", "no space left"},
		{"no policies", none, "degraded", `"hash":null`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := ask(newAPI(t, tt.config), "GET", "/v1/health", "")
			got := read[healthAnswer](t, w)
			if w.Code != 200 || got.Status != tt.status || got.Version != "v1.2.3" || got.Time != "2026-05-05T13:42:11.000Z" || !strings.Contains(w.Body.String(), tt.want) {
				t.Errorf("= %d %s, want %s with %s", w.Code, w.Body, tt.status, tt.want)
			}
		})
	}
}

func TestPublicKeys(t *testing.T) {
	c := config(t)
	revoked, err := proof.NewKey(now)
	if err != nil {
		t.Fatal(err)
	}
	gone := revoked.Public()
	gone.RevokedAt = now.Add(time.Hour)
	c.Keys = func() []proof.PublicKey { return []proof.PublicKey{c.Key.Public(), gone} }
	got := read[struct{ Keys []publicKey }](t, ask(newAPI(t, c), "GET", "/v1/public-keys", ""))
	at := "2026-05-05T14:42:11.000Z"
	want := []publicKey{
		{c.Key.ID, "OKP", "EdDSA", c.Key.Public().SPKI(), "2026-05-05T13:42:11.000Z", nil},
		{gone.ID, "OKP", "EdDSA", gone.SPKI(), "2026-05-05T13:42:11.000Z", &at},
	}
	if diff := cmp.Diff(want, got.Keys); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

func TestInstallation(t *testing.T) {
	c := config(t)
	h := newAPI(t, c)
	for _, size := range []int{minChallenge, 32, maxChallenge} {
		challenge := make([]byte, size)
		rand.Read(challenge)
		w := ask(h, "GET", "/v1/installation?challenge="+base64.RawURLEncoding.EncodeToString(challenge), "")
		got := read[installationAnswer](t, w)
		sig, err := base64.StdEncoding.DecodeString(got.Signature)
		if err != nil || got.Installation != c.Key.ID {
			t.Fatalf("= %s, %v", w.Body, err)
		}
		if !c.Key.Public().VerifyText("installation", challenge, sig) {
			t.Errorf("the signature over %d bytes does not verify", size)
		}
		challenge[0]++
		if c.Key.Public().VerifyText("installation", challenge, sig) {
			t.Error("the signature verifies for another challenge")
		}
	}
}

// claims are those of a proof for a small purchase.
func claims() proof.Claims {
	return proof.Claims{
		Subject: "bot", Audience: "butik.example", IssuedAt: now, Expires: now.Add(5 * time.Minute), ID: "5b6b0f0c-9a63-4dfb-8d3a-3a4f0a4d1c01",
		Decision: "ALLOW", DecisionID: "5b6b0f0c-9a63-4dfb-8d3a-3a4f0a4d1c02", ActionID: "5b6b0f0c-9a63-4dfb-8d3a-3a4f0a4d1c03",
		ActionType: "purchase", ActionHash: action.Hash{1}.String(), PolicyID: "shop", AgentID: "bot",
		OwnerType: "user", OwnerID: "5b6b0f0c-9a63-4dfb-8d3a-3a4f0a4d1c04", CallHash: action.Hash{2}.String(), Server: "shop", Tool: "buy",
	}
}

func TestVerifyProof(t *testing.T) {
	c := config(t)
	token, err := c.Key.Sign(claims())
	if err != nil {
		t.Fatal(err)
	}
	other, err := proof.NewKey(now)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := other.Sign(claims())
	if err != nil {
		t.Fatal(err)
	}
	hash, call := action.Hash{1}.String(), action.Hash{2}.String()
	tests := []struct {
		name   string
		body   map[string]any
		after  time.Duration
		valid  bool
		reason string
		claims bool
	}{
		{"good", map[string]any{"token": token}, 0, true, "", true},
		{"all expectations met", map[string]any{"token": token, "expected_action_hash": hash, "expected_call_hash": call, "expected_agent_id": "bot", "expected_audience": "butik.example"}, 0, true, "", true},
		{"bare hex", map[string]any{"token": token, "expected_action_hash": strings.TrimPrefix(hash, "sha256:")}, 0, true, "", true},
		{"nothing expected", map[string]any{"token": token, "expected_action_hash": nil, "expected_agent_id": "", "expected_audience": nil}, 0, true, "", true},
		{"another action", map[string]any{"token": token, "expected_action_hash": call}, 0, false, "action_hash mismatch", true},
		{"another agent", map[string]any{"token": token, "expected_agent_id": "bob"}, 0, false, "agent_id mismatch", true},
		{"another call", map[string]any{"token": token, "expected_call_hash": hash}, 0, false, "another call", true},
		{"another audience", map[string]any{"token": token, "expected_audience": "evil.example"}, 0, false, "audience", true},
		{"expired", map[string]any{"token": token}, time.Hour, false, "expired", false},
		{"expired, and another action", map[string]any{"token": token, "expected_action_hash": call}, time.Hour, false, "expired", false},
		{"foreign key", map[string]any{"token": foreign}, 0, false, "unknown key", false},
		{"no token", map[string]any{}, 0, false, "Missing token", false},
		{"null token", map[string]any{"token": nil}, 0, false, "Missing token", false},
		{"nonsense", map[string]any{"token": "v4.public.AAAA"}, 0, false, "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			at := c
			at.Now = func() time.Time { return now.Add(tt.after) }
			w := ask(newAPI(t, at), "POST", "/v1/verify-proof", toJSON(t, tt.body))
			got := read[verifyAnswer](t, w)
			if w.Code != 200 || got.Valid != tt.valid || !strings.Contains(got.Reason, tt.reason) || (got.Claims != nil) != tt.claims {
				t.Errorf("= %d %s; want valid %v, reason %q, claims %v", w.Code, w.Body, tt.valid, tt.reason, tt.claims)
			}
			if !got.Valid && got.Reason == "" {
				t.Error("invalid without a reason")
			}
		})
	}
}

func playgroundBody(amount string) string {
	return `{"policy_yaml":` + quoted(somePolicy) + `,"action":{"action_id":"5b6b0f0c-9a63-4dfb-8d3a-3a4f0a4d1c03","action_type":"purchase",
		"requested_at":"2026-05-05T13:42:11Z","principal":{"agent_id":"bot"},"subject":{"principal_id":"5b6b0f0c-9a63-4dfb-8d3a-3a4f0a4d1c04"},
		"payload":{"amount_minor":` + amount + `,"currency":"SEK"}},"tool":{"server":"shop","name":"buy"}}`
}

// The playground spends nothing: a limit has as much room afterwards.
func TestPlaygroundChargesNoLimit(t *testing.T) {
	h := newAPI(t, config(t))
	limited := strings.Replace(playgroundBody("4000"), quoted(somePolicy), quoted(somePolicy+"limits: [{id: once, count: true, max: 1, window: 1h}]\n"), 1)
	for range 3 {
		w := ask(h, "POST", "/v1/playground/run", limited)
		if got := read[playgroundAnswer](t, w); w.Code != 200 || got.Decision.Decision != "ALLOW" {
			t.Errorf("= %d %s", w.Code, w.Body)
		}
	}
}

func TestPlayground(t *testing.T) {
	h := newAPI(t, config(t))
	for _, tt := range []struct{ amount, decision, rule string }{
		{"4000", "ALLOW", "small"}, {"6000", "REQUIRE_APPROVAL", "large"},
	} {
		w := ask(h, "POST", "/v1/playground/run", playgroundBody(tt.amount))
		if w.Code != 200 {
			t.Fatalf("= %d %s", w.Code, w.Body)
		}
		got := read[playgroundAnswer](t, w)
		d := got.Decision
		if d.Decision != tt.decision || d.Result != tt.decision || d.MatchedRuleID == nil || *d.MatchedRuleID != tt.rule || d.PolicyID == nil || d.Reason == "" {
			t.Errorf("amount %s: %s, want %s by %s", tt.amount, w.Body, tt.decision, tt.rule)
		}
		if len(got.Debug.Trace) != 3 {
			t.Errorf("amount %s: trace of %d rules, want 3", tt.amount, len(got.Debug.Trace))
		}
		if _, err := action.ParseHash(got.ActionHash); err != nil || !strings.HasPrefix(got.ActionHash, "sha256:") {
			t.Errorf("action_hash = %q: %v", got.ActionHash, err)
		}
		if tt.rule == "large" && (len(d.Obligations) != 1 || d.Obligations[0].Type != "HUMAN_APPROVAL") {
			t.Errorf("obligations = %v", d.Obligations)
		}
	}
}

func TestNewNeedsKey(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("New without a key succeeded")
	}
}
