package jsontext

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestAppendString(t *testing.T) {
	for in, want := range map[string]string{
		"":                         `""`,
		"plain text, longer":       `"plain text, longer"`,
		"\"\\/<>&":                 `"\"\\/<>&"`,
		"\b\t\n\f\r\x00\x1f":       `"\b\t\n\f\r\u0000\u001f"`,
		"\x7f é \u2028 \U0001F600": "\"\x7f é \u2028 \U0001F600\"",
		"a\xffb":                   `"a\udcffb"`,
	} {
		if got := string(AppendString([]byte("x"), in)); got != "x"+want {
			t.Errorf("%q: want %s, got %s", in, want, got[1:])
		}
	}
}

// encoding/json reads what is written, and two texts are never written the same.
func FuzzAppendString(f *testing.F) {
	f.Add("a", "b")
	f.Add("\xff", `\udcff`)
	f.Add("12345678\"", "\x00\u2028\\")
	f.Fuzz(func(t *testing.T, a, b string) {
		x, y := AppendString(nil, a), AppendString(nil, b)
		if (a == b) != (string(x) == string(y)) {
			t.Errorf("%q and %q are %s and %s", a, b, x, y)
		}
		var back string
		if err := json.Unmarshal(x, &back); err != nil || utf8.ValidString(a) && back != a {
			t.Errorf("%q is %s, read as %q, %v", a, x, back, err)
		}
	})
}

func FuzzPlain(f *testing.F) {
	f.Add([]byte("1234567\"90"))
	f.Add([]byte("\x1f\\ é"))
	f.Fuzz(func(t *testing.T, b []byte) {
		want := strings.IndexFunc(string(b), func(r rune) bool { return r < ' ' || r == '"' || r == '\\' })
		if want < 0 {
			want = len(b)
		}
		if got := Plain(b); got != want {
			t.Errorf("%q: want %d, got %d", b, want, got)
		}
	})
}
