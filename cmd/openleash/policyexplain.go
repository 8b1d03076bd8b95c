package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/internal/strictyaml"
	"github.com/openleash/openleash-go/internal/visible"
	"github.com/openleash/openleash-go/policy"
)

func policyExplainCommand() *cobra.Command {
	var e explainer
	cmd := &cobra.Command{
		Use:   "explain --action FILE [POLICY or FOLDER]",
		Short: "Say what policies make of an action, rule by rule",
		Long: `Decides about the action in FILE (YAML or JSON; - is standard input), and says of every
rule whether it matched: if not, the first condition that failed, what was wanted
and what was there; of every limit that would be charged, how full it is. Without an
argument the policies of this installation decide, and the agent is in the groups of
its configuration, unless --group names others. Of policies that are named nobody
knows how full their limits are: they count as empty. Nothing is recorded or spent.

  {"action_type": "purchase", "payload": {"amount_minor": 1250, "currency": "EUR"}}`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := e.explain(cmd, args)
			var list strictyaml.ErrorList
			if errors.As(err, &list) {
				(&checker{complain: cmd.ErrOrStderr()}).print("error", list)
				return exitCode(1)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&e.file, "action", "", "the action, a file of YAML or JSON (required)")
	cmd.Flags().StringVar(&e.agent, "agent", "local", "the agent that asks")
	cmd.Flags().StringArrayVar(&e.groups, "group", nil, "a group that it is in (may be repeated; default those of the configuration)")
	cmd.Flags().StringVar(&e.at, "at", "", "the time of asking, like 2026-11-23T09:00:00Z (default now)")
	cobra.CheckErr(cmd.MarkFlagRequired("action"))
	return cmd
}

// explainer is the flags of explain.
type explainer struct {
	file, agent, at string
	groups          []string
}

func (e *explainer) explain(cmd *cobra.Command, args []string) error {
	now, err := timeOr("--at", e.at, time.Now())
	if err != nil {
		return err
	}
	src, err := readOr(cmd.InOrStdin(), e.file)
	if err != nil {
		return err
	}
	req, env, err := policy.ParseAction(e.file, src)
	if err != nil {
		return err
	}
	own := len(args) == 0
	args, groups, err := orOwnPolicies(args)
	if err != nil {
		return err
	}
	book, err := bookOf(args[0], groups)
	if err != nil {
		return err
	}
	set, err := e.set(book)
	if err != nil {
		return err
	}
	req.AgentID, env.Now = e.agent, now
	d, rules := set.Explain(&req, env)
	rooms, err := roomsFor(cmd, own, now, d.Charges)
	if err != nil {
		return err
	}
	var full []policy.LimitState
	for _, r := range rooms {
		if !r.Fits {
			full = append(full, r.LimitState)
		}
	}
	printExplained(cmd.OutOrStdout(), req.ActionType, d.Within(full), rules, rooms)
	return nil
}

// roomsFor tells how full the limits are that a decision is charged to: those of this
// installation, or empty ones.
func roomsFor(cmd *cobra.Command, own bool, now time.Time, charges []policy.Charge) (rooms []authz.Room, err error) {
	if own && len(charges) > 0 {
		err = withApp(cmd, func(a *app) (err error) {
			rooms, err = authz.RoomFor(cmd.Context(), a.store, now, charges)
			return err
		})
		return rooms, err
	}
	var empty policy.Ledger
	for _, c := range charges {
		s := empty.State(c, now)
		rooms = append(rooms, authz.Room{LimitState: s, Fits: c.Doubt == "" && c.Amount <= c.Limit.Max})
	}
	return rooms, nil
}

// set is that of the agent, in the groups that were named or those of the book.
func (e *explainer) set(book *policy.Book) (*policy.Set, error) {
	if e.groups == nil {
		return book.For(e.agent), nil
	}
	known := book.GroupNames()
	for _, name := range e.groups {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("--group %s: neither a policy nor the configuration names this group%s", name, strictyaml.DidYouMean(name, known))
		}
	}
	return book.Member(e.agent, e.groups), nil
}

func printExplained(out io.Writer, actionType string, d policy.Limited, rules []policy.Explanation, rooms []authz.Room) {
	by := fmt.Sprintf("rule %q of policy %q", d.RuleID, d.PolicyID)
	switch {
	case d.PolicyID == "":
		by = "no policy"
	case d.RuleID == "":
		by = fmt.Sprintf("the default of policy %q", d.PolicyID)
	}
	fmt.Fprintf(out, "%s: %s, by %s\n  %s\n", visible.Line(actionType), d.Outcome, by, visible.Line(d.Reason))
	for _, o := range d.Obligations {
		fmt.Fprintf(out, "  obligation %s\n", o.Type)
	}
	fmt.Fprintln(out)
	for _, e := range rules {
		fmt.Fprintf(out, "  %-8s %-5s  %s\n", e.Verdict, e.Effect, e.PolicyID+"/"+e.RuleID)
		if e.Why != "" {
			fmt.Fprintf(out, "  %-8s        %s\n", "", visible.Line(e.Why))
		}
	}
	for i, c := range d.Charges {
		printRoom(out, c, rooms[i])
	}
}

// printRoom tells how full a limit is, and what the action takes from it.
func printRoom(out io.Writer, c policy.Charge, room authz.Room) {
	verdict := "full"
	if room.Fits {
		verdict = "room"
	}
	l := c.Limit
	whose := l.Whose(c.Key)
	if whose != "" {
		whose = ", for " + visible.Line(whose)
	}
	fmt.Fprintf(out, "  %-8s limit  %s: %s%s\n", verdict, l.ID, l.Bound(), whose)
	if c.Doubt != "" {
		fmt.Fprintf(out, "  %-8s        it cannot be counted: %s\n", "", visible.Line(c.Doubt))
		return
	}
	fmt.Fprintf(out, "  %-8s        %s used, %s held, and this takes %s\n", "", l.Text(room.Used), l.Text(room.Held), l.Text(c.Amount))
}

func timeOr(flag, text string, otherwise time.Time) (time.Time, error) {
	if text == "" {
		return otherwise, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, fmt.Errorf("%s: want a time with its zone, like 2026-11-23T09:00:00Z, got %q", flag, text)
	}
	return at, nil
}

// readOr reads a file, or standard input for "-".
func readOr(in io.Reader, file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(io.LimitReader(in, 1<<20+1))
	}
	return os.ReadFile(file)
}
