package policy

import (
	"testing"

	"github.com/openleash/openleash-go/action"
)

// What kept a rule from matching is told with what was wanted and what was there, also
// where conditions are joined.
func TestExplainSaysWhatWasThere(t *testing.T) {
	for when, want := range map[string]string{
		"{match: {path: $.payload.a, op: eq, value: x}}":                                                           `want $.payload.a eq "x"; it is "y"`,
		"{any: [{match: {path: $.payload.a, op: eq, value: x}}, {match: {path: $.payload.b, op: gt, value: 5}}]}":  `want $.payload.a eq "x"; it is "y"; or want $.payload.b gt 5; it is not there`,
		"{not: {match: {path: $.payload.a, op: eq, value: y}}}":                                                    `want not $.payload.a eq "y"; it is "y"`,
		"{all: [{match: {path: $.payload.a, op: exists}}, {not: {match: {path: $.payload.c, op: lt, value: 5}}}]}": `want not $.payload.c lt 5; it is "4": a text, not a number`,
		"{any: []}": "any() is false",
	} {
		p, err := Parse("p", "p.yaml", []byte("version: 1\ndefault: deny\nrules: [{id: a, effect: allow, action: x, when: "+when+"}]\n"))
		if err != nil {
			t.Fatal(err)
		}
		payload, err := action.Parse([]byte(`{"a":"y","c":"4"}`), action.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		_, rules := Compile([]Binding{{p, OwnerLayer}}).Explain(&action.Request{ActionType: "x", Payload: payload}, Env{})
		if got := rules[0].Why; got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", when, got, want)
		}
	}
}
