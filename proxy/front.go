package proxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/openleash/openleash-go/action"
)

// A Front is the stdio end of an OpenLeash that runs elsewhere: under another
// user, in a container, on another machine. It holds an agent's token and decides
// nothing; what comes from either side passes as it came, keys under our prefix
// included, since the other side has seen to them.
//
// The other side may go away and come back. What has not been sent waits for a
// while, in order; a session that is forgotten is begun anew (upstream_anew.go).
// Every request is answered: what may have been done by an error that says so.
type Front struct {
	name string // for messages: the OpenLeash at URL
	far  *httpConn
	host Conn
	log  zerolog.Logger
	wait time.Duration
	wake chan struct{} // cap 1: there is something to do
	room chan struct{} // cap 1: something has left the queue

	mu      sync.Mutex
	queue   []*errand          // not sent yet, in order
	size    int                // of the queue, in bytes
	last    int                // the number of the host's last message
	sending *errand            // handed to far just now
	hello   *errand            // the host's latest initialize, once it was sent
	open    map[string]*errand // the host's requests that are not answered yet, by id
	reached bool               // the other side has answered once

	failures int       // to reach it, in a row
	reason   string    // of the last one, as the host is told
	retryAt  time.Time // not before
}

// An errand is a message of the host, or of ours, to the other side.
type errand struct {
	m        Message
	n        int       // its place among the host's messages
	sent     bool      // and is not in the queue
	deadline time.Time // since the other side was found to be away
	repeated bool      // once, after the other side broke off
}

const (
	// frontWait is how long a request waits for the other side to come back. Some
	// hosts give a server 10 s to start.
	frontWait = 8 * time.Second
	// The pauses between attempts grow from the first to the last of these, but to
	// the second at most while somebody waits.
	retryFirst, retryWaited, retryIdle = 100 * time.Millisecond, time.Second, 15 * time.Second
	// frontMessage is the largest message from the host, as large as the other side
	// can be configured to take; as many bytes may wait.
	frontMessage = 256 << 20
)

// FrontLimits bound a message of a Front's host.
var FrontLimits = action.Limits{Bytes: frontMessage, Depth: maxDepth}

// NewFront returns the front of the MCP endpoint at address. Plain http is for
// this machine alone: the token would travel in the clear.
func NewFront(address, token string, log zerolog.Logger) (*Front, error) {
	u, err := frontURL(address)
	if err != nil {
		return nil, err
	}
	f := &Front{
		name: "the OpenLeash at " + u.Scheme + "://" + u.Host + u.EscapedPath(), log: log, wait: frontWait,
		wake: make(chan struct{}, 1), room: make(chan struct{}, 1), open: map[string]*errand{},
	}
	f.far, err = newHTTPConn(context.Background(), HTTPUpstream{Name: f.name, URL: u.String(), Headers: map[string]string{"Authorization": "Bearer " + token}, Log: log})
	if err != nil {
		return nil, err
	}
	f.far.missed = f.missed
	// On a kept connection whose other end has just gone, a call could not be told
	// from one that was taken. On this machine new ones cost next to nothing.
	f.far.up.transport.DisableKeepAlives = u.Scheme == "http"
	return f, nil
}

// frontURL reads the address. A name other than localhost could be another
// machine's, whatever it looks like.
func frontURL(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("want an address such as http://127.0.0.1:8787/mcp/NAME") // not repeated: who knows what is in it
	}
	if u.User != nil {
		return nil, errors.New("the address has a user name or password in it; the token alone says who calls")
	}
	if ip := net.ParseIP(u.Hostname()); u.Scheme == "http" && u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("http://%s: the token would travel in the clear. Want https://, or http:// to this machine (127.0.0.1, [::1] or localhost)", u.Host)
	}
	u.Fragment = ""
	return u, nil
}

// Check asks once whether the other side is there and believes the token.
func (f *Front) Check(ctx context.Context) error {
	res, sent, err := f.far.up.do(ctx, http.MethodOptions, http.Header{"User-Agent": {"openleash"}}, nil, nil)
	if err != nil {
		return errors.New(f.words(unreached(f.far.up, err, sent)))
	}
	defer res.Body.Close()
	if away, ok := f.far.up.turnedAway(res); ok {
		return errors.New(f.words(refusedBy(res, away)))
	}
	if res.StatusCode == http.StatusMethodNotAllowed || res.StatusCode < 300 {
		return nil
	}
	raw, _ := readAnswer(res)
	return errors.New(f.words(noResponseIn(f.far.up, res, raw)))
}

// Name is what messages call the other side.
func (f *Front) Name() string { return f.name }

// Reached reports whether the other side has ever answered a message.
func (f *Front) Reached() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reached
}

// Serve relays until the host ends, or ctx; it is called once.
func (f *Front) Serve(ctx context.Context, host Conn) error {
	ctx, cancel := context.WithCancel(ctx)
	f.host = host
	hostEnd, farEnd, delivered := make(chan error, 1), make(chan error, 1), make(chan struct{})
	go func() { hostEnd <- f.readHost(ctx) }()
	go func() { farEnd <- f.readFar(ctx) }()
	go func() {
		f.deliver(ctx)
		close(delivered)
	}()
	defer func() {
		cancel()
		select {
		case <-delivered: // nothing is sent on what is being closed
		case <-time.After(time.Second): // the host does not read; after that it sends nothing either
		}
		f.far.Close()
		host.Close()
	}()
	select {
	case err := <-hostEnd:
		f.settle(ctx)
		return clean(err)
	case err := <-farEnd:
		return clean(err)
	case <-ctx.Done():
		return nil
	}
}

// settle lets the other side answer what it was asked, once the host has closed
// its end.
func (f *Front) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settleFor)
	defer cancel()
	for ctx.Err() == nil {
		f.mu.Lock()
		n := len(f.open) + len(f.queue)
		f.mu.Unlock()
		if n == 0 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// readHost takes the host's messages.
func (f *Front) readHost(ctx context.Context) error {
	for {
		m, err := f.host.Recv(ctx)
		var bad *BadMessage
		if errors.As(err, &bad) {
			f.toHost(ctx, bad.Reply())
			continue
		}
		if err != nil {
			return err
		}
		if err := f.roomFor(ctx, m); err != nil {
			return err
		}
		if refused := f.take(m); refused != nil {
			f.toHost(ctx, refused)
		}
		signal(f.wake)
	}
}

// roomFor waits until the queue can take a message.
func (f *Front) roomFor(ctx context.Context, m Message) error {
	for {
		f.mu.Lock()
		fits := len(f.queue) < maxWaiting && f.size+len(m.Raw) <= frontMessage || len(f.queue) == 0
		f.mu.Unlock()
		if fits {
			return nil
		}
		select {
		case <-f.room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// take queues a message of the host, unless it ends here.
func (f *Front) take(m Message) (refused []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last++
	e := &errand{m: m, n: f.last}
	switch {
	case m.IsRequest() && f.open[m.ID] != nil:
		return errorReply(m.ID, codeInvalidRequest, fmt.Sprintf("id %s is that of a request which has not been answered yet; use another", m.ID))
	case m.IsRequest():
		f.open[m.ID] = e
	case m.Method == "notifications/cancelled" && f.cancelled(m):
		return nil
	}
	f.push(e)
	if f.failures > 0 { // an attempt now, but not one a message
		f.retryAt = earlier(f.retryAt, time.Now().Add(retryFirst))
	}
	return nil
}

// cancelled forgets a request that its host has cancelled, and reports whether
// the other side has never heard of it. f.mu is held.
func (f *Front) cancelled(m Message) bool {
	e := f.open[idAt(m.Raw, "params", "requestId")]
	if e == nil {
		return false
	}
	delete(f.open, e.m.ID)
	return f.drop(func(queued *errand) bool { return queued == e }) > 0
}

// push puts an errand in its place. f.mu is held.
func (f *Front) push(e *errand) {
	i := len(f.queue)
	for i > 0 && f.queue[i-1].n > e.n {
		i--
	}
	f.queue = append(f.queue, nil)
	copy(f.queue[i+1:], f.queue[i:])
	f.queue[i], e.sent = e, false
	f.size += len(e.m.Raw)
}

// drop takes errands out of the queue and tells how many. f.mu is held.
func (f *Front) drop(which func(*errand) bool) int {
	kept := f.queue[:0]
	for _, e := range f.queue {
		if which(e) {
			f.size -= len(e.m.Raw)
			continue
		}
		kept = append(kept, e)
	}
	n := len(f.queue) - len(kept)
	clear(f.queue[len(kept):])
	f.queue = kept
	if n > 0 {
		signal(f.room)
	}
	return n
}

// deliver sends what waits, one after the other: a request departs before the
// next one does.
func (f *Front) deliver(ctx context.Context) {
	for ctx.Err() == nil {
		f.giveUp(ctx)
		m, pause := f.next(time.Now())
		if m == nil {
			select {
			case <-f.wake:
			case <-time.After(pause):
			case <-ctx.Done():
			}
			continue
		}
		f.mu.Lock()
		before := f.failures
		f.mu.Unlock()
		f.far.Send(ctx, *m)
		f.mu.Lock()
		f.sending = nil
		if f.failures == before {
			f.isBack()
		}
		f.mu.Unlock()
	}
}

// next takes the message that is to be sent now, or tells how long to wait.
func (f *Front) next(now time.Time) (*Message, time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case len(f.queue) == 0:
		return nil, time.Hour
	case f.greeting():
		return nil, retryWaited
	case now.Before(f.retryAt):
		return nil, min(f.retryAt.Sub(now), retryWaited)
	}
	f.sending = f.queue[0]
	f.drop(func(e *errand) bool { return e == f.sending })
	f.sending.sent = true
	if f.sending.m.Method == "initialize" {
		f.hello = f.sending
	}
	return &f.sending.m, 0
}

// greeting reports whether an initialize is on its way: what follows needs the
// session that its answer brings. f.mu is held.
func (f *Front) greeting() bool {
	return f.hello != nil && f.hello.sent && f.open[f.hello.m.ID] == f.hello
}

// giveUp answers the requests that have waited long enough.
func (f *Front) giveUp(ctx context.Context) {
	now := time.Now()
	f.mu.Lock()
	var late []*errand
	for _, e := range f.queue {
		switch {
		case f.failures == 0:
			e.deadline = time.Time{}
		case e.deadline.IsZero():
			e.deadline = now.Add(f.wait)
		case now.After(e.deadline):
			late = append(late, e)
		}
	}
	answers := f.refuse(late)
	f.mu.Unlock()
	for _, raw := range answers {
		f.toHost(ctx, raw)
	}
}

// refuse takes errands out of the queue and returns what their requests are
// answered. f.mu is held.
func (f *Front) refuse(these []*errand) (answers [][]byte) {
	refused := map[*errand]bool{}
	for _, e := range these {
		refused[e] = true
		if e.m.IsRequest() && f.open[e.m.ID] == e {
			delete(f.open, e.m.ID)
			answers = append(answers, errorReply(e.m.ID, codeInternal, f.reason))
		}
	}
	f.drop(func(e *errand) bool { return refused[e] })
	return answers
}

// missed sees to a message that the other side has not answered.
func (f *Front) missed(m Message, why unanswered) bool {
	f.mu.Lock()
	answers, seen := f.judge(m, why)
	f.mu.Unlock()
	for _, raw := range answers {
		f.toHost(context.Background(), raw)
	}
	signal(f.wake)
	return seen
}

// judge decides what becomes of it: it is sent again when nothing was done, and
// answered when something may have been. f.mu is held.
func (f *Front) judge(m Message, why unanswered) (answers [][]byte, seen bool) {
	e := f.errandOf(m)
	switch {
	case why.cause == notReached:
		f.isAway(f.words(why))
		if e != nil {
			f.push(e)
		}
		return nil, true
	case why.cause == brokenOff && e != nil && onlyAsks(m.Method) && !e.repeated:
		f.isAway(f.words(why))
		e.repeated = true
		f.push(e)
		return nil, true
	case e == nil || !m.IsRequest():
		return nil, true
	}
	f.log.Warn().Str("method", m.Method).Msg(f.words(why))
	delete(f.open, m.ID)
	return [][]byte{errorReply(m.ID, codeInternal, f.words(why))}, true
}

// onlyAsks tells the requests that can be repeated, whatever became of them.
func onlyAsks(method string) bool {
	return method == "initialize" || method == "ping" || method == "server/discover" || strings.HasSuffix(method, "/list")
}

// errandOf finds the errand of a message that was sent; nil when it was
// cancelled meanwhile, or is ours. f.mu is held.
func (f *Front) errandOf(m Message) *errand {
	e := f.sending
	if m.IsRequest() {
		e = f.open[m.ID]
	}
	if e == nil || len(m.Raw) == 0 || &e.m.Raw[0] != &m.Raw[0] {
		return nil
	}
	return e
}

// isAway notes that the other side could not be reached. f.mu is held.
func (f *Front) isAway(reason string) {
	if f.failures == 0 {
		f.log.Warn().Msg(reason)
	}
	limit := retryIdle
	if len(f.open) > 0 {
		limit = retryWaited
	}
	f.retryAt = time.Now().Add(min(retryFirst<<min(f.failures, 10), limit))
	f.failures++
	f.reason = reason
}

// isBack notes that it could. f.mu is held.
func (f *Front) isBack() {
	if f.failures > 0 {
		f.log.Info().Msg(f.name + " is there again")
	}
	f.failures, f.retryAt = 0, time.Time{}
}

// readFar passes on what the other side says.
func (f *Front) readFar(ctx context.Context) error {
	for {
		m, err := f.far.Recv(ctx)
		var bad *BadMessage
		if errors.As(err, &bad) {
			f.log.Warn().Msg(f.name + " wrote what is no JSON-RPC message; it is not passed on: " + bad.Reason)
			f.badAnswer(ctx, bad)
			continue
		}
		if err != nil {
			if ctx.Err() == nil {
				f.farewell(ctx, err)
			}
			return err
		}
		forHost := f.heard(m)
		signal(f.wake)
		if !forHost {
			continue
		}
		if err := f.host.Send(ctx, m); err != nil {
			return err
		}
	}
}

// heard notes a message of the other side. It is false for an answer to what the
// host has cancelled, or never asked.
func (f *Front) heard(m Message) (forHost bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reached = true
	f.isBack()
	switch {
	case m.IsResponse() && m.ID != "" && m.ID != "null":
		forHost = f.open[m.ID] != nil
		delete(f.open, m.ID)
		return forHost
	case m.Method == "notifications/cancelled":
		if e := f.open[idAt(m.Raw, "params", "requestId")]; e != nil && e.m.Method == "subscriptions/listen" {
			delete(f.open, e.m.ID) // the other side has ended it
		}
	}
	return true
}

// farewell answers all that the host has asked, once the other side has ended.
func (f *Front) farewell(ctx context.Context, reason error) {
	f.mu.Lock()
	ids := slices.Sorted(maps.Keys(f.open))
	clear(f.open)
	f.mu.Unlock()
	for _, id := range ids {
		f.toHost(ctx, errorReply(id, codeInternal, f.name+": "+reason.Error()))
	}
}

// badAnswer answers the request that a bad message was to answer.
func (f *Front) badAnswer(ctx context.Context, bad *BadMessage) {
	f.mu.Lock()
	e := f.open[bad.ID]
	answers := bad.Response && e != nil && e.sent
	if answers {
		delete(f.open, bad.ID)
	}
	f.mu.Unlock()
	if answers {
		f.toHost(ctx, errorReply(bad.ID, codeInternal, f.words(unanswered{cause: noResponse, short: "wrote what is no JSON-RPC message (" + bad.Reason + ")"})))
	}
}

// toHost sends a message of ours to the host.
func (f *Front) toHost(ctx context.Context, raw []byte) {
	m, err := ReadMessage(raw, anyMessage(raw))
	if err == nil {
		err = f.host.Send(ctx, m)
	}
	if err != nil && ctx.Err() == nil {
		f.log.Warn().Err(err).Msg("could not answer the host")
	}
}

// words say why there is no answer, whether something was done, and what to do.
func (f *Front) words(why unanswered) string {
	switch why.cause {
	case notReached:
		return fmt.Sprintf("%s cannot be reached (%s). Nothing was sent to it. Is `openleash start` running there, as the user that it belongs to? Once it runs, try again: the connection is made anew by itself", f.name, why.short)
	case brokenOff:
		return fmt.Sprintf("%s went away before it answered (%s). Whether this was done is not known: look before you repeat it. The connection is made anew by itself", f.name, why.short)
	case notBelieved:
		return fmt.Sprintf("%s does not accept the token (%s). Nothing was done. There, `openleash agents token NAME` makes a new one: put it into OPENLEASH_TOKEN or the token file, and start this server in the host again", f.name, why.short)
	}
	if why.undone {
		return f.name + " " + why.short + ". Nothing was done"
	}
	return f.name + " " + why.short + ". Whether this was done is not known: look before you repeat it"
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
