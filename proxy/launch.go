package proxy

import (
	"slices"
	"strings"
)

// What a command line starts. Reading it wrongly would give an unknown program
// the good name of a known one, so only the plain ways of starting a server are
// understood; any flag that changes where the program comes from is not.

// origin says where the program comes from. Its text is the key in `match`.
type origin string

const (
	fromNPM   origin = "npm"
	fromPyPI  origin = "pypi"
	fromImage origin = "image"
	fromDisk  origin = "program"
)

// A launch is a program and the words after it. The zero launch is not understood.
type launch struct {
	from origin
	name string   // a package or image without its version, or a file's name
	rest []string // the words after it
}

// is reports whether the launch is a name, or a name and the words after it
// ("openleash sample-server").
func (l launch) is(wanted string) bool {
	words := strings.Fields(wanted)
	return len(words) > 0 && l.name == words[0] && len(l.rest) >= len(words)-1 && slices.Equal(l.rest[:len(words)-1], words[1:])
}

// A launcher is a program that starts another one.
type launcher struct {
	from   origin
	verbs  []string // words between the launcher and the program
	flags  []string // flags that stand alone
	values []string // flags with a value in the next word or after =
}

// Only flags that leave alone what is run; one that is not here is not understood.
var (
	npx       = launcher{from: fromNPM, flags: []string{"-y", "--yes", "-q", "--quiet"}}
	container = launcher{from: fromImage, verbs: []string{"run"},
		flags:  []string{"-i", "--interactive", "--rm", "--init", "-t", "-it"},
		values: []string{"-e", "--env", "--env-file", "-v", "--volume", "--mount", "--name", "--network", "-p", "--publish", "-u", "--user", "--pull"}}
	launchers = map[string][]launcher{
		"npx":     {npx},
		"bunx":    {npx},
		"npm":     {npx.after("exec"), npx.after("x")},
		"pnpm":    {npx.after("dlx")},
		"yarn":    {npx.after("dlx")},
		"uvx":     {{from: fromPyPI, flags: []string{"-q", "--quiet"}, values: []string{"-p", "--python"}}},
		"uv":      {{from: fromPyPI, verbs: []string{"tool", "run"}, values: []string{"-p", "--python"}}},
		"pipx":    {{from: fromPyPI, verbs: []string{"run"}}},
		"python":  {{from: fromPyPI, verbs: []string{"-m"}}},
		"python3": {{from: fromPyPI, verbs: []string{"-m"}}},
		"docker":  {container},
		"podman":  {container},
		"node":    {{from: fromDisk}},
	}
)

func (l launcher) after(verb string) launcher {
	l.verbs = []string{verb}
	return l
}

// readLaunch says what a command starts.
func readLaunch(command []string) launch {
	if len(command) > 2 && baseName(command[0]) == "cmd" && strings.EqualFold(command[1], "/c") {
		command = command[2:] // how Windows hosts start npx
	}
	if len(command) == 0 {
		return launch{}
	}
	name := baseName(command[0])
	known, isLauncher := launchers[name]
	if !isLauncher {
		return launch{fromDisk, name, command[1:]}
	}
	for _, l := range known {
		if words, ok := l.strip(command[1:]); ok {
			return l.read(words)
		}
	}
	return launch{}
}

// strip takes the verbs and the flags off the front; the program must remain.
func (l launcher) strip(words []string) (rest []string, ok bool) {
	if len(words) < len(l.verbs) || !slices.Equal(words[:len(l.verbs)], l.verbs) {
		return nil, false
	}
	words = words[len(l.verbs):]
	for len(words) > 0 && strings.HasPrefix(words[0], "-") {
		flag, _, inOneWord := strings.Cut(words[0], "=")
		switch {
		case words[0] == "--":
			return words[1:], len(words) > 1
		case slices.Contains(l.flags, words[0]), inOneWord && slices.Contains(l.values, flag):
			words = words[1:]
		case slices.Contains(l.values, words[0]) && len(words) > 1:
			words = words[2:]
		default:
			return nil, false
		}
	}
	return words, len(words) > 0
}

func (l launcher) read(words []string) launch {
	name := words[0]
	switch l.from {
	case fromNPM:
		name = packageNPM(name)
	case fromPyPI:
		name = packagePyPI(name)
	case fromImage:
		name = imageName(name)
	case fromDisk:
		if found, ok := moduleOf(name); ok {
			return launch{fromNPM, found, words[1:]}
		}
		name = baseName(name)
	}
	return launch{l.from, name, words[1:]}
}

// packageNPM takes the version off: @scope/name@1.2.3.
func packageNPM(word string) string {
	i := strings.LastIndex(word, "@")
	if i > 0 && isVersion(word[i+1:]) {
		return word[:i]
	}
	return word
}

// packagePyPI takes version and extras off and writes the name as PyPI does: a
// module mcp_server_git comes from the package mcp-server-git.
func packagePyPI(word string) string {
	if i := strings.IndexAny(word, "@=[<>~!"); i > 0 && isVersion(strings.Trim(word[i:], "@=[]<>~!")) {
		word = word[:i]
	}
	return strings.ReplaceAll(strings.ToLower(word), "_", "-")
}

// isVersion tells a version or tag from what takes the package from elsewhere:
// name@npm:other, name@file:../other, name @ git+https://….
func isVersion(s string) bool {
	return strings.Trim(s, letters+"0123456789.-+^~*") == ""
}

// imageName takes tag and digest off. A port in the registry's name is none.
func imageName(word string) string {
	word, _, _ = strings.Cut(strings.TrimPrefix(word, "docker.io/"), "@")
	if i := strings.LastIndex(word, ":"); i > strings.LastIndex(word, "/") {
		word = word[:i]
	}
	return word
}

// moduleOf finds the package of a script inside node_modules.
func moduleOf(script string) (name string, ok bool) {
	_, inside, found := cutLast("/"+strings.ReplaceAll(script, `\`, "/"), "/node_modules/")
	words := strings.Split(inside, "/")
	length := 1
	if strings.HasPrefix(inside, "@") {
		length = 2
	}
	if !found || len(words) <= length || slices.Contains(words, "..") {
		return "", false
	}
	return strings.Join(words[:length], "/"), true
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// baseName is the name of a program's file without folder and Windows ending.
func baseName(word string) string {
	word = word[strings.LastIndexAny(word, `/\`)+1:]
	for _, ending := range []string{".exe", ".cmd", ".bat"} {
		if cut := len(word) - len(ending); cut > 0 && strings.EqualFold(word[cut:], ending) {
			return word[:cut]
		}
	}
	return word
}
