//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/proof"
)

// The recorder stands in front of a stdio server and writes every line that
// passes to a file, with "> " for what the server was sent and "< " for what it
// answered. It is this test binary, started by the program under test:
//
//	e2e.test record FILE COMMAND ARGS…
const recordCommand = "record"

func record(file string, command []string) int {
	log, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fail(err)
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return fail(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fail(err)
	}
	if err := cmd.Start(); err != nil {
		return fail(err)
	}
	var mu sync.Mutex
	go func() {
		defer in.Close()
		pump(in, os.Stdin, log, &mu, "> ")
	}()
	pump(os.Stdout, out, log, &mu, "< ")
	if err := cmd.Wait(); err != nil {
		return fail(err)
	}
	return 0
}

// pump writes a line to the log before it passes it on.
func pump(to io.Writer, from io.Reader, log io.Writer, mu *sync.Mutex, mark string) {
	r := bufio.NewReader(from)
	for {
		line, err := r.ReadBytes('\n')
		if len(line) > 0 {
			mu.Lock()
			fmt.Fprintf(log, "%s%s\n", mark, bytes.TrimSuffix(line, []byte("\n")))
			mu.Unlock()
			if _, err := to.Write(line); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// A message is what the tests look at in a recorded line.
type message struct {
	Method string
	Params struct {
		Name      string
		Arguments json.RawMessage
		Meta      map[string]json.RawMessage `json:"_meta"`
	}
}

// calls are the tools/call messages for a tool that reached the server.
func calls(t *testing.T, file, tool string) []message {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var found []message
	for line := range bytes.Lines(data) {
		text, sent := bytes.CutPrefix(line, []byte("> "))
		if !sent {
			continue
		}
		var m message
		if err := json.Unmarshal(text, &m); err != nil {
			t.Fatalf("the upstream was sent what is no JSON: %v\n%s", err, text)
		}
		if m.Method == "tools/call" && m.Params.Name == tool {
			found = append(found, m)
		}
	}
	return found
}

// proofOf is the proof that came with a call. It verifies for this call and
// this server, with nothing but the exported public keys.
func proofOf(t *testing.T, h *home, server string, m message) proof.Claims {
	t.Helper()
	keys, err := proof.ParseExport([]byte(h.run(t, "keys", "export")))
	if err != nil {
		t.Fatal(err)
	}
	arguments, err := action.Parse(m.Params.Arguments, action.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	var token string
	if err := json.Unmarshal(m.Params.Meta["ai.openleash/proof"], &token); err != nil {
		t.Errorf("params._meta of the forwarded call: %v; want a proof, got %s", err, m.Params.Meta)
	}
	claims, err := proof.Verify(token, proof.Expect{
		Keys: keys, Now: time.Now(), Audience: "mcp:" + server, CallHash: action.CallHash(m.Params.Name, arguments),
	})
	if err != nil {
		t.Errorf("the proof of %s does not verify: %v", m.Params.Name, err)
	}
	return claims
}
