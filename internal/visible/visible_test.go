package visible

import (
	"encoding/json"
	"errors"
	"regexp"
	"strconv"
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
		"аррӏе.com":                     `\u0430\u0440\u0440\u04cf\u0435.com`,
		"pаypal.com/ж pаyж":             `p\u0430ypal.com/ж p\u0430yж`, // what is foreign beside it excuses nothing
		"USB-порт, Tシャツ, 3D-модель": "USB-порт, Tシャツ, 3D-модель",
		"gооgle":           `g\u043e\u043egle`,
		"αpple":            `\u03b1pple`,
		"ｐａｙ":              `\uff50\uff41\uff59`,
		"𝐩𝐚𝐲":              `\u{1d429}\u{1d41a}\u{1d432}`,
		"example.com⁄path": `example.com\u2044path`,
		"user@host․com":    `user@host\u2024com`,
		"https꞉//a.b":      `https\ua789//a.b`,
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
		`C:\Users\new\`:                     `C:\Users\\new\\`,
		`\u202e`:                            `\\u202e`,
		"\\\u202e":                          `\\\u202e`,
		`no \ at all`:                       `no \ at all`,
		"e\u0301 o\u0302\u0301":             "e\u0301 o\u0302\u0301",
		"z" + strings.Repeat("\u0300", 6):   "z" + strings.Repeat("\u0300", 4) + `\u0300\u0300`,
		"\u0301a \u0301":                    `\u0301a \u0301`,
		"p\u1d00yp\u1d00l":                  `p\u1d00yp\u1d00l`, // small capitals
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
	for in, want := range map[string]Counts{
		"two\nlines\tand \x1b[0m \u202e pаypal.com": {Hidden: 2, Alike: 1},
		"plain":         {},
		"two\r\nlines":  {},
		"over\rwritten": {Hidden: 1},
		"👩\u200d🚀 ❤\ufe0f 1\ufe0f\u20e3 👍🏽 🏳\ufe0f\u200d🌈": {},
		"a\u200db \u200d👩 👩\u200d x\ufe0f ❤\ufe0f\ufe0f":   {Hidden: 5},
		"می\u200cخواهم क्\u200dष":                          {}, // Persian and Hindi need them
		"م\u200c \u200c.":                                  {Hidden: 2},
		"5\u00a0€, c’est\u202f: \u3000全角":                  {},
		"soft\u00adhyphen \u200fleft \u2066":               {Hidden: 3},
		"z" + strings.Repeat("\u0300", 44):                 {Hidden: 40},
		"עִבְרִית שָׁלוֹם, tiếng Việt, ภาษาไทย ที่":        {},
	} {
		var c Counts
		if c.Add(in); c != want {
			t.Errorf("%q: %+v, want %+v", in, c, want)
		}
	}
}

func TestJSONText(t *testing.T) {
	const text = "{\"a\u202e\":\"\\u202e \\\\u202e \U000e0041\u2028 pаypal\\n\"}"
	const want = `{"a\u202e":"\u202e \\u202e \udb40\udc41\u2028 p\u0430ypal\n"}`
	if got := JSONText(text); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	var before, after any
	if err := errors.Join(json.Unmarshal([]byte(text), &before), json.Unmarshal([]byte(JSONText(text)), &after)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Error(diff)
	}
}

// A text of 1 MB, whatever is in it, does not keep its owner waiting.
func TestLong(t *testing.T) {
	for _, part := range []string{"plain words ", "ä b ", "а", "\x00", "a\u202e", "ｐ", "\u0301", "٠ a.b"} {
		began := time.Now()
		var c Counts
		text := strings.Repeat(part, 1<<20/len(part))
		c.Add(text)
		Line(text)
		took := time.Since(began)
		t.Logf("%q: %v", part, took)
		if took > 30*time.Second { // seconds under -race on a busy machine; quadratic would be hours
			t.Errorf("%q took %v", part, took)
		}
	}
}

func TestTwins(t *testing.T) {
	got := Twins([]string{"amount", "to", "Amount", "аmount", "amount\u200b", "am0unt", "recipient", "arnount", "to_", "t-o", "мой", "мои"})
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

// number is how a character without shape, or a backslash, is written.
var number = regexp.MustCompile(`(\\+)(u\{[0-9a-f]+\}|u[0-9a-f]{4}|[unrt]|\z)`)

// read reads back what Line or Lines wrote.
func read(s string) string {
	return number.ReplaceAllStringFunc(s, func(m string) string {
		rest := strings.TrimLeft(m, `\`)
		slashes := len(m) - len(rest)
		before := strings.Repeat(`\`, slashes/2)
		switch {
		case slashes%2 == 0:
			return before + rest
		case rest == "n":
			return before + "\n"
		case rest == "r":
			return before + "\r"
		case rest == "t":
			return before + "\t"
		}
		r, _ := strconv.ParseUint(strings.Trim(rest, "u{}"), 16, 32)
		return before + string(rune(r))
	})
}

// Whatever comes, nothing is left that moves a cursor, hides or reorders, and what was
// written can be read back.
func FuzzLine(f *testing.F) {
	f.Add("a\x1b\u202e\u200b pаypal ｐ\xff")
	f.Add("\\\\u202e\\\u202e\\n\n\\")
	f.Add("❤\ufe0f👩\u200d🚀\r\nz\u0301\u0301\u0301\u0301\u0301")
	f.Fuzz(func(t *testing.T, s string) {
		valid := strings.ToValidUTF8(s, "\ufffd")
		for what, shown := range map[string]string{"Line": Line(s), "Lines": Lines(s)} {
			raw := shown
			if what == "Lines" {
				raw = strings.ReplaceAll(shown, "\n", "")
			}
			if !utf8.ValidString(raw) || strings.ContainsFunc(raw, Odd) {
				t.Errorf("%s shows %q as %q", what, s, shown)
			}
			if got := read(shown); got != valid {
				t.Errorf("%s shows %q as %q, which reads %q", what, s, shown, got)
			}
		}
		var whole string
		for part := range Segments(s, "\n") {
			whole += part.Text
		}
		if whole != valid {
			t.Errorf("%q lost something: %q", s, whole)
		}
	})
}
