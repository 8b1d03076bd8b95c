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
	t.Groups = p.groups(f["groups"], what)
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
	t.anyOver = f["over"] == nil
	for _, item := range p.List(f["over"], what+": over") {
		id, _ := p.String(item, what+": over")
		t.over = append(t.over, id)
	}
	slices.Sort(t.over)
	for _, item := range p.List(f["history"], what+": history") {
		t.history = append(t.history, p.event(item, what+": history", t))
	}
	return t
}

func (p *suiteParser) groups(n *yaml.Node, what string) (names []string) {
	for _, item := range p.List(n, what+": groups") {
		names = append(names, p.scopeName(item, what+": groups"))
	}
	return names
}

// event reads something that was asked for before a test.
func (p *suiteParser) event(n *yaml.Node, what string, t SuiteTest) (e suiteEvent) {
	f := p.Fields(n, what, keysIn[suiteEventForm]()...)
	if f == nil {
		return e
	}
	p.require(n, f, what, "action")
	e.line, e.agent, e.groups, e.times, e.outcome = n.Line, t.Agent, t.Groups, 1, "ok"
	if name, ok := p.String(f["agent"], what+": agent"); ok {
		e.agent, e.groups = name, nil
	}
	if f["groups"] != nil {
		e.groups = p.groups(f["groups"], what)
	}
	a := p.about(f["action"], what)
	e.request, e.env = a.req, a.env
	e.request.AgentID, e.env.Now = e.agent, t.Env.Now
	if f["at"] != nil {
		e.env.Now = p.at(f["at"], what)
	}
	if e.env.Now.After(t.Env.Now) {
		p.Errorf(f["at"], "%s: want a time before that of the test, %s", what, t.Env.Now.Format(time.RFC3339))
	}
	if times, ok := p.Int(f["times"], what+": times"); ok {
		e.times = times
		if times < 1 || times > maxTimes {
			p.Errorf(f["times"], "%s: times: want 1 to %d, got %d", what, maxTimes, times)
		}
	}
	if word, ok := p.OneOf(f["outcome"], what+": outcome", "ok", "error", "unsent", "waiting"); ok {
		e.outcome = word
	}
	return e
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
