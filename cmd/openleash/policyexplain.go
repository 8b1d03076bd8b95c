package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/internal/strictyaml"
	"github.com/openleash/openleash-go/policy"
)

func policyExplainCommand() *cobra.Command {
	var file, agent, at string
	cmd := &cobra.Command{
		Use:   "explain --action FILE [POLICY or FOLDER]",
		Short: "Say what policies make of an action, rule by rule",
		Long: `Decides about the action in FILE (YAML or JSON; - is standard input), and says of every
rule whether it matched: if not, the first condition that failed, what was wanted
and what was there. Without an argument the policies of this installation decide.
Nothing is recorded.

  {"action_type": "purchase", "payload": {"amount_minor": 1250, "currency": "EUR"}}`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := explain(cmd.OutOrStdout(), cmd.InOrStdin(), file, agent, at, args)
			var list strictyaml.ErrorList
			if errors.As(err, &list) {
				(&checker{complain: cmd.ErrOrStderr()}).print("error", list)
				return exitCode(1)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&file, "action", "", "the action, a file of YAML or JSON (required)")
	cmd.Flags().StringVar(&agent, "agent", "local", "the agent that asks")
	cmd.Flags().StringVar(&at, "at", "", "the time of asking, like 2026-11-23T09:00:00Z (default now)")
	cobra.CheckErr(cmd.MarkFlagRequired("action"))
	return cmd
}

func explain(out io.Writer, in io.Reader, file, agent, at string, args []string) error {
	now, err := timeOr("--at", at, time.Now())
	if err != nil {
		return err
	}
	src, err := readOr(in, file)
	if err != nil {
		return err
	}
	req, env, err := policy.ParseAction(file, src)
	if err != nil {
		return err
	}
	if args, err = orOwnPolicies(args); err != nil {
		return err
	}
	book, err := bookOf(args[0])
	if err != nil {
		return err
	}
	req.AgentID, env.Now = agent, now
	d, rules := book.For(agent).Explain(&req, env)
	printExplained(out, req.ActionType, d, rules)
	return nil
}

func printExplained(out io.Writer, actionType string, d policy.Decision, rules []policy.Explanation) {
	by := fmt.Sprintf("rule %q of policy %q", d.RuleID, d.PolicyID)
	switch {
	case d.PolicyID == "":
		by = "no policy"
	case d.RuleID == "":
		by = fmt.Sprintf("the default of policy %q", d.PolicyID)
	}
	fmt.Fprintf(out, "%s: %s, by %s\n  %s\n", actionType, d.Outcome, by, d.Reason)
	for _, o := range d.Obligations {
		fmt.Fprintf(out, "  obligation %s\n", o.Type)
	}
	fmt.Fprintln(out)
	for _, e := range rules {
		fmt.Fprintf(out, "  %-8s %-5s  %s\n", e.Verdict, e.Effect, e.PolicyID+"/"+e.RuleID)
		if e.Why != "" {
			fmt.Fprintf(out, "  %-8s        %s\n", "", e.Why)
		}
	}
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
