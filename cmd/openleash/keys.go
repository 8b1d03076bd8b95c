package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/proof"
)

func keysCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "keys", Short: "The keys that proofs are signed with"}
	cmd.AddCommand(&cobra.Command{
		Use:   "list",
		Short: "List the public keys",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withApp(cmd, func(a *app) error { return a.listKeys(cmd) })
		},
	}, &cobra.Command{
		Use:   "export",
		Short: "Write the public keys as a signed, dated document",
		Long: `Prints a JSON document with every public key, signed by the newest, for those who
verify proofs offline: hand it to them, or serve it from a .well-known place.
What they know of revocation is as fresh as the document.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withApp(cmd, func(a *app) error {
				keys, err := a.store.Keys(cmd.Context())
				if err != nil {
					return err
				}
				doc, err := proof.Export(a.key, keys, time.Now())
				if err != nil {
					return err
				}
				_, err = cmd.OutOrStdout().Write(doc)
				return err
			})
		},
	}, keysVerify())
	return cmd
}

func (a *app) listKeys(cmd *cobra.Command) error {
	keys, err := a.store.Keys(cmd.Context())
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "KEY\tSTATE\tCREATED\tPUBLIC KEY (SPKI)")
	for _, k := range keys {
		state := "trusted"
		switch {
		case !k.RevokedAt.IsZero():
			state = "revoked"
		case k.ID == a.key.ID:
			state = "signing"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", k.ID, state, k.CreatedAt.UTC().Format(time.RFC3339), k.SPKI())
	}
	return t.Flush()
}
