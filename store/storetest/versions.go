package storetest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
)

// worded is request id with another text in its action, and the intent of that.
func worded(id, agent string, intent byte, text string) approvals.Request {
	r := request(id, agent, intent)
	r.DecisionID = "decision of " + text
	r.Action.Payload = action.ObjectValue(action.Member{Key: "arguments", Value: action.ObjectValue(action.Member{Key: "text", Value: action.StringValue(text)})})
	r.ActionHash = r.Action.Hash()
	return r
}

// fold makes next the next version of what a store has under its id.
func fold(t *testing.T, s Store, next approvals.Request, at time.Time) authz.Batch {
	t.Helper()
	was, err := s.Approval(t.Context(), next.ID)
	if err != nil {
		t.Fatal(err)
	}
	next.LastAsked = at
	return authz.Batch{Fold: &authz.Fold{Request: was.Replaced(next), Was: was.ActionHash, Now: at}}
}

func join(id string, at time.Time) authz.Batch {
	r := request(id, "bot", 1)
	return authz.Batch{Join: &authz.Join{RequestID: id, AgentID: r.AgentID, ActionHash: r.ActionHash, Now: at}}
}

func hold(id, who string, until time.Time) authz.Batch {
	return authz.Batch{Hold: &authz.Hold{RequestID: id, DecisionID: who, Now: start, Until: until}}
}

// A version takes the request's place: its id and its time stay, what it was is kept.
func testFold(t *testing.T, open Open) {
	s := live(t, open, "pending")
	first, _ := s.Approval(t.Context(), "old")
	next := worded("old", "bot", 2, "second")
	next.CreatedAt, next.ExpiresAt = start.Add(time.Minute), start.Add(48*time.Hour)
	next.NearTo, next.RuleID, next.Reason = "denied", "other", "another reason"
	next.Overshoots = []approvals.Overshoot{{Limit: "p/daily", Max: 1, Amount: 2}}
	next.ToolInfo = action.ObjectValue(action.Member{Key: "reads", Value: action.BoolValue(true)})
	commit(t, s, fold(t, s, next, start.Add(time.Minute)))

	want := next
	want.CreatedAt, want.ExpiresAt, want.Version, want.Asked, want.LastAsked = first.CreatedAt, first.ExpiresAt, 2, 2, start.Add(time.Minute)
	got, err := s.Approval(t.Context(), "old")
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, "the request", want, got)
	versions, err := s.Versions(t.Context(), "old")
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, "its versions", []approvals.Version{{Version: 1, DecisionID: first.DecisionID, Action: first.Action, ActionHash: first.ActionHash}}, versions)
	wantOpen(t, s, "bot", action.Hash{1}, time.Minute, "")
	wantOpen(t, s, "bot", action.Hash{2}, time.Minute, "old")
	waiting, err := s.Waiting(t.Context(), ownerID, start)
	wantErr(t, "what waits", err, nil)
	wantSame(t, "what waits", []approvals.Waiting{{ID: "old", Version: 2}}, waiting)
	// An answer to what was shown before does not count, in the same commit as all else.
	for _, late := range []*approvals.Answer{approve("old", start.Add(time.Minute)), deny("old", start.Add(time.Minute))} {
		wantErr(t, "answering the first version", s.Commit(t.Context(), answer(late)), approvals.ErrReplaced)
		late.ActionHash = action.Hash{}
		wantErr(t, "answering no version", s.Commit(t.Context(), answer(late)), approvals.ErrReplaced)
	}
	wantStatus(t, s, "old", approvals.Pending)
	commit(t, s, answer(approveShown(next, start.Add(2*time.Minute))))
	wantErr(t, "redeeming the first version", s.Commit(t.Context(), spend(redeem("old", start.Add(2*time.Minute)))), approvals.ErrNotFound)
	spent := redeem("old", start.Add(2*time.Minute))
	spent.ActionHash = next.ActionHash.String()
	commit(t, s, spend(spent))
}

func testFoldCondition(t *testing.T, open Open) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		name, life, agent string
		before            []authz.Batch
		at                time.Duration
		change            func(*authz.Fold)
		want              error
	}{
		{"waits", "pending", "bot", nil, time.Hour - ms, nil, nil},
		{"is over", "pending", "bot", nil, time.Hour, nil, approvals.ErrExpired},
		{"of another agent", "pending", "Bot", nil, 0, nil, approvals.ErrNotFound},
		{"is approved", "approved", "bot", nil, 2 * time.Minute, nil, approvals.ErrAnswered},
		{"is denied", "denied", "bot", nil, 2 * time.Minute, nil, approvals.ErrAnswered},
		{"is used", "redeemed", "bot", nil, 3 * time.Minute, nil, approvals.ErrAnswered},
		{"is none", "pending", "bot", nil, 0, func(f *authz.Fold) { f.Request.ID = "none" }, approvals.ErrNotFound},
		{"shows another", "pending", "bot", nil, 0, func(f *authz.Fold) { f.Was[0]++ }, approvals.ErrReplaced},
		{"is held", "pending", "bot", []authz.Batch{hold("old", "d", start.Add(time.Minute))}, time.Minute - ms, nil, approvals.ErrHeld},
		{"was held", "pending", "bot", []authz.Batch{hold("old", "d", start.Add(time.Minute))}, time.Minute, nil, nil},
		{"was left", "pending", "bot", []authz.Batch{hold("old", "d", start.Add(time.Minute)), {Leave: &authz.Hold{RequestID: "old", DecisionID: "d"}}}, 0, nil, nil},
		{"was left by one of two", "pending", "bot", []authz.Batch{hold("old", "d", start.Add(time.Minute)), hold("old", "e", start.Add(time.Minute)), {Leave: &authz.Hold{RequestID: "old", DecisionID: "d"}}}, 0, nil, approvals.ErrHeld},
		{"one of two is dead", "pending", "bot", []authz.Batch{hold("old", "d", start.Add(time.Minute)), hold("old", "e", start.Add(2*time.Minute))}, time.Minute, nil, approvals.ErrHeld},
		{"another one is held", "pending", "bot", []authz.Batch{hold("other", "d", start.Add(time.Minute))}, 0, nil, nil},
		{"the new intent is open", "pending", "bot", []authz.Batch{ask(request("other", "bot", 2))}, 0, nil, authz.ErrOpen},
		{"the new intent was open", "pending", "bot", []authz.Batch{ask(request("other", "bot", 2)), answer(deny("other", start))}, 0, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := live(t, open, tt.life)
			commit(t, s, tt.before...)
			before, _ := s.Approval(t.Context(), "old")
			b := fold(t, s, worded("old", tt.agent, 2, "second"), start.Add(tt.at))
			b.Entries = note("folded").Entries
			if tt.change != nil {
				tt.change(b.Fold)
			}
			wantErr(t, "folding", s.Commit(t.Context(), b), tt.want)
			versions, err := s.Versions(t.Context(), "old")
			if err != nil || len(versions) == 1 != (tt.want == nil) {
				t.Errorf("%d versions, %v", len(versions), err)
			}
			if tt.want != nil {
				after, _ := s.Approval(t.Context(), "old")
				wantSame(t, "the request", before, after)
				wantEntries(t, s)
			}
		})
	}
}

// Of many that fold at once, between processes, one does, and who waits is not replaced.
func testFoldRace(t *testing.T, open Open) {
	place := t.TempDir()
	a, b := open(t, place), open(t, place)
	commit(t, a, ask(request("old", "bot", 1)))
	batch := fold(t, a, worded("old", "bot", 2, "text"), start)
	oneWinner(t, race(a, b, func(i int, s Store) error {
		next := batch.Fold.Request
		w := worded("old", "bot", byte(10+i), fmt.Sprint("text ", i))
		next.Action, next.ActionHash, next.IntentHash = w.Action, w.ActionHash, w.IntentHash
		return s.Commit(t.Context(), authz.Batch{Fold: &authz.Fold{Request: next, Was: batch.Fold.Was, Now: start},
			Hold: &authz.Hold{RequestID: "old", DecisionID: fmt.Sprint(i), Now: start, Until: start.Add(time.Minute)}})
	}), approvals.ErrReplaced)
	if r, err := b.Approval(t.Context(), "old"); err != nil || r.Version != 2 || r.Asked != 2 || !r.HeldUntil.Equal(start.Add(time.Minute)) {
		t.Errorf("%+v, %v", r, err)
	}
}

// However often it is worded anew: the first and the newest are kept, within bounds.
func testVersionsAreBounded(t *testing.T, open Open) {
	for _, size := range []int{10, approvals.MaxCompared} {
		s := live(t, open, "pending")
		const times = approvals.KeepVersions + 10
		for i := range times {
			commit(t, s, fold(t, s, worded("old", "bot", byte(i+2), strings.Repeat(string(rune('a'+i)), size)), start.Add(time.Duration(i)*time.Second)))
		}
		versions, err := s.Versions(t.Context(), "old")
		if err != nil {
			t.Fatal(err)
		}
		bytes := 0
		for i, v := range versions {
			if i > 1 && v.Version != versions[i-1].Version+1 {
				t.Errorf("versions %d and %d", versions[i-1].Version, v.Version)
			}
			if i > 0 {
				bytes += len(v.Action.Canonical())
			}
		}
		if len(versions) < 3 || len(versions) > approvals.KeepVersions+1 || versions[0].Version != 1 || versions[len(versions)-1].Version != times {
			t.Errorf("of size %d: %d versions, from %d to %d", size, len(versions), versions[0].Version, versions[len(versions)-1].Version)
		}
		if bytes > approvals.KeepVersionBytes || size == 10 && len(versions) != approvals.KeepVersions+1 {
			t.Errorf("of size %d: %d versions, %d bytes", size, len(versions), bytes)
		}
		if r, err := s.Approval(t.Context(), "old"); err != nil || r.Version != times+1 {
			t.Errorf("%d, %v", r.Version, err)
		}
	}
}

func testJoin(t *testing.T, open Open) {
	for _, tt := range []struct {
		name, life string
		at         time.Duration
		change     func(*authz.Join)
		want       error
	}{
		{"waits", "pending", time.Minute, nil, nil},
		{"is over", "pending", time.Hour, nil, approvals.ErrExpired},
		{"is approved", "approved", 2 * time.Minute, nil, approvals.ErrAnswered},
		{"is denied", "denied", 2 * time.Minute, nil, approvals.ErrAnswered},
		{"of another agent", "pending", 0, func(j *authz.Join) { j.AgentID = "Bot" }, approvals.ErrNotFound},
		{"shows another", "pending", 0, func(j *authz.Join) { j.ActionHash[0]++ }, approvals.ErrReplaced},
		{"is none", "pending", 0, func(j *authz.Join) { j.RequestID = "none" }, approvals.ErrNotFound},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := live(t, open, tt.life)
			b := join("old", start.Add(tt.at))
			b.Entries = note("joined").Entries
			if tt.change != nil {
				tt.change(b.Join)
			}
			wantErr(t, "joining", s.Commit(t.Context(), b), tt.want)
			r, err := s.Approval(t.Context(), "old")
			if err != nil {
				t.Fatal(err)
			}
			if tt.want != nil {
				wantEntries(t, s)
				if r.Asked != 1 {
					t.Errorf("it is counted: %d", r.Asked)
				}
			} else if wantEntries(t, s, "joined"); r.Asked != 2 || !r.LastAsked.Equal(start.Add(tt.at)) {
				t.Errorf("asked %d times, last %s", r.Asked, r.LastAsked)
			}
		})
	}
	place := t.TempDir()
	a, b := open(t, place), open(t, place)
	commit(t, a, ask(request("old", "bot", 1)))
	for _, err := range race(a, b, func(i int, s Store) error { return s.Commit(t.Context(), join("old", start)) }) {
		wantErr(t, "joining at once", err, nil)
	}
	if r, err := b.Approval(t.Context(), "old"); err != nil || r.Asked != 33 {
		t.Errorf("32 have joined at once: asked %d times, %v", r.Asked, err)
	}
}

// Who waits is told, whichever of several dies, and nobody waits for what was answered.
func testHolds(t *testing.T, open Open) {
	s := live(t, open, "pending")
	held := func(want time.Time) {
		t.Helper()
		if r, err := s.Approval(t.Context(), "old"); err != nil || !r.HeldUntil.Equal(want) {
			t.Errorf("held until %s, want %s, %v", r.HeldUntil, want, err)
		}
	}
	held(time.Time{})
	commit(t, s, hold("old", "d", start.Add(time.Minute)), hold("old", "e", start.Add(2*time.Minute)), hold("other", "f", start.Add(time.Hour)))
	held(start.Add(2 * time.Minute))
	commit(t, s, authz.Batch{Leave: &authz.Hold{RequestID: "old", DecisionID: "e"}})
	held(start.Add(time.Minute))
	commit(t, s, hold("old", "d", start.Add(3*time.Minute)))
	held(start.Add(3 * time.Minute))
	later := hold("old", "g", start.Add(5*time.Minute))
	later.Hold.Now = start.Add(3 * time.Minute) // forgets those that are over
	commit(t, s, later, authz.Batch{Leave: &authz.Hold{RequestID: "old", DecisionID: "g"}})
	held(time.Time{})
	commit(t, s, hold("old", "d", start.Add(time.Minute)), answer(deny("old", start)))
	held(time.Time{})
}

// What an agent keeps open is counted in the commit that opens, its own alone.
func testQuota(t *testing.T, open Open) {
	size := int64(len(request("r", "bot", 1).Action.Canonical()) + len(`{"reads":false}`))
	within := func(r approvals.Request, requests int, bytes int64) authz.Batch {
		return authz.Batch{Open: &r, Quota: &authz.Quota{Requests: requests, Bytes: bytes}}
	}
	s := live(t, open, "pending")
	commit(t, s, ask(request("hers", "Bot", 3)))
	for _, b := range []authz.Batch{within(request("new", "bot", 2), 1, 1<<30), within(request("new", "bot", 2), 9, 2*size-1)} {
		err := s.Commit(t.Context(), b)
		if full := (*authz.QuotaError)(nil); !errors.As(err, &full) || full.Requests != 1 || full.Bytes != size {
			t.Errorf("one too many: %v", err)
		}
	}
	commit(t, s, within(request("new", "bot", 2), 2, 2*size))
	// The same intent again is one that is open, not one too many.
	wantErr(t, "again", s.Commit(t.Context(), within(request("again", "bot", 2), 2, 2*size)), authz.ErrOpen)
	// An answer makes room, and so does time.
	commit(t, s, answer(deny("new", start)), within(request("third", "bot", 4), 2, 2*size))
	late := request("late", "bot", 5)
	late.CreatedAt, late.ExpiresAt = start.Add(time.Hour), start.Add(2*time.Hour)
	commit(t, s, within(late, 1, size))

	place := t.TempDir()
	a, b := open(t, place), open(t, place)
	var opened int
	for _, err := range race(a, b, func(i int, s Store) error {
		return s.Commit(t.Context(), within(request(fmt.Sprint("r", i), "bot", byte(i)), 5, 1<<30))
	}) {
		if full := (*authz.QuotaError)(nil); err == nil {
			opened++
		} else if !errors.As(err, &full) || full.Requests != 5 {
			t.Error(err)
		}
	}
	if opened != 5 {
		t.Errorf("of 32 at once %d were opened, with room for 5", opened)
	}
}

func testKin(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	other, moved, outside, large := request("other", "Bot", 2), request("moved", "bot", 3), request("outside", "bot", 4), worded("large", "bot", 5, strings.Repeat("a", approvals.MaxCompared))
	moved.Action.ActionType = "purchase"
	moved.ActionHash = moved.Action.Hash()
	outside.Server, outside.Tool = "", ""
	commit(t, s, ask(request("old", "bot", 1)), ask(other), ask(moved), ask(outside), ask(large), ask(request("new", "bot", 6)), ask(request("no", "bot", 7)), answer(deny("no", start)))
	mine := request("old", "bot", 1).Kind()
	for _, tt := range []struct {
		kind   approvals.Kind
		status approvals.Status
		limit  int
		want   []string
	}{
		{mine, approvals.Pending, 9, []string{"new", "old"}},
		{mine, approvals.Pending, 1, []string{"new"}},
		{mine, approvals.Denied, 9, []string{"no"}},
		{mine, approvals.Approved, 9, nil},
		{other.Kind(), approvals.Pending, 9, []string{"other"}},
		{moved.Kind(), approvals.Pending, 9, []string{"moved"}},
		{outside.Kind(), approvals.Pending, 9, []string{"outside"}},
		{approvals.Kind{AgentID: "bot", Server: "shop", Tool: "Buy", ActionType: "mcp.shop.buy"}, approvals.Pending, 9, nil},
	} {
		list, err := s.Kin(t.Context(), tt.kind, tt.status, tt.limit)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range list {
			got = append(got, r.ID)
		}
		wantSame(t, fmt.Sprintf("%v %s", tt.kind, tt.status), tt.want, got)
	}
}

func testTally(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	for i, id := range []string{"a", "b", "c", "again", "no", "open", "hers", "old"} {
		agent, intent, at := "bot", byte(i), start.Add(time.Duration(i)*time.Minute)
		switch id {
		case "again":
			intent = 0 // as a
		case "hers":
			agent = "Bot"
		case "old":
			at = start.Add(-time.Minute)
		}
		r := request(id, agent, intent)
		r.CreatedAt, r.ExpiresAt = at, at.Add(time.Hour)
		commit(t, s, ask(r))
		switch id {
		case "no":
			commit(t, s, answer(deny(id, at)))
		case "open":
		default:
			commit(t, s, answer(approveShown(r, at)))
		}
		if id == "a" {
			commit(t, s, spend(redeem("a", at)))
		}
	}
	for _, tt := range []struct {
		id    string
		since time.Time
		want  approvals.Tally
	}{
		{"a", start, approvals.Tally{Call: 2, Kind: 4}},
		{"again", start.Add(time.Millisecond), approvals.Tally{Call: 1, Kind: 3}},
		{"open", start, approvals.Tally{Kind: 4}},
		{"no", start, approvals.Tally{Kind: 4}},
		{"open", start.Add(-time.Hour), approvals.Tally{Kind: 5}},
		{"hers", start, approvals.Tally{Call: 1, Kind: 1}},
	} {
		r, err := s.Approval(t.Context(), tt.id)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.Tally(t.Context(), r, tt.since); err != nil || got != tt.want {
			t.Errorf("like %s since %s: want %+v, got %+v, %v", tt.id, tt.since, tt.want, got, err)
		}
	}
}
