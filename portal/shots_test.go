//go:build browser

package portal

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/openleash/openleash-go/audit"
)

func TestShots(t *testing.T) {
	w := newWorld(t)
	old := w.hold(`{"sku":"OLD-1"}`)
	denied := w.hold(`{"sku":"OLD-2"}`)
	w.service.Answer(t.Context(), "portal:alice", old.ID, true, "")
	w.service.Answer(t.Context(), "cli:root", denied.ID, false, "Too dear")
	w.pass(70 * time.Minute)
	yes := "ALLOW"
	no := "DENY"
	at := "purchase"
	pol := "shopping"
	w.service.Record(t.Context(), audit.Entry{Event: "decision", ActorType: "agent", ActorID: "shop-bot", ActionType: &at, Decision: &yes, PolicyID: &pol, MatchedRuleID: "small-orders", Reason: "Orders up to 500 kr are fine.", Server: "shop", Tool: "create_order"})
	w.service.Record(t.Context(), audit.Entry{Event: "decision", ActorType: "agent", ActorID: "shop-bot", ActionType: &at, Decision: &no, PolicyID: &pol, MatchedRuleID: "no-unknown-domains", Reason: "Mail goes to known domains only.", Server: "mailbox", Tool: "send_mail"})
	w.hold(`{"sku":"B-2","quantity":1}`)
	req := w.hold(`{"sku":"LAMP-42","title":"Reading lamp, brass","quantity":2,"gift":false,"ship_to":{"name":"Alice Andersson","street":"Storgatan 1","zip":"111 22","city":"Stockholm"},"message":"Hej!\n\nPlease deliver to the back door.\nThank you, Alice"}`)
	evil := w.hold(`{"to":"alice@example.com\u202egro.live@\u2066","subject":"<script>alert(1)</script>","zero\u200bwidth":" x ","attachments":[{"name":"inv\u200boice.pdf","bytes":12345},{"name":"b"}],"body":"`+"long text "+`"}`)
	write(t, w.policies+"/mail.yaml", "version: 1\ndefault: deny\nrules: []\n")
	time.Sleep(700 * time.Millisecond)
	ctx := chromium(t)
	pages := map[string]string{"1signin": "/sign-in/" + w.link(time.Hour), "2inbox": "/", "3approval": "/approvals/" + req.ID, "4evil": "/approvals/" + evil.ID, "5done": "/approvals/" + denied.ID, "6audit": "/audit", "7policies": "/policies", "8error": "/approvals/none"}
	if err := chromedp.Do(ctx, chromedp.Navigate(SignInURL(w.browse(), w.link(time.Hour), "")), chromedp.Click(chromedp.CSS("form button.yes")), chromedp.WaitVisible(chromedp.CSS(".requests"))); err != nil {
		t.Fatal(err)
	}
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int64{1100, 400} {
			for name, path := range pages {
				shot(t, ctx, fmt.Sprintf("/tmp/shots/%s-%d-%s.png", name, width, scheme), w.browse()+path, scheme, width, false)
			}
			shot(t, ctx, fmt.Sprintf("/tmp/shots/9full-%d-%s.png", width, scheme), w.browse()+pages["3approval"], scheme, width, true)
		}
	}
}

func shot(t *testing.T, ctx context.Context, file, url, scheme string, width int64, full bool) {
	if _, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}); err != nil {
		t.Fatal(err)
	}
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(width, 900), chromedp.Navigate(url)); err != nil {
		t.Fatal(err)
	}
	var b []byte
	var err error
	if full {
		chromedp.Run(ctx, chromedp.Evaluate[bool](`document.querySelectorAll("details").forEach(d=>d.open=true),true`))
		b, err = chromedp.Run(ctx, chromedp.FullScreenshot(100))
	} else {
		b, err = chromedp.Run(ctx, chromedp.CaptureScreenshot())
	}
	if err != nil {
		t.Fatal(err)
	}
	os.WriteFile(file, b, 0o644)
}
