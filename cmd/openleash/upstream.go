package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/internal/oauth"
	"github.com/openleash/openleash-go/proxy"
)

// newProxy puts a proxy in front of a server.
func (a *app) newProxy(s Server) (*proxy.Proxy, error) {
	profile, err := findProfile(s)
	if err != nil {
		return nil, err
	}
	hold := a.config.Hold
	if s.Hold != 0 {
		hold = s.Hold
	}
	p := proxy.New(proxy.Config{
		Name: s.Name, Service: a.service, Mapping: proxy.NewMapping(a.config.Mapping, profile),
		Hold: hold, HoldFor: a.config.AgentHold, Portal: a.config.portal(), Limits: a.config.limits(), Log: a.log,
		Places: s.places(), HideDenied: a.config.HideDenied, Pins: cmp.Or(s.Pins, a.config.Pins), Receipts: a.config.Receipts,
	})
	a.proxies.add(p)
	a.run(func(ctx context.Context) {
		<-ctx.Done()
		p.EndTasks()
	})
	return p, nil
}

// places are the folders from which the server may resolve relative paths.
func (s Server) places() []string {
	places := slices.Clone(s.Args)
	for _, p := range []string{s.Cwd, s.Env["HOME"], s.Env["USERPROFILE"]} {
		if p != "" {
			places = append(places, p)
		}
	}
	if u, err := s.account(); err == nil && u != nil {
		places = append(places, u.HomeDir)
	}
	return places
}

// findProfile returns the profile that the server's entry names, or the shipped
// one that fits how it is started; nil when there is none.
func findProfile(s Server) (*proxy.Profile, error) {
	shipped, err := proxy.ShippedProfiles()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, p := range shipped {
		if p.Name == s.Profile || s.Profile == "" && p.Fits(s.commandLine(), s.URL) {
			return p, nil
		}
		names = append(names, p.Name)
	}
	if s.Profile != "" && s.Profile != "none" {
		return nil, fmt.Errorf("server %s: no profile %q; there are %v, and none", s.Name, s.Profile, names)
	}
	return nil, nil
}

func (s Server) commandLine() []string {
	if s.Command == "" {
		return nil
	}
	return append([]string{s.Command}, s.Args...)
}

// dial connects to the server: starts its program, or speaks HTTP to it.
func (a *app) dial(ctx context.Context, p *proxy.Proxy, s Server) (proxy.Conn, error) {
	if s.URL != "" {
		up, err := a.httpUpstream(s)
		if err != nil {
			return nil, err
		}
		if s.SSE {
			return proxy.DialSSE(ctx, up)
		}
		return proxy.DialHTTP(ctx, up)
	}
	return p.Keep(a.starter(s).Start, s.Idle)
}

// dialer is dial for the sessions of a door. end ends what was started before
// any of them.
func (a *app) dialer(p *proxy.Proxy, s Server) (dial func(context.Context, authz.Caller) (proxy.Conn, error), end func(), err error) {
	if s.URL != "" {
		return func(ctx context.Context, _ authz.Caller) (proxy.Conn, error) { return a.dial(ctx, p, s) }, func() {}, nil
	}
	if _, err := s.account(); err != nil {
		return nil, nil, err
	}
	starter := a.starter(s)
	if s.AtStart {
		if err := starter.Ahead(); err != nil {
			a.log.Error().Err(err).Msg("a server could not be started; the first session tries again")
		}
	}
	return func(context.Context, authz.Caller) (proxy.Conn, error) { return p.Keep(starter.Start, s.Idle) }, starter.Close, nil
}

func (a *app) httpUpstream(s Server) (proxy.HTTPUpstream, error) {
	headers, err := expand(s.Headers, "server "+s.Name+": headers")
	if err != nil {
		return proxy.HTTPUpstream{}, err
	}
	bearer, err := a.bearer(s)
	return proxy.HTTPUpstream{Name: s.Name, URL: s.URL, Headers: headers, Bearer: bearer, Log: a.log}, err
}

// bearer is the token of the server's login: one for all its connections, so
// that one renewal is enough. A server with credentials of its own in the
// configuration has none: those are what it gets.
func (a *app) bearer(s Server) (*oauth.Bearer, error) {
	if s.credentials() != "" {
		return nil, nil
	}
	protected, err := s.protected()
	if err != nil {
		return nil, err
	}
	a.bearersMu.Lock()
	defer a.bearersMu.Unlock()
	if a.bearers[s.Name] == nil {
		if a.bearers == nil {
			a.bearers = map[string]*oauth.Bearer{}
		}
		a.bearers[s.Name] = oauth.NewBearer(a.logins(), protected, func(reason string) { a.recordOf(s.Name, "upstream.login_ended", "server "+s.Name+": "+reason) })
	}
	return a.bearers[s.Name], nil
}

func (a *app) logins() oauth.Folder { return oauth.Folder(a.home.Logins()) }

// credentials tells where in the configuration the server's credentials stand;
// empty: nowhere.
func (s Server) credentials() string {
	for name := range s.Headers {
		if http.CanonicalHeaderKey(name) == "Authorization" {
			return "headers: " + name
		}
	}
	if u, err := url.Parse(s.URL); err == nil && u.User != nil {
		return "url"
	}
	return ""
}

// protected is the server as a login sees it.
func (s Server) protected() (oauth.Server, error) {
	headers, err := expand(s.Headers, "server "+s.Name+": headers")
	if err != nil {
		return oauth.Server{}, err
	}
	secret, err := expand(map[string]string{"": s.OAuth.ClientSecret}, "server "+s.Name+": oauth: client_secret")
	return oauth.Server{Name: s.Name, URL: s.URL, SSE: s.SSE, Headers: headers, ClientID: s.OAuth.ClientID, ClientSecret: secret[""], Scopes: s.OAuth.Scopes}, err
}
