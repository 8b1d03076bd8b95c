package diff

import (
	"strings"
	"testing"
)

func TestLines(t *testing.T) {
	long := strings.Repeat("same\n", 20)
	for name, tt := range map[string]struct{ old, new, want string }{
		"all new":       {"", "a\nb\n", "+ a\n+ b\n"},
		"all gone":      {"a\n", "", "- a\n"},
		"nothing":       {"", "", ""},
		"the same":      {"a\nb\n", "a\nb\n", "… 2 lines that stay\n"},
		"a line":        {"a\nb\nc\n", "a\nB\nc\n", "  a\n- b\n+ B\n  c\n"},
		"no line end":   {"a\nb", "a\nb\n", "  a\n- b\n+ b\n"},
		"what is alike": {long + "x\n" + long, long + "y\n" + long, "… 18 lines that stay\n  same\n  same\n- x\n+ y\n  same\n  same\n… 18 lines that stay\n"},
		"far apart":     {"x\n" + long + "y\n", "X\n" + long + "Y\n", "- x\n+ X\n  same\n  same\n… 16 lines that stay\n  same\n  same\n- y\n+ Y\n"},
	} {
		pieces := Lines(tt.old, tt.new)
		var old, new, got strings.Builder
		for _, p := range pieces {
			if p.Op != Insert {
				old.WriteString(p.Text)
			}
			if p.Op != Delete {
				new.WriteString(p.Text)
			}
		}
		if old.String() != tt.old || new.String() != tt.new {
			t.Errorf("%s: the pieces are %q, and %q", name, old.String(), new.String())
		}
		for _, p := range Fold(pieces, 2) {
			got.WriteString(p.Marked())
		}
		if got.String() != tt.want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got.String(), tt.want)
		}
	}
}
