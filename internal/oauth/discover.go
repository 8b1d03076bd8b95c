package oauth

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// place is where one signs in for a server, and how.
type place struct {
	resource string   // the server's identifier (RFC 8707)
	scopes   []string // that it says it has

	issuer                             string
	authorize, token, register, revoke string   // endpoints; the last two may be empty
	methods                            []string // how clients show who they are at the token endpoint
	namesIssuer                        bool     // in its answer (RFC 9207)
	offline                            bool     // it knows the scope offline_access
	challenge                          Challenge
}

// discover asks the server who gives out tokens for it, and that one how.
func (c caller) discover(ctx context.Context, s Server) (*place, error) {
	challenge, status, err := c.ask(ctx, s)
	if err != nil {
		return nil, err
	}
	p := &place{challenge: challenge}
	issuer, err := c.protectedResource(ctx, s, p)
	if err != nil {
		return nil, err
	}
	if issuer == "" && status != http.StatusUnauthorized {
		return nil, fmt.Errorf("the server %s asks for no login: it answered a request without one with %d", s.Name, status)
	}
	if err := c.authorizationServer(ctx, s, p, issuer); err != nil {
		return nil, err
	}
	return p, nil
}

// ask sends the server a request without a token, to be told what it wants. A
// ping changes nothing, whatever it is answered with.
func (c caller) ask(ctx context.Context, s Server) (Challenge, int, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	method, body := http.MethodPost, []byte(`{"jsonrpc":"2.0","id":1,"method":"ping"}`)
	header := http.Header{"Accept": {"application/json, text/event-stream"}, "Content-Type": {"application/json"}}
	if s.SSE {
		method, body, header = http.MethodGet, nil, http.Header{"Accept": {"text/event-stream"}}
	}
	for name, value := range s.Headers {
		header.Set(name, value)
	}
	res, err := c.roundTrip(ctx, method, s.URL, header, body)
	if err != nil {
		return Challenge{}, 0, fmt.Errorf("the server %s cannot be reached: %w", s.Name, err)
	}
	res.Body.Close()
	if res.StatusCode >= 300 && res.StatusCode < 400 {
		return Challenge{}, 0, fmt.Errorf("the server %s answered %s. Write the new address into the configuration if it is right", s.Name, came(res))
	}
	challenge, _ := ReadChallenge(res.Header)
	return challenge, res.StatusCode, nil
}

// protectedResource reads the server's own metadata: "using the resource metadata
// URL from [WWW-Authenticate] when present; otherwise, they MUST fall back to
// constructing and requesting the well-known URIs". issuer is empty when it has
// none, as in servers of before (2025-03-26).
func (c caller) protectedResource(ctx context.Context, s Server, p *place) (issuer string, err error) {
	base, err := url.Parse(s.URL)
	if err != nil {
		return "", err
	}
	p.resource = canonical(base)
	for _, address := range resourceMetadata(base, p.challenge) {
		u, err := c.allowed(address, "the metadata of server "+s.Name)
		if err != nil {
			return "", err
		}
		if origin(u) != origin(base) {
			return "", fmt.Errorf("the server %s says that its metadata is at %s: another origin than its own", s.Name, shown(address))
		}
		a, err := c.send(ctx, http.MethodGet, address, http.Header{"Accept": {"application/json"}}, nil)
		switch {
		case err != nil:
			return "", fmt.Errorf("the metadata of server %s at %s: %w", s.Name, address, err)
		case a.status == http.StatusOK:
			issuer, err := p.readResource(a.body, base)
			if err != nil {
				return "", fmt.Errorf("the metadata of server %s at %s: %w", s.Name, address, err)
			}
			return issuer, nil
		case p.challenge.ResourceMetadata != "":
			return "", fmt.Errorf("the metadata of server %s at %s: it answered %s", s.Name, address, a.came)
		}
	}
	return "", nil
}

// resourceMetadata are the addresses at which a server's metadata may be.
func resourceMetadata(base *url.URL, challenge Challenge) []string {
	if challenge.ResourceMetadata != "" {
		return []string{challenge.ResourceMetadata}
	}
	root := base.Scheme + "://" + base.Host + "/.well-known/oauth-protected-resource"
	if path := strings.TrimSuffix(base.EscapedPath(), "/"); path != "" {
		return []string{root + path, root}
	}
	return []string{root}
}

// canonical is a server's URL as its identifier.
func canonical(base *url.URL) string {
	u := &url.URL{Scheme: base.Scheme, Host: strings.ToLower(base.Host), Path: base.Path, RawPath: base.RawPath, RawQuery: base.RawQuery}
	if u.Path == "/" {
		u.Path = ""
	}
	return u.String()
}

// readResource reads a server's metadata. "The resource value returned MUST be
// identical to the protected resource's resource identifier" (RFC 9728): else a
// server could have tokens made out that are good at another. An identifier above
// the URL, of the same origin, is the same server.
func (p *place) readResource(raw []byte, base *url.URL) (issuer string, err error) {
	d, err := readDocument(raw)
	if err != nil {
		return "", err
	}
	resource, servers := d.text("resource"), d.texts("authorization_servers")
	p.scopes = d.texts("scopes_supported")
	if d.err != nil {
		return "", d.err
	}
	if !covers(resource, base) {
		return "", fmt.Errorf("resource is %s, want %s", shown(resource), shown(p.resource))
	}
	if len(servers) == 0 || servers[0] == "" {
		return "", fmt.Errorf("it names no authorization_servers")
	}
	p.resource = resource
	return servers[0], nil
}

func covers(resource string, base *url.URL) bool {
	u, err := url.Parse(resource)
	if err != nil || u.Host == "" || origin(u) != origin(base) || u.User != nil || u.Fragment != "" || u.RawQuery != "" && u.RawQuery != base.RawQuery {
		return false
	}
	above, path := strings.TrimSuffix(u.EscapedPath(), "/"), strings.TrimSuffix(base.EscapedPath(), "/")
	return above == path || strings.HasPrefix(path, above+"/")
}

// authorizationServer reads the metadata of who gives out the tokens. Without an
// issuer it is the server's own origin, as it was before there was metadata of
// servers (2025-03-26).
func (c caller) authorizationServer(ctx context.Context, s Server, p *place, issuer string) error {
	if issuer == "" {
		base, err := url.Parse(s.URL)
		if err != nil {
			return err
		}
		issuer = base.Scheme + "://" + base.Host
	}
	u, err := c.allowed(issuer, "the authorization server of "+s.Name)
	if err != nil {
		return err
	}
	if u.RawQuery != "" {
		return fmt.Errorf("the authorization server of %s, %s: an issuer has no query", s.Name, shown(issuer))
	}
	var tried []string
	for _, address := range serverMetadata(u) {
		a, err := c.send(ctx, http.MethodGet, address, http.Header{"Accept": {"application/json"}}, nil)
		if err != nil {
			return fmt.Errorf("the authorization server of %s: %s: %w", s.Name, address, err)
		}
		if a.status == http.StatusOK {
			if err := c.readServer(p, a.body, issuer); err != nil {
				return fmt.Errorf("the authorization server of %s: its metadata at %s: %w", s.Name, address, err)
			}
			return nil
		}
		tried = append(tried, address+" ("+a.came+")")
	}
	return fmt.Errorf("the authorization server of %s has no metadata; it was looked for at %s", s.Name, strings.Join(tried, ", "))
}

// serverMetadata are the addresses at which an authorization server's metadata
// may be, in the order of the specification.
func serverMetadata(issuer *url.URL) []string {
	root, path := issuer.Scheme+"://"+issuer.Host, strings.TrimSuffix(issuer.EscapedPath(), "/")
	list := []string{root + "/.well-known/oauth-authorization-server" + path, root + "/.well-known/openid-configuration" + path}
	if path != "" {
		list = append(list, root+path+"/.well-known/openid-configuration")
	}
	return list
}

// readServer reads an authorization server's metadata.
func (c caller) readServer(p *place, raw []byte, issuer string) error {
	d, err := readDocument(raw)
	if err != nil {
		return err
	}
	p.issuer = d.text("issuer")
	p.authorize, p.token = d.text("authorization_endpoint"), d.text("token_endpoint")
	p.register, p.revoke = d.text("registration_endpoint"), d.text("revocation_endpoint")
	p.methods = d.texts("token_endpoint_auth_methods_supported")
	p.namesIssuer = d.truth("authorization_response_iss_parameter_supported")
	p.offline = slices.Contains(d.texts("scopes_supported"), offlineAccess)
	challenges := d.texts("code_challenge_methods_supported")
	if d.err != nil {
		return d.err
	}
	// "The issuer value in the document MUST be identical to the issuer identifier
	// used to construct the well-known URL." A host with and without the slash
	// after it are one address.
	if p.issuer != issuer && bareHost(p.issuer) != bareHost(issuer) {
		return fmt.Errorf("issuer is %s, want %s", shown(p.issuer), shown(issuer))
	}
	// "If code_challenge_methods_supported is absent, the authorization server does
	// not support PKCE and MCP clients MUST refuse to proceed."
	if !slices.Contains(challenges, "S256") {
		return fmt.Errorf("code_challenge_methods_supported does not have S256: without it a stolen code is a stolen login, so we do not sign in there")
	}
	return c.allowedEndpoints(p)
}

// bareHost takes the slash off an address that has no other path.
func bareHost(address string) string {
	if u, err := url.Parse(address); err == nil && u.Path == "/" {
		return strings.TrimSuffix(address, "/")
	}
	return address
}

func (c caller) allowedEndpoints(p *place) error {
	for _, e := range []struct {
		name, address string
		optional      bool
	}{{"authorization_endpoint", p.authorize, false}, {"token_endpoint", p.token, false}, {"registration_endpoint", p.register, true}, {"revocation_endpoint", p.revoke, true}} {
		if e.address == "" && e.optional {
			continue
		}
		if _, err := c.allowed(e.address, e.name); err != nil {
			return err
		}
	}
	return nil
}
