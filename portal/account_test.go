package portal

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/openleash/openleash-go/identity"
)

const phrase = "correct horse battery"

func passphraseForm(present string) url.Values {
	return url.Values{"present": {present}, "passphrase": {phrase}, "again": {phrase}}
}

func login(name, passphrase, code string) url.Values {
	return url.Values{"login": {name}, "passphrase": {passphrase}, "code": {code}}
}

// withPassphrase is an owner who has set one.
func (w *world) withPassphrase() *visitor {
	w.t.Helper()
	v := w.signedIn()
	wantStatus(w.t, "setting a passphrase", v.post("/profile/passphrase", passphraseForm("")), 303)
	return v
}

var (
	shownSecret = regexp.MustCompile(`<code class="command">([A-Z2-7]{32})</code>`)
	shownBackup = regexp.MustCompile(`<li><code>([a-z2-9]{5}-[a-z2-9]{5})</code></li>`)
)

// enrol sets up a second factor, and returns its secret and backup codes.
func (v *visitor) enrol(replacing string) (secret string, codes []string) {
	t := v.w.t
	t.Helper()
	page := v.post("/profile/factor", url.Values{"code": {replacing}})
	wantStatus(t, "beginning", page, 200)
	m := shownSecret.FindStringSubmatch(page.Body)
	if m == nil {
		t.Fatalf("no secret on the page:\n%s", page.Body)
	}
	for _, c := range shownBackup.FindAllStringSubmatch(page.Body, -1) {
		codes = append(codes, c[1])
	}
	if len(codes) != identity.BackupCodes || !strings.Contains(page.Body, `<div class="qr"><svg `) {
		t.Errorf("%d backup codes, want %d and a QR code:\n%s", len(codes), identity.BackupCodes, page.Body)
	}
	wantStatus(t, "confirming", v.post("/profile/factor/confirm", url.Values{"code": {v.w.code(m[1])}}), 303)
	return m[1], codes
}

// code is what the app shows; time passes, since one works once.
func (w *world) code(secret string) string {
	w.t.Helper()
	w.pass(31 * time.Second)
	code, err := totp.GenerateCode(secret, w.now())
	if err != nil {
		w.t.Fatal(err)
	}
	return code
}

func TestSignInByPassphrase(t *testing.T) {
	w := newWorld(t)
	got := w.visitor().get("/sign-in?next=/grants")
	wantStatus(t, "the form", got, 200)
	wantText(t, "the form", got, `autocomplete="username"`, `autocomplete="current-password"`, `autocomplete="one-time-code"`, `value="/grants"`)
	wantText(t, "asking", w.visitor().get("/grants"), `href="/sign-in?next=%2Fgrants"`)
	got = w.visitor().post("/sign-in", login("alice", phrase, ""))
	wantStatus(t, "before there is one", got, 401)
	wantText(t, "before there is one", got, "no passphrase yet")
	wantText(t, "the inbox", w.signedIn().get("/"), "Set a passphrase")
	w.withPassphrase()
	if body := w.signedIn().get("/").Body; strings.Contains(body, "Set a passphrase") {
		t.Error("the inbox asks for a passphrase that there is")
	}

	wrong := w.visitor().post("/sign-in", login("alice", "a wrong passphrase", ""))
	unknown := w.visitor().post("/sign-in", login("nobody", phrase, ""))
	wantStatus(t, "wrong", wrong, 401)
	if strings.ReplaceAll(withoutTicket(wrong), "alice", "nobody") != withoutTicket(unknown) || strings.Contains(wrong.Body, "a wrong passphrase") {
		t.Errorf("a wrong passphrase and an unknown user are told apart, or it is sent back:\n%s\n%s", wrong.Body, unknown.Body)
	}
	v := w.visitor()
	form := login("ALICE", phrase, "")
	form.Set("next", "/grants")
	got = v.post("/sign-in", form)
	wantStatus(t, "right", got, 303)
	if got.Header.Get("Location") != "/grants" || strings.Contains(got.Header.Get("Set-Cookie"), "ols_") || !strings.Contains(got.Header.Get("Set-Cookie"), "=v4.public.") {
		t.Errorf("after the sign-in: %v", got.Header)
	}
	wantStatus(t, "the inbox", v.get("/"), 200)
	for range 9 { // what so many guesses leave behind
		if err := w.store.Try(t.Context(), w.now(), identity.Limit{Key: "passphrase:" + w.owner.ID, Free: 10, MaxWait: time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
	wantStatus(t, "the tenth", w.visitor().post("/sign-in", login("alice", "guess", "")), 401)
	got = w.visitor().post("/sign-in", login("alice", phrase, ""))
	wantStatus(t, "too many", got, 429)
	wantText(t, "too many", got, "tried too often")
}

// With a second factor a link asks for the code, a wrong one does not use it up, and one
// by passphrase asks too.
func TestSignInWithFactor(t *testing.T) {
	w := newWorld(t)
	secret, codes := w.withPassphrase().enrol("")
	link := w.link(time.Hour)
	wantText(t, "the link", w.visitor().get("/sign-in/"+link), `name="code"`)
	got := w.visitor().post("/sign-in", url.Values{"token": {link}})
	wantStatus(t, "without the code", got, 403)
	wantText(t, "without the code", got, `name="code"`, link)
	got = w.visitor().post("/sign-in", url.Values{"token": {link}, "code": {"000000"}})
	wantStatus(t, "a wrong code", got, 401)
	if len(got.Header.Values("Set-Cookie")) > 0 {
		t.Error("a wrong code gave a session")
	}
	wantStatus(t, "the code", w.visitor().post("/sign-in", url.Values{"token": {link}, "code": {w.code(secret)}}), 303)

	got = w.visitor().post("/sign-in", login("alice", phrase, ""))
	wantStatus(t, "passphrase alone", got, 403)
	wantText(t, "passphrase alone", got, "Enter the code")
	code := w.code(secret)
	wantStatus(t, "with the code", w.visitor().post("/sign-in", login("alice", phrase, code)), 303)
	wantStatus(t, "the code again", w.visitor().post("/sign-in", login("alice", phrase, code)), 401)
	wantStatus(t, "a backup code", w.visitor().post("/sign-in", login("alice", phrase, codes[3])), 303)
	wantStatus(t, "the backup code again", w.visitor().post("/sign-in", login("alice", phrase, codes[3])), 401)
}

func TestProfile(t *testing.T) {
	w := newWorld(t)
	v, other := w.signedIn(), w.signedIn()
	got := v.post("/profile", url.Values{"name": {`<b>Ann`}, "email": {"Ann@Example.com"}})
	wantStatus(t, "the name", got, 303)
	got = v.get("/profile?done=profile")
	wantText(t, "the profile", got, "&lt;b&gt;Ann", "ann@example.com", "are saved", "this one")
	if strings.Contains(got.Body, "<b>Ann") {
		t.Error("a name is markup")
	}
	wantStatus(t, "a bad name", v.post("/profile", url.Values{"name": {"a@b"}}), 400)
	for _, bad := range []url.Values{{"passphrase": {"short"}, "again": {"short"}}, {"passphrase": {phrase}, "again": {"another " + phrase}}} {
		got := v.post("/profile/passphrase", bad)
		wantStatus(t, "a bad passphrase", got, 400)
		if strings.Contains(got.Body, phrase) {
			t.Error("a passphrase is sent back")
		}
	}
	wantStatus(t, "a passphrase", v.post("/profile/passphrase", passphraseForm("")), 303)
	wantStatus(t, "the other session", other.get("/"), 401)
	wantStatus(t, "this one", v.get("/"), 200)
	wantStatus(t, "without the present one", v.post("/profile/passphrase", passphraseForm("guess")), 403)
	wantStatus(t, "with it", v.post("/profile/passphrase", passphraseForm(phrase)), 303)
}

func TestFactorOnProfile(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	secret, codes := v.enrol("")
	for _, path := range []string{"/profile", "/", "/profile?done=factor"} {
		body := v.get(path).Body
		for _, s := range append(codes, secret, "otpauth") {
			if strings.Contains(body, s) {
				t.Errorf("%s sends %q back", path, s)
			}
		}
	}
	for _, path := range []string{"/profile/factor", "/profile/factor/drop"} {
		for code, want := range map[string]int{"": 403, "000000": 403} {
			got := v.post(path, url.Values{"code": {code}})
			wantStatus(t, path+" with "+code, got, want)
		}
	}
	wantText(t, "the profile", v.get("/profile"), "8 backup codes are left")
	next, _ := v.enrol(codes[0])
	got := v.post("/profile/factor", url.Values{"code": {w.code(next)}})
	wantStatus(t, "once more", got, 200)
	got = v.post("/profile/factor/confirm", url.Values{"code": {"000000"}})
	wantStatus(t, "a wrong code", got, 403)
	wantText(t, "a wrong code", got, "is wrong", `action="/profile/factor/confirm"`)
	if strings.Contains(got.Body, "<svg class") || shownSecret.MatchString(got.Body) {
		t.Error("the secret is shown again")
	}
	wantStatus(t, "switching off", v.post("/profile/factor/drop", url.Values{"code": {w.code(next)}}), 303)
	wantStatus(t, "nothing to confirm", v.post("/profile/factor/confirm", url.Values{"code": {"123456"}}), 409)
}

var listedSession = regexp.MustCompile(`name="id" value="([0-9a-f-]{36})"`)

func TestSessionsOnProfile(t *testing.T) {
	w := newWorld(t)
	v, a, b := w.signedIn(), w.signedIn(), w.signedIn()
	ids := listedSession.FindAllStringSubmatch(v.get("/profile").Body, -1)
	if len(ids) != 2 {
		t.Fatalf("want two other sessions, got %q", ids)
	}
	wantStatus(t, "ending one", v.post("/profile/sessions/revoke", url.Values{"id": {ids[0][1]}}), 303)
	ended := 0
	for _, other := range []*visitor{a, b} {
		if other.get("/").Status == 401 {
			ended++
		}
	}
	if ended != 1 {
		t.Errorf("%d sessions have ended, want one", ended)
	}
	wantStatus(t, "ending it again", v.post("/profile/sessions/revoke", url.Values{"id": {ids[0][1]}}), 303)
	wantStatus(t, "ending the others", v.post("/profile/sessions/revoke", nil), 303)
	wantStatus(t, "a", a.get("/"), 401)
	wantStatus(t, "b", b.get("/"), 401)
	wantStatus(t, "this one", v.get("/"), 200)
}

var madeLinkURL = regexp.MustCompile(`<code class="command">http://[^/]+(/set-up/oll_[A-Za-z0-9_-]+)</code>`)

// An admin adds a user, who comes in by the link, and sees nothing that is another's.
func TestUsers(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	secret := w.hold(`{"sku":"secret-sku"}`)
	page := v.post("/users", url.Values{"name": {"Bo <i>Ek"}, "email": {"bo@example.com"}})
	wantStatus(t, "adding", page, 200)
	link := madeLinkURL.FindStringSubmatch(page.Body)
	if link == nil || strings.Contains(page.Body, "<i>Ek") {
		t.Fatalf("no link, or a name is markup:\n%s", page.Body)
	}
	wantStatus(t, "adding twice", v.post("/users", url.Values{"name": {"bo <i>ek"}}), 409)
	if strings.Contains(v.get("/users").Body, "oll_") {
		t.Error("the link is shown again")
	}
	bo := w.visitor()
	got := bo.get(link[1])
	wantStatus(t, "the link", got, 200)
	wantText(t, "the link", got, `autocomplete="new-password"`)
	form := url.Values{"token": {strings.TrimPrefix(link[1], "/set-up/")}, "passphrase": {phrase}, "again": {phrase}}
	wantStatus(t, "setting up", bo.post("/set-up", form), 303)
	wantStatus(t, "the inbox", bo.get("/"), 200)
	got = w.visitor().post("/set-up", form)
	wantStatus(t, "the link again", got, 403)
	if strings.Contains(got.Body, form.Get("token")) {
		t.Error("a refused link gave its token back")
	}
	wantStatus(t, "signing in", w.visitor().post("/sign-in", login("bo@example.com", phrase, "")), 303)

	u, err := w.store.FindUser(t.Context(), "bo@example.com")
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{
		"/users": 403, "/limits": 403, "/tools": 403, "/policies": 403, "/playground": 403, "/approvals/" + secret.ID: 404, "/grants": 200, "/audit": 200, "/profile": 200,
	} {
		got := bo.get(path)
		wantStatus(t, "bo's "+path, got, want)
		if strings.Contains(got.Body, "secret-sku") || path != "/audit" && strings.Contains(got.Body, "alice") || strings.Contains(got.Body, `href="/users"`) {
			t.Errorf("%s shows bo what is alice's:\n%s", path, got.Body)
		}
	}
	for _, path := range []string{"/users", "/users/" + u.ID, "/users/" + w.owner.ID + "/link", "/users/" + w.owner.ID + "/reset", "/tools/answer", "/limits/release"} {
		wantStatus(t, "bo's "+path, bo.post(path, url.Values{"name": {"x"}, "set": {"admin"}}), 403)
	}
	wantStatus(t, "deny", bo.post("/approvals/"+secret.ID+"/deny", url.Values{"action_hash": {secret.ActionHash.String()}}), 404)
	w.wantPending(secret.ID)

	set := func(what string) answer { return v.post("/users/"+u.ID, url.Values{"set": {what}}) }
	wantStatus(t, "making an admin", set("admin"), 303)
	wantStatus(t, "bo's users", bo.get("/users"), 200)
	wantStatus(t, "and no admin", set("no admin"), 303)
	wantStatus(t, "bo's users", bo.get("/users"), 403)
	wantStatus(t, "nonsense", set("root"), 400)
	wantStatus(t, "disabling", set("DISABLED"), 303)
	wantStatus(t, "bo's inbox", bo.get("/"), 401)
	wantStatus(t, "enabling", set("ACTIVE"), 303)
	wantStatus(t, "nobody", v.post("/users/nobody", url.Values{"set": {"admin"}}), 404)
	wantStatus(t, "nobody's link", v.post("/users/nobody/link", nil), 404)
	wantStatus(t, "resetting oneself", v.post("/users/"+w.owner.ID+"/reset", nil), 409)
	wantStatus(t, "resigning as the last", v.post("/users/"+w.owner.ID, url.Values{"set": {"no admin"}}), 409)

	page = v.post("/users/"+u.ID+"/reset", nil)
	wantStatus(t, "resetting", page, 200)
	if link = madeLinkURL.FindStringSubmatch(page.Body); link == nil {
		t.Fatalf("no link after the reset:\n%s", page.Body)
	}
	wantStatus(t, "the passphrase of before", w.visitor().post("/sign-in", login("bo@example.com", phrase, "")), 401)
	form.Set("token", strings.TrimPrefix(link[1], "/set-up/"))
	wantStatus(t, "setting up again", bo.post("/set-up", form), 303)
	got = bo.get("/grants")
	wantText(t, "the notice", got, "changed by an admin", "portal:alice reset your access")
	u, err = w.store.FindUser(t.Context(), "bo@example.com")
	if err != nil {
		t.Fatal(err)
	}
	wantStatus(t, "dismissing", bo.post("/profile/notice", url.Values{"shown": {u.Notice}}), 303)
	if strings.Contains(bo.get("/").Body, "changed by an admin") {
		t.Error("a dismissed notice is shown")
	}
}

// Nothing of the account's pages is inline, and none is for who is not signed in.
func TestAccountPagesAreStrict(t *testing.T) {
	w := newWorld(t)
	v := w.withPassphrase()
	invite, err := w.owners.Invite(t.Context(), "cli:alice", w.owner.ID)
	if err != nil {
		t.Fatal(err)
	}
	pages := map[string]answer{
		"sign-in": w.visitor().get("/sign-in"), "profile": v.get("/profile"), "users": v.get("/users"),
		"factor": v.post("/profile/factor", nil), "set-up": w.visitor().get("/set-up/" + invite.Token),
	}
	for name, page := range pages {
		if page.Status != 200 || regexp.MustCompile(`(?i)<style|\sstyle=|<script>|\son[a-z]+=|javascript:`).MatchString(page.Body) {
			t.Errorf("%s: status %d, or something is inline:\n%s", name, page.Status, page.Body)
		}
		if csp := page.Header.Get("Content-Security-Policy"); strings.Contains(csp, "unsafe") || page.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %v", name, page.Header)
		}
		if strings.Contains(page.Body, "argon2") || strings.Contains(page.Body, "v4.public") {
			t.Errorf("%s shows a hash or a token", name)
		}
	}
	for _, path := range []string{"/profile", "/users", "/profile/passphrase", "/profile/factor", "/profile/factor/confirm", "/profile/factor/drop", "/profile/sessions/revoke", "/profile/notice", "/users/x", "/users/x/link", "/users/x/reset"} {
		wantStatus(t, path, w.visitor().post(path, url.Values{"name": {"x"}}), 401)
	}
	for _, path := range []string{"/sign-in", "/set-up", "/profile/passphrase"} {
		wantStatus(t, "2 MB for "+path, v.post(path, url.Values{"passphrase": {strings.Repeat("x", 2<<20)}}), http.StatusRequestEntityTooLarge)
	}
}

func TestBrowserNames(t *testing.T) {
	for agent, want := range map[string]string{
		"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0":                                              "Firefox on Linux",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36 Edg/140": "Edge on Windows",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1 (KHTML, like Gecko) Version/18 Safari/604":  "Safari on iPhone",
		"curl/8.1": "curl", "": "A program", "my-tool": "my-tool",
	} {
		if got := browser(agent); got != want {
			t.Errorf("%q is %q, want %q", agent, got, want)
		}
	}
}
