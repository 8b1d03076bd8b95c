//go:build unix

package main

import (
	"context"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/descope/virtualwebauthn"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/owners"
	"github.com/openleash/openleash-go/store/sqlite"
)

// cmdEnrol does to the store what setting up a second factor does.
func cmdEnrol(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: enrol CODE…")
	}
	ctx := context.Background()
	store, err := sqlite.Open(ctx, filepath.Join(ts.Getenv("OPENLEASH_HOME"), "data"))
	ts.Check(err)
	defer store.Close()
	owner, err := store.EnsureOwner(ctx, "")
	ts.Check(err)
	now := time.Now()
	p := owners.Proposal{OwnerID: owner.ID, Secret: identity.NewTOTP().Secret, Until: now.Add(time.Minute)}
	for _, code := range args {
		p.Codes = append(p.Codes, identity.HashBackupCode(owner.ID, code))
	}
	ts.Check(store.Change(ctx, owners.Change{Propose: &p}))
	ts.Check(store.Change(ctx, owners.Change{Confirm: &owners.Confirmation{OwnerID: owner.ID, Secret: p.Secret, Now: now}}))
}

// A device is an authenticator with one passkey, and a browser with our script.
type device struct {
	ts   *testscript.TestScript
	base string
	rp   virtualwebauthn.RelyingParty
	auth virtualwebauthn.Authenticator
	cred virtualwebauthn.Credential
}

func cmdDevice(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) > 0, "device add CODE | sign-in | approve ID")
	w := worldOf(ts)
	if w.device == nil {
		base := "http://openleash.localhost:" + ts.Getenv("PORT")
		w.device = &device{ts, base, virtualwebauthn.RelyingParty{Name: "OpenLeash", ID: "openleash.localhost", Origin: base},
			virtualwebauthn.NewAuthenticator(), newCredential()}
	}
	d := w.device
	d.cred.Counter++
	switch {
	case args[0] == "add" && len(args) == 2:
		d.fill("/passkeys", "/passkeys", url.Values{"name": {"blue key"}, "code": {args[1]}})
	case args[0] == "sign-in":
		d.fill("/sign-in", "/sign-in", url.Values{})
	case args[0] == "approve" && len(args) == 2:
		d.fill("/approvals/"+args[1], "/approvals/"+args[1]+"/approve", url.Values{})
	default:
		ts.Fatalf("usage: device add CODE | sign-in | approve ID")
	}
}

var (
	optionsOnPage = regexp.MustCompile(`data-options="([^"]+)"`)
	hiddenOnPage  = regexp.MustCompile(`<input type="hidden" name="(ticket|action_hash)" value="([^"]+)">`)
)

// fill does what the script does to the passkey's form of a page, and sends it. What comes
// back is stdout.
func (d *device) fill(page, to string, form url.Values) {
	_, body := d.send("GET", page, nil)
	m := optionsOnPage.FindStringSubmatch(body)
	if m == nil {
		d.ts.Fatalf("%s has no form for a passkey:\n%s", page, body)
	}
	options := html.UnescapeString(m[1])
	for _, hidden := range hiddenOnPage.FindAllStringSubmatch(body, -1) {
		form.Set(hidden[1], html.UnescapeString(hidden[2]))
	}
	if strings.Contains(options, `"pubKeyCredParams"`) {
		parsed, err := virtualwebauthn.ParseAttestationOptions(options)
		d.ts.Check(err)
		form.Set("passkey", virtualwebauthn.CreateAttestationResponse(d.rp, d.auth, d.cred, *parsed))
	} else {
		parsed, err := virtualwebauthn.ParseAssertionOptions(options)
		d.ts.Check(err)
		form.Set("passkey", virtualwebauthn.CreateAssertionResponse(d.rp, d.auth, d.cred, *parsed))
	}
	status, body := d.send("POST", to, form)
	fmt.Fprintf(d.ts.Stdout(), "%d\n%s\n", status, body)
}

func (d *device) send(method, path string, form url.Values) (status int, body string) {
	r, err := http.NewRequest(method, d.base+path, strings.NewReader(form.Encode()))
	d.ts.Check(err)
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", d.base)
	}
	answer, err := worldOf(d.ts).web.Do(r)
	d.ts.Check(err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	d.ts.Check(err)
	return answer.StatusCode, string(text)
}
