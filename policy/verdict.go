package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/openleash/openleash-go/action"
)

// maxNotes bounds Decision.Errors: a request can be odd for ten thousand rules.
const maxNotes = 10

// A verdict is a decision in the making: it takes what rule after rule says
// until one decides.
type verdict struct {
	set      *Set
	kind     string              // the action type
	request  func() action.Value // what paths are followed in, for notes
	look     look                // what stands at a path, for limits
	decision Decision
	notes    []string
	doubt    []*bound // allow rules that ask for something, or limit it, and cannot be judged
}

// take hears one rule whose pattern matches, and reports whether it decides.
func (v *verdict) take(r *bound, t truth) bool {
	if t == unknown {
		v.note(r)
		if r.allow && (r.outcome != Allow || len(r.limits) > 0) {
			v.doubt = append(v.doubt, r)
		}
	}
	if !t.matches(r.allow) {
		return false
	}
	v.decision = v.charge(v.finish(*r.decision), r, false)
	if t == unknown {
		v.decision.Reason += " (It cannot be judged: " + v.why(r) + ".)"
	}
	return true
}

// byDefault ends a verdict that no rule decided. near is the rule that only the
// amount kept from allowing.
func (v *verdict) byDefault(env Env, near *bound) Decision {
	d, open := v.set.otherwise(env)
	if near != nil && d.Outcome != Allow {
		d.Plain = d.Reason + fmt.Sprintf(" Nearest is rule %q, but for the amount.", near.id)
		d.Reason += " " + v.nearMiss(near)
	}
	if len(v.notes) > 0 && d.Outcome != Allow {
		d.add(" Could not be judged: " + v.notes[0] + ".")
	}
	return v.charge(v.finish(d), nil, open)
}

// add goes on with the reason. The text has nothing that stands in the request.
func (d *Decision) add(text string) {
	d.Reason += text
	if d.Plain != "" {
		d.Plain += text
	}
}

// finish adds what rules in doubt ask for (what they limit charge adds): an allow must not be had by making
// an earlier rule, which would have asked for an approval, unreadable.
func (v *verdict) finish(d Decision) Decision {
	d.Errors = v.notes
	if d.Outcome == Deny || len(v.doubt) == 0 {
		return d
	}
	var first *bound // that asks for something
	duties := slices.Clone(d.Obligations)
	for _, r := range v.doubt {
		if first == nil && r.outcome != Allow {
			first = r
		}
		for _, duty := range r.obligations {
			if !hasDuty(duties, duty.Type) {
				duties = append(duties, duty)
			}
		}
	}
	if d.Outcome == Allow && first != nil {
		d = *first.decision
		d.Reason += " (It cannot be judged: " + v.why(first) + ".)"
	}
	d.Errors, d.Obligations, d.Outcome = v.notes, duties, obliges(duties)
	return d
}

// decisionOf is what a rule gives when it matches.
func decisionOf(p *Policy, r *rule) *Decision {
	d := &Decision{Outcome: r.outcome, PolicyID: p.ID, RuleID: r.id, Reason: reasonOf(r), Final: r.final}
	if r.allow {
		d.Obligations, d.NoProof, d.ProofTTL = slices.Clip(r.obligations), r.noProof, r.proofTTL
	}
	return d
}

func reasonOf(r *rule) string {
	if r.description != "" {
		return r.description
	}
	switch r.outcome {
	case Allow:
		return fmt.Sprintf("Allowed by rule %q.", r.id)
	case RequireApproval:
		return fmt.Sprintf("Rule %q wants a person's approval.", r.id)
	case RequireStepUp:
		return fmt.Sprintf("Rule %q wants the owner's second factor.", r.id)
	case RequireDeposit:
		return fmt.Sprintf("Rule %q wants a deposit.", r.id)
	}
	return fmt.Sprintf("Denied by rule %q.", r.id)
}

func (v *verdict) note(r *bound) {
	if len(v.notes) < maxNotes {
		v.notes = append(v.notes, fmt.Sprintf("policy %q, rule %q: %s", r.policy.ID, r.id, v.why(r)))
	}
}

// why tells which values of the request a rule cannot read.
func (v *verdict) why(r *bound) string {
	return strings.Join(unreadable(r.rule, v.request()), "; ")
}

func (v *verdict) nearMiss(r *bound) string {
	amount, _ := r.amount.paths[0].Lookup(v.request())
	return fmt.Sprintf("Nearest is rule %q: amount_minor %s is %s.", r.id, short(amount.Text()), r.amount.limit(amount))
}

// unreadable lists the tests of a rule that are unknown, with what stands there.
func unreadable(r *rule, doc action.Value) []string {
	var list []string
	for t := range testsOf(r) {
		if consult(t, doc) == unknown {
			if text := unreadableTest(t, doc); !slices.Contains(list, text) {
				list = append(list, text)
			}
		}
	}
	return list
}

func unreadableTest(t *test, doc action.Value) string {
	if t.isClock() {
		return "what time it is is not known"
	}
	for _, path := range t.paths {
		v, ok := path.Lookup(doc)
		if !ok {
			return fmt.Sprintf("%s cannot be followed: on the way is a value of another type, or a name that differs in case", path)
		}
		if v.Kind() != action.Missing {
			return fmt.Sprintf("%s is %s, want %s", path, kindName(v), t.wants)
		}
	}
	return ""
}
