package proxy

import (
	"cmp"
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
	"github.com/openleash/openleash-go/proof"
)

// What must hold of every schedule. Beside it, in race_model_test.go: a call is
// answered once, a refusal means that it was not executed, the server of an executed
// call hears of its cancellation, everything comes to rest.

// checkExecution looks at what a server got, when it gets it: the call that its host
// sent, decided on before, and by an approval that is spent on disk by then. w.mu is
// held.
func (w *raceWorld) checkExecution(c *raceCall, s *raceTalk, m Message) {
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
	case c.refused:
		w.broken("%s is executed, and its host was told that it is not: %s", c, c.answer)
	case s.ended:
		w.broken("%s is executed after the end of session %d", c, s.n)
	case c.task == "" && s != c.session, s.life != c.session.life, s.agent != c.session.agent:
		w.broken("%s is executed in session %d", c, s.n)
	case c.task != "" && c.asked == 0:
		w.broken("%s is executed, and its host has not asked what becomes of its task", c)
	case w.decisions[claims.DecisionID] != nil:
		w.broken("%s is executed by the decision by which %s was", c, w.decisions[claims.DecisionID])
	case strings.Trim(params.Get(requestState).Text(), "s") != "", c.first == nil && params.Get(requestState).Kind() != action.Missing:
		w.broken("%s: its server got the requestState %q, which it never gave", c, params.Get(requestState).Text())
	}
	c.decision = claims.DecisionID
	w.decisions[claims.DecisionID] = c
	w.checkListed(c, s)
	w.checkLeg(c)
	if claims.Approval != nil {
		w.checkApproved(c, claims, args)
	}
}

// checkListed: what its host has seen before it called, and nobody has accepted, does
// not run.
func (w *raceWorld) checkListed(c *raceCall, s *raceTalk) {
	seen, now := s.life.listed, w.tools
	if seen.known && seen.version == now.version && now.at < seen.at && seen.at < c.sent && now.accepted < now.at && !w.accepted[definitionHash(now.version)] {
		w.broken("%s is executed, and the definition of its tool is version %d, which nobody has accepted", c, now.version)
	}
}

func definitionHash(version int) string { return sum([]byte(definition(version))) }

// checkLeg: what has run does not run for who brings the leg of it, while that is good.
func (w *raceWorld) checkLeg(c *raceCall) {
	if c.brings == nil || c.brings.signed != w.offset.Load() {
		return
	}
	for _, ran := range w.ran[c.brings.request] {
		if ran.variant == c.variant && ran.executed < c.sent {
			w.broken("%s is executed, and brings the leg of %s, which had run by %s", c, c.brings, ran)
		}
	}
}

// checkApproved looks at the approval that a call is executed by, and at what the owner
// was shown when they gave it, or the standing grant of which it is a use.
func (w *raceWorld) checkApproved(c *raceCall, claims proof.Claims, args action.Value) {
	r, err := w.store.Approval(context.Background(), claims.Approval.ID)
	given := r
	if err == nil && r.GrantID != "" {
		var g approvals.Grant
		g, err = w.store.Grant(context.Background(), r.GrantID)
		given = g.Request
	}
	yes := w.yes[shownOf(given)]
	taken := max(w.withdrawn[r.ID], w.withdrawn[r.GrantID])
	switch {
	case err != nil:
		w.broken("%s: its approval: %v", c, err)
	case yes.at == 0 || yes.at > c.executed:
		w.broken("%s is executed by %s before the owner has said yes to that", c, r.ID)
	case yes.arguments != string(args.Canonical()):
		w.broken("%s is executed by %s, and the owner was shown %s", c, r.ID, yes.arguments)
	case c.first == nil && taken > 0 && taken < c.sent:
		w.broken("%s is executed by %s, which was withdrawn at %d", c, r.ID, taken)
	case r.Status != approvals.Redeemed || r.RedeemedBy != claims.DecisionID && r.ContinuedBy != claims.DecisionID:
		w.broken("%s is executed by %s, which is not spent on disk for it: %s by %q and %q", c, r.ID, r.Status, r.RedeemedBy, r.ContinuedBy)
	case r.AgentID != c.session.agent || r.ActionHash.String() != claims.ActionHash:
		w.broken("%s is executed by %s, which is for another agent or action", c, r.ID)
	case string(approvedArguments(r).Canonical()) != string(args.Canonical()):
		w.broken("%s is executed by %s, which is for the arguments %s", c, r.ID, approvedArguments(r).Canonical())
	}
	w.ran[r.ID] = append(w.ran[r.ID], c)
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
	for _, c := range l.w.calls {
		t.count(byCancel, c.withdrawn > 0 && c.executed == 0)
		t.count(byLeg, c.brings != nil && c.executed > 0)
		t.count(byTask, c.task != "" && c.executed > 0)
	}
	for decision := range l.w.decisions {
		e := l.entries[l.decided[decision]]
		t.count(byApproval, e.ApprovalID != "")
		t.count(byGrant, e.GrantID != "")
		t.count(byVersion, l.requests[e.ApprovalID].Version > 1)
		t.count(byRound, e.Round > 0)
		t.count(byDefinition, e.ApprovalID != "" && l.accepted[definitionOf(e).Hash] > 0)
	}
}

func (t *raceTally) count(kind string, is bool) {
	if is {
		t.by[kind]++
	}
}

// raceLog is the log of a world, and its requests.
type raceLog struct {
	w        *raceWorld
	entries  []audit.Entry
	decided  map[string]int // where a decision is in entries
	outcomes map[string][]audit.Entry
	requests map[string]approvals.Request
	grants   map[string]approvals.Grant
	answers  map[string]int // where the owner's answer is
	uses     map[string]int // of a grant
	// Where in entries a grant is given, by its id; a grant, or an approval, is
	// withdrawn, by the ids of both; a definition is accepted, by its hash.
	given     map[string]int
	withdrawn map[string]int
	accepted  map[string]int
}

// readLog sequences what killed machines have left, and reads the file.
func (w *raceWorld) readLog() *raceLog {
	l := &raceLog{w: w, decided: map[string]int{}, outcomes: map[string][]audit.Entry{}, requests: map[string]approvals.Request{}, grants: map[string]approvals.Grant{}, answers: map[string]int{},
		uses: map[string]int{}, given: map[string]int{}, withdrawn: map[string]int{}, accepted: map[string]int{}}
	file := filepath.Join(w.home, "audit.log.jsonl")
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	key := must(audit.LoadOrCreateKey(filepath.Join(w.home, "keys")))(w.t)
	if err := audit.NewSequencer(w.store, file, key, audit.Keeping{}).Run(ended); err != nil {
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
	grants, err := w.store.Grants(context.Background(), w.alice.ID, 0)
	if err != nil {
		w.fault("the grants cannot be read: %v", err)
	}
	for _, g := range grants {
		l.grants[g.ID] = g
	}
	return l
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
	case "grant.given":
		l.given[e.GrantID] = at
	case "grant.withdrawn":
		l.withdrawn[e.GrantID], l.withdrawn[e.ApprovalID] = at, at
	case "approval.withdrawn":
		l.withdrawn[e.ApprovalID] = at
	case "definition.accepted":
		_, hash, _ := strings.Cut(e.Detail, ": ")
		hash, _, _ = strings.Cut(hash, ",")
		if l.accepted[hash] == 0 {
			l.accepted[hash] = at
		}
	}
}

// check is what must hold. w.mu is held.
func (l *raceLog) check() {
	spent := map[string]bool{}
	for at, e := range l.entries {
		if e.Event != "decision" || e.Decision == nil || *e.Decision != "ALLOW" {
			continue
		}
		l.rule(e)
		l.definition(at, e)
		if e.ApprovalID != "" {
			l.approved(at, e)
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

// raceDefinition is what a decision says of the definition by which it was made.
type raceDefinition struct {
	Hash  string `json:"definition_hash"`
	State string `json:"pin_state"`
}

func definitionOf(e audit.Entry) (d raceDefinition) {
	json.Unmarshal(e.ToolInfo, &d) //nolint:errcheck // then it says nothing
	return d
}

// definition: nothing runs by a definition that was not accepted before. The first is
// by itself.
func (l *raceLog) definition(at int, e audit.Entry) {
	d := definitionOf(e)
	accepted := l.accepted[d.Hash]
	switch {
	case d.State != "accepted" && d.State != "unknown":
		l.w.broken("decision %s allows by a definition that is %q", e.DecisionID, d.State)
	case d.Hash != "" && d.Hash != definitionHash(0) && (accepted == 0 || accepted > at):
		l.w.broken("decision %s allows by the definition %s, which was not accepted by then", e.DecisionID, d.Hash)
	}
}

// approved: the owner has said yes, before, in time, and not taken it back, to this very
// action of this agent, or to as many of its kind.
func (l *raceLog) approved(at int, e audit.Entry) {
	r := l.requests[e.ApprovalID]
	l.standing(at, e, r)
	said, answered := l.answers[e.ApprovalID]
	taken := max(l.withdrawn[e.ApprovalID], l.withdrawn[e.GrantID])
	switch {
	case e.GrantID == "" && (!answered || said > at || l.entries[said].Event != "approval.approved"):
		l.w.broken("decision %s allows by %s, which was not approved by then", e.DecisionID, e.ApprovalID)
	case e.Round == 0 && taken > 0 && taken < at:
		l.w.broken("decision %s allows by %s, which was withdrawn by then", e.DecisionID, e.ApprovalID)
	case !approvedFor(r, e):
		l.w.broken("decision %s allows by %s, which is for another agent, action or call", e.DecisionID, r.ID)
	case !sameDefinition(r, e):
		l.w.broken("decision %s allows by %s, which is for another definition than %s", e.DecisionID, r.ID, e.ToolInfo)
	case e.Round == 0 && !instantOf(e).Before(r.GrantUntil):
		l.w.broken("decision %s of %s allows by %s, which was good until %s", e.DecisionID, e.TS, r.ID, r.GrantUntil)
	}
}

func approvedFor(r approvals.Request, e audit.Entry) bool {
	return r.AgentID == e.ActorID && r.ActionHash.String() == e.ActionHash && r.IntentHash.String() == e.IntentHash
}

// sameDefinition is whether a decision was made by the definition that the owner was
// shown. Where none was known, none was.
func sameDefinition(r approvals.Request, e audit.Entry) bool {
	shown := r.ToolInfo.Get("definition_hash").Text()
	return shown == "" || shown == definitionOf(e).Hash
}

// standing counts the uses of a grant. The call that it was given on is the first.
func (l *raceLog) standing(at int, e audit.Entry, r approvals.Request) {
	id := e.GrantID
	for _, g := range l.grants {
		if g.Request.ID == e.ApprovalID {
			id = g.ID
		}
	}
	if id == "" || e.Round > 0 {
		return
	}
	g := l.grants[id]
	l.uses[id]++
	given, known := l.given[id]
	switch {
	case !known || given > at:
		l.w.broken("decision %s allows by the grant %s, which was not given by then", e.DecisionID, id)
	case g.Uses > 0 && l.uses[id] > g.Uses:
		l.w.broken("decision %s allows by the grant %s, and is number %d of %d", e.DecisionID, id, l.uses[id], g.Uses)
	case !instantOf(e).Before(g.Until):
		l.w.broken("decision %s of %s allows by the grant %s, which was good until %s", e.DecisionID, e.TS, id, g.Until)
	case r.IntentHash != g.Request.IntentHash || !sameDefinition(g.Request, e):
		l.w.broken("decision %s allows by the grant %s, which is for another call or definition", e.DecisionID, id)
	}
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
		slices.SortFunc(list, func(a, b approvals.Request) int { // several may be of one millisecond
			return cmp.Or(askedAt(a).Compare(askedAt(b)), cmp.Compare(l.decided[a.DecisionID], l.decided[b.DecisionID]))
		})
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

// askedAt is when a request was asked for as it is. The time in its action may be an
// earlier one's, of which it has taken the place.
func askedAt(r approvals.Request) time.Time {
	if r.Version == 1 {
		return r.CreatedAt
	}
	at, _ := time.Parse(time.RFC3339Nano, r.Action.RequestedAt)
	return at
}

// sticks: who begins when the denial is on disk does not ask. Who has begun before may
// have taken the denied request's place, for another action.
func (l *raceLog) sticks(denied, next approvals.Request) {
	asked := askedAt(next)
	on, told := l.w.denied[denied.ID]
	if told && asked.After(on) && asked.Before(denied.AnsweredAt.Add(raceDenyTTL)) {
		l.w.broken("%s was denied at %s, and %s was asked for at %s", denied.ID, denied.AnsweredAt, next.ID, asked)
	}
}

// superseded: an older approval lets nothing through after the denial of a newer request
// (the older one has expired then, in its time). Who has begun to decide before the denial
// was given did so in another hour, where time has passed meanwhile.
func (l *raceLog) superseded(denied, older approvals.Request) {
	at, spent := l.decided[older.RedeemedBy]
	if !spent || instantOf(l.entries[at]).Before(denied.AnsweredAt) {
		return
	}
	if said, answered := l.answers[denied.ID]; answered && at > said {
		l.w.broken("decision %s allows by %s, and the newer %s had been denied", older.RedeemedBy, older.ID, denied.ID)
	}
}
