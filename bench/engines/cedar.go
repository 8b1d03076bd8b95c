package main

import (
	"fmt"
	"strings"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
)

// cedarEngine is github.com/cedar-policy/cedar-go: a permit for each rule.
type cedarEngine struct {
	policies *cedar.PolicySet
	entities types.EntityMap
	ready    map[request]cedar.Request
}

func newCedar(s shape, n int) (engine, error) {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "permit(principal, action == Action::%q, resource) when { context.currency == \"EUR\" && context.amount <= %d%s%s };\n",
			s.actionType(i), s.most(i), cedarLeast(s.least(i)), cedarShop(s.shop(i)))
	}
	policies, err := cedar.NewPolicySetFromBytes("rules.cedar", []byte(b.String()))
	if err != nil {
		return nil, err
	}
	e := &cedarEngine{policies, types.EntityMap{}, map[request]cedar.Request{}}
	for _, r := range []request{s.request(n - 1), {"other.type", "nobody", 4200}} {
		e.ready[r] = cedar.Request{
			Principal: types.NewEntityUID("Agent", "a"), Action: types.NewEntityUID("Action", types.String(r.actionType)), Resource: types.NewEntityUID("Party", "p"),
			Context: types.NewRecord(types.RecordMap{"shop": types.String(r.shop), "amount": types.Long(r.amount), "currency": types.String("EUR")}),
		}
	}
	return e, nil
}

func cedarLeast(n int) string {
	if n < 0 {
		return ""
	}
	return fmt.Sprintf(" && context.amount >= %d", n)
}

func cedarShop(shop string) string {
	if shop == "" {
		return ""
	}
	return fmt.Sprintf(" && context.shop == %q", shop)
}

func (e *cedarEngine) decide(r request) (bool, error) {
	ok, diagnostic := cedar.Authorize(e.policies, e.entities, e.ready[r])
	if len(diagnostic.Errors) > 0 {
		return false, fmt.Errorf("%v", diagnostic.Errors[0])
	}
	return ok == cedar.Allow, nil
}
