package proxy

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/configs"
	"github.com/openleash/openleash-go/identity"
)

// What people want OpenLeash for, with the policies that ship: a tool's arguments
// as a model writes them, a mapping rule as an owner writes it, and what becomes
// of the call.

// servicesMapping reads the tools of a shop, a clinic, an authority, a mailbox.
const servicesMapping = `
- tool: buy
  action_type: purchase
  relying_party: {domain: $.shop}
  payload:
    amount_minor: {decimal: $.price, currency: $.currency}
    currency: $.currency
    merchant_domain: $.shop
- tool: book
  action_type: appointment.book
  payload: {kind: $.kind}
- tool: submit_return
  action_type: government.submit.tax
  relying_party: {domain: {url_host: $.office}}
- tool: send_mail
  action_type: communication.email
  relying_party: {domain: {email_domain: $.to}}
  payload: {to: $.to, domain: {email_domain: $.to}}
- tool: call_api
  action_type: web.fetch
  relying_party: {domain: {url_host: $.url}}
  payload: {url: $.url}
`

// useCases is a proxy with all templates in force on the base that denies, and
// what the server behind it gets. It is Monday noon.
func useCases(t *testing.T) (realProxy, *rawUpstream, string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "policies"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"appointments", "communication", "government", "purchases"} {
		src := must(fs.ReadFile(configs.FS, "policies/"+name+".yaml"))(t)
		if err := os.WriteFile(filepath.Join(dir, "policies", name+".yaml"), src, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	base := must(fs.ReadFile(configs.FS, "policies/deny-all.yaml"))(t)
	monday := time.Date(2027, 1, 4, 12, 0, 0, 0, time.UTC)
	p := realProxyAt(t, dir, string(base), func(c *authz.Config) { c.Now, c.Factors = func() time.Time { return monday }, oneCode{} })
	p.Mapping, p.Hold = NewMapping(readRules(t, servicesMapping), nil), time.Millisecond
	up := newRawUpstream(t, answerJSON(`{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`))
	return p, up, p.as(t, "a", p.HTTPPassthrough(HTTPUpstream{URL: up.URL})).URL
}

func TestUseCases(t *testing.T) {
	_, up, url := useCases(t)
	for _, tt := range []struct{ name, tool, arguments, want, rule string }{
		// Purchases.
		{"42.50 at a named shop", "buy", `{"shop":"shop.example","price":42.50,"currency":"EUR"}`, "ALLOW", ""},
		{"the same as text", "buy", `{"shop":"shop.example","price":"42.50","currency":"EUR"}`, "ALLOW", ""},
		{"as much as is small", "buy", `{"shop":"shop.example","price":5e1,"currency":"EUR"}`, "ALLOW", ""},
		{"a cent more", "buy", `{"shop":"shop.example","price":50.01,"currency":"EUR"}`, "REQUIRE_APPROVAL", "medium"},
		{"another shop", "buy", `{"shop":"other.example","price":42.50,"currency":"EUR"}`, "REQUIRE_APPROVAL", "medium"},
		{"over the cap", "buy", `{"shop":"shop.example","price":250.01,"currency":"EUR"}`, "REQUIRE_STEP_UP", "large"},
		{"over all caps", "buy", `{"shop":"shop.example","price":1000.01,"currency":"EUR"}`, "DENY", "too-large"},
		{"a comma for a point", "buy", `{"shop":"shop.example","price":"42,50","currency":"EUR"}`, "DENY", "too-large"},
		{"42.500, which is 42500 to some", "buy", `{"shop":"shop.example","price":42.500,"currency":"EUR"}`, "DENY", "too-large"},
		{"less than nothing", "buy", `{"shop":"shop.example","price":-42.50,"currency":"EUR"}`, "DENY", "too-large"},
		{"no amount", "buy", `{"shop":"shop.example","currency":"EUR"}`, "DENY", "unclear"},
		{"dollars", "buy", `{"shop":"shop.example","price":42.50,"currency":"USD"}`, "REQUIRE_APPROVAL", "foreign-currency"},
		{"dinars have three digits", "buy", `{"shop":"shop.example","price":42.500,"currency":"KWD"}`, "REQUIRE_APPROVAL", "foreign-currency"},
		{"yen have none", "buy", `{"shop":"shop.example","price":42.50,"currency":"JPY"}`, "DENY", "too-large"},
		{"no currency that there is", "buy", `{"shop":"shop.example","price":42.50,"currency":"EURO"}`, "DENY", "too-large"},
		{"the casino", "buy", `{"shop":"casino.example","price":1.00,"currency":"EUR"}`, "DENY", "never-here"},
		{"the casino written otherwise", "buy", `{"shop":"WWW.Casino.Example.","price":1.00,"currency":"EUR"}`, "DENY", "never-here"},
		{"the casino as a URL", "buy", `{"shop":"https://casino.example","price":1.00,"currency":"EUR"}`, "DENY", "never-here"},

		// Appointments.
		{"a haircut", "book", `{"kind":"haircut"}`, "ALLOW", ""},
		{"a doctor", "book", `{"kind":"medical"}`, "REQUIRE_APPROVAL", "medical"},
		{"a doctor in other letters", "book", `{"kind":"Medical"}`, "REQUIRE_APPROVAL", "other"},

		// Government.
		{"a tax return", "submit_return", `{"office":"https://tax.gov.example/returns","income":51234.56}`, "REQUIRE_STEP_UP", "submission"},
		{"a tax return to somebody else", "submit_return", `{"office":"https://tax.gov.example.evil.test/","income":51234.56}`, "DENY", "not-an-authority"},
		{"a tax return behind a name", "submit_return", `{"office":"https://tax.gov.example@evil.test/","income":51234.56}`, "DENY", "not-an-authority"},

		// Communication.
		{"mail to one's own people", "send_mail", `{"to":"anna@example.com","text":"hello"}`, "ALLOW", ""},
		{"mail written otherwise", "send_mail", `{"to":["Anna@EXAMPLE.com","ben@mail.example.com"],"text":"hello"}`, "ALLOW", ""},
		{"mail to a stranger", "send_mail", `{"to":"eve@evil.test","text":"hello"}`, "REQUIRE_APPROVAL", "others"},
		{"a copy that the mapping does not name", "send_mail", `{"to":"anna@example.com","bcc":"eve@evil.test","text":"hello"}`, "REQUIRE_APPROVAL", "others"},
		{"mail to the rival", "send_mail", `{"to":"bob@rival.example","text":"hello"}`, "DENY", "never-written-to"},
		{"mail to the rival written otherwise", "send_mail", `{"to":"Bob <bob+x@Sales.RIVAL.example>","text":"hello"}`, "DENY", "never-written-to"},
		{"mail to the rival behind Anna", "send_mail", `{"to":["anna@example.com","bob@rival.example"],"text":"hello"}`, "DENY", "never-written-to"},
		{"a copy to the rival", "send_mail", `{"to":"anna@example.com","cc":["bob@rival.example"],"text":"hello"}`, "DENY", "never-written-to"},
		{"an interface", "call_api", `{"url":"https://api.example.com/v1/orders?page=2"}`, "ALLOW", ""},
		{"another interface", "call_api", `{"url":"https://evil.test/?next=https://api.example.com/"}`, "REQUIRE_APPROVAL", "other-addresses"},
		{"the rival's interface", "call_api", `{"url":"http://API.rival.example:8080/"}`, "DENY", "never-called"},

		{"what no template speaks of", "wipe", `{}`, "DENY", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := len(up.requests())
			answer := []byte(post(t, url, toolCall("1", tt.tool, tt.arguments)).Body)
			decision, rule := "ALLOW", "" // as far as the host is told
			if refused := rawAt(answer, "result", "structuredContent"); refused != "" {
				decision, rule = strings.Trim(rawAt([]byte(refused), "decision"), `"`), strings.Trim(rawAt([]byte(refused), "rule_id"), `"`)
			}
			if decision != tt.want || rule != tt.rule {
				t.Errorf("got %s by %q, want %s by %q: %s", decision, rule, tt.want, tt.rule, answer)
			}
			sent := up.requests()[before:]
			if (len(sent) == 1) != (tt.want == "ALLOW") || len(sent) > 1 {
				t.Fatalf("forwarded %d times", len(sent))
			}
			if len(sent) == 1 && (rawAt([]byte(sent[0].body), "params", "arguments") != tt.arguments || rawAt([]byte(sent[0].body), "params", "_meta", ProofKey) == "") {
				t.Errorf("the server got %s", sent[0].body)
			}
		})
	}
}

// A purchase over the limit runs once the owner has approved it, once, and not
// for another price.
func TestUseCaseApprovedPurchase(t *testing.T) {
	p, up, url := useCases(t)
	camera := toolCall("1", "buy", `{"shop":"shop.example","price":199.90,"currency":"EUR"}`)
	held := func(call string) bool {
		return rawAt([]byte(post(t, url, call).Body), "result", "structuredContent", "code") == `"APPROVAL_REQUIRED"`
	}
	if !held(camera) {
		t.Error("it is not held")
	}
	request := p.pending(t)
	if got := request.Action.Payload.Get("amount_minor").Text(); got != "19990" {
		t.Errorf("the owner is shown %s minor units", got)
	}
	p.approve(t, request.ID)
	if !held(toolCall("1", "buy", `{"shop":"shop.example","price":199.91,"currency":"EUR"}`)) {
		t.Error("a cent more runs on the same approval")
	}
	if held(camera) || len(up.requests()) != 1 {
		t.Errorf("approved, and forwarded %d times", len(up.requests()))
	}
	if !held(camera) || len(up.requests()) != 1 {
		t.Errorf("a second one: forwarded %d times", len(up.requests()))
	}
}

// oneCode is a second factor whose code is 271828.
type oneCode struct{}

func (oneCode) Verify(_ context.Context, _, code string) (string, error) {
	if code != "271828" {
		return "", identity.ErrFactorWrong
	}
	return identity.MethodTOTP, nil
}

func (oneCode) Enrolled(context.Context, string) (bool, error) { return true, nil }

// A tax return, and a purchase over the cap, run once their owner has confirmed them with
// the second factor: not by an approval alone, and not by what the agent says of itself.
func TestUseCaseStepUp(t *testing.T) {
	for _, call := range []string{
		toolCall("1", "submit_return", `{"office":"https://tax.gov.example/returns","income":51234.56,"assurance_level":"HIGH"}`),
		toolCall("1", "buy", `{"shop":"shop.example","price":250.01,"currency":"EUR"}`),
	} {
		p, up, url := useCases(t)
		decision := func() string {
			return strings.Trim(rawAt([]byte(post(t, url, call).Body), "result", "structuredContent", "decision"), `"`)
		}
		if got := decision(); got != "REQUIRE_STEP_UP" {
			t.Fatalf("got %s", got)
		}
		r := p.pending(t)
		for _, c := range []authz.Confirmation{{}, {Code: "000000"}} {
			if _, err := p.Service.Approve(t.Context(), "test:alice", r.ID, r.ActionHash, c); err == nil {
				t.Errorf("approved with %+v", c)
			}
		}
		if got := decision(); got != "REQUIRE_STEP_UP" || len(up.requests()) != 0 {
			t.Fatalf("unconfirmed: %s, forwarded %d times", got, len(up.requests()))
		}
		must(p.Service.Approve(t.Context(), "test:alice", r.ID, r.ActionHash, authz.Confirmation{Code: "271828"}))(t)
		if got := decision(); got != "" || len(up.requests()) != 1 {
			t.Errorf("confirmed: %s, forwarded %d times", got, len(up.requests()))
		}
		if got := decision(); got != "REQUIRE_STEP_UP" || len(up.requests()) != 1 {
			t.Errorf("a second time: %s, forwarded %d times", got, len(up.requests()))
		}
	}
}

// Many small purchases are not small: at one shop, and at all together.
func TestUseCasePurchaseCaps(t *testing.T) {
	_, up, url := useCases(t)
	n := 0
	buy := func(shop string) string {
		n++
		call := toolCall("1", "buy", `{"shop":"`+shop+`","price":50.00,"currency":"EUR","item":`+strconv.Itoa(n)+`}`)
		return strings.Trim(rawAt([]byte(post(t, url, call).Body), "result", "structuredContent", "code"), `"`)
	}
	for i, tt := range []struct{ shop, want string }{
		{"shop.example", ""}, {"SHOP.example.", ""}, {"shop.example", ""}, {"Shop.Example", ""},
		{"shop.example", "APPROVAL_REQUIRED"}, // 200.00 at this shop
		{"www.shop.example", ""}, {"www.shop.example", ""},
		{"www.shop.example", "APPROVAL_REQUIRED"}, // 300.00 at all
	} {
		if got := buy(tt.shop); got != tt.want {
			t.Errorf("purchase %d, at %s: got %q, want %q", i+1, tt.shop, got, tt.want)
		}
	}
	if sent := len(up.requests()); sent != 6 {
		t.Errorf("forwarded %d times, want 6", sent)
	}
}
