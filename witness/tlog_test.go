package witness

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/internal/witnesstest"
)

// watched is a log that a witness watches.
func watched(t *testing.T, l *growing) (*witnesstest.Witness, *TLog) {
	t.Helper()
	w := witnesstest.New("witness.example/w1")
	if err := w.Know(l.key.Public()); err != nil {
		t.Fatal(err)
	}
	return w, at(t, w, audit.CosignedFile(l.file))
}

func at(t *testing.T, w *witnesstest.Witness, file string) *TLog {
	t.Helper()
	s := httptest.NewServer(w)
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	client, err := NewTLog(s.URL+"/", w.Key()+"\n", file)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// cosigned are the sizes that a witness has cosigned in the file.
func cosigned(t *testing.T, file, log, witness string) (sizes []uint64) {
	t.Helper()
	by, err := audit.ParseCosigner(witness)
	if err != nil {
		t.Fatal(err)
	}
	for _, piece := range audit.SplitKept([]byte(read(t, file))) {
		c, err := audit.OpenCheckpoint(piece.Signed, log)
		if err != nil {
			t.Fatal(err)
		}
		when, ok, err := by.At(piece.Signed)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			sizes = append(sizes, c.Size)
			if since := time.Since(when); since < -time.Minute || since > time.Hour {
				t.Errorf("it was cosigned at %s", when)
			}
		}
	}
	return sizes
}

// The witness verifies each step, whatever we believe that it knows, and what it has
// cosigned is kept.
func TestTLogWitness(t *testing.T) {
	l := newLog(t)
	w, client := watched(t, l)
	guess := uint64(0)
	for i, size := range []int{1, 1, 5, 20, 0, 3} {
		tip := l.grow(size, "x")
		for _, old := range []uint64{guess, 0, 1 << 40, tip.Size} {
			if err := client.send(t.Context(), tip, old); err != nil {
				t.Fatalf("step %d, as if it knew %d: %v", i, old, err)
			}
			if got := w.Size(tip.Origin); got != int64(tip.Size) {
				t.Fatalf("it knows %d, want %d", got, tip.Size)
			}
		}
		guess = tip.Size
		if got := cosigned(t, client.file, l.key.Public(), w.Key()); len(got) != 1 || got[0] != tip.Size {
			t.Fatalf("cosigned are %v, want %d", got, tip.Size)
		}
	}
	asked := w.Asked()
	if err := client.send(t.Context(), l.grow(1, "x"), guess); err != nil || w.Asked() != asked+1 {
		t.Errorf("a right guess takes %d requests, %v", w.Asked()-asked, err)
	}
}

// Each has its last cosignature in the file, beside the other's where they have cosigned
// the same.
func TestTwoTLogWitnesses(t *testing.T) {
	l := newLog(t)
	a, toA := watched(t, l)
	b := witnesstest.New("witness.example/w2")
	if err := b.Know(l.key.Public()); err != nil {
		t.Fatal(err)
	}
	toB := at(t, b, toA.file)
	send := func(to *TLog, tip audit.Tip) {
		if err := to.send(t.Context(), tip, 0); err != nil {
			t.Fatal(err)
		}
	}
	hold := func(wantA, wantB uint64, pieces int) {
		t.Helper()
		ofA, ofB := cosigned(t, toA.file, l.key.Public(), a.Key()), cosigned(t, toA.file, l.key.Public(), b.Key())
		if len(ofA) != 1 || ofA[0] != wantA || len(ofB) != 1 || ofB[0] != wantB || len(audit.SplitKept([]byte(read(t, toA.file)))) != pieces {
			t.Fatalf("cosigned are %v and %v in\n%s", ofA, ofB, read(t, toA.file))
		}
	}
	one := l.grow(2, "x")
	send(toA, one)
	send(toB, one)
	hold(2, 2, 1)
	two := l.grow(2, "x")
	send(toB, two)
	hold(2, 4, 2)
	send(toA, two)
	hold(4, 4, 1)
	if err := os.WriteFile(toA.file, []byte("damaged\n\n"+read(t, toA.file)), 0o600); err != nil {
		t.Fatal(err)
	}
	send(toA, l.grow(1, "x"))
	hold(5, 4, 2)
}

// A log that is not what it was gets no cosignature, and is told apart.
func TestTLogWitnessOfAnotherLog(t *testing.T) {
	l := newLog(t)
	w, client := watched(t, l)
	if err := client.send(t.Context(), l.grow(5, "x"), 0); err != nil {
		t.Fatal(err)
	}
	for entries, want := range map[int]string{
		3: "it knows 5 entries of the log, which has 3: was an older log put back?",
		5: "it has cosigned another log of this name with 5 entries",
		9: "it does not find that the log has only grown",
	} {
		err := client.send(t.Context(), logWith(t, t.TempDir(), l.key).grow(entries, "y"), 0)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d entries: want %q, got %v", entries, want, err)
		}
	}
	if err := client.send(t.Context(), newLog(t).grow(1, "x"), 0); err == nil || !strings.Contains(err.Error(), "does not know the log") {
		t.Errorf("a foreign log: %v", err)
	}
	if got := w.Size(l.key.Origin()); got != 5 {
		t.Errorf("it knows %d", got)
	}
}

// Whatever answers, it is bounded, and nothing false is kept.
func TestHostileTLogWitnesses(t *testing.T) {
	l := newLog(t)
	w, client := watched(t, l)
	first := l.grow(2, "x")
	if err := client.send(t.Context(), first, 0); err != nil {
		t.Fatal(err)
	}
	before := read(t, client.file)
	tip := l.grow(2, "x")
	impostor := witnesstest.New("witness.example/w1")
	say := func(status int, kind, text string) http.HandlerFunc {
		return func(out http.ResponseWriter, _ *http.Request) {
			out.Header().Set("Content-Type", kind)
			out.WriteHeader(status)
			io.WriteString(out, text)
		}
	}
	const sizeType = "text/x.tlog.size"
	flips := 0
	for name, c := range map[string]struct {
		odd  http.HandlerFunc
		want string
	}{
		"another's cosignature":   {say(200, "", impostor.Cosign(tip.Text(), time.Now())), "none of its signatures is by witness.example/w1+"},
		"of another checkpoint":   {say(200, "", w.Cosign(first.Text(), time.Now())), "its signatures: invalid signature"},
		"of a text of its own":    {say(200, "", "x\n\n"+w.Cosign(string(tip.Signed)+"x\n", time.Now())), "want lines that begin with"},
		"nothing":                 {say(200, "", ""), "none of its signatures"},
		"no newline":              {say(200, "", strings.TrimSuffix(w.Cosign(tip.Text(), time.Now()), "\n")), "ended by a newline"},
		"no signature":            {say(200, "", "<html>\n"), "want lines that begin with"},
		"no base64":               {say(200, "", "— witness.example/w1 !!!\n"), "its signatures: malformed note"},
		"many":                    {say(200, "", strings.Repeat(impostor.Cosign(tip.Text(), time.Now()), 400)), "its signatures: malformed note"},
		"too long":                {say(200, "", strings.Repeat("— a b\n", 20_000)), "longer than 65536 bytes"},
		"no time but a signature": {say(200, "", strings.Replace(w.Cosign(tip.Text(), time.Now()), "AAAA", "//8A", 1)), "its signatures"},
		"endless": {func(out http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := io.WriteString(out, strings.Repeat("x", 1<<16)); err != nil {
					return
				}
			}
		}, "longer than 65536 bytes"},
		"endless conflicts": {func(out http.ResponseWriter, r *http.Request) {
			flips++
			say(409, sizeType, []string{"1\n", "2\n", "0\n"}[flips%3])(out, r)
		}, "times in a row it knew another size"},
		"the size it was told":    {say(409, sizeType, "0\n"), "it answers 409, and that it knows 0 entries, as it was told"},
		"a conflict without type": {say(409, "text/plain", "2\n"), "want the size that it knows, as text/x.tlog.size"},
		"a conflict without size": {say(409, sizeType, "many\n"), "want the size that it knows"},
		"a size that is none":     {say(409, sizeType, "-1\n"), "want the size that it knows"},
		"a size beyond all":       {say(409, sizeType, "99999999999999999999\n"), "want the size that it knows"},
		"a larger size":           {say(409, sizeType, "5\n"), "it knows 5 entries of the log, which has 4"},
		"a size with a zero":      {say(409, sizeType, "02\n"), "want the size that it knows"},
		"forbidden":               {say(403, "", "hidden"), "another key (403)"},
		"unknown":                 {say(404, "", "hidden"), "does not know the log"},
		"unprocessable":           {say(422, "", "hidden"), "has only grown"},
		"bad request":             {say(400, "", "hidden"), "want its cosignature, got 400"},
		"accepted":                {say(202, "", w.Cosign(tip.Text(), time.Now())), "want its cosignature, got 202"},
		"redirect": {func(out http.ResponseWriter, r *http.Request) {
			http.Redirect(out, r, "https://elsewhere.example/hidden", http.StatusPermanentRedirect)
		}, "308, a redirect to"},
		"slow": {func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body); <-r.Context().Done() }, "no answer within"},
	} {
		w.Misbehave(c.odd)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		err := client.send(ctx, tip, 0)
		cancel()
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: want %q, got %v", name, c.want, err)
		}
		if after := read(t, client.file); after != before {
			t.Fatalf("%s: it was kept:\n%s", name, after)
		}
	}
	w.Misbehave(nil)
	if err := client.send(t.Context(), tip, 0); err != nil {
		t.Errorf("when it behaves again: %v", err)
	}
}

// What cannot be kept was not done.
func TestTLogWitnessWithoutRoom(t *testing.T) {
	l := newLog(t)
	_, client := watched(t, l)
	client.file = filepath.Join(t.TempDir(), "none", "kept")
	if err := client.send(t.Context(), l.grow(1, "x"), 0); err == nil {
		t.Error("it was kept nowhere")
	}
}
