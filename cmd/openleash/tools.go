package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/internal/diff"
	"github.com/openleash/openleash-go/internal/strictyaml"
	"github.com/openleash/openleash-go/internal/visible"
)

func toolsCommand() *cobra.Command {
	cmd := toolsList()
	cmd.Use = "tools"
	cmd.Short = "See what servers say of their tools, and accept a change"
	cmd.Long = `What a server says of its tools, prompts and resources is pinned: what it lists at
first is accepted, and what is new or another later waits for you. Calls by it wait
too, or are refused, as tools: in the configuration says.`
	cmd.Args = knownCommand
	cmd.AddCommand(toolsList(), toolsShow(),
		toolsAnswer("accept", "Let calls by a definition that waits go on, exactly as it was shown", true),
		toolsAnswer("refuse", "Refuse calls by a definition that waits", false))
	return cmd
}

func toolsList() *cobra.Command {
	var asJSON, waiting bool
	cmd := &cobra.Command{
		Use:   "list [SERVER]",
		Short: "List what is pinned, and what waits",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withApp(cmd, func(a *app) error { return a.listTools(cmd, args, waiting, asJSON) })
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON, one array")
	cmd.Flags().BoolVar(&waiting, "waiting", false, "only what waits for you")
	return cmd
}

func (a *app) listTools(cmd *cobra.Command, args []string, waiting, asJSON bool) error {
	views, err := a.pinViews(cmd.Context(), args)
	if err != nil {
		return err
	}
	if asJSON {
		shown := []pinJSON{}
		for _, v := range views {
			shown = append(shown, pinsJSON(v, waiting)...)
		}
		return printJSON(cmd.OutOrStdout(), shown)
	}
	printPins(cmd.OutOrStdout(), views, waiting)
	return nil
}

// pinViews are the pins of the server that is named, or of all.
func (a *app) pinViews(ctx context.Context, args []string) ([]authz.PinView, error) {
	views, err := authz.LookAtPins(ctx, a.store, a.owner.ID)
	if err != nil || len(args) == 0 {
		return views, err
	}
	var names []string
	for _, v := range views {
		if v.Server == args[0] {
			return []authz.PinView{v}, nil
		}
		names = append(names, v.Server)
	}
	return nil, withHint(fmt.Errorf("nothing is pinned of a server %q%s", args[0], strictyaml.DidYouMean(args[0], names)), "openleash tools list has all of which something is")
}

// pinnedTool is what is kept of the tool of a request; nil: nothing.
func (a *app) pinnedTool(ctx context.Context, r approvals.Request) (*authz.Versions, error) {
	if r.Tool == "" {
		return nil, nil
	}
	book, err := a.store.PinBook(ctx, r.OwnerID, r.Server)
	if err != nil {
		return nil, fmt.Errorf("reading the tool's definitions: %w", err)
	}
	if v, kept := book.Find(authz.PinTool, r.Tool); kept {
		return &v, nil
	}
	return nil, nil
}

// pinJSON is a definition as `tools list --json` shows it.
type pinJSON struct {
	Server   string    `json:"server"`
	Kind     string    `json:"kind"`
	Name     string    `json:"name"`
	State    string    `json:"state"`    // accepted, new, changed, refused
	Accepted []string  `json:"accepted"` // hashes, the newest last
	Pending  string    `json:"pending,omitempty"`
	Since    time.Time `json:"since"`
	By       string    `json:"by,omitempty"`
	Gone     bool      `json:"gone"`
}

func pinsJSON(view authz.PinView, waiting bool) (list []pinJSON) {
	for _, v := range view.All {
		if waiting && !v.Waits() {
			continue
		}
		since, by := lastWord(v)
		shown := pinJSON{Server: view.Server, Kind: v.Kind, Name: v.Name, State: v.State(), Accepted: []string{}, Since: since, By: by, Gone: v.IsGone()}
		for _, p := range v.Accepted {
			shown.Accepted = append(shown.Accepted, p.Hash.String())
		}
		if v.Pending != nil {
			shown.Pending = v.Pending.Hash.String()
		}
		list = append(list, shown)
	}
	return list
}

// lastWord is since when a definition is in its state, and who has said so; empty:
// nobody yet.
func lastWord(v authz.Versions) (since time.Time, by string) {
	p := v.Pending
	if p == nil {
		p = v.Latest()
	}
	if p.State == authz.PinWaiting {
		return p.SeenAt, ""
	}
	return p.AnsweredAt, p.AnsweredBy
}

func printPins(w io.Writer, views []authz.PinView, waiting bool) {
	rows := [][]string{{"STATE", "SERVER", "KIND", "NAME", "SINCE", "BY"}}
	var hints []string
	for _, view := range views {
		for _, v := range view.All {
			if waiting && !v.Waits() {
				continue
			}
			since, by := lastWord(v)
			state := v.State()
			if v.IsGone() {
				state += ", gone"
			}
			rows = append(rows, []string{state, view.Server, v.Kind, visible.Line(v.Name), since.Local().Format(time.DateTime), orDash(visible.Line(by))})
		}
		if all := view.Waiting(); len(all) > 0 {
			hints = append(hints, fmt.Sprintf("%s of server %s for you to look at: openleash tools show %s NAME shows it; to accept all of it as it is now:\n  openleash tools accept %s --all --hash %s",
				count(len(all), "definition"), view.Server, view.Server, view.Server, allHash(all)))
		}
	}
	switch {
	case len(rows) == 1 && waiting:
		fmt.Fprintln(w, "Nothing waits for you.")
		return
	case len(rows) == 1:
		fmt.Fprintln(w, "Nothing is pinned yet: no server has listed anything.")
		return
	}
	printTable(w, "llllll", rows)
	for _, h := range hints {
		fmt.Fprintln(w, h)
	}
}

// allHash names all that waits of a server, so that what was listed is what is
// accepted.
func allHash(waiting []authz.Versions) action.Hash {
	h := sha256.New()
	for _, v := range waiting {
		fmt.Fprintf(h, "%q %q %s\n", v.Kind, v.Name, v.Pending.Hash)
	}
	return action.Hash(h.Sum(nil))
}

func toolsShow() *cobra.Command {
	var kind string
	cmd := &cobra.Command{
		Use:   "show SERVER NAME",
		Short: "Show a definition, and what has changed in it",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withApp(cmd, func(a *app) error {
				v, err := a.pinnedOne(cmd.Context(), args[0], kind, args[1])
				if err != nil {
					return err
				}
				return a.showPin(cmd, args[0], v)
			})
		},
	}
	kindFlag(cmd, &kind)
	return cmd
}

func kindFlag(cmd *cobra.Command, kind *string) {
	cmd.Flags().StringVar(kind, "kind", "", "tool, prompt, resource or template, where several have that name")
}

// pinnedOne finds a definition by its name.
func (a *app) pinnedOne(ctx context.Context, server, kind, name string) (authz.Versions, error) {
	views, err := a.pinViews(ctx, []string{server})
	if err != nil {
		return authz.Versions{}, err
	}
	var found []authz.Versions
	var names, kinds []string
	for _, v := range views[0].All {
		if kind != "" && v.Kind != kind {
			continue
		}
		if names = append(names, v.Name); v.Name == authz.PinName(name) || visible.Line(v.Name) == name { // as it was shown
			found, kinds = append(found, v), append(kinds, v.Kind)
		}
	}
	switch len(found) {
	case 0:
		return authz.Versions{}, withHint(fmt.Errorf("server %s has listed nothing named %q%s", server, name, strictyaml.DidYouMean(name, names)), "openleash tools list "+server)
	case 1:
		return found[0], nil
	}
	return authz.Versions{}, fmt.Errorf("server %s has several named %q: say which by --kind %s", server, name, strings.Join(kinds, " or --kind "))
}

func (a *app) showPin(cmd *cobra.Command, server string, v authz.Versions) error {
	w, show := cmd.OutOrStdout(), v.Pending
	if show == nil {
		show = v.Latest()
	}
	now, err := a.pinText(cmd.Context(), show)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%s %s of server %s: %s\n", v.Kind, visible.Line(v.Name), server, stateWords(v))
	for _, p := range v.Accepted {
		fmt.Fprintf(w, "  accepted  %s  %s  by %s\n", p.Hash, p.AnsweredAt.Local().Format(time.DateTime), visible.Line(p.AnsweredBy))
	}
	if v.Pending != nil {
		fmt.Fprintf(w, "  %-8s  %s  %s\n", v.Pending.State, v.Pending.Hash, v.Pending.SeenAt.Local().Format(time.DateTime))
	}
	fmt.Fprintln(w)
	p := &approvalPrinter{w: w, full: true}
	if v.Pending != nil && v.Latest() != nil {
		before, err := a.pinText(cmd.Context(), v.Latest())
		if err != nil {
			return err
		}
		printDiff(p, before, now)
	} else {
		printDefinition(p, now)
	}
	if look := visible.LookAt(now); look.Odd() > 0 {
		fmt.Fprintf(w, "\nLook closely: %d characters in it are invisible, or look like others; they are shown by their number.\n", look.Odd())
	}
	printAnswers(w, server, v)
	return nil
}

func (a *app) pinText(ctx context.Context, p *authz.Pin) (action.Value, error) {
	text, err := a.store.PinText(ctx, a.owner.ID, *p)
	return authz.PinDefinition(text), err
}

func stateWords(v authz.Versions) string {
	words := map[string]string{"new": "new, waits for you", "changed": "changed, waits for you", "refused": "refused", "accepted": "accepted"}[v.State()]
	if v.IsGone() {
		words += "; not listed any more since " + v.Gone.At.Local().Format(time.DateTime)
	}
	return words
}

func printDefinition(p *approvalPrinter, v action.Value) {
	if v.Kind() == action.Missing {
		fmt.Fprintln(p.w, "It is too long to be kept: only its hash is.")
		return
	}
	p.foreign(visible.JSON(v), v)
}

// printDiff shows what has changed, place by place.
func printDiff(p *approvalPrinter, before, now action.Value) {
	if before.Kind() == action.Missing || now.Kind() == action.Missing {
		fmt.Fprintln(p.w, "What has changed cannot be shown: one of the two is too long to be kept. As it is listed now:")
		printDefinition(p, now)
		return
	}
	for _, c := range diff.Values(before, now) {
		p.change(c)
	}
}

func printAnswers(w io.Writer, server string, v authz.Versions) {
	if v.Pending == nil {
		return
	}
	fmt.Fprintln(w, "\nTo let calls by exactly this go on, or to refuse them:")
	verbs := []string{"accept"}
	if v.Waits() {
		verbs = append(verbs, "refuse")
	}
	for _, verb := range verbs {
		fmt.Fprintf(w, "  openleash tools %s %s %s --kind %s --hash %s\n", verb, server, shellWord(v.Name), v.Kind, v.Pending.Hash)
	}
	if latest := v.Latest(); latest != nil {
		fmt.Fprintf(w, "To go on with the one that was accepted before, once the server lists that again:\n  openleash tools accept %s %s --kind %s --hash %s\n", server, shellWord(v.Name), v.Kind, latest.Hash)
	}
}

// shellWord writes a name so that a shell reads it as one word.
func shellWord(name string) string {
	if name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./:@", r))
	}) && !strings.HasPrefix(name, "-") {
		return name
	}
	return "'" + strings.ReplaceAll(visible.Line(name), "'", `'\''`) + "'"
}

func toolsAnswer(verb, short string, accept bool) *cobra.Command {
	var kind, hash string
	var all bool
	cmd := &cobra.Command{
		Use:   verb + " SERVER NAME --hash HASH",
		Short: short,
		Args:  cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) == 2) {
				return errors.New("want the name of one definition" + map[bool]string{true: ", or --all", false: ""}[accept])
			}
			said, err := action.ParseHash(hash)
			if err != nil {
				return withHint(fmt.Errorf("--hash: want that of what was shown, got %q", hash), "openleash tools show SERVER NAME shows it, and the command")
			}
			return asOwner(cmd, func(a *app) error {
				if all {
					return a.acceptAll(cmd, args[0], said)
				}
				v, err := a.pinnedOne(cmd.Context(), args[0], kind, args[1])
				if err != nil {
					return err
				}
				return a.answerPin(cmd, verb, authz.PinAnswer{Server: args[0], Kind: v.Kind, Name: v.Name, Hash: said, Accept: accept})
			})
		},
	}
	if accept {
		cmd.Use += " | accept SERVER --all --hash HASH"
		cmd.Flags().BoolVar(&all, "all", false, "all that waits of the server; tools list has the hash")
	}
	kindFlag(cmd, &kind)
	cmd.Flags().StringVar(&hash, "hash", "", "the hash of the definition that was shown: another one is not answered")
	return cmd
}

func (a *app) answerPin(cmd *cobra.Command, verb string, said authz.PinAnswer) error {
	v, err := a.service.AnswerPin(cmd.Context(), "cli:"+userName(), said)
	if err != nil {
		return withHint(fmt.Errorf("%s %s of server %s: %w", verb, said.Name, said.Server, err), fmt.Sprintf("openleash tools show %s %s", said.Server, shellWord(said.Name)))
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s  %s %s of server %s\n", v.State(), v.Kind, visible.Line(v.Name), said.Server)
	return nil
}

// acceptAll accepts all that waits of a server, if it is what was listed.
func (a *app) acceptAll(cmd *cobra.Command, server string, said action.Hash) error {
	views, err := a.pinViews(cmd.Context(), []string{server})
	if err != nil {
		return err
	}
	waiting := views[0].Waiting()
	if len(waiting) == 0 {
		return fmt.Errorf("server %s: %w", server, authz.ErrNothingWait)
	}
	if allHash(waiting) != said {
		return withHint(fmt.Errorf("accept all of server %s: what waits is not what was listed with that hash", server), "openleash tools list "+server+" --waiting")
	}
	for _, v := range waiting {
		if err := a.answerPin(cmd, "accept", authz.PinAnswer{Server: server, Kind: v.Kind, Name: v.Name, Hash: v.Pending.Hash, Accept: true}); err != nil {
			return err
		}
	}
	return nil
}
