package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/rs/zerolog"

	"github.com/openleash/openleash-go/internal/oauth"
)

// HTTPUpstream is an upstream that speaks Streamable HTTP, or, to DialSSE, the
// transport before it.
type HTTPUpstream struct {
	Name    string            // for messages; empty: the URL's host
	URL     string            // the MCP endpoint
	Headers map[string]string // what it gets besides the protocol's own; a bearer, say
	Bearer  *oauth.Bearer     // the token of a login, on every request; nil: there is none
	Log     zerolog.Logger    // what its host does not hear: sessions that were begun anew

	transport *http.Transport // made by prepare where it is nil
}

// newTransport has no limit on how long an answer may take: a tool may work
// for an hour.
func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: time.Second,
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          256,
		MaxIdleConnsPerHost:   64,
		IdleConnTimeout:       90 * time.Second,
		DisableCompression:    true, // events must arrive when they are sent
	}
}

// prepare fills in what was left out.
func (u HTTPUpstream) prepare() (HTTPUpstream, error) {
	parsed, err := url.Parse(u.URL)
	if err != nil || parsed.Host == "" || parsed.Scheme != "http" && parsed.Scheme != "https" {
		return u, fmt.Errorf("upstream url %q: want http://… or https://…", u.URL)
	}
	if u.Name == "" {
		u.Name = parsed.Host
	}
	if u.transport == nil {
		u.transport = newTransport()
	}
	return u, nil
}

// do sends one request. The headers are the protocol's; the configured ones
// go over them. sent tells whether a byte may have reached the upstream; wrote
// is called when the request is on its way.
//
// A login's token goes with it. A 401 is certain not to have done anything, so
// then, and only then, the request is sent once more, with another token.
func (u HTTPUpstream) do(ctx context.Context, method string, h http.Header, body []byte, wrote func()) (res *http.Response, sent bool, err error) {
	if u.Bearer == nil {
		return u.send(ctx, method, h, body, "", wrote)
	}
	token, err := u.Bearer.Token(ctx)
	if err != nil {
		return nil, false, err
	}
	res, sent, err = u.send(ctx, method, h.Clone(), body, token, wrote)
	if err != nil || res.StatusCode != http.StatusUnauthorized || token == "" {
		return res, sent, err
	}
	other, err := u.Bearer.Renew(ctx, token)
	if err != nil {
		res.Body.Close()
		return nil, false, err
	}
	if other == "" {
		return res, sent, nil
	}
	res.Body.Close()
	return u.send(ctx, method, h, body, other, wrote)
}

// send sends one request, with a login's token if there is one.
func (u HTTPUpstream) send(ctx context.Context, method string, h http.Header, body []byte, token string, wrote func()) (res *http.Response, sent bool, err error) {
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
		WroteRequest: func(httptrace.WroteRequestInfo) {
			if wrote != nil {
				wrote()
			}
		},
	})
	var content io.Reader
	if body != nil {
		content = bytes.NewReader(body)
		h.Set("Content-Type", typeJSON)
	}
	req, err := http.NewRequestWithContext(ctx, method, u.URL, content)
	if err != nil {
		return nil, false, err
	}
	h.Set("Accept-Encoding", "identity")
	req.Header = h
	for name, value := range u.Headers {
		req.Header.Set(name, value)
		if http.CanonicalHeaderKey(name) == "Host" {
			req.Host = value
		}
	}
	if user := req.URL.User; user != nil && h.Get("Authorization") == "" {
		password, _ := user.Password()
		req.SetBasicAuth(user.Username(), password)
	}
	if token != "" {
		h.Set("Authorization", "Bearer "+token)
	}
	// Not by a Client: it would follow redirects, and those could carry the
	// headers' secrets, and the call, elsewhere (turnedAway tells).
	res, err = u.transport.RoundTrip(req)
	return res, connected.Load(), err
}

// unreachable says why an exchange failed: for the model, which may try again
// when nothing was sent, and must not when something was.
func (u HTTPUpstream) unreachable(err error, sent bool) failure {
	if errors.Is(err, context.Canceled) {
		return failure{status: "cancelled", detail: "the host went away before " + u.Name + " answered", unsent: !sent}
	}
	if noToken := (*oauth.TokenError)(nil); errors.As(err, &noToken) {
		return failure{status: "transport_error", detail: noToken.Error()}
	}
	if sent {
		return failure{status: "unknown", detail: fmt.Sprintf("the upstream server %s broke off before it answered (%v). Whether it did what was asked is not known: look before you repeat it", u.Name, err)}
	}
	return failure{status: "transport_error", detail: fmt.Sprintf("the upstream server %s cannot be reached (%v). Nothing was sent to it. Check that it runs and that its url in the configuration is right, then try again", u.Name, err), unsent: true}
}

// broken says that an answer ended before its time.
func (u HTTPUpstream) broken(err error) failure {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("it closed the stream")
	}
	return u.unreachable(err, true)
}

// turnedAway reports answers that concern us and not the host: what the
// upstream thinks of our credentials, and where it would send us.
func (u HTTPUpstream) turnedAway(res *http.Response) (failure, bool) {
	switch {
	case res.StatusCode == http.StatusUnauthorized, res.StatusCode == http.StatusProxyAuthRequired,
		res.StatusCode == http.StatusForbidden && res.Header.Get("WWW-Authenticate") != "":
		return failure{status: "transport_error", detail: u.notBelieved(res)}, true
	case res.StatusCode >= 300 && res.StatusCode < 400:
		return failure{status: "transport_error", detail: fmt.Sprintf("the upstream server %s redirects to %s; redirects are not followed. Write the new address into the configuration if it is right", u.Name, where(res))}, true
	case res.Header.Get("Content-Encoding") != "" && res.Header.Get("Content-Encoding") != "identity":
		return failure{status: "unknown", detail: fmt.Sprintf("the upstream server %s answered with Content-Encoding %s, which was not asked for", u.Name, res.Header.Get("Content-Encoding"))}, true
	}
	return failure{}, false
}

// notBelieved says what the owner must do so that the upstream accepts us.
func (u HTTPUpstream) notBelieved(res *http.Response) string {
	challenge, _ := oauth.ReadChallenge(res.Header)
	switch {
	case u.Bearer == nil || res.StatusCode == http.StatusProxyAuthRequired:
		return fmt.Sprintf("the upstream server %s did not accept our credentials (%s). Its owner must check the headers: of this server in OpenLeash's configuration; the host's own token is never passed on", u.Name, res.Status)
	case res.StatusCode == http.StatusUnauthorized:
		return fmt.Sprintf("the upstream server %s wants a login (%s). Nothing was done. Its owner signs in with: %s (or puts a token of the server's under headers: in OpenLeash's configuration); the host's own token is never passed on", u.Name, res.Status, oauth.LoginCommand(u.Name, ""))
	case challenge.Error == "insufficient_scope":
		return fmt.Sprintf("the upstream server %s wants a scope that the login does not have (%s, insufficient_scope: %s). Nothing was done. Its owner can sign in for it with: %s", u.Name, res.Status, challenge.Wants(), oauth.LoginCommand(u.Name, challenge.Scope))
	}
	return fmt.Sprintf("the upstream server %s does not let this login do that (%s). Nothing was done. Its owner can sign in as somebody else with: %s", u.Name, res.Status, oauth.LoginCommand(u.Name, ""))
}

func where(res *http.Response) string {
	to, err := res.Location()
	if err != nil {
		return "nowhere"
	}
	return to.Scheme + "://" + to.Host + to.EscapedPath()
}

// mediaType is the type of a response's body, without parameters.
func mediaType(h http.Header) string {
	value := h.Get("Content-Type")
	if value == typeJSON {
		return typeJSON // nearly always
	}
	kind, _, err := mime.ParseMediaType(value)
	if err != nil {
		return ""
	}
	return kind
}

// readAnswer reads a body whole.
func readAnswer(res *http.Response) ([]byte, error) {
	raw, err := readWhole(io.LimitReader(res.Body, maxUpstream+1), res.ContentLength)
	if err == nil && len(raw) > maxUpstream {
		err = fmt.Errorf("its answer is longer than %d bytes, the limit for one message", maxUpstream)
	}
	return raw, err
}

// readWhole is io.ReadAll with room for what is announced (-1: nothing is), in
// reason.
func readWhole(r io.Reader, announced int64) ([]byte, error) {
	var b bytes.Buffer
	b.Grow(int(min(max(announced, 0), 64<<10)) + bytes.MinRead)
	_, err := b.ReadFrom(r)
	return b.Bytes(), err
}

// excerpt is the beginning of a body that explains a failure, on one line.
func excerpt(body []byte) string {
	text := strings.Join(strings.Fields(strings.ToValidUTF8(string(body[:min(len(body), 300)]), "")), " ")
	if text == "" {
		return ""
	}
	return ": " + text
}

// mirrorHeaders are the headers that repeat the body. "The client MUST include
// the request metadata headers on each POST request" (2026-07-28).
func mirrorHeaders(h http.Header, m Message) {
	h.Set(mcp.HeaderMethod, m.Method)
	member := nameMember(m.Method)
	if member == "" {
		return
	}
	if name, ok := stringAt(m.Raw, "params", member); ok {
		value, _ := mcp.EncodeHeaderValue(name)
		h.Set(mcp.HeaderName, value)
	}
}

// nameMember is the member of params that Mcp-Name repeats.
func nameMember(method string) string {
	switch method {
	case "tools/call", "prompts/get":
		return "name"
	case "resources/read":
		return "uri"
	case "tasks/get", "tasks/update", "tasks/cancel":
		return "taskId" // "the client MUST set the Mcp-Name header to the value of params.taskId"
	}
	return ""
}
