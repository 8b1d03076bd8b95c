package proxy

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/internal/strictyaml"
)

// readRules parses a list of rules that has no faults.
func readRules(t *testing.T, src string) []Rule {
	t.Helper()
	d, err := strictyaml.Parse("rules.yaml", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	rules := ParseMapping(d, d.Root)
	if err := d.Err(); err != nil {
		t.Fatal(err)
	}
	return rules
}

func parseArguments(t testing.TB, src string) action.Value {
	t.Helper()
	if src == "" {
		return action.Value{}
	}
	v, err := action.Parse([]byte(src), action.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// purchase is the rule of the package's documentation, with all forms.
const purchase = `
- server: shop
  tool: "buy_*"
  action_type: purchase
  relying_party: {domain: $.shop, trust_profile: LOW}
  payload:
    amount_minor: {decimal: $.price, currency: $.currency}
    currency: $.currency
    merchant_domain: $.shop
    note: {value: "constant"}
    web: {value: true}
    rank: {value: 3}
    quantity: {path: $.n, optional: true}
- tool: send
  action_type: communication.email
  relying_party: {domain: {email_domain: $.to}}
  payload:
    domain: {email_domain: $.to}
    copies: {email_domain: $.cc, optional: true}
- tool: get
  action_type: web.fetch
  relying_party: {domain: {url_host: $.url}}
  payload: {host: {url_host: $.url}}
- {tool: "post?", action_type: communication.message, relying_party: {domain: slack.com}}
- {tool: tip, action_type: tip, payload: {amount_minor: {decimal: $.euro, currency: EUR}}}
`

func TestMap(t *testing.T) {
	m := NewMapping(readRules(t, purchase), nil)
	tests := []struct {
		name, server, tool, arguments string
		wantType, wantPayload         string // without arguments
		wantParty                     action.RelyingParty
	}{
		{
			name: "purchase", server: "shop", tool: "buy_book",
			arguments:   `{"price":85.00,"currency":"EUR","shop":"books.example","n":2}`,
			wantType:    "purchase",
			wantPayload: `{"amount_minor":8500,"currency":"EUR","merchant_domain":"books.example","note":"constant","web":true,"rank":3,"quantity":2}`,
			wantParty:   action.RelyingParty{Domain: "books.example", TrustProfile: "LOW"},
		},
		{
			name: "optional left out, amount as text", server: "shop", tool: "buy_",
			arguments:   `{"price":"1200","currency":"JPY","shop":"b"}`,
			wantType:    "purchase",
			wantPayload: `{"amount_minor":1200,"currency":"JPY","merchant_domain":"b","note":"constant","web":true,"rank":3}`,
			wantParty:   action.RelyingParty{Domain: "b", TrustProfile: "LOW"},
		},
		{
			name: "amount in doubt stays text", server: "shop", tool: "buy_x",
			arguments:   `{"price":0.30000000000000004,"currency":"EUR","shop":"b"}`,
			wantType:    "purchase",
			wantPayload: `{"amount_minor":"0.30000000000000004","currency":"EUR","merchant_domain":"b","note":"constant","web":true,"rank":3}`,
			wantParty:   action.RelyingParty{Domain: "b", TrustProfile: "LOW"},
		},
		{
			name: "unknown currency", server: "shop", tool: "buy_x",
			arguments:   `{"price":5,"currency":"XXX","shop":"b"}`,
			wantType:    "purchase",
			wantPayload: `{"amount_minor":"5","currency":"XXX","merchant_domain":"b","note":"constant","web":true,"rank":3}`,
			wantParty:   action.RelyingParty{Domain: "b", TrustProfile: "LOW"},
		},
		{
			name: "amount of another type", server: "shop", tool: "buy_x",
			arguments:   `{"price":{"eur": 5},"currency":"EUR","shop":"b"}`,
			wantType:    "purchase",
			wantPayload: `{"amount_minor":"{\"eur\":5}","currency":"EUR","merchant_domain":"b","note":"constant","web":true,"rank":3}`,
			wantParty:   action.RelyingParty{Domain: "b", TrustProfile: "LOW"},
		},
		{
			name: "amount missing is left out", server: "shop", tool: "buy_x",
			arguments:   `{"currency":"EUR","shop":"b"}`,
			wantType:    "purchase",
			wantPayload: `{"currency":"EUR","merchant_domain":"b","note":"constant","web":true,"rank":3}`,
			wantParty:   action.RelyingParty{Domain: "b", TrustProfile: "LOW"},
		},
		{
			name: "fixed currency", server: "any", tool: "tip", arguments: `{"euro":"1.5"}`,
			wantType: "tip", wantPayload: `{"amount_minor":150}`,
		},
		{
			name: "one address", server: "any", tool: "send", arguments: `{"to":"Ann@Example.COM","cc":null}`,
			wantType: "communication.email", wantPayload: `{"domain":"example.com","copies":null}`,
			wantParty: action.RelyingParty{Domain: "example.com"},
		},
		{
			name: "addresses of one domain", server: "any", tool: "send", arguments: `{"to":["a@x.example","b@X.example"]}`,
			wantType: "communication.email", wantPayload: `{"domain":["x.example","x.example"]}`,
			wantParty: action.RelyingParty{Domain: "x.example"},
		},
		{
			name: "addresses of two domains have no one counterparty", server: "any", tool: "send", arguments: `{"to":["a@x.example","b@y.example"]}`,
			wantType: "communication.email", wantPayload: `{"domain":["x.example","y.example"]}`,
		},
		{
			name: "odd address in quotes in a list", server: "any", tool: "send", arguments: `{"to":"Bob <a@x.example>"}`,
			wantType: "communication.email", wantPayload: `{"domain":["\"Bob <a@x.example>\""]}`,
		},
		{
			name: "odd address that looks like a domain", server: "any", tool: "send", arguments: `{"to":"x.example"}`,
			wantType: "communication.email", wantPayload: `{"domain":["\"x.example\""]}`,
		},
		{
			name: "odd address among others", server: "any", tool: "send", arguments: `{"to":["a@x.example","b@y@z"]}`,
			wantType: "communication.email", wantPayload: `{"domain":["x.example","\"b@y@z\""]}`,
		},
		{
			name: "URL", server: "any", tool: "get", arguments: `{"url":"https://API.example:8443/a?b#c"}`,
			wantType: "web.fetch", wantPayload: `{"host":"api.example"}`,
			wantParty: action.RelyingParty{Domain: "api.example"},
		},
		{
			name: "constant domain, no payload", server: "any", tool: "posts", arguments: `{}`,
			wantType: "communication.message", wantPayload: `{}`,
			wantParty: action.RelyingParty{Domain: "slack.com"},
		},
		{name: "default", server: "shop", tool: "buy", arguments: `{"a":1}`, wantType: "mcp.shop.buy", wantPayload: `{}`},
		{name: "default without arguments", server: "shop", tool: "post", arguments: ``, wantType: "mcp.shop.post", wantPayload: `{}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := m.Map(test.server, test.tool, parseArguments(t, test.arguments))
			if err != nil {
				t.Fatal(err)
			}
			want := Mapped{ActionType: test.wantType, RelyingParty: test.wantParty, Payload: withArguments(t, test.wantPayload, test.arguments)}
			if diff := cmp.Diff(plainMapped(want), plainMapped(got)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func withArguments(t *testing.T, payload, arguments string) action.Value {
	var members []action.Member
	for key, v := range parseArguments(t, payload).Members() {
		members = append(members, action.Member{Key: key, Value: v})
	}
	if arguments == "" {
		arguments = "{}"
	}
	return action.ObjectValue(append(members, action.Member{Key: "arguments", Value: parseArguments(t, arguments)})...)
}

// plainMapped writes the payload as text, so that a difference can be read.
func plainMapped(m Mapped) any {
	payload := string(m.Payload.Canonical())
	m.Payload = action.Value{}
	return struct {
		ActionType, Payload, Profile string
		RelyingParty                 action.RelyingParty
		Reads, Destroys              bool
	}{m.ActionType, payload, m.Profile, m.RelyingParty, m.Reads, m.Destroys}
}

func TestMapRefuses(t *testing.T) {
	m := NewMapping(readRules(t, purchase), nil)
	tests := []struct {
		name, tool, arguments string
		want                  string // in the error
	}{
		{"missing", "buy_x", `{"price":1,"currency":"EUR"}`, `mapping rule rules.yaml:2: relying_party.domain: $.shop is not in the arguments (they have "price", "currency"): call again with it`},
		{"no arguments", "buy_x", ``, `$.shop is not in the arguments (they are empty)`},
		{"another case", "buy_x", `{"price":1,"currency":"EUR","Shop":"b"}`, `$.shop cannot be read without doubt in the arguments (they have "price", "currency", "Shop")`},
		{"another case of an optional field", "buy_x", `{"price":1,"currency":"EUR","shop":"b","N":5}`, `payload.quantity: $.n cannot be read`},
		{"another case of the currency", "buy_x", `{"price":1,"CURRENCY":"EUR","shop":"b"}`, `payload.amount_minor: currency: $.currency cannot be read`},
		{"domain of another type", "buy_x", `{"price":1,"currency":"EUR","shop":7}`, `relying_party.domain: want a text, got a number`},
		{"list of other types", "send", `{"to":[1]}`, `relying_party.domain: want texts in the list, got a number`},
		{"arguments no object", "buy_x", `[1]`, `arguments: want an object, got an array`},
		{"arguments null", "other", `null`, `arguments: want an object, got null`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := m.Map("shop", test.tool, parseArguments(t, test.arguments))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, %v\nwant an error with %s", plainMapped(got), err, test.want)
			}
		})
	}
}

func TestFirstRuleWins(t *testing.T) {
	profile, err := ParseProfile("p.yaml", []byte(`
profile: shop
match: {program: [shop]}
reads: [look]
destroys: [buy]
mapping:
  - {tool: buy, action_type: from.profile}
  - {tool: sell, action_type: sale}
`))
	if err != nil {
		t.Fatal(err)
	}
	m := NewMapping(readRules(t, `[{server: "s*", tool: buy, action_type: from.config}]`), profile)
	tests := []struct {
		server, tool string
		want         Mapped
	}{
		{"shop", "buy", Mapped{ActionType: "from.config", Profile: "shop", Destroys: true}},
		{"market", "buy", Mapped{ActionType: "from.profile", Profile: "shop", Destroys: true}},
		{"shop", "sell", Mapped{ActionType: "sale", Profile: "shop"}},
		{"shop", "look", Mapped{ActionType: "mcp.shop.look", Profile: "shop", Reads: true}},
		{"shop", "Look", Mapped{ActionType: "mcp.shop.Look", Profile: "shop"}},
	}
	for _, test := range tests {
		got, err := m.Map(test.server, test.tool, action.Value{})
		if err != nil {
			t.Fatal(err)
		}
		test.want.Payload = withArguments(t, "{}", "")
		if diff := cmp.Diff(plainMapped(test.want), plainMapped(got)); diff != "" {
			t.Errorf("%s.%s (-want +got)\n%s", test.server, test.tool, diff)
		}
	}
}

func TestParseMappingFaults(t *testing.T) {
	tests := []struct{ name, src, want string }{
		{"no list", `tool: x`, `rules.yaml:1:1: mapping: want a list like [a, b]`},
		{"unknown key", `[{tool: x, action_type: a, payloads: {}}]`, `rule: unknown key "payloads" (did you mean "payload"?)`},
		{"no tool", `[{action_type: a}]`, `rules.yaml:1:2: rule: want a tool`},
		{"empty tool", `[{tool: "", action_type: a}]`, `tool: want a name or a pattern`},
		{"no action type", `[{tool: x}]`, `rule: want an action_type`},
		{"odd action type", `[{tool: x, action_type: "a b*"}]`, `action_type: want letters, digits`},
		{"trust profile", `[{tool: x, action_type: a, relying_party: {trust_profile: low}}]`, `trust_profile`},
		{"empty domain", `[{tool: x, action_type: a, relying_party: {domain: ""}}]`, `domain: want a path like $.shop or a domain, got nothing`},
		{"bad path", `[{tool: x, action_type: a, payload: {n: "$.a..b"}}]`, `payload.n: path "$.a..b", character 5`},
		{"every item", `[{tool: x, action_type: a, payload: {n: "$.items[*].price"}}]`, `[*] (every item) cannot stand here, where one value is wanted: name one item, like [0]`},
		{"forgotten $.", `[{tool: x, action_type: a, payload: {n: price}}]`, `payload.n: want a path into the arguments, like $.price, got "price"; a constant is written {value: price}`},
		{"arguments", `[{tool: x, action_type: a, payload: {arguments: $.n}}]`, `"arguments" is taken`},
		{"arguments in another case", `[{tool: x, action_type: a, payload: {Arguments: $.n}}]`, `"arguments" is taken`},
		{"fields in two cases", `[{tool: x, action_type: a, payload: {n: $.n, N: $.m}}]`, `"n" and "N" differ only in case`},
		{"no form", `[{tool: x, action_type: a, payload: {n: {optional: true}}}]`, `payload.n: want one of path, value, decimal, email_domain and url_host, got 0 of them`},
		{"two forms", `[{tool: x, action_type: a, payload: {n: {path: $.a, value: 1}}}]`, `got 2 of them`},
		{"no currency", `[{tool: x, action_type: a, payload: {n: {decimal: $.a}}}]`, `payload.n: want a currency beside decimal`},
		{"unknown currency", `[{tool: x, action_type: a, payload: {n: {decimal: $.a, currency: EURO}}}]`, `want a currency of ISO 4217, like EUR, or a path like $.currency, got "EURO"`},
		{"currency elsewhere", `[{tool: x, action_type: a, payload: {n: {path: $.a, currency: EUR}}}]`, `currency goes with decimal only`},
		{"optional amount", `[{tool: x, action_type: a, payload: {n: {decimal: $.a, currency: EUR, optional: true}}}]`, `optional does not go with decimal`},
		{"constant of no kind", `[{tool: x, action_type: a, payload: {n: {value: [1]}}}]`, `payload.n: want text`},
		{"constant null", `[{tool: x, action_type: a, payload: {n: {value: null}}}]`, `payload.n: want text`},
		{"constant fraction", `[{tool: x, action_type: a, payload: {n: {value: 1.5}}}]`, `payload.n: want text`},
		{"list as payload", `[{tool: x, action_type: a, payload: [n]}]`, `payload: want a mapping`},
		{"shadowed", "- {tool: \"*\", action_type: a}\n- {tool: x, action_type: b}", `rules.yaml:2:3: rule: never used, because the rule at rules.yaml:1 takes the same calls`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d, err := strictyaml.Parse("rules.yaml", []byte(test.src))
			if err != nil {
				t.Fatal(err)
			}
			ParseMapping(d, d.Root)
			if err := d.Err(); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v\nwant an error with %s", err, test.want)
			}
		})
	}
}

func TestGlob(t *testing.T) {
	tests := []struct {
		pattern, name string
		want          bool
	}{
		{"*", "", true}, {"*", "anything", true},
		{"buy", "buy", true}, {"buy", "buys", false}, {"buy", "Buy", false},
		{"buy_*", "buy_", true}, {"buy_*", "buy_book", true}, {"buy_*", "buy", false},
		{"*_file", "read_file", true}, {"*_file", "read_file_", false},
		{"a*b*c", "a-b-b-c", true}, {"a*b*c", "a-c-b", false}, {"*a*", "bab", true},
		{"?", "", false}, {"?", "x", true}, {"?", "xy", false}, {"get?", "gets", true}, {"??*", "a", false},
		{"**", "x", true}, {"", "", true}, {"", "x", false}, {"[a]", "a", false}, {"[a]", "[a]", true},
	}
	for _, test := range tests {
		if got := newGlob(test.pattern).match(test.name); got != test.want {
			t.Errorf("%q matches %q: got %v", test.pattern, test.name, got)
		}
	}
}

// FuzzParseMapping: no rules make the program panic, and no arguments do: a
// call is mapped with its arguments whole, or refused with a reason.
func FuzzParseMapping(f *testing.F) {
	f.Add([]byte(purchase), []byte(`{"price":"85.00","currency":"EUR","shop":"s","to":["a@b.c"],"url":"http://x"}`), "shop", "buy_x")
	f.Add([]byte(`[{tool: "*", action_type: a, payload: {x: '$["a b"][0]'}}]`), []byte(`{"a b":[null]}`), "s", "t")
	f.Add([]byte(`[{tool: send, action_type: a, relying_party: {domain: {email_domain: $.to}}}]`), []byte(`{"to":"a@b@c"}`), "s", "send")
	f.Fuzz(func(t *testing.T, src, document []byte, server, tool string) {
		d, err := strictyaml.Parse("f.yaml", src)
		if err != nil {
			return
		}
		rules := ParseMapping(d, d.Root)
		arguments, err := action.Parse(document, action.Limits{})
		if d.Err() != nil || err != nil {
			return
		}
		mapped, err := NewMapping(rules, nil).Map(server, tool, arguments)
		if err != nil {
			return
		}
		if got := mapped.Payload.Get("arguments"); !got.Equal(arguments) {
			t.Errorf("arguments %s became %s", arguments.Raw(), got.Canonical())
		}
		if mapped.ActionType == "" {
			t.Error("no action type")
		}
	})
}

func BenchmarkMap(b *testing.B) {
	d, err := strictyaml.Parse("rules.yaml", []byte(purchase))
	if err != nil {
		b.Fatal(err)
	}
	m := NewMapping(ParseMapping(d, d.Root), nil)
	arguments := parseArguments(b, `{"price":85.00,"currency":"EUR","shop":"books.example","n":2}`)
	for b.Loop() {
		if _, err := m.Map("shop", "buy_book", arguments); err != nil {
			b.Fatal(err)
		}
	}
}

// TestRulesInTheDocumentation keeps the example of Rule true.
func TestRulesInTheDocumentation(t *testing.T) {
	src, err := os.ReadFile("mapping.go")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(src), "as actions. In YAML:\n//\n")
	example, _, found := strings.Cut(example, "//\n// Paths are read")
	if !found {
		t.Fatal("mapping.go: want the example between \"In YAML:\" and \"Paths are read\"")
	}
	d, err := strictyaml.Parse("example.yaml", []byte(strings.ReplaceAll(example, "//\t", "")))
	if err != nil {
		t.Fatal(err)
	}
	rules := ParseMapping(d, d.Fields(d.Root, "example", "mapping")["mapping"])
	if d.Err() != nil || len(rules) != 1 || len(rules[0].payload) != 6 {
		t.Errorf("want one rule with six fields, got %+v and %v", rules, d.Err())
	}
}
