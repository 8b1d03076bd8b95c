package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/internal/diff"
	"github.com/openleash/openleash-go/internal/visible"
)

func approvalsShow() *cobra.Command {
	var asJSON, full bool
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show one request: everything that would run, and what to know before you answer",
		Long: `Shows what waits in full: who asks and why, every argument, the limits that it
would be charged to, what the server says of its tool, and what is different from
the last call of its kind that was approved.

What an agent or a server has written stands behind a bar (|), and characters that
hide, reorder or look like others are shown by their number (\u202e). Long texts are
cut, with their size and hash; --full shows them whole.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withApp(cmd, func(a *app) error { return a.showApproval(cmd, args[0], full, asJSON) })
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	cmd.Flags().BoolVar(&full, "full", false, "long texts whole")
	return cmd
}

func (a *app) showApproval(cmd *cobra.Command, id string, full, asJSON bool) error {
	r, err := a.store.Approval(cmd.Context(), id)
	if err != nil {
		return withHint(fmt.Errorf("show %s: %w", id, err), "openleash approvals list --all shows what there is")
	}
	review, err := a.service.Review(cmd.Context(), r)
	if err != nil {
		return fmt.Errorf("show %s: %w", id, err)
	}
	pinned, err := a.pinnedTool(cmd.Context(), r)
	if err != nil {
		return fmt.Errorf("show %s: %w", id, err)
	}
	now := time.Now()
	if asJSON {
		d := shownApproval(r, review, now)
		if pinned != nil {
			d.ToolState = pinned.State()
		}
		d.Log = a.checkpointText()
		return printJSON(cmd.OutOrStdout(), d)
	}
	p := &approvalPrinter{log: a.checkpointText(), w: cmd.OutOrStdout(), full: full, more: "openleash approvals show " + r.ID + " --full", r: r, now: now, pinned: pinned}
	p.print(review)
	return nil
}

// detailedApproval is what `approvals show --json` prints.
type detailedApproval struct {
	approvalView
	ToolInfo   action.Value          `json:"tool_info,omitzero"`
	ToolState  string                `json:"tool_state,omitempty"` // of its definition, now: as in tools list
	Party      action.Value          `json:"relying_party,omitzero"`
	IntentHash string                `json:"intent_hash,omitempty"`
	DecisionID string                `json:"decision_id"`
	Over       []approvals.Overshoot `json:"over,omitempty"`
	Limits     []limitRoomView       `json:"limits"`
	Hidden     int                   `json:"hidden_characters"`
	Alike      int                   `json:"look_alike_characters"`
	Twins      [][2]string           `json:"look_alike_names,omitempty"`
	Denied     string                `json:"near_denied,omitempty"`
	Versions   []versionView         `json:"former_versions,omitempty"`
	Last       string                `json:"last_approved,omitempty"`
	Changes    []changeView          `json:"changes_since,omitempty"`
	Log        string                `json:"log,omitempty"` // the audit log's latest checkpoint
}

type limitRoomView struct {
	Limit    string `json:"limit"`
	Key      string `json:"key"`
	Currency string `json:"currency,omitempty"`
	Max      int64  `json:"max"`
	Used     int64  `json:"used"`
	Held     int64  `json:"held"`
	Left     int64  `json:"left"`
	Amount   int64  `json:"amount"`
	Doubt    string `json:"doubt,omitempty"`
}

type changeView struct {
	Path string       `json:"path"`
	Old  action.Value `json:"old,omitzero"`
	New  action.Value `json:"new,omitzero"`
}

func shownApproval(r approvals.Request, review authz.Review, now time.Time) detailedApproval {
	look := visible.LookAt(r.Foreign()...)
	d := detailedApproval{
		approvalView: viewOf(r, now), ToolInfo: r.ToolInfo, Party: r.Action.Value().Get("relying_party"), DecisionID: r.DecisionID, Over: r.Overshoots,
		Limits: []limitRoomView{}, Hidden: look.Hidden, Alike: look.Alike, Twins: look.Twins,
	}
	if !r.IntentHash.IsZero() {
		d.IntentHash = r.IntentHash.String()
	}
	for _, l := range review.Limits {
		d.Limits = append(d.Limits, limitRoomView{l.Charge.Limit.ID, l.Key, l.Charge.Limit.Currency, l.Charge.Limit.Max, l.Used, l.Held, l.Left(), l.Amount, l.Doubt})
	}
	d.Denied, d.Versions = r.NearTo, versionViews(review.Versions)
	if review.Last != nil {
		d.Last = review.Last.ID
		for _, c := range diff.Values(review.Last.Action.Payload, r.Action.Payload) {
			d.Changes = append(d.Changes, changeView{c.Path, c.Old, c.New})
		}
	}
	return d
}

// approvalPrinter writes a request for a terminal.
type approvalPrinter struct {
	w    io.Writer
	full bool
	more string // the command that shows the whole of a value that is cut
	r    approvals.Request
	now  time.Time
	log  string // the audit log's latest checkpoint

	pinned *authz.Versions // the definitions of the tool; nil: none is kept
}

func (p *approvalPrinter) print(review authz.Review) {
	r := p.r
	fmt.Fprintf(p.w, "%s  %s\n", r.At(p.now), r.ID)
	p.facts()
	p.look()
	p.heading("What would run")
	if payload := r.Action.Payload; r.Tool != "" {
		p.value(payload.Get("arguments"))
		p.mapped(payload)
	} else {
		p.value(payload)
	}
	if says := r.Says(); says.Kind() != action.Missing {
		p.heading("What the agent says for it (nothing is decided by that)")
		p.value(says)
	}
	p.limits(review.Limits)
	p.tool()
	p.earlier(review.Earlier)
	p.since(review.Last)
	p.witness()
	if r.At(p.now) == approvals.Pending {
		fmt.Fprintf(p.w, "\nopenleash approvals approve %s%s%s\nopenleash approvals deny %s --reason TEXT\n", r.ID, versionFlag(r), depositFlag(r), r.ID)
	}
}

// witness shows what the audit log is now: whoever keeps it can tell later.
func (p *approvalPrinter) witness() {
	if p.log == "" {
		return
	}
	p.heading("The audit log, as it is now (for openleash audit verify --known FILE)")
	fmt.Fprint(p.w, p.log) // to be copied as it is
}

func (p *approvalPrinter) heading(s string) { fmt.Fprintf(p.w, "\n%s\n", s) }

func (p *approvalPrinter) facts() {
	r := p.r
	t := tabwriter.NewWriter(p.w, 0, 4, 2, ' ', 0)
	row := func(name, value string) { fmt.Fprintf(t, "  %s\t%s\n", name, value) }
	row("who", "agent "+visible.Line(r.AgentID))
	if r.Tool != "" {
		row("what", fmt.Sprintf("%s of server %s (%s)", visible.Line(r.Tool), visible.Line(r.Server), visible.Line(r.Action.ActionType)))
	} else {
		row("what", visible.Line(r.Action.ActionType))
	}
	if party := r.Action.RelyingParty; party.Domain != "" {
		row("with", visible.Line(party.Domain))
	}
	row("why asked", fmt.Sprintf("%s (policy %s%s)", visible.Line(r.Reason), r.PolicyID, ruleWords(r.RuleID)))
	row("asked", fmt.Sprintf("%s, answer by %s", r.CreatedAt.Local().Format(time.DateTime), r.ExpiresAt.Local().Format(time.DateTime)))
	if r.Needs != (approvals.Needs{}) {
		row("a yes takes", needWords(strings.Fields(r.Needs.String())))
	}
	if r.Factor.Method != "" {
		row("second factor", r.Factor.Method+", given with the answer")
	}
	if r.DepositReference != "" {
		row("deposit", visible.Line(r.DepositReference))
	}
	if r.GrantID != "" {
		row("ran by", "the standing grant "+r.GrantID)
	}
	if words := askedWords(r, p.now); words != "" {
		row("asked for", words)
	}
	if p.now.Before(r.HeldUntil) {
		row("held", "a call waits for your answer at this moment")
	}
	if r.AnsweredBy != "" {
		row("answered", fmt.Sprintf("by %s, %s", visible.Line(r.AnsweredBy), r.AnsweredAt.Local().Format(time.DateTime)))
	}
	if r.DenyReason != "" {
		row("reason", visible.Line(r.DenyReason))
	}
	row("action hash", r.ActionHash.String())
	t.Flush()
}

// look says what is to be looked at closely.
func (p *approvalPrinter) look() {
	look := visible.LookAt(p.r.Foreign()...)
	if look.Odd() == 0 && len(look.Twins) == 0 {
		return
	}
	p.heading("LOOK CLOSELY")
	if look.Hidden > 0 {
		fmt.Fprintf(p.w, "  %s would be invisible or change the order of the text; shown by number, \\u202e\n", count(look.Hidden, "character"))
	}
	if look.Alike > 0 {
		fmt.Fprintf(p.w, "  %s to be taken for another, as in a name; shown by number\n", count(look.Alike, "character"))
	}
	for _, pair := range look.Twins {
		fmt.Fprintf(p.w, "  the names %s and %s look alike\n", quoted(pair[0]), quoted(pair[1]))
	}
}

// quoted shows a name in quotes, unmistakably.
func quoted(s string) string { return visible.JSON(action.StringValue(s)) }

// mapped shows what the policy went by beside the arguments.
func (p *approvalPrinter) mapped(payload action.Value) {
	var members []action.Member
	for name, v := range payload.Members() {
		if name != "arguments" {
			members = append(members, action.Member{Key: name, Value: v})
		}
	}
	if len(members) > 0 {
		p.heading("What the policy went by")
		p.value(action.ObjectValue(members...))
	}
}

// value shows a value, its texts with their lines.
func (p *approvalPrinter) value(v action.Value) {
	switch {
	case v.Kind() == action.Missing || v.Kind() == action.Object && v.Len() == 0:
		fmt.Fprintln(p.w, "  nothing: it has no arguments")
	case v.Kind() == action.Object:
		for i := range p.shown(v.Len()) {
			p.member(v.At(i).Key, v.At(i).Value)
		}
		if more := v.Len() - p.shown(v.Len()); more > 0 {
			whole := v.Canonical()
			fmt.Fprintf(p.w, "  … %d more names, %d bytes in all, sha256 %x: openleash approvals show %s --full\n", more, len(whole), sha256.Sum256(whole), p.r.ID)
		}
	default:
		p.foreign(visible.JSON(v), v)
	}
}

func (p *approvalPrinter) member(name string, v action.Value) {
	if v.Kind() != action.String {
		p.foreign(quoted(name)+": "+visible.JSON(v), v)
		return
	}
	text := v.Text()
	if !strings.Contains(text, "\n") && len(text) <= shortText {
		p.foreign(quoted(name)+": "+visible.JSON(v), v)
		return
	}
	p.foreign(fmt.Sprintf("%s, a text of %s:", quoted(name), count(utf8.RuneCountInString(text), "character")), action.StringValue(name))
	p.foreign("  "+strings.ReplaceAll(visible.Lines(text), "\n", "\n  "), v) // deeper than any name
}

const (
	// shortText is the longest text that stands beside its name, in bytes.
	shortText = 200
	// maxLines and maxBytes are how much of one value is shown without --full.
	maxLines = 40
	maxBytes = 4000
	// maxRows is how many names, and how many differences, without it.
	maxRows = 100
)

// shown is how many of n are shown.
func (p *approvalPrinter) shown(n int) int {
	if p.full {
		return n
	}
	return min(n, maxRows)
}

// foreign shows what somebody else has written, behind a bar on each line: none of it
// can pass for a line of ours. Without --full what is long is cut, and told by the size
// and the hash of its value as the action has it.
func (p *approvalPrinter) foreign(shown string, v action.Value) {
	lines := strings.Split(shown, "\n")
	if p.full || len(lines) <= maxLines && len(shown) <= maxBytes {
		fmt.Fprintf(p.w, "  | %s\n", strings.Join(lines, "\n  | "))
		return
	}
	room := maxBytes
	for _, line := range lines[:min(len(lines), maxLines)] {
		if len(line) > room {
			line = strings.ToValidUTF8(line[:room], "") + " …"
		}
		room -= min(len(line), room)
		fmt.Fprintf(p.w, "  | %s\n", line)
		if room == 0 {
			break
		}
	}
	whole := v.Canonical()
	fmt.Fprintf(p.w, "  … %d bytes in all, sha256 %x: %s\n", len(whole), sha256.Sum256(whole), p.more)
}

func (p *approvalPrinter) limits(list []authz.LimitRoom) {
	if len(list) == 0 {
		return
	}
	p.heading("Limits")
	for _, l := range list {
		limit := l.Charge.Limit
		whose := visible.Line(limit.Whose(l.Key))
		if whose != "" {
			whose = ", for " + whose
		}
		fmt.Fprintf(p.w, "  %s: %s%s\n", limit.ID, limit.Bound(), whose)
		if l.Doubt != "" {
			fmt.Fprintf(p.w, "    it cannot be counted: %s\n", visible.Line(l.Doubt))
			continue
		}
		over := ""
		if !l.Fits {
			over = "; there is no room for it"
		}
		fmt.Fprintf(p.w, "    %s used, %s held, %s left; this takes %s%s\n", limit.Text(l.Used), limit.Text(l.Held), limit.Text(l.Left()), limit.Text(l.Amount), over)
	}
}

// tool shows what the server says of its tool.
func (p *approvalPrinter) tool() {
	info := p.r.ToolInfo
	p.changed()
	if v := info.Get("description"); v.Text() != "" {
		p.heading("What the server says of this tool (not checked, not believed)")
		p.foreign("  "+strings.ReplaceAll(visible.Lines(v.Text()), "\n", "\n  "), v)
	}
	if annotations := info.Get("annotations"); annotations.Len() > 0 {
		p.foreign(visible.JSON(annotations), annotations)
	}
}

// changed says when the tool's definition is not what it was.
func (p *approvalPrinter) changed() {
	v := p.pinned
	if v == nil || v.Pending == nil && len(v.Accepted) < 2 {
		return
	}
	p.heading("THE TOOL HAS CHANGED")
	if v.Pending != nil {
		fmt.Fprintln(p.w, "  what the server says of it now is not what was accepted")
	} else {
		fmt.Fprintf(p.w, "  what the server says of it was last accepted on %s by %s\n", v.Latest().AnsweredAt.Local().Format(time.DateTime), visible.Line(v.Latest().AnsweredBy))
	}
	fmt.Fprintf(p.w, "  openleash tools show %s %s shows it\n", shellWord(p.r.Server), shellWord(v.Name))
}

// since shows what is different from the last approved call of the kind.
func (p *approvalPrinter) since(last *approvals.Request) {
	if last == nil {
		p.heading("No call of this kind was approved before")
		return
	}
	changes := diff.Values(last.Action.Payload, p.r.Action.Payload)
	when := last.AnsweredAt.Local().Format(time.DateTime)
	if len(changes) == 0 {
		p.heading(fmt.Sprintf("The same was approved on %s (%s)", when, last.ID))
		return
	}
	p.heading(fmt.Sprintf("Different from what was approved on %s (%s)", when, last.ID))
	shown := p.shown(len(changes))
	for _, c := range changes[:shown] {
		p.change(c)
	}
	if more := len(changes) - shown; more > 0 {
		fmt.Fprintf(p.w, "  … at least %d further places: openleash approvals show %s --full\n", more, p.r.ID)
	}
}

func (p *approvalPrinter) change(c diff.Change) {
	p.foreign(visible.Line(c.Path), action.StringValue(c.Path))
	if c.Words != nil && slices.ContainsFunc(c.Words, func(w diff.Piece) bool { return w.Op == diff.Keep }) {
		var b strings.Builder
		for _, w := range c.Words {
			b.WriteString(worded(w))
		}
		p.foreign("  "+b.String(), c.New)
		return
	}
	if c.Old.Kind() != action.Missing {
		p.foreign("- "+visible.JSON(c.Old), c.Old)
	}
	if c.New.Kind() != action.Missing {
		p.foreign("+ "+visible.JSON(c.New), c.New)
	}
}

// worded is a piece of a text as `git diff --word-diff` writes it.
func worded(w diff.Piece) string {
	text := visible.Line(w.Text)
	switch w.Op {
	case diff.Delete:
		return "[-" + text + "-]"
	case diff.Insert:
		return "{+" + text + "+}"
	}
	return text
}
