package audit

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOpenLatest(t *testing.T) {
	log := filepath.Join(t.TempDir(), "audit.log.jsonl")
	read := func(most int64) string {
		t.Helper()
		l, err := OpenLatest(log, most)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		text, err := io.ReadAll(l)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if got := read(100); got != "" {
		t.Errorf("of no log: %q", got)
	}
	long := strings.Repeat("x", 10_000) + "\n"
	segment := `{"seq":1,` + "\n" + `{"seq":2,` + "\n"
	for name, text := range map[string]string{segmentOf(log, 1, 2).File: segment, log: long + "a\nbc\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for most, want := range map[int64]string{
		0: "", 1: "", 2: "", 3: "bc\n", 4: "bc\n", 5: "a\nbc\n", 6: "a\nbc\n", 10_005: "a\nbc\n", 10_006: long + "a\nbc\n",
		10_016: `{"seq":2,` + "\n" + long + "a\nbc\n", 10_025: `{"seq":2,` + "\n" + long + "a\nbc\n", 10_026: segment + long + "a\nbc\n", 1 << 30: segment + long + "a\nbc\n",
	} {
		if got := read(most); got != want {
			t.Errorf("of %d bytes: %d bytes, want %d", most, len(got), len(want))
		}
	}
}
