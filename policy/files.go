package policy

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// files is the matcher of absolute paths: /home/me/notes/**, C:/Users/me/*.md.
type files struct {
	of []filePattern
}

type filePattern struct {
	glob
	drive   string // "c:" on Windows
	bracket bool   // it has a [, which may be meant for more than itself
}

func (l *files) add(pattern string) error {
	drive, path := splitDrive(pattern)
	if !strings.HasPrefix(path, "/") {
		return fmt.Errorf(`want an absolute path ("/home/me/notes/**", "C:/Users/me/*.md"), got %q%s`, pattern, fileHint(pattern))
	}
	g, err := newGlob(strings.TrimSuffix(path, "/"), true)
	if err != nil {
		return fmt.Errorf("%q: %w", pattern, err)
	}
	l.of = append(l.of, filePattern{g, drive, strings.Contains(path, "[")})
	return nil
}

func (l *files) gaps() (list []string) {
	if slices.ContainsFunc(l.of, func(p filePattern) bool { return p.bracket }) {
		list = append(list, "[ stands for itself here, not for one of several characters: write a list of patterns")
	}
	return list
}

func fileHint(pattern string) string {
	switch {
	case strings.HasPrefix(pattern, "~") || strings.HasPrefix(pattern, "$"):
		return ": a policy knows no home folder; write it out"
	case strings.Contains(pattern, `\`):
		return `: write / for \`
	case strings.Contains(pattern, ":/"):
		return ": write the path without file://; a value may have it"
	}
	return ""
}

// hasDrive tells paths of Windows.
func hasDrive(s string) bool {
	return len(s) > 2 && 'a' <= s[0]|0x20 && s[0]|0x20 <= 'z' && s[1:3] == ":/"
}

// splitDrive takes the drive off a path of Windows, and its case: there it does
// not count.
func splitDrive(s string) (drive, path string) {
	if !hasDrive(s) {
		return "", s
	}
	s = strings.Map(lowerASCII, s)
	return s[:2], s[2:]
}

func lowerASCII(r rune) rune {
	if 'A' <= r && r <= 'Z' {
		return r + 'a' - 'A'
	}
	return r
}

// judge compares every way in which the text may be read.
func (l *files) judge(text string) truth {
	if !strings.ContainsAny(text, `%\:`) && len(text) <= maxPath {
		return l.judgeOne(text) // the only way to read it
	}
	ways, ok := readings(text)
	if !ok {
		return unknown
	}
	return agreed(len(ways), unknown, func(i int) truth { return l.judgeOne(ways[i]) })
}

func (l *files) judgeOne(s string) truth {
	drive, path := splitDrive(s)
	if !strings.HasPrefix(path, "/") || !isCertainFile(drive, path) {
		return unknown
	}
	path, ok := cleanPath(path)
	if !ok {
		return unknown
	}
	t := no
	for i := range l.of {
		if p := &l.of[i]; p.drive == drive {
			t = t.or(p.judge(path))
		} else if (p.drive == "" || drive == "") && p.judge(path) != no {
			t = t.or(unknown) // without a drive it is on the one that the program is on
		}
	}
	if t == no && drive == "" && mirrors.MatchString(path) {
		return unknown
	}
	return t
}

// mirrors are where Linux and macOS have the whole tree, or parts of it, once more:
// /proc/self/root/etc is /etc.
var mirrors = regexp.MustCompile(`(?i)^/(proc|dev/fd|private|system/volumes|\.vol|\.nofollow|\.resolve)/`)

// isCertainFile is false for what tools may expand, for short names of Windows
// (SECRET~1), and for steps upwards below a drive: where there are no drives C: is
// a name, and the path a relative one.
func isCertainFile(drive, path string) bool {
	if strings.ContainsAny(path, "*?{}") || strings.TrimSpace(path) != path {
		return false
	}
	return drive == "" || !shortName.MatchString(path) && !strings.Contains(path+"/", "/../")
}

var shortName = regexp.MustCompile(`~[0-9]`)

// maxPath is the longest text that is looked at as a path: that of most systems.
const maxPath = 4096

// readings are the ways in which programs may read a path: backslashes as they are
// or as slashes, percent-encoding as it is or decoded.
func readings(s string) (ways []string, ok bool) {
	if len(s) > maxPath || strings.TrimSpace(s) != s {
		return nil, false
	}
	if len(s) > 5 && strings.EqualFold(s[:5], "file:") {
		if s, ok = fileOfURL(s[5:]); !ok {
			return nil, false
		}
	}
	if drive := slashed(s); hasDrive(drive) {
		s = drive
	}
	ways = []string{s}
	if strings.Contains(s, `\`) {
		s = slashed(s)
		ways = append(ways, s)
	}
	for range 3 {
		if !percent.MatchString(s) {
			return ways, true
		}
		s = slashed(percent.ReplaceAllStringFunc(s, unhex))
		if !utf8.ValidString(s) {
			return nil, false
		}
		ways = append(ways, s)
	}
	return nil, false
}

func slashed(s string) string { return strings.ReplaceAll(s, `\`, "/") }

// unhex decodes %41.
func unhex(code string) string {
	s, err := url.PathUnescape(code)
	if err != nil {
		panic(err) // percent matches nothing else
	}
	return s
}

// fileOfURL reads what follows "file:". Only this machine has a path.
func fileOfURL(s string) (path string, ok bool) {
	if rest, full := strings.CutPrefix(s, "//"); full {
		s = rest
		if len(s) > 9 && strings.EqualFold(s[:9], "localhost") {
			s = s[9:]
		}
	}
	if !strings.HasPrefix(s, "/") || strings.HasPrefix(s, "//") || strings.Contains(s, "#") {
		return "", false
	}
	s, err := url.PathUnescape(s)
	if err != nil || !utf8.ValidString(s) {
		return "", false
	}
	if hasDrive(s[1:]) {
		s = s[1:]
	}
	return s, true
}
