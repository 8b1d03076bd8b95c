package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/configs"
	"github.com/openleash/openleash-go/internal/home"
	"github.com/openleash/openleash-go/policy"
	"github.com/openleash/openleash-go/proxy"
)

// homeWith is a home folder with a configuration.
func homeWith(t *testing.T, config string) home.Home {
	t.Helper()
	h := home.Home{Dir: t.TempDir()}
	if err := os.WriteFile(h.Config(), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return h
}

func TestConfig(t *testing.T) {
	shipped, err := configs.FS.ReadFile("config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	plain := func() *Config {
		return &Config{Listen: "127.0.0.1:8787", Hold: proxy.DefaultHold, Policies: "policies", MessageBytes: 16 << 20, Children: 64, OpenPerAgent: 50, Log: LogConfig{SegmentBytes: 256 << 20, SegmentAge: 31 * 24 * time.Hour}, Servers: map[string]Server{}}
	}
	tests := []struct {
		name, config string
		want         func(c *Config)
	}{
		{"empty", "", func(*Config) {}},
		{"comments", "# nothing\n  # more\n", func(*Config) {}},
		{"as shipped", string(shipped), func(*Config) {}},
		{"servers that are comments", "mcpServers:\n  # files: {command: npx}\n", func(*Config) {}},
		{"listen", "listen: localhost:1\n", func(c *Config) { c.Listen = "localhost:1" }},
		{"listen on v6", "listen: \"[::1]:99\"\n", func(c *Config) { c.Listen = "[::1]:99" }},
		{"hold", "hold: 1m30s\n", func(c *Config) { c.Hold = 90 * time.Second }},
		{"hold for some", "hold: 5s\nagents:\n  bot: {hold: 4m}\n  cat.2: {}\nmcpServers:\n  files: {command: x, hold: 1h}\n", func(c *Config) {
			c.Hold, c.AgentHold = 5*time.Second, map[string]time.Duration{"bot": 4 * time.Minute}
			c.Servers["files"] = Server{Name: "files", Command: "x", Hold: time.Hour}
		}},
		{"agents that are comments", "agents:\n  # bot: {hold: 4m}\n", func(*Config) {}},
		{"policies beside it", "policies: mine\n", func(c *Config) { c.Policies = "mine" }},
		{"policies elsewhere", "policies: /srv/policies\n", func(c *Config) { c.Policies = "/srv/policies" }},
		{"groups", "groups:\n  buyers: [bot, cat.2]\n  nobody: []\n", func(c *Config) {
			c.Groups = policy.Groups{"buyers": {"bot", "cat.2"}, "nobody": {}}
		}},
		{"groups that are comments", "groups:\n  # buyers: [bot]\n", func(*Config) {}},
		{"log", "log: {segment_bytes: 4096, segment_days: 1, keep_days: 400}\n", func(c *Config) {
			c.Log = LogConfig{SegmentBytes: 4096, SegmentAge: 24 * time.Hour, Keep: 9600 * time.Hour}
		}},
		{"log that is comments", "log:\n  # keep_days: 400\n", func(*Config) {}},
		{"list", "list: hide_denied\n", func(c *Config) { c.HideDenied = true }},
		{"list all", "list: all\n", func(*Config) {}},
		{"tools", "tools: {changed: deny}\nmcpServers:\n  files: {command: x, tools: {changed: allow}}\n  other: {command: x}\n", func(c *Config) {
			c.Pins = authz.PinDeny
			c.Servers["files"] = Server{Name: "files", Command: "x", Pins: authz.PinAllow}
			c.Servers["other"] = Server{Name: "other", Command: "x"}
		}},
		{"tools that are comments", "tools:\n  # changed: deny\n", func(*Config) {}},
		{"approvals", "approvals: {open_per_agent: 10000}\n", func(c *Config) { c.OpenPerAgent = 10_000 }},
		{"limits", "limits: {message_bytes: 65536, children: 10000}\n", func(c *Config) { c.MessageBytes, c.Children = 65536, 10_000 }},
		{"a process's life", "mcpServers:\n  files: {command: x, start: at_start, idle: 10m, run_as: nobody}\n  other: {command: x, start: first_use, idle: 24h}\n", func(c *Config) {
			c.Servers["files"] = Server{Name: "files", Command: "x", AtStart: true, Idle: 10 * time.Minute, RunAs: "nobody"}
			c.Servers["other"] = Server{Name: "other", Command: "x", Idle: 24 * time.Hour}
		}},
		{"a program", "mcpServers:\n  files: {command: npx, args: [-y, x], env: {A: \"1\", B: \"${B}\"}, cwd: /tmp, type: stdio, profile: filesystem}\n", func(c *Config) {
			c.Servers["files"] = Server{Name: "files", Command: "npx", Args: []string{"-y", "x"}, Env: map[string]string{"A": "1", "B": "${B}"}, Cwd: "/tmp", Profile: "filesystem"}
		}},
		{"an endpoint", "mcpServers:\n  far: {url: \"https://far.example/mcp\", headers: {Authorization: \"Bearer ${T}\"}, type: http}\n", func(c *Config) {
			c.Servers["far"] = Server{Name: "far", URL: "https://far.example/mcp", Headers: map[string]string{"Authorization": "Bearer ${T}"}}
		}},
		{"a client", "mcpServers:\n  far: {url: \"https://far.example/mcp\", oauth: {client_id: us, client_secret: \"${S}\", scopes: [a, b:c]}}\n", func(c *Config) {
			c.Servers["far"] = Server{Name: "far", URL: "https://far.example/mcp", OAuth: OAuth{ClientID: "us", ClientSecret: "${S}", Scopes: []string{"a", "b:c"}}}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := homeWith(t, tt.config)
			got, err := loadConfig(h)
			if err != nil {
				t.Fatal(err)
			}
			want := plain()
			tt.want(want)
			if !filepath.IsAbs(want.Policies) {
				want.Policies = filepath.Join(h.Dir, want.Policies)
			}
			want.Hash = fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(tt.config)))
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmp.AllowUnexported(Server{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if c, err := loadConfig(home.Home{Dir: t.TempDir()}); err != nil || c.Listen != "127.0.0.1:8787" {
		t.Errorf("without a file: %+v, %v", c, err)
	}
}

func TestConfigFaults(t *testing.T) {
	tests := []struct{ name, config, want string }{
		{"no mapping", "- listen\n", "config.yaml:1:1: the configuration: want a mapping"},
		{"a second document", "listen: 127.0.0.1:1\n---\nlisten: 127.0.0.1:2\n", "a second document begins here"},
		{"a key twice", "hold: 5s\nhold: 6s\n", "config.yaml:2:1: the key \"hold\" stands here a second time"},
		{"unknown key", "lisen: 127.0.0.1:1\n", `config.yaml:1:1: the configuration: unknown key "lisen" (did you mean "listen"?)`},
		{"all addresses", "listen: 0.0.0.0:1\n", "config.yaml:1:9: listen: want an address of this machine alone"},
		{"a name", "listen: leash.example:1\n", "want an address of this machine alone"},
		{"hold without unit", "hold: \"50\"\n", `hold: want a time from 1s to 1h, such as 50s, got "50"`},
		{"hold too short", "hold: 10ms\n", `got "10ms"`},
		{"none may wait", "approvals: {open_per_agent: 0}\n", "config.yaml:1:29: open_per_agent: want 1 to 10000, got 0"},
		{"many may wait", "approvals:\n  open_per_agent: many\n", "config.yaml:2:19: open_per_agent: want"},
		{"half may wait", "approvals:\n  open_per_agent: 1.5\n", "config.yaml:2:19: open_per_agent: want"},
		{"approvals as a number", "approvals: 5\n", "config.yaml:1:12: approvals: want"},
		{"another bound", "approvals:\n  open: 5\n", "config.yaml:2:3: approvals: unknown key \"open\""},
		{"too many may wait", "approvals: {open_per_agent: 10001}\n", "open_per_agent: want 1 to 10000, got 10001"},
		{"unknown bound of what waits", "approvals: {open: 1}\n", "unknown key \"open\""},
		{"segments too short", "log: {segment_bytes: 100}\n", "config.yaml:1:22: segment_bytes: want 4096 to 1099511627776, got 100"},
		{"keep nothing", "log: {keep_days: 0}\n", "keep_days: want 1 to 36500, got 0"},
		{"unknown of the log", "log: {keep: 5}\n", "log: unknown key \"keep\""},
		{"message too small", "limits: {message_bytes: 1000}\n", "message_bytes: want 65536 to 268435456, got 1000"},
		{"limits unknown", "limits: {message_byte: 65536}\n", `did you mean "message_bytes"?`},
		{"servers as list", "mcpServers: [a]\n", "mcpServers: want a mapping of names to servers"},
		{"server as text", "mcpServers: {a: npx}\n", "server a: want a mapping"},
		{"bad name", "mcpServers: {\"a/b\": {command: x}}\n", "a name has letters"},
		{"both", "mcpServers: {a: {command: x, url: \"http://y\"}}\n", "server a: want either command (a program) or url (an endpoint)"},
		{"neither", "mcpServers: {a: {args: [x]}}\n", "server a: want either command"},
		{"url without scheme", "mcpServers: {a: {url: far.example}}\n", `url: want http:// or https://, got "far.example"`},
		{"wrong type", "mcpServers: {a: {command: x, type: http}}\n", "type: http goes with url"},
		{"unknown transport", "mcpServers: {a: {url: \"http://y\", type: ws}}\n", `type: want stdio, http, streamable-http, sse, got "ws"`},
		{"sse of a command", "mcpServers: {a: {command: x, transport: sse}}\n", "transport: sse goes with url"},
		{"two transports", "mcpServers: {a: {url: \"http://y\", type: http, transport: sse}}\n", "transport: sse, but type says http: leave one of them out"},
		{"number as variable", "mcpServers: {a: {command: x, env: {PORT: 80}}}\n", `env PORT: want text, got the number 80: write "80"`},
		{"oauth of a program", "mcpServers: {a: {command: x, oauth: {client_id: y}}}\n", "oauth: goes with url"},
		{"oauth unknown", "mcpServers: {a: {url: \"http://y\", oauth: {clientid: y}}}\n", `did you mean "client_id"?`},
		{"a secret in the file", "mcpServers: {a: {url: \"http://y\", oauth: {client_id: y, client_secret: hunter2}}}\n", "config.yaml:1:72: client_secret: want ${NAME}, the name of an environment variable: a secret does not stand in this file"},
		{"a secret as a default", "mcpServers: {a: {url: \"http://y\", oauth: {client_id: y, client_secret: \"${S:-hunter2}\"}}}\n", "client_secret: want ${NAME}"},
		{"a secret beside a name", "mcpServers: {a: {url: \"http://y\", oauth: {client_id: y, client_secret: \"hunter2${S}\"}}}\n", "client_secret: want ${NAME}"},
		{"a secret as a number", "mcpServers: {a: {url: \"http://y\", oauth: {client_id: y, client_secret: 1234567}}}\n", "client_secret: want ${NAME}"},
		{"a secret of nobody", "mcpServers: {a: {url: \"http://y\", oauth: {client_secret: \"${S}\"}}}\n", "client_secret: goes with client_id"},
		{"two scopes in one", "mcpServers: {a: {url: \"http://y\", oauth: {scopes: [\"a b\"]}}}\n", `want a list of scopes, each a word without spaces, got "a b"`},
		{"groups as a list", "groups: [ann]\n", "config.yaml:1:9: groups: want a mapping (name: value), got a list"},
		{"a group's key", "group: {a: [ann]}\n", `config.yaml:1:1: the configuration: unknown key "group" (did you mean "groups"?)`},
		{"a group of nothing", "groups: {a: }\n", "group a: want a list like [a, b], got nothing"},
		{"a group of another name", "groups: {\"a/b\": [ann]}\n", `config.yaml:1:10: groups: "a/b": a name has letters`},
		{"a group twice", "groups:\n  a: [ann]\n  a: [bob]\n", `config.yaml:3:3: the key "a" stands here a second time`},
		{"no agent's name", "groups: {a: [\"a b\"]}\n", `config.yaml:1:14: group a: agent "a b": a name has letters`},
		{"an agent twice", "groups: {a: [ann, bob, ann]}\n", `config.yaml:1:24: group a: agent "ann" stands there already`},
		{"too many members", manyMembers(10_001), "groups: want at most 10000 agents in all groups together, got 10001"},
		{"an origin with a path", "origins: [\"https://a.example/x\"]\n", `config.yaml:1:11: origins: passkeys: origin: want http://HOST:PORT or https://HOST, got "https://a.example/x"`},
		{"an origin in capitals", "origins: [\"https://A.example\"]\n", "want it in lower case, as browsers write it"},
		{"an origin that is an address", "origins: [\"https://192.0.2.1\"]\n", "config.yaml:1:11: origins: passkeys at 192.0.2.1"},
		{"too many origins", "origins: [" + strings.Repeat("\"https://a.example\", ", 21) + "]\n", "origins: want at most 20, got 21"},
		{"tools of another kind", "tools: {changed: ask}\n", `changed: want hold, deny, allow, got "ask"`},
		{"tools with another key", "mcpServers: {a: {command: x, tools: {change: deny}}}\n", `tools: unknown key "change" (did you mean "changed"?)`},
		{"mapping rule", "mapping:\n  - {tool: x, action_typ: y}\n", `did you mean "action_type"?`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := loadConfig(homeWith(t, tt.config))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v\nwant %s", err, tt.want)
			}
			if err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "1234567")) {
				t.Errorf("the secret is in %v", err)
			}
		})
	}
}

// manyMembers are n agents in groups of a hundred.
func manyMembers(n int) string {
	var b strings.Builder
	b.WriteString("groups:")
	for i := range n {
		if i%100 == 0 {
			fmt.Fprintf(&b, "\n  g%d:", i)
		}
		fmt.Fprintf(&b, "\n  - a%d", i)
	}
	return b.String() + "\n"
}

func TestLoopback(t *testing.T) {
	for addr, want := range map[string]string{
		"127.0.0.1:8787":    "",
		"127.8.9.1:1":       "",
		"[::1]:65535":       "",
		"localhost:80":      "",
		"0.0.0.0:8787":      "alone",
		"[::]:8787":         "alone",
		":8787":             "alone",
		"192.168.1.2:1":     "alone",
		"localhost.evil:1":  "alone",
		"[::ffff:8.8.8.8]:": "port",
		"127.0.0.1":         "an address and a port",
		"127.0.0.1:0":       "port from 1",
		"127.0.0.1:65536":   "port from 1",
		"127.0.0.1:http":    "port from 1",
		"":                  "an address and a port",
	} {
		err := loopback(addr)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", addr, err, want)
		}
	}
}

func TestExpand(t *testing.T) {
	t.Setenv("LEASH_A", "a b$c")
	t.Setenv("LEASH_EMPTY", "")
	os.Unsetenv("LEASH_NONE")
	for in, want := range map[string]string{
		"":                        "",
		"plain $LEASH_A":          "plain $LEASH_A", // only the form with braces is a reference
		"${LEASH_A}":              "a b$c",
		"x${LEASH_A}y${LEASH_A}":  "xa b$cya b$c",
		"${env:LEASH_A}":          "a b$c",
		"${LEASH_EMPTY}":          "",
		"${LEASH_EMPTY:-other}":   "",
		"${LEASH_NONE:-other}":    "other",
		"${LEASH_NONE:-}":         "",
		"${env:LEASH_NONE:-a:-b}": "a:-b",
	} {
		got, err := expand(map[string]string{"k": in}, "server x: env")
		if err != nil || got["k"] != want {
			t.Errorf("%q: %q, %v, want %q", in, got["k"], err, want)
		}
	}
	for in, want := range map[string]string{
		"${LEASH_NONE} ${LEASH_NONE} ${LEASH_ALSO}": "server x: env: not set in the environment: LEASH_ALSO, LEASH_NONE",
		"${input:token}": "server x: env: want ${NAME}, the name of an environment variable, got ${input:token}",
		"${}":            "got ${}",
		"${1A}":          "got ${1A}",
	} {
		_, err := expand(map[string]string{"k": in}, "server x: env")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", in, err, want)
		}
	}
}

func TestNameFromCommand(t *testing.T) {
	for command, want := range map[string]string{
		"npx -y @modelcontextprotocol/server-filesystem /home/me": "filesystem",
		"npx -y @modelcontextprotocol/server-filesystem@2025.1.2": "filesystem",
		"/usr/bin/npx mcp-server-kit":                             "kit",
		"npx @playwright/mcp@latest":                              "playwright",
		"cmd /c npx -y @scope/server-memory":                      "memory",
		"uvx mcp-server-time --local-timezone UTC":                "time",
		"uv --directory /srv/git run server.py":                   "server",
		"uvx --from git+https://x/y mcp-server-git":               "git",
		"python3 -m mcp_server_fetch":                             "fetch",
		"node /opt/notes/notes.js --port 1":                       "notes",
		"docker run -i --rm -e KEY -v /a:/b mcp/github":           "github",
		"docker run -i ghcr.io/github/github-mcp-server:v1":       "github-mcp-server",
		"deno run -A jsr:@x/tool":                                 "tool",
		"/usr/local/bin/my-server":                                "my-server",
		"fakemcp":                                                 "fakemcp",
		"server.exe":                                              "server",
		"npx":                                                     "npx",
	} {
		if got := nameFromCommand(strings.Fields(command)); got != want {
			t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
}

func TestFindProfile(t *testing.T) {
	for _, tt := range []struct {
		server Server
		want   string // the profile; "" none; "!" an error
	}{
		{Server{Command: "npx", Args: []string{"-y", "@modelcontextprotocol/server-filesystem", "/x"}}, "filesystem"},
		{Server{Command: "npx", Args: []string{"-y", "unheard-of"}}, ""},
		{Server{Command: "unheard-of", Profile: "filesystem"}, "filesystem"},
		{Server{Command: "npx", Args: []string{"-y", "@modelcontextprotocol/server-filesystem"}, Profile: "none"}, ""},
		{Server{Command: "x", Profile: "filesystm"}, "!"},
	} {
		got, err := findProfile(tt.server)
		name := ""
		if got != nil {
			name = got.Name
		}
		if err != nil {
			name = "!"
		}
		if name != tt.want {
			t.Errorf("%+v: %q, %v; want %q", tt.server, name, err, tt.want)
		}
	}
}

func TestOurEnv(t *testing.T) {
	t.Setenv("OPENLEASH_HOME", "/x")
	t.Setenv("OPENLEASH_ANYTHING", "1")
	t.Setenv("SECRET_OF_THE_SERVER", "s")
	var found bool
	for _, kv := range ourEnv() {
		if strings.HasPrefix(kv, "OPENLEASH_") {
			t.Errorf("a wrapped server gets %s", kv)
		}
		found = found || kv == "SECRET_OF_THE_SERVER=s"
	}
	if !found {
		t.Error("a wrapped server does not get what its host has set for it")
	}
}

func TestErrorsEndInHints(t *testing.T) {
	inner := withHint(errors.New("no key"), "make one")
	err := withHint(errors.Join(errors.New("starting"), inner), "or start anew")
	var b strings.Builder
	printError(&b, err)
	want := "openleash: starting\nno key\nopenleash: hint: or start anew\nopenleash: hint: make one\n"
	if b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
	if withHint(nil, "x") != nil {
		t.Error("a hint without an error is an error")
	}
}
