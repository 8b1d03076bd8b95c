package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/internal/durable"
	"github.com/openleash/openleash-go/internal/filelock"
)

// A process that governs leaves a note in data/running, NAME.from, that says where the
// log ended when it came, and holds NAME.lock as long as it lives. A note whose lock
// nobody holds is of a process that was killed: whoever comes next looks in the log for
// what that one has allowed and never finished, and records that the outcome is unknown.
const (
	noteEnding = ".from"
	lockEnding = ".lock"
)

// presence is the note of this process.
type presence struct {
	note, lock string
	unlock     func() error
}

// arrive leaves the note, on disk before anything is decided. The lock comes first: a
// note without one is taken for that of a dead process.
func (a *app) arrive(ctx context.Context) error {
	if err := os.MkdirAll(a.home.Running(), 0o700); err != nil {
		return fmt.Errorf("making the folder of running processes: %w", err)
	}
	head, _, err := a.store.Head(ctx)
	if err != nil {
		return err
	}
	at := filepath.Join(a.home.Running(), a.process)
	unlock, ok, err := filelock.TryLock(at + lockEnding)
	if err == nil && !ok {
		err = errors.New("another process holds it")
	}
	if err != nil {
		return fmt.Errorf("locking %s: %w", at+lockEnding, err)
	}
	a.presence = &presence{at + noteEnding, at + lockEnding, unlock}
	return writeNote(at+noteEnding, strconv.FormatUint(head, 10))
}

func writeNote(path, text string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("leaving a note: %w", err)
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = durable.Dir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("leaving a note: %w", err)
	}
	return nil
}

// depart takes the note away. When outcomes could not be written it stays for the next.
func (a *app) depart(finished bool) error {
	p := a.presence
	if p == nil {
		return nil
	}
	a.presence = nil
	if !finished {
		return p.unlock()
	}
	return p.remove()
}

// remove ends a note, and the lock after it.
func (p *presence) remove() error {
	err := os.Remove(p.note)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err == nil {
		os.Remove(p.lock) //nolint:errcheck // Windows keeps an open file; it means nothing without the note
	}
	return errors.Join(err, p.unlock())
}

// seeToTheDead records the unknown outcomes of processes that were killed.
func (a *app) seeToTheDead(ctx context.Context) {
	notes, err := filepath.Glob(filepath.Join(a.home.Running(), "*"+noteEnding))
	for _, note := range notes {
		err = errors.Join(err, a.seeTo(ctx, note))
	}
	if err != nil && ctx.Err() == nil {
		a.log.Error().Err(err).Msg("of some calls of a process that was killed the log does not say that the outcome is unknown; the next start tries again")
	}
}

func (a *app) seeTo(ctx context.Context, note string) error {
	process := strings.TrimSuffix(filepath.Base(note), noteEnding)
	lock := strings.TrimSuffix(note, noteEnding) + lockEnding
	if process == a.process {
		return nil
	}
	unlock, dead, err := filelock.TryLock(lock)
	if err != nil || !dead {
		return err
	}
	dying := &presence{note, lock, unlock}
	text, err := os.ReadFile(note)
	if errors.Is(err, fs.ErrNotExist) {
		return dying.remove() // it has departed, or another has seen to it
	}
	if err != nil {
		return errors.Join(err, unlock())
	}
	from, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil {
		from = 0 // cut off by a crash: nothing was decided yet, or look at all
	}
	if err := a.loseCalls(ctx, process, from); err != nil {
		return errors.Join(err, unlock())
	}
	return dying.remove()
}

func (a *app) loseCalls(ctx context.Context, process string, from uint64) error {
	lost, err := a.unfinished(ctx, process, from)
	if err != nil {
		return err
	}
	for _, d := range lost {
		if err := a.service.Lost(ctx, d); err != nil {
			return err
		}
	}
	if len(lost) > 0 {
		a.log.Warn().Int("calls", len(lost)).Msg("an OpenLeash process was killed while calls were under way; the log says outcome unknown of them")
	}
	return nil
}

// awaitLines is how often the log is looked at for what is not sequenced yet.
const awaitLines = 50 * time.Millisecond

// unfinished are the calls that a process has allowed and not finished. It reads the log
// from a line on to the start of this process: what a dead one has committed is before.
func (a *app) unfinished(ctx context.Context, process string, from uint64) ([]audit.Entry, error) {
	calls := openCalls{}
	for ctx.Err() == nil {
		lines, err := a.store.Lines(ctx, from+1, 500)
		if err != nil {
			return nil, err
		}
		for _, l := range lines {
			from = l.Seq
			if !bytes.Contains(l.Line, []byte(process)) && !bytes.Contains(l.Line, []byte(a.process)) {
				continue
			}
			var e audit.Entry
			if err := json.Unmarshal(l.Line, &e); err != nil {
				return nil, fmt.Errorf("reading line %d of the log: %w", l.Seq, err)
			}
			if e.Event == "start" && e.Process == a.process {
				return calls.list, nil
			}
			if e.Process == process {
				calls.take(e)
			}
		}
		if len(lines) == 0 {
			time.Sleep(awaitLines)
		}
	}
	return nil, ctx.Err()
}

// openCalls are allowed and have no outcome, in the order of their decisions.
type openCalls struct{ list []audit.Entry }

func (o *openCalls) take(e audit.Entry) {
	switch {
	case e.Event == "decision" && e.Decision != nil && *e.Decision == "ALLOW":
		o.list = append(o.list, e)
	case e.Event == "decision" || e.Event == "outcome": // a refusal after all, or its end
		for i, d := range o.list {
			if d.DecisionID == e.DecisionID {
				o.list = append(o.list[:i], o.list[i+1:]...)
				return
			}
		}
	}
}
