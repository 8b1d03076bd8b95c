package portal

import (
	"slices"
	"strings"

	"github.com/openleash/openleash-go/action"
)

// amount is money as people write it, beside the minor units that rules and
// proofs speak of.
type amount struct {
	Currency string
	Decimal  string // "850.00"
	Minor    string // "85000"
}

// Currencies of ISO 4217 that have not two decimals.
var (
	noDecimals    = []string{"BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"}
	threeDecimals = []string{"BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"}
	fourDecimals  = []string{"CLF", "UYW"}
)

// amountOf reads the mapped fields of a payload; nil when they name no amount.
func amountOf(payload action.Value) *amount {
	minor, currency := payload.Get("amount_minor"), payload.Get("currency")
	if minor.Kind() != action.Number || currency.Kind() != action.String || len(currency.Text()) != 3 ||
		strings.Trim(currency.Text(), "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return nil
	}
	digits, negative := strings.CutPrefix(minor.Text(), "-")
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return nil // a fraction, or an exponent: shown as it is among the fields
	}
	decimal := point(digits, decimals(currency.Text()))
	if negative {
		decimal = "−" + decimal
	}
	return &amount{Currency: currency.Text(), Decimal: decimal, Minor: minor.Text()}
}

func decimals(currency string) int {
	switch {
	case slices.Contains(noDecimals, currency):
		return 0
	case slices.Contains(threeDecimals, currency):
		return 3
	case slices.Contains(fourDecimals, currency):
		return 4
	default:
		return 2
	}
}

// point sets the decimal point, and thin spaces between thousands.
func point(digits string, places int) string {
	if missing := places + 1 - len(digits); missing > 0 {
		digits = strings.Repeat("0", missing) + digits
	}
	whole, fraction := digits[:len(digits)-places], digits[len(digits)-places:]
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "\u2009" + whole[i:]
	}
	if places == 0 {
		return whole
	}
	return whole + "." + fraction
}
