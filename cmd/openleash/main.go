// Command openleash is the authorization guardrail for AI agents: the MCP
// proxy, the owner portal, and what an owner does at a terminal.
//
// main.go has the commands; each has a file of its own. app.go opens what they
// work on, in one place.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/internal/strictyaml"
)

func main() { os.Exit(run()) }

// run is the program, so that tests start the same one.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), ends()...)
	defer stop()
	cmd := root()
	if err := cmd.ExecuteContext(ctx); err != nil {
		var silent exitCode
		if errors.As(err, &silent) {
			return int(silent)
		}
		printError(cmd.ErrOrStderr(), err)
		return 1
	}
	return 0
}

// ends are the signals at which we end in good order. A program that was told
// to outlive its terminal (nohup) does.
func ends() []os.Signal {
	list := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		list = append(list, syscall.SIGHUP)
	}
	return list
}

// outliveReaders turns a write to a host that has gone into an error: by itself
// the system would kill us in the middle of it, before children are ended and
// outcomes recorded. (Caught, not ignored: children would inherit that.)
func outliveReaders() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }

// exitCode ends the program after everything was said already.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// printError writes an error as a person reads it: "openleash: what", and one
// more line for each hint.
func printError(w io.Writer, err error) {
	fmt.Fprintf(w, "openleash: %v\n", err)
	for _, hint := range hintsOf(err) {
		fmt.Fprintf(w, "openleash: hint: %s\n", hint)
	}
}

// withHint adds what to do next to an error.
func withHint(err error, hint string) error {
	if err == nil {
		return nil
	}
	return &hinted{err, hint}
}

type hinted struct {
	err  error
	hint string
}

func (h *hinted) Error() string { return h.err.Error() }
func (h *hinted) Unwrap() error { return h.err }

func hintsOf(err error) []string {
	var hints []string
	for h := new(hinted); errors.As(err, &h); err = h.err {
		hints = append(hints, h.hint)
	}
	return hints
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "openleash",
		Short: "Authorization guardrails for AI agents",
		Long: `OpenLeash stands between an AI agent and its tools. You say in YAML what is
allowed; each tool call is allowed, refused, or held until you have answered.

  openleash demo                        see it work, in a minute
  openleash stdio --name files -- npx -y @modelcontextprotocol/server-filesystem ~/notes
                                        what a host launches instead of the server itself
  openleash start                       all servers of the configuration over HTTP
  openleash connect URL                 what a host launches when OpenLeash runs elsewhere
  openleash login SERVER                sign in at a server that wants it
  openleash open                        the portal, signed in

Everything lives in $OPENLEASH_HOME, or ~/.openleash when that is not set.`,
		SilenceUsage:      true,
		SilenceErrors:     true,
		PersistentPreRunE: ownersOnly,
	}
	cmd.CompletionOptions.HiddenDefaultCmd = true
	cmd.AddCommand(startCommand(), stdioCommand(), connectCommand(), openCommand(), loginCommand(), logoutCommand(), demoCommand(), initCommand(), policyCommand(), playgroundCommand(),
		approvalsCommand(), grantsCommand(), toolsCommand(), limitsCommand(), auditCommand(), agentsCommand(), ownersCommand(), sessionsCommand(), passkeysCommand(), adminCommand(), keysCommand(), versionCommand(), sampleCommand())
	mindful(cmd)
	return cmd
}

// mindful makes a command and those below it say what was wrong with their
// arguments, and where help is. (By itself cobra answers an unknown command with
// the help of the one above, and success.)
func mindful(cmd *cobra.Command) {
	help := func(c *cobra.Command) string { return c.CommandPath() + " --help" }
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return withHint(err, help(c)) })
	if !cmd.Runnable() {
		cmd.Args = knownCommand
		cmd.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	}
	if check := cmd.Args; check != nil {
		cmd.Args = func(c *cobra.Command, args []string) error { return withHint(check(c, args), help(c)) }
	}
	for _, child := range cmd.Commands() {
		mindful(child)
	}
}

// knownCommand refuses what is left when no command was found.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, child := range cmd.Commands() {
		if !child.Hidden {
			names = append(names, child.Name())
		}
	}
	return fmt.Errorf("%s has no command %q%s", cmd.CommandPath(), args[0], strictyaml.DidYouMean(args[0], names))
}
