package proxy

import (
	"net/netip"
	"strings"
)

// Domains of addresses and URLs, for `email_domain` and `url_host`. Two programs
// may read an odd address or URL in two ways: then the domain that was judged is
// not the one that is reached. So only the plain forms have a domain here, and
// everything else has none.

// emailDomain gives the lower-case domain of one plain address, local@domain.
// Quotes, display names, comments, lists, literals and routes (%, !) have none.
func emailDomain(address string) (domain string, ok bool) {
	local, domain, found := strings.Cut(address, "@")
	if !found || len(address) > 254 || !plainLocal(local) {
		return "", false
	}
	return plainHost(domain)
}

func plainLocal(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isLetterOrDigit(c) && strings.IndexByte("#$&'*+-/=?^_`{|}~.", c) < 0 {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// urlHost gives the lower-case host of a plain http or https URL. User
// information, backslashes, white space, percent signs in the host and anything
// beyond ASCII have none.
func urlHost(url string) (host string, ok bool) {
	if !printableASCII(url) || strings.Contains(url, `\`) {
		return "", false
	}
	scheme, rest, found := strings.Cut(url, "://")
	if !found || !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https") {
		return "", false
	}
	authority := rest
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority = rest[:i]
	}
	if strings.HasPrefix(authority, "[") {
		return plainIPv6(authority)
	}
	host, port, hasPort := strings.Cut(authority, ":")
	if hasPort && !isDigits(port) {
		return "", false
	}
	return plainHost(host)
}

func plainIPv6(authority string) (host string, ok bool) {
	host, after, found := strings.Cut(authority[1:], "]")
	ip, err := netip.ParseAddr(host)
	if !found || err != nil || !ip.Is6() || ip.Zone() != "" {
		return "", false
	}
	if port, hasPort := strings.CutPrefix(after, ":"); after != "" && (!hasPort || !isDigits(port)) {
		return "", false
	}
	return ip.String(), true
}

// plainHost checks a host name or a dotted IPv4 address and lowers it. A final
// dot, an empty label and the other spellings of an address (2130706433, 0x7f.1,
// 127.1) are refused.
func plainHost(host string) (lower string, ok bool) {
	if host == "" || len(host) > 253 {
		return "", false
	}
	last := ""
	for label := range strings.SplitSeq(host, ".") {
		if !plainLabel(label) {
			return "", false
		}
		last = label
	}
	if last[0] >= '0' && last[0] <= '9' {
		ip, err := netip.ParseAddr(host)
		return host, err == nil && ip.Is4()
	}
	return strings.ToLower(host), true
}

func plainLabel(s string) bool {
	for i := range len(s) {
		if !isLetterOrDigit(s[i]) && s[i] != '-' && s[i] != '_' {
			return false
		}
	}
	return s != "" && len(s) <= 63 && s[0] != '-' && s[len(s)-1] != '-'
}

func isLetterOrDigit(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

func printableASCII(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}
