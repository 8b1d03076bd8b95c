package policy

import (
	"slices"
	"testing"
)

// Every deny before which an allow comes is named once, in farther layers and in the
// same; a final one, one that comes earlier, and one in the shadow are not.
func TestOverrides(t *testing.T) {
	const (
		denies = "version: 1\ndefault: deny\nrules:\n  - {id: final, effect: deny, final: true, action: pay}\n  - {id: no-pay, effect: deny, action: pay}\n  - {id: no-mail, effect: deny, action: mail.*}\n"
		open   = "version: 1\ndefault: passthrough\nrules:\n  - {id: all, effect: allow, action: '*'}\n  - {id: again, effect: allow, action: pay}\n"
	)
	for name, tt := range map[string]struct {
		file   string
		text   string
		others map[string]string
		want   []string
	}{
		"an agent's before the owner's": {"agents/bot/x.yaml", open, map[string]string{"o.yaml": denies},
			[]string{`its rule "all" comes before rule "no-pay" of policy "o" and allows what that denies`, `its rule "all" comes before rule "no-mail" of policy "o" and allows what that denies`}},
		"only what both are about": {"agents/bot/x.yaml", "version: 1\ndefault: passthrough\nrules:\n  - {id: m, effect: allow, action: mail.send, obligations: [{type: HUMAN_APPROVAL}]}\n", map[string]string{"o.yaml": denies},
			[]string{`its rule "m" comes before rule "no-mail" of policy "o" and allows what that denies`}},
		"in its own layer, by rank": {"x.yaml", "rank: 5\n" + open, map[string]string{"o.yaml": denies, "p.yaml": "rank: 4\n" + denies},
			[]string{`its rule "all" comes before rule "no-pay" of policy "o" and allows what that denies`, `its rule "all" comes before rule "no-mail" of policy "o" and allows what that denies`}},
		"in its own layer, by name": {"x.yaml", open, map[string]string{"o.yaml": denies}, nil},
		"not of other agents":       {"agents/bot/x.yaml", open, map[string]string{"agents/other/o.yaml": denies}, nil},
		"of its groups":             {"agents/bot/x.yaml", open, map[string]string{"groups/buyers/g.yaml": "version: 1\ndefault: passthrough\nrules: [{id: g, effect: deny, action: pay}]\n"}, []string{`its rule "all" comes before rule "g" of policy "groups/buyers/g" and allows what that denies`}},
		"of a group":                {"groups/buyers/x.yaml", "rank: 1\n" + open, map[string]string{"groups/readers/g.yaml": "version: 1\ndefault: passthrough\nrules: [{id: g, effect: deny, action: pay}]\n"}, []string{`its rule "all" comes before rule "g" of policy "groups/readers/g" and allows what that denies`}},
		"its default":               {"agents/bot/x.yaml", "version: 1\ndefault: allow\nrules: []\n", map[string]string{"o.yaml": denies}, []string{`its default comes before the default of policy "o" and lets through what that denies`}},
		"its default, before none":  {"x.yaml", "version: 1\ndefault: require_approval\nrules: []\n", nil, []string{`its default lets through what no rule is about, which is denied now`}},
		"its default, after one":    {"x.yaml", "version: 1\ndefault: allow\nrules: []\n", map[string]string{"a.yaml": "version: 1\ndefault: deny\nrules: []\n", "z.yaml": denies}, nil},
		"its default, like another": {"x.yaml", "version: 1\ndefault: allow\nrules: []\n", map[string]string{"z.yaml": "version: 1\ndefault: require_approval\nrules: []\n"}, nil},
		"in the shadow":             {"agents/bot/x.yaml", "mode: shadow\n" + open, map[string]string{"o.yaml": denies}, nil},
		"what is in the shadow":     {"agents/bot/x.yaml", open, map[string]string{"o.yaml": "mode: shadow\n" + denies}, nil},
		"a deny":                    {"agents/bot/x.yaml", denies, map[string]string{"o.yaml": denies}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			sources := []Source{{tt.file, tt.text}}
			for file, text := range tt.others {
				sources = append(sources, Source{file, text})
			}
			b, err := NewBook("", sources, Groups{"buyers": {"bot"}, "readers": {"bot"}})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, o := range b.Overrides(tt.file) {
				got = append(got, o.String())
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	if b, err := NewBook("", nil, nil); err != nil || b.Overrides("none.yaml") != nil {
		t.Error("a policy that is not there comes before something")
	}
}
