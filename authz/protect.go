package authz

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"

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
// full-width and decomposed characters; addresses of this machine in any
// notation. A relative path is tried from every folder that it may start from:
// ours, those that the server was started with, those that the call itself
// names, and every folder above a protected one. It looks inside longer texts
// (commands) as well. What a program computes only when it runs (a shell's globs
// and variables) it cannot know: docs/design/threat-model.md.
type Protection struct {
	paths []string // absolute, folded, with slashes; as given and with links resolved
	names []string // folded: ".openleash", ".cursor/mcp.json", wherever they stand
	tails []string // what is ours as seen from the folders above it, folded: "leash", "home/leash"
	above []string // those folders, folded
	ports []int
	home  string
	self  []string // what our program is called, folded
	bases []string // where our own relative paths start: real folders
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
	".openleash", ".mcp.json", ".cursor/mcp.json", ".vscode/mcp.json", "claude_desktop_config.json",
	".claude/settings.json", ".claude/settings.local.json", "audit.log.jsonl", "openleash.db", "openleash.journal",
}

// NewProtection protects paths (files or folders, with all below them) and the
// ports of our pages on this machine, beside the known configurations of hosts.
func NewProtection(paths []string, ports []int) *Protection {
	p := &Protection{names: anywhere, ports: ports, self: ourNames()}
	p.home, _ = os.UserHomeDir()
	cwd, _ := os.Getwd()
	for _, dir := range []string{cwd, p.home} {
		if real, there := follow("", dir); there {
			p.bases = append(p.bases, real)
		}
	}
	for _, path := range paths {
		for _, form := range p.protect(path) {
			p.lookDown(form)
		}
	}
	if p.home != "" {
		for _, f := range hostFiles {
			p.protect(filepath.Join(p.home, f))
		}
	}
	return p
}

// protect adds a path, and what its links lead to.
func (p *Protection) protect(path string) (forms []string) {
	abs, err := filepath.Abs(path)
	if err != nil {
		abs = path
	}
	real, _ := follow("", abs)
	for _, form := range []string{abs, real} {
		if form = foldPath(form); len(form) > 1 && !slices.Contains(p.paths, form) {
			p.paths = append(p.paths, form)
			forms = append(forms, form)
		}
	}
	return forms
}

// lookDown notes how a protected path is seen from each folder above it, but
// from the root alone: nothing moves that.
func (p *Protection) lookDown(folded string) {
	for dir := path.Dir(folded); dir != path.Dir(dir); dir = path.Dir(dir) {
		if slices.ContainsFunc(p.paths, func(known string) bool { return below(dir, known) }) {
			return // it lies inside what is protected already
		}
		p.above = append(p.above, dir)
		p.tails = append(p.tails, strings.TrimPrefix(folded, dir+"/"))
	}
	p.tails = append(p.tails, strings.TrimLeft(folded, "/"))
}

// Check returns why a call may not run, or "".
func (p *Protection) Check(call *Call) string {
	if p == nil || call == nil {
		return ""
	}
	c := check{Protection: p, removes: removes(call), bases: slices.Clone(p.bases)}
	for _, place := range call.Places {
		c.addBase(place)
	}
	c.collect(call.Arguments)
	for _, s := range c.texts {
		if reason := c.text(s); reason != "" {
			return reason
		}
	}
	if reason := c.wordsApart(call.Arguments); reason != "" {
		return reason
	}
	return c.portApart()
}

// removing are words in the names of tools that take a folder away, with all
// that is below it.
var removing = []string{"move", "rename", "delete", "remove", "rmdir", "trash", "unlink"}

// removes reports whether a tool is known, or sounds, as if it took away the
// folders that it is given.
func removes(call *Call) bool {
	name := strings.ToLower(call.Tool)
	return call.Info.Get("destroys").IsTrue() || slices.ContainsFunc(removing, func(w string) bool { return strings.Contains(name, w) })
}

// check is one look at one call.
type check struct {
	*Protection
	removes bool
	texts   []string // every string that could name a place, decoded
	bases   []string // real folders that a relative path may start from
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
			if strings.ContainsAny(key, `/\.~:%`) || !ascii(key) {
				c.add(key)
			}
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
		c.addBase(form)
	}
}

// maxBases bounds how many folders each relative path is tried from.
const maxBases = 12

// addBase notes an absolute path as a place where relative ones may start.
func (c *check) addBase(s string) {
	if len(s) > maxPath || len(c.bases) == maxBases {
		return
	}
	if abs, ok := c.absolute(s); ok {
		real, there := follow("", abs)
		if there && !slices.Contains(c.bases, real) && !slices.ContainsFunc(c.paths, func(p string) bool { return below(foldPath(real), p) }) {
			c.bases = append(c.bases, real) // what lies inside ours would make every word a path of ours
		}
	}
}

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 })
}

// maxPath is the longest text that is looked at as one path.
const maxPath = 4096

func (c *check) text(s string) string {
	if reason := c.pages(s); reason != "" {
		return reason
	}
	folded := fold(s)
	if reason := c.commands(folded); reason != "" {
		return reason
	}
	if hit := c.mentions(s, folded); hit != "" {
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
func (c *check) mentions(s, folded string) string {
	ours := func(p string) bool { return strings.Contains(folded, path.Base(p)) }
	if !slices.ContainsFunc(c.paths, ours) && !slices.ContainsFunc(c.names, ours) {
		return ""
	}
	folded = fold(collapse(expand(slashes(s), c.home)))
	for _, p := range slices.Concat(c.paths, c.names) {
		if containsPath(folded, p) {
			return p
		}
	}
	return ""
}

// containsPath reports whether path stands in s, and begins and ends there as a
// name does.
func containsPath(s, path string) bool {
	for i := 0; ; {
		j := strings.Index(s[i:], path)
		if j < 0 {
			return false
		}
		start, end := i+j, i+j+len(path)
		if (path[0] == '/' || start == 0 || !nameByte(s[start-1])) && (end == len(s) || !nameByte(s[end])) {
			return true
		}
		i = end
	}
}

func nameByte(b byte) bool {
	return b == '-' || b == '_' || b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 0x80
}

// reaches resolves one path as a file server would, from every place where it
// may start, links included.
func (c *check) reaches(token string) string {
	token = slashes(stripFileURL(token))
	if abs, ok := c.absolute(token); ok {
		if hit := c.inside(foldPath(filepath.Clean(abs))); hit != "" {
			return hit
		}
		if real, _ := follow("", abs); real != abs {
			return c.inside(foldPath(real))
		}
	}
	// A server has a home of its own, and climbs from where it likes. A bare word
	// is a path only where the call, or how the server was started, says from where.
	relative := strings.TrimLeft(strings.TrimPrefix(token, "~"), "/")
	bare := !strings.ContainsAny(token, `/\.~`)
	if hit := c.climbs(relative); hit != "" && !bare {
		return hit
	}
	for _, base := range c.bases {
		real, _ := follow(base, filepath.FromSlash(relative))
		if (!bare || base == c.home) && real == filepath.Join(base, relative) {
			continue // no link on the way: climbs has seen it
		}
		if hit := c.inside(foldPath(real)); hit != "" {
			return hit
		}
	}
	return ""
}

// climbs compares a relative path, less its steps upwards, with how what is
// ours is seen from the folders above it.
func (c *check) climbs(relative string) string {
	folded := foldPath(path.Clean(relative))
	for strings.HasPrefix(folded, "../") {
		folded = folded[3:]
	}
	for _, tail := range c.tails {
		if below(folded, tail) {
			return tail
		}
	}
	return ""
}

// absolute returns the absolute path that s names by itself, not yet clean.
func (c *check) absolute(s string) (string, bool) {
	native := filepath.FromSlash(expand(slashes(stripFileURL(s)), c.home))
	if filepath.IsAbs(native) || strings.HasPrefix(native, string(filepath.Separator)) {
		return native, true
	}
	return "", false
}

// inside reports what protected place a folded path is in.
func (c *check) inside(folded string) string {
	if c.removes && slices.Contains(c.above, folded) {
		return folded
	}
	for _, p := range c.paths {
		if below(folded, p) {
			return p
		}
	}
	for _, name := range c.names {
		if containsPath(folded, name) {
			return name
		}
	}
	return ""
}

func below(path, dir string) bool {
	return strings.HasPrefix(path, dir) && (len(path) == len(dir) || path[len(dir)] == '/')
}

// tokens splits a text into what may be paths: the whole of it, and its words.
func tokens(s string) []string {
	var all []string
	if len(s) < maxPath {
		all = append(all, strings.TrimSpace(s))
	}
	if !strings.ContainsAny(s, `/\~$.`) {
		return all
	}
	words := strings.FieldsFunc(s, func(r rune) bool {
		return unicode.IsSpace(r) || strings.ContainsRune("\"'`=;|&<>(){},", r)
	})
	for _, w := range words {
		if len(w) < maxPath && len(w) < len(s) && strings.ContainsAny(w, `/\~$.`) && len(all) < 512 {
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
	if home == "" || !strings.ContainsAny(s, "~$%") {
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

// fold takes away what file systems may overlook: case, and how an accented
// letter is composed.
func fold(s string) string { return strings.ToLower(norm.NFC.String(s)) }

func foldPath(s string) string {
	s = strings.TrimPrefix(fold(filepath.ToSlash(s)), "//?/") // Windows' long form
	if !strings.Contains(s, "./") && !strings.Contains(s, " /") && !strings.HasSuffix(s, ".") && !strings.HasSuffix(s, " ") {
		return s
	}
	parts := strings.Split(s, "/")
	for i, part := range parts {
		if part != "." && part != ".." { // Windows drops these at the end of a name
			parts[i] = strings.TrimRight(part, ". ")
		}
	}
	return strings.Join(parts, "/")
}

// follow resolves a path step by step as the system does, links included, as
// far as it exists; base must be real ("" for the root). The rest is joined.
// there says that all of it exists.
func follow(base, rest string) (real string, there bool) {
	at := base
	if base == "" {
		at = filepath.VolumeName(rest) + string(filepath.Separator)
		rest = rest[len(filepath.VolumeName(rest)):]
	}
	for rest != "" {
		var step string
		before := rest
		step, rest, _ = strings.Cut(rest, string(filepath.Separator))
		switch step {
		case "", ".":
			continue
		case "..":
			at = filepath.Dir(at)
			continue
		}
		next := inFolder(at, step)
		info, err := os.Lstat(next)
		if err != nil {
			if step == before {
				return next, false
			}
			return filepath.Join(at, before), false
		}
		if info.Mode()&os.ModeSymlink != 0 {
			if real, err := filepath.EvalSymlinks(next); err == nil {
				next = real
			} else if target, err := os.Readlink(next); err == nil && filepath.IsAbs(target) {
				next = filepath.Clean(target) // it leads to what is not there yet
			}
		}
		at = next
	}
	return at, true
}

// inFolder is the path of a name in a folder.
func inFolder(dir, name string) string {
	if os.IsPathSeparator(dir[len(dir)-1]) {
		return dir + name // the root
	}
	return dir + string(filepath.Separator) + name
}
