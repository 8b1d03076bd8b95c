// Package proxy is the policy enforcement point (PEP) for MCP: it stands
// between a host and its upstream server and lets through what the policy
// allows.
//
// It promises:
//
//   - It is a relay of messages. What is not governed passes as the bytes that
//     came, in the order in which they came; what changes is named: our key in
//     params._meta of a forwarded call, the requestState of a call that was
//     approved or is held (round.go has its form), the ids of a server's tasks behind
//     ours (task_names.go), the extension of tasks in what a server says of itself to
//     a host that knows it, and anything under our prefix "ai.openleash/" that comes
//     from elsewhere, which is removed.
//   - A tools/call is parsed once, strictly (package action). The decision, the
//     approval page, the hashes in the proof and the forwarded bytes come from
//     that one parse. A doubt about what another parser would see is a refusal.
//   - A call is forwarded only after authz has put its ALLOW on disk; everything
//     else is answered here. A refusal is a tool result that a model can act on.
//   - A held call waits Hold at the most; then its host is told how to come back
//     (wait.go), or what to ask about (task.go). When its host cancels it or goes
//     away, a later approval never runs it.
//
// call.go is the path of a call; listing.go finds out what the server says of its
// tools when no host has asked. session.go, session_up.go and session_end.go move
// the messages of one host and one upstream (Conn), aggregate.go those of one host
// and several; conn_stdio.go, upstream_http.go and upstream_sse.go are the Conns,
// and keep.go one that starts an upstream again when it ends; passthrough.go,
// host_http.go and host_sse.go are the doors over HTTP.
package proxy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/authz"
)

// Prefix is the prefix of our keys in _meta.
const Prefix = "ai.openleash/"

// Keys in _meta: the proof of a forwarded call, and what a refusal says.
const (
	ProofKey   = Prefix + "proof"
	RefusalKey = Prefix + "refusal"
)

// DefaultHold is how long a held call waits by default: the hosts that were
// measured give up after 60 s.
const DefaultHold = 50 * time.Second

// Config is what a Proxy is made of: one upstream under one name.
type Config struct {
	Name    string // the server's name in actions, limits, proofs
	Service *authz.Service
	Mapping *Mapping
	Hold    time.Duration            // how long a held call waits; zero: DefaultHold
	HoldFor map[string]time.Duration // the same for some agents, by name
	Portal  string                   // base URL for links in refusals; empty: none
	Limits  action.Limits            // of a message from the host
	Places  []string                 // folders that the server was started with (authz.Call)

	// Pins says what becomes of calls by a definition that the owner has not accepted.
	// Empty: authz.PinHold.
	Pins authz.PinMode

	// HideDenied leaves out of tools/list what is denied whatever the arguments, and
	// what authz.Pins blocks.
	// PoliciesChanged then has to be called when other policies are in force.
	HideDenied bool

	// Receipts puts a signed receipt of the outcome into each result of a governed call,
	// which waits for the outcome to be on disk.
	Receipts bool

	Log zerolog.Logger
}

// Proxy governs the calls that go to one upstream. It is safe for
// simultaneous use by many sessions.
type Proxy struct {
	Config
	pins *authz.Pins // nil without a Service

	mu    sync.RWMutex
	tools map[string]tool // what the upstream says of its tools, as last listed

	listings   map[string]listing // of tools, by the proxy itself; by agent
	listWithin time.Duration
	tellEvery  time.Duration

	hiding hiding
	away   away

	held     heldTasks
	mirrored mirroredTools
}

// New returns a proxy.
func New(c Config) *Proxy {
	if c.Hold == 0 {
		c.Hold = DefaultHold
	}
	p := &Proxy{Config: c, tools: map[string]tool{}, listings: map[string]listing{}, listWithin: listWithin, tellEvery: tellEvery,
		hiding: hiding{shown: map[string]*shownTools{}, watchers: map[chan struct{}]bool{}}}
	if c.Service != nil {
		p.pins = c.Service.Pins(c.Name, c.Pins)
	}
	return p
}

// tool is what an upstream says of one of its tools: hints, never believed.
type tool struct {
	description  string
	annotations  action.Value
	outputSchema bool
	hash         string // sha256 of the definition
}

// ruling is what becomes of one message of the host. The zero ruling drops it.
type ruling struct {
	// At most one of the two is set.
	forward []byte // send this to the upstream
	reply   []byte // answer the host with this; nothing is forwarded
	// done is called once with the upstream's response to a forwarded governed
	// call or to a request for a list, before the host gets it, or with nil when none
	// came (failure says why: a Status of authz.Outcome and a detail). It is nil for
	// all else.
	done func(response []byte, failure failure)
	// wrap makes of the response to a forwarded governed call what the host gets.
	wrap wrapper
}

type wrapper func(ctx context.Context, response []byte) []byte

// failure tells why a forwarded call has no response.
type failure struct {
	status string // transport_error, cancelled, unknown
	detail string
	unsent bool // not a byte of the call has left us
}

// rule is the way of every message from the host: what is not governed is
// forwarded as it came (less anything under our prefix); a tools/call is
// decided on, held if need be, and forwarded with its proof or answered.
//
// It blocks while a call is held. ctx ends when the host cancels the call or goes
// away: then it is never forwarded.
func (p *Proxy) rule(ctx context.Context, who authz.Caller, m Message, l line) ruling {
	if governed, refusal := isGoverned(m, fromHost); refusal != nil {
		return ruling{reply: refusal}
	} else if governed {
		return p.call(ctx, who, m, l)
	}
	if ru, ours := p.ruleTask(ctx, who, m, l); ours {
		return ru
	}
	clean, err := cutPrefix(m.Raw)
	if err != nil {
		return ruling{reply: errorReply(m.ID, codeInvalidRequest, "the message uses keys under "+Prefix+", which are OpenLeash's own, and cannot be cleaned of them: "+err.Error())}
	}
	return ruling{forward: p.held.toServer(who.Agent.ID, clean), wrap: announcing(m), done: p.pinner(who, m)}
}

// toHost cleans a message of the upstream on its way to the host and learns
// what the upstream says of its tools. All else stays, byte for byte.
func (p *Proxy) toHost(who authz.Caller, raw []byte) []byte {
	if p.learnTools(raw) && p.HideDenied {
		raw = p.hideDenied(who, raw)
	}
	clean, err := cutPrefix(raw)
	if err != nil {
		m, _ := ReadMessage(raw, anyMessage(raw))
		p.Log.Warn().Str("server", p.Name).Err(err).Msg("a message of the upstream uses keys under " + Prefix + " and cannot be cleaned of them; it is not passed on")
		if m.IsResponse() && m.ID != "" {
			return errorReply(m.ID, codeInternal, "the answer of "+p.Name+" uses keys that are OpenLeash's own and cannot be cleaned of them")
		}
		return nil
	}
	return p.held.toHost(who.Agent.ID, clean)
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(h[:])
}
