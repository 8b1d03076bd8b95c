package authz

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
)

// PinMode says what becomes of calls by a definition that the owner has not
// accepted.
type PinMode string

const (
	PinHold  PinMode = "hold"  // they wait for the owner
	PinDeny  PinMode = "deny"  // they are refused
	PinAllow PinMode = "allow" // it is recorded, and a policy may look at it
)

// pinsFresh is how old what is known of a server's pins may be when a call is
// decided on: as late another process's news may come, its owner's answer or a change
// that its own upstream has shown.
const pinsFresh = time.Second

// Pins are the definitions of one server as a process knows them: what is kept,
// and what the server has listed here. It is safe for simultaneous use.
type Pins struct {
	s      *Service
	server string
	mode   PinMode

	writing sync.Mutex // held while a list is compared and what is new is written

	mu     sync.Mutex
	looked time.Time
	gen    int64
	known  map[pinKey]Versions
	whole  map[string]bool        // by kind
	listed map[pinKey]action.Hash // the version listed last, to whomever
	// unreadable is why a list could not be compared, full that there were more than
	// can be kept.
	unreadable map[listKey]string
	full       map[string]bool // by kind
	lists      map[listKey]*wholeList
}

// listKey is of one agent's list of a kind.
type listKey struct{ agent, kind string }

// Pins returns the pins of a server. mode empty: PinHold.
func (s *Service) Pins(server string, mode PinMode) *Pins {
	if mode == "" {
		mode = PinHold
	}
	return &Pins{
		s: s, server: server, mode: mode, known: map[pinKey]Versions{}, whole: map[string]bool{}, listed: map[pinKey]action.Hash{},
		unreadable: map[listKey]string{}, full: map[string]bool{}, lists: map[listKey]*wholeList{},
	}
}

// fresh reads what is kept when what is known is older than that and another
// generation.
func (p *Pins) fresh(ctx context.Context, within time.Duration) error {
	p.mu.Lock()
	recent, gen := !p.looked.IsZero() && time.Since(p.looked) < within, p.gen
	first := p.looked.IsZero()
	p.mu.Unlock()
	if recent {
		return nil
	}
	at := time.Now()
	now, err := p.s.cfg.Store.PinGeneration(ctx, p.s.cfg.Owner.ID, p.server)
	if err != nil {
		return fmt.Errorf("reading the pins: %w", err)
	}
	if first || now != gen {
		return p.reload(ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.looked = at
	return nil
}

func (p *Pins) reload(ctx context.Context) error {
	at := time.Now()
	book, err := p.s.cfg.Store.PinBook(ctx, p.s.cfg.Owner.ID, p.server)
	if err != nil {
		return fmt.Errorf("reading the pins: %w", err)
	}
	known, whole := map[pinKey]Versions{}, map[string]bool{}
	for _, v := range book.All() {
		known[pinKey{v.Kind, v.Name}] = v
	}
	for _, kind := range book.Whole {
		whole[kind] = true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if book.Generation >= p.gen { // else another one was quicker
		p.known, p.whole, p.gen, p.looked = known, whole, book.Generation, at
	}
	return nil
}

// pinVerdict is what the pins say of a call.
type pinVerdict struct {
	state  string // for policies: accepted, new, changed, refused, unknown
	code   Code   // empty: nothing stands in its way
	reason string

	compared bool        // it is known what is listed now: hash, or zero where that cannot be read
	hash     action.Hash //
}

// definition is the definition by which a call is made. What is asked of the host
// has none.
func (c *Call) definition() (kind, name string, ok bool) {
	switch {
	case !c.Open:
		return PinTool, c.Tool, true
	case c.Tool == "prompts/get":
		return PinPrompt, c.Arguments.Get("name").Text(), true
	case c.Tool == "resources/read":
		return PinResource, c.Arguments.Get("uri").Text(), true
	}
	return "", "", false
}

// pinned looks a call up, and puts into $.tool what came of it. The call itself is
// left as it is.
func (c *Call) pinned(ctx context.Context) (*Call, pinVerdict, error) {
	if c == nil || c.Pins == nil {
		return c, pinVerdict{}, nil
	}
	kind, name, ok := c.definition()
	if !ok {
		return c, pinVerdict{}, nil
	}
	err := c.Pins.fresh(ctx, pinsFresh)
	v := c.Pins.verdict(kind, name)
	if v.code != "" && err == nil { // perhaps not any more
		err = c.Pins.fresh(ctx, 0)
		v = c.Pins.verdict(kind, name)
	}
	told := *c
	told.Info = v.into(c.Info)
	return &told, v, err
}

// Info is $.tool of a tool with the state of its pin.
func (p *Pins) Info(tool string, info action.Value) action.Value {
	return p.verdict(PinTool, tool).into(info)
}

// into puts the state into $.tool, and the hash of the definition that was listed
// last: what is told of the tool beside it may be older, when the list is one that
// only a lenient reader reads.
func (v pinVerdict) into(info action.Value) action.Value {
	var members []action.Member
	for key, value := range info.Members() {
		if key != definitionHash || !v.compared {
			members = append(members, action.Member{Key: key, Value: value})
		}
	}
	if v.compared && !v.hash.IsZero() {
		members = append(members, action.Member{Key: definitionHash, Value: action.StringValue(v.hash.String())})
	}
	return action.ObjectValue(append(members, action.Member{Key: "pin_state", Value: action.StringValue(v.state)})...)
}

// definitionHash is the member of $.tool that tells which definition is listed.
const definitionHash = "definition_hash"

// Blocks reports whether no call of a tool gets through, whoever makes it, until the
// owner says otherwise: its definition was refused, or is one that was not accepted and
// does not wait for that either. A list that leaves a doubt is none of the owner's
// doing, and does not count. It decides nothing: calls are refused by Authorize.
func (p *Pins) Blocks(tool string) bool {
	v := p.verdict(PinTool, tool)
	return v.code == ToolRefused || v.code == ToolChanged && v.state != "unknown"
}

// Lost reports whether what the server says of a tool has to be listed anew before its
// owner can answer it: what was listed here last is neither accepted nor waits, since
// another process has seen another version meanwhile.
func (p *Pins) Lost(ctx context.Context, tool string) bool {
	if p.mode == PinAllow || p.fresh(ctx, pinsFresh) != nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	key := pinKey{PinTool, PinName(tool)}
	v, kept := p.known[key]
	hash, listed := p.listed[key]
	return kept && listed && v.Pending == nil && v.Find(hash) == nil
}

// Generation is another when what was pinned has changed, here or in another process
// as of pinsFresh ago.
func (p *Pins) Generation(ctx context.Context) (int64, error) {
	err := p.fresh(ctx, pinsFresh)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gen, err
}

// verdict judges by what is known: nothing is read.
func (p *Pins) verdict(kind, name string) pinVerdict {
	p.mu.Lock()
	defer p.mu.Unlock()
	name = PinName(name)
	unreadable := p.unreadableOf(kind)
	hash, listed := p.listed[pinKey{kind, name}]
	v := p.judge(kind, name, hash, listed, unreadable)
	if v.compared = kind == PinTool && (listed || unreadable != ""); unreadable == "" {
		v.hash = hash
	}
	if p.mode == PinAllow {
		v.code, v.reason = "", ""
	}
	return v
}

func (p *Pins) judge(kind, name string, hash action.Hash, listed bool, unreadable string) pinVerdict {
	v, kept := p.known[pinKey{kind, name}]
	what := fmt.Sprintf("the definition of the %s %s of server %s", kind, name, p.server)
	switch {
	case v.Pending != nil:
		return p.pending(v, what)
	case kept && unreadable != "":
		return pinVerdict{state: "unknown", code: ToolChanged, reason: what + " cannot be compared with the one that was accepted: " + unreadable}
	case !kept && blocksNew(kind) && (listed || p.full[kind]):
		return pinVerdict{state: "new", code: p.waitCode(), reason: what + " is new, and could not be kept for the owner to look at"}
	case !kept, !listed:
		return pinVerdict{state: "unknown"}
	case v.Find(hash) == nil:
		return pinVerdict{state: "changed", code: p.waitCode(), reason: what + " is not the one that was accepted any more, and does not wait for the owner: its server has to list it again"}
	}
	return pinVerdict{state: string(PinAccepted)}
}

func (p *Pins) pending(v Versions, what string) pinVerdict {
	state, hash := v.State(), v.Pending.Hash.String()
	switch state {
	case "refused":
		return pinVerdict{state: state, code: ToolRefused, reason: what + " was refused by " + v.Pending.AnsweredBy}
	case "new":
		return pinVerdict{state: state, code: p.waitCode(), reason: what + " is new (" + hash + "): the owner has to accept it first"}
	}
	return pinVerdict{state: state, code: p.waitCode(), reason: what + " is not the one that was accepted any more, but " + hash + ": the owner has to accept the change first"}
}

func (p *Pins) waitCode() Code {
	if p.mode == PinDeny {
		return ToolChanged
	}
	return ToolHeld
}

// unreadableOf is why some agent's list of a kind could not be compared. p.mu is held.
func (p *Pins) unreadableOf(kind string) string {
	for key, why := range p.unreadable {
		if key.kind == kind {
			return why
		}
	}
	return ""
}

// Wait blocks while the owner has not said whether a call's definition is
// accepted, or until ctx ends. An answer given in any process wakes it; what this
// process alone knows of a list it sees a moment later.
func (p *Pins) Wait(ctx context.Context, c *Call) error {
	kind, name, _ := c.definition()
	return approvals.Until(ctx, p.s.cfg.Store, PinTopic(p.s.cfg.Owner.ID, p.server), func(ctx context.Context) (bool, time.Time, error) {
		if err := p.fresh(ctx, 0); err != nil {
			return false, time.Time{}, err
		}
		return p.verdict(kind, name).code != ToolHeld, time.Now().Add(pinsFresh), nil
	})
}

// otherDefinition reports whether the tool's definition is not the one by which the
// owner was asked, or is not known any more.
func (a *attempt) otherDefinition(open approvals.Request) bool {
	shown := open.ToolInfo.Get(definitionHash).Text()
	return shown != "" && a.call.Info.Get(definitionHash).Text() != shown
}
