package proxy

import (
	"strconv"
	"strings"
)

// Amounts. A tool takes a price as people write it (85.00, EUR); policies count
// whole minor units (8500). minorUnits does the step between them on the text,
// never on a float, and only where there is one reading:
//
//   - the text is a JSON number: no thousands separators, spaces, symbols, plus
//     signs, leading zeros; an exponent is fine (8.5e1 is 85);
//   - it has no more fraction digits than the currency has minor digits. 85.000
//     with EUR is not 85: half of the world writes 85,000 so. The float noise of
//     0.1+0.2 falls to the same rule;
//   - the result is at most 2^53-1, which every reader of JSON holds exactly.
//
// A negative amount is derived like any other; policies refuse it.

// maxMinor is the largest whole number that every JSON parser keeps.
const maxMinor = 1<<53 - 1

// minorUnits turns a decimal text into minor units of a currency with that many
// minor digits. ok is false when there is any doubt.
func minorUnits(decimal string, minorDigits int) (n int64, ok bool) {
	whole, fraction, exponent, ok := splitDecimal(decimal)
	if !ok {
		return 0, false
	}
	shift := exponent + minorDigits - len(fraction)
	if shift < 0 {
		return 0, false
	}
	digits := strings.TrimLeft(strings.TrimPrefix(whole, "-")+fraction, "0")
	if digits == "" {
		return 0, true
	}
	if len(digits)+shift > len("9007199254740991") {
		return 0, false
	}
	n, err := strconv.ParseInt(digits+strings.Repeat("0", shift), 10, 64)
	if err != nil || n > maxMinor {
		return 0, false
	}
	if strings.HasPrefix(whole, "-") {
		n = -n
	}
	return n, true
}

// splitDecimal takes a JSON number apart: "-8.50e1" is "-8", "50", 1. An
// exponent of more than four digits is none that an amount has.
func splitDecimal(s string) (whole, fraction string, exponent int, ok bool) {
	whole = s
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		power := strings.TrimPrefix(s[i+1:], "+")
		unsigned := strings.TrimPrefix(power, "-")
		if !isDigits(unsigned) || len(unsigned) > 4 || strings.HasPrefix(s[i+1:], "+-") {
			return "", "", 0, false
		}
		exponent, _ = strconv.Atoi(power)
		whole = s[:i]
	}
	whole, fraction, dotted := strings.Cut(whole, ".")
	unsigned := strings.TrimPrefix(whole, "-")
	ok = isDigits(unsigned) && (unsigned == "0" || unsigned[0] != '0') && (!dotted || isDigits(fraction))
	return whole, fraction, exponent, ok
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
