package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/openleash/openleash-go/internal/jsontext"
)

const (
	seqHead  = `{"seq":`
	prevHead = `,"prev":"`
	sumHead  = "sha256:"

	// maxLine bounds a line, so that a hostile file cannot fill the memory.
	maxLine = 16 << 20
)

// sum writes a hash as the log does.
func sum(hash [32]byte) string { return sumHead + hex.EncodeToString(hash[:]) }

// parseSum reads "sha256:HEX", lower case only.
func parseSum(s string) (hash [32]byte, ok bool) {
	digits, ok := strings.CutPrefix(s, sumHead)
	if !ok || len(digits) != 64 || strings.ToLower(digits) != digits {
		return hash, false
	}
	_, err := hex.Decode(hash[:], []byte(digits))
	return hash, err == nil
}

// place makes the line of an entry: number seq, after the line that has the
// hash prev.
func place(seq uint64, prev [32]byte, entry []byte) (Sequenced, error) {
	line := make([]byte, 0, len(seqHead)+20+len(prevHead)+len(sumHead)+64+2+len(entry))
	line = append(strconv.AppendUint(append(line, seqHead...), seq, 10), prevHead...)
	line = append(hex.AppendEncode(append(line, sumHead...), prev[:]), '"')
	if !bytes.Equal(entry, []byte("{}")) {
		line = append(line, ',')
	}
	line = append(line, entry[min(1, len(entry)):]...)
	if _, _, err := parseLine(line); err != nil || !bytes.HasPrefix(entry, []byte("{")) {
		return Sequenced{}, fmt.Errorf("entry %d cannot be a line of the log: want a JSON object on one line, got %.80q", seq, entry)
	}
	return Sequenced{Seq: seq, Line: line, Hash: sha256.Sum256(line)}, nil
}

// parseLine reads the place of a line, strictly, and checks that the whole of
// it is one JSON object.
func parseLine(line []byte) (seq uint64, prev [32]byte, err error) {
	if len(line) > maxLine {
		return 0, prev, fmt.Errorf("the line is longer than %d bytes", maxLine)
	}
	rest, ok := bytes.CutPrefix(line, []byte(seqHead))
	if !ok {
		return 0, prev, fmt.Errorf(`the line does not begin with %s`, seqHead)
	}
	end := bytes.IndexByte(rest, ',')
	if end < 0 {
		return 0, prev, errors.New(`no "prev" after "seq"`)
	}
	if seq, ok = parseSeq(rest[:end]); !ok {
		return 0, prev, fmt.Errorf(`"seq": want a whole number from 1, got %.30q`, rest[:end])
	}
	rest, ok = bytes.CutPrefix(rest[end:], []byte(prevHead))
	if !ok {
		return 0, prev, errors.New(`no "prev" after "seq"`)
	}
	digits, rest, _ := bytes.Cut(rest, []byte(`"`))
	if prev, ok = parseSum(string(digits)); !ok {
		return 0, prev, fmt.Errorf(`"prev": want "sha256:" and 64 lower-case hex digits, got %.80q`, digits)
	}
	return seq, prev, checkRest(line, rest)
}

// parseSeq reads a number as strconv writes it, from 1 to the largest int64
// (what every reader and every store can hold).
func parseSeq(b []byte) (uint64, bool) {
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil || n < 1 || strconv.FormatInt(n, 10) != string(b) {
		return 0, false
	}
	return uint64(n), true
}

// checkRest looks at what follows "prev".
func checkRest(line, rest []byte) error {
	switch {
	case !bytes.HasPrefix(rest, []byte(`,"`)) && !bytes.Equal(rest, []byte("}")):
		return errors.New(`after "prev": want the entry's members`)
	case bytes.IndexByte(line, '\n') >= 0 || !jsontext.Valid(line) || line[len(line)-1] != '}':
		return errors.New("the line is not one JSON object")
	case repeats(rest):
		return errors.New(`"seq" or "prev" comes a second time`)
	}
	return nil
}

// repeats reports whether the members after the first two name a place again:
// readers that keep the last of two equal names would see another one.
func repeats(rest []byte) bool {
	// An escape could spell the names; the writer never writes one there.
	if !bytes.Contains(rest, []byte(`"seq"`)) && !bytes.Contains(rest, []byte(`"prev"`)) && !bytes.Contains(rest, []byte(`\u00`)) {
		return false
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(append([]byte(`{"":0`), rest...), &members); err != nil {
		return true
	}
	return members["seq"] != nil || members["prev"] != nil
}
