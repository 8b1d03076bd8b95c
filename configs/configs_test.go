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

// Every policy that ships has decisions here.
var decisions = map[string][]struct {
	about   string
	action  string
	payload string
	tool    string
	want    policy.Outcome
	rule    string
}{
	"balanced": {
		{"reading", "mcp.files.read_file", `{}`, `{"profile":"filesystem","reads":true,"destroys":false}`, policy.Allow, "reading"},
		{"writing", "mcp.files.write_file", `{}`, `{"profile":"filesystem","reads":false,"destroys":true}`, policy.RequireApproval, ""},
		{"an unknown server", "mcp.x.read", `{}`, `{"reads":false,"annotations":{"readOnlyHint":true}}`, policy.RequireApproval, ""},
		{"outside MCP", "purchase", `{"amount_minor":1}`, ``, policy.RequireApproval, ""},
		{"a profile that is no profile", "mcp.x.read", `{}`, `{"reads":"true"}`, policy.RequireApproval, ""},
	},
	"conservative": {
		{"reading", "mcp.files.read_file", `{}`, `{"profile":"filesystem","reads":true}`, policy.RequireApproval, ""},
		{"writing", "mcp.files.write_file", `{}`, `{"destroys":true}`, policy.RequireApproval, ""},
	},
	"autonomous": {
		{"reading", "mcp.files.read_file", `{}`, `{"profile":"filesystem","reads":true,"destroys":false}`, policy.Allow, ""},
		{"destroying", "mcp.files.write_file", `{}`, `{"profile":"filesystem","reads":false,"destroys":true}`, policy.RequireApproval, "destroying"},
		{"neither", "mcp.files.create_directory", `{}`, `{"profile":"filesystem","reads":false,"destroys":false}`, policy.Allow, ""},
		{"an unknown server", "mcp.x.wipe", `{}`, `{"reads":false,"destroys":false,"annotations":{"destructiveHint":true}}`, policy.Allow, ""},
		{"a profile that cannot be read", "mcp.x.wipe", `{}`, `{"destroys":"yes"}`, policy.RequireApproval, "destroying"},
	},
	"demo": {
		{"small", "purchase", `{"amount_minor":5000,"currency":"EUR","merchant_domain":"shop.example"}`, ``, policy.Allow, "purchase-small"},
		{"a cent more", "purchase", `{"amount_minor":5001,"currency":"EUR"}`, ``, policy.RequireApproval, "purchase-large"},
		{"as much as can be", "purchase", `{"amount_minor":100000,"currency":"EUR"}`, ``, policy.RequireApproval, "purchase-large"},
		{"too large", "purchase", `{"amount_minor":100001,"currency":"EUR"}`, ``, policy.Deny, "purchase-too-large"},
		{"an amount as text", "purchase", `{"amount_minor":"5000","currency":"EUR"}`, ``, policy.Deny, "purchase-too-large"},
		{"less than nothing", "purchase", `{"amount_minor":-5,"currency":"EUR"}`, ``, policy.Deny, "purchase-too-large"},
		{"no amount", "purchase", `{"currency":"EUR"}`, ``, policy.Deny, ""},
		{"another currency", "purchase", `{"amount_minor":100,"currency":"KWD"}`, ``, policy.Deny, ""},
		{"known mail", "communication.email", `{"domain":"example.com","to":"a@example.com"}`, ``, policy.Allow, "mail-known"},
		{"mail below it, in capitals", "communication.email", `{"domain":"Mail.EXAMPLE.com"}`, ``, policy.Allow, "mail-known"},
		{"mail elsewhere", "communication.email", `{"domain":"evil.test"}`, ``, policy.Deny, "mail-elsewhere"},
		{"mail to a look-alike", "communication.email", `{"domain":"notexample.com"}`, ``, policy.Deny, "mail-elsewhere"},
		{"mail to a longer name", "communication.email", `{"domain":"example.com.evil.test"}`, ``, policy.Deny, "mail-elsewhere"},
		{"mail that could not be read", "communication.email", `{"domain":["\"a@example.com\""]}`, ``, policy.Deny, "mail-elsewhere"},
		{"mail to nobody", "communication.email", `{}`, ``, policy.Deny, "mail-elsewhere"},
		{"mail by a tool that claims to read", "communication.email", `{"domain":"evil.test"}`, `{"reads":true}`, policy.Deny, "mail-elsewhere"},
		{"haircut", "appointment.book", `{"kind":"haircut"}`, ``, policy.Allow, "haircut"},
		{"medical", "appointment.book", `{"kind":"medical"}`, ``, policy.RequireApproval, "medical"},
		{"something else", "appointment.book", `{"kind":"tattoo"}`, ``, policy.Deny, ""},
		{"reading", "mcp.shop.list_offers", `{}`, `{"reads":true}`, policy.Allow, "reading"},
		{"anything else", "mcp.shop.refund", `{}`, `{"reads":false}`, policy.Deny, ""},
	},
}

func TestPoliciesDecide(t *testing.T) {
	names, err := fs.Glob(configs.FS, "policies/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(names) != len(decisions) {
		t.Errorf("%d policies ship, %d have decisions", len(names), len(decisions))
	}
	for _, name := range names {
		id := strings.TrimSuffix(path.Base(name), ".yaml")
		set := load(t, id, name)
		if len(decisions[id]) == 0 {
			t.Errorf("%s: no decisions", name)
		}
		for _, c := range decisions[id] {
			req := action.Request{ActionType: c.action, Payload: parse(t, c.payload)}
			env := policy.Env{}
			if c.tool != "" {
				env.Tool = parse(t, c.tool)
			}
			d := set.Decide(&req, env)
			if d.Outcome != c.want || d.RuleID != c.rule {
				t.Errorf("%s: %s: got %v by %q (%s), want %v by %q", id, c.about, d.Outcome, d.RuleID, d.Reason, c.want, c.rule)
			}
			if d.PolicyID != id {
				t.Errorf("%s: %s: policy %q", id, c.about, d.PolicyID)
			}
		}
	}
}

// The rule that autonomous.yaml offers in a comment does what is said of it.
func TestAutonomousWithUnknownServersHeld(t *testing.T) {
	src, err := fs.ReadFile(configs.FS, "policies/autonomous.yaml")
	if err != nil {
		t.Fatal(err)
	}
	before, rule, found := strings.Cut(string(src), "#  - id: unknown-server")
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

func load(t *testing.T, id, name string) *policy.Set {
	t.Helper()
	src, err := fs.ReadFile(configs.FS, name)
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Parse(id, name, src)
	if err != nil {
		t.Fatal(err)
	}
	return policy.Compile([]policy.Binding{{Policy: p, Layer: policy.OwnerLayer}})
}

func parse(t *testing.T, text string) action.Value {
	t.Helper()
	v, err := action.Parse([]byte(text), action.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return v
}
