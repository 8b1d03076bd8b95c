package policy

import (
	"gopkg.in/yaml.v3"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/internal/strictyaml"
)

// A matcher is a list of patterns for what has a name that can be written in more
// than one way. It is true of a text that leads, without doubt, to what a pattern
// names; false of one that cannot; unknown of one that is read now this way, now
// that, or that another reading would take to it.
type matcher interface {
	add(pattern string) error
	judge(text string) truth
	// gaps tells what the patterns leave out though who wrote them may mean it.
	gaps() []string
}

// matchers are, by operator, what makes them, and what they want to read.
var matchers = map[string]struct {
	make  func() matcher
	wants string
}{
	"domain": {func() matcher { return &domains{} }, "a domain, or a list of them that are all on one side"},
	"email":  {func() matcher { return &addresses{} }, "a plain address, or a list of them that are all on one side"},
	"url":    {func() matcher { return &urls{} }, "a URL that all programs read the same, or a list of them that are all on one side"},
	"file":   {func() matcher { return &files{} }, "an absolute path that all programs read the same, or a list of them that are all on one side"},
}

// named makes t ask a matcher, of a pattern or a list of them.
func (p *parser) named(t *test, op string, value *yaml.Node, what string) {
	m := matchers[op].make()
	items := []*yaml.Node{value}
	if value.Kind == yaml.SequenceNode {
		if items = p.List(value, what); len(items) == 0 {
			p.Errorf(value, "%s: the list is empty", what)
		}
	}
	for _, item := range items {
		text, ok := p.String(item, what)
		if !ok {
			continue
		}
		if err := m.add(text); err != nil {
			p.Errorf(item, "%s: %v", what, err)
		}
	}
	t.judge, t.wants, t.narrow = judgeTexts(m.judge), matchers[op].wants, p.gaps(m, value, what)
}

// gaps makes warnings of what patterns leave out.
func (p *parser) gaps(m matcher, n *yaml.Node, what string) (list []strictyaml.Error) {
	for _, gap := range m.gaps() {
		list = append(list, p.At(n, "%s: %s", what, gap))
	}
	return list
}

// judgeTexts judges a text, or a list of texts as a whole. An empty list says
// nothing that could be judged.
func judgeTexts(judge func(string) truth) func(action.Value) truth {
	one := func(v action.Value) truth {
		if v.Kind() != action.String {
			return unknown
		}
		return judge(v.Text())
	}
	return func(v action.Value) truth {
		if v.Kind() == action.Array {
			return unanimous(v, unknown, one)
		}
		return one(v)
	}
}
