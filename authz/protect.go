package authz

import (
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/openleash/openleash-go/action"
)

// Protection names what no tool call may reach into, whatever a policy says:
// our own home and policies, the configuration of hosts (there an agent could
// take the proxy out of its own way), and our own pages (there it could answer
// its own request).
//
// It reads every string of the arguments, keys too, in every spelling that a
// file or web server would take for the same place: "..", "//", "~" and $HOME,
// back slashes, percent-encoding, file: URLs, symbolic links, other case,
// full-width characters; addresses of this machine in any notation. It looks
// inside longer texts (commands) as well. What a program computes only when it
// runs (a shell's globs and variables) it cannot know: docs/design/threat-model.md.
type Protection struct {
	paths    []string // clean, absolute, folded, with slashes; as given and with links resolved
	suffixes []string // folded: "/.openleash", "/.mcp.json", wherever they stand
	ports    []int
	home     string
	cwd      string
}

// hostFiles are the hosts' own configurations, relative to the home folder.
var hostFiles = []string{
	".openclaw", ".clawdbot", ".mcporter", ".claude.json", ".claude", ".cursor/mcp.json", ".codeium/windsurf/mcp_config.json",
	".config/Claude", ".config/Code/User/mcp.json", ".config/Code/User/settings.json", ".vscode/mcp.json",
	"Library/Application Support/Claude", "Library/Application Support/Code/User/mcp.json",
	"AppData/Roaming/Claude", "AppData/Roaming/Code/User/mcp.json",
}

// anywhere are names that mean one of ours, or a host's configuration, in any folder.
var anywhere = []string{
	"/.openleash", "/.mcp.json", "/.cursor/mcp.json", "/.vscode/mcp.json", "/claude_desktop_config.json",
	"/.claude/settings.json", "/.claude/settings.local.json", "/audit.log.jsonl", "/openleash.db",
}

// NewProtection protects paths (files or folders, with all below them) and the
// ports of our pages on this machine, beside the known configurations of hosts.
func NewProtection(paths []string, ports []int) *Protection {
	p := &Protection{suffixes: anywhere, ports: ports}
	p.home, _ = os.UserHomeDir()
	p.cwd, _ = os.Getwd()
	if p.home != "" {
		for _, f := range hostFiles {
			paths = append(paths, filepath.Join(p.home, f))
		}
	}
	for _, path := range paths {
		p.protect(path)
	}
	return p
}

func (p *Protection) protect(path string) {
	abs, err := filepath.Abs(path)
	if err != nil {
		abs = path
	}
	for _, form := range []string{abs, resolveLinks(abs)} {
		if form = foldPath(form); !slices.Contains(p.paths, form) && len(form) > 1 {
			p.paths = append(p.paths, form)
		}
	}
}

// Check returns why the arguments may not run, or "".
func (p *Protection) Check(arguments action.Value) string {
	if p == nil {
		return ""
	}
	c := check{Protection: p}
	c.collect(arguments)
	for _, s := range c.texts {
		if reason := c.text(s); reason != "" {
			return reason
		}
	}
	return c.portApart()
}

// check is one look at one call's arguments.
type check struct {
	*Protection
	texts   []string // every string that could name a place, decoded
	bases   []string // absolute folders among them, which relative ones may start from
	loops   bool     // some string names this machine
	numbers []string // numbers and digit strings
}

func (c *check) collect(v action.Value) {
	switch v.Kind() {
	case action.String:
		c.add(v.Text())
	case action.Number:
		c.numbers = append(c.numbers, v.Text())
	case action.Array:
		for _, item := range v.Items() {
			c.collect(item)
		}
	case action.Object:
		for key, item := range v.Members() {
			c.add(key)
			c.collect(item)
		}
	}
}

// add notes a string in all the forms in which a server may read it.
func (c *check) add(s string) {
	if allDigits(s) {
		c.numbers = append(c.numbers, s)
	}
	for _, form := range spellings(s) {
		if slices.Contains(c.texts, form) {
			continue
		}
		c.texts = append(c.texts, form)
		c.loops = c.loops || thisMachine(form)
		if abs, ok := c.absolute(form); ok && len(c.bases) < 8 && len(form) < maxPath {
			c.bases = append(c.bases, abs)
		}
	}
}

// spellings returns s with what encodes other characters undone, step by step.
func spellings(s string) []string {
	s = halfWidth(s)
	all := []string{s}
	for range 3 {
		decoded, err := url.PathUnescape(s)
		if err != nil {
			decoded = lenientUnescape(s)
		}
		if decoded == s {
			break
		}
		s = decoded
		all = append(all, s)
	}
	return all
}

var percent = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)

func lenientUnescape(s string) string {
	return percent.ReplaceAllStringFunc(s, func(m string) string {
		n, _ := strconv.ParseUint(m[1:], 16, 8)
		return string([]byte{byte(n)})
	})
}

// halfWidth folds full-width forms and dots, as browsers do with host names,
// and drops what nobody sees.
func halfWidth(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 0xFF01 && r <= 0xFF5E:
			return r - 0xFEE0
		case r == 0x3002 || r == 0xFF61:
			return '.'
		case unicode.Is(unicode.Cf, r) || r == 0:
			return -1
		}
		return r
	}, s)
}

// maxPath is the longest text that is looked at as one path.
const maxPath = 4096

func (c *check) text(s string) string {
	if reason := c.pages(s); reason != "" {
		return reason
	}
	if !strings.ContainsAny(s, `/\~$%.`) && len(c.bases) == 0 {
		return ""
	}
	if hit := c.mentions(expand(slashes(s), c.home)); hit != "" {
		return protectedPath(hit)
	}
	for _, token := range tokens(s) {
		if hit := c.reaches(token); hit != "" {
			return protectedPath(hit)
		}
	}
	return ""
}

func protectedPath(what string) string {
	return fmt.Sprintf("the arguments reach into %s, which belongs to OpenLeash or to the configuration of an MCP host; no policy can allow that to an agent", what)
}

// mentions looks for a protected path inside a text, such as a command.
func (c *check) mentions(s string) string {
	folded := strings.ToLower(collapse(s))
	for _, p := range c.paths {
		if containsPath(folded, p) {
			return p
		}
	}
	rooted := "/" + folded
	for _, p := range c.suffixes {
		if containsPath(rooted, p) || containsName(rooted, p[1:]) {
			return p[1:]
		}
	}
	return ""
}

// containsPath reports whether path stands in s and ends there as a name ends.
func containsPath(s, path string) bool {
	for i := 0; ; {
		j := strings.Index(s[i:], path)
		if j < 0 {
			return false
		}
		i += j + len(path)
		if i == len(s) || !nameByte(s[i]) {
			return true
		}
	}
}

// containsName is containsPath for a name at the start of a word.
func containsName(s, name string) bool {
	for _, before := range []string{" ", "\"", "'", "=", ":", "\n", "\t", ",", "("} {
		if containsPath(s, before+name) {
			return true
		}
	}
	return false
}

func nameByte(b byte) bool {
	return b == '-' || b == '_' || b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 0x80
}

// reaches resolves one path as a file server would, from every place where it
// may start, links included.
func (c *check) reaches(token string) string {
	token = slashes(stripFileURL(token))
	if abs, ok := c.absolute(token); ok {
		return c.inside(abs)
	}
	for _, base := range append([]string{c.cwd, c.home}, c.bases...) {
		if base == "" {
			continue
		}
		if hit := c.inside(filepath.Join(base, filepath.FromSlash(token))); hit != "" {
			return hit
		}
	}
	return ""
}

// absolute returns the clean absolute path that s names by itself.
func (c *check) absolute(s string) (string, bool) {
	s = expand(slashes(stripFileURL(s)), c.home)
	native := filepath.FromSlash(s)
	if strings.HasPrefix(s, "/") || filepath.IsAbs(native) {
		return filepath.Clean(native), true
	}
	return "", false
}

func (c *check) inside(abs string) string {
	for _, form := range []string{abs, resolveLinks(abs)} {
		folded := foldPath(form)
		for _, p := range c.paths {
			if folded == p || strings.HasPrefix(folded, strings.TrimSuffix(p, "/")+"/") {
				return p
			}
		}
		for _, s := range c.suffixes {
			if containsPath(folded, s) {
				return s[1:]
			}
		}
	}
	return ""
}

// tokens splits a text into what may be paths: the whole of it, and its words.
func tokens(s string) []string {
	var all []string
	if len(s) < maxPath {
		all = append(all, strings.TrimSpace(s))
	}
	words := strings.FieldsFunc(s, func(r rune) bool {
		return unicode.IsSpace(r) || strings.ContainsRune("\"'`=;|&<>(){},", r)
	})
	for _, w := range words {
		if len(w) < maxPath && strings.ContainsAny(w, `/\~$.`) && len(all) < 512 {
			all = append(all, w)
		}
	}
	return all
}

func slashes(s string) string { return strings.ReplaceAll(s, `\`, "/") }

func stripFileURL(s string) string {
	if len(s) < 5 || !strings.EqualFold(s[:5], "file:") {
		return s
	}
	rest := strings.TrimLeft(slashes(s[5:]), "/")
	rest = strings.TrimPrefix(strings.TrimPrefix(rest, "localhost/"), "127.0.0.1/")
	if len(rest) > 1 && rest[1] == ':' {
		return rest // file:///C:/…
	}
	return "/" + rest
}

// expand replaces the spellings of the home folder.
func expand(s, home string) string {
	if home == "" {
		return s
	}
	home = filepath.ToSlash(home)
	for _, v := range []string{"${HOME}", "$HOME", "%USERPROFILE%", "$env:USERPROFILE", "%HOME%"} {
		s = strings.ReplaceAll(s, v, home)
	}
	if s == "~" || strings.HasPrefix(s, "~/") {
		return home + s[1:]
	}
	return strings.ReplaceAll(s, " ~/", " "+home+"/")
}

var repeated = regexp.MustCompile(`/(\./|/)+`)

// collapse takes out what a path may repeat without meaning.
func collapse(s string) string { return repeated.ReplaceAllString(s, "/") }

func foldPath(s string) string {
	s = strings.ToLower(filepath.ToSlash(s))
	s = strings.TrimPrefix(s, "//?/") // Windows' long form
	parts := strings.Split(s, "/")
	for i, part := range parts {
		if part != "." && part != ".." { // Windows drops these at the end of a name
			parts[i] = strings.TrimRight(part, ". ")
		}
	}
	return strings.Join(parts, "/")
}

// resolveLinks follows the links of the part of path that exists.
func resolveLinks(path string) string {
	rest := ""
	for dir := path; ; {
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			return filepath.Join(real, rest)
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return path
		}
		rest = filepath.Join(filepath.Base(dir), rest)
		dir = parent
	}
}

// hostPort finds host:port in any text; the host may be bracketed.
var hostPort = regexp.MustCompile(`(\[[0-9A-Fa-f:.%\w]+\]|[\p{L}\p{N}_.\-]+)\.?:0*(\d{1,5})`)

// pages finds an address of one of our own pages.
func (c *check) pages(s string) string {
	if !strings.Contains(s, ":") {
		return ""
	}
	for _, m := range hostPort.FindAllStringSubmatch(s, -1) {
		port, _ := strconv.Atoi(m[2])
		if slices.Contains(c.ports, port) {
			return fmt.Sprintf("the arguments name %s, and port %d is that of OpenLeash's own pages here; an agent may not reach its approvals", m[0], port)
		}
	}
	return ""
}

// portApart catches an address given in parts: {"host": "localhost", "port": 8787}.
func (c *check) portApart() string {
	if !c.loops {
		return ""
	}
	for _, n := range c.numbers {
		port, err := strconv.ParseFloat(n, 64)
		if err == nil && slices.Contains(c.ports, int(port)) && port == float64(int(port)) {
			return fmt.Sprintf("the arguments name port %d on this machine, which is OpenLeash's own; an agent may not reach its approvals", int(port))
		}
	}
	return ""
}

// thisMachine reports whether s is a name or address of this machine, or a URL
// whose host is.
func thisMachine(s string) bool {
	s = strings.ToLower(strings.TrimSpace(s))
	if u, err := url.Parse(s); err == nil && u.Host != "" {
		s = u.Hostname()
	}
	s = strings.Trim(strings.TrimSuffix(s, "."), "[]")
	if s == "localhost" || strings.HasSuffix(s, ".localhost") {
		return true
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Unmap().IsLoopback() || a.Unmap().IsUnspecified()
	}
	return loopbackNumber(s)
}

// loopbackNumber reads the old notations: 127.1, 0x7f000001, 2130706433, 0177.0.0.1.
func loopbackNumber(s string) bool {
	parts := strings.Split(s, ".")
	if len(parts) > 4 {
		return false
	}
	first, err := strconv.ParseUint(parts[0], 0, 64)
	if err != nil {
		return false
	}
	if len(parts) == 1 {
		return first == 0 || first>>24 == 127
	}
	return first == 127 || first == 0
}

func allDigits(s string) bool {
	return s != "" && len(s) < 8 && strings.Trim(s, "0123456789") == ""
}
