//go:build browser

package portal

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/internal/hostiletest"
)

// chromium starts a browser of its own for one test.
func chromium(t *testing.T) context.Context {
	t.Helper()
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromiumPath(t)),
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1200, 1000),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	ctx, stop := chromedp.NewExecAllocator(t.Context(), opts...)
	t.Cleanup(stop)
	ctx, stop = chromedp.NewContext(ctx)
	t.Cleanup(stop)
	ctx, stop = context.WithTimeout(ctx, time.Minute)
	t.Cleanup(stop)
	return ctx
}

// chromiumPath is $CHROMIUM, or what the machine has; without one the test fails.
func chromiumPath(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("CHROMIUM"); path != "" {
		return path
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("no Chromium here: install it, or set CHROMIUM to its path")
	return ""
}

// An owner follows a link, reads, and approves or denies; with script and without.
func TestBrowserAnswers(t *testing.T) {
	for _, script := range []bool{true, false} {
		for _, word := range []string{"approve", "deny"} {
			name := word + " without script"
			if script {
				name = word + " with script"
			}
			t.Run(name, func(t *testing.T) { answerInBrowser(t, script, word) })
		}
	}
}

func answerInBrowser(t *testing.T, script bool, word string) {
	w := newWorld(t)
	req := w.hold(`{"sku":"A-1","note":"left \u202e right"}`)
	ctx := chromium(t)
	if _, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !script}); err != nil {
		t.Fatal(err)
	}
	err := chromedp.Do(ctx,
		chromedp.Navigate(SignInURL(w.browse(), w.link(time.Minute), "")),
		chromedp.Click(chromedp.CSS("form button.yes")),
		chromedp.WaitVisible(chromedp.CSS(".requests")),
		chromedp.Click(chromedp.CSS(`a[href="/approvals/`+req.ID+`"]`)),
		chromedp.WaitVisible(chromedp.CSS(".answer")))
	if err != nil {
		t.Fatal(err)
	}
	shown, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS("main")))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"shop-bot", "create_order", "A-1", `\u202e`} {
		if !strings.Contains(shown, text) {
			t.Errorf("%q is not to be seen:\n%s", text, shown)
		}
	}
	if word == "deny" {
		err = chromedp.Do(ctx, chromedp.SendKeys(chromedp.CSS("#reason"), "too dear"))
	}
	err = errors.Join(err, chromedp.Do(ctx, chromedp.Click(chromedp.CSS("form."+word+" button")), chromedp.WaitVisible(chromedp.CSS(".APPROVED, .DENIED"))))
	if err != nil {
		t.Fatal(err)
	}
	if word == "approve" {
		w.wantAnswered(req.ID, approvals.Approved)
		return
	}
	if r := w.wantAnswered(req.ID, approvals.Denied); r.DenyReason != "too dear" {
		t.Errorf("reason = %q", r.DenyReason)
	}
}

// The inbox shows a new request by itself.
func TestBrowserLive(t *testing.T) {
	w := newWorld(t)
	ctx := chromium(t)
	err := chromedp.Do(ctx,
		chromedp.Navigate(SignInURL(w.browse(), w.link(time.Minute), "")),
		chromedp.Click(chromedp.CSS("form button.yes")),
		chromedp.WaitVisible(chromedp.CSS(".lead")))
	if err != nil {
		t.Fatal(err)
	}
	req := w.hold(`{"sku":"A-1"}`)
	if err := chromedp.Do(ctx, chromedp.WaitVisible(chromedp.CSS(`a[href="/approvals/`+req.ID+`"]`))); err != nil {
		t.Fatal(err)
	}
	title, err := chromedp.Run(ctx, chromedp.Title())
	if err != nil || !strings.HasPrefix(title, "(1) ") {
		t.Errorf("title = %q, %v; want it to begin with (1)", title, err)
	}
}

// A page of another port, which the owner's browser shows too, gets nothing and
// answers nothing.
func TestBrowserForgery(t *testing.T) {
	w := newWorld(t)
	req := w.hold(`{"sku":"A-1"}`)
	evil := filepath.Join(t.TempDir(), "evil.html")
	write(t, evil, `<form method="post" action="`+w.browse()+`/approvals/`+req.ID+`/approve">
		<input name="action_hash" value="`+req.ActionHash.String()+`"><button id="go">win</button></form>`)
	ctx := chromium(t)
	err := chromedp.Do(ctx,
		chromedp.Navigate(SignInURL(w.browse(), w.link(time.Minute), "")),
		chromedp.Click(chromedp.CSS("form button.yes")),
		chromedp.WaitVisible(chromedp.CSS(".requests")),
		chromedp.Navigate("file://"+evil),
		chromedp.Click(chromedp.CSS("#go")),
		chromedp.WaitNotPresent(chromedp.CSS("#go")),
	)
	if err != nil {
		t.Fatal(err)
	}
	page, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS("body")))
	if err != nil || !strings.Contains(page, "refuses") {
		t.Errorf("the forged form led to %q, %v", page, err)
	}
	w.wantPending(req.ID)
}

// Hostile calls run nothing in a real browser and load nothing from elsewhere, and one
// of 4 MB is read and answered like any other.
func TestBrowserHostile(t *testing.T) {
	w := newWorld(t)
	ctx := chromium(t)
	err := chromedp.Do(ctx,
		chromedp.Navigate(SignInURL(w.browse(), w.link(time.Minute), "")),
		chromedp.Click(chromedp.CSS("form button.yes")),
		chromedp.WaitVisible(chromedp.CSS(".requests")))
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for _, c := range hostiletest.Cases(t, hostileFolder) {
		if !slices.Contains([]string{"html-script", "html-attribute", "css", "bidi-override", "combining-flood", "arabic", "4mb", "4mb-hidden", "100k-keys"}, c.Name) {
			continue
		}
		tried++
		r := w.holdCase(c)
		began := time.Now()
		err := chromedp.Do(ctx, chromedp.Navigate(w.browse()+"/approvals/"+r.ID), chromedp.WaitVisible(chromedp.CSS(".answer")))
		if err != nil {
			t.Fatal(c.Name, err)
		}
		t.Logf("%s: %v until it can be answered", c.Name, time.Since(began))
		over, err := chromedp.Run(ctx, chromedp.Evaluate[int](`document.documentElement.scrollWidth - innerWidth`))
		if err != nil || over > 0 {
			t.Errorf("%s: the page is %d pixels too wide, %v", c.Name, over, err)
		}
		title, err := chromedp.Run(ctx, chromedp.Title())
		if err != nil || strings.HasPrefix(title, "PWNED") {
			t.Errorf("%s: the title is %q, %v", c.Name, title, err)
		}
		shown, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS("h1")))
		if want := shownText(c.Tool, ""); err != nil || !strings.Contains(shown, want) {
			t.Errorf("%s: %q, %v; want %q in it", c.Name, shown, err, want)
		}
		err = chromedp.Do(ctx, chromedp.Click(chromedp.CSS("form.deny button")), chromedp.WaitVisible(chromedp.CSS(".DENIED")))
		if err != nil {
			t.Fatal(c.Name, err)
		}
		w.wantAnswered(r.ID, approvals.Denied)
	}
	if tried != 9 {
		t.Errorf("%d cases were tried", tried)
	}
}

// No page is wider than a phone, nor are the forms of a grant and of a rule.
func TestBrowserPhone(t *testing.T) {
	w := newWorld(t)
	ctx := chromium(t)
	r := w.hold(order)
	w.worded(r, "please send the figures of the quarterly report when you find the time")
	w.lists("tool", "create_order", "Orders.")
	w.lists("tool", "create_order", "Orders two things.")
	given := w.hold(`{"item":"tea"}`)
	if _, err := w.service.Give(t.Context(), "cli:ann", given.ID, given.ActionHash, approvals.Terms{}); err != nil {
		t.Fatal(err)
	}
	_, err := chromedp.Call(ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: 360, Height: 800, DeviceScaleFactor: 1})
	err = errors.Join(err, chromedp.Do(ctx,
		chromedp.Navigate(SignInURL(w.browse(), w.link(time.Minute), "")),
		chromedp.Click(chromedp.CSS("form button.yes")),
		chromedp.WaitVisible(chromedp.CSS(".requests"))))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/", "/approvals/" + r.ID, "/approvals/" + r.ID + "/rule", "/grants", "/tools", toolShown, "/limits", "/policies", "/playground", "/audit", "/audit?agent=bot", "/audit/1", "/profile", "/users"} {
		err := chromedp.Do(ctx, chromedp.Navigate(w.browse()+path), chromedp.WaitVisible(chromedp.CSS("main h1")))
		if err != nil {
			t.Fatal(path, err)
		}
		over, err := chromedp.Run(ctx, chromedp.Evaluate[int](`document.querySelectorAll("details").forEach(d => d.open = true); document.documentElement.scrollWidth - innerWidth`))
		if err != nil || over > 0 {
			t.Errorf("%s is %d pixels too wide, %v", path, over, err)
		}
	}
}

// An owner sets a passphrase and a second factor, signs out, and comes in by both, without
// script; then dismisses what an admin did.
func TestBrowserAccount(t *testing.T) {
	w := newWorld(t)
	ctx := chromium(t)
	do := func(steps ...chromedp.Action[chromedp.Void]) {
		t.Helper()
		if err := chromedp.Do(ctx, steps...); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}); err != nil {
		t.Fatal(err)
	}
	do(chromedp.Navigate(SignInURL(w.browse(), w.link(time.Minute), "")), chromedp.Click(chromedp.CSS("form button.yes")), chromedp.WaitVisible(chromedp.CSS(".lead")))
	do(chromedp.Navigate(w.browse()+"/profile"), chromedp.SendKeys(chromedp.CSS("#next"), phrase), chromedp.SendKeys(chromedp.CSS("#again"), phrase),
		chromedp.Click(chromedp.CSS(`form[action="/profile/passphrase"] button`)), chromedp.WaitVisible(chromedp.CSS(".good")))
	do(chromedp.Click(chromedp.CSS("#factor button")), chromedp.WaitVisible(chromedp.CSS(".qr svg")))
	secret, err := chromedp.Run(ctx, chromedp.TextContent(chromedp.CSS(".factor details code")))
	if err != nil {
		t.Fatal(err)
	}
	do(chromedp.SendKeys(chromedp.CSS("#code"), w.code(secret)), chromedp.Click(chromedp.CSS("form button.wide")), chromedp.WaitVisible(chromedp.CSS("#factor .APPROVED")))
	do(chromedp.Click(chromedp.CSS(".me button")), chromedp.WaitVisible(chromedp.CSS(`a[href^="/sign-in"]`)), chromedp.Click(chromedp.CSS(`a[href^="/sign-in"]`)), chromedp.WaitVisible(chromedp.CSS("#login")))
	do(chromedp.SendKeys(chromedp.CSS("#login"), "alice"), chromedp.SendKeys(chromedp.CSS("#passphrase"), phrase), chromedp.SendKeys(chromedp.CSS("#code"), w.code(secret)),
		chromedp.Click(chromedp.CSS("form button.yes")), chromedp.WaitVisible(chromedp.CSS(".lead")))

	for range 2 { // a notice of two lines
		if _, err := w.owners.Invite(t.Context(), "cli:mallory", w.owner.ID); err != nil {
			t.Fatal(err)
		}
	}
	do(chromedp.Navigate(w.browse()+"/audit"), chromedp.WaitVisible(chromedp.CSS(".told")), chromedp.Click(chromedp.CSS(".told button")),
		chromedp.WaitVisible(chromedp.CSS(".lead")), chromedp.WaitNotPresent(chromedp.CSS(".told")))
}
