package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/configs"
	"github.com/openleash/openleash-go/internal/home"
	"github.com/openleash/openleash-go/internal/wiring"
)

// profiles are the shipped policies that init offers.
var profiles = []string{"conservative", "balanced", "autonomous"}

func initCommand() *cobra.Command {
	var profile string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make the home folder, a configuration and a policy",
		Long: `Makes what is missing in $OPENLEASH_HOME (or ~/.openleash): folders, keys, a
configuration with comments, and a policy to begin with:

  conservative   every tool call is held for you, reading too
  balanced       tools that a shipped profile marks as reading pass, the rest is held
  autonomous     everything passes but what a profile marks as destroying

Nothing needs init: what is missing is made at first use, with balanced. A
policy that you have edited is never replaced.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return initialize(cmd, profile)
		},
	}
	cmd.Flags().StringVar(&profile, "profile", "balanced", strings.Join(profiles, ", "))
	return cmd
}

func initialize(cmd *cobra.Command, profile string) error {
	if !slices.Contains(profiles, profile) {
		return fmt.Errorf("--profile %q: want one of %s", profile, strings.Join(profiles, ", "))
	}
	dir, err := home.Locate(os.Getenv("OPENLEASH_HOME"))
	if err != nil {
		return err
	}
	h := home.Home{Dir: dir}
	if err := h.FirstStart(cmd.Context(), func() error { return chooseProfile(h, profile) }); err != nil {
		return err
	}
	a, err := openApp(cmd.Context(), quietLog(cmd.ErrOrStderr()))
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "home     %s\nconfig   %s\npolicy   %s\nkey      %s\n\nNext: put \"openleash stdio -- \" before a server's command in your host's configuration, or name servers\nin the config and run `openleash start`.\n",
		h.Dir, h.Config(), filepath.Join(a.config.Policies, profile+".yaml"), a.key.ID)
	return a.close()
}

// chooseProfile writes configuration and policy where there are none. Another
// shipped policy goes, unless it was edited: then the person must say which.
func chooseProfile(h home.Home, profile string) error {
	if _, err := os.Stat(h.Config()); errors.Is(err, os.ErrNotExist) {
		src, err := configs.FS.ReadFile("config.yaml")
		if err != nil {
			return err
		}
		if err := os.WriteFile(h.Config(), src, 0o600); err != nil {
			return fmt.Errorf("writing the configuration: %w", err)
		}
	}
	c, err := loadConfig(h)
	if err != nil {
		return err
	}
	var unedited []string
	for _, other := range profiles {
		if other == profile {
			continue // when it is there it stays, edited or not
		}
		file := filepath.Join(c.Policies, other+".yaml")
		if there, err := shippedIn(file, other); err != nil {
			return err
		} else if there {
			unedited = append(unedited, file)
		}
	}
	// The new one first: there is no moment without a policy.
	if _, err := os.Stat(filepath.Join(c.Policies, profile+".yaml")); errors.Is(err, os.ErrNotExist) {
		if err := wiring.WriteProfile(c.Policies, profile); err != nil {
			return err
		}
	}
	for _, file := range unedited {
		if err := os.Remove(file); err != nil {
			return fmt.Errorf("removing the former policy: %w", err)
		}
	}
	return nil
}

// shippedIn reports whether file holds a policy as it was shipped. One that was
// edited is an error.
func shippedIn(file, name string) (bool, error) {
	now, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading the policy: %w", err)
	}
	shipped, err := configs.FS.ReadFile("policies/" + name + ".yaml")
	if err != nil || !bytes.Equal(now, shipped) {
		return false, withHint(fmt.Errorf("%s was edited; it stays", file), "remove or rename it, then run init again")
	}
	return true, nil
}
