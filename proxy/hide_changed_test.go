package proxy

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openleash/openleash-go/authz"
)

const (
	denyWipe  = "version: 1\ndefault: allow\nrules:\n  - {id: no-wiping, effect: deny, action: mcp.shop.wipe}\n"
	unrelated = "  - {id: other, effect: deny, action: mcp.shop.other}\n"
)

func hideAll(p *Proxy) { p.HideDenied = true }

// A listener is a host in a session, whatever the transport.
type listener struct {
	t     *testing.T
	p     realProxy
	list  func()        // has the host list the tools; it is answered
	next  func() string // the next message that comes unasked
	quiet func()        // none comes
	want  string
}

// plays has the policy change, and wants to hear of it when it concerns the host.
func (l listener) plays() {
	l.t.Helper()
	for _, step := range []struct {
		name, policy string
		told         bool
	}{
		{"not listed yet", denyWipe, false},
		{"", allowAll, false},
		{"listed", "", false},
		{"a rule on no tool of the server", strings.TrimSuffix(allowAll, "rules: []\n") + "rules:\n" + unrelated, false},
		{"a tool is hidden", denyWipe, true},
		{"the same is hidden", denyWipe + unrelated, false},
		{"it is shown again", allowAll, true},
		{"hidden again, without another list", denyWipe, true},
		{"listed", "", false},
		{"the same as listed", denyWipe + unrelated, false},
	} {
		if step.policy == "" {
			l.list()
			continue
		}
		l.p.reload(l.t, step.policy)
		if !step.told {
			l.quiet()
		} else if got := l.next(); got != l.want {
			l.t.Errorf("%s: got %s, want %s", step.name, got, l.want)
		}
	}
}

func (w *wire) listener(want string, list func()) listener {
	return listener{t: w.t, p: w.realProxy, list: list, next: w.host.next, quiet: func() { w.t.Helper(); w.host.silent(60 * time.Millisecond) }, want: want}
}

// listed has the host list the tools; params are those of the request.
func (w *wire) listed(params string) func() {
	n := 100
	return func() {
		w.t.Helper()
		n++
		w.host.write(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/list","params":%s}`, n, params))
		w.up.write(toolList(rawAt([]byte(w.up.next()), "id"), `{"name":"wipe","inputSchema":{}},`+lookTool, ""))
		if got := w.host.next(); !strings.Contains(got, `"look"`) {
			w.t.Errorf("the list: %s", got)
		}
	}
}

func TestAHostHearsThatWhatIsHiddenHasChanged(t *testing.T) {
	t.Parallel()
	for _, kind := range pairs {
		t.Run(kind.String(), func(t *testing.T) {
			w := newWire(t, kind, allowAll, hideAll).begin()
			w.listener(toolsChanged, w.listed(`{}`)).plays()
		})
	}
}

func TestAStatelessHostHearsThatWhatIsHiddenHasChanged(t *testing.T) {
	t.Parallel()
	for _, kind := range pairs {
		t.Run(kind.String(), func(t *testing.T) {
			w := newWire(t, kind, allowAll, hideAll)
			meta := fill(metas, "", `"t"`)
			list := w.listed(`{` + meta + `}`)
			listen := func(id, what string) (upID string) {
				w.host.write(`{"jsonrpc":"2.0","id":` + id + `,"method":"subscriptions/listen","params":{"notifications":{` + what + `},` + meta + `}}`)
				if id == `"other"` {
					w.probed()
				}
				return rawAt([]byte(w.up.next()), "id")
			}
			ack := func(upID string) {
				w.up.write(`{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"notifications":{},"_meta":{"io.modelcontextprotocol/subscriptionId":` + upID + `}}}`)
				if got := w.host.next(); !strings.Contains(got, "acknowledged") {
					t.Errorf("the acknowledgement: %s", got)
				}
			}
			ack(listen(`"other"`, `"promptsListChanged":true`))
			upID := listen(`"\u0073ub"`, `"toolsListChanged":true`)
			list()
			w.up.write(`{"jsonrpc":"2.0","method":"notifications/early","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":` + upID + `}}}`)
			if got := w.host.next(); !strings.Contains(got, "early") {
				t.Errorf("got %s", got)
			}
			w.reload(t, denyWipe)
			w.host.silent(60 * time.Millisecond) // "MUST NOT send any notification on the subscription before acknowledging it"
			w.reload(t, allowAll)
			w.host.silent(60 * time.Millisecond)
			ack(upID)
			want := `{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"\u0073ub"}}}`
			l := w.listener(want, list)
			for i, policy := range []string{denyWipe, allowAll} {
				w.reload(t, policy)
				if got := l.next(); got != want {
					t.Errorf("change %d: got %s, want %s", i, got, want)
				}
			}
			w.reload(t, strings.TrimSuffix(allowAll, "rules: []\n")+"rules:\n"+unrelated)
			l.quiet()
		})
	}
}

func TestASSEHostHearsThatWhatIsHiddenHasChanged(t *testing.T) {
	t.Parallel()
	p := newRealProxy(t, allowAll)
	p.HideDenied = true
	h, _ := sessionsOf(t, p.Proxy, func(c *pipeConn, m Message) {
		if m.Method == "tools/list" {
			c.write(toolList(m.ID, `{"name":"wipe","inputSchema":{}},`+lookTool, ""))
			return
		}
		echo(c, m)
	})
	c := openSSE(t, sseDoor(t, someone("a"), h)).shake()
	got := make(chan string)
	go func() {
		for t.Context().Err() == nil {
			select {
			case got <- c.next():
			case <-t.Context().Done():
			}
		}
	}()
	listener{t: t, p: p, want: toolsChanged,
		list: func() {
			c.post(`{"jsonrpc":"2.0","id":9,"method":"tools/list"}`)
			if list := <-got; !strings.Contains(list, `"look"`) {
				t.Errorf("the list: %s", list)
			}
		},
		next: func() string {
			select {
			case raw := <-got:
				return raw
			case <-time.After(patience):
				return "nothing"
			}
		},
		quiet: func() {
			select {
			case raw := <-got:
				t.Errorf("it was told %s", raw)
			case <-time.After(60 * time.Millisecond):
			}
		},
	}.plays()
}

// Streams break, and hosts open them again.
func TestAHostHearsOfAChangeWhileItsStreamWasBroken(t *testing.T) {
	w := newWire(t, pair{"http", "http"}, allowAll, hideAll).begin()
	w.listed(`{}`)()
	w.toUp.server.CloseClientConnections()
	eventually(t, "the stream lives on", func() bool {
		w.hiding.mu.Lock()
		defer w.hiding.mu.Unlock()
		return len(w.hiding.watchers) == 0
	})
	w.reload(t, denyWipe)
	w.toHost.listen()
	if got := w.host.next(); got != toolsChanged {
		t.Errorf("got %s", got)
	}
	w.toHost.listen()
	w.host.silent(60 * time.Millisecond) // it has heard
}

// What one agent may not do is hidden from it alone.
func TestOnlyTheAgentConcernedHears(t *testing.T) {
	for agent, told := range map[string]bool{"someone": false, "bot": true} {
		k := newListingTalk(t, allowAll, hideAll) // its agent is bot
		k.host.write(`{"jsonrpc":"2.0","id":2,"method":"tools/list"}`)
		k.next(k.upstream)
		k.upstream.write(toolList("2", wipeTool, ""))
		k.next(k.host)
		own := filepath.Join(filepath.Dir(k.file), "agents", agent)
		if err := os.MkdirAll(own, 0o700); err != nil {
			t.Fatal(err)
		}
		k.file = filepath.Join(own, "own.yaml")
		k.reload(t, denyWipe)
		if !told {
			k.silent(k.host, 60*time.Millisecond)
		} else if got := k.next(k.host); got != toolsChanged {
			t.Errorf("got %s", got)
		}
	}
}

func TestAHostThatHasNotListedHearsNothing(t *testing.T) {
	k := newListingTalk(t, allowAll, hideAll)
	who := authz.Caller{Agent: must(k.store.EnsureAgent(t.Context(), "bot", k.owner))(t)}
	k.Proxy.toHost(who, []byte(toolList("2", wipeTool, ""))) // as in another session of the agent
	k.reload(t, denyWipe)
	k.silent(k.host, 60*time.Millisecond)
}

func TestAReloadDoesNotWaitForASlowHost(t *testing.T) {
	k := newListingTalk(t, allowAll, hideAll)
	k.host.write(`{"jsonrpc":"2.0","id":2,"method":"tools/list"}`)
	k.next(k.upstream)
	k.upstream.write(toolList("2", wipeTool, ""))
	k.next(k.host)
	const full = 64 // what a pipe holds
	for range full {
		k.upstream.write(`{"jsonrpc":"2.0","method":"notifications/x"}`)
	}
	eventually(t, "the host's pipe is not full", func() bool { return len(k.host.in) == full })
	k.reload(t, denyWipe)
	k.reload(t, allowAll)
	k.reload(t, denyWipe+unrelated)
	for range full {
		k.next(k.host)
	}
	if got := k.next(k.host); got != toolsChanged {
		t.Errorf("got %s", got)
	}
}

func TestNothingWatchesWhereNothingIsHidden(t *testing.T) {
	t.Parallel()
	watching := func(p realProxy) int {
		p.hiding.mu.Lock()
		defer p.hiding.mu.Unlock()
		return len(p.hiding.watchers)
	}
	for _, kind := range pairs {
		for _, hide := range []bool{false, true} {
			w := newWire(t, kind, allowAll, func(p *Proxy) { p.HideDenied = hide }).begin()
			w.listed(`{}`)()
			w.reload(t, denyWipe)
			if !hide {
				w.host.silent(20 * time.Millisecond)
			} else if got := w.host.next(); got != toolsChanged {
				t.Errorf("%s: got %s", kind, got)
			}
			if n := watching(w.realProxy); (n > 0) != hide {
				t.Errorf("%s, hide_denied %v: %d watch", kind, hide, n)
			}
		}
	}
	// A stream that has ended is told nothing, and kept nowhere.
	w := newWire(t, pair{"http", "http"}, allowAll, hideAll).begin()
	eventually(t, "the stream does not watch", func() bool { return watching(w.realProxy) == 1 })
	w.toUp.server.CloseClientConnections()
	eventually(t, "it watches on", func() bool { return watching(w.realProxy) == 0 })
}
