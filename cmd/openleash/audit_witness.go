package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/internal/visible"
	"github.com/openleash/openleash-go/witness"
)

func auditWitness() *cobra.Command {
	return &cobra.Command{
		Use:   "witness [WITNESS]",
		Short: "Send the log's latest checkpoint to its witnesses, now",
		Long: `Sends the checkpoint of the log as it is now to every witness of the configuration
(log: {witnesses: …}), or to one, and tells what came of each: a file by its path, a
webhook by its scheme and host, a witness that cosigns by the name in its key. OpenLeash does so by itself as the log moves, as often as
the configuration says; this command is for when you want to know.

Exit code 0: all have it; 1: some have not.`,
		Example: "  openleash audit witness\n  openleash audit witness https://keeper.example",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withApp(cmd, func(a *app) error { return a.witnessNow(cmd, strings.Join(args, "")) })
		},
	}
}

// duties are the witnesses of the configuration. The error is of those that cannot be
// served from here: a secret is not in the environment.
func (a *app) duties() (list []witness.Duty, err error) {
	for _, w := range a.config.Log.Witnesses {
		one, bad := w.open(audit.CosignedFile(a.home.AuditLog()))
		if bad != nil {
			err = errors.Join(err, bad)
			continue
		}
		list = append(list, witness.Duty{Witness: one, Every: w.Every})
	}
	return list, err
}

// open prepares a witness; what it cosigns is kept in the file.
func (w WitnessConfig) open(cosigned string) (witness.Witness, error) {
	switch {
	case w.File != "":
		return witness.NewFile(w.File), nil
	case w.Witness != "":
		return witness.NewTLog(w.Witness, w.Key, cosigned)
	}
	hook := witness.NewWebhook(w.Webhook, nil)
	headers, err := expand(w.Headers, "witness "+hook.Name()+": headers")
	return witness.NewWebhook(w.Webhook, headers), err
}

// witnessFiles are what no agent's tool may write to.
func (c *Config) witnessFiles() (list []string) {
	for _, w := range c.Log.Witnesses {
		if w.File != "" {
			list = append(list, w.File)
		}
	}
	return list
}

func (a *app) keeper(duties []witness.Duty) *witness.Keeper {
	return &witness.Keeper{
		Log: a.home.AuditLog(), Key: a.logKey.Public(), Dir: a.home.Witnesses(), Duties: duties, Logger: a.log,
		Failed: func(ctx context.Context, name, reason string) error {
			return a.service.Record(ctx, audit.Entry{Event: "witness.failed", ActorType: "system", ActorID: "openleash", Detail: name, Reason: reason})
		},
		Well: func(ctx context.Context, name string) error {
			return a.service.Record(ctx, audit.Entry{Event: "witness.ok", ActorType: "system", ActorID: "openleash", Detail: name})
		},
	}
}

// serveWitnesses sends checkpoints as the log moves, until ctx ends.
func (a *app) serveWitnesses(ctx context.Context) {
	duties, err := a.duties()
	if err != nil {
		a.log.Warn().Err(err).Msg("a witness is not served by this process; another that has the variable does it")
	}
	a.keeper(duties).Serve(ctx)
}

func (a *app) witnessNow(cmd *cobra.Command, only string) error {
	if len(a.config.Log.Witnesses) == 0 {
		return withHint(errors.New("the configuration names no witness"), "put one under log: {witnesses: […]} in "+a.home.Config()+"; docs/operating.md says which there are")
	}
	duties, bad := a.duties()
	if only != "" {
		names := namesOf(duties)
		if duties = slices.DeleteFunc(duties, func(d witness.Duty) bool { return d.Name() != only }); len(duties) == 0 {
			return errors.Join(fmt.Errorf("no witness is called %q; there are %s", only, strings.Join(names, ", ")), bad)
		}
		bad = nil
	}
	if _, err := a.currentCheckpoint(cmd.Context()); err != nil {
		return err
	}
	tip, err := audit.ReadTip(a.home.AuditLog(), a.logKey.Public())
	if err != nil {
		return err
	}
	return errors.Join(bad, a.sendNow(cmd, duties, tip))
}

func namesOf(duties []witness.Duty) (names []string) {
	for _, d := range duties {
		names = append(names, d.Name())
	}
	return names
}

// sendNow sends the checkpoint and says what came of each.
func (a *app) sendNow(cmd *cobra.Command, duties []witness.Duty, tip audit.Tip) error {
	out, failed := cmd.OutOrStdout(), false
	fmt.Fprintf(out, "%s: %d entries\n", tip.Origin, tip.Size)
	for _, d := range duties {
		r, err := a.keeper(nil).Now(cmd.Context(), d)
		if err != nil {
			return err
		}
		since := ""
		if !r.Since.IsZero() {
			since = ", failing since " + r.Since.UTC().Format(time.RFC3339)
		}
		switch {
		case r.Err != nil:
			failed = true
			fmt.Fprintf(out, "FAILED  %s: %s%s\n", r.Name, visible.Line(r.Err.Error()), since)
		case since != "":
			fmt.Fprintf(out, "ok      %s, which was%s\n", r.Name, strings.TrimPrefix(since, ","))
		default:
			fmt.Fprintf(out, "ok      %s\n", r.Name)
		}
	}
	if failed {
		return exitCode(1)
	}
	return nil
}
