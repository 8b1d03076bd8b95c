package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/policy"
	"github.com/openleash/openleash-go/proof"
	"github.com/openleash/openleash-go/store/sqlite"
)

const (
	allowAll = "version: 1\ndefault: allow\nrules: []\n"
	askAll   = "version: 1\ndefault: require_approval\nrules: []\n"
)

// realProxy is a proxy with everything behind it real: policy, service, store.
type realProxy struct {
	*Proxy
	store    *sqlite.Store
	owner    identity.Owner
	policies *policy.Keeper
	file     string // the policy's
}

func newRealProxy(t testing.TB, policyYAML string) realProxy {
	t.Helper()
	return realProxyAt(t, t.TempDir(), policyYAML)
}

// realProxyAt is a process in the home dir; another one may have been there before.
func realProxyAt(t testing.TB, dir, policyYAML string, adjust ...func(*authz.Config)) realProxy {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "policies"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "policies", "main.yaml"), []byte(policyYAML), 0o600); err != nil {
		t.Fatal(err)
	}
	store := must(sqlite.Open(t.Context(), dir))(t)
	t.Cleanup(func() { store.Close() })
	owner := must(store.EnsureOwner(t.Context(), "alice"))(t)
	for _, name := range []string{"a", "b", "alice", "bob"} {
		enrol(t, store, owner, someone(name).Agent)
	}
	keeper := must(policy.Open(t.Context(), filepath.Join(dir, "policies"), nil, store, func(policy.Event) {}))(t)
	t.Cleanup(func() { keeper.Close() })
	config := authz.Config{Store: store, Owner: owner, Policies: keeper, Key: must(proof.NewKey(time.Now()))(t), Protect: authz.NewProtection([]string{dir}, nil)}
	for _, f := range adjust {
		f(&config)
	}
	service := must(authz.New(config))(t)
	t.Cleanup(func() { service.Close() })
	p := New(Config{Name: "shop", Service: service, Mapping: NewMapping(nil, nil), Hold: 10 * time.Second, Log: zerolog.Nop(),
		Limits: action.Limits{Bytes: 1 << 20}})
	return realProxy{p, store, owner, keeper, filepath.Join(dir, "policies", "main.yaml")}
}

// enrol makes an agent, if it is not there from an earlier process.
func enrol(t testing.TB, store *sqlite.Store, owner identity.Owner, a identity.Agent) {
	t.Helper()
	a.OwnerID, a.CreatedAt = owner.ID, time.Now()
	err := store.Commit(t.Context(), authz.Batch{Enrol: &identity.Enrolment{Agent: a, Now: time.Now()}})
	if err != nil && !errors.Is(err, identity.ErrNameTaken) {
		t.Fatal(err)
	}
}

// reload puts another policy in force, as its owner does: by writing the file.
func (p realProxy) reload(t *testing.T, policyYAML string) {
	t.Helper()
	before := p.policies.Current().Hash
	if err := os.WriteFile(p.file, []byte(policyYAML), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if p.policies.Current().Hash != before {
			p.PoliciesChanged()
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("the policy was not read again")
}

// must turns (value, error) into a value or the end of the test.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// pending waits for the request of a held call.
func (p realProxy) pending(t *testing.T) approvals.Request {
	t.Helper()
	for range 500 {
		if open := must(p.store.Approvals(t.Context(), p.owner.ID, approvals.Pending, 1))(t); len(open) > 0 {
			return open[0]
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("no call is held")
	return approvals.Request{}
}

func (p realProxy) approve(t *testing.T, id string) {
	t.Helper()
	must(p.Service.Answer(t.Context(), "test:alice", id, true, ""))(t)
}

// as serves a handler for one agent, as the door does.
func (p realProxy) as(t *testing.T, agent string, h http.Handler) *httptest.Server {
	t.Helper()
	who := authz.Caller{Agent: must(p.store.EnsureAgent(t.Context(), agent, p.owner))(t)}
	return serveAs(t, who, h)
}

func serveAs(t *testing.T, who authz.Caller, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(WithCaller(r.Context(), who)))
	}))
	t.Cleanup(s.Close)
	return s
}

// plainProxy decides nothing: for messages that no policy touches.
func plainProxy() *Proxy {
	return New(Config{Name: "shop", Log: zerolog.Nop(), Limits: action.Limits{Bytes: 1 << 20}})
}

func someone(name string) authz.Caller {
	return authz.Caller{Agent: identity.Agent{ID: uuid.NewSHA1(uuid.Nil, []byte(name)).String(), Name: name, Status: "ACTIVE"}}
}

// rawUpstream is an HTTP upstream made of bytes. It notes what it received.
type rawUpstream struct {
	*httptest.Server
	mu   sync.Mutex
	seen []seenRequest
}

type seenRequest struct {
	method string
	header http.Header
	body   string
}

func newRawUpstream(t *testing.T, answer func(w http.ResponseWriter, r *http.Request, body string)) *rawUpstream {
	t.Helper()
	u := &rawUpstream{}
	u.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		u.mu.Lock()
		u.seen = append(u.seen, seenRequest{r.Method, maps.Clone(r.Header), string(body)})
		u.mu.Unlock()
		answer(w, r, string(body))
	}))
	t.Cleanup(func() { u.CloseClientConnections(); u.Close() })
	return u
}

func (u *rawUpstream) requests() []seenRequest {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]seenRequest(nil), u.seen...)
}

func (u *rawUpstream) count(part string) int {
	n := 0
	for _, s := range u.requests() {
		if strings.Contains(s.body, part) {
			n++
		}
	}
	return n
}

func (u *rawUpstream) wait(t *testing.T, part string) {
	t.Helper()
	for range 500 {
		if u.count(part) > 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("the upstream never got %q", part)
}

// answerJSON answers every POST with one body.
func answerJSON(body string) func(http.ResponseWriter, *http.Request, string) {
	return func(w http.ResponseWriter, r *http.Request, _ string) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, body)
	}
}

func sse(w http.ResponseWriter, events ...string) {
	w.Header().Set("Content-Type", "text/event-stream")
	for _, e := range events {
		io.WriteString(w, e)
		w.(http.Flusher).Flush()
	}
}

// httpReply is what a host got.
type httpReply struct {
	Status int
	Header http.Header
	Body   string
}

func send(ctx context.Context, method, url, body string, headers ...string) (*http.Response, error) {
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, content)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json, text/event-stream")
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		if req.Header.Del(headers[i]); headers[i+1] != "" {
			req.Header.Add(headers[i], headers[i+1])
		}
	}
	return ownClient.Do(req)
}

// ownClient has connections of its own: a httptest.Server that closes, closes those of
// the default client, whoever uses them just then.
var ownClient = &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}

func do(t *testing.T, method, url, body string, headers ...string) httpReply {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	res, err := send(ctx, method, url, body, headers...)
	if err != nil {
		t.Error(err)
		return httpReply{}
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil {
		t.Error(err)
	}
	return httpReply{res.StatusCode, res.Header, string(got)}
}

func post(t *testing.T, url, body string, headers ...string) httpReply {
	t.Helper()
	return do(t, "POST", url, body, headers...)
}

// openStream starts a request whose answer is read event by event.
func openStream(t *testing.T, method, url, body string, headers ...string) (next func() string, hangUp func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	res, err := send(ctx, method, url, body, headers...)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); res.Body.Close() })
	in := newSSEReader(bufio.NewReader(res.Body), 1<<24)
	return func() string {
		for {
			e, err := in.next()
			if err != nil {
				return "error: " + err.Error()
			}
			if e.data != nil {
				return string(e.data)
			}
		}
	}, cancel
}

func newPipes() (a, b *pipeConn) { return newPipe(64, 64) }

func (c *pipeConn) closed() bool {
	select {
	case <-c.gone:
		return true
	default:
		return false
	}
}

// write sends bytes as a message.
func (c *pipeConn) write(raw string) {
	m, err := ReadMessage([]byte(raw), anyMessage([]byte(raw)))
	if err != nil {
		panic(err)
	}
	c.Send(context.Background(), m)
}

// padded is a message of n bytes and a bit.
func padded(n int) string {
	return `{"jsonrpc":"2.0","id":1,"method":"x","params":{"pad":"` + string(bytes.Repeat([]byte("x"), n)) + `"}}`
}
