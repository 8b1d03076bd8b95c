package identity

import (
	"errors"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestPassphrases(t *testing.T) {
	p := NewPassphrases()
	hash, err := p.Hash(t.Context(), "ångström 42")
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^\$argon2id\$v=19\$m=65536,t=2,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$`).MatchString(hash) {
		t.Errorf("hash %q is no PHC string", hash)
	}
	other, err := p.Hash(t.Context(), "ångström 42")
	if err != nil || other == hash {
		t.Errorf("two hashes of one passphrase are the same: there is no salt; %v", err)
	}
	for passphrase, want := range map[string]bool{
		"ångström 42": true, "a\u030angstro\u0308m 42": true, // the same letters, written otherwise
		"ångström 43": false, "Ångström 42": false, "": false, strings.Repeat("x", 1<<20): false,
	} {
		if got, err := p.Check(t.Context(), hash, passphrase); err != nil || got != want {
			t.Errorf("%.20q: %t, %v; want %t", passphrase, got, err, want)
		}
	}
	for _, none := range []string{"", string(make([]byte, 32)), "something"} {
		if good, err := p.Check(t.Context(), "", none); err != nil || good {
			t.Errorf("without a hash %q is %t, %v", none, good, err)
		}
	}
}

func TestCheckPassphrase(t *testing.T) {
	for passphrase, good := range map[string]bool{
		"åäöåäöåä": true, "1234567": false, "12345678": true, "": false, "abc\xffdefgh": false,
		strings.Repeat("x", maxPassphrase): true, strings.Repeat("x", maxPassphrase+1): false,
	} {
		if err := CheckPassphrase(passphrase); (err == nil) != good {
			t.Errorf("%.20q: %v", passphrase, err)
		} else if err != nil && passphrase != "" && strings.Contains(err.Error(), passphrase) {
			t.Errorf("the error repeats the passphrase: %v", err)
		}
	}
}

func TestBadHashes(t *testing.T) {
	p := NewPassphrases()
	for _, hash := range []string{
		"plain", "$2b$10$abcdefghijklmnopqrstuv", "$argon2id$v=19$m=65536,t=2,p=1$c2FsdHNhbHQ$AAAA",
		"$argon2id$v=19$m=99999999,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$" + strings.Repeat("A", 43),
		"$argon2id$v=19$m=65536,t=0,p=1$AAAAAAAAAAAAAAAAAAAAAA$" + strings.Repeat("A", 43),
	} {
		if good, err := p.Check(t.Context(), hash, "whatever it is"); err == nil || good {
			t.Errorf("%s: %t, %v; want an error", hash, good, err)
		} else if strings.Contains(err.Error(), "AAAA") {
			t.Errorf("the error repeats the hash: %v", err)
		}
	}
}

// No more than two hash at once, some wait, and the rest is sent away.
func TestHashesAtOnce(t *testing.T) {
	p := NewPassphrases()
	for range hashesAtOnce {
		p.turns <- struct{}{}
		p.line <- struct{}{}
	}
	var waiting sync.WaitGroup
	for range hashesInLine - hashesAtOnce {
		waiting.Go(func() {
			if _, err := p.Hash(t.Context(), "long enough"); err != nil {
				t.Error(err)
			}
		})
	}
	for len(p.line) < hashesInLine {
		time.Sleep(time.Millisecond)
	}
	if _, err := p.Hash(t.Context(), "long enough"); !errors.Is(err, ErrTooMany) {
		t.Errorf("one too many: %v", err)
	}
	for range hashesAtOnce {
		<-p.turns
		<-p.line
	}
	waiting.Wait()
	if len(p.turns) != 0 || len(p.line) != 0 {
		t.Errorf("%d turns and %d places were not given back", len(p.turns), len(p.line))
	}
}

func TestUserFields(t *testing.T) {
	for name, good := range map[string]bool{
		"ann": true, "Ann Ek": true, "Åsa": true, "a.b-c": true, strings.Repeat("å", 64): true,
		"": false, strings.Repeat("a", 65): false, " ann": false, "ann ": false, "a  b": false, "a\nb": false, "a\u202eb": false, "a\x00": false,
		"ann@example.com": false, "8e3bdb7c-3a53-4b8e-9d0b-0123456789ab": false, "\xff": false,
	} {
		if err := CheckUserName(name); (err == nil) != good {
			t.Errorf("name %q: %v", name, err)
		}
	}
	for address, want := range map[string]string{
		"": "", "Ann@Example.com": "ann@example.com", "a+b@x.example": "a+b@x.example",
		"ann": "-", "Ann <ann@example.com>": "-", "ann@example.com ": "-", "ånn@example.com": "-", "a@b@c": "-", strings.Repeat("a", 250) + "@x.se": "-", "a\r\nb@x.se": "-",
	} {
		if got, err := NormalEmail(address); (err != nil) != (want == "-") || err == nil && got != want {
			t.Errorf("address %q: %q, %v; want %q", address, got, err, want)
		}
	}
	if CheckRoles(nil) != nil || CheckRoles([]string{"admin"}) != nil || CheckRoles([]string{"root"}) == nil || CheckRoles([]string{"admin", "admin"}) == nil {
		t.Error("roles are none or admin")
	}
}
