package action

import (
	"bytes"
	"cmp"
)

// Compare orders two numbers by what they are exactly, however many digits they
// have and however they are written: -1, 0 or 1. ok is false when one of the two is
// no number.
func (v Value) Compare(w Value) (order int, ok bool) {
	if v.kind != Number || w.kind != Number {
		return 0, false
	}
	var buf1, buf2 [64]byte
	return parseDecimal(v.text, buf1[:]).compare(parseDecimal(w.text, buf2[:])), true
}

func (d decimal) compare(e decimal) int {
	if c := cmp.Compare(d.sign(), e.sign()); c != 0 || len(d.digits) == 0 {
		return c
	}
	c := cmp.Compare(d.point, e.point)
	if c == 0 {
		c = bytes.Compare(d.digits, e.digits) // neither ends in 0: 12 is a prefix of 123, and less
	}
	return c * d.sign()
}

func (d decimal) sign() int {
	switch {
	case len(d.digits) == 0:
		return 0
	case d.negative:
		return -1
	}
	return 1
}
