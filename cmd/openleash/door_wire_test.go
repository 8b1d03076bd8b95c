//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// wireDoor is `openleash start` with a server over HTTP behind it, for requests
// in bytes.
type wireDoor struct {
	address, token string
	mu             sync.Mutex
	got            []string // what the server got
}

func newWireDoor(t *testing.T) *wireDoor {
	d := &wireDoor{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		d.mu.Lock()
		d.got = append(d.got, string(body))
		d.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{}}`)
	}))
	t.Cleanup(server.Close)
	home := t.TempDir()
	d.address = fmt.Sprintf("127.0.0.1:%d", freePort())
	for name, text := range map[string]string{
		"config.yaml":        "listen: " + d.address + "\nmcpServers:\n  web: {url: " + server.URL + "}\n",
		"policies/main.yaml": "version: 1\ndefault: allow\nrules: []\n",
	} {
		path := filepath.Join(home, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(home, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("OPENLEASH_HOME", home)
	ctx, stop := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- start(ctx, io.Discard, io.Discard, func(a *app) error {
			defer close(ready)
			cmd := agentsCommand()
			cmd.SetContext(ctx)
			var out bytes.Buffer
			cmd.SetOut(&out)
			err := a.newToken(cmd, "robot")
			d.token = strings.TrimSpace(out.String())
			return err
		})
	}()
	t.Cleanup(func() { stop(); <-ended })
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	return d
}

// say sends bytes and returns the statuses of what comes back, and the first
// body. What is shorter than it says is followed by the end.
func (d *wireDoor) say(t *testing.T, request string, short ...bool) (statuses []int, body string) {
	t.Helper()
	c, err := net.Dial("tcp", d.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(15 * time.Second))
	go func() {
		io.WriteString(c, request)
		if len(short) > 0 {
			c.(*net.TCPConn).CloseWrite()
		}
	}()
	for in := bufio.NewReader(c); ; {
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			return statuses, body
		}
		raw, _ := io.ReadAll(res.Body)
		if statuses = append(statuses, res.StatusCode); len(statuses) == 1 {
			body = string(raw)
		}
		c.SetReadDeadline(time.Now().Add(100 * time.Millisecond)) // for what must not follow
	}
}

// request is a POST; each header is a line, and one that stands here already is
// replaced.
func (d *wireDoor) request(body string, headers ...string) string {
	lines := []string{"Host: " + d.address, "Authorization: Bearer " + d.token, "Content-Type: application/json",
		"Accept: application/json, text/event-stream", fmt.Sprintf("Content-Length: %d", len(body))}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ":")
		for i, line := range lines {
			if strings.HasPrefix(line, name+":") {
				lines[i] = ""
			}
		}
		if value != "" {
			lines = append(lines, h)
		}
	}
	text := "POST /mcp/web HTTP/1.1\r\n"
	for _, line := range lines {
		if line != "" {
			text += line + "\r\n"
		}
	}
	return text + "\r\n" + body
}

func (d *wireDoor) received() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string{}, d.got...)
}

const pingBody = `{"jsonrpc":"2.0","id":1,"method":"ping"}`

func chunked(body string) string { return fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body) }

func TestDoorRefusesOnTheWire(t *testing.T) {
	d := newWireDoor(t)
	call := `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"a","arguments":{}}}`
	for _, tt := range []struct {
		name, request string
		want          int
		says          string
	}{
		{"no token", d.request(call, "Authorization:"), 401, "MISSING_TOKEN"},
		{"another token", d.request(call, "Authorization: Bearer ola_x"), 401, "INVALID_TOKEN"},
		{"two tokens", d.request(call, "X: y\r\nAuthorization: Bearer ola_x"), 401, "MISSING_TOKEN"},
		{"a page's origin", d.request(call, "Origin: http://evil.example"), 403, "origin"},
		{"no page's origin", d.request(call, "Origin: null"), 403, "origin"},
		{"two origins", d.request(call, "Origin: http://"+d.address+"\r\nOrigin: http://evil.example"), 403, "origin"},
		{"another host", d.request(call, "Host: evil.example"), 421, ""},
		{"no host", d.request(call, "Host:"), 400, ""},
		{"two hosts", d.request(call, "X: y\r\nHost: "+d.address), 400, ""},
		{"text", d.request(call, "Content-Type: text/plain"), 415, ""},
		{"a form", d.request(call, "Content-Type: application/x-www-form-urlencoded"), 415, ""},
		{"UTF-16", d.request(call, "Content-Type: application/json; charset=utf-16"), 415, ""},
		{"no type", d.request(call, "Content-Type:"), 415, ""},
		{"two types", d.request(call, "X: y\r\nContent-Type: text/plain"), 415, ""},
		{"gzip", d.request(call, "Content-Encoding: gzip"), 415, "Content-Encoding"},
		{"gzip, twice said", d.request(call, "Content-Encoding: identity\r\nContent-Encoding: gzip"), 415, "Content-Encoding"},
		{"another method in the header", d.request(call, "Mcp-Method: ping"), 400, `"id":7,"error":{"code":-32020`},
		{"another tool in the header", d.request(call, "Mcp-Name: b"), 400, `"id":7,"error":{"code":-32020`},
		{"two tools in the headers", d.request(call, "Mcp-Name: a\r\nMcp-Name: b"), 400, `"id":7,"error":{"code":-32020`},
		{"a long header", d.request(call, "X: "+strings.Repeat("x", 200_000)), 431, ""},
		{"many headers", d.request(call, "X: y\r\n"+strings.Repeat("Y: "+strings.Repeat("y", 1000)+"\r\n", 200)+"Z: z"), 431, ""},
		{"a long address", strings.Replace(d.request(call), "/mcp/web", "/mcp/web?"+strings.Repeat("x", 200_000), 1), 431, ""},
		{"a space before the colon", d.request(call, "X: y\r\nMcp-Name : b"), 400, ""},
		{"a folded header", d.request(call, "X: y\r\n Mcp-Name: b"), 200, ""},
		{"NUL in a header", d.request(call, "X: \x00"), 400, ""},
		{"gzip as transfer", d.request(chunked(call), "Transfer-Encoding: gzip, chunked", "Content-Length:"), 501, ""},
		{"not quite chunked", d.request(chunked(call), "Transfer-Encoding: xchunked", "Content-Length:"), 501, ""},
		{"chunked with a tab", d.request(chunked(call), "Transfer-Encoding: \x0bchunked", "Content-Length:"), 400, ""},
		{"chunked twice", d.request(chunked(call), "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "Content-Length:"), 501, ""},
		{"two lengths", d.request(call, "X: y\r\nContent-Length: 3"), 400, ""},
		{"a signed length", d.request(call, "Content-Length: +5"), 400, ""},
		{"a negative length", d.request(call, "Content-Length: -5"), 400, ""},
		{"a length that is too short", d.request(call, "Content-Length: 20"), 400, "-32700"},
		{"a length that is too long", d.request(call, "Content-Length: 2000"), 400, ""},
		{"a length over the limit", d.request(call, "Content-Length: 999999999999"), 413, ""},
		{"broken chunks", d.request("zz\r\n"+call+"\r\n0\r\n\r\n", "Transfer-Encoding: chunked", "Content-Length:"), 400, ""},
		{"a body of 17 MB in chunks", d.request(chunked(strings.Replace(call, "{}", `{"x":"`+strings.Repeat("x", 17<<20)+`"}`, 1)), "Transfer-Encoding: chunked", "Content-Length:"), 413, `"id":7`},
		{"an older HTTP", strings.Replace(d.request(call), "HTTP/1.1", "HTTP/0.9", 1), 505, ""},
		{"a newer HTTP", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 421, ""},
		{"no HTTP", "tools/call\r\n\r\n", 400, ""},
	} {
		before := len(d.received())
		var short []bool
		if tt.name == "a length that is too long" {
			short = append(short, true)
		}
		statuses, body := d.say(t, tt.request, short...)
		if len(statuses) == 0 || statuses[0] != tt.want || !strings.Contains(body, tt.says) {
			t.Errorf("%s: got %d %.200s, want %d and %q", tt.name, statuses, body, tt.want, tt.says)
		}
		if got := d.received()[before:]; len(got) > 0 && tt.want != 200 {
			t.Errorf("%s: the server got %.300q", tt.name, got)
		}
	}
}

// Where one message ends and the next begins is told by one reader alone, and
// each is asked for its token.
func TestDoorTakesNoSmuggledRequest(t *testing.T) {
	d := newWireDoor(t)
	smuggled := "POST /mcp/web HTTP/1.1\r\nHost: " + d.address + "\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
	for _, tt := range []struct {
		name, request string
		want          []int
	}{
		{"length and chunks", d.request(chunked(pingBody)+smuggled, "Transfer-Encoding: chunked", "Content-Length: 4"), []int{200}},
		{"one behind the other", d.request(chunked(pingBody)+smuggled, "Transfer-Encoding: chunked", "Content-Length:"), []int{200, 401}},
		{"chunked in HTTP/1.0", strings.Replace(d.request(chunked(pingBody)+smuggled, "Transfer-Encoding: chunked", "Content-Length:"), "HTTP/1.1", "HTTP/1.0", 1), []int{200}},
		{"a trailer", d.request(fmt.Sprintf("%x;x=y\r\n%s\r\n0\r\nMcp-Method: tools/call\r\n\r\n", len(pingBody), pingBody), "Transfer-Encoding: chunked\r\nTrailer: Mcp-Method", "Content-Length:"), []int{200}},
	} {
		before := len(d.received())
		statuses, body := d.say(t, tt.request)
		got := d.received()[before:]
		for _, raw := range got {
			if raw != pingBody {
				t.Errorf("%s: the server got %q", tt.name, raw)
			}
		}
		if len(got) > 1 || len(statuses) == 0 || statuses[0] == 200 && len(got) != 1 || len(statuses) > 1 && statuses[1] == 200 {
			t.Errorf("%s: %d %s, the server got %q; want %d", tt.name, statuses, body, got, tt.want)
		}
	}
}

// Those who send slowly keep nobody else waiting. (When they are given up:
// TestSlowSendersAreGivenUp in package proxy.)
func TestDoorAndSlowSenders(t *testing.T) {
	d := newWireDoor(t)
	for i := range 200 {
		c, err := net.Dial("tcp", d.address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		half := d.request(pingBody)
		if i%2 == 0 {
			half = half[:40] // in the headers
		} else {
			half = half[:len(half)-5] // in the body
		}
		io.WriteString(c, half)
	}
	begin := time.Now()
	if statuses, body := d.say(t, d.request(pingBody)); len(statuses) != 1 || statuses[0] != 200 || time.Since(begin) > 5*time.Second {
		t.Errorf("after %s: %d %s", time.Since(begin), statuses, body)
	}
	if got := d.received(); len(got) != 1 {
		t.Errorf("the server got %d requests", len(got))
	}
}
