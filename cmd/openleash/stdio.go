package main

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/proxy"
)

func stdioCommand() *cobra.Command {
	var agent, name string
	var hold time.Duration
	cmd := &cobra.Command{
		Use:   "stdio SERVER | stdio [--agent A] [--hold TIME] [--name N] -- COMMAND ARGS…",
		Short: "Be an MCP server for a host: what a host launches",
		Long: `Speaks MCP over standard input and output, with a server behind it: SERVER of
the configuration, or COMMAND, which gets our environment. Every tool call is
mapped, decided and logged; everything else passes as it is.

In a host's configuration, put "openleash" before the server's own command:

  {"mcpServers": {"files": {
    "command": "openleash",
    "args": ["stdio", "--name", "files", "--",
             "npx", "-y", "@modelcontextprotocol/server-filesystem", "/home/me/notes"]}}}

Give every host an --agent of its own: grants and limits are per agent. A host
that waits for longer than a minute can say so: --hold 4m holds a call for so long
until you have answered, before the model is told to call again.`,
		Example: `  openleash stdio files
  openleash stdio --agent cursor --name files -- npx -y @modelcontextprotocol/server-filesystem ~/notes`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return stdio(cmd, agent, name, hold, args)
		},
	}
	cmd.Flags().StringVar(&agent, "agent", "local", "the agent on whose behalf this host calls")
	cmd.Flags().DurationVar(&hold, "hold", 0, "how long a held call waits for you, 1s to 1h (default: as the configuration says, else 50s)")
	cmd.Flags().StringVar(&name, "name", "", "the server's name in actions and policies (default: from COMMAND)")
	return cmd
}

func stdio(cmd *cobra.Command, agent, name string, hold time.Duration, args []string) error {
	if cmd.Flags().Changed("hold") {
		if err := checkHold(hold); err != nil {
			return fmt.Errorf("--hold: %w", err)
		}
	}
	outliveReaders()
	ctx := cmd.Context()
	a, err := openApp(ctx, newLog(cmd.ErrOrStderr()))
	if err != nil {
		return err
	}
	defer a.close()
	s, err := a.stdioServer(cmd, name, args)
	if err != nil {
		return err
	}
	who, err := a.caller(ctx, agent)
	if err != nil {
		return err
	}
	p, err := a.newProxy(s)
	if err != nil {
		return err
	}
	if hold != 0 { // this host's own: it goes before all
		p.Hold, p.HoldFor = hold, nil
	}
	upstream, err := a.dial(ctx, p, s)
	if err != nil {
		return err
	}
	a.run(a.keepSideDoor)
	a.started("openleash stdio, agent " + agent + ", server " + s.Name)
	a.log.Info().Str("agent", agent).Str("server", s.Name).Str("portal", a.config.portal()).Msg("governing; answer held calls with `openleash open` or `openleash approvals`")
	return p.Serve(ctx, who, proxy.StdioHost(cmd.InOrStdin(), cmd.OutOrStdout(), a.config.limits()), upstream)
}

// stdioServer is the server that the arguments name.
func (a *app) stdioServer(cmd *cobra.Command, name string, args []string) (Server, error) {
	if cmd.ArgsLenAtDash() < 0 {
		if len(args) != 1 {
			return Server{}, withHint(fmt.Errorf("want the name of one server, or -- and a command; got %q", args), "openleash stdio --help has examples")
		}
		if name != "" {
			return Server{}, errors.New("--name goes with -- COMMAND; a server of the configuration has its name already")
		}
		return a.config.server(args[0])
	}
	if cmd.ArgsLenAtDash() > 0 || len(args) == 0 {
		return Server{}, withHint(errors.New("want only flags before --, and a command after it"), "openleash stdio --help has examples")
	}
	if name == "" {
		if name = nameFromCommand(args); !identity.ValidName(name) {
			return Server{}, withHint(fmt.Errorf("no name for the server can be made of %q", args), "give it one with --name")
		}
	}
	if !identity.ValidName(name) {
		return Server{}, fmt.Errorf("--name %q: a name has letters, digits, dots, dashes and underscores, 64 at the most", name)
	}
	return Server{Name: name, Command: args[0], Args: args[1:], environ: ourEnv()}, nil
}

// nameFromCommand makes a server's name of its command: the package, image or
// script that a runner starts, or the program itself.
func nameFromCommand(args []string) string {
	word := program(args)
	scope, _, scoped := strings.Cut(strings.TrimPrefix(word, "@"), "/")
	word = path.Base(filepath.ToSlash(word))
	word, _, _ = strings.Cut(word, "@") // a version
	word, _, _ = strings.Cut(word, ":") // an image's tag
	for _, ending := range []string{".js", ".mjs", ".cjs", ".ts", ".py", ".exe"} {
		word = strings.TrimSuffix(word, ending)
	}
	if scoped && (word == "mcp" || word == "server" || word == "mcp-server") {
		return scope // @playwright/mcp
	}
	for _, affix := range []string{"mcp-server-", "mcp_server_", "server-"} {
		word = strings.TrimPrefix(word, affix)
	}
	return word
}

// Runners start what one of their arguments names.
var (
	runners   = []string{"npx", "npm", "bunx", "bun", "pnpm", "yarn", "node", "deno", "uvx", "uv", "pipx", "python", "python3", "docker", "podman", "cmd"}
	verbs     = []string{"run", "dlx", "exec", "x", "tool", "/c"}
	withValue = []string{"-e", "--env", "--env-file", "-v", "--volume", "--mount", "--name", "--network", "-u", "--user", "-p", "--publish",
		"--pull", "--directory", "--from", "--with", "--python", "--package"}
)

// program is the word of a command that names what runs.
func program(args []string) string {
	runner := strings.TrimSuffix(path.Base(filepath.ToSlash(args[0])), ".exe")
	if !slices.Contains(runners, runner) {
		return args[0]
	}
	for i := 1; i < len(args); i++ {
		switch arg := args[i]; {
		case slices.Contains(withValue, arg):
			i++
		case strings.HasPrefix(arg, "-") || slices.Contains(verbs, arg):
		case slices.Contains(runners, arg):
			return program(args[i:])
		default:
			return arg
		}
	}
	return args[0]
}

// ourEnv is what a wrapped command gets: the host has put its secrets into our
// environment for it. What is ours alone stays here.
func ourEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "OPENLEASH_") })
}
