//go:build unix

package main

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// docs/audit.md has a heading for each event, and below it the fields that its line has
// beyond those that every line has.
var (
	eventSection = regexp.MustCompile("(?m)^### `([a-z_.]+)`$")
	eventFields  = regexp.MustCompile("(?m)^Fields: (.*)$")
	fieldName    = regexp.MustCompile("`([a-z_]+)`")
)

var everyLine = []string{"seq", "prev", "ts", "event", "actor_type", "actor_id", "action_type", "action_id", "decision", "policy_id", "proof_kid", "signature_valid"}

// eventsInDocs are the events of docs/audit.md and their fields.
func eventsInDocs(ts *testscript.TestScript) map[string][]string {
	doc, err := os.ReadFile("../../docs/audit.md")
	ts.Check(err)
	specified := map[string][]string{}
	at := eventSection.FindAllSubmatchIndex(doc, -1)
	for i, m := range at {
		end := len(doc)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		name, line := string(doc[m[2]:m[3]]), eventFields.FindSubmatch(doc[m[1]:end])
		if line == nil {
			ts.Fatalf("docs/audit.md: event %s: no line of Fields:", name)
		}
		specified[name] = []string{}
		for _, f := range fieldName.FindAllSubmatch(line[1], -1) {
			specified[name] = append(specified[name], string(f[1]))
		}
	}
	return specified
}

// cmdSpecified compares a log with docs/audit.md: each event there is in it, each of its
// lines is one of those and has no field that does not stand there.
func cmdSpecified(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 1, "specified LOG")
	specified, seen := eventsInDocs(ts), map[string]map[string]bool{}
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		var e map[string]any
		ts.Check(json.Unmarshal([]byte(line), &e))
		name, _ := e["event"].(string)
		if specified[name] == nil {
			ts.Fatalf("event %q is not in docs/audit.md: %s", name, line)
		}
		if seen[name] == nil {
			seen[name] = map[string]bool{}
		}
		for field := range e {
			seen[name][field] = true
			if !slices.Contains(everyLine, field) && !slices.Contains(specified[name], field) {
				ts.Fatalf("docs/audit.md does not say that %s has %s: %s", name, field, line)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(specified)) {
		if seen[name] == nil {
			ts.Fatalf("event %s of docs/audit.md is not in the log", name)
		}
		for _, field := range everyLine {
			if !seen[name][field] {
				ts.Fatalf("event %s has no %s", name, field)
			}
		}
	}
}
