package api_test

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/openleash/openleash-go/openleashtest"
)

// What agents, and those who would be agents, must not be able to do. Each test makes the
// attempt at a real server, over HTTP; where two processes could be made to disagree, at
// two servers on one home.

const safetyPolicy = `version: 1
default: deny
rules:
  - id: once
    effect: allow
    action: buy
    limits: [{id: once, count: true, max: 1, per: [agent], window: 1h}]
  - {id: free, effect: allow, action: look}
  - id: ask
    effect: allow
    action: pay
    obligations: [{type: HUMAN_APPROVAL}]
    limits: [{id: pays, count: true, max: 4, per: [agent], window: 1h}]
`

// clock is a test's time.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 5, 5, 13, 42, 11, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func safetyServer(t *testing.T) *openleashtest.Server {
	t.Helper()
	return openleashtest.NewServer(t, &openleashtest.Options{Policy: safetyPolicy})
}

// pair is two servers on one home, as two processes are.
func pair(t *testing.T) (servers [2]*openleashtest.Server) {
	t.Helper()
	home := filepath.Join(t.TempDir(), "home")
	for i := range servers {
		servers[i] = openleashtest.NewServer(t, &openleashtest.Options{Policy: safetyPolicy, Home: home})
	}
	return servers
}

func wantCode(t *testing.T, what string, got openleashtest.Response, status int, code string) {
	t.Helper()
	if got.Status != status || got.Code() != code {
		t.Errorf("%s: %d %s; want %d %s", what, got.Status, got.Body, status, code)
	}
}

// atOnce sends requests at the same time.
func atOnce(t *testing.T, send ...func() (openleashtest.Response, error)) []openleashtest.Response {
	t.Helper()
	answers, errs := make([]openleashtest.Response, len(send)), make([]error, len(send))
	var ready, all sync.WaitGroup
	ready.Add(1)
	for i := range send {
		all.Go(func() {
			ready.Wait()
			answers[i], errs[i] = send[i]()
		})
	}
	ready.Done()
	all.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	return answers
}

// authorizing makes a signed request that can be sent later.
func authorizing(t *testing.T, srv *openleashtest.Server, a *openleashtest.Agent, action map[string]any) func() (openleashtest.Response, error) {
	t.Helper()
	r, err := a.Request(http.MethodPost, "/v1/authorize", []byte(text(t, action)))
	if err != nil {
		t.Fatal(err)
	}
	return func() (openleashtest.Response, error) { return srv.Try(r) }
}

func text(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func decision(t *testing.T, r openleashtest.Response) (d openleashtest.Decision) {
	t.Helper()
	r.Read(t, &d)
	return d
}

// allowed counts the answers that are an ALLOW.
func allowed(t *testing.T, answers []openleashtest.Response) (n int) {
	t.Helper()
	for _, r := range answers {
		if d := decision(t, r); r.Status == http.StatusOK && d.Decision == "ALLOW" {
			n++
		}
	}
	return n
}

// asked is an action that waits for the owner, and its request.
func asked(t *testing.T, a *openleashtest.Agent) (action map[string]any, request string) {
	t.Helper()
	action = a.Action("pay", map[string]any{"for": uuid.NewString()})
	return action, a.AskOwner(t, a.Authorize(t, action), action)
}

// granted is an action whose approval token is in it.
func granted(t *testing.T, srv *openleashtest.Server, a *openleashtest.Agent) (action map[string]any, request string) {
	t.Helper()
	action, request = asked(t, a)
	srv.Approve(t, request)
	action["approval_token"] = a.ApprovalToken(t, request)
	return action, request
}

func with(action map[string]any, key string, value any) map[string]any {
	changed := maps.Clone(action)
	changed[key] = value
	return changed
}

func TestNobodyAsksInAnothersName(t *testing.T) {
	srv := safetyServer(t)
	bot, mole := srv.Agent(t, "bot"), srv.Agent(t, "mole")
	look := mole.Action("look", nil)
	for name, tt := range map[string]struct {
		action map[string]any
		code   string
	}{
		"of another agent":            {bot.Action("look", nil), "AGENT_MISMATCH"},
		"of an agent that is not":     {with(look, "principal", map[string]any{"agent_id": "nobody"}), "AGENT_MISMATCH"},
		"of the name in other case":   {with(look, "principal", map[string]any{"agent_id": "Mole"}), "AGENT_MISMATCH"},
		"for another owner":           {with(look, "subject", map[string]any{"principal_id": uuid.NewString()}), "SUBJECT_MISMATCH"},
		"for the owner in other case": {with(look, "subject", map[string]any{"principal_id": strings.ToUpper(srv.OwnerID)}), "SUBJECT_MISMATCH"},
	} {
		got := mole.Do(t, "POST", "/v1/authorize", tt.action)
		wantCode(t, name, got, 400, tt.code)
		got = mole.Do(t, "POST", "/v1/authorize", with(tt.action, "dry_run", true))
		wantCode(t, name+", dry", got, 400, tt.code)
		got = mole.Do(t, "POST", "/v1/agent/approval-requests", map[string]any{"decision_id": uuid.NewString(), "action": tt.action})
		wantCode(t, name+", asking", got, 400, tt.code)
	}
	for _, e := range srv.Entries(t) {
		if e.Event == "decision" {
			t.Errorf("something was decided: %+v", e)
		}
	}
}

// register tries to register an agent by a challenge.
func register(t *testing.T, srv *openleashtest.Server, a *openleashtest.Agent) openleashtest.Response {
	t.Helper()
	body := map[string]any{"agent_id": a.Name, "agent_pubkey_b64": a.PublicKey()}
	got := srv.Post(t, "/v1/agents/registration-challenge", body)
	var c struct {
		ID    string `json:"challenge_id"`
		Bytes []byte `json:"challenge_b64"`
	}
	got.Read(t, &c)
	body["challenge_id"], body["signature_b64"] = c.ID, ed25519.Sign(a.Key, c.Bytes)
	return srv.Post(t, "/v1/agents/register", body)
}

func TestNamesAreNotTakenOver(t *testing.T) {
	srv := safetyServer(t)
	bot, thief := srv.Agent(t, "bot"), srv.NewAgent("bot")
	wantCode(t, "the name of an active agent, by invite", thief.Register(t, srv.Invite(t)), 409, "AGENT_ID_TAKEN")
	wantCode(t, "the name of an active agent, by challenge", register(t, srv, thief), 409, "AGENT_ID_TAKEN")
	if d := bot.Authorize(t, bot.Action("look", nil)); d.Decision != "ALLOW" {
		t.Errorf("the agent itself: %+v", d)
	}
	wantCode(t, "with the other key", thief.Do(t, "GET", "/v1/agent/self", nil), 401, "INVALID_SIGNATURE")

	// A name that somebody waits with is taken too, whether or not the owner confirms.
	first, second := srv.NewAgent("new"), srv.NewAgent("new")
	if got := register(t, srv, first); got.Status != 200 {
		t.Fatalf("%d %s", got.Status, got.Body)
	}
	for range 2 {
		wantCode(t, "the name of a pending agent, by challenge", register(t, srv, second), 409, "AGENT_ID_TAKEN")
		wantCode(t, "the name of a pending agent, by invite", second.Register(t, srv.Invite(t)), 409, "AGENT_ID_TAKEN")
		wantCode(t, "with the other key", second.Do(t, "GET", "/v1/agent/self", nil), 401, map[bool]string{true: "AGENT_INACTIVE", false: "INVALID_SIGNATURE"}[first.ID == ""])
		srv.Confirm(t, "new")
		first.ID = "confirmed"
	}
	if got := first.Do(t, "GET", "/v1/agent/self", nil); got.Status != 200 {
		t.Errorf("who came first: %d %s", got.Status, got.Body)
	}
}

// A name that is registered twice at once is one agent's.
func TestNamesAtOnce(t *testing.T) {
	servers := pair(t)
	for i := range 10 {
		var sends []func() (openleashtest.Response, error)
		var rivals []*openleashtest.Agent
		for n := range 4 {
			srv := servers[n%2]
			rival := srv.NewAgent(fmt.Sprint("bot", i))
			invite, err := url.Parse(srv.Invite(t))
			if err != nil {
				t.Fatal(err)
			}
			body := text(t, map[string]any{"agent_id": rival.Name, "agent_pubkey_b64": rival.PublicKey()})
			rivals = append(rivals, rival)
			sends = append(sends, func() (openleashtest.Response, error) { return post(srv, invite.RequestURI(), body) })
		}
		won := -1
		for n, r := range atOnce(t, sends...) {
			switch {
			case r.Status == 200 && won < 0:
				won = n
			case r.Status == 200 || r.Code() != "AGENT_ID_TAKEN":
				t.Errorf("%d %s; want one to win, the others AGENT_ID_TAKEN", r.Status, r.Body)
			}
		}
		for n, rival := range rivals {
			for _, srv := range servers {
				if got := rival.On(srv).Do(t, "GET", "/v1/agent/self", nil); (got.Status == 200) != (n == won) {
					t.Errorf("rival %d, where %d has won: %d %s", n, won, got.Status, got.Body)
				}
			}
		}
	}
}

func post(srv *openleashtest.Server, path, body string) (openleashtest.Response, error) {
	r, err := http.NewRequest("POST", srv.URL+path, strings.NewReader(body))
	if err != nil {
		return openleashtest.Response{}, err
	}
	r.Header.Set("Content-Type", "application/json")
	return srv.Try(r)
}

// sent is a signed request as it was on the wire, to be sent again.
type sent struct {
	method, path, body string
	header             http.Header
}

func capture(t *testing.T, a *openleashtest.Agent, method, path, body string) sent {
	t.Helper()
	r, err := a.Request(method, path, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return sent{method, path, body, r.Header}
}

func (s sent) to(srv *openleashtest.Server) (openleashtest.Response, error) {
	r, err := http.NewRequest(s.method, srv.URL+s.path, strings.NewReader(s.body))
	if err != nil {
		return openleashtest.Response{}, err
	}
	r.Header = s.header.Clone()
	return srv.Try(r)
}

func (s sent) send(t *testing.T, srv *openleashtest.Server) openleashtest.Response {
	t.Helper()
	got, err := s.to(srv)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestReplays(t *testing.T) {
	time := newClock()
	options := &openleashtest.Options{Policy: safetyPolicy, Home: filepath.Join(t.TempDir(), "home"), Now: time.now}
	srv := openleashtest.NewServer(t, options)
	bot := srv.Agent(t, "bot")
	early := *bot
	for _, s := range []sent{
		capture(t, &early, "POST", "/v1/authorize", text(t, bot.Action("look", nil))),
		capture(t, &early, "POST", "/v1/authorize", text(t, with(bot.Action("look", nil), "dry_run", true))),
		capture(t, &early, "POST", "/v1/authorize", text(t, bot.Action("fly", nil))),
		capture(t, &early, "GET", "/v1/agent/self", ""),
		capture(t, &early, "GET", "/v1/agent/approval-requests/none", ""),
	} {
		if got := s.send(t, srv); got.Status == 401 {
			t.Fatalf("%s %s: %d %s", s.method, s.path, got.Status, got.Body)
		}
		wantCode(t, "again", s.send(t, srv), 401, "NONCE_REPLAY")
		second := openleashtest.NewServer(t, options)
		wantCode(t, "to a second process", s.send(t, second), 401, "NONCE_REPLAY")
		if err := second.Close(); err != nil {
			t.Fatal(err)
		}
	}
	// Signed by a clock that is fast: it is remembered as long as it would be accepted.
	time.pass(119 * 1e9)
	s := capture(t, bot, "GET", "/v1/agent/self", "")
	time.pass(-119 * 1e9)
	if got := s.send(t, srv); got.Status != 200 {
		t.Fatalf("%d %s", got.Status, got.Body)
	}
	if err := srv.Close(); err != nil {
		t.Fatal(err)
	}
	srv = openleashtest.NewServer(t, options)
	for range 239 {
		time.pass(1e9)
		bot.On(srv).Do(t, "GET", "/v1/agent/self", nil) // each forgets what is old
	}
	wantCode(t, "after a restart, four minutes later", s.send(t, srv), 401, "NONCE_REPLAY")
	time.pass(1e9)
	wantCode(t, "and later", s.send(t, srv), 401, "TIMESTAMP_SKEW")
}

func TestReplaysAtOnce(t *testing.T) {
	servers := pair(t)
	bot := servers[0].Agent(t, "bot")
	for range 20 {
		s := capture(t, bot, "POST", "/v1/authorize", text(t, bot.Action("look", nil)))
		self := capture(t, bot, "GET", "/v1/agent/self", "")
		for _, s := range []sent{s, self} {
			var sends []func() (openleashtest.Response, error)
			for n := range 6 {
				sends = append(sends, func() (openleashtest.Response, error) { return s.to(servers[n%2]) })
			}
			let := 0
			for _, r := range atOnce(t, sends...) {
				if r.Status == 200 {
					let++
				} else if r.Code() != "NONCE_REPLAY" {
					t.Errorf("%d %s", r.Status, r.Body)
				}
			}
			if let != 1 {
				t.Errorf("%s: one request was answered %d times", s.path, let)
			}
		}
	}
}

func TestTimestamps(t *testing.T) {
	time := newClock()
	srv := openleashtest.NewServer(t, &openleashtest.Options{Policy: safetyPolicy, Now: time.now})
	bot := srv.Agent(t, "bot")
	for at, want := range map[string]string{
		"NaN": "TIMESTAMP_SKEW", "null": "TIMESTAMP_SKEW", "0": "TIMESTAMP_SKEW", "1777988531": "TIMESTAMP_SKEW", "1777988531000": "TIMESTAMP_SKEW",
		"Infinity": "TIMESTAMP_SKEW", "now": "TIMESTAMP_SKEW", "2026-05-05": "TIMESTAMP_SKEW", "2026-05-05T13:42:11": "TIMESTAMP_SKEW",
		"Tue, 05 May 2026 13:42:11 GMT": "TIMESTAMP_SKEW", "2026-13-05T13:42:11Z": "TIMESTAMP_SKEW", "2026-05-05T13:42:11Z ": "",
		"2026-05-05T13:40:10.999Z": "TIMESTAMP_SKEW", "2026-05-05T13:44:11.001Z": "TIMESTAMP_SKEW", "9999-12-31T23:59:59Z": "TIMESTAMP_SKEW",
		"2026-05-05T13:40:11Z": "", "2026-05-05T13:44:11Z": "", "2026-05-05T15:42:11.123456789+02:00": "", "": "MISSING_HEADERS",
	} {
		r, err := bot.Request("GET", "/v1/agent/self", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Timestamp", at)
		if strings.HasSuffix(at, " ") { // HTTP takes the blank off; it must not matter to what is signed
			r.Header.Set("X-Timestamp", strings.TrimSpace(at))
		}
		bot.Sign(r)
		r.Header.Set("X-Timestamp", at)
		if got := srv.Send(t, r); got.Code() != want {
			t.Errorf("X-Timestamp %q: %d %s, want %q", at, got.Status, got.Body, want)
		}
	}
}

func TestHeaders(t *testing.T) {
	srv := safetyServer(t)
	bot := srv.Agent(t, "bot")
	other := srv.Agent(t, "other")
	send := func(change func(http.Header), signing *openleashtest.Agent) openleashtest.Response {
		r, err := bot.Request("POST", "/v1/authorize", []byte(text(t, bot.Action("look", nil))))
		if err != nil {
			t.Fatal(err)
		}
		change(r.Header)
		if signing != nil {
			signing.Sign(r)
		}
		return srv.Send(t, r)
	}
	for _, name := range []string{"X-Agent-Id", "X-Timestamp", "X-Nonce", "X-Body-Sha256", "X-Signature"} {
		wantCode(t, "no "+name, send(func(h http.Header) { h.Del(name) }, nil), 401, "MISSING_HEADERS")
		wantCode(t, "an empty "+name, send(func(h http.Header) { h.Set(name, "") }, nil), 401, "MISSING_HEADERS")
		wantCode(t, name+" twice", send(func(h http.Header) { h.Add(name, h.Get(name)) }, nil), 401, "MISSING_HEADERS")
		wantCode(t, name+" and another", send(func(h http.Header) { h[name] = []string{"x", h.Get(name)} }, nil), 401, "MISSING_HEADERS")
		wantCode(t, name+" in other case and another", send(func(h http.Header) { h[strings.ToUpper(name)] = []string{"x"} }, nil), 401, "MISSING_HEADERS")
	}
	sum := "X-Body-Sha256"
	wantCode(t, "an upper-case hash, signed", send(func(h http.Header) { h.Set(sum, strings.ToUpper(h.Get(sum))) }, bot), 401, "BODY_HASH_MISMATCH")
	wantCode(t, "the hash of another body, signed", send(func(h http.Header) { h.Set(sum, strings.Repeat("0", 64)) }, bot), 401, "BODY_HASH_MISMATCH")
	wantCode(t, "the hash with its name, signed", send(func(h http.Header) { h.Set(sum, "sha256:"+h.Get(sum)) }, bot), 401, "BODY_HASH_MISMATCH")
	wantCode(t, "signed by another agent", send(func(http.Header) {}, other), 401, "INVALID_SIGNATURE")
	wantCode(t, "in another agent's name", send(func(h http.Header) { h.Set("X-Agent-Id", "other") }, nil), 401, "INVALID_SIGNATURE")
	wantCode(t, "a name in other case", send(func(h http.Header) { h.Set("X-Agent-Id", "BOT") }, bot), 401, "AGENT_NOT_FOUND")
	for what, change := range map[string]func(string) string{
		"a signature without its padding": func(s string) string { return strings.TrimRight(s, "=") },
		"a signature in base64url":        func(s string) string { return "-_" + s[2:] },
		"a short signature":               func(s string) string { return s[:44] },
		"a signature of zeros":            func(s string) string { return base64.StdEncoding.EncodeToString(make([]byte, 64)) },
	} {
		wantCode(t, what, send(func(h http.Header) { h.Set("X-Signature", change(h.Get("X-Signature"))) }, nil), 401, "INVALID_SIGNATURE")
	}
	s := capture(t, bot, "POST", "/v1/authorize", text(t, bot.Action("look", nil)))
	s.path = "/v1/agent/outcomes"
	wantCode(t, "to another route", s.send(t, srv), 401, "INVALID_SIGNATURE")
}

func TestTokensAreNotProofs(t *testing.T) {
	srv := safetyServer(t)
	bot := srv.Agent(t, "bot")
	action, _ := granted(t, srv, bot)
	token := action["approval_token"].(string)
	var verified struct {
		Valid  bool
		Claims any
	}
	srv.Post(t, "/v1/verify-proof", map[string]any{"token": token}).Read(t, &verified)
	if verified.Valid || verified.Claims != nil {
		t.Errorf("an approval token verifies as a proof: %+v", verified)
	}
	// As the session of an owner.
	port := srv.URL[strings.LastIndex(srv.URL, ":")+1:]
	for _, path := range []string{"/", "/approvals", "/agents", "/limits", "/v1/owner/profile", "/v1/owner/sessions", "/v1/admin/users"} {
		r, err := http.NewRequest("GET", srv.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.AddCookie(&http.Cookie{Name: "openleash_" + port, Value: token})
		r.Header.Set("Authorization", "Bearer "+token)
		if got := srv.Send(t, r); got.Status == 200 {
			t.Errorf("GET %s with an approval token for a session: %d", path, got.Status)
		}
	}
	// A session for a proof.
	session := srv.SignIn(t)
	srv.Post(t, "/v1/verify-proof", map[string]any{"token": session}).Read(t, &verified)
	if verified.Valid || verified.Claims != nil {
		t.Errorf("a session verifies as a proof: %+v", verified)
	}
	// A proof, a session, and what is like a token, for an approval.
	proof := bot.Authorize(t, bot.Action("look", nil)).ProofToken
	for what, wrong := range map[string]string{
		"a proof": proof, "a session": session, "nonsense": "v4.public.AAAA", "one with another footer": token[:strings.LastIndex(token, ".")+1] + "e30",
		"one without its footer": token[:strings.LastIndex(token, ".")], "one with a dot": token + ".", "one that was changed": token[:30] + "AA" + token[32:],
	} {
		wantCode(t, what, bot.Do(t, "POST", "/v1/authorize", with(action, "approval_token", wrong)), 401, "INVALID_APPROVAL_TOKEN")
	}
	for _, wrong := range []any{1, true, []any{token}, map[string]any{}} {
		wantCode(t, "a token that is no text", bot.Do(t, "POST", "/v1/authorize", with(action, "approval_token", wrong)), 400, "VALIDATION_ERROR")
	}
	// Of another installation, whose request has the same names.
	elsewhere := safetyServer(t)
	far, _ := granted(t, elsewhere, elsewhere.Agent(t, "bot"))
	wantCode(t, "another installation's", bot.Do(t, "POST", "/v1/authorize", with(action, "approval_token", far["approval_token"])), 401, "INVALID_APPROVAL_TOKEN")
	if d := bot.Authorize(t, action); d.Decision != "ALLOW" {
		t.Errorf("the right one, after all that: %+v", d)
	}
}

func TestApprovalsAreForOneActionOfOneAgent(t *testing.T) {
	srv := safetyServer(t)
	bot, mole := srv.Agent(t, "bot"), srv.Agent(t, "mole")
	action, request := granted(t, srv, bot)
	token := action["approval_token"]
	theirs := mole.Action("pay", action["payload"].(map[string]any))
	theirs["action_id"], theirs["requested_at"] = action["action_id"], action["requested_at"]
	wantCode(t, "by another agent", mole.Do(t, "POST", "/v1/authorize", with(theirs, "approval_token", token)), 400, "AGENT_MISMATCH")
	wantCode(t, "by another agent, as it is", mole.Do(t, "POST", "/v1/authorize", action), 400, "AGENT_MISMATCH")
	wantCode(t, "another's request", mole.Do(t, "GET", "/v1/agent/approval-requests/"+request, nil), 404, "NOT_FOUND")
	for key, value := range map[string]any{
		"payload": map[string]any{"for": "more"}, "action_type": "pay.more", "requested_at": "2026-05-05T13:42:12Z", "action_id": uuid.NewString(),
		"relying_party": map[string]any{"domain": "evil.example"},
	} {
		got := bot.Do(t, "POST", "/v1/authorize", with(action, key, value))
		if got.Status == 200 || !strings.HasPrefix(got.Code(), "ACTION_") {
			t.Errorf("with another %s: %d %s", key, got.Status, got.Body)
		}
	}
	if d := bot.Authorize(t, action); d.Decision != "ALLOW" || d.ApprovalID != request {
		t.Errorf("the right one, after all that: %+v", d)
	}
}

// One approval is one ALLOW, whoever asks where, and is charged once.
func TestApprovalsAreSpentOnce(t *testing.T) {
	servers := pair(t)
	for i := range 10 {
		bot := servers[0].Agent(t, fmt.Sprint("bot", i))
		action, request := granted(t, servers[0], bot)
		var sends []func() (openleashtest.Response, error)
		for n := range 6 {
			sends = append(sends, authorizing(t, servers[n%2], bot.On(servers[n%2]), action))
		}
		answers := atOnce(t, sends...)
		if n := allowed(t, answers); n != 1 {
			t.Errorf("one approval allowed %d times", n)
		}
		for _, r := range answers {
			if d := decision(t, r); d.Decision != "ALLOW" && d.ProofToken != "" || strings.Count(string(r.Body), "v4.public") > 1 {
				t.Errorf("%d %s", r.Status, r.Body)
			}
		}
		wantCode(t, "again", bot.Do(t, "POST", "/v1/authorize", action), 400, "APPROVAL_TOKEN_CONSUMED")
		if got := bot.Do(t, "GET", "/v1/agent/approval-requests/"+request, nil); strings.Contains(string(got.Body), "v4.public") {
			t.Errorf("a spent approval shows its token: %s", got.Body)
		}
		delete(action, "approval_token")
		if d := bot.Authorize(t, action); d.Decision == "ALLOW" || d.ProofToken != "" {
			t.Errorf("a redemption was given again: %+v", d)
		}
		for range 3 { // of the limit of four it has taken one
			asked(t, bot)
		}
	}
}

func TestADenyWinsOverAnApproval(t *testing.T) {
	srv := safetyServer(t)
	bot := srv.Agent(t, "bot")
	action, _ := granted(t, srv, bot)
	srv.SetPolicy(t, strings.Replace(safetyPolicy, "rules:\n", "rules:\n  - {id: not-now, effect: deny, action: pay}\n", 1))
	if d := bot.Authorize(t, action); d.Decision != "DENY" || d.ProofToken != "" || d.MatchedRuleID != "not-now" {
		t.Errorf("= %+v, want the deny that was added", d)
	}
	srv.SetPolicy(t, safetyPolicy)
	if d := bot.Authorize(t, action); d.Decision != "ALLOW" {
		t.Errorf("= %+v, want the approval: nothing has spent it", d)
	}
}

// What a name was given is not its next bearer's.
func TestRevokedNames(t *testing.T) {
	srv := safetyServer(t)
	bot := srv.Agent(t, "bot")
	approved, given := granted(t, srv, bot)
	waiting, request := asked(t, bot)
	free := bot.Authorize(t, bot.Action("look", nil))
	only := bot.Action("pay", nil)
	decided := bot.Authorize(t, only)
	srv.Revoke(t, "bot")
	wantCode(t, "a revoked agent", bot.Do(t, "POST", "/v1/authorize", approved), 401, "AGENT_INACTIVE")
	wantCode(t, "a revoked agent", bot.Do(t, "GET", "/v1/agent/self", nil), 401, "AGENT_INACTIVE")

	next := srv.Agent(t, "bot")
	wantCode(t, "the former key", bot.Do(t, "GET", "/v1/agent/self", nil), 401, "INVALID_SIGNATURE")
	wantCode(t, "an approval token of the former", next.Do(t, "POST", "/v1/authorize", approved), 400, "INVALID_APPROVAL_STATUS")
	if err := srv.Answer(request, true, ""); err == nil {
		t.Error("a request of a revoked agent was approved")
	}
	for _, id := range []string{given, request} {
		wantCode(t, "a request of the former", next.Do(t, "GET", "/v1/agent/approval-requests/"+id, nil), 404, "NOT_FOUND")
	}
	wantCode(t, "an outcome of the former", next.Do(t, "POST", "/v1/agent/outcomes", map[string]any{"decision_id": free.DecisionID, "status": "ok"}), 404, "UNKNOWN_DECISION")
	for _, action := range []map[string]any{waiting, only} {
		wantCode(t, "asking by a decision of the former", next.Do(t, "POST", "/v1/agent/approval-requests", map[string]any{"decision_id": decided.DecisionID, "action": action}), 404, "UNKNOWN_DECISION")
		if d := next.Authorize(t, action); d.Decision == "ALLOW" {
			t.Errorf("%+v", d)
		}
	}
}

func TestOnlyWhatWasAskedForIsBroughtBeforeTheOwner(t *testing.T) {
	srv := safetyServer(t)
	bot, mole := srv.Agent(t, "bot"), srv.Agent(t, "mole")
	ask := func(a *openleashtest.Agent, decision string, action map[string]any) openleashtest.Response {
		return a.Do(t, "POST", "/v1/agent/approval-requests", map[string]any{"decision_id": decision, "action": action})
	}
	action := bot.Action("pay", nil)
	d := bot.Authorize(t, action)
	for _, id := range []string{uuid.NewString(), "x", strings.ToUpper(d.DecisionID)} {
		wantCode(t, "an invented decision", ask(bot, id, action), 404, "UNKNOWN_DECISION")
	}
	wantCode(t, "no decision", ask(bot, "", action), 400, "VALIDATION_ERROR")
	flight, look := bot.Action("fly", nil), bot.Action("look", nil)
	wantCode(t, "a denied decision", ask(bot, bot.Authorize(t, flight).DecisionID, flight), 404, "UNKNOWN_DECISION")
	wantCode(t, "an allowed decision", ask(bot, bot.Authorize(t, look).DecisionID, look), 404, "UNKNOWN_DECISION")
	theirs := mole.Action("pay", nil)
	wantCode(t, "another agent's decision", ask(mole, d.DecisionID, theirs), 404, "UNKNOWN_DECISION")
	theirs["action_id"], theirs["requested_at"] = action["action_id"], action["requested_at"]
	wantCode(t, "another agent's decision, with its id", ask(mole, d.DecisionID, theirs), 404, "UNKNOWN_DECISION")
	wantCode(t, "another action", ask(bot, d.DecisionID, bot.Action("pay", map[string]any{"amount_minor": 1})), 404, "UNKNOWN_DECISION")
	wantCode(t, "another action of the same id", ask(bot, d.DecisionID, with(action, "payload", map[string]any{"amount_minor": 1})), 400, "ACTION_HASH_MISMATCH")
	if got := ask(bot, d.DecisionID, action); got.Status != 200 {
		t.Errorf("the right one, after all that: %d %s", got.Status, got.Body)
	}
}

func TestApproveAndDenyAtOnce(t *testing.T) {
	servers := pair(t)
	for i := range 10 {
		bot := servers[0].Agent(t, fmt.Sprint("bot", i))
		action, request := asked(t, bot)
		errs := make([]error, 4)
		var all sync.WaitGroup
		for n := range errs {
			all.Go(func() { errs[n] = servers[n%2].Answer(request, n < 2, "no") })
		}
		all.Wait()
		won := -1
		for n, err := range errs {
			if err == nil && won >= 0 {
				t.Errorf("both %d and %d have answered the request", won, n)
			}
			if err == nil {
				won = n
			}
		}
		got := bot.Do(t, "GET", "/v1/agent/approval-requests/"+request, nil)
		status := map[bool]string{true: "APPROVED", false: "DENIED"}[won < 2]
		if won < 0 || !strings.Contains(string(got.Body), `"status":"`+status+`"`) || strings.Contains(string(got.Body), "approval_token") != (won < 2) {
			t.Errorf("answer %d has won: %s", won, got.Body)
		}
		if d := bot.Authorize(t, action); d.Decision == "ALLOW" {
			t.Errorf("without the token: %+v", d)
		}
	}
}

func TestInvitesAreUsedOnce(t *testing.T) {
	servers := pair(t)
	for i := range 10 {
		invite, err := url.Parse(servers[0].Invite(t))
		if err != nil {
			t.Fatal(err)
		}
		var sends []func() (openleashtest.Response, error)
		for n := range 4 {
			a := servers[0].NewAgent(fmt.Sprintf("bot-%d-%d", i, n))
			body := text(t, map[string]any{"agent_id": a.Name, "agent_pubkey_b64": a.PublicKey()})
			sends = append(sends, func() (openleashtest.Response, error) { return post(servers[n%2], invite.RequestURI(), body) })
		}
		used := 0
		for _, r := range atOnce(t, sends...) {
			if r.Status == 200 {
				used++
			} else if r.Code() != "INVITE_USED" {
				t.Errorf("%d %s", r.Status, r.Body)
			}
		}
		if used != 1 {
			t.Errorf("one invite was used %d times", used)
		}
	}
}

func TestInvitesEnd(t *testing.T) {
	time := newClock()
	srv := openleashtest.NewServer(t, &openleashtest.Options{Policy: safetyPolicy, Now: time.now})
	bot := srv.NewAgent("bot")
	invite := srv.Invite(t)
	for range 3 {
		wantCode(t, "a guessed token", bot.Register(t, invite[:len(invite)-2]+"AA"), 401, "INVALID_INVITE_TOKEN")
		wantCode(t, "no token", bot.Register(t, invite[:strings.Index(invite, "&")]), 400, "INVALID_REQUEST")
	}
	time.pass(24 * 60 * 60 * 1e9)
	wantCode(t, "an expired invite", bot.Register(t, invite), 400, "INVITE_EXPIRED")
	if got := bot.Register(t, srv.Invite(t)); got.Status != 200 {
		t.Errorf("a fresh one: %d %s", got.Status, got.Body)
	}
}

// The same action at once is one decision: one proof, charged once.
func TestTheSameActionAtOnce(t *testing.T) {
	servers := pair(t)
	for i := range 10 {
		bot := servers[0].Agent(t, fmt.Sprint("bot", i))
		action := bot.Action("buy", map[string]any{"n": i})
		var sends []func() (openleashtest.Response, error)
		for n := range 6 {
			sends = append(sends, authorizing(t, servers[n%2], bot.On(servers[n%2]), action))
		}
		proofs := map[string]bool{}
		answers := atOnce(t, sends...)
		for _, r := range answers {
			proofs[decision(t, r).ProofToken] = true
		}
		if n := allowed(t, answers); n != len(sends) || len(proofs) != 1 {
			t.Errorf("%d of %d are allowed, with %d different proofs; want all with the same: %s", n, len(sends), len(proofs), answers)
		}
		if d := bot.Authorize(t, bot.Action("buy", nil)); d.Code != "LIMIT_EXCEEDED" {
			t.Errorf("another one: %+v, want the limit of one to be full", d)
		}
		wantCode(t, "the id with another action", bot.Do(t, "POST", "/v1/authorize", with(action, "payload", map[string]any{"n": -1})), 409, "ACTION_ID_REUSED")
	}
}

// However many ask for the same at once, each gets an answer.
func TestTheSameRefusalAtOnce(t *testing.T) {
	servers := pair(t)
	bot := servers[0].Agent(t, "bot")
	for _, kind := range []string{"fly", "pay"} {
		action := bot.Action(kind, nil)
		var sends []func() (openleashtest.Response, error)
		for n := range 24 {
			sends = append(sends, authorizing(t, servers[n%2], bot.On(servers[n%2]), action))
		}
		for _, r := range atOnce(t, sends...) {
			if d := decision(t, r); r.Status != 200 || d.Decision == "ALLOW" {
				t.Errorf("%s: %s, want the decision of the policy", kind, r)
			}
		}
	}
}

// An answer is not given again that the policies would not give.
func TestARepetitionIsDecidedToo(t *testing.T) {
	srv := safetyServer(t)
	bot := srv.Agent(t, "bot")
	action := bot.Action("look", nil)
	first := bot.Authorize(t, action)
	if again := bot.Authorize(t, action); again.ProofToken != first.ProofToken || !again.Repeated {
		t.Errorf("the same action again: %+v, want the answer %+v", again, first)
	}
	srv.SetPolicy(t, "version: 1\ndefault: deny\nrules: []\n")
	if again := bot.Authorize(t, action); again.Decision != "DENY" || again.ProofToken != "" {
		t.Errorf("the same action, which is denied by now: %+v", again)
	}
	srv.SetPolicy(t, safetyPolicy)
	if again := bot.Authorize(t, action); again.Decision != "ALLOW" || again.DecisionID == first.DecisionID {
		t.Errorf("and is allowed again: %+v, want a decision of its own", again)
	}
}

func TestDryRunsLeaveNoTrace(t *testing.T) {
	srv := safetyServer(t)
	bot := srv.Agent(t, "bot")
	before := len(srv.Entries(t))
	action := bot.Action("buy", nil)
	for range 5 {
		d := bot.Authorize(t, with(action, "dry_run", true))
		if d.Decision != "ALLOW" || d.DecisionID != "" || d.ProofToken != "" {
			t.Errorf("= %+v", d)
		}
	}
	if after := len(srv.Entries(t)); after != before {
		t.Errorf("the log has %d entries more", after-before)
	}
	if d := bot.Authorize(t, action); d.Decision != "ALLOW" || d.Repeated {
		t.Errorf("the limit of one has been charged: %+v", d)
	}
	if d := bot.Authorize(t, with(bot.Action("buy", nil), "dry_run", true)); d.Decision != "DENY" {
		t.Errorf("when the limit is full: %+v", d)
	}
}

func TestOutcomesAreToldOnce(t *testing.T) {
	servers := pair(t)
	mole := servers[0].Agent(t, "mole")
	for i, status := range []string{"ok", "error", "cancelled"} {
		bot := servers[0].Agent(t, fmt.Sprint("bot", i))
		d := bot.Authorize(t, bot.Action("buy", nil))
		body := text(t, map[string]any{"decision_id": d.DecisionID, "status": status})
		wantCode(t, "by another agent", mole.Do(t, "POST", "/v1/agent/outcomes", []byte(body)), 404, "UNKNOWN_DECISION")
		var sends []func() (openleashtest.Response, error)
		for n := range 4 {
			s := capture(t, bot, "POST", "/v1/agent/outcomes", body)
			sends = append(sends, func() (openleashtest.Response, error) { return s.to(servers[n%2]) })
		}
		told := 0
		for _, r := range atOnce(t, sends...) {
			if r.Status == 200 {
				told++
			} else if r.Code() != "ALREADY_REPORTED" {
				t.Errorf("%d %s", r.Status, r.Body)
			}
		}
		if told != 1 {
			t.Errorf("one outcome was told %d times", told)
		}
		if d := bot.Authorize(t, bot.Action("buy", nil)); d.Code != "LIMIT_EXCEEDED" {
			t.Errorf("the outcome %q has given the charge back: %+v", status, d)
		}
	}
}

func TestBodies(t *testing.T) {
	srv := safetyServer(t)
	bot := srv.Agent(t, "bot")
	payload := func(p string) string {
		return strings.Replace(text(t, bot.Action("look", map[string]any{"x": 0})), `{"x":0}`, p, 1)
	}
	for name, tt := range map[string]struct {
		body   string
		status int
		code   string
	}{
		"of 2 MB":                           {payload(`{"x":"` + strings.Repeat("a", 2<<20) + `"}`), 413, "BODY_TOO_LARGE"},
		"cut off":                           {payload(`{"x":0}`)[:60], 400, "INVALID_JSON"},
		"null":                              {`null`, 400, "INVALID_JSON"},
		"a list":                            {`[]`, 400, "INVALID_JSON"},
		"two":                               {`{} {}`, 400, "INVALID_JSON"},
		"not UTF-8":                         {payload("{\"x\":\"\xff\"}"), 400, "INVALID_JSON"},
		"with a byte-order mark":            {"\ufeff" + payload(`{"x":0}`), 400, "INVALID_JSON"},
		"with a lone surrogate":             {payload(`{"x":"\ud800"}`), 400, "INVALID_JSON"},
		"with a key twice":                  {payload(`{"x":1,"x":2}`), 400, "INVALID_JSON"},
		"with a key twice, written oddly":   {payload(`{"x":1,"\u0078":2}`), 400, "INVALID_JSON"},
		"with action_type twice":            {strings.Replace(payload(`{}`), `"action_type"`, `"action_type":"fly","action_type"`, 1), 400, "INVALID_JSON"},
		"with action_type in two cases":     {strings.Replace(payload(`{}`), `"action_type"`, `"Action_Type":"fly","action_type"`, 1), 400, "INVALID_ACTION_REQUEST"},
		"10,000 deep":                       {payload(`{"x":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `}`), 400, "INVALID_JSON"},
		"10,000 deep, and not closed":       {payload(`{"x":` + strings.Repeat(`{"a":`, 10_000)), 400, "INVALID_JSON"},
		"with a number beyond a double":     {payload(`{"x":1e400}`), 400, "INVALID_JSON"},
		"with a number of 17 digits":        {payload(`{"x":9007199254740993}`), 400, "INVALID_ACTION_REQUEST"},
		"with a number of long decimals":    {payload(`{"x":123456789.123456789}`), 400, "INVALID_ACTION_REQUEST"},
		"with a large exponent":             {payload(`{"x":1e999999999}`), 400, "INVALID_JSON"},
		"with a payload that is a text":     {payload(`"x"`), 400, "INVALID_ACTION_REQUEST"},
		"without an action_id":              {strings.Replace(payload(`{}`), `"action_id"`, `"other_id"`, 1), 400, "INVALID_ACTION_REQUEST"},
		"with an action_id that is no UUID": {text(t, with(bot.Action("look", nil), "action_id", "1")), 400, "INVALID_ACTION_REQUEST"},
		"with dry_run that is a text":       {text(t, with(bot.Action("look", nil), "dry_run", "true")), 400, "VALIDATION_ERROR"},
	} {
		got := bot.Do(t, "POST", "/v1/authorize", []byte(tt.body))
		if got.Status != tt.status || got.Code() != tt.code {
			t.Errorf("a body %s: %d %.300s; want %d %s", name, got.Status, got.Body, tt.status, tt.code)
		}
	}
	for _, e := range srv.Entries(t) {
		if e.Decision != nil {
			t.Errorf("something was decided: %+v", e)
		}
	}
	if d := bot.Authorize(t, bot.Action("look", nil)); d.Decision != "ALLOW" {
		t.Errorf("after all that: %+v", d)
	}
}

// TestSecretsStaySecret: what agents and owners give each other stands in no answer but
// the one that gives it, in no log, and nowhere in the home but where it is kept.
func TestSecretsStaySecret(t *testing.T) {
	var program bytes.Buffer
	home := filepath.Join(t.TempDir(), "home")
	srv := openleashtest.NewServer(t, &openleashtest.Options{Policy: safetyPolicy, Home: home, Log: &program})
	invite := srv.Invite(t)
	bot := srv.NewAgent("bot")
	var answers []string
	note := func(r openleashtest.Response) openleashtest.Response {
		answers = append(answers, string(r.Body))
		return r
	}
	hook := map[string]any{
		"agent_id": "bot", "agent_pubkey_b64": bot.PublicKey(), "webhook_url": "https://agent.example/hook",
		"webhook_secret": "secret-of-the-hook", "webhook_auth_token": "bearer-of-the-hook",
	}
	note(srv.Post(t, strings.TrimPrefix(invite, srv.URL), hook))
	note(srv.Post(t, strings.TrimPrefix(invite, srv.URL), hook)) // used
	note(bot.Do(t, "GET", "/v1/agent/self", nil))
	action, request := granted(t, srv, bot)
	token := action["approval_token"].(string)
	note(bot.Do(t, "POST", "/v1/authorize", action))
	note(bot.Do(t, "POST", "/v1/authorize", action)) // spent
	note(bot.Do(t, "POST", "/v1/authorize", with(action, "approval_token", token+"A")))
	note(bot.Do(t, "GET", "/v1/agent/approval-requests/"+request, nil))
	note(bot.Do(t, "POST", "/v1/authorize", with(action, "token", token))) // where it does not belong
	proof := bot.Authorize(t, bot.Action("look", nil)).ProofToken
	entries := text(t, srv.Entries(t))
	if err := srv.Close(); err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(srv.LogPath)
	if err != nil {
		t.Fatal(err)
	}
	secrets := map[string]string{
		"webhook_secret": "secret-of-the-hook", "webhook_auth_token": "bearer-of-the-hook", "the invite's token": invite[strings.LastIndex(invite, "=")+1:],
		"the approval token": token,
	}
	for what, secret := range secrets {
		for _, answer := range answers {
			if strings.Contains(answer, secret) {
				t.Errorf("%s is in the answer %s", what, answer)
			}
		}
	}
	secrets["a proof"] = proof
	for what, secret := range secrets {
		for where, text := range map[string]string{"audit.log.jsonl": string(log), "the entries": entries, "the program's log": program.String()} {
			if strings.Contains(text, secret) {
				t.Errorf("%s is in %s", what, where)
			}
		}
		if strings.HasPrefix(what, "webhook") {
			continue // are sent, so they are kept
		}
		files, err := filepath.Glob(filepath.Join(home, "data", "*"))
		if err != nil || len(files) < 4 {
			t.Fatalf("%v, %v", files, err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err == nil && bytes.Contains(data, []byte(secret)) {
				t.Errorf("%s is in %s", what, filepath.Base(file))
			}
		}
	}
}

// TestUnsignedFlood: who has no key can have us keep nothing, however often he asks.
func TestUnsignedFlood(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	srv := openleashtest.NewServer(t, &openleashtest.Options{Policy: safetyPolicy, Home: home})
	bot := srv.Agent(t, "bot")
	bot.Authorize(t, bot.Action("look", nil))
	flood(t, srv, bot, 2_000) // what one request takes, and connections
	entries, before, rows := len(srv.Entries(t)), heap(), tables(t, home)
	began := time.Now()
	flood(t, srv, bot, 100_000)
	told := 4 * (2 + int(time.Since(began)/time.Minute)) // of each code once a minute
	if grown := int64(heap()) - int64(before); grown > 4<<20 {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
	for table, n := range tables(t, home) {
		if n > rows[table]+told || table == "nonces" && n != rows[table] {
			t.Errorf("the table %s has grown from %d rows to %d", table, rows[table], n)
		}
	}
	if grown := len(srv.Entries(t)) - entries; grown > told {
		t.Errorf("the log has grown by %d entries", grown)
	}
	if d := bot.Authorize(t, bot.Action("look", nil)); d.Decision != "ALLOW" {
		t.Errorf("after all that: %+v", d)
	}
}

// flood sends n requests with headers of all kinds, one after the other without waiting.
func flood(t *testing.T, srv *openleashtest.Server, bot *openleashtest.Agent, n int) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(srv.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		out := bufio.NewWriterSize(conn, 1<<16)
		var signed http.Header
		for i := range n {
			if i%1000 == 0 { // in time
				r, err := bot.Request("POST", "/v1/authorize", []byte(`{}`))
				if err != nil {
					t.Error(err)
					return
				}
				signed = r.Header
				signed.Set("X-Signature", base64.StdEncoding.EncodeToString(make([]byte, 64)))
			}
			fmt.Fprintf(out, "POST /v1/authorize HTTP/1.1\r\nHost: %s\r\nContent-Length: 2\r\n", conn.RemoteAddr())
			header := http.Header{"Content-Type": {"application/json"}}
			if i%10 != 0 { // the rest is not signed at all
				header = signed
				header.Set("X-Nonce", fmt.Sprint(i))
				header.Set("X-Agent-Id", []string{"bot", "nobody", fmt.Sprint("bot", i)}[i%3])
			}
			header.Write(out)
			io.WriteString(out, "\r\n{}")
		}
		out.Flush()
	}()
	in := bufio.NewReaderSize(conn, 1<<16)
	for i := range n {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 401 && resp.StatusCode != 429 { // 429: it is told so only so often
			t.Fatalf("answer %d: %s", i, resp.Status)
		}
	}
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// tables counts the rows of each table of a store.
func tables(t *testing.T, home string) map[string]int {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(home, "data", "openleash.db")+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query("SELECT name FROM sqlite_schema WHERE type = 'table'")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	if err := rows.Close(); err != nil || len(names) < 10 {
		t.Fatalf("%v, %v", names, err)
	}
	counts := map[string]int{}
	for _, name := range names {
		var n int
		if err := db.QueryRow(`SELECT count(*) FROM "` + name + `"`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		counts[name] = n
	}
	return counts
}

// For a key of small order anybody can sign.
func TestSmallOrderKeysAreRefused(t *testing.T) {
	srv := safetyServer(t)
	prefix := srv.NewAgent("x").PublicKey()[:16] // 12 bytes of DER
	for _, y := range []string{
		"0000000000000000000000000000000000000000000000000000000000000000", "0100000000000000000000000000000000000000000000000000000000000000",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	} {
		for _, sign := range []byte{0, 0x80} {
			key := make([]byte, 32)
			fmt.Sscanf(y, "%x", &key)
			key[31] |= sign
			body := map[string]any{"agent_id": "weak", "agent_pubkey_b64": prefix + base64.StdEncoding.EncodeToString(key)}
			wantCode(t, "by challenge, "+y, srv.Post(t, "/v1/agents/registration-challenge", body), 400, "INVALID_KEY")
			wantCode(t, "by invite, "+y, srv.Post(t, strings.TrimPrefix(srv.Invite(t), srv.URL), body), 400, "INVALID_KEY")
		}
	}
}
