package approvals

import (
	"context"
	"time"
)

// A Watcher tells of changes in the store, whichever process makes them: at once in
// the one that does, within a moment in the others.
type Watcher interface {
	// Watch has a value on changed whenever something of the topic may have changed
	// since Watch returned: look first, then wait. Changes that come together are
	// one value, and one may come for nothing. The topic of a request is its id. stop
	// must be called; it may be called twice.
	Watch(topic string) (changed <-chan struct{}, stop func())
}

// Wait blocks until the request is no longer pending as of the clock, or ctx
// ends, then with its error. The status of what it returns is as stored:
// [Request.At] says what it means.
func Wait(ctx context.Context, store Reader, id string) (r Request, err error) {
	err = Until(ctx, store, id, func(ctx context.Context) (bool, time.Time, error) {
		r, err = store.Approval(ctx, id)
		return r.At(time.Now()) != Pending, r.ExpiresAt, err
	})
	return r, err
}

// Until blocks until look has found what is waited for, or fails, or ctx ends. It
// looks at first, whenever something of the topic has changed, and at the time
// that the look before has named; the zero time is none.
func Until(ctx context.Context, w Watcher, topic string, look func(context.Context) (found bool, next time.Time, err error)) error {
	changed, stop := w.Watch(topic)
	defer stop()
	for {
		found, next, err := look(ctx)
		if found || err != nil {
			return err
		}
		var due <-chan time.Time
		if !next.IsZero() {
			due = time.After(time.Until(next))
		}
		select {
		case <-changed:
		case <-due:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
