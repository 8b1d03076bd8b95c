package policy

import (
	"slices"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/internal/strictyaml"
)

type suiteParser struct {
	parser
	named map[string]suiteAction
}

// suiteAction is what a test is about.
type suiteAction struct {
	req action.Request
	env Env
}

func (p *suiteParser) test(n *yaml.Node) (t SuiteTest) {
	f := p.Fields(n, "test", keysIn[suiteTestForm]()...)
	if f == nil {
		return t
	}
	what := "test"
	if name, ok := p.String(f["name"], "test: name"); ok {
		t.Name, what = name, "test "+name
	}
	t.Line, t.Agent = n.Line, "agent"
	p.require(n, f, what, "name", "action", "want")
	if name, ok := p.String(f["agent"], what+": agent"); ok {
		t.Agent = name
	}
	for _, item := range p.List(f["groups"], what+": groups") {
		t.Groups = append(t.Groups, p.scopeName(item, what+": groups"))
	}
	a := p.about(f["action"], what)
	t.Request, t.Env = a.req, a.env
	t.Request.AgentID, t.Env.Now = t.Agent, p.at(f["at"], what)
	t.want, _ = p.OneOf(f["want"], what+": want", Allow.String(), Deny.String(), RequireApproval.String(), RequireStepUp.String(), RequireDeposit.String())
	t.rule, _ = p.String(f["rule"], what+": rule")
	if t.byDefault = t.rule == noRule; t.byDefault {
		t.rule = ""
	}
	t.anyDuties = f["obligations"] == nil
	for _, item := range p.List(f["obligations"], what+": obligations") {
		word, _ := p.OneOf(item, what+": obligations", obligationTypes...)
		t.obligations = append(t.obligations, word)
	}
	slices.Sort(t.obligations)
	return t
}

// about reads an action: a name, or the action itself.
func (p *suiteParser) about(n *yaml.Node, what string) suiteAction {
	if n == nil || n.Kind == yaml.MappingNode {
		return p.action(n, what)
	}
	name, ok := p.String(n, what+": action")
	a, known := p.named[name]
	if ok && !known {
		var names []string
		for other := range p.named {
			names = append(names, other)
		}
		p.Errorf(n, "%s: no action %q%s", what, name, strictyaml.DidYouMean(name, names))
	}
	return a
}

func (p *suiteParser) action(n *yaml.Node, what string) (a suiteAction) {
	f := p.Fields(n, what, keysIn[suiteActionForm]()...)
	if f == nil {
		return a
	}
	p.require(n, f, what, "action_type")
	a.req.ActionType, _ = p.String(f["action_type"], what+": action_type")
	a.req.ActionID, a.req.SubjectID = "00000000-0000-4000-8000-000000000000", "owner"
	a.req.RequestedAt = suiteClock.Format(time.RFC3339)
	a.req.Payload = p.object(f["payload"], what+": payload")
	a.env.Tool = p.object(f["tool"], what+": tool")
	a.env.Open, _ = p.Bool(f["open"], what+": open")
	party := p.Fields(f["relying_party"], what+": relying_party", "domain", "rp_id", "trust_profile")
	a.req.RelyingParty.Domain, _ = p.String(party["domain"], what+": domain")
	a.req.RelyingParty.RPID, _ = p.String(party["rp_id"], what+": rp_id")
	a.req.RelyingParty.TrustProfile, _ = p.String(party["trust_profile"], what+": trust_profile")
	return a
}

// object reads data of the test's own.
func (p *suiteParser) object(n *yaml.Node, what string) action.Value {
	if n == nil {
		return action.Value{}
	}
	if n.Kind != yaml.MappingNode {
		p.Errorf(n, "%s: want a mapping, got %s", what, describe(n))
		return action.Value{}
	}
	return action.ObjectValue(p.members(n, what)...)
}

func (p *suiteParser) at(n *yaml.Node, what string) time.Time {
	if at, ok := p.instant(n, what+": at", "2026-11-23T09:00:00Z"); ok {
		return at
	}
	return suiteClock
}
