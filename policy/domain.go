package policy

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// domains is the matcher of domains: a list out of a policy: exact names, and `*.name` for
// everything below a name (at any depth, not the name itself).
type domains struct {
	exact map[string]bool
	below []string // ".name"
}

// add takes a domain or a `*.` pattern.
func (l *domains) add(pattern string) error {
	name, wild := strings.CutPrefix(pattern, "*.")
	name, ok := normalDomain(name)
	switch {
	case !ok:
		return fmt.Errorf(`want a domain ("example.com", "*.example.com" for those below it), got %q%s`, pattern, domainHint(pattern))
	case wild:
		l.below = append(l.below, "."+name)
		return nil
	case l.exact == nil:
		l.exact = make(map[string]bool)
	}
	l.exact[name] = true
	return nil
}

// join adds another list.
func (l *domains) join(other *domains) {
	l.below = append(l.below, other.below...)
	if l.exact == nil {
		l.exact = make(map[string]bool)
	}
	maps.Copy(l.exact, other.exact)
}

func domainHint(pattern string) string {
	switch {
	case strings.Contains(pattern, "://"):
		return "; for a URL there is op: url"
	case strings.Contains(pattern, "@"):
		return "; for an address there is op: email"
	case !isASCII(pattern):
		return "; programs do not agree on these letters: write it in its xn-- form"
	}
	return ""
}

func (l *domains) has(name string) bool {
	if l.exact[name] {
		return true
	}
	for _, suffix := range l.below {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}

func (l *domains) gaps() (list []string) {
	for _, name := range l.alone() {
		list = append(list, fmt.Sprintf(`names below %s (www.%s) are not in it: add "*.%s"`, name, name, name))
	}
	return list
}

// alone are the names that are in the list without those below them.
func (l *domains) alone() (names []string) {
	for name := range l.exact {
		if !slices.ContainsFunc(l.below, func(suffix string) bool { return strings.HasSuffix("."+name, suffix) }) && !isIP(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// judge says whether a domain is in the list.
func (l *domains) judge(text string) truth {
	name, ok := normalDomain(text)
	if !ok {
		return unknown
	}
	return truthOf(l.has(name))
}

// normalDomain gives the form of a domain in which two that lead to the same
// place are the same text: lower case, without the final dot, and in A-labels
// (xn--…) beyond ASCII. ok is false for what is no domain (an address, a URL, a
// port, an empty label) and for what programs read in different ways: letters
// that some map to others (full-width, ß), an A-label that is not what it decodes
// to, the old notations of IPv4 (127.1, 0x7f.0.0.1).
func normalDomain(s string) (name string, ok bool) {
	if !isASCII(s) {
		s, ok = aLabels(s)
		return s, ok && plainDomain(s)
	}
	s = strings.TrimSuffix(s, ".")
	if !plainDomain(s) {
		return "", false
	}
	s = strings.ToLower(s)
	if !strings.Contains(s, "xn--") {
		return s, true
	}
	again, err := registered.ToASCII(s)
	return s, err == nil && again == s
}

// plainDomain looks at a domain in ASCII.
func plainDomain(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	label := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c == '.':
			if label == 0 {
				return false
			}
			label = 0
			continue
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_':
		default:
			return false
		}
		if label++; label > 63 {
			return false
		}
	}
	return label > 0 && (!endsInNumber(s) || isIPv4(s))
}

// endsInNumber tells what is read as an IPv4 address, or not at all: a last label
// of digits, or in the manner of 0x7f.
func endsInNumber(s string) bool {
	last := s[strings.LastIndexByte(s, '.')+1:]
	return strings.Trim(last, "0123456789") == "" || len(last) > 1 && last[0] == '0' && last[1]|0x20 == 'x'
}

func isIPv4(s string) bool {
	ip, err := netip.ParseAddr(s)
	return err == nil && ip.Is4()
}

func isIP(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// registered takes names as they may be registered: it maps no letter to another.
var registered = idna.New(idna.ValidateForRegistration(), idna.StrictDomainName(false))

// aLabels gives the A-labels of a domain that has letters beyond ASCII. Of what
// may be written in two ways it takes case, and how an accent is composed.
func aLabels(s string) (string, bool) {
	for _, r := range s {
		if r >= utf8.RuneSelf && unicode.ToLower(r) < utf8.RuneSelf || strings.ContainsRune("ßẞς\u200c\u200d", r) {
			return "", false // the Kelvin sign; what IDNA of 2003 and of 2008 read differently
		}
	}
	s = strings.ToLower(norm.NFC.String(strings.TrimSuffix(s, ".")))
	for label := range strings.SplitSeq(s, ".") {
		if strings.HasPrefix(label, "xn--") && !isASCII(label) {
			return "", false
		}
	}
	a, err := registered.ToASCII(s)
	return a, err == nil
}
