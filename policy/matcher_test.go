package policy

import (
	"encoding/json"
	"net"
	"net/mail"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/idna"

	"github.com/openleash/openleash-go/action"
)

// documented adds the texts of the tables of docs/policy.md to a fuzz test: the
// dodges that we know.
func documented(f *testing.F) {
	n := 0
	for _, rows := range tables(f)[2:] {
		for _, row := range rows[1:] {
			for _, cell := range row[1:] {
				for _, value := range values.FindAllString(cell, -1) {
					var text string
					if json.Unmarshal([]byte(unquoted(value)), &text) == nil {
						f.Add(text)
						n++
					}
				}
			}
		}
	}
	if n < 100 {
		f.Fatalf("only %d texts in docs/policy.md", n)
	}
}

func matching(t testing.TB, op string, patterns ...string) func(string) truth {
	t.Helper()
	m := matchers[op].make()
	for _, p := range patterns {
		if err := m.add(p); err != nil {
			t.Fatal(err)
		}
	}
	return m.judge
}

// The laws of all four: what simple readers, the standard library among them, all
// take to the pattern is not false, and what is true every one of them takes there.
func holds(t *testing.T, text string, got truth, readers ...bool) {
	t.Helper()
	if got == yes && slices.Contains(readers, false) {
		t.Errorf("%q is true, but not by all: %v", text, readers)
	}
	if got == no && slices.Contains(readers, true) {
		t.Errorf("%q is false, but not by all: %v", text, readers)
	}
}

// lookup is how browsers read a name.
var lookup = idna.New(idna.MapForLookup(), idna.StrictDomainName(false), idna.Transitional(false))

func FuzzDomain(f *testing.F) {
	documented(f)
	judge := matching(f, "domain", "example.com", "*.example.com", "*.müller.example")
	f.Fuzz(func(t *testing.T, text string) {
		name, ok := normalDomain(text)
		if again, still := normalDomain(name); ok && (!still || again != name) {
			t.Errorf("%q becomes %q, and that %q, %v", text, name, again, still)
		}
		in := func(s string) bool {
			return "."+s == ".example.com" || strings.HasSuffix(s, ".example.com") || strings.HasSuffix(s, ".xn--mller-kva.example")
		}
		if !ok {
			if got := judge(text); got != unknown {
				t.Errorf("%q is no domain, and %v", text, got)
			}
			return
		}
		mapped, err := lookup.ToASCII(strings.TrimSuffix(text, "."))
		if err == nil && mapped != name {
			t.Errorf("%q is %q, browsers make %q of it", text, name, mapped)
		}
		holds(t, text, judge(text), in(name))
		if isASCII(text) {
			holds(t, text, judge(text), in(strings.TrimSuffix(strings.ToLower(text), ".")))
		}
	})
}

func FuzzEmail(f *testing.F) {
	documented(f)
	anyone, ann := matching(f, "email", "*@example.com"), matching(f, "email", "ann@example.com")
	f.Fuzz(func(t *testing.T, text string) {
		if !isASCII(text) {
			return // for which net/mail has no domains
		}
		var all, one, few, each []bool
		list, err := mail.ParseAddressList(text)
		for _, a := range list {
			address := strings.TrimSuffix(strings.ToLower(a.Address), ".")
			all = append(all, strings.HasSuffix(address, "@example.com"))
			one = append(one, address == "ann@example.com")
		}
		for part := range strings.SplitSeq(text, ",") { // how a simple program does it
			if i := strings.LastIndexByte(part, '<'); i >= 0 {
				part = strings.TrimSuffix(strings.TrimSpace(part[i+1:]), ">")
			}
			if part = strings.TrimSuffix(strings.ToLower(strings.TrimSpace(part)), "."); part == "" {
				continue
			}
			few = append(few, strings.HasSuffix(part, "@example.com"))
			each = append(each, part == "ann@example.com")
		}
		if err != nil { // net/mail takes no final dot
			all, one = nil, nil
		}
		holds(t, text, anyone(text), append(all, few...)...)
		holds(t, text, ann(text), append(one, each...)...)
	})
}

func FuzzURL(f *testing.F) {
	documented(f)
	judge := matching(f, "url", "https://example.com/docs/**")
	f.Fuzz(func(t *testing.T, text string) {
		at, ok := parseURL(text)
		if ok {
			host := at.host
			if strings.Contains(host, ":") {
				host = "[" + host + "]"
			}
			again := (&url.URL{Scheme: at.scheme, Host: host + ":" + strconv.Itoa(at.port), Path: at.path}).String()
			if twice, still := parseURL(again); !strings.ContainsAny(again, ";") && (!still || twice != at) {
				t.Errorf("%q is %+v, which is %q, which is %+v, %v", text, at, again, twice, still)
			}
		}
		u, err := url.Parse(text)
		if err != nil {
			if got := judge(text); got == yes {
				t.Errorf("%q is true; net/url: %v", text, err)
			}
			return
		}
		clean := strings.ToLower(path.Clean("/" + u.Path))
		there := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".") == "example.com" && (u.Port() == "" || portOf(u.Port()) == 443) &&
			u.Scheme == "https" && u.Opaque == "" && (clean == "/docs" || strings.HasPrefix(clean, "/docs/"))
		holds(t, text, judge(text), there)
		if judge(text) == yes && (u.User != nil || net.ParseIP(u.Hostname()) != nil) {
			t.Errorf("%q is true", text)
		}
	})
}

func portOf(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

func FuzzFile(f *testing.F) {
	documented(f)
	judge, windows := matching(f, "file", "/home/me/notes/**"), matching(f, "file", "C:/Users/me/notes/**")
	f.Add(`c:\users\ME/Notes\\a`)
	f.Fuzz(func(t *testing.T, text string) {
		if clean, ok := cleanPath("/" + text); ok {
			if again, still := cleanPath(clean + "/"); !still || again != clean {
				t.Errorf("%q becomes %q, and that %q, %v", text, clean, again, still)
			}
		}
		inside := func(s string) bool {
			s = strings.ToLower(path.Clean(s))
			return s == "/home/me/notes" || strings.HasPrefix(s, "/home/me/notes/")
		}
		readers := []bool{inside(slashed(text)), inside(text)}
		if u, err := url.Parse(text); err == nil && strings.EqualFold(u.Scheme, "file") {
			readers = []bool{u.Host == "" && inside(u.Path) || strings.EqualFold(u.Host, "localhost") && inside(u.Path)}
		} else if decoded, err := url.PathUnescape(text); err == nil {
			readers = append(readers, inside(decoded), inside(slashed(decoded)))
		}
		holds(t, text, judge(text), readers...)
		if rest, ok := strings.CutPrefix(strings.ToLower(slashed(text)), "c:/"); ok {
			clean := path.Clean("/" + rest)
			holds(t, text, windows(text), clean == "/users/me/notes" || strings.HasPrefix(clean, "/users/me/notes/"))
		} else if got := windows(text); got == yes && !strings.EqualFold(text[:min(5, len(text))], "file:") && !strings.Contains(text, "%") {
			t.Errorf("%q has no drive, and is true", text)
		}
	})
}

// TestLongTexts: what is longer than any name is not judged.
func TestLongTexts(t *testing.T) {
	for op, c := range map[string]struct{ pattern, text, part string }{
		"domain": {"*.example.com", "a.example.com", "a."},
		"email":  {"*@example.com", "Ann <a@example.com>", "Ann "},
		"file":   {"/a/**", "/a/b", "/a/b"},
	} {
		judge := matching(t, op, c.pattern)
		if got := judge(c.text); got != yes {
			t.Errorf("%s: %v", op, got)
		}
		if got := judge(strings.Repeat(c.part, 5000) + c.text); got != unknown {
			t.Errorf("%s: a long one is %v", op, got)
		}
	}
}

// TestMatchersAllocateNothing for what is written plainly.
func TestMatchersAllocateNothing(t *testing.T) {
	for op, c := range map[string]struct{ pattern, text string }{
		"domain": {"*.example.com", "www.example.com"},
		"email":  {"*@example.com", "ann@example.com"},
		"url":    {"https://*.example.com/docs/**", "https://www.example.com/docs/a?x=1"},
		"file":   {"/home/me/notes/**", "/home/me/notes/a/b.md"},
	} {
		judge := judgeTexts(matching(t, op, c.pattern))
		list := action.ArrayValue(action.StringValue(c.text), action.StringValue(c.text))
		if got := judge(list); got != yes {
			t.Errorf("%s: %v", op, got)
		}
		if n := testing.AllocsPerRun(100, func() { judge(list) }); n != 0 {
			t.Errorf("%s: %v allocations", op, n)
		}
	}
}

// BenchmarkMatchers: what one value costs, in each rule that asks.
func BenchmarkMatchers(b *testing.B) {
	for _, c := range []struct{ name, op, pattern, text string }{
		{"domain", "domain", "*.example.com", "www.example.com"},
		{"domain beyond ASCII", "domain", "*.müller.example", "WWW.MÜLLER.example."},
		{"email", "email", "*@example.com", "ann@example.com"},
		{"email by its header", "email", "*@example.com", "Ann <ann@example.com>, Bob <bob@example.com>"},
		{"url", "url", "https://*.example.com/docs/**", "https://www.example.com/docs/a?x=1"},
		{"url elsewhere", "url", "https://*.example.com/docs/**", "https://www.example.org/docs/a?x=1"},
		{"file", "file", "/home/me/notes/**", "/home/me/notes/a/b.md"},
		{"file elsewhere", "file", "/home/me/notes/**", "/home/me/letters/a/b.md"},
		{"file in two ways", "file", "/home/me/notes/**", "/home/me/notes/a%20b.md"},
	} {
		judge := matching(b, c.op, c.pattern)
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if judge(c.text) == unknown {
					b.Fatal("unknown")
				}
			}
		})
	}
}
