package authz_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/openleash/openleash-go/action"
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
