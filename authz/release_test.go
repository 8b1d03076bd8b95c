package authz_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/policy"
)

const twoLimits = daily + ", {id: calls, count: true, max: 1, window: 1h, per: [agent]}"

// release is the owner's word, which must count.
func (r *room) release(t *testing.T, decision string, limits ...string) []authz.ReleasedCharge {
	t.Helper()
	list, err := r.Release(t.Context(), "cli:ann", decision, limits, "it never arrived")
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func (r *room) wantReleaseErr(t *testing.T, what, decision string, limits []string, want ...string) error {
	t.Helper()
	before := len(r.entries(t))
	_, err := r.Release(t.Context(), "cli:ann", decision, limits, "it never arrived")
	for _, text := range want {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v; want %q", what, err, text)
		}
	}
	if len(r.entries(t)) != before {
		t.Errorf("%s: it is in the log", what)
	}
	return err
}

// What an owner releases is given back, whatever the outcome was, and it is in the log.
func TestRelease(t *testing.T) {
	for name, outcome := range map[string]*authz.Outcome{
		"runs": nil, "ok": {Status: "ok"}, "error": {Status: "tool_error"}, "nobody knows": {Status: "unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRoom(t, withLimits(fmt.Sprintf(twoLimits, "")))
			ans := r.buys(t, 100)
			if outcome != nil {
				r.finish(t, ans, *outcome)
			}
			wantCode(t, r.buys(t, 100), authz.LimitExceeded)
			list := r.release(t, ans.DecisionID)
			if len(list) != 2 || list[0].Kept || list[1].Kept || list[0].Held != (outcome == nil) {
				t.Errorf("%+v", list)
			}
			entries := r.entries(t)
			want := audit.Entry{
				TS: "2026-11-22T12:00:00.000Z", Event: "limit.released", ActorType: "owner", ActorID: "cli:ann", ActionID: &ans.ActionID,
				DecisionID: ans.DecisionID, OwnerID: r.Owner().ID, AgentID: "bot", Reason: "it never arrived",
				Limits: []audit.Limit{{ID: "p/daily", Key: "[]", Amount: 100, Max: 100, Released: true}, {ID: "p/calls", Key: `["bot"]`, Amount: 1, Max: 1, Released: true}},
			}
			if diff := cmp.Diff(want, entries[len(entries)-1]); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			wantCode(t, r.buys(t, 100), authz.Allowed)
			wantCode(t, r.buys(t, 1), authz.LimitExceeded)
			err := r.wantReleaseErr(t, "twice", ans.DecisionID, nil, "by cli:ann at 2026-11-22T12:00:00.000Z", "nothing is left")
			if !errors.Is(err, authz.ErrReleased) {
				t.Errorf("%v", err)
			}
		})
	}
}

// One limit of two is given back, then the other.
func TestReleaseOfOneLimit(t *testing.T) {
	r := newRoom(t, withLimits(fmt.Sprintf(twoLimits, "")))
	ans := r.buys(t, 100)
	if list := r.release(t, ans.DecisionID, "p/calls"); len(list) != 1 || list[0].Limit != "p/calls" {
		t.Errorf("%+v", list)
	}
	wantCode(t, r.buys(t, 1), authz.LimitExceeded)
	wantCode(t, r.buys(t, 0), authz.Allowed)
	if err := r.wantReleaseErr(t, "the same", ans.DecisionID, []string{"p/calls"}); !errors.Is(err, authz.ErrReleased) {
		t.Errorf("%v", err)
	}
	r.wantReleaseErr(t, "another", ans.DecisionID, []string{"p/daily", "p/weekly"}, `"p/weekly"`, "p/daily, p/calls")
	if list := r.release(t, ans.DecisionID); len(list) != 1 || list[0].Limit != "p/daily" {
		t.Errorf("%+v", list)
	}
	r.now = r.now.Add(time.Hour)
	wantCode(t, r.buys(t, 100), authz.Allowed)
}

func TestReleaseOfNothing(t *testing.T) {
	r := newRoom(t, withLimits(fmt.Sprintf(daily, "")))
	unsent := r.buys(t, 1)
	r.finish(t, unsent, authz.Outcome{Status: "cancelled", Unsent: true})
	for what, decision := range map[string]string{
		"no decision": "00000000-0000-0000-0000-000000000000", "empty": "",
		"one that was refused": r.buys(t, 101).DecisionID, "one that was given back": unsent.DecisionID,
	} {
		if err := r.wantReleaseErr(t, what, decision, nil, "no such decision"); !errors.Is(err, authz.ErrNotCharged) {
			t.Errorf("%s: %v", what, err)
		}
	}
	ans := r.buys(t, 1)
	for _, reason := range []string{"", " \n"} {
		if _, err := r.Release(t.Context(), "cli:ann", ans.DecisionID, nil, reason); err == nil || !strings.Contains(err.Error(), "reason") {
			t.Errorf("%q: %v", reason, err)
		}
	}
	r.release(t, ans.DecisionID)
}

// The same action asked for twice is charged once; it is given back when the owner has
// released both decisions, and then it is charged anew.
func TestReleaseOfOneActionTwice(t *testing.T) {
	r := newRoom(t, "version: 1\ndefault: allow\nrules: []\nlimits: ["+fmt.Sprintf(daily, "")+"]\n")
	buy := func() authz.Answer {
		t.Helper()
		n := action.ObjectValue(action.Member{Key: "arguments", Value: action.ObjectValue(action.Member{Key: "n", Value: action.IntValue(60)})})
		req := action.Request{ActionID: "8e3bdb7c-3a53-4b8e-9d0b-0123456789ab", ActionType: "purchase", RequestedAt: "2026-11-22T12:00:00Z", Payload: n}
		ans, err := r.Authorize(t.Context(), r.who, req, nil)
		if err != nil {
			t.Fatal(err)
		}
		wantCode(t, ans, authz.Allowed)
		return ans
	}
	first, second := buy(), buy()
	if list := r.release(t, first.DecisionID); len(list) != 1 || !list[0].Kept {
		t.Errorf("%+v", list)
	}
	entries := r.entries(t)
	if e := entries[len(entries)-1]; e.Limits != nil || e.Detail != "p/daily stays charged: other decisions on the same action stand on it" {
		t.Errorf("%+v", e)
	}
	wantCode(t, r.buys(t, 60), authz.LimitExceeded)
	if err := r.wantReleaseErr(t, "the first again", first.DecisionID, nil); !errors.Is(err, authz.ErrReleased) {
		t.Errorf("%v", err)
	}
	if list := r.release(t, second.DecisionID); len(list) != 1 || list[0].Kept {
		t.Errorf("%+v", list)
	}
	wantCode(t, r.buys(t, 40), authz.Allowed)
	buy()
	wantCode(t, r.buys(t, 1), authz.LimitExceeded)
}

// An outcome that comes after the release gives nothing back once more.
func TestReleaseBeforeTheOutcome(t *testing.T) {
	r := newRoom(t, withLimits(fmt.Sprintf(daily, "")))
	ans, other := r.buys(t, 50), r.buys(t, 50)
	r.release(t, ans.DecisionID)
	r.finish(t, ans, authz.Outcome{Status: "cancelled", Unsent: true})
	wantCode(t, r.buys(t, 51), authz.LimitExceeded)
	wantCode(t, r.buys(t, 50), authz.Allowed)
	r.release(t, other.DecisionID)
	wantCode(t, r.buys(t, 50), authz.Allowed)
}

// RoomFor says of a decision what its commit would, in the order of its charges.
func TestRoomFor(t *testing.T) {
	r := newRoom(t, withLimits("{id: other, sum: $.payload.arguments.m, max: 5, window: 1h}, "+fmt.Sprintf(daily, "")+", {id: month, sum: $.payload.arguments.n, max: 500, window: month, timezone: UTC}"))
	r.finish(t, r.call(t, "buy", `{"n":60,"m":0}`), authz.Outcome{Status: "ok"})
	r.call(t, "buy", `{"n":10,"m":1}`)
	charges := func(arguments string) []policy.Charge {
		payload := action.ObjectValue(action.Member{Key: "arguments", Value: must(action.Parse([]byte(arguments), action.Limits{}))(t)})
		req := action.Request{ActionType: "mcp.s.buy", AgentID: "bot", Payload: payload}
		return r.keeper.Current().For("bot").Decide(&req, policy.Env{Now: r.now}).Charges
	}
	state := func(limit string, used, held, retry int64) policy.LimitState {
		s := policy.LimitState{Limit: limit, Used: used, Held: held, Retry: retry}
		if limit != "p/other" {
			s.Key = "[]"
		}
		return s
	}
	got, err := authz.RoomFor(t.Context(), r.store, r.now, charges(`{"n":31,"m":"?"}`))
	if err != nil {
		t.Fatal(err)
	}
	tomorrow := r.now.Add(24 * time.Hour).UnixMilli()
	want := []authz.Room{{LimitState: state("p/other", 0, 0, 0)}, {LimitState: state("p/daily", 60, 10, tomorrow)}, {LimitState: state("p/month", 60, 10, 0), Fits: true}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	before := len(r.entries(t))
	if got, err := authz.RoomFor(t.Context(), r.store, r.now, charges(`{"n":30,"m":4}`)); err != nil || !got[0].Fits || !got[1].Fits || !got[2].Fits || len(r.entries(t)) != before {
		t.Errorf("%+v, %v", got, err)
	}
	wantCode(t, r.call(t, "buy", `{"n":30,"m":4}`), authz.Allowed)
	if got, err := authz.RoomFor(t.Context(), r.store, r.now, nil); err != nil || len(got) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

// Limits are listed in the order of the policies, then those that are in none.
func TestLookAtLimits(t *testing.T) {
	r := newRoom(t, withLimits("{id: renamed, count: true, max: 5, window: 1h, per: [agent]}"))
	r.buys(t, 1)
	r.write(t, "p.yaml", withLimits("{id: calls, count: true, max: 2, window: 1h, per: [agent]}, "+fmt.Sprintf(daily, "")))
	r.reload(t)
	r.buys(t, 40)
	look := func(keys int) []authz.LimitView {
		t.Helper()
		list, err := authz.LookAtLimits(t.Context(), r.store, r.keeper.Current(), r.now, keys)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	var got []string
	for _, v := range look(9) {
		line := fmt.Sprint(v.ID, " ", v.Limit != nil, " ", v.More)
		for _, k := range v.Keys {
			line += fmt.Sprintf(" [%s: %s used, %s held, next %d]", v.Whose(k.Key), v.Text(k.Used), v.Text(k.Held), k.Next-r.now.UnixMilli())
			if v.Limit != nil {
				line += fmt.Sprint(" left ", v.Left(k))
			}
		}
		got = append(got, line)
	}
	want := []string{
		"p/calls true  [agent bot: 0 used, 1 held, next 3600000] left 1",
		"p/daily true  [: 0 used, 40 held, next 86400000] left 60",
		"p/renamed false  [bot: 0 used, 1 held, next " + fmt.Sprint(-r.now.UnixMilli()) + "]",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	other, err := r.store.EnsureAgent(t.Context(), "other", r.Owner())
	if err != nil {
		t.Fatal(err)
	}
	r.who.Agent = other
	r.buys(t, 1)
	if list := look(1); len(list[0].Keys) != 1 || list[0].More != `["bot"]` || list[1].More != "" {
		t.Errorf("%+v", list)
	}
	book := r.keeper.Current()
	if v, err := authz.LookAtLimit(t.Context(), r.store, book, r.now, authz.Look{Limit: "p/calls", After: `["bot"]`, Keys: 1}); err != nil || len(v.Keys) != 1 || v.Keys[0].Key != `["other"]` || v.More != "" {
		t.Errorf("%+v, %v", v, err)
	}
	if v, err := authz.LookAtLimit(t.Context(), r.store, book, r.now, authz.Look{Limit: "p/calls", Key: `["nobody"]`, Keys: 1}); err != nil || len(v.Keys) != 1 || v.Left(v.Keys[0]) != 2 {
		t.Errorf("%+v, %v", v, err)
	}
	if v, err := authz.LookAtLimit(t.Context(), r.store, nil, r.now, authz.Look{Limit: "p/daily", Keys: 1}); err != nil || v.Limit != nil {
		t.Errorf("without a book: %+v, %v", v, err)
	}
	if v, err := authz.LookAtLimit(t.Context(), r.store, book, r.now, authz.Look{Limit: "p/nothing", Keys: 1}); !errors.Is(err, authz.ErrNoLimit) {
		t.Errorf("%+v, %v", v, err)
	}
}
