package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/internal/door"
	"github.com/openleash/openleash-go/internal/wiring"
	"github.com/openleash/openleash-go/proxy"
)

// pages is the side door: portal and API. mcp, when not nil, serves /mcp and /sse.
func (a *app) pages(mcp http.Handler) (http.Handler, error) {
	return a.parts.Pages(wiring.Serving{Port: a.config.port(), Hosts: a.config.hosts(), Base: a.config.portal(), Version: version(), MCP: mcp})
}

// mcpDoor serves every server of the configuration at /mcp/<name>, all of them at
// /mcp, and over the older transport at /sse/<name> and /sse, to agents that show
// their token.
func (a *app) mcpDoor() (http.Handler, error) {
	mux := http.NewServeMux()
	var members []proxy.Member
	for _, name := range a.config.serverNames() {
		m, err := a.mount(mux, a.config.Servers[name])
		if err != nil {
			return nil, err
		}
		members = append(members, m)
	}
	if err := a.mountAll(mux, members); err != nil {
		return nil, err
	}
	unknown := func(w http.ResponseWriter, r *http.Request) {
		_, err := a.config.server(r.PathValue("name"))
		door.JSONError(w, http.StatusNotFound, "UNKNOWN_SERVER", err.Error())
	}
	patterns := []string{"/mcp/{name...}", "/sse/{name...}"}
	if len(members) == 0 {
		patterns = append(patterns, "/mcp", "/sse")
	}
	for _, at := range patterns {
		mux.HandleFunc(at, unknown)
	}
	json := door.Carries{MediaType: "application/json", Bytes: int64(a.config.MessageBytes), Refuse: door.JSONError}
	failed := func(err error) { a.log.Error().Err(err).Msg("a token cannot be checked") }
	return door.Bearer(a.agentByToken, failed, a.noToken, door.Body(json, mux)), nil
}

// noToken records that a request brought no good token.
func (a *app) noToken(r *http.Request, code string) {
	why := "no token, or none that can be read"
	if code == door.InvalidToken {
		why = "a token that is not, or no longer, an agent's"
	}
	if err := a.service.Refused(authz.Access{Door: "mcp", Code: code, Why: why, From: door.From(r)}); err != nil {
		a.log.Error().Err(err).Msg("a refused token could not be recorded")
	}
}

// mountAll serves all servers at one address.
func (a *app) mountAll(mux *http.ServeMux, members []proxy.Member) error {
	if len(members) == 0 {
		return nil
	}
	all := &proxy.Aggregate{Members: members, Version: version(), Limits: a.config.limits(), Log: a.log}
	sessions, err := all.HTTPHost()
	if err != nil {
		return err
	}
	a.run(func(ctx context.Context) {
		<-ctx.Done()
		sessions.Close()
	})
	mux.Handle("/mcp", sessions)
	mux.Handle("/mcp/{$}", sessions)
	mux.HandleFunc("/sse", sessions.ServeSSE)
	mux.HandleFunc("POST /sse"+proxy.SSEMessages, sessions.ServeSSEMessage) // and GET is that of a server with this name
	return nil
}

// mount serves one server.
func (a *app) mount(mux *http.ServeMux, s Server) (proxy.Member, error) {
	p, err := a.newProxy(s)
	if err != nil {
		return proxy.Member{}, err
	}
	dial, end, err := a.dialer(p, s)
	if err != nil {
		return proxy.Member{}, err
	}
	sessions := p.HTTPHost(dial)
	a.run(func(ctx context.Context) { // no child process is left behind
		<-ctx.Done()
		sessions.Close()
		end()
	})
	mux.HandleFunc("/sse/"+s.Name, sessions.ServeSSE)
	mux.HandleFunc("/sse/"+s.Name+proxy.SSEMessages, sessions.ServeSSEMessage)
	var newer http.Handler = sessions
	if s.URL != "" {
		up, err := a.httpUpstream(s) // a secret that is missing is told at the start
		if err != nil {
			return proxy.Member{}, err
		}
		if !s.SSE {
			newer = p.HTTPPassthrough(up)
		}
	}
	mux.Handle("/mcp/"+s.Name, newer)
	return proxy.Member{Proxy: p, Dial: dial}, nil
}

func (a *app) agentByToken(ctx context.Context, token string) (context.Context, error) {
	agent, err := a.store.AgentByToken(ctx, identity.HashToken(token))
	if errors.Is(err, identity.ErrNotFound) {
		return nil, door.ErrUnknownToken
	}
	if err != nil {
		return nil, err
	}
	valid := true
	return proxy.WithCaller(ctx, authz.Caller{Agent: agent, SignatureValid: &valid}), nil
}

// serve answers on l until ctx ends, then lets what is under way finish.
func serve(ctx context.Context, l net.Listener, h http.Handler) error {
	server := door.Server(h)
	streams, cut := context.WithCancelCause(context.Background())
	defer cut(nil)
	server.BaseContext = func(net.Listener) context.Context { return streams }
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	cut(proxy.ErrShuttingDown) // held calls and streams end now, with an answer that says so
	grace, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		server.Close()
	}
	return nil
}

// errForeign is a port that someone else holds.
var errForeign = errors.New("is held by another program")

// holder says who holds our port: nil, this installation; errForeign, someone
// else; other errors, nobody who answers. The holder proves itself by signing
// a challenge with the installation's key.
func (a *app) holder(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second) // ours answers at once, unless the machine is very busy
	defer cancel()
	challenge := make([]byte, 32)
	rand.Read(challenge)
	url := fmt.Sprintf("http://%s/v1/installation?challenge=%s", a.config.Listen, base64.RawURLEncoding.EncodeToString(challenge))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: noRedirect}).Do(req)
	if err != nil {
		var refused *net.OpError
		if errors.As(err, &refused) && refused.Op == "dial" {
			return err
		}
		return errForeign // it listens, and speaks something else
	}
	defer resp.Body.Close()
	var answer struct{ Installation, Signature string }
	if json.NewDecoder(io.LimitReader(resp.Body, 4096)).Decode(&answer) != nil {
		return errForeign
	}
	signature, err := base64.StdEncoding.DecodeString(answer.Signature)
	if err != nil || !a.key.Public().VerifyText("installation", challenge, signature) {
		return errForeign
	}
	return nil
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// retryPort is how often a stdio process looks whether the port has come free.
const retryPort = 2 * time.Second

// keepSideDoor serves portal and API while this process can have the port:
// the one that gets it serves, when it goes another takes over. It returns when
// ctx ends.
func (a *app) keepSideDoor(ctx context.Context) {
	h, err := a.pages(nil)
	if err != nil {
		a.log.Error().Err(err).Msg("no portal")
		return
	}
	foreign := 0 // in a row: one of ours that is killed while it is asked looks like that once
	for ctx.Err() == nil {
		if l, err := net.Listen("tcp", a.config.Listen); err == nil {
			serve(ctx, l, h)
			return
		}
		if !errors.Is(a.holder(ctx), errForeign) {
			foreign = 0
		} else if foreign++; foreign == 2 {
			a.log.Warn().Str("address", a.config.Listen).Msg("another program holds the portal's address: there is no portal; answer by `openleash approvals`, or set listen: in the configuration")
		}
		select {
		case <-time.After(retryPort):
		case <-ctx.Done():
		}
	}
}
