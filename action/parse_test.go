package action

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func mustParse(t testing.TB, text string) Value {
	t.Helper()
	v, err := Parse([]byte(text), Limits{CaseTwins: true})
	if err != nil {
		t.Fatalf("Parse(%s): %v", text, err)
	}
	return v
}

func TestParseKeepsWhatWasWritten(t *testing.T) {
	text := ` {"b": 1.10, "a" :[true,null,{}, [] ,"x\u00e9\ud83d\ude00\/"], "é":"漢字"} `
	v := mustParse(t, text)
	var keys []string
	for key, member := range v.Members() {
		keys = append(keys, key)
		if got := text[member.Start() : member.Start()+len(member.Raw())]; got != string(member.Raw()) {
			t.Errorf("%s: Start %d points at %q, Raw is %q", key, member.Start(), got, member.Raw())
		}
	}
	if diff := cmp.Diff([]string{"b", "a", "é"}, keys); diff != "" {
		t.Error("order of keys (-want +got):", diff)
	}
	if got := v.Get("b").Text(); got != "1.10" {
		t.Errorf("number = %q, want 1.10 as written", got)
	}
	if got := v.Get("a").Index(4); got.Text() != "xé😀/" || string(got.Raw()) != `"x\u00e9\ud83d\ude00\/"` {
		t.Errorf("string = %q, raw %s", got.Text(), got.Raw())
	}
	if got := string(v.Raw()); got != strings.TrimSpace(text) {
		t.Errorf("Raw = %s", got)
	}
	var kinds []Kind
	for i, item := range v.Get("a").Items() {
		if !item.Equal(v.Get("a").Index(i)) {
			t.Errorf("item %d differs from Index(%d)", i, i)
		}
		kinds = append(kinds, item.Kind())
	}
	if diff := cmp.Diff([]Kind{Bool, Null, Object, Array, String}, kinds); diff != "" {
		t.Error("kinds (-want +got):", diff)
	}
	if !v.Get("a").Index(0).IsTrue() || v.Get("a").Index(9).Kind() != Missing || v.Get("a").Len() != 5 {
		t.Error("IsTrue, Index out of range, Len")
	}
}

func TestParseRefuses(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{``, `JSON, byte 0, at $: want a value, got the end of the text`},
		{` `, `JSON, byte 1, at $: want a value, got the end of the text`},
		{"\ufeff{}", `JSON, byte 0, at $: the text begins with a byte-order mark, want plain UTF-8 without one`},
		{`{} x`, `JSON, byte 3, at $: want the end of the text after the value, got 'x'`},
		{`{}{}`, `JSON, byte 2, at $: want the end of the text after the value, got '{'`},
		{"{}\x00", `JSON, byte 2, at $: want the end of the text after the value, got '\x00'`},
		{"\x00", `JSON, byte 0, at $: want a value, got '\x00'`},
		{`{"a":1,}`, `JSON, byte 7, at $: want a key in double quotes, got '}'`},
		{`{,}`, `JSON, byte 1, at $: want a key in double quotes, got ','`},
		{`{a:1}`, `JSON, byte 1, at $: want a key in double quotes, got 'a'`},
		{`{"a"}`, `JSON, byte 4, at $.a: want ':' after the key, got '}'`},
		{`{"a":}`, `JSON, byte 5, at $.a: want a value, got '}'`},
		{`{"a":1 "b":2}`, `JSON, byte 7, at $: want ',' or '}', got '"'`},
		{`{"a":1`, `JSON, byte 6, at $: want ',' or '}', got the end of the text`},
		{`[1,]`, `JSON, byte 3, at $[1]: want a value, got ']'`},
		{`[,1]`, `JSON, byte 1, at $[0]: want a value, got ','`},
		{`[1 2]`, `JSON, byte 3, at $: want ',' or ']', got '2'`},
		{`[1}`, `JSON, byte 2, at $: want ',' or ']', got '}'`},
		{`nul`, `JSON, byte 0, at $: want a value, got a word that is not true, false or null`},
		{`True`, `JSON, byte 0, at $: want a value, got 'T'`},
		{`NaN`, `JSON, byte 0, at $: want a value, got 'N'`},
		{`truefalse`, `JSON, byte 4, at $: want the end of the text after the value, got 'f'`},
		{`'a'`, `JSON, byte 0, at $: want a value, got '\''`},
		{"\xff", `JSON, byte 0, at $: want a value, got the byte 0xff`},
		{"\u00a01", `JSON, byte 0, at $: want a value, got '\u00a0'`},
		{"\v1", `JSON, byte 0, at $: want a value, got '\v'`},
		{`/**/1`, `JSON, byte 0, at $: want a value, got '/'`},

		{`01`, `JSON, byte 0, at $: a number must not begin with 0`},
		{`-01`, `JSON, byte 0, at $: a number must not begin with 0`},
		{`+1`, `JSON, byte 0, at $: want a value, got '+'`},
		{`.5`, `JSON, byte 0, at $: want a value, got '.'`},
		{`1.`, `JSON, byte 2, at $: want a digit after the decimal point, got the end of the text`},
		{`1.e1`, `JSON, byte 2, at $: want a digit after the decimal point, got 'e'`},
		{`-`, `JSON, byte 1, at $: want a digit, got the end of the text`},
		{`1e`, `JSON, byte 2, at $: want a digit of the exponent, got the end of the text`},
		{`1e+`, `JSON, byte 3, at $: want a digit of the exponent, got the end of the text`},
		{`0x10`, `JSON, byte 1, at $: want the end of the text after the value, got 'x'`},
		{`1_000`, `JSON, byte 1, at $: want the end of the text after the value, got '_'`},
		{`{"n":[1e400]}`, `JSON, byte 6, at $.n[0]: 1e400 is outside the range of a double, send it as a string`},
		{`-1e400`, `JSON, byte 0, at $: -1e400 is outside the range of a double, send it as a string`},
		{`1e-400`, `JSON, byte 0, at $: 1e-400 is outside the range of a double, send it as a string`},
		{`1.7976931348623159e308`, `JSON, byte 0, at $: 1.7976931348623159e308 is outside the range of a double, send it as a string`},
		{`2e-324`, `JSON, byte 0, at $: 2e-324 is outside the range of a double, send it as a string`},
		{`1e99999999999999999999999`, `JSON, byte 0, at $: 1e99999999999999999999999 is outside the range of a double, send it as a string`},
		{`1e-99999999999999999999999`, `JSON, byte 0, at $: 1e-99999999999999999999999 is outside the range of a double, send it as a string`},

		{`"a`, `JSON, byte 2, at $: the text ends inside the string that began at byte 0`},
		{`"a\n`, `JSON, byte 4, at $: the text ends inside the string that began at byte 0`},
		{`"a\`, `JSON, byte 2, at $: want one of \" \\ \/ \b \f \n \r \t \uXXXX, got \ and the end of the text`},
		{`"\x41"`, `JSON, byte 1, at $: want one of \" \\ \/ \b \f \n \r \t \uXXXX, got \ and 'x'`},
		{`"\u12"`, `JSON, byte 5, at $: want four hexadecimal digits after \u, got '"'`},
		{`"\u12g4"`, `JSON, byte 5, at $: want four hexadecimal digits after \u, got 'g'`},
		{"\"a\tb\"", `JSON, byte 2, at $: control character 0x09 in a string, write \u0009`},
		{"\"\\n\n\"", `JSON, byte 3, at $: control character 0x0a in a string, write \u000a`},
		{"\"\x00\"", `JSON, byte 1, at $: control character 0x00 in a string, write \u0000`},
		{"\"12345678\x1f\"", `JSON, byte 9, at $: control character 0x1f in a string, write \u001f`},
		{`{"s":"\ud800"}`, `JSON, byte 6, at $.s: \ud800 is a lone surrogate, half of a character: want both halves`},
		{`"\ud800x"`, `JSON, byte 1, at $: \ud800 is a lone surrogate, half of a character: want both halves`},
		{`"\udc00"`, `JSON, byte 1, at $: \udc00 is a lone surrogate, half of a character: want both halves`},
		{`"\ud800\ud800"`, `JSON, byte 1, at $: \ud800 is a lone surrogate, half of a character: want both halves`},
		{`"\ud83d\u0041"`, `JSON, byte 1, at $: \ud83d is a lone surrogate, half of a character: want both halves`},
		{`"\ud83d\uzzzz"`, `JSON, byte 9, at $: want four hexadecimal digits after \u, got 'z'`},
		{`{"\ud800":1}`, `JSON, byte 2, at $: \ud800 is a lone surrogate, half of a character: want both halves`},
		{"\"a\xffb\"", `JSON, byte 2, at $: the byte 0xff is not UTF-8 here`},
		{"\"\xc0\x80\"", `JSON, byte 1, at $: the byte 0xc0 is not UTF-8 here`},
		{"\"\xed\xa0\x80\"", `JSON, byte 1, at $: the byte 0xed is not UTF-8 here`},
		{"\"\\n\xf4\x90\x80\x80\"", `JSON, byte 3, at $: the byte 0xf4 is not UTF-8 here`},
		{"\"\xe2\x82\"", `JSON, byte 1, at $: the byte 0xe2 is not UTF-8 here`},

		{`{"x":1,"x":2}`, `JSON, byte 7, at $.x: this key occurs twice in one object`},
		{`{"x":1,"\u0078":2}`, `JSON, byte 7, at $.x: this key occurs twice in one object`},
		{`{"":1,"":2}`, `JSON, byte 6, at $[""]: this key occurs twice in one object`},
		{`{"params":{"arguments":{"name":1,"Name":2}}}`, `JSON, byte 33, at $.params.arguments.Name: this key differs from "name" only in case, and some readers take one for the other`},
		{`{"s":1,"ſ":2}`, `JSON, byte 7, at $["ſ"]: this key differs from "s" only in case, and some readers take one for the other`},
		{"{\"\u212a\":1,\"k\":2}", `JSON, byte 9, at $.k: this key differs from "K" only in case, and some readers take one for the other`},
		{`{"Σ":1,"ς":2}`, `JSON, byte 8, at $["ς"]: this key differs from "Σ" only in case, and some readers take one for the other`},
		{`[{"a b":[0,{"c":tru}]}]`, `JSON, byte 16, at $[0]["a b"][1].c: want a value, got a word that is not true, false or null`},
	} {
		_, err := Parse([]byte(test.text), Limits{})
		var fault *ParseError
		if !errors.As(err, &fault) {
			t.Errorf("Parse(%q) = %v, want a *ParseError", test.text, err)
			continue
		}
		if diff := cmp.Diff(test.want, err.Error()); diff != "" {
			t.Errorf("Parse(%q) (-want +got):\n%s", test.text, diff)
		}
	}
}

func TestParseAcceptsTheEdges(t *testing.T) {
	for _, text := range []string{
		`1.7976931348623157e308`, `-1.7976931348623157e308`, `5e-324`, `3e-324`, `1.7976931348623158e308`,
		`0e99999999999999999999`, `-0.0e-99999999999999999999`, `0.` + strings.Repeat("0", 400),
		`1` + strings.Repeat("0", 308), `0.` + strings.Repeat("0", 320) + `1`, `1` + strings.Repeat("0", 500) + `e-500`,
		`"\ud83d\ude00"`, `"\uFFFF\ufffd\u0000"`, "\"\u007f\u2028\ufffd\ufeff\"", `"\""`, "\t\r\n 1 \t\r\n",
	} {
		if _, err := Parse([]byte(text), Limits{}); err != nil {
			t.Errorf("Parse(%q): %v", text, err)
		}
	}
}

func TestParseLimits(t *testing.T) {
	nested := func(n int) []byte { return []byte(strings.Repeat(`{"a":[`, n/2) + strings.Repeat(`]}`, n/2)) }
	for _, test := range []struct {
		name string
		data []byte
		lim  Limits
		want string
	}{
		{"depth, default", nested(64), Limits{}, ""},
		{"too deep, default", nested(66), Limits{}, "nested too deep, want at most 64 levels"},
		{"depth", nested(4), Limits{Depth: 4}, ""},
		{"too deep", nested(6), Limits{Depth: 5}, "JSON, byte 17, at $.a[0].a[0].a: nested too deep, want at most 5 levels"},
		{"wide is not deep", []byte(`[[],[],[],{},{},{}]`), Limits{Depth: 2}, ""},
		{"values", []byte(`[1,{"a":2}]`), Limits{Values: 4}, ""},
		{"size", []byte(`"1234"`), Limits{Bytes: 6}, ""},
		{"too large", []byte(`"12345"`), Limits{Bytes: 6}, "JSON, byte 6, at $: the text has 7 bytes, want at most 6"},
		{"too large, default", make([]byte, 8<<20+1), Limits{}, "want at most 8388608"},
	} {
		_, err := Parse(test.data, test.lim)
		_, scanErr := Scan(append(append([]byte(`{"":`), test.data...), '}'), Limits{Bytes: test.lim.Bytes + 5*min(test.lim.Bytes, 1), Depth: test.lim.Depth})
		if test.want == "" {
			if err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %s", test.name, err, test.want)
		}
		if scanErr == nil {
			t.Errorf("%s: Scan accepts it", test.name)
		}
	}
}

func TestLongKeysAreCutInErrors(t *testing.T) {
	key := strings.Repeat("é", 1000)
	_, err := Parse([]byte(`{"`+key+`":x}`), Limits{})
	if err == nil || len(err.Error()) > 300 || !utf8.ValidString(err.Error()) {
		t.Errorf("error of %d bytes: %v", len(err.Error()), err)
	}
}

func TestParseLimitsValues(t *testing.T) {
	_, err := Parse([]byte(`[1,{"a":[2]}]`), Limits{Values: 4})
	const want = "JSON, byte 9, at $[1].a[0]: want at most 4 values in one text"
	if err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	many := []byte("[1" + strings.Repeat(",1", defaultValues-1) + "]")
	if _, err := Parse(many, Limits{}); err == nil || !strings.Contains(err.Error(), "want at most 1000000 values") {
		t.Errorf("a million numbers in an array: error %v", err)
	}
}

// bigObject has n members, named by name.
func bigObject(n int, name func(int) string) []byte {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,%q:%d`, name(i), i)
	}
	return []byte("{" + b.String()[1:] + "}")
}

func TestLargeObjects(t *testing.T) {
	name := func(i int) string { return fmt.Sprintf("Key%d", i) }
	for _, n := range []int{smallObject - 1, smallObject, smallObject + 1, 5000} {
		text := bigObject(n, name)
		for _, lim := range []Limits{{}, {CaseTwins: true}} {
			v, err := Parse(text, lim)
			if err != nil {
				t.Fatal(err)
			}
			last := name(n - 1)
			if got := v.Get(last).Text(); got != fmt.Sprint(n-1) {
				t.Errorf("%d members: Get(%s) = %q", n, last, got)
			}
			if got, ok := v.GetFold(strings.ToUpper(last)); !ok || got != last {
				t.Errorf("%d members: GetFold = %q, %v", n, got, ok)
			}
			if v.Get(strings.ToUpper(last)).Kind() != Missing || v.Get("x").Kind() != Missing {
				t.Errorf("%d members: Get finds what is not there", n)
			}
			if _, ok := v.GetFold(last); ok {
				t.Errorf("%d members: GetFold finds the key itself", n)
			}
			if _, ok := v.GetFold("x"); ok {
				t.Errorf("%d members: GetFold finds what is not there", n)
			}
		}
		for _, again := range []string{"Key0", "KEY0", name(n - 1), "\u212aey0"} {
			twice := append(text[:len(text)-1:len(text)-1], `,"`+again+`":0}`...)
			if _, err := Parse(twice, Limits{}); err == nil {
				t.Errorf("%d members: a second %s is accepted", n, again)
			}
			_, err := Parse(twice, Limits{CaseTwins: true})
			if same := again == "Key0" || again == name(n-1); (err != nil) != same {
				t.Errorf("%d members: a second %s with CaseTwins: %v", n, again, err)
			}
		}
	}
}

func TestGetFold(t *testing.T) {
	v := mustParse(t, `{"name":1,"Name":2,"ſ":3,"x":4}`)
	for _, test := range []struct {
		key, want string
		ok        bool
	}{
		{"name", "Name", true}, {"Name", "name", true}, {"NAME", "name", true}, {"s", "ſ", true}, {"S", "ſ", true},
		{"ſ", "", false}, {"x", "", false}, {"y", "", false},
	} {
		if got, ok := v.GetFold(test.key); got != test.want || ok != test.ok {
			t.Errorf("GetFold(%s) = %q, %v, want %q, %v", test.key, got, ok, test.want, test.ok)
		}
	}
	if _, ok := mustParse(t, `["a"]`).GetFold("A"); ok {
		t.Error("GetFold finds a member of an array")
	}
}

// encoding/json is the other reader: all that Parse accepts it must accept and
// take for the same, and it must fold keys as we do.
func FuzzParse(f *testing.F) {
	for _, seed := range parseSeeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := Parse(data, Limits{})
		if err != nil {
			if v.Kind() != Missing {
				t.Fatal("a value beside an error")
			}
			var fault *ParseError
			if !errors.As(err, &fault) || fault.Offset < 0 || fault.Offset > len(data) || !strings.HasPrefix(fault.Path, "$") {
				t.Fatalf("error %#v", err)
			}
			return
		}
		if !json.Valid(data) {
			t.Fatalf("accepts %q", data)
		}
		checkRaw(t, data, v)
		var ours, theirs any
		if err := json.Unmarshal(data, &theirs); err != nil {
			t.Fatalf("encoding/json: %v", err)
		}
		canonical := v.Canonical()
		if err := json.Unmarshal(canonical, &ours); err != nil {
			t.Fatalf("canonical %q: %v", canonical, err)
		}
		if diff := cmp.Diff(theirs, ours); diff != "" {
			t.Fatalf("%q (-encoding/json +canonical %q):\n%s", data, canonical, diff)
		}
		again, err := Parse(canonical, Limits{Bytes: len(canonical) + 1})
		if err != nil {
			t.Fatalf("canonical %q: %v", canonical, err)
		}
		if got := again.Canonical(); string(got) != string(canonical) {
			t.Fatalf("canonical %q of canonical %q", got, canonical)
		}
		if v.Kind() != Object {
			return
		}
		fields, err := Scan(data, Limits{})
		if err != nil || len(fields) != v.Len() {
			t.Fatalf("Scan: %d fields, %v", len(fields), err)
		}
		i := 0
		for key, member := range v.Members() {
			if f := fields[i]; f.Key != key || string(f.Raw) != string(member.Raw()) || f.Start != member.Start() {
				t.Fatalf("field %d: %+v, Parse has %q %q", i, f, key, member.Raw())
			}
			i++
		}
	})
}

// checkRaw holds every Raw against the document.
func checkRaw(t *testing.T, data []byte, v Value) {
	t.Helper()
	if got := data[v.Start() : v.Start()+len(v.Raw())]; string(got) != string(v.Raw()) {
		t.Fatalf("Start %d: %q, Raw %q", v.Start(), got, v.Raw())
	}
	for _, m := range v.list() {
		checkRaw(t, data, m.Value)
	}
}

var parseSeeds = []string{
	`{}`, `[]`, `null`, `true`, `"x"`, `-0`, `1.10`, `1e400`, `9007199254740993`, `123456789.123456789`, `5e-324`, `2e-324`,
	`{"a":{"b":[1,2,{"c":"\u00e9\ud83d\ude00"}]}}`, `{"x":1,"X":2}`, `{"s":1,"ſ":2}`, `"\ud800"`, "\"\xff\"", "\ufeff1",
	`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"buy","arguments":{"amount":85.00,"to":"a@b.c"}}}`,
	`{"b":1,"a":2,"\ufb33":3,"\ud83d\ude00":4,"":5}`, ` [ 1 , 2 ] `, "\"\\u0000\\b\\t\\n\\f\\r\\\"\\\\\\/\\u001f\u007f\u2028\"",
	`{"1":0,"2":0,"3":0,"4":0,"5":0,"6":0,"7":0,"8":0,"9":0,"a":0,"b":0,"c":0,"d":0,"D":0}`,
}
