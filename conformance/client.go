package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
)

// The client scenarios test what a proxy sends upstream: the suite plays the
// server, and starts a command with its URL. That command is this program: it
// puts OpenLeash in front of the suite's server and drives the reference client
// through it.
const clientCommand = "client"

// clients are the client scenarios without those about OAuth, by the revision
// they are of.
var clients = []struct{ scenario, revision string }{
	{"initialize", "2025-11-25"},
	{"tools_call", "2025-11-25"},
	{"tools_call", "2026-07-28"},
	{"elicitation-sep1034-client-defaults", "2025-11-25"},
	{"sse-retry", "2025-11-25"},
	{"request-metadata", "2026-07-28"},
	{"sep-2322-client-request-state", "2026-07-28"},
	{"http-standard-headers", "2026-07-28"},
	{"http-custom-headers", "2026-07-28"},
	{"http-invalid-tool-headers", "2026-07-28"},
	{"json-schema-ref-no-deref", "2026-07-28"},
	{"json-schema-2020-12-preservation", "2025-11-25"},
	{"json-schema-2020-12-preservation", "2026-07-28"},
}

// clientScenarios runs them with a command.
func (l *lab) clientScenarios(command string) (results, error) {
	all := results{}
	for _, c := range clients {
		got, err := l.run("client", "--command", command, "--scenario", c.scenario, "--spec-version", c.revision)
		if err != nil {
			return nil, err
		}
		for _, checks := range got {
			all[c.revision+" "+c.scenario] = append(all[c.revision+" "+c.scenario], checks...)
		}
	}
	return all, nil
}

// throughLeash is the command line that runs client below.
func (l *lab) throughLeash() (string, error) {
	self, err := os.Executable()
	return fmt.Sprintf("%s %s %s %s %s", self, clientCommand, l.dir, l.openleash, l.client), err
}

// client is what the suite runs: FOLDER OPENLEASH CLIENT URL.
func client(ctx context.Context, args []string) int {
	if len(args) != 4 {
		fmt.Fprintln(os.Stderr, "conformance: client wants FOLDER OPENLEASH CLIENT URL")
		return 2
	}
	l := &lab{ctx: ctx, dir: args[0], keep: true, openleash: args[1], client: args[2]}
	defer l.close()
	s, err := l.leash(entry{"url": args[3]})
	var url string
	if err == nil {
		url, err = l.front(s)
	}
	if err == nil {
		cmd := exec.CommandContext(ctx, l.client, url) // the suite tells it the scenario in its environment
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		err = cmd.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		return 1
	}
	return 0
}
