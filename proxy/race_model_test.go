package proxy

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/internal/filelock"
	"github.com/openleash/openleash-go/proof"
	"github.com/openleash/openleash-go/store/sqlite"
)

// Random schedules of what happens while calls are held, by several machines on one
// home: hosts call, call again, cancel and go away, the owner answers, policies and
// definitions change, machines end and are started again, time passes. Everything is
// real but hosts, servers, clocks. race_check_test.go has what must hold.
//
// A schedule is a list of moments; what is in one moment happens at once. It follows
// from its seed (-race.seed), how the machines take it does not: run a seed often.
//
// A new kind of event is a line in raceEvents and a few lines that do it. What it
// changes of what may run is told in raceLog.check.

var (
	raceSchedules = flag.Int("race.schedules", 0, "how many schedules the race tests play; 0: a few")
	raceSeed      = flag.Uint64("race.seed", 0, "the seed of the first schedule; 0: any")
	raceAtOnce    = flag.Int("race.atonce", 3, "how many schedules are played at once")
	raceVerbose   = flag.Bool("race.verbose", false, "print what happened also when all is well")
)

// raceEvents and how often they are drawn.
var raceEvents = []struct {
	name   string
	weight int
	do     func(*raceWorld, *rand.Rand)
}{
	{"call", 16, (*raceWorld).call},
	{"call again", 14, (*raceWorld).callAgain},
	{"call in other words", 14, (*raceWorld).reword},
	{"send the next round", 14, (*raceWorld).nextRound},
	{"cancel", 8, (*raceWorld).cancel},
	{"host ends", 2, (*raceWorld).hostEnds},
	{"server ends", 1, (*raceWorld).serverEnds},
	{"approve", 24, (*raceWorld).approve},
	{"deny", 4, (*raceWorld).deny},
	{"answer twice", 4, (*raceWorld).answerTwice},
	{"answer late", 2, (*raceWorld).answerLate},
	{"give a standing grant", 12, (*raceWorld).give},
	{"withdraw", 4, (*raceWorld).withdraw},
	{"time passes", 1, (*raceWorld).timePasses},
	{"policy changes", 3, (*raceWorld).policyChanges},
	{"tools change", 2, (*raceWorld).toolsChange},
	{"answer the tools' change", 6, (*raceWorld).answerTools},
	{"machine restarts", 1, (*raceWorld).restart},
	{"store is frozen", 2, (*raceWorld).freeze},
}

const (
	raceMachines = 3
	raceMoments  = 45
	raceWordings = 4           // the first of raceArguments that are one in other words
	raceLongest  = time.Minute // what anything may take, on a busy machine too
)

var (
	raceAgents = []string{"ann", "bob"}
	// Calls in the spellings that hosts may use for each. The server asks back in rounds.
	// The last ones are one in other words.
	raceArguments = [][]string{
		{`{"item":"tea","n":1.10}`, `{"n":1.10,"item":"tea"}`, `{ "item" : "\u0074ea", "n":1.10 }`},
		{`{"item":"tea","n":1.1}`},
		{`{"item":"coffee","n":9007199254740993}`},
		{`{"item":"cake","rounds":2}`, `{"rounds":2,"item":"cake"}`},
		{`{"note":"please bring the large cake to the garden before noon today"}`},
		{`{"note":"please bring the large cake into the garden before it is noon today"}`, `{ "note" : "please bring the large cake into the garden before it is noon today" }`},
		{`{"note":"please, bring that large cake to our garden before noon today"}`},
	}
)

// raceWorld is one home, its machines, its owner, and all that was seen of it.
type raceWorld struct {
	t     *testing.T
	seed  uint64
	home  string
	store *sqlite.Store // the owner's: another process
	owner *authz.Service
	alice identity.Owner
	keys  []proof.PublicKey
	start func(*raceWorld) raceStart

	offset   atomic.Int64 // of all clocks, in milliseconds
	policyMu sync.Mutex   // of the file
	machines []*raceFar

	mu        sync.Mutex // of what follows
	random    *rand.Rand // for how servers behave
	clock     int        // counts what was seen
	history   []string
	faults    []string
	sessions  []*raceTalk
	calls     []*raceCall
	decisions map[string]*raceCall   // that were executed
	effects   map[int64]string       // of the versions of the policy
	tools     int                    // the version of the definitions
	answered  map[string]int         // when the owner's answer began, by request
	shown     map[string]action.Hash // what the owner saw of a request and said yes to, which counted
	denied    map[string]time.Time   // when a denial was on disk, by the clock of all
}

// A raceFar is a machine as the test has it. It is started anew when it ends.
type raceFar struct {
	w *raceWorld
	n int

	restarting sync.Mutex
	life       *raceLife // of w.mu
}

// A raceStart is a machine that was started.
type raceStart struct {
	in   io.Writer
	out  io.Reader
	kill func()
	wait func() error
}

// A raceLife is one of its starts.
type raceLife struct {
	raceStart
	name   string
	say    chan raceFrame // what it is to be told
	read   chan struct{}  // closed when all that it said was read
	ending bool           // it was told to, or killed
	killed bool
	// versions of the policy, and when they were seen to be in force
	versions []raceFrame
}

// A raceTalk is a session: the host's side and the server's.
type raceTalk struct {
	n        int
	machine  *raceFar
	life     *raceLife
	agent    string
	calls    map[string]*raceCall
	next     int
	hostGone bool
	ended    bool // the machine has said so, or is no more
}

func (s *raceTalk) alive() bool { return !s.hostGone && !s.ended && !s.life.ending }

// A raceCall is one message of a host that calls. The numbers are w.clock's; 0: never.
type raceCall struct {
	id        string
	session   *raceTalk
	variant   int
	sent      int
	cancelled int // the host has begun to
	withdrawn int // since then it must not run: the cancellation has passed, or the host was seen to be gone
	told      int // the server has heard of the cancellation
	executed  int
	decision  string
	first     *raceCall // of which it is another round
	state     string    // the requestState that it brings, as JSON
	wants     string    // the requestState that it was answered with
	modern    bool      // it speaks 2026-07-28
	answer    string    // to the host
	answers   int
	refused   bool // by the answer: nothing was done
}

func (c *raceCall) String() string { return fmt.Sprintf("call %s of %d", c.id, c.session.n) }

// saw notes what has happened. w.mu is held.
func (w *raceWorld) saw(format string, args ...any) int {
	w.clock++
	w.history = append(w.history, fmt.Sprintf("%4d %s", w.clock, fmt.Sprintf(format, args...)))
	return w.clock
}

func (w *raceWorld) fault(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken(format, args...)
}

// broken notes what must not be. w.mu is held.
func (w *raceWorld) broken(format string, args ...any) {
	w.faults = append(w.faults, fmt.Sprintf(format, args...))
	w.saw("BROKEN: "+format, args...)
}

func (w *raceWorld) now() time.Time {
	return time.Now().Add(time.Duration(w.offset.Load()) * time.Millisecond)
}

func newRaceWorld(t *testing.T, seed uint64, start func(*raceWorld) raceStart) *raceWorld {
	w := &raceWorld{t: t, seed: seed, home: t.TempDir(), start: start, random: rand.New(rand.NewPCG(seed, 1)),
		decisions: map[string]*raceCall{}, effects: map[int64]string{}, answered: map[string]int{}, shown: map[string]action.Hash{}, denied: map[string]time.Time{}}
	if err := os.Mkdir(filepath.Join(w.home, "policies"), 0o700); err != nil {
		t.Fatal(err)
	}
	w.write("ask")
	w.store = must(sqlite.Open(t.Context(), w.home))(t)
	w.alice = must(w.store.EnsureOwner(t.Context(), "alice"))(t)
	w.owner = must(authz.New(authz.Config{Store: w.store, Owner: w.alice, Now: w.now}))(t)
	key := must(proof.LoadOrCreate(filepath.Join(w.home, "keys"), time.Now()))(t)
	w.keys = []proof.PublicKey{key.Public()}
	for n := range raceMachines {
		f := &raceFar{w: w, n: n}
		w.machines = append(w.machines, f)
		f.begin(w.random)
	}
	return w
}

// begin starts a machine.
func (f *raceFar) begin(r *rand.Rand) {
	life := &raceLife{raceStart: f.w.start(f.w), say: make(chan raceFrame, 1<<14), read: make(chan struct{})}
	begin := raceFrame{Kind: "begin", Number: f.w.offset.Load(), At: []int64{100, 300, 1500}[r.IntN(3)], Mapped: r.IntN(4) == 0}
	life.say <- begin
	f.w.mu.Lock()
	life.name = fmt.Sprintf("machine %d (%d)", f.n, f.w.saw("machine %d begins, %+v", f.n, begin))
	f.life = life
	f.w.mu.Unlock()
	go life.write()
	go f.read(life)
}

func (l *raceLife) write() {
	for {
		select {
		case frame := <-l.say:
			line, _ := json.Marshal(frame)
			l.in.Write(append(line, '\n')) //nolint:errcheck // it may have ended
		case <-l.read:
			return
		}
	}
}

func (l *raceLife) send(frame raceFrame) {
	select {
	case l.say <- frame:
	case <-l.read:
	}
}

func (f *raceFar) read(life *raceLife) {
	defer close(life.read)
	for d := json.NewDecoder(life.out); ; {
		var frame raceFrame
		if err := d.Decode(&frame); err != nil {
			break
		}
		f.w.receive(f, life, frame)
	}
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	f.w.saw("%s is no more", life.name)
	if !life.ending {
		f.w.broken("%s ended by itself", life.name)
	}
	for _, s := range f.w.sessions {
		s.ended = s.ended || s.life == life
	}
}

// end stops a machine, or kills it, and waits until all was read that it has said.
func (f *raceFar) end(kill bool) {
	f.w.mu.Lock()
	life := f.life
	life.ending, life.killed = true, kill
	f.w.saw("%s is told to end (killed: %t)", life.name, kill)
	f.w.mu.Unlock()
	if !kill {
		life.send(raceFrame{Kind: "stop"})
	} else {
		life.kill()
	}
	select {
	case <-life.read:
	case <-time.After(raceLongest):
		f.w.fault("%s does not end", life.name)
	}
	if err := life.wait(); err != nil && !kill {
		f.w.fault("%s: %v", life.name, err)
	}
}

// receive takes what a machine says.
func (w *raceWorld) receive(f *raceFar, life *raceLife, frame raceFrame) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var s *raceTalk
	if frame.Session > 0 {
		s = w.sessions[frame.Session-1]
	}
	switch frame.Kind {
	case "policy":
		life.versions = append(life.versions, frame)
		w.saw("%s has version %d of the policy", life.name, frame.Number)
	case "host":
		w.toHost(s, frame.Raw)
	case "upstream":
		w.toServer(s, frame.Raw)
	case "gone":
		at := w.saw("session %d has seen that its host is gone, and held %v", s.n, frame.Held)
		for _, id := range frame.Held {
			if c := s.calls[id]; c != nil && c.withdrawn == 0 {
				c.withdrawn = at
			}
		}
	case "ended":
		w.saw("session %d has ended", s.n)
		s.ended = true
	case "stopped":
		if frame.Raw != "" {
			w.broken("%s has left goroutines behind:\n%s", life.name, frame.Raw)
		}
	default:
		w.broken("%s: %s: %s", life.name, frame.Kind, frame.Raw)
	}
}

// toHost is what a host gets.
func (w *raceWorld) toHost(s *raceTalk, raw string) {
	m, err := ReadMessage([]byte(raw), action.Limits{})
	if err != nil {
		w.broken("session %d: the host got what is no message: %v: %s", s.n, err, raw)
		return
	}
	c := s.calls[m.ID]
	switch {
	case m.ID == `"hello"`:
		s.send("host", `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	case c != nil && m.IsResponse():
		w.toCaller(c, m)
	}
}

func (w *raceWorld) toCaller(c *raceCall, m Message) {
	code, _ := stringAt(m.Raw, "result", "structuredContent", "code")
	c.refused = code != "" && rawAt(m.Raw, "result", "isError") == "true"
	switch {
	case c.refused:
		c.answer = code
		if !slices.Contains([]string{"APPROVAL_REQUIRED", "APPROVAL_DENIED", "POLICY_DENIED", "TOOL_HELD", "TOOL_REFUSED", "ALREADY_RUN"}, code) {
			reason, _ := stringAt(m.Raw, "result", "structuredContent", "reason")
			w.saw("%s: %s: %s", c, code, reason)
		}
	case rawAt(m.Raw, "error") != "":
		c.answer = "error " + rawAt(m.Raw, "error")
	case strings.HasPrefix(rawAt(m.Raw, "result", "requestState"), `"`+legPrefix):
		c.answer, c.wants = comesBack, rawAt(m.Raw, "result", "requestState")
	case rawAt(m.Raw, "result", "resultType") == `"input_required"`:
		c.answer, c.wants = "it wants input", rawAt(m.Raw, "result", "requestState")
	default:
		c.answer = "done"
	}
	c.answers++
	w.saw("%s is answered: %s", c, c.answer)
	switch {
	case c.answers > 1:
		w.broken("%s was answered twice", c)
	case (c.refused || c.answer == comesBack) && c.executed > 0:
		w.broken("%s was executed, and is refused: %s", c, m.Raw)
	case (c.answer == "done" || c.wants != "" && c.answer != comesBack) && c.executed == 0:
		w.broken("%s was not executed, and is answered: %s", c, m.Raw)
	}
}

// comesBack is the answer to a call that is sent away to come back by itself.
const comesBack = "it comes back"

func (s *raceTalk) send(kind, raw string) {
	s.life.send(raceFrame{Kind: kind, Session: s.n, Raw: raw})
}

// toServer is what a server gets.
func (w *raceWorld) toServer(s *raceTalk, raw string) {
	m, err := ReadMessage([]byte(raw), action.Limits{})
	if err != nil {
		w.broken("session %d: the server got what is no message: %v: %s", s.n, err, raw)
		return
	}
	switch m.Method {
	case "initialize":
		w.reply(s, m, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"shop","version":"1"}}`)
	case "tools/list":
		w.reply(s, m, fmt.Sprintf(`{"tools":[{"name":"buy","description":"Buys, version %d.","inputSchema":{"type":"object"}}]}`, w.tools))
	case "ping":
		if id, ok := strings.CutPrefix(m.ID, `"behind `); ok { // a cancellation
			w.cancelPassed(s.calls[strings.TrimSuffix(id, `"`)])
		}
		w.reply(s, m, `{}`)
	case "notifications/cancelled":
		if c := s.calls[idAt(m.Raw, "params", "requestId")]; c != nil {
			c.told = w.saw("%s: its server hears that it is cancelled", c)
		}
	case "tools/call":
		w.execute(s, m)
	}
}

func (w *raceWorld) reply(s *raceTalk, m Message, result string) {
	s.send("upstream", fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, result))
}

// cancelPassed: what the host said behind a cancellation has reached the server.
func (w *raceWorld) cancelPassed(c *raceCall) {
	at := w.saw("%s: its cancellation has passed", c)
	if c.withdrawn == 0 {
		c.withdrawn = at
	}
	if c.executed > 0 && c.told < c.executed {
		w.broken("%s was executed and cancelled, and its server has not heard of that", c)
	}
}

// execute is what a server does for a call: it looks at it, and answers soon.
func (w *raceWorld) execute(s *raceTalk, m Message) {
	c := s.calls[m.ID]
	if c == nil {
		w.broken("session %d: a call was executed that nobody made: %s", s.n, m.Raw)
		return
	}
	again := c.executed > 0
	c.executed = w.saw("%s is executed", c)
	if again {
		w.broken("%s was executed twice", c)
	}
	w.checkExecution(c, m)
	result := `{"content":[]}`
	if asked, _ := stringAt(m.Raw, "params", "requestState"); strings.Contains(rawAt(m.Raw, "params", "arguments"), "rounds") && len(asked) < 2 {
		result = fmt.Sprintf(`{"resultType":"input_required","requestState":"%s","inputRequests":{"a":{"method":"roots/list"}}}`, asked+"s")
	}
	delay := time.Duration(w.random.IntN(3)*w.random.IntN(12)) * time.Millisecond
	time.AfterFunc(delay, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.reply(s, m, result)
	})
}

// The events.

func draw[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// session is one of an agent's that is alive, or a new one.
func (w *raceWorld) session(r *rand.Rand, agent string, f *raceFar) *raceTalk {
	var mine []*raceTalk
	for _, s := range w.sessions {
		if s.alive() && s.agent == agent && s.machine == f {
			mine = append(mine, s)
		}
	}
	if len(mine) > 1 || len(mine) == 1 && r.IntN(3) > 0 {
		return draw(r, mine)
	}
	s := &raceTalk{n: len(w.sessions) + 1, machine: f, life: f.life, agent: agent, calls: map[string]*raceCall{}}
	w.sessions = append(w.sessions, s)
	w.saw("session %d of %s begins on %s", s.n, agent, s.life.name)
	s.life.send(raceFrame{Kind: "open", Session: s.n, Agent: agent})
	s.send("host", `{"jsonrpc":"2.0","id":"hello","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"host","version":"1"}}}`)
	return s
}

func (w *raceWorld) call(r *rand.Rand) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begin(r, draw(r, w.machines), draw(r, raceAgents), r.IntN(len(raceArguments)), nil)
}

// begin has a host call; w.mu is held. first: it is the next round of that.
func (w *raceWorld) begin(r *rand.Rand, f *raceFar, agent string, variant int, first *raceCall) *raceCall {
	s := w.session(r, agent, f)
	s.next++
	c := &raceCall{id: fmt.Sprint(s.next), session: s, variant: variant, first: first, modern: r.IntN(3) == 0}
	further := ""
	if first != nil {
		c.modern, c.state, further = first.modern, first.wants, fmt.Sprintf(`,"requestState":%s`, first.wants)
		if first.answer != comesBack {
			further += `,"inputResponses":{"a":{"roots":[]}}`
		}
	}
	if c.modern {
		further += `,"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"host","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}`
	}
	s.calls[c.id], w.calls = c, append(w.calls, c)
	c.sent = w.saw("%s: %s calls %s%s", c, agent, raceArguments[variant][0], further)
	s.send("host", fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":"tools/call","params":{"name":"buy","arguments":%s%s}}`, c.id, draw(r, raceArguments[variant]), further))
	return c
}

// some is a call of the last ones, for which that is true. w.mu is held.
func (w *raceWorld) some(r *rand.Rand, is func(*raceCall) bool) *raceCall {
	var list []*raceCall
	for _, c := range w.calls[max(0, len(w.calls)-30):] {
		if is(c) {
			list = append(list, c)
		}
	}
	if list == nil {
		return nil
	}
	return draw(r, list)
}

func (w *raceWorld) callAgain(r *rand.Rand) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c := w.some(r, func(c *raceCall) bool { return c.first == nil && c.executed == 0 }); c != nil {
		w.begin(r, draw(r, w.machines), c.session.agent, c.variant, nil)
	}
}

// reword makes a call in other words that nobody waits for any more.
func (w *raceWorld) reword(r *rand.Rand) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c := w.some(r, func(c *raceCall) bool { return c.variant >= raceWordings && c.answers > 0 && c.executed == 0 }); c != nil {
		w.begin(r, draw(r, w.machines), c.session.agent, raceWordings+r.IntN(len(raceArguments)-raceWordings), nil)
	} else {
		w.begin(r, draw(r, w.machines), draw(r, raceAgents), raceWordings, nil)
	}
}

// nextRound answers a server that wants input, or comes back, for the second time
// perhaps.
func (w *raceWorld) nextRound(r *rand.Rand) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c := w.some(r, func(c *raceCall) bool { return c.wants != "" }); c != nil {
		w.begin(r, draw(r, w.machines), c.session.agent, c.variant, c)
	}
}

func (c *raceCall) waits() bool { return c.answers == 0 && c.cancelled == 0 && c.session.alive() }

func (w *raceWorld) cancel(r *rand.Rand) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.some(r, (*raceCall).waits)
	if c == nil {
		return
	}
	c.cancelled = w.saw("%s is cancelled", c)
	c.session.send("host", fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%s}}`, c.id))
	c.session.send("host", fmt.Sprintf(`{"jsonrpc":"2.0","id":"behind %s","method":"ping"}`, c.id))
}

func (w *raceWorld) hostEnds(r *rand.Rand) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c := w.some(r, (*raceCall).waits); c != nil {
		w.saw("session %d: its host goes away", c.session.n)
		c.session.hostGone = true
		c.session.send("host ends", "")
	}
}

func (w *raceWorld) serverEnds(r *rand.Rand) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c := w.some(r, (*raceCall).waits); c != nil {
		w.saw("session %d: its server ends", c.session.n)
		c.session.send("upstream ends", "")
	}
}

// pending are the requests that wait, the newest first.
func (w *raceWorld) pending(status approvals.Status, limit int) []approvals.Request {
	list, err := w.store.Approvals(w.t.Context(), w.alice.ID, status, limit)
	if err != nil {
		w.fault("the requests cannot be read: %v", err)
	}
	return list
}

// say answers a request as it was shown.
func (w *raceWorld) say(r approvals.Request, approve bool) {
	w.answer(r, approve, fmt.Sprintf("%t", approve), func() error {
		_, err := w.owner.AnswerShown(w.t.Context(), "test:alice", r.ID, r.ActionHash, approve, "no")
		return err
	})
}

// answer has the owner answer a request, in the way that do does it.
func (w *raceWorld) answer(r approvals.Request, approve bool, how string, do func() error) {
	w.mu.Lock()
	at := w.saw("the owner answers version %d of %s: %s", r.Version, r.ID, how)
	if _, was := w.answered[r.ID]; !was {
		w.answered[r.ID] = at
	}
	w.mu.Unlock()
	err := do()
	if err != nil && !slices.ContainsFunc(inVainFor, func(late error) bool { return errors.Is(err, late) }) {
		w.fault("answering %s: %v", r.ID, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil && approve {
		w.shown[r.ID] = r.ActionHash
	} else if err == nil {
		w.denied[r.ID] = w.now()
	}
	w.saw("the owner has answered %s: %s, %v", r.ID, how, err)
}

// inVainFor is why an answer may come too late.
var inVainFor = []error{approvals.ErrAnswered, approvals.ErrExpired, approvals.ErrReplaced, approvals.ErrSpent, approvals.ErrWithdrawn}

func (w *raceWorld) approve(r *rand.Rand) {
	if list := w.pending(approvals.Pending, 6); len(list) > 0 {
		w.say(draw(r, list), true)
	}
}

func (w *raceWorld) deny(r *rand.Rand) {
	if list := w.pending(approvals.Pending, 6); len(list) > 0 {
		w.say(draw(r, list), false)
	}
}

// give approves for more than once.
func (w *raceWorld) give(r *rand.Rand) {
	if list := w.pending(approvals.Pending, 6); len(list) > 0 {
		req, uses := draw(r, list), 2+r.IntN(2)
		w.answer(req, true, fmt.Sprintf("%d times", uses), func() error {
			_, err := w.owner.Give(w.t.Context(), "test:alice", req.ID, req.ActionHash, approvals.Terms{Uses: uses})
			return err
		})
	}
}

// withdraw takes back a standing grant, or an approval that was not used yet.
func (w *raceWorld) withdraw(r *rand.Rand) {
	if list := w.pending(approvals.Approved, 6); len(list) > 0 && r.IntN(3) == 0 {
		req := draw(r, list)
		w.answer(req, false, "withdrawn", func() error {
			_, err := w.owner.WithdrawApproval(w.t.Context(), "test:alice", req.ID, "")
			return err
		})
		return
	}
	grants, err := w.store.Grants(w.t.Context(), w.alice.ID, 4)
	if err != nil {
		w.fault("the grants cannot be read: %v", err)
	}
	if len(grants) > 0 {
		g := draw(r, grants)
		w.answer(g.Request, false, "its grant is withdrawn", func() error {
			_, err := w.owner.WithdrawGrant(w.t.Context(), "test:alice", g.ID, "")
			return err
		})
	}
}

func (w *raceWorld) answerTwice(r *rand.Rand) {
	if list := w.pending(approvals.Pending, 6); len(list) > 0 {
		req, first := draw(r, list), r.IntN(2) == 0
		var both sync.WaitGroup
		both.Go(func() { w.say(req, first) })
		both.Go(func() { w.say(req, r.IntN(2) == 0) })
		both.Wait()
	}
}

func (w *raceWorld) answerLate(r *rand.Rand) {
	if list := w.pending("", 12); len(list) > 0 {
		w.say(draw(r, list), r.IntN(3) > 0)
	}
}

// timePasses lets a denial lose its force, a grant, or a request.
func (w *raceWorld) timePasses(r *rand.Rand) {
	w.pass(draw(r, []time.Duration{16 * time.Minute, 61 * time.Minute, 25 * time.Hour}))
}

func (w *raceWorld) pass(d time.Duration) {
	now := w.offset.Add(d.Milliseconds())
	w.mu.Lock()
	defer w.mu.Unlock()
	w.saw("%s pass", d)
	for _, f := range w.machines {
		f.life.send(raceFrame{Kind: "clock", Number: now})
	}
}

var racePolicies = map[string]string{
	"ask":   `{id: ask-%d, effect: allow, action: "*", obligations: [{type: HUMAN_APPROVAL}]}`,
	"allow": `{id: allow-%d, effect: allow, action: "*"}`,
	"deny":  `{id: deny-%d, effect: deny, action: "*"}`,
}

func (w *raceWorld) policyChanges(r *rand.Rand) {
	w.write(draw(r, []string{"ask", "ask", "ask", "allow", "deny"}))
}

// write replaces the policy.
func (w *raceWorld) write(effect string) (version int64) {
	w.policyMu.Lock()
	defer w.policyMu.Unlock()
	w.mu.Lock()
	version = int64(len(w.effects) + 1)
	w.effects[version] = effect
	w.saw("the policy is written: %s-%d", effect, version)
	w.mu.Unlock()
	text := fmt.Sprintf("version: 1\ndefault: deny\nrules:\n  - "+racePolicies[effect]+"\n", version)
	file := filepath.Join(w.home, "next.yaml")
	err := os.WriteFile(file, []byte(text), 0o600)
	if err == nil {
		err = os.Rename(file, filepath.Join(w.home, "policies", "main.yaml"))
	}
	if err != nil {
		w.fault("writing the policy: %v", err)
	}
	return version
}

// toolsChange has each server tell that its tool is another, and each host list it.
func (w *raceWorld) toolsChange(*rand.Rand) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tools++
	w.saw("version %d of the tools", w.tools)
	for _, s := range w.sessions {
		if s.alive() {
			s.send("upstream", `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`)
			s.send("host", fmt.Sprintf(`{"jsonrpc":"2.0","id":"list %d","method":"tools/list"}`, w.tools))
		}
	}
}

func (w *raceWorld) answerTools(r *rand.Rand) {
	w.sayOfTools(func() bool { return r.IntN(4) > 0 })
}

// sayOfTools accepts, or refuses, what was not accepted of the definitions.
func (w *raceWorld) sayOfTools(accepts func() bool) {
	book, err := w.store.PinBook(w.t.Context(), w.alice.ID, "shop")
	if err != nil {
		w.fault("the definitions cannot be read: %v", err)
	}
	for _, v := range book.All() {
		if v.Pending == nil {
			continue
		}
		answer := authz.PinAnswer{Server: "shop", Kind: v.Kind, Name: v.Name, Hash: v.Pending.Hash, Accept: accepts()}
		_, err := w.owner.AnswerPin(w.t.Context(), "test:alice", answer)
		if err != nil && !errors.Is(err, authz.ErrOtherPin) && !errors.Is(err, authz.ErrNothingWait) && !errors.Is(err, authz.ErrPinsChanged) {
			w.fault("answering a definition: %v", err)
		}
		w.mu.Lock()
		w.saw("the owner has said of the definition %s: %t, %v", answer.Hash, answer.Accept, err)
		w.mu.Unlock()
	}
}

func (w *raceWorld) restart(r *rand.Rand) {
	f := draw(r, w.machines)
	f.restarting.Lock()
	defer f.restarting.Unlock()
	f.end(r.IntN(3) > 0)
	f.begin(r)
}

// freeze keeps everybody from the store's transactions for a moment.
func (w *raceWorld) freeze(r *rand.Rand) {
	q, err := filelock.OpenQueue(filepath.Join(w.home, "write.lock"))
	if err != nil {
		w.fault("the store's lock: %v", err)
		return
	}
	defer q.Close()
	w.mu.Lock()
	w.saw("the store is frozen")
	w.mu.Unlock()
	if err := q.Lock(); err != nil {
		w.fault("the store's lock: %v", err)
		return
	}
	time.Sleep(time.Duration(10+r.IntN(120)) * time.Millisecond)
	if err := q.Unlock(); err != nil {
		w.fault("the store's lock: %v", err)
	}
}

// play plays the schedule of the seed.
func (w *raceWorld) play() {
	r := rand.New(rand.NewPCG(w.seed, 2))
	weights := 0
	for _, e := range raceEvents {
		weights += e.weight
	}
	for range raceMoments {
		var moment sync.WaitGroup
		for range 1 + r.IntN(4) {
			n, i := r.IntN(weights), 0
			for ; n >= raceEvents[i].weight; i++ {
				n -= raceEvents[i].weight
			}
			own, wait := rand.New(rand.NewPCG(r.Uint64(), 3)), time.Duration(r.IntN(3)*r.IntN(1000))*time.Microsecond
			moment.Go(func() {
				time.Sleep(wait)
				raceEvents[i].do(w, own)
			})
		}
		moment.Wait()
		time.Sleep(time.Duration(r.IntN(3)*r.IntN(40)) * time.Millisecond)
	}
}

// settle comes to rest, and has each call made once more: each is asked for, approved,
// and executed once. Then everything ends.
func (w *raceWorld) settle() {
	r := rand.New(rand.NewPCG(w.seed, 4))
	version := w.write("ask")
	w.until("the last policy is in force", func() bool {
		return !slices.ContainsFunc(w.machines, func(f *raceFar) bool {
			seen := f.life.versions
			return len(seen) == 0 || seen[len(seen)-1].Number < version
		})
	})
	w.pass(16 * time.Minute)
	w.approveUntil("every call that waits is answered", func() bool { return !slices.ContainsFunc(w.calls, (*raceCall).waits) })
	w.pass(25 * time.Hour)
	w.approveUntil("each call is executed once more", w.onceMore(r))
	for _, f := range w.machines {
		f.end(false)
	}
	if err := w.owner.Close(); err != nil {
		w.fault("the owner's service: %v", err)
	}
}

// onceMore has each agent make each call until it is executed, which is when the owner
// has answered, and by one machine: another may take it for another action. It returns
// whether all were. w.mu is held when it is called.
func (w *raceWorld) onceMore(r *rand.Rand) func() bool {
	type kind struct {
		agent   string
		variant int
	}
	last := map[kind]*raceCall{}
	return func() bool {
		done := true
		for _, agent := range raceAgents {
			for variant := range raceArguments {
				k := kind{agent, variant}
				c := last[k]
				f := w.machines[variant%raceMachines]
				switch {
				case c == nil, slices.Contains([]string{"APPROVAL_REQUIRED", "TOOL_HELD", "ALREADY_RUN"}, c.answer):
					last[k] = w.begin(r, f, agent, variant, nil)
				case c.answer == comesBack:
					last[k] = w.begin(r, f, agent, variant, c)
				}
				done = done && c != nil && c.answers > 0 && c.executed > 0
			}
		}
		return done
	}
}

// until waits for what is looked at under w.mu.
func (w *raceWorld) until(what string, is func() bool) bool {
	for end := time.Now().Add(raceLongest); ; time.Sleep(5 * time.Millisecond) {
		w.mu.Lock()
		done := is()
		w.mu.Unlock()
		if done {
			return true
		}
		if time.Now().After(end) {
			w.fault("never: %s", what)
			return false
		}
	}
}

// approveUntil has an owner who says yes to everything.
func (w *raceWorld) approveUntil(what string, is func() bool) {
	done := make(chan struct{})
	var owner sync.WaitGroup
	owner.Go(func() {
		for {
			w.sayOfTools(func() bool { return true })
			for _, r := range w.pending(approvals.Pending, 0) {
				if r.At(w.now()) == approvals.Pending {
					w.say(r, true)
				}
			}
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	w.until(what, is)
	close(done)
	owner.Wait()
}

// report tells what was broken, and how it came to that.
func (w *raceWorld) report() {
	w.t.Helper()
	if len(w.faults) == 0 && !*raceVerbose {
		return
	}
	history := w.history
	if len(history) > 400 && !*raceVerbose {
		history = history[len(history)-400:]
	}
	w.t.Logf("-race.seed=%d -race.schedules=1\n%s", w.seed, strings.Join(history, "\n"))
	for _, fault := range w.faults {
		w.t.Error(fault)
	}
}

// inProcess starts a machine in this process. It is killed as far as that goes here.
func inProcess(w *raceWorld) raceStart {
	in, inFar := io.Pipe()
	outFar, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := runRaceMachine(w.home, in, out, false)
		in.Close()
		out.Close()
		ended <- err
	}()
	return raceStart{inFar, outFar, func() { inFar.Close() }, func() error { return <-ended }}
}

// raceTally is what the schedules came to.
type raceTally struct {
	mu                                                        sync.Mutex
	schedules, calls, executed, byApproval, rounds, withdrawn int
	uses, versions, reworded, legs, definitions               int
}

// littleHappened tells what did not happen at all.
func (t *raceTally) littleHappened() (what []string) {
	for name, n := range map[string]int{"approvals": t.byApproval, "rounds": t.rounds, "withdrawals": t.withdrawn, "uses of grants": t.uses,
		"versions": t.versions, "legs": t.legs, "definitions": t.definitions} {
		if n == 0 {
			what = append(what, name)
		}
	}
	return what
}

// races plays schedules, several at once: most of the time they wait.
func races(t *testing.T, schedules, atOnce int, start func(*raceWorld) raceStart) *raceTally {
	if *raceSchedules > 0 {
		schedules = *raceSchedules
	}
	seed := *raceSeed
	if seed == 0 {
		seed = rand.Uint64() >> 16
	}
	t.Logf("-race.seed=%d", seed)
	tally := &raceTally{}
	var next atomic.Uint64
	var all sync.WaitGroup
	for range atOnce {
		all.Go(func() {
			for n := next.Add(1); n <= uint64(schedules); n = next.Add(1) {
				w := newRaceWorld(t, seed+n-1, start)
				w.play()
				w.settle()
				w.check(tally)
				w.report()
			}
		})
	}
	all.Wait()
	t.Logf("%d schedules: %d calls, %d executed, %d of them by approvals, %d as further rounds, %d by standing grants, %d of %d other wordings, %d in legs, %d by changed definitions; %d were withdrawn in time",
		tally.schedules, tally.calls, tally.executed, tally.byApproval, tally.rounds, tally.uses, tally.reworded, tally.versions, tally.legs, tally.definitions, tally.withdrawn)
	return tally
}

// TestRaces: whatever happens while calls are held, each runs at most once, and only
// as it was approved.
func TestRaces(t *testing.T) {
	tally := races(t, 24, *raceAtOnce, inProcess)
	if few := tally.littleHappened(); *raceSchedules == 0 && (few != nil || tally.byApproval < 50*24/10) {
		t.Errorf("too little happened: %d approvals, none of %q", tally.byApproval, few)
	}
	if left := leftovers(); left != nil {
		t.Errorf("goroutines were left behind:\n%s", strings.Join(left, "\n\n"))
	}
}
