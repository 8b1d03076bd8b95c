package currency

import "testing"

func TestText(t *testing.T) {
	for _, tt := range []struct {
		minor int64
		code  string
		want  string
	}{
		{1250, "EUR", "12.50 EUR"}, {5, "EUR", "0.05 EUR"}, {0, "EUR", "0.00 EUR"}, {-5, "EUR", "-0.05 EUR"}, {-12345, "EUR", "-123.45 EUR"},
		{1250, "JPY", "1250 JPY"}, {1250, "KWD", "1.250 KWD"}, {1, "CLF", "0.0001 CLF"}, {1<<53 - 1, "SEK", "90071992547409.91 SEK"},
		{1250, "XAU", "1250 minor units of XAU"}, {-3, "XTS", "-3 minor units of XTS"}, {1250, "", "1250"},
	} {
		if got := Text(tt.minor, tt.code); got != tt.want {
			t.Errorf("%d of %q: %q, want %q", tt.minor, tt.code, got, tt.want)
		}
	}
}

func TestMinorDigits(t *testing.T) {
	for code, want := range map[string]int{"EUR": 2, "eur": 2, "JPY": 0, "KWD": 3, "UYW": 4} {
		if got, ok := MinorDigits(code); !ok || got != want {
			t.Errorf("%s: %d, %t; want %d", code, got, ok, want)
		}
	}
	for _, code := range []string{"", "EU", "EURO", "XAU", "XTS", "E1R", "ЕUR"} {
		if got, ok := MinorDigits(code); ok {
			t.Errorf("%q: %d, want unknown", code, got)
		}
	}
}
