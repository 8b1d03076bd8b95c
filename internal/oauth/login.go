package oauth

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mark3labs/mcp-go/client/transport"
)

const (
	// personWithin is how long the person has for the browser's part.
	personWithin = 10 * time.Minute
	// offlineAccess is asked for where it is known: "clients that desire refresh
	// tokens" may (2026-07-28).
	offlineAccess = "offline_access"
	callbackPath  = "/callback"
)

// Asking is how Login deals with the person.
type Asking struct {
	// Scopes are asked for beside those that the server wants.
	Scopes []string
	// Show shows the person where to sign in.
	Show func(issuer, link string)
	// Record is told before the login is kept; its error is the end.
	Record func(State) error
}

// Login signs in at a server: it finds out where, has the person sign in there
// with a browser of this machine, and keeps what it gets.
func (f Folder) Login(ctx context.Context, s Server, ask Asking) (State, error) {
	c, err := callerFor(s)
	if err != nil {
		return State{}, err
	}
	p, err := c.discover(ctx, s)
	if err != nil {
		return State{}, err
	}
	former, err := f.load(s.Name)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return State{}, err
	}
	if err := sameIssuer(s, former, p); err != nil {
		return State{}, err
	}
	l, err := c.signIn(ctx, s, p, wantedScopes(s, former, p, ask.Scopes), ask.Show)
	if err != nil {
		return State{}, err
	}
	unlock, err := f.lock(ctx, s.Name)
	if err != nil {
		return State{}, err
	}
	defer unlock()
	state := l.state(time.Now())
	if err := ask.Record(state); err != nil {
		return State{}, err
	}
	return state, f.save(l)
}

// sameIssuer: "If the authorization server […] no longer matches the one the
// credentials were registered with, clients SHOULD surface an error". A client of
// our own registration is registered anew; an address is good everywhere.
func sameIssuer(s Server, former *login, p *place) error {
	if former == nil || s.ClientID == "" || s.ClientID != former.ClientID || strings.HasPrefix(s.ClientID, "https://") || former.URL != s.URL || former.Issuer == p.issuer {
		return nil
	}
	return fmt.Errorf("the server %s names another authorization server than at the last login: %s, it was %s. The client_id of the configuration was made for the former. If the change is right: openleash logout %s, then sign in again", s.Name, p.issuer, former.Issuer, s.Name)
}

// wantedScopes: the challenge's, else the configuration's, else those that the
// server says it has; and, of a login that there is, what it was given, "to avoid
// losing permissions needed for other operations".
func wantedScopes(s Server, former *login, p *place, more []string) []string {
	scopes := strings.Fields(p.challenge.Scope)
	if len(scopes) == 0 {
		scopes = s.Scopes
	}
	if len(scopes) == 0 {
		scopes = p.scopes
	}
	var had []string
	if former != nil && former.URL == s.URL && former.Issuer == p.issuer && len(more) > 0 {
		had = strings.Fields(former.Scope)
	}
	all := union(scopes, had, more)
	if p.offline {
		all = union(all, []string{offlineAccess})
	}
	return all
}

// signIn gets a code with the person's help, and tokens for it.
func (c caller) signIn(ctx context.Context, s Server, p *place, scopes []string, show func(issuer, link string)) (*login, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening for the browser's answer: %w", err)
	}
	defer listener.Close()
	redirect := "http://" + listener.Addr().String() + callbackPath
	cl, err := c.clientFor(ctx, s, p, redirect, scopes)
	if err != nil {
		return nil, err
	}
	verifier, err := transport.GenerateCodeVerifier()
	if err != nil {
		return nil, err
	}
	state, err := transport.GenerateState()
	if err != nil {
		return nil, err
	}
	link, err := authorizationLink(p, cl.id, redirect, state, transport.GenerateCodeChallenge(verifier), scopes)
	if err != nil {
		return nil, err
	}
	code, err := waitForCode(ctx, listener, p, state, func() { show(p.issuer, link) })
	if err != nil {
		return nil, err
	}
	t, err := c.exchange(ctx, p.token, cl, url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {redirect}, "code_verifier": {verifier}, "resource": {p.resource}})
	if err != nil {
		return nil, fmt.Errorf("the authorization server %s gave no token: %w", p.issuer, err)
	}
	if t.scope == "" {
		t.scope = strings.Join(scopes, " ") // "OPTIONAL, if identical to the scope requested by the client"
	}
	l := &login{Server: s.Name, URL: s.URL, Resource: p.resource, Issuer: p.issuer, TokenEndpoint: p.token, RevocationEndpoint: p.revoke, ClientID: cl.id, Registered: cl.registered, AuthMethod: cl.method}
	if cl.registered {
		l.ClientSecret = cl.secret
	}
	l.put(t, time.Now())
	return l, nil
}

func authorizationLink(p *place, id, redirect, state, challenge string, scopes []string) (string, error) {
	u, err := url.Parse(p.authorize)
	if err != nil {
		return "", err
	}
	q := u.Query()
	for key, value := range map[string]string{"response_type": "code", "client_id": id, "redirect_uri": redirect, "state": state,
		"code_challenge": challenge, "code_challenge_method": "S256", "resource": p.resource} {
		q.Set(key, value)
	}
	if len(scopes) > 0 {
		q.Set("scope", strings.Join(scopes, " "))
	}
	if slices.Contains(scopes, offlineAccess) {
		q.Set("prompt", "consent") // OpenID Connect Core, section 11
	}
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// waitForCode serves the address that the browser comes back to, once.
func waitForCode(ctx context.Context, listener net.Listener, p *place, state string, show func()) (code string, err error) {
	ctx, cancel := context.WithTimeout(ctx, personWithin)
	defer cancel()
	came := make(chan url.Values, 1)
	server := &http.Server{Handler: callback(came), ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10}
	go server.Serve(listener)
	defer func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if server.Shutdown(grace) != nil {
			server.Close()
		}
	}()
	show()
	select {
	case answer := <-came:
		return readCode(answer, p, state)
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return "", fmt.Errorf("nobody has signed in within %v", personWithin)
		}
		return "", ctx.Err()
	}
}

// callback takes the first answer of the browser. What is in its address, the
// code, stays out of the page, of caches, and of what the page refers to.
func callback(came chan<- url.Values) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+callbackPath, func(w http.ResponseWriter, r *http.Request) {
		for name, value := range map[string]string{"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer",
			"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "X-Content-Type-Options": "nosniff"} {
			w.Header().Set(name, value)
		}
		select {
		case came <- r.URL.Query():
			fmt.Fprintln(w, "<!doctype html><title>OpenLeash</title><p>OpenLeash has the answer. Your terminal says what came of it; this page can be closed.")
		default:
			http.Error(w, "an answer has come already", http.StatusConflict)
		}
	})
	return mux
}

// readCode checks the browser's answer: that it belongs to our question (state),
// and that it is of the server that we asked (iss, RFC 9207), errors too: "on
// mismatch the client MUST NOT act on or display error, error_description".
func readCode(answer url.Values, p *place, state string) (string, error) {
	for _, key := range []string{"state", "iss", "code", "error"} {
		if len(answer[key]) > 1 {
			return "", fmt.Errorf("the browser came back with more than one %s; nothing was kept. Try again", key)
		}
	}
	issuer := answer.Get("iss")
	switch {
	case subtle.ConstantTimeCompare([]byte(answer.Get("state")), []byte(state)) != 1:
		return "", errors.New("the browser came back with another state than it was sent away with: this is the answer to somebody else's question. Nothing was kept; try again")
	case answer.Has("iss") && issuer != p.issuer:
		return "", fmt.Errorf("the browser came back from the authorization server %s, and was sent to %s. Nothing was kept", shown(issuer), p.issuer)
	case !answer.Has("iss") && p.namesIssuer:
		return "", fmt.Errorf("the browser came back without iss, which the authorization server %s says that it sends. Nothing was kept", p.issuer)
	case answer.Get("error") != "":
		_, text := refusalWords(answer.Get("error"), answer.Get("error_description"), "", nil)
		return "", fmt.Errorf("the authorization server %s refused: %s", p.issuer, text)
	case answer.Get("code") == "":
		return "", errors.New("the browser came back without a code")
	}
	return answer.Get("code"), nil
}
