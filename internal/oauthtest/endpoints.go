package oauthtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// protected lets requests through that have a good token for this resource.
func (s *Server) protected(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		s.mu.Lock()
		s.bearers = append(s.bearers, r.Header.Get("Authorization"))
		value, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		t, ok := s.access[value]
		ok = ok && time.Now().Before(t.until) && (t.resource == s.URL+r.URL.Path || strings.HasPrefix(r.URL.Path, "/message"))
		if !ok {
			s.seen.Refused++
		}
		s.mu.Unlock()
		switch {
		case !ok:
			s.challenge(w, r)
		case bytes.Contains(body, []byte(`"name":"admin"`)) && !slices.Contains(strings.Fields(t.scope), "admin"):
			w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope", scope="tools admin"`)
			http.Error(w, "no", http.StatusForbidden)
		case s.has("moved"):
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func (s *Server) challenge(w http.ResponseWriter, r *http.Request) {
	metadata := s.URL + "/.well-known/oauth-protected-resource" + r.URL.Path
	if s.has("metadata elsewhere") {
		metadata = strings.Replace(metadata, "127.0.0.1", "localhost", 1)
	}
	switch {
	case s.has("no challenge"):
	case s.has("metadata unnamed"):
		w.Header().Set("WWW-Authenticate", `Basic realm="x", Bearer`)
	default:
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Basic realm="a, \"b\"", Bearer error="invalid_token", resource_metadata="%s", scope="tools"`, metadata))
	}
	http.Error(w, "who are you?", http.StatusUnauthorized)
}

func (s *Server) resourceMetadata(w http.ResponseWriter, r *http.Request) {
	m := map[string]any{"resource": s.URL + "/" + r.PathValue("path"), "authorization_servers": []string{s.URL}, "scopes_supported": []string{"tools", "files"}}
	switch {
	case s.has("metadata redirects"):
		http.Redirect(w, r, s.URL+"/.well-known/oauth-protected-resource/other", http.StatusFound)
		return
	case s.has("metadata of another"):
		m["resource"] = "https://victim.example/mcp"
	case s.has("plain issuer"):
		m["authorization_servers"] = []string{"http://auth.example"}
	case s.has("no metadata"):
		http.NotFound(w, r)
		return
	}
	writeJSON(w, http.StatusOK, m)
}

func (s *Server) serverMetadata(w http.ResponseWriter, r *http.Request) {
	m := map[string]any{
		"issuer": s.URL, "authorization_endpoint": s.URL + "/authorize?tenant=1", "token_endpoint": s.URL + "/token", "registration_endpoint": s.URL + "/register",
		"revocation_endpoint": s.URL + "/revoke", "code_challenge_methods_supported": []string{"plain", "S256"}, "authorization_response_iss_parameter_supported": true,
		"token_endpoint_auth_methods_supported": []string{"client_secret_basic", "none"}, "scopes_supported": []string{"tools", "admin"},
	}
	switch {
	case s.has("server redirects"):
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
		return
	case s.has("another issuer"):
		m["issuer"] = "https://other.example"
	case s.has("no S256"):
		m["code_challenge_methods_supported"] = []string{"plain"}
	case s.has("no PKCE"):
		delete(m, "code_challenge_methods_supported")
	case s.has("plain token endpoint"):
		m["token_endpoint"] = "http://auth.example/token"
	case s.has("nobody registers"):
		delete(m, "registration_endpoint")
	case s.has("nobody revokes"):
		delete(m, "revocation_endpoint")
	case s.has("silent about iss"):
		delete(m, "authorization_response_iss_parameter_supported")
	case s.has("clients have secrets"):
		m["token_endpoint_auth_methods_supported"] = []string{"client_secret_post"}
	case s.has("offline"):
		m["scopes_supported"] = []string{"tools", "offline_access"}
	case s.has("huge metadata"):
		m["more"] = strings.Repeat("x", 2<<20)
	case s.has("long address"):
		m["token_endpoint"] = s.URL + "/" + strings.Repeat("x", 2000)
	case s.has("other case"):
		m["Token_endpoint"] = "https://evil.example/token"
	case s.has("twice"):
		w.Header().Set("Content-Type", "application/json")
		raw, _ := json.Marshal(m)
		fmt.Fprintf(w, `{"issuer":"%s",%s`, s.URL, raw[1:])
		return
	}
	writeJSON(w, http.StatusOK, m)
}

func (s *Server) register(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		Redirects []string `json:"redirect_uris"`
		Method    string   `json:"token_endpoint_auth_method"`
		Kind      string   `json:"application_type"`
	}
	if json.NewDecoder(r.Body).Decode(&asked) != nil || len(asked.Redirects) != 1 || asked.Kind != "native" {
		writeError(w, "invalid_client_metadata", "want one redirect_uri of a native application")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen.Registered++
	c, id := client{redirects: asked.Redirects, method: asked.Method}, fmt.Sprint("client-", s.seen.Registered)
	answer := map[string]any{"client_id": id, "redirect_uris": asked.Redirects, "token_endpoint_auth_method": asked.Method}
	if asked.Method != "none" {
		c.secret = s.secret("client-secret")
		answer["client_secret"], answer["client_secret_expires_at"] = c.secret, 0
	}
	s.clients[id] = c
	writeJSON(w, http.StatusCreated, answer)
}

// authorize is where the person consents.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen.Authorized++
	c, known := s.clients[q.Get("client_id")]
	switch {
	case !known, !c.returnsTo(q.Get("redirect_uri")):
		http.Error(w, "unknown client or redirect_uri", http.StatusBadRequest)
		return
	case q.Get("tenant") != "1", q.Get("response_type") != "code", q.Get("code_challenge_method") != "S256", len(q.Get("code_challenge")) != 43, q.Get("state") == "", !strings.HasPrefix(q.Get("resource"), s.URL+"/"):
		http.Error(w, "a parameter is missing: "+q.Encode(), http.StatusBadRequest)
		return
	}
	value := s.secret("code")
	s.codes[value] = &code{client: q.Get("client_id"), redirect: q.Get("redirect_uri"), challenge: q.Get("code_challenge"), resource: q.Get("resource"), scope: q.Get("scope")}
	back := url.Values{"code": {value}, "state": {q.Get("state")}, "iss": {s.URL}}
	switch {
	case s.quirks["another state"]:
		back.Set("state", "guessed")
	case s.quirks["another iss"]:
		back.Set("iss", "https://other.example")
	case s.quirks["no iss"], s.quirks["silent about iss"]:
		back.Del("iss")
	case s.quirks["two codes"]:
		back.Add("code", "another")
	case s.quirks["denied"]:
		back.Del("code")
		back.Set("error", "access_denied")
		back.Set("error_description", "the person said no\x1b[31m")
	case s.quirks["denied by another"]:
		back.Set("iss", "https://other.example")
		back.Set("error", "access_denied")
		back.Set("error_description", "call 555-EVIL")
	}
	http.Redirect(w, r, q.Get("redirect_uri")+"?"+back.Encode(), http.StatusFound)
}

func (c client) returnsTo(redirect string) bool {
	if c.anyPort {
		u, err := url.Parse(redirect)
		return err == nil && slices.Contains(c.redirects, u.Scheme+"://"+u.Hostname()+u.Path)
	}
	return slices.Contains(c.redirects, redirect)
}

// caller finds the client that a form comes from; s.mu is held.
func (s *Server) caller(r *http.Request) (id string, ok bool) {
	id, method, secret := r.PostFormValue("client_id"), "none", ""
	if user, password, basic := r.BasicAuth(); basic {
		id, _ = url.QueryUnescape(user)
		secret, _ = url.QueryUnescape(password)
		method = "client_secret_basic"
	} else if r.PostForm.Has("client_secret") {
		method, secret = "client_secret_post", r.PostFormValue("client_secret")
	}
	c, known := s.clients[id]
	return id, known && c.method == method && c.secret == secret
}

func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	if s.has("token endpoint redirects") {
		http.Redirect(w, r, "https://evil.example/token", http.StatusTemporaryRedirect)
		return
	}
	s.mu.Lock()
	s.seen.Asked++
	s.mu.Unlock()
	if s.has("slow") {
		time.Sleep(300 * time.Millisecond)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id, ok := s.caller(r)
	form := r.PostForm
	switch {
	case s.quirks["broken"]:
		http.Error(w, "out of order", http.StatusServiceUnavailable)
	case s.quirks["echoes"]:
		writeError(w, "invalid_grant", "bad: "+form.Encode()+" "+r.PostFormValue("code")+r.PostFormValue("refresh_token")+" "+r.PostFormValue("code_verifier"))
	case !ok:
		writeError(w, "invalid_client", "")
	case form.Get("grant_type") == "authorization_code":
		s.exchange(w, id, form)
	case form.Get("grant_type") == "refresh_token":
		s.renew(w, id, form)
	default:
		writeError(w, "unsupported_grant_type", "")
	}
}

func (s *Server) exchange(w http.ResponseWriter, id string, form url.Values) {
	c := s.codes[form.Get("code")]
	switch {
	case c == nil || c.spent || c.client != id || c.redirect != form.Get("redirect_uri"):
		writeError(w, "invalid_grant", "unknown code")
		return
	case c.challenge != challengeOf(form.Get("code_verifier")):
		writeError(w, "invalid_grant", "PKCE")
		return
	case c.resource != form.Get("resource"):
		writeError(w, "invalid_target", "")
		return
	}
	c.spent = true
	s.seen.Exchanged++
	s.give(w, token{family: form.Get("code"), client: id, scope: c.scope, resource: c.resource})
}

func (s *Server) renew(w http.ResponseWriter, id string, form url.Values) {
	t := s.refresh[form.Get("refresh_token")]
	switch {
	case t == nil || t.client != id:
		writeError(w, "invalid_grant", "unknown refresh token")
		return
	case t.spent: // somebody has two: nobody keeps any
		s.seen.Reused++
		s.endFamily(t.family)
		writeError(w, "invalid_grant", "this refresh token was used before")
		return
	case t.resource != form.Get("resource"):
		writeError(w, "invalid_target", "")
		return
	}
	t.spent = true
	s.seen.Refreshed++
	s.give(w, *t)
}

func (s *Server) endFamily(family string) {
	for value, t := range s.access {
		if t.family == family {
			delete(s.access, value)
		}
	}
	for value, t := range s.refresh {
		if t.family == family && !t.spent {
			delete(s.refresh, value)
		}
	}
}

// give answers with new tokens; s.mu is held.
func (s *Server) give(w http.ResponseWriter, t token) {
	t.until, t.spent = time.Now().Add(s.lifetime), false
	access := s.secret("access")
	s.access[access] = &t
	answer := map[string]any{"access_token": access, "token_type": "bearer", "expires_in": int(s.lifetime.Seconds()), "scope": t.scope}
	if !s.quirks["no refresh"] {
		again := t
		refresh := s.secret("refresh")
		s.refresh[refresh] = &again
		answer["refresh_token"] = refresh
	}
	switch {
	case s.quirks["token of another kind"]:
		answer["token_type"] = "DPoP"
	case s.quirks["scope without end"]:
		answer["scope"] = strings.Repeat("s ", 5000) + strings.Repeat("s", 5000)
	case s.quirks["token with a line end"]:
		answer["access_token"] = access + "\r\nX-Evil: 1"
	}
	writeJSON(w, http.StatusOK, answer)
}

func (s *Server) revoke(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.caller(r); !ok {
		writeError(w, "invalid_client", "")
		return
	}
	if s.quirks["revokes nothing"] {
		writeError(w, "unsupported_token_type", r.PostFormValue("token"))
		return
	}
	for _, m := range []map[string]*token{s.access, s.refresh} {
		if _, ok := m[r.PostFormValue("token")]; ok {
			delete(m, r.PostFormValue("token"))
			s.seen.Revoked++
		}
	}
}

func writeError(w http.ResponseWriter, code, description string) {
	writeJSON(w, http.StatusBadRequest, map[string]any{"error": code, "error_description": description})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}
