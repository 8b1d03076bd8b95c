package policy_test

import (
	"strings"
	"testing"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/policy"
)

const recordingHead = "version: 1\ndefault: passthrough\nrules: []\n"

func recordingBook(t *testing.T, texts map[string]string) *policy.Book {
	t.Helper()
	var sources []policy.Source
	for name, text := range texts {
		sources = append(sources, policy.Source{Name: name, Text: recordingHead + text})
	}
	b, err := policy.NewBook("policies", sources, policy.Groups{"staff": {"ann"}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func masksOf(r policy.Recording) string {
	var texts []string
	for _, m := range r.Masks {
		texts = append(texts, m.String())
	}
	return strings.Join(texts, " ")
}

// All files that bind the agent count together, also one in the shadow; the entries
// that are about other actions do not.
func TestRecordingOfAllPolicies(t *testing.T) {
	b := recordingBook(t, map[string]string{
		"owner.yaml":      "log: [{action: mail.*, mask: [$.payload.a, '$.payload.b[*]']}, {action: pay, arguments: hash}]\n",
		"group.yaml":      "applies_to: {group: staff}\nlog: [{action: mail.send, mask: [$.relying_party.domain]}]\n",
		"agent.yaml":      "applies_to: {agent: ann}\nlog: [{action: mail.drop, arguments: hash}]\n",
		"shadow.yaml":     "mode: shadow\nlog: [{action: '*', mask: [$.payload.c]}]\n",
		"agents/x/y.yaml": "log: [{action: '*', arguments: hash}]\n",
	})
	for _, tc := range []struct {
		agent, kind string
		hash        bool
		masks       string
	}{
		{"ann", "mail.send", false, "$.relying_party.domain $.payload.a $.payload.b[*] $.payload.c"},
		{"ann", "mail.drop", true, "$.payload.a $.payload.b[*] $.payload.c"},
		{"bob", "mail.send", false, "$.payload.a $.payload.b[*] $.payload.c"},
		{"bob", "mailer", false, "$.payload.c"},
		{"bob", "pay", true, "$.payload.c"},
		{"bob", "pay.now", false, "$.payload.c"},
		{"x", "mailer", true, "$.payload.c"},
	} {
		if r := b.For(tc.agent).Recording(tc.kind); r.Hash != tc.hash || masksOf(r) != tc.masks || r.None() {
			t.Errorf("%s, %s: hash %v, masks %s; want %v, %s", tc.agent, tc.kind, r.Hash, masksOf(r), tc.hash, tc.masks)
		}
	}
	if r := b.For("bob").AnyRecording(); !r.Hash || masksOf(r) != "$.payload.a $.payload.b[*] $.payload.c" {
		t.Errorf("of any action: %+v", r)
	}
	if r := recordingBook(t, map[string]string{"a.yaml": ""}).For("ann").Recording("x"); !r.None() {
		t.Errorf("without log: %+v", r)
	}
}

func TestRecordingTouches(t *testing.T) {
	set := recordingBook(t, map[string]string{"a.yaml": "log: [{action: m, mask: ['$.payload.arguments.to[*].name', $.payload.n]}, {action: h, arguments: hash}]\n"}).For("ann")
	for path, want := range map[string]bool{
		"$.payload":                        true,
		"$.payload.arguments":              true,
		"$.payload.arguments.to":           true,
		"$.payload.arguments.TO[3]":        true,
		"$.payload.arguments.to[3].name.x": true,
		"$.payload.arguments.to[3].named":  false,
		"$.payload.arguments.to.name":      false,
		"$.payload.arguments.cc":           false,
		"$.payload.n":                      true,
		"$.relying_party.domain":           false,
		"$.action_type":                    false,
	} {
		p, err := action.ParsePath(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := set.Recording("m").Touches(p); got != want {
			t.Errorf("masks: %s: %v", path, got)
		}
		inRequest := !strings.HasPrefix(path, "$.action_type")
		if got := set.Recording("h").Touches(p); got != inRequest {
			t.Errorf("hash: %s: %v", path, got)
		}
	}
}

// Where the reason has something of the request, it is there without that too.
func TestReasonWithoutValues(t *testing.T) {
	b, err := policy.NewBook("policies", []policy.Source{{Name: "a.yaml", Text: `version: 1
default: deny
rules:
  - {id: small, effect: allow, action: buy, constraints: {amount_max: 100}}
  - {id: odd, effect: allow, action: buy, when: {match: {path: $.payload.note, op: lt, value: 3}}}
  - {id: x, effect: allow, action: x}
limits: [{id: l, action: x, sum: $.payload.n, max: 5, per: [$.payload.to], window: 1h}]
`}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	decide := func(kind, payload string) policy.Decision {
		v, err := action.Parse([]byte(payload), action.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		return b.For("ann").Decide(&action.Request{ActionType: kind, Payload: v}, policy.Env{})
	}
	d := decide("buy", `{"amount_minor":31337,"note":"zebra"}`)
	if !strings.Contains(d.Reason, "31337") || d.Plain != `No rule matches; policy "a" denies the rest. Nearest is rule "small", but for the amount. Could not be judged: policy "a", rule "odd": $.payload.note is a text, want a number.` {
		t.Errorf("%s\n%s", d.Reason, d.Plain)
	}
	if d = decide("buy", `{"amount_minor":3}`); d.Plain != "" || d.Told() != nil {
		t.Errorf("allowed: %q, %v", d.Plain, d.Told())
	}
	d = decide("x", `{"n":31337,"to":"zebra"}`)
	l := d.Within([]policy.LimitState{{Limit: "a/l", Key: d.Charges[0].Key}})
	if !strings.Contains(l.Reason, "31337") || !strings.Contains(l.Reason, "zebra") || l.Plain != "Limit a/l does not allow it." {
		t.Errorf("%s\n%s", l.Reason, l.Plain)
	}
	var told []string
	for _, p := range l.Told() {
		told = append(told, p.String())
	}
	if strings.Join(told, " ") != "$.payload.n $.payload.currency $.payload.to $.payload.amount_minor" {
		t.Errorf("told: %v", told)
	}
}
