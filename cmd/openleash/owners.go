package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/internal/visible"
	"github.com/openleash/openleash-go/owners"
	"github.com/openleash/openleash-go/portal"
)

func ownersCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "owners",
		Short: "The people who sign in",
		Long: `Lists, makes and changes users. A new one comes in by a set-up link, which is printed
to your terminal; USER is a name, an e-mail address or an id. Once you have a second
factor, each change asks for a code of it.`,
	}
	cmd.AddCommand(ownersList(), ownersShow(), ownersAdd(),
		ownersStatus("disable", "Sign a user out everywhere, and let nobody in by that account", identity.UserDisabled),
		ownersStatus("enable", "Let a user who was disabled in again", identity.UserActive),
		ownersReset())
	return cmd
}

func adminCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "admin", Short: "What an admin does for other users"}
	cmd.AddCommand(&cobra.Command{
		Use:   "link [USER]",
		Short: "Print a set-up link, by which a user sets a new passphrase",
		Long: `Prints a one-time link to your terminal, good for a day: who follows it sets a new
passphrase for USER, or for you. Former set-up links of the user are void. Who has a second
factor needs a code of it there; who has lost it needs openleash owners reset. A user who
has a passphrase already is told on the pages of the portal.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return asAdmin(cmd, func(a *app) error {
				u, err := a.user(cmd, args)
				if err != nil {
					return err
				}
				return a.invite(cmd, u)
			})
		},
	})
	return cmd
}

// asAdmin is asOwner for what prints a link: without a terminal nothing is done at all.
func asAdmin(cmd *cobra.Command, do func(*app) error) error {
	if err := onTerminal(cmd); err != nil {
		return err
	}
	return asOwner(cmd, do)
}

// user finds the user that is named, or the installation's owner.
func (a *app) user(cmd *cobra.Command, named []string) (identity.User, error) {
	if len(named) == 0 {
		return a.owners.User(cmd.Context(), a.owner.ID)
	}
	u, err := a.store.FindUser(cmd.Context(), named[0])
	if errors.Is(err, identity.ErrNotFound) {
		return u, withHint(fmt.Errorf("no user has the name, e-mail address or id %q", named[0]), "openleash owners list")
	}
	return u, err
}

func (a *app) invite(cmd *cobra.Command, u identity.User) error {
	invite, err := a.owners.Invite(cmd.Context(), cliActor(), u.ID)
	if err != nil {
		return err
	}
	return a.printInvite(cmd, u, invite)
}

func (a *app) printInvite(cmd *cobra.Command, u identity.User, invite owners.Invite) error {
	return toTerminal(cmd, fmt.Sprintf("A set-up link for %s, good once, until %s:\n%s",
		u.Name, invite.Expires.Local().Format(time.DateTime), portal.SetUpURL(a.config.portal(), invite.Token)))
}

func ownersList() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List all users",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withApp(cmd, func(a *app) error {
				users, err := a.owners.Users(cmd.Context())
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), userViews(users))
				}
				printUsers(cmd.OutOrStdout(), users)
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON, one array")
	return cmd
}

// userView is a user as `owners list --json` shows it.
type userView struct {
	ID           string     `json:"id"`
	Type         string     `json:"type"`
	Name         string     `json:"name"`
	Email        string     `json:"email,omitempty"`
	Roles        []string   `json:"roles"`
	Status       string     `json:"status"`
	Passphrase   bool       `json:"passphrase_set"`
	SecondFactor bool       `json:"second_factor"`
	CreatedAt    *time.Time `json:"created_at,omitempty"`
}

func userViews(users []identity.User) []userView {
	views := []userView{}
	for _, u := range users {
		v := userView{u.ID, u.Type, u.Name, u.Email, u.Roles, u.Status, u.HasPassphrase, u.HasFactor, nil}
		if !u.CreatedAt.IsZero() {
			v.CreatedAt = &u.CreatedAt
		}
		views = append(views, v)
	}
	return views
}

func printUsers(w io.Writer, users []identity.User) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tE-MAIL\tSTATUS\tROLES\tSIGNS IN BY")
	for _, u := range users {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", visible.Line(u.Name), dash(u.Email), u.Status, dash(strings.Join(u.Roles, " ")), waysIn(u))
	}
	t.Flush()
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// waysIn says what stands between somebody and the account.
func waysIn(u identity.User) string {
	way := "links only"
	if u.HasPassphrase {
		way = "passphrase"
	}
	if u.HasFactor {
		way += ", second factor"
	}
	return way
}

func ownersShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show [USER]",
		Short: "Show one user, or yourself",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withApp(cmd, func(a *app) error {
				u, err := a.user(cmd, args)
				if err != nil {
					return err
				}
				return a.showUser(cmd, u)
			})
		},
	}
}

func (a *app) showUser(cmd *cobra.Command, u identity.User) error {
	sessions, err := a.owners.Sessions(cmd.Context(), u.ID)
	if err != nil {
		return err
	}
	left, err := a.owners.BackupCodesLeft(cmd.Context(), u.ID)
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "%s\t%s\n", u.Status, visible.Line(u.Name))
	fmt.Fprintf(t, "  id\t%s\n", u.ID)
	fmt.Fprintf(t, "  type\t%s\n", u.Type)
	fmt.Fprintf(t, "  e-mail\t%s\n", dash(u.Email))
	fmt.Fprintf(t, "  roles\t%s\n", dash(strings.Join(u.Roles, " ")))
	fmt.Fprintf(t, "  signs in by\t%s\n", waysIn(u))
	if u.HasFactor {
		fmt.Fprintf(t, "  backup codes\t%d left\n", left)
	}
	fmt.Fprintf(t, "  sessions\t%d\n", len(sessions))
	for line := range strings.Lines(u.Notice) {
		fmt.Fprintf(t, "  not seen yet\t%s\n", visible.Line(strings.TrimSpace(line)))
	}
	return t.Flush()
}

func ownersAdd() *cobra.Command {
	var email string
	var admin bool
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Make a user, and print the set-up link by which that user comes in",
		Long: `Makes a user, and prints a set-up link to your terminal (openleash admin link makes
another one). NAME is what the user signs in with; an e-mail address will do too.

  openleash owners add "Bo Ek" --email bo@example.com`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return asAdmin(cmd, func(a *app) error { return a.addUser(cmd, args[0], email, admin) })
		},
	}
	cmd.Flags().StringVar(&email, "email", "", "an address by which the user can sign in too")
	cmd.Flags().BoolVar(&admin, "admin", false, "the user may see to other users")
	return cmd
}

func (a *app) addUser(cmd *cobra.Command, name, email string, admin bool) error {
	var roles []string
	if admin {
		roles = []string{identity.RoleAdmin}
	}
	u, err := a.owners.AddUser(cmd.Context(), cliActor(), name, email, roles)
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "made user %s, %s\n", u.Name, u.ID)
	return a.invite(cmd, u)
}

func ownersStatus(use, short, status string) *cobra.Command {
	return &cobra.Command{
		Use:   use + " USER",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return asOwner(cmd, func(a *app) error {
				u, err := a.user(cmd, args)
				if err != nil {
					return err
				}
				if u, err = a.owners.SetUser(cmd.Context(), cliActor(), u.ID, owners.Patch{Status: &status}); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s is %s\n", u.Name, strings.ToLower(u.Status))
				return nil
			})
		},
	}
}

func ownersReset() *cobra.Command {
	var without bool
	cmd := &cobra.Command{
		Use:   "reset [USER]",
		Short: "Give an account back to who has lost the way in",
		Long: `Takes passphrase, second factors, sessions and links of USER, or of yourself, away, and
prints a set-up link to your terminal. The user is told on every page of the portal until
the notice is dismissed, and the log has it.

Once you have a second factor, a code of it (or a backup code) is asked for. Who has lost
phone and backup codes says --without-code: whoever can use your account on this machine
can do the same, so mind the notice.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			open := asAdmin
			if without {
				open = withoutCode
			}
			return open(cmd, func(a *app) error { return a.reset(cmd, args) })
		},
	}
	cmd.Flags().BoolVar(&without, "without-code", false, "you have lost your own second factor, and its backup codes")
	return cmd
}

// withoutCode is asAdmin for who has lost the second factor.
func withoutCode(cmd *cobra.Command, do func(*app) error) error {
	if err := onTerminal(cmd); err != nil {
		return err
	}
	return withApp(cmd, do)
}

func (a *app) reset(cmd *cobra.Command, named []string) error {
	u, err := a.user(cmd, named)
	if err != nil {
		return err
	}
	invite, err := a.owners.Reset(cmd.Context(), cliActor(), u.ID)
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "reset the access of %s\n", u.Name)
	return a.printInvite(cmd, u, invite)
}
