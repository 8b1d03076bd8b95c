package visible

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// A look-alike is a character that is taken for an ASCII one where ASCII is meant
// (after Unicode UTS #39, Confusable Detection and Mixed-Script Detection):
//
//   - a letter of another alphabet that looks Latin, where Latin letters stand beside it
//     ("pаypal"), or in the same word when all letters beside it look Latin too
//     ("аррӏе.com"). Words of one alphabet are what they are, and so is "файл_тест.txt".
//   - a letter or digit of a style or width of its own: full-width, mathematical,
//     enclosed, a Roman numeral.
//   - a slash, dot, colon or hyphen that is none, in what reads as an address or a name.

// latin are letters of other alphabets, each before the one it looks like.
const latin = "ӏlӀIаaеeоoрpсcуyхxіiјjѕsһhԁdԛqԝwҡkѵvгrАAВBЕEКKМMНHОOРPСCТTУYХXІIЈJЅSԌGԜWЗ3" +
	"αaοoρpτtυuνvιiγyηnκkχxωwσoΑAΒBΕEΖZΗHΙIΚKΜMΝNΟOΡPΤTΥYΧX" +
	"օoսuհhոnցgզqԱUՕOՍSՏSꓐBꓑPꓓDꓖGꓗKꓘKꓚCꓝFꓡLꓢSꓣRꓦVꓧHꓬYꓮAꓰEꓲIꓳOꓴUᎪAᎬEᎻHᏀGᏃZᏔWᏚSᏢPᏟCᏞLᏙVɑaɡgɩiʋu" +
	"ᴀaʙbᴄcᴅdᴇeꜰfɢgʜhɪiᴊjᴋkʟlᴍmɴnᴏoᴘpʀrꜱsᴛtᴜuᴠvᴡwʏyᴢz"

// punctuation likewise.
const punctuation = "⁄/∕/⧸/․.‧.ꓸ.܁.٠.‐-‑-‒-−-﹣-˗-꞉:∶:։:׃:˸:ː:ʼ'ʹ'ˈ'‚,ⵑ!ǃ!⁎*∗*"

var letterLike, markLike = pairs(latin), pairs(punctuation)

func pairs(s string) map[rune]rune {
	m := map[rune]rune{}
	runes := []rune(s)
	for i := 0; i < len(runes); i += 2 {
		m[runes[i]] = runes[i+1]
	}
	return m
}

// A word is what decides whether a character of it is a look-alike: all between two
// spaces, or the letters that stand beside each other in it.
type word struct {
	latin   bool // it has letters that are Latin, or a style of them
	foreign bool // it has others that look like none
	named   bool // it reads as an address or a name
}

func wordOf(s string) (w word) {
	for _, r := range s {
		switch {
		case r < 0x80:
			w.latin = w.latin || unicode.IsLetter(r)
			w.named = w.named || strings.ContainsRune(`./\@:_=`, r)
		case styles[r] != 0:
			w.latin = true
		case unicode.IsLetter(r) && !unicode.Is(unicode.Latin, r) && letterLike[r] == 0:
			w.foreign = true
		}
	}
	return w
}

// inLetters reports whether a character is part of letters that stand beside each other.
func inLetters(r rune) bool { return unicode.IsLetter(r) || unicode.IsMark(r) || unicode.IsDigit(r) }

// alike reports whether a character of the word, and of those letters in it, is taken
// for an ASCII one.
func (w word) alike(r rune, letters word) bool {
	switch {
	case r < 0x80:
		return false
	case letterLike[r] != 0:
		return letters.latin || w.latin && !letters.foreign
	case markLike[r] != 0:
		return w.latin && (w.named || strings.ContainsRune("⁄∕⧸․‧꞉∶", r))
	}
	plain := styles[r]
	return plain != 0 && (unicode.IsLetter(plain) || w.latin && !w.foreign)
}

// Imitates is the ASCII character that a look-alike is taken for; 0 for all others.
func Imitates(r rune) rune {
	for _, table := range []map[rune]rune{letterLike, markLike} {
		if table[r] != 0 {
			return table[r]
		}
	}
	return styles[r]
}

// styles are the characters that are another style or width of an ASCII one.
var styles = styleTable()

func styleTable() map[rune]rune {
	m := map[rune]rune{}
	for _, block := range [][2]rune{{0xff01, 0xff5e}, {0x1d400, 0x1d7ff}, {0x2160, 0x217f}, {0x2460, 0x24ea}, {0x2100, 0x214f}} {
		for r := block[0]; r <= block[1]; r++ {
			if plain := norm.NFKC.String(string(r)); len(plain) == 1 && plain[0] < 0x80 {
				m[r] = rune(plain[0])
			}
		}
	}
	return m
}

// skeleton is a text as one might read it at a glance: two that have the same one are
// taken for each other.
func skeleton(s string) string {
	var b strings.Builder
	var base rune // what the marks stand on
	for _, r := range norm.NFKD.String(strings.ToValidUTF8(s, "\ufffd")) {
		switch {
		case Odd(r) || r == ' ':
			continue
		case unicode.Is(unicode.Mn, r) && (base < 0x80 || unicode.Is(unicode.Latin, base)):
			continue // й is no и, but é is taken for e
		case !unicode.Is(unicode.Mn, r):
			base = r
		}
		b.WriteRune(glance(r))
	}
	return strings.NewReplacer("rn", "m", "vv", "w").Replace(b.String())
}

// glance is the character that one is taken for.
func glance(r rune) rune {
	if plain := Imitates(r); plain != 0 {
		r = plain
	}
	switch r = unicode.ToLower(r); r {
	case 'i', '1', '|':
		return 'l'
	case '0':
		return 'o'
	case '_':
		return '-'
	}
	return r
}

// Twins finds names that are taken for each other: pairs of them, each name with the
// first that it looks like.
func Twins(names []string) (pairs [][2]string) {
	first := make(map[string]string, len(names))
	for _, name := range names {
		read := skeleton(name)
		if other, seen := first[read]; seen && other != name {
			pairs = append(pairs, [2]string{other, name})
		} else if !seen {
			first[read] = name
		}
	}
	return pairs
}
