package policy

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// A glob is a pattern of clean paths: * stands for any part of a name, ** for any
// number of names. It is kept twice, as written and folded: a path that only the
// folded one takes may or may not be the same, and that depends on the system.
type glob struct {
	exact, folded *regexp.Regexp
}

// newGlob takes a pattern without a final slash. single lets ? stand for one
// character.
func newGlob(pattern string, single bool) (g glob, err error) {
	if err := checkGlob(pattern); err != nil {
		return g, err
	}
	g.exact, err = globRegexp(pattern, single)
	if err == nil {
		g.folded, err = globRegexp(foldPath(pattern), single)
	}
	return g, err
}

func checkGlob(pattern string) error {
	if strings.ContainsFunc(pattern, unseen) {
		return errors.New("it has characters that nobody sees")
	}
	if strings.ContainsAny(pattern, `\`) {
		return errors.New(`write / for \`)
	}
	if strings.ContainsAny(pattern, "{}") {
		return errors.New("braces are not alternatives here, and no value with them is certain; write a list of patterns")
	}
	for _, name := range strings.Split(strings.TrimPrefix(pattern, "/"), "/") {
		switch {
		case name == "" && pattern != "" || name == "." || name == "..":
			return errors.New("write it without //, /./ and /../: values are compared in that form")
		case name != "**" && strings.Contains(name, "**"):
			return fmt.Errorf("** stands alone between slashes (/a/**/b), not in %q", name)
		}
	}
	return nil
}

func globRegexp(pattern string, single bool) (*regexp.Regexp, error) {
	var b strings.Builder
	b.WriteString("^")
	for _, name := range strings.Split(pattern, "/")[1:] {
		if name == "**" {
			b.WriteString("(?:/[^/]*)*")
			continue
		}
		b.WriteString("/")
		for _, r := range name {
			switch {
			case r == '*':
				b.WriteString("[^/]*")
			case r == '?' && single:
				b.WriteString("[^/]")
			default:
				b.WriteString(regexp.QuoteMeta(string(r)))
			}
		}
	}
	return regexp.Compile(b.String() + "$")
}

// judge says what the glob makes of a clean path.
func (g glob) judge(path string) truth {
	exact := g.exact.MatchString(path)
	if exact && isPlain(path) {
		return yes // so does the folded one
	}
	switch folded := g.folded.MatchString(foldPath(path)); {
	case exact && folded:
		return yes
	case !exact && !folded:
		return no
	}
	return unknown
}

// isPlain tells a path of which nothing is folded but its case.
func isPlain(path string) bool {
	return isASCII(path) && !strings.Contains(path, ":") && !strings.Contains(path, "./") && !strings.Contains(path, " /") &&
		!strings.HasSuffix(path, ".") && !strings.HasSuffix(path, " ")
}

// foldPath takes away what file systems and servers may overlook: case, how a
// letter is composed and how wide it is, dots and spaces at the end of a name, and
// a stream that is named after a colon.
func foldPath(path string) string {
	if isPlain(path) {
		return strings.ToLower(path)
	}
	names := strings.Split(strings.Map(foldRune, norm.NFKC.String(path)), "/")
	for i, name := range names {
		name, _, _ = strings.Cut(name, ":")
		names[i] = strings.TrimRight(name, ". ")
	}
	return strings.Join(names, "/")
}

// foldRune gives one rune for all that differ in case only.
func foldRune(r rune) rune {
	least := r
	for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
		least = min(least, next)
	}
	return unicode.ToLower(least)
}

// cleanPath resolves /./, /../ and // in a path that begins with /, and takes the
// slash at the end off: of the root nothing remains. ok is false for characters
// that nobody sees, for letters beyond ASCII that some systems take for a slash or
// a dot, and for names of dots and spaces only.
func cleanPath(s string) (clean string, ok bool) {
	if strings.ContainsFunc(s, unseen) || !isASCII(s) && hidesSteps(s) {
		return "", false
	}
	for name := range strings.SplitSeq(s, "/") {
		if strings.Trim(name, ". ") == "" && name != "" && name != "." && name != ".." {
			return "", false
		}
	}
	return strings.TrimSuffix(path.Clean(s), "/"), true
}

// hidesSteps reports that a path has another way when its letters are taken for
// those of ASCII that they look like.
func hidesSteps(s string) bool {
	folded := norm.NFKC.String(s)
	for _, step := range []string{"/", `\`, ":"} {
		if strings.Count(folded, step) != strings.Count(s, step) {
			return true
		}
	}
	names := strings.Split(s, "/")
	for i, name := range strings.Split(folded, "/") {
		if strings.Trim(name, ". ") == "" && name != names[i] {
			return true
		}
	}
	return false
}

// unseen are control characters, those that direct how others are shown, and what
// is no character.
func unseen(r rune) bool {
	if r < utf8.RuneSelf {
		return r < ' ' || r == 0x7f
	}
	return r == utf8.RuneError || unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Variation_Selector)
}

var percent = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)
