//go:build soak && unix

package main

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Hundreds of kills, minutes of holding, three hosts at once: `make soak`.

func TestSoakKills(t *testing.T) { kills(t, 200, 1) }

func TestSoakKillsAmongThree(t *testing.T) { kills(t, 200, 3) }

func TestSoakStoppedSequencer(t *testing.T) { stops(t, 60) }

func TestSoakThreeProcesses(t *testing.T) {
	until := time.Now().Add(2 * time.Minute)
	together(t, 3, func() func() bool { return func() bool { return time.Now().After(until) } })
}

var pendingID = regexp.MustCompile(`(?m)^PENDING +(\S+)`)

// A host that waits longer than our default hold: it is told to call again, its
// progress token is served meanwhile, the request stays open, and the same call
// goes through, once, when the owner has answered.
func TestSoakHold(t *testing.T) {
	in := newInstallation(t, `version: 1
default: deny
rules:
  - id: ask
    effect: allow
    action: mcp.fake.hold
    obligations: [{type: HUMAN_APPROVAL}]
`)
	p := in.stdio(t, "patient")
	const call = `{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"hold","arguments":{"a":1},"_meta":{"progressToken":"t%d"}}}`
	began := time.Now()
	p.send(t, call, 1, 1)
	answer, ok := p.take(func(line string) bool { return strings.Contains(line, `"id":1,`) })
	if !ok || !strings.Contains(answer, "APPROVAL_REQUIRED") || !strings.Contains(answer, "Call this tool again now with exactly these arguments") {
		t.Fatalf("after %s: %s; %s", time.Since(began), answer, p.all())
	}
	if took := time.Since(began); took < 49*time.Second {
		t.Errorf("the hold ended after %s already", took)
	}
	if n := strings.Count(p.output(), `"progressToken":"t1"`); n < 4 {
		t.Errorf("%d progress notifications in 50 s", n)
	}
	id := pendingID.FindStringSubmatch(in.run(t, "approvals", "list"))
	if id == nil {
		t.Fatal("the request did not stay open")
	}
	p.send(t, call, 2, 2)
	time.Sleep(20 * time.Second)
	in.run(t, "approvals", "approve", id[1])
	if answer, ok = p.take(func(line string) bool { return strings.Contains(line, `"id":2,`) }); !ok || strings.Contains(answer, "isError") {
		t.Fatalf("approved, and then: %s; %s", answer, p.all())
	}
	if err := p.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	<-p.exited
	in.whole(t, 0)
	if out := in.run(t, "approvals", "list", "--all"); strings.Count(out, "REDEEMED") != 1 || strings.Contains(out, "PENDING") {
		t.Errorf("approvals: %s", out)
	}
}

// send writes one line to the process.
func (p *process) send(t *testing.T, format string, args ...any) {
	t.Helper()
	if _, err := io.WriteString(p.stdin, fmt.Sprintf(format, args...)+"\n"); err != nil {
		t.Fatal(err)
	}
}
