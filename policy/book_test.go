package policy_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/policy"
)

const (
	allowAll = "version: 1\ndefault: allow\nrules: []\n"
	denyAll  = "version: 1\ndefault: deny\nrules: []\n"
)

// folder writes files below a new folder.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "policies")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		write(t, filepath.Join(dir, filepath.FromSlash(name)), text)
	}
	return dir
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func decide(b *policy.Book, agent string) policy.Decision {
	return b.For(agent).Decide(&action.Request{ActionType: "a"}, policy.Env{})
}

func TestLoad(t *testing.T) {
	dir := folder(t, map[string]string{
		"b.yaml":                "version: 1\ndefault: passthrough\nrules: []\n",
		"c.YML":                 denyAll,
		"agents/bot/own.yaml":   allowAll,
		"agents/other/own.yaml": "version: 1\ndefault: passthrough\nrules: []\n",
		"notes.txt":             "not read",
		".hidden.yaml":          "not: [read",
		".git/x.yaml":           "not: [read",
	})
	book, err := policy.Load(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	for agent, want := range map[string]string{"bot": "agents/bot/own", "other": "c", "stranger": "c", "": "c"} {
		if d := decide(book, agent); d.PolicyID != want {
			t.Errorf("%q: policy %q, want %q", agent, d.PolicyID, want)
		}
	}
	if first, again := book.For("bot"), book.For("bot"); first != again || book.For("x") != book.For("y") {
		t.Error("sets are compiled again")
	}
	var ids []string
	for _, p := range book.Policies() {
		ids = append(ids, p.ID)
	}
	if diff := cmp.Diff([]string{"b", "c", "agents/bot/own", "agents/other/own"}, ids); diff != "" {
		t.Error(diff)
	}
	again, err := policy.NewBook(dir, book.Sources(), nil)
	if err != nil || again.Hash != book.Hash {
		t.Errorf("the same sources give %v, %v", again, err)
	}
}

// TestLoadFaults: all faults of all files, at their places.
func TestLoadFaults(t *testing.T) {
	dir := folder(t, map[string]string{
		"a.yaml":              "version: 1\ndefault: maybe\nrules: 5\n",
		"mail.yaml":           allowAll,
		"mail.yml":            allowAll,
		"agents/bot.yaml":     allowAll,
		"agents/bot/x/y.yaml": allowAll,
		"old/shop.yaml":       allowAll,
		"z.yaml":              strings.Repeat("# 34567890123456789012345678901\n", 1<<15) + allowAll,
		"good.yaml":           allowAll,
	})
	_, err := policy.Load(dir, nil)
	if err == nil {
		t.Fatal("loaded")
	}
	var got []string
	for line := range strings.Lines(err.Error()) {
		line = strings.ReplaceAll(strings.TrimSpace(line), dir+string(filepath.Separator), "")
		got = append(got, filepath.ToSlash(strings.ReplaceAll(line, dir, "DIR")))
	}
	want := []string{
		`a.yaml:2:10: default: want allow, deny, passthrough, require_approval, got "maybe"`,
		`a.yaml:3:8: rules: want a list like [a, b], got 5`,
		`agents/bot.yaml:1:1: a policy in this place binds nobody: say whom by applies_to: owner, {agent: NAME} or {group: NAME}; or move it to DIR for all agents, to agents/NAME for one, to groups/NAME for a group`,
		`agents/bot/x/y.yaml:1:1: a policy in this place binds nobody: say whom by applies_to: owner, {agent: NAME} or {group: NAME}; or move it to DIR for all agents, to agents/NAME for one, to groups/NAME for a group`,
		`mail.yml:1:1: mail.yaml gives the policy the same name, "mail"; rename one of them`,
		`old/shop.yaml:1:1: a policy in this place binds nobody: say whom by applies_to: owner, {agent: NAME} or {group: NAME}; or move it to DIR for all agents, to agents/NAME for one, to groups/NAME for a group`,
		`z.yaml:1:1: the file is larger than 1048576 bytes; split it`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLoadEmptyFolder(t *testing.T) {
	dir := folder(t, map[string]string{"agents/bot/own.yaml": allowAll})
	book, err := policy.Load(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	d := decide(book, "other")
	if d.Outcome != policy.Deny || !strings.Contains(d.Reason, dir) {
		t.Errorf("%v %q, want a denial that says where a policy goes", d.Outcome, d.Reason)
	}
	if d := decide(book, "bot"); d.Outcome != policy.Allow {
		t.Errorf("the agent's own policy: %v", d)
	}
}

func TestLoadNoFolder(t *testing.T) {
	if _, err := policy.Load(filepath.Join(t.TempDir(), "none"), nil); err == nil || !strings.Contains(err.Error(), "make the folder") {
		t.Errorf("got %v", err)
	}
}

// TestLoadLinks: a link may lead out of the folder; one that leads nowhere is a
// fault, not a policy that is quietly missing.
func TestLoadLinks(t *testing.T) {
	dir := folder(t, nil)
	elsewhere := filepath.Join(t.TempDir(), "mail.yaml")
	write(t, elsewhere, allowAll)
	link := filepath.Join(dir, "mail.yaml")
	if err := os.Symlink(elsewhere, link); err != nil {
		if runtime.GOOS == "windows" {
			return // links need a privilege there
		}
		t.Fatal(err)
	}
	book, err := policy.Load(dir, nil)
	if err != nil || decide(book, "x").PolicyID != "mail" {
		t.Errorf("%v", err)
	}
	if err := os.Remove(elsewhere); err != nil {
		t.Fatal(err)
	}
	if _, err := policy.Load(dir, nil); err == nil || !strings.Contains(err.Error(), "mail.yaml:1:1:") {
		t.Errorf("a broken link: %v", err)
	}
}

// TestHash: moving text between files gives another hash.
func TestHash(t *testing.T) {
	hashes := make(map[string]bool)
	for _, sources := range [][]policy.Source{
		{},
		{{Name: "a.yaml", Text: allowAll}},
		{{Name: "b.yaml", Text: allowAll}},
		{{Name: "a.yaml", Text: denyAll}},
		{{Name: "a.yaml", Text: allowAll + "#"}},
		{{Name: "a.yaml", Text: allowAll}, {Name: "b.yaml", Text: denyAll}},
	} {
		book, err := policy.NewBook("policies", sources, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(book.Hash, "sha256:") || hashes[book.Hash] {
			t.Errorf("%v: hash %s", sources, book.Hash)
		}
		hashes[book.Hash] = true
	}
}

// TestConcurrentUse: one set, many requests at once.
func TestConcurrentUse(t *testing.T) {
	book, err := policy.NewBook("policies", []policy.Source{{Name: "a.yaml", Text: `version: 1
default: deny
rules:
- {id: x, effect: allow, action: "*", when: {match: {path: $.payload.shop, op: eq, value: x}}}
- {id: y, effect: allow, action: "*", when: {match: {path: $.payload.shop, op: eq, value: y}}}
`}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 8 {
		shop := []string{"x", "y", "z"}[i%3]
		req := purchase(t, `{"shop":"`+shop+`"}`)
		all.Go(func() {
			for range 300 {
				d := book.For("bot").Decide(&req, policy.Env{})
				if want := strings.Trim(shop, "z"); d.RuleID != want {
					t.Errorf("shop %s: rule %q", shop, d.RuleID)
				}
			}
		})
	}
	all.Wait()
}
