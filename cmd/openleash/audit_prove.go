package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/audit"
)

func auditKey() *cobra.Command {
	return &cobra.Command{
		Use:   "key",
		Short: "Print the log's public key, which verifies checkpoints and receipts",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withApp(cmd, func(a *app) error {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), a.logKey.Public())
				return err
			})
		},
	}
}

func auditCheckpoint() *cobra.Command {
	return &cobra.Command{
		Use:   "checkpoint",
		Short: "Print the signed checkpoint of the log as it is now, to be kept elsewhere",
		Long: `Prints what the log is now: its name, how many entries it has, the root of their
Merkle tree, signed (c2sp.org/tlog-checkpoint). Keep it where whoever might change the
log cannot: openleash audit verify --key KEY LOG CHECKPOINT tells later whether the log
still begins with these very entries.`,
		Example: "  openleash audit checkpoint > 2026-11.checkpoint",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withApp(cmd, func(a *app) error {
				signed, err := a.currentCheckpoint(cmd.Context())
				if err == nil {
					_, err = cmd.OutOrStdout().Write(signed)
				}
				return err
			})
		},
	}
}

// currentCheckpoint is one that has everything that is committed by now.
func (a *app) currentCheckpoint(ctx context.Context) ([]byte, error) {
	if err := a.caughtUp(ctx); err != nil {
		return nil, err
	}
	seq, _, err := a.store.Head(ctx)
	if err != nil {
		return nil, err
	}
	return a.markedBy(ctx, seq)
}

// checkpointText is the last checkpoint, its three lines; empty when there is none.
func (a *app) checkpointText() string {
	tip, err := audit.ReadTip(a.home.AuditLog(), a.logKey.Public())
	if err != nil {
		return "" // what is wrong with it is said by whoever signs
	}
	return tip.Text()
}

func auditProve() *cobra.Command {
	return &cobra.Command{
		Use:   "prove ID",
		Short: "Print a receipt: the proof that an entry is in the log",
		Long: `Prints a receipt of one entry: the entry, and what leads from it to a signed checkpoint
(c2sp.org/tlog-proof). Whoever has the log's public key verifies it with
openleash audit verify --key KEY RECEIPT, without the log. ID is the number of the entry
("seq"), or the id of a decision ("decision_id").`,
		Example: "  openleash audit prove 42 > order.tlog-proof",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withApp(cmd, func(a *app) error {
				if _, err := a.currentCheckpoint(cmd.Context()); err != nil {
					return err
				}
				line, err := a.findLine(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				text, err := audit.Prove(a.home.AuditLog(), line, a.logKey.Public())
				if err == nil {
					_, err = cmd.OutOrStdout().Write(text)
				}
				return err
			})
		},
	}
}

// findLine finds an entry by its number, or a decision by its id.
func (a *app) findLine(ctx context.Context, id string) (audit.Sequenced, error) {
	seq, err := strconv.ParseUint(id, 10, 63)
	if err != nil {
		return a.findDecision(ctx, id)
	}
	lines, err := a.store.Lines(ctx, seq, 1)
	if err == nil && (len(lines) == 0 || lines[0].Seq != seq) {
		err = fmt.Errorf("the log has no entry %d", seq)
	}
	if err != nil {
		return audit.Sequenced{}, err
	}
	return lines[0], nil
}

func (a *app) findDecision(ctx context.Context, id string) (audit.Sequenced, error) {
	found, _, err := a.newest(ctx, audit.Query{Scope: audit.Whole(), Event: "decision", DecisionID: id}, 1)
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("the log has no decision with the id %q, nor is that the number of an entry", id)
	}
	if err != nil {
		return audit.Sequenced{}, err
	}
	return found[0], nil
}

// wait is a moment, or less when ctx ends.
func wait(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(20 * time.Millisecond):
	}
}
