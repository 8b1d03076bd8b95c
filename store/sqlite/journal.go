package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/openleash/openleash-go/internal/durable"
	"github.com/openleash/openleash-go/internal/filelock"
)

// journalBlocks is the journal's length, 4 MiB: more than a second of decisions
// as fast as they come.
const journalBlocks = 1024

// journal is where commits go that change nothing but the log: nearly all
// decisions, and what came of them. One write and one sync over blocks that
// exist already costs a fifth of a transaction, and what stands there is as
// durable. The entries move on to the database in bulk, when the sequencer gives
// them their places (place), or before a transaction that has entries of its own
// (absorb), so that the order of commits stays.
//
// The file is a ring of blocks (block.go). The database knows how far entries
// have moved (journal.upto); what follows is here, up to the first block that is
// not the next one. Who appends has the turn (a lock of its own, so that no
// decision waits for a transaction) and looks first whether others have appended.
// A record that its writer did not live to sync is like any other: who appends
// after it syncs it too.
type journal struct {
	*committer
	db     string // the database's file
	blocks uint64
	moved  func() (int64, error) // journal.upto

	files []os.FileInfo // the database and this; owned, as what follows, by who commits
	file  *os.File      // read by all
	lost  error         // the files are not ours any more, for good
	next  uint64        // the block after the last one that we know of
	upto  int64         // moved, when we last asked
	floor uint64        // blocks below it must have moved before anything is appended
	// What a group is made into, used again and again.
	payload, record []byte

	// The file's system calls, for the tests that let them fail.
	write func(f *os.File, b []byte, at int64) (int, error)
	sync  func(*os.File) error
}

// errAside: the journal cannot take it, the database can.
var errAside = errors.New("the journal has no room")

// An entry's id says where it stands: the last block of its record, and its
// number in there. So ids rise in the order of commits, and the record after an
// entry's begins with the next block.
const (
	indexBits = 24
	maxNumber = 1<<(63-indexBits) - 1
)

func entryID(last uint64, index int) int64 { return int64(last<<indexBits) + int64(index) }

func blockOf(id int64) uint64 { return uint64(id) >> indexBits }

// openJournal opens the file beside the database, making it at first use.
func openJournal(path, db string, moved func() (int64, error)) (*journal, error) {
	lock, err := filelock.OpenQueue(path + ".lock")
	if err != nil {
		return nil, err
	}
	j := &journal{db: db, blocks: journalBlocks, moved: moved, write: (*os.File).WriteAt, sync: durable.Data}
	j.committer = newCommitter(path, lock, j.commit)
	if err := j.open(); err != nil {
		lock.Close()
		return nil, err
	}
	return j, nil
}

func (j *journal) open() error {
	if err := j.lock.Lock(); err != nil {
		return err
	}
	defer j.lock.Unlock()
	f, err := os.OpenFile(j.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	j.file = f
	if err = j.lengthen(); err == nil {
		j.files, err = stat(j.db, j.path)
	}
	if err == nil {
		err = j.rescan()
	}
	if err != nil {
		f.Close()
	}
	return err
}

// lengthen gives the file its length at once, in bytes that are on the disk: a
// sync over them costs half, and they cannot run out.
func (j *journal) lengthen() error {
	info, err := j.file.Stat()
	if err != nil || info.Size() >= int64(j.blocks*blockSize) {
		return err
	}
	zeros := make([]byte, 64*blockSize)
	for at := info.Size(); at < int64(j.blocks*blockSize); at += int64(len(zeros)) {
		if _, err := j.file.WriteAt(zeros, at); err != nil {
			return fmt.Errorf("%w; OpenLeash needs %d MiB there", err, j.blocks*blockSize>>20)
		}
	}
	if err := j.file.Sync(); err != nil {
		return err
	}
	return durable.Dir(filepath.Dir(j.path))
}

// commit appends the entries of a group as one record, durably. Where there is
// no room for it, who only wants to know the end still learns that.
func (j *journal) commit(group []*job) error {
	if err := j.ready(); err != nil {
		return err
	}
	j.payload = j.payload[:0]
	for _, job := range group {
		for _, body := range job.entries {
			j.payload = appendEntry(j.payload, body)
		}
	}
	aside := false
	if len(j.payload) > 0 {
		err := j.append(j.payload)
		if aside = errors.Is(err, errAside); err != nil && !aside {
			return err
		}
	}
	for _, job := range group {
		if job.end = j.next; aside && len(job.entries) > 0 {
			job.err = errAside
		}
	}
	return nil
}

// ready sees that the files are those that others would open, and finds the end.
func (j *journal) ready() error {
	if j.lost == nil && !j.inPlace() {
		j.lost = fmt.Errorf("%s: %w", j.db, errReplaced)
	}
	if j.lost != nil {
		return j.lost
	}
	return j.catchUp()
}

func (j *journal) inPlace() bool {
	now, err := stat(j.db, j.path)
	return err == nil && os.SameFile(now[0], j.files[0]) && os.SameFile(now[1], j.files[1])
}

// catchUp finds the end, past what others have appended.
func (j *journal) catchUp() error {
	if beyond, err := j.follow(); beyond == 0 || err != nil {
		return err
	}
	return j.rescan() // they have come round
}

// rescan finds the end from where the database says that the journal begins.
func (j *journal) rescan() error {
	upto, err := j.moved()
	if err != nil {
		return err
	}
	j.upto, j.next = upto, blockOf(upto)+1
	beyond, err := j.follow()
	if err == nil && beyond > 0 {
		err = fmt.Errorf("%s has block %d where the database wants %d: the two are not of one moment; put both back from one backup, "+
			"or move this file away (what waits in it will be missing in the log), then restart every OpenLeash process", j.path, beyond, j.next)
	}
	return err
}

// follow passes over the records from next on. When it does not come to the end,
// but to a block of a later round, it returns that block's number.
func (j *journal) follow() (beyond uint64, err error) {
	for {
		head, err := j.head(j.next)
		switch {
		case err != nil:
			return 0, err
		case head.number > j.next:
			return head.number, nil
		case head.number < j.next || head.at != 0:
			return 0, nil
		}
		_, next, err := j.read(j.next, new(scratch))
		if errors.Is(err, errTorn) {
			return 0, nil // its writer died at it
		}
		if err != nil {
			return 0, err
		}
		j.next = next
	}
}

// append writes a record after the last one. After an error it is not there for
// anybody, or, when even that cannot be done, it is left to the database: the
// system may count its blocks as written, and what followed them would be lost
// with them.
func (j *journal) append(payload []byte) error {
	blocks := uint64(blocksFor(len(payload)))
	if err := j.fits(blocks); err != nil {
		return err
	}
	j.record = appendRecord(j.record[:0], j.next, payload)
	err := j.put(j.next, j.record)
	if err == nil {
		err = j.sync(j.file)
	}
	if err != nil {
		if e := j.put(j.next, voidBlock(j.next)); e != nil {
			j.floor = j.next + blocks
		}
		return fmt.Errorf("%s: %w", j.path, err)
	}
	j.next += blocks
	return nil
}

// fits sees that nothing is written over that is still needed.
func (j *journal) fits(blocks uint64) (err error) {
	if j.room(blocks) {
		return nil
	}
	if j.upto, err = j.moved(); err == nil && !j.room(blocks) {
		err = errAside
	}
	return err
}

func (j *journal) room(blocks uint64) bool {
	begin := blockOf(j.upto) + 1
	return begin >= j.floor && j.next+blocks-begin <= j.blocks && j.next+blocks < maxNumber
}

// put writes blocks to their places, from number on.
func (j *journal) put(number uint64, blocks []byte) error {
	at := j.offset(number)
	fits := min(int64(len(blocks)), j.offset(j.blocks-1)+blockSize-at)
	if _, err := j.write(j.file, blocks[:fits], at); err != nil || fits == int64(len(blocks)) {
		return err
	}
	_, err := j.write(j.file, blocks[fits:], 0)
	return err
}

// offset is where a block stands in the file.
func (j *journal) offset(number uint64) int64 { return int64(number % j.blocks * blockSize) }

func (j *journal) head(number uint64) (block, error) {
	var b [blockHead]byte
	_, err := j.file.ReadAt(b[:], j.offset(number))
	return readHead(b[:]), err
}

// scratch is memory to read into.
type scratch struct{ blocks, payload []byte }

// read reads the record that begins with a block, and says with which the next
// one does. The payload is good until the scratch is used again.
func (j *journal) read(number uint64, s *scratch) (payload []byte, next uint64, err error) {
	s.blocks, next = s.blocks[:0], number+1
	for at := number; at < next; at++ {
		s.blocks = slices.Grow(s.blocks, blockSize)[:len(s.blocks)+blockSize]
		if _, err := j.file.ReadAt(s.blocks[len(s.blocks)-blockSize:], j.offset(at)); err != nil {
			return nil, 0, err
		}
		if at > number {
			continue
		}
		head := readHead(s.blocks)
		if head.number != number || uint64(head.left) >= j.blocks {
			return nil, 0, errTorn
		}
		next += uint64(head.left)
	}
	s.payload, err = readRecord(s.payload[:0], number, s.blocks)
	return s.payload, next, err
}

// waiting reads the entries after one that has moved: up to limit, and what was
// committed together with the last of them. Nothing may move meanwhile, or it is
// an error.
func (j *journal) waiting(ctx context.Context, after int64, limit int) (all []entry, err error) {
	var look job
	if err := j.do(ctx, &look); err != nil { // in turn: what is being synced is not there yet
		return nil, err
	}
	var s scratch
	for number := blockOf(after) + 1; number < look.end && len(all) < limit; {
		payload, next, err := j.read(number, &s)
		var bodies [][]byte
		if err == nil {
			bodies, err = split(bytes.Clone(payload))
		}
		if err != nil {
			return nil, fmt.Errorf("%s, block %d: %w", j.path, number, err)
		}
		for i, body := range bodies {
			all = append(all, entry{entryID(next-1, i), body})
		}
		number = next
	}
	return all, nil
}

// shut lets what is queued be finished and closes the file.
func (j *journal) shut() error {
	err := j.close()
	if err == nil {
		err = j.file.Close()
	}
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}
