package authz

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/audit"
)

// A Listing is one page of what a server has listed to an agent.
type Listing struct {
	Agent  string
	Kind   string
	Cursor string // by which it was asked for; empty: the first page
	Next   string // of the next page; empty: it is the last
	Items  []Listed
	// Unreadable is why it cannot be said what is in it. The agent's host may read
	// something there all the same.
	Unreadable string
}

// Listed is one definition, in its canonical form.
type Listed struct {
	Name string
	Text []byte
	Hash action.Hash
}

// wholeList is an agent's list on its way, page by page, and the last whole one.
type wholeList struct {
	next  string
	names map[string]bool
	last  map[string]bool
}

// maxLists bounds how many agents' lists are remembered.
const maxLists = 1000

// Observe compares a page with what is pinned, and writes down what is new. What
// cannot be written stays blocked all the same.
func (p *Pins) Observe(ctx context.Context, l Listing) error {
	p.writing.Lock()
	defer p.writing.Unlock()
	l.Items = once(l.Items)
	whole := p.take(l)
	err := p.fresh(ctx, 0)
	for tries := 0; err == nil && tries < attempts; tries++ {
		change, entries := p.compare(l, whole)
		if change == nil {
			return nil
		}
		err = p.s.commit(ctx, Batch{Pins: change, Entries: entries})
		if err != nil && !errors.Is(err, ErrPinsChanged) {
			break
		}
		if again := p.reload(ctx); again != nil || err == nil {
			return again
		}
		err = nil
	}
	if err != nil {
		return fmt.Errorf("pinning what server %s lists: %w", p.server, err)
	}
	return nil
}

// take notes what is listed, and reports whether it completes the agent's list.
func (p *Pins) take(l Listing) (whole bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := listKey{l.Agent, l.Kind}
	if l.Unreadable != "" {
		p.unreadable[key] = l.Unreadable
		delete(p.lists, key)
		return false
	}
	for _, item := range l.Items {
		at := pinKey{l.Kind, item.Name}
		if _, there := p.listed[at]; there || len(p.listed) < 4*maxPins {
			p.listed[at] = item.Hash
		} else {
			p.full[l.Kind] = true
		}
	}
	if whole = p.page(key, l); whole {
		delete(p.unreadable, key)
	}
	return whole
}

// page adds a page to an agent's list. p.mu is held.
func (p *Pins) page(key listKey, l Listing) (whole bool) {
	list := p.lists[key]
	if list == nil {
		if len(p.lists) >= maxLists {
			clear(p.lists)
		}
		list = &wholeList{}
		p.lists[key] = list
	}
	switch {
	case l.Cursor == "":
		list.names = map[string]bool{}
	case l.Cursor != list.next:
		list.names = nil // another one's page: what went before is not known
	}
	if list.names == nil {
		return false
	}
	for _, item := range l.Items {
		if len(list.names) < maxPins {
			list.names[item.Name] = true
		}
	}
	if list.next = l.Next; l.Next != "" {
		return false
	}
	list.last, list.names = list.names, nil
	return true
}

// once makes one item of those that have the same name: whichever of them a model
// goes by, it is the same pin.
func once(items []Listed) []Listed {
	at := map[string]int{}
	var list []Listed
	for _, item := range items {
		item.Name = PinName(item.Name)
		i, twice := at[item.Name]
		switch {
		case !twice:
			at[item.Name], list = len(list), append(list, item)
		case list[i].Hash != item.Hash:
			text := slices.Concat([]byte("["), list[i].Text, []byte(","), item.Text, []byte("]"))
			list[i].Text, list[i].Hash = text, sha256.Sum256(text)
		}
	}
	return list
}

// comparison is of one page with what is known. p.mu is held.
type comparison struct {
	p      *Pins
	l      Listing
	now    time.Time
	names  int // that are kept of the kind
	texts  int // bytes that are kept of the server
	change *Pinning
	gone   []string
}

// compare finds what has to be written; nil: nothing.
func (p *Pins) compare(l Listing, whole bool) (*Pinning, []audit.Entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := comparison{p: p, l: l, now: p.s.cfg.Now().UTC().Truncate(time.Millisecond),
		change: &Pinning{Owner: p.s.cfg.Owner.ID, Server: p.server, Generation: p.gen}}
	for key, v := range p.known {
		if key.kind == l.Kind {
			c.names++
		}
		c.texts += v.kept()
	}
	for _, item := range l.Items {
		c.item(item)
	}
	if whole {
		c.whole()
	}
	if len(c.change.Put)+len(c.change.Whole)+len(c.change.Gone) == 0 {
		return nil, nil
	}
	return c.change, c.entries()
}

// kept is how many bytes are kept of all versions.
func (v Versions) kept() (n int) {
	for _, p := range v.Accepted {
		n += p.Kept
	}
	if v.Pending != nil {
		n += v.Pending.Kept
	}
	return n
}

// item compares one definition.
func (c *comparison) item(item Listed) {
	v, kept := c.p.known[pinKey{c.l.Kind, item.Name}]
	if kept && v.Find(item.Hash) != nil {
		return
	}
	if !kept && c.names >= maxPins {
		c.p.full[c.l.Kind] = true
		return
	}
	pin := Pin{Server: c.p.server, Kind: c.l.Kind, Name: item.Name, Hash: item.Hash, State: PinWaiting, SeenAt: c.now}
	if !kept {
		c.names++
		if !c.p.whole[c.l.Kind] || !blocksNew(c.l.Kind) {
			pin.State, pin.AnsweredAt, pin.AnsweredBy = PinAccepted, c.now, FirstUse
		}
	}
	if len(item.Text) <= maxPinText && c.texts+len(item.Text) <= maxPinTexts {
		pin.Text, pin.Kept = item.Text, len(item.Text)
		c.texts += len(item.Text)
	}
	if v.Pending != nil {
		c.change.Drop = append(c.change.Drop, *v.Pending)
	}
	c.change.Put = append(c.change.Put, pin)
}

// goneAgain is for how long it is not noted again that a definition is gone: two
// agents to which a server lists different ones take turns.
const goneAgain = 24 * time.Hour

// whole notes what is gone, and what is back. A list with nothing in it says
// nothing: many servers have none until they have started up.
func (c *comparison) whole() {
	last := c.p.lists[listKey{c.l.Agent, c.l.Kind}].last
	if len(last) == 0 {
		return
	}
	if !c.p.whole[c.l.Kind] {
		c.change.Whole = []string{c.l.Kind}
	}
	if c.l.Kind == PinResource {
		return // they come and go all day
	}
	for key, v := range c.p.known {
		if key.kind != c.l.Kind {
			continue
		}
		switch {
		case c.anybodys(key.name):
			if v.IsGone() {
				c.change.Gone = append(c.change.Gone, PinGone{key.kind, key.name, v.Gone.At, true})
			}
		case c.now.Sub(v.Gone.At) >= goneAgain && !v.IsGone():
			c.change.Gone = append(c.change.Gone, PinGone{key.kind, key.name, c.now, false})
			c.gone = append(c.gone, key.name)
		}
	}
	slices.Sort(c.gone)
}

// anybodys reports whether a name is in the last list of any agent.
func (c *comparison) anybodys(name string) bool {
	for key, list := range c.p.lists {
		if key.kind == c.l.Kind && (list.last[name] || list.names[name]) {
			return true
		}
	}
	return false
}

// maxPinEntries bounds how many changes of one page have a line each in the log.
const maxPinEntries = 50

// entries are the log's lines of a change: hashes, since texts are the server's.
func (c *comparison) entries() (list []audit.Entry) {
	var first, more []string
	for _, pin := range c.change.Put {
		switch {
		case pin.State == PinAccepted:
			first = append(first, pin.Name)
		case len(list) < maxPinEntries:
			list = append(list, c.differs(pin))
		default:
			more = append(more, pin.Name)
		}
	}
	if len(more) > 0 {
		list = append(list, c.pinEntry("definition.changed", "", fmt.Sprintf("%d more of kind %s are new or have changed: %s", len(more), c.l.Kind, names(more))))
	}
	if len(first) > 0 {
		list = append(list, c.pinEntry("definition.pinned", "", fmt.Sprintf("%d of kind %s accepted at first use: %s", len(first), c.l.Kind, names(first))))
	}
	if len(c.change.Whole) > 0 {
		list = append(list, c.pinEntry("definition.listed", "", "the whole list of kind "+c.l.Kind+" has been seen: what is not in it is new from now on"))
	}
	if len(c.gone) > 0 {
		list = append(list, c.pinEntry("definition.gone", "", fmt.Sprintf("%d of kind %s not listed any more: %s", len(c.gone), c.l.Kind, names(c.gone))))
	}
	return list
}

func (c *comparison) differs(pin Pin) audit.Entry {
	v := c.p.known[pinKey{pin.Kind, pin.Name}]
	if latest := v.Latest(); latest != nil {
		return c.pinEntry("definition.changed", pin.Name, fmt.Sprintf("%s: %s was accepted, %s is listed", pin.Kind, latest.Hash, pin.Hash))
	}
	return c.pinEntry("definition.new", pin.Name, fmt.Sprintf("%s: %s", pin.Kind, pin.Hash))
}

func (c *comparison) pinEntry(event, name, detail string) audit.Entry {
	return audit.Entry{
		TS: timestamp(c.now), Event: event, ActorType: "agent", ActorID: c.l.Agent, OwnerID: c.p.s.cfg.Owner.ID,
		Server: c.p.server, Tool: name, Detail: detail,
	}
}

// maxNames bounds what a line has of names.
const maxNames = 1000

func names(list []string) string {
	text := strings.Join(list, ", ")
	if len(text) > maxNames {
		text = strings.ToValidUTF8(text[:maxNames], "") + "…"
	}
	return text
}
