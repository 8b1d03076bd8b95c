// Package oauthtest is a strict authorization server, with an MCP server behind
// it that takes its tokens, for tests.
//
// It holds its clients to the letter: redirect addresses as they were registered,
// PKCE by S256, the resource in each request, a code once and within its client, a
// refresh token once: one that comes back ends the whole login. Its person
// consents to everything at once. Quirks make it a bad one; below /test/ scripts
// that have only its address can set them, and ask what it has seen:
//
//	POST /test/quirk?name=NAME&on=true
//	POST /test/lifetime?seconds=N   of access tokens from now on
//	POST /test/expire               all access tokens end
//	POST /test/end                  all refresh tokens end
//	GET  /test/seen                 the counts of Seen, a line each
package oauthtest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

// The client that is registered by hand, as its owner would.
const (
	ClientID     = "by-hand"
	ClientSecret = "secret-of-by-hand+/="
)

// Server is both. The MCP endpoint is URL + "/mcp", or "/sse".
type Server struct {
	URL string

	mu       sync.Mutex
	quirks   map[string]bool
	lifetime time.Duration
	clients  map[string]client
	codes    map[string]*code
	access   map[string]*token
	refresh  map[string]*token
	seen     Seen
	secrets  []string // all that was given out
	bearers  []string // Authorization of each request to the MCP server

	mux  *http.ServeMux
	http *http.Server
}

// Seen counts what has come.
type Seen struct {
	Asked int // requests to the token endpoint that have begun

	Registered, Authorized, Exchanged, Refreshed, Reused, Revoked int
	Calls                                                         int // tools that ran
	Refused                                                       int // requests to the MCP server without a good token
}

type client struct {
	secret, method string
	redirects      []string
	anyPort        bool
}

type code struct {
	client, redirect, challenge, resource, scope string
	spent                                        bool
}

type token struct {
	family, client, scope, resource string
	until                           time.Time
	spent                           bool
}

// Start serves on a port of this machine until Close.
func Start() (*Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Server{URL: "http://" + l.Addr().String(), quirks: map[string]bool{}, lifetime: time.Hour, codes: map[string]*code{}, access: map[string]*token{}, refresh: map[string]*token{},
		clients: map[string]client{ClientID: {secret: ClientSecret, method: "client_secret_basic", redirects: []string{"http://127.0.0.1/callback"}, anyPort: true}}}
	s.routes()
	s.http = &http.Server{Handler: s.mux}
	go s.http.Serve(l)
	return s, nil
}

// Close ends it.
func (s *Server) Close() error { return s.http.Close() }

// Quirk turns a bad habit on or off.
func (s *Server) Quirk(name string, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quirks[name] = on
}

func (s *Server) has(quirk string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.quirks[quirk]
}

// Lifetime is how long access tokens live that are given out from now on.
func (s *Server) Lifetime(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lifetime = d
}

// Expire ends all access tokens.
func (s *Server) Expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.access)
}

// End ends all refresh tokens.
func (s *Server) End() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.refresh)
}

// Forget ends all clients.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.clients)
}

// Seen is what has come so far.
func (s *Server) Seen() Seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen
}

// Secrets are the codes, tokens and client secrets that were given out.
func (s *Server) Secrets() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.secrets)
}

// Bearers are the Authorization headers that the MCP server was sent.
func (s *Server) Bearers() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.bearers)
}

// secret makes one and remembers it; s.mu is held.
func (s *Server) secret(kind string) string {
	v := kind + "-" + rand.Text()
	s.secrets = append(s.secrets, v)
	return v
}

func (s *Server) routes() {
	s.mux = http.NewServeMux()
	tools := s.tools()
	s.mux.Handle("/mcp", s.protected(server.NewStreamableHTTPServer(tools)))
	old := server.NewSSEServer(tools, server.WithBaseURL(s.URL))
	s.mux.Handle("/sse", s.protected(old.SSEHandler()))
	s.mux.Handle("/message", s.protected(old.MessageHandler()))
	s.mux.HandleFunc("GET /.well-known/oauth-protected-resource/{path}", s.resourceMetadata)
	s.mux.HandleFunc("GET /.well-known/oauth-authorization-server", s.serverMetadata)
	s.mux.HandleFunc("POST /register", s.register)
	s.mux.HandleFunc("GET /authorize", s.authorize)
	s.mux.HandleFunc("POST /token", s.token)
	s.mux.HandleFunc("POST /revoke", s.revoke)
	s.mux.HandleFunc("POST /test/quirk", func(_ http.ResponseWriter, r *http.Request) {
		s.Quirk(r.FormValue("name"), r.FormValue("on") != "false")
	})
	s.mux.HandleFunc("POST /test/lifetime", func(_ http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.FormValue("seconds"))
		s.Lifetime(time.Duration(n) * time.Second)
	})
	s.mux.HandleFunc("POST /test/expire", func(http.ResponseWriter, *http.Request) { s.Expire() })
	s.mux.HandleFunc("POST /test/end", func(http.ResponseWriter, *http.Request) { s.End() })
	s.mux.HandleFunc("GET /test/seen", func(w http.ResponseWriter, _ *http.Request) {
		seen := s.Seen()
		fmt.Fprintf(w, "registered %d\nauthorized %d\nexchanged %d\nrefreshed %d\nreused %d\nrevoked %d\ncalls %d\nrefused %d\n",
			seen.Registered, seen.Authorized, seen.Exchanged, seen.Refreshed, seen.Reused, seen.Revoked, seen.Calls, seen.Refused)
	})
	s.mux.HandleFunc("GET /test/bearers", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, strings.Join(s.Bearers(), "\n")) })
	s.mux.HandleFunc("GET /test/secrets", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, strings.Join(s.Secrets(), "\n")) })
}

// tools: echo for everybody, admin for tokens with that scope.
func (s *Server) tools() *server.MCPServer {
	m := server.NewMCPServer("protected", "1")
	for _, name := range []string{"echo", "admin"} {
		m.AddTool(mcp.NewTool(name), func(_ context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			s.mu.Lock()
			s.seen.Calls++
			s.mu.Unlock()
			return mcp.NewToolResultText(name + " did it"), nil
		})
	}
	return m
}

// challengeOf is s256 of a verifier.
func challengeOf(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
