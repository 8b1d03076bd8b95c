package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/draft"
	"github.com/openleash/openleash-go/internal/visible"
)

func approvalsRule() *cobra.Command {
	var f termsFlags
	var out string
	cmd := &cobra.Command{
		Use:   "rule ID",
		Short: "Make a rule of a call that asked: a policy that expires, and a test",
		Long: `Makes a policy of the call of a request, answered or not: the same call of that agent is
allowed without asking, for 30 days if --for does not say otherwise. With it comes a suite:
this call is allowed, and calls beside it are answered as they are now. Both are tried on the
policies in force before anything is printed or written, and what would change nothing, since
a deny or another rule stands before it, is an error.

` + boundsHelp + `

Without --out it is printed. With --out DIR the two files are written there, in rules/, and
nothing that is there is replaced; in this installation's policies folder the rule is in force
at once.

  openleash approvals rule ID --for 90d --bound '$.payload.arguments.amount at_most 100'
  openleash approvals rule ID --out ~/.openleash/policies`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			terms, err := f.terms()
			if err != nil {
				return err
			}
			var d draft.Draft
			err = withApp(cmd, func(a *app) error {
				r, err := a.store.Approval(cmd.Context(), args[0])
				if err != nil {
					return withHint(fmt.Errorf("rule %s: %w", args[0], err), "openleash approvals list --all has their ids")
				}
				d, err = draft.New(a.policies.Current(), r, terms.Bounds, time.Now(), terms.For)
				if err != nil {
					return fmt.Errorf("rule %s: %w", args[0], err)
				}
				return nil
			})
			if err != nil {
				return err
			}
			return handOut(cmd, d, out)
		},
	}
	cmd.Flags().StringVar(&f.length, "for", "", "how long the rule holds: 8h, 30d (default 30d)")
	cmd.Flags().StringArrayVar(&f.bounds, "bound", nil, "what may differ, 'PATH OP VALUE'; may be repeated")
	cmd.Flags().StringVar(&out, "out", "", "the folder to write into")
	return cmd
}

// handOut prints a draft, or writes it. The installation is closed by then: those that
// run read it.
func handOut(cmd *cobra.Command, d draft.Draft, dir string) error {
	for _, w := range d.Warnings {
		fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s\n", visible.Line(w.Error()))
	}
	if dir == "" {
		printDraft(cmd.OutOrStdout(), d)
		return nil
	}
	files, err := d.Write(dir)
	for _, file := range files {
		fmt.Fprintf(cmd.OutOrStdout(), "wrote %s\n", file)
	}
	return err
}

// printDraft writes both files, one after the other. What they quote of agents and
// servers is escaped in them.
func printDraft(w io.Writer, d draft.Draft) {
	fmt.Fprintf(w, "# %s.yaml\n%s\n# %s\n%s", d.Name, d.Policy, d.SuiteName(), d.Suite)
}
