package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// client is who we are to an authorization server.
type client struct {
	id, secret string
	method     string // how we show it at the token endpoint
	registered bool   // by us: the secret is ours to keep
}

// How clients show who they are (RFC 7591, section 2).
const (
	byNothing = "none"
	byBasic   = "client_secret_basic"
	byPost    = "client_secret_post"
)

// clientFor is the client of the configuration, or one that we register.
func (c caller) clientFor(ctx context.Context, s Server, p *place, redirect string, scopes []string) (client, error) {
	switch {
	case s.ClientID != "":
		return configured(s, p.methods), nil
	case p.register == "":
		return client{}, fmt.Errorf("the authorization server %s registers nobody by itself: register OpenLeash there by hand, with the redirect address http://127.0.0.1/callback, and write oauth: {client_id: …} under server %s in the configuration", p.issuer, s.Name)
	}
	return c.registerClient(ctx, p, redirect, scopes)
}

// configured is the client of the configuration. An authorization server that
// does not say how secrets are shown takes client_secret_basic (RFC 8414).
func configured(s Server, methods []string) client {
	cl := client{id: s.ClientID, secret: s.ClientSecret, method: byBasic}
	switch {
	case cl.secret == "":
		cl.method = byNothing
	case len(methods) > 0 && !slices.Contains(methods, byBasic) && slices.Contains(methods, byPost):
		cl.method = byPost
	}
	return cl
}

// registerClient registers (RFC 7591) as a public client where that is possible.
// Each login does it anew, since its port is part of the address that is
// registered, and many servers compare that to the letter.
func (c caller) registerClient(ctx context.Context, p *place, redirect string, scopes []string) (client, error) {
	method := byNothing
	if len(p.methods) > 0 && !slices.Contains(p.methods, byNothing) {
		if method = byBasic; !slices.Contains(p.methods, byBasic) {
			method = byPost
		}
	}
	wanted := map[string]any{
		"client_name": "OpenLeash", "application_type": "native", "redirect_uris": []string{redirect},
		"grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"}, "token_endpoint_auth_method": method,
	}
	if len(scopes) > 0 {
		wanted["scope"] = strings.Join(scopes, " ")
	}
	body, err := json.Marshal(wanted)
	if err != nil {
		return client{}, err
	}
	a, err := c.send(ctx, http.MethodPost, p.register, http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json"}}, body)
	if err != nil {
		return client{}, fmt.Errorf("registering at %s: %w", p.register, err)
	}
	if a.status != http.StatusOK && a.status != http.StatusCreated {
		_, text := said(a, nil)
		return client{}, fmt.Errorf("registering at %s was refused: %s", p.register, text)
	}
	cl, err := readClient(a.body, method)
	if err != nil {
		return client{}, fmt.Errorf("registering at %s: %w", p.register, err)
	}
	return cl, nil
}

// readClient reads what was registered; the method may be another than wanted.
func readClient(raw []byte, method string) (client, error) {
	d, err := readDocument(raw)
	if err != nil {
		return client{}, err
	}
	cl := client{id: d.text("client_id"), secret: d.text("client_secret"), method: d.text("token_endpoint_auth_method"), registered: true}
	if cl.method == "" {
		cl.method = method
	}
	switch {
	case d.err != nil:
		return client{}, d.err
	case cl.id == "":
		return client{}, errors.New("its answer has no client_id")
	case cl.method != byNothing && cl.method != byBasic && cl.method != byPost:
		return client{}, fmt.Errorf("token_endpoint_auth_method %s is none that we have", shown(cl.method))
	case cl.method != byNothing && cl.secret == "":
		return client{}, fmt.Errorf("its answer has no client_secret, which %s takes", cl.method)
	}
	return cl, nil
}

// post sends a form to the authorization server, with who we are.
func (c caller) post(ctx context.Context, endpoint string, cl client, form url.Values) (answer, error) {
	header := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Accept": {"application/json"}}
	switch cl.method {
	case byBasic: // encoded before: RFC 6749, section 2.3.1
		req := http.Request{Header: header}
		req.SetBasicAuth(url.QueryEscape(cl.id), url.QueryEscape(cl.secret))
	case byPost:
		form.Set("client_secret", cl.secret)
		fallthrough
	default:
		form.Set("client_id", cl.id)
	}
	return c.send(ctx, http.MethodPost, endpoint, header, []byte(form.Encode()))
}

// tokens are what the token endpoint gives.
type tokens struct {
	access, refresh, scope string
	lifetime               time.Duration // 0: not said
}

// refused is an error of the token endpoint.
type refused struct{ code, text string }

func (r *refused) Error() string { return r.text }

// isOver reports whether a refresh token is good no more: "The provided […]
// refresh token is invalid, expired, revoked" (RFC 6749, section 5.2). A client
// that we registered and that is not known any more comes to the same. One of the
// configuration may only have a wrong secret in the environment of one process.
func isOver(err error, registered bool) bool {
	var r *refused
	return errors.As(err, &r) && (r.code == "invalid_grant" || registered && (r.code == "invalid_client" || r.code == "unauthorized_client"))
}

// exchange asks the token endpoint.
func (c caller) exchange(ctx context.Context, endpoint string, cl client, form url.Values) (tokens, error) {
	a, err := c.post(ctx, endpoint, cl, form)
	if err != nil {
		return tokens{}, err
	}
	// Some answer errors with 200.
	if d, e := readDocument(a.body); a.status >= 300 || e == nil && d.text("error") != "" {
		code, text := said(a, append(secretsIn(form), cl.secret))
		return tokens{}, &refused{code, text}
	}
	return readTokens(a.body)
}

// bearerToken is a token that can stand in a header (RFC 6750, b64token, and
// whatever else servers make up that is visible).
var bearerToken = regexp.MustCompile(`^[\x21-\x7E]+$`)

const (
	maxToken = 16 << 10 // servers refuse longer headers
	maxScope = 4 << 10  // it stands in the log
)

func readTokens(raw []byte) (tokens, error) {
	d, err := readDocument(raw)
	if err != nil {
		return tokens{}, err
	}
	kind := d.text("token_type")
	t := tokens{access: d.text("access_token"), refresh: d.text("refresh_token"), scope: strings.Join(union(strings.Fields(d.text("scope"))), " "), lifetime: d.seconds("expires_in")}
	switch {
	case d.err != nil:
		return tokens{}, d.err
	case !strings.EqualFold(kind, "Bearer"):
		return tokens{}, fmt.Errorf("token_type is %s, want Bearer", shown(kind))
	case !bearerToken.MatchString(t.access) || len(t.access) > maxToken:
		return tokens{}, errors.New("its answer has no access_token that fits into a header")
	case len(t.scope) > maxScope:
		return tokens{}, fmt.Errorf("its scope is longer than %d bytes", maxScope)
	case len(t.refresh) > maxToken:
		return tokens{}, fmt.Errorf("its refresh_token is longer than %d bytes", maxToken)
	}
	return t, nil
}
