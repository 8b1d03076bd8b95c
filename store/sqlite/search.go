package sqlite

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/openleash/openleash-go/audit"
)

// Search answers from sources: each knows some of the blocks, in the order of the
// search, and of each the lines that may be meant. What all of them have is read, and
// looked at again: a line that is not meant is never given, whatever an index says.

// A found block: some of its lines.
type found struct {
	block int64
	lines *lineSet
}

// A source gives, of the blocks from one on, in the order of the search, the first that
// it has. It is asked for blocks in that order.
type source interface {
	seek(ctx context.Context, block int64) (f found, ok bool, err error)
}

// search is one Search under way.
type search struct {
	store *Store
	q     audit.Query
	first uint64 // the log's first line, its last that is indexed, and its last
	upto  uint64
	head  uint64
	room  int // bytes that may still be looked at
	page  audit.Page
}

// Search returns a page of the lines that are looked for.
func (s *Store) Search(ctx context.Context, q audit.Query) (audit.Page, error) {
	if _, err := q.Scope.Owner(); err != nil {
		return audit.Page{}, err
	}
	if q.Limit < 1 {
		return audit.Page{}, fmt.Errorf("searching the log: want a limit of at least 1, got %d", q.Limit)
	}
	x := &search{store: s, q: q, room: audit.MaxBatch}
	if err := x.run(ctx); err != nil {
		return audit.Page{}, err
	}
	return x.page, nil
}

func (x *search) run(ctx context.Context) error {
	if err := x.bounds(ctx); err != nil || x.head == 0 {
		return err
	}
	parts := []func(context.Context) error{x.scan, x.lookUp}
	if x.q.OldestFirst {
		slices.Reverse(parts)
	}
	for _, part := range parts {
		if err := part(ctx); err != nil || x.full() {
			return err
		}
	}
	x.page.Next = 0
	return nil
}

// bounds finds where the log begins and ends, and where the search begins.
func (x *search) bounds(ctx context.Context) error {
	for _, b := range []struct {
		to    *uint64
		query string
	}{{&x.first, selectFirst}, {&x.upto, selectIndexed}, {&x.head, selectLast}} {
		n, err := one(ctx, x.store, errNone, readID, b.query)
		if err != nil {
			return err
		}
		*b.to = uint64(n)
	}
	if x.upto < x.first {
		x.upto = max(x.first, 1) - 1 // of what is indexed nothing is left
	}
	x.page.Next = min(x.q.From, math.MaxInt64)
	if !x.q.OldestFirst && (x.page.Next == 0 || x.page.Next > x.head) {
		x.page.Next = x.head
	}
	if x.q.OldestFirst {
		x.page.Next = max(x.page.Next, x.first)
	}
	return nil
}

// full: the page has as many lines as were asked for, or enough was looked at.
func (x *search) full() bool { return len(x.page.Lines) >= x.q.Limit || x.room <= 0 }

// lineCost is what it costs to look at a line, beside its length, in bytes.
const lineCost = 256

// take looks at a line, which is the next.
func (x *search) take(l audit.Sequenced, meant bool) {
	if meant {
		x.page.Lines = append(x.page.Lines, l)
	}
	x.room -= len(l.Line) + lineCost
	if x.page.Next = l.Seq + 1; !x.q.OldestFirst {
		x.page.Next = l.Seq - 1
	}
	if x.page.Next < x.first || x.page.Next > x.head {
		x.page.Next = 0
	}
}

// scan looks through the lines that are not indexed.
func (x *search) scan(ctx context.Context) error {
	for !x.full() && x.page.Next != 0 {
		from, to := max(x.upto+1, x.page.Next), x.head
		if !x.q.OldestFirst {
			from, to = x.upto+1, x.page.Next
		}
		if from > to {
			return nil
		}
		lines, err := x.between(ctx, from, to)
		if err != nil || len(lines) == 0 {
			return err
		}
		for _, l := range lines {
			if x.take(l, x.q.Matches(l.Line)); x.full() {
				return nil
			}
		}
	}
	return nil
}

// between reads some of the lines from one to another, in the order of the search.
func (x *search) between(ctx context.Context, from, to uint64) ([]audit.Sequenced, error) {
	room := min(x.room, audit.MaxBatch/4)
	return listWhile(ctx, x.store, func(l audit.Sequenced) bool { room -= len(l.Line); return room > 0 },
		readLine, x.order(selectBetween), int64(from), int64(to))
}

const selectBetween = selectLines + " WHERE seq BETWEEN ? AND ?"

func (x *search) order(query string) string {
	if x.q.OldestFirst {
		return query + " ORDER BY seq LIMIT 500"
	}
	return query + " ORDER BY seq DESC LIMIT 500"
}

// lookUp takes the lines that the index names.
func (x *search) lookUp(ctx context.Context) error {
	if x.page.Next == 0 || x.page.Next > x.upto && x.q.OldestFirst {
		return nil
	}
	x.page.Next = min(x.page.Next, x.upto)
	sources := x.sources()
	for at := int64(x.page.Next / blockLines); ; {
		f, ok, err := x.meet(ctx, sources, at)
		if err != nil || !ok {
			return err
		}
		if err := x.read(ctx, f); err != nil || x.full() {
			return err
		}
		if at = f.block + 1; !x.q.OldestFirst {
			at = f.block - 1
		}
	}
}

// meet finds the first block from one on that all sources have.
func (x *search) meet(ctx context.Context, sources []source, at int64) (found, bool, error) {
	all := found{at, x.within(at)}
	for i := 0; i < len(sources); {
		f, ok, err := sources[i].seek(ctx, all.block)
		if err != nil || !ok {
			return all, false, err
		}
		if f.block != all.block {
			all, i = found{f.block, x.within(f.block)}, 0
			continue
		}
		all.lines.and(f.lines)
		i++
	}
	return all, true, nil
}

// within are the lines of a block that the search has still before it.
func (x *search) within(block int64) *lineSet {
	from, to := x.first, x.page.Next
	if x.q.OldestFirst {
		from, to = x.page.Next, x.upto
	}
	base := uint64(block) * blockLines
	if from > base+blockLines-1 || to < base {
		return new(lineSet)
	}
	return someLines(int(max(from, base)-base), int(min(to, base+blockLines-1)-base))
}

// read takes the lines of a block that are meant: those that follow each other in one go.
func (x *search) read(ctx context.Context, f found) error {
	numbers := f.lines.numbers()
	if !x.q.OldestFirst {
		slices.Reverse(numbers)
	}
	base := uint64(f.block) * blockLines
	for len(numbers) > 0 && !x.full() {
		run := together(numbers[:min(len(numbers), x.q.Limit-len(x.page.Lines))])
		ends := []int{run[0], run[len(run)-1]}
		lines, err := x.between(ctx, base+uint64(slices.Min(ends)), base+uint64(slices.Max(ends)))
		if err != nil {
			return err
		}
		for _, l := range lines {
			if x.take(l, x.q.Matches(l.Line)); x.full() {
				return nil
			}
		}
		if len(lines) == 0 {
			numbers = numbers[len(run):] // let go meanwhile
		}
		for len(lines) > 0 && len(numbers) > 0 && !x.ahead(base+uint64(numbers[0]), lines[len(lines)-1].Seq) {
			numbers = numbers[1:]
		}
	}
	return nil
}

// together are the first numbers, up to where one is left out.
func together(numbers []int) []int {
	run := 1
	for run < len(numbers) && max(numbers[run]-numbers[0], numbers[0]-numbers[run]) == run {
		run++
	}
	return numbers[:run]
}

// ahead: the search comes to line a after line b.
func (x *search) ahead(a, b uint64) bool {
	if x.q.OldestFirst {
		return a > b
	}
	return a < b
}

// sources are those that have to meet.
func (x *search) sources() []source {
	q, all := x.q, []source{x.times()}
	if owner, _ := q.Scope.Owner(); owner != "" {
		all = append(all, union{x.term("owner", owner), x.term("owner", "")})
	}
	for _, m := range []struct{ kind, value string }{
		{"agent", q.Agent}, {"event", q.Event}, {"decision", q.Decision}, {"server", q.Server}, {"tool", q.Tool},
	} {
		if m.value != "" {
			all = append(all, x.term(m.kind, m.value))
		}
	}
	if q.DecisionID != "" {
		all = append(all, x.ids(q.DecisionID))
	}
	return all
}

// rowsAtOnce are read of a source at a time.
const rowsAtOnce = 16

// rows is a source that a query has.
type rows struct {
	next   func(ctx context.Context, block int64) ([]found, error)
	before func(a, b int64) bool // in the order of the search
	buf    []found
	ended  bool // what is not in buf is not there
}

func (r *rows) seek(ctx context.Context, block int64) (found, bool, error) {
	for len(r.buf) > 0 && r.before(r.buf[0].block, block) {
		r.buf = r.buf[1:]
	}
	if len(r.buf) == 0 && !r.ended {
		var err error
		if r.buf, err = r.next(ctx, block); err != nil {
			return found{}, false, err
		}
		r.ended = len(r.buf) < rowsAtOnce
	}
	if len(r.buf) == 0 {
		return found{}, false, nil
	}
	return r.buf[0], true, nil
}

// rows makes a source of a query.
func (x *search) rows(query string, read func(scan) (found, error), args ...any) *rows {
	query = x.bound(query)
	before := func(a, b int64) bool { return (a < b) == x.q.OldestFirst && a != b }
	return &rows{before: before, next: func(ctx context.Context, block int64) ([]found, error) {
		return list(ctx, x.store, read, query, append(slices.Clone(args), block)...)
	}}
}

// bound lets a query go on with a block.
func (x *search) bound(query string) string {
	if x.q.OldestFirst {
		return query + fmt.Sprintf(" AND block >= ? ORDER BY block LIMIT %d", rowsAtOnce)
	}
	return query + fmt.Sprintf(" AND block <= ? ORDER BY block DESC LIMIT %d", rowsAtOnce)
}

const (
	selectTerm   = "SELECT block, lines FROM log_index WHERE term = ?"
	selectBlocks = "SELECT block FROM log_blocks WHERE true"
	selectTimes  = "SELECT block FROM log_blocks WHERE until >= ? AND since <= ?"
	selectSums   = "SELECT block, ids FROM log_ids WHERE bucket = ?"
)

func (x *search) term(kind, value string) *rows {
	return x.rows(selectTerm, func(scan scan) (f found, err error) {
		var lines []byte
		err = scan(&f.block, &lines)
		f.lines = decodeLines(lines)
		return f, err
	}, kind+"="+value[:min(len(value), maxTerm)])
}

// times has the blocks with lines of the time that is meant; without one, all blocks.
func (x *search) times() *rows {
	read := func(scan scan) (f found, err error) {
		f.lines = someLines(0, blockLines-1)
		err = scan(&f.block)
		return f, err
	}
	if x.q.Since.IsZero() && x.q.Until.IsZero() {
		return x.rows(selectBlocks, read)
	}
	until := int64(math.MaxInt64)
	if !x.q.Until.IsZero() {
		until = x.q.Until.UnixMilli()
	}
	return x.rows(selectTimes, read, millisOf(x.q.Since), until)
}

func millisOf(t time.Time) int64 {
	if t.IsZero() {
		return math.MinInt64
	}
	return t.UnixMilli()
}

// ids has the lines with a decision_id.
func (x *search) ids(id string) *rows {
	bucket, sum := idSum([]byte(id))
	return x.rows(selectSums, func(scan scan) (f found, err error) {
		var ids []byte
		err = scan(&f.block, &ids)
		f.lines = idsIn(ids, sum)
		return f, err
	}, bucket)
}

// union has what either of two has.
type union [2]*rows

func (u union) seek(ctx context.Context, block int64) (found, bool, error) {
	a, aOK, err := u[0].seek(ctx, block)
	if err != nil {
		return a, false, err
	}
	b, bOK, err := u[1].seek(ctx, block)
	switch {
	case err != nil || !aOK:
		return b, bOK && err == nil, err
	case !bOK || u[0].before(a.block, b.block):
		return a, true, nil
	case a.block != b.block:
		return b, true, nil
	}
	both := found{a.block, new(lineSet)}
	both.lines.or(a.lines)
	both.lines.or(b.lines)
	return both, true, nil
}
