package sqlite

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openleash/openleash-go/audit"
)

// BenchmarkLog is what a durable decision costs, beside an append and a sync of the
// same bytes, and with the log sequenced meanwhile: file, tree and checkpoints.
func BenchmarkLog(b *testing.B) {
	rate := func(b *testing.B) float64 { return float64(b.N) / b.Elapsed().Seconds() }
	var bare, alone float64
	b.Run("append and sync", func(b *testing.B) {
		benchAppend(b)
		bare = rate(b)
		b.ReportMetric(bare, "/s")
	})
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprintf("decisions/writers=%d", writers), func(b *testing.B) {
			benchDecisions(b, writers, false)
			alone = rate(b)
			b.ReportMetric(alone, "/s")
			b.ReportMetric(alone/bare, "of-bare")
		})
		b.Run(fmt.Sprintf("decisions, sequenced/writers=%d", writers), func(b *testing.B) {
			benchDecisions(b, writers, true)
			b.ReportMetric(rate(b), "/s")
			b.ReportMetric(rate(b)/bare, "of-bare")
			b.ReportMetric(rate(b)/alone, "of-unsequenced")
		})
	}
}

func benchAppend(b *testing.B) {
	f, err := os.OpenFile(filepath.Join(b.TempDir(), "bare"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	entry, err := audit.Encode(decision().Entries[0])
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := f.Write(append(entry, '\n')); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLogOffered is what sequencing costs those who wait for a decision when as many
// are asked for as have to be possible (15,000/s, by 64 writers), and not as many as fit
// into two processors: there all that is done takes time from all else.
func BenchmarkLogOffered(b *testing.B) {
	const writers, perSecond = 64, 15_000
	for _, sequenced := range []bool{false, true} {
		b.Run(fmt.Sprintf("sequenced=%t", sequenced), func(b *testing.B) {
			s := openSequenced(b, sequenced)
			took := make([]time.Duration, b.N)
			var next atomic.Int64
			b.ResetTimer()
			began := time.Now()
			each(b, writers, func() error {
				n := next.Add(1) - 1
				due := began.Add(time.Duration(n) * time.Second / perSecond)
				time.Sleep(time.Until(due))
				err := s.Commit(b.Context(), decision())
				took[n] = time.Since(due)
				return err
			})
			b.StopTimer()
			slices.Sort(took)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "/s")
			b.ReportMetric(float64(took[b.N/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[b.N*99/100].Microseconds())/1000, "p99-ms")
		})
	}
}

func benchDecisions(b *testing.B, writers int, sequenced bool) {
	s := openSequenced(b, sequenced)
	b.ResetTimer()
	each(b, writers, func() error { return s.Commit(b.Context(), decision()) })
	b.StopTimer()
}

// openSequenced opens a store, whose log is sequenced until the benchmark ends.
func openSequenced(b *testing.B, sequenced bool) *Store {
	dir := b.TempDir()
	s := open(b, dir)
	if !sequenced {
		return s
	}
	key, err := audit.LoadOrCreateKey(dir)
	if err != nil {
		b.Fatal(err)
	}
	log := audit.NewSequencer(s, filepath.Join(dir, "audit.log.jsonl"), key, audit.Keeping{})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- log.Run(ctx) }()
	b.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	for ; log.Latest().Origin == "" && s.Commit(b.Context(), decision()) == nil; time.Sleep(10 * time.Millisecond) {
	}
	return s
}
