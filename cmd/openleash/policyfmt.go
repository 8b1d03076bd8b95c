package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/internal/strictyaml"
	"github.com/openleash/openleash-go/policy"
)

func policyFmtCommand() *cobra.Command {
	var check bool
	cmd := &cobra.Command{
		Use:   "fmt [FILE or FOLDER…]",
		Short: "Write policies in the one form",
		Long: `Puts the keys of policies into the order of docs/policy.md, indents by two spaces, and
names the files that it has changed. Comments stay. Of a folder all policies are
formatted, suites are not; without an argument those of this installation.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			args, _, err := orOwnPolicies(args)
			if err != nil {
				return err
			}
			changed := 0
			for _, name := range args {
				files, err := policiesIn(name)
				if err != nil {
					return err
				}
				for _, file := range files {
					did, err := format(file, check)
					var list strictyaml.ErrorList
					if errors.As(err, &list) {
						(&checker{complain: cmd.ErrOrStderr()}).print("error", list)
						return exitCode(1)
					}
					if err != nil {
						return err
					}
					if did {
						changed++
						fmt.Fprintln(cmd.OutOrStdout(), file)
					}
				}
			}
			if check && changed > 0 {
				return exitCode(1)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "change nothing; exit code 1 if something would change")
	return cmd
}

// policiesIn are the policies of a folder, or the file itself.
func policiesIn(name string) (files []string, err error) {
	info, err := os.Stat(name)
	if err != nil || !info.IsDir() {
		return []string{name}, err
	}
	err = filepath.WalkDir(name, func(file string, e fs.DirEntry, err error) error {
		hidden := file != name && strings.HasPrefix(e.Name(), ".")
		switch {
		case err == nil && e.IsDir() && hidden:
			return fs.SkipDir
		case err != nil || e.IsDir() || hidden:
			return err
		}
		ext := filepath.Ext(file)
		if (ext == ".yaml" || ext == ".yml") && !policy.IsSuite(e.Name()) {
			files = append(files, file)
		}
		return nil
	})
	return files, err
}

// format rewrites a policy, and tells whether it differs.
func format(file string, check bool) (differs bool, err error) {
	src, err := os.ReadFile(file)
	if err != nil {
		return false, err
	}
	formatted, err := policy.Format(file, src)
	if err != nil || bytes.Equal(src, formatted) {
		return false, err
	}
	if check {
		return true, nil
	}
	return true, replaceFile(file, formatted)
}

// replaceFile writes beside a file and renames, so that whoever follows the file
// never reads half of it.
func replaceFile(file string, content []byte) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	fresh, err := os.CreateTemp(filepath.Dir(file), ".openleash-*")
	if err != nil {
		return err
	}
	defer os.Remove(fresh.Name())
	_, err = fresh.Write(content)
	err = errors.Join(err, fresh.Chmod(info.Mode().Perm()), fresh.Sync(), fresh.Close())
	if err != nil {
		return err
	}
	return os.Rename(fresh.Name(), file)
}
