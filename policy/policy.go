// Package policy is the policy decision point (PDP): it reads policies, OpenLeash
// policy version 1, and says what they mean for a request. docs/policy.md is the
// language; this comment is what the package promises to its callers.
//
//   - Parse refuses everything that it does not fully understand, and reports all
//     faults at once with file, line and column.
//   - Decide is pure: the same Set, request and Env always give the same Decision.
//     It does no I/O, knows no clock and keeps nothing.
//   - The zero Outcome is Deny, a Set without policies denies, and a rule that
//     fails in a way nobody foresaw denies.
//   - An allow rule matches only when it is certain that it does. A deny rule
//     matches also when a value is of the wrong type or form. An allow rule that
//     asks for something (an approval, say) and cannot be judged does not allow,
//     but what it asks for is asked for if a later rule, or the default, allows:
//     writing 25000 as "25000" must not get round a limit.
//   - The order: final denies of all layers first; then agent, group, owner, and
//     within a layer the order of the bindings (in a Book: by rank, then by name)
//     and of the rules in the file. The
//     first rule that matches decides; else the first default that is not
//     passthrough (or, when Env is Open, Allow); else Deny.
//   - A limit of a policy binds what is allowed by whichever policy's rule, and so
//     does one of a rule that cannot be judged: what cannot be counted is over it.
//   - A policy in the shadow is no part of a decision; Shadow tells what would be
//     decided if it were.
//   - Decide and Trace always agree. Decide is fast; Trace is simple, and tells
//     about every rule.
//
// A Book is all policies of an installation, read from a folder; a Keeper follows
// that folder and keeps the last good Book in force.
package policy

import (
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/internal/strictyaml"
)

// The types of obligations: a closed list.
const (
	HumanApproval           = "HUMAN_APPROVAL"
	StepUpAuth              = "STEP_UP_AUTH"
	Deposit                 = "DEPOSIT"
	CounterpartyAttestation = "COUNTERPARTY_ATTESTATION" // blocks nothing: passed on
)

// Outcome is what a decision says. The zero Outcome is Deny.
type Outcome uint8

const (
	Deny Outcome = iota
	Allow
	RequireApproval
	RequireStepUp
	RequireDeposit
)

// Waits reports whether the owner is asked.
func (o Outcome) Waits() bool {
	return o == RequireApproval || o == RequireStepUp || o == RequireDeposit
}

// String gives the word of the wire: DENY, ALLOW, REQUIRE_APPROVAL, REQUIRE_STEP_UP, REQUIRE_DEPOSIT.
func (o Outcome) String() string {
	switch o {
	case Allow:
		return "ALLOW"
	case RequireApproval:
		return "REQUIRE_APPROVAL"
	case RequireStepUp:
		return "REQUIRE_STEP_UP"
	case RequireDeposit:
		return "REQUIRE_DEPOSIT"
	}
	return "DENY"
}

// An Obligation is a duty that comes with a decision.
type Obligation struct {
	Type   string       // one of the constants above
	Params action.Value // the obligation's params as an object, or Missing
}

// Env is what a decision may depend on beside the request.
type Env struct {
	// Tool is the context of a tool call, readable by rules as $.tool and not
	// part of any hash: {"server","name","profile","reads":bool,"destroys":bool,
	// "annotations":{…}}. Missing outside MCP.
	Tool action.Value
	// Open says that what no rule is about is allowed, without a proof, whatever
	// the defaults say: resources/read and the like, which policies that were
	// written for tool calls do not mean.
	Open bool
	// Now is the time, for schedules and rules that expire. Without it those are
	// unknown.
	Now time.Time
}

// A Decision is what the policy says about one request.
type Decision struct {
	Outcome     Outcome
	PolicyID    string // the policy whose rule, or whose default, decided
	RuleID      string // empty: the default decided
	Reason      string // one sentence for people: the rule's description, or one made from what decided
	Plain       string // Reason without what stands in the request; empty: there is nothing of it in Reason
	Obligations []Obligation
	Final       bool          // a deny that nothing overrides
	NoProof     bool          // the rule says proof: {required: false}
	ProofTTL    time.Duration // zero: the default
	Errors      []string      // conditions that could not be evaluated, with rule and path
	// Charges are what the action is charged to if it comes to run, of a decision
	// that is no deny.
	Charges []Charge
}

// By names who decided: a rule as POLICY/RULE, or a default.
func (d Decision) By() string {
	switch {
	case d.PolicyID == "":
		return "no policy"
	case d.RuleID == "":
		return "the default of " + d.PolicyID
	}
	return d.PolicyID + "/" + d.RuleID
}

// Asks reports whether an obligation of that type comes with the decision. A
// rule may ask for an approval and a step-up: the Outcome is then
// RequireApproval, and the step-up has to be met all the same.
func (d Decision) Asks(obligation string) bool { return hasDuty(d.Obligations, obligation) }

// Layer says for whom a policy is bound: nearer layers come first.
type Layer uint8

const (
	AgentLayer Layer = iota
	GroupLayer
	OwnerLayer
)

// A Policy is one parsed and checked policy document.
type Policy struct {
	ID   string // the file's name without its ending, unique in a Book
	File string

	Scope Scope // whom it binds, as it says itself; in a Book, also as its place says
	Rank  int   // lower is asked earlier within its layer

	// Warnings are about what is valid and probably not meant, in file order.
	Warnings []strictyaml.Error

	header      strictyaml.Error // the place of applies_to; of line 0: there is none
	shadow      bool             // it decides nothing
	fallback    Outcome          // its default
	passthrough bool             // its default is to leave it to the next policy
	rules       []*rule
	limits      []*Limit
	log         []recorded
}

// Enforced is the policy out of the shadow: to try what it decides.
func (p *Policy) Enforced() *Policy {
	enforced := *p
	enforced.shadow = false
	return &enforced
}

// A Binding puts a policy into a layer.
type Binding struct {
	Policy *Policy
	Layer  Layer
}

// RuleTrace is what one rule had to say (wire.md §10).
type RuleTrace struct {
	PolicyID         string `json:"policy_id"`
	RuleID           string `json:"rule_id"`
	PatternMatch     bool   `json:"pattern_match"`
	WhenMatch        *bool  `json:"when_match"`        // null: no condition, or not evaluated
	ConstraintsMatch *bool  `json:"constraints_match"` // null: none
	FinalMatch       bool   `json:"final_match"`
	Note             string `json:"note,omitempty"` // "unknown: $.payload.amount_minor is a string"
}
