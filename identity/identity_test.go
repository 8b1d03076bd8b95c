package identity

import (
	"regexp"
	"strings"
	"testing"
)

func TestNewToken(t *testing.T) {
	form := regexp.MustCompile(`^olt_[A-Za-z0-9_-]{43}$`)
	seen := map[string]bool{}
	for range 100 {
		token, hash := NewToken("olt_")
		if !form.MatchString(token) {
			t.Fatalf("want olt_ and 43 characters of base64url, got %q", token)
		}
		if hash != HashToken(token) {
			t.Errorf("%s: its hash is another one when looked up", token)
		}
		if seen[token] {
			t.Errorf("%s came twice", token)
		}
		seen[token] = true
	}
	if HashToken("olt_a") == HashToken("ols_a") {
		t.Error("the prefix is not part of the hash")
	}
}

func TestValidName(t *testing.T) {
	for name, want := range map[string]bool{
		"local": true, "a": true, "0": true, "Claude-Desktop_2.1": true, strings.Repeat("a", 64): true,
		"": false, strings.Repeat("a", 65): false, ".hidden": false, "-x": false, "_x": false,
		"a b": false, "a/b": false, `a\b`: false, "a\n": false, "a:b": false, "ä": false, "a\x00": false,
	} {
		if got := ValidName(name); got != want {
			t.Errorf("%q: want %t, got %t", name, want, got)
		}
	}
}
