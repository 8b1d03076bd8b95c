package audit

import (
	"bytes"
	"strings"
	"testing"
)

func TestSplitKept(t *testing.T) {
	const a, b = "log\n1\nA=\n\n— log AA\n", "log\n2\nB=\n\n— log BB\n— w WW\n"
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"nothing":                {"", nil},
		"empty lines":            {"\n\n\n", nil},
		"one, as it was printed": {a, []string{a}},
		"two":                    {a + "\n" + b + "\n", []string{a, b}},
		"more room":              {"\n\n" + a + "\n\n\n" + b, []string{a, b}},
		"one without signatures": {"log\n1\n" + "\n" + b, []string{"log\n1\n", b}},
		"a text cut short":       {a + "\nlog\n2", []string{a, "log\n2"}},
		"before the signatures":  {a + "\nlog\n2\nB=\n\n", []string{a, "log\n2\nB=\n"}},
		"in the first of them":   {a + "\nlog\n2\nB=\n\n\xe2\x80", []string{a, "log\n2\nB=\n\n\xe2\x80"}},
		"signatures of nothing":  {"— log AA\n\n" + a, []string{"— log AA\n", a}},
	} {
		var got []string
		for _, piece := range SplitKept([]byte(c.text)) {
			got = append(got, string(piece.Signed))
			if !strings.HasPrefix(c.text[piece.At:], string(piece.Signed)) || strings.Count(c.text[:piece.At], "\n") != piece.Line-1 {
				t.Errorf("%s: piece %q is not at %d, line %d", name, piece.Signed, piece.At, piece.Line)
			}
		}
		if strings.Join(got, "|") != strings.Join(c.want, "|") {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// Between the pieces there are only line ends.
func FuzzSplitKept(f *testing.F) {
	f.Add([]byte("log\n1\nA=\n\n— log AA\n\nlog\n2\nB=\n\n— log BB\n— w WW\n\n"))
	f.Add([]byte("\n\n\xe2\x80\x94 x"))
	f.Fuzz(func(t *testing.T, text []byte) {
		end := 0
		for _, piece := range SplitKept(text) {
			if piece.At < end || len(piece.Signed) == 0 || len(bytes.Trim(text[end:piece.At], "\n")) > 0 {
				t.Fatalf("piece %q at %d, after %d", piece.Signed, piece.At, end)
			}
			end = piece.At + len(piece.Signed)
		}
		if len(bytes.Trim(text[end:], "\n")) > 0 {
			t.Fatalf("%q was left out", text[end:])
		}
	})
}
