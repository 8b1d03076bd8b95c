package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/authz"
)

// Whatever command there is, an agent cannot have it run by a tool, unless it is one
// of these, with all below it where there is a star: they answer nothing, and tell no
// secret.
func TestAgentsHaveNoOwnersCommand(t *testing.T) {
	harmless := []string{"openleash", "stdio", "connect", "version", "sample-server", "demo", "keys*", "policy*", "playground*", "audit", "audit verify", "audit verify-passkey", "audit checkpoint", "audit key", "agents", "approvals", "owners", "sessions", "admin", "passkeys"}
	protect := authz.NewProtection(nil, nil)
	refused := func(words string) bool {
		script := action.StringValue("true && " + words)
		return protect.Check(&authz.Call{Tool: "shell", Arguments: action.ObjectValue(action.Member{Key: "script", Value: script})}) != ""
	}
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		for _, child := range c.Commands() {
			walk(child)
		}
		path := strings.TrimPrefix(c.CommandPath(), "openleash ")
		family, _, _ := strings.Cut(path, " ")
		known := slices.Contains(harmless, path) || slices.Contains(harmless, family+"*")
		if !known && !refused("openleash "+path) && !refused("openleash "+path+" --json") {
			t.Errorf("openleash %s: an agent's tool could run it; authz/protect_commands.go has to name it, or this test to say that it is harmless", path)
		}
	}
	walk(root())
}
