package policy

import (
	"strings"
	"testing"

	"github.com/openleash/openleash-go/action"
)

// What `is` and `keys` are true of, and of nothing beside.
func TestExactly(t *testing.T) {
	const want = `{to: [ann, bob], n: 1.10, "": {x: null}, "a b": true}`
	for _, tt := range []struct {
		op, value, payload string
		want               Outcome
	}{
		{"is", want, `{"a b":true,"":{"x":null},"n":1.1,"to":["ann","bob"]}`, Allow},
		{"is", want, `{"a b":true,"":{"x":null},"n":1.1,"to":["bob","ann"]}`, Deny},
		{"is", want, `{"a b":true,"":{"x":null},"n":1.1,"to":["ann","bob","eve"]}`, Deny},
		{"is", want, `{"a b":true,"":{"x":null},"n":1.1,"to":["ann","bob"],"bcc":"eve"}`, Deny},
		{"is", want, `{"a b":true,"":{},"n":1.1,"to":["ann","bob"]}`, Deny},
		{"is", want, `{"a b":true,"":{"x":null},"N":1.1,"to":["ann","bob"]}`, Deny},
		{"is", "{}", `{}`, Allow},
		{"is", "{}", `{"a":1}`, Deny},
		{"keys", "[a, b]", `{"a":1,"b":2}`, Allow},
		{"keys", "[a, b]", `{"b":2}`, Allow},
		{"keys", "[a, b]", `{}`, Allow},
		{"keys", "[a, b]", `{"a":1,"B":2}`, Deny},
		{"keys", "[a, b]", `{"a":1,"b":2,"c":3}`, Deny},
		{"keys", "[]", `{}`, Allow},
		{"keys", "[]", `{"":1}`, Deny},
	} {
		p, err := Parse("p", "p.yaml", []byte("version: 1\ndefault: deny\nrules: [{id: r, effect: allow, action: a, when: {match: {path: $.payload, op: "+tt.op+", value: "+tt.value+"}}}]\n"))
		if err != nil {
			t.Fatal(err)
		}
		payload, err := action.Parse([]byte(tt.payload), action.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		set := Compile([]Binding{{p, OwnerLayer}})
		if got := set.Decide(&action.Request{ActionType: "a", Payload: payload}, Env{}).Outcome; got != tt.want {
			t.Errorf("%s %s of %s: want %s, got %s", tt.op, tt.value, tt.payload, tt.want, got)
		}
	}
	for value, want := range map[string]string{"{op: keys, value: a}": "want a list of names", "{op: keys, value: [1]}": "want text", "{op: is}": "is needs a value", "{op: is, value: 0500}": "plain decimal number"} {
		_, err := Parse("p", "p.yaml", []byte("version: 1\ndefault: deny\nrules: [{id: r, effect: allow, action: a, when: {match: {path: $.payload, "+value[1:]+"}}]\n"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: want %q, got %v", value, want, err)
		}
	}
}

// Lists that differ in their order are not the same test.
func TestExactlyIsNoSet(t *testing.T) {
	text := func(value string) string {
		p, err := Parse("p", "p.yaml", []byte("version: 1\ndefault: deny\nrules: [{id: r, effect: allow, action: a, when: {match: {path: $.payload.a, op: is, value: "+value+"}}}]\n"))
		if err != nil {
			t.Fatal(err)
		}
		return p.rules[0].when.test.text
	}
	if text("[a, b]") == text("[b, a]") || text("{a: 1, b: 2}") != text(`{"b": 2, 'a': 1.0}`) {
		t.Error(text("[a, b]"), text("[b, a]"), text("{a: 1, b: 2}"))
	}
}
