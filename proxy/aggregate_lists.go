package proxy

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/openleash/openleash-go/action"
)

// What the servers of an Aggregate say together.

// listKind is of a method that lists what a server has.
type listKind struct {
	capability string // that a server with such a list declares
	member     string // of the result: the list
	prefixed   bool   // its items' names get the server's prefix
}

var lists = map[string]listKind{
	"tools/list":               {"tools", "tools", true},
	"prompts/list":             {"prompts", "prompts", true},
	"resources/list":           {"resources", "resources", false},
	"resources/templates/list": {"resources", "resourceTemplates", false},
	"tasks/list":               {"tasks", "tasks", false},
}

// hellos are those of the servers that have joined, by server. g.mu is held.
func (g *gathering) hellos() map[*branch]introduction {
	all := map[*branch]introduction{}
	for _, b := range g.branches {
		if b.joined {
			all[b] = b.hello
		}
	}
	return all
}

// helloOfAll is the result of initialize: the oldest of the versions, since a
// session has one, and what any of them can do.
func (g *gathering) helloOfAll(hellos map[*branch]introduction) []byte {
	version, can, about := g.version, []action.Value(nil), []string(nil)
	for _, b := range g.branches {
		h, joined := hellos[b]
		if !joined {
			about = append(about, "The server "+b.Name+" is not available now.")
			continue
		}
		version, can = min(version, h.version), append(can, h.capabilities)
		if h.instructions != "" {
			about = append(about, fmt.Sprintf("The server %s, whose tools begin with %s:\n%s", b.Name, b.prefix(), h.instructions))
		}
	}
	result := fmt.Appendf(nil, `{"protocolVersion":%s,"capabilities":%s,"serverInfo":{"name":"openleash","version":%s}`,
		quote(version), capabilities(can), quote(g.a.Version))
	if len(about) > 0 {
		result = fmt.Appendf(result, `,"instructions":%s`, quote(strings.Join(about, "\n\n")))
	}
	return append(result, '}')
}

// capabilities are those of all together, as far as requests can be told apart.
// The lists change when a server comes late.
func capabilities(of []action.Value) []byte {
	all := action.ObjectValue()
	for _, name := range []string{"completions", "logging", "prompts", "resources", "tasks", "tools"} {
		v := action.Value{}
		for _, one := range of {
			v = united(v, one.Get(name))
		}
		if v.Kind() == action.Missing {
			continue
		}
		if name == "prompts" || name == "resources" || name == "tools" {
			v = united(v, action.ObjectValue(action.Member{Key: "listChanged", Value: action.BoolValue(true)}))
		}
		all = united(all, action.ObjectValue(action.Member{Key: name, Value: v}))
	}
	return all.Canonical()
}

// united is what either of two capabilities declares.
func united(a, b action.Value) action.Value {
	switch {
	case b.Kind() == action.Missing, a.IsTrue():
		return a
	case a.Kind() != action.Object || b.Kind() != action.Object:
		return b
	}
	var members []action.Member
	for key, v := range a.Members() {
		members = append(members, action.Member{Key: key, Value: united(v, b.Get(key))})
	}
	for key, v := range b.Members() {
		if a.Get(key).Kind() == action.Missing {
			members = append(members, action.Member{Key: key, Value: v})
		}
	}
	return action.ObjectValue(members...)
}

// announce tells the host that what a server lists has come or gone.
func (g *gathering) announce(h introduction) {
	for _, name := range []string{"tools", "prompts", "resources"} {
		if h.capabilities.Get(name).Kind() == action.Object {
			g.toHost([]byte(`{"jsonrpc":"2.0","method":"notifications/` + name + `/list_changed"}`))
		}
	}
}

// list answers with the lists of all servers that have one. There are no pages:
// each server's are read to the end.
func (g *gathering) list(m Message, kind listKind) {
	if _, ok := find(m.Raw, "params", "cursor"); ok {
		g.refuse(m, codeInvalidParams, "params.cursor: this list has no pages; leave it out")
		return
	}
	items, failed := g.collect(m.Method, kind)
	if len(items) == 0 && len(failed) > 0 {
		g.refuse(m, codeInternal, strings.Join(failed, "; "))
		return
	}
	g.reply(m, fmt.Appendf(nil, `{%q:[%s]}`, kind.member, bytes.Join(items, []byte{','})))
}

// collect asks the servers for their lists, all at once. Whose cannot be had is
// left out.
func (g *gathering) collect(method string, kind listKind) (items [][]byte, failed []string) {
	there := g.present(kind.capability)
	found, errs := make([][][]byte, len(there)), make([]error, len(there))
	var asking sync.WaitGroup
	for i, b := range there {
		asking.Go(func() { found[i], errs[i] = b.list(method, kind) })
	}
	asking.Wait()
	for i, b := range there {
		if errs[i] != nil {
			b.Log.Warn().Err(errs[i]).Str("server", b.Name).Str("method", method).Msg("its list is left out")
			failed = append(failed, fmt.Sprintf("the server %s: %v", b.Name, errs[i]))
		}
	}
	return slices.Concat(found...), failed
}

// list reads a server's whole list.
func (b *branch) list(method string, kind listKind) (items [][]byte, err error) {
	ctx, cancel := context.WithTimeout(b.g.ctx, listAll)
	defer cancel()
	params, size := []byte(`{}`), 0
	for range maxListPages {
		answer, err := b.ask(ctx, method, params)
		if err != nil {
			return nil, err
		}
		page, next, err := b.page(answer, kind)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", method, err)
		}
		items = append(items, page...)
		if size += len(answer); size > maxListBytes {
			return nil, fmt.Errorf("%s: more than %d bytes", method, maxListBytes)
		}
		if next == "" {
			return items, nil
		}
		params = fmt.Appendf(nil, `{"cursor":%s}`, quote(next))
	}
	return nil, fmt.Errorf("%s: more than %d pages", method, maxListPages)
}

// page reads one page, notes whose its items are, and prefixes their names.
func (b *branch) page(answer []byte, kind listKind) (items [][]byte, next string, err error) {
	root, err := action.Parse(answer, anyMessage(answer))
	if err != nil {
		return nil, "", err
	}
	if e := root.Get("error"); e.Kind() != action.Missing {
		return nil, "", fmt.Errorf("%s", e.Get("message").Text())
	}
	result := root.Get("result")
	if result.Get(kind.member).Kind() != action.Array {
		return nil, "", fmt.Errorf("want an array %q in its result", kind.member)
	}
	for _, item := range result.Get(kind.member).Items() {
		b.g.note(b, kind, item)
		items = append(items, b.prefixed(kind, item))
	}
	return items, result.Get("nextCursor").Text(), nil
}

// prefixed is an item with the server's prefix before its name, and nothing else
// changed.
func (b *branch) prefixed(kind listKind, item action.Value) []byte {
	name := item.Get("name")
	if !kind.prefixed || name.Kind() != action.String {
		return item.Raw()
	}
	from := name.Start() - item.Start()
	return applyEdits(item.Raw(), edit{span{from, from + len(name.Raw())}, string(quote(b.prefix() + name.Text()))})
}

// toEach asks all servers with a capability the same, and answers when all have:
// with the first error, if there is one.
func (g *gathering) toEach(m Message, capability string) {
	ctx, cancel := context.WithTimeout(g.ctx, listAll)
	defer cancel()
	there := g.present(capability)
	answers := make([][]byte, len(there))
	var asking sync.WaitGroup
	for i, b := range there {
		asking.Go(func() {
			answer, err := b.ask(ctx, m.Method, []byte(rawAt(m.Raw, "params")))
			if err != nil {
				answer = errorReply(m.ID, codeInternal, fmt.Sprintf("the server %s: %v", b.Name, err))
			}
			answers[i] = answer
		})
	}
	asking.Wait()
	for _, raw := range answers {
		if text := rawAt(raw, "error"); text != "" {
			if g.end(m.ID, nil) {
				g.toHost(fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"error":%s}`, m.ID, text))
			}
			return
		}
	}
	g.reply(m, []byte("{}"))
}
