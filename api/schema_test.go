package api

import (
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/openleash/openleash-go/configs"
	"github.com/openleash/openleash-go/policy"
)

func help(t *testing.T) policyHelp {
	t.Helper()
	w := ask(newAPI(t, config(t)), "GET", "/v1/agents/policy-schema", "")
	if w.Code != 200 {
		t.Fatalf("= %d %s", w.Code, w.Body)
	}
	return read[policyHelp](t, w)
}

// The schema that agents are given is the parser's.
func TestPolicySchemaIsTheParsers(t *testing.T) {
	want, err := policy.Schema()
	if err != nil {
		t.Fatal(err)
	}
	var got, parsers any
	if json.Unmarshal(help(t).Schema, &got) != nil || json.Unmarshal(want, &parsers) != nil {
		t.Fatal("no JSON")
	}
	if diff := cmp.Diff(parsers, got); diff != "" {
		t.Errorf("json_schema (-want +got):\n%s", diff)
	}
}

// Every key that the schema knows is explained, and no other.
func TestPolicyReferenceIsWhole(t *testing.T) {
	h := help(t)
	names := map[string]bool{}
	for _, m := range regexp.MustCompile(`"properties":\{`).FindAllStringIndex(string(h.Schema), -1) {
		var properties map[string]json.RawMessage
		if err := json.NewDecoder(strings.NewReader(string(h.Schema[m[1]-1:]))).Decode(&properties); err != nil {
			t.Fatal(err)
		}
		for name := range properties {
			names[name] = true
		}
	}
	explained := map[string]bool{}
	for where, key := range h.Reference.Keys {
		explained[strings.TrimSuffix(where[strings.LastIndex(where, ".")+1:], "[]")] = true
		if key.Description == "" {
			t.Errorf("%s is not explained", where)
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(names)), slices.Sorted(maps.Keys(explained))); diff != "" || len(names) < 40 {
		t.Errorf("%d keys in the schema and in the reference (-schema +reference):\n%s", len(names), diff)
	}
	for where, value := range map[string]any{"default": "passthrough", "rules[].effect": "deny", "rules[].when.match.op": "regex", "rules[].obligations[].type": policy.HumanApproval, "rules[].schedule.days[]": "mon"} {
		if !slices.Contains(h.Reference.Keys[where].Values, value) {
			t.Errorf("%s: %v, want %v among them", where, h.Reference.Keys[where].Values, value)
		}
	}
}

func TestPolicyDecisionsAreAll(t *testing.T) {
	got := map[string]bool{}
	for o := range policy.Outcome(255) {
		got[o.String()] = true
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(got)), slices.Sorted(slices.Values(help(t).Reference.Decisions))); diff != "" {
		t.Errorf("decisions (-policy +reference):\n%s", diff)
	}
}

// The examples are the policies that ship, byte for byte, and each is accepted.
func TestPolicyExamplesShip(t *testing.T) {
	files, err := filepath.Glob("../configs/policies/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !policy.IsSuite(file) {
			want[strings.TrimSuffix(filepath.Base(file), ".yaml")] = string(text)
		}
	}
	got := map[string]string{}
	for _, e := range help(t).Examples {
		got[e.Name] = e.PolicyYAML
		if len(e.Description) < 20 || !strings.HasSuffix(e.Description, ".") {
			t.Errorf("%s: %q", e.Name, e.Description)
		}
		if _, err := policy.Parse(e.Name, e.Name, []byte(e.PolicyYAML)); err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" || len(want) < 10 {
		t.Errorf("examples (-shipped +given):\n%s", diff)
	}
}

// Every action type stands where it is said to be used, and every one that a shipped file
// names is there.
func TestPolicyTaxonomyIsWhatShips(t *testing.T) {
	given := map[string]bool{}
	for _, a := range help(t).Taxonomy {
		for _, file := range a.UsedBy {
			given[file+" "+a.Type] = true
		}
	}
	found := map[string]bool{}
	named := regexp.MustCompile(`\b(?:action|action_type): "?([a-z][a-z0-9_.]*?)(?:\.\*)?"?[,}\s]`)
	for _, folder := range []string{"policies", "profiles"} {
		files, err := fs.Glob(configs.FS, folder+"/*.yaml")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := configs.FS.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, line := range strings.Split(string(text), "\n") {
				if policy.IsSuite(file) || strings.HasPrefix(strings.TrimSpace(line), "#") {
					continue
				}
				for _, m := range named.FindAllStringSubmatch(line+"\n", -1) {
					found[file+" "+m[1]] = true
				}
			}
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(found)), slices.Sorted(maps.Keys(given))); diff != "" || len(found) < 30 {
		t.Errorf("%d action types (-shipped +given):\n%s", len(found), diff)
	}
}

// What is shown of the playground runs there, and is allowed.
func TestPolicyPlaygroundRuns(t *testing.T) {
	p := help(t).Playground
	w := ask(newAPI(t, config(t)), p.Method, p.Path, toJSON(t, p.Request))
	if got := read[playgroundAnswer](t, w).Decision; w.Code != 200 || got.Decision != "ALLOW" || got.MatchedRuleID == nil || *got.MatchedRuleID != "small" {
		t.Errorf("= %d %s", w.Code, w.Body)
	}
}
