package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	// An upstream that ended is started again after restartFirst, then after
	// twice as long each time, restartMost at the most; from the beginning when it
	// has lived for restartReset.
	restartFirst = 500 * time.Millisecond
	restartMost  = 30 * time.Second
	restartReset = time.Minute
	// awaitRestart is how long a request waits for an upstream that is down.
	awaitRestart = 10 * time.Second
	// greetWithin is how long a new upstream may take to answer initialize: npx may
	// have to fetch it first.
	greetWithin = 60 * time.Second
)

// Keep starts an upstream and starts it again when it ends while its session
// lives, which goes on: what the upstream was asked and has not answered fails
// (lostRequests), nothing is ever sent again but the host's own handshake, its
// log level and its subscriptions to resources, which a new upstream knows nothing
// of, and the host is told that the lists may have changed. Where the first
// upstream ends before it has answered anything, the session ends: that one does
// not work.
//
// With idle, an upstream that is asked nothing for so long is ended, and started
// again for the next request.
func (p *Proxy) Keep(start func() (Conn, error), idle time.Duration) (Conn, error) {
	up, err := start()
	if err != nil {
		return nil, err
	}
	k := &kept{
		p: p, start: start, idle: idle,
		up: up, since: time.Now(), used: time.Now(), changed: make(chan struct{}), wake: make(chan struct{}, 1),
		asked: map[string]bool{}, memory: newMemory(p.Log, p.Name), said: make(chan struct{}),
	}
	close(k.said)
	k.alive, k.end = context.WithCancel(context.Background())
	if idle > 0 {
		k.timer = time.AfterFunc(idle, k.rest)
	}
	return k, nil
}

// kept is the Conn to an upstream that is started again and again. Recv does
// that: it is called by one goroutine, all the time.
type kept struct {
	p     *Proxy
	start func() (Conn, error)
	idle  time.Duration
	timer *time.Timer // nil without idle

	alive context.Context // until Close
	end   context.CancelFunc
	wake  chan struct{} // cap 1: somebody wants an upstream that rests

	// Owned by Recv.
	wait time.Duration // before the next start
	out  []Message     // for the host, of ours and from before the handshake's end

	mu      sync.Mutex
	up      Conn            // nil while there is none
	former  Conn            // the one before, or one whose handshake is under way: Close ends it too
	since   time.Time       // when up was started
	used    time.Time       // when it was last spoken to, or answered
	resting bool            // it has none because nobody asks
	worked  bool            // it has answered something
	down    error           // why there is none
	next    time.Time       // when one is started
	changed chan struct{}   // closed and replaced when there is one again, or another reason why not
	asked   map[string]bool // ids of the host's requests that it has not answered
	memory  memory          // what it knows, and has asked the host
	said    chan struct{}   // closed when up has been told all that the former one knew
}

// lostRequests are those that an upstream has not answered and will not.
type lostRequests struct {
	ids    []string
	reason string
}

func (l *lostRequests) Error() string { return l.reason }

// Recv returns the upstream's next message, whichever process it comes from.
func (k *kept) Recv(ctx context.Context) (Message, error) {
	for {
		if len(k.out) > 0 {
			m := k.out[0]
			k.out = k.out[1:]
			return m, nil
		}
		up := k.current()
		if up == nil {
			if err := k.revive(ctx); err != nil {
				return Message{}, err
			}
			continue
		}
		m, err := up.Recv(ctx)
		var bad *BadMessage
		switch {
		case err == nil:
			if m, ok := k.heard(m); ok {
				return m, nil
			}
			continue
		case errors.As(err, &bad), ctx.Err() != nil:
			return Message{}, err
		}
		if err := k.ended(up, err); err != nil {
			return Message{}, err
		}
	}
}

func (k *kept) current() Conn {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.up
}

// heard notes what the upstream has answered and asked.
func (k *kept) heard(m Message) (forHost Message, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if m.IsResponse() {
		k.worked, k.used = true, time.Now()
		delete(k.asked, m.ID)
	}
	return k.memory.heard(m)
}

// ended says what the end of an upstream means: nothing when it was put to
// rest, the end of the session when it was closed or has never worked, and lost
// requests.
func (k *kept) ended(up Conn, err error) error {
	fate := closed(up, err)
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.alive.Err() != nil:
		return io.EOF
	case k.resting:
		return nil
	case !k.worked:
		return fate
	}
	k.up, k.former = nil, up
	if time.Since(k.since) >= restartReset {
		k.wait = 0
	}
	k.wait = min(max(2*k.wait, restartFirst), restartMost)
	k.isDown(fate)
	lost := &lostRequests{ids: slices.Sorted(maps.Keys(k.asked)), reason: fate.Error() +
		"; it is being started again. Whether this was done is not known: look before you repeat it"}
	k.out = append(k.out, k.memory.lose("the server has ended")...)
	clear(k.asked)
	if len(lost.ids) == 0 {
		return nil
	}
	return lost
}

func fateOf(up Conn, err error) error {
	if f, ok := up.(interface{ Fate() error }); ok && f.Fate() != nil {
		return f.Fate()
	}
	if err == nil || errors.Is(err, io.EOF) {
		return errors.New("it closed the connection")
	}
	return err
}

// isDown notes why there is no upstream, and when the next is started. k.mu is
// held.
func (k *kept) isDown(why error) {
	k.down, k.next = why, time.Now().Add(k.wait)
	k.p.Log.Warn().Str("server", k.p.Name).Stringer("in", k.wait).AnErr("because", why).Msg("the server is started again")
	k.turn()
}

// turn wakes who waits for a change. k.mu is held.
func (k *kept) turn() {
	close(k.changed)
	k.changed = make(chan struct{})
}

// revive waits until an upstream is due or wanted, and starts it.
func (k *kept) revive(ctx context.Context) error {
	if err := k.due(ctx); err != nil {
		return err
	}
	up, err := k.start()
	if err == nil {
		err = k.greet(ctx, up)
	}
	if err == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.alive.Err() != nil {
		return io.EOF
	}
	k.resting = false
	k.wait = min(max(2*k.wait, restartFirst), restartMost)
	k.isDown(err)
	return nil
}

// due returns when it is time for a start.
func (k *kept) due(ctx context.Context) error {
	k.mu.Lock()
	resting, left := k.resting, time.Until(k.next)
	k.mu.Unlock()
	var wanted <-chan struct{}
	var passed <-chan time.Time
	if resting {
		wanted = k.wake
	} else {
		passed = time.After(left)
	}
	select {
	case <-wanted:
		return nil
	case <-passed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-k.alive.Done():
		return io.EOF
	}
}

// greet makes a new upstream what the host believes to have: "The
// initialization phase MUST be the first interaction between client and server"
// (2025-11-25, Lifecycle). The host's own words are said again; of the answers
// it sees nothing, since it has had them.
func (k *kept) greet(ctx context.Context, up Conn) error {
	k.mu.Lock()
	k.former = up // so that Close ends it
	hello, protocol := k.memory.hello, k.memory.protocol
	k.mu.Unlock()
	if k.alive.Err() != nil {
		up.Close()
		return io.EOF
	}
	if hello != nil {
		if err := k.shakeHands(ctx, up, *hello, protocol); err != nil {
			up.Close()
			return err
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.up, k.former, k.down, k.resting = up, nil, nil, false
	k.since, k.used, k.said = time.Now(), time.Now(), make(chan struct{})
	go k.remind(ctx, up, k.memory.again(), k.said)
	k.turn()
	k.p.forgetTools()
	k.out = append(k.out, k.memory.changed()...)
	k.p.Log.Info().Str("server", k.p.Name).Msg("the server runs again")
	return nil
}

// remind tells a new upstream the rest of what the former one knew. Beside it
// Recv goes on: who writes answers that nobody reads does not read either.
func (k *kept) remind(ctx context.Context, up Conn, all []Message, said chan struct{}) {
	defer close(said)
	for _, m := range all {
		if err := up.Send(ctx, m); err != nil {
			k.p.Log.Warn().Err(err).Str("server", k.p.Name).Str("method", m.Method).Msg("the server could not be told again what the host had told it")
			return // it has ended: Recv sees to it
		}
	}
}

// shakeHands sends initialize again and waits for its answer, which must agree
// on the version that the host speaks.
func (k *kept) shakeHands(ctx context.Context, up Conn, hello Message, protocol string) error {
	late := time.AfterFunc(greetWithin, func() { up.Close() })
	defer late.Stop()
	if err := up.Send(ctx, hello); err != nil {
		return err
	}
	for {
		m, err := up.Recv(ctx)
		var bad *BadMessage
		switch {
		case errors.As(err, &bad):
			continue
		case err != nil && !late.Stop():
			return fmt.Errorf("it did not answer initialize within %s", greetWithin)
		case err != nil:
			return closed(up, err)
		case m.IsNotification() && len(k.out) < maxWaiting:
			k.out = append(k.out, m) // its log, most likely
		case m.IsResponse() && m.ID == hello.ID:
			return sameAgreement(m, protocol)
		}
	}
}

// Ready waits until a request can be sent, and has an upstream that rests
// started. The error says why none will be there soon.
func (k *kept) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, awaitRestart)
	defer cancel()
	for {
		k.mu.Lock()
		up, down, changed := k.up, k.down, k.changed
		wait := time.Until(k.next)
		k.used = time.Now()
		if k.resting {
			wait = 0
			select {
			case k.wake <- struct{}{}:
			default:
			}
		}
		k.mu.Unlock()
		switch {
		case up != nil:
			return nil
		case wait > awaitRestart:
			return k.unavailable(down, wait)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return k.unavailable(down, wait)
		case <-k.alive.Done():
			return errors.New("the session has ended")
		}
	}
}

func (k *kept) unavailable(down error, wait time.Duration) error {
	if down == nil {
		return errors.New("it is being started, which takes long; nothing was done, try again")
	}
	return fmt.Errorf("%w; it is started again in %s. Nothing was done: try again after that", down, max(wait, 0).Round(time.Second/10))
}

// Down reports whether Ready would wait.
func (k *kept) Down() bool { return k.current() == nil }

// Send hands a message to the upstream that runs. What is no request and was
// meant for one that is no more is dropped: nobody is left whom it concerns.
func (k *kept) Send(ctx context.Context, m Message) error {
	to, err := k.address(m)
	if to.up == nil {
		return err
	}
	if !m.IsResponse() { // those wait for nothing: what is said again has asked nobody
		select {
		case <-to.said:
		case <-ctx.Done():
		}
	}
	if err := to.up.Send(ctx, to.m); err != nil {
		k.mu.Lock()
		delete(k.asked, m.ID)
		delete(k.memory.telling, m.ID)
		k.mu.Unlock()
		return err
	}
	return nil
}

// addressed is a message with the upstream that it goes to.
type addressed struct {
	m    Message
	up   Conn // nil: to none
	said <-chan struct{}
}

// address finds the upstream for a message and notes what it is.
func (k *kept) address(m Message) (addressed, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.up != nil || m.IsNotification() {
		k.memory.said(m)
	}
	if m.Method == "notifications/cancelled" {
		delete(k.asked, idAt(m.Raw, "params", "requestId"))
	}
	out, ok := k.memory.restore(m)
	if !ok {
		return addressed{}, nil // it concerns one who is no more
	}
	if m.IsResponse() {
		k.memory.answered(m.ID)
	}
	if k.up == nil {
		if m.IsRequest() {
			return addressed{}, k.unavailable(k.down, time.Until(k.next))
		}
		return addressed{}, nil
	}
	if m.IsRequest() {
		k.asked[m.ID] = true
	}
	k.used = time.Now()
	return addressed{out, k.up, k.said}, nil
}

// rest ends an upstream that nobody asks anything.
func (k *kept) rest() {
	k.mu.Lock()
	left := k.idle - time.Since(k.used)
	if len(k.asked) > 0 || len(k.memory.asked) > 0 || k.up == nil {
		left = k.idle
	}
	if left > 0 {
		k.timer.Reset(left)
		k.mu.Unlock()
		return
	}
	up := k.up
	k.up, k.former, k.resting, k.down = nil, up, true, nil
	k.memory.lose("") // it has asked nothing that is not answered
	k.timer.Reset(k.idle)
	k.mu.Unlock()
	k.p.Log.Info().Str("server", k.p.Name).Stringer("idle", k.idle).Msg("the server is ended until it is asked something")
	up.Close()
}

// Close ends the upstream, or the one that is being started.
func (k *kept) Close() error {
	k.end()
	if k.timer != nil {
		k.timer.Stop()
	}
	k.mu.Lock()
	up, former := k.up, k.former
	k.mu.Unlock()
	for _, c := range []Conn{up, former} {
		if c != nil {
			c.Close()
		}
	}
	return nil
}

// Fate is how the upstream ended, for Serve.
func (k *kept) Fate() error {
	k.mu.Lock()
	up := k.up
	k.mu.Unlock()
	if up == nil {
		return nil
	}
	return fateOf(up, nil)
}
