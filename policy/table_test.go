package policy

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/openleash/openleash-go/action"
)

// tables gives the tables of docs/policy.md that are marked for the tests: rows
// of cells, the header first.
func tables(t testing.TB) [][][]string {
	t.Helper()
	text, err := os.ReadFile("../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	var all [][][]string
	for i, part := range strings.Split(string(text), "<!-- The tests read this table. -->\n") {
		if i == 0 {
			continue
		}
		var rows [][]string
		for line := range strings.Lines(part) {
			if !strings.HasPrefix(line, "|") {
				break
			}
			cells := strings.Split(strings.Trim(line, "|\n"), "|")
			for j := range cells {
				cells[j] = strings.TrimSpace(cells[j])
			}
			rows = append(rows, cells)
		}
		all = append(all, slices.Delete(rows, 1, 2))
	}
	if len(all) < 3 || len(all[0]) < 15 || len(all[1]) != 11 {
		t.Fatalf("the tables of docs/policy.md have another shape")
	}
	return all
}

// TestOperators holds every cell of the documented table against both evaluators.
func TestOperators(t *testing.T) {
	rows := tables(t)[0]
	for _, row := range rows[1:] {
		for i, want := range row[1:] {
			value := unquoted(rows[0][i+1])
			payload := `{"a":` + value + `}`
			if value == "(missing)" {
				payload = `{}`
			}
			spec := "{path: $.payload.a, " + strings.TrimPrefix(unquoted(row[0]), "{")
			if got := whenSays(t, "{match: "+spec+"}", payload); got.String() != want {
				t.Errorf("%s on %s: got %v, want %s", row[0], value, got, want)
			}
			if got := whenSays(t, "{not: {match: "+spec+"}}", payload); got.String() != word(t, want).not().String() {
				t.Errorf("not %s on %s: got %v", row[0], value, got)
			}
		}
	}
}

// TestValues does the same for the tables that list values by what is said of them.
func TestValues(t *testing.T) {
	n := 0
	for _, rows := range tables(t)[2:] {
		for _, row := range rows[1:] {
			spec := "{match: {" + strings.TrimPrefix(unquoted(row[0]), "{") + "}"
			if !strings.Contains(spec, "path: ") {
				spec = strings.Replace(spec, "op: ", "path: $.payload.a, op: ", 1)
			}
			for i, cell := range row[1:] {
				want := word(t, rows[0][i+1])
				for _, value := range values.FindAllString(cell, -1) {
					n++
					payload := `{"a":` + unquoted(value) + `}`
					if value == "(missing)" {
						payload = `{}`
					}
					if got := whenSays(t, spec, payload); got != want {
						t.Errorf("%s on %s: got %v, want %v", row[0], value, got, want)
					}
					if got := whenSays(t, "{not: "+spec+"}", payload); got != want.not() {
						t.Errorf("not %s on %s: got %v", row[0], value, got)
					}
				}
			}
		}
	}
	if n < 30 {
		t.Errorf("only %d values were looked at", n)
	}
}

var values = regexp.MustCompile("`[^`]+`|\\(missing\\)")

// TestCombinations does the same for all and any, also with the two exchanged,
// and for what De Morgan makes of them.
func TestCombinations(t *testing.T) {
	// One condition for each truth.
	cond := map[string]string{
		"true":    "{match: {path: $.payload.n, op: eq, value: 1}}",
		"false":   "{match: {path: $.payload.n, op: eq, value: 2}}",
		"unknown": `{match: {path: $.payload.n, op: eq, value: "1"}}`,
		"missing": "{match: {path: $.payload.x, op: eq, value: 1}}",
	}
	for _, row := range tables(t)[1][1:] {
		for _, pair := range [][2]string{{row[0], row[1]}, {row[1], row[0]}} {
			a, b := cond[pair[0]], cond[pair[1]]
			for expr, want := range map[string]truth{
				fmt.Sprintf("{all: [%s, %s]}", a, b):                            word(t, row[2]),
				fmt.Sprintf("{any: [%s, %s]}", a, b):                            word(t, row[3]),
				fmt.Sprintf("{not: {any: [{not: %s}, {not: %s}]}}", a, b):       word(t, row[2]),
				fmt.Sprintf("{not: {all: [{not: %s}, {not: %s}]}}", a, b):       word(t, row[3]),
				fmt.Sprintf("{all: [%s, {all: [%s]}, {not: {any: []}}]}", a, b): word(t, row[2]),
				fmt.Sprintf("{any: [{any: [%s, %s]}, {not: {all: []}}]}", a, b): word(t, row[3]),
			} {
				if got := whenSays(t, expr, `{"n":1}`); got != want {
					t.Errorf("%v: %s: got %v, want %v", pair, expr, got, want)
				}
			}
		}
	}
}

// TestTruthIsAssociative: all and any of more than two do not depend on the order.
func TestTruthIsAssociative(t *testing.T) {
	every := []truth{no, yes, unknown, missing}
	for _, a := range every {
		for _, b := range every {
			for _, c := range every {
				if a.and(b).and(c) != a.and(b.and(c)) || a.or(b).or(c) != a.or(b.or(c)) {
					t.Errorf("%v, %v, %v: the order matters", a, b, c)
				}
			}
		}
	}
}

// TestMoneyInConditions: amount_minor is money wherever it is read.
func TestMoneyInConditions(t *testing.T) {
	for _, path := range []string{"$.payload.amount_minor", `$.payload["amount_minor"]`} {
		for amount, want := range map[string]truth{
			"5": yes, "0": yes, "5.0": yes, "5e0": yes, "11": no,
			"-5": unknown, "5.5": unknown, `"5"`: unknown, "null": unknown, "[5]": unknown, "1e-3": unknown,
		} {
			expr := fmt.Sprintf("{match: {path: '%s', op: lte, value: 10}}", path)
			if got := whenSays(t, expr, `{"amount_minor":`+amount+`}`); got != want {
				t.Errorf("%s of %s: got %v, want %v", path, amount, got, want)
			}
		}
	}
	if got := whenSays(t, "{match: {path: $.payload.amount_minor, op: exists}}", `{"amount_minor":-5}`); got != yes {
		t.Errorf("exists of a negative amount: %v", got)
	}
}

// TestBlockedPaths: something that stands in the way is unknown, also to exists.
func TestBlockedPaths(t *testing.T) {
	for payload, want := range map[string]truth{
		`{"a":{"b":1}}`: yes, `{"a":{}}`: no, `{}`: no,
		`{"a":"x"}`: unknown, `{"a":[1]}`: unknown, `{"a":null}`: unknown, `{"A":{"b":1}}`: unknown, `{"a":{"B":1}}`: unknown,
	} {
		if got := whenSays(t, "{match: {path: $.payload.a.b, op: exists}}", payload); got != want {
			t.Errorf("%s: got %v, want %v", payload, got, want)
		}
	}
}

// TestConstraints asks each constraint alone.
func TestConstraints(t *testing.T) {
	for _, c := range []struct {
		constraint string
		payload    string
		party      string
		want       truth
	}{
		{"amount_max: 100", `{"amount_minor":100}`, "", yes},
		{"amount_max: 100", `{"amount_minor":101}`, "", no},
		{"amount_max: 100", `{"amount_minor":0}`, "", yes},
		{"amount_max: 100", `{"amount_minor":1e2}`, "", yes},
		{"amount_max: 100", `{"amount_minor":100.00}`, "", yes},
		{"amount_max: 100", `{"amount_minor":-1}`, "", unknown},
		{"amount_max: 100", `{"amount_minor":99.5}`, "", unknown},
		{"amount_max: 100", `{"amount_minor":"99"}`, "", unknown},
		{"amount_max: 100", `{"amount_minor":null}`, "", unknown},
		{"amount_max: 100", `{"Amount_Minor":99}`, "", unknown},
		{"amount_max: 100", `{}`, "", missing},
		{"amount_min: 100", `{"amount_minor":99}`, "", no},
		{"amount_min: 100", `{"amount_minor":100}`, "", yes},
		{"amount_min: 100", `{"amount_minor":-100}`, "", unknown},
		{"amount_max: 9007199254740992", `{"amount_minor":9007199254740993}`, "", no},
		{"amount_max: 9223372036854775807", `{"amount_minor":1e300}`, "", no},
		{"currency: [EUR, USD]", `{"currency":"USD"}`, "", yes},
		{"currency: [EUR, USD]", `{"currency":"SEK"}`, "", no},
		{"currency: [EUR, USD]", `{"currency":"eur"}`, "", unknown},
		{"currency: [EUR]", `{"currency":978}`, "", unknown},
		{"currency: [EUR]", `{}`, "", missing},
		{"merchant_domain: [a.com]", `{"merchant_domain":"a.com"}`, "", yes},
		{"merchant_domain: [a.com]", `{"merchant_domain":"A.COM."}`, "", yes},
		{"merchant_domain: [A.com.]", `{"merchant_domain":"a.com"}`, "", yes},
		{"merchant_domain: [a.com]", `{"merchant_domain":"b.a.com"}`, "", no},
		{"merchant_domain: [a.com]", `{}`, "a.com", yes},
		{"merchant_domain: [a.com]", `{"merchant_domain":"b.com"}`, "a.com", no},
		{"merchant_domain: [a.com]", `{"domain":"a.com"}`, "", missing},
		{"merchant_domain: [a.com]", `{"merchant_domain":null}`, "a.com", unknown},
		{"allowed_domains: ['*.a.com']", `{"domain":"x.a.com"}`, "", yes},
		{"allowed_domains: ['*.a.com']", `{"domain":"y.X.A.com."}`, "", yes},
		{"allowed_domains: ['*.a.com']", `{"domain":"a.com"}`, "", no},
		{"allowed_domains: ['*.a.com']", `{"domain":"xa.com"}`, "", no},
		{"allowed_domains: ['*.a.com']", `{"domain":".a.com"}`, "", unknown},
		{"allowed_domains: [a.com]", `{"domain":"a.com.evil.com"}`, "", no},
		{"allowed_domains: [a.com]", `{"domain":"a.com:443"}`, "", unknown},
		{"allowed_domains: [a.com]", `{"domain":"x@a.com"}`, "", unknown},
		{"allowed_domains: [a.com]", `{"domain":"https://a.com/"}`, "", unknown},
		{"allowed_domains: [a.com]", `{"domain":"a.com.."}`, "", unknown},
		{"allowed_domains: [a.com]", `{"domain":"a..com"}`, "", unknown},
		{"allowed_domains: [a.com]", `{"domain":" a.com"}`, "", unknown},
		{"allowed_domains: [a.com]", `{"domain":"а.com"}`, "", no}, // a Cyrillic а
		{"allowed_domains: [müller.com]", `{"domain":"XN--MLLER-kva.com."}`, "", yes},
		{"allowed_domains: [xn--mller-kva.com]", `{"domain":"MÜLLER.com"}`, "", yes},
		{"blocked_domains: ['*.müller.com']", `{"domain":"www.mu\u0308ller.com"}`, "", no},
		{"allowed_domains: [k.com]", `{"domain":"\u212a.com"}`, "", unknown},
		{"allowed_domains: [a.com]", `{"domain":""}`, "", unknown},
		{"allowed_domains: [a.com, b.com]", `{"domain":["a.com","B.com"]}`, "", yes},
		{"allowed_domains: [a.com]", `{"domain":["a.com","evil.com"]}`, "", unknown},
		{"allowed_domains: [a.com]", `{"domain":["evil.com"]}`, "", no},
		{"allowed_domains: [a.com]", `{"domain":["a.com",7]}`, "", unknown},
		{"allowed_domains: [a.com]", `{"domain":[["a.com"]]}`, "", unknown},
		{"allowed_domains: [a.com]", `{"domain":[]}`, "a.com", unknown},
		{"blocked_domains: [evil.com]", `{"domain":"a.com"}`, "", yes},
		{"blocked_domains: [evil.com]", `{"domain":"EVIL.com."}`, "", no},
		{"blocked_domains: [evil.com, '*.evil.com']", `{"domain":"x.evil.com"}`, "", no},
		{"blocked_domains: [evil.com]", `{"domain":["a.com","evil.com"]}`, "", unknown},
		{"blocked_domains: [evil.com]", `{"domain":["a.com","b.com"]}`, "", yes},
		{"blocked_domains: [evil.com]", `{"domain":{"x":"evil.com"}}`, "", unknown},
		{"blocked_domains: [evil.com]", `{}`, "evil.com", no},
		{"blocked_domains: [evil.com]", `{}`, "", missing},
	} {
		req := request(t, "pay", c.payload)
		req.RelyingParty.Domain = c.party
		if got := says(t, "constraints: {"+c.constraint+"}", req); got != c.want {
			t.Errorf("%s on %s (%s): got %v, want %v", c.constraint, c.payload, c.party, got, c.want)
		}
	}
}

// unquoted is what stands between the back quotes of a cell.
func unquoted(cell string) string { return strings.Trim(cell, "`") }

func word(t *testing.T, s string) truth {
	t.Helper()
	for _, v := range []truth{no, yes, unknown, missing} {
		if v.String() == s {
			return v
		}
	}
	t.Fatalf("%q is no truth", s)
	return no
}

func whenSays(t *testing.T, when, payload string) truth {
	t.Helper()
	return says(t, "when: "+when, request(t, "pay", payload))
}

// says asks one rule for what its condition is, by both evaluators.
func says(t *testing.T, condition string, req action.Request) truth {
	t.Helper()
	p, err := Parse("p", "p.yaml", []byte("version: 1\ndefault: deny\nrules:\n- {id: r, effect: allow, action: pay, "+condition+"}\n"))
	if err != nil {
		t.Fatalf("%s: %v", condition, err)
	}
	set := Compile([]Binding{{p, OwnerLayer}})
	a := newAsking(set)
	a.begin(&req, Env{})
	fast := a.ask(set.rules[0])
	rest, money := weigh(p.rules[0], document(&req, Env{}))
	if slow := rest.and(money); fast != slow {
		t.Errorf("%s: Decide finds %v, Trace %v", condition, fast, slow)
	}
	return fast
}

func request(t testing.TB, actionType, payload string) action.Request {
	t.Helper()
	v, err := action.Parse([]byte(payload), action.Limits{CaseTwins: true})
	if err != nil {
		t.Fatalf("%s: %v", payload, err)
	}
	return action.Request{ActionType: actionType, AgentID: "bot", Payload: v}
}
