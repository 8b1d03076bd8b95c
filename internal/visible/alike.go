package visible

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// A look-alike is a character that is taken for an ASCII one where ASCII is meant
// (after Unicode UTS #39, Confusable Detection and Mixed-Script Detection):
//
//   - a letter of another alphabet in a word that has Latin letters too, when all its
//     foreign letters look Latin: "pаypal.com". A word of one alphabet is what it is,
//     and so is one whose other letters show that it is foreign.
//   - a letter or digit of a style or width of its own: full-width, mathematical,
//     enclosed, a Roman numeral.
//   - a slash, dot, colon or hyphen that is none, in what reads as an address or a name.

// latin are letters of other alphabets, each before the one it looks like.
const latin = "аaеeоoрpсcуyхxіiјjѕsһhԁdԛqԝwҡkѵvгrАAВBЕEКKМMНHОOРPСCТTУYХXІIЈJЅSԌGԜWЗ3" +
	"αaοoρpτtυuνvιiγyηnκkχxωwσoΑAΒBΕEΖZΗHΙIΚKΜMΝNΟOΡPΤTΥYΧX" +
	"օoսuհhոnցgզqԱUՕOՍSՏSꓐBꓑPꓓDꓖGꓗKꓘKꓚCꓝFꓡLꓢSꓣRꓦVꓧHꓬYꓮAꓰEꓲIꓳOꓴUᎪAᎬEᎻHᏀGᏃZᏔWᏚSᏢPᏟCᏞLᏙVɑaɡgɩiʋu"

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

// alikes finds the look-alikes of a text, by where they begin.
func alikes(s string) map[int]bool {
	if isASCII(s) {
		return nil
	}
	found := map[int]bool{}
	for start := 0; start < len(s); {
		end := len(s)
		if n := strings.IndexFunc(s[start:], unicode.IsSpace); n >= 0 {
			end = start + n
		}
		if word := s[start:end]; !isASCII(word) {
			inWord(word, start, found)
		}
		start = end
		if start < len(s) {
			_, size := utf8.DecodeRuneInString(s[start:])
			start += size
		}
	}
	return found
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0
}

func inWord(word string, at int, found map[int]bool) {
	hasLatin := strings.ContainsFunc(word, func(r rune) bool { return r < 0x80 && unicode.IsLetter(r) || styled(r) != 0 })
	foreign := strings.ContainsFunc(word, func(r rune) bool {
		return r >= 0x80 && unicode.IsLetter(r) && !unicode.Is(unicode.Latin, r) && letterLike[r] == 0 && styled(r) == 0
	})
	named := strings.ContainsAny(word, `./\@:_=`)
	for i, r := range word {
		switch {
		case letterLike[r] != 0:
			if !hasLatin || foreign {
				continue
			}
		case markLike[r] != 0:
			if !hasLatin || !named && !strings.ContainsRune("⁄∕⧸․‧꞉∶", r) {
				continue
			}
		case styled(r) == 0 || !hasLatin && !unicode.IsLetter(styled(r)) || foreign && !unicode.IsLetter(styled(r)):
			continue
		}
		found[at+i] = true
	}
}

// styled is the ASCII character of which a character is another style or width; 0 for
// all others.
func styled(r rune) rune {
	switch {
	case r >= 0xff01 && r <= 0xff5e, r >= 0x1d400 && r <= 0x1d7ff, r >= 0x2160 && r <= 0x217f, r >= 0x2460 && r <= 0x24ea, r >= 0x2100 && r <= 0x214f && r != 0x2122:
	default:
		return 0
	}
	plain := norm.NFKC.String(string(r))
	if len(plain) != 1 || plain[0] >= 0x80 {
		return 0
	}
	return rune(plain[0])
}

// skeleton is a text as one might read it at a glance: two that have the same one are
// taken for each other.
func skeleton(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case Odd(r) || r == ' ' || unicode.Is(unicode.Mn, r):
			return -1
		case letterLike[r] != 0:
			r = letterLike[r]
		case markLike[r] != 0:
			r = markLike[r]
		}
		switch r = unicode.ToLower(r); r {
		case 'i', '1', '|', 'l':
			return 'l'
		case '0':
			return 'o'
		case '-', '_':
			return '-'
		}
		return r
	}, norm.NFKD.String(strings.ToValidUTF8(s, "\ufffd")))
	return strings.NewReplacer("rn", "m", "vv", "w").Replace(s)
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
