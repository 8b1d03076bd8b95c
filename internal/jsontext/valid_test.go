package jsontext

import (
	"encoding/json"
	"strings"
	"testing"
)

var documents = []string{
	``, ` `, `{}`, `[]`, `{`, `}`, `[`, `]`, `[}`, `{]`, `[[]`, `{"a":[}`, `{"a":1}`, `{"a":1,}`, `{,"a":1}`, `{"a"}`, `{"a":}`, `{"a" : 1 , "b" : [ 1 , 2 ] }`, `[1,]`, `[,1]`, `[1 2]`,
	`{a:1}`, `{"a":1}{}`, `1`, `-`, `-0`, `00`, `01`, `-01`, `1.`, `.1`, `1.0`, `1e`, `1e+`, `1e-5`, `1E+05`, `1.5e3`, `+1`, `0x1`, `1e5.5`, `tru`, `true`, `false`, `null`, `nul`, `truex`, `"`, `"a`, `"a"`, `"\`, `"\"`,
	`"\""`, `"\x"`, `"\u12"`, `"\u12g4"`, `"\uABcd"`, `"\u12345"`, "\"a\nb\"", "\"\x00\"", "\"\x1f\"", "\"\x7f\xff\xc3\"", "\v1", "\xef\xbb\xbf1", "[1\x00]", `[true,false,null,"",{},[]]`, `{"a":{"b":{"c":[[[{"d":1}]]]}}}`,
	`{"":"", "":""}`, `[-]`, `[1-]`, `["a""b"]`, `{"a":1 "b":2}`, `{"a":1,"b"}`, `{"a":"b":"c"}`, `[:]`, `{:}`, `{1:2}`, `{null:1}`, `]1`, `1]`, `"a":1`, `[1}`, `{"a":1]`, "\t[\r\n1 ]\n",
	strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000), strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001), strings.Repeat(`{"a":`, 9_999) + "1" + strings.Repeat("}", 9_999),
}

// encoding/json says the same of each.
func TestValid(t *testing.T) {
	for _, doc := range documents {
		if got, want := Valid([]byte(doc)), json.Valid([]byte(doc)); got != want {
			t.Errorf("%.60q: got %t, want %t", doc, got, want)
		}
	}
}

func FuzzValid(f *testing.F) {
	for _, doc := range documents {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		if got, want := Valid(doc), json.Valid(doc); got != want {
			t.Errorf("%q: got %t, want %t", doc, got, want)
		}
	})
}

func BenchmarkValid(b *testing.B) {
	line := []byte(`{"seq":15,"prev":"sha256:9ac5","ts":"2026-11-26T22:52:13.288Z","event":"decision","actor_type":"agent","decision":null,"reason":"Allowed by rule \"buy\".","payload":{"amount_minor":4000,"arguments":{"price":40,"text":"two of the blue ones, please"}}}`)
	for name, valid := range map[string]func([]byte) bool{"ours": Valid, "encoding-json": json.Valid} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(line)))
			for b.Loop() {
				if !valid(line) {
					b.Fatal()
				}
			}
		})
	}
}
