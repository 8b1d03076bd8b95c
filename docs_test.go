package openleash_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/openleash/openleash-go/configs"
	"github.com/openleash/openleash-go/policy"
	"github.com/openleash/openleash-go/proxy"
)

// The documents are tested: what they show runs, what they name exists.
//
//	```sh           run, all blocks of a document as one session; must exit 0
//	```sh norun     not run: it needs a host, or does not end
//	```text         what the block of sh before it prints, line by line, in this
//	                order; … stands for anything
//	```text norun   a refusal that README.md shows; the quickstart must print it
//	```yaml         a policy, a profile or a configuration; must be accepted
//	```json         must parse

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "npx" {
		if err := npx(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "npx:", err)
			os.Exit(1)
		}
		return
	}
	dir, err := os.MkdirTemp("", "openleash-docs-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	buildDir = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// block is one fenced block of a document.
type block struct {
	file string
	line int
	info string // "sh", "sh norun", …
	text string
}

func (b block) String() string { return fmt.Sprintf("%s:%d", b.file, b.line) }

// documents are README.md and everything in docs/.
func documents(t *testing.T) map[string]string {
	t.Helper()
	files := []string{"README.md"}
	err := filepath.WalkDir("docs", func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".md") {
			files = append(files, filepath.ToSlash(path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	docs := map[string]string{}
	for _, file := range files {
		docs[file] = read(t, file)
	}
	if len(docs) < 10 {
		t.Fatalf("only %d documents were found", len(docs))
	}
	return docs
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var fence = regexp.MustCompile("(?ms)^```([^\n`]*)\n(.*?)^```$")

func blocksOf(file, text string) []block {
	var blocks []block
	for _, m := range fence.FindAllStringSubmatchIndex(text, -1) {
		blocks = append(blocks, block{file, 1 + strings.Count(text[:m[0]], "\n"), text[m[2]:m[3]], text[m[4]:m[5]]})
	}
	return blocks
}

// allBlocks are the blocks of all documents whose info begins with a word.
func allBlocks(t *testing.T, word string) []block {
	t.Helper()
	var found []block
	for file, text := range documents(t) {
		for _, b := range blocksOf(file, text) {
			if first, _, _ := strings.Cut(b.info, " "); first == word {
				found = append(found, b)
			}
		}
	}
	if len(found) == 0 {
		t.Fatalf("no document has a block of %s", word)
	}
	return found
}

func TestBlocksSayWhatTheyAre(t *testing.T) {
	for file, text := range documents(t) {
		for _, b := range blocksOf(file, text) {
			if !slices.Contains([]string{"sh", "sh norun", "text", "text norun", "yaml", "json"}, b.info) {
				t.Errorf("%s: a block of %q, which no test reads", b, b.info)
			}
		}
	}
}

// TestCommandsRun runs README.md and the quickstart as a reader would, in a
// home of their own.
func TestCommandsRun(t *testing.T) {
	for _, file := range []string{"README.md", "docs/quickstart.md"} {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			var run []block
			all := blocksOf(file, read(t, file))
			for _, b := range all {
				if b.info == "sh" {
					run = append(run, b)
				}
			}
			printed := session(t, run)
			for i, b := range all {
				if b.info != "text" {
					continue
				}
				if i == 0 || all[i-1].info != "sh" {
					t.Errorf("%s: text that does not follow a block of sh", b)
					continue
				}
				shows(t, b, printed[all[i-1].line])
			}
			if file == "docs/quickstart.md" {
				showsRefusals(t, strings.Join(slices.Collect(maps.Values(printed)), ""))
			}
		})
	}
}

// showsRefusals looks for the refusals of README.md, which hosts print as one
// JSON string.
func showsRefusals(t *testing.T, printed string) {
	t.Helper()
	seen := 0
	for _, b := range blocksOf("README.md", read(t, "README.md")) {
		if b.info != "text norun" {
			continue
		}
		seen++
		want := strings.Trim(strconv.Quote(strings.TrimSuffix(b.text, "\n")), `"`)
		if !pattern(want).MatchString(printed) {
			t.Errorf("%s: the quickstart's calls print no such refusal:\n%s", b, printed)
		}
	}
	if seen == 0 {
		t.Error("README.md shows no refusal")
	}
}

// pattern matches a text in which … stands for anything.
func pattern(text string) *regexp.Regexp {
	return regexp.MustCompile(strings.ReplaceAll(regexp.QuoteMeta(text), "…", ".*"))
}

// session runs blocks in one shell; it returns what each printed, by line.
func session(t *testing.T, blocks []block) map[int]string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, "bin", "npx")); err != nil {
		t.Fatal(err)
	}
	const mark = "=== block "
	var script strings.Builder
	for _, b := range blocks {
		text := strings.ReplaceAll(b.text, "openleash demo\n", "openleash demo --yes\n")
		fmt.Fprintf(&script, "echo '%s%d'\n%s", mark, b.line, text)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-e", "-c", script.String())
	cmd.Env = append(goEnv(t), "HOME="+dir, "OPENLEASH_HOME=", "GOBIN="+filepath.Join(dir, "bin"), "TMPDIR="+t.TempDir(),
		"PATH="+filepath.Join(dir, "bin")+string(filepath.ListSeparator)+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	printed := map[int]string{}
	for _, part := range strings.Split(string(out), mark)[1:] {
		line, rest, _ := strings.Cut(part, "\n")
		n, err := strconv.Atoi(line)
		if err != nil {
			t.Fatal(err)
		}
		printed[n] = rest
	}
	return printed
}

// goEnv keeps Go's caches when HOME is another.
func goEnv(t *testing.T) []string {
	t.Helper()
	env := os.Environ()
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH", "GOPROXY", "GOFLAGS", "GOSUMDB"} {
		out, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatalf("go env %s: %v", name, err)
		}
		env = append(env, name+"="+strings.TrimSpace(string(out)))
	}
	return env
}

// shows checks that the lines of a text block were printed, in their order.
func shows(t *testing.T, b block, printed string) {
	t.Helper()
	rest := strings.Split(printed, "\n")
	for want := range strings.SplitSeq(strings.TrimSuffix(b.text, "\n"), "\n") {
		if want == "…" {
			continue
		}
		line := regexp.MustCompile("^" + pattern(want).String() + "$")
		i := slices.IndexFunc(rest, line.MatchString)
		if i < 0 {
			t.Errorf("%s: the line\n%s\nwas not printed, or not in this order:\n%s", b, want, printed)
			return
		}
		rest = rest[i+1:]
	}
}

// npx stands in for the two packages of the quickstart, which e2e runs for
// real: a filesystem server, and a host that calls one tool.
func npx(args []string) error {
	if i := slices.Index(args, "@modelcontextprotocol/server-filesystem"); i >= 0 {
		return serveFiles(args[i+1])
	}
	if slices.Contains(args, "@modelcontextprotocol/inspector") {
		return callOnce(args)
	}
	return fmt.Errorf("no stand-in for %q", args)
}

func serveFiles(dir string) error {
	s := server.NewMCPServer("files", "1")
	inside := func(r mcp.CallToolRequest) string {
		return filepath.Join(dir, filepath.Base(r.GetString("path", "")))
	}
	s.AddTool(mcp.NewTool("read_text_file", mcp.WithString("path")), func(_ context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		b, err := os.ReadFile(inside(r))
		return mcp.NewToolResultText(string(b)), err
	})
	s.AddTool(mcp.NewTool("write_file", mcp.WithString("path"), mcp.WithString("content")), func(_ context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		err := os.WriteFile(inside(r), []byte(r.GetString("content", "")+"\n"), 0o600)
		return mcp.NewToolResultText("Successfully wrote to " + inside(r)), err
	})
	return server.ServeStdio(s)
}

func callOnce(args []string) error {
	after := func(flag string) string { return args[slices.Index(args, flag)+1] }
	var config struct {
		MCPServers map[string]struct {
			Command string
			Args    []string
		} `json:"mcpServers"`
	}
	src, err := os.ReadFile(after("--config"))
	if err == nil {
		err = json.Unmarshal(src, &config)
	}
	if err != nil {
		return err
	}
	s := config.MCPServers[after("--server")]
	host, err := client.NewStdioMCPClient(s.Command, os.Environ(), s.Args...)
	if err != nil {
		return err
	}
	defer host.Close()
	if _, err := host.Initialize(context.Background(), mcp.InitializeRequest{}); err != nil {
		return err
	}
	call, arguments := mcp.CallToolRequest{}, map[string]any{}
	for i, arg := range args {
		if arg == "--tool-arg" {
			key, value, _ := strings.Cut(args[i+1], "=")
			arguments[key] = value
		}
	}
	call.Params.Name, call.Params.Arguments = after("--tool-name"), arguments
	result, err := host.CallTool(context.Background(), call)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(os.Stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(result)
}

// binary is the program, built once.
func binary(t *testing.T) string {
	t.Helper()
	file, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

var (
	buildDir string // made and removed by TestMain
	built    = sync.OnceValues(func() (string, error) {
		file := filepath.Join(buildDir, "openleash")
		out, err := exec.Command("go", "build", "-o", file, "./cmd/openleash").CombinedOutput()
		if err != nil {
			err = fmt.Errorf("go build: %w\n%s", err, out)
		}
		return file, err
	})
)

// help asks a command for its help.
func help(t *testing.T, program string, words ...string) string {
	t.Helper()
	out, err := exec.Command(program, append(words, "--help")...).CombinedOutput()
	if err != nil {
		t.Fatalf("openleash %s --help: %v\n%s", strings.Join(words, " "), err, out)
	}
	return string(out)
}

var (
	makeLine   = regexp.MustCompile(`(?m)^make ([a-z]+)`)
	inCode     = regexp.MustCompile("(?s)```.*?```|`[^`\n]+`")
	invocation = regexp.MustCompile(`\bopenleash ((?:[a-z-]+)(?: [a-z]+(?:-[a-z]+)*)?)([^\n` + "`" + `]*)`)
	shellJoint = regexp.MustCompile(` \| | && |;|\$\(`)
	flagWord   = regexp.MustCompile(`(?:^| )(--?[a-z][a-z-]*)`)
	listed     = regexp.MustCompile(`(?m)^  ([a-z-]+) +[A-Z]`)
)

// TestCommandsExist checks each `openleash …` in code, with its flags.
func TestCommandsExist(t *testing.T) {
	program := binary(t)
	known := map[string][]string{} // a command → its subcommands
	for _, m := range listed.FindAllStringSubmatch(help(t, program), -1) {
		known[m[1]] = nil
		for _, sub := range listed.FindAllStringSubmatch(help(t, program, m[1]), -1) {
			known[m[1]] = append(known[m[1]], sub[1])
		}
	}
	seen, makefile := 0, read(t, "Makefile")
	for file, text := range documents(t) {
		for _, m := range makeLine.FindAllStringSubmatch(text, -1) {
			if !strings.Contains(makefile, "\n"+m[1]+":") {
				t.Errorf("%s: %q: the Makefile has no such target", file, m[0])
			}
		}
		for _, code := range inCode.FindAllString(text, -1) {
			code = shellJoint.ReplaceAllString(code, "\n")
			for _, m := range invocation.FindAllStringSubmatch(code, -1) {
				seen++
				checkInvocation(t, program, file, m[0], m[1], m[2], known)
			}
		}
	}
	if seen < 30 {
		t.Errorf("only %d commands were found in the documents", seen)
	}
}

func checkInvocation(t *testing.T, program, file, whole, command, rest string, known map[string][]string) {
	t.Helper()
	words := strings.Fields(command)
	subs, ok := known[words[0]]
	if !ok {
		t.Errorf("%s: %q: there is no command %q", file, whole, words[0])
		return
	}
	if len(subs) == 0 || len(words) == 1 {
		words = words[:1]
	} else if !slices.Contains(subs, words[1]) {
		t.Errorf("%s: %q: openleash %s has %v", file, whole, words[0], subs)
		return
	}
	rest, _, _ = strings.Cut(rest, " -- ") // what follows is another program's
	text := ""
	for _, flag := range flagWord.FindAllStringSubmatch(rest, -1) {
		if text == "" {
			text = help(t, program, words...)
		}
		if !regexp.MustCompile(`(?m)^\s.*` + regexp.QuoteMeta(flag[1]) + `\b`).MatchString(text) {
			t.Errorf("%s: %q: openleash %s has no flag %s", file, whole, strings.Join(words, " "), flag[1])
		}
	}
}

// TestHostsStartUs checks the commands inside hosts' configurations.
func TestHostsStartUs(t *testing.T) {
	seen := 0
	for _, b := range allBlocks(t, "json") {
		var v any
		if err := json.Unmarshal([]byte(b.text), &v); err != nil {
			t.Errorf("%s: %v", b, err)
			continue
		}
		eachObject(v, func(o map[string]any) {
			if o["command"] != "openleash" {
				return
			}
			seen++
			args, _ := o["args"].([]any)
			if len(args) == 4 && args[0] == "connect" && args[1] == "--token-file" && strings.HasPrefix(fmt.Sprint(args[3]), "http://127.0.0.1:8787/mcp/") {
				return
			}
			if len(args) < 6 || args[0] != "stdio" || args[1] != "--agent" || args[3] != "--name" || args[5] != "--" {
				t.Errorf("%s: args %v: want stdio --agent A --name N -- COMMAND …, or connect --token-file FILE URL", b, args)
			}
		})
	}
	if seen < 3 {
		t.Errorf("only %d hosts' entries were found", seen)
	}
}

func eachObject(v any, do func(map[string]any)) {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			eachObject(item, do)
		}
	case map[string]any:
		do(v)
		for _, item := range v {
			eachObject(item, do)
		}
	}
}

// TestYAMLIsAccepted gives each block to the part of the program that reads it.
func TestYAMLIsAccepted(t *testing.T) {
	program := binary(t)
	for _, b := range allBlocks(t, "yaml") {
		switch {
		case strings.HasPrefix(b.text, "version:"), strings.HasPrefix(b.text, "# yaml-language-server:"):
			file := filepath.Join(t.TempDir(), "policy.yaml")
			write(t, file, b.text)
			if out, err := exec.Command(program, "policy", "check", file).CombinedOutput(); err != nil {
				t.Errorf("%s: %s", b, out)
			}
		case strings.HasPrefix(b.text, "# policies/"):
			if _, err := policy.ParseSuite(b.String(), []byte(b.text)); err != nil {
				t.Errorf("%s: %v", b, err)
			}
		case strings.HasPrefix(b.text, "profile:"):
			if _, err := proxy.ParseProfile(b.String(), []byte(b.text)); err != nil {
				t.Errorf("%s: %v", b, err)
			}
		default:
			home := t.TempDir()
			if err := os.Chmod(home, 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(home, "config.yaml"), b.text)
			cmd := exec.Command(program, "keys", "list")
			cmd.Env = append(os.Environ(), "OPENLEASH_HOME="+home)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %s", b, out)
			}
		}
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// section is a document's part under a heading.
func section(t *testing.T, file, heading string) string {
	t.Helper()
	_, rest, found := strings.Cut(read(t, file), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("%s has no section %q", file, heading)
	}
	rest, _, _ = strings.Cut(rest, "\n## ")
	return rest
}

var firstCell = regexp.MustCompile("(?m)^\\| `([^`]+)` \\|")

// firstCells are the names that begin the rows of a section's tables.
func firstCells(t *testing.T, file, heading string) []string {
	t.Helper()
	var names []string
	for _, m := range firstCell.FindAllStringSubmatch(section(t, file, heading), -1) {
		names = append(names, m[1])
	}
	slices.Sort(names)
	return names
}

// TestConfigurationIsDocumented: the keys that the program reads, no more and no fewer.
func TestConfigurationIsDocumented(t *testing.T) {
	var want []string
	read := func(n ast.Node) {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return
		}
		if f, ok := call.Fun.(*ast.SelectorExpr); !ok || f.Sel.Name != "Fields" {
			return
		}
		prefixes := []string{"mcpServers.NAME."}
		what := text(call.Args[1])
		if named, ok := call.Args[1].(*ast.BinaryExpr); ok {
			what = text(named.X)
		}
		switch what {
		case "the configuration":
			prefixes = []string{""}
		case "agent ":
			prefixes = []string{"agents.NAME."}
		case "limits", "approvals", "log", "log.witnesses":
			prefixes = []string{text(call.Args[1]) + "."}
		case "oauth":
			prefixes = []string{"mcpServers.NAME.oauth."}
		case "tools":
			prefixes = []string{"tools.", "mcpServers.NAME.tools."}
		}
		for _, key := range call.Args[2:] {
			for _, prefix := range prefixes {
				want = append(want, prefix+text(key))
			}
		}
	}
	inspect(t, "cmd/openleash/config.go", read)
	inspect(t, "cmd/openleash/config_log.go", read)
	slices.Sort(want)
	if diff := cmp.Diff(want, firstCells(t, "docs/operating.md", "Configuration")); diff != "" || len(want) < 10 {
		t.Errorf("the program reads -, docs/operating.md has +:\n%s", diff)
	}
}

// TestCodesAreDocumented: every authz.Code, and no other.
func TestCodesAreDocumented(t *testing.T) {
	var want []string
	inspect(t, "authz/authz.go", func(n ast.Node) {
		if spec, ok := n.(*ast.ValueSpec); ok {
			if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Code" {
				want = append(want, text(spec.Values[0]))
			}
		}
	})
	slices.Sort(want)
	if diff := cmp.Diff(want, firstCells(t, "docs/operating.md", "Refusal codes")); diff != "" || len(want) < 5 {
		t.Errorf("authz.go has -, docs/operating.md has +:\n%s", diff)
	}
}

// TestRefusalsAreDocumented: the members of a refusal, as docs/mcp.md shows them.
func TestRefusalsAreDocumented(t *testing.T) {
	var want []string
	for _, file := range []string{"proxy/refusal.go", "proxy/fold.go"} {
		inspect(t, file, func(n ast.Node) {
			if f, ok := n.(*ast.Field); ok && f.Tag != nil {
				name, _, _ := strings.Cut(reflect.StructTag(text(f.Tag)).Get("json"), ",")
				want = append(want, name)
			}
		})
	}
	slices.Sort(want)
	part := section(t, "docs/mcp.md", "Refusals")
	var shown map[string]any
	if err := json.Unmarshal([]byte(blocksOf("docs/mcp.md", part)[0].text), &shown); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"rule_id", "version", "replaces_version", "approved_arguments"} {
		if _, both := shown[name]; !both && strings.Contains(part, "`"+name+"`") {
			shown[name] = nil // the example is of a default, and of a first version
		}
	}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(shown))); diff != "" || len(want) < 10 {
		t.Errorf("refusal.go has -, docs/mcp.md has +:\n%s", diff)
	}
}

// TestScenariosAreDocumented: every scenario, and the policies that it is told with.
func TestScenariosAreDocumented(t *testing.T) {
	list, err := policy.Scenarios(configs.FS)
	if err != nil || len(list) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	rows := strings.Split(section(t, "docs/policy.md", "Playground"), "\n")
	for _, s := range list {
		i := slices.IndexFunc(rows, func(row string) bool { return strings.HasPrefix(row, "| ") && strings.Contains(row, "`"+s.ID+"`") })
		if i < 0 {
			t.Errorf("docs/policy.md does not name %s", s.ID)
			continue
		}
		for _, name := range s.Told {
			if _, err := configs.FS.Open("policies/" + name + ".yaml"); err == nil && !strings.Contains(rows[i], "`"+name+"`") {
				t.Errorf("%s is told with %s: %s", s.ID, name, rows[i])
			}
		}
	}
}

func inspect(t *testing.T, file string, do func(ast.Node)) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		do(n)
		return true
	})
}

// text is the value of a string literal, or nothing.
func text(e ast.Expr) string {
	if lit, ok := e.(*ast.BasicLit); ok {
		s, _ := strconv.Unquote(lit.Value)
		return s
	}
	return ""
}

var row = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| [^|]* \\|(.*)\\|$")

// TestPackagesAreDocumented: docs/design/packages.md draws the picture that
// imports_test.go holds.
func TestPackagesAreDocumented(t *testing.T) {
	got := map[string][]string{}
	for _, m := range row.FindAllStringSubmatch(read(t, "docs/design/packages.md"), -1) {
		got[m[1]] = strings.Fields(strings.ReplaceAll(m[2], "`", ""))
	}
	if diff := cmp.Diff(mayImport, got); diff != "" {
		t.Errorf("imports_test.go has -, docs/design/packages.md has +:\n%s", diff)
	}
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	notSlug = regexp.MustCompile(`[^a-z0-9 _-]`)
	ourPath = regexp.MustCompile("`((?:action|api|approvals|audit|authz|bench|cmd|configs|docs|e2e|identity|internal|policy|portal|proof|proxy|store|testdata)/[^` ]*)`")
)

// TestLinksLead checks links between documents, their anchors, and the files
// that are named in code.
func TestLinksLead(t *testing.T) {
	seen := 0
	for file, text := range documents(t) {
		prose := fence.ReplaceAllString(text, "")
		for _, m := range link.FindAllStringSubmatch(prose, -1) {
			if !strings.Contains(m[1], "://") {
				seen++
				checkLink(t, file, m[1])
			}
		}
		for _, m := range ourPath.FindAllStringSubmatch(prose, -1) {
			path, _, _ := strings.Cut(m[1], "…")
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s names %s: %v", file, m[1], err)
			}
		}
	}
	if seen < 20 {
		t.Errorf("only %d links were found", seen)
	}
}

func checkLink(t *testing.T, file, target string) {
	t.Helper()
	path, anchor, _ := strings.Cut(target, "#")
	path = filepath.Join(filepath.Dir(file), path)
	if path == filepath.Dir(file) {
		path = file
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s links to %s, which does not exist", file, target)
		return
	}
	if err != nil || info.IsDir() || anchor == "" {
		return
	}
	for _, m := range heading.FindAllStringSubmatch(read(t, path), -1) {
		if strings.ReplaceAll(notSlug.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-") == anchor {
			return
		}
	}
	t.Errorf("%s links to %s: there is no such heading", file, target)
}
