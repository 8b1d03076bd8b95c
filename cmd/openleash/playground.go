package main

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/configs"
	"github.com/openleash/openleash-go/internal/strictyaml"
	"github.com/openleash/openleash-go/internal/visible"
	"github.com/openleash/openleash-go/policy"
)

func playgroundCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "playground",
		Short: "Stories of agents, and what policies make of them",
		Long: `Scenarios are short stories: what an agent does, step after step, and what is decided.
They ship with the program. Nothing is spent, and nothing is recorded.`,
	}
	cmd.AddCommand(playgroundList(), playgroundRun())
	return cmd
}

func playgroundList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the scenarios",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := policy.Scenarios(configs.FS)
			if err != nil {
				return err
			}
			widest := 0
			for _, s := range list {
				widest = max(widest, len(s.ID))
			}
			for _, s := range list {
				fmt.Fprintf(cmd.OutOrStdout(), "%-*s  %s\n", widest, s.ID, s.Title)
			}
			return nil
		},
	}
}

func playgroundRun() *cobra.Command {
	var own string
	var trace, asJSON bool
	cmd := &cobra.Command{
		Use:   "run [ID…]",
		Short: "Tell scenarios: each step, what is decided, by which rule, and why",
		Long: `Tells the scenarios that are named, or all, with the policies that they were written
for. With --policy your own decide instead: a file by itself, or a folder as the program
reads it; what was told then stands beside what differs.

  openleash playground run purchase-caps
  openleash playground run --policy ~/.openleash/policies purchase-large

Exit code 0: all came as told, or your own policies decided; 1: something did not.`,
		RunE: func(cmd *cobra.Command, ids []string) error {
			list, err := chosenScenarios(ids)
			if err != nil {
				return err
			}
			p := playground{out: cmd.OutOrStdout(), own: own, trace: trace}
			var faults strictyaml.ErrorList
			switch err := p.run(list); {
			case errors.As(err, &faults):
				(&checker{complain: cmd.ErrOrStderr()}).print("error", faults)
				return exitCode(1)
			case err != nil:
				return err
			}
			return p.report(asJSON)
		},
	}
	cmd.Flags().StringVar(&own, "policy", "", "decide with this file or folder instead of the scenario's policies")
	cmd.Flags().BoolVar(&trace, "trace", false, "what each rule made of each step")
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON, one array of scenarios")
	return cmd
}

// playground is one run of scenarios.
type playground struct {
	out    io.Writer
	own    string // policies that decide instead of the scenarios'; empty: none
	trace  bool
	told   []story
	steps  int
	differ int // steps that did not come as told
}

// story is a scenario, and what came of its steps.
type story struct {
	*policy.Scenario
	results []policy.StepResult
}

func (p *playground) run(list []*policy.Scenario) error {
	var own *policy.Book
	if p.own != "" {
		_, groups, err := orOwnPolicies(nil)
		if err != nil {
			return err
		}
		if own, err = bookOf(p.own, groups); err != nil {
			return err
		}
	}
	for _, s := range list {
		deciding := s.Book
		if own != nil {
			deciding = own
		}
		told := story{s, s.Run(deciding)}
		p.told, p.steps = append(p.told, told), p.steps+len(told.results)
		for i := range told.results {
			if p.differs(&told.results[i]) {
				p.differ++
			}
		}
	}
	return nil
}

// differs reports whether a step did not come as told. Of other policies than it
// was told with only the answer is looked at: their rules have other names.
func (p *playground) differs(r *policy.StepResult) bool {
	if p.own != "" {
		return r.Want != r.Decision.Outcome.String()
	}
	return len(r.Faults) > 0
}

// report prints all, and fails where a scenario is not as its own policies decide.
func (p *playground) report(asJSON bool) error {
	if !asJSON {
		p.print()
	} else if err := p.writeJSON(); err != nil {
		return err
	}
	if p.own == "" && p.differ > 0 {
		return exitCode(1)
	}
	return nil
}

// chosenScenarios are those that are named, in that order, or all.
func chosenScenarios(ids []string) (list []*policy.Scenario, err error) {
	all, err := policy.Scenarios(configs.FS)
	if err != nil || len(ids) == 0 {
		return all, err
	}
	known := map[string]*policy.Scenario{}
	var names []string
	for _, s := range all {
		known[s.ID], names = s, append(names, s.ID)
	}
	for _, id := range ids {
		if known[id] == nil {
			return nil, withHint(fmt.Errorf("no scenario is named %q%s", id, strictyaml.DidYouMean(id, names)), "openleash playground list")
		}
		list = append(list, known[id])
	}
	return list, nil
}

// print tells the stories to a person, in 80 columns.
func (p *playground) print() {
	for i, s := range p.told {
		if i > 0 {
			fmt.Fprintln(p.out)
		}
		fmt.Fprintf(p.out, "%s: %s\n", s.ID, s.Title)
		p.indented("  ", s.Shows)
		with := "With " + listed("policy", "policies", s.Told) + "."
		if p.own != "" {
			with = "Told with " + listed("policy", "policies", s.Told) + "; decided by " + p.own + "."
		}
		p.indented("  ", with)
		fmt.Fprintln(p.out)
		for i := range s.results {
			p.step(&s.results[i])
		}
	}
	p.sum()
}

// listed are names behind the word for one or for more of them.
func listed(one, more string, names []string) string {
	if len(names) == 1 {
		return "the " + one + " " + names[0]
	}
	return "the " + more + " " + strings.Join(names, ", ")
}

func (p *playground) step(r *policy.StepResult) {
	does := r.Does
	if r.Agent != "agent" {
		does = r.Agent + ": " + does
	}
	p.row(r.Env.Now.Format("Mon 02 Jan 15:04"), does)
	p.row(r.Decision.Outcome.String(), r.Decision.By()+": "+r.Decision.Shown)
	if r.Shadow != nil {
		p.row("in the shadow", fmt.Sprintf("%s, %s", r.Shadow.Outcome, r.Shadow.By()))
	}
	if words := r.Came.Sentence(); words != "" {
		p.row("then", words)
	}
	p.levels(r)
	p.notAsTold(r)
	if p.trace {
		p.rules(r.Rules)
	}
	fmt.Fprintln(p.out)
}

// levels says how full limits are, where the step has changed that.
func (p *playground) levels(r *policy.StepResult) {
	label := "limits"
	for _, l := range r.Moved() {
		p.row(label, levelWords(l))
		label = ""
	}
}

// levelWords says how full a limit is: "daily: 42.50 EUR of 200.00 EUR, for agent bot".
func levelWords(l policy.Level) string {
	words := fmt.Sprintf("%s: %s of %s", path.Base(l.Limit.ID), l.Limit.Text(l.State.Used), l.Limit.Text(l.Limit.Max))
	if l.State.Held > 0 {
		words += fmt.Sprintf(", and %s set aside", l.Limit.Text(l.State.Held))
	}
	if whose := l.Limit.Whose(l.Key); whose != "" {
		words += ", for " + whose
	}
	return words
}

func (p *playground) notAsTold(r *policy.StepResult) {
	switch {
	case !p.differs(r):
	case p.own != "":
		p.row("told", r.Want)
	default:
		p.row("NOT AS TOLD", strings.Join(r.Faults, "; "))
	}
}

func (p *playground) rules(list []policy.Explanation) {
	label := "trace"
	for _, e := range list {
		p.row(label, fmt.Sprintf("%-7s  %-5s  %s/%s", e.Verdict, e.Effect, e.PolicyID, e.RuleID))
		label = ""
		if e.Verdict == "no" {
			p.indented(strings.Repeat(" ", 29), e.Why)
		}
	}
}

func (p *playground) sum() {
	result := "all as told"
	switch {
	case p.own != "":
		result = fmt.Sprintf("%d decided as told", p.steps-p.differ)
	case p.differ > 0:
		result = fmt.Sprintf("%d not as told", p.differ)
	}
	fmt.Fprintf(p.out, "%s, %s: %s\n", count(len(p.told), "scenario"), count(p.steps, "step"), result)
}

// row prints a label of at most 16 characters, and words beside it.
func (p *playground) row(label, words string) {
	first := fmt.Sprintf("  %-18s", label)
	for _, line := range wrapped(words, 80-len(first)) {
		fmt.Fprintf(p.out, "%s%s\n", first, line)
		first = strings.Repeat(" ", len(first))
	}
}

func (p *playground) indented(indent, words string) {
	for _, line := range wrapped(words, 80-len(indent)) {
		fmt.Fprintf(p.out, "%s%s\n", indent, line)
	}
}

// wrapped breaks a text between words into lines of a width; a longer word has one
// for itself. Runs of blanks inside a line stay.
func wrapped(text string, width int) (lines []string) {
	line := ""
	for word := range strings.SplitSeq(visible.Lines(text), " ") {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width:
			lines, line = append(lines, line), word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}

// What programs get.

type storyJSON struct {
	ID       string     `json:"id"`
	Title    string     `json:"title"`
	Policies []string   `json:"policies"` // that it was written for
	Steps    []stepJSON `json:"steps"`
}

type stepJSON struct {
	Does       string      `json:"does"`
	At         string      `json:"at"`
	Agent      string      `json:"agent_id"`
	ActionType string      `json:"action_type"`
	Told       string      `json:"told"`
	Decision   string      `json:"decision"`
	PolicyID   string      `json:"policy_id"`
	RuleID     string      `json:"rule_id,omitempty"` // without it the default decided
	Reason     string      `json:"reason"`
	Duties     []string    `json:"obligations"`
	Shadow     string      `json:"shadow_decision,omitempty"`
	Came       policy.Came `json:"came"`
	Limits     []levelJSON `json:"limits"`
	Differs    []string    `json:"differs"` // from what is told
	Trace      []ruleJSON  `json:"trace,omitempty"`
}

type levelJSON struct {
	ID       string `json:"id"`
	Key      string `json:"key"`
	Used     int64  `json:"used"`
	Held     int64  `json:"held"`
	Max      int64  `json:"max"`
	Currency string `json:"currency,omitempty"`
	Doubt    string `json:"doubt,omitempty"` // why it cannot be counted
}

type ruleJSON struct {
	PolicyID string `json:"policy_id"`
	RuleID   string `json:"rule_id"`
	Effect   string `json:"effect"`
	Verdict  string `json:"verdict"`
	Why      string `json:"why,omitempty"`
}

func (p *playground) writeJSON() error {
	all := []storyJSON{}
	for _, s := range p.told {
		told := storyJSON{ID: s.ID, Title: s.Title, Policies: s.Told}
		for i := range s.results {
			told.Steps = append(told.Steps, p.stepJSON(&s.results[i]))
		}
		all = append(all, told)
	}
	return printJSON(p.out, all)
}

func (p *playground) stepJSON(r *policy.StepResult) stepJSON {
	d := r.Decision
	s := stepJSON{Does: r.Does, At: r.Env.Now.Format(time.RFC3339), Agent: r.Agent, ActionType: r.Request.ActionType,
		Told: r.Want, Decision: d.Outcome.String(), PolicyID: d.PolicyID, RuleID: d.RuleID, Reason: d.Shown,
		Duties: []string{}, Came: r.Came, Limits: []levelJSON{}, Differs: append([]string{}, r.Faults...)}
	if r.Shadow != nil {
		s.Shadow = r.Shadow.Outcome.String()
	}
	for _, o := range d.Obligations {
		s.Duties = append(s.Duties, o.Type)
	}
	for _, l := range r.Levels {
		s.Limits = append(s.Limits, levelJSON{l.Limit.ID, l.Key, l.State.Used, l.State.Held, l.Limit.Max, l.Limit.Currency, l.Doubt})
	}
	if p.trace {
		for _, e := range r.Rules {
			s.Trace = append(s.Trace, ruleJSON(e))
		}
	}
	return s
}
