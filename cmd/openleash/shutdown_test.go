//go:build unix

package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const shutdownPolicy = `version: 1
default: allow
rules:
  - {id: ask, effect: allow, action: mcp.fake.hold, obligations: [{type: HUMAN_APPROVAL}]}
  - {id: ask-far, effect: allow, action: mcp.far.hold, obligations: [{type: HUMAN_APPROVAL}]}
`

// stuckServer is a server over HTTP that begins to answer a call, as its tool's
// name says, and comes to no end. It tells of each call that has arrived.
func stuckServer(t *testing.T) (url string, arrived chan string) {
	arrived = make(chan string, 8)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if !strings.Contains(string(body), "tools/call") {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, `{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{}}}`)
			return
		}
		switch {
		case strings.Contains(string(body), `"stream"`):
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, "id: 1\ndata:\n\n") // it can be resumed, but not through one that has ended
		case strings.Contains(string(body), `"half"`):
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, `{"jsonrpc"`)
		}
		if !strings.Contains(string(body), `"silent"`) {
			http.NewResponseController(w).Flush()
		}
		arrived <- string(body)
		<-r.Context().Done()
	}))
	t.Cleanup(srv.Close)
	return srv.URL, arrived
}

// openCall is a POST of a call whose answer is awaited.
type openCall struct {
	door, session, accept string
	tool, meta            string
	sse                   bool // the answer is a stream
	forwarded             bool
	answer                chan string
}

func (c *openCall) post(in *installation, token string, id int) {
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":%q,"arguments":{"n":%d}%s}}`, id, c.tool, id, c.meta)
	req, _ := http.NewRequest("POST", fmt.Sprintf("http://127.0.0.1:%d%s", in.port, c.door), strings.NewReader(body))
	for name, value := range map[string]string{"Authorization": "Bearer " + token, "Content-Type": "application/json", "Accept": c.accept, "Mcp-Session-Id": c.session} {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.answer <- err.Error()
		return
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	c.answer <- fmt.Sprintf("%d %s %v\n%s", resp.StatusCode, resp.Header.Get("Content-Type"), err, got)
}

// At its end OpenLeash answers what is open, and says whether it may have been
// done: for a program that it runs and for a server over HTTP, as JSON and as
// events, for what was forwarded and for what was held.
func TestOpenRequestsAreAnsweredAtTheEnd(t *testing.T) {
	in := newInstallation(t, shutdownPolicy)
	url, arrived := stuckServer(t)
	if err := os.WriteFile(in.calls, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("listen: 127.0.0.1:%d\nmcpServers:\n  fake: {command: fakemcp, args: [-record, %s]}\n  far: {url: %q}\n", in.port, in.calls, url)
	if err := os.WriteFile(filepath.Join(in.home, "config.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	made := in.run(t, "agents", "token", "claude") // with what it logs at the first start
	token := strings.Fields(made[strings.Index(made, "ola_"):])[0]
	p := in.serve(t)
	request := func(method, path, body string) *http.Response {
		t.Helper()
		req, _ := http.NewRequestWithContext(t.Context(), method, fmt.Sprintf("http://127.0.0.1:%d%s", in.port, path), strings.NewReader(body))
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json, text/event-stream")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	hello := `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`
	begun := request("POST", "/mcp/fake", hello)
	begun.Body.Close()
	session := begun.Header.Get("Mcp-Session-Id")
	older := request("GET", "/sse/fake", "")
	defer older.Body.Close()
	endpoint := make([]byte, 512)
	n, _ := older.Body.Read(endpoint)
	_, messages, _ := strings.Cut(strings.TrimSpace(string(endpoint[:n])), "data: ")

	both, events, token1 := "application/json, text/event-stream", "text/event-stream", `,"_meta":{"progressToken":"p"}`
	calls := []*openCall{
		{door: "/mcp/fake", session: session, accept: both, tool: "hang", forwarded: true},
		{door: "/mcp/fake", session: session, accept: events, tool: "hang", sse: true, forwarded: true},
		{door: "/mcp/fake", session: session, accept: both, tool: "hold"},
		{door: "/mcp/fake", session: session, accept: both, tool: "hold", meta: token1, sse: true},
		{door: "/mcp/far", accept: both, tool: "silent", forwarded: true},
		{door: "/mcp/far", accept: both, tool: "half", forwarded: true},
		{door: "/mcp/far", accept: both, tool: "stream", sse: true, forwarded: true},
		{door: "/mcp/far", accept: both, tool: "hold"},
		{door: "/mcp/far", accept: both, tool: "hold", meta: token1, sse: true},
	}
	for i, c := range calls {
		c.answer = make(chan string, 1)
		go c.post(in, token, i+1)
	}
	request("POST", messages, `{"jsonrpc":"2.0","id":20,"method":"tools/call","params":{"name":"hang","arguments":{"n":20}}}`).Body.Close()
	for range 3 {
		select {
		case <-arrived:
		case <-time.After(patience):
			t.Fatalf("not all calls have arrived: %s", p.all())
		}
	}
	if !eventually(func() bool {
		return in.noted(t, `"hang"`) == 3 && strings.Count(in.run(t, "approvals", "list", "--json"), `"id"`) == 4
	}) {
		t.Fatalf("not all calls are under way: %s", p.all())
	}
	p.cmd.Process.Signal(syscall.SIGTERM)

	for i, c := range calls {
		got, want := <-c.answer, "200 application/json <nil>\n"
		if c.sse {
			want = "200 text/event-stream <nil>\n"
		}
		fate := "Nothing was done: try again once it runs"
		if c.forwarded {
			fate = "has not answered. Whether this was done is not known: look before you repeat it"
		}
		if !strings.HasPrefix(got, want) || strings.Count(got, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"error":{"code":-32603,"message":"OpenLeash is shutting down`, i+1)) != 1 || !strings.Contains(got, fate) {
			t.Errorf("%s of %s: got %s\nwant %s… %s", c.tool, c.door, got, want, fate)
		}
	}
	if rest, _ := io.ReadAll(older.Body); !strings.Contains(string(rest), `{"jsonrpc":"2.0","id":20,"error":{"code":-32603,"message":"OpenLeash is shutting down, and the server fake has not answered`) {
		t.Errorf("the older stream ended with %q", rest)
	}
	<-p.exited
	// What was forwarded is recorded so, what was held never ran and waits still.
	if n := strings.Count(in.run(t, "approvals", "list", "--json"), `"id"`); n != 4 || in.noted(t, `"hold"`) != 0 {
		t.Errorf("%d requests wait, want 4; %d held calls ran", n, in.noted(t, `"hold"`))
	}
}
