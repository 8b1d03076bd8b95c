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
		_, err := s.OpenApproval(b.Context(), r.AgentID, r.IntentHash, r.CreatedAt, r.CreatedAt)
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

// BenchmarkReserve measures a commit that charges a limit, by how many charges are
// in the window.
func BenchmarkReserve(b *testing.B) {
	for _, before := range []int{0, 1_000, 100_000} {
		b.Run(fmt.Sprintf("charges=%d", before), func(b *testing.B) {
			s := open(b, b.TempDir())
			charge := authz.Charge{Limit: "shop/daily", Key: "[]", Amount: 1, Max: 1 << 40, Trailing: 1 << 40}
			fill := func(t *tx) error {
				for i := range before {
					r := authz.Reservation{ActionID: fmt.Sprint(-i), AgentID: "local", Now: int64(i)}
					if _, err := t.exec(`INSERT INTO charges (limit_id, key, at, amount, held, agent_id, action_id, action_hash, decision_id)
						VALUES (?, ?, ?, 1, 0, ?, ?, zeroblob(32), '')`, charge.Limit, charge.Key, r.Now, r.AgentID, r.ActionID); err != nil {
						return err
					}
				}
				return nil
			}
			if err := s.write(b.Context(), fill); err != nil {
				b.Fatal(err)
			}
			n := 0
			b.ResetTimer()
			each(b, 1, func() error {
				n++
				d := decision()
				d.Reserve = &authz.Reservation{DecisionID: fmt.Sprint(n), AgentID: "local", ActionID: fmt.Sprint(n), ActionHash: d.Entries[0].ActionHash, Now: int64(before + n), Charges: []authz.Charge{charge}}
				return s.Commit(b.Context(), d)
			})
		})
	}
}
