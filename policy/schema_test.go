package policy_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/rogpeppe/go-internal/txtar"
	"gopkg.in/yaml.v3"

	"github.com/openleash/openleash-go/policy"
)

func schema(t *testing.T) *jsonschema.Resolved {
	t.Helper()
	raw, err := policy.Schema()
	if err != nil {
		t.Fatal(err)
	}
	var s jsonschema.Schema
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	r, err := s.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// fits tells what the schema says of a policy.
func fits(t *testing.T, s *jsonschema.Resolved, src string) error {
	t.Helper()
	var doc any
	if err := yaml.Unmarshal([]byte(src), &doc); err != nil {
		return err
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	var plain any
	if err := json.Unmarshal(raw, &plain); err != nil {
		t.Fatal(err)
	}
	return s.Validate(plain)
}

// What the parser takes the schema takes: every policy of the tests and all that
// are shipped.
func TestSchemaTakesWhatParseTakes(t *testing.T) {
	s, n := schema(t), 0
	check := func(name, src string) {
		if _, err := policy.Parse("p", name, []byte(src)); err != nil {
			return
		}
		n++
		if err := fits(t, s, src); err != nil {
			t.Errorf("%s is valid, but not by the schema: %v\n%s", name, err, src)
		}
	}
	files, _ := filepath.Glob("../configs/policies/*.yaml")
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		check(file, string(src))
	}
	cases, _ := filepath.Glob("testdata/*/*.txtar")
	for _, file := range cases {
		a, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range a.Files {
			if strings.HasSuffix(f.Name, ".yaml") {
				check(file+": "+f.Name, string(f.Data))
			}
		}
	}
	if n < 50 {
		t.Errorf("only %d policies were looked at", n)
	}
}

// What the schema can know it refuses as the parser does.
func TestSchemaRefuses(t *testing.T) {
	const good = "version: 1\napplies_to: {agent: bot.1}\nrank: 5\ndefault: deny\nrules: [{id: a, effect: allow, action: x.*, when: {not: {match: {path: $.payload.n, op: in, value: [1]}}}, constraints: {amount_max: 5, currency: [EUR]}, requirements: {min_assurance_level: LOW}, obligations: [{type: HUMAN_APPROVAL, params: {n: 1}, note: x}], proof: {required: false, ttl_seconds: 60}, limits: [{id: own, count: true, max: 3, window: 30m}]}]\nlimits: [{id: day, action: y, sum: $.payload.n, currency: CHF, max: 5000, per: [vendor], window: week, timezone: UTC, over: require_approval, on_error: release, reserve_on_hold: true, explain: minimal}]\nlog: [{action: q.*, arguments: hash}, {action: r, mask: ['$.payload.to[*]']}]\n"
	s := schema(t)
	if err := fits(t, s, good); err != nil {
		t.Fatal(err)
	}
	for _, whom := range []string{"owner", "{group: g}"} {
		if err := fits(t, s, strings.Replace(good, "{agent: bot.1}", whom, 1)); err != nil {
			t.Errorf("%s: %v", whom, err)
		}
	}
	for _, tc := range []struct{ from, to string }{
		{"version: 1", "version: 2"},
		{"version: 1\n", ""},
		{"{agent: bot.1}", "{agent: bot, group: g}"},
		{"{agent: bot.1}", "{}"},
		{"{agent: bot.1}", "bot"},
		{"{agent: bot.1}", "[owner]"},
		{"{agent: bot.1}", "{owner: bot}"},
		{"{agent: bot.1}", "{group: 5}"},
		{"bot.1", "'a bot'"},
		{"rank: 5", "rank: -5"},
		{"rank: 5", "rank: 1000001"},
		{"rank: 5", "rank: first"},
		{"default: deny", "default: reject"},
		{"default: deny", "defalt: deny"},
		{"id: a, ", ""},
		{"id: a", `id: ""`},
		{"effect: allow", "effect: permit"},
		{"x.*", "x*"},
		{"x.*", "'*.x'"},
		{"path: $.payload.n", "path: payload.n"},
		{"op: in", "op: within"},
		{"not: {", "not: {all: [], "},
		{"not: {match: {path: $.payload.n, op: in, value: [1]}}", ""},
		{"amount_max: 5", "amount_max: 5.5"},
		{"amount_max: 5", `amount_max: "5"`},
		{"amount_max: 5", "amount_max: -5"},
		{"[EUR]", "[]"},
		{"[EUR]", "EUR"},
		{"currency:", "currancy:"},
		{"LOW", "low"},
		{"HUMAN_APPROVAL", "HUMAN"},
		{"type: HUMAN_APPROVAL, ", ""},
		{"ttl_seconds: 60", "ttl_seconds: 0"},
		{"ttl_seconds: 60", "ttl_seconds: 3601"},
		{"required: false", "required: null"},
		{"id: own", "id: 'own one'"},
		{"id: own, ", ""},
		{"count: true", "count: false"},
		{"count: true, ", ""},
		{"count: true", "count: true, sum: $.payload.n"},
		{"count: true", "count: true, action: z"},
		{"max: 3", "max: -3"},
		{"max: 3", "max: 9007199254740992"},
		{"max: 3, ", ""},
		{"30m", "30s"},
		{"30m", "30m, timezone: UTC"},
		{", timezone: UTC", ""},
		{"action: y", "action: 'y*'"},
		{"sum: $.payload.n", "sum: payload.n"},
		{"CHF", "chf"},
		{"[vendor]", "[]"},
		{"[vendor]", "[shop]"},
		{"over: require_approval", "over: allow"},
		{"on_error: release", "on_error: keep"},
		{"explain: minimal", "explain: nothing"},
		{"arguments: hash", "arguments: whole"},
		{", arguments: hash", ""},
		{"arguments: hash", "arguments: hash, mask: [$.payload.to]"},
		{"action: q.*, ", ""},
		{"q.*", "q*"},
		{"['$.payload.to[*]']", "[]"},
		{"'$.payload.to[*]'", "$.payloads"},
		{"'$.payload.to[*]'", "$.tool.name"},
		{"'$.payload.to[*]'", "$.relying_party.name"},
		{"mask: [", "masks: ["},
	} {
		src := strings.Replace(good, tc.from, tc.to, 1)
		if src == good {
			t.Errorf("%q does not stand there", tc.from)
		}
		if _, err := policy.Parse("p", "p.yaml", []byte(src)); err == nil {
			t.Errorf("%q for %q: the parser takes it", tc.to, tc.from)
		}
		if fits(t, s, src) == nil {
			t.Errorf("%q for %q: the schema takes it", tc.to, tc.from)
		}
	}
}

// Everything that can be written is explained.
func TestSchemaDescribesAll(t *testing.T) {
	raw, err := policy.Schema()
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	var look func(at string, v any)
	look = func(at string, v any) {
		switch v := v.(type) {
		case []any:
			for _, item := range v {
				look(at, item)
			}
		case map[string]any:
			properties, _ := v["properties"].(map[string]any)
			for name, p := range properties {
				if text, _ := p.(map[string]any)["description"].(string); text == "" {
					t.Errorf("%s.%s is not explained", at, name)
				}
			}
			for key, sub := range v {
				look(at+"."+key, sub)
			}
		}
	}
	look("$", doc)
}
