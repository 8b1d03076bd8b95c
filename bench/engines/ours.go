package main

import (
	"fmt"
	"strings"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/policy"
)

// ours is this product's engine. The request is made before, as the proxy has it
// when it asks: the others are given theirs ready-made as well.
type ours struct {
	set   *policy.Set
	ready map[request]*action.Request
}

func newOurs(s shape, n int) (engine, error) {
	var bindings []policy.Binding
	const each = 1000 // a file is at most 1 MiB
	for from := 0; from < n; from += each {
		var b strings.Builder
		b.WriteString("version: 1\ndefault: deny\nrules:\n")
		for i := from; i < min(from+each, n); i++ {
			fmt.Fprintf(&b, "- {id: r%d, effect: allow, action: %s%s, constraints: {amount_max: %d%s, currency: [EUR]}}\n", i, s.actionType(i), when(s.shop(i)), s.most(i), atLeast(s.least(i)))
		}
		p, err := policy.Parse(fmt.Sprintf("p%d", from), "p.yaml", []byte(b.String()))
		if err != nil {
			return nil, err
		}
		bindings = append(bindings, policy.Binding{Policy: p, Layer: policy.OwnerLayer})
	}
	e := &ours{policy.Compile(bindings), map[request]*action.Request{}}
	for _, r := range []request{s.request(n - 1), {"other.type", "nobody", 4200}} {
		payload := action.ObjectValue(
			action.Member{Key: "shop", Value: action.StringValue(r.shop)},
			action.Member{Key: "amount_minor", Value: action.IntValue(int64(r.amount))},
			action.Member{Key: "currency", Value: action.StringValue("EUR")})
		e.ready[r] = &action.Request{ActionID: "1", ActionType: r.actionType, RequestedAt: "2026-01-01T00:00:00Z", AgentID: "a", SubjectID: "s", Payload: payload}
	}
	return e, nil
}

func when(shop string) string {
	if shop == "" {
		return ""
	}
	return ", when: {match: {path: $.payload.shop, op: eq, value: " + shop + "}}"
}

func atLeast(n int) string {
	if n < 0 {
		return ""
	}
	return fmt.Sprintf(", amount_min: %d", n)
}

func (e *ours) decide(r request) (bool, error) {
	d := e.set.Decide(e.ready[r], policy.Env{})
	return d.Outcome == policy.Allow, nil
}
