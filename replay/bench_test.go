package replay_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/policy"
	"github.com/openleash/openleash-go/replay"
)

// logOf is a log of so many decisions, a minute from one to the next.
func logOf(n int) []byte {
	var b bytes.Buffer
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range n {
		ts := at.Add(time.Duration(i) * time.Minute).Format("2006-01-02T15:04:05.000Z")
		req := action.Request{
			ActionID: fmt.Sprintf("8e3b0000-0000-4000-8000-%012d", i), ActionType: "mcp.s.buy", RequestedAt: ts, AgentID: "bot", SubjectID: "ann",
			Payload: action.ObjectValue(action.Member{Key: "arguments", Value: action.ObjectValue(
				action.Member{Key: "n", Value: action.IntValue(int64(i % 40))}, action.Member{Key: "to", Value: action.StringValue("a")})}),
		}
		fmt.Fprintf(&b, `{"ts":%q,"event":"decision","actor_type":"agent","actor_id":"bot","action_type":"mcp.s.buy","action_id":%q,"decision":"ALLOW","policy_id":"p","proof_kid":null,"signature_valid":null,"decision_id":"d%d","matched_rule_id":"buy","owner_id":"ann","action_hash":%q,"requested_at":%q,"payload":%s}`+"\n",
			ts, req.ActionID, i, req.Hash(), ts, req.Payload.Canonical())
	}
	return b.Bytes()
}

func BenchmarkRun(b *testing.B) {
	book, err := policy.NewBook("", []policy.Source{{Name: "p.yaml", Text: shop}}, nil)
	if err != nil {
		b.Fatal(err)
	}
	for _, n := range []int{1000, 10_000, 100_000} {
		log := logOf(n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				if _, err := replay.Run(bytes.NewReader(log), book, replay.Options{}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*n), "µs/decision")
		})
	}
}
