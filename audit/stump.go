package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// A Stump is what is left of a log's first lines when they have been removed: the hashes
// of the largest whole subtrees that they made up, and a checkpoint of them. With it the
// lines after them are verified as well as before: the root of every later checkpoint
// follows from these hashes and those lines.
//
// It is a text: the line StumpHead, the hashes in base64 from the largest subtree to the
// smallest (as many as the size has ones in binary), an empty line, the signed checkpoint.
type Stump struct {
	Checkpoint Checkpoint
	tree       rangeTree
}

// StumpHead is the first line of every stump.
const StumpHead = "openleash/audit-stump@v1\n"

// StumpFile stands beside a log whose first lines were removed.
func StumpFile(log string) string { return beside(log, ".stump") }

// maxStump bounds one: 63 hashes and a checkpoint.
const maxStump = maxNote + 8<<10

// text writes a stump; signed is its checkpoint.
func (t *rangeTree) text(signed []byte) []byte {
	b := []byte(StumpHead)
	for _, h := range t.parts {
		b = fmt.Appendf(b, "%s\n", h)
	}
	return append(append(b, '\n'), signed...)
}

// OpenStump reads a stump and verifies it with the log's public key.
func OpenStump(text []byte, key string) (Stump, error) {
	if len(text) > maxStump {
		return Stump{}, fmt.Errorf("a stump has at most %d bytes, this has %d", maxStump, len(text))
	}
	head, signed, found := strings.Cut(string(text), "\n\n")
	body, isStump := strings.CutPrefix(head+"\n", StumpHead)
	if !found || !isStump {
		return Stump{}, fmt.Errorf("want a stump, which begins with %q, got %.40q", StumpHead, text)
	}
	c, err := OpenCheckpoint([]byte(signed), key)
	if err != nil {
		return Stump{}, fmt.Errorf("its checkpoint: %w", err)
	}
	s := Stump{c, rangeTree{size: c.Size}}
	for line := range strings.Lines(body) {
		h, err := tlog.ParseHash(strings.TrimSuffix(line, "\n"))
		if err != nil || h.String()+"\n" != line {
			return Stump{}, fmt.Errorf("want a hash of 32 bytes in base64, got %.60q", line)
		}
		s.tree.parts = append(s.tree.parts, h)
	}
	if len(s.tree.parts) != bits.OnesCount64(c.Size) || s.tree.root() != c.Root {
		return Stump{}, fmt.Errorf("its hashes are not those of the %d lines of its checkpoint", c.Size)
	}
	return s, nil
}

// readStump reads the log's own; without one nothing was removed.
func readStump(log string, key *Key) (Stump, error) {
	file := StumpFile(log)
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return Stump{}, nil
	}
	s := Stump{}
	if err == nil {
		s, err = OpenStump(text, key.Public())
	}
	if err != nil {
		return s, fmt.Errorf("the audit log's stump %s: %w. Bring it back from a backup", file, err)
	}
	return s, nil
}

// indexes are where a tree's file has the hashes of a rangeTree of so many leaves.
func indexes(size uint64) (at []int64) {
	for left := uint64(0); left < size; {
		level := bits.Len64(size-left) - 1
		at = append(at, tlog.StoredHashIndex(level, int64(left>>level)))
		left += 1 << level
	}
	return at
}

// first is the rangeTree of the first leaves.
func (t *tree) first(size uint64) (rangeTree, error) {
	parts, err := t.ReadHashes(indexes(size))
	return rangeTree{size, parts}, err
}

// restart begins the file again where the stump ends. What would be before it is not
// known and not needed: all that later lines lead over is in the stump.
func (t *tree) restart(s Stump, writeAt func(f *os.File, b []byte, at int64) (int, error)) error {
	t.size, t.fresh = s.tree.size, nil
	for i, at := range indexes(s.tree.size) {
		if _, err := writeAt(t.f, s.tree.parts[i][:], at*hashSize); err != nil {
			return fmt.Errorf("writing the audit log's tree: %w; make room or repair the disk, it then goes on by itself", err)
		}
	}
	return nil
}
