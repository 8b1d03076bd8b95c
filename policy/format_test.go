package policy_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/openleash/openleash-go/policy"
)

func TestFormat(t *testing.T) {
	const src = `# mine
rules:
- action: purchase
  id: a # first
  effect: allow
  when:
      not: {match: {value: "5", op: eq, path: $.payload.n}}
  # why
  constraints: {currency: [EUR], amount_max: 8500}
# about b
- {effect: deny, action: x.*, id: b}
- {effect: deny, id: c, action: "*"}

# of the log
log:
- {mask: ["$.payload.to[*]"], action: x}
- {arguments: hash, action: y}
default: deny
rank: 5
applies_to: {agent: bot}
version: 1
`
	const want = `# mine
version: 1
applies_to: {agent: bot}
rank: 5
default: deny

rules:
  - id: a # first
    effect: allow
    action: purchase
    when:
      not: {match: {path: $.payload.n, op: eq, value: "5"}}
    # why
    constraints: {amount_max: 8500, currency: [EUR]}

  # about b
  - {id: b, effect: deny, action: x.*}
  - {id: c, effect: deny, action: "*"}

# of the log
log:
  - {action: x, mask: ["$.payload.to[*]"]}
  - {action: y, arguments: hash}
`
	got, err := policy.Format("p.yaml", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
}

// Formatting twice is formatting once, and what is shipped is formatted.
func TestFormatIsStable(t *testing.T) {
	files, _ := filepath.Glob("../configs/policies/*.yaml")
	if len(files) == 0 {
		t.Fatal("no policies")
	}
	for _, file := range files {
		if policy.IsSuite(filepath.Base(file)) {
			continue
		}
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		once, err := policy.Format(file, src)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(src), string(once)); diff != "" {
			t.Errorf("%s is not formatted:\n%s", file, diff)
		}
		twice, err := policy.Format(file, once)
		if err != nil || string(twice) != string(once) {
			t.Errorf("%s, twice: %v\n%s", file, err, cmp.Diff(string(once), string(twice)))
		}
	}
}

func TestFormatRefuses(t *testing.T) {
	if _, err := policy.Format("p.yaml", []byte("version: 1\n")); err == nil || !strings.Contains(err.Error(), "default is missing") {
		t.Errorf("a policy with mistakes: %v", err)
	}
}
