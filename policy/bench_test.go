package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/policy"
)

// ruleSet writes a policy of n rules of one action, each for a shop of its own.
func ruleSet(n int) string {
	var b strings.Builder
	b.WriteString("version: 1\ndefault: deny\nrules:\n")
	for i := range n {
		fmt.Fprintf(&b, `- id: shop-%d
  effect: allow
  action: purchase
  when: {all: [{match: {path: $.payload.shop, op: eq, value: shop-%d}}, {match: {path: $.payload.items, op: lte, value: 10}}]}
  constraints: {amount_max: 5000, currency: [EUR]}
`, i, i)
	}
	return b.String()
}

func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{10, 1_000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			set := compileRules(b, n)
			req := purchase(b, fmt.Sprintf(`{"shop":"shop-%d","items":3,"amount_minor":4200,"currency":"EUR"}`, n-1))
			b.ReportAllocs()
			for b.Loop() {
				if d := set.Decide(&req, policy.Env{}); d.Outcome != policy.Allow {
					b.Fatal(d)
				}
			}
		})
	}
}

// BenchmarkDecideUnindexed is the worst case: a value that the index is of no
// use for, so every rule is asked.
func BenchmarkDecideUnindexed(b *testing.B) {
	for _, n := range []int{10, 1_000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			set := compileRules(b, n)
			req := purchase(b, `{"shop":7,"items":3,"amount_minor":4200,"currency":"EUR"}`)
			for b.Loop() {
				if d := set.Decide(&req, policy.Env{}); d.Outcome != policy.Deny {
					b.Fatal(d)
				}
			}
		})
	}
}

func BenchmarkTrace(b *testing.B) {
	set := compileRules(b, 1_000)
	req := purchase(b, `{"shop":"shop-999","items":3,"amount_minor":4200,"currency":"EUR"}`)
	for b.Loop() {
		set.Trace(&req, policy.Env{})
	}
}

// compileRules spreads n rules over as many policies as their size asks for.
func compileRules(b *testing.B, n int) *policy.Set {
	b.Helper()
	var bindings []policy.Binding
	text := ruleSet(n)
	rules := strings.SplitAfter(strings.TrimPrefix(text, "version: 1\ndefault: deny\nrules:\n"), "[EUR]}\n")
	const each = 1000
	for i := 0; i < n; i += each {
		src := "version: 1\ndefault: deny\nrules:\n" + strings.Join(rules[i:min(i+each, n)], "")
		p, err := policy.Parse(fmt.Sprintf("p%d", i), "p.yaml", []byte(src))
		if err != nil {
			b.Fatal(err)
		}
		bindings = append(bindings, policy.Binding{Policy: p, Layer: policy.OwnerLayer})
	}
	return policy.Compile(bindings)
}

func purchase(t testing.TB, payload string) action.Request {
	t.Helper()
	v, err := action.Parse([]byte(payload), action.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return action.Request{
		ActionID: "00000000-0000-0000-0000-000000000001", ActionType: "purchase", RequestedAt: "2026-05-05T13:42:11Z",
		AgentID: "shopper", SubjectID: "00000000-0000-0000-0000-000000000002", Payload: v,
	}
}

// BenchmarkLoad reads and compiles 10,000 rules, in files of 1,000: rules that are
// told apart by an equality, and, the worst for the linter, by a range alone.
func BenchmarkLoad(b *testing.B) {
	const n, each = 10_000, 1_000
	for _, shape := range []struct{ name, rule string }{
		{"equalities", "- {id: r%d, effect: allow, action: purchase, when: {match: {path: $.payload.shop, op: eq, value: s%[1]d}}, constraints: {amount_max: 5000, currency: [EUR]}}\n"},
		{"ranges", "- {id: r%d, effect: allow, action: purchase, constraints: {amount_min: 1%[1]d0, amount_max: 1%[1]d9, currency: [EUR]}}\n"},
		{"denies", "- {id: r%d, effect: deny, action: purchase, when: {match: {path: $.payload.shop, op: eq, value: s%[1]d}}}\n"},
	} {
		b.Run(shape.name, func(b *testing.B) {
			var sources []policy.Source
			for from := 0; from < n; from += each {
				text := strings.Builder{}
				text.WriteString("version: 1\ndefault: deny\nrules:\n")
				for i := from; i < from+each; i++ {
					fmt.Fprintf(&text, shape.rule, i)
				}
				sources = append(sources, policy.Source{Name: fmt.Sprintf("p%d.yaml", from), Text: text.String()})
			}
			for b.Loop() {
				book, err := policy.NewBook("p", sources, nil)
				if err != nil {
					b.Fatal(err)
				}
				book.For("bot")
			}
		})
	}
}
