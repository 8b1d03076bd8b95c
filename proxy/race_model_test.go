package proxy

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
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
// real but hosts, servers, clocks. race_owner_test.go has what the owner does,
// race_back_test.go how hosts come back to a call that they were sent away with,
// race_check_test.go what must hold.
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
	{"call again", 10, (*raceWorld).callAgain},
	{"call in other words", 8, (*raceWorld).reword},
	{"use a grant", 8, (*raceWorld).useGrant},
	{"send the next round", 20, (*raceWorld).nextRound},
	{"come back with a leg", 12, (*raceWorld).nextLeg},
	{"ask for a task", 14, (*raceWorld).askTask},
	{"cancel a task", 8, (*raceWorld).cancelTask},
	{"cancel", 8, (*raceWorld).cancel},
	{"host ends", 2, (*raceWorld).hostEnds},
	{"server ends", 1, (*raceWorld).serverEnds},
	{"approve", 14, (*raceWorld).approve},
	{"deny", 4, (*raceWorld).deny},
	{"answer twice", 4, (*raceWorld).answerTwice},
	{"answer late", 2, (*raceWorld).answerLate},
	{"give a grant", 8, (*raceWorld).give},
	{"withdraw a grant", 2, (*raceWorld).withdrawGrant},
	{"withdraw an approval", 1, (*raceWorld).withdrawApproval},
	{"look at the tools", 8, (*raceWorld).lookAtTools},
	{"time passes", 1, (*raceWorld).timePasses},
	{"policy changes", 3, (*raceWorld).policyChanges},
	{"tools change", 3, (*raceWorld).toolsChange},
	{"machine restarts", 1, (*raceWorld).restart},
	{"store is frozen", 2, (*raceWorld).freeze},
}

const (
	raceMachines = 3
	raceMoments  = 40
	raceLongest  = time.Minute // what anything may take, on a busy machine too
)

var (
	raceAgents = []string{"ann", "bob"}
	// Calls in the spellings that hosts may use for each. The server asks back in
	// rounds; the mails are one in other words.
	raceArguments = [][]string{
		{`{"item":"tea","n":1.10}`, `{"n":1.10,"item":"tea"}`, `{ "item" : "\u0074ea", "n":1.10 }`},
		{`{"item":"tea","n":1.1}`},
		{`{"item":"coffee","n":9007199254740993}`},
		{`{"item":"cake","rounds":2}`, `{"rounds":2,"item":"cake"}`},
		{`{"to":"bob","text":"Hi Bob, a quick reminder: the quarterly report is due on Friday. Please send me your numbers by Thursday."}`},
		{`{"text":"Hello Bob, just a reminder that the quarterly report is due this Friday. Could you send me your numbers by Thursday?","to":"bob"}`},
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
	decisions map[string]*raceCall // that were executed
	effects   map[int64]string     // of the versions of the policy
	tools     raceTools
	looked    []approvals.Request    // a page at which the owner has looked
	yes       map[raceShown]raceYes  // that the owner has begun to say
	accepted  map[string]bool        // which definitions, by hash
	withdrawn map[string]int         // since when a grant or an approval is, by id
	denied    map[string]time.Time   // when a denial was on disk, by the clock of all
	ran       map[string][]*raceCall // by which request
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
	listed   raceTools // as a host of it has them
}

// A raceTalk is a session: the host's side and the server's.
type raceTalk struct {
	n        int
	machine  *raceFar
	life     *raceLife
	agent    string
	calls    map[string]*raceCall
	asked    map[string]*raceCall // about whose task, by the id of the question
	next     int
	hostGone bool
	ended    bool // the machine has said so, or is no more
}

func (s *raceTalk) alive() bool { return !s.hostGone && !s.ended && !s.life.ending }

// A raceCall is one message of a host that calls. The numbers are w.clock's; 0: never.
type raceCall struct {
	n         int // the server finds it by that
	id        string
	session   *raceTalk
	host      raceHost
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
	answer    string    // to the host
	answers   int
	refused   bool // by the answer: nothing was done

	raceBack
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
		decisions: map[string]*raceCall{}, effects: map[int64]string{}, yes: map[raceShown]raceYes{}, withdrawn: map[string]int{},
		denied: map[string]time.Time{}, accepted: map[string]bool{definitionHash(0): true}, ran: map[string][]*raceCall{}}
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
	begin := raceFrame{Kind: "begin", Number: f.w.offset.Load(), At: []int64{20, 20, 100, 1000}[r.IntN(4)], Mapped: r.IntN(10) == 0}
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
		s.list()
	case m.ID == `"list"`:
		w.hasListed(s, m)
	case s.asked[m.ID] != nil && m.IsResponse():
		w.aboutTask(s.asked[m.ID], m)
	case c != nil && m.IsResponse():
		w.toCaller(c, m)
	}
}

func (w *raceWorld) toCaller(c *raceCall, m Message) {
	code, _ := stringAt(m.Raw, "result", "structuredContent", "code")
	c.refused = code != "" && rawAt(m.Raw, "result", "isError") == "true"
	switch {
	case w.sentAway(c, m):
	case c.refused:
		c.answer = code
		if !slices.Contains([]string{"APPROVAL_REQUIRED", "APPROVAL_DENIED", "POLICY_DENIED", "TOOL_HELD"}, code) {
			reason, _ := stringAt(m.Raw, "result", "structuredContent", "reason")
			w.saw("%s: %s: %s", c, code, reason)
		}
	case rawAt(m.Raw, "error") != "":
		c.answer = "error " + rawAt(m.Raw, "error")
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
	case c.refused && c.executed > 0:
		w.broken("%s was executed, and is refused: %s", c, m.Raw)
	case (c.answer == "done" || c.wants != "") && c.executed == 0:
		w.broken("%s was not executed, and is answered: %s", c, m.Raw)
	}
}

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
		w.reply(s, m, `{"tools":[`+definition(w.tools.version)+`]}`)
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
	case "tasks/get", "tasks/cancel": // of a machine that is no more
		s.send("upstream", fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32602,"message":"no such task"}}`, m.ID))
	}
}

func (w *raceWorld) reply(s *raceTalk, m Message, result string) {
	s.send("upstream", fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, result))
}

// cancelPassed: what the host said behind a cancellation has reached the server.
func (w *raceWorld) cancelPassed(c *raceCall) {
	at := w.saw("%s: its cancellation has passed", c)
	if c.withdrawn == 0 && c.task == "" { // of a task it says nothing: that is for tasks/cancel
		c.withdrawn = at
	}
	if c.executed > 0 && c.told < c.executed {
		w.broken("%s was executed and cancelled, and its server has not heard of that", c)
	}
}

// execute is what a server does for a call: it looks at it, and answers soon.
func (w *raceWorld) execute(s *raceTalk, m Message) {
	n, _ := strconv.Atoi(rawAt(m.Raw, "params", "_meta", "call"))
	if n < 1 || n > len(w.calls) {
		w.broken("session %d: a call was executed that nobody made: %s", s.n, m.Raw)
		return
	}
	c := w.calls[n-1]
	again := c.executed > 0
	c.executed = w.saw("%s is executed", c)
	if again {
		w.broken("%s was executed twice", c)
	}
	w.checkExecution(c, s, m)
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
	s := &raceTalk{n: len(w.sessions) + 1, machine: f, life: f.life, agent: agent, calls: map[string]*raceCall{}, asked: map[string]*raceCall{}}
	w.sessions = append(w.sessions, s)
	w.saw("session %d of %s begins on %s", s.n, agent, s.life.name)
	s.life.send(raceFrame{Kind: "open", Session: s.n, Agent: agent})
	s.send("host", `{"jsonrpc":"2.0","id":"hello","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"host","version":"1"}}}`)
	return s
}

func (w *raceWorld) call(r *rand.Rand) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begin(r, draw(r, w.machines), draw(r, raceAgents), draw(r, raceHosts), r.IntN(len(raceArguments)), nil)
}

// begin has a host call; w.mu is held. from: it goes on with that.
func (w *raceWorld) begin(r *rand.Rand, f *raceFar, agent string, host raceHost, variant int, from *raceCall) *raceCall {
	s := w.session(r, agent, f)
	s.next++
	c := &raceCall{n: len(w.calls) + 1, id: fmt.Sprint(s.next), session: s, host: host, variant: variant}
	further := c.goOn(from)
	s.calls[c.id], w.calls = c, append(w.calls, c)
	c.sent = w.saw("%s: %s (%s) calls %s%s", c, agent, host, raceArguments[variant][0], further)
	s.send("host", fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":"tools/call","params":{"name":"buy","arguments":%s%s,"_meta":{"call":%d%s}}}`,
		c.id, draw(r, raceArguments[variant]), further, c.n, host.meta()))
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
		w.begin(r, draw(r, w.machines), c.session.agent, draw(r, raceHosts), c.variant, nil)
	}
}

// reword has a model write a mail, and say it in other words when nobody has answered.
// The mails are the last two.
func (w *raceWorld) reword(r *rand.Rand) {
	mails, f, agent := len(raceArguments)-2, draw(r, w.machines), draw(r, raceAgents)
	first := r.IntN(2)
	w.mu.Lock()
	c := w.begin(r, f, agent, draw(r, raceHosts), mails+first, nil)
	w.mu.Unlock()
	for range 30 {
		time.Sleep(5 * time.Millisecond)
		shown := w.pending(approvals.Pending, 6)
		w.mu.Lock()
		away := c.task != "" || c.leg != "" || c.answer == "APPROVAL_REQUIRED"
		if away {
			w.looked = shown
			w.begin(r, draw(r, w.machines), agent, draw(r, raceHosts), mails+1-first, nil)
		}
		w.mu.Unlock()
		if away {
			return
		}
	}
}

// nextRound answers a server that wants input, for the second time perhaps.
func (w *raceWorld) nextRound(r *rand.Rand) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c := w.some(r, func(c *raceCall) bool { return c.wants != "" }); c != nil {
		w.begin(r, draw(r, w.machines), c.session.agent, c.host, c.variant, c)
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
		for range 1 + r.IntN(6) {
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
	w.mu.Lock()
	w.listVersion(w.tools.version + 1)
	w.mu.Unlock()
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
				if c == nil || c.answer == "APPROVAL_REQUIRED" || c.answer == "TOOL_HELD" {
					last[k] = w.begin(r, w.machines[variant%raceMachines], agent, "plain", variant, nil)
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

// raceTally is what the schedules came to: how often.
type raceTally struct {
	mu        sync.Mutex
	schedules int
	calls     int
	executed  int
	by        map[string]int
}

// by* are what may come of calls.
const (
	byApproval   = "by approvals"
	byGrant      = "by standing grants"
	byVersion    = "as a later version of a request"
	byRound      = "as further rounds"
	byLeg        = "as legs"
	byTask       = "as tasks"
	byDefinition = "by a definition that was accepted"
	byCancel     = "withdrawn in time"
)

// raceAll is what must happen before the schedules of a test are enough.
var raceAll = []string{byApproval, byGrant, byVersion, byRound, byLeg, byTask, byDefinition, byCancel}

// missing are those kinds of which nothing has happened yet.
func (t *raceTally) missing(kinds []string) (list []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, kind := range kinds {
		if t.by[kind] == 0 {
			list = append(list, kind)
		}
	}
	return list
}

// races plays that many schedules, several at once: most of the time they wait. On a
// busy machine less comes of them: then it plays on until each of these kinds has
// happened, and eight times as many at most.
func races(t *testing.T, schedules int, start func(*raceWorld) raceStart, kinds ...string) {
	most := 8 * schedules
	if *raceSchedules > 0 {
		schedules, most = *raceSchedules, *raceSchedules
	}
	seed := *raceSeed
	if seed == 0 {
		seed = rand.Uint64() >> 16
	}
	t.Logf("-race.seed=%d", seed)
	tally := &raceTally{by: map[string]int{}}
	var next atomic.Int64
	another := func(n int) bool {
		return n < schedules || n < most && !t.Failed() && tally.missing(kinds) != nil
	}
	var all sync.WaitGroup
	for range *raceAtOnce {
		all.Go(func() {
			for n := next.Add(1) - 1; another(int(n)); n = next.Add(1) - 1 {
				w := newRaceWorld(t, seed+uint64(n), start)
				w.play()
				w.settle()
				w.check(tally)
				w.report()
			}
		})
	}
	all.Wait()
	t.Logf("%d schedules: %d calls, %d executed: %v", tally.schedules, tally.calls, tally.executed, tally.by)
	if missing := tally.missing(kinds); missing != nil && *raceSchedules == 0 {
		t.Errorf("too little happened: no call %s", strings.Join(missing, ", none "))
	}
}

// TestRaces: whatever happens while calls are held, each runs at most once, and only
// as it was approved.
func TestRaces(t *testing.T) {
	races(t, 16, inProcess, raceAll...)
	if left := leftovers(); left != nil {
		t.Errorf("goroutines were left behind:\n%s", strings.Join(left, "\n\n"))
	}
}
