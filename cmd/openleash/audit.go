package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/audit"
)

func auditCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "audit", Short: "Read and verify the log"}
	cmd.AddCommand(auditTail(), auditSearch(), auditStats(), auditExport(), auditVerify(), auditCheckpoint(), auditProve(), auditKey(), auditMask(), auditVerifyPasskey(), auditWitness(), auditImport())
	return cmd
}

func auditTail() *cobra.Command {
	var n int
	var follow, asJSON bool
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Print the last entries of the log",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withApp(cmd, func(a *app) error { return a.tailLog(cmd, n, follow, newLinePrinter(cmd.OutOrStdout(), asJSON)) })
		},
	}
	cmd.Flags().IntVarP(&n, "lines", "n", 20, "how many")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until interrupted")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the lines as they stand in the log")
	return cmd
}

func (a *app) tailLog(cmd *cobra.Command, n int, follow bool, p *linePrinter) error {
	ctx := cmd.Context()
	if err := a.caughtUp(ctx); err != nil {
		return err
	}
	head, _, err := a.store.Head(ctx)
	if err != nil {
		return err
	}
	from := uint64(1)
	if n = max(n, 0); head > uint64(n) {
		from = head - uint64(n) + 1
	}
	for {
		lines, err := a.store.Lines(ctx, from, 500)
		if follow && ctx.Err() != nil {
			return nil // interrupted, perhaps in the middle of a look
		}
		if err != nil {
			return err
		}
		for _, l := range lines {
			if err := p.print(l); err != nil {
				return err
			}
			from = l.Seq + 1
		}
		if len(lines) > 0 {
			continue
		}
		if !follow {
			return nil
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return nil
		}
	}
}

// caughtUp waits until every committed entry has its line, whoever writes it.
func (a *app) caughtUp(ctx context.Context) error {
	for range 100 {
		ids, _, err := a.store.Unsequenced(ctx, 1)
		if err != nil || len(ids) == 0 {
			return err
		}
		a.sequencer.Wake()
		time.Sleep(20 * time.Millisecond)
	}
	if err := a.sequencer.Err(); err != nil {
		return err
	}
	return fmt.Errorf("%s is more than 2 seconds behind the store; see what the running openleash logs", a.home.AuditLog())
}

// completed waits until the file ends where the store does: a process that was
// killed leaves lines to be written by the next, which takes a moment. A file that
// does not get there is verified as it is.
func (a *app) completed(ctx context.Context) (seq uint64, hash [32]byte, err error) {
	for range 200 {
		if seq, hash, err = a.store.Head(ctx); err != nil || seq == 0 {
			return seq, hash, err
		}
		last, err := audit.End(a.home.AuditLog())
		if err == nil && sha256.Sum256(last) == hash || a.sequencer.Err() != nil {
			break
		}
		a.sequencer.Wake()
		time.Sleep(20 * time.Millisecond)
	}
	return seq, hash, nil
}
