package authz

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/openleash/openleash-go/action"
)

// What an owner does at a terminal, an agent's shell tool could do as well. (A
// shell that is our own server's child is refused by the program itself, whatever
// it computes: cmd/openleash/owner.go.)

// deeds are the commands by which an owner answers, or is told a secret, with what
// may stand after them. Words that are also plain English are taken for a command
// only where a sentence would not go on.
var deeds = regexp.MustCompile(`^(?:` +
	`approvals?[\s,"']+[\w-]|` +
	`(?:grants?|limits|tools)[\s,"']+(?:withdraw|revoke|release|accept|refuse|show|list)|` +
	`audit[\s,"']+(?:tail|mask|prove|search|stats|export|import|witness)|agents?[\s,"']+token|` +
	`(?:owners|sessions)[\s,"']+(?:add|list|show|disable|enable|reset|revoke)|admin[\s,"']+link|` +
	`(?:open|start|login|logout|init|limits|approvals|grants|tools)(?:[\s,"']+-|[\s"']*(?:$|[\n;&|)\x60<>#]))` +
	`)`)

// withFlags are what may stand between the program and its command.
var withFlags = regexp.MustCompile(`^(?:\.exe)?["'\x60]?(?:[\s,"']+-[^\s]*)*[\s,"']+`)

// ourNames are what our program is called: its name, and that of its file if that is
// another.
func ourNames() []string {
	names := []string{"openleash"}
	if exe, err := os.Executable(); err == nil && programName(exe) != names[0] {
		names = append(names, programName(exe))
	}
	return names
}

// programName is the name by which a program is called.
func programName(s string) string {
	return strings.TrimSuffix(fold(path.Base(filepath.ToSlash(slashes(s)))), ".exe")
}

// commands finds a command of ours in any text, which is folded.
func (c *check) commands(folded string) string {
	for _, name := range c.self {
		for rest := folded; ; {
			before, after, found := strings.Cut(rest, name)
			if !found {
				break
			}
			rest = after
			flags := withFlags.FindString(after)
			if flags == "" || before != "" && nameByte(before[len(before)-1]) {
				continue
			}
			if deed := deeds.FindString(after[len(flags):]); deed != "" {
				return ownersCommand(name + " " + strings.TrimSpace(deed))
			}
		}
	}
	return ""
}

// programKeys are names under which tools take a program.
var programKeys = []string{"command", "cmd", "program", "executable", "exe", "binary", "bin", "file", "path", "argv0"}

// wordsApart catches a command that is given in parts: {"command": "openleash",
// "args": ["approvals", "approve"]}, ["openleash", "open"].
func (c *check) wordsApart(v action.Value) string {
	ours := v.Kind() == action.Array && c.isOurs(v.Index(0))
	for key, item := range v.Members() {
		ours = ours || slices.Contains(programKeys, fold(key)) && c.isOurs(item)
	}
	if ours {
		if reason := c.commands("openleash " + fold(strings.Join(c.words(nil, v), " "))); reason != "" {
			return reason
		}
	}
	for _, item := range v.Items() {
		if reason := c.wordsApart(item); reason != "" {
			return reason
		}
	}
	for _, item := range v.Members() {
		if reason := c.wordsApart(item); reason != "" {
			return reason
		}
	}
	return ""
}

// isOurs reports whether a text is our program and nothing else.
func (c *check) isOurs(v action.Value) bool {
	if v.Kind() != action.String || len(v.Text()) > maxPath {
		return false
	}
	forms := spellings(v.Text())
	return slices.Contains(c.self, programName(strings.TrimSpace(forms[len(forms)-1])))
}

// maxWords bounds how much is read of a command that is given in parts.
const maxWords = 64

// words are the texts of a command that is given in parts, less the program.
func (c *check) words(list []string, v action.Value) []string {
	if v.Kind() == action.String && !c.isOurs(v) && len(list) < maxWords {
		forms := spellings(v.Text())
		list = append(list, forms[len(forms)-1])
	}
	for _, item := range v.Items() {
		list = c.words(list, item)
	}
	for _, item := range v.Members() {
		list = c.words(list, item)
	}
	return list
}

func ownersCommand(what string) string {
	return fmt.Sprintf("the arguments have the command %q, which is for the owner; an agent may not answer its own requests", what)
}
