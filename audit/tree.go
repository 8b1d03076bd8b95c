package audit

import (
	"fmt"
	"os"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// A tree is the file of the hashes of the log's Merkle tree: those of its whole
// subtrees, 32 bytes each, in the order of tlog.StoredHashIndex. All of it follows from
// the lines. It is not synced, therefore: what the loss of power took is found by the
// root and made again.
type tree struct {
	f     *os.File
	size  uint64      // leaves
	fresh []tlog.Hash // the last hashes, which are not in the file yet
}

const hashSize = tlog.HashSize

// openTree opens the file as that of a tree of so many leaves at least; it has none if
// it is shorter.
func openTree(file string, size uint64) (*tree, error) {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the audit log's tree: %w", err)
	}
	t := &tree{f: f, size: size}
	if info, err := f.Stat(); err != nil || info.Size() < t.stored()*hashSize {
		t.size = 0
	}
	return t, nil
}

// readTree opens the file for reading what a checkpoint of that size knows; more may
// be written to it meanwhile.
func readTree(file string, size uint64) (*tree, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("opening the audit log's tree: %w", err)
	}
	return &tree{f: f, size: size}, nil
}

// stored is how many hashes the tree has.
func (t *tree) stored() int64 { return tlog.StoredHashCount(int64(t.size)) }

// add makes a line the next leaf.
func (t *tree) add(line []byte) error {
	hashes, err := tlog.StoredHashes(int64(t.size), line, t)
	if err != nil {
		return err
	}
	t.fresh = append(t.fresh, hashes...)
	t.size++
	return nil
}

// flush writes what was added.
func (t *tree) flush(writeAt func(*os.File, []byte, int64) (int, error)) error {
	if len(t.fresh) == 0 {
		return nil
	}
	text := make([]byte, 0, len(t.fresh)*hashSize)
	for _, h := range t.fresh {
		text = append(text, h[:]...)
	}
	if _, err := writeAt(t.f, text, (t.stored()-int64(len(t.fresh)))*hashSize); err != nil {
		return fmt.Errorf("writing the audit log's tree: %w; make room or repair the disk, it then goes on by itself", err)
	}
	t.fresh = t.fresh[:0]
	return nil
}

// root is the hash of the whole tree.
func (t *tree) root() ([32]byte, error) {
	root, err := tlog.TreeHash(int64(t.size), t)
	return root, err
}

// ReadHashes is tlog.HashReader.
func (t *tree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	written := t.stored() - int64(len(t.fresh))
	for i, at := range indexes {
		if at >= written {
			hashes[i] = t.fresh[at-written]
			continue
		}
		if _, err := t.f.ReadAt(hashes[i][:], at*hashSize); err != nil {
			return nil, fmt.Errorf("reading the audit log's tree: %w", err)
		}
	}
	return hashes, nil
}

// A rangeTree is the root of a tree whose leaves come one after the other: the hashes
// of its whole subtrees, from the largest to the smallest.
type rangeTree struct {
	size  uint64
	parts []tlog.Hash
}

func (t *rangeTree) add(line []byte) {
	h := tlog.RecordHash(line)
	for n := t.size; n&1 == 1; n >>= 1 {
		last := len(t.parts) - 1
		h = tlog.NodeHash(t.parts[last], h)
		t.parts = t.parts[:last]
	}
	t.parts = append(t.parts, h)
	t.size++
}

func (t *rangeTree) root() [32]byte {
	if t.size == 0 {
		root, _ := tlog.TreeHash(0, nil)
		return root
	}
	root := t.parts[len(t.parts)-1]
	for _, left := range slices.Backward(t.parts[:len(t.parts)-1]) {
		root = tlog.NodeHash(left, root)
	}
	return root
}
