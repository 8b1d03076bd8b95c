package sqlite

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

// blocksOf is the record of these entries, as it stands in the file.
func blocksOf(number uint64, bodies ...[]byte) []byte {
	var payload []byte
	for _, body := range bodies {
		payload = appendEntry(payload, body)
	}
	return appendRecord(nil, number, payload)
}

func TestRecord(t *testing.T) {
	for _, sizes := range [][]int{{1}, {0}, {0, 0, 1}, {blockRoom - 2}, {blockRoom - 1}, {blockRoom}, {3, 5 * blockSize, 0, 700}} {
		var bodies [][]byte
		total := 0
		for i, size := range sizes {
			bodies = append(bodies, bytes.Repeat([]byte{byte('a' + i)}, size))
			total += len(appendEntry(nil, bodies[i]))
		}
		b := blocksOf(7, bodies...)
		if len(b) != blocksFor(total)*blockSize {
			t.Errorf("%v: %d bytes in %d blocks", sizes, total, len(b)/blockSize)
		}
		payload, err := readRecord(nil, 7, b)
		if err != nil {
			t.Fatalf("%v: %v", sizes, err)
		}
		got, err := split(payload)
		if err != nil || len(got) != len(bodies) {
			t.Fatalf("%v: %d entries, %v", sizes, len(got), err)
		}
		for i := range got {
			if !bytes.Equal(got[i], bodies[i]) {
				t.Errorf("%v: entry %d differs", sizes, i)
			}
		}
	}
}

// One byte changed anywhere that counts, or a block of another place: torn.
func TestRecordDamaged(t *testing.T) {
	whole := blocksOf(7, bytes.Repeat([]byte("x"), 2*blockSize))
	for at := range len(whole) {
		b := bytes.Clone(whole)
		b[at] ^= 0x10
		used := at%blockSize < blockHead+int(readHead(whole[at/blockSize*blockSize:]).bytes)
		if _, err := readRecord(nil, 7, b); used != errors.Is(err, errTorn) {
			t.Fatalf("byte %d changed: %v", at, err)
		}
	}
	if _, err := readRecord(nil, 8, whole); !errors.Is(err, errTorn) {
		t.Errorf("read as record 8: %v", err)
	}
	if _, err := readRecord(nil, 7, whole[:2*blockSize]); !errors.Is(err, errTorn) {
		t.Errorf("without its last block: %v", err)
	}
}

// Blocks of any content, with the right sums: what is read is what was written,
// and nothing else is read at all.
func FuzzRecord(f *testing.F) {
	f.Add(uint64(1), blocksOf(1, []byte("{}")))
	f.Add(uint64(9), blocksOf(9, []byte("{}"), nil, bytes.Repeat([]byte("y"), blockSize)))
	f.Add(uint64(3), voidBlock(3))
	f.Fuzz(func(t *testing.T, number uint64, b []byte) {
		b = bytes.Clone(b[:min(len(b), 4*blockSize)/blockSize*blockSize])
		for at := 0; at < len(b); at += blockSize {
			head := readHead(b[at:])
			binary.LittleEndian.PutUint32(b[at:], sumOf(b[at:], min(head.bytes, blockRoom)))
		}
		payload, err := readRecord(nil, number, b)
		if err != nil || len(b) == 0 {
			return
		}
		for at := 0; at < len(b); at += blockSize {
			head := readHead(b[at:])
			if head.number != number+uint64(at/blockSize) || int(head.at) != at/blockSize || int(head.left) != len(b)/blockSize-1-at/blockSize {
				t.Fatalf("block %d is read as part of record %d: %+v", at/blockSize, number, head)
			}
		}
		again, err := readRecord(nil, number, appendRecord(nil, number, payload))
		if err != nil || !bytes.Equal(payload, again) {
			t.Fatalf("%x came back as %x, %v", payload, again, err)
		}
	})
}

// What is taken apart is all that was there.
func FuzzSplit(f *testing.F) {
	f.Add([]byte{})
	f.Add(appendEntry(appendEntry(nil, []byte(`{"detail":"x"}`)), nil))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, payload []byte) {
		bodies, err := split(payload)
		if err != nil {
			return
		}
		var joined []byte
		total := 0
		for _, body := range bodies {
			joined = appendEntry(joined, body)
			total += len(body)
		}
		again, err := split(joined)
		if err != nil || len(again) != len(bodies) || total > len(payload) {
			t.Fatalf("%d entries of %d bytes from %d; again %d, %v", len(bodies), total, len(payload), len(again), err)
		}
	})
}
