package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/audit"
)

func auditSearch() *cobra.Command {
	var f queryFlags
	var n int
	var before uint64
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "search",
		Short: "Find entries of the log",
		Long: `Prints the newest entries to which all that is given applies, the newest last; when there
are older ones, standard error says how to see them. --text reads every entry that the
rest leaves; the rest is found by an index, however long the log is.`,
		Example: `  openleash audit search --agent claude --decision deny --since 7d
  openleash audit search --event approval --text "invoice 117"`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := f.query(time.Now())
			if err == nil && n < 1 {
				err = fmt.Errorf("--limit: want at least 1, got %d", n)
			}
			if err != nil {
				return err
			}
			if before > 0 {
				if q.From = before - 1; q.From == 0 {
					return nil // there is no line before the first
				}
			}
			return withApp(cmd, func(a *app) error { return a.searchLog(cmd, q, n, asJSON) })
		},
	}
	f.register(cmd)
	cmd.Flags().IntVarP(&n, "limit", "n", 50, "how many")
	cmd.Flags().Uint64Var(&before, "before", 0, "only those before this line: the next page")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the lines as they stand in the log")
	return cmd
}

func (a *app) searchLog(cmd *cobra.Command, q audit.Query, n int, asJSON bool) error {
	if err := a.caughtUp(cmd.Context()); err != nil {
		return err
	}
	found, more, err := a.newest(cmd.Context(), q, n)
	if err != nil {
		return err
	}
	p := newLinePrinter(cmd.OutOrStdout(), asJSON)
	for _, l := range slices.Backward(found) {
		if err := p.print(l); err != nil {
			return err
		}
	}
	switch {
	case more:
		fmt.Fprintf(cmd.ErrOrStderr(), "There are older ones: --before %d\n", found[n-1].Seq)
	case len(found) == 0:
		fmt.Fprintln(cmd.ErrOrStderr(), "Nothing in the log is like that.")
	}
	return nil
}

// newest finds the last n, and whether there are more.
func (a *app) newest(ctx context.Context, q audit.Query, n int) (found []audit.Sequenced, more bool, err error) {
	for {
		q.Limit = min(n+1-len(found), 1000)
		page, err := a.store.Search(ctx, q)
		if err != nil {
			return nil, false, err
		}
		found = append(found, page.Lines...)
		if q.From = page.Next; len(found) > n {
			return found[:n], true, nil
		} else if q.From == 0 {
			return found, false, nil
		}
	}
}
