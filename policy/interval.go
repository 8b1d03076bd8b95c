package policy

import (
	"fmt"
	"math"

	"github.com/openleash/openleash-go/action"
)

// An interval is the numbers from one end to another: lt, lte, gt, gte, and the two
// of an amount.
type interval struct {
	low, high end
	money     bool // what is no amount cannot be judged
}

// An end is where an interval ends.
type end struct {
	at    number
	there bool // without it the interval goes on for ever
	open  bool // the number itself is outside
}

func (i *interval) judge(n *number) truth {
	if i.money && !n.isAmount() {
		return unknown
	}
	return truthOf(!i.under(n) && !i.over(n))
}

func (i *interval) under(n *number) bool { return i.low.beyond(n, -1) }
func (i *interval) over(n *number) bool  { return i.high.beyond(n, 1) }

// beyond tells whether a number lies on that side of the end which is outside.
func (e *end) beyond(n *number, outside int) bool {
	if !e.there {
		return false
	}
	c := n.compare(&e.at)
	return c == outside || c == 0 && e.open
}

// wholes are number.whole of the ends: a number whose own is less than low, or more
// than high, is outside; one whose own is between them is inside.
func (i *interval) wholes() (low, high int64) {
	low, high = math.MinInt64, math.MaxInt64
	if i.low.there {
		low = i.low.at.whole
	}
	if i.high.there {
		high = i.high.at.whole
	}
	return low, high
}

// judgeValue judges a value that may not be a number at all.
func (i *interval) judgeValue(v action.Value) truth {
	n, ok := numberOf(v)
	if !ok {
		return unknown
	}
	return i.judge(&n)
}

func endAt(amount *int64) (e end) {
	if amount != nil {
		e.at, e.there = parseNumber(fmt.Sprint(*amount))
	}
	return e
}
