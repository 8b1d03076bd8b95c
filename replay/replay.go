// Package replay decides recorded decisions again, with other policies: what would
// have been decided otherwise. It promises:
//
//   - What is told as the same was decided on whole: the action is rebuilt from its
//     line, and has the hash that stands there. Where the record lacks what a decision
//     depends on, that decision is undecidable, and never the same.
//   - The record is taken in its order, at its times. Limits begin empty, and are
//     charged with what would have run: what the new policies allow, and what they
//     would have had approved and has run. What was given back is given back.
//   - An owner's answers hold as they were given: what waited and was approved runs,
//     where the new policies still want an approval, and not more than was shown or given
//     then.
//   - Nothing is changed or spent.
package replay

import (
	"cmp"
	"slices"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/policy"
)

// A Verdict is what was, or would be, decided.
type Verdict struct {
	Decision string `json:"decision"` // the word of an outcome
	PolicyID string `json:"policy_id,omitempty"`
	RuleID   string `json:"rule_id,omitempty"`
	Reason   string `json:"reason,omitempty"`
}

// A Case is one recorded decision.
type Case struct {
	Line       int     `json:"line"`
	At         string  `json:"at"`
	Agent      string  `json:"agent"`
	ActionType string  `json:"action_type"`
	DecisionID string  `json:"decision_id"`
	Was        Verdict `json:"was"`
	Now        Verdict `json:"now"`
	Why        string  `json:"why,omitempty"` // it is undecidable
}

// A Group is cases that are alike.
type Group struct {
	Was      string `json:"was"` // the word of an outcome
	Now      string `json:"now"` // empty: undecidable
	By       string `json:"by"`  // what decides now: "mail/outside"; or why it is undecidable
	Count    int    `json:"count"`
	Examples []Case `json:"examples"` // the first of them
}

// A Report is what came of a replay.
type Report struct {
	From        string  `json:"from,omitempty"` // the times of the first and the last decision
	To          string  `json:"to,omitempty"`
	Decisions   int     `json:"decisions"`
	Same        int     `json:"same"`
	Differ      []Group `json:"differ"`
	Undecidable []Group `json:"undecidable"`
	// Apart are refusals that no policy gave: of arguments that reach into OpenLeash,
	// or while no policy was in force.
	Apart int `json:"apart"`
	// Torn is the line at which the record ends in the middle; 0: it is whole.
	Torn int `json:"torn,omitempty"`
}

// Counts are how many cases groups have together.
func Counts(groups []Group) (n int) {
	for _, g := range groups {
		n += g.Count
	}
	return n
}

// A player is a replay on its way.
type player struct {
	book     *policy.Book
	since    time.Time
	examples int
	report   Report
	ledger   policy.Ledger
	ran      map[string]charged // that was charged, by decision
	waiting  map[string]held    // by agent and intent
	intents  map[string]string  // under which a request is in waiting
	asked    map[string]string  // the decision for which an owner was asked, by request
	approved map[string]Verdict // what was said to the first message of a call, by request
	doubt    map[string]int64   // when a limit was last charged by what is undecidable, by its id
	groups   map[groupKey]int   // in report.Differ, or in report.Undecidable
}

type groupKey struct{ was, now, by string }

// charged is a call that has run.
type charged struct {
	decision policy.Decision
	by       string
}

// held is a call that waits for its owner, or has been approved.
type held struct {
	charged
	request string           // its id
	until   time.Time        // how long something is set aside for it
	shown   map[string]int64 // by how much it is over limits, by limit and key
}

// decision replays one.
func (p *player) decision(e entry) {
	if e.notByPolicy() {
		p.report.Apart++
		return
	}
	before := e.at.Before(p.since) // it only fills the limits
	if !before {
		p.report.Decisions++
		p.report.From = cmp.Or(p.report.From, e.text("ts"))
		p.report.To = e.text("ts")
	}
	c := Case{Line: e.line, At: e.text("ts"), Agent: e.text("actor_id"), ActionType: e.text("action_type"), DecisionID: e.text("decision_id"), Was: e.verdict(p.asked[e.text("approval_id")])}
	if e.waits() {
		p.asked[e.text("approval_id")] = e.text("decision")
	}
	req, env, why := e.request()
	if why == "" {
		c.Now, why = p.decide(e, req, env)
	}
	if why != "" {
		p.doubtLimits(e)
	}
	switch {
	case before:
	case why != "":
		c.Why = why
		p.group(&p.report.Undecidable, c, groupKey{was: c.Was.Decision, by: why})
	case c.Now.Decision == c.Was.Decision:
		p.report.Same++
	default:
		p.group(&p.report.Differ, c, groupKey{c.Was.Decision, c.Now.Decision, c.Now.by()})
	}
}

func (v Verdict) by() string {
	switch {
	case v.PolicyID == "":
		return "no policy"
	case v.RuleID == "":
		return "the default of " + v.PolicyID
	}
	return v.PolicyID + "/" + v.RuleID
}

// decide asks the policies, and lets happen what happened.
func (p *player) decide(e entry, req action.Request, env policy.Env) (v Verdict, why string) {
	set := p.book.For(req.AgentID)
	d := set.Decide(&req, env)
	if e.round() {
		return p.round(e, d), e.masks(set, &req, env)
	}
	by := req.AgentID + "\x00" + req.ActionID + "\x00" + req.Hash().String()
	open, known := p.takeBack(e)
	l := p.ledger.Within(d, by, e.at)
	v = verdictOf(l)
	standing := e.text("grant_id") != "" // which is good for nothing that is over a limit
	if e.approved() && l.Needed().Waits() && (standing && len(l.Over) > 0 || known && !covers(open.shown, l.Over)) {
		v.Decision += again
	}
	ran := e.text("decision") == policy.Allow.String()
	answered := l.Needed() == policy.RequireApproval || l.Needed().String() == p.asked[e.text("approval_id")] // with what it takes
	switch {
	case l.Needed() == policy.Allow, l.Needed().Waits() && ran && answered:
		p.run(e, v, charged{d, by}, ran)
	case l.Needed().Waits() && e.waits() && e.text("approval_id") != open.request:
		open, known = held{charged{d, by}, e.text("approval_id"), e.at.Add(requestTTL), overshoots(l.Over)}, true
	}
	if known && !e.approved() {
		p.wait(e, open)
	}
	return v, cmp.Or(e.masks(set, &req, env), p.doubts(d, e.at))
}

// run charges what runs, or would.
func (p *player) run(e entry, v Verdict, c charged, ran bool) {
	p.ledger.Charge(c.decision, c.by, e.at)
	if ran && len(c.decision.Charges) > 0 {
		p.ran[e.text("decision_id")] = c
	}
	if e.approved() {
		p.approved[e.text("approval_id")] = v
	}
}

func verdictOf(l policy.Limited) Verdict {
	return Verdict{Decision: l.Needed().String(), PolicyID: l.PolicyID, RuleID: l.RuleID, Reason: l.Reason}
}

// round decides on a further message of an approved call. The first was charged, and
// what it needed this one has.
func (p *player) round(e entry, d policy.Decision) Verdict {
	v := verdictOf(d.Within(nil))
	if first, known := p.approved[e.text("approval_id")]; known && d.Outcome != policy.Deny {
		v.Decision = first.Decision
	}
	return v
}

// doubtLimits notes that nobody knows what the limits were charged.
func (p *player) doubtLimits(e entry) {
	for _, l := range p.book.For(e.text("actor_id")).MayCharge(e.text("action_type")) {
		p.doubt[l.ID] = e.at.UnixMilli()
	}
}

// doubts says why it is not known how full the limits of a decision are.
func (p *player) doubts(d policy.Decision, now time.Time) string {
	for _, c := range d.Charges {
		from, _ := c.Limit.Span(now)
		if at, doubted := p.doubt[c.Limit.ID]; doubted && at >= from.UnixMilli() {
			return "limit " + c.Limit.ID + " is charged by what is undecidable"
		}
	}
	return ""
}

// again marks what was approved, and would have to be asked for anew: it is further
// over a limit than was shown.
const again = " (again)"

// How long requests wait, and grants are good (authz).
const (
	requestTTL = 24 * time.Hour
	grantTTL   = time.Hour
)

// wait sets aside what a call takes that waits.
func (p *player) wait(e entry, h held) {
	p.waiting[e.intent()], p.intents[h.request] = h, e.intent()
	p.ledger.SetAside(h.decision, h.by, h.until)
}

// takeBack gives back what is set aside for a call: it is not in its own way.
func (p *player) takeBack(e entry) (h held, known bool) {
	if h, known = p.waiting[e.intent()]; known {
		p.release(e.intent())
		return h, true
	}
	if other, folded := p.intents[e.text("approval_id")]; folded {
		p.release(other) // the call is the next version of what waits in other words
	}
	return held{}, false
}

func (p *player) release(intent string) {
	h := p.waiting[intent]
	delete(p.waiting, intent)
	delete(p.intents, h.request)
	p.ledger.Release(h.decision, h.by, policy.AllLimits)
}

// answer replays an owner's word.
func (p *player) answer(e entry, yes bool) {
	if h, known := p.takeBack(e); known && yes {
		h.until = e.at.Add(grantTTL)
		p.wait(e, h)
	}
}

// withdrawn gives back what was set aside for an approval that nobody had used. A
// standing grant may be withdrawn when its first call is long over.
func (p *player) withdrawn(e entry) {
	if p.waiting[e.intent()].request == e.text("approval_id") {
		p.takeBack(e)
	}
}

// outcome gives back what an outcome gives back.
func (p *player) outcome(e entry) {
	c := p.ran[e.text("decision_id")]
	switch status := e.text("outcome"); {
	case e.flag("unsent"):
		p.ledger.Release(c.decision, c.by, policy.AllLimits)
	case status == "tool_error" || status == "protocol_error" || status == "transport_error":
		p.ledger.Release(c.decision, c.by, policy.Refunding)
	}
}

// released gives back what an owner has given back.
func (p *player) released(e entry) {
	c := p.ran[e.text("decision_id")]
	p.ledger.Release(c.decision, c.by, func(l *policy.Limit) bool {
		for _, given := range e.Get("limits").Items() {
			if given.Get("id").Text() == l.ID {
				return true
			}
		}
		return false
	})
}

// overshoots are by how much an action is over its limits.
func overshoots(over []policy.Excess) map[string]int64 {
	list := make(map[string]int64)
	for _, e := range over {
		list[e.Limit.ID+" "+e.Key] = e.State.Used + e.State.Held + e.Amount - e.Limit.Max
	}
	return list
}

func covers(shown map[string]int64, over []policy.Excess) bool {
	for limit, beyond := range overshoots(over) {
		if most, was := shown[limit]; !was || beyond > most {
			return false
		}
	}
	return true
}

// group counts a case with those that are like it.
func (p *player) group(groups *[]Group, c Case, key groupKey) {
	i, known := p.groups[key]
	if !known {
		i = len(*groups)
		p.groups[key] = i
		*groups = append(*groups, Group{Was: key.was, Now: key.now, By: key.by})
	}
	g := &(*groups)[i]
	if g.Count++; len(g.Examples) < p.examples {
		g.Examples = append(g.Examples, c)
	}
}

func (p *player) end() Report {
	for _, groups := range [][]Group{p.report.Differ, p.report.Undecidable} {
		slices.SortStableFunc(groups, func(a, b Group) int { return b.Count - a.Count })
	}
	return p.report
}
