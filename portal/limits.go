package portal

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/openleash/openleash-go/approvals"
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
		row := overLimit{Limit: o.Limit, Window: o.Window, For: keyWords(o.Key), Doubt: o.Doubt}
		if o.Doubt == "" {
			row.Max, row.Taken = quantity(o.Max, o.Currency), quantity(o.Used+o.Held, o.Currency)
			row.This, row.Beyond = quantity(o.Amount, o.Currency), quantity(o.Beyond(), o.Currency)
		}
		rows = append(rows, row)
	}
	return rows
}

// keyWords reads the key of a limit, a list of texts, to people.
func keyWords(key string) string {
	var parts []string
	if json.Unmarshal([]byte(key), &parts) != nil {
		return key
	}
	return strings.Join(parts, ", ")
}

// quantity is money as people write it, or a plain number.
func quantity(n int64, currency string) string {
	if currency == "" {
		return point(strconv.FormatInt(n, 10), 0)
	}
	return currency + "\u00a0" + point(strconv.FormatInt(n, 10), decimals(currency))
}
