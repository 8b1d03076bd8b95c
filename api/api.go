// Package api is /v1 over HTTP: what programs ask of OpenLeash. It decides
// nothing itself.
//
// Every body is JSON and is read strictly (action.Parse): duplicate keys, keys
// that nobody knows, trailing data and wrong types are refused, so that no
// other parser can have seen another request. Every refusal is
//
//	{"error":{"code":"INVALID_JSON","message":"…","field_errors":{"token":"…"},"request_id":"…"}}
//
// with the status that fits: 400 for what cannot be read, 401 for who does not show who
// he is, 403 for who may not, 404 for a route that there is not, 405 (with Allow) for a
// method that it has not, 413, 415, 429 (with Retry-After) for who asks or tries too
// often. Fields that do not apply are null or absent as openapi.yaml, which is served at
// /v1/openapi.yaml, says; docs/protocol.md lists the codes. A path is read as it is
// written: one that is written in another way than ours (//, /../, %61, a slash at its
// end) is another, and there is none.
//
// Every answer has an X-Request-Id (internal/door.Number), which also stands in the
// refusal, and in the log where that says why.
//
// What asks nobody who he is writes nothing to the audit log but that it was refused.
// Where it costs more than a look, it is counted for each address (internal/ratelimit).
//
// Owners show the token of a session, as "Authorization: Bearer v4.public.…" or in the
// portal's cookie. What they may do is looked up at each request.
//
// The package trusts the door in front of it (internal/door.Guard) for Host and
// Origin.
package api

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/rs/zerolog"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/internal/door"
	"github.com/openleash/openleash-go/internal/ratelimit"
	"github.com/openleash/openleash-go/owners"
	"github.com/openleash/openleash-go/policy"
	"github.com/openleash/openleash-go/proof"
)

// maxBody is what a request may carry: 1 MiB, as the public version takes.
const maxBody = 1 << 20

//go:embed openapi.yaml
var spec []byte

//go:embed agents.md
var forAgents []byte

// Config is what the API is made of.
type Config struct {
	Key      *proof.Key                                             // signs the answer to /v1/installation
	Keys     func() []proof.PublicKey                               // all keys that were ever used, none while that is not known; nil: only Key
	Policies *policy.Keeper                                         // nil: health says that no policy is in force
	Service  *authz.Service                                         // decides
	Owners   *owners.Service                                        // who is signed in
	Search   func(context.Context, audit.Query) (audit.Page, error) // in the log
	Cookie   string                                                 // of the portal's sessions, which are good here too
	Refused  func(authz.Access) error                               // records who was not let in; nil: Service does
	LogErr   func() error                                           // why the log cannot be written; nil: it can
	Version  string
	Now      func() time.Time // nil: time.Now
	Log      zerolog.Logger
}

type server struct {
	Config
	verifications *ratelimit.Limiter // of addresses: signing and verifying
	trials        *ratelimit.Limiter // of addresses: the playground
	registrations *ratelimit.Limiter // of addresses
	unsigned      *ratelimit.Limiter // of addresses: signatures that are not good
	perAgent      *ratelimit.Limiter
	rooms         chan struct{} // holds one for each trial that is under way
}

// handler answers with a value that becomes JSON, or with an error: a *fault
// is told to the caller, any other becomes 500 and is told to our log only.
type handler func(r *http.Request) (any, error)

// access is who may use a route.
type access string

const (
	anybody access = "anybody" // nobody is asked who he is
	agents  access = "agent"   // who signs the request (signed.go)
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
		{"GET", "/v1/key-document", anybody, s.limited(s.verifications, maxQuestion, s.keyDocument)},
		{"GET", keyPlace, anybody, s.limited(s.verifications, maxQuestion, s.keyDocument)},
		{"GET", "/v1/installation", anybody, s.installation},
		{"POST", "/v1/verify-proof", anybody, s.limited(s.verifications, maxQuestion, s.verifyProof)},
		{"POST", playgroundPlace, anybody, s.limited(s.trials, maxBody, s.playground)},
		{"GET", "/v1/agents/policy-schema", anybody, s.policySchema},
		{"GET", agentsPlace, anybody, s.agentsGuide},
		{"GET", "/v1/openapi.yaml", anybody, s.openapi},

		{"POST", "/v1/agents/registration-challenge", anybody, s.limited(s.registrations, maxQuestion, s.registrationChallenge)},
		{"POST", "/v1/agents/register", anybody, s.limited(s.registrations, maxQuestion, s.register)},
		{"GET", "/v1/agents/register-with-invite", anybody, s.howToRegister},
		{"POST", "/v1/agents/register-with-invite", anybody, s.limited(s.registrations, maxQuestion, s.registerInvited)},

		{"POST", "/v1/authorize", agents, s.signed(s.authorize)},
		{"GET", "/v1/agent/self", agents, s.signed(s.self)},
		{"POST", "/v1/agent/approval-requests", agents, s.signed(s.askOwner)},
		{"GET", "/v1/agent/approval-requests/{id}", agents, s.signed(s.approvalRequest)},
		{"POST", "/v1/agent/outcomes", agents, s.signed(s.reportOutcome)},

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
		{"GET", "/v1/owner/agents", owner, s.ownersAgents},
		{"PUT", "/v1/owner/agents/{id}", owner, s.setAgent},
		{"POST", "/v1/owner/agent-invites", owner, s.inviteAgent},
		{"GET", "/v1/owner/approval-requests", owner, s.ownersRequests},
		{"GET", "/v1/owner/approval-requests/{id}", owner, s.showRequest},
		{"POST", "/v1/owner/approval-requests/{id}/approve", owner, s.approve},
		{"POST", "/v1/owner/approval-requests/{id}/deny", owner, s.deny},
		{"GET", "/v1/owner/policies", owner, s.policiesInForce},
		{"GET", "/v1/owner/audit", owner, s.ownersLog},

		{"GET", "/v1/admin/users", admin, s.users},
		{"POST", "/v1/admin/users", admin, s.addUser},
		{"PUT", "/v1/admin/users/{id}", admin, s.setUser},
		{"POST", "/v1/admin/users/{id}/setup-invite", admin, s.inviteUser},
	}
}

// What programs look for outside /v1.
const (
	keyPlace    = "/.well-known/openleash-keys.json"
	agentsPlace = "/agents.md"
)

// New returns the handler of the API.
func New(c Config) (http.Handler, error) {
	if c.Key == nil || c.Service == nil || c.Owners == nil || c.Search == nil {
		return nil, errors.New("api: a key, a service, the owners and a log are needed")
	}
	if c.Refused == nil {
		c.Refused = c.Service.Refused
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
	s := &server{
		Config:        c,
		verifications: ratelimit.New(verificationsPerSecond, verificationsAtOnce, maxAddresses),
		trials:        ratelimit.New(trialsPerSecond, trialsAtOnce, maxAddresses),
		registrations: ratelimit.New(registrationsPerSecond, registrationsAtOnce, maxAddresses),
		unsigned:      ratelimit.New(unsignedPerSecond, unsignedAtOnce, maxAddresses),
		perAgent:      ratelimit.New(perAgentPerSecond, perAgentAtOnce, maxAgents),
		rooms:         make(chan struct{}, maxTrials),
	}
	mux := http.NewServeMux()
	for _, rt := range s.routes() {
		mux.Handle(rt.method+" "+rt.path, s.serve(rt))
	}
	mux.Handle("/", noRoute(mux))
	return s.numbered(door.Body(door.Carries{MediaType: "application/json", Bytes: maxBody}, mux)), nil
}

// agents tells an agent how to ask.
func (s *server) agentsGuide(*http.Request) (any, error) {
	return page{mediaType: "text/markdown; charset=utf-8", body: forAgents}, nil
}

func (s *server) openapi(*http.Request) (any, error) {
	return page{mediaType: "application/yaml", body: spec}, nil
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

// refuse writes an error. Of what is not the caller's doing the log says why; what is
// not meant for the caller stays there.
func (s *server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	told := fault{status: http.StatusInternalServerError, Code: "INTERNAL", Message: "OpenLeash could not do this; its log says why."}
	if f := s.faultOf(r, err); f != nil {
		told = *f
	}
	told.RequestID = door.RequestID(w)
	if told.status >= http.StatusInternalServerError && !errors.Is(err, context.Canceled) { // else the caller has gone
		s.Log.Error().Err(err).Str("path", r.URL.Path).Str("request_id", told.RequestID).Msg("api: request failed")
	}
	if told.retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(told.retry.Seconds()))))
	}
	s.write(w, r, told.status, map[string]fault{"error": told})
}

// A page is an answer that is not a value as JSON.
type page struct {
	mediaType string
	cache     string // Cache-Control; empty: no-store
	body      []byte
}

func (s *server) write(w http.ResponseWriter, r *http.Request, status int, v any) {
	d, whole := v.(page)
	if !whole {
		body, err := json.Marshal(v)
		if err != nil {
			s.Log.Error().Err(err).Str("path", r.URL.Path).Str("request_id", door.RequestID(w)).Msg("api: writing answer")
			door.JSONError(w, http.StatusInternalServerError, "INTERNAL", "OpenLeash could not write its answer; its log says why.")
			return
		}
		d = page{mediaType: "application/json", body: append(body, '\n')}
	}
	w.Header().Set("Content-Type", d.mediaType)
	w.Header().Set("Cache-Control", cmp.Or(d.cache, "no-store"))
	w.WriteHeader(status)
	w.Write(d.body) // the caller may be gone: nobody is left to tell
}

// timestamp writes a time as the wire does: UTC, milliseconds.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
