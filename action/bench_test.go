package action

import (
	"fmt"
	"strings"
	"testing"
)

const benchCall = `{"jsonrpc":"2.0","id":17,"method":"tools/call","params":{"name":"place_order","arguments":{"item":"espresso machine","amount":85.00,"currency":"EUR","shop":"shop.example","notes":"deliver to the back door, please \"ring\"","address":{"street":"Storgatan 1","zip":"11122","city":"Göteborg"}},"_meta":{"progressToken":3}}}`

var benchTexts = []struct {
	name string
	text []byte
	lim  Limits
}{
	{"call", []byte(benchCall), Limits{}},
	{"string-1MB", []byte(`{"result":{"text":"` + strings.Repeat("The quick brown fox jumps over it. ", 1<<20/35) + `"}}`), Limits{}},
	{"string-12MB", []byte(`{"result":{"text":"` + strings.Repeat("The quick brown fox jumps over it. ", 12<<20/35) + `"}}`), Limits{Bytes: 16 << 20}},
	{"escapes-1MB", []byte(`{"result":"` + strings.Repeat(`one line of a file\n`, 1<<20/20) + `"}`), Limits{}},
	{"cyrillic-1MB", []byte(`{"result":"` + strings.Repeat("шторм и тишина ", 1<<20/27) + `"}`), Limits{}},
	{"members-20000", bigObject(20000, func(i int) string { return fmt.Sprintf("key_%d", i) }), Limits{}},
	{"numbers-100000", []byte("[1" + strings.Repeat(",12.5", 100000) + "]"), Limits{}},
}

func BenchmarkParse(b *testing.B) {
	for _, bench := range benchTexts {
		b.Run(bench.name, func(b *testing.B) {
			b.SetBytes(int64(len(bench.text)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(bench.text, bench.lim); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkScan(b *testing.B) {
	for _, bench := range benchTexts {
		if bench.text[0] != '{' {
			continue
		}
		b.Run(bench.name, func(b *testing.B) {
			b.SetBytes(int64(len(bench.text)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Scan(bench.text, bench.lim); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCanonical(b *testing.B) {
	for _, bench := range benchTexts {
		v, err := Parse(bench.text, bench.lim)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(bench.name, func(b *testing.B) {
			b.SetBytes(int64(len(bench.text)))
			b.ReportAllocs()
			for b.Loop() {
				v.Canonical()
			}
		})
	}
}

func BenchmarkHash(b *testing.B) {
	v, err := Parse([]byte(benchCall), Limits{})
	if err != nil {
		b.Fatal(err)
	}
	arguments := v.Get("params").Get("arguments")
	b.ReportAllocs()
	for b.Loop() {
		IntentHash("local", "shop", "place_order", arguments)
	}
}
