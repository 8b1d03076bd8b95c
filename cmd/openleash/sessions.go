package main

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/internal/visible"
)

func sessionsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "sessions", Short: "Where users are signed in"}
	cmd.AddCommand(sessionsList(), sessionsRevoke())
	return cmd
}

func sessionsList() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list [USER]",
		Short: "List the sessions of a user, or your own",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withApp(cmd, func(a *app) error {
				u, err := a.user(cmd, args)
				if err != nil {
					return err
				}
				list, err := a.owners.Sessions(cmd.Context(), u.ID)
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), sessionViews(list))
				}
				printSessions(cmd.OutOrStdout(), u, list)
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON, one array")
	return cmd
}

// sessionView is a session as `sessions list --json` shows it.
type sessionView struct {
	ID      string    `json:"id"`
	Began   time.Time `json:"began_at"`
	Seen    time.Time `json:"last_seen_at"`
	Expires time.Time `json:"expires_at"`
	Address string    `json:"address"`
	Agent   string    `json:"user_agent"`
}

func sessionViews(list []identity.Session) []sessionView {
	views := []sessionView{}
	for _, s := range list {
		views = append(views, sessionView{s.ID, s.BeganAt, s.SeenAt, s.Expires, s.Address, s.Agent})
	}
	return views
}

func printSessions(w io.Writer, u identity.User, list []identity.Session) {
	if len(list) == 0 {
		fmt.Fprintf(w, "%s is signed in nowhere.\n", u.Name)
		return
	}
	for _, s := range list {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintf(t, "session\t%s\n", s.ID)
		fmt.Fprintf(t, "  since\t%s, from %s\n", s.BeganAt.Local().Format(time.DateTime), s.Address)
		fmt.Fprintf(t, "  last seen\t%s, ends %s\n", s.SeenAt.Local().Format(time.DateTime), s.Expires.Local().Format(time.DateTime))
		fmt.Fprintf(t, "  browser\t%s\n", visible.Line(dash(s.Agent)))
		t.Flush()
	}
}

func sessionsRevoke() *cobra.Command {
	var of string
	var all bool
	cmd := &cobra.Command{
		Use:   "revoke ID",
		Short: "End a session, or all of a user",
		Long: `Ends a session at once, in every process.

  openleash sessions revoke ID
  openleash sessions revoke --all --user "Bo Ek"`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) == 1) {
				return errors.New("want the id of one session, or --all")
			}
			return asOwner(cmd, func(a *app) error {
				var named []string
				if of != "" {
					named = []string{of}
				}
				u, err := a.user(cmd, named)
				if err != nil {
					return err
				}
				return a.revokeSessions(cmd, u, args)
			})
		},
	}
	cmd.Flags().StringVar(&of, "user", "", "whose; without it, yours")
	cmd.Flags().BoolVar(&all, "all", false, "all sessions of the user")
	return cmd
}

func (a *app) revokeSessions(cmd *cobra.Command, u identity.User, ids []string) error {
	if len(ids) == 0 {
		if err := a.owners.RevokeAll(cmd.Context(), cliActor(), u.ID, ""); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s is signed in nowhere any more\n", u.Name)
		return nil
	}
	err := a.owners.Revoke(cmd.Context(), cliActor(), u.ID, ids[0])
	if errors.Is(err, identity.ErrNotFound) {
		return withHint(fmt.Errorf("%s has no session %q", u.Name, ids[0]), "openleash sessions list")
	}
	if err == nil {
		fmt.Fprintf(cmd.OutOrStdout(), "revoked %s\n", ids[0])
	}
	return err
}
