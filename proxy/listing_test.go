package proxy

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// denyDestructive decides on what only a list of the tools can tell.
const denyDestructive = `version: 1
default: allow
rules:
  - {id: no-wiping, effect: deny, action: "mcp.*", when: {match: {path: $.tool.annotations.destructiveHint, op: eq, value: true}}}
`

const (
	helloTools = `{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}}`
	wipeTool   = `{"name":"wipe","inputSchema":{"type":"object"},"annotations":{"destructiveHint":true}}`
	lookTool   = `{"name":"look","inputSchema":{"type":"object"}}`
	regionTool = `{"name":"go","inputSchema":{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"}}}}`
	ourMeta    = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"h","version":"1.10"},"io.modelcontextprotocol/clientCapabilities":{"extensions":{}}}`
)

// isOurList tells the id of a list that the proxy asks for, with such params.
func isOurList(t *testing.T, raw, params string) (id string) {
	t.Helper()
	id = rawAt([]byte(raw), "id")
	if !strings.HasPrefix(id, `"openleash-`) || raw != `{"jsonrpc":"2.0","id":`+id+`,"method":"tools/list","params":{`+params+`}}` {
		t.Fatalf("want tools/list of ours with {%s}, got %s", params, raw)
	}
	return id
}

func toolList(id, tools, more string) string {
	return `{"jsonrpc":"2.0","id":` + id + `,"result":{"tools":[` + tools + `]` + more + `}}`
}

// lists plays an upstream that is asked for its tools, in two pages.
func (w *wire) lists(meta string) {
	w.t.Helper()
	id := isOurList(w.t, w.up.next(), meta)
	w.up.write(toolList(id, lookTool, `,"nextCursor":"c\u0031"`))
	cursor := `"cursor":"c\u0031"`
	if meta != "" {
		cursor += ","
	}
	id = isOurList(w.t, w.up.next(), cursor+meta)
	w.up.write(toolList(id, wipeTool, ""))
}

func TestToolsAreListedForAHostThatDoesNot(t *testing.T) {
	for _, kind := range pairs {
		t.Run(kind.String(), func(t *testing.T) {
			w := newWire(t, kind, denyDestructive).beginAs(helloTools)
			w.host.write(toolCall("5", "wipe", `{}`))
			w.lists("")
			if got := w.host.next(); !strings.Contains(got, `"id":5,`) || !strings.Contains(got, "no-wiping") {
				t.Errorf("the call: %s", got)
			}
			w.pass(w.host, w.up, toolCall("6", "look", `{}`), toolCall("6", "look", `{}`))
			w.pass(w.up, w.host, `{"jsonrpc":"2.0","id":6,"result":{}}`, `{"jsonrpc":"2.0","id":6,"result":{}}`)
			w.host.silent(50 * time.Millisecond)
		})
	}
}

func TestToolsAreListedForAStatelessHost(t *testing.T) {
	for _, kind := range pairs {
		t.Run(kind.String(), func(t *testing.T) {
			w := newWire(t, kind, denyDestructive)
			w.host.write(fill(`{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"wipe",`+metas+`}}`, "", `"t"`))
			w.probed()
			w.lists(ourMeta)
			if got := w.host.next(); !strings.Contains(got, `"id":5,`) || !strings.Contains(got, "no-wiping") {
				t.Errorf("the call: %s", got)
			}
			w.up.silent(50 * time.Millisecond)
		})
	}
}

// probed answers the question for the era, where it is asked.
func (w *wire) probed() {
	w.t.Helper()
	if w.pair == (pair{"http", "stdio"}) {
		if got := w.up.next(); got != probe {
			w.t.Fatalf("the probe: %s", got)
		}
		w.up.write(`{"jsonrpc":"2.0","id":` + probeID + `,"result":{}}`)
	}
}

// A host that has never listed cannot be let through with headers that say
// something else than the arguments: an upstream may route by them.
func TestHeadersOfArgumentsAreCheckedWithoutAHostsList(t *testing.T) {
	for _, kind := range []pair{{"http", "stdio"}, {"http", "http"}} {
		t.Run(kind.String(), func(t *testing.T) {
			w := newWire(t, kind, allowAll)
			url := w.toHost.url
			call := fill(`{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"go","arguments":{"region":"eu"},`+metas+`}}`, "", `"t"`)
			headers := []string{"MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "go", "Mcp-Param-Region"}
			got := make(chan httpReply, 1)
			go func() { got <- post(t, url, call, append(headers, "us")...) }()
			w.probed()
			id := isOurList(t, w.up.next(), ourMeta)
			w.up.write(toolList(id, regionTool, ""))
			if r := <-got; r.Status != 400 || !strings.Contains(r.Body, "-32020") || !strings.Contains(r.Body, `"id":5`) {
				t.Errorf("another region: got %d %s", r.Status, r.Body)
			}
			go func() { got <- post(t, url, call, append(headers, "eu")...) }()
			raw := w.up.next()
			if !strings.Contains(raw, `"tools/call"`) {
				t.Errorf("the same region: %s", raw)
			}
			w.up.write(`{"jsonrpc":"2.0","id":` + rawAt([]byte(raw), "id") + `,"result":{}}`)
			if r := <-got; r.Status != 200 {
				t.Errorf("the same region: got %d %s", r.Status, r.Body)
			}
			if w.toUp != nil {
				ours, theirs := w.toUp.headers[0], w.toUp.headers[1]
				if ours.Get("Mcp-Method") != "tools/list" || ours.Get("Mcp-Name") != "" || ours.Get("Mcp-Param-Region") != "" || ours.Get("MCP-Protocol-Version") != "2026-07-28" {
					t.Errorf("headers of our list: %v", ours)
				}
				if theirs.Get("Mcp-Param-Region") != "eu" || theirs.Get("Mcp-Name") != "go" {
					t.Errorf("headers of the call: %v", theirs)
				}
			}
		})
	}
}

func TestHeadersOfArgumentsAreSetWithoutAHostsList(t *testing.T) {
	w := newWire(t, pair{"stdio", "http"}, allowAll)
	w.host.write(fill(`{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"go","arguments":{"region":"eu"},`+metas+`}}`, "", `"t"`))
	w.up.write(toolList(isOurList(t, w.up.next(), ourMeta), regionTool, ""))
	w.up.next()
	w.toUp.mu.Lock()
	defer w.toUp.mu.Unlock()
	if got := w.toUp.headers[1].Get("Mcp-Param-Region"); got != "eu" {
		t.Errorf("Mcp-Param-Region: got %q, want eu", got)
	}
}

// Events about something else than the list have nowhere to go.
func TestToolsAreListedFromAStreamInTheHostsSession(t *testing.T) {
	up := newRawUpstream(t, func(w http.ResponseWriter, r *http.Request, body string) {
		id := rawAt([]byte(body), "id")
		switch {
		case strings.Contains(body, `"initialize"`):
			w.Header().Set("Mcp-Session-Id", "s1")
			answerJSON(helloTools)(w, r, body)
		case id == "":
			w.WriteHeader(http.StatusAccepted)
		case strings.Contains(body, `"tools/call"`):
			answerJSON(`{"jsonrpc":"2.0","id":`+id+`,"result":{}}`)(w, r, body)
		default:
			sse(w, "id: 1\ndata:\n\n", ": still here\n\n", `data: {"jsonrpc":"2.0","method":"notifications/message","params":{}}`+"\n\n",
				"data: "+toolList("5", lookTool, "")+"\n\n", "data: "+toolList(id, wipeTool, "")+"\n\n")
		}
	})
	p := newRealProxy(t, denyDestructive)
	url := p.as(t, "bot", p.HTTPPassthrough(HTTPUpstream{URL: up.URL, Headers: map[string]string{"Authorization": "Bearer upstream"}})).URL
	session := []string{"Mcp-Session-Id", "s1", "MCP-Protocol-Version", "2025-11-25", "Accept", "text/event-stream, application/json;q=0.5"}
	post(t, url, initialize)
	early := post(t, url, toolCall("4", "wipe", `{}`), session...)
	if up.count("tools/list") != 0 || !strings.Contains(early.Body, "result") {
		t.Errorf("before the handshake was complete: %s, %d lists", early.Body, up.count("tools/list"))
	}
	post(t, url, initialized, session...)
	got := post(t, url, toolCall("5", "wipe", `{}`), session...)
	if !strings.Contains(got.Body, "no-wiping") || strings.Contains(got.Body, "inputSchema") || got.Header.Get("Content-Type") != typeJSON {
		t.Errorf("the call: %s", got.Body)
	}
	list := up.requests()[3]
	if !strings.Contains(list.body, "tools/list") || list.header.Get("Mcp-Session-Id") != "s1" || list.header.Get("MCP-Protocol-Version") != "2025-11-25" ||
		list.header.Get("Mcp-Method") != "" || list.header.Get("Authorization") != "Bearer upstream" || list.header.Get("Accept") != "application/json, text/event-stream" {
		t.Errorf("our list: %v %s", list.header, list.body)
	}
}

func TestWhenAPassthroughListsTools(t *testing.T) {
	modern := fill(`{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"go","arguments":{"region":"eu"},`+metas+`}}`, "", `"t"`)
	for _, tt := range []struct {
		name, hello, call string
		headers           []string
		lists, status     int
	}{
		{"no session, after a handshake", helloTools, toolCall("5", "go", `{}`), []string{"MCP-Protocol-Version", "2025-06-18"}, 1, 200},
		{"no session, of a server without tools", hello, toolCall("5", "go", `{}`), []string{"MCP-Protocol-Version", "2025-06-18"}, 0, 200},
		{"nothing tells the era", helloTools, toolCall("5", "go", `{}`), nil, 0, 200},
		{"the body alone tells the era", helloTools, modern, []string{"Mcp-Param-Region", "us"}, 1, 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			up := newRawUpstream(t, func(w http.ResponseWriter, r *http.Request, body string) {
				answer := `{"jsonrpc":"2.0","id":5,"result":{}}`
				switch rawAt([]byte(body), "method") {
				case `"initialize"`:
					answer = tt.hello
				case `"tools/list"`:
					answer = toolList(rawAt([]byte(body), "id"), regionTool, "")
				}
				answerJSON(answer)(w, r, body)
			})
			p := newRealProxy(t, allowAll)
			url := p.as(t, "bot", p.HTTPPassthrough(HTTPUpstream{URL: up.URL})).URL
			post(t, url, initialize)
			if got := post(t, url, tt.call, tt.headers...); got.Status != tt.status {
				t.Errorf("got %d %s, want %d", got.Status, got.Body, tt.status)
			}
			if n := up.count("tools/list"); n != tt.lists {
				t.Errorf("%d lists, want %d", n, tt.lists)
			}
		})
	}
}

func TestAServerThatDoesNotListItsTools(t *testing.T) {
	t.Parallel()
	for _, kind := range pairs {
		t.Run(kind.String(), func(t *testing.T) {
			w := newWire(t, kind, denyDestructive, func(p *Proxy) { p.listWithin = 100 * time.Millisecond }).beginAs(helloTools)
			w.host.write(toolCall("5", "wipe", `{}`))
			id := isOurList(t, w.up.next(), "")
			seen := w.up.next()
			if kind != (pair{"http", "http"}) { // there the exchange ends
				seen += w.up.next()
				if !strings.Contains(seen, `"method":"notifications/cancelled","params":{"requestId":`+id) {
					t.Errorf("the list was not cancelled: %s", seen)
				}
			}
			if !strings.Contains(seen, `"name":"wipe"`) {
				t.Errorf("the call did not go on: %s", seen)
			}
			if kind.up == "stdio" { // over HTTP nobody listens any more
				w.up.write(toolList(id, wipeTool, ""))
				w.up.write(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":` + id + `}}`)
			}
			w.pass(w.up, w.host, `{"jsonrpc":"2.0","id":5,"result":{}}`, `{"jsonrpc":"2.0","id":5,"result":{}}`)
			w.pass(w.host, w.up, toolCall("6", "wipe", `{}`), toolCall("6", "wipe", `{}`)) // not asked again
			w.host.silent(50 * time.Millisecond)
		})
	}
}

// newListingTalk is a session whose handshake is complete.
func newListingTalk(t *testing.T, policyYAML string, adjust ...func(*Proxy)) *talk {
	t.Helper()
	k := newTalk(t, policyYAML, adjust...)
	k.host.write(initialize)
	k.next(k.upstream)
	k.upstream.write(helloTools)
	k.next(k.host)
	k.host.write(initialized)
	k.next(k.upstream)
	return k
}

func TestAnErrorInsteadOfAList(t *testing.T) {
	k := newListingTalk(t, allowAll)
	k.host.write(toolCall("1", "a", `{}`))
	id := isOurList(t, k.next(k.upstream), "")
	k.upstream.write(`{"jsonrpc":"2.0","id":` + id + `,"error":{"code":-32601,"message":"no"}}`)
	for i := range 2 {
		if got := k.next(k.upstream); !strings.Contains(got, `"tools/call"`) {
			t.Errorf("call %d: %s", i, got)
		}
		k.host.write(toolCall(fmt.Sprint(i+2), "a", `{}`))
	}
	k.silent(k.host, 20*time.Millisecond)
}

func TestNothingIsListedBeforeTheHandshakeIsComplete(t *testing.T) {
	k := newTalk(t, allowAll)
	for i, said := range []string{initialize, toolCall("1", "a", `{}`), initialized, toolCall("2", "a", `{}`)} {
		k.host.write(said)
		got := k.next(k.upstream)
		if strings.Contains(got, "tools/list") != (i == 3) {
			t.Errorf("message %d: %s", i, got)
		}
		if i == 0 {
			k.upstream.write(helloTools)
			k.next(k.host)
		}
	}
}

func TestNothingIsListedDuringAnotherHandshake(t *testing.T) {
	k := newListingTalk(t, allowAll)
	k.host.write(initialize)
	k.next(k.upstream)
	k.host.write(toolCall("1", "a", `{}`))
	if got := k.next(k.upstream); !strings.Contains(got, `"tools/call"`) {
		t.Errorf("got %s", got)
	}
}

func TestAServerWithoutToolsIsNotAskedForThem(t *testing.T) {
	k := newTalk(t, allowAll)
	k.host.write(initialize)
	k.next(k.upstream)
	k.upstream.write(hello)
	k.next(k.host)
	k.host.write(initialized)
	k.next(k.upstream)
	k.host.write(toolCall("1", "a", `{}`))
	if got := k.next(k.upstream); !strings.Contains(got, `"tools/call"`) {
		t.Errorf("got %s", got)
	}
}

// What no list knows is looked for once a minute, and at once in a server that
// was started anew.
func TestAToolThatNoListKnows(t *testing.T) {
	k := newListingTalk(t, allowAll)
	call := func(id, tool string, lists bool) {
		t.Helper()
		k.host.write(toolCall(id, tool, `{}`))
		if lists {
			k.upstream.write(toolList(isOurList(t, k.next(k.upstream), ""), lookTool, `,"nextCursor":null`))
		}
		if got := k.next(k.upstream); !strings.Contains(got, `"id":`+id+`,"method":"tools/call"`) {
			t.Errorf("call %s: %s", id, got)
		}
	}
	call("1", "none", true)
	call("2", "none", false)
	call("3", "look", false)
	k.forgetTools()
	call("4", "look", true)
	k.silent(k.host, 20*time.Millisecond)
}

func TestACallThatListsKeepsItsPlace(t *testing.T) {
	k := newListingTalk(t, allowAll)
	k.learnTools([]byte(toolList("0", lookTool, "")))
	k.host.write(toolCall("1", "wipe", `{}`))
	k.host.write(toolCall("2", "other", `{}`))
	k.host.write(toolCall("3", "look", `{}`))
	k.host.write(`{"jsonrpc":"2.0","id":4,"method":"ping"}`)
	id := isOurList(t, k.next(k.upstream), "")
	k.silent(k.upstream, 100*time.Millisecond)
	k.upstream.write(toolList(id, wipeTool, ""))
	for _, want := range []string{`"id":1,`, `"id":2,`, `"id":3,`, `"id":4,`} {
		if got := k.next(k.upstream); !strings.Contains(got, want) {
			t.Errorf("want %s, got %s", want, got)
		}
	}
}

func TestACallThatIsCancelledWhileToolsAreListed(t *testing.T) {
	k := newListingTalk(t, allowAll)
	k.host.write(toolCall("1", "wipe", `{}`))
	id := isOurList(t, k.next(k.upstream), "")
	k.host.write(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`)
	if got := k.next(k.upstream); !strings.Contains(got, `"requestId":`+id) {
		t.Errorf("our list was not cancelled: %s", got)
	}
	k.upstream.write(toolList(id, wipeTool, ""))
	k.silent(k.upstream, 100*time.Millisecond)
	k.silent(k.host, 10*time.Millisecond)
	if n := len(k.logged("decision")); n != 0 {
		t.Errorf("%d decisions", n)
	}
}

// Over HTTP a host of 2026-07-28 cancels by closing the stream.
func TestAStatelessCallThatIsCancelledWhileToolsAreListed(t *testing.T) {
	for _, kind := range []pair{{"http", "stdio"}, {"http", "http"}} {
		t.Run(kind.String(), func(t *testing.T) {
			w := newWire(t, kind, allowAll)
			ctx, hangUp := context.WithCancel(t.Context())
			call := fill(`{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"go",`+metas+`}}`, "", `"t"`)
			go send(ctx, "POST", w.toHost.url, call, "MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "go")
			w.probed()
			id := isOurList(t, w.up.next(), ourMeta)
			hangUp()
			if kind.up == "stdio" {
				if got := w.up.next(); !strings.Contains(got, `"requestId":`+id) {
					t.Errorf("our list was not cancelled: %s", got)
				}
				w.up.write(toolList(id, regionTool, ""))
			}
			w.up.silent(150 * time.Millisecond)
		})
	}
}

func TestACallWhoseServerEndsWhileToolsAreListed(t *testing.T) {
	k := newListingTalk(t, allowAll)
	k.host.write(toolCall("1", "wipe", `{}`))
	isOurList(t, k.next(k.upstream), "")
	k.upstream.Close()
	if got := k.next(k.host); !strings.Contains(got, `"id":1,"error"`) {
		t.Errorf("got %s", got)
	}
	k.silent(k.host, 20*time.Millisecond)
}

// A stateless call waits for the list at the door, before it is one of the session's.
func TestAStatelessCallWhoseServerEndsWhileToolsAreListed(t *testing.T) {
	p := newRealProxy(t, allowAll)
	p.listWithin = time.Hour
	h, _ := sessionsOf(t, p.Proxy, func(c *pipeConn, m Message) {
		if m.Method == "tools/list" {
			c.Close()
			return
		}
		echo(c, m)
	})
	call := strings.Replace(statelessRequest("2", "tools/call"), `"params":{`, `"params":{"name":"buy",`, 1)
	got := post(t, p.as(t, "a", h).URL, call, append(stateless("tools/call"), "Mcp-Name", "buy")...)
	if !strings.Contains(got.Body, `"id":2,"error"`) {
		t.Errorf("got %d %s", got.Status, got.Body)
	}
}

func TestOurListHidesNothingAndShowsNothing(t *testing.T) {
	k := newListingTalk(t, denyDestructive, func(p *Proxy) { p.HideDenied = true })
	k.host.write(toolCall("1", "wipe", `{}`))
	k.upstream.write(toolList(isOurList(t, k.next(k.upstream), ""), wipeTool+","+lookTool, ""))
	if got := k.next(k.host); !strings.Contains(got, "no-wiping") {
		t.Errorf("the call: %s", got)
	}
	k.host.write(`{"jsonrpc":"2.0","id":2,"method":"tools/list"}`)
	k.next(k.upstream)
	k.upstream.write(toolList("2", wipeTool+","+lookTool, ""))
	if got := k.next(k.host); got != toolList("2", lookTool, "") {
		t.Errorf("the host's list: %s", got)
	}
}
