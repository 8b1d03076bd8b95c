package policy

import (
	"cmp"
	"math"
	"strconv"
	"strings"
)

// A number is a JSON number, exactly: 0.DIGITS × 10^exp, where digits begin and
// end with something else than 0. Zero has no digits. Exact, because rules that
// compare 9007199254740993 as a double compare another number.
type number struct {
	negative bool
	digits   string
	exp      int
	// whole is the number without what follows the point, and MaxInt64, or its
	// negative, when that has more than maxDigits digits: a greater number has no
	// smaller one, so most are told apart by it.
	whole int64
}

const maxDigits = 18 // as many as an int64 always holds

// parseNumber reads a number as JSON writes it. ok is false for anything else
// and for exponents that no computer counts to.
func parseNumber(text string) (n number, ok bool) {
	if !isJSONNumber(text) {
		return n, false
	}
	mantissa, negative := strings.CutPrefix(text, "-")
	exponent := "0"
	if i := strings.IndexAny(mantissa, "eE"); i >= 0 {
		mantissa, exponent = mantissa[:i], mantissa[i+1:]
	}
	if strings.Trim(mantissa, "0.") == "" {
		return n, true // whatever the exponent
	}
	exp, err := strconv.ParseInt(strings.TrimPrefix(exponent, "+"), 10, 32)
	if err != nil {
		return n, false
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := whole + strings.TrimRight(fraction, "0")
	trimmed := strings.TrimLeft(digits, "0")
	n = number{negative: negative, digits: strings.TrimRight(trimmed, "0"), exp: int(exp) + len(whole) - (len(digits) - len(trimmed))}
	n.whole = n.cut()
	return n, true
}

// cut finds whole.
func (n *number) cut() (whole int64) {
	for i := range min(n.exp, maxDigits) {
		whole *= 10
		if i < len(n.digits) {
			whole += int64(n.digits[i] - '0')
		}
	}
	if n.exp > maxDigits {
		whole = math.MaxInt64
	}
	if n.negative {
		return -whole
	}
	return whole
}

// isJSONNumber holds text against the grammar of RFC 8259, section 6.
func isJSONNumber(text string) bool {
	rest := strings.TrimPrefix(text, "-")
	whole := leadingDigits(rest)
	if whole == 0 || whole > 1 && rest[0] == '0' {
		return false
	}
	rest = rest[whole:]
	if strings.HasPrefix(rest, ".") {
		n := leadingDigits(rest[1:])
		if n == 0 {
			return false
		}
		rest = rest[1+n:]
	}
	if rest != "" && (rest[0] == 'e' || rest[0] == 'E') {
		rest = rest[1:]
		if rest != "" && (rest[0] == '+' || rest[0] == '-') {
			rest = rest[1:]
		}
		n := leadingDigits(rest)
		return n > 0 && n == len(rest)
	}
	return rest == ""
}

func leadingDigits(s string) int {
	n := 0
	for n < len(s) && '0' <= s[n] && s[n] <= '9' {
		n++
	}
	return n
}

func (n *number) sign() int {
	switch {
	case n.digits == "":
		return 0
	case n.negative:
		return -1
	}
	return 1
}

// isAmount tells whether a number can be an amount in minor units.
func (n *number) isAmount() bool { return n.isWhole() && n.sign() >= 0 }

func (n *number) isWhole() bool { return n.digits == "" || n.exp >= len(n.digits) }

// compare gives -1, 0 or 1.
func (n *number) compare(m *number) int {
	if c := cmp.Compare(n.whole, m.whole); c != 0 {
		return c
	}
	if c := cmp.Compare(n.sign(), m.sign()); c != 0 || n.digits == "" {
		return c
	}
	c := cmp.Compare(n.exp, m.exp)
	if c == 0 {
		c = cmp.Compare(n.digits, m.digits)
	}
	return c * n.sign()
}
