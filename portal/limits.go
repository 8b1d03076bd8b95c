package portal

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/internal/currency"
	"github.com/openleash/openleash-go/policy"
)

// overLimit is one limit that a request is over, in words.
type overLimit struct {
	Limit  string
	Window string
	For    string // whom it counts apart; empty: all together
	Max    string
	Taken  string // used and held
	This   string
	Beyond string
	Doubt  string // why it cannot be counted; then there are no numbers
}

func overLimits(list []approvals.Overshoot) (rows []overLimit) {
	for _, o := range list {
		row := overLimit{Limit: o.Limit, Window: windowWords(o.Window), For: cmp.Or(o.For, policy.KeyWords(o.Key)), Doubt: o.Doubt}
		if o.Doubt == "" {
			row.Max, row.Taken = quantity(o.Max, o.Currency), quantity(o.Used+o.Held, o.Currency)
			row.This, row.Beyond = quantity(o.Amount, o.Currency), quantity(o.Beyond(), o.Currency)
		}
		rows = append(rows, row)
	}
	return rows
}

// windowWords is a window after an amount: "in 24h", "a day".
func windowWords(window string) string {
	if strings.ContainsAny(window, "0123456789") {
		return "in " + window
	}
	return "a " + window
}

// quantity is money as people write it, or a plain number.
func quantity(n int64, code string) string {
	places, known := currency.MinorDigits(code)
	switch {
	case code == "":
		return point(strconv.FormatInt(n, 10), 0)
	case !known:
		return currency.Text(n, code)
	}
	return code + "\u00a0" + point(strconv.FormatInt(n, 10), places)
}
