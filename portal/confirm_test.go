package portal

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/owners"
)

// enrol gives the owner a second factor, whose codes code makes.
func (w *world) enrol() (code func() string) {
	w.t.Helper()
	secret := identity.NewTOTP()
	p := owners.Proposal{OwnerID: w.owner.ID, Secret: secret.Secret, Codes: [][32]byte{identity.HashBackupCode(w.owner.ID, "abcde-fghjk")}, Until: w.now().Add(time.Hour)}
	for _, c := range []owners.Change{{Propose: &p}, {Confirm: &owners.Confirmation{OwnerID: w.owner.ID, Secret: secret.Secret, Step: 1, Now: w.now()}}} {
		if err := w.store.Change(w.t.Context(), c); err != nil {
			w.t.Fatal(err)
		}
	}
	return func() string {
		text, err := totp.GenerateCode(secret.Text(), w.now())
		if err != nil {
			w.t.Fatal(err)
		}
		return text
	}
}

// A step-up takes a code with the answer; a wrong one, none, or one that was used leaves
// the request open and is told.
func TestApproveWithCode(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn() // before there is a factor: the link needs no code
	code := w.enrol()
	req, other := w.holdFor(approvals.Needs{StepUp: true}, `{"sku":"A-1"}`), w.holdFor(approvals.Needs{StepUp: true}, `{"sku":"B-2"}`)
	wantText(t, "the inbox", v.get("/"), "Takes your second factor.")
	page := v.get("/approvals/" + req.ID)
	wantText(t, "the page", page, `name="code"`, "that you are signed in is not enough", "A denial takes nothing")
	for _, offer := range []string{"/grant\"", "/rule\""} {
		if strings.Contains(page.Body, offer) {
			t.Errorf("the page offers %s", offer)
		}
	}
	used := code()
	for _, tt := range []struct {
		code   string
		status int
		says   string
	}{
		{"", http.StatusForbidden, "Enter the code"},
		{"000000", http.StatusUnauthorized, "This code is wrong"},
		{strings.Repeat("1", 500), http.StatusUnauthorized, "This code is wrong"},
	} {
		form := page.form(t)
		form.Set("code", tt.code)
		got := v.post("/approvals/"+req.ID+"/approve", form)
		wantStatus(t, "code "+tt.code, got, tt.status)
		wantText(t, "code "+tt.code, got, "Nothing was answered", tt.says)
		w.wantPending(req.ID)
	}
	form := page.form(t)
	form.Set("code", used)
	wantStatus(t, "the right code", v.post("/approvals/"+req.ID+"/approve", form), http.StatusSeeOther)
	if r := w.wantAnswered(req.ID, approvals.Approved); r.Factor.Method != "totp" {
		t.Errorf("factor %+v", r.Factor)
	}
	wantText(t, "afterwards", v.get("/approvals/"+req.ID), "with a code")

	form = url.Values{"action_hash": {other.ActionHash.String()}, "code": {used}}
	wantStatus(t, "a used code", v.post("/approvals/"+other.ID+"/approve", form), http.StatusUnauthorized)
	wantStatus(t, "a standing grant", v.post("/approvals/"+other.ID+"/grant", url.Values{
		"action_hash": {other.ActionHash.String()}, "covers": {"exactly"}, "length": {"1h"}, "times": {"5"},
	}), http.StatusBadRequest)
	w.wantPending(other.ID)
	wantStatus(t, "a denial", v.post("/approvals/"+other.ID+"/deny", url.Values{"action_hash": {other.ActionHash.String()}}), http.StatusSeeOther)
}

func TestApproveWithoutFactor(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	req := w.holdFor(approvals.Needs{StepUp: true}, `{"sku":"A-1"}`)
	page := v.get("/approvals/" + req.ID)
	wantText(t, "the page", page, "You cannot approve this yet", `href="/profile#factor"`)
	if strings.Contains(page.Body, "/approve\"") {
		t.Error("the page has a button that cannot work")
	}
	got := v.post("/approvals/"+req.ID+"/approve", url.Values{"action_hash": {req.ActionHash.String()}, "code": {"123456"}})
	wantStatus(t, "approving", got, http.StatusForbidden)
	wantText(t, "approving", got, "you have none yet")
	w.wantPending(req.ID)
}

// A deposit takes its reference, which comes back when something else was lacking.
func TestApproveWithDeposit(t *testing.T) {
	w := newWorld(t)
	v := w.signedIn()
	code := w.enrol()
	req := w.holdFor(approvals.Needs{StepUp: true, Deposit: true}, `{"sku":"A-1"}`)
	post := func(code, reference string) answer {
		return v.post("/approvals/"+req.ID+"/approve", url.Values{"action_hash": {req.ActionHash.String()}, "code": {code}, "deposit_reference": {reference}})
	}
	wantStatus(t, "no reference", post(code(), ""), http.StatusBadRequest)
	wantStatus(t, "too long a reference", post(code(), strings.Repeat("a", approvals.MaxReference+1)), http.StatusBadRequest)
	got := post("", `receipt "17"`)
	wantStatus(t, "no code", got, http.StatusForbidden)
	wantText(t, "no code", got, `value="receipt &#34;17&#34;"`)
	wantStatus(t, "both", post(code(), `receipt "17"`), http.StatusSeeOther)
	if r := w.wantAnswered(req.ID, approvals.Approved); r.DepositReference != `receipt "17"` {
		t.Errorf("reference %q", r.DepositReference)
	}
	wantText(t, "afterwards", v.get("/approvals/"+req.ID), "receipt &#34;17&#34;")
}
