package visible

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestLine(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                         "plain",
		"\x1b[2Jgone":                   `\u001b[2Jgone`,
		"a\u202eb\u200bc":               `a\u202eb\u200bc`,
		"a\nb\tc\r":                     `a\nb\tc\r`,
		"tag\U000e0041":                 `tag\u{e0041}`,
		"no\u00a0break\u3000wide\u2800": `no\u00a0break\u3000wide\u2800`,
		"pаypal.com":                    `p\u0430ypal.com`, // Cyrillic а
		"раура1.com":                    `\u0440\u0430\u0443\u0440\u04301.com`,
		"gооgle":                        `g\u043e\u043egle`,
		"αpple":                         `\u03b1pple`,
		"ｐａｙ":                           `\uff50\uff41\uff59`,
		"𝐩𝐚𝐲":                           `\u{1d429}\u{1d41a}\u{1d432}`,
		"example.com⁄path":              `example.com\u2044path`,
		"user@host․com":                 `user@host\u2024com`,
		"https꞉//a.b":                   `https\ua789//a.b`,
		"Привет, как дела? Это тест.":       "Привет, как дела? Это тест.",
		"файл_тест.txt":                     "файл_тест.txt", // its letters show that it is Russian
		"Καλημέρα κόσμε":                    "Καλημέρα κόσμε",
		"مرحبا بالعالم":                     "مرحبا بالعالم",
		"你好，世界（测试）":                         "你好，世界（测试）",
		"こんにちは、ＡＩ":                          `こんにちは、\uff21\uff29`,
		"Grüße aus Łódź, señor; ıstanbul":   "Grüße aus Łódź, señor; ıstanbul",
		"well‑known – “quoted” … it’s 5 € ": "well‑known – “quoted” … it’s 5 € ",
		"x² + ½ ™ ª":                        "x² + ½ ™ ª",
		"bad\xffbyte":                       "bad\ufffdbyte",
	} {
		if got := Line(in); got != want {
			t.Errorf("%q is shown as %s, want %s", in, got, want)
		}
	}
}

// The tables name a foreign character and then the ASCII one, each once.
func TestTables(t *testing.T) {
	for _, table := range []string{latin, punctuation} {
		if got := len(pairs(table)); got != utf8.RuneCountInString(table)/2 {
			t.Errorf("%d characters, each once? %s", got, table)
		}
		for foreign, plain := range pairs(table) {
			if foreign < 0x80 || plain >= 0x80 {
				t.Errorf("%q stands for %q", foreign, plain)
			}
		}
	}
}

func TestCounts(t *testing.T) {
	var c Counts
	c.Add("two\nlines\tand \x1b[0m \u202e pаypal.com")
	c.Add("plain")
	if want := (Counts{Hidden: 2, Alike: 1}); c != want {
		t.Errorf("%+v, want %+v", c, want)
	}
}

func TestTwins(t *testing.T) {
	got := Twins([]string{"amount", "to", "Amount", "аmount", "amount\u200b", "am0unt", "recipient", "arnount", "to_", "t-o"})
	want := [][2]string{{"amount", "Amount"}, {"amount", "аmount"}, {"amount", "amount\u200b"}, {"amount", "am0unt"}, {"amount", "arnount"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := Twins([]string{"to", "cc", "bcc", "subject", "body", "to_name", "date"}); got != nil {
		t.Errorf("ordinary names: %q", got)
	}
}

// A text of megabytes costs what its length does: eight times as much of it does not
// take sixty-four times as long.
func TestLongTextsAreLinear(t *testing.T) {
	took := func(n int) time.Duration {
		text := strings.Repeat("слово word ", n)
		began := time.Now()
		Line(text)
		return time.Since(began)
	}
	took(1000)
	if short, long := took(10_000), took(80_000); long > 30*short+time.Second {
		t.Errorf("%v for a text, %v for eight times as much", short, long)
	}
}

// Whatever comes, nothing is left that moves a cursor, hides or reorders, and what is
// there can be told from what was written.
func FuzzLine(f *testing.F) {
	f.Add("a\x1b\u202e\u200b pаypal ｐ\xff")
	f.Fuzz(func(t *testing.T, s string) {
		line := Line(s)
		if !utf8.ValidString(line) || strings.ContainsFunc(line, Odd) {
			t.Errorf("%q is shown as %q", s, line)
		}
		if strings.ContainsFunc(strings.ReplaceAll(Lines(s), "\n", ""), Odd) {
			t.Errorf("%q is shown as %q", s, Lines(s))
		}
		plain := Map(s, "", same, func(r rune) string { return string(r) })
		if plain != strings.ToValidUTF8(s, "\ufffd") {
			t.Errorf("%q lost something: %q", s, plain)
		}
		var c Counts
		c.Add(s)
	})
}
