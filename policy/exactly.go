package policy

import (
	"slices"

	"gopkg.in/yaml.v3"

	"github.com/openleash/openleash-go/action"
)

// exactly is `is`: the value, with all that is in it and nothing else. What is of another
// kind is unknown, as with eq.
func (p *parser) exactly(t *test, value *yaml.Node, what string) {
	want := p.data(value, what)
	t.text, t.wants = string(want.Canonical()), kindName(want)
	t.judge = func(v action.Value) truth {
		if v.Kind() != want.Kind() {
			return unknown
		}
		return truthOf(v.Equal(want))
	}
}

// onlyKeys is `keys`: an object that has no other keys than these.
func (p *parser) onlyKeys(t *test, value *yaml.Node, what string) {
	if value.Kind != yaml.SequenceNode {
		p.Errorf(value, "%s: want a list of names ([a, b]), got %s", what, describe(value))
		return
	}
	var names []string
	for _, item := range p.List(value, what) {
		name, _ := p.String(item, what)
		names = append(names, name)
	}
	t.wants = "an object"
	t.judge = func(v action.Value) truth {
		if v.Kind() != action.Object {
			return unknown
		}
		for name := range v.Members() {
			if !slices.Contains(names, name) {
				return no
			}
		}
		return yes
	}
}
