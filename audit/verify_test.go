package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// chain makes a log of n lines.
func chain(t testing.TB, n int) []Sequenced {
	t.Helper()
	lines := make([]Sequenced, 0, n)
	var prev [32]byte
	for i := range n {
		l, err := place(uint64(i+1), prev, entry(t, i+1))
		if err != nil {
			t.Fatal(err)
		}
		lines, prev = append(lines, l), l.Hash
	}
	return lines
}

func entry(t testing.TB, i int) []byte {
	t.Helper()
	b, err := Encode(Entry{TS: "2026-05-05T13:42:11.000Z", Event: "decision", ActorType: "agent", ActorID: "buyer", Detail: fmt.Sprintf("number %d <&>", i)})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func text(lines []Sequenced) []string {
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = string(l.Line)
	}
	return out
}

func file(lines []string) string { return strings.Join(lines, "\n") + "\n" }

func verify(t testing.TB, log string, wantSeq uint64, wantHash string) Report {
	t.Helper()
	r, err := Verify(strings.NewReader(log), wantSeq, wantHash)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func faultLines(r Report) []int {
	var at []int
	for _, f := range r.Faults {
		at = append(at, f.Line)
	}
	return at
}

func TestVerifyWhole(t *testing.T) {
	for _, n := range []int{0, 1, 2, 300} {
		lines := chain(t, n)
		head, want := "", Report{Entries: uint64(n)}
		if n > 0 {
			head = sum(lines[n-1].Hash)
			want.Head = head
		}
		log := strings.TrimPrefix(file(text(lines)), "\n")
		for _, hash := range []string{"", head, strings.ToUpper(strings.TrimPrefix(head, sumHead))} {
			if diff := cmp.Diff(want, verify(t, log, uint64(n), hash)); diff != "" {
				t.Errorf("%d lines, hash %q: (-want +got)\n%s", n, hash, diff)
			}
		}
	}
}

// One change is one fault, at its line, wherever in the log it was made.
func TestVerifyNamesEachChange(t *testing.T) {
	const n = 9
	lines := chain(t, n)
	other := func(i int) string { // a line that claims the place i+1, by somebody who knows the chain
		var prev [32]byte
		if i > 0 {
			prev = lines[i-1].Hash
		}
		l, err := place(uint64(i+1), prev, []byte(`{"event":"forged"}`))
		if err != nil {
			t.Fatal(err)
		}
		return string(l.Line)
	}
	swapPrev := func(line, with string) string {
		i := strings.Index(line, sumHead) + len(sumHead)
		return line[:i] + with + line[i+64:]
	}
	tests := []struct {
		name   string
		change func(lines []string, i int) []string
		from   int // the first index where the change makes sense, and the last is n-1-to
		to     int
		at     func(i int) int // the line of the fault, for index i
		reason string
	}{
		{"edited", func(l []string, i int) []string { l[i] = strings.Replace(l[i], "buyer", "Buyer", 1); return l },
			0, 0, func(i int) int { return i + 1 }, "was changed"},
		{"prev edited", func(l []string, i int) []string { l[i] = swapPrev(l[i], strings.Repeat("a", 64)); return l },
			1, 0, func(i int) int { return i + 1 }, "was changed"},
		{"first prev edited", func(l []string, i int) []string { l[0] = swapPrev(l[0], strings.Repeat("a", 64)); return l },
			0, n - 1, func(i int) int { return 1 }, "64 zeros"},
		{"number edited", func(l []string, i int) []string {
			l[i] = strings.Replace(l[i], fmt.Sprintf(`"seq":%d,`, i+1), `"seq":77,`, 1)
			return l
		}, 0, 0, func(i int) int { return i + 1 }, "number was changed"},
		{"number edited down", func(l []string, i int) []string {
			l[i] = strings.Replace(l[i], fmt.Sprintf(`"seq":%d,`, i+1), `"seq":1,`, 1)
			return l
		}, 1, 0, func(i int) int { return i + 1 }, "number was changed"},
		{"no longer JSON", func(l []string, i int) []string { l[i] = l[i][:len(l[i])-1]; return l },
			0, 0, func(i int) int { return i + 1 }, "not one JSON object"},
		{"emptied", func(l []string, i int) []string { l[i] = ""; return l },
			0, 0, func(i int) int { return i + 1 }, "does not begin with"},
		{"space added", func(l []string, i int) []string { l[i] += " "; return l },
			0, 0, func(i int) int { return i + 1 }, "not one JSON object"},
		{"place repeated", func(l []string, i int) []string {
			l[i] = l[i][:len(l[i])-1] + `,"seq":5}`
			return l
		}, 0, 0, func(i int) int { return i + 1 }, "a second time"},
		{"removed", func(l []string, i int) []string { return slices.Delete(l, i, i+1) },
			0, 1, func(i int) int { return i + 1 }, "missing before this line"},
		{"three removed", func(l []string, i int) []string { return slices.Delete(l, i, i+3) },
			0, 3, func(i int) int { return i + 1 }, "missing before this line"},
		{"cut off", func(l []string, i int) []string { return l[:i] },
			1, 0, func(i int) int { return i + 1 }, "end was cut off"},
		{"copied", func(l []string, i int) []string { return slices.Insert(l, i+1, l[i]) },
			0, 0, func(i int) int { return i + 2 }, "a second line"},
		{"copied early", func(l []string, i int) []string { return slices.Insert(l, i-2, l[i]) },
			2, 0, func(i int) int { return i - 1 }, "a copy of entry"},
		{"copied late", func(l []string, i int) []string { return slices.Insert(l, i+3, l[i]) },
			0, 2, func(i int) int { return i + 4 }, "a second line"},
		{"forged before", func(l []string, i int) []string { return slices.Insert(l, i, other(i)) },
			0, 1, func(i int) int { return i + 1 }, "a second line"},
		{"forged badly before", func(l []string, i int) []string {
			return slices.Insert(l, i, swapPrev(other(i), strings.Repeat("b", 64)))
		}, 1, 1, func(i int) int { return i + 1 }, "a second line"},
		{"forged after", func(l []string, i int) []string { return slices.Insert(l, i+1, other(i)) },
			0, 0, func(i int) int { return i + 2 }, "a second line"},
		{"blank line added", func(l []string, i int) []string { return slices.Insert(l, i, "") },
			0, 0, func(i int) int { return i + 1 }, "does not begin with"},
		{"neighbours swapped", func(l []string, i int) []string { l[i], l[i+1] = l[i+1], l[i]; return l },
			0, 1, func(i int) int { return i + 1 }, "not in their order"},
		{"moved up", func(l []string, i int) []string {
			x := l[i]
			return slices.Insert(slices.Delete(l, i, i+1), i-2, x)
		}, 2, 0, func(i int) int { return i - 1 }, "not in their order"},
		{"moved down", func(l []string, i int) []string {
			x := l[i]
			return slices.Insert(slices.Delete(l, i, i+1), i+2, x)
		}, 0, 2, func(i int) int { return i + 1 }, "not in their order"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for i := test.from; i < n-test.to; i++ {
				log := file(test.change(text(lines), i))
				r := verify(t, log, n, sum(lines[n-1].Hash))
				if diff := cmp.Diff([]int{test.at(i)}, faultLines(r)); diff != "" {
					t.Errorf("index %d: faults (-want +got)\n%s%v", i, diff, r.Faults)
				} else if !strings.Contains(r.Faults[0].Reason, test.reason) {
					t.Errorf("index %d: %q, want a reason that says %q", i, r.Faults[0].Reason, test.reason)
				}
			}
		})
	}
}

func TestVerifyNamesEveryChange(t *testing.T) {
	lines := text(chain(t, 20))
	lines[3] = strings.Replace(lines[3], "buyer", "Buyer", 1)
	lines[9] = "{}"
	lines[14], lines[15] = lines[15], lines[14]
	lines = slices.Delete(lines, 6, 7)
	r := verify(t, file(lines), 20, "")
	if diff := cmp.Diff([]int{4, 7, 9, 14}, faultLines(r)); diff != "" {
		t.Errorf("faults (-want +got)\n%s%v", diff, r.Faults)
	}
	if r.Entries != 18 {
		t.Errorf("%d entries, want 18", r.Entries)
	}
}

// Who can write all lines again is found by the head that somebody remembers.
func TestVerifyRewrittenLog(t *testing.T) {
	lines := chain(t, 5)
	var prev [32]byte
	var forged []string
	for i := range 6 {
		l, err := place(uint64(i+1), prev, []byte(`{"event":"forged"}`))
		if err != nil {
			t.Fatal(err)
		}
		forged, prev = append(forged, string(l.Line)), l.Hash
	}
	if r := verify(t, file(forged), 0, ""); r.Faults != nil {
		t.Errorf("without a head there is nothing to see, got %v", r.Faults)
	}
	if r := verify(t, file(forged), 5, sum(lines[4].Hash)); !slices.Equal(faultLines(r), []int{5}) {
		t.Errorf("with the head of line 5: faults %v", r.Faults)
	}
}

func TestVerifyTornEnd(t *testing.T) {
	lines := chain(t, 3)
	log := file(text(lines))
	for cut := len(log) - 1; cut > len(log)-len(lines[2].Line)-1; cut-- {
		r := verify(t, log[:cut], 3, "")
		if !slices.Equal(faultLines(r), []int{3}) || !strings.Contains(r.Faults[0].Reason, "not complete") || r.Entries != 2 {
			t.Fatalf("cut at %d: %+v", cut, r)
		}
	}
}

func TestVerifyBounds(t *testing.T) {
	t.Run("long line", func(t *testing.T) {
		lines := text(chain(t, 3))
		lines[1] = lines[1][:len(lines[1])-1] + `,"x":"` + strings.Repeat("x", maxLine) + `"}`
		r := verify(t, file(lines), 3, "")
		if !slices.Equal(faultLines(r), []int{2}) || !strings.Contains(r.Faults[0].Reason, "longer than") {
			t.Errorf("faults %.200v", r.Faults)
		}
	})
	t.Run("many faults", func(t *testing.T) {
		r := verify(t, strings.Repeat("nonsense\n", 3*maxFaults), 0, "")
		if len(r.Faults) != maxFaults || !strings.Contains(r.Faults[maxFaults-1].Reason, "not listed") {
			t.Errorf("%d faults, the last is %v", len(r.Faults), r.Faults[len(r.Faults)-1])
		}
	})
	t.Run("bad hash", func(t *testing.T) {
		if _, err := Verify(strings.NewReader(""), 1, "sha256:12"); err == nil || !strings.Contains(err.Error(), "sha256:HEX") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("read error", func(t *testing.T) {
		log := file(text(chain(t, 2)))
		r, err := Verify(io.MultiReader(strings.NewReader(log), iotest.ErrReader(errors.New("bad sector"))), 0, "")
		if err == nil || !strings.Contains(err.Error(), "line 3: bad sector") || r.Entries != 2 {
			t.Errorf("got %+v, %v", r, err)
		}
	})
}

func TestPlaceRefuses(t *testing.T) {
	for _, entry := range []string{"", "null", "[]", "{", `{ "a":1}`, "{\"a\":\n1}", `{"a":1} `, `{"a":1}{}`, `x"a":1}`,
		`{"seq":1}`, `{"a":1,"prev":""}`, `{"s\u0065q":1}`} {
		if l, err := place(1, [32]byte{}, []byte(entry)); err == nil {
			t.Errorf("place(%q) = %s, want an error", entry, l.Line)
		}
	}
}

func TestParseLineRefuses(t *testing.T) {
	good := string(chain(t, 1)[0].Line)
	if _, _, err := parseLine([]byte(good)); err != nil {
		t.Fatal(err)
	}
	zeros := strings.Repeat("0", 64)
	for _, change := range [][2]string{
		{`{"seq":1`, `{ "seq":1`}, {`"seq":1`, `"seq":01`}, {`"seq":1`, `"seq":0`}, {`"seq":1`, `"seq":-1`}, {`"seq":1`, `"seq":+1`},
		{`"seq":1`, `"seq":1.0`}, {`"seq":1`, `"seq":"1"`}, {`"seq":1`, `"seq":9223372036854775808`}, {`"seq":1`, `"seq":`},
		{`"seq"`, `"Seq"`}, {`"prev"`, `"Prev"`}, {`,"prev"`, `, "prev"`}, {"sha256:", "sha512:"}, {zeros, zeros[1:]}, {zeros, zeros + "0"},
		{zeros, zeros[1:] + "A"}, {zeros, zeros[1:] + "g"}, {`,"ts"`, ` ,"ts"`}, {`,"ts"`, `,"prev":"x","ts"`}, {`,"ts"`, `, "ts"`},
	} {
		if line := strings.Replace(good, change[0], change[1], 1); line == good {
			t.Errorf("%q does not occur", change[0])
		} else if _, _, err := parseLine([]byte(line)); err == nil {
			t.Errorf("parseLine(%s) succeeds, want an error", line)
		}
	}
}

// Whatever stands in the file, Verify says so and returns.
func FuzzVerify(f *testing.F) {
	log := file(text(chain(f, 4)))
	f.Add([]byte(log), uint64(4), "")
	f.Add([]byte(log[:len(log)-9]), uint64(9), strings.Repeat("0", 64))
	f.Add([]byte("\n\n{}\n"), uint64(1), "")
	f.Add([]byte(strings.Replace(log, `"seq":2`, `"seq":9223372036854775807`, 1)), uint64(1<<63), "sha256:")
	f.Fuzz(func(t *testing.T, log []byte, wantSeq uint64, wantHash string) {
		r, err := Verify(bytes.NewReader(log), wantSeq, wantHash)
		if err != nil && wantHash == "" {
			t.Fatal(err)
		}
		if err == nil && r.Faults == nil && bytes.Count(log, []byte("\n")) != int(r.Entries) {
			t.Errorf("%d entries without a fault in %q", r.Entries, log)
		}
	})
}

// No change of one place in a log goes unseen by who knows the head.
func FuzzVerifySeesChange(f *testing.F) {
	lines := chain(f, 6)
	log := []byte(file(text(lines)))
	head := sum(lines[5].Hash)
	f.Add(3, 1, []byte("x"))
	f.Add(len(log)-1, 1, []byte{})
	f.Add(len(lines[0].Line), 1, []byte("\r\n"))
	f.Add(0, len(lines[0].Line)+1, []byte{})
	f.Fuzz(func(t *testing.T, at, remove int, insert []byte) {
		if at < 0 || at > len(log) || remove < 0 || remove > len(log)-at || at == len(log) {
			return
		}
		changed := slices.Concat(log[:at], insert, log[at+remove:])
		r := verify(t, string(changed), 6, head)
		if bytes.Equal(changed, log) != (r.Faults == nil) {
			t.Errorf("faults %v in %q", r.Faults, changed)
		}
	})
}

// BenchmarkVerify is of short lines, and of such as decisions have.
func BenchmarkVerify(b *testing.B) {
	const n = 10000
	text := func(s string) *string { return &s }
	decided, err := Encode(Entry{
		TS: "2026-11-26T22:52:13.288Z", Event: "decision", ActorType: "agent", ActorID: "bot", ActionType: text("purchase"), ActionID: text("8e3bdb7c-3a53-4b8e-9d0b-0123456789ab"),
		Decision: text("ALLOW"), PolicyID: text("shop"), ProofKID: text("k4.pid.9ShR3xc8-qVJ_di0tc9nx0IDIqbatdeM2mqLFBJsKRHs"), DecisionID: "0e3bdb7c-3a53-4b8e-9d0b-0123456789ab",
		MatchedRuleID: "buy", Reason: `Allowed by rule "buy".`, Code: "ALLOWED", OwnerID: "ac2dec16-3a53-4b8e-9d0b-0123456789ab", Server: "shop", Tool: "order",
		ActionHash: sum([32]byte{1}), IntentHash: sum([32]byte{2}), CallHash: sum([32]byte{3}), PolicyHash: sum([32]byte{4}), Process: "QK7WN7T2U55BCEHMC7QNFUPOFC",
		RequestedAt: "2026-11-26T22:52:13.288Z", Payload: []byte(`{"amount_minor":4000,"arguments":{"price":40,"shop":"shop.example","text":"two of the blue ones, please, as soon as they are there"},"currency":"EUR"}`),
	})
	if err != nil {
		b.Fatal(err)
	}
	for name, e := range map[string][]byte{"short": entry(b, 1), "decisions": decided} {
		b.Run(name, func(b *testing.B) {
			var log []byte
			var hash [32]byte
			for i := range n {
				l, err := place(uint64(i+1), hash, e)
				if err != nil {
					b.Fatal(err)
				}
				log, hash = append(append(log, l.Line...), '\n'), l.Hash
			}
			b.SetBytes(int64(len(log)))
			for b.Loop() {
				r, err := Verify(bytes.NewReader(log), n, "")
				if err != nil || r.Faults != nil {
					b.Fatal(r, err)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "lines/s")
		})
	}
}

func TestEncodeBounded(t *testing.T) {
	if b, err := Encode(Entry{Event: "decision", Detail: strings.Repeat("\x01", maxEntry/6)}); err == nil {
		t.Errorf("Encode wrote %d bytes, want an error", len(b))
	}
	if _, err := Encode(Entry{Event: "decision", Detail: strings.Repeat("x", maxEntry/2)}); err != nil {
		t.Error(err)
	}
}
