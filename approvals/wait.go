package approvals

import (
	"context"
	"time"
)

// lookEvery is how often Wait looks: a person does not notice it, and a look
// costs the store some microseconds.
const lookEvery = 75 * time.Millisecond

// Wait blocks until the request is no longer pending as of the clock, or ctx
// ends. It looks into the store, so that an answer given in any process wakes
// it. The status of what it returns is as stored: [Request.At] says what it means.
func Wait(ctx context.Context, store Reader, id string) (Request, error) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		r, err := store.Approval(ctx, id)
		if err != nil || r.At(time.Now()) != Pending {
			return r, err
		}
		select {
		case <-ctx.Done():
			return r, ctx.Err()
		case <-tick.C:
		}
	}
}
