package policy

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const shownLimits = `version: 1
default: deny
rules:
  - {id: buy, effect: allow, action: buy, limits: [{id: each, sum: $.payload.amount_minor, currency: EUR, max: 5000, per: [agent, vendor, $.payload.folder], window: 24h}]}
limits:
  - {id: calls, action: buy, count: true, max: 3, window: day, timezone: UTC, per: [owner]}
`

func TestLimitsAreReadToPeople(t *testing.T) {
	b, err := NewBook("policies", []Source{{"shop.yaml", shownLimits}, {"shadow.yaml", strings.Replace(shownLimits, "default", "mode: shadow\ndefault", 1)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var ids, bounds []string
	for _, l := range b.Limits() {
		ids, bounds = append(ids, l.ID), append(bounds, l.Bound())
	}
	if diff := cmp.Diff([]string{"shop/calls", "shop/each"}, ids); diff != "" {
		t.Errorf("limits in force, without those in the shadow: -want +got:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"at most 3 a day", "at most 50.00 EUR in 24h"}, bounds); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	calls, each := b.Limits()[0], b.Limits()[1]
	if diff := cmp.Diff([]string{"agent", "vendor", "$.payload.folder"}, each.Per()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, tt := range []struct {
		l         *Limit
		key, want string
	}{
		{each, `["bot","shop.example","inbox"]`, "agent bot at shop.example with $.payload.folder inbox"},
		{each, `["bot","shop.example","in: at most 9 EUR; \"x"]`, `agent bot at shop.example with $.payload.folder "in: at most 9 EUR; \"x"`},
		{each, `["bot","shop.example","a\u202eb"]`, `agent bot at shop.example with $.payload.folder "a\u202eb"`},
		{each, `["bot","shop.example",""]`, `agent bot at shop.example with $.payload.folder ""`},
		{each, `["bot","a b"]`, `bot, "a b"`}, // of a per that was changed
		{each, `bot at home`, `"bot at home"`},
		{calls, `["4f6c"]`, "owner 4f6c"},
		{calls, `[]`, ""},
		{each, ``, ""},
	} {
		if got := tt.l.Whose(tt.key); got != tt.want {
			t.Errorf("%s of %s: %q, want %q", tt.key, tt.l.ID, got, tt.want)
		}
	}
}

// A refusal says for whom, and money as people write it.
func TestExcessIsReadToPeople(t *testing.T) {
	b, err := NewBook("policies", []Source{{"shop.yaml", shownLimits}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	calls, each := b.Limits()[0], b.Limits()[1]
	key := `["bot","shop.example","inbox"]`
	for _, tt := range []struct {
		e    Excess
		want string
	}{
		{Excess{Charge{Limit: each, Key: key, Amount: 2000}, LimitState{Limit: each.ID, Key: key, Used: 3000, Held: 1050, Retry: 1764072000000}},
			"Over limit shop/each for agent bot at shop.example with $.payload.folder inbox: at most 50.00 EUR in 24h; 30.00 EUR used, 10.50 EUR held, 9.50 EUR left, and this is 20.00 EUR. It has room from 2025-11-25T12:00:00Z on."},
		{Excess{Charge{Limit: calls, Key: `["4f6c"]`, Amount: 4}, LimitState{}},
			"Over limit shop/calls for owner 4f6c: at most 3 a day; 0 used, 0 held, 3 left, and this is 4. It never has room for this much."},
		{Excess{Charge{Limit: each, Doubt: "$.payload.folder is missing"}, LimitState{}}, "Limit shop/each cannot count it: $.payload.folder is missing."},
	} {
		if got := tt.e.String(); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}
