package storetest

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/authz"
)

// place gives everything that waits its place, as a sequencer would.
func place(t *testing.T, s Store) {
	t.Helper()
	for {
		ids, entries, err := s.Unsequenced(t.Context(), 500)
		if err != nil {
			t.Fatal(err)
		}
		if len(ids) == 0 {
			return
		}
		seq, hash, err := s.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		places := make([]audit.Sequenced, len(ids))
		for i, e := range entries {
			seq++
			line := append(fmt.Appendf(nil, `{"seq":%d,"prev":"sha256:%x",`, seq, hash), e[1:]...)
			hash = sha256.Sum256(line)
			places[i] = audit.Sequenced{Seq: seq, Line: line, Hash: hash}
		}
		if err := s.SetSequenced(t.Context(), ids, places); err != nil {
			t.Fatal(err)
		}
	}
}

// record writes entries into the log, in batches, and gives them their places.
func record(t *testing.T, s Store, entries ...audit.Entry) {
	t.Helper()
	for batch := range slices.Chunk(entries, 500) {
		commit(t, s, authz.Batch{Entries: batch})
	}
	place(t, s)
}

const otherOwner = "99999999-2222-4333-8444-555555555555"

// happenings are n entries of all kinds, a second apart.
func happenings(n int) (all []audit.Entry) {
	for i := range n {
		e := audit.Entry{TS: start.Add(time.Duration(i) * time.Second).Format("2006-01-02T15:04:05.000Z"), Event: "decision", ActorType: "agent",
			ActorID: fmt.Sprint("bot", i%3), DecisionID: fmt.Sprint("d", i/2), OwnerID: []string{ownerID, otherOwner}[i%7/6], Server: "shop", Tool: fmt.Sprint("tool", i%5)}
		switch {
		case i%2 == 1:
			e.Event, e.Outcome = "outcome", "ok"
		case i%10 == 4:
			e.Decision, e.Reason = new("DENY"), "Nothing over \"five\""
		default:
			e.Decision = new("ALLOW")
		}
		if i%20 == 9 {
			e.ActorType, e.ActorID, e.AgentID = "owner", "cli:ann", e.ActorID
		}
		if i%100 == 50 {
			e = audit.Entry{TS: e.TS, Event: []string{"start", "policy.reloaded", "policy.rejected"}[i/100%3], ActorType: "system", ActorID: "openleash"}
		}
		all = append(all, e)
	}
	return all
}

// questions ask for what happenings has, and has not.
func questions() (all []audit.Query) {
	for _, scope := range []audit.Scope{audit.Whole(), audit.OwnedBy(ownerID), audit.OwnedBy(otherOwner), audit.OwnedBy("nobody")} {
		for _, q := range []audit.Query{
			{}, {Agent: "bot1"}, {Agent: "bot"}, {Event: "decision"}, {Event: "policy"}, {Event: "policy.rejected"}, {Event: "pol"}, {Decision: "DENY"},
			{DecisionID: "d12"}, {DecisionID: "none"}, {Server: "shop", Tool: "tool3"}, {Tool: "tool9"}, {Agent: "bot2", Decision: "DENY", Tool: "tool4"},
			{Since: start.Add(50 * time.Second)}, {Until: start.Add(50 * time.Second)}, {Since: start.Add(40 * time.Second), Until: start.Add(55 * time.Second), Event: "outcome"},
			{Since: start.Add(time.Hour * 1000)}, {Text: `over "FIVE"`}, {Text: "d11"}, {Agent: "bot0", Event: "outcome"}, {From: 30}, {From: 1}, {From: 1 << 40},
		} {
			q.Scope = scope
			all = append(all, q)
		}
	}
	return all
}

// meant is what a query should find, told line by line.
func meant(all []audit.Sequenced, q audit.Query) (want []uint64) {
	for _, l := range all {
		a, _ := audit.ReadAbout(l.Line)
		if q.Agent != "" && string(a.Agent()) != q.Agent || !q.Matches(l.Line) {
			continue
		}
		if q.From == 0 || q.OldestFirst && l.Seq >= q.From || !q.OldestFirst && l.Seq <= q.From {
			want = append(want, l.Seq)
		}
	}
	if !q.OldestFirst {
		slices.Reverse(want)
	}
	return want
}

// pages are all that a query finds, page by page.
func pages(t *testing.T, s Store, q audit.Query) (got []uint64) {
	t.Helper()
	for {
		page, err := s.Search(t.Context(), q)
		if err != nil {
			t.Fatalf("%+v: %v", q, err)
		}
		if len(page.Lines) > q.Limit {
			t.Fatalf("%+v: %d lines", q, len(page.Lines))
		}
		for _, l := range page.Lines {
			got = append(got, l.Seq)
		}
		if page.Next == 0 {
			return got
		}
		q.From = page.Next
	}
}

func wantFound(t *testing.T, s Store, all []audit.Sequenced, q audit.Query) {
	t.Helper()
	for _, q.OldestFirst = range []bool{false, true} {
		if want, got := meant(all, q), pages(t, s, q); !slices.Equal(want, got) {
			t.Errorf("%+v: want %d lines %.200v, got %d %.200v", q, len(want), want, len(got), got)
		}
	}
}

// A search finds what is there, newest and oldest first, page by page.
func testSearch(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	if got := pages(t, s, audit.Query{Scope: audit.Whole(), Limit: 1}); len(got) > 0 {
		t.Errorf("in an empty log: %v", got)
	}
	record(t, s, happenings(200)...)
	all, err := s.Lines(t.Context(), 1, 1000)
	if err != nil || len(all) != 200 {
		t.Fatal(len(all), err)
	}
	for _, q := range questions() {
		for _, q.Limit = range []int{1, 7, 1000} {
			wantFound(t, s, all, q)
		}
	}
}

// everything are all lines.
func everything(t *testing.T, s Store) (all []audit.Sequenced) {
	t.Helper()
	for from := uint64(1); ; {
		lines, err := s.Lines(t.Context(), from, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(lines) == 0 {
			return all
		}
		all, from = append(all, lines...), lines[len(lines)-1].Seq+1
	}
}

// What was dropped is not found, what was put back is, from the first moment on.
func testSearchDropped(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	record(t, s, happenings(6000)...)
	before := everything(t, s)
	for all := false; !all; {
		var err error
		if all, err = s.Drop(t.Context(), 5000); err != nil {
			t.Fatal(err)
		}
	}
	record(t, s, happenings(4000)...) // the index goes on, and lets go
	look := func() {
		t.Helper()
		all := everything(t, s)
		for _, q := range []audit.Query{{}, {Agent: "bot1", Decision: "DENY"}, {Event: "policy"}, {DecisionID: "d777"}, {Since: start.Add(4 * time.Second), Tool: "tool3"}} {
			q.Scope, q.Limit = audit.OwnedBy(ownerID), 900
			wantFound(t, s, all, q)
		}
	}
	look()
	if err := s.Restore(t.Context(), before[:5000]); err != nil {
		t.Fatal(err)
	}
	if n := len(everything(t, s)); n != 10_000 {
		t.Fatalf("%d lines", n)
	}
	look()
	time.Sleep(100 * time.Millisecond) // the index is being made
	look()
	record(t, s, happenings(10)...)
	look()
}

func testSearchLong(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	record(t, s, happenings(9000)...)
	var all []audit.Sequenced
	for len(all) < 9000 {
		some, err := s.Lines(t.Context(), uint64(len(all))+1, 1000)
		if err != nil || len(some) == 0 {
			t.Fatal(len(all), err)
		}
		all = append(all, some...)
	}
	for _, q := range questions() {
		q.Limit = 1000
		wantFound(t, s, all, q)
	}
}

// What an owner may not see is not found, whatever is asked for; and who does not say
// for whom they ask finds nothing.
func testSearchScope(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	mine := audit.Entry{TS: "2026-05-05T13:42:11.007Z", Event: "decision", ActorType: "agent", ActorID: "bot", DecisionID: "d1", OwnerID: ownerID, Detail: "mine"}
	theirs, nobodys := mine, mine
	theirs.OwnerID, theirs.DecisionID, theirs.Detail = otherOwner, "d2", "secret of the other"
	nobodys.OwnerID, nobodys.DecisionID, nobodys.Event = "", "", "start"
	record(t, s, mine, theirs, nobodys)
	for _, q := range []audit.Query{{}, {Agent: "bot"}, {Event: "decision"}, {DecisionID: "d2"}, {Text: "secret"}, {OldestFirst: true}, {From: 2}} {
		q.Scope, q.Limit = audit.OwnedBy(ownerID), 10
		if slices.Contains(pages(t, s, q), 2) {
			t.Errorf("%+v has found what is another owner's", q)
		}
	}
	wantSame(t, "an owner's lines", []uint64{3, 1}, pages(t, s, audit.Query{Scope: audit.OwnedBy(ownerID), Limit: 10}))
	wantSame(t, "the other's lines", []uint64{3, 2}, pages(t, s, audit.Query{Scope: audit.OwnedBy(otherOwner), Limit: 10}))
	for _, scope := range []audit.Scope{{}, audit.OwnedBy("")} {
		_, err := s.Search(t.Context(), audit.Query{Scope: scope, Limit: 10})
		wantErr(t, "a search for nobody", err, audit.ErrNoScope)
	}
}

// Of an agent is what it did, and what was done about its calls: by the owner, or by
// the program when the agent's process was killed.
func testSearchAgent(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	entry := func(event, actorType, actor, about string) audit.Entry {
		return audit.Entry{TS: "2026-05-05T13:42:11.007Z", Event: event, ActorType: actorType, ActorID: actor, AgentID: about, OwnerID: ownerID}
	}
	record(t, s,
		entry("decision", "agent", "bot", ""),
		entry("decision", "agent", "other", ""),
		entry("outcome", "system", "openleash", "other"),
		entry("approval.approved", "owner", "cli:ann", "bot"),
		entry("agent.token", "owner", "bot", "bot"),
		entry("approval.denied", "owner", "bot", "third"),
		entry("decision", "agent", "third", "bot"), // nobody writes that: the actor counts
		entry("start", "system", "bot", ""))
	for agent, want := range map[string][]uint64{"bot": {5, 4, 1}, "other": {3, 2}, "third": {7, 6}, "cli:ann": nil, "openleash": nil} {
		wantSame(t, agent, want, pages(t, s, audit.Query{Scope: audit.OwnedBy(ownerID), Agent: agent, Limit: 10}))
	}
}

// What is written between two pages moves nothing from one to the other.
func testSearchWhileItGrows(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	record(t, s, happenings(20)...)
	q := audit.Query{Scope: audit.Whole(), Limit: 6}
	var got []uint64
	for range 4 {
		page, err := s.Search(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range page.Lines {
			got = append(got, l.Seq)
		}
		q.From = page.Next
		record(t, s, happenings(7)...)
	}
	wantSame(t, "lines", []uint64{20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1}, got)
}

// A search looks at so much and then asks: there may be a log of many gigabytes.
func testSearchIsBounded(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	large := audit.Entry{TS: "2026-05-05T13:42:11.007Z", Event: "decision", Payload: []byte(`"` + strings.Repeat("a", 4<<20) + `"`)}
	record(t, s, large, large, large, large, large, large)
	page, err := s.Search(t.Context(), audit.Query{Scope: audit.Whole(), Text: "not there", Limit: 10})
	if err != nil || len(page.Lines) > 0 || page.Next != 2 {
		t.Errorf("want a page without lines that goes on with line 2, got %d and %d: %v", len(page.Lines), page.Next, err)
	}
	if got := pages(t, s, audit.Query{Scope: audit.Whole(), Limit: 10}); len(got) != 6 {
		t.Errorf("want 6 lines, got %v", got)
	}
}
