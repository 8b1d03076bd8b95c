package proxy

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
)

// What the owner does in a schedule: answers what a page has shown, gives standing
// grants and takes them back, looks at definitions.

// raceShown is what the owner was shown: a request, and the action of it.
type raceShown struct {
	request string
	action  action.Hash
}

// raceYes is what they have said yes to.
type raceYes struct {
	at        int // it began
	arguments string
}

func shownOf(r approvals.Request) raceShown { return raceShown{r.ID, r.ActionHash} }

// pending are the requests that wait, the newest first.
func (w *raceWorld) pending(status approvals.Status, limit int) []approvals.Request {
	list, err := w.store.Approvals(w.t.Context(), w.alice.ID, status, limit)
	if err != nil {
		w.fault("the requests cannot be read: %v", err)
	}
	return list
}

// page is what the owner has before them: often enough, it is from a while ago.
func (w *raceWorld) page(r *rand.Rand) []approvals.Request {
	now := w.pending(approvals.Pending, 6)
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.looked
	w.looked = now
	if len(before) > 0 && r.IntN(2) == 0 {
		return before
	}
	return now
}

// begins notes that the owner begins to answer. w.mu is not held.
func (w *raceWorld) begins(r approvals.Request, approve bool, what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := w.saw("the owner answers version %d of %s: %s", r.Version, r.ID, what)
	if _, was := w.yes[shownOf(r)]; approve && !was {
		w.yes[shownOf(r)] = raceYes{at, string(approvedArguments(r).Canonical())}
	}
}

// tooLate are the answers to an owner whom somebody was ahead of.
var tooLate = []error{approvals.ErrAnswered, approvals.ErrExpired, approvals.ErrReplaced, approvals.ErrWithdrawn, approvals.ErrSpent, authz.ErrNothingWait, authz.ErrOtherPin, authz.ErrPinsChanged}

// has notes what came of what the owner did.
func (w *raceWorld) has(err error, format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	late := false
	for _, known := range tooLate {
		late = late || errors.Is(err, known)
	}
	if err != nil && !late {
		w.fault("%s: %v", what, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.saw("the owner has %s: %v", what, err)
}

// say answers a request as it was shown.
func (w *raceWorld) say(r approvals.Request, approve bool) {
	w.begins(r, approve, fmt.Sprint(approve))
	_, err := w.owner.AnswerShown(w.t.Context(), "test:alice", r.ID, r.ActionHash, approve, "no")
	if !approve && err == nil {
		w.mu.Lock()
		w.denied[r.ID] = w.now()
		w.mu.Unlock()
	}
	w.has(err, "answered %s: %t", r.ID, approve)
}

func (w *raceWorld) approve(r *rand.Rand) {
	if list := w.page(r); len(list) > 0 {
		w.say(draw(r, list), true)
	}
}

func (w *raceWorld) deny(r *rand.Rand) {
	if list := w.page(r); len(list) > 0 {
		w.say(draw(r, list), false)
	}
}

func (w *raceWorld) answerTwice(r *rand.Rand) {
	if list := w.page(r); len(list) > 0 {
		request, first, second := draw(r, list), r.IntN(2) == 0, r.IntN(2) == 0
		var both sync.WaitGroup
		both.Go(func() { w.say(request, first) })
		both.Go(func() { w.say(request, second) })
		both.Wait()
	}
}

func (w *raceWorld) answerLate(r *rand.Rand) {
	if list := w.pending("", 12); len(list) > 0 {
		w.say(draw(r, list), r.IntN(3) > 0)
	}
}

// give gives a standing grant for a few calls, or for a time.
func (w *raceWorld) give(r *rand.Rand) {
	list := w.page(r)
	if len(list) == 0 {
		return
	}
	request, terms := draw(r, list), approvals.Terms{Uses: draw(r, []int{0, 2, 2, 3}), For: 2 * time.Hour}
	w.begins(request, true, fmt.Sprintf("a grant, %+v", terms))
	_, err := w.owner.Give(w.t.Context(), "test:alice", request.ID, request.ActionHash, terms)
	w.has(err, "given a grant on %s", request.ID)
}

// useGrant has all machines get a call for which there is a grant, at once: while the
// store is frozen, each of them sees the uses that are left.
func (w *raceWorld) useGrant(r *rand.Rand) {
	list, err := w.store.Grants(w.t.Context(), w.alice.ID, 3)
	if err != nil {
		w.fault("the grants cannot be read: %v", err)
	}
	list = slices.DeleteFunc(list, func(g approvals.Grant) bool { return g.Live(w.now()) != nil && r.IntN(6) > 0 })
	if len(list) == 0 {
		return
	}
	g, own := draw(r, list), rand.New(rand.NewPCG(r.Uint64(), 5))
	var frozen sync.WaitGroup
	defer frozen.Wait()
	frozen.Go(func() { w.freeze(own) })
	time.Sleep(5 * time.Millisecond)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.machines {
		w.begin(r, f, g.Request.AgentID, draw(r, raceHosts), variantOf(g.Request), nil)
	}
}

func variantOf(r approvals.Request) int {
	return slices.IndexFunc(raceArguments, func(spellings []string) bool {
		v, _ := action.Parse([]byte(spellings[0]), action.Limits{})
		return string(v.Canonical()) == string(approvedArguments(r).Canonical())
	})
}

func (w *raceWorld) withdrawGrant(r *rand.Rand) {
	list, err := w.store.Grants(w.t.Context(), w.alice.ID, 4)
	if err != nil {
		w.fault("the grants cannot be read: %v", err)
	}
	if len(list) > 0 {
		g := draw(r, list)
		_, err := w.owner.WithdrawGrant(w.t.Context(), "test:alice", g.ID, "")
		w.tookBack(err, g.ID, g.Request.ID)
	}
}

func (w *raceWorld) withdrawApproval(r *rand.Rand) {
	if list := w.pending(approvals.Approved, 4); len(list) > 0 {
		request := draw(r, list)
		_, err := w.owner.WithdrawApproval(w.t.Context(), "test:alice", request.ID, "")
		w.tookBack(err, request.ID, request.ID)
	}
}

// tookBack: what begins now does not run by it.
func (w *raceWorld) tookBack(err error, id, request string) {
	if err == nil {
		w.mu.Lock()
		w.withdrawn[id] = w.saw("%s is withdrawn", id)
		w.denied[request] = w.now()
		w.mu.Unlock()
	}
	w.has(err, "withdrawn %s", id)
}

// raceTools is a version of the definition of the tool.
type raceTools struct {
	version  int
	at       int  // since when
	known    bool // of a machine: a host of it has listed it; of the world: it was, by some
	accepted int  // when the owner has begun to accept one, whichever
}

// definition is what servers list, in its canonical form.
func definition(version int) string {
	return fmt.Sprintf(`{"description":"Buys, version %d.","inputSchema":{"type":"object"},"name":"buy"}`, version)
}

// toolsChange has each server tell that its tool is another, or an earlier one again,
// and each host list it. The first is listed before: that one is accepted by itself.
func (w *raceWorld) toolsChange(r *rand.Rand) {
	w.mu.Lock()
	defer w.mu.Unlock()
	version := w.tools.version + 1
	if r.IntN(3) == 0 {
		version = r.IntN(version)
	}
	if w.tools.known {
		w.listVersion(version)
	}
}

// listVersion has every server list that version. w.mu is held.
func (w *raceWorld) listVersion(version int) {
	w.tools.version, w.tools.at = version, w.saw("version %d of the tools", version)
	for _, s := range w.sessions {
		if s.alive() {
			s.send("upstream", `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`)
			s.list()
		}
	}
}

// list has a host list the tools.
func (s *raceTalk) list() { s.send("host", `{"jsonrpc":"2.0","id":"list","method":"tools/list"}`) }

// hasListed: what the host sees, its machine has compared with what is pinned.
func (w *raceWorld) hasListed(s *raceTalk, m Message) {
	_, text, _ := strings.Cut(string(m.Raw), "Buys, version ")
	text, _, ok := strings.Cut(text, ".")
	version, err := strconv.Atoi(text)
	if !ok || err != nil {
		return // the id was in use, or the server has ended
	}
	s.life.listed = raceTools{version: version, known: true, at: w.saw("session %d lists version %d of the tools", s.n, version)}
	w.tools.known = true
}

// lookAtTools accepts what waits, or refuses it, or goes back to what was accepted.
func (w *raceWorld) lookAtTools(r *rand.Rand) {
	v, pending := w.definition()
	if !pending {
		return
	}
	hash, accept := v.Pending.Hash, r.IntN(6) > 0
	if r.IntN(6) == 0 && v.Latest() != nil {
		hash, accept = v.Latest().Hash, true
	}
	w.sayOfTool(hash, accept)
}

func (w *raceWorld) definition() (v authz.Versions, pending bool) {
	book, err := w.store.PinBook(w.t.Context(), w.alice.ID, "shop")
	if err != nil {
		w.fault("the pins cannot be read: %v", err)
	}
	v, kept := book.Find(authz.PinTool, "buy")
	return v, kept && v.Pending != nil
}

func (w *raceWorld) sayOfTool(hash action.Hash, accept bool) {
	w.mu.Lock()
	at := w.saw("the owner answers %s: %t", hash, accept)
	if accept {
		w.tools.accepted, w.accepted[hash.String()] = at, true
	}
	w.mu.Unlock()
	_, err := w.owner.AnswerPin(w.t.Context(), "test:alice", authz.PinAnswer{Server: "shop", Kind: authz.PinTool, Name: "buy", Hash: hash, Accept: accept})
	w.has(err, "answered %s: %t", hash, accept)
}

// approveUntil has an owner who says yes to everything.
func (w *raceWorld) approveUntil(what string, is func() bool) {
	done := make(chan struct{})
	var owner sync.WaitGroup
	owner.Go(func() {
		for {
			if v, pending := w.definition(); pending {
				w.sayOfTool(v.Pending.Hash, true)
			}
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
