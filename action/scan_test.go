package action

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestScan(t *testing.T) {
	text := "\n{ \"jsonrpc\" : \"2.0\",\"\\u0069d\":1e400 ,\"params\":{\"x\":[\"\\ud800\",{\"a\":1,\"a\":2,\"A\":\"\xff\"}, -1.5E-999]}, \"é\" : null }\r\n"
	fields, err := Scan([]byte(text), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	type field struct{ Key, Raw string }
	var got []field
	for _, f := range fields {
		if text[f.Start:f.Start+len(f.Raw)] != string(f.Raw) {
			t.Errorf("%s: Start %d is not where Raw is", f.Key, f.Start)
		}
		got = append(got, field{f.Key, string(f.Raw)})
	}
	want := []field{
		{"jsonrpc", `"2.0"`}, {"id", "1e400"},
		{"params", "{\"x\":[\"\\ud800\",{\"a\":1,\"a\":2,\"A\":\"\xff\"}, -1.5E-999]}"}, {"é", "null"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("fields (-want +got):", diff)
	}
	if fields, err := Scan([]byte("{ }"), Limits{}); err != nil || len(fields) != 0 {
		t.Errorf("an empty object: %v, %v", fields, err)
	}
}

func TestScanRefuses(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{``, `JSON, byte 0, at $: want an object, got the end of the text`},
		{`"x"`, `JSON, byte 0, at $: want an object, got '"'`},
		{` [{"jsonrpc":"2.0"}]`, `JSON, byte 1, at $: want an object, got an array (JSON-RPC batches are not supported): send the messages one by one`},
		{"\ufeff{}", `JSON, byte 0, at $: the text begins with a byte-order mark, want plain UTF-8 without one`},
		{`{}x`, `JSON, byte 2, at $: want the end of the text after the value, got 'x'`},
		{`{"a":1,}`, `JSON, byte 7, at $: want a key in double quotes, got '}'`},
		{`{"a":1 2}`, `JSON, byte 7, at $: want ',' or '}', got '2'`},
		{`{"a" 1}`, `JSON, byte 5, at $.a: want ':' after the key, got '1'`},
		{`{"id":1,"id":2}`, `JSON, byte 8, at $.id: this key occurs twice in one object`},
		{`{"id":1,"\u0069d":2}`, `JSON, byte 8, at $.id: this key occurs twice in one object`},
		{`{"method":1,"Method":2}`, `JSON, byte 12, at $.Method: this key differs from "method" only in case, and some readers take one for the other`},
		{`{"params":1,"paramſ":2}`, `JSON, byte 12, at $["paramſ"]: this key differs from "params" only in case, and some readers take one for the other`},
		{`{"a":1,"\ud800":1}`, `JSON, byte 8, at $: \ud800 is a lone surrogate, half of a character: want both halves`},
		{"{\"a\":1,\"\xff\":1}", `JSON, byte 8, at $: the byte 0xff is not UTF-8 here`},
		{"{\"a", `JSON, byte 3, at $: the text ends inside the string that began at byte 1`},
		{`{"a":{"b":[1,]}}`, `JSON, byte 13, at $.a: want a value, got ']'`},
		{`{"a":{"b":1,}}`, `JSON, byte 12, at $.a: want a key in double quotes, got '}'`},
		{`{"a":{"b"}}`, `JSON, byte 9, at $.a: want ':' after the key, got '}'`},
		{`{"a":{"b":1]}`, `JSON, byte 11, at $.a: want ',' or '}', got ']'`},
		{`{"a":[1}}`, `JSON, byte 7, at $.a: want ',' or ']', got '}'`},
		{`{"a":01}`, `JSON, byte 5, at $.a: a number must not begin with 0`},
		{`{"a":tru}`, `JSON, byte 5, at $.a: want a value, got a word that is not true, false or null`},
		{`{"a":"\x"}`, `JSON, byte 6, at $.a: want one of \" \\ \/ \b \f \n \r \t \uXXXX, got \ and 'x'`},
		{"{\"a\":\"\n\"}", `JSON, byte 6, at $.a: control character 0x0a in a string, write \u000a`},
		{`{"a":"`, `JSON, byte 6, at $.a: the text ends inside the string that began at byte 5`},
		{`{"a":` + strings.Repeat("[", 64), `JSON, byte 68, at $.a: nested too deep, want at most 64 levels`},
	} {
		_, err := Scan([]byte(test.text), Limits{})
		var fault *ParseError
		if !errors.As(err, &fault) {
			t.Errorf("Scan(%q) = %v, want a *ParseError", test.text, err)
			continue
		}
		if diff := cmp.Diff(test.want, err.Error()); diff != "" {
			t.Errorf("Scan(%q) (-want +got):\n%s", test.text, diff)
		}
	}
}

// Scan must accept what encoding/json calls valid, and nothing else, but for
// the keys at the top, bytes that are not UTF-8 among them, and the depth.
func FuzzScan(f *testing.F) {
	for _, seed := range parseSeeds {
		f.Add([]byte(seed))
		f.Add([]byte(`{"k":` + seed + `}`))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		fields, err := Scan(data, Limits{})
		if err == nil && !json.Valid(data) {
			t.Fatalf("accepts %q", data)
		}
		if err != nil && json.Valid(data) && !excused(err) {
			t.Fatalf("%q: %v", data, err)
		}
		for _, f := range fields {
			if !utf8.ValidString(f.Key) || !json.Valid(f.Raw) || string(data[f.Start:f.Start+len(f.Raw)]) != string(f.Raw) {
				t.Fatalf("field %+v of %q", f, data)
			}
		}
	})
}

func excused(err error) bool {
	for _, reason := range []string{"want an object", "this key", "lone surrogate", "not UTF-8", "too deep"} {
		if strings.Contains(err.Error(), reason) {
			return true
		}
	}
	return false
}
