package oauth

import (
	"net/http"
	"strings"
)

// Challenge is what a server wants: the Bearer challenge of its answer.
type Challenge struct {
	ResourceMetadata string // where its metadata is (RFC 9728)
	Scope            string // scopes that would do, separated by spaces
	Error            string // "invalid_token", "insufficient_scope" (RFC 6750)
}

// Wants is the scope, fit for a message.
func (c Challenge) Wants() string { return shown(c.Scope) }

// ReadChallenge finds the first Bearer challenge in an answer's WWW-Authenticate.
func ReadChallenge(h http.Header) (c Challenge, found bool) {
	for _, line := range h.Values("WWW-Authenticate") {
		if c, found = readChallenges(line); found {
			return c, true
		}
	}
	return Challenge{}, false
}

// readChallenges reads one line: challenges with commas between them, each a
// scheme and parameters with commas between those (RFC 9110, section 11.6.1). A
// word without = begins a challenge.
func readChallenges(line string) (c Challenge, found bool) {
	for rest := line; rest != ""; {
		rest = strings.TrimLeft(rest, " \t,")
		word := rest[:tokenLength(rest)]
		rest = strings.TrimLeft(rest[len(word):], " \t")
		value, isParameter := strings.CutPrefix(rest, "=")
		switch {
		case word == "" && rest != "": // no token: a stray byte
			rest = rest[1:]
		case !isParameter && found: // the next challenge
			return c, true
		case !isParameter:
			found = strings.EqualFold(word, "Bearer")
		default:
			value, rest = parameterValue(strings.TrimLeft(value, " \t"))
			if found {
				c.set(word, value)
			}
		}
	}
	return c, found
}

// set notes a parameter; the first of a name counts.
func (c *Challenge) set(name, value string) {
	fields := map[string]*string{"resource_metadata": &c.ResourceMetadata, "scope": &c.Scope, "error": &c.Error}
	if f := fields[strings.ToLower(name)]; f != nil && *f == "" {
		*f = value
	}
}

// parameterValue reads a token or a quoted string.
func parameterValue(s string) (value, rest string) {
	if !strings.HasPrefix(s, `"`) {
		n := strings.IndexAny(s, " \t,")
		if n < 0 {
			n = len(s)
		}
		return s[:n], s[n:]
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:]
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String(), ""
}

// tokenLength is how much of s is a token (RFC 9110, section 5.6.2).
func tokenLength(s string) int {
	n := 0
	for n < len(s) && (s[n] >= '0' && s[n] <= '9' || s[n] >= 'A' && s[n] <= 'Z' || s[n] >= 'a' && s[n] <= 'z' || strings.IndexByte("!#$%&'*+-.^_`|~", s[n]) >= 0) {
		n++
	}
	return n
}
