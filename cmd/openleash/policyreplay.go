package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/internal/strictyaml"
	"github.com/openleash/openleash-go/internal/visible"
	"github.com/openleash/openleash-go/replay"
)

func policyReplayCommand() *cobra.Command {
	var from, since string
	var asJSON bool
	var o replay.Options
	cmd := &cobra.Command{
		Use:   "replay [--from LOG] [--policy POLICY or FOLDER]",
		Short: "Say what recorded decisions would be with other policies",
		Long: `Decides what is in a log again, in its order and at its times, with limits and
with the answers that owners gave, and tells what would be decided otherwise.
Without --from it is the log of this installation, without --policy its policies as
they are now; groups are those of its configuration. A single file is taken as the
only policy, for all agents; to try a file among others, give a folder. Nothing is
recorded or spent.

Exit code 0: all would be the same; 1: something would differ; 2: nothing is known
to differ, but something is undecidable, because the record lacks what it depends on.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.Since, err = timeOr("--since", since, time.Time{}); err != nil {
				return err
			}
			logs := []string{from}
			if from == "" {
				if logs, err = ownLog(cmd); err != nil {
					return err
				}
			}
			report, err := replayLog(logs, cmd.Flag("policy").Value.String(), o)
			var list strictyaml.ErrorList
			switch {
			case errors.As(err, &list):
				(&checker{complain: cmd.ErrOrStderr()}).print("error", list)
				return exitCode(1)
			case err != nil:
				return err
			case asJSON:
				err = printJSON(cmd.OutOrStdout(), report)
			default:
				printReport(cmd.OutOrStdout(), report)
			}
			if err != nil {
				return err
			}
			return replayVerdict(report)
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "the log, a file; - is standard input (default: this installation's)")
	cmd.Flags().String("policy", "", "the policies, a file or a folder (default: this installation's)")
	cmd.Flags().StringVar(&since, "since", "", "tell of decisions from this time on, like 2026-11-23T09:00:00Z")
	cmd.Flags().IntVar(&o.Examples, "examples", 3, "how many to show of each kind")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func replayLog(from []string, policies string, o replay.Options) (replay.Report, error) {
	own, groups, err := orOwnPolicies(nil) // the groups are those of this installation, whatever the policies
	if err != nil {
		return replay.Report{}, err
	}
	book, err := bookOf(cmp.Or(policies, own[0]), groups)
	if err != nil {
		return replay.Report{}, err
	}
	log, err := openLog(from)
	if err != nil {
		return replay.Report{}, err
	}
	defer log.Close()
	report, err := replay.Run(log, book, o)
	if err != nil {
		return report, fmt.Errorf("replaying %s: %w", strings.Join(from, ", "), err)
	}
	return report, nil
}

// ownLog are the files of the log of this installation, with all that was decided so far.
func ownLog(cmd *cobra.Command) (files []string, err error) {
	err = withApp(cmd, func(a *app) error {
		files, err = a.logFiles(cmd.Context())
		return err
	})
	return files, err
}

func (a *app) logFiles(ctx context.Context) ([]string, error) {
	if err := a.caughtUp(ctx); err != nil {
		return nil, err
	}
	if _, _, err := a.completed(ctx); err != nil {
		return nil, err
	}
	return audit.Files(a.home.AuditLog())
}

// A logReader reads files one after the other.
type logReader struct {
	io.Reader
	files []*os.File
}

// openLog opens the files of a log, standard input for "-".
func openLog(files []string) (*logReader, error) {
	var l logReader
	var readers []io.Reader
	for _, name := range files {
		if name == "-" {
			readers = append(readers, os.Stdin)
			continue
		}
		f, err := os.Open(name)
		if err != nil {
			l.Close()
			return nil, err
		}
		l.files, readers = append(l.files, f), append(readers, f)
	}
	l.Reader = io.MultiReader(readers...)
	return &l, nil
}

func (l *logReader) Close() {
	for _, f := range l.files {
		f.Close()
	}
}

func replayVerdict(r replay.Report) error {
	switch {
	case len(r.Differ) > 0:
		return exitCode(1)
	case len(r.Undecidable) > 0:
		return exitCode(2)
	}
	return nil
}

func printReport(out io.Writer, r replay.Report) {
	if r.Decisions == 0 {
		fmt.Fprintln(out, "no decisions to replay")
		return
	}
	fmt.Fprintf(out, "%s, %s to %s\n", count(r.Decisions, "decision"), r.From, r.To)
	printGroups(out, fmt.Sprintf("%d would differ", replay.Counts(r.Differ)), r.Differ)
	printGroups(out, fmt.Sprintf("%d undecidable", replay.Counts(r.Undecidable)), r.Undecidable)
	fmt.Fprintf(out, "%d the same\n", r.Same)
	if r.Apart > 0 {
		fmt.Fprintf(out, "%s that no policy gave, left apart\n", count(r.Apart, "refusal"))
	}
	if r.Torn > 0 {
		fmt.Fprintf(out, "line %d is not complete, and was not read\n", r.Torn)
	}
}

func printGroups(out io.Writer, title string, groups []replay.Group) {
	if len(groups) == 0 {
		return
	}
	fmt.Fprintln(out, title)
	for _, g := range groups {
		kind := strings.TrimSuffix(g.Was+" -> "+g.Now, " -> ")
		fmt.Fprintf(out, "  %6d  %-36s  %s\n", g.Count, kind, visible.Line(g.By))
		for _, c := range g.Examples {
			fmt.Fprintf(out, "          line %d: %s asked for %s at %s\n", c.Line, visible.Line(c.Agent), visible.Line(c.ActionType), c.At)
			if c.Why == "" {
				fmt.Fprintf(out, "            %s\n", visible.Line(c.Now.Reason))
			}
		}
	}
}

// printJSON is how every --json is written: what would hide at a terminal, or move its
// cursor, stands as an escape.
func printJSON(out io.Writer, v any) error {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := io.WriteString(out, visible.JSONText(b.String()))
	return err
}
