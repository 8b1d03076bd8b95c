package main

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"

	"github.com/spf13/cobra"
)

func openCommand() *cobra.Command {
	var noBrowser bool
	cmd := &cobra.Command{
		Use:   "open",
		Short: "Open the portal, signed in",
		Long: `Makes a sign-in link (good once, for ten minutes), prints it, and opens it in
your browser. When no server of this installation runs, it starts one and
serves until it is interrupted.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return openPortal(cmd, !noBrowser)
		},
	}
	cmd.Flags().BoolVar(&noBrowser, "no-browser", false, "only print the link")
	return cmd
}

func openPortal(cmd *cobra.Command, browser bool) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	a, err := openApp(ctx, quietLog(cmd.ErrOrStderr()))
	if err != nil {
		return err
	}
	held := a.holder(ctx)
	if held == nil {
		defer a.close()
		return a.show(cmd, browser)
	}
	if err := a.close(); err != nil {
		return err
	}
	if errors.Is(held, errForeign) {
		return withHint(fmt.Errorf("%s %w", a.config.Listen, errForeign), "end that program, or set another listen: in "+a.home.Config())
	}
	return start(ctx, io.Discard, cmd.ErrOrStderr(), func(a *app) error {
		fmt.Fprintln(out, "No server was running; this one serves until you interrupt it (Ctrl-C).")
		return a.show(cmd, browser)
	})
}

// show prints the link and hands it to the browser.
func (a *app) show(cmd *cobra.Command, browser bool) error {
	link, err := a.signInLink(cmd.Context())
	if err != nil {
		return err
	}
	fmt.Fprintln(cmd.OutOrStdout(), link)
	if browser {
		if err := openBrowser(link); err != nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "openleash: no browser could be opened (%v); open the link yourself\n", err)
		}
	}
	return nil
}

// openBrowser gives a link to the system's browser.
func openBrowser(link string) error {
	var cmd *exec.Cmd
	switch runtime.GOOS {
	case "darwin":
		cmd = exec.Command("open", link)
	case "windows":
		cmd = exec.Command("rundll32", "url.dll,FileProtocolHandler", link)
	default:
		cmd = exec.Command("xdg-open", link)
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	go cmd.Wait()
	return nil
}
