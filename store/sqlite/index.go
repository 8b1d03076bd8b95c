package sqlite

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"time"

	"github.com/openleash/openleash-go/audit"
)

// The log is looked through by terms: "owner=ID", "agent=NAME", "event=NAME",
// "decision=ALLOW", "server=NAME", "tool=NAME". Lines come in the order of their
// numbers and are never changed, so what a term is true of is kept as sets, one for
// each block of lines: a batch of 500 lines touches some twenty rows, not thousands,
// and a set of a block is read and intersected with others at once. There are too many
// decision_ids for that; a block has a sum of each.
//
// Lines get their place and are indexed in one transaction, unless some before them are
// not: then somebody is at it (indexRest), and Search looks through the rest itself.

// blockLines is how many lines a block has: block b has those from b*blockLines on.
const blockLines = 4096

// A lineSet says which lines of a block.
type lineSet [blockLines / 64]uint64

func (l *lineSet) add(i int) { l[i/64] |= 1 << (i % 64) }

// someLines are those from one to another.
func someLines(from, to int) *lineSet {
	l := new(lineSet)
	for i := from / 64; i <= to/64; i++ {
		l[i] = math.MaxUint64
	}
	l[from/64] &= math.MaxUint64 << (from % 64)
	l[to/64] &= math.MaxUint64 >> (63 - to%64)
	return l
}

func (l *lineSet) and(other *lineSet) {
	for i := range l {
		l[i] &= other[i]
	}
}

func (l *lineSet) or(other *lineSet) {
	for i := range l {
		l[i] |= other[i]
	}
}

// numbers are the lines, as offsets in the block, in order.
func (l *lineSet) numbers() (all []int) {
	for i, word := range l {
		for ; word != 0; word &= word - 1 {
			all = append(all, i*64+bits.TrailingZeros64(word))
		}
	}
	return all
}

// encode writes few lines by their numbers, two bytes each, and many as a bit each.
func (l *lineSet) encode() []byte {
	numbers := l.numbers()
	if len(numbers)*2 < blockLines/8 {
		b := make([]byte, 0, 2*len(numbers))
		for _, n := range numbers {
			b = binary.BigEndian.AppendUint16(b, uint16(n))
		}
		return b
	}
	b := make([]byte, 0, blockLines/8)
	for _, word := range l {
		b = binary.BigEndian.AppendUint64(b, word)
	}
	return b
}

func decodeLines(b []byte) *lineSet {
	l := new(lineSet)
	if len(b) == blockLines/8 {
		for i := range l {
			l[i] = binary.BigEndian.Uint64(b[8*i:])
		}
		return l
	}
	for ; len(b) >= 2; b = b[2:] {
		l.add(int(binary.BigEndian.Uint16(b) % blockLines))
	}
	return l
}

// maxTerm bounds a term, since some come from servers. What two long ones share is told
// apart by the lines.
const maxTerm = 200

// A decision_id is kept as three bytes of its sum, with the line's two, in one of
// idBuckets: so a look reads a small part of them all. What two ids have in common is
// told apart by the lines.
const (
	idBuckets = 32
	idBytes   = 5
)

func idSum(id []byte) (bucket int64, sum [3]byte) {
	hash := sha256.Sum256(id)
	return int64(hash[0] % idBuckets), [3]byte(hash[1:4])
}

// idsIn are the lines, of those that are kept together, that may have an id.
func idsIn(ids []byte, sum [3]byte) *lineSet {
	l := new(lineSet)
	for ; len(ids) >= idBytes; ids = ids[idBytes:] {
		if [3]byte(ids[2:idBytes]) == sum {
			l.add(int(binary.BigEndian.Uint16(ids) % blockLines))
		}
	}
	return l
}

// indexed is what lines that follow each other add to the index.
type indexed struct {
	first, last uint64
	blocks      []*indexedBlock
}

type indexedBlock struct {
	block        int64
	terms        map[string]*lineSet
	ids          [idBuckets][]byte
	since, until int64
	term         []byte // used again and again
}

// index reads lines.
func index(lines []audit.Sequenced) *indexed {
	x := &indexed{first: lines[0].Seq, last: lines[len(lines)-1].Seq}
	for _, l := range lines {
		about, _ := audit.ReadAbout(l.Line)
		x.block(l.Seq).add(l.Seq, about)
	}
	return x
}

// block is the part for the block of a line.
func (x *indexed) block(seq uint64) *indexedBlock {
	number := int64(seq / blockLines)
	if n := len(x.blocks); n > 0 && x.blocks[n-1].block == number {
		return x.blocks[n-1]
	}
	b := &indexedBlock{block: number, terms: map[string]*lineSet{}, since: math.MaxInt64, until: math.MinInt64}
	x.blocks = append(x.blocks, b)
	return b
}

func (b *indexedBlock) add(seq uint64, about audit.About) {
	at := int(seq % blockLines)
	b.mark(at, "owner=", about.OwnerID)
	b.mark(at, "event=", about.Event)
	if family, _, dotted := bytes.Cut(about.Event, []byte(".")); dotted {
		b.mark(at, "event=", family)
	}
	b.markUnlessEmpty(at, "agent=", about.Agent())
	b.markUnlessEmpty(at, "decision=", about.Decision)
	b.markUnlessEmpty(at, "server=", about.Server)
	b.markUnlessEmpty(at, "tool=", about.Tool)
	if len(about.DecisionID) > 0 {
		bucket, sum := idSum(about.DecisionID)
		b.ids[bucket] = append(binary.BigEndian.AppendUint16(b.ids[bucket], uint16(at)), sum[:]...)
	}
	if ts, err := time.Parse(time.RFC3339, string(about.TS)); err == nil {
		b.since, b.until = min(b.since, ts.UnixMilli()), max(b.until, ts.UnixMilli())
	}
}

// mark says that a term is true of a line. It makes a text of the term only for the
// first line that has it: there are thousands of lines a second.
func (b *indexedBlock) mark(at int, kind string, value []byte) {
	b.term = append(append(b.term[:0], kind...), value[:min(len(value), maxTerm)]...)
	lines := b.terms[string(b.term)]
	if lines == nil {
		lines = new(lineSet)
		b.terms[string(b.term)] = lines
	}
	lines.add(at)
}

func (b *indexedBlock) markUnlessEmpty(at int, kind string, value []byte) {
	if len(value) > 0 {
		b.mark(at, kind, value)
	}
}

const selectIndexed = "SELECT upto FROM log_indexed"

// addIndex adds lines to the index if they are the next; ok is false when they are not.
func (t *tx) addIndex(x *indexed) (ok bool, err error) {
	changed, err := t.exec("UPDATE log_indexed SET upto = ?2 WHERE upto < ?1 AND NOT EXISTS (SELECT 1 FROM lines WHERE seq > upto AND seq < ?1)",
		int64(x.first), int64(x.last))
	if err != nil || changed == 0 {
		return false, err
	}
	for _, b := range x.blocks {
		if err := t.addBlock(b); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (t *tx) addBlock(b *indexedBlock) error {
	if err := t.addTimes(b); err != nil {
		return err
	}
	for term, lines := range b.terms {
		before, err := t.blob("SELECT lines FROM log_index WHERE term = ? AND block = ?", term, b.block)
		if err != nil {
			return err
		}
		lines.or(decodeLines(before))
		if _, err := t.exec("INSERT INTO log_index (term, block, lines) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET lines = excluded.lines",
			term, b.block, lines.encode()); err != nil {
			return err
		}
	}
	for bucket, ids := range b.ids {
		if len(ids) == 0 {
			continue
		}
		if _, err := t.exec("INSERT INTO log_ids (bucket, block, ids) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET ids = CAST(ids || excluded.ids AS BLOB)",
			bucket, b.block, ids); err != nil {
			return err
		}
	}
	return nil
}

// blob reads what one row has; nothing if it is not there.
func (t *tx) blob(query string, args ...any) ([]byte, error) {
	b, err := inTx(t, errNone, func(scan scan) (b []byte, err error) {
		err = scan(&b)
		return b, err
	}, query, args...)
	if errors.Is(err, errNone) {
		err = nil
	}
	return b, err
}

// addTimes adds to what is kept of a block. With a new one, what is kept of lines that
// the log has no more is let go.
func (t *tx) addTimes(b *indexedBlock) error {
	changed, err := t.exec("UPDATE log_blocks SET since = min(since, ?2), until = max(until, ?3) WHERE block = ?1", b.block, b.since, b.until)
	if err != nil || changed > 0 {
		return err
	}
	if _, err := t.exec("INSERT INTO log_blocks (block, since, until) VALUES (?, ?, ?)", b.block, b.since, b.until); err != nil {
		return err
	}
	first, err := inTx(t, errNone, readID, selectFirst)
	for _, forget := range forgetting {
		if err == nil {
			_, err = t.exec(forget, first/blockLines)
		}
	}
	return err
}

// forgetting lets go what is kept of blocks before one.
var forgetting = []string{
	"DELETE FROM log_index WHERE block < ?",
	"DELETE FROM log_blocks WHERE block < ?",
	fmt.Sprintf("WITH RECURSIVE buckets (n) AS (VALUES (0) UNION ALL SELECT n + 1 FROM buckets WHERE n < %d) "+
		"DELETE FROM log_ids WHERE (bucket, block) IN (SELECT n, block FROM buckets JOIN log_ids ON bucket = n AND block < ?)", idBuckets-1),
}

const (
	selectFirst = "SELECT coalesce(min(seq), 0) FROM lines"
	selectLast  = "SELECT coalesce(max(seq), 0) FROM lines"
)

// indexStep is how many lines are indexed at once that were there before.
const indexStep = 2000

// An indexer indexes what was there before, beside everything else.
type indexer struct {
	asked  chan struct{}
	cancel context.CancelFunc
	ended  chan struct{}
}

func startIndexer(run func(ctx context.Context, asked <-chan struct{})) *indexer {
	ctx, cancel := context.WithCancel(context.Background())
	x := &indexer{asked: make(chan struct{}, 1), cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(x.ended)
		run(ctx, x.asked)
	}()
	return x
}

// ask says that there is something to index.
func (x *indexer) ask() {
	select {
	case x.asked <- struct{}{}:
	default:
	}
}

// stop waits for what it does, but not for another process that keeps the write lock.
func (x *indexer) stop() {
	x.cancel()
	select {
	case <-x.ended:
	case <-time.After(closeWait):
	}
}

// indexRest indexes what is not, in steps, until nothing is left; then again whenever
// it is asked. A program before this one has left all of its log, which may take a while.
func (s *Store) indexRest(ctx context.Context, asked <-chan struct{}) {
	for {
		more, err := s.indexSome(ctx)
		switch {
		case err != nil:
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
				return
			}
		case !more:
			select {
			case <-asked:
			case <-ctx.Done():
				return
			}
		}
	}
}

func (s *Store) indexSome(ctx context.Context) (more bool, err error) {
	upto, err := one(ctx, s, errNone, readID, selectIndexed)
	if err != nil {
		return false, err
	}
	lines, err := s.Lines(ctx, uint64(upto)+1, indexStep)
	if err != nil || len(lines) == 0 {
		return false, err
	}
	x := index(lines)
	err = s.write(ctx, func(t *tx) error {
		_, err := t.addIndex(x) // not ok: another process was faster
		return err
	})
	return true, err
}
