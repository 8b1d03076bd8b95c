package proxy

import (
	"math/big"
	"strings"
	"testing"

	"github.com/openleash/openleash-go/internal/currency"
)

func TestMinorUnits(t *testing.T) {
	const no = -1 << 62
	tests := []struct {
		decimal, currency string
		want              int64
	}{
		{"85.00", "EUR", 8500}, {"85", "EUR", 8500}, {"85.5", "EUR", 8550}, {"0.01", "EUR", 1}, {"0", "EUR", 0}, {"0.00", "USD", 0},
		{"85.00", "eur", 8500}, {"85", "JPY", 85}, {"1.234", "KWD", 1234}, {"1.2345", "CLF", 12345}, {"-3.10", "EUR", -310}, {"-0", "EUR", 0},
		{"8.5e1", "EUR", 8500}, {"8.5E+1", "EUR", 8500}, {"8500e-2", "EUR", 8500}, {"1e2", "JPY", 100}, {"0e9999", "EUR", 0},
		{"90071992547409.91", "EUR", maxMinor}, {"-90071992547409.91", "EUR", -maxMinor},
		{"90071992547409.92", "EUR", no}, {"99999999999999999999", "EUR", no}, {"1e9999", "EUR", no}, {"1e99999999999999999999", "EUR", no},
		{"85.000", "EUR", no}, {"0.30000000000000004", "EUR", no}, {"85.0", "JPY", no}, {"1e-3", "EUR", no}, {"1.2345", "KWD", no},
		{"1,000.00", "EUR", no}, {"1,5", "EUR", no}, {"1.000,00", "EUR", no}, {"1 000", "EUR", no}, {" 1", "EUR", no}, {"1\n", "EUR", no},
		{"€85", "EUR", no}, {"85 EUR", "EUR", no}, {"+85", "EUR", no}, {"085", "EUR", no}, {".5", "EUR", no}, {"5.", "EUR", no}, {"--5", "EUR", no}, {"-", "EUR", no},
		{"", "EUR", no}, {"NaN", "EUR", no}, {"Infinity", "EUR", no}, {"0x10", "EUR", no}, {"1e", "EUR", no}, {"1e+-2", "EUR", no}, {"e5", "EUR", no}, {"1.5.0", "EUR", no}, {"٣", "EUR", no},
		{"5", "XXX", no}, {"5", "XAU", no}, {"5", "", no}, {"5", "EURO", no}, {"5", "EU", no}, {"5", "Eur ", no}, {"5", "ıSK", no},
	}
	for _, test := range tests {
		digits, ok := currency.MinorDigits(test.currency)
		got := int64(no)
		if ok {
			if n, ok := minorUnits(test.decimal, digits); ok {
				got = n
			}
		}
		if got != test.want {
			t.Errorf("%q %s: got %d, want %d", test.decimal, test.currency, got, test.want)
		}
	}
}

// FuzzDecimal: what is derived times the currency's unit is the amount, exactly,
// and its text is a number as JSON writes it.
func FuzzDecimal(f *testing.F) {
	for _, seed := range []string{"85.00", "-0.01", "8.5e1", "0.30000000000000004", "1,000", "90071992547409.91", "1e-2", "00", "1_0", "0x1p4"} {
		f.Add(seed, uint8(2))
	}
	f.Fuzz(func(t *testing.T, decimal string, digits uint8) {
		digits %= 5
		n, ok := minorUnits(decimal, int(digits))
		if !ok {
			return
		}
		if strings.Trim(decimal, "0123456789.eE+-") != "" {
			t.Fatalf("%q was taken for a number", decimal)
		}
		if len(decimal) > 4096 {
			return // big.Rat would take its time
		}
		want, ok := new(big.Rat).SetString(decimal)
		if !ok {
			t.Fatalf("%q was taken for a number", decimal)
		}
		unit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(digits)), nil)
		if got := new(big.Rat).SetFrac(big.NewInt(n), unit); got.Cmp(want) != 0 {
			t.Errorf("%q with %d digits gave %d, which is %s", decimal, digits, n, got.RatString())
		}
	})
}
