package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/internal/sample"
	"github.com/openleash/openleash-go/proof"
)

// sampleCommand is the demo's upstream, a program of its own like any server.
func sampleCommand() *cobra.Command {
	var keys string
	cmd := &cobra.Command{
		Use:    "sample-server",
		Short:  "The demo's MCP server: a shop, a mailbox, a clinic",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c := sample.Config{}
			if keys != "" {
				c.Keys = func() ([]proof.PublicKey, error) { return readKeys(keys) }
			}
			return sample.ServeStdio(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr(), c)
		},
	}
	cmd.Flags().StringVar(&keys, "keys", "", "the key document (openleash keys export) of who is trusted")
	return cmd
}

func readKeys(file string) ([]proof.PublicKey, error) {
	doc, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the keys: %w", err)
	}
	return proof.ParseExport(doc)
}
