package api

import (
	"net/http"

	"github.com/openleash/openleash-go/internal/door"
	"github.com/openleash/openleash-go/internal/ratelimit"
)

// maxAddresses is how many addresses are counted at a time.
const maxAddresses = 10_000

// limited answers an address only so often.
func (s *server) limited(by *ratelimit.Limiter, next handler) handler {
	return func(r *http.Request) (any, error) {
		if ok, wait := by.Allow(ratelimit.Source(door.From(r)), s.Now()); !ok {
			return nil, &fault{status: http.StatusTooManyRequests, Code: "RATE_LIMITED", retry: wait,
				Message: "This address asks too often. Wait as many seconds as the header Retry-After says."}
		}
		return next(r)
	}
}
