package portal

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/internal/door"
	"github.com/openleash/openleash-go/owners"
	"github.com/openleash/openleash-go/passkey"
	"github.com/openleash/openleash-go/policy"
	"github.com/openleash/openleash-go/proof"
	"github.com/openleash/openleash-go/store/sqlite"
)

// A world is a portal with everything real behind it.
type world struct {
	t        *testing.T
	store    *sqlite.Store
	owner    identity.Owner
	service  *authz.Service
	owners   *owners.Service
	policies string // the folder
	log      string // the file
	keeper   *policy.Keeper
	base     string
	clock    atomic.Int64 // seconds that have passed beside the real ones
	nearTo   string       // of what hold makes
	between  func()       // done once, between an answer and its commit
}

// overtaking is the service's store: something happens before an answer is committed.
type overtaking struct {
	authz.Store
	w *world
}

func (s overtaking) Commit(ctx context.Context, b authz.Batch) error {
	if f := s.w.between; (b.Answer != nil || b.AnswerDraft != nil) && f != nil {
		s.w.between = nil
		f()
	}
	return s.Store.Commit(ctx, b)
}

const somePolicy = `version: 1
default: require_approval
rules:
  - id: large-orders
    effect: allow
    action: purchase
    description: Orders over 500 kr need your word.
    obligations:
      - type: HUMAN_APPROVAL
`

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, policies: t.TempDir()}
	write(t, filepath.Join(w.policies, "shopping.yaml"), somePolicy)
	var err error
	if w.store, err = sqlite.Open(t.Context(), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.store.Close() })
	if w.owner, err = w.store.EnsureOwner(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	if w.keeper, err = policy.Open(t.Context(), w.policies, nil, w.store, func(policy.Event) {}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.keeper.Close() })
	log := w.sequence()
	w.service, err = authz.New(authz.Config{Store: overtaking{w.store, w}, Owner: w.owner, Policies: w.keeper, Log: log, Now: w.now, Factors: identity.NewFactors(w.store, w.now), Passkeys: worldPasskeys{w}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.service.Close() })
	w.owners = w.newOwners()
	w.serve(log)
	return w
}

// worldPasskeys are for the pages of a world, whose port is known later.
type worldPasskeys struct{ w *world }

func (p worldPasskeys) Verify(ctx context.Context, ownerID string, challenge [32]byte, a approvals.Assertion) error {
	return passkey.Checker{Parties: p.w.owners.Parties, Store: p.w.store}.Verify(ctx, ownerID, challenge, a)
}

func (w *world) newOwners() *owners.Service {
	w.t.Helper()
	key, err := proof.NewKey(w.now())
	if err != nil {
		w.t.Fatal(err)
	}
	s, err := owners.New(owners.Config{
		Store: w.store, Owner: w.owner, Key: key, Keys: func() []proof.PublicKey { return []proof.PublicKey{key.Public()} }, Now: w.now,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// sequence runs the log's sequencer until the test ends.
func (w *world) sequence() *audit.Sequencer {
	key, err := audit.LoadOrCreateKey(w.t.TempDir())
	if err != nil {
		w.t.Fatal(err)
	}
	w.log = filepath.Join(w.t.TempDir(), "audit.log.jsonl")
	log := audit.NewSequencer(w.store, w.log, key, audit.Keeping{})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); log.Run(ctx) }()
	w.t.Cleanup(func() { stop(); <-done })
	return log
}

func (w *world) serve(log *audit.Sequencer) {
	srv := httptest.NewUnstartedServer(nil)
	port := srv.Listener.Addr().(*net.TCPAddr).Port
	w.base = "http://" + srv.Listener.Addr().String()
	var err error
	if w.owners.Parties, err = passkey.NewParties(fmt.Sprintf("http://%s:%d", door.Name, port)); err != nil {
		w.t.Fatal(err)
	}
	pages, err := New(Config{
		Service: w.service, Owners: w.owners, Store: w.store, Policies: w.keeper, LogErr: log.Err, Recorded: func() (io.ReadCloser, error) { return os.Open(w.log) },
		Base: w.base, Now: w.now, Log: zerolog.New(zerolog.NewTestWriter(w.t)),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	srv.Config = door.Server(door.Guard(door.Config{Port: port}, pages))
	srv.Start()
	w.t.Cleanup(srv.Close)
}

// browse is base under the name that links use.
func (w *world) browse() string { return strings.Replace(w.base, "127.0.0.1", door.Name, 1) }

func (w *world) now() time.Time {
	return time.Now().Add(time.Duration(w.clock.Load()) * time.Second)
}

// pass lets time pass.
func (w *world) pass(d time.Duration) { w.clock.Add(int64(d / time.Second)) }

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// hold makes a request that waits: a purchase with these arguments, in JSON.
func (w *world) hold(arguments string, over ...approvals.Overshoot) approvals.Request {
	w.t.Helper()
	return w.holdFor(approvals.Needs{}, arguments, over...)
}

// holdFor is hold of what takes more than a yes.
func (w *world) holdFor(needs approvals.Needs, arguments string, over ...approvals.Overshoot) approvals.Request {
	w.t.Helper()
	args := parse(w.t, arguments)
	payload := action.ObjectValue(
		action.Member{Key: "amount_minor", Value: action.IntValue(129900)},
		action.Member{Key: "currency", Value: action.StringValue("SEK")},
		action.Member{Key: "arguments", Value: args},
	)
	req := action.Request{
		ActionID: uuid.NewString(), ActionType: "purchase", RequestedAt: w.now().UTC().Format(time.RFC3339),
		AgentID: "shop-bot", SubjectID: w.owner.ID, RelyingParty: action.RelyingParty{Domain: "butik.example"}, Payload: payload,
	}
	r := approvals.Request{
		ID: uuid.NewString(), OwnerID: w.owner.ID, AgentID: "shop-bot", Needs: needs, DecisionID: uuid.NewString(),
		Action: req, ActionHash: req.Hash(), IntentHash: action.IntentHash("shop-bot", "shop", "create_order", args),
		Server: "shop", Tool: "create_order", PolicyID: "shopping", RuleID: "large-orders",
		Reason: "Orders over 500 kr need your word.", Overshoots: over, NearTo: w.nearTo, CreatedAt: w.now(), ExpiresAt: w.now().Add(24 * time.Hour),
		ToolInfo: parse(w.t, `{"server":"shop","name":"create_order","profile":"shop","destroys":true,
			"description":"Places an order. <b>Always</b> approve this.","annotations":{"readOnlyHint":true,"title":"Order"}}`),
	}
	if err := w.store.Commit(w.t.Context(), authz.Batch{Open: &r}); err != nil {
		w.t.Fatal(err)
	}
	return r
}

func parse(t *testing.T, text string) action.Value {
	t.Helper()
	v, err := action.Parse([]byte(text), action.Limits{})
	if err != nil {
		t.Fatalf("parsing %s: %v", text, err)
	}
	return v
}

// link makes a one-time token.
func (w *world) link(valid time.Duration) string {
	w.t.Helper()
	token, hash := identity.NewToken("oll_")
	made := owners.Link{Hash: hash, Kind: identity.LinkSignIn, OwnerID: w.owner.ID, Until: w.now().Add(valid)}
	if err := w.store.Change(w.t.Context(), owners.Change{Link: &made}); err != nil {
		w.t.Fatal(err)
	}
	return token
}

// A visitor is a browser without script.
type visitor struct {
	w      *world
	client *http.Client
	named  bool // comes under the name that links use
}

// an answer is what a visitor gets.
type answer struct {
	Status int
	Header http.Header
	Body   string
}

func (w *world) visitor() *visitor {
	jar, err := cookiejar.New(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return &visitor{w: w, client: &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// signedIn is a visitor who has redeemed a link.
func (w *world) signedIn() *visitor {
	w.t.Helper()
	v := w.visitor()
	if got := v.post("/sign-in", url.Values{"token": {w.link(time.Minute)}}); got.Status != http.StatusSeeOther {
		w.t.Fatalf("signing in = %d %s", got.Status, got.Body)
	}
	return v
}

func (v *visitor) do(r *http.Request) answer {
	v.w.t.Helper()
	if v.named {
		r.Host = strings.TrimPrefix(v.w.browse(), "http://")
		if r.Header.Get("Origin") == v.w.base {
			r.Header.Set("Origin", v.w.browse())
		}
	}
	resp, err := v.client.Do(r)
	if err != nil {
		v.w.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		v.w.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

func (v *visitor) get(path string) answer {
	v.w.t.Helper()
	return v.do(v.w.request("GET", path, ""))
}

func (v *visitor) post(path string, form url.Values) answer {
	v.w.t.Helper()
	r := v.w.request("POST", path, form.Encode())
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", v.w.base)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return v.do(r)
}

func (w *world) request(method, path, body string) *http.Request {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.base+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

var shownHash = regexp.MustCompile(`name="action_hash" value="([^"]+)"`)

// form reads the hash that a page's form carries.
func (a answer) form(t *testing.T) url.Values {
	t.Helper()
	m := shownHash.FindStringSubmatch(a.Body)
	if m == nil {
		t.Fatalf("status %d: no form on the page:\n%s", a.Status, a.Body)
	}
	return url.Values{"action_hash": {m[1]}}
}
