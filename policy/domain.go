package policy

import (
	"strings"

	"github.com/openleash/openleash-go/action"
)

// domains is a list of domains out of a policy: exact names, and `*.name` for
// everything below a name (at any depth, not the name itself).
type domains struct {
	exact map[string]bool
	below []string // ".name"
}

// add takes a domain or a `*.` pattern; ok is false when it is neither.
func (l *domains) add(pattern string) (ok bool) {
	name, wild := strings.CutPrefix(pattern, "*.")
	name, ok = normalDomain(name)
	if !ok {
		return false
	}
	if wild {
		l.below = append(l.below, "."+name)
		return true
	}
	if l.exact == nil {
		l.exact = make(map[string]bool)
	}
	l.exact[name] = true
	return true
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

// judge says whether v, a domain or a list of domains, is in the list as a
// whole.
func (l *domains) judge(v action.Value) truth {
	if v.Kind() != action.Array {
		return l.judgeOne(v)
	}
	return unanimous(v, unknown, l.judgeOne)
}

func (l *domains) judgeOne(v action.Value) truth {
	if v.Kind() != action.String {
		return unknown
	}
	name, ok := normalDomain(v.Text())
	if !ok {
		return unknown
	}
	return truthOf(l.has(name))
}

// normalDomain gives the lower-case form without the final dot. ok is false for
// what is no domain in its ASCII form: an address, a URL, a port, an empty
// label, a name with letters beyond ASCII (those are written xn--…).
func normalDomain(s string) (name string, ok bool) {
	s = strings.TrimSuffix(s, ".")
	if s == "" || len(s) > 253 {
		return "", false
	}
	label := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c == '.':
			if label == 0 {
				return "", false
			}
			label = 0
			continue
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_':
		default:
			return "", false
		}
		if label++; label > 63 {
			return "", false
		}
	}
	return strings.ToLower(s), label > 0 // lowered last: beyond ASCII there are letters that become a k
}
