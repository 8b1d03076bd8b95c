package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/policy"
)

func policyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "policy", Short: "Check policies"}
	cmd.AddCommand(&cobra.Command{
		Use:   "check FILE…",
		Short: "Say whether policy files are valid, with every fault and its place",
		Long: `Reads each file as the program would and prints every fault as file:line:column.
Exit code 0: all are valid; 1: some are not.`,
		Args: cobra.MinimumNArgs(1),
		RunE: checkPolicies,
	})
	return cmd
}

func checkPolicies(cmd *cobra.Command, files []string) error {
	bad := 0
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err == nil {
			id := strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
			_, err = policy.Parse(id, file, src)
		}
		if err != nil {
			bad++
			fmt.Fprintln(cmd.ErrOrStderr(), err)
			continue
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s: ok\n", file)
	}
	if bad > 0 {
		return exitCode(1)
	}
	return nil
}
