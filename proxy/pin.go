package proxy

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/authz"
)

// What a server says of its tools, prompts and resources is compared with what is
// pinned (authz.Pins) before the host gets to see it, whoever has asked for the list.

// pinnedList is a method that lists definitions.
type pinnedList struct {
	kind   string
	member string // of the result: the list
	name   string // of an item: its name
}

var pinnedLists = map[string]pinnedList{
	"tools/list":               {authz.PinTool, "tools", "name"},
	"prompts/list":             {authz.PinPrompt, "prompts", "name"},
	"resources/list":           {authz.PinResource, "resources", "uri"},
	"resources/templates/list": {authz.PinTemplate, "resourceTemplates", "uriTemplate"},
}

// pinWithin bounds how long a list waits for what is new in it to be written.
const pinWithin = 10 * time.Second

// pinner is the done of a request for a list; nil for all else.
func (p *Proxy) pinner(who authz.Caller, m Message) func([]byte, failure) {
	list, ok := pinnedLists[m.Method]
	if !ok || p.pins == nil || !m.IsRequest() {
		return nil
	}
	cursor := rawAt(m.Raw, "params", "cursor")
	return func(response []byte, _ failure) {
		if response != nil {
			p.pin(who, list, cursor, response)
		}
	}
}

// pin compares a page of a list.
func (p *Proxy) pin(who authz.Caller, list pinnedList, cursor string, response []byte) {
	if p.pins == nil {
		return
	}
	l := authz.Listing{Agent: who.Agent.Name, Kind: list.kind, Cursor: cursor}
	if err := list.read(response, &l); err != nil {
		l.Unreadable = "its list leaves a doubt about what is in it: " + err.Error()
		p.Log.Warn().Err(err).Str("server", p.Name).Str("kind", list.kind).Msg("a list of the server cannot be compared with what is pinned")
	}
	ctx, cancel := context.WithTimeout(context.Background(), pinWithin)
	defer cancel()
	if err := p.pins.Observe(ctx, l); err != nil {
		p.Log.Error().Err(err).Str("server", p.Name).Msg("what is new in a list of the server could not be recorded; calls by it stay blocked")
	}
}

// read takes the definitions out of a response. An error lists none.
func (list pinnedList) read(response []byte, l *authz.Listing) error {
	root, err := action.Parse(response, action.Limits{Bytes: len(response) + 1, Depth: maxDepth, CaseTwins: true}) // schemas have such names
	if err != nil {
		return err
	}
	result := root.Get("result")
	for _, at := range []struct {
		in   action.Value
		name string
	}{{root, "result"}, {result, list.member}, {result, "nextCursor"}} {
		if odd, ok := at.in.GetFold(at.name); ok {
			return fmt.Errorf("%q differs from %q only by case", odd, at.name)
		}
	}
	if next := result.Get("nextCursor"); next.Kind() == action.String {
		l.Next = string(next.Raw())
	}
	for _, item := range result.Get(list.member).Items() {
		name := item.Get(list.name)
		if name.Kind() != action.String {
			return fmt.Errorf("one of its %s has no %s", list.member, list.name)
		}
		text := list.definition(item).Canonical()
		l.Items = append(l.Items, authz.Listed{Name: name.Text(), Text: text, Hash: sha256.Sum256(text)})
	}
	return nil
}

// definition is what is pinned of an item: all of it, but for what changes by
// itself while it is used.
func (list pinnedList) definition(item action.Value) action.Value {
	if list.kind != authz.PinResource {
		return item
	}
	var members []action.Member
	for key, v := range item.Members() {
		switch key {
		case "size":
			continue
		case "annotations":
			v = less(v, "lastModified")
		}
		members = append(members, action.Member{Key: key, Value: v})
	}
	return action.ObjectValue(members...)
}

// less is an object without one of its members.
func less(v action.Value, key string) action.Value {
	if v.Get(key).Kind() == action.Missing {
		return v
	}
	var members []action.Member
	for k, value := range v.Members() {
		if k != key {
			members = append(members, action.Member{Key: k, Value: value})
		}
	}
	return action.ObjectValue(members...)
}

// renew brings up to date what the server says of a call's tool: while the call
// waited it may have said something else, or have been started again.
func (p *Proxy) renew(ctx context.Context, c call, call *authz.Call) {
	if c.open {
		return
	}
	if c.relist != nil {
		c.relist(ctx)
	}
	mapped, _ := p.Mapping.describe(p.Name, c.tool)
	call.Info = p.toolInfo(c.tool, mapped)
}
