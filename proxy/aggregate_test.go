package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/identity"
)

// crowd is a host's session with several servers at one address.
type crowd struct {
	*talk
	servers map[string]*children
}

// played is a server of a crowd. answers are results, by method; others are
// answered by other, or, without it, by {"did":METHOD,"by":NAME}.
type played struct {
	capabilities string // empty: tools alone
	version      string // empty: the host's
	instructions string
	answers      map[string]string
	other        func(c *pipeConn, m Message) (seen bool)
	dial         func() error
}

func (s played) serve(name string) func(c *pipeConn, m Message) {
	return func(c *pipeConn, m Message) {
		switch result, ok := s.answers[m.Method]; {
		case !m.IsRequest() && (s.other == nil || !s.other(c, m)), m.IsRequest() && s.other != nil && s.other(c, m):
		case ok:
			c.write(resultOf(m, result))
		case m.Method == "initialize":
			c.write(resultOf(m, s.introduction(m)))
		case m.IsRequest():
			c.write(resultOf(m, fmt.Sprintf(`{"did":%q,"by":%q}`, m.Method, name)))
		}
	}
}

func resultOf(m Message, result string) string {
	return `{"jsonrpc":"2.0","id":` + m.ID + `,"result":` + result + `}`
}

func (s played) introduction(m Message) string {
	version, capabilities := s.version, s.capabilities
	if version == "" {
		version, _ = stringAt(m.Raw, "params", "protocolVersion")
	}
	if capabilities == "" {
		capabilities = `{"tools":{}}`
	}
	result := fmt.Sprintf(`{"protocolVersion":%q,"capabilities":%s,"serverInfo":{"name":"theirs","version":"1"}`, version, capabilities)
	if s.instructions != "" {
		result += fmt.Sprintf(`,"instructions":%q`, s.instructions)
	}
	return result + "}"
}

func newCrowd(t *testing.T, policyYAML string, servers map[string]played) *crowd {
	t.Helper()
	p := newRealProxy(t, policyYAML)
	return gathered(t, &talk{realProxy: p, t: t}, authz.Caller{Agent: must(p.store.EnsureAgent(t.Context(), "bot", p.owner))(t)}, servers)
}

// plainCrowd has no store and no policy, and decides nothing.
func plainCrowd(t *testing.T, servers map[string]played) *crowd {
	t.Helper()
	return gathered(t, &talk{realProxy: realProxy{Proxy: plainProxy()}, t: t}, authz.Caller{Agent: identity.Agent{ID: "a", Name: "bot"}}, servers)
}

func gathered(t *testing.T, k *talk, who authz.Caller, servers map[string]played) *crowd {
	t.Helper()
	c := &crowd{talk: k, servers: map[string]*children{}}
	all := &Aggregate{Version: "0.1", Limits: action.Limits{Bytes: 1 << 20}, Log: zerolog.Nop()}
	for name, s := range servers {
		config := k.Config
		config.Name = name
		d := &children{serve: s.serve(name)}
		c.servers[name] = d
		all.Members = append(all.Members, Member{New(config), func(ctx context.Context, who authz.Caller) (Conn, error) {
			if s.dial != nil {
				if err := s.dial(); err != nil {
					return nil, err
				}
			}
			return d.dial(ctx, who)
		}})
	}
	slices.SortFunc(all.Members, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	var hostSide *pipeConn
	k.host, hostSide = newPipes()
	ctx, stop := context.WithCancel(t.Context())
	k.stop, k.ended = stop, make(chan error, 1)
	g := all.gather(who)
	go func() { k.ended <- relay(ctx, hostSide, g) }()
	t.Cleanup(func() { stop(); <-k.ended; k.ended <- nil })
	return c
}

// begin is the handshake; it returns the result of initialize.
func (c *crowd) begin() string {
	c.t.Helper()
	c.host.write(initialize)
	raw := c.next(c.host)
	c.host.write(initialized)
	return rawAt([]byte(raw), "result")
}

// asks sends a request and returns what it is answered: the result, or the error.
func (c *crowd) asks(id int, method, params string) string {
	c.t.Helper()
	c.host.write(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q,"params":%s}`, id, method, params))
	raw := c.next(c.host)
	if got := rawAt([]byte(raw), "id"); got != fmt.Sprint(id) {
		c.t.Fatalf("request %d was answered by %s", id, raw)
	}
	if result := rawAt([]byte(raw), "result"); result != "" {
		return result
	}
	reason, _ := stringAt([]byte(raw), "error", "message")
	return reason
}

func (c *crowd) same(what, got, want string) {
	c.t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		c.t.Errorf("%s:\n%s", what, diff)
	}
}

// two are servers with everything.
func two() map[string]played {
	return map[string]played{
		"files": {
			capabilities: `{"tools":{},"prompts":{},"resources":{"subscribe":true},"logging":{}}`,
			instructions: "Read before you write.",
			answers: map[string]string{
				"tools/list":               `{"tools":[{"name":"read","inputSchema":{"const":1.10},"_meta":{"z":1}},{"title":"W","name":"wr\u0069te"}],"ttl":1}`,
				"prompts/list":             `{"prompts":[{"name":"tidy"}]}`,
				"resources/list":           `{"resources":[{"uri":"file:\/\/\/a","name":"a"},{"uri":"both:x","name":"x"}]}`,
				"resources/templates/list": `{"resourceTemplates":[{"uriTemplate":"file:///notes/{name}","name":"notes"}]}`,
			},
		},
		"web.site": {
			capabilities: `{"tools":{"listChanged":true},"resources":{},"completions":{},"tasks":{"list":{},"requests":{"tools":{"call":{}}}},"experimental":{"x":{}},"extensions":{"y":{}}}`,
			answers: map[string]string{
				"tools/list":               `{"tools":[{"name":"read"}]}`,
				"resources/list":           `{"resources":[{"uri":"https://x.example/","name":"x"},{"uri":"both:x","name":"x"}]}`,
				"resources/templates/list": `{"resourceTemplates":[{"uriTemplate":"https://x.example/{+path}","name":"pages"}]}`,
				"tools/call":               `{"task":{"taskId":"t1","status":"working"},"content":[{"type":"resource_link","uri":"odd:1","name":"o"}]}`,
			},
		},
	}
}

func TestAggregateIntroducesAll(t *testing.T) {
	c := newCrowd(t, allowAll, two())
	c.same("initialize", c.begin(), `{"protocolVersion":"2025-11-25","capabilities":{"completions":{},"logging":{},"prompts":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true},"tasks":{"list":{},"requests":{"tools":{"call":{}}}},"tools":{"listChanged":true}},"serverInfo":{"name":"openleash","version":"0.1"},"instructions":"The server files, whose tools begin with files__:\nRead before you write."}`)
	for name, s := range c.servers {
		eventually(t, name+" was not told that the host is ready", func() bool { return s.received("notifications/initialized") == 1 })
		if s.received(`"clientInfo"`) != 1 || s.received("openleash-") != 1 {
			t.Errorf("%s got another initialize than the host's: %v", name, s.seen)
		}
	}
	c.same("ping", c.asks(2, "ping", `{}`), `{}`)
}

func TestAggregateListsAll(t *testing.T) {
	c := newCrowd(t, allowAll, two())
	c.begin()
	c.same("tools", c.asks(1, "tools/list", `{}`), `{"tools":[{"name":"files__read","inputSchema":{"const":1.10},"_meta":{"z":1}},{"title":"W","name":"files__write"},{"name":"web_site__read"}]}`)
	c.same("prompts", c.asks(2, "prompts/list", `{}`), `{"prompts":[{"name":"files__tidy"}]}`)
	c.same("resources", c.asks(3, "resources/list", `{}`), `{"resources":[{"uri":"file:\/\/\/a","name":"a"},{"uri":"both:x","name":"x"},{"uri":"https://x.example/","name":"x"},{"uri":"both:x","name":"x"}]}`)
	if got := c.asks(4, "tools/list", `{"cursor":"1"}`); !strings.Contains(got, "no pages") {
		t.Errorf("a cursor: %s", got)
	}
	if n := c.servers["web.site"].received("prompts/list"); n != 0 {
		t.Error("a server without prompts was asked for them")
	}
}

func TestAggregateFindsTheServer(t *testing.T) {
	c := newCrowd(t, allowAll, two())
	c.begin()
	by := func(name, method string) string { return fmt.Sprintf(`{"did":%q,"by":%q}`, method, name) }
	link := `{"task":{"taskId":"t1","status":"working"},"content":[{"type":"resource_link","uri":"odd:1","name":"o"}]}`
	for i, tc := range []struct{ method, params, want string }{
		{"tools/call", `{"name":"files__read","arguments":{}}`, by("files", "tools/call")},
		{"prompts/get", `{"name":"files__tidy"}`, by("files", "prompts/get")},
		{"completion/complete", `{"ref":{"type":"ref/prompt","name":"web_site__p"},"argument":{"name":"a","value":"v"}}`, by("web.site", "completion/complete")},
		{"completion/complete", `{"ref":{"type":"ref/resource","uri":"https://x.example/{+path}"},"argument":{"name":"a","value":"v"}}`, by("web.site", "completion/complete")},
		{"resources/read", `{"uri":"file:///a"}`, by("files", "resources/read")},
		{"resources/read", `{"uri":"https://x.example/any/where"}`, by("web.site", "resources/read")},
		{"resources/subscribe", `{"uri":"file:///notes/today"}`, by("files", "resources/subscribe")},
		{"resources/read", `{"uri":"both:x"}`, `params.uri: several servers at this address have "both:x"; read it at the one's own address`},
		{"resources/read", `{"uri":"odd:1"}`, `params.uri: no server at this address lists "odd:1"; read it at its server's own address`},
		{"tasks/get", `{"taskId":"t1"}`, `params.taskId: no task "t1" is known of one server here`},
		{"tools/call", `{"name":"web_site__read","arguments":{},"task":{}}`, link},
		{"resources/read", `{"uri":"odd:1"}`, by("web.site", "resources/read")},
		{"tasks/get", `{"taskId":"t1"}`, by("web.site", "tasks/get")},
		{"logging/setLevel", `{"level":"debug"}`, `{}`},
		{"tools/call", `{"name":"read","arguments":{}}`, `params.name: want a name that begins with its server's (files__, web_site__), got "read"`},
		{"tools/call", `{"name":"files__read","name":"web_site__read"}`, `params.name: want a name that begins with its server's (files__, web_site__), got ""`},
		{"vendor/x", `{}`, "vendor/x: at this address are several servers, and which of them it is for cannot be told; use the server's own address"},
		{"initialize", `{"protocolVersion":"2025-11-25"}`, "initialize: want it once, with a protocolVersion"},
	} {
		c.same(tc.method+" "+tc.params, c.asks(100+i, tc.method, tc.params), tc.want)
	}
	if c.servers["files"].received(`"name":"read"`) != 1 || c.servers["web.site"].received("setLevel") != 0 || c.servers["files"].received("setLevel") != 1 {
		t.Errorf("what files got: %v", c.servers["files"].seen)
	}
}

// What is decided on, shown and logged is the server's own tool.
func TestAggregateIsGovernedByServer(t *testing.T) {
	c := newCrowd(t, "version: 1\ndefault: allow\nrules:\n  - {id: never, effect: deny, action: mcp.files.read}\n  - {id: ask, effect: allow, action: mcp.web.site.read, obligations: [{type: HUMAN_APPROVAL}]}\n", two())
	c.begin()
	if got := c.asks(1, "tools/call", `{"name":"files__read","arguments":{}}`); !strings.Contains(got, `"isError":true`) || !strings.Contains(got, `"rule_id":"never"`) {
		t.Errorf("a denied call: %s", got)
	}
	c.host.write(toolCall("2", "web_site__read", `{"a":1}`))
	held := c.pending(t)
	if held.Server != "web.site" || held.Tool != "read" || held.Action.ActionType != "mcp.web.site.read" {
		t.Errorf("the owner is asked about %+v", held)
	}
	c.same("another server's call meanwhile", c.asks(3, "tools/call", `{"name":"files__write","arguments":{}}`), `{"did":"tools/call","by":"files"}`)
	c.approve(t, held.ID)
	if got := c.next(c.host); !strings.Contains(got, `"id":2,"result":{"task"`) {
		t.Errorf("the approved call: %s", got)
	}
	if c.servers["files"].received(`"name":"read"`) != 0 || c.servers["web.site"].received(ProofKey) != 1 {
		t.Error("what reached the servers is not what was allowed")
	}
}

// Servers count alike: their requests get ids of ours, and the answers find back.
func TestAggregateServersAsk(t *testing.T) {
	asking := func(id string) played {
		return played{capabilities: `{"tools":{}}`, other: func(c *pipeConn, m Message) bool {
			if m.Method == "notifications/initialized" {
				c.write(`{"jsonrpc":"2.0","id":` + id + `,"method":"sampling/createMessage","params":{"_meta":{"progressToken":"tok"},"messages":[],"maxTokens":1.10}}`)
			}
			return false
		}}
	}
	c := newCrowd(t, allowAll, map[string]played{"a": asking(`1`), "b": asking(`1.0`)})
	c.begin()
	asked := map[string]string{} // who asks, by our id
	for range 2 {
		raw := []byte(c.next(c.host))
		id, token := rawAt(raw, "id"), rawAt(raw, "params", "_meta", "progressToken")
		if id != token || asked[id] != "" {
			t.Fatalf("the host sees %s", raw)
		}
		asked[id] = "?"
		c.host.write(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":` + id + `,"progress":0.5}}`)
		c.host.write(`{"jsonrpc":"2.0","id":` + id + `,"result":{"model":"m` + id + `","x":1.10}}`)
	}
	for name, want := range map[string]string{"a": `{"jsonrpc":"2.0","id":1,"result":{"model":"m`, "b": `{"jsonrpc":"2.0","id":1.0,"result":{"model":"m`} {
		eventually(t, name+" got no answer", func() bool { return c.servers[name].received(want) == 1 })
		if c.servers[name].received(`"progressToken":"tok","progress":0.5`) != 1 {
			t.Errorf("%s got %v", name, c.servers[name].seen)
		}
	}
	c.host.write(`{"jsonrpc":"2.0","id":1,"result":{"again":true}}`)
	c.same("the session goes on", c.asks(7, "ping", `{}`), `{}`)
	if c.servers["a"].received("again")+c.servers["b"].received("again") != 0 {
		t.Error("a second answer reached a server")
	}
}

// A server that takes back its question, or ends, takes it back at the host under
// the id that the host knows.
func TestAggregateServersTakeBack(t *testing.T) {
	c := newCrowd(t, allowAll, map[string]played{"a": {other: func(c *pipeConn, m Message) bool {
		if m.Method == "notifications/initialized" {
			c.write(`{"jsonrpc":"2.0","id":"q","method":"roots/list"}`)
			c.write(`{"jsonrpc":"2.0","id":"r","method":"roots/list"}`)
			c.write(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"\u0071"}}`)
			c.write(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"other"}}`)
		}
		return false
	}}, "b": {}})
	c.begin()
	c.same("a question", c.next(c.host), `{"jsonrpc":"2.0","id":1,"method":"roots/list"}`)
	c.same("a question", c.next(c.host), `{"jsonrpc":"2.0","id":2,"method":"roots/list"}`)
	c.same("the first is taken back", c.next(c.host), `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`)
	c.servers["a"].child(0).Close()
	c.same("the second is, with its server", c.next(c.host), `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2,"reason":"the server a has ended"}}`)
	c.same("the lists have changed", c.next(c.host), `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`)
	c.same("its tools are gone", c.asks(5, "tools/call", `{"name":"a__x"}`), "the server a is not there: it has ended. A new session tries again")
	c.same("the other's are not", c.asks(6, "tools/call", `{"name":"b__x"}`), `{"did":"tools/call","by":"b"}`)
}

func TestAggregateProgressIsOfItsServer(t *testing.T) {
	c := newCrowd(t, allowAll, map[string]played{"a": {other: func(c *pipeConn, m Message) bool {
		if m.Method == "tools/call" {
			c.write(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"b's","progress":9}}`)
			c.write(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"a\u0027s","progress":1.10}}`)
		}
		return false
	}}, "b": {other: func(_ *pipeConn, m Message) bool { return m.Method == "tools/call" }}})
	c.begin()
	c.host.write(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"b__x","_meta":{"progressToken":"b's"}}}`)
	c.host.write(`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"a__x","_meta":{"progressToken":"a's"}}}`)
	c.same("progress", c.next(c.host), `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"a\u0027s","progress":1.10}}`)
	c.same("its result", c.next(c.host), `{"jsonrpc":"2.0","id":2,"result":{"did":"tools/call","by":"a"}}`)
}

func TestAggregateCancels(t *testing.T) {
	c := newCrowd(t, "version: 1\ndefault: allow\nrules:\n  - {id: ask, effect: allow, action: mcp.a.risky, obligations: [{type: HUMAN_APPROVAL}]}\n",
		map[string]played{"a": {other: func(_ *pipeConn, m Message) bool { return m.Method == "tools/call" }}, "b": {}})
	c.begin()
	c.host.write(toolCall(`"x"`, "a__slow", "{}"))
	eventually(t, "the call did not arrive", func() bool { return c.servers["a"].received(`"slow"`) == 1 })
	c.host.write(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"\u0078","reason":"r"}}`)
	eventually(t, "the cancellation did not", func() bool { return c.servers["a"].received("notifications/cancelled") == 1 })
	c.host.write(toolCall("2", "a__risky", "{}"))
	held := c.pending(t)
	c.host.write(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}`)
	c.same("the id is free again", c.asks(2, "ping", `{}`), `{}`)
	c.approve(t, held.ID)
	c.silent(c.host, 200*time.Millisecond)
	if c.servers["a"].received(`"risky"`) != 0 || c.servers["a"].received("notifications/cancelled") != 1 || c.servers["b"].received("cancelled") != 0 {
		t.Errorf("what a got: %v", c.servers["a"].seen)
	}
}

// Over HTTP a host that hangs up withdraws what is held. What was forwarded goes
// on: "Disconnection SHOULD NOT be interpreted as the client cancelling its
// request" (2025-11-25).
func TestAggregateHostHangsUp(t *testing.T) {
	p := newRealProxy(t, ruleAbout("allow", "mcp.shop.risky", held))
	d := &children{serve: played{other: func(_ *pipeConn, m Message) bool { return m.Method == "tools/call" }}.serve("shop")}
	all := &Aggregate{Members: []Member{{p.Proxy, d.dial}}, Log: zerolog.Nop()}
	h := must(all.HTTPHost())(t)
	t.Cleanup(func() { h.Close() })
	url := p.as(t, "bot", h).URL
	session := post(t, url, initialize).Header.Get("Mcp-Session-Id")
	post(t, url, initialized, "Mcp-Session-Id", session)
	call := func(id, tool string) (hangUp func()) {
		ctx, hangUp := context.WithCancel(t.Context())
		go send(ctx, "POST", url, toolCall(id, tool, "{}"), "Mcp-Session-Id", session, "Content-Type", typeJSON, "Accept", typeJSON+", "+typeSSE)
		return hangUp
	}
	hangUp := call("1", "shop__risky")
	request := p.pending(t)
	hangUp()
	hangUp = call("2", "shop__slow")
	eventually(t, "the call did not arrive", func() bool { return d.received(`"slow"`) == 1 })
	hangUp()
	p.approve(t, request.ID)
	if got := post(t, url, toolCall("3", "shop__risky", `{"other":1}`), "Mcp-Session-Id", session, "Mcp-Method", "tools/list"); got.Status != 400 {
		t.Errorf("headers that disagree with the body: %d %s", got.Status, got.Body)
	}
	time.Sleep(200 * time.Millisecond)
	if d.received(`"risky"`) != 0 || d.received("notifications/cancelled") != 0 {
		t.Errorf("what the server got: %v", d.seen)
	}
	if got := do(t, "DELETE", url, "", "Mcp-Session-Id", session); got.Status != 204 {
		t.Errorf("DELETE: %d", got.Status)
	}
	eventually(t, "the server's session did not end", func() bool { return d.child(0).closed() })
}

func TestAggregateTakesAnIDOnce(t *testing.T) {
	c := newCrowd(t, allowAll, map[string]played{"a": {other: func(_ *pipeConn, m Message) bool { return m.Method == "tools/call" }}})
	c.begin()
	c.host.write(toolCall("1", "a__x", "{}"))
	eventually(t, "the call did not arrive", func() bool { return c.servers["a"].received(`"tools/call"`) == 1 })
	if got := c.asks(1, "tools/list", `{}`); !strings.Contains(got, "not been answered yet") {
		t.Errorf("the same id again: %s", got)
	}
	c.servers["a"].child(0).write(`{"jsonrpc":"2.0","id":1,"result":{}}`)
	c.same("the first", c.next(c.host), `{"jsonrpc":"2.0","id":1,"result":{}}`)
	c.same("and after it", c.asks(1, "ping", `{}`), `{}`)
}

// A server that is not there is left out, and named.
func TestAggregateWithoutOne(t *testing.T) {
	c := newCrowd(t, allowAll, map[string]played{
		"a": {},
		"b": {dial: func() error { return errors.New("no such program") }},
		"c": {version: "2099-01-01"},
		"d": {version: "2024-11-05"},
		"e": {other: func(c *pipeConn, m Message) bool {
			c.write(`{"jsonrpc":"2.0","id":` + m.ID + `,"error":{"code":-1,"message":"not today"}}`)
			return true
		}},
	})
	c.same("initialize", c.begin(), `{"protocolVersion":"2024-11-05","capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"openleash","version":"0.1"},"instructions":"The server b is not available now.\n\nThe server c is not available now.\n\nThe server e is not available now."}`)
	c.same("b", c.asks(1, "tools/call", `{"name":"b__x"}`), "the server b is not there: it could not be started: no such program. A new session tries again")
	c.same("c", c.asks(2, "tools/call", `{"name":"c__x"}`), `the server c is not there: it speaks protocol version "2099-01-01", and this host 2025-11-25. A new session tries again`)
	c.same("e", c.asks(3, "tools/call", `{"name":"e__x"}`), "the server e is not there: it refused initialize: not today. A new session tries again")
	c.same("a", c.asks(4, "tools/call", `{"name":"a__x"}`), `{"did":"tools/call","by":"a"}`)
}

func TestAggregateWithoutAny(t *testing.T) {
	c := newCrowd(t, allowAll, map[string]played{"a": {dial: func() error { return errors.New("no such program") }}})
	c.same("initialize", c.asks(0, "initialize", `{"protocolVersion":"2025-11-25"}`), "none of the servers is there: a: it could not be started: no such program.")
}

func TestAggregateLists(t *testing.T) {
	pages := func(c *pipeConn, m Message) bool {
		if m.Method != "tools/list" {
			return false
		}
		cursor, _ := stringAt(m.Raw, "params", "cursor")
		switch next := map[string]string{"": "p\u00e92", "p\u00e92": ""}[cursor]; next {
		case "":
			c.write(resultOf(m, `{"tools":[{"name":"two"}]}`))
		default:
			c.write(resultOf(m, `{"tools":[{"name":"one"}],"nextCursor":"p\u00e92"}`))
		}
		return true
	}
	c := newCrowd(t, allowAll, map[string]played{
		"a": {other: pages},
		"b": {answers: map[string]string{"tools/list": `{"tools":"none"}`}},
		"c": {other: func(c *pipeConn, m Message) bool {
			if m.Method == "tools/list" {
				c.write(`{"jsonrpc":"2.0","id":` + m.ID + `,"error":{"code":-1,"message":"broken"}}`)
			}
			return m.Method == "tools/list"
		}},
	})
	c.begin()
	c.same("tools", c.asks(1, "tools/list", `{}`), `{"tools":[{"name":"a__one"},{"name":"a__two"}]}`)
	c.servers["a"].child(0).Close()
	c.same("news", c.next(c.host), `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`)
	c.same("none is left", c.asks(2, "tools/list", `{}`), `the server b: tools/list: want an array "tools" in its result; the server c: tools/list: broken`)
}

// Servers that page for ever, or never answer, end a list and not the session.
func TestAggregateListsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		forever := func(c *pipeConn, m Message) bool {
			if m.Method == "tools/list" {
				c.write(resultOf(m, `{"tools":[],"nextCursor":"again"}`))
			}
			return m.Method == "tools/list"
		}
		silent := func(_ *pipeConn, m Message) bool { return m.Method == "tools/list" }
		c := plainCrowd(t, map[string]played{"a": {other: forever}, "b": {other: silent}, "c": {answers: map[string]string{"tools/list": `{"tools":[{"name":"x"}]}`}}})
		c.begin()
		c.host.write(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)
		time.Sleep(listAll + time.Second)
		synctest.Wait()
		c.same("tools", c.next(c.host), `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"c__x"}]}}`)
		if c.servers["b"].received("notifications/cancelled") != 1 {
			t.Error("the server that did not answer was not told that nobody waits")
		}
		c.end()
	})
}

// end ends the session, for a test in a bubble.
func (c *crowd) end() {
	c.stop()
	c.ended <- <-c.ended
	for _, s := range c.servers {
		for _, child := range s.all {
			child.Close()
		}
	}
}

// A slow server does not keep the host waiting; it comes late and is announced.
func TestAggregateServerComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func(c *pipeConn, m Message) bool {
			if m.Method == "initialize" {
				time.Sleep(greetAll + 10*time.Second)
			}
			return false
		}
		c := plainCrowd(t, map[string]played{"a": {}, "b": {capabilities: `{"tools":{},"prompts":{}}`, other: slow}})
		c.host.write(initialize)
		time.Sleep(greetAll + time.Second)
		synctest.Wait()
		if got := c.next(c.host); !strings.Contains(got, "The server b is not available now.") {
			t.Errorf("initialize: %s", got)
		}
		c.host.write(initialized)
		c.same("b is awaited", c.asks(1, "prompts/get", `{"name":"b__x"}`), "the server b is not there yet: try again in a while")
		time.Sleep(10 * time.Second)
		synctest.Wait()
		c.same("news", c.next(c.host), `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`)
		c.same("news", c.next(c.host), `{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}`)
		c.same("b", c.asks(2, "ping", `{}`), `{}`)
		if c.servers["b"].received("notifications/initialized") != 1 {
			t.Error("b was not told that the host is ready")
		}
		c.end()
	})
}

// A server that takes no messages keeps nobody else waiting.
func TestAggregateStuckServer(t *testing.T) {
	t.Parallel()
	stop := make(chan struct{})
	c := newCrowd(t, allowAll, map[string]played{"a": {other: func(_ *pipeConn, m Message) bool {
		if m.Method == "vendor/stop" || m.Method == "notifications/stop" {
			<-stop
		}
		return false
	}}, "b": {}})
	defer close(stop)
	c.begin()
	go func() {
		for range 4 * handRoom {
			c.host.write(`{"jsonrpc":"2.0","method":"notifications/stop"}`)
		}
		c.host.write(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a__x"}}`)
		c.host.write(`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"b__x"}}`)
	}()
	got := []string{c.next(c.host), c.next(c.host)}
	slices.Sort(got)
	c.same("both are answered", strings.Join(got, "\n"), `{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"the server a takes no messages at the moment; nothing was done"}}
{"jsonrpc":"2.0","id":2,"result":{"did":"tools/call","by":"b"}}`)
}

func TestAggregateCollisions(t *testing.T) {
	for _, tc := range []struct {
		names []string
		want  string
	}{
		{[]string{"a", "b", "a_b", "ab", "a-b"}, ""},
		{[]string{"a.b", "a_b"}, "servers a_b and a.b: where all servers are served at one address, both would have tools that begin with a_b__; rename one of them"},
		{[]string{"a", "a__b"}, "servers a and a__b: where all servers are served at one address, both would have tools that begin with a__b__; rename one of them"},
		{[]string{"a_", "a"}, "servers a and a_: where all servers are served at one address, both would have tools that begin with a___; rename one of them"},
	} {
		all := &Aggregate{}
		for _, name := range tc.names {
			all.Members = append(all.Members, Member{Proxy: New(Config{Name: name})})
		}
		h, err := all.HTTPHost()
		if h != nil {
			h.Close()
		}
		if got := fmt.Sprint(err); tc.want == "" && err != nil || tc.want != "" && got != tc.want {
			t.Errorf("%v: %v, want %s", tc.names, err, tc.want)
		}
	}
}
