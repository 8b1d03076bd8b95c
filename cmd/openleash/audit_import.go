package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/audit"
)

func auditImport() *cobra.Command {
	return &cobra.Command{
		Use:   "import FILE...",
		Short: "Put segments of this log back that were removed",
		Long: `Puts archived segments back that log: {keep_days} has removed, so that they can be
searched, shown and verified with the rest. They are verified first: they have to be
all of the removed entries up to the last, or, with an earlier stump among the files,
those after it. They are then kept for keep_days again.

Other OpenLeash processes have to be stopped before. A log of another installation
is not imported: openleash audit verify verifies it where it is.`,
		Example: "  openleash audit import archive/audit.log.0*.jsonl",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, files []string) error {
			return asOwner(cmd, func(a *app) error { return a.importLog(cmd, files) })
		},
	}
}

func (a *app) importLog(cmd *cobra.Command, files []string) error {
	v := verifier{out: cmd.OutOrStdout(), key: a.logKey.Public()}
	logs, err := v.sort(files)
	if err != nil {
		return err
	}
	if v.faults > 0 {
		return v.end()
	}
	if len(logs) == 0 {
		return errors.New("want segments of the log, got none")
	}
	var earlier *audit.Stump
	if len(v.stumps) > 0 {
		earlier = &v.stumps[0]
	}
	if err := a.caughtUp(cmd.Context()); err != nil {
		return err
	}
	report, err := a.sequencer.Import(cmd.Context(), logs, earlier, func(r audit.Report) error { return a.recordImport(cmd.Context(), r) })
	if err != nil {
		return err
	}
	v.report(logs, report)
	if v.faults > 0 {
		fmt.Fprintln(v.out, "Nothing was put back.")
		return v.end()
	}
	return nil
}

// recordImport comes before the import.
func (a *app) recordImport(ctx context.Context, r audit.Report) error {
	return a.parts.Record(ctx, audit.Entry{
		Event: "log.imported", ActorType: "owner", ActorID: "cli:" + userName(), OwnerID: a.owner.ID,
		Detail: fmt.Sprintf("entries %d to %d", r.Removed+1, r.Removed+r.Entries),
	})
}
