// Package openleashtest starts a real OpenLeash server for tests: of agents, of SDKs, and
// of whoever receives proofs.
//
//	func TestBuying(t *testing.T) {
//		srv := openleashtest.NewServer(t, &openleashtest.Options{Policy: shopPolicy})
//		buyer := srv.Agent(t, "buyer")
//
//		small := buyer.Authorize(t, buyer.Action("purchase", map[string]any{"amount_minor": 4000, "currency": "SEK"}))
//		if small.Decision != "ALLOW" || small.ProofToken == "" {
//			t.Errorf("a small purchase: %s, %s; want it allowed, with a proof", small.Decision, small.Reason)
//		}
//
//		large := buyer.Action("purchase", map[string]any{"amount_minor": 900000, "currency": "SEK"})
//		asked := buyer.Authorize(t, large) // REQUIRE_APPROVAL
//		request := buyer.AskOwner(t, asked, large)
//		srv.Approve(t, request)
//		large["approval_token"] = buyer.ApprovalToken(t, request)
//		if approved := buyer.Authorize(t, large); approved.Decision != "ALLOW" {
//			t.Errorf("approved: %s, %s; want it allowed", approved.Decision, approved.Reason)
//		}
//	}
//
// Nothing of it is a mock: the server has a home of its own with a store, keys and a folder
// of policies, decides as the program does, and serves the portal and /v1 on a port of this
// machine's loopback. It is in the test's own process, which makes it fast: a few
// milliseconds to start. When the test ends it is closed, and its log is complete:
// `openleash audit verify` says yes to it.
//
// What goes wrong in a way that the test has not asked for fails the test, with what was
// wanted and what came.
package openleashtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/internal/door"
	"github.com/openleash/openleash-go/internal/home"
	"github.com/openleash/openleash-go/internal/wiring"
	"github.com/openleash/openleash-go/proof"
)

// Options are what a server may have otherwise than by default.
type Options struct {
	// Policy is the text of the policy, whose name is "test". Empty: the shipped "balanced".
	Policy string
	// Home is the folder of the installation, which outlives the server: another one on the
	// same home knows what this one knew, as after a restart. Several may run on one at
	// once, as several processes do. Empty: a folder of the test's own.
	Home string
	// Now is the server's clock, and its agents'. nil: time.Now.
	Now func() time.Time
	// Log gets what the program would log. nil: the test's output gets its warnings.
	Log io.Writer
}

// Server is a running server.
type Server struct {
	URL     string // "http://127.0.0.1:12345"
	OwnerID string // of whom agents act for
	LogPath string // of audit.log.jsonl

	parts    *wiring.Parts
	now      func() time.Time
	policy   string // the file
	client   *http.Client
	stop     func() error // stops serving
	closing  sync.Once
	closeErr error
}

// NewServer starts a server, and closes it when the test ends. nil Options are the default
// ones.
func NewServer(t testing.TB, o *Options) *Server {
	t.Helper()
	if o == nil {
		o = &Options{}
	}
	s := &Server{now: o.Now, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}}
	if s.now == nil {
		s.now = time.Now
	}
	dir := o.Home
	if dir == "" {
		dir = t.TempDir()
		os.Chmod(dir, 0o700) // a home is for its user alone
	}
	if err := s.open(home.Home{Dir: dir}, o.Policy, logOf(t, o.Log)); err != nil {
		t.Fatalf("openleashtest: starting a server: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("openleashtest: closing the server: %v", err)
		}
	})
	return s
}

func logOf(t testing.TB, w io.Writer) zerolog.Logger {
	if w != nil {
		return zerolog.New(w)
	}
	return zerolog.New(t.Output()).Level(zerolog.WarnLevel)
}

func (s *Server) open(h home.Home, policy string, log zerolog.Logger) error {
	s.policy, s.LogPath = filepath.Join(h.Policies(), "balanced.yaml"), h.AuditLog()
	err := h.FirstStart(context.Background(), func() (err error) {
		if policy != "" {
			s.policy = filepath.Join(h.Policies(), "test.yaml")
			if err := os.WriteFile(s.policy, []byte(policy), 0o600); err != nil {
				return err
			}
		}
		s.parts, err = wiring.Open(context.Background(), wiring.Config{Home: h, Owner: "owner", Policies: h.Policies(), Now: s.now, Log: log})
		return err
	})
	if err != nil {
		return err
	}
	s.OwnerID = s.parts.Owner.ID
	if err := s.parts.Policies.Err(); err != nil {
		return errors.Join(fmt.Errorf("the policy is not in force: %w", err), s.parts.Close(nil))
	}
	if err := s.serve(h); err != nil {
		return errors.Join(err, s.parts.Close(nil))
	}
	return nil
}

// serve begins to decide and to answer.
func (s *Server) serve(h home.Home) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	port := l.Addr().(*net.TCPAddr).Port
	protect := authz.NewProtection([]string{h.Dir}, []int{port})
	base := fmt.Sprintf("http://%s:%d", door.Name, port)
	if err := s.parts.Start(authz.Config{Protect: protect}, audit.Keeping{}, base); err != nil {
		l.Close()
		return err
	}
	pages, err := s.parts.Pages(wiring.Serving{Port: port, Base: base, Version: "openleashtest"})
	if err != nil {
		l.Close()
		return err
	}
	server := door.Server(pages)
	go server.Serve(l)
	s.URL, s.stop = "http://"+l.Addr().String(), func() error { return shutdown(server) }
	return nil
}

// shutdown lets what is under way finish.
func shutdown(server *http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return server.Shutdown(ctx)
}

// Close stops the server: what it has decided is in the log then. It can be called twice.
func (s *Server) Close() error {
	s.closing.Do(func() {
		s.client.CloseIdleConnections()
		if s.closeErr = s.stop(); s.closeErr == nil {
			s.closeErr = s.parts.Close(nil)
		}
	})
	return s.closeErr
}

// Invite makes an invite, by which one agent can register: the link that its owner would
// give it.
func (s *Server) Invite(t testing.TB) string {
	t.Helper()
	i, token, err := s.parts.Service.Invite(t.Context(), by, s.parts.Owner, "")
	if err != nil {
		t.Fatalf("openleashtest: making an invite: %v", err)
	}
	return s.URL + "/v1/agents/register-with-invite?" + url.Values{"invite_id": {i.ID}, "invite_token": {token}}.Encode()
}

// by is the owner, in the log.
const by = "test:owner"

// Approve approves a request, as the owner.
func (s *Server) Approve(t testing.TB, requestID string) {
	t.Helper()
	if err := s.Answer(requestID, true, ""); err != nil {
		t.Fatalf("openleashtest: approving request %s: %v", requestID, err)
	}
}

// Deny denies a request, as the owner.
func (s *Server) Deny(t testing.TB, requestID, reason string) {
	t.Helper()
	if err := s.Answer(requestID, false, reason); err != nil {
		t.Fatalf("openleashtest: denying request %s: %v", requestID, err)
	}
}

// Answer is Approve and Deny for goroutines of a test, which must not end it, and for who
// wants to see an answer refused.
func (s *Server) Answer(requestID string, approve bool, reason string) error {
	_, err := s.parts.Service.Answer(context.Background(), by, requestID, approve, reason)
	return err
}

// Confirm lets an agent in that has registered itself, as the owner.
func (s *Server) Confirm(t testing.TB, agent string) {
	t.Helper()
	a, err := s.parts.Store.AgentByName(t.Context(), agent)
	if err == nil {
		err = s.parts.Service.ConfirmAgent(t.Context(), by, a)
	}
	if err != nil {
		t.Fatalf("openleashtest: confirming agent %s: %v", agent, err)
	}
}

// Revoke ends an agent, as the owner.
func (s *Server) Revoke(t testing.TB, agent string) {
	t.Helper()
	a, err := s.parts.Store.AgentByName(t.Context(), agent)
	if err == nil {
		err = s.parts.Service.RevokeAgent(t.Context(), by, a)
	}
	if err != nil {
		t.Fatalf("openleashtest: revoking agent %s: %v", agent, err)
	}
}

// SignIn is the token of a new session of the owner's, for the routes below /v1/owner and
// /v1/admin. It sets the owner's passphrase, and so ends the sessions that were before it.
func (s *Server) SignIn(t testing.TB) (session string) {
	t.Helper()
	const passphrase = "a passphrase for tests"
	invite, err := s.parts.Owners.Invite(t.Context(), by, s.OwnerID)
	if err != nil {
		t.Fatalf("openleashtest: making a set-up link: %v", err)
	}
	setUp := s.Post(t, "/v1/owner/setup", map[string]any{"invite_id": invite.ID, "invite_token": invite.Token, "passphrase": passphrase})
	login := s.Post(t, "/v1/owner/login", map[string]any{"user_principal_id": s.OwnerID, "passphrase": passphrase})
	if setUp.Status != http.StatusOK || login.Status != http.StatusOK {
		t.Fatalf("openleashtest: signing in: set-up %s, sign-in %s", setUp, login)
	}
	var in struct{ Token string }
	login.Read(t, &in)
	return in.Token
}

// patience is how long a server may take for what it does by itself.
const patience = 10 * time.Second

// SetPolicy puts another text in the place of the policy, and returns when it is in force.
func (s *Server) SetPolicy(t testing.TB, text string) {
	t.Helper()
	keeper := s.parts.Policies
	book, fault := keeper.Current(), keeper.Err()
	if now, err := os.ReadFile(s.policy); err == nil && string(now) == text && fault == nil {
		return
	}
	if err := replace(s.policy, text); err != nil {
		t.Fatalf("openleashtest: writing the policy: %v", err)
	}
	for end := time.Now().Add(patience); keeper.Current() == book && keeper.Err() == fault; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("openleashtest: the policy was not read again within %v", patience)
		}
	}
	if err := keeper.Err(); err != nil {
		t.Fatalf("openleashtest: this policy is not in force: %v", err)
	}
}

// replace puts a file there whole: half of one is never read.
func replace(path, text string) error {
	next := path + ".next"
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(next, path)
}

// Keys are the server's public keys, with which its proofs verify (proof.Verify).
func (s *Server) Keys() []proof.PublicKey { return s.parts.PublicKeys() }

// Entries are those of the audit log, all that was decided until now.
func (s *Server) Entries(t testing.TB) []audit.Entry {
	t.Helper()
	s.complete(t)
	file, err := os.Open(s.LogPath)
	if err != nil {
		t.Fatalf("openleashtest: reading the log: %v", err)
	}
	defer file.Close()
	var entries []audit.Entry
	for lines := json.NewDecoder(file); ; {
		var e audit.Entry
		if err := lines.Decode(&e); err == io.EOF {
			return entries
		} else if err != nil {
			t.Fatalf("openleashtest: reading line %d of the log: %v", len(entries)+1, err)
		}
		entries = append(entries, e)
	}
}

// complete waits until the log's file has all entries.
func (s *Server) complete(t testing.TB) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		done, err := s.parts.LogComplete(t.Context())
		switch {
		case err != nil:
			t.Fatalf("openleashtest: completing the log: %v", err)
		case done:
			return
		case time.Now().After(end):
			t.Fatalf("openleashtest: the log was not complete within %v: %v", patience, s.parts.Sequencer.Err())
		}
	}
}
