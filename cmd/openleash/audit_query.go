package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/policy"
)

// queryFlags say which entries of the log are meant.
type queryFlags struct {
	agent, event, decision, decisionID, server, tool, since, until, text string
}

func (f *queryFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.agent, "agent", "", "what an agent did, and what was done about its calls")
	flags.StringVar(&f.event, "event", "", "an event, like approval.denied, or all of a kind, like approval")
	flags.StringVar(&f.decision, "decision", "", "decisions of an outcome: allow, deny, require_approval, require_step_up, require_deposit")
	flags.StringVar(&f.decisionID, "decision-id", "", "all about one decision: what came of it, how it was answered")
	flags.StringVar(&f.server, "server", "", "about a server")
	flags.StringVar(&f.tool, "tool", "", "about a tool, as its server calls it")
	flags.StringVar(&f.since, "since", "", "from a time on: 2h or 7d ago, a day like 2026-11-26, or 2026-11-26T09:00:00Z")
	flags.StringVar(&f.until, "until", "", "up to a time, written the same; a day to its end")
	flags.StringVar(&f.text, "text", "", "with this text anywhere in the entry, in upper or lower case")
}

// query is what is asked for. Who runs this has the installation, so it is of the whole log.
func (f *queryFlags) query(now time.Time) (q audit.Query, err error) {
	q = audit.Query{
		Scope: audit.Whole(), Agent: f.agent, Event: f.event, DecisionID: f.decisionID, Server: f.server, Tool: f.tool, Text: f.text,
	}
	if q.Decision, err = decisionWord(f.decision); err != nil {
		return q, err
	}
	if q.Since, err = pointInTime(f.since, now, 0); err != nil {
		return q, fmt.Errorf("--since: %w", err)
	}
	if q.Until, err = pointInTime(f.until, now, 1); err != nil {
		return q, fmt.Errorf("--until: %w", err)
	}
	return q, nil
}

// decisionWord is the word of the log for a decision.
func decisionWord(text string) (string, error) {
	word := strings.ReplaceAll(strings.ToUpper(text), "-", "_")
	var all []string
	for _, o := range []policy.Outcome{policy.Allow, policy.Deny, policy.RequireApproval, policy.RequireStepUp, policy.RequireDeposit} {
		all = append(all, o.String())
	}
	if word != "" && !slices.Contains(all, word) {
		return "", fmt.Errorf("--decision: want one of %s, got %q", strings.ToLower(strings.Join(all, ", ")), text)
	}
	return word, nil
}

// pointInTime reads a time: so long ago, a day (its beginning, or that of one after it),
// or a moment.
func pointInTime(text string, now time.Time, days int) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := parseLength(text); err == nil {
		return now.Add(-ago), nil
	}
	if day, err := time.ParseInLocation(time.DateOnly, text, now.Location()); err == nil {
		return day.AddDate(0, 0, days), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		err = fmt.Errorf("want how long ago, like 2h or 7d, a day like 2026-11-26, or a time like 2026-11-26T09:00:00Z, got %q", text)
	}
	return at, err
}

// eachLine finds everything that is asked for, part by part: there may be gigabytes of it.
func (a *app) eachLine(ctx context.Context, q audit.Query, do func(audit.Sequenced) error) error {
	for q.Limit = 1000; ; {
		page, err := a.store.Search(ctx, q)
		if err != nil {
			return err
		}
		for _, l := range page.Lines {
			if err := do(l); err != nil {
				return err
			}
		}
		if q.From = page.Next; q.From == 0 {
			return nil
		}
	}
}
