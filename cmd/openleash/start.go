package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"os"

	"github.com/openleash/openleash-go/portal"
)

func startCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "start",
		Short: "Serve MCP over HTTP, the portal and the API",
		Long: `Serves, on the address of the configuration (127.0.0.1:8787):

  /mcp/<server>   every server under mcpServers:, over Streamable HTTP, for agents
                  that send "Authorization: Bearer TOKEN" (openleash agents token NAME)
  /mcp            all of them together; their tools are named <server>__<tool>
  /sse/<server>, /sse   the same for hosts of the older transport, HTTP with SSE
  /               the portal (openleash open signs you in)
  /v1/            the API: /v1/openapi.yaml tells what there is
  /agents.md      how an agent asks

It runs until it is interrupted. Policies are read again when they change; the
configuration is read at the start.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return start(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), nil)
		},
	}
}

// start serves until ctx ends. ready, when not nil, runs once the door is open.
func start(ctx context.Context, out, stderr io.Writer, ready func(*app) error) error {
	outliveReaders()
	a, err := openApp(ctx, newLog(stderr))
	if err != nil {
		return err
	}
	defer a.close()
	l, err := a.listen(ctx)
	if err != nil {
		return err
	}
	mcp, err := a.mcpDoor()
	if err != nil {
		l.Close()
		return err
	}
	h, err := a.pages(mcp)
	if err != nil {
		l.Close()
		return err
	}
	a.started("openleash start")
	a.greet(ctx, out)
	if ready != nil {
		if err := ready(a); err != nil {
			l.Close()
			return err
		}
	}
	return serve(ctx, l, h)
}

// listen takes the port; a stdio process of ours that has it cannot give it
// up, so that is an error with a hint, like a foreign holder.
func (a *app) listen(ctx context.Context) (net.Listener, error) {
	l, err := net.Listen("tcp", a.config.Listen)
	if err == nil {
		return l, nil
	}
	switch held := a.holder(ctx); {
	case held == nil:
		return nil, withHint(fmt.Errorf("%s is served by another openleash of this installation already", a.config.Listen),
			"one is enough for portal and API; to serve MCP over HTTP as well, end the other one, or set listen: in "+a.home.Config())
	case errors.Is(held, errForeign):
		return nil, withHint(fmt.Errorf("%s %w", a.config.Listen, errForeign),
			"end that program, or set another listen: in "+a.home.Config())
	}
	return nil, withHint(fmt.Errorf("listening on %s: %w", a.config.Listen, err), "set another listen: in "+a.home.Config())
}

func (a *app) greet(ctx context.Context, out io.Writer) {
	fmt.Fprintf(out, "OpenLeash %s, home %s\n", version(), a.home.Dir)
	paths := []string{""} // all servers
	for _, name := range a.config.serverNames() {
		paths = append(paths, "/"+name)
	}
	if len(paths) > 1 {
		for _, path := range paths {
			fmt.Fprintf(out, "  MCP      http://%s/mcp%s\n", a.config.Listen, path)
			fmt.Fprintf(out, "  SSE      http://%s/sse%s\n", a.config.Listen, path)
		}
	} else {
		fmt.Fprintf(out, "  MCP      no server yet: put one under mcpServers: in %s\n", a.home.Config())
	}
	fmt.Fprintf(out, "  API      http://%s/v1/\n", a.config.Listen)
	fmt.Fprintf(out, "  Portal   %s\n", a.config.portal())
	if err := a.policies.Err(); err != nil {
		fmt.Fprintf(out, "  Policies broken, the last good set is in force:\n%v\n", err)
	}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		if link, err := a.signInLink(ctx); err == nil {
			fmt.Fprintf(out, "  Sign in  %s  (once, within 10 minutes)\n", link)
			return
		}
	}
	fmt.Fprintf(out, "  Sign in  openleash open\n")
}

// signInLink makes a one-time link to the portal. It is a secret: it goes to a
// terminal or a browser, never into a log.
func (a *app) signInLink(ctx context.Context) (string, error) {
	token, err := a.owners.MakeLink(ctx, cliActor(), a.owner.ID)
	if err != nil {
		return "", err
	}
	return portal.SignInURL(a.config.portal(), token, ""), nil
}
