package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/owners"
	"github.com/openleash/openleash-go/proof"
)

// An office is the API of an installation, with its owner and what was said.
type office struct {
	t *testing.T
	Config
	h       http.Handler
	now     time.Time
	refused []authz.Access
	said    []exchange
}

// An exchange is an answer, and the route that gave it.
type exchange struct {
	method, route string
	answer        *httptest.ResponseRecorder
}

func newOffice(t *testing.T) *office {
	t.Helper()
	o := &office{t: t, now: now}
	o.Config = configAt(t, func() time.Time { return o.now })
	o.Config.Refused = func(a authz.Access) error { o.refused = append(o.refused, a); return nil }
	o.h = newAPI(t, o.Config)
	return o
}

const phrase = "correct horse battery"

// ask sends a request with a token, or without. An {id} in the route is filled in.
func (o *office) ask(method, route, id, token, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, strings.Replace(route, "{id}", id, 1), strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	o.h.ServeHTTP(w, r)
	o.said = append(o.said, exchange{method, route, w})
	return w
}

// want is ask, for an answer of this status and error code.
func (o *office) want(status int, code, method, route, id, token, body string) map[string]any {
	o.t.Helper()
	w := o.ask(method, route, id, token, body)
	got := map[string]any{}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		o.t.Fatalf("%s %s: %v: %s", method, route, err, w.Body)
	}
	fault, _ := got["error"].(map[string]any)
	if said, _ := fault["code"].(string); w.Code != status || said != code {
		o.t.Errorf("%s %s %.60s = %d %s, want %d %s", method, route, body, w.Code, w.Body, status, code)
	}
	return got
}

// get is want for success; it returns one field, a string.
func (o *office) get(field, method, route, id, token, body string) string {
	o.t.Helper()
	text, _ := o.want(200, "", method, route, id, token, body)[field].(string)
	if text == "" {
		o.t.Fatalf("%s %s: no %s in the answer", method, route, field)
	}
	return text
}

func (o *office) link() string {
	o.t.Helper()
	token, err := o.Owners.MakeLink(o.t.Context(), "cli:alice", o.Owners.Owner.ID)
	if err != nil {
		o.t.Fatal(err)
	}
	return token
}

func bodyOf(fields ...string) string {
	m := map[string]string{}
	for i := 0; i < len(fields); i += 2 {
		m[fields[i]] = fields[i+1]
	}
	b, _ := json.Marshal(m) // strings always marshal
	return string(b)
}

func (o *office) login(name string) string {
	o.t.Helper()
	return o.get("token", "POST", "/v1/owner/login", "", "", bodyOf("login", name, "passphrase", phrase))
}

// code is what the authenticator app shows; time passes, since one works once.
func (o *office) code(secret string) string {
	o.t.Helper()
	o.now = o.now.Add(30 * time.Second)
	code, err := totp.GenerateCode(secret, o.now)
	if err != nil {
		o.t.Fatal(err)
	}
	return code
}

// ownersStory is an owner's and an admin's life: every route of theirs, and how it can
// go wrong.
func ownersStory(t *testing.T) *office {
	t.Helper()
	o := newOffice(t)
	first := o.Owners.Owner.ID
	o.want(401, "SETUP_REQUIRED", "POST", "/v1/owner/login", "", "", bodyOf("login", "alice", "passphrase", phrase))
	o.want(400, "VALIDATION_ERROR", "POST", "/v1/initial-setup", "", "", bodyOf("display_name", "Ann", "passphrase", phrase))
	o.want(403, "INVALID_LINK", "POST", "/v1/initial-setup", "", "", bodyOf("display_name", "Ann", "passphrase", phrase, "link_token", "oll_guessed"))
	o.want(400, "VALIDATION_ERROR", "POST", "/v1/initial-setup", "", "", bodyOf("display_name", "Ann", "passphrase", "short", "link_token", o.link()))
	o.want(200, "", "POST", "/v1/initial-setup", "", "", bodyOf("display_name", "Ann", "passphrase", phrase, "link_token", o.link()))
	o.want(403, "SETUP_ALREADY_COMPLETED", "POST", "/v1/initial-setup", "", "", bodyOf("display_name", "Eve", "passphrase", phrase, "link_token", o.link()))

	o.want(401, "INVALID_CREDENTIALS", "POST", "/v1/owner/login", "", "", bodyOf("login", "ann", "passphrase", "wrong one"))
	o.want(401, "INVALID_CREDENTIALS", "POST", "/v1/owner/login", "", "", bodyOf("login", "nobody", "passphrase", phrase))
	o.want(400, "VALIDATION_ERROR", "POST", "/v1/owner/login", "", "", bodyOf("passphrase", phrase))
	ann := o.get("token", "POST", "/v1/owner/login", "", "", bodyOf("user_principal_id", first, "passphrase", phrase))
	o.want(401, "MISSING_TOKEN", "GET", "/v1/owner/profile", "", "", "")
	o.want(401, "INVALID_SESSION", "GET", "/v1/owner/profile", "", ann+"x", "")
	o.want(200, "", "GET", "/v1/owner/profile", "", ann, "")
	o.want(200, "", "PUT", "/v1/owner/profile", "", ann, bodyOf("email", "Ann@Example.com"))
	o.want(400, "VALIDATION_ERROR", "PUT", "/v1/owner/profile", "", ann, `{"email":null}`)
	o.want(400, "VALIDATION_ERROR", "PUT", "/v1/owner/profile", "", ann, `{"system_roles":["admin"]}`)
	next := o.get("token", "POST", "/v1/owner/session/refresh", "", ann, "")
	o.want(401, "INVALID_SESSION", "POST", "/v1/owner/session/refresh", "", ann, "")
	o.want(403, "INVALID_CREDENTIALS", "POST", "/v1/owner/passphrase", "", next, bodyOf("current_passphrase", "wrong", "passphrase", phrase))
	o.want(200, "", "POST", "/v1/owner/passphrase", "", next, bodyOf("current_passphrase", phrase, "passphrase", phrase))

	bob := o.adminStory(next)
	o.factorStory(bob)
	o.want(200, "", "POST", "/v1/owner/logout", "", next, "")
	o.want(401, "INVALID_SESSION", "POST", "/v1/owner/logout", "", next, "")
	return o
}

// adminStory is what an admin does; it returns a session of bob.
func (o *office) adminStory(ann string) (bob string) {
	o.t.Helper()
	id := o.get("user_principal_id", "POST", "/v1/admin/users", "", ann, `{"display_name":"bob","email":"bob@example.com"}`)
	o.want(409, "USER_TAKEN", "POST", "/v1/admin/users", "", ann, `{"display_name":"BOB"}`)
	o.want(400, "VALIDATION_ERROR", "POST", "/v1/admin/users", "", ann, `{"display_name":"carl","system_roles":["root"]}`)
	invite := o.want(200, "", "POST", "/v1/admin/users/{id}/setup-invite", id, ann, "")
	o.want(404, "NOT_FOUND", "POST", "/v1/admin/users/{id}/setup-invite", "nobody", ann, "")
	set := func(status int, code, inviteID, token string) {
		o.want(status, code, "POST", "/v1/owner/setup", "", "", bodyOf("invite_id", inviteID, "invite_token", token, "passphrase", phrase))
	}
	inviteID, token := invite["invite_id"].(string), invite["invite_token"].(string)
	set(404, "INVITE_NOT_FOUND", "another", token)
	set(401, "INVALID_INVITE_TOKEN", inviteID, token+"x")
	set(200, "", inviteID, token)
	set(400, "INVITE_USED", inviteID, token)
	bob = o.login("bob@example.com")
	o.want(200, "", "GET", "/v1/admin/users", "", ann, "")
	o.want(403, "ADMIN_REQUIRED", "GET", "/v1/admin/users", "", bob, "")
	o.want(401, "MISSING_TOKEN", "GET", "/v1/admin/users", "", "", "")
	o.want(409, "LAST_ADMIN", "PUT", "/v1/admin/users/{id}", o.Owners.Owner.ID, ann, `{"system_roles":[]}`)
	o.want(409, "INSTALLATION_OWNER", "PUT", "/v1/admin/users/{id}", o.Owners.Owner.ID, ann, `{"status":"DISABLED"}`)
	o.want(404, "NOT_FOUND", "PUT", "/v1/admin/users/{id}", "nobody", ann, `{"status":"ACTIVE"}`)

	// A role counts from the moment on in which it is given, and taken.
	o.want(200, "", "PUT", "/v1/admin/users/{id}", id, ann, `{"system_roles":["admin"]}`)
	o.want(200, "", "GET", "/v1/admin/users", "", bob, "")
	o.want(200, "", "PUT", "/v1/admin/users/{id}", id, ann, `{"system_roles":[]}`)
	o.want(403, "ADMIN_REQUIRED", "POST", "/v1/admin/users/{id}/setup-invite", o.Owners.Owner.ID, bob, "")
	o.want(200, "", "PUT", "/v1/admin/users/{id}", id, ann, `{"status":"DISABLED"}`)
	o.want(401, "INVALID_SESSION", "GET", "/v1/owner/profile", "", bob, "")
	o.want(401, "INVALID_CREDENTIALS", "POST", "/v1/owner/login", "", "", bodyOf("login", "bob", "passphrase", phrase))
	o.want(200, "", "PUT", "/v1/admin/users/{id}", id, ann, `{"status":"ACTIVE"}`)
	return o.login("bob")
}

func (o *office) factorStory(bob string) {
	o.t.Helper()
	o.want(400, "TOTP_NOT_SETUP", "POST", "/v1/owner/totp/confirm", "", bob, `{"code":"123456"}`)
	o.want(400, "TOTP_NOT_ENABLED", "POST", "/v1/owner/totp/disable", "", bob, `{"code":"123456"}`)
	made := o.want(200, "", "POST", "/v1/owner/totp/setup", "", bob, "")
	secret, backup := made["secret"].(string), made["backup_codes"].([]any)
	o.want(400, "INVALID_TOTP_CODE", "POST", "/v1/owner/totp/confirm", "", bob, `{"code":"000000"}`)
	o.want(200, "", "POST", "/v1/owner/totp/confirm", "", bob, bodyOf("code", o.code(secret)))
	o.want(403, "TOTP_REQUIRED", "POST", "/v1/owner/totp/setup", "", bob, "")
	o.want(403, "TOTP_REQUIRED", "POST", "/v1/owner/totp/disable", "", bob, `{"code":""}`)
	o.want(403, "TOTP_REQUIRED", "POST", "/v1/owner/login", "", "", bodyOf("login", "bob", "passphrase", phrase))
	code := o.code(secret)
	login := func(code string) string { return bodyOf("login", "bob", "passphrase", phrase, "totp_code", code) }
	second := o.get("token", "POST", "/v1/owner/login", "", "", login(code))
	o.want(401, "INVALID_TOTP_CODE", "POST", "/v1/owner/login", "", "", login(code))
	o.get("token", "POST", "/v1/owner/login", "", "", login(backup[0].(string)))
	o.want(401, "INVALID_TOTP_CODE", "POST", "/v1/owner/login", "", "", login(backup[0].(string)))

	list := o.want(200, "", "GET", "/v1/owner/sessions", "", bob, "")["sessions"].([]any)
	if len(list) != 3 {
		o.t.Fatalf("sessions: %v, want three", list)
	}
	for _, one := range list {
		if s := one.(map[string]any); s["current"] == false {
			o.want(200, "", "DELETE", "/v1/owner/sessions/{id}", s["session_id"].(string), bob, "")
			o.want(404, "NOT_FOUND", "DELETE", "/v1/owner/sessions/{id}", s["session_id"].(string), bob, "")
		}
	}
	o.want(401, "INVALID_SESSION", "GET", "/v1/owner/profile", "", second, "")
	o.want(400, "INVALID_TOTP_CODE", "POST", "/v1/owner/totp/disable", "", bob, `{"code":"000000"}`)
	o.want(200, "", "POST", "/v1/owner/totp/disable", "", bob, bodyOf("code", o.code(secret)))
}

// What is secret is said once, when it is made, and what was shown to us never.
func TestSecretsAreNotSentBack(t *testing.T) {
	o := ownersStory(t)
	for _, e := range o.said {
		text := e.answer.Body.String()
		made := e.route == "/v1/owner/totp/setup" && e.answer.Code == 200
		for _, word := range []string{phrase, "argon2", `passphrase_hash`, `"secret"`, `"backup_codes":`, "oll_", "v4.public"} {
			session := word == "v4.public" && e.answer.Code == 200 && (e.route == "/v1/owner/login" || e.route == "/v1/owner/session/refresh")
			invite := word == "oll_" && e.route == "/v1/admin/users/{id}/setup-invite"
			asks := word == "v4.public" && strings.Contains(text, "MISSING_TOKEN") // shows the form
			if strings.Contains(text, word) && !(made && (word == `"secret"` || word == `"backup_codes":`)) && !session && !invite && !asks {
				t.Errorf("%s %s = %d has %q: %s", e.method, e.route, e.answer.Code, word, text)
			}
		}
		if e.answer.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s %s may be kept by caches", e.method, e.route)
		}
	}
	for _, a := range o.refused {
		if a.Door != "api" || a.Why == "" || strings.Contains(a.Why, phrase) {
			t.Errorf("a refused attempt is recorded as %+v", a)
		}
	}
	if len(o.refused) < 20 {
		t.Errorf("%d refused attempts were recorded", len(o.refused))
	}
}

func TestTooManyLogins(t *testing.T) {
	o := newOffice(t)
	for range 9 { // what so many guesses leave behind
		if err := o.Owners.Store.Try(t.Context(), o.now, identity.Limit{Key: "passphrase:" + o.Owners.Owner.ID, Free: 10, MaxWait: time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
	o.want(401, "SETUP_REQUIRED", "POST", "/v1/owner/login", "", "", bodyOf("login", "alice", "passphrase", "x"))
	w := o.ask("POST", "/v1/owner/login", "", "", bodyOf("login", "ALICE", "passphrase", "x"))
	if got := read[envelope](t, w); w.Code != 429 || got.Error.Code != "TOO_MANY_ATTEMPTS" || w.Header().Get("Retry-After") != "60" {
		t.Errorf("= %d %s, Retry-After %q; want 429 and 60", w.Code, w.Body, w.Header().Get("Retry-After"))
	}
}

// Every route for owners refuses who shows nothing, or something else than a session.
func TestRoutesForOwners(t *testing.T) {
	o := newOffice(t)
	key, err := o.Key.SignSession(sessionClaims())
	if err != nil {
		t.Fatal(err)
	}
	guarded := 0
	for _, rt := range (&server{}).routes() {
		if rt.access != owner && rt.access != admin {
			continue
		}
		guarded++
		for shown, code := range map[string]string{"": "MISSING_TOKEN", "Bearer ": "MISSING_TOKEN", "Basic YTpi": "MISSING_TOKEN", "Bearer ols_x": "INVALID_SESSION", "Bearer " + key: "INVALID_SESSION"} {
			r := httptest.NewRequest(rt.method, strings.Replace(rt.path, "{id}", "x", 1), strings.NewReader(`{}`))
			r.Header.Set("Content-Type", "application/json")
			if shown != "" {
				r.Header.Set("Authorization", shown)
			}
			w := httptest.NewRecorder()
			o.h.ServeHTTP(w, r)
			if got := read[envelope](t, w); w.Code != 401 || got.Error.Code != code {
				t.Errorf("%s %s with %.12q = %d %s, want 401 %s", rt.method, rt.path, shown, w.Code, w.Body, code)
			}
		}
	}
	if guarded != 23 {
		t.Errorf("%d routes are guarded", guarded)
	}
}

// The portal's cookie opens the API too; a bad header does not fall back to it.
func TestCookie(t *testing.T) {
	o := newOffice(t)
	in, err := o.Owners.Redeem(t.Context(), owners.From{Door: "portal"}, o.link(), "")
	if err != nil {
		t.Fatal(err)
	}
	for header, want := range map[string]int{"": 200, "Bearer x": 401, "Basic x": 401} {
		r := httptest.NewRequest("GET", "/v1/owner/profile", nil)
		r.AddCookie(&http.Cookie{Name: "openleash_8787", Value: in.Token})
		if header != "" {
			r.Header.Set("Authorization", header)
		}
		w := httptest.NewRecorder()
		o.h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("with the cookie and %q: %d %s, want %d", header, w.Code, w.Body, want)
		}
	}
}

// Whatever comes as a body, the answer is a refusal in our form.
func TestHostileBodies(t *testing.T) {
	o := newOffice(t)
	in, err := o.Owners.Redeem(t.Context(), owners.From{Door: "portal"}, o.link(), "")
	if err != nil {
		t.Fatal(err)
	}
	large := `{"passphrase":"` + strings.Repeat("a", 2<<20) + `"}`
	deep := strings.Repeat(`{"login":`, 5000) + "1" + strings.Repeat("}", 5000)
	for _, rt := range (&server{}).routes() {
		if rt.method == "GET" || rt.method == "DELETE" || rt.path == "/v1/owner/logout" || rt.path == "/v1/owner/session/refresh" || strings.HasSuffix(rt.path, "setup-invite") || !strings.Contains(rt.path, "owner") && !strings.Contains(rt.path, "admin") && rt.path != "/v1/initial-setup" {
			continue
		}
		field := map[string]string{"PUT": "status", "POST": "passphrase"}[rt.method]
		for body, want := range map[string]int{
			large: 413, deep: 400, `{`: 400, `null`: 400, `[]`: 400, `"x"`: 400, `{} {}`: 400, "{\"a\":\"\xff\"}": 400,
			fmt.Sprintf(`{%q:"a",%q:"b"}`, field, field): 400, fmt.Sprintf(`{%q:1}`, field): 400, fmt.Sprintf(`{%q:{"a":[]}}`, field): 400,
			`{"unknown":1}`: 400, `{"code":[],"login":[],"invite_id":[],"display_name":[],"passphrase":[],"system_roles":"admin"}`: 400,
		} {
			w := o.ask(rt.method, rt.path, o.Owners.Owner.ID, in.Token, body)
			if got := read[envelope](t, w); w.Code != want || got.Error.Code == "" || len(w.Body.String()) > 2000 {
				t.Errorf("%s %s with %.40s = %d %.200s, want %d", rt.method, rt.path, body, w.Code, w.Body, want)
			}
		}
	}
}

func sessionClaims() proof.Session {
	return proof.Session{ID: "never was", UserID: "somebody", Roles: []string{"admin"}, IssuedAt: now, Expires: now.Add(time.Hour)}
}
