package main

import (
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/configs"
	"github.com/openleash/openleash-go/internal/strictyaml"
	"github.com/openleash/openleash-go/policy"
)

func policyTemplateCommand() *cobra.Command {
	var tests bool
	cmd := &cobra.Command{
		Use:   "template [NAME]",
		Short: "List the policies that ship with the program, or print one",
		Long: `Without NAME it lists the policies to start from: profiles, each for an installation
of its own, and templates, which stand together and beside a profile. With NAME it
prints that policy, or its tests. The comment at its top says what to change.

  openleash policy template purchases > ~/.openleash/policies/10-purchases.yaml
  openleash policy template purchases --tests > ~/.openleash/policies/10-purchases_test.yaml

Files are asked in the order of their names: with 10- this one comes before the profile.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return printTemplate(cmd.OutOrStdout(), args[0], tests)
			}
			if tests {
				return withHint(fmt.Errorf("--tests: want the NAME of a template"), "openleash policy template lists them")
			}
			return listTemplates(cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&tests, "tests", false, "print its suite instead, to stand beside it as NAME_test.yaml")
	return cmd
}

// templates are the names of the shipped policies.
func templates() (names []string, err error) {
	files, err := fs.Glob(configs.FS, "policies/*.yaml")
	for _, file := range files {
		if !policy.IsSuite(file) {
			names = append(names, strings.TrimSuffix(path.Base(file), ".yaml"))
		}
	}
	return names, err
}

func printTemplate(out io.Writer, name string, tests bool) error {
	file := name
	if tests {
		file += "_test"
	}
	names, err := templates()
	if err != nil {
		return err
	}
	src, err := configs.FS.ReadFile("policies/" + file + ".yaml")
	if err != nil || policy.IsSuite(name+".yaml") {
		return withHint(fmt.Errorf("no shipped policy is named %q%s", name, strictyaml.DidYouMean(name, names)), "openleash policy template lists them")
	}
	_, err = out.Write(src)
	return err
}

// listTemplates says of each what the first line of its comment does.
func listTemplates(out io.Writer) error {
	names, err := templates()
	if err != nil {
		return err
	}
	for _, name := range names {
		src, err := configs.FS.ReadFile("policies/" + name + ".yaml")
		if err != nil {
			return err
		}
		first, _, _ := strings.Cut(string(src), "\n")
		if _, err := fmt.Fprintf(out, "%-14s %s\n", name, strings.TrimPrefix(first, "# ")); err != nil {
			return err
		}
	}
	return nil
}
