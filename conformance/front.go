package main

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
)

// front serves the door of a leash to the suite, which has no token: it adds
// the agent's, and nothing else. Its own name becomes the leash's; a foreign Host
// or Origin stays foreign.
func (l *lab) front(s *leash) (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	own := listener.Addr().String()
	reverse := &httputil.ReverseProxy{
		FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: s.addr})
			if r.Out.Host = r.In.Host; r.In.Host == own {
				r.Out.Host = s.addr
			}
			if r.In.Header.Get("Origin") == "http://"+own {
				r.Out.Header.Set("Origin", "http://"+s.addr)
			}
			r.Out.Header.Set("Authorization", "Bearer "+s.token)
		},
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Read whole first: a busy machine sees ReverseProxy break off a stream whose
		// request's body is not at its end.
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		reverse.ServeHTTP(w, r)
	})}
	go server.Serve(listener)
	l.ends = append(l.ends, func() { server.Close() })
	return "http://" + own + "/mcp/up", nil
}
