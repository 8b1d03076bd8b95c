package authz_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/authz"
)

const allowSmall = `version: 1
default: deny
rules:
  - id: small
    effect: allow
    action: "*"
    when: {match: {path: $.payload.arguments.n, op: lt, value: 1000000}}
`

// BenchmarkSequenced is what sequencing the log costs whole decisions: policy, proof, what
// is on disk, and the outcome.
func BenchmarkSequenced(b *testing.B) {
	for _, writers := range []int{1, 64} {
		var alone float64
		for _, sequenced := range []bool{false, true} {
			b.Run(fmt.Sprintf("writers=%d/sequenced=%t", writers, sequenced), func(b *testing.B) {
				r := newRoom(b, allowSmall, func(c *authz.Config) {
					if sequenced {
						c.Log = sequencing(b, c.Store.(audit.Store))
					}
				})
				var left atomic.Int64
				left.Store(int64(b.N))
				var wg sync.WaitGroup
				b.ResetTimer()
				for range writers {
					wg.Go(func() {
						for left.Add(-1) >= 0 {
							bought(b, r)
						}
					})
				}
				wg.Wait()
				b.StopTimer()
				rate := float64(b.N) / b.Elapsed().Seconds()
				b.ReportMetric(rate, "/s")
				if sequenced {
					b.ReportMetric(rate/alone, "of-unsequenced")
				}
				alone = rate
			})
		}
	}
}

// sequencing runs a sequencer until the benchmark ends.
func sequencing(b *testing.B, store audit.Store) *audit.Sequencer {
	dir := b.TempDir()
	key, err := audit.LoadOrCreateKey(dir)
	if err != nil {
		b.Fatal(err)
	}
	log := audit.NewSequencer(store, filepath.Join(dir, "audit.log.jsonl"), key, audit.Keeping{})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- log.Run(ctx) }()
	b.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	return log
}

// bought is one decision and its outcome.
func bought(b *testing.B, r *room) {
	args, err := action.Parse([]byte(`{"n":3,"text":"bread, milk, and the tea that Ann likes"}`), action.Limits{})
	if err != nil {
		b.Error(err)
	}
	req := action.Request{ActionType: "mcp.s.echo", Payload: action.ObjectValue(action.Member{Key: "arguments", Value: args})}
	call := &authz.Call{Server: "s", Tool: "echo", Arguments: args, Info: action.ObjectValue()}
	ans, err := r.Authorize(context.Background(), r.who, req, call)
	if err != nil || ans.Code != authz.Allowed {
		b.Errorf("%+v, %v", ans, err)
	}
	r.Finish(r.who, call, ans, authz.Outcome{Status: "ok"})
}

// BenchmarkAuthorize is a decision with an argument rule, a proof and the
// durable log: alone, and with others to share the disk's sync with; and the same with
// a receipt of its outcome, which waits for a commit of its own.
func BenchmarkAuthorize(b *testing.B) {
	args, err := action.Parse([]byte(`{"n":3,"text":"bread, milk, and the tea that Ann likes"}`), action.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	req := action.Request{ActionType: "mcp.s.echo", Payload: action.ObjectValue(action.Member{Key: "arguments", Value: args})}
	call := &authz.Call{Server: "s", Tool: "echo", Arguments: args, Info: action.ObjectValue()}
	finish := map[string]func(r *room, ans authz.Answer) error{
		"": func(r *room, ans authz.Answer) error {
			r.Finish(r.who, call, ans, authz.Outcome{Status: "ok"})
			return nil
		},
		", receipts": func(r *room, ans authz.Answer) error {
			_, err := r.FinishWithReceipt(r.who, call, ans, authz.Outcome{Status: "ok"})(context.Background(), action.Hash{1})
			return err
		},
	}
	for with, end := range finish {
		ask := func(b *testing.B, r *room) {
			ans, err := r.Authorize(context.Background(), r.who, req, call)
			if err == nil {
				err = end(r, ans)
			}
			if err != nil || ans.Code != authz.Allowed {
				b.Fatalf("%+v, %v", ans, err)
			}
		}
		b.Run("alone"+with, func(b *testing.B) {
			r := newRoom(b, allowSmall)
			var took []time.Duration
			for b.Loop() {
				start := time.Now()
				ask(b, r)
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
		})
		b.Run("32 at once"+with, func(b *testing.B) {
			r := newRoom(b, allowSmall)
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					ask(b, r)
				}
			})
		})
	}
}
