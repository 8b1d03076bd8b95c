package action

import (
	"slices"

	"github.com/openleash/openleash-go/internal/jsontext"
)

// Canonical returns the canonical form (package comment): RFC 8785 with exact
// decimals for the numbers that a double cannot hold. Missing gives nil.
func (v Value) Canonical() []byte {
	if v.kind == Missing {
		return nil
	}
	return v.appendCanonical(make([]byte, 0, v.end-v.start+64))
}

func (v Value) appendCanonical(dst []byte) []byte {
	switch v.kind {
	case Bool:
		if v.truth {
			return append(dst, "true"...)
		}
		return append(dst, "false"...)
	case Number:
		return appendNumber(dst, v.text)
	case String:
		return jsontext.AppendString(dst, v.text)
	case Array:
		return v.appendArray(dst)
	case Object:
		return v.appendObject(dst)
	}
	return append(dst, "null"...)
}

func (v Value) appendArray(dst []byte) []byte {
	dst = append(dst, '[')
	for i, m := range v.list() {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = m.Value.appendCanonical(dst)
	}
	return append(dst, ']')
}

func (v Value) appendObject(dst []byte) []byte {
	var few [16]int32
	list, order := v.list(), few[:0]
	for i := range list {
		order = append(order, int32(i))
	}
	slices.SortFunc(order, func(a, b int32) int { return compareUTF16(list[a].Key, list[b].Key) })
	dst = append(dst, '{')
	for i, at := range order {
		if i > 0 {
			dst = append(dst, ',')
		}
		m := &list[at]
		dst = append(jsontext.AppendString(dst, m.Key), ':')
		dst = m.Value.appendCanonical(dst)
	}
	return append(dst, '}')
}

// compareUTF16 orders two texts by their UTF-16 code units. That is the order
// of the bytes of their UTF-8, but for characters beyond U+FFFF (first byte F0
// and up): their surrogates come before U+E000 to U+FFFF (first byte EE or EF).
func compareUTF16(a, b string) int {
	for i := range min(len(a), len(b)) {
		x, y := a[i], b[i]
		if x == y {
			continue
		}
		if x >= 0xee && y >= 0xee && (x >= 0xf0) != (y >= 0xf0) {
			x, y = y, x
		}
		return int(x) - int(y)
	}
	return len(a) - len(b)
}

// Exact reports whether every number in v is what a double holds; where not,
// path names the first that is not ("$.payload.amount").
func (v Value) Exact() (path string, ok bool) {
	path, _, ok = v.inexact()
	if ok {
		return "", true
	}
	return "$" + path, false
}

// inexact finds the first number that is not exact, and its path from v.
func (v Value) inexact() (path, text string, ok bool) {
	if v.kind == Number && !isExact(v.text) {
		return "", v.text, false
	}
	for i, m := range v.list() {
		if path, text, ok := m.Value.inexact(); !ok {
			return v.Step(i) + path, text, false
		}
	}
	return "", "", true
}
