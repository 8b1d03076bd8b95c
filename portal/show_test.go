package portal

import (
	"html"
	"regexp"
	"strings"
	"testing"
	"time"

	"net/http"
	"net/http/httptest"

	"github.com/google/go-cmp/cmp"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/internal/visible"
)

func newRecorder(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec
}

func TestVisible(t *testing.T) {
	tests := []struct{ in, want string }{
		{"", ""},
		{"plain åäö 漢字 שלום 🎉", "plain åäö 漢字 שלום 🎉"},
		{"a\u202eb\u2066c", `a\u202eb\u2066c`},
		{"a\u200bb\ufeffc\u00ad", `a\u200bb\ufeffc\u00ad`},
		{"nul\x00 esc\x1b[31m del\x7f", `nul\u0000 esc\u001b[31m del\u007f`},
		{"line\nline\r\ttab", `line\nline\r\ttab`},
		{"no-break\u00a0ideographic\u3000", `no-break\u00a0ideographic\u3000`},
		{"tag\U000e0041 selector\ufe0f", `tag\u{e0041} selector\ufe0f`},
		{"filler\u3164\u115f\u2800", `filler\u3164\u115f\u2800`},
		{"separators\u2028\u2029", `separators\u2028\u2029`},
		{"not UTF-8 \xff", "not UTF-8 \ufffd"},
	}
	for _, tt := range tests {
		if got := visible.Line(tt.in); got != tt.want {
			t.Errorf("visible(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestTextHTML(t *testing.T) {
	const space = `<span class="odd" title="a space">·</span>`
	tests := []struct{ in, want string }{
		{"", `<span class="none">empty text</span>`},
		{"<b>&", "&lt;b&gt;&amp;"},
		{"two\nlines", "two\nlines"},
		{" a ", space + "a" + space},
		{"  ", space + space},
		{"a\n", `a<span class="odd usual" title="the character U+000A, shown by its number">\n</span>`},
	}
	for _, tt := range tests {
		if got := string(textHTML(tt.in)); got != tt.want {
			t.Errorf("textHTML(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

var tags = regexp.MustCompile(`<[^>]*>`)

// strip gives the text that a browser shows.
func strip(m markup) string { return html.UnescapeString(tags.ReplaceAllString(string(m), "")) }

func TestJSONHTML(t *testing.T) {
	const in = `{"b":1.10,"a":[1e2,"x\"y\\z<",{}],"n":null,"t":true,"e":[]}`
	const want = `{
  "b": 1.10,
  "a": [
    1e2,
    "x\"y\\z<",
    {}
  ],
  "n": null,
  "t": true,
  "e": []
}`
	if diff := cmp.Diff(want, strip(jsonHTML(parse(t, in)))); diff != "" {
		t.Errorf("pretty-printed (-want +got):\n%s", diff)
	}
}

// What is shown of a value can be read back: nothing is left out or changed. And
// no text, whatever it is, leaves its place.
func FuzzShow(f *testing.F) {
	for _, seed := range []string{`"a"`, `{"a":[1,"<script>"]}`, `"\u202e\u0000\n"`, `{"a\u200b":{"b":"\\u202e"}}`, `[[],{},null,true]`, `"\ud83c\udf89\udb40\udc41"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		v, err := action.Parse([]byte(in), action.Limits{})
		if err != nil {
			return
		}
		shown := jsonHTML(v)
		for _, tag := range tags.FindAllString(string(shown), -1) {
			if !regexp.MustCompile(`^(</span>|<span class="(key|str|num|odd|odd usual|odd alike)"( title="the character U\+[0-9A-F]+, (shown by its number|which looks like another)")?>)$`).MatchString(tag) {
				t.Errorf("%q became the tag %s", in, tag)
			}
		}
		text := longEscape.ReplaceAllStringFunc(strip(shown), surrogates)
		back, err := action.Parse([]byte(text), action.Limits{})
		if err != nil {
			t.Fatalf("what is shown of %q, %q, cannot be read: %v", in, text, err)
		}
		if got, want := string(back.Canonical()), string(v.Canonical()); got != want {
			t.Errorf("%q is shown as %q, which is another value", want, got)
		}
		for _, r := range strip(shown) {
			if r != '\n' && visible.Odd(r) {
				t.Errorf("%q is shown with %U", in, r)
			}
		}
	})
}

// longEscape is our \u{…}, which JSON has not; one that was written by the sender
// has its backslash doubled.
var longEscape = regexp.MustCompile(`\\\\|\\u\{[0-9a-f]+\}`)

func surrogates(s string) string {
	if s == `\\` {
		return s
	}
	var r rune
	for _, c := range s[3 : len(s)-1] {
		r = r*16 + rune(strings.IndexRune("0123456789abcdef", c))
	}
	return string(r)
}

func TestAmountOf(t *testing.T) {
	tests := []struct{ in, want string }{
		{`{"amount_minor":129900,"currency":"SEK"}`, "SEK 1\u2009299.00"},
		{`{"amount_minor":5,"currency":"EUR"}`, "EUR 0.05"},
		{`{"amount_minor":0,"currency":"EUR"}`, "EUR 0.00"},
		{`{"amount_minor":-250,"currency":"EUR"}`, "EUR −2.50"},
		{`{"amount_minor":1234567,"currency":"JPY"}`, "JPY 1\u2009234\u2009567"},
		{`{"amount_minor":1234,"currency":"KWD"}`, "KWD 1.234"},
		{`{"amount_minor":1.5,"currency":"EUR"}`, ""},
		{`{"amount_minor":1e3,"currency":"EUR"}`, ""},
		{`{"amount_minor":"100","currency":"EUR"}`, ""},
		{`{"amount_minor":100,"currency":"eur"}`, ""},
		{`{"amount_minor":100,"currency":"EURO"}`, ""},
		{`{"amount_minor":100,"currency":"XAU"}`, ""}, // nobody knows how many digits it has
		{`{"amount_minor":100}`, ""},
		{`{}`, ""},
	}
	for _, tt := range tests {
		got := ""
		if a := amountOf(parse(t, tt.in)); a != nil {
			got = a.Currency + " " + a.Decimal
		}
		if got != tt.want {
			t.Errorf("amountOf(%s) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		5 * time.Second: "5 s", 90 * time.Second: "1 min", time.Hour: "1 h", 90 * time.Minute: "1 h 30 min",
		25 * time.Hour: "1 day 1 h", 72 * time.Hour: "3 days",
	} {
		if got := span(d); got != want {
			t.Errorf("span(%v) = %q, want %q", d, got, want)
		}
	}
}
