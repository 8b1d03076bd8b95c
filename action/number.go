package action

import (
	"bytes"
	"math"
	"slices"
	"strconv"
)

// A decimal is the exact value of a number's text: 0.digits × 10^point, with
// neither the first nor the last digit 0. Zero has no digits.
type decimal struct {
	negative bool
	digits   []byte
	point    int
}

// maxExponent caps exponents while they are read. Whatever is capped is far
// outside the range of a double, however many digits stand before it.
const maxExponent = 1 << 30

// parseDecimal reads text, which obeys the grammar of JSON. The digits are put
// into buf as far as they fit.
func parseDecimal(text string, buf []byte) decimal {
	d := decimal{digits: buf[:0]}
	i := 0
	if text[0] == '-' {
		d.negative = true
		i++
	}
	seenPoint := false
	for ; i < len(text) && text[i] != 'e' && text[i] != 'E'; i++ {
		if text[i] == '.' {
			seenPoint = true
			continue
		}
		if text[i] != '0' || len(d.digits) > 0 {
			d.digits = append(d.digits, text[i])
			if !seenPoint {
				d.point++
			}
		} else if seenPoint {
			d.point--
		}
	}
	if i < len(text) {
		d.point += exponent(text[i+1:])
	}
	d.digits = bytes.TrimRight(d.digits, "0")
	if len(d.digits) == 0 {
		return decimal{}
	}
	return d
}

func exponent(text string) int {
	sign := 1
	switch text[0] {
	case '-':
		sign = -1
		text = text[1:]
	case '+':
		text = text[1:]
	}
	e := 0
	for i := range len(text) {
		if e = e*10 + int(text[i]-'0'); e >= maxExponent/16 {
			return sign * maxExponent
		}
	}
	return sign * e
}

// inRange reports whether a double takes text for neither infinity nor, unless
// it is zero, for zero.
func inRange(text string) bool {
	if len(text) < 300 && !hasExponent(text) {
		return true
	}
	var buf [64]byte
	d := parseDecimal(text, buf[:])
	switch {
	case len(d.digits) == 0 || -300 < d.point && d.point < 300:
		return true
	case d.point < -330 || d.point > 310:
		return false
	}
	f, _ := strconv.ParseFloat(text, 64)
	return f != 0 && !math.IsInf(f, 0)
}

func hasExponent(text string) bool {
	for i := range len(text) {
		if text[i]|0x20 == 'e' {
			return true
		}
	}
	return false
}

// isExact reports whether text has the value of the shortest text of its
// double, so that reading it as a double loses nothing that was written.
func isExact(text string) bool {
	// Fifteen digits always survive a double that is not subnormal.
	if len(text) <= 15 && !hasExponent(text) {
		return true
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return false
	}
	var buf1, buf2, buf3 [64]byte
	written := parseDecimal(text, buf1[:])
	shortest := parseDecimal(string(strconv.AppendFloat(buf2[:0], f, 'e', -1, 64)), buf3[:])
	return written.point == shortest.point && bytes.Equal(written.digits, shortest.digits)
}

// appendNumber appends the canonical form of a number's text.
func appendNumber(dst []byte, text string) []byte {
	if isCanonicalInt(text) {
		return append(dst, text...)
	}
	var buf [64]byte
	return appendDecimal(dst, parseDecimal(text, buf[:]))
}

// isCanonicalInt reports whether text is an integer that is canonical already:
// the usual case.
func isCanonicalInt(text string) bool {
	if len(text) > 20 || text == "-0" {
		return false
	}
	for i := range len(text) {
		if !isDigit(text[i]) && (i > 0 || text[0] != '-') {
			return false
		}
	}
	return true
}

// appendDecimal lays d out as the package comment's table says.
func appendDecimal(dst []byte, d decimal) []byte {
	s, k, n := d.digits, len(d.digits), d.point
	if d.negative {
		dst = append(dst, '-')
	}
	switch {
	case k == 0:
		return append(dst, '0')
	case k <= n && n <= 21:
		return appendZeros(append(dst, s...), n-k)
	case 0 < n && n <= 21:
		dst = append(append(dst, s[:n]...), '.')
		return append(dst, s[n:]...)
	case -6 < n && n <= 0:
		return append(appendZeros(append(dst, "0."...), -n), s...)
	}
	dst = append(dst, s[0])
	if k > 1 {
		dst = append(append(dst, '.'), s[1:]...)
	}
	dst = append(dst, 'e')
	if n > 0 {
		dst = append(dst, '+')
	}
	return strconv.AppendInt(dst, int64(n-1), 10)
}

func appendZeros(dst []byte, n int) []byte {
	return append(dst, slices.Repeat([]byte{'0'}, n)...)
}
