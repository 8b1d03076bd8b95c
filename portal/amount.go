package portal

import (
	"strings"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/internal/currency"
)

// amount is money as people write it, beside the minor units that rules and
// proofs speak of.
type amount struct {
	Currency string
	Decimal  string // "850.00"
	Minor    string // "85000"
}

// amountOf reads the mapped fields of a payload; nil when they name no amount, or a
// currency whose digits are not known.
func amountOf(payload action.Value) *amount {
	minor, code := payload.Get("amount_minor"), payload.Get("currency").Text()
	places, known := currency.MinorDigits(code)
	if minor.Kind() != action.Number || !known || code != strings.ToUpper(code) {
		return nil
	}
	digits, negative := strings.CutPrefix(minor.Text(), "-")
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return nil // a fraction, or an exponent: shown as it is among the fields
	}
	decimal := point(digits, places)
	if negative {
		decimal = "−" + decimal
	}
	return &amount{Currency: code, Decimal: decimal, Minor: minor.Text()}
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
