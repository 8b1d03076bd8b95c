package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/proxy"
)

func connectCommand() *cobra.Command {
	var tokenFile string
	cmd := &cobra.Command{
		Use:   "connect [--token-file FILE] URL",
		Short: "Be an MCP server for a host, with an OpenLeash that runs elsewhere behind it",
		Long: `Speaks MCP over standard input and output and passes everything on to URL, the
/mcp/<server> of an ` + "`openleash start`" + ` that runs as another user, in a container or on
another machine. Policies, keys, log and the server's secrets are there, out of
the reach of the agent; here is the agent's token and nothing else. No home is
made or opened.

The token (openleash agents token NAME, over there) comes from the environment
variable OPENLEASH_TOKEN, or from a file that nobody else may read. In a host's
configuration:

  {"mcpServers": {"files": {
    "command": "openleash",
    "args": ["connect", "--token-file", "/home/agent/.openleash-token",
             "http://127.0.0.1:8787/mcp/files"]}}}

http:// is for this machine alone, since the token would travel in the clear; use
https:// or an SSH tunnel for another one. When the other side goes away, calls
that it was doing end with an error that says so; what comes later waits some
seconds for its return, and the connection is made anew by itself.

With an empty input it only says whether the other side is there and takes the
token: exit code 0, or 1 and the reason.`,
		Example: `  openleash connect --token-file ~/.openleash-token http://127.0.0.1:8787/mcp/files
  openleash connect --token-file ~/.openleash-token http://127.0.0.1:8787/mcp/files </dev/null
  OPENLEASH_TOKEN=ola_… openleash connect https://leash.example/mcp/files`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return connect(cmd, args[0], tokenFile)
		},
	}
	cmd.Flags().StringVar(&tokenFile, "token-file", "", "the file with the token, mode 0600 (default: the variable OPENLEASH_TOKEN)")
	return cmd
}

// checkWithin is how long the first look at the other side may take; messages
// wait for it.
const checkWithin = 3 * time.Second

func connect(cmd *cobra.Command, url, tokenFile string) error {
	outliveReaders()
	log := newLog(cmd.ErrOrStderr())
	token, err := agentToken(tokenFile)
	if err != nil {
		return err
	}
	front, err := proxy.NewFront(url, token, log)
	if err != nil {
		return withHint(fmt.Errorf("URL: %w", err), "openleash connect --help has examples")
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), checkWithin)
	missing := front.Check(ctx)
	cancel()
	if missing != nil {
		log.Error().Msg(missing.Error())
	} else {
		log.Info().Msg("connected to " + front.Name())
	}
	err = front.Serve(cmd.Context(), proxy.StdioHost(cmd.InOrStdin(), cmd.OutOrStdout(), proxy.FrontLimits))
	if err == nil && missing != nil && !front.Reached() {
		return exitCode(1) // it was said already
	}
	return err
}

// maxTokenFile bounds what is read of a file that is taken for a token.
const maxTokenFile = 4096

// agentToken reads the token, from one place: of two, either could be the old one.
func agentToken(file string) (string, error) {
	token, inEnv := os.LookupEnv("OPENLEASH_TOKEN")
	switch {
	case file != "" && token != "":
		return "", errors.New("both --token-file and the variable OPENLEASH_TOKEN are there: leave one out")
	case file != "":
		return tokenIn(file)
	case !inEnv || token == "":
		return "", withHint(errors.New("no token: neither --token-file nor the variable OPENLEASH_TOKEN is there"),
			"where `openleash start` runs, openleash agents token NAME makes one")
	}
	return soundToken(token, "OPENLEASH_TOKEN")
}

func tokenIn(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", fmt.Errorf("--token-file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("--token-file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("--token-file %s: want a file, got %s", name, info.Mode().Type())
	}
	if mode := info.Mode().Perm(); mode&^0o600 != 0 && runtime.GOOS != "windows" { // there files have no modes
		return "", withHint(fmt.Errorf("--token-file %s: others may read it (mode %04o)", name, mode), "chmod 600 "+name)
	}
	src, err := io.ReadAll(io.LimitReader(f, maxTokenFile+1))
	if err != nil {
		return "", fmt.Errorf("--token-file: %w", err)
	}
	return soundToken(strings.TrimSpace(string(src)), "--token-file "+name)
}

// soundToken refuses what cannot be a token, and does not repeat it.
func soundToken(token, from string) (string, error) {
	odd := strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' })
	if token == "" || odd || len(token) > maxTokenFile {
		return "", fmt.Errorf("%s: want the token alone, one word that begins with ola_", from)
	}
	return token, nil
}
