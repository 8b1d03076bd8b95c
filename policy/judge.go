package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/openleash/openleash-go/action"
)

// The paths that have a meaning of their own.
const (
	amountPath   = "$.payload.amount_minor"
	currencyPath = "$.payload.currency"
	merchantPath = "$.payload.merchant_domain"
	domainPath   = "$.payload.domain"
	partyPath    = "$.relying_party.domain"
)

// A literal is a value that a rule compares with.
type literal struct {
	value  action.Value
	number number // when value is one
}

// equal compares without coercion; values must be of one kind.
func (l literal) equal(v action.Value) bool {
	if v.Kind() != l.value.Kind() {
		return false
	}
	switch v.Kind() {
	case action.Null:
		return true
	case action.Bool:
		return v.IsTrue() == l.value.IsTrue()
	case action.Number:
		n, ok := parseNumber(v.Text())
		return ok && n.compare(&l.number) == 0
	}
	return v.Text() == l.value.Text()
}

// judgeIn is `in`, and `eq` for a list of one. A value of a kind that the list
// does not hold is unknown: "5" is not 5, but nobody can say that it is another.
// null is a kind of its own, and whether a value is null can always be said.
func judgeIn(list []literal) func(action.Value) truth {
	var kinds [action.Object + 1]bool
	onlyNull := true
	for _, l := range list {
		kinds[l.value.Kind()] = true
		onlyNull = onlyNull && l.value.Kind() == action.Null
	}
	return func(v action.Value) truth {
		for _, l := range list {
			if l.equal(v) {
				return yes
			}
		}
		if onlyNull || kinds[v.Kind()] && readable(v) {
			return no
		}
		return unknown
	}
}

// readable is false for numbers that cannot be compared.
func readable(v action.Value) bool {
	if v.Kind() != action.Number {
		return true
	}
	_, ok := parseNumber(v.Text())
	return ok
}

// numberOf reads a value that is a number which can be compared.
func numberOf(v action.Value) (n number, ok bool) {
	if v.Kind() != action.Number {
		return n, false
	}
	return parseNumber(v.Text())
}

func judgeRegexp(re *regexp.Regexp) func(action.Value) truth {
	return func(v action.Value) truth {
		if v.Kind() != action.String {
			return unknown
		}
		return truthOf(re.MatchString(v.Text()))
	}
}

func judgeExists(v action.Value) truth { return truthOf(v.Kind() != action.Null) }

func negate(judge func(action.Value) truth) func(action.Value) truth {
	return func(v action.Value) truth { return judge(v).not() }
}

// asMoney lets a test see whole amounts from zero up only: anything else that
// stands where an amount belongs is no amount.
func (t *test) asMoney() {
	t.wants, t.equals = wantsMoney, nil
	if t.within != nil {
		t.within.money = true
		return
	}
	judge := t.judge
	t.judge = func(v action.Value) truth {
		if n, ok := numberOf(v); !ok || !n.isAmount() {
			return unknown
		}
		return judge(v)
	}
}

const wantsMoney = "a whole number of minor units, not negative"

// amountTest is amount_min and amount_max; either may be nil.
func amountTest(low, high *int64) *test {
	within := &interval{low: endAt(low), high: endAt(high), money: true}
	return &test{
		paths:  []action.Path{mustPath(amountPath)},
		absent: missing,
		wants:  wantsMoney,
		judge:  within.judgeValue,
		within: within,
		limit: func(v action.Value) string {
			if n, _ := numberOf(v); within.over(&n) {
				return fmt.Sprintf("over %d", *high)
			}
			return fmt.Sprintf("under %d", *low)
		},
	}
}

// currencyTest compares codes exactly; one that differs by case only is of the
// wrong form.
func currencyTest(codes []string) *test {
	return &test{
		paths:  []action.Path{mustPath(currencyPath)},
		absent: missing,
		wants:  "a currency code in capital letters",
		judge: func(v action.Value) truth {
			switch {
			case v.Kind() != action.String:
				return unknown
			case slices.Contains(codes, v.Text()):
				return yes
			case slices.ContainsFunc(codes, func(c string) bool { return strings.EqualFold(c, v.Text()) }):
				return unknown
			}
			return no
		},
	}
}

// domainTest looks at own, a path of the payload, and without one at the
// relying party.
func domainTest(own string, list *domains, blocked bool) *test {
	t := &test{
		paths:  []action.Path{mustPath(own), mustPath(partyPath)},
		absent: missing,
		wants:  "a domain, or a list of them that are all on one side",
		judge:  judgeTexts(list.judge),
	}
	if blocked {
		t.judge, t.negated = negate(t.judge), true
	}
	return t
}

// ofEach makes t, which asks something of an item, or of what item leads to from
// there, ask it of every item of a list: it says what all of them say, and is
// unknown when they do not agree. An empty list is as nothing at all.
func (t *test) ofEach(item action.Path) {
	judge, absent := t.judge, t.absent
	one := func(v action.Value) truth {
		switch found, ok := item.Lookup(v); {
		case !ok:
			return unknown
		case found.Kind() != action.Missing:
			return judge(found)
		}
		return absent
	}
	t.judge = func(v action.Value) truth {
		if v.Kind() != action.Array {
			return unknown
		}
		return unanimous(v, absent, one)
	}
	t.wants = fmt.Sprintf("a list whose [*]%s are all on one side: %s", strings.TrimPrefix(item.String(), "$"), t.wants)
	t.equals, t.within = nil, nil
}

// unanimous is what one says of all items of a list.
func unanimous(list action.Value, empty truth, one func(action.Value) truth) truth {
	return agreed(list.Len(), empty, func(i int) truth { return one(list.Index(i)) })
}

func mustPath(text string) action.Path {
	p, err := action.ParsePath(text)
	if err != nil {
		panic(err) // only constants come here
	}
	return p
}
