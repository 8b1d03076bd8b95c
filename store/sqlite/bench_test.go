package sqlite

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/authz"
)

// BenchmarkCommit measures durable commits of one decision's entry, on the
// disk of the temporary folder: its fsync is part of what is measured.
func BenchmarkCommit(b *testing.B) {
	for _, callers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			s := open(b, b.TempDir())
			b.ReportAllocs()
			b.ResetTimer()
			each(b, callers, func() error { return s.Commit(b.Context(), decision()) })
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
		})
	}
}

// BenchmarkOpenApproval measures the look that each governed call takes.
func BenchmarkOpenApproval(b *testing.B) {
	s := open(b, b.TempDir())
	r := request("r1")
	if err := s.Commit(b.Context(), authz.Batch{Open: &r}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	each(b, 1, func() error {
		_, err := s.OpenApproval(b.Context(), r.AgentID, r.IntentHash)
		return err
	})
}

// each calls fn b.N times from that many goroutines.
func each(b *testing.B, callers int, fn func() error) {
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := fn(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func decision() authz.Batch {
	return authz.Batch{Entries: []audit.Entry{{
		TS: "2026-05-05T13:42:11.000Z", Event: "decision", ActorType: "agent", ActorID: "local",
		ActionType: new("mcp.shop.buy"), ActionID: new("8e3bdb7c-3a53-4b8e-9d0b-0123456789ab"),
		Decision: new("ALLOW"), PolicyID: new("shop"), ProofKID: new("k4.pid.9ShR3xc8-qVJ_di0tc9nx0IDIqbatdeM2mqLFBJsKRHs"),
		DecisionID: "0e3bdb7c-3a53-4b8e-9d0b-0123456789ab", MatchedRuleID: "small",
		Reason: "small purchases are allowed", Server: "shop", Tool: "buy",
		ActionHash: "sha256:b1a7b1a7b1a7b1a7b1a7b1a7b1a7b1a7b1a7b1a7b1a7b1a7b1a7b1a7b1a7b1a7",
	}}}
}
