package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/proof"
)

func agentsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "agents", Short: "Agents: who they are, their keys and tokens"}
	cmd.AddCommand(agentsListCommand(), agentsShowCommand(), agentsInviteCommand(), agentsTokenCommand(),
		agentsConfirmCommand(), agentsRekeyCommand(), agentsRevokeCommand())
	return cmd
}

func agentsTokenCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "token NAME",
		Short: "Make a bearer token for an agent's host, to reach /mcp/<server>",
		Long: `Prints a new token for the agent, making the agent when it is new. Only its hash
is stored, so it is shown this once; a former token of the agent ends now.
The host sends it as "Authorization: Bearer TOKEN".`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return asOwner(cmd, func(a *app) error { return a.newToken(cmd, args[0]) })
		},
	}
}

func (a *app) newToken(cmd *cobra.Command, name string) error {
	who, err := a.caller(cmd.Context(), name)
	if err != nil {
		return err
	}
	token, err := a.service.NewAgentToken(cmd.Context(), cliActor(), who.Agent)
	if err != nil {
		return err
	}
	fmt.Fprintln(cmd.OutOrStdout(), token)
	return nil
}

func agentsInviteCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "invite [NAME]",
		Short: "Make an invite, by which one agent registers its key",
		Long: `Prints a link that is good once, for 24 hours. Whoever has it can register one
agent with a key of its own (POST /v1/agents/register-with-invite, or the SDKs'
redeemAgentInvite), which is active at once. With NAME it is for an agent of
that name alone.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := strings.Join(args, "")
			if name != "" && !identity.ValidName(name) {
				return fmt.Errorf("agent %q: %s", name, validNames)
			}
			return withApp(cmd, func(a *app) error { return a.inviteAgent(cmd, name) })
		},
	}
}

func (a *app) inviteAgent(cmd *cobra.Command, name string) error {
	i, token, err := a.service.Invite(cmd.Context(), cliActor(), a.owner, name)
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "http://%s/v1/agents/register-with-invite?invite_id=%s&invite_token=%s\n", a.config.Listen, i.ID, token)
	return nil
}

func agentsListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the agents",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withApp(cmd, func(a *app) error {
				agents, err := a.store.Agents(cmd.Context(), "")
				if err != nil {
					return err
				}
				return printAgents(cmd.OutOrStdout(), agents, asJSON)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, one agent a line")
	return cmd
}

// shownAgent is an agent as it is printed: without what is secret.
type shownAgent struct {
	ID        string          `json:"agent_principal_id"`
	Name      string          `json:"agent_id"`
	OwnerType string          `json:"owner_type"`
	OwnerID   string          `json:"owner_id"`
	Status    string          `json:"status"`
	Token     bool            `json:"has_token"`
	PublicKey string          `json:"public_key_b64,omitempty"`
	Attribs   json.RawMessage `json:"attributes,omitempty"`
	Webhook   string          `json:"webhook_url,omitempty"`
	CreatedAt time.Time       `json:"created_at"`
	RevokedAt *time.Time      `json:"revoked_at,omitempty"`
}

func shown(a identity.Agent) shownAgent {
	s := shownAgent{
		ID: a.ID, Name: a.Name, OwnerType: a.OwnerType, OwnerID: a.OwnerID, Status: string(a.Status), Token: a.TokenHash != [32]byte{},
		Attribs: a.Attributes, Webhook: a.Webhook.URL, CreatedAt: a.CreatedAt,
	}
	if a.Key != nil {
		s.PublicKey = proof.PublicKey{Key: a.Key}.SPKI()
	}
	if !a.RevokedAt.IsZero() {
		s.RevokedAt = &a.RevokedAt
	}
	return s
}

func printAgents(out io.Writer, agents []identity.Agent, asJSON bool) error {
	if asJSON {
		for _, a := range agents {
			if err := json.NewEncoder(out).Encode(shown(a)); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "AGENT\tSTATUS\tPROVES ITSELF BY\tSINCE")
	for _, a := range agents {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", a.Name, a.Status, provesItselfBy(a), a.CreatedAt.Local().Format("2006-01-02 15:04"))
	}
	return w.Flush()
}

func provesItselfBy(a identity.Agent) string {
	var by []string
	if a.Key != nil {
		by = append(by, "key")
	}
	if a.TokenHash != [32]byte{} {
		by = append(by, "token")
	}
	if len(by) == 0 {
		return "nothing (stdio)"
	}
	return strings.Join(by, ", ")
}

func agentsShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME",
		Short: "Show one agent",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withAgent(cmd, args[0], func(_ *app, agent identity.Agent) error {
				out := json.NewEncoder(cmd.OutOrStdout())
				out.SetIndent("", "  ")
				return out.Encode(shown(agent))
			})
		},
	}
}

func agentsConfirmCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "confirm NAME",
		Short: "Let an agent in that has registered itself",
		Long: `An agent that registers itself without an invite is PENDING: it can do nothing
until its owner has confirmed it. Compare its key first: openleash agents show NAME.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withAgent(cmd, args[0], func(a *app, agent identity.Agent) error {
				if agent.Status == identity.Active {
					return fmt.Errorf("agent %q is active already", agent.Name)
				}
				if err := a.service.ConfirmAgent(cmd.Context(), cliActor(), agent); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s is active.\n", agent.Name)
				return nil
			})
		},
	}
}

func agentsRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "revoke NAME",
		Short: "End an agent, everywhere and at once",
		Long: `Its token and its key are good for nothing from now on, in sessions too that are
open; what it was given and has not used, and what waits for an answer, is void.
It cannot be undone; the name is free again.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withAgent(cmd, args[0], func(a *app, agent identity.Agent) error {
				if err := a.service.RevokeAgent(cmd.Context(), cliActor(), agent); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s is revoked.\n", agent.Name)
				return nil
			})
		},
	}
}

func agentsRekeyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rekey NAME PUBLIC-KEY",
		Short: "Give an agent another key",
		Long: `PUBLIC-KEY is the agent's new Ed25519 public key, as base64 of its DER (SPKI) form:
60 characters that begin with MCowBQYDK2VwAyEA, or the name of a file that has
them. What is signed with the former key is refused from now on.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := publicKeyIn(args[1])
			if err != nil {
				return err
			}
			return withAgent(cmd, args[0], func(a *app, agent identity.Agent) error {
				if err := a.service.RekeyAgent(cmd.Context(), cliActor(), agent, key.Key); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s has another key.\n", agent.Name)
				return nil
			})
		},
	}
}

// publicKeyIn reads a key from an argument, or from the file that it names.
func publicKeyIn(arg string) (proof.PublicKey, error) {
	if data, err := os.ReadFile(arg); err == nil {
		arg = strings.TrimSpace(string(data))
	}
	return proof.ParseSPKI(arg)
}

// withAgent finds an agent by its name.
func withAgent(cmd *cobra.Command, name string, do func(*app, identity.Agent) error) error {
	return withApp(cmd, func(a *app) error {
		agent, err := a.store.AgentByName(cmd.Context(), name)
		if errors.Is(err, identity.ErrNotFound) {
			return withHint(fmt.Errorf("there is no agent %q", name), "openleash agents list")
		}
		if err != nil {
			return err
		}
		return do(a, agent)
	})
}
