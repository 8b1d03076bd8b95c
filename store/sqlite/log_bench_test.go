package sqlite

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
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

func benchDecisions(b *testing.B, writers int, sequenced bool) {
	dir := b.TempDir()
	s := open(b, dir)
	ctx, stop := context.WithCancel(b.Context())
	done := make(chan error, 1)
	if sequenced {
		key, err := audit.LoadOrCreateKey(dir)
		if err != nil {
			b.Fatal(err)
		}
		log := audit.NewSequencer(s, filepath.Join(dir, "audit.log.jsonl"), key, audit.Keeping{})
		go func() { done <- log.Run(ctx) }()
		for ; log.Latest().Origin == "" && s.Commit(b.Context(), decision()) == nil; time.Sleep(10 * time.Millisecond) {
		}
	} else {
		done <- nil
	}
	b.ResetTimer()
	each(b, writers, func() error { return s.Commit(b.Context(), decision()) })
	b.StopTimer()
	stop()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}
