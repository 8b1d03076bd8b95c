package oauth

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openleash/openleash-go/internal/oauthtest"
)

// start is an authorization server with an MCP server behind it, and what the
// configuration says of that one.
func start(t *testing.T, quirks ...string) (*oauthtest.Server, Server, Folder) {
	t.Helper()
	far, err := oauthtest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	for _, q := range quirks {
		far.Quirk(q, true)
	}
	return far, Server{Name: "shop", URL: far.URL + "/mcp"}, Folder(t.TempDir())
}

// browse is a person with a browser, who consents.
func browse(_, link string) {
	go func() {
		if res, err := http.Get(link); err == nil {
			res.Body.Close()
		}
	}()
}

func kept(State) error { return nil }

func signIn(t *testing.T, f Folder, s Server, scopes ...string) State {
	t.Helper()
	state, err := f.Login(t.Context(), s, Asking{Scopes: scopes, Show: browse, Record: kept})
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// accepted reports whether the MCP server takes a token.
func accepted(t *testing.T, s Server, token string) bool {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", s.URL, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Authorization": {"Bearer " + token}, "Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode == 200
}

func token(t *testing.T, b *Bearer) string {
	t.Helper()
	value, err := b.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func bearer(f Folder, s Server) *Bearer { return NewBearer(f, s, func(string) {}) }

// silent fails when a text has something in it that only the two sides may know.
func silent(t *testing.T, far *oauthtest.Server, text string) {
	t.Helper()
	for _, secret := range append(far.Secrets(), oauthtest.ClientSecret, url.QueryEscape(oauthtest.ClientSecret)) {
		if strings.Contains(text, secret) {
			t.Errorf("%s is in %s", secret, text)
		}
	}
}

func TestLogin(t *testing.T) {
	for _, quirk := range []string{"", "no challenge", "metadata unnamed", "no metadata", "silent about iss", "clients have secrets", "offline", "nobody revokes"} {
		t.Run(quirk, func(t *testing.T) {
			far, s, f := start(t, quirk)
			far.Quirk("metadata unnamed", quirk == "no metadata" || quirk == "metadata unnamed")
			if got := token(t, bearer(f, s)); got != "" {
				t.Errorf("a token before the login: %s", got)
			}
			state := signIn(t, f, s)
			if state.Issuer != far.URL || !state.Renews || state.Ended != "" || state.Until.Before(time.Now()) {
				t.Errorf("state %+v", state)
			}
			if !accepted(t, s, token(t, bearer(f, s))) {
				t.Error("the token is not accepted")
			}
			if seen := far.Seen(); seen.Exchanged != 1 || seen.Registered != 1 {
				t.Errorf("seen %+v", seen)
			}
		})
	}
}

func TestScopes(t *testing.T) {
	tests := []struct {
		name, quirk string
		configured  []string
		asked       []string
		want        string
	}{
		{"the challenge's", "", []string{"files"}, nil, "tools"},
		{"the configuration's", "no challenge", []string{"mail", "mail"}, nil, "mail"},
		{"the server's own", "no challenge", nil, nil, "tools files"},
		{"more", "", nil, []string{"admin", "tools"}, "tools admin"},
		{"offline", "offline", nil, nil, "tools offline_access"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, s, f := start(t, test.quirk)
			s.Scopes = test.configured
			if got := signIn(t, f, s, test.asked...).Scope; got != test.want {
				t.Errorf("scope %q, want %q", got, test.want)
			}
		})
	}
	t.Run("what it had stays", func(t *testing.T) {
		_, s, f := start(t)
		signIn(t, f, s, "admin")
		if got := signIn(t, f, s, "mail").Scope; got != "tools admin mail" {
			t.Errorf("scope %q", got)
		}
		if got := signIn(t, f, s).Scope; got != "tools" {
			t.Errorf("scope of a new login %q", got)
		}
	})
}

// TestLoginIsRefused: nothing is kept, nothing secret is said, and no code is
// given to anybody whom we do not believe.
func TestLoginIsRefused(t *testing.T) {
	tests := []struct{ quirk, want string }{
		{"no S256", "code_challenge_methods_supported does not have S256"},
		{"no PKCE", "code_challenge_methods_supported does not have S256"},
		{"another issuer", `issuer is "https://other.example"`},
		{"another state", "another state"},
		{"another iss", `from the authorization server "https://other.example"`},
		{"no iss", "without iss"},
		{"two codes", "more than one code"},
		{"denied", `access_denied: "the person said no\x1b[31m"`},
		{"denied by another", "other.example"},
		{"metadata redirects", "302, a redirect to"},
		{"metadata elsewhere", "another origin than its own"},
		{"metadata of another", `resource is "https://victim.example/mcp"`},
		{"plain issuer", `"http://auth.example": want https://`},
		{"server redirects", "302, a redirect to"},
		{"plain token endpoint", `token_endpoint "http://auth.example/token": want https://`},
		{"nobody registers", "oauth: {client_id: …} under server shop"},
		{"token endpoint redirects", "307, a redirect to"},
		{"huge metadata", "longer than 1048576 bytes"},
		{"twice", `it has "issuer" twice`},
		{"echoes", "invalid_grant: "},
		{"broken", "gave no token: 503"},
		{"token of another kind", `token_type is "DPoP"`},
		{"scope without end", "its scope is longer than"},
		{"long address", "longer than 2000 bytes"},
		{"token with a line end", "no access_token that fits"},
	}
	for _, test := range tests {
		t.Run(test.quirk, func(t *testing.T) {
			far, s, f := start(t, test.quirk)
			_, err := f.Login(t.Context(), s, Asking{Show: browse, Record: kept})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want %s", err, test.want)
			}
			silent(t, far, err.Error())
			if strings.Contains(err.Error(), "EVIL") {
				t.Errorf("what a stranger says is shown: %v", err)
			}
			if files, _ := os.ReadDir(string(f)); len(files) > 1 { // the lock
				t.Errorf("it left %v", files)
			}
			if !strings.HasPrefix(test.quirk, "token of") && !strings.HasPrefix(test.quirk, "token with") && test.quirk != "scope without end" && far.Seen().Exchanged > 0 {
				t.Error("the code was spent")
			}
		})
	}
}

func TestKeysOfOtherCaseAreNotOurs(t *testing.T) {
	_, s, f := start(t, "other case")
	signIn(t, f, s)
	if l, err := f.load("shop"); err != nil || strings.Contains(l.TokenEndpoint, "evil") {
		t.Errorf("%v %+v", err, l)
	}
}

func TestLoginEnds(t *testing.T) {
	_, s, f := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := f.Login(ctx, s, Asking{Show: func(_, _ string) { cancel() }, Record: kept})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestLoginThatIsNotRecordedIsNotKept(t *testing.T) {
	_, s, f := start(t)
	full := errors.New("the log is full")
	if _, err := f.Login(t.Context(), s, Asking{Show: browse, Record: func(State) error { return full }}); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
	if got := token(t, bearer(f, s)); got != "" {
		t.Errorf("it is kept: %s", got)
	}
}

// TestServerWithoutLogin: nothing is made up for a server that wants none.
func TestServerWithoutLogin(t *testing.T) {
	_, s, f := start(t, "no metadata")
	s.URL = strings.TrimSuffix(s.URL, "/mcp") + "/test/seen"
	_, err := f.Login(t.Context(), s, Asking{Show: browse, Record: kept})
	if err == nil || !strings.Contains(err.Error(), "asks for no login") {
		t.Errorf("got %v", err)
	}
}

// TestConfiguredClient: its secret goes to the token endpoint alone, and is not
// on the disk.
func TestConfiguredClient(t *testing.T) {
	far, s, f := start(t, "nobody registers")
	s.ClientID, s.ClientSecret = oauthtest.ClientID, oauthtest.ClientSecret
	far.Lifetime(time.Second)
	signIn(t, f, s)
	raw, err := os.ReadFile(f.file("shop"))
	if err != nil || strings.Contains(string(raw), oauthtest.ClientSecret) {
		t.Errorf("%v, the file has the secret: %s", err, raw)
	}
	far.Lifetime(time.Hour)
	far.Expire()
	b := bearer(f, s)
	if got, err := b.Renew(t.Context(), token(t, b)); err != nil || !accepted(t, s, got) {
		t.Errorf("renewed: %v", err)
	}
	s.ClientSecret = "wrong"
	_, err = f.Login(t.Context(), s, Asking{Show: browse, Record: kept})
	if err == nil || !strings.Contains(err.Error(), "invalid_client") || strings.Contains(err.Error(), "wrong") {
		t.Errorf("with a wrong secret: %v", err)
	}
}

// TestConfiguredClientStaysWithItsIssuer: a server that names another
// authorization server does not get our secret sent there.
func TestConfiguredClientStaysWithItsIssuer(t *testing.T) {
	_, s, f := start(t)
	s.ClientID, s.ClientSecret = oauthtest.ClientID, oauthtest.ClientSecret
	signIn(t, f, s)
	l, err := f.load("shop")
	if err != nil {
		t.Fatal(err)
	}
	l.Issuer = "https://before.example"
	if err := f.save(l); err != nil {
		t.Fatal(err)
	}
	_, err = f.Login(t.Context(), s, Asking{Show: browse, Record: kept})
	if err == nil || !strings.Contains(err.Error(), "another authorization server than at the last login") {
		t.Errorf("got %v", err)
	}
}

// TestRenewalsAreOne: many calls of two processes, one refresh.
func TestRenewalsAreOne(t *testing.T) {
	far, s, f := start(t, "slow")
	far.Lifetime(0) // soon over at once
	signIn(t, f, s)
	l, err := f.load("shop")
	if err != nil {
		t.Fatal(err)
	}
	l.Expires = l.Obtained
	if err := f.save(l); err != nil {
		t.Fatal(err)
	}
	far.Lifetime(time.Hour)
	processes := []*Bearer{bearer(f, s), bearer(f, s)}
	got := make([]string, 40)
	var work sync.WaitGroup
	for i := range got {
		work.Go(func() { got[i], _ = processes[i%2].Token(context.Background()) })
	}
	work.Wait()
	for _, value := range got {
		if value == "" || value != got[0] {
			t.Fatalf("tokens differ: %q", got)
		}
	}
	if seen := far.Seen(); seen.Refreshed != 1 || seen.Reused != 0 {
		t.Errorf("seen %+v, want one refresh", seen)
	}
	if !accepted(t, s, got[0]) {
		t.Error("the token is not accepted")
	}
}

// TestHostThatGoesAwayDoesNotLoseTheLogin: a refresh token is spent only
// together with the next being kept.
func TestHostThatGoesAwayDoesNotLoseTheLogin(t *testing.T) {
	far, s, f := start(t)
	signIn(t, f, s)
	far.Expire()
	far.Quirk("slow", true)
	b := bearer(f, s)
	old := token(t, b)
	ctx, cancel := context.WithCancel(t.Context())
	before := far.Seen().Asked
	go func() {
		for far.Seen().Asked == before {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	if _, err := b.Renew(ctx, old); err != nil {
		t.Fatal(err)
	}
	if got := token(t, bearer(f, s)); got == old || !accepted(t, s, got) {
		t.Errorf("the login is lost; seen %+v", far.Seen())
	}
}

func TestRefusedRenewalIsTheEnd(t *testing.T) {
	far, s, f := start(t)
	signIn(t, f, s)
	far.Expire()
	far.End()
	var told []string
	b := NewBearer(f, s, func(reason string) { told = append(told, reason) })
	old := token(t, b)
	for range 2 {
		_, err := b.Renew(t.Context(), old)
		var e *TokenError
		if !errors.As(err, &e) || !strings.Contains(err.Error(), "openleash login shop") || !strings.Contains(err.Error(), "invalid_grant") {
			t.Fatalf("got %v", err)
		}
		silent(t, far, err.Error())
		b.failedAt = time.Time{}
	}
	if len(told) != 1 {
		t.Errorf("told %q, want it once", told)
	}
	silent(t, far, strings.Join(told, ""))
	states, err := f.States(time.Now())
	if err != nil || len(states) != 1 || !strings.Contains(states[0].Ended, "invalid_grant") {
		t.Errorf("%v %+v", err, states)
	}
	signIn(t, f, s)
	if got := token(t, b); got == old || !accepted(t, s, got) {
		t.Error("a new login does not mend it")
	}
}

// TestAuthorizationServerIsAway: a token is used while it lives; then the error
// says that one may try again, and the login is not given up.
func TestAuthorizationServerIsAway(t *testing.T) {
	far, s, f := start(t, "broken")
	far.Quirk("broken", false)
	signIn(t, f, s)
	far.Quirk("broken", true)
	l, err := f.load("shop")
	if err != nil {
		t.Fatal(err)
	}
	l.Obtained, l.Expires = time.Now().Add(-time.Hour), time.Now().Add(20*time.Second) // time to renew it
	if err := f.save(l); err != nil {
		t.Fatal(err)
	}
	b := bearer(f, s)
	if got := token(t, b); got != l.AccessToken || b.failed == nil {
		t.Errorf("a token that lives is not used; tried: %v", b.failed)
	}
	_, err = b.Renew(t.Context(), l.AccessToken)
	if err == nil || !strings.Contains(err.Error(), "could not be renewed") || !strings.Contains(err.Error(), "503") {
		t.Errorf("got %v", err)
	}
	far.Quirk("broken", false)
	b.failedAt = time.Time{}
	if got, err := b.Renew(t.Context(), l.AccessToken); err != nil || !accepted(t, s, got) {
		t.Errorf("later: %v", err)
	}
}

// TestServerThatRefusesEveryToken does not have one spent for each call.
func TestServerThatRefusesEveryToken(t *testing.T) {
	far, s, f := start(t)
	signIn(t, f, s)
	b := bearer(f, s)
	for i := range 5 {
		got, err := b.Renew(t.Context(), token(t, b))
		if err != nil || (got != "") != (i == 0) {
			t.Errorf("%d: %q, %v", i, got, err)
		}
	}
	if seen := far.Seen(); seen.Refreshed != 1 {
		t.Errorf("seen %+v", seen)
	}
	b.renewedAt = time.Now().Add(-renewAgainAfter)
	if got, err := b.Renew(t.Context(), token(t, b)); err != nil || got == "" {
		t.Errorf("later: %q, %v", got, err)
	}
}

// TestWrongSecretOfOneProcess does not end the login for the others.
func TestWrongSecretOfOneProcess(t *testing.T) {
	far, s, f := start(t)
	s.ClientID, s.ClientSecret = oauthtest.ClientID, oauthtest.ClientSecret
	signIn(t, f, s)
	far.Expire()
	wrong := s
	wrong.ClientSecret = "of-yesterday"
	b := bearer(f, wrong)
	if _, err := b.Renew(t.Context(), token(t, b)); err == nil || !strings.Contains(err.Error(), "invalid_client") || strings.Contains(err.Error(), "of-yesterday") {
		t.Errorf("got %v", err)
	}
	b = bearer(f, s)
	if got, err := b.Renew(t.Context(), token(t, b)); err != nil || !accepted(t, s, got) {
		t.Errorf("with the right one: %v", err)
	}
}

// TestClientThatIsForgotten: a client of our own registration that is not known
// any more is the end of the login.
func TestClientThatIsForgotten(t *testing.T) {
	far, s, f := start(t)
	signIn(t, f, s)
	far.Forget()
	b := bearer(f, s)
	if _, err := b.Renew(t.Context(), token(t, b)); err == nil || !strings.Contains(err.Error(), "has ended") || !strings.Contains(err.Error(), "invalid_client") {
		t.Errorf("got %v", err)
	}
}

func TestTokenWithoutRenewal(t *testing.T) {
	far, s, f := start(t, "no refresh")
	if state := signIn(t, f, s); state.Renews {
		t.Errorf("state %+v", state)
	}
	far.Expire()
	b := bearer(f, s)
	if _, err := b.Renew(t.Context(), token(t, b)); err == nil || !strings.Contains(err.Error(), "openleash login shop") {
		t.Errorf("got %v", err)
	}
}

// TestLoginIsForItsURL: the token goes to no other.
func TestLoginIsForItsURL(t *testing.T) {
	_, s, f := start(t)
	signIn(t, f, s)
	b := bearer(f, s)
	old := token(t, b)
	other := s
	other.URL += "2"
	c := bearer(f, other)
	if got := token(t, c); got != "" {
		t.Errorf("another url gets %s", got)
	}
	if got, err := c.Renew(t.Context(), old); got != "" || err != nil {
		t.Errorf("another url gets %s, %v", got, err)
	}
}

func TestLogout(t *testing.T) {
	tests := []struct {
		quirk   string
		revoked int
		can     bool
		want    string
	}{{"", 2, true, ""}, {"nobody revokes", 0, false, ""}, {"revokes nothing", 0, true, "unsupported_token_type"}}
	for _, test := range tests {
		t.Run(test.quirk, func(t *testing.T) {
			far, s, f := start(t, test.quirk)
			signIn(t, f, s)
			b := bearer(f, s)
			old := token(t, b)
			_, can, err := f.Logout(t.Context(), s, kept)
			if can != test.can || (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, %v", can, err)
			}
			if err != nil {
				silent(t, far, err.Error())
			}
			if got := far.Seen().Revoked; got != test.revoked {
				t.Errorf("%d revoked, want %d", got, test.revoked)
			}
			if accepted(t, s, old) != (test.revoked == 0) {
				t.Error("the old token's state is another")
			}
			if got := token(t, b); got != "" {
				t.Errorf("a running process still has %s", got)
			}
			if _, _, err := f.Logout(t.Context(), s, kept); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("again: %v", err)
			}
		})
	}
}

func TestAllowedAddresses(t *testing.T) {
	tests := []struct {
		server, address string
		want            string
	}{
		{"https://mcp.example/mcp", "https://auth.example/x", ""},
		{"https://mcp.example/mcp", "http://auth.example", "want https://"},
		{"https://mcp.example/mcp", "http://127.0.0.1:1", "on this machine"},
		{"https://mcp.example/mcp", "https://127.0.0.2", "on this machine"},
		{"https://mcp.example/mcp", "https://[::1]/", "on this machine"},
		{"https://mcp.example/mcp", "https://LOCALHOST./", "on this machine"},
		{"https://mcp.example/mcp", "https://a.localhost/", "on this machine"},
		{"https://mcp.example/mcp", "file:///etc/passwd", "https://"},
		{"https://mcp.example/mcp", "javascript:alert(1)", "https://"},
		{"https://mcp.example/mcp", "https://user@auth.example/", "https://"},
		{"https://mcp.example/mcp", "https://auth.example/#x", "https://"},
		{"https://mcp.example/mcp", "/relative", "https://"},
		{"http://127.0.0.1:9/mcp", "http://localhost:8/", ""},
		{"http://127.0.0.1:9/mcp", "https://auth.example", ""},
		{"http://127.0.0.1:9/mcp", "http://auth.example", "want https://"},
	}
	for _, test := range tests {
		c, err := callerFor(Server{Name: "s", URL: test.server})
		if err == nil {
			_, err = c.allowed(test.address, "it")
		}
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s, of %s: got %v, want %q", test.address, test.server, err, test.want)
		}
	}
	if _, err := callerFor(Server{Name: "s", URL: "http://mcp.example/mcp"}); err == nil || !strings.Contains(err.Error(), "in the clear") {
		t.Errorf("a token over http: %v", err)
	}
}

// TestNamesThatLeadHere: a name can have an address of this machine.
func TestNamesThatLeadHere(t *testing.T) {
	for address, here := range map[string]bool{"127.0.0.1:443": true, "[::1]:443": true, "[::ffff:127.0.0.1]:443": true, "169.254.169.254:80": true,
		"0.0.0.0:443": true, "[fe80::1%eth0]:443": true, "93.184.216.34:443": false, "10.0.0.1:443": false} {
		if err := notHere("tcp", address, nil); (err != nil) != here {
			t.Errorf("%s: %v", address, err)
		}
	}
	far, _, _ := start(t)
	if _, err := (caller{}).send(t.Context(), "GET", far.URL, http.Header{}, nil); !errors.Is(err, errHere) {
		t.Errorf("got %v", err)
	}
}

func TestReadChallenge(t *testing.T) {
	tests := []struct {
		lines []string
		want  Challenge
		found bool
	}{
		{nil, Challenge{}, false},
		{[]string{`Basic realm="x"`}, Challenge{}, false},
		{[]string{`Bearer`}, Challenge{}, true},
		{[]string{`bearer scope="a b", resource_metadata=https://x/y`}, Challenge{Scope: "a b", ResourceMetadata: "https://x/y"}, true},
		{[]string{`Basic realm="Bearer scope=\"evil\", Bearer ", Bearer  scope = "good" , error="invalid_token"`}, Challenge{Scope: "good", Error: "invalid_token"}, true},
		{[]string{`Basic scope="basic"`, `Bearer scope="second", scope="third"`}, Challenge{Scope: "second"}, true},
		{[]string{`Bearer scope="mine", DPoP scope="other"`}, Challenge{Scope: "mine"}, true},
		{[]string{`Negotiate abc==, Bearer error=insufficient_scope`}, Challenge{Error: "insufficient_scope"}, true},
		{[]string{`Bearer scope="open`}, Challenge{Scope: "open"}, true},
		{[]string{"\x00,,;; Bearer SCOPE=x"}, Challenge{Scope: "x"}, true},
		{[]string{`Bearer scope="a\`}, Challenge{Scope: `a\`}, true},
	}
	for _, test := range tests {
		got, found := ReadChallenge(http.Header{"Www-Authenticate": test.lines})
		if got != test.want || found != test.found {
			t.Errorf("%q: got %+v %v, want %+v", test.lines, got, found, test.want)
		}
	}
}

func FuzzReadChallenge(f *testing.F) {
	f.Add(`Basic realm="a, \"b\"", Bearer error="invalid_token", scope="tools"`)
	f.Add(`Negotiate abc==,Bearer`)
	f.Fuzz(func(t *testing.T, line string) {
		c, found := readChallenges(line)
		if n := len(c.Scope) + len(c.Error) + len(c.ResourceMetadata); n > len(line) || !found && n > 0 {
			t.Errorf("%+v, %v", c, found)
		}
	})
}

// TestCommandIsOneForAShell: a server chooses its scopes, and a person copies
// the command.
func TestCommandIsOneForAShell(t *testing.T) {
	if got, want := LoginCommand("shop", "mcp:tools files.read $(rm) `id` a;b 'c' --no-browser https://x.example/s"), "openleash login shop --scope mcp:tools --scope files.read --scope https://x.example/s"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestMetadataAddresses(t *testing.T) {
	at := func(s string) *url.URL {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	if got := strings.Join(serverMetadata(at("https://a.example/t/1/")), " "); got != "https://a.example/.well-known/oauth-authorization-server/t/1 https://a.example/.well-known/openid-configuration/t/1 https://a.example/t/1/.well-known/openid-configuration" {
		t.Error(got)
	}
	if got := strings.Join(serverMetadata(at("https://a.example")), " "); got != "https://a.example/.well-known/oauth-authorization-server https://a.example/.well-known/openid-configuration" {
		t.Error(got)
	}
	if got := strings.Join(resourceMetadata(at("https://a.example/x%2Fy/mcp"), Challenge{}), " "); got != "https://a.example/.well-known/oauth-protected-resource/x%2Fy/mcp https://a.example/.well-known/oauth-protected-resource" {
		t.Error(got)
	}
	for resource, want := range map[string]bool{"https://a.example/x/mcp": true, "https://A.example:443/x": true, "https://a.example": true, "https://a.example/": true, "https://a.example/x/mcp/": true,
		"https://a.example/x/mc": false, "https://b.example/x/mcp": false, "http://a.example/x/mcp": false, "https://a.example/x/mcp/more": false, "": false, "https://a.example/x?y": false} {
		if got := covers(resource, at("https://a.example/x/mcp")); got != want {
			t.Errorf("%q covers: %v", resource, got)
		}
	}
}

func TestReadDocument(t *testing.T) {
	for _, raw := range []string{"", "[]", "null", `"x"`, `{"a":1`, `{"a":1}{}`, `{"a":1} x`, `{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, `{"a"}`, `{"a":}`} {
		if _, err := readDocument([]byte(raw)); err == nil {
			t.Errorf("%s is accepted", raw)
		}
	}
	d, err := readDocument([]byte(` {"s":"x","n":3600,"q":"60","f":1.5e2,"neg":-5,"big":1e99,"null":null,"bad":7} `))
	if err != nil {
		t.Fatal(err)
	}
	if d.text("s") != "x" || d.text("null") != "" || d.text("absent") != "" || d.err != nil {
		t.Errorf("%+v", d)
	}
	for key, want := range map[string]time.Duration{"n": time.Hour, "q": time.Minute, "f": 150 * time.Second, "neg": 0, "big": 1e9 * time.Second, "absent": 0} {
		if got := d.seconds(key); got != want {
			t.Errorf("%s: %v, want %v", key, got, want)
		}
	}
	if d.text("bad"); d.err == nil || d.err.Error() != "bad: want a text" {
		t.Errorf("%v", d.err)
	}
}
