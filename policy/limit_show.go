package policy

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/openleash/openleash-go/internal/currency"
)

// Limits are those in force, in the order of Policies. Policies in the shadow charge
// nothing.
func (b *Book) Limits() (list []*Limit) {
	for _, p := range b.Policies() {
		if !p.shadow {
			list = append(list, p.allLimits()...)
		}
	}
	return list
}

// Per is what the limit counts apart, as it was written: "agent", "vendor", a path.
func (l *Limit) Per() (words []string) {
	for _, part := range l.per {
		words = append(words, part.name)
	}
	return words
}

// Text writes an amount that the limit counts: "12.50 EUR", or a plain number.
func (l *Limit) Text(n int64) string { return currency.Text(n, l.Currency) }

// Bound is the limit in words: "at most 50.00 EUR in 24h", "at most 3 a day".
func (l *Limit) Bound() string {
	window := "in " + l.Window()
	if l.Trailing() == 0 {
		window = "a " + l.Window()
	}
	return fmt.Sprintf("at most %s %s", l.Text(l.Max), window)
}

// Whose reads a key of the limit to people: "agent bot at shop.example". It is empty
// for the key of all together. A key of another per, from before the policy was
// changed, is read without names.
func (l *Limit) Whose(key string) string {
	parts, ok := KeyParts(key)
	if !ok || len(parts) != len(l.per) {
		return KeyWords(key)
	}
	for i, part := range l.per {
		parts[i] = part.whose(parts[i])
	}
	return strings.Join(parts, " ")
}

func (k keyPart) whose(value string) string {
	switch k.name {
	case "vendor":
		return "at " + plainWord(value)
	case "agent", "owner":
		return k.name + " " + plainWord(value)
	}
	return "with " + k.name + " " + plainWord(value)
}

// KeyWords reads a key to people where the limit is not known: "bot, shop.example".
func KeyWords(key string) string {
	parts, ok := KeyParts(key)
	switch {
	case key == "": // of what cannot be counted
		return ""
	case !ok:
		return plainWord(key)
	}
	for i := range parts {
		parts[i] = plainWord(parts[i])
	}
	return strings.Join(parts, ", ")
}

// KeyParts takes a key apart, as Charge.Key has it.
func KeyParts(key string) (parts []string, ok bool) {
	ok = json.Unmarshal([]byte(key), &parts) == nil
	return parts, ok
}

var plainWordForm = regexp.MustCompile(`^[\p{L}\p{N}][\p{L}\p{N}._@+/-]*$`)

// plainWord quotes what could pass for a part of the sentence around it: agents choose
// most parts of a key.
func plainWord(s string) string {
	if plainWordForm.MatchString(s) {
		return s
	}
	return strconv.Quote(s)
}
