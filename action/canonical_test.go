package action

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"
)

func TestCanonical(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{`{}`, `{}`}, {`[ ]`, `[]`}, {` [ true , false , null ] `, `[true,false,null]`},
		{`{"b":{"d":1,"c":2},"a":[{"z":1,"y":2}]}`, `{"a":[{"y":2,"z":1}],"b":{"c":2,"d":1}}`},
		// RFC 8785, section 3.2.3.
		{`{"\u20ac":1,"\r":2,"\ufb33":3,"1":4,"\ud83d\ude00":5,"\u0080":6,"\u00f6":7}`, "{\"\\r\":2,\"1\":4,\"\u0080\":6,\"ö\":7,\"€\":1,\"😀\":5,\"\ufb33\":3}"},
		{`{"a\ue000":1,"a\ud800\udc00":2,"a":3}`, "{\"a\":3,\"a\U00010000\":2,\"a\ue000\":1}"},
		{`"\u0000\u0008\u0009\u000a\u000b\u000c\u000d\u001f\"\\\/\u007f\u2028<>&\u00e9"`, "\"\\u0000\\b\\t\\n\\u000b\\f\\r\\u001f\\\"\\\\/\u007f\u2028<>&é\""},
	} {
		if got := string(mustParse(t, test.text).Canonical()); got != test.want {
			t.Errorf("canonical form of %s = %s, want %s", test.text, got, test.want)
		}
	}
}

func TestCanonicalNumbers(t *testing.T) {
	for _, test := range []struct {
		want  string
		exact bool
		texts string
	}{
		{"0", true, "0 -0 0.0 -0.0 0e0 0E+400 -0e-99999999999999999999 0.000"},
		{"1", true, "1 1.0 1e0 10e-1 0.1e1 1.000 0.001E3 1e+00"},
		{"-1", true, "-1 -1.0 -10e-1"},
		{"100", true, "100 1e2 1E+2 100.0 1000e-1"},
		{"1.1", true, "1.1 1.10 11e-1 0.11e1"},
		{"0.1", true, "0.1 1e-1 0.10"},
		{"0.000001", true, "0.000001 1e-6 10e-7"},
		{"1e-7", true, "1e-7 0.0000001 10E-8"},
		{"1.5e-7", true, "1.5e-7 0.00000015"},
		{"-1.5e-7", true, "-1.5e-7"},
		{"100000000000000000000", true, "1e20 100000000000000000000"},
		{"1e+21", true, "1e21 1E+21 1000000000000000000000 10.0e20"},
		{"123456789012345680000", true, "123456789012345680000 12345678901234568e4"},
		{"5e-324", true, "5e-324 0.5e-323"},
		{"1.7976931348623157e+308", true, "1.7976931348623157e308 17976931348623157e292"},
		{"9007199254740991", true, "9007199254740991 9007199254740991.0"},
		{"9007199254740992", true, "9007199254740992"},
		{"9007199254740993", false, "9007199254740993 9007199254740993.0 9007199254740993e0 90071992547409930e-1"},
		{"-9007199254740993", false, "-9007199254740993"},
		{"123456789.123456789", false, "123456789.123456789 123456789.1234567890 123456789123456789e-9"},
		{"12345678901234567890", false, "12345678901234567890 1234567890123456789e1"},
		{"1.2345678901234567890123e+22", false, "12345678901234567890123"},
		{"0.10000000000000000555", false, "0.10000000000000000555"},
		{"4.9e-324", false, "4.9e-324"},
		{"3e-324", false, "3e-324"},
		{"1.2345e-320", false, "1.2345e-320"},
		{"0.1000000000000000055511151231257827021181583404541015625", false, "0.1000000000000000055511151231257827021181583404541015625"},
	} {
		for text := range strings.FieldsSeq(test.texts) {
			v := mustParse(t, text)
			if got := string(v.Canonical()); got != test.want {
				t.Errorf("canonical form of %s = %s, want %s", text, got, test.want)
			}
			if _, ok := v.Exact(); ok != test.exact {
				t.Errorf("Exact(%s) = %v", text, ok)
			}
		}
	}
}

// The numbers of RFC 8785, appendix B, that JSON can hold.
func TestCanonicalAppendixB(t *testing.T) {
	for bits, want := range map[uint64]string{
		0x0000000000000000: "0", 0x8000000000000000: "0", 0x0000000000000001: "5e-324", 0x8000000000000001: "-5e-324",
		0x7fefffffffffffff: "1.7976931348623157e+308", 0x4340000000000000: "9007199254740992", 0xc340000000000000: "-9007199254740992",
		0x4430000000000000: "295147905179352830000", 0x44b52d02c7e14af5: "9.999999999999997e+22", 0x44b52d02c7e14af6: "1e+23",
		0x44b52d02c7e14af7: "1.0000000000000001e+23", 0x444b1ae4d6e2ef4e: "999999999999999700000", 0x444b1ae4d6e2ef4f: "999999999999999900000",
		0x444b1ae4d6e2ef50: "1e+21", 0x3eb0c6f7a0b5ed8c: "9.999999999999997e-7", 0x3eb0c6f7a0b5ed8d: "0.000001",
		0x41b3de4355555553: "333333333.3333332", 0x41b3de4355555557: "333333333.33333343", 0xbecbf647612f3696: "-0.0000033333333333333333",
		0x43143ff3c1cb0959: "1424953923781206.2",
	} {
		checkDouble(t, math.Float64frombits(bits), want)
	}
}

// checkDouble holds the canonical form of the shortest text of f against want.
func checkDouble(t *testing.T, f float64, want string) {
	t.Helper()
	v := mustParse(t, strconv.FormatFloat(f, 'e', -1, 64))
	if got := string(v.Canonical()); got != want {
		t.Errorf("canonical form of %x = %s, want %s", math.Float64bits(f), got, want)
	}
	if path, ok := v.Exact(); !ok {
		t.Errorf("%s is not exact at %s", want, path)
	}
}

// encoding/json writes doubles nearly as ECMAScript does: its exponents are
// written e-7 and e+21 and begin at the same places.
func TestCanonicalIsECMAScriptForDoubles(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 50_000 {
		f := math.Float64frombits(random.Uint64())
		if random.IntN(2) == 0 {
			f = float64(random.Int64N(1<<60)) * math.Pow10(random.IntN(50)-40)
		}
		if math.IsNaN(f) || math.IsInf(f, 0) {
			continue
		}
		want, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		checkDouble(t, f, string(want))
	}
}

// Two numbers have one canonical form if and only if they are equal, and Exact
// agrees with the definition; math/big is the judge.
func FuzzNumbers(f *testing.F) {
	for _, seed := range []string{"1.10 1.1", "1e2 100", "9007199254740993 9007199254740992", "-0 0", "1e21 1000000000000000000000", "5e-324 4.9e-324", "0.1 0.10000000000000000555", "1e-6 0.0000010", "123 12.3e1"} {
		a, b, _ := strings.Cut(seed, " ")
		f.Add(a, b)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		a, b = strings.TrimSpace(a), strings.TrimSpace(b)
		v, w := number(a), number(b)
		if v.Kind() == Missing || w.Kind() == Missing || len(a)+len(b) > 2000 {
			return
		}
		ra, rb := rational(t, a), rational(t, b)
		if equal := ra.Cmp(rb) == 0; equal != v.Equal(w) {
			t.Fatalf("%s and %s: equal is %v, canonical %s and %s", a, b, equal, v.Canonical(), w.Canonical())
		}
		canonical := string(v.Canonical())
		if rational(t, canonical).Cmp(ra) != 0 {
			t.Fatalf("canonical %s of %s is another number", canonical, a)
		}
		if again := number(canonical); string(again.Canonical()) != canonical {
			t.Fatalf("canonical %s of canonical %s", again.Canonical(), canonical)
		}
		if len(canonical) > len(a)+28 {
			t.Fatalf("canonical %s is much longer than %s", canonical, a)
		}
		double, _ := strconv.ParseFloat(a, 64)
		shortest := strconv.FormatFloat(double, 'e', -1, 64)
		if _, ok := v.Exact(); ok != (rational(t, shortest).Cmp(ra) == 0) {
			t.Fatalf("Exact(%s) = %v, shortest text %s", a, ok, shortest)
		}
	})
}

// number parses text if it is a number, else Missing.
func number(text string) Value {
	if v, err := Parse([]byte(text), Limits{}); err == nil && v.Kind() == Number {
		return v
	}
	return Value{}
}

// rational gives the exact value; the power of ten by which zero is multiplied,
// which may be huge, is left out.
func rational(t *testing.T, text string) *big.Rat {
	t.Helper()
	text = strings.ToLower(text)
	if mantissa, _, _ := strings.Cut(text, "e"); strings.Trim(mantissa, "-0.") == "" {
		return new(big.Rat)
	}
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		t.Fatalf("math/big does not read %q", text)
	}
	return r
}

func FuzzCanonicalOrder(f *testing.F) {
	for _, seed := range []string{"a b", "\ue000 \U00010000", "\uffff \U0010ffff", "é z", "a ab"} {
		a, b, _ := strings.Cut(seed, " ")
		f.Add(a, b)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		a, b = strings.ToValidUTF8(a, "?"), strings.ToValidUTF8(b, "?")
		want := slices.Compare(utf16.Encode([]rune(a)), utf16.Encode([]rune(b)))
		if got := compareUTF16(a, b); sign(got) != want {
			t.Fatalf("compareUTF16(%q, %q) = %d, want %d", a, b, got, want)
		}
		if fold(a) == fold(b) != strings.EqualFold(a, b) {
			t.Fatalf("fold(%q) = %q, fold(%q) = %q, EqualFold says otherwise", a, fold(a), b, fold(b))
		}
		if sameFold(a, b) != strings.EqualFold(a, b) {
			t.Fatalf("sameFold(%q, %q)", a, b)
		}
	})
}

func sign(n int) int { return max(-1, min(1, n)) }

func TestExact(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{`{"a":[1,0.1,1e300],"b":"9007199254740993"}`, ""},
		{`9007199254740993`, "$"},
		{`{"payload":{"items":[1,{"my price":[0,9007199254740993]}],"z":123456789.123456789}}`, `$.payload.items[1]["my price"][1]`},
		{`{"payload":{"":123456789.123456789}}`, `$.payload[""]`},
	} {
		got, ok := mustParse(t, test.text).Exact()
		if got != test.want || ok != (test.want == "") {
			t.Errorf("Exact(%s) = %q, %v, want %q", test.text, got, ok, test.want)
		}
		if test.want == "" || test.want == "$" {
			continue
		}
		path, err := ParsePath(got)
		if err != nil {
			t.Fatal(err)
		}
		if v, ok := path.Lookup(mustParse(t, test.text)); !ok || v.Kind() != Number {
			t.Errorf("%s leads to %s", got, v.Kind())
		}
	}
}

func TestBuiltValues(t *testing.T) {
	read := mustParse(t, `{"z":1.10}`)
	v := ObjectValue(
		Member{"s", StringValue("a\"\n")}, Member{"n", IntValue(-42)}, Member{"t", BoolValue(true)}, Member{"f", BoolValue(false)},
		Member{"gone", Value{}}, Member{"nil", NullValue()}, Member{"list", ArrayValue(IntValue(1), Value{}, read)},
		Member{"n", IntValue(7)}, Member{"big", IntValue(math.MinInt64)},
	)
	const want = `{"big":-9223372036854775808,"f":false,"list":[1,null,{"z":1.1}],"n":7,"nil":null,"s":"a\"\n","t":true}`
	if got := string(v.Canonical()); got != want {
		t.Errorf("canonical form = %s, want %s", got, want)
	}
	if !v.Equal(mustParse(t, want)) || v.Equal(read) || v.Raw() != nil || v.Len() != 7 {
		t.Error("Equal, Raw, Len of a built value")
	}
	encoded, err := json.Marshal(map[string]Value{"v": v, "none": {}})
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"none":null,"v":` + want + `}`; string(encoded) != want {
		t.Errorf("json.Marshal = %s, want %s", encoded, want)
	}
	if (Value{}).Canonical() != nil || (Value{}).Equal(NullValue()) || !(Value{}).Equal(Value{}) {
		t.Error("Missing has a canonical form, or is null")
	}
}

// Strings that are not UTF-8 can come from code only. They must not share a
// canonical form with each other or with anything that was read.
func TestCanonicalOfStrayBytes(t *testing.T) {
	seen := map[string]string{}
	for _, s := range []string{"\xff", "\xfe", "\ufffd", "\xed\xb3\xbf", `\udcff`, "a\xffb", "\xc3", "\xe2\x82"} {
		canonical := string(StringValue(s).Canonical())
		if other, ok := seen[canonical]; ok {
			t.Errorf("%q and %q are both %s", s, other, canonical)
		}
		seen[canonical] = s
	}
	if got := string(StringValue("a\xffb").Canonical()); got != `"a\udcffb"` {
		t.Errorf("canonical form = %s", got)
	}
	if _, err := Parse(StringValue("\xff").Canonical(), Limits{}); err == nil {
		t.Error("it can be read back as something that was sent")
	}
}

// The order of keys and the way things are written do not count; nothing else
// may be lost.
func TestCanonicalDoesNotDependOnWriting(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		tree := randomTree(random, 4)
		a, b := write(random, tree), write(random, tree)
		v, w := mustParse(t, a), mustParse(t, b)
		if !bytes.Equal(v.Canonical(), w.Canonical()) {
			t.Fatalf("one value, two forms:\n%s\n%s", v.Canonical(), w.Canonical())
		}
		other := write(random, randomTree(random, 4))
		same := cmp.Equal(decoded(t, a), decoded(t, other))
		if v.Equal(mustParse(t, other)) != same {
			t.Fatalf("equal is %v:\n%s\n%s", same, a, other)
		}
	}
}

func decoded(t *testing.T, text string) (v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func randomTree(random *rand.Rand, depth int) any {
	switch n := random.IntN(10); {
	case depth > 0 && n < 3:
		m := map[string]any{}
		for range random.IntN(20) {
			m[randomText(random)] = randomTree(random, depth-1)
		}
		return m
	case depth > 0 && n < 5:
		var list []any
		for range random.IntN(5) {
			list = append(list, randomTree(random, depth-1))
		}
		return list
	case n < 7:
		return randomText(random)
	case n < 9:
		return float64(random.IntN(2000)-1000) / 8
	}
	return random.IntN(2) == 0
}

func randomText(random *rand.Rand) string {
	alphabet := []rune("abAB\"\\/\n\x00é\ue000\U00010000😀")
	text := make([]rune, random.IntN(4))
	for i := range text {
		text[i] = alphabet[random.IntN(len(alphabet))]
	}
	return string(text)
}

// write writes tree as JSON in some order, with some spaces and escapes.
func write(random *rand.Rand, tree any) string {
	space := strings.Repeat(" ", random.IntN(2))
	var parts []string
	switch tree := tree.(type) {
	case map[string]any:
		for key, v := range tree {
			parts = append(parts, write(random, key)+space+":"+write(random, v))
		}
		return "{" + space + strings.Join(parts, ","+space) + "}"
	case []any:
		for _, v := range tree {
			parts = append(parts, write(random, v)+space)
		}
		return "[" + strings.Join(parts, ",") + "]"
	case string:
		return writeText(random, tree)
	case float64:
		return strconv.FormatFloat(tree, "efg"[random.IntN(3)], 17, 64)
	}
	return fmt.Sprint(tree)
}

func writeText(random *rand.Rand, s string) string {
	var b strings.Builder
	for _, r := range s {
		if r >= ' ' && r != '"' && r != '\\' && random.IntN(2) == 0 {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&b, `\u%04X`, unit)
		}
	}
	return `"` + b.String() + `"`
}
