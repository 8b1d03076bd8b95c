package main

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// plan says how long a run takes.
type plan struct {
	rounds int           // of each contestant, at each number of calls at once
	slice  time.Duration // one round
	starts int           // processes started to time their first answer
	calls  int           // before memory is read
	clicks int           // of each kind of measureHeld
}

var (
	fullPlan  = plan{rounds: 6, slice: time.Second, starts: 10, calls: 10_000, clicks: 200}
	shortPlan = plan{rounds: 2, slice: 250 * time.Millisecond, starts: 3, calls: 1_000, clicks: 50}
)

// atOnce are the numbers of calls under way at a time.
var atOnce = []int{1, 8, 32}

// cell is what was measured of one contestant at one number of calls at once.
// Ratio and Added compare with the direct contestant of the same round; the
// middle one of the rounds is told, so that what else the machine did in one of
// them does not tell.
type cell struct {
	Transport  string  `json:"transport"`
	Contestant string  `json:"contestant"`
	AtOnce     int     `json:"at_once"`
	Calls      int     `json:"calls"`
	P50        float64 `json:"p50_ms"`
	P99        float64 `json:"p99_ms"`
	PerSecond  float64 `json:"calls_per_second"`
	Ratio      float64 `json:"p50_ratio_to_direct"`
	Added      float64 `json:"p50_added_ms"`
	CPU        float64 `json:"proxy_cpu_us_per_call"` // of the proxy's process alone
}

// race drives contestants in turns, round by round, so that they share what the
// machine does meanwhile. The first is the direct one.
func race(transport string, all []*contestant, n int, p plan, do asking) ([]cell, error) {
	runs := make([][]run, len(all))
	for round := range p.rounds {
		for i := range all {
			i = (i + round) % len(all)
			r, err := drive(all[i], n, p.slice, do)
			if err != nil {
				return nil, fmt.Errorf("%s, %s, %d at once: %w", transport, all[i].name, n, err)
			}
			runs[i] = append(runs[i], r)
		}
	}
	var cells []cell
	for i, c := range all {
		cells = append(cells, summary(transport, c.name, n, runs[i], runs[0]))
	}
	return cells, nil
}

// run is one round of one contestant.
type run struct {
	took    []time.Duration // each call, sorted
	elapsed time.Duration
	cpu     time.Duration
}

func (r run) p50() float64 { return percentile(r.took, 50) }

// asking is one request of a worker, with its answer.
type asking func(s *session, worker int) error

// drive asks as often as it can, n requests at once, for a time.
func drive(c *contestant, n int, d time.Duration, do asking) (run, error) {
	took, errs := make([][]time.Duration, n), make([]error, n)
	before, begin := c.process.cpu(), time.Now()
	var workers sync.WaitGroup
	for w := range n {
		workers.Go(func() {
			for begun := time.Now(); begun.Sub(begin) < d; begun = time.Now() {
				if errs[w] = do(c.session, w); errs[w] != nil {
					return
				}
				took[w] = append(took[w], time.Since(begun))
			}
		})
	}
	workers.Wait()
	r := run{took: slices.Concat(took...), elapsed: time.Since(begin), cpu: c.process.cpu() - before}
	slices.Sort(r.took)
	return r, first(errs)
}

func first(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// warm calls a few times at each number of calls at once, so that connections,
// statements and caches are there.
func warm(all []*contestant, p plan) error {
	for _, c := range all {
		if _, err := drive(c, slices.Max(atOnce), p.slice/4, (*session).call); err != nil {
			return fmt.Errorf("warming up %s: %w", c.name, err)
		}
	}
	return nil
}

func summary(transport, name string, n int, runs, direct []run) cell {
	var took []time.Duration
	var elapsed, cpu time.Duration
	var ratios, added []float64
	for i, r := range runs {
		took, elapsed, cpu = append(took, r.took...), elapsed+r.elapsed, cpu+r.cpu
		ratios = append(ratios, r.p50()/direct[i].p50())
		added = append(added, r.p50()-direct[i].p50())
	}
	slices.Sort(took)
	return cell{
		Transport: transport, Contestant: name, AtOnce: n, Calls: len(took),
		P50: percentile(took, 50), P99: percentile(took, 99), PerSecond: float64(len(took)) / elapsed.Seconds(),
		Ratio: median(ratios), Added: median(added), CPU: float64(cpu.Microseconds()) / float64(len(took)),
	}
}

// percentile of sorted times, in milliseconds.
func percentile(sorted []time.Duration, p int) float64 {
	return milliseconds(sorted[(len(sorted)-1)*p/100])
}

func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
