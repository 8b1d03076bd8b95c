package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/internal/home"
	"github.com/openleash/openleash-go/internal/strictyaml"
	"github.com/openleash/openleash-go/policy"
)

func policyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "policy", Short: "Check, test, explain and replay policies, and answer those that agents propose"}
	cmd.AddCommand(policyTestCommand(), policyExplainCommand(), policyReplayCommand(), policyFmtCommand(), policyTemplateCommand(), policyDraftsCommand())
	cmd.AddCommand(&cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of policies, for editors",
		Long: `Prints the JSON Schema (draft 2020-12) of a policy file. An editor that knows YAML
completes and explains by it, when it stands beside the policies and they begin with

  # yaml-language-server: $schema=policy.schema.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			schema, err := policy.Schema()
			if err == nil {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", schema)
			}
			return err
		},
	})
	cmd.AddCommand(&cobra.Command{
		Use:   "check [FILE or FOLDER…]",
		Short: "Say whether policies are valid, with every mistake and its place",
		Long: `Reads each file, or a folder of policies as the program would, and prints every
error and every warning with its place. A folder is also looked at as a whole: what
policies of agents and groups make of those that are asked after them. Without an
argument it is the folder of this installation, and its groups are known.

Exit code 0: all is well; 1: there are errors; 2: there are only warnings.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			args, groups, err := orOwnPolicies(args)
			if err != nil {
				return err
			}
			c := checker{out: cmd.OutOrStdout(), complain: cmd.ErrOrStderr()}
			for _, name := range args {
				c.check(name, groups)
			}
			return c.verdict()
		},
	})
	return cmd
}

// orOwnPolicies are the files and folders that were named, of whose groups nobody
// knows, or else the folder and the groups of the configuration.
func orOwnPolicies(named []string) ([]string, policy.Groups, error) {
	if len(named) > 0 {
		return named, nil, nil
	}
	dir, err := home.Locate(os.Getenv("OPENLEASH_HOME"))
	if err != nil {
		return nil, nil, err
	}
	config, err := loadConfig(home.Home{Dir: dir})
	if err != nil {
		return nil, nil, err
	}
	return []string{config.Policies}, config.Groups, nil
}

// checker prints what is wrong with policies.
type checker struct {
	out, complain    io.Writer
	errors, warnings int
}

func (c *checker) check(name string, groups policy.Groups) {
	warnings, err := lintPolicies(name, groups)
	var list strictyaml.ErrorList
	switch {
	case errors.As(err, &list):
		c.errors += len(list)
		c.print("error", list)
	case err != nil:
		c.errors++
		fmt.Fprintln(c.complain, err)
	case len(warnings) == 0:
		fmt.Fprintf(c.out, "%s: ok\n", name)
	}
	c.warnings += len(warnings)
	c.print("warning", warnings)
}

// lintPolicies reads a file, or a folder.
func lintPolicies(name string, groups policy.Groups) ([]strictyaml.Error, error) {
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		book, err := policy.Load(name, groups)
		if err != nil {
			return nil, err
		}
		return book.Warnings(), nil
	}
	src, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	p, err := policy.Parse(strings.TrimSuffix(filepath.Base(name), filepath.Ext(name)), name, src)
	if err != nil {
		return nil, err
	}
	return p.Warnings, nil
}

func (c *checker) print(kind string, list []strictyaml.Error) {
	for _, e := range list {
		fmt.Fprintf(c.complain, "%s:%d:%d: %s: %s\n", e.File, e.Line, e.Column, kind, e.Message)
		for line := range strings.Lines(e.Excerpt()) {
			fmt.Fprint(c.complain, "  ", line)
		}
	}
}

func (c *checker) verdict() error {
	if c.errors+c.warnings == 0 {
		return nil
	}
	fmt.Fprintf(c.complain, "%s, %s\n", count(c.errors, "error"), count(c.warnings, "warning"))
	if c.errors > 0 {
		return exitCode(1)
	}
	return exitCode(2)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
