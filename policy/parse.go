package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/internal/strictyaml"
)

// maxProofTTL is the longest life of a proof.
const maxProofTTL = time.Hour

// Parse reads one policy. The error is a strictyaml.ErrorList: all faults at once.
// What is valid and probably not meant are the policy's Warnings.
func Parse(id, file string, src []byte) (*Policy, error) {
	doc, err := strictyaml.Parse(file, src)
	if err != nil {
		return nil, err
	}
	p := &parser{Doc: doc}
	pol := p.policy(doc.Root)
	if err := doc.Err(); err != nil {
		return nil, err
	}
	p.finish(pol, id)
	return pol, nil
}

// finish names a policy, and looks for what is probably not meant.
func (p *parser) finish(pol *Policy, id string) {
	pol.ID, pol.File = id, p.File
	for _, l := range pol.allLimits() {
		l.ID = id + "/" + l.name
	}
	p.lintLimits()
	pol.Warnings = append(p.warnings, pol.lint()...)
	slices.SortStableFunc(pol.Warnings, byPlace)
}

// A parser reads one document. Its methods note faults and go on, so that all
// of them are reported; what they return counts only if there was none.
type parser struct {
	*strictyaml.Doc
	warnings []strictyaml.Error
	bounded  []limitPlace // all limits so far
}

func (p *parser) policy(n *yaml.Node) *Policy {
	pol := &Policy{}
	f := p.Fields(n, "policy", keysIn[policyForm]()...)
	if f == nil {
		return pol
	}
	p.require(n, f, "policy", "version", "default", "rules")
	if v, ok := p.Int(f["version"], "version"); ok && v != 1 {
		p.Errorf(f["version"], "version: want 1, the only version there is, got %d", v)
	}
	p.header(pol, f)
	mode, _ := p.OneOf(f["mode"], "mode", modes...)
	pol.shadow = mode == "shadow"
	pol.fallback, pol.passthrough = p.fallback(f["default"])
	pol.limits = p.limits(f["limits"], nil, "policy")
	pol.rules = p.rules(f["rules"])
	pol.log = p.log(f["log"])
	return pol
}

// require notes the keys that are not there.
func (p *parser) require(n *yaml.Node, f map[string]*yaml.Node, what string, keys ...string) {
	for _, key := range keys {
		if f[key] == nil {
			p.Errorf(n, "%s: %s is missing", what, key)
		}
	}
}

func (p *parser) fallback(n *yaml.Node) (o Outcome, passthrough bool) {
	word, _ := p.OneOf(n, "default", defaults...)
	switch word {
	case "allow":
		return Allow, false
	case "require_approval":
		return RequireApproval, false
	}
	return Deny, word == "passthrough"
}

func (p *parser) rules(n *yaml.Node) []*rule {
	var rules []*rule
	first := make(map[string]int)
	for _, item := range p.List(n, "rules") {
		r, idNode := p.rule(item)
		if line, again := first[r.id]; again && r.id != "" {
			p.Errorf(idNode, "rule %q: a rule on line %d has this id already; ids name the rule in answers and in the log", r.id, line)
		} else if idNode != nil {
			first[r.id] = idNode.Line
		}
		rules = append(rules, r)
	}
	return rules
}

func (p *parser) rule(n *yaml.Node) (r *rule, idNode *yaml.Node) {
	r = &rule{}
	f := p.Fields(n, "rule", keysIn[ruleForm]()...)
	if f == nil {
		return r, nil
	}
	what := "rule"
	if id, ok := p.String(f["id"], "id"); ok {
		if id == "" {
			p.Errorf(f["id"], "id: is empty; give the rule a name of its own")
		}
		r.id, what = id, fmt.Sprintf("rule %q", id)
		r.place = p.At(f["id"], "")
	}
	p.require(n, f, what, "id", "effect", "action")
	effect, _ := p.OneOf(f["effect"], what+": effect", effects...)
	r.allow = effect == "allow"
	r.description, _ = p.String(f["description"], what+": description")
	r.pattern = p.pattern(f["action"], what)
	if f["when"] != nil {
		r.when = p.expr(f["when"], what+": when")
	}
	p.constraints(r, f["constraints"], what)
	for _, t := range []*test{p.schedule(f["schedule"], what), p.expires(f["expires"], what)} {
		if t != nil {
			r.constraints = append(r.constraints, t)
		}
	}
	p.duties(r, f, what)
	p.proof(r, f["proof"], what)
	p.final(r, f["final"], effect, what)
	r.limits = p.limits(f["limits"], r, what)
	p.lintRule(r, f, what)
	return r, f["id"]
}

func (p *parser) final(r *rule, n *yaml.Node, effect, what string) {
	r.final, _ = p.Bool(n, what+": final")
	if r.final && effect == "allow" {
		p.Errorf(n, "%s: final: only a deny can be final; an allow rule decides by its place", what)
	}
}

// pattern refuses what version 0.27 took for a literal: a deny rule for
// "*.delete" that never matches is no deny rule.
func (p *parser) pattern(n *yaml.Node, what string) pattern {
	text, ok := p.String(n, what+": action")
	if !ok {
		return pattern{}
	}
	if text == "*" {
		return pattern{below: true}
	}
	name, below := strings.CutSuffix(text, ".*")
	switch {
	case name == "":
		p.Errorf(n, `%s: action: %q names no action; write "*" for all`, what, text)
	case strings.Contains(name, "*"):
		p.Errorf(n, `%s: action: %q: a "*" stands alone ("*") or at the end after a dot ("purchase.*")`, what, text)
	}
	return pattern{name, below}
}

// duties reads obligations and requirements: both end as obligations.
func (p *parser) duties(r *rule, f map[string]*yaml.Node, what string) {
	for _, item := range p.List(f["obligations"], what+": obligations") {
		r.obligations = append(r.obligations, p.obligation(item, what+": obligation"))
	}
	req := p.Fields(f["requirements"], what+": requirements", append(keysIn[requirementsForm](), "credential_scheme")...)
	if n := req["credential_scheme"]; n != nil {
		p.Errorf(n, "%s: credential_scheme: nothing checks it yet, so a rule must not rely on it; remove it, and ask for a person with the obligation HUMAN_APPROVAL", what)
	}
	level, ok := p.OneOf(req["min_assurance_level"], what+": min_assurance_level", levels...)
	if ok {
		params := action.ObjectValue(action.Member{Key: "min_assurance_level", Value: action.StringValue(level)})
		r.obligations = append(r.obligations, Obligation{Type: StepUpAuth, Params: params})
	}
	r.outcome = Deny
	if r.allow {
		r.outcome = obliges(r.obligations)
	}
}

// obligation reads {type, params?, …}: params and the keys beside type become
// one object.
func (p *parser) obligation(n *yaml.Node, what string) (o Obligation) {
	entries := p.Entries(n, what)
	if entries == nil {
		return o
	}
	var typeNode *yaml.Node
	var params []action.Member
	for _, e := range entries {
		switch {
		case e.Key == "type":
			typeNode = e.Value
		case e.Key == "params" && e.Value.Kind == yaml.MappingNode:
			params = append(params, p.members(e.Value, what+": params")...)
		default:
			params = append(params, action.Member{Key: e.Key, Value: p.data(e.Value, what+": "+e.Key)})
		}
	}
	if typeNode == nil {
		p.Errorf(n, "%s: type is missing", what)
	}
	o.Type, _ = p.OneOf(typeNode, what+": type", obligationTypes...)
	p.unique(n, params, what)
	if len(params) > 0 {
		o.Params = action.ObjectValue(params...)
	}
	return o
}

func (p *parser) unique(n *yaml.Node, ms []action.Member, what string) {
	seen := make(map[string]bool)
	for _, m := range ms {
		if seen[m.Key] {
			p.Errorf(n, "%s: %s stands both in params and beside them", what, m.Key)
		}
		seen[m.Key] = true
	}
}

func (p *parser) proof(r *rule, n *yaml.Node, what string) {
	f := p.Fields(n, what+": proof", keysIn[proofForm]()...)
	if required, ok := p.Bool(f["required"], what+": proof: required"); ok {
		r.noProof = !required
	}
	secs, ok := p.Int(f["ttl_seconds"], what+": proof: ttl_seconds")
	if ok && (secs < 1 || secs > int64(maxProofTTL/time.Second)) {
		p.Errorf(f["ttl_seconds"], "%s: proof: ttl_seconds: want 1 to %d, got %d", what, maxProofTTL/time.Second, secs)
	}
	r.proofTTL = time.Duration(secs) * time.Second
}

func (p *parser) constraints(r *rule, n *yaml.Node, what string) {
	f := p.Fields(n, what+": constraints", keysIn[constraintsForm]()...)
	if f == nil {
		return
	}
	r.amount, r.span = p.amounts(f["amount_min"], f["amount_max"], what)
	if codes := p.strings(f["currency"], what+": currency"); codes != nil {
		r.constraints = append(r.constraints, currencyTest(codes).named("currency", codes))
	}
	for _, c := range []struct {
		key, path string
		blocked   bool
	}{{"merchant_domain", merchantPath, false}, {"allowed_domains", domainPath, false}, {"blocked_domains", domainPath, true}} {
		if list, names := p.domains(f[c.key], what+": "+c.key); list != nil {
			t := domainTest(c.path, list, c.blocked).named(c.key, names)
			t.narrow = p.gaps(list, f[c.key], what+": "+c.key)
			r.constraints = append(r.constraints, t)
		}
	}
}

// named gives a constraint its canonical text.
func (t *test) named(key string, values []string) *test {
	t.text = fmt.Sprintf("%s %q", key, slices.Sorted(slices.Values(values)))
	return t
}

func (p *parser) amounts(low, high *yaml.Node, what string) (*test, span) {
	least := p.minorUnits(low, what+": amount_min")
	most := p.minorUnits(high, what+": amount_max")
	if least != nil && most != nil && *least > *most {
		p.Errorf(low, "%s: amount_min %d is more than amount_max %d, so the rule can never match", what, *least, *most)
	}
	if least == nil && most == nil {
		return nil, span{}
	}
	t := amountTest(least, most)
	t.text = "amount " + span{least, most}.String()
	return t, span{least, most}
}

// strings reads a list that must hold something.
func (p *parser) strings(n *yaml.Node, what string) []string {
	list, ok := p.Strings(n, what)
	if ok && len(list) == 0 {
		p.Errorf(n, "%s: the list is empty; fill it, or leave the key out", what)
	}
	return list
}

func (p *parser) domains(n *yaml.Node, what string) (list *domains, names []string) {
	names = p.strings(n, what)
	if len(names) == 0 {
		return nil, nil
	}
	list = &domains{}
	for i, name := range names {
		if err := list.add(name); err != nil {
			p.Errorf(p.List(n, what)[i], "%s: %v", what, err)
		}
	}
	return list, names
}

func byPlace(a, b strictyaml.Error) int {
	return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
}
