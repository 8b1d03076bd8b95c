package proxy

import (
	"context"
	"net/http"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
)

// sessionAnswer writes a stream to a host: as plain JSON when the response is
// all there is, else as events.
type sessionAnswer struct {
	s      *hostConn
	w      http.ResponseWriter
	m      Message // the request; zero for a GET
	json   bool    // the host takes plain JSON
	events bool    // and a stream of events
	began  bool    // as events
}

// write sends what comes until the response was sent. It is false when the
// host went away before.
func (a *sessionAnswer) write(ctx context.Context, st *stream) bool {
	quiet := time.NewTicker(keepAlive)
	defer quiet.Stop()
	for {
		it, ok, over := st.pop()
		switch {
		case ok && it.last:
			return a.last(it.raw) == nil
		case ok:
			if a.event(it.raw) != nil {
				return false
			}
			continue
		case over:
			return a.cutOff("the host read too slowly") == nil
		}
		select {
		case <-st.wake:
		case <-quiet.C:
			if !a.alive() {
				return false
			}
		case <-ctx.Done():
			return isShuttingDown(ctx) && a.farewell(st)
		case <-a.s.ctx.Done():
			if isShuttingDown(a.s.ctx) {
				return a.farewell(st)
			}
			if it, ok, _ := st.pop(); ok && it.last {
				return a.last(it.raw) == nil
			} else if ok {
				a.event(it.raw)
				continue
			}
			return a.cutOff("the session with "+a.s.server+" has ended; begin a new one and look whether the call was done before you repeat it") == nil
		}
	}
}

// alive shows the host of a call that takes long, because it is held or by itself,
// that somebody is there: sockets without a byte for minutes are closed by what lies
// between. It is false when the host has gone.
func (a *sessionAnswer) alive() bool {
	if a.events && a.m.Method == "tools/call" {
		a.begin()
	}
	return !a.began || writeNow(a.w, comment) == nil
}

// farewell waits for what the session says at the end of OpenLeash. It is false
// when it has said nothing.
func (a *sessionAnswer) farewell(st *stream) bool {
	if !a.m.IsRequest() {
		return true
	}
	late := time.After(farewellWithin)
	for {
		it, ok, over := st.pop()
		switch {
		case ok && it.last:
			return a.last(it.raw) == nil
		case ok:
			a.event(it.raw)
			continue
		}
		if !over {
			select {
			case <-st.wake:
				continue
			case <-late:
			}
		}
		a.cutOff(shutDown(a.s.server, true).detail)
		return false
	}
}

// cutOff ends an answer whose response will not come.
func (a *sessionAnswer) cutOff(reason string) error {
	if !a.m.IsRequest() {
		return nil
	}
	return a.last(errorReply(a.m.ID, codeInternal, reason))
}

// last sends the response.
func (a *sessionAnswer) last(raw []byte) error {
	if a.m.Method == "initialize" && a.s.id != "" && !a.began {
		if _, ok := find(raw, "result"); ok {
			a.w.Header().Set(mcp.HeaderSessionID, a.s.id)
		} else {
			defer a.s.stop() // no session came of it
		}
	}
	if a.began || !a.json {
		return a.event(raw)
	}
	status := http.StatusOK
	if a.s.shared != nil {
		status = statusOf(a.m, raw)
	}
	writeJSON(a.w, status, raw)
	return nil
}

func (a *sessionAnswer) event(raw []byte) error {
	a.begin()
	return writeNow(a.w, appendData(nil, raw))
}

// begin makes the answer a stream of events.
func (a *sessionAnswer) begin() {
	if a.began {
		return
	}
	a.began = true
	if a.m.Method == "initialize" && a.s.id != "" {
		a.w.Header().Set(mcp.HeaderSessionID, a.s.id)
	}
	beginEvents(a.w)
}

// comment keeps a quiet stream alive.
var comment = []byte(": \n\n")

// beginEvents makes an answer a stream of events.
func beginEvents(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", typeSSE)
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Accel-Buffering", "no") // "servers SHOULD include" it
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	http.NewResponseController(w).Flush()
}

// writeNow writes to a stream at once; a host that reads nothing for long is
// given up.
func writeNow(w http.ResponseWriter, raw []byte) error {
	rc := bePatient(w)
	if _, err := w.Write(raw); err != nil {
		return err
	}
	return rc.Flush()
}
