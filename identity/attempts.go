package identity

import (
	"context"
	"fmt"
	"time"
)

// A Limit is how often something may be tried in vain. After Free failures there is one
// more try after Wait, and each further one takes twice as long to wait for, at most
// MaxWait. What was not tried for twice MaxWait is forgotten.
//
// Tries are counted before it is known whether they are good, in the store, so that the
// limit holds between goroutines, between processes and over restarts.
type Limit struct {
	Key           string // what is tried: "code:<owner>"
	Free          int
	Wait, MaxWait time.Duration
}

// Next is the earliest time of the next try after count failures, the last of them now.
func (l Limit) Next(count int, now time.Time) time.Time {
	wait := l.Wait
	for n := l.Free; n < count && wait < l.MaxWait; n++ {
		wait *= 2
	}
	if count < l.Free {
		return now
	}
	return now.Add(min(wait, l.MaxWait))
}

// Forget is when failures are forgotten, the last of them now.
func (l Limit) Forget(now time.Time) time.Time { return now.Add(2 * l.MaxWait) }

// ErrTooMany is the answer to who tries too often. The error that carries it is a
// *TooManyError, which says when to come back.
var ErrTooMany = errorString("too many attempts")

// TooManyError is ErrTooMany with the time after which to try again.
type TooManyError struct{ Until time.Time }

func (e *TooManyError) Error() string {
	return fmt.Sprintf("%v; try again after %s", ErrTooMany, e.Until.UTC().Format(time.RFC3339))
}

func (e *TooManyError) Unwrap() error { return ErrTooMany }

// AttemptStore counts tries.
type AttemptStore interface {
	// Try counts a try against each of the limits, or against none of them and returns
	// a *TooManyError.
	Try(ctx context.Context, now time.Time, limits ...Limit) error
	// Untry takes back one try of each key: it was none in vain.
	Untry(ctx context.Context, keys ...string) error
	// Forgive forgets all tries of the keys.
	Forgive(ctx context.Context, keys ...string) error
}
