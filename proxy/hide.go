package proxy

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/authz"
)

// hideDenied leaves out of a list of tools those that the policy denies this
// agent whatever the arguments, and those whose definition lets no call through. The
// others stay as they were written.
func (p *Proxy) hideDenied(who authz.Caller, raw []byte) []byte {
	root, err := action.Parse(raw, action.Limits{Bytes: len(raw) + 1, Depth: maxDepth, CaseTwins: true}) // schemas have such names
	if err != nil {
		return raw
	}
	list := root.Get("result").Get("tools")
	kept, hidden := []byte{'['}, 0
	p.hiding.mu.Lock() // what is found is noted before a change of the policies is looked at
	defer p.hiding.mu.Unlock()
	shown := p.hiding.shownTo(who)
	for _, t := range list.Items() {
		name := t.Get("name").Text()
		hide := p.isHidden(who, name)
		if shown.note(name, hide); hide {
			hidden++
			continue
		}
		if len(kept) > 1 {
			kept = append(kept, ',')
		}
		kept = append(kept, t.Raw()...)
	}
	if hidden == 0 {
		return raw
	}
	at := span{list.Start(), list.Start() + len(list.Raw())}
	return applyEdits(raw, edit{at, string(kept) + "]"})
}

func (p *Proxy) isHidden(who authz.Caller, name string) bool {
	if p.pins.Blocks(name) {
		return true
	}
	mapped, _ := p.Mapping.describe(p.Name, name)
	return p.Service.DeniesOutright(who, mapped.ActionType, p.pins.Info(name, p.toolInfo(name, mapped)))
}

// hiding is what the lists that went to hosts have left out, and who wants to know
// when that changes.
type hiding struct {
	mu       sync.Mutex
	shown    map[string]*shownTools // by agent
	watchers map[chan struct{}]bool // cap 1: the policies have changed
}

// shownTools are the tools of the lists that went to an agent's hosts.
type shownTools struct {
	hidden  map[string]bool // by name; false: it was shown
	changes int             // so far
}

// shownTo returns what an agent was shown. h.mu is held.
func (h *hiding) shownTo(who authz.Caller) *shownTools {
	s := h.shown[who.Agent.ID]
	if s == nil {
		s = &shownTools{hidden: map[string]bool{}}
		h.shown[who.Agent.ID] = s
	}
	return s
}

func (s *shownTools) note(name string, hidden bool) {
	was, known := s.hidden[name]
	if known && was != hidden {
		s.changes++
	}
	if known || len(s.hidden) < maxTools {
		s.hidden[name] = hidden
	}
}

// changesFor looks again at what an agent was shown, and tells how often that has
// changed.
func (p *Proxy) changesFor(who authz.Caller) int {
	if !p.HideDenied {
		return 0
	}
	p.hiding.mu.Lock()
	defer p.hiding.mu.Unlock()
	shown := p.hiding.shownTo(who)
	for name := range shown.hidden {
		shown.note(name, p.isHidden(who, name))
	}
	return shown.changes
}

// pinsEvery is how often it is looked whether what is pinned hides or shows a tool: the
// owner's answer may have been given in another process.
const pinsEvery = time.Second

// PoliciesChanged says that other policies are in force. Hosts whose lists would
// be others now are told; that is not waited for.
func (p *Proxy) PoliciesChanged() {
	p.hiding.mu.Lock()
	defer p.hiding.mu.Unlock()
	for changed := range p.hiding.watchers {
		signal(changed)
	}
}

// whenHidden calls tell, until ctx ends, when what is left out of an agent's lists
// has changed: more often than told, a value of changesFor.
func (p *Proxy) whenHidden(ctx context.Context, who authz.Caller, told int, tell func(now int)) {
	if !p.HideDenied {
		return
	}
	changed := make(chan struct{}, 1)
	changed <- struct{}{} // perhaps since told
	p.hiding.mu.Lock()
	p.hiding.watchers[changed] = true
	p.hiding.mu.Unlock()
	go func() {
		defer func() {
			p.hiding.mu.Lock()
			defer p.hiding.mu.Unlock()
			delete(p.hiding.watchers, changed)
		}()
		tick := time.NewTicker(pinsEvery)
		defer tick.Stop()
		for pinned := int64(-1); ; {
			select {
			case <-changed:
			case <-tick.C:
				now, err := p.pins.Generation(ctx)
				if err != nil || now == pinned { // what cannot be read is read again
					continue
				}
				pinned = now
			case <-ctx.Done():
				return
			}
			if now := p.changesFor(who); now != told {
				told = now
				tell(now)
			}
		}
	}()
}

// toolsChangedFor is the notification. In the stateless era it names the
// subscriptions/listen that asked for it, by its id as JSON text.
func toolsChangedFor(subscription string) []byte {
	if subscription == "" {
		return []byte(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`)
	}
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":%s}}}`, subscription)
}

// subscriptionTo returns the id of a subscriptions/listen that asks to be told of
// changes of the tools, empty for all else.
func subscriptionTo(m Message) string {
	if m.Method != "subscriptions/listen" || rawAt(m.Raw, "params", "notifications", "toolsListChanged") != "true" {
		return ""
	}
	return rawAt(m.Raw, "id")
}
