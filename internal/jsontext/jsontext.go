// Package jsontext reads and writes the strings of JSON (RFC 8259, section 7)
// fast: most of what passes here is text without a single escape.
package jsontext

import (
	"encoding/binary"
	"math/bits"
	"strings"
	"unicode/utf8"
)

const lowerHex = "0123456789abcdef"

// AppendString appends s as a JSON string, with the least escapes that JSON
// allows (RFC 8785, section 3.2.2.2). A byte that is not UTF-8 becomes the lone
// surrogate U+DC00 + byte, so that two texts are never written the same.
func AppendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := len(dst)
	dst = append(dst, s...)
	if text := dst[start:]; Plain(text) < len(text) || !utf8.Valid(text) {
		dst = appendEscaped(dst[:start], s)
	}
	return append(dst, '"')
}

// appendEscaped is AppendString for a text that needs escapes.
func appendEscaped(dst []byte, s string) []byte {
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
		} else if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		dst = appendEscape(append(dst, s[start:i]...), c)
		i++
		start = i
	}
	return append(dst, s[start:]...)
}

// appendEscape escapes one byte: ASCII, or a stray byte that is not UTF-8.
func appendEscape(dst []byte, c byte) []byte {
	if short := strings.IndexByte("\"\\\b\t\n\f\r", c); short >= 0 {
		return append(dst, '\\', `"\btnfr`[short])
	}
	page := "00"
	if c >= utf8.RuneSelf {
		page = "dc"
	}
	return append(append(append(dst, `\u`...), page...), lowerHex[c>>4], lowerHex[c&15])
}

const ones = 0x0101010101010101

// Plain returns how many bytes at the start of b stand for themselves in a
// string: neither a quote, nor a backslash, nor a control character. It looks
// at eight bytes at once: x-n*ones sets the top bit of the lowest byte that is
// less than n, and what it borrows spoils only the bytes above that one.
func Plain(b []byte) int {
	i := 0
	for ; len(b)-i >= 8; i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		quote, slash := w^'"'*ones, w^'\\'*ones
		stop := (w-' '*ones)&^w | (quote-ones)&^quote | (slash-ones)&^slash
		if stop &= 0x80 * ones; stop != 0 {
			return i + bits.TrailingZeros64(stop)/8
		}
	}
	for ; i < len(b); i++ {
		if c := b[i]; c < ' ' || c == '"' || c == '\\' {
			break
		}
	}
	return i
}
