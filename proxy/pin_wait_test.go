package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/openleash/openleash-go/authz"
)

// A call that waits for its tool's definition is sent away as one that waits for an
// approval is.

// changedWire is a wire whose calls are held for as long as hold, and whose tool buy has
// changed.
func changedWire(t *testing.T, kind pair, policy string, hold time.Duration) *wire {
	t.Helper()
	w := newWire(t, kind, policy, func(p *Proxy) { p.Hold, p.Portal = hold, "http://openleash.localhost:8787" })
	w.changed(t)
	return w
}

// changed has the server list its tool buy, and then another of that name.
func (p realProxy) changed(t *testing.T) {
	t.Helper()
	p.says(t, "Buys.")
	p.says(t, "Evil.")
}

// says has the server say that of its tool buy.
func (p realProxy) says(t *testing.T, says string) {
	t.Helper()
	raw := []byte(toolList("1", `{"name":"buy","description":"`+says+`","inputSchema":{}}`, ""))
	p.learnTools(raw)
	p.pin(p.caller(t, "other"), pinnedLists["tools/list"], "", raw)
}

func TestWireLegsOfAChangedDefinition(t *testing.T) {
	t.Parallel()
	for _, kind := range pairs {
		t.Run(kind.String(), func(t *testing.T) {
			w := changedWire(t, kind, askAll, 50*time.Millisecond)
			w.host.write(modern(1, ""))
			w.probedOnce()
			first := legOf(t, w.host.response(), authz.ToolHeld)
			w.accepts(t, "shop")
			w.host.write(modern(2, first))
			second := leg(t, w.host.response()) // it counts on: now the owner has to approve
			w.approve(t, w.pending(t).ID)
			w.host.write(modern(3, second))
			got := w.up.next()
			if want := w.asUp(modern(3, ""), got); unproved(got) != want {
				t.Errorf("the server got\n%s, want\n%s", got, want)
			}
			w.up.write(resultOf(message(t, got), `{"content":[],"resultType":"complete"}`))
			w.host.response()
			w.says(t, "Worse.")
			w.host.write(modern(4, second))
			if answer := w.host.response(); code(answer) != "ALREADY_RUN" {
				t.Errorf("a state that was used, after another change: %s", answer)
			}
			w.up.silent(50 * time.Millisecond)
		})
	}
}

func TestWireLegsOfAChangedDefinitionEnd(t *testing.T) {
	w := changedWire(t, pairs[0], allowAll, time.Millisecond)
	w.host.write(modern(1, ""))
	state := ""
	for i := range authz.MaxLegs {
		state = legOf(t, w.host.response(), authz.ToolHeld)
		w.host.write(modern(2+i, state))
	}
	if answer := w.host.response(); code(answer) != "TOOL_HELD" || rawAt(answer, "result", "resultType") != `"complete"` || rawAt(answer, "result", "structuredContent", "attempts") != "1" {
		t.Errorf("at the end: %s", answer)
	}
	w.up.silent(50 * time.Millisecond)
}

// A host that can open pages is sent to that of the definitions, and hears of the
// answer.
func TestWirePageOfAChangedDefinition(t *testing.T) {
	for _, kind := range pairs {
		for _, accept := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, %v", kind, accept), func(t *testing.T) {
				t.Parallel()
				w := changedWire(t, kind, allowAll, 50*time.Millisecond).handshake(opensPages)
				if kind == (pair{"http", "http"}) {
					w.listened(t)
				}
				w.host.write(toolCall("1", "buy", `{"n":1.10}`))
				answer := w.host.response()
				id := rawAt(answer, "error", "data", "elicitations")
				id, _, _ = strings.Cut(strings.TrimPrefix(id, `[{"mode":"url","elicitationId":`), ",")
				if rawAt(answer, "error", "code") != "-32042" || !strings.HasPrefix(id, `"definition-sha256:`) ||
					!strings.Contains(string(answer), `"url":"http://openleash.localhost:8787/tools"`) || rawAt(answer, "error", "data", RefusalKey, "code") != `"TOOL_HELD"` {
					t.Fatalf("got %s", answer)
				}
				w.host.write(toolCall("2", "buy", `{"n":1.10}`)) // too early: it is not sent to the page twice
				if answer := w.host.response(); code(answer) != "TOOL_HELD" || rawAt(answer, "result", "structuredContent", "attempts") != "2" {
					t.Errorf("again: %s", answer)
				}
				w.answersPin(t, "buy", accept)
				if got, want := w.host.next(), `{"jsonrpc":"2.0","method":"notifications/elicitation/complete","params":{"elicitationId":`+id+`}}`; got != want {
					t.Fatalf("got %s, want %s", got, want)
				}
				said := toolCall("3", "buy", `{"n":1.10}`)
				if accept {
					w.pass(w.host, w.up, said, said)
					return
				}
				w.host.write(said)
				if answer := w.host.response(); code(answer) != "TOOL_REFUSED" {
					t.Errorf("got %s", answer)
				}
				w.up.silent(50 * time.Millisecond)
			})
		}
	}
}

func TestModelIsToldToAskItsUserAboutAChangedDefinition(t *testing.T) {
	k := newTalk(t, allowAll, func(p *Proxy) { p.Hold, p.Portal = time.Millisecond, "http://openleash.localhost:8787" })
	k.changed(t)
	for n := 1; n <= enough; n++ {
		k.host.write(toolCall(fmt.Sprint(n), "buy", `{"n":1.10}`))
		answer := []byte(k.next(k.host))
		text, _ := stringAt(answer, "result", "structuredContent", "next")
		patient := strings.Contains(text, `say "continue"`) && strings.Contains(text, "http://openleash.localhost:8787/tools")
		if code(answer) != "TOOL_HELD" || rawAt(answer, "result", "structuredContent", "attempts") != fmt.Sprint(n) || patient != (n >= enough) {
			t.Errorf("time %d: %s", n, answer)
		}
	}
	k.host.write(toolCall("50", "buy", `{"n":2}`))
	if answer := k.next(k.host); rawAt([]byte(answer), "result", "structuredContent", "attempts") != "1" {
		t.Errorf("another call: %s", answer)
	}
	k.accepts(t, "shop")
	k.says(t, "Worse.")
	k.host.write(toolCall("51", "buy", `{"n":1.10}`))
	if answer := k.next(k.host); rawAt([]byte(answer), "result", "structuredContent", "attempts") != "1" {
		t.Errorf("another change: %s", answer)
	}
}

// A call that is to be a task waits for the definition first, as any other does: there
// is no request yet that a task could wait for.
func TestTaskOfAChangedDefinition(t *testing.T) {
	t.Parallel()
	for name, door := range taskDoors(false) {
		t.Run(name, func(t *testing.T) {
			p := newRealProxy(t, askAll)
			h, s := taskHostAt(t, p, "bot", false, door)
			p.changed(t)
			s.says = "Evil."
			id := make(chan string, 1)
			go func() {
				defer close(id)
				id <- h.task(`{}`)
			}()
			select {
			case <-id:
				t.Error("the call is a task before its definition was accepted")
			case <-time.After(300 * time.Millisecond):
			}
			p.accepts(t, "shop")
			task := <-id
			p.approve(t, p.pending(t).ID)
			h.become(task, "completed")
			if s.count() != 1 {
				t.Errorf("the server has got %d calls, want 1", s.count())
			}
		})
	}
}
