package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/internal/visible"
)

// termsFlags are what approve and rule say of more than one call.
type termsFlags struct {
	times  int
	length string
	bounds []string
}

func (f *termsFlags) terms() (t approvals.Terms, err error) {
	t.Uses = f.times
	if f.length != "" {
		if t.For, err = parseLength(f.length); err != nil {
			return t, fmt.Errorf("--for: %w", err)
		}
	}
	for _, text := range f.bounds {
		b, err := approvals.ParseBound(text)
		if err != nil {
			return t, fmt.Errorf("--bound: %w", err)
		}
		t.Bounds = append(t.Bounds, b)
	}
	return t, nil
}

// parseLength reads 90m, 8h or 30d.
func parseLength(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n > 0 && n <= 3660 {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	} else if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return d, nil
	}
	return 0, fmt.Errorf("want a length of time like 90m, 8h or 30d, got %q", text)
}

const boundsHelp = `A --bound lets one value of the call be another. All that is not bounded stays as it is,
at every depth: the values, the keys, the number of items.

  'PATH at_most 100'             a number (and at_least 0, if you do not say otherwise)
  'PATH at_least 5'
  'PATH one_of ["ann", "bob"]'   texts in double quotes, numbers, true, false, null
  'PATH any'                     the same kind of value; a text up to twice as long as it
                                 is now, or 100 characters. 'PATH any 2000' says how long

PATH is as in policies: $.payload.arguments.amount. A field that the mapping has read from
a bounded argument, and that has its value, gets the same bound; one that it has computed
(42.50 as amount_minor 4250) needs a bound of its own.`

func approvalsApprove() *cobra.Command {
	var f termsFlags
	var version int
	var reference string
	cmd := &cobra.Command{
		Use:   "approve ID",
		Short: "Let one action run, once, or with a standing grant more often",
		Long: `Lets one action run, once. With --times or --for it also gives a standing grant: as long as
the policy asks for an approval, the same calls of that agent run without asking you again,
so often and so long (a day, if you do not say; at most 30 days). The action that waits is
the first. What the policy denies, or what is over a limit, no grant lets through, and it
ends when the tool's definition changes.

An agent may word anew what waits, which makes the next version of the request. Then say
which version you were shown: an approval of another one does not count.

Where the policy wants a deposit, say by --deposit-reference by which it is found again; where
it wants your second factor, the code that you are asked for is it. Such an approval is for
once.

` + boundsHelp + `

  openleash approvals approve ID --version 2
  openleash approvals approve ID --times 5
  openleash approvals approve ID --for 8h --bound '$.payload.arguments.amount at_most 100'

openleash grants lists what you gave, and withdraws it.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			terms, err := f.terms()
			switch {
			case err != nil:
				return err
			case cmd.Flags().Changed("times") && f.times < 2:
				return fmt.Errorf("--times: want 2 to %d, got %d; without it the approval is for once", approvals.MaxGrantUses, f.times)
			case f.times == 0 && f.length == "" && len(f.bounds) > 0:
				return errors.New("--bound: say how often (--times) or how long (--for) the grant is good: an approval for once is for exactly what is shown")
			}
			return withApp(cmd, func(a *app) error {
				if f.times == 0 && f.length == "" {
					return a.approveOnce(cmd, args[0], version, reference)
				}
				return a.give(cmd, args[0], version, terms)
			})
		},
	}
	cmd.Flags().IntVar(&version, "version", 1, "the version that you were shown; an agent may word anew what waits")
	cmd.Flags().StringVar(&reference, "deposit-reference", "", "of the deposit, where the policy wants one: up to 200 characters")
	cmd.Flags().IntVar(&f.times, "times", 0, "how often, this one included: 2 to 10000")
	cmd.Flags().StringVar(&f.length, "for", "", "how long: 90m, 8h, 30d")
	cmd.Flags().StringArrayVar(&f.bounds, "bound", nil, "what may differ, 'PATH OP VALUE'; may be repeated")
	return cmd
}

// approveOnce lets the action run, once.
func (a *app) approveOnce(cmd *cobra.Command, id string, version int, reference string) error {
	r, err := a.approve(cmd, id, version, reference)
	if err != nil {
		return withHint(fmt.Errorf("approve %s: %w", id, err), answerHint(id, err))
	}
	fmt.Fprintf(cmd.OutOrStdout(), "approved %s\n", r.ID)
	return a.suggestRule(cmd.Context(), cmd.OutOrStdout(), r)
}

func (a *app) give(cmd *cobra.Command, id string, version int, terms approvals.Terms) error {
	r, err := a.shown(cmd.Context(), id, version)
	if err == nil {
		_, err = r.Standing("", terms, "", time.Now()) // before a code is spent on it
	}
	if err == nil {
		_, err = a.confirm(cmd)
	}
	if err != nil {
		return withHint(fmt.Errorf("approve %s: %w", id, err), answerHint(id, err))
	}
	g, err := a.service.Give(cmd.Context(), "cli:"+userName(), id, r.ActionHash, terms)
	if err != nil {
		return withHint(fmt.Errorf("approve %s: %w", id, err), answerHint(id, err))
	}
	fmt.Fprintf(cmd.OutOrStdout(), "approved %s\n", id)
	printGrant(cmd.OutOrStdout(), g, time.Now())
	return nil
}

func approvalsWithdraw() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "withdraw ID",
		Short: "Take an approval back that nobody has used yet",
		Long: `Takes an approval back that nobody has used yet, and the standing grant that was given with
it. The agent is told as of a denial, and the same call is refused for a while. A grant whose
first call has run is withdrawn by openleash grants withdraw.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return asOwner(cmd, func(a *app) error {
				r, err := a.service.WithdrawApproval(cmd.Context(), "cli:"+userName(), args[0], reason)
				if err != nil {
					return withHint(fmt.Errorf("withdraw %s: %w", args[0], err), "openleash approvals list --all has those that are APPROVED; openleash grants list the standing ones")
				}
				fmt.Fprintf(cmd.OutOrStdout(), "withdrawn %s\n", r.ID)
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "what the model is told")
	return cmd
}

func grantsCommand() *cobra.Command {
	cmd := grantsList()
	cmd.Use = "grants"
	cmd.Short = "See and withdraw standing grants"
	cmd.Long = `Lists the standing grants that are good now: each lets calls of one kind run without asking
you. It is given by openleash approvals approve ID --times N or --for TIME, or in the portal.`
	cmd.Args = knownCommand
	cmd.AddCommand(grantsList(), grantsShow(), grantsWithdraw())
	return cmd
}

func grantsList() *cobra.Command {
	var asJSON, all bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the grants that are good now",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withApp(cmd, func(a *app) error { return a.listGrants(cmd, all, asJSON) })
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON, one array")
	cmd.Flags().BoolVar(&all, "all", false, "those too that are used up, expired or withdrawn, the newest 100 of all")
	return cmd
}

func (a *app) listGrants(cmd *cobra.Command, all, asJSON bool) error {
	limit := 0
	if all {
		limit = 100
	}
	list, err := a.store.Grants(cmd.Context(), a.owner.ID, limit)
	if err != nil {
		return err
	}
	now := time.Now()
	views := []grantView{}
	var shown []approvals.Grant
	for _, g := range list {
		if all || g.Live(now) == nil {
			shown, views = append(shown, g), append(views, grantViewOf(g, now))
		}
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), views)
	}
	if len(shown) == 0 {
		fmt.Fprintln(cmd.OutOrStdout(), "No standing grant is good now.")
	}
	for i, g := range shown {
		if i > 0 {
			fmt.Fprintln(cmd.OutOrStdout())
		}
		printGrant(cmd.OutOrStdout(), g, now)
	}
	if len(shown) > 0 {
		fmt.Fprintf(cmd.OutOrStdout(), "\nopenleash grants show ID shows the call that one was given on; openleash grants withdraw ID ends it.\n")
	}
	return nil
}

// grantView is a grant as --json shows it.
type grantView struct {
	ID          string       `json:"id"`
	Status      string       `json:"status"` // ACTIVE, USED, EXPIRED, WITHDRAWN
	Agent       string       `json:"agent"`
	Server      string       `json:"server,omitempty"`
	Tool        string       `json:"tool,omitempty"`
	ActionType  string       `json:"action_type"`
	Request     approvalView `json:"request"` // that it was given on
	Bounds      []string     `json:"bounds"`  // none: exactly that payload
	Uses        *int         `json:"uses"`    // null: as many as there is time for
	Used        int          `json:"used"`
	CreatedAt   time.Time    `json:"created_at"`
	Until       time.Time    `json:"until"`
	GivenBy     string       `json:"given_by"`
	WithdrawnAt *time.Time   `json:"withdrawn_at,omitempty"`
	WithdrawnBy string       `json:"withdrawn_by,omitempty"`
}

func grantViewOf(g approvals.Grant, now time.Time) grantView {
	r := g.Request
	v := grantView{
		ID: g.ID, Status: g.Status(now), Agent: r.AgentID, Server: r.Server, Tool: r.Tool, ActionType: r.Action.ActionType,
		Request: viewOf(r, now), Bounds: []string{}, Used: g.Used, CreatedAt: g.CreatedAt, Until: g.Until, GivenBy: g.GivenBy, WithdrawnBy: g.WithdrawnBy,
	}
	for _, b := range g.Bounds {
		v.Bounds = append(v.Bounds, b.String())
	}
	if g.Uses > 0 {
		v.Uses = &g.Uses
	}
	if !g.WithdrawnAt.IsZero() {
		v.WithdrawnAt = &g.WithdrawnAt
	}
	return v
}

func printGrant(w io.Writer, g approvals.Grant, now time.Time) {
	r := g.Request
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "%s\t%s\n", g.Status(now), g.ID)
	what := r.Action.ActionType
	if r.Tool != "" {
		what = fmt.Sprintf("%s of server %s (%s)", r.Tool, r.Server, what)
	}
	fmt.Fprintf(t, "  lets\tagent %s run %s\n", visible.Line(r.AgentID), visible.Line(what))
	covers := "exactly the call of request " + r.ID
	if len(g.Bounds) > 0 {
		covers = "the call of request " + r.ID + ", but for"
	}
	fmt.Fprintf(t, "  covers\t%s\n", covers)
	for _, b := range g.Bounds {
		fmt.Fprintf(t, "  \t  %s\n", visible.Line(b.String()))
	}
	uses := "as often as there is time for, " + strconv.Itoa(g.Used) + " so far"
	if left, counted := g.Left(); counted {
		uses = fmt.Sprintf("%d of %d left", left, g.Uses)
	}
	fmt.Fprintf(t, "  uses\t%s\n", uses)
	fmt.Fprintf(t, "  until\t%s\n", g.Until.Local().Format(time.DateTime))
	fmt.Fprintf(t, "  given by\t%s, %s\n", visible.Line(g.GivenBy), g.CreatedAt.Local().Format(time.DateTime))
	if !g.WithdrawnAt.IsZero() {
		fmt.Fprintf(t, "  withdrawn by\t%s, %s\n", visible.Line(g.WithdrawnBy), g.WithdrawnAt.Local().Format(time.DateTime))
	}
	t.Flush()
}

func grantsShow() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show one grant, with the payload that it was given on",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withApp(cmd, func(a *app) error {
				g, err := a.store.Grant(cmd.Context(), args[0])
				if err != nil {
					return withHint(fmt.Errorf("grant %s: %w", args[0], err), "openleash grants list --all has their ids")
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), grantViewOf(g, time.Now()))
				}
				printGrant(cmd.OutOrStdout(), g, time.Now())
				(&approvalPrinter{w: cmd.OutOrStdout(), more: "openleash approvals show " + g.Request.ID + " --full"}).foreign(visible.JSON(g.Request.Action.Payload), g.Request.Action.Payload)
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

func grantsWithdraw() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "withdraw ID",
		Short: "Take a grant back: nothing runs by it from then on",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return asOwner(cmd, func(a *app) error {
				g, err := a.service.WithdrawGrant(cmd.Context(), "cli:"+userName(), args[0], reason)
				if err != nil {
					return withHint(fmt.Errorf("withdraw %s: %w", args[0], err), "openleash grants list has those that are good now")
				}
				fmt.Fprintf(cmd.OutOrStdout(), "withdrawn %s\n", g.ID)
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "for the log, and for the model if its call still waits")
	return cmd
}
