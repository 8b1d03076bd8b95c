package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/internal/visible"
	"github.com/openleash/openleash-go/proof"
)

func keysVerify() *cobra.Command {
	var document, kid string
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "Verify a receipt or a proof that somebody has kept",
		Long: `FILE has a result with its receipt in it, or the whole response, byte for byte as it came;
or a token alone, a receipt or a proof. It is verified with the keys of this installation, or
with those of a document that openleash keys export has written, or that was fetched from where
its owner serves it (--keys): then nothing else is needed, and nothing is asked of anybody.

Exit code 0: it is genuine, and of this result; 1: it is not, and why.`,
		Example: `  openleash keys verify --keys keys.json result.json
  curl -sf https://owner.example/.well-known/openleash-keys.json > keys.json
  openleash keys verify --keys keys.json --kid k4.pid.… proof.txt`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			keys, err := trustedKeys(cmd, document, kid)
			if err != nil {
				return err
			}
			text, err := readSome(args[0], maxResult)
			if err == nil {
				err = verifySigned(cmd.OutOrStdout(), text, keys, time.Now())
			}
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&document, "keys", "", "the key document to trust, a file (default: the keys of this installation)")
	cmd.Flags().StringVar(&kid, "kid", "", "the key that must have signed that document")
	return cmd
}

// maxResult bounds the response of a server: as much as is passed on.
const maxResult = 64 << 20

// trustedKeys are those of the document, or ours.
func trustedKeys(cmd *cobra.Command, document, kid string) (keys []proof.PublicKey, err error) {
	if document == "" {
		if kid != "" {
			return nil, errors.New("--kid goes with --keys")
		}
		err = withApp(cmd, func(a *app) error {
			keys, err = a.store.Keys(context.WithoutCancel(cmd.Context()))
			return err
		})
		return keys, err
	}
	text, err := readSome(document, 1<<20)
	if err != nil {
		return nil, err
	}
	var pinned []string
	if kid != "" {
		pinned = []string{kid}
	}
	if keys, err = proof.ParseExport(text, pinned...); err != nil {
		return nil, fmt.Errorf("--keys %s: %w", document, err)
	}
	return keys, nil
}

func verifySigned(w io.Writer, text []byte, keys []proof.PublicKey, now time.Time) error {
	token := strings.TrimSpace(string(text))
	if !strings.HasPrefix(token, "v4.") {
		r, err := proof.VerifyResult(text, keys)
		if err == nil {
			printReceipt(w, r, "ok: a receipt of this result")
		}
		return err
	}
	r, err := proof.VerifyReceipt(token, keys)
	switch {
	case err == nil:
		printReceipt(w, r, "ok: a receipt; whether it is of a result is not known without that, byte for byte")
	case errors.Is(err, proof.ErrNotReceipt):
		var c proof.Claims
		if c, err = proof.Verify(token, proof.Expect{Keys: keys, Now: now, AnyAudience: true}); err == nil {
			printProof(w, c)
		}
	}
	return err
}

func printReceipt(w io.Writer, r proof.Receipt, what string) {
	fmt.Fprintln(w, what)
	printRows(w, [][2]string{
		{"outcome", r.Outcome}, {"at", r.At.Format(time.RFC3339Nano)}, {"agent", r.AgentID}, {"server", r.Server}, {"tool", r.Tool}, {"action type", r.ActionType},
		{"decision", r.DecisionID}, {"action hash", r.ActionHash}, {"call hash", r.CallHash}, {"result hash", r.ResultHash}, {"key", r.KeyID},
	})
	printLog(w, r.Log)
}

func printProof(w io.Writer, c proof.Claims) {
	fmt.Fprintln(w, "ok: a proof; for whom it is good, and of which call, is for its receiver to check")
	printRows(w, [][2]string{
		{"decision", c.Decision + " " + c.DecisionID}, {"for", c.Audience}, {"from", c.IssuedAt.Format(time.RFC3339Nano)}, {"to", c.Expires.Format(time.RFC3339Nano)},
		{"agent", c.AgentID}, {"server", c.Server}, {"tool", c.Tool}, {"action type", c.ActionType}, {"action hash", c.ActionHash}, {"call hash", c.CallHash}, {"key", c.KeyID},
	})
	printLog(w, c.Log)
}

// printRows prints what is not empty.
func printRows(w io.Writer, rows [][2]string) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		if row[1] != "" {
			fmt.Fprintf(t, "  %s\t%s\n", row[0], visible.Line(row[1]))
		}
	}
	t.Flush()
}

// printLog prints a checkpoint of the log so that it can be copied.
func printLog(w io.Writer, log string) {
	if log != "" {
		fmt.Fprintf(w, "The audit log at that time (for openleash audit verify --known FILE)\n%s\n", strings.TrimSuffix(visible.Lines(log), "\n"))
	}
}
