package proxy

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func shipped(t *testing.T) []*Profile {
	t.Helper()
	profiles, err := ShippedProfiles()
	if err != nil {
		t.Fatal(err)
	}
	return profiles
}

// fitting returns the only profile that fits, nil when none does.
func fitting(t *testing.T, profiles []*Profile, command []string, url string) *Profile {
	t.Helper()
	var found *Profile
	for _, p := range profiles {
		if p.Fits(command, url) {
			if found != nil {
				t.Errorf("%v %s fits %s and %s", command, url, found.Name, p.Name)
			}
			found = p
		}
	}
	return found
}

func TestShippedProfiles(t *testing.T) {
	files, err := filepath.Glob("../configs/profiles/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("want files in configs/profiles, got %v, %v", files, err)
	}
	profiles := shipped(t)
	if len(profiles) != len(files) {
		t.Errorf("got %d profiles from %d files", len(profiles), len(files))
	}
	for _, p := range profiles {
		if len(p.reads)+len(p.destroys)+len(p.rules) == 0 {
			t.Errorf("%s says nothing", p.Name)
		}
		for _, r := range p.rules {
			if r.server.pattern != "*" {
				t.Errorf("%s: rule %s: a shipped profile cannot know the name that a server is given, got %q", p.Name, r.place, r.server.pattern)
			}
		}
	}
}

func TestShippedReads(t *testing.T) {
	byName := make(map[string]*Profile)
	for _, p := range shipped(t) {
		byName[p.Name] = p
	}
	tests := []struct {
		profile, tool   string
		reads, destroys bool
	}{
		{"filesystem", "read_text_file", true, false},
		{"filesystem", "write_file", false, true},
		{"filesystem", "create_directory", false, false},
		{"everything", "echo", true, false},
		{"everything", "get-env", false, false},
		{"memory", "delete_entities", false, true},
		{"fetch", "fetch", false, false},
		{"git", "git_log", true, false},
		{"git", "git_commit", false, false},
		{"github", "get_secret_scanning_alert", false, false},
		{"github", "merge_pull_request", false, true},
		{"playwright", "browser_snapshot", false, false},
		{"slack", "slack_post_message", false, true},
		{"time", "convert_time", true, false},
		{"sample", "buy", false, true},
		{"sample", "list_offers", true, false},
	}
	for _, test := range tests {
		p := byName[test.profile]
		if p == nil {
			t.Errorf("no profile %s", test.profile)
			continue
		}
		if p.reads[test.tool] != test.reads || p.destroys[test.tool] != test.destroys {
			t.Errorf("%s: %s: reads %v, destroys %v", test.profile, test.tool, p.reads[test.tool], p.destroys[test.tool])
		}
	}
}

func TestSampleMapping(t *testing.T) {
	p := fitting(t, shipped(t), []string{"/tmp/openleash", "sample-server"}, "")
	if p == nil {
		t.Fatal("no profile for the sample server")
	}
	m := NewMapping(nil, p)
	tests := []struct{ tool, arguments, wantType, wantDomain, wantPayload string }{
		{"buy", `{"item":"book","price":12.50,"currency":"EUR","shop":"books.example"}`, "purchase", "books.example",
			`{"item":"book","amount_minor":1250,"currency":"EUR","merchant_domain":"books.example"}`},
		{"send_mail", `{"to":"ann@partner.example","subject":"Hi","body":"…"}`, "communication.email", "partner.example",
			`{"to":"ann@partner.example","subject":"Hi","domain":"partner.example"}`},
		{"book", `{"kind":"haircut","when":"2026-12-01T10:00:00Z"}`, "appointment.book", "",
			`{"kind":"haircut","when":"2026-12-01T10:00:00Z"}`},
		{"list_offers", `{}`, "mcp.sample.list_offers", "", `{}`},
	}
	for _, test := range tests {
		got, err := m.Map("sample", test.tool, parseArguments(t, test.arguments))
		if err != nil {
			t.Errorf("%s: %v", test.tool, err)
			continue
		}
		want := withArguments(t, test.wantPayload, test.arguments)
		if diff := cmp.Diff(string(want.Canonical()), string(got.Payload.Canonical())); diff != "" || got.ActionType != test.wantType || got.RelyingParty.Domain != test.wantDomain {
			t.Errorf("%s: got %s for %q (-want +got)\n%s", test.tool, got.ActionType, got.RelyingParty.Domain, diff)
		}
	}
}

func TestFits(t *testing.T) {
	profiles := shipped(t)
	tests := []struct{ command, url, want string }{
		{command: "npx -y @modelcontextprotocol/server-filesystem /data", want: "filesystem"},
		{command: "npx @modelcontextprotocol/server-filesystem@2026.8.31 /data", want: "filesystem"},
		{command: "/usr/bin/npx --yes @modelcontextprotocol/server-everything@latest", want: "everything"},
		{command: `C:\node\npx.cmd -y @modelcontextprotocol/server-memory`, want: "memory"},
		{command: "cmd /c npx -y @modelcontextprotocol/server-memory", want: "memory"},
		{command: "bunx @playwright/mcp@latest --headless", want: "playwright"},
		{command: "npm exec -y @playwright/mcp", want: "playwright"},
		{command: "pnpm dlx @playwright/mcp", want: "playwright"},
		{command: "node_modules/.bin/mcp-server-filesystem /data", want: "filesystem"},
		{command: "/work/e2e/node_modules/.bin/mcp-server-everything", want: "everything"},
		{command: "node /x/node_modules/@modelcontextprotocol/server-sequential-thinking/dist/index.js", want: "sequential-thinking"},
		{command: `node.exe C:\x\node_modules\@modelcontextprotocol\server-slack\dist\index.js`, want: "slack"},
		{command: "uvx mcp-server-git --repository /r", want: "git"},
		{command: "uvx mcp-server-fetch==2026.10.24", want: "fetch"},
		{command: "uvx --python 3.12 mcp-server-time@latest", want: "time"},
		{command: "uv tool run mcp-server-time", want: "time"},
		{command: "pipx run mcp-server-time", want: "time"},
		{command: "/v/bin/python -m mcp_server_git", want: "git"},
		{command: "docker run -i --rm -e GITHUB_PERSONAL_ACCESS_TOKEN ghcr.io/github/github-mcp-server", want: "github"},
		{command: "docker run -i --rm --mount type=bind,src=/a,dst=/b mcp/filesystem:1.0 /b", want: "filesystem"},
		{command: "podman run --env=A=b docker.io/mcp/git@sha256:00", want: "git"},
		{command: "/opt/github-mcp-server stdio", want: "github"},
		{url: "https://api.githubcopilot.com/mcp/", want: "github"},
		{command: "/tmp/openleash sample-server --keys x", want: "sample"},

		// Programs that only bear a known name somewhere are not known.
		{command: "npx -y evil-server @modelcontextprotocol/server-filesystem"},
		{command: "npx mcp-server-filesystem /data"},
		{command: "npx @evil/mcp-server-filesystem"},
		{command: "npx @modelcontextprotocol/server-filesystem-evil"},
		{command: "npx @modelcontextprotocol/server-filesystem@npm:evil"},
		{command: "npx -p evil @modelcontextprotocol/server-filesystem"},
		{command: "npx --registry=http://evil.example @modelcontextprotocol/server-filesystem"},
		{command: "uvx --from evil mcp-server-git"},
		{command: "uvx --index-url http://evil.example mcp-server-git"},
		{command: "uvx mcp-server-git@git+https://evil.example/x"},
		{command: "pipx run @modelcontextprotocol/server-filesystem"},
		{command: "evil /x/mcp-server-filesystem"},
		{command: "node /x/evil.js node_modules/@modelcontextprotocol/server-slack/dist/index.js"},
		{command: "node --require /x/evil.js node_modules/@modelcontextprotocol/server-slack/dist/index.js"},
		{command: "node /x/node_modules/@modelcontextprotocol/server-slack/../../evil.js"},
		{command: "docker run evil mcp/git"},
		{command: "docker run --entrypoint evil mcp/git"},
		{command: "docker run evil.example/mcp/git"},
		{command: "openleash stdio sample-server"},
		{command: "sh -c mcp-server-git"},
		{url: "https://api.githubcopilot.com.evil.example/mcp/"},
		{url: "http://api.githubcopilot.com/mcp/"},
		{},
	}
	for _, test := range tests {
		got := ""
		if p := fitting(t, profiles, strings.Fields(test.command), test.url); p != nil {
			got = p.Name
		}
		if got != test.want {
			t.Errorf("%s%s: got profile %q, want %q", test.command, test.url, got, test.want)
		}
	}
}

func TestParseProfileFaults(t *testing.T) {
	tests := []struct{ name, src, want string }{
		{"no name", "match: {npm: [x]}", "profile: want a name"},
		{"no match", "profile: x", "profile: want match"},
		{"empty match", "profile: x\nmatch: {}", "match: want at least one of"},
		{"unknown match", "profile: x\nmatch: {command: [x]}", `match: unknown key "command"`},
		{"empty list", "profile: x\nmatch: {npm: [x]}\nreads: []", "p.yaml:3:8: reads: want at least one tool"},
		{"overlap", "profile: x\nmatch: {npm: [x]}\nreads: [a, b]\ndestroys: [b]", `reads: "b" is in destroys too`},
		{"twice", "profile: x\nmatch: {npm: [x]}\nreads: [a, a]", `reads: "a" is there twice`},
		{"bad rule", "profile: x\nmatch: {npm: [x]}\nmapping: [{tool: a}]", "want an action_type"},
		{"unknown key", "profile: x\nmatch: {npm: [x]}\nread: [a]", `unknown key "read" (did you mean "reads"?)`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p, err := ParseProfile("p.yaml", []byte(test.src))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %+v, %v\nwant an error with %s", p, err, test.want)
			}
		})
	}
}
