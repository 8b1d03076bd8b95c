package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/internal/strictyaml"
	"github.com/openleash/openleash-go/internal/visible"
	"github.com/openleash/openleash-go/policy"
)

func limitsCommand() *cobra.Command {
	var asJSON, all bool
	cmd := &cobra.Command{
		Use:   "limits",
		Short: "See how full limits are, and give back what was charged",
		Long: `Lists the limits of the policies in force, for each of those whom they count apart:
what is used, held (by calls whose outcome is not known yet, and what is set aside),
left, and when the next of it is free. Money is in minor units: 1250 is 12.50 EUR.
A limit that stands in no policy any more is listed with all that is kept of it.`,
		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withApp(cmd, func(a *app) error { return a.listLimits(cmd, all, asJSON) })
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON, one array")
	cmd.Flags().BoolVar(&all, "all", false, fmt.Sprintf("more than the first %d of those whom a limit counts apart", keysShown))
	cmd.AddCommand(limitsShow(), limitsRelease())
	return cmd
}

// keysShown is how many keys of a limit are listed at once.
const keysShown = 50

func (a *app) listLimits(cmd *cobra.Command, all, asJSON bool) error {
	ctx, now := cmd.Context(), time.Now()
	list, err := authz.LookAtLimits(ctx, a.store, a.policies.Current(), now, keysShown)
	if err != nil {
		return err
	}
	for i := range list {
		if all {
			if err := a.otherKeys(ctx, &list[i], now); err != nil {
				return err
			}
		}
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), limitsJSON(list))
	}
	printLimits(cmd.OutOrStdout(), list)
	return nil
}

// otherKeys reads the keys that are not there yet.
func (a *app) otherKeys(ctx context.Context, v *authz.LimitView, now time.Time) error {
	for v.More != "" {
		next, err := authz.LookAtLimit(ctx, a.store, a.policies.Current(), now, authz.Look{Limit: v.ID, After: v.More, Keys: keysShown})
		if err != nil {
			return err
		}
		v.Keys, v.More = append(v.Keys, next.Keys...), next.More
	}
	return nil
}

// limitJSON is a limit as `limits --json` shows it.
type limitJSON struct {
	ID       string    `json:"id"`
	InForce  bool      `json:"in_force"`
	Counts   string    `json:"counts,omitempty"` // calls, sum
	Currency string    `json:"currency,omitempty"`
	Max      *int64    `json:"max"` // null: it stands in no policy
	Window   string    `json:"window,omitempty"`
	Per      []string  `json:"per,omitempty"`
	Keys     []keyJSON `json:"keys"`
	More     bool      `json:"more"` // keys; --all lists them
}

type keyJSON struct {
	Key      []string   `json:"key"`
	Used     int64      `json:"used"`
	Held     int64      `json:"held"`
	Left     *int64     `json:"left"`
	NextFree *time.Time `json:"next_free"`
}

func limitsJSON(list []authz.LimitView) []limitJSON {
	shown := []limitJSON{}
	for _, v := range list {
		l := limitJSON{ID: v.ID, InForce: v.Limit != nil, Keys: []keyJSON{}, More: v.More != ""}
		if v.Limit != nil {
			l.Max, l.Currency, l.Window, l.Per, l.Counts = &v.Limit.Max, v.Limit.Currency, v.Limit.Window(), v.Limit.Per(), "sum"
			if v.Limit.Counts {
				l.Counts = "calls"
			}
		}
		for _, k := range v.Keys {
			l.Keys = append(l.Keys, keyOf(v, k))
		}
		shown = append(shown, l)
	}
	return shown
}

func keyOf(v authz.LimitView, k authz.KeyState) keyJSON {
	shown := keyJSON{Used: k.Used, Held: k.Held}
	shown.Key, _ = policy.KeyParts(k.Key)
	if v.Limit != nil {
		left := v.Left(k)
		shown.Left = &left
	}
	if k.Next > 0 {
		next := time.UnixMilli(k.Next).UTC()
		shown.NextFree = &next
	}
	return shown
}

func printLimits(w io.Writer, list []authz.LimitView) {
	if len(list) == 0 {
		fmt.Fprintln(w, "The policies in force have no limits, and nothing was charged to one.")
		return
	}
	rows := [][]string{{"LIMIT", "FOR", "MAX", "WINDOW", "USED", "HELD", "LEFT", "NEXT FREE", "UNIT"}}
	var notes []string
	for _, v := range list {
		rows = append(rows, limitRows(v)...)
		if v.Limit == nil {
			notes = append(notes, fmt.Sprintf("%s stands in no policy in force: this is all that is kept of it. A limit with another id begins anew.", visible.Line(v.ID)))
		}
		if v.More != "" {
			notes = append(notes, fmt.Sprintf("%s counts more apart than these %d: openleash limits --all", visible.Line(v.ID), len(v.Keys)))
		}
	}
	printTable(w, "llrlrrrll", rows)
	for _, n := range notes {
		fmt.Fprintln(w, n)
	}
}

func limitRows(v authz.LimitView) (rows [][]string) {
	limit, window, unit := "-", "-", "in no policy"
	if v.Limit != nil {
		limit, window, unit = strconv.FormatInt(v.Limit.Max, 10), v.Limit.Window(), unitOf(v.Limit)
	}
	if len(v.Keys) == 0 && v.Limit != nil {
		return [][]string{{visible.Line(v.ID), orDash(eachOf(v.Limit)), limit, window, "0", "0", limit, "-", unit}}
	}
	for _, k := range v.Keys {
		left := "-"
		if v.Limit != nil {
			left = strconv.FormatInt(v.Left(k), 10)
		}
		rows = append(rows, []string{visible.Line(v.ID), orDash(visible.Line(v.Whose(k.Key))), limit, window,
			strconv.FormatInt(k.Used, 10), strconv.FormatInt(k.Held, 10), left, moment(k.Next), unit})
	}
	return rows
}

// eachOf is whom a limit counts apart, of which nobody has used anything.
func eachOf(l *policy.Limit) string {
	if len(l.Per()) == 0 {
		return ""
	}
	return "each " + strings.Join(l.Per(), ", ")
}

// unitOf names what a limit counts.
func unitOf(l *policy.Limit) string {
	switch {
	case l.Counts:
		return "calls"
	case l.Currency != "":
		return "minor units of " + l.Currency
	}
	return ""
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func moment(ms int64) string {
	if ms == 0 {
		return "-"
	}
	return time.UnixMilli(ms).Local().Format(time.DateTime)
}

// printTable aligns columns: l to the left, r to the right. Nothing follows the last
// cell of a line.
func printTable(w io.Writer, align string, rows [][]string) {
	width := make([]int, len(align))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			gap := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if align[i] == 'r' {
				cell, gap = gap+cell, ""
			}
			line.WriteString(cell + gap + "  ")
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

func limitsShow() *cobra.Command {
	var n int
	cmd := &cobra.Command{
		Use:   "show LIMIT [KEY…]",
		Short: "Show what was charged to a limit, and by which decisions",
		Long: `Shows the charges of a limit that are kept, the newest first, with the decision that
each was made by: openleash limits release gives it back. KEY says of whom, where the
limit counts several apart: the words of its per, in their order.

  openleash limits show shop/each-shop bot shop.example`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withApp(cmd, func(a *app) error { return a.showLimit(cmd, args[0], args[1:], n) })
		},
	}
	cmd.Flags().IntVarP(&n, "charges", "n", 20, "how many of each, 1 to 10000")
	return cmd
}

func (a *app) showLimit(cmd *cobra.Command, id string, parts []string, n int) error {
	if n < 1 || n > 10_000 {
		return fmt.Errorf("--charges: want 1 to 10000, got %d", n)
	}
	look := authz.Look{Limit: id, Keys: keysShown}
	if len(parts) > 0 {
		look.Key = keyFrom(parts)
	}
	v, err := authz.LookAtLimit(cmd.Context(), a.store, a.policies.Current(), time.Now(), look)
	if errors.Is(err, authz.ErrNoLimit) {
		return a.noLimit(cmd.Context(), id)
	}
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	for i, k := range v.Keys {
		charges, err := a.store.LimitCharges(cmd.Context(), id, k.Key, authz.ChargePlace{}, n)
		if err != nil {
			return err
		}
		if i > 0 {
			fmt.Fprintln(out)
		}
		printCharges(out, v, k, charges)
		if len(charges) == n {
			fmt.Fprintf(out, "There may be older ones: openleash limits show %s -n %d\n", visible.Line(id), 10*n)
		}
	}
	switch {
	case len(v.Keys) == 0:
		fmt.Fprintln(out, "Nothing that counts now was charged to it.")
	case v.More != "":
		fmt.Fprintf(out, "\nIt counts more apart than these %d: name one, as openleash limits --all lists them.\n", len(v.Keys))
	}
	return nil
}

// keyFrom is the key of a limit's words, as policies make it.
func keyFrom(parts []string) string {
	values := make([]action.Value, len(parts))
	for i, part := range parts {
		values[i] = action.StringValue(part)
	}
	return string(action.ArrayValue(values...).Canonical())
}

func (a *app) noLimit(ctx context.Context, id string) error {
	list, err := authz.LookAtLimits(ctx, a.store, a.policies.Current(), time.Now(), 1)
	if err != nil {
		return err
	}
	var names []string
	for _, v := range list {
		names = append(names, v.ID)
	}
	return withHint(fmt.Errorf("no limit %q is in force, and nothing is kept of one%s", id, strictyaml.DidYouMean(id, names)), "openleash limits lists them")
}

func printCharges(w io.Writer, v authz.LimitView, k authz.KeyState, charges []authz.Charged) {
	whose := v.Whose(k.Key)
	if whose != "" {
		whose = " for " + whose
	}
	if v.Limit == nil {
		fmt.Fprintf(w, "%s%s: in no policy in force; %d used, %d held\n", visible.Line(v.ID), visible.Line(whose), k.Used, k.Held)
	} else {
		window := "in " + v.Limit.Window()
		if v.Limit.Trailing() == 0 {
			window = "a " + v.Limit.Window()
		}
		fmt.Fprintf(w, "%s%s: at most %d %s; %d used, %d held, %d left", visible.Line(v.ID), visible.Line(whose), v.Limit.Max, window, k.Used, k.Held, v.Left(k))
		if unit := unitOf(v.Limit); unit != "" {
			fmt.Fprintf(w, " (%s)", unit)
		}
		fmt.Fprintln(w)
	}
	if len(charges) == 0 {
		fmt.Fprintln(w, "  no charges: it is set aside for what waits for you, or nothing")
		return
	}
	rows := [][]string{{"  CHARGED", "AMOUNT", "STATE", "COUNTS UNTIL", "AGENT", "DECISION"}}
	for _, c := range charges {
		state := "used"
		if c.Held {
			state = "held"
		}
		rows = append(rows, []string{"  " + moment(c.At), strconv.FormatInt(c.Amount, 10), state, moment(v.Until(c)), visible.Line(c.AgentID), visible.Line(c.Decisions[0])})
		for _, also := range c.Decisions[1:] {
			rows = append(rows, []string{"", "", "", "", "and, on the same action,", visible.Line(also)})
		}
	}
	printTable(w, "lrllll", rows)
}

func limitsRelease() *cobra.Command {
	var reason string
	var limits []string
	cmd := &cobra.Command{
		Use:   "release DECISION --reason TEXT",
		Short: "Give back what a decision was charged",
		Long: `Gives back what DECISION was charged, whatever came of its call: you know that nothing
did, OpenLeash does not. The log has the decision's id, and so has openleash limits show.
What you give back, and why, is recorded.

If several decisions on the same action stand on a charge, it is given back when the
last of them is released: when a call was tried again, one of them has gone through.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return asOwner(cmd, func(a *app) error { return a.releaseCharges(cmd, args[0], limits, reason) })
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the log (required)")
	cmd.Flags().StringArrayVar(&limits, "limit", nil, "of this limit only; may be repeated (default: of all)")
	cobra.CheckErr(cmd.MarkFlagRequired("reason"))
	return cmd
}

func (a *app) releaseCharges(cmd *cobra.Command, decision string, limits []string, reason string) error {
	list, err := a.service.Release(cmd.Context(), "cli:"+userName(), decision, limits, reason)
	if err != nil {
		return withHint(fmt.Errorf("releasing %s: %w", decision, err), "openleash limits show LIMIT has what was charged, and by which decisions")
	}
	for _, c := range list {
		if c.Kept {
			fmt.Fprintf(cmd.OutOrStdout(), "kept      %s %d: other decisions on the same action stand on it; release them too\n", visible.Line(c.Limit), c.Amount)
			continue
		}
		fmt.Fprintf(cmd.OutOrStdout(), "released  %s %d\n", visible.Line(c.Limit), c.Amount)
	}
	return nil
}
