package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/draft"
	"github.com/openleash/openleash-go/internal/diff"
	"github.com/openleash/openleash-go/internal/visible"
	"github.com/openleash/openleash-go/policy"
	"github.com/openleash/openleash-go/replay"
)

func policyDraftsCommand() *cobra.Command {
	cmd := draftsList()
	cmd.Use = "drafts"
	cmd.Short = "See and answer policies that agents propose"
	cmd.Long = `An agent may propose a policy (POST /v1/agent/policy-drafts). It binds nobody until you
have approved it: show tells what it changes, and what it would have decided otherwise.`
	cmd.Args = knownCommand
	cmd.AddCommand(draftsList(), draftsShow(), draftsApprove(), draftsDeny())
	return cmd
}

func draftsList() *cobra.Command {
	var asJSON, all bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the drafts that wait for you",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withApp(cmd, func(a *app) error { return a.listDrafts(cmd, all, asJSON) })
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON, one array")
	cmd.Flags().BoolVar(&all, "all", false, "answered ones too, the newest 200")
	return cmd
}

// draftView is a draft as `policy drafts list --json` has it.
type draftView struct {
	ID            string     `json:"policy_draft_id"`
	Status        string     `json:"status"`
	Agent         string     `json:"agent"`
	For           string     `json:"for"` // "agent bot", "every agent"
	Place         string     `json:"would_be"`
	Name          string     `json:"name,omitempty"`
	Description   string     `json:"description,omitempty"`
	Justification string     `json:"justification,omitempty"`
	Hash          string     `json:"policy_hash"`
	CreatedAt     time.Time  `json:"created_at"`
	ResolvedAt    *time.Time `json:"resolved_at,omitempty"`
	ResolvedBy    string     `json:"resolved_by,omitempty"`
	DenyReason    string     `json:"denial_reason,omitempty"`
	PolicyID      string     `json:"resulting_policy_id,omitempty"`
}

func draftViewOf(p draft.Proposal) draftView {
	v := draftView{
		ID: p.ID, Status: string(p.Status), Agent: p.Agent, For: p.For(), Place: p.Place(), Name: p.Name, Description: p.Description, Justification: p.Justification,
		Hash: p.Hash.String(), CreatedAt: p.CreatedAt, ResolvedBy: p.ResolvedBy, DenyReason: p.DenyReason, PolicyID: p.PolicyID,
	}
	if !p.ResolvedAt.IsZero() {
		v.ResolvedAt = &p.ResolvedAt
	}
	return v
}

func (a *app) listDrafts(cmd *cobra.Command, all, asJSON bool) error {
	status := draft.Pending
	if all {
		status = ""
	}
	list, err := a.store.PolicyDrafts(cmd.Context(), a.owner.ID, status, 200)
	if err != nil {
		return err
	}
	if asJSON {
		shown := []draftView{}
		for _, p := range list {
			shown = append(shown, draftViewOf(p))
		}
		return printJSON(cmd.OutOrStdout(), shown)
	}
	printDrafts(cmd.OutOrStdout(), list)
	return nil
}

func printDrafts(w io.Writer, list []draft.Proposal) {
	if len(list) == 0 {
		fmt.Fprintln(w, "No draft waits for you.")
		return
	}
	rows := [][]string{{"STATUS", "ID", "AGENT", "FOR", "WOULD BE", "PROPOSED"}}
	for _, p := range list {
		rows = append(rows, []string{string(p.Status), p.ID, p.Agent, p.For(), p.Place(), p.CreatedAt.Local().Format(time.DateTime)})
	}
	printTable(w, "llllll", rows)
	if list[0].Status == draft.Pending {
		fmt.Fprintf(w, "\nopenleash policy drafts show %s tells what it changes, and how to answer it.\n", list[0].ID)
	}
}

func draftsShow() *cobra.Command {
	var text bool
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show a draft: what it changes, and what it would have decided otherwise",
		Long: `Shows who proposes a policy and why, how it differs from what is in force in its place,
every deny that it would come before, what is probably not meant, and which of the recorded
decisions would be others with it: they are decided twice, by the policies in force and by
those with the draft among them.

What the agent has written stands behind a bar (|), and characters that hide, reorder or look
like others are shown by their number (\u202e). --policy prints the policy to the byte.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withDraft(cmd, withApp, args[0], func(a *app, p draft.Proposal) error {
				if text {
					_, err := io.WriteString(cmd.OutOrStdout(), p.Policy)
					return err
				}
				return a.showDraft(cmd, p)
			})
		},
	}
	cmd.Flags().BoolVar(&text, "policy", false, "print the policy alone, as it was sent")
	return cmd
}

// withDraft finds a draft of the owner's agents; open is withApp or asOwner.
func withDraft(cmd *cobra.Command, open func(*cobra.Command, func(*app) error) error, id string, do func(*app, draft.Proposal) error) error {
	return open(cmd, func(a *app) error {
		p, err := a.store.PolicyDraft(cmd.Context(), id)
		if err == nil && p.OwnerID != a.owner.ID {
			err = draft.ErrNotFound
		}
		if err == nil {
			err = do(a, p)
		}
		if errors.Is(err, draft.ErrNotFound) || errors.Is(err, draft.ErrAnswered) {
			err = withHint(err, "openleash policy drafts list --all shows what there is")
		}
		if err != nil {
			return fmt.Errorf("%s %s: %w", cmd.Name(), id, err)
		}
		return nil
	})
}

func (a *app) showDraft(cmd *cobra.Command, p draft.Proposal) error {
	w := cmd.OutOrStdout()
	d := draftPrinter{approvalPrinter{w: w, full: true}, p}
	d.facts()
	if p.Status != draft.Pending {
		d.heading("The policy")
		d.foreign(strings.TrimSuffix(visible.Lines(p.Policy), "\n"), action.Value{})
		return nil
	}
	book := a.policies.Current()
	review := p.Review(book)
	d.review(review)
	if review.With == nil {
		d.answers("")
		return nil
	}
	d.heading("Of the recorded decisions, with it instead of without it")
	report, err := a.replayDraft(cmd.Context(), book, review.With)
	if err != nil {
		return fmt.Errorf("replaying the log: %w", err)
	}
	printReport(w, report)
	d.answers(book.Hash)
	return nil
}

// replayDraft decides what is recorded with a draft among the policies and without it.
func (a *app) replayDraft(ctx context.Context, book, with *policy.Book) (replay.Report, error) {
	files, err := a.logFiles(ctx)
	if err != nil {
		return replay.Report{}, err
	}
	log, err := openLog(files)
	if err != nil {
		return replay.Report{}, err
	}
	defer log.Close()
	return replay.Run(log, with, replay.Options{Examples: 3, With: book})
}

// draftPrinter writes a draft for a terminal.
type draftPrinter struct {
	approvalPrinter
	p draft.Proposal
}

func (d draftPrinter) facts() {
	p := d.p
	fmt.Fprintf(d.w, "%s  %s\n", p.Status, p.ID)
	t := tabwriter.NewWriter(d.w, 0, 4, 2, ' ', 0)
	row := func(name, value string) { fmt.Fprintf(t, "  %s\t%s\n", name, value) }
	row("who", "agent "+p.Agent)
	row("for", p.For())
	row("proposed", p.CreatedAt.Local().Format(time.DateTime))
	switch p.Status {
	case draft.Pending:
		row("would be", p.Place()+".yaml")
	case draft.Approved:
		row("became", p.PolicyID+".yaml")
	}
	if p.ResolvedBy != "" {
		row("answered", fmt.Sprintf("by %s, %s", visible.Line(p.ResolvedBy), p.ResolvedAt.Local().Format(time.DateTime)))
	}
	if p.DenyReason != "" {
		row("reason", visible.Line(p.DenyReason))
	}
	row("policy hash", p.Hash.String())
	t.Flush()
	if says := saysOf(p); says.Len() > 0 {
		d.heading("What the agent says for it (nothing is decided by that)")
		d.value(says)
	}
	if look := visible.LookAt(saysOf(p), action.StringValue(p.Policy)); look.Odd() > 0 {
		d.heading("LOOK CLOSELY")
		fmt.Fprintf(d.w, "  %s in it would be invisible, or be taken for others; shown by number\n", count(look.Odd(), "character"))
	}
}

// saysOf is what the agent says, as an object.
func saysOf(p draft.Proposal) action.Value {
	var members []action.Member
	for _, m := range [][2]string{{"name", p.Name}, {"description", p.Description}, {"justification", p.Justification}} {
		if m[1] != "" {
			members = append(members, action.Member{Key: m[0], Value: action.StringValue(m[1])})
		}
	}
	return action.ObjectValue(members...)
}

func (d draftPrinter) review(r draft.Review) {
	if r.Base != "" {
		d.heading("The policy, compared with " + r.Base + ", which stays in force beside it")
	} else {
		d.heading("The policy: nothing in force for " + d.p.For() + " is like it")
	}
	for _, piece := range diff.Fold(r.Changes, 3) {
		d.foreign(strings.TrimSuffix(visible.Lines(piece.Marked()), "\n"), action.Value{})
	}
	if r.Fault != nil {
		d.heading("IT CANNOT COME INTO FORCE")
		fmt.Fprintf(d.w, "  %s\n", strings.ReplaceAll(visible.Lines(r.Fault.Error()), "\n", "\n  "))
	}
	if len(r.Overrides) > 0 {
		d.heading("IT COMES BEFORE WHAT DENIES NOW")
	}
	for _, o := range r.Overrides {
		fmt.Fprintf(d.w, "  %s\n", visible.Line(o.String()))
	}
	if len(r.Warnings) > 0 {
		d.heading("Valid, and probably not meant")
	}
	for _, warning := range r.Warnings {
		fmt.Fprintf(d.w, "  %s\n", visible.Line(warning))
	}
}

// answers shows how to answer; set are the policies with which it was looked at, empty
// when it cannot come into force.
func (d draftPrinter) answers(set string) {
	if set != "" {
		d.heading("To put exactly this in force beside the policies as they are, or to deny it:")
		fmt.Fprintf(d.w, "  openleash policy drafts approve %s --hash %s --set %s\n", d.p.ID, d.p.Hash, set)
	} else {
		d.heading("To deny it:")
	}
	fmt.Fprintf(d.w, "  openleash policy drafts deny %s --hash %s --reason \"…\"\n", d.p.ID, d.p.Hash)
}

func draftsApprove() *cobra.Command {
	var hash, set string
	cmd := &cobra.Command{
		Use:   "approve ID --hash HASH --set HASH",
		Short: "Put a draft in force, exactly as it was shown",
		Long: `Writes the policy into the policies folder, as a file that was not there: for one agent
below agents/, for all agents in the folder itself. --hash is that of the policy that was
shown, --set that of the policies in force with which it was compared; when either is
another by now, nothing is done. A draft that does not load beside the policies in force
is not approved, and waits still.

To take it back, remove the file.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var made *draft.Prepared
			err := withShown(cmd, args[0], hash, func(a *app, p draft.Proposal, shown action.Hash) (err error) {
				made, err = a.approveDraft(cmd, p, shown, set)
				return err
			})
			if err != nil || made == nil {
				return err
			}
			// The installation is closed: those that run read it.
			if err := made.Put(); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "approved %s\nwrote %s\n", args[0], made.File)
			return nil
		},
	}
	hashFlag(cmd, &hash)
	cmd.Flags().StringVar(&set, "set", "", "the hash of the policies in force beside which it was shown")
	return cmd
}

func hashFlag(cmd *cobra.Command, hash *string) {
	cmd.Flags().StringVar(hash, "hash", "", "the hash of the policy that was shown: another one is not answered")
}

// withShown finds a draft for the owner's answer to the text of that hash.
func withShown(cmd *cobra.Command, id, hash string, do func(*app, draft.Proposal, action.Hash) error) error {
	shown, err := action.ParseHash(hash)
	if err != nil {
		return withHint(fmt.Errorf("--hash: want that of the policy that was shown, got %q", hash), "openleash policy drafts show "+id+" shows it, and the command")
	}
	return withDraft(cmd, asOwner, id, func(a *app, p draft.Proposal) error { return do(a, p, shown) })
}

// approveDraft records the approval; what it returns is to be put in force.
func (a *app) approveDraft(cmd *cobra.Command, p draft.Proposal, shown action.Hash, set string) (*draft.Prepared, error) {
	review, err := p.Approvable(a.policies, set)
	if err != nil {
		return nil, err
	}
	made, err := p.Prepare(a.policies.Dir())
	if err != nil {
		return nil, err
	}
	if err := a.service.ApproveDraft(cmd.Context(), cliActor(), a.owner.ID, p, shown); err != nil {
		made.Drop()
		return nil, err
	}
	for _, o := range review.Overrides {
		fmt.Fprintf(cmd.ErrOrStderr(), "it comes before what denies: %s\n", visible.Line(o.String()))
	}
	return made, nil
}

func draftsDeny() *cobra.Command {
	var hash, reason string
	cmd := &cobra.Command{
		Use:   "deny ID --hash HASH",
		Short: "Refuse a draft; the agent is told why",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if utf8.RuneCountInString(reason) > 500 || !utf8.ValidString(reason) {
				return errors.New("--reason: want at most 500 characters")
			}
			return withShown(cmd, args[0], hash, func(a *app, p draft.Proposal, shown action.Hash) error {
				err := a.service.DenyDraft(cmd.Context(), cliActor(), a.owner.ID, p, shown, reason)
				if err == nil {
					fmt.Fprintf(cmd.OutOrStdout(), "denied %s\n", p.ID)
				}
				return err
			})
		},
	}
	hashFlag(cmd, &hash)
	cmd.Flags().StringVar(&reason, "reason", "", "what the agent is told")
	return cmd
}
