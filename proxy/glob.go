package proxy

import "strings"

// A glob matches whole names: * any text, ? one byte, all else itself. Names of
// servers and tools are short and ASCII, so matching needs no regexp.
type glob struct {
	pattern string
	literal bool // no * and no ?
}

func newGlob(pattern string) glob {
	return glob{pattern, !strings.ContainsAny(pattern, "*?")}
}

func (g glob) match(name string) bool {
	switch {
	case g.pattern == "*":
		return true
	case g.literal:
		return g.pattern == name
	}
	return globMatch(g.pattern, name)
}

// globMatch walks both texts once and goes back only to the last *, so its time
// is bounded by the product of the lengths whatever the pattern.
func globMatch(pattern, name string) bool {
	p, n := 0, 0
	star, resume := -1, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, resume = p, n
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == name[n]):
			p++
			n++
		case star >= 0:
			resume++
			p, n = star+1, resume
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
