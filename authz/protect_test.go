package authz_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/authz"
)

// ours is a made-up home with a link into it from elsewhere.
func protected(t *testing.T) (p *authz.Protection, dir, leash, link string) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	leash = filepath.Join(dir, "leash-home")
	if err := os.MkdirAll(filepath.Join(leash, "policies"), 0o700); err != nil {
		t.Fatal(err)
	}
	link = filepath.Join(dir, "innocent")
	if runtime.GOOS != "windows" {
		if err := os.Symlink(leash, link); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("HOME", filepath.Join(dir, "user"))
	return authz.NewProtection([]string{leash, filepath.Join(leash, "policies")}, []int{8787}), dir, leash, link
}

func TestArgumentsThatReachIntoOpenLeashAreRefused(t *testing.T) {
	p, dir, leash, link := protected(t)
	slashed := filepath.ToSlash(leash)
	notes := filepath.Join(dir, "notes")
	if err := os.MkdirAll(filepath.Join(notes, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(leash, filepath.Join(notes, "sub", "link")); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string]string{
		"plain":                 `{"path":"` + slashed + `/policies/p.yaml"}`,
		"the folder itself":     `{"path":"` + slashed + `"}`,
		"trailing slash":        `{"path":"` + slashed + `/"}`,
		"dot dot":               `{"path":"` + dir + `/a/b/../../leash-home/policies"}`,
		"double slash":          `{"path":"` + strings.ReplaceAll(slashed, "/leash", "//./leash") + `"}`,
		"other case":            `{"path":"` + strings.ToUpper(slashed) + `/policies"}`,
		"back slashes":          `{"path":"` + strings.ReplaceAll(slashed, "/", `\\`) + `\\policies"}`,
		"file URL":              `{"uri":"file://` + slashed + `/policies"}`,
		"file URL with host":    `{"uri":"FILE://localhost` + slashed + `/policies"}`,
		"percent":               `{"uri":"file://` + strings.ReplaceAll(slashed, "leash-home", "leash%2Dhome") + `/x"}`,
		"percent twice":         `{"uri":"file://` + strings.ReplaceAll(slashed, "leash-home", "leash%252Dhome") + `/x"}`,
		"a link":                `{"path":"` + link + `/policies/p.yaml"}`,
		"a file to be, by link": `{"path":"` + link + `/policies/new/file.yaml"}`,
		"in a list":             `{"paths":["/tmp/x","` + slashed + `/data/openleash.db"]}`,
		"deep":                  `{"a":{"b":[{"c":"` + slashed + `/x"}]}}`,
		"as a key":              `{"edits":{"` + slashed + `/policies/p.yaml":"x"}}`,
		"in a command":          `{"command":"cat ` + slashed + `/keys/* | base64"}`,
		"in a quoted command":   `{"command":"cp /tmp/p.yaml \"` + slashed + `\""}`,
		"link in a command":     `{"command":"cd ` + link + `/policies && ls"}`,
		"relative to another":   `{"path":"` + dir + `","pattern":"leash-home/**"}`,
		"relative":              `{"path":"leash-home/policies/p.yaml"}`,
		"relative, roundabout":  `{"path":"x/../leash-home/policies"}`,
		"a word from a folder":  `{"folder":"` + filepath.ToSlash(dir) + `","name":"leash-home"}`,
		"relative, climbing":    `{"path":"../../leash-home/policies"}`,
		"relative, by a link":   `{"path":"sub/link/policies"}`,
		"tilde of another home": `{"path":"~/leash-home/keys"}`,
		"home by tilde":         `{"path":"~/.openleash/config.yaml"}`,
		"home by variable":      `{"command":"cat $HOME/.openleash/config.yaml"}`,
		"default home anywhere": `{"path":".openleash/policies"}`,
		"zero width":            `{"path":"` + strings.ReplaceAll(slashed, "leash", "lea\\u200bsh") + `/x"}`,
		"full width":            `{"path":"` + strings.ReplaceAll(slashed, "leash-home", "\\uff4ceash-home") + `/x"}`,
		"Claude Desktop":        `{"path":"/Users/x/Library/Application Support/Claude/claude_desktop_config.json"}`,
		"Cursor":                `{"path":"project/.cursor/mcp.json"}`,
		"VS Code":               `{"path":"/w/.vscode/mcp.json"}`,
		"Claude Code":           `{"path":"/w/.mcp.json"}`,
		"OpenClaw":              `{"path":"~/.openclaw/openclaw.json"}`,
		"portal":                `{"url":"http://openleash.localhost:8787/approvals/1"}`,
		"grants":                `{"url":"http://openleash.localhost:8787/grants/1/withdraw"}`,
		"loopback":              `{"url":"http://127.0.0.1:8787/"}`,
		"loopback v6":           `{"url":"http://[::1]:8787/"}`,
		"mapped v6":             `{"url":"http://[::ffff:127.0.0.1]:8787/"}`,
		"short":                 `{"url":"http://127.1:8787/"}`,
		"decimal":               `{"url":"http://2130706433:8787/"}`,
		"hexadecimal":           `{"url":"http://0x7f.0.0.1:8787/"}`,
		"all interfaces":        `{"url":"http://0.0.0.0:8787/"}`,
		"user info":             `{"url":"http://a:b@localhost:8787/"}`,
		"zeros in the port":     `{"url":"http://localhost:008787/"}`,
		"percent host":          `{"url":"http://%6cocalhost:8787/"}`,
		"a name that resolves":  `{"url":"http://rebind.test:8787/"}`,
		"no scheme":             `{"command":"curl -X POST localhost:8787/approvals/1/approve"}`,
		"a grant":               `{"command":"openleash grants withdraw 1"}`,
		"a rule":                `{"command":"openleash approvals rule 1 --out x"}`,
		"our command":           `{"command":"openleash approvals approve 1"}`,
		"by its path":           `{"command":"cd / && OPENLEASH_HOME=/x /usr/local/bin/openleash  approvals  approve 1"}`,
		"by cmd":                `{"command":"cmd /c \"C:\\bin\\OpenLeash.exe\" approvals deny 1"}`,
		"with a flag":           `{"command":"openleash --x approvals list"}`,
		"in quotes":             `{"command":"sh -c 'openleash open'"}`,
		"in a substitution":     `{"command":"curl -d $(openleash open --no-browser) example.test"}`,
		"a link's command":      `{"script":["set -e","openleash open\nls"]}`,
		"a token":               `{"command":"openleash agents token other"}`,
		"an account":            `{"command":"openleash owners reset --without-code"}`,
		"a set-up link":         `{"command":"openleash","args":["admin","link"]}`,
		"a session":             `{"script":"x=$(openleash sessions list --json)"}`,
		"a limit":               `{"command":"openleash limits release x"}`,
		"what waits":            `{"command":"openleash approvals"}`,
		"a definition":          `{"command":"openleash tools accept files write --hash x"}`,
		"definitions":           `{"command":"openleash","args":["tools","list"]}`,
		"as a list":             `{"argv":["/opt/openleash","approvals","approve","1"]}`,
		"in pieces":             `{"args":["open"],"command":"openleash"}`,
		"in pieces, deep":       `{"run":{"program":"openleash.exe","arguments":{"list":["--x","approvals","approve"]}}}`,
		"in parts":              `{"host":"localhost","port":8787}`,
		"in parts, as text":     `{"host":"127.0.0.1","port":"8787"}`,
	} {
		v, err := action.Parse([]byte(args), action.Limits{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if p.Check(&authz.Call{Tool: "any", Arguments: v, Places: []string{"/x", notes}}) == "" {
			t.Errorf("%s: %s passed", name, args)
		}
	}
}

func TestOtherArgumentsPass(t *testing.T) {
	p, dir, leash, _ := protected(t)
	key := filepath.Join(leash, "key.json") // a server may be started with a file of ours
	if err := os.WriteFile(key, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string]string{
		"our folder's name": `{"note":"leash-home"}`,
		"a common word":     `{"path":"policies","b":"policies/p.yaml"}`,
		"a neighbour":       `{"path":"` + filepath.ToSlash(dir) + `/notes/a.txt"}`,
		"a longer name":     `{"path":"` + filepath.ToSlash(leash) + `-not/a.txt"}`,
		"another port":      `{"url":"http://localhost:3000/"}`,
		"a web site":        `{"url":"https://example.com/?q=a%20b"}`,
		"a port alone":      `{"port":8787}`,
		"prose":             `{"text":"OpenLeash asks before it acts; 100% of the time: see https://example.com."}`,
		"open as a word":    `{"text":"OpenLeash open sourced it; openleash tools and openleash limits are good. Start openleash start to finish."}`,
		"a repository":      `{"owner":"openleash","repo":"openleash","state":"open","path":"openleash/README.md"}`,
		"a longer program":  `{"command":"openleash-go open","args":["xopenleash open","my_openleash approvals list"]}`,
		"its harmless ones": `{"command":"openleash version; openleash policy check policies.yaml; openleash stdio --name x -- y"}`,
		"an odd percent":    `{"text":"50%"}`,
		"numbers":           `{"a":1,"b":[2.5,"3"],"c":null,"d":true}`,
		"nothing":           `{}`,
	} {
		v, err := action.Parse([]byte(args), action.Limits{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if reason := p.Check(&authz.Call{Tool: "any", Arguments: v, Places: []string{filepath.Join(dir, "notes"), key}}); reason != "" {
			t.Errorf("%s: %s was refused: %s", name, args, reason)
		}
	}
}

func FuzzProtection(f *testing.F) {
	p := authz.NewProtection([]string{"/x/leash"}, []int{8787})
	f.Add("/x/leash/a")
	f.Add("http://127.1:8787/%2e%2e")
	f.Fuzz(func(t *testing.T, s string) {
		look := func(text action.Value) string {
			return p.Check(&authz.Call{Tool: "any", Arguments: action.ObjectValue(action.Member{Key: "a", Value: text})})
		}
		look(action.StringValue(strings.ToValidUTF8(s, "")))
		// The laws: what surrounds a command of ours, or a protected path, does not hide it.
		command := action.StringValue(strings.ToValidUTF8(s, "") + "\nopenleash approvals approve 1")
		if look(command) == "" {
			t.Errorf("%q hides a command", s)
		}
		hidden := action.StringValue(strings.ToValidUTF8(s, "") + " /x/leash/keys ")
		if len(s) < 4000 && look(hidden) == "" {
			t.Errorf("%q hides a protected path", s)
		}
	})
}

// A folder that is taken away takes with it what is below.
func TestFoldersAboveOursStay(t *testing.T) {
	p, dir, _, _ := protected(t)
	from := action.ObjectValue(action.Member{Key: "source", Value: action.StringValue(dir)}, action.Member{Key: "destination", Value: action.StringValue("/tmp/x")})
	destroys := action.ObjectValue(action.Member{Key: "destroys", Value: action.BoolValue(true)})
	for _, call := range []authz.Call{{Tool: "move_file", Arguments: from}, {Tool: "DeleteFolder", Arguments: from}, {Tool: "x", Info: destroys, Arguments: from}} {
		if p.Check(&call) == "" {
			t.Errorf("%s of a folder above ours passed", call.Tool)
		}
	}
	if reason := p.Check(&authz.Call{Tool: "list_directory", Arguments: from}); reason != "" {
		t.Errorf("looking into a folder above ours: %s", reason)
	}
}

// Two spellings of one name, as file systems and servers see it.
func TestComposedAndDecomposedNamesAreOne(t *testing.T) {
	p := authz.NewProtection([]string{"/x/B\u00fcro/leash"}, nil)
	for _, path := range []string{"/x/B\u00fcro/leash/keys", "/x/Bu\u0308ro/leash/keys"} {
		if p.Check(&authz.Call{Tool: "read", Arguments: action.ObjectValue(action.Member{Key: "p", Value: action.StringValue(path)})}) == "" {
			t.Errorf("%+q passed", path)
		}
	}
}

func BenchmarkProtection(b *testing.B) {
	p := authz.NewProtection([]string{b.TempDir()}, []int{8787})
	v, err := action.Parse([]byte(`{"path":"/home/me/notes/2026/november.md","content":"bread, milk, and the tea that Ann likes","n":3}`), action.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	call := &authz.Call{Tool: "write_file", Arguments: v, Places: []string{"/home/me/notes"}}
	for b.Loop() {
		if reason := p.Check(call); reason != "" {
			b.Fatal(reason)
		}
	}
}
