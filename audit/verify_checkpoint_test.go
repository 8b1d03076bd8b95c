package audit

import (
	"slices"
	"strings"
	"testing"
)

// anew is a log whose lines from number from on were written again: a chain in itself.
func anew(t *testing.T, lines []Sequenced, from int) []Sequenced {
	t.Helper()
	other := slices.Clone(lines)
	for i := from - 1; i < len(other); i++ {
		prev := [32]byte{}
		if i > 0 {
			prev = other[i-1].Hash
		}
		l, err := place(uint64(i+1), prev, entry(t, 1000+i))
		if err != nil {
			t.Fatal(err)
		}
		other[i] = l
	}
	return other
}

func at(lines []Sequenced, size int) Checkpoint {
	return Checkpoint{"openleash/test", uint64(size), rootOf(lines[:size])}
}

// What the chain cannot tell, checkpoints tell.
func TestVerifyAgainstCheckpoints(t *testing.T) {
	log := chain(t, 20)
	rechained := anew(t, log, 12)
	none := []string(nil)
	for name, c := range map[string]struct {
		log   []Sequenced
		known []Checkpoint
		want  []string
	}{
		"whole, known in part":        {log, []Checkpoint{at(log, 7)}, none},
		"whole, known at each size":   {log, []Checkpoint{at(log, 20), at(log, 1), at(log, 13), at(log, 13), at(log, 0)}, none},
		"an empty log":                {nil, []Checkpoint{at(log, 0)}, none},
		"chained anew after it":       {rechained, []Checkpoint{at(log, 11)}, none},
		"chained anew":                {rechained, []Checkpoint{at(log, 11), at(log, 15)}, []string{"line 15: the first 15 lines are not those of the checkpoint: after line 11 they were changed and chained anew, or the checkpoint is of another log"}},
		"the last line written anew":  {anew(t, log, 20), []Checkpoint{at(log, 20)}, []string{"line 20: the first 20 lines are not those of the checkpoint: after line 0 they were changed and chained anew, or the checkpoint is of another log"}},
		"a fork of the same size":     {log, []Checkpoint{at(rechained, 15), at(log, 15)}, []string{"line 15: two checkpoints of the first 15 lines disagree: there are two logs of this name, and one was shown to some, the other to others"}},
		"a fork of different sizes":   {log, []Checkpoint{at(log, 15), at(rechained, 16)}, []string{"line 16: the first 16 lines are not those of the checkpoint: after line 15 they were changed and chained anew, or the checkpoint is of another log"}},
		"cut off below a checkpoint":  {log[:9], []Checkpoint{at(log, 7), at(log, 12)}, []string{"line 10: the end was cut off: entries 10 to 12 are missing"}},
		"cut off above a checkpoint":  {log[:9], []Checkpoint{at(log, 9)}, none},
		"all of it cut off":           {nil, []Checkpoint{at(log, 3)}, []string{"line 1: the end was cut off: entries 1 to 3 are missing"}},
		"an empty tree of another":    {log, []Checkpoint{{"openleash/test", 0, [32]byte{1}}}, []string{"line 0: the first 0 lines are not those of the checkpoint: after line 0 they were changed and chained anew, or the checkpoint is of another log"}},
		"a gap is the gap's fault":    {slices.Delete(slices.Clone(log), 4, 5), []Checkpoint{at(log, 15)}, []string{"line 5: entry 5 is missing before this line"}},
		"a copy is the copy's fault":  {slices.Insert(slices.Clone(log), 5, log[4]), []Checkpoint{at(log, 15)}, []string{"line 6: a second line says that it is entry 5"}},
		"a move is the move's fault":  {append(slices.Clone(log[:4]), append([]Sequenced{log[5], log[4]}, log[6:]...)...), []Checkpoint{at(log, 15)}, []string{"line 5: the entries from here on are not in their order: entry 5 comes later, in line 6"}},
		"the last line of it missing": {slices.Delete(slices.Clone(log), 14, 15), []Checkpoint{at(log, 15)}, []string{"line 15: entry 15 is missing before this line"}},
	} {
		text := strings.TrimPrefix(file(text(c.log)), "\n")
		r, err := Verify(strings.NewReader(text), 0, "", c.known...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var got []string
		for _, f := range r.Faults {
			got = append(got, f.String())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s:\n got %q\nwant %q", name, got, c.want)
		}
	}
}

// Each line is edited in its turn: the chain names it, and what the chain cannot see,
// the last line, the checkpoint does.
func TestVerifyEachEditAgainstACheckpoint(t *testing.T) {
	log := chain(t, 9)
	for i := range log {
		lines := text(log)
		lines[i] = strings.Replace(lines[i], "number", "numbed", 1)
		r, err := Verify(strings.NewReader(file(lines)), 0, "", at(log, 9))
		if err != nil || len(r.Faults) != 1 || r.Faults[0].Line != i+1 {
			t.Errorf("line %d: %v, %v", i+1, r.Faults, err)
		}
	}
}

func TestRangeTree(t *testing.T) {
	log := chain(t, 70)
	var tree rangeTree
	for i, l := range log {
		if got, want := tree.root(), rootOf(log[:i]); got != want {
			t.Fatalf("%d leaves: %x, want %x", i, got, want)
		}
		tree.add(l.Line)
	}
}
