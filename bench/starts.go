package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// starting is how long a process took from its start to the answer of
// initialize.
type starting struct {
	What   string  `json:"what"`
	Median float64 `json:"median_ms"`
	Worst  float64 `json:"worst_ms"`
	Times  int     `json:"times"`
}

// measureStarts times first answers. used is a home that has a long log.
func measureStarts(l *lab, p plan, used *home) ([]starting, error) {
	h, err := l.newHome("starts", true, nil)
	if err != nil {
		return nil, err
	}
	through := func(h *home) *exec.Cmd {
		return l.openLeash(h, append([]string{"stdio", "--name", "echo", "--"}, l.echoCommand()...)...)
	}
	fresh := 0
	empty := func() (*exec.Cmd, error) {
		fresh++
		h, err := l.newHome(fmt.Sprintf("empty-%d", fresh), true, nil)
		if err != nil {
			return nil, err
		}
		return through(h), os.RemoveAll(filepath.Join(h.dir, "policies"))
	}
	// The first one on h makes it; it is not counted.
	if _, err := firstAnswer(through(h)); err != nil {
		return nil, err
	}
	var all []starting
	for _, m := range []struct {
		what string
		cmd  func() (*exec.Cmd, error)
	}{
		{"direct", func() (*exec.Cmd, error) { return exec.Command(l.self, "echo"), nil }},
		{"openleash stdio", func() (*exec.Cmd, error) { return through(h), nil }},
		{"openleash stdio, home after the load", func() (*exec.Cmd, error) { return through(used), nil }},
		{"openleash stdio, empty home", empty},
	} {
		s, err := timeStarts(m.what, p.starts, m.cmd)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

func timeStarts(what string, times int, cmd func() (*exec.Cmd, error)) (starting, error) {
	var took []float64
	for range times {
		c, err := cmd()
		if err != nil {
			return starting{}, err
		}
		d, err := firstAnswer(c)
		if err != nil {
			return starting{}, fmt.Errorf("starting %s: %w", what, err)
		}
		took = append(took, milliseconds(d))
	}
	return starting{What: what, Median: median(took), Worst: slices.Max(took), Times: times}, nil
}

// firstAnswer starts a server and times the answer of initialize.
func firstAnswer(cmd *exec.Cmd) (time.Duration, error) {
	begin := time.Now()
	t, err := startStdio(cmd)
	if err != nil {
		return 0, err
	}
	defer t.close()
	err = t.greet()
	return time.Since(begin), err
}

// memory is what the proxy's process has resident; its upstreams have their own.
type memory struct {
	What  string  `json:"what"`
	Calls int64   `json:"calls"`
	Now   float64 `json:"resident_mb"`
	Peak  float64 `json:"peak_mb"`
}

// measureMemory reads it after calls with upstreams behind `openleash start`,
// a child process each, a host each; with one upstream again after ten times as
// many.
func measureMemory(l *lab, upstreams, calls int) ([]memory, error) {
	servers := map[string]any{}
	for i := range upstreams {
		servers[fmt.Sprintf("echo%d", i)] = l.childServer()
	}
	h, err := l.newHome(fmt.Sprintf("memory-%d", upstreams), true, servers)
	if err != nil {
		return nil, err
	}
	p, err := l.startOpenLeash(h)
	if err != nil {
		return nil, err
	}
	defer p.end()
	var hosts []*session
	for name := range servers {
		s, err := l.connect(h, name, true)
		if err != nil {
			return nil, err
		}
		hosts = append(hosts, s)
	}
	var found []memory
	for done, n := 0, calls; n <= 10*calls; n *= 10 {
		if err := callAll(hosts, n-done); err != nil {
			return nil, err
		}
		done = n
		m := memory{What: fmt.Sprintf("openleash start, %d upstreams", upstreams), Calls: int64(n)}
		m.Now, m.Peak = p.memory()
		found = append(found, m)
		if upstreams > 1 {
			break
		}
	}
	return found, nil
}

// callAll makes calls, eight at once, on the hosts in turn.
func callAll(hosts []*session, calls int) error {
	const workers = 8
	errs := make([]error, workers)
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for i := w; i < calls && errs[w] == nil; i += workers {
				errs[w] = hosts[i/workers%len(hosts)].call(w)
			}
		})
	}
	group.Wait()
	return first(errs)
}

func memoryOf(c *contestant, transport string) memory {
	m := memory{What: c.name + ", " + transport + ", after the load", Calls: c.calls()}
	m.Now, m.Peak = c.process.memory()
	return m
}
