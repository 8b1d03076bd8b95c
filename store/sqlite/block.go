package sqlite

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"
)

// A record of the journal is what one turn has appended: entries, in whole
// blocks of its own. A block is never written again while it is needed, so a
// write that is torn cannot harm a record before it. Numbers are little-endian:
//
//	at  size
//	 0   4   CRC-32C of all that follows, as far as it is used
//	 4   8   the block's number, from 1; its place in the file is number mod blocks
//	12   2   which block of its record it is, from 0; 65535: the record is void
//	14   2   how many blocks of its record follow
//	16   2   how many bytes after the head are used
//	18   …   the record's bytes, going on in the next block: for each entry its
//	         length (uvarint) and its body
const (
	blockSize = 4096
	blockHead = 18
	blockRoom = blockSize - blockHead
)

// block is the head of a block.
type block struct {
	sum             uint32
	number          uint64
	at, left, bytes uint16
}

func readHead(b []byte) block {
	return block{
		binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint64(b[4:]),
		binary.LittleEndian.Uint16(b[12:]), binary.LittleEndian.Uint16(b[14:]), binary.LittleEndian.Uint16(b[16:]),
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sumOf is the sum that a block should have; bytes is within the block.
func sumOf(b []byte, bytes uint16) uint32 {
	return crc32.Checksum(b[4:blockHead+int(bytes)], castagnoli)
}

// blocksFor is how many blocks a record of that many bytes takes.
func blocksFor(bytes int) int { return max(1, (bytes+blockRoom-1)/blockRoom) }

// appendRecord appends to buf the blocks, from number on, of a record.
func appendRecord(buf []byte, number uint64, payload []byte) []byte {
	blocks := blocksFor(len(payload))
	for at := range blocks {
		n := min(len(payload), blockRoom)
		head := block{number: number + uint64(at), at: uint16(at), left: uint16(blocks - 1 - at), bytes: uint16(n)}
		buf = head.append(buf, payload[:n])
		payload = payload[n:]
	}
	return buf
}

// append appends a whole block.
func (h block) append(buf, payload []byte) []byte {
	start := len(buf)
	buf = slices.Grow(buf, blockSize)[:start+blockSize]
	b := buf[start:]
	clear(b[blockHead+len(payload):])
	binary.LittleEndian.PutUint64(b[4:], h.number)
	binary.LittleEndian.PutUint16(b[12:], h.at)
	binary.LittleEndian.PutUint16(b[14:], h.left)
	binary.LittleEndian.PutUint16(b[16:], h.bytes)
	copy(b[blockHead:], payload)
	binary.LittleEndian.PutUint32(b, sumOf(b, h.bytes))
	return buf
}

// voidBlock is what takes the place of a record that could not be synced. It has
// the number all the same: a process that comes back after a round of the ring
// must see how far the others are.
func voidBlock(number uint64) []byte {
	return block{number: number, at: 1<<16 - 1}.append(nil, nil)
}

// appendEntry appends an entry to a record's bytes.
func appendEntry(payload, body []byte) []byte {
	return append(binary.AppendUvarint(payload, uint64(len(body))), body...)
}

var errTorn = errors.New("a record of the journal is damaged")

// readRecord appends to payload the bytes of the record that begins with block
// number and of which b is all blocks.
func readRecord(payload []byte, number uint64, b []byte) ([]byte, error) {
	for at := range len(b) / blockSize {
		block, left := b[at*blockSize:][:blockSize], len(b)/blockSize-1-at
		head := readHead(block)
		if head.number != number+uint64(at) || int(head.at) != at || int(head.left) != left || head.bytes > blockRoom || head.sum != sumOf(block, head.bytes) {
			return nil, errTorn
		}
		payload = append(payload, block[blockHead:][:head.bytes]...)
	}
	return payload, nil
}

// split takes a record's bytes apart into the entries' bodies.
func split(payload []byte) (bodies [][]byte, err error) {
	for len(payload) > 0 {
		size, n := binary.Uvarint(payload)
		if n <= 0 || size > uint64(len(payload)-n) {
			return nil, errTorn
		}
		bodies = append(bodies, payload[n:][:size:size])
		payload = payload[n+int(size):]
	}
	return bodies, nil
}
