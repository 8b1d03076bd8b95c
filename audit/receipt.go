package audit

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// A Receipt proves that a line is in the log that a checkpoint is of, to whoever knows
// the log's public key, and needs nothing else.
//
// It is a text as c2sp.org/tlog-proof has it: the line itself is its extra data, then
// the line's index, which is its number less one, the hashes that lead from the line to
// the checkpoint's root, an empty line, and the signed checkpoint.
type Receipt struct {
	Seq        uint64
	Line       []byte // without its newline
	Checkpoint Checkpoint
	Signed     []byte // the checkpoint with its signatures, witnesses' among them
}

// ReceiptHead is the first line of every receipt.
const ReceiptHead = "c2sp.org/tlog-proof@v1\n"

// maxReceipt bounds one: a line in base64, 63 hashes, a checkpoint.
const maxReceipt = maxLine/3*4 + maxNote + 8<<10

// Prove makes the receipt of a line of the log in that file, by its last checkpoint, or
// by one that witnesses have cosigned, if one has the line.
func Prove(log string, line Sequenced, key string) ([]byte, error) {
	signed, c, err := checkpointOver(log, line.Seq, key)
	switch {
	case err != nil:
		return nil, err
	case line.Seq == 0 || line.Seq > c.Size:
		return nil, fmt.Errorf("the last checkpoint is of %d lines, and this is line %d: try again in a second", c.Size, line.Seq)
	}
	t, err := readTree(TreeFile(log), c.Size)
	if err != nil {
		return nil, err
	}
	defer t.f.Close()
	proof, err := tlog.ProveRecord(int64(c.Size), int64(line.Seq-1), t)
	if err == nil {
		err = tlog.CheckRecord(proof, int64(c.Size), c.Root, int64(line.Seq-1), tlog.RecordHash(line.Line))
	}
	if err != nil {
		return nil, fmt.Errorf("the tree %s does not lead from line %d to the checkpoint: %w. Stop OpenLeash, remove the tree, and it is made again at the next start", TreeFile(log), line.Seq, err)
	}
	return receipt(line, proof, signed), nil
}

// checkpointOver is the checkpoint that a line is best proved by.
func checkpointOver(log string, seq uint64, key string) (signed []byte, c Checkpoint, err error) {
	cosigned, err := os.ReadFile(CosignedFile(log))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, c, fmt.Errorf("reading the audit log's cosigned checkpoints: %w", err)
	}
	for _, piece := range SplitKept(cosigned) {
		if c, err = OpenCheckpoint(piece.Signed, key); err == nil && c.Size >= seq {
			return piece.Signed, c, nil
		}
	}
	tip, err := ReadTip(log, key)
	return tip.Signed, tip.Checkpoint, err
}

func receipt(line Sequenced, proof tlog.RecordProof, signed []byte) []byte {
	b := []byte(ReceiptHead)
	b = fmt.Appendf(b, "extra %s\nindex %d\n", base64.StdEncoding.EncodeToString(line.Line), line.Seq-1)
	for _, h := range proof {
		b = fmt.Appendf(b, "%s\n", h)
	}
	return append(append(b, '\n'), signed...)
}

// OpenReceipt reads a receipt and verifies it with the log's public key.
func OpenReceipt(text []byte, key string) (Receipt, error) {
	if len(text) > maxReceipt {
		return Receipt{}, fmt.Errorf("a receipt has at most %d bytes, this has %d", maxReceipt, len(text))
	}
	head, signed, found := strings.Cut(string(text), "\n\n")
	body, isReceipt := strings.CutPrefix(head+"\n", ReceiptHead)
	if !found || !isReceipt {
		return Receipt{}, fmt.Errorf("want a receipt, which begins with %q, got %.40q", ReceiptHead, text)
	}
	c, err := OpenCheckpoint([]byte(signed), key)
	if err != nil {
		return Receipt{}, fmt.Errorf("its checkpoint: %w", err)
	}
	line, index, proof, err := parseProof(body)
	if err != nil {
		return Receipt{}, err
	}
	r := Receipt{uint64(index) + 1, line, c, []byte(signed)}
	if r.Seq > c.Size {
		return Receipt{}, fmt.Errorf("it is for line %d, and its checkpoint is of %d", r.Seq, c.Size)
	}
	if err := tlog.CheckRecord(proof, int64(c.Size), c.Root, index, tlog.RecordHash(line)); err != nil {
		return Receipt{}, errors.New("its line is not in the log of its checkpoint: the hashes do not lead from it to the root")
	}
	if seq, _, err := parseLine(line); err != nil || seq != r.Seq {
		return Receipt{}, fmt.Errorf("its line says that it is entry %d, and it is line %d of the log", seq, r.Seq)
	}
	return r, nil
}

// parseProof reads "extra BASE64", "index N" and the hashes, each written in the one
// way in which it can be.
func parseProof(body string) (line []byte, index int64, proof tlog.RecordProof, err error) {
	lines := strings.Split(strings.TrimSuffix(body, "\n"), "\n")
	if len(lines) < 2 || len(lines) > 2+63 {
		return nil, 0, nil, fmt.Errorf("want the lines extra, index and at most 63 hashes, got %d lines", len(lines))
	}
	extra, isExtra := strings.CutPrefix(lines[0], "extra ")
	if line, err = base64.StdEncoding.Strict().DecodeString(extra); err != nil || !isExtra {
		return nil, 0, nil, fmt.Errorf("want the entry as extra and base64, got %.60q", lines[0])
	}
	number, isIndex := strings.CutPrefix(lines[1], "index ")
	if index, err = strconv.ParseInt(number, 10, 64); err != nil || !isIndex || index < 0 || strconv.FormatInt(index, 10) != number {
		return nil, 0, nil, fmt.Errorf("want index and a number, got %.60q", lines[1])
	}
	for _, text := range lines[2:] {
		h, err := tlog.ParseHash(text)
		if err != nil || h.String() != text {
			return nil, 0, nil, fmt.Errorf("want a hash of 32 bytes in base64, got %.60q", text)
		}
		proof = append(proof, h)
	}
	return line, index, proof, nil
}
