package policy_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/policy"
)

// headed is a policy of one rule with lines at its top.
func headed(lines ...string) string {
	return "version: 1\n" + strings.Join(append(lines, ""), "\n") + "default: passthrough\nrules: [{id: r, effect: allow, action: a}]\n"
}

// asked are the policies of a set, in the order in which they are asked.
func asked(s *policy.Set) (ids []string) {
	_, rules := s.Explain(&action.Request{ActionType: "a"}, policy.Env{})
	for _, r := range rules {
		ids = append(ids, r.PolicyID)
	}
	return ids
}

// TestLayers: own policies, those of groups, the owner's; within each by rank, then
// by the group's name, then by the file's.
func TestLayers(t *testing.T) {
	book, err := policy.NewBook("p", []policy.Source{
		{Name: "z.yaml", Text: headed("rank: 0")},
		{Name: "a.yaml", Text: headed()},
		{Name: "b.yaml", Text: headed("rank: 99")},
		{Name: "y.yaml", Text: headed("rank: 100", "applies_to: owner")},
		{Name: "agents/bot/a.yaml", Text: headed("rank: 200")},
		{Name: "agents/bot/b.yaml", Text: headed()},
		{Name: "bot.yaml", Text: headed("applies_to: {agent: bot}", "rank: 150")},
		{Name: "groups/zeta/a.yaml", Text: headed()},
		{Name: "groups/beta/z.yaml", Text: headed()},
		{Name: "groups/beta/a.yaml", Text: headed("rank: 101")},
		{Name: "beta.yaml", Text: headed("applies_to: {group: beta}")},
		{Name: "groups/zeta/first.yaml", Text: headed("rank: 1", "applies_to: {group: zeta}")},
		{Name: "groups/gone/a.yaml", Text: headed()},
		{Name: "tree/of/ours/other.yaml", Text: headed("applies_to: {agent: other}")},
	}, policy.Groups{"zeta": {"bot", "cat", "dog"}, "beta": {"bot"}, "empty": {"other"}})
	if err != nil {
		t.Fatal(err)
	}
	owner := []string{"z", "b", "a", "y"}
	beta, zeta := []string{"beta", "groups/beta/z", "groups/beta/a"}, []string{"groups/zeta/first", "groups/zeta/a"}
	for agent, near := range map[string][]string{
		"bot":      {"agents/bot/b", "bot", "agents/bot/a", "groups/zeta/first", "beta", "groups/beta/z", "groups/zeta/a", "groups/beta/a"},
		"cat":      zeta,
		"other":    {"tree/of/ours/other"},
		"stranger": nil,
	} {
		if diff := cmp.Diff(slices.Concat(near, owner), asked(book.For(agent))); diff != "" {
			t.Errorf("%s:\n%s", agent, diff)
		}
	}
	if book.For("cat") != book.For("dog") || book.For("cat") == book.For("stranger") {
		t.Error("agents whom the same binds have two sets, or others one")
	}
	for _, groups := range [][]string{{"beta"}, {"beta", "beta"}, {"empty", "beta"}} {
		if diff := cmp.Diff(slices.Concat(beta, owner), asked(book.Member("cat", groups))); diff != "" {
			t.Errorf("as a member of %v:\n%s", groups, diff)
		}
	}
	if diff := cmp.Diff(slices.Concat([]string{"agents/bot/b", "bot", "agents/bot/a"}, owner), asked(book.Member("bot", nil))); diff != "" {
		t.Errorf("in no group:\n%s", diff)
	}
	var all []string
	for _, p := range book.Policies() {
		all = append(all, fmt.Sprint(p.ID, " for ", p.Scope))
	}
	want := []string{"z for every agent", "b for every agent", "a for every agent", "y for every agent",
		"beta for group beta", "groups/beta/z for group beta", "groups/beta/a for group beta", "groups/gone/a for group gone", "groups/zeta/first for group zeta", "groups/zeta/a for group zeta",
		"agents/bot/b for agent bot", "bot for agent bot", "agents/bot/a for agent bot", "tree/of/ours/other for agent other"}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Error(diff)
	}
	if p := book.Policy("b.yaml"); p.ID != "b" || p.Rank != 99 || book.Policy("a.yaml").Rank != policy.DefaultRank {
		t.Errorf("%+v", p)
	}
	if diff := cmp.Diff([]string{"beta", "empty", "gone", "zeta"}, book.GroupNames()); diff != "" {
		t.Error(diff)
	}
}

// TestForDoesNotAllocate: also not for members of groups.
func TestForDoesNotAllocate(t *testing.T) {
	book, err := policy.NewBook("p", []policy.Source{{Name: "groups/g/a.yaml", Text: allowAll}, {Name: "a.yaml", Text: denyAll}}, policy.Groups{"g": {"bot"}})
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { book.For("bot"); book.For("other") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestPlaces: whom a file binds by its place and its header.
func TestPlaces(t *testing.T) {
	nobody := "binds nobody: say whom by applies_to: owner, {agent: NAME} or {group: NAME}; or move it to p for all agents, to p/agents/NAME for one, to p/groups/NAME for a group"
	for _, tc := range []struct{ name, header, want string }{
		{"a.yaml", "", "every agent"},
		{"a.yaml", "applies_to: owner", "every agent"},
		{"a.yaml", "applies_to: {agent: bot}", "agent bot"},
		{"a.yaml", "applies_to: {group: g}", "group g"},
		{"agents/bot/a.yaml", "", "agent bot"},
		{"agents/bot/a.yaml", "applies_to: {agent: bot}", "agent bot"},
		{"agents/bot/a.yaml", "applies_to: {agent: other}", "p/agents/bot/a.yaml:2:13: applies_to: this says agent other, but the folder in which it stands is that of agent bot: move the file, or correct the line"},
		{"agents/bot/a.yaml", "applies_to: owner", "applies_to: this says every agent, but the folder in which it stands is that of agent bot"},
		{"agents/bot/a.yaml", "applies_to: {group: bot}", "applies_to: this says group bot, but"},
		{"agents/bot/deep/er/a.yaml", "", nobody},
		{"agents/bot/deep/er/a.yaml", "applies_to: {agent: bot}", "agent bot"},
		{"agents/bot/deep/er/a.yaml", "applies_to: {agent: other}", "is that of agent bot"},
		{"agents/a.yaml", "", nobody},
		{"agents/a.yaml", "applies_to: {agent: bot}", "agent bot"},
		{"agents/a b/a.yaml", "", `"a b" cannot be the name of an agent or a group, so this binds nobody: a name has letters`},
		{"groups/g/a.yaml", "", "group g"},
		{"groups/g/a.yaml", "applies_to: {group: g}", "group g"},
		{"groups/g/a.yaml", "applies_to: {group: h}", "this says group h, but the folder in which it stands is that of group g"},
		{"groups/g/a.yaml", "applies_to: {agent: g}", "this says agent g, but"},
		{"groups/a.yaml", "", nobody},
		{"groups/-/a.yaml", "", `"-" cannot be the name`},
		{"team/a.yaml", "", nobody},
		{"team/a.yaml", "rank: 5", nobody},
		{"team/a.yaml", "applies_to: owner", "every agent"},
		{"team/agents/bot/a.yaml", "", nobody},
		{"team/agents/bot/a.yaml", "applies_to: {agent: other}", "agent other"},
		// With mistakes: they are told where it is a policy that says whom it binds.
		{"team/a.yaml", "applies_to: {agent: bot}\nrnak: 5", `p/team/a.yaml:3:1: policy: unknown key "rnak" (did you mean "rank"?)`},
		{"team/a.yaml", "services: {}", nobody},
		{"team/a.yaml", "applies_to: [", "p/team/a.yaml:2:1: not YAML"},
	} {
		text := headed()
		if tc.header != "" {
			text = headed(tc.header)
		}
		got := ""
		book, err := policy.NewBook("p", []policy.Source{{Name: tc.name, Text: text}}, nil)
		if err != nil {
			got = strings.ReplaceAll(filepath.ToSlash(err.Error()), "\n", " ")
		} else {
			got = book.Policy(tc.name).Scope.String()
		}
		if exact := !strings.Contains(tc.want, ":") && err == nil; exact && got != tc.want || !strings.Contains(got, tc.want) {
			t.Errorf("%s with %q: got %s, want %s", tc.name, tc.header, got, tc.want)
		}
	}
}

// TestLoadTree: a folder may be laid out as its owner likes, with tests in it.
func TestLoadTree(t *testing.T) {
	deep := strings.Repeat("d/", 16)
	dir := folder(t, map[string]string{
		"teams/shop/buyers.yaml":      headed("applies_to: {group: buyers}"),
		"teams/shop/buyers_test.yaml": "tests: []\n",
		"teams/README.md":             "x",
		"teams/.git/x.yaml":           "not: [read",
		deep + "bot.yaml":             headed("applies_to: {agent: bot}"),
	})
	book, err := policy.Load(dir, policy.Groups{"buyers": {"ann"}})
	if err != nil {
		t.Fatal(err)
	}
	for agent, want := range map[string][]string{"ann": {"teams/shop/buyers"}, "bot": {deep + "bot"}, "other": nil} {
		if diff := cmp.Diff(want, asked(book.For(agent))); diff != "" {
			t.Errorf("%s:\n%s", agent, diff)
		}
	}
	write(t, filepath.Join(dir, filepath.FromSlash(deep+"d/more.yaml")), headed("applies_to: owner"))
	if _, err := policy.Load(dir, nil); err == nil || !strings.Contains(err.Error(), "folders in folders are read to a depth of 16") {
		t.Errorf("deeper: %v", err)
	}
}

// TestLoadEndless: links make no folder endless, nor does a tree of them.
func TestLoadEndless(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // links need a privilege there
	}
	dir := folder(t, map[string]string{"a/b/x.yaml": headed("applies_to: owner"), "ok.yaml": headed()})
	link := func(to, from string) {
		t.Helper()
		if err := os.Symlink(filepath.Join(dir, to), filepath.Join(dir, from)); err != nil {
			t.Fatal(err)
		}
	}
	link("a", "again") // the same files under other names: no loop
	if book, err := policy.Load(dir, nil); err != nil || len(book.Policies()) != 3 {
		t.Fatalf("a link beside: %v", err)
	}
	link(".", "a/b/up")
	_, err := policy.Load(dir, nil)
	if want := filepath.Join(dir, "a", "b", "up") + ":1:1: a link that leads back to a folder which it is in: remove it"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("a loop: %v, want %s", err, want)
	}
	// Twelve folders, each with two links to the next: 4096 ways to the last.
	dir = folder(t, map[string]string{"ok.yaml": headed()})
	for i := range 12 {
		at := fmt.Sprintf("../f%d", i)
		if err := os.Mkdir(filepath.Join(dir, at), 0o700); err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			link(at, fmt.Sprintf("../f%d/l", i-1))
			link(at, fmt.Sprintf("../f%d/r", i-1))
		}
	}
	link("../f0", "start")
	if _, err := policy.Load(dir, nil); err == nil || strings.Count(err.Error(), "more than 1000 folders") != 1 {
		t.Errorf("a tree of links: %v", err)
	}
}

// TestSuiteGroups: a test says in which groups its agent is; what the
// configuration says does not matter.
func TestSuiteGroups(t *testing.T) {
	book, err := policy.NewBook("p", []policy.Source{
		{Name: "all.yaml", Text: denyAll},
		{Name: "groups/buyers/own.yaml", Text: headed()},
	}, policy.Groups{"buyers": {"ann"}})
	if err != nil {
		t.Fatal(err)
	}
	suite, err := policy.ParseSuite("x_test.yaml", []byte(`tests:
  - {name: in the group, groups: [buyers], action: {action_type: a}, want: ALLOW, rule: r}
  - {name: in another, groups: [sellers], action: {action_type: a}, want: DENY}
  - {name: in none, agent: ann, action: {action_type: a}, want: DENY}
`))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range suite.Run(book) {
		if len(r.Faults) > 0 {
			t.Errorf("%s: %v", r.Name, r.Faults)
		}
	}
	if c := policy.Cover(book, []*policy.Suite{suite}); c.Met != 1 || c.All != 1 {
		t.Errorf("the group's rule is not met: %+v", c)
	}
	_, err = policy.ParseSuite("x_test.yaml", []byte("tests:\n  - {name: x, groups: [a b], action: {action_type: a}, want: DENY}\n"))
	if want := `x_test.yaml:2:24: test x: groups: "a b": a name has letters`; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestAlone: a policy by itself binds every agent, whomever it is for.
func TestAlone(t *testing.T) {
	book, err := policy.Alone("a.yaml", []byte("version: 1\napplies_to: {group: g}\ndefault: allow\nrules: []\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []policy.Decision{decide(book, "bot"), book.Member("bot", []string{"g"}).Decide(&action.Request{ActionType: "a"}, policy.Env{})} {
		if d.Outcome != policy.Allow {
			t.Errorf("%v: %s", d.Outcome, d.Reason)
		}
	}
}
