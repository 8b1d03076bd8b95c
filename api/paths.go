package api

import (
	"fmt"
	"net/http"
	"net/url"
	"path"
	"runtime/debug"
	"strings"

	"github.com/openleash/openleash-go/internal/door"
)

// Before lets v1, which New has made, answer what is the API's, and rest all else. Paths
// come to v1 as they were sent.
func Before(v1, rest http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if ours(r) {
			v1.ServeHTTP(w, r)
			return
		}
		rest.ServeHTTP(w, r)
	})
}

// Refuse is for the door before all (door.Config): programs are refused as the API
// refuses, people with a sentence.
func Refuse(w http.ResponseWriter, r *http.Request, status int, code, message string) {
	if !ours(r) {
		door.Text(w, status, code, message)
		return
	}
	door.Number(w, r)
	door.JSONError(w, status, code, message)
}

// ours reports whether a request is one for the API, also when its path is not written
// as it should be: then it is for the API to say so.
func ours(r *http.Request) bool {
	p := path.Clean("/" + r.URL.Path)
	return p == "/v1" || strings.HasPrefix(p, "/v1/") || p == keyPlace || p == agentsPlace
}

// numbered names the request, and sees to it that it is answered.
func (s *server) numbered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		door.Number(w, r)
		defer s.rescue(w, r)
		if !plain(r.URL) { // ServeMux would redirect it, or take it for another
			notFound(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// plain reports whether a path is written in the one way in which we read it.
func plain(u *url.URL) bool {
	clean := path.Clean(u.Path)
	return u.EscapedPath() == u.Path && (u.Path == clean || u.Path == clean+"/")
}

// rescue answers for a handler that has panicked.
func (s *server) rescue(w http.ResponseWriter, r *http.Request) {
	switch v := recover(); v {
	case nil:
	case http.ErrAbortHandler:
		panic(v)
	default:
		s.Log.Error().Any("panic", v).Bytes("stack", debug.Stack()).Str("path", r.URL.Path).Str("request_id", door.RequestID(w)).Msg("api: request failed")
		door.JSONError(w, http.StatusInternalServerError, "INTERNAL", "OpenLeash could not do this; its log says why.")
	}
}

var methods = []string{"DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"}

// noRoute answers what no route has taken: 405 where the path is right, else 404.
func noRoute(mux *http.ServeMux) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var takes []string
		for _, method := range methods {
			other := r.Clone(r.Context())
			other.Method = method
			if _, pattern := mux.Handler(other); pattern != "/" {
				takes = append(takes, method)
			}
		}
		if len(takes) == 0 {
			notFound(w, r)
			return
		}
		list := strings.Join(takes, ", ")
		w.Header().Set("Allow", list)
		door.JSONError(w, http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", fmt.Sprintf("%.200q takes %s.", r.URL.Path, list))
	}
}

func notFound(w http.ResponseWriter, r *http.Request) {
	door.JSONError(w, http.StatusNotFound, "NOT_FOUND", fmt.Sprintf("There is no %.20q %.200q. GET /v1/openapi.yaml tells what there is.", r.Method, r.URL.EscapedPath()))
}
