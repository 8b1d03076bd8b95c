package policy

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func warningsIn(t *testing.T, rules string) string {
	t.Helper()
	p, err := Parse("p", "p.yaml", []byte(rules))
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, w := range p.Warnings {
		list = append(list, w.Error())
	}
	return strings.Join(list, "\n")
}

// Each case is a policy without its version, and a part of each warning; none is none.
func TestLint(t *testing.T) {
	for _, tc := range []struct {
		name, policy string
		want         []string
	}{
		{"an amount of any currency", "default: deny\nrules:\n- {id: a, effect: allow, action: x, constraints: {amount_max: 5}}", []string{"4:63: rule \"a\": amount_max without currency"}},
		{"of one", "default: deny\nrules:\n- {id: a, effect: allow, action: x, constraints: {amount_max: 5, currency: [EUR]}}", nil},
		{"of one, by a condition", "default: deny\nrules:\n- {id: a, effect: allow, action: x, constraints: {amount_max: 5}, when: {match: {path: $.payload.currency, op: eq, value: EUR}}}", nil},
		{"a deny of an amount", "default: deny\nrules:\n- {id: a, effect: deny, action: x, constraints: {amount_max: 5}}", nil},
		{"all domains but some", "default: deny\nrules:\n- {id: a, effect: allow, action: x, constraints: {blocked_domains: [b.example, '*.b.example']}}", []string{"allows every domain but those listed"}},
		{"and only some", "default: deny\nrules:\n- {id: a, effect: allow, action: x, constraints: {blocked_domains: [b.example, '*.b.example'], allowed_domains: [a.example]}}", nil},

		{"a domain by its letters", only("deny", "{path: $.relying_party.domain, op: eq, value: b.example}"), []string{`4:96: rule "a": when: eq compares letter by letter, and this can be written otherwise (another case, a dot at the end): use op: domain`}},
		{"an address", only("deny", "{path: '$.payload.to[*]', op: in, value: [x, ann@b.example]}"), []string{"4:95: rule \"a\": when: in compares letter by letter, and this can be written otherwise (another case, +tag, a name before it): use op: email"}},
		{"a URL", only("deny", "{path: $.payload.n, op: eq, value: 'https://b.example/'}"), []string{"use op: url"}},
		{"a path", only("deny", "{path: $.payload.n, op: eq, value: /etc/passwd}"), []string{"use op: file"}},
		{"a path by its name", only("deny", `{path: '$.payload["file_path"]', op: regex, value: '[.]sh$'}`), []string{"use op: file"}},
		{"a domain by its name", only("deny", `{path: $.payload.host, op: regex, value: evil}`), []string{"use op: domain"}},
		{"an address by its name", only("deny", `{path: $.payload.recipients, op: regex, value: evil}`), []string{"use op: email"}},
		{"a URL by its name", only("deny", `{path: $.payload.page_url, op: regex, value: evil}`), []string{"use op: url"}},
		{"no name of any kind", only("deny", `{path: $.payload.branch, op: in, value: [main, /start, notes.md, "a@b"]}`), nil},
		{"a profile is no file", only("deny", `{path: $.tool.profile, op: regex, value: x}`), nil},
		{"a number that stands by a path", only("deny", `{path: $.payload.path, op: eq, value: 5}`), nil},
		{"an order", only("deny", `{path: $.payload.path, op: lt, value: 5}`), nil},
		{"a path that is allowed only so", only("allow", "{path: $.payload.n, op: eq, value: /etc/passwd}"), nil},
		{"all but one", only("allow", "{path: $.payload.n, op: neq, value: /etc/passwd}"), []string{"use op: file"}},
		{"all but some, by not", "default: deny\nrules:\n- {id: a, effect: allow, action: x, when: {not: {any: [{match: {path: $.payload.n, op: in, value: [/etc/passwd]}}]}}}", []string{"use op: file"}},
		{"a deny of all but one", only("deny", "{path: $.payload.n, op: neq, value: /etc/passwd}"), nil},

		{"a domain without those below it", only("deny", "{path: $.payload.n, op: domain, value: [b.example, c.example, '*.c.example', 127.0.0.1]}"), []string{`rule "a": when: domain: names below b.example (www.b.example) are not in it: add "*.b.example"`}},
		{"a domain that is covered from above", only("deny", "{path: $.payload.n, op: domain, value: [a.b.example, '*.b.example']}"), nil},
		{"allowed so", only("allow", "{path: $.payload.n, op: domain, value: b.example}"), nil},
		{"in a constraint", "default: deny\nrules:\n- {id: a, effect: deny, action: x, constraints: {merchant_domain: [b.example]}}", []string{`rule "a": merchant_domain: names below b.example`}},
		{"in a constraint of an allow", "default: deny\nrules:\n- {id: a, effect: allow, action: x, constraints: {merchant_domain: [b.example]}}", nil},
		{"all addresses of a domain", only("deny", "{path: $.payload.n, op: email, value: ['*@b.example', ann@c.example]}"), []string{`email: names below b.example`}},
		{"and below it", only("deny", "{path: $.payload.n, op: email, value: ['*@b.example', '*@*.b.example']}"), nil},
		{"URLs of one scheme", only("deny", "{path: $.payload.n, op: url, value: 'https://127.0.0.1:*/**'}"), []string{`url: the same host answers by other schemes and ports, which are not in it: write *://HOST:*/… for all of them`}},
		{"URLs of one port", only("deny", "{path: $.payload.n, op: url, value: '*://[::1]/**'}"), []string{`url: the same host answers`}},
		{"URLs of a host and none below", only("deny", "{path: $.payload.n, op: url, value: '*://b.example:*/**'}"), []string{`url: names below b.example`}},
		{"URLs of all that a host is", only("deny", "{path: $.payload.n, op: url, value: ['*://b.example:*/**', '*://*.b.example:*/**']}"), nil},
		{"a bracket", only("deny", "{path: $.payload.n, op: file, value: '/a/[bc]'}"), []string{`file: [ stands for itself`}},

		{"after one that takes all", "default: deny\nrules:\n- {id: a, effect: deny, action: x.*}\n- {id: b, effect: allow, action: x.y}\n- {id: c, effect: allow, action: y}",
			[]string{`5:8: rule "b" can never decide: rule "a" on line 4 takes all that it matches`}},
		{"before it", "default: deny\nrules:\n- {id: b, effect: allow, action: x.y}\n- {id: a, effect: deny, action: x.*}", nil},
		{"a narrower amount", "default: deny\nrules:\n- {id: a, effect: allow, action: x, constraints: {amount_max: 9, currency: [EUR, USD]}}\n- {id: b, effect: allow, action: x, constraints: {amount_max: 8, currency: [USD, EUR]}}", []string{`"b" can never decide`}},
		{"a wider amount", "default: deny\nrules:\n- {id: a, effect: allow, action: x, constraints: {amount_max: 9, currency: [EUR]}}\n- {id: b, effect: allow, action: x, constraints: {amount_max: 10, currency: [EUR]}}", nil},
		{"another currency", "default: deny\nrules:\n- {id: a, effect: allow, action: x, constraints: {amount_max: 9, currency: [EUR]}}\n- {id: b, effect: allow, action: x, constraints: {amount_max: 8, currency: [USD]}}", nil},
		{"the same condition and more", "default: deny\nrules:\n- {id: a, effect: allow, action: x, when: {match: {path: $.payload.n, op: in, value: [1, 2]}}}\n- {id: b, effect: allow, action: x, when: {all: [{match: {path: $.payload.m, op: exists}}, {match: {path: $.payload.n, op: in, value: [2, 1]}}]}}", []string{`"b" can never decide`}},
		{"a text is not a number", "default: deny\nrules:\n- {id: a, effect: allow, action: x, when: {match: {path: $.payload.n, op: eq, value: 1}}}\n- {id: b, effect: allow, action: x, when: {match: {path: $.payload.n, op: eq, value: \"1\"}}}", nil},
		{"a deny matches what cannot be judged, too", "default: deny\nrules:\n- {id: a, effect: allow, action: x, when: {match: {path: $.payload.n, op: exists}}}\n- {id: b, effect: deny, action: x, when: {match: {path: $.payload.n, op: exists}}}", nil},
		{"a final deny is asked first", "default: deny\nrules:\n- {id: a, effect: allow, action: x}\n- {id: b, effect: deny, action: x, final: true}", []string{`4:8: rule "a" can never decide: rule "b" on line 5`}},

		{"a deny that is dodged, by default", "default: allow\nrules:\n- {id: a, effect: deny, action: x, constraints: {merchant_domain: [b.example, '*.b.example']}}", []string{`rule "a" does not match when $.payload.merchant_domain is missing, and then the default allows`}},
		{"by a rule", "default: deny\nrules:\n- {id: a, effect: deny, action: x, when: {match: {path: $.payload.n, op: gt, value: 1}}}\n- {id: b, effect: allow, action: x, when: {match: {path: $.payload.m, op: exists}}}", []string{`$.payload.n is missing, and then rule "b" allows`}},
		{"by an item that lacks it", "default: allow\nrules:\n- {id: a, effect: deny, action: x, when: {match: {path: '$.payload.a[*].n', op: gt, value: 1}}}", []string{`rule "a" does not match when $.payload.a[*].n is missing, and then the default allows: to deny that too, add to the condition any: [{match: …}, {not: {match: {path: '$.payload.a[*].n', op: exists}}}]`}},
		{"unless that is denied", "default: allow\nrules:\n- {id: a, effect: deny, action: x, when: {any: [{match: {path: '$.payload.a[*].n', op: gt, value: 1}}, {not: {match: {path: '$.payload.a[*].n', op: exists}}}]}}", nil},
		{"by a final one", "default: deny\nrules:\n- {id: b, effect: allow, action: x.y}\n- {id: a, effect: deny, action: x.*, final: true, when: {match: {path: $.payload.n, op: gt, value: 1}}}", []string{`then rule "b" allows`}},
		{"not where the allow needs it as well", "default: deny\nrules:\n- {id: a, effect: deny, action: x, when: {match: {path: $.payload.n, op: gt, value: 1}}}\n- {id: b, effect: allow, action: x, when: {match: {path: $.payload.n, op: lt, value: 0}}}", nil},
		{"nor where a person is asked", "default: require_approval\nrules:\n- {id: a, effect: deny, action: x, when: {match: {path: $.payload.n, op: gt, value: 1}}}\n- {id: b, effect: allow, action: x, obligations: [{type: HUMAN_APPROVAL}]}", nil},
		{"nor where it denies the missing, too", "default: allow\nrules:\n- {id: a, effect: deny, action: x, when: {any: [{match: {path: $.payload.n, op: gt, value: 1}}, {not: {match: {path: $.payload.n, op: exists}}}]}}", nil},
		{"nor where another deny takes it", "default: allow\nrules:\n- {id: a, effect: deny, action: x, when: {match: {path: $.payload.n, op: gt, value: 1}}}\n- {id: b, effect: deny, action: x}", nil},
		{"nor by a rule about other tools", "default: deny\nrules:\n- {id: a, effect: deny, action: x, when: {match: {path: $.payload.n, op: gt, value: 1}}}\n- {id: b, effect: allow, action: '*', when: {match: {path: $.tool.reads, op: eq, value: true}}}", nil},
		{"what every request has is not missing", "default: allow\nrules:\n- {id: a, effect: deny, action: x, when: {match: {path: $.principal.agent_id, op: eq, value: bot}}}", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := warningsIn(t, "version: 1\n"+tc.policy)
			if n := strings.Count(got, "\n") + 1; got != "" && n != len(tc.want) || got == "" && len(tc.want) > 0 {
				t.Fatalf("got %q, want %q", got, tc.want)
			}
			for _, want := range tc.want {
				if !strings.Contains(got, want) {
					t.Errorf("got %q, want %q in it", got, want)
				}
			}
		})
	}
}

// only is a policy of one rule with one match; whatever is missing is denied.
func only(effect, match string) string {
	return "default: deny\nrules:\n- {id: a, effect: " + effect + ", action: x, when: {match: " + match + "}}"
}

// warningsOf are a book's, without the folder.
func warningsOf(t *testing.T, groups Groups, sources ...Source) (list []string) {
	t.Helper()
	b, err := NewBook("/p", sources, groups)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range b.Warnings() {
		list = append(list, strings.TrimPrefix(filepath.ToSlash(w.Error()), "/p/"))
	}
	return list
}

func TestLintLayers(t *testing.T) {
	got := warningsOf(t, nil,
		Source{"all.yaml", "version: 1\ndefault: deny\nrules:\n- {id: no-mail, effect: deny, action: mail.*}\n- {id: no-shop, effect: deny, final: true, action: purchase}\n"},
		Source{"agents/bot/own.yaml", "version: 1\ndefault: passthrough\nrules:\n- {id: mail, effect: allow, action: mail.send}\n- {id: shop, effect: allow, action: purchase}\n- {id: read, effect: allow, action: file.read}\n"},
	)
	want := []string{`agents/bot/own.yaml:4:8: rule "mail" comes before rule "no-mail" of policy "all" and allows what that denies: an agent's own policies are asked first. If the deny must hold, make it final`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestLintGroups: allows of nearer layers over denies of farther ones, for those
// who are bound by both, and policies of groups that are not there.
func TestLintGroups(t *testing.T) {
	rule := func(effect string, header ...string) string {
		return "version: 1\n" + strings.Join(append(header, ""), "\n") + "default: passthrough\nrules: [{id: " + effect + ", effect: " + effect + ", action: a}]\n"
	}
	const own, group = "an agent's own policies are asked first", "a group's policies are asked before the owner's"
	over := func(file, other, why string) string {
		return file + `.yaml:3:14: rule "allow" comes before rule "deny" of policy "` + other + `" and allows what that denies: ` + why + ". If the deny must hold, make it final"
	}
	shared := func(agent string) string {
		return `agent "` + agent + `" is in both groups, of whose policies the one of the lower rank is asked first, then by the groups' names`
	}
	ranked := func(s string) string { return strings.Replace(s, ":3:14:", ":4:14:", 1) }
	for _, tc := range []struct {
		name    string
		groups  Groups
		sources []Source
		want    []string
	}{
		{"an agent over its group", Groups{"g": {"bot"}, "h": {"cat"}}, []Source{{"agents/bot/a.yaml", rule("allow")}, {"groups/g/g.yaml", rule("deny")}, {"groups/h/h.yaml", rule("deny")}},
			[]string{over("agents/bot/a", "groups/g/g", own)}},
		{"a group over the owner", Groups{"g": {"bot"}}, []Source{{"groups/g/g.yaml", rule("allow")}, {"o.yaml", rule("deny")}}, []string{over("groups/g/g", "o", group)}},
		{"whoever is in it", nil, []Source{{"groups/g/g.yaml", rule("allow")}, {"o.yaml", rule("deny")}}, []string{over("groups/g/g", "o", group)}},
		{"not the other way round", Groups{"g": {"bot"}}, []Source{{"groups/g/g.yaml", rule("deny")}, {"o.yaml", rule("allow")}, {"agents/bot/a.yaml", rule("deny")}}, nil},
		{"the layer comes before the rank", Groups{"g": {"bot"}}, []Source{{"groups/g/g.yaml", rule("allow", "rank: 1000")}, {"o.yaml", rule("deny", "rank: 0")}}, []string{ranked(over("groups/g/g", "o", group))}},
		{"two groups of an agent", Groups{"g": {"bot", "cat"}, "h": {"bot", "cat"}}, []Source{{"groups/g/g.yaml", rule("allow")}, {"groups/h/h.yaml", rule("deny")}}, []string{over("groups/g/g", "groups/h/h", shared("bot"))}},
		{"by their names", Groups{"g": {"bot"}, "h": {"bot"}}, []Source{{"groups/h/h.yaml", rule("allow")}, {"groups/g/g.yaml", rule("deny")}}, nil},
		{"by their ranks", Groups{"g": {"bot"}, "h": {"bot"}}, []Source{{"groups/h/h.yaml", rule("allow", "rank: 99")}, {"groups/g/g.yaml", rule("deny")}}, []string{ranked(over("groups/h/h", "groups/g/g", shared("bot")))}},
		{"groups without an agent in both", Groups{"g": {"bot"}, "h": {"cat"}}, []Source{{"groups/g/g.yaml", rule("allow")}, {"groups/h/h.yaml", rule("deny")}}, nil},
		{"within a group the order is its owner's", Groups{"g": {"bot"}}, []Source{{"groups/g/a.yaml", rule("allow")}, {"groups/g/b.yaml", rule("deny")}}, nil},
		{"no such group", Groups{"buyers": {"bot"}}, []Source{{"groups/buyer/g.yaml", rule("deny")}, {"x.yaml", rule("deny", "applies_to: {group: sellers}")}}, []string{
			`groups/buyer/g.yaml:1:1: the configuration names no group "buyer" (did you mean "buyers"?), so this policy binds nobody: add it under groups`,
			`x.yaml:2:13: the configuration names no group "sellers", so this policy binds nobody: add it under groups`}},
		{"no group at all", Groups{}, []Source{{"groups/g/g.yaml", rule("deny")}}, []string{`groups/g/g.yaml:1:1: the configuration names no group "g", so this policy binds nobody: add it under groups`}},
		{"a group that nobody is in, and one without policies", Groups{"g": {}, "h": {"bot"}}, []Source{{"groups/g/g.yaml", rule("deny")}}, nil},
	} {
		if diff := cmp.Diff(tc.want, warningsOf(t, tc.groups, tc.sources...)); diff != "" {
			t.Errorf("%s:\n%s", tc.name, diff)
		}
	}
}
