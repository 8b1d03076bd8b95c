package policy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/openleash/openleash-go/internal/strictyaml"
)

const (
	settle   = 50 * time.Millisecond  // an editor that saves makes several events
	atLatest = 500 * time.Millisecond // however long they go on
	// recheck finds what no event tells of: targets of links, network folders.
	recheck = 2 * time.Second
)

// A Keeper holds the book in force and follows the folder (fsnotify).
type Keeper struct {
	dir     string
	groups  Groups
	last    Snapshots
	onEvent func(Event)
	state   atomic.Pointer[state]
	watcher *fsnotify.Watcher
	stop    context.CancelFunc
	done    chan struct{} // closed when run has ended

	unsaved bool   // owned by run: the book in force is not in last yet
	told    string // owned by run: the fault that was announced, or empty
}

// state is what Current and Err answer from: swapped whole.
type state struct {
	book *Book
	err  error
}

// Event tells of a reload: what log, portal, health and metrics announce.
type Event struct {
	Hash    string   // of the book in force; empty: there is none
	Err     error    // the folder is broken: the last good set stays in force; or that set could not be kept
	Removed []string // policies that are gone: a loosening, or a tightening
	Changed []string // policies that are new or differ
	// Warnings are about what is in force and probably not meant.
	Warnings []strictyaml.Error
}

// Open loads dir and falls back to the last good set, with the event that says
// so. With neither, Current is nil: everything is refused, Err says why. last
// may be nil. Open itself fails only when the store cannot be asked or the
// system lets nobody watch files. The groups stay as they are until Close.
// onEvent is called by one goroutine at a time and must not call Close. The
// Keeper follows the folder until Close, or until ctx ends.
func Open(ctx context.Context, dir string, groups Groups, last Snapshots, onEvent func(Event)) (*Keeper, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("opening policies: %w", err)
	}
	k := &Keeper{dir: dir, groups: groups, last: last, onEvent: onEvent, done: make(chan struct{})}
	k.state.Store(&state{})
	before, err := k.lastSources(ctx)
	if err != nil {
		return nil, err
	}
	if k.watcher, err = fsnotify.NewWatcher(); err != nil {
		return nil, fmt.Errorf("watching %s: %w", dir, err)
	}
	k.start(ctx, before)
	ctx, k.stop = context.WithCancel(ctx)
	go k.run(ctx)
	return k, nil
}

func (k *Keeper) lastSources(ctx context.Context) ([]Source, error) {
	if k.last == nil {
		return nil, nil
	}
	sources, err := k.last.LastPolicies(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the last good policies from the store: %w", err)
	}
	return sources, nil
}

// start puts the first book in force: the folder's, else the last good one.
func (k *Keeper) start(ctx context.Context, before []Source) {
	var lastGood *Book
	var lastErr error
	if before != nil {
		if lastGood, lastErr = NewBook(k.dir, before, k.groups); lastErr != nil {
			lastErr = fmt.Errorf("the last good policies from the store: %w", lastErr)
		}
	}
	k.state.Store(&state{book: lastGood, err: lastErr})
	k.reload(ctx)
	switch s := k.state.Load(); {
	case s.book == nil && lastErr != nil:
		k.state.Store(&state{err: errors.Join(s.err, lastErr)})
	case s.book != nil && s.book == lastGood && s.err == nil:
		// Nobody was told of it. The groups may be others than they were.
		if odd := s.book.lintGroups(); len(odd) > 0 {
			k.tell(Event{Hash: s.book.Hash, Warnings: odd})
		}
	}
}

// Current returns the book in force; nil when there is none.
func (k *Keeper) Current() *Book { return k.state.Load().book }

// Err is the fault that keeps the folder's present content out of force, or nil.
func (k *Keeper) Err() error { return k.state.Load().err }

// Dir is the folder that is followed.
func (k *Keeper) Dir() string { return k.dir }

// Close stops following.
func (k *Keeper) Close() error {
	k.stop()
	<-k.done
	return k.watcher.Close()
}

// run reloads when the folder has changed and is quiet.
func (k *Keeper) run(ctx context.Context) {
	defer close(k.done)
	tick := time.NewTicker(recheck)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if !k.stale() {
				continue
			}
		case e := <-k.watcher.Events:
			if !k.concerns(e) {
				continue
			}
		case <-k.watcher.Errors: // events were lost: look
		}
		k.quiet(ctx)
		k.reload(ctx)
	}
}

// stale reports whether a reload would do anything.
func (k *Keeper) stale() bool {
	sources, faults, err := read(k.dir)
	now := k.state.Load()
	return err != nil || len(faults) > 0 || k.told != "" || k.unsaved || now.book == nil || now.book.Hash != hashSources(sources)
}

// quiet waits until nothing has happened for a moment.
func (k *Keeper) quiet(ctx context.Context) {
	latest := time.After(atLatest)
	for {
		select {
		case <-ctx.Done():
			return
		case <-latest:
			return
		case <-k.watcher.Events:
		case <-time.After(settle):
			return
		}
	}
}

// concerns leaves out what happens beside the folder: its parent is watched for
// the folder itself only.
func (k *Keeper) concerns(e fsnotify.Event) bool {
	return e.Name == k.dir || strings.HasPrefix(e.Name, k.dir+string(filepath.Separator))
}

// reload reads the folder and puts it in force, or says why not. Watching comes
// before reading: what changes in between makes an event.
func (k *Keeper) reload(ctx context.Context) {
	k.watch()
	now := k.state.Load()
	sources, faults, err := read(k.dir)
	if err == nil && len(faults) == 0 && now.book != nil && now.book.Hash == hashSources(sources) {
		k.unchanged(ctx, now)
		return
	}
	var book *Book
	if err == nil {
		book, err = newBook(k.dir, sources, k.groups, faults)
	}
	if err != nil {
		k.state.Store(&state{book: now.book, err: err})
		k.announceFault(now.book, err)
		return
	}
	book.prepare(now.book)
	k.state.Store(&state{book: book})
	k.announce(ctx, now.book, book)
}

// unchanged is what a look at the folder finds nearly always; it also is how a
// broken folder gets well again.
func (k *Keeper) unchanged(ctx context.Context, now *state) {
	switch {
	case k.told != "":
		k.state.Store(&state{book: now.book})
		k.announce(ctx, now.book, now.book)
	case k.unsaved:
		k.unsaved = k.save(ctx, now.book) != nil
	}
}

// announceFault tells of a fault once.
func (k *Keeper) announceFault(inForce *Book, err error) {
	if err.Error() == k.told {
		return
	}
	k.told = err.Error()
	e := Event{Err: err}
	if inForce != nil {
		e.Hash = inForce.Hash
	}
	k.tell(e)
}

// announce tells of a book that is in force now and keeps it for a restart.
// When it cannot be kept it is in force all the same, and tried again.
func (k *Keeper) announce(ctx context.Context, before, now *Book) {
	e := Event{Hash: now.Hash, Err: k.save(ctx, now)}
	e.Removed, e.Changed = differences(before, now)
	e.Warnings = append(now.Warnings(), renamedLimits(before, now)...)
	k.unsaved, k.told = e.Err != nil, ""
	k.tell(e)
}

func (k *Keeper) save(ctx context.Context, b *Book) error {
	if k.last == nil {
		return nil
	}
	if err := k.last.SavePolicies(ctx, b.Hash, b.sources); err != nil {
		return fmt.Errorf("these policies are in force, but could not be kept for a restart: %w", err)
	}
	return nil
}

func (k *Keeper) tell(e Event) {
	if k.onEvent != nil {
		k.onEvent(e)
	}
}

// differences compares two books by the names of their policies.
func differences(before, now *Book) (removed, changed []string) {
	old := make(map[string]string)
	if before != nil {
		for _, s := range before.sources {
			old[policyID(s.Name)] = s.Text
		}
	}
	for _, s := range now.sources {
		id := policyID(s.Name)
		if text, was := old[id]; !was || text != s.Text {
			changed = append(changed, id)
		}
		delete(old, id)
	}
	for id := range old {
		removed = append(removed, id)
	}
	slices.Sort(removed)
	return removed, changed
}

// watch renews all watches: folders come, go, and are replaced by others of the
// same name. What cannot be watched is found by recheck.
func (k *Keeper) watch() {
	want := k.folders()
	for _, name := range k.watcher.WatchList() {
		if !slices.Contains(want, name) {
			k.watcher.Remove(name) //nolint:errcheck // it is gone
		}
	}
	for _, name := range want {
		k.watcher.Add(name) //nolint:errcheck // recheck stands in
	}
}

// folders lists what to watch: the folder, those in it, and its parent.
func (k *Keeper) folders() []string {
	list := []string{filepath.Dir(k.dir)}
	filepath.WalkDir(k.dir, func(name string, e fs.DirEntry, err error) error { //nolint:errcheck // never fails
		switch {
		case err != nil || !e.IsDir():
			return nil
		case name != k.dir && strings.HasPrefix(e.Name(), "."):
			return fs.SkipDir
		case len(list) > maxFolders:
			return fs.SkipAll
		}
		list = append(list, name)
		return nil
	})
	return list
}
