package configs_test

import (
	"io/fs"
	"path"
	"strings"
	"testing"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/configs"
	"github.com/openleash/openleash-go/policy"
)

// Every policy that ships has a suite that meets all of it, no warning, and the
// one form.
func TestPoliciesPassTheirSuites(t *testing.T) {
	names, err := fs.Glob(configs.FS, "policies/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, name := range names {
		if !policy.IsSuite(name) {
			n++
			t.Run(path.Base(name), func(t *testing.T) { checkPolicy(t, name) })
		}
	}
	if n < 10 || len(names) != 2*n {
		t.Errorf("%d files are %d policies: want a suite for each", len(names), n)
	}
}

func checkPolicy(t *testing.T, name string) {
	src := read(t, name)
	if formatted, err := policy.Format(name, src); err != nil || string(formatted) != string(src) {
		t.Errorf("not formatted (openleash policy fmt): %v", err)
	}
	book, err := policy.Alone(name, src)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range book.Warnings() {
		t.Errorf("warning: %v", w)
	}
	tests := strings.TrimSuffix(name, ".yaml") + "_test.yaml"
	suite, err := policy.ParseSuite(tests, read(t, tests))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range suite.Run(book) {
		for _, fault := range r.Faults {
			t.Errorf("%s:%d: %s: %s", tests, r.Line, r.Name, fault)
		}
	}
	for _, missed := range policy.Cover(book, []*policy.Suite{suite}).Missed {
		t.Errorf("no test meets: %v", missed)
	}
}

// The templates stand together on the base: what each says by itself holds then too.
func TestTemplatesStandTogether(t *testing.T) {
	names, err := fs.Glob(configs.FS, "policies/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	sources := []policy.Source{{Name: "deny-all.yaml", Text: string(read(t, "policies/deny-all.yaml"))}}
	var suites []string
	for _, name := range names {
		if text := string(read(t, name)); strings.Contains(text, "\ndefault: passthrough\n") {
			sources = append(sources, policy.Source{Name: "10-" + path.Base(name), Text: text})
			suites = append(suites, strings.TrimSuffix(name, ".yaml")+"_test.yaml")
		}
	}
	if len(suites) < 8 {
		t.Errorf("only %d templates: %v", len(suites), suites)
	}
	book, err := policy.NewBook("", sources, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range suites {
		suite, err := policy.ParseSuite(name, read(t, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range suite.Run(book) {
			for _, fault := range r.Faults {
				t.Errorf("%s:%d: %s: %s", name, r.Line, r.Name, fault)
			}
		}
	}
}

// The rule that autonomous.yaml offers in a comment does what is said of it.
func TestAutonomousWithUnknownServersHeld(t *testing.T) {
	before, rule, found := strings.Cut(string(read(t, "policies/autonomous.yaml")), "#  - id: unknown-server")
	if !found {
		t.Fatal("the offered rule is gone")
	}
	text := before + "  - id: unknown-server" + strings.ReplaceAll(rule, "\n#", "\n")
	p, err := policy.Parse("autonomous", "autonomous.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	set := policy.Compile([]policy.Binding{{Policy: p, Layer: policy.OwnerLayer}})
	req := action.Request{ActionType: "mcp.x.wipe"}
	for tool, want := range map[string]policy.Outcome{
		`{"destroys":false}`:               policy.RequireApproval,
		`{"destroys":false,"profile":"x"}`: policy.Allow,
	} {
		if d := set.Decide(&req, policy.Env{Tool: parse(t, tool)}); d.Outcome != want {
			t.Errorf("%s: got %v, want %v", tool, d.Outcome, want)
		}
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	src, err := fs.ReadFile(configs.FS, name)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func parse(t *testing.T, text string) action.Value {
	t.Helper()
	v, err := action.Parse([]byte(text), action.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return v
}
