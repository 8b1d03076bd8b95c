package policy

import (
	"strings"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/internal/strictyaml"
)

// A rule is one checked rule of a policy. It never changes after Parse.
type rule struct {
	id          string
	place       strictyaml.Error // of the id, without a message
	description string
	allow       bool
	final       bool
	pattern     pattern
	when        *expr   // nil: no condition
	constraints []*test // all must hold; the amount is apart
	amount      *test   // nil: none
	span        span    // of the amount
	obligations []Obligation
	outcome     Outcome // what the rule gives when it matches
	noProof     bool
	proofTTL    time.Duration
	limits      []*Limit
}

// A pattern is what a rule's action says: any type, exactly one, or one and
// everything below it.
type pattern struct {
	name  string // without the wildcard; empty when it is "*" alone
	below bool   // "name.*", or "*"
}

func (p pattern) matches(actionType string) bool {
	if !p.below || p.name == "" {
		return p.below || actionType == p.name
	}
	rest, ok := strings.CutPrefix(actionType, p.name)
	return ok && (rest == "" || rest[0] == '.')
}

// An expr is a condition: a test, or all, any or not over others.
type expr struct {
	op   exprOp
	subs []*expr
	test *test
}

type exprOp uint8

const (
	opTest exprOp = iota
	opAll
	opAny
	opNot
)

// A test looks at one value of the request.
type test struct {
	// text is the test as it was written, in one form: two with the same text say
	// the same.
	text string
	// place is the path of a match as a whole, with what follows a [*].
	place string
	// paths are tried in this order; the first that leads to a value is judged.
	paths []action.Path
	// judge says what a value that is there means.
	judge func(action.Value) truth
	// within is set for a test that asks nothing but whether a number is in it.
	within *interval
	// absent is what it means that no path leads to a value.
	absent truth
	// wants names what judge can read, for the note on one that it cannot.
	wants string
	// equals is set for a test that is true only for one of these strings and
	// false for every other string: what the index is built on.
	equals []string
	// narrow are warnings of what the test is not true of, though who wrote it may
	// mean that too. They count where it is not true that lets an action through.
	narrow  []strictyaml.Error
	negated bool // the test is not true of what was written
	// limit says how a value falls short, for the reason of a near miss:
	// "over 5000". Only for amounts.
	limit func(action.Value) string
}

// where names what the test looks at.
func (t *test) where() string {
	if t.place != "" {
		return t.place
	}
	return t.paths[0].String()
}

// obliges reports what the duties of a rule make of an ALLOW (wire.md §10).
func obliges(duties []Obligation) Outcome {
	order := []struct {
		duty    string
		outcome Outcome
	}{
		{HumanApproval, RequireApproval},
		{StepUpAuth, RequireStepUp},
		{Deposit, RequireDeposit},
	}
	for _, o := range order {
		if hasDuty(duties, o.duty) {
			return o.outcome
		}
	}
	return Allow
}

func hasDuty(duties []Obligation, name string) bool {
	for _, d := range duties {
		if d.Type == name {
			return true
		}
	}
	return false
}
