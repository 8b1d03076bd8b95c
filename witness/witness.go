// Package witness gives the log's checkpoints to those who keep them: a file elsewhere,
// a webhook, a witness as c2sp.org/tlog-witness has it.
//
// Whoever has the installation's folder can write store, log and checkpoint anew. What a
// witness has seen before, they cannot take back. So checkpoints go out as the log moves,
// by whichever process comes first: for each witness there is a lock, and a note of what
// it was sent, in a folder that all processes share. A witness that fails holds up
// nothing; it is tried again, ever more seldom, and the log says when that began and when
// it was over.
package witness

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/internal/durable"
	"github.com/openleash/openleash-go/internal/filelock"
)

const (
	// patience is how long one sending may take.
	patience = 30 * time.Second
	// look is how often a witness is looked at, at most.
	look = 5 * time.Second
	// seldom is how far apart the attempts at one that fails become.
	seldom = 10 * time.Minute
	// maxNote bounds the note of a witness, and maxReason what failed in it.
	maxNote, maxReason = 8 << 10, 500
)

// A Witness keeps checkpoints.
type Witness interface {
	// Name is what it is called where everyone may read it: without secrets.
	Name() string
	// target is what it is, whole: two of one target are one.
	target() string
	// send gives it the checkpoint. It knew the log at that size when it last answered.
	send(ctx context.Context, tip audit.Tip, size uint64) error
}

// A Duty is to send to a witness, so often at most.
type Duty struct {
	Witness
	Every time.Duration
}

// Keeper serves the witnesses of one log.
type Keeper struct {
	Log    string // the log's file
	Key    string // its public key
	Dir    string // of the notes; it is made
	Duties []Duty
	// Failed and Well record that a witness has begun to fail, and that it is well again.
	Failed func(ctx context.Context, name, reason string) error
	Well   func(ctx context.Context, name string) error
	Logger zerolog.Logger
}

// A note is what is known of a witness between attempts.
type note struct {
	Name     string    `json:"name"`
	Size     uint64    `json:"size"` // of the log, as it was last sent
	Tried    time.Time `json:"tried_at"`
	Failures int       `json:"failures,omitempty"` // in a row
	Since    time.Time `json:"failing_since,omitzero"`
	Reason   string    `json:"reason,omitempty"`
}

// Serve sends checkpoints until ctx ends: each witness for itself, so that none waits for
// another.
func (k *Keeper) Serve(ctx context.Context) {
	done := make(chan struct{})
	for _, d := range k.Duties {
		go func() {
			defer func() { done <- struct{}{} }()
			k.serve(ctx, d)
		}()
	}
	for range k.Duties {
		<-done
	}
}

func (k *Keeper) serve(ctx context.Context, d Duty) {
	for ctx.Err() == nil {
		if err := k.round(ctx, d); err != nil && ctx.Err() == nil {
			k.Logger.Warn().Err(err).Str("witness", d.Name()).Msg("a witness could not be served; it is tried again")
		}
		select {
		case <-ctx.Done():
		case <-time.After(min(look, d.Every)):
		}
	}
}

// round sends what is due. Its error is about our own folder, not the witness.
func (k *Keeper) round(ctx context.Context, d Duty) error {
	tip, err := audit.ReadTip(k.Log, k.Key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing has happened yet
	}
	n, bad := k.read(d)
	if err != nil || bad != nil || !n.due(d, tip.Size) {
		return errors.Join(err, bad)
	}
	unlock, ok, err := filelock.TryLock(k.file(d, ".lock"))
	if err != nil || !ok {
		return err // another process sees to it
	}
	defer unlock() //nolint:errcheck // closing it is all
	if n, err = k.read(d); err != nil || !n.due(d, tip.Size) {
		return err
	}
	_, err = k.attempt(ctx, d, n)
	return err
}

// due reports whether it is time. A clock that was put back makes it time.
func (n note) due(d Duty, size uint64) bool {
	passed := time.Since(n.Tried)
	switch {
	case n.Failures > 0:
		return passed < 0 || passed >= n.rest(d)
	case n.Size == size:
		return false
	}
	return passed < 0 || passed >= d.Every
}

// rest is how long one that fails is left alone.
func (n note) rest(d Duty) time.Duration {
	return min(min(d.Every, look)<<min(n.Failures-1, 20), max(d.Every, seldom))
}

// attempt sends, and keeps what came of it: in the log when that is news. The lock is
// held, so that no older checkpoint comes behind a newer one.
func (k *Keeper) attempt(ctx context.Context, d Duty, n note) (failed, err error) {
	tip, err := audit.ReadTip(k.Log, k.Key)
	if err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	failed = d.send(limited, tip, n.Size)
	if ctx.Err() != nil {
		return ctx.Err(), nil // it was us who ended it
	}
	was := n
	n = note{Name: d.Name(), Size: tip.Size, Tried: time.Now().UTC()}
	if failed != nil {
		n.Size, n.Failures, n.Since, n.Reason = was.Size, was.Failures+1, was.Since, cut(failed.Error())
	}
	switch {
	case failed != nil && was.Failures == 0:
		n.Since = n.Tried
		k.Logger.Error().Str("witness", d.Name()).Str("reason", n.Reason).Msg("a witness of the audit log fails; nothing waits for it, and it is tried again")
		err = k.Failed(ctx, d.Name(), n.Reason)
	case failed == nil && was.Failures > 0:
		k.Logger.Info().Str("witness", d.Name()).Msg("a witness of the audit log is well again")
		err = k.Well(ctx, d.Name())
	}
	if err != nil {
		return failed, err // it is news still
	}
	return failed, k.write(d, n)
}

// cut bounds a reason.
func cut(s string) string {
	if runes := []rune(s); len(runes) > maxReason {
		return string(runes[:maxReason]) + "…"
	}
	return s
}

// A Report says what came of sending to a witness.
type Report struct {
	Name  string
	Err   error     // nil: it has the checkpoint
	Since time.Time // since when it had failed before; zero: it had not
}

// Now sends the checkpoint to a witness, whether it is due or not.
func (k *Keeper) Now(ctx context.Context, d Duty) (Report, error) {
	r := Report{Name: d.Name()}
	if err := os.MkdirAll(k.Dir, 0o700); err != nil {
		return r, fmt.Errorf("making the folder of the witnesses: %w", err)
	}
	limited, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	unlock, err := filelock.LockContext(limited, k.file(d, ".lock"))
	if err != nil {
		return r, err
	}
	defer unlock() //nolint:errcheck // closing it is all
	n, err := k.read(d)
	if err != nil {
		return r, err
	}
	r.Since = n.Since
	r.Err, err = k.attempt(ctx, d, n)
	return r, err
}

// file is the note of a witness, or the lock beside it.
func (k *Keeper) file(d Duty, ending string) string {
	sum := sha256.Sum256([]byte(d.target()))
	return filepath.Join(k.Dir, hex.EncodeToString(sum[:8])+ending)
}

// read reads the note. One that cannot be read tells nothing: the witness is tried as if
// it were new, which costs one sending.
func (k *Keeper) read(d Duty) (n note, err error) {
	if err := os.MkdirAll(k.Dir, 0o700); err != nil {
		return n, fmt.Errorf("making the folder of the witnesses: %w", err)
	}
	text, err := os.ReadFile(k.file(d, ".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return n, nil
	}
	if err != nil {
		return n, fmt.Errorf("reading the note of a witness: %w", err)
	}
	if len(text) > maxNote || json.Unmarshal(text, &n) != nil || n.Failures < 0 {
		return note{}, nil
	}
	return n, nil
}

func (k *Keeper) write(d Duty, n note) error {
	file := k.file(d, ".json")
	text, err := json.Marshal(n)
	if err == nil {
		err = os.WriteFile(file+".new", text, 0o600)
	}
	if err == nil {
		err = durable.Replace(file+".new", file)
	}
	if err != nil {
		return fmt.Errorf("writing the note of a witness: %w", err)
	}
	return nil
}
