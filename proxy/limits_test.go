package proxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/openleash/openleash-go/authz"
)

const shopping = `version: 1
default: deny
rules:
  - {id: buy, effect: allow, action: purchase, description: Buying is fine.}
limits:
  - {id: month, action: purchase, sum: $.payload.amount_minor, currency: EUR, max: 10000, window: 720h%s}
`

// What tools take as decimals is counted in minor units, to the last of them; a
// refusal tells the model what is left, and to leave it at that.
func TestLimitOfDecimalAmounts(t *testing.T) {
	k := newTalk(t, fmt.Sprintf(shopping, ""), func(p *Proxy) { p.Mapping = NewMapping(readRules(t, purchase), nil) })
	go k.answerAll()
	n := 0
	buy := func(price, currency string) string {
		n++
		k.host.write(toolCall(fmt.Sprint(n), "buy_it", fmt.Sprintf(`{"price":%s,"currency":%q,"shop":"books.example"}`, price, currency)))
		return k.next(k.host)
	}
	ran := func(answer string) bool { return strings.HasSuffix(answer, `"result":{"content":[]}}`) }
	for _, price := range []string{"40.00", "0.1", "9.90e0", "49.99"} {
		if got := buy(price, "EUR"); !ran(got) {
			t.Fatalf("%s: %s", price, got)
		}
	}
	k.outcomes(t, 4)
	got := buy("0.02", "EUR")
	for _, want := range []string{`"code":"LIMIT_EXCEEDED"`, "Over limit main/month: at most 100.00 EUR in 720h; 99.99 EUR used, 0.00 EUR held, 0.01 EUR left, and this is 0.02 EUR.", "Do not split this call", "Rule: buy of policy main"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %s", want, got)
		}
	}
	for _, tt := range [][2]string{{"0.01", "USD"}, {"0.001", "EUR"}, {"-5", "EUR"}, {`"0.01"`, "eur"}} {
		if got := buy(tt[0], tt[1]); !strings.Contains(got, "main/month cannot count it") {
			t.Errorf("%s %s: %s", tt[0], tt[1], got)
		}
	}
	if got := buy("0.01", "EUR"); !ran(got) {
		t.Error(got)
	}
	if got := buy("0.01", "EUR"); ran(got) {
		t.Error("one more than the limit")
	}
}

// answerAll is an upstream that does what it is called for.
func (k *talk) answerAll() {
	for {
		m, err := k.upstream.Recv(k.t.Context())
		if err != nil {
			return
		}
		k.upstream.write(`{"jsonrpc":"2.0","id":` + m.ID + `,"result":{"content":[]}}`)
	}
}

const twice = "version: 1\ndefault: allow\nrules: []\nlimits: [{id: calls, count: true, max: 1, window: 1h}]\n"

// A server that cannot be connected to has done nothing, over each door.
func TestLimitWhenTheServerIsDown(t *testing.T) {
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	l.Close()
	nobody := "http://" + l.Addr().String() + "/mcp"
	t.Run("passed through", func(t *testing.T) {
		p := newRealProxy(t, twice)
		url := p.as(t, "bot", p.HTTPPassthrough(HTTPUpstream{URL: nobody})).URL
		for n := range 3 {
			p.outcomes(t, n)
			if got := post(t, url, toolCall("1", "buy", `{}`)); !strings.Contains(got.Body, "Nothing was sent to it") {
				t.Errorf("call %d: %s", n, got.Body)
			}
		}
	})
	t.Run("in a session", func(t *testing.T) {
		p := newRealProxy(t, twice)
		host, hostSide := newPipes()
		who := authz.Caller{Agent: must(p.store.EnsureAgent(t.Context(), "bot", p.owner))(t)}
		ended := make(chan error, 1)
		go func() { ended <- p.Serve(t.Context(), who, hostSide, dialHTTP(t, nobody)) }()
		for n := range 3 {
			p.outcomes(t, n)
			host.write(toolCall("1", "buy", `{}`))
			if m, err := host.Recv(t.Context()); err != nil || !strings.Contains(string(m.Raw), "Nothing was sent to it") {
				t.Errorf("call %d: %s %v", n, m.Raw, err)
			}
		}
		host.Close()
		<-ended
	})
}

// outcomes waits for as many in the log.
func (p realProxy) outcomes(t *testing.T, n int) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); len(p.entries(t, "outcome")) < n; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("want %d outcomes, got %d", n, len(p.entries(t, "outcome")))
		}
	}
}

// A server that has broken off may have done it.
func TestLimitWhenTheServerBreaksOff(t *testing.T) {
	p := newRealProxy(t, strings.Replace(twice, "1h", "1h, on_error: release", 1))
	up := newRawUpstream(t, func(http.ResponseWriter, *http.Request, string) { panic(http.ErrAbortHandler) })
	url := p.as(t, "bot", p.HTTPPassthrough(HTTPUpstream{URL: up.URL})).URL
	if got := post(t, url, toolCall("1", "buy", `{}`)); !strings.Contains(got.Body, "broke off") {
		t.Error(got.Body)
	}
	p.outcomes(t, 1)
	if got := post(t, url, toolCall("1", "buy", `{}`)); !strings.Contains(got.Body, "LIMIT_EXCEEDED") {
		t.Error(got.Body)
	}
}

// An error of the tool counts, unless the limit gives it back.
func TestLimitWhenTheToolFails(t *testing.T) {
	for _, manner := range []string{"", ", on_error: release"} {
		p := newRealProxy(t, strings.Replace(twice, "1h", "1h"+manner, 1))
		up := newRawUpstream(t, func(w http.ResponseWriter, _ *http.Request, body string) {
			w.Header().Set("Content-Type", typeJSON)
			io.WriteString(w, `{"jsonrpc":"2.0","id":`+rawAt([]byte(body), "id")+`,"result":{"content":[],"isError":true}}`)
		})
		url := p.as(t, "bot", p.HTTPPassthrough(HTTPUpstream{URL: up.URL})).URL
		post(t, url, toolCall("1", "buy", `{}`))
		p.outcomes(t, 1)
		if got := post(t, url, toolCall("1", "buy", `{}`)); strings.Contains(got.Body, "LIMIT_EXCEEDED") != (manner == "") {
			t.Errorf("with%s: %s", manner, got.Body)
		}
	}
}

// A call that is over a limit is held, and runs within what was shown.
func TestLimitHoldsTheCall(t *testing.T) {
	k := newTalk(t, fmt.Sprintf(shopping, ", over: require_approval"), func(p *Proxy) { p.Mapping = NewMapping(readRules(t, purchase), nil) })
	k.host.write(toolCall("1", "buy_it", `{"price":250.00,"currency":"EUR","shop":"b.example"}`))
	held := k.pending(t)
	if o := held.Overshoots; len(o) != 1 || o[0].Beyond() != 15000 || o[0].Currency != "EUR" {
		t.Errorf("%+v", held)
	}
	k.silent(k.upstream, 100*time.Millisecond)
	k.approve(t, held.ID)
	if got := k.next(k.upstream); !strings.Contains(got, `"price":250.00`) {
		t.Error(got)
	}
	k.upstream.write(`{"jsonrpc":"2.0","id":1,"result":{}}`)
	k.next(k.host)
	k.outcomes(t, 1)
	k.host.write(toolCall("2", "buy_it", `{"price":0.01,"currency":"EUR","shop":"b.example"}`))
	if o := k.pending(t).Overshoots; len(o) != 1 || o[0].Used != 25000 {
		t.Errorf("%+v", o)
	}
}
