package api

import (
	"context"
	"net/http"

	"github.com/openleash/openleash-go/internal/door"
	"github.com/openleash/openleash-go/internal/ratelimit"
)

// What one address may ask of what costs us CPU and asks nobody who he is. A proof takes
// 0.1 ms, and with the largest body 10; a policy of 1 MiB takes 300.
const (
	verificationsPerSecond, verificationsAtOnce = 50, 100
	trialsPerSecond, trialsAtOnce               = 2, 20

	registrationsPerSecond, registrationsAtOnce = 20, 200
	// What an agent may ask, whose signature is good: no agent takes all that there is.
	perAgentPerSecond, perAgentAtOnce = 4000, 8000
	// Requests that are not signed as they should be are told so, and recorded, no oftener.
	// They take nothing from an agent at the same address.
	unsignedPerSecond, unsignedAtOnce = 50, 500

	maxAgents    = 20_000   // that are counted at a time
	maxTrials    = 4        // policies that are tried at the same time, by whomever
	maxAddresses = 10_000   // that are counted at a time
	maxQuestion  = 64 << 10 // bytes about a proof, which has 8 KiB
)

// limited answers an address only so often, and reads only so much of it.
func (s *server) limited(by *ratelimit.Limiter, bytes int64, next handler) handler {
	return func(r *http.Request) (any, error) {
		if err := s.tooOften(by, ratelimit.Source(door.From(r))); err != nil {
			return nil, err
		}
		r.Body = http.MaxBytesReader(nil, r.Body, bytes)
		return next(r)
	}
}

// tooOften is the refusal of who asks too often; nil: it does not.
func (s *server) tooOften(by *ratelimit.Limiter, key string) error {
	if ok, wait := by.Allow(key, s.Now()); !ok {
		return &fault{status: http.StatusTooManyRequests, Code: "RATE_LIMITED", retry: wait,
			Message: "You ask too often. Wait as many seconds as the header Retry-After says."}
	}
	return nil
}

// trying waits until there is room for one more trial; done makes it again.
func (s *server) trying(ctx context.Context) (done func(), err error) {
	select {
	case s.rooms <- struct{}{}:
		return func() { <-s.rooms }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
