package oauth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	// maxBody bounds a document of the other side.
	maxBody = 1 << 20
	// maxAddress bounds an address that it names.
	maxAddress = 2000
	// answerWithin is how long one request may take.
	answerWithin = 20 * time.Second
)

// caller makes the requests that a server's login takes.
type caller struct {
	local bool // the MCP server is on this machine, so its authorization server may be
}

// callerFor returns the caller for a server, whose own URL must be safe for a
// token.
func callerFor(s Server) (caller, error) {
	u, err := url.Parse(s.URL)
	if err != nil {
		return caller{}, fmt.Errorf("server %s: its url is none: %w", s.Name, err)
	}
	c := caller{local: isLoopback(u.Hostname())}
	if u.Scheme != "https" && !c.local {
		return c, fmt.Errorf("server %s: %s: a token would travel in the clear; want https://", s.Name, shown(s.URL))
	}
	return c, nil
}

// isLoopback reports whether a host is this machine by its name or number alone.
func isLoopback(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
}

// allowed reads an address that the other side has named. "Clients […] MUST […]
// HTTPS", but on this machine; and a server elsewhere may not make us knock on
// the doors of our own machine.
func (c caller) allowed(address, what string) (*url.URL, error) {
	if len(address) > maxAddress {
		return nil, fmt.Errorf("%s %s: is longer than %d bytes", what, shown(address), maxAddress)
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return nil, fmt.Errorf("%s %s: want an address that begins with https://", what, shown(address))
	}
	switch here := isLoopback(u.Hostname()); {
	case u.Scheme == "https" && (c.local || !here), u.Scheme == "http" && c.local && here:
		return u, nil
	case here:
		return nil, fmt.Errorf("%s %s: is on this machine, and the server is not", what, shown(address))
	}
	return nil, fmt.Errorf("%s %s: want https://", what, shown(address))
}

// answer is what a request was answered with.
type answer struct {
	status int
	header http.Header
	body   []byte
	came   string // for messages: the status, and where a redirect leads
}

// send makes one request and reads the answer whole.
func (c caller) send(ctx context.Context, method, address string, header http.Header, body []byte) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	res, err := c.roundTrip(ctx, method, address, header, body)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	if err == nil && len(raw) > maxBody {
		err = fmt.Errorf("its answer is longer than %d bytes", maxBody)
	}
	return answer{res.StatusCode, res.Header, raw, came(res)}, err
}

// roundTrip makes one request. Not by a Client: that would follow redirects, and
// take what we send, codes and secrets, elsewhere.
func (c caller) roundTrip(ctx context.Context, method, address string, header http.Header, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header = header.Clone()
	req.Header.Set("User-Agent", "openleash")
	through, err := http.ProxyFromEnvironment(req)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	if through == nil && !c.local {
		dialer.Control = notHere // a name may lead here as well
	}
	transport := &http.Transport{Proxy: http.ProxyURL(through), DialContext: dialer.DialContext, TLSHandshakeTimeout: 10 * time.Second, DisableKeepAlives: true, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: 64 << 10}
	return transport.RoundTrip(req)
}

var errHere = errors.New("it leads to this machine or its link, and the server is elsewhere")

// notHere refuses connections to this machine, and to the addresses at which
// clouds give their secrets away.
func notHere(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if ip := to.Addr().Unmap(); ip.IsLoopback() || ip.IsUnspecified() || ip.IsLinkLocalUnicast() || ip.IsMulticast() {
		return errHere
	}
	return nil
}

// came says in a few words what an answer is.
func came(res *http.Response) string {
	if to, err := res.Location(); err == nil && res.StatusCode >= 300 && res.StatusCode < 400 {
		return fmt.Sprintf("%d, a redirect to %s, which is not followed", res.StatusCode, shown(to.Scheme+"://"+to.Host+to.EscapedPath()))
	}
	return fmt.Sprint(res.StatusCode)
}

// document is a JSON object of the other side. encoding/json alone would take
// keys of other case for ours, and the last of two.
type document struct {
	members map[string]json.RawMessage
	err     error // the first member that was not as wanted
}

func readDocument(raw []byte) (*document, error) {
	d := &document{members: map[string]json.RawMessage{}}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("it is no JSON object")
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, errors.New("it is no JSON object")
		}
		name, _ := key.(string)
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, errors.New("it is no JSON object")
		}
		if _, twice := d.members[name]; twice {
			return nil, fmt.Errorf("it has %s twice", shown(name))
		}
		d.members[name] = value
	}
	if _, err := dec.Token(); err != nil {
		return nil, errors.New("it is no JSON object")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows its JSON object")
	}
	return d, nil
}

// take reads a member into v; one that is absent or null leaves it.
func (d *document) take(key string, v any, want string) {
	raw, ok := d.members[key]
	if !ok || string(raw) == "null" {
		return
	}
	if err := json.Unmarshal(raw, v); err != nil && d.err == nil {
		d.err = fmt.Errorf("%s: want %s", key, want)
	}
}

func (d *document) text(key string) (s string) {
	d.take(key, &s, "a text")
	return s
}

func (d *document) texts(key string) (list []string) {
	d.take(key, &list, "a list of texts")
	return list
}

func (d *document) truth(key string) (b bool) {
	d.take(key, &b, "true or false")
	return b
}

// seconds reads a whole number, which some servers write as a text.
func (d *document) seconds(key string) time.Duration {
	var n json.Number
	d.take(key, &n, "a number of seconds")
	whole, err := n.Int64()
	if err != nil {
		f, _ := n.Float64()
		whole = int64(max(0, min(f, 1e9)))
	}
	return time.Duration(max(0, min(whole, 1e9))) * time.Second
}

// shown is a text of the other side, fit for a message.
func shown(s string) string {
	if runes := []rune(s); len(runes) > 200 {
		s = string(runes[:200]) + "…"
	}
	return fmt.Sprintf("%+q", s)
}

// said is what an answer says of its refusal: error and error_description
// (RFC 6749, section 5.2), without what we have sent in secret.
func said(a answer, secrets []string) (code, text string) {
	d, err := readDocument(a.body)
	if err != nil {
		return "", a.came
	}
	return refusalWords(d.text("error"), d.text("error_description"), a.came, secrets)
}

// refusalWords makes an error of the other side fit to be repeated.
func refusalWords(code, description, otherwise string, secrets []string) (string, string) {
	hide := func(s string) string {
		for _, secret := range secrets {
			for _, form := range []string{secret, url.QueryEscape(secret)} {
				if form != "" {
					s = strings.ReplaceAll(s, form, "[hidden]")
				}
			}
		}
		return s
	}
	code, description = hide(code), hide(description)
	switch {
	case code == "":
		return "", otherwise
	case description == "":
		return code, strings.Trim(shown(code), `"`)
	}
	return code, strings.Trim(shown(code), `"`) + ": " + shown(description)
}

// secretKeys are the members of our forms that nobody else may read.
var secretKeys = []string{"code", "code_verifier", "refresh_token", "client_secret", "token"}

// secretsIn are the secret values of a form.
func secretsIn(form url.Values) []string {
	var secrets []string
	for key, values := range form {
		if slices.Contains(secretKeys, key) {
			secrets = append(secrets, values...)
		}
	}
	return secrets
}
