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
)

func main() { os.Exit(run()) }

// run is the program, so that tests start the same one.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
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
  openleash open                        the portal, signed in

Everything lives in $OPENLEASH_HOME, or ~/.openleash when that is not set.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
	}
	cmd.CompletionOptions.HiddenDefaultCmd = true
	cmd.AddCommand(startCommand(), stdioCommand(), openCommand(), demoCommand(), initCommand(), policyCommand(),
		approvalsCommand(), auditCommand(), agentsCommand(), keysCommand(), versionCommand(), sampleCommand())
	return cmd
}
