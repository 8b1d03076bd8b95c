package api

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/policy"
	"github.com/openleash/openleash-go/store/sqlite"
)

// serviceUnder is what really decides, under one policy.
func serviceUnder(t *testing.T, text string) (*authz.Service, authz.Caller) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "p.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	store, err := sqlite.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	owner, err := store.EnsureOwner(t.Context(), "ann")
	if err != nil {
		t.Fatal(err)
	}
	agent, err := store.EnsureAgent(t.Context(), "bot", owner)
	if err != nil {
		t.Fatal(err)
	}
	keeper, err := policy.Open(t.Context(), dir, nil, store, func(policy.Event) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keeper.Close() })
	s, err := authz.New(authz.Config{Store: store, Owner: owner, Policies: keeper, Key: config(t).Key, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, authz.Caller{Agent: agent}
}

// A run in the playground gives the decision that the proxy gets, for what is no
// tool call, too; and for a tool that a mapping gives such a type.
func TestPlaygroundDecidesAsTheProxyDoes(t *testing.T) {
	h := newAPI(t, config(t))
	policies := map[string]string{
		"denies the rest": "version: 1\ndefault: deny\nrules: []\n",
		"asks the rest":   "version: 1\ndefault: require_approval\nrules: []\n",
		"has a rule":      "version: 1\ndefault: allow\nrules:\n  - {id: r, effect: deny, action: mcp.*}\n",
		"has an approval": "version: 1\ndefault: deny\nrules:\n  - {id: r, effect: allow, action: mcp.shop.*, obligations: [{type: HUMAN_APPROVAL}]}\n",
		"reads the tool":  "version: 1\ndefault: deny\nrules:\n  - {id: r, effect: deny, action: mcp.*, when: {match: {path: $.tool.reads, op: eq, value: true}}}\n",
		"reads its name":  "version: 1\ndefault: deny\nrules:\n  - {id: r, effect: deny, action: mcp.*, when: {match: {path: $.tool.name, op: eq, value: sampling/createMessage}}}\n",
	}
	// tool is what the run says of it; method what the request is, empty for a tool.
	tests := []struct{ server, actionType, tool, method string }{
		{"shop", "mcp.shop.resource.read", ``, "resources/read"},
		{"shop", "mcp.shop.prompt.get", `null`, "prompts/get"},
		{"shop", "mcp.shop.sampling", `{"server":"shop","name":"sampling/createMessage","reads":false,"destroys":false}`, "sampling/createMessage"},
		{"shop", "mcp.shop.elicitation", `{"reads":false}`, "elicitation/create"},
		{"my.shop", "mcp.my.shop.sampling", `{"name":"sampling/createMessage"}`, "sampling/createMessage"},
		{"my", "mcp.my.shop.sampling", `{}`, ""},                              // a tool shop.sampling
		{"shop", "mcp.shop.resource.read", `{"name":"get","reads":true}`, ""}, // one that was mapped
		{"shop", "mcp.shop.resource.read", `{"name":"prompts/get"}`, ""},      // another method is none
		{"shop", "mcp.shop.resource.reader", ``, ""},                          // a tool
		{"shop", "shop.sampling", ``, ""},                                     // no MCP
	}
	for name, text := range policies {
		s, who := serviceUnder(t, text)
		for _, tt := range tests {
			info := action.Value{}
			if tt.tool != "" && tt.tool != "null" {
				var err error
				if info, err = action.Parse([]byte(tt.tool), action.Limits{}); err != nil {
					t.Fatal(err)
				}
			} else if tt.method != "" {
				info = authz.OpenInfo(tt.server, tt.method)
			}
			args := action.ObjectValue(action.Member{Key: "uri", Value: action.StringValue("a:1")})
			payload := action.ObjectValue(action.Member{Key: "arguments", Value: args})
			call := &authz.Call{Server: tt.server, Tool: tt.method, Arguments: args, Info: info, Open: tt.method != ""}
			want, err := s.Authorize(t.Context(), who, action.Request{ActionType: tt.actionType, Payload: payload}, call)
			if err != nil {
				t.Fatal(err)
			}
			tool := ""
			if tt.tool != "" {
				tool = `,"tool":` + tt.tool
			}
			w := ask(h, "POST", "/v1/playground/run", fmt.Sprintf(`{"policy_yaml":%s,"action":{"action_id":"5b6b0f0c-9a63-4dfb-8d3a-3a4f0a4d1c03","action_type":%q,
				"requested_at":"2026-05-05T13:42:11Z","principal":{"agent_id":"bot"},"subject":{"principal_id":"5b6b0f0c-9a63-4dfb-8d3a-3a4f0a4d1c04"},
				"payload":{"arguments":{"uri":"a:1"}}}%s}`, quoted(text), tt.actionType, tool))
			if w.Code != 200 {
				t.Fatalf("= %d %s", w.Code, w.Body)
			}
			got := read[playgroundAnswer](t, w).Decision
			rule := ""
			if got.MatchedRuleID != nil {
				rule = *got.MatchedRuleID
			}
			if got.Decision != want.Outcome.String() || rule != want.RuleID {
				t.Errorf("a policy that %s, %s %s: %s by rule %q, want %s by rule %q", name, tt.actionType, tt.tool, got.Decision, rule, want.Outcome, want.RuleID)
			}
		}
	}
}
