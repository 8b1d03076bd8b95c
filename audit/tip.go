package audit

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/mod/sumdb/tlog"
)

// A Tip is the last checkpoint of a log as its file has it, with the tree that leads to
// it from any earlier one: what a witness gets to see.
type Tip struct {
	Checkpoint
	Signed    []byte
	key, tree string
}

// ReadTip reads the last checkpoint of the log in that file, which the key has signed.
// The error wraps fs.ErrNotExist when there is none yet.
func ReadTip(log, key string) (Tip, error) {
	file := CheckpointFile(log)
	signed, err := os.ReadFile(file)
	if err != nil {
		return Tip{}, fmt.Errorf("reading the audit log's checkpoint: %w", err)
	}
	c, err := OpenCheckpoint(signed, key)
	if err != nil {
		return Tip{}, fmt.Errorf("the audit log's checkpoint %s: %w", file, err)
	}
	return Tip{c, signed, key, TreeFile(log)}, nil
}

// Open reads another checkpoint of the same log.
func (t Tip) Open(signed []byte) (Checkpoint, error) { return OpenCheckpoint(signed, t.key) }

// Since proves that the log of that size has become this one (RFC 6962, 2.1.2): the
// hashes, and the root that it had then. Of nothing, and of itself, there is nothing to
// prove.
func (t Tip) Since(size uint64) (proof tlog.TreeProof, old [32]byte, err error) {
	if size > t.Size {
		return nil, old, fmt.Errorf("it knows %d entries of the log, which has %d: was an older log put back?", size, t.Size)
	}
	tree, err := readTree(t.tree, t.Size)
	if err != nil {
		return nil, old, err
	}
	defer tree.f.Close()
	if old, err = tlog.TreeHash(int64(size), tree); err != nil || size == 0 {
		return nil, old, err
	}
	if size < t.Size {
		if proof, err = tlog.ProveTree(int64(t.Size), int64(size), tree); err == nil {
			err = tlog.CheckTree(proof, int64(t.Size), t.Root, int64(size), old)
		}
	} else if old != t.Root {
		err = errors.New("its root is another")
	}
	if err != nil {
		return nil, old, fmt.Errorf("the tree %s does not lead from %d entries to the checkpoint: %w. Stop OpenLeash, remove the tree, and it is made again at the next start", t.tree, size, err)
	}
	return proof, old, nil
}

// Extends reports whether the log still begins with what an earlier checkpoint of it is of.
func (t Tip) Extends(c Checkpoint) error {
	_, root, err := t.Since(c.Size)
	if err == nil && root != c.Root {
		err = fmt.Errorf("it knows the first %d entries of the log otherwise than they are now: they were changed, and chained anew", c.Size)
	}
	return err
}
