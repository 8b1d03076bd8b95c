//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// Where the upstream servers are in node_modules.
const (
	filesystemJS = "@modelcontextprotocol/server-filesystem/dist/index.js"
	everythingJS = "@modelcontextprotocol/server-everything/dist/index.js"
)

// filesystem is the command of a filesystem server that may use one folder.
func filesystem(folder string) []string {
	return []string{node, filepath.Join(modules, filesystemJS), folder}
}

// everything is the command of the server that has one of everything.
func everything() []string {
	return []string{node, filepath.Join(modules, everythingJS), "stdio"}
}

// recorded puts the recorder in front of a command.
func recorded(t *testing.T, file string, command []string) []string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return append([]string{self, recordCommand, file}, command...)
}

// stdioServer is an entry of mcpServers.
func stdioServer(command []string) map[string]any {
	return map[string]any{"command": command[0], "args": command[1:]}
}

// An httpUpstream is server-everything over HTTP behind a reverse proxy that
// notes what arrives.
type httpUpstream struct {
	URL string

	mu      sync.Mutex
	headers []http.Header
	bodies  [][]byte
}

func startHTTPUpstream(t *testing.T, transport, path string) *httpUpstream {
	t.Helper()
	port := freePort(t)
	cmd := exec.Command(node, filepath.Join(modules, everythingJS), transport)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), fmt.Sprint("PORT=", port)}
	end := background(t, cmd)
	t.Cleanup(func() { end() }) // it has no orderly end
	address := fmt.Sprintf("127.0.0.1:%d", port)
	waitFor(t, "server-everything to listen", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	up := &httpUpstream{}
	up.URL = up.listen(t, address) + path
	return up
}

// listen starts the reverse proxy and gives its URL.
func (up *httpUpstream) listen(t *testing.T, backend string) string {
	t.Helper()
	reverse := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: backend})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		up.note(r)
		reverse.ServeHTTP(w, r)
	})}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return "http://" + l.Addr().String()
}

func (up *httpUpstream) note(r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	up.mu.Lock()
	defer up.mu.Unlock()
	up.headers = append(up.headers, r.Header.Clone())
	up.bodies = append(up.bodies, body)
}
