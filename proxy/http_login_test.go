package proxy

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openleash/openleash-go/internal/oauth"
	"github.com/openleash/openleash-go/internal/oauthtest"
)

// behindLogin is an upstream that wants a login, and a folder for it.
type behindLogin struct {
	*oauthtest.Server
	protected oauth.Server
	folder    oauth.Folder
}

func newBehindLogin(t *testing.T, path string) behindLogin {
	t.Helper()
	far := must(oauthtest.Start())(t)
	t.Cleanup(func() { far.Close() })
	return behindLogin{far, oauth.Server{Name: "shop", URL: far.URL + path, SSE: path == "/sse"}, oauth.Folder(t.TempDir())}
}

// login is a person's.
func (b behindLogin) login(t *testing.T, scopes ...string) {
	t.Helper()
	browse := func(_, link string) {
		go func() {
			if res, err := http.Get(link); err == nil {
				res.Body.Close()
			}
		}()
	}
	must(b.folder.Login(t.Context(), b.protected, oauth.Asking{Scopes: scopes, Show: browse, Record: func(oauth.State) error { return nil }}))(t)
}

func (b behindLogin) upstream() HTTPUpstream {
	return HTTPUpstream{Name: "shop", URL: b.protected.URL, Bearer: oauth.NewBearer(b.folder, b.protected, func(string) {})}
}

// loginDoors are the ways in which a request goes up; each gives a function that
// sends one and brings what came of it.
var loginDoors = map[string]func(t *testing.T, b behindLogin) func(raw string) string{
	"passthrough": func(t *testing.T, b behindLogin) func(string) string {
		p, session := newRealProxy(t, allowAll), ""
		url := p.as(t, "a", p.HTTPPassthrough(b.upstream())).URL
		return func(raw string) string {
			headers := []string{"Authorization", "Bearer of-the-host"}
			if session != "" {
				headers = append(headers, "Mcp-Session-Id", session)
			}
			got := post(t, url, raw, headers...)
			if id := got.Header.Get("Mcp-Session-Id"); id != "" {
				session = id
			}
			return got.Body
		}
	},
	"DialHTTP": func(t *testing.T, b behindLogin) func(string) string {
		return over(t, must(DialHTTP(t.Context(), b.upstream()))(t))
	},
	"DialSSE": func(t *testing.T, b behindLogin) func(string) string {
		return over(t, must(DialSSE(t.Context(), b.upstream()))(t))
	},
}

func over(t *testing.T, c Conn) func(string) string {
	t.Cleanup(func() { c.Close() })
	return func(raw string) string {
		if err := c.Send(t.Context(), message(t, raw)); err != nil {
			return err.Error()
		}
		return recvRaw(t, c)
	}
}

const (
	echoCall  = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{}}}`
	adminCall = `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"admin","arguments":{}}}`
)

// TestLoginAtEachDoor: what a host is told without a login, with one, when it
// lacks a scope, when its token has ended, and when it has.
func TestLoginAtEachDoor(t *testing.T) {
	for name, open := range loginDoors {
		t.Run(name, func(t *testing.T) {
			path := "/mcp"
			if name == "DialSSE" {
				path = "/sse"
			}
			far := newBehindLogin(t, path)
			send := open(t, far)
			wants := func(raw string, words ...string) {
				t.Helper()
				got := send(raw)
				for _, w := range words {
					if !strings.Contains(got, w) {
						t.Errorf("got %s, want %s", got, w)
					}
				}
				for _, secret := range append(far.Secrets(), "of-the-host") {
					if strings.Contains(got, secret) {
						t.Errorf("%s is in %s", secret, got)
					}
				}
			}
			wants(initialize, "the upstream server shop wants a login (401", "openleash login shop")
			far.login(t)
			wants(initialize, `"serverInfo"`)
			wants(echoCall, "echo did it")
			wants(adminCall, "openleash login shop --scope tools --scope admin", "insufficient_scope")
			far.login(t, "admin")
			wants(adminCall, "admin did it")

			far.Expire()
			wants(echoCall, "echo did it")
			if seen := far.Seen(); seen.Refreshed != 1 || seen.Calls != 3 {
				t.Errorf("seen %+v, want one refresh and three calls", seen)
			}
			far.login(t)
			far.Expire()
			far.End()
			wants(echoCall, "login at the upstream server shop has ended", "invalid_grant", "openleash login shop")
			far.login(t)
			wants(echoCall, "echo did it")
			if seen := far.Seen(); seen.Calls != 4 {
				t.Errorf("%d calls ran, want 4", seen.Calls)
			}
			for _, bearer := range far.Bearers() {
				if token, _ := strings.CutPrefix(bearer, "Bearer "); bearer != "" && !slices.Contains(far.Secrets(), token) {
					t.Errorf("the upstream was sent %q, which it has not given out", bearer)
				}
			}
		})
	}
}

// TestWhoIsNotBelieved: each refusal says what would help.
func TestWhoIsNotBelieved(t *testing.T) {
	far := newBehindLogin(t, "/mcp")
	with, without := far.upstream(), HTTPUpstream{Name: "shop", URL: far.URL}
	long := `Bearer error="insufficient_scope", scope="` + strings.Repeat("x", 5000) + `\u202e"`
	for _, tt := range []struct {
		up        HTTPUpstream
		status    int
		challenge string
		want      string
	}{
		{without, 401, "Bearer", "check the headers: of this server"},
		{without, 403, `Bearer error="insufficient_scope", scope="x"`, "check the headers: of this server"},
		{with, 407, "Basic", "check the headers: of this server"},
		{with, 401, "", "openleash login shop (or puts a token"},
		{with, 403, "Bearer", "sign in as somebody else with: openleash login shop"},
		{with, 403, `Bearer error="insufficient_scope", scope="a b"`, `insufficient_scope: "a b"`},
		{with, 403, long, "insufficient_scope"},
	} {
		res := &http.Response{StatusCode: tt.status, Status: http.StatusText(tt.status), Header: http.Header{}}
		if tt.challenge != "" {
			res.Header.Set("WWW-Authenticate", tt.challenge)
		}
		f, away := tt.up.turnedAway(res)
		if !away || f.status != "transport_error" || !strings.Contains(f.detail, tt.want) || len(f.detail) > 1000 {
			t.Errorf("%d %.80s: %v %+v", tt.status, tt.challenge, away, f)
		}
	}
}

// TestTokenThatEndsInTimeIsRenewedBefore: the upstream never sees it ended.
func TestTokenThatEndsInTimeIsRenewedBefore(t *testing.T) {
	t.Parallel()
	far := newBehindLogin(t, "/mcp")
	far.Lifetime(time.Second)
	far.login(t)
	far.Lifetime(time.Hour)
	send := loginDoors["DialHTTP"](t, far)
	send(initialize)
	refused := far.Seen().Refused
	time.Sleep(800 * time.Millisecond) // it has a quarter of its life left
	if got := send(echoCall); !strings.Contains(got, "echo did it") {
		t.Errorf("got %s", got)
	}
	if seen := far.Seen(); seen.Refreshed != 1 || seen.Refused != refused {
		t.Errorf("seen %+v", seen)
	}
}

// TestTokenIsNotSentElsewhere: neither where the upstream redirects to, nor to
// another url under the same name.
func TestTokenIsNotSentElsewhere(t *testing.T) {
	far := newBehindLogin(t, "/mcp")
	far.login(t)
	far.Quirk("moved", true)
	if got := loginDoors["passthrough"](t, far)(initialize); !strings.Contains(got, "/elsewhere; redirects are not followed") {
		t.Errorf("got %s", got)
	}
	other := newRawUpstream(t, func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(401) })
	far.protected.URL = other.URL
	for _, door := range []string{"passthrough", "DialHTTP"} {
		if got := loginDoors[door](t, far)(initialize); !strings.Contains(got, "openleash login shop") {
			t.Errorf("got %s", got)
		}
	}
	for _, r := range other.requests() {
		if a := r.header.Get("Authorization"); a != "" {
			t.Errorf("another url was sent %s", a)
		}
	}
}

// TestOnlyA401IsSentAgain: whatever else comes may have been done.
func TestOnlyA401IsSentAgain(t *testing.T) {
	far := newBehindLogin(t, "/mcp")
	far.login(t)
	for _, status := range []int{400, 403, 407, 500, 503} {
		up := newRawUpstream(t, func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(status) })
		res, _, err := HTTPUpstream{Name: "shop", URL: up.URL, Bearer: far.upstream().Bearer, transport: newTransport()}.do(t.Context(), "POST", http.Header{}, []byte("{}"), nil)
		if err != nil || res.StatusCode != status {
			t.Errorf("%d: got %v, %v", status, res, err)
			continue
		}
		res.Body.Close()
		if n := len(up.requests()); n != 1 {
			t.Errorf("%d: sent %d times", status, n)
		}
	}
	up := newRawUpstream(t, func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(401) })
	res, _, err := HTTPUpstream{Name: "shop", URL: up.URL, Bearer: far.upstream().Bearer, transport: newTransport()}.do(t.Context(), "POST", http.Header{}, []byte("{}"), nil)
	if err != nil || res.StatusCode != 401 || len(up.requests()) != 2 {
		t.Errorf("401: got %v, %v after %d", res, err, len(up.requests()))
	}
}
