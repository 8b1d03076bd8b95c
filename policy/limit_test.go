package policy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/openleash/openleash-go/action"
)

// limitIn is the only limit of a policy.
func limitIn(t testing.TB, text string) *Limit {
	t.Helper()
	p, err := Parse("p", "p.yaml", []byte("version: 1\ndefault: allow\nrules: []\nlimits: [{id: a, count: true, max: 1, "+text+"}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	return p.limits[0]
}

// TestSpan: a trailing window has its last millisecond, and the calendar's begin
// where days do, also where clocks are set at midnight.
func TestSpan(t *testing.T) {
	for _, tt := range []struct{ window, now, from, to string }{
		{"30m", "2026-11-25T12:00:00.0005Z", "2026-11-25T11:30:00.001Z", ""},
		{"744h", "2026-03-01T00:00:00Z", "2026-01-29T00:00:00.001Z", ""},
		{"day, timezone: UTC", "2026-11-25T00:00:00Z", "2026-11-25T00:00:00Z", "2026-11-26T00:00:00Z"},
		{"day, timezone: UTC", "2026-11-25T23:59:59.999Z", "2026-11-25T00:00:00Z", "2026-11-26T00:00:00Z"},
		{"day, timezone: Asia/Tokyo", "2026-11-25T15:00:00Z", "2026-11-25T15:00:00Z", "2026-11-26T15:00:00Z"},
		{"week, timezone: UTC", "2026-11-29T23:59:59Z", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"}, // a Sunday
		{"week, timezone: UTC", "2026-11-30T00:00:00Z", "2026-11-30T00:00:00Z", "2026-12-07T00:00:00Z"}, // a Monday
		{"month, timezone: UTC", "2026-12-31T23:59:59Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"},
		{"month, timezone: Europe/Berlin", "2026-03-31T21:59:59Z", "2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z"},
		{"day, timezone: Europe/Berlin", "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"}, // 25 hours
		// Midnight is not there: the day begins at 01:00.
		{"day, timezone: America/Sao_Paulo", "2018-11-04T12:00:00Z", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"},
		{"day, timezone: America/Sao_Paulo", "2018-11-04T02:30:00Z", "2018-11-03T03:00:00Z", "2018-11-04T03:00:00Z"},
		// It is there twice: the day begins with the first.
		{"day, timezone: America/Havana", "2026-11-01T04:30:00Z", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z"},
		{"day, timezone: America/Havana", "2026-11-01T12:00:00Z", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z"},
		// The hour before it is there twice.
		{"day, timezone: America/Sao_Paulo", "2018-02-18T02:30:00Z", "2018-02-17T02:00:00Z", "2018-02-18T03:00:00Z"},
	} {
		from, to := limitIn(t, "window: "+tt.window).Span(timeAt(t, tt.now))
		if !from.Equal(timeAt(t, tt.from)) || !to.Equal(timeAt(t, tt.to)) {
			t.Errorf("%s at %s: got %s to %s, want %s to %s", tt.window, tt.now, from.UTC(), to.UTC(), tt.from, tt.to)
		}
	}
}

func timeAt(t *testing.T, text string) (at time.Time) {
	t.Helper()
	if text != "" {
		var err error
		if at, err = time.Parse(time.RFC3339, text); err != nil {
			t.Fatal(err)
		}
	}
	return at
}

// TestSpansPartTime: of each place's years, every moment is in exactly one window.
func TestSpansPartTime(t *testing.T) {
	for _, zone := range []string{"UTC", "Europe/Berlin", "America/Sao_Paulo", "America/Havana", "Africa/Cairo", "Asia/Beirut", "Pacific/Apia", "Australia/Lord_Howe"} {
		for _, unit := range periods {
			l := limitIn(t, "window: "+unit+", timezone: "+zone)
			from, to := l.Span(time.Date(2009, 12, 31, 12, 0, 0, 0, time.UTC))
			for to.Year() < 2027 {
				for _, at := range []time.Time{from, to.Add(-time.Millisecond), from.Add(to.Sub(from) / 2)} {
					if f, e := l.Span(at); !f.Equal(from) || !e.Equal(to) {
						t.Fatalf("%s in %s: %s is in %s to %s, not in %s to %s", unit, zone, at, f, e, from, to)
					}
				}
				f, e := l.Span(to)
				if !f.Equal(to) || !e.After(to) {
					t.Fatalf("%s in %s: after %s to %s comes %s to %s", unit, zone, from, to, f, e)
				}
				from, to = f, e
			}
		}
	}
}

// TestKeys: what is merely written otherwise is one key; what is no key says so.
func TestKeys(t *testing.T) {
	key := func(per, payload string) string {
		l := limitIn(t, "window: 1h, per: ["+per+"]")
		root, err := action.Parse([]byte(`{"payload":`+payload+`}`), action.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		c := l.charge(func(p action.Path) (action.Value, bool) { return p.Lookup(root) })
		if (c.Key == "") != (c.Doubt != "") {
			t.Errorf("%s of %s: %+v", per, payload, c)
		}
		return c.Key + c.Doubt
	}
	for _, group := range []struct {
		per    string
		values []string
	}{
		{"vendor", []string{`{"merchant_domain":"shop.example"}`, `{"merchant_domain":"SHOP.Example."}`}},
		{"vendor", []string{`{"merchant_domain":"xn--bcher-kva.example"}`, `{"merchant_domain":"XN--BCHER-KVA.example."}`, `{"merchant_domain":"bücher.example"}`, `{"merchant_domain":"BÜCHER.example"}`}},
		{"$.payload.domain", []string{`{"domain":"a.example"}`, `{"domain":"A.EXAMPLE."}`}},
		{"$.payload.to", []string{`{"to":"Ann"}`, `{"to":"ANN"}`, `{"to":" ann. "}`, `{"to":"Ａnn"}`}},
		{"$.payload.to", []string{`{"to":"straße"}`, `{"to":"STRASSE"}`}},
		{"$.payload.to", []string{`{"to":5}`, `{"to":5.0}`, `{"to":"5"}`, `{"to":0.5e1}`, `{"to":"50e-1"}`}},
		{"$.payload.to", []string{`{"to":true}`, `{"to":"True"}`}},
		{"$.payload.to", []string{`{"to":-0.25}`, `{"to":-25e-2}`}},
		{"$.payload.to", []string{`{"to":"` + strings.Repeat("a", maxKey) + `"}`}},
	} {
		first := key(group.per, group.values[0])
		for _, value := range group.values {
			if got := key(group.per, value); got != first || !strings.HasPrefix(got, `["`) {
				t.Errorf("%s of %s: got %s, want %s", group.per, value, got, first)
			}
		}
	}
	for _, tt := range [][2]string{
		{"vendor", `{"merchant_domain":"straße.example"}`}, {"vendor", `{"merchant_domain":"a b"}`}, {"vendor", `{}`}, {"vendor", `{"merchant_domain":null}`},
		{"$.payload.to", `{"to":"` + strings.Repeat("a", maxKey+1) + `"}`}, {"$.payload.to", `{"to":{}}`}, {"$.payload.to", `{"to":"."}`},
		{"$.payload.to", `{"TO":"a"}`}, {"agent", `{}`},
	} {
		if got := key(tt[0], tt[1]); strings.HasPrefix(got, "[") {
			t.Errorf("%s of %s: got the key %s", tt[0], tt[1], got)
		}
	}
	if a, b := key("$.payload.a, $.payload.b", `{"a":"x","b":"y\",\"z"}`), key("$.payload.a, $.payload.b", `{"a":"x\",\"y","b":"z"}`); a == b {
		t.Errorf("two keys are one: %s", a)
	}
}

func TestLimitWarnings(t *testing.T) {
	for _, tt := range []struct{ limits, rule, want string }{
		{"{id: a, action: x, count: true, max: 1, window: 1h, per: [vendor]}", "", "it counts each vendor apart"},
		{"{id: a, action: x, count: true, max: 1, window: 1h, per: [agent, $.payload.to]}", "", "it counts each $.payload.to apart"},
		{"{id: a, action: x, count: true, max: 1, window: 1h, per: [vendor]}, {id: b, action: x.*, count: true, max: 9, window: 24h, per: [agent]}", "", ""},
		{"{id: a, action: x.*, count: true, max: 1, window: 1h, per: [vendor]}, {id: b, action: x, count: true, max: 9, window: 24h}", "", "each vendor"},
		{"{id: a, action: x, count: true, max: 1, window: 1h, per: [vendor]}, {id: b, action: x, sum: $.payload.n, max: 9, window: 24h}", "", "each vendor"},
		{"{id: b, count: true, max: 9, window: 24h}", "{id: a, count: true, max: 1, window: 1h, per: [vendor]}", ""},
		{"", "{id: a, count: true, max: 1, window: 1h, per: [vendor]}, {id: b, count: true, max: 9, window: 24h}", ""},
		{"", "{id: a, count: true, max: 1, window: 1h, per: [vendor]}", "each vendor"},
		{"{id: a, sum: $.payload.n, max: 1, window: 1h}", "", "it binds every action"},
		{"{id: a, sum: $.payload.n, max: 1, window: 1h, action: x}", "{id: b, sum: $.payload.n, max: 1, window: 1h}", ""},
	} {
		src := fmt.Sprintf("version: 1\ndefault: deny\nlimits: [%s]\nrules: [{id: r, effect: allow, action: x, limits: [%s]}]\n", tt.limits, tt.rule)
		p, err := Parse("p", "p.yaml", []byte(src))
		if err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprint(p.Warnings)
		if len(p.Warnings) > 1 || tt.want == "" && len(p.Warnings) > 0 || !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %s, want %q", src, got, tt.want)
		}
	}
}

// A limit that got another id is told of, one that got another maximum is not.
func TestRenamedLimits(t *testing.T) {
	book := func(limits string) *Book {
		b, err := NewBook("p", []Source{{"p.yaml", "version: 1\ndefault: deny\nrules: []\nlimits: [" + limits + "]\n"}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	before := book("{id: a, count: true, max: 1, window: 1h}, {id: b, count: true, max: 1, window: 2h}")
	for limits, want := range map[string]string{
		"{id: a, count: true, max: 2, window: 1h}, {id: b, count: true, max: 1, window: 2h}":                                           "",
		"{id: c, count: true, max: 2, window: 1h}, {id: b, count: true, max: 1, window: 2h}":                                           `limit "c" was "a" before`,
		"{id: a, count: true, max: 1, window: 1h}":                                                                                     "",
		"{id: a, count: true, max: 1, window: 1h}, {id: b, count: true, max: 1, window: 2h}, {id: c, count: true, max: 1, window: 1h}": "",
		"{id: c, count: true, max: 1, window: 3h}":                                                                                     "",
	} {
		got := renamedLimits(before, book(limits))
		if len(got) > 1 || (want == "") != (len(got) == 0) || !strings.Contains(fmt.Sprint(got), want) {
			t.Errorf("%s: got %v, want %q", limits, got, want)
		}
	}
	if renamedLimits(nil, before) != nil {
		t.Error("there was nothing before")
	}
}
