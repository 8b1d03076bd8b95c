package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/internal/visible"
)

func approvalsCommand() *cobra.Command {
	cmd := approvalsList()
	cmd.Use = "approvals"
	cmd.Short = "See and answer what waits for you"
	cmd.Long = `Lists what waits for you. It can be answered here or in the portal (openleash open).
An approval is good for exactly the action shown, once, for an hour; approve --help says
how one is good for more.`
	cmd.Args = knownCommand
	cmd.AddCommand(approvalsList(), approvalsShow(), approvalsApprove(), approvalsDeny(), approvalsWithdraw(), approvalsRule())
	return cmd
}

func approvalsList() *cobra.Command {
	var asJSON, all bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List what waits, with everything that would run",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withApp(cmd, func(a *app) error { return a.listApprovals(cmd, all, asJSON) })
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON, one array")
	cmd.Flags().BoolVar(&all, "all", false, "answered and expired ones too, the newest 100")
	return cmd
}

// withApp opens the installation for one command.
func withApp(cmd *cobra.Command, do func(*app) error) error {
	a, err := openApp(cmd.Context(), quietLog(cmd.ErrOrStderr()))
	if err != nil {
		return err
	}
	return errors.Join(do(a), a.close())
}

func (a *app) listApprovals(cmd *cobra.Command, all, asJSON bool) error {
	status := approvals.Pending
	if all {
		status = ""
	}
	list, err := a.store.Approvals(cmd.Context(), a.owner.ID, status, 100)
	if err != nil {
		return err
	}
	now := time.Now()
	shown := []approvalView{}
	for _, r := range list {
		if all || r.At(now) == approvals.Pending {
			shown = append(shown, viewOf(r, now))
		}
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), shown)
	}
	printApprovals(cmd.OutOrStdout(), shown)
	return nil
}

// approvalView is a request as `approvals list` shows it.
type approvalView struct {
	ID         string          `json:"id"`
	Status     string          `json:"status"`
	Agent      string          `json:"agent"`
	Server     string          `json:"server,omitempty"`
	Tool       string          `json:"tool,omitempty"`
	ActionType string          `json:"action_type"`
	Reason     string          `json:"reason"`
	Policy     string          `json:"policy_id"`
	Rule       string          `json:"rule_id,omitempty"`
	Payload    json.RawMessage `json:"payload"`
	ActionHash string          `json:"action_hash"`
	CreatedAt  time.Time       `json:"created_at"`
	ExpiresAt  time.Time       `json:"expires_at"`
	AnsweredBy string          `json:"answered_by,omitempty"`
	Grant      string          `json:"grant_id,omitempty"` // the standing grant by which it ran
	Version    int             `json:"version"`
	Asked      int             `json:"asked"`
	LastAsked  time.Time       `json:"last_asked"`
	Held       bool            `json:"held"` // a call waits for the answer

	Needs            []string `json:"needs,omitempty"`  // what a yes takes: step_up, deposit
	Factor           string   `json:"factor,omitempty"` // that came with it
	DepositReference string   `json:"deposit_reference,omitempty"`

	payload action.Value
	again   string // how often it was asked for, in words
}

func viewOf(r approvals.Request, now time.Time) approvalView {
	return approvalView{
		ID: r.ID, Status: string(r.At(now)), Agent: r.AgentID, Server: r.Server, Tool: r.Tool, ActionType: r.Action.ActionType,
		Reason: r.Reason, Policy: r.PolicyID, Rule: r.RuleID, Payload: r.Action.Payload.Canonical(), ActionHash: r.ActionHash.String(),
		CreatedAt: r.CreatedAt, ExpiresAt: r.ExpiresAt, AnsweredBy: r.AnsweredBy, Grant: r.GrantID,
		Version: r.Version, Asked: r.Asked, LastAsked: r.LastAsked, Held: now.Before(r.HeldUntil), payload: r.Action.Payload, again: askedWords(r, now),
		Needs: strings.Fields(r.Needs.String()), Factor: r.Factor.Method, DepositReference: r.DepositReference,
	}
}

func printApprovals(w io.Writer, list []approvalView) {
	if len(list) == 0 {
		fmt.Fprintln(w, "Nothing waits for you.")
		return
	}
	for i, v := range list {
		if i > 0 {
			fmt.Fprintln(w)
		}
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintf(t, "%s\t%s\n", v.Status, v.ID)
		if v.AnsweredBy != "" {
			fmt.Fprintf(t, "  answered by\t%s\n", v.AnsweredBy)
		}
		if len(v.Needs) > 0 {
			fmt.Fprintf(t, "  a yes takes\t%s\n", needWords(v.Needs))
		}
		if v.Grant != "" {
			fmt.Fprintf(t, "  ran by\tthe standing grant %s\n", v.Grant)
		}
		fmt.Fprintf(t, "  who\tagent %s\n", visible.Line(v.Agent))
		if v.Tool != "" {
			fmt.Fprintf(t, "  what\t%s of server %s (%s)\n", visible.Line(v.Tool), visible.Line(v.Server), visible.Line(v.ActionType))
		} else {
			fmt.Fprintf(t, "  what\t%s\n", visible.Line(v.ActionType))
		}
		fmt.Fprintf(t, "  why asked\t%s (policy %s%s)\n", visible.Line(v.Reason), v.Policy, ruleWords(v.Rule))
		fmt.Fprintf(t, "  asked\t%s, answer by %s\n", v.CreatedAt.Local().Format(time.DateTime), v.ExpiresAt.Local().Format(time.DateTime))
		if v.again != "" {
			fmt.Fprintf(t, "  asked for\t%s\n", v.again)
		}
		fmt.Fprintf(t, "  action hash\t%s\n", v.ActionHash)
		t.Flush()
		(&approvalPrinter{w: w, more: "openleash approvals show " + v.ID + " --full"}).foreign(visible.JSON(v.payload), v.payload)
	}
	if list[0].Status == string(approvals.Pending) {
		fmt.Fprintf(w, "\nopenleash approvals show %s tells more, and how to answer it.\n", list[0].ID)
	}
}

func ruleWords(rule string) string {
	if rule == "" {
		return ", its default"
	}
	return ", rule " + rule
}

func approvalsDeny() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "deny ID",
		Short: "Refuse one action; the model is told why",
		Long: `Refuses the action of a request, at whichever version it is. The model is told so, with your
reason, and for a while (15 minutes) the same call is refused at once without asking you.

  openleash approvals deny ID --reason "not before Monday"`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return asOwner(cmd, func(a *app) error {
				r, err := a.service.Answer(cmd.Context(), cliActor(), args[0], false, reason)
				if err != nil {
					return withHint(fmt.Errorf("deny %s: %w", args[0], err), answerHint(args[0], err))
				}
				fmt.Fprintf(cmd.OutOrStdout(), "denied %s\n", r.ID)
				fmt.Fprintf(cmd.OutOrStdout(), "The same call is refused for %d minutes, without asking you.\n", int(a.service.DenialSticks().Minutes()))
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "what the model is told")
	return cmd
}
