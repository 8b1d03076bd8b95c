package main

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/openleash/openleash-go/proxy"
)

// newProxy puts a proxy in front of a server.
func (a *app) newProxy(s Server) (*proxy.Proxy, error) {
	profile, err := findProfile(s)
	if err != nil {
		return nil, err
	}
	return proxy.New(proxy.Config{
		Name: s.Name, Service: a.service, Mapping: proxy.NewMapping(a.config.Mapping, profile),
		Hold: a.config.Hold, Portal: a.config.portal(), Limits: a.config.limits(), Log: a.log,
		Places: s.places(), HideDenied: a.config.HideDenied,
	}), nil
}

// places are the folders from which the server may resolve relative paths.
func (s Server) places() []string {
	places := slices.Clone(s.Args)
	for _, p := range []string{s.Cwd, s.Env["HOME"], s.Env["USERPROFILE"]} {
		if p != "" {
			places = append(places, p)
		}
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
func (a *app) dial(ctx context.Context, s Server, stderr io.Writer) (proxy.Conn, error) {
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
	env := s.environ
	if env == nil {
		own, err := expand(s.Env, "server "+s.Name+": env")
		if err != nil {
			return nil, err
		}
		env = proxy.ChildEnv(own)
	}
	return proxy.StartChild(proxy.Command{
		Name: s.Name, Args: s.commandLine(), Dir: s.Cwd, Env: env, Stderr: stderr, Limits: a.config.limits(),
	})
}

func (a *app) httpUpstream(s Server) (proxy.HTTPUpstream, error) {
	headers, err := expand(s.Headers, "server "+s.Name+": headers")
	return proxy.HTTPUpstream{Name: s.Name, URL: s.URL, Headers: headers}, err
}
