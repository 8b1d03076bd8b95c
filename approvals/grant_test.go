package approvals

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openleash/openleash-go/action"
)

func parse(t testing.TB, text string) action.Value {
	t.Helper()
	v, err := action.Parse([]byte(text), action.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func bounds(t testing.TB, texts ...string) (list []Bound) {
	t.Helper()
	for _, text := range texts {
		b, err := ParseBound(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, b)
	}
	return list
}

func bought(t testing.TB, payload string) Request {
	r := made(Pending)
	r.ID, r.OwnerID, r.Server, r.Tool = "r1", "ann", "shop", "buy"
	r.Action = action.Request{ActionType: "purchase", RelyingParty: action.RelyingParty{Domain: "shop.example"}, Payload: parse(t, payload)}
	r.ToolInfo = parse(t, `{"definition_hash":"sha256:1"}`)
	return r
}

const tea = `{"amount_minor":50,"arguments":{"n":50,"to":"ann","list":[{"k":1},{"k":2}],"flag":true,"note":null}}`

// What is covered, by the payload of a later call.
func TestGrantCovers(t *testing.T) {
	for _, tt := range []struct {
		name   string
		bounds []string
		yes    []string
		no     []string
	}{
		{"exactly", nil,
			[]string{tea, `{"arguments":{"to":"ann","flag":true,"n":5e1,"note":null,"list":[{"k":1.0},{"k":2}]},"amount_minor":50}`},
			[]string{
				strings.Replace(tea, `"n":50`, `"n":51`, 1), strings.Replace(tea, `"n":50`, `"n":"50"`, 1), strings.Replace(tea, `"n":50`, `"n":[50]`, 1),
				strings.Replace(tea, `"amount_minor":50`, `"amount_minor":49`, 1),
				strings.Replace(tea, `"note":null`, `"x":null`, 1), strings.Replace(tea, `,"note":null`, ``, 1), strings.Replace(tea, `"note":null`, `"note":null,"cc":"eve"`, 1),
				strings.Replace(tea, `{"k":2}`, `{"k":2},{"k":3}`, 1), strings.Replace(tea, `,{"k":2}`, ``, 1), strings.Replace(tea, `{"k":2}`, `{"k":2,"j":1}`, 1), strings.Replace(tea, `{"k":2}`, `{"K":2}`, 1),
				strings.Replace(tea, `{"k":1},{"k":2}`, `{"k":2},{"k":1}`, 1), strings.Replace(tea, `[{"k":1},{"k":2}]`, `{"0":{"k":1},"1":{"k":2}}`, 1),
				`{"arguments":{}}`, `{}`,
			}},
		{"at most, and what follows it", []string{"$.payload.arguments.n at_most 100"},
			[]string{tea, strings.ReplaceAll(tea, "50", "100"), strings.ReplaceAll(tea, "50", "0"), strings.ReplaceAll(tea, "50", "99.999999999999999999")},
			[]string{
				strings.ReplaceAll(tea, "50", "101"), strings.ReplaceAll(tea, "50", "100.00000000000000000001"), strings.ReplaceAll(tea, "50", "-1"), strings.ReplaceAll(tea, "50", `"60"`), strings.ReplaceAll(tea, "50", "null"),
				strings.Replace(tea, `"n":50,`, ``, 1), strings.ReplaceAll(strings.Replace(tea, "ann", "eve", 1), "50", "60"), strings.Replace(tea, `"amount_minor":50`, `"amount_minor":101`, 1),
			}},
		{"a floor of its own", []string{"$.payload.arguments.n at_most 100", "$.payload.arguments.n at_least 40"},
			[]string{tea, strings.ReplaceAll(tea, "50", "40")}, []string{strings.ReplaceAll(tea, "50", "39"), strings.ReplaceAll(tea, "50", "101")}},
		{"one of", []string{`$.payload.arguments.to one_of ["ann", "bob", 5]`},
			[]string{tea, strings.Replace(tea, `"ann"`, `"bob"`, 1), strings.Replace(tea, `"ann"`, `5.0`, 1)},
			[]string{strings.Replace(tea, `"ann"`, `"Bob"`, 1), strings.Replace(tea, `"ann"`, `"5"`, 1), strings.Replace(tea, `"ann"`, `["bob"]`, 1), strings.Replace(tea, `"ann"`, `null`, 1)}},
		{"any text", []string{"$.payload.arguments.to any 5"},
			[]string{tea, strings.Replace(tea, `"ann"`, `"ünïcö"`, 1), strings.Replace(tea, `"ann"`, `""`, 1)},
			[]string{strings.Replace(tea, `"ann"`, `"abcdef"`, 1), strings.Replace(tea, `"ann"`, `5`, 1), strings.Replace(tea, `"ann"`, `null`, 1)}},
		{"any of the same kind, in a list", []string{`$.payload["arguments"]['list'][1].k any`, "$.payload.arguments.flag any"},
			[]string{tea, strings.Replace(tea, `{"k":2}`, `{"k":-9e9}`, 1), strings.Replace(tea, "true", "false", 1)},
			[]string{strings.Replace(tea, `{"k":2}`, `{"k":"2"}`, 1), strings.Replace(tea, `{"k":1}`, `{"k":2}`, 1), strings.Replace(tea, "true", "0", 1), strings.Replace(tea, `{"k":2}`, `{"k":2},{"k":3}`, 1)}},
	} {
		r := bought(t, tea)
		g, err := r.Standing("g1", Terms{Bounds: bounds(t, tt.bounds...)}, "cli:ann", noon)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		for _, payload := range tt.yes {
			if !g.Covers(bought(t, payload)) {
				t.Errorf("%s: does not cover %s", tt.name, payload)
			}
		}
		for _, payload := range tt.no {
			if g.Covers(bought(t, payload)) {
				t.Errorf("%s: covers %s", tt.name, payload)
			}
		}
	}
}

// Whatever else of a call differs, it is another.
func TestGrantIsForThatToolAndParty(t *testing.T) {
	g, err := bought(t, tea).Standing("g1", Terms{}, "cli:ann", noon)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Request){
		"agent":          func(r *Request) { r.AgentID = "Bot" },
		"owner":          func(r *Request) { r.OwnerID = "bob" },
		"server":         func(r *Request) { r.Server = "shop2" },
		"tool":           func(r *Request) { r.Tool = "sell" },
		"type":           func(r *Request) { r.Action.ActionType = "purchase.big" },
		"domain":         func(r *Request) { r.Action.RelyingParty.Domain = "evil.example" },
		"trust":          func(r *Request) { r.Action.RelyingParty.TrustProfile = "LOW" },
		"definition":     func(r *Request) { r.ToolInfo = parse(t, `{"definition_hash":"sha256:2"}`) },
		"no definition":  func(r *Request) { r.ToolInfo = action.Value{} },
		"over its limit": func(r *Request) { r.Overshoots = []Overshoot{{Limit: "p/daily"}} },
	} {
		r := bought(t, tea)
		if change(&r); g.Covers(r) || g.Usable(noon, r) != ErrNotFound {
			t.Errorf("another %s is covered", name)
		}
	}
	if r := bought(t, tea); !g.Covers(r) || g.Usable(noon, r) != nil {
		t.Error("the same call is not covered")
	}
}

func TestGrantLive(t *testing.T) {
	g := Grant{Uses: 3, Used: 2, Until: noon.Add(time.Hour)}
	withdrawn, spent, endless := g, g, g
	withdrawn.WithdrawnAt, spent.Used, endless.Uses, endless.Used = noon, 3, 0, 99
	for name, tt := range map[string]struct {
		grant Grant
		after time.Duration
		want  error
	}{
		"one is left":     {g, time.Hour - tick, nil},
		"over":            {g, time.Hour, ErrExpired},
		"none is left":    {spent, 0, ErrSpent},
		"without a count": {endless, time.Hour - tick, nil},
		"withdrawn":       {withdrawn, 0, ErrWithdrawn},
		"both":            {withdrawn, time.Hour, ErrWithdrawn},
	} {
		if got := tt.grant.Live(noon.Add(tt.after)); got != tt.want {
			t.Errorf("%s: want %v, got %v", name, tt.want, got)
		}
	}
	unspent, used := made(Approved), made(Redeemed)
	for name, tt := range map[string]struct {
		grant Grant
		given Request
		want  error
	}{
		"live":                       {g, used, nil},
		"spent, the approval too":    {spent, used, ErrSpent},
		"spent, but for its request": {spent, unspent, nil},
		"withdrawn":                  {withdrawn, unspent, ErrWithdrawn},
	} {
		if got := tt.grant.Withdrawable(noon, tt.given); got != tt.want {
			t.Errorf("withdrawing, %s: want %v, got %v", name, tt.want, got)
		}
	}
}

func TestStandingRefuses(t *testing.T) {
	r := bought(t, tea)
	for _, tt := range []struct {
		terms Terms
		want  string
	}{
		{Terms{Uses: 1}, "2 to 10000 times, got 1"},
		{Terms{Uses: -1}, "got -1"},
		{Terms{Uses: MaxGrantUses + 1}, "got 10001"},
		{Terms{For: time.Second}, "a minute to 30 days, got 1s"},
		{Terms{For: MaxGrantFor + 1}, "30 days"},
		{Terms{For: -time.Hour}, "30 days"},
		{Terms{Bounds: bounds(t, "$.payload.arguments.x any")}, "no text, number, true or false there; it has them at $.payload.amount_minor, $.payload.arguments.n"},
		{Terms{Bounds: bounds(t, "$.payload.arguments.list any")}, "no text, number"},
		{Terms{Bounds: bounds(t, "$.payload.arguments.note any")}, "no text, number"},
		{Terms{Bounds: bounds(t, "$.payload.arguments.n at_most 49")}, "the call itself has 50 there, which is not at_most 49"},
		{Terms{Bounds: bounds(t, "$.payload.arguments.to at_least 1")}, `the call itself has "ann"`},
		{Terms{Bounds: bounds(t, `$.payload.arguments.to one_of ["bob"]`)}, `the call itself has "ann"`},
		{Terms{Bounds: bounds(t, "$.payload.arguments.to any 2")}, `the call itself has "ann"`},
		{Terms{Bounds: bounds(t, "$.payload.arguments.n any 2")}, "for a text only"},
		{Terms{Bounds: slices.Repeat(bounds(t, "$.payload.arguments.n at_most 100"), maxBounds+1)}, "at most 64"},
	} {
		if _, err := r.Standing("g1", tt.terms, "cli:ann", noon); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: want %q, got %v", tt.terms, tt.want, err)
		}
	}
	g, err := r.Standing("g1", Terms{}, "cli:ann", noon)
	if err != nil || !g.Until.Equal(noon.Add(DefaultGrantFor)) || g.Used != 1 || g.Uses != 0 {
		t.Errorf("without terms: %+v, %v", g, err)
	}
}

func TestParseBound(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"$.payload.arguments.n at_most 100", ""},
		{"  $.payload['arguments'].n   at_most   1e2 ", "$.payload.arguments.n at_most 100"},
		{`$.payload["a any 5"].b one_of ["x y", 5, true, null]`, `$.payload["a any 5"].b one_of ["x y",5,true,null]`},
		{`$.payload.a one_of "x"`, `$.payload.a one_of ["x"]`},
		{"$.payload.a any", ""},
		{"$.payload.a any 20", ""},
		{`$.payload.a[0] at_least -0.5`, ""},
	} {
		if tt.want == "" {
			tt.want = tt.text
		}
		b, err := ParseBound(tt.text)
		if err != nil || b.String() != tt.want {
			t.Errorf("%s: want %s, got %s, %v", tt.text, tt.want, b, err)
		}
	}
	for text, want := range map[string]string{
		"":                                     "want PATH at_most|at_least|one_of|any VALUE",
		"n at_most 100":                        "begins with $.",
		"$.payload.a":                          `got ""`,
		"$.payload.a[*] any":                   "[*] cannot stand here",
		"$.payload any":                        "want a path below $.payload",
		"$.payloadx any":                       "want a path below $.payload",
		"$.tool.reads any":                     "want a path below $.payload",
		"$.payload.a below 5":                  `got "below"`,
		"$.payload.a at_most":                  "at_most wants one number",
		`$.payload.a at_most "5"`:              "at_most wants one number",
		"$.payload.a at_most 5 6":              "$.payload.a: at_most: ",
		"$.payload.a one_of":                   "one_of wants a list",
		"$.payload.a one_of []":                "one_of wants a list",
		"$.payload.a one_of [[1]]":             "one_of wants a list",
		"$.payload.a one_of ann":               "a text stands in double quotes",
		"$.payload.a any 0":                    "any wants nothing, or",
		"$.payload.a any 1.5":                  "any wants nothing, or",
		`$.payload.a any "x"`:                  "any wants nothing, or",
		"$.payload.a any 99999999999999999999": "any wants nothing, or",
	} {
		if _, err := ParseBound(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: want %q, got %v", text, want, err)
		}
	}
}

// What parses is written so that it parses to the same, and a bound on every place of
// a payload can be written.
func FuzzBound(f *testing.F) {
	f.Add(`$.payload["a any 5"].b one_of ["x y", 5]`, tea)
	f.Add("$.payload.arguments.n at_most 1e400", `{"arguments":{"a b":["\u202e",{"":"x"}]}}`)
	f.Fuzz(func(t *testing.T, text, payload string) {
		if b, err := ParseBound(text); err == nil {
			again, err := ParseBound(b.String())
			if err != nil || again.String() != b.String() {
				t.Errorf("%q was written as %q, which is %v, %v", text, b, again, err)
			}
			data, err := EncodeBounds([]Bound{b})
			if err != nil {
				t.Fatal(err)
			}
			if list, err := DecodeBounds(data); err != nil || len(list) != 1 || list[0].String() != b.String() {
				t.Errorf("%s came back as %v, %v", data, list, err)
			}
		}
		v, err := action.Parse([]byte(payload), action.Limits{})
		if err != nil || v.Kind() != action.Object {
			return
		}
		for _, p := range Places(v) {
			b, err := ParseBound(p.Path + " any")
			if err != nil || b.Path != p.Path {
				t.Errorf("a bound on %s: %v, %v", p.Path, b, err)
			}
			if _, err := Bounded(v, []Bound{b}); err != nil && !strings.Contains(err.Error(), "at most 64") {
				t.Error(err)
			}
		}
	})
}

func TestWithdrawn(t *testing.T) {
	for status, want := range map[Status]error{Approved: nil, Pending: ErrAnswered, Denied: ErrAnswered, Redeemed: ErrSpent, Expired: ErrExpired} {
		if got := made(status).Withdrawable(noon); !errors.Is(got, want) {
			t.Errorf("%s: want %v, got %v", status, want, got)
		}
	}
	if got := made(Approved).Withdrawable(noon.Add(2 * time.Hour)); got != ErrExpired {
		t.Errorf("over: got %v", got)
	}
	r := made(Approved).Withdrawn(Withdrawal{By: "cli:ann", Reason: "not now", At: noon.Add(time.Minute)})
	if r.Status != Denied || r.DenyReason != "the approval was withdrawn: not now" || r.AnsweredBy != "cli:ann" || !r.GrantUntil.IsZero() {
		t.Errorf("%+v", r)
	}
}
