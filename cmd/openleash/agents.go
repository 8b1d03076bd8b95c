package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/identity"
)

func agentsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "agents", Short: "Agents and their tokens"}
	cmd.AddCommand(&cobra.Command{
		Use:   "token NAME",
		Short: "Make a bearer token for an agent's host, to reach /mcp/<server>",
		Long: `Prints a new token for the agent, making the agent when it is new. Only its hash
is stored, so it is shown this once; a former token of the agent ends now.
The host sends it as "Authorization: Bearer TOKEN".`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return asOwner(cmd, func(a *app) error { return a.newToken(cmd, args[0]) })
		},
	})
	return cmd
}

func (a *app) newToken(cmd *cobra.Command, name string) error {
	ctx := cmd.Context()
	if _, err := a.caller(ctx, name); err != nil {
		return err
	}
	token, hash := identity.NewToken("ola_")
	// The log first: a token that is not recorded must not exist.
	e := audit.Entry{Event: "agent.token", ActorType: "owner", ActorID: "cli:" + userName(), OwnerID: a.owner.ID, AgentID: name, Detail: "new token"}
	if err := a.service.Record(ctx, e); err != nil {
		return err
	}
	if err := a.store.SetAgentToken(ctx, name, hash); err != nil {
		return err
	}
	fmt.Fprintln(cmd.OutOrStdout(), token)
	return nil
}
