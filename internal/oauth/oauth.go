// Package oauth is the client's half of MCP's authorization (2025-11-25 and
// 2026-07-28), towards servers over HTTP that want a login:
//
//	Folder.Login    a person signs in, once, in a browser
//	Bearer.Token    what goes with each request; renewed when it is needed
//	Bearer.Renew    after a 401
//	Folder.Logout   revokes and forgets
//
// A login finds the authorization server (RFC 9728, then RFC 8414 or OpenID
// Connect Discovery), registers (RFC 7591) unless a client is configured, and
// gets a code at a port of 127.0.0.1 (RFC 8252), with PKCE by S256, the resource
// (RFC 8707), a state, and the issuer checked (RFC 9207).
//
// What is held to throughout: an address is https, or http on this machine if the
// MCP server is on this machine too; no redirect is followed; bodies and times
// are bounded; of what the other side says in an error no token, code or secret
// is repeated. A token is bound to the URL that it was got for, and to its issuer.
//
// mcp-go has this half too (client/transport, OAuthHandler). From there are the
// verifier, the challenge and the state. The rest of it does not keep the rules
// above: it does not ask for S256, ignores the challenge's scope and the iss of
// the answer, guesses endpoints where there is no metadata, reads tokens without
// a bound and quotes bodies in errors, tells no refused refresh from a broken
// line, and has one process in mind: two would spend a refresh token twice, which
// a strict server answers by ending the login. golang.org/x/oauth2 cannot send
// the resource with a refresh.
package oauth

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Server is an MCP server behind a login.
type Server struct {
	Name string // in the configuration
	URL  string
	SSE  bool // it speaks the transport before Streamable HTTP
	// Headers go with the one request that asks the server what it wants.
	Headers map[string]string
	// ClientID is who we are to its authorization server. Empty: we register. An
	// https:// address is a Client ID Metadata Document.
	ClientID string
	// ClientSecret belongs to ClientID; it is never stored.
	ClientSecret string
	// Scopes are asked for when the server does not say which it wants.
	Scopes []string
}

// TokenError is why there is no token for a request: whole sentences, for the
// model and its owner. Nothing was done by the server.
type TokenError struct {
	text string
}

func (e *TokenError) Error() string { return e.text }

// loginAgain says that a person must sign in.
func loginAgain(server, why string) *TokenError {
	return &TokenError{fmt.Sprintf("the login at the upstream server %s has ended (%s). Nothing was done. Its owner signs in again with: openleash login %s", server, why, server)}
}

// plainScope is a scope that can stand in a command that a person, or a model,
// copies into a shell.
var plainScope = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9:._/@+-]{0,199}$`)

// LoginCommand is what the owner types to sign in, with scopes beside the usual
// ones; those that a shell could take for more than a word are left out.
func LoginCommand(server, scopes string) string {
	command := "openleash login " + server
	for _, scope := range plainScopes(scopes) {
		command += " --scope " + scope
	}
	return command
}

// plainScopes are the scopes of a list that can be shown as they are.
func plainScopes(list string) []string {
	scopes := strings.Fields(list)
	return slices.DeleteFunc(scopes[:min(len(scopes), 20)], func(s string) bool { return !plainScope.MatchString(s) })
}

// scopeToken is a scope (RFC 6749, section 3.3).
var scopeToken = regexp.MustCompile(`^[\x21\x23-\x5B\x5D-\x7E]+$`)

// ValidScope reports whether s is one scope.
func ValidScope(s string) bool { return scopeToken.MatchString(s) }

// union joins lists, each scope once, in order.
func union(lists ...[]string) []string {
	var all []string
	for _, list := range lists {
		for _, s := range list {
			if ValidScope(s) && !slices.Contains(all, s) {
				all = append(all, s)
			}
		}
	}
	return all
}

// origin is scheme, host and port.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}
