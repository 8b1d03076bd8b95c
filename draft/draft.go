// Package draft makes a rule of a call that asked for an approval: a policy with one
// rule, which expires, and a suite that says what it changes and what it does not.
//
// It promises:
//
//   - The rule is as narrow as a standing grant: that agent, server, tool and definition,
//     that action type and counterparty, and the payload with every value as it was, but
//     for what is bounded. What cannot be said so in the language of policies is an
//     error, never a wider rule.
//   - Nothing is handed out that was not tried on the policies in force: with the draft
//     among them the call is allowed, by this rule, and each neighbour (another value,
//     a value out of bounds, an argument more) is answered as it was before.
//   - Names and values of agents and servers stand in it as data, however they are
//     written.
//
// It also knows the policies that agents propose themselves (Proposal), and what their
// owner is told of them (Review):
//
//   - A proposal becomes a file that was not there, for the agent that it is for or for all,
//     whatever its text or its name says; and only when it loads beside what is in force.
//   - Every deny that an allow of it would come before is named.
package draft

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/internal/strictyaml"
	"github.com/openleash/openleash-go/policy"
)

// A Draft is a policy and its suite, as they would be written.
type Draft struct {
	Name     string // of the policy, without its ending: "rules/buy-d24187b9"
	Policy   string
	Suite    string
	Results  []policy.SuiteResult // of the suite, with the draft among the policies in force
	Warnings []strictyaml.Error   // that the draft adds to those in force
}

// What a rule that is made here may be.
const (
	MaxFor     = 3650 * 24 * time.Hour
	DefaultFor = 30 * 24 * time.Hour
)

// RuleID is the name of the rule in its policy.
const RuleID = "as-approved"

// New makes a draft of the call of r, to be in force beside book for so long.
func New(book *policy.Book, r approvals.Request, given []approvals.Bound, now time.Time, length time.Duration) (Draft, error) {
	if book == nil {
		return Draft{}, fmt.Errorf("no valid policy is in force; mend that first")
	}
	if length == 0 {
		length = DefaultFor
	}
	if length < time.Minute || length > MaxFor {
		return Draft{}, fmt.Errorf("a rule is made for a minute to %d days, got %s", MaxFor/(24*time.Hour), length)
	}
	bounds, err := approvals.Bounded(r.Action.Payload, given)
	if err != nil {
		return Draft{}, err
	}
	m := maker{request: r, bounds: bounds, now: now.UTC().Truncate(time.Second), expires: now.Add(length).UTC().Truncate(time.Second)}
	if err := m.asked(book); err != nil {
		return Draft{}, err
	}
	d := Draft{Name: Name(r)}
	if d.Policy, err = m.policy(); err != nil {
		return Draft{}, err
	}
	with, err := policy.NewBook("", append(book.Sources(), policy.Source{Name: d.Name + ".yaml", Text: d.Policy}), book.Groups())
	if err != nil {
		return Draft{}, fmt.Errorf("no rule can be made of it: %w", err)
	}
	d.Suite = m.suite(book)
	suite, err := policy.ParseSuite(d.SuiteName(), []byte(d.Suite))
	if err != nil {
		return Draft{}, fmt.Errorf("no test can be made of it: %w", err)
	}
	d.Results = suite.Run(with)
	d.Warnings = added(book.Warnings(), with.Warnings())
	return d, d.tried()
}

// SuiteName is that of a suite of the whole folder: what the others say of a neighbour
// counts too.
func (d Draft) SuiteName() string { return d.Name + "-in-place_test.yaml" }

// tried is why the draft does not do what it is for.
func (d Draft) tried() error {
	for _, r := range d.Results {
		if len(r.Faults) > 0 {
			return fmt.Errorf("with this rule in force, %s: %s", r.Name, strings.Join(r.Faults, "; "))
		}
	}
	return nil
}

func added(before, after []strictyaml.Error) (list []strictyaml.Error) {
	var known []string
	for _, w := range before {
		known = append(known, w.Message)
	}
	for _, w := range after {
		if !slices.Contains(known, w.Message) {
			list = append(list, w)
		}
	}
	return list
}
