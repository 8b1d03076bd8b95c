package proxy

import "context"

// What a pass-through has to say to a host unasked goes by the stream that the host
// has opened for that, between the upstream's own events.

// listen notes that stream, until the returned function is called.
func (h *passthrough) listen(x *exchange) (end func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.listeners[x.in] = x
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.listeners[x.in] == x {
			delete(h.listeners, x.in)
		}
	}
}

// later runs what takes longer than a ruling, as long as the stream lasts that is
// open now. It is false when there is none: "Clients SHOULD still provide manual
// controls" (2025-11-25, Elicitation), but who has no stream cannot be told at all.
func (h *passthrough) later(in hostSession) func(wait func(context.Context) []byte) bool {
	return func(wait func(context.Context) []byte) bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		x := h.listeners[in]
		if x == nil || in.id == "" || x.waits >= maxLater {
			return false
		}
		x.waits++
		go func() {
			if raw := wait(x.r.Context()); raw != nil {
				x.write(appendData(nil, raw)) //nolint:errcheck // the host has gone
			}
			h.mu.Lock()
			x.waits--
			h.mu.Unlock()
		}()
		return true
	}
}
