package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/internal/watchdog"
)

// notOwners are the commands by which nobody sees or says anything as the owner.
var notOwners = []string{"stdio", "connect", "version", "sample-server", "help", "completion", "__complete", "__completeNoDesc"}

// ownersOnly refuses what an owner does to a program that one of our servers has
// started: a shell behind MCP, say, in which an agent would answer its own request.
func ownersOnly(cmd *cobra.Command, _ []string) error {
	top := cmd
	for top.HasParent() && top.Parent().HasParent() {
		top = top.Parent()
	}
	if slices.Contains(notOwners, top.Name()) {
		return nil
	}
	server, behind := watchdog.Above()
	if !behind {
		return nil
	}
	return withHint(fmt.Errorf("%s is for the owner, and this was started by the server %s, which agents call through OpenLeash", cmd.CommandPath(), server),
		"run it in a terminal of your own")
}

// cliActor is who acts by the command line, as the log has it.
func cliActor() string { return "cli:" + userName() }
