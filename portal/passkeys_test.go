package portal

import (
	"encoding/json"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/descope/virtualwebauthn"

	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/internal/passkeytest"
	"github.com/openleash/openleash-go/owners"
	"github.com/openleash/openleash-go/passkey"
)

// A device is an authenticator with one passkey, and the script of the pages.
type device struct {
	t    *testing.T
	rp   virtualwebauthn.RelyingParty
	auth virtualwebauthn.Authenticator
	cred virtualwebauthn.Credential
}

func (w *world) device() *device {
	rp := virtualwebauthn.RelyingParty{Name: "OpenLeash", ID: w.owners.Parties[0].ID(), Origin: w.browse()}
	return &device{w.t, rp, virtualwebauthn.NewAuthenticator(), passkeytest.EC2()}
}

var (
	shownOptions = regexp.MustCompile(`data-options="([^"]+)"`)
	shownTicket  = regexp.MustCompile(`name="ticket" value="([^"]+)"`)
)

// underName is v, under the name that links use: passkeys work at no other.
func (v *visitor) underName() *visitor {
	v.named = true
	return v
}

// signedInByName is signedIn under that name.
func (w *world) signedInByName() *visitor {
	w.t.Helper()
	v := w.visitor().underName()
	wantStatus(w.t, "signing in", v.post("/sign-in", url.Values{"token": {w.link(time.Minute)}}), http.StatusSeeOther)
	return v
}

// fills is what the script does to the form of a page.
func (d *device) fills(page answer, form url.Values) url.Values {
	d.t.Helper()
	m := shownOptions.FindStringSubmatch(page.Body)
	if m == nil {
		d.t.Fatalf("no passkey's form on the page:\n%s", page.Body)
	}
	options := html.UnescapeString(m[1])
	if strings.Contains(options, `"pubKeyCredParams"`) {
		parsed, err := virtualwebauthn.ParseAttestationOptions(options)
		if err != nil {
			d.t.Fatal(err)
		}
		form.Set("passkey", virtualwebauthn.CreateAttestationResponse(d.rp, d.auth, d.cred, *parsed))
	} else {
		parsed, err := virtualwebauthn.ParseAssertionOptions(options)
		if err != nil {
			d.t.Fatal(err)
		}
		form.Set("passkey", virtualwebauthn.CreateAssertionResponse(d.rp, d.auth, d.cred, *parsed))
	}
	if m := shownTicket.FindStringSubmatch(page.Body); m != nil {
		form.Set("ticket", m[1])
	}
	return form
}

// signedInWith is signedIn of who has a second factor.
func (w *world) signedInWith(code string) *visitor {
	w.t.Helper()
	v := w.visitor()
	wantStatus(w.t, "signing in", v.post("/sign-in", url.Values{"token": {w.link(time.Minute)}, "code": {code}}), http.StatusSeeOther)
	return v
}

// withoutTicket is a page without what is another each time.
func withoutTicket(page answer) string {
	return shownTicket.ReplaceAllString(shownOptions.ReplaceAllString(page.Body, ""), "")
}

// register adds the device's passkey by the page.
func (d *device) register(v *visitor, code string) answer {
	return v.post("/passkeys", d.fills(v.get("/passkeys"), url.Values{"name": {"phone"}, "code": {code}}))
}

// A passkey is added with a code of the second factor and a challenge of its own, signs
// its owner in, and is removed.
func TestPasskey(t *testing.T) {
	w := newWorld(t)
	v, d := w.signedInByName(), w.device()
	wantText(t, "before there is a second factor", v.get("/passkeys"), "First your second factor")
	code := w.enrol()
	if elsewhere := w.signedInWith(code()); strings.Contains(elsewhere.get("/passkeys").Body, "data-passkey=") || strings.Contains(elsewhere.get("/sign-in").Body, "data-passkey=") {
		t.Error("a passkey is offered at an address at which none works")
	}
	w.pass(time.Minute)
	page := v.get("/passkeys")
	for what, form := range map[string]url.Values{
		"without a code":        {"name": {"phone"}},
		"with a wrong code":     {"name": {"phone"}, "code": {"000000"}},
		"without a name":        {"code": {code()}},
		"with a name too long":  {"name": {strings.Repeat("a", owners.MaxPasskeyName+1)}, "code": {code()}},
		"with an unseen letter": {"name": {"a\u200b"}, "code": {code()}},
	} {
		if got := v.post("/passkeys", d.fills(page, form)); got.Status < 400 || !strings.Contains(got.Body, "Nothing was done") {
			t.Errorf("%s: %d\n%s", what, got.Status, got.Body)
		}
	}
	form := d.fills(page, url.Values{"name": {"phone"}, "code": {code()}})
	form.Set("ticket", strings.Replace(form.Get("ticket"), ".", "0.", 1))
	wantStatus(t, "with another ticket", v.post("/passkeys", form), http.StatusForbidden)
	form = d.fills(v.get("/passkeys"), url.Values{"name": {"phone"}, "code": {code()}})
	form.Set("ticket", shownTicket.FindStringSubmatch(page.Body)[1])
	wantStatus(t, "for another challenge", v.post("/passkeys", form), http.StatusUnauthorized)

	form = d.fills(page, url.Values{"name": {"phone"}, "code": {code()}})
	wantStatus(t, "adding", v.post("/passkeys", form), http.StatusSeeOther)
	w.pass(time.Minute)
	form.Set("code", code())
	if got := v.post("/passkeys", form); got.Status < 400 {
		t.Errorf("the same once more: %d", got.Status)
	}
	w.pass(time.Minute)
	second := w.device().fills(page, url.Values{"name": {"tablet"}, "code": {code()}})
	wantStatus(t, "another for the same challenge", v.post("/passkeys", second), http.StatusForbidden)
	w.pass(time.Minute)
	list := v.get("/passkeys")
	wantText(t, "the list", list, "phone", "openleash.localhost ")

	in := w.visitor().underName()
	signIn := d.fills(in.get("/sign-in"), url.Values{"next": {"/audit"}})
	if got := in.post("/sign-in", signIn); got.Status != http.StatusSeeOther || got.Header.Get("Location") != "/audit" {
		t.Errorf("signing in: %d %s", got.Status, got.Body)
	}
	wantStatus(t, "signed in", in.get("/audit"), http.StatusOK)
	wantStatus(t, "the same answer again", w.visitor().post("/sign-in", signIn), http.StatusForbidden)
	stranger := w.visitor().underName()
	wantStatus(t, "a stranger's passkey", stranger.post("/sign-in", w.device().fills(stranger.get("/sign-in"), url.Values{})), http.StatusUnauthorized)
	late := d.fills(stranger.get("/sign-in"), url.Values{})
	w.pass(6 * time.Minute)
	wantStatus(t, "too late", stranger.post("/sign-in", late), http.StatusForbidden)

	id := regexp.MustCompile(`name="id" value="([^"]+)"`).FindStringSubmatch(list.Body)[1]
	wantStatus(t, "removing without a code", v.post("/passkeys/remove", url.Values{"id": {id}}), http.StatusForbidden)
	wantStatus(t, "removing another", v.post("/passkeys/remove", url.Values{"id": {"AAAA"}, "code": {code()}}), http.StatusNotFound)
	wantStatus(t, "removing", v.post("/passkeys/remove", url.Values{"id": {id}, "code": {code()}}), http.StatusSeeOther)
	wantStatus(t, "signing in with what was removed", stranger.post("/sign-in", d.fills(stranger.get("/sign-in"), url.Values{})), http.StatusUnauthorized)
	if entries := w.auditText(); !strings.Contains(entries, `passkey \"phone\" added and code`) || !strings.Contains(entries, `passkey \"phone\" removed and code`) || !strings.Contains(entries, "by passkey") {
		t.Errorf("the log has\n%s", entries)
	}
}

// auditText is the log so far.
func (w *world) auditText() string {
	w.t.Helper()
	var b strings.Builder
	for deadline := time.Now().Add(5 * time.Second); !strings.Contains(b.String(), "removed") && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		lines, err := w.store.Lines(w.t.Context(), 1, 1000)
		if err != nil {
			w.t.Fatal(err)
		}
		b.Reset()
		for _, l := range lines {
			b.Write(l.Line)
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// A passkey approves what the page shows, and nothing else; what it signed is kept, and
// who has pinned it can verify that.
func TestApproveWithPasskey(t *testing.T) {
	w := newWorld(t)
	v, d := w.signedInByName(), w.device()
	code := w.enrol()
	wantStatus(t, "adding", d.register(v, code()), http.StatusSeeOther)
	req, other := w.holdFor(approvals.Needs{StepUp: true}, `{"sku":"A-1"}`), w.holdFor(approvals.Needs{StepUp: true}, `{"sku":"B-2"}`)
	page, otherPage := v.get("/approvals/"+req.ID), v.get("/approvals/"+other.ID)
	wantStatus(t, "signed for another request", v.post("/approvals/"+req.ID+"/approve", d.fills(otherPage, page.form(t))), http.StatusUnauthorized)
	wantStatus(t, "a stranger's passkey", v.post("/approvals/"+req.ID+"/approve", w.device().fills(page, page.form(t))), http.StatusUnauthorized)
	garbage := page.form(t)
	garbage.Set("passkey", "{}")
	wantStatus(t, "no assertion", v.post("/approvals/"+req.ID+"/approve", garbage), http.StatusUnauthorized)
	w.wantPending(req.ID)

	signed := d.fills(page, page.form(t))
	wantStatus(t, "signed for it", v.post("/approvals/"+req.ID+"/approve", signed), http.StatusSeeOther)
	r := w.wantAnswered(req.ID, approvals.Approved)
	wantText(t, "afterwards", v.get("/approvals/"+req.ID), "with a passkey")
	wantStatus(t, "replayed", v.post("/approvals/"+req.ID+"/approve", signed), http.StatusConflict)
	keys, err := w.owners.Passkeys(t.Context(), w.owner.ID)
	if err != nil {
		t.Fatal(err)
	}
	pinned, err := passkey.Pin(keys[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := pinned.Verify(r.ID, r.ActionHash, *r.Factor.Passkey); err != nil {
		t.Errorf("what is kept: %v", err)
	}
}

// Another owner's passkey does not approve.
func TestApproveWithAnotherOwnersPasskey(t *testing.T) {
	w := newWorld(t)
	v, d := w.signedInByName(), w.device()
	w.enrol()
	eve := identity.User{Owner: identity.Owner{ID: "99999999-2222-4333-8444-555555555555", Type: identity.TypeUser, Name: "eve"}, Status: identity.UserActive, CreatedAt: w.now()}
	options, err := w.owners.Parties[0].Creation([32]byte{1}, eve.Owner, nil)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := virtualwebauthn.ParseAttestationOptions(string(options))
	if err != nil {
		t.Fatal(err)
	}
	k, err := w.owners.Parties[0].Created([32]byte{1}, eve.Owner, []byte(virtualwebauthn.CreateAttestationResponse(d.rp, d.auth, d.cred, *parsed)))
	if err != nil {
		t.Fatal(err)
	}
	k.Name, k.CreatedAt = "eve's", w.now()
	if err := w.store.Change(t.Context(), owners.Change{Add: &eve, Passkey: &k}); err != nil {
		t.Fatal(err)
	}
	req := w.holdFor(approvals.Needs{StepUp: true}, `{"sku":"A-1"}`)
	page := v.get("/approvals/" + req.ID)
	if strings.Contains(page.Body, "data-passkey=") {
		t.Error("the page offers a passkey to who has none")
	}
	form := page.form(t)
	challenge := approvals.ApprovalChallenge(req.ID, req.ActionHash)
	ask, err := w.owners.Parties[0].Request(challenge, nil)
	if err != nil {
		t.Fatal(err)
	}
	asked, err := virtualwebauthn.ParseAssertionOptions(string(ask))
	if err != nil {
		t.Fatal(err)
	}
	text := virtualwebauthn.CreateAssertionResponse(d.rp, d.auth, d.cred, *asked)
	if a, err := passkey.ReadAssertion([]byte(text)); err != nil || !a.Answers(challenge) || !json.Valid([]byte(text)) {
		t.Fatalf("%v", err)
	}
	form.Set("passkey", text)
	wantStatus(t, "eve's passkey", v.post("/approvals/"+req.ID+"/approve", form), http.StatusUnauthorized)
	w.wantPending(req.ID)
}
