// Package currency knows how many digits of an amount are its currency's minor
// units, by ISO 4217, and writes whole minor units as people do.
package currency

import (
	"strconv"
	"strings"
)

// MinorDigits is the number of minor digits of a currency. Lower case is understood
// (some payment interfaces write eur); codes without a minor unit of their own
// (metals, funds, tests) are unknown.
func MinorDigits(code string) (digits int, ok bool) {
	if len(code) != 3 || strings.Trim(code, letters) != "" {
		return 0, false
	}
	digits, ok = currencies[strings.ToUpper(code)]
	return digits, ok
}

// Text writes minor units with their currency: "12.50 EUR"; where it is not known
// how many digits they have, "1250 minor units of XAU". Without a currency it is a
// plain number.
func Text(minor int64, code string) string {
	digits, ok := MinorDigits(code)
	switch {
	case code == "":
		return strconv.FormatInt(minor, 10)
	case !ok:
		return strconv.FormatInt(minor, 10) + " minor units of " + code
	}
	return Decimal(minor, digits) + " " + code
}

// Decimal sets the point before the last digits of a number.
func Decimal(minor int64, digits int) string {
	text, negative := strings.CutPrefix(strconv.FormatInt(minor, 10), "-")
	if missing := digits + 1 - len(text); missing > 0 {
		text = strings.Repeat("0", missing) + text
	}
	if point := len(text) - digits; digits > 0 {
		text = text[:point] + "." + text[point:]
	}
	if negative {
		return "-" + text
	}
	return text
}

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

var currencies = currencyTable(map[int]string{
	0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
	2: "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD " +
		"CAD CDF CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP " +
		"GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL " +
		"MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN " +
		"QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD " +
		"TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG",
	3: "BHD IQD JOD KWD LYD OMR TND",
	4: "CLF UYW",
})

func currencyTable(byDigits map[int]string) map[string]int {
	table := make(map[string]int)
	for digits, codes := range byDigits {
		for code := range strings.FieldsSeq(codes) {
			table[code] = digits
		}
	}
	return table
}
