package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/openleash/openleash-go/authz"
)

// Hosts call tools that they have not listed in a while, or never. What a policy
// asks of $.tool, and the headers that repeat arguments, are then looked up here:
// the proxy lists the tools itself, and the host sees nothing of it.

const (
	// listWithin bounds how long a call waits for that.
	listWithin = 5 * time.Second
	// listAgain is how long it is not asked again, whatever came of it.
	listAgain = time.Minute
	// lostAgain is the same for a tool of which it was known what the server says, and
	// is not any more.
	lostAgain    = time.Second
	maxListPages = 100
	maxListBytes = 16 << 20
)

// listing is that for one agent: upstreams may list by who asks, and an agent
// whose requests they refuse must not keep another's from being known.
type listing struct {
	busy  chan struct{} // closed when the one under way ends
	asked time.Time     // when the one before ended
}

// A lister asks the upstream for one page of its tools, on behalf of a call;
// cursor is JSON text, empty for the first page.
type lister func(ctx context.Context, call Message, cursor string) ([]byte, error)

// errTooEarly is a lister's when the upstream must not be asked yet: "The client
// SHOULD NOT send requests other than pings before the server has responded to
// the initialize request" (2025-11-25, Lifecycle).
var errTooEarly = errors.New("the handshake is not complete")

// know has the tools listed when a call is for one that is not known. What it
// cannot find out stays unknown. It returns early when ctx ends.
func (p *Proxy) know(ctx context.Context, who authz.Caller, call Message, tool string, ask lister) {
	again := listAgain
	if p.isLost(ctx, tool) {
		again = lostAgain
	} else if p.isListed(tool) {
		return
	}
	bounded, cancel := context.WithTimeout(ctx, p.listWithin)
	defer cancel()
	for !p.isListed(tool) || p.isLost(ctx, tool) {
		busy, mine := p.claimListing(who.Agent.ID, again)
		switch {
		case mine:
			err := p.listTools(bounded, who, call, ask)
			p.endListing(who.Agent.ID, busy, ctx.Err() == nil && !errors.Is(err, errTooEarly))
			if err != nil && ctx.Err() == nil && !errors.Is(err, errTooEarly) {
				p.Log.Warn().Err(err).Str("server", p.Name).Msg("the server's tools could not be listed; what policies ask of $.tool stays unknown")
			}
			return
		case busy == nil:
			return // it was asked lately
		}
		select {
		case <-busy:
		case <-bounded.Done():
			return
		}
	}
}

func (p *Proxy) isListed(tool string) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	_, listed := p.tools[tool]
	return listed
}

// isLost reports whether the definition that was listed last is one that nobody can
// answer any more: other processes have listed another since.
func (p *Proxy) isLost(ctx context.Context, tool string) bool {
	return p.pins != nil && p.pins.Lost(ctx, tool)
}

// claimListing lets one call of an agent list the tools, and tells others what to
// wait for: nil when it was done less than again ago.
func (p *Proxy) claimListing(agent string, again time.Duration) (busy chan struct{}, mine bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.listings[agent]
	switch {
	case l.busy != nil:
		return l.busy, false
	case time.Since(l.asked) < again:
		return nil, false
	}
	l.busy = make(chan struct{})
	p.listings[agent] = l
	return l.busy, true
}

// endListing lets those go on that wait. What was forgotten meanwhile
// (forgetTools) was asked of a process that is no more.
func (p *Proxy) endListing(agent string, busy chan struct{}, asked bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(busy)
	if p.listings[agent].busy != busy {
		return
	}
	delete(p.listings, agent)
	if asked {
		p.listings[agent] = listing{asked: time.Now()}
	}
}

// listTools takes in the whole list, page by page.
func (p *Proxy) listTools(ctx context.Context, who authz.Caller, call Message, ask lister) error {
	cursor, size := "", 0
	for range maxListPages {
		raw, err := ask(ctx, call, cursor)
		if err != nil {
			return err
		}
		if size += len(raw); size > maxListBytes {
			return fmt.Errorf("its list is longer than %d bytes", maxListBytes)
		}
		if _, ok := find(raw, "result"); !ok {
			return errors.New("it answered tools/list with an error" + excerpt([]byte(rawAt(raw, "error"))))
		}
		p.learnTools(raw)
		p.pin(who, pinnedLists["tools/list"], cursor, raw)
		if cursor = rawAt(raw, "result", "nextCursor"); !strings.HasPrefix(cursor, `"`) {
			return nil
		}
	}
	return fmt.Errorf("its list has more than %d pages", maxListPages)
}

// listRequest is the request for a page. In the stateless era it says what the
// call says of its host: "_meta […] MUST include" version, client and capabilities
// (2026-07-28).
func listRequest(id string, call Message, cursor string) (Message, error) {
	var params []string
	if cursor != "" {
		params = append(params, `"cursor":`+cursor)
	}
	if isModern(metaVersion(call)) {
		params = append(params, `"_meta":{`+hostMeta(call)+`}`)
	}
	raw, err := cutPrefix([]byte(`{"jsonrpc":"2.0","id":` + id + `,"method":"tools/list","params":{` + strings.Join(params, ",") + `}}`))
	return Message{Raw: raw, ID: id, Method: "tools/list"}, err
}

func hostMeta(call Message) string {
	var members []string
	for _, key := range []string{mcp.MetaKeyProtocolVersion, mcp.MetaKeyClientInfo, mcp.MetaKeyClientCapabilities} {
		if value := rawAt(call.Raw, "params", "_meta", key); value != "" {
			members = append(members, `"`+key+`":`+value)
		}
	}
	return strings.Join(members, ",")
}

// checkParams compares the headers of a stateless call with its arguments, once
// it is known which of these they repeat.
func (p *Proxy) checkParams(ctx context.Context, who authz.Caller, h http.Header, m Message, ask lister) error {
	if m.Method != "tools/call" || !m.IsRequest() {
		return nil
	}
	if v := h.Get(mcp.HeaderProtocolVersion); isModern(v) || v == "" && isModern(metaVersion(m)) {
		p.know(ctx, who, m, toolOf(h, m), ask)
	}
	if ctx.Err() != nil {
		return &httpError{http.StatusServiceUnavailable, m.ID, codeInternal, "the host went away before the call was decided on"}
	}
	return p.mirrored.check(h, m)
}

// toolOf is the tool that a call names: in its header, which costs less to read
// and agrees with the body (checkName), or there.
func toolOf(h http.Header, m Message) string {
	if value, ok := header(h, mcp.HeaderName); ok {
		name, _ := mcp.DecodeHeaderValue(value)
		return name
	}
	name, _ := stringAt(m.Raw, "params", "name")
	return name
}
