// Package api is /v1 over HTTP: what programs ask of OpenLeash. It decides
// nothing itself.
//
// Every body is JSON and is read strictly (action.Parse): duplicate keys, keys
// that nobody knows, trailing data and wrong types are refused, so that no
// other parser can have seen another request. Every refusal is
//
//	{"error":{"code":"INVALID_JSON","message":"…","field_errors":{"token":"…"}}}
//
// with the status that fits: 400 for what cannot be read, 401 for who does not show who
// he is, 403 for who may not, 404 for a route that
// there is not, 405 (with Allow) for a method that it has not, 413, 415, 429
// (with Retry-After) for what was tried too often. Fields
// that do not apply are null or absent as openapi.yaml, which is served at
// /v1/openapi.yaml, says.
//
// Owners show the token of a session, as "Authorization: Bearer v4.public.…" or in the
// portal's cookie. What they may do is looked up at each request.
//
// The package trusts the door in front of it (internal/door.Guard) for Host and
// Origin.
package api

import (
	_ "embed"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/internal/door"
	"github.com/openleash/openleash-go/owners"
	"github.com/openleash/openleash-go/policy"
	"github.com/openleash/openleash-go/proof"
)

// maxBody is what a request may carry: 1 MiB, as the public version takes.
const maxBody = 1 << 20

//go:embed openapi.yaml
var spec []byte

// Config is what the API is made of.
type Config struct {
	Key      *proof.Key               // signs the answer to /v1/installation
	Keys     func() []proof.PublicKey // all keys that were ever used; nil: only Key
	Policies *policy.Keeper           // nil: health says that no policy is in force
	Owners   *owners.Service          // who is signed in
	Cookie   string                   // of the portal's sessions, which are good here too
	Refused  func(authz.Access) error // records who was not let in
	LogErr   func() error             // why the log cannot be written; nil: it can
	Version  string
	Now      func() time.Time // nil: time.Now
	Log      zerolog.Logger
}

type server struct {
	Config
}

// handler answers with a value that becomes JSON, or with an error: a *fault
// is told to the caller, any other becomes 500 and is told to our log only.
type handler func(r *http.Request) (any, error)

// access is who may use a route.
type access string

const (
	anybody access = "anybody" // nobody is asked who he is
	owner   access = "owner"   // who shows a session
	admin   access = "admin"   // of a user who is an admin now
)

type route struct {
	method, path string
	access       access
	handle       handler
}

// routes is every URL of the API, as openapi.yaml has them.
func (s *server) routes() []route {
	return []route{
		{"GET", "/v1/health", anybody, s.health},
		{"GET", "/v1/public-keys", anybody, s.publicKeys},
		{"GET", "/v1/installation", anybody, s.installation},
		{"POST", "/v1/verify-proof", anybody, s.verifyProof},
		{"POST", "/v1/playground/run", anybody, s.playground},

		{"POST", "/v1/initial-setup", anybody, s.initialSetup},
		{"POST", "/v1/owner/setup", anybody, s.ownerSetup},
		{"POST", "/v1/owner/login", anybody, s.login},
		{"POST", "/v1/owner/logout", owner, s.logout},
		{"POST", "/v1/owner/session/refresh", owner, s.refresh},
		{"GET", "/v1/owner/sessions", owner, s.sessions},
		{"DELETE", "/v1/owner/sessions/{id}", owner, s.revokeSession},
		{"GET", "/v1/owner/profile", owner, s.profile},
		{"PUT", "/v1/owner/profile", owner, s.setProfile},
		{"POST", "/v1/owner/passphrase", owner, s.setPassphrase},
		{"POST", "/v1/owner/totp/setup", owner, s.setUpTOTP},
		{"POST", "/v1/owner/totp/confirm", owner, s.confirmTOTP},
		{"POST", "/v1/owner/totp/disable", owner, s.disableTOTP},
		{"GET", "/v1/admin/users", admin, s.users},
		{"POST", "/v1/admin/users", admin, s.addUser},
		{"PUT", "/v1/admin/users/{id}", admin, s.setUser},
		{"POST", "/v1/admin/users/{id}/setup-invite", admin, s.inviteUser},
	}
}

// New returns the handler of everything below /v1/.
func New(c Config) (http.Handler, error) {
	if c.Key == nil || c.Owners == nil {
		return nil, errors.New("api: a key and the owners are needed")
	}
	if c.Refused == nil {
		c.Refused = func(authz.Access) error { return nil }
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Keys == nil {
		c.Keys = func() []proof.PublicKey { return []proof.PublicKey{c.Key.Public()} }
	}
	if c.LogErr == nil {
		c.LogErr = func() error { return nil }
	}
	s := &server{c}
	mux := http.NewServeMux()
	for _, rt := range s.routes() {
		mux.Handle(rt.method+" "+rt.path, s.serve(rt))
	}
	mux.HandleFunc("GET /v1/openapi.yaml", serveSpec)
	mux.Handle("/", noRoute(mux))
	return door.Body(door.Carries{MediaType: "application/json", Bytes: maxBody}, mux), nil
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
			door.JSONError(w, http.StatusNotFound, "NOT_FOUND", "There is no "+r.Method+" "+r.URL.Path+". GET /v1/openapi.yaml tells what there is.")
			return
		}
		list := strings.Join(takes, ", ")
		w.Header().Set("Allow", list)
		door.JSONError(w, http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", r.URL.Path+" takes "+list+".")
	}
}

func serveSpec(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/yaml")
	w.Write(spec)
}

// serve is the one way from a handler's answer to the wire.
func (s *server) serve(rt route) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r, err := s.admit(r, rt.access)
		var answer any
		if err == nil {
			answer, err = rt.handle(r)
		}
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		s.write(w, r, http.StatusOK, answer)
	}
}

// refuse writes an error; what is not meant for the caller goes to the log.
func (s *server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	f := s.faultOf(r, err)
	if f == nil {
		s.Log.Error().Err(err).Str("path", r.URL.Path).Msg("api: request failed")
		f = &fault{status: http.StatusInternalServerError, Code: "INTERNAL", Message: "OpenLeash could not do this; its log says why."}
	}
	if f.retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(f.retry.Seconds())))
	}
	s.write(w, r, f.status, map[string]*fault{"error": f})
}

func (s *server) write(w http.ResponseWriter, r *http.Request, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		s.Log.Error().Err(err).Str("path", r.URL.Path).Msg("api: writing answer")
		door.JSONError(w, http.StatusInternalServerError, "INTERNAL", "OpenLeash could not write its answer; its log says why.")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(append(body, '\n')) // the caller may be gone: nobody is left to tell
}

// timestamp writes a time as the wire does: UTC, milliseconds.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
