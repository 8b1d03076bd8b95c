package policy

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// urls is the matcher of URLs: https://*.example.com/docs/**. What follows a ? or
// a # is not looked at.
type urls struct {
	of []urlPattern
}

type urlPattern struct {
	scheme string // "": any of schemes
	host   domains
	anyone bool // any host
	port   int  // ownPort: that of the scheme; anyPort
	path   glob
}

const (
	ownPort = 0
	anyPort = -1
)

// schemes have a host and a path that programs read in the same way, and a port
// of their own.
var schemes = map[string]int{"http": 80, "https": 443, "ws": 80, "wss": 443, "ftp": 21}

// A location is where a URL leads to: a host in its one form, a clean path without
// percent-encoding.
type location struct {
	scheme, host string
	port         int
	path         string
}

func (l *urls) add(pattern string) error {
	p, err := parseURLPattern(pattern)
	if err != nil {
		return fmt.Errorf(`want a URL ("https://example.com/docs/**", "*://*.example.com:*/**"), got %q: %w`, pattern, err)
	}
	l.of = append(l.of, p)
	return nil
}

func parseURLPattern(pattern string) (p urlPattern, err error) {
	scheme, rest, found := strings.Cut(pattern, "://")
	if _, known := schemes[strings.ToLower(scheme)]; !found || !known && scheme != "*" {
		return p, fmt.Errorf("it begins with one of %s, or *, and ://", strings.Join(slices.Sorted(maps.Keys(schemes)), ", "))
	}
	p.scheme = strings.TrimPrefix(strings.ToLower(scheme), "*")
	if strings.ContainsAny(rest, "?#%@") {
		return p, errors.New("?, #, % and @ stand in no pattern: what follows a ? or # is not looked at, and the path is written without percent-encoding")
	}
	at := strings.IndexByte(rest, '/')
	if at < 0 {
		return p, errors.New("it has no path; /** is all of it")
	}
	host, port := splitPort(rest[:at])
	if p.port, err = p.parsePort(port); err != nil {
		return p, err
	}
	if err := p.addHost(host); err != nil {
		return p, err
	}
	p.path, err = newGlob(strings.TrimSuffix(rest[at:], "/"), false)
	return p, err
}

// splitPort takes the port off a host; IPv6 addresses have colons of their own.
func splitPort(authority string) (host, port string) {
	i := strings.LastIndexByte(authority, ':')
	if i < 0 || strings.HasSuffix(authority, "]") {
		return authority, ""
	}
	return authority[:i], authority[i+1:]
}

func (p *urlPattern) parsePort(text string) (int, error) {
	if text == "*" {
		return anyPort, nil
	}
	if text == "" {
		return ownPort, nil
	}
	n, ok := portNumber(text)
	if !ok {
		return 0, fmt.Errorf("want a port from 1 to 65535, or *, got %q", text)
	}
	return n, nil
}

func portNumber(text string) (int, bool) {
	n, err := strconv.ParseUint(text, 10, 16)
	return int(n), err == nil && n > 0
}

func (p *urlPattern) addHost(host string) error {
	if host == "*" {
		p.anyone = true
		return nil
	}
	if ip, ok := bracketed(host); ok {
		p.host.exact = map[string]bool{ip: true}
		return nil
	}
	return p.host.add(host)
}

// bracketed reads an IPv6 address; one that holds an IPv4 address is that.
func bracketed(host string) (ip string, ok bool) {
	inner, opened := strings.CutPrefix(host, "[")
	inner, closed := strings.CutSuffix(inner, "]")
	if !opened || !closed {
		return "", false
	}
	addr, err := netip.ParseAddr(inner)
	if err != nil || !addr.Is6() || addr.Zone() != "" {
		return "", false
	}
	return addr.Unmap().String(), true
}

func (l *urls) gaps() (list []string) {
	var all domains
	closed := false
	for i := range l.of {
		p := &l.of[i]
		all.join(&p.host)
		closed = closed || p.scheme != "" || p.port != anyPort
	}
	if closed {
		list = append(list, "the same host answers by other schemes and ports, which are not in it: write *://HOST:*/… for all of them")
	}
	return append(list, all.gaps()...)
}

func (l *urls) judge(text string) truth {
	at, ok := parseURL(text)
	if !ok {
		return unknown
	}
	t := no
	for i := range l.of {
		if p := &l.of[i]; p.leadsTo(at) {
			t = t.or(p.path.judge(at.path))
		}
	}
	return t
}

// leadsTo compares all but the path.
func (p *urlPattern) leadsTo(at location) bool {
	port := p.port
	if port == ownPort {
		port = schemes[at.scheme]
	}
	return (p.scheme == "" || p.scheme == at.scheme) && (port == anyPort || port == at.port) && (p.anyone || p.host.has(at.host))
}

// parseURL reads URLs of which all programs make the same. Those with user
// information, backslashes, spaces or odd spellings of an address lead some to one
// place and some to another.
func parseURL(s string) (at location, ok bool) {
	if strings.ContainsFunc(s, func(r rune) bool { return unseen(r) || unicode.IsSpace(r) }) {
		return at, false
	}
	scheme, rest, _ := strings.Cut(s, "://")
	at.scheme = strings.ToLower(scheme)
	own, known := schemes[at.scheme]
	if !known {
		return at, false
	}
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	path := tail
	if i := strings.IndexAny(tail, "?#"); i >= 0 {
		path = tail[:i]
	}
	if path == "" && strings.Contains(tail, "@") {
		return at, false // some read a host after it
	}
	if at.host, at.port, ok = parseHost(authority, own); !ok {
		return at, false
	}
	at.path, ok = parseURLPath(path)
	return at, ok
}

func parseHost(authority string, own int) (host string, port int, ok bool) {
	name, digits := splitPort(authority)
	port = own
	if digits != "" {
		if port, ok = portNumber(digits); !ok {
			return "", 0, false
		}
	}
	if host, ok = bracketed(name); !ok {
		host, ok = normalDomain(name)
	}
	return host, port, ok
}

// parseURLPath decodes a path and resolves it. Servers do not agree on doubled
// slashes, on what follows a semicolon, and on slashes and dots that are encoded,
// or encoded twice.
func parseURLPath(path string) (clean string, ok bool) {
	if strings.Contains(path, "%") {
		if path, ok = decodePath(path); !ok {
			return "", false
		}
	}
	if strings.ContainsAny(path, `\;`) || strings.Contains(path, "//") {
		return "", false
	}
	if path == "" {
		return "", true
	}
	return cleanPath(path)
}

func decodePath(path string) (decoded string, ok bool) {
	decoded, err := url.PathUnescape(path)
	names, encoded := strings.Split(decoded, "/"), strings.Split(path, "/")
	if err != nil || !utf8.ValidString(decoded) || percent.MatchString(decoded) || len(names) != len(encoded) {
		return "", false
	}
	for i, name := range names {
		if name != encoded[i] && (name == "." || name == "..") {
			return "", false
		}
	}
	return decoded, true
}
