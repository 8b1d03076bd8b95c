//go:build browser

package portal

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"

	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/passkey"
)

// withAuthenticator gives a browser an authenticator whose user is always there and verified.
func withAuthenticator(t *testing.T, ctx context.Context) {
	t.Helper()
	_, err := chromedp.Call(ctx, webauthn.Enable, webauthn.EnableParams{})
	if err == nil {
		_, err = chromedp.Call(ctx, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
			Protocol: webauthn.AuthenticatorProtocolCtap2, Ctap2version: webauthn.Ctap2versionCtap21, Transport: webauthn.AuthenticatorTransportInternal,
			HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true,
		}})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// An owner adds a passkey, approves with it, signs out, and signs in with it.
func TestBrowserPasskey(t *testing.T) {
	w := newWorld(t)
	ctx := chromium(t)
	req := w.holdFor(approvals.Needs{StepUp: true, Deposit: true}, `{"sku":"A-1"}`)
	link := w.link(time.Minute)
	err := chromedp.Do(ctx, chromedp.Navigate(SignInURL(w.browse(), link, "")), chromedp.Click(chromedp.CSS("form button.yes")), chromedp.WaitVisible(chromedp.CSS(".requests")))
	if err != nil {
		t.Fatal(err)
	}
	withAuthenticator(t, ctx)
	code := w.enrol()
	err = chromedp.Do(ctx, chromedp.Navigate(w.browse()+"/passkeys"),
		chromedp.SendKeys(chromedp.CSS("#name"), "blue key"), chromedp.SendKeys(chromedp.CSS("#code"), code()),
		chromedp.Click(chromedp.CSS("[data-use-passkey]")), chromedp.WaitVisible(chromedp.CSS(".requests .facts")))
	if err != nil {
		t.Fatal(err)
	}
	err = chromedp.Do(ctx, chromedp.Navigate(w.browse()+"/approvals/"+req.ID), chromedp.WaitVisible(chromedp.CSS(".approve [data-use-passkey]")),
		chromedp.SendKeys(chromedp.CSS("#deposit_reference"), "receipt 17"), chromedp.Click(chromedp.CSS(".approve [data-use-passkey]")), chromedp.WaitVisible(chromedp.CSS(".APPROVED")))
	if err != nil {
		t.Fatal(err)
	}
	r := w.wantAnswered(req.ID, approvals.Approved)
	keys, err := w.owners.Passkeys(t.Context(), w.owner.ID)
	if err != nil || len(keys) != 1 || keys[0].Name != "blue key" || r.Factor.Passkey == nil || r.DepositReference != "receipt 17" {
		t.Fatalf("%+v, %+v, %v", keys, r.Factor, err)
	}
	pinned, err := passkey.Pin(keys[0])
	if err == nil {
		err = pinned.Verify(r.ID, r.ActionHash, *r.Factor.Passkey)
	}
	if err != nil {
		t.Errorf("what the browser has signed: %v", err)
	}
	err = chromedp.Do(ctx, chromedp.Click(chromedp.CSS(".me button")), chromedp.WaitVisible(chromedp.CSS("main .narrow")), chromedp.Navigate(w.browse()+"/sign-in?next=/audit"),
		chromedp.Click(chromedp.CSS("[data-use-passkey]")), chromedp.WaitVisible(chromedp.CSS(".me")), chromedp.WaitVisible(chromedp.CSS("main.broad")))
	if err != nil {
		t.Errorf("signing in: %v", err)
	}
}

// The pages that ask for a factor are no wider than a phone, and can be looked at:
// $SHOTS names a folder for pictures of them, in light and dark.
func TestBrowserConfirmPages(t *testing.T) {
	w := newWorld(t)
	ctx := chromium(t)
	v := w.signedInByName()
	none := w.holdFor(approvals.Needs{StepUp: true}, `{"sku":"A-1"}`)
	err := chromedp.Do(ctx, chromedp.Navigate(SignInURL(w.browse(), w.link(time.Minute), "")), chromedp.Click(chromedp.CSS("form button.yes")), chromedp.WaitVisible(chromedp.CSS(".requests")))
	if err != nil {
		t.Fatal(err)
	}
	withAuthenticator(t, ctx)
	look := func(name, path string) {
		for _, scheme := range []string{"light", "dark"} {
			for width, size := range map[int64]string{1100: "wide", 360: "phone"} {
				_, err := chromedp.Call(ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: 800, DeviceScaleFactor: 1})
				_, err2 := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
				err = errors.Join(err, err2, chromedp.Do(ctx, chromedp.Navigate(w.browse()+path), chromedp.WaitVisible(chromedp.CSS("main h1"))))
				if err != nil {
					t.Fatal(name, err)
				}
				over, err := chromedp.Run(ctx, chromedp.Evaluate[int](`document.documentElement.scrollWidth - innerWidth`))
				if err != nil || over > 0 {
					t.Errorf("%s, %s: %d pixels too wide, %v", name, size, over, err)
				}
				picture(t, ctx, name+"-"+scheme+"-"+size)
			}
		}
	}
	look("lacking", "/approvals/"+none.ID)
	look("passkeys-none", "/passkeys")
	code := w.enrol()
	if got := w.device().register(v, code()); got.Status != 303 {
		t.Fatalf("adding a passkey: %d", got.Status)
	}
	both := w.holdFor(approvals.Needs{StepUp: true, Deposit: true}, `{"sku":"B-2"}`)
	look("both", "/approvals/"+both.ID)
	look("passkeys", "/passkeys")
	look("sign-in", "/sign-in")
}

func picture(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	dir := os.Getenv("SHOTS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.WriteFile(dir+"/"+name+".png", png, 0o600)
	}
	if err != nil {
		t.Error(err)
	}
}
