package proxy

import (
	"context"
	"errors"
	"time"
)

// ErrShuttingDown is the cause of the end of a request's context when OpenLeash
// ends: an open request is answered then, and a session that ends so answers what
// waits in it. Who serves HTTP cancels the server's BaseContext with it.
var ErrShuttingDown = errors.New("OpenLeash is shutting down")

func isShuttingDown(ctx context.Context) bool {
	return errors.Is(context.Cause(ctx), ErrShuttingDown)
}

// shutDown is why a request has no answer that OpenLeash's end has interrupted.
func shutDown(server string, forwarded bool) failure {
	if !forwarded {
		return failure{status: "cancelled", detail: ErrShuttingDown.Error() + ". Nothing was done: try again once it runs"}
	}
	return failure{status: "unknown", detail: ErrShuttingDown.Error() + ", and the server " + server + " has not answered. Whether this was done is not known: look before you repeat it"}
}

// farewellWithin is how long, at the end, a host's answer waits for its session to
// say what became of the call.
const farewellWithin = time.Second
