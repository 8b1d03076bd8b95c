package proxy

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/proof"
)

// What must hold of every schedule. Beside it, in race_model_test.go: a call is
// answered once, a refusal means that it was not executed, the server of an executed
// call hears of its cancellation, everything comes to rest.

// checkExecution looks at what a server got, when it gets it: the call that its host
// sent, decided on before, and by an approval that is spent on disk by then. w.mu is
// held.
func (w *raceWorld) checkExecution(c *raceCall, m Message) {
	v, err := action.Parse(m.Raw, action.Limits{})
	if err != nil {
		w.broken("%s is executed as what is no message: %v", c, err)
		return
	}
	params := v.Get("params")
	sent, _ := action.Parse([]byte(raceArguments[c.variant][0]), action.Limits{})
	args := params.Get("arguments")
	claims, err := proof.Verify(params.Get("_meta").Get(ProofKey).Text(), proof.Expect{Keys: w.keys, Now: w.now(), Leeway: 1000 * time.Hour,
		AnyAudience: true, AgentID: c.session.agent, CallHash: action.CallHash("buy", args)})
	switch {
	case err != nil:
		w.broken("%s: its proof: %v", c, err)
		return
	case string(args.Canonical()) != string(sent.Canonical()):
		w.broken("%s is executed with %s, and was sent with %s", c, args.Canonical(), sent.Canonical())
	case c.withdrawn > 0:
		w.broken("%s is executed at %d, and was withdrawn at %d", c, c.executed, c.withdrawn)
	case c.session.ended:
		w.broken("%s is executed after the end of its session", c)
	case w.decisions[claims.DecisionID] != nil:
		w.broken("%s is executed by the decision by which %s was", c, w.decisions[claims.DecisionID])
	case c.first != nil && strings.Trim(params.Get(requestState).Text(), "s") != "":
		w.broken("%s: its server got the requestState %q, which it never gave", c, params.Get(requestState).Text())
	}
	c.decision = claims.DecisionID
	w.decisions[claims.DecisionID] = c
	if claims.Approval != nil {
		w.checkApproved(c, claims, args)
	}
}

// checkApproved looks at the approval that a call is executed by.
func (w *raceWorld) checkApproved(c *raceCall, claims proof.Claims, args action.Value) {
	r, err := w.store.Approval(context.Background(), claims.Approval.ID)
	began := w.answered[w.saidOf(r)]
	switch {
	case err != nil:
		w.broken("%s: its approval: %v", c, err)
	case began == 0 || began > c.executed:
		w.broken("%s is executed by %s before the owner has answered", c, r.ID)
	case r.Status != approvals.Redeemed || r.RedeemedBy != claims.DecisionID && r.ContinuedBy != claims.DecisionID:
		w.broken("%s is executed by %s, which is not spent on disk for it: %s by %q and %q", c, r.ID, r.Status, r.RedeemedBy, r.ContinuedBy)
	case r.AgentID != c.session.agent || r.ActionHash.String() != claims.ActionHash:
		w.broken("%s is executed by %s, which is for another agent or action", c, r.ID)
	case string(approvedArguments(r).Canonical()) != string(args.Canonical()):
		w.broken("%s is executed by %s, which is for the arguments %s", c, r.ID, approvedArguments(r).Canonical())
	}
}

// saidOf is the request to which the owner has said yes: another one when a standing
// grant was given on it.
func (w *raceWorld) saidOf(r approvals.Request) string {
	if r.GrantID == "" {
		return r.ID
	}
	g, err := w.store.Grant(context.Background(), r.GrantID)
	if err != nil {
		w.broken("grant %s of %s: %v", r.GrantID, r.ID, err)
	}
	return g.Request.ID
}

// approvedArguments are those that a request shows to its owner.
func approvedArguments(r approvals.Request) action.Value { return r.Action.Payload.Get("arguments") }

// check holds what has happened against the log, once all is over.
func (w *raceWorld) check(tally *raceTally) {
	l := w.readLog()
	w.mu.Lock()
	defer w.mu.Unlock()
	l.check()
	tally.add(l)
	w.store.Close()
}

func (t *raceTally) add(l *raceLog) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.schedules++
	t.calls += len(l.w.calls)
	t.executed += len(l.w.decisions)
	for _, r := range l.requests {
		t.versions += r.Version - 1
	}
	for _, c := range l.w.calls {
		if c.withdrawn > 0 && c.executed == 0 {
			t.withdrawn++
		}
	}
	for decision := range l.w.decisions {
		e := l.entries[l.decided[decision]]
		if e.ApprovalID != "" {
			t.byApproval++
		}
		if e.Round > 0 {
			t.rounds++
		}
		r := l.requests[e.ApprovalID]
		if r.GrantID != "" {
			t.uses++
		}
		if r.Version > 1 {
			t.reworded++
		}
		if hash := definitionOf(e.ToolInfo); hash != "" && hash != l.firstUse {
			t.definitions++
		}
		if c := l.w.decisions[decision]; c.first != nil && c.first.answer == comesBack {
			t.legs++
		}
	}
}

// raceLog is the log of a world, and its requests.
type raceLog struct {
	w         *raceWorld
	firstUse  string // the definition that was accepted by itself
	entries   []audit.Entry
	decided   map[string]int // where a decision is in entries
	outcomes  map[string][]audit.Entry
	requests  map[string]approvals.Request
	answers   map[string]int // where the owner's answer is
	grants    map[string]approvals.Grant
	withdrawn map[string]int  // where a grant, or an approval, was withdrawn
	uses      map[string]int  // of a grant, so far
	accepted  map[string]bool // definitions, so far
}

// readLog sequences what killed machines have left, and reads the file.
func (w *raceWorld) readLog() *raceLog {
	l := &raceLog{w: w, decided: map[string]int{}, outcomes: map[string][]audit.Entry{}, requests: map[string]approvals.Request{}, answers: map[string]int{},
		grants: map[string]approvals.Grant{}, withdrawn: map[string]int{}, uses: map[string]int{}, accepted: map[string]bool{}}
	file := filepath.Join(w.home, "audit.log.jsonl")
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := audit.NewSequencer(w.store, file).Run(ended); err != nil {
		w.fault("sequencing the rest of the log: %v", err)
	}
	raw, err := os.ReadFile(file)
	seq, hash, headErr := w.store.Head(context.Background())
	if err != nil || headErr != nil {
		w.fault("reading the log: %v, %v", err, headErr)
	}
	if report, err := audit.Verify(strings.NewReader(string(raw)), seq, hex.EncodeToString(hash[:])); err != nil || report.Faults != nil {
		w.fault("the log is not whole: %v, %v", err, report.Faults)
	}
	for line := range strings.Lines(string(raw)) {
		var e audit.Entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			w.fault("the log: %v", err)
		}
		l.add(e)
	}
	for _, r := range w.pending("", 0) {
		l.requests[r.ID] = r
	}
	l.readGrants()
	return l
}

// readGrants reads the standing grants, and which definition was accepted at first use.
func (l *raceLog) readGrants() {
	ctx, w := context.Background(), l.w
	grants, err := w.store.Grants(ctx, w.alice.ID, 0)
	book, pinErr := w.store.PinBook(ctx, w.alice.ID, "shop")
	if err != nil || pinErr != nil {
		w.fault("reading the grants and the definitions: %v, %v", err, pinErr)
	}
	for _, g := range grants {
		l.grants[g.ID] = g
	}
	for _, p := range book.Pins {
		if p.AnsweredBy == authz.FirstUse {
			l.firstUse = p.Hash.String()
			l.accepted[l.firstUse] = true
		}
	}
}

func (l *raceLog) add(e audit.Entry) {
	at := len(l.entries)
	l.entries = append(l.entries, e)
	switch e.Event {
	case "decision":
		if _, twice := l.decided[e.DecisionID]; twice {
			l.w.fault("decision %s is in the log twice", e.DecisionID)
		}
		l.decided[e.DecisionID] = at
	case "outcome":
		l.outcomes[e.DecisionID] = append(l.outcomes[e.DecisionID], e)
	case "approval.approved", "approval.denied":
		if _, twice := l.answers[e.ApprovalID]; twice {
			l.w.fault("request %s is answered in the log twice", e.ApprovalID)
		}
		l.answers[e.ApprovalID] = at
	case "approval.withdrawn":
		l.withdrawn[e.ApprovalID] = at
	case "grant.withdrawn":
		l.withdrawn[e.GrantID] = at
	}
}

// check is what must hold. w.mu is held.
func (l *raceLog) check() {
	spent := map[string]bool{}
	for at, e := range l.entries {
		if e.Event != "decision" || e.Decision == nil || *e.Decision != "ALLOW" {
			l.definition(e)
			continue
		}
		l.rule(e)
		l.pinned(e)
		if e.ApprovalID != "" {
			l.approved(at, e)
			l.use(at, e)
			l.spend(spent, e)
		}
		l.outcome(e)
	}
	for decision, c := range l.w.decisions {
		at, logged := l.decided[decision]
		if !logged || *l.entries[at].Decision != "ALLOW" {
			l.w.broken("%s was executed, and no decision in the log has allowed it", c)
			continue
		}
		l.policy(c, l.entries[at])
	}
	l.denials()
}

// rule: only a rule that allows lets a call run without an approval, and none that
// denies lets it.
func (l *raceLog) rule(e audit.Entry) {
	switch effect, _ := l.version(e); {
	case effect == "deny":
		l.w.broken("decision %s allows by rule %s", e.DecisionID, e.MatchedRuleID)
	case effect == "ask" && e.ApprovalID == "":
		l.w.broken("decision %s allows by rule %s and without an approval", e.DecisionID, e.MatchedRuleID)
	}
}

// version is the policy's by which a decision was made.
func (l *raceLog) version(e audit.Entry) (effect string, version int64) {
	_, n, _ := strings.Cut(e.MatchedRuleID, "-")
	version, _ = strconv.ParseInt(n, 10, 64)
	return l.w.effects[version], version
}

// definition notes what the owner says of one.
func (l *raceLog) definition(e audit.Entry) {
	if e.Event == "definition.accepted" || e.Event == "definition.refused" {
		hash := strings.TrimSuffix(strings.Fields(e.Detail)[1], ",") // "tool: sha256:…, after …"
		l.accepted[hash] = e.Event == "definition.accepted"
	}
}

// pinned: no call runs by a definition that the owner has not accepted by then.
func (l *raceLog) pinned(e audit.Entry) {
	if hash := definitionOf(e.ToolInfo); hash != "" && !l.accepted[hash] {
		l.w.broken("decision %s allows by the definition %s, which is not accepted", e.DecisionID, hash)
	}
}

// definitionOf is the hash in $.tool; empty: what is listed was not known.
func definitionOf(info []byte) string {
	var tool struct {
		Hash string `json:"definition_hash"`
	}
	json.Unmarshal(info, &tool) //nolint:errcheck // it is of our own log
	return tool.Hash
}

// approved: the owner has said yes, before, in time, to this very action of this agent.
func (l *raceLog) approved(at int, e audit.Entry) {
	r := l.requests[e.ApprovalID]
	on, granted := r.ID, l.grantOf(r)
	if r.GrantID != "" {
		on = granted.Request.ID
	}
	said, answered := l.answers[on]
	back, gone := l.withdrawn[r.ID]
	switch {
	case e.Round == 0 && gone && at > back:
		l.w.broken("decision %s allows by %s, which was withdrawn by then", e.DecisionID, r.ID)
	case l.w.shown[on] != l.requests[on].ActionHash || !l.requests[on].Action.Payload.Equal(r.Action.Payload): // 1.1 and 1.10 are equal
		l.w.broken("decision %s allows by %s, of which the owner was shown %s", e.DecisionID, r.ID, l.w.shown[on])
	case !answered || said > at || l.entries[said].Event != "approval.approved":
		l.w.broken("decision %s allows by %s, which was not approved by then", e.DecisionID, e.ApprovalID)
	case !l.approvedFor(r, e):
		l.w.broken("decision %s allows by %s, which is for another agent, action or call", e.DecisionID, r.ID)
	case e.Round == 0 && !instantOf(e).Before(r.GrantUntil):
		l.w.broken("decision %s of %s allows by %s, which was good until %s", e.DecisionID, e.TS, r.ID, r.GrantUntil)
	}
}

// grantOf is the standing grant by which a request ran, or that was given with it; the
// zero Grant: there is none.
func (l *raceLog) grantOf(r approvals.Request) approvals.Grant {
	for _, g := range l.grants {
		if g.ID == r.GrantID || g.Request.ID == r.ID {
			return g
		}
	}
	return approvals.Grant{}
}

// use: a standing grant is used as often as it was given for, in its time, and not when
// it was withdrawn.
func (l *raceLog) use(at int, e audit.Entry) {
	g := l.grantOf(l.requests[e.ApprovalID])
	if g.ID == "" || e.Round > 0 {
		return
	}
	l.uses[g.ID]++
	back, gone := l.withdrawn[g.ID]
	switch {
	case l.uses[g.ID] > g.Uses:
		l.w.broken("decision %s is use %d of the grant %s, which was given for %d", e.DecisionID, l.uses[g.ID], g.ID, g.Uses)
	case gone && at > back:
		l.w.broken("decision %s allows by the grant %s, which was withdrawn by then", e.DecisionID, g.ID)
	}
}

// approvedFor is whether a request is for what a decision allows: the call, the action,
// and the definition of the tool that was shown beside it.
func (l *raceLog) approvedFor(r approvals.Request, e audit.Entry) bool {
	shown := r.ToolInfo.Get("definition_hash").Text()
	if e.Round == 0 && shown != "" && definitionOf(e.ToolInfo) != shown {
		return false
	}
	return r.AgentID == e.ActorID && r.ActionHash.String() == e.ActionHash && r.IntentHash.String() == e.IntentHash
}

func instantOf(e audit.Entry) time.Time {
	at, _ := time.Parse(time.RFC3339Nano, e.TS)
	return at
}

// spend: an approval is spent once, and each further round of its call is one.
func (l *raceLog) spend(spent map[string]bool, e audit.Entry) {
	key := e.ApprovalID + " " + strconv.Itoa(e.Round)
	if spent[key] {
		l.w.broken("approval %s is spent a second time, round %d, by decision %s", e.ApprovalID, e.Round, e.DecisionID)
	}
	spent[key] = true
	if e.Round > 0 && !spent[e.ApprovalID+" "+strconv.Itoa(e.Round-1)] {
		l.w.broken("decision %s allows round %d of %s before the one before it", e.DecisionID, e.Round, e.ApprovalID)
	}
}

// outcome: one at most, and what nobody has sent was not executed.
func (l *raceLog) outcome(e audit.Entry) {
	c, outcomes := l.w.decisions[e.DecisionID], l.outcomes[e.DecisionID]
	switch {
	case len(outcomes) > 1:
		l.w.broken("decision %s has %d outcomes", e.DecisionID, len(outcomes))
	case len(outcomes) == 0 && c != nil && (c.answer == "done" || c.wants != "") && !c.session.life.killed:
		l.w.broken("%s was answered, and decision %s has no outcome", c, e.DecisionID)
	case len(outcomes) == 0:
	case outcomes[0].Unsent && c != nil:
		l.w.broken("%s was executed, and the log says that nothing of it was sent", c)
	case outcomes[0].Outcome == "ok" && c == nil:
		l.w.broken("decision %s went well by the log, and was not executed", e.DecisionID)
	}
}

// policy: who has begun to decide when another policy was in force decided by it.
func (l *raceLog) policy(c *raceCall, e audit.Entry) {
	_, version := l.version(e)
	for _, later := range c.session.life.versions {
		if later.Number > version && instantOf(e).UnixMilli() > later.At {
			l.w.broken("%s is allowed at %d by %s, and version %d of the policy was in force since %d", c, instantOf(e).UnixMilli(), e.MatchedRuleID, later.Number, later.At)
		}
	}
}

// raceDenyTTL is how long a denial sticks.
const raceDenyTTL = 15 * time.Minute

// denials: after one, nothing of its kind is asked for as long as it sticks, and
// nothing runs but by a request that is newer.
func (l *raceLog) denials() {
	byIntent := map[action.Hash][]approvals.Request{}
	for _, r := range l.requests {
		byIntent[r.IntentHash] = append(byIntent[r.IntentHash], r)
	}
	for _, list := range byIntent {
		slices.SortFunc(list, func(a, b approvals.Request) int { return l.asked(a).Compare(l.asked(b)) })
		for i, denied := range list {
			if denied.Status != approvals.Denied {
				continue
			}
			if i+1 < len(list) {
				l.sticks(denied, list[i+1])
			}
			for _, older := range list[:i] {
				l.superseded(denied, older)
			}
		}
	}
}

// sticks: who begins when the denial is on disk does not ask. Who has begun before may
// have taken the denied request's place, for another action.
func (l *raceLog) sticks(denied, next approvals.Request) {
	if at := l.asked(next); at.After(l.w.denied[denied.ID]) && at.Before(denied.AnsweredAt.Add(raceDenyTTL)) {
		l.w.broken("%s was denied at %s, and version %d of %s was asked for at %s", denied.ID, denied.AnsweredAt, next.Version, next.ID, at)
	}
}

// asked is when a request was asked for as it is: it may have been in other words before.
func (l *raceLog) asked(r approvals.Request) time.Time {
	return instantOf(l.entries[l.decided[r.DecisionID]])
}

func (l *raceLog) superseded(denied, older approvals.Request) {
	at, spent := l.decided[older.RedeemedBy]
	if said, answered := l.answers[denied.ID]; spent && answered && at > said {
		l.w.broken("decision %s allows by %s, and the newer %s had been denied", older.RedeemedBy, older.ID, denied.ID)
	}
}
