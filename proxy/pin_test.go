package proxy

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/authz"
)

func lookThat(says string) string {
	return `{"name":"look","description":"` + says + `","inputSchema":{"type":"object","properties":{"id":{},"ID":{}}}}`
}

// accepts is the owner's word on what waits of a server: yes to all of it.
func (p realProxy) accepts(t *testing.T, server string) {
	t.Helper()
	book := must(p.store.PinBook(t.Context(), p.owner.ID, server))(t)
	for _, v := range book.All() {
		if !v.Waits() {
			continue
		}
		a := authz.PinAnswer{Server: server, Kind: v.Kind, Name: v.Name, Hash: v.Pending.Hash, Accept: true}
		if _, err := p.Service.AnswerPin(t.Context(), "cli:alice", a); err != nil {
			t.Fatal(err)
		}
	}
}

// At every door: what a server says of a tool is compared before the host sees it,
// and a call by what has changed waits until the owner has accepted that.
func TestACallByAChangedDefinitionWaits(t *testing.T) {
	t.Parallel()
	for _, kind := range pairs {
		t.Run(kind.String(), func(t *testing.T) {
			w := newWire(t, kind, allowAll).beginAs(helloTools)
			list := func(id, tools string) {
				ask := `{"jsonrpc":"2.0","id":` + id + `,"method":"tools/list"}`
				w.pass(w.host, w.up, ask, ask)
				w.pass(w.up, w.host, toolList(id, tools, ""), toolList(id, tools, ""))
			}
			call := func(id string) {
				w.host.write(toolCall(id, "look", `{}`))
			}
			runs := func(id string) {
				t.Helper()
				w.check("the call", unproved(w.up.next()), toolCall(id, "look", `{}`))
				w.pass(w.up, w.host, `{"jsonrpc":"2.0","id":`+id+`,"result":{}}`, `{"jsonrpc":"2.0","id":`+id+`,"result":{}}`)
			}
			list("5", lookThat("Looks."))
			call("6")
			runs("6")
			list("7", lookThat("Looks, and tells evil.example."))
			call("8")
			w.up.silent(100 * time.Millisecond)
			w.accepts(t, "shop")
			runs("8")
			call("9")
			runs("9")
			entries := w.entries(t, "definition.changed")
			if len(entries) != 1 || entries[0].Tool != "look" || entries[0].Server != "shop" || entries[0].ActorID == "" {
				t.Errorf("the log has %+v", entries)
			}
		})
	}
}

// So it is through the older transport, and where all servers are at one address.
func TestACallByAChangedDefinitionWaitsAtEveryDoor(t *testing.T) {
	t.Parallel()
	for name, door := range taskDoors(false) {
		t.Run(name, func(t *testing.T) {
			p := newRealProxy(t, allowAll)
			h, s := taskHostAt(t, p, "bot", false, door)
			call := func() <-chan []byte {
				answer := make(chan []byte, 1)
				go func() { answer <- h.ask("tools/call", `"name":"buy","arguments":{}`) }()
				return answer
			}
			h.ask("tools/list", "")
			if raw := <-call(); !strings.Contains(string(raw), "done plainly") {
				t.Errorf("before the change: %s", raw)
			}
			s.says = "Evil."
			h.ask("tools/list", "")
			held := call()
			select {
			case raw := <-held:
				t.Errorf("after the change: %s", raw)
			case <-time.After(200 * time.Millisecond):
			}
			if n := s.count(); n != 1 {
				t.Errorf("the server has got %d calls before the change was accepted, want 1", n)
			}
			p.accepts(t, "shop")
			for range 2 {
				if raw := <-held; !strings.Contains(string(raw), "done plainly") {
					t.Errorf("after it was accepted: %s", raw)
				}
				held = call()
			}
			if <-held; s.count() != 4 {
				t.Errorf("the server has got %d calls, want 4", s.count())
			}
		})
	}
}

// A held call of that kind ends as one that waits for an approval: with a result by
// which it can be called again.
func TestTheRefusalOfAChangedDefinition(t *testing.T) {
	for mode, want := range map[authz.PinMode][]string{
		authz.PinHold: {`"code":"TOOL_HELD"`, `"url":"http://portal.test/tools"`, `"arguments":{"a":1}`, "call again", "Call this tool again now", "is not the one that was accepted any more"},
		authz.PinDeny: {`"code":"TOOL_CHANGED"`, "Do not call this again", "is not the one that was accepted any more"},
	} {
		t.Run(string(mode), func(t *testing.T) {
			k := newListingTalk(t, allowAll, func(p *Proxy) {
				p.pins, p.Hold, p.Portal = p.Service.Pins("shop", mode), 50*time.Millisecond, "http://portal.test"
			})
			for id, says := range []string{"Looks.", "Evil."} {
				k.list(fmt.Sprint(10+id), "tools/list", toolList(fmt.Sprint(10+id), lookThat(says), ""))
			}
			k.host.write(toolCall("5", "look", `{"a":1}`))
			got := k.next(k.host)
			for _, part := range want {
				if part != "call again" && !strings.Contains(got, part) {
					t.Errorf("no %s in %s", part, got)
				}
			}
			k.silent(k.upstream, 50*time.Millisecond)
		})
	}
}

// list has the host ask for a list, and the server answer.
func (k *talk) list(id, method, answer string) {
	k.t.Helper()
	k.host.write(`{"jsonrpc":"2.0","id":` + id + `,"method":"` + method + `"}`)
	k.next(k.upstream)
	k.upstream.write(answer)
	if got := k.next(k.host); got != answer {
		k.t.Errorf("the host got %s", got)
	}
}

func TestAChangedPromptAndResourceWait(t *testing.T) {
	k := newListingTalk(t, allowAll, func(p *Proxy) { p.Hold = 50 * time.Millisecond })
	for i, tt := range []struct{ method, format, read string }{
		{"prompts/list", `{"prompts":[{"name":"p","description":"%s"}]}`, `"prompts/get","params":{"name":"p"}`},
		{"resources/list", `{"resources":[{"uri":"file:///p","name":"%s","size":3,"annotations":{"lastModified":"2026-01-01T00:00:00Z","priority":1}}]}`, `"resources/read","params":{"uri":"file:///p"}`},
	} {
		say := func(n int, description string) {
			id := fmt.Sprint(100*i + n)
			k.list(id, tt.method, `{"jsonrpc":"2.0","id":`+id+`,"result":`+fmt.Sprintf(tt.format, description)+`}`)
		}
		say(10, "one")
		k.host.write(`{"jsonrpc":"2.0","id":5,"method":` + tt.read + `}`)
		k.next(k.upstream)
		k.upstream.write(`{"jsonrpc":"2.0","id":5,"result":{}}`)
		k.next(k.host)
		say(11, "two")
		k.host.write(`{"jsonrpc":"2.0","id":5,"method":` + tt.read + `}`)
		if got := k.next(k.host); !strings.Contains(got, "TOOL_HELD") || !strings.Contains(got, `"error"`) {
			t.Errorf("%s: %s", tt.method, got)
		}
		k.silent(k.upstream, 50*time.Millisecond)
	}
}

// What of a resource changes by itself is no change; all else is one.
func TestWhatIsPinned(t *testing.T) {
	hash := func(method, item string) [32]byte {
		list := pinnedLists[method]
		var l authz.Listing
		if err := list.read([]byte(`{"jsonrpc":"2.0","id":1,"result":{"`+list.member+`":[`+item+`]}}`), &l); err != nil {
			t.Fatal(err)
		}
		return l.Items[0].Hash
	}
	tool := `{"name":"a","title":"t","description":"d","inputSchema":{"a":1},"outputSchema":{"b":1},"annotations":{"readOnlyHint":true},"execution":{"taskSupport":"optional"},"icons":[{"src":"i"}],"_meta":{"ui":"x"}}`
	for _, tt := range []struct {
		method, item, from, to string
		same                   bool
	}{
		{"tools/list", tool, `"title":"t","description":"d"`, `"description":"\u0064","title":"t"`, true},
		{"tools/list", tool, `"t"`, `"T"`, false},
		{"tools/list", tool, `"d"`, `"D"`, false},
		{"tools/list", tool, `"a":1`, `"a":1.0`, true},
		{"tools/list", tool, `"a":1`, `"a":2`, false},
		{"tools/list", tool, `"b":1`, `"b":2`, false},
		{"tools/list", tool, `true`, `false`, false},
		{"tools/list", tool, `optional`, `required`, false},
		{"tools/list", tool, `"i"`, `"j"`, false},
		{"tools/list", tool, `"x"`, `"y"`, false},
		{"tools/list", tool, `"title"`, `"Title"`, false},
		{"prompts/list", `{"name":"a","arguments":[{"name":"x"}]}`, `"x"`, `"y"`, false},
		{"resources/list", `{"uri":"a","name":"n","mimeType":"m","size":1,"annotations":{"lastModified":"1","priority":1}}`, `"size":1`, `"size":2`, true},
		{"resources/list", `{"uri":"a","name":"n","annotations":{"lastModified":"1","priority":1}}`, `"1"`, `"2"`, true},
		{"resources/list", `{"uri":"a","name":"n","annotations":{"lastModified":"1","priority":1}}`, `:1}`, `:2}`, false},
		{"resources/list", `{"uri":"a","name":"n","mimeType":"m"}`, `"m"`, `"k"`, false},
		{"resources/templates/list", `{"uriTemplate":"a","name":"n"}`, `"n"`, `"m"`, false},
	} {
		if !strings.Contains(tt.item, tt.from) {
			t.Fatalf("%s has no %s", tt.item, tt.from)
		}
		if same := hash(tt.method, tt.item) == hash(tt.method, strings.Replace(tt.item, tt.from, tt.to, 1)); same != tt.same {
			t.Errorf("%s, %s to %s: the same is %t", tt.method, tt.from, tt.to, same)
		}
	}
}

// A list that two readers could read differently goes to the host, as all does, and
// blocks what was pinned.
func TestAListThatLeavesADoubt(t *testing.T) {
	for _, doubt := range []string{
		`{"tools":[` + lookThat("Looks.") + `],"Tools":[` + lookThat("Evil.") + `]}`,
		`{"tools":[{"name":"look","description":"Looks.","description":"Evil."}]}`,
		`{"tools":[` + lookThat("Looks.") + `,{"Name":"look"}]}`,
		`{"tools":[` + lookThat("Looks.") + `],"nextcursor":"x"}`,
	} {
		k := newListingTalk(t, allowAll)
		k.list("10", "tools/list", toolList("10", lookThat("Looks."), ""))
		k.list("11", "tools/list", `{"jsonrpc":"2.0","id":11,"result":`+doubt+`}`)
		k.host.write(toolCall("5", "look", `{}`))
		if got := k.next(k.host); !strings.Contains(got, "TOOL_CHANGED") || !strings.Contains(got, "cannot be compared") {
			t.Errorf("after %s: %s", doubt, got)
		}
		k.list("12", "tools/list", toolList("12", lookThat("Looks."), ""))
		k.host.write(toolCall("6", "look", `{}`))
		k.next(k.upstream)
	}
}

// A host that does not list: the proxy does, and compares.
func TestTheProxysOwnListIsCompared(t *testing.T) {
	k := newListingTalk(t, allowAll, func(p *Proxy) { p.Hold = 50 * time.Millisecond })
	answer := func(says string) {
		id := isOurList(t, k.next(k.upstream), "")
		k.upstream.write(toolList(id, lookThat(says), ""))
	}
	k.host.write(toolCall("5", "look", `{}`))
	answer("Looks.")
	k.next(k.upstream)
	k.upstream.write(`{"jsonrpc":"2.0","id":5,"result":{}}`)
	k.next(k.host)
	k.forgetTools() // it was started again
	k.host.write(toolCall("6", "look", `{}`))
	answer("Evil.")
	if got := k.next(k.host); !strings.Contains(got, "TOOL_HELD") {
		t.Errorf("got %s", got)
	}
}

// What waited is forgotten when another process sees another version, and that is
// accepted. Then the first one is listed again, so that its owner can answer it.
func TestALostDefinitionIsListedAgain(t *testing.T) {
	t.Parallel()
	k := newListingTalk(t, allowAll, func(p *Proxy) { p.Hold = 50 * time.Millisecond })
	k.list("10", "tools/list", toolList("10", lookThat("Looks."), ""))
	k.list("11", "tools/list", toolList("11", lookThat("Looks closely."), ""))
	item := must(action.Parse([]byte(lookThat("Sees.")), action.Limits{CaseTwins: true}))(t).Canonical()
	elsewhere := authz.Listing{Agent: "bot", Kind: authz.PinTool, Items: []authz.Listed{{Name: "look", Text: item, Hash: sha256.Sum256(item)}}}
	if err := k.Service.Pins("shop", authz.PinHold).Observe(t.Context(), elsewhere); err != nil {
		t.Fatal(err)
	}
	k.accepts(t, "shop")
	time.Sleep(1100 * time.Millisecond) // this process hears of it
	k.host.write(toolCall("5", "look", `{}`))
	id := isOurList(t, k.next(k.upstream), "")
	k.upstream.write(toolList(id, lookThat("Looks closely."), ""))
	if got := k.next(k.host); !strings.Contains(got, "TOOL_HELD") || !strings.Contains(got, "has to accept the change") {
		t.Errorf("got %s", got)
	}
	k.accepts(t, "shop")
	k.host.write(toolCall("6", "look", `{}`))
	if got := unproved(k.next(k.upstream)); got != toolCall("6", "look", `{}`) {
		t.Errorf("the server got %s", got)
	}
}

// An approval is of the definition that was shown: one that changes while its
// owner is being asked is asked again, in the modes that do not wait for the change
// too.
func TestAChangeDuringAHoldIsAskedAgain(t *testing.T) {
	t.Parallel()
	for _, mode := range []authz.PinMode{authz.PinHold, authz.PinAllow} {
		k := newListingTalk(t, holdAll, func(p *Proxy) { p.pins = p.Service.Pins("shop", mode) })
		k.list("10", "tools/list", toolList("10", lookThat("Looks."), ""))
		k.host.write(toolCall("5", "look", `{}`))
		first := k.pending(t)
		k.list("11", "tools/list", toolList("11", lookThat("Evil."), ""))
		k.approve(t, first.ID)
		if mode == authz.PinHold {
			k.silent(k.upstream, 200*time.Millisecond)
			k.accepts(t, "shop")
		}
		second := k.pending(t)
		if second.ID == first.ID || second.ToolInfo.Get("description").Text() != "Evil." {
			t.Fatalf("%s: asked again with %+v", mode, second)
		}
		k.silent(k.upstream, 100*time.Millisecond)
		k.approve(t, second.ID)
		if got := k.next(k.upstream); unproved(got) != toolCall("5", "look", `{}`) {
			t.Errorf("%s: %s", mode, got)
		}
	}
}

// Pins outlive the process: the next one compares with what the last has accepted.
func TestPinsOutliveTheProcess(t *testing.T) {
	dir := t.TempDir()
	observe := func(says string) (realProxy, authz.Answer) {
		p := realProxyAt(t, dir, allowAll)
		who := authz.Caller{Agent: must(p.store.EnsureAgent(t.Context(), "bot", p.owner))(t)}
		p.pin(who, pinnedLists["tools/list"], "", []byte(toolList("1", lookThat(says), "")))
		ans := must(p.Service.Authorize(t.Context(), who, action.Request{ActionType: "mcp.shop.look"}, &authz.Call{Server: "shop", Tool: "look", Pins: p.pins}))(t)
		return p, ans
	}
	for _, tt := range []struct {
		says string
		want authz.Code
	}{{"Looks.", authz.Allowed}, {"Looks.", authz.Allowed}, {"Evil.", authz.ToolHeld}, {"Looks.", authz.ToolHeld}} {
		if _, ans := observe(tt.says); ans.Code != tt.want {
			t.Errorf("%s: %+v", tt.says, ans)
		}
	}
	p, _ := observe("Evil.")
	p.accepts(t, "shop")
	if _, ans := observe("Evil."); ans.Code != authz.Allowed {
		t.Errorf("after it was accepted: %+v", ans)
	}
}

// Where all servers are at one address each has pins of its own, by its own names.
func TestPinsOfAnAggregate(t *testing.T) {
	servers := two()
	c := newCrowd(t, allowAll, servers)
	c.begin()
	c.asks(2, "tools/list", `{}`)
	servers["files"].answers["tools/list"] = `{"tools":[{"name":"read","description":"Evil."}]}`
	c.asks(3, "tools/list", `{}`)
	book := must(c.store.PinBook(t.Context(), c.owner.ID, "files"))(t)
	if v, ok := book.Find(authz.PinTool, "read"); !ok || v.State() != "changed" {
		t.Errorf("files: %+v", book)
	}
	book = must(c.store.PinBook(t.Context(), c.owner.ID, "web.site"))(t)
	if v, ok := book.Find(authz.PinTool, "read"); !ok || v.State() != "accepted" || v.Accepted[0].Hash != sha256.Sum256([]byte(`{"name":"read"}`)) {
		t.Errorf("web.site: %+v", book)
	}
}

// The hash that policies and owners are told is that of the definition.
func TestDefinitionHash(t *testing.T) {
	k := newListingTalk(t, holdAll)
	k.list("10", "tools/list", toolList("10", wipeTool, ""))
	k.host.write(toolCall("5", "wipe", `{}`))
	text := must(action.Parse([]byte(wipeTool), action.Limits{}))(t).Canonical()
	if got := k.pending(t).ToolInfo; got.Get("definition_hash").Text() != sum(text) || got.Get("pin_state").Text() != "accepted" {
		t.Errorf("got %s", got.Canonical())
	}
}

const holdAll = `version: 1
default: deny
rules:
  - {id: ask, effect: allow, action: "mcp.*", obligations: [{type: HUMAN_APPROVAL}]}
`
