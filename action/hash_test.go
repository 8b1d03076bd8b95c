package action

import (
	"crypto/sha256"
	"encoding/json"
	"strings"
	"testing"
)

func TestIntentAndCallHash(t *testing.T) {
	arguments := mustParse(t, `{"b": 1.0, "a": 9007199254740993}`)
	for _, test := range []struct {
		name string
		got  Hash
		of   string
	}{
		{"intent", IntentHash("local", "shop", "buy", arguments), `{"agent":"local","arguments":{"a":9007199254740993,"b":1},"server":"shop","tool":"buy"}`},
		{"intent without arguments", IntentHash("local", "shop", "buy", Value{}), `{"agent":"local","arguments":{},"server":"shop","tool":"buy"}`},
		{"intent with null", IntentHash("local", "shop", "buy", NullValue()), `{"agent":"local","arguments":null,"server":"shop","tool":"buy"}`},
		{"call", CallHash("buy", arguments), `{"arguments":{"a":9007199254740993,"b":1},"name":"buy"}`},
		{"call without arguments", CallHash("buy", Value{}), `{"arguments":{},"name":"buy"}`},
	} {
		if want := Hash(sha256.Sum256([]byte(test.of))); test.got != want {
			t.Errorf("%s: hash = %s, want the one of %s", test.name, test.got, test.of)
		}
	}
}

func TestParseHash(t *testing.T) {
	h := CallHash("x", Value{})
	bare := strings.TrimPrefix(h.String(), "sha256:")
	for _, text := range []string{h.String(), bare, strings.ToUpper(bare)} {
		got, err := ParseHash(text)
		if err != nil || got != h {
			t.Errorf("ParseHash(%s) = %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "sha256:", bare[1:], bare + "0", "sha512:" + bare, "sha256:sha256:" + bare, "g" + bare[1:], " " + bare} {
		if got, err := ParseHash(text); err == nil || !got.IsZero() {
			t.Errorf("ParseHash(%q) = %s, %v, want an error", text, got, err)
		}
	}
	var back struct{ H Hash }
	encoded, err := json.Marshal(struct{ H Hash }{h})
	if err != nil || string(encoded) != `{"H":"`+h.String()+`"}` {
		t.Fatalf("json.Marshal = %s, %v", encoded, err)
	}
	if err := json.Unmarshal(encoded, &back); err != nil || back.H != h {
		t.Errorf("json.Unmarshal = %v, %v", back, err)
	}
	if err := json.Unmarshal([]byte(`{"H":"x"}`), &back); err == nil {
		t.Error("json.Unmarshal accepts a hash of one character")
	}
	if h.IsZero() || !(Hash{}).IsZero() {
		t.Error("IsZero")
	}
}
