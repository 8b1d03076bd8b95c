package proxy

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/openleash/openleash-go/authz"
)

// gathering is one host's session with all servers of an Aggregate: the Conn that
// stands for them. Send takes what the host says to the server that it is for.
type gathering struct {
	a        *Aggregate
	who      authz.Caller
	branches []*branch
	out      chan Message // for the host; with room, since Send answers some requests itself

	ctx  context.Context
	stop context.CancelFunc
	work sync.WaitGroup

	mu        sync.Mutex
	closed    bool               // no work begins any more
	version   string             // that the host asked for; set before any branch joins
	answered  bool               // the host's initialize
	ready     *Message           // the host's notifications/initialized
	requests  map[string]*routed // the host's, not answered yet, by id
	questions *idMap             // the servers': the host sees ids and tokens of ours
	askers    map[string]*branch // who asked, by the id that the host sees
	resources resources          // whose they are
	tasks     owners
}

// routed is a request of the host.
type routed struct {
	branch *branch // to whom it went; nil: it is answered here
	token  string  // its progress token, canonical
}

func (a *Aggregate) gather(who authz.Caller) *gathering {
	g := &gathering{
		a: a, who: who, out: make(chan Message, 16),
		requests: map[string]*routed{}, questions: newIDMap(), askers: map[string]*branch{},
		resources: newResources(), tasks: owners{},
	}
	g.ctx, g.stop = context.WithCancel(context.Background())
	for _, m := range a.Members {
		g.branches = append(g.branches, &branch{Member: m, g: g, own: newOwnRequests(), ended: make(chan struct{})})
	}
	return g
}

// Recv returns the next message for the host, whichever server it comes from.
func (g *gathering) Recv(ctx context.Context) (Message, error) {
	select {
	case m := <-g.out:
		return m, nil
	default:
	}
	select {
	case m := <-g.out:
		return m, nil
	case <-g.ctx.Done():
		return Message{}, io.EOF
	case <-ctx.Done():
		return Message{}, ctx.Err()
	}
}

// Close ends the session with every server, and returns when all have ended.
func (g *gathering) Close() error {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.stop()
	g.work.Wait()
	return nil
}

// beside has something done that must not keep the host waiting.
func (g *gathering) beside(do func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.work.Go(do)
	}
}

// Send takes a message of the host where it belongs.
func (g *gathering) Send(_ context.Context, m Message) error {
	switch {
	case m.IsResponse():
		g.toAsker(m)
	case m.IsNotification():
		g.notified(m)
	case g.open(m):
		g.route(m)
	default:
		g.toHost(errorReply(m.ID, codeInvalidRequest, "id "+m.ID+" is that of a request which has not been answered yet; use another"))
	}
	return nil
}

// route finds the server that a request of the host is for. What has to ask the
// servers first does so beside.
func (g *gathering) route(m Message) {
	switch m.Method {
	case "initialize":
		g.beside(func() { g.initialize(m) })
	case "ping":
		g.reply(m, []byte("{}"))
	case "logging/setLevel":
		g.beside(func() { g.toEach(m, "logging") })
	case "tools/call", "prompts/get":
		g.byName(m, "params", "name")
	case "completion/complete":
		g.byReference(m)
	case "resources/read", "resources/subscribe", "resources/unsubscribe":
		g.byURI(m)
	case "tasks/get", "tasks/result", "tasks/cancel":
		g.byTask(m)
	default:
		if kind, ok := lists[m.Method]; ok {
			g.beside(func() { g.list(m, kind) })
			return
		}
		g.refuse(m, codeMethodNotFound, m.Method+": at this address are several servers, and which of them it is for cannot be told; use the server's own address")
	}
}

// open notes a request of the host; false: its id is that of another.
func (g *gathering) open(m Message) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.requests[m.ID] != nil {
		return false
	}
	g.requests[m.ID] = &routed{}
	return true
}

// end forgets a request of the host; false: it has been answered, or cancelled.
func (g *gathering) end(id string, by *branch) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.requests[id]
	if r == nil || r.branch != by {
		return false
	}
	delete(g.requests, id)
	return true
}

// reply and refuse answer a request that has gone to no server.
func (g *gathering) reply(m Message, result []byte) {
	if g.end(m.ID, nil) {
		g.toHost(fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, result))
	}
}

func (g *gathering) refuse(m Message, code int, reason string) {
	if g.end(m.ID, nil) {
		g.toHost(errorReply(m.ID, code, reason))
	}
}

// toHost sends a message of ours.
func (g *gathering) toHost(raw []byte) {
	m, err := ReadMessage(raw, anyMessage(raw))
	if err != nil {
		g.a.Log.Error().Err(err).Msg("our own message is malformed")
		return
	}
	g.give(m)
}

func (g *gathering) give(m Message) {
	select {
	case g.out <- m:
	case <-g.ctx.Done():
	}
}

// pass hands a request of the host to a server, with the edits made.
func (g *gathering) pass(m Message, b *branch, edits ...edit) {
	g.mu.Lock()
	r, joined, gone := g.requests[m.ID], b.joined, b.gone
	if r == nil { // cancelled
		g.mu.Unlock()
		return
	}
	if joined {
		r.branch, r.token = b, idAt(m.Raw, "params", "_meta", "progressToken")
	}
	g.mu.Unlock()
	if !joined {
		g.refuse(m, codeInternal, notThere(b, gone))
		return
	}
	m.Raw = applyEdits(m.Raw, edits...)
	if !b.hand(m) && g.end(m.ID, b) {
		g.toHost(errorReply(m.ID, codeInternal, "the server "+b.Name+" takes no messages at the moment; nothing was done"))
	}
}

func notThere(b *branch, gone error) string {
	if gone == nil {
		return "the server " + b.Name + " is not there yet: try again in a while"
	}
	return fmt.Sprintf("the server %s is not there: %v. A new session tries again", b.Name, gone)
}

// respond takes a server's answer to the host.
func (g *gathering) respond(b *branch, m Message) {
	if !g.end(m.ID, b) {
		return // the host has cancelled it
	}
	g.learn(b, m)
	g.give(m)
}

// notified takes a notification of the host to those that it concerns.
func (g *gathering) notified(m Message) {
	switch m.Method {
	case "notifications/cancelled":
		g.cancel(m)
	case "notifications/progress":
		g.toAsker(m)
	case "notifications/initialized":
		g.mu.Lock()
		g.ready = &m
		g.mu.Unlock()
		g.all(m)
	default:
		g.all(m)
	}
}

func (g *gathering) all(m Message) {
	for _, b := range g.present("") {
		b.hand(m)
	}
}

// present are the servers that have joined and can do something.
func (g *gathering) present(capability string) (there []*branch) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, b := range g.branches {
		if b.joined && b.can(capability) {
			there = append(there, b)
		}
	}
	return there
}

// cancel takes the host's cancellation to who has the request.
func (g *gathering) cancel(m Message) {
	id := idAt(m.Raw, "params", "requestId")
	g.mu.Lock()
	r := g.requests[id]
	delete(g.requests, id)
	g.mu.Unlock()
	if r != nil && r.branch != nil {
		r.branch.hand(m)
	}
}

// question takes a server's request to the host, under an id of ours: servers
// count alike.
func (g *gathering) question(b *branch, m Message) {
	renamed := g.questions.up(m)
	g.mu.Lock()
	g.askers[renamed.ID] = b
	g.mu.Unlock()
	g.give(renamed)
}

// toAsker takes the host's answer to a server's request, or its progress, to that
// server.
func (g *gathering) toAsker(m Message) {
	raw, ours := g.questions.down(m)
	g.mu.Lock()
	b := g.askers[ours]
	if m.IsResponse() {
		delete(g.askers, ours)
	}
	g.mu.Unlock()
	if b == nil {
		return // who asked has gone, or has withdrawn it
	}
	if m.IsResponse() {
		g.questions.forget(ours)
	}
	if theirs, err := ReadMessage(raw, anyMessage(raw)); err == nil {
		b.hand(theirs)
	}
}

// news takes a server's notification to the host.
func (g *gathering) news(b *branch, m Message) {
	switch m.Method {
	case "notifications/progress":
		if !g.asksOf(b, idAt(m.Raw, "params", "progressToken")) {
			return // of another server's request, or of none
		}
	case "notifications/cancelled":
		g.withdraw(b, m)
		return
	}
	g.give(m)
}

// asksOf tells whether the host waits for an answer of that server under a
// progress token.
func (g *gathering) asksOf(b *branch, token string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range g.requests {
		if r.branch == b && r.token == token && token != "" {
			return true
		}
	}
	return false
}

// withdraw takes back a server's request, whose id the host knows as ours.
func (g *gathering) withdraw(b *branch, m Message) {
	at, ok := find(m.Raw, "params", "requestId")
	id := idAt(m.Raw, "params", "requestId")
	for ours, theirs := range g.asked(b) {
		if ok && theirs == id {
			g.drop(ours)
			m.Raw = applyEdits(m.Raw, edit{at, ours})
			g.give(m)
			return
		}
	}
}

// asked are a server's requests to the host, ours to theirs.
func (g *gathering) asked(b *branch) map[string]string {
	g.mu.Lock()
	defer g.mu.Unlock()
	open := map[string]string{}
	for ours, by := range g.askers {
		if by == b {
			open[ours] = g.questions.original(ours)
		}
	}
	return open
}

func (g *gathering) drop(ours string) {
	g.mu.Lock()
	delete(g.askers, ours)
	g.mu.Unlock()
	g.questions.forget(ours)
}

// orphan takes back all requests of a server that has ended, and answers what its
// Proxy has not.
func (g *gathering) orphan(b *branch) {
	for ours := range g.asked(b) {
		g.drop(ours)
		g.toHost(fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%s,"reason":"the server %s has ended"}}`, ours, b.Name))
	}
	g.mu.Lock()
	var waiting []string
	for id, r := range g.requests {
		if r.branch == b {
			waiting = append(waiting, id)
			delete(g.requests, id)
		}
	}
	g.mu.Unlock()
	for _, id := range waiting {
		g.toHost(errorReply(id, codeInternal, "the server "+b.Name+" has ended; whether this was done is not known: look before you repeat it"))
	}
}

// initialize begins the session with every server and answers with what they can
// do together, as soon as all have answered or the time is up.
func (g *gathering) initialize(m Message) {
	version, ok := stringAt(m.Raw, "params", "protocolVersion")
	params := rawAt(m.Raw, "params")
	g.mu.Lock()
	again := g.version != ""
	if ok && !again {
		g.version = version
	}
	g.mu.Unlock()
	if !ok || version == "" || again {
		g.refuse(m, codeInvalidRequest, "initialize: want it once, with a protocolVersion")
		return
	}
	g.joinAll([]byte(params))
	g.mu.Lock()
	g.answered = true
	hellos := g.hellos()
	g.mu.Unlock()
	if len(hellos) == 0 {
		g.refuse(m, codeInternal, g.nobody())
		return
	}
	g.reply(m, g.helloOfAll(hellos))
}

// joinAll returns when every server has joined, or will not, or is too slow.
func (g *gathering) joinAll(params []byte) {
	var joining sync.WaitGroup
	for _, b := range g.branches {
		joining.Add(1)
		g.beside(func() {
			defer joining.Done()
			b.join(params)
		})
	}
	done := make(chan struct{})
	g.beside(func() { joining.Wait(); close(done) })
	ctx, cancel := context.WithTimeout(g.ctx, greetAll)
	defer cancel()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// nobody says why there is no server.
func (g *gathering) nobody() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	text := "none of the servers is there:"
	for _, b := range g.branches {
		text += fmt.Sprintf(" %s: %v.", b.Name, orLate(b.gone))
	}
	return text
}

func orLate(why error) error {
	if why == nil {
		return fmt.Errorf("it has not answered within %s", greetAll)
	}
	return why
}
