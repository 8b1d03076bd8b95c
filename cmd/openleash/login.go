package main

import (
	"errors"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/internal/oauth"
	"github.com/openleash/openleash-go/internal/visible"
)

func loginCommand() *cobra.Command {
	var noBrowser bool
	var scopes []string
	cmd := &cobra.Command{
		Use:   "login [SERVER]",
		Short: "Sign in at a server that wants a login (OAuth)",
		Long: `Signs in at SERVER, one with a url in the configuration: finds out where, prints
the address, opens it in your browser, and waits for it to come back to a port of
127.0.0.1, for ten minutes. What it gets stays in the home folder, goes to that
url alone, and is renewed by itself as long as the authorization server lets it.

Processes that run need not be started again. Without SERVER it lists the servers
with a url, and how they are signed in to. openleash logout SERVER ends a login.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return withApp(cmd, func(a *app) error { return a.listLogins(cmd) })
			}
			return asOwner(cmd, func(a *app) error { return a.login(cmd, args[0], scopes, !noBrowser) })
		},
	}
	cmd.Flags().BoolVar(&noBrowser, "no-browser", false, "only print the address")
	cmd.Flags().StringArrayVar(&scopes, "scope", nil, "ask for this scope too; may be repeated")
	return cmd
}

func logoutCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "logout SERVER",
		Short: "Forget and revoke the login at a server",
		Long: `Removes what openleash login SERVER has kept, and has the authorization server
revoke it if that one can. Exit code 1 when it is forgotten but not revoked.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return asOwner(cmd, func(a *app) error { return a.logout(cmd, args[0]) })
		},
	}
}

func (a *app) login(cmd *cobra.Command, name string, scopes []string, browser bool) error {
	s, err := a.config.server(name)
	if err != nil {
		return err
	}
	if s.URL == "" {
		return fmt.Errorf("server %s is a program; it gets its secrets by env: in the configuration, not by a login", name)
	}
	if at := s.credentials(); at != "" {
		return withHint(fmt.Errorf("server %s has its credentials in the configuration (%s): those are sent, and no login", name, at), "take them out to sign in")
	}
	for _, scope := range scopes {
		if !oauth.ValidScope(scope) {
			return fmt.Errorf("--scope %q: want one scope, a word without spaces", scope)
		}
	}
	protected, err := s.protected()
	if err != nil {
		return err
	}
	state, err := a.logins().Login(cmd.Context(), protected, oauth.Asking{
		Scopes: scopes,
		Show:   func(issuer, link string) { showLogin(cmd, name, issuer, link, browser) },
		Record: func(got oauth.State) error { return a.recordLogin(cmd, "upstream.login", got) },
	})
	if err != nil {
		return fmt.Errorf("signing in at %s: %w", name, err)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "Signed in at %s: %s.\n", name, words(state))
	return nil
}

func showLogin(cmd *cobra.Command, name, issuer, link string, browser bool) {
	fmt.Fprintf(cmd.OutOrStdout(), "To sign in at %s, by %s, open\n\n  %s\n\n", name, visible.Line(issuer), visible.Line(link))
	if browser {
		if err := openBrowser(link); err != nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "openleash: no browser could be opened (%v); open the address yourself\n", err)
		}
	}
	fmt.Fprintln(cmd.OutOrStdout(), "Waiting for your browser to come back (Ctrl-C gives up) …")
}

// recordLogin puts into the log that a person has signed in or out.
func (a *app) recordLogin(cmd *cobra.Command, event string, of oauth.State) error {
	detail := fmt.Sprintf("server %s, by %s", of.Server, of.Issuer)
	if of.Scope != "" {
		detail += ", scope " + of.Scope
	}
	return a.service.Record(cmd.Context(), audit.Entry{Event: event, ActorType: "owner", ActorID: "cli:" + userName(), OwnerID: a.owner.ID, Server: of.Server, Detail: detail})
}

func (a *app) logout(cmd *cobra.Command, name string) error {
	s, inConfig := a.config.Servers[name]
	protected, err := s.protected()
	if err != nil {
		return err
	}
	if protected.Name = name; !inConfig && !a.hasLogin(name) {
		_, err := a.config.server(name)
		return err
	}
	was, revoked, err := a.logins().Logout(cmd.Context(), protected, func(of oauth.State) error { return a.recordLogin(cmd, "upstream.logout", of) })
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("nobody is signed in at %s", name)
	case err != nil && was.Server != "":
		return withHint(fmt.Errorf("the login at %s is forgotten here, but %s did not revoke it: %w", name, was.Issuer, err), "revoke it on that one's own pages")
	case err != nil:
		return err
	case !revoked:
		fmt.Fprintf(cmd.OutOrStdout(), "Signed out of %s: forgotten here. %s has no way to revoke it, so it ends by itself.\n", name, visible.Line(was.Issuer))
	default:
		fmt.Fprintf(cmd.OutOrStdout(), "Signed out of %s: forgotten here, and revoked.\n", name)
	}
	return nil
}

func (a *app) hasLogin(name string) bool {
	states, _ := a.logins().States(time.Now())
	for _, s := range states {
		if s.Server == name {
			return true
		}
	}
	return false
}

// listLogins shows the servers with a url, and logins that are left of others.
func (a *app) listLogins(cmd *cobra.Command) error {
	states, err := a.logins().States(time.Now())
	if err != nil {
		return err
	}
	logins := map[string]oauth.State{}
	for _, s := range states {
		logins[s.Server] = s
	}
	t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SERVER\tSIGNED IN")
	for _, name := range a.config.serverNames() {
		if s := a.config.Servers[name]; s.URL != "" {
			fmt.Fprintf(t, "%s\t%s\n", name, s.signedIn(logins[name]))
		}
	}
	for _, s := range states {
		if known := a.config.Servers[s.Server]; known.URL == "" {
			fmt.Fprintf(t, "%s\tnot in the configuration any more; openleash logout %s forgets it\n", s.Server, s.Server)
		}
	}
	return t.Flush()
}

// signedIn says how the server is signed in to.
func (s Server) signedIn(l oauth.State) string {
	switch at := s.credentials(); {
	case at != "":
		return "by the configuration (" + at + ")"
	case l.Server == "":
		return "no"
	case l.URL != s.URL:
		return "no: the login is for " + l.URL + "; sign in again"
	}
	return words(l)
}

// words say how long a login is good.
func words(l oauth.State) string {
	until := "until it is refused"
	if !l.Until.IsZero() {
		until = "until " + l.Until.Local().Format("2006-01-02 15:04:05")
	}
	switch {
	case l.Ended != "":
		return "no more: " + visible.Line(l.Ended) + "; sign in again"
	case l.Renews:
		return until + ", then renewed by itself"
	}
	return until
}
