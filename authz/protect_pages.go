package authz

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// spellings returns s with what encodes other characters undone, step by step.
func spellings(s string) []string {
	s = halfWidth(s)
	all := []string{s}
	for range 3 {
		if !strings.Contains(s, "%") {
			break
		}
		decoded, err := url.PathUnescape(s)
		if err != nil {
			decoded = lenientUnescape(s)
		}
		if decoded == s {
			break
		}
		s = decoded
		all = append(all, s)
	}
	return all
}

var percent = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)

func lenientUnescape(s string) string {
	return percent.ReplaceAllStringFunc(s, func(m string) string {
		n, _ := strconv.ParseUint(m[1:], 16, 8) // two hex digits: cannot fail
		return string([]byte{byte(n)})
	})
}

// halfWidth folds full-width forms and dots, as browsers do with host names,
// and drops what nobody sees.
func halfWidth(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r != 0 && r < 0x80:
			return r
		case r >= 0xFF01 && r <= 0xFF5E:
			return r - 0xFEE0
		case r == 0x3002 || r == 0xFF61:
			return '.'
		case r == 0 || unicode.Is(unicode.Cf, r):
			return -1
		}
		return r
	}, s)
}

// hostPort finds host:port in any text; the host may be bracketed.
var hostPort = regexp.MustCompile(`(\[[0-9A-Fa-f:.%\w]+\]|[\p{L}\p{N}_.\-]+)\.?:0*(\d{1,5})`)

// pages finds an address of one of our own pages. Any name with our port
// counts: whoever owns it decides where it leads.
func (c *check) pages(s string) string {
	if !strings.Contains(s, ":") || !slices.ContainsFunc(c.ports, func(p int) bool { return strings.Contains(s, strconv.Itoa(p)) }) {
		return ""
	}
	for _, m := range hostPort.FindAllStringSubmatch(s, -1) {
		port, _ := strconv.Atoi(m[2]) // five digits at the most: cannot fail
		if slices.Contains(c.ports, port) {
			return fmt.Sprintf("the arguments name %s, and port %d is that of OpenLeash's own pages here; an agent may not reach its approvals", m[0], port)
		}
	}
	return ""
}

// portApart catches an address given in parts: {"host": "localhost", "port": 8787}.
func (c *check) portApart() string {
	if !c.loops {
		return ""
	}
	for _, n := range c.numbers {
		port, err := strconv.ParseFloat(n, 64)
		if err == nil && slices.Contains(c.ports, int(port)) && port == float64(int(port)) {
			return fmt.Sprintf("the arguments name port %d on this machine, which is OpenLeash's own; an agent may not reach its approvals", int(port))
		}
	}
	return ""
}

// thisMachine reports whether s is a name or address of this machine, or a URL
// whose host is.
func thisMachine(s string) bool {
	if len(s) > 300 {
		return false
	}
	s = strings.ToLower(strings.TrimSpace(s))
	if u, err := url.Parse(s); err == nil && u.Host != "" {
		s = u.Hostname()
	}
	s = strings.Trim(strings.TrimSuffix(s, "."), "[]")
	if s == "localhost" || strings.HasSuffix(s, ".localhost") {
		return true
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Unmap().IsLoopback() || a.Unmap().IsUnspecified()
	}
	return loopbackNumber(s)
}

// loopbackNumber reads the old notations: 127.1, 0x7f000001, 2130706433, 0177.0.0.1.
func loopbackNumber(s string) bool {
	parts := strings.Split(s, ".")
	if len(parts) > 4 {
		return false
	}
	first, err := strconv.ParseUint(parts[0], 0, 64)
	if err != nil {
		return false
	}
	if len(parts) == 1 {
		return first == 0 || first>>24 == 127
	}
	return first == 127 || first == 0
}

func allDigits(s string) bool {
	return s != "" && len(s) < 8 && strings.Trim(s, "0123456789") == ""
}
