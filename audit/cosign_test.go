package audit

import (
	"encoding/base64"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/openleash/openleash-go/internal/witnesstest"
)

// A checkpoint and its cosignature, made by another program (transparency-dev/formats).
const (
	vectorLog     = "openleash/test+16b97efa+ARVrJNhMs9CAxAZgTDxACAxdpYFF53DLnNHFzMlq9pev"
	vectorWitness = "witness.example/w1+d7e8b32d+BDNVmwyCm+MVKMs4Ho3EtGL1reiyjWeR/it9qwIfQe3M"
	vectorSigned  = `openleash/test
3
LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE=

— openleash/test Frl++kkcrOIwG7ppDz+8w/O/wHqwEAYDnKDr/eThHdYXd0nyLD+BFYw9saCiDwQZYRcjYgOeAHIK6wdcerE0NYBvJgg=
— witness.example/w1 1+izLQAAAABrCPG5v9f5NcYtAyAU9w0TepMGOsQeiL1Q7Ew48fE1O3dvEQg2E0HShNzWNYoWKeFFp7ygzkSWu8wqgRKxLAXrI0IzBA==
`
)

func cosignerOf(t *testing.T, key string) Cosigner {
	t.Helper()
	c, err := ParseCosigner(key)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCosignatureOfAnotherProgram(t *testing.T) {
	if c, err := OpenCheckpoint([]byte(vectorSigned), vectorLog); err != nil || c.Size != 3 {
		t.Fatalf("%+v, %v", c, err)
	}
	w := cosignerOf(t, " "+vectorWitness+"\n")
	at, ok, err := w.At([]byte(vectorSigned))
	if err != nil || !ok || at.Unix() != 0x6b08f1b9 {
		t.Errorf("%s, %v, %v", at, ok, err)
	}
	lines := strings.SplitAfter(vectorSigned, "\n")
	if _, ok, err := w.At([]byte(strings.Join(lines[:5], ""))); ok || err != nil {
		t.Errorf("without it: %v, %v", ok, err)
	}
	for _, change := range [][2]string{{"\n3\n", "\n4\n"}, {"1+izLQAAAABrCPG5v", "1+izLQAAAABrCPG6v"}, {"1+izLQAAAABr", "1+izLf////9r"}, {"I0IzBA==", "I0IzCA=="}} {
		if _, ok, err := w.At([]byte(strings.Replace(vectorSigned, change[0], change[1], 1))); ok || err == nil {
			t.Errorf("%s for %s: %v, %v", change[1], change[0], ok, err)
		}
	}
	// A log's own kind of signature is no cosignature, and the other way round.
	if _, err := ParseCosigner(vectorLog); err == nil || !strings.Contains(err.Error(), "type 4") {
		t.Errorf("a log's key: %v", err)
	}
	if _, err := note.NewVerifier(vectorWitness); err == nil {
		t.Error("a witness's key is taken for a log's")
	}
}

func TestParseCosignerRefuses(t *testing.T) {
	for key, want := range map[string]string{
		"":    "NAME+HASH+BASE64",
		"a+b": "NAME+HASH+BASE64",
		strings.Replace(vectorWitness, "w1+", "w2+", 1):             "is damaged",
		strings.Replace(vectorWitness, "d7e8b32d", "D7E8B32D", 1):   "is damaged",
		strings.Replace(vectorWitness, "BDNV", "BTNV", 1):           "one of type 5",
		strings.TrimSuffix(vectorWitness, "QePM") + "AA":            "NAME+HASH+BASE64",
		strings.Replace(vectorWitness, "witness.", "wit ness.", 1):  "is damaged",
		strings.Replace(vectorWitness, "witness.example/w1", "", 1): "is damaged",
		"w+00000000+": "NAME+HASH+BASE64",
	} {
		if _, err := ParseCosigner(key); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: want %q, got %v", key, want, err)
		}
	}
}

// Whatever a witness answers, what is kept are checkpoints of this log, and the witness
// has cosigned this one.
func FuzzCosigned(f *testing.F) {
	signed, sig, _ := strings.Cut(vectorSigned, "— witness")
	f.Add([]byte(""), []byte("— witness"+sig))
	f.Add([]byte(vectorSigned), []byte("— witness"+sig))
	f.Add([]byte(strings.Replace(vectorSigned, "w1", "w2", 1)+"\n\n"+vectorSigned), []byte("— a AAAAAA==\n— witness"+sig))
	w, err := ParseCosigner(vectorWitness)
	if err != nil {
		f.Fatal(err)
	}
	c, err := OpenCheckpoint([]byte(signed), vectorLog)
	if err != nil {
		f.Fatal(err)
	}
	tip := Tip{Checkpoint: c, Signed: []byte(signed), key: vectorLog}
	f.Fuzz(func(t *testing.T, before, answer []byte) {
		text, err := tip.Cosigned(before, answer, w)
		if err != nil {
			return
		}
		list := SplitKept(text)
		for _, piece := range list {
			if _, err := OpenCheckpoint(piece.Signed, vectorLog); err != nil {
				t.Fatalf("%q: %v", piece.Signed, err)
			}
		}
		last := list[len(list)-1].Signed
		if got, _ := OpenCheckpoint(last, vectorLog); got != c {
			t.Fatalf("the last is %+v", got)
		}
		if _, ok, err := w.At(last); !ok || err != nil {
			t.Fatalf("it is not cosigned: %v", err)
		}
		if again, err := tip.Cosigned(text, answer, w); err != nil || !slices.Equal(again, text) {
			t.Fatalf("once more it is\n%s\nand was\n%s, %v", again, text, err)
		}
	})
}

// Prove takes a checkpoint that a witness has cosigned, where one has the line.
func TestReceiptOfACosignedCheckpoint(t *testing.T) {
	m, path := newLog(t, 9)
	if err := once(t, m, path); err != nil {
		t.Fatal(err)
	}
	w := witnesstest.New("witness.example/w1")
	by := cosignerOf(t, w.Key())
	tip, err := ReadTip(path, testKey.Public())
	if err != nil {
		t.Fatal(err)
	}
	kept, err := tip.Cosigned(nil, []byte(w.Cosign(tip.Text(), time.Unix(1_800_000_000, 0))), by)
	if err == nil {
		err = os.WriteFile(CosignedFile(path), append([]byte("damaged\n\n"), kept...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	m.commit(entry(t, 10), entry(t, 11), entry(t, 12))
	if err := once(t, m, path); err != nil {
		t.Fatal(err)
	}
	for seq, want := range map[int]uint64{1: 9, 9: 9, 10: 12, 12: 12} {
		text, err := Prove(path, m.lines[seq-1], testKey.Public())
		if err != nil {
			t.Fatal(err)
		}
		r, err := OpenReceipt(text, testKey.Public())
		if err != nil || r.Checkpoint.Size != want {
			t.Errorf("line %d: by a checkpoint of %d, %v", seq, r.Checkpoint.Size, err)
		}
		if at, ok, err := by.At(r.Signed); err != nil || ok != (want == 9) || ok && at.Unix() != 1_800_000_000 {
			t.Errorf("line %d: cosigned %v, %s, %v", seq, ok, at, err)
		}
	}
}

// A key that is read is written in one way only, and is what it says.
func FuzzParseCosigner(f *testing.F) {
	f.Add(vectorWitness)
	f.Add(vectorLog)
	f.Add("w+00000000+BA==")
	f.Fuzz(func(t *testing.T, key string) {
		c, err := ParseCosigner(key)
		if err != nil {
			return
		}
		data := append([]byte{4}, c.key...)
		if again := fmt.Sprintf("%s+%08x+%s", c.Name(), keyHash(c.Name(), data), base64.StdEncoding.EncodeToString(data)); again != strings.TrimSpace(key) {
			t.Fatalf("%q is also %q", key, again)
		}
	})
}
