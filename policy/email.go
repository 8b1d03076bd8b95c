package policy

import (
	"fmt"
	"net/mail"
	"strings"
	"unicode"
)

// addresses is the matcher of e-mail addresses: ann@example.com, *@example.com,
// *@*.example.com.
type addresses struct {
	of []mailbox
}

// mailbox is a pattern: a local part, "" for any, at domains.
type mailbox struct {
	local string
	at    domains
}

func (l *addresses) add(pattern string) error {
	local, domain, found := strings.Cut(pattern, "@")
	if local == "*" {
		local = ""
	} else if !found || !plainLocal(local) || strings.Contains(local, "*") {
		return fmt.Errorf(`want an address ("ann@example.com", "*@example.com", "*@*.example.com"), got %q`, pattern)
	}
	m := mailbox{local: strings.ToLower(local)}
	if err := m.at.add(domain); err != nil {
		return fmt.Errorf(`in %q after the @: %w`, pattern, err)
	}
	l.of = append(l.of, m)
	return nil
}

func (l *addresses) gaps() []string {
	var all domains // of patterns for whole domains
	for i := range l.of {
		if m := &l.of[i]; m.local == "" {
			all.join(&m.at)
		}
	}
	return all.gaps()
}

// judge takes one address, or several as the header of a message lists them.
func (l *addresses) judge(text string) truth {
	if local, domain, found := strings.Cut(text, "@"); found && plainLocal(local) && !strings.ContainsAny(domain, "@,> ") {
		return l.judgeOne(local, domain)
	}
	list, ok := parseAddresses(text)
	if !ok {
		return unknown
	}
	return agreed(len(list), unknown, func(i int) truth {
		at := strings.LastIndexByte(list[i], '@')
		return l.judgeOne(list[i][:at], list[i][at+1:])
	})
}

func (l *addresses) judgeOne(local, domain string) truth {
	name, ok := normalDomain(domain)
	if !ok {
		return unknown
	}
	t := no
	for i := range l.of {
		if m := &l.of[i]; m.at.has(name) {
			t = t.or(m.judgeLocal(local))
		}
	}
	return t
}

// judgeLocal compares without case. ann+news is ann at most servers, and at some
// an.n is too, but not at all: that is unknown.
func (m *mailbox) judgeLocal(local string) truth {
	local = strings.ToLower(local)
	switch {
	case m.local == "" || m.local == local:
		return yes
	case box(m.local) == box(local):
		return unknown
	}
	return no
}

func box(local string) string {
	local, _, _ = strings.Cut(local, "+")
	return strings.ReplaceAll(local, ".", "")
}

// parseAddresses reads what the header of a message may list: names, angle
// brackets and commas. What programs read in different ways it does not: comments,
// groups, routes, a name with an address or a comma in it, a quoted local part.
func parseAddresses(text string) (list []string, ok bool) {
	const most = 16 << 10
	if len(text) > most || strings.ContainsAny(text, "();:[]\\") || strings.ContainsFunc(text, unicode.IsControl) || strings.Contains(text, "=?") {
		return nil, false
	}
	parsed, err := mail.ParseAddressList(text)
	if err != nil || len(parsed) != strings.Count(text, "@") {
		return nil, false
	}
	for _, a := range parsed {
		local, _, _ := strings.Cut(a.Address, "@")
		if !plainLocal(local) || strings.ContainsAny(a.Name, "<>,") || !strings.Contains(text, a.Address) {
			return nil, false
		}
		list = append(list, a.Address)
	}
	return list, true
}

// plainLocal tells local parts that every program reads the same. Some take % and
// ! for a route to somewhere else.
func plainLocal(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9'
		if !letter && strings.IndexByte("#$&'*+-/=?^_`{|}~.", c) < 0 {
			return false
		}
	}
	return s != "" && len(s) <= 64 && s[0] != '.' && s[len(s)-1] != '.' && !strings.Contains(s, "..")
}
