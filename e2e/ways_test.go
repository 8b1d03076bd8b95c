//go:build e2e

package e2e

import "testing"

// A door is a way from a host into openleash.
type door struct {
	name string
	open func(t *testing.T, h *home, server string) target
}

var doors = []door{
	{"stdio", func(_ *testing.T, h *home, server string) target { return h.stdio(server) }},
	{"http", func(t *testing.T, h *home, server string) target { return h.http(t, server) }},
	{"sse", func(t *testing.T, h *home, server string) target { return h.sse(t, server) }},
	{"connect", func(t *testing.T, h *home, server string) target { return h.connect(t, server) }},
}

// A way is a host and the door that it uses.
type way struct {
	host host
	door door
}

var (
	// allWays are each host through each door.
	allWays = []way{
		{hosts[0], doors[0]}, {hosts[0], doors[1]}, {hosts[0], doors[2]}, {hosts[0], doors[3]},
		{hosts[1], doors[0]}, {hosts[1], doors[1]}, {hosts[1], doors[2]}, {hosts[1], doors[3]},
	}
	// twoWays have each host once.
	twoWays = []way{{hosts[0], doors[0]}, {hosts[1], doors[1]}}
)

// processors is how many tests keep them busy at once. Those that mostly wait run
// beside them.
var processors = make(chan struct{}, 2)

func busy(t *testing.T) {
	processors <- struct{}{}
	t.Cleanup(func() { <-processors })
}

func eachWay(t *testing.T, ways []way, test func(*testing.T, way)) {
	t.Parallel()
	for _, w := range ways {
		t.Run(w.host.name+"/"+w.door.name, func(t *testing.T) {
			t.Parallel()
			busy(t)
			test(t, w)
		})
	}
}

// session is the way's host, configured for one server of an installation.
func (w way) session(t *testing.T, h *home, server string) *session {
	t.Helper()
	return newSession(t, w.host, w.door.open(t, h, server))
}
