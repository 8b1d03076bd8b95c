package api

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"

	"gopkg.in/yaml.v3"

	"github.com/openleash/openleash-go/configs"
	"github.com/openleash/openleash-go/policy"
)

// What an agent needs to write a policy is made from what the program has: the form
// that the parser takes its keys from, the shipped policies, the shipped profiles. So
// it cannot say what does not hold.

type policyHelp struct {
	Description string            `json:"description"`
	Schema      json.RawMessage   `json:"json_schema"`
	Reference   policyReference   `json:"reference"`
	Taxonomy    []actionType      `json:"action_taxonomy"`
	Examples    []policyExample   `json:"examples"`
	Playground  playgroundHelp    `json:"playground"`
	Tips        map[string]string `json:"tips"`
}

type policyReference struct {
	Keys      map[string]policyKey `json:"keys"`      // by path: rules[].constraints.amount_max
	Decisions []string             `json:"decisions"` // what can come of it
}

type policyKey struct {
	Description string `json:"description"`
	Values      []any  `json:"values,omitempty"` // the only ones that may stand there
}

type actionType struct {
	Type   string   `json:"action_type"`
	UsedBy []string `json:"used_by"` // the policies and profiles that ship
}

type policyExample struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	PolicyYAML  string `json:"policy_yaml"`
}

type playgroundHelp struct {
	Description string         `json:"description"`
	Method      string         `json:"method"`
	Path        string         `json:"path"`
	Request     map[string]any `json:"request"` // an example
}

// policySchema says how a policy is written.
func (s *server) policySchema(*http.Request) (any, error) {
	body, err := policyHelpJSON()
	return page{mediaType: "application/json", body: body}, err
}

var policyHelpJSON = sync.OnceValues(func() ([]byte, error) {
	help, err := newPolicyHelp()
	if err != nil {
		return nil, fmt.Errorf("describing policies: %w", err)
	}
	return json.Marshal(help)
})

func newPolicyHelp() (policyHelp, error) {
	schema, err := policy.Schema()
	if err != nil {
		return policyHelp{}, err
	}
	keys, err := keysOf(schema)
	if err != nil {
		return policyHelp{}, err
	}
	examples, err := shippedPolicies()
	if err != nil {
		return policyHelp{}, err
	}
	types, err := shippedActionTypes()
	return policyHelp{
		Description: "An OpenLeash policy says in YAML what agents may do. json_schema is its form, reference.keys what each key means. " +
			"Propose one with POST /v1/agent/policy-drafts: it holds once the owner has approved it.",
		Schema: schema, Reference: policyReference{keys, decisions()}, Taxonomy: types, Examples: examples,
		Playground: playgroundExample(examples), Tips: tips,
	}, err
}

func decisions() (all []string) {
	for _, o := range []policy.Outcome{policy.Allow, policy.Deny, policy.RequireApproval, policy.RequireStepUp, policy.RequireDeposit} {
		all = append(all, o.String())
	}
	return all
}

// A form is what is read of a JSON Schema.
type form struct {
	Description string          `json:"description"`
	Enum        []any           `json:"enum"`
	Properties  map[string]form `json:"properties"`
	Items       *form           `json:"items"`
	OneOf       []form          `json:"oneOf"`
	Defs        map[string]form `json:"$defs"`
}

// keysOf lists what can be written in a policy. A condition holds conditions: it is
// told once, as a rule's.
func keysOf(schema []byte) (map[string]policyKey, error) {
	var root form
	if err := json.Unmarshal(schema, &root); err != nil {
		return nil, err
	}
	keys := map[string]policyKey{}
	root.list(keys, "")
	root.Defs["condition"].list(keys, "rules[].when.")
	return keys, nil
}

func (f form) list(into map[string]policyKey, before string) {
	for name, p := range f.Properties {
		key := policyKey{p.Description, p.Enum}
		where := before + name
		if p.Items != nil {
			where += "[]"
			key.Values = p.Items.Enum
			p.Items.list(into, where+".")
		}
		into[where] = key
		for _, one := range append(p.OneOf, p) {
			one.list(into, where+".")
		}
	}
}

// shippedPolicies are the templates, each with the sentence that it begins with.
func shippedPolicies() (all []policyExample, err error) {
	err = eachShipped("policies", func(name string, text []byte) error {
		if policy.IsSuite(name) {
			return nil
		}
		first, _, _ := strings.Cut(strings.TrimPrefix(string(text), "# "), "\n")
		all = append(all, policyExample{strings.TrimSuffix(path.Base(name), ".yaml"), first, string(text)})
		return nil
	})
	return all, err
}

// shippedActionTypes are those that the shipped policies are about and that the shipped
// profiles map tools to.
func shippedActionTypes() (all []actionType, err error) {
	usedBy := map[string][]string{}
	for _, folder := range []string{"policies", "profiles"} {
		err := eachShipped(folder, func(name string, text []byte) error {
			types, err := actionTypesIn(text)
			for _, t := range types {
				usedBy[t] = append(usedBy[t], name)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	for _, t := range slices.Sorted(maps.Keys(usedBy)) {
		all = append(all, actionType{t, usedBy[t]})
	}
	return all, nil
}

// actionTypesIn are those of one policy or profile, each once. A pattern (purchase.*)
// counts as what it begins with; a suite has none.
func actionTypesIn(text []byte) (types []string, err error) {
	var file struct {
		Rules, Limits []struct{ Action string }
		Mapping       []struct {
			ActionType string `yaml:"action_type"`
		}
	}
	err = yaml.Unmarshal(text, &file)
	for _, about := range append(file.Rules, file.Limits...) {
		if about.Action != "*" && about.Action != "" {
			types = append(types, strings.TrimSuffix(about.Action, ".*"))
		}
	}
	for _, m := range file.Mapping {
		types = append(types, m.ActionType)
	}
	slices.Sort(types)
	return slices.Compact(types), err
}

func eachShipped(folder string, do func(name string, text []byte) error) error {
	names, err := fs.Glob(configs.FS, folder+"/*.yaml")
	if err != nil {
		return err
	}
	for _, name := range names {
		text, err := configs.FS.ReadFile(name)
		if err == nil {
			err = do(name, text)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// playgroundExample asks about a small purchase under the shipped policy for purchases.
func playgroundExample(examples []policyExample) playgroundHelp {
	i := slices.IndexFunc(examples, func(e policyExample) bool { return e.Name == "purchases" })
	return playgroundHelp{
		Description: "Tries a policy on an action: the decision, and what every rule made of it. It is in force nowhere and nothing is recorded.",
		Method:      "POST", Path: playgroundPlace,
		Request: map[string]any{"policy_yaml": examples[max(i, 0)].PolicyYAML, "action": map[string]any{
			"action_id": "3f0c8f5e-7d0a-4a53-9a39-1f6f0c9d2b11", "action_type": "purchase", "requested_at": "2026-05-05T13:42:11.000Z",
			"principal": map[string]any{"agent_id": "my-agent"}, "subject": map[string]any{"principal_id": "9b2f1c36-0f5e-4b57-8d0a-6c1c1c7f3e20"},
			"payload": map[string]any{"amount_minor": 4250, "currency": "EUR", "merchant_domain": "shop.example"},
		}},
	}
}

var tips = map[string]string{
	"order":    "Rules are asked from top to bottom, and the first that matches decides. Put denies first.",
	"default":  "When no rule matches, `default` holds. `passthrough` leaves it to the owner's other policies; deny if in doubt.",
	"money":    "Amounts are whole minor units: 4250 with EUR is 42.50 EUR. An amount that is missing or of another kind matches no allow rule.",
	"unknown":  "An allow rule matches only when its condition is true. A deny rule also matches when a value is of the wrong kind.",
	"approval": "To have the owner asked, allow with `obligations: [{type: HUMAN_APPROVAL}]`.",
	"mcp":      "A tool call that no mapping is about is the action mcp.SERVER.TOOL, with the arguments below $.payload.arguments.",
	"drafts":   "Ask for as little as the task needs: the owner reads the draft, and what it would have decided before.",
	"try":      "Try the policy in the playground, on what it should allow and on what it should refuse, before you propose it.",
	"misspelt": "Unknown keys are refused, with the line and what was probably meant.",
}
