package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/internal/strictyaml"
	"github.com/openleash/openleash-go/policy"
	"github.com/openleash/openleash-go/proof"
	"github.com/openleash/openleash-go/store/sqlite"
)

// The test binary is also the other processes of its tests.
const raceChildEnv = "OPENLEASH_RACE_CHILD"

func TestMain(m *testing.M) {
	home := os.Getenv(raceChildEnv)
	if home == "" {
		os.Exit(m.Run())
	}
	if err := runRaceMachine(home, os.Stdin, os.Stdout, true); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// A raceFrame is what a machine and the test say to each other, a line of JSON each:
// the bytes of hosts and servers, and what happens to them. What a machine says comes
// in the order in which it happened.
type raceFrame struct {
	Kind    string   `json:"kind"`
	Session int      `json:"session,omitempty"`
	Agent   string   `json:"agent,omitempty"`
	Raw     string   `json:"raw,omitempty"`
	Held    []string `json:"held,omitempty"`
	Number  int64    `json:"number,omitempty"`
	At      int64    `json:"at,omitempty"` // Unix milliseconds by the machine's clock
	Mapped  bool     `json:"mapped,omitempty"`
}

// A raceMachine is one process of OpenLeash, with everything in it that decides and
// forwards: policies, service, store, log, proxy. Only its hosts, its servers and its
// clock are the test's.
type raceMachine struct {
	proxy  *Proxy
	store  *sqlite.Store
	owner  identity.Owner
	keeper *policy.Keeper
	offset atomic.Int64 // of the clock, in milliseconds
	ctx    context.Context

	mu       sync.Mutex // of out
	out      io.Writer
	sessions map[int]*raceSession // owned by run
	serving  sync.WaitGroup
}

type raceSession struct {
	*session
	host, upstream *pipeConn // the far ends
	ended          chan struct{}
}

// raceConn is a side of a session that is the test's: what is sent there leaves the
// machine at once, in the order of all that leaves it.
type raceConn struct {
	*pipeConn
	send func(raw []byte) error
}

func (c raceConn) Send(_ context.Context, m Message) error { return c.send(m.Raw) }

// raceRules map the same calls to another action.
const raceRules = "- server: shop\n  tool: buy\n  action_type: purchase\n  payload: {item: {path: $.item, optional: true}}\n"

func raceMapping(mapped bool) (*Mapping, error) {
	if !mapped {
		return NewMapping(nil, nil), nil
	}
	d, err := strictyaml.Parse("rules.yaml", []byte(raceRules))
	if err != nil {
		return nil, err
	}
	rules := ParseMapping(d, d.Root)
	return NewMapping(rules, nil), d.Err()
}

// runRaceMachine is a process on a home until it is told to stop, or its input ends.
// alone: there is nothing else in this process.
func runRaceMachine(home string, in io.Reader, out io.Writer, alone bool) (err error) {
	frames := json.NewDecoder(in)
	var begin raceFrame
	if err := frames.Decode(&begin); err != nil {
		return err
	}
	ctx, end := context.WithCancelCause(context.Background())
	defer end(nil)
	m := &raceMachine{out: out, ctx: ctx, sessions: map[int]*raceSession{}}
	m.offset.Store(begin.Number)
	if m.store, err = sqlite.Open(ctx, home); err != nil {
		return err
	}
	if m.owner, err = m.store.EnsureOwner(ctx, "alice"); err != nil {
		return err
	}
	if m.keeper, err = policy.Open(ctx, filepath.Join(home, "policies"), nil, m.store, nil); err != nil {
		return err
	}
	key, err := proof.LoadOrCreate(filepath.Join(home, "keys"), time.Now())
	if err != nil {
		return err
	}
	logKey, err := audit.LoadOrCreateKey(filepath.Join(home, "keys"))
	if err != nil {
		return err
	}
	log := audit.NewSequencer(m.store, filepath.Join(home, "audit.log.jsonl"), logKey, audit.Keeping{})
	service, err := authz.New(authz.Config{Store: m.store, Owner: m.owner, Policies: m.keeper, Key: key, Log: log,
		Protect: authz.NewProtection([]string{home}, nil), Now: m.now})
	if err != nil {
		return err
	}
	mapping, err := raceMapping(begin.Mapped)
	if err != nil {
		return err
	}
	m.proxy = New(Config{Name: "shop", Service: service, Mapping: mapping, Hold: time.Duration(begin.At) * time.Millisecond, Log: zerolog.Nop(), Limits: action.Limits{Bytes: 1 << 20}})
	var beside sync.WaitGroup
	sequencing, endLog := context.WithCancel(context.Background())
	defer endLog()
	var logErr error
	beside.Go(func() { logErr = log.Run(sequencing) })
	beside.Go(m.tellPolicies)

	m.run(frames)

	end(ErrShuttingDown)
	m.serving.Wait()
	err = service.Close()
	endLog()
	beside.Wait()
	err = errors.Join(err, logErr, m.keeper.Close(), m.store.Close())
	if alone {
		m.tell(raceFrame{Kind: "stopped", Raw: strings.Join(leftovers(), "\n\n")})
	}
	return err
}

func (m *raceMachine) now() time.Time {
	return time.Now().Add(time.Duration(m.offset.Load()) * time.Millisecond)
}

func (m *raceMachine) run(frames *json.Decoder) {
	for {
		var f raceFrame
		if err := frames.Decode(&f); err != nil {
			return
		}
		s := m.sessions[f.Session]
		switch f.Kind {
		case "open":
			m.open(f)
		case "host":
			s.host.write(f.Raw)
		case "upstream":
			s.upstream.write(f.Raw)
		case "host ends":
			s.host.Close()
			go m.tellGone(f.Session, s)
		case "upstream ends":
			s.upstream.Close()
		case "clock":
			m.offset.Store(f.Number)
		case "stop":
			return
		}
	}
}

func (m *raceMachine) tell(f raceFrame) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.write(f)
}

func (m *raceMachine) write(f raceFrame) error {
	line, err := json.Marshal(f)
	if err == nil {
		_, err = m.out.Write(append(line, '\n'))
	}
	return err
}

// side makes one side of a session, and the end at which the test speaks.
func (m *raceMachine) side(kind string, session int) (near raceConn, far *pipeConn) {
	far, in := newPipe(4096, 0)
	near.pipeConn = in
	near.send = func(raw []byte) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		if in.closed() {
			return io.ErrClosedPipe
		}
		return m.write(raceFrame{Kind: kind, Session: session, Raw: string(raw)})
	}
	return near, far
}

// open begins a session. Its end is told.
func (m *raceMachine) open(f raceFrame) {
	agent, err := m.store.EnsureAgent(m.ctx, f.Agent, m.owner)
	if err != nil {
		m.tell(raceFrame{Kind: "fault", Raw: "the agent: " + err.Error()})
		return
	}
	host, hostFar := m.side("host", f.Session)
	up, upFar := m.side("upstream", f.Session)
	s := &raceSession{m.proxy.newSession(authz.Caller{Agent: agent}, host, up), hostFar, upFar, make(chan struct{})}
	m.sessions[f.Session] = s
	m.serving.Go(func() {
		s.serve(m.ctx)
		m.tell(raceFrame{Kind: "ended", Session: f.Session})
		close(s.ended)
	})
}

// tellGone tells which calls a session held when it had seen that its host is gone.
func (m *raceMachine) tellGone(n int, s *raceSession) {
	for {
		s.mu.Lock()
		gone := s.hostGone
		var held []string
		for id, r := range s.requests {
			if gone && r.held && !r.forwarded {
				held = append(held, id)
			}
		}
		s.mu.Unlock()
		if gone {
			m.tell(raceFrame{Kind: "gone", Session: n, Held: held})
			return
		}
		select {
		case <-s.ended:
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// tellPolicies tells which version of the policy is in force, soon after it is, and
// when that was by the machine's clock.
func (m *raceMachine) tellPolicies() {
	var told *policy.Book
	for m.ctx.Err() == nil {
		if now := m.keeper.Current(); now != told {
			at := m.now().UnixMilli()
			told = now
			m.proxy.PoliciesChanged()
			m.tell(raceFrame{Kind: "policy", Number: policyVersion(now), At: at})
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// policyVersion is the number at the end of the rule's name.
func policyVersion(b *policy.Book) int64 {
	if b == nil {
		return 0
	}
	d := b.For("bot").Decide(&action.Request{ActionType: "mcp.shop.buy", Payload: action.ObjectValue()}, policy.Env{Now: time.Now()})
	_, n, _ := strings.Cut(d.RuleID, "-")
	v, _ := strconv.ParseInt(n, 10, 64)
	return v
}

// leftovers are the goroutines of ours that do not end.
func leftovers() (left []string) {
	for range 500 {
		left = nil
		buf := make([]byte, 4<<20)
		for _, stack := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			for _, ours := range []string{"proxy.(*session)", "proxy.(*Proxy)", "proxy.keepTelling", "authz.(*", "approvals.Wait", "audit.(*", "policy.(*Keeper)", "sqlite.(*writer)", "sqlite.(*journal)"} {
				if strings.Contains(stack, ours) {
					left = append(left, stack)
					break
				}
			}
		}
		if left == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return left
}
