package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
)

// opa is github.com/open-policy-agent/opa as a library: a rule of Rego for each,
// prepared, with the input parsed before. Its compiler indexes equalities.
type opa struct {
	query rego.PreparedEvalQuery
	ready map[request]ast.Value
}

// mostRules is what its compiler takes within a minute here.
const mostRules = 10_000

func newOPA(s shape, n int) (engine, error) {
	if n > mostRules {
		return nil, errTooSlow
	}
	var b strings.Builder
	b.WriteString("package rules\n\ndefault allow := false\n")
	for i := range n {
		fmt.Fprintf(&b, "allow if { input.action == %q; input.currency == \"EUR\"; input.amount <= %d", s.actionType(i), s.most(i))
		if shop := s.shop(i); shop != "" {
			fmt.Fprintf(&b, "; input.shop == %q", shop)
		}
		if least := s.least(i); least >= 0 {
			fmt.Fprintf(&b, "; input.amount >= %d", least)
		}
		b.WriteString(" }\n")
	}
	query, err := rego.New(rego.Query("data.rules.allow"), rego.Module("rules.rego", b.String())).PrepareForEval(context.Background())
	if err != nil {
		return nil, err
	}
	e := &opa{query, map[request]ast.Value{}}
	for _, r := range []request{s.request(n - 1), {"other.type", "nobody", 4200}} {
		v, err := ast.InterfaceToValue(map[string]any{"action": r.actionType, "shop": r.shop, "amount": r.amount, "currency": "EUR"})
		if err != nil {
			return nil, err
		}
		e.ready[r] = v
	}
	return e, nil
}

func (e *opa) decide(r request) (bool, error) {
	results, err := e.query.Eval(context.Background(), rego.EvalParsedInput(e.ready[r]))
	return err == nil && results.Allowed(), err
}
