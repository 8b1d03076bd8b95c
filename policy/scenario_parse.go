package policy

import (
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/openleash/openleash-go/internal/strictyaml"
)

type scenarioForm struct {
	Title    string         `json:"title"`
	Shows    string         `json:"shows"`
	Policies []string       `json:"policies"` // shipped ones, by name
	Policy   policyForm     `json:"policy"`   // one of the scenario's own, before them
	Actions  map[string]any `json:"actions"`  // by name, as in a suite
	Steps    []stepForm     `json:"steps"`
}

type stepForm struct {
	Does   string    `json:"does"`
	Action any       `json:"action"`
	Agent  string    `json:"agent"`
	At     time.Time `json:"at"`
	Want   string    `json:"want"`
	Rule   string    `json:"rule"`
	Shadow string    `json:"shadow"`
	Then   string    `json:"then"`
}

// thens are what can come after a decision: the owner's answer to what waits, an
// error of the server to what runs.
var thens = []string{"approved", "denied", "error"}

var outcomes = []string{Allow.String(), Deny.String(), RequireApproval.String(), RequireStepUp.String(), RequireDeposit.String()}

// ParseScenario reads a scenario, which may be told with shipped policies. The
// error is a strictyaml.ErrorList.
func ParseScenario(file string, src []byte, shipped fs.FS) (*Scenario, error) {
	doc, err := strictyaml.Parse(file, src)
	if err != nil {
		return nil, err
	}
	p := &scenarioParser{suiteParser{parser{Doc: doc}, map[string]suiteAction{}}, shipped, time.Time{}}
	s := p.scenario(doc.Root)
	if err := doc.Err(); err != nil {
		return nil, err
	}
	return s, nil
}

type scenarioParser struct {
	suiteParser
	shipped fs.FS
	clock   time.Time // of the step before
}

func (p *scenarioParser) scenario(n *yaml.Node) *Scenario {
	s := &Scenario{ID: policyID(path.Base(p.File))}
	f := p.Fields(n, "scenario", keysIn[scenarioForm]()...)
	if f == nil {
		return s
	}
	p.require(n, f, "scenario", "title", "shows", "steps")
	s.Title, _ = p.String(f["title"], "title")
	s.Shows, _ = p.String(f["shows"], "shows")
	p.tell(s, n, f)
	for _, e := range p.Entries(f["actions"], "actions") {
		p.named[e.Key] = p.action(e.Value, "action "+e.Key)
	}
	steps := p.List(f["steps"], "steps")
	for _, step := range steps {
		s.Steps = append(s.Steps, p.step(step))
	}
	if f["steps"] != nil && len(steps) == 0 {
		p.Errorf(f["steps"], "steps: want one at least")
	}
	return s
}

// tell reads the policies: the scenario's own, then shipped ones, in this order.
func (p *scenarioParser) tell(s *Scenario, n *yaml.Node, f map[string]*yaml.Node) {
	var told []*Policy
	if f["policy"] != nil {
		told = append(told, p.policy(f["policy"]))
	}
	for _, item := range p.List(f["policies"], "policies") {
		if shipped := p.template(item); shipped != nil {
			told = append(told, shipped)
		}
	}
	if f["policy"] == nil && f["policies"] == nil {
		p.Errorf(n, "scenario: want policies (names of shipped ones) or a policy")
	}
	if p.Err() != nil {
		return
	}
	if f["policy"] != nil {
		p.finish(told[0], s.ID)
	}
	s.Book = &Book{Hash: hashSources(nil), bound: map[Scope][]*Policy{owners: told}}
	for _, pol := range told {
		s.Told = append(s.Told, pol.ID)
	}
	s.Book.compile(path.Dir(p.File))
}

// template reads a shipped policy by its name.
func (p *scenarioParser) template(n *yaml.Node) *Policy {
	name, ok := p.String(n, "policies")
	if !ok {
		return nil
	}
	names := p.templates()
	if !slices.Contains(names, name) {
		p.Errorf(n, "policies: no shipped policy is named %q%s", name, strictyaml.DidYouMean(name, names))
		return nil
	}
	file := "policies/" + name + ".yaml"
	src, err := fs.ReadFile(p.shipped, file)
	if err != nil {
		p.Errorf(n, "policies: %v", err)
		return nil
	}
	pol, err := Parse(name, file, src)
	if err != nil {
		p.Errorf(n, "policies: %v", err)
	}
	return pol
}

func (p *scenarioParser) templates() (names []string) {
	files, _ := fs.Glob(p.shipped, "policies/*.yaml") // the pattern is good
	for _, file := range files {
		if !IsSuite(file) {
			names = append(names, strings.TrimSuffix(path.Base(file), ".yaml"))
		}
	}
	return names
}

func (p *scenarioParser) step(n *yaml.Node) (s Step) {
	f := p.Fields(n, "step", keysIn[stepForm]()...)
	if f == nil {
		return s
	}
	p.require(n, f, "step", "does", "action", "at", "want")
	s.Does, _ = p.String(f["does"], "step: does")
	s.Line, s.Agent = n.Line, "agent"
	if name, ok := p.String(f["agent"], "step: agent"); ok {
		s.Agent = name
	}
	if f["action"] != nil {
		a := p.about(f["action"], "step")
		s.Request, s.Env = a.req, a.env
	}
	s.Request.AgentID, s.Env.Now = s.Agent, p.later(f["at"])
	s.Want, _ = p.OneOf(f["want"], "step: want", outcomes...)
	s.rule, _ = p.String(f["rule"], "step: rule")
	s.shadow, _ = p.OneOf(f["shadow"], "step: shadow", outcomes...)
	s.then = p.then(f["then"], s.Want)
	return s
}

// later reads the time of a step, which is not before that of the last.
func (p *scenarioParser) later(n *yaml.Node) time.Time {
	at, ok := p.instant(n, "step: at", "2026-11-23T09:00:00+01:00")
	if !ok {
		return at
	}
	if at.Before(p.clock) {
		p.Errorf(n, "step: at: is before the step that stands above it; tell steps in the order of time")
	}
	p.clock = at
	return at
}

// then reads what comes after the decision that is told.
func (p *scenarioParser) then(n *yaml.Node, want string) string {
	word, ok := p.OneOf(n, "step: then", thens...)
	switch held := want != Allow.String() && want != Deny.String(); {
	case !ok || want == "":
	case word == "error" && want != Allow.String():
		p.Errorf(n, "step: then: error is for a step that runs, and this one wants %s", want)
	case word != "error" && !held:
		p.Errorf(n, "step: then: %s is for a step that waits, and this one wants %s", word, want)
	}
	return word
}
