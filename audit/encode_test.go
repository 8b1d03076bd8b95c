package audit

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/openleash/openleash-go/internal/jsontext"
)

// asJSON is what encoding/json makes of an entry: the order of Entry's fields,
// and its tags.
func asJSON(t testing.TB, e Entry) []byte {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// Encode writes every field as the struct's tags say, in their order: a field
// that Encode forgets shows here.
func TestEncodeHoldsToTheTags(t *testing.T) {
	texts := []string{"", "x", "a b", `"\`, "<&>", "\x00\x1f\x7f\b\f\n\r\t", "\u2028 \u2029", "é \U0001F600", "\xffa\xfe", "a\xc3", `\u2028`}
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var e Entry
		v := reflect.ValueOf(&e).Elem()
		for i := range v.NumField() {
			field, text := v.Field(i), texts[random.IntN(len(texts))]
			set := random.IntN(3) > 0
			switch field.Interface().(type) {
			case string:
				field.SetString(text)
			case *string:
				if set {
					field.Set(reflect.ValueOf(&text))
				}
			case *bool:
				if set {
					field.Set(reflect.ValueOf(new(random.IntN(2) > 0)))
				}
			case *int64:
				if set {
					field.Set(reflect.ValueOf(new(random.Int64() - random.Int64())))
				}
			case []Limit:
				for range random.IntN(3) {
					number := func() int64 { return random.Int64N(3) * random.Int64() }
					e.Limits = append(e.Limits, Limit{
						ID: text, Key: texts[random.IntN(len(texts))], Amount: number(), Max: number(), Over: set,
						Used: number(), Held: number(), Doubt: texts[random.IntN(len(texts))], Released: random.IntN(2) > 0,
					})
				}
			case json.RawMessage:
				if set {
					field.SetBytes(asPayload(text))
				}
			case *Passkey:
				if set {
					field.Set(reflect.ValueOf(&Passkey{CredentialID: []byte(text), AuthenticatorData: []byte{}, ClientData: []byte("{}"), Signature: []byte{0, 255, 62}}))
				}
			case []string:
				for range random.IntN(3) {
					field.Set(reflect.Append(field, reflect.ValueOf(text)))
				}
			case bool:
				field.SetBool(set)
			case int:
				field.SetInt(random.Int64N(3))
			default:
				t.Fatalf("field %s: a type that this test does not fill", v.Type().Field(i).Name)
			}
		}
		got, err := Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		if want := asJSON(t, e); !sameJSON(want, got) {
			t.Fatalf("want %s\ngot  %s", want, got)
		}
	}
}

// asPayload is an object that has text in it, as a payload is written.
func asPayload(text string) []byte {
	b := jsontext.AppendString([]byte(`{"a":[`), strings.ToValidUTF8(text, "\ufffd"))
	return append(b, "]}"...)
}

// sameJSON compares byte by byte, but for what may be written in two ways:
// encoding/json escapes U+FFFD where a text was not UTF-8, and leaves U+2028 and
// U+2029 in what is JSON already.
func sameJSON(want, got []byte) bool {
	for written, same := range map[string]string{`\ufffd`: "\ufffd", "\u2028": `\u2028`, "\u2029": `\u2029`} {
		want = bytes.ReplaceAll(want, []byte(written), []byte(same))
	}
	return bytes.Equal(want, got)
}

func BenchmarkEncode(b *testing.B) {
	e := Entry{
		TS: "2026-05-05T13:42:11.000Z", Event: "decision", ActorType: "agent", ActorID: "local",
		ActionType: new("mcp.shop.buy"), ActionID: new("8e3bdb7c-3a53-4b8e-9d0b-0123456789ab"), Decision: new("ALLOW"), PolicyID: new("shop"),
		DecisionID: "0e3bdb7c-3a53-4b8e-9d0b-0123456789ab", Reason: "small purchases are allowed", Server: "shop", Tool: "buy",
	}
	for b.Loop() {
		if _, err := Encode(e); err != nil {
			b.Fatal(err)
		}
	}
}
