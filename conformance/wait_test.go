package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// What go-sdk's client makes of a call that is held: it comes back by itself, and
// not so often that it fails; or it is shown a page and told when that was answered.

const askAll = "version: 1\ndefault: require_approval\nrules: []\n"

// held is an OpenLeash whose calls are held for a second, in front of the reference
// server over stdio.
type held struct {
	*leash
	l *lab
	t *testing.T
}

func newHeld(t *testing.T) *held {
	t.Helper()
	l := &lab{ctx: t.Context(), dir: t.TempDir(), keep: true}
	t.Cleanup(l.close)
	for _, p := range []struct {
		to           *string
		dir, program string
	}{{&l.openleash, "..", "./cmd/openleash"}, {&l.server, ".", sdk + "everything-server"}} {
		*p.to = filepath.Join(l.dir, filepath.Base(p.program))
		cmd := exec.CommandContext(t.Context(), "go", "build", "-o", *p.to, p.program)
		cmd.Dir = p.dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("building %s: %v\n%s", p.program, err, out)
		}
	}
	s, err := l.leash(entry{"command": l.server, "hold": "1s"})
	if err == nil {
		err = os.WriteFile(filepath.Join(s.dir, "policies", "all.yaml"), []byte(askAll), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond) // the policy is read again
	return &held{s, l, t}
}

// doors are how the client comes in.
func (h *held) doors() map[string]func() mcp.Transport {
	return map[string]func() mcp.Transport{
		"stdio": func() mcp.Transport {
			cmd := exec.Command(h.l.openleash, "stdio", "--agent", "suite", "up")
			cmd.Env = h.env()
			return &mcp.CommandTransport{Command: cmd}
		},
		"http": func() mcp.Transport {
			return &mcp.StreamableClientTransport{Endpoint: "http://" + h.addr + "/mcp/up", HTTPClient: &http.Client{Transport: bearer(h.token)}}
		},
	}
}

type bearer string

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(b))
	return http.DefaultTransport.RoundTrip(r)
}

// pending is the id of the request that waits, "" when there is none.
func (h *held) pending() string {
	cmd := exec.Command(h.l.openleash, "approvals", "list", "--json")
	cmd.Env = h.env()
	out, err := cmd.Output()
	var list []struct{ ID string }
	if err != nil || json.Unmarshal(out, &list) != nil || len(list) == 0 {
		return ""
	}
	return list[0].ID
}

func (h *held) approve(id string) {
	cmd := exec.Command(h.l.openleash, "approvals", "approve", id)
	cmd.Env = h.env()
	if out, err := cmd.CombinedOutput(); err != nil {
		h.t.Errorf("approving %q: %v\n%s", id, err, out)
	}
}

func ended(t *testing.T, got *mcp.CallToolResult, err error) (text string) {
	t.Helper()
	if err != nil || len(got.Content) != 1 {
		t.Fatalf("got %+v, %v", got, err)
	}
	content, _ := got.Content[0].(*mcp.TextContent)
	if content == nil {
		t.Fatalf("got %+v", got.Content[0])
	}
	return content.Text
}

func TestHeldCallComesBack(t *testing.T) {
	h := newHeld(t)
	for door, open := range h.doors() {
		t.Run(door, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			s, err := mcp.NewClient(&mcp.Implementation{Name: "t", Version: "1"}, nil).Connect(ctx, open(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if v := s.InitializeResult().ProtocolVersion; v != "2026-07-28" {
				t.Fatalf("they speak %s", v)
			}
			call := &mcp.CallToolParams{Name: "test_simple_text", Arguments: map[string]any{"door": door}}
			begun := time.Now()
			got, err := s.CallTool(ctx, call) // nobody answers
			if ended(t, got, err); !got.IsError || time.Since(begun) < 2900*time.Millisecond {
				t.Fatalf("after %s: %+v", time.Since(begun), got)
			}
			id := h.pending()
			go func() { // in the second leg of the next
				time.Sleep(1500 * time.Millisecond)
				h.approve(id)
			}()
			got, err = s.CallTool(ctx, call)
			if text := ended(t, got, err); got.IsError {
				t.Errorf("approved: %s", text)
			}
		})
	}
}

func TestHeldCallOpensAPage(t *testing.T) {
	h := newHeld(t)
	for door, open := range h.doors() {
		t.Run(door, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			complete := make(chan string, 1)
			c := mcp.NewClient(&mcp.Implementation{Name: "t", Version: "1"}, &mcp.ClientOptions{
				Capabilities: &mcp.ClientCapabilities{Elicitation: &mcp.ElicitationCapabilities{URL: &mcp.URLElicitationCapabilities{}}},
				ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
					t.Error("it is asked in the host")
					return &mcp.ElicitResult{Action: "accept"}, nil
				},
				ElicitationCompleteHandler: func(_ context.Context, r *mcp.ElicitationCompleteNotificationRequest) {
					complete <- r.Params.ElicitationID
				},
			})
			s, err := c.Connect(ctx, open(), &mcp.ClientSessionOptions{ProtocolVersion: "2025-11-25"})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			call := &mcp.CallToolParams{Name: "test_simple_text", Arguments: map[string]any{"door": door}}
			_, err = s.CallTool(ctx, call)
			var required *jsonrpc.Error
			if !errors.As(err, &required) || required.Code != mcp.CodeURLElicitationRequired {
				t.Fatalf("got %v", err)
			}
			var data struct{ Elicitations []mcp.ElicitParams }
			if err := json.Unmarshal(required.Data, &data); err != nil || len(data.Elicitations) != 1 || data.Elicitations[0].Mode != "url" {
				t.Fatalf("%s, %v", required.Data, err)
			}
			h.approve(h.pending())
			select {
			case id := <-complete:
				if id != data.Elicitations[0].ElicitationID {
					t.Errorf("it hears of %q", id)
				}
			case <-ctx.Done():
				t.Fatal("it is not told that the page was answered")
			}
			got, err := s.CallTool(ctx, call)
			if text := ended(t, got, err); got.IsError {
				t.Errorf("approved: %s", text)
			}
		})
	}
}
