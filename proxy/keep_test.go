package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
)

// upstreams are the ones that a test has started, in turn: their far ends.
type upstreams struct {
	started chan *pipeConn
	refuse  chan error // taken by the next starts, before any succeeds
}

func newUpstreams() *upstreams {
	return &upstreams{started: make(chan *pipeConn, 16), refuse: make(chan error, 16)}
}

func (u *upstreams) start() (Conn, error) {
	select {
	case err := <-u.refuse:
		return nil, err
	default:
	}
	near, far := newPipes()
	u.started <- far
	return near, nil
}

const (
	greeting = `{"jsonrpc":"2.0","id":"h","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"roots":{}},"clientInfo":{"name":"t","version":"1"}}}`
	greeted  = `{"jsonrpc":"2.0","id":"h","result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true},"prompts":{},"resources":{"listChanged":true}},"serverInfo":{"name":"s","version":"1"}}}`
	ready    = `{"jsonrpc":"2.0","method":"notifications/initialized"}`
)

// kept is a Keep whose messages for the host arrive in a channel, in a bubble
// of its own time.
type keeping struct {
	*kept
	*upstreams
	t    *testing.T
	host chan string
}

func newKeeping(t *testing.T, idle time.Duration) *keeping {
	t.Helper()
	u := newUpstreams()
	c, err := New(Config{Name: "shop"}).Keep(u.start, idle)
	if err != nil {
		t.Fatal(err)
	}
	k := &keeping{kept: c.(*kept), upstreams: u, t: t, host: make(chan string, 64)}
	go func() {
		for {
			m, err := k.Recv(t.Context())
			var lost *lostRequests
			switch {
			case errors.As(err, &lost):
				k.host <- fmt.Sprintf("lost %v: %s", lost.ids, lost.reason)
			case err != nil:
				k.host <- "end: " + err.Error()
				return
			default:
				k.host <- string(m.Raw)
			}
		}
	}()
	t.Cleanup(func() { c.Close() })
	return k
}

func (k *keeping) send(raw string) error {
	m, err := ReadMessage([]byte(raw), anyMessage([]byte(raw)))
	if err != nil {
		k.t.Fatal(err)
	}
	return k.Send(k.t.Context(), m)
}

// wants fails unless the host gets just these next.
func (k *keeping) wants(all ...string) {
	k.t.Helper()
	synctest.Wait()
	for _, want := range all {
		select {
		case got := <-k.host:
			if got != want {
				k.t.Errorf("the host got %s\nwant %s", got, want)
			}
		default:
			k.t.Errorf("the host got nothing, want %s", want)
		}
	}
	select {
	case got := <-k.host:
		k.t.Errorf("the host got %s too", got)
	default:
	}
}

// hears fails unless an upstream gets just these next.
func (k *keeping) hears(up *pipeConn, all ...string) {
	k.t.Helper()
	synctest.Wait()
	for _, want := range all {
		select {
		case m := <-up.in:
			if string(m.Raw) != want {
				k.t.Errorf("the server got %s\nwant %s", m.Raw, want)
			}
		default:
			k.t.Errorf("the server got nothing, want %s", want)
		}
	}
	select {
	case m := <-up.in:
		k.t.Errorf("the server got %s too", m.Raw)
	default:
	}
}

// first is the first upstream, once it has been greeted.
func (k *keeping) first() *pipeConn {
	k.t.Helper()
	up := <-k.started
	k.send(greeting)
	up.write(greeted)
	k.send(ready)
	k.hears(up, greeting, ready)
	k.wants(greeted)
	return up
}

// restarted is the next upstream after the time that it takes; it answers the
// handshake.
func (k *keeping) restarted(after time.Duration) *pipeConn {
	k.t.Helper()
	begin := time.Now()
	up := <-k.started
	if took := time.Since(begin); took != after {
		k.t.Errorf("it was started after %s, want %s", took, after)
	}
	k.hears(up, greeting)
	up.write(greeted)
	k.hears(up, ready)
	return up
}

const (
	toolsChanged     = `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`
	resourcesChanged = `{"jsonrpc":"2.0","method":"notifications/resources/list_changed"}`
	hasEnded         = "it closed the connection; it is being started again. Whether this was done is not known: look before you repeat it"
)

// An upstream that ends is started again: what was under way is lost and said to
// be so, the new one is greeted with the host's own bytes, the host hears of it
// as far as the server has declared to tell.
func TestUpstreamIsStartedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeeping(t, 0)
		up := k.first()
		k.p.tools["buy"] = tool{}
		k.send(toolCall("1", "buy", `{}`))
		k.send(`{"jsonrpc":"2.0","id":2,"method":"tools/list"}`)
		k.send(toolCall("3", "answered", `{}`))
		k.send(toolCall("4", "cancelled", `{}`))
		k.send(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":4}}`)
		up.write(`{"jsonrpc":"2.0","id":3,"result":{}}`)
		k.wants(`{"jsonrpc":"2.0","id":3,"result":{}}`)
		up.Close()
		k.wants("lost [1 2]: " + hasEnded)
		if !k.Down() || len(k.started) > 0 {
			t.Error("it is not down, or started already")
		}
		up = k.restarted(restartFirst)
		k.wants(toolsChanged, resourcesChanged)
		if k.Down() || len(k.p.tools) > 0 {
			t.Errorf("down %v; of the former one's tools is remembered: %v", k.Down(), k.p.tools)
		}
		k.send(toolCall("1", "buy", `{"n":2}`))
		k.hears(up, toolCall("1", "buy", `{"n":2}`)) // and the lost ones never
		up.write(`{"jsonrpc":"2.0","id":1,"result":{}}`)
		k.wants(`{"jsonrpc":"2.0","id":1,"result":{}}`)
	})
}

// The time between starts doubles up to half a minute, for starts that fail as
// for upstreams that end, and begins anew after a minute of life.
func TestRestartsBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeeping(t, 0)
		up := k.first()
		for _, wait := range []time.Duration{restartFirst, time.Second, 2 * time.Second} {
			up.Close()
			k.wants()
			up = k.restarted(wait)
			k.wants(toolsChanged, resourcesChanged)
		}
		up.Close()
		k.wants()
		for range 5 { // 4, 8, 16, 30, 30
			k.refuse <- errors.New("no room")
		}
		up = k.restarted((4 + 8 + 16 + 30 + 30 + 30) * time.Second)
		k.wants(toolsChanged, resourcesChanged)
		time.Sleep(restartReset)
		up.Close()
		k.wants()
		up = k.restarted(restartFirst)
		k.wants(toolsChanged, resourcesChanged)
		up.Close() // at once
		k.wants()
		k.restarted(2 * restartFirst)
	})
}

// Requests wait for an upstream that is down, but not long, and the refusal says
// why and when it is there.
func TestRequestsWaitForARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeeping(t, 0)
		up := k.first()
		up.Close()
		k.wants()
		if err := k.send(toolCall("1", "buy", `{}`)); err == nil || !strings.Contains(err.Error(), "it closed the connection; it is started again in 500ms. Nothing was done") {
			t.Errorf("a request while it is down: %v", err)
		}
		if err := k.send(`{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`); err != nil {
			t.Errorf("a notification while it is down: %v", err)
		}
		begin, there := time.Now(), make(chan error)
		go func() { there <- k.Ready(t.Context()) }()
		k.restarted(restartFirst)
		if err := <-there; err != nil || time.Since(begin) != restartFirst {
			t.Errorf("after %s: %v", time.Since(begin), err)
		}
		k.wants(toolsChanged, resourcesChanged)

		up = <-func() chan *pipeConn { k.current().Close(); return k.started }()
		k.hears(up, greeting) // and this one does not answer
		begin = time.Now()
		if err := k.Ready(t.Context()); err == nil || time.Since(begin) != awaitRestart {
			t.Errorf("after %s: %v", time.Since(begin), err)
		}
		for range 4 { // until the next start is far away
			k.refuse <- errors.New("no room")
		}
		time.Sleep(greetWithin + 25*time.Second)
		begin = time.Now()
		if err := k.Ready(t.Context()); err == nil || time.Since(begin) != 0 || !strings.Contains(err.Error(), "no room; it is started again in 25s") {
			t.Errorf("after %s: %v", time.Since(begin), err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := k.Ready(ctx); err == nil {
			t.Error("a cancelled wait has no error")
		}
	})
}

// One that has never answered anything does not work: its end is the session's.
func TestUpstreamThatNeverWorkedEndsTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeeping(t, 0)
		up := <-k.started
		k.send(greeting)
		up.Close()
		k.wants("end: it closed the connection")
		time.Sleep(time.Hour)
		if len(k.started) > 0 {
			t.Error("it was started again")
		}
	})
}

// Without a handshake (2026-07-28) there is none to say again, and nobody to
// tell.
func TestStatelessUpstreamIsStartedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeeping(t, 0)
		up := <-k.started
		k.send(`{"jsonrpc":"2.0","id":1,"method":"server/discover"}`)
		up.write(`{"jsonrpc":"2.0","id":1,"result":{}}`)
		k.wants(`{"jsonrpc":"2.0","id":1,"result":{}}`)
		k.send(`{"jsonrpc":"2.0","id":2,"method":"subscriptions/listen"}`)
		up.Close()
		k.wants("lost [2]: " + hasEnded)
		up = <-k.started
		k.hears(up)
		k.wants()
		k.send(toolCall("3", "buy", `{}`))
		k.hears(up, toolCall("3", "buy", `{}`))
	})
}

// What an upstream has asked the host dies with it: the host is told, and its
// late answer is not given to another process that asks under the same id.
func TestQuestionsOfAFormerUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeeping(t, 0)
		up := k.first()
		ask := `{"jsonrpc":"2.0","id":5,"method":"elicitation/create","params":{"message":"delete it?"}}`
		up.write(ask)
		k.wants(ask)
		up.Close()
		k.wants(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5,"reason":"the server has ended"}}`)
		up = k.restarted(restartFirst)
		k.wants(toolsChanged, resourcesChanged)
		yes := `{"jsonrpc":"2.0","id":5,"result":{"action":"accept"}}`
		k.send(yes)
		k.hears(up)
		up.write(ask)
		k.wants(ask)
		k.send(yes)
		k.hears(up, yes)
		k.send(yes)
		k.hears(up) // it has had its answer
	})
}

// A new upstream counts its questions from the beginning. What the host still says
// to those of the former one is not taken for an answer to a new one of the same id
// or progress token; what does not clash passes as it was written.
func TestNewQuestionsUnderOldIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeeping(t, 0)
		up := k.first()
		delete5 := `{"id": 5,"jsonrpc":"2.0","method":"elicitation/create","params":{"message":"delete it?","_meta":{"progressToken":7}}}`
		roots := `{"jsonrpc":"2.0","id":"r","method":"roots/list"}`
		withdrawn := `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"r"}}`
		for _, m := range []string{delete5, roots, withdrawn} {
			up.write(m)
			k.wants(m)
		}
		up.Close()
		k.wants(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5,"reason":"the server has ended"}}`)
		up = k.restarted(restartFirst)
		k.wants(toolsChanged, resourcesChanged)

		name := func(n int) string { return fmt.Sprintf(`"%s%d"`, k.memory.ids, n) }
		pay := `{"id": %s,"jsonrpc":"2.0","method":"elicitation/create","params":{"message":"pay?","_meta":{"progressToken": %s}}}`
		up.write(fmt.Sprintf(pay, "5", "7"))
		k.wants(fmt.Sprintf(pay, name(1), name(2)))
		up.write(roots)
		k.wants(strings.Replace(roots, `"r"`, name(3), 1))
		up.write(`{"jsonrpc":"2.0","id":6,"method":"ping","params":{"_meta":{"progressToken":"new"}}}`)
		k.wants(`{"jsonrpc":"2.0","id":6,"method":"ping","params":{"_meta":{"progressToken":"new"}}}`)

		progress := `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":1}}`
		for _, late := range []string{
			fmt.Sprintf(progress, "7"),
			`{"jsonrpc":"2.0","id":5,"result":{"action":"accept"}}`,
			`{"jsonrpc":"2.0","id":"r","result":{"roots":[]}}`,
			`{"jsonrpc":"2.0","id":99,"result":{}}`,
		} {
			k.send(late)
			k.hears(up)
		}
		k.send(fmt.Sprintf(progress, name(2)))
		k.send(fmt.Sprintf(progress, `"new"`))
		k.send(`{"jsonrpc":"2.0","id": ` + name(1) + `,"result":{"action":"decline"}}`)
		k.send(`{"jsonrpc":"2.0","id":6,"result":{}}`)
		k.hears(up, fmt.Sprintf(progress, "7"), fmt.Sprintf(progress, `"new"`), `{"jsonrpc":"2.0","id": 5,"result":{"action":"decline"}}`, `{"jsonrpc":"2.0","id":6,"result":{}}`)
		up.write(withdrawn)
		k.wants(strings.Replace(withdrawn, `"r"`, name(3), 1))
	})
}

// Of more old questions than are remembered no new one can be told: then each is
// renamed.
func TestMoreOldQuestionsThanAreRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeeping(t, 0)
		up := k.first()
		ask := `{"jsonrpc":"2.0","id":%s,"method":"ping"}`
		for i := range maxOld + 1 {
			up.write(fmt.Sprintf(ask, fmt.Sprint(i)))
			k.wants(fmt.Sprintf(ask, fmt.Sprint(i)))
		}
		up.Close()
		for range maxOld + 1 {
			if got := <-k.host; !strings.Contains(got, "notifications/cancelled") {
				t.Fatalf("the host got %s, want a cancellation", got)
			}
		}
		up = k.restarted(restartFirst)
		k.wants(toolsChanged, resourcesChanged)
		up.write(fmt.Sprintf(ask, `"another"`))
		renamed := `"` + k.memory.ids + `1"`
		k.wants(fmt.Sprintf(ask, renamed))
		k.send(`{"jsonrpc":"2.0","id":` + renamed + `,"result":{}}`)
		k.hears(up, `{"jsonrpc":"2.0","id":"another","result":{}}`)
	})
}

// ask sends a request of the host and has it answered.
func (k *keeping) ask(up *pipeConn, id int, method, params, answer string) {
	k.t.Helper()
	m := fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q,"params":%s}`, id, method, params)
	k.send(m)
	k.hears(up, m)
	answer = fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,%s}`, id, answer)
	up.write(answer)
	k.wants(answer)
}

// A new upstream is told the log level and the subscriptions that the former one
// has accepted, behind the host's back.
func TestNewUpstreamIsToldAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeeping(t, 0)
		log := &strings.Builder{}
		k.memory.log = zerolog.New(log)
		up := k.first()
		k.ask(up, 1, "logging/setLevel", `{"level":"debug","_meta":{"progressToken":3}}`, `"result":{}`)
		k.ask(up, 2, "logging/setLevel", `{"level":"loud"}`, `"error":{"code":-32602,"message":"no"}`)
		k.ask(up, 3, "resources/subscribe", `{"uri":"a:1"}`, `"result":{}`)
		k.ask(up, 4, "resources/subscribe", `{"uri":"b:2","x":1.10}`, `"result":{}`)
		k.ask(up, 5, "resources/subscribe", `{"uri":"c:3"}`, `"error":{"code":-32002,"message":"none"}`)
		k.ask(up, 6, "resources/unsubscribe", `{"uri":"\u0061:1"}`, `"result":{}`)
		for round := range 2 {
			up.Close()
			k.wants()
			up = <-k.started
			k.hears(up, greeting)
			up.write(greeted)
			level, b := fmt.Sprintf(`"%s%d"`, k.memory.ids, 2*round+1), fmt.Sprintf(`"%s%d"`, k.memory.ids, 2*round+2)
			k.hears(up, ready,
				`{"jsonrpc":"2.0","id":`+level+`,"method":"logging/setLevel","params":{"level":"debug","_meta":{"progressToken":`+level+`}}}`,
				`{"jsonrpc":"2.0","id":`+b+`,"method":"resources/subscribe","params":{"uri":"b:2","x":1.10}}`)
			up.write(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":` + level + `,"progress":1}}`)
			up.write(`{"jsonrpc":"2.0","id":` + level + `,"result":{}}`)
			up.write(`{"jsonrpc":"2.0","id":` + b + `,"error":{"code":-32002,"message":"gone"}}`)
			k.wants(toolsChanged, resourcesChanged)
		}
		if want := `"method":"resources/subscribe","message":"the server does not accept again what the host has told it: {\"code\":-32002`; strings.Count(log.String(), want) != 2 {
			t.Errorf("the log says %s", log)
		}
		// A new handshake of the host's own begins with nothing.
		again := strings.Replace(greeting, `"h"`, `"h2"`, 1)
		k.send(again)
		up.write(strings.Replace(greeted, `"h"`, `"h2"`, 1))
		k.send(ready)
		k.hears(up, again, ready)
		k.wants(strings.Replace(greeted, `"h"`, `"h2"`, 1))
		up.Close()
		k.wants()
		up = <-k.started
		k.hears(up, again)
		up.write(strings.Replace(greeted, `"h"`, `"h2"`, 1))
		k.hears(up, ready)
	})
}

// What the host says meanwhile comes after what is said again, and a server that
// answers before it reads on is read from.
func TestManySubscriptionsAreToldAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeeping(t, 0)
		log := &strings.Builder{}
		k.memory.log = zerolog.New(log)
		up := k.first()
		for i := range maxSubscriptions + 1 {
			k.ask(up, i, "resources/subscribe", fmt.Sprintf(`{"uri":"%04d"}`, i), `"result":{}`)
		}
		k.ask(up, 1, "resources/subscribe", `{"uri":"0001"}`, `"result":{}`) // not one more
		if n := strings.Count(log.String(), "a subscription is not remembered"); n != 1 {
			t.Errorf("%d are said not to be remembered, want 1", n)
		}
		up.Close()
		k.wants()
		up = <-k.started
		k.hears(up, greeting)
		up.write(greeted)
		k.wants(toolsChanged, resourcesChanged)
		last := `{"jsonrpc":"2.0","id":1,"method":"resources/unsubscribe","params":{"uri":"0001"}}`
		m := message(t, last)
		go k.Send(t.Context(), m)
		var got []string
		for range maxSubscriptions + 2 {
			m := <-up.in
			got = append(got, string(m.Raw))
			if m.IsRequest() {
				for range 3 { // it has much to say
					up.write(`{"jsonrpc":"2.0","method":"notifications/message"}`)
				}
				up.write(`{"jsonrpc":"2.0","id":` + m.ID + `,"result":{}}`)
				for range 3 {
					<-k.host
				}
			}
		}
		if got[0] != ready || !strings.Contains(got[1], `"uri":"0000"`) || !strings.Contains(got[maxSubscriptions], `"uri":"0999"`) || got[maxSubscriptions+1] != last {
			t.Errorf("the server got %s, %s, …, %s, %s", got[0], got[1], got[maxSubscriptions], got[maxSubscriptions+1])
		}
	})
}

// A restart must give what the host was promised.
func TestRestartThatIsNoLongerTheSame(t *testing.T) {
	for answer, want := range map[string]string{
		`{"jsonrpc":"2.0","id":"h","error":{"code":-32603,"message":"licence expired"}}`:                 "it refuses initialize now: {\"code\":-32603,\"message\":\"licence expired\"}",
		`{"jsonrpc":"2.0","id":"h","result":{"protocolVersion":"2024-11-05","capabilities":{}}}`:         `it now speaks protocol version "2024-11-05", and "2025-11-25" was agreed with the host`,
		`{"jsonrpc":"2.0","id":"h","result":{"protocolVersion":["2025-11-25"],"capabilities":{}}}`:       "it refuses initialize now",
		`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error","data":"no disk"}}`: "it closed the connection",
	} {
		synctest.Test(t, func(t *testing.T) {
			k := newKeeping(t, 0)
			k.first().Close()
			up := <-k.started
			k.hears(up, greeting)
			up.write(answer)
			synctest.Wait()
			if strings.Contains(answer, "method") {
				up.Close()
				k.wants(answer) // what it logs passes
			} else {
				k.wants()
			}
			if !up.closed() {
				t.Error("it was left running")
			}
			if err := k.send(toolCall("1", "buy", `{}`)); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %s", err, want)
			}
			k.restarted(2 * restartFirst)
			k.wants(toolsChanged, resourcesChanged)
		})
	}
}

// A handshake that the end interrupts failed: it is the host's to begin anew.
func TestInterruptedHandshakeIsNotSaidAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeeping(t, 0)
		up := <-k.started
		k.send(`{"jsonrpc":"2.0","id":1,"method":"ping"}`)
		up.write(`{"jsonrpc":"2.0","id":1,"result":{}}`)
		k.wants(`{"jsonrpc":"2.0","id":1,"result":{}}`)
		k.send(greeting)
		up.Close()
		k.wants(`lost ["h"]: ` + hasEnded)
		up = <-k.started
		k.hears(up)
		k.send(greeting)
		up.write(greeted)
		k.wants(greeted)
	})
}

// An idle upstream is ended, not while something is under way, and started again
// by the next request; the host sees no failure.
func TestIdleUpstreamRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeeping(t, time.Minute)
		up := k.first()
		k.send(toolCall("1", "slow", `{}`))
		k.hears(up, toolCall("1", "slow", `{}`))
		time.Sleep(10 * time.Minute)
		up.write(`{"jsonrpc":"2.0","id":1,"result":{}}`)
		k.wants(`{"jsonrpc":"2.0","id":1,"result":{}}`)
		ask := `{"jsonrpc":"2.0","id":5,"method":"roots/list"}`
		up.write(ask)
		k.wants(ask)
		time.Sleep(10 * time.Minute)
		k.send(`{"jsonrpc":"2.0","id":5,"result":{"roots":[]}}`)
		k.hears(up, `{"jsonrpc":"2.0","id":5,"result":{"roots":[]}}`)
		if up.closed() {
			t.Fatal("it was ended in the middle of its work")
		}
		time.Sleep(2*time.Minute + time.Second)
		if !up.closed() || !k.Down() {
			t.Fatalf("after two idle minutes: closed %v, down %v", up.closed(), k.Down())
		}
		if err := k.send(`{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		if len(k.started) > 0 {
			t.Fatal("it was started without a request")
		}
		there := make(chan error, 1)
		go func() { there <- k.Ready(t.Context()) }()
		k.restarted(0)
		if err := <-there; err != nil {
			t.Error(err)
		}
		k.wants(toolsChanged, resourcesChanged)
	})
}

// Close ends whatever there is, at any time.
func TestKeepIsClosedAtAnyTime(t *testing.T) {
	for name, until := range map[string]func(k *keeping) (up *pipeConn){
		"up":               func(k *keeping) *pipeConn { return k.first() },
		"down":             func(k *keeping) *pipeConn { up := k.first(); up.Close(); k.wants(); return up },
		"in the handshake": func(k *keeping) *pipeConn { k.first().Close(); up := <-k.started; k.hears(up, greeting); return up },
		"at rest":          func(k *keeping) *pipeConn { up := k.first(); time.Sleep(time.Minute); return up },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKeeping(t, 30*time.Second)
				up := until(k)
				k.Close()
				k.wants("end: " + io.EOF.Error())
				if !up.closed() {
					t.Error("it was left running")
				}
				if err := k.Ready(t.Context()); err == nil && k.Down() {
					t.Error("it is ready")
				}
				time.Sleep(time.Hour)
				if len(k.started) > 0 {
					t.Error("one was started after the end")
				}
			})
		})
	}
}

// The session goes on, with the policy as before: calls under way fail and are
// recorded so, later ones reach the new process once they were decided on.
func TestSessionOutlivesItsUpstream(t *testing.T) {
	t.Parallel()
	p := newRealProxy(t, allowAll)
	u := newUpstreams()
	upstream := must(p.Keep(u.start, 0))(t)
	host, hostSide := newPipes()
	who := authz.Caller{Agent: must(p.store.EnsureAgent(t.Context(), "bot", p.owner))(t)}
	k := &talk{realProxy: p, t: t, host: host, ended: make(chan error, 1)}
	go func() { k.ended <- p.Serve(t.Context(), who, hostSide, upstream) }()
	up := <-u.started
	host.write(greeting)
	k.next(up)
	up.write(greeted)
	k.next(host)
	host.write(ready)
	k.next(up)
	p.learnTools([]byte(toolList("0", `{"name":"buy","inputSchema":{}}`, "")))
	host.write(toolCall("1", "buy", `{}`))
	k.next(up)
	up.Close()
	if got := k.next(host); !strings.Contains(got, `"id":1,"error":{"code":-32603,"message":"the server shop did not answer: it closed the connection; it is being started again`) {
		t.Errorf("the call under way: %s", got)
	}
	host.write(toolCall("2", "buy", `{}`))
	host.write(`{"jsonrpc":"2.0","id":3,"method":"ping"}`)
	up = <-u.started
	if got := k.next(up); got != greeting {
		t.Errorf("it is greeted by %s", got)
	}
	up.write(greeted)
	if got := k.next(up); got != ready {
		t.Errorf("then it hears %s", got)
	}
	up.write(toolList(isOurList(t, k.next(up), ""), "", "")) // it may have other tools
	if got := k.next(up); !strings.Contains(got, `"id":2,`) || !strings.Contains(got, ProofKey) {
		t.Errorf("the call that waited: %s", got)
	}
	if got := k.next(up); !strings.Contains(got, "ping") {
		t.Errorf("what came after it: %s", got)
	}
	up.write(`{"jsonrpc":"2.0","id":2,"result":{"content":[]}}`)
	up.write(`{"jsonrpc":"2.0","id":3,"result":{}}`)
	for _, want := range []string{toolsChanged, resourcesChanged, `{"jsonrpc":"2.0","id":2,"result":{"content":[]}}`, `{"jsonrpc":"2.0","id":3,"result":{}}`} {
		if got := k.next(host); got != want {
			t.Errorf("the host got %s, want %s", got, want)
		}
	}
	host.Close()
	if err := <-k.ended; err != nil {
		t.Error(err)
	}
	o := k.logged("outcome")
	if len(o) != 2 || o[0].Outcome != "transport_error" || !strings.Contains(o[0].Detail, "it closed the connection") || o[1].Outcome != "ok" {
		t.Errorf("outcomes: %+v", o)
	}
	if d := k.logged("decision"); len(d) != 2 {
		t.Errorf("%d decisions", len(d))
	}
}

// While there is nobody to forward to, nothing is decided: an approval that can
// be used once is kept for when there is.
func TestNoGrantIsSpentOnAnUpstreamThatIsDown(t *testing.T) {
	p := newRealProxy(t, askAll)
	p.Hold = 200 * time.Millisecond
	u := newUpstreams()
	upstream := must(p.Keep(u.start, 0))(t)
	upstream.(*kept).wait = restartMost // it has ended often already
	host, hostSide := newPipes()
	who := authz.Caller{Agent: must(p.store.EnsureAgent(t.Context(), "bot", p.owner))(t)}
	k := &talk{realProxy: p, t: t, host: host, ended: make(chan error, 1)}
	go func() { k.ended <- p.Serve(t.Context(), who, hostSide, upstream) }()
	up := <-u.started
	host.write(`{"jsonrpc":"2.0","id":1,"method":"ping"}`)
	k.next(up)
	up.write(`{"jsonrpc":"2.0","id":1,"result":{}}`)
	k.next(host)
	host.write(toolCall("2", "buy", `{}`))
	held := k.pending(t)
	k.next(host) // "call again"
	k.approve(t, held.ID)
	up.Close()
	for !upstream.(*kept).Down() {
		time.Sleep(time.Millisecond)
	}
	host.write(toolCall("3", "buy", `{}`))
	if got := k.next(host); !strings.Contains(got, `"id":3,"error"`) || !strings.Contains(got, "the server shop is not there: it closed the connection; it is started again in ") || !strings.Contains(got, "Nothing was done") {
		t.Errorf("got %s", got)
	}
	if still := must(k.store.Approval(t.Context(), held.ID))(t); still.Status != approvals.Approved {
		t.Errorf("the grant is %s", still.Status)
	}
	host.Close()
	<-k.ended
}
