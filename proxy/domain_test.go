package proxy

import (
	"net/mail"
	"net/url"
	"strings"
	"testing"
)

func TestEmailDomain(t *testing.T) {
	tests := []struct{ address, want string }{
		{"ann@example.com", "example.com"}, {"Ann.B+tag@Mail.Example.COM", "mail.example.com"}, {"root@localhost", "localhost"},
		{"a@b@c", ""}, {`"a@good.example"@evil.example`, ""}, {"Ann <ann@example.com>", ""}, {"<ann@example.com>", ""},
		{"ann@example.com,bob@example.com", ""}, {"ann@example.com ", ""}, {"ann@example.com\n", ""}, {"ann@example.com.", ""},
		{"ann%evil.example@good.example", ""}, {"evil.example!ann@good.example", ""}, {"ann@[127.0.0.1]", ""}, {"ann(evil)@example.com", ""},
		{"ann@exämple.com", ""}, {"än@example.com", ""}, {"@example.com", ""}, {"ann@", ""}, {"ann", ""}, {"", ""}, {"ann@-x.com", ""}, {"ann@x..com", ""},
		{"mailto:ann@example.com", ""}, {strings.Repeat("a", 65) + "@example.com", ""},
	}
	for _, test := range tests {
		if got, ok := emailDomain(test.address); got != test.want && ok || ok != (test.want != "") {
			t.Errorf("%q: got %q, %v, want %q", test.address, got, ok, test.want)
		}
	}
}

func TestURLHost(t *testing.T) {
	tests := []struct{ url, want string }{
		{"https://Example.com", "example.com"}, {"http://a.example:8080/x?y#z", "a.example"}, {"HTTPS://a.example?x=@b", "a.example"},
		{"http://127.0.0.1/", "127.0.0.1"}, {"http://[::1]:80/", "::1"}, {"http://[0:0::1]", "::1"}, {"http://localhost", "localhost"}, {"https://x_y.example/a%20b", "x_y.example"},
		{"https://good.example@evil.example/", ""}, {"https://user:pw@good.example/", ""}, {`https://evil.example\@good.example/`, ""}, {`https:\\good.example`, ""},
		{"https://good.example /", ""}, {" https://good.example", ""}, {"https://good\t.example", ""}, {"https://good.example\n", ""}, {"https://g%6fod.example/", ""},
		{"https://gööd.example", ""}, {"https://good。example", ""}, {"https://good.example.", ""}, {"https://good..example", ""}, {"https:///good.example", ""}, {"https:good.example", ""},
		{"//good.example", ""}, {"good.example", ""}, {"", ""}, {"file:///etc/passwd", ""}, {"ftp://good.example", ""}, {"javascript://good.example", ""},
		{"http://2130706433/", ""}, {"http://0x7f.1/", ""}, {"http://127.1", ""}, {"http://0177.0.0.1", ""}, {"http://127.0.0.0x1", ""}, {"http://a:b", ""}, {"http://[::1", ""}, {"http://[fe80::1%25eth0]", ""}, {"http://[127.0.0.1]", ""}, {"http://[::1]x", ""},
	}
	for _, test := range tests {
		if got, ok := urlHost(test.url); got != test.want && ok || ok != (test.want != "") {
			t.Errorf("%q: got %q, %v, want %q", test.url, got, ok, test.want)
		}
	}
}

// FuzzDomain: where we see a domain, the standard library sees the same one.
func FuzzDomain(f *testing.F) {
	for _, seed := range []string{"ann@example.com", "https://a.example:80/x", "http://[::1]/", `"a"@b`, "http://127.0.0.1", "http://a?@b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if domain, ok := emailDomain(text); ok {
			parsed, err := mail.ParseAddress(text)
			if err == nil && !strings.HasSuffix(strings.ToLower(parsed.Address), "@"+domain) {
				t.Errorf("%q has %q, net/mail reads %q", text, domain, parsed.Address)
			}
		}
		if host, ok := urlHost(text); ok {
			parsed, err := url.Parse(text)
			if err == nil && !sameHost(parsed.Hostname(), host) {
				t.Errorf("%q has %q, net/url reads %q", text, host, parsed.Hostname())
			}
		}
	})
}

// sameHost allows for the spellings of one IPv6 address.
func sameHost(theirs, ours string) bool {
	again, ok := plainIPv6("[" + theirs + "]")
	return strings.EqualFold(theirs, ours) || ok && again == ours
}
