package proxy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/openleash/openleash-go/authz"
)

// answersPin is the owner's word on what waits, or was refused, of a tool, given in
// another process.
func (p realProxy) answersPin(t *testing.T, tool string, accept bool) {
	t.Helper()
	v, ok := must(p.store.PinBook(t.Context(), p.owner.ID, "shop"))(t).Find(authz.PinTool, tool)
	if !ok || v.Pending == nil {
		t.Fatalf("nothing of %s waits: %+v", tool, v)
	}
	a := authz.PinAnswer{Server: "shop", Kind: authz.PinTool, Name: tool, Hash: v.Pending.Hash, Accept: accept}
	must(p.Service.AnswerPin(t.Context(), "cli:alice", a))(t)
}

// At every door, with hide_denied: a tool that only waits for its owner is shown, so
// that a model can ask for it; one that lets no call through is not, and its hosts hear
// of the owner's answers.
func TestWhatIsPinnedIsHiddenWhenNoCallGetsThrough(t *testing.T) {
	for _, mode := range []authz.PinMode{authz.PinHold, authz.PinDeny, authz.PinAllow} {
		for _, kind := range pairs {
			t.Run(string(mode)+"/"+kind.String(), func(t *testing.T) {
				t.Parallel()
				w := newWire(t, kind, allowAll, hideAll, func(p *Proxy) { p.pins = p.Service.Pins("shop", mode) }).beginAs(helloTools)
				w.shows(100, lookThat("Looks."), true)
				w.shows(101, lookThat("Evil."), mode != authz.PinDeny)
				if mode == authz.PinDeny {
					w.told() // so do other sessions of the agent
				}
				w.answersPin(t, "look", false)
				if mode == authz.PinHold {
					w.told()
				}
				w.shows(102, lookThat("Evil."), mode == authz.PinAllow)
				w.answersPin(t, "look", true)
				if mode != authz.PinAllow {
					w.told()
				}
				w.shows(103, lookThat("Evil."), true)
				w.host.silent(3 * pinsEvery / 2)
			})
		}
	}
}

// A list that leaves a doubt blocks calls, but hides nothing: the server has to be
// mended, and an agent without any tools tells nobody so.
func TestADoubtfulListHidesNothing(t *testing.T) {
	t.Parallel()
	w := newWire(t, pairs[0], allowAll, hideAll).beginAs(helloTools)
	w.shows(100, lookThat("Looks."), true)
	w.shows(101, lookThat("Looks.")+`,{"Name":"look"}`, true)
	w.host.write(toolCall("5", "look", `{}`))
	if got := w.host.next(); !strings.Contains(got, "TOOL_CHANGED") {
		t.Errorf("the call: %s", got)
	}
	w.host.silent(3 * pinsEvery / 2)
}

// shows has the host list the tools, calm and those that are given, and checks whether
// look is among what it gets.
func (w *wire) shows(id int, tools string, want bool) {
	w.t.Helper()
	w.host.write(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/list"}`, id))
	w.up.write(toolList(rawAt([]byte(w.up.next()), "id"), `{"name":"calm","inputSchema":{}},`+tools, ""))
	if got := w.host.next(); !strings.Contains(got, `"calm"`) || strings.Contains(got, `"name":"look"`) != want {
		w.t.Errorf("list %d: want look shown: %v, got %s", id, want, got)
	}
}

// told wants the host to hear that its list of tools has changed.
func (w *wire) told() {
	w.t.Helper()
	if got := w.host.next(); got != toolsChanged {
		w.t.Errorf("got %s, want that the tools have changed", got)
	}
}
